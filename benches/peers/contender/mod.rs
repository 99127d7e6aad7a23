//! Who is measured. Each makes an image, or what comes nearest to one, of the same folders.

mod buildah;
mod daemon;
mod dmoci;
mod docker;
mod pip;
mod pipe;
mod umoci;
mod uv;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use buildah::Buildah;
pub(crate) use dmoci::Dmoci;
pub(crate) use docker::Docker;
pub(crate) use pip::Pip;
pub(crate) use pipe::Pipe;
pub(crate) use umoci::Umoci;
pub(crate) use uv::Uv;

use crate::Result;
use crate::corpus::{Layer, Tree};
use crate::launcher::Sample;

/// What has happened since the build before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Situation {
    /// There was none: nothing is kept that an earlier build has made.
    Cold,
    /// One file of the last layer has other content.
    Changed,
    /// Nothing.
    Unchanged,
}

/// One way to make an image.
pub(crate) trait Contender {
    /// What it is called in tables.
    fn name(&self) -> String;

    /// False where it has no notion of the situation.
    fn knows(&self, _situation: Situation) -> bool {
        true
    }

    /// Builds and measures. What it needs for [`Situation::Cold`] it puts away before, unmeasured; for the others its
    /// own last build is kept.
    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample>;

    /// Bytes of what the last build made, where that says something.
    fn size(&self) -> Result<Option<u64>>;
}

/// An empty directory of this name.
pub(crate) fn emptied(directory: PathBuf) -> Result<PathBuf> {
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", directory.display()).into());
        }
        _ => fs::create_dir_all(&directory)?,
    }
    Ok(directory)
}

/// Bytes of all files below a directory.
fn size_of(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => size_of(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// A script that stops at the first failure, in the project.
fn script(text: &str, tree: &Tree) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", text]).current_dir(&tree.project);
    command
}

/// One step of a script for each layer that the situation asks for: a script is told which one has changed, and
/// redoes that one.
fn steps(tree: &Tree, situation: Situation, step: impl Fn(&Layer) -> String) -> String {
    let skip = match situation {
        Situation::Cold => 0,
        _ => tree.layers.len().saturating_sub(1),
    };
    tree.layers.iter().skip(skip).map(step).collect()
}
