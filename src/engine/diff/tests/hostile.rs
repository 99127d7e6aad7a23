//! Images that are not what they say.

use std::fs;
use std::path::Path;

use dmoci_layers::{Compression, Digest};

use super::super::LayerOutcome;
use super::made::{Made, Maker, compared, compressed, dir, file, lines, made, tar_of, try_compared};
use crate::diagnostic::Diagnostic as _;
use crate::oci::{Descriptor, media_type};

/// An image whose parts do not fit together.
fn lying(tar: &[u8], change: impl FnOnce(&Path, &mut (Descriptor, Digest))) -> Made {
    let maker = Maker::new();
    let mut layer = maker.layer(tar, Compression::Gzip);
    let blob = maker.0.path().join("blobs/sha256").join(layer.0.digest.hex());
    change(&blob, &mut layer);
    let root = maker.image(&[("app", layer)], |_, _| {});
    maker.done(root)
}

#[test]
fn what_lies_is_an_error_and_no_difference() {
    let tar = tar_of(&[dir("a"), file("a/b", b"content")]);
    let good = made(&tar);
    let code = |bad: &Made| try_compared(&good, bad).map_err(|error| error.code());
    let other = tar_of(&[dir("a"), file("a/b", b"CONTENT")]);
    // The blob is another one than its digest says.
    let bad = lying(&other, |blob, _| fs::write(blob, compressed(&tar, Compression::Zstd)).unwrap());
    assert_eq!(code(&bad), Err("E-LAYER"));
    let small = lying(&other, |blob, _| fs::write(blob, compressed(&tar, Compression::Gzip)).unwrap());
    assert_eq!(code(&small), Err("E-DIGEST"));
    // The configuration claims the content of the other image: recompressed, it would seem.
    let claim = lying(&other, |_, layer| layer.1 = Digest::sha256(&tar));
    assert_eq!(code(&claim), Err("E-DIFFID"));
    let claim = lying(&other, |_, layer| layer.1 = Digest::sha256(b"nothing"));
    assert_eq!(code(&claim), Err("E-DIFFID"));
    let cut = lying(&other, |blob, _| {
        let bytes = fs::read(blob).unwrap();
        fs::write(blob, &bytes[..bytes.len() - 9]).unwrap();
    });
    assert_eq!(code(&cut), Err("E-LAYER"));
    assert_eq!(code(&made(&tar_of(&[file("../x", b"")]))), Err("E-TAR-PATH"));
    assert_eq!(code(&made(&tar[..700])), Err("E-LAYER"));
    // Two configurations that name two contents for one blob.
    let same = lying(&tar, |_, layer| layer.1 = Digest::sha256(b"nothing"));
    let found = lines(&compared(&good, &same));
    assert!(found[0].starts_with("/linux~1amd64/config/rootfs/diff_ids/0: sha256:"), "{found:?}");
}

#[test]
fn layers_of_unknown_types_and_absent_ones() {
    let with = |media_type: &str, content: &[u8], keep: bool| {
        let maker = Maker::new();
        let layer = maker.put(media_type, content);
        let blob = maker.0.path().join("blobs/sha256").join(layer.digest.hex());
        let diff_id = layer.digest.clone();
        let root = maker.image(&[("app", (layer, diff_id))], |_, _| {});
        if !keep {
            fs::remove_file(blob).unwrap();
        }
        maker.done(root)
    };
    let json = "application/vnd.in-toto+json";
    let diff = compared(&with(json, b"{\"a\":1}", true), &with(json, b"{\"a\":2}", true));
    assert_eq!(diff.differences[0].place(), "/linux~1amd64/layers/0/content");
    assert_eq!((diff.differences[0].offset, diff.layers[0].outcome), (Some(5), LayerOutcome::Opaque));
    let foreign = media_type::LAYER_FOREIGN;
    let diff = compared(&with(foreign, b"1", false), &with(foreign, b"2", false));
    assert!(diff.differences[0].left.as_ref().unwrap().ends_with("(not here)"));
}

#[test]
fn no_flipped_byte_is_passed_over() {
    let tar = tar_of(&[dir("a"), file("a/b", b"content"), file("a/c", b"")]);
    let good = made(&tar);
    let mut differ = 0;
    for at in (0..tar.len()).step_by(13) {
        let mut bad = tar.clone();
        bad[at] ^= 0x15;
        // Headers are refused for their checksums, most of them.
        if let Ok(diff) = try_compared(&good, &made(&bad)) {
            assert!(diff.count() > 0, "byte {at}");
            differ += 1;
        }
    }
    assert!(differ > 20, "{differ}");
}
