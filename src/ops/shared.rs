//! The build cache of several machines, in registries: layers by what they hold, each signed.
//!
//! A layer is an image manifest (OCI image-spec 1.1, "Guidelines for Artifact Usage") under the tag `layer-HEX`, where `HEX` is the
//! key of its contents. Its only layer is the blob; the annotation `RECORD` is a DSSE envelope around what was made. Only what a
//! trusted key has signed counts, and of that only what is about the key that was asked for. A cache that fails is none: the layer
//! is made, and a warning says why.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dmoci_layers::{Digest, RULES};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::made::StoredLayer;
use super::plan::Watch;
use crate::cache::Downloaded;
use crate::diagnostic::{Diagnostic, Exit};
use crate::engine::assemble::Made;
use crate::fetch::Fetcher;
use crate::limits;
use crate::oci::json::canonical;
use crate::oci::manifest::Manifest;
use crate::oci::media_type;
use crate::oci::reference::ImageName;
use crate::oci::{Descriptor, json};
use crate::store::registry::{Content, Named, RegistryError, Repository, parallel};
use crate::trust::{Envelope, PublicKey, SigningKey};

/// What such a manifest is (`artifactType`), and the type of what is signed.
const TYPE: &str = "application/vnd.dmoci.cache.layer.v1+json";

/// The annotation that holds the envelope.
const RECORD: &str = "dev.dmoci.cache.record";

/// How a build takes part in it.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// Repositories that layers are had from.
    pub from: Vec<ImageName>,
    /// Repositories that layers are given to.
    pub to: Vec<ImageName>,
    /// Whose layers are taken.
    pub trusted: Vec<PublicKey>,
    /// What signs layers that are given; what it signed is taken, too.
    pub signer: Option<Arc<SigningKey>>,
}

/// Why a build cannot take part.
#[derive(Debug, thiserror::Error)]
pub(super) enum SharingError {
    #[error("no key says whose layers are taken from {0}")]
    Untrusted(String),
    #[error("no key signs the layers that are given to {0}")]
    Unsigned(String),
}

impl Diagnostic for SharingError {
    fn code(&self) -> &'static str {
        "E-CACHE-KEY"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            SharingError::Untrusted(_) => {
                "name the public key of those who give layers with --cache-verify-key; without one anybody who can write there \
                 could decide what is in the image"
                    .into()
            }
            SharingError::Unsigned(_) => {
                "name a private key with --cache-sign-key; `dmoci key generate` makes one".into()
            }
        })
    }
}

/// What is signed of a layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    /// The key of its contents.
    key: String,
    rules: u32,
    layer: StoredLayer,
}

/// The repositories of one build.
pub(super) struct Others<'a> {
    fetcher: &'a Fetcher<'a>,
    watch: &'a dyn Watch,
    from: Vec<Place<'a>>,
    to: Vec<Place<'a>>,
    trusted: Vec<PublicKey>,
    signer: Option<Arc<SigningKey>>,
    given: Mutex<BTreeMap<Digest, Made>>,
}

/// A repository, until it fails.
struct Place<'a> {
    shown: String,
    repository: Repository<'a>,
    failed: AtomicBool,
    /// How many layers were looked for in it, how many of these were taken, and how many nobody has signed who is trusted.
    looked: AtomicUsize,
    taken: AtomicUsize,
    untrusted: AtomicUsize,
}

impl<'a> Place<'a> {
    fn new(shown: String, repository: Repository<'a>) -> Place<'a> {
        let (looked, taken, untrusted) = Default::default();
        Place { shown, repository, failed: AtomicBool::new(false), looked, taken, untrusted }
    }
}

impl Sharing {
    /// Whether it does at all.
    pub(super) fn is_wanted(&self) -> bool {
        !self.from.is_empty() || !self.to.is_empty()
    }

    /// Refuses what cannot be meant, before anything is done.
    pub(super) fn check(&self) -> Result<(), SharingError> {
        match (self.from.first(), self.to.first(), &self.signer) {
            (Some(first), _, None) if self.trusted.is_empty() => Err(SharingError::Untrusted(shown(first))),
            (_, Some(first), None) => Err(SharingError::Unsigned(shown(first))),
            _ => Ok(()),
        }
    }
}

impl<'a> Others<'a> {
    /// Finds them, the ones that layers are had from with less patience; layers are had from them only when the build `takes` any. One that does not answer is told and left out.
    pub(super) fn connect(
        sharing: &Sharing,
        (fetcher, patient): &'a (Fetcher<'a>, Fetcher<'a>),
        takes: bool,
        watch: &'a dyn Watch,
    ) -> Others<'a> {
        let place = |name: &ImageName, write| {
            let fetcher = if write { patient } else { fetcher };
            let shown = shown(name);
            match Repository::connect(fetcher, name, write) {
                Ok(repository) => Some(Place::new(shown, repository)),
                Err(error) => {
                    tell(watch, &shown, &error);
                    None
                }
            }
        };
        let from = sharing.from.iter().filter(|_| takes).filter_map(|name| place(name, false)).collect();
        let to = sharing.to.iter().filter_map(|name| place(name, true)).collect();
        let mut trusted = sharing.trusted.clone();
        trusted.extend(sharing.signer.as_ref().map(|signer| signer.public()));
        let (signer, given) = (sharing.signer.clone(), Mutex::default());
        Others { fetcher, watch, from, to, trusted, signer, given }
    }

    /// Whether any are given.
    pub(super) fn gives(&self) -> bool {
        !self.to.is_empty()
    }

    /// A layer that others made, with its blob, of the first repository that has it.
    pub(super) fn find(&self, key: &Digest) -> Option<(Made, Downloaded)> {
        for place in self.from.iter().filter(|place| !place.failed.load(Ordering::Relaxed)) {
            place.looked.fetch_add(1, Ordering::Relaxed);
            match self.look(place, key) {
                Ok(Some(found)) => {
                    place.taken.fetch_add(1, Ordering::Relaxed);
                    self.watch.detail("Taking", &format!("a layer of {}", place.shown));
                    return Some(found);
                }
                Ok(None) => {}
                Err(error) => self.broken(place, &error),
            }
        }
        None
    }

    fn look(&self, place: &Place<'a>, key: &Digest) -> Result<Option<(Made, Downloaded)>, RegistryError> {
        let Some(made) = self.made(place, key)? else { return Ok(None) };
        let blob = blob(&made);
        let wanted = place.repository.wanted(&blob)?;
        let file =
            self.fetcher.file(&wanted).map_err(|error| place.repository.failed("read a layer of", error))?;
        Ok(Some((made, file)))
    }

    /// What a repository says of a layer, where one of the trusted keys has signed that.
    fn made(&self, place: &Place<'a>, key: &Digest) -> Result<Option<Made>, RegistryError> {
        let Some(document) = place.repository.find(&tag(key), "look for a layer in")? else {
            return Ok(None);
        };
        let made = signed(&document.bytes, key, &self.trusted);
        if made.is_none() {
            place.untrusted.fetch_add(1, Ordering::Relaxed);
            self.watch.detail("Passing", &format!("over {} of {}", tag(key), place.shown));
        }
        Ok(made)
    }

    /// Notes a layer of this build.
    pub(super) fn give(&self, key: Digest, made: &Made) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
    }

    /// Says what came of looking for layers; nothing where none was looked for. That a repository failed was said.
    pub(super) fn told(&self) {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        for place in self.from.iter().filter(|place| !place.failed.load(Ordering::Relaxed)) {
            let (looked, taken, untrusted) = (of(&place.looked), of(&place.taken), of(&place.untrusted));
            if looked > 0 {
                self.watch.status("Taking", &format!("{taken} of {} from {}", layers(looked), place.shown));
            }
            if untrusted > 0 {
                self.watch.warning(&format!(
                    "what {} has of {} is signed by none of the trusted keys, or is about something else: it is not taken",
                    place.shown,
                    layers(untrusted)
                ));
            }
        }
    }

    /// Sends what was noted to every repository that does not have it. `path` is where blobs are.
    pub(super) fn publish(&self, path: impl Fn(&Digest) -> PathBuf + Sync) {
        let Some(signer) = &self.signer else { return };
        let given = std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
        let given: Vec<(Digest, Made)> = given.into_iter().collect();
        for place in &self.to {
            let sent = parallel(&given, |(key, made)| {
                if place.failed.load(Ordering::Relaxed) {
                    return Ok(false);
                }
                self.send(place, key, made, signer, &path(&made.layer.digest))
            });
            match sent {
                Ok(sent) => {
                    let new = sent.iter().filter(|new| **new).count();
                    let all = layers(sent.len());
                    self.watch.status("Sharing", &format!("{new} of {all} with {}", place.shown));
                }
                Err(error) => self.broken(place, &error),
            }
        }
    }

    /// Sends one, unless what is there is signed by a trusted key. Whether it was.
    fn send(
        &self,
        place: &Place<'a>,
        key: &Digest,
        made: &Made,
        signer: &SigningKey,
        path: &std::path::Path,
    ) -> Result<bool, RegistryError> {
        let to = &place.repository;
        if let Some(document) = to.find(&tag(key), "look for a layer in")?
            && signed(&document.bytes, key, &self.trusted).is_some()
        {
            return Ok(false);
        }
        let (empty, blob) = (Descriptor::of(media_type::EMPTY, EMPTY), blob(made));
        let is_there = to.has_blob(&blob)?;
        // What the image's registry had is not here.
        if !is_there && !path.exists() {
            return Ok(false);
        }
        let told = |_| {};
        if !to.has_blob(&empty)? {
            to.upload(&empty, &Bytes(EMPTY), None, &told)?;
        }
        if !is_there {
            to.upload(&blob, &Blob(path.to_owned()), None, &told)?;
        }
        to.put_manifest(Named::Tag(&tag(key)), media_type::MANIFEST, &document(key, made, signer))?;
        Ok(true)
    }

    /// From now on the repository is left alone.
    fn broken(&self, place: &Place<'a>, error: &RegistryError) {
        if !place.failed.swap(true, Ordering::Relaxed) {
            tell(self.watch, &place.shown, error);
        }
    }
}

fn layers(count: usize) -> String {
    format!("{count} {}", if count == 1 { "layer" } else { "layers" })
}

fn shown(name: &ImageName) -> String {
    format!("docker://{name}")
}

fn tell(watch: &dyn Watch, place: &str, error: &RegistryError) {
    let mut text = format!("the build cache {place} is not used: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    watch.warning(&text);
}

/// The content of a configuration that says nothing.
const EMPTY: &[u8] = b"{}";

fn tag(key: &Digest) -> String {
    format!("layer-{}", key.hex())
}

fn blob(made: &Made) -> Descriptor {
    let layer = &made.layer;
    Descriptor::new(media_type::layer(layer.compression), layer.digest.clone(), layer.size)
}

/// The manifest of a layer.
fn document(key: &Digest, made: &Made, signer: &SigningKey) -> Vec<u8> {
    let record = Record { key: key.to_string(), rules: RULES, layer: StoredLayer::of(made) };
    let payload = canonical(&serde_json::to_value(record).unwrap_or_default());
    let envelope = Envelope::sign(TYPE, payload, signer);
    canonical(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "artifactType": TYPE,
        "config": Descriptor::of(media_type::EMPTY, EMPTY).to_value(),
        "layers": [blob(made).to_value()],
        "annotations": { RECORD: envelope.to_json() },
    }))
}

/// What a manifest says of the layer of a key, where one of these keys has signed it.
fn signed(manifest: &[u8], key: &Digest, trusted: &[PublicKey]) -> Option<Made> {
    let value = json::parse(manifest).ok()?;
    let manifest = Manifest::read(&value, &mut Vec::new())?;
    let envelope = Envelope::read(manifest.annotations.get(RECORD)?.as_bytes())?;
    let payload = trusted.iter().find_map(|trusted| envelope.verified(TYPE, trusted))?;
    let record: Record = serde_json::from_slice(payload).ok()?;
    let made = record.layer.made()?;
    let same = record.key == key.to_string() && record.rules == RULES;
    (same && made.layer.size <= limits::LAYER_BYTES).then_some(made)
}

/// Bytes that are sent.
struct Bytes<'a>(&'a [u8]);

impl Content for Bytes<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.get(from as usize..).unwrap_or_default()))
    }
}

/// A file that is sent.
struct Blob(PathBuf);

impl Content for Blob {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(At { file: File::open(&self.0)?, next: from }))
    }
}

/// A file from there on.
struct At {
    file: File,
    next: u64,
}

impl Read for At {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(out, self.next)?;
        self.next += count as u64;
        Ok(count)
    }
}
