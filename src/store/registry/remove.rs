//! Deleting tags and manifests (distribution-spec 1.1, "Deleting Tags", "Deleting Manifests").

use dmoci_layers::Digest;

use super::{Named, RegistryError, Repository, list};
use crate::fetch::{Method, Payload};
use crate::limits;
use crate::oci::index::Index;
use crate::oci::reference::referrers_tag;
use crate::oci::{json, media_type};

impl Repository<'_> {
    /// Deletes a tag alone, or a manifest with all tags that name it. False when there is no such thing any more.
    pub fn remove(&self, named: Named<'_>) -> Result<bool, RegistryError> {
        let action = match named {
            Named::Tag(tag) => format!("delete the tag {tag} of"),
            Named::Digest(digest) => format!("delete the manifest {digest} of"),
        };
        let url = self.address(&format!("manifests/{named}"), &action)?;
        let reply = self.send(Method::Delete, &url, &[], Payload::None, true, &action)?;
        match reply.status {
            200..=204 => Ok(true),
            404 | 410 => match self.has_manifest(named)? {
                true => Err(self.refused(&reply, &action)),
                false => Ok(false),
            },
            400 | 405 | 501 => {
                let (site, refusal) = (self.site(&action), self.refusal(&reply));
                Err(RegistryError::NoDelete { site, refusal, tag: matches!(named, Named::Tag(_)) })
            }
            _ => Err(self.refused(&reply, &action)),
        }
    }

    /// True when the registry lists itself what refers to a manifest.
    pub fn lists_referrers(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let action = format!("list what refers to {digest} in");
        let reply = self.get(&format!("referrers/{digest}"), &[], limits::JSON_BYTES, &action)?;
        let header = reply.header("content-type").unwrap_or_default();
        match reply.status {
            200 => Ok(header.split(';').next().unwrap_or_default().trim() == media_type::INDEX),
            404 if self.is_own(&reply) => Ok(false),
            _ => Err(self.refused(&reply, &action)),
        }
    }

    /// Takes something out of the list that stands in for the interface of referrers.
    pub fn unlist_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<(), RegistryError> {
        let tag = referrers_tag(subject);
        let action = format!("take {referrer} out of what refers to {subject} in");
        let Ok(document) = self.look_up(Named::Tag(&tag), &action)? else { return Ok(()) };
        let value = json::parse(&document.bytes).unwrap_or_default();
        let Some(mut index) = Index::read(&value, &mut Vec::new()) else { return Ok(()) };
        let before = index.manifests.len();
        index.manifests.retain(|known| known.digest != *referrer);
        if index.manifests.len() == before {
            return Ok(());
        }
        self.put_manifest(Named::Tag(&tag), media_type::INDEX, &list(&index.manifests)).map(|_| ())
    }

    /// What each of these tags names; those that are gone by now, or name no manifest, are left out.
    pub fn named(&self, tags: &[String]) -> Result<Vec<(String, Digest)>, RegistryError> {
        let found = super::parallel(tags, |tag| {
            let action = format!("read the manifest {tag} of");
            match self.look_up(Named::Tag(tag), &action) {
                Ok(found) => Ok(found.ok().map(|document| (tag.clone(), document.descriptor.digest))),
                Err(RegistryError::Document { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}
