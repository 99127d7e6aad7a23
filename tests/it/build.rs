//! `dmoci build`: what goes into layers, config and manifest, and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::json;

use crate::support::layers::{blob, config, digests, layer, listing, manifest};
use crate::support::{Project, Run, dmoci};

/// A spec for one platform without a name.
fn spec(rest: &str) -> String {
    format!("schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n{rest}")
}

fn copy_spec(copy: &str) -> String {
    spec(&format!("[[layer]]\nname = \"a\"\ncopy = [{copy}]\n"))
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn refused(project: &Project, code: &str, exit: i32, words: &[&str]) -> Run {
    let run = project.dmoci(&["build"]).exits(exit);
    for word in [&format!("error[{code}]"), "help:"].iter().map(|w| &**w).chain(words.iter().copied()) {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    assert_eq!(run.stdout, "");
    assert!(!project.path("dist").exists(), "something was written");
    run
}

#[test]
fn golden_example() {
    let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello");
    let out = tempfile::tempdir().unwrap();
    let mut command = dmoci();
    command.args(["build", "--epoch", "315619200", "--revision", "none", "-o"]).arg(out.path());
    let run = Run::of(command.arg("-C").arg(hello)).ok();
    assert_eq!(
        run.stdout.lines().next().unwrap(),
        "image     registry.example/hello:1.0.0   \
         sha256:c8c96731c7e1498621cb43451ec76326268f5c9a3e6c402b74dc786210c72498"
    );
    assert_eq!(run.stdout.lines().count(), 2 + 2 * (2 + 3));
    // Each digest printed is that of the bytes that are there.
    for line in run.stdout.lines() {
        let digest = json!(line.split_whitespace().last().unwrap());
        assert_eq!(dmoci_layers::Digest::sha256(&blob(out.path(), &digest)).to_string(), digest);
    }
}

#[test]
fn copied_folders_are_normalised() {
    let project = Project::with_spec(&copy_spec(
        r#"{ from = ["infra/"], to = "/opt/x", exclude = ["*.md", "cache/"], owner = "10:20" }"#,
    ));
    for (path, content) in
        [("infra/a-b", "1"), ("infra/a/c", "2"), ("infra/a.md", ""), ("infra/d/cache/x", "")]
    {
        project.write(path, content);
    }
    project.write("infra/run", "#!");
    mode(&project.path("infra/run"), 0o100);
    mode(&project.path("infra/a/c"), 0o6666);
    mode(&project.path("infra/a"), 0o700);
    symlink("../../nowhere", project.path("infra/link")).unwrap();
    fs::hard_link(project.path("infra/a-b"), project.path("infra/hard")).unwrap();
    if !rustix_is_root() {
        mode(&project.path("infra/run"), 0o500);
    }
    project.dmoci(&["build"]).ok();
    assert_eq!(
        listing(&project.path("dist"), "a"),
        "\
d 0755 0:0 opt/
d 0755 10:20 opt/x/
d 0755 10:20 opt/x/a/
- 0644 10:20 opt/x/a/c 2
- 0644 10:20 opt/x/a-b 1
d 0755 10:20 opt/x/d/
- 0644 10:20 opt/x/hard 1
l 0777 10:20 opt/x/link ../../nowhere
- 0755 10:20 opt/x/run #!"
    );
}

fn rustix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn include_takes_only_what_it_names_and_the_folders_around_it() {
    let project = Project::with_spec(&copy_spec(
        r#"{ from = ["src"], to = "/s", include = ["*.py", "data/"], exclude = ["test_*"], dir-mode = "0700", file-mode = "0600" }"#,
    ));
    for path in ["src/a/x.py", "src/a/x.c", "src/b/y.c", "src/a/test_x.py", "src/q/data/deep/z", "src/r/data"]
    {
        project.write(path, "");
    }
    project.dmoci(&["build"]).ok();
    assert_eq!(
        listing(&project.path("dist"), "a"),
        "\
d 0700 0:0 s/
d 0700 0:0 s/a/
- 0600 0:0 s/a/x.py
d 0700 0:0 s/q/
d 0700 0:0 s/q/data/
d 0700 0:0 s/q/data/deep/
- 0600 0:0 s/q/data/deep/z"
    );
}

#[test]
fn single_files_go_to_a_name_or_into_a_directory() {
    let project = Project::with_spec(&copy_spec(
        r#"{ from = ["a.txt"], to = "/x/b.txt" }, { from = ["a.txt", "l"], to = "/y/" }"#,
    ));
    project.write("a.txt", "A");
    symlink("a.txt", project.path("l")).unwrap();
    project.dmoci(&["build"]).ok();
    let files: Vec<_> = layer(&project.path("dist"), "a").into_iter().filter(|e| e.kind == '-').collect();
    let paths: Vec<_> = files.iter().map(|e| (e.path.as_str(), e.content.as_str())).collect();
    assert_eq!(paths, [("x/b.txt", "A"), ("y/a.txt", "A"), ("y/l", "A")]);
}

#[test]
fn parents_have_what_the_layers_below_say() {
    let project = Project::with_spec(&spec(
        r#"
[[layer]]
name = "below"
directory = [{ path = "/opt", mode = "0711", owner = "7:8" }, { path = "/usr/lib", mode = "0700" }]
symlink = [{ path = "/lib", target = "usr/lib" }, { path = "/loop", target = "loop" }]
[[layer]]
name = "above"
copy = [{ from = ["tree/"], to = "/" }]
file = [{ path = "/opt/x/y", content = "" }, { path = "/lib/f", content = "" }]
"#,
    ));
    project.write("tree/lib/g", "through the link");
    project.write("tree/srv/h", "");
    project.dmoci(&["build"]).ok();
    assert_eq!(
        listing(&project.path("dist"), "above"),
        "\
d 0711 7:8 opt/
d 0755 0:0 opt/x/
- 0644 0:0 opt/x/y
d 0755 0:0 srv/
- 0644 0:0 srv/h
d 0755 0:0 usr/
d 0755 0:0 usr/lib/
- 0644 0:0 usr/lib/f
- 0644 0:0 usr/lib/g through the link"
    );
}

#[test]
fn the_whole_configuration() {
    let project = Project::with_spec(
        r#"schema = 1
[image]
name = "registry.example/acme/km"
tags = ["${version}", "latest"]
platforms = ["linux/arm/v7"]
entrypoint = ["/bin/x"]
cmd = ["-v"]
user = "10:20"
workdir = "/w"
ports = ["8000/tcp"]
volumes = ["/data"]
stop-signal = "SIGINT"
env = { B = "2", A = "1", PATH = "/x:${base.PATH}" }
labels = { l = "v" }
annotations = { "org.example.note" = "n" }
compression = "zstd"
users = [{ name = "km", uid = 10, gid = 20, home = "/w" }]
[image.healthcheck]
test = ["CMD", "km"]
interval = "1500ms"
retries = 3
[[layer]]
name = "a"
file = [{ path = "/v", content = "${version} ${platform.oci} ${platform.debian} ${platform.uname} $$" }]
"#,
    )
    .file(
        "pyproject.toml",
        "[project]\nversion = \"3.1\"\n[project.urls]\nSource = \"https://registry.example/src\"\n",
    );
    let arguments = ["build", "--epoch", "1700000000", "--revision", "abc"];
    let run = project.dmoci(&arguments).ok();
    assert!(run.stdout.contains("image     registry.example/acme/km:3.1     sha256:"), "{}", run.stdout);
    let dist = project.path("dist");
    let config = config(&dist);
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/bin/x"], "Cmd": ["-v"], "User": "10:20", "WorkingDir": "/w",
            "ExposedPorts": {"8000/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
            "Env": ["PATH=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1", "B=2"],
            "Labels": {"l": "v"},
            "Healthcheck": {"Test": ["CMD", "km"], "Interval": 1_500_000_000u64, "Retries": 3},
        })
    );
    let about = ["os", "architecture", "variant", "created"].map(|key| config[key].as_str().unwrap());
    assert_eq!(about, ["linux", "arm", "v7", "2023-11-14T22:13:20Z"]);
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
    let manifest = manifest(&dist);
    assert_eq!(
        manifest["annotations"],
        json!({
            "dev.dmoci.rules": "1",
            "org.example.note": "n",
            "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
            "org.opencontainers.image.revision": "abc",
            "org.opencontainers.image.source": "https://registry.example/src",
            "org.opencontainers.image.version": "3.1",
        })
    );
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    let zstd = blob(&dist, &manifest["layers"][0]["digest"]);
    assert_eq!(zstd[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let json_run = project.dmoci(&["build", "--epoch", "1700000000", "--revision", "abc", "--json"]).ok();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json_run.stdout).unwrap(), digests(&dist));
}

#[test]
fn users_are_added_to_the_topmost_files() {
    let project = Project::with_spec(&spec(
        r#"users = [{ name = "km", uid = 10, gid = 20, home = "/w" }, { name = "two", uid = 11, gid = 0, home = "/" }]
[[layer]]
name = "a"
file = [{ path = "/etc/passwd", content = "root:x:0:0::/root:/bin/sh" }, { path = "/etc/group", content = "root:x:0:\n" }]
"#,
    ));
    project.dmoci(&["build"]).ok();
    let files = layer(&project.path("dist"), "users");
    let contents: Vec<_> = files.iter().map(|e| (e.path.as_str(), e.content.as_str())).collect();
    assert_eq!(contents[0], ("etc/", ""));
    assert_eq!(contents[1], ("etc/group", "root:x:0:\nkm:x:20:\n"));
    assert_eq!(contents[2].0, "etc/passwd");
    assert!(contents[2].1.starts_with("root:x:0:0::/root:/bin/sh\nkm:x:10:20::/w:"), "{}", contents[2].1);
    project.write(
        "dmoci.toml",
        fs::read_to_string(project.path("dmoci.toml")).unwrap().replace("root:x:0:0", "km:x:5:5"),
    );
    fs::remove_dir_all(project.path("dist")).unwrap();
    refused(&project, "E-USERS", 2, &["/etc/passwd", "km:x:5:5"]);
}

#[test]
fn two_inputs_of_one_path() {
    let project =
        Project::with_spec(&copy_spec(r#"{ from = ["a"], to = "/x" }, { from = ["b"], to = "/x" }"#));
    project.write("a/same", "1");
    project.write("b/same", "1");
    project.dmoci(&["build"]).ok();
    fs::remove_dir_all(project.path("dist")).unwrap();
    for (content, words) in [("2", "with different content"), ("22", "with different content, mode")] {
        project.write("b/same", content);
        let run = refused(&project, "E-PATH-CONFLICT", 2, &["/x/same", words]);
        assert!(run.stderr.contains("-----") && run.stderr.contains("^^^^^"), "both inputs\n{}", run.stderr);
    }
    fs::remove_file(project.path("b/same")).unwrap();
    project.write("b/same/deeper", "");
    refused(&project, "E-PATH-CONFLICT", 2, &["/x/same", "kind"]);
}

#[test]
fn layers_do_not_replace_one_kind_by_another() {
    let below = "[[layer]]\nname = \"a\"\ndirectory = [{ path = \"/d\" }]\nfile = [{ path = \"/f\", content = \"\" }]\n\
                 [[layer]]\nname = \"b\"\n";
    let project =
        Project::with_spec(&spec(&format!("{below}file = [{{ path = \"/d\", content = \"\" }}]\n")));
    refused(&project, "E-PATH-KIND", 2, &["/d is a directory"]);
    project.write("dmoci.toml", spec(&format!("{below}directory = [{{ path = \"/f\" }}]\n")));
    refused(&project, "E-PATH-KIND", 2, &["/f is a file"]);
}

#[test]
fn bad_sources() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#));
    refused(&project, "E-SOURCE-MISSING", 2, &["src does not exist", "dmoci.toml:6:"]);
    project.write("src/.wh.x", "");
    refused(&project, "E-SOURCE-WHITEOUT", 2, &["src/.wh.x", "dmoci.toml:6:"]);
    fs::remove_file(project.path("src/.wh.x")).unwrap();
    let fifo = project.path("src/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(&project, "E-SOURCE-SPECIAL", 2, &["src/pipe is a FIFO", "dmoci.toml:6:"]);
    fs::remove_file(&fifo).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(project.path("src/s")).unwrap();
    refused(&project, "E-SOURCE-SPECIAL", 2, &["src/s is a socket"]);
    fs::remove_file(project.path("src/s")).unwrap();
    fs::remove_dir(project.path("src")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), project.path("src")).unwrap();
    refused(&project, "E-SOURCE-OUTSIDE", 2, &["src leads out of the project"]);
}

#[test]
fn an_unreadable_file() {
    if rustix_is_root() {
        println!("skipped: root reads everything");
        return;
    }
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "");
    mode(&project.path("src/f"), 0);
    refused(&project, "E-SOURCE-READ", 6, &["src/f", "ermission denied"]);
}

#[test]
fn a_failed_build_leaves_the_old_image() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    project.dmoci(&["build"]).ok();
    let before = snapshot(&project.path("dist"));
    project.write("src/.wh.f", "");
    project.dmoci(&["build"]).exits(2);
    assert_eq!(snapshot(&project.path("dist")), before);
    fs::remove_file(project.path("src/.wh.f")).unwrap();
    project.write("src/f", "2");
    project.dmoci(&["build"]).ok();
    let after = snapshot(&project.path("dist"));
    assert_ne!(after, before);
    // Nothing of the old image is left: manifest, config, layer, index.json, oci-layout, digests.json,
    // build.log and the `.gitignore`.
    assert_eq!(after.len(), 8);
}

fn snapshot(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push((path.display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_in_the_way_is_not_overwritten() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    project.write("dist/image/notes.txt", "mine");
    let run = project.dmoci(&["build"]).exits(2);
    assert!(
        run.stderr.contains("error[E-OUTPUT-FOREIGN]") && run.stderr.contains("notes.txt"),
        "{}",
        run.stderr
    );
    assert_eq!(fs::read_to_string(project.path("dist/image/notes.txt")).unwrap(), "mine");
}

#[test]
fn the_output_is_not_copied_into_itself() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["."], to = "/x" }"#)).file("src/f", "1");
    refused(&project, "E-SOURCE-OUTPUT", 2, &["dist is in the output"]);
    project.write("dmoci.toml", copy_spec(r#"{ from = ["."], to = "/x", exclude = ["dist/"] }"#));
    project.dmoci(&["build"]).ok();
    let first = digests(&project.path("dist"));
    project.dmoci(&["build"]).ok();
    assert_eq!(digests(&project.path("dist")), first);
}

#[test]
fn unfinished_files_are_no_input_of_a_build_into_the_project() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["."], to = "/x" }"#)).file("src/f", "1");
    let run = project.dmoci(&["build", "-o", "."]).exits(2);
    assert!(
        run.stderr.contains("error[E-SOURCE-OUTPUT]") && run.stderr.contains(".dmoci-tmp"),
        "{}",
        run.stderr
    );
    assert!(!project.path("image").exists() && !project.path(".dmoci-tmp").exists());
    let exclude = r#"exclude = [".dmoci-tmp", "image", ".gitignore", "digests.json", "build.log"]"#;
    project.write("dmoci.toml", copy_spec(&format!(r#"{{ from = ["."], to = "/x", {exclude} }}"#)));
    project.dmoci(&["build", "-o", "."]).ok();
    project.dmoci(&["build", "--twice", "-o", "."]).ok();
    assert!(project.path("image/index.json").exists() && !project.path(".dmoci-tmp").exists());
}

#[test]
fn the_output_is_no_base_and_no_foreign_layout_is_replaced() {
    let copy = copy_spec(r#"{ from = ["src"], to = "/x" }"#);
    let project = Project::with_spec(&copy).file("src/f", "1");
    project.dmoci(&["build"]).ok();
    project.write("dmoci.toml", copy.replace("[[layer]]", "base = \"oci:dist/image\"\n[[layer]]"));
    let run = project.dmoci(&["build"]).exits(2);
    assert!(
        run.stderr.contains("error[E-SOURCE-OUTPUT]") && run.stderr.contains("dmoci.toml:4:"),
        "{}",
        run.stderr
    );
    // Elsewhere it is a base like any other.
    fs::rename(project.path("dist/image"), project.path("base")).unwrap();
    project.write("dmoci.toml", copy.replace("[[layer]]", "base = \"oci:base\"\n[[layer]]"));
    project.dmoci(&["build"]).ok();
    project.dmoci(&["build", "-o", "."]).ok();
    assert!(project.path("image/index.json").exists());

    // What is beside an image is not somebody else's either.
    for (name, content) in [("build.log", "make: done\n"), ("digests.json", "{}\n")] {
        project.write(&format!("theirs/{name}"), content);
        project.write("theirs/.tmp/precious", "1");
        let run = project.dmoci(&["build", "-o", "theirs"]).exits(2);
        assert!(
            run.stderr.contains("error[E-OUTPUT-FOREIGN]") && run.stderr.contains(name),
            "{}",
            run.stderr
        );
        assert_eq!(fs::read_to_string(project.path("theirs").join(name)).unwrap(), content);
        fs::remove_file(project.path("theirs").join(name)).unwrap();
    }
    project.dmoci(&["build", "-o", "theirs"]).ok();
    assert!(project.path("theirs/.tmp/precious").exists());
    // An image that was taken away is made again.
    fs::remove_dir_all(project.path("theirs/image")).unwrap();
    project.dmoci(&["build", "-o", "theirs"]).ok();

    project.write("other/image/index.json", r#"{"schemaVersion":2,"manifests":[]}"#);
    let run = project.dmoci(&["build", "-o", "other"]).exits(2);
    assert!(
        run.stderr.contains("error[E-OUTPUT-FOREIGN]") && run.stderr.contains("index.json"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_gives_nothing_is_said() {
    let project = Project::with_spec(&copy_spec(
        r#"{ from = ["src"], to = "/x", include = ["*.py"] }, { from = ["src"], to = "/x" }"#,
    ))
    .file("src/f", "1");
    let run = project.dmoci(&["build"]).ok();
    assert_eq!(run.stderr.matches("warning: ").count(), 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("dmoci.toml:6: this `copy` of the layer \"a\" gives no file"),
        "{}",
        run.stderr
    );
}

#[test]
fn the_environments_epoch() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    let build = |epoch: &str| {
        Run::of(dmoci().arg("build").current_dir(project.root()).env("SOURCE_DATE_EPOCH", epoch))
    };
    build("1700000000").ok();
    assert_eq!(digests(&project.path("dist"))["created"], "2023-11-14T22:13:20Z");
    for bad in ["", "abc", "-5"] {
        let run = build(bad).exits(2);
        assert!(run.stderr.contains("SOURCE_DATE_EPOCH") && run.stderr.contains("E-EPOCH"), "{}", run.stderr);
    }
}

#[test]
fn names_are_those_of_all_platforms() {
    let text = "schema = 1\n[image]\nname = \"registry.example/a\"\ntags = [\"${platform.debian}\"]\n\
                platforms = [\"linux/amd64\", \"linux/arm64\"]\nannotations = { p = \"${platform.oci}\", q = \"q\" }\n\
                [[layer]]\nname = \"a\"\nfile = [{ path = \"/f\", content = \"\" }]\n";
    let project = Project::with_spec(text);
    refused(&project, "E-PLATFORM-NAMES", 2, &["linux/arm64"]);
    project.write("dmoci.toml", text.replace("${platform.debian}", "1"));
    project.dmoci(&["build"]).ok();
    let dist = project.path("dist");
    let index: serde_json::Value =
        serde_json::from_slice(&blob(&dist, &digests(&dist)["image"]["digest"])).unwrap();
    assert_eq!((&index["annotations"]["q"], &index["annotations"]["p"]), (&json!("q"), &json!(null)));
    assert_eq!(manifest(&dist)["annotations"]["p"], "linux/amd64");
}

#[test]
fn remains_of_a_killed_run_are_removed() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    project.write("dist/.dmoci-tmp/blobXYZ", "half");
    project.dmoci(&["build"]).ok();
    assert!(!project.path("dist/.dmoci-tmp").exists());
}

#[test]
fn wrong_requests() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    for (arguments, word) in [
        (&["--platform", "linux/arm64"][..], "error[E-PLATFORM]"),
        (&["--platform", "nonsense"], "nonsense"),
        (&["--set", "a"], "NAME=VALUE"),
        (&["--set", "a=b"], "error[E-SPEC"),
        (&["--epoch", "253402300800"], "error[E-EPOCH]"),
        (&["--epoch", "soon"], "soon"),
        (&["-f", "other.toml"], "other.toml"),
    ] {
        let run = project.dmoci(&[&["build"], arguments].concat());
        assert!(matches!(run.exit, 2 | 6), "{arguments:?} {run:?}");
        assert!(run.stderr.contains(word), "{arguments:?}\n{}", run.stderr);
    }
    assert!(!project.path("dist").exists());
}

#[test]
fn a_base_that_verify_refuses() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    project.dmoci(&["build"]).ok();
    fs::rename(project.path("dist/image"), project.path("base")).unwrap();
    fs::remove_dir_all(project.path("dist")).unwrap();
    project.write(
        "dmoci.toml",
        spec("base = \"oci:base\"\n[[layer]]\nname = \"b\"\nfile = [{ path = \"/g\", content = \"\" }]\n"),
    );
    let index = fs::read_to_string(project.path("base/index.json")).unwrap();
    project.write("base/index.json", index.replace("\"amd64\"", "\"arm64\""));
    refused(&project, "E-BASE", 1, &["E-INDEX-DIGEST", "dmoci.toml:4:"]);
    project.write("base/index.json", index);
    let layer = fs::read_dir(project.path("base/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = layer.into_iter().find(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b])).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&layer, bytes).unwrap();
    refused(&project, "E-BASE", 1, &["E-DIGEST", "dmoci.toml:4:"]);
}

#[test]
fn an_output_directory_that_cannot_be() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    project.write("dist/image", "mine");
    let run = project.dmoci(&["build"]).exits(2);
    for word in ["error[E-OUTPUT-FOREIGN]", "dist holds \"image\"", "help: "] {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    assert_eq!(fs::read_to_string(project.path("dist/image")).unwrap(), "mine");
    for output in ["src/f", "src/f/below", "/proc/nothing"] {
        let run = project.dmoci(&["build", "-o", output]).exits(6);
        assert!(run.stderr.contains("error[E-OUTPUT]"), "{}", run.stderr);
        assert!(run.stderr.contains("help: name a directory with -o"), "{output}: {}", run.stderr);
    }
}

/// As of a variable that is not set.
#[test]
fn no_revision_is_none() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    let run = project.dmoci(&["build", "--revision", ""]).exits(2);
    assert!(run.stderr.contains("--revision"), "{}", run.stderr);
    assert!(!project.path("dist").exists());
}

/// A base that the build itself would write, and a tag that the base does not have.
#[test]
fn what_to_do_about_a_base() {
    let project = Project::new();
    let base = |base: &str| {
        let entry = "[[layer]]\nname = \"b\"\nfile = [{ path = \"/g\", content = \"\" }]\n";
        project.write("dmoci.toml", spec(&format!("tags = [\"1\"]\nbase = \"{base}\"\n{entry}")));
    };
    base("scratch");
    project.dmoci(&["build"]).ok();
    base("oci:dist/image");
    let run = project.dmoci(&["check"]).exits(2);
    assert!(
        run.stderr.contains("error[E-SOURCE-OUTPUT]") && run.stderr.contains("with -o"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("exclude"), "{}", run.stderr);
    fs::rename(project.path("dist/image"), project.path("base")).unwrap();
    base("oci:base:none");
    let run = project.dmoci(&["check"]).exits(1);
    assert!(
        run.stderr.contains("error[E-BASE]") && run.stderr.contains("no image \"none\""),
        "{}",
        run.stderr
    );
    assert!(run.stderr.ends_with("help: there are: 1\n"), "{}", run.stderr);
}

#[test]
fn nothing_is_written_through_links() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["src"], to = "/x" }"#)).file("src/f", "1");
    let victim = format!("victim/{}", "0".repeat(64));
    project.write(&victim, "mine");
    fs::create_dir_all(project.path("dist/image/blobs")).unwrap();
    symlink(project.path("victim"), project.path("dist/image/blobs/sha256")).unwrap();
    let run = project.dmoci(&["build"]).exits(2);
    assert!(
        run.stderr.contains("error[E-OUTPUT-FOREIGN]") && run.stderr.contains("symbolic link"),
        "{}",
        run.stderr
    );
    assert_eq!(fs::read_dir(project.path("victim")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(project.path(&victim)).unwrap(), "mine");
}
