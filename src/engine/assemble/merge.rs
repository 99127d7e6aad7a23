//! The entries of a layer, merged from its sources while they stream.

use std::cmp::Ordering;
use std::io::Read as _;
use std::iter::Peekable;

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
    sources: Vec<Peekable<Items<'a>>>,
}

impl<'a> Merge<'a> {
    /// Starts to read all sources.
    pub(super) fn new(layer: &'a str, origins: &'a [Origin]) -> Result<Merge<'a>, (usize, BuildError)> {
        let mut sources = Vec::with_capacity(origins.len());
        for (number, origin) in origins.iter().enumerate() {
            sources.push(origin.source.items().map_err(|error| (number, error.into()))?.peekable());
        }
        Ok(Merge { layer, origins, sources })
    }

    /// The next path, or an error with the numbers of the origins it is about.
    pub(super) fn next(&mut self) -> Result<Option<Merged>, (Vec<usize>, BuildError)> {
        let mut chosen: Option<Merged> = None;
        while let Some(number) = self.lowest()? {
            if let (Some(chosen), Some(Ok(next))) = (&chosen, self.sources[number].peek())
                && layer::order(&chosen.item.entry, &next.entry) != Ordering::Equal
            {
                break;
            }
            let Some(next) = self.sources[number].next() else { break };
            let item = next.map_err(|error| (vec![number], BuildError::from(error)))?;
            let next = Merged { rank: self.rank(number, &item), item, origin: number };
            chosen = Some(match chosen {
                None => next,
                Some(chosen) => self.unite(chosen, next)?,
            });
        }
        Ok(chosen)
    }

    /// The source with the lowest next entry; of equals the first.
    fn lowest(&mut self) -> Result<Option<usize>, (Vec<usize>, BuildError)> {
        let mut lowest: Option<usize> = None;
        for number in 0..self.sources.len() {
            if let Some(Err(_)) = self.sources[number].peek()
                && let Some(Err(error)) = self.sources[number].next()
            {
                return Err((vec![number], error.into()));
            }
            let (before, after) = self.sources.split_at_mut(number);
            let Some(Some(Ok(this))) = after.first_mut().map(Peekable::peek) else { continue };
            let lower = match lowest.and_then(|other| before[other].peek()) {
                Some(Ok(other)) => layer::order(&this.entry, &other.entry) == Ordering::Less,
                _ => true,
            };
            if lower {
                lowest = Some(number);
            }
        }
        Ok(lowest)
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
