//! What wheels become, against what `uv` and `pip` make of the same wheels.
//!
//! Both install into a virtual environment at a path, and dmoci builds an image with one at the same path, for the same
//! Python; then the folders are compared. What may differ is written down here and in `docs/python.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::debian;
use crate::support::wheel::Wheel;
use crate::support::{Place, command, dmoci, have, path_of, run};

const PEERS: &[&str] = &["amd64", "tar", "python3", "uv", "pip3"];

/// A wheel with something of everything that the format has.
fn rich(spaced: bool) -> Wheel {
    let entry_points = match spaced {
        true => "[console_scripts]\nrich=rich:main\nrich-spaced = rich : main\n",
        false => "[console_scripts]\nrich=rich:main\n",
    };
    Wheel::new("rich-wheel", "1.0")
        .file("rich/__init__.py", "def main():\n    print('rich')\n")
        .file("rich/nested/ns/part.py", "")
        .file("rich.pth", "# nothing\n")
        .mode("rich/tool.sh", "#!/bin/sh\n", 0o777)
        .mode("rich/secret", "x", 0o600)
        .file("with space, and comma.py", "")
        .data("purelib/rich_pure.py", "")
        .data("platlib/rich_plat.py", "")
        .data("headers/rich.h", "")
        .data("data/share/rich/data.txt", "data\n")
        .data("scripts/rich-placeholder", "#!python\nprint(1)\n")
        .data("scripts/rich-argument", "#!python -E\nprint(2)\n")
        .data("scripts/rich-gui", "#!pythonw\nprint(3)\n")
        .data("scripts/rich-shell", "#!/bin/sh\necho 4\n")
        .info("entry_points.txt", entry_points)
        .info("licenses/LICENSE", "free\n")
        .info("sboms/rich.cdx.json", "{}\n")
}

/// The wheels of the example and the rich one, in a folder.
fn wheels(place: &Place, spaced: bool) -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webapp/wheels");
    let folder = place.path("wheels");
    fs::create_dir(&folder).unwrap();
    for wheel in fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&wheel, folder.join(wheel.file_name().unwrap())).unwrap();
    }
    fs::write(folder.join(rich(spaced).file_name()), rich(spaced).bytes()).unwrap();
    listed(&folder)
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// The machine's Python: its path and version.
fn python() -> (PathBuf, String) {
    let script =
        "import os, sys, platform; print(os.path.realpath(sys.executable)); print(platform.python_version())";
    let said = run(command("python3").args(["-I", "-c", script]));
    let (path, version) = said.trim().split_once('\n').unwrap();
    (path.into(), version.to_owned())
}

/// The environment at this path as dmoci makes it, unpacked somewhere else.
fn ours(place: &Place, wheels: &[PathBuf], at: &Path) -> PathBuf {
    let (python, version) = python();
    let project = place.path("project");
    fs::create_dir_all(project.join("wheels")).unwrap();
    let mut entries = String::new();
    for wheel in wheels {
        let name = wheel.file_name().unwrap().to_str().unwrap();
        fs::copy(wheel, project.join("wheels").join(name)).unwrap();
        entries += &format!(
            "    {{ path = \"wheels/{name}\", venv = \"{}\", interpreter = \"{}\", python-version = \"{version}\", libc = \
             \"glibc-2.40\" }},\n",
            at.display(),
            python.display()
        );
    }
    let spec = format!(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"python\"\nwheel = [\n{entries}]\n"
    );
    fs::write(project.join("dmoci.toml"), spec).unwrap();
    run(dmoci().arg("build").arg("-C").arg(&project));
    let digests: serde_json::Value =
        serde_json::from_slice(&fs::read(project.join("dist/digests.json")).unwrap()).unwrap();
    let root = place.path("root");
    fs::create_dir(&root).unwrap();
    for layer in digests["platforms"][0]["layers"].as_array().unwrap() {
        let hex = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = project.join("dist/image/blobs/sha256").join(hex);
        run(command("tar").arg("-xzpf").arg(blob).arg("-C").arg(&root));
    }
    root.join(at.strip_prefix("/").unwrap())
}

/// Of a file that is larger, and no RECORD, [`tree`] keeps the beginning and the digest.
const LARGE: usize = 1 << 16;

/// What a folder holds, by path: mode and content, or target of a link. Empty directories are not told of.
pub(crate) fn tree(folder: &Path) -> Tree {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for path in listed(&directory) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                found.insert(name, (0, target));
            } else if metadata.is_dir() {
                open.push(path);
            } else {
                let mut content = fs::read(&path).unwrap();
                if content.len() > LARGE && !name.ends_with("/RECORD") {
                    let digest = dmoci_layers::Digest::sha256(&content);
                    content.truncate(64);
                    content.extend(digest.to_string().bytes());
                }
                found.insert(name, (metadata.permissions().mode() & 0o7777, content));
            }
        }
    }
    found
}

/// The lines of a RECORD but those of files that are meant to differ.
fn record(content: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8(content.to_vec()).unwrap();
    let meant = ["/INSTALLER,", "/REQUESTED,", "/direct_url.json,", "/uv_cache.json,", "/__pycache__/"];
    // Without an environment programs and data stand beside the packages.
    let lines = text.lines().map(|line| line.strip_prefix("../../../").unwrap_or(line));
    let meant = |line: &&str| line.starts_with("bin/") || meant.iter().any(|part| line.contains(part));
    lines.filter(|line| !meant(line)).map(str::to_owned).collect()
}

/// In what two environments differ, a line each.
pub(crate) fn differences(ours: &Path, theirs: &Path) -> Vec<String> {
    differences_of(&tree(ours), &tree(theirs))
}

/// What a folder holds, by path; see [`tree`].
pub(crate) type Tree = BTreeMap<String, (u32, Vec<u8>)>;

/// In what they differ, a line each.
pub(crate) fn differences_of(ours: &Tree, theirs: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for path in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
        match (ours.get(path), theirs.get(path)) {
            (Some(_), None) => lines.push(format!("only here: {path}")),
            (None, Some(_)) => lines.push(format!("only there: {path}")),
            (Some((mode, content)), Some((other_mode, other))) => {
                if mode != other_mode {
                    lines.push(format!("mode {mode:o}, {other_mode:o}: {path}"));
                }
                let same = match path.ends_with(".dist-info/RECORD") {
                    true => record(content) == record(other),
                    false => content == other,
                };
                if !same {
                    lines.push(format!("content: {path}"));
                }
            }
            (None, None) => {}
        }
    }
    lines
}

/// An environment that uv makes of these wheels.
fn by_uv(at: &Path, wheels: &[PathBuf]) {
    run(command("uv").args(["venv", "--offline", "--python"]).arg(python().0).arg(at));
    let mut uv = command("uv");
    uv.args(["pip", "install", "--offline", "--no-index", "--no-deps", "--no-cache", "--python"]);
    run(uv.arg(at.join("bin/python")).args(wheels));
}

/// An environment that pip makes of these wheels.
fn by_pip(at: &Path, wheels: &[PathBuf]) {
    run(command("python3").args(["-m", "venv", "--without-pip"]).arg(at));
    let mut pip = command(path_of("pip3").unwrap());
    pip.arg("--python").arg(at.join("bin/python"));
    pip.args(["install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]);
    run(pip.args(wheels));
}

/// The differences, with the same names for every version of Python.
fn shown(lines: &[String]) -> String {
    let (_, version) = python();
    let minor = version.split('.').nth(1).unwrap();
    lines.join("\n").replace(&format!("python3.{minor}"), "python3.X")
}

#[test]
fn as_uv_installs_them() {
    if !have(PEERS) {
        return;
    }
    let place = Place::new();
    let (wheels, at) = (wheels(&place, true), place.path("venv"));
    by_uv(&at, &wheels);
    assert_eq!(shown(&differences(&ours(&place, &wheels, &at), &at)), UV);
}

const UV: &str = "\
only there: .gitignore
only there: .lock
only there: CACHEDIR.TAG
only there: bin/activate
only there: bin/activate.bat
only there: bin/activate.csh
only there: bin/activate.fish
only there: bin/activate.nu
only there: bin/activate.ps1
only there: bin/activate.xsh
only there: bin/activate_this.py
content: bin/almanac-serve
only there: bin/deactivate.bat
only there: bin/pydoc.bat
content: bin/rich
content: bin/rich-argument
content: bin/rich-spaced
content: lib/python3.X/site-packages/almanac-1.0.0.dist-info/INSTALLER
content: lib/python3.X/site-packages/almanac-1.0.0.dist-info/direct_url.json
only there: lib/python3.X/site-packages/almanac-1.0.0.dist-info/uv_cache.json
content: lib/python3.X/site-packages/moonphase-1.0.1.dist-info/INSTALLER
content: lib/python3.X/site-packages/moonphase-1.0.1.dist-info/direct_url.json
only there: lib/python3.X/site-packages/moonphase-1.0.1.dist-info/uv_cache.json
content: lib/python3.X/site-packages/rich_wheel-1.0.dist-info/INSTALLER
content: lib/python3.X/site-packages/rich_wheel-1.0.dist-info/direct_url.json
only there: lib/python3.X/site-packages/rich_wheel-1.0.dist-info/uv_cache.json
content: lib/python3.X/site-packages/tinyroute-0.2.0.dist-info/INSTALLER
content: lib/python3.X/site-packages/tinyroute-0.2.0.dist-info/direct_url.json
only there: lib/python3.X/site-packages/tinyroute-0.2.0.dist-info/uv_cache.json
content: pyvenv.cfg";

/// Without the entry point `a : b`, at which pip gives up.
#[test]
fn as_pip_installs_them() {
    if !have(PEERS) {
        return;
    }
    let place = Place::new();
    let (wheels, at) = (wheels(&place, false), place.path("venv"));
    by_pip(&at, &wheels);
    let lines = differences(&ours(&place, &wheels, &at), &at);
    // Which of its names of the interpreter is the link to it, `venv` decides by how it was called.
    let lines: Vec<String> =
        lines.into_iter().filter(|line| !line.starts_with("content: bin/python")).collect();
    assert_eq!(shown(&lines), PIP);
}

const PIP: &str = "\
only there: bin/Activate.ps1
only there: bin/activate
only there: bin/activate.csh
only there: bin/activate.fish
mode 755, 644: bin/almanac-check
content: bin/almanac-serve
content: bin/rich
mode 755, 644: bin/rich-argument
content: bin/rich-argument
mode 755, 644: bin/rich-gui
mode 755, 644: bin/rich-placeholder
mode 755, 644: bin/rich-shell
content: lib/python3.X/site-packages/almanac-1.0.0.dist-info/INSTALLER
content: lib/python3.X/site-packages/almanac-1.0.0.dist-info/direct_url.json
content: lib/python3.X/site-packages/moonphase-1.0.1.dist-info/INSTALLER
content: lib/python3.X/site-packages/moonphase-1.0.1.dist-info/direct_url.json
content: lib/python3.X/site-packages/rich_wheel-1.0.dist-info/INSTALLER
content: lib/python3.X/site-packages/rich_wheel-1.0.dist-info/direct_url.json
content: lib/python3.X/site-packages/tinyroute-0.2.0.dist-info/INSTALLER
content: lib/python3.X/site-packages/tinyroute-0.2.0.dist-info/direct_url.json
content: pyvenv.cfg";

/// Every file and every line of RECORD of real wheels, apart from the differences above.
#[test]
fn real_wheels_as_uv_installs_them() {
    if !have(PEERS) {
        return;
    }
    let place = Place::new();
    let folder = debian::cache().join("wheels");
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/wheels.txt");
    let mut pip = command(path_of("pip3").unwrap());
    pip.args(["download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest"]);
    run(pip.arg(&folder).arg("--find-links").arg(&folder).arg("--requirement").arg(&list));
    let names = fs::read_to_string(&list).unwrap();
    let wanted: Vec<String> = names
        .lines()
        .filter_map(|line| line.split_once(" --hash"))
        .map(|(pin, _)| pin.replace("==", "-"))
        .collect();
    let wheels: Vec<PathBuf> = listed(&folder)
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            wanted.iter().any(|pin| name.starts_with(&format!("{pin}-")))
        })
        .collect();
    assert_eq!(wheels.len(), wanted.len());
    let at = place.path("venv");
    by_uv(&at, &wheels);
    let ours = ours(&place, &wheels, &at);
    let meant = |line: &String| {
        let (kind, path) = line.rsplit_once(": ").unwrap();
        match kind {
            "only there" => UV.contains(line.as_str()) || path.ends_with(".dist-info/uv_cache.json"),
            "content" => {
                let program = || fs::read_to_string(ours.join(path)).unwrap().contains("\n    sys.exit(");
                path == "pyvenv.cfg"
                    || path.ends_with(".dist-info/INSTALLER")
                    || path.ends_with(".dist-info/direct_url.json")
                    || path.starts_with("bin/") && program()
            }
            // uv gives RECORD the mode that it has in the wheel.
            _ => kind == "mode 644, 755" && path.ends_with(".dist-info/RECORD"),
        }
    };
    let other: Vec<String> = differences(&ours, &at).into_iter().filter(|line| !meant(line)).collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
    assert!(tree(&ours).len() > 1000, "{}", tree(&ours).len());
}
