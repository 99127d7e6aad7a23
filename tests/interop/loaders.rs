//! A real operating system with an application on it: every loader takes the image, and the application runs.

use std::fs;
use std::path::Path;

use crate::support::containerd::{self, Containerd};
use crate::support::debian::{self, NAME, OUTPUT};
use crate::support::docker::{self, Docker};
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, dmoci, have, run};

fn image() -> String {
    debian::project().join("dist/image").to_str().unwrap().to_owned()
}

fn archive(name: &str) -> String {
    debian::project().join(name).to_str().unwrap().to_owned()
}

/// The digest of the configuration, by which docker and podman know the image.
fn image_id() -> String {
    config_of(&run(command("skopeo").args(["inspect", "--raw", &format!("oci:{}:1.0", image())])))
}

fn config_of(manifest: &str) -> String {
    let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn dmoci_calls_it_sound() {
    if !have(debian::PEERS) {
        return;
    }
    for subject in [image(), archive("oci.tar"), archive("docker.tar")] {
        let said = run(dmoci().args(["verify", "--integrity-only", &subject]));
        assert!(said.contains("SOUND"), "{said}");
        // The operating system's setuid programs are there, and are told.
        assert!(said.contains("E-TAR-SETUID") && said.contains("/usr/bin/chage"), "{said}");
    }
}

#[test]
fn skopeo_copies_it() {
    if !have(debian::PEERS) || !have(&["skopeo"]) {
        return;
    }
    let place = Place::new();
    let sources = [
        format!("oci:{}:1.0", image()),
        format!("oci-archive:{}:1.0", archive("oci.tar")),
        format!("docker-archive:{}", archive("docker.tar")),
    ];
    let id = image_id();
    for (i, source) in sources.iter().enumerate() {
        for target in
            [format!("dir:d{i}"), format!("docker-archive:d{i}.tar:{NAME}"), format!("oci:o{i}:1.0")]
        {
            run(command("skopeo").args(["copy", source, &target]).current_dir(&place));
        }
        // A directory holds what a registry would get: bytes that are not touched.
        let manifest = fs::read_to_string(place.path(&format!("d{i}/manifest.json"))).unwrap();
        assert_eq!(config_of(&manifest), id, "{source}");
    }
    let manifest = fs::read(place.path("d0/manifest.json")).unwrap();
    assert_eq!(fs::read(place.path("d1/manifest.json")).unwrap(), manifest);
    let found = dmoci_layers::Digest::sha256(&manifest);
    assert!(Path::new(&image()).join("blobs/sha256").join(found.hex()).is_file());
}

#[test]
fn umoci_unpacks_it() {
    if !have(debian::PEERS) || !have(&["umoci"]) {
        return;
    }
    let place = Place::new();
    let bundle = place.path("bundle");
    run(command("umoci").args(["unpack", "--image"]).arg(format!("{}:1.0", image())).arg(&bundle));
    let output = run(command("chroot").args(["--userspec=10001:10001"]).arg(bundle.join("rootfs")).args([
        "/bin/sh",
        "-c",
        "cd /opt/app && exec bin/report",
    ]));
    assert_eq!(output, OUTPUT);
    // Against what tar itself makes of the tar.
    let plain = place.path("plain");
    fs::create_dir(&plain).unwrap();
    run(command("tar")
        .args(["--numeric-owner", "-xpf"])
        .arg(debian::root_file_system())
        .arg("-C")
        .arg(&plain));
    let (expected, found) = (listing(&plain), listing(&bundle.join("rootfs")));
    assert!(expected.lines().count() > 5000, "{}", expected.lines().count());
    assert!(expected == found, "{}", first_difference(&expected, &found));
}

/// Every path with type, mode, owner, links, target and content; without devices, which the spec skips, the
/// application, and the two files that a user of the image adds lines to.
fn listing(root: &Path) -> String {
    let script = "find . -path ./opt/app -prune -o -path ./etc/passwd -o -path ./etc/group -o -type b -o -type c \
        -o -type f -printf '%P %y %m %U:%G %n\\n' -o -printf '%P %y %m %U:%G %l\\n' | LC_ALL=C sort
        find . -path ./opt/app -prune -o -path ./etc/passwd -o -path ./etc/group -o -type f -print0 | LC_ALL=C sort -z \
        | xargs -0 sha256sum";
    run(command("sh").arg("-c").arg(script).current_dir(root))
}

fn first_difference(a: &str, b: &str) -> String {
    let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    format!("{differs:?}, {} and {} lines", a.lines().count(), b.lines().count())
}

#[test]
fn podman_loads_and_runs_it() {
    if !have(debian::PEERS) || !have(podman::PEERS) || !have(&["skopeo"]) {
        return;
    }
    let id = image_id();
    for file in ["oci.tar", "docker.tar"] {
        let podman = Podman::new();
        let said = run(podman.podman().args(["load", "--input", &archive(file)]));
        assert!(said.contains(NAME), "{said}");
        assert_eq!(podman.run(NAME), OUTPUT, "{file}");
        let found = run(podman.podman().args(["image", "inspect", "--format={{.Id}}", NAME]));
        assert_eq!(format!("sha256:{}", found.trim()), id, "{file}");
    }
}

#[test]
fn docker_loads_and_runs_it() {
    if !have(debian::PEERS) || !have(docker::PEERS) || !have(&["skopeo"]) {
        return;
    }
    let docker = Docker::start();
    let said = run(docker.docker().args(["load", "--input", &archive("docker.tar")]));
    assert!(said.contains(NAME), "{said}");
    assert_eq!(docker.run(NAME), OUTPUT);
    let found = run(docker.docker().args(["image", "inspect", "--format={{.Id}}", NAME]));
    assert_eq!(found.trim(), image_id());
}

#[test]
fn containerd_imports_and_runs_it() {
    if !have(debian::PEERS) || !have(containerd::PEERS) {
        return;
    }
    for file in ["oci.tar", "docker.tar"] {
        let containerd = Containerd::start();
        let import = ["images", "import", "--snapshotter=native", &archive(file)].map(str::to_owned);
        run(containerd.ctr().args(import));
        assert_eq!(containerd.run(NAME, "app"), OUTPUT, "{file}");
    }
}
