//! `dmoci delete`: tags and manifests of registries.

use std::collections::BTreeSet;

use dmoci_layers::Digest;

use super::remote::{Remote, Told};
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::fetch::Access;
use crate::limits;
use crate::oci::json;
use crate::oci::reference::{is_referrers_tag, referrers_tag};
use crate::store::Subject;
use crate::store::registry::{Named, Repository};

/// What to delete.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tags or digests in registries.
    pub subjects: Vec<Subject>,
    /// What refers to a manifest goes too.
    pub referrers: bool,
    /// Nothing is deleted.
    pub dry_run: bool,
}

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// `tag`, `manifest` or `referrer`.
    pub kind: &'static str,
    /// `docker://…`
    pub name: String,
    /// The digest of the manifest.
    pub digest: Digest,
}

/// What goes, and what is to be said of it.
#[derive(Clone, Debug, Default)]
pub struct Deleted {
    /// In the order in which it goes.
    pub gone: Vec<Gone>,
    /// What stays, or could not be found out.
    pub notes: Vec<String>,
}

/// Why nothing is deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// It is in no registry.
    #[error("{0} is in no registry")]
    NoRegistry(String),
    /// Tag and digest are both said.
    #[error("{0} names a tag and a digest; one of them can be deleted")]
    Both(String),
    /// Referrers are those of a manifest.
    #[error("{0} names a tag, and what refers to the image stays with the image")]
    Referrers(String),
}

impl Diagnostic for DeleteError {
    fn code(&self) -> &'static str {
        "E-DELETE"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            DeleteError::NoRegistry(_) => "write docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…".into(),
            DeleteError::Both(_) => {
                "name the tag alone, to delete that; or the digest alone, to delete the manifest with all its tags"
                    .into()
            }
            DeleteError::Referrers(_) => "name the digest of the image, or leave out --referrers".into(),
        })
    }
}

/// Deletes. All is looked up before anything goes.
pub fn delete(request: &Request, remote: &Remote<'_>) -> Result<Deleted, Failure> {
    for subject in &request.subjects {
        let text = || subject.to_string();
        match (subject.name(), subject.tag(), subject.digest()) {
            (None, ..) => return Err(DeleteError::NoRegistry(text()).into()),
            (_, Some(_), Some(_)) => return Err(DeleteError::Both(text()).into()),
            (_, Some(_), None) if request.referrers => return Err(DeleteError::Referrers(text()).into()),
            _ => {}
        }
    }
    let listener = Told(remote.watch);
    let fetcher = remote.fetcher(&listener)?;
    let mut plans = Vec::new();
    for subject in &request.subjects {
        let Some(name) = subject.name() else { continue };
        let repository = Repository::reach(&fetcher, name, Access::Delete)?;
        let mut plan = Plan { repository, steps: Vec::new(), notes: Vec::new() };
        match (subject.tag(), subject.digest()) {
            (_, Some(digest)) => plan.manifest(digest, request.referrers)?,
            (tag, None) => plan.tag(tag.unwrap_or("latest"))?,
        }
        plans.push(plan);
    }
    let mut deleted = Deleted::default();
    for plan in plans {
        if !request.dry_run {
            plan.run()?;
        }
        deleted.gone.extend(plan.steps.into_iter().flat_map(|step| step.gone));
        deleted.notes.extend(plan.notes);
    }
    Ok(deleted)
}

/// What is done in one repository.
struct Plan<'a> {
    repository: Repository<'a>,
    steps: Vec<Step>,
    notes: Vec<String>,
}

struct Step {
    what: What,
    gone: Vec<Gone>,
}

enum What {
    Tag(String),
    /// A manifest.
    Manifest {
        digest: Digest,
        /// What it refers to, when that stays.
        about: Option<Digest>,
        /// All that refers to it went before it.
        alone: bool,
    },
}

/// How many tags are looked at for those that go with a manifest.
const LOOKED_AT: usize = 1000;

impl Plan<'_> {
    fn tag(&mut self, tag: &str) -> Result<(), Failure> {
        let digest = self.repository.manifest(Named::Tag(tag))?.descriptor.digest;
        let gone = self.gone("tag", format!(":{tag}"), &digest);
        self.steps.push(Step { what: What::Tag(tag.to_owned()), gone: vec![gone] });
        Ok(())
    }

    fn manifest(&mut self, digest: &Digest, referrers: bool) -> Result<(), Failure> {
        let about = subject(&self.repository.manifest(Named::Digest(digest))?.bytes);
        let mut gone = Vec::new();
        match self.repository.tags() {
            Ok(mut tags) => {
                tags.retain(|tag| !is_referrers_tag(tag));
                if tags.len() > LOOKED_AT {
                    let count = tags.len() - LOOKED_AT;
                    self.notes.push(format!("{count} tags of {} were not looked at", self.repository.name()));
                    tags.truncate(LOOKED_AT);
                }
                for tag in self.repository.tags_of(digest, &tags)? {
                    gone.push(self.gone("tag", format!(":{tag}"), digest));
                }
            }
            Err(_) => self.notes.push(format!("the tags of {} cannot be listed", self.repository.name())),
        }
        gone.push(self.gone("manifest", format!("@{digest}"), digest));
        let all = self.referrers(digest)?;
        match referrers {
            true => {
                for referrer in all.into_iter().rev() {
                    let gone = self.gone("referrer", format!("@{referrer}"), &referrer);
                    let what = What::Manifest { digest: referrer, about: None, alone: true };
                    self.steps.push(Step { what, gone: vec![gone] });
                }
            }
            false if !all.is_empty() => {
                let count = all.len();
                self.notes.push(format!(
                    "{count} manifests that refer to {digest} stay; --referrers deletes them too"
                ));
            }
            false => {}
        }
        let what = What::Manifest { digest: digest.clone(), about, alone: referrers };
        self.steps.push(Step { what, gone });
        Ok(())
    }

    /// All that refers to a manifest, and to that in turn; what is referred to first.
    fn referrers(&self, digest: &Digest) -> Result<Vec<Digest>, Failure> {
        let (mut found, mut known) = (Vec::new(), BTreeSet::from([digest.clone()]));
        let mut level = vec![digest.clone()];
        for _ in 0..=limits::REFERRER_DEPTH {
            let mut next = Vec::new();
            for about in level {
                for referrer in self.repository.referrers(&about)? {
                    if known.insert(referrer.digest.clone()) {
                        found.push(referrer.digest.clone());
                        next.push(referrer.digest);
                    }
                }
            }
            level = next;
        }
        Ok(found)
    }

    fn gone(&self, kind: &'static str, rest: String, digest: &Digest) -> Gone {
        Gone { kind, name: format!("docker://{}{rest}", self.repository.name()), digest: digest.clone() }
    }

    /// What was looked up may be gone by now, which is as good.
    fn run(&self) -> Result<(), Failure> {
        let to = &self.repository;
        for step in &self.steps {
            match &step.what {
                What::Tag(tag) => {
                    to.remove(Named::Tag(tag))?;
                }
                What::Manifest { digest, about, alone } => {
                    to.remove(Named::Digest(digest))?;
                    if let Some(about) = about
                        && !to.lists_referrers(about)?
                    {
                        to.unlist_referrer(about, digest)?;
                    }
                    self.stand_in(digest, *alone)?;
                }
            }
        }
        Ok(())
    }

    /// The list of what refers to a manifest that is gone goes too, when it lists nothing any more.
    fn stand_in(&self, digest: &Digest, alone: bool) -> Result<(), Failure> {
        let to = &self.repository;
        let Ok(list) = to.manifest(Named::Tag(&referrers_tag(digest))) else { return Ok(()) };
        let value = json::parse(&list.bytes).unwrap_or_default();
        if alone || value["manifests"].as_array().is_some_and(Vec::is_empty) {
            to.remove(Named::Digest(&list.descriptor.digest))?;
        }
        Ok(())
    }
}

/// What a manifest refers to.
fn subject(bytes: &[u8]) -> Option<Digest> {
    json::parse(bytes).ok()?["subject"]["digest"].as_str()?.parse().ok()
}
