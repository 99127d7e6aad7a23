//! A layer that was made, as records of caches hold it.

use dmoci_layers::{Compression, Layer};
use serde::{Deserialize, Serialize};

use crate::engine::assemble::Made;

/// The record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StoredLayer {
    digest: String,
    size: u64,
    diff_id: String,
    tar_size: u64,
    entries: u64,
    compression: u8,
    unused: Vec<(usize, usize)>,
}

impl StoredLayer {
    /// The record of a layer.
    pub(super) fn of(made: &Made) -> StoredLayer {
        let Made { layer, unused } = made;
        StoredLayer {
            unused: unused.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.to_string(),
            tar_size: layer.tar_size,
            entries: layer.entries,
            compression: match layer.compression {
                Compression::None => 0,
                Compression::Gzip => 1,
                Compression::Zstd => 2,
            },
        }
    }

    /// The layer, when the record is sound.
    pub(super) fn made(self) -> Option<Made> {
        let layer = Layer {
            digest: self.digest.parse().ok()?,
            size: self.size,
            diff_id: self.diff_id.parse().ok()?,
            tar_size: self.tar_size,
            entries: self.entries,
            compression: match self.compression {
                0 => Compression::None,
                1 => Compression::Gzip,
                2 => Compression::Zstd,
                _ => return None,
            },
        };
        Some(Made { layer, unused: self.unused })
    }
}
