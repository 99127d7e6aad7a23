//! Layers in which deflate streams stand as they are: how they are cut, and what their descriptors say of it.

use std::num::NonZeroUsize;

use dmoci::oci::{Descriptor, media_type};
use dmoci_layers::inflate::Expected;
use dmoci_layers::{Compression, Digest, Entry, EntryKind, Layer, LayerWriter, Pool, SafePath};

use super::sample::SampleLayer;
use super::{Sample, assert_sound, report};
use crate::support::wheel::deflated;

const RULES: &str = "dev.dmoci.rules";

/// A layer of two files, one of which may be a stream.
fn layer(content: &[u8], spliced: bool) -> (Layer, Vec<u8>) {
    let mut writer = LayerWriter::new(Vec::new(), Compression::Gzip, &Pool::new(NonZeroUsize::MIN));
    for path in ["a", "b"] {
        let kind = EntryKind::File { size: content.len() as u64 };
        let path = SafePath::parse(path.as_bytes()).unwrap();
        let entry = Entry { path, kind, mode: 0o644, uid: 0, gid: 0, xattrs: Vec::new() };
        match spliced && entry.path.as_bytes() == b"b" {
            true => {
                let crc = libdeflater::crc32(content);
                let digest = Some(Digest::sha256(content));
                let expected = Expected { size: content.len() as u64, crc, digest };
                writer.add_deflated(&entry, &expected, &mut &deflated(content)[..]).unwrap();
            }
            false => writer.add(&entry, &mut &content[..]).unwrap(),
        }
    }
    writer.finish().unwrap()
}

/// Why an image of this layer, of which its descriptors say these rules, is not canonical.
fn reasons(content: &[u8], spliced: bool, said: &[Option<&str>]) -> Vec<String> {
    let (made, bytes) = layer(content, spliced);
    let mut sample = Sample::default();
    let descriptor = sample.put(media_type::layer(Compression::Gzip), bytes);
    let layers: Vec<(&str, SampleLayer)> = said
        .iter()
        .map(|said| {
            let annotated = |rules: &str| descriptor.clone().annotate(RULES, rules);
            let descriptor: Descriptor = said.map_or_else(|| descriptor.clone(), annotated);
            ("app", SampleLayer { descriptor, diff_id: made.diff_id.clone() })
        })
        .collect();
    let root = sample.image("amd64", &layers);
    sample.name(root);
    let found = report(sample.layout().path());
    assert_sound(&found);
    found.canonical.reasons
}

#[test]
fn what_is_there_and_what_is_said() {
    // Larger than a block, and without many repetitions.
    let mut state = 1u64;
    let long: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 58) as u8
    })
    .take(3_000_000)
    .collect();
    let (spliced, nothing) = (Some("1+splice"), None);
    assert_eq!(reasons(&long, true, &[spliced]), [""; 0]);
    assert_eq!(reasons(&long, false, &[nothing]), [""; 0]);
    for (content, is, said, why) in [
        (&long, true, &[nothing][..], "deflate streams stand in it, and no dev.dmoci.rules"),
        // One of two uses does not say so.
        (&long, true, &[spliced, nothing], "deflate streams stand in it, and no dev.dmoci.rules"),
        (&long, false, &[spliced], "says \"1+splice\", and no deflate stream stands in it"),
        (&long, true, &[Some("2+splice")], "was made by the rules \"2+splice\", which are unknown"),
        (&long, false, &[Some("1")], "was made by the rules \"1\", which are unknown"),
        // Too short for a member of its own.
        (&long[..4_000].to_vec(), true, &[spliced], "the gzip members are not cut and headed as dmoci does"),
    ] {
        let reasons = reasons(content, is, said);
        assert!(reasons.len() == 1 && reasons[0].contains(why), "{reasons:?}, expected {why:?}");
        assert!(reasons[0].starts_with("layer 1 'app' of linux/amd64"), "{reasons:?}");
    }
}
