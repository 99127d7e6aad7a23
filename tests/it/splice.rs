//! Deflate streams of wheels that stand in gzip layers as they are.

use std::fs;

use dmoci_layers::Digest;
use serde_json::Value;

use crate::support::Project;
use crate::support::layers::{blob, config, image_spec, manifest, tar_of};
use crate::support::wheel::{Part, Wheel, deflated};

const PYTHON: &str = "venv = \"/opt/v\", interpreter = \"/usr/bin/python3\", python-version = \"3.13.5\"";
const WHEEL: &str = "demo-1.0-py3-none-any.whl";

/// What compresses to more than 4,096 bytes, different for each number.
fn text(number: u64, lines: usize) -> String {
    let mut state = number + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:05x}\n", state >> 44)
    };
    (0..lines).map(|_| next()).collect()
}

/// What cannot be compressed.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn spec(with: &str) -> String {
    let layer = format!("[[layer]]\nname = \"app\"\nwheel = {{ path = \"{WHEEL}\", {PYTHON} }}\n");
    image_spec(&layer).replace("[image]\n", &format!("[image]\n{with}\n"))
}

fn demo() -> Wheel {
    Wheel::new("demo", "1.0")
        .file("demo/__init__.py", "print('demo')\n")
        .file("demo/large.txt", text(0, 200_000))
        .file("demo/middle.txt", text(1, 3_000))
        .file("demo/short.txt", text(2, 1_200))
        .file("demo/stored.bin", noise(20_000))
        .data("scripts/tool", format!("#!python\n{}", text(3, 3_000)))
}

/// What a build makes: the blob of the first layer, its descriptor, and what the config says of the content.
fn built(project: &Project) -> (Vec<u8>, Value, Value) {
    let said = project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok().stdout;
    assert!(said.contains("canonical: yes"), "{said}");
    let dist = project.path("dist");
    let layer = manifest(&dist)["layers"][0].clone();
    (blob(&dist, &layer["digest"]), layer, config(&dist)["rootfs"].clone())
}

fn holds(blob: &[u8], part: &[u8]) -> bool {
    blob.windows(part.len()).any(|window| window == part)
}

/// A member of the blob is this stream of this content.
fn has_member(blob: &[u8], content: &[u8]) -> bool {
    let sizes = [libdeflater::crc32(content).to_le_bytes(), (content.len() as u32).to_le_bytes()].concat();
    let header = dmoci_layers::compress::GZIP_HEADER;
    holds(blob, &[&header[..], &deflated(content), &sizes].concat())
}

/// Streams stand in the layer as they are in the wheel, and the layer says so; the content is the same without.
#[test]
fn streams_are_spliced() {
    let project = Project::with_spec(&spec("")).file(WHEEL, demo().bytes());
    project.dmoci(&["build"]).ok();
    let (spliced, layer, rootfs) = built(&project);
    assert_eq!(layer["annotations"]["dev.dmoci.rules"], "1+splice");
    assert!(
        has_member(&spliced, text(0, 200_000).as_bytes()) && has_member(&spliced, text(1, 3_000).as_bytes())
    );
    // Too short, stored, rewritten.
    let (short, script) = (text(2, 1_200), format!("#!python\n{}", text(3, 3_000)));
    assert!(deflated(short.as_bytes()).len() < 4096 && deflated(script.as_bytes()).len() >= 4096);
    assert!(
        !has_member(&spliced, short.as_bytes()) && !holds(&spliced, &deflated(script.as_bytes())[..1000])
    );
    // Another reader sees what was compressed.
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&spliced[..]), &mut content).unwrap();
    assert_eq!(rootfs["diff_ids"][0], Digest::sha256(&content).to_string());
    assert!(tar_of(&project.path("dist"), "app").entries().unwrap().all(|entry| entry.is_ok()));
    for with in ["splice = false", "compression = \"zstd\"", "compression = \"none\""] {
        project.write("dmoci.toml", spec(with));
        project.dmoci(&["build"]).ok();
        let (blob, layer, other) = built(&project);
        assert_eq!(other, rootfs, "{with}");
        assert!(layer["annotations"].is_null() && !has_member(&blob, text(1, 3_000).as_bytes()), "{with}");
    }
    // From the cache it says so too, and anew it is the same, with another number of threads.
    for args in [&["build"][..], &["build", "--no-cache"], &["build", "--twice"]] {
        project.write("dmoci.toml", spec(""));
        project.dmoci(args).ok();
        assert!(built(&project) == (spliced.clone(), layer.clone(), rootfs.clone()), "{args:?}");
    }
}

/// A layer in which no stream stands says nothing.
#[test]
fn without_a_stream_nothing_is_said() {
    let wheel = Wheel::new("demo", "1.0")
        .file("demo/short.txt", text(2, 1_200))
        .file("demo/stored.bin", noise(20_000))
        .file("demo/empty", "");
    let project = Project::with_spec(&spec("")).file(WHEEL, wheel.bytes());
    project.dmoci(&["build"]).ok();
    let (blob, layer, _) = built(&project);
    assert!(layer["annotations"].is_null());
    project.write("dmoci.toml", spec("splice = false"));
    project.dmoci(&["build"]).ok();
    assert!(built(&project).0 == blob);
}

/// Wheels of a lock file go the same way.
#[test]
fn wheels_of_a_lock_file() {
    let wheel = demo();
    let lock = format!(
        "lock-version = \"1.0\"\ncreated-by = \"test\"\n[[packages]]\nname = \"demo\"\nversion = \"1.0\"\n\
         [[packages.wheels]]\npath = \"{WHEEL}\"\nhashes = {{ sha256 = \"{}\" }}\n",
        Digest::sha256(&wheel.bytes()).hex()
    );
    let text_of = format!("[[layer]]\nname = \"app\"\npython = {{ lock = \"pylock.toml\", {PYTHON} }}\n");
    let project =
        Project::with_spec(&image_spec(&text_of)).file(WHEEL, wheel.bytes()).file("pylock.toml", lock);
    project.dmoci(&["build"]).ok();
    let (blob, layer, _) = built(&project);
    assert_eq!(layer["annotations"]["dev.dmoci.rules"], "1+splice");
    assert!(has_member(&blob, text(0, 200_000).as_bytes()));
}

#[track_caller]
fn refused(bytes: Vec<u8>, why: &str) {
    let project = Project::with_spec(&spec("")).file(WHEEL, bytes);
    let run = project.dmoci(&["build"]).exits(1);
    let wanted = format!("error[E-WHEEL]: {WHEEL}: \"demo/middle.txt\" ");
    assert!(run.stderr.contains(&wanted) && run.stderr.contains(why), "{}, expected {why:?}", run.stderr);
    let image = project.path("dist/image");
    assert!(!image.exists() || fs::read_dir(image).unwrap().count() == 0, "{why}");
}

/// Every rule, one at a time: the build ends before the layer has a name.
#[test]
fn what_is_not_what_it_should_be() {
    let content = text(1, 3_000).into_bytes();
    let but = |change: &dyn Fn(&mut Part)| {
        demo().bytes_but(|part| {
            if part.path == "demo/middle.txt" {
                change(part);
            }
        })
    };
    refused(but(&|part| part.crc ^= 1), "has the CRC-32");
    refused(but(&|part| part.data = deflated(&content[1..])), "holds 17999 bytes, expected 18000");
    refused(
        but(&|part| part.data = deflated(&[&content, &b"x"[..]].concat())),
        "holds more than 18000 bytes",
    );
    refused(but(&|part| part.data.push(0)), "has bytes behind the end of its deflate stream");
    refused(but(&|part| part.data.truncate(part.data.len() - 1)), "is cut off");
    refused(but(&|part| part.data[0] |= 0b110), "is no deflate stream");
    let other = text(9, 3_000).into_bytes();
    let forge = |part: &mut Part| {
        part.data = deflated(&other);
        part.says(&other);
    };
    refused(but(&forge), "but RECORD says sha256:");
    // What libdeflate takes and zlib does not.
    for (codes, good) in [(286, true), (287, false)] {
        let stream = [front(codes), deflated(&content)].concat();
        let mut found = vec![0; content.len()];
        let taken = libdeflater::Decompressor::new().deflate_decompress(&stream, &mut found);
        assert!(taken.is_ok() && found == content, "{codes}");
        let bytes = but(&|part| part.data.clone_from(&stream));
        match good {
            true => {
                let project = Project::with_spec(&spec("")).file(WHEEL, bytes);
                project.dmoci(&["build"]).ok();
                assert!(holds(&built(&project).0, &stream));
            }
            false => refused(bytes, "is no deflate stream"),
        }
    }
}

/// Blocks without content: one with so many codes of its own, and one that ends with a whole byte.
fn front(codes: u32) -> Vec<u8> {
    let mut bits = Vec::new();
    let mut put = |value: u32, count: u32| bits.extend((0..count).map(|bit| value >> bit & 1));
    // Not the last block, codes of its own; one distance; all lengths of the codes of code lengths.
    for (value, count) in [(0, 1), (2, 2), (codes - 257, 5), (0, 5), (15, 4)] {
        put(value, count);
    }
    // 18 is one bit, 0 and 1 are two.
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] {
        put([(18, 1), (0, 2), (1, 2)].iter().find(|known| known.0 == symbol).map_or(0, |known| known.1), 3);
    }
    // 256 that have none, the end, which has one bit, and the others.
    for (value, count) in [(0, 1), (127, 7), (0, 1), (107, 7), (0b11, 2)] {
        put(value, count);
    }
    // Codes begin with their highest bit.
    (257..=codes).for_each(|_| put(0b01, 2));
    put(0, 1);
    put(0, 3);
    bits.resize(bits.len().next_multiple_of(8), 0);
    let byte = |bits: &[u32]| bits.iter().enumerate().map(|(at, bit)| (*bit as u8) << at).sum();
    let mut bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
    bytes.extend([0, 0, 0xff, 0xff]);
    bytes
}

/// A damaged stream ends the build, wherever the damage is.
#[test]
fn damaged_streams() {
    let bytes = demo().bytes();
    let start = bytes.windows(15).position(|part| part == b"demo/middle.txt").unwrap() + 15;
    for at in (start..start + deflated(text(1, 3_000).as_bytes()).len() - 1).step_by(499) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        refused(damaged, "");
    }
}
