//! What is pushed: manifests and indexes as trees, and what refers to them.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::Digest;

use super::super::join::chosen;
use super::super::plan::Watch;
use crate::diagnostic::{Diagnostic as _, Failure};
use crate::limits;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::Kind;
use crate::oci::platform::Platform;
use crate::oci::reference::{referrers_tag, subject_tag};
use crate::oci::{Descriptor, json};
use crate::store::registry::{Named, RegistryError, Repository, stray};
use crate::store::{ImageStore, StoreError};

/// A manifest or index, and all that it leads to.
pub(super) struct Tree {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) below: Vec<Tree>,
    /// Configuration and layers.
    pub(super) blobs: Vec<Descriptor>,
    /// What it refers to.
    pub(super) subject: Option<Digest>,
}

/// What is pushed.
pub(in super::super) struct Image {
    pub(super) root: Tree,
    /// What refers to it, what is referred to first.
    pub(super) referrers: Vec<Tree>,
    /// What cosign keeps under tags of its own about any of it, with these tags.
    pub(super) older: Vec<(String, Tree)>,
}

impl Image {
    /// What tag, digest and platform choose; all platforms when none is said. What is listed as referring to it, and refers to
    /// something else, is left out: elsewhere it would be one of another image.
    pub(in super::super) fn of(
        store: &ImageStore,
        (tag, digest): (Option<&str>, Option<&Digest>),
        platform: Option<&Platform>,
        watch: &dyn Watch,
    ) -> Result<Image, Failure> {
        let descriptor = chosen(store, tag, digest, platform)?;
        let mut left = limits::DESCRIPTORS;
        let root = tree(store, descriptor, 0, &mut left)?;
        let mut known = BTreeSet::new();
        note(&root, &mut known);
        let mut referrers = Vec::new();
        let mut lists: Vec<(String, Descriptor)> = Vec::new();
        for root in store.roots()?.into_iter().filter(|root| store.is_evidence(root)) {
            lists.extend(root.tags.iter().map(|tag| (tag.clone(), root.descriptor.clone())));
        }
        loop {
            let tags: BTreeMap<String, Digest> =
                known.iter().map(|digest| (referrers_tag(digest), digest.clone())).collect();
            let (now, later): (Vec<_>, Vec<_>) =
                lists.into_iter().partition(|(tag, _)| tags.contains_key(tag));
            lists = later;
            if now.is_empty() {
                break;
            }
            for (tag, list) in now {
                let Some(about) = tags.get(&tag) else { continue };
                for descriptor in store.index(&list)?.0.manifests {
                    if known.contains(&descriptor.digest) || store.blob_size(&descriptor.digest).is_none() {
                        continue;
                    }
                    let referrer = tree(store, descriptor, 0, &mut left)?;
                    if referrer.subject.as_ref() != Some(about) {
                        let place = store.place().display().to_string();
                        watch.warning(&stray(&place, &referrer.descriptor.digest, about));
                        continue;
                    }
                    note(&referrer, &mut known);
                    referrers.push(referrer);
                }
            }
        }
        let tags: BTreeSet<String> = known.iter().map(referrers_tag).collect();
        let mut older = Vec::new();
        for (tag, manifest) in lists {
            if subject_tag(&tag) != tag
                && tags.contains(subject_tag(&tag))
                && manifest.kind() == Kind::Manifest
            {
                older.push((tag, tree(store, manifest, 0, &mut left)?));
            }
        }
        Ok(Image { root, referrers, older })
    }
}

fn note(tree: &Tree, known: &mut BTreeSet<Digest>) {
    known.insert(tree.descriptor.digest.clone());
    tree.below.iter().for_each(|below| note(below, known));
}

/// Reads a manifest and all below it. What an index lists and the store does not have is left out.
fn tree(
    store: &ImageStore,
    descriptor: Descriptor,
    depth: usize,
    left: &mut usize,
) -> Result<Tree, StoreError> {
    let refuse = |code, why: String| StoreError::Document {
        what: format!("the document {}", descriptor.digest),
        code,
        why,
    };
    *left = left.checked_sub(1).ok_or_else(|| refuse("E-GRAPH", "there are too many descriptors".into()))?;
    if depth > limits::INDEX_DEPTH {
        return Err(refuse("E-GRAPH", "the indexes are nested too deep".into()));
    }
    let bytes = store.read_json_blob(&descriptor.digest)?;
    let value = json::parse(&bytes).map_err(|error| refuse(error.code(), error.to_string()))?;
    let unusable = || refuse("E-OCI-MISSING", "it cannot be used".into());
    let (mut below, mut blobs) = (Vec::new(), Vec::new());
    let subject = match descriptor.kind() {
        Kind::Index => {
            let index = Index::read(&value, &mut Vec::new()).ok_or_else(unusable)?;
            for child in index.manifests {
                let is_manifest = matches!(child.kind(), Kind::Index | Kind::Manifest);
                if is_manifest && store.blob_size(&child.digest).is_some() {
                    below.push(tree(store, child, depth + 1, left)?);
                }
            }
            index.subject
        }
        _ => {
            let manifest = Manifest::read(&value, &mut Vec::new()).ok_or_else(unusable)?;
            blobs.push(manifest.config);
            blobs.extend(manifest.layers);
            manifest.subject
        }
    };
    let subject = subject.map(|subject| subject.digest);
    Ok(Tree { descriptor, bytes, below, blobs, subject })
}

/// The manifests of a tree that a repository does not have, what is named before what names it.
pub(super) fn absent<'t>(
    to: &Repository<'_>,
    tree: &'t Tree,
    missing: &mut Vec<&'t Tree>,
) -> Result<(), RegistryError> {
    if to.has_manifest(Named::Digest(&tree.descriptor.digest))? {
        return Ok(());
    }
    for below in &tree.below {
        absent(to, below, missing)?;
    }
    missing.push(tree);
    Ok(())
}

/// A descriptor as the lists of referrers have them: with the type of the artifact and its annotations.
pub(super) fn described(tree: &Tree) -> Descriptor {
    let value = json::parse(&tree.bytes).unwrap_or_default();
    let mut descriptor = Descriptor::new(
        &*tree.descriptor.media_type,
        tree.descriptor.digest.clone(),
        tree.bytes.len() as u64,
    );
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    descriptor.artifact_type = text(&value["artifactType"]).or_else(|| text(&value["config"]["mediaType"]));
    if let Some(annotations) = value["annotations"].as_object() {
        let pair = |(name, value): (&String, &serde_json::Value)| Some((name.clone(), text(value)?));
        descriptor.annotations = annotations.iter().filter_map(pair).collect();
    }
    descriptor
}
