//! Where images lie: OCI layouts in directories, archives of `docker save`, podman, skopeo and dmoci, and registries.
//!
//! [`ImageStore`] is one view of all of them: `index.json` and blobs by digest. What is not as it should be but lets
//! the rest be read is kept as a problem for `verify`; only what leaves nothing to read is an error.

pub mod archive;
mod daemon;
pub mod error;
mod evidence;
pub mod image;
mod joined;
pub mod layout;
pub mod registry;
pub mod subject;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dmoci_layers::{Algorithm, Digest, Hasher};

pub use error::{SPARSE, StoreError};
pub use subject::{Subject, Transport};

use crate::cache::KeyWriter;
use crate::files::Stamp;
use crate::limits;
use crate::oci::index::{SelfDigest, self_digest};
use crate::oci::{Problem, Severity};

/// How an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An OCI image layout in a directory.
    Layout,
    /// An OCI image layout in a tar archive, with or without a `manifest.json` for Docker.
    Archive,
    /// An archive of an older `docker save`, which has no OCI documents: `index.json` and the manifests are made
    /// here from `manifest.json`, and digests of layers are those of what was found.
    LegacyArchive,
    /// A repository of a registry: `index.json` is made here, and names what was asked for.
    Registry,
}

/// An image store that was opened for reading.
///
/// Can be shared by threads. Nothing in it has been verified unless a method says so.
pub struct ImageStore {
    form: Form,
    place: PathBuf,
    layout_file: Option<Vec<u8>>,
    index: Vec<u8>,
    docker_manifest: Option<Vec<u8>>,
    blobs: BTreeMap<Digest, Blob>,
    strays: Vec<String>,
    problems: Vec<(String, Problem)>,
    members: Vec<archive::ArchiveMember>,
    backing: Backing,
    whole_compressed: bool,
    streamed: bool,
}

/// Where the bytes of a blob are.
enum Blob {
    /// A file of a layout.
    File { size: u64 },
    /// A part of an archive.
    Range { offset: u64, size: u64 },
    /// Made here, or a small document that was fetched.
    Memory(Arc<[u8]>),
    /// A file of the download cache.
    Held { file: Arc<File>, size: u64 },
    /// A blob of another store.
    Of { store: Arc<ImageStore>, size: u64 },
    /// One that is fetched when it is needed.
    Awaited(OnceLock<(Arc<File>, u64)>),
}

enum Backing {
    Directory(Arc<OwnedFd>),
    Archive(Arc<File>),
    /// Each blob is for itself.
    Fetched,
}

impl ImageStore {
    /// Opens what a subject names. The tag or digest of the subject plays no part here.
    pub fn open(subject: &Subject) -> Result<ImageStore, StoreError> {
        let path = subject.path();
        if let Some(image) = subject.image() {
            return daemon::open(path, image);
        }
        if subject.name().is_some() {
            return Err(StoreError::Remote { subject: subject.to_string() });
        }
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { path: path.to_owned() },
            _ => io(source),
        })?;
        match (subject.transport(), metadata.is_dir()) {
            (Transport::Oci | Transport::Bare, true) => layout::open(path),
            (Transport::Oci, false) => Err(StoreError::NotALayout { path: path.to_owned() }),
            (Transport::Registry, _) => Err(StoreError::Remote { subject: subject.to_string() }),
            (_, true) => Err(StoreError::NotAnArchive { path: path.to_owned() }),
            (transport, false) => {
                let store = archive::open(path)?;
                let (found, write) = match transport {
                    Transport::OciArchive if store.form == Form::LegacyArchive => {
                        ("has no OCI image layout", "docker-archive:FILE")
                    }
                    Transport::DockerArchive if store.docker_manifest.is_none() => {
                        ("has no manifest.json for Docker", "oci-archive:FILE")
                    }
                    _ => return Ok(store),
                };
                Err(StoreError::OtherArchive { path: path.to_owned(), found, write })
            }
        }
    }

    /// Opens what a subject names for use, not for examination: see [`ImageStore::sound`].
    pub fn open_sound(subject: &Subject) -> Result<ImageStore, StoreError> {
        ImageStore::open(subject)?.sound()
    }

    /// Opens what a subject names for those who only look, or go by a digest: see [`ImageStore::usable`].
    pub fn open_usable(subject: &Subject) -> Result<ImageStore, StoreError> {
        ImageStore::open(subject)?.usable()
    }

    /// The store, unless anything is wrong with its container.
    pub fn sound(self) -> Result<ImageStore, StoreError> {
        let store = self.usable()?;
        match self_digest(&store.index) {
            SelfDigest::Malformed | SelfDigest::Wrong { .. } => {
                Err(StoreError::Touched { place: store.place, archive: store.form != Form::Layout })
            }
            SelfDigest::Right | SelfDigest::Unmarked => Ok(store),
        }
    }

    /// The same, but for the digest that `index.json` carries of itself: another tool may have added an image since, and
    /// names and tags count as little here as in any layout of another tool.
    pub fn usable(self) -> Result<ImageStore, StoreError> {
        match self.problems.iter().find(|(_, problem)| problem.severity == Severity::Error) {
            None => Ok(self),
            Some((place, problem)) => Err(StoreError::Document {
                what: format!("{} in {}", place, self.place.display()),
                code: problem.code,
                why: problem.message.clone(),
            }),
        }
    }

    /// How the image is stored.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The directory or file; of an image that came from a daemon, what it was asked for.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The bytes of `index.json`; made here for [`Form::LegacyArchive`].
    pub fn index_bytes(&self) -> &[u8] {
        &self.index
    }

    /// The bytes of `oci-layout`, when it is there.
    pub fn layout_file(&self) -> Option<&[u8]> {
        self.layout_file.as_deref()
    }

    /// The bytes of an archive's `manifest.json`, when it is there.
    pub fn docker_manifest(&self) -> Option<&[u8]> {
        self.docker_manifest.as_deref()
    }

    /// The digests that name the blobs that are there, sorted.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.keys()
    }

    /// The size of a blob as it lies there, or nothing when it does not.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        Some(match self.blobs.get(digest)? {
            Blob::File { size }
            | Blob::Range { size, .. }
            | Blob::Held { size, .. }
            | Blob::Of { size, .. } => *size,
            Blob::Memory(bytes) => bytes.len() as u64,
            Blob::Awaited(come) => come.get()?.1,
        })
    }

    /// Names that no part of the specification accounts for, escaped for printing.
    pub fn strays(&self) -> &[String] {
        &self.strays
    }

    /// What is wrong with the container itself: where, and what.
    pub fn problems(&self) -> &[(String, Problem)] {
        &self.problems
    }

    /// The members of an archive in their order; none for a layout.
    pub fn members(&self) -> &[archive::ArchiveMember] {
        &self.members
    }

    /// True when the whole archive was compressed (and is read from a temporary file).
    pub fn is_whole_compressed(&self) -> bool {
        self.whole_compressed
    }

    /// Writes into a key what tells whether anything of the store has changed: documents whole, of all else the state of
    /// its file.
    pub fn decide(&self, key: &mut KeyWriter) {
        key.number(match self.form {
            Form::Layout => 0,
            Form::Archive => 1,
            Form::LegacyArchive => 2,
            Form::Registry => 3,
        });
        for part in [Some(&self.index), self.layout_file.as_ref(), self.docker_manifest.as_ref()] {
            key.number(part.is_some().into());
            key.bytes(part.map(Vec::as_slice).unwrap_or_default());
        }
        match &self.backing {
            Backing::Fetched => key.spoil(),
            // What was unpacked for this run only is not what the next one sees.
            Backing::Archive(_) if self.whole_compressed || self.streamed => key.spoil(),
            Backing::Archive(file) => match Stamp::of_file(file) {
                Ok(stamp) => key.stamp(&stamp),
                Err(_) => key.spoil(),
            },
            Backing::Directory(root) => {
                for digest in self.blobs.keys() {
                    key.bytes(digest.to_string().as_bytes());
                    match layout::stamp(root, digest) {
                        Ok(stamp) => key.stamp(&stamp),
                        Err(_) => key.spoil(),
                    }
                }
            }
        }
    }

    /// The file that holds a blob and nothing else, in the download cache, when its content was found right.
    pub fn held(&self, digest: &Digest) -> Option<&Arc<File>> {
        match self.blobs.get(digest)? {
            Blob::Held { file, .. } => Some(file),
            Blob::Of { store, .. } => store.held(digest),
            Blob::Awaited(come) => come.get().map(|(file, _)| file),
            _ => None,
        }
    }

    /// Takes the file of a blob that is awaited. Its content is the caller's to judge.
    pub fn bring(&self, digest: &Digest, file: Arc<File>, size: u64) {
        if let Some(Blob::Awaited(come)) = self.blobs.get(digest) {
            // Whoever came first had the same.
            let _ = come.set((file, size));
        }
    }

    /// True when a daemon made the archive for this run, so that nobody holds its digest.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Opens a blob. Reads at most [`limits::BLOB_BYTES`]; the bytes are not compared with the digest.
    pub fn open_blob(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        let missing = || StoreError::Missing { place: self.place.clone(), digest: digest.clone() };
        let blob = self.blobs.get(digest).ok_or_else(missing)?;
        Ok(BlobReader(match (blob, &self.backing) {
            (Blob::Memory(bytes), _) => Source::Memory(Cursor::new(Arc::clone(bytes))),
            (Blob::Of { store, .. }, _) => return store.open_blob(digest),
            (Blob::Held { file, size }, _) => {
                Source::Range { file: Arc::clone(file), at: 0, left: (*size).min(limits::BLOB_BYTES) }
            }
            (Blob::Awaited(come), _) => {
                let (file, size) = come.get().ok_or_else(missing)?;
                Source::Range { file: Arc::clone(file), at: 0, left: (*size).min(limits::BLOB_BYTES) }
            }
            (Blob::File { .. }, Backing::Directory(root)) => {
                Source::File(layout::open_blob(root, &self.place, digest)?.take(limits::BLOB_BYTES))
            }
            (Blob::Range { offset, size }, Backing::Archive(file)) => {
                Source::Range { file: Arc::clone(file), at: *offset, left: (*size).min(limits::BLOB_BYTES) }
            }
            _ => return Err(missing()),
        }))
    }

    /// The same, from there on.
    pub fn open_blob_at(&self, digest: &Digest, from: u64) -> Result<BlobReader, StoreError> {
        let mut reader = self.open_blob(digest)?;
        let io = |source| StoreError::Io { path: self.place.clone(), source };
        match &mut reader.0 {
            Source::File(file) => {
                let left = file.limit().saturating_sub(from);
                file.get_mut().seek(SeekFrom::Start(from)).map_err(io)?;
                file.set_limit(left);
            }
            Source::Memory(bytes) => bytes.set_position(from),
            Source::Range { at, left, .. } => {
                let skipped = from.min(*left);
                *at += skipped;
                *left -= skipped;
            }
        }
        Ok(reader)
    }

    /// Reads a JSON document of at most [`limits::JSON_BYTES`], and checks that its bytes have this digest.
    pub fn read_json_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let bytes = self.read_unverified(digest)?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        match found == *digest {
            true => Ok(bytes),
            false => Err(StoreError::Digest {
                place: self.place.clone(),
                expected: digest.clone(),
                found: Box::new(found),
            }),
        }
    }

    /// Reads a JSON document of at most [`limits::JSON_BYTES`] without looking at its digest.
    pub fn read_unverified(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let reader = self.open_blob(digest)?;
        let read = reader.take(limits::JSON_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| StoreError::Io { path: self.place.clone(), source })?;
        if bytes.len() as u64 > limits::JSON_BYTES {
            return Err(StoreError::DocumentSize { digest: digest.clone(), limit: limits::JSON_BYTES });
        }
        Ok(bytes)
    }

    /// Bytes of the archive from `offset`, fewer at its end; nothing for a layout.
    pub fn archive_bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let Backing::Archive(file) = &self.backing else { return Ok(Vec::new()) };
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::Io { path: self.place.clone(), source }),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

/// Reads the bytes of one blob. Reading it twice means opening it twice.
pub struct BlobReader(Source);

enum Source {
    File(io::Take<File>),
    Range { file: Arc<File>, at: u64, left: u64 },
    Memory(Cursor<Arc<[u8]>>),
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::File(file) => file.read(out),
            Source::Memory(bytes) => bytes.read(out),
            Source::Range { file, at, left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
                let n = file.read_at(&mut out[..most], *at)?;
                *at += n as u64;
                *left -= n as u64;
                Ok(n)
            }
        }
    }
}

/// The digest that a file name of `blobs/ALGORITHM/` stands for.
fn blob_name(algorithm: &[u8], name: &[u8]) -> Option<Digest> {
    let algorithm = std::str::from_utf8(algorithm).ok()?;
    let name = std::str::from_utf8(name).ok()?;
    [Algorithm::Sha256, Algorithm::Sha512].iter().any(|known| known.name() == algorithm).then_some(())?;
    format!("{algorithm}:{name}").parse().ok()
}
