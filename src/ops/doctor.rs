//! What the machine has, and what is missing.

use std::fs;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dmoci_layers::RULES;
use serde_json::{Value, json};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its stable name, the key in JSON.
    pub name: &'static str,
    /// What was found, for people.
    pub shown: String,
    /// What was found, for programs.
    pub json: Value,
    /// What to do about it, when there is something to do.
    pub fix: Option<String>,
    /// dmoci cannot build before that is done.
    pub broken: bool,
}

/// Programs that load or carry images, and how each says its version.
const PROGRAMS: &[&str] = &["docker", "podman", "ctr", "nerdctl", "skopeo", "buildah", "umoci"];

/// Looks at the machine, and at the directory `output` that images are to be written to.
///
/// Runs git and the programs that load images, to ask for their versions; changes nothing.
pub fn look(output: &Path) -> Vec<Fact> {
    let mut facts = vec![version(), cores(), sha256(), directory(output), git(), user_namespaces()];
    facts.extend(programs());
    facts
}

fn fact(name: &'static str, shown: impl Into<String>, json: Value) -> Fact {
    Fact { name, shown: shown.into(), json, fix: None, broken: false }
}

fn version() -> Fact {
    let version = env!("CARGO_PKG_VERSION");
    fact("dmoci", format!("{version}, rules {RULES}"), json!({ "version": version, "rules": RULES }))
}

fn cores() -> Fact {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    fact("cores", cores.to_string(), json!(cores))
}

fn sha256() -> Fact {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let fast = std::arch::is_x86_feature_detected!("sha");
    #[cfg(target_arch = "aarch64")]
    let fast = std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let fast = false;
    let shown = if fast { "by the processor's own instructions" } else { "in software: digests are slower" };
    fact("sha256", shown, json!({ "accelerated": fast }))
}

/// Whether a file can be made where images go, and how much room there is.
fn directory(output: &Path) -> Fact {
    let shown = output.display();
    // What is not there yet will be made in the first directory above it that is.
    let absolute = std::path::absolute(output).unwrap_or_else(|_| output.to_owned());
    let existing =
        absolute.ancestors().find(|path| path.exists()).map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let writable = tempfile::tempfile_in(&existing);
    let free = rustix::fs::statvfs(&existing).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let room = free.map_or(String::new(), |bytes| format!(", {} MiB free", bytes >> 20));
    let json = json!({ "path": output.to_string_lossy(), "writable": writable.is_ok(), "free_bytes": free });
    match writable {
        Ok(_) => Fact {
            fix: free
                .filter(|bytes| *bytes < 1 << 30)
                .map(|_| format!("make room in {}", existing.display())),
            ..fact("output", format!("{shown} can be written{room}"), json)
        },
        Err(error) => Fact {
            fix: Some(format!(
                "make {} writable for this user, or choose another with -o",
                existing.display()
            )),
            broken: true,
            ..fact("output", format!("{shown} cannot be written: {error}"), json)
        },
    }
}

fn git() -> Fact {
    let found = ask("git", &["--version"]);
    let json = json!({ "version": found });
    match found {
        Some(line) => fact("git", line, json),
        None => Fact {
            fix: Some(
                "install git, or give `dmoci build` --revision and --epoch: it asks git for these".to_owned(),
            ),
            ..fact("git", "not found", json)
        },
    }
}

/// Whether ordinary users may make user namespaces. dmoci builds without; tools that run images need them.
fn user_namespaces() -> Fact {
    let setting = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let root = rustix::process::geteuid().is_root();
    let refused = if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
        Some("user.max_user_namespaces is 0")
    } else if !root && setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        Some("kernel.unprivileged_userns_clone is 0")
    } else if !root && setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        Some("kernel.apparmor_restrict_unprivileged_userns is 1")
    } else if !Path::new("/proc/self/ns/user").exists() {
        Some("the kernel has none")
    } else {
        None
    };
    let json = json!({ "allowed": refused.is_none(), "why": refused });
    match refused {
        None => fact("user_namespaces", "no setting forbids them", json),
        Some(why) => Fact {
            fix: Some(
                "dmoci builds without them; to run images without root, change that setting with sysctl"
                    .to_owned(),
            ),
            ..fact("user_namespaces", format!("not allowed: {why}"), json)
        },
    }
}

fn programs() -> Vec<Fact> {
    let ask = |name: &'static str| {
        let found = ask(name, &["--version"]);
        let json = json!({ "version": found });
        fact(name, found.unwrap_or_else(|| "not found".to_owned()), json)
    };
    let mut all: Vec<Fact> = PROGRAMS.iter().map(|name| ask(name)).collect();
    if all.iter().all(|fact| fact.json["version"].is_null())
        && let Some(last) = all.last_mut()
    {
        last.fix = Some(
            "to run images, install one of docker, podman or containerd; dmoci needs none of them".to_owned(),
        );
    }
    all
}

/// The first line that a program of the PATH prints, when it does so within five seconds.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    // A line fits into the pipe, so the program can end before anyone reads.
    for _ in 0..100 {
        match child.try_wait() {
            Ok(Some(status)) => {
                let mut bytes = Vec::new();
                stdout.take(4096).read_to_end(&mut bytes).ok()?;
                let text = String::from_utf8_lossy(&bytes);
                let line = text.lines().next().unwrap_or_default().trim();
                return (status.success() && !line.is_empty()).then(|| line.to_owned());
            }
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_answer_and_programs_that_do_not() {
        assert_eq!(ask("echo", &["one"]).as_deref(), Some("one"));
        assert_eq!(ask("false", &[]), None);
        assert_eq!(ask("true", &[]), None);
        assert_eq!(ask("no-such-program-anywhere", &[]), None);
    }

    #[test]
    fn directories_that_are_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let there = directory(&dir.path().join("a/b"));
        assert!(
            !there.broken && there.json["writable"] == true && there.json["free_bytes"].is_u64(),
            "{there:?}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        let not = directory(Path::new("/proc/dist"));
        assert!(not.broken && not.fix.is_some() && not.json["writable"] == false, "{not:?}");
    }
}
