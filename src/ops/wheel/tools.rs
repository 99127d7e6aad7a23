//! The machine's Python, and uv or pip: what they are, and what they find.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dmoci_layers::{Digest, SafePath};
use serde::Deserialize;
use serde_json::json;

use super::error::{Said, WheelError};
use crate::diagnostic::Failure;
use crate::files;
use crate::inputs::python::tag::{TagSet, TargetTags};
use crate::inputs::python::{Document, Libc, Location, Options, PythonTarget, pylock};
use crate::limits;
use crate::oci::platform::Platform;
use crate::sandbox::{Cell, bounded};
use crate::url::Url;

/// The program that calls hooks.
pub(super) const DRIVER: &str = include_str!("driver.py");

/// How long a program may take that only says what it is.
const SHORT: Duration = Duration::from_secs(60);

/// How long it may take to find out which requirements there are.
const RESOLVING: Duration = Duration::from_secs(600);

/// An interpreter, as it describes itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Python {
    pub(super) executable: String,
    pub(super) implementation: String,
    pub(super) version: String,
    threaded: bool,
    machine: String,
    libc: Option<String>,
    pub(super) zlib: String,
    pub(super) built_by: String,
    pub(super) cc: Option<String>,
}

/// A wheel that a resolver chose.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) file: String,
    pub(super) url: Url,
    pub(super) digest: Digest,
}

impl Python {
    /// Asks an interpreter what it is.
    pub(super) fn describe(program: &Path, scratch: &Path) -> Result<Python, WheelError> {
        let shown = program.display();
        let answer = scratch.join("python.json");
        let request = json!({"hook": "describe", "answer": answer.to_string_lossy()});
        let mut command = Command::new(program);
        command.arg("-c").arg(DRIVER).arg(request.to_string()).stdin(Stdio::null());
        let ended = bounded(command, SHORT).map_err(|source| WheelError::Tools {
            message: format!("{shown} cannot be run"),
            source: Some(source),
        })?;
        #[derive(Deserialize)]
        struct Answer {
            value: Python,
        }
        let bytes = read(&answer).ok();
        match bytes.and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok()) {
            Some(Answer { value }) => Ok(value),
            None => Err(WheelError::Tools {
                message: format!("{shown} is no Python that can be used: {}", ended.said.trim()),
                source: None,
            }),
        }
    }

    /// What images of this machine are for.
    pub(super) fn platform(&self) -> Result<Platform, WheelError> {
        let name = Platform::oci_name(&self.machine).unwrap_or(&self.machine);
        Platform::new("linux", name, None).map_err(|error| WheelError::Tools {
            message: format!("{:?} is no machine that is known here: {error}", self.machine),
            source: None,
        })
    }

    /// Whether it runs wheels with these tags. Of what is no CPython this is not known, and taken to be so.
    pub(super) fn runs(&self, tags: &TagSet) -> Result<bool, WheelError> {
        Ok(self.implementation != "CPython" || TargetTags::of(&self.target()?).rank(tags).is_some())
    }

    /// What it is, in a few words.
    pub(super) fn shown(&self) -> String {
        let libc = self.libc.as_ref().map(|libc| format!(" with {libc}")).unwrap_or_default();
        format!("{} {} on {}{libc}", self.implementation, self.version, self.machine)
    }

    fn target(&self) -> Result<PythonTarget, WheelError> {
        let wrong = |message| WheelError::Tools { message, source: None };
        let interpreter =
            SafePath::parse(self.executable.as_bytes()).map_err(|error| wrong(error.to_string()))?;
        let libc = self.libc.as_deref().and_then(Libc::parse);
        PythonTarget::new(interpreter, &self.version, self.threaded, libc, &self.platform()?).map_err(wrong)
    }
}

/// What finds and installs build requirements.
#[derive(Clone, Debug)]
pub(super) enum Installer {
    /// uv, by the path that it has.
    Uv(PathBuf, String),
    /// The pip of the interpreter.
    Pip(String),
}

impl Installer {
    /// uv where it is there and runs in the cell, else pip.
    pub(super) fn find(
        python: &Python,
        cell: &Cell,
        environment: &[(&str, OsString)],
        path: Option<String>,
    ) -> Result<Installer, WheelError> {
        let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
        for folder in path.iter().flat_map(|path| path.split(':')).filter(|folder| folder.starts_with('/')) {
            let program = Path::new(folder).join("uv");
            if program.is_file()
                && let Ok(ended) = cell.run(program.as_os_str(), &["--version".into()], environment, SHORT)
                && ended.status.is_some_and(|status| status.success())
            {
                return Ok(Installer::Uv(program, first_line(&ended.said)));
            }
        }
        let arguments = ["-m", "pip", "--version"].map(OsString::from);
        let ended = cell.run(python.executable.as_ref(), &arguments, environment, SHORT);
        match ended {
            Ok(ended) if ended.status.is_some_and(|status| status.success()) => {
                let said = first_line(&ended.said);
                Ok(Installer::Pip(said.split(" from ").next().unwrap_or_default().to_owned()))
            }
            _ => Err(WheelError::Tools {
                message: format!("there is no uv, and {} has no pip", python.executable),
                source: None,
            }),
        }
    }

    /// Name and version.
    pub(super) fn shown(&self) -> &str {
        match self {
            Installer::Uv(_, version) | Installer::Pip(version) => version,
        }
    }

    /// Finds the wheels that requirements mean now, with the configuration that the user has.
    pub(super) fn resolve(
        &self,
        wanted: &[String],
        python: &Python,
        (project, scratch): (&Path, &Path),
    ) -> Result<Vec<Chosen>, Failure> {
        let output = scratch.join("pylock.build.toml");
        let _ = fs::remove_file(&output);
        let mut command = match self {
            Installer::Uv(program, _) => {
                let file = scratch.join("build-requirements.txt");
                fs::write(&file, wanted.join("\n") + "\n")
                    .map_err(|source| WheelError::Output { path: file.clone(), source })?;
                let mut command = Command::new(program);
                command.args([
                    "pip",
                    "compile",
                    "--quiet",
                    "--format",
                    "pylock.toml",
                    "--only-binary",
                    ":all:",
                ]);
                command
                    .args(["--no-header", "--no-annotate", "--upgrade", "--python"])
                    .arg(&python.executable);
                command.arg("--output-file").arg(&output).arg(&file);
                command
            }
            Installer::Pip(_) => {
                let mut command = Command::new(&python.executable);
                command.args(["-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]);
                command.args(["--only-binary", ":all:", "--report"]).arg(&output).args(wanted);
                command.env("PIP_BREAK_SYSTEM_PACKAGES", "1").env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
                command
            }
        };
        command.current_dir(project).stdin(Stdio::null());
        let tool = self.shown().to_owned();
        let ended = bounded(command, RESOLVING).map_err(|source| WheelError::Tools {
            message: format!("{tool} cannot be run"),
            source: Some(source),
        })?;
        if !ended.status.is_some_and(|status| status.success()) {
            return Err(WheelError::Resolve { tool, said: Said(ended.said) }.into());
        }
        let found = read(&output).map_err(|source| WheelError::Output { path: output.clone(), source })?;
        match self {
            Installer::Uv(..) => from_pylock(found, python),
            Installer::Pip(_) => Ok(from_report(&found)?),
        }
    }

    /// The program that installs these from the files in a folder alone, and its arguments.
    pub(super) fn install(
        &self,
        wanted: &[String],
        python: &Python,
        place: &Path,
    ) -> (OsString, Vec<OsString>) {
        let interpreter = place.join("env/bin/python");
        let (program, mut arguments): (OsString, Vec<OsString>) = match self {
            Installer::Uv(program, _) => {
                let arguments = ["pip", "install", "--offline", "--python"].map(OsString::from);
                (program.into(), arguments.into_iter().chain([interpreter.into()]).collect())
            }
            Installer::Pip(_) => {
                let arguments = ["-m", "pip", "--python"].map(OsString::from).into_iter();
                let last = ["install", "--no-compile", "--no-warn-script-location"].map(OsString::from);
                (
                    python.executable.clone().into(),
                    arguments.chain([interpreter.into()]).chain(last).collect(),
                )
            }
        };
        arguments.extend(["--no-index", "--only-binary", ":all:", "--find-links"].map(OsString::from));
        arguments.push(place.join("wheels").into());
        arguments.extend(wanted.iter().map(OsString::from));
        (program, arguments)
    }
}

/// A file that a program wrote, bounded.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    files::open_regular(path)?.take(limits::BACKEND_ANSWER_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limits::BACKEND_ANSWER_BYTES {
        true => Err(std::io::Error::other("it is too large")),
        false => Ok(bytes),
    }
}

fn from_pylock(bytes: Vec<u8>, python: &Python) -> Result<Vec<Chosen>, Failure> {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let document = Document::new(Path::new("pylock.build.toml"), text);
    let plan = pylock::plan(&document, &python.target()?, &Options::default())?;
    let chosen = plan.wheels.into_iter().map(|wheel| match wheel.location {
        Location::Url(url) => Ok(Chosen { file: wheel.file.as_str().to_owned(), url, digest: wheel.digest }),
        Location::Path(path) => {
            let why = format!("is a file: {}", path.display());
            Err(WheelError::Requirement { name: wheel.file.to_string(), why })
        }
        Location::Own => {
            Err(WheelError::Requirement { name: wheel.file.to_string(), why: "is the project itself".into() })
        }
    });
    Ok(chosen.collect::<Result<_, _>>()?)
}

/// What pip's report says (`installation report`, version 1).
fn from_report(bytes: &[u8]) -> Result<Vec<Chosen>, WheelError> {
    let report: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| WheelError::Tools {
        message: format!("pip wrote no report: {error}"),
        source: None,
    })?;
    let list = report.get("install").and_then(serde_json::Value::as_array);
    list.into_iter()
        .flatten()
        .map(|item| {
            let text = |pointer: &str| item.pointer(pointer).and_then(serde_json::Value::as_str);
            let name = text("/metadata/name").unwrap_or("?").to_owned();
            let wrong = |why: String| WheelError::Requirement { name: name.clone(), why };
            let address = text("/download_info/url").unwrap_or_default();
            let url: Url =
                address.parse().map_err(|error| wrong(format!("comes from {address}: {error}")))?;
            let hex = text("/download_info/archive_info/hashes/sha256").unwrap_or_default();
            let digest =
                format!("sha256:{hex}").parse().map_err(|_| wrong("has no sha256 in its index".into()))?;
            let file = url.file_name().replace("%2B", "+").replace("%2b", "+");
            match file.ends_with(".whl") {
                true => Ok(Chosen { file, url, digest }),
                false => Err(wrong("is no wheel".into())),
            }
        })
        .collect()
}
