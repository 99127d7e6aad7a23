//! What every error of the program can say of itself: a stable code, an exit code, a place and a help line.

pub mod shown;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or verified.
    Done = 0,
    /// Mismatch, tampering or malformed input.
    Mismatch = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Evidence is missing.
    Missing = 3,
    /// Refused by identity or policy.
    Refused = 4,
    /// A rebuild differs.
    Differs = 5,
    /// Could not be decided: input and output, network, no way to rebuild.
    Undecided = 6,
}

impl Exit {
    /// Of two outcomes the one that decides: 1, 4, 3, 5, 6, 2, 0.
    pub fn worst(self, other: Exit) -> Exit {
        let rank = |exit: Exit| match exit {
            Exit::Mismatch => 6,
            Exit::Refused => 5,
            Exit::Missing => 4,
            Exit::Differs => 3,
            Exit::Undecided => 2,
            Exit::Usage => 1,
            Exit::Done => 0,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// A place in a text that the user wrote, such as a line of `dmoci.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: PathBuf,
    /// The whole text of the file.
    pub text: Arc<str>,
    /// The bytes of `text` that are meant.
    pub span: Range<usize>,
    /// What is to be said at that place; may be empty.
    pub label: String,
}

impl Place {
    /// The line that it begins in, from 1.
    pub fn line(&self) -> usize {
        1 + self.text.bytes().take(self.span.start).filter(|byte| *byte == b'\n').count()
    }
}

/// One error for the user: built from an area's own error at the border of `ops`, printed by `cli`.
#[derive(Debug)]
pub struct Failure {
    /// Stable code, `E-` and capitals.
    pub code: &'static str,
    /// What the process ends with.
    pub exit: Exit,
    /// What went wrong and where, one sentence without full stop.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// Places in the user's own files, the main one first.
    pub places: Vec<Place>,
    /// What to do.
    pub help: Option<String>,
}

/// Some of these for a message, and how many more there are: a bounded text, whatever they are.
pub fn few<T: fmt::Display>(all: impl ExactSizeIterator<Item = T>) -> String {
    const SHOWN: usize = 8;
    const LONGEST: usize = 200;
    let more = all.len().saturating_sub(SHOWN);
    let cut = |one: T| {
        let text = one.to_string();
        match text.char_indices().nth(LONGEST) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        }
    };
    let shown: Vec<String> = all.take(SHOWN).map(cut).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Failure {
    /// Without these values, for each of which its name is shown: `${NAME}`. The texts of the user's own files stay.
    pub fn hiding(mut self, secrets: &BTreeSet<Secret>) -> Failure {
        // One value may be a part of another.
        let mut secrets: Vec<&Secret> = secrets.iter().collect();
        secrets.sort_by_key(|secret| Reverse(secret.value.len()));
        let labels = self.places.iter_mut().map(|place| &mut place.label);
        let texts = self.causes.iter_mut().chain(&mut self.help).chain(labels).chain([&mut self.message]);
        for text in texts {
            secrets.iter().for_each(|secret| *text = secret.hidden(std::mem::take(text)));
        }
        self
    }
}

/// The value of a variable of the environment, which is not to be shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret {
    name: String,
    value: String,
}

impl Secret {
    /// A value that is long enough to be a secret; one that is shorter would be found everywhere.
    pub fn new(name: &str, value: &str) -> Option<Secret> {
        (value.len() >= 4).then(|| Secret { name: name.to_owned(), value: value.to_owned() })
    }

    /// A text with `${NAME}` where the value stood.
    pub fn hidden(&self, text: String) -> String {
        match text.contains(&self.value) {
            true => text.replace(&self.value, &format!("${{{}}}", self.name)),
            false => text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}

/// An area's error that knows its code, its outcome and a way forward.
///
/// `Display` says what went wrong, without the sources; these are printed below it.
pub trait Diagnostic: std::error::Error {
    /// Stable code, `E-` and capitals.
    fn code(&self) -> &'static str;
    /// What the process ends with.
    fn exit(&self) -> Exit;
    /// What to do.
    fn help(&self) -> Option<String> {
        None
    }
    /// Causes that are known as texts only, the nearest first; those that [`source`](std::error::Error::source) gives follow.
    fn causes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Places in the user's own files, the main one first.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }
}

impl<E: Diagnostic> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut causes = error.causes();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(shown::message(cause.to_string()));
            source = cause.source();
        }
        Failure {
            code: error.code(),
            exit: error.exit(),
            message: shown::message(error.to_string()),
            causes,
            places: error.places(),
            help: error.help().map(shown::message),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_many() {
        assert_eq!(few(["a", "b"].iter()), "a, b");
        assert_eq!(few([0; 10].iter()), "0, 0, 0, 0, 0, 0, 0, 0 and 2 more");
        assert_eq!(few(["é".repeat(300)].iter()).chars().count(), 201);
    }

    #[test]
    fn precedence_of_exit_codes() {
        use Exit::*;
        let order = [Mismatch, Refused, Missing, Differs, Undecided, Usage, Done];
        for (i, &worse) in order.iter().enumerate() {
            for &better in &order[i..] {
                assert_eq!(worse.worst(better), worse);
                assert_eq!(better.worst(worse), worse);
            }
        }
    }
}
