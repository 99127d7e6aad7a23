//! What was asked for, and whether something that the operator holds names all of it.

use std::collections::BTreeSet;

use dmoci_layers::{Algorithm, Digest, Hasher};

use super::graph::Graph;
use super::report::{CheckId, Findings};
use super::{Against, Options, signatures};
use crate::oci::media_type::Kind;
use crate::oci::{Descriptor, Problem};
use crate::store::image::Root;
use crate::store::{Form, ImageStore};

/// How many documents are told one by one.
const TOLD: usize = 5;

const CHECK: CheckId = CheckId::Authenticity;

/// What the tag and the digest of the subject choose.
pub(super) struct Selection {
    /// Manifests and indexes, with all that these list. Empty when nothing fits.
    pub(super) documents: BTreeSet<Digest>,
    /// What the digest of the subject covers, in words.
    covers: Option<String>,
}

impl Selection {
    pub(super) fn new(
        store: &ImageStore,
        graph: &Graph<'_>,
        options: &Options,
        findings: &mut Findings,
    ) -> Selection {
        let tagged = |root: &&Descriptor| match &options.tag {
            Some(tag) => Root::of((*root).clone()).has_tag(tag),
            None => !store.is_evidence(&Root::of((*root).clone())),
        };
        let all = graph.closure(graph.roots.iter().filter(tagged).map(|root| &root.digest));
        let Some(digest) = &options.digest else { return Selection { documents: all, covers: None } };
        if all.contains(digest) {
            let invented = store.form() == Form::LegacyArchive;
            if invented {
                findings.add(CHECK, &options.subject, invention());
            }
            let uses = graph.nodes.get(digest).map(|node| node.uses.join(" = ")).unwrap_or_default();
            let covers = (!invented).then(|| format!("{uses} and all that it names"));
            return Selection { documents: graph.closure([digest]), covers };
        }
        if is_held(store) {
            match whole_file(store) {
                Ok(found) if found == *digest => {
                    let covers = Some("the whole archive file".to_owned());
                    return Selection { documents: all, covers };
                }
                Ok(_) => {}
                Err(problem) => findings.add(CHECK, &options.subject, problem),
            }
        }
        let text = image_id(graph, digest).unwrap_or_else(|| match store.form() {
            Form::LegacyArchive => "the archive has no manifest of its own, so it cannot be this one".into(),
            _ => "there is no such image".into(),
        });
        let problem = Problem::error("E-SELECT", "", text).but(digest.to_string(), roots(graph));
        findings.add(CHECK, "index.json", problem);
        Selection { documents: BTreeSet::new(), covers: None }
    }

    /// Leaves in the report only the images that were asked for, and says which the verdict is not about.
    pub(super) fn restrict(&self, graph: &mut Graph<'_>, findings: &mut Findings) {
        if self.documents.is_empty() {
            return;
        }
        let others: Vec<&Digest> = graph.parts.iter().map(|parts| &parts.manifest).collect();
        let others = others.into_iter().filter(|digest| !self.documents.contains(digest));
        if let Some(told) = told(graph, others) {
            let text = format!("not asked for, and not covered by the verdict: {told}");
            findings.add(CHECK, "index.json", Problem::note("E-NOT-SELECTED", "", text));
        }
        graph.images.retain(|image| {
            image.manifest.parse::<Digest>().is_ok_and(|digest| self.documents.contains(&digest))
        });
    }
}

/// What the operator holds that names all that was asked for.
pub(super) fn authenticity(
    store: &ImageStore,
    graph: &Graph<'_>,
    selection: &Selection,
    options: &Options,
    findings: &mut Findings,
) -> Vec<String> {
    let mut by = Vec::new();
    if selection.documents.is_empty() {
        // What nothing was looked for in has passed nothing.
        return by;
    }
    if let (Some(digest), Some(covers)) = (&options.digest, &selection.covers) {
        by.push(format!("the digest {digest} that was given, which covers {covers}"));
    }
    let signer = signatures::of_list(options, findings);
    let mut vouched = false;
    if let Some(against) = &options.against {
        match listed(store, graph, selection, against, findings) {
            Ok(found) => {
                by.push(format!("{found} in {}, {}", against.name, signatures::believed(signer.as_ref())));
                vouched = signer.is_some();
            }
            Err(problem) => {
                findings.add(CHECK, &options.subject, problem);
                by.clear();
            }
        }
    }
    if let Some(held) = options.trust.as_ref().filter(|_| !vouched) {
        match signatures::of_image(store, graph, &selection.documents, held, findings) {
            Some(signed) => by.push(signed),
            None => by.clear(),
        }
    }
    match (by.is_empty(), options.held()) {
        (false, _) => findings.detail(CHECK, by.join("; ")),
        (true, true) => findings.skip(CHECK, "what was given does not cover all that was asked for"),
        (true, false) if options.integrity_only => findings.skip(CHECK, "only integrity was asked for"),
        (true, false) if !findings.has_errors() => {
            findings
                .skip(CHECK, "no digest, list, key or identity was given: anyone could have made this image");
        }
        (true, false) => findings.skip(CHECK, "no digest, list, key or identity was given"),
    }
    by
}

/// What a list names, in words, when that covers all that was asked for.
fn listed(
    store: &ImageStore,
    graph: &Graph<'_>,
    selection: &Selection,
    against: &Against,
    findings: &mut Findings,
) -> Result<String, Problem> {
    let file = store.place().file_name().map(|name| name.to_string_lossy().into_owned());
    if is_held(store) {
        let whole = whole_file(store)?;
        if let Some(expected) = against.contradicts(file.as_deref(), &whole) {
            let problem = Problem::error("E-AGAINST", "", "the file has another digest than the list says");
            return Err(problem.but(expected.to_string(), whole.to_string()));
        }
        if against.entries.iter().any(|(digest, _)| *digest == whole) {
            return Ok(format!("the file's digest {whole}"));
        }
    }
    let all = graph.closure(graph.roots.iter().map(|root| &root.digest));
    let here: BTreeSet<&Digest> =
        against.entries.iter().map(|(digest, _)| digest).filter(|digest| all.contains(*digest)).collect();
    if store.form() == Form::LegacyArchive && !here.is_empty() {
        return Err(invention());
    }
    let covered = graph.closure(here.iter().copied());
    let is_index =
        |digest: &Digest| graph.nodes.get(digest).is_some_and(|node| matches!(node.kind, Kind::Index));
    let (needed, left): (Vec<_>, Vec<_>) = {
        let needed: Vec<&Digest> = selection.documents.iter().filter(|digest| !is_index(digest)).collect();
        let left = needed.iter().copied().filter(|digest| !covered.contains(*digest)).collect();
        (needed, left)
    };
    for root in graph.roots.iter().filter(|root| selection.documents.contains(&root.digest)) {
        let Root { tags, names, .. } = Root::of(root.clone());
        let below = graph.closure([&root.digest]);
        let other = |(digest, name): &&(Digest, String)| {
            (tags.contains(name) || names.contains(name))
                && !below.contains(digest)
                && !graph.closure([digest]).contains(&root.digest)
        };
        if let Some((expected, name)) = against.entries.iter().find(other) {
            let text = format!("{name:?} has another digest than the list says");
            let problem = Problem::error("E-AGAINST", "", text);
            return Err(problem.but(expected.to_string(), root.digest.to_string()));
        }
    }
    if left.is_empty() && !needed.is_empty() {
        let digests: Vec<String> = here.iter().take(TOLD).map(|digest| digest.to_string()).collect();
        return Ok(format!("the digest {}", digests.join(", ")));
    }
    for text in against.entries.iter().filter_map(|(digest, _)| image_id(graph, digest)).take(TOLD) {
        findings.add(CHECK, &against.name, Problem::note("E-UNCOVERED", "", text));
    }
    let told = told(graph, left.into_iter()).unwrap_or_else(|| "anything here".into());
    Err(Problem::warning("E-UNCOVERED", "", format!("{} does not cover {told}", against.name)))
}

/// The first few, in words and in a fixed order; nothing when there are none.
pub(super) fn told<'d>(graph: &Graph<'_>, digests: impl Iterator<Item = &'d Digest>) -> Option<String> {
    let digests: BTreeSet<&Digest> = digests.collect();
    let mut words: Vec<String> = digests.iter().take(TOLD).map(|digest| graph.label(digest)).collect();
    if digests.len() > TOLD {
        words.push(format!("{} more", digests.len() - TOLD));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

/// Says that a digest is that of a configuration, and which is that of the manifest.
fn image_id(graph: &Graph<'_>, digest: &Digest) -> Option<String> {
    let parts = graph.parts.iter().find(|parts| parts.config == *digest)?;
    Some(format!("{digest} is the image ID (config digest); the manifest is {}", parts.manifest))
}

fn invention() -> Problem {
    let text = "the archive has no manifest of its own: the digest is of one that dmoci made to read it, and \
        authenticates nothing; give the sha256 of the archive file";
    Problem::warning("E-UNCOVERED", "", text)
}

fn roots(graph: &Graph<'_>) -> String {
    let mut digests: Vec<String> = graph.roots.iter().map(|root| root.digest.to_string()).collect();
    digests.dedup();
    digests.join(", ")
}

/// True for a file that somebody may hold the digest of: not for a layout or a registry, nor for what a daemon has just made.
pub(super) fn is_held(store: &ImageStore) -> bool {
    !matches!(store.form(), Form::Layout | Form::Registry) && !store.is_streamed()
}

/// The SHA-256 of the whole archive file.
pub(super) fn whole_file(store: &ImageStore) -> Result<Digest, Problem> {
    let failed =
        |error: std::io::Error| Problem::error("E-IO", "", format!("the file cannot be read: {error}"));
    let mut file = std::fs::File::open(store.place()).map_err(failed)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    std::io::copy(&mut file, &mut hasher).map_err(failed)?;
    Ok(hasher.finish())
}
