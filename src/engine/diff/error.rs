//! Why two images cannot be compared.

use std::io;
use std::path::PathBuf;

use dmoci_layers::untar::TarError;
use dmoci_layers::{Digest, PathError};

use crate::diagnostic::{Diagnostic, Exit};
use crate::store::StoreError;

/// Why two images cannot be compared. `layer` says which layer of which image, for people.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A document or blob cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Indexes nest too deep or list too much.
    #[error("the indexes in {} and {} {what}", left.display(), right.display())]
    Graph {
        /// The left image.
        left: PathBuf,
        /// The right image.
        right: PathBuf,
        /// What is too much.
        what: &'static str,
    },
    /// A layer cannot be read.
    #[error("{layer} cannot be read")]
    Layer {
        /// Which.
        layer: String,
        /// Why.
        #[source]
        source: TarError,
    },
    /// A name in a layer is no path.
    #[error("{layer} holds a dangerous name")]
    Path {
        /// Which.
        layer: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The bytes of a layer are not those that its digest names.
    #[error("{layer} has other content than its digest says: expected {expected}, found {found}")]
    Digest {
        /// Which.
        layer: String,
        /// The digest that names it.
        expected: Digest,
        /// The digest of its bytes.
        found: Box<Digest>,
    },
    /// The content of a layer is not what the configuration says.
    #[error("{layer} has other content than its diff_id says: expected {expected}, found {found}")]
    DiffId {
        /// Which.
        layer: String,
        /// The diff_id.
        expected: Digest,
        /// The digest of its content.
        found: Box<Digest>,
    },
    /// A layer that is not in byte order has more names than can be held.
    #[error("{layer} is not in byte order and its names take more than {limit} bytes")]
    Names {
        /// Which.
        layer: String,
        /// The limit.
        limit: u64,
    },
    /// The content of a layer that is not in byte order cannot be kept.
    #[error("cannot keep the content of {layer} while it is compared")]
    Scratch {
        /// Which.
        layer: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Diagnostic for DiffError {
    fn code(&self) -> &'static str {
        match self {
            DiffError::Store(error) => error.code(),
            DiffError::Graph { .. } => "E-GRAPH",
            DiffError::Layer { .. } => "E-LAYER",
            DiffError::Path { .. } => "E-TAR-PATH",
            DiffError::Digest { .. } => "E-DIGEST",
            DiffError::DiffId { .. } => "E-DIFFID",
            DiffError::Names { .. } => "E-TAR-LIMIT",
            DiffError::Scratch { .. } => "E-WRITE",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            DiffError::Store(error) => error.exit(),
            DiffError::Scratch { .. } => Exit::Undecided,
            _ => Exit::Mismatch,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            DiffError::Store(error) => error.help(),
            DiffError::Scratch { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space where temporary files lie, or name another place with TMPDIR".into())
            }
            DiffError::Layer { .. } | DiffError::Digest { .. } | DiffError::DiffId { .. } => {
                Some("`dmoci verify` says everything that is wrong with an image".into())
            }
            _ => None,
        }
    }
}
