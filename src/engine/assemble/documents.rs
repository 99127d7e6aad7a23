//! What is said of an image: config and manifest of each platform, and the index over several.

use dmoci_layers::RULES;
use serde_json::{Map, Value, json};

use super::base::BaseImage;
use super::config::config;
use super::error::{BuildError, BuildErrorKind};
use super::image::{BuiltImage, BuiltLayer, BuiltPlatform, Facts, Output, write_error};
use super::plan::ImagePlan;
use crate::oci::descriptor::{Descriptor, PlatformFields};
use crate::oci::index::RULES_ANNOTATION;
use crate::oci::{json as oci_json, media_type};
use crate::spec::target;

/// Writes config and manifest of a platform, whose layers are there.
pub(super) fn platform(
    plan: &ImagePlan,
    layers: Vec<BuiltLayer>,
    facts: &Facts,
    output: &dyn Output,
) -> Result<BuiltPlatform, BuildError> {
    let target = &plan.target;
    let own = layers.iter().take_while(|layer| layer.base).count();
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

/// Joins platforms: the manifest itself when there is one, else an index over all.
///
/// `targets` are those of the platforms; the index has the annotations that are the same in all of them.
pub fn index(
    platforms: Vec<BuiltPlatform>,
    targets: &[target::Target],
    facts: &Facts,
    output: &dyn Output,
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

fn put(output: &dyn Output, media_type: &str, document: &Value) -> Result<Descriptor, BuildError> {
    let bytes = oci_json::canonical(document);
    let descriptor = Descriptor::of(media_type, &bytes);
    output.put(&bytes, &descriptor.digest).map_err(write_error)?;
    Ok(descriptor)
}
