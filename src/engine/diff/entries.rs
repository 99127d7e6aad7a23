//! The entries of a layer in one order, with their contents: straight from the stream where it has that order, else
//! from an index.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dmoci_layers::SafePath;
use dmoci_layers::untar::{Member, MemberKind};

use super::error::DiffError;
use super::stream::{LayerSource, Tar};
use crate::engine::reader::Watch;

/// One entry of a layer, as its headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: SafePath,
    /// How many entries of this path came before.
    pub(super) number: u32,
    pub(super) kind: MemberKind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) uname: Vec<u8>,
    pub(super) gname: Vec<u8>,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    /// Sorted by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The header blocks; nothing where they are not kept.
    pub(super) header: Vec<u8>,
}

/// Why entries do not come.
pub(super) enum Stop {
    /// They are not in order; nothing that was found so far counts.
    Disorder,
    /// They cannot be read.
    Error(DiffError),
}

impl From<DiffError> for Stop {
    fn from(error: DiffError) -> Stop {
        Stop::Error(error)
    }
}

/// Entries in the order of [`order`].
pub(super) trait Entries {
    /// The next entry.
    fn next(&mut self) -> Result<Option<Found>, Stop>;
    /// Bytes of the last entry's content, as [`io::Read`] gives them.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, Stop>;
}

/// A layer that was opened in one of the two ways.
pub(super) enum Opened<'a> {
    /// As a stream.
    Sorted(Box<Sorted<'a>>),
    /// With an index.
    Indexed(Indexed<'a>),
}

impl Opened<'_> {
    /// True when it is not in order, and has no index.
    pub(super) fn needs_index(&self) -> bool {
        matches!(self, Opened::Sorted(sorted) if sorted.disordered)
    }

    /// Says whether all that was read is what the digests name.
    pub(super) fn prove(self) -> Result<(), DiffError> {
        match self {
            Opened::Sorted(sorted) => sorted.prove(),
            Opened::Indexed(_) => Ok(()),
        }
    }
}

impl Entries for Opened<'_> {
    fn next(&mut self) -> Result<Option<Found>, Stop> {
        match self {
            Opened::Sorted(sorted) => sorted.next(),
            Opened::Indexed(indexed) => indexed.next(),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        match self {
            Opened::Sorted(sorted) => sorted.read(out),
            Opened::Indexed(indexed) => indexed.read(out),
        }
    }
}

/// The order in which dmoci writes layers: component-wise byte order; in each directory its opaque mark first, then
/// its whiteouts. No two paths are equal in it.
pub(super) fn order(a: &SafePath, b: &SafePath) -> Ordering {
    keys(a).cmp(keys(b)).then_with(|| a.cmp(b))
}

/// A slash is the lowest, then the mark of what is hidden, then the bytes of names.
fn keys(path: &SafePath) -> impl Iterator<Item = u16> {
    let (bytes, name) = (path.as_bytes(), path.name());
    let above = &bytes[..bytes.len() - name.len()];
    let above = above.strip_suffix(b"/").unwrap_or(above);
    let (head, mark, tail): (_, &[u16], _) = match name.strip_prefix(b".wh.") {
        Some(b".wh..opq") => (above, &[0, 1], &b""[..]),
        Some(hidden) => (above, &[0, 1], hidden),
        None => (bytes, &[], &b""[..]),
    };
    let key = |&b: &u8| if b == b'/' { 0 } else { u16::from(b) + 2 };
    // Everything but the root stands below the root.
    let root: &[u16] = if head.is_empty() { &[] } else { &[0] };
    root.iter().copied().chain(head.iter().map(key)).chain(mark.iter().copied()).chain(tail.iter().map(key))
}

impl Found {
    fn of(member: &mut Member<'_>, layer: &LayerSource<'_>) -> Result<Found, DiffError> {
        let path = member.path().map_err(|source| DiffError::Path { layer: layer.label.clone(), source })?;
        let mut xattrs = std::mem::take(&mut member.xattrs);
        xattrs.sort_unstable();
        Ok(Found {
            path,
            number: 0,
            kind: member.kind.clone(),
            mode: member.mode & 0o7777,
            uid: member.uid,
            gid: member.gid,
            uname: std::mem::take(&mut member.uname),
            gname: std::mem::take(&mut member.gname),
            size: member.size,
            mtime: (member.mtime, member.mtime_nanos),
            xattrs,
            header: std::mem::take(&mut member.header),
        })
    }

    /// Bytes of memory that it takes, about.
    fn weight(&self) -> u64 {
        let target = match &self.kind {
            MemberKind::HardLink { target } | MemberKind::Symlink { target } => target.len(),
            _ => 0,
        };
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        let names = self.path.as_bytes().len() + self.uname.len() + self.gname.len();
        (size_of::<(Found, u64)>() + names + target + xattrs + 64) as u64
    }
}

/// Entries as they come, in order or not at all.
pub(super) struct Sorted<'a> {
    layer: &'a LayerSource<'a>,
    tar: Tar<'a>,
    last: Option<SafePath>,
    disordered: bool,
}

impl<'a> Sorted<'a> {
    pub(super) fn open(layer: &'a LayerSource<'a>, watch: &'a dyn Watch) -> Result<Sorted<'a>, DiffError> {
        Ok(Sorted { layer, tar: layer.tar(watch)?, last: None, disordered: false })
    }

    fn prove(self) -> Result<(), DiffError> {
        self.layer.prove(self.tar.into_inner().into_inner())
    }
}

impl Entries for Sorted<'_> {
    fn next(&mut self) -> Result<Option<Found>, Stop> {
        let next = self.tar.next().map_err(|error| self.layer.broken(error))?;
        let Some(mut member) = next else {
            return Ok(None);
        };
        let found = Found::of(&mut member, self.layer)?;
        if self.last.as_ref().is_some_and(|last| order(last, &found.path) != Ordering::Less) {
            self.disordered = true;
            return Err(Stop::Disorder);
        }
        self.last = Some(found.path.clone());
        Ok(Some(found))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        let offset = self.tar.offset();
        Ok(self.tar.read_content(out).map_err(|error| self.layer.failed(offset, error))?)
    }
}

/// Entries in any order, sorted in memory; contents lie in a temporary file without a name.
pub(super) struct Indexed<'a> {
    layer: &'a LayerSource<'a>,
    entries: std::vec::IntoIter<(Found, u64)>,
    contents: File,
    /// Where the content of the last entry goes on, and how much of it is left.
    at: (u64, u64),
}

impl<'a> Indexed<'a> {
    /// Reads the whole layer, and proves it. Names and headers take at most `limit` bytes.
    pub(super) fn read(
        layer: &'a LayerSource<'a>,
        scratch: Option<&Path>,
        limit: u64,
        watch: &'a dyn Watch,
    ) -> Result<Indexed<'a>, DiffError> {
        let kept = |source| DiffError::Scratch { layer: layer.label.clone(), source };
        let contents = match scratch {
            Some(directory) => tempfile::tempfile_in(directory),
            None => tempfile::tempfile(),
        };
        let mut contents = BufWriter::with_capacity(1 << 20, contents.map_err(kept)?);
        let mut tar = layer.tar(watch)?;
        let (mut entries, mut weight, mut offset) = (Vec::new(), 0, 0);
        let mut buffer = vec![0; 128 << 10];
        while let Some(mut member) = tar.next().map_err(|error| layer.broken(error))? {
            let mut found = Found::of(&mut member, layer)?;
            found.header = Vec::new();
            weight += found.weight();
            if weight > limit {
                return Err(DiffError::Names { layer: layer.label.clone(), limit });
            }
            let start = offset;
            loop {
                match member.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        contents.write_all(&buffer[..n]).map_err(kept)?;
                        offset += n as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(layer.failed(member.data_offset, error)),
                }
            }
            entries.push((found, start));
        }
        layer.prove(tar.into_inner().into_inner())?;
        let contents = contents.into_inner().map_err(|error| kept(error.into_error()))?;
        // Stable: of one path the entries stay in their order.
        entries.sort_by(|(a, _): &(Found, u64), (b, _)| order(&a.path, &b.path));
        for i in 1..entries.len() {
            if entries[i].0.path == entries[i - 1].0.path {
                entries[i].0.number = entries[i - 1].0.number + 1;
            }
        }
        Ok(Indexed { layer, entries: entries.into_iter(), contents, at: (0, 0) })
    }
}

impl Entries for Indexed<'_> {
    fn next(&mut self) -> Result<Option<Found>, Stop> {
        Ok(self.entries.next().map(|(found, start)| {
            self.at = (start, found.size);
            found
        }))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        let (start, left) = self.at;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let read = self.contents.read_at(&mut out[..most], start);
        let n = read.map_err(|source| DiffError::Scratch { layer: self.layer.label.clone(), source })?;
        self.at = (start + n as u64, left - n as u64);
        Ok(n)
    }
}
