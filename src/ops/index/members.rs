//! What an image brings into an index: its manifest, or those of an index that it is.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::Digest;

use super::IndexError;
use crate::diagnostic::Failure;
use crate::limits;
use crate::oci::media_type::Kind;
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, PlatformFields};
use crate::store::image::Image;
use crate::store::{ImageStore, StoreError, Subject};

/// A manifest that is joined.
pub(super) struct Member {
    /// As the index lists it.
    pub(super) descriptor: Descriptor,
    /// What it is for, in one form for one machine; nothing for what is no image, such as an attestation of buildx.
    pub(super) platform: Option<String>,
    /// Its own annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Where it is, for people.
    pub(super) from: String,
}

/// All manifests of what a subject names; an index in it is taken apart.
pub(super) fn members(store: &ImageStore, subject: &Subject) -> Result<Vec<Member>, Failure> {
    let mut roots = store.select(subject.tag(), subject.digest())?;
    let root = match (roots.pop(), roots.is_empty()) {
        (Some(root), true) => root.descriptor,
        _ => {
            return Err(StoreError::Selection {
                place: store.place().to_owned(),
                why: "several images fit".into(),
                help: "name a tag or a digest: oci:DIR:TAG, FILE@sha256:…".into(),
            }
            .into());
        }
    };
    let images: BTreeMap<Digest, Image> =
        (store.images(&root)?.into_iter()).map(|image| (image.descriptor.digest.clone(), image)).collect();
    // How the place calls an image says nothing about it.
    let bare = Descriptor { annotations: BTreeMap::new(), ..root };
    let mut found = Vec::new();
    let mut walk = Walk { store, subject, images: &images, left: limits::DESCRIPTORS, found: &mut found };
    walk.add(bare, 0)?;
    match found.iter().any(|member| member.platform.is_some()) {
        true => Ok(found),
        false => Err(IndexError::None(subject.to_string()).into()),
    }
}

struct Walk<'a> {
    store: &'a ImageStore,
    subject: &'a Subject,
    images: &'a BTreeMap<Digest, Image>,
    left: usize,
    found: &'a mut Vec<Member>,
}

impl Walk<'_> {
    fn add(&mut self, descriptor: Descriptor, depth: usize) -> Result<(), Failure> {
        let place = || self.store.place().to_owned();
        if self.store.blob_size(&descriptor.digest).is_none() {
            return Err(StoreError::Missing { place: place(), digest: descriptor.digest }.into());
        }
        let left = self.left.checked_sub(1).filter(|_| depth <= limits::INDEX_DEPTH);
        self.left = left.ok_or_else(|| StoreError::Document {
            what: format!("the document {}", descriptor.digest),
            code: "E-GRAPH",
            why: "indexes nest too deep or list too many manifests".into(),
        })?;
        if descriptor.kind() == Kind::Index {
            for below in self.store.index(&descriptor)?.0.manifests {
                self.add(below, depth + 1)?;
            }
            return Ok(());
        }
        let from = format!("{} in {}", descriptor.digest, self.subject);
        let member = match self.images.get(&descriptor.digest) {
            Some(image) => of_image(descriptor, image, from)?,
            None => Member { descriptor, platform: None, annotations: BTreeMap::new(), from },
        };
        self.found.push(member);
        Ok(())
    }
}

fn of_image(mut descriptor: Descriptor, image: &Image, from: String) -> Result<Member, IndexError> {
    let own = image.platform();
    let said = descriptor.platform.get_or_insert_with(|| own.clone());
    if !fits(said, own) {
        return Err(IndexError::Platform { from, said: whole(said), own: whole(own) });
    }
    let platform = (said.os != "unknown").then(|| machine(said));
    Ok(Member { platform, annotations: image.manifest.value().annotations.clone(), descriptor, from })
}

/// Whether a descriptor says all that the configuration says; `arm64/v8` is `arm64`.
fn fits(said: &PlatformFields, own: &PlatformFields) -> bool {
    let variant = |fields: &PlatformFields| {
        let raw = fields.variant.clone();
        let plain = Platform::new(&fields.os, &fields.architecture, raw.as_deref());
        plain.map_or(raw, |platform| platform.variant().map(str::to_owned))
    };
    let features = |fields: &PlatformFields| fields.os_features.iter().cloned().collect::<BTreeSet<_>>();
    (&said.os, &said.architecture) == (&own.os, &own.architecture)
        && (own.variant.is_none() || variant(said) == variant(own))
        && (own.os_version.is_none() || said.os_version == own.os_version)
        && (own.os_features.is_empty() || features(said) == features(own))
}

/// A platform in one form: `arm64/v8` is `arm64`.
fn machine(fields: &PlatformFields) -> String {
    let plain = Platform::new(&fields.os, &fields.architecture, fields.variant.as_deref());
    with_system(plain.map_or_else(|_| fields.to_string(), |platform| platform.to_string()), fields)
}

/// A platform as it is said.
fn whole(fields: &PlatformFields) -> String {
    with_system(fields.to_string(), fields)
}

/// Adds version and features of the operating system.
fn with_system(mut text: String, fields: &PlatformFields) -> String {
    if let Some(version) = &fields.os_version {
        text += &format!(" {version}");
    }
    let mut features = fields.os_features.clone();
    features.sort();
    features.iter().for_each(|feature| text += &format!(" {feature}"));
    text
}
