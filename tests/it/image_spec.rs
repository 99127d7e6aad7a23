//! Good and bad documents, written from the clauses of OCI image-spec 1.1; each case names its clause.

mod config;
mod descriptor;
mod index;
mod layout;
mod manifest;

use dmoci::oci::{Problem, Severity, json};
use serde_json::Value;

/// What a document should be judged.
pub(crate) enum Judged {
    /// No error; warnings and notes are allowed.
    Good,
    /// At least this error, at this place.
    Bad(&'static str, &'static str),
}

/// One case: the clause, the document, the judgement.
pub(crate) type Case = (&'static str, String, Judged);

/// A value with one member changed: `path` is an RFC 6901 pointer, `None` removes.
pub(crate) fn with(base: &Value, path: &str, value: Option<Value>) -> String {
    let mut changed = base.clone();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("no {path}"));
    match (parent, value) {
        (Value::Object(map), Some(value)) => {
            map.insert(name.replace("~1", "/"), value);
        }
        (Value::Object(map), None) => {
            map.remove(name).unwrap_or_else(|| panic!("no {path}"));
        }
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{path} is in {other}"),
    }
    changed.to_string()
}

/// Fails unless every case is judged right.
#[track_caller]
pub(crate) fn judge<T>(cases: Vec<Case>, read: impl Fn(&Value, &mut Vec<Problem>) -> Option<T>) {
    let mut wrong = String::new();
    for (clause, text, judged) in &cases {
        let mut problems = Vec::new();
        let document = match json::parse(text.as_bytes()) {
            Ok(value) => read(&value, &mut problems).is_some(),
            Err(error) => {
                use dmoci::diagnostic::Diagnostic as _;
                problems.push(Problem::error(error.code(), "", error.to_string()));
                false
            }
        };
        let errors: Vec<_> = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| (problem.code, problem.pointer.as_str()))
            .collect();
        let right = match judged {
            Judged::Good => errors.is_empty() && document,
            Judged::Bad(code, pointer) => errors.contains(&(code, pointer)),
        };
        if !right {
            wrong += &format!("{clause}\n  {text}\n  {errors:?}\n");
        }
    }
    assert!(wrong.is_empty(), "judged wrongly:\n{wrong}");
}
