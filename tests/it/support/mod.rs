//! A project in a temporary directory, and the program run in it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use it")]
#![allow(dead_code, reason = "each module of tests uses a part")]

#[path = "../../../src/inputs/python/elf_sample.rs"]
pub(crate) mod elf;
pub(crate) mod layers;
pub(crate) mod registry;
pub(crate) mod server;
pub(crate) mod wheel;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A temporary directory that is the project directory; gone when dropped.
pub(crate) struct Project {
    dir: tempfile::TempDir,
    /// What builds of the project remember.
    cache: tempfile::TempDir,
}

impl Project {
    /// An empty project.
    pub(crate) fn new() -> Project {
        Project { dir: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    /// A project with this `dmoci.toml`.
    pub(crate) fn with_spec(text: &str) -> Project {
        Project::new().file("dmoci.toml", text)
    }

    /// Adds or replaces a file; its directories are made.
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Project {
        self.write(path, content);
        self
    }

    /// Adds or replaces a file; its directories are made.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Where the project is.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the project.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The directory that stands for the user's cache directory.
    pub(crate) fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// Waits until what was written is older than anything that is written next.
    pub(crate) fn settle(&self) {
        let changed = |file: &fs::File| {
            use std::os::unix::fs::MetadataExt as _;
            let metadata = file.metadata().unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        };
        let now = || changed(&tempfile::tempfile_in(self.root()).unwrap());
        let then = now();
        while now() == then {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Runs git in the project directory, apart from the caller's settings.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@registry.example",
            "-c",
            "protocol.file.allow=always",
        ]);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        Run::of(command.args(arguments).current_dir(self.root())).ok()
    }

    /// Runs `dmoci` in the project directory, with a cache of its own.
    #[track_caller]
    pub(crate) fn dmoci<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Run {
        Run::of(dmoci().args(arguments).current_dir(self.root()).env("XDG_CACHE_HOME", self.cache()))
    }
}

/// The program, without the colours, settings and caches of the caller's environment.
pub(crate) fn dmoci() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmoci"));
    for name in [
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "SOURCE_DATE_EPOCH",
        "XDG_CACHE_HOME",
        "HOME",
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
    ] {
        command.env_remove(name);
    }
    // Indexes that this machine is set up with.
    for name in [
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "VIRTUAL_ENV",
    ] {
        command.env_remove(name);
    }
    command.env("PIP_CONFIG_FILE", "/dev/null").env("UV_CONFIG_FILE", "/dev/null");
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code.
    pub(crate) exit: i32,
    /// What was written to standard output.
    pub(crate) stdout: String,
    /// What was written to standard error.
    pub(crate) stderr: String,
}

impl Run {
    /// Runs a command to its end; a signal or output that is not UTF-8 fails the test.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Run {
        let output = command.output().unwrap();
        Run {
            exit: output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", output.status)),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails the test unless the run ended with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        self.exits(0)
    }

    /// Fails the test unless the run ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, exit: i32) -> Run {
        assert_eq!(self.exit, exit, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Fails the test unless the committed file has this content. With `DMOCI_BLESS=1` in the environment the file is
/// written instead.
#[track_caller]
pub(crate) fn committed(path: &str, content: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("DMOCI_BLESS").is_some() {
        fs::write(&file, content).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(expected, content, "{path} is not what there is now; DMOCI_BLESS=1 writes it anew");
}
