//! What distributions of Python become in the layers of an image, and the environments that they are installed into.

mod missing;

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use dmoci_layers::{Digest, EntryKind, SafePath, layer};

use super::error::BuildError;
use super::locked::WHEELS_AT_ONCE;
use super::merge;
use super::parallel;
use crate::diagnostic;
use crate::inputs::base::{Node, Tree};
use crate::inputs::python::error::Kind;
use crate::inputs::python::install::{Installed, Options, install};
use crate::inputs::python::interpreter::{self, Wanted};
use crate::inputs::python::linked::Linked;
use crate::inputs::python::name::Name;
use crate::inputs::python::plan::other_python;
use crate::inputs::python::tag::TargetTags;
use crate::inputs::python::venv::{Scheme, skeleton};
use crate::inputs::python::wheel::{Shelf, Wheel};
use crate::inputs::python::{Libc, PythonError, PythonTarget, version};
use crate::inputs::{Content, InputError, Item};
use crate::oci::platform::Platform;
use crate::spec::target;

/// A wheel that is to be installed.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) wheel: Wheel,
    /// It was asked for, and is not only there because another one needs it.
    pub(super) requested: bool,
    /// The URL that it came from when that is no index.
    pub(super) url: Option<String>,
    /// It is the project's own, which this run built.
    pub(super) own: bool,
    /// Where a lock file names it.
    pub(super) at: Option<diagnostic::Place>,
}

/// The environments of an image, by the folder of a virtual one, else by the interpreter.
#[derive(Debug, Default)]
pub(super) struct Environments(BTreeMap<SafePath, Environment>);

#[derive(Debug)]
struct Environment {
    python: PythonTarget,
    tags: TargetTags,
    scheme: Scheme,
    /// What makes it an environment, until that is given to a layer.
    skeleton: Vec<Item>,
    /// Where in the spec it is first named.
    at: diagnostic::Place,
    /// Python looks into the interpreter's own folders too (`include-system-site-packages`).
    open: bool,
    /// The wheel of each project.
    projects: BTreeMap<Name, Project>,
    /// Projects that lock files are of and that they do not install, with what is to be said of that, and where.
    left_out: Vec<(Name, String, diagnostic::Place)>,
    /// The extras that lock files ask for.
    extras: BTreeMap<Name, BTreeSet<Name>>,
    files: BTreeMap<SafePath, Owned>,
}

/// A project whose wheel is installed.
#[derive(Debug)]
struct Project {
    /// The name of the wheel.
    wheel: Arc<str>,
    /// What it needs, as its METADATA has it.
    requires: Vec<String>,
    /// What it is linked to.
    linked: Linked,
    /// Where the spec asks for it.
    at: diagnostic::Place,
}

/// A file of an installed distribution.
#[derive(Clone, Debug)]
struct Owned {
    wheel: Arc<str>,
    mode: u32,
    content: Content,
}

/// What an entry of the spec asks for.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) environment: &'a target::Environment,
    pub(super) owner: (u64, u64),
    /// What wheels before these gave may be taken away.
    pub(super) replace: bool,
    pub(super) platform: &'a Platform,
    pub(super) tree: &'a Tree,
    /// Where in the spec.
    pub(super) at: &'a diagnostic::Place,
    /// Environment variables of the base image.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Where wheels are, and what is known of them.
    pub(super) shelf: Shelf<'a>,
}

impl Environments {
    /// The entries of these wheels, one list for each, and one before them when the environment has to be made.
    pub(super) fn install(
        &mut self,
        place: Place<'_>,
        wheels: Vec<Asked>,
    ) -> Result<Vec<Vec<Item>>, BuildError> {
        let environment = self.environment(place)?;
        let mut lists = Vec::with_capacity(wheels.len() + 1);
        let skeleton = std::mem::take(&mut environment.skeleton);
        if !skeleton.is_empty() {
            lists.push(settled(skeleton, place.tree)?);
        }
        let known = &*environment;
        // Whichever comes first is told of in its turn.
        let made = parallel::run(&wheels, WHEELS_AT_ONCE, |asked, _| {
            Ok::<_, Infallible>(known.made(place.owner, place.shelf, asked))
        });
        let Ok(made) = made;
        for (asked, made) in wheels.iter().zip(made) {
            lists.push(settled(environment.install(place, asked, made)?, place.tree)?);
        }
        Ok(lists)
    }

    /// The Python of the environment that is meant.
    pub(super) fn python(&mut self, place: Place<'_>) -> Result<&PythonTarget, BuildError> {
        Ok(&self.environment(place)?.python)
    }

    /// Notes which extras a lock file asks for.
    pub(super) fn asks(
        &mut self,
        place: Place<'_>,
        extras: BTreeMap<Name, BTreeSet<Name>>,
    ) -> Result<(), BuildError> {
        let environment = self.environment(place)?;
        for (name, extras) in extras {
            environment.extras.entry(name).or_default().extend(extras);
        }
        Ok(())
    }

    /// Notes that a lock file leaves out its own project: another layer may install it.
    pub(super) fn left_out(
        &mut self,
        place: Place<'_>,
        project: Name,
        note: String,
    ) -> Result<(), BuildError> {
        self.environment(place)?.left_out.push((project, note, place.at.clone()));
        Ok(())
    }

    /// The interpreters of all environments.
    pub(super) fn interpreters(&self) -> impl Iterator<Item = &SafePath> {
        self.0.values().map(|environment| &environment.python.interpreter)
    }

    /// The folders of programs of all environments.
    pub(super) fn scripts(&self) -> impl Iterator<Item = &SafePath> {
        self.0.values().map(|environment| environment.scheme.scripts())
    }

    /// The environment that is meant, which the first entry that names it describes.
    fn environment(&mut self, place: Place<'_>) -> Result<&mut Environment, BuildError> {
        let asked = place.environment;
        match self.0.entry(key(asked)) {
            Slot::Occupied(slot) => {
                let environment = slot.into_mut();
                environment.agrees(asked)?;
                Ok(environment)
            }
            Slot::Vacant(slot) => Ok(slot.insert(Environment::new(place)?)),
        }
    }
}

/// Whether what `pyvenv.cfg` says lets Python look into other folders; yes when it cannot be told.
fn is_open(pyvenv: Option<Vec<u8>>) -> bool {
    let Some(text) = pyvenv else { return true };
    String::from_utf8_lossy(&text).lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        key.trim().eq_ignore_ascii_case("include-system-site-packages")
            && value.trim().eq_ignore_ascii_case("true")
    })
}

/// Refuses a wheel that is for another Python (`Requires-Python`).
pub(super) fn is_for(wheel: &Wheel, python: &PythonTarget) -> Result<(), PythonError> {
    match &wheel.requires_python {
        Some(wanted) if !version::contains(wanted, &python.version()) => {
            Err(other_python(wheel.name.as_str(), wanted, python))
        }
        _ => Ok(()),
    }
}

fn labelled(place: &diagnostic::Place, label: &str) -> diagnostic::Place {
    diagnostic::Place { label: label.to_owned(), ..place.clone() }
}

/// What tells an environment from others. Without either it is that of the only interpreter there is.
pub(super) fn key(asked: &target::Environment) -> SafePath {
    asked.venv.clone().or(asked.interpreter.clone()).unwrap_or_else(SafePath::root)
}

fn error(kind: Kind, message: String) -> PythonError {
    PythonError::new(kind, message)
}

impl Environment {
    fn new(place: Place<'_>) -> Result<Environment, BuildError> {
        let asked = place.environment;
        let wanted = Wanted {
            interpreter: asked.interpreter.clone(),
            version: asked.version.clone(),
            libc: asked.libc.as_deref().and_then(Libc::parse),
            venv: asked.venv.clone(),
        };
        let python = interpreter::find(place.tree, place.variable, &wanted, place.platform)?;
        let wrong = |why| error(Kind::Interpreter, why);
        let (scheme, skeleton, open) = match &asked.venv {
            Some(venv) => {
                let scheme = Scheme::venv(venv, &python).map_err(wrong)?;
                let made =
                    venv.join(b"pyvenv.cfg").ok().and_then(|path| place.tree.resolve(&path, true).ok());
                let (items, open) = match made.filter(|path| place.tree.get(path).is_some()) {
                    Some(path) => (Vec::new(), is_open(place.tree.content(&path)?)),
                    None => (skeleton(venv, &python, place.owner).map_err(wrong)?, false),
                };
                (scheme, items, open)
            }
            None => {
                (Scheme::prefix(&prefix(&python.interpreter)?, &python).map_err(wrong)?, Vec::new(), false)
            }
        };
        let tags = TargetTags::of(&python);
        let (projects, left_out, extras, files) = Default::default();
        let at = place.at.clone();
        Ok(Environment { python, tags, scheme, skeleton, at, open, projects, left_out, extras, files })
    }

    /// Later entries may be silent about the interpreter, but say nothing else.
    fn agrees(&self, asked: &target::Environment) -> Result<(), PythonError> {
        let libc = asked.libc.as_deref().and_then(Libc::parse);
        let same = asked.interpreter.as_ref().is_none_or(|path| *path == self.python.interpreter)
            && asked.version.as_deref().is_none_or(|version| version == self.python.full_version())
            && (libc.is_none() || libc == self.python.libc);
        match same {
            true => Ok(()),
            false => Err(error(
                Kind::Interpreter,
                format!("an earlier entry says that this environment is for {}", self.python),
            )
            .at(labelled(&self.at, "the earlier entry"))
            .with_help("say it in one entry, or the same in all")),
        }
    }

    /// What a wheel becomes here, when it is for this Python.
    fn made(
        &self,
        owner: (u64, u64),
        shelf: Shelf<'_>,
        asked: &Asked,
    ) -> Result<Result<(Installed, Linked), InputError>, PythonError> {
        let linked = asked.wheel.linked(shelf);
        self.check(&asked.wheel, linked.as_ref().ok()).map_err(|error| match (asked.own, error.kind()) {
            (true, Kind::Wheel) => error.and_help(
                "a wheel that is not for every platform is for the Python that builds it: build with one that is like the \
                 image's (--python), and name with --platform what this machine can build for",
            ),
            _ => error,
        })?;
        let options =
            Options { scheme: &self.scheme, owner, requested: asked.requested, url: asked.url.as_deref() };
        Ok(linked.and_then(|linked| Ok((install(&asked.wheel, &options)?, linked))))
    }

    fn install(
        &mut self,
        place: Place<'_>,
        asked: &Asked,
        made: Result<Result<(Installed, Linked), InputError>, PythonError>,
    ) -> Result<Vec<Item>, BuildError> {
        let wheel = &asked.wheel;
        let made = made.map_err(|error| match &asked.at {
            Some(place) => error.at(place.clone()),
            None => error,
        })?;
        let project = wheel.name.name.clone();
        let name: Arc<str> = wheel.name.as_str().into();
        let at = place.at.clone();
        let new = Project {
            wheel: Arc::clone(&name),
            requires: wheel.requires.clone(),
            linked: Linked::default(),
            at,
        };
        if let Some(folder) = self.installed(place.tree, &project) {
            return Err(self.twice(&project, &folder, &name).into());
        }
        if let Some(other) = self.projects.insert(project.clone(), new) {
            let error = self.twice(&project, &other.wheel, &name);
            return Err(match other.at == *place.at {
                true => error,
                false => error.at(labelled(&other.at, &format!("{} is installed here", other.wheel))),
            }
            .into());
        }
        let (Installed { items, shell }, linked) = made?;
        if let Some(project) = self.projects.get_mut(&project) {
            project.linked = linked;
        }
        if let Some(program) = shell {
            check_shell(place.tree, &program)?;
        }
        for item in &items {
            if let EntryKind::File { .. } = item.entry.kind {
                self.own(item, &name, place.replace)?;
            }
        }
        Ok(items)
    }

    fn twice(&self, project: &Name, first: &str, second: &str) -> PythonError {
        error(Kind::Conflict, format!("{first} and {second} are both the project {project}"))
            .with_help("an environment holds one version of a project; leave one of them out")
    }

    /// Whether the wheel is for this Python, and for its C library by what it is linked to where its tags name none.
    fn check(&self, wheel: &Wheel, linked: Option<&Linked>) -> Result<(), PythonError> {
        let (name, python) = (&wheel.name, &self.python);
        is_for(wheel, python)?;
        if self.tags.rank(&name.tags).is_some() {
            return match linked.filter(|_| wheel.names_no_libc()) {
                Some(linked) => linked.check(name.as_str(), python),
                None => Ok(()),
            };
        }
        let failed = error(Kind::Wheel, format!("{name} does not run on {python}"));
        Err(match python.libc {
            None => failed.with_help("say which C library there is, such as libc = \"glibc-2.36\""),
            Some(_) => failed.with_help(format!("looked for {}", self.tags.summary())),
        })
    }

    /// The `.dist-info` of a project that the layers below have in this environment.
    fn installed(&self, tree: &Tree, project: &Name) -> Option<String> {
        let site = tree.resolve(self.scheme.site(), true).ok()?;
        let own: Vec<String> = self.projects.keys().map(ToString::to_string).collect();
        tree.directories_in(&site).find_map(|path| {
            let text = std::str::from_utf8(path.name()).ok()?;
            let (name, _) = text.strip_suffix(".dist-info")?.split_once('-')?;
            let name = Name::parse(name)?;
            (name == *project && !own.contains(&name.to_string())).then(|| path.to_string())
        })
    }

    /// Notes whose file it is. Of two wheels one file must be the same.
    fn own(&mut self, item: &Item, wheel: &Arc<str>, replace: bool) -> Result<(), BuildError> {
        let Item { entry, content } = item;
        let owned = Owned { wheel: Arc::clone(wheel), mode: entry.mode, content: content.clone() };
        let Some(other) = self.files.insert(entry.path.clone(), owned) else { return Ok(()) };
        if replace || (other.mode == entry.mode && same(&other.content, content)?) {
            return Ok(());
        }
        let what = if other.mode == entry.mode { "different content" } else { "different modes" };
        let message = format!("{} and {wheel} give {} with {what}", other.wheel, entry.path);
        Err(error(Kind::Conflict, message).into())
    }
}

/// Whether two contents are the same; they are read only when their hashes do not tell.
fn same(a: &Content, b: &Content) -> Result<bool, BuildError> {
    let hash = |content: &Content| -> Option<Digest> {
        match content {
            Content::Wheel(member) => member.digest().cloned(),
            Content::Bytes(bytes) => Some(Digest::sha256(bytes)),
            _ => None,
        }
    };
    match (hash(a), hash(b)) {
        (Some(a), Some(b)) if a.algorithm() == b.algorithm() => Ok(a == b),
        _ => Ok(merge::same_content(a, b)?),
    }
}

/// The prefix that an interpreter is installed below.
fn prefix(interpreter: &SafePath) -> Result<SafePath, PythonError> {
    let folder = interpreter.parent().filter(|folder| folder.name() == b"bin");
    let prefix = folder.and_then(|folder| folder.parent()).ok_or_else(|| {
        error(
            Kind::Interpreter,
            format!("{interpreter} is in no folder `bin`, so its own folders are not known"),
        )
        .with_help("say where to install with `venv`")
    })?;
    // The distribution's own Python, which looks elsewhere (Debian) or whose folders belong to its packages.
    match prefix.as_bytes() {
        b"" | b"usr" => Err(error(
            Kind::Interpreter,
            format!("{interpreter} belongs to the operating system, and so do its folders"),
        )
        .with_help("install into an environment of its own, such as venv = \"/opt/app/.venv\"")),
        _ => Ok(prefix),
    }
}

/// A program whose first line is `#!/bin/sh` needs that below.
fn check_shell(tree: &Tree, program: &SafePath) -> Result<(), BuildError> {
    let shell = SafePath::root().join(b"bin/sh").map(|path| tree.resolve(&path, true));
    match shell {
        Ok(Ok(path)) if matches!(tree.get(&path), Some(Node::Other)) => Ok(()),
        _ => Err(error(
            Kind::Interpreter,
            format!(
                "{program} needs /bin/sh, because the path of its interpreter is longer than 124 bytes or holds \
                 spaces, and the layers below have none"
            ),
        )
        .with_help("choose a shorter path without spaces for `venv`")
        .into()),
    }
}

/// The items where the links below lead them, without directories that are there already.
fn settled(items: Vec<Item>, tree: &Tree) -> Result<Vec<Item>, BuildError> {
    let mut settled = Vec::with_capacity(items.len());
    let mut moved = false;
    for mut item in items {
        let directory = item.entry.kind == EntryKind::Directory;
        let path = tree.resolve(&item.entry.path, directory)?;
        if directory && matches!(tree.get(&path), Some(Node::Directory(_))) {
            continue;
        }
        moved |= path != item.entry.path;
        item.entry.path = path;
        settled.push(item);
    }
    if moved {
        settled.sort_by(|a, b| layer::order(&a.entry, &b.entry));
        settled.dedup_by(|a, b| a.entry.kind == EntryKind::Directory && a.entry == b.entry);
    }
    Ok(settled)
}

/// The URL of a wheel of the project, which is its root: nothing of the building machine stands in it.
pub(super) fn file_url(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut url = "file:///".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' => {
                url.push(char::from(byte));
            }
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}
