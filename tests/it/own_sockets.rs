//! Sockets of the machine, which a backend does not get: with namespaces, and where there are none.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::own_wheel::{edit, project};
use crate::support::{Project, Run, dmoci};

/// A server at a path, in a folder that a backend sees.
struct Server {
    _dir: tempfile::TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Server {
    fn new() -> Server {
        // Not below /tmp, where a backend has a folder of its own.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        // It can be connected to.
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        Server { _dir: dir, path, listener }
    }

    /// Nobody has come, not even for a moment.
    #[track_caller]
    fn is_alone(&self) {
        assert_eq!(self.listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

/// The project with this in the hook for wheels. `PATH` there is the path of the server.
fn with(server: &Server, functions: &str, statement: &str) -> Option<Project> {
    let project = project()?;
    let head =
        format!("import base64\nimport os, socket, subprocess, sys\nPATH = {:?}\n{functions}\n", server.path);
    edit(&project, "tools/backend.py", "import base64\n", &head);
    edit(&project, "tools/backend.py", "    record = \"\"", &format!("    {statement}\n    record = \"\""));
    Some(project)
}

/// This program where it can make no namespaces.
fn closed(program: &Command) -> Command {
    let user = ["--user", "--map-root-user", "--"];
    if !Command::new("unshare").args(user).arg("true").status().is_ok_and(|status| status.success()) {
        return Command::new(program.get_program());
    }
    let mut closed = Command::new("unshare");
    closed.args(user).args(["sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\""]);
    closed.arg(program.get_program());
    closed
}

/// `dmoci wheel`, with and without what makes namespaces.
fn runs(project: &Project) -> [Run; 2] {
    let found = Run::of(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
    let python = found.ok().stdout;
    [false, true].map(|without| {
        let _ = fs::remove_dir_all(project.path("dist"));
        let program = dmoci();
        let mut wheel = if without { closed(&program) } else { Command::new(program.get_program()) };
        for (name, _) in program.get_envs() {
            wheel.env_remove(name);
        }
        wheel.args(["wheel", "--timeout", "60", "--python", python.trim()]).current_dir(project.root());
        wheel.env("XDG_CACHE_HOME", project.cache());
        let run = Run::of(&mut wheel);
        if without {
            assert!(run.stderr.contains("is not kept in, because"), "{}", run.stderr);
        }
        let evidence = project.path(if without { "without.json" } else { "with.json" });
        let _ = fs::rename(project.path("dist/evidence/python.json"), evidence);
        run
    })
}

fn isolation(project: &Project, file: &str) -> Value {
    serde_json::from_slice::<Value>(&fs::read(project.path(file)).unwrap()).unwrap()["isolation"].take()
}

/// A backend that connects to what listens at a path fails.
#[test]
fn no_socket_of_the_machine_is_connected() {
    let server = Server::new();
    for statement in [
        "socket.socket(socket.AF_UNIX).connect(PATH)",
        "subprocess.run([sys.executable, '-c', 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])', PATH], check=True)",
    ] {
        let Some(project) = with(&server, "", statement) else { return };
        for run in runs(&project) {
            let run = run.exits(6);
            assert!(run.stderr.contains("error[E-WHEEL-BACKEND]"), "{}", run.stderr);
            assert!(run.stderr.contains("PermissionError: [Errno 13]"), "{}", run.stderr);
        }
        assert!(!project.path("dist").exists());
        server.is_alone();
    }
}

/// Every other way to such a socket, and what has to stay.
const PROBE: &str = r#"
import asyncio, ctypes, errno, multiprocessing, platform

def denied(*arguments, make=socket.socket):
    try:
        make(*arguments)
    except PermissionError:
        return
    raise SystemError("not refused: %r" % (arguments,))

def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    found = ctypes.get_errno()
    if (result, found) != (-1, errno.EACCES):
        raise SystemError("call %#x: %d, error %d" % (number, result, found))

# socket(AF_UNIX, SOCK_STREAM, 0) as an i386 program calls it.
OTHER = '''
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("53b867010000bb01000000b90100000031d2cd805bc3"))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
'''

def probe():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        denied(socket.AF_UNIX, kind)
    denied(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM)
    # A pair of this type can be sent to any path.
    denied(socket.AF_UNIX, socket.SOCK_DGRAM, make=socket.socketpair)
    denied(socket.AF_UNIX, socket.SOCK_RAW | socket.SOCK_CLOEXEC, make=socket.socketpair)
    call(425, 1, ctypes.create_string_buffer(512))
    if platform.machine() == "x86_64":
        for number in (41, 53, 425):
            call(0x40000000 | number, 1, 1, 0, ctypes.create_string_buffer(512))
        assert subprocess.run([sys.executable, "-c", OTHER]).returncode < 0, "a call of i386 returned"
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        one, two = socket.socketpair(socket.AF_UNIX, kind)
        one.send(b"x")
        assert two.recv(1) == b"x"
        try:
            one.connect(PATH)
        except OSError:
            continue
        raise SystemError("a pair was connected elsewhere")
    one, two = multiprocessing.Pipe()
    one.send(7)
    assert two.recv() == 7
    asyncio.run(asyncio.sleep(0))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    socket.socket(socket.AF_INET).close()
    socket.if_nameindex()
"#;

#[test]
fn pairs_of_sockets_stay_and_no_other_way_does() {
    let server = Server::new();
    let Some(project) = with(&server, PROBE, "probe()") else { return };
    for run in runs(&project) {
        let run = run.ok();
        assert!(!run.stderr.contains("not kept from the sockets"), "{}", run.stderr);
    }
    server.is_alone();
    let refused = serde_json::json!({"kind": "refused"});
    assert_eq!(isolation(&project, "with.json")["sockets"], refused);
    let without = isolation(&project, "without.json");
    assert_eq!((&without["kind"], &without["sockets"]), (&Value::from("none"), &refused));
}
