//! Writing a planned image: layers, config, manifest, and the index over several platforms.

use std::io::{self, Read as _, Write};

use dmoci_layers::{Compression, Digest, Entry, EntryKind, Layer, LayerError, LayerWriter, Pool, RULES};
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::base::BaseImage;
use super::config::config;
use super::error::{BuildError, BuildErrorKind};
use super::merge::Merge;
use super::plan::{ImagePlan, LayerPlan};
use crate::diagnostic::Place;
use crate::inputs::python::Member;
use crate::oci::descriptor::{Descriptor, PlatformFields};
use crate::oci::index::{RULES_ANNOTATION, SPLICE};
use crate::oci::media_type::Kind;
use crate::oci::platform::Platform;
use crate::oci::{json as oci_json, media_type};
use crate::spec::target;

/// What is known of a build beside its spec.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `created` of config and manifest, RFC 3339 in UTC.
    pub created: String,
    /// The commit, with `-dirty` when the tree is.
    pub revision: Option<String>,
    /// Where the source is published.
    pub source: Option<String>,
}

/// Where blobs go, and where they may be already.
pub trait Output {
    /// The layer of this key, when an earlier build made it and its blob is there: from now on in this output too.
    fn recall(&mut self, key: &Digest) -> Option<Made>;
    /// A layer of this key was made.
    fn remember(&mut self, key: &Digest, made: &Made);
    /// True when the blob is there already, or in reach without being written: from now on in this output.
    fn keep(&mut self, digest: &Digest, size: u64) -> bool;
    /// Puts a document here under its digest.
    fn put(&mut self, bytes: &[u8], digest: &Digest) -> io::Result<()>;
    /// Begins a blob.
    fn begin(&mut self) -> io::Result<NamedTempFile>;
    /// Ends it: from now on it is there under its digest.
    fn commit(&mut self, file: NamedTempFile, digest: &Digest) -> io::Result<()>;
    /// Something was written, this many bytes; for progress.
    fn wrote(&mut self, bytes: u64);
}

/// A layer as it was made, and what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The layer.
    pub layer: Layer,
    /// Strings that were to be substituted and are nowhere, by the numbers of their table and in it.
    pub unused: Vec<(usize, usize)>,
}

/// A layer of a finished image.
#[derive(Clone, Debug)]
pub struct BuiltLayer {
    /// Its name; of a base's layer, the base's.
    pub name: String,
    /// True when it is a layer of the base.
    pub base: bool,
    /// True when an earlier build made it, and nothing was read for it.
    pub reused: bool,
    /// Its descriptor in the manifest.
    pub descriptor: Descriptor,
    /// Digest of its tar.
    pub diff_id: Digest,
    /// Bytes of its tar; nothing for the base's layers.
    pub tar_size: Option<u64>,
    /// Number of its entries; nothing for the base's layers.
    pub entries: Option<u64>,
    /// What is not wrong but hardly meant, and where in the spec.
    pub warnings: Vec<(String, Place)>,
}

/// A finished image for one platform.
#[derive(Clone, Debug)]
pub struct BuiltPlatform {
    /// The platform.
    pub platform: Platform,
    /// Descriptor of the manifest, with the platform.
    pub manifest: Descriptor,
    /// Descriptor of the config; its digest is what Docker calls the image ID.
    pub config: Descriptor,
    /// All layers, from the bottom up.
    pub layers: Vec<BuiltLayer>,
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// The manifest of the only platform, or the index over all.
    pub root: Descriptor,
    /// Every platform, in the order of the spec.
    pub platforms: Vec<BuiltPlatform>,
}

/// Writes the image of one platform. The threads of `pool` compress.
pub fn assemble(
    plan: &ImagePlan,
    facts: &Facts,
    pool: &Pool,
    output: &mut dyn Output,
) -> Result<BuiltPlatform, BuildError> {
    let target = &plan.target;
    let mut layers = Vec::new();
    if let Some(base) = &plan.base {
        for (layer, diff_id) in base.layers.iter().zip(&base.run.diff_ids) {
            layers.push(base_layer(base, layer, diff_id, output)?);
        }
    }
    let own = layers.len();
    for layer in &plan.layers {
        layers.push(own_layer(layer, target, pool, output)?);
    }

    let config = config(target, plan.base.as_ref(), &layers[own..], facts)?;
    let config = put(output, media_type::CONFIG, &config)?;
    let descriptors: Vec<Value> = layers.iter().map(|layer| layer.descriptor.to_value()).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": config.to_value(),
        "layers": descriptors,
        "annotations": annotations(target, plan.base.as_ref(), facts),
    });
    let mut manifest = put(output, media_type::MANIFEST, &manifest)?;
    manifest.platform = Some(PlatformFields {
        os: target.platform.os().to_owned(),
        architecture: target.platform.architecture().to_owned(),
        variant: target.platform.variant().map(str::to_owned),
        ..PlatformFields::default()
    });
    Ok(BuiltPlatform { platform: target.platform.clone(), manifest, config, layers })
}

/// Does what of writing an image can fail for what is in its inputs: looks through texts that strings are substituted
/// in. What is not wrong but hardly meant, and where in the spec.
pub fn prove(plan: &ImagePlan) -> Result<Vec<(String, Place)>, BuildError> {
    let mut warnings = Vec::new();
    for layer in plan.layers.iter().filter(|layer| !layer.substitutions.is_empty()) {
        let at = |origins: &[usize], mut error: BuildError| {
            error.places.extend(layer.places(origins));
            error
        };
        let mut merge =
            Merge::new(&layer.name, &layer.origins).map_err(|(origins, error)| at(&origins, error))?;
        while let Some(merged) = merge.next().map_err(|(origins, error)| at(&origins, error))? {
            if merged.item.content.is_derived() {
                merged.item.content.open().map_err(|error| at(&[merged.origin], error.into()))?;
            }
        }
        warnings.extend(layer.warnings(&layer.unused()));
    }
    Ok(warnings)
}

/// Joins platforms: the manifest itself when there is one, else an index over all.
///
/// `targets` are those of the platforms; the index has the annotations that are the same in all of them.
pub fn index(
    platforms: Vec<BuiltPlatform>,
    targets: &[target::Target],
    facts: &Facts,
    output: &mut dyn Output,
) -> Result<BuiltImage, BuildError> {
    if let [only] = platforms.as_slice() {
        return Ok(BuiltImage { root: only.manifest.clone(), platforms });
    }
    let Some((first, others)) = targets.split_first() else {
        return Err(BuildError::new(BuildErrorKind::Base("there is no platform to build for".into())));
    };
    let mut common = first.clone();
    common
        .annotations
        .retain(|name, value| others.iter().all(|other| other.annotations.get(name) == Some(value)));
    if others.iter().any(|other| other.version != first.version) {
        common.version = None;
    }
    let manifests: Vec<Value> = platforms.iter().map(|platform| platform.manifest.to_value()).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": manifests,
        "annotations": annotations(&common, None, facts),
    });
    let root = put(output, media_type::INDEX, &index)?;
    Ok(BuiltImage { root, platforms })
}

/// The spec's annotations, and those that OCI defines (image-spec 1.1, `annotations.md`) filled in.
fn annotations(target: &target::Target, base: Option<&BaseImage>, facts: &Facts) -> Value {
    let mut map = Map::new();
    let mut fill = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            map.insert(name.to_owned(), value.into());
        }
    };
    fill("org.opencontainers.image.created", Some(facts.created.clone()));
    fill("org.opencontainers.image.version", target.version.clone());
    fill("org.opencontainers.image.revision", facts.revision.clone());
    fill("org.opencontainers.image.source", facts.source.clone());
    fill("org.opencontainers.image.base.name", base.map(|base| base.name.clone()));
    fill(
        "org.opencontainers.image.base.digest",
        base.and_then(|base| base.digest.as_ref()).map(ToString::to_string),
    );
    map.extend(target.annotations.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    map.insert(RULES_ANNOTATION.into(), RULES.to_string().into());
    map.into()
}

fn put(output: &mut dyn Output, media_type: &str, document: &Value) -> Result<Descriptor, BuildError> {
    let bytes = oci_json::canonical(document);
    let descriptor = Descriptor::of(media_type, &bytes);
    output.put(&bytes, &descriptor.digest).map_err(write_error)?;
    Ok(descriptor)
}

fn write_error(source: io::Error) -> BuildError {
    BuildError::new(dmoci_layers::LayerError::Write(source))
}

/// Takes a layer of the base as it is.
fn base_layer(
    base: &BaseImage,
    layer: &Descriptor,
    diff_id: &Digest,
    output: &mut dyn Output,
) -> Result<BuiltLayer, BuildError> {
    match output.keep(&layer.digest, layer.size) {
        true => output.wrote(layer.size),
        false => copy_layer(base, layer, output)?,
    }
    // An OCI manifest names OCI types; Docker's stand for the same bytes.
    let media_type = match layer.kind() {
        Kind::Layer(compression) => media_type::layer(compression),
        _ => layer.media_type.as_str(),
    };
    let mut descriptor = Descriptor::new(media_type, layer.digest.clone(), layer.size);
    descriptor.annotations = layer.annotations.clone();
    Ok(BuiltLayer {
        name: base.name.clone(),
        base: true,
        reused: false,
        descriptor,
        diff_id: diff_id.clone(),
        tar_size: None,
        entries: None,
        warnings: Vec::new(),
    })
}

/// Copies a layer of the base; its bytes were checked when the base was opened, and are again.
fn copy_layer(base: &BaseImage, layer: &Descriptor, output: &mut dyn Output) -> Result<(), BuildError> {
    let read = |source: io::Error| {
        let message = format!("its layer {} cannot be read", layer.digest);
        BuildError::from(crate::inputs::InputError::Base { message, source: Some(Box::new(source)) })
    };
    let mut blob = base.blob(&layer.digest).map_err(read)?;
    let mut file = output.begin().map_err(write_error)?;
    let mut hasher = dmoci_layers::Hasher::new(layer.digest.algorithm());
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let count = blob.read(&mut buffer).map_err(read)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(write_error)?;
        size += count as u64;
        output.wrote(count as u64);
    }
    let found = hasher.finish();
    if found != layer.digest || size != layer.size {
        let why = format!("its layer {} changed while it was read", layer.digest);
        return Err(BuildError::new(BuildErrorKind::Base(why)));
    }
    output.commit(file, &layer.digest).map_err(write_error)
}

/// A layer of the image's own: an earlier build's, when nothing that decides it has changed, else written now.
fn own_layer(
    plan: &LayerPlan,
    target: &target::Target,
    pool: &Pool,
    output: &mut dyn Output,
) -> Result<BuiltLayer, BuildError> {
    let recalled = plan.key.as_ref().and_then(|key| output.recall(key));
    let reused = recalled.is_some();
    let made = match recalled {
        Some(made) => {
            output.wrote(plan.bytes);
            made
        }
        None => {
            let layer = write_layer(plan, target, pool, output)?;
            let made = Made { layer, unused: plan.unused() };
            if let Some(key) = &plan.key {
                output.remember(key, &made);
            }
            made
        }
    };
    let Made { layer, unused } = made;
    let mut descriptor = Descriptor::new(media_type::layer(layer.compression), layer.digest, layer.size);
    if plan.spliced {
        descriptor = descriptor.annotate(RULES_ANNOTATION, SPLICE);
    }
    Ok(BuiltLayer {
        name: plan.name.clone(),
        base: false,
        reused,
        descriptor,
        diff_id: layer.diff_id,
        tar_size: Some(layer.tar_size),
        entries: Some(layer.entries),
        warnings: plan.warnings(&unused),
    })
}

fn write_layer(
    plan: &LayerPlan,
    target: &target::Target,
    pool: &Pool,
    output: &mut dyn Output,
) -> Result<Layer, BuildError> {
    let compression = match target.compression {
        target::Compression::Gzip => Compression::Gzip,
        target::Compression::Zstd => Compression::Zstd,
        target::Compression::None => Compression::None,
    };
    let at = |origins: &[usize], mut error: BuildError| {
        error.places.extend(plan.places(origins));
        error
    };
    let file = output.begin().map_err(write_error)?;
    let mut writer = LayerWriter::new(file, compression, pool);
    let mut merge = Merge::new(&plan.name, &plan.origins).map_err(|(origins, error)| at(&origins, error))?;
    while let Some(merged) = merge.next().map_err(|(origins, error)| at(&origins, error))? {
        let item = &merged.item;
        let here = |error: BuildError| at(&[merged.origin], error);
        if let Some(member) = item.content.deflated().filter(|_| plan.spliced) {
            add_deflated(&mut writer, &item.entry, member).map_err(here)?;
            output.wrote(member.size());
            continue;
        }
        let mut content = item.content.open().map_err(|error| here(error.into()))?;
        let entry = match content.size() {
            Some(size) => &Entry { kind: EntryKind::File { size }, ..item.entry.clone() },
            None => &item.entry,
        };
        writer.add(entry, &mut content).map_err(|error| here(error.into()))?;
        content.finish().map_err(|error| here(error.into()))?;
        if let EntryKind::File { size } = item.entry.kind {
            output.wrote(size);
        }
    }
    let (layer, file) = writer.finish()?;
    output.commit(file, &layer.digest).map_err(write_error)?;
    Ok(layer)
}

/// A file of a wheel, as it is compressed there.
fn add_deflated<W: Write + Send + 'static>(
    writer: &mut LayerWriter<W>,
    entry: &Entry,
    member: &Member,
) -> Result<(), BuildError> {
    match writer.add_deflated(entry, &member.expected(), &mut member.packed()) {
        Err(LayerError::Stream { error, .. }) => Err(member.wrong(&error).into()),
        done => Ok(done?),
    }
}
