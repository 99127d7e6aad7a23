//! Choosing images in a store, and reading their documents strictly.
//!
//! Here the first thing that is wrong is an error: these functions serve commands that use an image. `verify` walks
//! the same documents itself and collects everything.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use dmoci_layers::{Compression, Digest};
use serde_json::Value;

use super::{Form, ImageStore, StoreError};
use crate::diagnostic::few;
use crate::limits;
use crate::oci::config::Config;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::Kind;
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, PlatformFields, Problem, Raw, Severity, json};

/// How many digests are told where none of them was meant.
const TOLD: usize = 10;

/// What `index.json` lists: a manifest or an index, with all names that it has.
#[derive(Clone, Debug)]
pub struct Root {
    /// Its first descriptor.
    pub descriptor: Descriptor,
    /// Values of `org.opencontainers.image.ref.name`.
    pub tags: Vec<String>,
    /// Values of `io.containerd.image.name`.
    pub names: Vec<String>,
}

/// An image of one platform: its documents with their digests checked, and the bytes as they came.
#[derive(Clone, Debug)]
pub struct Image {
    /// The descriptor that leads to the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Raw<Manifest>,
    /// The configuration.
    pub config: Raw<Config>,
}

impl Image {
    /// The platform that the configuration says.
    pub fn platform(&self) -> &PlatformFields {
        &self.config.value().platform
    }

    /// True when the manifest is of somebody who made the image: not one that was made of an archive without manifests, here or
    /// by a daemon for the occasion, which says nothing but what there is.
    pub fn has_manifest(&self, store: &ImageStore) -> bool {
        let manifest = self.manifest.value();
        let says = !manifest.annotations.is_empty()
            || manifest.layers.iter().any(|layer| layer.kind() != Kind::Layer(Compression::None));
        store.form() != Form::LegacyArchive && (!store.is_streamed() || says)
    }

    /// True when the image is for this platform.
    pub fn is_for(&self, wanted: &Platform) -> bool {
        let fields = self.platform();
        Platform::new(&fields.os, &fields.architecture, fields.variant.as_deref())
            .is_ok_and(|own| own == *wanted)
    }
}

impl Root {
    /// With the names of this descriptor of `index.json`.
    pub fn of(descriptor: Descriptor) -> Root {
        let name = |key: &str| descriptor.annotations.get(key).cloned().into_iter().collect();
        let tags = name("org.opencontainers.image.ref.name");
        let names = name("io.containerd.image.name");
        Root { descriptor, tags, names }
    }

    /// True when `wanted` is one of the tags, one of the full names, or the tag at the end of one. Where there are tags, only
    /// they say what the tag is: tools that add an image under another tag keep the full name of the old one.
    pub fn has_tag(&self, wanted: &str) -> bool {
        let ends = if self.tags.is_empty() { &self.names } else { &self.tags };
        let end = |name: &String| {
            let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
            tag == Some(wanted)
        };
        self.tags.iter().chain(&self.names).any(|name| name == wanted) || ends.iter().any(end)
    }
}

impl ImageStore {
    /// What `index.json` lists, each digest once, in its order.
    pub fn roots(&self) -> Result<Vec<Root>, StoreError> {
        let index = read("index.json", self.index_bytes(), Index::read)?;
        let mut roots: Vec<Root> = Vec::new();
        let mut positions = HashMap::new();
        for descriptor in index.manifests {
            let root = Root::of(descriptor);
            match positions.entry(root.descriptor.digest.clone()) {
                Entry::Occupied(known) => {
                    let known: &mut Root = &mut roots[*known.get()];
                    known.tags.extend(root.tags);
                    known.names.extend(root.names);
                }
                Entry::Vacant(new) => {
                    new.insert(roots.len());
                    roots.push(root);
                }
            }
        }
        Ok(roots)
    }

    /// The roots that a tag and a digest choose; the digest may also be that of a manifest below a root.
    pub fn select(&self, tag: Option<&str>, digest: Option<&Digest>) -> Result<Vec<Root>, StoreError> {
        let roots = self.roots()?;
        let all: Vec<String> =
            roots.iter().flat_map(|root| [&root.tags[..], &root.names[..]].concat()).collect();
        let mut chosen = Vec::new();
        let meant = |root: &Root| tag.map_or_else(|| !self.is_evidence(root), |tag| root.has_tag(tag));
        for root in roots.into_iter().filter(meant) {
            match digest {
                Some(digest) if root.descriptor.digest != *digest => {
                    let below = self.images(&root.descriptor)?.into_iter();
                    let image = below.map(|image| image.descriptor).find(|below| below.digest == *digest);
                    chosen.extend(image.map(|descriptor| Root { descriptor, ..root }));
                }
                _ => chosen.push(root),
            }
        }
        if chosen.is_empty() {
            let asked = match (tag, digest) {
                (Some(tag), Some(digest)) => format!("no image {tag:?} with the digest {digest}"),
                (Some(tag), None) => format!("no image {tag:?}"),
                (None, Some(digest)) => format!("no image with the digest {digest}"),
                (None, None) => "no image at all".to_owned(),
            };
            let there = if digest.is_some() { self.digests().unwrap_or_default() } else { all };
            let help = match (digest, self.form()) {
                (Some(_), Form::LegacyArchive) => {
                    "it has no manifests of its own, so none has this digest; name the image by its tag, or by its ID"
                        .to_owned()
                }
                _ if there.is_empty() => String::new(),
                _ => format!("there are: {}", there.join(", ")),
            };
            return Err(StoreError::Selection { place: self.place().to_owned(), why: asked, help });
        }
        Ok(chosen)
    }

    /// The digests that choose an image, the first [`TOLD`] of them.
    fn digests(&self) -> Result<Vec<String>, StoreError> {
        let mut there: Vec<String> = Vec::new();
        let mut tell = |digest: &Digest, what: &str| {
            let text = format!("{digest} ({what})");
            if !there.contains(&text) {
                there.push(text);
            }
        };
        for root in self.roots()? {
            if root.descriptor.kind() == Kind::Index {
                tell(&root.descriptor.digest, "index");
            }
            for image in self.images(&root.descriptor)? {
                tell(image.manifest.digest(), &image.platform().to_string());
            }
        }
        let more = there.len().saturating_sub(TOLD);
        there.truncate(TOLD);
        there.extend((more > 0).then(|| format!("{more} more")));
        Ok(there)
    }

    /// The images at and below a descriptor, in the order of the indexes. Artifacts that are no images are left
    /// out, and so are manifests of an index that are not in this store.
    pub fn images(&self, descriptor: &Descriptor) -> Result<Vec<Image>, StoreError> {
        let mut images = Vec::new();
        let mut left = limits::DESCRIPTORS;
        self.collect(descriptor, 0, &mut left, &mut images)?;
        Ok(images)
    }

    /// The index that a descriptor names, and its JSON.
    pub fn index(&self, descriptor: &Descriptor) -> Result<(Index, Value), StoreError> {
        let bytes = self.read_json_blob(&descriptor.digest)?;
        let index = read(&format!("the document {}", descriptor.digest), &bytes, Index::read)?;
        // It was parsed a moment ago.
        Ok((index, json::parse(&bytes).unwrap_or_default()))
    }

    /// The one image that tag, digest and platform choose.
    pub fn one_image(
        &self,
        tag: Option<&str>,
        digest: Option<&Digest>,
        platform: Option<&Platform>,
    ) -> Result<Image, StoreError> {
        let mut images = Vec::new();
        for root in self.select(tag, digest)? {
            images.extend(self.images(&root.descriptor)?);
        }
        let there: Vec<String> = images.iter().map(|image| image.platform().to_string()).collect();
        images.retain(|image| platform.is_none_or(|platform| image.is_for(platform)));
        images.dedup_by(|a, b| a.manifest.digest() == b.manifest.digest());
        let mut images = images.into_iter();
        let refuse =
            |why: String, help: String| StoreError::Selection { place: self.place().to_owned(), why, help };
        let there = match there.is_empty() {
            true => self.listed(tag, digest)?,
            false => there,
        };
        let there = match there.is_empty() {
            true => "it lists no image".to_owned(),
            false => format!("there are: {}", few(there.iter())),
        };
        let name = match (tag.is_some() || digest.is_some(), platform.is_some()) {
            (true, false) => "a platform",
            (true, true) => "a digest",
            (false, true) => "a tag",
            (false, false) => "a tag or a platform",
        };
        match (images.next(), images.next()) {
            (Some(image), None) => Ok(image),
            (None, _) => Err(refuse("no image for this platform".into(), there)),
            (Some(_), Some(_)) => Err(refuse(format!("several images fit; name {name}"), there)),
        }
    }

    /// The platforms that are listed, whether their images are here or not.
    fn listed(&self, tag: Option<&str>, digest: Option<&Digest>) -> Result<Vec<String>, StoreError> {
        let mut there = Vec::new();
        for root in self.select(tag, digest)?.iter().filter(|root| root.descriptor.kind() == Kind::Index) {
            let listed = self.index(&root.descriptor)?.0.manifests.into_iter().filter_map(|one| one.platform);
            there
                .extend(listed.map(|platform| platform.to_string()).filter(|name| name != "unknown/unknown"));
        }
        Ok(there)
    }

    fn collect(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        left: &mut usize,
        images: &mut Vec<Image>,
    ) -> Result<(), StoreError> {
        let what = format!("the document {}", descriptor.digest);
        let too_much =
            |why: &str| StoreError::Document { what: what.clone(), code: "E-GRAPH", why: why.into() };
        *left = left.checked_sub(1).ok_or_else(|| too_much("the indexes list too many descriptors"))?;
        if depth > limits::INDEX_DEPTH {
            return Err(too_much("the indexes are nested too deep"));
        }
        let kind = descriptor.kind();
        if !matches!(kind, Kind::Index | Kind::Manifest)
            || (depth > 0 && self.blob_size(&descriptor.digest).is_none())
        {
            return Ok(());
        }
        let bytes = self.read_json_blob(&descriptor.digest)?;
        if bytes.len() as u64 != descriptor.size {
            let why = format!("its size is {}, its descriptor says {}", bytes.len(), descriptor.size);
            return Err(StoreError::Document { what, code: "E-SIZE", why });
        }
        if kind == Kind::Index {
            for below in read(&what, &bytes, Index::read)?.manifests {
                self.collect(&below, depth + 1, left, images)?;
            }
            return Ok(());
        }
        let manifest = read(&what, &bytes, Manifest::read)?;
        if !manifest.is_image() {
            return Ok(());
        }
        let config_bytes = self.read_json_blob(&manifest.config.digest)?;
        let what = format!("the configuration {}", manifest.config.digest);
        let config = read(&what, &config_bytes, Config::read)?;
        if config.diff_ids.len() != manifest.layers.len() {
            let why =
                format!("it lists {} layers, the manifest {}", config.diff_ids.len(), manifest.layers.len());
            return Err(StoreError::Document { what, code: "E-DIFFID-COUNT", why });
        }
        let (manifest, config) = (Raw::new(bytes, manifest), Raw::new(config_bytes, config));
        images.push(Image { descriptor: descriptor.clone(), manifest, config });
        Ok(())
    }
}

/// Parses and checks one document; its first error-severity problem is the error.
pub(super) fn read<T>(
    what: &str,
    bytes: &[u8],
    check: impl FnOnce(&Value, &mut Vec<Problem>) -> Option<T>,
) -> Result<T, StoreError> {
    use crate::diagnostic::Diagnostic as _;
    let refuse = |code, why| StoreError::Document { what: what.to_owned(), code, why };
    let value = json::parse(bytes).map_err(|error| refuse(error.code(), error.to_string()))?;
    let mut problems = Vec::new();
    let document = check(&value, &mut problems);
    if let Some(problem) = problems.iter().find(|problem| problem.severity == Severity::Error) {
        let mut why = format!("{} at {:?}", problem.message, problem.pointer);
        if !problem.expected.is_empty() {
            why += &format!(": expected {}, found {}", problem.expected, problem.found);
        }
        return Err(refuse(problem.code, why));
    }
    document.ok_or_else(|| refuse("E-OCI-MISSING", "a required part is missing".into()))
}
