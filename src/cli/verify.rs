//! `dmoci verify`

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::backend::backend;
use super::build::epoch;
use super::network::RegistryArgs;
use super::report::Progress;
use super::{Report, count, docker, watcher};
use crate::diagnostic::{Exit, Failure};
use crate::engine::verify::{Finding, Outcome, Verdict, VerifyReport, Watch};
use crate::oci::Severity;
use crate::ops::lock::Network;
use crate::ops::own::Backend;
use crate::ops::remote::Remote;
use crate::ops::verify::{self, Request};
use crate::ops::{key, wheel};
use crate::store::{SPARSE, Subject};
use crate::trust::{Identity, Root, Signer, Trusted, Wanted};

/// Say whether an image, wheel, source distribution or signed file is sound and authentic, and why
///
/// SUBJECT is a path of a wheel (.whl) or source distribution (.tar.gz), or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG or a path, each with
/// @sha256:DIGEST if you hold one: of a manifest, of an index, or of the whole archive file; never the image ID. With a tag or a digest the
/// verdict is about that image alone. Every document, blob, layer and, in archives by dmoci, every byte is looked at; everything found is
/// reported. With --key or --certificate-identity it must be signed by that signer. Exit codes: 0 verified, 1 damaged, malformed, forged or another image
/// than asked for, 2 wrong usage, 3 sound but not authenticated, 4 signed by somebody else, 6 could not be decided.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Layouts, archives, images of a Docker daemon or in registries, wheels or source distributions
    #[arg(required = true, value_name = "SUBJECT")]
    subjects: Vec<Subject>,
    /// Ask only whether the image is sound: exit 0 when nothing says who made it
    #[arg(long)]
    integrity_only: bool,
    /// A list of digests that you trust, as sha256sum writes it: of manifests, indexes or files
    #[arg(long, value_name = "SHA256SUMS")]
    against: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerArgs,
    /// The version that every subject must say it is
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<String>,
    /// Build the wheel or source distribution again from --source, and compare: identical bytes, identical after normalisation,
    /// identical RECORD (the same content of all files), or different: exit 5. That it cannot be built is 6
    #[arg(long, requires = "source")]
    rebuild: bool,
    /// The source tree to build from: what git tracks there, outside of a work tree everything
    #[arg(long, value_name = "DIR", requires = "rebuild")]
    source: Option<PathBuf>,
    /// The interpreter that runs the build backend
    #[arg(long, value_name = "PROGRAM", default_value = "python3", requires = "rebuild")]
    python: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the whole report as JSON (docs/verify.schema.json, dmoci schema --of verify)
    #[arg(long)]
    json: bool,
}

/// Who must have signed.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Signatures")]
struct SignerArgs {
    /// The public key that must have signed every subject: of images a signature that refers to them, of files FILE.sigstore.json beside them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate_identity", "certificate_identity_regexp"])]
    key: Option<PathBuf>,
    /// The subject of the certificate that must have signed: an e-mail address or a URI, exactly
    #[arg(long, value_name = "SUBJECT", requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    /// The same as a regular expression, which must match the whole subject
    #[arg(
        long,
        value_name = "PATTERN",
        requires = "certificate_oidc_issuer",
        conflicts_with = "certificate_identity"
    )]
    certificate_identity_regexp: Option<String>,
    /// Who must have vouched for that subject: the URL of an identity provider, exactly
    #[arg(long, value_name = "URL")]
    certificate_oidc_issuer: Option<String>,
    /// The authorities, logs and time-stamp services to judge by; without it those of the public Sigstore service
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// What the signed statement must be; without it that the image or file is signed, and no attestation
    #[arg(long = "type", value_name = "URI")]
    predicate: Option<String>,
    /// The bundle, when it does not lie beside the file or refer to the image; there must be one subject
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

impl SignerArgs {
    /// What is trusted; nothing when no signer was asked for.
    fn trusted(&self, subjects: usize) -> Result<Option<Trusted>, Failure> {
        let issuer = self.certificate_oidc_issuer.as_deref();
        let signer = match (&self.key, &self.certificate_identity, &self.certificate_identity_regexp, issuer)
        {
            (Some(key), None, None, None) => Signer::Key(key::public(key)?),
            (None, Some(subject), None, Some(issuer)) => Signer::Identity(Identity::exact(subject, issuer)?),
            (None, None, Some(pattern), Some(issuer)) => {
                Signer::Identity(Identity::pattern(pattern, issuer)?)
            }
            (None, None, None, None)
                if self.trusted_root.is_none() && self.predicate.is_none() && self.bundle.is_none() =>
            {
                return Ok(None);
            }
            _ => {
                let text = "these options need a signer: --key, or --certificate-identity with --certificate-oidc-issuer";
                return Err(usage("E-SIGNER-MISSING", text, "say who must have signed"));
            }
        };
        if self.bundle.is_some() && subjects > 1 {
            return Err(usage(
                "E-SIGN-BUNDLE",
                "--bundle names one file, and there are several subjects",
                "verify them one by one, or leave the bundles beside the files",
            ));
        }
        let root = match &self.trusted_root {
            Some(path) => verify::trusted_root(path)?,
            None => Root::embedded()?,
        };
        let wanted = self.predicate.clone().map_or(Wanted::Signature, Wanted::Predicate);
        Ok(Some(Trusted { signer, wanted, root }))
    }
}

fn usage(code: &'static str, message: &str, help: &str) -> Failure {
    let (causes, places) = (Vec::new(), Vec::new());
    Failure { code, exit: Exit::Usage, message: message.into(), causes, places, help: Some(help.into()) }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let trusted = args.signer.trusted(args.subjects.len())?.map(Arc::new);
    let mut reports = Vec::new();
    let network = args.registry.network();
    if let Some(source) = &args.source {
        wheel::is_tree(source)?;
    }
    let rebuild = args.source.as_deref().map(|source| again(source, &args.python)).transpose()?;
    if let Some(image) = args.subjects.iter().find(|subject| rebuild.is_some() && verify::is_image(subject)) {
        return Err(wheel::not_built(image));
    }
    let all = args.subjects.clone();
    for subject in args.subjects {
        if verify::is_companion(&subject, &all) {
            report.status("Passing over", format!("{subject}, which is about another subject"));
            continue;
        }
        report.detail("Verifying", &subject);
        let request = Request {
            subject: docker::located(subject)?,
            against: args.against.clone(),
            trusted: trusted.clone(),
            bundle: args.signer.bundle.clone(),
            now: now(),
            expect_version: args.expect_version.clone(),
            integrity_only: args.integrity_only,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let fetching = watcher::Watcher::new(report);
        let remote = Remote { network: &network, watch: &fetching };
        let watch = Watcher { report, progress: Mutex::new(None) };
        let result = verify::verify_watched(&request, Some(&remote), &watch);
        match result {
            Ok(mut result) => {
                if let Some(again) = rebuild.as_ref().filter(|_| is_sound(result.verdict)) {
                    exit = exit.worst(rebuilt(&request, again, &network, &mut result, report));
                }
                exit = exit.worst(result.verdict.exit());
                if !args.json {
                    lines(&result).iter().for_each(|line| report.data(line));
                }
                reports.push(result.to_value());
            }
            Err(failure) => {
                exit = exit.worst(failure.exit);
                report.failure(&failure);
                let subject = request.subject.to_string();
                reports.push(
                    json!({"subject": subject, "error": {"code": failure.code, "message": failure.message}}),
                );
            }
        }
    }
    if args.json {
        report.json(&json!({"schema": 1, "exit": exit as i32, "reports": reports}));
    }
    Ok(exit)
}

fn is_sound(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Verified | Verdict::Sound | Verdict::NotAuthenticated)
}

/// How a source is built again.
fn again(source: &Path, python: &Path) -> Result<wheel::Request, Failure> {
    let Backend { dmoci, python, scratch } = backend(python.to_owned())?;
    Ok(wheel::Request {
        source: source.to_owned(),
        output: source.join("dist"),
        lock: source.join("dmoci.lock"),
        scratch,
        dmoci,
        python,
        all_files: false,
        as_they_are: true,
        sdist: true,
        update: false,
        epoch: epoch()?,
        limit: Duration::from_secs(1800),
        versions: Vec::new(),
        pins: false,
    })
}

/// Builds again, and adds what came of it to the report. What cannot be built decides nothing.
fn rebuilt(
    request: &Request,
    again: &wheel::Request,
    network: &Network<'_>,
    result: &mut VerifyReport,
    report: &Report,
) -> Exit {
    let watch = super::watcher::Watcher::new(report);
    let asked = request.subject.digest().is_some() || request.against.is_some() || request.trusted.is_some();
    match wheel::rebuild(request.subject.path(), again, network, &watch) {
        Ok(rebuild) => {
            result.rebuilt(rebuild, &again.source.display().to_string(), asked);
            Exit::Done
        }
        Err(mut failure) => {
            failure.exit = Exit::Undecided;
            report.failure(&failure);
            // What was asked for has no answer, whatever else is known.
            result.verdict = Verdict::Undecided;
            Exit::Undecided
        }
    }
}

/// Draws a bar over the bytes of all blobs.
struct Watcher<'a> {
    report: &'a Report,
    progress: Mutex<Option<Progress>>,
}

impl Watch for Watcher<'_> {
    fn total(&self, bytes: u64) {
        if let Ok(mut progress) = self.progress.lock() {
            *progress = Some(self.report.progress("Verifying", bytes));
        }
    }

    fn read(&self, bytes: u64) {
        if let Ok(progress) = self.progress.lock()
            && let Some(progress) = progress.as_ref()
        {
            progress.inc(bytes);
        }
    }
}

/// The report for people.
fn lines(report: &VerifyReport) -> Vec<String> {
    let mut lines = vec![report.subject.clone()];
    for image in &report.images {
        let version =
            image.version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default();
        let layers = count(image.layers, "layer", "layers");
        lines.push(format!("  image {}: {layers}{version}", image.platform));
        lines.push(format!("    manifest {}", image.manifest));
        lines.push(format!("    config   {} (the image ID of Docker's classic store)", image.config));
    }
    if let Some(it) = &report.distribution {
        let unknown = || "?".to_owned();
        let name = it.name.clone().unwrap_or_else(unknown);
        let version = it.version.clone().unwrap_or_else(unknown);
        let tags = it.tags.as_ref().map(|tags| format!(" for {tags}")).unwrap_or_default();
        lines.push(format!("  {} {name} {version}{tags}", it.kind));
        lines.push(format!("    file     {}", it.digest));
    }
    if let Some(file) = &report.file {
        lines.push(format!(
            "  file, {}",
            count(usize::try_from(file.size).unwrap_or(usize::MAX), "byte", "bytes")
        ));
        lines.push(format!("    digest   {}", file.digest));
    }
    for one in &report.signatures {
        let predicate = one.predicate.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
        let by = if one.outcome == "valid" { "by" } else { "said to be by" };
        lines.push(format!("  signature {by} {}{predicate}: {}", one.signer, one.outcome));
        lines.push(format!("    in {}, of {}", one.place, one.about));
        if !one.times.is_empty() {
            lines.push(format!("    at {}", one.times.join(", ")));
        }
        lines.extend(one.unchecked.iter().map(|text| format!("    not checked: {text}")));
    }
    for finding in &report.findings {
        lines.extend(told(finding));
    }
    if report.findings.iter().any(|finding| finding.code == "E-BLOB-MISSING") {
        lines.push(format!("  help: {SPARSE}"));
    }
    for check in &report.checks {
        let (outcome, why) = match &check.outcome {
            Outcome::Pass => ("pass", ""),
            Outcome::Fail => ("FAIL", ""),
            Outcome::Skipped(why) => ("skipped", why.as_str()),
        };
        let text =
            [why, &check.detail].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        lines.push(format!("  {:<13} {outcome:<7} {text}", check.id.name()).trim_end().to_owned());
    }
    if let Some(rebuild) = &report.rebuild {
        lines.push(format!("  rebuild: {}", rebuild.verdict.words()));
        lines.extend(rebuild.differences.iter().map(|line| format!("    {line}")));
    }
    match report.canonical.reasons.as_slice() {
        _ if report.file.is_some() => {}
        [] => lines.push("  canonical: yes".into()),
        reasons => {
            lines.push("  canonical: no, because".into());
            lines.extend(reasons.iter().map(|reason| format!("    {reason}")));
        }
    }
    for by in &report.authenticated_by {
        lines.push(format!("  authenticated by {by}"));
    }
    lines.push(format!("{}: {}", report.verdict.words(), report.subject));
    lines
}

fn told(finding: &Finding) -> Vec<String> {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let mut lines = vec![
        format!("  {severity}[{}]: {}", finding.code, finding.message),
        format!("    in {}", finding.place),
    ];
    if !finding.expected.is_empty() {
        lines.push(format!("    expected {}", finding.expected));
    }
    if !finding.found.is_empty() {
        lines.push(format!("    found    {}", finding.found));
    }
    lines
}
