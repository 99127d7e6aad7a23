//! Signatures of images: in layouts, archives and registries, as dmoci and as cosign put them there.

use std::fs;
use std::path::Path;

use dmoci::oci::{Descriptor, json, media_type};
use dmoci_layers::Digest;
use serde_json::{Value, json};

use super::{Desk, fixture, verdict};
use crate::registry::tree;
use crate::support::registry::Registry;
use crate::verify::Sample;

/// The layout of a sample, and its path for arguments.
fn copied(desk: &Desk, sample: &Sample, name: &str) -> String {
    let layout = sample.layout();
    copy(layout.path(), &desk.path(name));
    name.to_owned()
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in tree(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn an_image_in_a_layout_is_signed_once() {
    let desk = Desk::new();
    let layout = copied(&desk, &Sample::two_platforms(), "image");
    let none = desk.verify(&layout).exits(3);
    assert!(none.stdout.contains("warning[E-UNSIGNED]"), "{}", none.stdout);

    desk.run(&["sign", &layout, "--key", "key.key"]).ok();
    let signed = tree(&desk.path("image"));
    assert_eq!(verdict(&desk.verify(&layout).exits(0)), "VERIFIED");
    let again = desk.run(&["sign", &layout, "--key", "key.key"]).ok();
    assert!(again.stderr.contains("Unchanged"), "{}", again.stderr);
    assert_eq!(tree(&desk.path("image")), signed, "nothing is written twice");

    // One of its platforms is covered, and the image is as canonical as it was.
    let report = desk.verify(&layout).stdout;
    assert!(report.contains("canonical: yes") && !report.contains("E-NOT-SELECTED"), "{report}");
    let manifest = report.lines().find_map(|line| line.trim().strip_prefix("manifest sha256:")).unwrap();
    assert_eq!(verdict(&desk.verify(&format!("{layout}@sha256:{manifest}")).exits(0)), "VERIFIED");

    // A second key adds its own; either is enough, and a third is refused.
    desk.run(&["sign", &layout, "--key", "other.key"]).ok();
    desk.verify(&layout).exits(0);
    desk.run(&["verify", &layout, "--key", "other.pub"]).exits(0);
    desk.run(&["key", "generate", "--output-prefix", "third"]).ok();
    let third = desk.run(&["verify", &layout, "--key", "third.pub"]).exits(4);
    assert_eq!(verdict(&third), "REFUSED");

    // Without a signer signatures are claims.
    let claims = desk.run(&["verify", &layout]).exits(3).stdout;
    assert!(claims.contains("2 signatures were found and not checked"), "{claims}");
    desk.run(&["verify", &layout, "--integrity-only"]).exits(0);

    // Of an image that is damaged nobody is told that a signature authenticates it.
    let blobs = tree(&desk.path("image/blobs"));
    let layer = blobs.iter().max_by_key(|(_, bytes)| bytes.len()).map(|(path, _)| path).unwrap();
    fs::write(layer, b"other").unwrap();
    let damaged = desk.verify(&layout).exits(1);
    assert_eq!(verdict(&damaged), "NOT SOUND");
    let said = &damaged.stdout;
    assert!(!said.contains("authenticated by") && said.contains("but not all that this names"), "{said}");
}

#[test]
fn signatures_go_where_the_image_goes() {
    let desk = Desk::new();
    let layout = copied(&desk, &Sample::two_platforms(), "image");
    desk.run(&["sign", &layout, "--key", "key.key"]).ok();
    desk.run(&["export", &layout, "-o", "oci-archive:image.tar"]).ok();
    assert_eq!(verdict(&desk.verify("image.tar").exits(0)), "VERIFIED");
    // An archive by dmoci is written anew: the same as if the layout had been signed before.
    copied(&desk, &Sample::two_platforms(), "bare");
    desk.run(&["export", "bare", "-o", "oci-archive:bare.tar"]).ok();
    desk.run(&["sign", "oci-archive:bare.tar", "--key", "key.key"]).ok();
    let archive = |name: &str| fs::read(desk.path(name)).unwrap();
    assert!(archive("bare.tar") == archive("image.tar"));
    let again = desk.run(&["sign", "oci-archive:bare.tar", "--key", "key.key"]).ok();
    assert!(again.stderr.contains("Unchanged"), "{}", again.stderr);
    desk.run(&["sign", "oci-archive:bare.tar", "--key", "other.key"]).ok();
    for key in ["key.pub", "other.pub"] {
        let run = desk.run(&["verify", "oci-archive:bare.tar", "--key", key]).exits(0);
        assert!(run.stdout.contains("archive-bytes pass"), "{}", run.stdout);
    }
    // One of another tool is not, nor are Docker's.
    let mut foreign = Sample::small();
    let root = foreign.root();
    foreign.foreign_index(&[root]);
    desk.write("foreign.tar", crate::verify::tar(&foreign.members()));
    for place in ["oci-archive:foreign.tar", "docker-archive:bare.tar"] {
        let place = desk.run(&["sign", place, "--key", "key.key"]).exits(2).stderr;
        assert!(place.contains("error[E-SIGN-PLACE]"), "{place}");
    }
    // As a whole, every file can.
    desk.run(&["sign", "image.tar", "--key", "other.key"]).ok();
    let whole = desk.run(&["verify", "image.tar", "--key", "other.pub"]).exits(0).stdout;
    assert!(whole.contains("covers the whole archive file"), "{whole}");
    for old in [false, true] {
        let registry = Registry::start();
        registry.content.lock().unwrap().old = old;
        let name = format!("docker://{}/app:1", registry.host());
        desk.run(&["push", &layout, &name]).ok();
        assert_eq!(verdict(&desk.verify(&name).exits(0)), "VERIFIED", "{old}");
        let pulled = format!("pulled-{old}");
        desk.run(&["pull", &name, "-o", &pulled]).ok();
        assert_eq!(verdict(&desk.verify(&pulled).exits(0)), "VERIFIED", "{old}");
    }
}

#[test]
fn an_image_in_a_registry_is_signed_once() {
    for old in [false, true] {
        let desk = Desk::new();
        let layout = copied(&desk, &Sample::two_platforms(), "image");
        let registry = Registry::start();
        registry.content.lock().unwrap().old = old;
        let name = format!("docker://{}/app:1", registry.host());
        desk.run(&["push", &layout, &name]).ok();
        assert_eq!(verdict(&desk.verify(&name).exits(3)), "SOUND, NOT AUTHENTICATED");
        let said = desk.run(&["sign", &name, "--key", "key.key"]).ok();
        let writes = |registry: &Registry| registry.asked("PUT ") + registry.asked("POST ");
        let before = writes(&registry);
        let again = desk.run(&["sign", &name, "--key", "key.key"]).ok();
        assert!(again.stderr.contains("Unchanged"), "{}", again.stderr);
        assert_eq!((writes(&registry), &again.stdout), (before, &said.stdout));
        assert_eq!(verdict(&desk.verify(&name).exits(0)), "VERIFIED");
        assert_eq!(verdict(&desk.run(&["verify", &name, "--key", "other.pub"]).exits(4)), "REFUSED");
        // The same bytes as in a layout.
        desk.run(&["sign", &layout, "--key", "key.key"]).ok();
        desk.run(&["pull", &name, "-o", "pulled"]).ok();
        assert_eq!(tree(&desk.path("pulled/blobs")).len(), tree(&desk.path("image/blobs")).len());
        let mut other: Vec<_> = tree(&desk.path("image/blobs"));
        other.retain(|(path, _)| {
            !desk.path("pulled").join(path.strip_prefix(desk.path("image")).unwrap()).exists()
        });
        // The list may say less: a registry's interface need not tell annotations.
        assert!(other.len() <= 1 && other.iter().all(|(_, bytes)| bytes.starts_with(b"{\"manifests\"")));
    }
}

#[test]
fn what_others_wrote_into_a_layout_stays() {
    let desk = Desk::new();
    let mut sample = Sample::small();
    let root = sample.root();
    sample.foreign_index(&[root]);
    let layout = copied(&desk, &sample, "image");
    desk.write("image/oci-layout", "{ \"imageLayoutVersion\": \"1.0.0\" }");
    desk.write("image/README", "ours");
    let lost = Digest::sha256(b"lost");
    desk.write(&format!("image/blobs/sha256/{}", lost.hex()), "lost");
    desk.run(&["sign", &format!("oci:{layout}:1.0"), "--key", "key.key"]).ok();
    assert_eq!(fs::read_to_string(desk.path("image/README")).unwrap(), "ours");
    assert_eq!(
        fs::read_to_string(desk.path("image/oci-layout")).unwrap(),
        "{ \"imageLayoutVersion\": \"1.0.0\" }"
    );
    assert!(desk.path("image/blobs/sha256").join(lost.hex()).exists());
    assert_eq!(verdict(&desk.verify(&layout).exits(0)), "VERIFIED");
    assert!(!desk.path("image/.dmoci-tmp").exists());
}

/// The index of a layout, changed.
fn reindex(desk: &Desk, layout: &str, change: impl Fn(&mut Vec<Descriptor>)) {
    let path = desk.path(layout).join("index.json");
    let value = json::parse(&fs::read(&path).unwrap()).unwrap();
    let index = dmoci::oci::index::Index::read(&value, &mut Vec::new()).unwrap();
    let mut manifests = index.manifests;
    change(&mut manifests);
    fs::write(path, dmoci::oci::index::author(&manifests)).unwrap();
}

#[test]
fn stripped_moved_and_forged() {
    let desk = Desk::new();
    let layout = copied(&desk, &Sample::small(), "image");
    desk.run(&["sign", &layout, "--key", "key.key"]).ok();
    // Stripped: nothing says that it was there.
    copy(&desk.path("image"), &desk.path("stripped"));
    reindex(&desk, "stripped", |manifests| manifests.truncate(1));
    for (path, bytes) in tree(&desk.path("stripped/blobs")) {
        if bytes.windows(9).any(|part| part == b"\"subject\"") {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(verdict(&desk.verify("stripped").exits(3)), "SOUND, NOT AUTHENTICATED");
    // A key's signature of another image, put beside this one by its list alone, and by a manifest that says so.
    let other = copied(&desk, &Sample::two_platforms(), "other");
    desk.run(&["sign", &other, "--key", "key.key"]).ok();
    let list = |name: &str| {
        let value = json::parse(&fs::read(desk.path(name).join("index.json")).unwrap()).unwrap();
        dmoci::oci::index::Index::read(&value, &mut Vec::new()).unwrap().manifests.pop().unwrap()
    };
    copy(&desk.path("stripped"), &desk.path("moved"));
    copy(&desk.path("other/blobs"), &desk.path("moved/blobs"));
    let stolen = list("other");
    let tag = list("image").annotations["org.opencontainers.image.ref.name"].clone();
    reindex(&desk, "moved", |manifests| {
        manifests.push(stolen.clone().annotate("org.opencontainers.image.ref.name", tag.as_str()));
    });
    assert_eq!(verdict(&desk.verify("moved").exits(3)), "SOUND, NOT AUTHENTICATED");

    let blob = |name: &str, digest: &Digest| {
        fs::read(desk.path(name).join("blobs/sha256").join(digest.hex())).unwrap()
    };
    let put = |name: &str, bytes: &[u8]| {
        fs::write(desk.path(name).join("blobs/sha256").join(Digest::sha256(bytes).hex()), bytes).unwrap();
    };
    let listed = json::parse(&blob("other", &stolen.digest)).unwrap();
    let manifest: Digest = listed["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    let mut forged = json::parse(&blob("other", &manifest)).unwrap();
    let root = Sample::small().root();
    for part in ["digest", "size", "mediaType"] {
        forged["subject"][part] = root[part].clone();
    }
    let forged = json::canonical(&forged);
    put("moved", &forged);
    let list = json!({"schemaVersion": 2, "mediaType": media_type::INDEX,
        "manifests": [Descriptor::of(media_type::MANIFEST, &forged).to_value()]});
    let list = json::canonical(&list);
    put("moved", &list);
    reindex(&desk, "moved", |manifests| {
        manifests.truncate(1);
        let list = Descriptor::of(media_type::INDEX, &list);
        manifests.push(list.annotate("org.opencontainers.image.ref.name", tag.as_str()));
    });
    let run = desk.verify("moved").exits(1);
    assert_eq!(verdict(&run), "SIGNATURE NOT VALID");
    assert!(run.stdout.contains("error[E-SIGNATURE-SUBJECT]"), "{}", run.stdout);
    // Beside a good one it is a warning.
    desk.run(&["sign", "moved", "--key", "key.key"]).ok();
    let run = desk.verify("moved").exits(0);
    assert!(run.stdout.contains("warning[E-SIGNATURE-SUBJECT]"), "{}", run.stdout);
}

/// The image of `fixtures/cosign` in a registry, with what cosign 3.1.2 made for it: bundles, or its older layout.
fn of_cosign(desk: &Desk, legacy: bool) -> (Registry, String) {
    let registry = Registry::start();
    let name = format!("docker://{}/hello:1", registry.host());
    desk.run(&["push", fixture("cosign/image").to_str().unwrap(), &name]).ok();
    let image = fs::read(fixture("cosign/image/index.json")).unwrap();
    let root = json::parse(&image).unwrap()["manifests"][0].clone();
    let mut content = registry.content.lock().unwrap();
    let mut put = |bytes: Vec<u8>| {
        let descriptor = Descriptor::of("application/octet-stream", &bytes);
        content.blobs.insert(descriptor.digest.to_string(), bytes);
        descriptor
    };
    let mut manifests: Vec<(String, Vec<u8>)> = Vec::new();
    if legacy {
        let hex = root["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        for kind in ["sig", "att"] {
            put(fs::read(fixture(&format!("cosign/legacy.{kind}.config.json"))).unwrap());
            put(fs::read(fixture(&format!("cosign/legacy.{kind}.layer.json"))).unwrap());
            let manifest = fs::read(fixture(&format!("cosign/legacy.{kind}.manifest.json"))).unwrap();
            manifests.push((format!("sha256-{hex}.{kind}"), manifest));
        }
    } else {
        let empty = put(b"{}".to_vec());
        for kind in ["signature", "attestation"] {
            let layer = put(fs::read(fixture(&format!("cosign/{kind}.sigstore.json"))).unwrap());
            let of = |descriptor: Descriptor, media_type: &str| {
                let mut value = descriptor.to_value();
                value["mediaType"] = media_type.into();
                value
            };
            let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
            let manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": bundle,
                "config": of(empty.clone(), media_type::EMPTY), "layers": [of(layer, bundle)],
                "subject": {"mediaType": root["mediaType"], "digest": root["digest"], "size": root["size"]}});
            let manifest = json::canonical(&manifest);
            manifests.push((Digest::sha256(&manifest).to_string(), manifest));
        }
    }
    for (tag, bytes) in manifests {
        let digest = Digest::sha256(&bytes).to_string();
        let typed = |bytes: &Vec<u8>| (media_type::MANIFEST.to_owned(), bytes.clone());
        content.manifests.insert(("hello".into(), digest), typed(&bytes));
        content.manifests.insert(("hello".into(), tag), typed(&bytes));
    }
    drop(content);
    (registry, name)
}

#[test]
fn what_cosign_signed_verifies_in_both_its_layouts() {
    let key = fixture("cosign/cosign.pub");
    let key = key.to_str().unwrap();
    for legacy in [false, true] {
        let desk = Desk::new();
        let (_registry, name) = of_cosign(&desk, legacy);
        let run = desk.run(&["verify", &name, "--key", key]).exits(0);
        assert_eq!(verdict(&run), "VERIFIED");
        // The attestation by the same key is none of that.
        assert!(run.stdout.contains("1 of 2 valid"), "{}", run.stdout);
        let asked = |uri: &str| desk.run(&["verify", &name, "--key", key, "--type", uri]);
        assert_eq!(verdict(&asked("https://example.org/predicate/v1").exits(0)), "VERIFIED");
        assert_eq!(verdict(&asked("https://slsa.dev/provenance/v1").exits(3)), "SOUND, NOT AUTHENTICATED");
        assert_eq!(verdict(&desk.verify(&name).exits(4)), "REFUSED");
    }
    let desk = Desk::new();
    let blob = fixture("cosign/blob.txt");
    assert_eq!(verdict(&desk.run(&["verify", blob.to_str().unwrap(), "--key", key]).exits(0)), "VERIFIED");
}

#[test]
fn bundles_that_nothing_lists_are_found_in_layouts() {
    let desk = Desk::new();
    let layout = copied(&desk, &Sample::two_platforms(), "image");
    desk.run(&["sign", &layout, "--key", "key.key"]).ok();
    // As `cosign save` leaves them: the manifest is among the blobs, and no list is.
    reindex(&desk, "image", |manifests| manifests.truncate(1));
    assert_eq!(verdict(&desk.verify(&layout).exits(0)), "VERIFIED");
    assert_eq!(verdict(&desk.run(&["verify", &layout, "--key", "other.pub"]).exits(4)), "REFUSED");
}

#[test]
fn an_attestation_alone_is_no_signature() {
    let desk = Desk::new();
    let (registry, name) = of_cosign(&desk, false);
    let signature = fs::read(fixture("cosign/signature.sigstore.json")).unwrap();
    let digest = Digest::sha256(&signature).to_string();
    let names = |bytes: &[u8]| {
        let value: Value = json::parse(bytes).unwrap_or_default();
        value["layers"][0]["digest"] == digest.as_str()
    };
    registry.content.lock().unwrap().manifests.retain(|_, (_, bytes)| !names(bytes));
    let key = fixture("cosign/cosign.pub");
    let run = desk.run(&["verify", &name, "--key", key.to_str().unwrap()]).exits(3);
    assert_eq!(verdict(&run), "SOUND, NOT AUTHENTICATED");
    assert!(run.stdout.contains("note[E-PREDICATE]"), "{}", run.stdout);
}
