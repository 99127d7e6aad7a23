//! Images of a Docker daemon: the archive that it makes, in a temporary file without a name.

use std::path::Path;

use dmoci_layers::Digest;

use super::{ImageStore, StoreError, archive};
use crate::daemon::{Daemon, DaemonError};

/// Opens what the daemon at this socket has under a name or ID.
pub(super) fn open(socket: &Path, image: &str) -> Result<ImageStore, StoreError> {
    let keep = |source| DaemonError::Keep { source };
    let mut file = tempfile::tempfile().map_err(keep)?;
    Daemon::at(socket).save(image, &mut file)?;
    let mut store = archive::read(file, Path::new(&format!("docker-daemon:{image}")))?;
    store.streamed = true;
    match image.parse() {
        Ok(id) => only(store, &id),
        // A name, for which the daemon's word is all there is.
        Err(_) => Ok(store),
    }
}

/// The store when what it holds has this ID: the digest of the configuration, or of what `index.json` names.
///
/// What cannot be read is left to whoever reads it.
fn only(store: ImageStore, id: &Digest) -> Result<ImageStore, StoreError> {
    let Ok(roots) = store.roots() else { return Ok(store) };
    for root in &roots {
        let Ok(images) = store.images(&root.descriptor) else { return Ok(store) };
        let config = |image: &super::image::Image| image.manifest.value().config.digest == *id;
        if root.descriptor.digest == *id || images.iter().any(config) {
            return Ok(store);
        }
    }
    let why = format!("the daemon sent another image than {id}");
    Err(StoreError::Document { what: store.place().display().to_string(), code: "E-DIGEST", why })
}
