//! Images into engines, and out of a daemon: `build --load`, `docker-daemon:`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::docker::{self, Docker};
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, dmoci, exits, have, run};

const NAME: &str = "registry.example/loaded";

/// The example, under two tags, compressed in this way.
fn project(place: &Place, compression: &str) -> PathBuf {
    let project = place.path("project");
    let _ = fs::remove_dir_all(&project);
    run(command("cp").arg("-r").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hello")).arg(&project));
    let _ = fs::remove_dir_all(project.join("dist"));
    let spec = fs::read_to_string(project.join("dmoci.toml")).unwrap();
    let changed: Vec<String> = spec
        .lines()
        .filter(|line| !line.starts_with("compression ="))
        .map(|line| match line.split(" = ").next() {
            Some("name") if line.contains("registry.example/") => {
                format!("name = \"{NAME}\"\ncompression = \"{compression}\"")
            }
            Some("tags") => "tags = [\"1.0\", \"newest\"]".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    fs::write(project.join("dmoci.toml"), changed.join("\n")).unwrap();
    project
}

fn at<'a>(command: &'a mut Command, docker: &Docker) -> &'a mut Command {
    command.env("DOCKER_HOST", format!("unix://{}", docker.socket().display()))
}

/// The digest of amd64's configuration in what a build prints.
fn config(said: &str) -> String {
    let line = said.lines().find(|line| line.starts_with("config") && line.contains("linux/amd64"));
    line.and_then(|line| line.split_whitespace().last()).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn docker_gets_what_was_built() {
    if !have(docker::PEERS) || !have(&["amd64"]) {
        return;
    }
    let place = Place::new();
    let docker = Docker::start();
    for compression in ["gzip", "none", "zstd"] {
        let project = project(&place, compression);
        let said = run(at(dmoci().args(["build", "--load", "docker", "-C"]).arg(&project), &docker));
        let id = config(&said);
        for tag in ["1.0", "newest"] {
            assert!(said.contains(&format!("loaded    {NAME}:{tag}")), "{said}");
            let name = format!("{NAME}:{tag}");
            let found = run(docker.docker().args(["image", "inspect", "--format={{.Id}}", &name]));
            assert_eq!(found.trim(), id, "{compression}");
            assert!(docker.run(&name).contains("hello from linux/amd64"));
        }
        assert!(
            said.lines().filter(|line| line.starts_with("loaded") && line.ends_with(&id)).count() == 2,
            "{said}"
        );
    }
    // The other platform, and an image without a name.
    let project = project(&place, "gzip");
    run(at(dmoci().args(["build", "--load=docker", "--platform=linux/arm64", "-C"]).arg(&project), &docker));
    let name = format!("{NAME}:1.0");
    let architecture = run(docker.docker().args(["image", "inspect", "--format={{.Architecture}}", &name]));
    assert_eq!(architecture.trim(), "arm64");
    unname(&project);
    let said = run(at(dmoci().args(["build", "--load=docker", "-C"]).arg(&project), &docker));
    assert!(said.contains("loaded    (unnamed)"), "{said}");
    run(docker.docker().args(["image", "inspect", &config(&said)]));
}

/// Takes name and tags out of the spec.
fn unname(project: &Path) {
    let spec = fs::read_to_string(project.join("dmoci.toml")).unwrap();
    let lines = spec.lines().filter(|line| !line.contains(NAME) && !line.starts_with("tags"));
    fs::write(project.join("dmoci.toml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn podman_gets_what_was_built() {
    if !have(podman::PEERS) || !have(&["amd64"]) {
        return;
    }
    let place = Place::new();
    for compression in ["gzip", "zstd"] {
        let podman = Podman::new();
        let project = project(&place, compression);
        let (said, id) = loaded_by_podman(&podman, &place, &project);
        assert!(said.contains(&format!("loaded    {NAME}:1.0")), "{said}");
        for tag in ["1.0", "newest"] {
            let name = format!("{NAME}:{tag}");
            let found = run(podman.podman().args(["image", "inspect", "--format={{.Id}}", &name]));
            assert_eq!(format!("sha256:{}", found.trim()), id);
        }
        assert!(podman.run(&format!("{NAME}:1.0")).contains("hello from linux/amd64"));
        unname(&project);
        let (said, id) = loaded_by_podman(&podman, &place, &project);
        assert!(said.contains("loaded    (unnamed)"), "{said}");
        run(podman.podman().args(["image", "inspect", id.trim_start_matches("sha256:")]));
    }
}

/// Builds and loads with a podman on the path that has storage of its own.
fn loaded_by_podman(podman: &Podman, place: &Place, project: &Path) -> (String, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = place.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let podman = podman.podman();
    let words: Vec<String> = std::iter::once(podman.get_program())
        .chain(podman.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let path = std::env::var("PATH").unwrap();
    fs::write(bin.join("podman"), format!("#!/bin/sh\nPATH='{path}' exec {} \"$@\"\n", words.join(" ")))
        .unwrap();
    fs::set_permissions(bin.join("podman"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{path}", bin.display());
    let said = run(dmoci().args(["build", "--load", "podman", "-C"]).arg(project).env("PATH", path));
    let id = config(&said);
    (said, id)
}

#[test]
fn images_of_a_daemon() {
    if !have(docker::PEERS) || !have(&["amd64"]) {
        return;
    }
    let place = Place::new();
    let docker = Docker::start();
    let project = project(&place, "gzip");
    let built = run(at(dmoci().args(["build", "--load=docker", "-C"]).arg(&project), &docker));
    let id = config(&built);
    for subject in [format!("docker-daemon:{NAME}:1.0"), format!("docker-daemon:{id}")] {
        let said = run(at(dmoci().args(["inspect", &subject]), &docker));
        assert!(said.contains(&id) && said.contains("/usr/bin/hello"), "{said}");
        let files = run(at(dmoci().args(["inspect", "--files", &subject]), &docker));
        assert!(files.contains("/etc/hello/message"), "{files}");
        let said = run(at(dmoci().args(["verify", "--integrity-only", &subject]), &docker));
        assert!(said.contains(&format!("SOUND: {subject}")), "{said}");
        exits(at(dmoci().args(["verify", &subject]), &docker), 3);
        let archive = format!("oci-archive:{}", place.path("out.tar").display());
        let said = run(at(dmoci().args(["export", &subject, "-o", &archive]), &docker));
        assert!(said.contains("archive"), "{said}");
        let said = run(dmoci().args(["inspect", &archive]));
        assert!(said.contains(&id), "{said}");
    }
    // Whatever manifest the daemon makes of it: it is the image that was built.
    let subject = format!("docker-daemon:{NAME}:1.0");
    let mut diff = dmoci();
    diff.args(["diff", "--platform=linux/amd64"]).arg(project.join("dist/image")).arg(&subject);
    let said = exits(at(&mut diff, &docker), 1);
    assert!(said.out.contains("right has no manifest of its own"), "{said:?}");
    assert!(said.out.contains("SAME CONTENT, RECOMPRESSED: "), "{said:?}");
    // The classic store keeps no manifests: a digest of one is never found there, and never taken on trust.
    let manifest = built.lines().find(|line| line.starts_with("manifest") && line.contains("amd64")).unwrap();
    let manifest = manifest.split_whitespace().last().unwrap();
    let subject = format!("docker-daemon:{NAME}:1.0@{manifest}");
    let said = exits(at(dmoci().args(["verify", "--integrity-only", &subject]), &docker), 1);
    assert!(said.out.contains("E-SELECT"), "{said:?}");
    let said = exits(at(dmoci().args(["inspect", &subject]), &docker), 2);
    assert!(said.err.contains("E-SELECT") && said.err.contains("no manifests of its own"), "{said:?}");
    for missing in ["nothing:1.0".to_owned(), format!("sha256:{}", "0".repeat(64))] {
        let said = exits(at(dmoci().args(["inspect", &format!("docker-daemon:{missing}")]), &docker), 6);
        assert!(said.err.contains("E-SUBJECT-NOT-FOUND"), "{said:?}");
    }
}

/// An ordinary user, whom the socket does not let in.
#[test]
fn a_user_who_may_not() {
    if !have(docker::PEERS) {
        return;
    }
    let docker = Docker::start();
    let place = Place::new();
    let mut nobody = command("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(place.program());
    let said = exits(at(nobody.args(["inspect", "docker-daemon:x:1"]), &docker), 6);
    assert!(said.err.contains("E-DAEMON-CONNECT") && said.err.contains("group"), "{said:?}");
}
