//! `dmoci.lock`: what every input from elsewhere is, by digest, for each platform.
//!
//! Pure but for [`load`]. [`parse`] and [`Lock::text`] are each other's opposite; the text has one form only.
//!
//! ```text
//! mod > read, write > error
//! ```

mod error;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::Digest;

pub use error::LockError;

use crate::diagnostic::Place;
use crate::limits;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::url::Url;

/// The version of the format that is read and written.
pub const SCHEMA: i64 = 1;

/// The content of a lock file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// What each platform's image is made of. A platform without pins is not in the file.
    pub platforms: BTreeMap<Platform, Pins>,
}

/// The pins of one platform, by what they are for and their keys.
pub type Pins = BTreeMap<(Kind, String), Pin>;

/// What a pin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `base` in a registry.
    Base,
    /// `archive` with `url`.
    Archive,
    /// `download`.
    Download,
    /// A wheel that a Python lock file names.
    Wheel,
    /// A wheel that the build backend of the project needs.
    Build,
}

impl Kind {
    /// All of them, in the order of the file.
    pub const ALL: [Kind; 5] = [Kind::Base, Kind::Archive, Kind::Download, Kind::Wheel, Kind::Build];

    /// What it is called in the lock file, and in the spec when it is named there.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Base => "base",
            Kind::Archive => "archive",
            Kind::Download => "download",
            Kind::Wheel => "wheel",
            Kind::Build => "build",
        }
    }
}

/// One file from elsewhere; of a base, its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Where it comes from, without user and password. Nothing for a wheel of the project that stands in for one that is nowhere
    /// else.
    pub url: Option<Url>,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, always sha256.
    pub digest: Digest,
    /// Who said that this is its digest.
    pub authenticated: Authenticated,
    /// What only a wheel has.
    pub wheel: Option<WheelPin>,
    /// What only a base has.
    pub base: Option<BasePin>,
}

impl Pin {
    /// Whose signature of a base was found, in words.
    pub fn signed_by(&self) -> Option<&str> {
        self.base.as_ref()?.signed_by.as_deref()
    }

    /// What it is found by: its address without user and password, else its file name, or what the spec calls the base.
    pub fn key(&self) -> String {
        match (&self.url, &self.wheel, &self.base) {
            (Some(url), ..) => url.bare(),
            (None, Some(wheel), _) => wheel.file.clone(),
            (None, None, Some(base)) => base.name.to_string(),
            (None, None, None) => String::new(),
        }
    }
}

/// What is pinned of a base besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePin {
    /// What the spec calls it.
    pub name: Reference,
    /// The index that the manifest was chosen from, when it was one: other platforms choose from the same.
    pub index: Option<Digest>,
    /// Whose signature of it was found, in words, when one was asked for.
    pub signed_by: Option<String>,
    /// What builds have asked of its layers, with the answers: who asks nothing else needs no layer.
    pub facts: BTreeSet<String>,
}

/// What is pinned of a wheel besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelPin {
    /// Its file name, which says project, version and tags. An address need not end in it.
    pub file: String,
    /// Its sha512, where the Python lock file has only that.
    pub sha512: Option<Digest>,
}

/// Who says what the digest of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authenticated {
    /// `sha256` in `dmoci.toml`.
    Spec,
    /// The lock file of another tool.
    LockFile,
    /// The index that lists it.
    Index,
    /// A signature that was asked for.
    Signature,
    /// Nobody: it is what came the first time.
    FirstUse,
}

impl Authenticated {
    const ALL: [Authenticated; 5] = [
        Authenticated::Spec,
        Authenticated::LockFile,
        Authenticated::Index,
        Authenticated::Signature,
        Authenticated::FirstUse,
    ];

    /// As the lock file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Authenticated::Spec => "spec",
            Authenticated::LockFile => "lock file",
            Authenticated::Index => "index",
            Authenticated::Signature => "signature",
            Authenticated::FirstUse => "first use",
        }
    }
}

/// A lock file as it was read.
#[derive(Clone, Debug)]
pub struct Written {
    file: PathBuf,
    text: Arc<str>,
    /// What is in it.
    pub lock: Lock,
    spans: BTreeMap<(Platform, Kind, String), Range<usize>>,
    /// Entries that are not as dmoci wrote them.
    edited: Vec<Edited>,
}

/// An entry whose `fields` is not the digest of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edited {
    key: (Platform, Kind, String),
    span: Range<usize>,
    expected: String,
    found: String,
}

impl Written {
    /// The file as the user named it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of an entry, for messages; nothing when there is none.
    pub fn place(&self, platform: &Platform, kind: Kind, key: &str, label: &str) -> Option<Place> {
        let span = self.spans.get(&(platform.clone(), kind, key.to_owned()))?;
        Some(self.at(span.clone(), label))
    }

    /// Refuses entries that were edited by hand, and two digests for one address, but in those that `renewed` says will be made
    /// anew.
    pub fn check(&self, renewed: impl Fn(&Platform, Kind, &str) -> bool) -> Result<(), LockError> {
        let wrong = |edited: &&Edited| !renewed(&edited.key.0, edited.key.1, &edited.key.2);
        if let Some(edited) = self.edited.iter().find(wrong) {
            let label = format!("expected {}", edited.expected);
            return Err(LockError::Edited {
                url: edited.key.2.clone(),
                found: edited.found.clone(),
                place: Box::new(self.at(edited.span.clone(), &label)),
            });
        }
        let mut digests: BTreeMap<&str, &Digest> = BTreeMap::new();
        for (platform, pins) in &self.lock.platforms {
            // Of a base each platform has another manifest.
            let pins = pins.iter().filter(|((kind, _), _)| *kind != Kind::Base);
            for ((kind, url), pin) in pins.filter(|((kind, url), _)| !renewed(platform, *kind, url)) {
                if *digests.entry(url).or_insert(&pin.digest) != &pin.digest {
                    let place = self.place(platform, *kind, url, "another entry has another sha256");
                    let message = "one address has two digests in the lock file".to_owned();
                    let place = Box::new(place.unwrap_or_else(|| self.at(0..0, "")));
                    return Err(LockError::Malformed { message, place });
                }
            }
        }
        Ok(())
    }

    fn at(&self, span: Range<usize>, label: &str) -> Place {
        Place { file: self.file.clone(), text: self.text.clone(), span, label: label.to_owned() }
    }
}

/// Reads a text; `file` is only what messages call it.
///
/// That entries are as dmoci wrote them is not judged here: see [`Written::check`].
pub fn parse(file: &Path, text: &str) -> Result<Written, LockError> {
    read::read(file, text)
}

/// Reads a file of at most [`limits::LOCK_BYTES`]; nothing when it is not there.
pub fn load(path: &Path) -> Result<Option<Written>, LockError> {
    let failed = |source| LockError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => {
            file.and_then(|file| file.take(limits::LOCK_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?
        }
    };
    if bytes.len() as u64 > limits::LOCK_BYTES {
        return Err(failed(io::Error::other(format!("it is larger than {} bytes", limits::LOCK_BYTES))));
    }
    let text = String::from_utf8(bytes).map_err(|error| failed(io::Error::other(error)))?;
    parse(path, &text).map(Some)
}

#[cfg(test)]
mod tests;
