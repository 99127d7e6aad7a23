//! The walk through the graph of `uv.lock`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::document::Table;
use super::super::error::{Kind, PythonError};
use super::super::marker::Environment;
use super::super::name::Name;
use super::super::plan::{Asked, undecided};
use super::package::Dependency;
use super::{Lock, Start, encoded};

/// A package, or one of its extras, whose dependencies are still to be looked at.
type Node = (usize, Option<Name>);

/// What a walk needs and what it finds.
#[derive(Debug)]
pub(super) struct Walk<'a, 'l> {
    lock: &'l Lock<'a>,
    base: Environment,
    /// The same with the names that markers ask for.
    active: Environment,
    /// Packages whose environment was looked at, and whether it is this one.
    here: BTreeMap<usize, bool>,
    start: &'l Start,
    /// Extras of packages that are active.
    extras: BTreeSet<(Name, Name)>,
    /// Every pair that excludes itself.
    conflicts: Vec<Vec<Item>>,
}

/// Something that excludes something else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    package: Name,
    extra: Option<Name>,
    group: Option<Name>,
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.extra, &self.group) {
            (Some(extra), _) => write!(f, "the extra {extra} of {}", self.package),
            (_, Some(group)) => write!(f, "the group {group} of {}", self.package),
            _ => write!(f, "the project {}", self.package),
        }
    }
}

impl<'a, 'l> Walk<'a, 'l> {
    pub(super) fn new(
        lock: &'l Lock<'a>,
        asked: &Asked<'_>,
        start: &'l Start,
    ) -> Result<Walk<'a, 'l>, PythonError> {
        let mut conflicts = Vec::new();
        for list in lock.root.table_lists("conflicts")? {
            conflicts.push(list.iter().map(item).collect::<Result<Vec<_>, _>>()?);
        }
        let mut extras = BTreeSet::new();
        if let Some(index) = start.package {
            let name = &lock.packages[index].name;
            extras.extend(start.extras.iter().map(|extra| (name.clone(), extra.clone())));
        }
        let mut active = asked.environment.clone();
        active
            .extra
            .extend(extras.iter().filter_map(|(package, extra)| encoded("extra", package, Some(extra))));
        if let Some(index) = start.package {
            let package = &lock.packages[index].name;
            active.extra.extend(encoded("project", package, None));
            active
                .extra
                .extend(start.groups.iter().filter_map(|group| encoded("group", package, Some(group))));
        }
        let (base, here) = (asked.environment.clone(), BTreeMap::new());
        Ok(Walk { lock, base, active, here, start, extras, conflicts })
    }

    /// The packages that are needed, and whether the project itself asks for them.
    pub(super) fn finish(mut self) -> Result<BTreeMap<usize, bool>, PythonError> {
        if !self.conflicts.is_empty() {
            // Which extras are active is known only when everything was seen once.
            self.pass(true)?;
            self.check_conflicts()?;
        }
        self.pass(false)
    }

    /// Walks from the start. While `collecting`, extras that are met become active; else they are what they are.
    fn pass(&mut self, collecting: bool) -> Result<BTreeMap<usize, bool>, PythonError> {
        let mut queue: VecDeque<Node> = VecDeque::new();
        let mut seen: BTreeSet<Node> = BTreeSet::new();
        let mut selected = BTreeMap::new();
        let mut firsts: Vec<Dependency<'a>> = Vec::new();
        let groups = self.start.groups.clone();
        if let Some(index) = self.start.package {
            selected.insert(index, true);
            let package = &self.lock.packages[index];
            let nodes = std::iter::once(None).chain(self.start.extras.iter().cloned().map(Some));
            for node in nodes {
                if seen.insert((index, node.clone())) {
                    firsts.extend(package.dependencies(node.as_ref())?);
                }
            }
            for group in &groups {
                firsts.extend(package.group(group)?);
            }
        } else {
            firsts.extend(self.requirements(&groups)?);
        }
        for dependency in firsts {
            self.follow(&dependency, true, collecting, &mut queue, &mut seen, &mut selected)?;
        }
        while let Some((index, extra)) = queue.pop_front() {
            for dependency in self.lock.packages[index].dependencies(extra.as_ref())? {
                self.follow(&dependency, false, collecting, &mut queue, &mut seen, &mut selected)?;
            }
        }
        Ok(selected)
    }

    /// What a workspace or script that is no project asks for.
    fn requirements(&self, groups: &BTreeSet<Name>) -> Result<Vec<Dependency<'a>>, PythonError> {
        let Some(manifest) = &self.lock.manifest else { return Ok(Vec::new()) };
        let mut all: Vec<Table<'a>> = manifest.tables("requirements")?;
        if let Some(table) = manifest.table("dependency-groups")? {
            for (key, _) in table.keys() {
                if Name::parse(key).is_some_and(|name| groups.contains(&name)) {
                    all.extend(table.tables(key)?);
                }
            }
        }
        all.iter().map(Dependency::read).collect()
    }

    fn follow(
        &mut self,
        dependency: &Dependency<'a>,
        requested: bool,
        collecting: bool,
        queue: &mut VecDeque<Node>,
        seen: &mut BTreeSet<Node>,
        selected: &mut BTreeMap<usize, bool>,
    ) -> Result<(), PythonError> {
        let key = |extra: &Name| (dependency.name.clone(), extra.clone());
        let new: Vec<(Name, Name)> = match collecting {
            true => dependency.extras.iter().map(key).filter(|key| !self.extras.contains(key)).collect(),
            false => Vec::new(),
        };
        if !self.holds(dependency, &new)? {
            return Ok(());
        }
        self.extras.extend(new);
        let index = self.find(dependency)?;
        *selected.entry(index).or_insert(false) |= requested;
        let nodes = std::iter::once(None).chain(dependency.extras.iter().cloned().map(Some));
        for node in nodes {
            if seen.insert((index, node.clone())) {
                queue.push_back((index, node));
            }
        }
        Ok(())
    }

    /// Whether an edge is there; extras that it brings are active then, and not otherwise.
    fn holds(&mut self, dependency: &Dependency<'a>, new: &[(Name, Name)]) -> Result<bool, PythonError> {
        let names: Vec<Name> =
            new.iter().filter_map(|(package, extra)| encoded("extra", package, Some(extra))).collect();
        let Some(marker) = &dependency.marker else {
            self.active.extra.extend(names);
            return Ok(true);
        };
        let added: Vec<Name> =
            names.into_iter().filter(|name| self.active.extra.insert(name.clone())).collect();
        let environment = if marker.value.as_str().contains("extra") { &self.active } else { &self.base };
        let holds = marker.value.holds(environment).map_err(|error| {
            let document = self.lock.root.document;
            let what = format!("whether {} is needed", dependency.name);
            undecided(&error, &what, document.place(&marker.span, ""))
        })?;
        if !holds {
            for name in &added {
                self.active.extra.remove(name);
            }
        }
        Ok(holds)
    }

    /// Whether a package was resolved for this environment.
    fn is_here(&mut self, index: usize) -> Result<bool, PythonError> {
        if let Some(known) = self.here.get(&index) {
            return Ok(*known);
        }
        let markers = self.lock.packages[index].table.markers("resolution-markers")?;
        let here = markers.is_empty() || markers.iter().any(|at| at.value.holds(&self.base) == Ok(true));
        self.here.insert(index, here);
        Ok(here)
    }

    /// The package that an edge leads to.
    fn find(&mut self, dependency: &Dependency<'a>) -> Result<usize, PythonError> {
        let all = self.lock.by_name.get(&dependency.name).map(Vec::as_slice).unwrap_or_default();
        let mut fitting = Vec::new();
        for &index in all {
            let package = &self.lock.packages[index];
            let other = dependency.version.as_ref().is_some_and(|v| package.version.as_ref() != Some(v))
                || dependency.source.is_some_and(|source| package.source != source);
            if !other {
                fitting.push(index);
            }
        }
        // Requirements of no project name no version: what was resolved for this environment is meant.
        if fitting.len() > 1 {
            let mut here = Vec::new();
            for &index in &fitting {
                if self.is_here(index)? {
                    here.push(index);
                }
            }
            fitting = here;
        }
        match fitting[..] {
            [index] => Ok(index),
            _ => {
                let which = if fitting.is_empty() { "no" } else { "more than one" };
                let message =
                    format!("there is {which} package that this dependency on {} means", dependency.name);
                let document = self.lock.root.document;
                Err(document.error(Kind::Lock, &dependency.span, message).with_help("run `uv lock` again"))
            }
        }
    }

    fn check_conflicts(&self) -> Result<(), PythonError> {
        let start = self.start.package.map(|index| &self.lock.packages[index].name);
        let active = |item: &&Item| match (&item.extra, &item.group) {
            (Some(extra), _) => self.extras.contains(&(item.package.clone(), extra.clone())),
            (_, Some(group)) => start == Some(&item.package) && self.start.groups.contains(group),
            _ => start == Some(&item.package),
        };
        for list in &self.conflicts {
            let both: Vec<&Item> = list.iter().filter(active).collect();
            if let [first, second, ..] = both[..] {
                let message = format!("{first} and {second} exclude each other");
                return Err(PythonError::new(Kind::Conflict, message)
                    .with_help("choose one of them with `extras` and `groups`"));
            }
        }
        Ok(())
    }
}

fn item(table: &Table<'_>) -> Result<Item, PythonError> {
    Ok(Item {
        package: table.required("package", table.name("package")?)?.value,
        extra: table.name("extra")?.map(|at| at.value),
        group: table.name("group")?.map(|at| at.value),
    })
}
