//! `dmoci wheel`: a wheel and a source distribution by the project's own build backend (PEP 517), the same bytes everywhere.
//!
//! ```text
//! mod > rebuild, form, evidence, kept > environment > tools, source, project > outputs > publish, companions > error
//! rebuild > elf
//! ```

pub(super) mod companions;
mod elf;
mod environment;
mod error;
mod evidence;
mod form;
mod kept;
mod outputs;
mod project;
pub(super) mod publish;
mod rebuild;
mod source;
mod tools;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dmoci_layers::{Digest, MTIME};
use serde_json::Value;

use super::build::PyProject;
use super::lock::{BuildPins, Network};
use super::plan::Watch;
use crate::cache::Cache;
use crate::diagnostic::Failure;
use crate::inputs::files::{CopySource, Project};
use crate::inputs::python::dist::DistKind;
use crate::lock::Pins;
use crate::oci::platform::Platform;
use crate::sandbox::{Cell, Isolation, Scratch};
use crate::spec::target::OwnWheel;
use crate::spec::{self, Overrides};
use crate::vcs::WorkTree;
pub use rebuild::{is_tree, not_built, rebuild};

use environment::{Environment, Requirements, variables};
use error::WheelError;
use project::BuildSystem;
pub(super) use source::Taken;
use source::{Source, State, make_directory};
use tools::Python;

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
    /// Build a source distribution too.
    pub sdist: bool,
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

/// What was built, before it is anywhere.
pub(super) struct Fresh {
    /// Where it is: gone when this is.
    _scratch: Scratch,
    pub(super) made: Outcome,
}

/// A distribution, and where its bytes are.
pub(super) type Made = (Distribution, PathBuf);

/// What was made.
pub(super) struct Outcome {
    /// In the order in which they were built.
    pub(super) distributions: Vec<Made>,
    /// What is known of how they were built.
    pub(super) evidence: Value,
    /// Build requirements that the lock file lacks.
    pub(super) pins: Option<(Platform, Pins)>,
    /// What is not wrong with them but hardly meant.
    pub(super) warnings: Vec<String>,
    /// What they were built from; nothing where nothing was built.
    state: Option<State>,
}

/// The last second that a zip archive can hold.
const LAST: u64 = 4_354_819_198;

/// What `[wheel]` of a `dmoci.toml` in a project directory says, when there is one.
pub fn table(project: &Path) -> Result<Option<OwnWheel>, Failure> {
    let overrides = Overrides { vars: Default::default(), version: PyProject::read(project)?.version };
    // Named as the user would.
    let file = match project == Path::new(".") {
        true => PathBuf::from("dmoci.toml"),
        false => project.join("dmoci.toml"),
    };
    let Some(table) = spec::own_wheel(&file, &overrides)? else { return Ok(None) };
    let source = table.source.as_path();
    Project::open(project)?.check_link(source, source)?;
    Ok(Some(table))
}

/// Builds both. On an error the output directory is as it was.
pub fn build(request: &Request, network: &Network<'_>, watch: &dyn Watch) -> Result<Built, Failure> {
    publish::are_ours(&request.output)?;
    let Fresh { made, _scratch } = fresh(request, network, None, watch)?;
    let folder = publish::publish(&request.output, &made, watch)?;
    let distributions = made.distributions.into_iter().map(|(distribution, _)| distribution).collect();
    Ok(Built { folder, distributions, evidence: made.evidence })
}

/// Builds what is asked for, or takes it from the cache. Nothing is published.
pub(super) fn fresh(
    request: &Request,
    network: &Network<'_>,
    cache: Option<&Cache>,
    watch: &dyn Watch,
) -> Result<Fresh, Failure> {
    crate::sha256::provide();
    let scratch = scratch(request)?;
    let kinds: &[DistKind] =
        if request.sdist { &[DistKind::Sdist, DistKind::Wheel] } else { &[DistKind::Wheel] };
    let made = made(request, network, cache, watch, (scratch.path(), kinds))?;
    Ok(Fresh { _scratch: scratch, made })
}

/// What is copied of a source tree, and what git has to do with it.
pub(super) fn input(request: &Request) -> Result<(CopySource, Taken), Failure> {
    let taken = Taken::of(&request.source, request.all_files)?;
    // No history is copied.
    let (tree, output, history) = (&request.source, &request.output, Path::new(""));
    let source = Source { tree, output, taken, history, epoch: MTIME };
    Ok((source.input()?, taken))
}

/// Whether the source is not any more what this was built from.
pub(super) fn has_moved(request: &Request, made: &Outcome) -> Result<bool, Failure> {
    let taken = Taken::of(&request.source, request.all_files)?;
    let (tree, output, history) = (&request.source, &request.output, Path::new(""));
    let source = Source { tree, output, taken, history, epoch: MTIME };
    Ok(made.state.as_ref() != Some(&source.state()?))
}

/// Pins the build requirements that the lock file lacks, or all anew, without building anything; nothing when it lacks none.
pub(super) fn requirements(
    request: &Request,
    network: &Network<'_>,
    watch: &dyn Watch,
) -> Result<Option<(Platform, Pins)>, Failure> {
    let scratch = scratch(request)?;
    Ok(made(request, network, None, watch, (scratch.path(), &[]))?.pins)
}

/// A place for what is unfinished.
fn scratch(request: &Request) -> Result<Scratch, WheelError> {
    Scratch::make(&request.scratch, "dmoci-wheel-", &request.dmoci)
        .map_err(|source| WheelError::Output { path: request.scratch.clone(), source })
}

/// Builds these below `scratch`.
fn made(
    request: &Request,
    network: &Network<'_>,
    cache: Option<&Cache>,
    watch: &dyn Watch,
    (scratch, kinds): (&Path, &[DistKind]),
) -> Result<Outcome, Failure> {
    made_below(request, network, cache, watch, (scratch, kinds)).map_err(|mut failure| {
        match failure.code {
            // No revision is said of a distribution.
            "E-GIT" => failure.help = Some(GIT.to_owned()),
            // It is no entry of a layer.
            "E-SOURCE-TRACKED" => failure.help = Some(TRACKED.to_owned()),
            _ => {}
        }
        failure
    })
}

/// What is to be done when git does not answer.
const GIT: &str = "install git, and let it read the source tree (`safe.directory`); \
                   `dmoci wheel` does without it by --all-files and --epoch (or SOURCE_DATE_EPOCH)";

/// What is to be done when what git tracks is not what is there.
const TRACKED: &str = "tell git what belongs to the source, with `git add`, `git rm` or `git restore`; or take what is there, whatever \
                       git tracks: `all-files = true` below [wheel], `dmoci wheel --all-files`";

fn made_below(
    request: &Request,
    network: &Network<'_>,
    cache: Option<&Cache>,
    watch: &dyn Watch,
    (scratch, kinds): (&Path, &[DistKind]),
) -> Result<Outcome, Failure> {
    let system = BuildSystem::read(&request.source)?;
    system.apart(&request.source, &request.output)?;
    let epoch = epoch(request)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| WheelError::Output { path, source }
    };
    let scratch = scratch.canonicalize().map_err(failed(scratch))?;
    let work = scratch.join("work");
    let target = scratch.join("made");
    for directory in [work.clone(), work.join("home"), work.join("tmp"), target.clone()] {
        make_directory(&directory)?;
    }
    let python = Python::describe(&request.python, &scratch)?;
    let platform = python.platform()?;
    let pins = BuildPins::load(&request.lock, &platform, request.update)?;
    if kinds.is_empty() && !request.update && !pins.pins().is_empty() {
        let (distributions, warnings) = (Vec::new(), Vec::new());
        return Ok(Outcome { distributions, evidence: Value::Null, pins: None, warnings, state: None });
    }
    let taken = Taken::of(&request.source, request.all_files)?;
    let history = scratch.join("history");
    let source = Source { tree: &request.source, output: &request.output, taken, history: &history, epoch };
    let memory = cache.map(|cache| kept::Memory {
        cache,
        request,
        python: &python,
        kinds,
        epoch,
        variables: variables(Path::new(crate::sandbox::PLACE), epoch, network.variable),
    });
    if let Some(outcome) = memory.as_ref().and_then(|memory| memory.recall(&source, &pins.pins(), &target)) {
        outcome.warnings.iter().for_each(|message| watch.warning(message));
        outcome.distributions.iter().for_each(|(made, _)| watch.detail("Unchanged", &made.name));
        return Ok(outcome);
    }
    let cell = Cell::new(&work, &request.dmoci).map_err(failed(&work))?;
    if let Isolation::Nothing(why) = cell.isolation() {
        watch.warning(&format!(
            "the build backend is not kept in, because {why}: it could use the network and write elsewhere"
        ));
    }
    if let Err(why) = cell.sockets() {
        watch.warning(&format!(
            "the build backend is not kept from the sockets of this machine, because {why}: it could connect to services"
        ));
    }
    let environment = Environment {
        cell,
        python: &python,
        installer: Default::default(),
        system: &system,
        work: &work,
        source: &source,
        limit: request.limit,
        own: network.variable,
        state: Default::default(),
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
    let with = match system.requires.is_empty() {
        true => String::new(),
        false => format!(" with {}", environment.installer()?.shown()),
    };
    watch.status("Preparing", &format!("{} {}{with}", python.implementation, python.version));
    let (now, new) = environment.provide(&pins, &from)?;
    let (mut distributions, mut warnings) = (Vec::new(), Vec::new());
    for &kind in kinds {
        let hook = match kind {
            DistKind::Sdist => "build_sdist",
            DistKind::Wheel => "build_wheel",
        };
        watch.status("Building", &format!("the {} with {}", kind.name(), system.backend));
        let said = (watch, &mut warnings);
        distributions.push(form::one(request, &environment, (kind, hook), &target, said)?);
    }
    let evidence = evidence::evidence(request, &environment, &now, epoch, &distributions);
    let pins = new.then(|| (platform, BuildPins::keyed(&now)));
    let state = environment.state.take();
    let outcome = Outcome { distributions, evidence, pins, warnings, state };
    if let Some(memory) = &memory {
        memory.keep(&now, &outcome);
    }
    Ok(outcome)
}

/// The time of all files.
fn epoch(request: &Request) -> Result<u64, Failure> {
    let epoch = match request.epoch {
        Some(epoch) => epoch,
        None => {
            let tree = WorkTree::around(&request.source)?;
            tree.map(|tree| tree.time()).transpose()?.flatten().unwrap_or(MTIME)
        }
    };
    match epoch > LAST {
        true => Err(WheelError::Epoch(epoch).into()),
        false => Ok(epoch),
    }
}
