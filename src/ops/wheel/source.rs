//! A copy of the source in which nothing shows of the machine: modes, times, and what is taken.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dmoci_layers::{Digest, EntryKind, Hasher, SafePath};

use super::error::WheelError;
use super::outputs;
use crate::diagnostic::Failure;
use crate::inputs::files::{CopySource, Handle, Project};
use crate::inputs::pattern::Patterns;
use crate::inputs::tracked::Tracked;
use crate::inputs::{Content, InputError, Item};
use crate::vcs;

/// What is taken of a source tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Taken {
    /// What git tracks; of a whole work tree with the history that git has of it.
    Tracked { history: bool },
    /// All but git's own data, caches of Python and the output directory.
    All,
}

impl Taken {
    /// What git tracks, unless all is wanted or the tree is no work tree.
    pub(super) fn of(source: &Path, all: bool) -> Result<Taken, Failure> {
        let Some(top) = (if all { None } else { vcs::top(source)? }) else { return Ok(Taken::All) };
        // Many backends take the version from tags, and some have no other list of files.
        let history = top.canonicalize().is_ok_and(|top| source.canonicalize().is_ok_and(|own| own == top));
        Ok(Taken::Tracked { history })
    }

    /// In a word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Taken::Tracked { .. } => "tracked",
            Taken::All => "all",
        }
    }
}

/// What tells one state of a source from others: the names, modes and contents of all files, and the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) digest: Digest,
    /// Nothing that a backend can see is left out of the digest.
    pub(super) told: bool,
}

/// A source tree that is copied.
pub(super) struct Source<'a> {
    pub(super) tree: &'a Path,
    /// The directory that is written: no part of the source.
    pub(super) output: &'a Path,
    pub(super) taken: Taken,
    /// A directory that nothing else uses: what is committed is packed once, and copied from there.
    pub(super) history: &'a Path,
    /// The time of all files.
    pub(super) epoch: u64,
}

impl Source<'_> {
    /// Copies into a directory that is not there yet; the state of what was copied.
    pub(super) fn copy(&self, target: &Path) -> Result<State, Failure> {
        make_directory(target)?;
        let mut directories = vec![target.to_owned()];
        let state = self.read(&mut |Item { entry, content }| {
            let path = target.join(OsStr::from_bytes(entry.path.as_bytes()));
            let failed = |source| WheelError::Output { path: path.clone(), source };
            match (&entry.kind, content) {
                (EntryKind::Directory, _) => {
                    make_directory(&path)?;
                    directories.push(path);
                }
                (EntryKind::Symlink { target }, _) => {
                    symlink(OsStr::from_bytes(target), &path).map_err(failed)?;
                }
                (_, Content::Project(handle)) => {
                    let mut file = File::create_new(&path).map_err(failed)?;
                    let sum = sum(handle, &mut file, &|error| failed(error).into())?;
                    file.set_permissions(Permissions::from_mode(entry.mode)).map_err(failed)?;
                    file.set_times(self.times()).map_err(failed)?;
                    return Ok(Some(sum));
                }
                // A folder gives nothing else.
                _ => {}
            }
            Ok(None)
        })?;
        if self.taken == (Taken::Tracked { history: true }) {
            if !self.history.exists() {
                vcs::keep_history(self.tree, self.history)?;
            }
            vcs::give_history(self.history, target)?;
        }
        for path in directories.iter().rev() {
            let set = File::open(path).and_then(|directory| directory.set_times(self.times()));
            set.map_err(|source| WheelError::Output { path: path.clone(), source })?;
        }
        Ok(state)
    }

    /// The state that it is in now.
    pub(super) fn state(&self) -> Result<State, Failure> {
        self.read(&mut |item| match &item.content {
            Content::Project(handle) => {
                let failed = |source| InputError::Io { path: self.tree.to_owned(), source };
                Ok(Some(sum(handle, &mut io::sink(), &|error| failed(error).into())?))
            }
            _ => Ok(None),
        })
    }

    /// Goes through everything; `each` gives the digest of what is in a file.
    fn read(&self, each: &mut dyn FnMut(&Item) -> Result<Option<Digest>, Failure>) -> Result<State, Failure> {
        let source = Arc::new(self.input()?);
        let mut hasher = Hasher::sha256();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.taken.name().as_bytes());
        let mut files = 0u64;
        for item in source.items()? {
            let item = item?;
            part(item.entry.path.as_bytes());
            part(&item.entry.mode.to_le_bytes());
            let sum = each(&item)?;
            match (&item.entry.kind, sum) {
                (EntryKind::Symlink { target }, _) => {
                    // A backend follows it, and no digest would tell what is there.
                    let path = Path::new(OsStr::from_bytes(item.entry.path.as_bytes()));
                    source.project.check_link(path, Path::new(OsStr::from_bytes(target)))?;
                    part(target);
                }
                (_, Some(sum)) => {
                    files += 1;
                    part(sum.hex().as_bytes());
                }
                (_, None) => part(b"folder"),
            }
        }
        if files == 0 {
            let message = "there is nothing in it".to_owned();
            return Err(WheelError::Source { source_tree: self.tree.to_owned(), message }.into());
        }
        let mut told = true;
        if self.taken == (Taken::Tracked { history: true }) {
            let history = vcs::history(self.tree)?;
            told = history.is_some();
            part(&history.unwrap_or_default());
        }
        Ok(State { digest: hasher.finish(), told })
    }

    fn times(&self) -> FileTimes {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.epoch);
        FileTimes::new().set_modified(time).set_accessed(time)
    }

    /// What is copied.
    pub(super) fn input(&self) -> Result<CopySource, Failure> {
        let project = Project::open(self.tree)?;
        let from = PathBuf::from(".");
        let exclude = match self.taken {
            Taken::Tracked { .. } => Vec::new(),
            Taken::All => [".git", "__pycache__", "*.pyc"].map(str::to_owned).to_vec(),
        };
        let inside = |path: &Path| {
            Some(path.canonicalize().ok()?.strip_prefix(self.tree.canonicalize().ok()?).ok()?.to_owned())
        };
        let output = inside(self.output).filter(|path| !path.as_os_str().is_empty());
        let tracked = match self.taken {
            Taken::Tracked { .. } => Some(Tracked::read(self.tree, &from, true)?.into()),
            Taken::All => None,
        };
        Ok(CopySource {
            project,
            from,
            to: SafePath::root(),
            patterns: Patterns::new(&[], &exclude)?,
            without: match tracked {
                Some(_) => Vec::new(),
                None => {
                    let output = output.map(|path| path.as_os_str().as_bytes().to_vec());
                    output.into_iter().chain(outputs::written(self.tree)).collect()
                }
            },
            tracked,
            substitution: None,
            below: Vec::new(),
            owner: (0, 0),
            file_mode: None,
            dir_mode: 0o755,
        })
    }
}

/// Copies a file of the project, which must not change meanwhile, and gives its digest.
fn sum(
    handle: &Handle,
    to: &mut dyn io::Write,
    failed: &dyn Fn(io::Error) -> Failure,
) -> Result<Digest, Failure> {
    let mut opened = handle.open()?;
    let mut hasher = Hasher::sha256();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match opened.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count]).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    opened.finish()?;
    Ok(hasher.finish())
}

/// With mode 0755, whatever the umask.
pub(super) fn make_directory(path: &Path) -> Result<(), WheelError> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|source| WheelError::Output { path: path.to_owned(), source })
}
