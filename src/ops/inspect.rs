//! `dmoci inspect`: what an image is and holds.

use std::collections::BTreeMap;
use std::io::BufReader;

use dmoci_layers::decompress::{DecodeLimits, Decoder};
use dmoci_layers::untar::{Member, MemberKind, TarError, TarLimits, TarReader};
use dmoci_layers::{Compression, Digest, SafePath};
use serde_json::{Value, json};

use super::remote::Remote;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::limits;
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, json};
use crate::store::image::Image;
use crate::store::registry::Which;
use crate::store::{ImageStore, StoreError, Subject};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub subject: Subject,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// List files: of all layers merged, or of one layer as it is.
    pub files: Option<Files>,
}

/// Which files to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// What a container sees: later layers over earlier ones, whiteouts applied.
    Merged,
    /// The entries of one layer, from 1, whiteouts as they stand.
    Layer(usize),
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The subject as the user named it.
    pub subject: String,
    /// What `index.json` lists.
    pub roots: Vec<InspectedRoot>,
    /// The images, one for each platform.
    pub images: Vec<InspectedImage>,
}

/// What `index.json` lists.
#[derive(Clone, Debug)]
pub struct InspectedRoot {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// Tags.
    pub tags: Vec<String>,
    /// Full names.
    pub names: Vec<String>,
}

/// One image.
#[derive(Clone, Debug)]
pub struct InspectedImage {
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// The documents.
    pub image: Image,
    /// The layers' names, where the history gives them.
    pub layers: Vec<Option<String>>,
    /// The files, when asked for.
    pub files: Option<Vec<FileEntry>>,
}

/// One path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The path.
    pub path: SafePath,
    /// `file`, `dir`, `symlink`, `link`, `char`, `block`, `fifo` or `other`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u64,
    /// Numeric group.
    pub gid: u64,
    /// Bytes of content.
    pub size: u64,
    /// Target of a link, as written.
    pub target: Option<Vec<u8>>,
    /// The layer that it comes from, from 1.
    pub layer: usize,
}

/// Why an image cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A layer cannot be read.
    #[error("layer {number} {digest} cannot be read")]
    Layer {
        /// From 1.
        number: usize,
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        source: TarError,
    },
    /// A layer's name is no path.
    #[error("layer {number} {digest} holds a dangerous name")]
    Path {
        /// From 1.
        number: usize,
        /// Its digest.
        digest: Digest,
        /// Why.
        #[source]
        source: dmoci_layers::PathError,
    },
    /// There is no such layer.
    #[error("there is no layer {asked}: the image has {layers}")]
    NoLayer {
        /// What was asked for.
        asked: usize,
        /// How many there are.
        layers: usize,
    },
    /// More paths than can be listed.
    #[error("the image holds more than {0} paths")]
    TooMany(u64),
}

impl Diagnostic for InspectError {
    fn code(&self) -> &'static str {
        match self {
            InspectError::Layer { .. } => "E-LAYER",
            InspectError::Path { .. } => "E-TAR-PATH",
            InspectError::NoLayer { .. } => "E-SELECT",
            InspectError::TooMany(_) => "E-TAR-LIMIT",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            InspectError::NoLayer { .. } => Exit::Usage,
            _ => Exit::Mismatch,
        }
    }
}

/// Looks at an image. Documents are checked against their digests; layers are read but not verified.
pub fn inspect(request: &Request, remote: &Remote<'_>) -> Result<Inspected, Failure> {
    crate::sha256::provide();
    let which = Which {
        platform: request.platform.as_ref(),
        layers: request.files.is_some(),
        referrers: false,
        ..Which::default()
    };
    let store = remote.open(&request.subject, which)?.usable()?;
    let chosen = store.select(request.subject.tag(), request.subject.digest())?;
    let mut images: Vec<InspectedImage> = Vec::new();
    for root in &chosen {
        for image in store.images(&root.descriptor)? {
            let known = images.iter().any(|known| known.image.manifest.digest() == image.manifest.digest());
            if known || request.platform.as_ref().is_some_and(|platform| !image.is_for(platform)) {
                continue;
            }
            let files = request.files.map(|files| list(&store, &image, files)).transpose()?;
            let platform = image.platform().to_string();
            let names = image.config.value().layer_names();
            let layers = names.into_iter().map(|name| name.map(str::to_owned)).collect();
            images.push(InspectedImage { platform, image, layers, files });
        }
    }
    if images.is_empty()
        && let Some(platform) = &request.platform
    {
        let place = store.place().to_owned();
        return Err(StoreError::Selection {
            place,
            why: format!("no image for {platform}"),
            help: String::new(),
        }
        .into());
    }
    let roots = chosen.into_iter().map(|root| InspectedRoot {
        descriptor: root.descriptor,
        tags: root.tags,
        names: root.names,
    });
    Ok(Inspected { subject: request.subject.to_string(), roots: roots.collect(), images })
}

impl Inspected {
    /// Everything as JSON; names that are not UTF-8 are escaped.
    pub fn to_value(&self) -> Value {
        let roots = self.roots.iter().map(|root| {
            json!({"digest": root.descriptor.digest.to_string(), "mediaType": root.descriptor.media_type,
                "tags": root.tags, "names": root.names})
        });
        json!({
            "schema": 1,
            "subject": self.subject,
            "roots": roots.collect::<Vec<_>>(),
            "images": self.images.iter().map(InspectedImage::to_value).collect::<Vec<_>>(),
        })
    }
}

impl InspectedImage {
    fn to_value(&self) -> Value {
        let manifest = self.image.manifest.value();
        let layers = manifest.layers.iter().zip(&self.image.config.value().diff_ids).zip(&self.layers);
        let layers = layers.map(|((layer, diff_id), name)| {
            json!({"name": name, "digest": layer.digest.to_string(), "size": layer.size,
                "mediaType": layer.media_type, "diffId": diff_id.to_string()})
        });
        let mut value = json!({
            "platform": self.platform,
            "manifest": self.image.manifest.digest().to_string(),
            "config": manifest.config.digest.to_string(),
            "annotations": manifest.annotations,
            "layers": layers.collect::<Vec<_>>(),
            "configuration": json::parse(self.image.config.bytes()).unwrap_or_default(),
        });
        if let Some(files) = &self.files {
            let files = files.iter().map(|file| {
                let mut item = json!({"path": text(file.path.as_bytes(), "/"), "type": file.kind, "mode": format!("{:04o}", file.mode),
                    "uid": file.uid, "gid": file.gid, "size": file.size, "layer": file.layer,
                    "target": file.target.as_ref().map(|target| text(target, ""))});
                if let Some(hex) = not_text(file.path.as_bytes()) {
                    item["pathHex"] = hex.into();
                }
                if let Some(hex) = file.target.as_deref().and_then(not_text) {
                    item["targetHex"] = hex.into();
                }
                item
            });
            value["files"] = files.collect();
        }
        value
    }
}

/// A name as a JSON string, which can hold any text as it is. Bytes that are no UTF-8 are replaced: see [`not_text`].
fn text(bytes: &[u8], before: &str) -> String {
    format!("{before}{}", String::from_utf8_lossy(bytes))
}

/// The bytes in hexadecimal, when they are no UTF-8.
fn not_text(bytes: &[u8]) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    std::str::from_utf8(bytes).is_err().then(|| hex(bytes))
}

fn list(store: &ImageStore, image: &Image, files: Files) -> Result<Vec<FileEntry>, Failure> {
    let layers = &image.manifest.value().layers;
    match files {
        Files::Layer(number) => {
            let layer = number.checked_sub(1).and_then(|index| layers.get(index));
            let layer = layer.ok_or(InspectError::NoLayer { asked: number, layers: layers.len() })?;
            let mut entries = Vec::new();
            read(store, layer, number, &mut |entry| {
                entries.push(entry);
                entries.len() as u64
            })?;
            Ok(entries)
        }
        Files::Merged => {
            let mut tree = BTreeMap::new();
            for (i, layer) in layers.iter().enumerate() {
                read(store, layer, i + 1, &mut |entry| {
                    merge(&mut tree, entry);
                    tree.len() as u64
                })?;
            }
            Ok(tree.into_values().collect())
        }
    }
}

/// Applies one entry of a layer (layer.md, "Whiteouts"). What a whiteout hides is of layers below.
fn merge(tree: &mut BTreeMap<SafePath, FileEntry>, entry: FileEntry) {
    let layer = entry.layer;
    let directory = entry.path.parent().unwrap_or_else(SafePath::root);
    if let Some(hidden) = entry.path.name().strip_prefix(b".wh.") {
        if hidden == b".wh..opq" {
            remove(tree, &directory, layer, false);
        } else if let Ok(hidden) = directory.join(hidden) {
            remove(tree, &hidden, layer, true);
        }
        return;
    }
    if entry.kind != "dir" {
        remove(tree, &entry.path, layer, false);
    }
    tree.insert(entry.path.clone(), entry);
}

/// Removes what lower layers put below `path`, and with `itself` the path too.
fn remove(tree: &mut BTreeMap<SafePath, FileEntry>, path: &SafePath, layer: usize, itself: bool) {
    let below = tree.range(path.clone()..).take_while(|(other, _)| other.starts_with(path));
    let gone: Vec<SafePath> = below
        .filter(|(other, entry)| entry.layer < layer && (itself || *other != path))
        .map(|(other, _)| other.clone())
        .collect();
    for path in gone {
        tree.remove(&path);
    }
}

/// Reads the entries of a layer; `take` says how many are kept.
fn read(
    store: &ImageStore,
    layer: &Descriptor,
    number: usize,
    take: &mut dyn FnMut(FileEntry) -> u64,
) -> Result<(), Failure> {
    let compression = match media_type::kind(&layer.media_type) {
        Kind::Layer(compression) => compression,
        _ => Compression::None,
    };
    let limits = DecodeLimits {
        max_output: limits::LAYER_BYTES,
        max_ratio: limits::COMPRESSION_RATIO,
        ratio_free: limits::RATIO_FREE_BYTES,
    };
    let digest = layer.digest.clone();
    let blob = store.open_blob(&digest)?;
    let io = |source| StoreError::Io { path: store.place().to_owned(), source };
    let decoder = Decoder::new(blob, compression, limits).map_err(io)?;
    let tar_limits =
        TarLimits { max_entries: limits::TAR_ENTRIES, max_extension_bytes: limits::LAYER_EXTENSION_BYTES };
    let mut tar = TarReader::new(BufReader::with_capacity(128 << 10, decoder), tar_limits);
    loop {
        let member = match tar.next() {
            Ok(Some(member)) => member,
            Ok(None) => return Ok(()),
            Err(source) => return Err(InspectError::Layer { number, digest, source }.into()),
        };
        let path = member.path();
        let path = path.map_err(|source| InspectError::Path { number, digest: digest.clone(), source })?;
        if take(entry(&member, path, number)) > limits::LISTED_PATHS {
            return Err(InspectError::TooMany(limits::LISTED_PATHS).into());
        }
    }
}

fn entry(member: &Member<'_>, path: SafePath, layer: usize) -> FileEntry {
    let (kind, target) = match &member.kind {
        MemberKind::File => ("file", None),
        MemberKind::HardLink { target } => ("link", Some(target.clone())),
        MemberKind::Symlink { target } => ("symlink", Some(target.clone())),
        MemberKind::Directory => ("dir", None),
        MemberKind::CharDevice { .. } => ("char", None),
        MemberKind::BlockDevice { .. } => ("block", None),
        MemberKind::Fifo => ("fifo", None),
        MemberKind::Other(_) => ("other", None),
    };
    let (mode, uid, gid) = (member.mode & 0o7777, member.uid, member.gid);
    FileEntry { path, kind, mode, uid, gid, size: member.size, target, layer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_hide_lower_layers_only() {
        let path = |text: &str| SafePath::parse(text.as_bytes()).unwrap();
        let entry = |text: &str, kind, layer| FileEntry {
            path: path(text),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            target: None,
            layer,
        };
        let mut tree = BTreeMap::new();
        let entries = [
            entry("a", "dir", 1),
            entry("a/x", "file", 1),
            entry("a/y", "file", 1),
            entry("b", "file", 1),
            entry("c", "dir", 1),
            entry("c/d", "file", 1),
            entry("ab", "file", 1),
            entry("a", "dir", 2),
            entry("a/new", "file", 2),
            entry("a/.wh..wh..opq", "file", 2),
            entry(".wh.b", "file", 2),
            entry("c", "symlink", 2),
        ];
        for entry in entries {
            merge(&mut tree, entry);
        }
        let left: Vec<String> = tree.keys().map(SafePath::to_string).collect();
        assert_eq!(left, ["/a", "/a/new", "/ab", "/c"]);
        assert_eq!(tree[&path("c")].kind, "symlink");
    }
}
