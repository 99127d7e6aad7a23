//! Faults at an exact place: strace ends the program, or fails a system call, at its N-th call of one kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{command, path_of, run, said};

/// What it needs.
pub(crate) const PEERS: &[&str] = &["strace"];

/// The system calls that change a file system or bytes in a file.
const CHANGES: &[&str] = &[
    "write",
    "writev",
    "pwrite64",
    "copy_file_range",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "syncfs",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "unlink",
    "unlinkat",
    "rmdir",
    "fchmod",
    "chmod",
    "fchmodat",
    "openat",
    "flock",
    "close",
];

/// One place where a fault happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) call: &'static str,
    pub(crate) when: usize,
}

/// Places spread over all the calls that a sound run makes, at most so many of each kind; the first and the last always.
pub(crate) fn places(
    traced: &mut Command,
    scratch: &Path,
    calls: Option<&[&'static str]>,
    most: usize,
) -> Vec<At> {
    // strace counts in each thread for itself: the busiest one tells how far `when` may go.
    let mut of_thread: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
    let log = scratch.join("counted");
    run(&mut strace(traced, &log, &[format!("trace={}", CHANGES.join(","))]));
    for line in fs::read_to_string(log).unwrap().lines() {
        // `PID call(…`, and no resumed or ended lines.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        if let Some(call) = CHANGES.iter().find(|call| **call == name) {
            *of_thread.entry((call, thread.to_owned())).or_default() += 1;
        }
    }
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for ((call, _), count) in of_thread {
        let most = counts.entry(call).or_default();
        *most = count.max(*most);
    }
    counts.retain(|call, _| calls.is_none_or(|calls| calls.contains(call)));
    let mut places = Vec::new();
    for (call, count) in counts {
        let steps = count.min(most);
        for step in 0..steps {
            let when = if steps == 1 { 1 } else { 1 + step * (count - 1) / (steps - 1) };
            places.push(At { call, when });
        }
    }
    places
}

/// How a run with a fault ended.
pub(crate) struct Faulted {
    pub(crate) code: Option<i32>,
    pub(crate) err: String,
    /// The files that the failed calls were about, one in each thread and process; an empty path where it was no file.
    pub(crate) files: Vec<PathBuf>,
}

/// Runs a command with a fault: `signal=KILL` or `error=ENOSPC`.
pub(crate) fn with(traced: &mut Command, scratch: &Path, at: At, fault: &str) -> Faulted {
    let log = scratch.join("injected");
    let _ = fs::remove_file(&log);
    let At { call, when } = at;
    let expressions = [format!("trace={call}"), format!("inject={call}:{fault}:when={when}")];
    let said = said(&mut strace(traced, &log, &expressions));
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    let file = |line: &str| {
        let name = line.split('<').nth(1).and_then(|rest| rest.split('>').next());
        let name = name.filter(|name| name.starts_with('/')).unwrap_or_default();
        PathBuf::from(name.trim_end_matches("(deleted)"))
    };
    let files = text.lines().filter(|line| line.contains("(INJECTED)")).map(file).collect();
    Faulted { code: said.code, err: said.err, files }
}

/// A command, traced into `log`.
pub(crate) fn strace(traced: &Command, log: &Path, expressions: &[String]) -> Command {
    // Found before the path of the traced program counts.
    let mut strace = command(path_of("strace").unwrap());
    strace.args(["--follow-forks", "--decode-fds=path", "--quiet=all"]);
    strace.arg("--output").arg(log);
    for expression in expressions {
        strace.arg("-e").arg(expression);
    }
    strace.arg("--").arg(traced.get_program()).args(traced.get_args());
    for (name, value) in traced.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(folder) = traced.get_current_dir() {
        strace.current_dir(folder);
    }
    strace
}
