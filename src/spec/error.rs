//! What can be wrong with `dmoci.toml`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::target::Span;
use crate::diagnostic::{Diagnostic, Exit, Place};

/// Why there is no specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`crate::limits::SPEC_BYTES`].
    #[error("{} is larger than {limit} bytes", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit: u64,
    },
    /// The file is no UTF-8 text.
    #[error("{} is not UTF-8 text: byte {at} does not belong there", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The offset of the first wrong byte.
        at: usize,
    },
    /// Something in the file is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// A value is given for a name that the file does not declare.
    #[error("`--set {name}=…`: there is no such variable in [vars] of {}", path.display())]
    Set {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The declared names.
        declared: Vec<String>,
        /// The one that was meant, probably.
        nearest: Option<String>,
    },
    /// A variant is asked for that the file does not have.
    #[error("there is no variant {name:?} in {}", path.display())]
    Variant {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The names of its variants.
        declared: Vec<String>,
        /// The one that was meant, probably.
        nearest: Option<String>,
    },
}

/// All that is wrong in one file; at least one problem.
#[derive(Debug)]
pub struct Problems {
    /// The file as the user named it.
    pub file: PathBuf,
    /// Its text.
    pub text: Arc<str>,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, `E-SPEC-` and capitals.
    pub code: &'static str,
    /// Where.
    pub span: Span,
    /// What is wrong, one sentence without full stop.
    pub message: String,
    /// What belongs there; may be empty.
    pub expected: String,
    /// What to do.
    pub help: Option<String>,
    /// Another place that matters, and why.
    pub other: Option<Box<(Span, String)>>,
}

impl Problem {
    /// A problem with nothing but its code, place and message.
    pub fn new(code: &'static str, span: &Span, message: impl Into<String>) -> Problem {
        Problem {
            code,
            span: span.clone(),
            message: message.into(),
            expected: String::new(),
            help: None,
            other: None,
        }
    }

    /// With what belongs there.
    pub fn expected(mut self, expected: impl Into<String>) -> Problem {
        self.expected = expected.into();
        self
    }

    /// With what to do.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// With another place that matters.
    pub fn other(mut self, span: &Span, label: impl Into<String>) -> Problem {
        self.other = Some(Box::new((span.clone(), label.into())));
        self
    }
}

/// So many problems are shown at once.
const SHOWN: usize = 20;

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problems[..] {
            [problem] => f.write_str(&problem.message),
            problems if problems.len() > SHOWN => {
                let (file, count) = (self.file.display(), problems.len());
                write!(f, "{file} has {count} problems, of which the first {SHOWN} are shown")
            }
            problems => write!(f, "{} has {} problems", self.file.display(), problems.len()),
        }
    }
}

impl std::error::Error for Problems {}

impl Problems {
    fn places(&self) -> Vec<Place> {
        let place = |span: &Span, label: String| Place {
            file: self.file.clone(),
            text: self.text.clone(),
            span: span.clone(),
            label,
        };
        let single = self.problems.len() == 1;
        let mut places = Vec::new();
        for problem in self.problems.iter().take(SHOWN) {
            places.push(place(
                &problem.span,
                match (single, problem.expected.is_empty()) {
                    (true, _) => problem.expected.clone(),
                    (false, true) => problem.message.clone(),
                    (false, false) => format!("{}: {}", problem.message, problem.expected),
                },
            ));
            places.extend(problem.other.iter().map(|other| place(&other.0, other.1.clone())));
        }
        places
    }

    /// The help of each problem, with the lines that it is for unless it is for all of them.
    fn help(&self) -> Option<String> {
        let shown = &self.problems[..self.problems.len().min(SHOWN)];
        let mut helps: Vec<(&str, Vec<usize>)> = Vec::new();
        for problem in shown {
            let Some(help) = problem.help.as_deref() else { continue };
            let line =
                1 + self.text.as_bytes().iter().take(problem.span.start).filter(|b| **b == b'\n').count();
            match helps.iter_mut().find(|(other, _)| *other == help) {
                Some((_, lines)) => lines.push(line),
                None => helps.push((help, vec![line])),
            }
        }
        let show = |(help, mut lines): (&str, Vec<usize>)| {
            if lines.len() == shown.len() {
                return help.to_owned();
            }
            lines.dedup();
            let word = if lines.len() == 1 { "line" } else { "lines" };
            let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            format!("{word} {}: {}", lines.join(", "), help.replace('\n', "\n  "))
        };
        (!helps.is_empty()).then(|| helps.into_iter().map(show).collect::<Vec<_>>().join("\n"))
    }
}

impl Diagnostic for SpecError {
    fn code(&self) -> &'static str {
        match self {
            SpecError::Read { .. } => "E-SPEC-READ",
            SpecError::Large { .. } => "E-SPEC-LARGE",
            SpecError::Encoding { .. } => "E-SPEC-ENCODING",
            SpecError::Set { .. } => "E-SPEC-SET",
            SpecError::Variant { .. } => "E-VARIANT",
            SpecError::Problems(all) => match &all.problems[..] {
                [first, rest @ ..] if rest.iter().all(|problem| problem.code == first.code) => first.code,
                _ => "E-SPEC",
            },
        }
    }

    fn exit(&self) -> Exit {
        match self {
            SpecError::Read { source, .. } if source.kind() != io::ErrorKind::NotFound => Exit::Undecided,
            SpecError::Problems(_) if self.code() == "E-SOURCE-READ" => Exit::Undecided,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            SpecError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("name the project directory with -C DIR, or the file with -f FILE".to_owned())
            }
            SpecError::Set { nearest: Some(name), .. } | SpecError::Variant { nearest: Some(name), .. } => {
                Some(format!("did you mean `{name}`?"))
            }
            SpecError::Set { declared, .. } => Some(match &declared[..] {
                [] => "only `version` can be set".to_owned(),
                names => {
                    format!("`version` and these can be set: {}", one_of(names.iter().map(String::as_str)))
                }
            }),
            SpecError::Variant { declared, .. } => Some(match &declared[..] {
                [] => "a table [variant.NAME] makes one".to_owned(),
                names => format!("its variants are {}", one_of(names.iter().map(String::as_str))),
            }),
            SpecError::Problems(all) => all.help(),
            _ => None,
        }
    }

    fn places(&self) -> Vec<Place> {
        match self {
            SpecError::Problems(all) => all.places(),
            _ => Vec::new(),
        }
    }
}

/// Names in backquotes, separated by commas.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
