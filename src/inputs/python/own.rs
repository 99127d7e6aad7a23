//! The project's own wheel, which a build makes before the image.

use std::path::{Path, PathBuf};

use super::wheel::Wheel;

/// A project that this run builds.
#[derive(Clone, Debug)]
pub struct Own {
    /// The directory of its source, relative to the project.
    pub source: PathBuf,
    /// Its wheel; nothing where only what is pinned plays a part.
    pub wheel: Option<Wheel>,
}

impl Own {
    /// Where the wheel of this name lies in a project that was built: what an image says of where it came from, wherever it was
    /// built.
    pub fn place(name: &str) -> PathBuf {
        Path::new("dist/python").join(name)
    }
}
