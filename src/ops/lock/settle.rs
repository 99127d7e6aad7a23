//! From what the spec asks for and the lock file says to pins, and the files that they stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dmoci_layers::Digest;

use super::error::PinError;
use super::{Change, Network, Told, Update, bases, wheels};
use crate::cache::{Downloaded, Downloads};
use crate::diagnostic::{Failure, Place};
use crate::fetch::{FetchError, Fetcher, Wanted};
use crate::inputs::fetched::Fetched;
use crate::lock::{self, Authenticated, Kind, Lock, Pin, Pins, Written};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::ops::plan::Watch;
use crate::spec::target::{Archive, ArchiveSource, Base, BaseTrust, Input, Remote};
use crate::spec::{Problem, Problems, Span, Spec, SpecError, Target, nearest};

/// What is wanted of the lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Mode {
    /// Everything that is pinned: what is missing is added, unless the file must have it all.
    Use,
    /// That it fits: also what is not needed any more goes. Only what is pinned anew is fetched.
    Lock(Update),
}

/// Pins, and what they stand for.
pub(in crate::ops) struct Settled {
    /// The lock file.
    pub(in crate::ops) file: PathBuf,
    /// What was in it.
    pub(super) written: Option<Written>,
    /// What was wanted of it.
    pub(super) mode: Mode,
    /// It must have everything already.
    pub(super) locked: bool,
    /// What is to be in it, but for the wheels that plans find out to need.
    lock: Lock,
    /// All files that were asked for.
    pub(in crate::ops) fetched: Fetched,
    /// Who must have signed the base of each platform.
    pub(in crate::ops) signers: BTreeMap<Platform, (BaseTrust, Place)>,
}

/// What is to be in a lock file.
pub(in crate::ops) struct Renewed {
    /// All of it.
    pub(in crate::ops) lock: Lock,
    /// In what that differs from what was in it.
    pub(in crate::ops) changes: Vec<Change>,
}

impl Settled {
    /// What was in the lock file.
    pub(super) fn old(&self) -> &Lock {
        static NONE: Lock = Lock { platforms: BTreeMap::new() };
        self.written.as_ref().map_or(&NONE, |written| &written.lock)
    }

    /// A lock file as it is.
    pub(super) fn unchanged(file: PathBuf, written: Option<Written>, mode: Mode) -> Settled {
        let lock = written.as_ref().map(|written| written.lock.clone()).unwrap_or_default();
        let (fetched, signers) = Default::default();
        Settled { file, written, mode, locked: false, lock, fetched, signers }
    }

    /// The same after what is to be in the lock file was written.
    pub(in crate::ops) fn written(&self) -> Result<Settled, Failure> {
        let written = lock::load(&self.file)?;
        let lock = written.as_ref().map(|written| written.lock.clone()).unwrap_or_default();
        let (file, mode, fetched) = (self.file.clone(), self.mode.clone(), self.fetched.clone());
        let signers = self.signers.clone();
        Ok(Settled { file, written, mode, locked: self.locked, lock, fetched, signers })
    }

    /// What is to be in the lock file, now that all wheels are known. `build` takes the place of all build requirements of its
    /// platform.
    pub(in crate::ops) fn with(
        &self,
        wheels: BTreeMap<Platform, Pins>,
        build: Option<(Platform, Pins)>,
    ) -> Renewed {
        let mut lock = self.lock.clone();
        if let Some((platform, pins)) = build {
            let own = lock.platforms.entry(platform).or_default();
            own.retain(|(kind, _), _| *kind != Kind::Build);
            own.extend(pins);
        }
        for (platform, pins) in wheels {
            lock.platforms.entry(platform).or_default().extend(pins);
        }
        lock.platforms.retain(|_, pins| !pins.is_empty());
        let changes = changes(self.old(), &lock);
        Renewed { lock, changes }
    }
}

/// Something from elsewhere that a platform's image needs.
struct Need<'a> {
    platform: &'a Platform,
    kind: Kind,
    layer: &'a str,
    remote: &'a Remote,
    /// What the spec says of it, here or where else it has the same address.
    sha256: Option<Digest>,
}

impl Need<'_> {
    fn key(&self) -> (Kind, String) {
        (self.kind, self.remote.url.bare())
    }

    fn is_called(&self, name: &str) -> bool {
        let url = self.remote.url.bare();
        let same = || name.parse().is_ok_and(|other: crate::url::Url| other.bare() == url);
        self.layer == name || self.remote.url.file_name() == name || same()
    }
}

/// Pins what the targets need and fetches what `mode` asks for. Nothing is written but the cache.
pub(in crate::ops) fn settle(
    spec: &Spec,
    targets: &[Target],
    network: &Network<'_>,
    mode: &Mode,
    watch: &dyn Watch,
) -> Result<Settled, Failure> {
    let needs = needs(targets);
    agree(spec, &needs)?;
    about_registries(spec, targets)?;
    let file = spec.file().with_extension("lock");
    let written = lock::load(&file)?;
    let none = Lock::default();
    let old = written.as_ref().map_or(&none, |written| &written.lock);
    let renewed = renewed(&needs, mode);
    let deciding: Vec<Target> = targets.iter().filter_map(wheels::deciding).collect();
    let looked = self::needs(&deciding).into_iter().map(|need| need.remote.url.bare()).collect();
    let known = old.platforms.values().flatten().map(|((_, key), pin)| (key.as_str(), pin));
    let known = known.filter(|(url, _)| !renewed.contains(*url)).collect();
    let job = Job {
        spec,
        targets,
        old,
        written: written.as_ref(),
        needs: &needs,
        file: &file,
        mode,
        renewed,
        known,
        looked,
    };
    job.check_names()?;
    job.check_edits()?;
    job.check_pins()?;
    if network.locked {
        job.check_complete()?;
    }
    let fetched = job.fetch(network, watch)?;
    let lock = job.lock(&fetched, network.locked);
    let signer = |target: &Target| {
        let trust = target.base_trust.clone()?;
        let place = spec.place(&trust.span, "");
        Some((target.platform.clone(), (trust, place)))
    };
    let signers = targets.iter().filter_map(signer).collect();
    Ok(Settled { file, written, mode: mode.clone(), locked: network.locked, lock, fetched, signers })
}

/// Refuses `[trust.base]` about a base that nobody would look for signatures of.
fn about_registries(spec: &Spec, targets: &[Target]) -> Result<(), SpecError> {
    let is_wrong = |target: &&Target| !matches!(target.base, Base::Registry(_));
    let Some(trust) = targets.iter().filter(is_wrong).find_map(|target| target.base_trust.as_ref()) else {
        return Ok(());
    };
    let message = "[trust.base] is about a base in a registry, and the base is in none";
    let problem = Problem::new("E-TRUST-BASE", &trust.span, message)
        .expected("expected base = \"docker://HOST/NAME:TAG\"")
        .help("leave the table out; `dmoci verify` tells who signed an image in a layout or an archive");
    let (file, text) = (spec.file().to_owned(), spec.text().clone());
    Err(Problems { file, text, problems: vec![problem] }.into())
}

/// What the targets take from the network, in the order of platforms and of the spec.
fn needs(targets: &[Target]) -> Vec<Need<'_>> {
    let mut needs = Vec::new();
    for target in targets {
        for layer in &target.layers {
            for input in &layer.inputs {
                let (kind, remote) = match input {
                    Input::Archive(Archive { source: ArchiveSource::Remote(remote), .. }) => {
                        (Kind::Archive, remote)
                    }
                    Input::Download(download) => (Kind::Download, &download.remote),
                    _ => continue,
                };
                let sha256 = remote.sha256.clone();
                needs.push(Need { platform: &target.platform, kind, layer: &layer.name, remote, sha256 });
            }
        }
    }
    let said: BTreeMap<String, Digest> =
        needs.iter().filter_map(|need| Some((need.remote.url.bare(), need.sha256.clone()?))).collect();
    for need in &mut needs {
        need.sha256 = said.get(&need.remote.url.bare()).cloned();
    }
    needs
}

/// The addresses whose pins, if there are any, are made anew.
fn renewed(needs: &[Need<'_>], mode: &Mode) -> BTreeSet<String> {
    let meant = |need: &&Need<'_>| match mode {
        Mode::Lock(Update::All) => true,
        Mode::Lock(Update::Names(names)) => names.iter().any(|name| need.is_called(name)),
        Mode::Lock(Update::Nothing) | Mode::Use => false,
    };
    needs.iter().filter(meant).map(|need| need.remote.url.bare()).collect()
}

/// Refuses two different files of one address.
fn agree(spec: &Spec, needs: &[Need<'_>]) -> Result<(), SpecError> {
    let mut seen: BTreeMap<String, (&Digest, &Span)> = BTreeMap::new();
    for remote in needs.iter().map(|need| need.remote) {
        let Some(sha256) = &remote.sha256 else { continue };
        let (first, span) = *seen.entry(remote.url.bare()).or_insert((sha256, &remote.span));
        if first != sha256 {
            let problem =
                Problem::new("E-SPEC-DUPLICATE", &remote.span, "this address is to give two different files");
            let problem = problem
                .expected(format!("sha256 {} here", sha256.short()))
                .other(span, format!("sha256 {} here", first.short()));
            let (file, text) = (spec.file().to_owned(), spec.text().clone());
            return Err(Problems { file, text, problems: vec![problem] }.into());
        }
    }
    Ok(())
}

struct Job<'a> {
    spec: &'a Spec,
    targets: &'a [Target],
    old: &'a Lock,
    written: Option<&'a Written>,
    needs: &'a [Need<'a>],
    file: &'a PathBuf,
    mode: &'a Mode,
    renewed: BTreeSet<String>,
    /// What is pinned and stays so, for whatever platform: one address gives one file.
    known: BTreeMap<&'a str, &'a Pin>,
    /// Addresses of what may hold an interpreter that wheels are chosen for.
    looked: BTreeSet<String>,
}

impl Job<'_> {
    /// The pin of this very need, when it stays as it is.
    fn kept(&self, need: &Need<'_>) -> Option<&Pin> {
        let pin = self.old.platforms.get(need.platform)?.get(&need.key());
        pin.filter(|_| !self.renewed.contains(&need.remote.url.bare()))
    }

    /// What the address is pinned to.
    fn known(&self, need: &Need<'_>) -> Option<&Pin> {
        self.known.get(need.remote.url.bare().as_str()).copied()
    }

    fn place(&self, need: &Need<'_>, label: &str) -> Place {
        self.spec.place(&need.remote.span, label)
    }

    fn check_names(&self) -> Result<(), PinError> {
        let Mode::Lock(Update::Names(names)) = self.mode else { return Ok(()) };
        let layers = wheels::layers(self.targets);
        let pins = self.old.platforms.values().flatten();
        let builds = self.targets.iter().any(|target| target.wheel.is_some());
        let is_asked = |kind| kind == Kind::Wheel || builds && kind == Kind::Build;
        let pins: Vec<&Pin> = pins.filter(|((kind, _), _)| is_asked(*kind)).map(|(_, pin)| pin).collect();
        let bases = bases::of(self.targets);
        let is_known = |name: &&String| {
            layers.contains(name.as_str())
                || bases.iter().any(|(base, _)| bases::is_called(base, name))
                || self.needs.iter().any(|need| need.is_called(name))
                || pins.iter().any(|pin| wheels::is_called(pin, name))
        };
        let Some(name) = names.iter().find(|name| !is_known(name)) else { return Ok(()) };
        let known = self.needs.iter().flat_map(|need| [need.layer, need.remote.url.file_name()]);
        let base = (!bases.is_empty()).then_some(bases::BASE);
        let known: BTreeSet<&str> = known.chain(layers).chain(base).filter(|name| !name.is_empty()).collect();
        let projects: BTreeSet<String> =
            pins.iter().filter_map(|pin| Some(wheels::project(pin)?.to_string())).collect();
        let all = known.iter().copied().chain(projects.iter().map(String::as_str));
        Err(PinError::Name {
            name: name.clone(),
            nearest: nearest(name, all).map(str::to_owned),
            known: known.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    fn check_edits(&self) -> Result<(), Failure> {
        let Some(written) = self.written else { return Ok(()) };
        written.check(|platform, kind, url| {
            match kind {
                Kind::Wheel => return self.is_anew(platform, url),
                // `dmoci wheel` makes these.
                Kind::Build => return false,
                Kind::Base => return self.is_new_base(platform, url),
                Kind::Archive | Kind::Download => {}
            }
            let mut same = self.needs.iter().filter(|need| {
                need.platform == platform && need.kind == kind && need.remote.url.bare() == url
            });
            match self.mode {
                Mode::Use => false,
                // What is needed is made anew; what is not, goes.
                Mode::Lock(_) => same.all(|need| self.renewed.contains(&need.remote.url.bare())),
            }
        })?;
        Ok(())
    }

    /// Whether the pin of a wheel is made anew, or goes.
    fn is_anew(&self, platform: &Platform, url: &str) -> bool {
        let installs = |target: &&Target| target.platform == *platform && wheels::deciding(target).is_some();
        match self.mode {
            Mode::Use => false,
            Mode::Lock(_) if !self.targets.iter().any(|target| installs(&target)) => true,
            Mode::Lock(Update::Nothing) => false,
            Mode::Lock(Update::All) => true,
            Mode::Lock(Update::Names(names)) => {
                let pin = self
                    .old
                    .platforms
                    .get(platform)
                    .and_then(|pins| pins.get(&(Kind::Wheel, url.to_owned())));
                pin.is_some_and(|pin| names.iter().any(|name| wheels::is_called(pin, name)))
            }
        }
    }

    /// Whether the pin of a base is made anew, or goes.
    fn is_new_base(&self, platform: &Platform, name: &str) -> bool {
        let bases = bases::of(self.targets);
        let base = bases.iter().find(|(base, on)| *on == platform && base.to_string() == name);
        match base {
            Some((base, _)) => bases::renewed(self.mode, base),
            None => *self.mode != Mode::Use,
        }
    }

    fn check_pins(&self) -> Result<(), PinError> {
        for need in self.needs {
            if let (Some(pin), Some(sha256)) = (self.known(need), &need.sha256)
                && pin.digest != *sha256
            {
                let mut places = vec![self.place(need, "")];
                let written = self.written;
                places.extend(
                    written.and_then(|w| {
                        w.place(need.platform, need.kind, &need.remote.url.bare(), "pinned here")
                    }),
                );
                return Err(PinError::Stale {
                    file: self.file.clone(),
                    what: need.remote.url.to_string(),
                    by: "the spec says".into(),
                    name: need.layer.to_owned(),
                    digests: Box::new((pin.digest.clone(), sha256.clone())),
                    places,
                });
            }
        }
        Ok(())
    }

    fn check_complete(&self) -> Result<(), PinError> {
        let missing: Vec<&Need<'_>> = self.needs.iter().filter(|need| self.kept(need).is_none()).collect();
        let bases = bases::of(self.targets);
        let is_pinned = |base: &Reference, on: &Platform| {
            let pins = self.old.platforms.get(on);
            pins.is_some_and(|pins| pins.contains_key(&(Kind::Base, base.to_string())))
        };
        let bases: Vec<_> = bases.into_iter().filter(|(base, on)| !is_pinned(base, on)).collect();
        if missing.is_empty() && bases.is_empty() {
            return Ok(());
        }
        let mut inputs: BTreeSet<(String, Platform)> =
            missing.iter().map(|need| (need.remote.url.to_string(), need.platform.clone())).collect();
        inputs.extend(bases.iter().map(|(base, on)| (format!("the base {base}"), (*on).clone())));
        let mut places: Vec<Place> = Vec::new();
        if let Some((_, on)) = bases.first() {
            let target = self.targets.iter().find(|target| target.platform == **on);
            places.extend(target.map(|target| self.spec.place(&target.base_span, "")));
        }
        for need in &missing {
            let place = self.place(need, "");
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Err(PinError::Missing { file: self.file.clone(), inputs: inputs.into_iter().collect(), places })
    }

    /// Fetches each address once.
    fn fetch(&self, network: &Network<'_>, watch: &dyn Watch) -> Result<Fetched, Failure> {
        let mut wanted: BTreeMap<String, (Wanted, &Need<'_>)> = BTreeMap::new();
        for need in self.needs {
            let looked = self.looked.contains(&need.remote.url.bare());
            if self.kept(need).is_some() && *self.mode != Mode::Use && !looked {
                continue;
            }
            let pin = self.known(need);
            let expected = pin.map(|pin| pin.digest.clone()).or_else(|| need.sha256.clone());
            let this = Wanted {
                size: pin.map(|pin| pin.size),
                // Only what the spec itself says is worth anything on an open line.
                plain: need.sha256.is_some(),
                ..Wanted::new(need.remote.url.clone(), expected)
            };
            wanted.entry(need.remote.url.bare()).or_insert((this, need));
        }
        if wanted.is_empty() {
            return Ok(Fetched::default());
        }
        let downloads = Downloads::open(network.downloads()?)?;
        let told = Told::new(watch);
        let fetcher = Fetcher::new(network.settings.clone(), downloads.clone(), network.surroundings, &told);
        let list: Vec<Wanted> = wanted.values().map(|(wanted, _)| wanted.clone()).collect();
        let entries = fetcher.files(&list);
        downloads.sweep();
        watch.all_fetched();
        let entries = entries.map_err(|error| self.failure(error, &wanted))?;
        Ok(Fetched::new(wanted.into_keys().zip(entries)))
    }

    /// The error with the place of what could not be fetched, and what to do where the lock file is concerned.
    fn failure(&self, error: FetchError, wanted: &BTreeMap<String, (Wanted, &Need<'_>)>) -> Failure {
        let urls: Vec<String> = error.urls().iter().map(|url| url.bare()).collect();
        let mismatch = matches!(error, FetchError::Digest { .. } | FetchError::Size { .. });
        let needs: Vec<&Need<'_>> =
            urls.iter().filter_map(|url| wanted.get(url)).map(|(_, need)| *need).collect();
        let mut failure = Failure::from(error);
        failure.places.extend(needs.iter().map(|need| self.place(need, "")));
        if let Some(need) = needs.first().filter(|_| mismatch) {
            let written = self.written;
            if let Some(pin) = self.kept(need) {
                let label = format!("pinned here ({})", pin.authenticated.name());
                failure.places.extend(
                    written.and_then(|w| w.place(need.platform, need.kind, &need.remote.url.bare(), &label)),
                );
            }
            failure.help = Some(match &need.sha256 {
                Some(_) => "look why it changed; when it is meant, correct `sha256` in the spec".to_owned(),
                None => format!("look why it changed; when it is meant: dmoci lock --update {}", need.layer),
            });
        }
        failure
    }

    /// What is to be in the lock file.
    fn lock(&self, fetched: &Fetched, locked: bool) -> Lock {
        let mut lock = match self.mode {
            Mode::Use => self.old.clone(),
            Mode::Lock(_) => {
                let mut kept = self.old.clone();
                kept.platforms.values_mut().for_each(|pins| pins.retain(|(kind, _), _| *kind == Kind::Build));
                kept
            }
        };
        for need in self.needs {
            let pins: &mut Pins = lock.platforms.entry(need.platform.clone()).or_default();
            let pin = match (self.kept(need), fetched.get(&need.remote.url)) {
                (Some(pin), _) => pin.clone(),
                (None, Some(entry)) => new_pin(need, entry, self.known(need)),
                (None, None) => continue,
            };
            let authenticated = match need.sha256 {
                Some(_) if !locked => Authenticated::Spec,
                _ => pin.authenticated,
            };
            pins.insert(need.key(), Pin { authenticated, ..pin });
        }
        lock
    }
}

fn new_pin(need: &Need<'_>, entry: &Downloaded, known: Option<&Pin>) -> Pin {
    Pin {
        url: Some(need.remote.url.without_secrets()),
        size: entry.size(),
        digest: entry.digest().clone(),
        authenticated: match need.sha256 {
            Some(_) => Authenticated::Spec,
            None => known.map_or(Authenticated::FirstUse, |pin| pin.authenticated),
        },
        wheel: None,
        base: None,
    }
}

/// In what two locks differ, in the order of the file.
fn changes(old: &Lock, new: &Lock) -> Vec<Change> {
    let all = |lock: &Lock| -> BTreeMap<(Platform, Kind, String), Pin> {
        let flat = lock.platforms.iter().flat_map(|(platform, pins)| {
            pins.iter().map(|((kind, url), pin)| ((platform.clone(), *kind, url.clone()), pin.clone()))
        });
        flat.collect()
    };
    let (old, new) = (all(old), all(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |key: &(Platform, Kind, String)| Change {
        platform: key.0.clone(),
        kind: key.1,
        old: old.get(key).cloned(),
        new: new.get(key).cloned(),
    };
    keys.into_iter().map(change).filter(|change| change.old != change.new).collect()
}
