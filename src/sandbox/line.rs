//! Hearing of the end of another process, however that comes about: it holds one end of a pair of sockets, and the kernel closes it.
//!
//! Standard input of the process that listens is the other end. Signals that a parent's death sends would be lost where it dies
//! before they are asked for, and reach one child alone.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use tempfile::TempDir;

use super::{ENTER, Task};

/// How often what is still written to is removed again, and how long to wait before that.
const AGAIN: (u32, Duration) = (100, Duration::from_millis(50));

/// What a process holds, and what another one has as its standard input.
pub(super) fn pair() -> io::Result<(UnixStream, Stdio)> {
    let (own, other) = UnixStream::pair()?;
    Ok((own, OwnedFd::from(other).into()))
}

/// Waits until whoever holds the other end of standard input has ended, or let go of it.
pub(super) fn hung_up() {
    let mut buffer = [0; 64];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            // It is no line.
            Err(_) => return,
        }
    }
}

/// A directory of this process, which goes with it: also when it is killed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    dir: Option<TempDir>,
    keeper: Option<(UnixStream, Child)>,
}

impl Scratch {
    /// Makes one in a directory, with this beginning of its name. `dmoci` is this program, which watches over it.
    pub fn make(parent: &Path, prefix: &str, dmoci: &Path) -> io::Result<Scratch> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        let path = dir.path().canonicalize()?;
        // Without it the directory stays where this process is killed, and nothing else is amiss.
        let keeper = keeper(&path, dmoci).ok();
        Ok(Scratch { path, dir: Some(dir), keeper })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.dir.take());
        if let Some((line, mut keeper)) = self.keeper.take() {
            drop(line);
            let _ = keeper.wait();
        }
    }
}

fn keeper(path: &Path, dmoci: &Path) -> io::Result<(UnixStream, Child)> {
    let (own, other) = pair()?;
    let mut command = Command::new(dmoci);
    command.arg(path).env_clear().env(ENTER, Task::Keep.name()).current_dir("/");
    // What a terminal sends to all that it started is not for this one.
    command.process_group(0).stdin(other).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((own, command.spawn()?))
}

/// Removes a directory once whoever made it has ended. What still writes there is about to end, too.
pub(super) fn keep(path: &Path) {
    hung_up();
    for _ in 0..AGAIN.0 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(AGAIN.1),
            _ => return,
        }
    }
}
