//! Compression in fixed blocks on several threads, with the same output for any number of them.
//!
//! The stream is cut into blocks of a fixed size, whatever the sizes of the writes; each block becomes a complete
//! gzip member or zstd frame of its own (see `encode.rs`), and these stand one behind the other.
//!
//! ```text
//! caller   fills a block ─┬─► content digest   in order, one thread at a time
//!                         └─► compress         any order, all threads ──► blob digest, write   in order
//! ```
//!
//! A deflate stream can stand in a gzip stream as it is, as a member of its own: what came before it is then a block,
//! however full, and the next block begins behind it.

mod splice;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::Compression;
use crate::digest::{Digest, Hasher};
use crate::encode::block_size;
pub use crate::encode::{GZIP_BLOCK, GZIP_HEADER, SPLICE_MIN, ZSTD_BLOCK};
use crate::pool::{Buffer, Permit, Pool, Shared};
pub(crate) use splice::SpliceError;

/// Bytes that were written, with the digest of exactly these, and that of what they are compressed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Number of compressed bytes.
    pub size: u64,
    /// Digest of the bytes before compression.
    pub content: Digest,
    /// Number of bytes before compression.
    pub content_size: u64,
}

/// Writes a stream, compressed, to `W`.
///
/// The threads of the pool take part from the second block on, so a small stream needs none. Dropped before
/// [`finish`](Compressor::finish), it leaves `W` with a part of the stream.
pub struct Compressor<W: Write + Send + 'static> {
    pool: Pool,
    compression: Compression,
    block: Buffer,
    filled: usize,
    /// Blocks that were handed over, and how many bytes of the content are in them.
    blocks: u64,
    content_size: u64,
    stage: Stage<W>,
}

enum Stage<W: Write + Send + 'static> {
    /// Everything so far fits one block.
    Alone(Sink<W>),
    /// Blocks are on their way.
    Shared(Arc<Stream<W>>),
    /// Something went wrong, and was told.
    Failed,
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// A compressor onto `out` with the threads of `pool`.
    pub fn new(out: W, compression: Compression, pool: &Pool) -> Compressor<W> {
        Compressor {
            pool: pool.clone(),
            compression,
            block: pool.buffer(block_size(compression)),
            filled: 0,
            blocks: 0,
            content_size: 0,
            stage: Stage::Alone(Sink { out, hasher: Hasher::sha256(), size: 0 }),
        }
    }

    /// Where the next bytes of the stream go, to be filled from the front; never empty.
    ///
    /// What is put there belongs to the stream once [`advance`](Compressor::advance) says how much it is.
    pub fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.block.len() {
            self.hand_over()?;
        }
        Ok(&mut self.block[self.filled..])
    }

    /// Adds the first `count` bytes of [`space`](Compressor::space), or as many as it has, to the stream.
    pub fn advance(&mut self, count: usize) {
        self.filled = self.block.len().min(self.filled + count);
    }

    /// Compresses what is left and gives back `W`, not flushed to any disk, with the digests of all it got.
    pub fn finish(mut self) -> io::Result<(Written, W)> {
        let content_size = self.content_size + self.filled as u64;
        let (sink, content) = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Alone(sink) => self.finish_alone(sink)?,
            Stage::Shared(stream) => {
                let rest = std::mem::replace(&mut self.block, self.pool.buffer(0));
                stream.finish(&self.pool, self.blocks, (self.filled > 0).then_some((rest, self.filled)))?
            }
            Stage::Failed => return Err(ended()),
        };
        let digest = sink.hasher.finish();
        let content = content.map_or_else(|| digest.clone(), Hasher::finish);
        Ok((Written { digest, size: sink.size, content, content_size }, sink.out))
    }

    /// The one block, in this thread.
    fn finish_alone(&mut self, mut sink: Sink<W>) -> io::Result<(Sink<W>, Option<Hasher>)> {
        let block = &self.block[..self.filled];
        let mut content = content_hasher(self.compression);
        if let Some(content) = &mut content {
            content.update(block);
        }
        let shared = self.pool.shared();
        let mut encoder = shared.encoder(self.compression)?;
        // Small, so that small streams take little memory.
        let mut out = vec![0; encoder.bound(block.len())];
        let size = encoder.encode(block, &mut out)?;
        shared.give_encoder(encoder);
        sink.put(&out[..size])?;
        Ok((sink, content))
    }

    /// Hands over what the block holds, and takes an empty one.
    fn hand_over(&mut self) -> io::Result<()> {
        let stream = self.share()?;
        // Before another buffer is taken: this is what bounds the memory.
        let permit = self.pool.permit(in_flight(self.compression));
        let bytes = std::mem::replace(&mut self.block, self.pool.buffer(0));
        let len = std::mem::take(&mut self.filled);
        let block = Block { bytes, len, _permit: Arc::new(permit) };
        if let Err(error) = stream.hand_over(&self.pool, self.blocks, block) {
            self.stage = Stage::Failed;
            stream.abandon();
            return Err(error);
        }
        self.blocks += 1;
        self.content_size += len as u64;
        self.block = self.pool.buffer(block_size(self.compression));
        Ok(())
    }

    /// The stream, on which threads work from now on.
    fn share(&mut self) -> io::Result<Arc<Stream<W>>> {
        let stream = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Alone(sink) => Arc::new(Stream::new(sink, self.compression, self.pool.shared())),
            Stage::Shared(stream) => stream,
            Stage::Failed => return Err(ended()),
        };
        self.stage = Stage::Shared(Arc::clone(&stream));
        Ok(stream)
    }
}

impl<W: Write + Send + 'static> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let space = self.space()?;
        let taken = bytes.len().min(space.len());
        space[..taken].copy_from_slice(&bytes[..taken]);
        self.advance(taken);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send + 'static> Drop for Compressor<W> {
    fn drop(&mut self) {
        if let Stage::Shared(stream) = std::mem::replace(&mut self.stage, Stage::Failed) {
            stream.abandon();
        }
    }
}

/// What a block may take while it is on its way.
fn in_flight(compression: Compression) -> usize {
    let block = block_size(compression);
    match compression {
        Compression::None => block,
        // Its compressed form may be a little larger than the block itself.
        Compression::Gzip | Compression::Zstd => 2 * block + block / 128,
    }
}

/// Without compression the digest of the blob is that of its content.
fn content_hasher(compression: Compression) -> Option<Hasher> {
    (compression != Compression::None).then(Hasher::sha256)
}

fn ended() -> io::Error {
    io::Error::other("the compressor has ended early")
}

fn panicked() -> io::Error {
    io::Error::other("a thread of the compressor panicked")
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

/// Bytes on their way, in a buffer that has more.
struct Block {
    bytes: Buffer,
    len: usize,
    /// Held by the block and by what it is compressed to.
    _permit: Arc<Permit>,
}

impl Block {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A stream of several blocks, which the threads of the pool work on.
struct Stream<W> {
    compression: Compression,
    shared: Arc<Shared>,
    progress: Mutex<Progress<W>>,
    /// No job is left.
    idle: Condvar,
}

struct Progress<W> {
    /// Jobs that wait or run.
    jobs: usize,
    /// Nothing more is done: something failed, or nobody wants it any more.
    over: bool,
    error: Option<io::Error>,
    /// Blocks for the digest of the content, in order, and whether a job takes them.
    unhashed: VecDeque<Arc<Block>>,
    hashing: bool,
    /// Away while a job uses it.
    content: Option<Hasher>,
    /// Compressed blocks that wait for the one numbered `next`.
    ready: BTreeMap<u64, Arc<Block>>,
    next: u64,
    /// Away while a job writes.
    sink: Option<Sink<W>>,
}

impl<W: Write + Send + 'static> Stream<W> {
    fn new(sink: Sink<W>, compression: Compression, shared: &Arc<Shared>) -> Stream<W> {
        let progress = Progress {
            jobs: 0,
            over: false,
            error: None,
            unhashed: VecDeque::new(),
            hashing: false,
            content: content_hasher(compression),
            ready: BTreeMap::new(),
            next: 0,
            sink: Some(sink),
        };
        let shared = Arc::clone(shared);
        Stream { compression, shared, progress: Mutex::new(progress), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Progress<W>> {
        // Nothing panics while it holds the lock.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the block to the threads.
    fn hand_over(self: &Arc<Self>, pool: &Pool, number: u64, block: Block) -> io::Result<()> {
        let block = Arc::new(block);
        self.hash(pool, &block)?;
        let stream = Arc::clone(self);
        self.job(pool, false, move || stream.compress(number, block))
    }

    /// Lets the block be hashed once all before it are.
    fn hash(self: &Arc<Self>, pool: &Pool, block: &Arc<Block>) -> io::Result<()> {
        let mut progress = self.lock();
        if progress.over {
            return Err(progress.error.take().unwrap_or_else(ended));
        }
        if self.compression == Compression::None {
            return Ok(());
        }
        progress.unhashed.push_back(Arc::clone(block));
        if std::mem::replace(&mut progress.hashing, true) {
            return Ok(());
        }
        drop(progress);
        let stream = Arc::clone(self);
        // Nothing may wait longer than this: it cannot be shared out.
        self.job(pool, true, move || stream.hash_all())
    }

    fn job(
        self: &Arc<Self>,
        pool: &Pool,
        urgent: bool,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.lock().jobs += 1;
        let done = Done(Arc::clone(self));
        pool.run(
            urgent,
            Box::new(move || {
                let _done = done;
                work();
            }),
        )
    }

    /// Hashes what is there.
    fn hash_all(&self) {
        let mut progress = self.lock();
        let Some(mut content) = progress.content.take() else { return };
        while let Some(block) = progress.unhashed.pop_front() {
            drop(progress);
            content.update(block.bytes());
            drop(block);
            progress = self.lock();
        }
        progress.hashing = false;
        progress.content = Some(content);
    }

    /// Compresses a block, and writes it when it is its turn.
    fn compress(&self, number: u64, block: Arc<Block>) {
        let packed = match self.compression {
            _ if self.lock().over => return,
            Compression::None => Ok(block),
            Compression::Gzip | Compression::Zstd => self.encode(&block).map(Arc::new),
        };
        match packed {
            Ok(packed) => self.write(number, packed),
            Err(error) => self.fail(error),
        }
    }

    fn encode(&self, block: &Block) -> io::Result<Block> {
        let mut encoder = self.shared.encoder(self.compression)?;
        // One size for all, so that buffers can be used again.
        let mut bytes = self.shared.buffer(encoder.bound(block_size(self.compression)));
        let len = encoder.encode(block.bytes(), &mut bytes)?;
        self.shared.give_encoder(encoder);
        Ok(Block { bytes, len, _permit: Arc::clone(&block._permit) })
    }

    /// Writes this block and those that waited for it, unless others must come first: who has these does it then.
    fn write(&self, number: u64, packed: Arc<Block>) {
        let mut progress = self.lock();
        progress.ready.insert(number, packed);
        while let Some(mut sink) = progress.sink.take() {
            let next = progress.next;
            let Some(packed) = progress.ready.remove(&next).filter(|_| !progress.over) else {
                progress.sink = Some(sink);
                return;
            };
            drop(progress);
            if let Err(error) = sink.put(packed.bytes()) {
                return self.fail(error);
            }
            drop(packed);
            progress = self.lock();
            progress.next += 1;
            progress.sink = Some(sink);
        }
    }

    fn fail(&self, error: io::Error) {
        let mut progress = self.lock();
        progress.error.get_or_insert(error);
        progress.end();
    }

    /// Waits for all jobs, and says whether all went well. `last` is done in this thread, which has nothing else to do.
    fn finish(
        self: &Arc<Self>,
        pool: &Pool,
        mut blocks: u64,
        last: Option<(Buffer, usize)>,
    ) -> io::Result<(Sink<W>, Option<Hasher>)> {
        if let Some((bytes, len)) = last {
            let permit = Arc::new(pool.permit(in_flight(self.compression)));
            let block = Arc::new(Block { bytes, len, _permit: permit });
            if let Err(error) = self.hash(pool, &block) {
                self.abandon();
                return Err(error);
            }
            self.compress(blocks, block);
            blocks += 1;
        }
        let mut progress = self.wait();
        if let Some(error) = progress.error.take() {
            return Err(error);
        }
        let complete = progress.ready.is_empty() && progress.unhashed.is_empty() && progress.next == blocks;
        match progress.sink.take() {
            Some(sink) if complete => Ok((sink, progress.content.take())),
            _ => Err(io::Error::other("a block was lost between compressing and writing")),
        }
    }

    /// Lets go of everything, once no thread uses it any more.
    fn abandon(&self) {
        self.lock().end();
        let sink = self.wait().sink.take();
        drop(sink);
    }

    fn wait(&self) -> MutexGuard<'_, Progress<W>> {
        let mut progress = self.lock();
        while progress.jobs > 0 {
            progress = self.idle.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        progress
    }
}

impl<W> Progress<W> {
    /// Nothing more is to be done.
    fn end(&mut self) {
        self.over = true;
        self.unhashed.clear();
        self.ready.clear();
    }
}

/// Counts a job as done, whatever became of it.
struct Done<W: Write + Send + 'static>(Arc<Stream<W>>);

impl<W: Write + Send + 'static> Drop for Done<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(panicked());
        }
        self.0.lock().jobs -= 1;
        self.0.idle.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::num::NonZeroUsize;

    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap())
    }

    fn compress(bytes: &[u8], compression: Compression, threads: usize, chunk: usize) -> (Written, Vec<u8>) {
        let mut compressor = Compressor::new(Vec::new(), compression, &pool(threads));
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
            assert_eq!(expected.0.content, Digest::sha256(&bytes));
            assert_eq!(expected.0.content_size, bytes.len() as u64);
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
            let mut compressor = Compressor::new(Full, Compression::Gzip, &pool(1));
            let result = compressor.write_all(&bytes[..len]).and_then(|()| compressor.finish().map(|_| ()));
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }

    /// Many at the same time, more than there is room for, in one thread and in several.
    #[test]
    fn one_pool_serves_many() {
        let bytes = noise(ZSTD_BLOCK * 2 + 5);
        let kinds = [Compression::Gzip, Compression::Zstd, Compression::None];
        let expected = kinds.map(|compression| compress(&bytes, compression, 1, 1 << 20));
        for threads in [1, 3] {
            let pool = pool(threads);
            let mut writers: Vec<_> =
                (0..18).map(|i| (i % 3, Compressor::new(Vec::new(), kinds[i % 3], &pool))).collect();
            for part in bytes.chunks(300_000) {
                writers.iter_mut().for_each(|(_, writer)| writer.write_all(part).unwrap());
            }
            for (kind, writer) in writers {
                assert_eq!(writer.finish().unwrap(), expected[kind]);
            }
            std::thread::scope(|scope| {
                for i in 0..6 {
                    let (mut writer, bytes, expected) =
                        (Compressor::new(Vec::new(), kinds[i % 3], &pool), &bytes, &expected[i % 3]);
                    scope.spawn(move || {
                        writer.write_all(bytes).unwrap();
                        assert_eq!(writer.finish().unwrap(), *expected);
                    });
                }
            });
        }
    }

    /// An output that counts as long as it lives.
    struct Alive(#[expect(dead_code, reason = "it is counted")] Arc<()>);

    impl Write for Alive {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_thread_holds_the_output_of_one_that_was_dropped() {
        let (bytes, pool, alive) = (noise(GZIP_BLOCK * 5), pool(2), Arc::new(()));
        for len in [10, bytes.len()] {
            let mut writer = Compressor::new(Alive(Arc::clone(&alive)), Compression::Gzip, &pool);
            writer.write_all(&bytes[..len]).unwrap();
            drop(writer);
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    }

    #[test]
    fn a_panic_of_the_output_is_an_error_and_the_pool_goes_on() {
        struct Panics;
        impl Write for Panics {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("as the test wants it")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (bytes, pool) = (noise(GZIP_BLOCK * 20), pool(2));
        let mut writer = Compressor::new(Panics, Compression::Gzip, &pool);
        let result = writer.write_all(&bytes);
        // Afterwards too nothing is written, and nothing waits.
        let again = writer.write_all(&bytes);
        assert_eq!(result.and(again).unwrap_err().to_string(), panicked().to_string());
        assert!(writer.write_all(&bytes).is_err() && writer.finish().is_err());
        let mut writer = Compressor::new(Vec::new(), Compression::Gzip, &pool);
        writer.write_all(&bytes).unwrap();
        assert_eq!(writer.finish().unwrap(), compress(&bytes, Compression::Gzip, 1, bytes.len()));
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
