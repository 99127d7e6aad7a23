//! Pins of the wheels that Python lock files name. Which these are is found out by planning: each target needs its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::{Algorithm, Digest};

use super::error::PinError;
use super::settle::Settled;
use super::{Mode, Update};
use crate::cache::Downloaded;
use crate::diagnostic::{Failure, Place};
use crate::inputs::python::PlannedWheel;
use crate::inputs::python::filename::WheelName;
use crate::inputs::python::name::Name;
use crate::inputs::supply::{Purpose, WheelNeed};
use crate::lock::{Authenticated, Kind, Pin, Pins, WheelPin};
use crate::oci::platform::Platform;
use crate::spec::Target;
use crate::spec::target::Input;
use crate::url::Url;

/// How many places are shown of what is missing.
const PLACES: usize = 5;

/// The wheels of a command, by what is pinned.
pub(in crate::ops) struct Wheels<'a> {
    settled: &'a Settled,
    /// What plans asked for so far.
    used: RefCell<BTreeMap<Platform, Pins>>,
}

impl<'a> Wheels<'a> {
    pub(in crate::ops) fn new(settled: &'a Settled) -> Wheels<'a> {
        Wheels { settled, used: RefCell::default() }
    }

    /// Nothing is installed: the lock file is all that is wanted.
    pub(in crate::ops) fn only_pins(&self) -> bool {
        self.settled.mode != Mode::Use
    }

    /// What is pinned for a platform, and stays so for this layer.
    ///
    /// What this run added is not among it: it must not matter which of several entries was first.
    pub(in crate::ops) fn pinned(&self, platform: &Platform, layer: &str) -> Vec<&'a Pin> {
        let pins = self.settled.old().platforms.get(platform);
        let wheels = pins.into_iter().flatten().filter(|((kind, _), _)| *kind == Kind::Wheel);
        wheels.map(|(_, pin)| pin).filter(|pin| !renewed(&self.settled.mode, layer, pin)).collect()
    }

    /// The pin of a wheel, when there is one, and no need to fetch the wheel to make one.
    ///
    /// A pin that would have to change is an error, and one that is missing, when it must not be.
    pub(in crate::ops) fn find(&self, needs: &[WheelNeed]) -> Result<Vec<Option<Pin>>, PinError> {
        let mut found = Vec::with_capacity(needs.len());
        let mut missing = Vec::new();
        for need in needs {
            let (pin, agrees) = match self.known(need) {
                Some((pin, on)) => {
                    let agrees = agrees(&pin, &need.wheel.digest);
                    if agrees == Some(false) {
                        return Err(self.stale(need, &pin, &on, need.wheel.digest.clone()));
                    }
                    (Some(pin), agrees == Some(true))
                }
                None => (None, false),
            };
            if self.settled.locked && self.own(need).is_none() {
                missing.push(need);
            }
            found.push(pin.filter(|_| agrees));
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let inputs = missing.iter().map(|need| (need.wheel.file.to_string(), need.platform.clone()));
        Err(self.missing(inputs.collect(), missing.iter().flat_map(|need| need.places())))
    }

    /// The error for a page that would be asked for, to pin something that is not and may not be added.
    pub(in crate::ops) fn lacking(&self, purpose: &Purpose) -> PinError {
        let input = (purpose.what.clone(), purpose.platform.clone());
        self.missing(vec![input], purpose.places.iter().cloned())
    }

    fn missing(&self, inputs: Vec<(String, Platform)>, all: impl Iterator<Item = Place>) -> PinError {
        let mut places: Vec<Place> = Vec::new();
        for place in all {
            if places.len() < PLACES && !places.contains(&place) {
                places.push(place);
            }
        }
        PinError::Missing { file: self.settled.file.clone(), inputs, places }
    }

    /// Notes that a wheel is needed that is pinned.
    pub(in crate::ops) fn keep(&self, need: &WheelNeed, pin: &Pin) {
        let mut used = self.used.borrow_mut();
        used.entry(need.platform.clone()).or_default().insert((Kind::Wheel, need.key()), pin.clone());
    }

    /// Pins a wheel to what was fetched.
    pub(in crate::ops) fn pin(&self, need: &WheelNeed, entry: &Downloaded) -> Result<(), Failure> {
        let said = &need.wheel.digest;
        let (digest, sha512) = match said.algorithm() {
            Algorithm::Sha256 => (entry.digest().clone(), None),
            Algorithm::Sha512 => {
                let failed =
                    |source| crate::inputs::InputError::Io { path: need.wheel.file.as_str().into(), source };
                let (digest, _) = Digest::of_reader(Algorithm::Sha256, &mut entry.open()?).map_err(failed)?;
                (digest, Some(said.clone()))
            }
        };
        if let Some((pin, on)) = self.known(need)
            && pin.digest != digest
        {
            return Err(self.stale(need, &pin, &on, digest).into());
        }
        let pin = Pin {
            url: need.url.as_ref().map(Url::without_secrets),
            size: entry.size(),
            digest,
            authenticated: Authenticated::LockFile,
            wheel: Some(WheelPin { file: need.wheel.file.as_str().to_owned(), sha512 }),
            base: None,
        };
        self.keep(need, &pin);
        Ok(())
    }

    /// Pins a wheel of the project to what it is.
    pub(in crate::ops) fn pin_here(&self, need: &WheelNeed) {
        let PlannedWheel { file, digest, size, .. } = &need.wheel;
        let wheel = Some(WheelPin { file: file.as_str().to_owned(), sha512: None });
        let (url, size, digest) = (None, size.unwrap_or_default(), digest.clone());
        let authenticated = Authenticated::FirstUse;
        self.keep(need, &Pin { url, size, digest, authenticated, wheel, base: None });
    }

    /// All that plans asked for.
    pub(in crate::ops) fn pins(&self) -> BTreeMap<Platform, Pins> {
        self.used.borrow().clone()
    }

    /// The pin of this very need, when it stays as it is.
    fn own(&self, need: &WheelNeed) -> Option<&'a Pin> {
        let pin = self.settled.old().platforms.get(&need.platform)?.get(&(Kind::Wheel, need.key()));
        pin.filter(|pin| !renewed(&self.settled.mode, &need.layer, pin))
    }

    /// What the address is pinned to, for whatever platform: one address gives one file.
    fn known(&self, need: &WheelNeed) -> Option<(Pin, Platform)> {
        let key = (Kind::Wheel, need.key());
        let find = |all: &BTreeMap<Platform, Pins>, stays: &dyn Fn(&Pin) -> bool| {
            let own = all.get_key_value(&need.platform);
            own.into_iter().chain(all).find_map(|(platform, pins)| {
                let pin = pins.get(&key).filter(|pin| stays(pin))?;
                Some((pin.clone(), platform.clone()))
            })
        };
        find(&self.used.borrow(), &|_| true).or_else(|| {
            find(&self.settled.old().platforms, &|pin| !renewed(&self.settled.mode, &need.layer, pin))
        })
    }

    fn stale(&self, need: &WheelNeed, pin: &Pin, on: &Platform, said: Digest) -> PinError {
        let mut places: Vec<Place> = need.places().collect();
        let written = self.settled.written.as_ref();
        places.extend(written.and_then(|w| w.place(on, Kind::Wheel, &need.key(), "pinned here")));
        let pinned = match (said.algorithm(), &pin.wheel) {
            (Algorithm::Sha512, Some(WheelPin { sha512: Some(pinned), .. })) => pinned.clone(),
            _ => pin.digest.clone(),
        };
        PinError::Stale {
            file: self.settled.file.clone(),
            what: need.url.as_ref().map_or_else(|| need.key(), ToString::to_string),
            by: match &need.url {
                Some(_) => {
                    let place = need.wheel.place.as_ref().unwrap_or(&need.place);
                    format!("{} says", place.file.display()).into()
                }
                None => format!("{} is", need.wheel.location).into(),
            },
            name: need.wheel.name().to_string(),
            digests: Box::new((pinned, said)),
            places,
        }
    }
}

/// Whether a pin is for a digest; nothing when it does not tell.
fn agrees(pin: &Pin, digest: &Digest) -> Option<bool> {
    match digest.algorithm() {
        Algorithm::Sha256 => Some(pin.digest == *digest),
        Algorithm::Sha512 => pin.wheel.as_ref()?.sha512.as_ref().map(|sha512| sha512 == digest),
    }
}

/// Whether a pin is made anew for a layer.
fn renewed(mode: &Mode, layer: &str, pin: &Pin) -> bool {
    match mode {
        Mode::Use | Mode::Lock(Update::Nothing) => false,
        Mode::Lock(Update::All) => true,
        Mode::Lock(Update::Names(names)) => names.iter().any(|name| name == layer || is_called(pin, name)),
    }
}

/// A wheel is called by its address, its file name and its project.
pub(super) fn is_called(pin: &Pin, name: &str) -> bool {
    let Some(wheel) = &pin.wheel else { return false };
    let same = || name.parse().is_ok_and(|other: Url| other.bare() == pin.key());
    wheel.file == name || project(pin).is_some_and(|project| Name::parse(name) == Some(project)) || same()
}

/// The project of a pinned wheel.
pub(super) fn project(pin: &Pin) -> Option<Name> {
    WheelName::parse(&pin.wheel.as_ref()?.file).ok().map(|file| file.name)
}

/// The layers that install what a lock file names.
pub(super) fn layers(targets: &[Target]) -> BTreeSet<&str> {
    let layers = targets.iter().flat_map(|target| &target.layers);
    layers.filter(|layer| layer.inputs.iter().any(is_python)).map(|layer| layer.name.as_str()).collect()
}

/// What of a target decides which wheels it needs: the layers up to the last one that installs what a lock file names. Nothing when
/// there is none.
///
/// Of that layer only this matters, and nowhere do other wheels: an interpreter is in none.
pub(super) fn deciding(target: &Target) -> Option<Target> {
    let last = target.layers.iter().rposition(|layer| layer.inputs.iter().any(is_python))?;
    let (name, version, tags) = (None, None, Vec::new());
    let (config, annotations, users) = Default::default();
    let mut target = Target { name, version, tags, config, annotations, users, ..target.clone() };
    target.layers.truncate(last + 1);
    for (number, layer) in target.layers.iter_mut().enumerate() {
        layer.adjust.clear();
        layer.inputs.retain(|input| match input {
            Input::Python(_) => true,
            Input::Wheel(_) => false,
            _ => number < last,
        });
    }
    Some(target)
}

fn is_python(input: &Input) -> bool {
    matches!(input, Input::Python(_))
}
