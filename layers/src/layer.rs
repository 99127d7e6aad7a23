//! A layer: entries in, one compressed tar and its digests out.

use std::cmp::Ordering;
use std::io::{self, Read, Write};

use crate::Compression;
use crate::compress::{Compressor, SpliceError, Written};
use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, SafePath, is_within, path_order};
use crate::inflate::{Expected, InflateError};
use crate::pool::Pool;
use crate::tar::{self, TarError};

/// A finished layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the blob, as compressed: the `digest` of its descriptor.
    pub digest: Digest,
    /// Number of bytes of the blob: the `size` of its descriptor.
    pub size: u64,
    /// Digest of the tar before compression: its place in `rootfs.diff_ids` of the config.
    pub diff_id: Digest,
    /// Number of bytes of the tar.
    pub tar_size: u64,
    /// Number of entries, parents and whiteouts included.
    pub entries: u64,
    /// How the blob is compressed.
    pub compression: Compression,
}

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The entry does not come after the one before it in [`order`].
    #[error("{path} is given after {previous}, but belongs before it")]
    Order {
        /// The entry.
        path: SafePath,
        /// The entry before it.
        previous: SafePath,
    },
    /// The path stands in the layer already.
    #[error("{0} is given twice")]
    Twice(SafePath),
    /// The directory that holds the entry was not given before it.
    #[error("{0} is given without the directory that holds it")]
    NoParent(SafePath),
    /// A path ends in a name that would be read as a whiteout.
    #[error("{0}: names that begin with .wh. mark deletions in a layer and cannot be files")]
    WhiteoutName(SafePath),
    /// The content has another size than its entry says.
    #[error("{path}: expected {expected} bytes of content, found {found}")]
    Size {
        /// The entry.
        path: SafePath,
        /// Bytes that the entry announced.
        expected: u64,
        /// Bytes that were there; at most one more than expected is looked for.
        found: u64,
    },
    /// An entry has no tar form.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The content could not be read.
    #[error("cannot read the content of {path}")]
    Read {
        /// The entry.
        path: SafePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The deflate stream of the content is not what it must be.
    #[error("the content of {path} {error}")]
    Stream {
        /// The entry.
        path: SafePath,
        /// In what.
        error: InflateError,
    },
    /// The blob could not be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
}

/// The order of entries in a layer: component-wise byte order of their paths; in each directory first
/// its opaque mark, then its whiteouts, then what it holds.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    Place::of(a).order(&Place::of(b))
}

/// What decides where an entry stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a [u8],
    kind: PlaceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaceKind {
    Directory,
    Opaque,
    Whiteout,
    Other,
}

impl Place<'_> {
    fn of(entry: &Entry) -> Place<'_> {
        let kind = match entry.kind {
            EntryKind::Directory => PlaceKind::Directory,
            EntryKind::Opaque => PlaceKind::Opaque,
            EntryKind::Whiteout => PlaceKind::Whiteout,
            _ => PlaceKind::Other,
        };
        Place { path: entry.path.as_bytes(), kind }
    }

    fn order(&self, other: &Place<'_>) -> Ordering {
        let marks = |place: &Place<'_>| matches!(place.kind, PlaceKind::Opaque | PlaceKind::Whiteout);
        match marks(self) || marks(other) {
            true => order_key(*self).cmp(order_key(*other)),
            false => path_order(self.path, other.path),
        }
    }
}

/// A slash is the lowest, then the mark of what is hidden, then the bytes of names.
fn order_key(place: Place<'_>) -> impl Iterator<Item = u16> {
    let path = place.path;
    let (head, mark, tail): (_, &[u16], _) = match place.kind {
        PlaceKind::Opaque => (path, &[0, 1], &b""[..]),
        PlaceKind::Whiteout => {
            let name = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
            let (head, tail) = path.split_at(name);
            (head.strip_suffix(b"/").unwrap_or(head), &[0, 1], tail)
        }
        _ => (path, &[], &b""[..]),
    };
    let key = |&b: &u8| if b == b'/' { 0 } else { u16::from(b) + 2 };
    // Everything but the root stands below the root.
    let root: &[u16] = if head.is_empty() { &[] } else { &[0] };
    root.iter().copied().chain(head.iter().map(key)).chain(mark.iter().copied()).chain(tail.iter().map(key))
}

/// Writes a layer, entry by entry, to `W`.
///
/// Memory does not grow with the number or size of entries. What was written is no layer before
/// [`finish`](LayerWriter::finish) has returned.
pub struct LayerWriter<W: Write + Send + 'static> {
    out: Compressor<W>,
    compression: Compression,
    entries: u64,
    /// Path and kind of the entry before, once there is one.
    last: Vec<u8>,
    last_kind: Option<PlaceKind>,
    header: Vec<u8>,
}

impl<W: Write + Send + 'static> LayerWriter<W> {
    /// A writer onto `out`. The threads of `pool`, which other writers may use at the same time, never show in the
    /// output.
    pub fn new(out: W, compression: Compression, pool: &Pool) -> LayerWriter<W> {
        let out = Compressor::new(out, compression, pool);
        LayerWriter { out, compression, entries: 0, last: Vec::new(), last_kind: None, header: Vec::new() }
    }

    /// Adds an entry that comes after all others in [`order`], and the content when it is a file.
    ///
    /// Every directory above it but the root must have been added. That a hard link's target is a file
    /// of this layer is checked only as far as that it comes earlier.
    pub fn add(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        self.begin(entry)?;
        if let EntryKind::File { size } = entry.kind {
            self.copy(entry, size, content)?;
            self.put(&tar::END[..tar::padding(size)])?;
        }
        self.end(entry);
        Ok(())
    }

    /// Writes the header.
    fn begin(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.check(entry)?;
        self.header.clear();
        let mut header = std::mem::take(&mut self.header);
        tar::write_header(entry, &mut header)?;
        self.put(&header)?;
        self.header = header;
        Ok(())
    }

    fn end(&mut self, entry: &Entry) {
        self.entries += 1;
        self.last.clear();
        self.last.extend_from_slice(entry.path.as_bytes());
        self.last_kind = Some(Place::of(entry).kind);
    }

    /// Adds a file whose content is given as a deflate stream (RFC 1951); `expected` is the content, and `packed` ends with
    /// the stream.
    ///
    /// In a gzip layer the stream stands as it is, in a member of its own. It is inflated strictly and checked on the
    /// way.
    pub fn add_deflated(
        &mut self,
        entry: &Entry,
        expected: &Expected,
        packed: &mut dyn Read,
    ) -> Result<(), LayerError> {
        let EntryKind::File { size } = entry.kind else { return self.add(entry, &mut io::empty()) };
        if size != expected.size {
            let (path, found) = (entry.path.clone(), expected.size);
            return Err(LayerError::Size { path, expected: size, found });
        }
        self.begin(entry)?;
        self.out.splice(packed, expected).map_err(|error| match error {
            SpliceError::Read(source) => LayerError::Read { path: entry.path.clone(), source },
            SpliceError::Stream(error) => LayerError::Stream { path: entry.path.clone(), error },
            SpliceError::Write(source) => LayerError::Write(source),
        })?;
        self.put(&tar::END[..tar::padding(size)])?;
        self.end(entry);
        Ok(())
    }

    /// Ends the tar and gives the layer, and `W` to be flushed and named.
    pub fn finish(mut self) -> Result<(Layer, W), LayerError> {
        self.put(&tar::END)?;
        let (Written { digest, size, content, content_size }, out) =
            self.out.finish().map_err(LayerError::Write)?;
        let layer = Layer {
            digest,
            size,
            diff_id: content,
            tar_size: content_size,
            entries: self.entries,
            compression: self.compression,
        };
        Ok((layer, out))
    }

    fn check(&self, entry: &Entry) -> Result<(), LayerError> {
        let path = &entry.path;
        if path.name().starts_with(b".wh.") {
            return Err(LayerError::WhiteoutName(path.clone()));
        }
        if let EntryKind::HardLink { target } = &entry.kind
            && target >= path
        {
            return Err(LayerError::Order { path: path.clone(), previous: target.clone() });
        }
        let place = Place::of(entry);
        // The root needs no parent, and everything has the root.
        let parent = match place.kind {
            PlaceKind::Opaque => path.as_bytes(),
            _ => path.parent_bytes().unwrap_or_default(),
        };
        let last = self.last.as_slice();
        let Some(kind) = self.last_kind else {
            return match parent.is_empty() {
                true => Ok(()),
                false => Err(LayerError::NoParent(path.clone())),
            };
        };
        match (Place { path: last, kind }).order(&place) {
            Ordering::Less => {}
            Ordering::Equal => return Err(LayerError::Twice(path.clone())),
            Ordering::Greater => {
                // It was a safe path when it was given.
                let previous = SafePath::parse(last).unwrap_or_else(|_| SafePath::root());
                return Err(LayerError::Order { path: path.clone(), previous });
            }
        }
        // In this order the parent was given exactly when it is the entry before or an ancestor of it.
        // A file cannot be that ancestor: then the entry before would have been refused.
        let itself = matches!(kind, PlaceKind::Directory | PlaceKind::Opaque);
        let within = parent.is_empty() || is_within(last, parent) && (itself || last != parent);
        match within {
            true => Ok(()),
            false => Err(LayerError::NoParent(path.clone())),
        }
    }

    /// Reads the content into the block that is compressed, without a copy in between.
    fn copy(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> Result<(), LayerError> {
        let unreadable = |source| LayerError::Read { path: entry.path.clone(), source };
        let mut left = size;
        while left > 0 {
            let space = self.out.space().map_err(LayerError::Write)?;
            let most = space.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match read(content, &mut space[..most]).map_err(unreadable)? {
                0 => break,
                count => {
                    self.out.advance(count);
                    left -= count as u64;
                }
            }
        }
        let mut found = size - left;
        if left == 0 {
            found += read(content, &mut [0]).map_err(unreadable)? as u64;
        }
        match found == size {
            true => Ok(()),
            false => Err(LayerError::Size { path: entry.path.clone(), expected: size, found }),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.out.write_all(bytes).map_err(LayerError::Write)
    }
}

fn read(content: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match content.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
