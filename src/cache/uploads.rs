//! Uploads that were begun: where each goes on, `uploads/HEX`, so that the next run goes on there too.
//!
//! What is kept is an address of the registry, which may let whoever has it go on: the file is its owner's alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;
use rustix::fs::FlockOperation;

use super::{CacheError, make, prepare};
use crate::files::Moment;
use crate::limits;

/// What was begun.
#[derive(Clone, Debug)]
pub struct Uploads {
    directory: PathBuf,
}

/// The memory of one upload. This process alone has it.
#[derive(Debug)]
pub struct Begun {
    file: File,
    path: PathBuf,
}

impl Uploads {
    /// Opens the memory below `root`, which is made when it is not there.
    pub fn open(root: &Path) -> Result<Uploads, CacheError> {
        Ok(Uploads { directory: prepare(root, "uploads")? })
    }

    /// The memory of the upload of this blob to there; nothing when another process has it, or it cannot be had.
    pub fn take(&self, registry: &str, repository: &str, blob: &Digest) -> Option<Begun> {
        let name = Digest::sha256(format!("{registry}\n{repository}\n{blob}").as_bytes());
        let path = make(self.directory.clone()).ok()?.join(name.hex());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        // Who held it before may have removed it.
        let (ours, there) = (file.metadata().ok()?, fs::symlink_metadata(&path).ok()?);
        ((ours.dev(), ours.ino()) == (there.dev(), there.ino())).then_some(Begun { file, path })
    }

    /// Forgets what nobody went on with for [`limits::CACHE_AGE`]: registries do so much earlier.
    pub fn sweep(&self) {
        let Ok(now) = Moment::now(&self.directory) else { return };
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let old = |metadata: fs::Metadata| now.time().0 - metadata.mtime() > limits::CACHE_AGE;
            if entry.metadata().is_ok_and(|metadata| metadata.is_file() && old(metadata)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Begun {
    /// Where it goes on, when it was begun.
    pub fn place(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&self.file).take(limits::URL_BYTES as u64 + 1).read_to_string(&mut text).ok()?;
        (!text.is_empty() && text.len() <= limits::URL_BYTES).then_some(text)
    }

    /// Notes where it goes on. That it cannot be noted costs only that it would begin anew.
    pub fn note(&mut self, place: &str) {
        let mut write = || -> io::Result<()> {
            self.file.rewind()?;
            self.file.set_len(0)?;
            self.file.write_all(place.as_bytes())
        };
        if write().is_err() {
            let _ = self.file.set_len(0);
        }
    }

    /// It is done, or cannot go on.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_remembered_until_it_is_done_and_is_of_one_process() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(home.path()).unwrap();
        let blob = Digest::sha256(b"x");
        let mut first = uploads.take("r.example", "a", &blob).unwrap();
        assert_eq!(first.place(), None);
        first.note("https://r.example/upload/1?state=long");
        first.note("https://r.example/upload/2");
        assert!(uploads.take("r.example", "a", &blob).is_none());
        assert_eq!(uploads.take("r.example", "b", &blob).unwrap().place(), None);
        let mode = fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(first);
        let mut again = uploads.take("r.example", "a", &blob).unwrap();
        assert_eq!(again.place().as_deref(), Some("https://r.example/upload/2"));
        again.forget();
        assert_eq!(uploads.take("r.example", "a", &blob).unwrap().place(), None);
        uploads.sweep();
        assert!(home.path().join("uploads").is_dir());
    }
}
