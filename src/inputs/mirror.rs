//! A real copy of the inputs that a specification names, and of nothing else, at another place.
//!
//! What must not show in an image is made other on purpose: names are created in reverse, times are of another day,
//! what group and others may do is the opposite. Symbolic links on the way to an input stay links.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dmoci_layers::{EntryKind, SafePath};

use super::files::{CopySource, Project};
use super::{Content, InputError, Item};

/// A directory that takes the place of a project.
pub struct Mirror {
    project: Project,
    target: PathBuf,
    /// Group and others may read.
    shared: bool,
    /// Files so far: each has its own time.
    files: u64,
}

/// How many symbolic links are followed on one path, as Linux does.
const LINKS: usize = 40;

/// The time of the first file: 2001-09-09T01:46:40Z.
const TIME: u64 = 1_000_000_000;

impl Mirror {
    /// Makes the directory `target`, which must not be there.
    pub fn new(project: Project, target: &Path) -> Result<Mirror, InputError> {
        // The opposite of what the project itself allows stands for its umask.
        let own = fs::metadata(project.path_of(Path::new("")));
        let shared = own.is_ok_and(|own| own.mode() & 0o077 == 0);
        let mirror = Mirror { project, target: target.to_owned(), shared, files: 0 };
        mirror.make_directory(Path::new(""))?;
        Ok(mirror)
    }

    /// Copies what a folder or file gives. Only `from` and what decides what is taken of it play a part.
    pub fn copy(&mut self, source: &CopySource) -> Result<(), InputError> {
        if !source.is_directory()? {
            return self.file(&source.from);
        }
        let at = self.settle(&source.from)?;
        self.make_directory(&at)?;
        let source =
            CopySource { to: SafePath::root(), file_mode: None, substitution: None, ..source.clone() };
        let source = Arc::new(source);
        for item in source.items_backwards()? {
            let Item { entry, content } = item?;
            let path = at.join(OsStr::from_bytes(entry.path.as_bytes()));
            match (entry.kind, &content) {
                (EntryKind::Directory, _) => self.make_directory(&path)?,
                (EntryKind::Symlink { target }, _) => self.make_link(&path, OsStr::from_bytes(&target))?,
                (EntryKind::File { size }, Content::Project(handle)) => {
                    let opened = handle.open()?;
                    self.make_file(&path, opened.file(), size, entry.mode & 0o100 != 0)?;
                    opened.finish()?;
                }
                // A folder gives nothing else.
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies one file.
    pub fn file(&mut self, path: &Path) -> Result<(), InputError> {
        let at = self.settle(path)?;
        let file = self.project.open_file(path)?;
        self.put(&at, &file)
    }

    /// Makes a file of this content, which may come from elsewhere, unless something is there already.
    pub fn put(&mut self, path: &Path, from: &File) -> Result<(), InputError> {
        let metadata = from.metadata().map_err(|source| InputError::Io { path: path.to_owned(), source })?;
        self.make_file(path, from, metadata.len(), metadata.mode() & 0o100 != 0)
    }

    /// Where the path leads in the project, every link followed; directories and links on the way are made.
    fn settle(&self, path: &Path) -> Result<PathBuf, InputError> {
        let mut pending: Vec<OsString> = names(path);
        let mut at = PathBuf::new();
        let mut followed = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                if !at.pop() {
                    return Err(InputError::Outside(path.to_owned()));
                }
                continue;
            }
            let next = at.join(&name);
            match self.project.link(&next)? {
                Some(target) => {
                    followed += 1;
                    if followed > LINKS || Path::new(&target).is_absolute() {
                        return Err(InputError::Outside(path.to_owned()));
                    }
                    self.make_link(&next, &target)?;
                    pending.extend(names(Path::new(&target)));
                }
                None => {
                    if !pending.is_empty() {
                        self.make_directory(&next)?;
                    }
                    at = next;
                }
            }
        }
        Ok(at)
    }

    fn make_directory(&self, path: &Path) -> Result<(), InputError> {
        let at = self.target.join(path);
        match DirBuilder::new().mode(0o700).create(&at) {
            Ok(()) => self.allow(&at, 0o700),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(InputError::Scratch { path: at, source }),
        }
    }

    fn make_link(&self, path: &Path, target: &OsStr) -> Result<(), InputError> {
        let at = self.target.join(path);
        match symlink(target, &at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(InputError::Scratch { path: at, source: error })
            }
            _ => Ok(()),
        }
    }

    fn make_file(
        &mut self,
        path: &Path,
        mut from: &File,
        size: u64,
        executable: bool,
    ) -> Result<(), InputError> {
        let at = self.target.join(path);
        let scratch = |source| InputError::Scratch { path: at.clone(), source };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at) {
            // Named twice.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            opened => opened.map_err(scratch)?,
        };
        // The blocks themselves where the file system can share them.
        if rustix::fs::ioctl_ficlone(&file, from).is_err() {
            let mut left = size;
            let mut buffer = vec![0; 128 << 10];
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                match from.read(&mut buffer[..most]) {
                    Ok(0) => break,
                    Ok(n) => {
                        file.write_all(&buffer[..n]).map_err(scratch)?;
                        left -= n as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => return Err(InputError::Io { path: path.to_owned(), source }),
                }
            }
        }
        self.files += 1;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME + self.files);
        file.set_times(FileTimes::new().set_modified(time)).map_err(scratch)?;
        self.allow(&at, if executable { 0o700 } else { 0o600 })
    }

    /// Lets group and others read, or nothing.
    fn allow(&self, at: &Path, own: u32) -> Result<(), InputError> {
        let read = own & 0o500;
        let mode = if self.shared { own | read >> 3 | read >> 6 } else { own };
        let done = fs::set_permissions(at, Permissions::from_mode(mode));
        done.map_err(|source| InputError::Scratch { path: at.to_owned(), source })
    }
}

/// The names of a path, the first last.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::pattern::Patterns;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            let place = Place(tempfile::tempdir().unwrap());
            fs::create_dir(place.0.path().join("project")).unwrap();
            place
        }

        fn write(&self, path: &str) {
            let path = self.0.path().join("project").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_bytes()).unwrap();
        }

        fn link(&self, target: &str, path: &str) {
            symlink(target, self.0.path().join("project").join(path)).unwrap();
        }

        fn mirror(&self) -> Mirror {
            let project = Project::open(&self.0.path().join("project")).unwrap();
            Mirror::new(project, &self.0.path().join("copy")).unwrap()
        }

        fn source(&self, from: &str, exclude: &[&str]) -> CopySource {
            let exclude: Vec<String> = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
            CopySource {
                project: Project::open(&self.0.path().join("project")).unwrap(),
                from: from.into(),
                to: SafePath::parse(b"opt/x").unwrap(),
                patterns: Patterns::new(&[], &exclude).unwrap(),
                tracked: None,
                substitution: None,
                without: Vec::new(),
                below: Vec::new(),
                owner: (0, 0),
                file_mode: Some(0o600),
                dir_mode: 0o755,
            }
        }

        /// `path`, `path/` or `path -> target`, sorted.
        fn copied(&self) -> Vec<String> {
            fn walk(at: &Path, shown: &str, found: &mut Vec<String>) {
                for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
                    let name = format!("{shown}{}", entry.file_name().to_str().unwrap());
                    let kind = entry.file_type().unwrap();
                    if kind.is_dir() {
                        found.push(format!("{name}/"));
                        walk(&entry.path(), &format!("{name}/"), found);
                    } else if kind.is_symlink() {
                        found.push(format!("{name} -> {}", fs::read_link(entry.path()).unwrap().display()));
                    } else {
                        assert_eq!(fs::read(entry.path()).unwrap(), entry.file_name().as_bytes(), "{name}");
                        found.push(name);
                    }
                }
            }
            let mut found = Vec::new();
            walk(&self.0.path().join("copy"), "", &mut found);
            found.sort();
            found
        }
    }

    #[test]
    fn what_is_named_and_nothing_else() {
        let place = Place::new();
        for path in ["src/a", "src/deep/b", "src/deep/c.md", "src/cache/x", "other/y", "one", "two"] {
            place.write(path);
        }
        place.link("../../nowhere", "src/broken");
        place.link("one", "named");
        fs::create_dir(place.0.path().join("project/src/empty")).unwrap();
        let mut mirror = place.mirror();
        mirror.copy(&place.source("src", &["*.md", "cache/"])).unwrap();
        mirror.copy(&place.source("named", &[])).unwrap();
        mirror.file(Path::new("two")).unwrap();
        mirror.file(Path::new("two")).unwrap();
        let expected = [
            "named -> one",
            "one",
            "src/",
            "src/a",
            "src/broken -> ../../nowhere",
            "src/deep/",
            "src/deep/b",
            "src/empty/",
            "two",
        ];
        assert_eq!(place.copied(), expected);
    }

    #[test]
    fn links_on_the_way_stay_links() {
        let place = Place::new();
        place.write("real/inner/f");
        place.write("real/g");
        place.link("real", "a");
        place.link("../a/inner", "real/up");
        place.link("real", "real/loop");
        let mut mirror = place.mirror();
        mirror.copy(&place.source("a/up", &[])).unwrap();
        mirror.file(Path::new("a/g")).unwrap();
        let expected =
            ["a -> real", "real/", "real/g", "real/inner/", "real/inner/f", "real/up -> ../a/inner"];
        assert_eq!(place.copied(), expected);
        place.link("/etc", "absolute");
        place.link("../..", "above");
        place.link("circle", "circle");
        for out in ["absolute/passwd", "above/x", "circle/x"] {
            assert!(mirror.file(Path::new(out)).is_err(), "{out}");
        }
    }

    #[test]
    fn what_must_not_show_is_other() {
        for private in [true, false] {
            let place = Place::new();
            place.write("src/plain");
            place.write("src/run");
            let project = place.0.path().join("project");
            let allow = |path: &str, mode| {
                fs::set_permissions(project.join(path), Permissions::from_mode(mode)).unwrap();
            };
            allow("", if private { 0o700 } else { 0o755 });
            allow("src/run", if private { 0o700 } else { 0o755 });
            let mut mirror = place.mirror();
            mirror.copy(&place.source("src", &[])).unwrap();
            let modes = ["copy/src", "copy/src/plain", "copy/src/run"].map(|path| {
                let metadata = fs::metadata(place.0.path().join(path)).unwrap();
                metadata.mode() & 0o7777
            });
            assert_eq!(modes, if private { [0o755, 0o644, 0o755] } else { [0o700, 0o600, 0o700] });
            let times = ["copy/src/plain", "copy/src/run"].map(|path| {
                let metadata = fs::metadata(place.0.path().join(path)).unwrap();
                metadata.mtime()
            });
            // The last name is the first file.
            assert_eq!(times, [1_000_000_002, 1_000_000_001]);
        }
    }
}
