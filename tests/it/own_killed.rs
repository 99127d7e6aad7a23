//! A build that is ended while the backend runs, by whatever signal: nothing of it runs on, and nothing is left.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::own_wheel::{edit, project};
use crate::support::{Project, dmoci};

/// How long something may take that takes a moment.
const LONG: Duration = Duration::from_secs(60);

/// Waits until this is so.
#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that have this among their arguments.
fn running(mark: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    let commands = commands.filter_map(|path| fs::read(path).ok());
    let commands = commands.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    commands.filter(|command| command.contains(mark)).collect()
}

struct Bench {
    project: Project,
    /// Where what is unfinished lies.
    scratch: PathBuf,
    /// What the backend's own child is called with.
    mark: String,
}

impl Bench {
    fn new(project: Project, name: &str) -> Bench {
        let mark = format!("98765.{}{name}", std::process::id());
        edit(&project, "tools/backend.py", "import base64\n", "import base64\nimport subprocess\n");
        let sleeps = format!("    subprocess.run([\"sleep\", \"{mark}\"])\n    record = \"\"");
        edit(&project, "tools/backend.py", "    record = \"\"", &sleeps);
        let scratch = project.path("../").canonicalize().unwrap();
        let scratch = scratch.join(format!("dmoci-killed-{mark}"));
        fs::create_dir(&scratch).unwrap();
        Bench { project, scratch, mark }
    }

    fn start(&self, path: Option<&Path>, python: &Path, arguments: &[&str]) -> Child {
        let mut build = dmoci();
        build.args(arguments).arg("--python").arg(python).current_dir(self.project.root());
        build.env("XDG_CACHE_HOME", self.project.cache()).env("TMPDIR", &self.scratch);
        if let Some(path) = path {
            build.env("PATH", path);
        }
        build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = build.spawn().unwrap();
        until("the backend does not run", || !running(&self.mark).is_empty());
        child
    }

    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.scratch).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// The interpreter itself, not what finds it.
fn interpreter() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

#[test]
fn with_the_build_the_backend_ends() {
    let Some(project) = project() else { return };
    let bench = Bench::new(project, "1");
    let python = interpreter();
    // Without `unshare` nothing keeps the backend in, and it must end all the same.
    let bare = bench.project.path("bin");
    fs::create_dir(&bare).unwrap();
    for name in ["env", "sleep"] {
        symlink(Path::new("/usr/bin").join(name), bare.join(name)).unwrap();
    }
    for path in [None, Some(bare.as_path())] {
        for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
            for arguments in [&["build"][..], &["wheel"], &["build", "--twice"]] {
                let mut child = bench.start(path, &python, arguments);
                assert!(!bench.left().is_empty());
                kill_process(Pid::from_child(&child), signal).unwrap();
                let status = child.wait().unwrap();
                let about = format!("{arguments:?} {signal:?} {path:?}");
                assert_eq!(
                    std::os::unix::process::ExitStatusExt::signal(&status),
                    Some(signal.as_raw()),
                    "{about}"
                );
                until(&format!("{about}: {:?}", running(&bench.mark)), || running(&bench.mark).is_empty());
                until(&format!("{about}: {:?}", bench.left()), || bench.left().is_empty());
                assert!(!bench.project.path("dist").exists(), "{about}");
            }
        }
    }
    // All processes that watched over it are gone, too.
    let scratch = bench.scratch.to_str().unwrap();
    until("something still watches", || running(scratch).is_empty());
}
