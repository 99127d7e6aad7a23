//! What an archive gives, before and after it has an order: members with checked paths, and their hard links resolved.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use dmoci_layers::{Entry, EntryKind, SafePath};

use super::members::{decoded, encoded};
use super::records::{RecordReader, RecordWriter, Records};
use super::sorter::{Room, Sorter};
use super::spool::Spooled;
use super::stored::{self, StoredMember};
use super::{Content, InputError, Item, Items};
use crate::limits;

/// A member whose path may still be changed.
#[derive(Clone, Debug)]
pub struct Loose {
    /// The entry; a hard link is a file like its target here.
    pub entry: Entry,
    /// Where the content begins in the archive's spool.
    pub offset: u64,
    /// Members with the same number are one file with several names; a file with one name needs none.
    pub inode: Option<u64>,
}

/// Brings members into the order of a layer: the first name of a file is the file, its others are hard links.
///
/// A directory may be given several times, the last counts; anything else at one path twice is an error. A hard link
/// has the content of its file, in case that it must become one.
pub struct Order<'a> {
    archive: &'a Path,
    spool: &'a Arc<Spooled>,
    sorter: Sorter,
    names: Names,
}

/// The members in order, as they are written.
struct Names {
    out: RecordWriter,
    size: Size,
    /// What was written last.
    last: SafePath,
    /// Where the first name of each file with several is.
    first: HashMap<u64, u64>,
}

impl<'a> Order<'a> {
    /// Takes members of this archive, whose contents are in `spool`. What does not fit into memory goes to nameless
    /// files in `scratch`.
    pub(super) fn new(
        archive: &'a Path,
        spool: &'a Arc<Spooled>,
        scratch: &Path,
        room: Room,
    ) -> Result<Order<'a>, InputError> {
        let names = Names {
            out: RecordWriter::new(scratch)?,
            size: Size::default(),
            last: SafePath::root(),
            first: HashMap::new(),
        };
        Ok(Order { archive, spool, sorter: Sorter::new(scratch, room)?, names })
    }

    /// Takes a member. Of several at one path, they must come in the order of the archive.
    pub fn add(&mut self, member: &Loose) -> Result<(), InputError> {
        let path = &member.entry.path;
        let value = postcard::to_stdvec(&StoredMember::of(member))
            .map_err(|source| caused(self.archive, format!("{path} cannot be noted"), source))?;
        self.sorter.add(&sort_key(path), &value)
    }

    /// All members in order.
    pub fn settle(mut self) -> Result<Settled, InputError> {
        let records = self.names.out.so_far()?;
        let mut sorted = self.sorter.finish()?;
        let mut last: Option<(SafePath, StoredMember)> = None;
        while let Some((key, value)) = sorted.next()? {
            let path = path_of(key).ok_or_else(|| records.damaged())?;
            let member: StoredMember = decoded(&records, value)?;
            if let Some((before, held)) = last.take() {
                if before != path {
                    self.names.write(self.archive, &records, &before, held)?;
                } else if !held.is_directory() || !member.is_directory() {
                    return Err(error(self.archive, format!("{path} is in it twice")));
                }
            }
            last = Some((path, member));
        }
        if let Some((path, member)) = last {
            self.names.write(self.archive, &records, &path, member)?;
        }
        self.names.size.check_ratio(self.archive)?;
        Ok(Settled { records: self.names.out.so_far()?, spool: Arc::clone(self.spool) })
    }
}

impl Names {
    fn write(
        &mut self,
        archive: &Path,
        records: &Records,
        path: &SafePath,
        member: StoredMember,
    ) -> Result<(), InputError> {
        self.size.count(path, &self.last);
        self.last.clone_from(path);
        self.size.check_entries(archive)?;
        let file = member.inode.filter(|_| member.is_file());
        let first = file.and_then(|inode| self.first.get(&inode).copied());
        let place = self.out.append(path.as_bytes(), &encoded(records, &(first, member))?)?;
        if let (Some(inode), None) = (file, first) {
            self.first.insert(inode, place);
        }
        Ok(())
    }
}

/// How much members are, and the directories that they lie in and the archive does not hold.
#[derive(Default)]
struct Size {
    entries: u64,
    /// Headers and paths of members.
    own: u64,
    /// Those of the directories.
    implied: u64,
}

impl Size {
    /// Counts a member and its directories that do not come before it.
    fn count(&mut self, path: &SafePath, last: &SafePath) {
        let bytes = |path: &SafePath| 512 + path.as_bytes().len() as u64;
        for parent in path.parents_after(last) {
            self.entries += 1;
            self.implied += bytes(&parent);
        }
        self.entries += 1;
        self.own += bytes(path);
    }

    /// No layer may hold so many.
    fn check_entries(&self, archive: &Path) -> Result<(), InputError> {
        match self.entries > limits::TAR_ENTRIES {
            true => Err(implied(archive, "more than 10,000,000 members and directories that they lie in")),
            false => Ok(()),
        }
    }

    /// A few bytes of an archive must not become gigabytes of a layer.
    fn check_ratio(&self, archive: &Path) -> Result<(), InputError> {
        let most = self.own.saturating_mul(limits::IMPLIED_RATIO).max(limits::IMPLIED_FREE_BYTES);
        match self.implied > most {
            true => Err(implied(archive, "too many directories that members lie in and it does not hold")),
            false => Ok(()),
        }
    }
}

fn implied(archive: &Path, what: &'static str) -> InputError {
    InputError::Implied { archive: archive.to_owned(), what }
}

/// Members in the order of a layer, in a nameless file.
#[derive(Clone, Debug)]
pub struct Settled {
    /// By path: the place of the first name, when the member is another name of a file, and the member.
    records: Records,
    spool: Arc<Spooled>,
}

impl Settled {
    /// The members as entries of a layer.
    pub fn items(&self) -> Items<'_> {
        let mut reader = self.records.read();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        Box::new(std::iter::from_fn(move || self.next(&mut reader, &mut key, &mut value).transpose()))
    }

    fn next(
        &self,
        reader: &mut RecordReader,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<Option<Item>, InputError> {
        if !reader.next(key, value)? {
            return Ok(None);
        }
        let damaged = || self.records.damaged();
        let (first, member): (Option<u64>, StoredMember) = decoded(&self.records, value)?;
        let member = stored::path(key).and_then(|path| member.member(path)).ok_or_else(damaged)?;
        let Loose { mut entry, offset, inode } = member;
        let mut content = Content::None;
        if let EntryKind::File { size } = entry.kind {
            content =
                Content::Spool { spool: Arc::clone(&self.spool), offset, size, shared: inode.is_some() };
            if let Some(first) = first {
                let target = stored::path(&self.records.at(first)?.0).ok_or_else(damaged)?;
                entry.kind = EntryKind::HardLink { target };
            }
        }
        Ok(Some(Item { entry, content }))
    }
}

/// Bytes that sort as the paths do.
pub(super) fn sort_key(path: &SafePath) -> Vec<u8> {
    // A slash comes before every other byte, and NUL is in no path.
    path.as_bytes().iter().map(|&b| if b == b'/' { 0 } else { b }).collect()
}

/// The path that a [`sort_key`] is of.
pub(super) fn path_of(key: &[u8]) -> Option<SafePath> {
    let path: Vec<u8> = key.iter().map(|&b| if b == 0 { b'/' } else { b }).collect();
    stored::path(&path)
}

/// An error of an archive without a further cause.
pub fn error(archive: &Path, message: impl Into<String>) -> InputError {
    InputError::Archive { archive: archive.to_owned(), message: message.into(), source: None }
}

/// An error of an archive with its cause.
pub fn caused(
    archive: &Path,
    message: impl Into<String>,
    source: impl std::error::Error + Send + Sync + 'static,
) -> InputError {
    InputError::Archive {
        archive: archive.to_owned(),
        message: message.into(),
        source: Some(Box::new(source)),
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
