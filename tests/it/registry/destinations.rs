//! Where images go, and what is said when that cannot be meant.

use dmoci::oci::json;
use dmoci_layers::Compression;
use serde_json::Value;

use super::Bench;
use crate::support::registry::Registry;
use crate::verify::Sample;

/// An image for one processor.
fn single(architecture: &str) -> Sample {
    let mut sample = Sample::default();
    let layer = sample.layer(Compression::Gzip, &[("app/on", architecture.as_bytes())]);
    let root = sample.image(architecture, &[("app", layer)]);
    sample.name(root);
    sample
}

/// The tags of a layout, in its order.
fn tags(bench: &Bench, layout: &str) -> Vec<String> {
    let index = json::parse(&std::fs::read(bench.path(layout).join("index.json")).unwrap()).unwrap();
    let tag =
        |one: &Value| one["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
    index["manifests"].as_array().unwrap().iter().filter_map(tag).collect()
}

#[test]
fn an_image_comes_to_those_of_a_layout_under_a_tag() {
    let (registry, bench) = (Registry::start(), Bench::new());
    let arm = single("arm64").layout();
    let first = registry.load(arm.path(), "app", "arm");
    let second = registry.load(single("amd64").layout().path(), "app", "amd");
    let subject = |tag: &str| format!("docker://{}/app:{tag}", registry.host());
    bench.run(&["copy", &subject("arm"), "oci:got:v1"]).ok();
    let added = bench.run(&["pull", &subject("amd"), "-o", "oci:got:v2"]).ok();
    assert_eq!(added.stdout, format!("image     {}  {second}\n", subject("amd")), "what came, alone");
    assert_eq!(tags(&bench, "got"), ["v1", "v2"]);
    bench.run(&["verify", "--integrity-only", "got"]).ok();
    bench.run(&["diff", "oci:got:v1", &subject("arm")]).ok();
    // The index comes too, and what it joins stays.
    bench.run(&["index", "create", &subject("arm"), &subject("amd"), "--to", "oci:got:all"]).ok();
    assert_eq!(tags(&bench, "got"), ["v1", "v2", "all"]);
    // Under a tag that is there the new takes the place of the old.
    bench.run(&["copy", arm.path().to_str().unwrap(), "oci:got:v2"]).ok();
    assert_eq!(tags(&bench, "got"), ["v1", "all", "v2"]);
    bench.run(&["verify", "--integrity-only", "got"]).ok();
    let shown = bench.run(&["inspect", "--json", "oci:got:v2"]).ok().stdout;
    assert!(shown.contains(&first.to_string()), "{shown}");
    // Each line says which image it is.
    let lines = bench.run(&["pull", "got", "-o", "copied"]).ok().stdout;
    for tag in ["v1", "all", "v2"] {
        assert!(lines.contains(&format!("got:{tag}  ")), "{lines}");
    }
    // Without a tag all of the layout is replaced.
    bench.run(&["pull", &subject("amd"), "-o", "oci:got"]).ok();
    assert_eq!(tags(&bench, "got"), ["amd"]);
    let digest = bench.run(&["copy", &subject("amd"), &format!("oci:got@{second}")]).exits(2).stderr;
    assert!(digest.contains("error[E-PULL-TO]"), "{digest}");
}

#[test]
fn a_directory_does_not_get_the_name_of_an_archive() {
    let bench = Bench::new();
    let layout = single("amd64").layout();
    let from = layout.path().to_str().unwrap();
    for arguments in [
        &["copy", from, "x.tar"][..],
        &["pull", from, "-o", "x.tar"],
        &["index", "create", from, "--to", "./x.tar"],
    ] {
        let said = bench.run(arguments).exits(2).stderr;
        assert!(said.contains("error[E-PULL-TO]") && said.contains("oci-archive:"), "{arguments:?}: {said}");
        assert!(!bench.path("x.tar").exists());
    }
    bench.run(&["copy", from, "oci:x.tar"]).ok();
    bench.run(&["copy", from, "x.tar"]).ok();
}

#[test]
fn a_destination_among_the_subjects_is_told() {
    let (registry, bench) = (Registry::start(), Bench::new());
    let layout = single("amd64").layout();
    let from = layout.path().to_str().unwrap();
    registry.load(layout.path(), "app", "1.0");
    let to = format!("docker://{}/app:new", registry.host());
    for other in [&to, "oci:none:1"] {
        let said = bench.run(&["index", "create", from, "--to", "oci:made:1", other]).stderr;
        assert!(said.contains("write --to before it too"), "{said}");
    }
    assert!(!bench.path("made").exists() && registry.asked("PUT ") == 0);
}

#[test]
fn nothing_of_a_registry_is_had_offline() {
    let bench = Bench::new();
    let layout = single("amd64").layout();
    let (from, there) = (layout.path().to_str().unwrap(), "docker://registry.example/app:1.0");
    for arguments in [
        &["pull", there, "-o", "got"][..],
        &["inspect", there],
        &["push", from, there],
        &["copy", there, "got"],
        &["index", "create", from, "--to", there],
        &["tags", "registry.example/app"],
        &["delete", there],
    ] {
        let said = bench.run(&[arguments, &["--offline"]].concat()).exits(6).stderr;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("error[E-OFFLINE]") && said.contains("is in a registry"),
            "{arguments:?}: {said}"
        );
        assert!(!bench.path("got").exists());
    }
    bench.run(&["index", "create", from, "--to", "oci:got:1", "--offline"]).ok();
}

#[test]
fn a_platform_that_is_not_there_is_told_with_those_that_are() {
    let (registry, bench) = (Registry::start(), Bench::new());
    registry.load(Sample::two_platforms().layout().path(), "app", "1.0");
    let subject = format!("docker://{}/app:1.0", registry.host());
    let said = bench.run(&["pull", &subject, "-o", "got", "--platform", "linux/s390x"]).stderr;
    for part in [&subject, "linux/amd64", "linux/arm64"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = bench.run(&["pull", &subject, "-o", "docker-archive:x.tar"]).stderr;
    assert!(said.contains("name a platform") && !said.contains("tag or"), "{said}");
}

#[test]
fn a_sparse_index_is_not_pulled_whole() {
    let (registry, bench) = (Registry::start(), Bench::new());
    let layout = Sample::two_platforms().layout();
    let digest = registry.load(layout.path(), "app", "1.0");
    let gone = {
        let mut content = registry.content.lock().unwrap();
        let index = json::parse(&content.blobs[&digest.to_string()]).unwrap();
        let gone = index["manifests"][1]["digest"].as_str().unwrap().to_owned();
        content.manifests.remove(&("app".into(), gone.clone()));
        content.blobs.remove(&gone);
        gone
    };
    let subject = format!("docker://{}/app:1.0", registry.host());
    let said = bench.run(&["pull", &subject, "-o", "got"]).exits(1).stderr;
    for part in ["error[E-SPARSE]", &gone, "--platform"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    bench.run(&["pull", &subject, "-o", "got", "--platform", "linux/amd64"]).ok();
    bench.run(&["verify", "--integrity-only", "got"]).ok();
}

#[test]
fn a_name_that_is_none_is_told_with_the_reason() {
    let bench = Bench::new();
    for (subject, why) in [
        ("docker://hello", "names no registry host"),
        ("docker://registry.example/Hello:1", "lower-case"),
        ("docker://registry.example/hello:-1", "is not a tag"),
        ("docker://127.0.0.1:5599", "the repository is missing"),
    ] {
        let said = bench.run(&["inspect", subject]).exits(2).stderr;
        assert!(said.contains(why), "{subject}: {said}");
    }
    let said = bench.run(&["tags", "docker://127.0.0.1:5599"]).exits(2).stderr;
    assert!(said.contains("the repository is missing"), "{said}");
}

#[test]
fn a_dry_run_says_so_on_each_line() {
    let (registry, bench) = (Registry::start(), Bench::new());
    let layout = single("amd64").layout();
    let to = format!("docker://{}/app:1.0", registry.host());
    let from = layout.path().to_str().unwrap();
    let dry = bench.run(&["push", from, &to, "--dry-run"]).ok().stdout;
    let done = bench.run(&["push", from, &to]).ok().stdout;
    assert!(dry.starts_with("would ") && done.starts_with("image "), "{dry}{done}");
    assert_eq!(
        dry.split_whitespace().skip(1).collect::<Vec<_>>(),
        done.split_whitespace().skip(1).collect::<Vec<_>>()
    );
    // Tags that hold evidence are none that anybody asks for, and the others are sorted.
    let tag = format!("sha256-{}.sig", "a".repeat(64));
    for name in ["b", "a", &tag] {
        registry.load(layout.path(), "app", name);
    }
    let said = bench.run(&["inspect", &format!("docker://{}/app:none", registry.host())]).stderr;
    assert!(said.contains("1.0, a, b") && !said.contains("sha256-"), "{said}");
}
