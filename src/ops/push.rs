//! `dmoci push` and `copy`: an image, with all that refers to it, into repositories.
//!
//! Blobs come first, then the manifests that name them, then what refers to these; tags move last, when every destination
//! has everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use dmoci_layers::Digest;

use super::remote::{Remote, Told};
use crate::cache::Uploads;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::fetch::Fetcher;
use crate::limits;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
use crate::oci::reference::referrers_tag;
use crate::oci::{Descriptor, json};
use crate::store::registry::{self, Content, Named, Put, RegistryError, Repository, Which, parallel};
use crate::store::{ImageStore, StoreError, Subject};

/// What to push, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub subject: Subject,
    /// The destinations; at least one.
    pub to: Vec<Subject>,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// Nothing is written.
    pub dry_run: bool,
}

/// What became of one destination.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The destination.
    pub to: Subject,
    /// What it names now.
    pub digest: Digest,
    /// Blobs that were sent, or would be.
    pub sent: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that the registry took over from another repository.
    pub mounted: usize,
    /// Manifests that were written, or would be.
    pub manifests: usize,
}

/// Why nothing is pushed there.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The destination is in no registry.
    #[error("{0} is in no registry")]
    NoRegistry(String),
    /// The destination names another digest than the image has.
    #[error("{to} names another image than {digest}, which is to be pushed")]
    Other {
        /// The destination.
        to: String,
        /// The image.
        digest: Digest,
    },
}

impl Diagnostic for PushError {
    fn code(&self) -> &'static str {
        "E-PUSH-TO"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            PushError::NoRegistry(_) => {
                "write docker://HOST/NAME:TAG; `pull` writes directories and archives".into()
            }
            PushError::Other { .. } => "name the tag alone, or the digest of the image".into(),
        })
    }
}

/// Pushes to all destinations.
pub fn push(request: &Request, remote: &Remote<'_>) -> Result<Vec<Pushed>, Failure> {
    crate::sha256::provide();
    for to in &request.to {
        if to.name().is_none() {
            return Err(PushError::NoRegistry(to.to_string()).into());
        }
    }
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let subject = &request.subject;
    let source = match subject.name() {
        Some(name) => Some(Repository::connect(&fetcher, name, false)?),
        None => None,
    };
    let which = Which { platform: request.platform.as_ref(), layers: false, referrers: true };
    let store = match &source {
        Some(repository) => registry::open(repository, subject.tag(), subject.digest(), which)?,
        None => ImageStore::open(subject)?,
    };
    let store = store.sound()?;
    let image = Image::of(&store, request)?;
    let digest = image.root.descriptor.digest.clone();
    for to in &request.to {
        if to.digest().is_some_and(|wanted| *wanted != digest) {
            return Err(PushError::Other { to: to.to_string(), digest }.into());
        }
    }
    let uploads = remote.network.cache.as_deref().map(Uploads::open).transpose()?;
    let pusher =
        Pusher { remote, fetcher: &fetcher, store: &store, source: source.as_ref(), uploads, request };
    let mut done = Vec::new();
    let mut tags = Vec::new();
    for to in &request.to {
        let Some(name) = to.name() else { continue };
        let repository = Repository::connect(&fetcher, name, true)?;
        done.push(pusher.fill(&repository, &image, to)?);
        tags.push((repository, to.tag()));
    }
    for (repository, tag) in tags.iter().filter(|_| !request.dry_run) {
        if let Some(tag) = tag {
            let root = &image.root;
            repository.put_manifest(Named::Tag(tag), &root.descriptor.media_type, &root.bytes)?;
        }
    }
    remote.watch.all_fetched();
    Ok(done)
}

/// A manifest or index, and all that it leads to.
struct Tree {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    below: Vec<Tree>,
    /// Configuration and layers.
    blobs: Vec<Descriptor>,
    /// What it refers to.
    subject: Option<Digest>,
}

/// What is pushed.
struct Image {
    root: Tree,
    /// What refers to it, what is referred to first.
    referrers: Vec<Tree>,
}

impl Image {
    fn of(store: &ImageStore, request: &Request) -> Result<Image, Failure> {
        let (tag, digest) = (request.subject.tag(), request.subject.digest());
        let descriptor = match &request.platform {
            Some(platform) => store.one_image(tag, digest, Some(platform))?.descriptor,
            None => {
                let mut roots = store.select(tag, digest)?;
                match (roots.pop(), roots.is_empty()) {
                    (Some(root), true) => root.descriptor,
                    _ => {
                        return Err(StoreError::Selection {
                            place: store.place().to_owned(),
                            why: "several images fit".into(),
                            help: "name a tag or a digest: oci:DIR:TAG, FILE@sha256:…".into(),
                        }
                        .into());
                    }
                }
            }
        };
        let mut left = limits::DESCRIPTORS;
        let root = tree(store, descriptor, 0, &mut left)?;
        let mut known = BTreeSet::new();
        note(&root, &mut known);
        let mut referrers = Vec::new();
        let mut lists: Vec<(String, Descriptor)> = Vec::new();
        for root in store.roots()?.into_iter().filter(|root| root.is_referrers()) {
            lists.extend(root.tags.iter().map(|tag| (tag.clone(), root.descriptor.clone())));
        }
        loop {
            let tags: BTreeSet<String> = known.iter().map(referrers_tag).collect();
            let (now, later): (Vec<_>, Vec<_>) = lists.into_iter().partition(|(tag, _)| tags.contains(tag));
            if now.is_empty() {
                return Ok(Image { root, referrers });
            }
            for (_, list) in now {
                for descriptor in store.index(&list)?.0.manifests {
                    if known.contains(&descriptor.digest) || store.blob_size(&descriptor.digest).is_none() {
                        continue;
                    }
                    let referrer = tree(store, descriptor, 0, &mut left)?;
                    note(&referrer, &mut known);
                    referrers.push(referrer);
                }
            }
            lists = later;
        }
    }
}

fn note(tree: &Tree, known: &mut BTreeSet<Digest>) {
    known.insert(tree.descriptor.digest.clone());
    tree.below.iter().for_each(|below| note(below, known));
}

/// Reads a manifest and all below it. What an index lists and the store does not have is left out.
fn tree(
    store: &ImageStore,
    descriptor: Descriptor,
    depth: usize,
    left: &mut usize,
) -> Result<Tree, StoreError> {
    let refuse = |code, why: String| StoreError::Document {
        what: format!("the document {}", descriptor.digest),
        code,
        why,
    };
    *left = left.checked_sub(1).ok_or_else(|| refuse("E-GRAPH", "there are too many descriptors".into()))?;
    if depth > limits::INDEX_DEPTH {
        return Err(refuse("E-GRAPH", "the indexes are nested too deep".into()));
    }
    let bytes = store.read_json_blob(&descriptor.digest)?;
    let value = json::parse(&bytes).map_err(|error| refuse(error.code(), error.to_string()))?;
    let unusable = || refuse("E-OCI-MISSING", "it cannot be used".into());
    let (mut below, mut blobs) = (Vec::new(), Vec::new());
    let subject = match descriptor.kind() {
        Kind::Index => {
            let index = Index::read(&value, &mut Vec::new()).ok_or_else(unusable)?;
            for child in index.manifests {
                let is_manifest = matches!(child.kind(), Kind::Index | Kind::Manifest);
                if is_manifest && store.blob_size(&child.digest).is_some() {
                    below.push(tree(store, child, depth + 1, left)?);
                }
            }
            index.subject
        }
        _ => {
            let manifest = Manifest::read(&value, &mut Vec::new()).ok_or_else(unusable)?;
            blobs.push(manifest.config);
            blobs.extend(manifest.layers);
            manifest.subject
        }
    };
    let subject = subject.map(|subject| subject.digest);
    Ok(Tree { descriptor, bytes, below, blobs, subject })
}

/// Pushes one image.
struct Pusher<'a> {
    remote: &'a Remote<'a>,
    fetcher: &'a Fetcher<'a>,
    store: &'a ImageStore,
    source: Option<&'a Repository<'a>>,
    uploads: Option<Uploads>,
    request: &'a Request,
}

impl Pusher<'_> {
    /// Sees to it that a repository has everything but the tag.
    fn fill(&self, to: &Repository<'_>, image: &Image, subject: &Subject) -> Result<Pushed, Failure> {
        let mut missing: Vec<&Tree> = Vec::new();
        for tree in std::iter::once(&image.root).chain(&image.referrers) {
            absent(to, tree, &mut missing)?;
        }
        let mut blobs: BTreeMap<&Digest, &Descriptor> = BTreeMap::new();
        for tree in &missing {
            blobs.extend(tree.blobs.iter().map(|blob| (&blob.digest, blob)));
        }
        // What the image names that has the tag now is there.
        if let Some(tag) = subject.tag()
            && !blobs.is_empty()
        {
            for there in to.named_by(tag) {
                blobs.remove(&there);
            }
        }
        let foreign = |blob: &Descriptor| media_type::is_foreign(&blob.media_type) && !blob.urls.is_empty();
        let blobs: Vec<&Descriptor> = blobs.into_values().filter(|blob| !foreign(blob)).collect();
        let watch = self.remote.watch;
        watch.total(blobs.iter().map(|blob| blob.size).sum());
        let put = parallel(&blobs, |blob| {
            let put = self.put(to, blob)?;
            if put != Put::Sent {
                watch.wrote(blob.size);
            }
            Ok::<Put, Failure>(put)
        })?;
        let of = |wanted: Put| put.iter().filter(move |put| **put == wanted).count();
        let sent = blobs.iter().zip(&put).filter(|(_, put)| **put == Put::Sent);
        let pushed = Pushed {
            to: subject.clone(),
            digest: image.root.descriptor.digest.clone(),
            sent: of(Put::Sent),
            bytes: sent.map(|(blob, _)| blob.size).sum(),
            mounted: of(Put::Mounted),
            manifests: missing.len(),
        };
        if self.request.dry_run {
            return Ok(pushed);
        }
        for tree in missing {
            let descriptor = &tree.descriptor;
            let listed =
                to.put_manifest(Named::Digest(&descriptor.digest), &descriptor.media_type, &tree.bytes)?;
            if let (Some(subject), false) = (&tree.subject, listed) {
                to.list_referrer(subject, &described(tree))?;
            }
        }
        Ok(pushed)
    }

    fn put(&self, to: &Repository<'_>, blob: &Descriptor) -> Result<Put, Failure> {
        if to.has_blob(blob)? {
            return Ok(Put::There);
        }
        if self.request.dry_run {
            return Ok(Put::Sent);
        }
        let near = self.source.filter(|source| source.name().host() == to.name().host());
        if let Some(source) = near
            && source.name() != to.name()
            && to.mount(&blob.digest, source.name())?
        {
            return Ok(Put::Mounted);
        }
        let watch = self.remote.watch;
        let told = |bytes| watch.wrote(bytes);
        let uploads = self.uploads.as_ref();
        match (self.store.blob_size(&blob.digest), self.source) {
            (None, Some(source)) => {
                let wanted = source.wanted(blob)?;
                let file =
                    self.fetcher.file(&wanted).map_err(|error| source.failed("read a blob of", error))?;
                to.upload(blob, &Held(Arc::clone(file.file())), uploads, &told)?;
            }
            _ => {
                self.check(blob)?;
                to.upload(blob, &Stored(self.store, &blob.digest), uploads, &told)?;
            }
        }
        Ok(Put::Sent)
    }

    /// A blob of a store is hashed before it is sent.
    fn check(&self, blob: &Descriptor) -> Result<(), StoreError> {
        let place = || self.store.place().to_owned();
        let io = |source| StoreError::Io { path: place(), source };
        let mut reader = self.store.open_blob(&blob.digest)?;
        let (found, size) = Digest::of_reader(blob.digest.algorithm(), &mut reader).map_err(io)?;
        match found == blob.digest && size == blob.size {
            true => Ok(()),
            false => {
                let (expected, found) = (blob.digest.clone(), Box::new(found));
                Err(StoreError::Digest { place: place(), expected, found })
            }
        }
    }
}

/// The manifests of a tree that a repository does not have, what is named before what names it.
fn absent<'t>(to: &Repository<'_>, tree: &'t Tree, missing: &mut Vec<&'t Tree>) -> Result<(), RegistryError> {
    if to.has_manifest(Named::Digest(&tree.descriptor.digest))? {
        return Ok(());
    }
    for below in &tree.below {
        absent(to, below, missing)?;
    }
    missing.push(tree);
    Ok(())
}

/// A descriptor as the lists of referrers have them: with the type of the artifact and its annotations.
fn described(tree: &Tree) -> Descriptor {
    let value = json::parse(&tree.bytes).unwrap_or_default();
    let mut descriptor = Descriptor::new(
        &*tree.descriptor.media_type,
        tree.descriptor.digest.clone(),
        tree.bytes.len() as u64,
    );
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    descriptor.artifact_type = text(&value["artifactType"]).or_else(|| text(&value["config"]["mediaType"]));
    if let Some(annotations) = value["annotations"].as_object() {
        let pair = |(name, value): (&String, &serde_json::Value)| Some((name.clone(), text(value)?));
        descriptor.annotations = annotations.iter().filter_map(pair).collect();
    }
    descriptor
}

/// A blob of a store.
struct Stored<'a>(&'a ImageStore, &'a Digest);

impl Content for Stored<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        let reader = self.0.open_blob_at(self.1, from).map_err(io::Error::other)?;
        Ok(Box::new(reader))
    }
}

/// A file of the download cache.
struct Held(Arc<File>);

impl Content for Held {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(From(&self.0, from)))
    }
}

/// A file from there on.
struct From<'a>(&'a File, u64);

impl Read for From<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(out, self.1)?;
        self.1 += count as u64;
        Ok(count)
    }
}
