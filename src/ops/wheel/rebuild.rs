//! `dmoci verify --rebuild`: whether the source makes the same distribution.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dmoci_layers::zip::ZipTime;
use dmoci_layers::{Algorithm, Digest};

use super::elf;
use super::error::WheelError;
use super::tools::Python;
use super::{Request, made, scratch};
use crate::diagnostic::Failure;
use crate::engine::verify::{Rebuild, RebuildVerdict};
use crate::inputs::python::dist::{Contents, DistKind, Sdist, normalise, recognise};
use crate::inputs::python::filename::WheelName;
use crate::inputs::python::name::Name;
use crate::inputs::python::requirement::Requirement;
use crate::ops::lock::Network;
use crate::ops::plan::Watch;

/// How many files that differ are told.
const TOLD: usize = 20;

/// Projects whose backends call themselves otherwise in WHEEL.
const CALLED: [(&str, &str); 3] = [("flit", "flit-core"), ("uv", "uv-build"), ("bdist_wheel", "wheel")];

/// A distribution to compare.
struct Side {
    file: File,
    name: PathBuf,
    digest: Digest,
    contents: Contents,
}

/// Builds the distribution of this path again and compares. An error means that it cannot be built: nothing is decided then.
///
/// The time is that of the distribution, unless the request says another. Where the source has no lock file, the backend that WHEEL names is
/// asked for in its version.
pub fn rebuild(
    subject: &Path,
    request: &Request,
    network: &Network<'_>,
    watch: &dyn Watch,
) -> Result<Rebuild, Failure> {
    crate::sha256::provide();
    let failed = |source| WheelError::Output { path: request.scratch.clone(), source };
    let file = File::open(subject)
        .map_err(|source| crate::inputs::InputError::Io { path: subject.to_owned(), source })?;
    let kind = recognise(&file, subject)
        .map_err(|source| crate::inputs::InputError::Io { path: subject.to_owned(), source })?
        .ok_or_else(|| not_built(&subject.display()))?;
    let subject = side(kind, file, subject.to_owned())?;
    let scratch = scratch(request)?;
    if kind == DistKind::Wheel {
        runs(&subject.name, &request.python, scratch.path())?;
    }
    let request = Request {
        as_they_are: true,
        epoch: request.epoch.or(Some(subject.contents.time)),
        versions: match request.lock.exists() {
            true => Vec::new(),
            false => generator(&subject.contents),
        },
        ..request.clone()
    };
    let made = made(&request, network, None, watch, (scratch.path(), &[kind]))?;
    let Some((_, path)) = made.distributions.into_iter().next() else {
        return Err(failed(io::Error::other("nothing was made")).into());
    };
    let file = File::open(&path).map_err(failed)?;
    let again = side(kind, file, path)?;
    let same_name = subject.name.file_name() == again.name.file_name();
    if same_name && subject.digest == again.digest {
        return Ok(Rebuild { verdict: RebuildVerdict::Bytes, differences: Vec::new() });
    }
    let differences = differences(&subject.contents, &again.contents);
    let verdict = match differences.is_empty() && same_name {
        false => RebuildVerdict::Different,
        true if normal(kind, &subject)? == normal(kind, &again)? => RebuildVerdict::Normalised,
        true => RebuildVerdict::Record,
    };
    let mut told: Vec<String> = match same_name {
        true => Vec::new(),
        false => {
            vec![format!("the rebuild is called {}", again.name.file_name().unwrap_or_default().display())]
        }
    };
    told.extend(differences);
    Ok(Rebuild { verdict, differences: told })
}

/// Refuses a source that is no directory.
pub fn is_tree(source: &Path) -> Result<(), Failure> {
    match source.is_dir() {
        true => Ok(()),
        false => Err(WheelError::Directory(source.to_owned()).into()),
    }
}

/// The refusal of something that is no wheel and no source distribution.
pub fn not_built(subject: &impl std::fmt::Display) -> Failure {
    WheelError::Rebuild(subject.to_string()).into()
}

fn side(kind: DistKind, mut file: File, name: PathBuf) -> Result<Side, Failure> {
    let io = |source| crate::inputs::InputError::Io { path: name.clone(), source };
    let (digest, _) = Digest::of_reader(Algorithm::Sha256, &mut file).map_err(io)?;
    let contents = Contents::read(kind, &file, &name, &digest)?;
    Ok(Side { file, name, digest, contents })
}

/// Refuses a wheel for another Python or another machine: what the one at hand builds says nothing about it.
fn runs(wheel: &Path, python: &Path, scratch: &Path) -> Result<(), Failure> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy();
    // What a wheel is called has been looked at with the rest of it.
    let Ok(name) = WheelName::parse(&name) else { return Ok(()) };
    if name.tags.iter().any(|(_, abi, platform)| (abi, platform) == ("none", "any")) {
        return Ok(());
    }
    let python = Python::describe(python, scratch)?;
    match python.runs(&name.tags)? {
        true => Ok(()),
        false => Err(WheelError::Elsewhere { tags: name.tags.to_string(), python: python.shown() }.into()),
    }
}

/// The digest of the normal form, at a time that does not matter.
fn normal(kind: DistKind, side: &Side) -> Result<Digest, Failure> {
    let io = |source| crate::inputs::InputError::Io { path: side.name.clone(), source };
    let file = side.file.try_clone().map_err(io)?;
    let bytes = match kind {
        DistKind::Wheel => normalise(file, &side.name, side.digest.clone(), ZipTime::of(0), Vec::new())?,
        DistKind::Sdist => Sdist::read(file, &side.name)?.normal(&side.name, 0)?,
    };
    Ok(Digest::sha256(&bytes))
}

/// The requirement that asks for the backend that WHEEL names.
fn generator(contents: &Contents) -> Vec<String> {
    let Some((name, version)) = &contents.generator else { return Vec::new() };
    let called = CALLED.iter().find(|(other, _)| other == name).map_or(name.as_str(), |(_, project)| project);
    let wanted = format!("{called}=={version}");
    Requirement::parse(&wanted).is_ok().then_some(wanted).into_iter().collect()
}

/// Whether a requirement is about the project of another one.
pub(super) fn same_project(requirement: &str, other: &str) -> bool {
    let name = |text: &str| Requirement::parse(text).ok().map(|requirement| requirement.name);
    let found: Option<Name> = name(requirement);
    found.is_some() && found == name(other)
}

/// The files that differ, and where.
fn differences(left: &Contents, right: &Contents) -> Vec<String> {
    let names: BTreeSet<&String> = left.files.keys().chain(right.files.keys()).collect();
    let mut told = Vec::new();
    let mut more = 0usize;
    for name in names {
        let line = match (left.files.get(name), right.files.get(name)) {
            (Some(left), Some(right)) if left == right => continue,
            (Some(left), Some(right)) => {
                let at = left.iter().zip(right).take_while(|(a, b)| a == b).count();
                let what = elf::differences(left, right).unwrap_or_else(|| format!("from byte {at} on"));
                format!("{name}: differs {what} ({} and {} bytes)", left.len(), right.len())
            }
            (Some(_), None) => format!("{name}: is not in the rebuild"),
            _ => format!("{name}: is only in the rebuild"),
        };
        match told.len() < TOLD {
            true => told.push(line),
            false => more += 1,
        }
    }
    if more > 0 {
        told.push(format!("{more} more files differ"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_by_their_names() {
        assert!(same_project("flit_core >=3.2", "flit-core==3.12.0"));
        assert!(!same_project("setuptools", "wheel==1"));
    }
}
