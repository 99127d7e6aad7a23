//! From a Python lock file to the wheels of a target: files are read, pages asked for, wheels fetched.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dmoci_layers::Digest;

use super::parallel;
use super::python::{file_url, is_for};
use crate::diagnostic::{Failure, Place};
use crate::inputs::python::error::Kind;
use crate::inputs::python::lockfile::Form;
use crate::inputs::python::requirements::{self, Ask};
use crate::inputs::python::simple::{self, Link};
use crate::inputs::python::wheel::{Shelf, Wheel};
use crate::inputs::python::{
    BuiltWheel, Document, Location, Options, Own, OwnProject, PlannedWheel, PythonError, PythonPlan,
    PythonTarget, filename::WheelName, name::Name, pylock, pyproject::Pyproject, uv,
};
use crate::inputs::supply::{Purpose, WheelNeed};
use crate::inputs::{InputError, Site};
use crate::limits;
use crate::oci::platform::Platform;
use crate::spec::target;
use crate::url::Url;

/// How many wheels are opened, hashed and looked into, or installed, at the same time.
pub(super) const WHEELS_AT_ONCE: usize = 4;

/// A wheel, opened, and what is known of why it is there.
pub(super) struct Locked {
    pub(super) wheel: Wheel,
    pub(super) planned: PlannedWheel,
}

/// Who asks for wheels.
pub(super) struct Asker<'a> {
    /// The entry of the spec.
    pub(super) python: &'a target::Python,
    /// What the wheels must run on.
    pub(super) target: &'a PythonTarget,
    /// The platform of the image.
    pub(super) platform: &'a Platform,
    /// The layer.
    pub(super) layer: &'a str,
    /// Where the entry names its lock file.
    pub(super) place: &'a Place,
    /// The project's own wheel goes into the same environment by another entry.
    pub(super) given: bool,
}

/// What a `python` entry comes to.
pub(super) struct Found {
    /// No wheels when only pins are wanted.
    pub(super) wheels: Vec<Locked>,
    /// What is worth saying.
    pub(super) notes: Vec<String>,
    /// The extras that the lock file asks for.
    pub(super) extras: BTreeMap<Name, BTreeSet<Name>>,
    /// The project itself, when it is not among the wheels, and what is to be said of that.
    pub(super) left_out: Option<(Name, String)>,
}

/// The wheels that a `python` entry installs.
pub(super) fn wheels(site: &Site<'_>, asker: &Asker<'_>) -> Result<Found, Failure> {
    let plan = plan(site, asker)?;
    let (notes, extras, left_out) = (plan.notes, plan.extras, plan.left_out);
    let mut needs = Vec::new();
    for wheel in &plan.wheels {
        let url = match &wheel.location {
            Location::Url(url) => Some(url.clone()),
            Location::Path(_) | Location::Own => None,
        };
        if url.is_some() || wheel.stand_in {
            needs.push(WheelNeed {
                wheel: wheel.clone(),
                url,
                platform: asker.platform.clone(),
                layer: asker.layer.to_owned(),
                place: asker.place.clone(),
            });
        }
    }
    let mut fetched = site.supply.wheels(&needs)?.into_iter();
    let only_pins = site.supply.only_pins();
    let mut pieces = Vec::with_capacity(plan.wheels.len());
    for planned in plan.wheels {
        let file = match &planned.location {
            Location::Path(path) => {
                site.supply.reads(path);
                None
            }
            Location::Url(_) => match fetched.next().flatten() {
                Some(file) => Some(file),
                // It is pinned, and need not be looked into.
                None if only_pins => continue,
                None => return Err(lost(&planned)),
            },
            Location::Own => None,
        };
        pieces.push((planned, Mutex::new(file)));
    }
    let shelf = Shelf::of(site);
    let own = site.own.and_then(|own| own.wheel.as_ref());
    let wheels = parallel::run(&pieces, WHEELS_AT_ONCE, |(planned, file), _| {
        let file = file.lock().unwrap_or_else(PoisonError::into_inner).take();
        opened(shelf, own, planned, file)
    })?;
    let locked = pieces.into_iter().zip(wheels).map(|((planned, _), wheel)| Locked { wheel, planned });
    let mut wheels: Vec<Locked> = locked.collect();
    if only_pins {
        // Some lock files do not say for which Python they are; their wheels do.
        for Locked { wheel, planned } in wheels.drain(..) {
            is_for(&wheel, asker.target).map_err(|error| at(error.into(), planned.place.as_ref()))?;
        }
    }
    Ok(Found { wheels, notes, extras, left_out })
}

/// The wheel that is planned; `file` when it was fetched.
fn opened(
    shelf: Shelf<'_>,
    own: Option<&Wheel>,
    planned: &PlannedWheel,
    file: Option<File>,
) -> Result<Wheel, Failure> {
    match (&planned.location, file) {
        (Location::Path(path), _) => of_project(shelf, path, planned),
        (Location::Url(_), Some(file)) => {
            Ok(Wheel::read(file, PathBuf::from(planned.file.as_str()), planned.digest.clone())?)
        }
        (Location::Own, _) => own.cloned().ok_or_else(|| lost(planned)),
        (Location::Url(_), None) => Err(lost(planned)),
    }
}

/// The URL that `direct_url.json` names: nothing of the building machine stands in it.
pub(super) fn direct_url(location: &Location, file: &str) -> String {
    match location {
        Location::Own => file_url(&Own::place(file)),
        Location::Path(path) => file_url(path),
        // A query is there for who fetches, and may hold what is secret (PEP 610).
        Location::Url(url) => url.bare().split('?').next().unwrap_or_default().to_owned(),
    }
}

/// Every need was given something, or an error before.
fn lost(planned: &PlannedWheel) -> Failure {
    InputError::Missing(planned.file.as_str().into()).into()
}

/// A wheel of the project that a lock file names must be the one that was locked.
fn of_project(shelf: Shelf<'_>, path: &Path, planned: &PlannedWheel) -> Result<Wheel, Failure> {
    let wheel = Wheel::of_project(shelf, path).map_err(|error| at(error.into(), planned.place.as_ref()))?;
    if wheel.name.as_str() != planned.file.as_str() {
        let message = format!("{} is not {}, which the lock file says it is", path.display(), planned.file);
        return Err(at(PythonError::new(Kind::Lock, message).into(), planned.place.as_ref()));
    }
    let io = |source| InputError::Io { path: path.to_owned(), source };
    let mut file = shelf.open(path)?;
    let size = file.metadata().map_err(io)?.len();
    let found = match planned.digest.algorithm() == wheel.digest().algorithm() {
        true => wheel.digest().clone(),
        false => Digest::of_reader(planned.digest.algorithm(), &mut file).map_err(io)?.0,
    };
    let shown = path.display();
    let message = match planned.size.filter(|said| *said != size) {
        _ if found != planned.digest => {
            format!("{shown} is {found}, and the lock file says {}", planned.digest)
        }
        Some(said) => format!("{shown} has {size} bytes, and the lock file says {said}"),
        None => return Ok(wheel),
    };
    let error = PythonError::new(Kind::Changed, message)
        .with_help("look why it changed; when it is meant, lock again with the tool that made the lock file");
    Err(at(error.into(), planned.place.as_ref()))
}

fn at(mut failure: Failure, place: Option<&Place>) -> Failure {
    failure.places.extend(place.cloned());
    failure
}

fn plan(site: &Site<'_>, asker: &Asker<'_>) -> Result<PythonPlan, Failure> {
    let &Asker { python, target, given, .. } = asker;
    let path = python.lock.path.as_path();
    let form = Form::of(path)?;
    let document = match read(site, path)? {
        Some(document) => document,
        None => {
            let beside = |name: &str| matches!(read(site, &path.with_file_name(name)), Ok(Some(_)));
            return Err(form.missing(path, &beside).into());
        }
    };
    let options = Options {
        extras: names(&python.extras),
        groups: python.groups.as_deref().map(names),
        package: python.package.as_deref().and_then(Name::parse),
        built: built(site, python)?,
        own: site.own.map(|own| OwnProject {
            source: own.source.clone(),
            wheel: own
                .wheel
                .as_ref()
                .filter(|_| !given)
                .map(|wheel| (wheel.name.clone(), wheel.digest().clone())),
        }),
    };
    Ok(match form {
        Form::Pylock => pylock::plan(&document, target, &options)?,
        Form::Uv => uv::plan(&document, &mut |path| read(site, path), target, &options)?,
        Form::Requirements => of_requirements(site, asker, &document, &options)?,
    })
}

/// The spec has checked them.
fn names(texts: &[String]) -> BTreeSet<Name> {
    texts.iter().filter_map(|text| Name::parse(text)).collect()
}

/// Refuses a wheel of the project that stands beside the spec when it has not the version of its `pyproject.toml`, or needs
/// something else on the target.
pub(super) fn check_project(site: &Site<'_>, wheel: &Wheel, target: &PythonTarget) -> Result<(), Failure> {
    let Some(document) = read(site, Path::new("pyproject.toml"))? else { return Ok(()) };
    // A file that is malformed is the business of the tools that it is for.
    match Pyproject::read(&document) {
        Ok(Some(project)) => {
            let shown = wheel.path().display().to_string();
            project.check(&document, &wheel.name, &shown)?;
            Ok(project.check_needs(&document, (&wheel.name, &wheel.requires), target, &shown)?)
        }
        _ => Ok(()),
    }
}

/// Reads a text of the project; nothing when it is not there.
fn read(site: &Site<'_>, path: &Path) -> Result<Option<Document>, Failure> {
    let file = match site.project.open_file(path) {
        Ok(file) => file,
        Err(InputError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    site.supply.reads(path);
    let mut bytes = Vec::new();
    file.take(limits::PYTHON_LOCK_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| InputError::Io { path: path.to_owned(), source })?;
    let wrong = |why: String| PythonError::new(Kind::Lock, format!("{} {why}", path.display()));
    if bytes.len() as u64 > limits::PYTHON_LOCK_BYTES {
        return Err(wrong(format!("is larger than {} bytes", limits::PYTHON_LOCK_BYTES)).into());
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| wrong(format!("is not UTF-8 text: byte {}", error.utf8_error().valid_up_to())))?;
    Ok(Some(Document::new(path, text)))
}

/// Number of bytes of a wheel of the project.
fn size(site: &Site<'_>, path: &Path) -> Result<u64, InputError> {
    let metadata = site.project.open_wheel(path)?.metadata();
    Ok(metadata.map_err(|source| InputError::Io { path: path.to_owned(), source })?.len())
}

/// The wheels in the folder that stands in for what the lock file has no wheels of.
fn built(site: &Site<'_>, python: &target::Python) -> Result<Vec<BuiltWheel>, Failure> {
    let Some(folder) = &python.wheels else { return Ok(Vec::new()) };
    let mut built = Vec::new();
    for name in site.project.names_in(folder.path.as_path())? {
        let Ok(file) = WheelName::parse(&name) else { continue };
        let path = folder.path.as_path().join(&name);
        site.supply.reads(&path);
        let wheel = Wheel::of_project(Shelf::of(site), &path)?;
        let size = size(site, &path)?;
        built.push(BuiltWheel { path, file, digest: wheel.digest().clone(), size });
    }
    Ok(built)
}

fn of_requirements(
    site: &Site<'_>,
    asker: &Asker<'_>,
    document: &Document,
    options: &Options,
) -> Result<PythonPlan, Failure> {
    let &Asker { python, target, platform, layer, place, .. } = asker;
    let variables = |name: &str| site.supply.variable(name);
    let mut open = |path: &Path| -> Result<Document, Failure> {
        read(site, path)?.ok_or_else(|| InputError::Missing(path.to_owned()).into())
    };
    let mut requirements = requirements::read(document, &variables, &mut open)?;
    if let Some((main, extra)) = python.index.split_first() {
        requirements.indexes.main = Some(main.clone());
        requirements.indexes.extra = extra.to_vec();
        requirements.indexes.none = false;
    }
    let defaults = site.supply.indexes()?;
    // What pages and folders with links have, by their addresses: each serves many projects, and is read once.
    let mut known: BTreeMap<OsString, BTreeMap<Name, Vec<Link>>> = BTreeMap::new();
    let offers = requirements::Offers { defaults: &defaults, pinned: &site.supply.pinned(platform, layer) };
    requirements::plan(&requirements, offers, target, options, &mut |ask, what, at| {
        let what = format!("a wheel of {what}");
        let purpose = Purpose { platform: platform.clone(), what, places: vec![at.clone(), place.clone()] };
        // What is shown of an address has no query.
        let (key, name) = match ask {
            Ask::Project(..) | Ask::Links(Location::Own, _) => return links(site, ask, &purpose),
            Ask::Links(Location::Path(path), name) => (path.as_os_str().to_owned(), name),
            Ask::Links(Location::Url(url), name) => (url.bare().into(), name),
        };
        let all = match known.entry(key) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let mut all: BTreeMap<Name, Vec<Link>> = BTreeMap::new();
                for link in links(site, ask, &purpose)? {
                    if let Some(name) = simple::project(&link.filename) {
                        all.entry(name).or_default().push(link);
                    }
                }
                slot.insert(all)
            }
        };
        Ok(all.get(name).cloned().unwrap_or_default())
    })
}

/// What an index or a folder has.
fn links(site: &Site<'_>, ask: &Ask, purpose: &Purpose) -> Result<Vec<Link>, Failure> {
    let wrong =
        |url: &Url, why: String| Failure::from(PythonError::new(Kind::Index, format!("{url}: {why}")));
    let (url, project) = match ask {
        Ask::Links(Location::Path(folder), _) => return in_folder(site, folder),
        Ask::Links(Location::Url(url), _) => (url.clone(), None),
        // No file of requirements names it.
        Ask::Links(Location::Own, _) => return Ok(Vec::new()),
        Ask::Project(index, name) => {
            (simple::page(index, name).map_err(|error| wrong(index, error.to_string()))?, Some(name))
        }
    };
    let Some(page) = site.supply.page(&url, simple::ACCEPT, purpose)? else { return Ok(Vec::new()) };
    simple::parse(&page.url, &page.media_type, &page.bytes, project)
        .map_err(|error| wrong(&url, error.to_string()))
}

/// The wheels of a folder of the project.
fn in_folder(site: &Site<'_>, folder: &Path) -> Result<Vec<Link>, Failure> {
    let mut links = Vec::new();
    for filename in site.project.names_in(folder)? {
        if WheelName::parse(&filename).is_err() {
            continue;
        }
        let path = folder.join(&filename);
        site.supply.reads(&path);
        let wheel = Wheel::of_project(Shelf::of(site), &path)?;
        let (hashes, size) = (vec![wheel.digest().clone()], Some(size(site, &path)?));
        links.push(Link {
            filename,
            location: Location::Path(path),
            hashes,
            size,
            requires_python: wheel.requires_python.clone(),
        });
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_of_an_address_has_no_secret() {
        let url: Url = "https://joe:sesame@host.example/a-1.0-py3-none-any.whl?token=1".parse().unwrap();
        assert_eq!(
            direct_url(&Location::Url(url), "a-1.0-py3-none-any.whl"),
            "https://host.example/a-1.0-py3-none-any.whl"
        );
    }
}
