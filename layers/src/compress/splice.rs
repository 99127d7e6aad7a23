//! Deflate streams that are put into a gzip stream as they are: members of their own (RFC 1952, section 2.2).

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{Block, Compressor, GZIP_BLOCK, GZIP_HEADER, Stage, Stream};
use crate::Compression;
use crate::inflate::{Expected, Inflate, InflateError};
use crate::pool::Buffer;

/// CRC-32 and size at the end of a member.
const TRAILER: usize = 8;

/// Why a stream was not put in.
#[derive(Debug)]
pub(crate) enum SpliceError {
    /// Its bytes cannot be read.
    Read(io::Error),
    /// It is not what it must be.
    Stream(InflateError),
    /// The output failed.
    Write(io::Error),
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// Adds the content of a deflate stream, which becomes the member of its own that its bytes are.
    ///
    /// `packed` ends with the stream. The stream is inflated and checked on the way: what is in the output after an error
    /// is no part of anything.
    pub(crate) fn splice(&mut self, packed: &mut dyn Read, expected: &Expected) -> Result<(), SpliceError> {
        let done = match self.compression {
            Compression::Gzip => self.verbatim(packed, expected),
            _ => self.inflate(packed, expected),
        };
        if done.is_err()
            && let Stage::Shared(stream) = std::mem::replace(&mut self.stage, Stage::Failed)
        {
            // Nothing that comes after a part of a content makes a whole.
            stream.abandon();
        }
        done
    }

    fn verbatim(&mut self, packed: &mut dyn Read, expected: &Expected) -> Result<(), SpliceError> {
        if self.filled > 0 {
            self.hand_over().map_err(SpliceError::Write)?;
        }
        let stream = self.share().map_err(SpliceError::Write)?;
        let mut inflate = Inflate::new(expected);
        let mut raw = Raw::new(self);
        raw.put(&GZIP_HEADER);
        loop {
            if raw.room() <= TRAILER {
                raw.hand_over(self, &stream).map_err(SpliceError::Write)?;
            }
            let (start, most) = (raw.filled, raw.room() - TRAILER);
            let count = read(packed, &mut raw.bytes[start..start + most]).map_err(SpliceError::Read)?;
            if count == 0 {
                break;
            }
            raw.filled += count;
            self.content_of(&raw.bytes[start..start + count], &mut inflate, &stream)?;
        }
        inflate.finish().map_err(SpliceError::Stream)?;
        self.hash(&stream).map_err(SpliceError::Write)?;
        raw.put(&expected.crc.to_le_bytes());
        // The size modulo 2^32, as RFC 1952 has it.
        raw.put(&(expected.size as u32).to_le_bytes());
        raw.hand_over(self, &stream).map_err(SpliceError::Write)
    }

    /// Inflates these bytes into blocks that are only hashed.
    fn content_of(
        &mut self,
        mut input: &[u8],
        inflate: &mut Inflate,
        stream: &Arc<Stream<W>>,
    ) -> Result<(), SpliceError> {
        loop {
            let (used, made) =
                inflate.step(input, &mut self.block[self.filled..]).map_err(SpliceError::Stream)?;
            input = &input[used..];
            self.filled += made;
            if self.filled == self.block.len() {
                self.hash(stream).map_err(SpliceError::Write)?;
            } else if inflate.is_ended() && !input.is_empty() {
                return Err(SpliceError::Stream(InflateError::Behind));
            } else if input.is_empty() {
                return Ok(());
            } else if used == 0 && made == 0 {
                return Err(SpliceError::Stream(InflateError::Malformed));
            }
        }
    }

    /// Lets what the block holds be hashed, in its turn, and takes an empty one.
    fn hash(&mut self, stream: &Arc<Stream<W>>) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        let permit = Arc::new(self.pool.permit(GZIP_BLOCK));
        let bytes = std::mem::replace(&mut self.block, self.pool.buffer(0));
        let len = std::mem::take(&mut self.filled);
        self.content_size += len as u64;
        stream.hash(&self.pool, &Arc::new(Block { bytes, len, _permit: permit }))?;
        self.block = self.pool.buffer(GZIP_BLOCK);
        Ok(())
    }

    /// Adds the content of a stream, compressed anew: only gzip holds deflate streams.
    fn inflate(&mut self, packed: &mut dyn Read, expected: &Expected) -> Result<(), SpliceError> {
        let mut inflate = Inflate::new(expected);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = read(packed, &mut buffer).map_err(SpliceError::Read)?;
            let mut input = &buffer[..count];
            loop {
                let space = self.space().map_err(SpliceError::Write)?;
                let room = space.len();
                let (used, made) = inflate.step(input, space).map_err(SpliceError::Stream)?;
                self.advance(made);
                input = &input[used..];
                if inflate.is_ended() && !input.is_empty() {
                    return Err(SpliceError::Stream(InflateError::Behind));
                }
                if made < room && (input.is_empty() || (used == 0 && made == 0)) {
                    break;
                }
            }
            if count == 0 {
                return inflate.finish().map_err(SpliceError::Stream);
            }
        }
    }
}

/// Bytes of the member that is being put in.
struct Raw {
    bytes: Buffer,
    filled: usize,
}

impl Raw {
    fn new<W: Write + Send + 'static>(to: &Compressor<W>) -> Raw {
        Raw { bytes: to.pool.buffer(GZIP_BLOCK), filled: 0 }
    }

    fn room(&self) -> usize {
        self.bytes.len() - self.filled
    }

    /// Adds bytes for which there is room.
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Lets what there is be written when it is its turn, and is empty again.
    fn hand_over<W: Write + Send + 'static>(
        &mut self,
        from: &mut Compressor<W>,
        stream: &Arc<Stream<W>>,
    ) -> io::Result<()> {
        let permit = Arc::new(from.pool.permit(GZIP_BLOCK));
        let bytes = std::mem::replace(&mut self.bytes, from.pool.buffer(0));
        let len = std::mem::take(&mut self.filled);
        stream.write(from.blocks, Arc::new(Block { bytes, len, _permit: permit }));
        from.blocks += 1;
        self.bytes = from.pool.buffer(GZIP_BLOCK);
        Ok(())
    }
}

fn read(from: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
