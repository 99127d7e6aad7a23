//! Reading tar archives that others wrote: POSIX ustar and PAX, GNU, star and old V7, strictly and bounded.
//!
//! The headers are parsed here and not by the `tar` crate: that crate does not say whether an archive ended in its
//! two zero blocks or was cut short, nor where a header's blocks lie, and where two readers could disagree about an
//! entry (a size in a PAX record and another in the header, CVE-2025-62518; two names; data behind a link) this
//! reader must be able to say so. The `tar` crate is the independent reader of the tests.
//!
//! Nothing is unpacked and no name is trusted: [`Member::path`] is the only way to a checked path.

mod header;
mod pax;
mod source;

use std::io::{self, Read};

use crate::entry::{PathError, SafePath};
use header::{Block, Format, is_zero};
use pax::Records;
use source::Source;

/// The unit of tar.
const BLOCK: u64 = 512;

/// The bounds of one [`TarReader`].
#[derive(Clone, Copy, Debug)]
pub struct TarLimits {
    /// The most headers, extension headers counted.
    pub max_entries: u64,
    /// The most bytes of one extension: a GNU long name or a PAX header.
    pub max_extension_bytes: u64,
}

impl Default for TarLimits {
    fn default() -> TarLimits {
        TarLimits { max_entries: 10_000_000, max_extension_bytes: 1 << 20 }
    }
}

/// Why an archive is refused. Offsets are bytes from its start.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The reader failed, or the compressed stream below is damaged.
    #[error("the archive cannot be read at byte {offset}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive ends before its two zero blocks.
    #[error("the archive is cut short at byte {offset}: {missing}")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// What should have come.
        missing: &'static str,
    },
    /// After the end of the archive comes something other than zeros.
    #[error("bytes that belong to no entry follow the end of the archive, at byte {offset}")]
    Trailing {
        /// Where they begin, at most.
        offset: u64,
    },
    /// A header whose checksum is not that of its bytes.
    #[error("the header at byte {offset} is damaged: its checksum is {found}, its bytes have {expected}")]
    Checksum {
        /// Where.
        offset: u64,
        /// What the bytes have.
        expected: u64,
        /// What the header says, as far as it is a number.
        found: String,
    },
    /// A field, record or extension that cannot be read.
    #[error("the header at byte {offset} is malformed: {why}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A header that readers understand in different ways.
    #[error("the header at byte {offset} is read in different ways by different programs: {why}")]
    Ambiguous {
        /// Where.
        offset: u64,
        /// In what.
        why: String,
    },
    /// A sparse file, which the OCI image specification does not provide for.
    #[error("the entry at byte {offset} is a sparse file, which layers may not hold")]
    Sparse {
        /// Where.
        offset: u64,
    },
    /// More entries than [`TarLimits::max_entries`].
    #[error("the archive holds more than {0} headers")]
    Entries(u64),
    /// An extension larger than [`TarLimits::max_extension_bytes`].
    #[error("the extension header at byte {offset} holds {found} bytes; the limit is {limit}")]
    Extension {
        /// Where.
        offset: u64,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
}

/// Gives the members of a tar archive one after the other.
///
/// Reads headers in blocks of 512 bytes: give it a reader that is buffered.
pub struct TarReader<R> {
    source: Source<R>,
    limits: TarLimits,
    headers: u64,
    /// Content of the current member that nobody has read yet.
    remaining: u64,
    /// Padding behind the current member's content.
    padding: u64,
    globals: Records,
    trailer: Trailer,
    done: bool,
}

/// What stands between and behind members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// Blocks of padding that are not all zeros.
    pub dirty_padding: u64,
    /// Bytes of zeros behind the two blocks that end the archive.
    pub extra_zeros: u64,
    /// PAX global headers.
    pub global_headers: u64,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// Another name of an earlier member.
    HardLink {
        /// That member's name, as written.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Its target, as written.
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A type that no specification gives a meaning.
    Other(u8),
}

/// One member: what its headers say, and [`Read`] for its content.
///
/// Reading gives an error, not the end, when the archive is cut short inside the content.
pub struct Member<'a> {
    /// The name, as written.
    pub raw_path: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// The mode field, type bits included where a writer put them there.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Name of the owner; may be empty.
    pub uname: Vec<u8>,
    /// Name of the group; may be empty.
    pub gname: Vec<u8>,
    /// Bytes of content.
    pub size: u64,
    /// Modification time, whole seconds since 1970, rounded down.
    pub mtime: i64,
    /// Its fraction, 0 to 999,999,999.
    pub mtime_nanos: u32,
    /// Extended attributes (`SCHILY.xattr.*`), in the order given.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the member's first header block begins, extension headers included.
    pub header_offset: u64,
    /// Where its content begins.
    pub data_offset: u64,
    /// All header blocks, extension headers and their contents included, as they stand in the archive.
    pub header: Vec<u8>,
    /// The size field of the header and the size record beside it, when both are there and differ.
    pub size_disagreement: Option<(u64, u64)>,
    source: &'a mut (dyn Read + 'a),
    remaining: &'a mut u64,
}

impl Member<'_> {
    /// The checked path.
    pub fn path(&self) -> Result<SafePath, PathError> {
        SafePath::parse(&self.raw_path)
    }

    /// Bytes of the content that have not been read yet.
    pub fn unread(&self) -> u64 {
        *self.remaining
    }
}

impl Read for Member<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        read_content(self.source, self.remaining, out)
    }
}

/// Reads what is left of a content.
fn read_content(source: &mut dyn Read, remaining: &mut u64, out: &mut [u8]) -> io::Result<usize> {
    let most = usize::try_from(*remaining).unwrap_or(usize::MAX).min(out.len());
    if most == 0 {
        return Ok(0);
    }
    let n = source.read(&mut out[..most])?;
    if n == 0 {
        let error = "the archive is cut short inside the content of an entry";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
    }
    *remaining -= n as u64;
    Ok(n)
}

/// What extension headers say of the member behind them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Records>,
}

impl<R: Read> TarReader<R> {
    /// A reader of the archive that begins where `reader` stands and ends where it ends.
    pub fn new(reader: R, limits: TarLimits) -> TarReader<R> {
        TarReader {
            source: Source { reader, offset: 0 },
            limits,
            headers: 0,
            remaining: 0,
            padding: 0,
            globals: Records::default(),
            trailer: Trailer::default(),
            done: false,
        }
    }

    /// The next member, or nothing after the last, when everything behind it has been read and is zero.
    ///
    /// What is left of the content of the member before is skipped. After an error there are no more members.
    #[allow(clippy::should_implement_trait, reason = "the member borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Member<'_>>, TarError> {
        if self.done {
            return Ok(None);
        }
        // Only a member that was read to its end brings the reader on.
        self.done = true;
        self.skip_content()?;
        let header_offset = self.source.offset;
        let mut header = Vec::new();
        let mut extensions = Extensions::default();
        loop {
            let offset = self.source.offset;
            let Some(block) = self.next_header(!header.is_empty())? else { return Ok(None) };
            header.extend_from_slice(&block.0);
            if !matches!(block.typeflag(), b'x' | b'g' | b'L' | b'K') {
                return self.member(block, offset, header, header_offset, extensions).map(Some);
            }
            self.extension(&block, offset, &mut header, &mut extensions)?;
        }
    }

    /// Reads the content of the member that [`next`](TarReader::next) gave last, from where reading it stopped.
    ///
    /// The same as reading from the member, for callers that keep several archives open side by side.
    pub fn read_content(&mut self, out: &mut [u8]) -> io::Result<usize> {
        read_content(&mut self.source, &mut self.remaining, out)
    }

    /// What stood between and behind the members; final when [`next`](TarReader::next) has given nothing.
    pub fn trailer(&self) -> Trailer {
        self.trailer
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.source.offset
    }

    /// The reader below.
    pub fn into_inner(self) -> R {
        self.source.reader
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        self.source.skip(self.remaining, "the content of an entry")?;
        self.remaining = 0;
        if self.padding > 0 {
            let mut padding = vec![0; self.padding as usize];
            self.source.exact(&mut padding, "the padding of an entry")?;
            self.trailer.dirty_padding += u64::from(!is_zero(&padding));
            self.padding = 0;
        }
        Ok(())
    }

    /// The next header with its checksum checked; nothing at the end of the archive.
    fn next_header(&mut self, extended: bool) -> Result<Option<Block>, TarError> {
        let offset = self.source.offset;
        let mut block = [0; BLOCK as usize];
        self.source.exact(&mut block, "a header, or the two zero blocks that end an archive")?;
        if is_zero(&block) {
            if extended {
                return Err(malformed(offset, "an extension header with no entry behind it"));
            }
            self.end()?;
            return Ok(None);
        }
        self.headers += 1;
        if self.headers > self.limits.max_entries {
            return Err(TarError::Entries(self.limits.max_entries));
        }
        Block(block).checked(offset).map(Some)
    }

    /// The second zero block, and nothing but zeros to the end of the reader.
    fn end(&mut self) -> Result<(), TarError> {
        let offset = self.source.offset;
        let mut block = [0; BLOCK as usize];
        self.source.exact(&mut block, "the second of the two zero blocks that end an archive")?;
        if !is_zero(&block) {
            return Err(TarError::Trailing { offset });
        }
        let mut rest = vec![0; 64 << 10];
        loop {
            let offset = self.source.offset;
            match self.source.some(&mut rest)? {
                0 => return Ok(()),
                n if !is_zero(&rest[..n]) => return Err(TarError::Trailing { offset }),
                n => self.trailer.extra_zeros += n as u64,
            }
        }
    }

    /// Reads the content of an extension header and keeps what it says.
    fn extension(
        &mut self,
        block: &Block,
        offset: u64,
        header: &mut Vec<u8>,
        extensions: &mut Extensions,
    ) -> Result<(), TarError> {
        let size = block.size(offset)?;
        let limit = self.limits.max_extension_bytes;
        if size > limit {
            return Err(TarError::Extension { offset, found: size, limit });
        }
        if extensions.pax.as_ref().is_some_and(|pax| pax.get(b"size").is_some()) {
            // Some readers apply the record to this header, and so find the next one elsewhere (CVE-2025-62518).
            return Err(ambiguous(offset, "a PAX size stands before another extension header"));
        }
        let padded = size.next_multiple_of(BLOCK) as usize;
        let start = header.len();
        header.resize(start + padded, 0);
        self.source.exact(&mut header[start..], "the content of an extension header")?;
        let (content, padding) = header[start..].split_at(size as usize);
        self.trailer.dirty_padding += u64::from(!is_zero(padding));
        let place = match block.typeflag() {
            b'L' => &mut extensions.path,
            b'K' => &mut extensions.link,
            b'x' => {
                if extensions.pax.is_some() {
                    return Err(ambiguous(offset, "two PAX headers for one entry"));
                }
                extensions.pax = Some(Records::parse(content, offset)?);
                return Ok(());
            }
            _ => {
                self.trailer.global_headers += 1;
                return self.globals.adopt(Records::parse(content, offset)?, offset);
            }
        };
        if place.is_some() {
            return Err(ambiguous(offset, "two GNU long names for one entry"));
        }
        *place = Some(long_name(content, offset)?);
        Ok(())
    }

    fn member(
        &mut self,
        block: Block,
        offset: u64,
        header: Vec<u8>,
        header_offset: u64,
        extensions: Extensions,
    ) -> Result<Member<'_>, TarError> {
        let own = extensions.pax.unwrap_or_default();
        if own.is_sparse() || block.typeflag() == b'S' {
            return Err(TarError::Sparse { offset });
        }
        let pax = own.over(&self.globals);
        let field_size = block.size(offset)?;
        let record_size = pax.number(b"size", offset)?;
        let size = record_size.unwrap_or(field_size);
        let raw_path = one_of("path", extensions.path, pax.get(b"path"), block.path(), offset)?;
        let link = one_of("linkpath", extensions.link, pax.get(b"linkpath"), block.link(), offset)?;
        // PATH_MAX of Linux: no link that a file system holds is longer.
        if link.len() > 4095 {
            return Err(malformed(offset, "a link target of more than 4095 bytes"));
        }
        let kind = kind(&block, &raw_path, link, offset)?;
        if size > 0 && !matches!(kind, MemberKind::File | MemberKind::Other(_)) {
            return Err(ambiguous(offset, "content behind an entry that is no file"));
        }
        if raw_path.contains(&0) {
            return Err(malformed(offset, "a NUL byte in a name"));
        }
        let (mtime, mtime_nanos) = match pax.time(b"mtime", offset)? {
            Some(time) => time,
            None => (block.mtime(offset)?, 0),
        };
        let (uname, gname) = match block.format() {
            Format::V7 => (Vec::new(), Vec::new()),
            _ => (block.text(265, 32), block.text(297, 32)),
        };
        let (uid, gid) = (pax.number(b"uid", offset)?, pax.number(b"gid", offset)?);
        self.remaining = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        self.done = false;
        Ok(Member {
            kind,
            mode: block.mode(offset)?,
            uid: uid.map_or_else(|| block.number(108, 8, "uid", offset), Ok)?,
            gid: gid.map_or_else(|| block.number(116, 8, "gid", offset), Ok)?,
            uname: pax.get(b"uname").map_or(uname, <[u8]>::to_vec),
            gname: pax.get(b"gname").map_or(gname, <[u8]>::to_vec),
            size,
            mtime,
            mtime_nanos,
            xattrs: pax.xattrs(),
            header_offset,
            data_offset: self.source.offset,
            header,
            size_disagreement: record_size
                .filter(|&record| record != field_size)
                .map(|record| (field_size, record)),
            raw_path,
            source: &mut self.source,
            remaining: &mut self.remaining,
        })
    }
}

impl<R: Read + io::Seek> TarReader<R> {
    /// Passes over what is left of the content of the current member without reading it.
    ///
    /// Whether the archive holds that content is then known only from what follows: a reader that ends inside it
    /// gives an error at the next member, because at least the end of the archive must still come.
    pub fn seek_content(&mut self) -> Result<(), TarError> {
        let offset = self.source.offset;
        let distance =
            i64::try_from(self.remaining).map_err(|_| malformed(offset, "the size is out of range"))?;
        let sought = self.source.reader.seek_relative(distance);
        sought.map_err(|source| TarError::Io { offset, source })?;
        self.source.offset += self.remaining;
        self.remaining = 0;
        Ok(())
    }
}

/// What a header block says that may be damaged; nothing of it can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The name in the block, with its prefix.
    pub raw_path: Vec<u8>,
    /// The first 100 bytes, where the name stands.
    pub name_field: [u8; 100],
    /// The size in the block, when it is a number.
    pub size: Option<u64>,
    /// The checksum is right.
    pub sound: bool,
}

/// Looks at one block of 512 bytes as a header, without believing it: for saying where in an archive damage lies.
pub fn guess(block: &[u8; 512]) -> Guess {
    let mut name_field = [0; 100];
    name_field.copy_from_slice(&block[..100]);
    let block = Block(*block);
    Guess { name_field, raw_path: block.path(), size: block.size(0).ok(), sound: block.checked(0).is_ok() }
}

/// What the type flag says, and the name where old writers put it there.
fn kind(block: &Block, path: &[u8], link: Vec<u8>, offset: u64) -> Result<MemberKind, TarError> {
    let slash = path.ends_with(b"/");
    let device = |offset| -> Result<(u32, u32), TarError> {
        let field = |at, name| {
            let number = block.number(at, 8, name, offset)?;
            u32::try_from(number).map_err(|_| malformed(offset, "a device number is too large"))
        };
        Ok((field(329, "devmajor")?, field(337, "devminor")?))
    };
    Ok(match block.typeflag() {
        b'\0' if slash => MemberKind::Directory,
        b'0' if slash && block.format() == Format::V7 => MemberKind::Directory,
        b'0' | b'7' if slash => {
            return Err(ambiguous(offset, "a file whose name ends in a slash"));
        }
        b'0' | b'\0' | b'7' => MemberKind::File,
        b'1' => MemberKind::HardLink { target: link },
        b'2' => MemberKind::Symlink { target: link },
        b'3' => {
            let (major, minor) = device(offset)?;
            MemberKind::CharDevice { major, minor }
        }
        b'4' => {
            let (major, minor) = device(offset)?;
            MemberKind::BlockDevice { major, minor }
        }
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        other => MemberKind::Other(other),
    })
}

/// The name from a GNU extension, a PAX record or the header, in this order; two that differ are refused.
fn one_of(
    what: &str,
    gnu: Option<Vec<u8>>,
    pax: Option<&[u8]>,
    field: Vec<u8>,
    offset: u64,
) -> Result<Vec<u8>, TarError> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => {
            Err(ambiguous(offset, &format!("a GNU long name and a PAX {what} that differ")))
        }
        (Some(gnu), _) => Ok(gnu),
        (None, Some(pax)) => Ok(pax.to_vec()),
        (None, None) => Ok(field),
    }
}

/// A GNU long name: text, and one NUL or none behind it.
fn long_name(content: &[u8], offset: u64) -> Result<Vec<u8>, TarError> {
    let end = content.iter().position(|&b| b == 0).unwrap_or(content.len());
    let (name, rest) = content.split_at(end);
    if name.is_empty() || !is_zero(rest) {
        return Err(malformed(offset, "a GNU long name that is empty or holds a NUL byte"));
    }
    Ok(name.to_vec())
}

fn malformed(offset: u64, why: &str) -> TarError {
    TarError::Malformed { offset, why: why.to_owned() }
}

fn ambiguous(offset: u64, why: &str) -> TarError {
    TarError::Ambiguous { offset, why: why.to_owned() }
}

#[cfg(test)]
#[path = "untar_tests.rs"]
mod tests;
