//! `build --load` and `docker-daemon:` where no engine is, or one that does not do what it should.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::{fs, thread};

use crate::support::{Project, Run, dmoci};

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/load"
tags = ["1"]
platforms = ["linux/amd64", "linux/arm64"]
[[layer]]
name = "one"
file = [{ path = "/etc/one", content = "one\n" }]
"#;

fn build(project: &Project, more: &[&str], name: &str, value: &str) -> Run {
    let mut build = dmoci();
    build.args(["build", "--no-cache"]).args(more).current_dir(project.root()).env(name, value);
    Run::of(&mut build)
}

fn host(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// A daemon that answers each request, in their order, with one of these.
fn served<T>(socket: &Path, answers: &[&str], run: impl FnOnce() -> T) -> T {
    let listener = UnixListener::bind(socket).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || answers.iter().for_each(|answer| answer_one(&listener, answer)));
        run()
    })
}

fn answer_one(listener: &UnixListener, answer: &str) {
    let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: u64 = length.map_or(0, |length| length.parse().unwrap());
    std::io::copy(&mut (&stream).take(length), &mut std::io::sink()).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

#[test]
fn no_daemon_and_nothing_is_built() {
    let project = Project::with_spec(SPEC);
    let nobody = host(&project.path("nobody"));
    let run = build(&project, &["--load", "docker"], "DOCKER_HOST", &nobody);
    assert!(run.exit == 6 && run.stderr.contains("E-DAEMON-CONNECT"), "{run:?}");
    let run = build(&project, &["--load", "docker"], "DOCKER_HOST", "tcp://127.0.0.1:2375");
    assert!(run.exit == 2 && run.stderr.contains("E-DAEMON-HOST"), "{run:?}");
    let run = build(&project, &["--load", "podman", "--epoch=0", "--revision=x"], "PATH", "/nonexistent");
    assert!(run.exit == 6 && run.stderr.contains("E-LOAD-PODMAN"), "{run:?}");
    assert!(!project.path("dist").exists());
    let inspect = Run::of(dmoci().args(["inspect", "docker-daemon:x:1"]).env("DOCKER_HOST", &nobody));
    assert!(inspect.exit == 6 && inspect.stderr.contains("E-DAEMON-CONNECT"), "{inspect:?}");
}

#[test]
fn a_platform_that_is_not_built() {
    let spec = SPEC.replace(r#""linux/amd64", "linux/arm64""#, r#""linux/s390x", "linux/ppc64le""#);
    let project = Project::with_spec(&spec);
    let socket = project.path("socket");
    let run = served(&socket, &[GOOD], || build(&project, &["--load=docker"], "DOCKER_HOST", &host(&socket)));
    assert!(run.exit == 2 && run.stderr.contains("E-LOAD-PLATFORM"), "{run:?}");
    assert!(!project.path("dist/image").exists());
}

#[test]
fn the_daemon_refuses_the_image() {
    let project = Project::with_spec(SPEC);
    let socket = project.path("socket");
    let refused = r#"{"errorDetail":{"message":"no space left"},"error":"no space left"}"#;
    let refused = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{refused}", refused.len());
    let run = served(&socket, &[GOOD, &refused], || {
        build(&project, &["--load=docker", "--platform=linux/amd64"], "DOCKER_HOST", &host(&socket))
    });
    assert!(
        run.exit == 6 && run.stderr.contains("E-DAEMON-REFUSED") && run.stderr.contains("no space left"),
        "{run:?}"
    );
    // The image itself is there.
    assert!(project.path("dist/image/index.json").exists());
}

/// What it says of the load is no evidence: it is asked what it has.
#[test]
fn the_daemon_has_another_image() {
    let other = format!(r#"{{"Id":"sha256:{}"}}"#, "0".repeat(64));
    let other = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{other}", other.len());
    let nothing = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
    for has in [other.as_str(), nothing] {
        let project = Project::with_spec(SPEC);
        let socket = project.path("socket");
        let run = served(&socket, &[GOOD, GOOD, has], || {
            build(&project, &["--load=docker", "--platform=linux/amd64"], "DOCKER_HOST", &host(&socket))
        });
        assert!(run.exit == 1 && run.stderr.contains("E-LOAD-OTHER"), "{run:?}");
        assert!(!run.stdout.contains("loaded"), "{run:?}");
    }
}

#[test]
fn podman_refuses_the_image() {
    let project = Project::with_spec(SPEC);
    let script = "#!/bin/sh\n[ \"$1\" = load ] || exit 0\necho 'no space left' >&2\nexit 125\n";
    project.write("bin/podman", script);
    fs::set_permissions(project.path("bin/podman"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let run = build(&project, &["--load=podman", "--platform=linux/amd64"], "PATH", &path);
    assert!(
        run.exit == 6 && run.stderr.contains("E-LOAD-REFUSED") && run.stderr.contains("no space left"),
        "{run:?}"
    );
}

/// A program of the name podman that is content with everything, and reads nothing.
#[test]
fn podman_does_not_read_the_image() {
    // More than a pipe holds.
    let spec = SPEC.replace("[[layer]]", "compression = \"none\"\n[[layer]]")
        + "copy = [{ from = \"big\", to = \"/big\" }]\n";
    let project = Project::with_spec(&spec).file("big", vec![0; 1 << 20]);
    let podman = |script: &str| {
        project.write("bin/podman", script);
        fs::set_permissions(project.path("bin/podman"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
        build(&project, &["--load=podman", "--platform=linux/amd64"], "PATH", &path)
    };
    let run = podman("#!/bin/sh\necho no right >&2\nexit 1\n");
    assert!(run.exit == 6 && run.stderr.contains("E-LOAD-REFUSED"), "{run:?}");
    assert!(run.stderr.contains("nothing was built") && !project.path("dist").exists(), "{run:?}");
    let run = podman("#!/bin/sh\nexit 0\n");
    assert!(run.exit == 6 && run.stderr.contains("E-LOAD-REFUSED"), "{run:?}");
    assert!(run.stderr.contains("without having read the image"), "{run:?}");
    assert!(run.stderr.contains("the image is in the output directory"), "{run:?}");
}

/// An image that is asked for by its ID must be that one.
#[test]
fn the_daemon_sends_another_image_than_was_asked_for() {
    let project = Project::with_spec(SPEC);
    build(&project, &["--epoch=0", "--revision=x"], "TZ", "UTC").ok();
    let export = ["export", "dist/image", "--platform=linux/amd64", "-o", "docker-archive:a.tar"];
    let said = project.dmoci(&export).ok();
    let id = said.stdout.lines().find(|line| line.starts_with("image-id")).unwrap();
    let id = id.split_whitespace().last().unwrap().to_owned();
    let other = format!("sha256:{}", "0".repeat(64));
    for (asked, exit) in [(&id, 0), (&other, 1)] {
        let run = inspect_sent(&project, asked);
        assert_eq!((run.exit, run.stderr.contains("E-DIGEST")), (exit, exit == 1), "{run:?}");
    }
}

/// What the archive calls itself must be the name that was asked for.
#[test]
fn the_daemon_sends_an_image_of_another_name() {
    let project = Project::with_spec(SPEC);
    build(&project, &["--epoch=0", "--revision=x"], "TZ", "UTC").ok();
    project.dmoci(&["export", "dist/image", "--platform=linux/amd64", "-o", "docker-archive:a.tar"]).ok();
    let run = inspect_sent(&project, "registry.example/load:1");
    assert_eq!(run.exit, 0, "{run:?}");
    for asked in ["registry.example/load:2", "other/load:1", "load:1", "registry.example/load"] {
        let run = inspect_sent(&project, asked);
        assert!(run.exit == 1 && run.stderr.contains("E-DAEMON-OTHER"), "{run:?}");
        assert!(run.stderr.contains("\"registry.example/load:1\"") && run.stderr.contains(asked), "{run:?}");
    }
}

/// What `inspect` makes of the archive a.tar, sent by a daemon that is asked for this.
fn inspect_sent(project: &Project, asked: &str) -> Run {
    let socket = project.path("socket");
    let _ = fs::remove_file(&socket);
    let archive = fs::read(project.path("a.tar")).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            stream.write_all(&archive).unwrap();
        });
        let mut inspect = dmoci();
        Run::of(
            inspect.args(["inspect", &format!("docker-daemon:{asked}")]).env("DOCKER_HOST", host(&socket)),
        )
    })
}
