//! `dmoci verify --rebuild` of what others have published, from their own source distributions.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;

use crate::support::wheel::Wheel;
use crate::support::{Place, command, debian, exits, have, path_of, run, said};

const PEERS: &[&str] = &["python3", "pip3", "uv", "unshare", "cc", "tar"];

/// A project, and what its published wheel is in comparison with what its source gives.
const PUBLISHED: &[(&str, &str)] = &[
    ("attrs", "identical bytes"),
    ("flask", "identical bytes"),
    // Its wheel has the times of the files of somebody's work tree.
    ("httpie", "identical after normalisation"),
    ("jinja2", "identical bytes"),
    ("markupsafe", "different"),
    ("pygments", "identical bytes"),
    ("requests", "identical bytes"),
    ("rich", "identical bytes"),
];

fn list() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/published.txt")
}

/// The files in a folder that the list has the digests of, by name.
fn known(folder: &Path) -> Vec<PathBuf> {
    let list = fs::read_to_string(list()).unwrap();
    let files = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()));
    let mut files: Vec<PathBuf> = files.into_iter().flatten().collect();
    files.retain(|path| list.contains(Digest::sha256(&fs::read(path).unwrap()).hex()));
    files.sort();
    files
}

/// The wheels and the source distributions; nothing, and it is said, where they cannot be fetched.
fn fetched() -> Option<[Vec<PathBuf>; 2]> {
    let mut both = [Vec::new(), Vec::new()];
    for (files, (kind, option)) in
        both.iter_mut().zip([("wheels", "--only-binary"), ("sdists", "--no-binary")])
    {
        let folder = debian::cache().join("published").join(kind);
        *files = known(&folder);
        if files.len() < PUBLISHED.len() {
            // With a name for each: what a source distribution is built by may come as a wheel.
            let names: Vec<&str> = PUBLISHED.iter().map(|(name, _)| *name).collect();
            let mut pip = command(path_of("pip3").unwrap());
            pip.args(["download", "--quiet", "--no-deps", "--require-hashes", option, &names.join(",")]);
            let said = said(pip.arg("--dest").arg(&folder).arg("--requirement").arg(list()));
            if said.code != Some(0) {
                assert!(env::var_os("DMOCI_REQUIRE_PEERS").is_none(), "{}", said.err);
                let line = format!("skipped: published {kind} cannot be fetched: {}\n", said.err.trim());
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                return None;
            }
            *files = known(&folder);
        }
        assert_eq!(files.len(), PUBLISHED.len(), "{files:?}");
    }
    Some(both)
}

/// Unpacks a source distribution under a umask, as anybody would; gives its folder.
fn unpacked(sdist: &Path, into: &Path, umask: &str) -> PathBuf {
    fs::create_dir_all(into).unwrap();
    let mut sh = command("sh");
    sh.args(["-c", "umask \"$0\"; tar --no-same-permissions --no-same-owner -xzf \"$1\" -C \"$2\"", umask]);
    run(sh.arg(sdist).arg(into));
    into.join(sdist.file_name().unwrap().to_str().unwrap().strip_suffix(".tar.gz").unwrap())
}

fn rebuilt(wheel: &Path, source: &Path, umask: &str, code: i32) -> String {
    let mut sh = command("sh");
    sh.args(["-c", "umask \"$0\"; exec \"$@\"", umask, env!("CARGO_BIN_EXE_dmoci")]);
    sh.args(["verify", "--integrity-only", "--rebuild", "--source"]).arg(source).arg(wheel);
    exits(sh.env("XDG_CACHE_HOME", debian::cache()), code).out
}

#[test]
fn wheels_that_others_have_published() {
    if !have(PEERS) {
        return;
    }
    let Some([wheels, sdists]) = fetched() else { return };
    let place = Place::new();
    for (((name, verdict), wheel), sdist) in PUBLISHED.iter().zip(&wheels).zip(&sdists) {
        let is_its =
            |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-"));
        assert!(is_its(wheel) && is_its(sdist), "{name}: {} {}", wheel.display(), sdist.display());
        let source = unpacked(sdist, &place.path(""), "022");
        let out = rebuilt(wheel, &source, "022", if *verdict == "different" { 5 } else { 0 });
        assert!(out.contains(&format!("\n  rebuild: {verdict}\n")), "{name}: {out}");
        assert!(!source.join("dist").exists() && !source.join("dmoci.lock").exists(), "{name}");
        match *name {
            "requests" => {
                let source = unpacked(sdist, &place.path("077"), "077");
                let out = rebuilt(wheel, &source, "077", 0);
                assert!(out.contains("\n  rebuild: identical bytes\n"), "{out}");
            }
            "markupsafe" => {
                let line = out.lines().find(|line| line.contains("_speedups.")).unwrap();
                assert!(
                    line.contains(".so: differs in its sections ") && line.contains(", .text, "),
                    "{out}"
                );
                assert!(line.contains(".note.gnu.build-id") && line.contains("; made by \"GCC: "), "{out}");
            }
            _ => {}
        }
    }
}

/// What the Python at hand builds says nothing about a wheel of another one, which is no answer.
#[test]
fn a_wheel_for_another_python() {
    if !have(&["python3"]) {
        return;
    }
    let place = Place::new();
    fs::write(place.path("setup.py"), "").unwrap();
    for tag in ["cp39-cp39-win_amd64", "cp37-cp37m-any", "cp39-abi3-musllinux_1_2_x86_64"] {
        let wheel = Wheel::new("demo", "1.0").tag(tag);
        let path = place.path(&wheel.file_name());
        fs::write(&path, wheel.bytes()).unwrap();
        let mut verify = command(env!("CARGO_BIN_EXE_dmoci"));
        verify.args(["verify", "--integrity-only", "--rebuild", "--source"]).arg(place.path("")).arg(&path);
        let ended = exits(&mut verify, 6);
        assert!(
            ended.err.contains("error[E-REBUILD]") && ended.err.contains("does not run"),
            "{}",
            ended.err
        );
        assert!(ended.out.contains("UNDECIDED: "), "{}", ended.out);
    }
}
