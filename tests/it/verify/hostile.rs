//! Attacks that have bitten real tools: each ends with its code, never with "verified", a panic or a written file.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use dmoci::engine::verify::{Verdict, VerifyReport};
use dmoci::oci::{Severity, json, media_type};
use dmoci::ops::verify::verify;
use dmoci_layers::{Compression, Digest};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::raw::{Raw, pax};
use super::sample::{encode, tar};
use super::{Sample, errors, report, request};

/// The report on an archive of these bytes; opening it may fail, with exit 1 and a code.
fn archive(bytes: &[u8]) -> Result<VerifyReport, &'static str> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    fs::write(&path, bytes).unwrap();
    let result = verify(&request(&path));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["image.tar"], "something was written");
    result.map_err(|failure| {
        assert_eq!(failure.exit as i32, 1, "{failure}");
        failure.code
    })
}

/// The codes of the errors of a layer with this tar.
fn layer(tar: Vec<u8>) -> Vec<&'static str> {
    let diff_id = Digest::sha256(&tar);
    let layout = Sample::with_layer(tar, Compression::None, diff_id).layout();
    let found = report(layout.path());
    if !errors(&found).is_empty() {
        assert_eq!(found.verdict, Verdict::NotSound);
    }
    errors(&found)
}

/// The codes of the notes and warnings of a layer with this tar.
fn notes(tar: Vec<u8>) -> Vec<&'static str> {
    let diff_id = Digest::sha256(&tar);
    let found = report(Sample::with_layer(tar, Compression::None, diff_id).layout().path());
    assert_eq!(errors(&found).len(), 0, "{:?}", found.findings);
    found.findings.iter().filter(|f| f.severity != Severity::Error).map(|f| f.code).collect()
}

/// A sample whose manifest is changed, with right digests.
fn manifest(change: impl FnOnce(&mut Value)) -> Sample {
    let mut sample = Sample::small();
    let root = sample.root();
    let digest: Digest = root["digest"].as_str().unwrap().parse().unwrap();
    let mut value = json::parse(&sample.blobs.remove(&digest).unwrap()).unwrap();
    change(&mut value);
    let descriptor = sample.put(media_type::MANIFEST, json::canonical(&value));
    sample.name(descriptor);
    sample
}

fn layout_errors(sample: &Sample) -> Vec<&'static str> {
    errors(&report(sample.layout().path()))
}

#[test]
fn digests_are_checked_before_they_are_paths() {
    let bad = |digest: &str| {
        let digest = digest.to_owned();
        layout_errors(&manifest(|value| value["config"]["digest"] = digest.into()))
    };
    assert!(bad("sha256:../../../../etc/passwd").contains(&"E-DIGEST-GRAMMAR"));
    assert!(bad("sha256:").contains(&"E-DIGEST-GRAMMAR"));
    let mut unknown = Sample::small();
    let mut root = unknown.root();
    root["digest"] = format!("blake3:{}", "0".repeat(64)).into();
    unknown.foreign_index(&[root]);
    let found = report(unknown.layout().path());
    assert_eq!((found.verdict, errors(&found)), (Verdict::Undecided, vec!["E-DIGEST-ALGORITHM"]));
    assert_eq!(found.verdict.exit() as i32, 6);
}

#[test]
fn sha512_is_verified_too() {
    let mut sample = Sample::small();
    let mut root = sample.root();
    let old: Digest = root["digest"].as_str().unwrap().parse().unwrap();
    let bytes = sample.blobs.remove(&old).unwrap();
    let (new, _) = Digest::of_reader(dmoci_layers::Algorithm::Sha512, &mut &bytes[..]).unwrap();
    root["digest"] = new.to_string().into();
    sample.blobs.insert(new.clone(), bytes);
    sample.foreign_index(&[root]);
    assert_eq!(layout_errors(&sample).len(), 0);
    sample.blobs.insert(new, b"{}".to_vec());
    assert_eq!(layout_errors(&sample), ["E-SIZE"]);
}

#[test]
fn a_document_of_two_kinds() {
    assert!(layout_errors(&manifest(|value| value["manifests"] = json!([]))).contains(&"E-OCI-AMBIGUOUS"));
    assert!(
        layout_errors(&manifest(|value| value["mediaType"] = media_type::INDEX.into()))
            .contains(&"E-OCI-MEDIATYPE")
    );
    // Named as Docker's, says OCI's.
    let mut sample = Sample::small();
    let mut root = sample.root();
    root["mediaType"] = media_type::DOCKER_MANIFEST.into();
    sample.foreign_index(&[root]);
    assert_eq!(layout_errors(&sample), ["E-OCI-MEDIATYPE"]);
}

#[test]
fn embedded_data_and_sizes() {
    assert!(
        layout_errors(&manifest(|value| value["config"]["data"] = "e30=".into())).contains(&"E-OCI-DATA")
    );
    assert_eq!(layout_errors(&manifest(|value| value["layers"][0]["size"] = 1.into())), ["E-SIZE"]);
    assert!(
        layout_errors(&manifest(|value| value["layers"][0]["size"] = (-1).into())).contains(&"E-OCI-SIZE")
    );
}

#[test]
fn documents_that_readers_read_differently() {
    let with = |index: String| {
        let mut sample = Sample::small();
        sample.index = index.into_bytes();
        layout_errors(&sample)
    };
    let root = Sample::small().root().to_string();
    let good = format!(r#"{{"schemaVersion":2,"manifests":[{root}]}}"#);
    assert_eq!(with(good.clone()).len(), 0);
    assert_eq!(with(good.replacen('{', r#"{"manifests":[],"#, 1)), ["E-JSON-DUPLICATE"]);
    assert_eq!(with(good.replacen('{', r#"{"Manifests":[],"#, 1)), ["E-JSON-CASE"]);
    assert_eq!(with(good.replacen('{', r#"{"man\u0130fests":[],"#, 1)).len(), 0);
    assert_eq!(with(format!("{good}{good}")), ["E-JSON-SYNTAX"]);
    assert_eq!(with("[".repeat(100_000)), ["E-JSON-DEPTH"]);
    assert_eq!(with(good.replacen("2", "2e400", 1)), ["E-JSON-SYNTAX"]);
    let mut large = Sample::small();
    large.index = vec![b' '; (4 << 20) + 1];
    let failure = verify(&request(large.layout().path())).unwrap_err();
    assert_eq!((failure.code, failure.exit as i32), ("E-NO-IMAGE", 1));
}

#[test]
fn graphs_are_bounded() {
    let mut sample = Sample::small();
    let mut root = sample.root();
    for _ in 0..12 {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [root]});
        root = sample.put(media_type::INDEX, json::canonical(&index)).to_value();
    }
    sample.foreign_index(&[root]);
    assert_eq!(layout_errors(&sample), ["E-GRAPH"]);
    let own = Digest::sha256(b"itself").to_string();
    let mut cycle = Sample::small();
    let entry = json!({"mediaType": media_type::INDEX, "digest": own, "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [entry.clone()]});
    let bytes = json::canonical(&index);
    let entry = json!({"mediaType": media_type::INDEX, "digest": own, "size": bytes.len()});
    cycle.blobs.insert(own.parse().unwrap(), bytes);
    cycle.foreign_index(&[entry]);
    assert_eq!(layout_errors(&cycle), ["E-DIGEST"]);
}

/// The same document listed over and over is read once and told once.
#[test]
fn lists_that_repeat() {
    let mut sample = Sample::two_platforms();
    let inner = sample.root();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [inner.clone(), inner.clone()]});
    let outer = sample.put(media_type::INDEX, json::canonical(&index)).to_value();
    let roots: Vec<Value> =
        (0..3000).map(|i| if i % 2 == 0 { outer.clone() } else { inner.clone() }).collect();
    sample.foreign_index(&roots);
    let layout = sample.layout();
    let found = report(layout.path());
    assert_eq!((found.verdict, found.images.len()), (Verdict::NotAuthenticated, 2));
    let mut asked = request(layout.path());
    asked.subject = format!("{}@{}", layout.path().display(), found.images[1].manifest).parse().unwrap();
    assert_eq!(verify(&asked).unwrap().verdict, Verdict::Verified);
}

#[test]
fn compressed_streams_end_where_they_end() {
    let (made, bytes) = encode(Compression::Gzip, &[("a", b"x")]);
    let with = |bytes: Vec<u8>, compression| {
        layout_errors(&Sample::with_layer(bytes, compression, made.diff_id.clone()))
    };
    assert_eq!(with(bytes.clone(), Compression::Gzip).len(), 0);
    assert_eq!(with([&bytes[..], b"trailing"].concat(), Compression::Gzip), ["E-COMPRESSION"]);
    assert_eq!(with(bytes[..bytes.len() - 1].to_vec(), Compression::Gzip), ["E-COMPRESSION"]);
    assert_eq!(with([&bytes[..], &bytes].concat(), Compression::Gzip), ["E-DIFFID", "E-TAR-TRAILING"]);
    assert_eq!(with(bytes.clone(), Compression::Zstd), ["E-COMPRESSION"]);
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 0x01, 0x00, 0x00].to_vec();
    assert_eq!(with(window, Compression::Zstd), ["E-COMPRESSION"]);
}

#[test]
fn bombs_end_early() {
    let mut zeros = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 20];
    for _ in 0..80 {
        zeros.write_all(&block).unwrap();
    }
    let deflated = zeros.finish().unwrap();
    // More than 1,100 to 1 takes nested streams with deflate; zstd gives far more.
    assert!((80 << 20) / deflated.len() < 1100);
    let bomb = zstd_zeros(100 << 20);
    assert!(bomb.len() < 64 << 10);
    let sample = Sample::with_layer(bomb, Compression::Zstd, Digest::sha256(b""));
    let found = report(sample.layout().path());
    assert_eq!(errors(&found), ["E-COMPRESSION"]);
    assert!(found.findings.iter().any(|f| f.message.contains("for each byte")), "{:?}", found.findings);
}

/// Zeros as zstd: run-length blocks of 128 KiB.
fn zstd_zeros(size: usize) -> Vec<u8> {
    // Magic, no content size, window of 128 KiB.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    let blocks = size >> 17;
    for i in 0..blocks {
        let header = u32::from(i + 1 == blocks) | 1 << 1 | (1 << 17) << 3;
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

#[test]
fn names_that_lead_out() {
    assert_eq!(layer(Raw::file("../etc/passwd", b"x").end()), ["E-TAR-PATH"]);
    assert_eq!(layer(Raw::file("a/../../b", b"x").end()), ["E-TAR-PATH"]);
    assert_eq!(layer(Raw::link(b'1', "a", "../../etc/passwd").end()), ["E-TAR-LINK"]);
    assert_eq!(notes(Raw::link(b'2', "a", "../../etc").end()), ["E-TAR-SYMLINK"]);
    // A symbolic link, and an entry that would be written through it (CVE-2021-29136).
    let through = [Raw::link(b'2', "a", "/etc").0, Raw::file("a/passwd", b"x").0].concat();
    assert_eq!(layer(Raw(through).end()), ["E-TAR-THROUGH-LINK"]);
    let whiteout = [Raw::link(b'2', "a", "../..").0, Raw::file("a/.wh.b", b"").0].concat();
    assert_eq!(layer(Raw(whiteout).end()), ["E-TAR-THROUGH-LINK"]);
    let inside = [Raw::link(b'2', "lib", "usr/lib").0, Raw::file("lib/x", b"").0].concat();
    assert!(notes(Raw(inside).end()).contains(&"E-TAR-THROUGH-LINK"));
    assert_eq!(layer(Raw::file(".wh...", b"").end()), ["E-TAR-WHITEOUT"]);
    assert_eq!(layer(Raw::file("a/.wh.", b"").end()), ["E-TAR-WHITEOUT"]);
}

#[test]
fn sizes_that_disagree() {
    // CVE-2025-62518: the header says nothing, the record says a whole hidden entry.
    let hidden = Raw::file("hidden", b"").0;
    let mut smuggled = pax(&[("size", &hidden.len().to_string())]);
    smuggled.extend(Raw::file("outer", b"").0);
    smuggled.extend(hidden);
    assert_eq!(layer(Raw(smuggled).end()), ["E-TAR-SIZE"]);
    let mut long = pax(&[("size", "5")]);
    long.extend(Raw::typed(b'L', "././@LongLink", b"name\0").0);
    long.extend(Raw::file("x", b"").0);
    assert_eq!(layer(Raw(long).end()), ["E-TAR-AMBIGUOUS"]);
}

#[test]
fn extensions_are_bounded() {
    for flag in [b'L', b'K', b'x', b'g'] {
        assert_eq!(layer(Raw::sized(flag, "x", 1 << 32).end()), ["E-TAR-LIMIT"]);
    }
    assert_eq!(layer(Raw::file("a", b"x").0), ["E-TAR-TRUNCATED"]);
    assert_eq!(layer(Raw::typed(b'S', "sparse", b"").end()), ["E-TAR-SPARSE"]);
}

#[test]
fn the_same_name_twice_in_a_layer() {
    let twice = [Raw::file("a", b"1").0, Raw::file("./a", b"2").0].concat();
    assert_eq!(layer(Raw(twice).end()), ["E-TAR-DUPLICATE"]);
}

#[test]
fn what_is_told_and_not_refused() {
    assert_eq!(notes(Raw::device(b'3', "null", 1, 3).end()), ["E-TAR-DEVICE"]);
    assert_eq!(notes(Raw::typed(b'6', "pipe", b"").end()), ["E-TAR-FIFO"]);
    assert_eq!(notes(Raw::moded("su", 0o4755).end()), ["E-TAR-SETUID"]);
    let mut capable = pax(&[("SCHILY.xattr.security.capability", "x")]);
    capable.extend(Raw::file("ping", b"").0);
    assert_eq!(notes(Raw(capable).end()), ["E-TAR-SECURITY"]);
    for name in ["back\\slash", "new\nline", "esc\x1b[31m"] {
        assert_eq!(notes(Raw::file(name, b"").end()), ["E-TAR-NAME"], "{name:?}");
    }
}

#[test]
fn names_are_escaped_when_told() {
    let tar = [Raw::file("../\x1b[2Jgone", b"").0, Raw::moded("a\x1b[31m\u{202e}b", 0o4755).0].concat();
    let tar = Raw(tar).end();
    let diff_id = Digest::sha256(&tar);
    let found = report(Sample::with_layer(tar, Compression::None, diff_id).layout().path());
    for finding in &found.findings {
        let text = format!("{}{}{}{}", finding.place, finding.message, finding.expected, finding.found);
        assert!(!text.contains(['\x1b', '\n']), "{text:?}");
    }
}

#[test]
fn links_in_a_layout_are_not_followed() {
    let sample = Sample::small();
    let digest = sample.blobs.keys().next().unwrap();
    let layout = sample.layout();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("blob");
    fs::rename(layout.blob(digest), &target).unwrap();
    symlink(&target, layout.blob(digest)).unwrap();
    assert!(errors(&report(layout.path())).contains(&"E-LAYOUT-IRREGULAR"));
    let refused = |name: &str| {
        let layout = sample.layout();
        let moved = outside.path().join(name);
        fs::rename(layout.path().join(name), &moved).unwrap();
        symlink(&moved, layout.path().join(name)).unwrap();
        verify(&request(layout.path())).unwrap_err().code
    };
    assert_eq!(["index.json", "oci-layout", "blobs"].map(refused), ["E-LAYOUT-IRREGULAR"; 3]);
}

#[test]
fn pipes_do_not_stop_the_reader() {
    let layout = Sample::small().layout();
    let index = layout.path().join("index.json");
    fs::remove_file(&index).unwrap();
    make_pipe(&index);
    assert_eq!(verify(&request(layout.path())).unwrap_err().code, "E-LAYOUT-IRREGULAR");
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("image.tar");
    make_pipe(&pipe);
    assert_eq!(verify(&request(&pipe)).unwrap_err().code, "E-LAYOUT-IRREGULAR");
}

fn make_pipe(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn two_members_of_one_name() {
    let mut sample = Sample::small();
    let root = sample.root();
    sample.foreign_index(&[root]);
    let other = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    for name in ["index.json", "./index.json", "/index.json"] {
        let mut members = tar(&sample.members());
        members.truncate(members.len() - 1024);
        members.extend(Raw::file(name, &other).0);
        assert_eq!(errors(&archive(&Raw(members).end()).unwrap()), ["E-ARCHIVE-DUPLICATE"], "{name}");
    }
}

#[test]
fn metadata_last_and_with_dots() {
    let mut sample = Sample::small();
    let root = sample.root();
    sample.foreign_index(&[root]);
    let mut bytes = Vec::new();
    for (name, content) in sample.members().into_iter().rev() {
        bytes.extend(match content {
            Some(content) => Raw::file(&format!("./{name}"), &content).0,
            None => Raw::typed(b'5', &format!("./{name}/"), b"").0,
        });
    }
    let found = archive(&Raw(bytes).end()).unwrap();
    assert_eq!((found.verdict, errors(&found).len()), (Verdict::NotAuthenticated, 0));
}

#[test]
fn archives_whose_names_lead_out() {
    let mut sample = Sample::small();
    let root = sample.root();
    sample.foreign_index(&[root]);
    let digest = sample.blobs.keys().next().unwrap().clone();
    let with = |extra: Vec<u8>, without: bool| {
        let mut members = sample.members();
        members.retain(|(name, _)| !without || !name.ends_with(digest.hex()));
        let mut bytes = tar(&members);
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(extra);
        errors(&archive(&Raw(bytes).end()).unwrap())
    };
    assert_eq!(with(Raw::file("../../etc/passwd", b"x").0, false), ["E-ARCHIVE-NAME"]);
    let link = Raw::link(b'2', &format!("blobs/sha256/{}", digest.hex()), "../../../etc/passwd").0;
    assert_eq!(with(link, true), ["E-BLOB-MISSING", "E-LAYOUT-IRREGULAR"]);
}

/// A view of Docker's with other content than the view of OCI's.
#[test]
fn two_views() {
    let mut sample = Sample::small();
    let (other, bytes) = encode(Compression::Gzip, &[("evil", b"x")]);
    sample.blobs.insert(other.digest.clone(), bytes);
    let root = sample.root();
    let manifest: Digest = root["digest"].as_str().unwrap().parse().unwrap();
    let manifest = json::parse(&sample.blobs[&manifest]).unwrap();
    let hex = |value: &Value| value["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let (config, layer) = (hex(&manifest["config"]), hex(&manifest["layers"][0]));
    let judged = |config: &str, layers: &[&str]| {
        let mut sample = sample.clone();
        sample.foreign_index(std::slice::from_ref(&root));
        sample.docker =
            Some(json::canonical(&json!([{"Config": config, "Layers": layers, "RepoTags": ["a/b:1"]}])));
        errors(&archive(&tar(&sample.members())).unwrap())
    };
    let evil = format!("blobs/sha256/{}", other.digest.hex());
    let none: [&str; 0] = [];
    assert_eq!(judged(&config, &[&layer]), none);
    assert_eq!(judged(&config, &[&evil]), ["E-VIEWS"]);
    assert_eq!(judged(&config, &[&layer, &evil]), ["E-VIEWS"]);
    assert_eq!(judged(&evil, &[&layer]), ["E-VIEWS"]);
    assert_eq!(judged("config.json", &[&layer]), ["E-VIEWS"]);
}

#[test]
fn not_an_image_at_all() {
    for bytes in [&b""[..], b"hello", &[0; 1024], &[0xff; 4096], b"\x1f\x8b", b"\x28\xb5\x2f\xfd"] {
        let code = archive(bytes).unwrap_err();
        assert!(["E-ARCHIVE", "E-NO-IMAGE"].contains(&code), "{code}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(verify(&request(dir.path())).unwrap_err().code, "E-NO-IMAGE");
    let missing = verify(&request(&dir.path().join("none"))).unwrap_err();
    assert_eq!((missing.code, missing.exit as i32), ("E-SUBJECT-NOT-FOUND", 6));
}

#[test]
fn a_whole_archive_that_is_compressed() {
    let bytes = tar(&Sample::small().members());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let found = archive(&gzip).unwrap();
    assert_eq!(found.verdict, Verdict::NotAuthenticated);
    assert!(found.canonical.reasons.iter().any(|reason| reason.contains("whole archive")));
    assert_eq!(archive(&[&gzip[..], b"x"].concat()).unwrap_err(), "E-ARCHIVE");
    assert_eq!(archive(&gzip[..gzip.len() - 4]).unwrap_err(), "E-ARCHIVE");
}

#[test]
fn old_archives_of_docker_save() {
    let tar_of = |files: &[(&str, &[u8])]| {
        let (made, bytes) = encode(Compression::None, files);
        (made.diff_id, bytes)
    };
    let ((one, first), (two, second)) = (tar_of(&[("a", b"1")]), tar_of(&[("b", b"2")]));
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [one.to_string(), two.to_string(), one.to_string()]}});
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::sha256(&config).hex());
    let judged = |config_name: &str, second: &[u8], target: &str| {
        let list = json!([{"Config": config_name, "RepoTags": ["a/b:1"], "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}]);
        let parts = [
            Raw::file("1/layer.tar", &first).0,
            Raw::file("2/layer.tar", second).0,
            Raw::link(b'2', "3/layer.tar", target).0,
            Raw::file(config_name, &config).0,
            Raw::file("manifest.json", list.to_string().as_bytes()).0,
        ];
        archive(&Raw(parts.concat()).end())
    };
    let good = judged(&name, &second, "../1/layer.tar").unwrap();
    assert_eq!((good.verdict, errors(&good).len()), (Verdict::NotAuthenticated, 0), "{:?}", good.findings);
    assert!(!good.canonical.reasons.is_empty());
    assert_eq!(errors(&judged(&name, &first, "../1/layer.tar").unwrap()), ["E-DIFFID"]);
    let other = format!("{}.json", "0".repeat(64));
    assert_eq!(errors(&judged(&other, &second, "../1/layer.tar").unwrap()), ["E-DIGEST"]);
    for target in ["/1/layer.tar", "../../1/layer.tar", "../3/layer.tar", "../none"] {
        assert_eq!(judged(&name, &second, target).unwrap_err(), "E-BLOB-MISSING", "{target}");
    }
}

#[test]
fn members_of_absurd_size() {
    let mut sample = Sample::small();
    let root = sample.root();
    sample.foreign_index(&[root]);
    for size in ["18446744073709551615", "9223372036854775807", "4611686018427387904", "100000"] {
        let mut bytes = tar(&sample.members());
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(pax(&[("size", size)]));
        bytes.extend(Raw::file("blobs/x", b"").0);
        let codes = errors(&archive(&Raw(bytes).end()).unwrap());
        assert!(codes.contains(&"E-ARCHIVE-TRUNCATED"), "{size} {codes:?}");
        let mut inside = pax(&[("size", size)]);
        inside.extend(Raw::file("x", b"").0);
        let codes = layer(Raw(inside).end());
        assert!(codes.contains(&"E-TAR-TRUNCATED") || codes.contains(&"E-TAR-MALFORMED"), "{codes:?}");
    }
}
proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing that is done to an archive makes a panic, or an image that is sound.
    #[test]
    fn any_change_of_an_archive_is_found(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..4),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let good = tar(&Sample::small().members());
        let mut bad = good.clone();
        for (at, length, with) in changes {
            let at = at.index(bad.len());
            let end = (at + length.index(64)).min(bad.len());
            bad.splice(at..end, with);
        }
        if let Some(cut) = cut {
            bad.truncate(cut.index(bad.len()).max(1));
        }
        prop_assume!(bad != good);
        if let Ok(report) = archive(&bad) {
            prop_assert_eq!(report.verdict, Verdict::NotSound);
        }
    }
}
