//! What an image archive holds: of a store the images that are wanted, in one view or both.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Seek as _, Write};

use dmoci_layers::decompress::{DecodeError, DecodeLimits, Decoder};
use dmoci_layers::{Compression, Digest, Hasher};
use serde_json::Value;

use super::plan::Watch;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::limits;
use crate::oci::index::{Index, RULES_ANNOTATION, SelfDigest, author, self_digest};
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
use crate::oci::reference::{is_evidence_tag, referrers_tag, subject_tag};
use crate::oci::{Descriptor, json};
use crate::store::archive::write::{ArchivePlan, BlobSource, docker_manifest};
use crate::store::image::{Image, Root};
use crate::store::registry::{self, refers_to, stray};
use crate::store::{ImageStore, StoreError};

/// Which images of a store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a Digest>,
    pub(super) platform: Option<&'a Platform>,
}

/// What an archive will hold.
pub(super) struct Content {
    index: Vec<u8>,
    docker: Option<Vec<u8>>,
    blobs: BTreeMap<Digest, BlobSource>,
    /// What `index.json` names, lists of referrers apart.
    pub(super) images: Vec<Descriptor>,
    /// The images' names.
    pub(super) names: Vec<String>,
    /// For a Docker archive the image ID.
    pub(super) image_id: Option<Digest>,
}

/// A layer has a type that no Docker archive can hold.
#[derive(Debug, thiserror::Error)]
#[error("the layer {digest} has the type {media_type}, which a Docker archive cannot hold")]
pub(super) struct LayerTypeError {
    digest: Digest,
    media_type: String,
}

impl Diagnostic for LayerTypeError {
    fn code(&self) -> &'static str {
        "E-EXPORT-LAYER"
    }

    fn exit(&self) -> Exit {
        Exit::Mismatch
    }

    fn help(&self) -> Option<String> {
        Some("write -o oci-archive:FILE".into())
    }
}

impl Content {
    /// All that is wanted, with every platform or one.
    pub(super) fn oci(
        store: &ImageStore,
        wanted: Wanted<'_>,
        watch: &dyn Watch,
    ) -> Result<Content, StoreError> {
        oci(store, wanted, watch)
    }

    /// All of an archive with more documents in it, and without one; `index.json` says so.
    pub(super) fn amended(
        store: &ImageStore,
        index: Vec<u8>,
        gone: Option<&Digest>,
        more: Vec<(Digest, Vec<u8>)>,
    ) -> Content {
        let kept = store.blobs().filter(|digest| Some(*digest) != gone);
        let sized = |digest: &Digest| Some((digest.clone(), BlobSource::Store(store.blob_size(digest)?)));
        let mut blobs: BTreeMap<Digest, BlobSource> = kept.filter_map(sized).collect();
        blobs.extend(more.into_iter().map(|(digest, bytes)| (digest, BlobSource::Bytes(bytes))));
        let mut content = content(index, Vec::new(), blobs, 0);
        content.docker = store.docker_manifest().map(<[u8]>::to_vec);
        content
    }

    /// One image, in both views.
    pub(super) fn docker(store: &ImageStore, wanted: Wanted<'_>) -> Result<Content, Failure> {
        docker_content(store, wanted)
    }

    /// `index.json`, and the blobs.
    pub(super) fn parts(&self) -> (&[u8], &BTreeMap<Digest, BlobSource>) {
        (&self.index, &self.blobs)
    }

    /// The archive that holds it.
    pub(super) fn plan(&self) -> ArchivePlan<'_> {
        ArchivePlan::new(&self.index, self.docker.as_deref(), &self.blobs)
    }
}

fn oci(store: &ImageStore, wanted: Wanted<'_>, watch: &dyn Watch) -> Result<Content, StoreError> {
    let Wanted { tag, digest, platform } = wanted;
    let all = descriptors(store)?;
    if platform.is_some() {
        let image = store.one_image(tag, digest, platform)?;
        let mut images = named(store, wanted, &image)?;
        let mut blobs = reachable(store, &images)?;
        let (lists, _) = referrers(store, &all, &mut images, &mut blobs, watch)?;
        return Ok(content(author(&images), images, blobs, lists));
    }
    let chosen = store.select(tag, digest)?;
    let images: Vec<_> =
        all.iter().filter(|one| chosen.iter().any(|root| root.descriptor.digest == one.digest)).collect();
    let mut images: Vec<Descriptor> = images.into_iter().cloned().collect();
    if images.is_empty() {
        // A digest below an index.
        images = chosen.into_iter().map(|root| root.descriptor).collect();
    }
    let mut blobs = reachable(store, &images)?;
    let (lists, strays) = referrers(store, &all, &mut images, &mut blobs, watch)?;
    let whole = !strays && images.len() == all.len() && self_digest(store.index_bytes()) == SelfDigest::Right;
    let index = if whole { store.index_bytes().to_vec() } else { author(&images) };
    Ok(content(index, images, blobs, lists))
}

/// Adds what refers to any of these blobs, where the store lists that or has it under cosign's older tags, and what refers to that
/// in turn. How many lists it were, and whether anything in them was left out because it refers to something else.
fn referrers(
    store: &ImageStore,
    all: &[Descriptor],
    images: &mut Vec<Descriptor>,
    blobs: &mut BTreeMap<Digest, BlobSource>,
    watch: &dyn Watch,
) -> Result<(usize, bool), StoreError> {
    let (before, mut strays) = (images.len(), false);
    let tag = |descriptor: &Descriptor| descriptor.annotations.get(TAG).cloned();
    // cosign's SBOMs have configurations of images without a platform, which no layout may hold that is to be sound.
    let is_taken = |tag: String| is_evidence_tag(&tag) && !tag.ends_with(".sbom");
    let mut lists: Vec<&Descriptor> = all.iter().filter(|one| tag(one).is_some_and(is_taken)).collect();
    lists.retain(|list| !images.contains(list));
    loop {
        let tags: BTreeMap<String, Digest> =
            blobs.keys().map(|digest| (referrers_tag(digest), digest.clone())).collect();
        let about = |list: &Descriptor| tag(list).and_then(|tag| tags.get(subject_tag(&tag)));
        let (found, left): (Vec<_>, Vec<_>) = lists.into_iter().partition(|list| about(list).is_some());
        if found.is_empty() {
            return Ok((images.len() - before, strays));
        }
        for list in found {
            let Some(about) = about(list) else { continue };
            let Some(kept) = without_strays(store, list, about, watch)? else {
                blobs.extend(reachable(store, std::slice::from_ref(list))?);
                images.push(list.clone());
                continue;
            };
            strays = true;
            if !kept.is_empty() {
                blobs.extend(reachable(store, &kept)?);
                let bytes = registry::list(&kept);
                let own = Descriptor::of(media_type::INDEX, &bytes);
                images.push(Descriptor { annotations: list.annotations.clone(), ..own.clone() });
                blobs.insert(own.digest, BlobSource::Bytes(bytes));
            }
        }
        lists = left;
    }
}

/// What a list has that refers to what it is about; nothing when that is all of it.
fn without_strays(
    store: &ImageStore,
    list: &Descriptor,
    about: &Digest,
    watch: &dyn Watch,
) -> Result<Option<Vec<Descriptor>>, StoreError> {
    if list.kind() != Kind::Index || store.blob_size(&list.digest).is_none() {
        return Ok(None);
    }
    let is_right = |one: &Descriptor| {
        // What is not there is an error of its own.
        store.blob_size(&one.digest).is_none()
            || store.read_json_blob(&one.digest).is_ok_and(|bytes| refers_to(&bytes, about))
    };
    let (kept, strays): (Vec<_>, Vec<_>) = store.index(list)?.0.manifests.into_iter().partition(is_right);
    for one in &strays {
        watch.warning(&stray(&store.place().display().to_string(), &one.digest, about));
    }
    Ok((!strays.is_empty()).then_some(kept))
}

/// `images` with so many lists of referrers at its end.
fn content(
    index: Vec<u8>,
    mut images: Vec<Descriptor>,
    blobs: BTreeMap<Digest, BlobSource>,
    lists: usize,
) -> Content {
    images.truncate(images.len().saturating_sub(lists));
    let names = images.iter().filter_map(|image| image.annotations.get(FULL_NAME).cloned()).collect();
    Content { index, docker: None, blobs, images, names, image_id: None }
}

const FULL_NAME: &str = "io.containerd.image.name";
const TAG: &str = "org.opencontainers.image.ref.name";

fn docker_content(store: &ImageStore, wanted: Wanted<'_>) -> Result<Content, Failure> {
    let Wanted { tag, digest, platform } = wanted;
    let image = store.one_image(tag, digest, platform)?;
    let mut images = named(store, wanted, &image)?;
    let mut blobs = BTreeMap::new();
    let manifest = image.manifest.value();
    let mut layers = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&image.config.value().diff_ids) {
        let layer = match layer.kind() {
            Kind::Layer(Compression::Gzip | Compression::None) => {
                blobs.insert(layer.digest.clone(), BlobSource::Store(layer.size));
                layer.clone()
            }
            Kind::Layer(Compression::Zstd) => {
                let (spool, plain) = decompress(store, layer, diff_id)?;
                blobs.insert(diff_id.clone(), BlobSource::Spool(spool, plain.size));
                plain
            }
            _ => {
                let media_type = layer.media_type.clone();
                return Err(LayerTypeError { digest: layer.digest.clone(), media_type }.into());
            }
        };
        layers.push(layer);
    }
    blobs.insert(manifest.config.digest.clone(), BlobSource::Store(manifest.config.size));
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest.clone()).collect();
    if layers == manifest.layers {
        blobs.insert(image.descriptor.digest.clone(), BlobSource::Store(image.descriptor.size));
    } else {
        let bytes = rewritten(manifest, &layers);
        let written = Descriptor::of(media_type::MANIFEST, &bytes);
        for image in &mut images {
            (image.digest, image.size) = (written.digest.clone(), written.size);
            image.media_type = written.media_type.clone();
        }
        blobs.insert(written.digest, BlobSource::Bytes(bytes));
    }
    let mut content = content(author(&images), images, blobs, 0);
    content.docker = Some(docker_manifest(&manifest.config.digest, &content.names, &digests));
    content.image_id = Some(manifest.config.digest.clone());
    Ok(content)
}

/// A new manifest with other layers: the configuration, and so the image ID, stays.
fn rewritten(manifest: &Manifest, layers: &[Descriptor]) -> Vec<u8> {
    let mut annotations = manifest.annotations.clone();
    annotations.insert(RULES_ANNOTATION.into(), dmoci_layers::RULES.to_string());
    json::canonical(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": manifest.config.to_value(),
        "layers": layers.iter().map(Descriptor::to_value).collect::<Vec<Value>>(),
        "annotations": annotations,
    }))
}

/// A layer without compression, in a temporary file; its digest must be its diff_id.
fn decompress(
    store: &ImageStore,
    layer: &Descriptor,
    diff_id: &Digest,
) -> Result<(File, Descriptor), StoreError> {
    let limits = DecodeLimits {
        max_output: limits::LAYER_BYTES,
        max_ratio: limits::COMPRESSION_RATIO,
        ratio_free: limits::RATIO_FREE_BYTES,
    };
    let io = |source| StoreError::Io { path: store.place().to_owned(), source };
    let mut spool = tempfile::tempfile().map_err(io)?;
    let mut decoder = Decoder::new(store.open_blob(&layer.digest)?, Compression::Zstd, limits).map_err(io)?;
    let mut out = Hashed { out: &mut spool, hasher: Hasher::new(diff_id.algorithm()), count: 0 };
    io::copy(&mut decoder, &mut out).map_err(|source| match DecodeError::of(&source) {
        Some(error) => StoreError::Document {
            what: format!("the layer {}", layer.digest),
            code: "E-COMPRESSION",
            why: error.to_string(),
        },
        None => io(source),
    })?;
    let (found, size) = (out.hasher.finish(), out.count);
    if found != *diff_id {
        let place = store.place().to_owned();
        return Err(StoreError::Digest { place, expected: diff_id.clone(), found: Box::new(found) });
    }
    spool.rewind().map_err(io)?;
    let mut plain = Descriptor::new(media_type::LAYER, found, size);
    plain.annotations = layer.annotations.clone();
    Ok((spool, plain))
}

/// The image under every name that is wanted, with its platform.
fn named(store: &ImageStore, wanted: Wanted<'_>, image: &Image) -> Result<Vec<Descriptor>, StoreError> {
    let mut plain = image.descriptor.clone();
    plain.platform = Some(image.platform().clone());
    plain.annotations.retain(|key, _| key != TAG && key != FULL_NAME);
    let mut images = Vec::new();
    let mut looked = HashMap::new();
    for descriptor in descriptors(store)? {
        let name = |key: &str| descriptor.annotations.get(key).cloned();
        let root = Root {
            descriptor: descriptor.clone(),
            tags: name(TAG).into_iter().collect(),
            names: name(FULL_NAME).into_iter().collect(),
        };
        if wanted.tag.is_some_and(|tag| !root.has_tag(tag)) {
            continue;
        }
        let leads = match looked.get(&root.descriptor.digest) {
            Some(known) => *known,
            None => {
                let below = store.images(&root.descriptor)?;
                below.iter().any(|one| one.descriptor.digest == image.descriptor.digest)
            }
        };
        looked.insert(root.descriptor.digest.clone(), leads);
        if !leads {
            continue;
        }
        let mut copy = plain.clone();
        for key in [TAG, FULL_NAME] {
            if let Some(name) = name(key) {
                copy.annotations.insert(key.to_owned(), name);
            }
        }
        if !images.contains(&copy) {
            images.push(copy);
        }
    }
    Ok(images)
}

/// What `index.json` lists, as it lists it.
pub(super) fn descriptors(store: &ImageStore) -> Result<Vec<Descriptor>, StoreError> {
    // The strict reading, with its errors, is done by `roots`.
    store.roots()?;
    let value = json::parse(store.index_bytes()).unwrap_or_default();
    Ok(Index::read(&value, &mut Vec::new()).map(|index| index.manifests).unwrap_or_default())
}

/// Every blob that these descriptors lead to.
fn reachable(store: &ImageStore, roots: &[Descriptor]) -> Result<BTreeMap<Digest, BlobSource>, StoreError> {
    let mut blobs = BTreeMap::new();
    let mut todo: Vec<(Descriptor, usize, bool)> =
        roots.iter().map(|root| (root.clone(), 0, false)).collect();
    while let Some((descriptor, depth, listed)) = todo.pop() {
        if blobs.contains_key(&descriptor.digest) {
            continue;
        }
        let graph = |why: &str| StoreError::Document {
            what: format!("the document {}", descriptor.digest),
            code: "E-GRAPH",
            why: why.into(),
        };
        if depth > limits::INDEX_DEPTH || blobs.len() > limits::DESCRIPTORS {
            return Err(graph("indexes nest too deep or list too many descriptors"));
        }
        let place = store.place().to_owned();
        let size = store.blob_size(&descriptor.digest);
        let kind = descriptor.kind();
        let digest = descriptor.digest.clone();
        let size = size.ok_or(match listed && matches!(kind, Kind::Index | Kind::Manifest) {
            true => StoreError::Sparse { place, digest },
            false => StoreError::Missing { place, digest },
        })?;
        blobs.insert(descriptor.digest.clone(), BlobSource::Store(size));
        if !matches!(kind, Kind::Index | Kind::Manifest) {
            continue;
        }
        let value = json::parse(&store.read_json_blob(&descriptor.digest)?)
            .map_err(|error| graph(&error.to_string()))?;
        let below = match kind {
            Kind::Index => Index::read(&value, &mut Vec::new()).map(|index| index.manifests),
            _ => Manifest::read(&value, &mut Vec::new()).map(|manifest| {
                let mut below = manifest.layers;
                below.push(manifest.config);
                below
            }),
        };
        let below = below.ok_or_else(|| graph("it cannot be used"))?;
        todo.extend(below.into_iter().map(|below| (below, depth + 1, kind == Kind::Index)));
    }
    Ok(blobs)
}

/// A writer that hashes and counts.
pub(super) struct Hashed<W> {
    pub(super) out: W,
    pub(super) hasher: Hasher,
    pub(super) count: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
