//! The entries of a layer, merged from its sources while they stream.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io::Read as _;

use dmoci_layers::{EntryKind, SafePath, layer};

use super::error::{BuildError, BuildErrorKind};
use crate::inputs::files::CopySource;
use crate::inputs::{Content, InputError, Item, Items};

/// A source of entries that can be read again and again.
#[derive(Clone, Debug)]
pub enum Source {
    /// Entries that are known.
    List(Vec<Item>),
    /// A file or folder of the project.
    Copy(CopySource),
}

impl Source {
    fn items(&self) -> Result<Items<'_>, InputError> {
        Ok(match self {
            Source::List(items) => Box::new(items.iter().cloned().map(Ok)),
            Source::Copy(copy) => Box::new(copy.items()?),
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
    /// The entries.
    pub source: Source,
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

/// Merges sources in the order of a layer. Each path comes out once.
pub(super) struct Merge<'a> {
    layer: &'a str,
    origins: &'a [Origin],
    sources: Vec<Items<'a>>,
    /// Which sources gave something.
    given: Vec<bool>,
    /// The next entry of every source that has one; the first of the layer's order on top.
    heads: BinaryHeap<Head>,
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
    pub(super) fn new(layer: &'a str, origins: &'a [Origin]) -> Result<Merge<'a>, (Vec<usize>, BuildError)> {
        let mut merge = Merge {
            layer,
            origins,
            sources: Vec::new(),
            given: vec![false; origins.len()],
            heads: BinaryHeap::new(),
        };
        for (number, origin) in origins.iter().enumerate() {
            merge.sources.push(origin.source.items().map_err(|error| (vec![number], error.into()))?);
            merge.pull(number)?;
        }
        Ok(merge)
    }

    /// The next path, or an error with the numbers of the origins it is about.
    pub(super) fn next(&mut self) -> Result<Option<Merged>, (Vec<usize>, BuildError)> {
        let Some(mut chosen) = self.take()? else { return Ok(None) };
        while let Some(head) = self.heads.peek()
            && layer::order(&chosen.item.entry, &head.item.entry) == Ordering::Equal
            && let Some(next) = self.take()?
        {
            chosen = self.unite(chosen, next)?;
        }
        Ok(Some(chosen))
    }

    /// Which sources have given something so far, even what another gave too.
    pub(super) fn given(&self) -> &[bool] {
        &self.given
    }

    fn take(&mut self) -> Result<Option<Merged>, (Vec<usize>, BuildError)> {
        let Some(Head { item, origin }) = self.heads.pop() else { return Ok(None) };
        self.pull(origin)?;
        Ok(Some(Merged { rank: self.rank(origin, &item), item, origin }))
    }

    /// Reads the next entry of a source.
    fn pull(&mut self, origin: usize) -> Result<(), (Vec<usize>, BuildError)> {
        if let Some(item) = self.sources[origin].next() {
            let item = item.map_err(|error| (vec![origin], error.into()))?;
            self.given[origin] = true;
            self.heads.push(Head { item, origin });
        }
        Ok(())
    }

    fn rank(&self, number: usize, item: &Item) -> Rank {
        match &self.origins[number].source {
            Source::Copy(copy) if copy.to == item.entry.path && copy.below.is_empty() => Rank::Destination,
            _ => self.origins[number].rank,
        }
    }

    /// Two inputs with one path: one of them, when that loses nothing.
    fn unite(&self, first: Merged, second: Merged) -> Result<Merged, (Vec<usize>, BuildError)> {
        let conflict = |what| {
            let path: SafePath = first.item.entry.path.clone();
            let kind = BuildErrorKind::Conflict { layer: self.layer.to_owned(), path, what };
            Err((vec![second.origin, first.origin], BuildError::new(kind)))
        };
        let (a, b) = (&first.item.entry, &second.item.entry);
        if a.kind == EntryKind::Directory && b.kind == EntryKind::Directory {
            let equal = (a.mode, a.uid, a.gid, &a.xattrs) == (b.mode, b.uid, b.gid, &b.xattrs);
            return match first.rank.cmp(&second.rank) {
                Ordering::Greater => Ok(first),
                Ordering::Less => Ok(second),
                // Of several copies to one place the first says what the place is.
                Ordering::Equal if equal || first.rank <= Rank::Destination => Ok(first),
                Ordering::Equal => conflict("as directories of different mode or owner"),
            };
        }
        if std::mem::discriminant(&a.kind) != std::mem::discriminant(&b.kind) {
            return conflict("as different kinds of file");
        }
        if a != b {
            return conflict("with different content, mode or owner");
        }
        match same_content(&first.item.content, &second.item.content) {
            Ok(true) => Ok(first),
            Ok(false) => conflict("with different content"),
            Err(error) => Err((vec![first.origin, second.origin], error.into())),
        }
    }
}

/// Compares two contents of the same size.
fn same_content(a: &Content, b: &Content) -> Result<bool, InputError> {
    let io = |source| InputError::Io { path: "an input of the layer".into(), source };
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
