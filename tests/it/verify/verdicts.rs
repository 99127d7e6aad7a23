//! What decides between the verdicts.

use std::fs;

use dmoci::diagnostic::Exit;
use dmoci::engine::verify::{CheckId, Outcome, Verdict};
use dmoci::ops::verify::verify;
use dmoci_layers::Digest;
use serde_json::json;

use super::sample::tar;
use super::{Sample, assert_sound, errors, report, request};
use crate::support::{Run, dmoci};

#[test]
fn sound_is_not_authentic() {
    let layout = Sample::small().layout();
    let found = report(layout.path());
    assert_sound(&found);
    assert_eq!(found.verdict.exit(), Exit::Missing);
    let mut asked = request(layout.path());
    asked.integrity_only = true;
    assert_eq!(verify(&asked).unwrap().verdict, Verdict::Sound);
}

#[test]
fn a_digest_that_the_operator_holds_authenticates() {
    let sample = Sample::two_platforms();
    let layout = sample.layout();
    let shown = report(layout.path());
    let root =
        sample.blobs.keys().find(|digest| shown.findings.is_empty() && sample.index_names(digest)).unwrap();
    let at = |digest: &Digest| {
        let mut asked = request(layout.path());
        asked.subject = format!("{}@{digest}", layout.path().display()).parse().unwrap();
        verify(&asked).unwrap()
    };
    let found = at(root);
    assert_eq!(found.verdict, Verdict::Verified, "{:?}", found.findings);
    assert!(
        found.authenticated_by[0].contains("index \"1.0\" and all that it names"),
        "{:?}",
        found.authenticated_by
    );
    let manifest = shown.images[1].manifest.parse().unwrap();
    assert!(at(&manifest).authenticated_by[0].contains("manifest of linux/arm64"));
    let other = at(&Digest::sha256(b"other"));
    assert_eq!((other.verdict, errors(&other)), (Verdict::Mismatch, vec!["E-SELECT"]));
}

#[test]
fn a_list_that_the_operator_holds_authenticates_and_says_that_it_is_unsigned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let bytes = tar(&Sample::small().members());
    fs::write(&path, &bytes).unwrap();
    let list = dir.path().join("SHA256SUMS");
    let with = |digest: &Digest, name: &str| {
        fs::write(&list, format!("{}  {name}\n", digest.hex())).unwrap();
        let mut asked = request(&path);
        asked.against = Some(list.clone());
        verify(&asked).unwrap()
    };
    let found = with(&Digest::sha256(&bytes), "dist/image.tar");
    assert_eq!(found.verdict, Verdict::Verified);
    assert!(found.authenticated_by[0].contains("not signed"), "{:?}", found.authenticated_by);
    let other = with(&Digest::sha256(b"x"), "image.tar");
    assert_eq!((other.verdict, errors(&other)), (Verdict::Mismatch, vec!["E-AGAINST"]));
    let tag = with(&Digest::sha256(b"x"), "example.org/app:1.0");
    assert_eq!((tag.verdict, errors(&tag)), (Verdict::Mismatch, vec!["E-AGAINST"]));
    let missing = with(&Digest::sha256(b"x"), "other.tar");
    assert_eq!((missing.verdict, errors(&missing)), (Verdict::NotAuthenticated, vec![]));
    assert!(missing.findings.iter().any(|f| f.code == "E-UNCOVERED"), "{:?}", missing.findings);
}

#[test]
fn versions_come_from_what_the_digests_cover() {
    let layout = Sample::small().layout();
    let expecting = |version: &str| {
        let mut asked = request(layout.path());
        asked.expect_version = Some(version.into());
        verify(&asked).unwrap()
    };
    assert_sound(&expecting("1.0"));
    let other = expecting("1.1");
    assert_eq!((other.verdict, errors(&other)), (Verdict::Mismatch, vec!["E-VERSION"]));
}

#[test]
fn what_is_not_covered_is_said() {
    let mut sample = Sample::small();
    let manifest = report(sample.layout().path()).images[0].manifest.clone();
    let size = sample.blobs[&manifest.parse::<Digest>().unwrap()].len();
    sample.foreign_index(&[
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size}),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    fs::write(&path, tar(&sample.members())).unwrap();
    let found = report(&path);
    assert_eq!(found.verdict, Verdict::NotAuthenticated);
    for id in [CheckId::IndexDigest, CheckId::ArchiveBytes] {
        let check = found.checks.iter().find(|check| check.id == id).unwrap();
        assert!(matches!(&check.outcome, Outcome::Skipped(why) if why.contains("not covered")), "{check:?}");
    }
    assert!(!found.canonical.reasons.is_empty());
}

#[test]
fn unreferenced_blobs_are_told_and_must_be_what_their_names_say() {
    let mut sample = Sample::small();
    let extra = Digest::sha256(b"extra");
    sample.blobs.insert(extra.clone(), b"extra".to_vec());
    let found = report(sample.layout().path());
    assert_eq!(found.verdict, Verdict::NotAuthenticated);
    assert!(
        found
            .findings
            .iter()
            .any(|f| f.code == "E-BLOB-UNREFERENCED" && f.place.contains(&extra.to_string()))
    );
    sample.blobs.insert(extra, b"other".to_vec());
    assert_eq!(errors(&report(sample.layout().path())), ["E-DIGEST"]);
}

#[test]
fn a_diff_id_that_is_not_the_contents() {
    let (layer, bytes) = super::sample::encode(dmoci_layers::Compression::Gzip, &[("a", b"x")]);
    let good = Sample::with_layer(bytes.clone(), layer.compression, layer.diff_id);
    assert_sound(&report(good.layout().path()));
    let bad = Sample::with_layer(bytes, layer.compression, Digest::sha256(b"other"));
    let found = report(bad.layout().path());
    assert_eq!(errors(&found), ["E-DIFFID"]);
    assert!(found.findings[0].place.contains("layer 1 'app' of linux/amd64"), "{:?}", found.findings);
}

/// The commands of docs/verify.md.
#[test]
fn the_index_can_be_checked_by_hand() {
    let layout = Sample::small().layout();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify.md")).unwrap();
    let commands = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let output =
        std::process::Command::new("sh").args(["-ec", commands]).current_dir(layout.path()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let mut lines = output.lines();
    let said = lines.next().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(said.len(), 64);
    assert_eq!(lines.next().unwrap().split(' ').next().unwrap(), said);
}

#[test]
fn what_people_see() {
    let sample = Sample::two_platforms();
    let good = sample.layout();
    let run = |layout: &std::path::Path, more: &[&str]| Run::of(dmoci().arg("verify").arg(layout).args(more));
    let shown = run(good.path(), &[]).exits(3).stdout;
    let last = format!("SOUND, NOT AUTHENTICATED: {}", good.path().display());
    assert_eq!(shown.lines().last().unwrap(), last);
    assert!(shown.contains("canonical: yes"), "{shown}");
    run(good.path(), &["--integrity-only"]).exits(0);
    let subject = format!("{}@{}", good.path().display(), sample.root()["digest"].as_str().unwrap());
    let shown = run(std::path::Path::new(&subject), &[]).exits(0).stdout;
    assert!(shown.contains("VERIFIED: ") && shown.contains("authenticated by the digest"), "{shown}");
    let bad = sample.layout();
    let digest = sample.blobs.keys().next().unwrap();
    fs::write(bad.blob(digest), vec![b'x'; sample.blobs[digest].len()]).unwrap();
    let shown = run(bad.path(), &["--integrity-only"]).exits(1).stdout;
    for text in [
        "error[E-DIGEST]",
        &format!("in blob {digest} = "),
        &format!("expected {digest}"),
        "found    sha256:",
        "NOT SOUND: ",
        "canonical: no, because\n    it is damaged",
    ] {
        assert!(shown.contains(text), "{text}\n{shown}");
    }
    run(&good.path().join("none"), &[]).exits(6);
    run(std::path::Path::new("docker://example.org/a:1"), &[]).exits(2);
    run(good.path(), &["--against", "none"]).exits(6);
}

#[test]
fn one_thing_worth_knowing_is_told_in_good_english() {
    let (layer, bytes) = super::sample::encode(dmoci_layers::Compression::Gzip, &[("a\\b", b"x")]);
    let found = report(Sample::with_layer(bytes, layer.compression, layer.diff_id).layout().path());
    let note = found.findings.iter().find(|finding| finding.code == "E-TAR-NAME").unwrap();
    assert!(note.message.contains("not UTF-8, 1 in all: "), "{}", note.message);
}
