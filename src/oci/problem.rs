//! What is wrong with a document: one clause, one place, what was expected and what was found.

use serde_json::Value;

use crate::diagnostic::shown;

/// How much a problem weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; decides nothing.
    Note,
    /// Against a "SHOULD", or a trap; decides nothing.
    Warning,
    /// Against a "MUST", or damage: the verdict is no.
    Error,
}

/// One thing that is wrong at one place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, `E-` and capitals.
    pub code: &'static str,
    /// Weight.
    pub severity: Severity,
    /// Where, as an RFC 6901 pointer; empty for the whole document.
    pub pointer: String,
    /// What is wrong, one sentence without full stop.
    pub message: String,
    /// What the clause asks for; may be empty.
    pub expected: String,
    /// What stands there; may be empty.
    pub found: String,
}

impl Problem {
    /// An error at `pointer`.
    pub fn error(code: &'static str, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::new(Severity::Error, code, pointer, message)
    }

    /// A warning at `pointer`.
    pub fn warning(code: &'static str, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::new(Severity::Warning, code, pointer, message)
    }

    /// A note at `pointer`.
    pub fn note(code: &'static str, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::new(Severity::Note, code, pointer, message)
    }

    /// The same with what was expected and what was found.
    pub fn but(mut self, expected: impl Into<String>, found: impl Into<String>) -> Problem {
        self.expected = shown::message(expected.into());
        self.found = shown::message(found.into());
        self
    }

    fn new(severity: Severity, code: &'static str, pointer: &str, message: impl Into<String>) -> Problem {
        Problem {
            code,
            severity,
            pointer: pointer.to_owned(),
            message: shown::message(message.into()),
            expected: String::new(),
            found: String::new(),
        }
    }
}

/// A JSON value for a message: cut after 120 characters.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
