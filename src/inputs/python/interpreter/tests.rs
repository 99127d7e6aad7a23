use super::*;
use crate::inputs::python::error::shown;
use crate::inputs::{Content, Item};
use dmoci_layers::{Entry, EntryKind};

/// A little ELF file of a machine, with its loader, and texts in it.
fn elf(machine: u8, loader: &str, texts: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0; 120];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    (bytes[18], bytes[32], bytes[54], bytes[56], bytes[64], bytes[72], bytes[96]) =
        (machine, 64, 56, 1, if loader.is_empty() { 0 } else { 3 }, 120, loader.len() as u8 + 1);
    for text in [&[loader], texts].concat() {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

const GLIBC: &str = "/lib64/ld-linux-x86-64.so.2";
const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

fn banner(version: &str) -> String {
    format!("GNU C Library (Debian GLIBC {version}-9) stable release version {version}.\nCopyright")
}

/// What stands at a path: a file, a link (`->target`), or a little text.
fn tree(files: &[(&str, Vec<u8>)]) -> Tree {
    let mut tree = Tree::default();
    for (path, bytes) in files {
        let path = SafePath::parse(path.as_bytes()).unwrap();
        let (kind, content) = match bytes.strip_prefix(b"->") {
            Some(target) => (EntryKind::Symlink { target: target.to_vec() }, Content::None),
            None => (EntryKind::File { size: bytes.len() as u64 }, Content::Bytes(bytes.clone().into())),
        };
        tree.apply(&Item {
            entry: Entry { path, kind, mode: 0o755, uid: 0, gid: 0, xattrs: vec![] },
            content,
        });
    }
    tree
}

/// Debian 12: merged /usr, a static interpreter.
fn debian() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("lib", b"->usr/lib".into()),
        ("lib64", b"->usr/lib64".into()),
        ("bin", b"->usr/bin".into()),
        ("usr/lib64/ld-linux-x86-64.so.2", b"->/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2".into()),
        ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", elf(62, "", &[])),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", elf(62, GLIBC, &[&banner("2.36")])),
        ("usr/bin/python3", b"->python3.11".into()),
        ("usr/bin/python3.11", elf(62, GLIBC, &["3.11.2", "3.2.0", ".cpython-311-x86_64-linux-gnu.so"])),
    ]
}

fn run_on(
    files: &[(&str, Vec<u8>)],
    variables: &[(&str, &str)],
    wanted: &Wanted,
    platform: &str,
) -> Result<String, String> {
    let variable =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    find(&tree(files), &variable, wanted, &platform.parse().unwrap())
        .map(|target| format!("{} {target}", target.interpreter))
        .map_err(shown)
}

fn run(files: &[(&str, Vec<u8>)], wanted: &Wanted) -> Result<String, String> {
    run_on(files, &[], wanted, "linux/amd64")
}

fn path(text: &str) -> Option<SafePath> {
    Some(SafePath::parse(text.trim_start_matches('/').as_bytes()).unwrap())
}

#[test]
fn debian_and_docker() {
    let debian = debian();
    let any = Wanted::default();
    let expected = "/usr/bin/python3.11 CPython 3.11.2 on x86_64 with glibc-2.36";
    assert_eq!(run(&debian, &any).unwrap(), expected);
    // Two versions: `python3` says which is meant.
    let mut two = debian.clone();
    two.push(("usr/bin/python3.13", elf(62, GLIBC, &["3.13.5"])));
    assert_eq!(run(&two, &any).unwrap(), expected);
    let other = Wanted { interpreter: path("/usr/bin/python3.13"), ..Wanted::default() };
    assert_eq!(run(&two, &other).unwrap(), "/usr/bin/python3.13 CPython 3.13.5 on x86_64 with glibc-2.36");
    // Docker's image on top: a shared library, and a variable that says which is meant.
    let mut docker = debian.clone();
    docker.extend([
        ("usr/local/bin/python3", b"->python3.12".to_vec()),
        ("usr/local/bin/python3.12", elf(62, GLIBC, &["libpython3.12.so.1.0"])),
        ("usr/local/lib/libpython3.12.so.1.0", elf(62, "", &["3.12.4", ".cpython-312-x86_64-linux-gnu.so"])),
    ]);
    let found = run_on(&docker, &[("PYTHON_VERSION", "3.12.4")], &any, "linux/amd64");
    assert_eq!(found.unwrap(), "/usr/local/bin/python3.12 CPython 3.12.4 on x86_64 with glibc-2.36");
    let wish = Wanted { version: Some("3.11.2".into()), ..Wanted::default() };
    assert_eq!(run(&docker, &wish).unwrap(), expected);
    assert_eq!(
        run(&docker, &any).unwrap_err(),
        "E-PYTHON-INTERPRETER: there is more than one Python below this layer\nhelp: say `interpreter = \
         \"/usr/bin/python3.11\"` (3.11.2) or `interpreter = \"/usr/local/bin/python3.12\"` (3.12.4)"
    );
}

#[test]
fn musl_and_others() {
    let alpine = vec![
        ("lib/ld-musl-x86_64.so.1", elf(62, "", &["1.2.5", "musl libc (x86_64)\n"])),
        ("usr/bin/python3", b"->python3.12".to_vec()),
        ("usr/bin/python3.12", elf(62, MUSL, &[])),
        (
            "usr/lib/libpython3.12.so.1.0",
            elf(62, "", &["/x/Python-3.12.7", ".cpython-312-x86_64-linux-musl.so"]),
        ),
    ];
    let any = Wanted::default();
    assert_eq!(run(&alpine, &any).unwrap(), "/usr/bin/python3.12 CPython 3.12.7 on x86_64 with musl-1.2");
    // A standalone build in a folder of its own, without lock, beside glibc.
    let mut standalone = debian();
    standalone.truncate(6);
    let bin = "opt/py/cpython-3.13.1+freethreaded-linux-x86_64-gnu/bin/python3.13t";
    standalone.push((bin, elf(62, GLIBC, &["3.13.1", ".cpython-313t-x86_64-linux-gnu.so"])));
    assert_eq!(
        run(&standalone, &any).unwrap(),
        format!("/{bin} CPython 3.13.1 (free-threaded) on x86_64 with glibc-2.36")
    );
    // The header decides where the binary alone does not.
    let mut header = debian();
    header[7].1 = elf(62, GLIBC, &["/opt/3.11.0", "/src/Python-3.11.9"]);
    let error = run(&header, &any).unwrap_err();
    assert!(error.contains("it says of itself to be 3.11.0 and 3.11.9"), "{error}");
    header.push(("usr/include/python3.11/patchlevel.h", b"#define PY_VERSION      \t\"3.11.9\"\n".to_vec()));
    assert_eq!(run(&header, &any).unwrap(), "/usr/bin/python3.11 CPython 3.11.9 on x86_64 with glibc-2.36");
}

#[test]
fn environments_lead_to_their_interpreter() {
    let mut files = debian();
    files.extend([
        (
            "opt/app/pyvenv.cfg",
            b"home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n".to_vec(),
        ),
        ("opt/app/bin/python", b"->/usr/bin/python3".to_vec()),
        ("opt/copied/pyvenv.cfg", b"home=/usr/bin".to_vec()),
        ("opt/copied/bin/python3.11", elf(62, GLIBC, &["3.11.2"])),
        ("usr/local/bin/python3.12", elf(62, GLIBC, &["3.12.4"])),
    ]);
    for venv in ["/opt/app", "/opt/copied"] {
        let wanted = Wanted { venv: path(venv), ..Wanted::default() };
        let found = run(&files, &wanted).unwrap();
        assert_eq!(found, "/usr/bin/python3.11 CPython 3.11.2 on x86_64 with glibc-2.36", "{venv}");
    }
    // One that is still to be made says nothing; a copy in an environment is no interpreter of the image.
    let wanted = Wanted { venv: path("/opt/new"), ..Wanted::default() };
    let error = run(&files, &wanted).unwrap_err();
    assert!(error.contains("more than one") && !error.contains("copied"), "{error}");
}

#[test]
fn what_the_spec_says() {
    let all = Wanted {
        interpreter: path("/usr/bin/python3.12"),
        version: Some("3.12.4".into()),
        libc: Libc::parse("glibc-2.36"),
        venv: None,
    };
    let found = run_on(&[], &[], &all, "linux/arm64").unwrap();
    assert_eq!(found, "/usr/bin/python3.12 CPython 3.12.4 on aarch64 with glibc-2.36");
    let pure = Wanted { libc: None, ..all.clone() };
    assert_eq!(run(&[], &pure).unwrap(), "/usr/bin/python3.12 CPython 3.12.4 on x86_64");
    let without = Wanted { version: None, ..all.clone() };
    assert_eq!(
        run(&[], &without).unwrap_err(),
        "E-PYTHON-INTERPRETER: the image has no interpreter at /usr/bin/python3.12\nhelp: there is none; for one that is not \
         in the image, say `python-version`, and `libc` for wheels of one platform"
    );
    let error = run(&[], &Wanted::default()).unwrap_err();
    assert!(error.starts_with("E-PYTHON-INTERPRETER: there is no Python below this layer"), "{error}");
    let wrong = Wanted { version: Some("3.12".into()), ..all };
    let error = run(&[], &wrong).unwrap_err();
    assert!(error.contains("\"3.12\" is no whole version of Python 3"), "{error}");

    let with = |version: Option<&str>, libc: &str| Wanted {
        interpreter: path("/usr/bin/python3"),
        version: version.map(Into::into),
        libc: Libc::parse(libc),
        venv: None,
    };
    let debian = debian();
    assert_eq!(
        run(&debian, &with(Some("3.11.2"), "glibc-2.36")).unwrap(),
        "/usr/bin/python3 CPython 3.11.2 on x86_64 with glibc-2.36"
    );
    assert!(
        run(&debian, &with(Some("3.11.3"), ""))
            .unwrap_err()
            .contains("/usr/bin/python3 is Python 3.11.2, and `python-version` says 3.11.3")
    );
    assert!(
        run(&debian, &with(None, "musl-1.2"))
            .unwrap_err()
            .contains("/usr/bin/python3 runs on glibc-2.36, and `libc` says musl-1.2")
    );
    // What cannot be told is taken from the spec.
    let mut silent = debian.clone();
    silent[7].1 = elf(62, "", &["x"]);
    assert!(
        run(&silent, &with(None, "glibc-2.31")).unwrap_err().contains("nothing says which Python 3.11 it is")
    );
    assert!(run(&silent, &with(Some("3.11.9"), "")).unwrap_err().contains("it names no dynamic loader"));
    assert_eq!(
        run(&silent, &with(Some("3.11.9"), "glibc-2.31")).unwrap(),
        "/usr/bin/python3 CPython 3.11.9 on x86_64 with glibc-2.31"
    );
}

#[test]
fn refused() {
    let mut files = debian();
    files.push(("usr/bin/python", b"#!/bin/sh\n".to_vec()));
    let at = |place: &str| Wanted { interpreter: path(place), ..Wanted::default() };
    let error = run(&files, &at("/usr/bin/python")).unwrap_err();
    assert!(
        error.contains("/usr/bin/python is no program that can be read") && error.contains("3.11"),
        "{error}"
    );
    let error = run(&files, &at("/usr/bin/python3.12")).unwrap_err();
    assert!(
        error.contains("has no interpreter at /usr/bin/python3.12")
            && error.contains("python3.11\"` (3.11.2)"),
        "{error}"
    );
    let error = run_on(&files, &[], &Wanted::default(), "linux/arm64").unwrap_err();
    assert!(error.contains("/usr/bin/python3.11 is for another processor than linux/arm64"), "{error}");
    // Two C libraries, none of them beside the loader.
    let mut several = debian();
    several[5].0 = "opt/a/libc.so.6";
    several.push(("opt/b/libc.so.6", elf(62, GLIBC, &[&banner("2.31")])));
    let error = run(&several, &Wanted::default()).unwrap_err();
    assert!(
        error.contains("the C library of /usr/bin/python3.11 cannot be told: the image has several"),
        "{error}"
    );
    let error = run(&debian()[6..], &Wanted::default()).unwrap_err();
    assert!(error.contains("its dynamic loader /lib64/ld-linux-x86-64.so.2 is not in the image"), "{error}");
}
