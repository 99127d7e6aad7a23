//! Signatures of an image or a file: which there are, whose they are, and what they cover.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use dmoci_layers::Digest;

use super::authentic::{is_held, told, whole_file};
use super::graph::Graph;
use super::report::{CheckId, Findings, SignatureSummary};
use super::{Held, Options};
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{Kind, SIGSTORE_BUNDLES};
use crate::oci::{Descriptor, Problem, Severity, json, timestamp};
use crate::store::{Form, ImageStore};
use crate::trust::{Artifact, Reason, Refusal, Signature, Signer, claims, legacy};

const CHECK: CheckId = CheckId::Signatures;

/// How many signatures of one subject are looked at.
const SIGNATURES: usize = 1000;

/// The largest manifest that is looked for where nothing names it, and how many blobs are looked at.
const MANIFEST_BYTES: u64 = 64 << 10;
const UNNAMED: usize = 10_000;

const DAY: i64 = 24 * 3600;

/// A signature that is there, and has not been looked at.
struct Candidate {
    /// Where it is.
    place: String,
    /// What it should be about.
    about: Digest,
    content: Vec<u8>,
    /// The layer that holds it, in cosign's older layout.
    layer: Option<Descriptor>,
}

impl Candidate {
    fn judge(&self, held: &Held) -> Result<Signature, Refusal> {
        match &self.layer {
            None => held.trusted.judge(&self.content, Artifact { digest: &self.about, open: None }),
            Some(layer) => held.trusted.judge_legacy(self.legacy(layer), &self.about),
        }
    }

    fn claims(&self) -> Result<(String, Option<String>), Refusal> {
        match &self.layer {
            None => claims(&self.content),
            Some(layer) => legacy::claims(self.legacy(layer)),
        }
    }

    fn legacy<'a>(&'a self, layer: &'a Descriptor) -> legacy::Layer<'a> {
        legacy::Layer {
            media_type: &layer.media_type,
            content: &self.content,
            annotations: &layer.annotations,
        }
    }
}

/// All that refer to these documents, or to an index that leads to one of them, as far as they can be read: what cannot be is told as a damaged blob.
fn candidates(store: &ImageStore, graph: &Graph<'_>, documents: &BTreeSet<Digest>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let unlisted = unlisted(store, graph);
    for (digest, manifest) in graph.evidence.iter().chain(&unlisted) {
        for (i, layer) in manifest.layers.iter().enumerate() {
            let bundle = layer.media_type.starts_with(SIGSTORE_BUNDLES);
            if !bundle && !manifest.is_legacy_evidence() {
                continue;
            }
            let Ok(content) = store.read_json_blob(&layer.digest) else { continue };
            let place = match manifest.layers.len() {
                1 => format!("manifest {digest}"),
                _ => format!("layer {} of manifest {digest}", i + 1),
            };
            let layer = (!bundle).then(|| layer.clone());
            let mut candidate = Candidate { place, about: digest.clone(), content, layer };
            let about = match &candidate.layer {
                None => manifest.subject.as_ref().map(|subject| subject.digest.clone()),
                Some(layer) => legacy::about(candidate.legacy(layer)),
            };
            let concerns = |about: &Digest| !graph.closure([about]).is_disjoint(documents);
            match about.filter(concerns) {
                Some(about) => candidate.about = about,
                None => continue,
            }
            found.push(candidate);
            if found.len() > SIGNATURES {
                return found;
            }
        }
    }
    found
}

/// Manifests with bundles that lie in a layout or archive and are named by nothing: so `cosign save` writes them.
fn unlisted(store: &ImageStore, graph: &Graph<'_>) -> Vec<(Digest, Manifest)> {
    if !matches!(store.form(), Form::Layout | Form::Archive) {
        return Vec::new();
    }
    let small = |digest: &&Digest| store.blob_size(digest).is_some_and(|size| size <= MANIFEST_BYTES);
    let unnamed = store.blobs().filter(|digest| !graph.nodes.contains_key(*digest)).filter(small);
    let read = |digest: &Digest| {
        let value = json::parse(&store.read_json_blob(digest).ok()?).ok()?;
        value.get("subject")?;
        let mut problems = Vec::new();
        let manifest = Manifest::read(&value, &mut problems)?;
        let right = !problems.iter().any(|problem| problem.severity == Severity::Error);
        let bundles = manifest.layers.iter().any(|layer| layer.media_type.starts_with(SIGSTORE_BUNDLES));
        (right && bundles).then(|| (digest.clone(), manifest))
    };
    unnamed.take(UNNAMED).filter_map(read).collect()
}

/// What was found out about all signatures.
#[derive(Default)]
struct Seen {
    refusals: Vec<(String, Refusal)>,
}

impl Seen {
    fn note(
        &mut self,
        place: &str,
        about: String,
        (signer, predicate): (String, Option<String>),
        result: Result<Signature, Refusal>,
        findings: &mut Findings,
    ) -> bool {
        let place = place.to_owned();
        let summary = match &result {
            Ok(signature) => SignatureSummary {
                place,
                about,
                signer: signature.signer.clone(),
                predicate: signature.predicate.clone(),
                outcome: "valid".into(),
                times: signature.times.clone(),
                unchecked: signature.unchecked.clone(),
            },
            Err(refusal) => {
                let outcome = refusal.message.clone();
                self.refusals.push((place.clone(), refusal.clone()));
                SignatureSummary {
                    place,
                    about,
                    signer,
                    predicate,
                    outcome,
                    times: vec![],
                    unchecked: vec![],
                }
            }
        };
        findings.signatures.push(summary);
        result.is_ok()
    }

    /// Tells why signatures do not count: as errors where none does.
    fn tell(self, enough: bool, findings: &mut Findings) {
        for (place, refusal) in self.refusals {
            let Refusal { reason, code, message, expected, found } = refusal;
            let problem = match (enough, reason) {
                (true, Reason::Absent) | (false, Reason::Absent) => Problem::note(code, "", message),
                (true, _) => Problem::warning(code, "", message),
                (false, _) => Problem::error(code, "", message),
            };
            let problem = problem.but(expected, found);
            match reason {
                Reason::Other => findings.refuse(&place, problem),
                _ => findings.add(CHECK, &place, problem),
            }
        }
    }
}

/// Who signed all that was asked for, in words.
pub(super) fn of_image(
    store: &ImageStore,
    graph: &Graph<'_>,
    documents: &BTreeSet<Digest>,
    held: &Held,
    findings: &mut Findings,
) -> Option<String> {
    root(held, findings);
    let mut seen = Seen::default();
    let mut signed: Vec<(Digest, String)> = Vec::new();
    let all = candidates(store, graph, documents);
    if all.len() > SIGNATURES {
        let text = format!("there are more than {SIGNATURES} signatures; the rest is not looked at");
        findings.add(CHECK, "index.json", Problem::note("E-MORE", "", text));
    }
    for candidate in all.iter().take(SIGNATURES) {
        let (place, about) = (&candidate.place, graph.label(&candidate.about));
        let result = candidate.judge(held);
        let signer = result.as_ref().map(|signature| signature.signer.clone()).unwrap_or_default();
        if seen.note(place, about, claimed(candidate.claims()), result, findings) {
            signed.push((candidate.about.clone(), signer));
        }
    }
    if let Some((name, content)) = &held.bundle {
        match in_file(store, documents, held, (name, content), findings, &mut seen) {
            Some((None, signer)) => {
                seen.tell(true, findings);
                return Some(format!(
                    "the signature by {signer} in {name}, which covers the whole archive file"
                ));
            }
            Some((Some(digest), signer)) => signed.push((digest, signer)),
            None => {}
        }
    }
    // An index covers what it leads to, also when only a part of that was asked for.
    let covered = graph.closure(signed.iter().map(|(digest, _)| digest));
    let is_index =
        |digest: &Digest| graph.nodes.get(digest).is_some_and(|node| matches!(node.kind, Kind::Index));
    let needed: Vec<&Digest> = documents.iter().filter(|digest| !is_index(digest)).collect();
    let left: Vec<&Digest> = needed.iter().copied().filter(|digest| !covered.contains(*digest)).collect();
    let enough = left.is_empty() && !needed.is_empty();
    let any = !findings.signatures.is_empty();
    let partly = !signed.is_empty();
    seen.tell(enough || partly, findings);
    if enough {
        let mut by: Vec<String> = signed.iter().map(|(_, signer)| signer.clone()).collect();
        by.sort();
        by.dedup();
        let what: BTreeSet<&Digest> = signed.iter().map(|(digest, _)| digest).collect();
        let what = told(graph, what.into_iter()).unwrap_or_default();
        return Some(format!("the signature by {} of {what}, and all that it names", by.join(" and ")));
    }
    let told = told(graph, left.into_iter()).unwrap_or_else(|| "anything here".into());
    let problem = match partly || any {
        true => Problem::warning(
            "E-UNCOVERED",
            "",
            format!("no valid signature of the one asked for covers {told}"),
        ),
        false => Problem::warning("E-UNSIGNED", "", format!("there is no signature of {told}"))
            .but(asked(held), "none"),
    };
    findings.add(CHECK, "index.json", problem);
    None
}

/// The bundle in a file: of the whole archive (no digest), or of one of the documents.
fn in_file(
    store: &ImageStore,
    documents: &BTreeSet<Digest>,
    held: &Held,
    (name, content): (&str, &[u8]),
    findings: &mut Findings,
    seen: &mut Seen,
) -> Option<(Option<Digest>, String)> {
    let mut refused: Option<Refusal> = None;
    let mut tried: Vec<(Option<Digest>, Digest)> = Vec::new();
    if is_held(store) {
        match whole_file(store) {
            Ok(digest) => tried.push((None, digest)),
            Err(problem) => findings.add(CHECK, name, problem),
        }
    }
    // Manifests that were made here are nobody's.
    if store.form() != Form::LegacyArchive {
        tried.extend(documents.iter().take(SIGNATURES).map(|digest| (Some(digest.clone()), digest.clone())));
    }
    let open = || -> io::Result<Box<dyn Read>> { Ok(Box::new(File::open(store.place())?)) };
    let claims = claimed(claims(content));
    for (document, digest) in &tried {
        let open = document.is_none().then_some(&open as _);
        match held.trusted.judge(content, Artifact { digest, open }) {
            Ok(signature) => {
                let signer = signature.signer.clone();
                let about = digest.to_string();
                seen.note(name, about, claims, Ok(signature), findings);
                return Some((document.clone(), signer));
            }
            // That it is about something else is the least that can be said of it.
            Err(refusal) if refused.is_none() || refusal.code != "E-SIGNATURE-SUBJECT" => {
                refused = Some(refusal);
            }
            Err(_) => {}
        }
    }
    if let Some(refusal) = refused {
        seen.note(name, "what was asked for".into(), claims, Err(refusal), findings);
    }
    None
}

/// Who signed a list of digests, in words; nothing when no signature of it is asked for or lies beside it. What such a list names needs no
/// signature of its own.
pub(super) fn of_list(options: &Options, findings: &mut Findings) -> Option<String> {
    let (held, against) = (options.trust.as_ref()?, options.against.as_ref()?);
    let (name, content) = against.bundle.as_ref()?;
    root(held, findings);
    let result = held.trusted.judge(content, Artifact { digest: &against.digest, open: None });
    let signer = result.as_ref().ok().map(|signature| signature.signer.clone());
    let mut seen = Seen::default();
    seen.note(
        name,
        format!("{} ({})", against.digest, against.name),
        claimed(claims(content)),
        result,
        findings,
    );
    seen.tell(signer.is_some(), findings);
    signer
}

/// How far a list is to be believed, in words.
pub(super) fn believed(signer: Option<&String>) -> String {
    match signer {
        Some(signer) => format!("a list that is signed by {signer}"),
        None => "a list that is itself not signed or checked".into(),
    }
}

/// Who signed a file, in words.
pub(super) fn of_file(path: &Path, digest: &Digest, held: &Held, findings: &mut Findings) -> Option<String> {
    root(held, findings);
    let Some((name, content)) = &held.bundle else {
        let text =
            "there is no signature of it: no file with .sigstore.json behind its name, and no --bundle";
        let problem = Problem::warning("E-UNSIGNED", "", text).but(asked(held), "none");
        findings.add(CHECK, &path.display().to_string(), problem);
        return None;
    };
    let open = || -> io::Result<Box<dyn Read>> { Ok(Box::new(File::open(path)?)) };
    let result = held.trusted.judge(content, Artifact { digest, open: Some(&open) });
    let signer = result.as_ref().ok().map(|signature| signature.signer.clone());
    let mut seen = Seen::default();
    seen.note(name, digest.to_string(), claimed(claims(content)), result, findings);
    seen.tell(signer.is_some(), findings);
    signer.map(|signer| format!("the signature by {signer} in {name}"))
}

/// Says what there is when nobody was asked for, and sees to it that the check is not passed then.
pub(super) fn summary(store: &ImageStore, graph: &Graph<'_>, options: &Options, findings: &mut Findings) {
    if options.trust.is_some() {
        return not_passed(findings);
    }
    let documents = graph.closure(graph.roots.iter().map(|root| &root.digest));
    let all = candidates(store, graph, &documents);
    for candidate in all.iter().take(SIGNATURES) {
        let (signer, predicate) = claimed(candidate.claims());
        findings.signatures.push(SignatureSummary {
            place: candidate.place.clone(),
            about: graph.label(&candidate.about),
            signer,
            predicate,
            outcome: "not checked".into(),
            times: Vec::new(),
            unchecked: Vec::new(),
        });
    }
    let text = match all.len() {
        0 => "no key or identity was given".to_owned(),
        1 => "no key or identity was given; 1 signature was found and not checked".to_owned(),
        count => format!("no key or identity was given; {count} signatures were found and not checked"),
    };
    findings.skip(CHECK, text);
}

/// A check that found no valid signature is no pass, even where nothing is an error.
pub(super) fn not_passed(findings: &mut Findings) {
    let valid = findings.signatures.iter().filter(|one| one.outcome == "valid").count();
    match valid {
        0 => findings.skip(CHECK, "there is no signature that counts"),
        _ => findings.detail(CHECK, format!("{valid} of {} valid", findings.signatures.len())),
    }
}

fn claimed(claims: Result<(String, Option<String>), Refusal>) -> (String, Option<String>) {
    claims.unwrap_or_else(|_| ("nobody that can be read".into(), None))
}

/// Who was asked for.
fn asked(held: &Held) -> String {
    match &held.trusted.signer {
        Signer::Key(key) => format!("a signature by {key}"),
        Signer::Identity(identity) => format!("a signature by {identity}"),
    }
}

/// What certificates are judged by, and how old that is.
fn root(held: &Held, findings: &mut Findings) {
    if matches!(held.trusted.signer, Signer::Key(_)) {
        return;
    }
    let root = &held.trusted.root;
    let age = root.newest().map(|newest| {
        let day = u64::try_from(newest).ok().and_then(timestamp::rfc3339).unwrap_or_default();
        let days = held.now.saturating_sub(newest).max(0) / DAY;
        format!("; its newest part is of {}, {days} days ago", day.split('T').next().unwrap_or_default())
    });
    findings.detail(CHECK, format!("trusted root: {root}{}", age.unwrap_or_default()));
}
