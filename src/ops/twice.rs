//! `dmoci build --twice`: whether a second build, under other circumstances and from a copy of the inputs, gives the same.
//!
//! The second build is a process of its own, with another umask, time zone, locale, working directory, project directory
//! and number of threads. It reads a real copy of what the spec names and of nothing else, made in another order, with
//! other times and modes. Neither build reads the build cache. Only when both agree does the image become that of the output
//! directory.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::build::{Built, First, Request, made};
use super::lock::Network;
use super::own;
use super::plan::Watch;
use super::wheel::{self, Taken};
use crate::diagnostic::{Diagnostic, Exit, Failure, Place};
use crate::engine::assemble::copied;
use crate::engine::diff::{self, Diff, LayerOutcome, Part, Side, Verdict, document};
use crate::inputs::InputError;
use crate::inputs::files::{CopySource, Project};
use crate::inputs::mirror::Mirror;
use crate::spec::target::{Archive, ArchiveSource, Base, Copy, Input, SourcePath, Target};
use crate::store::{ImageStore, Subject};
use crate::vcs;

/// The variable that tells the second build, as `UMASK:THREADS`, what only it can do.
pub const SECOND: &str = "DMOCI_SECOND_BUILD";

/// The circumstances of the second build.
#[derive(Clone, Debug)]
pub struct Second {
    /// The program that builds.
    pub program: PathBuf,
    /// Its umask.
    pub umask: u32,
    /// Threads that compress.
    pub threads: NonZeroUsize,
    /// Variables of its environment; all others are those of this process.
    pub environment: Vec<(&'static str, String)>,
    /// How many differences are told one by one.
    pub limit: usize,
}

/// How building twice ended.
#[derive(Debug)]
pub enum Twice {
    /// Both builds gave the same.
    Same(Box<Built>),
    /// They did not; the output directory is as it was.
    Differs(Box<Differs>),
}

/// In what two builds differ.
#[derive(Debug)]
pub struct Differs {
    /// The first build on the left, the second on the right.
    pub diff: Diff,
    /// The error to end with, with the places of the layers that differ.
    pub failure: Failure,
}

/// Why it is not known, or known without a comparison.
#[derive(Debug, thiserror::Error)]
enum TwiceError {
    #[error("the inputs cannot be copied for the second build")]
    Copy(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot write {}", path.display())]
    Scratch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the second build cannot be started")]
    Start(#[source] io::Error),
    #[error("the second build ended with {status}")]
    Broken {
        status: ExitStatus,
        #[source]
        said: Said,
    },
    #[error("the second build failed where the first did not, with {status}")]
    Failed {
        status: ExitStatus,
        #[source]
        said: Said,
    },
}

/// What the second build said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl Diagnostic for TwiceError {
    fn code(&self) -> &'static str {
        match self {
            TwiceError::Failed { .. } => "E-TWICE",
            _ => "E-TWICE-RUN",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            TwiceError::Failed { .. } => Exit::Differs,
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            TwiceError::Copy(_) => Some(
                "the copy takes as much space as the inputs, in the output directory; run the build again when nothing \
                 writes to the project"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Builds an image twice. On an error, and when the builds differ, the output directory is as it was.
///
/// What comes from the network is fetched for the first build; the second one takes it from the cache, where it is hashed
/// again, by the pins of the first.
pub fn build_twice(
    request: &Request,
    network: &Network<'_>,
    second: &Second,
    watch: &dyn Watch,
) -> Result<Twice, Failure> {
    // A cache would give the second build what the first one made.
    let request = Request { cache: None, ..request.clone() };
    let mut found = None;
    let built = made(
        &request,
        network,
        watch,
        Some(&mut |first| match compare(first, &request, second, watch)? {
            diff if diff.verdict == Verdict::Same => Ok(()),
            diff => {
                let failure = failure(&diff, first);
                found = Some(diff);
                Err(failure)
            }
        }),
    );
    match (built, found) {
        (Err(failure), Some(diff)) => Ok(Twice::Differs(Box::new(Differs { diff, failure }))),
        (built, _) => built.map(|built| Twice::Same(Box::new(built))),
    }
}

/// Builds a second time, and compares.
fn compare(
    first: &First<'_>,
    request: &Request,
    second: &Second,
    watch: &dyn Watch,
) -> Result<Diff, Failure> {
    watch.status("Copying", "the inputs for a second build");
    let place = Elsewhere::make(first, request)?;
    watch.status("Building", "a second time, under other circumstances");
    place.build(first, request, second)?;
    let what = match first.own {
        Some(own) if own.distributions().count() > 1 => "the two images, wheels and sdists",
        Some(_) => "the two images and wheels",
        None => "the two images",
    };
    watch.status("Comparing", what);
    let subject =
        |path: &Path| -> Result<ImageStore, Failure> { Ok(ImageStore::open(&Subject::bare(path))?) };
    let (left, right) = (subject(&first.layout)?, subject(&place.output().join("image"))?);
    let root = right.roots()?.into_iter().next().map(|root| root.descriptor);
    let root = root.unwrap_or_else(|| first.image.root.clone());
    let sides = [Side { store: &left, root: &first.image.root }, Side { store: &right, root: &root }];
    let options =
        diff::Options { limit: second.limit, threads: request.threads, scratch: Some(&first.scratch) };
    let mut diff = diff::diff(sides[0], sides[1], options, &())?;
    if let Some(own) = first.own {
        diff.add(own.differences(&place.output().join("python"), second.limit)?);
    }
    if diff.verdict == Verdict::Same {
        // Names and tags, and what is said of the image beside it.
        let path = place.output().join("digests.json");
        let digests = fs::read(&path).map_err(|source| TwiceError::Scratch { path, source })?;
        diff.add(document("index.json", left.index_bytes(), right.index_bytes(), second.limit));
        diff.add(document("digests.json", first.digests, &digests, second.limit));
    }
    Ok(diff)
}

/// The error that says that two builds differ, and where in the spec to look.
fn failure(diff: &Diff, first: &First<'_>) -> Failure {
    let is_own = |part: &Part| matches!(part, Part::File(name) if name.starts_with("python/"));
    let own = diff.differences.iter().any(|difference| is_own(&difference.part));
    let mut places: Vec<Place> = Vec::new();
    for pair in diff.layers.iter().filter(|pair| pair.outcome != LayerOutcome::Same) {
        let named = |target: &&Target| target.platform.to_string() == pair.image;
        let targets = first.targets.iter().filter(named).chain(first.targets);
        let mut layers = targets.flat_map(|target| &target.layers);
        // Of a layer that became several the name is followed by that of the part.
        let called =
            pair.place.name.as_ref().map(|name| name.split_once(": ").map_or(&**name, |(name, _)| name));
        let layer = layers.find(|layer| Some(&*layer.name) == called);
        let place = layer.map(|layer| first.spec.place(&layer.span, "this layer differs"));
        places.extend(place.filter(|place| !places.contains(place)));
    }
    let differences = match diff.count() {
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    };
    Failure {
        code: "E-TWICE",
        exit: Exit::Differs,
        message: format!("the second build is not the same as the first: {differences}"),
        causes: Vec::new(),
        places,
        help: Some(if own {
            "the build backend gives other bytes each time: look at the files of python/ that differ; the usual causes are the \
             clock, random names and the order of a set"
                .into()
        } else {
            "a source that changed between the two builds is the usual cause: run it again when nothing writes to the \
             project; if the difference stays, it is a fault of dmoci, please report it"
                .into()
        }),
    }
}

/// The directory of the second build.
struct Elsewhere(PathBuf);

impl Elsewhere {
    /// Copies what the spec names.
    fn make(first: &First<'_>, request: &Request) -> Result<Elsewhere, Failure> {
        let scratch = |path: &Path, source| TwiceError::Scratch { path: path.to_owned(), source };
        let root = first.scratch.canonicalize().map_err(|source| scratch(&first.scratch, source))?;
        let place = Elsewhere(root.join("twice"));
        // Nobody else looks into the copy, or has a hand in it.
        for directory in [&place.0, &place.tree(), &place.0.join("tmp")] {
            let made = DirBuilder::new().mode(0o700).create(directory);
            made.map_err(|source| scratch(directory, source))?;
        }
        let spec = place.spec();
        fs::write(&spec, first.spec.text().as_bytes()).map_err(|source| scratch(&spec, source))?;
        let lock = spec.with_extension("lock");
        fs::write(&lock, first.lock.text()).map_err(|source| scratch(&lock, source))?;
        place.copy(first, request).map_err(|failure| {
            let causes = [vec![failure.message], failure.causes].concat();
            Failure::from(TwiceError::Copy(causes.join(": ").into()))
        })?;
        Ok(place)
    }

    /// What stands for the work tree that the project lies in.
    fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }

    fn project(&self) -> PathBuf {
        self.tree().join(PROJECT)
    }

    fn spec(&self) -> PathBuf {
        self.0.join("dmoci.toml")
    }

    fn output(&self) -> PathBuf {
        self.0.join("dist")
    }

    fn copy(&self, first: &First<'_>, request: &Request) -> Result<(), Failure> {
        // Wheels may lie in the output directory; the copy itself is nothing to copy.
        let project = Project::open(&request.project)?.writing(&first.scratch)?;
        let mut mirror = Mirror::new(project.clone(), &self.project())?;
        let mut copies: Vec<(&Copy, &SourcePath)> = Vec::new();
        let mut files = BTreeSet::new();
        for target in first.targets {
            for input in target.layers.iter().flat_map(|layer| &layer.inputs) {
                match input {
                    Input::Copy(copy) => copies.extend(copy.from.iter().map(|from| (copy, &from.path))),
                    Input::Archive(Archive { source: ArchiveSource::Project(source), .. }) => {
                        files.insert(source.path.as_path().to_owned());
                    }
                    // What its lock file leads to was found out by the first build.
                    Input::Python(python) => {
                        files.insert(python.lock.path.as_path().to_owned());
                        // It may be empty.
                        if let Some(folder) = &python.wheels {
                            let path = self.project().join(folder.path.as_path());
                            std::fs::create_dir_all(&path)
                                .map_err(|source| InputError::Scratch { path, source })?;
                        }
                    }
                    Input::Wheel(wheel) => {
                        files.extend(wheel.source.iter().map(|source| source.path.as_path().to_owned()));
                    }
                    Input::Archive(_)
                    | Input::Download(_)
                    | Input::File(_)
                    | Input::Directory(_)
                    | Input::Symlink(_) => {}
                }
            }
            files.extend(base_files(&target.base, &project)?);
        }
        files
            .extend(first.reads.iter().filter(|path| path.as_path() != Path::new("pyproject.toml")).cloned());
        // Of several platforms mostly the same.
        let same = |(a, b): &(&Copy, &SourcePath), (other, from): &(&Copy, &SourcePath)| {
            b == from
                && (&a.include, &a.exclude, a.tracked) == (&other.include, &other.exclude, other.tracked)
        };
        let mut done: Vec<(&Copy, &SourcePath)> = Vec::new();
        for copy in copies.into_iter().rev() {
            if !done.iter().any(|other| same(other, &copy)) {
                mirror.copy(&copied(copy.0, copy.1, &project)?)?;
                done.push(copy);
            }
        }
        for file in files.iter().rev() {
            mirror.file(file)?;
        }
        let own = self.own(first, request, &project, &mut mirror)?;
        let python = Path::new("pyproject.toml");
        match File::open(project.path_of(python)) {
            Ok(file) => mirror.put(python, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(InputError::Io { path: python.to_owned(), source }.into()),
        }
        let tracked = done.iter().filter(|(copy, _)| copy.tracked).map(|(_, from)| from.as_path());
        self.git(request, tracked.chain(own))
    }

    /// Copies the source of the project's own wheel, with what git knows of it; gives its path when only what is tracked is taken.
    fn own<'f>(
        &self,
        first: &First<'f>,
        request: &Request,
        project: &Project,
        mirror: &mut Mirror,
    ) -> Result<Option<&'f Path>, Failure> {
        let Some(own) = own::wanted(first.spec, first.targets)? else { return Ok(None) };
        let (outputs, backend) = (&request.outputs, &request.backend);
        let ground = own::Ground {
            spec: first.spec,
            project: &request.project,
            outputs,
            backend,
            epoch: None,
            pins: false,
        };
        let (source, taken) = wheel::input(&ground.request(own))?;
        let from = own.source.as_path();
        mirror.copy(&CopySource { project: project.clone(), from: from.to_owned(), ..source })?;
        if taken == (Taken::Tracked { history: true }) {
            let copy = self.project().join(from);
            let history = self.0.join("history");
            vcs::keep_history(&request.project.join(from), &history)?;
            vcs::give_history(&history, &copy)?;
            // That of the source follows: it may have what is not committed.
            let index = copy.join(".git/index");
            match fs::remove_file(&index) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(TwiceError::Scratch { path: index, source }.into());
                }
                _ => {}
            }
            vcs::copy_index(&request.project.join(from), &copy, b"")?;
        }
        Ok((taken != Taken::All).then_some(from))
    }

    /// Makes work trees that track in the copy what is tracked in the project.
    fn git<'f>(&self, request: &Request, tracked: impl Iterator<Item = &'f Path>) -> Result<(), Failure> {
        let real = |path: &Path| {
            let path = path.to_owned();
            path.canonicalize().map_err(|source| InputError::Io { path, source })
        };
        let project = real(&request.project)?;
        let mut tops = BTreeSet::new();
        for from in tracked {
            let at = real(&request.project.join(from))?;
            let folder = if at.is_dir() { at.as_path() } else { at.parent().unwrap_or(&at) };
            tops.extend(vcs::top(folder)?);
        }
        for top in tops {
            match top.strip_prefix(&project) {
                Ok(below) if !below.as_os_str().is_empty() => {
                    vcs::copy_index(&top, &self.project().join(below), b"")?;
                }
                _ => {
                    let prefix = [Path::new(PROJECT).as_os_str().as_bytes(), b"/"].concat();
                    vcs::copy_index(&project, &self.tree(), &prefix)?;
                }
            }
        }
        Ok(())
    }

    /// Runs the second build.
    fn build(&self, first: &First<'_>, request: &Request, second: &Second) -> Result<(), TwiceError> {
        let path = self.0.join("said");
        let scratch = |source| TwiceError::Scratch { path: path.clone(), source };
        let said = File::create(&path).map_err(scratch)?;
        let mut command = Command::new(&second.program);
        command.args(["--quiet", "--color=never", "build", "--no-cache", "--locked", "--offline"]);
        command.arg("-C").arg(Path::new("tree").join(PROJECT)).arg("-f").arg(self.spec());
        command.arg("-o").arg("dist");
        command.arg(format!("--epoch={}", first.epoch));
        command.arg("--python").arg(python(&request.backend.python));
        command.args(first.facts.revision.iter().map(|revision| format!("--revision={revision}")));
        command.args(request.platforms.iter().map(|platform| format!("--platform={platform}")));
        command.args(request.variant.iter().map(|name| format!("--variant={name}")));
        command.args(request.set.iter().map(|(name, value)| format!("--set={name}={value}")));
        command.env_remove("SOURCE_DATE_EPOCH").env("TMPDIR", self.0.join("tmp"));
        command.env(SECOND, format!("{:03o}:{}", second.umask, second.threads));
        command.envs(second.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let status = command.status().map_err(TwiceError::Start)?;
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(SAID).read_to_end(&mut said));
        read.map_err(scratch)?;
        let said = Said(String::from_utf8_lossy(&said).trim_end().to_owned());
        match status.code() {
            Some(code) if code != Exit::Undecided as i32 => Err(TwiceError::Failed { status, said }),
            _ => Err(TwiceError::Broken { status, said }),
        }
    }
}

/// An interpreter as the second build finds it, which runs in another directory.
fn python(program: &Path) -> PathBuf {
    match program.components().count() > 1 {
        true => std::path::absolute(program).unwrap_or_else(|_| program.to_owned()),
        false => program.to_owned(),
    }
}

/// The name of the copy of the project.
const PROJECT: &str = "project";

/// How much of what the second build said is told.
const SAID: u64 = 16 << 10;

/// The files that a base consists of: of a layout all that belongs to it.
fn base_files(base: &Base, project: &Project) -> Result<Vec<PathBuf>, Failure> {
    let directory = match base {
        Base::Scratch | Base::Registry(_) => return Ok(Vec::new()),
        Base::OciArchive { file, .. } | Base::DockerArchive { file, .. } => {
            return Ok(vec![file.as_path().to_owned()]);
        }
        Base::OciDir { dir, .. } => dir.as_path(),
    };
    let store = ImageStore::open(&Subject::bare(project.path_of(directory)))?;
    let mut files = vec![directory.join("index.json")];
    files.extend(store.layout_file().map(|_| directory.join("oci-layout")));
    files.extend(
        store
            .blobs()
            .map(|digest| directory.join("blobs").join(digest.algorithm().name()).join(digest.hex())),
    );
    Ok(files)
}
