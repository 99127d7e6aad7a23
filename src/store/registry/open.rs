//! An image of a registry as an [`ImageStore`]: its documents in memory, its other blobs in the download cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dmoci_layers::Digest;
use serde_json::json;

use super::super::{Backing, Blob, Form, ImageStore};
use super::error::chain;
use super::{Document, Named, RegistryError, Repository, is_absent};
use crate::diagnostic::Diagnostic as _;
use crate::fetch::Wanted;
use crate::limits;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
use crate::oci::reference::{EVIDENCE_ENDINGS, ImageName, referrers_tag};
use crate::oci::{Descriptor, PlatformFields, Problem, json};

/// What of an image is fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which<'p> {
    /// Only what an index has for this platform.
    pub platform: Option<&'p Platform>,
    /// Layers too, and whatever else manifests name; else only configurations of images.
    pub layers: bool,
    /// All that refers to the image or to a manifest of it, with what that names.
    pub referrers: bool,
    /// What cosign kept under tags of its own before it used that: `sha256-….sig`, `.att` and `.sbom`.
    pub signatures: bool,
    /// Of what refers to the image signatures alone; that they cannot be had is a note, not an error.
    pub claims: bool,
}

/// Fetches what a tag or a digest names; the digest when there are both.
pub fn open(
    repository: &Repository<'_>,
    tag: Option<&str>,
    digest: Option<&Digest>,
    which: Which<'_>,
) -> Result<ImageStore, RegistryError> {
    let root = match (digest, tag) {
        (Some(digest), _) => repository.manifest(Named::Digest(digest))?,
        (None, tag) => repository.manifest(Named::Tag(tag.unwrap_or("latest")))?,
    };
    let place = match (digest, tag) {
        (Some(digest), _) => format!("docker://{}@{digest}", repository.name),
        (None, tag) => format!("docker://{}:{}", repository.name, tag.unwrap_or("latest")),
    };
    let mut walk = Walk {
        repository,
        which,
        documents: BTreeMap::new(),
        bytes: 0,
        blobs: BTreeMap::new(),
        fetched: BTreeMap::new(),
    };
    let descriptor = root.descriptor.clone();
    walk.add(root)?;
    let mut named = vec![match tag {
        Some(tag) => descriptor.clone().annotate(TAG, tag),
        None => descriptor,
    }];
    let mut problems = Vec::new();
    if which.claims {
        match walk.claims() {
            Ok((with, more)) => {
                walk = with;
                named.extend(more);
            }
            Err(error) => {
                let text = format!("signatures could not be looked for: {}", chain(&error));
                problems.push((root_name(&named), Problem::note(error.code(), "", text)));
            }
        }
    }
    if which.signatures {
        named.extend(walk.signatures()?);
    }
    if which.referrers {
        named.extend(walk.referrers()?);
    }
    let mut store = walk.store(&named, place)?;
    store.problems = problems;
    Ok(store)
}

const TAG: &str = "org.opencontainers.image.ref.name";

/// What the image is called in findings.
fn root_name(named: &[Descriptor]) -> String {
    named.first().map(|root| format!("manifest {}", root.digest)).unwrap_or_default()
}

/// What was fetched so far.
struct Walk<'a, 'r> {
    repository: &'a Repository<'r>,
    which: Which<'a>,
    documents: BTreeMap<Digest, Vec<u8>>,
    bytes: u64,
    /// What manifests name, and is still to be fetched.
    blobs: BTreeMap<Digest, Descriptor>,
    /// What of it was fetched already.
    fetched: BTreeMap<Digest, Blob>,
}

impl Walk<'_, '_> {
    /// The same with all signatures, and what names these.
    fn claims(&self) -> Result<(Self, Vec<Descriptor>), RegistryError> {
        let mut with = Walk {
            repository: self.repository,
            which: self.which,
            documents: self.documents.clone(),
            bytes: self.bytes,
            blobs: self.blobs.clone(),
            fetched: BTreeMap::new(),
        };
        let mut named = with.signatures()?;
        named.extend(with.referrers()?);
        let new = with.blobs.values().filter(|blob| !self.blobs.contains_key(&blob.digest)).cloned();
        let new: Vec<Descriptor> = new.collect();
        with.fetched = with.files(&new)?;
        Ok((with, named))
    }

    /// Keeps a document and fetches all manifests below it, level by level.
    fn add(&mut self, root: Document) -> Result<(), RegistryError> {
        let mut level = vec![root];
        for depth in 0.. {
            let mut below: BTreeMap<Digest, Descriptor> = BTreeMap::new();
            for document in level {
                for descriptor in self.keep(document)? {
                    if !self.documents.contains_key(&descriptor.digest) {
                        below.insert(descriptor.digest.clone(), descriptor);
                    }
                }
            }
            if below.is_empty() {
                break;
            }
            if depth >= limits::INDEX_DEPTH || self.documents.len() + below.len() > limits::DESCRIPTORS {
                return Err(self.graph("indexes nest too deep or list too many manifests"));
            }
            level = self.fetch(below.into_values().collect())?;
        }
        Ok(())
    }

    /// Keeps a document; the manifests that it lists, of those that are wanted.
    fn keep(&mut self, document: Document) -> Result<Vec<Descriptor>, RegistryError> {
        let Document { descriptor, bytes } = document;
        self.count(bytes.len() as u64)?;
        // What cannot be read strictly is told by whoever uses the store.
        let value = json::parse(&bytes).unwrap_or_default();
        let mut below = Vec::new();
        match descriptor.kind() {
            Kind::Index => {
                let listed = Index::read(&value, &mut Vec::new()).map(|index| index.manifests);
                below = listed.unwrap_or_default();
                below.retain(|one| {
                    matches!(one.kind(), Kind::Index | Kind::Manifest)
                        && self.is_wanted(one.platform.as_ref())
                });
            }
            _ => {
                if let Some(manifest) = Manifest::read(&value, &mut Vec::new()) {
                    let config = (self.which.layers || manifest.is_image()).then(|| manifest.config.clone());
                    // Of what refers to the image, where only that is wanted, no more than a signature has.
                    let signs =
                        self.which.signatures && (!manifest.is_image() || manifest.has_only_evidence());
                    let mut layers = manifest.layers;
                    layers.retain(|layer| self.which.layers || signs && layer.size <= limits::JSON_BYTES);
                    for blob in config.into_iter().chain(layers) {
                        self.blobs.insert(blob.digest.clone(), blob);
                    }
                }
            }
        }
        self.documents.insert(descriptor.digest, bytes);
        Ok(below)
    }

    /// True when an index has it for the platform that is wanted, or does not say for which.
    fn is_wanted(&self, platform: Option<&PlatformFields>) -> bool {
        let (Some(wanted), Some(fields)) = (self.which.platform, platform) else { return true };
        Platform::new(&fields.os, &fields.architecture, fields.variant.as_deref())
            .is_ok_and(|own| own == *wanted)
    }

    fn count(&mut self, bytes: u64) -> Result<(), RegistryError> {
        self.bytes += bytes;
        match self.bytes > limits::REGISTRY_DOCUMENTS {
            true => Err(self.graph("its documents are too large together")),
            false => Ok(()),
        }
    }

    fn graph(&self, why: &str) -> RegistryError {
        self.repository.unusable("read the image of", "E-GRAPH", why.into())
    }

    /// Fetches these manifests. What an index lists and the registry does not have is left out: an index may be sparse.
    fn fetch(&self, wanted: Vec<Descriptor>) -> Result<Vec<Document>, RegistryError> {
        let fetched = parallel(&wanted, |descriptor| {
            let named = Named::Digest(&descriptor.digest);
            let action = format!("read the manifest {named} of");
            Ok(self.repository.look_up(named, &action)?.ok().map(|mut document| {
                // What its type is said to be where it is listed: that of a document that does not say is a guess.
                document.descriptor.media_type.clone_from(&descriptor.media_type);
                document
            }))
        })?;
        Ok(fetched.into_iter().flatten().collect())
    }

    /// What cosign's older layout has for the documents that there are.
    fn signatures(&mut self) -> Result<Vec<Descriptor>, RegistryError> {
        let tags: Vec<(Digest, String)> = (self.documents.keys())
            .flat_map(|digest| {
                EVIDENCE_ENDINGS.map(|ending| (digest.clone(), referrers_tag(digest) + ending))
            })
            .collect();
        // The first tells whether the registry can be reached at all, where mirrors stand in for it.
        let Some(((digest, tag), others)) = tags.split_first() else { return Ok(Vec::new()) };
        let (first, reached) = self.repository.evidence(digest, tag, false)?;
        let mut found = vec![first];
        found.extend(parallel(others, |(digest, tag)| {
            self.repository.evidence(digest, tag, !reached).map(|(document, _)| document)
        })?);
        let mut named = Vec::new();
        for ((_, tag), document) in tags.iter().zip(found) {
            if let Some(document) = document {
                named.push(document.descriptor.clone().annotate(TAG, tag.as_str()));
                self.add(document)?;
            }
        }
        Ok(named)
    }

    /// What refers to the documents that there are, and to these in turn; a list for each document, under its tag.
    fn referrers(&mut self) -> Result<Vec<Descriptor>, RegistryError> {
        let mut lists = Vec::new();
        let mut asked: BTreeSet<Digest> = BTreeSet::new();
        for _ in 0..=limits::REFERRER_DEPTH {
            let subjects: Vec<Digest> =
                self.documents.keys().filter(|digest| !asked.contains(*digest)).cloned().collect();
            if subjects.is_empty() {
                return Ok(lists);
            }
            let found = parallel(&subjects, |subject| self.repository.referrers(subject))?;
            asked.extend(subjects.iter().cloned());
            let is_wanted = |one: &Descriptor| {
                let kind = one.artifact_type.as_deref().unwrap_or_default();
                !self.which.claims || kind.starts_with(media_type::SIGSTORE_BUNDLES)
            };
            let found = found.into_iter().map(|mut found| {
                found.retain(is_wanted);
                found
            });
            let found: Vec<Vec<Descriptor>> = found.collect();
            for (subject, referrers) in subjects.iter().zip(found).filter(|(_, found)| !found.is_empty()) {
                let new: Vec<Descriptor> = referrers
                    .iter()
                    .filter(|one| !self.documents.contains_key(&one.digest))
                    .cloned()
                    .collect();
                for document in self.fetch(new)? {
                    match refers_to(&document.bytes, subject) {
                        true => self.add(document)?,
                        false => self.leave_out(&document.descriptor.digest, subject),
                    }
                }
                let mut here = Vec::new();
                for one in referrers {
                    match self.documents.get(&one.digest).map(|bytes| refers_to(bytes, subject)) {
                        Some(true) => here.push(one),
                        Some(false) => self.leave_out(&one.digest, subject),
                        None => {}
                    }
                }
                if here.is_empty() {
                    continue;
                }
                let bytes = list(&here);
                let descriptor = Descriptor::of(media_type::INDEX, &bytes);
                self.count(bytes.len() as u64)?;
                asked.insert(descriptor.digest.clone());
                self.documents.insert(descriptor.digest.clone(), bytes);
                lists.push(descriptor.annotate(TAG, referrers_tag(subject)));
            }
        }
        Err(self.graph("its referrers refer to one another too deep"))
    }

    fn leave_out(&self, digest: &Digest, subject: &Digest) {
        self.repository.fetcher.leave_out(&stray(&self.repository.name.to_string(), digest, subject));
    }

    /// Fetches what is left, and gives it all.
    fn store(self, named: &[Descriptor], place: String) -> Result<ImageStore, RegistryError> {
        let is_here = |digest| self.documents.contains_key(digest) || self.fetched.contains_key(digest);
        let wanted: Vec<Descriptor> =
            self.blobs.values().filter(|blob| !is_here(&blob.digest)).cloned().collect();
        let mut blobs = self.files(&wanted)?;
        blobs.extend(self.fetched);
        let documents = self.documents.into_iter();
        blobs.extend(documents.map(|(digest, bytes)| (digest, Blob::Memory(bytes.into()))));
        Ok(made(place, named, blobs))
    }

    /// Fetches these blobs.
    fn files(&self, wanted: &[Descriptor]) -> Result<BTreeMap<Digest, Blob>, RegistryError> {
        let repository = self.repository;
        let files: Vec<Wanted> =
            wanted.iter().map(|blob| repository.wanted(blob)).collect::<Result<_, _>>()?;
        let fetched = repository.fetcher.files(&files).map_err(|source| {
            let action = match is_absent(&source) {
                true => "read a blob that a manifest names in",
                false => "read a blob of",
            };
            repository.failed(action, source)
        })?;
        let held = wanted.iter().zip(fetched).map(|(blob, file)| {
            let held = Blob::Held { file: Arc::clone(file.file()), size: file.size() };
            (blob.digest.clone(), held)
        });
        Ok(held.collect())
    }
}

/// Whether a manifest says itself that it refers to another one. Lists say it of anything.
pub fn refers_to(bytes: &[u8], subject: &Digest) -> bool {
    let value = json::parse(bytes).unwrap_or_default();
    value["subject"]["digest"].as_str().and_then(|text| text.parse().ok()).as_ref() == Some(subject)
}

/// What is said of something that is listed where it does not belong.
pub fn stray(place: &str, digest: &Digest, subject: &Digest) -> String {
    format!(
        "{place} lists {digest} as referring to {subject}, which its own subject does not name: it is left out"
    )
}

/// An image of one platform whose documents are here. Its layers come later, when they are needed: see
/// [`ImageStore::bring`].
pub fn awaiting(name: &ImageName, manifest: (&Descriptor, &[u8]), config: &[u8]) -> ImageStore {
    let (descriptor, bytes) = manifest;
    let mut blobs = BTreeMap::new();
    // What cannot be read strictly is told by whoever uses the store.
    let value = json::parse(bytes).unwrap_or_default();
    if let Some(manifest) = Manifest::read(&value, &mut Vec::new()) {
        let layers = manifest.layers.into_iter().map(|layer| (layer.digest, Blob::Awaited(OnceLock::new())));
        blobs.extend(layers);
        blobs.insert(manifest.config.digest, Blob::Memory(config.into()));
    }
    blobs.insert(descriptor.digest.clone(), Blob::Memory(bytes.into()));
    made(format!("docker://{name}"), std::slice::from_ref(descriptor), blobs)
}

fn made(place: String, named: &[Descriptor], blobs: BTreeMap<Digest, Blob>) -> ImageStore {
    ImageStore {
        form: Form::Registry,
        place: place.into(),
        layout_file: None,
        index: list(named),
        docker_manifest: None,
        blobs,
        strays: Vec::new(),
        problems: Vec::new(),
        members: Vec::new(),
        backing: Backing::Fetched,
        whole_compressed: false,
        streamed: false,
    }
}

/// An index of these, in canonical JSON.
pub fn list(manifests: &[Descriptor]) -> Vec<u8> {
    json::canonical(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": manifests.iter().map(Descriptor::to_value).collect::<Vec<_>>(),
    }))
}

/// Does this with each item, several at a time; what comes out is in their order, or is the first error.
pub fn parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<Option<Result<R, E>>>> = Mutex::new(items.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..limits::CONNECTIONS.min(items.len()) {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == 0 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let result = work(item);
                    failed.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.into_inner() > 0 {
        results.retain(|result| matches!(result, Some(Err(_))));
    }
    results.into_iter().flatten().collect()
}
