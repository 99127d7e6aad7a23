//! `uv.lock`, version 1: a graph of packages that is walked for a target.
//!
//! The walk is that of uv: from the project through its extras and groups, along edges whose markers hold. Where
//! extras or groups exclude each other, markers ask for them by encoded names, and one walk finds what is active
//! before another collects.

mod package;
mod stale;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::document::{At, Document, Table};
use super::error::{Kind, PythonError};
use super::filename::WheelName;
use super::name::Name;
use super::plan::{
    Asked, Options, PlannedWheel, PythonPlan, Trouble, built, finish, gathered, no_wheel, own, undecided,
};
use super::pylock::one_of;
use super::pyproject::Pyproject;
use super::source::{Unbuilt, from_sdist};
use super::target::PythonTarget;
use super::version;
use crate::limits;
use package::{Package, Source};
use walk::Walk;

/// What tells of a project.
const PYPROJECT: &str = "pyproject.toml";

/// The wheels that a target needs. What the target does not need is not judged.
///
/// `read` gives a file of the project, when it is there: the `pyproject.toml` of each project of the workspace, which the lock file
/// must be up to date with.
pub fn plan<E: From<PythonError>>(
    document: &Document,
    read: &mut dyn FnMut(&Path) -> Result<Option<Document>, E>,
    target: &PythonTarget,
    options: &Options,
) -> Result<PythonPlan, E> {
    let parsed: Spanned<DeTable<'_>> = document.parse()?;
    let root = Table::new(document, &parsed);
    lock_version(&root)?;
    let asked = Asked::new(target, options);
    check_target(&root, &asked)?;
    let lock = Lock::read(&root)?;
    let mut notes = Vec::new();
    let beside = read(&document.file().with_file_name(PYPROJECT))?;
    let start = lock.start(&asked, beside.as_ref(), &mut notes)?;
    let selected = Walk::new(&lock, &asked, &start)?.finish()?;
    for &index in selected.keys() {
        let package = &lock.packages[index];
        let Some(directory) = package.source.directory() else { continue };
        let path = super::plan::beside(document.file(), &format!("{directory}/{PYPROJECT}"));
        if let Some(text) = path.map(|path| read(&path)).transpose()?.flatten() {
            let start = (start.package == Some(index)).then_some(&start);
            up_to_date(&lock, &asked, package, &text, start)?;
        }
    }
    let mut left_out = None;

    let mut names: BTreeMap<&Name, usize> = BTreeMap::new();
    let mut wheels = Vec::new();
    for (&index, &requested) in &selected {
        let package = &lock.packages[index];
        if let Some(other) = names.insert(&package.name, index) {
            let message = format!("the lock file has two versions of {} for {target}", package.name);
            return Err(document
                .error(Kind::Lock, &package.span, message)
                .at(document.place(&lock.packages[other].span, "the other one"))
                .with_help("exactly one may be left for a target; run `uv lock` again")
                .into());
        }
        match wheel(&asked, package, requested, start.package == Some(index)) {
            Ok(Found::Wheel(wheel)) => wheels.push(Ok(*wheel)),
            Ok(Found::LeftOut(note)) => left_out = Some((package.name.clone(), note)),
            Ok(Found::Virtual) => {}
            Err(error) => wheels.push(Err(Trouble::Python(error))),
        }
    }
    let wheels = gathered::<_, E>(&asked, wheels.into_iter())?;
    Ok(PythonPlan { left_out, ..finish(&asked, wheels, notes) })
}

/// Refuses the lock file when it was not made for this `pyproject.toml`. Of what is not the start only what it always needs counts.
fn up_to_date(
    lock: &Lock<'_>,
    asked: &Asked<'_>,
    package: &Package<'_>,
    text: &Document,
    start: Option<&Start>,
) -> Result<(), PythonError> {
    let Some(project) = Pyproject::read(text)? else { return Ok(()) };
    let none = BTreeSet::new();
    let part = match start {
        Some(start) => stale::Part { extras: &start.extras, groups: &start.groups },
        None => stale::Part { extras: &none, groups: &none },
    };
    // In a workspace it is what all its projects have in common.
    let alone = package.source.directory() == Some(".") && !lock.is_workspace();
    let python = if alone { lock.root.specifiers("requires-python")? } else { None };
    stale::check(package, (text, &project), asked, part, python.as_ref().map(|at| &at.value))
}

fn lock_version(root: &Table<'_>) -> Result<(), PythonError> {
    // Revisions add what older readers may leave out.
    match root.required("version", root.integer("version")?)? {
        At { value: 1, .. } => Ok(()),
        At { value, span } => Err(root
            .document
            .error(Kind::LockVersion, &span, format!("version {value} of uv.lock is not known here"))
            .with_help("dmoci reads version 1; a newer dmoci may read this one")),
    }
}

fn check_target(root: &Table<'_>, asked: &Asked<'_>) -> Result<(), PythonError> {
    let document = root.document;
    if let Some(At { value: python, span }) = root.specifiers("requires-python")?
        && !version::contains(&python, &asked.target.version())
    {
        let found = asked.target.full_version();
        let message = format!("the lock file is for Python {python}, and the image has {found}");
        return Err(document.error(Kind::Target, &span, message).with_help(
            "change `requires-python` and run `uv lock`, or choose another base or `interpreter`",
        ));
    }
    let supported = root.markers("supported-markers")?;
    let Some(first) = supported.first() else { return Ok(()) };
    for At { value: marker, span } in &supported {
        let holds = marker.holds(&asked.environment).map_err(|error| {
            undecided(&error, "whether the lock file is for this target", document.place(span, ""))
        })?;
        if holds {
            return Ok(());
        }
    }
    let message = format!("the lock file is not for {}", asked.target);
    Err(document
        .error(Kind::Target, &first.span, message)
        .with_help("add it to `environments` of [tool.uv] in pyproject.toml and run `uv lock`"))
}

/// The lock file as a graph.
#[derive(Debug)]
struct Lock<'a> {
    root: Table<'a>,
    packages: Vec<Package<'a>>,
    by_name: BTreeMap<Name, Vec<usize>>,
    manifest: Option<Table<'a>>,
}

/// Where the walk begins.
#[derive(Debug)]
struct Start {
    /// The project; nothing for a workspace or script that is no project.
    package: Option<usize>,
    extras: BTreeSet<Name>,
    groups: BTreeSet<Name>,
}

impl<'a> Lock<'a> {
    fn read(root: &Table<'a>) -> Result<Lock<'a>, PythonError> {
        let packages: Vec<Package<'a>> =
            root.tables("package")?.into_iter().map(Package::read).collect::<Result<_, _>>()?;
        let mut by_name: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (index, package) in packages.iter().enumerate() {
            let forks = by_name.entry(package.name.clone()).or_default();
            forks.push(index);
            if forks.len() > limits::PYTHON_FORKS {
                let message = format!("there are more than {} of {}", limits::PYTHON_FORKS, package.name);
                return Err(root.document.error(Kind::Lock, &package.span, message));
            }
        }
        Ok(Lock { root: root.clone(), packages, by_name, manifest: root.table("manifest")? })
    }

    /// The packages that are directories of the workspace.
    fn members(&self) -> impl Iterator<Item = (usize, &Package<'a>)> {
        self.packages.iter().enumerate().filter(|(_, package)| package.source.directory().is_some())
    }

    /// Several projects share it.
    fn is_workspace(&self) -> bool {
        self.manifest.as_ref().is_some_and(|table| table.has("members"))
    }

    fn start(
        &self,
        asked: &Asked<'_>,
        pyproject: Option<&Document>,
        notes: &mut Vec<String>,
    ) -> Result<Start, PythonError> {
        let members: BTreeSet<Name> = self.members().map(|(_, package)| package.name.clone()).collect();
        let package = match &asked.options.package {
            Some(name) => {
                let found = self.members().find(|(_, package)| package.name == *name);
                let (index, _) = found.ok_or_else(|| {
                    self.root
                        .error(Kind::Unknown, format!("it has no project {name}"))
                        .with_help(one_of("project", &members))
                })?;
                Some(index)
            }
            None => self.members().find(|(_, p)| p.source.directory() == Some(".")).map(|(index, _)| index),
        };
        let manifest = self
            .manifest
            .as_ref()
            .is_some_and(|table| table.has("requirements") || table.has("dependency-groups"));
        if package.is_none() && !manifest {
            return Err(self
                .root
                .error(Kind::Unknown, "it is of a workspace, and no project stands beside it")
                .with_help(format!("say which one with `package`; {}", one_of("project", &members))));
        }
        let (extras, groups) = self.offered(package)?;
        if let Some(extra) = asked.options.extras.iter().find(|extra| !extras.contains(*extra)) {
            let also = asked.options.groups.iter().flatten().find(|group| !groups.contains(*group));
            let group = also.map(|group| format!(", and no group {group}")).unwrap_or_default();
            let help = also.map(|_| format!("; {}", one_of("group", &groups))).unwrap_or_default();
            let error = self.root.error(Kind::Unknown, format!("it has no extra {extra}{group}"));
            return Err(error.with_help(one_of("extra", &extras) + &help));
        }
        let chosen = match &asked.options.groups {
            Some(chosen) => chosen.clone(),
            None => self.default_groups(package, pyproject, &groups, notes)?,
        };
        if let Some(group) = chosen.iter().find(|group| !groups.contains(*group)) {
            let error = self.root.error(Kind::Unknown, format!("it has no group {group}"));
            return Err(error.with_help(one_of("group", &groups)));
        }
        Ok(Start { package, extras: asked.options.extras.clone(), groups: chosen })
    }

    /// The extras and groups of the project.
    fn offered(&self, package: Option<usize>) -> Result<(BTreeSet<Name>, BTreeSet<Name>), PythonError> {
        let mut extras = BTreeSet::new();
        let mut groups = BTreeSet::new();
        if let Some(package) = package.map(|index| &self.packages[index]) {
            extras.extend(package.optional_names()?);
            groups.extend(package.group_names()?);
        } else if let Some(table) = self.manifest.as_ref().map(|table| table.table("dependency-groups")) {
            groups.extend(package::names_of(table?.as_ref())?);
        }
        Ok((extras, groups))
    }

    /// The groups that are taken when the spec names none: those that the project calls its defaults.
    ///
    /// uv takes the group `dev` when the project is silent; an image does not.
    fn default_groups(
        &self,
        package: Option<usize>,
        pyproject: Option<&Document>,
        groups: &BTreeSet<Name>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeSet<Name>, PythonError> {
        let own = package.map(|index| &self.packages[index]);
        if let Some(table) = own.map(|package| &package.table).filter(|table| table.has("default-groups")) {
            return default_groups(table, groups);
        }
        // The file beside the lock file speaks for the project beside it alone.
        let beside = own.is_none_or(|package| package.source.directory() == Some("."));
        if let Some(document) = pyproject.filter(|_| beside) {
            let parsed = document.parse()?;
            let table = Table::new(document, &parsed).table("tool")?;
            let table = table.map(|tool| tool.table("uv")).transpose()?.flatten();
            if let Some(table) = table.filter(|table| table.has("default-groups")) {
                return default_groups(&table, groups);
            }
        }
        if groups.iter().any(|group| group.as_str() == "dev") {
            notes.push("the group dev is left out; `groups = [\"dev\"]` takes it in".into());
        }
        Ok(BTreeSet::new())
    }
}

/// `default-groups`: names, or `"all"`.
fn default_groups(table: &Table<'_>, groups: &BTreeSet<Name>) -> Result<BTreeSet<Name>, PythonError> {
    if let Ok(Some(At { value: "all", .. })) = table.text("default-groups") {
        return Ok(groups.clone());
    }
    // A default that the lock file does not have has no dependencies.
    let names = table.names("default-groups")?.into_iter().map(|at| at.value);
    Ok(names.filter(|name| groups.contains(name)).collect())
}

/// What there is of a package.
enum Found {
    Wheel(Box<PlannedWheel>),
    /// It is the project itself, and nothing stands in for it. What is to be said of that.
    LeftOut(String),
    /// It is a project that is never installed itself.
    Virtual,
}

impl Found {
    fn wheel(wheel: PlannedWheel) -> Found {
        Found::Wheel(Box::new(wheel))
    }
}

/// The wheel of a package.
fn wheel(
    asked: &Asked<'_>,
    package: &Package<'_>,
    requested: bool,
    is_start: bool,
) -> Result<Found, PythonError> {
    let document = package.table.document;
    let version = package.version.as_ref();
    let place = document.place(&package.span, "");
    let candidates = package.wheels()?;
    if let Some(found) = asked.best(&candidates) {
        return Ok(Found::wheel(found.planned(requested, document.place(&found.span, ""))));
    }
    if let Some(wheel) = built(asked, &package.name, version) {
        return Ok(Found::wheel(match package.source.directory() {
            Some(_) => wheel.planned(requested, Some(place)),
            None => wheel.stand_in(requested, Some(place)),
        }));
    }
    if let Some(directory) = package.source.directory() {
        let requested = requested || is_start;
        if let Some(own) = own(asked, directory, (&package.name, version), requested, &place)? {
            // What another entry gives is no matter of this one.
            return Ok(own.map_or(Found::Virtual, Found::wheel));
        }
    }
    if !candidates.is_empty() {
        let what = version.map_or(package.name.to_string(), |version| format!("{} {version}", package.name));
        let files: Vec<&WheelName> = candidates.iter().map(|candidate| &candidate.file).collect();
        let has_sdist = package.table.has("sdist") && matches!(package.source, Source::Registry(_));
        let command = has_sdist.then(|| from_sdist(&package.name, version));
        return Err(no_wheel(asked, &what, &files, command, place));
    }
    let unbuilt = match &package.source {
        Source::Virtual(_) => return Ok(Found::Virtual),
        // With a wheel of it that does not suit, more was meant than to leave it out.
        Source::Editable(path) | Source::Directory(path)
            if is_start && !asked.options.built.iter().any(|wheel| wheel.file.name == package.name) =>
        {
            let make = format!("uv build --wheel --out-dir wheels {path}");
            let name = &package.name;
            let note = format!(
                "{name} itself is left out; `[wheel]` in dmoci.toml has it built and installed, or `{make}` and \
                 `wheels = \"wheels\"` take it in"
            );
            return Ok(Found::LeftOut(note));
        }
        Source::Editable(path) | Source::Directory(path) => Unbuilt::Directory((*path).to_owned()),
        Source::Git(url) => package::unbuilt_git(url),
        Source::Url(url) => Unbuilt::Archive(super::source::no_credentials(url)),
        Source::Path(path) => Unbuilt::Archive((*path).to_owned()),
        Source::Registry(_) => Unbuilt::Sdist,
    };
    Err(unbuilt.error(asked, &package.name, version, place))
}

/// A name that uv makes up for markers about what excludes what.
fn encoded(kind: &str, package: &Name, item: Option<&Name>) -> Option<Name> {
    let length = package.as_str().len();
    let item = item.map(|item| format!("-{item}")).unwrap_or_default();
    Name::parse(&format!("{kind}-{length}-{package}{item}"))
}

#[cfg(test)]
mod tests;
