//! Whether a specification can be built: everything of a build but writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::build::{PyProject, names, open_cache};
use super::lock::{Mode, Network, Told, settle};
use super::own::{self, Backend, OwnBuilt};
use super::plan::{Ground, Watch, plan, warn};
use super::supply::Online;
use super::wheel::publish::FOLDER;
use crate::diagnostic::Failure;
use crate::engine::assemble;
use crate::inputs::python::quoted;
use crate::spec::target::{Archive, ArchiveSource, Base, Input, Source, SourcePath};
use crate::spec::{Overrides, Problem, Problems, Spec, SpecError, Target, nearest};

/// What a good specification holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// One for each platform, in the order of the specification.
    pub targets: Vec<Target>,
    /// The files and directories of the project that are named.
    pub sources: BTreeSet<SourcePath>,
}

/// What is checked, and by what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The project directory.
    pub project: PathBuf,
    /// Variables that the caller sets.
    pub set: BTreeMap<String, String>,
    /// Where what archives hold is unpacked, into nameless files.
    pub scratch: PathBuf,
    /// `SOURCE_DATE_EPOCH`, instead of the commit's time.
    pub epoch: Option<u64>,
    /// What builds the project's own wheel.
    pub backend: Backend,
    /// The directory of the cache, for that wheel alone.
    pub cache: Option<PathBuf>,
}

/// Does everything of a build but writing, for the images and variants that these specs are: resolves each for all its platforms,
/// looks whether every source is there, builds the project's own wheel, reads archives and bases, and finds conflicts.
///
/// What is not in the cache is fetched into it; the lock file stays as it is.
pub fn check(
    request: &Request,
    specs: &[Spec],
    network: &Network<'_>,
    watch: &dyn Watch,
) -> Result<Vec<Checked>, Failure> {
    crate::sha256::provide();
    // Variants have the same.
    let mut own = None;
    specs.iter().map(|spec| one(request, spec, &mut own, network, watch)).collect()
}

fn one(
    request: &Request,
    spec: &Spec,
    own: &mut Option<OwnBuilt>,
    network: &Network<'_>,
    watch: &dyn Watch,
) -> Result<Checked, Failure> {
    let Request { project: dir, set, scratch, epoch, backend, cache } = request;
    let overrides = Overrides { vars: set.clone(), version: PyProject::read(dir)?.version };
    let mut targets = Vec::new();
    for platform in spec.platforms() {
        targets.push(spec.target(platform, &overrides)?);
    }
    names(&targets)?;
    let wanted = own::wanted(spec, &targets)?;
    let sources = sources(dir, &dir.join("dist"), spec, &targets)?;
    let settled = settle(spec, &targets, network, &Mode::Use, watch)?;
    let (output, fetched) = (dir.join("dist"), &settled.fetched);
    let told = Told::new(watch);
    let online = Online::new(network, dir, &settled, &told, watch);
    if own.is_none() {
        let ground =
            own::Ground { spec, project: dir, outputs: &output, backend, epoch: *epoch, pins: false };
        let cache = match wanted {
            Some(_) => cache.as_deref().and_then(|root| open_cache(root, watch)),
            None => None,
        };
        *own = own::built(ground, &targets, (network, cache.as_ref()), watch)?;
    }
    let ground = Ground {
        project: dir,
        output: &output,
        scratch,
        cache: None,
        fetched,
        supply: &online,
        own: own.as_ref().map(|own| &own.own),
    };
    for plan in plan(spec, targets.clone(), &ground, watch)? {
        warn(watch, &assemble::prove(&plan)?);
    }
    let renewed = settled.with(online.pins(), own.as_ref().and_then(OwnBuilt::pins));
    let lacking = renewed.changes.iter().filter(|change| !change.is_noted()).count();
    if lacking > 0 {
        let (file, entries) = (settled.file.display(), if lacking == 1 { "entry" } else { "entries" });
        watch.warning(&format!(
            "{file} lacks {lacking} {entries} that a build will add; `dmoci lock` does it now"
        ));
    }
    Ok(Checked { sources, targets })
}

/// Looks whether every source that the targets name is there, and none is what a build into `output` writes; gives these.
pub(super) fn sources(
    dir: &Path,
    output: &Path,
    spec: &Spec,
    targets: &[Target],
) -> Result<BTreeSet<SourcePath>, Failure> {
    let mut sources: Vec<(Source, Kind)> = targets.iter().flat_map(named).collect();
    sources.sort_by(|(a, _), (b, _)| (a.span.start, &a.path).cmp(&(b.span.start, &b.path)));
    sources.dedup();
    let builds = targets.iter().any(|target| target.wheel.is_some());
    let written = |source: &Source| builds.then(|| circular(dir, output, source)).flatten();
    let problems: Vec<Problem> = sources
        .iter()
        .filter_map(|(source, kind)| written(source).or_else(|| look(dir, source, *kind)))
        .collect();
    if !problems.is_empty() {
        let problems = Problems { file: spec.file().to_owned(), text: spec.text().clone(), problems };
        return Err(SpecError::from(problems).into());
    }
    Ok(sources.into_iter().map(|(source, _)| source.path).collect())
}

/// What is wrong with a source in the folder of what `[wheel]` builds.
fn circular(dir: &Path, output: &Path, source: &Source) -> Option<Problem> {
    let real = |path: PathBuf| path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path);
    let (path, folder) = (real(dir.join(source.path.as_path())), real(output.join(FOLDER)));
    path.starts_with(folder).then(|| {
        let shown = source.path.as_path().display();
        Problem::new("E-SOURCE-OUTPUT", &source.span, format!("{shown} is what [wheel] has this build write"))
            .help(
                "say `wheel = { venv = … }` without `path`: that is the wheel that this build makes, and a `python` entry \
                 whose lock file names the project takes it too",
            )
    })
}

/// What a source must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Anything,
    File,
    Directory,
    /// A folder of wheels that stand in for what a Python lock file has no wheels of.
    Wheels,
    Wheel,
}

fn named(target: &Target) -> Vec<(Source, Kind)> {
    let base = |path: &SourcePath| Source { path: path.clone(), span: target.base_span.clone() };
    let own = target
        .wheel
        .iter()
        .map(|own| (Source { path: own.source.clone(), span: own.span.clone() }, Kind::Directory));
    let mut all = match &target.base {
        Base::Scratch | Base::Registry(_) => Vec::new(),
        Base::OciDir { dir, .. } => vec![(base(dir), Kind::Directory)],
        Base::OciArchive { file, .. } | Base::DockerArchive { file, .. } => vec![(base(file), Kind::File)],
    };
    all.extend(own);
    for input in target.layers.iter().flat_map(|layer| &layer.inputs) {
        match input {
            Input::Copy(copy) => all.extend(copy.from.iter().map(|source| (source.clone(), Kind::Anything))),
            Input::Archive(Archive { source: ArchiveSource::Project(source), .. }) => {
                all.push((source.clone(), Kind::File));
            }
            Input::Python(python) => {
                all.extend(python.wheels.iter().map(|folder| (folder.clone(), Kind::Wheels)));
            }
            Input::Wheel(wheel) => all.extend(wheel.source.clone().map(|source| (source, Kind::Wheel))),
            Input::Archive(_)
            | Input::File(_)
            | Input::Directory(_)
            | Input::Symlink(_)
            | Input::Download(_) => {}
        }
    }
    all
}

fn look(dir: &Path, source: &Source, kind: Kind) -> Option<Problem> {
    let path = dir.join(source.path.as_path());
    let shown = source.path.as_path().display();
    let metadata = match kind {
        // A symbolic link is copied as one, wherever it points.
        Kind::Anything => fs::symlink_metadata(&path),
        Kind::File | Kind::Wheel | Kind::Directory | Kind::Wheels => fs::metadata(&path),
    };
    let file = matches!(kind, Kind::File | Kind::Wheel);
    let directory = matches!(kind, Kind::Directory | Kind::Wheels);
    match metadata {
        Ok(metadata) if file && !metadata.is_file() => Some(
            Problem::new("E-SOURCE-KIND", &source.span, format!("{shown} is not a regular file"))
                .expected("expected a file"),
        ),
        Ok(metadata) if directory && !metadata.is_dir() => Some(
            Problem::new("E-SOURCE-KIND", &source.span, format!("{shown} is not a directory"))
                .expected("expected a directory"),
        ),
        Ok(_) => None,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let problem = Problem::new("E-SOURCE-MISSING", &source.span, format!("{shown} does not exist"))
                .help(missing(source.path.as_path(), kind));
            Some(match neighbour(&path) {
                Some(name) => problem.expected(format!("did you mean `{name}`?")),
                None => problem,
            })
        }
        Err(error) => Some(Problem::new(
            "E-SOURCE-READ",
            &source.span,
            format!("cannot look at {}: {error}", path.display()),
        )),
    }
}

/// What to do about a path that is not there.
fn missing(path: &Path, kind: Kind) -> String {
    let build = |folder: &Path| match folder.as_os_str().is_empty() {
        true => "uv build --wheel --out-dir .".to_owned(),
        false => format!("uv build --wheel --out-dir {}", quoted(&folder.display().to_string())),
    };
    let spelling = "paths are relative to the project directory, which -C names; check the spelling";
    match kind {
        Kind::Wheel => {
            let folder = path.parent().unwrap_or(Path::new(""));
            format!("make it with `{}`, or correct the version in its name; {spelling}", build(folder))
        }
        Kind::Wheels => format!("make a wheel in it with `{} PROJECT`; {spelling}", build(path)),
        Kind::File | Kind::Directory | Kind::Anything => spelling.to_owned(),
    }
}

/// A name beside `path` that is much like it.
fn neighbour(path: &Path) -> Option<String> {
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    let names: Vec<String> = fs::read_dir(parent)
        .ok()?
        .take(10_000)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}
