//! Strings with `${…}` in them.

use std::collections::BTreeSet;

use super::error::{Problem, one_of};
use super::suggest::nearest;
use super::target::Span;

/// A string as written, its placeholders found and their names checked.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// Its parts in order; none for the empty string.
    pub(super) parts: Vec<Part>,
    /// Where it is written, with its quotes.
    pub(super) span: Span,
}

/// A part of a [`Text`].
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// This text; `$$` has become `$`.
    Literal(String),
    /// A placeholder, and where it is written.
    Open(Open, Span),
}

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// `${vars.NAME}`, which is declared.
    Var(String),
    /// `${version}`.
    Version,
    /// `${platform.oci}`: `linux/arm64`.
    PlatformOci,
    /// `${platform.debian}`: Debian's name of the architecture.
    PlatformDebian,
    /// `${platform.uname}`: what `uname -m` says.
    PlatformUname,
    /// `${base.NAME}`: the base image's value of an environment variable.
    Base(String),
}

impl Text {
    /// Finds the placeholders of `value`, which is written at `span` of `source`.
    pub(super) fn parse(
        value: &str,
        span: &Span,
        source: &str,
        vars: &BTreeSet<String>,
    ) -> Result<Text, Vec<Problem>> {
        const EXPECTED: &str = "expected `${NAME}`, or `$$` for a dollar sign";
        let mut parts = Vec::new();
        let mut problems = Vec::new();
        let mut cursor = Cursor { source, span, at: span.start };
        let mut literal = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            let tail = &rest[at..];
            if let Some(tail) = tail.strip_prefix("$$") {
                literal.push('$');
                cursor.find("$$");
                rest = tail;
                continue;
            }
            if !tail.starts_with("${") {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = 1 + tail[1..].find(|c| !word(c)).unwrap_or(tail.len() - 1);
                let place = cursor.find(&tail[..length]);
                let problem = Problem::new("E-SPEC-VAR", &place, "a `$` that names nothing");
                problems.push(problem.expected(EXPECTED));
                rest = &tail[length..];
                continue;
            }
            let Some(end) = tail.find('}') else {
                let problem = Problem::new("E-SPEC-VAR", &cursor.find("${"), "a `${` without its `}`");
                problems.push(problem.expected(EXPECTED));
                break;
            };
            let place = cursor.find(&tail[..=end]);
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            match placeholder(&tail[2..end], &place, vars) {
                Ok(open) => parts.push(Part::Open(open, place)),
                Err(problem) => problems.push(problem),
            }
            rest = &tail[end + 1..];
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Text { parts, span: span.clone() })
    }
}

fn placeholder(name: &str, place: &Span, vars: &BTreeSet<String>) -> Result<Open, Problem> {
    let fixed = ["version", "platform.oci", "platform.debian", "platform.uname"];
    match name {
        "version" => return Ok(Open::Version),
        "platform.oci" => return Ok(Open::PlatformOci),
        "platform.debian" => return Ok(Open::PlatformDebian),
        "platform.uname" => return Ok(Open::PlatformUname),
        _ => {}
    }
    if let Some(variable) = name.strip_prefix("base.")
        && !variable.is_empty()
        && !variable.contains('=')
    {
        return Ok(Open::Base(variable.to_owned()));
    }
    if let Some(variable) = name.strip_prefix("vars.")
        && vars.contains(variable)
    {
        return Ok(Open::Var(variable.to_owned()));
    }
    let declared: Vec<String> = vars.iter().map(|name| format!("vars.{name}")).collect();
    let names = || fixed.into_iter().chain(declared.iter().map(String::as_str));
    // `${engine}` for `${vars.engine}`.
    let bare = declared.iter().map(String::as_str).find(|declared| declared["vars.".len()..] == *name);
    let problem = Problem::new("E-SPEC-VAR", place, format!("`${{{}}}` is not defined", cut(name)));
    Err(match bare.or_else(|| nearest(name, names())) {
        Some(meant) => problem.expected(format!("did you mean `${{{meant}}}`?")),
        None => problem.help(format!("defined are {}, and `base.NAME` in image.env", one_of(names()))),
    })
}

/// Goes through a string as it is written, from one `$` to the next.
struct Cursor<'a> {
    source: &'a str,
    span: &'a Span,
    at: usize,
}

impl Cursor<'_> {
    /// Where `needle` stands from here on; all of the string when escapes hide it.
    fn find(&mut self, needle: &str) -> Span {
        match self.source.get(self.at..self.span.end).and_then(|written| written.find(needle)) {
            Some(at) => {
                let start = self.at + at;
                self.at = start + needle.len();
                start..self.at
            }
            None => self.span.clone(),
        }
    }
}

/// Not more than one line can show.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Text, Vec<Problem>> {
        let source = format!("x = \"{value}\"");
        Text::parse(value, &(4..source.len()), &source, &["engine".to_owned(), "version".to_owned()].into())
    }

    fn shown(value: &str) -> String {
        let text = parse(value).unwrap();
        let part = |part: &Part| match part {
            Part::Literal(text) => format!("[{text}]"),
            Part::Open(open, span) => format!("{open:?}@{}", span.start),
        };
        text.parts.iter().map(part).collect()
    }

    #[test]
    fn parts() {
        assert_eq!(shown(""), "");
        assert_eq!(shown("a$$b"), "[a$b]");
        assert_eq!(shown("$${version}"), "[${version}]");
        assert_eq!(shown("a${version}b"), "[a]Version@6[b]");
        assert_eq!(shown("${vars.engine}${base.PATH}"), "Var(\"engine\")@5Base(\"PATH\")@19");
        assert_eq!(
            shown("${platform.oci}${platform.debian}${platform.uname}"),
            "PlatformOci@5PlatformDebian@20PlatformUname@38"
        );
    }

    #[test]
    fn names_that_are_not_there() {
        for (value, expected) in [
            ("a $HOME", "expected `${NAME}`, or `$$` for a dollar sign"),
            ("a$", "expected `${NAME}`, or `$$` for a dollar sign"),
            ("${version", "expected `${NAME}`, or `$$` for a dollar sign"),
            ("${engine}", "did you mean `${vars.engine}`?"),
            ("${vars.engin}", "did you mean `${vars.engine}`?"),
            ("${platform.unam}", "did you mean `${platform.uname}`?"),
            ("${}", ""),
            ("${base.}", ""),
            ("${something.else}", ""),
        ] {
            let problems = parse(value).unwrap_err();
            assert_eq!((problems.len(), problems[0].expected.as_str()), (1, expected), "{value}");
        }
        assert_eq!(parse("a ${nope} b").unwrap_err()[0].span, 7..14);
    }

    #[test]
    fn all_of_one_string() {
        let spans = |value: &str| -> Vec<Span> {
            parse(value).unwrap_err().into_iter().map(|problem| problem.span).collect()
        };
        assert_eq!(spans("$A$$ $A ${version} $ ${no} ${"), [5..7, 10..12, 24..25, 26..31, 32..34]);
    }
}
