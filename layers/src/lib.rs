//! Exact, reproducible OCI layers.
//!
//! This crate turns file system entries into bytes, and the same entries into the same bytes on every
//! machine: tar, gzip, zstd and the digests of all of them. It reads no clock, no environment, no user
//! database and no network; the number of threads never shows in its output.
//!
//! ```text
//! layer > tar, compress > pool > encode, inflate > entry, digest  (writing)
//! zip, tgz > tar, encode, calendar               > entry          (writing, for wheels and source distributions)
//! untar > decompress                             > entry, digest  (reading, bounded, for outside bytes)
//! ```
//!
//! Everything that decides bytes is one numbered set of rules, [`RULES`].

pub mod calendar;
pub mod compress;
pub mod decompress;
pub mod digest;
mod encode;
pub mod entry;
pub mod inflate;
pub mod layer;
pub mod pool;
pub mod tar;
pub mod tgz;
pub mod untar;
pub mod zip;

pub use decompress::Compression;
pub use digest::{Algorithm, Digest, DigestError, Hasher, ProviderError, Sha256, provide_sha256};
pub use entry::{Entry, EntryKind, PathError, SafePath};
pub use layer::{Layer, LayerError, LayerWriter};
pub use pool::Pool;

/// The number of the rules that decide bytes. A change of any output byte is a new number.
pub const RULES: u32 = 1;

/// The modification time of every layer entry, in seconds since 1970-01-01T00:00:00Z: 1980-01-02T00:00:00Z.
///
/// ZIP cannot hold times before 1980, and holds local time: one day later is safe west of UTC too.
pub const MTIME: u64 = 315_619_200;
