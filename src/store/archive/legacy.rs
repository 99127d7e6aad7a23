//! Archives of `docker save` before version 25, and of skopeo's and buildah's `docker-archive:`.
//!
//! They hold `manifest.json`, a configuration per image and plain layers, often behind links, but no OCI documents.
//! These are made here, from what is found: the digests of layers are then no statement of the archive, only the
//! digests of the configuration's `rootfs.diff_ids` are.

use std::collections::HashMap;

use dmoci_layers::decompress::sniff;
use dmoci_layers::{Digest, SafePath};
use serde_json::{Value, json};

use super::{ArchiveMember, Blob, Form, ImageStore, Listing, StoreError, shown};
use crate::limits;
use crate::oci::media_type;
use crate::oci::{Descriptor, PlatformFields, Problem, json};

/// How many images one archive may hold.
const IMAGES: usize = 1000;

/// One image of `manifest.json`.
pub struct DockerImage {
    /// Name of the configuration's member.
    pub config: String,
    /// Names such as `host/name:tag`.
    pub tags: Vec<String>,
    /// Names of the layers' members, the lowest first.
    pub layers: Vec<String>,
}

/// Reads `manifest.json`.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<DockerImage>, String> {
    let value = json::parse(bytes).map_err(|error| error.to_string())?;
    let items = value.as_array().ok_or("it is not an array")?;
    if items.len() > IMAGES {
        return Err(format!("it lists more than {IMAGES} images"));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts = |value: Option<&Value>, name: &str| match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(text)
            .collect::<Option<_>>()
            .ok_or(format!("{name} holds something other than strings")),
        Some(_) => Err(format!("{name} is not an array")),
    };
    items
        .iter()
        .map(|item| {
            // Readers in Go take a key in any case (encoding/json); others do not see it.
            let known = ["Config", "RepoTags", "Layers"];
            for key in item.as_object().into_iter().flat_map(|object| object.keys()) {
                let like = known.iter().any(|known| json::fold(known) == json::fold(key) && key != known);
                if like {
                    return Err(format!(
                        "readers disagree about the key {key:?}, which is not spelt as it should be"
                    ));
                }
            }
            let config = item.get("Config").and_then(text).ok_or("an image has no Config")?;
            Ok(DockerImage {
                config,
                tags: texts(item.get("RepoTags"), "RepoTags")?,
                layers: texts(item.get("Layers"), "Layers")?,
            })
        })
        .collect()
}

/// Makes the OCI view of such an archive.
pub(super) fn fill(store: &mut ImageStore, listing: &Listing, docker: Vec<u8>) -> Result<(), StoreError> {
    let refuse = |what: &str, why: String| StoreError::Document {
        what: what.to_owned(),
        code: "E-DOCKER-MANIFEST",
        why,
    };
    let images = parse(&docker).map_err(|why| refuse("manifest.json", why))?;
    let mut hashed = HashMap::new();
    let mut manifests = Vec::new();
    for image in &images {
        let config = member(listing, &image.config)?;
        let bytes = store.member_bytes(config, "image configuration", limits::JSON_BYTES)?;
        let config_descriptor = Descriptor::of(media_type::DOCKER_CONFIG, &bytes);
        check_name(store, &image.config, &config_descriptor.digest);
        store.add(&config_descriptor, config);
        let mut layers = Vec::new();
        for name in &image.layers {
            let layer = member(listing, name)?;
            let (digest, first) = match hashed.get(&layer.data_offset) {
                Some(known) => Clone::clone(known),
                None => store.member_digest(layer)?,
            };
            hashed.insert(layer.data_offset, (digest.clone(), first.clone()));
            let descriptor = Descriptor::new(media_type::layer(sniff(&first)), digest, layer.size);
            store.add(&descriptor, layer);
            layers.push(descriptor.to_value());
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config_descriptor.to_value(),
            "layers": layers,
        });
        let manifest = json::canonical(&manifest);
        let mut descriptor = Descriptor::of(media_type::MANIFEST, &manifest);
        descriptor.platform = platform(&bytes);
        store.blobs.insert(descriptor.digest.clone(), Blob::Memory(manifest.into()));
        if image.tags.is_empty() {
            manifests.push(descriptor.to_value());
        }
        for tag in &image.tags {
            manifests.push(descriptor.clone().annotate("io.containerd.image.name", tag.as_str()).to_value());
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests});
    store.index = json::canonical(&index);
    store.docker_manifest = Some(docker);
    store.form = Form::LegacyArchive;
    Ok(())
}

fn member<'a>(listing: &'a Listing, name: &str) -> Result<&'a ArchiveMember, StoreError> {
    let path = SafePath::parse(name.as_bytes()).ok();
    path.and_then(|path| listing.resolve(&path, 0)).ok_or_else(|| StoreError::Document {
        what: "manifest.json".into(),
        code: "E-BLOB-MISSING",
        why: format!("it names {}, which is no file of the archive", name.escape_debug()),
    })
}

/// A configuration named `HEX.json` must have that digest.
fn check_name(store: &mut ImageStore, name: &str, found: &Digest) {
    let Some(expected) =
        name.strip_suffix(".json").and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok())
    else {
        return;
    };
    if expected != *found {
        let problem =
            Problem::error("E-DIGEST", "", "the configuration has another digest than its name says");
        let place = SafePath::parse(name.as_bytes()).map_or_else(|_| String::new(), |path| shown(&path));
        store.problems.push((place, problem.but(expected.to_string(), found.to_string())));
    }
}

fn platform(config: &[u8]) -> Option<PlatformFields> {
    let value = json::parse(config).ok()?;
    PlatformFields::read(&value, "", &mut Vec::new())
}

impl ImageStore {
    fn add(&mut self, descriptor: &Descriptor, member: &ArchiveMember) {
        let blob = Blob::Range { offset: member.data_offset, size: member.size };
        self.blobs.insert(descriptor.digest.clone(), blob);
    }
}
