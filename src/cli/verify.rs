//! `dmoci verify`

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
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
use crate::ops::wheel;
use crate::store::Subject;

/// Say whether an image, wheel or source distribution is sound and authentic, and why
///
/// SUBJECT is a path of a wheel (.whl) or source distribution (.tar.gz), or oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG or a path, each with
/// @sha256:DIGEST if you hold one: of a manifest, of an index, or of the whole archive file; never the image ID. With a tag or a digest the
/// verdict is about that image alone. Every document, blob, layer and, in archives by dmoci, every byte is looked at; everything found is
/// reported. Exit codes: 0 verified, 1 damaged, malformed or another image than asked for, 2 wrong usage, 3 sound but
/// not authenticated, 6 could not be decided.
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

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut reports = Vec::new();
    let network = args.registry.network();
    let rebuild = args.source.as_deref().map(|source| again(source, &args.python)).transpose()?;
    if let Some(image) = args.subjects.iter().find(|subject| rebuild.is_some() && verify::is_image(subject)) {
        return Err(wheel::not_built(image));
    }
    for subject in args.subjects {
        report.detail("Verifying", &subject);
        let request = Request {
            subject: docker::located(subject)?,
            against: args.against.clone(),
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
    let asked = request.subject.digest().is_some() || request.against.is_some();
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
    for finding in &report.findings {
        lines.extend(told(finding));
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
