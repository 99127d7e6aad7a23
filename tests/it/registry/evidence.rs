//! Signatures, attestations and SBOMs under the tags that cosign gave them before it used referrers.

use dmoci_layers::Digest;
use serde_json::{Value, json};

use super::Bench;
use crate::support::registry::Registry;
use crate::verify::Sample;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Puts a manifest with these layers under the tag.
fn put(registry: &Registry, tag: &str, texts: &[&str]) -> Digest {
    let mut content = registry.content.lock().unwrap();
    let mut blob = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = Digest::sha256(bytes).to_string();
        content.blobs.insert(digest.clone(), bytes.to_vec());
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let config = br#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config = blob("application/vnd.oci.image.config.v1+json", config);
    let layer = match tag.rsplit('.').next() {
        Some("att") => "application/vnd.dsse.envelope.v1+json",
        Some("sbom") => "text/spdx+json",
        _ => "application/vnd.dev.cosign.simplesigning.v1+json",
    };
    let layers: Vec<Value> = texts.iter().map(|text| blob(layer, format!("{text:?}").as_bytes())).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let digest = content.put("app", &manifest);
    content.tag("app", tag, &digest.to_string());
    digest
}

fn named(registry: &Registry, tag: &str) -> Option<Digest> {
    let content = registry.content.lock().unwrap();
    content.manifests.get(&("app".to_owned(), tag.to_owned())).map(|(_, bytes)| Digest::sha256(bytes))
}

#[test]
fn it_goes_where_the_image_goes() {
    let (source, target, bench) = (Registry::start(), Registry::start(), Bench::new());
    let digest = source.load(Sample::small().layout().path(), "app", "1.0");
    let tags =
        [".sig", ".att", ".sbom"].map(|ending| format!("{}{ending}", digest.to_string().replace(':', "-")));
    let evidence: Vec<Digest> = tags.iter().map(|tag| put(&source, tag, &[tag])).collect();
    let subject = |registry: &Registry, tag: &str| format!("docker://{}/app:{tag}", registry.host());
    // Straight, and by way of a layout and an archive.
    bench.run(&["copy", &subject(&source, "1.0"), &subject(&target, "1.0")]).ok();
    bench.run(&["pull", &subject(&source, "1.0"), "-o", "got"]).ok();
    bench.run(&["export", "got", "-o", "oci-archive:got.tar"]).ok();
    bench.run(&["copy", "got.tar", "oci:other:x"]).ok();
    bench.run(&["verify", "--integrity-only", "other"]).ok();
    let second = Registry::start();
    bench.run(&["push", "oci:other:x", &subject(&second, "2.0")]).ok();
    for (tag, digest) in tags.iter().zip(&evidence) {
        assert_eq!(named(&target, tag).as_ref(), Some(digest), "{tag}");
        // What no layout may hold goes straight alone.
        let held = !tag.ends_with(".sbom");
        assert_eq!(named(&second, tag).as_ref(), Some(digest).filter(|_| held), "{tag}");
    }
    // One more signature replaces what it has all of; what has others stays, and that is told.
    let more = put(&source, &tags[0], &[&tags[0], "more"]);
    bench.run(&["copy", &subject(&source, "1.0"), &subject(&target, "1.0")]).ok();
    assert_eq!(named(&target, &tags[0]), Some(more.clone()));
    put(&source, &tags[0], &["another"]);
    let told = bench.run(&["copy", &subject(&source, "1.0"), &subject(&target, "1.0")]).ok().stderr;
    assert!(told.contains("Keeping") && named(&target, &tags[0]) == Some(more), "{told}");
}
