//! Images in registries: read whole, by digest, through every fault.

mod base;
mod base_facts;
mod base_trust;
mod build_push;
mod delete;
mod destinations;
mod evidence;
mod faults;
mod index;
mod lists;
mod login;
mod mirrors;
mod push;
mod shared;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use dmoci::oci::{json, media_type};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::registry::Registry;
use crate::support::{Run, dmoci};
use crate::verify::Sample;

/// A directory to run dmoci in, with a cache and a home of its own.
pub(super) struct Bench {
    dir: TempDir,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    pub(super) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = dmoci();
        command.args(arguments).current_dir(self.dir.path()).env("HOME", self.path("home"));
        Run::of(command.envs(environment.iter().copied()))
    }
}

/// Files below a directory, with their content.
pub(super) fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn an_image_comes_as_it_is() {
    let layout = Sample::two_platforms().layout();
    let registry = Registry::start();
    let digest = registry.load(layout.path(), "acme/app", "1.0");
    let bench = Bench::new();
    let subject = format!("docker://{}/acme/app:1.0", registry.host());
    let run = bench.run(&["pull", &subject, "-o", "got"]).ok();
    assert_eq!(run.stdout, format!("image     {subject}  {digest}\n"));
    let blobs = |root: &Path| -> Vec<Vec<u8>> {
        tree(&root.join("blobs")).into_iter().map(|(_, bytes)| bytes).collect()
    };
    assert_eq!(blobs(&bench.path("got")), blobs(layout.path()));
    bench.run(&["verify", "--integrity-only", "got"]).ok();
    // Again, from the cache; the tag was asked for once each time.
    let (tags, blobs) = (registry.asked("/manifests/1.0"), registry.asked("/blobs/"));
    assert_eq!((tags, blobs), (1, 6));
    bench.run(&["pull", &subject, "-o", "oci:got"]).ok();
    assert_eq!((registry.asked("/manifests/1.0"), registry.asked("/blobs/")), (2, 6));
    bench.run(&["pull", &subject, "-o", "oci-archive:got.tar"]).ok();
    assert_eq!(
        bench.run(&["diff", "got", "got.tar"]).ok().stdout.lines().last().unwrap().split(':').next(),
        Some("THE SAME")
    );
}

#[test]
fn every_command_that_reads_takes_one() {
    let layout = Sample::two_platforms().layout();
    let registry = Registry::start();
    let digest = registry.load(layout.path(), "acme/app", "1.0");
    let bench = Bench::new();
    let bare = format!("{}/acme/app:1.0", registry.host());
    let pinned = format!("docker://{}/acme/app@{digest}", registry.host());
    let layout = layout.path().to_str().unwrap();

    let found: Value = json::parse(bench.run(&["inspect", "--json", &bare]).ok().stdout.as_bytes()).unwrap();
    assert_eq!(found["roots"][0]["digest"], digest.to_string());
    assert_eq!(found["images"].as_array().unwrap().len(), 2);
    let asked = registry.asked("/blobs/");
    assert_eq!(asked, 2, "the configurations, no layer");
    let one = bench.run(&["inspect", &bare, "--platform", "linux/arm64", "--files"]).ok().stdout;
    assert!(one.contains("/app/run") && one.contains("/etc/hostname"), "{one}");
    assert_eq!(registry.asked("/blobs/"), asked + 2, "two layers of one platform");

    bench.run(&["diff", &bare, layout]).ok();
    bench.run(&["verify", &bare]).exits(3);
    bench.run(&["verify", &pinned]).ok();
    bench.run(&["export", &pinned, "-o", "docker-archive:x.tar", "--platform", "linux/amd64"]).ok();
    bench.run(&["verify", "--integrity-only", "x.tar"]).ok();
}

#[test]
fn one_platform_alone() {
    let layout = Sample::two_platforms().layout();
    let registry = Registry::start();
    registry.load(layout.path(), "app", "1.0");
    let bench = Bench::new();
    let subject = format!("docker://{}/app:1.0", registry.host());
    bench.run(&["pull", &subject, "-o", "got", "--platform", "linux/arm64"]).ok();
    bench.run(&["verify", "--integrity-only", "got"]).ok();
    let shown = bench.run(&["inspect", "got"]).ok().stdout;
    assert!(shown.contains("linux/arm64") && !shown.contains("linux/amd64"), "{shown}");
    assert_eq!(registry.asked("/blobs/"), 3);
    let error = bench.run(&["pull", &subject, "-o", "other", "--platform", "linux/s390x"]).exits(2);
    assert!(error.stderr.contains("error[E-SELECT]"), "{}", error.stderr);
    assert!(!bench.path("other").exists());
}

/// Docker's own types, and a tag that does not say of what kind it is.
#[test]
fn dockers_types() {
    let mut sample = Sample::small();
    let replaced = |text: &str| {
        text.replace(media_type::MANIFEST, media_type::DOCKER_MANIFEST)
            .replace(media_type::CONFIG, media_type::DOCKER_CONFIG)
            .replace(media_type::LAYER_GZIP, media_type::DOCKER_LAYER_GZIP)
    };
    let digest: dmoci_layers::Digest = sample.root()["digest"].as_str().unwrap().parse().unwrap();
    let manifest = replaced(std::str::from_utf8(&sample.blobs[&digest]).unwrap());
    let manifest = sample.put(media_type::DOCKER_MANIFEST, manifest.into_bytes());
    let list = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_INDEX,
        "manifests": [{"mediaType": media_type::DOCKER_MANIFEST, "digest": manifest.digest.to_string(), "size": manifest.size,
                       "platform": {"os": "linux", "architecture": "amd64"}}],
    });
    let list = sample.put(media_type::DOCKER_INDEX, json::canonical(&list));
    sample.name(list);
    let layout = sample.layout();
    let registry = Registry::start();
    registry.load(layout.path(), "app", "1.0");
    let bench = Bench::new();
    let subject = format!("docker://{}/app:1.0", registry.host());
    bench.run(&["pull", &subject, "-o", "got"]).ok();
    bench.run(&["verify", "--integrity-only", "got"]).ok();
    bench.run(&["inspect", &subject]).ok();
}

#[test]
fn a_layout_of_somebody_else_is_not_replaced() {
    let layout = Sample::small().layout();
    let registry = Registry::start();
    registry.load(layout.path(), "app", "latest");
    let bench = Bench::new();
    let subject = format!("docker://{}/app", registry.host());
    for (file, content) in [("notes.txt", "mine"), ("index.json", r#"{"schemaVersion":2,"manifests":[]}"#)] {
        let dir = bench.path(file).with_extension("d");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), content).unwrap();
        let run = bench.run(&["pull", &subject, "-o", dir.to_str().unwrap()]).exits(2);
        assert!(run.stderr.contains("E-OUTPUT-FOREIGN"), "{}", run.stderr);
        assert_eq!(fs::read_to_string(dir.join(file)).unwrap(), content);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }
    bench.run(&["pull", &subject, "-o", "new"]).ok();
    let names: Vec<_> = tree(&bench.path("new")).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names.len(), 2 + 3, "{names:?}");
}

#[test]
fn errors_say_where_what_and_who_asked() {
    let layout = Sample::small().layout();
    let registry = Registry::start();
    registry.load(layout.path(), "acme/app", "1.0");
    let bench = Bench::new();
    let host = registry.host();
    let missing = bench.run(&["inspect", &format!("docker://{host}/acme/app:2.0")]).exits(6).stderr;
    for part in [
        "error[E-REGISTRY-MISSING]",
        "read the manifest 2.0 of",
        &format!("{host}/acme/app"),
        "404 (MANIFEST_UNKNOWN: said by the test)",
        "no credentials",
        "there are the tags 1.0",
    ] {
        assert!(missing.contains(part), "{part}: {missing}");
    }
    let server = crate::support::server::Server::start(|_| {
        crate::support::server::Reply::new("404 Not Found", &[], b"")
    });
    let none = bench.run(&["inspect", &format!("127.0.0.1:{}/a:1", server.port())]).exits(6).stderr;
    assert!(none.contains("error[E-REGISTRY]") && none.contains("is no registry"), "{none}");
    // Nothing answers, and a registry that is only read.
    let gone = bench.run(&["inspect", "127.0.0.1:1/a:1"]).exits(6).stderr;
    assert!(gone.contains("help: check the host and its port"), "{gone}");
    let read_only = Registry::with(|asked, reply| match asked.method == "POST" {
        true => crate::support::server::Reply::new("405 Method Not Allowed", &[], b""),
        false => reply,
    });
    let to = format!("docker://{}/app:1", read_only.host());
    let refused = bench.run(&["push", layout.path().to_str().unwrap(), &to]).exits(6).stderr;
    assert!(refused.contains("write the blob") && refused.contains("only be read"), "{refused}");
    let offline = bench.run(&["inspect", "--help"]).ok().stdout;
    assert!(offline.contains("--plain-http") && offline.contains("--ca-file"));
    for subject in ["docker://debian", "docker://a.example/B"] {
        let error = bench.run(&["inspect", subject]).exits(2).stderr;
        assert!(error.contains("names no image in a registry"), "{error}");
    }
}
