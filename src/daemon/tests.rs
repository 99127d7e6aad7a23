//! A socket that answers, for once, as it is told.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use super::*;
use crate::diagnostic::Diagnostic as _;

/// What a method makes of an answer, and what was asked.
fn asked<T>(answer: &str, ask: impl FnOnce(&Daemon) -> T) -> (T, String) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    thread::scope(|scope| {
        let served = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: u64 = length.map_or(0, |length| length.parse().unwrap());
            let body = if answer.contains(" 413 ") { 0 } else { length };
            std::io::copy(&mut (&stream).take(body), &mut std::io::sink()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            head
        });
        let outcome = ask(&Daemon::at(&socket));
        (outcome, served.join().unwrap())
    })
}

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn saving() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let mut out = Vec::new();
    let (bytes, head) = asked(chunked, |daemon| daemon.save("host:5000/a b:1", &mut out));
    assert_eq!((bytes.unwrap(), &*out), (5, &b"abcde"[..]));
    assert!(
        head.starts_with("GET /images/get?names=host:5000/a%20b:1 HTTP/1.1\r\nHost: docker\r\n"),
        "{head}"
    );

    let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (error, _) = asked(cut, |daemon| daemon.save("x:1", &mut Vec::new()));
    assert_eq!(error.unwrap_err().code(), "E-DAEMON-IO");

    let missing = json("404 Not Found", r#"{"message":"reference does not exist"}"#);
    let (error, _) = asked(&missing, |daemon| daemon.save("x:1", &mut Vec::new()));
    let error = error.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("E-SUBJECT-NOT-FOUND", "the daemon has no image \"x:1\"")
    );
}

#[test]
fn loading() {
    let whole = |daemon: &Daemon| daemon.load(3, |out| out.write_all(b"abc").map_err(keep));
    let (done, head) = asked(&json("200 OK", "{\"stream\":\"Loaded image: x:1\\n\"}\r\n"), whole);
    done.unwrap();
    assert!(
        head.contains("POST /images/load?quiet=1 ") && head.contains("\r\nContent-Length: 3\r\n"),
        "{head}"
    );

    let refused = "{\"stream\":\"x\"}\r\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no\"}\r\n";
    let (error, _) = asked(&json("200 OK", refused), whole);
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("no space")), ("E-DAEMON-REFUSED", true), "{error}");

    // A body that fails is not finished, and its own error is told.
    let half = |daemon: &Daemon| {
        daemon.load(3, |out| {
            out.write_all(b"a").map_err(keep)?;
            Err(keep(std::io::Error::other("mine")))
        })
    };
    let (error, _) = asked("", half);
    assert!(matches!(error.unwrap_err(), DaemonError::Keep { source } if source.to_string() == "mine"));
    for wrong in [&b"ab"[..], b"abcd"] {
        let (error, _) = asked("", |daemon| daemon.load(3, |out| out.write_all(wrong).map_err(keep)));
        assert!(error.is_err(), "{wrong:?}");
    }
}

/// A daemon that wants no more says why and closes; its answer counts, not the broken pipe.
#[test]
fn refused_before_the_end() {
    let answer = json("413 Too Large", r#"{"message":"too large for me"}"#);
    let much = |daemon: &Daemon| {
        daemon
            .load(100 << 20, |out| (0..100).try_for_each(|_| out.write_all(&vec![0; 1 << 20]).map_err(keep)))
    };
    let (error, _) = asked(&answer, much);
    let error = error.unwrap_err();
    assert!(
        matches!(&error, DaemonError::Refused { status: 413, message } if message == "too large for me"),
        "{error:?}"
    );
}

fn keep(source: std::io::Error) -> DaemonError {
    DaemonError::Keep { source }
}

#[test]
fn image_ids() {
    let digest = Digest::sha256(b"x");
    let found = json("200 OK", &format!(r#"{{"Id":"{digest}","RepoTags":["x:1"]}}"#));
    assert_eq!(asked(&found, |daemon| daemon.image_id("x:1")).0.unwrap(), Some(digest));
    let missing = json("404 Not Found", r#"{"message":"No such image"}"#);
    assert_eq!(asked(&missing, |daemon| daemon.image_id("x:1")).0.unwrap(), None);
    for (body, code) in [(r#"{"Id":7}"#, "E-DAEMON-ANSWER"), ("no JSON", "E-DAEMON-ANSWER")] {
        let (error, _) = asked(&json("200 OK", body), |daemon| daemon.image_id("x:1"));
        assert_eq!(error.unwrap_err().code(), code, "{body}");
    }
    let (error, _) = asked("SSH-2.0\r\n\r\n", |daemon| daemon.image_id("x:1"));
    assert_eq!(error.unwrap_err().code(), "E-DAEMON-ANSWER");
}

#[test]
fn what_is_no_answer() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
    asked(&(interim.repeat(8) + good), Daemon::ping).0.unwrap();
    let chunks =
        |line: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{line}\r\nx\r\n0\r\n\r\n");
    let save = |answer: &str| asked(answer, |daemon| daemon.save("x:1", &mut Vec::new())).0;
    assert_eq!(save(&chunks(&format!("1;{}", "e".repeat(250)))).unwrap(), 1);
    for answer in [
        // For ever, if it were not for the end of this text.
        interim.repeat(9) + good,
        chunks(&format!("1;{}", "e".repeat(300))),
        chunks(&format!("{}1", "0".repeat(16))),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000)),
    ] {
        assert_eq!(save(&answer).unwrap_err().code(), "E-DAEMON-ANSWER", "{answer:.100}");
    }
}

/// Both are as long as they are sent.
#[test]
fn a_message_is_cut() {
    let long = "ü".repeat(1_000_000);
    let refused = json("500 Internal Server Error", &format!(r#"{{"message":"{long}"}}"#));
    let loaded = json("200 OK", &format!(r#"{{"error":"{long}"}}"#));
    let plain = json("500 Internal Server Error", &long);
    for answer in [refused, plain] {
        let error = asked(&answer, Daemon::ping).0.unwrap_err().to_string();
        assert!(
            error.chars().count() < 500 && error.ends_with("… (cut after 400 characters)"),
            "{error:.600}"
        );
    }
    let (error, _) = asked(&loaded, |daemon| daemon.load(0, |_| Ok::<(), DaemonError>(())));
    let error = error.unwrap_err().to_string();
    assert!(error.chars().count() < 500 && error.ends_with("… (cut after 400 characters)"), "{error:.600}");
}

/// An answer that comes byte by byte is never silent, and is not waited for until its end.
#[test]
fn too_slow() {
    let slow = |good: &[u8], patience: Patience, ask: &dyn Fn(&Daemon) -> DaemonError| {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // Until the other side has had enough.
                let bytes = good.iter().chain(std::iter::repeat(&b'x'));
                for byte in bytes {
                    if stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(if *byte == b'x' { 5 } else { 0 }));
                }
            });
            let error = ask(&Daemon { socket: socket.clone(), patience });
            assert_eq!(error.code(), "E-DAEMON-IO", "{error:?}");
            assert!(error.help().unwrap().contains("too long"), "{error:?}");
        });
    };
    let (brief, hour) = (Duration::from_millis(300), Duration::from_secs(3600));
    let hurried = Patience { answer: brief, silence: hour };
    let head = b"HTTP/1.1 200 OK\r\n";
    let body = b"HTTP/1.1 200 OK\r\n\r\n";
    slow(head, hurried, &|daemon| daemon.ping().unwrap_err());
    slow(head, hurried, &|daemon| daemon.save("a:1", &mut Vec::new()).unwrap_err());
    slow(body, hurried, &|daemon| daemon.image_id("a:1").unwrap_err());
    slow(b"HTTP/1.1 500 No\r\n\r\n", hurried, &|daemon| daemon.save("a:1", &mut Vec::new()).unwrap_err());
    let impatient = Patience { answer: hour, silence: brief };
    slow(body, impatient, &|daemon| daemon.save("a:1", &mut Vec::new()).unwrap_err());
    slow(body, impatient, &|daemon| daemon.load(0, |_| Ok::<(), DaemonError>(())).unwrap_err());
}

#[test]
fn nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let error = Daemon::at(&dir.path().join("socket")).ping().unwrap_err();
    assert_eq!(error.code(), "E-DAEMON-CONNECT");
    assert!(error.help().unwrap().contains("DOCKER_HOST"), "{error:?}");
    assert_eq!(asked("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", Daemon::ping).0.unwrap(), ());
}
