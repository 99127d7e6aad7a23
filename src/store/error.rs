//! Why a store cannot be read or written.

use std::io;
use std::path::PathBuf;

use dmoci_layers::Digest;

use crate::daemon::DaemonError;
use crate::diagnostic::{Diagnostic, Exit};

/// Why a store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Input or output failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bare subject names no file.
    #[error("there is no file or directory {}", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// `oci:` names something other than a directory.
    #[error("{} is not a directory, so it is no OCI image layout", path.display())]
    NotALayout {
        /// The path.
        path: PathBuf,
    },
    /// An archive transport names a directory.
    #[error("{} is a directory, not an image archive", path.display())]
    NotAnArchive {
        /// The path.
        path: PathBuf,
    },
    /// The transport is for another kind of archive.
    #[error("the archive {} {found}", path.display())]
    OtherArchive {
        /// The path.
        path: PathBuf,
        /// What it lacks.
        found: &'static str,
        /// The transport to write.
        write: &'static str,
    },
    /// The file is no tar archive, or one that is compressed in a way that is not read.
    #[error("{} is {what}", path.display())]
    UnknownForm {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The directory or archive holds no image.
    #[error("{} holds no image: {why}", path.display())]
    NoImage {
        /// The path.
        path: PathBuf,
        /// What was looked for.
        why: String,
        /// A layout that lies in it.
        inside: Option<PathBuf>,
    },
    /// A file of a layout is a link, a pipe or another thing that is never followed or opened.
    #[error("{} is not a regular file or directory", path.display())]
    Irregular {
        /// The path.
        path: PathBuf,
    },
    /// The archive is damaged or malformed so that no image can be read from it.
    #[error("{} is not a sound archive", path.display())]
    Archive {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: dmoci_layers::untar::TarError,
    },
    /// A blob that a document names is not there.
    #[error("the blob {digest} is missing in {}", place.display())]
    Missing {
        /// The store.
        place: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A blob's bytes do not have the digest that names it.
    #[error("the blob {expected} in {} has other content: its bytes have the digest {found}", place.display())]
    Digest {
        /// The store.
        place: PathBuf,
        /// The digest that names it.
        expected: Digest,
        /// The digest of its bytes.
        found: Box<Digest>,
    },
    /// A JSON document larger than the limit.
    #[error("the document {digest} is larger than {limit} bytes")]
    DocumentSize {
        /// The document.
        digest: Digest,
        /// The limit.
        limit: u64,
    },
    /// A document cannot be used.
    #[error("{what} cannot be used: {why}")]
    Document {
        /// Which, for people.
        what: String,
        /// Stable code of what is wrong.
        code: &'static str,
        /// What is wrong.
        why: String,
    },
    /// An `index.json` with dmoci's mark that is not as dmoci wrote it.
    #[error(
        "index.json in {} is not as dmoci wrote it: the digest that it carries of itself is not that of its bytes",
        place.display()
    )]
    Touched {
        /// The store.
        place: PathBuf,
        /// It is an archive.
        archive: bool,
    },
    /// An index lists a manifest that is not there, and what is written is to be whole.
    #[error("{}: its index lists the manifest {digest}, which is not there", place.display())]
    Sparse {
        /// The store.
        place: PathBuf,
        /// The manifest.
        digest: Digest,
    },
    /// An image of a registry where only files and daemons are looked at.
    #[error("{subject} is in a registry, and this needs an image that is here")]
    Remote {
        /// The subject.
        subject: String,
    },
    /// A daemon did not give its image.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// No image, or more than one, fits what was asked for.
    #[error("{}: {why}", place.display())]
    Selection {
        /// The store.
        place: PathBuf,
        /// What was asked and what is there.
        why: String,
        /// What to do.
        help: String,
    },
}

/// Why a file in which nothing looks like an archive holds no image.
pub(super) const NO_ARCHIVE: &str = "it is no archive";

/// What to do where a layout lacks a blob.
pub const SPARSE: &str = "it is damaged, or a layout of `dmoci build --push`, which lacks what registries have: `dmoci build` \
    without it writes a whole one, and `dmoci pull` fetches the image that was pushed";

impl Diagnostic for StoreError {
    fn code(&self) -> &'static str {
        match self {
            StoreError::Io { .. } => "E-IO",
            StoreError::Write { .. } => "E-WRITE",
            StoreError::NotFound { .. } => "E-SUBJECT-NOT-FOUND",
            StoreError::NotALayout { .. }
            | StoreError::NotAnArchive { .. }
            | StoreError::OtherArchive { .. }
            | StoreError::UnknownForm { .. } => "E-SUBJECT-KIND",
            StoreError::NoImage { .. } => "E-NO-IMAGE",
            StoreError::Irregular { .. } => "E-LAYOUT-IRREGULAR",
            StoreError::Archive { .. } => "E-ARCHIVE",
            StoreError::Missing { .. } => "E-BLOB-MISSING",
            StoreError::Digest { .. } => "E-DIGEST",
            StoreError::DocumentSize { .. } => "E-JSON-SIZE",
            StoreError::Document { code, .. } => code,
            StoreError::Touched { .. } => "E-INDEX-DIGEST",
            StoreError::Sparse { .. } => "E-SPARSE",
            StoreError::Remote { .. } => "E-SUBJECT-UNSUPPORTED",
            StoreError::Daemon(error) => error.code(),
            StoreError::Selection { .. } => "E-SELECT",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            StoreError::Io { .. } | StoreError::Write { .. } | StoreError::NotFound { .. } => Exit::Undecided,
            StoreError::Daemon(error) => error.exit(),
            StoreError::NotALayout { .. }
            | StoreError::NotAnArchive { .. }
            | StoreError::OtherArchive { .. }
            | StoreError::UnknownForm { .. }
            | StoreError::Remote { .. }
            | StoreError::Selection { .. } => Exit::Usage,
            _ => Exit::Mismatch,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            StoreError::NotFound { .. } => Some(
                "name a directory with an OCI image layout, an image archive, docker-daemon:NAME:TAG or, for an image in a \
                 registry, docker://HOST/NAME:TAG"
                    .into(),
            ),
            StoreError::NotALayout { .. } => Some("write oci-archive:FILE or docker-archive:FILE for an archive".into()),
            StoreError::NoImage { why, .. } if why == NO_ARCHIVE => {
                Some("name a directory with an OCI image layout, or an image archive".into())
            }
            StoreError::NoImage { inside: Some(inside), .. } => {
                Some(format!("name the image that lies in it: {}", inside.display()))
            }
            StoreError::Touched { place, archive } => {
                let transport = if *archive { "oci-archive" } else { "oci" };
                let place = place.display();
                Some(format!(
                    "it is damaged, or another tool has changed it since; `dmoci inspect` shows what is there, `skopeo copy \
                     --all {transport}:{place}:TAG oci:NEW:TAG` makes a sound layout of it, and a `base` may name it by \
                     digest, {transport}:{place}@sha256:…"
                ))
            }
            StoreError::Missing { .. } => Some(SPARSE.into()),
            StoreError::UnknownForm { .. } => {
                Some("archives are read as tar, tar.gz and tar.zst; unpack other compressions first".into())
            }
            StoreError::NotAnArchive { .. } => Some("write oci:DIR for a directory".into()),
            StoreError::OtherArchive { write, .. } => Some(format!("write {write}")),
            StoreError::Sparse { .. } => Some(
                "take one platform that is there, with --platform OS/ARCH: `dmoci inspect` lists them; whoever pushed the image \
                 left others out"
                    .into(),
            ),
            StoreError::Remote { .. } => Some("fetch it first: dmoci pull SUBJECT -o DIR".into()),
            StoreError::Daemon(error) => error.help(),
            StoreError::Selection { help, .. } if !help.is_empty() => Some(help.clone()),
            _ => None,
        }
    }
}
