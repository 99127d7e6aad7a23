//! What a plan finds out to need while it is made: files and pages of the network, and what the machine says of
//! indexes.

use std::fs::File;
use std::path::Path;

use super::python::PlannedWheel;
use super::python::requirements::Indexes;
use crate::diagnostic::{Failure, Place};
use crate::url::Url;

/// A page of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Who gave it, after all redirects.
    pub url: Url,
    /// Its media type.
    pub media_type: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A wheel that has to come from the network.
#[derive(Clone, Debug)]
pub struct WheelNeed {
    /// What is needed.
    pub wheel: PlannedWheel,
    /// Where.
    pub url: Url,
    /// The layer that it is for.
    pub layer: String,
    /// Where the spec asks for it.
    pub place: Place,
}

/// Gives a plan what it asks for.
pub trait Supply: std::fmt::Debug {
    /// The files of these wheels, with the digests that they must have, in the same order, opened.
    fn wheels(&self, needs: &[WheelNeed]) -> Result<Vec<File>, Failure>;

    /// A page of an index; nothing when there is none.
    fn page(&self, url: &Url, accept: &str) -> Result<Option<Page>, Failure>;

    /// Notes that a file of the project was read which the spec does not name itself.
    fn reads(&self, path: &Path);

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// The indexes that pip and uv are set up with.
    fn indexes(&self) -> Result<Indexes, Failure>;
}
