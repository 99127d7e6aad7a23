//! `dmoci lock`, and what every command does with inputs from elsewhere: pin them, and fetch what is pinned.
//!
//! ```text
//! mod > settle, wheels, bases, signers, build > write > error
//! ```

mod bases;
mod build;
mod error;
mod settle;
mod signers;
mod wheels;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::build::PyProject;
use super::own::{self, Backend};
use super::plan::{Ground, Watch, on, one};
use super::supply::Online;
use crate::diagnostic::{Failure, Secret};
use crate::fetch::{Cause, Listener, Settings, Surroundings};
use crate::inputs::python::Own;
use crate::lock::{Kind, Pin};
use crate::oci::platform::Platform;
use crate::spec::target::Base;
use crate::spec::{self, Overrides, Spec, Target};
use crate::url::Url;
pub(super) use bases::Bases;
pub(super) use build::BuildPins;
use error::PinError;
pub(super) use settle::{Mode, Settled, settle};
pub(super) use signers::Signers;
pub(super) use wheels::Wheels;
pub(super) use write::write;

/// How a command reaches what is not in the project.
pub struct Network<'a> {
    /// How things are fetched.
    pub settings: Settings,
    /// The directory of all caches; nothing when the user has none.
    pub cache: Option<PathBuf>,
    /// What `cli` reads of the machine.
    pub surroundings: &'a dyn Surroundings,
    /// The lock file must have everything already.
    pub locked: bool,
    /// A variable of the environment.
    pub variable: fn(&str) -> Option<String>,
}

impl Network<'_> {
    /// The directory of all caches, where what is fetched is kept.
    pub(super) fn downloads(&self) -> Result<&Path, PinError> {
        self.cache.as_deref().ok_or(PinError::NoCache)
    }
}

/// Which pins are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// None: what is missing is added, what is not needed any more goes.
    Nothing,
    /// All.
    All,
    /// Those of these layers, addresses, file names or Python projects.
    Names(Vec<String>),
}

/// What to lock.
#[derive(Clone, Debug)]
pub struct Request {
    /// The project directory.
    pub project: PathBuf,
    /// The spec; relative to the current directory.
    pub spec: PathBuf,
    /// Variables that the caller sets.
    pub set: BTreeMap<String, String>,
    /// What is made anew.
    pub update: Update,
    /// Where what archives hold is unpacked, into nameless files, when the Python of an image lies in one.
    pub scratch: PathBuf,
    /// What finds out what the project's own build backend needs.
    pub backend: Backend,
}

/// A change of the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which platform.
    pub platform: Platform,
    /// What for.
    pub kind: Kind,
    /// The pin before.
    pub old: Option<Pin>,
    /// The pin now.
    pub new: Option<Pin>,
}

impl Change {
    /// True when the entry is for the same thing as before, and only more is known of it.
    pub(super) fn is_noted(&self) -> bool {
        let said = |pin: &Option<Pin>| {
            pin.as_ref()
                .map(|pin| (pin.digest.clone(), pin.authenticated, pin.signed_by().map(str::to_owned)))
        };
        self.kind == Kind::Base && self.old.is_some() && said(&self.old) == said(&self.new)
    }
}

/// A lock file that fits its spec.
#[derive(Clone, Debug)]
pub struct Locked {
    /// The file.
    pub file: PathBuf,
    /// It was there before.
    pub was_there: bool,
    /// How many platforms have pins.
    pub platforms: usize,
    /// How many pins there are.
    pub pins: usize,
    /// What changed; nothing when the file was right.
    pub changes: Vec<Change>,
}

/// Brings `dmoci.lock` to what `dmoci.toml` asks for, for all platforms of the image and its variants. On an error it is as
/// it was.
pub fn lock(request: &Request, network: &Network<'_>, watch: &dyn Watch) -> Result<Locked, Failure> {
    crate::sha256::provide();
    let spec = spec::load(&request.spec)?;
    let version = PyProject::read(&request.project)?.version;
    let overrides = Overrides { vars: request.set.clone(), version };
    let mut images = Vec::new();
    for name in std::iter::once(None).chain(spec.variants().map(Some)) {
        let image = name.map_or_else(|| Ok(spec.clone()), |name| spec.with_variant(name))?;
        for platform in image.platforms() {
            images.push((image.target(platform, &overrides)?, image.clone()));
        }
    }
    let targets: Vec<Target> = images.iter().map(|(target, _)| target.clone()).collect();
    let settled = settle(&spec, &targets, network, &Mode::Lock(request.update.clone()), watch)?;
    let told = Told::new(watch);
    let online = Online::new(network, &request.project, &settled, &told, watch);
    for (name, platform) in bases::of(&targets) {
        online.pin_base(name, platform).map_err(|failure| at_base(failure, &images, platform))?;
    }
    let asking: Vec<(Target, Spec)> = images
        .iter()
        .filter(|(target, _)| matches!(target.base, Base::Registry(_)))
        .map(|(target, spec)| (bases::asking(target), spec.clone()))
        .collect();
    resolve(request, images, (&settled, &online), watch)?;
    note(request, asking, (&settled, &online), watch);
    let outputs = &request.project.join("dist");
    let (project, backend) = (&request.project, &request.backend);
    let ground = own::Ground { spec: &spec, project, outputs, backend, epoch: None, pins: false };
    let build = own::requirements(ground, &targets, renews(request, &settled), network, watch)?;
    let renewed = settled.with(online.pins(), build);
    write(&settled, &renewed, watch)?;
    let pins = renewed.lock.platforms.values();
    Ok(Locked {
        platforms: pins.len(),
        pins: pins.map(BTreeMap::len).sum(),
        file: settled.file.clone(),
        was_there: settled.written.is_some(),
        changes: renewed.changes,
    })
}

/// The error with the place where the base of a platform is named, when it has none of its own.
fn at_base(mut failure: Failure, images: &[(Target, Spec)], platform: &Platform) -> Failure {
    let image = images.iter().find(|(target, _)| target.platform == *platform);
    if failure.places.is_empty() {
        failure.places.extend(image.map(|(target, spec)| spec.place(&target.base_span, "")));
    }
    failure
}

/// Whether the build requirements are pinned anew: all are, or none.
fn renews(request: &Request, settled: &Settled) -> bool {
    let pins = || settled.old().platforms.values().flatten();
    let mut build = pins().filter(|((kind, _), _)| *kind == Kind::Build).map(|(_, pin)| pin);
    match &request.update {
        Update::Nothing => false,
        Update::All => true,
        Update::Names(names) => build.any(|pin| names.iter().any(|name| wheels::is_called(pin, name))),
    }
}

/// Finds out which wheels Python lock files mean: plans what decides it.
fn resolve(
    request: &Request,
    images: Vec<(Target, Spec)>,
    (settled, online): (&Settled, &Online<'_>),
    watch: &dyn Watch,
) -> Result<(), Failure> {
    let mut deciding: Vec<(Target, Spec)> = Vec::new();
    for (target, image) in images {
        // Variants mostly have the same.
        if let Some(target) = wheels::deciding(&target)
            && !deciding.iter().any(|(other, _)| *other == target)
        {
            deciding.push((target, image));
        }
    }
    let wheel = deciding.first().and_then(|(target, _)| target.wheel.as_ref());
    let own = wheel.map(|own| Own { source: own.source.as_path().to_owned(), wheel: None });
    planned(request, ("Resolving", deciding), (settled, online, own.as_ref()), watch)
}

/// Notes what images ask of their bases, as far as that can be told without what the network gives: builds need no layers then.
fn note(
    request: &Request,
    asking: Vec<(Target, Spec)>,
    (settled, online): (&Settled, &Online<'_>),
    watch: &dyn Watch,
) {
    // What is wrong with sources is for `check` to say, and the next build notes what is missing here.
    if let Err(failure) = planned(request, ("Planning", asking), (settled, online, None), watch) {
        let code = failure.code;
        watch.warning(&format!(
            "not all is noted that the image asks of its base: {failure} ({code}); a build will do so"
        ));
    }
}

/// Plans all these.
fn planned(
    request: &Request,
    (verb, images): (&str, Vec<(Target, Spec)>),
    (settled, online, own): (&Settled, &Online<'_>, Option<&Own>),
    watch: &dyn Watch,
) -> Result<(), Failure> {
    if images.is_empty() {
        return Ok(());
    }
    let output = request.project.join("dist");
    let ground = Ground {
        project: &request.project,
        output: &output,
        scratch: &request.scratch,
        cache: None,
        fetched: &settled.fetched,
        supply: online,
        own,
    };
    ground.site(|site| {
        for (target, image) in images {
            watch.status(verb, &on(&image, &target));
            one(&image, target, site)?;
        }
        Ok(())
    })
}

/// Tells what is fetched to whoever watches.
pub(super) struct Told<'a> {
    watch: &'a dyn Watch,
    /// What is not to be told.
    secrets: Mutex<BTreeSet<Secret>>,
}

impl<'a> Told<'a> {
    pub(super) fn new(watch: &'a dyn Watch) -> Told<'a> {
        Told { watch, secrets: Mutex::default() }
    }

    /// From now on this is not told.
    pub(super) fn hide(&self, name: &str, value: &str) {
        self.secrets().extend(Secret::new(name, value));
    }

    /// The error without what is not to be told.
    pub(super) fn without_secrets(&self, failure: Failure) -> Failure {
        failure.hiding(&self.secrets())
    }

    fn status(&self, verb: &str, message: String) {
        let message = self.secrets().iter().fold(message, |message, secret| secret.hidden(message));
        self.watch.status(verb, &message);
    }

    fn secrets(&self) -> MutexGuard<'_, BTreeSet<Secret>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Told<'_> {
    fn begin(&self, url: &Url) {
        self.status("Fetching", url.to_string());
    }

    fn expect(&self, bytes: u64) {
        self.watch.fetching(bytes);
    }

    fn receive(&self, bytes: u64) {
        self.watch.fetched(bytes);
    }

    fn retry(&self, url: &Url, cause: &Cause, wait: Duration) {
        self.status("Retrying", format!("{url} in {:.1} s: {cause}", wait.as_secs_f64()));
    }

    fn blocked(&self, url: &Url) {
        self.status("Blocking", format!("waiting for another run that fetches {url}"));
    }
}
