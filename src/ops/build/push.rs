//! `dmoci build --push`: what is made goes straight to the registry; what is there already, or in the registry of the base, is
//! neither made nor fetched for it.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::Digest;

use super::{Built, RequestError};
use crate::diagnostic::Failure;
use crate::engine::assemble::ImagePlan;
use crate::fetch::Fetcher;
use crate::oci::Descriptor;
use crate::oci::reference::ImageName;
use crate::ops::push::{Image, Pushed, Ready, Source, send};
use crate::ops::remote::{Remote, Told};
use crate::spec::Target;
use crate::store::registry::Repository;
use crate::store::{ImageStore, Subject};

/// Layers of bases in registries, by the repositories that have them.
pub(super) type Bases = BTreeMap<ImageName, BTreeSet<Digest>>;

/// The repository that an image goes to, while it is made.
pub(in crate::ops) struct Destination<'a> {
    repository: Repository<'a>,
}

impl<'a> Destination<'a> {
    /// Reaches the repository: that it cannot be, or may not be written to, is said before anything is made.
    pub(super) fn open(name: &ImageName, fetcher: &'a Fetcher<'a>) -> Result<Destination<'a>, Failure> {
        let repository = Repository::connect(fetcher, name, true)?;
        repository.may_write()?;
        Ok(Destination { repository })
    }

    /// Whether it has this blob. That it cannot be asked is no error yet: the layer is made then.
    pub(in crate::ops) fn has(&self, digest: &Digest, size: u64) -> bool {
        let blob = Descriptor::new("application/octet-stream", digest.clone(), size);
        self.repository.has_blob(&blob).unwrap_or(false)
    }
}

/// A layer that a layout lacks, because registries have it.
#[derive(Debug)]
pub struct Lacking {
    /// The layer, as digests are printed: `PLATFORM:NAME`.
    pub layer: String,
    /// Its blob.
    pub digest: Digest,
}

/// The layers that the layout lacks, and how many there are; each blob once.
pub fn lacking(built: &Built) -> (Vec<Lacking>, usize) {
    let mut seen = BTreeSet::new();
    let mut lacking = Vec::new();
    for platform in &built.image.platforms {
        for layer in &platform.layers {
            let digest = &layer.descriptor.digest;
            let blob = built.layout.join("blobs").join(digest.algorithm().name()).join(digest.hex());
            if seen.insert(digest) && !blob.exists() {
                let layer = format!("{}:{}", platform.platform, layer.name);
                lacking.push(Lacking { layer, digest: digest.clone() });
            }
        }
    }
    (lacking, seen.len())
}

/// The name that all platforms are pushed under.
pub(super) fn name(targets: &[Target]) -> Result<&ImageName, RequestError> {
    targets.iter().find_map(|target| target.name.as_ref()).ok_or(RequestError::Unnamed)
}

/// The layers of bases that need not be fetched to be pushed.
pub(super) fn bases(plans: &[ImagePlan]) -> Bases {
    let mut all = Bases::new();
    for base in plans.iter().filter_map(|plan| plan.base.as_ref()) {
        if let Some(reference) = base.reference() {
            let layers = base.layers.iter().map(|layer| layer.digest.clone());
            all.entry(reference.name().clone()).or_default().extend(layers);
        }
    }
    all
}

/// Pushes what was built under all of its names: blobs, manifests, then the tags.
pub fn push(built: &Built, remote: &Remote<'_>) -> Result<Vec<Pushed>, Failure> {
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let mut to: Vec<Subject> = Vec::new();
    for name in &built.names {
        to.push(format!("docker://{name}").parse()?);
    }
    let store = ImageStore::open_sound(&Subject::bare(&built.layout))?;
    let image = Image::of(&store, (None, Some(&built.image.root.digest)), None, remote.watch)?;
    let (mut sources, mut unreached) = (Vec::new(), None);
    for (name, layers) in &built.bases {
        match Repository::connect(&fetcher, name, false) {
            Ok(repository) => sources.push(Source::of(repository, layers.clone())),
            // It may not be needed.
            Err(error) => unreached = Some(error),
        }
    }
    let ready = Ready { store: &store, sources: &sources, image };
    let done = send(&ready, &to, false, &fetcher, remote);
    remote.watch.all_fetched();
    done.map_err(|failure| match unreached {
        Some(error) if failure.code == "E-BLOB-MISSING" => error.into(),
        _ => failure,
    })
}
