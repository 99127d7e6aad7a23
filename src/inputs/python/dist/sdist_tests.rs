//! Source distributions made by the `tar` crate, each with one thing wrong.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use super::*;
use dmoci_layers::Digest;

const FILE: &str = "demo_app-1.0.tar.gz";
const PKG_INFO: &[u8] = b"Metadata-Version: 2.2\nName: demo-app\nVersion: 1.0\n";

fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(tar).unwrap();
    gzip.finish().unwrap()
}

/// An entry as Python's tarfile would write it.
fn add(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_600_000_000 + name.len() as u64);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_username("someone").unwrap();
    let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
    header.set_size(if link { 0 } else { content.len() as u64 });
    if link {
        header.set_link_name_literal(content).unwrap();
    }
    header.set_cksum();
    tar.append(&header, if link { &[] } else { content }).unwrap();
}

fn with(entries: &[(&str, tar::EntryType, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "demo_app-1.0/PKG-INFO", tar::EntryType::Regular, 0o600, PKG_INFO);
    add(&mut tar, "demo_app-1.0/pyproject.toml", tar::EntryType::Regular, 0o664, b"[project]\n");
    for (name, kind, mode, content) in entries {
        add(&mut tar, name, *kind, *mode, content);
    }
    packed(&tar.into_inner().unwrap())
}

fn told(name: &str, bytes: &[u8]) -> Vec<String> {
    let remarks = examine(file(bytes), Path::new(name)).remarks;
    remarks.into_iter().map(|r| format!("{} {}: {}", r.problem.code, r.place, r.problem.message)).collect()
}

fn normal(bytes: &[u8], time: u64) -> Vec<u8> {
    Sdist::read(file(bytes), Path::new(FILE)).unwrap().normal(Path::new(FILE), time).unwrap()
}

use tar::EntryType::{Char, Directory, Link, Regular, Symlink};

#[test]
fn a_good_one_and_its_form() {
    let bytes = with(&[
        ("demo_app-1.0/src", Directory, 0o700, b""),
        ("demo_app-1.0/src/run.sh", Regular, 0o700, b"#!/bin/sh\n"),
        ("demo_app-1.0/src/again.sh", Link, 0o700, b"demo_app-1.0/src/run.sh"),
        ("demo_app-1.0/a", Symlink, 0o777, b"src/run.sh"),
    ]);
    assert_eq!(told(FILE, &bytes), Vec::<String>::new());
    let found = examine(file(&bytes), Path::new(FILE));
    assert_eq!(found.project, Some(("demo-app".into(), "1.0".into())));
    let reasons = found.reasons.join("; ");
    for reason in ["several times", "an owner", "another mode", "another order", "hard links"] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
    let once = normal(&bytes, 1_700_000_000);
    assert_eq!(normal(&once, 1_700_000_000), once);
    let again = examine(file(&once), Path::new(FILE));
    assert_eq!((again.remarks.len(), again.reasons), (0, Vec::<String>::new()));
    let before = Sdist::read(file(&bytes), Path::new(FILE)).unwrap();
    let after = Sdist::read(file(&once), Path::new(FILE)).unwrap();
    assert_eq!(before.files, after.files);
    // The bytes of rules 1. Do not touch them: a change is a new number.
    assert_eq!(
        Digest::sha256(&once).to_string(),
        "sha256:6ed1040af3e510ca509083f213f5ff1d15fa9a485270a816a30c3014636471b1"
    );
}

#[test]
fn what_is_dangerous_is_refused() {
    for (name, kind, content, why) in [
        ("../x", Regular, &b""[..], "its name is dangerous"),
        ("/demo_app-1.0/x", Regular, b"", "absolute"),
        ("demo_app-1.0/a\\b", Regular, b"", "a backslash"),
        ("demo_app-1.0/a\nb", Regular, b"", "control characters"),
        ("other/x", Regular, b"", "it is not in the directory of everything"),
        ("demo_app-1.0/PKG-INFO", Regular, b"", "it is there twice"),
        ("demo_app-1.0/x", Symlink, b"../../etc/passwd", "leads out"),
        ("demo_app-1.0/x", Symlink, b"/etc/passwd", "leads out"),
        ("demo_app-1.0/x", Symlink, b"y/../../z", "leads out"),
        ("demo_app-1.0", Symlink, b"y", "leads out"),
        ("demo_app-1.0/x", Link, b"/etc/passwd", "a hard link of no file"),
        ("demo_app-1.0/x", Char, b"", "a device or a pipe"),
        ("demo_app-1.0/PKG-INFO/x", Regular, b"", "which is a file or a symbolic link"),
    ] {
        let found = told(FILE, &with(&[(name, kind, 0o644, content)]));
        assert!(found.iter().any(|line| line.contains(why)), "{name}: {found:?}");
    }
}

#[test]
fn names_and_metadata() {
    let good = with(&[]);
    let found = told("Demo.App-1.0.0.tar.gz", &good).join("\n");
    assert!(found.contains("not normalised, expected demo_app-1.0.0.tar.gz"), "{found}");
    assert!(found.contains("it is not in the directory of everything"), "{found}");
    assert!(told("demo_app-2.0.tar.gz", &good).join("\n").contains("directory of everything"));
    assert!(told("x.tar.gz", &good).join("\n").contains("expected NAME-VERSION.tar.gz"));
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "demo_app-1.0/x", Regular, 0o644, b"");
    let found = told(FILE, &packed(&tar.into_inner().unwrap())).join("\n");
    assert!(found.contains("E-METADATA demo_app-1.0/PKG-INFO: it is not there"), "{found}");
}

#[test]
fn what_is_damaged_is_found() {
    let good = with(&[("demo_app-1.0/x", Regular, 0o644, &[b'x'; 5000])]);
    for (bytes, why) in [
        (good[..good.len() / 2].to_vec(), "cut short"),
        ([&good[..], b"x"].concat(), "belong to no gzip member"),
        (b"PK\x03\x04".to_vec(), "gzip"),
        (Vec::new(), "cut short"),
        (packed(&[0; 1024]), "there is nothing in it"),
    ] {
        let found = told(FILE, &bytes).join("\n");
        assert!(found.contains("E-SDIST") && found.contains(why), "{why}: {found}");
    }
    let whole = Sdist::read(file(&good), Path::new(FILE)).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        let found = examine(file(&bytes), Path::new(FILE));
        // Some bits say nothing about the content: those of the header, and which of two equal bytes is copied.
        let same = || Sdist::read(file(&bytes), Path::new(FILE)).unwrap().files == whole.files;
        assert!(found.has_errors() || same(), "byte {at}");
    }
}
