//! Who a certificate must name: a subject and the service that vouched for it, both.

use std::fmt;

use regex_lite::Regex;

use crate::diagnostic::{Diagnostic, Exit};

/// The longest pattern of an identity.
const PATTERN_BYTES: usize = 4096;

/// A signer by certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    subject: Subject,
    issuer: String,
}

#[derive(Clone, Debug)]
enum Subject {
    Exact(String),
    Pattern(String, Regex),
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A text is empty, which no certificate should match.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// The pattern is none.
    #[error("{pattern:?} is no regular expression: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        why: String,
    },
}

impl Diagnostic for IdentityError {
    fn code(&self) -> &'static str {
        "E-IDENTITY"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(
            "write the subject and the issuer as the certificate has them: an e-mail address or a URI, and the URL of the identity provider"
                .into(),
        )
    }
}

impl Identity {
    /// Exactly this subject and issuer.
    pub fn exact(subject: &str, issuer: &str) -> Result<Identity, IdentityError> {
        filled("identity", subject)?;
        filled("issuer", issuer)?;
        Ok(Identity { subject: Subject::Exact(subject.to_owned()), issuer: issuer.to_owned() })
    }

    /// A subject that a pattern matches *as a whole*, and exactly this issuer.
    pub fn pattern(pattern: &str, issuer: &str) -> Result<Identity, IdentityError> {
        filled("pattern of the identity", pattern)?;
        filled("issuer", issuer)?;
        let refuse = |why: String| IdentityError::Pattern { pattern: super::statement::short(pattern), why };
        if pattern.len() > PATTERN_BYTES {
            return Err(refuse(format!("it is longer than {PATTERN_BYTES} bytes")));
        }
        // By itself first: `a)|(b` is none, but would be one in the brackets.
        Regex::new(pattern).map_err(|error| refuse(error.to_string()))?;
        let whole = Regex::new(&format!("^(?:{pattern})$"));
        let whole = whole.map_err(|error| refuse(error.to_string()))?;
        Ok(Identity { subject: Subject::Pattern(pattern.to_owned(), whole), issuer: issuer.to_owned() })
    }

    /// True when a certificate names that subject and that issuer.
    pub fn matches(&self, subject: &str, issuer: &str) -> bool {
        let named = match &self.subject {
            Subject::Exact(exact) => exact == subject,
            // With flags of its own a pattern could make ^ and $ match within lines.
            Subject::Pattern(_, regex) => {
                !subject.contains('\n')
                    && regex.find(subject).is_some_and(|found| found.len() == subject.len())
            }
        };
        named && self.issuer == issuer
    }
}

fn filled(what: &'static str, text: &str) -> Result<(), IdentityError> {
    if text.trim().is_empty() { Err(IdentityError::Empty(what)) } else { Ok(()) }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Exact(subject) => write!(f, "{subject} (by {})", self.issuer),
            Subject::Pattern(pattern, _) => write!(f, "/{pattern}/ (by {})", self.issuer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_must_match_and_patterns_as_a_whole() {
        let exact = Identity::exact("a@b.example", "https://i.example").unwrap();
        assert!(exact.matches("a@b.example", "https://i.example"));
        for (subject, issuer) in [
            ("a@b.example", "https://i.example/"),
            ("a@b.example", ""),
            ("A@b.example", "https://i.example"),
            ("a@b.example.evil", "https://i.example"),
            ("", "https://i.example"),
        ] {
            assert!(!exact.matches(subject, issuer), "{subject} {issuer}");
        }
        for (pattern, good, bad) in [
            ("a|b", vec!["a", "b"], vec!["ab", "xa", "bx", ""]),
            (
                "https://h\\.example/o/.*",
                vec!["https://h.example/o/r"],
                vec!["https://h.example/o", "x https://h.example/o/r"],
            ),
            ("^a$", vec!["a"], vec!["a\n", "aa"]),
            ("(?m)a$", vec!["a"], vec!["a\nb", "b\na"]),
            ("(?x)a # b", vec![], vec!["ab"]),
            (".*", vec!["x", ""], vec!["x\ny"]),
        ] {
            let Ok(identity) = Identity::pattern(pattern, "i") else {
                assert!(good.is_empty(), "{pattern}");
                continue;
            };
            good.iter().for_each(|text| assert!(identity.matches(text, "i"), "{pattern} {text}"));
            bad.iter().for_each(|text| assert!(!identity.matches(text, "i"), "{pattern} {text:?}"));
            good.iter().for_each(|text| assert!(!identity.matches(text, "j"), "{pattern} {text}"));
        }
    }

    #[test]
    fn what_is_no_identity() {
        for (subject, issuer) in [("", "i"), (" ", "i"), ("s", ""), ("s", "\t")] {
            assert!(Identity::exact(subject, issuer).is_err());
            assert!(Identity::pattern(subject, issuer).is_err());
        }
        for pattern in ["(", "a)|(b", "[", "a{1000000}{1000}", &"a".repeat(5000)] {
            assert!(Identity::pattern(pattern, "i").is_err(), "{pattern:.20}");
        }
    }
}
