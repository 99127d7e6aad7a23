//! Several stores as one, and an image that comes to those of a layout that is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::Digest;

use super::content;
use crate::diagnostic::Failure;
use crate::oci::platform::Platform;
use crate::oci::reference::is_referrers_tag;
use crate::oci::{Descriptor, media_type};
use crate::store::registry::list;
use crate::store::{ImageStore, StoreError, Subject};

const TAG: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// Documents that no store has.
pub(super) type Documents = Vec<(Digest, Vec<u8>)>;

/// A store that names these, and has all that the stores have, with lists of what refers to any of it.
pub(super) fn join(
    stores: &[Arc<ImageStore>],
    mut documents: Documents,
    mut named: Vec<Descriptor>,
    place: PathBuf,
) -> Result<ImageStore, Failure> {
    let mut lists: BTreeMap<String, Vec<Descriptor>> = BTreeMap::new();
    let mut older: BTreeMap<String, Descriptor> = BTreeMap::new();
    for store in stores {
        for root in store.roots()?.iter().filter(|root| store.is_evidence(root)) {
            for tag in &root.tags {
                if !is_referrers_tag(tag) {
                    older.entry(tag.clone()).or_insert_with(|| root.descriptor.clone());
                    continue;
                }
                let known = lists.entry(tag.clone()).or_default();
                for referrer in store.index(&root.descriptor)?.0.manifests {
                    if known.iter().all(|other| other.digest != referrer.digest) {
                        known.push(referrer);
                    }
                }
            }
        }
    }
    for (tag, referrers) in lists {
        let bytes = list(&referrers);
        let descriptor = Descriptor::of(media_type::INDEX, &bytes);
        documents.push((descriptor.digest.clone(), bytes));
        named.push(descriptor.annotate(TAG, tag));
    }
    named.extend(older.into_iter().map(|(tag, descriptor)| descriptor.annotate(TAG, tag)));
    Ok(ImageStore::joined(stores, documents, list(&named), place))
}

/// The image that tag, digest and platform choose, alone; with all platforms when none is said.
pub(super) fn chosen(
    store: &ImageStore,
    tag: Option<&str>,
    digest: Option<&Digest>,
    platform: Option<&Platform>,
) -> Result<Descriptor, StoreError> {
    if let Some(platform) = platform {
        let image = store.one_image(tag, digest, Some(platform))?;
        let mut descriptor = image.descriptor.clone();
        descriptor.platform = Some(image.platform().clone());
        return Ok(descriptor);
    }
    let mut roots = store.select(tag, digest)?;
    match (roots.pop(), roots.is_empty()) {
        (Some(root), true) => Ok(root.descriptor),
        _ => Err(StoreError::Selection {
            place: store.place().to_owned(),
            why: "several images fit".into(),
            help: "name a tag or a digest: oci:DIR:TAG, FILE@sha256:…".into(),
        }),
    }
}

/// What a layout holds when an image has come to it under a tag: all that it held, but what had that tag.
pub(super) fn added(
    layout: &Path,
    tag: &str,
    mut stores: Vec<Arc<ImageStore>>,
    documents: Documents,
    mut image: Descriptor,
) -> Result<ImageStore, Failure> {
    let mut named = Vec::new();
    if std::fs::symlink_metadata(layout.join("index.json")).is_ok() {
        let there = ImageStore::open(&Subject::bare(layout))?.sound()?;
        let lists: Vec<Digest> = (there.roots()?.into_iter())
            .filter_map(|root| {
                (there.is_evidence(&root) && !root.tags.is_empty()).then_some(root.descriptor.digest)
            })
            .collect();
        named = content::descriptors(&there)?;
        named.retain(|one| {
            one.annotations.get(TAG).is_none_or(|other| other != tag) && !lists.contains(&one.digest)
        });
        stores.push(Arc::new(there));
    }
    image.annotations.remove(FULL_NAME);
    named.push(image.annotate(TAG, tag));
    join(&stores, documents, named, layout.to_owned())
}
