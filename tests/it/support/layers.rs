//! What is in the layers of `dist/image`, read by crates that dmoci does not write with.

use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// A spec for one platform without a name.
pub(crate) fn image_spec(rest: &str) -> String {
    format!("schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n{rest}")
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// As the tar has it.
    pub(crate) path: String,
    /// `-`, `d`, `l`, `h`, `c`, `b`.
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    /// Content of a file, or target of a link.
    pub(crate) content: String,
}

/// Reads a JSON blob of the image.
pub(crate) fn blob(dist: &Path, digest: &Value) -> Vec<u8> {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    std::fs::read(dist.join("image/blobs/sha256").join(hex)).unwrap()
}

/// `digests.json`.
pub(crate) fn digests(dist: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dist.join("digests.json")).unwrap()).unwrap()
}

/// The config of the first platform.
pub(crate) fn config(dist: &Path) -> Value {
    let digests = digests(dist);
    serde_json::from_slice(&blob(dist, &digests["platforms"][0]["config"]["digest"])).unwrap()
}

/// The manifest of the first platform.
pub(crate) fn manifest(dist: &Path) -> Value {
    let digests = digests(dist);
    serde_json::from_slice(&blob(dist, &digests["platforms"][0]["manifest"]["digest"])).unwrap()
}

/// The tar of the gzip layer of this name, of the first platform.
pub(crate) fn tar_of(dist: &Path, name: &str) -> tar::Archive<impl Read + use<>> {
    let digests = digests(dist);
    let layers = digests["platforms"][0]["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer["name"] == name).unwrap();
    let blob = std::io::Cursor::new(blob(dist, &layer["digest"]));
    tar::Archive::new(flate2::read::MultiGzDecoder::new(blob))
}

/// The entries of the gzip layer of this name, of the first platform.
pub(crate) fn layer(dist: &Path, name: &str) -> Vec<Listed> {
    let mut archive = tar_of(dist, name);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        let kind = match entry.header().entry_type() {
            tar::EntryType::Regular => {
                entry.read_to_string(&mut content).unwrap();
                '-'
            }
            tar::EntryType::Directory => 'd',
            tar::EntryType::Symlink => 'l',
            tar::EntryType::Link => 'h',
            tar::EntryType::Char => 'c',
            tar::EntryType::Block => 'b',
            other => panic!("{other:?}"),
        };
        if let Some(target) = entry.link_name_bytes() {
            content = String::from_utf8(target.into_owned()).unwrap();
        }
        let header = entry.header();
        Listed {
            path: String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
            kind,
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            content,
        }
    });
    entries.collect()
}

/// `kind mode uid:gid path [content]`, a line each.
pub(crate) fn listing(dist: &Path, name: &str) -> String {
    let lines = layer(dist, name).into_iter().map(|entry| {
        let (uid, gid) = entry.owner;
        let content = entry.content.escape_debug().to_string();
        format!("{} {:04o} {uid}:{gid} {} {content}", entry.kind, entry.mode, entry.path)
            .trim_end()
            .to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
