//! Pins of what build backends need: of the platform that builds, whatever images are for.

use std::collections::BTreeMap;
use std::path::Path;

use super::Mode;
use super::settle::Settled;
use super::write::write;
use crate::diagnostic::Failure;
use crate::lock::{self, Kind, Pin, Pins};
use crate::oci::platform::Platform;
use crate::ops::plan::Watch;

/// The build requirements that a lock file pins.
pub(in crate::ops) struct BuildPins {
    settled: Settled,
    platform: Platform,
}

impl BuildPins {
    /// Reads those for a platform. Entries that were edited by hand are refused, unless they are to be made anew.
    pub(in crate::ops) fn load(file: &Path, platform: &Platform, renew: bool) -> Result<BuildPins, Failure> {
        let written = lock::load(file)?;
        if let Some(written) = &written {
            written.check(|on, kind, _| renew && kind == Kind::Build && on == platform)?;
        }
        let settled = Settled::unchanged(file.to_owned(), written, Mode::Use);
        Ok(BuildPins { settled, platform: platform.clone() })
    }

    /// The pins, by their addresses.
    pub(in crate::ops) fn pins(&self) -> Vec<Pin> {
        let pins = self.settled.old().platforms.get(&self.platform);
        let build = pins.into_iter().flatten().filter(|((kind, _), _)| *kind == Kind::Build);
        build.map(|(_, pin)| pin.clone()).collect()
    }

    /// These, by what finds them in a lock file.
    pub(in crate::ops) fn keyed(pins: &[Pin]) -> Pins {
        pins.iter().map(|pin| ((Kind::Build, pin.key()), pin.clone())).collect()
    }

    /// Puts these in their place, and says what changed.
    pub(in crate::ops) fn save(&self, pins: &[Pin], watch: &dyn Watch) -> Result<(), Failure> {
        let build = (self.platform.clone(), BuildPins::keyed(pins));
        let renewed = self.settled.with(BTreeMap::new(), Some(build));
        write(&self.settled, &renewed, watch)
    }
}
