//! Small images with every part open to change, in layouts of their own.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroUsize;

use dmoci_layers::{Compression, Digest};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{Diff, DiffError, Difference, Options, Side, diff};
use crate::oci::{Descriptor, index, media_type};
use crate::store::{ImageStore, Subject};

/// An image in a layout of its own.
pub(super) struct Made {
    pub(super) _dir: TempDir,
    pub(super) store: ImageStore,
    pub(super) root: Descriptor,
}

/// Blobs on their way into a layout.
pub(super) struct Maker(pub(super) TempDir);

impl Maker {
    pub(super) fn new() -> Maker {
        Maker(tempfile::tempdir().unwrap())
    }

    pub(super) fn put(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        let directory = self.0.path().join("blobs/sha256");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(descriptor.digest.hex()), bytes).unwrap();
        descriptor
    }

    pub(super) fn layer(&self, tar: &[u8], compression: Compression) -> (Descriptor, Digest) {
        (self.put(media_type::layer(compression), &compressed(tar, compression)), Digest::sha256(tar))
    }

    /// A manifest over layers; `change` has the last word on configuration and manifest.
    pub(super) fn image(
        &self,
        layers: &[(&str, (Descriptor, Digest))],
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> Descriptor {
        let history: Vec<Value> =
            layers.iter().map(|(name, _)| json!({"created_by": format!("dmoci layer {name}")})).collect();
        let diff_ids: Vec<String> = layers.iter().map(|(_, (_, diff_id))| diff_id.to_string()).collect();
        let mut config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Env": ["A=1", "B=2"]}, "history": history,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let descriptors: Vec<Value> = layers.iter().map(|(_, (layer, _))| layer.to_value()).collect();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "layers": descriptors,
            "config": {}, "annotations": {"a": "1"}});
        change(&mut config, &mut manifest);
        let config = self.put(media_type::CONFIG, config.to_string().as_bytes());
        if manifest["config"].is_object() {
            manifest["config"] = config.to_value();
        }
        self.put(media_type::MANIFEST, manifest.to_string().as_bytes())
    }

    pub(super) fn index(&self, manifests: &[Value]) -> Descriptor {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests});
        self.put(media_type::INDEX, index.to_string().as_bytes())
    }

    pub(super) fn done(self, root: Descriptor) -> Made {
        fs::write(self.0.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(self.0.path().join("index.json"), index::author(std::slice::from_ref(&root))).unwrap();
        let store = ImageStore::open(&Subject::bare(self.0.path())).unwrap();
        Made { _dir: self.0, store, root }
    }
}

pub(super) fn compressed(tar: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => tar.to_vec(),
        Compression::Zstd => zstd_of(tar),
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(tar).unwrap();
            out.finish().unwrap()
        }
    }
}

pub(super) fn zstd_of(tar: &[u8]) -> Vec<u8> {
    let pool = dmoci_layers::Pool::new(NonZeroUsize::MIN);
    let mut out = dmoci_layers::compress::Compressor::new(Vec::new(), Compression::Zstd, &pool);
    out.write_all(tar).unwrap();
    out.finish().unwrap().1
}

/// An entry of a tar, written by another program's code.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) path: &'static str,
    pub(super) kind: tar::EntryType,
    pub(super) mode: u32,
    pub(super) owner: (u64, u64),
    pub(super) names: (&'static str, &'static str),
    pub(super) mtime: u64,
    pub(super) target: Option<&'static str>,
    pub(super) device: Option<(u32, u32)>,
    pub(super) pax: Vec<(&'static str, &'static [u8])>,
    pub(super) content: Vec<u8>,
    pub(super) gnu: bool,
}

pub(super) fn file(path: &'static str, content: &[u8]) -> Member {
    Member {
        path,
        kind: tar::EntryType::Regular,
        mode: 0o644,
        owner: (0, 0),
        names: ("", ""),
        mtime: 315_619_200,
        target: None,
        device: None,
        pax: Vec::new(),
        content: content.to_vec(),
        gnu: false,
    }
}

pub(super) fn of(path: &'static str, kind: tar::EntryType, change: impl FnOnce(&mut Member)) -> Member {
    let mut member = Member { kind, ..file(path, b"") };
    change(&mut member);
    member
}

pub(super) fn dir(path: &'static str) -> Member {
    of(path, tar::EntryType::Directory, |_| {})
}

pub(super) fn tar_of(members: &[Member]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for member in members {
        if !member.pax.is_empty() {
            out.append_pax_extensions(member.pax.iter().copied()).unwrap();
        }
        let mut header = if member.gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
        header.set_entry_type(member.kind);
        // Names as they are, hostile ones too.
        header.as_mut_bytes()[..member.path.len()].copy_from_slice(member.path.as_bytes());
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_username(member.names.0).unwrap();
        header.set_groupname(member.names.1).unwrap();
        header.set_mtime(member.mtime);
        if let Some(target) = member.target {
            header.set_link_name(target).unwrap();
        }
        if let Some((major, minor)) = member.device {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        }
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        out.append(&header, &member.content[..]).unwrap();
    }
    out.into_inner().unwrap()
}

/// One image with one gzip layer of these bytes.
pub(super) fn made(tar: &[u8]) -> Made {
    let maker = Maker::new();
    let layer = maker.layer(tar, Compression::Gzip);
    let root = maker.image(&[("app", layer)], |_, _| {});
    maker.done(root)
}

pub(super) const OPTIONS: Options<'static> =
    Options { limit: 100, threads: NonZeroUsize::MIN, scratch: None };

pub(super) fn compared(left: &Made, right: &Made) -> Diff {
    try_compared(left, right).unwrap()
}

pub(super) fn try_compared(left: &Made, right: &Made) -> Result<Diff, DiffError> {
    let side = |made| -> Side<'_> {
        let made: &Made = made;
        Side { store: &made.store, root: &made.root }
    };
    let result = diff(side(left), side(right), OPTIONS, &());
    // The other way round everything is mirrored, and threads do not show.
    let options = Options { threads: NonZeroUsize::new(4).unwrap(), ..OPTIONS };
    let again = diff(side(left), side(right), options, &());
    let mirrored = diff(side(right), side(left), OPTIONS, &());
    if let (Ok(result), Ok(again), Ok(mirrored)) = (&result, &again, &mirrored) {
        assert_eq!(result, again);
        assert_eq!(result.verdict, mirrored.verdict);
        assert_eq!(result.count(), mirrored.count());
    }
    result
}

/// `place: left | right [@offset] [+below]`, a line each.
pub(super) fn lines(diff: &Diff) -> Vec<String> {
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let line = |difference: &Difference| {
        let mut line =
            format!("{}: {} | {}", difference.place(), show(&difference.left), show(&difference.right));
        if let Some(offset) = difference.offset {
            line += &format!(" @{offset}");
        }
        if difference.below > 0 {
            line += &format!(" +{}", difference.below);
        }
        line
    };
    diff.differences.iter().map(line).collect()
}
