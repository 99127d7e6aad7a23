//! The image that another one stands on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;

use dmoci_layers::decompress::Decoder;
use dmoci_layers::digest::Hasher;
use dmoci_layers::{Digest, Entry, EntryKind, SafePath};
use serde_json::Value;

use super::adjust::BaseMember;
use super::error::{BuildError, BuildErrorKind};
use crate::cache::{self, KeyWriter};
use crate::diagnostic::Failure;
use crate::engine::verify::{CheckId, Finding, Options, verify};
use crate::inputs::archive::DECODE;
use crate::inputs::base::{LayerTree, Members, StoredMembers, StoredTree, Tree, extract};
use crate::inputs::spool::Spooled;
use crate::inputs::supply::{BaseDocuments, Supply};
use crate::inputs::{Content, InputError, Site};
use crate::oci::config::Config;
use crate::oci::descriptor::Descriptor;
use crate::oci::media_type::{self, Kind};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::oci::{Severity, json};
use crate::spec::target::{Base, Select, Target};
use crate::store::{Form, ImageStore, StoreError, Subject, registry};

/// How many hard links are followed from one to another.
const LINKS: usize = 40;

/// A base image for one platform.
pub struct BaseImage {
    /// Its name as the spec has it.
    pub name: String,
    /// Digest of its manifest, when it has one.
    pub digest: Option<Digest>,
    /// Its configuration, as it came.
    pub config: Value,
    /// The same, read.
    pub run: Config,
    /// Its layers, from the bottom up; a layer's descriptor is kept as it came.
    pub layers: Vec<Descriptor>,
    store: Arc<ImageStore>,
    /// What it is called in its registry, where its layers are fetched from when they are needed.
    remote: Option<Reference>,
}

impl std::fmt::Debug for BaseImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseImage")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl BaseImage {
    /// Opens the base that the spec names; nothing for `scratch`. Its documents are checked, its layers not yet.
    pub fn open(target: &Target, site: &Site<'_>) -> Result<Option<BaseImage>, BuildError> {
        let (transport, path, select) = match &target.base {
            Base::Scratch => return Ok(None),
            Base::Registry(name) => return BaseImage::remote(name, &target.platform, site).map(Some),
            Base::OciDir { dir, select } => ("oci", dir, select),
            Base::OciArchive { file, select } => ("oci-archive", file, select),
            Base::DockerArchive { file, select } => ("docker-archive", file, select),
        };
        site.project.check_input(path.as_path()).map_err(|error| {
            let mut failure = Failure::from(error);
            if failure.code == "E-SOURCE-OUTPUT" {
                failure.help = Some("build into another directory with -o, or name another base".into());
            }
            BuildError::new(failure)
        })?;
        let (tag, digest) = match select {
            Select::Only => (None, None),
            Select::Name(name) => (Some(name.as_str()), None),
            Select::Digest(digest) => (None, Some(digest)),
        };
        let subject = Subject::bare(site.project.path_of(path.as_path()));
        // By its digest it is the image that is meant, whatever else another tool has put beside it.
        let store = match digest {
            Some(_) => ImageStore::open_usable(&subject),
            None => ImageStore::open_sound(&subject),
        };
        let store = store.map_err(failed)?;
        verified(&store, &format!("{transport}:{}", path.as_path().display()), tag, digest.is_some(), site)?;
        let image = store.one_image(tag, digest, Some(&target.platform)).map_err(failed)?;
        let config = json::parse(image.config.bytes())
            .map_err(|error| BuildError::new(BuildErrorKind::Base(error.to_string())))?;
        // The name is what the spec says, never where it lies on this machine.
        let mut name = format!("{transport}:{}", path.as_path().display());
        if let Some(tag) = tag {
            name = format!("{name}:{tag}");
        }
        let digest = (store.form() != Form::LegacyArchive).then(|| image.manifest.digest().clone());
        let base = BaseImage {
            name,
            digest,
            config,
            run: image.config.value().clone(),
            layers: image.manifest.value().layers.clone(),
            store: Arc::new(store),
            remote: None,
        };
        base.check(&target.platform)?;
        Ok(Some(base))
    }

    /// The same in a registry. No layer is fetched yet.
    fn remote(name: &Reference, platform: &Platform, site: &Site<'_>) -> Result<BaseImage, BuildError> {
        let BaseDocuments { manifest, manifest_bytes, config_bytes } =
            site.supply.base(name, platform).map_err(BuildError::new)?;
        let store = registry::awaiting(name.name(), (&manifest, &manifest_bytes), &config_bytes);
        let image = store.one_image(None, None, None).map_err(failed)?;
        let config = json::parse(&config_bytes)
            .map_err(|error| BuildError::new(BuildErrorKind::Base(error.to_string())))?;
        let base = BaseImage {
            name: name.to_string(),
            digest: Some(manifest.digest),
            config,
            run: image.config.value().clone(),
            layers: image.manifest.value().layers.clone(),
            store: Arc::new(store),
            remote: Some(name.clone()),
        };
        base.check(platform)?;
        Ok(base)
    }

    /// What it is called in its registry, when it is from one.
    pub fn reference(&self) -> Option<&Reference> {
        self.remote.as_ref()
    }

    /// Fetches those of its layers that are wanted and not here yet.
    pub fn bring(&self, supply: &dyn Supply, wanted: impl Fn(&Descriptor) -> bool) -> Result<(), Failure> {
        let Some(name) = &self.remote else { return Ok(()) };
        let mut missing: BTreeMap<&Digest, &Descriptor> = BTreeMap::new();
        let absent = |layer: &&Descriptor| self.store.blob_size(&layer.digest).is_none() && wanted(layer);
        missing.extend(self.layers.iter().filter(absent).map(|layer| (&layer.digest, layer)));
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<Descriptor> = missing.into_values().cloned().collect();
        for (layer, file) in missing.iter().zip(supply.base_layers(name, &missing)?) {
            self.store.bring(&layer.digest, file, layer.size);
        }
        Ok(())
    }

    /// Opens a blob. The bytes are not yet known to be those of the digest.
    pub(super) fn blob(&self, digest: &Digest) -> io::Result<impl Read + use<>> {
        self.store.open_blob(digest).map_err(io::Error::other)
    }

    /// Checks that the image can carry layers for `platform`.
    fn check(&self, platform: &Platform) -> Result<(), BuildError> {
        let base = |why: String| Err(BuildError::new(BuildErrorKind::Base(why)));
        let found = &self.run.platform;
        let own = Platform::new(&found.os, &found.architecture, found.variant.as_deref());
        if own.as_ref() != Ok(platform) {
            let variant = found.variant.as_deref().map(|v| format!("/{v}")).unwrap_or_default();
            return base(format!("it is for {}/{}{variant}, not {platform}", found.os, found.architecture));
        }
        if self.layers.len() != self.run.diff_ids.len() {
            return base(format!(
                "its manifest has {} layers, its config {}",
                self.layers.len(),
                self.run.diff_ids.len()
            ));
        }
        for layer in &self.layers {
            if media_type::is_foreign(&layer.media_type) {
                return base(format!("its layer {} may only be fetched from its own source", layer.digest));
            }
        }
        Ok(())
    }

    /// The merged tree of all layers. A layer that an earlier run has read is not read again: what it holds follows from
    /// its diff_id.
    pub fn tree(&self, site: &Site<'_>) -> Result<Tree, BuildError> {
        self.judge(site)?;
        let mut tree = Tree::default();
        for (layer, diff_id) in self.layers.iter().zip(&self.run.diff_ids) {
            let mut key = KeyWriter::new(cache::Kind::Tree, site.since);
            key.bytes(diff_id.to_string().as_bytes());
            let key = key.finish().zip(site.cache);
            let known =
                key.as_ref().and_then(|(key, cache)| cache.get::<StoredTree>(cache::Kind::Tree, key)?.tree());
            let read = match known {
                Some(known) => known,
                None => {
                    self.bring(site.supply, |one| one.digest == layer.digest).map_err(BuildError::new)?;
                    let read = self.read_layer(layer, diff_id)?;
                    if let Some((key, cache)) = &key {
                        cache.put(cache::Kind::Tree, key, &read.stored());
                    }
                    read
                }
            };
            tree.apply_layer(read);
        }
        Ok(tree)
    }

    /// Refuses a base from a registry in which `verify` finds an error. For one whose manifest an earlier run found sound nothing
    /// is fetched.
    fn judge(&self, site: &Site<'_>) -> Result<(), BuildError> {
        let (Some(name), Some(digest)) = (&self.remote, &self.digest) else { return Ok(()) };
        let mut key = KeyWriter::new(cache::Kind::Base, site.since);
        key.bytes(b"by manifest");
        key.bytes(digest.to_string().as_bytes());
        found_sound(key, site, || {
            self.bring(site.supply, |_| true)?;
            sound(&self.store, &format!("docker://{name}"), None, false)
        })
    }

    fn read_layer(&self, layer: &Descriptor, diff_id: &Digest) -> Result<LayerTree, BuildError> {
        Ok(read_layer(&self.store, layer, diff_id, |tar| LayerTree::read(tar))?)
    }

    /// What the layers have last of these paths. Contents are unpacked when one of them is asked for.
    pub(super) fn members(
        &self,
        paths: BTreeSet<SafePath>,
        site: &Site<'_>,
    ) -> Result<BTreeMap<SafePath, BaseMember>, BuildError> {
        // A hard link may lead to a file of a layer below its own.
        let mut wanted: BTreeMap<SafePath, Vec<SafePath>> =
            paths.into_iter().map(|path| (path.clone(), vec![path])).collect();
        let mut found = BTreeMap::new();
        for (number, (layer, diff_id)) in self.layers.iter().zip(&self.run.diff_ids).enumerate().rev() {
            if wanted.is_empty() {
                break;
            }
            let members = self.look(layer, diff_id, wanted.keys().cloned().collect(), site)?;
            let mut files: BTreeMap<SafePath, (u64, u64)> = BTreeMap::new();
            let mut here = Vec::new();
            let mut size_of_all = 0;
            for (path, names) in std::mem::take(&mut wanted) {
                let end = follow(&members.entries, path);
                if members.odd.contains(&end) {
                    return Err(InputError::Odd(end).into());
                }
                let Some(entry) = members.entries.get(&end).cloned() else {
                    wanted.entry(end).or_default().extend(names);
                    continue;
                };
                if let EntryKind::File { size } = entry.kind
                    && !files.contains_key(&end)
                {
                    files.insert(end.clone(), (size_of_all, size));
                    size_of_all += size;
                }
                here.push((end, entry, names));
            }
            if !files.is_empty() {
                self.bring(site.supply, |one| one.digest == layer.digest).map_err(BuildError::new)?;
            }
            let spool = self.spool(layer, diff_id, files.clone(), site);
            for (end, entry, names) in here {
                let content = match files.get(&end) {
                    Some(&(offset, size)) => {
                        Content::Spool { spool: Arc::clone(&spool), offset, size, shared: true }
                    }
                    None => Content::None,
                };
                for path in names {
                    let (entry, content) = (Entry { path: path.clone(), ..entry.clone() }, content.clone());
                    found.insert(path, BaseMember { entry, content, file: (number, end.clone()) });
                }
            }
        }
        match wanted.into_values().flatten().next() {
            Some(path) => Err(BuildErrorKind::Base(format!("{path} is in none of its layers")).into()),
            None => Ok(found),
        }
    }

    /// What a layer says of these paths, and of all that hard links among them lead to.
    fn look(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        mut paths: BTreeSet<SafePath>,
        site: &Site<'_>,
    ) -> Result<Members, BuildError> {
        let mut key = KeyWriter::new(cache::Kind::Members, site.since);
        key.bytes(diff_id.to_string().as_bytes());
        paths.iter().for_each(|path| key.bytes(path.as_bytes()));
        let key = key.finish().zip(site.cache);
        let known = key
            .as_ref()
            .and_then(|(key, cache)| cache.get::<StoredMembers>(cache::Kind::Members, key)?.members());
        if let Some(known) = known {
            return Ok(known);
        }
        self.bring(site.supply, |one| one.digest == layer.digest).map_err(BuildError::new)?;
        let mut members = Members::default();
        let mut new = paths.clone();
        while !new.is_empty() {
            read_layer(&self.store, layer, diff_id, |tar| members.look(tar, &new))?;
            new = members.unseen(&paths);
            paths.extend(new.iter().cloned());
        }
        if let Some((key, cache)) = &key {
            cache.put(cache::Kind::Members, key, &members.stored());
        }
        Ok(members)
    }

    /// The contents of files of a layer, by offset and size.
    fn spool(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        files: BTreeMap<SafePath, (u64, u64)>,
        site: &Site<'_>,
    ) -> Arc<Spooled> {
        let mut key = diff_id.to_string().into_bytes();
        for (path, (offset, _)) in &files {
            key.push(0);
            key.extend_from_slice(path.as_bytes());
            key.push(0);
            key.extend_from_slice(&offset.to_le_bytes());
        }
        let (store, scratch) = (Arc::clone(&self.store), site.scratch.to_owned());
        let (layer, diff_id) = (layer.clone(), diff_id.clone());
        let fill = move || read_layer(&store, &layer, &diff_id, |tar| extract(tar, &files, &scratch));
        Arc::new(Spooled::new(key, None, None, fill))
    }
}

/// Where hard links lead.
fn follow(entries: &BTreeMap<SafePath, Entry>, mut path: SafePath) -> SafePath {
    for _ in 0..LINKS {
        match entries.get(&path).map(|entry| &entry.kind) {
            Some(EntryKind::HardLink { target }) if *target != path => path = target.clone(),
            _ => break,
        }
    }
    path
}

/// Reads the tar of a layer; digest, size and diff_id are checked on the way.
fn read_layer<T>(
    store: &ImageStore,
    layer: &Descriptor,
    diff_id: &Digest,
    read: impl FnOnce(&mut dyn Read) -> Result<T, InputError>,
) -> Result<T, InputError> {
    let base = |message: String| InputError::Base { message, source: None };
    let Kind::Layer(compression) = layer.kind() else {
        return Err(base(format!("its layer {} has the type {}", layer.digest, layer.media_type)));
    };
    let io = |source: io::Error| {
        let message = format!("its layer {} cannot be read", layer.digest);
        InputError::Base { message, source: Some(Box::new(source)) }
    };
    let blob = store.open_blob(&layer.digest).map_err(io::Error::other).map_err(io)?;
    let blob = Hashed::new(blob, &layer.digest);
    let decoder = Decoder::new(BufReader::with_capacity(1 << 18, blob), compression, DECODE).map_err(io)?;
    let mut content = Hashed::new(decoder, diff_id);
    let read = read(&mut BufReader::with_capacity(1 << 18, &mut content))?;
    io::copy(&mut content, &mut io::sink()).map_err(io)?;
    let (found, _, decoder) = content.finish();
    if found != *diff_id {
        return Err(base(format!("its layer {} unpacks to {found}, expected {diff_id}", layer.digest)));
    }
    let mut blob = decoder.into_inner();
    io::copy(&mut blob, &mut io::sink()).map_err(io)?;
    let (found, size, _) = blob.into_inner().finish();
    if found != layer.digest || size != layer.size {
        return Err(base(format!(
            "its layer has {found} and {size} bytes, expected {} and {}",
            layer.digest, layer.size
        )));
    }
    Ok(read)
}

/// Refuses a base in which `verify` finds an error: an image on top of it would have the same. One that an earlier run
/// found sound, and of which no file has changed, is not read again.
///
/// For one that is named `by_digest` it is no error that the digest of `index.json` is not that of its bytes.
fn verified(
    store: &ImageStore,
    subject: &str,
    tag: Option<&str>,
    by_digest: bool,
    site: &Site<'_>,
) -> Result<(), BuildError> {
    let mut key = KeyWriter::new(cache::Kind::Base, site.since);
    key.bytes(subject.as_bytes());
    key.bytes(tag.unwrap_or_default().as_bytes());
    if by_digest {
        key.bytes(b"by digest");
    }
    store.decide(&mut key);
    found_sound(key, site, || sound(store, subject, tag, by_digest))
}

/// Judges a base, unless a run before found one of this key sound.
fn found_sound(
    key: KeyWriter,
    site: &Site<'_>,
    judge: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), BuildError> {
    let key = key.finish().zip(site.cache);
    if key.as_ref().is_some_and(|(key, cache)| cache.get::<()>(cache::Kind::Base, key).is_some()) {
        return Ok(());
    }
    judge().map_err(BuildError::new)?;
    if let Some((key, cache)) = &key {
        cache.put(cache::Kind::Base, key, &());
    }
    Ok(())
}

/// An error when `verify` finds one.
fn sound(store: &ImageStore, subject: &str, tag: Option<&str>, by_digest: bool) -> Result<(), Failure> {
    let options = Options {
        trust: None,
        subject: subject.to_owned(),
        tag: tag.map(str::to_owned),
        digest: None,
        against: None,
        expect_version: None,
        integrity_only: true,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let report = verify(store, &options, &());
    let decides = |finding: &&Finding| {
        finding.severity == Severity::Error && !(by_digest && finding.check == CheckId::IndexDigest)
    };
    match report.findings.iter().find(decides) {
        None => Ok(()),
        Some(Finding { code, place, message, .. }) => {
            Err(BuildError::new(BuildErrorKind::Base(format!("{place}: {message} ({code})"))).into())
        }
    }
}

/// Why a store gives no base.
fn failed(error: StoreError) -> BuildError {
    let failure = Failure::from(error);
    let causes: Vec<String> = [vec![failure.message], failure.causes].concat();
    let why = format!("{} ({})", causes.join(": "), failure.code);
    BuildError::new(match failure.help {
        Some(help) => BuildErrorKind::BaseSaid { why, help },
        None => BuildErrorKind::Base(why),
    })
}

/// Hashes what is read through it.
struct Hashed<R> {
    reader: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Hashed<R> {
    fn new(reader: R, like: &Digest) -> Hashed<R> {
        Hashed { reader, hasher: Hasher::new(like.algorithm()), size: 0 }
    }

    fn finish(self) -> (Digest, u64, R) {
        (self.hasher.finish(), self.size, self.reader)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.hasher.update(&out[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
