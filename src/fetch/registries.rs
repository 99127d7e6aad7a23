//! Where images are read from, and whether at all: `registries.conf` of podman, skopeo and buildah (containers-registries.conf(5)).
//!
//! Of each `[[registry]]` its `prefix`, `location`, `insecure`, `blocked` and mirrors are read. Short names and the registries that they are
//! looked for in are not: here the host is always said.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::diagnostic::{Diagnostic, Exit};
use crate::limits;

/// Where the files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// Of these the first that is there counts.
    pub files: Vec<PathBuf>,
    /// The user named it, so it must be there.
    pub named: bool,
    /// Directories whose `*.conf` count too, what comes later before what comes earlier.
    pub directories: Vec<PathBuf>,
}

/// What a file says about the name of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `HOST/NAME`, after what the file says of it.
    pub name: String,
    /// It may be spoken to without encryption.
    pub insecure: bool,
    /// The file, when it forbids to use it.
    pub blocked: Option<PathBuf>,
    /// Asked first, when it is read.
    pub mirrors: Vec<Mirror>,
}

/// A mirror of a registry, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `HOST/NAME`
    pub name: String,
    /// It may be spoken to without encryption.
    pub insecure: bool,
    /// It is asked what a tag is.
    pub tags: bool,
    /// It is asked for what has a digest.
    pub digests: bool,
}

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Diagnostic for RegistriesError {
    fn code(&self) -> &'static str {
        "E-REGISTRIES-CONF"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("see containers-registries.conf(5); CONTAINERS_REGISTRIES_CONF names another file".into())
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror-by-digest-only")]
    by_digest: bool,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
}

#[derive(Deserialize)]
struct MirrorEntry {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull: String,
}

impl Registries {
    /// What is said of `HOST/NAME`: by the entry with the longest prefix.
    pub fn place(&self, name: &str) -> Result<Place, RegistriesError> {
        let mut best: Option<(usize, Entry, PathBuf)> = None;
        for path in self.all()? {
            let Some(document) = read(&path, self.named && self.files.first() == Some(&path))? else {
                continue;
            };
            for entry in document.registry {
                // Of equals what comes later counts.
                if let Some(length) = fit(&entry, name)
                    && best.as_ref().is_none_or(|(known, ..)| length >= *known)
                {
                    best = Some((length, entry, path.clone()));
                }
            }
        }
        let Some((_, entry, path)) = best else {
            return Ok(Place { name: name.to_owned(), ..Place::default() });
        };
        let at = |location: &str| match (location, rest(&entry, name)) {
            ("", _) | (_, None) => name.to_owned(),
            (location, Some(rest)) => format!("{}{rest}", location.trim_end_matches('/')),
        };
        let mirror = |mirror: &MirrorEntry| {
            let (tags, digests) = match (mirror.pull.as_str(), entry.by_digest) {
                ("" | "all", false) => (true, true),
                ("" | "digest-only", _) => (false, true),
                ("tag-only", false) => (true, false),
                (other, _) => {
                    let why = format!("pull-from-mirror is {other:?} for the mirror {:?}", mirror.location);
                    return Err(RegistriesError::Malformed { path: path.clone(), why });
                }
            };
            if mirror.location.is_empty() {
                let why = "a mirror without location".to_owned();
                return Err(RegistriesError::Malformed { path: path.clone(), why });
            }
            Ok(Mirror { name: at(&mirror.location), insecure: mirror.insecure, tags, digests })
        };
        Ok(Place {
            name: at(&entry.location),
            insecure: entry.insecure,
            blocked: entry.blocked.then(|| path.clone()),
            mirrors: entry.mirror.iter().map(mirror).collect::<Result<_, _>>()?,
        })
    }

    /// The files that count, in their order.
    fn all(&self) -> Result<Vec<PathBuf>, RegistriesError> {
        let there = |path: &&PathBuf| self.named || path.is_file();
        let mut all: Vec<PathBuf> = self.files.iter().find(there).cloned().into_iter().collect();
        for directory in &self.directories {
            let failed = |source| RegistriesError::Unreadable { path: directory.clone(), source };
            let entries = match fs::read_dir(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            let mut found = Vec::new();
            for entry in entries.take(limits::REGISTRIES_FILES) {
                found.push(entry.map_err(failed)?.path());
            }
            found.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            found.sort();
            all.extend(found);
        }
        Ok(all)
    }
}

/// Reads a file; nothing when it is not there and need not be.
fn read(path: &Path, must: bool) -> Result<Option<Document>, RegistriesError> {
    let failed = |source| RegistriesError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(limits::REGISTRIES_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    let malformed = |why: String| RegistriesError::Malformed { path: path.to_owned(), why };
    if text.len() as u64 > limits::REGISTRIES_BYTES {
        return Err(malformed(format!("it is larger than {} bytes", limits::REGISTRIES_BYTES)));
    }
    let document: Document = toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
    if document.registry.iter().any(|entry| entry.prefix.is_empty() && entry.location.is_empty()) {
        return Err(malformed("a [[registry]] with neither prefix nor location".into()));
    }
    Ok(Some(document))
}

/// How much of a name an entry is about; nothing when it is about others.
fn fit(entry: &Entry, name: &str) -> Option<usize> {
    let prefix = prefix(entry);
    match prefix.strip_prefix('*') {
        // `*.example.org`: hosts below it.
        Some(domain) => {
            let host = name.split('/').next().unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            (domain.starts_with('.') && host.len() > domain.len() && host.ends_with(domain))
                .then_some(prefix.len())
        }
        None => rest(entry, name).map(|_| prefix.len()),
    }
}

/// What follows the prefix in a name, with the slash; nothing for other names and for `*`.
fn rest<'a>(entry: &Entry, name: &'a str) -> Option<&'a str> {
    let rest = name.strip_prefix(prefix(entry))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn prefix(entry: &Entry) -> &str {
    let prefix = if entry.prefix.is_empty() { &entry.location } else { &entry.prefix };
    prefix.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, name: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        fs::write(&path, text).unwrap();
        let mut place = Registries { files: vec![path], ..Registries::default() }.place(name).unwrap();
        place.blocked = place.blocked.map(|_| PathBuf::new());
        place
    }

    #[test]
    fn the_longest_prefix_counts() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "r.example"
            [[registry.mirror]]
            location = "m.example:5000/r"
            [[registry]]
            prefix = "r.example/a"
            location = "other.example/x/y"
            insecure = true
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.example/a"
            [[registry]]
            prefix = "r.example/ab"
            blocked = true
            [[registry]]
            prefix = "*.corp.example"
            [[registry.mirror]]
            location = "m.example"
            insecure = true
            pull-from-mirror = "tag-only"
        "#;
        let mirror =
            |name: &str, insecure, tags, digests| Mirror { name: name.into(), insecure, tags, digests };
        for (name, expected) in [
            (
                "r.example/b/c",
                Place {
                    name: "r.example/b/c".into(),
                    mirrors: vec![mirror("m.example:5000/r/b/c", false, true, true)],
                    ..Place::default()
                },
            ),
            (
                "r.example/a/b",
                Place {
                    name: "other.example/x/y/b".into(),
                    insecure: true,
                    blocked: None,
                    mirrors: vec![mirror("m.example/a/b", false, false, true)],
                },
            ),
            (
                "r.example/ab",
                Place { name: "r.example/ab".into(), blocked: Some(PathBuf::new()), ..Place::default() },
            ),
            ("r.example:5000/a", Place { name: "r.example:5000/a".into(), ..Place::default() }),
            ("other.example/a", Place { name: "other.example/a".into(), ..Place::default() }),
            ("corp.example/a", Place { name: "corp.example/a".into(), ..Place::default() }),
        ] {
            assert_eq!(place(text, name), expected, "{name}");
        }
        assert_eq!(
            place(text, "x.corp.example:1/a").mirrors,
            [mirror("x.corp.example:1/a", true, true, false)]
        );
    }

    #[test]
    fn later_files_count_before_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let entry =
            |location: &str| format!("[[registry]]\nprefix = \"r.example\"\nlocation = \"{location}\"\n");
        for (name, location) in [
            ("main", "a.example"),
            ("d/2.conf", "b.example"),
            ("d/1.conf", "c.example"),
            ("d/3", "d.example"),
        ] {
            fs::create_dir_all(dir.path().join("d")).unwrap();
            fs::write(dir.path().join(name), entry(location)).unwrap();
        }
        let registries = Registries {
            files: vec![dir.path().join("none"), dir.path().join("main")],
            named: false,
            directories: vec![dir.path().join("absent"), dir.path().join("d")],
        };
        assert_eq!(registries.place("r.example/x").unwrap().name, "b.example/x");
    }

    #[test]
    fn damaged_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        for text in [
            "[[registry]",
            "[[registry]]\ninsecure = true",
            "[[registry]]\nlocation = 1",
            "[[registry]]\nlocation = \"r\"\n[[registry.mirror]]\nlocation = \"\"",
            "[[registry]]\nlocation = \"r\"\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"never\"",
            "[[registry]]\nlocation = \"r\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m\"\npull-from-mirror = \"tag-only\"",
        ] {
            fs::write(&path, text).unwrap();
            let registries = Registries { files: vec![path.clone()], ..Registries::default() };
            assert!(matches!(registries.place("r/x"), Err(RegistriesError::Malformed { .. })), "{text}");
        }
        let named = Registries { files: vec![dir.path().join("none")], named: true, directories: vec![] };
        assert!(matches!(named.place("r/x"), Err(RegistriesError::Unreadable { .. })));
    }
}
