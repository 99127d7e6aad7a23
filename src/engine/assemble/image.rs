//! Writing planned images: their layers, at the same time, and what `documents` says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write};

use dmoci_layers::{Compression, Digest, Entry, EntryKind, Layer, LayerError, LayerWriter, Pool};
use tempfile::NamedTempFile;

use super::base::BaseImage;
use super::documents;
use super::error::{BuildError, BuildErrorKind};
use super::merge::{Completed, Merge};
use super::parallel::{self, Turn};
use super::plan::{ImagePlan, LayerPlan};
use super::shared::{Made, Shared, give, shared_key};
use crate::diagnostic::Place;
use crate::inputs::python::Member;
use crate::oci::descriptor::Descriptor;
use crate::oci::index::{RULES_ANNOTATION, SPLICE};
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
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

/// Where blobs go, and where they may be already. Blobs are written by several threads.
pub trait Output: Sync {
    /// The layer of this key, when an earlier build made it and its blob is there: from now on in this output too.
    fn recall(&self, key: &Digest) -> Option<Made>;
    /// A layer of this key was made.
    fn remember(&self, key: &Digest, made: &Made);
    /// Where layers are had from other machines, or given to them.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
    /// True when the blob is there already, or in reach without being written: from now on in this output.
    fn keep(&self, digest: &Digest, size: u64) -> bool;
    /// Puts a document here under its digest.
    fn put(&self, bytes: &[u8], digest: &Digest) -> io::Result<()>;
    /// Begins a blob.
    fn begin(&self) -> io::Result<NamedTempFile>;
    /// Ends it: from now on it is there under its digest.
    fn commit(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()>;
    /// Something was written, this many bytes; for progress.
    fn wrote(&self, bytes: u64);
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

/// Writes the images of all platforms: at the same time as many layers as `pool` has threads, which also compress.
///
/// What is written, and which error is given, is what one layer after the other would give. What several layers are, by
/// key or digest, is written once.
pub fn assemble(
    plans: &[ImagePlan],
    facts: &Facts,
    pool: &Pool,
    output: &dyn Output,
) -> Result<Vec<BuiltPlatform>, BuildError> {
    let (pieces, sources) = pieces(plans, output)?;
    let at_once = plans.iter().map(|plan| pool.layers(compression(&plan.target))).min().unwrap_or(1);
    let made = parallel::run(&pieces, at_once, |piece, turn| {
        let desk = Desk { output, turn };
        match piece {
            Piece::Base(base, layer) => copy_layer(base, layer, &desk).map(|()| None),
            Piece::Own(plan, target) => make_layer(plan, target, pool, &desk).map(Some),
        }
    })?;
    let written: Vec<(Made, bool)> = made.into_iter().flatten().collect();
    let mut sources = sources.into_iter();
    let mut platforms = Vec::with_capacity(plans.len());
    for plan in plans {
        let mut layers = Vec::new();
        if let Some(base) = &plan.base {
            let descriptors = base.layers.iter().zip(&base.run.diff_ids);
            layers.extend(descriptors.map(|(layer, diff_id)| base_layer(base, layer, diff_id)));
        }
        layers.extend(plan.layers.iter().zip(&mut sources).map(|(layer, (source, reused))| {
            let (made, taken) = match source {
                Source::Earlier(made) => (made, false),
                Source::Written(number) => written[number].clone(),
            };
            own_layer(layer, made, reused || taken)
        }));
        platforms.push(documents::platform(plan, layers, facts, output)?);
    }
    Ok(platforms)
}

/// What is to be written.
enum Piece<'a> {
    /// A layer of a base, to be copied.
    Base(&'a BaseImage, &'a Descriptor),
    /// A layer of the image's own, to be made.
    Own(&'a LayerPlan, &'a target::Target),
}

/// Where a layer of the image's own comes from.
#[derive(Clone)]
enum Source {
    /// An earlier build.
    Earlier(Made),
    /// The own piece of this number.
    Written(usize),
}

/// Where each own layer of all platforms comes from, and whether nothing is read for it.
type Origins = Vec<(Source, bool)>;

/// Everything that is not there yet, each once, in the order of the spec; and where each own layer of all platforms
/// comes from, and whether nothing is read for it.
fn pieces<'a>(plans: &'a [ImagePlan], output: &dyn Output) -> Result<(Vec<Piece<'a>>, Origins), BuildError> {
    let (mut pieces, mut sources) = (Vec::new(), Vec::new());
    let (mut bases, mut known) = (BTreeSet::new(), BTreeMap::new());
    let mut number = 0;
    for plan in plans {
        for (base, layer) in
            plan.base.iter().flat_map(|base| base.layers.iter().map(move |layer| (base, layer)))
        {
            match !bases.insert(&layer.digest) || output.keep(&layer.digest, layer.size) {
                true => output.wrote(layer.size),
                false => pieces.push(Piece::Base(base, layer)),
            }
        }
        for layer in &plan.layers {
            let key = layer.key.as_ref();
            let before = key.and_then(|key| known.get(key).cloned());
            let recalled = || key.and_then(|key| output.recall(key)).map(Source::Earlier);
            let found = before.or_else(recalled);
            let reused = found.is_some();
            let source = match found {
                Some(found) => {
                    output.wrote(layer.bytes);
                    if let (Source::Earlier(made), Some(shared)) = (&found, output.shared()) {
                        give(layer, &plan.target, made, shared)?;
                    }
                    found
                }
                None => {
                    pieces.push(Piece::Own(layer, &plan.target));
                    number += 1;
                    Source::Written(number - 1)
                }
            };
            if let Some(key) = key {
                known.entry(key).or_insert_with(|| source.clone());
            }
            sources.push((source, reused));
        }
    }
    Ok((pieces, sources))
}

/// The output, for one of several pieces of work.
struct Desk<'a> {
    output: &'a dyn Output,
    turn: Turn,
}

impl Desk<'_> {
    fn begin(&self) -> io::Result<Blob> {
        Ok(Blob { file: self.output.begin()?, turn: self.turn.clone() })
    }

    fn commit(&self, blob: Blob, digest: &Digest) -> io::Result<()> {
        self.output.commit(blob.file, digest)
    }

    fn wrote(&self, bytes: u64) {
        self.output.wrote(bytes);
    }
}

/// A blob that grows until nobody wants it any more.
struct Blob {
    file: NamedTempFile,
    turn: Turn,
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.turn.is_vain() {
            true => Err(io::Error::other("a layer before this one has failed")),
            false => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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

pub(super) fn write_error(source: io::Error) -> BuildError {
    BuildError::new(dmoci_layers::LayerError::Write(source))
}

/// What is to be said of a layer of the base, which is taken as it is.
fn base_layer(base: &BaseImage, layer: &Descriptor, diff_id: &Digest) -> BuiltLayer {
    // An OCI manifest names OCI types; Docker's stand for the same bytes.
    let media_type = match layer.kind() {
        Kind::Layer(compression) => media_type::layer(compression),
        _ => layer.media_type.as_str(),
    };
    let mut descriptor = Descriptor::new(media_type, layer.digest.clone(), layer.size);
    descriptor.annotations = layer.annotations.clone();
    BuiltLayer {
        name: base.name.clone(),
        base: true,
        reused: false,
        descriptor,
        diff_id: diff_id.clone(),
        tar_size: None,
        entries: None,
        warnings: Vec::new(),
    }
}

/// Copies a layer of the base; its bytes were checked when the base was opened, and are again.
fn copy_layer(base: &BaseImage, layer: &Descriptor, output: &Desk<'_>) -> Result<(), BuildError> {
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

/// Writes a layer of the image's own, for this build and later ones, or has it from another machine. Whether that is so.
fn make_layer(
    plan: &LayerPlan,
    target: &target::Target,
    pool: &Pool,
    desk: &Desk<'_>,
) -> Result<(Made, bool), BuildError> {
    let shared = match desk.output.shared() {
        Some(shared) => shared_key(plan, target, shared)?.map(|key| (shared, key)),
        None => None,
    };
    let taken = shared.as_ref().and_then(|(shared, key)| shared.take(key));
    let is_taken = taken.is_some();
    let made = match taken {
        Some(made) => {
            desk.wrote(plan.bytes);
            made
        }
        None => {
            let layer = write_layer(plan, target, pool, desk)?;
            Made { layer, unused: plan.unused() }
        }
    };
    // What others made is theirs: the next build must ask whether they are trusted then, and nobody gets it under this one's name.
    if is_taken {
        return Ok((made, true));
    }
    if let Some(key) = &plan.key {
        desk.output.remember(key, &made);
    }
    if let Some((shared, key)) = shared {
        shared.give(key, &made);
    }
    Ok((made, false))
}

/// What is to be said of a layer of the image's own.
fn own_layer(plan: &LayerPlan, made: Made, reused: bool) -> BuiltLayer {
    let Made { layer, unused } = made;
    let mut descriptor = Descriptor::new(media_type::layer(layer.compression), layer.digest, layer.size);
    if plan.spliced {
        descriptor = descriptor.annotate(RULES_ANNOTATION, SPLICE);
    }
    BuiltLayer {
        name: plan.name.clone(),
        base: false,
        reused,
        descriptor,
        diff_id: layer.diff_id,
        tar_size: Some(layer.tar_size),
        entries: Some(layer.entries),
        warnings: plan.warnings(&unused),
    }
}

fn write_layer(
    plan: &LayerPlan,
    target: &target::Target,
    pool: &Pool,
    output: &Desk<'_>,
) -> Result<Layer, BuildError> {
    let compression = compression(target);
    let at = |origins: &[usize], mut error: BuildError| {
        error.places.extend(plan.places(origins));
        error
    };
    let file = output.begin().map_err(write_error)?;
    let mut writer = LayerWriter::new(file, compression, pool);
    let mut merge =
        Completed::new(&plan.name, &plan.origins).map_err(|(origins, error)| at(&origins, error))?;
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

fn compression(target: &target::Target) -> Compression {
    match target.compression {
        target::Compression::Gzip => Compression::Gzip,
        target::Compression::Zstd => Compression::Zstd,
        target::Compression::None => Compression::None,
    }
}
