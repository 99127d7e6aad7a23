//! Image indexes (OCI image-spec 1.1, `image-index.md`; Docker's manifest lists alike).

use std::collections::BTreeMap;

use serde_json::Value;

use super::descriptor::Descriptor;
use super::manifest::{read_descriptors, read_media_type, read_subject};
use super::media_type::{self, Kind};
use super::problem::Problem;
use super::read::Node;

/// An index: `index.json` of a layout, or a blob that joins the manifests of several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The index's own statement of its type.
    pub media_type: Option<String>,
    /// Type of the artifact, when it is one.
    pub artifact_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    pub subject: Option<Descriptor>,
    /// Free texts.
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Reads and checks an index. `None` when its list cannot be used.
    pub fn read(value: &Value, problems: &mut Vec<Problem>) -> Option<Index> {
        let mut node = Node::new(value, "", problems)?;
        node.known(&[
            "schemaVersion",
            "mediaType",
            "artifactType",
            "manifests",
            "subject",
            "annotations",
            "config",
            "layers",
        ]);
        node.schema_version();
        let media_type = read_media_type(&mut node, Kind::Index, media_type::INDEX);
        for name in ["config", "layers", "fsLayers"] {
            if node.has(name) {
                let at = node.at(name);
                let text = "an index that is another kind of document too: readers disagree about what it is (CVE-2021-41190)";
                node.problems.push(Problem::error("E-OCI-AMBIGUOUS", &at, text).but("manifests only", name));
            }
        }
        let artifact_type = node.media_type("artifactType");
        node.required("manifests");
        let manifests = read_descriptors(&mut node, "manifests");
        let subject = read_subject(&mut node);
        let annotations = node.map("annotations");
        for (i, descriptor) in manifests.iter().flatten().enumerate() {
            if matches!(descriptor.kind(), Kind::Config | Kind::Layer(_)) {
                let at = format!("/manifests/{i}/mediaType");
                let problem = Problem::error("E-OCI-MEDIATYPE", &at, "not the type of a manifest");
                node.problems.push(problem.but(media_type::MANIFEST, descriptor.media_type.clone()));
            }
        }
        Some(Index { media_type, artifact_type, manifests: manifests?, subject, annotations })
    }
}
