//! Sources that cannot be taken: one clear message that names file and line, and nothing written.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Project, Run};

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/sources"
platforms = ["linux/amd64"]

[[layer]]
name = "files"
copy = [{ from = ["files/"], to = "/srv" }]
"#;

/// A build must fail with this code, naming the file, the line of `copy`, and leave nothing.
#[track_caller]
fn refused(project: &Project, exits: &[i32], code: &str, words: &[&str]) -> Run {
    let run = project.dmoci(&["build"]);
    assert!(exits.contains(&run.exit), "{run:?}");
    assert_eq!(run.stdout, "", "{run:?}");
    assert!(run.stderr.contains(&format!("error[{code}]")), "{}", run.stderr);
    assert!(run.stderr.contains("dmoci.toml:8"), "no line in:\n{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is missing:\n{}", run.stderr);
    }
    assert_eq!(run.stderr.matches("error").count(), 1, "more than one message:\n{}", run.stderr);
    assert!(!project.path("dist/image/index.json").exists());
    let left = fs::read_dir(project.path("dist/image/blobs/sha256")).into_iter().flatten().count();
    assert_eq!(left, 0, "blobs are left behind");
    run
}

#[test]
fn sockets_and_fifos() {
    let project = Project::with_spec(SPEC).file("files/a", "a");
    let status = std::process::Command::new("mkfifo").arg(project.path("files/pipe")).status().unwrap();
    assert!(status.success());
    refused(&project, &[2], "E-SOURCE-SPECIAL", &["files/pipe", "FIFO"]);
    fs::remove_file(project.path("files/pipe")).unwrap();
    let _listener = UnixListener::bind(project.path("files/door")).unwrap();
    refused(&project, &[2], "E-SOURCE-SPECIAL", &["files/door", "socket"]);
}

#[test]
fn whiteouts_and_what_is_missing() {
    let project = Project::with_spec(SPEC);
    refused(&project, &[2], "E-SOURCE-MISSING", &["files"]);
    project.write("files/sub/.wh.a", "");
    refused(&project, &[2], "E-SOURCE-WHITEOUT", &["files/sub/.wh.a"]);
}

#[test]
fn a_link_that_leads_out_of_the_project() {
    let project = Project::with_spec(SPEC);
    symlink("/etc", project.path("files")).unwrap();
    refused(&project, &[2], "E-SOURCE-OUTSIDE", &["files"]);
}

#[test]
fn a_file_without_permission() {
    if rustix::process::getuid().is_root() {
        // Root reads everything: `tests/interop` does this as an ordinary user.
        return;
    }
    let project = Project::with_spec(SPEC).file("files/secret", "s");
    fs::set_permissions(project.path("files/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    refused(&project, &[2, 6], "E-SOURCE-READ", &["files/secret", "Permission denied"]);
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let project = Project::with_spec(SPEC).file("files/log", vec![b'x'; 64 << 20]);
    let mut log = fs::OpenOptions::new().append(true).open(project.path("files/log")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"one more line\n").unwrap();
            }
        });
        let run = std::panic::catch_unwind(|| refused(&project, &[1, 2, 6], "E-SOURCE-CHANGED", &["log"]));
        stop.store(true, Ordering::Relaxed);
        run.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    });
}
