//! Pins of bases in registries: of each platform the manifest, whatever its tag names meanwhile.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::{Digest, SafePath};

use super::error::PinError;
use super::settle::Settled;
use super::{Mode, Update};
use crate::diagnostic::Place;
use crate::lock::{Authenticated, BasePin, Kind, Pin, Pins};
use crate::oci::Descriptor;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::spec::target::{
    Archive, ArchiveSource, Base, BaseTrust, Directory, Download, Environment, File, Input, Owner,
};
use crate::spec::{Span, Target};

/// What `--update` calls the base of the image, whatever it is.
pub(super) const BASE: &str = "base";

/// The bases of a command, by what is pinned.
pub(in crate::ops) struct Bases<'a> {
    settled: &'a Settled,
    /// What plans asked for so far.
    used: RefCell<BTreeMap<Platform, Pins>>,
}

impl<'a> Bases<'a> {
    pub(in crate::ops) fn new(settled: &'a Settled) -> Bases<'a> {
        Bases { settled, used: RefCell::default() }
    }

    /// The pin of a base, when there is one that stays. One that is missing, when it must not be, is an error.
    pub(in crate::ops) fn find(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Option<Pin>, PinError> {
        let key = (Kind::Base, name.to_string());
        let old = self.settled.old().platforms.get(platform).and_then(|pins| pins.get(&key));
        let used = self.used.borrow().get(platform).and_then(|pins| pins.get(&key)).cloned();
        match used.or_else(|| old.filter(|_| !renewed(&self.settled.mode, name)).cloned()) {
            Some(pin) => {
                self.keep(platform, pin.clone());
                Ok(Some(pin))
            }
            None if self.settled.locked => Err(PinError::Missing {
                file: self.settled.file.clone(),
                inputs: vec![(format!("the base {name}"), platform.clone())],
                places: Vec::new(),
            }),
            None => Ok(None),
        }
    }

    /// Who must have signed the base of a platform, and where that is written.
    pub(in crate::ops) fn trust(&self, platform: &Platform) -> Option<&(BaseTrust, Place)> {
        self.settled.signers.get(platform)
    }

    /// What is wrong with the pin of a base that does not say so.
    pub(in crate::ops) fn unsigned(&self, name: &Reference) -> PinError {
        PinError::Unsigned { file: self.settled.file.clone(), name: name.to_string() }
    }

    /// The index that the pins of other platforms were chosen from.
    pub(in crate::ops) fn index(&self, name: &Reference) -> Option<Digest> {
        let key = (Kind::Base, name.to_string());
        let index = |all: &BTreeMap<Platform, Pins>| {
            all.values().find_map(|pins| pins.get(&key)?.base.as_ref()?.index.clone())
        };
        let used = index(&self.used.borrow());
        used.or_else(|| index(&self.settled.old().platforms).filter(|_| !renewed(&self.settled.mode, name)))
    }

    /// Pins a base to what it is now.
    pub(in crate::ops) fn pin(
        &self,
        name: &Reference,
        platform: &Platform,
        manifest: &Descriptor,
        index: Option<Digest>,
        signed_by: Option<String>,
    ) {
        let authenticated = match name.digest() {
            Some(_) => Authenticated::Spec,
            None if signed_by.is_some() => Authenticated::Signature,
            None => Authenticated::FirstUse,
        };
        let pin = Pin {
            url: None,
            size: manifest.size,
            digest: manifest.digest.clone(),
            authenticated,
            wheel: None,
            base: Some(BasePin { name: name.clone(), index, signed_by, facts: BTreeSet::new() }),
        };
        self.keep(platform, pin);
    }

    /// What builds have asked of a base.
    pub(in crate::ops) fn facts(&self, name: &Reference, platform: &Platform) -> BTreeSet<String> {
        let used = self.used.borrow();
        let pin = used.get(platform).and_then(|pins| pins.get(&(Kind::Base, name.to_string())));
        pin.and_then(|pin| Some(pin.base.as_ref()?.facts.clone())).unwrap_or_default()
    }

    /// Adds to what builds have asked of a base, unless the lock file is to stay as it is. What was known stays true: another
    /// variant may ask for it.
    pub(in crate::ops) fn keep_facts(&self, name: &Reference, platform: &Platform, facts: BTreeSet<String>) {
        let mut used = self.used.borrow_mut();
        let pin = used.get_mut(platform).and_then(|pins| pins.get_mut(&(Kind::Base, name.to_string())));
        if let Some(base) = pin.filter(|_| !self.settled.locked).and_then(|pin| pin.base.as_mut()) {
            base.facts.extend(facts);
        }
    }

    /// All that plans asked for.
    pub(in crate::ops) fn pins(&self) -> BTreeMap<Platform, Pins> {
        self.used.borrow().clone()
    }

    fn keep(&self, platform: &Platform, pin: Pin) {
        self.used.borrow_mut().entry(platform.clone()).or_default().insert((Kind::Base, pin.key()), pin);
    }
}

/// Whether the pins of a base are made anew.
pub(super) fn renewed(mode: &Mode, name: &Reference) -> bool {
    match mode {
        Mode::Use | Mode::Lock(Update::Nothing) => false,
        Mode::Lock(Update::All) => true,
        Mode::Lock(Update::Names(names)) => names.iter().any(|one| is_called(name, one)),
    }
}

/// A base is called by what the spec says, by its name without tag, and `base`.
pub(super) fn is_called(base: &Reference, name: &str) -> bool {
    let bare = name.strip_prefix("docker://").unwrap_or(name);
    name == BASE || bare == base.to_string() || bare == base.name().to_string()
}

/// The bases in registries that targets stand on.
pub(super) fn of(targets: &[Target]) -> BTreeSet<(&Reference, &Platform)> {
    let mut all = BTreeSet::new();
    for target in targets {
        if let Base::Registry(name) = &target.base {
            all.insert((name, &target.platform));
        }
    }
    all
}

/// What of a target asks something of its base and needs nothing from elsewhere. In the place of what does stands that something
/// is there.
pub(super) fn asking(target: &Target) -> Target {
    let mut target = Target { wheel: None, ..target.clone() };
    for input in target.layers.iter_mut().flat_map(|layer| &mut layer.inputs) {
        let directory = |path: &SafePath, replace: bool, owner: Owner, span: &Span| {
            let (path, span) = (path.clone(), span.clone());
            Input::Directory(Directory { path, mode: 0o755, owner, replace, span })
        };
        let environment = |environment: &Environment, owner, replace, span: &Span| {
            environment.venv.as_ref().map(|venv| directory(venv, replace, owner, span))
        };
        let instead = match input {
            Input::Python(python) => {
                environment(&python.environment, python.owner, python.replace, &python.span)
            }
            Input::Wheel(wheel) => environment(&wheel.environment, wheel.owner, wheel.replace, &wheel.span),
            Input::Archive(Archive { source: ArchiveSource::Remote(_), to, replace, span, .. })
                if !to.is_root() =>
            {
                Some(directory(to, *replace, Owner { uid: 0, gid: 0 }, span))
            }
            Input::Download(Download { path, mode, owner, replace, span, .. }) => Some(Input::File(File {
                path: path.clone(),
                content: String::new(),
                mode: *mode,
                owner: *owner,
                replace: *replace,
                span: span.clone(),
            })),
            _ => continue,
        };
        if let Some(instead) = instead {
            *input = instead;
        }
    }
    let remote =
        |input: &Input| matches!(input, Input::Archive(Archive { source: ArchiveSource::Remote(_), .. }));
    for layer in &mut target.layers {
        layer.inputs.retain(|input| !matches!(input, Input::Python(_) | Input::Wheel(_)) && !remote(input));
    }
    target
}
