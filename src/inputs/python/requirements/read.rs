//! Requirements files, and those that they name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;

use super::super::document::{Document, Span, best_hash};
use super::super::error::{Kind, PythonError};
use super::super::filename::WheelName;
use super::super::name::Name;
use super::super::plan::{Location, beside, last_part};
use super::super::pylock::url;
use super::super::requirement::{Requirement, Source};
use super::super::source::{Unbuilt, no_credentials};
use super::line::{Line, lines};
use crate::diagnostic::shown::Short;
use crate::diagnostic::{Failure, Place, Secret};
use crate::limits;
use crate::url::Url;

/// How deep requirements files may name each other.
const DEPTH: usize = 16;

/// What requirements files say together.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// What is to be installed.
    pub(super) entries: Vec<Entry>,
    /// What versions are allowed, without asking for any.
    pub(super) constraints: Vec<Entry>,
    /// Where wheels are looked for.
    pub indexes: Indexes,
    /// What must not be a wheel.
    pub(super) no_binary: Vec<(String, Place)>,
    /// What is worth saying and no error.
    pub(super) notes: Vec<String>,
    /// The values of variables in the files.
    pub(super) secrets: BTreeSet<Secret>,
}

/// Where wheels are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes {
    /// The index; nothing when none is named.
    pub main: Option<Url>,
    /// Further indexes.
    pub extra: Vec<Url>,
    /// Pages with links, and folders of the project.
    pub find_links: Vec<Location>,
    /// No index is asked at all.
    pub none: bool,
}

/// A requirement of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) what: What,
    /// What its bytes may have.
    pub(super) hashes: Vec<Digest>,
    pub(super) place: Place,
}

/// What a requirement means.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Something of an index.
    Index(Requirement),
    /// A wheel at a known place.
    Wheel {
        file: WheelName,
        location: Location,
        /// The requirement, when it was written with a name.
        requirement: Option<Requirement>,
        /// The hash in the URL.
        hash: Option<Digest>,
    },
    /// Something that is no wheel.
    Unbuilt(Unbuilt, Option<Requirement>),
}

/// Reads a file and those that it names. `open` gives a file of the project.
pub fn read(
    document: &Document,
    variables: &dyn Fn(&str) -> Option<String>,
    open: &mut dyn FnMut(&Path) -> Result<Document, Failure>,
) -> Result<Requirements, Failure> {
    let mut reader =
        Reader { variables, open, found: Requirements::default(), seen: BTreeSet::new(), bytes: 0 };
    reader.seen.insert((document.file().to_owned(), false));
    match reader.file(document, false, 0) {
        Ok(()) => Ok(reader.found),
        Err(failure) => Err(failure.hiding(&reader.found.secrets)),
    }
}

struct Reader<'a> {
    variables: &'a dyn Fn(&str) -> Option<String>,
    open: &'a mut dyn FnMut(&Path) -> Result<Document, Failure>,
    found: Requirements,
    seen: BTreeSet<(PathBuf, bool)>,
    /// How much the files have that were named.
    bytes: u64,
}

impl Reader<'_> {
    fn file(&mut self, document: &Document, constraints: bool, depth: usize) -> Result<(), Failure> {
        let found = lines(document, self.variables)?;
        self.found.secrets.extend(found.secrets);
        for line in found.lines {
            if !line.argument.is_empty() {
                let entry = entry(document, &line).map_err(|error| line.guarded(document, error))?;
                match constraints {
                    true => self.found.constraints.push(entry),
                    false => self.found.entries.push(entry),
                }
                if self.found.entries.len() + self.found.constraints.len() > limits::PYTHON_PACKAGES {
                    let message = format!("there are more than {} requirements", limits::PYTHON_PACKAGES);
                    return Err(document.error(Kind::Lock, &line.span, message).into());
                }
                continue;
            }
            for (name, value) in &line.options {
                self.option(
                    document,
                    &line,
                    (name, value.as_deref().unwrap_or_default()),
                    (constraints, depth),
                )?;
            }
        }
        Ok(())
    }

    fn option(
        &mut self,
        document: &Document,
        line: &Line,
        (name, value): (&str, &str),
        (constraints, depth): (bool, usize),
    ) -> Result<(), Failure> {
        let span = &line.span;
        let beside = |value: &str| {
            let found = beside(document.file(), value);
            found.ok_or_else(|| line.guarded(document, outside(document, span, value)))
        };
        let wrong = |kind, message: String| document.error(kind, span, message);
        let index = |value: &str| {
            url(value).map_err(|why| wrong(Kind::Lock, format!("the URL of {name} is none: {why}")))
        };
        match name {
            "--requirement" | "--constraint" => {
                if depth == DEPTH {
                    let message = format!("files name each other more than {DEPTH} deep");
                    return Err(wrong(Kind::Lock, message).into());
                }
                if value.contains("://") {
                    let help = "download it into the project and name the file";
                    return Err(wrong(Kind::Lock, format!("{name} names a file on the network"))
                        .with_help(help)
                        .into());
                }
                let path = beside(value)?;
                let constraints = constraints || name == "--constraint";
                // A file that is named again says nothing new.
                if !self.seen.insert((path.clone(), constraints)) {
                    return Ok(());
                }
                if self.seen.len() > limits::PYTHON_FILES {
                    let message = format!("there are more than {} files", limits::PYTHON_FILES);
                    return Err(wrong(Kind::Lock, message).into());
                }
                let other = (self.open)(&path).map_err(|mut failure| {
                    failure.places.push(document.place(span, ""));
                    failure
                })?;
                self.bytes += other.text().len() as u64;
                if self.bytes > limits::PYTHON_LOCK_BYTES {
                    let most = limits::PYTHON_LOCK_BYTES;
                    return Err(
                        wrong(Kind::Lock, format!("the files have more than {most} bytes together")).into()
                    );
                }
                self.file(&other, constraints, depth + 1)?;
            }
            "--editable" => {
                let place = document.place(span, "");
                let what = What::Unbuilt(source_of(if line.written.is_some() { "…" } else { value }), None);
                self.found.entries.push(Entry { what, hashes: Vec::new(), place });
            }
            "--index-url" => {
                self.found.indexes.main = Some(index(value)?);
                self.found.indexes.none = false;
            }
            "--extra-index-url" => self.found.indexes.extra.push(index(value)?),
            "--no-index" => {
                let indexes = &mut self.found.indexes;
                (indexes.main, indexes.none) = (None, true);
                indexes.extra.clear();
            }
            "--find-links" => {
                let location = match value.contains("://") {
                    true => Location::Url(index(value)?),
                    false => Location::Path(beside(value)?),
                };
                self.found.indexes.find_links.push(location);
            }
            "--no-binary" => {
                let place = document.place(span, "");
                let names = value.split(',').map(|name| name.trim().to_owned());
                self.found.no_binary.extend(names.map(|name| (name, place.clone())));
            }
            "--trusted-host" => {
                let host = if line.written.is_some() { "" } else { value };
                let note =
                    format!("--trusted-host {} is not obeyed: certificates are always checked", Short(host));
                let note = note.replace("  ", " ");
                self.found.notes.push(note);
            }
            "--hash" => return Err(wrong(Kind::Lock, "--hash stands without a requirement".into()).into()),
            // What they ask for is so already.
            _ => {}
        }
        Ok(())
    }
}

fn outside(document: &Document, span: &Span, path: &str) -> PythonError {
    document
        .error(Kind::Lock, span, format!("{:?} is not in the project", Short(path)))
        .with_help("copy it into the project directory, or name a directory above both with -C")
}

fn entry(document: &Document, line: &Line) -> Result<Entry, PythonError> {
    let mut hashes = Vec::new();
    for (name, value) in &line.options {
        let value = value.as_deref().unwrap_or_default();
        match name.as_str() {
            "--hash" => {
                let (algorithm, hash) = value.split_once(':').unwrap_or((value, ""));
                let digest = best_hash([(algorithm, hash)]).map_err(|why| {
                    document.error(Kind::Lock, &line.span, format!("a hash is malformed: expected {why}"))
                })?;
                // Others, such as sha384, are not needed where one of the known ones stands as well.
                hashes.extend(digest);
                if hashes.len() > limits::PYTHON_HASHES {
                    let message = format!("there are more than {} hashes", limits::PYTHON_HASHES);
                    return Err(document.error(Kind::Lock, &line.span, message));
                }
            }
            "--config-settings" => {}
            name => {
                let message = format!("{name} does not stand behind a requirement");
                return Err(document.error(Kind::Lock, &line.span, message));
            }
        }
    }
    let what = what(document, line)?;
    Ok(Entry { what, hashes, place: document.place(&line.span, "") })
}

fn what(document: &Document, line: &Line) -> Result<What, PythonError> {
    let text = line.argument.as_str();
    let (target, marker) = text.split_once(" ;").unwrap_or((text, ""));
    // A URL or a path without a name before it.
    if is_place(target.trim()) {
        if !marker.is_empty() {
            let message = "a URL or path with a marker needs a name before it".to_owned();
            let help = "write NAME @ URL ; MARKER";
            return Err(document.error(Kind::Lock, &line.span, message).with_help(help));
        }
        return at_place(document, line, text.trim(), None);
    }
    let requirement = Requirement::parse(text).map_err(|error| {
        let shown: String = text.chars().take(120).collect();
        let message = format!("{shown:?} is no requirement: at its character {}: {error}", error.at + 1);
        document.error(Kind::Lock, &line.span, message)
    })?;
    match requirement.source.clone() {
        Source::Index(_) => Ok(What::Index(requirement)),
        Source::Url(url) => at_place(document, line, &url, Some(requirement)),
    }
}

/// True for what pip takes for a URL or a path.
fn is_place(text: &str) -> bool {
    let word = text.split(['[', '<', '>', '=', ';', '~', '!', ' ']).next().unwrap_or_default();
    text.split_once('@').is_none_or(|(before, _)| before.contains('/'))
        && (word.contains('/') || word.starts_with('.') || word.ends_with(".whl"))
}

fn at_place(
    document: &Document,
    line: &Line,
    text: &str,
    requirement: Option<Requirement>,
) -> Result<What, PythonError> {
    let wrong = |message: String| document.error(Kind::Lock, &line.span, message);
    let (place, fragment) = text.split_once('#').unwrap_or((text, ""));
    let name = last_part(place);
    if !name.ends_with(".whl") {
        // What is only shown is shown as it is written.
        let written = line.written.as_deref().map(|written| match &requirement {
            Some(_) => written.split_once('@').map_or("…", |(_, url)| url.trim()),
            None => written,
        });
        return Ok(What::Unbuilt(source_of(written.unwrap_or(text)), requirement));
    }
    let file = WheelName::parse(&name)
        .map_err(|why| wrong(format!("{:?} is no name of a wheel: {why}", Short(&name))))?;
    if let Some(requirement) = requirement.as_ref().filter(|requirement| requirement.name != file.name) {
        return Err(wrong(format!("{file} is no wheel of {}", requirement.name)));
    }
    let pairs = fragment.split('&').filter_map(|pair| pair.split_once('='));
    let hash =
        best_hash(pairs).map_err(|why| wrong(format!("the hash in the URL is malformed: expected {why}")))?;
    let location = match place.contains("://") || place.starts_with("file:") {
        true => Location::Url(url(place).map_err(|why| wrong(format!("the URL of {file} is none: {why}")))?),
        false => Location::Path(
            beside(document.file(), place).ok_or_else(|| outside(document, &line.span, place))?,
        ),
    };
    Ok(What::Wheel { file, location, requirement, hash })
}

/// What something that is no wheel is made from.
fn source_of(text: &str) -> Unbuilt {
    let (place, fragment) = text.split_once('#').unwrap_or((text, ""));
    let scheme = place.split_once("://").map(|(scheme, _)| scheme);
    if let Some((kind, rest)) = scheme.and_then(|scheme| scheme.split_once('+'))
        && matches!(kind, "git" | "hg" | "svn" | "bzr")
    {
        let address = &place[kind.len() + 1..];
        let slash = address.rfind('/').unwrap_or(rest.len());
        let (url, commit) = match address[slash..].split_once('@') {
            Some((last, commit)) => (format!("{}{last}", &address[..slash]), commit),
            None => (address.to_owned(), "HEAD"),
        };
        let subdirectory = fragment.split('&').find_map(|pair| pair.strip_prefix("subdirectory="));
        return Unbuilt::Vcs {
            kind: kind.into(),
            url: no_credentials(&url),
            commit: commit.into(),
            subdirectory: subdirectory.map(str::to_owned),
        };
    }
    let name = last_part(place);
    let archive = [".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tar"];
    match scheme.is_some() || archive.iter().any(|end| name.ends_with(end)) {
        true => Unbuilt::Archive(no_credentials(place)),
        false => Unbuilt::Directory(place.split('[').next().unwrap_or_default().to_owned()),
    }
}

impl Entry {
    /// The project, when it can be told.
    pub(super) fn name(&self) -> Option<&Name> {
        match &self.what {
            What::Index(requirement) | What::Unbuilt(_, Some(requirement)) => Some(&requirement.name),
            What::Wheel { file, .. } => Some(&file.name),
            What::Unbuilt(_, None) => None,
        }
    }

    /// When it applies.
    pub(super) fn requirement(&self) -> Option<&Requirement> {
        match &self.what {
            What::Index(requirement) => Some(requirement),
            What::Unbuilt(_, requirement) | What::Wheel { requirement, .. } => requirement.as_ref(),
        }
    }
}
