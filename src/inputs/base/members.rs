//! Single members of a base's layer: what it says of some paths, and the contents of some files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dmoci_layers::untar::{Member, MemberKind, TarLimits, TarReader};
use dmoci_layers::{Entry, EntryKind, SafePath};
use serde::{Deserialize, Serialize};

use crate::inputs::InputError;
use crate::inputs::stored::StoredEntry;
use crate::limits;

/// What a layer says of some of its paths.
#[derive(Debug, Default)]
pub struct Members {
    /// What stands there; hard links as such.
    pub entries: BTreeMap<SafePath, Entry>,
    /// Paths of something that no layer of ours can hold.
    pub odd: BTreeSet<SafePath>,
}

/// [`Members`] as a record of the cache holds them.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredMembers {
    entries: Vec<StoredEntry>,
    odd: Vec<Vec<u8>>,
}

impl Members {
    /// Reads the tar of a layer to its end, and notes what it says of these paths. Checks no digest.
    pub fn look(&mut self, reader: impl Read, paths: &BTreeSet<SafePath>) -> Result<(), InputError> {
        each(reader, |path, member| {
            if paths.contains(&path) {
                match entry(&path, member) {
                    Some(entry) => drop(self.entries.insert(path, entry)),
                    None => drop(self.odd.insert(path)),
                }
            }
            Ok(())
        })
    }

    /// What hard links lead to and was not looked for.
    pub fn unseen(&self, paths: &BTreeSet<SafePath>) -> BTreeSet<SafePath> {
        let target = |entry: &Entry| match &entry.kind {
            EntryKind::HardLink { target } if !paths.contains(target) => Some(target.clone()),
            _ => None,
        };
        self.entries.values().filter_map(target).collect()
    }

    /// The same as a record.
    pub fn stored(&self) -> StoredMembers {
        StoredMembers {
            entries: self.entries.values().map(StoredEntry::of).collect(),
            odd: self.odd.iter().map(|path| path.as_bytes().to_vec()).collect(),
        }
    }
}

impl StoredMembers {
    /// What was stored, when all its paths are such.
    pub fn members(self) -> Option<Members> {
        let mut members = Members::default();
        for stored in self.entries {
            let entry = stored.entry()?;
            members.entries.insert(entry.path.clone(), entry);
        }
        for path in self.odd {
            members.odd.insert(crate::inputs::stored::path(&path)?);
        }
        Some(members)
    }
}

/// Reads the tar of a layer to its end, and puts the contents of these files, each of this size, at these offsets of a
/// nameless file in `scratch`. Checks no digest.
pub fn extract(
    reader: impl Read,
    files: &BTreeMap<SafePath, (u64, u64)>,
    scratch: &Path,
) -> Result<File, InputError> {
    let failed = |source| InputError::Scratch { path: scratch.to_owned(), source };
    let spool = tempfile::tempfile_in(scratch).map_err(failed)?;
    let mut found = BTreeSet::new();
    let mut buffer = vec![0; 256 << 10];
    each(reader, |path, member| {
        let Some(&(mut offset, size)) = files.get(&path).filter(|_| member.kind == MemberKind::File) else {
            return Ok(());
        };
        if member.size != size {
            return Err(changed(&path));
        }
        loop {
            let count = match member.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| damaged("a layer cannot be read", error))?,
            };
            spool.write_all_at(&buffer[..count], offset).map_err(failed)?;
            offset += count as u64;
        }
        found.insert(path);
        Ok(())
    })?;
    match files.keys().find(|path| !found.contains(path)) {
        Some(path) => Err(changed(path)),
        None => Ok(spool),
    }
}

/// Goes through the members of a layer's tar that have a usable name.
fn each(
    reader: impl Read,
    mut visit: impl FnMut(SafePath, &mut Member<'_>) -> Result<(), InputError>,
) -> Result<(), InputError> {
    let bounds = TarLimits { max_entries: limits::TAR_ENTRIES, ..TarLimits::default() };
    let mut tar = TarReader::new(reader, bounds);
    while let Some(mut member) = tar.next().map_err(|error| damaged("a layer is damaged", error))? {
        let path =
            member.path().map_err(|error| damaged("a layer has a member without a usable name", error))?;
        visit(path, &mut member)?;
    }
    Ok(())
}

/// What a member is as an entry; nothing when a layer of ours cannot hold it.
fn entry(path: &SafePath, member: &Member<'_>) -> Option<Entry> {
    let kind = match &member.kind {
        MemberKind::File => EntryKind::File { size: member.size },
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::HardLink { target } => EntryKind::HardLink { target: SafePath::parse(target).ok()? },
        MemberKind::Symlink { target } => EntryKind::Symlink { target: target.clone() },
        &MemberKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
        &MemberKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
        MemberKind::Fifo | MemberKind::Other(_) => return None,
    };
    let (mode, uid, gid) = (member.mode & 0o7777, member.uid, member.gid);
    Some(Entry { path: path.clone(), kind, mode, uid, gid, xattrs: member.xattrs.clone() })
}

fn changed(path: &SafePath) -> InputError {
    InputError::Base { message: format!("{path} is not what it was before"), source: None }
}

fn damaged(message: &str, error: impl std::error::Error + Send + Sync + 'static) -> InputError {
    InputError::Base { message: message.to_owned(), source: Some(Box::new(error)) }
}
