//! What engines put around a blob to read it: bounds, digests on the way, and who is told how far it is.

use std::io::{self, Read};

use dmoci_layers::decompress::DecodeLimits;
use dmoci_layers::untar::TarLimits;
use dmoci_layers::{Algorithm, Digest, Hasher};

use crate::limits;

/// Who is told how far the reading of blobs is. Called from several threads.
pub trait Watch: Sync {
    /// So many bytes are to be read.
    fn total(&self, bytes: u64);
    /// So many bytes more were read.
    fn read(&self, bytes: u64);
}

/// Tells nobody.
impl Watch for () {
    fn total(&self, _: u64) {}
    fn read(&self, _: u64) {}
}

/// The bounds of decompressing a layer.
pub(super) fn decode_limits() -> DecodeLimits {
    DecodeLimits {
        max_output: limits::LAYER_BYTES,
        max_ratio: limits::COMPRESSION_RATIO,
        ratio_free: limits::RATIO_FREE_BYTES,
    }
}

/// The bounds of reading the tar of a layer.
pub(super) fn tar_limits() -> TarLimits {
    TarLimits { max_entries: limits::TAR_ENTRIES, max_extension_bytes: limits::LAYER_EXTENSION_BYTES }
}

/// A reader that tells how far it is.
pub(super) struct Watched<'a, R>(pub(super) R, pub(super) &'a dyn Watch);

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(out)?;
        self.1.read(n as u64);
        Ok(n)
    }
}

/// A reader that counts, and hashes when asked to.
pub(super) struct Hashing<R> {
    pub(super) inner: R,
    pub(super) count: u64,
    hasher: Option<Hasher>,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R, algorithm: Option<Algorithm>) -> Hashing<R> {
        Hashing { inner, hasher: algorithm.map(Hasher::new), count: 0 }
    }

    /// The digest of what was read, when one was asked for.
    pub(super) fn finish(self) -> Option<Digest> {
        self.hasher.map(Hasher::finish)
    }

    /// The reader below, and the digest.
    pub(super) fn into_parts(self) -> (R, Option<Digest>) {
        (self.inner, self.hasher.map(Hasher::finish))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&out[..n]);
        }
        self.count += n as u64;
        Ok(n)
    }
}
