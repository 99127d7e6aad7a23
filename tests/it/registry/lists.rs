//! Tags and referrers: pages, the tag that stands in for the interface, and who denies them.

use serde_json::{Value, json};

use super::{Bench, tree};
use crate::support::registry::{Registry, error};
use crate::verify::Sample;

const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An artifact about something, with content of its own.
pub(super) fn about(subject: &Value, text: &str) -> Value {
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": dmoci_layers::Digest::sha256(bytes).to_string(), "size": bytes.len()});
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/test", "subject": subject,
           "config": descriptor(EMPTY, b"{}"), "layers": [descriptor("text/plain", text.as_bytes())]})
}

/// A registry with an image, three artifacts about it, and one about the first of these.
pub(super) fn registry(old: bool) -> Registry {
    let layout = Sample::small().layout();
    let registry = Registry::start();
    let digest = registry.load(layout.path(), "app", "1.0");
    let mut content = registry.content.lock().unwrap();
    (content.old, content.page) = (old, 2);
    content.blobs.insert(dmoci_layers::Digest::sha256(b"{}").to_string(), b"{}".to_vec());
    let subject = |digest: &str, size: usize| json!({"mediaType": MANIFEST, "digest": digest, "size": size});
    let size = content.manifests[&("app".into(), digest.to_string())].1.len();
    let mut lists = vec![(digest.to_string(), Vec::new())];
    for text in ["one", "two", "three"] {
        let artifact = about(&subject(&digest.to_string(), size), text);
        content.blobs.insert(dmoci_layers::Digest::sha256(text.as_bytes()).to_string(), text.into());
        lists[0].1.push(content.put("app", &artifact));
    }
    let first = lists[0].1[0].clone();
    let size = content.manifests[&("app".into(), first.to_string())].1.len();
    let artifact = about(&subject(&first.to_string(), size), "deep");
    content.blobs.insert(dmoci_layers::Digest::sha256(b"deep").to_string(), b"deep".to_vec());
    let deep = content.put("app", &artifact);
    lists.push((first.to_string(), vec![deep]));
    if old {
        for (subject, found) in lists {
            let entry = |digest: &dmoci_layers::Digest| {
                let size = content.manifests[&("app".into(), digest.to_string())].1.len();
                json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size})
            };
            let found: Vec<Value> = found.iter().map(entry).collect();
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found});
            let index = content.put("app", &index).to_string();
            content.tag("app", &subject.replace(':', "-"), &index);
        }
    }
    drop(content);
    registry
}

#[test]
fn everything_that_refers_to_an_image_comes_with_it() {
    for old in [false, true] {
        let (registry, bench) = (registry(old), Bench::new());
        let subject = format!("docker://{}/app:1.0", registry.host());
        bench.run(&["pull", &subject, "-o", "got"]).ok();
        let texts: Vec<Vec<u8>> =
            tree(&bench.path("got/blobs")).into_iter().map(|(_, bytes)| bytes).collect();
        for text in ["one", "two", "three", "deep"] {
            assert!(texts.iter().any(|bytes| bytes == text.as_bytes()), "old {old}: {text}");
        }
        bench.run(&["verify", "--integrity-only", "got"]).ok();
        // The lists are no images.
        let shown = bench.run(&["inspect", "got"]).ok().stdout;
        assert_eq!(shown.matches("linux/amd64").count(), 1, "{shown}");
        assert!(!shown.contains("sha256-"), "{shown}");
        bench.run(&["diff", "got", &subject]).ok();
        // They go on with it.
        bench.run(&["export", "got", "-o", "oci-archive:got.tar"]).ok();
        bench.run(&["pull", "got.tar", "-o", "again"]).ok();
        let blobs = |name: &str| {
            tree(&bench.path(name).join("blobs")).into_iter().map(|(_, b)| b).collect::<Vec<_>>()
        };
        assert_eq!(blobs("again"), blobs("got"), "old {old}");
    }
}

#[test]
fn whoever_denies_referrers_is_an_error() {
    for (path, status) in [
        ("/referrers/", "403 Forbidden"),
        ("/referrers/", "401 Unauthorized"),
        ("/manifests/sha256-", "403 Forbidden"),
    ] {
        let layout = Sample::small().layout();
        let registry = Registry::with(move |asked, reply| match asked.target.contains(path) {
            true => error(status, "DENIED"),
            false => reply,
        });
        registry.load(layout.path(), "app", "1.0");
        registry.content.lock().unwrap().old = true;
        let bench = Bench::new();
        let run =
            bench.run(&["pull", &format!("docker://{}/app:1.0", registry.host()), "-o", "got"]).exits(6);
        assert!(run.stderr.contains("error[E-REGISTRY-DENIED]"), "{}", run.stderr);
        assert!(run.stderr.contains("list what refers to sha256:"), "{}", run.stderr);
        assert!(!bench.path("got").exists());
    }
}

#[test]
fn pages_are_on_one_server() {
    let layout = Sample::small().layout();
    let registry = Registry::with(|asked, reply| match asked.target.contains("/referrers/") {
        true => reply.also("Link: <https://127.0.0.2:9/v2/app/referrers/x>; rel=\"next\""),
        false => reply,
    });
    registry.load(layout.path(), "app", "1.0");
    let bench = Bench::new();
    let run = bench.run(&["pull", &format!("docker://{}/app:1.0", registry.host()), "-o", "got"]).exits(1);
    assert!(
        run.stderr.contains("E-REGISTRY-LIST") && run.stderr.contains("another server"),
        "{}",
        run.stderr
    );
}

#[test]
fn tags_are_told_from_all_pages() {
    let registry = registry(false);
    let mut content = registry.content.lock().unwrap();
    let digest = content.manifests.keys().find(|(_, tag)| tag.contains(':')).unwrap().1.clone();
    for tag in ["a", "b", "c", "d", "e"] {
        content.tag("app", tag, &digest);
    }
    drop(content);
    let run = Bench::new().run(&["inspect", &format!("{}/app:none", registry.host())]).exits(6);
    assert!(run.stderr.contains("1.0, a, b, c, d, e"), "{}", run.stderr);
    assert_eq!(registry.asked("/tags/list"), 3);
}
