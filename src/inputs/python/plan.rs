//! Which wheels a target needs: what every kind of lock file comes to.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use dmoci_layers::Digest;

use super::document::Span;
use super::error::{Kind, PythonError};
use super::filename::WheelName;
use super::marker::{Environment, Undecided};
use super::name::Name;
use super::tag::TargetTags;
use super::target::{Libc, PythonTarget};
use super::version::{Version, VersionSpecifiers};
use crate::diagnostic::{Place, few};
use crate::url::Url;

/// A wheel that is to be installed.
#[derive(Clone, Debug)]
pub struct PlannedWheel {
    /// Its file name, which says project, version and tags.
    pub file: WheelName,
    /// What its bytes must have.
    pub digest: Digest,
    /// How many bytes it has, where the lock file says it.
    pub size: Option<u64>,
    /// Where it is.
    pub location: Location,
    /// Somebody asked for it, and not only another project (`REQUESTED`, PEP 376).
    pub requested: bool,
    /// It was asked for by its place, and does not come from an index (`direct_url.json`, PEP 610).
    pub direct: bool,
    /// It stands in for what somebody else made, and nothing says which bytes it must have.
    pub stand_in: bool,
    /// Where the lock file names it; nothing for a wheel that the lock file does not name.
    pub place: Option<Place>,
}

impl PlannedWheel {
    /// The project.
    pub fn name(&self) -> &Name {
        &self.file.name
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.file.version
    }
}

/// Where a wheel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the project directory.
    Path(PathBuf),
    /// On the network.
    Url(Url),
    /// What this run builds: the project's own wheel.
    Own,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Path(path) => path.display().fmt(f),
            Location::Url(url) => url.fmt(f),
            Location::Own => f.write_str("the project's own wheel"),
        }
    }
}

/// What is wanted beside what the lock file says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Extras of the project.
    pub extras: BTreeSet<Name>,
    /// Dependency groups; without them the lock file's own defaults.
    pub groups: Option<BTreeSet<Name>>,
    /// The member of a workspace that is meant; without it, the project beside the lock file.
    pub package: Option<Name>,
    /// Wheels for what has none in the lock file.
    pub built: Vec<BuiltWheel>,
    /// The project that this run builds.
    pub own: Option<OwnProject>,
}

/// A project that this run builds.
#[derive(Clone, Debug)]
pub struct OwnProject {
    /// The directory of its source, relative to the project.
    pub source: PathBuf,
    /// Name and digest of its wheel; nothing when that is given by another entry, or not needed.
    pub wheel: Option<(WheelName, Digest)>,
}

/// A wheel in the project that stands in for one that the lock file lacks.
#[derive(Clone, Debug)]
pub struct BuiltWheel {
    /// Where it is, relative to the project.
    pub path: PathBuf,
    /// Its name.
    pub file: WheelName,
    /// What its bytes have.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

/// The wheels of a target.
#[derive(Clone, Debug, Default)]
pub struct PythonPlan {
    /// Each project once, sorted by name.
    pub wheels: Vec<PlannedWheel>,
    /// What is worth saying and no error.
    pub notes: Vec<String>,
    /// The extras of them that the lock file asks for, where it does not say itself what these need.
    pub extras: BTreeMap<Name, BTreeSet<Name>>,
    /// The project of the lock file, when it is not among these and should be, and what is to be said of that unless it is
    /// installed from elsewhere.
    pub left_out: Option<(Name, String)>,
}

/// A target with all that is asked of it again and again.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    pub(super) target: &'a PythonTarget,
    pub(super) options: &'a Options,
    pub(super) tags: TargetTags,
    pub(super) environment: Environment,
    /// What would suit when the spec said which C library there is; nothing when that is known.
    with_libc: Vec<TargetTags>,
    /// Projects with a wheel that would suit better then.
    passed_over: RefCell<BTreeSet<Name>>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(target: &'a PythonTarget, options: &'a Options) -> Asked<'a> {
        let (tags, environment) = (TargetTags::of(target), Environment::of(target));
        let newest = [Libc::Glibc { major: 2, minor: 100 }, Libc::Musl { major: 1, minor: 9 }];
        let with = |libc| {
            let mut target = target.clone();
            target.libc = Some(libc);
            TargetTags::of(&target)
        };
        let with_libc = if target.libc.is_some() { Vec::new() } else { newest.map(with).into() };
        Asked { target, options, tags, environment, with_libc, passed_over: RefCell::default() }
    }

    /// The one that suits the target best: by tags, then by build tag, then by name.
    pub(super) fn best<'c>(&self, candidates: &'c [Candidate]) -> Option<&'c Candidate> {
        let found = best(candidates, &self.tags)?;
        let other = |tags| best(candidates, tags).is_some_and(|other| !std::ptr::eq(other, found));
        if self.with_libc.iter().any(other) {
            self.passed_over.borrow_mut().insert(found.file.name.clone());
        }
        Some(found)
    }
}

/// A wheel that a lock file names.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) file: WheelName,
    pub(super) digest: Digest,
    pub(super) size: Option<u64>,
    pub(super) location: Location,
    /// It was asked for by its place.
    pub(super) direct: bool,
    pub(super) span: Span,
}

impl Candidate {
    pub(super) fn planned(&self, requested: bool, place: Place) -> PlannedWheel {
        PlannedWheel {
            file: self.file.clone(),
            digest: self.digest.clone(),
            size: self.size,
            location: self.location.clone(),
            requested,
            direct: self.direct,
            stand_in: false,
            place: Some(place),
        }
    }
}

fn best<'a>(candidates: &'a [Candidate], tags: &TargetTags) -> Option<&'a Candidate> {
    let ranked =
        candidates.iter().filter_map(|candidate| Some((tags.rank(&candidate.file.tags)?, candidate)));
    let key = |(rank, candidate): &(usize, &Candidate)| {
        (*rank, std::cmp::Reverse(candidate.file.build.clone()), candidate.file.as_str().to_owned())
    };
    ranked.min_by_key(key).map(|(_, candidate)| candidate)
}

/// The built wheel that stands in for a project, when there is one that runs there.
pub(super) fn built<'a>(asked: &Asked<'a>, name: &Name, version: Option<&Version>) -> Option<&'a BuiltWheel> {
    let fits = |wheel: &&BuiltWheel| {
        wheel.file.name == *name && version.is_none_or(|version| wheel.file.version == *version)
    };
    asked
        .options
        .built
        .iter()
        .filter(fits)
        .filter_map(|wheel| Some((asked.tags.rank(&wheel.file.tags)?, wheel)))
        .min_by_key(|(rank, wheel)| (*rank, std::cmp::Reverse(wheel.file.build.clone()), wheel.path.clone()))
        .map(|(_, wheel)| wheel)
}

impl BuiltWheel {
    /// As it stands in for something that somebody else made.
    pub(super) fn stand_in(&self, requested: bool, place: Option<Place>) -> PlannedWheel {
        PlannedWheel { stand_in: true, ..self.planned(requested, place) }
    }

    pub(super) fn planned(&self, requested: bool, place: Option<Place>) -> PlannedWheel {
        PlannedWheel {
            file: self.file.clone(),
            digest: self.digest.clone(),
            size: Some(self.size),
            location: Location::Path(self.path.clone()),
            requested,
            direct: false,
            stand_in: false,
            place,
        }
    }
}

/// Whether a directory that a lock file names is that of the project which this run builds.
pub(super) fn own_source(asked: &Asked<'_>, directory: &str, place: &Place) -> bool {
    asked.options.own.as_ref().is_some_and(|own| beside(&place.file, directory).as_ref() == Some(&own.source))
}

/// What stands for a directory that a lock file names, when that is the project which this run builds: its wheel, or nothing when
/// that comes from elsewhere. `None` when it is another directory.
pub(super) fn own(
    asked: &Asked<'_>,
    directory: &str,
    (name, version): (&Name, Option<&Version>),
    requested: bool,
    place: &Place,
) -> Result<Option<Option<PlannedWheel>>, PythonError> {
    let Some(own) = &asked.options.own else { return Ok(None) };
    if !own_source(asked, directory, place) {
        return Ok(None);
    }
    let Some((file, digest)) = &own.wheel else { return Ok(Some(None)) };
    if file.name != *name || version.is_some_and(|version| *version != file.version) {
        let locked = version.map_or(name.to_string(), |version| format!("{name} {version}"));
        let message = format!("{locked} is locked, and [wheel] builds {file} of {directory}");
        return Err(PythonError::new(Kind::Lock, message)
            .at(place.clone())
            .with_help("lock again with the tool that made the lock file"));
    }
    Ok(Some(Some(PlannedWheel {
        file: file.clone(),
        digest: digest.clone(),
        size: None,
        location: Location::Own,
        stand_in: false,
        requested,
        direct: true,
        place: Some(place.clone()),
    })))
}

/// Puts a plan together: sorted, each project once, with a word about built wheels that nobody needed.
pub(super) fn finish(asked: &Asked<'_>, mut wheels: Vec<PlannedWheel>, mut notes: Vec<String>) -> PythonPlan {
    wheels.sort_by(|a, b| a.name().cmp(b.name()));
    // What is at hand need not be fetched.
    for wheel in wheels.iter_mut().filter(|wheel| matches!(wheel.location, Location::Url(_))) {
        if let Some(built) = asked.options.built.iter().find(|built| built.digest == wheel.digest) {
            wheel.location = Location::Path(built.path.clone());
        }
    }
    let used: BTreeMap<&Path, ()> = wheels
        .iter()
        .filter_map(|wheel| match &wheel.location {
            Location::Path(path) => Some((path.as_path(), ())),
            Location::Url(_) | Location::Own => None,
        })
        .collect();
    for built in &asked.options.built {
        if !used.contains_key(built.path.as_path()) {
            notes.push(format!("{} is not needed", built.path.display()));
        }
    }
    let passed_over = asked.passed_over.borrow();
    if !passed_over.is_empty() {
        notes.push(format!(
            "no `libc` is said, so wheels for one C library are passed over, of {}; say such as `libc = \"glibc-2.36\"`",
            few(passed_over.iter())
        ));
    }
    PythonPlan { wheels, notes, extras: BTreeMap::new(), left_out: None }
}

/// The wheels, unless there is none of some projects: all that are missing are told together.
pub(super) fn gathered<T, E: From<PythonError>>(
    asked: &Asked<'_>,
    all: impl Iterator<Item = Result<T, Trouble<E>>>,
) -> Result<Vec<T>, E> {
    let (mut wheels, mut errors) = (Vec::new(), Vec::new());
    for found in all {
        match found {
            Ok(wheel) => wheels.push(wheel),
            Err(Trouble::Python(error)) if error.is_of_one_project() => errors.push(error),
            Err(Trouble::Python(error)) => return Err(error.into()),
            Err(Trouble::Other(error)) => return Err(error),
        }
    }
    PythonError::all(errors, &format!("have no wheel that can be installed for {}", asked.target))?;
    Ok(wheels)
}

/// How many wheels for other machines are listed, before it is said only that they are for others.
const LISTED: usize = 8;

/// Why there is no wheel of a project.
pub(super) enum Trouble<E> {
    /// Something that lock files or wheels are to blame for.
    Python(PythonError),
    /// Something else, such as the network.
    Other(E),
}

impl<E> From<PythonError> for Trouble<E> {
    fn from(error: PythonError) -> Trouble<E> {
        Trouble::Python(error)
    }
}

/// An error about a project none of whose wheels runs on the target; with the command that makes one, where there is such.
pub(super) fn no_wheel(
    asked: &Asked<'_>,
    what: &str,
    files: &[&WheelName],
    command: Option<String>,
    place: Place,
) -> PythonError {
    let mut tags: Vec<String> = files.iter().map(|file| file.tags.to_string()).collect();
    // Those that come nearest first: for this machine, then for this Python.
    let own = format!("cp{}{}-", asked.target.python().0, asked.target.python().1);
    let far = |tags: &String| {
        let machine = tags.contains("linux") && tags.ends_with(asked.target.machine());
        (!machine, !tags.starts_with(&own), !tags.contains("linux"))
    };
    tags.sort_unstable_by(|a, b| far(a).cmp(&far(b)).then_with(|| a.cmp(b)));
    tags.dedup();
    let suits = |tags: &TargetTags| files.iter().any(|file| tags.rank(&file.tags).is_some());
    let libc = match asked.with_libc.iter().any(suits) {
        true => {
            "no C library is assumed: say which there will be, such as `libc = \"glibc-2.36\"` or \"musl-1.2\"\n"
        }
        false => "",
    };
    let near = |tags: &String| {
        tags.contains("linux") && tags.ends_with(asked.target.machine()) || tags.ends_with("-any")
    };
    let found = match tags.len() > LISTED && !tags.iter().any(near) {
        true => format!("none for {}", asked.target.machine()),
        false => few(tags.iter()),
    };
    PythonError::new(Kind::Wheel, format!("{what} has no wheel for {}", asked.target))
        .at(place)
        .with_help(format!("{libc}looked for {}", asked.tags.summary()))
        .with_there(what, found, command)
}

/// An error about something that is for another Python than the target has.
pub fn other_python(what: &str, wanted: &VersionSpecifiers, target: &PythonTarget) -> PythonError {
    PythonError::new(Kind::Target, format!("{what} asks for Python {wanted}, and there is {target}"))
        .with_help("lock for the Python that the image has, or choose another base or `interpreter`")
}

/// What a marker that cannot be decided means for the one who builds an image.
pub(super) fn undecided(error: &Undecided, what: &str, place: Place) -> PythonError {
    PythonError::new(Kind::Marker, format!("{what} cannot be decided: {error}")).at(place)
}

/// A path beside the lock file as a path in the project; nothing when it leads out of it.
pub(super) fn beside(lock: &Path, path: &str) -> Option<PathBuf> {
    if path.is_empty() || path.contains('\0') {
        return None;
    }
    let mut out: Vec<&std::ffi::OsStr> = Vec::new();
    let directory = lock.parent().unwrap_or_else(|| Path::new(""));
    for component in directory.components().chain(Path::new(path).components()) {
        match component {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    match out.is_empty() {
        true => Some(PathBuf::from(".")),
        false => Some(out.into_iter().collect()),
    }
}

/// The last part of a URL or path, percent-decoded: the name of a file.
pub(super) fn last_part(text: &str) -> String {
    let text = text.split(['#', '?']).next().unwrap_or_default();
    percent_decoded(text.rsplit(['/', '\\']).next().unwrap_or_default())
}

/// With every `%xx` decoded; what is no UTF-8 then becomes a replacement character.
pub(super) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_beside_a_lock_file() {
        let found = |lock: &str, path: &str| beside(Path::new(lock), path);
        assert_eq!(found("pylock.toml", "wheels/a.whl"), Some("wheels/a.whl".into()));
        assert_eq!(found("py/uv.lock", "../wheels//./a.whl"), Some("wheels/a.whl".into()));
        assert_eq!(found("py/uv.lock", ".."), Some(".".into()));
        for (lock, path) in
            [("uv.lock", "../a.whl"), ("uv.lock", "/a.whl"), ("uv.lock", ""), ("a/uv.lock", "../../a")]
        {
            assert_eq!(found(lock, path), None, "{path}");
        }
    }

    #[test]
    fn names_at_the_end() {
        assert_eq!(
            last_part("https://h.example/p/a%2Bb-1.0-py3-none-any.whl#sha256=0"),
            "a+b-1.0-py3-none-any.whl"
        );
        assert_eq!(last_part("wheels\\a.whl"), "a.whl");
        assert_eq!(percent_decoded("%41%4"), "A%4");
        assert_eq!(percent_decoded("%é%+1"), "%é%+1");
    }
}
