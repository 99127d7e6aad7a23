//! Images that are named as signatures are: what is evidence is told by what it is.

use std::fs;

use dmoci::oci::{Descriptor, json, media_type};
use dmoci_layers::{Compression, Digest};
use serde_json::{Value, json};

use super::{Desk, fixture, verdict};
use crate::registry::tree;
use crate::verify::{Sample, tar};

const TAG: &str = "org.opencontainers.image.ref.name";
const SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
const ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";

/// What somebody puts beside a signed image, and how `manifest.json` names its parts.
struct Evil {
    root: Value,
    docker: Vec<u8>,
}

/// A signed image in the layout `good`.
fn signed(desk: &Desk) -> Value {
    let sample = Sample::small();
    for (path, bytes) in tree(sample.layout().path()) {
        let path = path
            .iter()
            .skip_while(|part| !["blobs", "index.json", "oci-layout"].iter().any(|name| part == name));
        let path = desk.path("good").join(path.collect::<std::path::PathBuf>());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    desk.run(&["sign", "good", "--key", "key.key"]).ok();
    assert_eq!(verdict(&desk.verify("good").exits(0)), "VERIFIED");
    sample.root()
}

/// The layout and the archive `evil`: the signed image, and the other one beside it. Only the archive has a `manifest.json`.
fn put(desk: &Desk, sample: &Sample, evil: &Evil, first: bool) {
    let mut all = sample.clone();
    for (path, bytes) in tree(&desk.path("good/blobs")) {
        all.blobs.insert(
            format!("sha256:{}", path.file_name().unwrap().to_str().unwrap()).parse().unwrap(),
            bytes,
        );
    }
    let index = json::parse(&fs::read(desk.path("good/index.json")).unwrap()).unwrap();
    let mut roots = index["manifests"].as_array().unwrap().clone();
    roots.insert(if first { 0 } else { roots.len() }, evil.root.clone());
    all.foreign_index(&roots);
    let _ = fs::remove_dir_all(desk.path("evil"));
    for (name, bytes) in all.members() {
        let path = desk.path("evil").join(name);
        match bytes {
            None => fs::create_dir_all(path).unwrap(),
            Some(bytes) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
    }
    all.docker = Some(evil.docker.clone());
    desk.write("evil.tar", tar(&all.members()));
}

/// An image whose manifest is changed, as somebody names it in `index.json`.
fn image(sample: &mut Sample, change: impl Fn(&mut Value), listed: bool, annotations: &Value) -> Evil {
    let layer = sample.layer(Compression::None, &[("app/run", b"evil")]);
    let manifest = sample.image("amd64", &[("app", layer)]);
    let mut value = json::parse(&sample.blobs[&manifest.digest]).unwrap();
    change(&mut value);
    let path =
        |part: &Value| format!("blobs/sha256/{}", &part["digest"].as_str().unwrap()["sha256:".len()..]);
    let layers: Vec<_> = value["layers"].as_array().unwrap().iter().map(path).collect();
    let docker =
        json!([{"Config": path(&value["config"]), "RepoTags": ["example.org/other:1"], "Layers": layers}]);
    let media_type = value["mediaType"].as_str().unwrap().to_owned();
    let mut root = sample.put(&media_type, json::canonical(&value)).to_value();
    if listed {
        let list = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [root]});
        root = sample.put(media_type::INDEX, json::canonical(&list)).to_value();
    }
    root["annotations"] = annotations.clone();
    Evil { root, docker: serde_json::to_vec(&docker).unwrap() }
}

#[test]
fn an_image_that_is_named_as_evidence_needs_a_signature() {
    let desk = Desk::new();
    let good = signed(&desk);
    let (digest, hex) =
        (good["digest"].as_str().unwrap(), &good["digest"].as_str().unwrap()["sha256:".len()..]);
    desk.write("LIST", format!("{hex}  app\n"));
    let [zeros, sig, own] =
        [format!("sha256-{}", "0".repeat(64)), format!("sha256-{hex}.sig"), format!("sha256-{hex}")];
    let subject = json!({"mediaType": good["mediaType"], "digest": digest, "size": good["size"]});
    let typed = |media_type: &'static str| {
        move |manifest: &mut Value| manifest["layers"][0]["mediaType"] = media_type.into()
    };
    let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let nothing = |_: &mut Value| {};
    let about = |manifest: &mut Value| manifest["subject"] = subject.clone();
    let both = |manifest: &mut Value| {
        let mut layer = manifest["layers"][0].clone();
        layer["mediaType"] = bundle.into();
        manifest["layers"].as_array_mut().unwrap().push(layer);
    };
    let docker = |manifest: &mut Value| {
        manifest["mediaType"] = media_type::DOCKER_MANIFEST.into();
        manifest["config"]["mediaType"] = "application/x".into();
        manifest["subject"] = subject.clone();
    };
    let (signature, envelope, bundled) =
        (typed(media_type::COSIGN_SIGNATURE), typed(media_type::DSSE_ENVELOPE), typed(bundle));
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>, bool, Value); 14] = [
        ("kind", &nothing, false, json!({"kind": SIGNATURES, TAG: "2.0"})),
        (
            "kind and name",
            &nothing,
            false,
            json!({"kind": SIGNATURES, "io.containerd.image.name": "example.org/app:2.0"}),
        ),
        ("kind alone", &nothing, false, json!({"kind": ATTESTATIONS})),
        ("tag of a list", &nothing, false, json!({TAG: zeros})),
        ("tag of this list", &nothing, false, json!({TAG: own})),
        ("tag of signatures", &nothing, false, json!({TAG: sig})),
        ("in a list", &nothing, true, json!({TAG: zeros})),
        ("in an index of a kind", &nothing, true, json!({"kind": ATTESTATIONS, TAG: "2.0"})),
        ("with a subject", &about, true, json!({TAG: own})),
        ("layers of signatures that are archives", &signature, false, json!({TAG: sig})),
        ("layers of envelopes that are archives", &envelope, false, json!({"kind": ATTESTATIONS})),
        ("layers of bundles that are archives", &bundled, true, json!({TAG: zeros})),
        ("a bundle among the layers", &both, false, json!({"kind": SIGNATURES})),
        ("Docker's manifest with a subject", &docker, true, json!({TAG: own})),
    ];
    for (i, (name, change, listed, annotations)) in cases.into_iter().enumerate() {
        let mut sample = Sample::default();
        let evil = image(&mut sample, change, listed, &annotations);
        put(&desk, &sample, &evil, i % 2 == 0);
        for subject in ["evil", "evil.tar"] {
            for options in [["--key", "key.pub"], ["--against", "LIST"]] {
                let run = desk.run(&[&["verify", subject][..], &options].concat());
                assert!(matches!(run.exit, 1 | 3), "{name} {subject}: {}", run.stdout);
                assert!(!run.stdout.contains("VERIFIED"), "{name} {subject}: {}", run.stdout);
            }
        }
        // Who asks for the good one gets it, unless Docker would load the other.
        // One layer of two types is wrong in itself.
        let sound = desk.run(&["verify", "evil", "--integrity-only"]).exit == 0;
        assert_eq!(sound, name != "a bundle among the layers", "{name}");
        let chosen = desk.verify("oci:evil:1.0");
        assert_eq!(verdict(&chosen) == "VERIFIED", sound, "{name}: {}", chosen.stdout);
        for subject in ["oci-archive:evil.tar:1.0".to_owned(), format!("evil.tar@{digest}")] {
            let run = desk.verify(&subject).exits(1);
            assert!(run.stdout.contains("error[E-VIEWS]"), "{name} {subject}: {}", run.stdout);
        }
    }
}

#[test]
fn a_disguised_image_is_shown_and_not_taken_for_a_list() {
    let desk = Desk::new();
    signed(&desk);
    let mut sample = Sample::default();
    let evil = image(&mut sample, |_| {}, false, &json!({"kind": SIGNATURES}));
    put(&desk, &sample, &evil, false);
    let digest = evil.root["digest"].as_str().unwrap();
    let shown = desk.run(&["inspect", "evil", "--json"]).ok().stdout;
    assert!(shown.contains(digest), "{shown}");
    for arguments in [&["push", "evil", "docker://127.0.0.1:1/app:1"][..], &["diff", "evil", "good"]] {
        let several = desk.run(arguments).exits(2).stderr;
        assert!(several.contains("several images fit"), "{several}");
    }
    // An honest list stays hidden.
    let shown = desk.run(&["inspect", "good", "--json"]).ok().stdout;
    assert_eq!(shown.matches("\"manifest\"").count(), 1, "{shown}");
}

#[test]
fn what_cosign_saved_is_evidence() {
    let desk = Desk::new();
    let mut sample = Sample::default();
    for (path, bytes) in tree(&fixture("cosign/image/blobs")) {
        sample.blobs.insert(
            format!("sha256:{}", path.file_name().unwrap().to_str().unwrap()).parse::<Digest>().unwrap(),
            bytes,
        );
    }
    let index = json::parse(&fs::read(fixture("cosign/image/index.json")).unwrap()).unwrap();
    let mut roots = vec![index["manifests"][0].clone()];
    for (part, kind) in [("sig", SIGNATURES), ("att", ATTESTATIONS)] {
        let bytes = |name: &str| fs::read(fixture(&format!("cosign/legacy.{part}.{name}.json"))).unwrap();
        sample.put("", bytes("config"));
        sample.put("", bytes("layer"));
        let manifest: Descriptor = sample.put(media_type::MANIFEST, bytes("manifest"));
        roots.push(manifest.annotate("kind", kind).to_value());
    }
    sample.foreign_index(&roots);
    let layout = sample.layout();
    let layout = layout.path().to_str().unwrap();
    let key = fixture("cosign/cosign.pub");
    let run = desk.run(&["verify", layout, "--key", key.to_str().unwrap()]).exits(0);
    assert_eq!(verdict(&run), "VERIFIED");
    desk.run(&["diff", layout, layout]).ok();
}
