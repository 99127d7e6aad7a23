//! What a plan finds out to need while it is made: files and pages of the network, and what the machine says of
//! indexes.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::python::PlannedWheel;
use super::python::requirements::Indexes;
use super::python::simple::Link;
use crate::diagnostic::{Failure, Place};
use crate::oci::Descriptor;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
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

/// A wheel that is to be pinned: one from the network, or one of the project that stands in for what is nowhere else.
#[derive(Clone, Debug)]
pub struct WheelNeed {
    /// What is needed.
    pub wheel: PlannedWheel,
    /// Where on the network.
    pub url: Option<Url>,
    /// The platform that it is for.
    pub platform: Platform,
    /// The layer that it is for.
    pub layer: String,
    /// Where the spec asks for it.
    pub place: Place,
}

impl WheelNeed {
    /// What its pin is found by: its address, else its file name.
    pub fn key(&self) -> String {
        self.url.as_ref().map_or_else(|| self.wheel.file.as_str().to_owned(), Url::bare)
    }

    /// Where it is asked for: in the lock file, and in the spec.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.wheel.place.clone().into_iter().chain([self.place.clone()])
    }
}

/// What a page is asked for.
#[derive(Clone, Debug)]
pub struct Purpose {
    /// The platform that it is for.
    pub platform: Platform,
    /// What is looked for.
    pub what: String,
    /// Where it is asked for.
    pub places: Vec<Place>,
}

/// The documents of an image in a registry that another one stands on, as they came.
#[derive(Clone, Debug)]
pub struct BaseDocuments {
    /// What names the manifest.
    pub manifest: Descriptor,
    /// Its bytes.
    pub manifest_bytes: Vec<u8>,
    /// The bytes of the configuration.
    pub config_bytes: Vec<u8>,
}

/// Gives a plan what it asks for.
pub trait Supply: std::fmt::Debug {
    /// The documents of a base for a platform. From now on it is pinned.
    fn base(&self, name: &Reference, platform: &Platform) -> Result<BaseDocuments, Failure>;

    /// What earlier builds have asked of the layers of a base, with the answers.
    fn base_facts(&self, name: &Reference, platform: &Platform) -> BTreeSet<String>;

    /// Notes what was asked of the layers of a base, for later builds.
    fn keep_base_facts(&self, name: &Reference, platform: &Platform, facts: BTreeSet<String>);

    /// Layers of a base, in the same order. Digests and sizes were found right.
    fn base_layers(&self, name: &Reference, layers: &[Descriptor]) -> Result<Vec<Arc<File>>, Failure>;

    /// Nothing will be installed: it is enough that wheels are known.
    fn only_pins(&self) -> bool;

    /// The wheels that are pinned for a platform, and stay so for this layer.
    fn pinned(&self, platform: &Platform, layer: &str) -> Vec<Link>;

    /// The files of those of these wheels that are on the network, with the digests that they must have, in the same order,
    /// opened. When only pins are wanted, of some there is nothing. From now on all are pinned.
    fn wheels(&self, needs: &[WheelNeed]) -> Result<Vec<Option<File>>, Failure>;

    /// A page of an index; nothing when there is none.
    fn page(&self, url: &Url, accept: &str, purpose: &Purpose) -> Result<Option<Page>, Failure>;

    /// Notes that a file of the project was read which the spec does not name itself.
    fn reads(&self, path: &Path);

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// The indexes that pip and uv are set up with.
    fn indexes(&self) -> Result<Indexes, Failure>;
}
