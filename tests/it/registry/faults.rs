//! What registries may say that is wrong: an error, and never another image. [`super::table`] has the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dmoci::cache::Downloads;
use dmoci::diagnostic::{Diagnostic as _, Exit};
use dmoci::fetch::{Cause, Fetcher, Listener, Patience, Settings, Surroundings};
use dmoci::store::ImageStore;
use dmoci::store::registry::{RegistryError, Repository, Which, open};
use dmoci::url::Url;
use dmoci_layers::Digest;

use crate::support::registry::Registry;
use crate::support::server::{Asked, End, Reply};
use crate::verify::Sample;

/// A machine that never waits.
struct Machine;

impl Surroundings for Machine {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wait(&self, _: Duration) {}

    fn chance(&self) -> f64 {
        1.0
    }

    fn roots(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

impl Listener for Machine {
    fn begin(&self, _: &Url) {}
    fn expect(&self, _: u64) {}
    fn receive(&self, _: u64) {}
    fn retry(&self, _: &Url, _: &Cause, _: Duration) {}
    fn blocked(&self, _: &Url) {}
}

/// Fetches all of `app:1.0`.
fn fetch(registry: &Registry) -> Result<ImageStore, RegistryError> {
    let home = tempfile::tempdir().unwrap();
    let patience = Patience { silence: Duration::from_millis(300), ..Patience::default() };
    let settings = Settings { patience, ..Settings::default() };
    let fetcher = Fetcher::new(settings, Downloads::open(home.path()).unwrap(), &Machine, &Machine);
    let name = format!("{}/app", registry.host()).parse().unwrap();
    let repository = Repository::connect(&fetcher, &name, false)?;
    open(&repository, Some("1.0"), None, Which { layers: true, referrers: true, ..Which::default() })
}

/// A registry with an image, whose answers of one kind are changed `times` times.
fn faulty(
    kind: &'static str,
    times: usize,
    fault: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static,
) -> (Registry, Digest) {
    let layout = Sample::two_platforms().layout();
    let left = Arc::new(AtomicUsize::new(times));
    let registry = Registry::with(move |asked, reply| {
        let take = |left: usize| left.checked_sub(1);
        let hit = asked.target.contains(kind)
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        if hit { fault(asked, reply) } else { reply }
    });
    let digest = registry.load(layout.path(), "app", "1.0");
    (registry, digest)
}

type Fault = fn(&Asked, Reply) -> Reply;

#[test]
fn other_content_is_an_error() {
    let other: Fault = |_, reply| {
        let mut bytes = reply.body().to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        Reply::ok(&bytes)
    };
    for (kind, code) in [("/manifests/sha256:", "E-DIGEST"), ("/blobs/", "E-FETCH-DIGEST")] {
        let (registry, _) = faulty(kind, usize::MAX, other);
        let error = fetch(&registry).map(|_| ()).unwrap_err();
        assert_eq!((error.code(), error.exit()), (code, Exit::Mismatch), "{kind}: {error}");
    }
}

/// A tag that is moved while the image is read, and what the registry says the digest is.
#[test]
fn a_tag_is_resolved_once() {
    let (registry, digest) = faulty("/manifests/1.0", usize::MAX, |_, reply| {
        reply.also(&format!("Docker-Content-Digest: {}", Digest::sha256(b"other")))
    });
    let small = Sample::small().layout();
    registry.load(small.path(), "app", "2.0");
    let store = fetch(&registry).unwrap();
    assert_eq!(store.roots().unwrap()[0].descriptor.digest, digest);
    assert_eq!(registry.asked("/manifests/1.0"), 1);
}

/// A tag that another image has from the second question on.
#[test]
fn a_tag_that_moves_meanwhile_is_one_image() {
    let layout = Sample::two_platforms().layout();
    let small = Sample::small();
    let root: Digest = small.root()["digest"].as_str().unwrap().parse().unwrap();
    let other = small.blobs[&root].clone();
    let registry = Registry::with(move |asked, reply| {
        match asked.target.contains("/manifests/1.0") && asked.before > 0 {
            true => {
                Reply::new("200 OK", &["Content-Type: application/vnd.oci.image.manifest.v1+json"], &other)
            }
            false => reply,
        }
    });
    registry.load(small.layout().path(), "app", "2.0");
    let digest = registry.load(layout.path(), "app", "1.0");
    let first = fetch(&registry).unwrap();
    assert_eq!(first.roots().unwrap()[0].descriptor.digest, digest);
    assert_eq!(first.images(&first.roots().unwrap()[0].descriptor).unwrap().len(), 2);
    let second = fetch(&registry).unwrap();
    assert_eq!(second.roots().unwrap()[0].descriptor.digest, root);
    assert_eq!(second.images(&second.roots().unwrap()[0].descriptor).unwrap().len(), 1);
}

#[test]
fn documents_that_are_refused() {
    let large: Fault = |_, _| Reply::ok(&vec![b' '; (4 << 20) + 1]);
    let deep: Fault = |_, _| Reply::ok("[".repeat(10_000).as_bytes());
    let twice: Fault = |_, _| Reply::ok(br#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#);
    let typed: Fault = |_, reply| {
        Reply::new("200 OK", &["Content-Type: application/vnd.oci.image.manifest.v1+json"], reply.body())
    };
    let old: Fault = |_, _| Reply::ok(br#"{"schemaVersion":1,"name":"app","fsLayers":[]}"#);
    for (what, fault, code) in [
        ("large", large, "E-FETCH-LARGE"),
        ("deep", deep, "E-JSON-DEPTH"),
        ("a name twice", twice, "E-JSON-DUPLICATE"),
        ("two types", typed, "E-OCI-MEDIATYPE"),
        ("schema 1", old, "E-OCI-MEDIATYPE"),
    ] {
        let (registry, _) = faulty("/manifests/1.0", usize::MAX, fault);
        let error = fetch(&registry).map(|_| ()).unwrap_err();
        assert_eq!((error.code(), error.exit()), (code, Exit::Mismatch), "{what}: {error}");
    }
    // A blob that does not end.
    let (registry, _) = faulty("/blobs/", usize::MAX, |_, _| {
        Reply::new("200 OK", &["unframed"], b"endless").ends(End::Endless)
    });
    assert_eq!(fetch(&registry).map(|_| ()).unwrap_err().code(), "E-FETCH-DIGEST");
}
