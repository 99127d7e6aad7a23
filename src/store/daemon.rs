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
        // The digest is looked for by whoever reads it.
        Err(_) if image.contains('@') => Ok(store),
        Err(_) => named(store, image),
    }
}

/// The store when it says itself that this is the name of what it holds. Which image has the name is the daemon's word.
fn named(store: ImageStore, asked: &str) -> Result<ImageStore, StoreError> {
    let what = store.place().display().to_string();
    let images = archive::docker_images(store.docker_manifest().unwrap_or(b"[]"));
    let images = images.map_err(|why| StoreError::Document {
        what: format!("manifest.json in {what}"),
        code: "E-DOCKER-MANIFEST",
        why,
    })?;
    let names: Vec<String> = images.into_iter().flat_map(|image| image.tags).collect();
    let whole = complete(asked);
    // Podman has names without a host below that of this machine.
    let local = format!("localhost/{asked}");
    if names.iter().map(|name| complete(name)).any(|name| name == whole || name == local) {
        return Ok(store);
    }
    let shown = |name: &String| format!("\"{}\"", name.chars().take(NAME).collect::<String>());
    let found = match &names[..] {
        [] => "one without a name".to_owned(),
        [name] => shown(name),
        [name, rest @ ..] => format!("{} and {} more", shown(name), rest.len()),
    };
    let why = format!("the daemon was asked for \"{asked}\", and sent {found}");
    Err(StoreError::Document { what, code: "E-DAEMON-OTHER", why })
}

/// How many characters of another name are shown.
const NAME: usize = 300;

/// A name as docker completes it: `x` is `docker.io/library/x:latest`.
fn complete(name: &str) -> String {
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (name, "latest"),
    };
    let is_host = |host: &str| {
        host == "localhost" || host.contains(['.', ':']) || host.contains(|c: char| c.is_ascii_uppercase())
    };
    let (host, path) = match name.split_once('/') {
        Some(("index.docker.io", path)) => ("docker.io", path),
        Some((host, path)) if is_host(host) => (host, path),
        _ => ("docker.io", name),
    };
    let library = if host == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{host}/{library}{path}:{tag}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_docker_completes_them() {
        for (name, whole) in [
            ("x", "docker.io/library/x:latest"),
            ("x:1", "docker.io/library/x:1"),
            ("docker.io/x:1", "docker.io/library/x:1"),
            ("index.docker.io/library/x:1", "docker.io/library/x:1"),
            ("a/x", "docker.io/a/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("host:5000/x", "host:5000/x:latest"),
            ("host:5000/a/x:1", "host:5000/a/x:1"),
            ("a.b/x:1", "a.b/x:1"),
        ] {
            assert_eq!(complete(name), whole);
            assert_eq!(complete(whole), whole);
        }
    }
}
