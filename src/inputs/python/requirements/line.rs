//! Lines of a requirements file: continuation, comments, variables and options, as pip reads them.

use std::collections::BTreeSet;

use super::super::document::{Document, Span};
use super::super::error::{Kind, PythonError};
use super::super::name::Name;
use crate::diagnostic::Secret;
use crate::limits;

/// One line of meaning, out of one or several lines of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What stands before the options: a requirement, or nothing.
    pub(super) argument: String,
    /// Names with their values, in the order written; flags have none.
    pub(super) options: Vec<(String, Option<String>)>,
    /// The first line of the text.
    pub(super) span: Span,
    /// What it says as written, when variables are replaced in it; empty where that says nothing.
    pub(super) written: Option<String>,
}

/// Lines, and what is not to be shown of them: the values of the variables.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) lines: Vec<Line>,
    pub(super) secrets: BTreeSet<Secret>,
}

impl Line {
    /// The error about this line. Where variables are replaced it does not say more than that: they may hold secrets.
    pub(super) fn guarded(&self, document: &Document, error: PythonError) -> PythonError {
        match self.written {
            None => error,
            Some(_) => guarded(document, &self.span, &error),
        }
    }
}

fn guarded(document: &Document, span: &Span, error: &PythonError) -> PythonError {
    document
        .error(error.kind(), span, "with its variables replaced this line is none that dmoci reads")
        .with_help("what they hold is not shown; write the line without them to see what is wrong")
}

/// Short names of options, and other old ones.
const SHORT: [(&str, &str); 7] = [
    ("-r", "--requirement"),
    ("-c", "--constraint"),
    ("-e", "--editable"),
    ("-i", "--index-url"),
    ("-f", "--find-links"),
    ("--pypi-url", "--index-url"),
    ("--global-option", "--config-settings"),
];

/// Options that stand alone.
const FLAGS: [&str; 4] = ["--no-index", "--prefer-binary", "--require-hashes", "--pre"];

/// Options with a value.
const VALUED: [&str; 12] = [
    "--requirement",
    "--constraint",
    "--editable",
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--no-binary",
    "--only-binary",
    "--trusted-host",
    "--use-feature",
    "--hash",
    "--config-settings",
];

/// The lines that say something.
pub(super) fn lines(
    document: &Document,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<Lines, PythonError> {
    let mut found = Lines::default();
    let mut total = 0;
    for (text, span) in logical(document.text()) {
        if found.lines.len() == limits::PYTHON_LINES {
            let message = format!("there are more than {} lines", limits::PYTHON_LINES);
            return Err(document.error(Kind::Lock, &span, message));
        }
        let text = without_comment(&text).trim();
        let line = match expanded(document, &span, text, variables, &mut found.secrets)? {
            None => split(document, &span, text)?,
            Some(expanded) => {
                total += expanded.len() as u64;
                if total > limits::PYTHON_LOCK_BYTES {
                    let most = limits::PYTHON_LOCK_BYTES;
                    let message = format!("with its variables replaced the file is larger than {most} bytes");
                    return Err(document.error(Kind::Lock, &span, message));
                }
                let line =
                    split(document, &span, &expanded).map_err(|error| guarded(document, &span, &error))?;
                let written = options_at(text).map_or(text, |at| text[..at].trim());
                Line { written: Some(written.to_owned()), ..line }
            }
        };
        found.lines.push(line);
    }
    Ok(found)
}

/// Lines with something in them, joined where they end with `\`, each with the place of its first one; one more than there may
/// be at most.
fn logical(text: &str) -> Vec<(String, Span)> {
    let text_start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut all: Vec<(String, Span)> = Vec::new();
    let mut open: Option<(String, Span)> = None;
    let mut at = text_start;
    for whole in text[text_start..].split_inclusive('\n') {
        let raw = whole.trim_end_matches(['\n', '\r']);
        let indent = raw.len() - raw.trim_start().len();
        let end = raw.trim_end_matches(['\\', ' ', '\t']).len().max(indent);
        let span = at + indent..at + end;
        at += whole.len();
        let is_comment = raw.trim_start().starts_with('#');
        let goes_on = raw.ends_with('\\') && !is_comment;
        // A comment ends what was open, and never goes on itself.
        let piece = match (is_comment, goes_on) {
            (true, _) => format!(" {raw}"),
            (_, true) => raw.trim_end_matches('\\').to_owned(),
            _ => raw.to_owned(),
        };
        let (mut line, span) = open.take().unwrap_or((String::new(), span));
        line.push_str(&piece);
        match goes_on {
            true => open = Some((line, span)),
            false if without_comment(&line).trim().is_empty() => {}
            false => all.push((line, span)),
        }
        if all.len() > limits::PYTHON_LINES {
            return all;
        }
    }
    all.extend(open.filter(|(line, _)| !without_comment(line).trim().is_empty()));
    all
}

/// Up to a `#` at the beginning or behind white space.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// With every `${NAME}` of capitals, digits and `_` replaced; nothing where there is none.
fn expanded(
    document: &Document,
    span: &Span,
    line: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    secrets: &mut BTreeSet<Secret>,
) -> Result<Option<String>, PythonError> {
    let mut out = String::new();
    let mut rest = line;
    let mut any = false;
    while let Some((before, behind)) = rest.split_once("${") {
        out.push_str(before);
        rest = behind;
        let is_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let end = behind.bytes().position(|b| !is_name(b)).filter(|end| *end > 0);
        let Some((name, behind)) =
            end.and_then(|end| Some((&behind[..end], behind[end..].strip_prefix('}')?)))
        else {
            out.push_str("${");
            continue;
        };
        let value = variables(name).ok_or_else(|| {
            document
                .error(Kind::Lock, span, format!("the environment variable {name} is not set"))
                .with_help(format!("set {name}, or write its value into the file"))
        })?;
        out.push_str(&value);
        any = true;
        if out.len() as u64 > limits::PYTHON_LOCK_BYTES {
            break;
        }
        secrets.extend(Secret::new(name, &value));
        // Names of projects and tags are shown in their normal forms.
        secrets.extend(Secret::new(name, &value.to_ascii_lowercase()));
        secrets.extend(Name::parse(&value).and_then(|normal| Secret::new(name, normal.as_str())));
        rest = behind;
    }
    out.push_str(rest);
    Ok(any.then_some(out))
}

fn split(document: &Document, span: &Span, text: &str) -> Result<Line, PythonError> {
    let wrong = |message: String| document.error(Kind::Lock, span, message);
    let (argument, options) = match options_at(text) {
        Some(at) => (text[..at].trim(), &text[at..]),
        None => (text, ""),
    };
    let words = words(options).ok_or_else(|| wrong("a quote has no end".into()))?;
    let mut words = words.into_iter();
    let mut list = Vec::new();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (word.clone(), None),
        };
        // `-rother.txt`: a short name and its value in one word.
        let (name, value) = match SHORT.iter().find(|(short, _)| short.len() == 2 && name.starts_with(short))
        {
            Some((short, long)) if name.len() > 2 => (*long, Some(name[short.len()..].to_owned())),
            _ => (
                SHORT.iter().find(|(short, _)| *short == name).map_or(name.as_str(), |(_, long)| long),
                value,
            ),
        };
        if FLAGS.contains(&name) && value.is_none() {
            list.push((name.to_owned(), None));
        } else if VALUED.contains(&name) {
            let value =
                value.or_else(|| words.next()).ok_or_else(|| wrong(format!("{name} has no value")))?;
            list.push((name.to_owned(), Some(value)));
        } else {
            let shown: String = name.chars().take(64).collect();
            return Err(wrong(format!("{shown} is no option of a requirements file")));
        }
    }
    Ok(Line { argument: argument.to_owned(), options: list, span: span.clone(), written: None })
}

/// Where the options begin: at the first word that begins with `-`.
fn options_at(text: &str) -> Option<usize> {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '-' && before.is_whitespace() {
            return Some(at);
        }
        before = c;
    }
    None
}

/// Words as a shell splits them, quotes and backslashes but nothing else; nothing when a quote has no end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => word.push(chars.next()?),
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Line>, PythonError> {
        let variables = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        lines(&Document::new("requirements.txt".as_ref(), text), &variables).map(|found| found.lines)
    }

    #[test]
    fn joined_and_cut() {
        let text = "\u{feff}# head\na==1 \\\n    --hash=sha256:x \\\n    --hash sha256:y  # why\n\nb==2 ; os_name == 'a#b' # c\n  \
                    c#d==1\n--index-url https://u:${TOKEN}@h/simple --no-index\n-rother.txt\n-c 'two words.txt'\nd==1 \\\n# end\ne==1 \\";
        let found = read(text).unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|line| {
                let options: Vec<String> = line
                    .options
                    .iter()
                    .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("-")))
                    .collect();
                format!("{} | {} | {}", line.argument, options.join(" "), &text[line.span.clone()])
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a==1 | --hash=sha256:x --hash=sha256:y | a==1",
                "b==2 ; os_name == 'a#b' |  | b==2 ; os_name == 'a#b' # c",
                "c#d==1 |  | c#d==1",
                " | --index-url=https://u:s3cret@h/simple --no-index=- | --index-url https://u:${TOKEN}@h/simple --no-index",
                " | --requirement=other.txt | -rother.txt",
                " | --constraint=two words.txt | -c 'two words.txt'",
                "d==1 |  | d==1",
                "e==1 |  | e==1",
            ]
        );
    }

    #[test]
    fn many_lines() {
        let most = limits::PYTHON_LINES;
        assert_eq!(read(&"a\n\n# x\n".repeat(most)).unwrap().len(), most);
        let error = read(&"a\n".repeat(most + 5)).unwrap_err().to_string();
        assert_eq!(error, "there are more than 200000 lines");
        assert!(read(&"\\\n".repeat(1000)).unwrap().is_empty());
    }

    #[test]
    fn refused() {
        for (text, why) in [
            ("a==1 --wrong", "no option"),
            ("-r", "no value"),
            ("--hash", "no value"),
            ("--find-links 'x", "no end"),
            ("--index-url ${MISSING}", "MISSING is not set"),
            ("--no-index=1", "no option"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        for same in ["${lower} ${", "${${${TOKEN", "${TOKEN x}", "${}", "$TOKEN"] {
            let line = &read(same).unwrap()[0];
            assert!(line.argument == same && line.written.is_none(), "{same}");
        }
        assert_eq!(read("${${TOKEN}").unwrap()[0].argument, "${s3cret");
    }
}
