//! A copy of the source in which nothing shows of the machine: modes, times, and what is taken.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dmoci_layers::{EntryKind, SafePath};

use super::error::WheelError;
use crate::diagnostic::Failure;
use crate::inputs::files::{CopySource, Project};
use crate::inputs::pattern::Patterns;
use crate::inputs::tracked::Tracked;
use crate::inputs::{Content, Item};
use crate::vcs;

/// What is taken of a source tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// What git tracks.
    Tracked,
    /// All but git's own data, caches of Python and the output directory.
    All,
}

impl Taken {
    /// What git tracks, unless all is wanted or the tree is no work tree.
    pub(super) fn of(source: &Path, all: bool) -> Result<Taken, Failure> {
        Ok(match all || vcs::top(source)?.is_none() {
            true => Taken::All,
            false => Taken::Tracked,
        })
    }

    /// In a word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Taken::Tracked => "tracked",
            Taken::All => "all",
        }
    }
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
    /// Copies into a directory that is not there yet.
    pub(super) fn copy(&self, target: &Path) -> Result<(), Failure> {
        let source = Arc::new(self.input()?);
        make_directory(target)?;
        let mut directories = vec![target.to_owned()];
        let mut files = 0u64;
        for item in source.items()? {
            let Item { entry, content } = item?;
            let path = target.join(OsStr::from_bytes(entry.path.as_bytes()));
            let failed = |source| WheelError::Output { path: path.clone(), source };
            match (entry.kind, &content) {
                (EntryKind::Directory, _) => {
                    make_directory(&path)?;
                    directories.push(path);
                }
                (EntryKind::Symlink { target }, _) => {
                    symlink(OsStr::from_bytes(&target), &path).map_err(failed)?;
                }
                (EntryKind::File { .. }, Content::Project(handle)) => {
                    files += 1;
                    let mut opened = handle.open()?;
                    let mut file = File::create_new(&path).map_err(failed)?;
                    io::copy(&mut opened, &mut file).map_err(failed)?;
                    opened.finish()?;
                    file.set_permissions(Permissions::from_mode(entry.mode)).map_err(failed)?;
                    file.set_times(self.times()).map_err(failed)?;
                }
                // A folder gives nothing else.
                _ => {}
            }
        }
        if files == 0 {
            let message = "there is nothing in it".to_owned();
            return Err(WheelError::Source { source_tree: self.tree.to_owned(), message }.into());
        }
        if self.taken == Taken::Tracked && self.is_top()? {
            // Many backends take the version from tags, and some have no other list of files.
            if !self.history.exists() {
                vcs::keep_history(self.tree, self.history)?;
            }
            vcs::give_history(self.history, target)?;
        }
        for path in directories.iter().rev() {
            let set = File::open(path).and_then(|directory| directory.set_times(self.times()));
            set.map_err(|source| WheelError::Output { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Whether the source is a whole work tree of git, and no part of one.
    fn is_top(&self) -> Result<bool, Failure> {
        let top = vcs::top(self.tree)?.and_then(|top| top.canonicalize().ok());
        Ok(top.is_some() && top == self.tree.canonicalize().ok())
    }

    fn times(&self) -> FileTimes {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.epoch);
        FileTimes::new().set_modified(time).set_accessed(time)
    }

    fn input(&self) -> Result<CopySource, Failure> {
        let project = Project::open(self.tree)?;
        let from = PathBuf::from(".");
        let exclude = match self.taken {
            Taken::Tracked => Vec::new(),
            Taken::All => [".git", "__pycache__", "*.pyc"].map(str::to_owned).to_vec(),
        };
        let inside = |path: &Path| {
            Some(path.canonicalize().ok()?.strip_prefix(self.tree.canonicalize().ok()?).ok()?.to_owned())
        };
        let output = inside(self.output).filter(|path| !path.as_os_str().is_empty());
        let tracked = match self.taken {
            Taken::Tracked => Some(Tracked::read(self.tree, &from, true)?.into()),
            Taken::All => None,
        };
        Ok(CopySource {
            project,
            from,
            to: SafePath::root(),
            patterns: Patterns::new(&[], &exclude)?,
            without: match tracked {
                Some(_) => Vec::new(),
                None => output.into_iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
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

/// With mode 0755, whatever the umask.
pub(super) fn make_directory(path: &Path) -> Result<(), WheelError> {
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|source| WheelError::Output { path: path.to_owned(), source })
}
