//! Entries as records of the cache hold them.

use dmoci_layers::{Entry, EntryKind, SafePath};
use serde::{Deserialize, Serialize};

use super::unpack::Loose;

/// An entry. What is read back is checked like any other path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredEntry {
    path: Vec<u8>,
    kind: StoredKind,
    mode: u32,
    uid: u64,
    gid: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredKind {
    Directory,
    File(u64),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Whiteout,
    Opaque,
}

impl StoredKind {
    fn of(kind: &EntryKind) -> StoredKind {
        match kind {
            EntryKind::Directory => StoredKind::Directory,
            EntryKind::File { size } => StoredKind::File(*size),
            EntryKind::HardLink { target } => StoredKind::HardLink(target.as_bytes().to_vec()),
            EntryKind::Symlink { target } => StoredKind::Symlink(target.clone()),
            EntryKind::CharDevice { major, minor } => StoredKind::CharDevice(*major, *minor),
            EntryKind::BlockDevice { major, minor } => StoredKind::BlockDevice(*major, *minor),
            EntryKind::Whiteout => StoredKind::Whiteout,
            EntryKind::Opaque => StoredKind::Opaque,
        }
    }

    fn kind(self) -> Option<EntryKind> {
        Some(match self {
            StoredKind::Directory => EntryKind::Directory,
            StoredKind::File(size) => EntryKind::File { size },
            StoredKind::HardLink(target) => EntryKind::HardLink { target: path(&target)? },
            StoredKind::Symlink(target) => EntryKind::Symlink { target },
            StoredKind::CharDevice(major, minor) => EntryKind::CharDevice { major, minor },
            StoredKind::BlockDevice(major, minor) => EntryKind::BlockDevice { major, minor },
            StoredKind::Whiteout => EntryKind::Whiteout,
            StoredKind::Opaque => EntryKind::Opaque,
        })
    }
}

impl StoredEntry {
    pub(super) fn of(entry: &Entry) -> StoredEntry {
        StoredEntry {
            path: entry.path.as_bytes().to_vec(),
            kind: StoredKind::of(&entry.kind),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            xattrs: entry.xattrs.clone(),
        }
    }

    /// The entry, when it is one.
    pub(super) fn entry(self) -> Option<Entry> {
        let (mode, uid, gid) = (self.mode, self.uid, self.gid);
        Some(Entry { path: path(&self.path)?, kind: self.kind.kind()?, mode, uid, gid, xattrs: self.xattrs })
    }
}

/// A path that was written as it is read: a clean one.
pub(super) fn path(bytes: &[u8]) -> Option<SafePath> {
    SafePath::parse(bytes).ok().filter(|path| path.as_bytes() == bytes)
}

/// A member of an archive; its path stands beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredMember {
    kind: StoredKind,
    mode: u32,
    uid: u64,
    gid: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    offset: u64,
    pub(super) inode: Option<u64>,
}

impl StoredMember {
    pub(super) fn of(member: &Loose) -> StoredMember {
        let Loose { entry, offset, inode } = member;
        StoredMember {
            kind: StoredKind::of(&entry.kind),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            xattrs: entry.xattrs.clone(),
            offset: *offset,
            inode: *inode,
        }
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, StoredKind::File(_))
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, StoredKind::Directory)
    }

    /// The member that stands at this path.
    pub(super) fn member(self, path: SafePath) -> Option<Loose> {
        let (mode, uid, gid) = (self.mode, self.uid, self.gid);
        let entry = Entry { path, kind: self.kind.kind()?, mode, uid, gid, xattrs: self.xattrs };
        Some(Loose { entry, offset: self.offset, inode: self.inode })
    }
}
