//! Writing image archives: one content, one archive.
//!
//! Members in this order: `oci-layout`, `index.json`, `manifest.json` when there is one, then `blobs/`, each algorithm
//! below it, and the blobs by name. Directories 0755, files 0644, owner 0:0, the time of every layer entry, headers
//! by `dmoci_layers::tar`, two zero blocks at the end and nothing more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use dmoci_layers::tar::{BLOCK, END, padding, write_header};
use dmoci_layers::{Digest, Entry, EntryKind, Hasher, SafePath};
use serde_json::json;

use super::super::{ImageStore, StoreError};
use crate::oci::json;

pub use super::super::layout::write::OCI_LAYOUT as LAYOUT_FILE;

/// An archive that is to be written, or that one that is there should be.
pub struct ArchivePlan<'a> {
    members: Vec<(SafePath, Content<'a>)>,
}

/// What a member holds.
enum Content<'a> {
    Directory,
    Bytes(&'a [u8]),
    /// A blob of the store, of this size.
    Blob(&'a Digest, u64),
    /// A file that holds a blob, of this size.
    File(&'a Digest, &'a File, u64),
}

/// Where the bytes of a blob that is written come from.
pub enum BlobSource {
    /// The store, of this many bytes.
    Store(u64),
    /// Here.
    Bytes(Vec<u8>),
    /// A file, of this many bytes.
    Spool(File, u64),
}

/// One member of a plan.
pub struct PlannedMember {
    /// Its name.
    pub name: SafePath,
    /// All bytes of its header.
    pub header: Vec<u8>,
    /// Bytes of its content.
    pub size: u64,
}

impl<'a> ArchivePlan<'a> {
    /// The archive of these documents and blobs.
    pub fn new(
        index: &'a [u8],
        docker_manifest: Option<&'a [u8]>,
        blobs: &'a BTreeMap<Digest, BlobSource>,
    ) -> ArchivePlan<'a> {
        let mut members = vec![
            (name("oci-layout"), Content::Bytes(LAYOUT_FILE)),
            (name("index.json"), Content::Bytes(index)),
        ];
        members.extend(docker_manifest.map(|bytes| (name("manifest.json"), Content::Bytes(bytes))));
        members.push((name("blobs"), Content::Directory));
        let mut algorithm = "";
        for (digest, source) in blobs {
            if digest.algorithm().name() != algorithm {
                algorithm = digest.algorithm().name();
                members.push((name(&format!("blobs/{algorithm}")), Content::Directory));
            }
            let content = match source {
                BlobSource::Store(size) => Content::Blob(digest, *size),
                BlobSource::Bytes(bytes) => Content::Bytes(bytes),
                BlobSource::Spool(file, size) => Content::File(digest, file, *size),
            };
            members.push((name(&format!("blobs/{algorithm}/{}", digest.hex())), content));
        }
        ArchivePlan { members }
    }

    /// The members with their headers, in their order.
    pub fn members(&self) -> impl Iterator<Item = PlannedMember> {
        self.members.iter().map(|(name, content)| {
            let size = content.size();
            PlannedMember { name: name.clone(), header: header(name, content), size }
        })
    }

    /// Bytes of the whole archive.
    pub fn size(&self) -> u64 {
        let member =
            |member: PlannedMember| member.header.len() as u64 + member.size + padding(member.size) as u64;
        self.members().map(member).sum::<u64>() + END.len() as u64
    }

    /// Writes the archive. Every blob is hashed on its way; one that is not what its name says is an error.
    pub fn write(&self, store: &ImageStore, path: &Path, out: &mut dyn Write) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write { path: path.to_owned(), source };
        let mut buffer = vec![0; 256 << 10];
        for (name, content) in &self.members {
            out.write_all(&header(name, content)).map_err(failed)?;
            match content {
                Content::Directory => {}
                Content::Bytes(bytes) => out.write_all(bytes).map_err(failed)?,
                Content::Blob(digest, size) => {
                    let mut blob = store.open_blob(digest)?.take(*size);
                    copy(store, digest, *size, &mut blob, path, &mut buffer, out)?;
                }
                Content::File(digest, file, size) => {
                    let mut file = file.take(*size);
                    copy(store, digest, *size, &mut file, path, &mut buffer, out)?;
                }
            }
            out.write_all(&[0; BLOCK][..padding(content.size())]).map_err(failed)?;
        }
        out.write_all(&END).map_err(failed)
    }
}

impl Content<'_> {
    fn size(&self) -> u64 {
        match self {
            Content::Directory => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Blob(_, size) | Content::File(_, _, size) => *size,
        }
    }
}

/// Docker's `manifest.json` for one image whose blobs lie below `blobs/`.
pub fn docker_manifest(config: &Digest, tags: &[String], layers: &[Digest]) -> Vec<u8> {
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
    json::canonical(&json!([{
        "Config": path(config),
        "Layers": layers.iter().map(path).collect::<Vec<_>>(),
        "RepoTags": tags,
    }]))
}

/// Copies exactly `size` bytes of a blob, which must have its digest.
fn copy(
    store: &ImageStore,
    digest: &Digest,
    size: u64,
    blob: &mut dyn Read,
    path: &Path,
    buffer: &mut [u8],
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut copied = 0;
    loop {
        let n = match blob.read(buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(StoreError::Io { path: store.place().to_owned(), source }),
        };
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n]).map_err(|source| StoreError::Write { path: path.to_owned(), source })?;
        copied += n as u64;
    }
    let found = hasher.finish();
    if copied != size || found != *digest {
        let place = store.place().to_owned();
        return Err(StoreError::Digest { place, expected: digest.clone(), found: Box::new(found) });
    }
    Ok(())
}

fn header(name: &SafePath, content: &Content<'_>) -> Vec<u8> {
    let (kind, mode) = match content {
        Content::Directory => (EntryKind::Directory, 0o755),
        _ => (EntryKind::File { size: content.size() }, 0o644),
    };
    let mut out = Vec::new();
    // Names and modes are ours, so that every one of them has a tar form.
    let written =
        write_header(&Entry { path: name.clone(), kind, mode, uid: 0, gid: 0, xattrs: Vec::new() }, &mut out);
    debug_assert!(written.is_ok());
    out
}

/// The names are ours: fixed words and hexadecimal digits.
fn name(text: &str) -> SafePath {
    SafePath::parse(text.as_bytes()).unwrap_or_else(|_| SafePath::root())
}
