//! One byte changed anywhere: always found, and the message names the blob and its place in the image.

use std::fs;
use std::path::{Path, PathBuf};

use dmoci::engine::verify::Verdict;
use dmoci::oci::Severity;
use dmoci_layers::Digest;
use tempfile::TempDir;

use super::sample::tar;
use super::{Sample, assert_sound, report, request};

/// What is changed in a byte, in turn: the lowest bit, the one that changes case, the highest, and all.
const FLIPS: [u8; 4] = [0x01, 0x20, 0x80, 0xff];

/// Verifies `path` with every byte of `file` changed; `named` says whether a place is good enough.
fn every_flip(path: &Path, file: &Path, named: &dyn Fn(usize, &str) -> bool) -> usize {
    let good = fs::read(file).unwrap();
    let mut tried = 0;
    for at in 0..good.len() {
        {
            let flip = FLIPS[at % FLIPS.len()];
            let mut bad = good.clone();
            bad[at] ^= flip;
            fs::write(file, &bad).unwrap();
            let places = match dmoci::ops::verify::verify(&request(path)) {
                Ok(report) => {
                    assert_eq!(report.verdict, Verdict::NotSound, "{} at {at} ^ {flip:#x}", file.display());
                    report
                        .findings
                        .iter()
                        .filter(|finding| finding.severity == Severity::Error)
                        .map(|finding| finding.place.clone())
                        .collect::<Vec<_>>()
                }
                Err(failure) => {
                    assert_eq!(failure.exit as i32, 1, "{at} ^ {flip:#x}: {failure}");
                    vec![failure.to_string()]
                }
            };
            assert!(
                places.iter().any(|place| named(at, place)),
                "{} at {at} ^ {flip:#x}: {places:?}",
                file.display()
            );
            tried += 1;
        }
    }
    fs::write(file, &good).unwrap();
    tried
}

/// What the blob is for, as far as a test needs to tell them apart.
fn role(sample: &Sample, digest: &Digest) -> &'static str {
    let bytes = &sample.blobs[digest];
    match bytes.as_slice() {
        [0x1f, 0x8b, ..] => "layer 1 'os' of linux/",
        [0x28, 0xb5, ..] => "layer 2 'app' of linux/",
        text if text.windows(8).any(|w| w == b"\"rootfs\"") => "config of linux/",
        text if text.windows(8).any(|w| w == b"\"layers\"") => "manifest of linux/",
        _ => "index \"1.0\"",
    }
}

#[test]
fn every_byte_of_a_layout() {
    let sample = Sample::two_platforms();
    let layout = sample.layout();
    assert_sound(&report(layout.path()));
    assert_eq!(report(layout.path()).canonical.reasons, [""; 0]);
    let mut tried = 0;
    for name in ["oci-layout", "index.json"] {
        tried += every_flip(layout.path(), &layout.path().join(name), &|_, place| place.contains(name));
    }
    for digest in sample.blobs.keys() {
        let wanted = format!("blob {digest} = {}", role(&sample, digest));
        tried += every_flip(layout.path(), &layout.blob(digest), &|_, place| place.contains(&wanted));
    }
    let bytes: usize = sample.blobs.values().map(Vec::len).sum::<usize>() + sample.index.len() + 30;
    assert_eq!(tried, bytes);
    assert_sound(&report(layout.path()));
}

/// For each part of an archive, the byte behind it and what a message must say about it.
fn parts(sample: &Sample) -> Vec<(usize, String)> {
    let mut parts = Vec::new();
    let mut end = 0;
    for (name, content) in sample.members() {
        end += 512 + content.map_or(0, |content| content.len().next_multiple_of(512));
        let what = match name.strip_prefix("blobs/sha256/") {
            Some(hex) => {
                let digest: Digest = format!("sha256:{hex}").parse().unwrap();
                format!("blob {digest} = {}", role(sample, &digest))
            }
            None => name,
        };
        parts.push((end, what));
    }
    // A damaged end is told by where the archive should end.
    parts.push((end + 1024, "end of the archive".into()));
    parts
}

fn archive(sample: &Sample) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.tar");
    fs::write(&path, tar(&sample.members())).unwrap();
    (dir, path)
}

#[test]
fn every_byte_of_an_archive() {
    let sample = Sample::two_platforms();
    let (_dir, path) = archive(&sample);
    assert_sound(&report(&path));
    assert_eq!(report(&path).canonical.reasons, [""; 0]);
    let parts = parts(&sample);
    let named = |at: usize, place: &str| {
        let (_, what) = parts.iter().find(|(end, _)| at < *end).unwrap();
        let last = &parts[parts.len() - 2].1;
        place.contains(what.as_str()) || (what == "end of the archive" && place.contains(last.as_str()))
    };
    let tried = every_flip(&path, &path, &named);
    assert_eq!(tried, parts.last().unwrap().0);
}

#[test]
fn every_cut_of_an_archive() {
    let sample = Sample::small();
    let (_dir, path) = archive(&sample);
    let good = fs::read(&path).unwrap();
    for end in 0..good.len() {
        fs::write(&path, &good[..end]).unwrap();
        match dmoci::ops::verify::verify(&request(&path)) {
            Ok(report) => assert_eq!(report.verdict, Verdict::NotSound, "cut at {end}"),
            Err(failure) => assert_eq!(failure.exit as i32, 1, "cut at {end}: {failure}"),
        }
    }
    for more in [&b"\0"[..], &[0; 512], b"x"] {
        fs::write(&path, [&good[..], more].concat()).unwrap();
        assert_eq!(report(&path).verdict, Verdict::NotSound);
    }
}

/// With Docker's second view: `manifest.json` is found like everything else.
#[test]
fn every_byte_of_a_docker_archive() {
    let layout = Sample::small().layout();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("image.tar");
    let output = format!("docker-archive:{}", path.display());
    let mut command = crate::support::dmoci();
    crate::support::Run::of(command.arg("export").arg(layout.path()).args(["-o", &output])).ok();
    assert_sound(&report(&path));
    every_flip(&path, &path, &|_, place| !place.is_empty());
}
