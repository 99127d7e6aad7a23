//! Runs one command and measures it with all that it starts.
//!
//! The program starts itself anew for that: the kernel counts the memory of whoever forks as the child's, and keeps one
//! account for all children of a process, so each measurement has a small parent of its own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rustix::process::{WaitOptions, set_child_subreaper, waitpid};

use crate::Result;

/// What a command took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// From the start to the end.
    pub(crate) wall: Duration,
    /// User and system time of all processes.
    pub(crate) cpu: Duration,
    /// The most memory that one of the processes had resident, in bytes.
    pub(crate) peak: u64,
}

/// The first argument that makes this program the parent of a measured command.
pub(crate) const FLAG: &str = "--launch";

/// Runs a command to its end, which must be a good one, and measures it.
pub(crate) fn measure(command: &mut Command, place: &Path) -> Result<Sample> {
    let (log, result) = (place.join("log"), place.join("sample"));
    let mut launcher = Command::new(std::env::current_exe()?);
    launcher.arg(FLAG).arg(&result).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        launcher.current_dir(directory);
    }
    let out = File::create(&log)?;
    launcher.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let status = launcher.status()?;
    if !status.success() {
        return Err(format!("{command:?}: {status}\n{}", fs::read_to_string(&log)?).into());
    }
    let text = fs::read_to_string(&result)?;
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    let [wall, cpu, peak] = numbers[..] else { return Err(format!("a sample of {text:?}").into()) };
    Ok(Sample { wall: Duration::from_nanos(wall), cpu: Duration::from_micros(cpu), peak })
}

/// What this program does when it is such a parent: gives the code to exit with.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> Result<i32> {
    let result = arguments.next().ok_or("no file for the result")?;
    let program = arguments.next().ok_or("no program")?;
    launch(&result, &program, arguments)
}

fn launch(result: &OsStr, program: &OsStr, arguments: impl Iterator<Item = OsString>) -> Result<i32> {
    // Whoever loses its parent becomes a child of this process, and is counted.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    let start = Instant::now();
    let status = command.status().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let wall = start.elapsed();
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    // The kernel counts it in KiB.
    fs::write(result, format!("{} {cpu} {}\n", wall.as_nanos(), usage.max_rss() * 1024))?;
    Ok(status.code().unwrap_or(1))
}
