//! What the spec says of a Python.

use dmoci_layers::SafePath;

use super::super::template::cut;
use super::{Bad, image_path};
use crate::url::Url;

/// A path that stands in the first line of programs.
pub(in crate::spec) fn program_path(text: &str) -> Result<SafePath, Bad> {
    let bad = |c: char| c.is_control() || matches!(c, '\'' | '\\');
    if text.contains(bad) {
        return Err(Bad::new(
            format!("{:?} cannot stand in the first line of a program", cut(text)),
            "expected an absolute path without quotes, backslashes and control characters",
        ));
    }
    image_path(text)
}

/// The whole version of a Python 3, as `platform.python_version()` says it.
pub(in crate::spec) fn python_version(text: &str) -> Result<String, Bad> {
    let bad = || {
        Bad::new(
            format!("{:?} is not the whole version of a Python 3", cut(text)),
            "expected such as \"3.13.5\" or \"3.14.0rc2\"",
        )
    };
    let rest = text.strip_prefix("3.").ok_or_else(bad)?;
    let (minor, rest) = rest.split_once('.').ok_or_else(bad)?;
    let (micro, rest) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
    let rest = rest.strip_suffix('+').unwrap_or(rest);
    let known = match ["a", "b", "rc"].iter().find_map(|kind| rest.strip_prefix(kind)) {
        Some(number) => small(number),
        None => rest.is_empty(),
    };
    match known && small(minor) && small(micro) {
        true => Ok(text.to_owned()),
        false => Err(bad()),
    }
}

/// The name of an extra, a dependency group or a project of Python, in its one form (PEP 503, PEP 685).
pub(in crate::spec) fn python_name(text: &str) -> Result<String, Bad> {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    if bytes.len() > 255 || !edge(bytes.first()) || !edge(bytes.last()) || !bytes.iter().all(inner) {
        return Err(Bad::new(
            format!("{:?} is no name of Python packages", cut(text)),
            "expected letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
        ));
    }
    let mut name = text.to_ascii_lowercase().replace(['_', '.'], "-");
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    Ok(name)
}

/// The URL of an index.
pub(in crate::spec) fn index(text: &str) -> Result<Url, Bad> {
    let wrong =
        |why: String| Bad::new(format!("this is no URL of an index: {why}"), "expected https://HOST/PATH/");
    let url: Url = text.parse().map_err(|error: crate::url::UrlError| wrong(error.to_string()))?;
    match url.credentials() {
        None => Ok(url),
        Some(_) => {
            let mut bad = wrong("it holds a user or a password".into());
            bad.help = Some("leave `index` out, and name it in the settings of uv or pip, which are no part of the project".into());
            Err(bad)
        }
    }
}

/// A C library and its version.
pub(in crate::spec) fn libc(text: &str) -> Result<String, Bad> {
    let known = |name: &str, major: &str| {
        text.strip_prefix(name).and_then(|rest| rest.strip_prefix(major)).is_some_and(small)
    };
    match known("glibc-", "2.") || known("musl-", "1.") {
        true => Ok(text.to_owned()),
        false => Err(Bad::new(
            format!("{:?} is not a C library with its version", cut(text)),
            "expected such as \"glibc-2.36\" or \"musl-1.2\"",
        )),
    }
}

/// A number of one to three digits.
fn small(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons() {
        for text in ["3.13.5", "3.9.0", "3.14.0rc2", "3.14.0a10", "3.14.0+", "3.14.0b1+"] {
            assert_eq!(python_version(text).as_deref(), Ok(text));
        }
        for text in
            ["", "3", "3.13", "2.7.18", "3.13.x", "3.13.5-1", "3.13.5rc", "3.1000.1", "3.13.5.1", "3.+1.0"]
        {
            assert!(python_version(text).is_err(), "{text}");
        }
        assert!(libc("glibc-2.36").is_ok() && libc("musl-1.2").is_ok());
        for text in ["", "glibc", "glibc-3.0", "glibc-2.", "glibc-2.36.1", "musl-2.0", "uclibc-1.0"] {
            assert!(libc(text).is_err(), "{text}");
        }
        assert!(program_path("/opt/my app").is_ok() && program_path("/opt/v/").is_ok());
        for text in ["", "/", "opt/v", "/opt/it's", "/opt/a\\b", "/opt/a\nb"] {
            assert!(program_path(text).is_err(), "{text}");
        }
    }
}
