//! Strict, bounded decompression of layers.
//!
//! What a lenient reader passes over is an error here: bytes after the last member, a stream that is cut short, a
//! wrong CRC or size in a gzip trailer, output past a cap, a ratio that only a bomb has, a zstd window that needs
//! more than 128 MiB. gzip headers and trailers are read by this module (RFC 1952); flate2 inflates only the raw
//! deflate stream, because its own gzip reader accepts junk after the end.

mod members;

use std::io::{self, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};
pub use members::{Member, Members};
use zstd::stream::raw::{DParameter, Operation as _};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Compression {
    /// gzip, one or more members.
    Gzip,
    /// zstd, one or more frames.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    /// How many bytes of the tar stream each gzip member or zstd frame of ours holds; the last may hold fewer.
    pub fn block_size(self) -> u64 {
        match self {
            Compression::Gzip => 1 << 20,
            Compression::Zstd => 4 << 20,
            Compression::None => u64::MAX,
        }
    }

    /// `gzip`, `zstd` or `none`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::None => "none",
        }
    }
}

/// The compression that the first bytes of a stream show; four bytes are enough.
pub fn sniff(first: &[u8]) -> Compression {
    match first {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame, which some zstd writers put first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The bounds of one [`Decoder`].
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// The most bytes that may come out.
    pub max_output: u64,
    /// How many bytes may come out for each byte that went in.
    pub max_ratio: u64,
    /// Bytes that may come out before the ratio counts.
    pub ratio_free: u64,
}

/// How a compressed stream is cut, which decides whether it is as this crate would have written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Number of gzip members or zstd frames.
    pub members: u64,
    /// Every gzip header is `1f 8b 08 00 00000000 00 ff`; every zstd frame says its content's size and
    /// has neither checksum nor dictionary.
    pub plain_headers: bool,
    /// Every member but the last holds exactly [`Compression::block_size`] bytes, and the last holds 1 to that many.
    pub uniform_blocks: bool,
}

/// Why a compressed stream is refused. Inside an [`io::Error`]: see [`DecodeError::of`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The stream ends inside a member, or holds none.
    #[error("the {0} stream is cut short")]
    Truncated(&'static str),
    /// After the last member comes something that is no member.
    #[error("bytes that belong to no {0} member follow the last one, at byte {1}")]
    Trailing(&'static str, u64),
    /// A header or the compressed data is malformed.
    #[error("the {0} stream is damaged before byte {1}: {2}")]
    Corrupt(&'static str, u64, String),
    /// The CRC-32 or size in a gzip trailer is not that of the content.
    #[error("the gzip {what} of member {member} is {found:08x}, its content has {expected:08x}")]
    Trailer {
        /// `CRC` or `size`.
        what: &'static str,
        /// Number of the member, from 1.
        member: u64,
        /// What the content has.
        expected: u32,
        /// What the trailer says.
        found: u32,
    },
    /// More comes out than allowed.
    #[error("more than {0} bytes come out")]
    Output(u64),
    /// More comes out for each byte than any real content gives.
    #[error("more than {0} bytes come out for each byte that goes in")]
    Ratio(u64),
}

impl DecodeError {
    /// The decoding error that an I/O error of a [`Decoder`] carries, if it is one.
    pub fn of(error: &io::Error) -> Option<&DecodeError> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Gives the content of a compressed stream, or an error, never a part of it as if it were all.
///
/// Errors come as [`io::Error`]: those of the reader itself unchanged, those of the content as [`DecodeError`].
/// Only when `read` has returned 0 has the whole stream been checked.
pub struct Decoder<R> {
    input: Input<R>,
    format: Format,
    compression: Compression,
    limits: DecodeLimits,
    /// Bytes given so far.
    output: u64,
    /// Bytes given so far by this member.
    in_member: u64,
    /// Bytes of the input before what this member is compressed to.
    begun: u64,
    framing: Framing,
    /// A member shorter than a block has ended: if another follows, the blocks are not uniform.
    short_member: bool,
    state: State,
    /// Who wants to know where members are.
    members: Option<Members>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before a member's header, or the end.
    Between,
    /// Inside a member.
    Inside,
    /// At the end, or after an error.
    Done,
}

enum Format {
    Plain,
    Gzip { inflate: Box<Decompress>, crc: Crc },
    Zstd(zstd::stream::raw::Decoder<'static>),
}

/// Base-2 logarithm of the largest zstd window: 128 MiB, what `zstd --long` gives.
const WINDOW_LOG_MAX: u32 = 27;

/// The most bytes that the optional fields of a gzip header may take.
const GZIP_HEADER_MAX: usize = 128 << 10;

/// The header that this crate writes: no flags, no time, level not said, system unknown.
const PLAIN_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

impl<R: Read> Decoder<R> {
    /// A decoder of everything that `reader` gives.
    ///
    /// Fails only when the zstd library cannot be set up.
    pub fn new(reader: R, compression: Compression, limits: DecodeLimits) -> io::Result<Decoder<R>> {
        let format = match compression {
            Compression::None => Format::Plain,
            Compression::Gzip => Format::Gzip { inflate: Box::new(Decompress::new(false)), crc: Crc::new() },
            Compression::Zstd => {
                let mut context = zstd::stream::raw::Decoder::new()?;
                context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
                Format::Zstd(context)
            }
        };
        let framing = Framing { members: 0, plain_headers: true, uniform_blocks: true };
        let input = Input { reader, buffer: vec![0; 128 << 10].into(), start: 0, end: 0, consumed: 0 };
        Ok(Decoder {
            input,
            format,
            compression,
            limits,
            output: 0,
            in_member: 0,
            begun: 0,
            framing,
            short_member: false,
            state: State::Between,
            members: None,
        })
    }

    /// How the stream is cut; final when `read` has returned 0.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// From now on the places of members, as they end.
    pub fn members(&mut self) -> Members {
        self.members.get_or_insert_default().clone()
    }

    /// Bytes given so far.
    pub fn output(&self) -> u64 {
        self.output
    }

    /// The reader, for instance to ask a hasher for its result after the end.
    pub fn into_inner(self) -> R {
        self.input.reader
    }

    /// The reader. Reading from it loses bytes for this decoder.
    pub fn get_ref(&self) -> &R {
        &self.input.reader
    }

    fn step(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let name = self.compression.name();
        if self.state == State::Between && !self.begin()? {
            return Ok(0);
        }
        let (given, ended) = match &mut self.format {
            Format::Plain => {
                let bytes = self.input.fill()?;
                let n = bytes.len().min(out.len());
                out[..n].copy_from_slice(&bytes[..n]);
                self.input.consume(n);
                (n, n == 0)
            }
            Format::Gzip { inflate, crc } => {
                let bytes = self.input.fill()?;
                let at_end = bytes.is_empty();
                let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(bytes, out, FlushDecompress::None);
                let taken = (inflate.total_in() - before_in) as usize;
                let given = (inflate.total_out() - before_out) as usize;
                self.input.consume(taken);
                let status =
                    status.map_err(|e| DecodeError::Corrupt(name, self.input.consumed, e.to_string()))?;
                if taken == 0 && given == 0 && status != Status::StreamEnd {
                    return Err(match at_end {
                        true => DecodeError::Truncated(name),
                        false => DecodeError::Corrupt(name, self.input.consumed, "no progress".into()),
                    }
                    .into());
                }
                crc.update(&out[..given]);
                (given, status == Status::StreamEnd)
            }
            Format::Zstd(context) => {
                let bytes = self.input.fill()?;
                let at_end = bytes.is_empty();
                let step = context.run_on_buffers(bytes, out);
                let step =
                    step.map_err(|e| DecodeError::Corrupt(name, self.input.consumed, e.to_string()))?;
                self.input.consume(step.bytes_read);
                if step.bytes_read == 0 && step.bytes_written == 0 && step.remaining != 0 {
                    return Err(match at_end {
                        true => DecodeError::Truncated(name),
                        false => DecodeError::Corrupt(name, self.input.consumed, "no progress".into()),
                    }
                    .into());
                }
                (step.bytes_written, step.remaining == 0)
            }
        };
        self.output += given as u64;
        self.in_member += given as u64;
        self.check_limits()?;
        if ended {
            self.end_member()?;
        }
        Ok(given)
    }

    fn check_limits(&self) -> Result<(), DecodeError> {
        if self.output > self.limits.max_output {
            return Err(DecodeError::Output(self.limits.max_output));
        }
        let allowed = self.input.consumed.saturating_mul(self.limits.max_ratio).max(self.limits.ratio_free);
        match self.compression != Compression::None && self.output > allowed {
            true => Err(DecodeError::Ratio(self.limits.max_ratio)),
            false => Ok(()),
        }
    }

    /// Begins a member; false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        let name = self.compression.name();
        if self.compression != Compression::None {
            let at = self.input.consumed;
            let first = self.input.at_least(10)?;
            if first.is_empty() {
                self.state = State::Done;
                return if self.framing.members == 0 {
                    Err(DecodeError::Truncated(name).into())
                } else {
                    Ok(false)
                };
            }
            let magic = match self.compression {
                Compression::Gzip => first.len() >= 2,
                _ => first.len() >= 4,
            };
            if !magic || sniff(first) != self.compression {
                return Err(match self.framing.members {
                    0 if !magic => DecodeError::Truncated(name),
                    0 => DecodeError::Corrupt(name, at, "no magic number".into()),
                    _ => DecodeError::Trailing(name, at),
                }
                .into());
            }
            let plain = match self.compression {
                Compression::Gzip => first.starts_with(&PLAIN_HEADER),
                // Not skippable; a content size, no checksum, no dictionary (RFC 8878, section 3.1.1.1.1).
                _ => first[0] == 0x28 && first.get(4).is_some_and(|byte| byte & 0xe0 != 0 && byte & 7 == 0),
            };
            self.framing.plain_headers &= plain;
            self.framing.uniform_blocks &= !self.short_member;
        }
        if self.compression == Compression::Gzip {
            self.gzip_header()?;
        }
        if let Format::Gzip { inflate, crc } = &mut self.format {
            inflate.reset(false);
            crc.reset();
        }
        self.framing.members += 1;
        self.in_member = 0;
        self.begun = self.input.consumed;
        self.state = State::Inside;
        Ok(true)
    }

    fn end_member(&mut self) -> io::Result<()> {
        let block = self.compression.block_size();
        self.framing.uniform_blocks &= self.in_member <= block && self.in_member > 0;
        self.short_member = self.in_member < block;
        if let Some(members) = &self.members {
            let content = self.output - self.in_member..self.output;
            members.ended(Member { content, packed: self.input.consumed - self.begun });
        }
        self.state = if self.compression == Compression::None { State::Done } else { State::Between };
        let member = self.framing.members;
        if let Format::Gzip { crc, .. } = &self.format {
            let (sum, size) = (crc.sum(), crc.amount());
            for (what, expected) in [("CRC", sum), ("size", size)] {
                let mut field = [0; 4];
                self.input.exact(&mut field, "gzip")?;
                let found = u32::from_le_bytes(field);
                if found != expected {
                    return Err(DecodeError::Trailer { what, member, expected, found }.into());
                }
            }
        }
        Ok(())
    }

    /// RFC 1952, section 2.3.
    fn gzip_header(&mut self) -> io::Result<()> {
        let mut crc = Crc::new();
        let mut fixed = [0; 10];
        self.input.exact(&mut fixed, "gzip")?;
        crc.update(&fixed);
        let at = self.input.consumed;
        let corrupt = |why: &str| DecodeError::Corrupt("gzip", at, why.to_owned());
        let flags = fixed[3];
        if fixed[2] != 8 {
            return Err(corrupt("the method is not deflate").into());
        }
        if flags & 0xe0 != 0 {
            return Err(corrupt("reserved flags are set").into());
        }
        let mut rest = 0;
        let mut byte = |input: &mut Input<R>| -> io::Result<u8> {
            let mut one = [0];
            input.exact(&mut one, "gzip")?;
            crc.update(&one);
            rest += 1;
            if rest > GZIP_HEADER_MAX {
                return Err(corrupt("the header is too long").into());
            }
            Ok(one[0])
        };
        if flags & 4 != 0 {
            let length = u16::from_le_bytes([byte(&mut self.input)?, byte(&mut self.input)?]);
            for _ in 0..length {
                byte(&mut self.input)?;
            }
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                while byte(&mut self.input)? != 0 {}
            }
        }
        if flags & 2 != 0 {
            let expected = (crc.sum() & 0xffff) as u16;
            let mut field = [0; 2];
            self.input.exact(&mut field, "gzip")?;
            if u16::from_le_bytes(field) != expected {
                return Err(corrupt("the CRC of the header is wrong").into());
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.state != State::Done {
            match self.step(out) {
                Ok(0) => {}
                Ok(given) => return Ok(given),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    self.state = State::Done;
                    return Err(error);
                }
            }
        }
        Ok(0)
    }
}

/// A buffered reader that counts, so that members can be cut exactly.
struct Input<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
}

impl<R: Read> Input<R> {
    /// The bytes at hand, reading more when there are none; empty at the end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.more()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// At least `n` bytes, fewer only at the end.
    fn at_least(&mut self, n: usize) -> io::Result<&[u8]> {
        while self.end - self.start < n {
            if self.buffer.len() - self.start < n {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.more()? == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn more(&mut self) -> io::Result<usize> {
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let n = result?;
                    self.end += n;
                    return Ok(n);
                }
            }
        }
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.consumed += n as u64;
    }

    fn exact(&mut self, out: &mut [u8], name: &'static str) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            let bytes = self.fill()?;
            let n = bytes.len().min(out.len() - done);
            if n == 0 {
                return Err(DecodeError::Truncated(name).into());
            }
            out[done..done + n].copy_from_slice(&bytes[..n]);
            self.consume(n);
            done += n;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "decompress_tests.rs"]
mod tests;
