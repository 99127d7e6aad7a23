//! What a layer changes in the layers below it: every loader makes the same file system of it as dmoci says.

use std::fs;
use std::path::Path;

use crate::support::containerd::{self, Containerd};
use crate::support::docker::{self, Docker};
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, dmoci, exits, have, run};

const NAME: &str = "registry.example/changes:1";

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/changes"
tags = ["1"]
platforms = ["linux/amd64"]
entrypoint = ["/usr/bin/hello"]

[[layer]]
name = "program"
copy = [{ from = ["hello"], to = "/usr/bin/hello" }]
file = [{ path = "/etc/hello/message", content = "changed\n" }]

[[layer]]
name = "below"
copy = [
    { from = ["tree/"], to = "/data/replaced" },
    { from = ["tree/"], to = "/data/removed" },
    { from = ["tree/"], to = "/data/renewed" },
    { from = ["tree/"], to = "/data/emptied" },
    { from = ["tree/"], to = "/data/adjusted" },
]
archive = [{ path = "links.tar", to = "/data/adjusted/links" }]
symlink = [
    { path = "/data/replaced/link-to-directory", target = "directory" },
    { path = "/data/removed/link", target = "kept" },
]

[[layer]]
name = "replaced"
file = [{ path = "/data/replaced/directory", content = "a file over a directory", replace = true }]
directory = [{ path = "/data/replaced/file", mode = "0700", replace = true }]
symlink = [
    { path = "/data/replaced/another", target = "file", replace = true },
    { path = "/data/replaced/file/inside", target = "../another" },
]

[[layer]]
name = "removed"
remove = ["/data/removed/{file,directory,link}", "/data/removed/another/*/file", "/data/renewed", "/data/emptied/**"]
file = [
    { path = "/data/renewed/directory/new", content = "given anew" },
    { path = "/data/renewed/file", content = "given anew" },
    { path = "/data/renewed/another", content = "a file where a directory was removed" },
]

[[layer]]
name = "again"
copy = [{ from = ["tree/directory"], to = "/data/removed/directory" }]
file = [{ path = "/data/removed/file", content = "given again by a layer above" }]

[[layer]]
name = "adjusted"
adjust = [
    { path = "/data/adjusted/directory", recursive = true, owner = "10001:10002", file-mode = "0640", dir-mode = "0750" },
    { path = "/data/adjusted/file", mode = "0755" },
    { path = "/data/adjusted/links/{b,c}", owner = "7" },
]
"#;

/// The project, built: `dist/image`, and `oci.tar` and `docker.tar` beside it.
fn project() -> Place {
    let place = Place::new();
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello/bin/hello-amd64"),
        place.path("hello"),
    )
    .unwrap();
    for path in ["directory/deep/file", "directory/file", "file", "another/directory/file", "kept/file"] {
        let path = place.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "below").unwrap();
    }
    fs::create_dir(place.path("links")).unwrap();
    fs::write(place.path("links/a"), "a file with three names").unwrap();
    for name in ["links/b", "links/c"] {
        fs::hard_link(place.path("links/a"), place.path(name)).unwrap();
    }
    run(command("tar")
        .args(["--sort=name", "--mode=0644", "-cf", "links.tar", "-C", "links", "a", "b", "c"])
        .current_dir(&place));
    fs::write(place.path("dmoci.toml"), SPEC).unwrap();
    run(dmoci().arg("build").arg("-C").arg(place.as_ref()));
    let image = place.path("dist/image");
    for (kind, file) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let output = format!("{kind}:{}", place.path(file).display());
        run(dmoci().arg("export").arg(&image).arg("-o").arg(output));
    }
    run(dmoci().args(["verify", "--integrity-only"]).arg(&image));
    place
}

/// Everything below `/data`, a line each, as dmoci says: path, kind, mode, owner, size, target.
fn told(place: &Place) -> String {
    let said = run(dmoci().args(["inspect", "--files", "--json"]).arg(place.path("dist/image")));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let files = said["images"][0]["files"].as_array().unwrap();
    let lines = files.iter().filter_map(|file| {
        let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
        let path = text("path");
        let kind = match &*text("type") {
            "file" | "link" => 'f',
            "dir" => 'd',
            "symlink" => 'l',
            other => panic!("{path} is {other}"),
        };
        let mode = text("mode").trim_start_matches('0').to_owned();
        // Another name has the size of its file.
        let target = text("target");
        let of = match &*text("type") {
            "link" => files.iter().find(|file| file["path"] == format!("/{target}")).unwrap(),
            _ => file,
        };
        let size = if kind == 'f' { of["size"].to_string() } else { String::new() };
        let target = if kind == 'l' { target } else { String::new() };
        path.strip_prefix("/data/")
            .map(|path| format!("{path} {kind} {mode} {}:{} {size} {}", file["uid"], file["gid"], target))
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.join("\n")
}

/// The same of a directory of this machine.
#[track_caller]
fn found(root: &Path) -> String {
    let format = ["-type", "f", "-printf", "%P %y %m %U:%G %s \\n", "-o", "-printf", "%P %y %m %U:%G  %l\\n"];
    let said = run(command("find").arg(root.join("data")).args(["-mindepth", "1"]).args(format));
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn umoci_sees_what_dmoci_says() {
    if !have(&["root", "amd64", "umoci"]) {
        return;
    }
    let place = project();
    let bundle = place.path("bundle");
    let image = format!("{}:1", place.path("dist/image").display());
    run(command("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    assert_eq!(found(&bundle.join("rootfs")), told(&place));
    assert!(run(command("chroot").arg(bundle.join("rootfs")).arg("/usr/bin/hello")).contains("changed"));
}

#[test]
fn podman_sees_what_dmoci_says() {
    if !have(podman::PEERS) || !have(&["amd64"]) {
        return;
    }
    let place = project();
    for podman in Podman::of_each_driver() {
        run(podman.podman().args(["load", "--input"]).arg(place.path("oci.tar")));
        let root = run(podman.podman().args(["image", "mount", NAME]));
        let seen = found(Path::new(root.trim()));
        run(podman.podman().args(["image", "umount", NAME]));
        assert_eq!(seen, told(&place));
        assert!(podman.run(NAME).contains("changed"));
    }
}

#[test]
fn docker_sees_what_dmoci_says() {
    if !have(docker::PEERS) || !have(&["amd64", "tar"]) {
        return;
    }
    let place = project();
    for docker in Docker::of_each_driver() {
        run(docker.docker().args(["load", "--input"]).arg(place.path("docker.tar")));
        assert!(docker.run(NAME).contains("changed"));
        let root = Place::new();
        let container = run(docker.docker().args(["create", "--network=none", NAME]));
        let tar = root.path("root.tar");
        run(docker.docker().args(["export", container.trim(), "-o"]).arg(&tar));
        exits(command("tar").args(["--numeric-owner", "-xpf"]).arg(&tar).arg("-C").arg(root.as_ref()), 0);
        assert_eq!(found(root.as_ref()), told(&place));
    }
}

#[test]
fn containerd_sees_what_dmoci_says() {
    if !have(containerd::PEERS) || !have(&["amd64"]) {
        return;
    }
    let place = project();
    for snapshotter in crate::support::drivers("native", "overlayfs") {
        let containerd = Containerd::start();
        let snapshotter = format!("--snapshotter={snapshotter}");
        run(containerd.ctr().args(["images", "import", &snapshotter]).arg(place.path("oci.tar")));
        let root = Place::new();
        run(containerd.ctr().args(["images", "mount", &snapshotter, NAME]).arg(root.as_ref()));
        let seen = std::panic::catch_unwind(|| found(root.as_ref()));
        run(containerd.ctr().args(["images", "unmount"]).arg(root.as_ref()));
        assert_eq!(seen.unwrap(), told(&place));
    }
}
