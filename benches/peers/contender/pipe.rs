//! `tar | pigz -6`: no image, only what its layers cost.

use std::path::PathBuf;

use super::{Contender, Situation, emptied, script, size_of, steps};
use crate::Result;
use crate::corpus::Tree;
use crate::launcher::{Sample, measure};

/// One compressed tar for each layer. Nothing is hashed.
pub(crate) struct Pipe {
    place: PathBuf,
}

impl Pipe {
    /// In a directory of its own.
    pub(crate) fn new(place: PathBuf) -> Pipe {
        Pipe { place }
    }
}

impl Contender for Pipe {
    fn name(&self) -> String {
        "tar | pigz -6".to_owned()
    }

    fn knows(&self, situation: Situation) -> bool {
        situation != Situation::Unchanged
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        if situation == Situation::Cold {
            emptied(self.place.clone())?;
        }
        std::fs::create_dir_all(self.place.join("layers"))?;
        let place = self.place.display();
        let text = steps(tree, situation, |layer| {
            let folder = layer.folder;
            format!("tar -cf - -C {folder} . | pigz -6 >{place}/layers/{folder}.tar.gz\n")
        });
        measure(&mut script(&text, tree), &self.place)
    }

    fn size(&self) -> Result<Option<u64>> {
        size_of(&self.place.join("layers")).map(Some)
    }
}
