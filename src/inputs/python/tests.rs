//! Whole lock files: one project locked by uv and pip, and what is wrong in others.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::shown;
use super::name::Name;
use super::plan::{BuiltWheel, Location, Options, PythonPlan};
use super::requirements::{self, Ask, Indexes};
use super::simple::Link;
use super::target::{PythonTarget, sample};
use super::{Document, PythonError, filename::WheelName, pylock, uv};
use crate::diagnostic::Failure;

const UV: &str = include_str!("../../../fixtures/python/app/uv.lock");
const PYLOCK: &str = include_str!("../../../fixtures/python/app/pylock.toml");
const PIP: &str = include_str!("../../../fixtures/python/app/pylock.pip.toml");
const REQUIREMENTS: &str = include_str!("../../../fixtures/python/app/requirements.txt");

pub(super) fn document(file: &str, text: &str) -> Document {
    Document::new(Path::new(file), text)
}

/// There is nothing beside the lock file.
pub(super) fn alone(_: &Path) -> Result<Option<Document>, PythonError> {
    Ok(None)
}

pub(super) fn names(text: &str) -> std::collections::BTreeSet<Name> {
    text.split(' ').filter(|name| !name.is_empty()).map(|name| Name::parse(name).unwrap()).collect()
}

pub(super) fn files(plan: &PythonPlan) -> Vec<String> {
    let mut files: Vec<String> = plan.wheels.iter().map(|wheel| wheel.file.to_string()).collect();
    files.sort();
    files
}

pub(super) fn debian() -> PythonTarget {
    sample("3.11.2", "glibc-2.36", "linux/amd64")
}

pub(super) fn built(path: &str) -> BuiltWheel {
    let file = WheelName::parse(path.rsplit('/').next().unwrap()).unwrap();
    let digest = dmoci_layers::Digest::sha256(path.as_bytes());
    BuiltWheel { path: path.into(), file, digest, size: 10 }
}

/// The rows of the table that `fixtures/python/reference.py` wrote with the `packaging` library.
fn table() -> Vec<(PythonTarget, Option<Vec<&'static str>>)> {
    let table = include_str!("../../../fixtures/python/app/plans.txt");
    let row = |line: &'static str| {
        let mut parts = line.split(' ');
        let [version, libc, platform] = std::array::from_fn(|_| parts.next().unwrap());
        let files: Vec<&str> = parts.collect();
        (sample(version, libc, platform), (files != ["-"]).then_some(files))
    };
    table.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

fn check(what: &str, plan: impl Fn(&PythonTarget) -> Result<PythonPlan, Failure>) {
    let mut found = 0;
    for (target, expected) in table() {
        match (plan(&target), expected) {
            (Ok(plan), Some(expected)) => {
                assert_eq!(files(&plan), expected, "{what}: {target}");
                found += 1;
            }
            (Err(failure), None) => {
                assert!(matches!(failure.code, "E-PYTHON-WHEEL" | "E-PYTHON-SOURCE"), "{}", shown(failure));
            }
            (found, expected) => panic!("{what}: {target}: {found:?}, expected {expected:?}"),
        }
    }
    assert!(found >= 8, "{found}");
}

#[test]
fn every_lock_file_gives_what_packaging_selects() {
    check("pylock.toml", |target| {
        pylock::plan(&document("pylock.toml", PYLOCK), target, &Options::default()).map_err(Into::into)
    });
    let options = Options { extras: names("cli np"), ..Options::default() };
    check("uv.lock", |target| {
        uv::plan(&document("uv.lock", UV), &mut alone, target, &options).map_err(Into::into)
    });
    let index = index_of(PYLOCK);
    check("requirements.txt", |target| {
        let read =
            requirements::read(&document("requirements.txt", REQUIREMENTS), &|_| None, &mut |_| panic!());
        let mut indexes =
            Indexes { main: Some("https://index.example/simple".parse().unwrap()), ..Indexes::default() };
        indexes.extra.push("https://other.example/simple/".parse().unwrap());
        let offers = requirements::Offers { defaults: &indexes, pinned: &[] };
        requirements::plan(&read?, offers, target, &Options::default(), &mut |ask, _, _| match ask {
            Ask::Project(url, name) if url.host() == "index.example" => Ok(index[name.as_str()].clone()),
            _ => Ok(Vec::new()),
        })
    });
}

/// What an index has that a `pylock.toml` was made from.
fn index_of(lock: &str) -> BTreeMap<String, Vec<Link>> {
    let lock: toml::Table = lock.parse().unwrap();
    let link = |file: &toml::Value| {
        let url: crate::url::Url = file["url"].as_str().unwrap().parse().unwrap();
        Link {
            filename: url.file_name().to_owned(),
            hashes: vec![format!("sha256:{}", file["hashes"]["sha256"].as_str().unwrap()).parse().unwrap()],
            size: None,
            requires_python: None,
            location: Location::Url(url),
        }
    };
    let mut index: BTreeMap<String, Vec<Link>> = BTreeMap::new();
    for package in lock["packages"].as_array().unwrap() {
        let links = index.entry(package["name"].as_str().unwrap().to_owned()).or_default();
        links.extend(package.get("sdist").map(link));
        links.extend(package.get("wheels").into_iter().flat_map(|w| w.as_array().unwrap()).map(link));
    }
    index
}

#[test]
fn what_pip_locks() {
    let plan = pylock::plan(&document("pylock.toml", PIP), &debian(), &Options::default()).unwrap();
    assert_eq!(plan.wheels.len(), 11);
    assert!(plan.wheels.iter().all(|wheel| wheel.requested && wheel.size.is_none()));
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn all_that_is_known_of_a_wheel() {
    let options = Options { groups: Some(names("")), ..Options::default() };
    let plan = uv::plan(&document("uv.lock", UV), &mut alone, &debian(), &options).unwrap();
    let rich = plan.wheels.iter().find(|wheel| wheel.name().as_str() == "rich").unwrap();
    assert_eq!(rich.version().to_string(), "15.0.0");
    assert!(rich.size.is_some_and(|size| size > 100_000) && rich.requested);
    assert!(rich.location.to_string().starts_with("https://files.example/packages/"));
    let place = rich.place.as_ref().unwrap();
    assert!(place.text[place.span.clone()].starts_with("{ url = \"https://files.example/packages/"));
    // Only what the project itself asks for is requested.
    let requested: Vec<&str> =
        plan.wheels.iter().filter(|wheel| wheel.requested).map(|wheel| wheel.name().as_str()).collect();
    assert_eq!(requested, ["httpx", "rich", "uvloop"]);
    assert!(!files(&plan).iter().any(|file| file.starts_with("pytest")));
}

fn hostile(text: &str) -> Result<PythonPlan, PythonError> {
    let target = debian();
    let options = Options::default();
    // What the text is, it says itself; each reader has to survive both.
    let document = document("hostile.lock", text);
    pylock::plan(&document, &target, &options).and(uv::plan(&document, &mut alone, &target, &options))
}

#[test]
fn every_cut_and_every_changed_byte_is_survived() {
    for text in [&PIP[..3000], &UV[..5000]] {
        for end in (0..text.len()).step_by(13).filter(|end| text.is_char_boundary(*end)) {
            let _ = hostile(&text[..end]);
        }
        for at in (0..text.len()).step_by(29).filter(|at| text.is_char_boundary(*at)) {
            for c in ['"', '[', '=', '\0', 'é', '9', '\n'] {
                let mut changed = text.to_owned();
                changed.insert(at, c);
                let _ = hostile(&changed);
            }
        }
    }
}
