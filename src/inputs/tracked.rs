//! What git tracks of a copied folder.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::InputError;
use crate::vcs::{self, Listing};

/// The files of a folder that git tracks, by their paths from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// The paths, one behind another in no order.
    bytes: Vec<u8>,
    /// Component-wise sorted, each once.
    paths: Vec<Place>,
}

/// Where a path is in the bytes of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    start: usize,
    end: usize,
    submodule: bool,
}

/// What a path is to git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A folder with something tracked in it.
    Directory,
    /// A file or symbolic link.
    File,
    /// Another repository.
    Submodule,
}

/// Why only what git tracks cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackedError {
    /// There is no git.
    #[error("`tracked` asks git, which is not there to be run")]
    NoGit,
    /// The source lies in no work tree.
    #[error("`tracked` asks git, but this is no work tree of git")]
    NoWorkTree,
    /// Nothing of the source is tracked.
    #[error("git tracks nothing of it")]
    Nothing,
    /// A tracked file is not there.
    #[error("git tracks it, but it does not exist")]
    Missing,
    /// A tracked file is not there, and one whose name differs by case is.
    #[error("git tracks it, but here its name is {0:?}")]
    Case(String),
    /// Git knows it as a file, and it is a folder, or the other way round.
    #[error("git tracks it as {0}, which it is not")]
    Kind(&'static str),
    /// Its files are tracked by another repository.
    #[error("it is a submodule, whose files are tracked by another repository")]
    Submodule,
    /// It is the place of a submodule that is not checked out.
    #[error("it is a submodule that is not checked out")]
    Absent,
}

impl TrackedError {
    /// What to do.
    pub(super) fn help(&self) -> &'static str {
        match self {
            TrackedError::NoGit => {
                "install git, or leave out `tracked` and say with `exclude` what does not belong there"
            }
            TrackedError::NoWorkTree => {
                "build in a clone, or leave out `tracked` and say with `exclude` what does not belong there"
            }
            TrackedError::Nothing => "`git add` what is to be copied, or leave out `tracked`",
            TrackedError::Missing | TrackedError::Case(_) | TrackedError::Kind(_) => {
                "bring it back with `git restore`, tell git what happened with `git add` or `git rm`, or leave it out \
                 with `exclude`"
            }
            TrackedError::Submodule => {
                "leave it out with `exclude`; an entry with this as its `from` copies what is tracked there"
            }
            TrackedError::Absent => "check it out with `git submodule update --init`",
        }
    }
}

impl Tracked {
    /// Asks git about a folder, or about one file. `at` is where it is on this machine, `from` how it is shown.
    pub fn read(at: &Path, from: &Path, directory: bool) -> Result<Tracked, InputError> {
        let no = |why| Err(InputError::Tracked { path: from.to_owned(), why });
        let io = |source| InputError::Io { path: from.to_owned(), source };
        // What lies behind a symbolic link is asked about where it is.
        let at = at.canonicalize().map_err(io)?;
        let (folder, name) = match (directory, at.parent()) {
            (false, Some(parent)) => (parent, at.file_name()),
            _ => (at.as_path(), None),
        };
        let mut tracked = Tracked::default();
        match vcs::tracked(folder, name, |path, submodule| tracked.add(path, submodule))? {
            Listing::NoGit => return no(TrackedError::NoGit),
            Listing::NoWorkTree => return no(TrackedError::NoWorkTree),
            Listing::Done => {}
        }
        if tracked.paths.iter().any(|place| tracked.path(place) == b"./") {
            return no(TrackedError::Absent);
        }
        if tracked.paths.is_empty() {
            return no(TrackedError::Nothing);
        }
        Ok(tracked.sorted())
    }

    fn add(&mut self, path: &[u8], submodule: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(path);
        self.paths.push(Place { start, end: self.bytes.len(), submodule });
    }

    fn sorted(mut self) -> Tracked {
        let path = |place: &Place| &self.bytes[place.start..place.end];
        // In the order in which they came, so that the same listing gives the same.
        self.paths.sort_by(|a, b| order(path(a), path(b)));
        // A file whose merge is not done is listed once for each side.
        self.paths.dedup_by(|a, b| path(a) == path(b));
        self
    }

    fn path(&self, place: &Place) -> &[u8] {
        &self.bytes[place.start..place.end]
    }

    /// The names directly in a folder that are tracked or hold something tracked, sorted; of the whole with the
    /// empty path.
    pub(super) fn names(&self, folder: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = self.below(folder);
        let skip = if folder.is_empty() { 0 } else { folder.len() + 1 };
        let mut names = Vec::new();
        while let Some(place) = rest.first() {
            let name = first(&self.path(place)[skip..]);
            rest = &rest[rest.partition_point(|place| first(&self.path(place)[skip..]) == name)..];
            names.push(name.to_vec());
        }
        names
    }

    /// What git knows a path as; nothing when it does not track it.
    pub(super) fn known(&self, path: &[u8]) -> Option<Known> {
        match self.paths.binary_search_by(|other| order(self.path(other), path)) {
            Ok(at) if self.paths[at].submodule => Some(Known::Submodule),
            Ok(_) => Some(Known::File),
            Err(_) => (!self.below(path).is_empty()).then_some(Known::Directory),
        }
    }

    fn below(&self, folder: &[u8]) -> &[Place] {
        if folder.is_empty() {
            return &self.paths;
        }
        let inside = |path: &[u8]| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"));
        let start = self.paths.partition_point(|path| order(self.path(path), folder) != Ordering::Greater);
        let rest = &self.paths[start..];
        &rest[..rest.partition_point(|path| inside(self.path(path)))]
    }
}

/// A tracked path that is not there: perhaps under a name that differs by case.
pub(super) fn missing(folder: &Path, name: &[u8], shown: PathBuf) -> InputError {
    let like = |other: &OsString| {
        let other = other.as_encoded_bytes();
        other != name && other.eq_ignore_ascii_case(name)
    };
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut found: Vec<OsString> = names.filter(like).collect();
    found.sort();
    let why = match found.into_iter().next() {
        Some(other) => TrackedError::Case(String::from_utf8_lossy(&other.into_vec()).into_owned()),
        None => TrackedError::Missing,
    };
    InputError::Tracked { path: shown, why }
}

/// The first component.
fn first(path: &[u8]) -> &[u8] {
    path.split(|&b| b == b'/').next().unwrap_or(path)
}

/// A slash sorts before every other byte: what a folder holds follows it.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |b: &u8| if *b == b'/' { 0 } else { *b };
    a.iter().map(key).cmp(b.iter().map(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_kinds() {
        let mut tracked = Tracked::default();
        for path in ["a", "b-c", "sub", "b/c", "b/d/e", "b.c", "b/c"] {
            tracked.add(path.as_bytes(), path == "sub");
        }
        let tracked = tracked.sorted();
        assert_eq!(tracked.paths.len(), 6);
        let names = |folder: &str| {
            let names = tracked.names(folder.as_bytes());
            names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(""), "a b b-c b.c sub");
        assert_eq!(
            (names("b"), names("b/d"), names("a"), names("x")),
            ("c d".into(), "e".into(), "".into(), "".into())
        );
        let known = |path: &str| tracked.known(path.as_bytes());
        assert_eq!(
            (known("a"), known("b"), known("b/d")),
            (Some(Known::File), Some(Known::Directory), Some(Known::Directory))
        );
        assert_eq!((known("sub"), known("c"), known("b/x")), (Some(Known::Submodule), None, None));
    }
}
