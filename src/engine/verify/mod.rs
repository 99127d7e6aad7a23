//! Whether an image is what its digests say, and whether something that the operator holds says so too.
//!
//! ```text
//! graph (documents) > layer, tree, cut (blobs) > container (archive bytes, views) > report
//! distribution (wheels, source distributions), file (anything that is signed)       > report
//! ```
//!
//! Every finding is collected; nothing is written or unpacked. Memory does not grow with the size of layers; blobs
//! are read on all cores. Soundness is not authenticity: whoever can replace the image can replace its digests too,
//! so without a digest from elsewhere the answer is at best "sound, not authenticated".

mod authentic;
mod container;
mod cut;
mod distribution;
mod file;
mod graph;
mod layer;
mod report;
mod signatures;
mod tree;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dmoci_layers::Digest;

pub use super::reader::Watch;
pub use distribution::verify as verify_distribution;
pub use file::verify as verify_file;
pub use report::{
    Canonical, Check, CheckId, DistributionSummary, FileSummary, Finding, ImageSummary, Outcome, Rebuild,
    RebuildVerdict, SignatureSummary, Verdict, VerifyReport,
};

use crate::diagnostic::Diagnostic as _;
use crate::oci::Problem;
use crate::oci::media_type::Kind;
use crate::store::{Form, ImageStore, StoreError};
use crate::trust::Trusted;
use authentic::Selection;
use graph::{Graph, Node, text};
use layer::{BlobFacts, Content};
use report::Findings;

/// A list of digests that the operator holds, such as `SHA256SUMS`.
#[derive(Clone, Debug)]
pub struct Against {
    /// The file as the user named it.
    pub name: String,
    /// Digests with the names they stand beside.
    pub entries: Vec<(Digest, String)>,
    /// The digest of the list itself.
    pub digest: Digest,
    /// The name and content of the bundle that lies beside it.
    pub bundle: Option<(String, Vec<u8>)>,
}

impl Against {
    /// The digest that the list gives the file of this name, when it is not this one. Lines with that very name decide; else one of
    /// those that end with it must be right.
    fn contradicts(&self, file: Option<&str>, digest: &Digest) -> Option<&Digest> {
        let file = file?;
        let own = |(_, name): &&(Digest, String)| name.strip_prefix("./").unwrap_or(name) == file;
        if self.entries.iter().any(|entry| own(&entry)) {
            return self
                .entries
                .iter()
                .filter(own)
                .map(|(listed, _)| listed)
                .find(|listed| *listed != digest);
        }
        let ends = |(_, name): &&(Digest, String)| name.rsplit('/').next() == Some(file);
        let mut listed = self.entries.iter().filter(ends).map(|(listed, _)| listed);
        let first = listed.next()?;
        (first != digest && listed.all(|listed| listed != digest)).then_some(first)
    }
}

/// What to verify beyond soundness.
#[derive(Clone, Debug)]
pub struct Options {
    /// The subject as the user named it.
    pub subject: String,
    /// Only this image must be there and is what is authenticated.
    pub tag: Option<String>,
    /// The digest that the operator holds.
    pub digest: Option<Digest>,
    /// A list that the operator holds.
    pub against: Option<Against>,
    /// Who must have signed it.
    pub trust: Option<Held>,
    /// The version that the image must say it is.
    pub expect_version: Option<String>,
    /// Ask for soundness only.
    pub integrity_only: bool,
    /// Threads that read blobs.
    pub threads: NonZeroUsize,
}

/// Whose signature the operator asks for, and a bundle that lies elsewhere than in the image.
#[derive(Clone, Debug)]
pub struct Held {
    /// Who must have signed what kind of statement.
    pub trusted: Arc<Trusted>,
    /// The name and content of a bundle in a file.
    pub bundle: Option<(String, Vec<u8>)>,
    /// The present, in seconds since 1970, to say how old the trusted root is.
    pub now: i64,
}

impl Options {
    /// True when the operator holds something that must name what is verified.
    fn held(&self) -> bool {
        self.digest.is_some() || self.against.is_some() || self.trust.is_some()
    }
}

/// How many unreferenced blobs are told one by one.
const UNREFERENCED: usize = 20;

/// Verifies an open store.
pub fn verify(store: &ImageStore, options: &Options, watch: &dyn Watch) -> VerifyReport {
    let mut findings = Findings::default();
    let mut graph = Graph::walk(store, &mut findings);
    container::surroundings(store, &graph, &mut findings);
    container::index_digest(store, &mut findings);
    blobs(store, &graph, (options.threads, watch), &mut findings);
    let selection = Selection::new(store, &graph, options, &mut findings);
    container::views(store, &graph, &selection, &mut findings);
    container::archive_bytes(store, &graph, &mut findings);
    version(&graph, &selection, options, &mut findings);
    let mut authenticated_by = authentic::authenticity(store, &graph, &selection, options, &mut findings);
    selection.restrict(&mut graph, &mut findings);
    signatures::summary(store, &graph, options, &mut findings);
    let verdict = match findings.unsound() {
        Some(verdict) => verdict,
        None if !authenticated_by.is_empty() => Verdict::Verified,
        None if options.integrity_only && !options.held() => Verdict::Sound,
        None => Verdict::NotAuthenticated,
    };
    if verdict != Verdict::Verified && !authenticated_by.is_empty() {
        // What is damaged is not what was named.
        authenticated_by.clear();
        findings.detail(CheckId::Authenticity, "but not all that this names is as it should be");
    }
    if store.form() == Form::LegacyArchive {
        findings.skip(CheckId::Blobs, "the archive names no digests of its layers, only their diff_ids");
    }
    let checks = findings.checks(&CheckId::IMAGE);
    let mut canonical = findings.canonical.clone();
    match verdict {
        Verdict::NotSound => canonical.reasons.insert(0, "it is damaged or malformed".into()),
        Verdict::Undecided => canonical.reasons.insert(0, "not all of it could be read".into()),
        _ => {}
    }
    VerifyReport {
        subject: options.subject.clone(),
        verdict,
        authenticated_by,
        images: graph.images,
        distribution: None,
        file: None,
        signatures: std::mem::take(&mut findings.signatures),
        rebuild: None,
        checks,
        findings: findings.sorted(),
        canonical,
    }
}

/// Who signed one image of a store, in words: by a statement about it, or about an index that leads to it. Else what is to be
/// said of the signatures that there are.
///
/// Nothing but documents and signatures is read, so the store needs no layers; whether the image is sound is not judged.
pub fn signed(store: &ImageStore, image: &Digest, held: &Held) -> Result<String, Vec<Finding>> {
    let graph = Graph::walk(store, &mut Findings::default());
    let mut findings = Findings::default();
    match signatures::of_image(store, &graph, &BTreeSet::from([image.clone()]), held, &mut findings) {
        Some(signer) => Ok(signer),
        None => Err(findings.sorted()),
    }
}

/// Reads every blob that is not proven yet, and those that nothing names.
fn blobs(
    store: &ImageStore,
    graph: &Graph<'_>,
    (threads, watch): (NonZeroUsize, &dyn Watch),
    findings: &mut Findings,
) {
    let mut jobs: Vec<(&Digest, Option<&Node>)> = Vec::new();
    for digest in store.blobs() {
        match graph.nodes.get(digest) {
            Some(node) if node.proven || node.given_up => {}
            node => jobs.push((digest, node)),
        }
    }
    // The largest first, so that no core is left with one at the end.
    jobs.sort_by_key(|(digest, _)| std::cmp::Reverse(store.blob_size(digest)));
    watch.total(jobs.iter().filter_map(|(digest, _)| store.blob_size(digest)).sum());
    let mut results = run(store, &jobs, threads, watch);
    results.sort_by(|(a, _), (b, _)| jobs[*a].0.cmp(jobs[*b].0));
    let (mut bytes, mut entries, mut layers, mut unreferenced) = (0, 0, 0, 0usize);
    for (job, result) in results {
        let (digest, node) = jobs[job];
        let label = graph.label(digest);
        let check = if node.is_some() { CheckId::Blobs } else { CheckId::Unreferenced };
        let facts = match result {
            Ok(facts) => facts,
            Err(error) => {
                findings.add(check, &label, Problem::error(error.code(), "", text(&error)));
                continue;
            }
        };
        bytes += facts.size;
        if facts.digest != *digest {
            let problem = Problem::error("E-DIGEST", "", "the bytes are not those that the digest names");
            findings.add(check, &label, problem.but(digest.to_string(), facts.digest.to_string()));
            // What its content would say follows from the damage.
            continue;
        }
        let Some(node) = node else {
            unreferenced += 1;
            if unreferenced <= UNREFERENCED {
                let problem =
                    Problem::note("E-BLOB-UNREFERENCED", "", "no document of index.json names the blob");
                findings.add(check, &label, problem);
            }
            continue;
        };
        layers += usize::from(facts.layer.is_some());
        entries += facts.layer.as_ref().map_or(0, |layer| layer.entries);
        layer(node, &label, facts, findings);
    }
    if unreferenced > UNREFERENCED {
        let problem = Problem::note(
            "E-BLOB-UNREFERENCED",
            "",
            format!("{unreferenced} blobs in all that nothing names"),
        );
        findings.add(CheckId::Unreferenced, "blobs", problem);
    }
    let proven = graph.nodes.iter().filter(|(_, node)| node.proven);
    let sizes: Vec<u64> = proven.filter_map(|(digest, _)| store.blob_size(digest)).collect();
    let documents = sizes.len();
    bytes += sizes.iter().sum::<u64>();
    let count =
        |number: u64, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let blobs = count((jobs.len() + documents) as u64, "blob", "blobs");
    findings.detail(CheckId::Documents, count(documents as u64, "document", "documents"));
    findings.detail(CheckId::Blobs, format!("{blobs}, {}", count(bytes, "byte", "bytes")));
    let (layers, entries) = (count(layers as u64, "layer", "layers"), count(entries, "entry", "entries"));
    findings.detail(CheckId::Layers, format!("{layers}, {entries}"));
}

type Done = (usize, Result<BlobFacts, StoreError>);

fn run(
    store: &ImageStore,
    jobs: &[(&Digest, Option<&Node>)],
    threads: NonZeroUsize,
    watch: &dyn Watch,
) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        let mut index;
        while let Some(&(digest, node)) = {
            index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index)
        } {
            let content = match node.map(|node| (node.kind, graph::algorithm(node))) {
                Some((Kind::Layer(compression), algorithm)) => Content::Layer(compression, algorithm),
                _ => Content::Opaque,
            };
            let result = layer::read(store, digest, content, watch);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a blob with the right digest holds.
fn layer(node: &Node, label: &str, facts: BlobFacts, findings: &mut Findings) {
    let Some(layer) = facts.layer else {
        // The layers of attestations are no archives; their diff_id is their digest.
        for (expected, _) in node.diff_ids.iter().filter(|(expected, _)| *expected != facts.digest) {
            let text =
                "the configuration gives content that is no known layer another diff_id than its digest";
            let problem = Problem::warning("E-DIFFID", "", text);
            findings.add(CheckId::Layers, label, problem.but(expected.to_string(), facts.digest.to_string()));
        }
        return;
    };
    for problem in layer.problems {
        findings.add(CheckId::Layers, label, problem);
    }
    for (expected, user) in &node.diff_ids {
        if let Some(found) = layer.diff_id.as_ref().filter(|found| *found != expected) {
            let text =
                format!("the content before compression has another digest than the config says for {user}");
            let problem = Problem::error("E-DIFFID", "", text).but(expected.to_string(), found.to_string());
            findings.add(CheckId::Layers, label, problem);
        }
    }
    for reason in layer.cut.reason(node.said).into_iter().chain(layer.reasons) {
        findings.not_canonical(format!("{}: {reason}", node.uses.first().map_or(label, String::as_str)));
    }
}

/// `--expect-version`: what the manifests' annotations say, which their digests cover.
fn version(graph: &Graph<'_>, selection: &Selection, options: &Options, findings: &mut Findings) {
    let check = CheckId::Version;
    let Some(expected) = &options.expect_version else {
        return findings.skip(check, "no version was asked for");
    };
    let mut any = false;
    for parts in graph.parts.iter().filter(|parts| selection.documents.contains(&parts.manifest)) {
        any = true;
        if parts.version.as_ref() != Some(expected) {
            let found = parts.version.clone().unwrap_or_else(|| "nothing".into());
            let text = "the image says another version in org.opencontainers.image.version";
            let problem = Problem::error("E-VERSION", "/annotations", text);
            findings.add(
                check,
                &graph.label(&parts.manifest),
                problem.but(expected.clone(), tree::shown(&found)),
            );
        }
    }
    if !any {
        let problem = Problem::error("E-VERSION", "", "there is no image whose version could be read");
        findings.add(check, "index.json", problem.but(expected.clone(), "nothing"));
    }
}
