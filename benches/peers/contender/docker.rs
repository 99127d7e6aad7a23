//! `docker build` and `docker save`, with a daemon of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Contender, Situation, emptied, script};
use crate::Result;
use crate::corpus::{Tree, succeed};
use crate::launcher::{Sample, measure};
use crate::machine::path_of;

/// The classic builder, which finds out itself what has changed; `save` writes an archive without compression.
pub(crate) struct Docker {
    place: PathBuf,
    driver: &'static str,
    // Stopped before its directory goes.
    daemon: Child,
}

const NAME: &str = "registry.example/bench:1";

impl Docker {
    /// Starts a daemon in a directory of its own, with the storage that people use where it works.
    pub(crate) fn new(place: PathBuf) -> Result<Docker> {
        Docker::start(&place, "overlay2").or_else(|_| Docker::start(&place, "vfs"))
    }

    fn start(place: &Path, driver: &'static str) -> Result<Docker> {
        let place = emptied(place.to_owned())?;
        fs::write(place.join("none.json"), "{}")?;
        let log = fs::File::create(place.join("daemon.log"))?;
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
        let mut docker = Docker { daemon: daemon.spawn()?, place, driver };
        let end = Instant::now() + Duration::from_secs(60);
        while succeed(docker.client().arg("version")).is_err() {
            if docker.daemon.try_wait()?.is_some() || Instant::now() > end {
                let said = fs::read_to_string(docker.place.join("daemon.log")).unwrap_or_default();
                return Err(format!("dockerd is not ready:\n{said}").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(docker)
    }

    fn client(&self) -> Command {
        let mut client = Command::new("docker");
        client.arg("--host").arg(format!("unix://{}/socket", self.place.display()));
        client
    }

    /// The daemon and what it started.
    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.daemon.id()];
        let mut at = 0;
        while let Some(pid) = all.get(at).copied() {
            at += 1;
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        all
    }

    /// What they have taken so far, and what those have that they waited for.
    fn cpu(&self) -> Duration {
        // utime, stime, cutime, cstime of proc_pid_stat(5), in hundredths of a second.
        let ticks = |pid: &u32| -> u64 {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
            fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
        };
        Duration::from_millis(10 * self.processes().iter().map(ticks).sum::<u64>())
    }

    /// The most memory that one of them had since it was last forgotten.
    fn peak(&self) -> u64 {
        let peak = |pid: &u32| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        1024 * self.processes().iter().map(peak).max().unwrap_or(0)
    }

    fn forget_peak(&self) -> Result<()> {
        for pid in self.processes() {
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(())
    }
}

impl Contender for Docker {
    fn name(&self) -> String {
        format!("docker build + save ({})", self.driver)
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        let no_cache = match situation {
            Situation::Cold => {
                succeed(self.client().args(["image", "prune", "--all", "--force"]))?;
                let _ = fs::remove_file(self.place.join("image.tar"));
                "--no-cache "
            }
            _ => "",
        };
        let place = self.place.display();
        let docker = format!("docker --host unix://{place}/socket");
        let text = format!(
            "DOCKER_BUILDKIT=0 {docker} build --quiet {no_cache}--tag {NAME} .\n\
             {docker} save --output {place}/image.tar {NAME}\n"
        );
        self.forget_peak()?;
        let before = self.cpu();
        let mut sample = measure(&mut script(&text, tree), &self.place)?;
        sample.cpu += self.cpu().saturating_sub(before);
        sample.peak = sample.peak.max(self.peak());
        Ok(sample)
    }

    fn size(&self) -> Result<u64> {
        Ok(fs::metadata(self.place.join("image.tar"))?.len())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id().cast_signed()) {
            // Asked first, so that it stops what it started itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.daemon.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
