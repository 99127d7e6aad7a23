//! The bounds of every reader of outside bytes, in one place.
//!
//! Sizes are bytes. Each is far above what real images need; reaching one is an error that names it.

/// The largest manifest, index or config that is read: 4 MiB, the least that registries must accept
/// (OCI distribution-spec 1.1, "Pushing Manifests").
pub const JSON_BYTES: u64 = 4 << 20;

/// How deep JSON may be nested.
pub const JSON_DEPTH: usize = 32;

/// How deep an index may hold indexes.
pub const INDEX_DEPTH: usize = 8;

/// How many descriptors one verification follows.
pub const DESCRIPTORS: usize = 100_000;

/// The largest blob, compressed: 64 GiB.
pub const BLOB_BYTES: u64 = 64 << 30;

/// The most that a layer may hold after decompression: 256 GiB.
pub const LAYER_BYTES: u64 = 256 << 30;

/// How many times larger than its compressed form a layer may be, once past [`RATIO_FREE_BYTES`].
pub const COMPRESSION_RATIO: u64 = 1100;

/// Decompressed bytes before [`COMPRESSION_RATIO`] is applied: 64 MiB.
pub const RATIO_FREE_BYTES: u64 = 64 << 20;

/// The most entries that one layer or archive may hold.
pub const TAR_ENTRIES: u64 = 10_000_000;

/// The largest `dmoci.toml`.
pub const SPEC_BYTES: u64 = 1 << 20;
