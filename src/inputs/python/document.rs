//! A TOML file of another tool, read key by key: each error shows its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::Digest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Kind, PythonError};
use super::marker::Marker;
use super::name::Name;
use super::version::{self, Version, VersionSpecifiers};
use crate::diagnostic::Place;
use crate::diagnostic::shown::Short;
use crate::limits;

/// Bytes of the text of a document.
pub(super) type Span = std::ops::Range<usize>;

/// The text of a lock file, and what messages call it.
#[derive(Clone, Debug)]
pub struct Document {
    file: PathBuf,
    text: Arc<str>,
}

impl Document {
    /// A text; `file` is relative to the project.
    pub fn new(file: &Path, text: impl Into<Arc<str>>) -> Document {
        Document { file: file.to_owned(), text: text.into() }
    }

    /// The file, relative to the project.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A place in it.
    pub fn place(&self, span: &Span, label: impl Into<String>) -> Place {
        Place { file: self.file.clone(), text: self.text.clone(), span: span.clone(), label: label.into() }
    }

    /// An error about a place in it.
    pub(super) fn error(&self, kind: Kind, span: &Span, message: impl Into<String>) -> PythonError {
        PythonError::new(kind, message).at(self.place(span, ""))
    }

    /// The text as TOML.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'_>>, PythonError> {
        if marks(&self.text) > limits::PYTHON_LOCK_VALUES {
            let (file, most) = (self.file.display(), limits::PYTHON_LOCK_VALUES);
            return Err(PythonError::new(Kind::Lock, format!("{file} holds more than {most} values")));
        }
        DeTable::parse(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            let first = error.message().lines().next().unwrap_or_default().to_owned();
            let message = format!("{} is not TOML: {}", self.file.display(), Short(&first));
            self.error(Kind::Lock, &span, message).with_help("let the tool that made it make it again")
        })
    }
}

/// How many values and tables a text of TOML may hold at most: what stands before or between them is counted, outside of strings
/// and comments. Each takes some hundred bytes of memory, however short it is written.
fn marks(text: &str) -> usize {
    let (mut count, mut quote, mut escaped) = (0, None, false);
    for byte in text.bytes() {
        match (quote, byte) {
            // Strings of several lines count as if each line was one.
            (_, b'\n') => (quote, escaped) = (None, false),
            (Some(b'"'), b'\\') if !escaped => escaped = true,
            (Some(end), _) if byte == end && !escaped => quote = None,
            (Some(_), _) => escaped = false,
            (None, b'"' | b'\'' | b'#') => quote = Some(if byte == b'#' { b'\n' } else { byte }),
            (None, b'=' | b',' | b'.' | b'[' | b'{') => count += 1,
            (None, _) => {}
        }
    }
    count
}

/// A table of a document.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) document: &'a Document,
    pub(super) span: Span,
    table: &'a DeTable<'a>,
}

/// A value that was read, and where it is written.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

impl<'a> Table<'a> {
    pub(super) fn new(document: &'a Document, table: &'a Spanned<DeTable<'a>>) -> Table<'a> {
        Table { document, span: 0..0, table: table.get_ref() }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, Span)> {
        self.table.keys().map(|key| (&**key.get_ref(), key.span()))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// An error about this table; about the whole file when it is the outermost.
    pub(super) fn error(&self, kind: Kind, message: impl Into<String>) -> PythonError {
        match self.span.is_empty() {
            true => PythonError::new(kind, format!("{}: {}", self.document.file.display(), message.into())),
            false => self.document.error(kind, &self.span, message),
        }
    }

    fn wrong(&self, span: &Span, key: &str, expected: &str) -> PythonError {
        PythonError::new(Kind::Lock, format!("`{key}` is not what it should be"))
            .at(self.document.place(span, format!("expected {expected}")))
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// What must be there.
    pub(super) fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, PythonError> {
        value.ok_or_else(|| self.error(Kind::Lock, format!("`{key}` is missing")))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<At<&'a str>>, PythonError> {
        self.get(key).map(|value| text(self, key, value)).transpose()
    }

    pub(super) fn integer(&self, key: &str) -> Result<Option<At<u64>>, PythonError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let span = value.span();
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        match number {
            Some(value) => Ok(Some(At { value, span })),
            None => Err(self.wrong(&span, key, "a whole number that is not negative")),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<At<&'a str>>, PythonError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let Some(array) = value.get_ref().as_array() else {
            return Err(self.wrong(&value.span(), key, "an array of strings"));
        };
        array.iter().map(|value| text(self, key, value)).collect()
    }

    /// An array of strings and tables.
    pub(super) fn mixed(&self, key: &str) -> Result<(Vec<At<&'a str>>, Vec<Table<'a>>), PythonError> {
        let (mut texts, mut tables) = (Vec::new(), Vec::new());
        let Some(value) = self.get(key) else { return Ok((texts, tables)) };
        let Some(array) = value.get_ref().as_array() else {
            return Err(self.wrong(&value.span(), key, "an array of strings and tables"));
        };
        for value in array {
            match value.get_ref() {
                DeValue::Table(_) => tables.push(table(self, key, value)?),
                _ => texts.push(text(self, key, value)?),
            }
        }
        Ok((texts, tables))
    }

    pub(super) fn table(&self, key: &str) -> Result<Option<Table<'a>>, PythonError> {
        self.get(key).map(|value| table(self, key, value)).transpose()
    }

    pub(super) fn tables(&self, key: &str) -> Result<Vec<Table<'a>>, PythonError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let Some(array) = value.get_ref().as_array() else {
            return Err(self.wrong(&value.span(), key, "an array of tables"));
        };
        array.iter().map(|value| table(self, key, value)).collect()
    }

    /// An array of arrays of tables, flat: the groups do not matter to whom this serves, but their borders do.
    pub(super) fn table_lists(&self, key: &str) -> Result<Vec<Vec<Table<'a>>>, PythonError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let expected = || self.wrong(&value.span(), key, "an array of arrays of tables");
        let outer = value.get_ref().as_array().ok_or_else(expected)?;
        outer
            .iter()
            .map(|inner| {
                let inner = inner.get_ref().as_array().ok_or_else(expected)?;
                inner.iter().map(|value| table(self, key, value)).collect()
            })
            .collect()
    }

    pub(super) fn name(&self, key: &str) -> Result<Option<At<Name>>, PythonError> {
        self.text(key)?.map(|at| self.to_name(key, at)).transpose()
    }

    pub(super) fn names(&self, key: &str) -> Result<Vec<At<Name>>, PythonError> {
        self.texts(key)?.into_iter().map(|at| self.to_name(key, at)).collect()
    }

    fn to_name(&self, key: &str, At { value, span }: At<&str>) -> Result<At<Name>, PythonError> {
        match Name::parse(value) {
            Some(value) => Ok(At { value, span }),
            None => Err(self.wrong(&span, key, "a name of letters, digits, `-`, `_` and `.`")),
        }
    }

    pub(super) fn version(&self, key: &str) -> Result<Option<At<Version>>, PythonError> {
        let Some(At { value, span }) = self.text(key)? else { return Ok(None) };
        match version::version(value) {
            Some(value) => Ok(Some(At { value, span })),
            None => Err(self.wrong(&span, key, "a version such as \"1.2.3\"")),
        }
    }

    pub(super) fn specifiers(&self, key: &str) -> Result<Option<At<VersionSpecifiers>>, PythonError> {
        let Some(At { value, span }) = self.text(key)? else { return Ok(None) };
        match version::specifiers(value) {
            Ok(value) => Ok(Some(At { value, span })),
            Err(why) => {
                let why = format!("versions such as \">=3.9\": {why}");
                Err(self.wrong(&span, key, &why))
            }
        }
    }

    pub(super) fn marker(&self, key: &str) -> Result<Option<At<Marker>>, PythonError> {
        self.text(key)?.map(|at| self.to_marker(key, at)).transpose()
    }

    pub(super) fn markers(&self, key: &str) -> Result<Vec<At<Marker>>, PythonError> {
        self.texts(key)?.into_iter().map(|at| self.to_marker(key, at)).collect()
    }

    fn to_marker(&self, key: &str, At { value, span }: At<&str>) -> Result<At<Marker>, PythonError> {
        match Marker::parse(value) {
            Ok(value) => Ok(At { value, span }),
            Err(error) => {
                let why = format!("an environment marker; at its character {}: {error}", error.at + 1);
                Err(self.wrong(&span, key, &why))
            }
        }
    }
}

fn text<'a>(
    table: &Table<'a>,
    key: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<At<&'a str>, PythonError> {
    match value.get_ref() {
        DeValue::String(text) => Ok(At { value: text, span: value.span() }),
        _ => Err(table.wrong(&value.span(), key, "a string")),
    }
}

fn table<'a>(
    outer: &Table<'a>,
    key: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<Table<'a>, PythonError> {
    match value.get_ref() {
        DeValue::Table(table) => Ok(Table { document: outer.document, span: value.span(), table }),
        _ => Err(outer.wrong(&value.span(), key, "a table")),
    }
}

/// Of hashes, algorithm and value, the one that files are held to: sha256, else sha512.
///
/// Nothing when there is neither; an error, what belongs there, when it is malformed.
pub(super) fn best_hash<'a>(
    hashes: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Digest>, &'static str> {
    let mut best: Option<(u8, Digest)> = None;
    for (algorithm, value) in hashes {
        let rank = match algorithm.to_ascii_lowercase().as_str() {
            "sha256" => 0,
            "sha512" => 1,
            _ => continue,
        };
        let text = format!("{}:{}", algorithm.to_ascii_lowercase(), value.to_ascii_lowercase());
        let digest = text.parse().map_err(|_| match rank {
            0 => "64 hexadecimal digits behind sha256",
            _ => "128 hexadecimal digits behind sha512",
        })?;
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, digest));
        }
    }
    Ok(best.map(|(_, digest)| digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_memory() {
        for (text, count) in [
            ("a = 1\nb.c = { d = [1, 2.5] }\n[[x.y]]\n", 11),
            ("a = \"1,2=3\\\"=4\" # x = 1, don't\nb = '\\' # [\nc = ''", 3),
            ("a = \"\"\"x = 1\ny = 2\"\"\"\nb = 1", 3),
            ("# \"\na = 1", 1),
            ("", 0),
        ] {
            assert_eq!(marks(text), count, "{text}");
        }
    }

    #[test]
    fn short_values_are_bounded() {
        let parsed =
            |text: String| Document::new("x".as_ref(), text).parse().map(drop).map_err(|e| e.to_string());
        assert_eq!(parsed(format!("a = [{}]", "0,".repeat(100))), Ok(()));
        assert_eq!(parsed(format!("a = \"{}\"", "0,".repeat(limits::PYTHON_LOCK_VALUES + 1))), Ok(()));
        for text in [
            format!("a = [{}]", "0,".repeat(limits::PYTHON_LOCK_VALUES)),
            format!("[{}a]", "a.".repeat(limits::PYTHON_LOCK_VALUES)),
        ] {
            assert_eq!(parsed(text), Err("x holds more than 1000000 values".into()));
        }
    }
}
