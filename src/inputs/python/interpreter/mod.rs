//! Which Python an image has: found by looking, never by running it.
//!
//! Debian and others have `/usr/bin/python3`, Docker's Python images `/usr/local/bin/python3`, standalone builds
//! a folder of their own. A virtual environment leads to one of these.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::SafePath;

use super::error::{Kind, PythonError};
use super::target::{Libc, PythonTarget};
use crate::diagnostic::Failure;
use crate::inputs::base::{Node, Tree};
use crate::inputs::telling::{Facts, python_minor};
use crate::oci::platform::Platform;

/// What the spec says of the interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is.
    pub interpreter: Option<SafePath>,
    /// Its whole version, such as `3.12.4`.
    pub version: Option<String>,
    /// Its C library, such as `glibc-2.36`.
    pub libc: Option<Libc>,
    /// A virtual environment that may be there already, and then knows its interpreter.
    pub venv: Option<SafePath>,
}

/// Finds the interpreter of an image and what there is to know of it.
///
/// `variable` gives the environment variables of the base image. An interpreter that the image does not have is
/// taken from the spec, when it says all of it.
pub fn find(
    tree: &Tree,
    variable: &dyn Fn(&str) -> Option<String>,
    wanted: &Wanted,
    platform: &Platform,
) -> Result<PythonTarget, Failure> {
    let image = Image { tree, platform };
    let named = match (&wanted.interpreter, &wanted.venv) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(venv)) => image.of_venv(venv)?,
        (None, None) => None,
    };
    if let Some(path) = &named
        && image.real(path).is_none()
    {
        return image.said(path, wanted);
    }
    let found = match &named {
        Some(path) => image.python(path)?,
        None => image.only(variable, wanted)?,
    };
    image.target(found, named, wanted)
}

/// The interpreters that an image has, without those of virtual environments.
pub fn there(tree: &Tree, platform: &Platform) -> Result<Vec<SafePath>, Failure> {
    Ok(Image { tree, platform }.all()?.into_iter().map(|python| python.path).collect())
}

/// An interpreter in the image.
#[derive(Clone, Debug)]
struct Python {
    /// The file itself.
    path: SafePath,
    facts: Facts,
    /// What it says of its version.
    version: Result<(String, bool), String>,
}

struct Image<'a> {
    tree: &'a Tree,
    platform: &'a Platform,
}

impl Image<'_> {
    /// The file that a path leads to; nothing when there is none.
    fn real(&self, path: &SafePath) -> Option<SafePath> {
        let real = self.tree.resolve(path, true).ok()?;
        matches!(self.tree.get(&real), Some(Node::Other)).then_some(real)
    }

    /// The interpreter that an existing environment was made with (`pyvenv.cfg`, PEP 405).
    fn of_venv(&self, venv: &SafePath) -> Result<Option<SafePath>, Failure> {
        let Ok(config) = venv.join(b"pyvenv.cfg") else { return Ok(None) };
        let Some(text) = self.tree.resolve(&config, true).ok().map(|path| self.tree.content(&path)) else {
            return Ok(None);
        };
        let Some(text) = text? else { return Ok(None) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let home = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "home");
        let Some(home) =
            home.and_then(|(_, home)| SafePath::parse(home.trim().trim_start_matches('/').as_bytes()).ok())
        else {
            return Ok(None);
        };
        // Its own link says which of several at that place.
        let own = venv.join(b"bin/python").ok().and_then(|path| self.real(&path));
        let there = ["python3", "python"].iter().filter_map(|name| home.join(name.as_bytes()).ok());
        Ok(own.or_else(|| there.filter(|path| self.real(path).is_some()).find_map(|path| self.real(&path))))
    }

    /// What the spec says of an interpreter that the image does not have. Without a C library only wheels for every
    /// platform suit.
    fn said(&self, path: &SafePath, wanted: &Wanted) -> Result<PythonTarget, Failure> {
        let Some(version) = &wanted.version else {
            let message = format!("the image has no interpreter at {path}");
            return Err(PythonError::new(Kind::Interpreter, message)
                .with_help(self.choose(&self.all()?))
                .into());
        };
        let threaded = named_minor(path).is_some_and(|(_, threaded)| threaded);
        PythonTarget::new(path.clone(), version, threaded, wanted.libc, self.platform)
            .map_err(|message| PythonError::new(Kind::Interpreter, message).into())
    }

    /// Every interpreter of the image, by its place.
    fn all(&self) -> Result<Vec<Python>, Failure> {
        let mut all = Vec::new();
        for path in self.tree.telling() {
            let is_bin = path.parent().is_some_and(|parent| parent.name() == b"bin");
            if !is_bin || named_minor(path).is_none() || self.in_venv(path) {
                continue;
            }
            let python = self.python(path)?;
            if python.facts.machine.is_some() {
                all.push(python);
            }
        }
        Ok(all)
    }

    fn in_venv(&self, path: &SafePath) -> bool {
        let config =
            path.parent().and_then(|bin| bin.parent()).and_then(|venv| venv.join(b"pyvenv.cfg").ok());
        config.is_some_and(|config| self.real(&config).is_some())
    }

    fn python(&self, path: &SafePath) -> Result<Python, Failure> {
        let real = self.real(path).unwrap_or_else(|| path.clone());
        let facts = self.tree.facts(&real)?.unwrap_or_default();
        let version = self.version(&real, path, &facts)?;
        Ok(Python { path: real, facts, version })
    }

    /// The whole version, and whether it is a build without lock; else why it cannot be told.
    fn version(
        &self,
        real: &SafePath,
        named: &SafePath,
        facts: &Facts,
    ) -> Result<Result<(String, bool), String>, Failure> {
        let of_tag = facts.soabi.as_deref().and_then(minor_of_tag);
        let Some((minor, threaded)) = of_tag.or_else(|| named_minor(real)).or_else(|| named_minor(named))
        else {
            return Ok(Err("nothing says its version".into()));
        };
        let of_minor = |texts: &[String]| -> BTreeSet<String> {
            let begin = format!("3.{minor}.");
            texts.iter().filter(|text| text.starts_with(&begin)).cloned().collect()
        };
        let mut found = of_minor(&facts.pythons);
        let mut endings = of_minor(&facts.endings);
        let mut without_lock = threaded;
        if found.is_empty() {
            for library in self.libraries(real, minor, threaded) {
                let facts = self.tree.facts(&library)?.unwrap_or_default();
                found.extend(of_minor(&facts.pythons));
                endings.extend(of_minor(&facts.endings));
                without_lock |= facts.soabi.as_deref().and_then(minor_of_tag).is_some_and(|(_, t)| t);
            }
        }
        if found.len() != 1 {
            found.extend(self.header(real, minor, threaded)?);
        }
        if found.is_empty() {
            found = endings;
        }
        let all: Vec<String> = found.into_iter().collect();
        Ok(match &all[..] {
            [only] => Ok((only.clone(), without_lock)),
            [] => Err(format!("nothing says which Python 3.{minor} it is")),
            _ => Err(format!("it says of itself to be {}", all.join(" and "))),
        })
    }

    /// The shared libraries that it may be: those of its own prefix, else all of that name.
    fn libraries(&self, interpreter: &SafePath, minor: u64, threaded: bool) -> Vec<SafePath> {
        let suffix = if threaded { "t" } else { "" };
        let name = format!("libpython3.{minor}{suffix}.so");
        let old = format!("libpython3.{minor}m.so");
        let is_library = |path: &&SafePath| {
            let file = path.name();
            file.starts_with(name.as_bytes()) || file.starts_with(old.as_bytes())
        };
        let all: Vec<SafePath> = self.tree.telling().filter(is_library).cloned().collect();
        let prefix = interpreter.parent().and_then(|bin| bin.parent()).unwrap_or_else(SafePath::root);
        let own: Vec<SafePath> = all.iter().filter(|path| path.starts_with(&prefix)).cloned().collect();
        if own.is_empty() { all } else { own }
    }

    /// What the header of its own prefix says.
    fn header(&self, interpreter: &SafePath, minor: u64, threaded: bool) -> Result<Option<String>, Failure> {
        let suffix = if threaded { "t" } else { "" };
        let prefix = interpreter.parent().and_then(|bin| bin.parent()).unwrap_or_else(SafePath::root);
        let path = prefix.join(format!("include/python3.{minor}{suffix}/patchlevel.h").as_bytes());
        let Some(path) = path.ok().and_then(|path| self.real(&path)) else { return Ok(None) };
        let Some(text) = self.tree.content(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("#define PY_VERSION"));
        let begin = format!("3.{minor}.");
        Ok(line.and_then(|rest| rest.split('"').nth(1)).filter(|v| v.starts_with(&begin)).map(str::to_owned))
    }

    /// The interpreter that is meant when the spec names none.
    fn only(&self, variable: &dyn Fn(&str) -> Option<String>, wanted: &Wanted) -> Result<Python, Failure> {
        let all = self.all()?;
        let mut folders: BTreeMap<SafePath, Vec<Python>> = BTreeMap::new();
        for python in &all {
            let folder = python.path.parent().unwrap_or_else(SafePath::root);
            folders.entry(folder).or_default().push(python.clone());
        }
        // In each folder, the one that `python3` leads to.
        let mut meant: Vec<Python> = Vec::new();
        for (folder, pythons) in folders {
            let default = folder.join(b"python3").ok().and_then(|path| self.real(&path));
            match pythons.iter().find(|python| Some(&python.path) == default.as_ref()) {
                Some(python) => meant.push(python.clone()),
                None => meant.extend(pythons),
            }
        }
        let number = |python: &Python| python.version.as_ref().ok().map(|(version, _)| version.clone());
        if meant.len() > 1 {
            // Docker's Python images say which of theirs they are about; the spec may as well.
            let wish = wanted.version.clone().or_else(|| variable("PYTHON_VERSION"));
            let fitting = |python: &&Python| wish.is_some() && number(python) == wish;
            if let [only] = meant.iter().filter(fitting).collect::<Vec<_>>()[..] {
                return Ok(only.clone());
            }
        }
        match &meant[..] {
            [only] => Ok(only.clone()),
            [] => Err(PythonError::new(Kind::Interpreter, "there is no Python below this layer")
                .with_help(
                    "choose a `base` with a Python, or put one into an earlier layer; for one that is not in the image, say \
                     `interpreter`, `python-version` and `libc`",
                )
                .into()),
            _ => Err(PythonError::new(Kind::Interpreter, "there is more than one Python below this layer")
                .with_help(self.choose(&meant))
                .into()),
        }
    }

    fn choose(&self, all: &[Python]) -> String {
        let shown = |python: &Python| match &python.version {
            Ok((version, _)) => format!("`interpreter = \"{}\"` ({version})", python.path),
            Err(_) => format!("`interpreter = \"{}\"`", python.path),
        };
        match all {
            [] => "there is none; for one that is not in the image, say `python-version`, and `libc` for wheels of one platform".into(),
            _ => format!("say {}", all.iter().map(shown).collect::<Vec<_>>().join(" or ")),
        }
    }

    fn target(
        &self,
        python: Python,
        named: Option<SafePath>,
        wanted: &Wanted,
    ) -> Result<PythonTarget, Failure> {
        let path = named.unwrap_or_else(|| python.path.clone());
        let error = |message: String| PythonError::new(Kind::Interpreter, message);
        let Some(machine) = python.facts.machine else {
            let message = format!("{path} is no program that can be read: a script, or no Python");
            return Err(error(message).with_help(self.choose(&self.all()?)).into());
        };
        if let Some(expected) = elf_machine(self.platform).filter(|expected| *expected != machine) {
            let message = format!(
                "{path} is for another processor than {} (ELF machine {machine}, expected {expected})",
                self.platform
            );
            return Err(error(message).with_help("look at `base` and `platforms`").into());
        }
        let (version, threaded) = match (python.version, &wanted.version) {
            (Ok((found, threaded)), None) => (found, threaded),
            (Ok((found, threaded)), Some(said)) if found == *said => (found, threaded),
            (Ok((found, _)), Some(said)) => {
                let message = format!("{path} is Python {found}, and `python-version` says {said}");
                return Err(error(message).with_help("leave `python-version` out").into());
            }
            (Err(_), Some(said)) => {
                let minor = named_minor(&python.path);
                (said.clone(), minor.is_some_and(|(_, threaded)| threaded))
            }
            (Err(why), None) => {
                let help = "say `python-version`: what `python3 -V` prints in the image";
                return Err(error(format!("the version of {path} cannot be told: {why}"))
                    .with_help(help)
                    .into());
            }
        };
        let libc = match (self.libc(&python.facts)?, wanted.libc) {
            (Ok(found), None) => found,
            (Ok(found), Some(said)) if found == said => found,
            (Ok(found), Some(said)) => {
                let message = format!("{path} runs on {found}, and `libc` says {said}");
                return Err(error(message).with_help("leave `libc` out").into());
            }
            (Err(_), Some(said)) => said,
            (Err(why), None) => {
                let message = format!("the C library of {path} cannot be told: {why}");
                let help = "say `libc`, such as \"glibc-2.36\" or \"musl-1.2\"";
                return Err(error(message).with_help(help).into());
            }
        };
        PythonTarget::new(path, &version, threaded, Some(libc), self.platform)
            .map_err(|message| error(message).into())
    }

    /// The C library that a program is loaded with; else why it cannot be told.
    fn libc(&self, facts: &Facts) -> Result<Result<Libc, String>, Failure> {
        let Some(loader) = &facts.loader else { return Ok(Err("it names no dynamic loader".into())) };
        let path = SafePath::parse(loader.trim_start_matches('/').as_bytes()).ok();
        let Some(real) = path.and_then(|path| self.real(&path)) else {
            return Ok(Err(format!("its dynamic loader {loader} is not in the image")));
        };
        if loader.contains("/ld-musl-") {
            let number = self.tree.facts(&real)?.and_then(|facts| facts.musl);
            let libc = number.and_then(|number| Libc::parse(&format!("musl-{number}")));
            return Ok(libc.ok_or_else(|| format!("{loader} does not say its version")));
        }
        // The loader and the library are of one build; those of other machines lie elsewhere.
        let mut near = BTreeSet::new();
        let mut all = BTreeSet::new();
        for path in self.tree.telling() {
            let facts = self.tree.facts(path)?.unwrap_or_default();
            if let Some(libc) = facts.glibc.and_then(|number| Libc::parse(&format!("glibc-{number}"))) {
                all.insert(libc.to_string());
                if path.parent() == real.parent() {
                    near.insert(libc.to_string());
                }
            }
        }
        let found = if near.is_empty() { all } else { near };
        let found: Vec<&String> = found.iter().collect();
        Ok(match found[..] {
            [only] => Libc::parse(only).ok_or_else(|| format!("{only} is not known")),
            [] => Err("no libc.so.6 in the image says its version".into()),
            _ => Err("the image has several".into()),
        })
    }
}

/// The second number of the version that a file is named after, and whether it is a build without lock.
fn named_minor(path: &SafePath) -> Option<(u64, bool)> {
    std::str::from_utf8(path.name()).ok().and_then(python_minor)
}

/// Of `cpython-313t-x86_64-linux-gnu`, 13 and true.
fn minor_of_tag(tag: &str) -> Option<(u64, bool)> {
    let number = tag.strip_prefix("cpython-3")?.split('-').next()?;
    let (number, threaded) = number.strip_suffix('t').map_or((number, false), |number| (number, true));
    number.strip_suffix('m').unwrap_or(number).parse().ok().map(|minor| (minor, threaded))
}

/// `e_machine` of programs for a platform.
fn elf_machine(platform: &Platform) -> Option<u16> {
    Some(match platform.architecture() {
        "amd64" => 62,
        "arm64" => 183,
        "arm" => 40,
        "386" => 3,
        "ppc64" | "ppc64le" => 21,
        "s390x" => 22,
        "riscv64" => 243,
        "loong64" => 258,
        "mips" | "mipsle" | "mips64" | "mips64le" => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
