//! `dmoci index create`: images of single platforms, joined by an index.

mod members;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use dmoci_layers::{Digest, RULES};
use serde_json::json;

use super::content::{Content, Wanted};
use super::export;
use super::join::{Documents, join};
use super::pull;
use super::push::{self, Image, Pushed, Ready, Source};
use super::remote::{Remote, Told};
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::oci::index::RULES_ANNOTATION;
use crate::oci::{Descriptor, json, media_type};
use crate::store::registry::Which;
use crate::store::{ImageStore, Subject, Transport};
use members::{Member, members};

/// What to join, and where the index goes.
#[derive(Clone, Debug)]
pub struct Request {
    /// Images, or indexes whose images are taken.
    pub subjects: Vec<Subject>,
    /// Repositories, layouts and archives; at least one.
    pub to: Vec<Subject>,
    /// Annotations of the index; an empty one is left out.
    pub annotations: BTreeMap<String, String>,
    /// Nothing is written.
    pub dry_run: bool,
    /// Threads that verify an archive.
    pub threads: NonZeroUsize,
}

/// An index that was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// The index.
    pub index: Descriptor,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// What became of destinations in registries.
    pub pushed: Vec<Pushed>,
    /// The other destinations, and their bytes.
    pub written: Vec<(Subject, u64)>,
}

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Two images are for the same platform.
    #[error("{first} and {second} are both for {platform}")]
    Twice {
        /// The platform.
        platform: String,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A descriptor says another platform than the configuration.
    #[error("{from}: its index says that it is for {said}, and its configuration {own}")]
    Platform {
        /// The manifest, and where it is.
        from: String,
        /// What is said of it.
        said: String,
        /// What it says itself.
        own: String,
    },
    /// There is no image to join.
    #[error("{0} holds no image")]
    None(String),
    /// The index cannot be written there.
    #[error("an index cannot be written to {0}")]
    To(String),
}

impl Diagnostic for IndexError {
    fn code(&self) -> &'static str {
        match self {
            IndexError::Twice { .. } => "E-INDEX-TWICE",
            IndexError::Platform { .. } => "E-INDEX-PLATFORM",
            IndexError::None(_) => "E-INDEX-NONE",
            IndexError::To(_) => "E-INDEX-TO",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            IndexError::Platform { .. } => Exit::Mismatch,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            IndexError::Twice { .. } => "leave one of them out".into(),
            IndexError::Platform { .. } => "ask whoever made the image; nothing was written".into(),
            IndexError::None(_) => "name images: what refers to them comes along by itself".into(),
            IndexError::To(_) => {
                "write docker://HOST/NAME:TAG, oci:DIR[:TAG] or oci-archive:FILE[:TAG]".into()
            }
        })
    }
}

/// Joins, and writes the index with all that it lists and all that refers to that to every destination.
pub fn create(request: &Request, remote: &Remote<'_>) -> Result<Created, Failure> {
    crate::sha256::provide();
    let (far, near): (Vec<Subject>, Vec<Subject>) =
        request.to.iter().cloned().partition(|to| to.transport() == Transport::Registry);
    let unfit = |to: &&Subject| {
        let known = matches!(to.transport(), Transport::Oci | Transport::Bare | Transport::OciArchive);
        !known || to.digest().is_some()
    };
    if let Some(to) = near.iter().find(unfit) {
        return Err(IndexError::To(to.to_string()).into());
    }
    for to in near.iter().filter(|to| to.transport() != Transport::OciArchive) {
        pull::fit(to)?;
    }
    for subject in request.subjects.iter().chain(&far) {
        remote.online(subject)?;
    }
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let which = Which {
        platform: None,
        layers: !near.is_empty() && !request.dry_run,
        referrers: true,
        signatures: true,
        ..Which::default()
    };
    let (mut stores, mut sources): (Vec<Arc<ImageStore>>, Vec<Source<'_>>) = Default::default();
    let mut joined: Vec<Member> = Vec::new();
    for subject in &request.subjects {
        let (store, source) =
            push::open(subject, which, &fetcher).map_err(|failure| hinted(failure, &request.subjects))?;
        let store = store.sound()?;
        for member in members(&store, subject)? {
            add(&mut joined, member)?;
        }
        stores.push(Arc::new(store));
        sources.extend(source);
    }
    let bytes = document(&joined, &request.annotations);
    let index = Descriptor::of(media_type::INDEX, &bytes);
    let manifests = joined.into_iter().map(|member| member.descriptor).collect();
    let whole = Whole { index: &index, bytes: &bytes, stores: &stores };
    let mut created = Created { index: index.clone(), manifests, pushed: Vec::new(), written: Vec::new() };
    for to in near {
        let bytes = if request.dry_run { 0 } else { write(&whole, &to, request.threads, remote)? };
        created.written.push((to, bytes));
    }
    if !far.is_empty() {
        let store = whole.store(None)?;
        let image = Image::of(&store, (None, Some(&index.digest)), None, remote.watch)?;
        let ready = Ready { store: &store, sources: &sources, image };
        created.pushed = push::send(&ready, &far, request.dry_run, &fetcher, remote)?;
    }
    remote.watch.all_fetched();
    Ok(created)
}

/// A subject that is not there may be meant as a destination: `--to` takes one.
fn hinted(mut failure: Failure, subjects: &[Subject]) -> Failure {
    let absent = matches!(failure.code, "E-REGISTRY-MISSING" | "E-SUBJECT-NOT-FOUND");
    if absent && subjects.len() > 1 {
        let help = failure.help.map_or_else(String::new, |help| format!("{help}; "));
        failure.help = Some(format!(
            "{help}if the index is to go there, write --to before it too: each takes one destination"
        ));
    }
    failure
}

/// Adds what is not there yet; two images of one platform are an error.
fn add(joined: &mut Vec<Member>, member: Member) -> Result<(), IndexError> {
    if joined.iter().any(|known| known.descriptor.digest == member.descriptor.digest) {
        return Ok(());
    }
    let same = |known: &&Member| member.platform.is_some() && known.platform == member.platform;
    if let Some(known) = joined.iter().find(same) {
        return Err(IndexError::Twice {
            platform: member.platform.unwrap_or_default(),
            first: known.from.clone(),
            second: member.from,
        });
    }
    joined.push(member);
    Ok(())
}

/// Annotations of an image that are none of several images together.
const OF_ONE: &str = "org.opencontainers.image.base.";

/// The index: what all images say alike, as `build` has it for several platforms, and what the user says.
fn document(joined: &[Member], annotations: &BTreeMap<String, String>) -> Vec<u8> {
    let mut images = joined.iter().filter(|member| member.platform.is_some());
    let mut common = images.next().map(|first| first.annotations.clone()).unwrap_or_default();
    for other in images {
        common.retain(|name, value| other.annotations.get(name) == Some(value));
    }
    common.retain(|name, _| !name.starts_with(OF_ONE));
    common.extend(annotations.clone());
    common.retain(|_, value| !value.is_empty());
    common.insert(RULES_ANNOTATION.into(), RULES.to_string());
    json::canonical(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": joined.iter().map(|member| member.descriptor.to_value()).collect::<Vec<_>>(),
        "annotations": common,
    }))
}

/// The index and all that it is made of.
struct Whole<'a> {
    index: &'a Descriptor,
    bytes: &'a [u8],
    stores: &'a [Arc<ImageStore>],
}

impl Whole<'_> {
    /// A store of all of it, with lists of what refers to any of it.
    fn store(&self, tag: Option<&str>) -> Result<ImageStore, Failure> {
        let named = match tag {
            Some(tag) => self.index.clone().annotate(TAG, tag),
            None => self.index.clone(),
        };
        let place = PathBuf::from(format!("the index {}", self.index.digest));
        join(self.stores, self.documents(), vec![named], place)
    }

    fn documents(&self) -> Documents {
        vec![(self.index.digest.clone(), self.bytes.to_vec())]
    }
}

const TAG: &str = "org.opencontainers.image.ref.name";

/// Writes a layout or an archive. Its bytes.
fn write(
    whole: &Whole<'_>,
    to: &Subject,
    threads: NonZeroUsize,
    remote: &Remote<'_>,
) -> Result<u64, Failure> {
    if let (Some(tag), Transport::Oci | Transport::Bare) = (to.tag(), to.transport()) {
        let open = || Ok((whole.stores.to_vec(), whole.documents(), whole.index.clone()));
        return Ok(pull::add_to_layout(to.path(), tag, remote, open)?.bytes);
    }
    let store = whole.store(to.tag())?;
    let digest: &Digest = &whole.index.digest;
    let wanted = Wanted { tag: None, digest: Some(digest), platform: None };
    if to.transport() == Transport::OciArchive {
        let content = Content::oci(&store, wanted, remote.watch)?;
        let path = Subject::bare(to.path());
        return Ok(export::archive(&store, content, &to.to_string(), &path, threads)?.size);
    }
    Ok(pull::write_layout(to.path(), remote, || Ok((store, wanted)))?.bytes)
}
