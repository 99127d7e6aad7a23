//! A layer of 10,000 deflate streams as a wheel has them, each in a gzip member of its own: every loader reads it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use dmoci_layers::Digest;
use dmoci_layers::inflate::{Expected, Inflate};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::support::containerd::{self, Containerd};
use crate::support::docker::{self, Docker};
use crate::support::podman::{self, Podman};
use crate::support::wheel::Wheel;
use crate::support::{Place, command, dmoci, exits, have, run};

const NAME: &str = "registry.example/spliced:1";
const SITE: &str = "opt/v/lib/python3.13/site-packages/many";
const FILES: usize = 10_000;

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/spliced"
tags = ["1"]
platforms = ["linux/amd64"]
entrypoint = ["/usr/bin/hello"]

[[layer]]
name = "program"
copy = [{ from = ["hello"], to = "/usr/bin/hello" }]

[[layer]]
name = "many"
wheel = { path = "many-1.0-py3-none-any.whl", venv = "/opt/v", interpreter = "/usr/bin/python3", python-version = "3.13.5" }
"#;

/// What compresses to somewhat more than 4,096 bytes, different for each number.
fn content(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut text = Vec::new();
    while text.len() < 9_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend(format!("{:05x} ", state >> 44).bytes());
    }
    text
}

/// The project, built: `dist/image`, and `oci.tar` and `docker.tar` beside it; and what is to be seen in it.
fn project() -> (Place, String) {
    let place = Place::new();
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello/bin/hello-amd64"),
        place.path("hello"),
    )
    .unwrap();
    let mut wheel = Wheel::new("many", "1.0");
    let mut lines = Vec::with_capacity(FILES);
    for number in 0..FILES {
        let (name, content) = (format!("d{:02}/f{number:04}", number % 100), content(number));
        lines.push(format!("{}  ./{name}", Digest::sha256(&content).hex()));
        wheel = wheel.file(&format!("many/{name}"), content);
    }
    lines.sort();
    fs::write(place.path(&wheel.file_name()), wheel.bytes()).unwrap();
    fs::write(place.path("dmoci.toml"), SPEC).unwrap();
    run(dmoci().arg("build").arg("-C").arg(place.as_ref()));
    let image = place.path("dist/image");
    let said = run(dmoci().args(["verify", "--integrity-only"]).arg(&image));
    assert!(said.contains("canonical: yes"), "{said}");
    for (kind, file) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let output = format!("{kind}:{}", place.path(file).display());
        run(dmoci().arg("export").arg(&image).arg("-o").arg(output));
    }
    let members = members(&place);
    assert!(members > 2 * FILES, "{members}");
    (place, lines.join("\n"))
}

/// How many gzip members the layer has.
fn members(place: &Place) -> usize {
    let header = dmoci_layers::compress::GZIP_HEADER;
    fs::read(layer(place).0).unwrap().windows(header.len()).filter(|bytes| *bytes == header).count()
}

/// The layer of the wheel, and the digest of what is compressed in it.
fn layer(place: &Place) -> (PathBuf, String) {
    let digests = fs::read(place.path("dist/digests.json")).unwrap();
    let digests: serde_json::Value = serde_json::from_slice(&digests).unwrap();
    let blobs = place.path("dist/image/blobs");
    let path = |digest: &serde_json::Value| blobs.join(digest.as_str().unwrap().replace(':', "/"));
    let read = |digest: &serde_json::Value| {
        serde_json::from_slice::<serde_json::Value>(&fs::read(path(digest)).unwrap()).unwrap()
    };
    let manifest = read(&digests["platforms"][0]["manifest"]["digest"]);
    let config = read(&manifest["config"]["digest"]);
    let layer = &manifest["layers"][1];
    assert_eq!(layer["annotations"]["dev.dmoci.rules"], "1+splice");
    (path(&layer["digest"]), config["rootfs"]["diff_ids"][1].as_str().unwrap()[7..].to_owned())
}

#[track_caller]
fn found(root: &Path) -> String {
    let sums = run(command("sh")
        .args(["-c", "find . -type f -print0 | xargs -0 sha256sum | LC_ALL=C sort"])
        .current_dir(root.join(SITE)));
    sums.trim_end().to_owned()
}

#[test]
fn gzip_python_skopeo_and_umoci() {
    if !have(&["root", "amd64", "gzip", "python3", "skopeo", "umoci"]) {
        return;
    }
    let (place, expected) = project();
    let copy = format!("oci:{}:1", place.path("copy").display());
    run(command("skopeo")
        .arg("copy")
        .arg(format!("oci-archive:{}:1", place.path("oci.tar").display()))
        .arg(&copy));
    run(command("skopeo")
        .arg("copy")
        .arg(format!("docker-archive:{}", place.path("docker.tar").display()))
        .arg(format!("dir:{}", place.path("dir").display())));
    let bundle = place.path("bundle");
    run(command("umoci").args(["unpack", "--image"]).arg(&copy[4..]).arg(&bundle));
    assert!(found(&bundle.join("rootfs")) == expected);
    let (blob, diff_id) = layer(&place);
    let python = "import gzip, hashlib, sys
print(hashlib.sha256(gzip.open(sys.argv[1]).read()).hexdigest())";
    for said in [
        run(command("sh").args(["-c", "gzip -dc < \"$1\" | sha256sum", "sh"]).arg(&blob)),
        run(command("python3").args(["-c", python]).arg(&blob)),
    ] {
        assert_eq!(said.split_whitespace().next(), Some(&*diff_id));
    }
}

#[test]
fn podman_reads_it() {
    if !have(podman::PEERS) || !have(&["amd64"]) {
        return;
    }
    let (place, expected) = project();
    for file in ["oci.tar", "docker.tar"] {
        let podman = Podman::new();
        run(podman.podman().args(["load", "--input"]).arg(place.path(file)));
        let root = run(podman.podman().args(["image", "mount", NAME]));
        let seen = found(Path::new(root.trim()));
        run(podman.podman().args(["image", "umount", NAME]));
        assert!(seen == expected, "{file}");
    }
}

#[test]
fn buildah_reads_it() {
    if !have(podman::PEERS) || !have(&["buildah", "amd64"]) {
        return;
    }
    let (place, expected) = project();
    for (kind, file) in [("oci-archive", "oci.tar"), ("docker-archive", "docker.tar")] {
        let podman = Podman::new();
        let image = format!("{kind}:{}", place.path(file).display());
        let container = run(podman.buildah().args(["from", &image])).trim().to_owned();
        let root = run(podman.buildah().args(["mount", &container]));
        let seen = found(Path::new(root.trim()));
        run(podman.buildah().args(["umount", &container]));
        assert!(seen == expected, "{file}");
    }
}

#[test]
fn docker_reads_it() {
    if !have(docker::PEERS) || !have(&["amd64", "tar"]) {
        return;
    }
    let (place, expected) = project();
    let docker = Docker::start();
    run(docker.docker().args(["load", "--input"]).arg(place.path("docker.tar")));
    let root = Place::new();
    let container = run(docker.docker().args(["create", "--network=none", NAME]));
    let tar = root.path("root.tar");
    run(docker.docker().args(["export", container.trim(), "-o"]).arg(&tar));
    exits(command("tar").args(["--numeric-owner", "-xpf"]).arg(&tar).arg("-C").arg(root.as_ref()), 0);
    assert!(found(root.as_ref()) == expected);
}

#[test]
fn containerd_reads_it() {
    if !have(containerd::PEERS) || !have(&["amd64"]) {
        return;
    }
    let (place, expected) = project();
    let containerd = Containerd::start();
    run(containerd.ctr().args(["images", "import", "--snapshotter=native"]).arg(place.path("oci.tar")));
    let root = Place::new();
    run(containerd.ctr().args(["images", "mount", "--snapshotter=native", NAME]).arg(root.as_ref()));
    let seen = std::panic::catch_unwind(|| found(root.as_ref()));
    run(containerd.ctr().args(["images", "unmount"]).arg(root.as_ref()));
    assert!(seen.unwrap() == expected);
}

/// What a stream holds; nothing where it is none, or ends elsewhere than its bytes.
fn inflated(stream: &[u8]) -> Option<Vec<u8>> {
    let mut inflate = Inflate::new(&Expected { size: u64::MAX, crc: 0, digest: None });
    let (mut content, mut out, mut input) = (Vec::new(), vec![0; 4096], stream);
    loop {
        let (used, made) = inflate.step(input, &mut out).ok()?;
        (content, input) = ([&content, &out[..made]].concat(), &input[used..]);
        if made < out.len() {
            return (inflate.is_ended() && input.is_empty()).then_some(content);
        }
    }
}

/// Streams of several encoders, most of them damaged: in the codes at their front, or anywhere.
fn streams() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut streams = Vec::new();
    for number in 0..20_000 {
        let letters = 1 + next(60);
        let content: Vec<u8> = (0..next(600)).map(|_| (next(letters) * next(letters)) as u8).collect();
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(next(10) as u32));
        encoder.write_all(&content).unwrap();
        let mut stream = encoder.finish().unwrap();
        for _ in 0..number % 4 {
            let front = if next(2) == 0 { 60.min(stream.len()) } else { stream.len() };
            stream[next(front)] ^= 1 << next(8);
        }
        streams.push(stream);
    }
    streams
}

/// zlib, of which Python has one of its own, takes and refuses the same, and makes the same of it.
#[test]
fn zlib_judges_alike() {
    if !have(&["python3"]) {
        return;
    }
    let script = "import sys, zlib
while head := sys.stdin.buffer.read(4):
    stream = sys.stdin.buffer.read(int.from_bytes(head, 'little'))
    inflate = zlib.decompressobj(-15)
    try:
        content = inflate.decompress(stream)
        good = inflate.eof and not inflate.unused_data
    except zlib.error:
        good = False
    print(f'{len(content)} {zlib.crc32(content):08x}' if good else 'bad')";
    let place = Place::new();
    let streams = streams();
    let bytes: Vec<u8> = streams
        .iter()
        .flat_map(|stream| [&(stream.len() as u32).to_le_bytes()[..], stream].concat())
        .collect();
    fs::write(place.path("streams"), bytes).unwrap();
    let input = Stdio::from(fs::File::open(place.path("streams")).unwrap());
    let said = run(command("python3").args(["-c", script]).stdin(input));
    let verdicts: Vec<&str> = said.lines().collect();
    assert_eq!(verdicts.len(), streams.len());
    let (mut good, mut bad) = (0, 0);
    for (stream, verdict) in streams.iter().zip(verdicts) {
        let ours = inflated(stream).map(|content| {
            let mut crc = flate2::Crc::new();
            crc.update(&content);
            format!("{} {:08x}", content.len(), crc.sum())
        });
        match ours {
            Some(_) => good += 1,
            None => bad += 1,
        }
        assert_eq!(ours.as_deref().unwrap_or("bad"), verdict, "{stream:x?}");
    }
    assert!(good > 4_000 && bad > 4_000, "{good} {bad}");
}
