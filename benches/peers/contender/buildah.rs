//! buildah: `copy` and `commit` for each layer, with storage of its own.

use std::path::PathBuf;

use super::{Contender, Situation, emptied, script, size_of, steps};
use crate::Result;
use crate::corpus::{Tree, succeed};
use crate::launcher::{Sample, measure};

/// `buildah from scratch`, `copy`, `commit`; the last commit writes an OCI layout.
pub(crate) struct Buildah {
    place: PathBuf,
    driver: &'static str,
}

impl Buildah {
    /// In a directory of its own, with the storage that people use where it works.
    pub(crate) fn new(place: PathBuf) -> Result<Buildah> {
        let mut buildah = Buildah { place: emptied(place)?, driver: "overlay" };
        let mut probe = std::process::Command::new("bash");
        probe.arg("-euc").arg(format!("c=$({0} from scratch); {0} mount $c; {0} rm $c", buildah.program()));
        if succeed(&mut probe).is_err() {
            buildah.driver = "vfs";
        }
        Ok(buildah)
    }

    fn program(&self) -> String {
        let place = self.place.display();
        format!("buildah --root {place}/root --runroot {place}/run --storage-driver {}", self.driver)
    }
}

impl Contender for Buildah {
    fn name(&self) -> String {
        format!("buildah copy + commit ({})", self.driver)
    }

    fn knows(&self, situation: Situation) -> bool {
        situation != Situation::Unchanged
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        if situation == Situation::Cold {
            emptied(self.place.clone())?;
        }
        let (buildah, place) = (self.program(), self.place.display());
        let names: Vec<&str> = tree.layers.iter().map(|layer| layer.folder).collect();
        let text = steps(tree, situation, |layer| {
            let number = names.iter().position(|name| *name == layer.folder).unwrap_or(0);
            let below = number.checked_sub(1).map(|below| format!("localhost/{}", names[below]));
            let below = below.as_deref().unwrap_or("scratch");
            // It compresses only when told to; what stays in its storage need not be.
            let (compress, made) = match number + 1 == names.len() {
                true => ("--disable-compression=false ", format!("oci:{place}/image:latest")),
                false => ("", layer.folder.to_owned()),
            };
            let (folder, target) = (layer.folder, layer.target);
            format!(
                "c=$({buildah} from --pull-never {below})\n{buildah} copy -q $c {folder} {target}\n\
                 {buildah} commit -q --rm {compress}$c {made}\n"
            )
        });
        measure(&mut script(&text, tree), &self.place)
    }

    fn size(&self) -> Result<Option<u64>> {
        size_of(&self.place.join("image/blobs")).map(Some)
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // Its containers may be mounted; what is left is removed with the whole directory.
        let mut end = std::process::Command::new("bash");
        let _ = succeed(end.arg("-c").arg(format!("{0} umount --all; {0} rm --all", self.program())));
    }
}
