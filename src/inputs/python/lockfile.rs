//! Kinds of lock files, and how each is made where there is none.

use std::path::Path;

use super::error::{Kind, PythonError};
use super::source::quoted;

/// What a lock file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `pylock.toml` (PEP 751).
    Pylock,
    /// `uv.lock`.
    Uv,
    /// Requirements with hashes.
    Requirements,
}

/// What is known here by another name, and how it becomes something that is read.
const OTHERS: [(&str, &str); 7] = [
    ("poetry.lock", "poetry export --format requirements.txt --output requirements.txt"),
    ("pdm.lock", "pdm export --format pylock --output pylock.toml"),
    ("Pipfile.lock", "pipenv requirements --hash > requirements.txt"),
    ("Pipfile", "pipenv lock && pipenv requirements --hash > requirements.txt"),
    ("pyproject.toml", "uv lock"),
    ("setup.py", "uv pip compile --universal --generate-hashes setup.py --output-file requirements.txt"),
    ("setup.cfg", "uv pip compile --universal --generate-hashes setup.cfg --output-file requirements.txt"),
];

impl Form {
    /// Tells the kind of a file by its name.
    pub fn of(path: &Path) -> Result<Form, PythonError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_pylock = name.strip_prefix("pylock.").is_some_and(|rest| rest.ends_with("toml"));
        // A script's lock file is called as the script.
        if name == "uv.lock" || name.ends_with(".py.lock") {
            return Ok(Form::Uv);
        }
        if is_pylock {
            return Ok(Form::Pylock);
        }
        if name.ends_with(".txt") {
            return Ok(Form::Requirements);
        }
        let shown = path.display();
        let error = PythonError::new(Kind::LockMissing, format!("{shown} is no lock file that dmoci reads"));
        if let Some(stem) = name.strip_suffix(".in") {
            let command =
                format!("uv pip compile --universal --generate-hashes {name} --output-file {stem}.txt");
            return Err(error.with_help(format!("lock it with `{command}`, and name {stem}.txt")));
        }
        Err(match OTHERS.iter().find(|(other, _)| *other == name) {
            Some((_, command)) => error.with_help(format!("make one with `{command}`, and name that file")),
            None => error.with_help(
                "it is called uv.lock, pylock.toml or pylock.NAME.toml, or it is a .txt file of requirements with hashes",
            ),
        })
    }

    /// The error for a lock file that is not there, with the command that makes it.
    ///
    /// `is_there` tells of files beside it.
    pub fn missing(self, path: &Path, is_there: &dyn Fn(&str) -> bool) -> PythonError {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let file = quoted(name);
        let inputs = name.strip_suffix(".txt").map(|stem| format!("{stem}.in"));
        let command = match self {
            Form::Uv => match name.strip_suffix(".lock").filter(|script| script.ends_with(".py")) {
                Some(script) => format!("uv lock --script {}", quoted(script)),
                None => "uv lock".to_owned(),
            },
            Form::Pylock if is_there("uv.lock") || is_there("pyproject.toml") => {
                format!("uv export --format pylock.toml --no-dev --no-emit-project --output-file {file}")
            }
            Form::Pylock if is_there("requirements.txt") => {
                format!("pip lock -r requirements.txt --output {file}")
            }
            Form::Pylock => format!("pip lock PROJECT … --output {file}"),
            Form::Requirements => match inputs.filter(|inputs| is_there(inputs)) {
                Some(inputs) => {
                    format!(
                        "uv pip compile --universal --generate-hashes {} --output-file {file}",
                        quoted(&inputs)
                    )
                }
                None if is_there("uv.lock") => {
                    format!(
                        "uv export --format requirements.txt --no-dev --no-emit-project --output-file {file}"
                    )
                }
                None if is_there("pyproject.toml") => {
                    format!(
                        "uv pip compile --universal --generate-hashes pyproject.toml --output-file {file}"
                    )
                }
                None => format!(
                    "uv pip compile --universal --generate-hashes requirements.in --output-file {file}"
                ),
            },
        };
        let command = match directory {
            Some(directory) => format!("cd {} && {command}", quoted(&directory.display().to_string())),
            None => command,
        };
        let found = ["uv.lock", "pylock.toml", "requirements.txt"].into_iter().find(|other| is_there(other));
        let found = match found.filter(|other| *other != name) {
            Some(other) => format!("; or name {other}, which is there"),
            None => String::new(),
        };
        PythonError::new(Kind::LockMissing, format!("there is no {}", path.display()))
            .with_help(format!("make it with `{command}`{found}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::shown;
    use super::*;

    #[test]
    fn by_name() {
        for (name, form) in [
            ("uv.lock", Form::Uv),
            ("a/tool.py.lock", Form::Uv),
            ("pylock.toml", Form::Pylock),
            ("pylock.web.toml", Form::Pylock),
            ("requirements/prod.txt", Form::Requirements),
        ] {
            assert_eq!(Form::of(Path::new(name)).unwrap(), form);
        }
        for (name, help) in [
            ("poetry.lock", "make one with `poetry export --format requirements.txt"),
            ("pyproject.toml", "make one with `uv lock`, and name that file"),
            (
                "dev.in",
                "lock it with `uv pip compile --universal --generate-hashes dev.in --output-file dev.txt`, and name dev.txt",
            ),
            ("x.lock", "it is called uv.lock, pylock.toml"),
        ] {
            let error = shown(Form::of(Path::new(name)).unwrap_err());
            let expected =
                format!("E-PYTHON-LOCK-MISSING: {name} is no lock file that dmoci reads\nhelp: {help}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn the_command_that_makes_one() {
        let help = |path: &str, there: &[&str]| {
            let path = Path::new(path);
            let error = shown(Form::of(path).unwrap().missing(path, &|name| there.contains(&name)));
            let (first, help) = error.split_once("\nhelp: make it with ").unwrap();
            assert_eq!(first, format!("E-PYTHON-LOCK-MISSING: there is no {}", path.display()));
            help.to_owned()
        };
        assert_eq!(help("uv.lock", &["pyproject.toml"]), "`uv lock`");
        assert_eq!(
            help("uv.lock", &["requirements.txt"]),
            "`uv lock`; or name requirements.txt, which is there"
        );
        assert_eq!(help("sub dir/uv.lock", &[]), "`cd 'sub dir' && uv lock`");
        assert_eq!(help("tool.py.lock", &[]), "`uv lock --script tool.py`");
        assert_eq!(
            help("pylock.toml", &["uv.lock"]),
            "`uv export --format pylock.toml --no-dev --no-emit-project --output-file pylock.toml`; or name uv.lock, which is there"
        );
        assert_eq!(help("pylock.web.toml", &[]), "`pip lock PROJECT … --output pylock.web.toml`");
        assert_eq!(
            help("prod.txt", &["prod.in"]),
            "`uv pip compile --universal --generate-hashes prod.in --output-file prod.txt`"
        );
        assert_eq!(
            help("requirements.txt", &["pyproject.toml"]),
            "`uv pip compile --universal --generate-hashes pyproject.toml --output-file requirements.txt`"
        );
    }
}
