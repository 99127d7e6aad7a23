//! Writing an OCI image layout (image-spec 1.1, `image-layout.md`) into an output directory.
//!
//! One writer at a time holds the directory's lock. Blobs come first; then what was beside the old image goes; then `index.json` is
//! renamed into place, which is the moment the new image is there; then folders and files beside it come, `digests.json` last; then blobs
//! that nothing refers to are removed. What is half written lies in `.dmoci-tmp` and is removed by the next run.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dmoci_layers::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::diagnostic::{Diagnostic, Exit};
use crate::files;
use crate::oci::index::{SelfDigest, self_digest};

/// The only content that `oci-layout` has in layouts that dmoci writes.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where unfinished files lie in an output directory.
pub const SCRATCH: &str = ".dmoci-tmp";
/// The image layout in an output directory.
pub const IMAGE: &str = "image";
/// Bytes by which files beside an image are known.
const HEAD: u64 = 4096;
const PREVIEW: &str = "preview";
/// The file that says to git that an output directory is nothing to track.
pub const IGNORE: &str = ".gitignore";
/// What is in it.
pub const IGNORE_ALL: &[u8] = b"*\n";

/// Why an output directory cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Writing failed.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `image` holds something that dmoci did not write.
    #[error("{} holds {name:?}, which dmoci did not write", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What it holds.
        name: String,
    },
}

impl Diagnostic for OutputError {
    fn code(&self) -> &'static str {
        match self {
            OutputError::Io { .. } => "E-OUTPUT",
            OutputError::Foreign { .. } => "E-OUTPUT-FOREIGN",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            OutputError::Io { .. } => Exit::Undecided,
            OutputError::Foreign { .. } => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            OutputError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Some(
                "free some space, or name another output directory with -o; the last complete image is still there"
                    .into(),
            ),
            OutputError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("name a directory that this user may write with -o".into())
            }
            OutputError::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::NotFound
                ) =>
            {
                Some("name a directory with -o: one that is there, or that can be made".into())
            }
            OutputError::Io { .. } => None,
            OutputError::Foreign { .. } => {
                Some("name another output directory with -o, or move what is there".into())
            }
        }
    }
}

/// An output directory that this process alone writes, with any number of threads.
#[derive(Debug)]
pub struct LayoutWriter {
    root: PathBuf,
    /// The layout: below the root, or the root itself.
    image: PathBuf,
    /// The outermost directory that was made for it.
    made: Option<PathBuf>,
    /// Whether nothing but an image of ours was in it.
    ours: bool,
    /// Whether something is added to a layout of whomever.
    amends: bool,
    state: Mutex<State>,
    /// Holds the lock until it is closed.
    lock: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    /// Blobs that are complete, waiting for their names.
    blobs: BTreeSet<Digest>,
    /// Blobs that have their names already and keep them.
    kept: BTreeSet<Digest>,
    /// Complete folders in `scratch`, and what they will be called beside the image.
    folders: Vec<(PathBuf, &'static str)>,
    /// What is beside an earlier image and not to be beside this one.
    gone: Vec<PathBuf>,
}

/// What a build that was stopped leaves, and what builds of wheels alone write.
const OURS: [&str; 4] = [IMAGE, SCRATCH, "python", "evidence"];

/// True when there is nothing in a directory but what a build that was stopped leaves, or no directory.
fn only_ours(root: &Path) -> bool {
    let ours = |entry: fs::DirEntry| OURS.iter().any(|name| entry.file_name() == *name);
    fs::read_dir(root).map_or(true, |entries| entries.flatten().all(ours))
}

/// Names are written through no link: it could lead into a layout of somebody else. The root itself may be one: the user
/// named it.
fn linkless(root: &Path, image: &Path) -> Result<(), OutputError> {
    for below in ["blobs/sha256", "blobs/sha512", "blobs", "index.json", ""] {
        let path = image.join(below);
        if below.is_empty() && root == image {
            continue;
        }
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            let name = format!("{} (a symbolic link)", path.display());
            return Err(OutputError::Foreign { path: image.to_owned(), name });
        }
    }
    Ok(())
}

impl LayoutWriter {
    /// Opens or makes the output directory, waiting for other writers; `on_wait` is called before waiting.
    ///
    /// Remains of runs that were killed are removed. The image that is there stays as it is.
    pub fn open(root: &Path, on_wait: impl FnOnce()) -> Result<LayoutWriter, OutputError> {
        LayoutWriter::with(root, root.join(IMAGE), false, on_wait)
    }

    /// The same for a directory that is itself the layout, and holds nothing else.
    pub fn layout(root: &Path, on_wait: impl FnOnce()) -> Result<LayoutWriter, OutputError> {
        LayoutWriter::with(root, root.to_owned(), false, on_wait)
    }

    /// The same for a layout that is there, by whatever tool, to which something is added: whatever the caller keeps stays, and files
    /// that are no part of a layout are let alone. A build that writes the layout waits.
    pub fn amend(layout: &Path, on_wait: impl FnOnce()) -> Result<LayoutWriter, OutputError> {
        let output = match layout.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => layout,
        };
        let built = layout.file_name().is_some_and(|name| name == IMAGE)
            && fs::symlink_metadata(output.join("digests.json")).is_ok();
        LayoutWriter::with(if built { output } else { layout }, layout.to_owned(), true, on_wait)
    }

    fn with(
        root: &Path,
        image: PathBuf,
        amends: bool,
        on_wait: impl FnOnce(),
    ) -> Result<LayoutWriter, OutputError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| OutputError::Io { path, source }
        };
        let absent = |path: &&Path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err();
        let made = root.ancestors().take_while(absent).last().map(Path::to_owned);
        let ours = !amends && image != root && only_ours(root);
        let lock = lock(root, on_wait).map_err(at(root))?;
        let root = root.to_owned();
        let writer = LayoutWriter { root, image, made, ours, amends, state: Mutex::default(), lock };
        let (root, image) = (writer.root.as_path(), writer.image());
        linkless(root, &image)?;
        match fs::read_dir(&image) {
            Ok(_) if amends => {}
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(at(&image))?.file_name();
                    let scratch = image == root && name == SCRATCH;
                    if !scratch && !["blobs", "index.json", "oci-layout"].iter().any(|known| name == *known) {
                        let name = name.to_string_lossy().into_owned();
                        return Err(OutputError::Foreign { path: image, name });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(OutputError::Foreign { path: root.to_owned(), name: IMAGE.into() });
            }
            Err(error) => return Err(at(&image)(error)),
        }
        let index = image.join("index.json");
        match fs::read(&index) {
            Ok(bytes) if !amends && self_digest(&bytes) == SelfDigest::Unmarked => {
                return Err(OutputError::Foreign { path: image, name: "index.json".into() });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&index)(error)),
            _ => {}
        }
        writer.clean()?;
        let scratch = writer.scratch();
        fs::create_dir(&scratch).map_err(at(&scratch))?;
        Ok(writer)
    }

    /// Sees to it that what is written beside an image replaces nothing of somebody else: where no image is, each of
    /// these files is one that `is_ours` knows by its beginning.
    pub fn beside(&self, names: &[&str], is_ours: impl Fn(&[u8]) -> bool) -> Result<(), OutputError> {
        if fs::symlink_metadata(self.image().join("index.json")).is_ok() {
            return Ok(());
        }
        for name in names {
            let path = self.root.join(name);
            let known = match fs::symlink_metadata(&path) {
                Err(_) => true,
                Ok(metadata) if !metadata.is_file() => false,
                Ok(_) => {
                    let mut head = Vec::new();
                    let read = fs::File::open(&path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
                    read.is_ok() && is_ours(&head)
                }
            };
            if !known {
                return Err(OutputError::Foreign { path: self.root.clone(), name: (*name).to_owned() });
            }
        }
        Ok(())
    }

    /// Sees to it that the directory is still the one that was locked, and that no link has come into it.
    fn unmoved(&self) -> Result<(), OutputError> {
        let at = |source: io::Error| OutputError::Io { path: self.root.clone(), source };
        let locked = rustix::fs::fstat(&self.lock).map_err(|error| at(error.into()))?;
        let named = rustix::fs::stat(&self.root).map_err(|error| at(error.into()))?;
        if (named.st_dev, named.st_ino) != (locked.st_dev, locked.st_ino) {
            return Err(at(io::Error::other("another directory has come into its place")));
        }
        linkless(&self.root, &self.image)
    }

    /// The image layout.
    pub fn image(&self) -> PathBuf {
        self.image.clone()
    }

    /// Where unfinished files lie.
    pub fn scratch(&self) -> PathBuf {
        self.root.join(SCRATCH)
    }

    /// A blob that has no name yet.
    pub fn begin(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new().prefix("blob").tempfile_in(self.scratch())
    }

    /// Takes a complete blob. It gets its name in the layout only when the image is complete.
    pub fn commit(&self, blob: tempfile::NamedTempFile, digest: &Digest) -> io::Result<()> {
        let path = self.waiting(digest);
        files::publish(blob, &path)
            .map_err(|error| io::Error::new(error.kind(), format!("{error} at path {path:?}")))?;
        self.state().blobs.insert(digest.clone());
        Ok(())
    }

    /// Puts a document here under its digest. One that is there with the same bytes stays.
    pub fn put(&self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
        if files::holds(&self.blob(digest), bytes) {
            self.keep(digest);
            return Ok(());
        }
        let mut file = self.begin()?;
        file.write_all(bytes)?;
        self.commit(file, digest)
    }

    /// Where a blob of the layout is, or will be.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory(digest).join(digest.hex())
    }

    /// A blob that is in the layout stays there. Its content is the caller's to judge.
    pub fn keep(&self, digest: &Digest) {
        self.state().kept.insert(digest.clone());
    }

    /// True when the blob is one of this image already.
    pub fn has(&self, digest: &Digest) -> bool {
        let state = self.state();
        state.blobs.contains(digest) || state.kept.contains(digest)
    }

    /// Takes a complete blob that `place` gives a name; that it is one, on the disk, is the caller's to judge. False
    /// when `place` says that there is none.
    pub fn adopt(&self, digest: &Digest, place: impl FnOnce(&Path) -> io::Result<bool>) -> io::Result<bool> {
        let path = self.waiting(digest);
        let placed = place(&path)?;
        if placed {
            self.state().blobs.insert(digest.clone());
        }
        Ok(placed)
    }

    /// Where a complete blob lies until it gets its name.
    pub fn waiting(&self, digest: &Digest) -> PathBuf {
        self.scratch().join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// A layout of what `finish` would make of the same index, in `scratch`: for a look at it before that. Goes away with
    /// everything unfinished.
    pub fn preview(&self, index: &[u8]) -> Result<PathBuf, OutputError> {
        let layout = self.scratch().join(PREVIEW);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| OutputError::Io { path, source }
        };
        let state = self.state();
        for (digest, from) in (state.blobs.iter().map(|digest| (digest, self.waiting(digest))))
            .chain(state.kept.iter().map(|digest| (digest, self.blob(digest))))
        {
            let directory = layout.join("blobs").join(digest.algorithm().name());
            fs::create_dir_all(&directory).map_err(at(&directory))?;
            let to = directory.join(digest.hex());
            // Not every file system has hard links.
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ())).map_err(at(&to))?;
        }
        fs::create_dir_all(&layout).map_err(at(&layout))?;
        for (name, bytes) in [("oci-layout", OCI_LAYOUT), ("index.json", index)] {
            let path = layout.join(name);
            fs::write(&path, bytes).map_err(at(&path))?;
        }
        Ok(layout)
    }

    /// Names all blobs, makes `index` the content of the layout, puts folders in their places, and writes the files `beside` it, in
    /// this order; removes other blobs and everything unfinished. A blob of the same name that was there is replaced unless it was
    /// kept; what is as it should be is not written again.
    ///
    /// What is beside the image that was there and is not to stay goes before the new image is there, and what takes its place comes
    /// after that: whenever this is cut off, nothing is beside an image that is about another one.
    pub fn finish(self, index: &[u8], beside: &[(&str, &[u8])]) -> Result<(), OutputError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| OutputError::Io { path, source }
        };
        self.unmoved()?;
        let (image, scratch) = (self.image(), self.scratch());
        let put = |directory: &Path, name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            match files::holds(&path, bytes) {
                true => Ok(()),
                false => files::replace(&scratch, directory, name, bytes).map_err(at(&path)),
            }
        };
        // What needs space is written first.
        let mut files = Vec::new();
        for (name, bytes) in beside {
            let path = self.root.join(name);
            if !files::holds(&path, bytes) {
                let staged = self.begin().and_then(|mut file| {
                    file.write_all(bytes)?;
                    file.as_file().sync_all()?;
                    Ok(file)
                });
                files.push((staged.map_err(at(&path))?, path));
            }
        }
        let mut directories = BTreeSet::new();
        for digest in &self.state().blobs {
            let directory = self.directory(digest);
            fs::create_dir_all(&directory).map_err(at(&directory))?;
            let path = directory.join(digest.hex());
            fs::rename(self.waiting(digest), &path).map_err(at(&path))?;
            directories.insert(directory);
        }
        if !directories.is_empty() {
            directories.extend([image.join("blobs"), image.clone()]);
        }
        for directory in directories {
            files::sync(&directory).map_err(at(&directory))?;
        }
        fs::create_dir_all(&image).map_err(at(&image))?;
        if !self.amends {
            put(&image, "oci-layout", OCI_LAYOUT)?;
        }
        // What is built is no part of the tree that it is built from. What else is in a directory is not ours to hide.
        if self.ours && fs::symlink_metadata(self.root.join(IGNORE)).is_err() {
            files::replace(&scratch, &self.root, IGNORE, IGNORE_ALL).map_err(at(&self.root.join(IGNORE)))?;
        }
        let (folders, gone) = {
            let mut state = self.state();
            (std::mem::take(&mut state.folders), std::mem::take(&mut state.gone))
        };
        let folders: Vec<_> =
            folders.into_iter().map(|(staged, name)| (staged, self.root.join(name))).collect();
        // The last of the files lists what is in the others and in the folders: it goes first and comes last.
        // What is about a folder goes before it.
        let old = files.iter().rev().map(|(_, path)| path.clone());
        let old = old.chain(gone.into_iter().map(|name| self.root.join(name)));
        let old = old.chain(folders.iter().map(|(_, path)| path.clone()));
        self.withdraw(old)?;
        put(&image, "index.json", index)?;
        for (staged, path) in folders {
            files::replace_folder(&staged, &path).map_err(at(&path))?;
        }
        for (staged, path) in files {
            let directory = path.parent().unwrap_or(&self.root);
            let made = fs::create_dir_all(directory);
            made.and_then(|()| files::publish(staged, &path)).map_err(at(&path))?;
            files::sync(directory).map_err(at(directory))?;
        }
        self.sweep()?;
        self.clean()
    }

    /// Takes what has these names away, on the disk too.
    fn withdraw(&self, paths: impl Iterator<Item = PathBuf>) -> Result<(), OutputError> {
        let mut directories = BTreeSet::new();
        for (number, path) in paths.enumerate() {
            match fs::rename(&path, self.scratch().join(format!("old-{number}"))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(OutputError::Io { path, source }),
                Ok(()) => directories.extend(path.parent().map(Path::to_owned)),
            }
        }
        for directory in directories {
            files::sync(&directory).map_err(|source| OutputError::Io { path: directory.clone(), source })?;
            // A folder of such files goes when it is empty.
            if directory != self.root {
                let _ = fs::remove_dir(&directory);
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, digest: &Digest) -> PathBuf {
        self.image().join("blobs").join(digest.algorithm().name())
    }

    /// Removes blobs that nothing refers to.
    fn sweep(&self) -> Result<(), OutputError> {
        for algorithm in ["sha256", "sha512"] {
            let directory = self.image().join("blobs").join(algorithm);
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let digest = format!("{algorithm}:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
                if digest.is_ok_and(|digest| !self.has(&digest)) {
                    let path = entry.path();
                    fs::remove_file(&path).map_err(|source| OutputError::Io { path, source })?;
                }
            }
        }
        Ok(())
    }

    /// Removes everything unfinished.
    fn clean(&self) -> Result<(), OutputError> {
        let scratch = self.scratch();
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OutputError::Io { path: scratch, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Has a complete folder in `scratch` take the place of the one of this name beside the image, with it.
    pub fn folder(&self, staged: PathBuf, name: &'static str) {
        self.state().folders.push((staged, name));
    }

    /// Has what has this name beside the image go when the new image comes.
    pub fn without(&self, name: PathBuf) {
        self.state().gone.push(name);
    }

    /// Gives up: nothing unfinished stays, and what was there before is as it was.
    pub fn abandon(self) {
        // The error that led here is the one to report; the next run tries again.
        if self.unmoved().is_err() {
            return;
        }
        let _ = self.clean();
        // Directories go away only when they are empty, which they are when this run made them.
        let made = |path: &&Path| self.made.as_deref().is_some_and(|made| path.starts_with(made));
        let above = self.root.ancestors().skip(1).take_while(made);
        for directory in [self.root.as_path()].into_iter().chain(above) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Makes the directory and locks it. A writer that gives up may remove it while others wait for it; these make
/// it again.
pub fn lock(root: &Path, on_wait: impl FnOnce()) -> io::Result<OwnedFd> {
    let mut on_wait = Some(on_wait);
    loop {
        fs::create_dir_all(root)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = match rustix::fs::open(root, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => continue,
            opened => opened?,
        };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if let Some(on_wait) = on_wait.take() {
                on_wait();
            }
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        }
        let locked = rustix::fs::fstat(&lock)?;
        if let Ok(named) = rustix::fs::stat(root)
            && (named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino)
        {
            return Ok(lock);
        }
    }
}
