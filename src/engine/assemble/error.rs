//! Why an image cannot be built.

use std::fmt;

use dmoci_layers::{LayerError, SafePath};

use crate::diagnostic::{Diagnostic, Exit, Failure, Place};
use crate::inputs::InputError;
use crate::inputs::base::TreeError;
use crate::inputs::python::PythonError;

/// Why an image cannot be built, and the places in the spec that it is about.
#[derive(Debug)]
pub struct BuildError {
    /// What is wrong.
    pub kind: Box<BuildErrorKind>,
    /// Where in the spec, the main place first.
    pub places: Vec<Place>,
}

/// What can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum BuildErrorKind {
    /// An input cannot be used.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A path leads through something below that is no directory.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Something that says itself what the user is to be told.
    #[error("{0}")]
    Told(Failure),
    /// Two inputs of one layer give the same path with different content.
    #[error("two inputs of the layer {layer:?} give {path}: {what}")]
    Conflict {
        /// The layer.
        layer: String,
        /// The path.
        path: SafePath,
        /// In what they differ.
        what: &'static str,
    },
    /// A file would take the place of a directory of the layers below, or the other way round.
    #[error("{path} is {below} in the layers below, and {above} in the layer {layer:?}")]
    Kind {
        /// The layer.
        layer: String,
        /// The path.
        path: SafePath,
        /// What it is below.
        below: &'static str,
        /// What it would become.
        above: &'static str,
    },
    /// Something below is named that is not there.
    #[error("{pattern:?} matches nothing below the layer {layer:?}")]
    Nothing {
        /// The code, by the key that names it.
        code: &'static str,
        /// The layer.
        layer: String,
        /// The pattern.
        pattern: String,
        /// What was meant, probably.
        hint: Option<String>,
    },
    /// What is named cannot be adjusted so.
    #[error("{path} is {what}")]
    Adjust {
        /// The first path.
        path: SafePath,
        /// What it is.
        what: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// Several errors of one code, each with its places.
    #[error("{message}")]
    Several {
        /// How many, and of what.
        message: String,
        /// All of them; never none.
        errors: Vec<BuildError>,
    },
    /// A layer cannot be written for what is in it.
    #[error(transparent)]
    Layer(LayerError),
    /// A user is there already with other numbers.
    #[error("{file} has {found:?} already, which is not {expected:?}")]
    User {
        /// `/etc/passwd` or `/etc/group`.
        file: String,
        /// The line there.
        found: String,
        /// The line to be added.
        expected: String,
    },
    /// `/etc/passwd` or `/etc/group` cannot be added to.
    #[error("users cannot be added: {0}")]
    Users(String),
    /// `${base.NAME}` of a variable that the base image does not have.
    #[error("the base image has no environment variable {0}")]
    BaseEnv(String),
    /// The base image does not fit.
    #[error("the base image cannot be used: {0}")]
    Base(String),
    /// The base image cannot be read, and it is known what to do.
    #[error("the base image cannot be used: {why}")]
    BaseSaid {
        /// Why.
        why: String,
        /// What to do.
        help: String,
    },
}

impl BuildError {
    /// An error without a place.
    pub fn new(kind: impl Into<BuildErrorKind>) -> BuildError {
        BuildError { kind: Box::new(kind.into()), places: Vec::new() }
    }

    /// Several errors of one code as one, which `message` makes of their number; none is none.
    pub(super) fn all(
        mut errors: Vec<BuildError>,
        message: impl FnOnce(usize) -> String,
    ) -> Result<(), BuildError> {
        match (errors.pop(), errors.len()) {
            (None, _) => Ok(()),
            (Some(error), 0) => Err(error),
            (Some(error), others) => {
                errors.push(error);
                Err(BuildErrorKind::Several { message: message(others + 1), errors }.into())
            }
        }
    }

    /// The same error at a place.
    pub fn at(mut self, place: Place) -> BuildError {
        self.places.push(place);
        self
    }
}

impl<K: Into<BuildErrorKind>> From<K> for BuildError {
    fn from(kind: K) -> BuildError {
        BuildError::new(kind)
    }
}

impl From<Failure> for BuildErrorKind {
    fn from(failure: Failure) -> BuildErrorKind {
        BuildErrorKind::Told(failure)
    }
}

impl From<PythonError> for BuildErrorKind {
    fn from(error: PythonError) -> BuildErrorKind {
        BuildErrorKind::Told(error.into())
    }
}

impl From<LayerError> for BuildErrorKind {
    fn from(error: LayerError) -> BuildErrorKind {
        match error {
            LayerError::Read { path, source } => match InputError::inside(source) {
                Ok(error) => BuildErrorKind::Input(error),
                Err(source) => BuildErrorKind::Layer(LayerError::Read { path, source }),
            },
            error => BuildErrorKind::Layer(error),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.kind, f)
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl Diagnostic for BuildError {
    fn code(&self) -> &'static str {
        match &*self.kind {
            BuildErrorKind::Input(error) => error.code(),
            BuildErrorKind::Told(failure) => failure.code,
            BuildErrorKind::Tree(_) => "E-PATH-BELOW",
            BuildErrorKind::Conflict { .. } => "E-PATH-CONFLICT",
            BuildErrorKind::Kind { .. } => "E-PATH-KIND",
            BuildErrorKind::Nothing { code, .. } => code,
            BuildErrorKind::Adjust { .. } => "E-ADJUST",
            BuildErrorKind::Several { errors, .. } => errors.first().map_or("E-BUG", BuildError::code),
            BuildErrorKind::Layer(LayerError::Write(_)) => "E-OUTPUT",
            BuildErrorKind::Layer(LayerError::Size { .. }) => "E-SOURCE-CHANGED",
            BuildErrorKind::Layer(_) => "E-LAYER",
            BuildErrorKind::User { .. } | BuildErrorKind::Users(_) => "E-USERS",
            BuildErrorKind::BaseEnv(_) => "E-BASE-ENV",
            BuildErrorKind::Base(_) | BuildErrorKind::BaseSaid { .. } => "E-BASE",
        }
    }

    fn exit(&self) -> Exit {
        match &*self.kind {
            BuildErrorKind::Input(error) => error.exit(),
            BuildErrorKind::Told(failure) => failure.exit,
            BuildErrorKind::Layer(
                LayerError::Write(_) | LayerError::Read { .. } | LayerError::Size { .. },
            ) => Exit::Undecided,
            BuildErrorKind::Base(_) | BuildErrorKind::BaseSaid { .. } => Exit::Mismatch,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match &*self.kind {
            BuildErrorKind::Input(error) => return error.help(),
            BuildErrorKind::Told(failure) => return failure.help.clone(),
            BuildErrorKind::Conflict { .. } => {
                "leave it out of one of them with `exclude`, or say `replace = true` in the later one, so that it \
                 takes the place of the other"
                    .into()
            }
            BuildErrorKind::Kind { .. } => {
                "choose another path, leave it out with `exclude`, or say `replace = true` when it is to take the \
                 place of what is below"
                    .into()
            }
            BuildErrorKind::Adjust { help, .. } => (*help).into(),
            BuildErrorKind::Several { errors, .. } => return helps(errors),
            BuildErrorKind::Nothing { hint: Some(hint), .. } => hint.clone(),
            BuildErrorKind::Nothing { .. } => {
                "it is held against the base and the layers before this one; `dmoci inspect --files` lists what an image \
                 holds"
                    .into()
            }
            BuildErrorKind::Tree(TreeError::NotDirectory { .. }) => {
                "choose another path, `remove` what is there, or give a `directory` that says `replace = true`".into()
            }
            BuildErrorKind::Layer(LayerError::Write(source))
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                "free some space, or name another output directory with -o; the last complete image is still there"
                    .into()
            }
            BuildErrorKind::Layer(LayerError::Size { .. }) => {
                "run the build again when nothing writes to the project".into()
            }
            BuildErrorKind::User { .. } => "use the numbers of the base image, or another name".into(),
            BuildErrorKind::BaseSaid { help, .. } => help.clone(),
            BuildErrorKind::Base(_) => {
                "look at it with `dmoci verify --integrity-only` and `dmoci inspect`, or name another base".into()
            }
            BuildErrorKind::BaseEnv(_) => "write the value out instead of `${base.…}`".into(),
            _ => return None,
        })
    }

    fn causes(&self) -> Vec<String> {
        match &*self.kind {
            BuildErrorKind::Told(failure) => failure.causes.clone(),
            _ => Vec::new(),
        }
    }

    fn places(&self) -> Vec<Place> {
        match &*self.kind {
            BuildErrorKind::Told(failure) => [&failure.places[..], &self.places].concat(),
            BuildErrorKind::Several { errors, .. } => errors
                .iter()
                .take(SHOWN)
                .flat_map(|error| {
                    error.places().into_iter().map(|place| Place { label: error.to_string(), ..place })
                })
                .collect(),
            _ => self.places.clone(),
        }
    }
}

/// So many errors are shown at once.
const SHOWN: usize = 20;

/// What to do about each of several errors, with its line unless it is for all of them.
fn helps(errors: &[BuildError]) -> Option<String> {
    let mut helps: Vec<(String, Vec<String>)> = Vec::new();
    let shown = &errors[..errors.len().min(SHOWN)];
    for error in shown {
        let Some(help) = error.help() else { continue };
        let line = error.places.first().map_or(0, Place::line).to_string();
        match helps.iter_mut().find(|(other, _)| *other == help) {
            Some((_, lines)) => lines.push(line),
            None => helps.push((help, vec![line])),
        }
    }
    let show = |(help, mut lines): (String, Vec<String>)| {
        if lines.len() == shown.len() {
            return help;
        }
        lines.dedup();
        format!("{} {}: {help}", if lines.len() == 1 { "line" } else { "lines" }, lines.join(", "))
    };
    (!helps.is_empty()).then(|| helps.into_iter().map(show).collect::<Vec<_>>().join("\n"))
}
