//! What the machine has, and what is missing.

use std::fs;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dmoci_layers::RULES;
use serde_json::{Value, json};

use crate::cache::{Cache, Downloads, Usage};
use crate::limits;

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

/// Programs that load or carry images, and how each is got. dmoci needs none of them.
const PROGRAMS: &[(&str, &str)] = &[
    ("docker", "to load and run images with docker, install Docker (Debian: docker.io)"),
    ("podman", "to load and run images without a daemon, install podman"),
    ("ctr", "to load and run images with containerd, install it (Debian: containerd)"),
    ("nerdctl", "to use containerd as one uses docker, install nerdctl"),
    ("skopeo", "to copy images to and from registries, install skopeo"),
    ("buildah", "to change images by commands run in them, install buildah"),
    ("umoci", "to unpack images into directories, install umoci"),
];

/// Looks at the machine, at the directory `output` that images are to be written to, and at the cache below the directory
/// `cache`.
///
/// Runs git and the programs that load images, to ask for their versions; changes nothing but that it makes the cache.
pub fn look(output: &Path, cache: Option<&Path>) -> Vec<Fact> {
    let mut facts = vec![version(), cores(), sha256(), directory(output), self::cache(cache)];
    facts.extend([git(), user_namespaces()]);
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
    let shown = match fast {
        true => "the processor has instructions for it",
        false => "the processor has no instructions for it: digests are slower",
    };
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

/// Where the cache is and what it takes. Builds do without one, more slowly.
fn cache(root: Option<&Path>) -> Fact {
    let without = |shown: String, json: Value, fix: &str| Fact {
        fix: Some(format!("{fix}, or every build makes everything anew")),
        ..fact("cache", shown, json)
    };
    let Some(root) = root else {
        let json = json!({ "path": null, "usable": false });
        return without("none".into(), json, "set HOME or XDG_CACHE_HOME to an absolute path");
    };
    let path = root.display();
    match Cache::open(root) {
        Ok(cache) => {
            let Usage { blobs, records, bytes } = cache.usage();
            let (size, most) = (bytes.div_ceil(1 << 20), limits::CACHE_BYTES >> 20);
            // As the cache beside it could be used, only its own directory can be the trouble: then there are none.
            let (files, fetched) = Downloads::open(root).map_or((0, 0), |downloads| downloads.usage());
            let shown = format!(
                "{path}, {size} MiB of at most {most} MiB in {blobs} layers and {records} records, and {} MiB of at most \
                 {most} MiB in {files} downloads",
                fetched.div_ceil(1 << 20)
            );
            let json = json!({
                "path": root.to_string_lossy(),
                "usable": true,
                "bytes": bytes,
                "limit_bytes": limits::CACHE_BYTES,
                "layers": blobs,
                "records": records,
                "downloads": files,
                "download_bytes": fetched,
            });
            fact("cache", shown, json)
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let json = json!({ "path": root.to_string_lossy(), "usable": false });
            let fix = format!("make {path} a directory that this user alone can write");
            without(format!("{error}{}", cause.unwrap_or_default()), json, &fix)
        }
    }
}

fn git() -> Fact {
    let instead = "or give `dmoci build` --revision and --epoch: it asks git for these";
    program("git", &format!("install git, {instead}"), &format!("repair git, {instead}"))
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
    PROGRAMS
        .iter()
        .map(|(name, install)| {
            program(name, install, &format!("run `{name} --version` to see why, and repair {name}"))
        })
        .collect()
}

/// What a program says of its version; what to do when it is not there, and when it does not say.
fn program(name: &'static str, install: &str, repair: &str) -> Fact {
    match ask(name, &["--version"]) {
        Answer::Line(line) => fact(name, line.clone(), json!({ "found": true, "version": line })),
        Answer::NotFound => Fact {
            fix: Some(install.to_owned()),
            ..fact(name, "not found", json!({ "found": false, "version": null }))
        },
        Answer::Failed(why) => Fact {
            fix: Some(repair.to_owned()),
            ..fact(
                name,
                format!("found, but `{name} --version` {why}"),
                json!({ "found": true, "version": null, "why": why }),
            )
        },
    }
}

/// What came of asking a program.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The first line that it printed.
    Line(String),
    /// It is not on the PATH.
    NotFound,
    /// It is, and gave no answer: "ends with 1", …
    Failed(String),
}

/// Asks a program of the PATH, which has five seconds.
fn ask(program: &str, arguments: &[&str]) -> Answer {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Answer::NotFound,
        Err(error) => return Answer::Failed(format!("cannot be run: {error}")),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // A line fits into the pipe, so the program can end before anyone reads.
    for _ in 0..100 {
        match child.try_wait() {
            Ok(Some(status)) => {
                let said = stdout.map(first_line).unwrap_or_default();
                let complaint = stderr.map(first_line).unwrap_or_default();
                return match (status.success(), said.is_empty()) {
                    (true, false) => Answer::Line(said),
                    (true, true) => Answer::Failed("says nothing".to_owned()),
                    (false, _) if complaint.is_empty() => Answer::Failed(format!("fails with {status}")),
                    (false, _) => Answer::Failed(format!("fails with {status}: {complaint}")),
                };
            }
            Ok(None) => thread::sleep(Duration::from_millis(50)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Answer::Failed("does not end".to_owned())
}

fn first_line(stream: impl io::Read) -> String {
    let mut bytes = Vec::new();
    // What cannot be read was not said.
    let _ = stream.take(4096).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.lines().next().unwrap_or_default().trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_answer_and_programs_that_do_not() {
        let failed = |why: &str| Answer::Failed(why.to_owned());
        assert_eq!(ask("echo", &["one"]), Answer::Line("one".to_owned()));
        assert_eq!(ask("false", &[]), failed("fails with exit status: 1"));
        assert_eq!(ask("sh", &["-c", "echo no >&2; exit 3"]), failed("fails with exit status: 3: no"));
        assert_eq!(ask("true", &[]), failed("says nothing"));
        assert_eq!(ask("no-such-program-anywhere", &[]), Answer::NotFound);
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
