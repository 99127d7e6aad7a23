//! What the tests stand on: which peers are here, where to work, how to run and how to stop.

pub(crate) mod containerd;
pub(crate) mod debian;
pub(crate) mod disorder;
pub(crate) mod docker;
pub(crate) mod fault;
pub(crate) mod podman;
pub(crate) mod project;
#[path = "../../it/support/wheel.rs"]
pub(crate) mod wheel;

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

/// True when the test may go on: every peer is on the path.
///
/// `root` stands for the right to mount and to start containers, `amd64` for a machine that runs its programs.
#[track_caller]
pub(crate) fn have(peers: &[&str]) -> bool {
    let missing: Vec<&str> = peers.iter().copied().filter(|peer| !is_here(peer)).collect();
    if missing.is_empty() {
        return true;
    }
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let reason = format!("{test} needs what is not here: {}", missing.join(", "));
    assert!(env::var_os("DMOCI_REQUIRE_PEERS").is_none(), "{reason}");
    // Not captured, unlike `eprintln!`: a skip must be seen.
    io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).unwrap();
    false
}

/// True when what takes minutes is to be run: with `DMOCI_HEAVY=1`, as `.ci/full` does.
pub(crate) fn heavy() -> bool {
    let heavy = env::var_os("DMOCI_HEAVY").is_some();
    if !heavy {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let line = format!("skipped: {test} takes minutes; DMOCI_HEAVY=1 runs it\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
    }
    heavy
}

fn is_here(peer: &str) -> bool {
    match peer {
        "root" => rustix::process::getuid().is_root(),
        "amd64" => cfg!(target_arch = "x86_64"),
        _ => path_of(peer).is_some(),
    }
}

/// The storage drivers that a loader is tried with: the plain one, and that of the kernel's overlay file system where it
/// can be mounted.
pub(crate) fn drivers(plain: &'static str, overlay: &'static str) -> Vec<&'static str> {
    let place = Place::new();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let paths = ["lower", "upper", "work"].map(|name| format!("{name}dir={}", place.path(name).display()));
    let merged = place.path("merged");
    let mounted =
        said(command("mount").args(["-t", "overlay", "overlay", "-o", &paths.join(",")]).arg(&merged));
    if mounted.code == Some(0) {
        run(command("umount").arg(&merged));
        return vec![plain, overlay];
    }
    io::stderr().write_all(b"skipped: no overlay file system can be mounted\n").unwrap();
    vec![plain]
}

/// Where a program is; system folders are searched too, which an ordinary user's path lacks.
pub(crate) fn path_of(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/bin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// A directory of the test's own that everybody can enter; gone when dropped.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("dmoci-interop-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Place(dir)
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program under test, copied to where an ordinary user can run it.
    pub(crate) fn program(&self) -> PathBuf {
        let copy = self.path("dmoci");
        if !copy.exists() {
            fs::copy(env!("CARGO_BIN_EXE_dmoci"), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        }
        copy
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        self.0.path()
    }
}

/// A command with no standard input, apart from the caller's settings that change how peers behave.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for name in
        ["SOURCE_DATE_EPOCH", "DOCKER_HOST", "CONTAINER_HOST", "DOCKER_CONTEXT", "NO_COLOR", "CLICOLOR_FORCE"]
    {
        command.env_remove(name);
    }
    command
}

/// A service, which the kernel ends when this process is killed and cannot do so itself.
pub(crate) fn service(program: impl AsRef<OsStr>) -> Command {
    let mut service = command(path_of("setpriv").unwrap());
    service.args(["--pdeathsig", "TERM", "--"]).arg(program);
    service
}

/// The program under test, without a cache: what it makes is made anew.
pub(crate) fn dmoci() -> Command {
    let mut dmoci = command(env!("CARGO_BIN_EXE_dmoci"));
    dmoci.env_remove("XDG_CACHE_HOME").env_remove("HOME");
    dmoci
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, however it ends.
#[track_caller]
pub(crate) fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    Said {
        code: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs a command that must end with 0, and gives its standard output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    exits(command, 0).out
}

/// Runs a command that must end with this code.
#[track_caller]
pub(crate) fn exits(command: &mut Command, code: i32) -> Said {
    let said = said(command);
    assert_eq!(said.code, Some(code), "{command:?}\nstdout:\n{}\nstderr:\n{}", said.out, said.err);
    said
}

/// A process that is stopped, by its id and with what it started, when dropped.
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts a service and waits until `ready` says so, at most for a minute.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, log: &Path, mut ready: impl FnMut() -> bool) -> Guard {
        let log_file = fs::File::create(log).unwrap();
        command.stdout(log_file.try_clone().unwrap()).stderr(log_file);
        let mut guard = Guard(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let over = guard.0.try_wait().unwrap();
            if over.is_none() && ready() {
                return guard;
            }
            if over.is_some() || Instant::now() > end {
                panic!("{command:?} is not ready:\n{}", fs::read_to_string(log).unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            // Asked first, so that it stops what it started itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
