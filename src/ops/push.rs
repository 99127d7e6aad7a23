//! `dmoci push` and `copy`: an image, with all that refers to it, into repositories.
//!
//! Blobs come first, then the manifests that name them, then what refers to these; tags move last, when every destination
//! has everything.

mod content;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dmoci_layers::Digest;

use super::remote::{Remote, Told};
use crate::cache::Uploads;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::fetch::Fetcher;
use crate::oci::manifest::Manifest;
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, json};
use crate::store::registry::{self, Named, Put, Repository, Which, parallel};
use crate::store::{ImageStore, StoreError, Subject};
use content::{Held, Stored};
pub(super) use tree::Image;
use tree::{Tree, absent, described};

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
    for subject in request.to.iter().chain([&request.subject]) {
        remote.online(subject)?;
    }
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let platform = request.platform.as_ref();
    let which = Which { platform, layers: false, referrers: true, signatures: true, ..Which::default() };
    let (store, source) = open(&request.subject, which, &fetcher)?;
    let store = store.sound()?;
    let image = Image::of(&store, (request.subject.tag(), request.subject.digest()), platform, remote.watch)?;
    let sources: Vec<Source<'_>> = source.into_iter().collect();
    let ready = Ready { store: &store, sources: &sources, image };
    let done = send(&ready, &request.to, request.dry_run, &fetcher, remote)?;
    remote.watch.all_fetched();
    Ok(done)
}

/// Opens an image that is to go elsewhere, and says which repository it comes from.
pub(super) fn open<'a>(
    subject: &Subject,
    which: Which<'_>,
    fetcher: &'a Fetcher<'a>,
) -> Result<(ImageStore, Option<Source<'a>>), Failure> {
    let Some(name) = subject.name() else { return Ok((ImageStore::open(subject)?, None)) };
    let repository = Repository::connect(fetcher, name, false)?;
    let store = registry::open(&repository, subject.tag(), subject.digest(), which)?;
    let documents = store.blobs().cloned().collect();
    Ok((store, Some(Source { repository, documents })))
}

/// A repository that something comes from.
pub(super) struct Source<'a> {
    repository: Repository<'a>,
    /// What was read there, manifests among it, or blobs that are there.
    documents: BTreeSet<Digest>,
}

impl<'a> Source<'a> {
    /// A repository that has these blobs, whatever names them.
    pub(super) fn of(repository: Repository<'a>, blobs: BTreeSet<Digest>) -> Source<'a> {
        Source { repository, documents: blobs }
    }
}

/// An image that may go, and where all that it names is.
pub(super) struct Ready<'a> {
    /// Holds its documents, and what is in no registry.
    pub(super) store: &'a ImageStore,
    pub(super) sources: &'a [Source<'a>],
    pub(super) image: Image,
}

/// Sends to all destinations, the tags last.
pub(super) fn send(
    ready: &Ready<'_>,
    to: &[Subject],
    dry_run: bool,
    fetcher: &Fetcher<'_>,
    remote: &Remote<'_>,
) -> Result<Vec<Pushed>, Failure> {
    let root = &ready.image.root;
    for to in to {
        let digest = root.descriptor.digest.clone();
        if to.digest().is_some_and(|wanted| *wanted != digest) {
            return Err(PushError::Other { to: to.to_string(), digest }.into());
        }
    }
    let uploads = remote.network.cache.as_deref().map(Uploads::open).transpose()?;
    let pusher = Pusher { remote, fetcher, ready, uploads, dry_run };
    let (mut done, mut tags) = (Vec::new(), Vec::new());
    for to in to {
        let Some(name) = to.name() else { return Err(PushError::NoRegistry(to.to_string()).into()) };
        let repository = Repository::connect(fetcher, name, true)?;
        done.push(pusher.fill(&repository, to)?);
        tags.push((repository, to.tag()));
    }
    for (repository, tag) in tags.iter().filter(|_| !dry_run) {
        for (tag, tree) in &ready.image.older {
            put_older(repository, tag, tree, remote)?;
        }
        if let Some(tag) = tag {
            repository.put_manifest(Named::Tag(tag), &root.descriptor.media_type, &root.bytes)?;
        }
    }
    Ok(done)
}

/// Gives evidence the tag that cosign looks for. What is there under it goes only when the new has all of it.
fn put_older(to: &Repository<'_>, tag: &str, tree: &Tree, remote: &Remote<'_>) -> Result<(), Failure> {
    if let Some(there) = to.find(tag, &format!("read the manifest {tag} of"))? {
        if there.descriptor.digest == tree.descriptor.digest {
            return Ok(());
        }
        let value = json::parse(&there.bytes).unwrap_or_default();
        let layers = Manifest::read(&value, &mut Vec::new()).map(|manifest| manifest.layers);
        let has = |digest: &Digest| tree.blobs.iter().any(|blob| blob.digest == *digest);
        if !layers.is_some_and(|layers| layers.iter().all(|layer| has(&layer.digest))) {
            let name = to.name();
            remote.watch.status(
                "Keeping",
                &format!("{name}:{tag}: it has signatures or evidence that the image to be pushed lacks"),
            );
            return Ok(());
        }
    }
    to.put_manifest(Named::Tag(tag), &tree.descriptor.media_type, &tree.bytes)?;
    Ok(())
}

/// So many blobs are asked for one by one before an image that is there is looked at.
const ASKED_FOR: usize = 3;

/// Pushes one image.
struct Pusher<'a> {
    remote: &'a Remote<'a>,
    fetcher: &'a Fetcher<'a>,
    ready: &'a Ready<'a>,
    uploads: Option<Uploads>,
    dry_run: bool,
}

/// A blob that a destination may lack.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    blob: &'a Descriptor,
    /// Where the manifest that names it was read.
    source: Option<&'a Repository<'a>>,
}

impl<'a> Pusher<'a> {
    /// Sees to it that a repository has everything but the tag.
    fn fill(&self, to: &Repository<'_>, subject: &Subject) -> Result<Pushed, Failure> {
        let image = &self.ready.image;
        let mut missing: Vec<&Tree> = Vec::new();
        let older = image.older.iter().map(|(_, tree)| tree);
        for tree in std::iter::once(&image.root).chain(&image.referrers).chain(older) {
            absent(to, tree, &mut missing)?;
        }
        let mut blobs: BTreeMap<&Digest, Wanted<'a>> = BTreeMap::new();
        for tree in &missing {
            let source = self.source(&tree.descriptor.digest);
            blobs.extend(tree.blobs.iter().map(|blob| {
                let source = source.or_else(|| self.source(&blob.digest));
                (&blob.digest, Wanted { blob, source })
            }));
        }
        // What the image names that has the tag now is there; that of another tag will do.
        if let Some(tag) = subject.tag()
            && blobs.len() > ASKED_FOR
        {
            for there in to.named_by(&to.like(tag)) {
                blobs.remove(&there);
            }
        }
        let foreign = |blob: &Descriptor| media_type::is_foreign(&blob.media_type) && !blob.urls.is_empty();
        let blobs: Vec<Wanted<'_>> = blobs.into_values().filter(|one| !foreign(one.blob)).collect();
        let watch = self.remote.watch;
        watch.total(blobs.iter().map(|one| one.blob.size).sum());
        let put = parallel(&blobs, |one| {
            let put = self.put(to, one)?;
            if put != Put::Sent {
                watch.wrote(one.blob.size);
            }
            Ok::<Put, Failure>(put)
        })?;
        let of = |wanted: Put| put.iter().filter(move |put| **put == wanted).count();
        let sent = blobs.iter().zip(&put).filter(|(_, put)| **put == Put::Sent);
        let pushed = Pushed {
            to: subject.clone(),
            digest: image.root.descriptor.digest.clone(),
            sent: of(Put::Sent),
            bytes: sent.map(|(one, _)| one.blob.size).sum(),
            mounted: of(Put::Mounted),
            manifests: missing.len(),
        };
        if self.dry_run {
            return Ok(pushed);
        }
        for tree in &missing {
            let descriptor = &tree.descriptor;
            let listed =
                to.put_manifest(Named::Digest(&descriptor.digest), &descriptor.media_type, &tree.bytes)?;
            if let (Some(subject), false) = (&tree.subject, listed) {
                to.list_referrer(subject, &described(tree))?;
            }
        }
        self.relist(to, &missing)?;
        Ok(pushed)
    }

    /// A push that was stopped may have written what refers to an image, and not have listed it.
    fn relist(&self, to: &Repository<'_>, written: &[&Tree]) -> Result<(), Failure> {
        let mut there: BTreeMap<&Digest, Vec<&Tree>> = BTreeMap::new();
        for tree in &self.ready.image.referrers {
            let new = written.iter().any(|other| other.descriptor.digest == tree.descriptor.digest);
            if let (Some(subject), false) = (&tree.subject, new) {
                there.entry(subject).or_default().push(tree);
            }
        }
        for (subject, trees) in there {
            let listed = to.referrers(subject)?;
            for tree in trees {
                if listed.iter().all(|one| one.digest != tree.descriptor.digest) {
                    to.list_referrer(subject, &described(tree))?;
                }
            }
        }
        Ok(())
    }

    /// The repository that a manifest was read from, or that has a blob.
    fn source(&self, digest: &Digest) -> Option<&'a Repository<'a>> {
        let ready = self.ready;
        let source = ready.sources.iter().find(|source| source.documents.contains(digest));
        source.map(|source| &source.repository)
    }

    fn put(&self, to: &Repository<'_>, wanted: &Wanted<'_>) -> Result<Put, Failure> {
        let Wanted { blob, source } = *wanted;
        if to.has_blob(blob)? {
            return Ok(Put::There);
        }
        if self.dry_run {
            return Ok(Put::Sent);
        }
        let near = source.filter(|source| source.name().host() == to.name().host());
        if let Some(source) = near
            && source.name() != to.name()
            && to.mount(&blob.digest, source.name())?
        {
            return Ok(Put::Mounted);
        }
        let watch = self.remote.watch;
        let told = |bytes| watch.wrote(bytes);
        let uploads = self.uploads.as_ref();
        let store = self.ready.store;
        match (store.blob_size(&blob.digest), source) {
            (None, Some(source)) => {
                let wanted = source.wanted(blob)?;
                let file =
                    self.fetcher.file(&wanted).map_err(|error| source.failed("read a blob of", error))?;
                to.upload(blob, &Held(Arc::clone(file.file())), uploads, &told)?;
            }
            (None, None) => {
                let (place, digest) = (store.place().to_owned(), blob.digest.clone());
                return Err(StoreError::Missing { place, digest }.into());
            }
            _ => {
                let stored = Stored::new(store, blob);
                let sent = to.upload(blob, &stored, uploads, &told);
                // Why it did not go is that it is another one.
                stored.verdict()?;
                sent?;
            }
        }
        Ok(Put::Sent)
    }
}
