//! `dmoci pull`: an image, with all that refers to it, into a layout.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::{Digest, Hasher};
use rustix::fs::{AtFlags, CWD};

use super::content::{Content, Wanted};
use super::join::{Documents, added, chosen};
use super::plan::Watch;
use super::remote::Remote;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::oci::Descriptor;
use crate::oci::platform::Platform;
use crate::store::archive::write::BlobSource;
use crate::store::layout::write::{LayoutWriter, OutputError};
use crate::store::registry::Which;
use crate::store::{ImageStore, StoreError, Subject, Transport};

/// What to pull, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub subject: Subject,
    /// The directory that becomes the layout, or the layout that the image comes to when there is a tag.
    pub output: Subject,
    /// Only this platform.
    pub platform: Option<Platform>,
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What `index.json` names, lists of referrers apart.
    pub images: Vec<Descriptor>,
    /// How many blobs there are.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Pulls. The layout that was there stays until the new one is complete.
pub fn pull(request: &Request, remote: &Remote<'_>) -> Result<Pulled, Failure> {
    crate::sha256::provide();
    let subject = &request.subject;
    let platform = request.platform.as_ref();
    fit(&request.output)?;
    let output = request.output.path();
    let which = Which { platform, layers: true, referrers: true, signatures: true, ..Which::default() };
    let Some(tag) = request.output.tag() else {
        return write_layout(output, remote, || {
            let store = remote.open(subject, which)?.sound()?;
            Ok((store, Wanted { tag: subject.tag(), digest: subject.digest(), platform }))
        });
    };
    add_to_layout(output, tag, remote, || {
        let store = remote.open(subject, which)?.sound()?;
        let image = chosen(&store, subject.tag(), subject.digest(), platform)?;
        Ok((vec![Arc::new(store)], Vec::new(), image))
    })
}

/// Refuses what cannot become a layout, or is not meant to.
pub(super) fn fit(output: &Subject) -> Result<(), PullError> {
    let path = output.path();
    let archive = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
    if output.digest().is_some() {
        return Err(PullError::Digest(output.to_string()));
    }
    match output.transport() == Transport::Bare && archive && !path.is_dir() {
        true => Err(PullError::Archive(path.to_owned())),
        false => Ok(()),
    }
}

/// Why nothing is written there.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// What comes has its own digest.
    #[error("{0} names a digest, and what is written there has its own")]
    Digest(String),
    /// The path is that of an archive, and would become a directory.
    #[error("{} would become a directory, and has the name of an archive", .0.display())]
    Archive(PathBuf),
}

impl Diagnostic for PullError {
    fn code(&self) -> &'static str {
        "E-PULL-TO"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            PullError::Digest(_) => "write DIR, oci:DIR:TAG or oci-archive:FILE".into(),
            PullError::Archive(path) => {
                let path = path.display();
                format!("write oci-archive:{path}, or oci:{path} if it is to be a directory")
            }
        })
    }
}

/// Adds an image to a layout under a tag, or begins the layout with it; what that tag named is no longer named. The lock is held
/// before anything is opened.
pub(super) fn add_to_layout(
    output: &Path,
    tag: &str,
    remote: &Remote<'_>,
    open: impl FnOnce() -> Result<(Vec<Arc<ImageStore>>, Documents, Descriptor), Failure>,
) -> Result<Pulled, Failure> {
    let mut digest = None;
    let mut pulled = write_layout(output, remote, || {
        let (stores, documents, image) = open()?;
        digest = Some(image.digest.clone());
        Ok((added(output, tag, stores, documents, image)?, Wanted::default()))
    })?;
    pulled.images.retain(|one| {
        Some(&one.digest) == digest.as_ref() && one.annotations.get(TAG).is_some_and(|own| own == tag)
    });
    Ok(pulled)
}

const TAG: &str = "org.opencontainers.image.ref.name";

/// Writes what is wanted of a store into a layout, which is locked before the store is opened.
pub(super) fn write_layout<'w>(
    output: &Path,
    remote: &Remote<'_>,
    open: impl FnOnce() -> Result<(ImageStore, Wanted<'w>), Failure>,
) -> Result<Pulled, Failure> {
    let waits = || remote.watch.status("Blocking", "waiting for another run that writes the same directory");
    let writer = LayoutWriter::layout(output, waits)?;
    match open().and_then(|(store, wanted)| fill(&store, wanted, &writer, remote.watch)) {
        Ok((index, pulled)) => {
            writer.finish(&index, &[])?;
            Ok(pulled)
        }
        Err(failure) => {
            writer.abandon();
            Err(failure)
        }
    }
}

fn fill(
    store: &ImageStore,
    wanted: Wanted<'_>,
    writer: &LayoutWriter,
    watch: &dyn Watch,
) -> Result<(Vec<u8>, Pulled), Failure> {
    let content = Content::oci(store, wanted, watch)?;
    let (index, blobs) = content.parts();
    let mut bytes = 0;
    for (digest, source) in blobs {
        match source {
            BlobSource::Store(size) => {
                write(store, digest, *size, writer)?;
                bytes += size;
            }
            BlobSource::Bytes(own) => {
                let failed = |source| OutputError::Io { path: writer.blob(digest), source };
                let mut file = writer.begin().map_err(failed)?;
                file.write_all(own).map_err(failed)?;
                writer.commit(file, digest).map_err(failed)?;
                bytes += own.len() as u64;
            }
            BlobSource::Spool(..) => {}
        }
    }
    let pulled = Pulled { images: content.images.clone(), blobs: blobs.len(), bytes };
    Ok((index.to_vec(), pulled))
}

/// One blob: the very file of the download cache where that can be, else a copy that is hashed on its way.
fn write(store: &ImageStore, digest: &Digest, size: u64, writer: &LayoutWriter) -> Result<(), Failure> {
    let failed = |source| OutputError::Io { path: writer.blob(digest), source };
    if let Some(file) = store.held(digest)
        && writer.adopt(digest, |path| Ok(link(file, path))).map_err(failed)?
    {
        return Ok(());
    }
    let mut blob = store.open_blob(digest)?.take(size.saturating_add(1));
    let mut file = writer.begin().map_err(failed)?;
    let (mut hasher, mut copied, mut buffer) = (Hasher::new(digest.algorithm()), 0, vec![0; 256 << 10]);
    loop {
        let count = match blob.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StoreError::Io { path: store.place().to_owned(), source }.into()),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(failed)?;
        copied += count as u64;
    }
    let found = hasher.finish();
    if found != *digest || copied != size {
        let (place, expected) = (store.place().to_owned(), digest.clone());
        return Err(StoreError::Digest { place, expected, found: Box::new(found) }.into());
    }
    Ok(writer.commit(file, digest).map_err(failed)?)
}

/// Gives an open file another name; false where that cannot be.
pub(super) fn link(file: &std::fs::File, path: &Path) -> bool {
    use std::os::fd::AsRawFd as _;
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW).is_ok()
}
