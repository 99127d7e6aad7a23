//! Handing a built image to Docker or podman.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dmoci_layers::Digest;

use super::content::{Content, Wanted};
use crate::daemon::{Daemon, DaemonError};
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::oci::platform::Platform;
use crate::store::{ImageStore, StoreError, Subject};

/// Who takes the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A Docker daemon, or what speaks like one, at this socket.
    Docker(PathBuf),
    /// podman, found on the path.
    Podman,
}

/// An image that an engine has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its names; none when it has no name.
    pub names: Vec<String>,
    /// The ID by which the engine knows it.
    pub id: Digest,
}

/// Why an engine has not taken an image.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The daemon cannot be reached, or refuses.
    #[error("the image cannot be handed to docker")]
    Daemon(#[from] DaemonError),
    /// The image cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// podman is not there or cannot be run.
    #[error("podman cannot be run")]
    NoPodman(#[source] io::Error),
    /// podman says no.
    #[error("`podman {command}` fails with {status}: {said}")]
    Podman {
        /// What was asked.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// podman is content and has not read what it was given.
    #[error("`podman {command}` ends without having read the image")]
    Unread {
        /// What was asked.
        command: String,
    },
    /// The engine said that it took the image and has it not, or another one, under a name.
    #[error("{engine} has {found} as {name}, not the image that was handed over, {expected}")]
    Other {
        /// Who.
        engine: &'static str,
        /// The name, or the ID of an image without names.
        name: String,
        /// What was expected: the image ID, or the digest of the manifest.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// What podman is asked before anything is built.
const READY: &str = "--version";

impl Diagnostic for LoadError {
    fn code(&self) -> &'static str {
        match self {
            LoadError::Daemon(error) => error.code(),
            LoadError::Store(error) => error.code(),
            LoadError::NoPodman(_) => "E-LOAD-PODMAN",
            LoadError::Podman { .. } | LoadError::Unread { .. } => "E-LOAD-REFUSED",
            LoadError::Other { .. } => "E-LOAD-OTHER",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            LoadError::Store(error) => error.exit(),
            LoadError::Other { .. } => Exit::Mismatch,
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            LoadError::Daemon(error) => error.help(),
            LoadError::Store(error) => error.help(),
            LoadError::NoPodman(_) => Some("install podman, or load into docker: --load docker".into()),
            LoadError::Podman { command, .. } if command == READY => {
                Some("see whether `podman info` works for this user; nothing was built".into())
            }
            LoadError::Podman { .. } | LoadError::Unread { .. } => Some(
                "see whether `podman info` works for this user; the image is in the output directory".into(),
            ),
            LoadError::Other { .. } => {
                Some("another program may have loaded or tagged an image meanwhile; load again".into())
            }
        }
    }
}

impl Engine {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Engine::Docker(_) => "docker",
            Engine::Podman => "podman",
        }
    }

    /// Asks whether it is there, before anything is built for it.
    pub fn ready(&self) -> Result<(), LoadError> {
        match self {
            Engine::Docker(socket) => Ok(Daemon::at(socket).ping()?),
            Engine::Podman => podman(&[READY], None).map(|_| ()),
        }
    }
}

/// Hands over the image of one platform in a layout, with all its names, and asks the engine what it has then.
///
/// The archive is that of `dmoci export -o docker-archive:…`, and streams: nothing is written to the disk here. Every blob
/// is compared with its digest on the way; one that is damaged ends the stream before its end, so that the engine takes
/// nothing.
pub fn load(layout: &Path, platform: &Platform, engine: &Engine) -> Result<Loaded, Failure> {
    let store = ImageStore::open_sound(&Subject::bare(layout))?;
    let content = Content::docker(&store, Wanted { platform: Some(platform), ..Wanted::default() })?;
    let (plan, place) = (content.plan(), Path::new(engine.name()));
    match engine {
        Engine::Docker(socket) => {
            Daemon::at(socket).load(plan.size(), |out| match plan.write(&store, place, out) {
                Err(StoreError::Write { source, .. }) => {
                    Err(LoadError::Daemon(DaemonError::Io { socket: socket.clone(), source }))
                }
                written => Ok(written?),
            })?;
        }
        Engine::Podman => {
            podman(&["load", "--quiet"], Some(&mut |out| plan.write(&store, place, out)))?;
        }
    }
    // With containerd's store an engine knows images by the digest of their manifest.
    let ids: Vec<Digest> =
        content.image_id.iter().chain(content.images.iter().map(|image| &image.digest)).cloned().collect();
    Ok(confirmed(engine, &content.names, &ids)?)
}

/// What the engine has now: the image under each name, or under one of its IDs when it has no name.
fn confirmed(engine: &Engine, names: &[String], ids: &[Digest]) -> Result<Loaded, LoadError> {
    let id_as_name = |id: &Digest| match engine {
        Engine::Docker(_) => id.to_string(),
        Engine::Podman => id.hex().to_owned(),
    };
    let mut known = None;
    let unnamed: Vec<String> = ids.iter().map(id_as_name).collect();
    for name in if names.is_empty() { &unnamed[..] } else { names } {
        let found = match engine {
            Engine::Docker(socket) => Daemon::at(socket).image_id(name)?,
            Engine::Podman => podman_id(name)?,
        };
        match found {
            Some(id) if ids.contains(&id) => known = Some(id),
            None if names.is_empty() => {}
            found => {
                let found = found.map_or_else(|| "nothing".to_owned(), |id| id.to_string());
                return Err(other(engine, name, ids, found));
            }
        }
    }
    match known {
        Some(id) => Ok(Loaded { names: names.to_vec(), id }),
        None => Err(other(engine, unnamed.first().map_or("", String::as_str), ids, "nothing".into())),
    }
}

fn other(engine: &Engine, name: &str, ids: &[Digest], found: String) -> LoadError {
    let expected = ids.iter().map(Digest::to_string).collect::<Vec<_>>().join(" or ");
    LoadError::Other { engine: engine.name(), name: name.to_owned(), expected, found }
}

/// The ID of podman's image of this name, or nothing when it has none.
fn podman_id(name: &str) -> Result<Option<Digest>, LoadError> {
    match podman(&["image", "exists", "--", name], None) {
        Err(LoadError::Podman { status, .. }) if status == "1" => return Ok(None),
        outcome => outcome?,
    };
    let said = podman(&["image", "inspect", "--format={{.Id}}", "--", name], None)?;
    Ok(format!("sha256:{}", said.trim()).parse().ok())
}

/// Runs podman, with this on its standard input, and gives what it prints.
#[allow(clippy::type_complexity, reason = "two callers")]
fn podman(
    arguments: &[&str],
    input: Option<&mut (dyn FnMut(&mut dyn Write) -> Result<(), StoreError> + Send)>,
) -> Result<String, LoadError> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new("podman");
    command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(LoadError::NoPodman)?;
    let stdin = child.stdin.take();
    // It may say more than a pipe holds before it has read all.
    let (written, output) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || match (input, stdin) {
            (Some(write), Some(mut stdin)) => write(&mut stdin),
            _ => Ok(()),
        });
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    let output = output.map_err(LoadError::NoPodman)?;
    let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let command = || arguments.first().copied().unwrap_or_default().to_owned();
    // Damage to the image is why podman failed; that it takes no more is not.
    match written {
        Err(StoreError::Write { .. }) if output.status.success() => {
            return Err(LoadError::Unread { command: command() });
        }
        Err(StoreError::Write { .. }) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let status = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    let said: String = lines.join("; ").chars().take(2000).collect();
    Err(LoadError::Podman { command: command(), status, said })
}
