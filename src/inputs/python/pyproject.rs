//! What `pyproject.toml` says of a project (PEP 621, PEP 735), as far as a lock file repeats it.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{At, Document, Table};
use super::error::{Kind, PythonError};
use super::filename::WheelName;
use super::name::Name;
use super::requirement::Requirement;
use super::version::Version;
use crate::limits;

/// How deep groups may include others.
const DEPTH: usize = 32;

/// Requirements by the name of an extra or a group.
type Lists = BTreeMap<Name, Vec<At<Requirement>>>;

/// A project.
#[derive(Clone, Debug)]
pub struct Pyproject {
    /// Its name.
    pub name: Name,
    /// Its version, unless it is made up when it is built.
    pub(super) version: Option<At<Version>>,
    /// What it needs; nothing when that is made up.
    pub(super) dependencies: Option<Vec<At<Requirement>>>,
    /// What its extras need; nothing when that is made up.
    pub(super) optional: Option<Lists>,
    /// What its groups need, with what they include.
    pub(super) groups: Lists,
    /// Projects for which `tool.uv.sources` says something.
    pub(super) sources: BTreeSet<Name>,
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
        let optional = match is_said("optional-dependencies") {
            true => Some(lists(project.table("optional-dependencies")?.as_ref(), &mut whole)?),
            false => None,
        };
        let version = if is_said("version") { project.version("version")? } else { None };
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
        Ok(Some(Pyproject { name, version, dependencies, optional, groups, sources, whole }))
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
    use super::*;

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
