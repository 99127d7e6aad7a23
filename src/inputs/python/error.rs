//! Why the wheels of a project cannot be told.

use crate::diagnostic::{Diagnostic, Exit, Place};

/// What is wrong, where, and what to do. `code` decides how the program ends.
#[derive(Debug)]
pub struct PythonError {
    kind: Kind,
    message: String,
    places: Vec<Place>,
    help: Option<String>,
    /// What is known of a project that has no wheel.
    missing: Option<Box<Missing>>,
}

/// What is known of a project that has no wheel.
#[derive(Debug)]
enum Missing {
    /// This command makes one.
    Command(String),
    /// There are others of it, and perhaps a command that makes one.
    There { project: String, found: String, command: Option<String> },
}

/// How many of several problems are shown.
const SHOWN: usize = 20;

/// Of how many of several projects it is shown what there is.
const SHOWN_THERE: usize = 4;

/// The kinds of problems, each with a code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The lock file is malformed, or contradicts itself.
    Lock,
    /// The lock file has a version that is not known here.
    LockVersion,
    /// There is no lock file, or one of a kind that is not known.
    LockMissing,
    /// The lock file does not hold for the target: another Python or another platform.
    Target,
    /// An extra, a dependency group or a project is asked for that the lock file does not have.
    Unknown,
    /// Extras or groups are asked for that the lock file says exclude each other.
    Conflict,
    /// A marker cannot be decided for an image.
    Marker,
    /// A project has no wheel at all.
    Source,
    /// None of a project's wheels runs on the target.
    Wheel,
    /// A requirement is not pinned, or has no hash.
    Hash,
    /// A wheel of the project is not the one that was locked.
    Changed,
    /// An index is needed and none is named.
    IndexMissing,
    /// An index answers with something else than the Simple API, or does not have what is pinned.
    Index,
    /// No interpreter is found, or more than one.
    Interpreter,
    /// A lock file or a wheel was made for what `pyproject.toml` does not say any more.
    Stale,
}

impl PythonError {
    /// A problem of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> PythonError {
        PythonError { kind, message: message.into(), places: Vec::new(), help: None, missing: None }
    }

    /// With a place in a file of the user.
    pub fn at(mut self, place: Place) -> PythonError {
        self.places.push(place);
        self
    }

    /// With what to do.
    pub fn with_help(mut self, help: impl Into<String>) -> PythonError {
        self.help = Some(help.into());
        self
    }

    /// With the command that makes the wheel that is not there; the help says it too.
    pub(super) fn with_command(mut self, command: String) -> PythonError {
        self.missing = Some(Box::new(Missing::Command(command)));
        self
    }

    /// With what there is of a project instead; the help ends with it.
    pub(super) fn with_there(mut self, project: &str, found: String, command: Option<String>) -> PythonError {
        self.missing = Some(Box::new(Missing::There { project: project.to_owned(), found, command }));
        self
    }

    /// Whether it is about one project, so that those of others are worth knowing at the same time.
    pub(super) fn is_of_one_project(&self) -> bool {
        matches!(self.kind, Kind::Source | Kind::Wheel)
    }

    /// Several problems as one, which `what` names; of none there is none.
    pub(super) fn all(mut errors: Vec<PythonError>, what: &str) -> Result<(), PythonError> {
        let Some(first) = errors.first() else { return Ok(()) };
        let (kind, count) = (first.kind, errors.len());
        if count == 1 {
            return errors.pop().map_or(Ok(()), Err);
        }
        let mut places = Vec::new();
        let mut helps: Vec<String> = Vec::new();
        for error in errors.iter().take(SHOWN) {
            let labelled = |place: &Place| Place { label: error.message.clone(), ..place.clone() };
            places.extend(error.places.first().map(labelled));
            let is_command = matches!(error.missing.as_deref(), Some(Missing::Command(_)));
            helps.extend(error.help.clone().filter(|help| !is_command && !helps.contains(help)));
        }
        let missing = || errors.iter().filter_map(|error| error.missing.as_deref());
        let there = missing().filter_map(|missing| match missing {
            Missing::There { project, found, .. } => Some(format!("of {project} there are {found}")),
            Missing::Command(_) => None,
        });
        helps.extend(there.take(SHOWN_THERE));
        let commands = missing().filter_map(|missing| match missing {
            Missing::Command(command) => Some(command.as_str()),
            Missing::There { command, .. } => command.as_deref(),
        });
        let commands: Vec<&str> = commands.take(SHOWN).collect();
        if !commands.is_empty() {
            let commands = commands.join("\n  ");
            helps.push(format!("make wheels and say `wheels = \"wheels\"`:\n  {commands}"));
        }
        let more = count.saturating_sub(SHOWN);
        let more = if more > 0 { format!("; the first {SHOWN} are shown") } else { String::new() };
        let mut error = PythonError::new(kind, format!("{count} projects {what}{more}"));
        (error.places, error.help) = (places, Some(helps.join("\n")));
        Err(error)
    }

    /// With one more line of what to do.
    pub fn and_help(mut self, help: &str) -> PythonError {
        self.help = Some(self.help.map_or(help.to_owned(), |first| format!("{first}\n{help}")));
        self
    }

    /// What is wrong, in kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl std::fmt::Display for PythonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PythonError {}

impl Diagnostic for PythonError {
    fn code(&self) -> &'static str {
        match self.kind {
            Kind::Lock => "E-PYTHON-LOCK",
            Kind::LockVersion => "E-PYTHON-LOCK-VERSION",
            Kind::LockMissing => "E-PYTHON-LOCK-MISSING",
            Kind::Target => "E-PYTHON-TARGET",
            Kind::Unknown => "E-PYTHON-UNKNOWN",
            Kind::Conflict => "E-PYTHON-CONFLICT",
            Kind::Marker => "E-PYTHON-MARKER",
            Kind::Source => "E-PYTHON-SOURCE",
            Kind::Wheel => "E-PYTHON-WHEEL",
            Kind::Hash => "E-PYTHON-HASH",
            Kind::Changed => "E-PYTHON-CHANGED",
            Kind::IndexMissing => "E-NO-INDEX",
            Kind::Index => "E-PYTHON-INDEX",
            Kind::Interpreter => "E-PYTHON-INTERPRETER",
            Kind::Stale => "E-PYTHON-STALE",
        }
    }

    fn exit(&self) -> Exit {
        match self.kind {
            Kind::Lock | Kind::Index | Kind::Changed => Exit::Mismatch,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        let there = match self.missing.as_deref() {
            Some(Missing::There { found, command: None, .. }) => Some(format!("there are {found}")),
            Some(Missing::There { found, command: Some(command), .. }) => Some(format!(
                "there are {found}\nmake one from the source distribution with `{command}` and say `wheels = \"wheels\"`"
            )),
            _ => None,
        };
        let lines: Vec<String> = self.help.clone().into_iter().chain(there).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn places(&self) -> Vec<Place> {
        self.places.clone()
    }
}

/// Code, message, help, and the lines of the places.
#[cfg(test)]
pub(super) fn shown(error: impl Into<crate::diagnostic::Failure>) -> String {
    let failure = error.into();
    let mut text = format!("{}: {}", failure.code, failure.message);
    for place in &failure.places {
        let line = 1 + place.text[..place.span.start].matches('\n').count();
        let label = if place.label.is_empty() { "" } else { ": " };
        text.push_str(&format!("\n{}:{line}{label}{}", place.file.display(), place.label));
    }
    if let Some(help) = &failure.help {
        text.push_str(&format!("\nhelp: {help}"));
    }
    text
}
