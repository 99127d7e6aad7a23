//! `dmoci delete`: tags and manifests of registries.

mod referrers;

use dmoci_layers::Digest;

use super::remote::{Remote, Told};
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::fetch::Access;
use crate::oci::reference::is_referrers_tag;
use crate::store::Subject;
use crate::store::registry::{Named, Repository};
use referrers::{List, Referrers, subject};

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
    /// `tag`, `manifest`, `referrer`, or `list` for one that stands in for the interface of referrers.
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
        remote.online(subject)?;
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
    Manifest {
        digest: Digest,
        /// What it refers to, when that stays.
        about: Option<Digest>,
    },
}

/// The tags of a repository, each with what it names.
struct Names {
    of: Vec<(String, Digest)>,
    /// There is none beside these.
    all: bool,
}

impl Names {
    fn of<'n>(&'n self, digest: &'n Digest) -> impl Iterator<Item = &'n str> {
        self.of.iter().filter(move |(_, own)| own == digest).map(|(tag, _)| tag.as_str())
    }
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
        let all = Referrers::of(&self.repository, digest)?;
        let names = self.names()?;
        self.notes.extend(all.notes);
        let count = all.manifests.len();
        if !referrers && count > 0 {
            self.notes
                .push(format!("{count} manifests that refer to {digest} stay; --referrers deletes them too"));
        }
        let going: Vec<&Digest> =
            all.manifests.iter().rev().filter(|_| referrers).chain(std::iter::once(digest)).collect();
        for one in &going {
            let is_root = *one == digest;
            let kind = if is_root { "manifest" } else { "referrer" };
            let mut gone: Vec<Gone> =
                names.of(one).map(|tag| self.gone("tag", format!(":{tag}"), one)).collect();
            gone.push(self.gone(kind, format!("@{one}"), one));
            let about = about.clone().filter(|_| is_root);
            self.steps.push(Step { what: What::Manifest { digest: (*one).clone(), about }, gone });
            match all.lists.get(*one) {
                Some(list) if (referrers || list.is_empty) && !going.contains(&&list.digest) => {
                    self.list(list, one, &names);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The list of what refers to a manifest that goes, when nothing else may be meant by it.
    fn list(&mut self, list: &List, about: &Digest, names: &Names) {
        let others: Vec<&str> = names.of(&list.digest).filter(|tag| *tag != list.tag).collect();
        let why = match (others.is_empty(), names.all) {
            (true, true) => {
                let gone = vec![self.gone("list", format!(":{}", list.tag), &list.digest)];
                let what = What::Manifest { digest: list.digest.clone(), about: None };
                self.steps.push(Step { what, gone });
                return;
            }
            (true, false) => "other tags may name it".to_owned(),
            (false, _) => format!("other tags name it: {}", others.join(", ")),
        };
        self.notes.push(format!("the list {} of what refers to {about} stays: {why}", list.digest));
    }

    /// The tags that are there, those of lists last.
    fn names(&mut self) -> Result<Names, Failure> {
        let Ok(mut tags) = self.repository.tags() else {
            self.notes.push(format!("the tags of {} cannot be listed", self.repository.name()));
            return Ok(Names { of: Vec::new(), all: false });
        };
        tags.sort_by_key(|tag| is_referrers_tag(tag));
        let more = tags.len().saturating_sub(LOOKED_AT);
        if more > 0 {
            self.notes.push(format!("{more} tags of {} were not looked at", self.repository.name()));
            tags.truncate(LOOKED_AT);
        }
        Ok(Names { of: self.repository.named(&tags)?, all: more == 0 })
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
                What::Manifest { digest, about } => {
                    to.remove(Named::Digest(digest))?;
                    if let Some(about) = about
                        && !to.lists_referrers(about)?
                    {
                        to.unlist_referrer(about, digest)?;
                    }
                }
            }
        }
        Ok(())
    }
}
