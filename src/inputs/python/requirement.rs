//! Requirements as metadata and lock files write them (dependency specifiers, PEP 508).

use std::collections::BTreeSet;

use super::marker::{Marker, MarkerError};
use super::name::Name;
use super::version::{self, Version, VersionSpecifiers};

/// A requirement: what is needed, from where, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// The project.
    pub name: Name,
    /// Its extras.
    pub extras: BTreeSet<Name>,
    /// Which of its versions, or where it is.
    pub source: Source,
    /// When it is needed; without it, always.
    pub marker: Option<Marker>,
}

/// Which file a requirement means.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A version out of these.
    Index(VersionSpecifiers),
    /// What is there.
    Url(String),
}

/// Why a text is no requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequirementError {
    /// Byte of the text where it stops being one.
    pub at: usize,
    /// What belongs there.
    pub message: String,
}

impl From<MarkerError> for RequirementError {
    fn from(error: MarkerError) -> RequirementError {
        RequirementError { at: error.at, message: error.message }
    }
}

impl Requirement {
    /// Reads a requirement.
    pub fn parse(text: &str) -> Result<Requirement, RequirementError> {
        let mut parser = Parser { text, at: 0 };
        let name = parser.name("the name of a project")?;
        let extras = parser.extras()?;
        parser.space();
        let source = match parser.rest().strip_prefix('@') {
            Some(_) => {
                parser.at += 1;
                Source::Url(parser.url()?)
            }
            None => Source::Index(parser.specifiers()?),
        };
        parser.space();
        let marker = match parser.rest().strip_prefix(';') {
            None => None,
            Some(marker) => {
                let start = parser.at + 1;
                parser.at = text.len();
                let moved = |mut error: MarkerError| {
                    error.at += start;
                    error
                };
                Some(Marker::parse(marker).map_err(moved)?)
            }
        };
        match parser.at == text.len() {
            true => Ok(Requirement { name, extras, source, marker }),
            false => Err(parser.wrong("expected a version specifier, `;` or the end")),
        }
    }

    /// The only version that it takes: `==` or `===` without `*`, and nothing else.
    pub fn pinned(&self) -> Option<&Version> {
        let Source::Index(specifiers) = &self.source else { return None };
        let [only] = &specifiers[..] else { return None };
        #[allow(deprecated)]
        let exact = matches!(only.operator(), pep440_rs::Operator::Equal | pep440_rs::Operator::ExactEqual);
        exact.then(|| only.version())
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, message: impl Into<String>) -> RequirementError {
        RequirementError { at: self.at, message: message.into() }
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn name(&mut self, what: &str) -> Result<Name, RequirementError> {
        self.space();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let length = self.rest().find(|c| !is_name(c)).unwrap_or(self.rest().len());
        let name =
            Name::parse(&self.rest()[..length]).ok_or_else(|| self.wrong(format!("expected {what}")))?;
        self.at += length;
        Ok(name)
    }

    fn extras(&mut self) -> Result<BTreeSet<Name>, RequirementError> {
        let mut extras = BTreeSet::new();
        self.space();
        if !self.rest().starts_with('[') {
            return Ok(extras);
        }
        self.at += 1;
        self.space();
        if self.rest().starts_with(']') {
            self.at += 1;
            return Ok(extras);
        }
        loop {
            extras.insert(self.name("the name of an extra")?);
            self.space();
            let next = self.rest().chars().next();
            match next {
                Some(',') => self.at += 1,
                Some(']') => {
                    self.at += 1;
                    return Ok(extras);
                }
                _ => return Err(self.wrong("expected `,` or `]`")),
            }
        }
    }

    /// Up to white space; a `;` before that belongs to the URL.
    fn url(&mut self) -> Result<String, RequirementError> {
        self.space();
        let length = self.rest().find([' ', '\t', '\n', '\r']).unwrap_or(self.rest().len());
        if length == 0 {
            return Err(self.wrong("expected a URL"));
        }
        let url = self.rest()[..length].to_owned();
        self.at += length;
        Ok(url)
    }

    fn specifiers(&mut self) -> Result<VersionSpecifiers, RequirementError> {
        let rest = self.rest();
        let (inner, length) = match rest.strip_prefix('(') {
            Some(inner) => {
                let end = inner.find(')').ok_or_else(|| self.wrong("this parenthesis has no end"))?;
                (&inner[..end], end + 2)
            }
            None => {
                let end = rest.find(';').unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        if !inner.is_empty() && !inner.trim_start().starts_with(['=', '<', '>', '~', '!']) {
            return match inner.trim().is_empty() {
                true => {
                    self.at += length;
                    Ok(VersionSpecifiers::empty())
                }
                false => Err(self.wrong("expected a version specifier such as ==1.2, `;` or the end")),
            };
        }
        let specifiers = version::specifiers(inner.trim().trim_end_matches(','))
            .map_err(|why| self.wrong(format!("{:?} is no version specifier: {why}", inner.trim())))?;
        self.at += length;
        Ok(specifiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, name, extras, pinned, marker) in [
            ("a", "a", 0, None, None),
            ("A.b[x,Y_z]==1.0", "a-b", 2, Some("1.0"), None),
            ("a [ x ] ( >=1 , <2 ) ; os_name=='posix'", "a", 1, None, Some(" os_name=='posix'")),
            ("a==1.*", "a", 0, None, None),
            ("a===1.0", "a", 0, Some("1.0"), None),
            ("a==1.0,!=1.1", "a", 0, None, None),
            ("a[]>=1,", "a", 0, None, None),
            (
                "torch == 2.5.0+cpu ; python_version >= '3.9'",
                "torch",
                0,
                Some("2.5.0+cpu"),
                Some(" python_version >= '3.9'"),
            ),
        ] {
            let requirement = Requirement::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(requirement.name.as_str(), name, "{text}");
            assert_eq!(requirement.extras.len(), extras, "{text}");
            assert_eq!(requirement.pinned().map(ToString::to_string).as_deref(), pinned, "{text}");
            assert_eq!(requirement.marker.as_ref().map(Marker::as_str), marker, "{text}");
        }
        let url = Requirement::parse(
            "a[x] @ https://h.example/a-1.0-py3-none-any.whl#sha256=0;1 ; os_name == 'nt'",
        );
        let url = url.unwrap();
        assert_eq!(url.source, Source::Url("https://h.example/a-1.0-py3-none-any.whl#sha256=0;1".into()));
        assert!(url.marker.is_some() && url.pinned().is_none());
    }

    #[test]
    fn refused() {
        for (text, at, why) in [
            ("", 0, "name of a project"),
            ("-a", 0, "name of a project"),
            ("a b", 2, "expected a version"),
            ("a[x", 3, "`,` or `]`"),
            ("a[x y]", 4, "`,` or `]`"),
            ("a[,]", 2, "name of an extra"),
            ("a==", 1, "no version specifier"),
            ("a=1", 1, "no version specifier"),
            ("a (==1", 2, "no end"),
            ("a (==1) x", 8, "`;` or the end"),
            ("a @ ", 4, "a URL"),
            ("a; os == 'x'", 3, "no variable"),
            ("a==1 --hash=x", 1, "no version specifier"),
        ] {
            let error = Requirement::parse(text).unwrap_err();
            assert!(error.at == at && error.message.contains(why), "{text}: {error} at {}", error.at);
        }
    }
}
