//! What has no wheel: said together with the command that makes one.

use super::error::{Kind, PythonError};
use super::name::Name;
use super::plan::Asked;
use super::version::Version;
use crate::diagnostic::Place;

/// What a project without a wheel would be made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unbuilt {
    /// A source distribution of an index, or one that is not told.
    Sdist,
    /// A commit of a repository.
    Vcs {
        /// `git`, …
        kind: String,
        /// Where the repository is.
        url: String,
        /// Which commit.
        commit: String,
        /// Where in it the project is.
        subdirectory: Option<String>,
    },
    /// A directory, as the lock file has it.
    Directory(String),
    /// An archive of sources, as the lock file has it.
    Archive(String),
}

impl Unbuilt {
    /// The error, with the command.
    pub(super) fn error(
        &self,
        asked: &Asked<'_>,
        name: &Name,
        version: Option<&Version>,
        place: Place,
    ) -> PythonError {
        let what = version.map_or(name.to_string(), |version| format!("{name} {version}"));
        let (is, command) = match self {
            Unbuilt::Sdist => {
                ("is there only as a source distribution".to_owned(), from_sdist(name, version))
            }
            Unbuilt::Vcs { kind, url, commit, subdirectory } => {
                let part =
                    subdirectory.as_ref().map(|path| format!("#subdirectory={path}")).unwrap_or_default();
                let from = quoted(&format!("{name} @ {kind}+{url}@{commit}{part}"));
                (
                    format!("is a commit in {kind} and no wheel"),
                    format!("pip wheel --no-deps --wheel-dir wheels {from}"),
                )
            }
            Unbuilt::Directory(path) => (
                format!("is the directory {path} and no wheel"),
                format!("uv build --wheel --out-dir wheels {}", quoted(path)),
            ),
            Unbuilt::Archive(place) => (
                "is an archive of sources and no wheel".to_owned(),
                format!("pip wheel --no-deps --wheel-dir wheels {}", quoted(place)),
            ),
        };
        // A wheel that is there but does not suit is more useful to hear of than how to make one.
        let near = asked.options.built.iter().filter(|wheel| wheel.file.name == *name).map(|wheel| {
            let path = wheel.path.display();
            match version.is_some_and(|version| *version != wheel.file.version) {
                true => format!("\n{path} is {name} {}", wheel.file.version),
                false => format!("\n{path} does not run on {}", asked.target),
            }
        });
        let near: String = near.take(8).collect();
        PythonError::new(Kind::Source, format!("{what} {is}"))
            .at(place)
            .with_help(format!("make one with `{command}` and say `wheels = \"wheels\"`{near}"))
            .with_command(command)
    }
}

/// The command that makes a wheel from a source distribution of an index.
pub(super) fn from_sdist(name: &Name, version: Option<&Version>) -> String {
    let exact = version.map_or(name.to_string(), |version| format!("{name}=={version}"));
    format!("pip wheel --no-deps --no-binary {name} --wheel-dir wheels {}", quoted(&exact))
}

/// A word for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=@:+,%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A URL without user and password.
pub(super) fn no_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out() {
        assert_eq!(no_credentials("https://me:secret@h.example/a@b"), "https://h.example/a@b");
        assert_eq!(no_credentials("ssh://git@h.example/x"), "ssh://h.example/x");
        assert_eq!(no_credentials("../x@y"), "../x@y");
        assert_eq!(quoted("a==1.0"), "a==1.0");
        assert_eq!(quoted("a @ it's"), "'a @ it'\\''s'");
    }
}
