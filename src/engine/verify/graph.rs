//! From `index.json` to every blob: what each is for, and whether the documents on the way are right.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::{Algorithm, Digest, Hasher};
use serde_json::Value;

use super::cut::Said;
use super::report::{CheckId, Findings, ImageSummary};
use crate::diagnostic::Diagnostic as _;
use crate::limits;
use crate::oci::config::Config;
use crate::oci::index::{Index, RULES_ANNOTATION, SPLICE};
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{self, Kind, SIGSTORE_BUNDLES};
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, PlatformFields, Problem, json};
use crate::store::image::Root;
use crate::store::{Form, ImageStore};

/// How many uses of one blob are told apart.
const USES: usize = 32;

/// A blob that documents name.
pub(super) struct Node {
    /// What it is for, in words: `layer 2 'app' of linux/amd64`. Several when it is used several times.
    pub(super) uses: Vec<String>,
    /// What it should be.
    pub(super) kind: Kind,
    /// The digests that its content before compression should have, each with who says so.
    pub(super) diff_ids: Vec<(Digest, String)>,
    /// What is said of its cut, when it is a layer.
    pub(super) said: Said,
    /// Its bytes have been hashed and have its digest.
    pub(super) proven: bool,
    /// It is known to be missing, damaged or of another size: nothing more is to be said of it.
    pub(super) given_up: bool,
}

/// An image of one platform, for the checks that need its parts.
pub(super) struct ImageParts {
    pub(super) manifest: Digest,
    pub(super) config: Digest,
    pub(super) layers: Vec<Digest>,
    pub(super) version: Option<String>,
}

/// Everything that `index.json` leads to.
pub(super) struct Graph<'a> {
    store: &'a ImageStore,
    pub(super) nodes: BTreeMap<Digest, Node>,
    pub(super) images: Vec<ImageSummary>,
    pub(super) parts: Vec<ImageParts>,
    /// Manifests that hold signatures and other evidence, with their digests.
    pub(super) evidence: Vec<(Digest, Manifest)>,
    /// Descriptors of `index.json`.
    pub(super) roots: Vec<Descriptor>,
    /// What each index lists.
    pub(super) children: BTreeMap<Digest, BTreeSet<Digest>>,
    /// dmoci wrote it, as far as its marks say.
    pub(super) marked: bool,
    /// `index.json` carries dmoci's mark anywhere.
    ours: bool,
    descriptors: usize,
}

/// Where a descriptor stands.
#[derive(Clone)]
struct Place<'p> {
    depth: usize,
    /// The document that holds it, for people.
    parent: &'p str,
    pointer: String,
    /// Digest of that document, when it is a blob.
    index: Option<&'p Digest>,
}

impl<'a> Graph<'a> {
    /// Walks all documents.
    pub(super) fn walk(store: &'a ImageStore, findings: &mut Findings) -> Graph<'a> {
        let mut graph = Graph {
            store,
            nodes: BTreeMap::new(),
            images: Vec::new(),
            parts: Vec::new(),
            evidence: Vec::new(),
            roots: Vec::new(),
            children: BTreeMap::new(),
            marked: false,
            ours: store.index_bytes().windows(10).any(|window| window == b"dev.dmoci."),
            descriptors: 0,
        };
        let bytes = store.index_bytes();
        let name = "index.json";
        if let Some(index) = read(name, bytes, Index::read, findings) {
            if !matches!(store.form(), Form::LegacyArchive | Form::Registry)
                && json::canonical(&index.1) != bytes
            {
                findings.not_canonical("index.json is not canonical JSON");
            }
            let index = index.0;
            for (i, descriptor) in index.manifests.iter().enumerate() {
                let pointer = format!("/manifests/{i}");
                let place = Place { depth: 0, parent: name, pointer, index: None };
                graph.visit(descriptor, place, findings);
            }
            if index.manifests.is_empty() {
                let problem = Problem::error("E-NO-IMAGE", "/manifests", "it lists no image");
                findings.add(CheckId::Documents, name, problem);
            } else if graph.parts.is_empty() && !findings.has_errors() {
                let problem =
                    Problem::error("E-NO-IMAGE", "/manifests", "nothing that it leads to is an image");
                findings.add(CheckId::Documents, name, problem);
            }
            graph.roots = index.manifests;
        }
        graph
    }

    /// The blob and its place in the image.
    pub(super) fn label(&self, digest: &Digest) -> String {
        let uses = self.nodes.get(digest).map(|node| node.uses.as_slice()).unwrap_or_default();
        match uses {
            [] => format!("blob {digest}, which nothing names"),
            [one] => format!("blob {digest} = {one}"),
            [one, two] => format!("blob {digest} = {one} = {two}"),
            [one, rest @ ..] => format!("blob {digest} = {one} and {} more uses", rest.len()),
        }
    }

    /// These manifests and indexes with all manifests and indexes below them.
    pub(super) fn closure<'d>(&self, start: impl IntoIterator<Item = &'d Digest>) -> BTreeSet<Digest> {
        let mut todo: Vec<Digest> = start.into_iter().cloned().collect();
        let mut closure = BTreeSet::new();
        while let Some(digest) = todo.pop() {
            if closure.insert(digest.clone()) {
                todo.extend(self.children.get(&digest).into_iter().flatten().cloned());
            }
        }
        closure
    }

    /// Follows a descriptor of an index.
    fn visit(&mut self, descriptor: &Descriptor, place: Place<'_>, findings: &mut Findings) {
        let tag = descriptor.annotations.get("org.opencontainers.image.ref.name");
        let tag = tag.filter(|_| place.depth == 0).map(|tag| format!(" {tag:?}")).unwrap_or_default();
        let of = descriptor.platform.as_ref().map(|platform| format!(" of {platform}")).unwrap_or_default();
        let what = match descriptor.kind() {
            Kind::Index => format!("index{tag}"),
            Kind::Manifest => format!("manifest{tag}{of}"),
            _ => format!("content of type {}{of}", descriptor.media_type),
        };
        let here = format!("{} at {}", place.parent, place.pointer);
        self.descriptors += 1;
        if self.descriptors > limits::DESCRIPTORS || place.depth > limits::INDEX_DEPTH {
            if self.descriptors <= limits::DESCRIPTORS + 1 {
                let text =
                    "indexes nest too deep or list too many descriptors; what lies below is not followed";
                findings.add(CheckId::Documents, &here, Problem::error("E-GRAPH", "", text));
            }
            return;
        }
        let optional = place.depth > 0 && self.store.blob_size(&descriptor.digest).is_none();
        if optional && !self.ours {
            let text = format!("the {what} is not here, so it is not covered");
            findings.add(CheckId::Documents, &here, Problem::warning("E-SPARSE", "", text));
            return;
        }
        if let Some(index) = place.index {
            self.children.entry(index.clone()).or_default().insert(descriptor.digest.clone());
        }
        let again = self.register(descriptor, &what, None, findings);
        if again || self.nodes.get(&descriptor.digest).is_some_and(|node| node.given_up) {
            return;
        }
        match descriptor.kind() {
            Kind::Index => self.index(descriptor, &place, findings),
            Kind::Manifest => self.manifest(descriptor, findings),
            _ => {}
        }
    }

    fn index(&mut self, descriptor: &Descriptor, place: &Place<'_>, findings: &mut Findings) {
        let Some((index, label)) = self.document(descriptor, Index::read, findings) else { return };
        self.own_type(descriptor, index.media_type.as_deref(), &label, findings);
        let list = place.depth == 0 && self.store.is_evidence(&Root::of(descriptor.clone()));
        if !list {
            self.rules(index.annotations.get(RULES_ANNOTATION), &label, findings);
        }
        for (i, below) in index.manifests.iter().enumerate() {
            let pointer = format!("/manifests/{i}");
            let place =
                Place { depth: place.depth + 1, parent: &label, pointer, index: Some(&descriptor.digest) };
            self.visit(below, place, findings);
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor, findings: &mut Findings) {
        let Some((manifest, label)) = self.document(descriptor, Manifest::read, findings) else { return };
        self.own_type(descriptor, manifest.media_type.as_deref(), &label, findings);
        let bundles = manifest.layers.iter().any(|layer| layer.media_type.starts_with(SIGSTORE_BUNDLES));
        let signatures = bundles || manifest.is_legacy_evidence();
        // A signature among the layers makes an image nothing else.
        let evidence = signatures && manifest.has_only_evidence();
        if !evidence {
            self.rules(manifest.annotations.get(RULES_ANNOTATION), &label, findings);
        }
        if manifest.subject.as_ref().is_some_and(|subject| subject.digest == descriptor.digest) {
            let problem = Problem::error("E-OCI-SUBJECT", "/subject", "a manifest whose subject is itself");
            findings.add(CheckId::Documents, &label, problem);
        }
        let said = descriptor.platform.as_ref().map(ToString::to_string);
        let said = said.or_else(|| self.likely_platform(&manifest.config.digest));
        let of = said.unwrap_or_else(|| format!("manifest {}", descriptor.digest.short()));
        self.register(&manifest.config, &format!("config of {of}"), None, findings);
        let config = match manifest.is_image() {
            true => self.document(&manifest.config, Config::read, findings),
            false => None,
        };
        if let Some((config, label)) = &config {
            platforms(descriptor.platform.as_ref(), &config.platform, label, findings);
            if config.diff_ids.len() != manifest.layers.len() {
                let text = "the configuration and the manifest list different numbers of layers";
                let problem = Problem::error("E-DIFFID-COUNT", "/rootfs/diff_ids", text);
                let problem =
                    problem.but(manifest.layers.len().to_string(), config.diff_ids.len().to_string());
                findings.add(CheckId::Layers, label, problem);
            }
        }
        let config = config.map(|(config, _)| config);
        let names = config.as_ref().map(Config::layer_names).unwrap_or_default();
        for (i, layer) in manifest.layers.iter().enumerate() {
            let name = names.get(i).copied().flatten().map(|name| format!(" '{}'", super::tree::shown(name)));
            let name = name.unwrap_or_default();
            let what = format!("layer {}{name} of {of}", i + 1);
            let diff_id = config.as_ref().and_then(|config| config.diff_ids.get(i)).cloned();
            self.register(layer, &what, diff_id, findings);
            self.layer_rules(layer, &what, findings);
        }
        let version = manifest.annotations.get("org.opencontainers.image.version").cloned();
        let is_image = manifest.is_image();
        let layers = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        let (config, count) = (manifest.config.digest.clone(), manifest.layers.len());
        if signatures {
            self.evidence.push((descriptor.digest.clone(), manifest));
        }
        if evidence {
            return;
        }
        self.parts.push(ImageParts {
            manifest: descriptor.digest.clone(),
            config: config.clone(),
            layers,
            version: version.clone(),
        });
        if is_image {
            self.images.push(ImageSummary {
                manifest: descriptor.digest.to_string(),
                config: config.to_string(),
                platform: of,
                layers: count,
                version,
            });
        }
    }

    /// What a configuration says it is for, before anything of it is checked: only to name places.
    fn likely_platform(&self, config: &Digest) -> Option<String> {
        let value = json::parse(&self.store.read_unverified(config).ok()?).ok()?;
        PlatformFields::read(&value, "", &mut Vec::new())
            .map(|platform| super::tree::shown(&platform.to_string()))
    }

    /// Notes one use of a blob; true when it was known already.
    fn register(
        &mut self,
        descriptor: &Descriptor,
        what: &str,
        diff_id: Option<Digest>,
        findings: &mut Findings,
    ) -> bool {
        let known = self.nodes.contains_key(&descriptor.digest);
        let node = self.nodes.entry(descriptor.digest.clone()).or_insert_with(|| Node {
            uses: Vec::new(),
            kind: descriptor.kind(),
            diff_ids: Vec::new(),
            said: Said::default(),
            proven: false,
            given_up: false,
        });
        if node.uses.len() < USES && !node.uses.iter().any(|known| known == what) {
            node.uses.push(what.to_owned());
        }
        // Of two that differ one is wrong already.
        if let Some(diff_id) = diff_id
            && node.diff_ids.len() < USES
            && !node.diff_ids.iter().any(|(known, _)| *known == diff_id)
        {
            node.diff_ids.push((diff_id, what.to_owned()));
        }
        let other_kind = node.kind != descriptor.kind();
        let place = self.label(&descriptor.digest);
        if other_kind {
            let text = "the blob is named with different media types";
            let problem = Problem::error("E-OCI-MEDIATYPE", "", text)
                .but("one media type", descriptor.media_type.clone());
            findings.add(CheckId::Documents, &place, problem);
        }
        let problem = match self.store.blob_size(&descriptor.digest) {
            None if media_type::is_foreign(&descriptor.media_type) => {
                findings.skip(CheckId::Layers, "a non-distributable layer is not here");
                Problem::warning(
                    "E-BLOB-FOREIGN",
                    "",
                    "a non-distributable layer that is not here is not covered",
                )
            }
            None => Problem::error("E-BLOB-MISSING", "", "the blob is missing")
                .but(descriptor.digest.to_string(), "nothing"),
            Some(size) if size != descriptor.size => {
                Problem::error("E-SIZE", "", "the blob has another size than its descriptor says")
                    .but(descriptor.size.to_string(), size.to_string())
            }
            Some(_) => return known,
        };
        if let Some(node) = self.nodes.get_mut(&descriptor.digest)
            && !node.given_up
        {
            node.given_up = true;
            findings.add(CheckId::Blobs, &place, problem);
        }
        known
    }

    /// Reads a document that a descriptor names, when its bytes are what its digest says; with its label.
    fn document<T>(
        &mut self,
        descriptor: &Descriptor,
        check: impl FnOnce(&Value, &mut Vec<Problem>) -> Option<T>,
        findings: &mut Findings,
    ) -> Option<(T, String)> {
        let label = self.label(&descriptor.digest);
        if self.nodes.get(&descriptor.digest).is_some_and(|node| node.given_up) {
            return None;
        }
        let bytes = match self.store.read_unverified(&descriptor.digest) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.give_up(&descriptor.digest);
                findings.add(CheckId::Documents, &label, Problem::error(error.code(), "", text(&error)));
                return None;
            }
        };
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != descriptor.digest {
            self.give_up(&descriptor.digest);
            let problem = Problem::error("E-DIGEST", "", "the bytes are not those that the digest names");
            let problem = problem.but(descriptor.digest.to_string(), found.to_string());
            findings.add(CheckId::Blobs, &label, problem);
            return None;
        }
        if let Some(node) = self.nodes.get_mut(&descriptor.digest) {
            node.proven = true;
        }
        let (document, value) = read(&label, &bytes, check, findings)?;
        if json::canonical(&value) != bytes {
            findings.not_canonical(format!("{label} is not canonical JSON"));
        }
        Some((document, label))
    }

    fn give_up(&mut self, digest: &Digest) {
        if let Some(node) = self.nodes.get_mut(digest) {
            node.given_up = true;
        }
    }

    /// The media type that a document says of itself is that of its descriptor (CVE-2021-41190).
    fn own_type(&self, descriptor: &Descriptor, own: Option<&str>, label: &str, findings: &mut Findings) {
        if let Some(own) = own.filter(|own| *own != descriptor.media_type) {
            let text =
                "the document says another media type than the descriptor that names it (CVE-2021-41190)";
            let problem = Problem::error("E-OCI-MEDIATYPE", "/mediaType", text);
            findings.add(CheckId::Documents, label, problem.but(descriptor.media_type.clone(), own));
        }
    }

    /// Layers say their rules only where streams stand in them.
    fn layer_rules(&mut self, layer: &Descriptor, what: &str, findings: &mut Findings) {
        let Some(node) = self.nodes.get_mut(&layer.digest) else { return };
        match layer.annotations.get(RULES_ANNOTATION).map(String::as_str) {
            None => node.said.nothing = true,
            Some(SPLICE) => node.said.spliced = true,
            Some(other) => {
                findings.not_canonical(format!("{what} was made by the rules {other:?}, which are unknown"))
            }
        }
    }

    fn rules(&mut self, rules: Option<&String>, label: &str, findings: &mut Findings) {
        match rules.map(String::as_str) {
            Some("1") => self.marked = true,
            Some(other) => {
                findings.not_canonical(format!("{label} was made by the rules {other:?}, which are unknown"))
            }
            None => {
                findings.not_canonical(format!("{label} says no {RULES_ANNOTATION}: another tool made it"))
            }
        }
    }
}

/// The platform in an index against the one in the configuration.
fn platforms(said: Option<&PlatformFields>, own: &PlatformFields, label: &str, findings: &mut Findings) {
    let Some(said) = said else { return };
    let known = |fields: &PlatformFields| {
        Platform::new(&fields.os, &fields.architecture, fields.variant.as_deref()).ok()
    };
    let same = match (known(said), known(own)) {
        (Some(said), Some(own)) => said == own,
        _ => (&said.os, &said.architecture, &said.variant) == (&own.os, &own.architecture, &own.variant),
    };
    // Attestations of BuildKit are for `unknown/unknown` and say so in both places.
    if !same {
        let wrong = (&said.os, &said.architecture) != (&own.os, &own.architecture)
            || (said.variant.is_some() && own.variant.is_some());
        let text = "the index and the configuration say different platforms";
        let problem = match wrong {
            true => Problem::error("E-PLATFORM", "", text),
            false => Problem::warning("E-PLATFORM", "", text),
        };
        findings.add(CheckId::Platforms, label, problem.but(said.to_string(), own.to_string()));
    }
    if said.os_version.is_some() && own.os_version.is_some() && said.os_version != own.os_version {
        let show = |text: &Option<String>| text.clone().unwrap_or_default();
        let problem = Problem::error(
            "E-PLATFORM",
            "/os.version",
            "the index and the configuration say different versions",
        );
        findings.add(CheckId::Platforms, label, problem.but(show(&said.os_version), show(&own.os_version)));
    }
}

/// Parses a document and notes everything that is wrong with it.
fn read<T>(
    label: &str,
    bytes: &[u8],
    check: impl FnOnce(&Value, &mut Vec<Problem>) -> Option<T>,
    findings: &mut Findings,
) -> Option<(T, Value)> {
    let value = match json::parse(bytes) {
        Ok(value) => value,
        Err(error) => {
            findings.add(CheckId::Documents, label, Problem::error(error.code(), "", error.to_string()));
            return None;
        }
    };
    let mut problems = Vec::new();
    let document = check(&value, &mut problems);
    for problem in problems {
        findings.add(CheckId::Documents, label, problem);
    }
    document.map(|document| (document, value))
}

/// An error with its causes, in one line.
pub(super) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// The algorithm to compute a diff_id by.
pub(super) fn algorithm(node: &Node) -> Algorithm {
    node.diff_ids.first().map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm())
}
