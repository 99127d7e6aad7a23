//! `dmoci sign`: a key's signature of what is there. Nothing is built, and nothing is written twice.

mod referrer;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;

use super::content::Content;
use super::export;
use super::remote::{Remote, Told};
use super::wheel::companions;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::files;
use crate::limits;
use crate::oci::index::{SelfDigest, self_digest};
use crate::store::layout::write::LayoutWriter;
use crate::store::registry::{self, Named, Repository};
use crate::store::{ImageStore, StoreError, Subject, Transport};
use crate::trust::SigningKey;
use crate::trust::bundle;
use referrer::Referrer;

/// What to sign, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// A file, or an image.
    pub subject: Subject,
    /// By whom.
    pub key: &'a SigningKey,
    /// Where the bundle of a file goes; beside it without that.
    pub bundle: Option<PathBuf>,
    /// Whether a file gets a raw signature too.
    pub raw: bool,
    /// The time that the manifest around an image's signature says: a constant, or `SOURCE_DATE_EPOCH`.
    pub created: String,
    /// Threads that verify an archive that is written anew.
    pub threads: NonZeroUsize,
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// What has the signature: a file, or the digest of a manifest.
    pub name: String,
    /// What was signed.
    pub digest: Digest,
    /// Files that hold signatures, or the manifest that does.
    pub holders: Vec<String>,
    /// False when all was there already.
    pub new: bool,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The file of the bundle is somebody else's.
    #[error("{} is there already and holds something else than this key's signature", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A signature cannot be added there.
    #[error("a signature cannot be added to {0}")]
    Place(String),
    /// Writing failed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key gives no signature, which no key that could be opened does.
    #[error("the key does not sign")]
    Key,
}

impl Diagnostic for SignError {
    fn code(&self) -> &'static str {
        match self {
            SignError::Exists { .. } => "E-SIGN-EXISTS",
            SignError::Place(_) => "E-SIGN-PLACE",
            SignError::Write { .. } => "E-WRITE",
            SignError::Key => "E-KEY",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            SignError::Write { .. } => Exit::Undecided,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            SignError::Exists { .. } => Some("name another file with --bundle, or move it away yourself".into()),
            SignError::Place(_) => Some(
                "sign a layout, an image in a registry, or an archive by `dmoci export -o oci-archive:FILE`; a path alone signs the file as a whole"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Signs one subject.
pub fn sign(request: &Request<'_>, remote: &Remote<'_>) -> Result<Signed, Failure> {
    crate::sha256::provide();
    let subject = &request.subject;
    let path = subject.path();
    match subject.transport() {
        Transport::Registry => in_registry(request, remote),
        Transport::Bare if path.is_file() && subject.digest().is_none() => file(request, path),
        Transport::OciArchive if path.is_file() => in_archive(request, path),
        Transport::Oci | Transport::Bare if path.is_dir() => in_layout(request, remote, path),
        Transport::Oci | Transport::OciArchive | Transport::Bare if fs::symlink_metadata(path).is_err() => {
            let mut failure = Failure::from(StoreError::NotFound { path: path.to_owned() });
            failure.help = Some(ANYTHING.to_owned());
            Err(failure)
        }
        _ => Err(SignError::Place(subject.to_string()).into()),
    }
}

/// What a subject can be.
const ANYTHING: &str = "name a file that is there (a wheel, an sdist, SHA256SUMS, any other), a directory with an OCI image layout, or, \
                        for an image in a registry, docker://HOST/NAME:TAG";

/// `X.sigstore.json` beside X, and `X.sig` where that is wanted.
fn file(request: &Request<'_>, path: &Path) -> Result<Signed, Failure> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let digest = files::digest(&File::open(path).map_err(io)?, |_| {}).map_err(io)?;
    let bytes = bundle::of_file(request.key, &digest).ok_or(SignError::Key)?;
    let at = request.bundle.clone().unwrap_or_else(|| holder(path, ".sigstore.json"));
    let mut holders = vec![at.display().to_string()];
    let mut new = place(&at, &bytes, |old| mine(old, request.key))?;
    if request.raw || path.file_name().is_some_and(|name| name == "SHA256SUMS") {
        let raw = bundle::raw(&digest).and_then(|digest| request.key.sign_digest(&digest));
        let raw = raw.ok_or(SignError::Key)?;
        let at = holder(path, ".sig");
        // What a key signed says nothing of the key; the bundle does, and was this key's.
        new |= place(&at, &raw, |old| old.first() == Some(&0x30) && old.len() <= 72)?;
        holders.push(at.display().to_string());
    }
    Ok(Signed { name: path.display().to_string(), digest, holders, new })
}

/// Where a signature of a file is, or will be: beside it, but of what lies in an output directory's folder of distributions in that of
/// evidence, unless there is one beside it already.
pub(super) fn holder(path: &Path, ending: &str) -> PathBuf {
    let beside = beside(path, ending);
    match companions::place(path, ending).filter(|_| !beside.exists()) {
        Some(place) => place,
        None => beside,
    }
}

/// The same name with something behind it.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// True for a bundle that names this key.
fn mine(old: &[u8], key: &SigningKey) -> bool {
    let value = crate::oci::json::parse(old).unwrap_or_default();
    value["verificationMaterial"]["publicKey"]["hint"].as_str() == Some(key.public().hint().as_str())
}

/// Writes a file, in one moment. One that holds the same stays; one that is not ours is never replaced. True when it was written.
fn place(path: &Path, bytes: &[u8], is_ours: impl Fn(&[u8]) -> bool) -> Result<bool, SignError> {
    let failed = |source| SignError::Write { path: path.to_owned(), source };
    if files::holds(path, bytes) {
        return Ok(false);
    }
    if fs::symlink_metadata(path).is_ok() {
        let mut old = Vec::new();
        let read =
            files::open_regular(path).and_then(|file| file.take(limits::JSON_BYTES).read_to_end(&mut old));
        if read.is_err() || !is_ours(&old) {
            return Err(SignError::Exists { path: path.to_owned() });
        }
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    files::replace(directory, directory, &name, bytes).map_err(failed)?;
    Ok(true)
}

/// In a layout the signature stands in the list of what refers to the image, under the tag `sha256-HEX`, as `dmoci pull` writes it.
fn in_layout(request: &Request<'_>, remote: &Remote<'_>, path: &Path) -> Result<Signed, Failure> {
    // Before anything is locked: there is an image.
    let subject = &request.subject;
    ImageStore::open_sound(subject)?;
    let waits = || remote.watch.status("Blocking", "waiting for another run that writes the same directory");
    let writer = LayoutWriter::amend(path, waits)?;
    match amended(request, &writer) {
        Ok((index, signed)) => {
            match index {
                Some(index) => writer.finish(&index, &[])?,
                None => writer.abandon(),
            }
            Ok(signed)
        }
        Err(failure) => {
            writer.abandon();
            Err(failure)
        }
    }
}

/// What `index.json` becomes; nothing when the signature is there.
fn amended(request: &Request<'_>, writer: &LayoutWriter) -> Result<(Option<Vec<u8>>, Signed), Failure> {
    let (subject, place) = (&request.subject, writer.image());
    // What is there now that nobody else writes.
    let store = ImageStore::open_sound(subject)?;
    let image = referrer::chosen(&store, subject)?;
    let referrer = Referrer::new(request.key, &image, &request.created).ok_or(SignError::Key)?;
    let mut signed = referrer.signed(&image, &subject.to_string());
    let Some(addition) = referrer.addition(&store, &image)? else {
        signed.new = false;
        return Ok((None, signed));
    };
    store.blobs().filter(|blob| addition.gone.as_ref() != Some(*blob)).for_each(|blob| writer.keep(blob));
    let blobs = referrer.blobs().into_iter().chain([(&addition.list.0, addition.list.1.as_slice())]);
    for (digest, bytes) in blobs {
        let failed = |source| SignError::Write { path: place.clone(), source };
        writer.put(bytes, digest).map_err(failed)?;
    }
    Ok((Some(addition.index), signed))
}

/// An archive by dmoci is written anew, with the same list in it, verified, and put in its place. What other tools wrote has an order of
/// its own, which would be lost.
fn in_archive(request: &Request<'_>, path: &Path) -> Result<Signed, Failure> {
    let subject = &request.subject;
    let store = ImageStore::open_sound(subject)?;
    if store.is_whole_compressed() || self_digest(store.index_bytes()) != SelfDigest::Right {
        return Err(SignError::Place(subject.to_string()).into());
    }
    let image = referrer::chosen(&store, subject)?;
    let referrer = Referrer::new(request.key, &image, &request.created).ok_or(SignError::Key)?;
    let mut signed = referrer.signed(&image, &subject.to_string());
    let Some(addition) = referrer.addition(&store, &image)? else {
        signed.new = false;
        return Ok(signed);
    };
    let blobs = referrer.blobs().into_iter().map(|(digest, bytes)| (digest.clone(), bytes.to_vec()));
    let more = blobs.chain([addition.list]).collect();
    let content = Content::amended(&store, addition.index, addition.gone.as_ref(), more);
    let written = export::archive(&store, content, &subject.to_string(), subject, request.threads)?;
    signed.holders.push(format!("{} ({})", path.display(), written.digest));
    Ok(signed)
}

/// In a registry the signature is a manifest that refers to the image; where the registry has no interface for these, it is listed
/// under the tag that stands in for it.
fn in_registry(request: &Request<'_>, remote: &Remote<'_>) -> Result<Signed, Failure> {
    let subject = &request.subject;
    let name = subject.name().ok_or_else(|| SignError::Place(subject.to_string()))?;
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let repository = Repository::connect(&fetcher, name, true)?;
    let named = match (subject.digest(), subject.tag()) {
        (Some(digest), _) => Named::Digest(digest),
        (None, tag) => Named::Tag(tag.unwrap_or("latest")),
    };
    let image = repository.manifest(named)?.descriptor;
    let referrer = Referrer::new(request.key, &image, &request.created).ok_or(SignError::Key)?;
    let mut signed = referrer.signed(&image, &subject.to_string());
    let listed = repository.referrers(&image.digest)?;
    let manifest = referrer.descriptor();
    if listed.iter().any(|one| one.digest == manifest.digest) {
        signed.new = false;
        return Ok(signed);
    }
    for (blob, bytes) in referrer.content() {
        if !repository.has_blob(&blob)? {
            repository.upload(&blob, &Bytes(bytes), None, &|_| {})?;
        }
    }
    let by = Named::Digest(&manifest.digest);
    if !repository.put_manifest(by, &manifest.media_type, referrer.manifest())? {
        repository.list_referrer(&image.digest, &manifest)?;
    }
    remote.watch.all_fetched();
    Ok(signed)
}

/// A blob in memory.
struct Bytes<'a>(&'a [u8]);

impl registry::Content for Bytes<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn io::Read + '_>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(self.0.len());
        Ok(Box::new(&self.0[from..]))
    }
}
