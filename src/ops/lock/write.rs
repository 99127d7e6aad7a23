//! Writing the lock file, and saying what changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::error::PinError;
use super::settle::{Renewed, Settled};
use super::{Change, Kind};
use crate::diagnostic::Failure;
use crate::files;
use crate::lock::{self, Authenticated, Lock, LockError, Pin, Written};
use crate::ops::plan::Watch;

/// Says what changed, and writes the file when something did. What another run added meanwhile stays.
pub(in crate::ops) fn write(settled: &Settled, renewed: &Renewed, watch: &dyn Watch) -> Result<(), Failure> {
    if renewed.changes.is_empty() {
        return Ok(());
    }
    let path = settled.file.as_path();
    let failed = |source| LockError::Write { path: path.to_owned(), source };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // One run at a time writes lock files of this directory.
    let held = File::open(directory).map_err(failed)?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed(error.into()))?;
    let now = lock::load(path)?;
    let then = settled.written.as_ref().map(Written::text);
    let lock = match now {
        Some(now) if Some(now.text()) != then => united(path, &renewed.lock, &now.lock)?,
        _ => renewed.lock.clone(),
    };
    replace(directory, path, lock.text().as_bytes()).map_err(failed)?;
    say(&renewed.changes, watch);
    Ok(())
}

/// Both, when they agree.
fn united(path: &Path, ours: &Lock, theirs: &Lock) -> Result<Lock, PinError> {
    let mut lock = ours.clone();
    for (platform, pins) in &theirs.platforms {
        let own = lock.platforms.entry(platform.clone()).or_default();
        for (key, pin) in pins {
            let first = own.entry(key.clone()).or_insert_with(|| pin.clone());
            if first.digest != pin.digest {
                return Err(PinError::Race { file: path.to_owned(), what: pin.key() });
            }
            if let (Some(base), Some(theirs)) = (&mut first.base, &pin.base) {
                base.facts.extend(theirs.facts.iter().cloned());
            }
        }
    }
    Ok(lock)
}

/// Temporary file, fsync, rename, fsync of the directory. The temporary file has one name, so that a killed run leaves one
/// at most, and the next takes it away.
fn replace(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = directory.join(name);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })?;
    files::sync(directory)
}

/// Who has signed it now, and before, where that is not the same.
fn signers(old: &Pin, new: &Pin) -> Option<String> {
    match (old.signed_by(), new.signed_by()) {
        (old, new) if old == new => None,
        (None, Some(new)) => Some(format!("now signed by {new}")),
        (Some(old), Some(new)) => Some(format!("now signed by {new}, before by {old}")),
        (Some(old), None) => Some(format!("no longer held to be signed by {old}")),
        (None, None) => None,
    }
}

/// One line for each file, whatever platforms it is for.
fn say(changes: &[Change], watch: &dyn Watch) {
    let mut lines: BTreeMap<(&str, Kind, String), Vec<String>> = BTreeMap::new();
    let mut first_use = std::collections::BTreeSet::new();
    for change in changes {
        let (verb, pin, message) = match (&change.old, &change.new) {
            (Some(_), Some(new)) if change.is_noted() => {
                ("Noted", new, "what the image asks of it".to_owned())
            }
            (Some(old), Some(new)) if old.digest == new.digest => (
                "Locked",
                new,
                signers(old, new).unwrap_or_else(|| format!("now by {}", new.authenticated.name())),
            ),
            (Some(old), Some(new)) => {
                let signers = signers(old, new).map(|text| format!(", {text}")).unwrap_or_default();
                ("Updated", new, format!("{} → {}{signers}", old.digest, new.digest))
            }
            (None, Some(new)) => {
                let by = new.signed_by().map(|signer| format!("signed by {signer}"));
                let by = by.unwrap_or_else(|| new.authenticated.name().to_owned());
                ("Added", new, format!("{} ({by})", new.digest))
            }
            (Some(old), None) => ("Removed", old, old.digest.to_string()),
            (None, None) => continue,
        };
        let name = pin.wheel.as_ref().map_or_else(|| pin.key(), |wheel| wheel.file.clone());
        let line = format!("{} {name}: {message}", change.kind.name());
        lines.entry((verb, change.kind, line)).or_default().push(change.platform.to_string());
        let first = |new: &Pin| new.authenticated == Authenticated::FirstUse;
        if change.new.as_ref().is_some_and(first) && !change.is_noted() {
            first_use.insert((pin.wheel.is_none() || pin.url.is_some(), pin.key()));
        }
    }
    let mut wheels: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for ((verb, kind, line), platforms) in lines {
        let platforms = platforms.join(", ");
        match kind {
            Kind::Wheel => wheels.entry((verb, platforms)).or_default().push(line),
            Kind::Base | Kind::Archive | Kind::Download | Kind::Build => {
                watch.status(verb, &format!("{line} for {platforms}"))
            }
        }
    }
    for ((verb, platforms), lines) in wheels {
        // Python projects need many, and somebody else's lock file lists them already.
        let few = lines.len() <= 3;
        if !few {
            watch.status(verb, &format!("{} wheels for {platforms}", lines.len()));
        }
        for line in lines {
            match few {
                true => watch.status(verb, &format!("{line} for {platforms}")),
                false => watch.detail(verb, &line),
            }
        }
    }
    for (remote, key) in first_use {
        watch.warning(&match remote {
            true => format!(
                "nothing but dmoci.lock says what {key} must give: compare its sha256 with what its makers say"
            ),
            false => format!(
                "nothing but dmoci.lock says what {key} must be, which stands in for a project without such a wheel: \
                 know who built it"
            ),
        });
    }
}
