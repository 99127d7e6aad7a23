//! `dmoci wheel` with real Python: backends that do what they should not, and all common ones under all circumstances.

mod open;
mod requirements;
mod samples;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, command, debian, have, path_of, run, said};

const PEERS: &[&str] = &["python3", "git", "unshare"];

/// A backend that lies in the project and needs nothing; `extra` runs in its hook for wheels.
fn backend(extra: &str) -> String {
    format!(
        r#"
import base64, hashlib, os, socket, subprocess, sys, tarfile, time, zipfile
META = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
WHEEL = b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

def build_sdist(out, config=None):
    with tarfile.open(os.path.join(out, "demo-1.0.tar.gz"), "w:gz") as tar:
        with open("PKG-INFO", "wb") as file:
            file.write(META)
        for name in sorted(os.listdir(".")):
            if name != ".git":
                tar.add(name, "demo-1.0/" + name)
    return "demo-1.0.tar.gz"

def build_wheel(out, config=None, metadata=None):
    name = "demo-1.0-py3-none-any.whl"
    files = [("demo/__init__.py", open("demo.py", "rb").read())]
    files += [("demo-1.0.dist-info/METADATA", META), ("demo-1.0.dist-info/WHEEL", WHEEL)]
    record = ""
    {extra}
    with zipfile.ZipFile(os.path.join(out, name), "w") as archive:
        for path, content in files:
            archive.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record += "%s,sha256=%s,%d\n" % (path, digest, len(content))
        archive.writestr("demo-1.0.dist-info/RECORD", record + "demo-1.0.dist-info/RECORD,,\n")
    return name
"#
    )
}

/// A project with this backend, which git tracks.
fn project(place: &Place, extra: &str) {
    fs::write(place.path("backend.py"), backend(extra)).unwrap();
    fs::write(place.path("demo.py"), "print('demo')\n").unwrap();
    fs::write(place.path(".gitignore"), "dist\ndmoci.lock\n").unwrap();
    let text = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    fs::write(place.path("pyproject.toml"), text).unwrap();
    commit(&place.path(""));
}

fn git(folder: &Path) -> Command {
    let mut git = command("git");
    git.arg("-C").arg(folder).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
    let time = "2024-01-01T00:00:00Z";
    git.env("GIT_AUTHOR_DATE", time).env("GIT_COMMITTER_DATE", time);
    git
}

fn commit(folder: &Path) {
    run(git(folder).args(["init", "--quiet"]));
    run(git(folder).args(["add", "-A"]));
    run(git(folder).args(["commit", "--quiet", "-m", "all"]));
}

fn dmoci(folder: &Path) -> Command {
    let mut dmoci = crate::support::dmoci();
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let rustup = env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);
    dmoci.env("XDG_CACHE_HOME", debian::cache()).env("RUSTUP_HOME", rustup);
    dmoci.args(["wheel", "-C"]).arg(folder);
    dmoci
}

#[test]
fn what_a_good_backend_makes() {
    if !have(PEERS) {
        return;
    }
    let place = Place::new();
    project(&place, "os.environ['HOME'] + print('chatter') if False else None");
    let first = said(&mut dmoci(&place.path("")));
    assert_eq!(first.code, Some(0), "{}", first.err);
    let names = |folder: &str| {
        let mut names: Vec<String> = fs::read_dir(place.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("dist/python"), ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"]);
    assert_eq!(names("dist"), ["evidence", "python"]);
    let evidence: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("dist/evidence/python.json")).unwrap()).unwrap();
    assert_eq!((&evidence["source"], &evidence["normalized"]), (&"tracked".into(), &true.into()));
    assert_eq!(evidence["epoch"], 1_704_067_200);
    for name in names("dist/python") {
        let mut verify = crate::support::dmoci();
        let report =
            said(verify.args(["verify", "--integrity-only"]).arg(place.path("dist/python").join(name)));
        assert!(report.code == Some(0) && report.out.contains("canonical: yes"), "{}", report.out);
    }
    // The same again, and in the place of what is there.
    assert_eq!(said(&mut dmoci(&place.path(""))).out, first.out);
    assert_eq!(names("dist"), ["evidence", "python"]);
    let kept = said(dmoci(&place.path("")).arg("--no-normalize").arg("--json"));
    assert!(kept.out.contains("\"normalized\": false"), "{}", kept.out);
    let kept: serde_json::Value = serde_json::from_str(&kept.out).unwrap();
    for made in kept["distributions"].as_array().unwrap() {
        assert_eq!(made["digest"], made["backendDigest"], "{made}");
        let bytes = fs::read(place.path("dist/python").join(made["name"].as_str().unwrap())).unwrap();
        assert_eq!(made["digest"], dmoci_layers::Digest::sha256(&bytes).to_string(), "{made}");
    }
    // Signed, the folder is still one that uploaders take as a whole.
    let all = || names("dist/python").into_iter().map(|name| format!("dist/python/{name}"));
    let key = |arguments: &[&str]| {
        let mut dmoci = crate::support::dmoci();
        dmoci.args(arguments).args(all().filter(|_| arguments[0] != "key")).env("COSIGN_PASSWORD", "word");
        said(dmoci.current_dir(place.path("")))
    };
    assert_eq!(key(&["key", "generate"]).code, Some(0));
    let signed = key(&["sign", "--key", "dmoci.key"]);
    assert_eq!(signed.code, Some(0), "{}", signed.err);
    let verified = key(&["verify", "--key", "dmoci.pub"]);
    assert_eq!(verified.code, Some(0), "{}", verified.out);
    if have(&["twine"]) {
        let taken =
            said(command(path_of("twine").unwrap()).arg("check").args(all()).current_dir(place.path("")));
        assert_eq!(taken.code, Some(0), "{}{}", taken.out, taken.err);
    }
    // What is somebody's stays.
    fs::write(place.path("dist/python/notes.txt"), "").unwrap();
    let foreign = said(&mut dmoci(&place.path("")));
    assert!(foreign.code == Some(2) && foreign.err.contains("E-OUTPUT-FOREIGN"), "{}", foreign.err);
}

#[test]
fn backends_that_do_what_they_should_not() {
    if !have(PEERS) {
        return;
    }
    // Not below /tmp, where a backend has a folder of its own.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("written-by-a-backend");
    let write = format!("open({:?}, 'w').write('x')", target.to_str().unwrap());
    let remount = "subprocess.run(['mount', '-o', 'remount,rw', '/'], check=True)";
    for (extra, expected) in [
        (
            "print('so it said'); raise ValueError('out of order')",
            "failed in build_wheel: ValueError: out of order",
        ),
        ("print('so it said', flush=True); os._exit(0)", "broke off in build_wheel with exit status: 0"),
        (
            "print('so it said', flush=True); os.kill(os.getpid(), 9)",
            "broke off in build_wheel with exit status: 137",
        ),
        ("print('so it said', flush=True); time.sleep(600)", "did not end in build_wheel within 3 s"),
        ("print('so it said', flush=True); os.system('sleep 600 &'); time.sleep(600)", "did not end"),
        ("print('so it said'); return 'other.whl'", "made no file of the name that it gave"),
        ("print('so it said'); return '../x.whl'", "which is no file name"),
        ("print('so it said'); return 7", "which is no file name"),
        (
            "print('so it said'); os.symlink('/etc/passwd', os.path.join(out, name)); return name",
            "made no file",
        ),
        (
            "print('so it said'); open(os.path.join(out, name), 'w').write('x'); return name",
            "which is not sound",
        ),
        ("print('so it said'); files.append(('../../x', b''))", "which is not sound"),
        ("print('so it said'); record = 'x,sha256=AAAA,1\\n'", "which is not sound"),
        (
            "print('so it said')\n    try: socket.create_connection(('192.0.2.1', 80), 1)\n    except OSError: pass",
            "tried to connect to 192.0.2.1",
        ),
        (
            "print('so it said')\n    subprocess.run([sys.executable, '-c', 'import socket; \
             socket.create_connection((\"192.0.2.1\", 80), 1)'], stderr=subprocess.DEVNULL)",
            "ended well in build_wheel, and a program that it started tried to reach a network",
        ),
        (
            "print('so it said', flush=True); subprocess.run([sys.executable, '-c', 'import socket\\n\
             for n in range(3):\\n socket.socket(2, 2).sendto(b\"x\", (\"192.0.2.1\", 53))'], check=True)",
            "failed in build_wheel: subprocess.CalledProcessError",
        ),
        // Escape sequences, bytes that are no text, a million lines: the last of it is shown, and as text.
        (
            "sys.stdout.buffer.write(b'x' * 2**20 + b'so it said \\x1b[2J\\xff\\n' * 9); sys.stdout.flush(); os._exit(7)",
            "broke off in build_wheel with exit status: 7",
        ),
        (&format!("print('so it said'); {write}"), "failed in build_wheel: OSError: [Errno 30] Read-only"),
        (&format!("print('so it said', flush=True); {remount}"), "failed in build_wheel: subprocess.Called"),
    ] {
        let place = Place::new();
        project(&place, extra);
        let ended = said(dmoci(&place.path("")).args(["--timeout", "3"]));
        let told = format!("{extra}\n{}", ended.err);
        assert_eq!(ended.code, Some(6), "{told}");
        assert!(ended.err.contains("error[E-WHEEL-BACKEND]") && ended.err.contains(expected), "{told}");
        assert!(ended.err.contains("so it said"), "{told}");
        assert!(!ended.err.contains('\u{1b}') && ended.err.len() < 80 << 10, "{} {told}", ended.err.len());
        assert!(!place.path("dist").exists(), "{told}");
    }
    assert!(!target.exists());
}
