//! `image-layout.md`.

use std::fs;

use dmoci::engine::verify::Verdict;
use dmoci_layers::Digest;

use crate::verify::{Sample, errors, report, request};

#[test]
fn the_example_is_good() {
    assert_eq!(report(Sample::small().layout().path()).verdict, Verdict::NotAuthenticated);
}

#[test]
fn oci_layout_file() {
    let judged = |content: Option<&str>| {
        let mut sample = Sample::small();
        let root = sample.root();
        sample.foreign_index(&[root]);
        let layout = sample.layout();
        let path = layout.path().join("oci-layout");
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        errors(&report(layout.path()))
    };
    let none: [&str; 0] = [];
    assert_eq!(judged(Some("{\n  \"imageLayoutVersion\": \"1.0.0\"\n}\n")), none, "white space is free");
    assert_eq!(
        judged(Some(r#"{"imageLayoutVersion":"1.0.0","extra":1}"#)),
        none,
        "unknown properties are no error"
    );
    assert_eq!(judged(None), ["E-LAYOUT-FILE"], "MUST exist");
    assert_eq!(judged(Some("{}")), ["E-LAYOUT-FILE"], "imageLayoutVersion: REQUIRED");
    assert_eq!(judged(Some(r#"{"imageLayoutVersion":"2.0.0"}"#)), ["E-LAYOUT-FILE"], "MUST be 1.0.0");
    assert_eq!(judged(Some(r#"{"imageLayoutVersion":1}"#)), ["E-LAYOUT-FILE"], "a string");
    assert_eq!(judged(Some("1.0.0 ")), ["E-JSON-SYNTAX"], "MUST be a JSON object");
}

#[test]
fn index_json_file() {
    let layout = Sample::small().layout();
    fs::remove_file(layout.path().join("index.json")).unwrap();
    let failure = dmoci::ops::verify::verify(&request(layout.path())).unwrap_err();
    assert_eq!((failure.code, failure.exit as i32), ("E-NO-IMAGE", 1), "MUST exist");
    let mut sample = Sample::small();
    sample.foreign_index(&[]);
    let found = report(sample.layout().path());
    let text = "manifests MAY be empty: nothing of it is malformed, but there is no image to speak of";
    assert_eq!(errors(&found), ["E-NO-IMAGE"], "{text}");
}

#[test]
fn blobs() {
    let mut sample = Sample::small();
    let layout = sample.layout();
    fs::write(layout.path().join("blobs/sha256/notes.txt"), "x").unwrap();
    fs::create_dir(layout.path().join("blobs/blake3")).unwrap();
    let found = report(layout.path());
    let strays: Vec<_> =
        found.findings.iter().filter(|f| f.code == "E-STRAY").map(|f| f.place.as_str()).collect();
    assert_eq!(strays, ["blobs/blake3", "blobs/sha256/notes.txt"], "told, not refused");
    // The content of blobs/ALG/ENCODED MUST match the digest ALG:ENCODED, whoever names it.
    sample.blobs.insert(Digest::sha256(b"a"), b"b".to_vec());
    assert_eq!(errors(&report(sample.layout().path())), ["E-DIGEST"]);
}
