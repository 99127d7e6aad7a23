//! Images that other tools made: sound, not canonical, and good to build upon.

use std::fs;
use std::path::Path;

use crate::support::docker::{self, Docker};
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, dmoci, exits, have, run};

const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hello");

/// `dmoci verify` must say: whole, not made by rules of dmoci, and why.
#[track_caller]
fn sound_but_not_canonical(subject: &str) {
    let said = run(dmoci().args(["verify", "--integrity-only", subject]));
    assert!(said.contains("SOUND"), "{said}");
    let canonical = said.lines().find(|line| line.contains("canonical")).unwrap_or_else(|| panic!("{said}"));
    assert!(canonical.contains("no"), "{said}");
    let said = exits(dmoci().args(["verify", subject]), 3);
    assert!(said.out.contains("SOUND, NOT AUTHENTICATED"), "{said:?}");
    let json = run(dmoci().args(["verify", "--integrity-only", "--json", subject]));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = report.to_string();
    assert!(text.contains("canonical"), "{text}");
}

/// A build upon the image, with one more layer, must be sound and run.
#[track_caller]
fn builds_upon(place: &Place, base: &str) -> String {
    let project = place.path("project");
    let _ = fs::remove_dir_all(&project);
    fs::create_dir(&project).unwrap();
    let spec = format!(
        r#"schema = 1
[image]
name = "registry.example/upon"
tags = ["1"]
platforms = ["linux/amd64"]
base = "{base}"
[[layer]]
name = "more"
file = [{{ path = "/etc/hello/message", content = "This is another message.\n" }}]
"#
    );
    fs::write(project.join("dmoci.toml"), spec).unwrap();
    // The base lies in the project directory, where a spec may name it.
    for name in ["oci", "oci-archive.tar", "docker-archive.tar"] {
        if place.path(name).exists() {
            run(command("cp").arg("-r").arg(place.path(name)).arg(project.join(name)));
        }
    }
    run(dmoci().arg("build").arg("-C").arg(&project));
    let image = project.join("dist/image");
    run(dmoci().args(["verify", "--integrity-only"]).arg(&image));
    let archive = project.join("upon.tar");
    run(dmoci().arg("export").arg(&image).arg("-o").arg(format!("docker-archive:{}", archive.display())));
    archive.to_str().unwrap().to_owned()
}

const EXPECTED: &str = "hello from linux/amd64\nThis is another message.\n";

#[test]
fn made_by_buildah() {
    if !have(podman::PEERS) || !have(&["buildah", "amd64"]) {
        return;
    }
    let place = Place::new();
    let podman = Podman::new();
    let container = run(podman.buildah().args(["from", "scratch"])).trim().to_owned();
    let program = format!("{HELLO}/bin/hello-amd64");
    run(podman.buildah().args(["add", &container, &program, "/usr/bin/hello"]));
    run(podman.buildah().args(["add", &container, &format!("{HELLO}/share"), "/usr/share/hello"]));
    run(podman.buildah().args([
        "config",
        "--entrypoint",
        r#"["/usr/bin/hello"]"#,
        "--env",
        "A=b",
        &container,
    ]));
    run(podman.buildah().args(["commit", &container, &format!("oci:{}:1", place.path("oci").display())]));
    let archive = place.path("oci-archive.tar");
    run(podman.buildah().args(["commit", &container, &format!("oci-archive:{}:1", archive.display())]));

    sound_but_not_canonical(place.path("oci").to_str().unwrap());
    sound_but_not_canonical(archive.to_str().unwrap());
    for base in ["oci:oci:1", "oci:oci", "oci-archive:oci-archive.tar"] {
        let upon = builds_upon(&place, base);
        let podman = Podman::new();
        run(podman.podman().args(["load", "--input", &upon]));
        assert_eq!(podman.run("registry.example/upon:1"), EXPECTED, "{base}");
    }
}

#[test]
fn saved_by_docker() {
    if !have(docker::PEERS) || !have(&["skopeo", "amd64"]) {
        return;
    }
    let place = Place::new();
    let docker = Docker::start();
    let root = place.path("root");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::copy(format!("{HELLO}/bin/hello-amd64"), root.join("usr/bin/hello")).unwrap();
    run(command("tar").arg("-cf").arg(place.path("root.tar")).arg("-C").arg(&root).arg("."));
    let change = r#"--change=ENTRYPOINT ["/usr/bin/hello"]"#;
    run(docker
        .docker()
        .args(["import", change])
        .arg(place.path("root.tar"))
        .arg("registry.example/imported:1"));
    let archive = place.path("docker-archive.tar");
    run(docker.docker().args(["save", "--output"]).arg(&archive).arg("registry.example/imported:1"));

    sound_but_not_canonical(archive.to_str().unwrap());
    let upon = builds_upon(&place, "docker-archive:docker-archive.tar");
    run(docker.docker().args(["load", "--input", &upon]));
    assert_eq!(docker.run("registry.example/upon:1"), EXPECTED);

    // The same image in a layout that skopeo made of it.
    let layout = place.path("oci");
    let source = format!("docker-archive:{}", archive.display());
    run(command("skopeo").args(["copy", &source, &format!("oci:{}:1", layout.display())]));
    sound_but_not_canonical(layout.to_str().unwrap());
    let upon = builds_upon(&place, "oci:oci:1");
    run(docker.docker().args(["load", "--input", &upon]));
    assert_eq!(docker.run("registry.example/upon:1"), EXPECTED);
}

#[test]
fn damage_in_an_image_of_another_tool_is_found() {
    if !have(&["root", "umoci"]) {
        return;
    }
    let place = Place::new();
    let image = format!("{}:1", place.path("oci").display());
    run(command("umoci").args(["init", "--layout"]).arg(place.path("oci")));
    run(command("umoci").args(["new", "--image", &image]));
    let bundle = place.path("bundle");
    run(command("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    run(command("cp").arg("-r").arg(HELLO).arg(bundle.join("rootfs/hello")));
    run(command("umoci").args(["repack", "--image", &image]).arg(&bundle));
    run(command("umoci").args(["gc", "--layout"]).arg(place.path("oci")));
    sound_but_not_canonical(place.path("oci").to_str().unwrap());
    for blob in fs::read_dir(place.path("oci/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let sound = fs::read(blob.path()).unwrap();
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x20;
        fs::write(blob.path(), damaged).unwrap();
        let said = exits(dmoci().args(["verify", "--integrity-only"]).arg(place.path("oci")), 1);
        let name = blob.file_name().into_string().unwrap();
        assert!(said.out.contains(&name[..12]), "{name} is not named:\n{}", said.out);
        fs::write(blob.path(), sound).unwrap();
    }
    run(dmoci().args(["verify", "--integrity-only"]).arg(Path::new(&place.path("oci"))));
}
