//! What earlier runs made and learnt, for the next one: a directory of the user.
//!
//! ```text
//! <root>/                 $XDG_CACHE_HOME/dmoci, 0700, nobody else's
//!   CACHEDIR.TAG          <https://bford.info/cachedir/>
//!   build-1/
//!     blobs/<hex>         layers, and distributions of Python projects, by their sha256
//!     layer/<hex>         what a layer became, by what it was made of
//!     tree/<hex>          what a base's layer holds, by its diff_id
//!     archive/<hex>       what an archive holds, by the file and how it is read
//!     base/<hex>          that a base was found sound
//!     members/<hex>       what a base's layer says of some paths
//!     seen/<hex>          files that were found to have a digest
//!     wheel/<hex>         what a build backend made, by what it was given
//!     shared/<hex>        under which key others find a layer, by its key here
//!   downloads/            see [`Downloads`]
//! ```
//!
//! Nothing in it is believed for being there. A record carries its own kind, key and sha256, and counts only when it
//! is a regular file of this user; a blob is used when its file is the one that was hashed, unchanged by its
//! [`Stamp`], and is hashed again otherwise. So damage costs time, never a wrong byte. Every failure of the cache itself
//! is a miss: a build does not fail for it. Without a place for downloads, though, nothing can be fetched.

mod blobs;
mod downloads;
mod sweep;
mod uploads;

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use dmoci_layers::{Digest, Hasher, RULES};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Exit};
use crate::files::{Moment, Stamp, open_regular};
use crate::limits;

pub use downloads::{Downloaded, Downloads, Reserved};
pub use sweep::Usage;
pub use uploads::{Begun, Uploads};

/// Part of every key: the form of the records, and what the code that made them understood.
const FORM: &str = concat!("dmoci build cache 2 ", env!("CARGO_PKG_VERSION"));

/// Bytes that are gathered before they are hashed.
const BUFFER: usize = 8 << 10;

/// Bytes of the digest at the end of a record.
const DIGEST: u64 = 64;

const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
    # This directory was made by dmoci. It can be removed at any time.\n\
    # See https://bford.info/cachedir/\n";

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a layer became.
    Layer,
    /// What a base's layer holds.
    Tree,
    /// What an archive holds.
    Archive,
    /// That a base was found sound.
    Base,
    /// What a base's layer says of some paths.
    Members,
    /// Files that were found to have a digest.
    Seen,
    /// What a build backend made.
    Wheel,
    /// Under which key others find a layer.
    Shared,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Layer,
        Kind::Tree,
        Kind::Archive,
        Kind::Base,
        Kind::Members,
        Kind::Seen,
        Kind::Wheel,
        Kind::Shared,
    ];

    fn name(self) -> &'static str {
        match self {
            Kind::Layer => "layer",
            Kind::Tree => "tree",
            Kind::Archive => "archive",
            Kind::Base => "base",
            Kind::Members => "members",
            Kind::Seen => "seen",
            Kind::Wheel => "wheel",
            Kind::Shared => "shared",
        }
    }

    /// The largest record of the kind, in bytes.
    fn limit(self) -> u64 {
        match self {
            Kind::Tree | Kind::Archive | Kind::Members => limits::CACHE_RECORD_BYTES,
            Kind::Layer | Kind::Base | Kind::Seen | Kind::Wheel | Kind::Shared => {
                limits::CACHE_SHORT_RECORD_BYTES
            }
        }
    }
}

/// A cache directory that this user alone can write.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// Why a directory is no place for a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or looked at.
    #[error("the cache {} cannot be used", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can write it: what is in it could be anybody's.
    #[error("the cache {} can be written by other users", .0.display())]
    Foreign(PathBuf),
    /// Another user made it.
    #[error("the cache {} belongs to another user", .0.display())]
    Theirs(PathBuf),
}

impl Diagnostic for CacheError {
    fn code(&self) -> &'static str {
        "E-CACHE"
    }

    fn exit(&self) -> Exit {
        Exit::Undecided
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            CacheError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space; everything in the cache may be deleted".into()
            }
            _ => "name a directory of this user's own with XDG_CACHE_HOME".into(),
        })
    }
}

/// A directory of the cache below `root`, made when it is not there. Nobody else can write it.
fn prepare(root: &Path, name: &str) -> Result<PathBuf, CacheError> {
    // Inputs are found by the clock of a file system and paths of this run: relative ones would move.
    let root = std::path::absolute(root).map_err(at(root))?;
    let directory = root.join(name);
    for path in [&root, &directory] {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
        let metadata = fs::symlink_metadata(path).map_err(at(path))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Theirs(path.clone()));
        }
        if metadata.mode() & 0o022 != 0 || !metadata.is_dir() {
            return Err(CacheError::Foreign(path.clone()));
        }
    }
    let tag = root.join("CACHEDIR.TAG");
    if fs::symlink_metadata(&tag).is_err() {
        fs::write(&tag, TAG).map_err(at(&tag))?;
    }
    Ok(directory)
}

/// Makes room where a directory lies in the place of a file of the cache.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => Ok(()),
    }
}

/// A directory inside one that is prepared.
fn make(path: PathBuf) -> Result<PathBuf, CacheError> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&path)(error)),
        _ => {}
    }
    // A link could lead to what is somebody's else, and what is old there would be swept away.
    match fs::symlink_metadata(&path).map_err(at(&path))?.is_dir() {
        true => Ok(path),
        false => Err(at(&path)(io::ErrorKind::NotADirectory.into())),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CacheError + use<> {
    let path = path.to_owned();
    move |source: io::Error| CacheError::Io { path, source }
}

impl Cache {
    /// Opens the cache below `root`, which is made when it is not there.
    pub fn open(root: &Path) -> Result<Cache, CacheError> {
        let cache = Cache { directory: prepare(root, "build-1")? };
        for name in Kind::ALL.iter().map(|kind| kind.name()).chain(["blobs"]) {
            make(cache.directory.join(name))?;
        }
        // One that nothing can be written to would be of no use, in silence.
        let probe = || {
            let mut file =
                tempfile::Builder::new().prefix(sweep::UNFINISHED).tempfile_in(&cache.directory)?;
            file.write_all(TAG)
        };
        probe().map_err(at(&cache.directory))?;
        Ok(cache)
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A record, when there is a sound one of this user's. It counts as used now.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &Digest) -> Option<T> {
        let mut payload = Vec::new();
        self.copy(kind, key, &mut payload)?;
        let (value, rest) = postcard::take_from_bytes(&payload).ok()?;
        rest.is_empty().then_some(value)
    }

    /// Copies what a record holds, as [`get`](Cache::get) would give it. Of one that is not sound, or cannot be written
    /// to `to`, nothing or a part is copied, and the result is nothing.
    pub fn copy(&self, kind: Kind, key: &Digest, to: &mut dyn io::Write) -> Option<()> {
        let file = open_regular(&self.path(kind, key)).ok()?;
        let metadata = file.metadata().ok()?;
        let head = head(kind, key);
        let length = metadata.len().checked_sub(head.len() as u64 + DIGEST)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.len() > kind.limit() {
            return None;
        }
        let mut found = vec![0; head.len()];
        (&file).read_exact(&mut found).ok()?;
        if found != head.as_bytes() {
            return None;
        }
        let mut hasher = Hasher::sha256();
        hasher.update(&found);
        let copied = pump(&mut (&file).take(length), length, &mut hasher, to).ok()?;
        let mut digest = Vec::new();
        (&file).take(DIGEST + 1).read_to_end(&mut digest).ok()?;
        if copied != length || hasher.finish().hex().as_bytes() != digest {
            return None;
        }
        // When it was used last decides what is removed first; that it cannot be said does no harm.
        touch(&file);
        Some(())
    }

    /// Keeps a record. One that is too large or cannot be written is not there the next time, that is all.
    pub fn put<T: Serialize>(&self, kind: Kind, key: &Digest, value: &T) {
        if let Ok(payload) = postcard::to_stdvec(value) {
            self.put_from(kind, key, payload.len() as u64, &mut &payload[..]);
        }
    }

    /// Keeps a record of these bytes, so many, as [`put`](Cache::put) does.
    pub fn put_from(&self, kind: Kind, key: &Digest, length: u64, payload: &mut dyn io::Read) {
        let head = head(kind, key);
        if length.saturating_add(head.len() as u64 + DIGEST) <= kind.limit() {
            let _ = self.write(&head, length, payload, &self.path(kind, key));
        }
    }

    fn write(&self, head: &str, length: u64, payload: &mut dyn io::Read, path: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(sweep::UNFINISHED).tempfile_in(&self.directory)?;
        file.write_all(head.as_bytes())?;
        let mut hasher = Hasher::sha256();
        hasher.update(head.as_bytes());
        pump(payload, length, &mut hasher, &mut file)?;
        file.write_all(hasher.finish().hex().as_bytes())?;
        // Not synced: a record that a crash cut short is not sound, and so not there.
        let Err(error) = file.persist(path) else { return Ok(()) };
        clear(path)?;
        error.file.persist(path).map(drop).map_err(|error| error.error)
    }

    fn path(&self, kind: Kind, key: &Digest) -> PathBuf {
        self.directory.join(kind.name()).join(key.hex())
    }
}

/// Copies and hashes about so many bytes, all that there are, and says how many these were.
fn pump(
    from: &mut dyn io::Read,
    length: u64,
    hasher: &mut Hasher,
    to: &mut dyn io::Write,
) -> io::Result<u64> {
    // Most records are small.
    let mut buffer = vec![0; length.clamp(1, 64 << 10) as usize];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        copied += count as u64;
    }
}

/// Marks a file as used now.
fn touch(file: &fs::File) {
    use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = futimens(file, &Timestamps { last_access: now, last_modification: now });
}

fn head(kind: Kind, key: &Digest) -> String {
    format!("{FORM} {} {}\n", kind.name(), key.hex())
}

/// Makes the key of a record out of everything that decides it. Each part is written with its length, so no two
/// lists of parts are alike.
///
/// Remembers whether one of the files that it was given may change without another [`Stamp`]: such a key must not be
/// used.
pub struct KeyWriter {
    hasher: Hasher,
    buffer: Vec<u8>,
    /// Nothing when it may hold no state of a file.
    since: Option<Moment>,
    racy: bool,
}

impl std::fmt::Debug for KeyWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyWriter").finish_non_exhaustive()
    }
}

impl KeyWriter {
    /// A key of records of this kind. Rules and version are part of it. No file that it is given was read before
    /// `since`.
    pub fn new(kind: Kind, since: Moment) -> KeyWriter {
        KeyWriter::begin(kind, Some(since))
    }

    /// A key that is the same on every machine: it holds contents, and never the state of a file.
    pub fn of_contents(kind: Kind) -> KeyWriter {
        KeyWriter::begin(kind, None)
    }

    fn begin(kind: Kind, since: Option<Moment>) -> KeyWriter {
        let (hasher, buffer) = (Hasher::sha256(), Vec::with_capacity(BUFFER));
        let mut key = KeyWriter { hasher, buffer, since, racy: false };
        key.bytes(FORM.as_bytes());
        key.bytes(kind.name().as_bytes());
        key.number(RULES.into());
        key
    }

    /// Some bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.put(bytes);
    }

    /// A number.
    pub fn number(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// The state of a file.
    pub fn stamp(&mut self, stamp: &Stamp) {
        self.racy |= self.since.as_ref().is_none_or(|since| stamp.is_racy(since));
        let Stamp { device, inode, size, modified, changed } = *stamp;
        self.number(device);
        self.number(inode);
        for signed in [size, modified.0, modified.1, changed.0, changed.1] {
            self.put(&signed.to_le_bytes());
        }
    }

    /// Something that decides cannot be told: there will be no key.
    pub fn spoil(&mut self) {
        self.racy = true;
    }

    /// The key; nothing when a file may have changed without a trace.
    pub fn finish(mut self) -> Option<Digest> {
        self.hasher.update(&self.buffer);
        (!self.racy).then(|| self.hasher.finish())
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        match bytes.len() > BUFFER {
            true => self.hasher.update(bytes),
            false => self.buffer.extend_from_slice(bytes),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
