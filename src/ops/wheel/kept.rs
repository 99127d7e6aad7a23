//! What a backend made, for the next build: a record of the cache, and the bytes beside it.
//!
//! Only wheels for every platform are kept: what others become is decided by compilers, headers and libraries of the machine,
//! which no key tells.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;

use dmoci_layers::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

use super::source::{Source, State};
use super::tools::Python;
use super::{Distribution, Outcome, Request};
use crate::cache::{Cache, KeyWriter, Kind};
use crate::files::Moment;
use crate::inputs::python::dist::DistKind;
use crate::lock::Pin;

/// What decides a wheel besides its source and what is pinned, and where it is kept.
pub(super) struct Memory<'a> {
    pub(super) cache: &'a Cache,
    pub(super) request: &'a Request,
    pub(super) python: &'a Python,
    pub(super) kinds: &'a [DistKind],
    pub(super) epoch: u64,
    pub(super) variables: Vec<(&'static str, OsString)>,
}

/// The end of the file names of wheels that are for every platform.
const PURE: &str = "-none-any.whl";

/// A record of the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    distributions: Vec<KeptFile>,
    /// As JSON.
    evidence: String,
    warnings: Vec<String>,
}

/// A distribution whose bytes are a blob of the cache.
#[derive(Debug, Serialize, Deserialize)]
struct KeptFile {
    name: String,
    digest: String,
    size: u64,
    backend: String,
}

impl Memory<'_> {
    /// What an earlier run made of the same, put into `target`; nothing when it is not known, or not whole any more.
    ///
    /// An error of the source is found again, and told, by whoever builds.
    pub(super) fn recall(&self, source: &Source<'_>, pins: &[Pin], target: &Path) -> Option<Outcome> {
        let outcome = self.recalled(source, pins, target);
        if outcome.is_none() {
            // Of two one may be whole: whoever builds makes both.
            let entries = fs::read_dir(target).into_iter().flatten().flatten();
            entries.for_each(|entry| drop(fs::remove_file(entry.path())));
        }
        outcome
    }

    fn recalled(&self, source: &Source<'_>, pins: &[Pin], target: &Path) -> Option<Outcome> {
        let state = source.state().ok()?;
        let kept: Kept = self.cache.get(Kind::Wheel, &self.key(&state, pins)?)?;
        if kept.distributions.len() != self.kinds.len() {
            return None;
        }
        let mut distributions = Vec::new();
        for (kind, file) in self.kinds.iter().zip(kept.distributions) {
            let digest: Digest = file.digest.parse().ok()?;
            let name = Path::new(&file.name);
            if name.file_name() != Some(name.as_os_str()) || DistKind::of(name) != Some(*kind) {
                return None;
            }
            let path = target.join(name);
            self.take(&digest, file.size, &path)?;
            let backend = file.backend.parse().ok()?;
            let made = Distribution { kind: kind.name(), name: file.name, digest, size: file.size, backend };
            distributions.push((made, path));
        }
        let evidence = serde_json::from_str(&kept.evidence).ok()?;
        Some(Outcome { distributions, evidence, pins: None, warnings: kept.warnings, state: Some(state) })
    }

    /// Copies a blob, and hashes all of it.
    fn take(&self, digest: &Digest, size: u64, path: &Path) -> Option<()> {
        if !self.cache.take_blob(digest, size, path).ok()? {
            return None;
        }
        let found = Digest::of_reader(Algorithm::Sha256, &mut File::open(path).ok()?).ok()?;
        (found == (digest.clone(), size)).then_some(())
    }

    /// Keeps what was made of this. That it cannot be kept is no error: the next run makes it again.
    pub(super) fn keep(&self, pins: &[Pin], outcome: &Outcome) {
        let (made, Some(state)) = (&outcome.distributions, &outcome.state) else { return };
        let pure = |name: &str| !name.ends_with(".whl") || name.ends_with(PURE);
        if !made.iter().all(|(made, _)| pure(&made.name)) {
            return;
        }
        let Some(key) = self.key(state, pins) else { return };
        let blobs: Vec<_> = made.iter().map(|(made, path)| (made.digest.clone(), path.clone())).collect();
        let file = |(made, _): &super::Made| KeptFile {
            name: made.name.clone(),
            digest: made.digest.to_string(),
            size: made.size,
            backend: made.backend.to_string(),
        };
        if self.cache.keep_blobs(&blobs).is_ok() {
            let distributions = made.iter().map(file).collect();
            let (evidence, warnings) = (outcome.evidence.to_string(), outcome.warnings.clone());
            self.cache.put(Kind::Wheel, &key, &Kept { distributions, evidence, warnings });
        }
    }

    /// The key of all that decides the bytes; nothing when something of it cannot be told.
    fn key(&self, state: &State, pins: &[Pin]) -> Option<Digest> {
        let mut key = KeyWriter::new(Kind::Wheel, Moment::now(self.cache.directory()).ok()?);
        if !state.told {
            key.spoil();
        }
        key.bytes(state.digest.hex().as_bytes());
        key.number(self.epoch);
        key.number(self.request.as_they_are.into());
        key.number(self.kinds.len() as u64);
        self.kinds.iter().for_each(|kind| key.bytes(kind.name().as_bytes()));
        key.bytes(format!("{:?}", self.python).as_bytes());
        key.number(pins.len() as u64);
        for pin in pins {
            key.bytes(pin.wheel.as_ref().map(|wheel| wheel.file.as_bytes()).unwrap_or_default());
            key.bytes(pin.digest.to_string().as_bytes());
        }
        for (name, value) in &self.variables {
            key.bytes(name.as_bytes());
            key.bytes(value.as_encoded_bytes());
        }
        key.finish()
    }
}
