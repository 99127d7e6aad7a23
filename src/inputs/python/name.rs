//! Names of projects, extras and dependency groups, normalised (PEP 503, PEP 685, PEP 735).

use std::fmt;

/// A name in its one form: lower case, with one `-` for every run of `-`, `_` and `.`.
///
/// It cannot be made without the check of the core metadata specification, "Name".
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// The longest name that is read; the longest real one has about 100 bytes.
const LONGEST: usize = 255;

impl Name {
    /// Checks a name as people write it.
    pub fn parse(text: &str) -> Option<Name> {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let bytes = text.as_bytes();
        if bytes.len() > LONGEST || !edge(bytes.first()) || !edge(bytes.last()) || !bytes.iter().all(inner) {
            return None;
        }
        let mut name = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '-' | '_' | '.' if name.ends_with('-') => {}
                '-' | '_' | '.' => name.push('-'),
                c => name.push(c.to_ascii_lowercase()),
            }
        }
        Some(Name(name.into()))
    }

    /// The normalised form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form() {
        for (text, name) in [
            ("Django", "django"),
            ("oslo.concurrency", "oslo-concurrency"),
            ("a-_.B__c", "a-b-c"),
            ("zope.interface", "zope-interface"),
            ("7z", "7z"),
            ("x", "x"),
        ] {
            assert_eq!(Name::parse(text).unwrap().as_str(), name);
        }
        for text in ["", "-a", "a-", ".", "a b", "é", "a/b", "a\n", "a;b"] {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
        assert!(Name::parse(&"a".repeat(255)).is_some() && Name::parse(&"a".repeat(256)).is_none());
    }
}
