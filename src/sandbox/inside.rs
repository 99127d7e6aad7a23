//! In the namespaces that `unshare` made: mounts, and no way back.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::process::{Signal, kill_current_process_group};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, remove_capability_from_bounding_set, set_capabilities_secure_bits,
    set_no_new_privs,
};

use super::line::{hung_up, keep};
use super::{ENTER, PLACE, Sockets, Task, sockets};

/// What the process ends with when that cannot be.
pub const BROKEN: i32 = 125;

/// The most that the list of mounts may have: 16 MiB.
const MOUNTS: u64 = 16 << 20;

/// The most that the counters of a protocol may have: 1 MiB.
const COUNTERS: u64 = 1 << 20;

/// Does what the variable says; gives what to end with.
pub fn enter(task: Task, program: &OsString, arguments: &[OsString]) -> io::Result<i32> {
    match task {
        Task::Cell(sockets) => cell(sockets, program, arguments),
        Task::Guard(sockets) => guard(sockets, program, arguments),
        Task::Keep => {
            keep(Path::new(program));
            Ok(0)
        }
    }
}

/// Runs a program to its end, or to that of whoever holds the line; nothing then.
///
/// Standard input is the line: no program has it.
fn tied(sockets: Sockets, program: &OsString, arguments: &[OsString]) -> io::Result<Option<i32>> {
    // Also for this process, so that a program that gets hold of it has no more than its own.
    if sockets == Sockets::Refused {
        sockets::refuse()?;
    }
    let mut command = Command::new(program);
    let mut child = command.args(arguments).env_remove(ENTER).stdin(Stdio::null()).spawn()?;
    let (heard, hearing) = mpsc::channel();
    let over = heard.clone();
    thread::Builder::new().spawn(move || {
        hung_up();
        over.send(None)
    })?;
    thread::Builder::new().spawn(move || heard.send(Some(child.wait())))?;
    match hearing.recv() {
        Ok(Some(status)) => {
            let status = status?;
            Ok(Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
        }
        _ => Ok(None),
    }
}

/// Runs a program with nothing around it but the filter of [`sockets`], and ends it and what it started with whoever holds the line: as
/// far as these stayed in the group of processes that this one is the first of.
fn guard(sockets: Sockets, program: &OsString, arguments: &[OsString]) -> io::Result<i32> {
    match tied(sockets, program, arguments)? {
        Some(code) => Ok(code),
        None => {
            kill_current_process_group(Signal::KILL)?;
            Ok(BROKEN)
        }
    }
}

/// Makes everything read-only but the current directory, which becomes [`PLACE`], and runs another program there; gives what to end
/// with: what that ended with, or 128 and the number of the signal.
///
/// Standard input is a line to the caller, which gets the number of attempts to reach a network: there is none, and the
/// kernel counts them.
///
/// This process stays the first one of its namespace: the first one is spared by signals, which no program expects. When it ends,
/// all others there do.
fn cell(sockets: Sockets, program: &OsString, arguments: &[OsString]) -> io::Result<i32> {
    let about = |what: &str| {
        let what = what.to_owned();
        move |error: Errno| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("{what}: {error}"))
        }
    };
    let quiet = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", quiet).map_err(about("mounts cannot be made private"))?;
    // The current directory is known by itself, whatever is put over the path to it.
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    let all = c"mode=1777,size=64m";
    mount("tmpfs", "/tmp", "tmpfs", plain, Some(all)).map_err(about("/tmp cannot be made anew"))?;
    fs::create_dir(PLACE)?;
    mount_bind(".", PLACE).map_err(about("the directory cannot be mounted"))?;
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        mount("tmpfs", shared, "tmpfs", plain, Some(all)).map_err(about("/dev/shm cannot be made anew"))?;
    }
    let kept = [Path::new("/tmp"), Path::new(PLACE), shared];
    for (path, flags) in mounts()?.into_iter().filter(|(path, _)| !kept.contains(&path.as_path())) {
        match mount_remount(&path, MountFlags::BIND | MountFlags::RDONLY | flags, c"") {
            Ok(()) => {}
            // Nobody can get there: something else lies over it, or it is behind what may not be read.
            Err(Errno::NOENT | Errno::ACCESS | Errno::INVAL | Errno::NOTDIR) => {}
            Err(error) => return Err(about(&format!("{} cannot be made read-only", path.display()))(error)),
        }
    }
    rustix::process::chdir(PLACE)?;
    powerless()?;
    let before = attempts()?;
    // With this process all others of the namespace end.
    let Some(code) = tied(sockets, program, arguments)? else { return Ok(BROKEN) };
    let attempts = attempts()?.saturating_sub(before);
    rustix::io::write(rustix::stdio::stdin(), attempts.to_string().as_bytes())?;
    Ok(code)
}

/// Gives up all that the first user of a user namespace may do, also for programs to come.
fn powerless() -> io::Result<()> {
    set_no_new_privs(true)?;
    let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
    set_capabilities_secure_bits(bits)?;
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// How many times something in this network namespace was to be sent for which the kernel knew no way.
fn attempts() -> io::Result<u64> {
    let read = |path: &str| {
        let mut text = String::new();
        match fs::File::open(path).and_then(|file| file.take(COUNTERS).read_to_string(&mut text)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // A kernel without that protocol.
            _ => Ok(text),
        }
    };
    Ok(unreachable(&read("/proc/self/net/snmp")?, &read("/proc/self/net/snmp6")?))
}

/// The counters of `snmp`, a line of names and one of values for each protocol, and of `snmp6`, with a line for each.
fn unreachable(four: &str, six: &str) -> u64 {
    let mut lines = four.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let four = pairs.find(|(name, _)| *name == "OutNoRoutes").map(|(_, value)| value);
    let six = six.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes"));
    [four, six].into_iter().flatten().filter_map(|value| value.trim().parse::<u64>().ok()).sum()
}

/// The places of all mounts, with the flags that must stay.
fn mounts() -> io::Result<Vec<(PathBuf, MountFlags)>> {
    let mut text = Vec::new();
    fs::File::open("/proc/self/mountinfo")?.take(MOUNTS).read_to_end(&mut text)?;
    let line = |line: &[u8]| {
        let mut fields = line.split(|&b| b == b' ');
        let path = PathBuf::from(OsString::from_vec(unescaped(fields.nth(4)?)));
        let mut flags = MountFlags::empty();
        for option in fields.next()?.split(|&b| b == b',') {
            flags |= match option {
                b"nosuid" => MountFlags::NOSUID,
                b"nodev" => MountFlags::NODEV,
                b"noexec" => MountFlags::NOEXEC,
                b"noatime" => MountFlags::NOATIME,
                b"nodiratime" => MountFlags::NODIRATIME,
                b"relatime" => MountFlags::RELATIME,
                _ => MountFlags::empty(),
            };
        }
        Some((path, flags))
    };
    Ok(text.split(|&b| b == b'\n').filter_map(line).collect())
}

/// A path of mountinfo, where spaces and their like are octal numbers.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 4).filter(|_| text[at] == b'\\');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 4 } else { 1 };
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached() {
        let four = "Ip: Forwarding OutDiscards OutNoRoutes\nIp: 2 7 3\nIcmp: OutNoRoutes\nIcmp: 9\n";
        let six = "Ip6OutDiscards                  \t7\nIp6OutNoRoutes                  \t4\n";
        assert_eq!((unreachable(four, six), unreachable(four, ""), unreachable("Ip: x", "y")), (7, 3, 0));
        assert!(attempts().is_ok());
    }

    #[test]
    fn paths_of_mountinfo() {
        assert_eq!(unescaped(br"/a\040b\134c\0"), br"/a b\c\0");
        assert!(mounts().unwrap().iter().any(|(path, _)| path == Path::new("/")));
    }
}
