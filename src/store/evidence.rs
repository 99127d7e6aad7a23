//! What of a store is evidence about images, and no image: told by what it is, not by what it is called.
//!
//! Whoever can write into `index.json` can give an image the tag or the annotation of signatures. So these only say where to look.

use super::ImageStore;
use super::image::{Root, read};
use crate::limits;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{self, Kind};
use crate::oci::reference::is_evidence_tag;
use crate::oci::{Descriptor, json};

impl Root {
    /// True for what is named as lists of referrers are, and signatures as cosign stores them.
    fn claims_evidence(&self) -> bool {
        let kind = self.descriptor.annotations.get("kind").map(String::as_str);
        !self.tags.is_empty() && self.tags.iter().all(|tag| is_evidence_tag(tag))
            || matches!(kind, Some("dev.cosignproject.cosign/sigs" | "dev.cosignproject.cosign/atts"))
    }
}

impl ImageStore {
    /// True for a list of what refers to something, and for signatures as cosign stores them: not an image that anybody means who
    /// names none. What is only named so, or cannot be read, is none of these.
    pub fn is_evidence(&self, root: &Root) -> bool {
        let mut left = limits::DESCRIPTORS;
        root.claims_evidence() && self.holds_evidence(&root.descriptor, 0, &mut left).unwrap_or(false)
    }

    /// Whether all that a descriptor leads to is evidence; nothing when it cannot be read, or is too much.
    fn holds_evidence(&self, descriptor: &Descriptor, depth: usize, left: &mut usize) -> Option<bool> {
        *left = left.checked_sub(1)?;
        if depth > limits::INDEX_DEPTH {
            return None;
        }
        let bytes = self.read_json_blob(&descriptor.digest).ok()?;
        match descriptor.kind() {
            Kind::Index => {
                for below in read("", &bytes, Index::read).ok()?.manifests {
                    // A list may name what is not here, which nobody can run.
                    if self.blob_size(&below.digest).is_some()
                        && !self.holds_evidence(&below, depth + 1, left)?
                    {
                        return Some(false);
                    }
                }
                Some(true)
            }
            Kind::Manifest => {
                let manifest = read("", &bytes, Manifest::read).ok()?;
                // Docker's manifests know no artifacts: a configuration of any type is an image's.
                let artifact = descriptor.media_type == media_type::MANIFEST && manifest.is_about_another();
                Some(artifact || manifest.has_only_evidence() && self.holds_documents(&manifest))
            }
            _ => Some(false),
        }
    }

    /// Whether layers that are said to be documents are: there are tools that unpack a layer of any type beside an image's
    /// configuration.
    fn holds_documents(&self, manifest: &Manifest) -> bool {
        let document = |layer: &Descriptor| {
            let Ok(bytes) = self.read_json_blob(&layer.digest) else { return false };
            let text = || std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'));
            json::parse(&bytes).is_ok() || media_type::is_sbom(&layer.media_type) && text()
        };
        manifest.config.kind() != Kind::Config || manifest.layers.iter().all(document)
    }
}
