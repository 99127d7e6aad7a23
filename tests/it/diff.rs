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

/// An archive as `docker save` wrote it before version 25: a configuration and plain layers, and no OCI documents.
fn saved(two: &Two, image: &str, plain: &str, archive: &str) {
    let digests = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(two.0.path(&format!("{name}/digests.json"))).unwrap()).unwrap()
    };
    let blob = |name: &str, digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        (fs::read(two.0.path(&format!("{name}/image/blobs/sha256/{hex}"))).unwrap(), hex)
    };
    let (config, hex) = blob(image, &digests(image)["platforms"][0]["config"]["digest"]);
    let (layer, _) = blob(plain, &digests(plain)["platforms"][0]["layers"][0]["digest"]);
    let manifest = format!(r#"[{{"Config":"{hex}.json","RepoTags":["x:1"],"Layers":["l/layer.tar"]}}]"#);
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in
        [("manifest.json", manifest.as_bytes()), (&format!("{hex}.json"), &config), ("l/layer.tar", &layer)]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, bytes).unwrap();
    }
    two.0.write(archive, out.into_inner().unwrap());
}

/// Nobody wrote the manifest of such an archive, so it cannot be another one.
#[test]
fn a_side_without_a_manifest() {
    let spec = |compression: &str, content: &str| {
        format!(
            "{HEAD}compression = \"{compression}\"\nannotations = {{ a = \"b\" }}\n[[layer]]\nname = \"l\"\n\
             file = [{{ path = \"/f\", content = \"{content}\" }}]\n"
        )
    };
    let two = Two::new(&spec("gzip", "f"), &spec("none", "f"));
    saved(&two, "left", "right", "saved.tar");
    let run = two.0.dmoci(&["diff", "left/image", "saved.tar"]).exits(1);
    let end = "\
layer 1 'l' of linux/amd64: same content, recompressed
right has no manifest of its own: configurations and layers were compared
SAME CONTENT, RECOMPRESSED: left/image and saved.tar
";
    assert!(run.stdout.ends_with(end) && !run.stdout.contains("manifest of linux"), "{}", run.stdout);
    let run = two.0.dmoci(&["diff", "docker-archive:saved.tar", "right/image"]).ok();
    assert_eq!(
        run.stdout,
        "left has no manifest of its own: configurations and layers were compared\n\
         THE SAME: docker-archive:saved.tar and right/image\n"
    );
    let run = two.0.dmoci(&["diff", "--json", "saved.tar", "right/image"]).ok();
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["manifests"], serde_json::json!({"left": false, "right": true}));
    // What differs is told as ever.
    two.build("right", &spec("none", "g").replace("[[layer]]", "user = \"5\"\n[[layer]]"));
    let run = two.0.dmoci(&["diff", "--summary", "saved.tar", "right/image"]).exits(1);
    assert!(run.stdout.starts_with("config of linux/amd64: 1 difference\nlayer 1"), "{}", run.stdout);
    assert!(!run.stdout.contains("manifest of linux"), "{}", run.stdout);
}

#[test]
fn one_platform_of_several() {
    let spec = HEAD.replace("\"linux/amd64\"", "\"linux/amd64\", \"linux/arm64\"")
        + "[[layer]]\nname = \"l\"\nfile = [{ path = \"/f\", content = \"${platform.oci}\" }]\n";
    let two = Two::new(&spec, &spec);
    let export = ["export", "left/image", "--platform", "linux/arm64", "-o", "docker-archive:arm.tar"];
    two.0.dmoci(&export).ok();
    let diff = |more: &[&str]| two.0.dmoci(&[&["diff", "left/image", "arm.tar"], more].concat());
    assert!(diff(&[]).exits(1).stdout.contains("manifest of linux/amd64\n"));
    assert_eq!(diff(&["--platform", "linux/arm64"]).ok().stdout, "THE SAME: left/image and arm.tar\n");
    let run = diff(&["--platform", "linux/amd64"]).exits(2);
    assert!(run.stderr.contains("arm.tar: no image for this platform"), "{}", run.stderr);
    assert!(run.stderr.contains("there are: linux/arm64"), "{}", run.stderr);
    let summary = diff(&["--summary"]).exits(1).stdout;
    assert!(summary.contains("manifest of linux/amd64: only left\n"), "{summary}");
}

#[test]
fn a_summary_of_documents() {
    let spec = |rest: &str| {
        format!("{HEAD}{rest}\n[[layer]]\nname = \"l\"\nfile = [{{ path = \"/f\", content = \"\" }}]\n")
    };
    let two = Two::new(
        &spec("user = \"1\"\nlabels = { k = \"1\" }"),
        &spec("labels = { k = \"2\" }\nannotations = { a = \"1\" }"),
    );
    assert_eq!(
        two.run(&["--summary"]).exits(1).stdout,
        "\
manifest of linux/amd64: 1 difference
config of linux/amd64: 2 differences
3 differences
DIFFERENT CONTENT: left/image and right/image
"
    );
}

/// A tool that adds an image leaves dmoci's annotation in `index.json` as it was.
#[test]
fn a_layout_that_another_tool_has_changed() {
    let spec = format!(
        "{HEAD}name = \"registry.example/x\"\ntags = [\"1\"]\n[[layer]]\nname = \"l\"\n\
         file = [{{ path = \"/f\", content = \"\" }}]\n"
    );
    let two = Two::new(&spec, &spec.replace("/f", "/g"));
    let index = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(two.0.path(&format!("{name}/image/index.json"))).unwrap()).unwrap()
    };
    let mut added = index("right")["manifests"][0].clone();
    added["annotations"]["org.opencontainers.image.ref.name"] = "new".into();
    let mut changed = index("left");
    changed["manifests"].as_array_mut().unwrap().push(added.clone());
    fs::rename(two.0.path("left/image"), two.0.path("changed")).unwrap();
    two.0.write("changed/index.json", changed.to_string());
    for blob in fs::read_dir(two.0.path("right/image/blobs/sha256")).unwrap() {
        let name = blob.unwrap().file_name();
        let from = two.0.path("right/image/blobs/sha256").join(&name);
        fs::copy(from, two.0.path("changed/blobs/sha256").join(&name)).unwrap();
    }
    let digest = added["digest"].as_str().unwrap();
    let run = two.0.dmoci(&["inspect", "changed"]).ok();
    assert!(run.stdout.contains("tag  new") && run.stdout.contains(digest), "{}", run.stdout);
    // The old tag is that of one image still, whatever the full name of the new one says.
    two.0.dmoci(&["diff", "oci:changed:new", "right/image"]).ok();
    two.0.dmoci(&["diff", "oci:changed:1", "right/image"]).exits(1);
    // Nobody vouches for names and tags: verify, and what goes by them, says so.
    let run = two.0.dmoci(&["verify", "--integrity-only", "changed"]).exits(1);
    assert!(run.stdout.contains("E-INDEX-DIGEST") && run.stdout.contains("another tool"), "{}", run.stdout);
    let run = two.0.dmoci(&["export", "oci:changed:new", "-o", "oci-archive:a.tar"]).exits(1);
    for word in ["error[E-INDEX-DIGEST]", "skopeo copy --all oci:changed:TAG oci:NEW:TAG"] {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    let base = |base: &str| {
        two.0.write("dmoci.toml", spec.replacen("name =", &format!("base = \"{base}\"\nname ="), 1))
    };
    base("oci:changed:new");
    let run = two.0.dmoci(&["check"]).exits(1);
    for word in ["error[E-BASE]", "E-INDEX-DIGEST", "help: ", "skopeo copy", "@sha256:", "dmoci.toml:"] {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    base(&format!("oci:changed@{digest}"));
    two.0.dmoci(&["build", "-o", "above"]).ok();
    two.0.dmoci(&["verify", "--integrity-only", "above/image"]).ok();
    // By its digest it is the image that is meant; damage to that is damage.
    let config = added["size"].as_u64().unwrap();
    let blob = two.0.path("changed/blobs/sha256").join(&digest["sha256:".len()..]);
    assert_eq!(fs::metadata(&blob).unwrap().len(), config);
    fs::write(&blob, "{}").unwrap();
    two.0.dmoci(&["check"]).exits(1);
}

#[test]
fn what_cannot_be_compared() {
    let entry = |content: &str| format!("file = [{{ path = \"/x\", content = \"{content}\" }}]");
    let two = Two::layers(&entry("one"), &entry("two"));
    assert!(two.0.dmoci(&["diff", "left/image", "nothing"]).exits(6).stderr.contains("E-SUBJECT-NOT-FOUND"));
    let nothing = two.0.dmoci(&["diff", "left/image", "nothing"]).stderr;
    assert!(nothing.contains("docker-daemon:NAME") && !nothing.contains("daemons"), "{nothing}");
    assert!(two.0.dmoci(&["diff", "left/image", "oci:right/image:no"]).exits(2).stderr.contains("E-SELECT"));
    // "1" would say that they differ.
    let refused = |right: &str, words: &[&str]| {
        let run = two.0.dmoci(&["diff", "left/image", right]).exits(2);
        for word in words {
            assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
        }
    };
    refused("right", &["error[E-NO-IMAGE]", "help: name the image that lies in it: right/image"]);
    two.0.write("empty/x", "");
    refused("empty", &["error[E-NO-IMAGE]: empty holds no image"]);
    for text in ["short\n".to_owned(), "a line that is no header of an archive\n".repeat(100)] {
        two.0.write("text", text);
        refused(
            "text",
            &["error[E-NO-IMAGE]: text holds no image: it is no archive", "help: name a directory"],
        );
    }
    let other = format!("right/image@sha256:{}", "0".repeat(64));
    let manifest = two.0.dmoci(&["inspect", "right/image", "--json"]).ok();
    let manifest: Value = serde_json::from_str(&manifest.stdout).unwrap();
    let manifest = manifest["images"][0]["manifest"].as_str().unwrap();
    refused(&other, &["error[E-SELECT]", &format!("help: there are: {manifest} (linux/amd64)\n")]);
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
