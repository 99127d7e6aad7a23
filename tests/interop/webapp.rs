//! The example in Python on a real operating system: it runs, and answers over HTTP.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::debian;
use crate::support::docker::{self, Docker};
use crate::support::fault::strace;
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, dmoci, have, run, said};

const NAME: &str = "registry.example/almanac:1.0.0";

/// The project on a Debian with Python, built once: `dist/image`, and `docker.tar` beside it.
fn project() -> &'static Path {
    static PROJECT: OnceLock<PathBuf> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("webapp");
        let _ = fs::remove_dir_all(&project);
        debian::write_base_with_python(&project);

        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webapp");
        run(command("cp").arg("-r").arg(fixture.join("wheels")).arg(&project));
        // The Python of the base is found there: its version need not be said.
        let spec = fs::read_to_string(fixture.join("dmoci.toml")).unwrap();
        let spec = spec.replace(", python-version = \"${vars.python}\"", "");
        let spec = spec.replace("[\"linux/amd64\", \"linux/arm64\"]", "[\"linux/amd64\"]");
        fs::write(project.join("dmoci.toml"), spec).unwrap();
        fs::copy(fixture.join("pylock.toml"), project.join("pylock.toml")).unwrap();
        run(dmoci().args(["build", "--set", "base=oci:base-project/dist/image:3", "-C"]).arg(&project));
        let output = format!("docker-archive:{}", project.join("docker.tar").display());
        run(dmoci().arg("export").arg(project.join("dist/image")).arg("-o").arg(output));
        project
    })
}

/// What is asked inside the container, which has no network but its own.
pub(crate) const ASK: &str = "import sys, urllib.request as r\n\
    for path in sys.argv[1:]: print(r.urlopen('http://127.0.0.1:8000' + path, timeout=5).read().decode())\n";

/// Runs something in the container until it succeeds.
pub(crate) fn until(mut attempt: impl FnMut() -> Command) -> String {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        let said = said(&mut attempt());
        if said.code == Some(0) {
            return said.out;
        }
        assert!(Instant::now() < end, "{said:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Starts the application, asks it, and ends it. `engine` gives a command of the container engine.
fn serves(engine: &dyn Fn() -> Command, limits: &[&str]) {
    run(engine().args(["run", "--detach", "--network=none", "--name=almanac"]).args(limits).arg(NAME));
    let exec = |arguments: &[&str]| {
        let mut command = engine();
        command.args(["exec", "almanac"]).args(arguments);
        command
    };
    // The script of the wheel that the health check runs.
    until(|| exec(&["/opt/almanac/bin/almanac-check"]));
    let python = "/opt/almanac/bin/python";
    let paths = ["/moon?date=2026-11-24", "/?date=2026-11-24", "/about"];
    let answers = run(exec(&[python, "-c", ASK]).args(paths));
    assert!(
        answers.contains("{\"age\": 14.6, \"date\": \"2026-11-24\", \"phase\": \"full moon\"}"),
        "{answers}"
    );
    assert!(answers.contains("<p>On 2026-11-24 there is a <b>full moon</b>.</p>"), "{answers}");
    let about: serde_json::Value = serde_json::from_str(answers.trim().lines().last().unwrap()).unwrap();
    assert_eq!(about["prefix"], "/opt/almanac");
    assert_eq!(about["installer"], "dmoci");
    let versions = serde_json::json!({"almanac": "1.0.0", "moonphase": "1.0.1", "tinyroute": "0.2.0"});
    assert_eq!(about["distributions"], versions);
    // As the user of the spec, with every file as RECORD says.
    assert_eq!(run(&mut exec(&["id", "-u"])).trim(), "10001");
    assert_eq!(run(&mut exec(&[python, "-c", RECORDS])).trim(), "3 distributions, 0 wrong");
    run(engine().args(["stop", "almanac"]));
    assert_eq!(run(engine().args(["wait", "almanac"])).trim(), "0", "it ends by itself when it is told to");
    run(engine().args(["rm", "almanac"]));
}

/// Reads every RECORD as Python does, and every file that it names.
pub(crate) const RECORDS: &str = r"
import base64, hashlib
from importlib import metadata
all, wrong = list(metadata.distributions()), 0
for distribution in all:
    for file in distribution.files:
        path = file.locate()
        if file.hash is None:
            wrong += file.name != 'RECORD'
            continue
        digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
        value = base64.urlsafe_b64encode(digest).rstrip(b'=').decode()
        wrong += value != file.hash.value or path.stat().st_size != file.size
print(f'{len(all)} distributions, {wrong} wrong')
";

#[test]
fn it_runs_in_podman() {
    if !have(debian::PEERS) || !have(podman::PEERS) {
        return;
    }
    let podman = Podman::new();
    run(podman.podman().args(["load", "--input"]).arg(project().join("docker.tar")));
    serves(&|| podman.podman(), &["--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000"]);
}

#[test]
fn it_runs_in_docker() {
    if !have(debian::PEERS) || !have(docker::PEERS) {
        return;
    }
    let docker = Docker::start();
    run(docker.docker().args(["load", "--input"]).arg(project().join("docker.tar")));
    serves(&|| docker.docker(), &[]);
}

/// Locked and built twice, for both platforms: identical, and the same again from another folder. Nothing but dmoci is executed:
/// there is nothing to be found on the path, and the kernel is asked for nothing else.
#[test]
fn it_builds_twice_and_executes_nothing() {
    if !have(&["strace"]) {
        return;
    }
    let place = Place::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webapp");
    let digests = ["one", "other"].map(|name| {
        let project = place.path(name);
        run(command("cp").arg("-r").arg(&fixture).arg(&project));
        run(dmoci().arg("lock").arg("-C").arg(&project).env("PATH", ""));
        let mut build = dmoci();
        build.args(["build", "--twice", "--locked", "--offline", "-C"]).arg(&project).env("PATH", "");
        let log = place.path("strace.log");
        assert_eq!(other_programs(&build, &log), [""; 0]);
        fs::read_to_string(project.join("dist/digests.json")).unwrap()
    });
    assert_eq!(digests[0], digests[1]);
    let said: serde_json::Value = serde_json::from_str(&digests[0]).unwrap();
    let platforms: Vec<_> =
        said["platforms"].as_array().unwrap().iter().map(|one| one["platform"].as_str().unwrap()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
}

/// The programs beside dmoci that a command of dmoci, which must succeed, executes.
pub(crate) fn other_programs(traced: &Command, log: &Path) -> Vec<String> {
    run(&mut strace(traced, log, &["trace=execve,execveat".to_owned()]));
    let log = fs::read_to_string(log).unwrap();
    let calls = log.lines().filter(|line| line.contains("exec") && line.ends_with("= 0"));
    let mut programs: Vec<String> = calls.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(programs[0], env!("CARGO_BIN_EXE_dmoci"));
    // It starts itself for the second build.
    programs.retain(|program| program != env!("CARGO_BIN_EXE_dmoci") && program != "/proc/self/exe");
    programs
}

/// Without Python in the image the environment is there all the same, for both platforms.
#[test]
fn it_builds_on_scratch() {
    let place = Place::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webapp");
    run(dmoci().arg("build").arg("-C").arg(&fixture).arg("-o").arg(place.path("dist")));
    let said = run(dmoci().args(["verify", "--integrity-only"]).arg(place.path("dist/image")));
    assert!(said.contains("SOUND"), "{said}");
}
