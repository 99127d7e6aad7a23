//! `uv pip install` and `tar | pigz -6`: no image, only what its layers cost.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Contender, Situation, emptied, script, size_of};
use crate::Result;
use crate::corpus::Tree;
use crate::launcher::{Sample, measure};
use crate::machine::path_of;
use crate::python::{LIBC, VERSION};

/// One compressed tar of what uv has installed, and one of the application. Nothing of them is hashed.
pub(crate) struct Uv {
    place: PathBuf,
    uv: PathBuf,
    python: PathBuf,
}

impl Uv {
    /// In a directory of its own.
    pub(crate) fn new(place: PathBuf) -> Result<Uv> {
        // Version managers put a script before the real one.
        let system = Some(PathBuf::from("/usr/bin/python3")).filter(|path| path.is_file());
        let python = system.or_else(|| path_of("python3")).ok_or("python3 is not here")?;
        Ok(Uv { place, uv: path_of("uv").ok_or("uv is not here")?, python })
    }

    /// Installs for the Python of the image. The cache is on the disk of the target, so that files are linked and not
    /// copied.
    fn install(&self, place: &Path) -> String {
        let (place, uv, python) = (place.display(), self.uv.display(), self.python.display());
        let (major, rest) = VERSION.split_once('.').unwrap_or_default();
        let minor = rest.split('.').next().unwrap_or_default();
        let platform = LIBC.replace("glibc-", "x86_64-manylinux_").replace('.', "_");
        format!(
            "UV_CACHE_DIR={place}/cache {uv} pip install --quiet --no-config --offline --no-index --find-links wheels --no-deps \
             --require-hashes --only-binary :all: --python {python} --python-version {major}.{minor} \
             --python-platform {platform} --target {place}/site --requirement requirements.txt\n\
             tar -cf - -C {place}/site . | pigz -6 >{place}/layers/dependencies.tar.gz\n"
        )
    }
}

impl Contender for Uv {
    fn name(&self) -> String {
        "uv pip install, tar | pigz -6".to_owned()
    }

    fn knows(&self, situation: Situation) -> bool {
        situation != Situation::Unchanged
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        let mut text = String::new();
        if situation == Situation::Cold {
            emptied(self.place.clone())?;
            text += &self.install(&self.place);
        }
        fs::create_dir_all(self.place.join("layers"))?;
        let place = self.place.display();
        text += &format!("tar -cf - -C app . | pigz -6 >{place}/layers/app.tar.gz\n");
        measure(&mut script(&text, tree), &self.place)
    }

    fn size(&self) -> Result<Option<u64>> {
        size_of(&self.place.join("layers")).map(Some)
    }
}
