//! What a layer consists of: entries at safe paths.

use std::cmp::Ordering;
use std::fmt;

/// A path inside a root file system: relative, `/`-separated, of any bytes but NUL.
///
/// No component is empty, `.` or `..`; the root itself is the empty path. It cannot be made without
/// that check. The order is component-wise byte order: a directory comes before all it holds, and what
/// it holds comes before its next sibling (`a`, `a/b`, `a-b`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SafePath(Box<[u8]>);

/// Why bytes are not a path inside a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is `..`: the path may point outside the root.
    #[error("the path {0:?} holds a `..` component")]
    Parent(String),
    /// The path holds a NUL byte.
    #[error("the path {0:?} holds a NUL byte")]
    Nul(String),
    /// A component is longer than 255 bytes, which no file system holds.
    #[error("a name in the path {0:?} is longer than 255 bytes")]
    LongName(String),
    /// The path is longer than 4,095 bytes (PATH_MAX without its NUL).
    #[error("the path is longer than 4095 bytes: {0:?}…")]
    LongPath(String),
}

impl SafePath {
    /// The root of the file system.
    pub fn root() -> SafePath {
        SafePath(Box::default())
    }

    /// Checks a path as archives and specs write them: a leading `/` or `./`, doubled and trailing
    /// slashes and `.` components are dropped; `..` is refused wherever it stands.
    pub fn parse(path: &[u8]) -> Result<SafePath, PathError> {
        SafePath::root().join(path)
    }

    /// The path below this one that `rest` names; `rest` is checked as by [`SafePath::parse`].
    pub fn join(&self, rest: &[u8]) -> Result<SafePath, PathError> {
        let shown = || {
            let whole = if self.is_root() { rest.to_vec() } else { [&self.0, &b"/"[..], rest].concat() };
            String::from_utf8_lossy(&whole[..whole.len().min(256)]).into_owned()
        };
        if rest.contains(&0) {
            return Err(PathError::Nul(shown()));
        }
        let mut clean = Vec::with_capacity(self.0.len() + 1 + rest.len());
        clean.extend_from_slice(&self.0);
        for part in rest.split(|&b| b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::Parent(shown())),
                _ if part.len() > 255 => return Err(PathError::LongName(shown())),
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(part);
        }
        if clean.len() > 4095 {
            return Err(PathError::LongPath(shown()));
        }
        Ok(SafePath(clean.into()))
    }

    /// The bytes, without a leading or trailing slash; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the top; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// The directories above this path that are neither `before` nor above it, from the top: what has to come between
    /// the two when they follow each other in order and every directory comes before what it holds. The root is none.
    pub fn parents_after(&self, before: &SafePath) -> impl Iterator<Item = SafePath> + use<> {
        let (path, before) = (&self.0, &before.0);
        let same = path.iter().zip(before).take_while(|(a, b)| a == b).count();
        let within = same == before.len() && path.get(same).is_none_or(|&b| b == b'/');
        let known = if within { same } else { path[..same].iter().rposition(|&b| b == b'/').unwrap_or(0) };
        // At `known` is the slash behind the directory that both have, and nothing begins with one.
        let slashes = path.iter().enumerate().skip(known + 1).filter(|(_, b)| **b == b'/');
        let ends: Vec<usize> = slashes.map(|(end, _)| end).collect();
        let path = path.clone();
        ends.into_iter().map(move |end| SafePath(path[..end].into()))
    }

    /// The last component, or nothing for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<SafePath> {
        self.parent_bytes().map(|parent| SafePath(parent.into()))
    }

    /// The bytes of the directory that holds this path; `None` for the root.
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        let end = || self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        (!self.is_root()).then(|| &self.0[..end()])
    }

    /// True when this path is `other` or lies below it.
    pub fn starts_with(&self, other: &SafePath) -> bool {
        is_within(&self.0, &other.0)
    }
}

/// True when the bytes of a path are those of `other`, or of something below it.
pub(crate) fn is_within(path: &[u8], other: &[u8]) -> bool {
    other.is_empty() || path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The order of the bytes of paths: a slash sorts before every other byte, which is component-wise order without
/// splitting.
pub(crate) fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    // In sorted lists neighbours have most in common: pass over that eight bytes at a time.
    let (whole_a, _) = a.as_chunks::<8>();
    let (whole_b, _) = b.as_chunks::<8>();
    let same = 8 * whole_a.iter().zip(whole_b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    let key = |b: u8| if b == b'/' { 0 } else { b };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((&a, &b)) => key(a).cmp(&key(b)),
        None => a.len().cmp(&b.len()),
    }
}

impl Ord for SafePath {
    fn cmp(&self, other: &SafePath) -> Ordering {
        path_order(&self.0, &other.0)
    }
}

impl PartialOrd for SafePath {
    fn partial_cmp(&self, other: &SafePath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// With a leading slash; control characters, bytes that are not UTF-8 and the backslash itself are escaped, so that
/// no two paths look the same.
impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    // Control characters, and the marks that reorder or hide text on a terminal.
                    _ if c.is_control() => write!(f, "{}", c.escape_default())?,
                    '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}' => write!(f, "{}", c.escape_unicode())?,
                    _ => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One entry of a layer: everything its tar header is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub path: SafePath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, `0o7777` at most. Ignored for symbolic links, which are always 0777.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Extended attributes, name and value, in any order; each name once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file of this many bytes, which are given beside the entry.
    File {
        /// Number of bytes.
        size: u64,
    },
    /// Another name of a file that stands earlier in the same layer.
    HardLink {
        /// That file.
        target: SafePath,
    },
    /// A symbolic link; the target is kept as given.
    Symlink {
        /// The target, any bytes but NUL.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Hides `path` of the layers below (OCI image-spec `layer.md`, "Whiteouts"): written as an empty
    /// file `.wh.<name>` beside it.
    Whiteout,
    /// Hides everything that the layers below hold in the directory `path`: written as
    /// `.wh..wh..opq` in it.
    Opaque,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parents_between_neighbours() {
        let between = |before: &str, next: &str| {
            let parents = path(next).parents_after(&path(before));
            parents.map(|parent| parent.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(between("", "a/b/c"), "/a /a/b");
        assert_eq!(between("a", "a/b/c/d"), "/a/b /a/b/c");
        assert_eq!(between("a/b/c", "a/b/d"), "");
        assert_eq!(between("a/b/c", "a/bx/d"), "/a/bx");
        assert_eq!(between("a/bx", "a/b/d"), "/a/b");
        assert_eq!(between("a-b", "a/b/c"), "/a /a/b");
        assert_eq!(between("a/b/c", "a/b/c/d/e"), "/a/b/c/d");
        assert_eq!(between("a/b/c", "b"), "");
        assert_eq!(between("a/b", "a/b"), "");
        assert_eq!(between("a/b/c", "a/b"), "");
    }

    #[test]
    fn cleaned_and_refused() {
        assert_eq!(path("/./a//b/").as_bytes(), b"a/b");
        assert!(path("/").is_root());
        assert!(matches!(SafePath::parse(b"a/../b"), Err(PathError::Parent(_))));
        assert!(matches!(SafePath::parse(b"a\0b"), Err(PathError::Nul(_))));
        assert!(SafePath::parse(&[b'a'; 256]).is_err());
        assert!(SafePath::parse(&b"abc/".repeat(1100)).is_err());
        assert_eq!(path("a").join(b"/b/c").unwrap().as_bytes(), b"a/b/c");
        assert!(path("a").join(b"..").is_err());
    }

    #[test]
    fn component_wise_order() {
        let mut paths = ["a-b", "a/b", "a", "", "a.b", "a/b/c", "a/b-c", "b"].map(path);
        paths.sort();
        assert_eq!(paths, ["", "a", "a/b", "a/b/c", "a/b-c", "a-b", "a.b", "b"].map(path));
    }

    #[test]
    fn family() {
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(SafePath::root()));
        assert_eq!(path("").parent(), None);
        assert_eq!(path("a/b").name(), b"b");
        assert!(path("a/b").starts_with(&path("a")) && !path("ab").starts_with(&path("a")));
    }

    #[test]
    fn shown_without_escapes_for_terminals() {
        let shown = SafePath::parse(b"a\x1b[31m\xff\xe2\x80\xae").unwrap().to_string();
        assert_eq!(shown, "/a\\u{1b}[31m\\xff\\u{202e}");
        assert_ne!(path("a\nb").to_string(), path("a\\nb").to_string());
    }
}
