//! A docker daemon in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

use super::emptied;
use crate::Result;
use crate::corpus::succeed;
use crate::launcher::{Sample, measure};
use crate::machine::path_of;

/// Stopped before its directory goes.
pub(super) struct Daemon {
    place: PathBuf,
    driver: &'static str,
    process: Child,
}

impl Daemon {
    /// Starts it, with the storage that people use where it works.
    pub(super) fn new(place: &Path) -> Result<Daemon> {
        Daemon::start(place, "overlay2").or_else(|_| Daemon::start(place, "vfs"))
    }

    fn start(place: &Path, driver: &'static str) -> Result<Daemon> {
        let place = emptied(place.to_owned())?;
        fs::write(place.join("none.json"), "{}")?;
        let log = fs::File::create(place.join("daemon.log"))?;
        // What runs containers leaves the daemon, and is counted all the same when it comes here.
        set_child_subreaper(Some(getpid()))?;
        // The kernel ends it when this process is killed and cannot do so itself.
        let mut daemon = Command::new(path_of("setpriv").ok_or("setpriv is not here")?);
        daemon.args(["--pdeathsig", "TERM", "--"]).arg(path_of("dockerd").ok_or("dockerd is not here")?);
        daemon.arg("--data-root").arg(place.join("root"));
        daemon.arg("--exec-root").arg(place.join("exec"));
        daemon.arg("--pidfile").arg(place.join("pid"));
        daemon.arg("--host").arg(format!("unix://{}/socket", place.display()));
        daemon
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg("--storage-driver")
            .arg(driver);
        daemon.arg("--containerd=").arg("--config-file").arg(place.join("none.json"));
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut docker = Daemon { process: daemon.spawn()?, place, driver };
        let end = Instant::now() + Duration::from_secs(60);
        while succeed(docker.client().arg("version")).is_err() {
            if docker.process.try_wait()?.is_some() || Instant::now() > end {
                let said = fs::read_to_string(docker.place.join("daemon.log")).unwrap_or_default();
                return Err(format!("dockerd is not ready:\n{said}").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(docker)
    }

    /// Its directory.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// How it stores layers.
    pub(super) fn driver(&self) -> &'static str {
        self.driver
    }

    /// A command for it, without the subcommand.
    pub(super) fn client(&self) -> Command {
        let mut client = Command::new("docker");
        client.env("DOCKER_BUILDKIT", "0");
        client.arg("--host").arg(format!("unix://{}/socket", self.place.display()));
        client
    }

    /// The same for a script.
    pub(super) fn shell(&self) -> String {
        format!("DOCKER_BUILDKIT=0 docker --host unix://{}/socket", self.place.display())
    }

    /// Measures a command with what the daemon does meanwhile, what runs in its containers included.
    pub(super) fn measure(&self, command: &mut Command) -> Result<Sample> {
        for pid in Daemon::processes() {
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        let before = Daemon::cpu();
        let done = AtomicBool::new(false);
        let (sample, peak) = thread::scope(|scope| {
            let watch = scope.spawn(|| Daemon::watch(&done));
            let sample = measure(command, &self.place);
            done.store(true, Ordering::Relaxed);
            (sample, watch.join().unwrap_or_default())
        });
        let mut sample = sample?;
        sample.cpu += Daemon::cpu().saturating_sub(before);
        sample.peak = sample.peak.max(peak);
        Ok(sample)
    }

    /// All processes below this one: the daemon and what it started. What has ended stays, and what it took is known.
    fn processes() -> Vec<u32> {
        let mut all = vec![std::process::id()];
        let mut at = 0;
        while let Some(pid) = all.get(at).copied() {
            at += 1;
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        all.split_off(1)
    }

    /// What they have taken so far, and what those have that they waited for.
    fn cpu() -> Duration {
        // utime, stime, cutime, cstime of proc_pid_stat(5), in hundredths of a second.
        let ticks = |pid: &u32| -> u64 {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
            fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
        };
        Duration::from_millis(10 * Daemon::processes().iter().map(ticks).sum::<u64>())
    }

    /// The most memory that one of them had since it was last forgotten. Those of containers end before they can be
    /// asked, so all are asked every now and then.
    fn watch(done: &AtomicBool) -> u64 {
        let mut most = 0;
        loop {
            let last = done.load(Ordering::Relaxed);
            most = most.max(Daemon::peak());
            if last {
                return most;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn peak() -> u64 {
        let peak = |pid: &u32| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        1024 * Daemon::processes().iter().map(peak).max().unwrap_or(0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.process.id().cast_signed()) {
            // Asked first, so that it stops what it started itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
