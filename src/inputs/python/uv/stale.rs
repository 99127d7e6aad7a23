//! Whether a lock file was made for what `pyproject.toml` says now, as `uv lock --check` tells it.
//!
//! uv repeats in the lock file what each project said when it was locked (`package.metadata`), with markers made simpler. So both
//! sides are held against the target, and compared is what is needed there.

use std::collections::{BTreeMap, BTreeSet};

use super::super::document::{At, Document, Span};
use super::super::error::{Kind, PythonError};
use super::super::marker::Environment;
use super::super::name::Name;
use super::super::plan::Asked;
use super::super::pyproject::Pyproject;
use super::super::requirement::{self, Requirement};
use super::super::version::{self, Version, VersionSpecifiers};
use super::package::Package;
use crate::url::Url;

/// How many differences are told.
const TOLD: usize = 8;

/// How often extras of the project may lead to further ones of it; whether more of them are up to date is not judged.
const ROUNDS: usize = 64;

/// What of a project is installed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) extras: &'a BTreeSet<Name>,
    pub(super) groups: &'a BTreeSet<Name>,
}

/// What is needed of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Need {
    /// The sets of specifiers, each sorted.
    versions: BTreeSet<Vec<String>>,
    extras: BTreeSet<Name>,
    /// Where it is said where to get it; then versions say nothing.
    placed: bool,
    /// The files on the network among that, without user, password and fragment.
    urls: BTreeSet<String>,
    /// Where that is written.
    span: Option<Span>,
}

type Needs = BTreeMap<Name, Need>;

/// Refuses the lock file when the project has another version now, or needs something else on the target. `python` is what the
/// lock file says of Python, when that is what this project says.
pub(super) fn check(
    package: &Package<'_>,
    (document, project): (&Document, &Pyproject),
    asked: &Asked<'_>,
    part: Part<'_>,
    python: Option<&VersionSpecifiers>,
) -> Result<(), PythonError> {
    if project.name != package.name {
        return Ok(());
    }
    let stale = |message: String, span: &Span| {
        let lock = package.table.document;
        let (file, now) = (lock.file().display(), document.file().display());
        document
            .error(Kind::Stale, span, format!("{file} is not up to date with {now}: {message}"))
            .at(lock.place(&package.span, ""))
            .with_help("run `uv lock`")
    };
    if let Some(At { value: version, span }) = &project.version
        && package.version.as_ref() != Some(version)
    {
        let locked = package.version.as_ref().map_or("none".to_owned(), ToString::to_string);
        let message = format!("the version of {} is {version}, and was {locked}", package.name);
        return Err(stale(message, span));
    }
    if let (Some(At { value: wanted, span }), Some(locked)) = (&project.python, python)
        && !same_python(wanted, locked)
    {
        return Err(stale(format!("`requires-python` is {wanted}, and was {locked}"), span));
    }
    let (Some(dependencies), Some(optional), true) =
        (&project.dependencies, &project.optional, project.whole)
    else {
        return Ok(());
    };
    let Some(then) = locked(package, asked, part)? else { return Ok(()) };
    let mut extras = part.extras.clone();
    let mut rounds = 0..ROUNDS;
    let now = loop {
        if rounds.next().is_none() {
            return Ok(());
        }
        let environment = with(asked, &extras);
        let chosen = optional.iter().filter(|(extra, _)| extras.contains(*extra)).flat_map(|(_, list)| list);
        let groups = project.groups.iter().filter(|(group, _)| part.groups.contains(*group));
        let all = dependencies.iter().chain(chosen).chain(groups.flat_map(|(_, list)| list));
        let (needs, more) = needed(project, all, &environment);
        if !grow(&mut extras, more) {
            break needs;
        }
    };
    let mut differences = differences(&now, &then, &project.sources, package.source.directory() == Some("."));
    let Some((_, span)) = differences.first() else { return Ok(()) };
    let start = project.version.as_ref().map_or(0..0, |at| at.span.clone());
    let span = span.clone().unwrap_or(start);
    let more = differences.len().saturating_sub(TOLD);
    differences.truncate(TOLD);
    let mut told: Vec<String> = differences.into_iter().map(|(message, _)| message).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    Err(stale(told.join("; "), &span))
}

/// Whether two sets of specifiers hold for the same releases of Python: uv writes them in another form.
fn same_python(a: &VersionSpecifiers, b: &VersionSpecifiers) -> bool {
    const NEWEST: u64 = 40;
    let minors = (2..=4).flat_map(|major| (0..=NEWEST).map(move |minor| (major, minor)));
    let releases = minors.flat_map(|(major, minor)| (0..=NEWEST).map(move |patch| [major, minor, patch]));
    a == b
        || releases
            .map(Version::new)
            .all(|release| version::contains(a, &release) == version::contains(b, &release))
}

fn with(asked: &Asked<'_>, extras: &BTreeSet<Name>) -> Environment {
    let mut environment = asked.environment.clone();
    environment.extra = extras.clone();
    environment
}

/// Takes in what extras ask for of the project itself; whether there is something new.
fn grow(extras: &mut BTreeSet<Name>, more: BTreeSet<Name>) -> bool {
    let before = extras.len();
    extras.extend(more);
    extras.len() > before
}

/// What these requirements come to, and the extras of the project itself among them.
fn needed<'a>(
    project: &Pyproject,
    all: impl Iterator<Item = &'a At<Requirement>>,
    environment: &Environment,
) -> (Needs, BTreeSet<Name>) {
    let (mut needs, mut own) = (Needs::new(), BTreeSet::new());
    for At { value: requirement, span } in all {
        let Requirement { name, extras, source, marker } = requirement;
        // What cannot be decided has stopped the walk already, where it matters.
        if marker.as_ref().is_some_and(|marker| !marker.holds(environment).unwrap_or(false)) {
            continue;
        }
        if *name == project.name {
            own.extend(extras.iter().cloned());
            continue;
        }
        let need = needs.entry(name.clone()).or_default();
        need.extras.extend(extras.iter().cloned());
        need.span.get_or_insert(span.clone());
        match source {
            requirement::Source::Index(specifiers) => {
                need.versions.insert(sorted(specifiers));
            }
            requirement::Source::Url(url) => {
                need.placed = true;
                need.urls.extend(file(url));
            }
        }
    }
    (needs, own)
}

/// A file on the network as it can be compared; nothing for a commit, a file of this machine, or what cannot be told.
fn file(url: &str) -> Option<String> {
    url.parse::<Url>().ok().map(|url| url.bare())
}

fn sorted(specifiers: &VersionSpecifiers) -> Vec<String> {
    let mut all: Vec<String> = specifiers.iter().map(ToString::to_string).collect();
    all.sort();
    all
}

/// What the lock file says was needed; nothing when it does not tell.
fn locked(package: &Package<'_>, asked: &Asked<'_>, part: Part<'_>) -> Result<Option<Needs>, PythonError> {
    const PLACES: [&str; 7] = ["url", "git", "path", "directory", "editable", "virtual", "workspace"];
    let metadata = package.table.table("metadata")?;
    // Where there is nothing to say uv says nothing; old files say nothing of what there is.
    if metadata.is_none() && (package.table.has("dependencies") || package.table.has("optional-dependencies"))
    {
        return Ok(None);
    }
    let mut entries = Vec::new();
    if let Some(metadata) = &metadata {
        entries.extend(metadata.tables("requires-dist")?);
        if let Some(groups) = metadata.table("requires-dev")? {
            for (key, _) in groups.keys() {
                if Name::parse(key).is_some_and(|group| part.groups.contains(&group)) {
                    entries.extend(groups.tables(key)?);
                }
            }
        }
    }
    let mut extras = part.extras.clone();
    for _ in 0..ROUNDS {
        let environment = with(asked, &extras);
        let (mut needs, mut own) = (Needs::new(), BTreeSet::new());
        for entry in &entries {
            let name = entry.required("name", entry.name("name")?)?.value;
            let marker = entry.marker("marker")?;
            if marker.is_some_and(|at| !at.value.holds(&environment).unwrap_or(false)) {
                continue;
            }
            let wanted = entry.names("extras")?.into_iter().map(|at| at.value);
            if name == package.name {
                own.extend(wanted);
                continue;
            }
            let need = needs.entry(name).or_default();
            need.extras.extend(wanted);
            let specifier = entry.specifiers("specifier")?;
            need.placed |= PLACES.iter().any(|key| entry.has(key));
            need.urls.extend(entry.text("url")?.and_then(|at| file(at.value)));
            need.versions.insert(specifier.map_or_else(Vec::new, |at| sorted(&at.value)));
        }
        if !grow(&mut extras, own) {
            return Ok(Some(needs));
        }
    }
    Ok(None)
}

/// In what the two differ, and where in `pyproject.toml` that is written. Of what has a source of its own versions are not compared;
/// the first project of a workspace (`root`) may give the others sources too.
fn differences(
    now: &Needs,
    then: &Needs,
    sources: &BTreeSet<Name>,
    root: bool,
) -> Vec<(String, Option<Span>)> {
    let mut found = Vec::new();
    for (name, need) in now {
        let Some(old) = then.get(name) else {
            found.push((format!("{} is new", shown(name, need)), need.span.clone()));
            continue;
        };
        let other = match (need.placed, old.placed) {
            _ if sources.contains(name) => false,
            (true, true) => !need.urls.is_empty() && !old.urls.is_empty() && need.urls.is_disjoint(&old.urls),
            (true, false) => true,
            (false, true) => root,
            (false, false) => need.versions != old.versions,
        };
        if need.extras != old.extras || other {
            let message = format!("{} was {}", shown(name, need), shown(name, old));
            found.push((message, need.span.clone()));
        }
    }
    let gone = then.iter().filter(|(name, _)| !now.contains_key(*name));
    found.extend(gone.map(|(name, need)| (format!("{} is gone", shown(name, need)), None)));
    found
}

fn shown(name: &Name, need: &Need) -> String {
    let extras: Vec<&str> = need.extras.iter().map(Name::as_str).collect();
    let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
    let versions: Vec<String> = need.versions.iter().map(|set| set.join(",")).collect();
    let urls: Vec<&str> = need.urls.iter().map(String::as_str).collect();
    let mut text = match (need.placed, urls.is_empty()) {
        (true, true) => format!("{name}{extras} from a place of its own"),
        (true, false) => format!("{name}{extras} @ {}", urls.join(" and ")),
        (false, _) => format!("{name}{extras}{}", versions.join(" and ")),
    };
    if let Some((at, _)) = text.char_indices().nth(100) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::error::shown;
    use super::super::super::plan::Options;
    use super::super::super::tests::{debian, document, names};
    use super::super::{PYPROJECT, plan};
    use crate::inputs::python::PythonError;

    const LOCK: &str = include_str!("../../../../fixtures/python/app/uv.lock");
    const PROJECT: &str = include_str!("../../../../fixtures/python/app/pyproject.toml");

    /// What is said of a lock file beside this `pyproject.toml`.
    fn said(lock: &str, project: &str, extras: &str) -> Option<String> {
        let options = Options { extras: names(extras), ..Options::default() };
        let mut read = |path: &std::path::Path| {
            assert_eq!(path.to_str(), Some(PYPROJECT));
            Ok::<_, PythonError>(Some(document(PYPROJECT, project)))
        };
        plan(&document("uv.lock", lock), &mut read, &debian(), &options).err().map(|error| {
            let text = shown(error);
            let first = text.strip_prefix("E-PYTHON-STALE: uv.lock is not up to date with pyproject.toml: ");
            let first = first.unwrap_or_else(|| panic!("{text}"));
            assert!(first.ends_with("\nuv.lock:10\nhelp: run `uv lock`"), "{text}");
            first.lines().take(2).collect::<Vec<_>>().join(" @ ")
        })
    }

    #[test]
    fn what_uv_locked_is_up_to_date() {
        for extras in ["", "cli", "cli np"] {
            assert_eq!(said(LOCK, PROJECT, extras), None);
        }
        for (from, to) in [
            // Another form of the same.
            ("httpx[http2]>=0.27", "HTTPX[HTTP2] (>= 0.27)"),
            ("\"rich; python_version < '4'\"", "\"rich; python_version < '5'\""),
            ("version = \"1.2.0\"", "version = \"1.2\""),
            ("version = \"1.2.0\"", "dynamic = [\"version\"]"),
            // What the target does not need, and what is not taken.
            ("\"colorama; ", "\"colorama>=7; "),
            ("dev = [\"pytest\"]", "dev = [\"pytest\", \"ruff\"]\nmore = [\"x\"]"),
            // What cannot be read here may be what uv has read.
            ("\"colorama; sys_platform == 'win32'\"", "\"colorama = 1\", \"new\""),
            ("name = \"acme-app\"", "title = \"acme-app\""),
            ("[project]", "[other]"),
        ] {
            let project = PROJECT.replace(from, to);
            assert!(project != PROJECT);
            // `dev` is included in `docs`, which is a default.
            match to.contains("ruff") {
                false => assert_eq!(said(LOCK, &project, ""), None, "{to}"),
                true => assert!(said(LOCK, &project, "").unwrap().starts_with("ruff is new")),
            }
        }
        let made_up = "[project]\nname = \"acme-app\"\nversion = \"1.2.0\"\ndynamic = [\"dependencies\"]\n";
        assert_eq!(said(LOCK, made_up, ""), None);
    }

    #[test]
    fn older_ways_to_name_groups() {
        let project = PROJECT.replace("default-groups = [\"docs\"]", "dev-dependencies = [\"ruff\"]");
        let said =
            said(&LOCK.replace("default-groups = [\"docs\"]", "default-groups = [\"dev\"]"), &project, "");
        assert!(said.unwrap().starts_with("ruff is new @ pyproject.toml:13"));
    }

    #[test]
    fn what_is_not() {
        for (from, to, extras, expected) in [
            (
                "version = \"1.2.0\"",
                "version = \"1.3\"",
                "",
                "the version of acme-app is 1.3, and was 1.2.0 @ pyproject.toml:3",
            ),
            (
                "http2]>=0.27",
                "http2]>=1.27",
                "",
                "httpx[http2]>=1.27 was httpx[http2]>=0.27 @ pyproject.toml:5",
            ),
            ("httpx[http2]", "httpx", "", "httpx>=0.27 was httpx[http2]>=0.27 @ pyproject.toml:5"),
            ("\"uvloop; ", "\"sanic; ", "", "sanic is new; uvloop is gone @ pyproject.toml:5"),
            ("[\"click\"]", "[\"click\", \"clack\"]", "cli", "clack is new @ pyproject.toml:7"),
            ("\"markdown-it-py>=3\", ", "", "", "markdown-it-py>=3 is gone @ pyproject.toml:3"),
            ("\"rich; python_version < '4'\", ", "", "", "rich is gone @ pyproject.toml:3"),
        ] {
            let project = PROJECT.replace(from, to);
            assert!(project != PROJECT, "{from}");
            assert_eq!(said(LOCK, &project, extras).as_deref(), Some(expected));
        }
        let many: String = (0..20).map(|n| format!("\"n{n:02}\", ")).collect();
        let many = said(LOCK, &PROJECT.replace("[\"httpx", &format!("[{many}\"httpx")), "").unwrap();
        assert!(many.contains("n07 is new; and 12 more"), "{many}");
    }

    /// Extras that lead to ever more extras are followed so far and no further.
    #[test]
    fn long_chains() {
        let chain = |count: usize, last: &str| {
            let links: String = (0..count).map(|n| format!("e{n} = [\"app[e{}]\"]\n", n + 1)).collect();
            format!(
                "[project]\nname = \"app\"\nversion = \"1.0\"\n[project.optional-dependencies]\n{links}e{count} = [\"{last}\"]\n"
            )
        };
        let lock = |count: usize| {
            let link = |n: usize| {
                format!("{{ name = \"app\", extras = [\"e{}\"], marker = \"extra == 'e{n}'\" }}, ", n + 1)
            };
            let links: String = (0..count).map(link).collect();
            let offered: String = (0..=count).map(|n| format!("\"e{n}\", ")).collect();
            format!(
                "version = 1\n\n\n\n\n\n\n\n[[package]]\nname = \"app\"\nversion = \"1.0\"\nsource = {{ virtual = \".\" }}\n\
                 [package.metadata]\nprovides-extras = [{offered}]\n\
                 requires-dist = [{links}{{ name = \"x\", marker = \"extra == 'e{count}'\" }}]\n"
            )
        };
        assert_eq!(said(&lock(20), &chain(20, "x"), "e0"), None);
        assert!(said(&lock(20), &chain(20, "y"), "e0").unwrap().starts_with("y is new; x is gone"));
        assert_eq!(said(&lock(200), &chain(200, "y"), "e0"), None);
    }

    /// Extras of the project that ask for others of it, sources of uv's own, and a project without needs.
    #[test]
    fn more_of_uv() {
        let lock = |metadata: &str| {
            format!(
                "version = 1\n\n\n\n\n\n\n\n[[package]]\nname = \"app\"\nversion = \"1.0\"\nsource = {{ virtual = \".\" }}\n{metadata}\n"
            )
        };
        let project = |rest: &str| format!("[project]\nname = \"app\"\nversion = \"1.0\"\n{rest}\n");
        let own = "[package.metadata]\nprovides-extras = [\"cli\", \"all\"]\nrequires-dist = [";
        let optional = "[project.optional-dependencies]\nall = [\"app[cli]\"]\ncli = [\"attrs>=20\"]";
        let as_is = "{ name = \"app\", extras = [\"cli\"], marker = \"extra == 'all'\" }, \
                     { name = \"attrs\", marker = \"extra == 'cli'\", specifier = \">=20\" }]";
        let flat = "{ name = \"attrs\", marker = \"extra == 'all'\", specifier = \">=20\" }, \
                    { name = \"attrs\", marker = \"extra == 'cli'\", specifier = \">=20\" }]";
        for entries in [as_is, flat] {
            let lock = lock(&format!("{own}{entries}"));
            for extras in ["", "cli", "all"] {
                assert_eq!(said(&lock, &project(optional), extras), None);
            }
            let newer = project(&optional.replace("20", "21"));
            assert_eq!(said(&lock, &newer, ""), None);
            assert!(said(&lock, &newer, "all").unwrap().starts_with("attrs>=21 was attrs>=20 @"));
        }
        let placed = lock("[package.metadata]\nrequires-dist = [{ name = \"lib\", editable = \"../lib\" }]");
        let place = "dependencies = [\"lib>=1\"]\n[tool.uv.sources]\nlib = { path = \"../lib\" }";
        assert_eq!(said(&placed, &project(place), ""), None);
        let gone = said(&placed, &project("dependencies = [\"lib>=1\"]"), "").unwrap();
        assert_eq!(gone, "lib>=1 was lib from a place of its own @ pyproject.toml:4");
        let indexed = lock("[package.metadata]\nrequires-dist = [{ name = \"lib\", specifier = \">=1\" }]");
        let sources = "dependencies = [\"lib>=2\"]\n[tool.uv.sources]\nlib = { index = \"x\" }";
        assert_eq!(said(&indexed, &project(sources), ""), None);
        assert_eq!(said(&lock(""), &project("dependencies = []"), ""), None);
        let new = said(&lock(""), &project("dependencies = [\"lib\"]"), "").unwrap();
        assert_eq!(new, "lib is new @ pyproject.toml:4");
    }

    /// A dependency that gets a URL, another one, or none any more.
    #[test]
    fn urls() {
        let lock = |what: &str| {
            format!(
                "version = 1\n\n\n\n\n\n\n\n[[package]]\nname = \"app\"\nversion = \"1.0\"\nsource = {{ virtual = \".\" }}\n\
                 [package.metadata]\nrequires-dist = [{{ name = \"b\", {what} }}]\n"
            )
        };
        let project = |need: &str| {
            format!("[project]\nname = \"app\"\nversion = \"1.0\"\ndependencies = [\"{need}\"]\n")
        };
        let one = "url = \"https://h.example/b-1.0.whl\"";
        let git = "git = \"https://h.example/b?rev=v1\"";
        for (locked, need, expected) in [
            (one, "b @ https://h.example/b-1.0.whl#egg=b", None),
            (one, "b @ https://me:pw@h.example/b-1.0.whl", None),
            (git, "b @ git+https://h.example/b@v1", None),
            ("path = \"/x/b.whl\"", "b @ file:///x/b.whl", None),
            (
                "specifier = \">=1\"",
                "b @ https://h.example/b-1.0.whl",
                Some("b @ https://h.example/b-1.0.whl was b>=1 @ pyproject.toml:4"),
            ),
            (
                one,
                "b @ https://h.example/b-2.0.whl",
                Some(
                    "b @ https://h.example/b-2.0.whl was b @ https://h.example/b-1.0.whl @ pyproject.toml:4",
                ),
            ),
            (git, "b>=1", Some("b>=1 was b from a place of its own @ pyproject.toml:4")),
        ] {
            assert_eq!(said(&lock(locked), &project(need), "").as_deref(), expected, "{locked} {need}");
        }
    }

    /// What uv makes of `requires-python`, and what is another one.
    #[test]
    fn another_python() {
        for (now, locked, same) in [
            (">=3.11, <3.13", ">=3.11, <3.13", true),
            ("~=3.11", ">=3.11, <4", true),
            (">=3.11.0rc1", ">=3.11.0", true),
            (">=3.9, !=3.11.1", ">=3.9, !=3.11.1", true),
            (">3.10", ">3.10", true),
            (">=3.10", ">=3.11", false),
            (">=3.11", ">=3.11, <3.13", false),
            (">=3.11.3", ">=3.11", false),
        ] {
            let lock = LOCK.replacen("\">=3.11\"", &format!("\"{locked}\""), 1);
            let project = PROJECT.replace("\">=3.11\"", &format!("\"{now}\""));
            let expected = format!("`requires-python` is {now}, and was {locked} @ pyproject.toml:4");
            assert_eq!(said(&lock, &project, ""), (!same).then_some(expected), "{now}");
            // A project that says nothing, and one of several, whose lock file is for what all of them take.
            assert_eq!(said(&lock, &project.replace("requires-python", "x"), ""), None);
            let many = format!("{lock}\n[manifest]\nmembers = [\"acme-app\", \"x\"]\n");
            assert_eq!(said(&many, &project, ""), None);
        }
    }
}
