//! The entries of a layer, merged from its sources while they stream.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::io::Read as _;
use std::sync::Arc;

use dmoci_layers::{Entry, EntryKind, SafePath, layer};

use super::adjust::Earlier;
use super::error::{BuildError, BuildErrorKind};
use crate::inputs::ahead::{Ahead, Threads};
use crate::inputs::base::Directory;
use crate::inputs::files::CopySource;
use crate::inputs::unpack::Settled;
use crate::inputs::{Content, InputError, Item, Items};

/// A source of entries that can be read again and again.
#[derive(Clone, Debug)]
pub enum Source {
    /// Entries that are known.
    List(Arc<Vec<Item>>),
    /// A file or folder of the project.
    Copy(Arc<CopySource>),
    /// The members of an archive.
    Archive(Settled),
    /// What a layer below has, with other metadata.
    Earlier(Earlier),
}

impl Source {
    fn items(&self, threads: &Threads) -> Result<Items<'_>, InputError> {
        Ok(match self {
            Source::List(items) => Box::new(items.iter().cloned().map(Ok)),
            Source::Copy(copy) => Box::new(Ahead::new(copy.items()?, threads)),
            Source::Archive(settled) => settled.items(),
            Source::Earlier(earlier) => earlier.items()?,
        })
    }
}

/// A source, where in the spec it comes from, and what its directories are worth.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Which input of the layer; none for what no input asks for.
    pub input: Option<usize>,
    /// Of two inputs that describe one directory, the one with the higher rank counts.
    pub rank: Rank,
    /// What it gives takes the place of what origins before it give.
    pub replace: bool,
    /// The entries.
    pub source: Source,
    /// It may be a layer of its own.
    pub apart: Option<Apart>,
}

/// What may be a layer of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// How it is called in the layer.
    pub name: String,
    /// What it weighs, in bytes: the heavier it is the further down it goes.
    pub weight: u64,
}

/// How much an input wants a directory to be as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A parent of something, described by the layers below or nothing.
    Parent,
    /// The place that something is copied to.
    Destination,
    /// A directory that is copied, or a member of an archive.
    Content,
    /// `directory` of the spec.
    Explicit,
}

/// An entry with where it comes from.
#[derive(Debug)]
pub(super) struct Merged {
    /// The entry.
    pub(super) item: Item,
    /// Number of its origin.
    pub(super) origin: usize,
    rank: Rank,
}

/// An error, and the numbers of the origins that it is about.
pub(super) type Fault = (Vec<usize>, BuildError);

/// Merges sources in the order of a layer. Each path comes out once.
pub(super) struct Merge<'a> {
    layer: &'a str,
    origins: &'a [Origin],
    sources: Vec<Items<'a>>,
    /// Which sources gave something.
    given: Vec<bool>,
    /// The next entry of every source that has one; the first of the layer's order on top.
    heads: BinaryHeap<Head>,
    /// Something that is no directory and replaces: what origins before its own give below this path is gone too.
    cover: Option<(SafePath, usize)>,
    /// Which sources gave something in the place of something else that another gave.
    prevailed: Vec<bool>,
    /// Files that were replaced, by origin and path, and the name that their other names are links to instead.
    lost: HashMap<(usize, SafePath), Option<SafePath>>,
}

/// The next entry of a source.
struct Head {
    item: Item,
    origin: usize,
}

impl Ord for Head {
    /// Reversed, since a heap gives its greatest; of equal paths the source that was written first comes first.
    fn cmp(&self, other: &Head) -> Ordering {
        layer::order(&other.item.entry, &self.item.entry).then(other.origin.cmp(&self.origin))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl<'a> Merge<'a> {
    /// Starts to read all sources.
    pub(super) fn new(layer: &'a str, origins: &'a [Origin]) -> Result<Merge<'a>, Fault> {
        Merge::with(layer, origins, &Threads::none())
    }

    /// Starts to read all sources, for somebody who waits for nothing but the entries: folders are read ahead.
    pub(super) fn ahead(layer: &'a str, origins: &'a [Origin]) -> Result<Merge<'a>, Fault> {
        Merge::with(layer, origins, &Threads::some())
    }

    fn with(layer: &'a str, origins: &'a [Origin], threads: &Threads) -> Result<Merge<'a>, Fault> {
        let mut merge = Merge {
            layer,
            origins,
            sources: Vec::new(),
            given: vec![false; origins.len()],
            heads: BinaryHeap::new(),
            cover: None,
            prevailed: vec![false; origins.len()],
            lost: HashMap::new(),
        };
        for (number, origin) in origins.iter().enumerate() {
            merge.sources.push(origin.source.items(threads).map_err(|error| (vec![number], error.into()))?);
            merge.pull(number)?;
        }
        Ok(merge)
    }

    /// The next path.
    pub(super) fn next(&mut self) -> Result<Option<Merged>, Fault> {
        let Some(mut chosen) = self.uncovered()? else { return Ok(None) };
        let mut conflict = None;
        while let Some(head) = self.heads.peek()
            && layer::order(&chosen.item.entry, &head.item.entry) == Ordering::Equal
            && let Some(next) = self.take()?
        {
            match self.unite(&chosen, &next)? {
                Union::Same => {}
                Union::First => self.prevailed[chosen.origin] = true,
                Union::Second => {
                    self.prevailed[next.origin] = true;
                    chosen = next;
                }
                Union::Replaced => {
                    self.prevailed[next.origin] = true;
                    self.lose(&chosen);
                    chosen = next;
                    conflict = None;
                }
                Union::Conflict(what) => {
                    self.lose(&next);
                    conflict = conflict.or_else(|| Some(self.conflict(&chosen, &next, what)));
                }
            }
        }
        if let Some(fault) = conflict {
            return Err(fault);
        }
        let entry = &chosen.item.entry;
        if self.origins[chosen.origin].replace && entry.kind != EntryKind::Directory {
            self.cover = Some((entry.path.clone(), chosen.origin));
        }
        Ok(Some(chosen))
    }

    /// Which sources have given something so far, even what another gave too.
    pub(super) fn given(&self) -> &[bool] {
        &self.given
    }

    /// Which sources have given something so far in the place of something else that another gave.
    pub(super) fn prevailed(&self) -> &[bool] {
        &self.prevailed
    }

    /// The next entry that does not lie below something that replaces it.
    fn uncovered(&mut self) -> Result<Option<Merged>, Fault> {
        while let Some(merged) = self.take()? {
            match &self.cover {
                Some((path, by)) if merged.origin < *by && merged.item.entry.path.starts_with(path) => {
                    self.prevailed[*by] = true;
                    self.lose(&merged);
                }
                _ => return Ok(Some(merged)),
            }
        }
        Ok(None)
    }

    fn take(&mut self) -> Result<Option<Merged>, Fault> {
        let Some(Head { mut item, origin }) = self.heads.pop() else { return Ok(None) };
        self.pull(origin)?;
        self.relink(&mut item, origin);
        Ok(Some(Merged { rank: self.rank(origin, &item), item, origin }))
    }

    /// Reads the next entry of a source.
    fn pull(&mut self, origin: usize) -> Result<(), Fault> {
        if let Some(item) = self.sources[origin].next() {
            let item = item.map_err(|error| (vec![origin], error.into()))?;
            self.given[origin] = true;
            self.heads.push(Head { item, origin });
        }
        Ok(())
    }

    /// Notes that a file does not come out: its other names must not become names of what does.
    fn lose(&mut self, merged: &Merged) {
        if matches!(
            (&merged.item.entry.kind, &merged.item.content),
            (EntryKind::File { .. }, Content::Spool { shared: true, .. })
        ) {
            self.lost.insert((merged.origin, merged.item.entry.path.clone()), None);
        }
    }

    /// Makes a hard link to a file that was replaced the file itself, and further ones links to that.
    fn relink(&mut self, item: &mut Item, origin: usize) {
        let EntryKind::HardLink { target } = &mut item.entry.kind else { return };
        while let Some(instead) = self.lost.get_mut(&(origin, target.clone())) {
            match instead {
                Some(name) => *target = name.clone(),
                None => {
                    let Content::Spool { size, .. } = item.content else { return };
                    *instead = Some(item.entry.path.clone());
                    item.entry.kind = EntryKind::File { size };
                    return;
                }
            }
        }
    }

    fn rank(&self, number: usize, item: &Item) -> Rank {
        match &self.origins[number].source {
            Source::Copy(copy) if copy.to == item.entry.path && copy.below.is_empty() => Rank::Destination,
            _ => self.origins[number].rank,
        }
    }

    /// What becomes of two inputs with one path.
    fn unite(&self, first: &Merged, second: &Merged) -> Result<Union, Fault> {
        let replace = self.origins[second.origin].replace;
        let or_conflict = |what| if replace { Union::Replaced } else { Union::Conflict(what) };
        let (a, b) = (&first.item.entry, &second.item.entry);
        if a.kind == EntryKind::Directory && b.kind == EntryKind::Directory {
            let equal = (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs);
            return Ok(match first.rank.cmp(&second.rank) {
                _ if equal && first.rank >= second.rank => Union::Same,
                Ordering::Greater => Union::First,
                Ordering::Less => Union::Second,
                // Of several copies to one place the first says what the place is, unless a later one replaces.
                Ordering::Equal if first.rank <= Rank::Destination && !replace => Union::First,
                Ordering::Equal => or_conflict("as directories of different mode or owner"),
            });
        }
        if replace {
            return Ok(Union::Replaced);
        }
        if std::mem::discriminant(&a.kind) != std::mem::discriminant(&b.kind) {
            return Ok(Union::Conflict("as different kinds of file"));
        }
        if !same_entry(&first.item, &second.item) {
            return Ok(Union::Conflict("with different content, mode or owner"));
        }
        match same_content(&first.item.content, &second.item.content) {
            Ok(true) => Ok(Union::Same),
            Ok(false) => Ok(Union::Conflict("with different content")),
            Err(error) => Err((vec![first.origin, second.origin], error.into())),
        }
    }

    fn conflict(&self, first: &Merged, second: &Merged, what: &'static str) -> Fault {
        let (layer, path) = (self.layer.to_owned(), first.item.entry.path.clone());
        let kind = BuildErrorKind::Conflict { layer, path, what };
        (vec![second.origin, first.origin], BuildError::new(kind))
    }
}

/// Merged entries, and the directories above them that no source gives: 0755 0:0, each just before the first thing in it.
///
/// Of those only the ones above the next entry are held.
pub(super) struct Completed<'a> {
    merge: Merge<'a>,
    /// What was given last.
    last: SafePath,
    /// What comes when all its parents were given.
    next: Option<Merged>,
    /// Parents of that, the outermost last.
    parents: Vec<SafePath>,
}

impl<'a> Completed<'a> {
    /// Starts to read all sources.
    pub(super) fn new(layer: &'a str, origins: &'a [Origin]) -> Result<Completed<'a>, Fault> {
        let merge = Merge::new(layer, origins)?;
        Ok(Completed { merge, last: SafePath::root(), next: None, parents: Vec::new() })
    }

    /// The next path.
    pub(super) fn next(&mut self) -> Result<Option<Merged>, Fault> {
        if self.next.is_none() {
            let Some(merged) = self.merge.next()? else { return Ok(None) };
            let path = &merged.item.entry.path;
            self.parents.extend(path.parents_after(&self.last));
            self.parents.reverse();
            self.last.clone_from(path);
            self.next = Some(merged);
        }
        match (self.parents.pop(), &self.next) {
            (Some(parent), Some(next)) => {
                let item = Item { entry: Directory::default().entry(parent), content: Content::None };
                Ok(Some(Merged { item, origin: next.origin, rank: Rank::Parent }))
            }
            _ => Ok(self.next.take()),
        }
    }
}

/// What becomes of two inputs with one path.
enum Union {
    /// They are the same.
    Same,
    /// Both describe one directory, and the first counts.
    First,
    /// Both describe one directory, and the second counts.
    Second,
    /// The second takes the place of the first.
    Replaced,
    /// They cannot both be, in this.
    Conflict(&'static str),
}

/// Compares all but the contents; sizes only where they are known.
fn same_entry(a: &Item, b: &Item) -> bool {
    if !a.content.is_derived() && !b.content.is_derived() {
        return a.entry == b.entry;
    }
    let kind = a.entry.kind.clone();
    a.entry == Entry { kind, ..b.entry.clone() }
}

/// Compares two contents.
pub(super) fn same_content(a: &Content, b: &Content) -> Result<bool, InputError> {
    let io = |source| {
        InputError::inside(source)
            .unwrap_or_else(|source| InputError::Io { path: "an input of the layer".into(), source })
    };
    let (mut a, mut b) = (a.open()?, b.open()?);
    let (mut left, mut right) = (vec![0; 64 << 10], Vec::new());
    let same = loop {
        let count = a.read(&mut left).map_err(io)?;
        right.resize(count, 0);
        if count == 0 {
            break b.read(&mut [0]).map_err(io)? == 0;
        }
        match b.read_exact(&mut right) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break false,
            other => other.map_err(io)?,
        }
        if left[..count] != right[..] {
            break false;
        }
    };
    a.finish()?;
    b.finish()?;
    Ok(same)
}
