//! What refers to a manifest: signatures, SBOMs and other evidence (distribution-spec 1.1, "Listing Referrers").

use dmoci_layers::Digest;

use super::{Document, Named, RegistryError, Repository};
use crate::diagnostic::Diagnostic as _;
use crate::fetch::Method;
use crate::limits;
use crate::oci::index::Index;
use crate::oci::media_type;
use crate::oci::reference::referrers_tag;
use crate::oci::{Descriptor, Problem, Severity, json};

impl Repository<'_> {
    /// All that the registry lists as referring to this digest, of every type. A registry without the interface is asked for
    /// the tag that stands in for it; only one that does not have that either has none: whoever denies them is an error.
    ///
    /// A mirror is believed when it lists any. When it lists none, and the registry itself cannot be reached, there are none.
    pub fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let mut answered = false;
        for mirror in self.mirrors.of(self.fetcher, false) {
            match mirror.own_referrers(digest) {
                Ok(found) if found.is_empty() => answered = true,
                Ok(found) => return Ok(found),
                Err(error) => mirror.passed_over(&super::error::chain(&error)),
            }
        }
        match self.own_referrers(digest) {
            Err(error @ RegistryError::Fetch { .. }) if answered => {
                let why = super::error::chain(&error);
                self.fetcher
                    .pass_over(&self.name.to_string(), &format!("{why}; its mirrors list no referrers"));
                Ok(Vec::new())
            }
            found => found,
        }
    }

    /// What cosign's older layout has about this digest under a tag. As with referrers a mirror is believed when it has it, and when
    /// the registry itself cannot be reached: then the other value is false, and `alone` spares asking it again.
    pub(super) fn evidence(
        &self,
        digest: &Digest,
        tag: &str,
        alone: bool,
    ) -> Result<(Option<Document>, bool), RegistryError> {
        let action = format!("list what refers to {digest} in");
        let mut answered = false;
        for mirror in self.mirrors.of(self.fetcher, true) {
            match mirror.own_look_up(Named::Tag(tag), &action) {
                Ok(Ok(document)) => return Ok((Some(document), true)),
                Ok(Err(_)) => answered = true,
                Err(error) => mirror.passed_over(&super::error::chain(&error)),
            }
        }
        if alone {
            return Ok((None, false));
        }
        match self.own_look_up(Named::Tag(tag), &action) {
            Err(error @ RegistryError::Fetch { .. }) if answered => {
                let why = super::error::chain(&error);
                self.fetcher.pass_over(&self.name.to_string(), &format!("{why}; its mirrors have no {tag}"));
                Ok((None, false))
            }
            found => Ok((found?.ok(), true)),
        }
    }

    fn own_referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let action = format!("list what refers to {digest} in");
        let mut next = Some(self.address(&format!("referrers/{digest}"), &action)?);
        let accept = [("accept", media_type::INDEX.to_owned())];
        let mut found = Vec::new();
        for page in 0..limits::REGISTRY_PAGES {
            let Some(url) = next else { return Ok(found) };
            let reply = self.call(Method::Get, &url, &accept, limits::JSON_BYTES, &action)?;
            match reply.status {
                200 => {}
                404 if page == 0 && self.is_own(&reply) => return self.fallback(digest, &action),
                _ => return Err(self.refused(&reply, &action)),
            }
            // Some registries without the interface answer everything with a page for people.
            let header = reply.header("content-type").unwrap_or_default();
            if page == 0 && header.split(';').next().unwrap_or_default().trim() != media_type::INDEX {
                return self.fallback(digest, &action);
            }
            self.read(&reply.bytes, &action, &mut found)?;
            next = self.next_page(&reply, &action)?;
        }
        Err(self.unusable(&action, "E-REGISTRY-LIST", "the list does not end".into()))
    }

    /// "Referrers Tag Schema": an index under a tag that is made of the digest.
    fn fallback(&self, digest: &Digest, action: &str) -> Result<Vec<Descriptor>, RegistryError> {
        let mut found = Vec::new();
        if let Ok(document) = self.own_look_up(Named::Tag(&referrers_tag(digest)), action)? {
            self.read(&document.bytes, action, &mut found)?;
        }
        Ok(found)
    }

    fn read(&self, bytes: &[u8], action: &str, found: &mut Vec<Descriptor>) -> Result<(), RegistryError> {
        let value =
            json::parse(bytes).map_err(|error| self.unusable(action, error.code(), error.to_string()))?;
        let mut problems = Vec::new();
        let index = Index::read(&value, &mut problems);
        let error = |problem: &&Problem| problem.severity == Severity::Error;
        let (Some(index), None) = (index, problems.iter().find(error)) else {
            let why = problems.first().map_or("it is no index".to_owned(), |problem| problem.message.clone());
            return Err(self.unusable(action, "E-REGISTRY-LIST", why));
        };
        for descriptor in index.manifests {
            if !found.iter().any(|known| known.digest == descriptor.digest) {
                found.push(descriptor);
            }
        }
        match found.len() > limits::DESCRIPTORS {
            true => Err(self.unusable(action, "E-GRAPH", "there are too many".into())),
            false => Ok(()),
        }
    }
}
