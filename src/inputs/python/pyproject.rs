//! What `pyproject.toml` says of a project (PEP 621, PEP 735), as far as a lock file repeats it.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{At, Document, Table};
use super::error::{Kind, PythonError};
use super::filename::WheelName;
use super::marker::Environment;
use super::name::Name;
use super::requirement::{Requirement, Source};
use super::target::PythonTarget;
use super::version::{self, Version, VersionSpecifier, VersionSpecifiers};
use crate::diagnostic::few;
use crate::limits;

/// How deep groups may include others.
const DEPTH: usize = 32;

/// How many specifiers, and parts of a version, tell of versions to try.
const TRIED: usize = 64;

/// Requirements by the name of an extra or a group.
type Lists = BTreeMap<Name, Vec<At<Requirement>>>;

/// A project.
#[derive(Clone, Debug)]
pub struct Pyproject {
    /// Its name.
    pub name: Name,
    /// Its version, unless it is made up when it is built.
    pub(super) version: Option<At<Version>>,
    /// The versions of Python that it is for, when it says so.
    pub(super) python: Option<At<VersionSpecifiers>>,
    /// What it needs; nothing when that is made up.
    pub(super) dependencies: Option<Vec<At<Requirement>>>,
    /// What its extras need; nothing when that is made up.
    pub(super) optional: Option<Lists>,
    /// What its groups need, with what they include.
    pub(super) groups: Lists,
    /// Projects for which `tool.uv.sources` says something.
    pub(super) sources: BTreeSet<Name>,
    /// It lists what it needs, if only that this is nothing.
    lists_needs: bool,
    /// All requirements could be read.
    pub(super) whole: bool,
}

impl Pyproject {
    /// Reads it; nothing when it is of no project. Requirements that are none are left out.
    pub fn read(document: &Document) -> Result<Option<Pyproject>, PythonError> {
        let parsed = document.parse()?;
        let root = Table::new(document, &parsed);
        let Some(project) = root.table("project")? else { return Ok(None) };
        let Some(At { value: name, .. }) = project.name("name")? else { return Ok(None) };
        let made_up: BTreeSet<&str> = project.texts("dynamic")?.into_iter().map(|at| at.value).collect();
        let is_said = |key: &str| !made_up.contains(key);
        let mut whole = true;
        let dependencies = match is_said("dependencies") {
            true => Some(requirements(&project, "dependencies", &mut whole)?),
            false => None,
        };
        let lists_needs = dependencies.is_some() && project.has("dependencies");
        let optional = match is_said("optional-dependencies") {
            true => Some(lists(project.table("optional-dependencies")?.as_ref(), &mut whole)?),
            false => None,
        };
        let version = if is_said("version") { project.version("version")? } else { None };
        // What is none here may be one for uv.
        let python = project.specifiers("requires-python").ok().flatten();
        let uv = root.table("tool")?.map(|tool| tool.table("uv")).transpose()?.flatten();
        let mut groups = groups(root.table("dependency-groups")?.as_ref(), &mut whole)?;
        let mut sources = BTreeSet::new();
        if let Some(uv) = uv {
            if uv.has("dev-dependencies") {
                put(&mut groups, "dev", requirements(&uv, "dev-dependencies", &mut whole)?);
            }
            let table = uv.table("sources")?;
            sources.extend(table.iter().flat_map(Table::keys).filter_map(|(key, _)| Name::parse(key)));
        }
        Ok(Some(Pyproject {
            name,
            version,
            python,
            dependencies,
            optional,
            groups,
            sources,
            lists_needs,
            whole,
        }))
    }

    /// Refuses a wheel of the project that was built when `dependencies` said something else, as far as the target needs it.
    ///
    /// Backends may write requirements in other forms, so what they mean is compared.
    pub fn check_needs(
        &self,
        document: &Document,
        (wheel, requires): (&WheelName, &[String]),
        target: &PythonTarget,
        shown: &str,
    ) -> Result<(), PythonError> {
        let Some(dependencies) = &self.dependencies else { return Ok(()) };
        let built: Result<Vec<Requirement>, _> =
            requires.iter().map(|text| Requirement::parse(text)).collect();
        let (true, true, Ok(built)) = (wheel.name == self.name, self.lists_needs && self.whole, built) else {
            return Ok(());
        };
        let environment = Environment::of(target);
        let now = needs(dependencies.iter().map(|at| &at.value), &environment);
        let (Some(now), Some(then)) = (now, needs(built.iter(), &environment)) else { return Ok(()) };
        // Some backends put what its own extras need in their place.
        if now.contains_key(&self.name) || then.contains_key(&self.name) {
            return Ok(());
        }
        let told = changes(&now, &then);
        let Some((first, _)) = told.first() else { return Ok(()) };
        let file = document.file().display();
        let texts = told.iter().map(|(name, what)| format!("{name} {what}"));
        let message = format!("{shown} was built before {file} was changed: {}", few(texts));
        let error = match dependencies.iter().find(|at| at.value.name == **first).or(dependencies.first()) {
            Some(at) => document.error(Kind::Stale, &at.span, message),
            None => PythonError::new(Kind::Stale, message),
        };
        Err(error.with_help("build the wheel again, such as with `uv build --wheel --out-dir dist`"))
    }

    /// Refuses another version of the project than this one.
    pub fn check(&self, document: &Document, wheel: &WheelName, shown: &str) -> Result<(), PythonError> {
        let Some(At { value: version, span }) = &self.version else { return Ok(()) };
        let same = wheel.version == *version || wheel.version.clone().without_local() == *version;
        if wheel.name != self.name || same {
            return Ok(());
        }
        let file = document.file().display();
        let message = format!("{shown} is {} {}, and {file} says {version}", self.name, wheel.version);
        Err(document
            .error(Kind::Stale, span, message)
            .with_help(format!("build the wheel anew, name that of {version}, or correct {file}")))
    }
}

/// For each project its extras and versions, these only when no place is named.
type Needs = BTreeMap<Name, (BTreeSet<Name>, Option<Vec<VersionSpecifier>>)>;

/// What the requirements that hold come to; nothing when it cannot be told.
fn needs<'a>(all: impl Iterator<Item = &'a Requirement>, environment: &Environment) -> Option<Needs> {
    let mut needs = Needs::new();
    for requirement in all {
        let holds = requirement.marker.as_ref().map_or(Ok(true), |marker| marker.holds(environment));
        if !holds.ok()? {
            continue;
        }
        let (extras, versions) =
            needs.entry(requirement.name.clone()).or_insert_with(|| (BTreeSet::new(), Some(Vec::new())));
        extras.extend(requirement.extras.iter().cloned());
        match (&requirement.source, versions.as_mut()) {
            (Source::Index(specifiers), Some(list)) => list.extend(specifiers.iter().cloned()),
            _ => *versions = None,
        }
    }
    Some(needs)
}

/// In what the needs differ.
fn changes<'a>(now: &'a Needs, then: &'a Needs) -> Vec<(&'a Name, &'static str)> {
    let mut told = Vec::new();
    for (name, (extras, versions)) in now {
        match then.get(name) {
            None => told.push((name, "is new")),
            Some((others, _)) if extras != others => told.push((name, "has other extras")),
            Some((_, Some(others))) if versions.as_ref().is_some_and(|all| !same_versions(all, others)) => {
                told.push((name, "has other versions"));
            }
            Some(_) => {}
        }
    }
    told.extend(then.keys().filter(|name| !now.contains_key(*name)).map(|name| (name, "is gone")));
    told
}

/// Whether two sets of specifiers hold for the same of all versions that they name and the ones next to these: tools write
/// `~=1.2` as `>=1.2,<2`.
fn same_versions(a: &[VersionSpecifier], b: &[VersionSpecifier]) -> bool {
    let set = |all: &[VersionSpecifier]| all.iter().cloned().collect::<VersionSpecifiers>();
    let (first, second) = (set(a), set(b));
    let mut tried = BTreeSet::from([Version::new([0])]);
    for specifier in a.iter().chain(b).take(TRIED) {
        let release: Vec<u64> = specifier.version().release().iter().copied().take(TRIED).collect();
        tried.insert(specifier.version().clone());
        for length in 1..=release.len() + 1 {
            let mut next: Vec<u64> = release.iter().copied().chain([0]).take(length).collect();
            if let Some(last) = next.last_mut() {
                *last = last.saturating_add(1);
            }
            tried.insert(Version::new(next));
        }
    }
    tried.iter().all(|one| version::contains(&first, one) == version::contains(&second, one))
}

fn requirements(table: &Table<'_>, key: &str, whole: &mut bool) -> Result<Vec<At<Requirement>>, PythonError> {
    Ok(parsed(table.texts(key)?, whole))
}

/// Those that are requirements; when one is none, it is not the `whole`.
fn parsed(texts: Vec<At<&str>>, whole: &mut bool) -> Vec<At<Requirement>> {
    let count = texts.len();
    let parse = |At { value, span }: At<&str>| Some(At { value: Requirement::parse(value).ok()?, span });
    let list: Vec<At<Requirement>> = texts.into_iter().filter_map(parse).collect();
    *whole &= list.len() == count;
    list
}

/// Names may be written in several ways.
fn put(lists: &mut Lists, key: &str, list: Vec<At<Requirement>>) {
    if let Some(name) = Name::parse(key) {
        lists.entry(name).or_default().extend(list);
    }
}

fn lists(table: Option<&Table<'_>>, whole: &mut bool) -> Result<Lists, PythonError> {
    let mut lists: Lists = BTreeMap::new();
    let Some(table) = table else { return Ok(lists) };
    for (key, _) in table.keys() {
        put(&mut lists, key, requirements(table, key, whole)?);
    }
    Ok(lists)
}

/// The groups, each with what it includes.
fn groups(table: Option<&Table<'_>>, whole: &mut bool) -> Result<Lists, PythonError> {
    let Some(table) = table else { return Ok(BTreeMap::new()) };
    let mut own: Lists = BTreeMap::new();
    let mut included: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for (key, _) in table.keys() {
        let (texts, tables) = table.mixed(key)?;
        put(&mut own, key, parsed(texts, whole));
        for inner in tables {
            if let (Some(name), Some(At { value, .. })) = (Name::parse(key), inner.name("include-group")?) {
                included.entry(name).or_default().insert(value);
            }
        }
    }
    let mut all = own.clone();
    let mut count = 0;
    for (name, list) in &mut all {
        let mut seen = BTreeSet::from([name]);
        let mut now: Vec<&Name> = included.get(name).into_iter().flatten().collect();
        for _ in 0..DEPTH {
            now.retain(|name| seen.insert(name));
            count += now.iter().filter_map(|name| own.get(*name)).map(Vec::len).sum::<usize>();
            if count > limits::PYTHON_PACKAGES {
                let message =
                    format!("its groups include more than {} requirements", limits::PYTHON_PACKAGES);
                return Err(table.error(Kind::Lock, message));
            }
            list.extend(now.iter().filter_map(|name| own.get(*name)).flatten().cloned());
            now = now.iter().filter_map(|name| included.get(*name)).flatten().collect();
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::tests::debian;
    use super::*;

    /// What backends write in another form is the same; what means something else is not.
    #[test]
    fn wheels_built_before() {
        for (needs, built, expected) in [
            ("'A_b>=1,<2', 'c'", "c|a-b (<2,>=1)", None),
            ("'a~=1.2'", "a>=1.2,<2.0", None),
            ("'a>=1'", "a>=1|z ; extra == 'cli'", None),
            ("\"a; python_version < '4'\"", "a ; python_version<'4.0'", None),
            ("\"a; sys_platform == 'win32'\"", "", None),
            ("'a @ https://h.example/a.whl'", "a", None),
            ("\"a; platform_version == 'x'\"", "", None),
            ("'app[x]'", "z", None),
            ("'a = 1'", "", None),
            ("'a', 'b'", "a", Some("b is new")),
            ("", "a", Some("a is gone")),
            ("'a[x]'", "a", Some("a has other extras")),
            ("'a>=2'", "a>=1", Some("a has other versions")),
            ("'a>=1.2'", "a==1.2", Some("a has other versions")),
            ("'a<=1'", "a==1", Some("a has other versions")),
        ] {
            let text = format!("[project]\nname = \"app\"\ndependencies = [{needs}]\n");
            let document = Document::new("pyproject.toml".as_ref(), text);
            let project = Pyproject::read(&document).unwrap().unwrap();
            let wheel = WheelName::parse("app-1.0-py3-none-any.whl").unwrap();
            let requires: Vec<String> =
                built.split('|').filter(|one| !one.is_empty()).map(str::to_owned).collect();
            let found = project.check_needs(&document, (&wheel, &requires), &debian(), "app.whl").err();
            let found = found.map(|error| error.to_string());
            let expected =
                expected.map(|what| format!("app.whl was built before pyproject.toml was changed: {what}"));
            assert_eq!(found, expected, "{needs} {built}");
        }
    }

    /// Groups that include each other do not multiply without end.
    #[test]
    fn groups_that_include_everything() {
        let one = format!("many = [{}]\n", "\"x\", ".repeat(1000));
        let including = |count: usize| {
            let group = |n: usize| format!("g{n} = [{{ include-group = \"many\" }}]\n");
            let groups: String = (0..count).map(group).collect();
            let text = format!("[project]\nname = \"a\"\n[dependency-groups]\n{one}{groups}");
            Pyproject::read(&Document::new("pyproject.toml".as_ref(), text))
        };
        assert_eq!(including(100).unwrap().unwrap().groups.len(), 101);
        let error = including(101).unwrap_err().to_string();
        assert!(error.ends_with("its groups include more than 100000 requirements"), "{error}");
    }
}
