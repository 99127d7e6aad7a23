//! The manifest that holds a signature and refers to an image, as cosign 3 writes it, and the list that names it.

use dmoci_layers::Digest;
use serde_json::{Value, json};

use super::Signed;
use crate::diagnostic::Failure;
use crate::oci::index::{Index, SelfDigest, author, self_digest};
use crate::oci::json as canonical;
use crate::oci::media_type;
use crate::oci::reference::referrers_tag;
use crate::oci::{Descriptor, Problem};
use crate::store::{ImageStore, StoreError, Subject};
use crate::trust::SigningKey;
use crate::trust::bundle::{self, BUNDLE};
use crate::trust::statement::{SIGN, Statement};

const TAG: &str = "org.opencontainers.image.ref.name";
/// The configuration of artifacts that have none.
const NOTHING: &[u8] = b"{}";

/// A signature of an image, ready to be put somewhere.
pub(super) struct Referrer {
    bundle: (Digest, Vec<u8>),
    config: Digest,
    manifest: (Digest, Vec<u8>),
    described: Descriptor,
}

/// What adding it to a layout changes.
pub(super) struct Addition {
    /// The new `index.json`.
    pub(super) index: Vec<u8>,
    /// The new list of what refers to the image.
    pub(super) list: (Digest, Vec<u8>),
    /// The list that it takes the place of.
    pub(super) gone: Option<Digest>,
}

/// The one manifest or index that a subject chooses; everything that it leads to is read.
pub(super) fn chosen(store: &ImageStore, subject: &Subject) -> Result<Descriptor, StoreError> {
    let mut roots = store.select(subject.tag(), subject.digest())?;
    match (roots.pop(), roots.is_empty()) {
        (Some(root), true) => {
            store.images(&root.descriptor)?;
            Ok(root.descriptor)
        }
        _ => Err(StoreError::Selection {
            place: store.place().to_owned(),
            why: "several images fit".into(),
            help: "name a tag or a digest: oci:DIR:TAG, DIR@sha256:…".into(),
        }),
    }
}

impl Referrer {
    /// The signature of an image by a key: the same for the same image, key and time.
    pub(super) fn new(key: &SigningKey, image: &Descriptor, created: &str) -> Option<Referrer> {
        let bundle = bundle::of_statement(key, &Statement::signed(&image.digest))?;
        let layer = Descriptor::of(BUNDLE, &bundle);
        let config = Descriptor::of(media_type::EMPTY, NOTHING);
        let subject = Descriptor::new(&*image.media_type, image.digest.clone(), image.size);
        let annotations = json!({
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": SIGN,
            "org.opencontainers.image.created": created,
        });
        let manifest = canonical::canonical(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "artifactType": BUNDLE,
            "config": config.to_value(),
            "layers": [layer.to_value()],
            "subject": subject.to_value(),
            "annotations": annotations,
        }));
        let mut described = Descriptor::of(media_type::MANIFEST, &manifest);
        described.artifact_type = Some(BUNDLE.into());
        let texts = annotations.as_object()?.iter();
        described.annotations =
            texts.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect();
        Some(Referrer {
            bundle: (layer.digest, bundle),
            config: config.digest,
            manifest: (described.digest.clone(), manifest),
            described,
        })
    }

    /// What is told of it.
    pub(super) fn signed(&self, image: &Descriptor, name: &str) -> Signed {
        let (name, digest) = (name.to_owned(), image.digest.clone());
        Signed { name, digest, holders: vec![self.manifest.0.to_string()], new: true }
    }

    /// How lists name its manifest.
    pub(super) fn descriptor(&self) -> Descriptor {
        self.described.clone()
    }

    /// The manifest.
    pub(super) fn manifest(&self) -> &[u8] {
        &self.manifest.1
    }

    /// What the manifest names.
    pub(super) fn content(&self) -> [(Descriptor, &[u8]); 2] {
        [
            (Descriptor::of(media_type::EMPTY, NOTHING), NOTHING),
            (Descriptor::of(BUNDLE, &self.bundle.1), &self.bundle.1),
        ]
    }

    /// All that it consists of.
    pub(super) fn blobs(&self) -> [(&Digest, &[u8]); 3] {
        [(&self.config, NOTHING), (&self.bundle.0, &self.bundle.1), (&self.manifest.0, &self.manifest.1)]
    }

    /// What it changes in a layout; nothing when it is listed there.
    pub(super) fn addition(
        &self,
        store: &ImageStore,
        image: &Descriptor,
    ) -> Result<Option<Addition>, Failure> {
        let tag = referrers_tag(&image.digest);
        let old = store.roots()?.into_iter().find(|root| root.tags.contains(&tag));
        let mut manifests = match &old {
            Some(root) => store.index(&root.descriptor)?.0.manifests,
            None => Vec::new(),
        };
        if manifests.iter().any(|one| one.digest == self.manifest.0) {
            return Ok(None);
        }
        manifests.push(self.descriptor());
        let list = canonical::canonical(&json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": manifests.iter().map(Descriptor::to_value).collect::<Vec<_>>(),
        }));
        let listed = Descriptor::of(media_type::INDEX, &list).annotate(TAG, tag.as_str());
        let gone = old.map(|root| root.descriptor.digest);
        let index = index(store, gone.as_ref(), &listed)?;
        Ok(Some(Addition { index, list: (listed.digest, list), gone }))
    }
}

/// `index.json` with a list in it, in the place of an older one. By dmoci it stays dmoci's; that of another tool keeps all that it says.
fn index(store: &ImageStore, gone: Option<&Digest>, listed: &Descriptor) -> Result<Vec<u8>, StoreError> {
    let bytes = store.index_bytes();
    let unusable = || StoreError::Document {
        what: format!("index.json in {}", store.place().display()),
        code: "E-OCI-MISSING",
        why: "it lists nothing".into(),
    };
    let mut value = canonical::parse(bytes).map_err(|_| unusable())?;
    if self_digest(bytes) == SelfDigest::Unmarked {
        let manifests = value["manifests"].as_array_mut().ok_or_else(unusable)?;
        let is_gone = |one: &Value| gone.is_some_and(|gone| one["digest"] == gone.to_string());
        manifests.retain(|one| !is_gone(one));
        manifests.push(listed.to_value());
        return Ok(canonical::canonical(&value));
    }
    let index = Index::read(&value, &mut Vec::<Problem>::new()).ok_or_else(unusable)?;
    let mut manifests = index.manifests;
    manifests.retain(|one| Some(&one.digest) != gone);
    manifests.push(listed.clone());
    Ok(author(&manifests))
}
