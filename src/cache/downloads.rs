//! What was fetched, by its digest: `downloads/sha256/HEX`, and what is half fetched: `downloads/partial/HEX`.
//!
//! A file gets its name only when its digest is right, and is hashed again whenever it is used. It is never written to
//! afterwards: what is damaged is removed, and fetched anew as another file. A partial file is held under a lock, so that of
//! several processes that want one thing one fetches it and the others wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::{Algorithm, Digest, Hasher};
use rustix::fs::FlockOperation;

use super::{CacheError, make, prepare, touch};
use crate::files::{self, Moment, Time};
use crate::limits;

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Downloads {
    directory: PathBuf,
}

/// A file of the cache whose digest was found right.
#[derive(Clone, Debug)]
pub struct Downloaded {
    file: Arc<File>,
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// A place for a file that is being fetched. This process alone writes it.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    file: File,
    left: Left,
}

/// What becomes of a reserved file that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It is resumed when somebody wants the same.
    Resumed,
    /// Nobody could find it again.
    Lost,
    /// It has its final name.
    Kept,
}

/// A file of the downloads.
struct Member {
    path: PathBuf,
    used: i64,
    size: u64,
}

/// The directories: files by their digest, and what is half fetched.
const PARTS: [&str; 3] = ["sha256", "sha512", PARTIAL];
const PARTIAL: &str = "partial";

/// How files are called whose digest nobody knows yet.
const UNKNOWN: &str = "unknown-";

impl Downloads {
    /// Opens the downloads below `root`, which is made when it is not there.
    pub fn open(root: &Path) -> Result<Downloads, CacheError> {
        Ok(Downloads { directory: prepare(root, "downloads")? })
    }

    /// Whether there is a file of this digest, whole or not.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_ok_and(|path| path.exists())
    }

    /// The file of this digest, when it is there and whole. What is damaged is removed.
    pub fn get(&self, digest: &Digest) -> Result<Option<Downloaded>, CacheError> {
        let path = self.path(digest)?;
        let failed = |source| CacheError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let found = Digest::of_reader(digest.algorithm(), &mut &file);
        match found {
            Ok((found, size)) if found == *digest => {
                // It was used now.
                touch(&file);
                Ok(Some(Downloaded { file: Arc::new(file), path, digest: found, size }))
            }
            // Also what cannot be read to its end: a disk that fails is no reason not to fetch it again.
            _ => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(None),
            },
        }
    }

    /// A place for something of this digest, with what an earlier attempt left; `on_wait` is called before waiting for another
    /// process that fetches the same.
    pub fn reserve(&self, digest: &Digest, on_wait: impl FnOnce()) -> Result<Reserved, CacheError> {
        let directory = self.part(PARTIAL)?;
        let path = directory.join(digest.hex());
        let failed = |source| CacheError::Io { path: path.clone(), source };
        let mut on_wait = Some(on_wait);
        loop {
            let file = open(&path).map_err(failed)?;
            if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                if error != rustix::io::Errno::WOULDBLOCK {
                    return Err(failed(error.into()));
                }
                if let Some(on_wait) = on_wait.take() {
                    on_wait();
                }
                rustix::fs::flock(&file, FlockOperation::LockExclusive)
                    .map_err(|error| failed(error.into()))?;
            }
            // Who held it before may have given it its final name, or removed it.
            let (ours, there) = (file.metadata().map_err(failed)?, fs::symlink_metadata(&path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Reserved { path, file, left: Left::Resumed });
            }
        }
    }

    /// A place for something whose digest nobody knows yet. What killed processes left of such is removed.
    pub fn reserve_unknown(&self) -> Result<Reserved, CacheError> {
        let directory = self.part(PARTIAL)?;
        let failed = |source: io::Error| CacheError::Io { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(UNKNOWN.as_bytes())
                && let Ok(file) = File::open(entry.path())
                && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        loop {
            let temporary =
                tempfile::Builder::new().prefix(UNKNOWN).tempfile_in(&directory).map_err(failed)?;
            let (file, path) = temporary.into_parts();
            let path = path.keep().map_err(|error| failed(error.error))?;
            let reserved = Reserved { path, file, left: Left::Lost };
            // Another process may take it for one that was left, until it is locked.
            let locked = rustix::fs::flock(&reserved.file, FlockOperation::NonBlockingLockExclusive);
            match locked {
                Ok(()) if reserved.path.exists() => return Ok(reserved),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// Keeps a small document that is here, under its sha256.
    pub fn put(&self, bytes: &[u8]) -> Result<Downloaded, CacheError> {
        let mut reserved = self.reserve_unknown()?;
        reserved.append(bytes)?;
        self.keep(reserved, &Digest::sha256(bytes))
    }

    /// Gives what was fetched its name, unless another file has it by now and is whole: then it is that one. The digest must be
    /// that of the whole file.
    pub fn keep(&self, mut reserved: Reserved, digest: &Digest) -> Result<Downloaded, CacheError> {
        let path = self.path(digest)?;
        let failed = |source| CacheError::Io { path: path.clone(), source };
        let file = reserved.file.try_clone().map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        while !give(&reserved.path, &path).map_err(failed)? {
            // Of two addresses that give the same the second comes too late; what is damaged is removed by this.
            if let Some(entry) = self.get(digest)? {
                reserved.left = Left::Lost;
                return Ok(entry);
            }
        }
        reserved.left = Left::Kept;
        path.parent().map_or(Ok(()), files::sync).map_err(failed)?;
        Ok(Downloaded { file: Arc::new(file), path, digest: digest.clone(), size })
    }

    /// Number and bytes of the files, those that are half fetched among them.
    pub fn usage(&self) -> (u64, u64) {
        let members = self.members(&PARTS);
        (members.len() as u64, members.iter().fold(0u64, |sum, member| sum.saturating_add(member.size)))
    }

    /// Removes what was not used for [`limits::CACHE_AGE`], and then what was not used longest until the rest fits
    /// [`limits::CACHE_BYTES`]; and what is half fetched for [`limits::CACHE_AGE`]. What this process has open stays
    /// readable for it.
    pub fn sweep(&self) {
        let Ok(now) = Moment::now(&self.directory) else { return };
        self.sweep_to(now.time(), limits::CACHE_BYTES);
    }

    fn sweep_to(&self, now: Time, most: u64) {
        let old = |member: &Member| now.0 - member.used > limits::CACHE_AGE;
        // Another process may be quicker.
        for partial in self.members(&PARTS[2..]).iter().filter(|member| old(member)) {
            let _ = fs::remove_file(&partial.path);
        }
        let mut whole = self.members(&PARTS[..2]);
        whole.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        let mut kept = 0u64;
        for member in whole {
            match old(&member) || kept.saturating_add(member.size) > most {
                true => drop(fs::remove_file(&member.path)),
                false => kept += member.size,
            }
        }
    }

    fn members(&self, parts: &[&str]) -> Vec<Member> {
        let entries = parts.iter().flat_map(|name| fs::read_dir(self.directory.join(name))).flatten();
        let member = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Member { path: entry.path(), used: metadata.mtime(), size: metadata.len() })
        };
        entries.flatten().filter_map(member).collect()
    }

    fn path(&self, digest: &Digest) -> Result<PathBuf, CacheError> {
        Ok(self.part(digest.algorithm().name())?.join(digest.hex()))
    }

    /// A directory of the downloads, made when it is not there.
    fn part(&self, name: &str) -> Result<PathBuf, CacheError> {
        make(self.directory.join(name))
    }
}

/// Renames a file; false when there is something of that name already.
fn give(from: &Path, to: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems that cannot do this; then the last one counts.
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to).map(|()| true),
        Err(error) => Err(error.into()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl Downloaded {
    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file, for reading at offsets.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The file, opened anew, for reading from the beginning.
    pub fn open(&self) -> Result<File, CacheError> {
        let failed = |source| CacheError::Io { path: self.path.clone(), source };
        let ours = self.file.metadata().map_err(failed)?;
        let same = |file: &File| {
            file.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        };
        match File::open(&self.path) {
            Ok(file) if same(&file) => Ok(file),
            // Another process has put another in its place, or removed it: it is still there for those who hold it.
            _ => File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).map_err(failed),
        }
    }
}

impl Reserved {
    /// How much is there, and its hash. What an earlier process left is read.
    pub fn content(&mut self, algorithm: Algorithm) -> Result<(u64, Hasher), CacheError> {
        let mut hasher = Hasher::new(algorithm);
        let failed = |source| CacheError::Io { path: self.path.clone(), source };
        self.file.rewind().map_err(failed)?;
        let size = io::copy(&mut &self.file, &mut hasher).map_err(failed)?;
        Ok((size, hasher))
    }

    /// Removes all that is there.
    pub fn clear(&mut self) -> Result<(), CacheError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.rewind());
        cleared.map_err(|error| self.failed(error))
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        io::Write::write_all(&mut self.file, bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> CacheError {
        CacheError::Io { path: self.path.clone(), source }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let empty = || self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if self.left == Left::Lost || (self.left == Left::Resumed && empty()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downloads(home: &tempfile::TempDir) -> Downloads {
        Downloads::open(home.path()).unwrap()
    }

    fn kept(downloads: &Downloads, bytes: &[u8]) -> Downloaded {
        downloads.put(bytes).unwrap()
    }

    fn partial(home: &tempfile::TempDir) -> usize {
        fs::read_dir(home.path().join("downloads/partial")).unwrap().count()
    }

    #[test]
    fn what_nobody_uses_goes() {
        let home = tempfile::tempdir().unwrap();
        let downloads = downloads(&home);
        let directory = home.path().join("downloads");
        let file = |name: &str, days: u64| {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, [0; 100]).unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 24 * 3600);
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
            path
        };
        let [old, older, new, newer] =
            [("sha256/a", 3), ("sha256/b", 40), ("sha512/c", 2), ("sha256/d", 1)].map(|(n, d)| file(n, d));
        let [partial, lost] = [("partial/e", 5), ("partial/f", 40)].map(|(name, days)| file(name, days));
        assert_eq!(downloads.usage(), (6, 600));
        downloads.sweep();
        let there = |all: &[&PathBuf]| all.iter().map(|path| path.exists()).collect::<Vec<_>>();
        assert_eq!(
            there(&[&old, &older, &new, &newer, &partial, &lost]),
            [true, false, true, true, true, false]
        );
        downloads.sweep_to(Moment::now(home.path()).unwrap().time(), 250);
        assert_eq!(there(&[&old, &new, &newer, &partial]), [false, true, true, true]);
    }

    #[test]
    fn what_is_damaged_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let downloads = downloads(&home);
        let digest = Digest::sha256(b"content");
        assert!(downloads.get(&digest).unwrap().is_none());
        assert_eq!(kept(&downloads, b"content").size(), 7);
        let entry = downloads.get(&digest).unwrap().unwrap();
        assert_eq!(io::read_to_string(entry.open().unwrap()).unwrap(), "content");
        assert_eq!(entry.file().metadata().unwrap().mode() & 0o777, 0o444);

        let path = home.path().join("downloads/sha256").join(digest.hex());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "CONTENT").unwrap();
        assert_eq!(
            io::read_to_string(entry.open().unwrap()).unwrap(),
            "content",
            "not the other of its name"
        );
        assert!(downloads.get(&digest).unwrap().is_none());
        assert!(!path.exists());
        kept(&downloads, b"content");
        assert!(downloads.get(&digest).unwrap().is_some());
        assert_eq!(partial(&home), 0);
    }

    #[test]
    fn two_that_fetched_the_same() {
        let home = tempfile::tempdir().unwrap();
        let downloads = downloads(&home);
        let (first, second) = (kept(&downloads, b"content"), kept(&downloads, b"content"));
        let inode = |entry: &Downloaded| entry.file().metadata().unwrap().ino();
        assert_eq!(inode(&first), inode(&second));
        fs::remove_file(&first.path).unwrap();
        fs::write(&first.path, "c0ntent").unwrap();
        assert_ne!(inode(&kept(&downloads, b"content")), inode(&first), "what is damaged makes place");
        assert!(downloads.get(first.digest()).unwrap().is_some());
        assert_eq!(partial(&home), 0);
    }

    #[test]
    fn what_is_half_there_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let downloads = downloads(&home);
        let digest = Digest::sha256(b"content");
        let waits = || panic!("nobody holds it");
        drop(downloads.reserve(&digest, waits).unwrap());
        assert_eq!(partial(&home), 0, "nothing came");
        downloads.reserve(&digest, waits).unwrap().append(b"con").unwrap();
        let mut reserved = downloads.reserve(&digest, waits).unwrap();
        let (size, hasher) = reserved.content(Algorithm::Sha256).unwrap();
        assert_eq!((size, hasher.finish()), (3, Digest::sha256(b"con")));
        reserved.append(b"tent").unwrap();
        downloads.keep(reserved, &digest).unwrap();
        assert_eq!(downloads.get(&digest).unwrap().unwrap().size(), 7);
        assert_eq!(partial(&home), 0);
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let home = tempfile::tempdir().unwrap();
        let downloads = downloads(&home);
        let digest = Digest::sha256(b"content");
        let mut first = downloads.reserve(&digest, || ()).unwrap();
        let (waiting, waits) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let reserved = downloads.reserve(&digest, move || waiting.send(()).unwrap()).unwrap();
                (reserved.file.metadata().unwrap().len(), downloads.get(&digest).unwrap().is_some())
            });
            waits.recv().unwrap();
            first.append(b"content").unwrap();
            downloads.keep(first, &digest).unwrap();
            assert_eq!(second.join().unwrap(), (0, true));
        });
    }

    #[test]
    fn what_the_killed_left_is_removed_and_what_the_living_hold_is_not() {
        let home = tempfile::tempdir().unwrap();
        let downloads = downloads(&home);
        let living = downloads.reserve_unknown().unwrap();
        fs::write(home.path().join("downloads/partial/unknown-dead"), "x").unwrap();
        fs::write(home.path().join("downloads/partial/0123"), "x").unwrap();
        let other = downloads.reserve_unknown().unwrap();
        assert_eq!(partial(&home), 3, "both, and the one with a digest");
        drop((living, other));
        assert_eq!(partial(&home), 1);
    }
}
