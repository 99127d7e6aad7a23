//! `dmoci diff`: two built images that differ in one thing, for every thing.

use std::fs;

use serde_json::Value;

use crate::support::{Project, Run};

const HEAD: &str = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n";

/// A tar with one entry `a/x`, written by other code than dmoci's.
fn tar_of(change: impl FnOnce(&mut tar::Header, &mut Vec<(&'static str, &'static [u8])>)) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("a/x").unwrap();
    header.set_mode(0o644);
    header.set_size(0);
    let mut pax = Vec::new();
    change(&mut header, &mut pax);
    header.set_cksum();
    if !pax.is_empty() {
        out.append_pax_extensions(pax).unwrap();
    }
    out.append(&header, &b""[..]).unwrap();
    out.into_inner().unwrap()
}

/// Two images from specs that differ.
struct Two(Project);

impl Two {
    fn new(left: &str, right: &str) -> Two {
        let two = Two(Project::new());
        two.build("left", left);
        two.build("right", right);
        two
    }

    /// One entry of a layer each.
    fn layers(left: &str, right: &str) -> Two {
        let spec = |entry| format!("{HEAD}[[layer]]\nname = \"l\"\n{entry}\n");
        Two::new(&spec(left), &spec(right))
    }

    /// One archive each.
    fn archives(left: &[u8], right: &[u8]) -> Two {
        let two = Two(Project::new());
        let entry = r#"archive = [{ path = "a.tar", to = "/", owner = "archive", devices = "keep" }]"#;
        for (name, tar) in [("left", left), ("right", right)] {
            two.0.write("a.tar", tar);
            two.build(name, &format!("{HEAD}[[layer]]\nname = \"l\"\n{entry}\n"));
        }
        two
    }

    fn build(&self, name: &str, spec: &str) {
        self.0.write("dmoci.toml", spec);
        self.0.dmoci(&["build", "-o", name]).ok();
    }

    fn run(&self, more: &[&str]) -> Run {
        self.0.dmoci(&[&["diff", "left/image", "right/image"], more].concat())
    }

    /// Place, left, right and first differing byte of each difference.
    fn json(&self) -> Vec<String> {
        let run = self.run(&["--json"]).exits(1);
        let value: Value = serde_json::from_str(&run.stdout).unwrap();
        let shown = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let line = |difference: &Value| {
            let [place, left, right] = ["place", "left", "right"].map(|key| shown(&difference[key]));
            let offset = difference["offset"].as_u64().map(|at| format!(" @{at}")).unwrap_or_default();
            format!("{place}: {left} | {right}{offset}")
        };
        value["differences"].as_array().unwrap().iter().map(line).collect()
    }
}

#[track_caller]
fn told(two: &Two, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|line| format!("/linux~1amd64{line}")).collect();
    assert_eq!(two.json(), expected);
}

#[test]
fn fields_that_a_spec_decides() {
    let file = |rest: &str| format!("file = [{{ path = \"/x\", {rest} }}]");
    let plain = file("content = \"hello\"");
    for (other, expected) in [
        (file("content = \"help!\""), &["/layers/0/x/content: \"lo\" | \"p!\" @3"][..]),
        (
            file("content = \"hell\""),
            &["/layers/0/x/size: 5 | 4", "/layers/0/x/content: \"o\" | the end of the file @4"],
        ),
        (file("content = \"hello\", mode = \"0755\""), &["/layers/0/x/mode: 0644 | 0755"]),
        (file("content = \"hello\", owner = \"7:0\""), &["/layers/0/x/uid: 0 | 7"]),
        (file("content = \"hello\", owner = \"0:8\""), &["/layers/0/x/gid: 0 | 8"]),
        ("directory = [{ path = \"/x\", mode = \"0644\" }]".into(), &["/layers/0/x/kind: file | directory"]),
        (file("content = \"hello\" }, { path = \"/y\", content = \"\""), &["/layers/0/y/presence: - | file"]),
    ] {
        told(&Two::layers(&plain, &other), expected);
    }
    let link = |target| format!("symlink = [{{ path = \"/x\", target = \"{target}\" }}]");
    told(&Two::layers(&link("a"), &link("b")), &["/layers/0/x/target: a | b"]);
}

#[test]
fn fields_that_only_archives_have() {
    let device = |minor| {
        tar_of(|header, _| {
            header.set_entry_type(tar::EntryType::Char);
            header.set_device_major(1).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    };
    told(&Two::archives(&device(3), &device(5)), &["/layers/0/a~1x/device: 1:3 | 1:5"]);
    let attribute = |value: &'static [u8]| tar_of(|_, pax| pax.push(("SCHILY.xattr.user.k", value)));
    told(&Two::archives(&attribute(b"1"), &attribute(b"2")), &["/layers/0/a~1x/xattrs/user.k: 1 | 2"]);
}

#[test]
fn documents() {
    let spec = |rest: &str| {
        format!("{HEAD}{rest}\n[[layer]]\nname = \"l\"\nfile = [{{ path = \"/f\", content = \"\" }}]\n")
    };
    for (left, right, expected) in [
        ("labels = { k = \"1\" }", "labels = { k = \"2\" }", "/config/config/Labels/k: \"1\" | \"2\""),
        ("user = \"1\"", "", "/config/config/User: \"1\" | -"),
        (
            "annotations = { \"a/b\" = \"1\" }",
            "annotations = { \"a/b\" = \"2\" }",
            "/manifest/annotations/a~1b: \"1\" | \"2\"",
        ),
    ] {
        told(&Two::new(&spec(left), &spec(right)), &[expected]);
    }
    let several = |platforms: &str| {
        HEAD.replace("\"linux/amd64\"", platforms)
            + "[[layer]]\nname = \"l\"\nfile = [{ path = \"/f\", content = \"${platform.oci}\" }]\n"
    };
    let two = Two::new(
        &several("\"linux/amd64\", \"linux/arm64\""),
        &several("\"linux/amd64\", \"linux/riscv64\""),
    );
    let found = two.json();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("/linux~1arm64/manifest/presence: ") && found[0].ends_with("| -"),
        "{found:?}"
    );
    assert!(found[1].starts_with("/linux~1riscv64/manifest/presence: - |"), "{found:?}");
}

#[test]
fn recompressed_is_told_apart() {
    let spec = |compression: &str| {
        format!(
            "{HEAD}compression = \"{compression}\"\n[[layer]]\nname = \"l\"\nfile = [{{ path = \"/f\", content = \"f\" }}]\n"
        )
    };
    let two = Two::new(&spec("gzip"), &spec("zstd"));
    let run = two.run(&[]).exits(1);
    assert!(
        run.stdout.contains("layer 1 'l' of linux/amd64: same content, recompressed\n"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.ends_with("SAME CONTENT, RECOMPRESSED: left/image and right/image\n"),
        "{}",
        run.stdout
    );
    assert_eq!(two.json().len(), 1);
}

#[test]
fn for_people() {
    let two = Two::layers(
        "file = [{ path = \"/x\", content = \"one\" }]",
        "file = [{ path = \"/x\", content = \"two\" }]",
    );
    assert_eq!(
        two.run(&[]).exits(1).stdout,
        "\
layer 1 'l' of linux/amd64: /x
  content, from byte 0: left \"one\", right \"two\"
layer 1 'l' of linux/amd64: 0 added, 0 removed, 1 changed
DIFFERENT CONTENT: left/image and right/image
"
    );
    assert_eq!(
        two.run(&["--summary"]).exits(1).stdout,
        "\
layer 1 'l' of linux/amd64: 0 added, 0 removed, 1 changed
1 difference
DIFFERENT CONTENT: left/image and right/image
"
    );
    // The same image in another form of store is the same.
    two.0.dmoci(&["export", "left/image", "-o", "oci-archive:left.tar"]).ok();
    let same = two.0.dmoci(&["diff", "left.tar", "oci:left/image"]).ok();
    assert_eq!(same.stdout, "THE SAME: left.tar and oci:left/image\n");
}

#[test]
fn what_cannot_be_compared() {
    let entry = |content: &str| format!("file = [{{ path = \"/x\", content = \"{content}\" }}]");
    let two = Two::layers(&entry("one"), &entry("two"));
    assert!(two.0.dmoci(&["diff", "left/image", "nothing"]).exits(6).stderr.contains("E-SUBJECT-NOT-FOUND"));
    assert!(two.0.dmoci(&["diff", "left/image", "oci:right/image:no"]).exits(2).stderr.contains("E-SELECT"));
    let digests: Value =
        serde_json::from_slice(&fs::read(two.0.path("right/digests.json")).unwrap()).unwrap();
    let layer = digests["platforms"][0]["layers"][0]["digest"].as_str().unwrap();
    let blob = two.0.path("right/image/blobs/sha256").join(&layer["sha256:".len()..]);
    let mut bytes = fs::read(&blob).unwrap();
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let run = two.run(&[]).exits(1);
    assert!(run.stderr.contains("error[E-LAYER]: layer 1 of linux/amd64 in right/image"), "{}", run.stderr);
    assert!(run.stderr.contains("dmoci verify"), "{}", run.stderr);
}
