//! `dmoci build`: from `dmoci.toml` to `dist/`.

mod push;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use dmoci_layers::{MTIME, Pool, RULES};
use serde_json::{Value, json};

use super::lock::{self, Network, Settled};
use super::log::Log;
use super::output::Dist;
use super::own::{self, Backend, OwnBuilt};
use super::plan::{Ground, Watch, on, plan, warn};
use super::remote::{self, Remote};
use super::shared::{Others, Sharing};
use super::supply::Online;
use super::wheel::Distribution;
use super::wheel::publish::{FOLDER, all_outdated, are_ours};
use crate::cache::Cache;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::engine::assemble::{self, BuiltImage, Facts, ImagePlan, Output as _};
use crate::limits;
use crate::lock::Lock;
use crate::oci::platform::Platform;
use crate::oci::{Descriptor, index, timestamp};
use crate::spec::target::Target;
use crate::spec::{self, Overrides, Spec};
use crate::store::layout::write::{IMAGE, LayoutWriter, SCRATCH};
use crate::vcs::{VcsError, WorkTree};
pub(super) use push::Destination;
pub use push::{Lacking, lacking, push};

/// What a build writes beside the image.
pub(super) const DIGESTS: &str = "digests.json";
pub(super) const LOG: &str = "build.log";

/// How the project's own distributions were built.
const EVIDENCE: &str = "evidence/python.json";

/// Everything that a build writes in an output directory.
const WRITTEN: [&str; 6] = [IMAGE, SCRATCH, DIGESTS, LOG, FOLDER, EVIDENCE];

/// What to build, and from what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The project directory: every path of the spec is relative to it.
    pub project: PathBuf,
    /// The spec; relative to the current directory.
    pub spec: PathBuf,
    /// The variant of the spec to build; without it the image itself.
    pub variant: Option<String>,
    /// The output directory.
    pub output: PathBuf,
    /// The directory that this and other builds of the project write: nothing in it is an input.
    pub outputs: PathBuf,
    /// Platforms of the spec to build; empty for all.
    pub platforms: Vec<Platform>,
    /// A platform that must be among them, because its image is to be loaded into an engine.
    pub loads: Option<Platform>,
    /// Variables that the caller sets.
    pub set: BTreeMap<String, String>,
    /// `created`, in seconds since 1970-01-01T00:00:00Z, instead of the commit's time.
    pub epoch: Option<u64>,
    /// The revision, instead of git's.
    pub revision: Option<String>,
    /// Threads that compress.
    pub threads: NonZeroUsize,
    /// The directory of the cache; without it everything is made anew.
    pub cache: Option<PathBuf>,
    /// What builds the project's own wheel.
    pub backend: Backend,
    /// The image is pushed when it is made: what is in registries need not be here.
    pub push: bool,
    /// How it takes part in the build cache of several machines.
    pub sharing: Sharing,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: BuiltImage,
    /// Full names with tags, or nothing when the spec gives no name.
    pub names: Vec<String>,
    /// The project's own distributions.
    pub distributions: Vec<Distribution>,
    /// The content of `digests.json`.
    pub digests: Value,
    /// The image layout that was written.
    pub layout: PathBuf,
    /// Layers of bases in registries, by the repositories that have them.
    bases: push::Bases,
}

/// What is wrong with the request itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("{} does not build for {platform}", variant.as_ref().map_or("the spec".into(), |name| format!("the variant {name:?}")))]
    Platform { platform: Platform, variant: Option<String>, all: String },
    #[error("the image is not built for {0}, which is to be loaded")]
    Loads(Platform, String),
    #[error("the name or tags for {0} are not those of the other platforms")]
    Names(Platform),
    #[error("the time {0} is after the year 9999")]
    Epoch(u64),
    #[error("the image has no name that it could be pushed under")]
    Unnamed,
}

impl Diagnostic for RequestError {
    fn code(&self) -> &'static str {
        match self {
            RequestError::Platform { .. } => "E-PLATFORM",
            RequestError::Loads(..) => "E-LOAD-PLATFORM",
            RequestError::Names(_) => "E-PLATFORM-NAMES",
            RequestError::Epoch(_) => "E-EPOCH",
            RequestError::Unnamed => "E-PUSH-NAME",
        }
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        match self {
            RequestError::Platform { all, .. } => Some(format!("it builds for {all}; add to `platforms`")),
            RequestError::Loads(_, all) => {
                Some(format!("say which one with --platform; it is built for {all}"))
            }
            RequestError::Names(_) => {
                Some("all platforms are one image: use no ${platform.…} in `name` and `tags`".into())
            }
            RequestError::Unnamed => {
                Some("say where it goes, below [image]: name = \"registry.example/acme/km\"".into())
            }
            RequestError::Epoch(_) => Some("the unit is seconds since 1970-01-01T00:00:00Z".into()),
        }
    }
}

/// Builds an image. On an error the output directory is as it was.
///
/// What `dmoci.lock` lacks is added to it once everything is fetched, before anything else is written.
pub fn build(request: &Request, network: &Network<'_>, watch: &dyn Watch) -> Result<Built, Failure> {
    made(request, network, watch, None)
}

/// An image that is made and not yet that of the output directory.
pub(super) struct First<'a> {
    pub(super) spec: &'a Spec,
    pub(super) targets: &'a [Target],
    /// Files of the project that were read and that the spec does not name itself.
    pub(super) reads: &'a BTreeSet<PathBuf>,
    pub(super) facts: &'a Facts,
    /// `created`, in seconds.
    pub(super) epoch: u64,
    pub(super) image: &'a BuiltImage,
    /// The project's own wheel, and how it is asked for.
    pub(super) own: Option<&'a OwnBuilt>,
    /// The content of `digests.json`.
    pub(super) digests: &'a [u8],
    /// What is pinned, as the lock file has it.
    pub(super) lock: &'a Lock,
    /// A layout of it.
    pub(super) layout: PathBuf,
    /// Where unfinished files lie.
    pub(super) scratch: PathBuf,
}

/// Has a look at an image before it becomes that of the output directory; an error is that of the build.
pub(super) type Look<'a> = &'a mut dyn FnMut(&First<'_>) -> Result<(), Failure>;

/// Builds an image, and lets `look` stop it.
pub(super) fn made(
    request: &Request,
    network: &Network<'_>,
    watch: &dyn Watch,
    look: Option<Look<'_>>,
) -> Result<Built, Failure> {
    crate::sha256::provide();
    request.sharing.check()?;
    let spec = spec::load(&request.spec)?;
    let spec = match &request.variant {
        Some(name) => spec.with_variant(name)?,
        None => spec,
    };
    let platforms = chosen(&spec, &request.platforms)?;
    if let Some(loads) = request.loads.as_ref().filter(|loads| !platforms.contains(loads)) {
        let built: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        return Err(RequestError::Loads(loads.clone(), built.join(", ")).into());
    }
    let python = PyProject::read(&request.project)?;
    let overrides = Overrides { vars: request.set.clone(), version: python.version };
    let targets =
        platforms.iter().map(|platform| spec.target(platform, &overrides)).collect::<Result<Vec<_>, _>>()?;
    let names = names(&targets)?;
    let pushed = request.push.then(|| push::name(&targets)).transpose()?;
    let builds_own = own::wanted(&spec, &targets)?.is_some();
    if builds_own {
        are_ours(&request.output)?;
    }
    if is_same(&request.output, &request.project) {
        watch.warning(
            "the output directory is the project directory itself, among whose files all is written: name one of its own \
             with -o, or leave that out for dist",
        );
    }
    let sources = super::check::sources(&request.project, &request.output, &spec, &targets)?;
    let (remote, listener) = (Remote { network, watch }, remote::Told(watch));
    let fetcher = pushed.map(|_| remote.fetcher(&listener)).transpose()?;
    let sharing = request.sharing.is_wanted().then(|| (remote.hasty(&listener), remote.fetcher(&listener)));
    let fetchers = sharing.map(|(from, to)| Ok::<_, Failure>((from?, to?))).transpose()?;
    let destination = match (&fetcher, pushed) {
        (Some(fetcher), Some(name)) => Some(Destination::open(name, fetcher)?),
        _ => None,
    };
    let mut settled = lock::settle(&spec, &targets, network, &lock::Mode::Use, watch)?;
    let cache = request.cache.as_deref().and_then(|root| open_cache(root, watch));
    let kept = cache.clone();
    let (project, outputs, backend) = (&request.project, &request.outputs, &request.backend);
    let ground = own::Ground { spec: &spec, project, outputs, backend, epoch: request.epoch, pins: true };
    let build_own = || own::built(ground, &targets, (network, kept.as_ref()), watch);
    if builds_own {
        // The lock file may be part of the source.
        lock::write(&settled, &settled.with(BTreeMap::new(), None), watch)?;
    }
    let mut own = build_own()?;
    if builds_own {
        settled = settled.written()?;
    }
    // Whoever compares or loads it needs all of it.
    let destination = destination.filter(|_| look.is_none() && request.loads.is_none());
    // Whoever compares wants to see it made.
    let others =
        fetchers.as_ref().map(|fetchers| Others::connect(&request.sharing, fetchers, look.is_none(), watch));
    let writer = LayoutWriter::open(&request.output, || {
        let shown = request.output.display();
        watch.status("Blocking", &format!("waiting for another build into {shown}"));
    })?;
    if let Err(error) = writer.beside(&[DIGESTS, LOG], is_ours) {
        writer.abandon();
        return Err(error.into());
    }
    let dist = Dist::new(writer, cache, watch, destination.as_ref()).with(others);
    let told = lock::Told::new(watch);
    let again = OnceCell::new();
    let online = Online::new(network, &request.project, &settled, &told, watch);
    let plan = |from: (&Settled, &Online<'_>), own: &Option<OwnBuilt>| {
        planned((&spec, targets.clone(), own.as_ref()), request, from, &dist, watch)
    };
    let (plans, tree) = meanwhile(|| plan((&settled, &online), &own), || work_tree(request));
    let written = plans.and_then(|mut plans| {
        let (mut settled, mut online) = (&settled, online);
        let mut renewed = settled.with(online.pins(), own.as_ref().and_then(OwnBuilt::pins));
        lock::write(settled, &renewed, watch)?;
        if !renewed.changes.is_empty()
            && let Some(before) = &own
            && before.has_moved(ground, &targets)?
        {
            // What plans found out to need changed the source.
            let written = settled.written()?;
            settled = again.get_or_init(|| written);
            own = build_own()?;
            online = Online::new(network, &request.project, settled, &told, watch);
            plans = plan((settled, &online), &own)?;
            renewed = settled.with(online.pins(), own.as_ref().and_then(OwnBuilt::pins));
        }
        let own = own.as_ref();
        // Now that the lock file is as it will be: it is part of the tree.
        let (facts, epoch) = facts(request, tree?, python.source)?;
        let bases = push::bases(&plans);
        if destination.is_some() {
            dist.lend(bases.values().flatten());
        }
        let (image, log) = write((&spec, own), plans, request, &facts, (&online, &dist), watch)?;
        let digests = digests((&image, own), &spec, &names, &facts);
        if let Some(own) = own
            && let Some(folder) = own.stage(&request.output, &dist.scratch())?
        {
            dist.folder(folder, FOLDER);
        }
        let outdated = own.map(|own| own.outdated(&request.output));
        outdated.into_iter().flatten().for_each(|name| dist.without(name));
        if own.is_none() && own::is_left(&request.output, &request.project, &sources) {
            [FOLDER, EVIDENCE].into_iter().for_each(|name| dist.without(name.into()));
            all_outdated(&request.output).into_iter().for_each(|name| dist.without(name));
        }
        let index = index::author(&roots(&image, &names));
        if let Some(look) = look {
            let layout = dist.preview(&index)?;
            let (scratch, digests) = (dist.scratch(), &crate::oci::json::canonical(&digests));
            let (spec, targets, facts, image) = (&spec, &targets, &facts, &image);
            look(&First {
                spec,
                targets,
                reads: &online.reads(),
                facts,
                epoch,
                image,
                own,
                digests,
                lock: &renewed.lock,
                layout,
                scratch,
            })?;
        }
        let log = log.finish(&image, &names.full());
        Ok((image, digests, index, log, bases))
    });
    let own = own.as_ref();
    match written {
        Ok((image, digests, index, log, bases)) => {
            let list = crate::oci::json::canonical(&digests);
            let evidence = own.map(|own| crate::oci::json::canonical(own.evidence()));
            let mut beside: Vec<(&str, &[u8])> = Vec::new();
            beside.extend(evidence.as_ref().map(|evidence| (EVIDENCE, evidence.as_slice())));
            beside.extend([(LOG, log.as_slice()), (DIGESTS, list.as_slice())]);
            let layout = dist.finish(&index, &beside)?;
            let distributions = own.into_iter().flat_map(OwnBuilt::distributions).cloned().collect();
            Ok(Built { image, names: names.full(), distributions, digests, layout, bases })
        }
        Err(failure) => {
            dist.abandon();
            Err(failure)
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// True for the beginning of what a build writes beside an image.
pub(super) fn is_ours(head: &[u8]) -> bool {
    head.starts_with(b"dmoci ") || head.starts_with(b"{\"created\":\"")
}

/// A cache that cannot be used is no reason not to build.
pub(super) fn open_cache(root: &Path, watch: &dyn Watch) -> Option<Cache> {
    Cache::open(root)
        .inspect_err(|error| {
            let cause = std::error::Error::source(error).map(|source| format!(": {source}"));
            watch.warning(&format!("{error}{}; everything is made anew", cause.unwrap_or_default()));
        })
        .ok()
}

/// Plans everything. After this only reading and writing can fail.
fn planned(
    (spec, targets, own): (&Spec, Vec<Target>, Option<&OwnBuilt>),
    request: &Request,
    (settled, online): (&Settled, &Online<'_>),
    dist: &Dist<'_>,
    watch: &dyn Watch,
) -> Result<Vec<ImagePlan>, Failure> {
    let scratch = dist.scratch();
    let cache = dist.cache().cloned();
    let ground = Ground {
        project: &request.project,
        output: &request.outputs,
        scratch: &scratch,
        cache: cache.as_ref(),
        fetched: &settled.fetched,
        supply: online,
        own: own.map(|own| &own.own),
    };
    plan(spec, targets, &ground, watch)
}

/// Writes everything.
fn write(
    (spec, own): (&Spec, Option<&OwnBuilt>),
    plans: Vec<ImagePlan>,
    request: &Request,
    facts: &Facts,
    (online, dist): (&Online<'_>, &Dist<'_>),
    watch: &dyn Watch,
) -> Result<(BuiltImage, Log), Failure> {
    // Layers of bases that no earlier build has left here.
    for base in plans.iter().filter_map(|plan| plan.base.as_ref()) {
        base.bring(online, |layer| !dist.keep(&layer.digest, layer.size))?;
    }
    let mut log = Log::new(spec, &request.project, facts);
    own.into_iter().for_each(|own| log.own(own));
    for plan in &plans {
        log.step("planning", &plan.target.platform.to_string());
        log.warnings(&plan.warnings);
    }
    watch.total(plans.iter().map(|plan| plan.bytes).sum());
    for plan in &plans {
        let own = plan.layers.len();
        let layers = if own == 1 { "1 layer".to_owned() } else { format!("{own} layers") };
        watch.status("Writing", &format!("{}: {layers}", on(spec, &plan.target)));
    }
    let built = assemble::assemble(&plans, facts, &Pool::new(request.threads), dist)?;
    for (plan, platform) in plans.iter().zip(&built) {
        platform.layers.iter().for_each(|layer| warn(watch, &layer.warnings));
        log.step("writing", &plan.target.platform.to_string());
        log.platform(platform);
        let reused: Vec<&str> =
            platform.layers.iter().filter(|layer| layer.reused).map(|layer| layer.name.as_str()).collect();
        if !reused.is_empty() {
            watch.detail("Unchanged", &format!("{}: {}", on(spec, &plan.target), reused.join(", ")));
        }
    }
    let targets: Vec<Target> = plans.into_iter().map(|plan| plan.target).collect();
    Ok((assemble::index(built, &targets, facts, dist)?, log))
}

fn chosen(spec: &Spec, wanted: &[Platform]) -> Result<Vec<Platform>, RequestError> {
    let all = spec.platforms();
    if let Some(other) = wanted.iter().find(|platform| !all.contains(platform)) {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let variant = spec.variant().map(str::to_owned);
        return Err(RequestError::Platform { platform: other.clone(), variant, all: names.join(", ") });
    }
    // In the order of the spec, whatever the order asked for.
    Ok(all.iter().filter(|platform| wanted.is_empty() || wanted.contains(platform)).cloned().collect())
}

/// The work tree that the project lies in, when anything has to be asked of it.
fn work_tree(request: &Request) -> Result<Option<WorkTree>, VcsError> {
    match (&request.epoch, &request.revision) {
        (Some(_), Some(_)) => Ok(None),
        _ => WorkTree::around(&request.project),
    }
}

/// Does both, at the same time where there can be a thread for it.
fn meanwhile<T, U: Send>(own: impl FnOnce() -> T, other: impl Fn() -> U + Sync) -> (T, U) {
    thread::scope(|scope| {
        let handle = thread::Builder::new().name("git".into()).spawn_scoped(scope, &other);
        let own = own();
        let other = match handle {
            Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => other(),
        };
        (own, other)
    })
}

/// What is known beside the spec, and `created` in seconds.
fn facts(request: &Request, tree: Option<WorkTree>, source: Option<String>) -> Result<(Facts, u64), Failure> {
    let commit = match tree {
        Some(tree) => tree.commit(&request.outputs, &WRITTEN)?,
        None => None,
    };
    let epoch = request.epoch.or(commit.as_ref().map(|commit| commit.time)).unwrap_or(MTIME);
    let facts = Facts {
        created: timestamp::rfc3339(epoch).ok_or(RequestError::Epoch(epoch))?,
        revision: request
            .revision
            .clone()
            .or(commit.map(|commit| commit.revision))
            .filter(|revision| !revision.is_empty()),
        source,
    };
    Ok((facts, epoch))
}

/// What a `pyproject.toml` says of the project (PEP 621).
#[derive(Default)]
pub(super) struct PyProject {
    pub(super) version: Option<String>,
    /// The URL that `project.urls` labels as the source (well-known labels of the packaging specifications).
    source: Option<String>,
}

impl PyProject {
    pub(super) fn read(project: &Path) -> Result<PyProject, Failure> {
        let path = project.join("pyproject.toml");
        let mut text = String::new();
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(limits::SPEC_BYTES).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(PyProject::default()),
            Err(source) => return Err(crate::inputs::InputError::Io { path, source }.into()),
        }
        // A file that is malformed is the business of the tools that it is for; then nothing is known.
        let table: toml::Table = text.parse().unwrap_or_default();
        let Some(project) = table.get("project") else { return Ok(PyProject::default()) };
        let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(str::to_owned);
        let label = |name: &str| name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let urls = project.get("urls").and_then(toml::Value::as_table);
        let is_source =
            |name: &str| ["source", "repository", "sourcecode", "github"].contains(&label(name).as_str());
        let source = urls.and_then(|urls| urls.iter().find(|(name, _)| is_source(name)));
        Ok(PyProject { version: text(project.get("version")), source: text(source.map(|(_, url)| url)) })
    }
}

/// How the image is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    name: Option<String>,
    tags: Vec<String>,
}

impl Names {
    fn of(target: &Target) -> Names {
        Names { name: target.name.as_ref().map(ToString::to_string), tags: target.tags() }
    }

    fn full(&self) -> Vec<String> {
        let full = |name: &String| self.tags.iter().map(|tag| format!("{name}:{tag}")).collect();
        self.name.as_ref().map(full).unwrap_or_default()
    }
}

/// The name and tags, which are those of all platforms together. A name without tags is `latest`.
pub(super) fn names(targets: &[Target]) -> Result<Names, RequestError> {
    let mut all = targets.iter().map(|target| (Names::of(target), target));
    let Some((names, _)) = all.next() else { return Ok(Names { name: None, tags: Vec::new() }) };
    match all.find(|(other, _)| *other != names) {
        Some((_, target)) => Err(RequestError::Names(target.platform.clone())),
        None => Ok(names),
    }
}

/// What `index.json` lists: the image once for each tag.
fn roots(image: &BuiltImage, names: &Names) -> Vec<Descriptor> {
    let named = |tag: &String| {
        let root = image.root.clone().annotate("org.opencontainers.image.ref.name", tag.as_str());
        match &names.name {
            Some(name) => root.annotate("io.containerd.image.name", format!("{name}:{tag}")),
            None => root,
        }
    };
    match names.tags.is_empty() {
        true => vec![image.root.clone()],
        false => names.tags.iter().map(named).collect(),
    }
}

/// The content of `digests.json`.
fn digests(
    (image, own): (&BuiltImage, Option<&OwnBuilt>),
    spec: &Spec,
    names: &Names,
    facts: &Facts,
) -> Value {
    let short = |descriptor: &Descriptor| {
        json!({
            "digest": descriptor.digest.to_string(),
            "mediaType": descriptor.media_type,
            "size": descriptor.size,
        })
    };
    let platforms: Vec<Value> = image
        .platforms
        .iter()
        .map(|platform| {
            let layers: Vec<Value> = platform
                .layers
                .iter()
                .map(|layer| {
                    let mut value = short(&layer.descriptor);
                    value["name"] = layer.name.as_str().into();
                    value["base"] = layer.base.into();
                    value["diffId"] = layer.diff_id.to_string().into();
                    value
                })
                .collect();
            json!({
                "platform": platform.platform.to_string(),
                "manifest": short(&platform.manifest),
                "config": short(&platform.config),
                "layers": layers,
            })
        })
        .collect();
    json!({
        "schema": 1,
        "rules": RULES,
        "created": facts.created,
        "revision": facts.revision,
        "variant": spec.variant(),
        "image": short(&image.root),
        "names": names.full(),
        "platforms": platforms,
        "python": own::listed(own),
    })
}
