//! Hashed requirements files, as `pip-compile --generate-hashes` and `uv pip compile --universal --generate-hashes` write
//! them: every requirement is pinned and says what its bytes may have. Indexes say where these are.

mod line;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Kind, PythonError};
use super::filename::WheelName;
use super::name::Name;
use super::plan::{
    Asked, BuiltWheel, Candidate, Location, Options, PlannedWheel, PythonPlan, Trouble, built, finish,
    gathered, no_wheel, other_python, own, own_source, undecided,
};
use super::simple::{Link, SOURCES};
use super::source::{Unbuilt, from_sdist};
use super::target::PythonTarget;
use super::version::{self, Version, VersionSpecifiers, contains};
use crate::diagnostic::{Failure, Place};
use crate::url::Url;
use read::{Entry, What};
pub use read::{Indexes, Requirements, read};

/// Where links to the wheels of a project are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The page of a project in an index; see [`super::simple::page`].
    Project(Url, Name),
    /// A page or a folder with links, of which those to files of a project are wanted.
    Links(Location, Name),
}

/// Where wheels are beside what the file says.
#[derive(Clone, Copy, Debug)]
pub struct Offers<'a> {
    /// The indexes of the machine, for a file that names none.
    pub defaults: &'a Indexes,
    /// Wheels that are pinned: of those that have a locked hash and run on the target the best is taken, and no index is asked.
    pub pinned: &'a [Link],
}

/// Answers with what an index or a folder has, which is asked for the sake of this project, named at this place; an index
/// that does not know a project has nothing.
type Links<'a> = &'a mut dyn FnMut(&Ask, &str, &Place) -> Result<Vec<Link>, Failure>;

/// The wheels that a target needs.
pub fn plan(
    requirements: &Requirements,
    offers: Offers<'_>,
    target: &PythonTarget,
    options: &Options,
    links: Links<'_>,
) -> Result<PythonPlan, Failure> {
    let planned = wheels(requirements, offers, target, options, links);
    planned.map_err(|failure| failure.hiding(&requirements.secrets))
}

fn wheels(
    requirements: &Requirements,
    offers: Offers<'_>,
    target: &PythonTarget,
    options: &Options,
    links: Links<'_>,
) -> Result<PythonPlan, Failure> {
    let asked = Asked::new(target, options);
    no_choice(options)?;
    let mut needed: BTreeMap<Name, &Entry> = BTreeMap::new();
    let mut extras: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    let mut owns: Vec<PlannedWheel> = Vec::new();
    for entry in &requirements.entries {
        if !applies(&asked, entry)? {
            continue;
        }
        if let Some(own) = of_own(&asked, entry)? {
            owns.extend(own.filter(|_| owns.is_empty()));
            continue;
        }
        let Some(name) = entry.name() else {
            return Err(unnamed(entry).into());
        };
        if let Some(requirement) = entry.requirement().filter(|one| !one.extras.is_empty()) {
            extras.entry(name.clone()).or_default().extend(requirement.extras.iter().cloned());
        }
        if let Some(first) = needed.insert(name.clone(), entry)
            && !same(first, entry)
        {
            let message = format!("{name} is required twice, and not the same");
            return Err(PythonError::new(Kind::Lock, message)
                .at(entry.place.clone())
                .at(first.place.clone())
                .with_help("make the file again with the tool that made it")
                .into());
        }
    }
    for constraint in &requirements.constraints {
        check_constraint(&asked, constraint, &needed)?;
    }
    for (word, place) in &requirements.no_binary {
        let name = Name::parse(word);
        if word == ":all:" || name.is_some_and(|name| needed.contains_key(&name)) {
            let message = format!("--no-binary {word} asks to build from sources, which dmoci does not");
            return Err(PythonError::new(Kind::Source, message)
                .at(place.clone())
                .with_help("leave the option out")
                .into());
        }
    }
    let indexes = merged(&requirements.indexes, offers.defaults);
    let pinned = with_logins(offers.pinned, &indexes);
    let mut all = Vec::new();
    for (name, entry) in &needed {
        let found = wheel(&asked, name, entry, (&pinned, &indexes), links);
        let lost = matches!(found, Err(Trouble::Other(_)));
        all.push(found);
        // Without an index nothing more can be told.
        if lost {
            break;
        }
    }
    if let Some((own, entry)) = owns.first().and_then(|own| Some((own, needed.get(own.name())?))) {
        let message = format!("{} is required twice, and not the same", own.name());
        let error = PythonError::new(Kind::Lock, message).at(entry.place.clone());
        return Err(error.with_help("leave one of the lines out").into());
    }
    let mut wheels = gathered(&asked, all.into_iter())?;
    wheels.extend(owns);
    Ok(PythonPlan { extras, ..finish(&asked, wheels, requirements.notes.clone()) })
}

/// What stands for a line that names the directory of the project which this run builds: its wheel, or nothing when that comes from
/// elsewhere. `None` of every other line.
fn of_own(asked: &Asked<'_>, entry: &Entry) -> Result<Option<Option<PlannedWheel>>, PythonError> {
    let (What::Unbuilt(Unbuilt::Directory(path), named), Some(project)) = (&entry.what, &asked.options.own)
    else {
        return Ok(None);
    };
    let built = project.wheel.as_ref().map(|(file, _)| &file.name);
    match named.as_ref().map(|requirement| &requirement.name).or(built) {
        Some(name) => own(asked, path, (name, None), true, &entry.place),
        None => Ok(own_source(asked, path, &entry.place).then_some(None)),
    }
}

/// A requirements file has neither extras nor groups to choose.
fn no_choice(options: &Options) -> Result<(), PythonError> {
    let key = match options {
        Options { extras, .. } if !extras.is_empty() => "extras",
        Options { groups: Some(groups), .. } if !groups.is_empty() => "groups",
        Options { package: Some(_), .. } => "package",
        _ => return Ok(()),
    };
    Err(PythonError::new(Kind::Unknown, format!("`{key}` means nothing for a requirements file"))
        .with_help(format!("leave `{key}` out; what is installed is what the file lists")))
}

fn applies(asked: &Asked<'_>, entry: &Entry) -> Result<bool, PythonError> {
    let Some(requirement) = entry.requirement() else { return Ok(true) };
    let Some(marker) = &requirement.marker else { return Ok(true) };
    marker.holds(&asked.environment).map_err(|error| {
        undecided(&error, &format!("whether {} is needed", requirement.name), entry.place.clone())
    })
}

fn same(a: &Entry, b: &Entry) -> bool {
    let version = |entry: &Entry| entry.requirement().and_then(|r| r.pinned()).cloned();
    let mut hashes = [a.hashes.clone(), b.hashes.clone()];
    hashes.iter_mut().for_each(|hashes| hashes.sort());
    match (&a.what, &b.what) {
        (What::Index(_), What::Index(_)) => version(a) == version(b) && hashes[0] == hashes[1],
        (What::Wheel { location: a, .. }, What::Wheel { location: b, .. }) => {
            a == b && hashes[0] == hashes[1]
        }
        _ => false,
    }
}

fn check_constraint(
    asked: &Asked<'_>,
    constraint: &Entry,
    needed: &BTreeMap<Name, &Entry>,
) -> Result<(), PythonError> {
    let Some(entry) = constraint.name().and_then(|name| needed.get(name)) else { return Ok(()) };
    if !applies(asked, constraint)? {
        return Ok(());
    }
    let found = match &entry.what {
        What::Index(requirement) => requirement.pinned(),
        What::Wheel { file, .. } => Some(&file.version),
        What::Unbuilt(..) => None,
    };
    let (What::Index(constraint_of), Some(found)) = (&constraint.what, found) else { return Ok(()) };
    let super::requirement::Source::Index(specifiers) = &constraint_of.source else { return Ok(()) };
    match contains(specifiers, found) {
        true => Ok(()),
        false => {
            let message =
                format!("{} {found} is not what the constraint {specifiers} allows", constraint_of.name);
            Err(PythonError::new(Kind::Lock, message).at(entry.place.clone()).at(constraint.place.clone()))
        }
    }
}

/// The file's own places, and the machine's index when it names none.
fn merged(own: &Indexes, defaults: &Indexes) -> Indexes {
    let mut merged = own.clone();
    if !own.none && own.main.is_none() {
        merged.main = defaults.main.clone();
        merged.extra.extend(defaults.extra.iter().filter(|url| !own.extra.contains(url)).cloned());
        merged.find_links.extend(defaults.find_links.iter().cloned());
    }
    merged
}

/// Pinned wheels with the user and password of the index that has their origin: these are in no lock file.
fn with_logins(pinned: &[Link], indexes: &Indexes) -> Vec<Link> {
    let places = indexes.find_links.iter().filter_map(|place| match place {
        Location::Url(url) => Some(url),
        Location::Path(_) | Location::Own => None,
    });
    let known: Vec<&Url> = indexes
        .main
        .iter()
        .chain(&indexes.extra)
        .chain(places)
        .filter(|url| url.credentials().is_some())
        .collect();
    let mut pinned = pinned.to_vec();
    for link in &mut pinned {
        if let Location::Url(url) = &mut link.location
            && let Some(index) = known.iter().find(|index| index.same_origin(url))
            && let Ok(joined) = index.join(&url.bare())
        {
            *url = joined;
        }
    }
    pinned
}

fn unnamed(entry: &Entry) -> PythonError {
    let what = match &entry.what {
        What::Unbuilt(Unbuilt::Directory(path), _) => format!("uv build --wheel --out-dir wheels {path}"),
        _ => "pip wheel --no-deps --wheel-dir wheels …".to_owned(),
    };
    let instead = match &entry.what {
        What::Unbuilt(Unbuilt::Directory(_), _) => {
            "; of the project itself have `[wheel]` in dmoci.toml build it, or leave the line out, as `uv export --no-emit-project` \
             does, and name its wheel with `wheel`"
        }
        _ => "",
    };
    PythonError::new(Kind::Source, "this is no wheel, and dmoci builds none")
        .at(entry.place.clone())
        .with_help(format!("make one with `{what}`, and write its path and hash here instead{instead}"))
}

/// The error for what is not pinned or not hashed, with the command that does both.
fn not_hashed(message: String, entry: &Entry) -> PythonError {
    let file = entry.place.file.display().to_string();
    let stem = file.strip_suffix(".txt").unwrap_or(&file);
    PythonError::new(Kind::Hash, message).at(entry.place.clone()).with_help(format!(
        "name what you need in {stem}.in, and make the file with `uv pip compile --universal --generate-hashes {stem}.in -o {file}` \
         or `pip-compile --generate-hashes {stem}.in`"
    ))
}

fn wheel(
    asked: &Asked<'_>,
    name: &Name,
    entry: &Entry,
    (pinned, indexes): (&[Link], &Indexes),
    links: Links<'_>,
) -> Result<PlannedWheel, Trouble<Failure>> {
    let place = || entry.place.clone();
    match &entry.what {
        What::Unbuilt(unbuilt, _) => match built(asked, name, None) {
            Some(wheel) if matches!(unbuilt, Unbuilt::Directory(_)) => Ok(wheel.planned(true, Some(place()))),
            Some(wheel) => Ok(wheel.stand_in(true, Some(place()))),
            None => Err(unbuilt.error(asked, name, None, place()).into()),
        },
        What::Wheel { file, location, hash, .. } => {
            let digest = match (entry.hashes.as_slice(), hash) {
                ([digest], _) | ([], Some(digest)) => digest.clone(),
                ([], None) => return Err(not_hashed(format!("{file} has no hash"), entry).into()),
                _ => {
                    return Err(
                        not_hashed(format!("{file} has several hashes, but is one file"), entry).into()
                    );
                }
            };
            if asked.tags.rank(&file.tags).is_none() {
                return Err(
                    no_wheel(asked, &format!("{name} {}", file.version), &[file], None, place()).into()
                );
            }
            Ok(PlannedWheel {
                file: file.clone(),
                digest,
                size: None,
                location: location.clone(),
                requested: true,
                direct: true,
                stand_in: false,
                place: Some(place()),
            })
        }
        What::Index(requirement) => {
            let Some(version) = requirement.pinned() else {
                return Err(not_hashed(format!("{name} is not pinned with =="), entry).into());
            };
            if entry.hashes.is_empty() {
                return Err(not_hashed(format!("{name} {version} has no sha256 hash"), entry).into());
            }
            let built = built(asked, name, Some(version));
            if let Some(wheel) = built.filter(|wheel| entry.hashes.contains(&wheel.digest)) {
                return Ok(wheel.planned(true, Some(place())));
            }
            let mut candidates = Candidates::of((name, version), entry);
            pinned.iter().for_each(|link| candidates.add(link.clone(), asked));
            let built = built.filter(|wheel| stands_in(pinned, wheel));
            match (asked.best(&candidates.wheels), built) {
                (Some(found), _) => Ok(found.planned(true, place())),
                (None, Some(wheel)) => Ok(wheel.stand_in(true, Some(place()))),
                (None, None) => from_index(asked, name, version, entry, indexes, links),
            }
        }
    }
}

/// Whether a wheel of that name stood in when the others were pinned. Whether it is the same is judged by who pins.
fn stands_in(pinned: &[Link], wheel: &BuiltWheel) -> bool {
    let is =
        |link: &Link| matches!(&link.location, Location::Path(_)) && link.filename == wheel.file.as_str();
    pinned.iter().any(is)
}

/// What is offered of a pinned version.
struct Candidates<'a> {
    name: &'a Name,
    version: &'a Version,
    entry: &'a Entry,
    /// With a hash that is locked.
    wheels: Vec<Candidate>,
    /// Which Python those ask for that have a locked hash and are for another one.
    elsewhere: Option<VersionSpecifiers>,
    /// Wheels without.
    others: Vec<WheelName>,
    /// How many of these have no hash at all.
    without_hash: usize,
    /// How many are archives of sources.
    sources: usize,
}

impl<'a> Candidates<'a> {
    fn of((name, version): (&'a Name, &'a Version), entry: &'a Entry) -> Candidates<'a> {
        let (wheels, others) = (Vec::new(), Vec::new());
        Candidates { name, version, entry, wheels, elsewhere: None, others, without_hash: 0, sources: 0 }
    }

    fn add(&mut self, link: Link, asked: &Asked<'_>) {
        let Ok(file) = WheelName::parse(&link.filename) else {
            self.sources += usize::from(is_sdist(&link.filename, self.name, self.version));
            return;
        };
        if file.name != *self.name || !same_version(&file.version, self.version) {
            return;
        }
        let Some(digest) = link.hashes.iter().find(|digest| self.entry.hashes.contains(digest)) else {
            self.without_hash += usize::from(link.hashes.is_empty());
            self.others.push(file);
            return;
        };
        if let Some(wanted) = link.requires_python.filter(|wanted| !contains(wanted, &asked.target.version()))
        {
            self.elsewhere = Some(wanted);
            return;
        }
        let candidate = Candidate {
            file,
            digest: digest.clone(),
            size: link.size,
            location: link.location,
            direct: false,
            span: self.entry.place.span.clone(),
        };
        // The same file of two places is taken from the first.
        if !self.wheels.iter().any(|other| other.digest == candidate.digest) {
            self.wheels.push(candidate);
        }
    }
}

/// Finds a pinned version by its hashes.
fn from_index(
    asked: &Asked<'_>,
    name: &Name,
    version: &Version,
    entry: &Entry,
    indexes: &Indexes,
    links: Links<'_>,
) -> Result<PlannedWheel, Trouble<Failure>> {
    let what = format!("{name} {version}");
    let page = |place: &Location| Ask::Links(place.clone(), name.clone());
    let mut asks: Vec<Ask> = indexes.find_links.iter().map(page).collect();
    asks.extend(indexes.main.iter().chain(&indexes.extra).map(|url| Ask::Project(url.clone(), name.clone())));
    if asks.is_empty() {
        return Err(PythonError::new(Kind::IndexMissing, format!("no index is named to get {what} from"))
            .at(entry.place.clone())
            .with_help(
                "name one: `index = \"https://HOST/simple\"` beside `lock` in dmoci.toml, `--index-url https://HOST/simple` in the file, \
                 or the variable PIP_INDEX_URL or UV_DEFAULT_INDEX; the settings of uv and of pip are read too",
            )
            .into());
    }
    let mut candidates = Candidates::of((name, version), entry);
    for ask in &asks {
        links(ask, &what, &entry.place)
            .map_err(Trouble::Other)?
            .into_iter()
            .for_each(|link| candidates.add(link, asked));
    }
    let Candidates { wheels, elsewhere, others, without_hash, sources, .. } = candidates;
    if let Some(found) = asked.best(&wheels) {
        return Ok(found.planned(true, entry.place.clone()));
    }
    if let Some(wheel) = built(asked, name, Some(version)) {
        return Ok(wheel.stand_in(true, Some(entry.place.clone())));
    }
    if let (Some(wanted), true) = (&elsewhere, wheels.is_empty()) {
        return Err(other_python(&what, wanted, asked.target).at(entry.place.clone()).into());
    }
    let fitting: Vec<&WheelName> =
        others.iter().filter(|file| asked.tags.rank(&file.tags).is_some()).collect();
    let place = entry.place.clone();
    if let Some(first) = fitting.first() {
        let error = match without_hash {
            0 => PythonError::new(
                Kind::Index,
                format!("{first} has none of the hashes that are locked for {what}"),
            )
            .with_help(
                "a release got this file after it was locked, or it is not the file that was locked; make \
                            the file again if you trust the index",
            ),
            _ => PythonError::new(Kind::Index, format!("the index says no sha256 of {first}")).with_help(
                "use an index with sha256 hashes, or name the wheel by its URL: NAME @ URL --hash=…",
            ),
        };
        return Err(error.at(place).into());
    }
    if !wheels.is_empty() || !others.is_empty() {
        let mut files: Vec<&WheelName> = wheels.iter().map(|wheel| &wheel.file).collect();
        files.extend(&others);
        let command = (sources > 0).then(|| from_sdist(name, Some(version)));
        return Err(no_wheel(asked, &what, &files, command, place).into());
    }
    if sources > 0 {
        return Err(Unbuilt::Sdist.error(asked, name, Some(version), place).into());
    }
    let asked: Vec<String> = asks.iter().map(ToString::to_string).collect();
    Err(PythonError::new(Kind::Index, format!("{what} is not there: asked {}", asked.join(", ")))
        .at(place)
        .into())
}

/// A pin without local version means any, as everywhere (PEP 440).
fn same_version(found: &Version, pinned: &Version) -> bool {
    found == pinned || pinned.local().is_empty() && found.clone().without_local() == *pinned
}

fn is_sdist(filename: &str, name: &Name, version: &Version) -> bool {
    let stem = SOURCES.iter().find_map(|end| filename.strip_suffix(end));
    stem.and_then(|stem| stem.rsplit_once('-')).is_some_and(|(project, number)| {
        Name::parse(project).as_ref() == Some(name) && version::version(number).as_ref() == Some(version)
    })
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ask::Project(url, _) => url.fmt(f),
            Ask::Links(location, _) => location.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
