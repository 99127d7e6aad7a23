//! What a verification says: findings, checks, a verdict.

use serde_json::{Value, json};

use crate::diagnostic::Exit;
use crate::oci::{Problem, Severity};

/// Something that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckId {
    /// The directory or archive around the image.
    Container,
    /// JSON documents: index.json, indexes, manifests, configurations.
    Documents,
    /// Size and digest of every blob that a document names.
    Blobs,
    /// Compression, tar and diff_id of every layer.
    Layers,
    /// Platforms in indexes against those in configurations.
    Platforms,
    /// `manifest.json` against `index.json`.
    Views,
    /// The digest that `index.json` carries of itself.
    IndexDigest,
    /// Bytes of the archive outside of its members' contents.
    ArchiveBytes,
    /// Blobs that nothing names.
    Unreferenced,
    /// RECORD of a wheel against its files.
    Record,
    /// Metadata of a distribution.
    Metadata,
    /// The file name of a distribution against what is inside.
    Names,
    /// The version asked for.
    Version,
    /// Signatures by whom the operator trusts.
    Signatures,
    /// Something that the operator holds.
    Authenticity,
}

impl CheckId {
    /// The checks of a distribution of Python, in the order they are reported in.
    pub const DISTRIBUTION: [CheckId; 7] = [
        CheckId::Container,
        CheckId::Record,
        CheckId::Metadata,
        CheckId::Names,
        CheckId::Version,
        CheckId::Signatures,
        CheckId::Authenticity,
    ];

    /// The checks of a file of no kind that is known.
    pub const FILE: [CheckId; 2] = [CheckId::Signatures, CheckId::Authenticity];

    /// The checks of an image, in the order they are reported in.
    pub const IMAGE: [CheckId; 12] = [
        CheckId::Container,
        CheckId::Documents,
        CheckId::Blobs,
        CheckId::Layers,
        CheckId::Platforms,
        CheckId::Views,
        CheckId::IndexDigest,
        CheckId::ArchiveBytes,
        CheckId::Unreferenced,
        CheckId::Version,
        CheckId::Signatures,
        CheckId::Authenticity,
    ];

    /// The stable name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            CheckId::Container => "container",
            CheckId::Documents => "documents",
            CheckId::Blobs => "blobs",
            CheckId::Layers => "layers",
            CheckId::Platforms => "platforms",
            CheckId::Views => "views",
            CheckId::IndexDigest => "index-digest",
            CheckId::ArchiveBytes => "archive-bytes",
            CheckId::Unreferenced => "unreferenced",
            CheckId::Record => "record",
            CheckId::Metadata => "metadata",
            CheckId::Names => "names",
            CheckId::Version => "version",
            CheckId::Signatures => "signatures",
            CheckId::Authenticity => "authenticity",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable code, `E-` and capitals, for errors, warnings and notes alike.
    pub code: &'static str,
    /// Only errors decide.
    pub severity: Severity,
    /// The check it belongs to.
    pub check: CheckId,
    /// The blob or file and its place in the image.
    pub place: String,
    /// What is so, one sentence without full stop.
    pub message: String,
    /// What was expected; may be empty.
    pub expected: String,
    /// What was found; may be empty.
    pub found: String,
    /// Whether it says "by somebody else", not "wrong".
    pub refused: bool,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was looked at and is right.
    Pass,
    /// Something is wrong.
    Fail,
    /// Not looked at, or nothing to look at, and why.
    Skipped(String),
}

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub id: CheckId,
    /// How it ended.
    pub outcome: Outcome,
    /// What was covered; may be empty.
    pub detail: String,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sound, and authenticated by something that the operator holds.
    Verified,
    /// Sound, and only that was asked.
    Sound,
    /// Sound, but nothing says who made it.
    NotAuthenticated,
    /// Whole, but not the image, version or list entry that was asked for.
    Mismatch,
    /// Damaged, tampered with or malformed.
    NotSound,
    /// Sound, but a signature of it is damaged, forged, or about something else, and no other is by whom was asked for.
    Forged,
    /// Sound, and signed, but not by whom was asked for.
    Refused,
    /// Sound, but the source makes something else.
    RebuildDiffers,
    /// Something could not be read or computed, so there is no answer.
    Undecided,
}

impl Verdict {
    /// The words for people, and the value in JSON.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Verified => "VERIFIED",
            Verdict::Sound => "SOUND",
            Verdict::NotAuthenticated => "SOUND, NOT AUTHENTICATED",
            Verdict::Mismatch => "MISMATCH",
            Verdict::NotSound => "NOT SOUND",
            Verdict::Forged => "SIGNATURE NOT VALID",
            Verdict::Refused => "REFUSED",
            Verdict::RebuildDiffers => "REBUILD DIFFERS",
            Verdict::Undecided => "UNDECIDED",
        }
    }

    /// What the process ends with.
    pub fn exit(self) -> Exit {
        match self {
            Verdict::Verified | Verdict::Sound => Exit::Done,
            Verdict::NotAuthenticated => Exit::Missing,
            Verdict::Mismatch | Verdict::NotSound | Verdict::Forged => Exit::Mismatch,
            Verdict::Refused => Exit::Refused,
            Verdict::RebuildDiffers => Exit::Differs,
            Verdict::Undecided => Exit::Undecided,
        }
    }
}

/// One image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Digest of the manifest.
    pub manifest: String,
    /// Digest of the configuration: the image ID of Docker's classic store.
    pub config: String,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Number of layers.
    pub layers: usize,
    /// `org.opencontainers.image.version` of the manifest's annotations.
    pub version: Option<String>,
}

/// A distribution of a Python project, as far as it is what its file name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributionSummary {
    /// `wheel` or `sdist`.
    pub kind: &'static str,
    /// The project, normalised; nothing when something in it denies the file name.
    pub name: Option<String>,
    /// Its version, normalised; nothing when something in it denies the file name.
    pub version: Option<String>,
    /// The tags of a wheel.
    pub tags: Option<String>,
    /// The sha256 of the whole file.
    pub digest: String,
    /// Number of files in it.
    pub files: u64,
}

/// A file of no kind that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// The sha256 of the whole file.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
}

/// A signature that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureSummary {
    /// Where it is.
    pub place: String,
    /// What it says that it is about, in words.
    pub about: String,
    /// By whom: verified when it is valid, else what it says of itself.
    pub signer: String,
    /// The type of its statement; nothing when it signs a file's bytes.
    pub predicate: Option<String>,
    /// `valid`, `not checked`, or why it does not count.
    pub outcome: String,
    /// Times that are vouched for.
    pub times: Vec<String>,
    /// What of it was not checked.
    pub unchecked: Vec<String>,
}

/// What building again from the source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebuildVerdict {
    /// The same bytes.
    Bytes,
    /// Other bytes, and the same normal form.
    Normalised,
    /// The same content of all files but RECORD; modes differ, say.
    Record,
    /// Something else.
    Different,
}

impl RebuildVerdict {
    /// The words for people, and the value in JSON.
    pub fn words(self) -> &'static str {
        match self {
            RebuildVerdict::Bytes => "identical bytes",
            RebuildVerdict::Normalised => "identical after normalisation",
            RebuildVerdict::Record => "identical RECORD",
            RebuildVerdict::Different => "different",
        }
    }
}

/// How a distribution compares with one that was built again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// In a word.
    pub verdict: RebuildVerdict,
    /// The first files that differ, and where.
    pub differences: Vec<String>,
}

/// Whether every byte is as dmoci would have written it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canonical {
    /// Why not; empty when it is.
    pub reasons: Vec<String>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The subject as the user named it.
    pub subject: String,
    /// The answer.
    pub verdict: Verdict,
    /// What authenticates the image; empty when nothing does.
    pub authenticated_by: Vec<String>,
    /// The images that were found.
    pub images: Vec<ImageSummary>,
    /// The distribution, when the subject is one.
    pub distribution: Option<DistributionSummary>,
    /// The file, when the subject is one of no kind that is known.
    pub file: Option<FileSummary>,
    /// The signatures that were found.
    pub signatures: Vec<SignatureSummary>,
    /// What building it again gave, when that was asked for.
    pub rebuild: Option<Rebuild>,
    /// Every check.
    pub checks: Vec<Check>,
    /// Every finding, errors first.
    pub findings: Vec<Finding>,
    /// Whether it is as dmoci would have written it.
    pub canonical: Canonical,
}

impl VerifyReport {
    /// Number of findings of a weight.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Adds what building again from a source gave. Of something sound it decides: another content is no, and the same content is what the
    /// operator holds the source of, so that it authenticates when nothing else was asked to.
    pub fn rebuilt(&mut self, rebuild: Rebuild, source: &str, asked: bool) {
        let words = rebuild.verdict.words();
        match rebuild.verdict {
            RebuildVerdict::Different => self.verdict = Verdict::RebuildDiffers,
            _ if asked => {}
            _ => {
                self.verdict = Verdict::Verified;
                let by = format!("the source in {source}, which gives it again: {words}");
                for check in self.checks.iter_mut().filter(|check| check.id == CheckId::Authenticity) {
                    (check.outcome, check.detail) = (Outcome::Pass, by.clone());
                }
                self.authenticated_by.push(by);
            }
        }
        self.rebuild = Some(rebuild);
    }

    /// One of `reports` in the JSON of `docs/verify.schema.json`.
    pub fn to_value(&self) -> Value {
        let images = self.images.iter().map(|image| {
            json!({"manifest": image.manifest, "config": image.config, "platform": image.platform,
                "layers": image.layers, "version": image.version})
        });
        let checks = self.checks.iter().map(|check| {
            let (outcome, reason) = match &check.outcome {
                Outcome::Pass => ("pass", None),
                Outcome::Fail => ("fail", None),
                Outcome::Skipped(why) => ("skipped", Some(why)),
            };
            json!({"check": check.id.name(), "outcome": outcome, "reason": reason, "detail": check.detail})
        });
        let findings = self.findings.iter().map(|finding| {
            json!({"code": finding.code, "severity": finding.severity, "check": finding.check.name(),
                "place": finding.place, "message": finding.message, "expected": finding.expected,
                "found": finding.found})
        });
        let distribution = self.distribution.as_ref().map(|it| {
            json!({"kind": it.kind, "name": it.name, "version": it.version, "tags": it.tags,
                "digest": it.digest, "files": it.files})
        });
        json!({
            "subject": self.subject,
            "verdict": self.verdict.words(),
            "exit": self.verdict.exit() as i32,
            "authenticatedBy": self.authenticated_by,
            "images": images.collect::<Vec<_>>(),
            "distribution": distribution,
            "file": self.file.as_ref().map(|file| json!({"digest": file.digest, "size": file.size})),
            "signatures": self.signatures.iter().map(|one| {
                json!({"place": one.place, "about": one.about, "signer": one.signer,
                    "predicateType": one.predicate, "outcome": one.outcome, "times": one.times,
                    "unchecked": one.unchecked})
            }).collect::<Vec<_>>(),
            "rebuild": self.rebuild.as_ref().map(|rebuild| {
                json!({"verdict": rebuild.verdict.words(), "differences": rebuild.differences})
            }),
            "checks": checks.collect::<Vec<_>>(),
            "findings": findings.collect::<Vec<_>>(),
            "canonical": {"yes": self.canonical.reasons.is_empty(), "reasons": self.canonical.reasons},
        })
    }
}

/// Collects what checks find.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
    pub(super) canonical: Canonical,
    pub(super) signatures: Vec<SignatureSummary>,
    /// Numbers of errors, warnings and notes, those that are not told included.
    told: [usize; 3],
    skipped: Vec<(CheckId, String)>,
    details: Vec<(CheckId, String)>,
}

/// Codes of errors that say "unknown", not "wrong".
const UNDECIDED: [&str; 3] = ["E-IO", "E-DIGEST-ALGORITHM", "E-BUNDLE-UNSUPPORTED"];

/// Codes of errors that say "another image than was asked for", not "a damaged one".
const MISMATCH: [&str; 3] = ["E-SELECT", "E-VERSION", "E-AGAINST"];

/// How many findings of each weight are told.
const FINDINGS: usize = 10_000;

/// How many reasons against "canonical" are told.
const REASONS: usize = 12;

impl Findings {
    /// Adds a problem at a place.
    pub(super) fn add(&mut self, check: CheckId, place: &str, problem: Problem) {
        let place = match problem.pointer.as_str() {
            "" => place.to_owned(),
            pointer => format!("{place} at {pointer}"),
        };
        let Problem { code, severity, message, expected, found, .. } = problem;
        // A hostile image has as many as it likes. Those of one weight never crowd out those of another.
        let told = match severity {
            Severity::Error => &mut self.told[0],
            Severity::Warning => &mut self.told[1],
            Severity::Note => &mut self.told[2],
        };
        *told += 1;
        if *told > FINDINGS {
            return;
        }
        let refused = false;
        self.list.push(Finding { code, severity, check, place, message, expected, found, refused });
    }

    /// Adds the same about a signature by somebody else.
    pub(super) fn refuse(&mut self, place: &str, problem: Problem) {
        let before = self.list.len();
        self.add(CheckId::Signatures, place, problem);
        self.list[before..].iter_mut().for_each(|finding| finding.refused = true);
    }

    /// Adds a reason why something is not as dmoci writes it.
    pub(super) fn not_canonical(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.canonical.reasons.len() < REASONS && !self.canonical.reasons.contains(&reason) {
            self.canonical.reasons.push(reason);
        }
    }

    /// Says that a check was not made, or not all of it.
    pub(super) fn skip(&mut self, check: CheckId, why: impl Into<String>) {
        self.skipped.push((check, why.into()));
    }

    /// Says what a check covered.
    pub(super) fn detail(&mut self, check: CheckId, detail: impl Into<String>) {
        self.details.push((check, detail.into()));
    }

    /// True when an error was found.
    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// These checks with their outcomes.
    pub(super) fn checks(&self, ids: &[CheckId]) -> Vec<Check> {
        let outcome = |id| {
            let failed = |finding: &Finding| finding.check == id && finding.severity == Severity::Error;
            match self.skipped.iter().find(|(skipped, _)| *skipped == id) {
                _ if self.list.iter().any(failed) => Outcome::Fail,
                Some((_, why)) => Outcome::Skipped(why.clone()),
                None => Outcome::Pass,
            }
        };
        let detail = |id| {
            let details: Vec<_> =
                self.details.iter().filter(|(own, _)| *own == id).map(|(_, text)| text.as_str()).collect();
            details.join("; ")
        };
        ids.iter().map(|&id| Check { id, outcome: outcome(id), detail: detail(id) }).collect()
    }

    /// The answer as far as soundness goes, and signatures that do not count: `None` when nothing is wrong.
    pub(super) fn unsound(&self) -> Option<Verdict> {
        let errors = self.list.iter().filter(|finding| finding.severity == Severity::Error);
        let of = |finding: &Finding| match finding.code {
            code if UNDECIDED.contains(&code) => (1, Verdict::Undecided),
            _ if finding.check == CheckId::Signatures && finding.refused => (2, Verdict::Refused),
            _ if finding.check == CheckId::Signatures => (3, Verdict::Forged),
            code if MISMATCH.contains(&code) => (4, Verdict::Mismatch),
            _ => (5, Verdict::NotSound),
        };
        errors.map(of).max_by_key(|(rank, _)| *rank).map(|(_, verdict)| verdict)
    }

    /// The findings, errors first, each weight in the order found.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        let untold: usize = self.told.iter().map(|told| told.saturating_sub(FINDINGS)).sum();
        if untold > 0 {
            let message = format!("{untold} more findings are not told");
            self.list.push(Finding {
                code: "E-MORE",
                severity: Severity::Note,
                check: self.list.last().map_or(CheckId::Documents, |finding| finding.check),
                place: "all of it".into(),
                message,
                expected: String::new(),
                found: String::new(),
                refused: false,
            });
        }
        self.list.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.list
    }
}
