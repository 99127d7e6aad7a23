//! What refers to a manifest, as it says itself, and the lists that stand in for the interface of referrers.
//!
//! Whoever may push can list anything, and give any manifest the tag of a list: neither makes it go.

use std::collections::BTreeMap;

use dmoci_layers::Digest;

use crate::diagnostic::Failure;
use crate::limits;
use crate::oci::index::Index;
use crate::oci::json;
use crate::oci::media_type::Kind;
use crate::oci::reference::referrers_tag;
use crate::store::registry::{Document, Named, RegistryError, Repository, parallel};

/// What refers to a manifest, and to that in turn.
#[derive(Default)]
pub(super) struct Referrers {
    /// What is referred to before what refers to it.
    pub(super) manifests: Vec<Digest>,
    /// The lists of what refers to each of them, where there are any and nothing else is in them.
    pub(super) lists: BTreeMap<Digest, List>,
    /// What is listed and refers to something else, or cannot be read.
    pub(super) notes: Vec<String>,
}

/// An index under the tag that stands in for the interface.
pub(super) struct List {
    pub(super) tag: String,
    pub(super) digest: Digest,
    /// It lists nothing.
    pub(super) is_empty: bool,
}

/// How many manifests are named in one note.
const NAMED: usize = 3;

impl Referrers {
    /// Finds all of it. Nothing is believed but what a manifest with the right digest says.
    pub(super) fn of(repository: &Repository<'_>, digest: &Digest) -> Result<Referrers, Failure> {
        let mut all = Referrers::default();
        let mut level = vec![digest.clone()];
        for _ in 0..=limits::REFERRER_DEPTH {
            let mut next = Vec::new();
            for about in &level {
                next.extend(all.about(repository, about)?);
            }
            if next.is_empty() {
                break;
            }
            all.manifests.extend(next.iter().cloned());
            level = next;
        }
        Ok(all)
    }

    /// What refers to this one itself.
    fn about(&mut self, repository: &Repository<'_>, about: &Digest) -> Result<Vec<Digest>, Failure> {
        let found = self.readable(repository.referrers(about))?.unwrap_or_default();
        let mut listed: Vec<Digest> = found.into_iter().map(|one| one.digest).collect();
        let tag = referrers_tag(about);
        let action = format!("list what refers to {about} in");
        let document = self.readable(repository.find(&tag, &action))?.flatten();
        let index = document.as_ref().and_then(index);
        if document.is_some() && index.is_none() {
            self.notes.push(format!(
                "the tag {tag} of {} names something else than a list of what refers to {about}: it stays",
                repository.name()
            ));
        }
        let own: Vec<Digest> =
            index.iter().flat_map(|index| &index.manifests).map(|one| one.digest.clone()).collect();
        for one in &own {
            if !listed.contains(one) {
                listed.push(one.clone());
            }
        }
        let says = parallel(&listed, |one| refers(repository, one, about))?;
        let is = |wanted: Option<bool>| {
            let pairs = listed.iter().zip(&says);
            pairs.filter(move |(_, says)| **says == wanted).map(|(one, _)| one)
        };
        let others: Vec<&Digest> = is(Some(false)).collect();
        if !others.is_empty() {
            let mut names =
                others.iter().take(NAMED).map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
            if others.len() > NAMED {
                names += &format!(" and {} more", others.len() - NAMED);
            }
            self.notes.push(format!(
                "listed as referring to {about}, which its own subject does not name, and stays: {names}"
            ));
        }
        let pure = own.iter().all(|one| !others.contains(&one));
        if let (Some(document), Some(_), true) = (document, index, pure) {
            let list = List { tag, digest: document.descriptor.digest, is_empty: own.is_empty() };
            self.lists.insert(about.clone(), list);
        }
        Ok(is(Some(true)).cloned().collect())
    }

    /// Nothing, and a note, where the registry has something that is no list.
    fn readable<T>(&mut self, found: Result<T, RegistryError>) -> Result<Option<T>, Failure> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error @ RegistryError::Document { .. }) => {
                self.notes.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A list: it refers to nothing itself.
fn index(document: &Document) -> Option<Index> {
    let value = json::parse(&document.bytes).ok().filter(|_| document.descriptor.kind() == Kind::Index)?;
    Index::read(&value, &mut Vec::new()).filter(|_| value.get("subject").is_none())
}

/// Whether a manifest refers to another one; nothing when it is not there.
fn refers(repository: &Repository<'_>, one: &Digest, about: &Digest) -> Result<Option<bool>, RegistryError> {
    match repository.manifest(Named::Digest(one)) {
        Ok(document) => Ok(Some(subject(&document.bytes).as_ref() == Some(about))),
        Err(RegistryError::Missing { .. }) => Ok(None),
        Err(RegistryError::Document { .. }) => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// What a manifest refers to.
pub(super) fn subject(bytes: &[u8]) -> Option<Digest> {
    json::parse(bytes).ok()?["subject"]["digest"].as_str()?.parse().ok()
}
