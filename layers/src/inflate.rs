//! One deflate stream (RFC 1951) of a known content, inflated strictly: it ends where its bytes end, and what is in it
//! has the size, CRC-32 and digest that it must have.
//!
//! The rules are zlib's: it refuses codes that other decoders let pass.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::digest::{Digest, Hasher};

/// What a content must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Number of bytes.
    pub size: u64,
    /// CRC-32 (ISO 3309), as gzip and zip have it.
    pub crc: u32,
    /// Its digest, where that is known.
    pub digest: Option<Digest>,
}

/// Why a stream or its content is not what it must be. The message follows the name of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The bytes break the rules of deflate.
    #[error("is no deflate stream")]
    Malformed,
    /// The bytes end and the stream does not.
    #[error("is cut off")]
    CutOff,
    /// The stream ends and the bytes do not.
    #[error("has bytes behind the end of its deflate stream")]
    Behind,
    /// There is more content than there may be.
    #[error("holds more than {0} bytes")]
    More(u64),
    /// There is less.
    #[error("holds {found} bytes, expected {expected}")]
    Size {
        /// Bytes that are there.
        found: u64,
        /// Bytes that must be there.
        expected: u64,
    },
    /// The CRC-32 is another.
    #[error("has the CRC-32 {found:08x}, expected {expected:08x}")]
    Crc {
        /// That of the content.
        found: u32,
        /// That it must have.
        expected: u32,
    },
    /// The digest is another.
    #[error("holds {found}, expected {expected}")]
    Digest {
        /// That of the content.
        found: Digest,
        /// That it must have.
        expected: Digest,
    },
}

/// Compares a content, piece by piece, with what it must be.
pub struct Check {
    expected: Expected,
    size: u64,
    crc: Crc,
    hasher: Option<Hasher>,
}

impl Check {
    /// Nothing of the content was seen yet.
    pub fn new(expected: &Expected) -> Check {
        let hasher = expected.digest.as_ref().map(|digest| Hasher::new(digest.algorithm()));
        Check { expected: expected.clone(), size: 0, crc: Crc::new(), hasher }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), InflateError> {
        self.size += bytes.len() as u64;
        if self.size > self.expected.size {
            return Err(InflateError::More(self.expected.size));
        }
        self.crc.update(bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// The end of the content.
    pub fn finish(&mut self) -> Result<(), InflateError> {
        let Expected { size, crc, digest } = &self.expected;
        if self.size != *size {
            return Err(InflateError::Size { found: self.size, expected: *size });
        }
        if self.crc.sum() != *crc {
            return Err(InflateError::Crc { found: self.crc.sum(), expected: *crc });
        }
        if let (Some(hasher), Some(expected)) = (self.hasher.take(), digest) {
            let found = hasher.finish();
            if found != *expected {
                return Err(InflateError::Digest { found, expected: expected.clone() });
            }
        }
        Ok(())
    }
}

/// Inflates a stream.
pub struct Inflate {
    decompress: Decompress,
    check: Check,
    ended: bool,
}

impl Inflate {
    /// At the beginning of a stream with this content.
    pub fn new(expected: &Expected) -> Inflate {
        Inflate { decompress: Decompress::new(false), check: Check::new(expected), ended: false }
    }

    /// Inflates from `input` into `out`: how many bytes of both were used. Without room in `out` nothing happens.
    ///
    /// Where `out` is not filled, all of `input` is used or the stream has ended.
    pub fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), InflateError> {
        if self.ended || out.is_empty() {
            return Ok((0, 0));
        }
        let (read, made) = (self.decompress.total_in(), self.decompress.total_out());
        let status = self
            .decompress
            .decompress(input, out, FlushDecompress::None)
            .map_err(|_| InflateError::Malformed)?;
        // No more than the lengths of the slices.
        let read = (self.decompress.total_in() - read) as usize;
        let made = (self.decompress.total_out() - made) as usize;
        self.check.update(&out[..made])?;
        self.ended = status == Status::StreamEnd;
        Ok((read, made))
    }

    /// True when the stream has ended. What follows is no part of it.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The end of the bytes: whether all was there and right.
    pub fn finish(&mut self) -> Result<(), InflateError> {
        match self.ended {
            true => self.check.finish(),
            false => Err(InflateError::CutOff),
        }
    }
}

macro_rules! shown {
    ($type:ty) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    };
}
shown!(Check);
shown!(Inflate);

#[cfg(test)]
#[path = "inflate_tests.rs"]
mod tests;
