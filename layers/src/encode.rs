//! One block becomes one gzip member (RFC 1952) or zstd frame (RFC 8878). Rules `1`:
//!
//! * gzip: blocks of 1 MiB; header `1f 8b 08 00 00000000 00 ff` (no name, no time, unknown system); deflate
//!   by libdeflate at level 3; the deflate streams of wheels, where they have at least 4,096 bytes, as they are;
//! * zstd: blocks of 4 MiB; level 3; the frame holds its content size and no checksum;
//! * none: the block as it is.

use std::io;

use crate::Compression;

/// Bytes of the stream in one gzip member; the last may be shorter.
pub const GZIP_BLOCK: usize = 1 << 20;

/// Bytes of the stream in one zstd frame; the last may be shorter.
pub const ZSTD_BLOCK: usize = 4 << 20;

/// The shortest deflate stream that stands in a gzip layer as it is, in a member of its own.
pub const SPLICE_MIN: u64 = 4096;

/// The header of every gzip member: deflate, no flags, no time, no extra flags, unknown system.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

const GZIP_LEVEL: i32 = 3;
const ZSTD_LEVEL: i32 = 3;
const GZIP_TRAILER: usize = 8;

/// How many bytes one block has.
pub(crate) fn block_size(compression: Compression) -> usize {
    match compression {
        Compression::Zstd => ZSTD_BLOCK,
        Compression::Gzip | Compression::None => GZIP_BLOCK,
    }
}

/// An encoder for one thread at a time, reused from block to block: none leaves a trace in the next.
pub(crate) enum Encoder {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> io::Result<Encoder> {
        Ok(match compression {
            Compression::Gzip => {
                let level = libdeflater::CompressionLvl::new(GZIP_LEVEL)
                    .map_err(|error| io::Error::other(format!("libdeflate level: {error:?}")))?;
                Encoder::Gzip(libdeflater::Compressor::new(level))
            }
            Compression::Zstd => Encoder::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
            Compression::None => Encoder::None,
        })
    }

    pub(crate) fn compression(&self) -> Compression {
        match self {
            Encoder::Gzip(_) => Compression::Gzip,
            Encoder::Zstd(_) => Compression::Zstd,
            Encoder::None => Compression::None,
        }
    }

    /// The most bytes that a block of `len` bytes can become.
    pub(crate) fn bound(&mut self, len: usize) -> usize {
        match self {
            Encoder::Gzip(compressor) => {
                GZIP_HEADER.len() + compressor.deflate_compress_bound(len) + GZIP_TRAILER
            }
            Encoder::Zstd(_) => zstd::zstd_safe::compress_bound(len),
            Encoder::None => len,
        }
    }

    /// Puts the complete member or frame of `block` at the beginning of `out`, which has [`bound`](Encoder::bound)
    /// bytes, and gives its length.
    pub(crate) fn encode(&mut self, block: &[u8], out: &mut [u8]) -> io::Result<usize> {
        match self {
            Encoder::Gzip(compressor) => {
                let start = GZIP_HEADER.len();
                let size = compressor
                    .deflate_compress(block, &mut out[start..])
                    .map_err(|error| io::Error::other(format!("libdeflate: {error}")))?;
                out[..start].copy_from_slice(&GZIP_HEADER);
                let trailer = &mut out[start + size..start + size + GZIP_TRAILER];
                trailer[..4].copy_from_slice(&libdeflater::crc32(block).to_le_bytes());
                // Blocks are far below 4 GiB.
                trailer[4..].copy_from_slice(&(block.len() as u32).to_le_bytes());
                Ok(start + size + GZIP_TRAILER)
            }
            Encoder::Zstd(compressor) => compressor.compress_to_buffer(block, out),
            Encoder::None => {
                out[..block.len()].copy_from_slice(block);
                Ok(block.len())
            }
        }
    }
}
