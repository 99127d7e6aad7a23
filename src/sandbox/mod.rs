//! Running a program of somebody else: without network and with one directory to write to where the system has
//! namespaces for that, without the sockets of the machine where it filters system calls, and with a time limit and bounded output
//! everywhere.
//!
//! `unshare` of util-linux makes the namespaces; this program, started in them again, mounts (`inside`) and runs the other
//! one. Where they cannot be made, it stands between this process and the other one all the same: when this process ends, by whatever
//! signal, the other one does.
//!
//! ```text
//! mod > inside > line   sockets
//! ```

mod inside;
mod line;
mod sockets;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

pub use inside::{BROKEN, enter};
pub use line::Scratch;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::limits;

/// Where the directory of a [`Cell`] is for the programs in it, on every machine.
pub const PLACE: &str = "/tmp/dmoci";

/// The variable that says that this process is to do a [`Task`].
pub const ENTER: &str = "DMOCI_CELL";

/// What this program does besides what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Runs another program, in the namespaces that it finds itself in.
    Cell(Sockets),
    /// Runs another program.
    Guard(Sockets),
    /// Removes a directory when the process that made it has ended.
    Keep,
}

impl Task {
    /// The value of the variable.
    pub fn name(self) -> &'static str {
        match self {
            Task::Cell(Sockets::Refused) => "cell",
            Task::Cell(Sockets::Open) => "cell-open",
            Task::Guard(Sockets::Refused) => "guard",
            Task::Guard(Sockets::Open) => "guard-open",
            Task::Keep => "keep",
        }
    }

    /// The task that a value means.
    pub fn of(name: &OsStr) -> Option<Task> {
        let tasks =
            [Sockets::Refused, Sockets::Open].map(|sockets| [Task::Cell(sockets), Task::Guard(sockets)]);
        tasks.into_iter().flatten().chain([Task::Keep]).find(|task| name == task.name())
    }
}

/// Whether another program gets sockets of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// None; it does not run where they cannot be refused.
    Refused,
    /// The system cannot refuse them.
    Open,
}

/// What keeps a program in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces: no network, no way to write anywhere else, nothing left running.
    Namespaces,
    /// Nothing but the time limit, and why.
    Nothing(String),
}

/// A directory that programs run in.
#[derive(Clone, Debug)]
pub struct Cell {
    work: PathBuf,
    dmoci: PathBuf,
    isolation: Isolation,
    sockets: Result<(), String>,
}

/// How a program ended, and the last of what it said.
#[derive(Debug)]
pub struct Ended {
    /// Nothing when it took too long.
    pub status: Option<ExitStatus>,
    /// Both outputs as they came, at most [`limits::BACKEND_SAID_BYTES`].
    pub said: String,
    /// How many times it, or what it started, tried to reach a network that is not there. Known of namespaces alone, and of
    /// programs that ended.
    pub attempts: u64,
}

/// How long the pipes of a program that ended stay open at most: somebody else may have them.
const LINGER: Duration = Duration::from_secs(2);

/// How long it may take to make the namespaces.
const TRIAL: Duration = Duration::from_secs(60);

/// The digits of a number.
const COUNT: u64 = 20;

impl Cell {
    /// A cell in this absolute directory; `dmoci` is this program. Finds out what the system has for it.
    pub fn new(work: &Path, dmoci: &Path) -> io::Result<Cell> {
        let (isolation, sockets) = (Isolation::Namespaces, sockets::trial()?);
        let mut cell = Cell { work: work.to_owned(), dmoci: dmoci.to_owned(), isolation, sockets };
        let trial = cell.run(OsStr::new("true"), &[], &[], TRIAL);
        match trial {
            Ok(ended) if ended.status.is_some_and(|status| status.success()) => {}
            Ok(ended) => {
                let said = ended.said.trim();
                let why = if said.is_empty() { "the namespaces cannot be made" } else { said };
                cell.isolation = Isolation::Nothing(why.replace('\n', "; "));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                cell.isolation = Isolation::Nothing("there is no `unshare` (util-linux)".into());
            }
            Err(error) => return Err(error),
        }
        Ok(cell)
    }

    /// What keeps programs in.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Whether the sockets of the machine are refused to programs; if not, why.
    pub fn sockets(&self) -> Result<(), &str> {
        self.sockets.as_ref().copied().map_err(String::as_str)
    }

    /// Where the directory is for programs in the cell.
    pub fn place(&self) -> &Path {
        match self.isolation {
            Isolation::Namespaces => Path::new(PLACE),
            Isolation::Nothing(_) => &self.work,
        }
    }

    /// Runs a program with only these variables, in the directory, for at most this time.
    pub fn run(
        &self,
        program: &OsStr,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
        limit: Duration,
    ) -> io::Result<Ended> {
        let mut command = match self.isolation {
            Isolation::Namespaces => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid"]);
                command.args(["--fork", "--kill-child", "--"]);
                command.arg(&self.dmoci);
                command
            }
            Isolation::Nothing(_) => Command::new(&self.dmoci),
        };
        command.arg(program).args(arguments);
        let sockets = if self.sockets.is_ok() { Sockets::Refused } else { Sockets::Open };
        let task = match self.isolation {
            Isolation::Namespaces => Task::Cell(sockets),
            Isolation::Nothing(_) => Task::Guard(sockets),
        };
        // `unshare` itself is found by the path of this process.
        let own = environment.iter().map(|(name, value)| (*name, value.clone()));
        command.env_clear().envs(own.chain([(ENTER, task.name().into())]));
        let (line, other) = line::pair()?;
        command.current_dir(&self.work).process_group(0).stdin(other);
        let ended = bounded(command, limit)?;
        // What was to be said was said before the end.
        line.set_nonblocking(true)?;
        let mut count = Vec::new();
        let _ = line.take(COUNT).read_to_end(&mut count);
        let count = String::from_utf8_lossy(&count);
        Ok(Ended { attempts: count.parse().unwrap_or(0), ..ended })
    }
}

/// Runs a command to its end or to the end of its time, and keeps the last of what it says.
pub fn bounded(mut command: Command, limit: Duration) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // It holds the writing ends.
    drop(command);
    let pid = Pid::from_child(&child);
    let (heard, hearing) = mpsc::channel();
    thread::spawn(move || heard.send(last(reader)));
    let (ended, ending) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait()));
    let status = match ending.recv_timeout(limit) {
        Ok(status) => Some(status?),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("its end was not heard of")),
    };
    if status.is_none() {
        // With the program, `unshare` ends all that runs in its namespaces.
        let _ = kill_process(pid, Signal::KILL);
    }
    // Whatever it left behind in its group; there may be nothing.
    let _ = kill_process_group(pid, Signal::KILL);
    let said = hearing.recv_timeout(LINGER).unwrap_or_default();
    Ok(Ended { status, said: String::from_utf8_lossy(&said).into_owned(), attempts: 0 })
}

/// Reads to the end, and keeps the last bytes.
fn last(mut reader: PipeReader) -> Vec<u8> {
    let mut kept: VecDeque<u8> = VecDeque::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                kept.extend(&buffer[..count]);
                let over = kept.len().saturating_sub(limits::BACKEND_SAID_BYTES);
                kept.drain(..over);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn sh(text: &str, limit: Duration) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", text]).process_group(0).stdin(Stdio::null());
        bounded(command, limit).unwrap()
    }

    #[test]
    fn tasks_have_names() {
        for task in
            [Task::Cell(Sockets::Refused), Task::Cell(Sockets::Open), Task::Guard(Sockets::Open), Task::Keep]
        {
            assert_eq!(Task::of(task.name().as_ref()), Some(task));
        }
        assert_eq!(Task::of("cell-".as_ref()), None);
    }

    #[test]
    fn the_last_of_what_is_said() {
        let ended = sh("echo first; yes | head -c 300000; echo last >&2; exit 3", Duration::from_secs(60));
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert!(ended.said.ends_with("y\nlast\n") && !ended.said.contains("first"));
        assert_eq!(ended.said.len(), limits::BACKEND_SAID_BYTES);
    }

    #[test]
    fn time_is_limited() {
        let ended = sh("echo begun; sleep 1000 & sleep 1000", Duration::from_millis(300));
        assert_eq!((ended.status.is_none(), ended.said.as_str()), (true, "begun\n"));
    }
}
