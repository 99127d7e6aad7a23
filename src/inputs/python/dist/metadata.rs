//! Core metadata (METADATA of a wheel, PKG-INFO of a source distribution) against its specification, versions 1.0 to 2.5.

use super::super::name::Name;
use super::super::requirement::Requirement;
use super::super::version::{Version, specifiers, version};
use crate::diagnostic::shown::Short;
use crate::limits;
use crate::oci::{Problem, Severity};

const CODE: &str = "E-METADATA";

/// The versions of the format.
const VERSIONS: [&str; 9] = ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5"];

/// The fields, the version of the format that brought each, and whether it may stand there more than once.
const FIELDS: [(&str, &str, bool); 32] = [
    ("Metadata-Version", "1.0", false),
    ("Name", "1.0", false),
    ("Version", "1.0", false),
    ("Platform", "1.0", true),
    ("Supported-Platform", "1.1", true),
    ("Summary", "1.0", false),
    ("Description", "1.0", false),
    ("Description-Content-Type", "2.1", false),
    ("Keywords", "1.0", false),
    ("Home-page", "1.0", false),
    ("Download-URL", "1.1", false),
    ("Author", "1.0", false),
    ("Author-email", "1.0", false),
    ("Maintainer", "1.2", false),
    ("Maintainer-email", "1.2", false),
    ("License", "1.0", false),
    ("License-Expression", "2.4", false),
    ("License-File", "2.4", true),
    ("Classifier", "1.1", true),
    ("Requires", "1.1", true),
    ("Provides", "1.1", true),
    ("Obsoletes", "1.1", true),
    ("Requires-Dist", "1.2", true),
    ("Provides-Dist", "1.2", true),
    ("Obsoletes-Dist", "1.2", true),
    ("Requires-Python", "1.2", false),
    ("Requires-External", "1.2", true),
    ("Project-URL", "1.2", true),
    ("Provides-Extra", "2.1", true),
    ("Dynamic", "2.2", true),
    ("Import-Name", "2.5", true),
    ("Import-Namespace", "2.5", true),
];

/// What metadata says.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) problems: Vec<Problem>,
    pub(super) name: Option<Name>,
    pub(super) version: Option<Version>,
    /// `License-File`, as written.
    pub(super) licences: Vec<String>,
    /// The version of the format, when it is known.
    pub(super) format: Option<&'static str>,
}

/// Reads metadata, and finds all that is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Metadata {
    let mut found = Metadata::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => {
            found.error("it is not UTF-8");
            return found;
        }
    };
    let fields = found.fields(text);
    let all = |wanted: &str| -> Vec<String> {
        let same = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
        fields.iter().filter(same).map(|(_, value)| value.clone()).collect()
    };
    let one = |wanted: &str| all(wanted).into_iter().next();

    match one("Metadata-Version") {
        None => found.error("there is no Metadata-Version"),
        Some(format) => match VERSIONS.into_iter().find(|known| *known == format) {
            Some(known) => found.format = Some(known),
            None if format.starts_with("2.") => {
                found.warning(format!("version {} of the format is not known here", Short(&format)))
            }
            None => found.but("the version of the format is not known", "1.0 to 2.5", &format),
        },
    }
    match one("Name") {
        None => found.error("there is no Name"),
        Some(name) => match Name::parse(&name) {
            Some(name) => found.name = Some(name),
            None => found.but("Name is none", "letters, digits, `-`, `_` and `.`", &name),
        },
    }
    match one("Version") {
        None => found.error("there is no Version"),
        Some(text) => match version(&text) {
            Some(version) => found.version = Some(version),
            None => found.but("Version is none", "a version of PEP 440", &text),
        },
    }
    for (name, _) in &fields {
        let known = FIELDS.iter().find(|(field, ..)| field.eq_ignore_ascii_case(name));
        match (known, found.format) {
            (None, _) => found.warning(format!("the field {} is not known", Short(name))),
            (Some((_, since, _)), Some(format)) if place(since) > place(format) => {
                found.warning(format!(
                    "the field {} is not one of version {format} of the format",
                    Short(name)
                ));
            }
            _ => {}
        }
    }
    for (field, _, many) in FIELDS {
        if !many && all(field).len() > 1 {
            found.error(format!("the field {field} stands there {} times", all(field).len()));
        }
    }
    found.values(&all);
    found.problems.dedup();
    found
}

/// How new a version of the format is.
fn place(format: &str) -> usize {
    VERSIONS.iter().position(|known| *known == format).unwrap_or(VERSIONS.len())
}

impl Metadata {
    fn error(&mut self, message: impl Into<String>) {
        self.add(Problem::error(CODE, "", message));
    }

    fn warning(&mut self, message: impl Into<String>) {
        self.add(Problem::warning(CODE, "", message));
    }

    fn but(&mut self, message: impl Into<String>, expected: &str, found: &str) {
        self.add(Problem::error(CODE, "", message).but(expected, Short(found).to_string()));
    }

    /// Holds not more than anybody lists; errors before warnings.
    fn add(&mut self, problem: Problem) {
        if self.problems.len() <= limits::DIST_REMARKS {
            self.problems.push(problem);
        } else if problem.severity == Severity::Error
            && let Some(last) = self.problems.last_mut()
        {
            *last = problem;
        }
    }

    /// Names and values of the fields before the first empty line; lines that begin with a space go on with the value.
    fn fields(&mut self, text: &str) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (number, line) in text.lines().enumerate().take_while(|(_, line)| !line.is_empty()) {
            if fields.len() == limits::METADATA_FIELDS {
                self.error(format!("there are more than {} fields", limits::METADATA_FIELDS));
                break;
            }
            if self.problems.len() > limits::DIST_REMARKS {
                break;
            }
            if line.starts_with([' ', '\t']) {
                match fields.last_mut() {
                    Some((_, value)) => {
                        value.push('\n');
                        value.push_str(line.trim());
                    }
                    None => self.error("it begins with a line that goes on with a field"),
                }
                continue;
            }
            match line.split_once(':') {
                Some((name, value)) if is_name(name) => {
                    fields.push((name.to_owned(), value.trim().to_owned()))
                }
                _ => self.error(format!("line {} is no field: {:?}", number + 1, Short(line))),
            }
        }
        fields
    }

    /// What the fields say, each by its own rules.
    fn values(&mut self, all: &dyn Fn(&str) -> Vec<String>) {
        for text in all("Requires-Python") {
            if let Err(why) = specifiers(&text) {
                self.but(format!("Requires-Python holds no versions: {why}"), "such as >=3.9", &text);
            }
        }
        for text in all("Requires-Dist") {
            if let Err(why) = Requirement::parse(&text) {
                self.but(
                    format!("Requires-Dist is no requirement: {why}"),
                    "such as name>=1.0; marker",
                    &text,
                );
            }
        }
        for text in all("Provides-Extra") {
            match Name::parse(&text) {
                None => self.but("Provides-Extra is no name", "letters, digits, `-`, `_` and `.`", &text),
                Some(name)
                    if name.as_str() != text
                        && self.format.is_some_and(|format| place(format) >= place("2.3")) =>
                {
                    self.warning(format!("Provides-Extra is not normalised: {text}, expected {name}"));
                }
                Some(_) => {}
            }
        }
        for text in all("Dynamic") {
            if ["name", "version", "metadata-version"].contains(&text.to_ascii_lowercase().as_str()) {
                self.error(format!("Dynamic names {}, which never is", Short(&text)));
            }
        }
        for text in all("Description-Content-Type") {
            let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if !["text/plain", "text/x-rst", "text/markdown"].contains(&kind.as_str()) {
                self.but(
                    "Description-Content-Type is not known",
                    "text/plain, text/x-rst or text/markdown",
                    &text,
                );
            }
        }
        for text in all("Project-URL") {
            if !text.contains(',') {
                self.but("Project-URL has no label", "LABEL, URL", &text);
            }
        }
        if !all("License-Expression").is_empty() && !all("License").is_empty() {
            self.error("there are both License and License-Expression");
        }
        for text in all("License-File") {
            let bad =
                text.starts_with('/') || text.contains('\\') || text.split('/').any(|part| part == "..");
            match bad {
                true => self.but("License-File leads out", "a path inside", &text),
                false => self.licences.push(text),
            }
        }
    }
}

/// The name of a field, as mail has it: visible ASCII.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        read(text.as_bytes()).problems.into_iter().map(|problem| problem.message).collect()
    }

    const GOOD: &str = "Metadata-Version: 2.4\nName: a\nVersion: 1.0\n";

    #[test]
    fn good() {
        let text = format!(
            "{GOOD}Summary: x\nRequires-Dist: b>=1; extra == 'c'\nRequires-Dist: d (>=2)\nProvides-Extra: c\n\
             Project-URL: Home, x\nLicense-Expression: MIT\nLicense-File: LICENSE\nDescription-Content-Type: text/markdown; \
             charset=UTF-8\nAuthor: a\n  b\n\nName: no\n"
        );
        let found = read(text.as_bytes());
        assert_eq!(found.problems, []);
        assert_eq!((found.format, &found.licences[..]), (Some("2.4"), &["LICENSE".to_owned()][..]));
    }

    /// What nobody writes is not read to its end.
    #[test]
    fn endless() {
        let most = limits::METADATA_FIELDS;
        let many = |count: usize| told(&format!("{GOOD}{}", "Classifier: x\n".repeat(count)));
        assert_eq!(many(most - 3), [""; 0]);
        assert_eq!(many(most), [format!("there are more than {most} fields")]);
        let found = told(&format!("{GOOD}{}", "x\n".repeat(100_000)));
        assert!(found.len() == limits::DIST_REMARKS + 1, "{}", found.len());
    }

    #[test]
    fn wrong() {
        for (text, why) in [
            ("", "there is no Name"),
            ("Metadata-Version: 3.0\n", "the version of the format is not known"),
            ("Metadata-Version: 2.9\n", "version 2.9 of the format is not known here"),
            ("Name: -\n", "Name is none"),
            ("Version: one\n", "Version is none"),
            ("Name: a\nName: b\n", "the field Name stands there 2 times"),
            ("x\n", "line 1 is no field"),
            (" x\n", "goes on with a field"),
            ("Requires-Python: 3.9\n", "Requires-Python holds no versions"),
            ("Requires-Dist: -x\n", "Requires-Dist is no requirement"),
            (
                "Metadata-Version: 2.4\nProvides-Extra: A_b\n",
                "Provides-Extra is not normalised: A_b, expected a-b",
            ),
            ("Dynamic: Version\n", "which never is"),
            ("Description-Content-Type: text/html\n", "Description-Content-Type is not known"),
            ("Project-URL: x\n", "Project-URL has no label"),
            ("License: x\nLicense-Expression: y\n", "both License and License-Expression"),
            ("License-File: ../x\n", "License-File leads out"),
            ("Metadata-Version: 2.1\nLicense-File: x\n", "License-File is not one of version 2.1"),
            ("Colour: red\n", "the field Colour is not known"),
        ] {
            let found = told(text);
            assert!(found.iter().any(|message| message.contains(why)), "{text}: {found:?}");
        }
        assert_eq!(read(b"\xff").problems[0].message, "it is not UTF-8");
    }
}
