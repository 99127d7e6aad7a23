//! What a project says of how it is built: `[build-system]` of `pyproject.toml` (PEP 517, 518).

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::error::WheelError;
use crate::inputs::python::requirement::Requirement;
use crate::limits;

/// How a project is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildSystem {
    /// What the backend needs.
    pub(super) requires: Vec<String>,
    /// `module:object`.
    pub(super) backend: String,
    /// Where in the project the backend itself is, when it is there.
    pub(super) path: Vec<String>,
}

impl BuildSystem {
    /// Of a source tree; without `[build-system]` it is what the specification says.
    pub(super) fn read(source: &Path) -> Result<BuildSystem, WheelError> {
        let path = source.join("pyproject.toml");
        let wrong = |message: String| WheelError::Project { file: path.clone(), message };
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(limits::SPEC_BYTES + 1).read_to_string(&mut text)) {
            Ok(_) if text.len() as u64 > limits::SPEC_BYTES => return Err(wrong("it is too large".into())),
            Ok(_) => {}
            Err(_) if !source.is_dir() => {
                return Err(WheelError::Directory(source.to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match source.join("setup.py").is_file() {
                    true => Ok(BuildSystem::default()),
                    false => Err(wrong("it is not there, and there is no setup.py".into())),
                };
            }
            Err(error) => return Err(wrong(format!("it cannot be read: {error}"))),
        }
        BuildSystem::parse(&text).map_err(wrong)
    }

    /// Refuses an output directory that the backend itself is in: what is in there is no source.
    pub(super) fn apart(&self, source: &Path, output: &Path) -> Result<(), WheelError> {
        let (Ok(tree), Ok(real)) = (source.canonicalize(), output.canonicalize()) else { return Ok(()) };
        // What is written into the tree itself lies beside the rest of it.
        if tree == real {
            return Ok(());
        }
        let inside = |path: &&String| {
            source.join(path).canonicalize().is_ok_and(|path| path != tree && path.starts_with(&real))
        };
        match self.path.iter().find(inside) {
            Some(path) => Err(WheelError::Inside { output: output.to_owned(), path: path.clone() }),
            None => Ok(()),
        }
    }

    fn parse(text: &str) -> Result<BuildSystem, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            format!("not TOML: {}", error.message().lines().next().unwrap_or_default())
        })?;
        let Some(system) = table.get("build-system") else { return Ok(BuildSystem::default()) };
        let system = system.as_table().ok_or("build-system is no table")?;
        let texts = |key: &str| match system.get(key) {
            None => Ok(None),
            Some(value) => {
                let list = value.as_array().and_then(|list| {
                    list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
                });
                list.map(Some).ok_or_else(|| format!("build-system.{key} is no array of strings"))
            }
        };
        let requires = texts("requires")?.ok_or("build-system.requires is missing")?;
        for requirement in &requires {
            check(requirement)?;
        }
        let backend = match system.get("build-backend") {
            None => BuildSystem::default().backend,
            Some(value) => value.as_str().ok_or("build-system.build-backend is no string")?.to_owned(),
        };
        let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':');
        if backend.is_empty() || !backend.chars().all(name) {
            return Err(format!(
                "build-system.build-backend is {backend:?}, expected MODULE or MODULE:OBJECT"
            ));
        }
        let path = texts("backend-path")?.unwrap_or_default();
        if let Some(out) =
            path.iter().find(|path| path.starts_with('/') || path.split('/').any(|part| part == ".."))
        {
            return Err(format!("build-system.backend-path holds {out:?}, which is not in the project"));
        }
        Ok(BuildSystem { requires, backend, path })
    }
}

impl Default for BuildSystem {
    fn default() -> BuildSystem {
        BuildSystem {
            requires: vec!["setuptools>=40.8.0".into()],
            backend: "setuptools.build_meta:__legacy__".into(),
            path: Vec::new(),
        }
    }
}

/// Refuses what is no requirement.
pub(super) fn check(requirement: &str) -> Result<(), String> {
    match Requirement::parse(requirement) {
        Ok(_) if !requirement.contains('\n') => Ok(()),
        Ok(_) => Err(format!("{requirement:?} is no requirement: it has several lines")),
        Err(why) => Err(format!("{requirement:?} is no requirement: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems() {
        let text = "[build-system]\nrequires = [\"hatchling>=1\"]\nbuild-backend = \"hatchling.build\"\nbackend-path = [\".\"]\n";
        let system = BuildSystem::parse(text).unwrap();
        assert_eq!(
            (&*system.backend, &system.requires[..]),
            ("hatchling.build", &["hatchling>=1".to_owned()][..])
        );
        assert_eq!(BuildSystem::parse("[project]\n").unwrap(), BuildSystem::default());
        for (text, why) in [
            ("[", "not TOML"),
            ("build-system = 1", "no table"),
            ("[build-system]\n", "requires is missing"),
            ("[build-system]\nrequires = \"x\"", "no array of strings"),
            ("[build-system]\nrequires = [\"-r x\"]", "is no requirement"),
            ("[build-system]\nrequires = []\nbuild-backend = \"a b\"", "expected MODULE"),
            (
                "[build-system]\nrequires = []\nbuild-backend = \"a\"\nbackend-path = [\"../x\"]",
                "not in the project",
            ),
        ] {
            let found = BuildSystem::parse(text).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }
}
