//! `dmoci export`: one archive from a layout or another archive.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dmoci_layers::decompress::{DecodeError, DecodeLimits, Decoder};
use dmoci_layers::{Compression, Digest, Hasher};
use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::engine::verify::{self, Options};
use crate::limits;
use crate::oci::index::{Index, RULES_ANNOTATION, SelfDigest, author, self_digest};
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, Severity, json};
use crate::store::archive::write::{ArchivePlan, BlobSource, docker_manifest};
use crate::store::image::{Image, Root};
use crate::store::{ImageStore, StoreError, Subject, Transport};

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub subject: Subject,
    /// `oci-archive:FILE` or `docker-archive:FILE`.
    pub output: Subject,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// Threads that verify.
    pub threads: NonZeroUsize,
}

/// A finished archive.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// The digest of the whole file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What its `index.json` names.
    pub images: Vec<Descriptor>,
    /// The images' names.
    pub names: Vec<String>,
    /// For a Docker archive the image ID.
    pub image_id: Option<Digest>,
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output is not one of the two forms.
    #[error("{0} is no form of archive that can be written")]
    Form(String),
    /// The output names an image, which is named by the subject.
    #[error("{0} names an image; the archive holds the names that the subject has")]
    Name(String),
    /// What was read is not sound.
    #[error("{subject} is not sound: {message}")]
    NotSound {
        /// The subject.
        subject: String,
        /// The first finding.
        message: String,
        /// All findings, for the causes.
        code: &'static str,
    },
    /// A layer has a type that no Docker archive can hold.
    #[error("the layer {digest} has the type {media_type}, which a Docker archive cannot hold")]
    LayerType {
        /// The layer.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
}

impl Diagnostic for ExportError {
    fn code(&self) -> &'static str {
        match self {
            ExportError::Form(_) => "E-EXPORT-FORM",
            ExportError::Name(_) => "E-EXPORT-NAME",
            ExportError::NotSound { code, .. } => code,
            ExportError::LayerType { .. } => "E-EXPORT-LAYER",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            ExportError::Form(_) | ExportError::Name(_) => Exit::Usage,
            _ => Exit::Mismatch,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            ExportError::Name(_) => {
                Some("name the file alone; `name` and `tags` of dmoci.toml name the image".into())
            }
            ExportError::Form(_) => Some("write -o oci-archive:FILE or -o docker-archive:FILE".into()),
            ExportError::NotSound { subject, .. } => {
                Some(format!("see everything with: dmoci verify {subject}"))
            }
            ExportError::LayerType { .. } => Some("write -o oci-archive:FILE".into()),
        }
    }
}

/// What an archive will hold.
struct Content {
    index: Vec<u8>,
    docker: Option<Vec<u8>>,
    blobs: BTreeMap<Digest, BlobSource>,
    images: Vec<Descriptor>,
    names: Vec<String>,
    image_id: Option<Digest>,
}

/// Exports. The file appears under its name only when it is complete and has been verified; until then, and when
/// anything fails, what was there stays.
pub fn export(request: &Request) -> Result<Exported, Failure> {
    crate::sha256::provide();
    let docker = match request.output.transport() {
        Transport::OciArchive => false,
        Transport::DockerArchive => true,
        _ => return Err(ExportError::Form(request.output.to_string()).into()),
    };
    if request.output.tag().is_some() || request.output.digest().is_some() {
        return Err(ExportError::Name(request.output.to_string()).into());
    }
    let store = ImageStore::open_sound(&request.subject)?;
    let content = match docker {
        false => oci(&store, request)?,
        true => docker_content(&store, request)?,
    };
    let path = request.output.path();
    let temporary = Temporary::create(path)?;
    let (digest, size) = write(&store, &content, &temporary)?;
    check(&temporary, request)?;
    temporary.publish()?;
    let Content { images, names, image_id, .. } = content;
    Ok(Exported { path: path.to_owned(), digest, size, images, names, image_id })
}

/// All that the subject chooses, with every platform or one.
fn oci(store: &ImageStore, request: &Request) -> Result<Content, StoreError> {
    let (tag, digest) = (request.subject.tag(), request.subject.digest());
    if request.platform.is_some() {
        let image = store.one_image(tag, digest, request.platform.as_ref())?;
        let images = named(store, request, &image)?;
        let blobs = reachable(store, &images)?;
        return Ok(content(author(&images), images, blobs));
    }
    let chosen = store.select(tag, digest)?;
    let all = descriptors(store)?;
    let images: Vec<_> =
        all.iter().filter(|one| chosen.iter().any(|root| root.descriptor.digest == one.digest)).collect();
    let mut images: Vec<Descriptor> = images.into_iter().cloned().collect();
    if images.is_empty() {
        // A digest below an index.
        images = chosen.into_iter().map(|root| root.descriptor).collect();
    }
    let blobs = reachable(store, &images)?;
    let whole = images.len() == all.len() && self_digest(store.index_bytes()) == SelfDigest::Right;
    let index = if whole { store.index_bytes().to_vec() } else { author(&images) };
    Ok(content(index, images, blobs))
}

fn content(index: Vec<u8>, images: Vec<Descriptor>, blobs: BTreeMap<Digest, BlobSource>) -> Content {
    let names = images.iter().filter_map(|image| image.annotations.get(FULL_NAME).cloned()).collect();
    Content { index, docker: None, blobs, images, names, image_id: None }
}

const FULL_NAME: &str = "io.containerd.image.name";
const TAG: &str = "org.opencontainers.image.ref.name";

/// One image, in both views.
fn docker_content(store: &ImageStore, request: &Request) -> Result<Content, Failure> {
    let (tag, digest) = (request.subject.tag(), request.subject.digest());
    let image = store.one_image(tag, digest, request.platform.as_ref())?;
    let mut images = named(store, request, &image)?;
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
                return Err(ExportError::LayerType { digest: layer.digest.clone(), media_type }.into());
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
    let mut content = content(author(&images), images, blobs);
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

/// The image under every name that the subject chooses, with its platform.
fn named(store: &ImageStore, request: &Request, image: &Image) -> Result<Vec<Descriptor>, StoreError> {
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
        if request.subject.tag().is_some_and(|tag| !root.has_tag(tag)) {
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
fn descriptors(store: &ImageStore) -> Result<Vec<Descriptor>, StoreError> {
    // The strict reading, with its errors, is done by `roots`.
    store.roots()?;
    let value = json::parse(store.index_bytes()).unwrap_or_default();
    Ok(Index::read(&value, &mut Vec::new()).map(|index| index.manifests).unwrap_or_default())
}

/// Every blob that these descriptors lead to.
fn reachable(store: &ImageStore, roots: &[Descriptor]) -> Result<BTreeMap<Digest, BlobSource>, StoreError> {
    let mut blobs = BTreeMap::new();
    let mut todo: Vec<(Descriptor, usize)> = roots.iter().map(|root| (root.clone(), 0)).collect();
    while let Some((descriptor, depth)) = todo.pop() {
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
        let size = size.ok_or_else(|| StoreError::Missing { place, digest: descriptor.digest.clone() })?;
        blobs.insert(descriptor.digest.clone(), BlobSource::Store(size));
        let kind = descriptor.kind();
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
        todo.extend(below.into_iter().map(|below| (below, depth + 1)));
    }
    Ok(blobs)
}

fn write(store: &ImageStore, content: &Content, temporary: &Temporary) -> Result<(Digest, u64), StoreError> {
    let plan = ArchivePlan::new(&content.index, content.docker.as_deref(), &content.blobs);
    let failed = |source| StoreError::Write { path: temporary.path.clone(), source };
    let mut out = Hashed {
        out: BufWriter::with_capacity(1 << 20, &temporary.file),
        hasher: Hasher::sha256(),
        count: 0,
    };
    plan.write(store, &temporary.path, &mut out)?;
    out.flush().map_err(failed)?;
    temporary.file.sync_all().map_err(failed)?;
    Ok((out.hasher.finish(), out.count))
}

/// Verifies what was written, from the disk: digests, diff_ids, both views, every byte of the archive.
fn check(temporary: &Temporary, request: &Request) -> Result<(), Failure> {
    let written = ImageStore::open(&request.output.clone().at(&temporary.path))?;
    let options = Options {
        subject: request.subject.to_string(),
        tag: None,
        digest: None,
        against: None,
        expect_version: None,
        integrity_only: true,
        threads: request.threads,
    };
    let report = verify::verify(&written, &options, &());
    match report.findings.iter().find(|finding| finding.severity == Severity::Error) {
        None => Ok(()),
        Some(finding) => Err(ExportError::NotSound {
            subject: request.subject.to_string(),
            message: format!("{} in {}", finding.message, finding.place),
            code: finding.code,
        }
        .into()),
    }
}

/// The unfinished archive beside its final name. One process at a time has it; one that was killed leaves a file that
/// the next export to the same name takes over.
struct Temporary {
    file: File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary, StoreError> {
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = target.with_file_name(format!(".{name}.dmoci-export"));
        let failed = |source| StoreError::Write { path: target.to_owned(), source };
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            let file = std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags)
                .open(&path)
                .map_err(failed)?;
            // A file that has another name too, or another owner, was put there by somebody: only its name goes away.
            let metadata = file.metadata().map_err(failed)?;
            if metadata.nlink() != 1 || metadata.uid() != rustix::process::geteuid().as_raw() {
                fs::remove_file(&path).map_err(failed)?;
                continue;
            }
            rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
            // Another export may have given the file its final name while this one waited.
            let same =
                fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
            if same {
                file.set_len(0).map_err(failed)?;
                return Ok(Temporary { file, path, target: target.to_owned(), kept: false });
            }
        }
    }

    fn publish(mut self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Write { path: self.target.clone(), source };
        fs::rename(&self.path, &self.target).map_err(failed)?;
        let directory = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        crate::files::sync(directory).map_err(failed)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A writer that hashes and counts.
struct Hashed<W> {
    out: W,
    hasher: Hasher,
    count: u64,
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
