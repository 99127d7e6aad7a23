//! Whether a specification can be built: everything of a build but writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use super::build::{PyProject, names};
use super::lock::{Mode, Network, Told, settle};
use super::plan::{Ground, Watch, plan, warn};
use super::supply::Online;
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

/// Does everything of a build but writing, for the image or variant that `spec` is: resolves it for all its platforms,
/// looks whether every source is there, reads archives and bases, and finds conflicts. `set` are variables that the
/// caller sets.
///
/// What archives hold is unpacked into nameless files in `scratch`. What is not in the cache is fetched into it; the lock file
/// stays as it is.
pub fn check(
    dir: &Path,
    spec: &Spec,
    set: BTreeMap<String, String>,
    scratch: &Path,
    network: &Network<'_>,
    watch: &dyn Watch,
) -> Result<Checked, Failure> {
    crate::sha256::provide();
    let overrides = Overrides { vars: set, version: PyProject::read(dir)?.version };
    let mut targets = Vec::new();
    for platform in spec.platforms() {
        targets.push(spec.target(platform, &overrides)?);
    }
    names(&targets)?;
    let sources = sources(dir, spec, &targets)?;
    let settled = settle(spec, &targets, network, &Mode::Use, watch)?;
    let (output, fetched) = (dir.join("dist"), &settled.fetched);
    let told = Told::new(watch);
    let online = Online::new(network, dir, &settled, &told, watch);
    let ground = Ground { project: dir, output: &output, scratch, cache: None, fetched, supply: &online };
    for plan in plan(spec, targets.clone(), &ground, watch)? {
        warn(watch, &assemble::prove(&plan)?);
    }
    let lacking = settled.with(online.pins()).changes.len();
    if lacking > 0 {
        let (file, entries) = (settled.file.display(), if lacking == 1 { "entry" } else { "entries" });
        watch.warning(&format!(
            "{file} lacks {lacking} {entries} that a build will add; `dmoci lock` does it now"
        ));
    }
    Ok(Checked { sources, targets })
}

/// Looks whether every source that the targets name is there; gives these.
pub(super) fn sources(dir: &Path, spec: &Spec, targets: &[Target]) -> Result<BTreeSet<SourcePath>, Failure> {
    let mut sources: Vec<(Source, Kind)> = targets.iter().flat_map(named).collect();
    sources.sort_by(|(a, _), (b, _)| (a.span.start, &a.path).cmp(&(b.span.start, &b.path)));
    sources.dedup();
    let problems: Vec<Problem> =
        sources.iter().filter_map(|(source, kind)| look(dir, source, *kind)).collect();
    if !problems.is_empty() {
        let problems = Problems { file: spec.file().to_owned(), text: spec.text().clone(), problems };
        return Err(SpecError::from(problems).into());
    }
    Ok(sources.into_iter().map(|(source, _)| source.path).collect())
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
    let mut all = match &target.base {
        Base::Scratch => Vec::new(),
        Base::OciDir { dir, .. } => vec![(base(dir), Kind::Directory)],
        Base::OciArchive { file, .. } | Base::DockerArchive { file, .. } => vec![(base(file), Kind::File)],
    };
    for input in target.layers.iter().flat_map(|layer| &layer.inputs) {
        match input {
            Input::Copy(copy) => all.extend(copy.from.iter().map(|source| (source.clone(), Kind::Anything))),
            Input::Archive(Archive { source: ArchiveSource::Project(source), .. }) => {
                all.push((source.clone(), Kind::File));
            }
            Input::Python(python) => {
                all.extend(python.wheels.iter().map(|folder| (folder.clone(), Kind::Wheels)));
            }
            Input::Wheel(wheel) => all.push((wheel.source.clone(), Kind::Wheel)),
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
