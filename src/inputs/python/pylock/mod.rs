//! `pylock.toml`: the lock file of the packaging specifications (PEP 751), with its whole way of installing.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::DeTable;

use super::document::{At, Document, Span, Table, best_hash};
use super::error::{Kind, PythonError};
use super::filename::WheelName;
use super::name::Name;
use super::plan::{
    Asked, Candidate, Location, Options, PlannedWheel, PythonPlan, Trouble, beside, built, finish, gathered,
    last_part, no_wheel, own, undecided,
};
use super::source::{Unbuilt, from_sdist, no_credentials};
use super::target::PythonTarget;
use super::version;
use crate::url::Url;

/// What a package entry may hold in version 1.0.
const PACKAGE_KEYS: [&str; 13] = [
    "name",
    "version",
    "marker",
    "requires-python",
    "dependencies",
    "vcs",
    "directory",
    "archive",
    "index",
    "sdist",
    "wheels",
    "attestation-identities",
    "tool",
];

/// The wheels that a target needs. What the target does not need is not judged.
pub fn plan(
    document: &Document,
    target: &PythonTarget,
    options: &Options,
) -> Result<PythonPlan, PythonError> {
    let parsed: Spanned<DeTable<'_>> = document.parse()?;
    let root = Table::new(document, &parsed);
    let mut notes = Vec::new();
    let newer = lock_version(&root)?;
    root.required("created-by", root.text("created-by")?)?;
    let mut asked = Asked::new(target, options);
    wanted(&root, &mut asked)?;
    check_python(&root, &asked, "the lock file")?;
    check_environments(&root, &asked)?;

    let packages = root.tables("packages")?;
    if !root.has("packages") {
        return Err(root.error(Kind::Lock, "`packages` is missing"));
    }
    let mut unknown = BTreeSet::new();
    let mut attested = 0;
    let mut selected: BTreeMap<Name, (Span, Table<'_>)> = BTreeMap::new();
    for package in packages {
        let At { value: name, span } = package.required("name", package.name("name")?)?;
        if newer {
            unknown.extend(package.keys().map(|(key, _)| key).filter(|key| !PACKAGE_KEYS.contains(key)));
        }
        if let Some(At { value: marker, span }) = package.marker("marker")? {
            let holds = marker.holds(&asked.environment).map_err(|error| {
                undecided(&error, &format!("whether {name} is needed"), document.place(&span, ""))
            })?;
            if !holds {
                continue;
            }
        }
        check_python(&package, &asked, name.as_str())?;
        attested += usize::from(package.has("attestation-identities"));
        if let Some((first, _)) = selected.get(&name) {
            let message = format!("the lock file has two entries of {name} for {target}");
            return Err(document
                .error(Kind::Lock, &span, message)
                .at(document.place(first, "the other one"))
                .with_help(
                    "exactly one may be left for a target; let the tool that made the file make it again",
                ));
        }
        selected.insert(name, (span, package));
    }
    if !unknown.is_empty() {
        let keys: Vec<&str> = unknown.into_iter().collect();
        notes.push(format!(
            "{} has a newer version than 1.0; what it says with {} is not known here",
            document.file().display(),
            keys.join(", ")
        ));
    }
    if attested > 0 {
        let word = if attested == 1 { "package" } else { "packages" };
        notes.push(format!("the attestation identities of {attested} {word} are not checked"));
    }
    let roots = roots(&selected)?;
    let all = selected.iter().map(|(name, (span, package))| {
        wheel(&asked, name, span, package, roots.contains(name)).map_err(Trouble::Python)
    });
    let wheels = gathered::<_, PythonError>(&asked, all)?.into_iter().flatten().collect();
    Ok(finish(&asked, wheels, notes))
}

/// Whether the file is of a later minor version than 1.0; an error for another major one.
fn lock_version(root: &Table<'_>) -> Result<bool, PythonError> {
    let At { value, span } = root.required("lock-version", root.text("lock-version")?)?;
    let mut parts = value.split('.').map(|part| part.parse::<u32>());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor)), None) => Ok(minor > 0),
        _ => Err(root
            .document
            .error(Kind::LockVersion, &span, format!("the lock version {value:?} is not known here"))
            .with_help("dmoci reads version 1.0; a newer dmoci may read this one")),
    }
}

/// Puts extras and groups into the environment.
fn wanted(root: &Table<'_>, asked: &mut Asked<'_>) -> Result<(), PythonError> {
    let set = |key: &str| -> Result<BTreeSet<Name>, PythonError> {
        Ok(root.names(key)?.into_iter().map(|at| at.value).collect())
    };
    let (extras, groups, defaults) = (set("extras")?, set("dependency-groups")?, set("default-groups")?);
    if let Some(package) = &asked.options.package {
        let message = format!("`package` is {package}, but a pylock.toml is not of one package");
        return Err(root.error(Kind::Unknown, message).with_help("leave `package` out, or name a uv.lock"));
    }
    let unknown = |what: &str, name: &Name, known: &BTreeSet<Name>| {
        root.error(Kind::Unknown, format!("it has no {what} {name}")).with_help(one_of(what, known))
    };
    if let Some(extra) = asked.options.extras.iter().find(|extra| !extras.contains(*extra)) {
        return Err(unknown("extra", extra, &extras));
    }
    asked.environment.extras = asked.options.extras.clone();
    asked.environment.groups = match &asked.options.groups {
        None => defaults,
        Some(wanted) => {
            let known: BTreeSet<Name> = groups.union(&defaults).cloned().collect();
            if let Some(group) = wanted.iter().find(|group| !known.contains(*group)) {
                return Err(unknown("group", group, &groups));
            }
            // Defaults that are no public group stand for the project itself and cannot be chosen by name.
            wanted.iter().chain(defaults.difference(&groups)).cloned().collect()
        }
    };
    Ok(())
}

/// What there is to choose from.
pub(super) fn one_of(what: &str, known: &BTreeSet<Name>) -> String {
    let known: Vec<&str> = known.iter().map(Name::as_str).collect();
    match known[..] {
        [] => format!("there are no {what}s in it; make it again with them"),
        _ => format!("it has the {what}s {}", known.join(", ")),
    }
}

fn check_python(table: &Table<'_>, asked: &Asked<'_>, what: &str) -> Result<(), PythonError> {
    let Some(At { value: python, span }) = table.specifiers("requires-python")? else { return Ok(()) };
    if version::contains(&python, &asked.target.version()) {
        return Ok(());
    }
    let found = asked.target.full_version();
    let message = format!("{what} is for Python {python}, and the image has {found}");
    Err(table
        .document
        .error(Kind::Target, &span, message)
        .with_help("lock for the Python that the image has, or choose another base or `interpreter`"))
}

fn check_environments(root: &Table<'_>, asked: &Asked<'_>) -> Result<(), PythonError> {
    let environments = root.markers("environments")?;
    let mut undecidable = None;
    for At { value: marker, span } in &environments {
        match marker.holds(&asked.environment) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                let place = root.document.place(span, "");
                undecidable = Some(undecided(&error, "whether the lock file is for this target", place));
            }
        }
    }
    match (environments.first(), undecidable) {
        (None, _) => Ok(()),
        (_, Some(error)) => Err(error),
        (Some(first), None) => Err(root
            .document
            .error(Kind::Target, &first.span, format!("the lock file is not for {}", asked.target))
            .with_help("let the tool that made it lock for this environment too")),
    }
}

/// The packages that no other one needs, where the file says who needs whom; else all of them.
fn roots(selected: &BTreeMap<Name, (Span, Table<'_>)>) -> Result<BTreeSet<Name>, PythonError> {
    let mut needed = BTreeSet::new();
    for (name, (_, package)) in selected {
        for dependency in package.tables("dependencies")? {
            needed.extend(dependency.name("name")?.map(|at| at.value).filter(|other| other != name));
        }
    }
    let roots: BTreeSet<Name> = selected.keys().filter(|name| !needed.contains(*name)).cloned().collect();
    Ok(if roots.is_empty() { selected.keys().cloned().collect() } else { roots })
}

fn wheel(
    asked: &Asked<'_>,
    name: &Name,
    span: &Span,
    package: &Table<'_>,
    requested: bool,
) -> Result<Option<PlannedWheel>, PythonError> {
    let document = package.document;
    let sources: Vec<&str> = ["vcs", "directory", "archive", "sdist", "wheels"]
        .into_iter()
        .filter(|key| package.has(key))
        .collect();
    if !matches!(sources[..], [_] | ["sdist", "wheels"]) {
        let message = match sources[..] {
            [] => format!("the entry of {name} does not say where it comes from"),
            _ => format!("the entry of {name} has several sources: {}", sources.join(", ")),
        };
        return Err(document.error(Kind::Lock, span, message));
    }
    let number = package.version("version")?;
    let mut candidates = Vec::new();
    for entry in package.tables("wheels")? {
        candidates.push(candidate(&entry, false)?);
    }
    // An archive may be a wheel as well.
    if let Some(archive) = package.table("archive")?
        && place_of(&archive)?.is_some_and(|(text, _)| last_part(text).ends_with(".whl"))
    {
        candidates.push(candidate(&archive, true)?);
    }
    for candidate in &candidates {
        let other = candidate.file.name != *name
            || number.as_ref().is_some_and(|at| at.value != candidate.file.version);
        if other {
            let version = number.as_ref().map(|at| format!(" {}", at.value)).unwrap_or_default();
            let message = format!("{} is no wheel of {name}{version}", candidate.file);
            return Err(document.error(Kind::Lock, &candidate.span, message));
        }
    }
    if let Some(found) = asked.best(&candidates) {
        return Ok(Some(found.planned(requested, document.place(&found.span, ""))));
    }
    let version = number.as_ref().map(|at| &at.value);
    if let Some(wheel) = built(asked, name, version) {
        let place = Some(document.place(span, ""));
        return Ok(Some(match package.has("directory") {
            true => wheel.planned(requested, place),
            false => wheel.stand_in(requested, place),
        }));
    }
    if let Some(directory) = package.table("directory")?
        && let Some(own) =
            own(asked, &directory_of(&directory)?, (name, version), requested, &document.place(span, ""))?
    {
        return Ok(own);
    }
    let what = version.map_or(name.to_string(), |version| format!("{name} {version}"));
    if !candidates.is_empty() {
        let files: Vec<&WheelName> = candidates.iter().map(|candidate| &candidate.file).collect();
        let command = package.has("sdist").then(|| from_sdist(name, version));
        return Err(no_wheel(asked, &what, &files, command, document.place(span, "")));
    }
    Err(unbuilt(package)?.error(asked, name, version, document.place(span, "")))
}

/// What a package without wheels is made from.
fn unbuilt(package: &Table<'_>) -> Result<Unbuilt, PythonError> {
    if let Some(vcs) = package.table("vcs")? {
        let kind = vcs.required("type", vcs.text("type")?)?.value;
        let commit = vcs.required("commit-id", vcs.text("commit-id")?)?.value;
        let place = place_of(&vcs)?.map(|(text, _)| no_credentials(text)).unwrap_or_default();
        let subdirectory = vcs.text("subdirectory")?.map(|at| at.value.to_owned());
        return Ok(Unbuilt::Vcs { kind: kind.into(), url: place, commit: commit.into(), subdirectory });
    }
    if let Some(directory) = package.table("directory")? {
        return Ok(Unbuilt::Directory(directory_of(&directory)?));
    }
    if let Some(archive) = package.table("archive")? {
        let place = place_of(&archive)?.map(|(text, _)| no_credentials(text)).unwrap_or_default();
        return Ok(Unbuilt::Archive(place));
    }
    Ok(Unbuilt::Sdist)
}

/// The path of a `directory`.
fn directory_of(directory: &Table<'_>) -> Result<String, PythonError> {
    let path = directory.required("path", directory.text("path")?)?.value;
    Ok(match directory.text("subdirectory")? {
        Some(At { value, .. }) => format!("{path}/{value}"),
        None => path.to_owned(),
    })
}

/// `path`, which comes first, or `url`; and whether it is a path.
fn place_of<'a>(entry: &Table<'a>) -> Result<Option<(&'a str, bool)>, PythonError> {
    let path = entry.text("path")?.map(|at| (at.value, true));
    let url = entry.text("url")?.map(|at| (at.value, false));
    Ok(path.or(url))
}

fn candidate(entry: &Table<'_>, archive: bool) -> Result<Candidate, PythonError> {
    let document = entry.document;
    let span = entry.span.clone();
    let wrong = |message: String| document.error(Kind::Lock, &span, message);
    let Some((place, is_path)) = place_of(entry)? else {
        return Err(wrong("a wheel has neither `path` nor `url`".into()));
    };
    // The entry of an archive has no name of its own.
    let name = match entry.text("name")?.filter(|_| !archive) {
        Some(At { value, .. }) => value.to_owned(),
        None => last_part(place),
    };
    let file =
        WheelName::parse(&name).map_err(|why| wrong(format!("{name:?} is no name of a wheel: {why}")))?;
    let location = match is_path {
        true => Location::Path(beside(document.file(), place).ok_or_else(|| {
            wrong(format!("{file} is not in the project: {place:?}"))
                .with_help("copy it into the project directory, or name a directory above both with -C")
        })?),
        false => Location::Url(url(place).map_err(|why| wrong(format!("the URL of {file} is none: {why}")))?),
    };
    let hashes = entry.table("hashes")?.ok_or_else(|| {
        document
            .error(Kind::Hash, &span, format!("{file} has no hash in the lock file"))
            .with_help("let the tool that made the lock file write sha256 hashes")
    })?;
    let mut pairs = Vec::new();
    for (algorithm, _) in hashes.keys() {
        if let Some(At { value, .. }) = hashes.text(algorithm)? {
            pairs.push((algorithm, value));
        }
    }
    let digest =
        best_hash(pairs).map_err(|why| wrong(format!("a hash of {file} is malformed: expected {why}")))?;
    let digest = digest.ok_or_else(|| {
        document
            .error(Kind::Hash, &hashes.span, format!("{file} has neither a sha256 nor a sha512"))
            .with_help("let the tool that made the lock file write sha256 hashes")
    })?;
    let size = entry.integer("size")?.map(|at| at.value);
    Ok(Candidate { file, digest, size, location, direct: archive, span })
}

/// Reads a URL; why it is none otherwise.
pub(super) fn url(text: &str) -> Result<Url, String> {
    if text.starts_with("file:") {
        return Err("it is a path of the machine that made the lock file".into());
    }
    text.parse().map_err(|error: crate::url::UrlError| error.to_string())
}

#[cfg(test)]
mod tests;
