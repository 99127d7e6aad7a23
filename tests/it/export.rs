//! `export`: the same bytes every time, verified, or nothing.

use std::fs;
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Run, dmoci};
use crate::verify::{Sample, errors, report};

/// Runs `dmoci export` in a directory of its own.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn export(&self, subject: &Path, output: &str, more: &[&str]) -> Run {
        Run::of(
            dmoci().arg("export").arg(subject).args(["-o", output]).args(more).current_dir(self.dir.path()),
        )
    }

    /// The names in the directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn the_same_bytes_from_a_layout_and_from_its_own_archive() {
    let layout = Sample::two_platforms().layout();
    let bench = Bench::new();
    for name in ["a.tar", "b.tar"] {
        bench.export(layout.path(), &format!("oci-archive:{name}"), &[]).ok();
    }
    bench.export(&bench.path("a.tar"), "oci-archive:c.tar", &[]).ok();
    let bytes = fs::read(bench.path("a.tar")).unwrap();
    for name in ["b.tar", "c.tar"] {
        assert_eq!(fs::read(bench.path(name)).unwrap(), bytes, "{name}");
    }
    let found = report(&bench.path("a.tar"));
    assert_eq!((errors(&found).len(), found.images.len()), (0, 2));
    assert_eq!(found.canonical.reasons, [""; 0]);
    assert_eq!(bench.names(), ["a.tar", "b.tar", "c.tar"]);
}

#[test]
fn a_docker_archive_holds_one_platform_and_plain_layers_for_zstd() {
    let layout = Sample::two_platforms().layout();
    let bench = Bench::new();
    let run = bench.export(layout.path(), "docker-archive:d.tar", &[]).exits(2);
    assert!(run.stderr.contains("linux/amd64, linux/arm64"), "{}", run.stderr);
    let run = bench.export(layout.path(), "docker-archive:d.tar", &["--platform", "linux/arm64"]).ok();
    let before = report(layout.path());
    let found = report(&bench.path("d.tar"));
    assert_eq!((errors(&found).len(), found.images.len()), (0, 1), "{:?}", found.findings);
    assert_eq!(found.canonical.reasons, [""; 0]);
    // The image ID stays, the manifest cannot.
    assert_eq!(found.images[0].config, before.images[1].config);
    assert_ne!(found.images[0].manifest, before.images[1].manifest);
    assert!(run.stdout.contains(&found.images[0].config), "{}", run.stdout);
    let store = dmoci::store::ImageStore::open(
        &"docker-archive:x".parse::<dmoci::store::Subject>().unwrap().at(bench.path("d.tar")),
    )
    .unwrap();
    let manifest: Value = serde_json::from_slice(store.docker_manifest().unwrap()).unwrap();
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["example.org/app:1.0"]));
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn an_image_without_zstd_keeps_its_manifest() {
    let layout = Sample::small().layout();
    let bench = Bench::new();
    bench.export(layout.path(), "docker-archive:d.tar", &[]).ok();
    assert_eq!(report(&bench.path("d.tar")).images[0].manifest, report(layout.path()).images[0].manifest);
}

#[test]
fn one_platform_of_an_oci_archive() {
    let layout = Sample::two_platforms().layout();
    let bench = Bench::new();
    bench.export(layout.path(), "oci-archive:one.tar", &["--platform", "linux/amd64"]).ok();
    let found = report(&bench.path("one.tar"));
    assert_eq!((errors(&found).len(), found.images.len()), (0, 1));
    assert_eq!(found.images[0], report(layout.path()).images[0]);
    bench.export(layout.path(), "oci-archive:none.tar", &["--platform", "linux/s390x"]).exits(2);
    assert_eq!(bench.names(), ["one.tar"]);
}

#[test]
fn a_damaged_image_is_not_exported_and_the_old_file_stays() {
    let sample = Sample::two_platforms();
    let bench = Bench::new();
    for digest in sample.blobs.keys() {
        let layout = sample.layout();
        let mut bytes = fs::read(layout.blob(digest)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(layout.blob(digest), bytes).unwrap();
        fs::write(bench.path("x.tar"), "old").unwrap();
        bench.export(layout.path(), "oci-archive:x.tar", &[]).exits(1);
        assert_eq!(fs::read(bench.path("x.tar")).unwrap(), b"old");
        assert_eq!(bench.names(), ["x.tar"]);
    }
}

#[test]
fn content_that_its_diff_id_denies_is_not_exported() {
    let mut sample = Sample::default();
    let mut layer = sample.layer(dmoci_layers::Compression::Gzip, &[("a", b"x")]);
    layer.diff_id = Digest::sha256(b"other");
    let root = sample.image("amd64", &[("app", layer)]);
    sample.name(root);
    let bench = Bench::new();
    for kind in ["oci", "docker"] {
        let run = bench.export(sample.layout().path(), &format!("{kind}-archive:x.tar"), &[]).exits(1);
        assert!(run.stderr.contains("E-DIFFID"), "{}", run.stderr);
    }
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn where_it_cannot_be_written() {
    let layout = Sample::small().layout();
    let bench = Bench::new();
    bench.export(layout.path(), "oci-archive:none/x.tar", &[]).exits(6);
    bench.export(layout.path(), "x.tar", &[]).exits(2);
    bench.export(&bench.path("none"), "oci-archive:x.tar", &[]).exits(6);
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn what_a_killed_export_left_is_taken_over() {
    let layout = Sample::small().layout();
    let bench = Bench::new();
    fs::write(bench.path(".x.tar.dmoci-export"), vec![b'x'; 100_000]).unwrap();
    bench.export(layout.path(), "oci-archive:x.tar", &[]).ok();
    assert_eq!(bench.names(), ["x.tar"]);
    assert_eq!(errors(&report(&bench.path("x.tar"))).len(), 0);
}

#[test]
fn two_exports_to_one_name_at_once() {
    let layout = Sample::two_platforms().layout();
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bench.export(layout.path(), "oci-archive:x.tar", &[]).ok());
        }
    });
    assert_eq!(bench.names(), ["x.tar"]);
    assert_eq!(errors(&report(&bench.path("x.tar"))).len(), 0);
}

/// A limit on the size of files stands for a full disk; the signal that comes with it is a kill in the middle.
#[test]
fn killed_in_the_middle() {
    let layout = Sample::two_platforms().layout();
    let bench = Bench::new();
    fs::write(bench.path("x.tar"), "old").unwrap();
    let script = "ulimit -f 4; exec \"$0\" export \"$1\" -o oci-archive:x.tar";
    let mut shell = std::process::Command::new("sh");
    let shell = shell.args(["-c", script, env!("CARGO_BIN_EXE_dmoci")]).arg(layout.path());
    let output = shell.current_dir(bench.dir.path()).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read(bench.path("x.tar")).unwrap(), b"old");
    bench.export(layout.path(), "oci-archive:x.tar", &[]).ok();
    assert_eq!(bench.names(), ["x.tar"]);
}
