//! The documents of the OCI image specification 1.1: read strictly, checked clause by clause, written canonically.
//!
//! Bytes that came from elsewhere stay as they came ([`Raw`]); what dmoci authors is written by [`json::canonical`].

pub mod config;
pub mod descriptor;
pub mod index;
pub mod json;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod problem;
mod read;
pub mod reference;
pub mod timestamp;

pub use descriptor::{Descriptor, PlatformFields};
pub use problem::{Problem, Severity};

use dmoci_layers::Digest;

/// A document together with the bytes it was read from and their digest.
///
/// The bytes are never serialised again: what is written elsewhere is `bytes`.
#[derive(Clone, Debug)]
pub struct Raw<T> {
    bytes: Vec<u8>,
    digest: Digest,
    value: T,
}

impl<T> Raw<T> {
    /// Keeps `bytes` with what was read from them; the digest is computed here.
    pub fn new(bytes: Vec<u8>, value: T) -> Raw<T> {
        let digest = Digest::sha256(&bytes);
        Raw { bytes, digest, value }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The SHA-256 of exactly these bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What the bytes say.
    pub fn value(&self) -> &T {
        &self.value
    }
}
