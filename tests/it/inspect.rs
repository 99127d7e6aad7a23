//! `inspect`, as people and programs see it.

use std::path::Path;

use dmoci_layers::Compression;
use serde_json::Value;

use crate::support::{Run, dmoci};
use crate::verify::Sample;

fn inspect(subject: &Path, more: &[&str]) -> Run {
    Run::of(dmoci().arg("inspect").arg(subject).args(more))
}

/// Two layers; the second hides one file of the first and replaces another.
fn sample() -> Sample {
    let mut sample = Sample::default();
    let os = sample.layer(Compression::Gzip, &[("etc/a", b"1"), ("etc/b", b"22"), ("opt/c", b"3")]);
    let app = sample.layer(Compression::Zstd, &[("app/run", b"hello"), ("etc/b", b"333")]);
    let root = sample.image("amd64", &[("os", os), ("app", app)]);
    sample.name(root);
    sample
}

#[test]
fn what_people_see() {
    let layout = sample().layout();
    let run = inspect(layout.path(), &[]).ok();
    for text in [
        "example.org/app:1.0",
        "linux/amd64",
        "1 os  sha256:",
        "2 app  sha256:",
        "[\"/app/run\"]",
        "PATH=/bin",
        "dev.dmoci.rules=1",
    ] {
        assert!(run.stdout.contains(text), "{text}\n{}", run.stdout);
    }
}

#[test]
fn files_of_all_layers_merged_and_of_one() {
    let layout = sample().layout();
    let paths = |run: Run| -> Vec<String> {
        let line = |line: &str| {
            let (front, layer) = line.split_once("  [").unwrap();
            let words: Vec<_> = front.split_whitespace().collect();
            format!("{} {} {} {} {}", words[0], words[2], words[3], words[4], layer.trim_end_matches(']'))
        };
        run.ok().stdout.lines().map(line).collect()
    };
    let merged = [
        "d 0:0 0 /app 2 app",
        "- 0:0 5 /app/run 2 app",
        "d 0:0 0 /etc 2 app",
        "- 0:0 1 /etc/a 1 os",
        "- 0:0 3 /etc/b 2 app",
        "d 0:0 0 /opt 1 os",
        "- 0:0 1 /opt/c 1 os",
    ];
    assert_eq!(paths(inspect(layout.path(), &["--files"])), merged);
    let first = [
        "d 0:0 0 /etc 1 os",
        "- 0:0 1 /etc/a 1 os",
        "- 0:0 2 /etc/b 1 os",
        "d 0:0 0 /opt 1 os",
        "- 0:0 1 /opt/c 1 os",
    ];
    assert_eq!(paths(inspect(layout.path(), &["--layer", "1"])), first);
    inspect(layout.path(), &["--layer", "3"]).exits(2);
    inspect(layout.path(), &["--layer", "0"]).exits(2);
}

#[test]
fn what_programs_see() {
    let layout = Sample::two_platforms().layout();
    let run = inspect(layout.path(), &["--json", "--files", "--platform", "linux/arm64"]).ok();
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["images"].as_array().unwrap().len(), 1);
    let image = &value["images"][0];
    assert_eq!((&image["platform"], &image["layers"][1]["name"]), (&"linux/arm64".into(), &"app".into()));
    assert_eq!(image["configuration"]["architecture"], "arm64");
    let file = image["files"].as_array().unwrap().iter().find(|file| file["path"] == "/app/run").unwrap();
    assert_eq!(
        (&file["mode"], &file["type"], file["layer"].as_u64()),
        (&"0644".into(), &"file".into(), Some(2))
    );
}

#[test]
fn what_is_not_there() {
    let layout = sample().layout();
    inspect(layout.path(), &["--platform", "linux/s390x"]).exits(2);
    inspect(Path::new("docker://example.org/app:1"), &[]).exits(2);
    let subject = format!("oci:{}:2.0", layout.path().display());
    let run = inspect(Path::new(&subject), &[]).exits(2);
    assert!(run.stderr.contains("example.org/app:1.0"), "{}", run.stderr);
}

#[test]
fn a_damaged_document_is_an_error() {
    let sample = sample();
    let layout = sample.layout();
    let digest = sample.root()["digest"].as_str().unwrap().parse().unwrap();
    std::fs::write(layout.blob(&digest), "{}").unwrap();
    let run = inspect(layout.path(), &[]).exits(1);
    assert!(run.stderr.contains("E-DIGEST"), "{}", run.stderr);
}
