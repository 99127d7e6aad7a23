//! `dmoci wheel`: a wheel and a source distribution by the project's own build backend (PEP 517), the same bytes everywhere.
//!
//! ```text
//! mod > environment > tools, source, project > error
//! mod, rebuild > publish, elf
//! ```

mod elf;
mod environment;
mod error;
mod project;
mod publish;
mod rebuild;
mod source;
mod tools;

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dmoci_layers::zip::ZipTime;
use dmoci_layers::{Algorithm, Digest, MTIME};
use serde_json::{Value, json};

use super::lock::Network;
use super::plan::Watch;
use crate::diagnostic::Failure;
use crate::files;
use crate::inputs::python::dist::{DistKind, Examined, Sdist, examine, normalise};
use crate::lock::Pin;
use crate::oci::Severity;
use crate::sandbox::{Cell, Isolation};
use crate::vcs::WorkTree;
pub use rebuild::rebuild;

use environment::{Environment, Requirements, variables};
use error::WheelError;
use project::BuildSystem;
use source::{Source, Taken, make_directory};
use tools::{Installer, Python};

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The source tree.
    pub source: PathBuf,
    /// The output directory.
    pub output: PathBuf,
    /// The lock file.
    pub lock: PathBuf,
    /// Where unfinished things lie.
    pub scratch: PathBuf,
    /// This program.
    pub dmoci: PathBuf,
    /// The interpreter; without it, the `python3` of the path.
    pub python: PathBuf,
    /// Take everything, not only what git tracks.
    pub all_files: bool,
    /// Keep the backend's bytes.
    pub as_they_are: bool,
    /// Pin the build requirements anew.
    pub update: bool,
    /// `SOURCE_DATE_EPOCH`, instead of the commit's time.
    pub epoch: Option<u64>,
    /// How long each hook may take.
    pub limit: Duration,
    /// Versions of build requirements that must be those; of projects that are not required they say nothing.
    pub versions: Vec<String>,
    /// Add to the lock file what is pinned.
    pub pins: bool,
}

/// A distribution that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `wheel` or `sdist`.
    pub kind: &'static str,
    /// Its file name.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// The digest of what the backend made.
    pub backend: Digest,
}

/// What was built, and by what.
#[derive(Clone, Debug)]
pub struct Built {
    /// The folder that they are in.
    pub folder: PathBuf,
    /// The source distribution, and the wheel.
    pub distributions: Vec<Distribution>,
    /// What is known of how they were built.
    pub evidence: Value,
}

/// The last second that a zip archive can hold.
const LAST: u64 = 4_354_819_198;

/// Builds both. On an error the output directory is as it was.
pub fn build(request: &Request, network: &Network<'_>, watch: &dyn Watch) -> Result<Built, Failure> {
    crate::sha256::provide();
    let scratch = tempfile::Builder::new().prefix("dmoci-wheel-").tempdir_in(&request.scratch);
    let scratch = scratch.map_err(|source| WheelError::Output { path: request.scratch.clone(), source })?;
    let both = [DistKind::Sdist, DistKind::Wheel];
    let (made, evidence) = made(request, network, watch, scratch.path(), &both)?;
    let folder = publish::publish(&request.output, &made, &evidence, watch)?;
    let distributions = made.into_iter().map(|(distribution, _)| distribution).collect();
    Ok(Built { folder, distributions, evidence })
}

/// A distribution, and where its bytes are.
type Made = (Distribution, PathBuf);

/// Builds these below `scratch`.
fn made(
    request: &Request,
    network: &Network<'_>,
    watch: &dyn Watch,
    scratch: &Path,
    kinds: &[DistKind],
) -> Result<(Vec<Made>, Value), Failure> {
    let system = BuildSystem::read(&request.source)?;
    let epoch = match request.epoch {
        Some(epoch) => epoch,
        None => {
            let tree = WorkTree::around(&request.source)?;
            let commit = tree.map(|tree| tree.commit(&request.output, &[])).transpose()?.flatten();
            commit.map_or(MTIME, |commit| commit.time)
        }
    };
    if epoch > LAST {
        return Err(WheelError::Epoch(epoch).into());
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| WheelError::Output { path, source }
    };
    let scratch = scratch.canonicalize().map_err(failed(scratch))?;
    let work = scratch.join("work");
    for directory in [work.clone(), work.join("home"), work.join("tmp"), scratch.join("made")] {
        make_directory(&directory)?;
    }
    let python = Python::describe(&request.python, &scratch)?;
    let cell = Cell::new(&work, &request.dmoci).map_err(failed(&work))?;
    if let Isolation::Nothing(why) = cell.isolation() {
        watch.warning(&format!(
            "the build backend is not kept in, because {why}: it could use the network and write elsewhere"
        ));
    }
    let path = (network.variable)("PATH");
    let installer = Installer::find(&python, &cell, &variables(cell.place(), epoch, network.variable), path)?;
    let taken = Taken::of(&request.source, request.all_files)?;
    let history = scratch.join("history");
    let source = Source { tree: &request.source, output: &request.output, taken, history: &history, epoch };
    let environment = Environment {
        cell,
        python,
        installer,
        system: &system,
        work: &work,
        source: &source,
        limit: request.limit,
        own: network.variable,
    };
    let from = Requirements {
        network,
        watch,
        lock: request.lock.clone(),
        renew: request.update,
        versions: &request.versions,
        pins: request.pins,
        project: &request.source,
        scratch: &scratch,
    };
    let python = &environment.python;
    watch.status(
        "Preparing",
        &format!("{} {} with {}", python.implementation, python.version, environment.installer.shown()),
    );
    let pins = environment.provide(&from)?;
    let mut made = Vec::new();
    for &kind in kinds {
        let hook = match kind {
            DistKind::Sdist => "build_sdist",
            DistKind::Wheel => "build_wheel",
        };
        watch.status("Building", &format!("the {} with {}", kind.name(), system.backend));
        made.push(one(request, &environment, (kind, hook), &scratch.join("made"), watch)?);
    }
    let evidence = evidence(request, &environment, &pins, epoch, &made);
    Ok((made, evidence))
}

/// Builds one, looks at all of it, and gives it its form.
fn one(
    request: &Request,
    environment: &Environment<'_>,
    (kind, hook): (DistKind, &str),
    target: &Path,
    watch: &dyn Watch,
) -> Result<Made, Failure> {
    let (name, said) = environment.make(hook)?;
    said.lines().for_each(|line| watch.detail("Said", line));
    let wrong = |what: &str, said: &str| environment.fault(format!("{what} in {hook}"), said.to_owned());
    let path = environment.work.join("out").join(&name);
    let mut file =
        files::open_regular(&path).map_err(|_| wrong("made no file of the name that it gave", &said))?;
    let io = |source| WheelError::Output { path: path.clone(), source };
    let (backend, _) = Digest::of_reader(Algorithm::Sha256, &mut file).map_err(io)?;
    file.rewind().map_err(io)?;
    if DistKind::of(&path) != Some(kind) {
        return Err(wrong(&format!("made {name}, which is no {}", kind.name()), &said).into());
    }
    let found = examine(kind, file.try_clone().map_err(io)?, Path::new(&name), backend.clone());
    if let Some(errors) = told(&found) {
        return Err(wrong(&format!("made {name}, which is not sound,"), &format!("{errors}\n{said}")).into());
    }
    let warnings = found.remarks.iter().filter(|remark| remark.problem.severity == Severity::Warning);
    warnings.for_each(|remark| watch.warning(&format!("{}: {}", remark.place, remark.problem.message)));
    let target = target.join(&name);
    let failed = |source| WheelError::Output { path: target.clone(), source };
    let mut out = BufWriter::new(File::create_new(&target).map_err(failed)?);
    match (request.as_they_are, kind) {
        (true, _) => {
            // Looking at it has moved the place that it is read from.
            file.rewind().map_err(io)?;
            io::copy(&mut file, &mut out).map_err(failed)?;
        }
        (false, DistKind::Wheel) => {
            let time = ZipTime::of(environment.source.epoch);
            out = normalise(file, Path::new(&name), backend.clone(), time, out)?;
        }
        (false, DistKind::Sdist) => {
            let sdist = Sdist::read(file, Path::new(&name))?;
            out.write_all(&sdist.normal(Path::new(&name), environment.source.epoch)?).map_err(failed)?;
        }
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    let mut file = File::open(&target).map_err(failed)?;
    let (digest, size) = Digest::of_reader(Algorithm::Sha256, &mut file).map_err(failed)?;
    Ok((Distribution { kind: kind.name(), name, digest, size, backend }, target))
}

/// What is wrong with a distribution, a line for each.
fn told(found: &Examined) -> Option<String> {
    let errors = found.remarks.iter().filter(|remark| remark.problem.severity == Severity::Error);
    let lines: Vec<String> = errors
        .take(20)
        .map(|remark| format!("[{}] {}: {}", remark.problem.code, remark.place, remark.problem.message))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What is known of how they were built, for whoever wants to build them again.
fn evidence(
    request: &Request,
    environment: &Environment<'_>,
    pins: &[Pin],
    epoch: u64,
    made: &[Made],
) -> Value {
    let Environment { cell, python, installer, system, source, .. } = environment;
    let requirements = pins.iter().map(|pin| {
        let file = pin.wheel.as_ref().map(|wheel| wheel.file.clone());
        json!({"file": file, "sha256": pin.digest.hex()})
    });
    let distributions = made.iter().map(|(made, _)| {
        json!({"kind": made.kind, "name": made.name, "digest": made.digest.to_string(), "size": made.size,
            "backendDigest": made.backend.to_string()})
    });
    json!({
        "schema": 1,
        "rules": dmoci_layers::RULES,
        "backend": system.backend,
        "requires": system.requires,
        "requirements": requirements.collect::<Vec<_>>(),
        "python": {"implementation": python.implementation, "version": python.version, "zlib": python.zlib,
            "builtBy": python.built_by},
        "compiler": compiler(python),
        "installer": installer.shown(),
        "isolation": match cell.isolation() {
            Isolation::Namespaces => json!({"kind": "namespaces"}),
            Isolation::Nothing(why) => json!({"kind": "none", "reason": why}),
        },
        "source": source.taken.name(),
        "epoch": epoch,
        "normalized": !request.as_they_are,
        "distributions": distributions.collect::<Vec<_>>(),
    })
}

/// The first line of what the compiler that extensions are built with says of itself; nothing without one.
fn compiler(python: &Python) -> Option<String> {
    let program = python.cc.as_deref()?.split_whitespace().next()?;
    let mut command = std::process::Command::new(program);
    command.arg("--version").stdin(std::process::Stdio::null());
    let ended = crate::sandbox::bounded(command, Duration::from_secs(20)).ok()?;
    let success = ended.status.is_some_and(|status| status.success());
    success.then(|| ended.said.lines().next().unwrap_or_default().to_owned())
}
