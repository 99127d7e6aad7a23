//! What git knows of the project: the commit, its time, and whether the tree is as committed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::diagnostic::{Diagnostic, Exit};

/// The state of a work tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The commit's name in hexadecimal, with `-dirty` when the tree differs from it.
    pub revision: String,
    /// When it was committed, in seconds since 1970-01-01T00:00:00Z.
    pub time: u64,
}

/// Why git's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VcsError {
    /// git could not be run.
    #[error("cannot run git")]
    Run(#[source] io::Error),
    /// git failed in a work tree.
    #[error("git failed in {}: {message}", directory.display())]
    Failed {
        /// The work tree.
        directory: PathBuf,
        /// What it said.
        message: String,
    },
}

impl Diagnostic for VcsError {
    fn code(&self) -> &'static str {
        "E-GIT"
    }

    fn exit(&self) -> Exit {
        Exit::Undecided
    }

    fn help(&self) -> Option<String> {
        Some("say what git would with --revision and --epoch (or SOURCE_DATE_EPOCH)".into())
    }
}

/// The commit of the work tree that `directory` lies in. `None` without git, outside a work tree, and before
/// the first commit.
///
/// Files that are new and not ignored make the tree dirty, those in `output` do not.
pub fn commit(directory: &Path, output: &Path) -> Result<Option<Commit>, VcsError> {
    let Some(top) = git(directory, &["rev-parse", "--is-inside-work-tree"])? else { return Ok(None) };
    if !top.status.success() || text(&top) != "true" {
        return Ok(None);
    }
    let Some(head) = git(directory, &["log", "-1", "--format=%H %ct"])? else { return Ok(None) };
    if !head.status.success() {
        let message = String::from_utf8_lossy(&head.stderr).trim().to_owned();
        return match message.contains("does not have any commits yet") {
            true => Ok(None),
            false => Err(VcsError::Failed { directory: directory.to_owned(), message }),
        };
    }
    let failed =
        |message: &str| VcsError::Failed { directory: directory.to_owned(), message: message.into() };
    let line = text(&head);
    let (revision, time) = line.split_once(' ').ok_or_else(|| failed("it gave no commit"))?;
    let time = time.parse().map_err(|_| failed("it gave no time of the commit"))?;

    let mut arguments = vec![
        "status".into(),
        "--porcelain".into(),
        "--untracked-files=normal".into(),
        "--".into(),
        ".".into(),
    ];
    let output = output.strip_prefix(directory).unwrap_or(output);
    if output.is_relative() && output != Path::new("") {
        let mut without = std::ffi::OsString::from(":(exclude,literal)");
        without.push(output);
        arguments.push(without);
    }
    let Some(status) = git(directory, &arguments)? else { return Ok(None) };
    if !status.status.success() {
        return Err(failed(String::from_utf8_lossy(&status.stderr).trim()));
    }
    let dirty = if status.stdout.is_empty() { "" } else { "-dirty" };
    Ok(Some(Commit { revision: format!("{revision}{dirty}"), time }))
}

/// Runs git without anything of the caller's environment that would point it elsewhere; `None` without git.
fn git<A: AsRef<std::ffi::OsStr>>(directory: &Path, arguments: &[A]) -> Result<Option<Output>, VcsError> {
    let mut command = Command::new("git");
    // A checkout that another user made is read all the same: nothing of it is run.
    command
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C"])
        .arg(directory)
        .args(arguments);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE"] {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0");
    match command.output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VcsError::Run(error)),
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
