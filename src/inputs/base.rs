//! What lies below a layer: the merged tree of the base image and the layers before it.
//!
//! Only what later layers depend on is kept: directories with their metadata, symbolic links, that a path
//! is taken by something else, the contents of `/etc/passwd` and `/etc/group`, and what tells of a Python.

mod find;
mod layer;
mod members;
mod sketch;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Arc;

use dmoci_layers::{Entry, EntryKind, SafePath};
use serde::{Deserialize, Serialize};

use super::telling::{self, Facts, Keep};
use super::{Content, InputError, Item};
use crate::limits;
pub use find::is_library;
pub use layer::{LayerTree, StoredTree};
pub use members::{Members, StoredMembers, extract};
pub use sketch::{Notes, Sketch};
use sketch::{Question, Witness};

/// How many symbolic links are followed on one path, as Linux does.
const LINKS: usize = 40;

/// Something in the merged tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A directory, and the metadata that it is given again with when a layer has something in it.
    Directory(Arc<Directory>),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A file, device or anything else that nothing can be in.
    Other,
}

/// The metadata of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Directory {
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Directory {
    /// What a directory has that nobody described: 0755, owner 0:0.
    fn default() -> Directory {
        Directory { mode: 0o755, uid: 0, gid: 0, xattrs: Vec::new() }
    }
}

impl Directory {
    /// The entry of this directory at `path`.
    pub fn entry(&self, path: SafePath) -> Entry {
        let Directory { mode, uid, gid, xattrs } = self.clone();
        Entry { path, kind: EntryKind::Directory, mode, uid, gid, xattrs }
    }
}

/// The files whose content is kept.
pub const KEPT: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];

/// How the content of a file is kept, if at all.
fn keep(path: &SafePath, size: u64) -> Option<Keep> {
    match KEPT.contains(&path.as_bytes()) {
        true => (size <= limits::PASSWD_BYTES).then_some(Keep::Whole),
        false => telling::keep(path, size),
    }
}

/// The merged tree.
///
/// Of the many entries that nothing can be in only the names are held, so that a million files take some tens of
/// megabytes.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Directories and symbolic links.
    nodes: BTreeMap<SafePath, Node>,
    /// The metadata of directories, once each: most have the same.
    kinds: BTreeSet<Arc<Directory>>,
    /// The names of everything else, by the directory that holds them.
    others: BTreeMap<SafePath, BTreeSet<Box<[u8]>>>,
    contents: BTreeMap<SafePath, Content>,
    /// What files that were read say of themselves.
    facts: BTreeMap<SafePath, Facts>,
    /// Who hears what is asked.
    witness: Witness,
}

const OTHER: &Node = &Node::Other;

/// Why a path cannot be used above a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A file stands where a directory is needed.
    #[error("{path} needs the directory {file}, which is a file in the layers below")]
    NotDirectory {
        /// The path wanted.
        path: SafePath,
        /// What is in the way.
        file: SafePath,
    },
    /// Symbolic links lead in a circle.
    #[error("{path} lies behind symbolic links that lead in a circle in the layers below")]
    Circle {
        /// The path wanted.
        path: SafePath,
    },
    /// A link of the layers below cannot be followed.
    #[error("{path} lies behind the symbolic link {link} of the layers below, which cannot be followed")]
    Link {
        /// The path wanted.
        path: SafePath,
        /// The link.
        link: SafePath,
    },
}

/// Whether the path comes after every key, as all do that are put in in order: then nothing has to be searched.
fn is_beyond<T>(map: &BTreeMap<SafePath, T>, path: &SafePath) -> bool {
    map.last_key_value().is_none_or(|(last, _)| last < path)
}

impl Tree {
    /// What stands at this path.
    pub fn get(&self, path: &SafePath) -> Option<&Node> {
        let node = if is_beyond(&self.nodes, path) { None } else { self.nodes.get(path) };
        let node = node.or_else(|| self.has_other(path).then_some(OTHER));
        self.ask(Question::Node, path, node.is_some());
        node
    }

    fn has_other(&self, path: &SafePath) -> bool {
        let names = match self.others.last_key_value() {
            Some((last, names)) if Some(last.as_bytes()) == path.parent_bytes() => Some(names),
            _ => path.parent().and_then(|parent| self.others.get(&parent)),
        };
        names.is_some_and(|names| names.contains(path.name()))
    }

    /// The content of one of [`KEPT`], or of another file that is kept whole, when there is such a file.
    pub fn content(&self, path: &SafePath) -> Result<Option<Vec<u8>>, InputError> {
        self.ask(Question::Content, path, self.contents.contains_key(path));
        let Some(content) = self.contents.get(path) else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut reader = content.open()?;
        reader
            .read_to_end(&mut bytes)
            .map_err(|source| InputError::Io { path: path.to_string().into(), source })?;
        reader.finish()?;
        Ok(Some(bytes))
    }

    /// The files that [`Tree::facts`] may tell of, in the order of their paths.
    pub fn telling(&self) -> impl Iterator<Item = &SafePath> {
        self.ask(Question::Telling, &SafePath::root(), false);
        let raw = self.contents.keys().filter(|path| telling::keep(path, 0) == Some(Keep::Scanned));
        let mut all: BTreeSet<&SafePath> = raw.collect();
        all.extend(self.facts.keys());
        all.into_iter()
    }

    /// What an interpreter or a C library at this path says of itself; nothing when there is no such file.
    pub fn facts(&self, path: &SafePath) -> Result<Option<Facts>, InputError> {
        self.ask(Question::Facts, path, self.facts.contains_key(path) || self.contents.contains_key(path));
        if let Some(facts) = self.facts.get(path) {
            return Ok(Some(facts.clone()));
        }
        let Some(content) = self.contents.get(path) else { return Ok(None) };
        let mut reader = content.open()?;
        let facts = telling::scan(&mut reader)
            .map_err(|source| InputError::Io { path: path.to_string().into(), source })?;
        reader.finish()?;
        Ok(Some(facts))
    }

    /// The metadata that a directory is given again with.
    pub fn directory(&self, path: &SafePath) -> Directory {
        let node = self.nodes.get(path);
        self.ask(Question::Node, path, node.is_some());
        match node {
            Some(Node::Directory(directory)) => Directory::clone(directory),
            _ => Directory::default(),
        }
    }

    /// The paths of the symbolic links at or below a directory.
    pub fn links_below<'a>(&'a self, path: &'a SafePath) -> impl Iterator<Item = &'a SafePath> {
        self.ask(Question::Links, path, false);
        self.nodes
            .range(path.clone()..)
            .take_while(|(inner, _)| inner.starts_with(path))
            .filter(|(_, node)| matches!(node, Node::Symlink(_)))
            .map(|(inner, _)| inner)
    }

    /// The directories in a directory.
    pub fn directories_in<'a>(&'a self, path: &'a SafePath) -> impl Iterator<Item = &'a SafePath> {
        self.ask(Question::Directories, path, false);
        let depth = path.components().count() + 1;
        self.nodes
            .range(path.clone()..)
            .take_while(|(inner, _)| inner.starts_with(path))
            .filter(move |(inner, node)| {
                matches!(node, Node::Directory(_)) && inner.components().count() == depth
            })
            .map(|(inner, _)| inner)
    }

    /// The path with every symbolic link above its last component followed inside the root; the last one too
    /// when `last` is set and it leads to a directory or to nothing.
    pub fn resolve(&self, path: &SafePath, last: bool) -> Result<SafePath, TreeError> {
        self.resolve_over(path, last, &BTreeSet::new())
    }

    /// As [`resolve`](Tree::resolve), above a layer that makes directories of the files `over`.
    pub fn resolve_over(
        &self,
        path: &SafePath,
        last: bool,
        over: &BTreeSet<SafePath>,
    ) -> Result<SafePath, TreeError> {
        let mut pending: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut at = SafePath::root();
        let mut followed = 0;
        while let Some(name) = pending.pop() {
            if name == b".." {
                at = at.parent().unwrap_or_else(SafePath::root);
                continue;
            }
            let bad = |link: &SafePath| TreeError::Link { path: path.clone(), link: link.clone() };
            let next = at.join(&name).map_err(|_| bad(&at))?;
            match self.get(&next) {
                Some(Node::Symlink(target)) if last || !pending.is_empty() => {
                    followed += 1;
                    if followed > LINKS || target.len() > 4095 {
                        return Err(TreeError::Circle { path: path.clone() });
                    }
                    if target.starts_with(b"/") {
                        at = SafePath::root();
                    }
                    let parts = target.split(|&b| b == b'/').filter(|p| !matches!(*p, b"" | b"."));
                    pending.extend(parts.rev().map(<[u8]>::to_vec));
                }
                Some(Node::Other) if !pending.is_empty() && !over.contains(&next) => {
                    return Err(TreeError::NotDirectory { path: path.clone(), file: next });
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Puts the entry of a layer that dmoci makes into the tree.
    pub fn apply(&mut self, item: &Item) {
        let entry = &item.entry;
        match &entry.kind {
            EntryKind::Whiteout => self.remove(&entry.path, true),
            EntryKind::Opaque => self.remove(&entry.path, false),
            EntryKind::Directory => self.put_directory(entry),
            EntryKind::Symlink { target } => {
                self.put(entry.path.clone(), Node::Symlink(target.as_slice().into()));
            }
            _ => self.put(entry.path.clone(), Node::Other),
        }
        if let EntryKind::File { size } = entry.kind
            && keep(&entry.path, size).is_some()
        {
            self.contents.insert(entry.path.clone(), item.content.clone());
        }
    }

    /// Puts a layer that others made into the tree (OCI image-spec 1.1, `layer.md`).
    pub fn apply_layer(&mut self, layer: LayerTree) {
        // Whiteouts hide what lower layers have, never what their own layer has.
        for (path, whole) in &layer.hidden {
            self.remove(path, *whole);
        }
        for (path, node) in layer.own.nodes {
            match node {
                Node::Directory(directory) => self.put_directory(&directory.entry(path)),
                node => self.put(path, node),
            }
        }
        for (directory, names) in layer.own.others {
            for name in names {
                // The names were parts of paths.
                if let Ok(path) = directory.join(&name) {
                    self.put(path, Node::Other);
                }
            }
        }
        self.contents.extend(layer.own.contents);
        self.facts.extend(layer.own.facts);
    }

    fn put_directory(&mut self, entry: &Entry) {
        let (mode, uid, gid, xattrs) = (entry.mode, entry.uid, entry.gid, entry.xattrs.clone());
        let node = Node::Directory(self.kind(Directory { mode, uid, gid, xattrs }));
        match self.get(&entry.path) {
            // A directory over a directory keeps what is in it.
            Some(Node::Directory(_)) | None => self.set(entry.path.clone(), node),
            Some(_) => self.put(entry.path.clone(), node),
        }
    }

    /// The metadata of a directory, which is there once.
    fn kind(&mut self, directory: Directory) -> Arc<Directory> {
        if let Some(kind) = self.kinds.get(&directory) {
            return Arc::clone(kind);
        }
        let kind = Arc::new(directory);
        self.kinds.insert(Arc::clone(&kind));
        kind
    }

    /// Puts something in the place of whatever was there, with all that was in it.
    fn put(&mut self, path: SafePath, node: Node) {
        if self.knows(&path) {
            self.remove(&path, true);
        }
        self.set(path, node);
    }

    /// Whether anything but a name that nothing can be in stands at this path, or is known of what is there or below.
    fn knows(&self, path: &SafePath) -> bool {
        fn first<T>(map: &BTreeMap<SafePath, T>, path: &SafePath) -> bool {
            !is_beyond(map, path)
                && map.range::<SafePath, _>(path..).next().is_some_and(|(inner, _)| inner.starts_with(path))
        }
        let Tree { nodes, others, contents, facts, .. } = self;
        first(nodes, path) || first(others, path) || first(contents, path) || first(facts, path)
    }

    /// Says what stands at a path, and nothing of what is below.
    fn set(&mut self, path: SafePath, node: Node) {
        match node {
            Node::Other => {
                if !is_beyond(&self.nodes, &path) {
                    self.nodes.remove(&path);
                }
                match self.others.last_entry() {
                    Some(mut last) if Some(last.key().as_bytes()) == path.parent_bytes() => {
                        last.get_mut().insert(path.name().into());
                    }
                    _ => {
                        let parent = path.parent().unwrap_or_else(SafePath::root);
                        self.others.entry(parent).or_default().insert(path.name().into());
                    }
                }
            }
            node => {
                let parent = path.parent().unwrap_or_else(SafePath::root);
                if let Some(names) = self.others.get_mut(&parent) {
                    names.remove(path.name());
                }
                self.nodes.insert(path, node);
            }
        }
    }

    /// Takes away all below `path`, and the path itself when `whole`.
    fn remove(&mut self, path: &SafePath, whole: bool) {
        if whole && let Some(names) = path.parent().and_then(|parent| self.others.get_mut(&parent)) {
            names.remove(path.name());
        }
        fn below<T>(map: &BTreeMap<SafePath, T>, path: &SafePath, whole: bool) -> Vec<SafePath> {
            map.range(path.clone()..)
                .take_while(|(inner, _)| inner.starts_with(path))
                .filter(|(inner, _)| whole || *inner != path)
                .map(|(inner, _)| inner.clone())
                .collect()
        }
        for path in below(&self.nodes, path, whole) {
            self.nodes.remove(&path);
        }
        for path in below(&self.contents, path, whole) {
            self.contents.remove(&path);
        }
        for path in below(&self.facts, path, whole) {
            self.facts.remove(&path);
        }
        // The names are those in the directory: also in `path` itself.
        for path in below(&self.others, path, true) {
            self.others.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text.as_bytes()).unwrap()
    }

    fn tree(entries: &[(&str, EntryKind)]) -> Tree {
        let mut tree = Tree::default();
        for (name, kind) in entries {
            let entry =
                Entry { path: path(name), kind: kind.clone(), mode: 0o700, uid: 1, gid: 2, xattrs: vec![] };
            tree.apply(&Item { entry, content: Content::None });
        }
        tree
    }

    fn link(target: &str) -> EntryKind {
        EntryKind::Symlink { target: target.as_bytes().to_vec() }
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let tree = tree(&[
            ("usr", EntryKind::Directory),
            ("usr/lib", EntryKind::Directory),
            ("lib", link("usr/lib")),
            ("a", EntryKind::Directory),
            ("a/up", link("../../../../lib")),
            ("abs", link("/usr/./lib/")),
            ("dangling", link("var/run")),
            ("x", link("y")),
            ("y", link("x")),
            ("file", EntryKind::File { size: 0 }),
        ]);
        let resolve = |p: &str| tree.resolve(&path(p), false).map(|p| p.to_string());
        assert_eq!(resolve("lib/x").unwrap(), "/usr/lib/x");
        assert_eq!(resolve("a/up/x").unwrap(), "/usr/lib/x");
        assert_eq!(resolve("abs/x/y").unwrap(), "/usr/lib/x/y");
        assert_eq!(resolve("dangling/x").unwrap(), "/var/run/x");
        assert_eq!(resolve("lib").unwrap(), "/lib");
        assert_eq!(tree.resolve(&path("lib"), true).unwrap(), path("usr/lib"));
        assert!(matches!(tree.resolve(&path("x/z"), false), Err(TreeError::Circle { .. })));
        assert!(matches!(tree.resolve(&path("file/z"), false), Err(TreeError::NotDirectory { .. })));
    }

    #[test]
    fn later_layers_hide_and_replace() {
        let mut below = tree(&[
            ("d", EntryKind::Directory),
            ("d/a", EntryKind::File { size: 0 }),
            ("d/b", EntryKind::Directory),
            ("d/b/c", EntryKind::File { size: 0 }),
            ("d-e", EntryKind::File { size: 0 }),
        ]);
        let hide =
            Entry { path: path("d/b"), kind: EntryKind::Whiteout, mode: 0, uid: 0, gid: 0, xattrs: vec![] };
        below.apply(&Item { entry: hide.clone(), content: Content::None });
        assert!(below.get(&path("d/b/c")).is_none() && below.get(&path("d/a")).is_some());
        let opaque = Entry { path: path("d"), kind: EntryKind::Opaque, ..hide };
        below.apply(&Item { entry: opaque, content: Content::None });
        assert!(below.get(&path("d/a")).is_none() && below.get(&path("d")).is_some());
        assert!(below.get(&path("d-e")).is_some());
        assert_eq!(below.directory(&path("d")).mode, 0o700);
        assert_eq!(below.directory(&path("elsewhere")), Directory::default());
    }

    #[test]
    fn one_thing_at_a_path() {
        let file = || EntryKind::File { size: 0 };
        let mut tree =
            tree(&[("d", EntryKind::Directory), ("d/x", file()), ("d/x", link("y")), ("d/x", file())]);
        assert_eq!(tree.get(&path("d/x")), Some(&Node::Other));
        assert_eq!(tree.links_below(&path("")).count(), 0);
        // A file in the place of a directory takes all that was in it.
        let over = Entry { path: path("d"), kind: file(), mode: 0o644, uid: 0, gid: 0, xattrs: vec![] };
        tree.apply(&Item { entry: over, content: Content::None });
        assert_eq!((tree.get(&path("d")), tree.get(&path("d/x"))), (Some(&Node::Other), None));
    }

    #[test]
    fn kept_contents_are_read_when_asked_for() {
        let mut tree = Tree::default();
        let passwd = path("etc/passwd");
        let kind = EntryKind::File { size: 4 };
        let entry = Entry { path: passwd.clone(), kind, mode: 0o644, uid: 0, gid: 0, xattrs: vec![] };
        tree.apply(&Item { entry: entry.clone(), content: Content::Bytes(b"a:x:".as_slice().into()) });
        assert_eq!(tree.content(&passwd).unwrap().as_deref(), Some(&b"a:x:"[..]));
        let hidden = Entry { path: path("etc"), kind: EntryKind::Whiteout, ..entry };
        tree.apply(&Item { entry: hidden, content: Content::None });
        assert_eq!(tree.content(&passwd).unwrap(), None);
    }
}
