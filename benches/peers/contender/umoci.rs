//! umoci: one `insert` for each layer.

use std::path::PathBuf;

use super::{Contender, Situation, emptied, script, size_of, steps};
use crate::Result;
use crate::corpus::Tree;
use crate::launcher::{Sample, measure};

/// `umoci insert`. An image without its last layer keeps a name of its own, so that a script can redo that one alone.
pub(crate) struct Umoci {
    place: PathBuf,
}

impl Umoci {
    /// In a directory of its own.
    pub(crate) fn new(place: PathBuf) -> Umoci {
        Umoci { place }
    }
}

impl Contender for Umoci {
    fn name(&self) -> String {
        "umoci insert".to_owned()
    }

    fn knows(&self, situation: Situation) -> bool {
        situation != Situation::Unchanged
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        let layout = self.place.join("image");
        let layout = layout.display();
        let mut text = String::new();
        if situation == Situation::Cold {
            emptied(self.place.clone())?;
            text += &format!("umoci init --layout {layout}\numoci new --image {layout}:0\n");
        }
        let last = tree.layers.len();
        let number = |folder: &str| tree.layers.iter().position(|layer| layer.folder == folder).unwrap_or(0);
        text += &steps(tree, situation, |layer| {
            let below = number(layer.folder);
            let tag = if below + 1 == last { "latest".to_owned() } else { (below + 1).to_string() };
            format!("umoci insert --image {layout}:{below} --tag {tag} {} {}\n", layer.folder, layer.target)
        });
        measure(&mut script(&text, tree), &self.place)
    }

    fn size(&self) -> Result<Option<u64>> {
        size_of(&self.place.join("image/blobs")).map(Some)
    }
}
