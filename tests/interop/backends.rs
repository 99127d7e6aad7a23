//! `dmoci wheel` with real Python: backends that do what they should not, and all common ones under all circumstances.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, command, debian, have, run, said};

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
    dmoci.env("XDG_CACHE_HOME", debian::cache()).args(["wheel", "-C"]).arg(folder);
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
        assert!(!place.path("dist").exists(), "{told}");
    }
    assert!(!target.exists());
}

/// A backend, what it needs, and what else is in `pyproject.toml`.
const BACKENDS: &[(&str, &str, &str)] = &[
    ("setuptools.build_meta", "setuptools>=77", ""),
    ("hatchling.build", "hatchling", ""),
    ("flit_core.buildapi", "flit_core", ""),
    (
        "poetry.core.masonry.api",
        "poetry-core",
        "[tool.poetry]\npackages = [{ include = \"demo\", from = \"src\" }]\n",
    ),
    ("pdm.backend", "pdm-backend", ""),
    ("uv_build", "uv_build", ""),
    ("mesonpy", "meson-python", ""),
];

const EXTENSION: &str = "#include <Python.h>\nstatic PyObject *f(PyObject *s, PyObject *a) { return PyUnicode_FromString(__FILE__); }\n\
    static PyMethodDef m[] = {{\"f\", f, METH_NOARGS, \"\"}, {0}};\n\
    static struct PyModuleDef d = {PyModuleDef_HEAD_INIT, \"_x\", 0, -1, m};\n\
    PyMODINIT_FUNC PyInit__x(void) { return PyModule_Create(&d); }\n";

fn sample(folder: &Path, (backend, requires, more): (&str, &str, &str)) {
    fs::create_dir_all(folder.join("src/demo")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("src/demo/__init__.py", "print('demo')\n");
    write("README.md", "# demo\n");
    write(".gitignore", "dist\n");
    write(
        "pyproject.toml",
        &format!(
            "[build-system]\nrequires = [\"{requires}\"]\nbuild-backend = \"{backend}\"\n[project]\nname = \"demo\"\n\
             version = \"1.0\"\ndescription = \"x\"\nreadme = \"README.md\"\n{more}"
        ),
    );
    if backend == "setuptools.build_meta" || backend == "mesonpy" {
        write("src/demo/_x.c", EXTENSION);
    }
    if backend == "setuptools.build_meta" {
        write(
            "setup.py",
            "from setuptools import setup, Extension\nsetup(ext_modules=[Extension('demo._x', ['src/demo/_x.c'], \
             extra_compile_args=['-g'])])\n",
        );
    }
    if backend == "mesonpy" {
        write(
            "meson.build",
            "project('demo', 'c', version: '1.0')\npy = import('python').find_installation(pure: false)\n\
             py.install_sources('src/demo/__init__.py', subdir: 'demo')\n\
             py.extension_module('_x', 'src/demo/_x.c', install: true, subdir: 'demo')\n",
        );
    }
}

#[test]
fn every_backend_gives_the_same_bytes_under_all_circumstances() {
    if !have(&[PEERS, &["uv", "cc"]].concat()) {
        return;
    }
    let place = Place::new();
    for backend in BACKENDS {
        let folder = place.path(backend.1.split('>').next().unwrap());
        sample(&folder, *backend);
        commit(&folder);
        let made = |what: &str, command: &mut Command| {
            let ended = said(command);
            assert_eq!(ended.code, Some(0), "{} {what}: {}", backend.0, ended.err);
            ended.out
        };
        let first = made("first", &mut dmoci(&folder));
        run(git(&folder).args(["add", "dmoci.lock"]));
        run(git(&folder).args(["commit", "--quiet", "-m", "lock"]));
        let first_locked = made("locked", &mut dmoci(&folder));
        // The lock file is in the source now, and of some in the sdist.
        assert_eq!(first.lines().count(), 2);
        let elsewhere = place.path("clone");
        let _ = fs::remove_dir_all(&elsewhere);
        let mut clone = command("sh");
        clone.args(["-c", "umask 077; git clone --quiet \"$0\" \"$1\""]).arg(&folder).arg(&elsewhere);
        run(&mut clone);
        fs::set_permissions(elsewhere.join("README.md"), fs::Permissions::from_mode(0o640)).unwrap();
        let offline = || {
            let mut dmoci = dmoci(&elsewhere);
            dmoci.args(["--locked", "--offline"]);
            dmoci
        };
        for (what, command) in [
            ("clone", &mut offline()),
            ("time zone", offline().env("TZ", "Asia/Tokyo")),
            ("hash seed", offline().env("PYTHONHASHSEED", "77")),
            ("locale", offline().env("LC_ALL", "C").env("LANG", "de_DE.UTF-8")),
            ("directory", offline().current_dir("/")),
            ("flags", offline().env("CFLAGS", "-O0").env("PIP_NO_BINARY", ":all:")),
        ] {
            assert_eq!(made(what, command), first_locked, "{} {what}", backend.0);
        }
        let mut umask = command("sh");
        umask.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(offline().get_program());
        umask.args(offline().get_args().map(ToOwned::to_owned).collect::<Vec<_>>());
        umask.env("XDG_CACHE_HOME", debian::cache());
        assert_eq!(made("umask", &mut umask), first_locked, "{} umask", backend.0);
    }
}
