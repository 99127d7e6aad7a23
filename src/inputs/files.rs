//! Folders and files of the project.
//!
//! Everything is opened relative to the project directory and beneath it; symbolic links inside a copied
//! folder are entries, never followed.

use std::borrow::Cow;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::{Entry, EntryKind, SafePath};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawDir, RawMode, Stat};

use super::beneath;
use super::pattern::Patterns;
use super::substitute::Substitution;
use super::tracked::{self, Known, Tracked, TrackedError};
use super::{Content, InputError, Item};
use crate::files::Stamp;
use crate::limits;

/// The project directory.
#[derive(Clone, Debug)]
pub struct Project {
    directory: Arc<OwnedFd>,
    path: PathBuf,
    /// The directories that the build writes, by device and inode: they cannot be copied into themselves.
    outputs: Vec<(u64, u64)>,
}

impl Project {
    /// Opens the directory.
    pub fn open(path: &Path) -> Result<Project, InputError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(path, e))?;
        Ok(Project { directory: Arc::new(directory), path: path.to_owned(), outputs: Vec::new() })
    }

    /// The same project, in which this directory, when it is there, is no input.
    pub fn writing(mut self, output: &Path) -> Result<Project, InputError> {
        // A build into the project itself, or above it, writes `image` there, and `.dmoci-tmp` before that; everything else is
        // an input as ever.
        let around = match (self.path.canonicalize(), output.canonicalize()) {
            (Ok(project), Ok(real)) => project.starts_with(real),
            _ => false,
        };
        let written = match around {
            true => vec![output.join("image"), output.join(".dmoci-tmp")],
            false => vec![output.to_owned()],
        };
        for path in written {
            match rustix::fs::stat(&path).map(|stat| Stamp::of(&stat)) {
                Ok(stamp) => self.outputs.push((stamp.device, stamp.inode)),
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(failed(&path, error)),
            }
        }
        Ok(self)
    }

    /// Refuses a path that is the output directory or lies in it.
    pub fn check_input(&self, path: &Path) -> Result<(), InputError> {
        let Ok(real) = self.path.join(path).canonicalize() else { return Ok(()) };
        for above in real.ancestors() {
            let stamp = rustix::fs::stat(above).map(|stat| Stamp::of(&stat));
            if stamp.is_ok_and(|stamp| self.outputs.contains(&(stamp.device, stamp.inode))) {
                return Err(InputError::Output(path.to_owned()));
            }
        }
        Ok(())
    }

    /// Opens a path that must stay beneath the project; symbolic links on the way are followed within it.
    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, InputError> {
        beneath::open(self.directory.as_fd(), path, flags | OFlags::CLOEXEC).map_err(|error| match error {
            rustix::io::Errno::XDEV => InputError::Outside(path.to_owned()),
            error => failed(path, error),
        })
    }

    /// Opens a file of the project for reading.
    pub fn open_file(&self, path: &Path) -> Result<File, InputError> {
        self.check_input(path)?;
        self.open_any(path)
    }

    /// Opens a wheel of the project. It may lie in the output directory itself, which is where builders of wheels put
    /// them, and in `python` there, which is where `dmoci wheel` does; what else a build writes there is no input.
    pub fn open_wheel(&self, path: &Path) -> Result<File, InputError> {
        let real = self.path.join(path).canonicalize().ok();
        let folder = real.as_deref().and_then(Path::parent);
        let above = folder.filter(|folder| folder.ends_with("python")).and_then(Path::parent);
        let is_output = |folder: &Path| {
            let stamp = rustix::fs::stat(folder).map(|stat| Stamp::of(&stat));
            stamp.is_ok_and(|stamp| self.outputs.contains(&(stamp.device, stamp.inode)))
        };
        if !folder.into_iter().chain(above).any(is_output) {
            self.check_input(path)?;
        }
        self.open_any(path)
    }

    fn open_any(&self, path: &Path) -> Result<File, InputError> {
        let file = File::from(self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let metadata = file.metadata().map_err(|source| InputError::Io { path: path.to_owned(), source })?;
        if !metadata.is_file() {
            return Err(InputError::Special { path: path.to_owned(), what: "not a regular file" });
        }
        Ok(file)
    }

    /// Where a symbolic link of the project points, as it says; nothing when the path is none. Links on the way are
    /// followed.
    pub fn link(&self, path: &Path) -> Result<Option<OsString>, InputError> {
        let fd = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        match rustix::fs::readlinkat(&fd, c"", Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(failed(path, error)),
        }
    }

    /// Refuses a symbolic link that leads out of the project, or would when what it names is there.
    pub fn check_link(&self, path: &Path, target: &Path) -> Result<(), InputError> {
        let leads = match self.resolve(path, OFlags::PATH) {
            Ok(_) => return Ok(()),
            Err(InputError::Outside(_)) => true,
            Err(_) => target.is_absolute() || climbs(&path.parent().unwrap_or(Path::new("")).join(target)),
        };
        match leads {
            true => Err(InputError::Outside(path.to_owned())),
            false => Ok(()),
        }
    }

    /// The names in a directory of the project that are UTF-8, sorted. It may be the output directory, as for wheels.
    pub fn names_in(&self, path: &Path) -> Result<Vec<String>, InputError> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(|e| failed(path, e))? {
            let entry = entry.map_err(|e| failed(path, e))?;
            names.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
            if names.len() > limits::LAYOUT_NAMES {
                let many = io::Error::other(format!("it holds more than {} names", limits::LAYOUT_NAMES));
                return Err(InputError::Io { path: path.to_owned(), source: many });
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The path of something in the project, for readers that need a name.
    pub fn path_of(&self, path: &Path) -> PathBuf {
        self.path.join(path)
    }
}

/// What of the project is copied, and to where.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// The project.
    pub project: Project,
    /// The file or folder, relative to the project.
    pub from: PathBuf,
    /// Where the file, or what is in the folder, goes.
    pub to: SafePath,
    /// What of a folder is taken.
    pub patterns: Patterns,
    /// What git tracks of the folder that the patterns are about, when nothing else is taken.
    pub tracked: Option<Arc<Tracked>>,
    /// Strings that are substituted in files that are text.
    pub substitution: Option<Arc<Substitution>>,
    /// Folders below `from` that are left out because they are copied elsewhere, as paths from `from`.
    pub without: Vec<Vec<u8>>,
    /// Path of `from` inside the folder that the patterns are about.
    pub below: Vec<u8>,
    /// Owner of everything.
    pub owner: (u64, u64),
    /// Permission bits of files; without it 0755 when the owner may execute it, else 0644.
    pub file_mode: Option<u32>,
    /// Permission bits of directories.
    pub dir_mode: u32,
}

impl CopySource {
    /// True when `from` is a folder. A symbolic link to a folder counts as one.
    pub fn is_directory(&self) -> Result<bool, InputError> {
        let fd = self.project.resolve(&self.from, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed(&self.from, e))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// True when this path below `from` is a folder itself, and not one that git does not track.
    pub fn has_directory(&self, path: &[u8]) -> Result<bool, InputError> {
        if let Some(tracked) = &self.tracked
            && tracked.known(&self.full(path)) != Some(Known::Directory)
        {
            return Ok(false);
        }
        let inner = self.from.join(std::ffi::OsStr::from_bytes(path));
        match self.project.resolve(&inner, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY) {
            Ok(_) => Ok(true),
            Err(InputError::Missing(_)) => Ok(false),
            Err(InputError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A path below `from` as the patterns see it.
    fn full<'a>(&'a self, path: &'a [u8]) -> Cow<'a, [u8]> {
        match (self.below.is_empty(), path.is_empty()) {
            (true, _) => path.into(),
            (_, true) => Cow::from(&self.below),
            _ => [&self.below, &b"/"[..], path].concat().into(),
        }
    }

    /// The entries, in the order of a layer.
    pub fn items(self: &Arc<Self>) -> Result<Walk, InputError> {
        self.walk(false)
    }

    /// The same entries with the names in each folder the other way round; a folder still before what it holds.
    pub fn items_backwards(self: &Arc<Self>) -> Result<Walk, InputError> {
        self.walk(true)
    }

    fn walk(self: &Arc<Self>, backwards: bool) -> Result<Walk, InputError> {
        let source = Arc::clone(self);
        let (levels, held, ready) = (Vec::new(), Vec::new(), Vec::new());
        // Longer than any one name.
        let buffer = Box::new_uninit_slice(32 << 10);
        let mut walk = Walk { source, backwards, levels, held, ready, buffer };
        if self.is_directory()? {
            let fd = self.project.resolve(&self.from, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let included = self.below.is_empty() && self.patterns.includes(b"", true)
                || !self.below.is_empty() && self.patterns.takes(&self.below, true);
            walk.check_output(&rustix::fs::fstat(&fd).map_err(|e| failed(&self.from, e))?, &self.from)?;
            if !self.to.is_root() {
                walk.hold(walk.directory(self.to.clone()), included);
            }
            walk.enter(fd, Vec::new(), included)?;
        } else {
            let (parent, name) = split(&self.from);
            let directory = Arc::new(self.project.resolve(&parent, OFlags::RDONLY | OFlags::DIRECTORY)?);
            walk.single(directory, name)?;
        }
        Ok(walk)
    }
}

/// One pass over a [`CopySource`].
pub struct Walk {
    source: Arc<CopySource>,
    backwards: bool,
    levels: Vec<Level>,
    /// Directories that are given once something in them is.
    held: Vec<(usize, Item)>,
    /// What comes next, last first.
    ready: Vec<Item>,
    /// For what the system says of a folder.
    buffer: Box<[MaybeUninit<u8>]>,
}

/// A folder that is being read. Only its names are held.
struct Level {
    fd: Arc<OwnedFd>,
    /// Path from `from`.
    path: Vec<u8>,
    /// Names still to come and what the folder says they are, the next one last.
    names: Vec<(CString, FileType)>,
    included: bool,
}

impl Walk {
    fn directory(&self, path: SafePath) -> Item {
        let (uid, gid) = self.source.owner;
        let mode = self.source.dir_mode;
        let entry = Entry { path, kind: EntryKind::Directory, mode, uid, gid, xattrs: Vec::new() };
        Item { entry, content: Content::None }
    }

    /// Gives a directory now when it is taken itself, else with the first thing in it that is.
    fn hold(&mut self, item: Item, included: bool) {
        match included {
            true => self.give(item),
            false => self.held.push((self.levels.len(), item)),
        }
    }

    fn give(&mut self, item: Item) {
        self.ready.insert(0, item);
        for (_, held) in self.held.drain(..).rev() {
            self.ready.push(held);
        }
    }

    fn enter(&mut self, fd: OwnedFd, path: Vec<u8>, included: bool) -> Result<(), InputError> {
        let shown = shown(&self.source.from, &path);
        if let Some(tracked) = &self.source.tracked {
            let names = tracked.names(&self.source.full(&path)).into_iter().rev();
            // A path of git holds no NUL.
            let name = |name| (CString::new(name).unwrap_or_default(), FileType::Unknown);
            let names = names.map(name).collect();
            self.level(fd, path, names, included);
            return Ok(());
        }
        let mut names = Vec::new();
        // The descriptor was opened just now: it is at the beginning.
        let mut listing = RawDir::new(&fd, &mut self.buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|e| failed(&shown, e))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(a, _), (b, _)| b.as_bytes().cmp(a.as_bytes()));
        self.level(fd, path, names, included);
        Ok(())
    }

    fn level(&mut self, fd: OwnedFd, path: Vec<u8>, mut names: Vec<(CString, FileType)>, included: bool) {
        if self.backwards {
            names.reverse();
        }
        self.levels.push(Level { fd: Arc::new(fd), path, names, included });
    }

    fn check_output(&self, stat: &Stat, shown: &Path) -> Result<(), InputError> {
        let stamp = Stamp::of(stat);
        match self.source.project.outputs.contains(&(stamp.device, stamp.inode)) {
            true => Err(InputError::Output(shown.to_owned())),
            false => Ok(()),
        }
    }

    /// Takes the next name of the deepest folder; `false` when all are done.
    fn step(&mut self) -> Result<bool, InputError> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let Some((name, listed)) = level.names.pop() else {
            self.levels.pop();
            let depth = self.levels.len();
            self.held.retain(|(level, _)| *level < depth);
            return Ok(true);
        };
        let path = match level.path.is_empty() {
            true => name.as_bytes().to_vec(),
            false => [&level.path, &b"/"[..], name.as_bytes()].concat(),
        };
        let (fd, included) = (Arc::clone(&level.fd), level.included);
        let source = Arc::clone(&self.source);
        let seen = shown(&source.from, &path);
        // What was listed and is gone was changed by somebody.
        let changed = |error| match error {
            rustix::io::Errno::NOENT if source.tracked.is_some() => {
                let folder = shown(&source.project.path_of(&source.from), &path);
                tracked::missing(folder.parent().unwrap_or(&folder), name.as_bytes(), seen.clone())
            }
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => {
                InputError::Changed(seen.clone())
            }
            error => failed(&seen, error),
        };
        let full = source.full(&path);
        let known = source.tracked.as_ref().and_then(|tracked| tracked.known(&full));
        // What is asked for anyway tells whether these two still are what the folder says.
        let stat = match listed {
            FileType::Symlink | FileType::Directory => Ok(None),
            _ => rustix::fs::statat(&*fd, &*name, AtFlags::SYMLINK_NOFOLLOW).map(Some),
        };
        let is_directory = match &stat {
            Ok(Some(stat)) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Ok(None) => listed == FileType::Directory,
            // What git tracks can be left out even when it is not there.
            Err(_) => matches!(known, Some(Known::Directory | Known::Submodule)),
        };
        if source.without.contains(&path) || source.patterns.excludes(&full, is_directory) {
            return Ok(true);
        }
        let included = included || source.patterns.includes(&full, is_directory);
        if !included && !is_directory {
            return Ok(true);
        }
        let stat = stat.map_err(changed)?;
        let why = match known {
            Some(Known::Submodule) => Some(TrackedError::Submodule),
            Some(Known::Directory) if !is_directory => Some(TrackedError::Kind("a directory")),
            Some(Known::File) if is_directory => Some(TrackedError::Kind("a file")),
            _ => None,
        };
        if let Some(why) = why {
            return Err(InputError::Tracked { path: seen, why });
        }
        if name.as_bytes() == b".git" {
            return Err(InputError::Git(seen));
        }
        if name.as_bytes().starts_with(b".wh.") {
            return Err(InputError::Whiteout(seen));
        }
        let to = source.to.join(&path).map_err(|source| InputError::Path { path: seen.clone(), source })?;
        if is_directory {
            self.hold(self.directory(to), included);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(&*fd, &*name, flags, Mode::empty()).map_err(changed)?;
            self.check_output(&rustix::fs::fstat(&inner).map_err(changed)?, &seen)?;
            self.enter(inner, path, included)?;
        } else {
            let item = self.leaf(fd, name, to, stat.as_ref(), seen)?;
            self.give(item);
        }
        Ok(true)
    }

    /// A file, or a symbolic link, which has no `stat`.
    fn leaf(
        &self,
        fd: Arc<OwnedFd>,
        name: CString,
        to: SafePath,
        stat: Option<&Stat>,
        shown: PathBuf,
    ) -> Result<Item, InputError> {
        let (uid, gid) = self.source.owner;
        let special = |what| InputError::Special { path: shown.clone(), what };
        let kind = stat.map_or(FileType::Symlink, |stat| FileType::from_raw_mode(stat.st_mode));
        let (kind, mode, content) = match (kind, stat) {
            (FileType::RegularFile, Some(stat)) => {
                let executable = stat.st_mode & RawMode::from(Mode::XUSR) != 0;
                let mode = self.source.file_mode.unwrap_or(if executable { 0o755 } else { 0o644 });
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                let handle = Handle { fd, name, stamp: Stamp::of(stat), shown };
                let content = match &self.source.substitution {
                    Some(table) => Content::Substituted(handle, Arc::clone(table)),
                    None => Content::Project(handle),
                };
                (EntryKind::File { size }, mode, content)
            }
            (FileType::Symlink, _) => {
                let target = rustix::fs::readlinkat(&*fd, name, Vec::new()).map_err(|error| match error {
                    // It was one, and is no more.
                    rustix::io::Errno::NOENT | rustix::io::Errno::INVAL => InputError::Changed(shown.clone()),
                    error => failed(&shown, error),
                })?;
                (EntryKind::Symlink { target: target.into_bytes() }, 0o777, Content::None)
            }
            (FileType::Fifo, _) => return Err(special("a FIFO")),
            (FileType::Socket, _) => return Err(special("a socket")),
            (FileType::CharacterDevice | FileType::BlockDevice, _) => return Err(special("a device")),
            _ => return Err(special("of an unknown kind")),
        };
        Ok(Item { entry: Entry { path: to, kind, mode, uid, gid, xattrs: Vec::new() }, content })
    }

    /// `from` is one file; a symbolic link to one is followed, since it was named.
    fn single(&mut self, directory: Arc<OwnedFd>, name: CString) -> Result<(), InputError> {
        let shown = self.source.from.clone();
        let fd = self.source.project.resolve(&shown, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed(&shown, e))?;
        let mut item = self.leaf(directory, name, self.source.to.clone(), Some(&stat), shown)?;
        if let Content::Project(handle) | Content::Substituted(handle, _) = &mut item.content {
            handle.fd = Arc::new(self.source.project.resolve(&self.source.from, OFlags::RDONLY)?);
            handle.name = CString::default();
        }
        self.give(item);
        Ok(())
    }
}

impl Iterator for Walk {
    type Item = Result<Item, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.pop() {
                return Some(Ok(item));
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.levels.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A file that was seen and may be opened.
#[derive(Clone, Debug)]
pub struct Handle {
    fd: Arc<OwnedFd>,
    /// Its name in the directory `fd`, or empty when `fd` is the file itself.
    name: CString,
    stamp: Stamp,
    shown: PathBuf,
}

impl Handle {
    /// The state in which it was seen.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Its path, as the user wrote it.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    /// Opens the file when it is still the one that was seen.
    pub fn open(&self) -> Result<Opened, InputError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match self.name.is_empty() {
            // The descriptor is the file itself, and shares its offset with every copy.
            true => rustix::fs::seek(&*self.fd, rustix::fs::SeekFrom::Start(0))
                .and_then(|_| rustix::io::dup(&*self.fd)),
            false => rustix::fs::openat(&*self.fd, &*self.name, flags | OFlags::NOFOLLOW, Mode::empty()),
        };
        let file = File::from(fd.map_err(|error| match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::LOOP => InputError::Changed(self.shown.clone()),
            error => failed(&self.shown, error),
        })?);
        let opened = Opened { file, stamp: self.stamp, shown: self.shown.clone() };
        opened.check()?;
        Ok(opened)
    }
}

/// A file that is being read.
#[derive(Debug)]
pub struct Opened {
    file: File,
    stamp: Stamp,
    shown: PathBuf,
}

impl Opened {
    fn check(&self) -> Result<(), InputError> {
        let stat = rustix::fs::fstat(&self.file).map_err(|e| failed(&self.shown, e))?;
        match Stamp::of(&stat) == self.stamp {
            true => Ok(()),
            false => Err(InputError::Changed(self.shown.clone())),
        }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Says whether the file is still as it was when it was seen first.
    pub fn finish(self) -> Result<(), InputError> {
        self.check()
    }
}

impl Read for Opened {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.read(out)
    }
}

fn failed(path: &Path, error: rustix::io::Errno) -> InputError {
    match error {
        rustix::io::Errno::NOENT => InputError::Missing(path.to_owned()),
        error => InputError::Io { path: path.to_owned(), source: error.into() },
    }
}

fn shown(from: &Path, path: &[u8]) -> PathBuf {
    from.join(std::ffi::OsStr::from_bytes(path))
}

/// Whether a relative path leads above where it begins, name by name.
fn climbs(path: &Path) -> bool {
    let mut depth = 0usize;
    path.components().any(|part| match part {
        Component::ParentDir => depth.checked_sub(1).map(|less| depth = less).is_none(),
        Component::Normal(_) => {
            depth += 1;
            false
        }
        _ => false,
    })
}

/// The directory of a path and the name in it.
fn split(path: &Path) -> (PathBuf, CString) {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    // A path of the spec holds no NUL.
    let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    (parent, CString::new(name).unwrap_or_default())
}
