//! What an archive gives, before it has an order: members with checked paths, and their hard links resolved.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use dmoci_layers::{Entry, EntryKind, SafePath, layer};

use super::spool::Spooled;
use super::{Content, InputError, Item};

/// A member whose path may still be changed.
#[derive(Clone, Debug)]
pub struct Loose {
    /// The entry; a hard link is a file like its target here.
    pub entry: Entry,
    /// Where the content begins in the archive's spool.
    pub offset: u64,
    /// Members with the same number are one file with several names.
    pub inode: usize,
}

/// Brings members into the order of a layer: the first name of a file is the file, its others are hard links.
///
/// A directory may be given several times, the last counts; anything else at one path twice is an error. A hard link
/// has the content of its file, in case that it must become one.
pub fn settle(mut members: Vec<Loose>, spool: Arc<Spooled>, archive: &Path) -> Result<Vec<Item>, InputError> {
    // Stable: of two members at one path the later in the archive comes later.
    members.sort_by(|a, b| layer::order(&a.entry, &b.entry));
    let mut first: HashMap<usize, SafePath> = HashMap::new();
    let mut items: Vec<Item> = Vec::with_capacity(members.len());
    for Loose { mut entry, offset, inode } in members {
        if let Some(last) = items.last_mut().filter(|last| last.entry.path == entry.path) {
            if last.entry.kind != EntryKind::Directory || entry.kind != EntryKind::Directory {
                return Err(error(archive, format!("{} is in it twice", entry.path)));
            }
            last.entry = entry;
            continue;
        }
        let mut content = Content::None;
        if let EntryKind::File { size } = entry.kind {
            content = Content::Spool { spool: Arc::clone(&spool), offset, size };
            match first.get(&inode) {
                Some(target) => entry.kind = EntryKind::HardLink { target: target.clone() },
                None => drop(first.insert(inode, entry.path.clone())),
            }
        }
        items.push(Item { entry, content });
    }
    Ok(items)
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
