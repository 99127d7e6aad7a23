//! `[wheel]` with a real backend and a lock file of uv, on a Debian with Python: what runs is the wheel that is published.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::debian;
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, have, run};

const PEERS: &[&str] = &["amd64", "git", "python3", "unshare", "uv"];

const PROJECT: &str = r#"[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "harbour"
version = "2.3.1"
description = "x"
requires-python = ">=3.11"
dependencies = ["iniconfig"]

[project.scripts]
harbour = "harbour:main"
"#;

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/harbour"
tags = ["${version}"]
platforms = ["linux/amd64"]
base = "oci:base-project/dist/image:3"
entrypoint = ["/opt/harbour/bin/harbour"]
[wheel]
[[layer]]
name = "dependencies"
python = { lock = "uv.lock", venv = "/opt/harbour" }
"#;

/// Prints name and sha256 of each file of a distribution but those that an installer writes.
const INSTALLED: &str = "
import hashlib
from importlib.metadata import distribution
found = distribution('harbour')
for file in found.files:
    if file.name not in ('RECORD', 'INSTALLER', 'REQUESTED', 'direct_url.json') and '..' not in file.parts:
        print(file, hashlib.sha256(file.locate().read_bytes()).hexdigest())
";

/// The same of a wheel.
const WHEEL: &str = "
import hashlib, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
for name in archive.namelist():
    if not name.endswith('/RECORD'):
        print(name, hashlib.sha256(archive.read(name)).hexdigest())
";

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn dmoci(folder: &Path) -> Command {
    let mut dmoci = crate::support::dmoci();
    dmoci.env("XDG_CACHE_HOME", debian::cache()).arg("build").arg("-C").arg(folder);
    dmoci
}

#[test]
fn the_wheel_in_the_image_is_the_published_one() {
    if !have(PEERS) || !have(debian::PEERS) || !have(podman::PEERS) {
        return;
    }
    let place = Place::new();
    let project = place.path("project");
    fs::create_dir_all(project.join("src/harbour")).unwrap();
    let write = |name: &str, text: &str| fs::write(project.join(name), text).unwrap();
    write(
        "src/harbour/__init__.py",
        "from importlib.metadata import version\n\nimport iniconfig\n\n\ndef main():\n    print('harbour', version('harbour'), iniconfig.__name__)\n",
    );
    write("src/harbour/data.txt", &"ebb and flow\n".repeat(1000));
    write("pyproject.toml", PROJECT);
    write("dmoci.toml", SPEC);
    write(".gitignore", "dist\nbase-project\n");
    run(command("uv").args(["--quiet", "lock", "--project"]).arg(&project));
    let git = |arguments: &[&str]| {
        let mut git = command("git");
        git.arg("-C").arg(&project).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
        run(git.args(arguments));
    };
    git(&["init", "--quiet"]);
    git(&["add", "-A"]);
    git(&["commit", "--quiet", "-m", "one"]);
    debian::write_base_with_python(&project);

    let first = run(&mut dmoci(&project));
    let pins = fs::read_to_string(project.join("dmoci.lock")).unwrap();
    assert!(pins.contains(".build]]") && pins.contains("hatchling"), "{pins}");
    git(&["add", "-A"]);
    git(&["commit", "--quiet", "-m", "lock"]);
    // Locked, offline and twice; the lock file is in the source now, and there is another commit.
    let locked = run(dmoci(&project).args(["--locked", "--offline", "--twice"]));
    assert_eq!(locked.lines().count(), first.lines().count());
    let wheel = project.join("dist/python/harbour-2.3.1-py3-none-any.whl");
    let published = run(command("python3").args(["-c", WHEEL]).arg(&wheel));
    assert!(published.contains("harbour/data.txt "), "{published}");

    let archive = project.join("dist/docker.tar");
    let output = format!("docker-archive:{}", archive.display());
    run(crate::support::dmoci().arg("export").arg(project.join("dist/image")).arg("-o").arg(output));
    let podman = Podman::small();
    run(podman.podman().args(["load", "--input"]).arg(&archive));
    let name = "registry.example/harbour:2.3.1";
    assert_eq!(podman.run(name).trim(), "harbour 2.3.1 iniconfig");
    let mut inside = podman.podman();
    inside.args(["run", "--rm", "--network=none", "--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000"]);
    inside.args(["--entrypoint", "/opt/harbour/bin/python", name, "-c", INSTALLED]);
    assert_eq!(sorted(&run(&mut inside)), sorted(&published));
}
