//! Where the system allows no user namespaces.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::samples::{EXTENSIONS, HATCHLING, MATURIN, MESON, SETUPTOOLS, Sample};
use super::{PEERS, commit, dmoci, git, project};
use crate::support::{Place, command, have, run, said};

/// A command in a user namespace that allows none below it, as some systems and containers do.
fn without(command_to_run: &Command) -> Command {
    let mut closed = command("unshare");
    closed.args(["--user", "--map-root-user", "--", "sh", "-c"]);
    closed.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"");
    closed.arg(command_to_run.get_program()).args(command_to_run.get_args());
    for (name, value) in command_to_run.get_envs() {
        match value {
            Some(value) => closed.env(name, value),
            None => closed.env_remove(name),
        };
    }
    closed
}

fn evidence(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(folder.join("dist/evidence/python.json")).unwrap()).unwrap()
}

/// The bytes are the same, and the evidence says that nothing kept the backend in.
#[test]
fn the_same_bytes_without_namespaces() {
    if !have(&[PEERS, &["uv", "cc", "cargo"]].concat()) {
        return;
    }
    let place = Place::new();
    for sample in [SETUPTOOLS, EXTENSIONS, HATCHLING, MESON, MATURIN] {
        let Sample { name, .. } = sample;
        let folder = place.path(name);
        sample.write(&folder);
        commit(&folder);
        run(&mut dmoci(&folder));
        run(git(&folder).args(["add", "dmoci.lock"]));
        run(git(&folder).args(["commit", "--quiet", "-m", "lock"]));
        let inside = run(&mut dmoci(&folder));
        assert_eq!(evidence(&folder)["isolation"]["kind"], "namespaces");
        let outside = said(&mut without(&dmoci(&folder)));
        assert_eq!(outside.code, Some(0), "{name}: {}", outside.err);
        assert!(
            outside.err.contains("warning: the build backend is not kept in, because "),
            "{}",
            outside.err
        );
        let isolation = &evidence(&folder)["isolation"];
        assert!(isolation["kind"] == "none" && isolation["reason"].as_str().is_some(), "{isolation}");
        // maturin writes into its SBOM where it was; docs/wheel.md names it.
        let same = |line: &&str| name != "maturin" || !line.starts_with("wheel");
        let [inside, outside] =
            [&inside, &outside.out].map(|out| out.lines().filter(same).collect::<Vec<_>>());
        assert_eq!(outside, inside, "{name}");
    }
}

/// What is left there: an error for connections of the Python process, the time limit, and that failures leave nothing.
#[test]
fn bad_backends_without_namespaces() {
    if !have(PEERS) {
        return;
    }
    for (extra, expected) in [
        ("raise ValueError('out of order')", "failed in build_wheel: ValueError: out of order"),
        ("time.sleep(600)", "did not end in build_wheel within 3 s"),
        ("os.system('sleep 600 &'); time.sleep(600)", "did not end in build_wheel within 3 s"),
        (
            "try: socket.create_connection(('192.0.2.1', 80), 1)\n    except OSError: pass",
            "tried to connect to 192.0.2.1",
        ),
    ] {
        let place = Place::new();
        project(&place, extra);
        let mut dmoci = dmoci(&place.path(""));
        let ended = said(&mut without(dmoci.args(["--timeout", "3"])));
        assert_eq!(ended.code, Some(6), "{extra}\n{}", ended.err);
        assert!(ended.err.contains("error[E-WHEEL-BACKEND]"), "{extra}\n{}", ended.err);
        assert!(
            ended.err.contains(expected) && ended.err.contains("is not kept in"),
            "{extra}\n{}",
            ended.err
        );
        assert!(!place.path("dist").exists(), "{extra}");
    }
}
