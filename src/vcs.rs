//! What git knows of the project: the commit, its time, whether the tree is as committed, and which files it tracks.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::diagnostic::{Diagnostic, Exit};
use crate::limits;

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
    /// There is a work tree, and no git.
    #[error("{} is a work tree of git, and there is no git to ask for its commit", .0.display())]
    Missing(PathBuf),
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
        let say = "say what git would with --revision and --epoch (or SOURCE_DATE_EPOCH)";
        Some(match self {
            VcsError::Missing(_) => format!("install git, or {say}"),
            _ => say.into(),
        })
    }
}

/// A work tree of git, and the directory in it that is asked about.
#[derive(Clone, Debug)]
pub struct WorkTree {
    directory: PathBuf,
    top: PathBuf,
}

impl WorkTree {
    /// The work tree that `directory` lies in. `None` outside one; a work tree that git cannot be asked about is an error,
    /// for the image would be another one with git.
    pub fn around(directory: &Path) -> Result<Option<WorkTree>, VcsError> {
        let Some(inside) = git(directory, &["rev-parse", "--is-inside-work-tree", "--show-toplevel"])? else {
            let absolute = std::path::absolute(directory).map_err(VcsError::Run)?;
            return match absolute.ancestors().find(|path| path.join(".git").exists()) {
                Some(tree) => Err(VcsError::Missing(tree.to_owned())),
                None => Ok(None),
            };
        };
        if !inside.status.success() {
            let message = String::from_utf8_lossy(&inside.stderr);
            return match is_outside(&message) && !directory.join(".git").exists() {
                true => Ok(None),
                false => Err(failed(directory, message.trim())),
            };
        }
        let top = inside.stdout.strip_prefix(b"true\n").and_then(|top| top.strip_suffix(b"\n"));
        let top = top.map(|top| PathBuf::from(OsStr::from_bytes(top)));
        Ok(top.map(|top| WorkTree { directory: directory.to_owned(), top }))
    }

    /// The time of the commit, in seconds since 1970-01-01T00:00:00Z. `None` before the first one.
    pub fn time(&self) -> Result<Option<u64>, VcsError> {
        let asked = ["log", "-1", "--no-show-signature", "--format=%ct"];
        let Some(time) = git(&self.directory, &asked)? else { return Ok(None) };
        // Whatever else is wrong with the tree is told by `commit`.
        Ok(time.status.success().then(|| text(&time).parse().ok()).flatten())
    }

    /// The commit, and whether the tree is as committed. `None` before the first commit.
    ///
    /// Files that are new and not ignored make the tree dirty, those in the directory `output` do not. Of a directory that
    /// the project itself lies in, only what has one of `names` is left out.
    pub fn commit(&self, output: &Path, names: &[&str]) -> Result<Option<Commit>, VcsError> {
        let directory = &self.directory;
        let Some(head) = git(directory, &["log", "-1", "--no-show-signature", "--format=%H %ct"])? else {
            return Ok(None);
        };
        if !head.status.success() {
            let message = String::from_utf8_lossy(&head.stderr).trim().to_owned();
            return match message.contains("does not have any commits yet") {
                true => Ok(None),
                false => Err(VcsError::Failed { directory: directory.to_owned(), message }),
            };
        }
        let failed = |message: &str| failed(directory, message);
        let line = text(&head);
        let (revision, time) = line.split_once(' ').ok_or_else(|| failed("it gave no commit"))?;
        let time = time.parse().map_err(|_| failed("it gave no time of the commit"))?;

        let mut arguments: Vec<OsString> = vec![
            "status".into(),
            "--porcelain".into(),
            "--untracked-files=normal".into(),
            "--".into(),
            ".".into(),
        ];
        arguments.extend(left_out(&self.top, directory, output, names)?);
        let Some(status) = git(directory, &arguments)? else { return Ok(None) };
        if !status.status.success() {
            return Err(failed(String::from_utf8_lossy(&status.stderr).trim()));
        }
        let dirty = if status.stdout.is_empty() { "" } else { "-dirty" };
        Ok(Some(Commit { revision: format!("{revision}{dirty}"), time }))
    }
}

/// Pathspecs that leave out what is written to `output`, in the work tree `top` that the project lies in.
fn left_out(top: &Path, project: &Path, output: &Path, names: &[&str]) -> Result<Vec<OsString>, VcsError> {
    let (top, output) = (real(top)?, real(output)?);
    let Ok(path) = output.strip_prefix(&top) else { return Ok(Vec::new()) };
    let paths = match real(project)?.starts_with(&output) {
        true => names.iter().map(|name| path.join(name)).collect(),
        false => vec![path.to_owned()],
    };
    let pathspec = |path: PathBuf| {
        let mut without = OsString::from(":(top,exclude,literal)");
        without.push(path);
        without
    };
    Ok(paths.into_iter().map(pathspec).collect())
}

/// The path without links in what of it is there.
fn real(path: &Path) -> Result<PathBuf, VcsError> {
    let absolute = std::path::absolute(path).map_err(VcsError::Run)?;
    let there = absolute.ancestors().find_map(|there| {
        let rest = absolute.strip_prefix(there).ok()?;
        let there = there.canonicalize().ok()?;
        Some(if rest.as_os_str().is_empty() { there } else { there.join(rest) })
    });
    Ok(there.unwrap_or(absolute))
}

/// What became of asking git for the files in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// There is no git.
    NoGit,
    /// The folder lies in no work tree.
    NoWorkTree,
    /// Every path was visited.
    Done,
}

/// Visits the paths of the files in `directory` and below that git tracks, or only the one of this name: in no order, from
/// the folder; true for a submodule. The folder itself is `./` when it is a submodule that is not checked out.
///
/// Says nothing about whether they are there. Files with a conflict are visited several times.
pub fn tracked(
    directory: &Path,
    name: Option<&OsStr>,
    mut visit: impl FnMut(&[u8], bool),
) -> Result<Listing, VcsError> {
    stage(directory, name, |about, path| visit(path, about.starts_with(b"160000 ")))
}

/// The top of the work tree that `directory` lies in; nothing without git and outside of one.
pub fn top(directory: &Path) -> Result<Option<PathBuf>, VcsError> {
    let Some(top) = git(directory, &["rev-parse", "--show-toplevel"])? else { return Ok(None) };
    let path = top.stdout.strip_suffix(b"\n").unwrap_or(&top.stdout);
    Ok((top.status.success() && !path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path))))
}

/// Makes `to` a work tree of git that tracks, below `prefix`, what is tracked in `from` and below: names, modes and
/// objects of the index, and nothing else of the repository.
pub fn copy_index(from: &Path, to: &Path, prefix: &[u8]) -> Result<(), VcsError> {
    let mut index = Vec::new();
    let listing = stage(from, None, |about, path| {
        [about, b"\t", prefix, path, b"\0"].iter().for_each(|part| index.extend_from_slice(part));
    });
    if listing? != Listing::Done {
        return Ok(());
    }
    let format = git(from, &["rev-parse", "--show-object-format"])?;
    let sha256 = format.is_some_and(|format| text(&format) == "sha256");
    let mut init = vec!["-c", "init.defaultBranch=main", "init", "--quiet", "--template="];
    init.extend(sha256.then_some("--object-format=sha256"));
    let run = |output: Output| match output.status.success() {
        true => Ok(()),
        false => Err(failed(to, String::from_utf8_lossy(&output.stderr).trim())),
    };
    let Some(made) = git(to, &init)? else { return Ok(()) };
    run(made)?;
    let mut command = command(to);
    command.args(["update-index", "-z", "--index-info"]).stdin(Stdio::piped());
    let mut git = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(VcsError::Run)?;
    let written = git.stdin.take().map(|mut stdin| stdin.write_all(&index));
    run(git.wait_with_output().map_err(VcsError::Run)?)?;
    written.transpose().map(|_| ()).map_err(VcsError::Run)
}

/// Copies the history of the work tree `from` into `kept`, a repository that is not there yet: commits and tags, packed anew, and
/// nothing of the clone's own settings. Does nothing before the first commit.
pub fn keep_history(from: &Path, kept: &Path) -> Result<(), VcsError> {
    let head = command(from).args(["rev-parse", "--verify", "--quiet", "HEAD"]).output();
    if !head.map_err(VcsError::Run)?.status.success() {
        return Ok(());
    }
    let mut clone = command(from);
    clone.args(["clone", "--quiet", "--bare", "--template=", "--no-local"]);
    // What reads the repository asks whose it is once more, by another path and without the settings of this command; of
    // this tree git has said above that it takes it.
    clone.args(["--upload-pack", "git -c safe.directory='*' upload-pack", "."]).arg(kept);
    done(clone.env("GIT_ALLOW_PROTOCOL", "file"), kept)
}

/// Gives a copy `to` of the files of a work tree what [`keep_history`] kept of it, and an index of what is committed. Does nothing when
/// that kept nothing.
pub fn give_history(kept: &Path, to: &Path) -> Result<(), VcsError> {
    if !kept.exists() {
        return Ok(());
    }
    let mut clone = command(kept);
    // Files of its own: whoever writes into them changes nothing that is kept.
    clone.args(["clone", "--quiet", "--bare", "--template=", "--no-hardlinks", "."]).arg(to.join(".git"));
    done(clone.env("GIT_ALLOW_PROTOCOL", "file"), to)?;
    done(command(to).args(["--git-dir=.git", "config", "core.bare", "false"]), to)?;
    done(command(to).args(["config", "--remove-section", "remote.origin"]), to)?;
    done(command(to).args(["reset", "--quiet"]), to).or_else(|error| {
        // Files that differ from what is committed are told, and no failure.
        match error {
            VcsError::Failed { message, .. } if message.is_empty() => Ok(()),
            error => Err(error),
        }
    })
}

/// Runs git to a good end.
fn done(command: &mut Command, at: &Path) -> Result<(), VcsError> {
    match command.output().map_err(VcsError::Run)? {
        output if output.status.success() => Ok(()),
        output => Err(failed(at, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// What [`keep_history`] keeps, told by the names of commits: where `HEAD`, branches and tags are. Nothing for a clone that has
/// not all of its history; the same before the first commit.
pub fn history(directory: &Path) -> Result<Option<Vec<u8>>, VcsError> {
    let asked = ["rev-parse", "--is-shallow-repository", "HEAD", "--symbolic-full-name", "HEAD"];
    let Some(head) = git(directory, &asked)? else { return Ok(None) };
    if !head.status.success() {
        return Ok(Some(Vec::new()));
    }
    let refs = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"];
    let Some(refs) = git(directory, &refs)? else { return Ok(None) };
    let whole = head.stdout.starts_with(b"false\n") && refs.status.success();
    Ok(whole.then(|| [head.stdout, refs.stdout].concat()))
}

/// Visits what `git ls-files --stage -z` says: mode, object and stage of each file, and its path.
fn stage(
    directory: &Path,
    name: Option<&OsStr>,
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<Listing, VcsError> {
    let mut command = command(directory);
    command.args(["--literal-pathspecs", "ls-files", "--stage", "-z", "--"]).args(name);
    let mut git = match command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Listing::NoGit),
        other => other.map_err(VcsError::Run)?,
    };
    let mut said = Vec::new();
    let (stdout, stderr) = (git.stdout.take(), git.stderr.take());
    let read = std::thread::scope(|scope| {
        scope.spawn(|| stderr.map(|stderr| stderr.take(limits::JSON_BYTES).read_to_end(&mut said)));
        stdout.map_or(Ok(Heard::Whole), |stdout| lines(stdout, &mut visit))
    });
    if !matches!(read, Ok(Heard::Whole)) {
        // What becomes of it does not matter any more.
        let _ = git.kill();
    }
    let status = git.wait().map_err(VcsError::Run)?;
    match read.map_err(VcsError::Run)? {
        Heard::Whole => {}
        Heard::Long => {
            let limit = limits::TRACKED_BYTES;
            return Err(failed(directory, &format!("it lists more than {limit} bytes of names")));
        }
        Heard::Odd => return Err(failed(directory, "it gave a line without a path")),
    }
    if status.success() {
        return Ok(Listing::Done);
    }
    let message = String::from_utf8_lossy(&said);
    match is_outside(&message) {
        true => Ok(Listing::NoWorkTree),
        false => Err(failed(directory, message.trim())),
    }
}

/// True when git says that a directory lies in no work tree.
fn is_outside(message: &str) -> bool {
    ["not a git repository", "must be run in a work tree"].iter().any(|no| message.contains(no))
}

/// How reading what git lists ended.
enum Heard {
    /// With its end.
    Whole,
    /// There is more than is read.
    Long,
    /// With a line that holds no path.
    Odd,
}

/// Visits mode, object and stage of each line, and the path. A line is held at a time.
fn lines(listed: impl io::Read, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<Heard> {
    let mut listed = BufReader::with_capacity(64 << 10, listed.take(limits::TRACKED_BYTES + 1));
    let (mut line, mut size) = (Vec::new(), 0);
    loop {
        line.clear();
        size += listed.read_until(0, &mut line)? as u64;
        if size > limits::TRACKED_BYTES {
            return Ok(Heard::Long);
        }
        match line.strip_suffix(b"\0").unwrap_or(&line) {
            b"" if line.is_empty() => return Ok(Heard::Whole),
            b"" => {}
            line => match line.iter().position(|&b| b == b'\t') {
                Some(tab) => visit(&line[..tab], &line[tab + 1..]),
                None => return Ok(Heard::Odd),
            },
        }
    }
}

fn failed(directory: &Path, message: &str) -> VcsError {
    VcsError::Failed { directory: directory.to_owned(), message: message.to_owned() }
}

/// Runs git; `None` without git.
fn git<A: AsRef<OsStr>>(directory: &Path, arguments: &[A]) -> Result<Option<Output>, VcsError> {
    match command(directory).args(arguments).output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VcsError::Run(error)),
    }
}

/// git in a directory, without anything of the caller's environment that would point it elsewhere.
///
/// What a repository can have git run is as far as `git status` goes: git itself refuses trees of other users, and is not
/// to take a folder of a project for a repository of its own, nor to fetch what a repository lacks.
fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    for setting in ["safe.bareRepository=explicit", "core.fsmonitor=false", "core.hooksPath=/dev/null"] {
        command.args(["-c", setting]);
    }
    command.arg("-C").arg(directory);
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none").env("GIT_TERMINAL_PROMPT", "0");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE"] {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
