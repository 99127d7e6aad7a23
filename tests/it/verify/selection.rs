//! What a verdict is about: the image that was asked for, and all of it.

use std::fs;
use std::path::{Path, PathBuf};

use dmoci::diagnostic::Exit;
use dmoci::engine::verify::{Verdict, VerifyReport};
use dmoci::ops::verify::verify;
use dmoci_layers::{Compression, Digest};
use serde_json::json;
use tempfile::TempDir;

use super::sample::tar;
use super::{Sample, errors, report, request};
use crate::support::{Run, dmoci};

fn at(subject: &str) -> VerifyReport {
    let mut asked = request(Path::new("."));
    asked.subject = subject.parse().unwrap();
    verify(&asked).unwrap()
}

fn codes(report: &VerifyReport) -> Vec<&str> {
    report.findings.iter().map(|finding| finding.code).collect()
}

/// Lists `entries` and verifies `path` against them.
fn against(path: &Path, entries: &[(&str, &str)]) -> VerifyReport {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("SHA256SUMS");
    let lines: String = entries
        .iter()
        .map(|(digest, name)| format!("{}  {name}\n", digest.trim_start_matches("sha256:")))
        .collect();
    fs::write(&list, lines).unwrap();
    let mut asked = request(path);
    asked.against = Some(list);
    verify(&asked).unwrap()
}

/// Two images with the tags `a` and `b`.
fn two_tags() -> Sample {
    let mut sample = Sample::default();
    let roots = ["a", "b"].map(|tag| {
        let layer = sample.layer(Compression::Gzip, &[("app/run", tag.as_bytes())]);
        sample
            .image("amd64", &[("app", layer)])
            .annotate("org.opencontainers.image.ref.name", tag)
            .annotate("io.containerd.image.name", format!("example.org/app:{tag}"))
    });
    sample.index = dmoci::oci::index::author(&roots);
    sample
}

fn archive(sample: &Sample) -> (TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let bytes = tar(&sample.members());
    fs::write(&path, &bytes).unwrap();
    (dir, path, Digest::sha256(&bytes).to_string())
}

#[test]
fn a_digest_of_one_platform_speaks_of_it_alone() {
    let layout = Sample::two_platforms().layout();
    let all = report(layout.path());
    let (asked, other) = (&all.images[0].manifest, &all.images[1].manifest);
    let found = at(&format!("{}@{asked}", layout.path().display()));
    assert_eq!(found.verdict, Verdict::Verified);
    assert_eq!(found.images, all.images[..1]);
    let note = found.findings.iter().find(|finding| finding.code == "E-NOT-SELECTED").unwrap();
    assert!(note.message.contains(other) && !note.message.contains(asked), "{}", note.message);
}

#[test]
fn a_tag_speaks_of_its_image_alone() {
    let layout = two_tags().layout();
    let all = report(layout.path());
    assert_eq!(all.images.len(), 2);
    let found = at(&format!("oci:{}:a", layout.path().display()));
    assert_eq!((found.verdict, &found.images[..]), (Verdict::NotAuthenticated, &all.images[..1]));
    assert!(codes(&found).contains(&"E-NOT-SELECTED"));
    let b = &all.images[1].manifest;
    let found = at(&format!("oci:{}:a@{b}", layout.path().display()));
    assert_eq!((found.verdict, errors(&found)), (Verdict::Mismatch, vec!["E-SELECT"]));
}

#[test]
fn a_list_must_cover_every_image() {
    let sample = Sample::two_platforms();
    let layout = sample.layout();
    let all = report(layout.path());
    let [first, second] = [0, 1].map(|i| all.images[i].manifest.as_str());
    let root = sample.root()["digest"].as_str().unwrap().to_owned();
    assert_eq!(against(layout.path(), &[(&root, "index")]).verdict, Verdict::Verified);
    assert_eq!(against(layout.path(), &[(first, "a"), (second, "b")]).verdict, Verdict::Verified);
    let found = against(layout.path(), &[(first, "a")]);
    assert_eq!((found.verdict, found.authenticated_by.len()), (Verdict::NotAuthenticated, 0));
    let told = found.findings.iter().find(|finding| finding.code == "E-UNCOVERED").unwrap();
    assert!(told.message.contains(second) && !told.message.contains(first), "{}", told.message);
    assert_eq!(against(layout.path(), &[]).verdict.exit(), Exit::Missing);
}

#[test]
fn a_list_that_does_not_cover_is_not_forgotten_by_integrity_only() {
    let layout = Sample::small().layout();
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("none");
    fs::write(&list, "").unwrap();
    let mut asked = request(layout.path());
    (asked.against, asked.integrity_only) = (Some(list), true);
    assert_eq!(verify(&asked).unwrap().verdict, Verdict::NotAuthenticated);
}

#[test]
fn the_archive_file_has_a_digest_too() {
    let (_dir, path, digest) = archive(&Sample::two_platforms());
    let found = at(&format!("{}@{digest}", path.display()));
    assert_eq!((found.verdict, found.images.len()), (Verdict::Verified, 2));
    assert!(found.authenticated_by[0].contains("the whole archive file"));
    let other = at(&format!("{}@{}", path.display(), Digest::sha256(b"other")));
    assert_eq!(other.verdict, Verdict::Mismatch);
}

#[test]
fn the_image_id_is_refused() {
    let layout = Sample::small().layout();
    let image = report(layout.path()).images.remove(0);
    let found = at(&format!("{}@{}", layout.path().display(), image.config));
    assert_eq!((found.verdict, errors(&found)), (Verdict::Mismatch, vec!["E-SELECT"]));
    let text = format!("is the image ID (config digest); the manifest is {}", image.manifest);
    assert!(found.findings[0].message.contains(&text), "{:?}", found.findings);
    let found = against(layout.path(), &[(&image.config, "id")]);
    assert_eq!(found.verdict, Verdict::NotAuthenticated);
    assert!(found.findings.iter().any(|finding| finding.message.contains(&text)), "{:?}", found.findings);
}

/// An archive of an older `docker save`.
fn legacy() -> (TempDir, PathBuf, String) {
    let (layer, bytes) = super::sample::encode(Compression::None, &[("a", b"x")]);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id.to_string()]}});
    let config = serde_json::to_vec(&config).unwrap();
    let name = format!("{}.json", Digest::sha256(&config).hex());
    let docker = json!([{"Config": name, "RepoTags": ["example.org/a:1"], "Layers": ["one/layer.tar"]}]);
    let bytes = tar(&[
        (name, Some(config)),
        ("one".into(), None),
        ("one/layer.tar".into(), Some(bytes)),
        ("manifest.json".into(), Some(serde_json::to_vec(&docker).unwrap())),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.tar");
    fs::write(&path, &bytes).unwrap();
    (dir, path, Digest::sha256(&bytes).to_string())
}

#[test]
fn a_manifest_that_was_made_here_authenticates_nothing() {
    let (_dir, path, file) = legacy();
    let manifest = report(&path).images.remove(0).manifest;
    let found = at(&format!("{}@{manifest}", path.display()));
    assert_eq!((found.verdict, found.authenticated_by.len()), (Verdict::NotAuthenticated, 0));
    assert!(codes(&found).contains(&"E-UNCOVERED"));
    assert_eq!(against(&path, &[(&manifest, "manifest")]).verdict, Verdict::NotAuthenticated);
    assert_eq!(at(&format!("{}@{file}", path.display())).verdict, Verdict::Verified);
}

#[test]
fn an_index_without_images_is_an_error() {
    let sample = Sample { index: dmoci::oci::index::author(&[]), ..Sample::default() };
    let mut asked = request(Path::new("."));
    asked.integrity_only = true;
    let layout = sample.layout();
    asked.subject = layout.path().display().to_string().parse().unwrap();
    let found = verify(&asked).unwrap();
    assert_eq!((found.verdict, errors(&found)), (Verdict::NotSound, vec!["E-NO-IMAGE"]));
    assert!(!found.canonical.reasons.is_empty());
}

#[test]
fn wrong_usage_says_what_is_there() {
    let layout = two_tags().layout();
    let run = |subject: String| Run::of(dmoci().arg("verify").arg(subject));
    let shown = run(format!("oci:{}:nope", layout.path().display())).exits(2).stderr;
    assert!(shown.contains("E-SELECT") && shown.contains("there are: a, example.org/app:a, b"), "{shown}");
    let (_dir, path, _) = archive(&Sample::small());
    let shown = run(format!("docker-archive:{}", path.display())).exits(2).stderr;
    assert!(shown.contains("oci-archive:FILE"), "{shown}");
    let (_dir, path, _) = legacy();
    let shown = run(format!("oci-archive:{}", path.display())).exits(2).stderr;
    assert!(shown.contains("docker-archive:FILE"), "{shown}");
    for transport in ["", "oci:", "oci-archive:", "docker-archive:"] {
        let shown = run(format!("{transport}{}", layout.path().join("none").display())).exits(6).stderr;
        assert!(shown.contains("E-SUBJECT-NOT-FOUND"), "{transport} {shown}");
    }
}

#[test]
fn all_bytes_are_counted() {
    let sample = Sample::small();
    let found = report(sample.layout().path());
    let blobs = found.checks.iter().find(|check| check.id.name() == "blobs").unwrap();
    let bytes: usize = sample.blobs.values().map(Vec::len).sum();
    assert_eq!(blobs.detail, format!("{} blobs, {bytes} bytes", sample.blobs.len()));
}

#[test]
fn the_own_name_in_a_list_decides() {
    let (dir, path, digest) = archive(&Sample::small());
    let other = Digest::sha256(b"other").to_string();
    let lists = [
        ("image.tar", Verdict::Mismatch),
        ("./image.tar", Verdict::Mismatch),
        ("else.tar", Verdict::Verified),
    ];
    for (name, verdict) in lists {
        assert_eq!(against(&path, &[(&digest, "first.tar"), (&other, name)]).verdict, verdict, "{name}");
    }
    let below = [(&*other, "a/image.tar"), (&*digest, "b/image.tar")];
    assert_eq!(against(&path, &below).verdict, Verdict::Verified);
    let layout = Sample::small().layout();
    let root = Sample::small().root()["digest"].as_str().unwrap().to_owned();
    assert_eq!(against(layout.path(), &[(&root, "x"), (&other, "1.0")]).verdict, Verdict::Mismatch);
    assert_eq!(against(layout.path(), &[(&root, "1.0"), (&other, "x")]).verdict, Verdict::Verified);
    drop(dir);
}

#[test]
fn a_file_that_says_no_version_has_not_the_one_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("SHA256SUMS");
    fs::write(&path, "x").unwrap();
    fs::write(dir.path().join("SHA256SUMS.sigstore.json"), "{}").unwrap();
    let key = crate::signing::fixture("cosign/cosign.pub");
    let ask =
        |more: &[&str]| Run::of(dmoci().arg("verify").arg(&path).arg("--key").arg(&key).args(more)).stdout;
    assert!(!ask(&[]).contains("E-VERSION"));
    assert!(ask(&["--expect-version", "1"]).contains("error[E-VERSION]"));
}

#[test]
fn a_list_that_is_a_pipe_is_an_error_and_not_waited_for() {
    let layout = Sample::small().layout();
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("SHA256SUMS");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let run = Run::of(dmoci().arg("verify").arg(layout.path()).arg("--against").arg(&pipe));
    assert!(run.exit != 0 && run.stderr.contains("it is no regular file"), "{}", run.stderr);
}
