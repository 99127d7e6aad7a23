//! Compression in fixed blocks on several threads, with the same output for any number of them.
//!
//! The stream is cut into blocks of a fixed size, whatever the sizes of the writes; each block becomes a
//! complete gzip member (RFC 1952) or zstd frame (RFC 8878) of its own, and these stand one behind the
//! other. Rules `1`:
//!
//! * gzip: blocks of 1 MiB; header `1f 8b 08 00 00000000 00 ff` (no name, no time, unknown system); deflate
//!   by libdeflate at level 3;
//! * zstd: blocks of 4 MiB; level 3; the frame holds its content size and no checksum;
//! * none: the stream as it is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::Compression;
use crate::digest::{Digest, Hasher};

/// Bytes of the stream in one gzip member; the last may be shorter.
pub const GZIP_BLOCK: usize = 1 << 20;

/// Bytes of the stream in one zstd frame; the last may be shorter.
pub const ZSTD_BLOCK: usize = 4 << 20;

/// The header of every gzip member: deflate, no flags, no time, no extra flags, unknown system.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

const GZIP_LEVEL: i32 = 3;
const ZSTD_LEVEL: i32 = 3;

/// Bytes that were written, with the digest of exactly these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Number of compressed bytes.
    pub size: u64,
}

/// Writes a stream, compressed, to `W`.
///
/// Threads start with the second block, so a small stream costs none. Dropped before
/// [`finish`](Compressor::finish), it leaves `W` with a part of the stream.
pub struct Compressor<W: Write + Send + 'static> {
    compression: Compression,
    threads: NonZeroUsize,
    block: Vec<u8>,
    stage: Stage<W>,
}

enum Stage<W: Write + Send + 'static> {
    /// No thread runs yet; everything so far fits one block.
    Alone(Sink<W>),
    Pool(Pool<W>),
    /// The pool ended early, because writing failed.
    Failed,
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// A compressor onto `out` with at most `threads` threads that compress.
    pub fn new(out: W, compression: Compression, threads: NonZeroUsize) -> Compressor<W> {
        let stage = Stage::Alone(Sink { out, hasher: Hasher::sha256(), size: 0 });
        Compressor { compression, threads, block: Vec::new(), stage }
    }

    /// Compresses what is left and gives back `W`, not flushed to any disk, with the digest of all it got.
    pub fn finish(mut self) -> io::Result<(Written, W)> {
        let sink = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Alone(mut sink) => {
                let mut out = Vec::new();
                Encoder::new(self.compression)?.encode(&self.block, &mut out)?;
                sink.put(&out)?;
                sink
            }
            Stage::Pool(mut pool) => {
                if !self.block.is_empty() {
                    pool.submit(std::mem::take(&mut self.block))?;
                }
                pool.finish()?
            }
            Stage::Failed => return Err(ended()),
        };
        Ok((Written { digest: sink.hasher.finish(), size: sink.size }, sink.out))
    }

    fn block_size(&self) -> usize {
        match self.compression {
            Compression::Zstd => ZSTD_BLOCK,
            Compression::Gzip | Compression::None => GZIP_BLOCK,
        }
    }

    /// Hands over a full block, and takes an empty buffer for the next.
    fn submit(&mut self) -> io::Result<()> {
        if let Stage::Alone(_) = self.stage
            && let Stage::Alone(sink) = std::mem::replace(&mut self.stage, Stage::Failed)
        {
            self.stage = Stage::Pool(Pool::start(sink, self.compression, self.threads)?);
        }
        let Stage::Pool(pool) = &mut self.stage else { return Err(ended()) };
        match pool.submit(std::mem::take(&mut self.block)) {
            Ok(buffer) => self.block = buffer,
            Err(error) => {
                if let Stage::Pool(pool) = std::mem::replace(&mut self.stage, Stage::Failed) {
                    // The writer's own error says more than "it ended".
                    return Err(pool.finish().err().unwrap_or(error));
                }
            }
        }
        Ok(())
    }
}

impl<W: Write + Send + 'static> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = self.block_size();
        // A full block waits for the next byte: the last one is compressed by `finish`.
        if self.block.len() == size && !bytes.is_empty() {
            self.submit()?;
        }
        let taken = bytes.len().min(size - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where compressed bytes go, in order.
struct Sink<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Sink<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// Threads that compress, and one that writes in order. Buffers circulate, so memory is bounded by their number.
struct Pool<W> {
    next: u64,
    jobs: Option<Sender<Job>>,
    free: Receiver<Vec<u8>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    writer: JoinHandle<io::Result<Sink<W>>>,
}

type Job = (u64, Vec<u8>);

/// A compressed block, with the buffer to give back once it is written: a slow output holds up the caller.
type Done = (u64, Vec<u8>, Vec<u8>);

impl<W: Write + Send + 'static> Pool<W> {
    fn start(sink: Sink<W>, compression: Compression, threads: NonZeroUsize) -> io::Result<Pool<W>> {
        let (jobs, todo) = channel::<Job>();
        let (give, free) = channel();
        let (done, ready) = channel::<Done>();
        for _ in 0..2 * threads.get() {
            // Cannot fail: the receiver stands in this function.
            let _ = give.send(Vec::new());
        }
        let todo = Arc::new(Mutex::new(todo));
        let workers = (0..threads.get())
            .map(|_| {
                let (todo, done) = (Arc::clone(&todo), done.clone());
                spawn("compress", move || compress_all(compression, &todo, &done))
            })
            .collect::<io::Result<_>>()?;
        let writer = spawn("write", move || write_in_order(sink, &ready, &give))?;
        drop(done);
        Ok(Pool { next: 0, jobs: Some(jobs), free, workers, writer })
    }

    /// Gives an empty buffer back, as soon as there is one.
    fn submit(&mut self, block: Vec<u8>) -> io::Result<Vec<u8>> {
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send((self.next, block)).map_err(|_| ended())?;
        self.next += 1;
        self.free.recv().map_err(|_| ended())
    }

    fn finish(mut self) -> io::Result<Sink<W>> {
        self.jobs = None;
        drop(self.free);
        let results: Vec<_> = self.workers.into_iter().map(|w| w.join().map_err(|_| panicked())).collect();
        let sink = self.writer.join().map_err(|_| panicked())?;
        for result in results {
            result??;
        }
        sink
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

fn ended() -> io::Error {
    io::Error::other("the compressor has ended early")
}

fn panicked() -> io::Error {
    io::Error::other("a thread of the compressor panicked")
}

fn compress_all(
    compression: Compression,
    todo: &Mutex<Receiver<Job>>,
    done: &Sender<Done>,
) -> io::Result<()> {
    let mut encoder = Encoder::new(compression)?;
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, block)) = job else { return Ok(()) };
        let mut out = Vec::new();
        encoder.encode(&block, &mut out)?;
        // The writer is gone when it failed; its own error is what the caller gets.
        if done.send((number, out, block)).is_err() {
            return Ok(());
        }
    }
}

fn write_in_order<W: Write>(
    mut sink: Sink<W>,
    ready: &Receiver<Done>,
    give: &Sender<Vec<u8>>,
) -> io::Result<Sink<W>> {
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for (number, bytes, block) in ready {
        waiting.insert(number, (bytes, block));
        while let Some((bytes, mut block)) = waiting.remove(&next) {
            sink.put(&bytes)?;
            next += 1;
            block.clear();
            // The caller waits for a buffer, or has gone into `finish` and needs none.
            let _ = give.send(block);
        }
    }
    if !waiting.is_empty() {
        return Err(io::Error::other("a block was lost between compressing and writing"));
    }
    Ok(sink)
}

/// One thread's compressor, reused from block to block.
enum Encoder {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    None,
}

impl Encoder {
    fn new(compression: Compression) -> io::Result<Encoder> {
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

    /// Appends the complete member or frame of `block`.
    fn encode(&mut self, block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Gzip(compressor) => {
                out.resize(GZIP_HEADER.len() + compressor.deflate_compress_bound(block.len()), 0);
                let size = compressor
                    .deflate_compress(block, &mut out[GZIP_HEADER.len()..])
                    .map_err(|error| io::Error::other(format!("libdeflate: {error}")))?;
                out[..GZIP_HEADER.len()].copy_from_slice(&GZIP_HEADER);
                out.truncate(GZIP_HEADER.len() + size);
                out.extend_from_slice(&libdeflater::crc32(block).to_le_bytes());
                // Blocks are far below 4 GiB.
                out.extend_from_slice(&(block.len() as u32).to_le_bytes());
            }
            Encoder::Zstd(compressor) => out.extend_from_slice(&compressor.compress(block)?),
            Encoder::None => out.extend_from_slice(block),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn compress(bytes: &[u8], compression: Compression, threads: usize, chunk: usize) -> (Written, Vec<u8>) {
        let mut compressor = Compressor::new(Vec::new(), compression, NonZeroUsize::new(threads).unwrap());
        for part in bytes.chunks(chunk) {
            compressor.write_all(part).unwrap();
        }
        compressor.finish().unwrap()
    }

    /// Bytes that compress a little, from a fixed recurrence.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 & 0x3f
        };
        (0..len).map(|_| next()).collect()
    }

    /// Words in a fixed and endless order: what an encoder finds in it depends on how far it looks.
    fn prose(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few words are common and many are rare.
            let word = (state >> 40) >> ((state >> 33) & 15);
            bytes.extend_from_slice(format!("{word:x} ").as_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn threads_and_write_sizes_do_not_show() {
        let bytes = noise(ZSTD_BLOCK * 2 + 12_345);
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let expected = compress(&bytes, compression, 1, bytes.len());
            assert_eq!(expected.0.digest, Digest::sha256(&expected.1));
            assert_eq!(expected.0.size, expected.1.len() as u64);
            for (threads, chunk) in [(1, 4096), (2, 1 << 20), (3, 777_777), (8, bytes.len())] {
                assert_eq!(compress(&bytes, compression, threads, chunk), expected);
            }
        }
    }

    #[test]
    fn others_read_it() {
        for len in [0, 1, GZIP_BLOCK - 1, GZIP_BLOCK, GZIP_BLOCK + 1, ZSTD_BLOCK, ZSTD_BLOCK + 1] {
            let bytes = noise(len);
            let (mut gzip, mut zstd) = (Vec::new(), Vec::new());
            let (_, out) = compress(&bytes, Compression::Gzip, 2, 10_000);
            flate2::read::MultiGzDecoder::new(&out[..]).read_to_end(&mut gzip).unwrap();
            assert!(gzip == bytes, "gzip {len}");
            let (_, out) = compress(&bytes, Compression::Zstd, 2, 10_000);
            zstd::stream::read::Decoder::new(&out[..]).unwrap().read_to_end(&mut zstd).unwrap();
            assert!(zstd == bytes, "zstd {len}");
        }
    }

    #[test]
    fn members_are_exact_blocks() {
        let (_, out) = compress(&noise(2 * GZIP_BLOCK), Compression::Gzip, 2, 1 << 16);
        let mut rest = &out[..];
        let mut sizes = Vec::new();
        while !rest.is_empty() {
            assert!(rest.starts_with(&GZIP_HEADER));
            let mut member = flate2::bufread::GzDecoder::new(rest);
            sizes.push(io::copy(&mut member, &mut io::sink()).unwrap());
            rest = member.into_inner();
        }
        assert_eq!(sizes, [GZIP_BLOCK as u64; 2]);
    }

    #[test]
    fn the_error_of_the_output_is_the_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = noise(GZIP_BLOCK * 20);
        for len in [10, GZIP_BLOCK * 20] {
            let mut compressor = Compressor::new(Full, Compression::Gzip, NonZeroUsize::MIN);
            let result = compressor.write_all(&bytes[..len]).and_then(|()| compressor.finish().map(|_| ()));
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }

    /// A change of the encoders, or of how they are used, is a change of the rules.
    #[test]
    fn golden() {
        let bytes = [prose(GZIP_BLOCK + 4321), noise(4321)].concat();
        let digest = |compression| compress(&bytes, compression, 2, 4096).0.digest.to_string();
        assert_eq!(
            digest(Compression::Gzip),
            "sha256:3f509fcff46eb7c50bde6e4bf9f93ba3c0365b6a2cffdfb999459b2b093a30bd"
        );
        assert_eq!(
            digest(Compression::Zstd),
            "sha256:a367760e8fc51aec6c25b35f62c14eb50d553a160d493aa3d2d05a2405f26c57"
        );
    }
}
