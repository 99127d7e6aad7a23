//! One `[[package]]` of `uv.lock`.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::super::document::{At, Span, Table, best_hash};
use super::super::error::{Kind, PythonError};
use super::super::filename::WheelName;
use super::super::marker::Marker;
use super::super::name::Name;
use super::super::plan::{Candidate, Location, beside, last_part};
use super::super::pylock::url;
use super::super::source::{Unbuilt, no_credentials};
use super::super::version::Version;

/// A package with its place; what it holds is read when it is needed.
#[derive(Clone, Debug)]
pub(super) struct Package<'a> {
    pub(super) table: Table<'a>,
    pub(super) name: Name,
    /// Nothing for a project that makes its version up when it is built.
    pub(super) version: Option<Version>,
    pub(super) source: Source<'a>,
    /// Where its name is written.
    pub(super) span: Span,
    extras: Keys<'a>,
    groups: Keys<'a>,
}

/// The keys of a table by the names that they are, found once.
type Keys<'a> = OnceCell<BTreeMap<Name, Vec<&'a str>>>;

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// An index, or a directory that serves as one.
    Registry(&'a str),
    /// A commit.
    Git(&'a str),
    /// A file on the network.
    Url(&'a str),
    /// A file.
    Path(&'a str),
    /// A directory that is built.
    Directory(&'a str),
    /// A directory that is linked to in a development environment.
    Editable(&'a str),
    /// A directory that is never built.
    Virtual(&'a str),
}

impl<'a> Source<'a> {
    fn read(table: &Table<'a>) -> Result<Source<'a>, PythonError> {
        type Make<'a> = fn(&'a str) -> Source<'a>;
        let kinds: [(&str, Make<'a>); 7] = [
            ("registry", Source::Registry),
            ("git", Source::Git),
            ("url", Source::Url),
            ("path", Source::Path),
            ("directory", Source::Directory),
            ("editable", Source::Editable),
            ("virtual", Source::Virtual),
        ];
        for (key, make) in kinds {
            if let Some(At { value, .. }) = table.text(key)? {
                return Ok(make(value));
            }
        }
        let known: Vec<&str> = kinds.iter().map(|(key, _)| *key).collect();
        Err(table
            .error(Kind::Lock, "this source is of no known kind")
            .with_help(format!("known are {}", known.join(", "))))
    }

    /// The directory of a project; `.` is the one beside the lock file.
    pub(super) fn directory(&self) -> Option<&'a str> {
        match self {
            Source::Directory(path) | Source::Editable(path) | Source::Virtual(path) => Some(path),
            _ => None,
        }
    }
}

/// An edge of the graph.
#[derive(Clone, Debug)]
pub(super) struct Dependency<'a> {
    pub(super) name: Name,
    pub(super) version: Option<Version>,
    pub(super) source: Option<Source<'a>>,
    pub(super) extras: Vec<Name>,
    pub(super) marker: Option<At<Marker>>,
    pub(super) span: Span,
}

impl<'a> Dependency<'a> {
    pub(super) fn read(table: &Table<'a>) -> Result<Dependency<'a>, PythonError> {
        // Edges say `extra`; requirements of the manifest say `extras`.
        let mut extras: Vec<Name> = table.names("extra")?.into_iter().map(|at| at.value).collect();
        extras.extend(table.names("extras")?.into_iter().map(|at| at.value));
        Ok(Dependency {
            name: table.required("name", table.name("name")?)?.value,
            version: table.version("version")?.map(|at| at.value),
            source: table.table("source")?.map(|source| Source::read(&source)).transpose()?,
            extras,
            marker: table.marker("marker")?,
            span: table.span.clone(),
        })
    }
}

impl<'a> Package<'a> {
    pub(super) fn read(table: Table<'a>) -> Result<Package<'a>, PythonError> {
        let At { value: name, span } = table.required("name", table.name("name")?)?;
        let source = table.required("source", table.table("source")?)?;
        let source = Source::read(&source)?;
        let version = table.version("version")?.map(|at| at.value);
        let (extras, groups) = Default::default();
        Ok(Package { table, name, version, source, span, extras, groups })
    }

    /// What it needs by itself, or for one of its extras.
    pub(super) fn dependencies(&self, extra: Option<&Name>) -> Result<Vec<Dependency<'a>>, PythonError> {
        match extra {
            None => self.table.tables("dependencies")?.iter().map(Dependency::read).collect(),
            Some(extra) => edges(self.table.table("optional-dependencies")?.as_ref(), &self.extras, extra),
        }
    }

    /// What one of its groups needs.
    pub(super) fn group(&self, group: &Name) -> Result<Vec<Dependency<'a>>, PythonError> {
        edges(self.groups()?.as_ref(), &self.groups, group)
    }

    fn groups(&self) -> Result<Option<Table<'a>>, PythonError> {
        self.table.table("dev-dependencies")
    }

    /// Its extras, also those that need nothing.
    pub(super) fn optional_names(&self) -> Result<Vec<Name>, PythonError> {
        let mut names = names_of(self.table.table("optional-dependencies")?.as_ref())?;
        if let Some(metadata) = self.table.table("metadata")? {
            names.extend(metadata.names("provides-extras")?.into_iter().map(|at| at.value));
        }
        Ok(names)
    }

    /// Its groups, also those that need nothing.
    pub(super) fn group_names(&self) -> Result<Vec<Name>, PythonError> {
        let mut names = names_of(self.groups()?.as_ref())?;
        if let Some(metadata) = self.table.table("metadata")? {
            names.extend(names_of(metadata.table("requires-dev")?.as_ref())?);
        }
        Ok(names)
    }

    /// The wheels that the lock file names for it.
    pub(super) fn wheels(&self) -> Result<Vec<Candidate>, PythonError> {
        let entries = self.table.tables("wheels")?;
        entries.iter().map(|entry| self.candidate(entry)).collect()
    }

    fn candidate(&self, entry: &Table<'a>) -> Result<Candidate, PythonError> {
        let document = entry.document;
        let wrong = |message: String| document.error(Kind::Lock, &entry.span, message);
        let (url_text, path) =
            (entry.text("url")?.map(|at| at.value), entry.text("path")?.map(|at| at.value));
        let filename = entry.text("filename")?.map(|at| at.value.to_owned());
        let name = filename
            .or_else(|| path.or(url_text).map(last_part))
            .ok_or_else(|| wrong("a wheel has none of `url`, `path` and `filename`".into()))?;
        let file =
            WheelName::parse(&name).map_err(|why| wrong(format!("{name:?} is no name of a wheel: {why}")))?;
        let other = file.name != self.name
            || self.version.as_ref().is_some_and(|version| !same_release(version, &file.version));
        if other {
            let version = self.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            return Err(wrong(format!("{file} is no wheel of {}{version}", self.name)));
        }
        let local = |path: String| {
            beside(document.file(), &path).map(Location::Path).ok_or_else(|| {
                wrong(format!("{file} is not in the project: {path:?}"))
                    .with_help("copy it into the project directory, or name a directory above both with -C")
            })
        };
        let remote = |text: &str| {
            url(text).map(Location::Url).map_err(|why| wrong(format!("the URL of {file} is none: {why}")))
        };
        let location = match (self.source, url_text, path) {
            (Source::Path(path), ..) => local(path.to_owned())?,
            (_, Some(text), _) => remote(text)?,
            // An index that is a directory: paths are relative to it.
            (Source::Registry(index), _, Some(path)) if !index.contains("://") => {
                local(format!("{index}/{path}"))?
            }
            (_, _, Some(path)) => local(path.to_owned())?,
            (Source::Url(text), ..) => remote(text)?,
            _ => return Err(wrong(format!("the lock file does not say where {file} is"))),
        };
        let hash = entry.text("hash")?.ok_or_else(|| {
            document
                .error(Kind::Hash, &entry.span, format!("{file} has no hash in the lock file"))
                .with_help("an index that gives no hashes cannot be locked; use another index")
        })?;
        let (algorithm, value) = hash.value.split_once(':').unwrap_or(("", hash.value));
        let digest = best_hash([(algorithm, value)])
            .map_err(|why| {
                document.error(Kind::Lock, &hash.span, format!("a hash is malformed: expected {why}"))
            })?
            .ok_or_else(|| {
                document.error(Kind::Hash, &hash.span, format!("{file} has neither a sha256 nor a sha512"))
            })?;
        let size = entry.integer("size")?.map(|at| at.value);
        let direct = matches!(self.source, Source::Path(_) | Source::Url(_));
        Ok(Candidate { file, digest, size, location, direct, span: entry.span.clone() })
    }
}

/// uv takes wheels with a local version for the public one that is locked.
fn same_release(locked: &Version, file: &Version) -> bool {
    locked == file || locked.local().is_empty() && *locked == file.clone().without_local()
}

fn edges<'a>(
    table: Option<&Table<'a>>,
    keys: &Keys<'a>,
    name: &Name,
) -> Result<Vec<Dependency<'a>>, PythonError> {
    let Some(table) = table else { return Ok(Vec::new()) };
    let keys = keys.get_or_init(|| {
        let mut keys: BTreeMap<Name, Vec<&str>> = BTreeMap::new();
        for (key, _) in table.keys() {
            if let Some(name) = Name::parse(key) {
                keys.entry(name).or_default().push(key);
            }
        }
        keys
    });
    let mut all = Vec::new();
    for key in keys.get(name).into_iter().flatten() {
        for edge in table.tables(key)? {
            all.push(Dependency::read(&edge)?);
        }
    }
    Ok(all)
}

/// The keys of a table as names.
pub(super) fn names_of(table: Option<&Table<'_>>) -> Result<Vec<Name>, PythonError> {
    let Some(table) = table else { return Ok(Vec::new()) };
    let name = |(key, span)| {
        Name::parse(key)
            .ok_or_else(|| table.document.error(Kind::Lock, &span, "this is no name of an extra or a group"))
    };
    table.keys().map(name).collect()
}

/// `https://host/path?rev=main&subdirectory=x#COMMIT`.
pub(super) fn unbuilt_git(text: &str) -> Unbuilt {
    let (address, commit) = text.rsplit_once('#').unwrap_or((text, ""));
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let subdirectory = query.split('&').find_map(|pair| pair.strip_prefix("subdirectory="));
    Unbuilt::Vcs {
        kind: "git".into(),
        url: no_credentials(address),
        commit: commit.into(),
        subdirectory: subdirectory.map(super::super::plan::percent_decoded),
    }
}
