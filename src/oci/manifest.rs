//! Image manifests (OCI image-spec 1.1, `manifest.md`; Docker's schema 2 alike).

use std::collections::BTreeMap;

use serde_json::Value;

use super::descriptor::Descriptor;
use super::media_type::{self, Kind};
use super::problem::{Problem, shown};
use super::read::Node;

/// A manifest, as far as this program uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The manifest's own statement of its type.
    pub media_type: Option<String>,
    /// Type of the artifact, when it is one.
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// Free texts.
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads and checks a manifest. `None` when a part that everything else hangs on cannot be used.
    pub fn read(value: &Value, problems: &mut Vec<Problem>) -> Option<Manifest> {
        let mut node = Node::new(value, "", problems)?;
        node.known(&[
            "schemaVersion",
            "mediaType",
            "artifactType",
            "config",
            "layers",
            "subject",
            "annotations",
            "manifests",
        ]);
        node.schema_version();
        let media_type = read_media_type(&mut node, Kind::Manifest, media_type::MANIFEST);
        for name in ["manifests", "fsLayers"] {
            if node.has(name) {
                let at = node.at(name);
                let text = "a manifest that is another kind of document too: readers disagree about what it is (CVE-2021-41190)";
                node.problems
                    .push(Problem::error("E-OCI-AMBIGUOUS", &at, text).but("config and layers only", name));
            }
        }
        let artifact_type = node.media_type("artifactType");
        let config =
            node.required("config").and_then(|value| Descriptor::read(value, "/config", node.problems));
        node.required("layers");
        let layers = read_descriptors(&mut node, "layers");
        let subject = read_subject(&mut node);
        let annotations = node.map("annotations");
        let manifest =
            Manifest { media_type, artifact_type, config: config?, layers: layers?, subject, annotations };
        manifest.check(node.problems);
        Some(manifest)
    }

    /// True when the configuration is an image's and layers are file systems. cosign's older signatures have the one and not the other.
    pub fn is_image(&self) -> bool {
        self.config.kind() == Kind::Config && !self.is_legacy_evidence()
    }

    /// True for signatures and attestations as cosign stored them before bundles.
    pub fn is_legacy_evidence(&self) -> bool {
        let evidence = |layer: &Descriptor| {
            matches!(&*layer.media_type, media_type::COSIGN_SIGNATURE | media_type::DSSE_ENVELOPE)
        };
        !self.layers.is_empty() && self.layers.iter().all(evidence)
    }

    /// True when all layers are of types for signatures, attestations and SBOMs.
    pub fn has_only_evidence(&self) -> bool {
        let evidence = |layer: &Descriptor| media_type::is_evidence(&layer.media_type);
        !self.layers.is_empty() && self.layers.iter().all(evidence)
    }

    /// True for an artifact that says what it is about: it has no image's configuration.
    pub fn is_about_another(&self) -> bool {
        self.subject.is_some() && self.config.kind() != Kind::Config
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        if self.config.kind() == Kind::Empty && self.artifact_type.as_deref().is_none_or(str::is_empty) {
            let text = "an artifact with an empty configuration must say its artifactType";
            problems.push(
                Problem::error("E-OCI-ARTIFACT-TYPE", "/artifactType", text).but("a media type", "nothing"),
            );
        }
        let wrong_config = matches!(self.config.kind(), Kind::Manifest | Kind::Index | Kind::Layer(_));
        if wrong_config {
            let problem =
                Problem::error("E-OCI-MEDIATYPE", "/config/mediaType", "not the type of a configuration");
            problems.push(problem.but(media_type::CONFIG, self.config.media_type.clone()));
        }
        if self.layers.is_empty() {
            problems.push(Problem::warning(
                "E-OCI-LAYERS",
                "/layers",
                "no layer at all, which some tools refuse",
            ));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let at = format!("/layers/{i}/mediaType");
            match layer.kind() {
                Kind::Manifest | Kind::Index | Kind::Config => {
                    let problem = Problem::error("E-OCI-MEDIATYPE", &at, "not the type of a layer");
                    problems.push(problem.but("a layer", layer.media_type.clone()));
                }
                Kind::Other | Kind::Empty if self.is_image() => {
                    let problem =
                        Problem::warning("E-OCI-LAYER-TYPE", &at, "an image with a layer of an unknown type");
                    problems.push(problem.but("a tar layer", layer.media_type.clone()));
                }
                _ if media_type::is_foreign(&layer.media_type) => {
                    problems.push(Problem::warning(
                        "E-OCI-FOREIGN",
                        &at,
                        "a non-distributable layer, which is deprecated",
                    ));
                }
                _ => {}
            }
        }
    }
}

/// `mediaType` of a manifest or index: absent, or of that kind.
pub(super) fn read_media_type(node: &mut Node<'_, '_>, kind: Kind, expected: &str) -> Option<String> {
    if !node.has("mediaType") {
        let at = node.at("mediaType");
        node.problems.push(
            Problem::note("E-OCI-MEDIATYPE", &at, "the document does not say its own media type")
                .but(expected, ""),
        );
    }
    let text = node.string("mediaType")?;
    if media_type::kind(&text) != kind {
        let at = node.at("mediaType");
        let problem = Problem::error(
            "E-OCI-MEDIATYPE",
            &at,
            "the document says another media type than its place needs",
        );
        node.problems.push(problem.but(expected, shown(&text.as_str().into())));
    }
    Some(text)
}

/// An array of descriptors; `None` when it is missing or one of them cannot be used.
pub(super) fn read_descriptors(node: &mut Node<'_, '_>, name: &str) -> Option<Vec<Descriptor>> {
    let items = node.array(name)?;
    let at = node.at(name);
    let read: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| Descriptor::read(item, &format!("{at}/{i}"), node.problems))
        .collect();
    read.into_iter().collect()
}

/// `subject`: a descriptor of a manifest or index.
pub(super) fn read_subject(node: &mut Node<'_, '_>) -> Option<Descriptor> {
    let value = node.get("subject")?;
    let at = node.at("subject");
    let subject = Descriptor::read(value, &at, node.problems)?;
    if !matches!(subject.kind(), Kind::Manifest | Kind::Index) {
        let problem =
            Problem::error("E-OCI-SUBJECT", &format!("{at}/mediaType"), "the subject is not a manifest");
        node.problems.push(problem.but(media_type::MANIFEST, subject.media_type.clone()));
    }
    Some(subject)
}
