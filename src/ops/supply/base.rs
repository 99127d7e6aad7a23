//! Bases in registries: a tag is resolved once and pinned; after that documents and layers are fetched by digest, as far as
//! they are needed and not in the download cache.

use std::io::Read as _;
use std::path::Path;

use dmoci_layers::{Algorithm, Digest};

use super::Online;
use crate::cache::{Downloaded, Downloads};
use crate::diagnostic::{Exit, Failure};
use crate::fetch::FetchError;
use crate::inputs::InputError;
use crate::inputs::supply::BaseDocuments;
use crate::limits;
use crate::lock::Pin;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::Kind;
use crate::oci::platform::Platform;
use crate::oci::reference::{ImageName, Reference, Tag};
use crate::oci::{Descriptor, json};
use crate::ops::lock::Signers;
use crate::store::registry::{self, Document, Named, Repository, Which, parallel};
use crate::store::{ImageStore, StoreError};
use crate::url::Url;

impl Online<'_> {
    /// Sees to it that a base is pinned. One that is, is not asked for.
    pub(in crate::ops) fn pin_base(&self, name: &Reference, platform: &Platform) -> Result<(), Failure> {
        match self.found(name, platform)? {
            Some(_) => Ok(()),
            None => self.resolve(name, platform).map(drop),
        }
    }

    /// The pin of a base. One that does not say who signed it, where that is wanted, is an error.
    fn found(&self, name: &Reference, platform: &Platform) -> Result<Option<Pin>, Failure> {
        let found = self.bases.find(name, platform)?;
        match (&found, self.signers(platform)?) {
            (Some(pin), Some(signers)) if !signers.are_said_by(pin) => Err(self.bases.unsigned(name).into()),
            _ => Ok(found),
        }
    }

    /// Who must have signed the base.
    fn signers(&self, platform: &Platform) -> Result<Option<Signers>, Failure> {
        let reads = |path: &Path| {
            self.reads.borrow_mut().insert(path.to_owned());
        };
        let Some((trust, place)) = self.bases.trust(platform) else { return Ok(None) };
        let signers = Signers::of(trust, self.project, reads).map_err(|mut failure| {
            failure.places.push(place.clone());
            failure
        });
        signers.map(Some)
    }

    /// The documents of a base that is pinned, or is from now on.
    pub(super) fn documents(&self, name: &Reference, platform: &Platform) -> Result<BaseDocuments, Failure> {
        let Some(pin) = self.found(name, platform)? else { return self.resolve(name, platform) };
        self.pinned(name, &pin).map_err(|mut failure| {
            if failure.code == "E-REGISTRY-MISSING" && name.digest().is_none() {
                failure.help = Some("it is gone from the registry; to go on with what the tag names now: dmoci lock --update base".into());
            }
            failure
        })
    }

    /// Blobs of a base, in the same order.
    pub(super) fn blobs(&self, name: &ImageName, blobs: &[Descriptor]) -> Result<Vec<Downloaded>, Failure> {
        let downloads = self.downloads()?;
        let here = |blob: &Descriptor| Ok::<_, Failure>(downloads.get(&blob.digest)?);
        let mut found: Vec<Option<Downloaded>> = parallel(blobs, here)?;
        let size = |blob: &Descriptor, entry: &Downloaded| entry.size() == blob.size;
        let missing: Vec<usize> = (0..blobs.len())
            .filter(|&number| !found[number].as_ref().is_some_and(|entry| size(&blobs[number], entry)))
            .collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        self.online(name, missing.iter().map(|&number| format!("blobs/{}", blobs[number].digest)))?;
        let fetcher = self.fetcher()?;
        let repository = Repository::connect(fetcher, name, false)?;
        let wanted: Vec<_> =
            missing.iter().map(|&number| repository.wanted(&blobs[number])).collect::<Result<_, _>>()?;
        let fetched = fetcher.files(&wanted);
        downloads.sweep();
        self.watch.all_fetched();
        let fetched = fetched.map_err(|error| repository.failed("read a blob of", error))?;
        for (number, entry) in missing.into_iter().zip(fetched) {
            found[number] = Some(entry);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// What a pin says.
    fn pinned(&self, name: &Reference, pin: &Pin) -> Result<BaseDocuments, Failure> {
        let downloads = self.downloads()?;
        let bytes = match downloads.get(&pin.digest)? {
            Some(entry) => content(&entry)?,
            None => {
                self.online(name.name(), [format!("manifests/{}", pin.digest)])?;
                let repository = Repository::connect(self.fetcher()?, name.name(), false)?;
                let bytes = repository.manifest(Named::Digest(&pin.digest))?.bytes;
                downloads.put(&bytes)?;
                bytes
            }
        };
        let document = Document::of(bytes).map_err(|why| unusable(name, &why))?;
        let value = json::parse(&document.bytes).unwrap_or_default();
        let manifest = Manifest::read(&value, &mut Vec::new()).filter(|manifest| {
            document.descriptor.kind() == Kind::Manifest && manifest.config.size <= limits::JSON_BYTES
        });
        let manifest = manifest.ok_or_else(|| unusable(name, "what is pinned is no manifest"))?;
        let config = self.blobs(name.name(), &[manifest.config])?;
        let config_bytes = config.first().map(content).transpose()?.unwrap_or_default();
        Ok(BaseDocuments { manifest: document.descriptor, manifest_bytes: document.bytes, config_bytes })
    }

    /// What the name means now, for one platform. Of several platforms all get what one index lists.
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseDocuments, Failure> {
        let tag = name.tag().map(Tag::as_str);
        let digest = name.digest().cloned().or_else(|| self.bases.index(name));
        let asked = digest.as_ref().map(ToString::to_string).or_else(|| tag.map(str::to_owned));
        self.online(name.name(), [format!("manifests/{}", asked.unwrap_or_default())])?;
        self.watch.status("Resolving", &format!("docker://{name} for {platform}"));
        let repository = Repository::connect(self.fetcher()?, name.name(), false)?;
        let signers = self.signers(platform)?;
        let (referrers, signatures) = (signers.is_some(), signers.is_some());
        let which = Which { platform: Some(platform), referrers, signatures, ..Which::default() };
        let store = registry::open(&repository, tag, digest.as_ref(), which)?;
        self.watch.all_fetched();
        let root = store.roots()?.into_iter().next().map(|root| root.descriptor);
        let root = root.ok_or_else(|| unusable(name, "there is none"))?;
        let mut images = store.images(&root)?;
        let there: Vec<String> = images.iter().map(|image| image.platform().to_string()).collect();
        images.retain(|image| image.is_for(platform));
        images.dedup_by(|a, b| a.manifest.digest() == b.manifest.digest());
        let image = match (images.pop(), images.is_empty()) {
            (Some(image), true) => image,
            (Some(_), false) => {
                return Err(unusable(name, &format!("several of its images are for {platform}")));
            }
            (None, _) => {
                let there = platforms(&store, &root)?.unwrap_or(there);
                let listed = there.iter().any(|one| one.parse().is_ok_and(|one: Platform| one == *platform));
                let mut failure = match listed {
                    true => {
                        unusable(name, &format!("the registry lacks the image for {platform} that it lists"))
                    }
                    false => unusable(name, &format!("it has no image for {platform}")),
                };
                failure.help = (!listed).then(|| format!("it has: {}", there.join(", ")));
                return Err(failure);
            }
        };
        let document = Document::of(image.manifest.bytes().to_vec()).map_err(|why| unusable(name, &why))?;
        let index = (root.kind() == Kind::Index).then_some(root.digest);
        let is_sha256 = |digest: &Digest| digest.algorithm() == Algorithm::Sha256;
        let digest = &document.descriptor.digest;
        let signed_by = signers.map(|signers| signers.find(&store, digest, name)).transpose()?;
        self.downloads()?.put(&document.bytes)?;
        self.bases.pin(name, platform, &document.descriptor, index.filter(is_sha256), signed_by);
        Ok(BaseDocuments {
            manifest: document.descriptor,
            manifest_bytes: document.bytes,
            config_bytes: image.config.bytes().to_vec(),
        })
    }

    fn downloads(&self) -> Result<Downloads, Failure> {
        Ok(Downloads::open(self.network.downloads()?)?)
    }

    /// An error when there is no network, which names what is missing.
    fn online(&self, name: &ImageName, paths: impl IntoIterator<Item = String>) -> Result<(), FetchError> {
        if !self.network.settings.offline {
            return Ok(());
        }
        let url =
            |path: String| format!("https://{}/v2/{}/{path}", name.host(), name.path()).parse::<Url>().ok();
        Err(FetchError::Offline { urls: paths.into_iter().filter_map(url).collect(), damaged: 0 })
    }
}

/// The platforms that an index lists; nothing when it is none.
fn platforms(store: &ImageStore, root: &Descriptor) -> Result<Option<Vec<String>>, StoreError> {
    if root.kind() != Kind::Index {
        return Ok(None);
    }
    let listed = store.index(root)?.0.manifests.into_iter().filter_map(|one| one.platform);
    Ok(Some(listed.filter(|one| one.os != "unknown").map(|one| one.to_string()).collect()))
}

/// A document of the cache.
fn content(entry: &Downloaded) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = entry.open()?.take(limits::JSON_BYTES).read_to_end(&mut bytes);
    read.map_err(|source| InputError::Io { path: entry.digest().to_string().into(), source })?;
    Ok(bytes)
}

fn unusable(name: &Reference, why: &str) -> Failure {
    Failure {
        code: "E-BASE",
        exit: Exit::Mismatch,
        message: format!("the base image docker://{name} cannot be used: {why}"),
        causes: Vec::new(),
        places: Vec::new(),
        help: None,
    }
}
