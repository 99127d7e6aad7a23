//! What comes in pieces, too slowly, or never ends.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dmoci::diagnostic::{Diagnostic as _, Exit};
use dmoci::fetch::{Patience, Wanted};
use dmoci_layers::Digest;

use super::{Bench, content, fails, known, unknown, url};
use crate::support::server::{Asked, End, Reply, Server};

/// Some content that differs at every place.
fn long(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 251 + i) as u8).collect()
}

/// What was asked: `Range`, `If-Range`, for each request.
fn ranges(server: &Server) -> Vec<(Option<String>, Option<String>)> {
    let owned = |asked: &Asked, name| asked.header(name).map(str::to_owned);
    server.asked().iter().map(|asked| (owned(asked, "range"), owned(asked, "if-range"))).collect()
}

#[test]
fn what_was_cut_goes_on_where_it_was_cut() {
    let body = long(300_000);
    for (tag, digest, second) in [
        (Some("\"v1\""), true, (Some("bytes=1000-"), Some("\"v1\""))),
        (Some("\"v1\""), false, (Some("bytes=1000-"), Some("\"v1\""))),
        (None, true, (Some("bytes=1000-"), None)),
        // A weak tag does not stand for these very bytes.
        (Some("W/\"v1\""), true, (Some("bytes=1000-"), None)),
        (None, false, (None, None)),
    ] {
        let served = body.clone();
        let server = Server::start(move |asked| {
            let reply = Reply::file(asked, tag, &served);
            if asked.before == 0 { reply.ends(End::Cut(1000)) } else { reply }
        });
        let bench = Bench::new();
        let wanted = if digest { known(&server.url("/a"), &body) } else { unknown(&server.url("/a")) };
        assert!(content(bench.file(&wanted)) == body);
        let second = (second.0.map(str::to_owned), second.1.map(str::to_owned));
        assert_eq!(ranges(&server), [(None, None), second], "{tag:?} {digest}");
        let received = bench.machine.received.load(Ordering::SeqCst);
        assert_eq!(received, 300_000, "{tag:?} {digest}");
        assert_eq!(bench.partial().len(), 0);
    }
}

#[test]
fn a_file_that_changed_meanwhile_is_taken_from_the_beginning() {
    let (old, new) = (long(5000), vec![7; 4000]);
    let served = new.clone();
    let server = Server::start(move |asked| match asked.before {
        0 => Reply::file(asked, Some("\"v1\""), &old).ends(End::Cut(3000)),
        _ => Reply::file(asked, Some("\"v2\""), &served),
    });
    assert!(content(Bench::new().file(&unknown(&server.url("/a")))) == new);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn what_one_run_left_the_next_one_goes_on_with() {
    let body = long(100_000);
    let served = body.clone();
    let server = Server::start(move |asked| match asked.before {
        0..5 => Reply::file(asked, None, &served).ends(End::Cut(if asked.before == 0 { 40_000 } else { 0 })),
        _ => Reply::file(asked, None, &served),
    });
    let bench = Bench::new();
    let wanted = known(&server.url("/a"), &body);
    let said = fails(bench.file(&wanted), "E-FETCH", Exit::Undecided);
    assert!(said.contains("the connection was cut after 40000 of 100000 bytes"), "{said}");
    assert!(bench.partial() == [&body[..40_000]]);
    assert!(content(bench.file(&wanted)) == body);
    assert_eq!(ranges(&server).last().unwrap().0.as_deref(), Some("bytes=40000-"));
    assert_eq!(bench.partial().len(), 0);
}

#[test]
fn wrong_remains_do_no_harm() {
    let body = long(10_000);
    for remains in [vec![0; 4000], vec![0; 10_000], vec![0; 20_000], body.clone()] {
        let served = body.clone();
        let server = Server::start(move |asked| Reply::file(asked, None, &served));
        let bench = Bench::new();
        let partial = bench.home.path().join("downloads/partial");
        fs::create_dir_all(&partial).unwrap();
        fs::write(partial.join(Digest::sha256(&body).hex()), &remains).unwrap();
        // With the size known, and without.
        let wanted = Wanted { size: None, ..known(&server.url("/a"), &body) };
        assert!(content(bench.file(&wanted)) == body, "{}", remains.len());
        assert_eq!(server.asked().is_empty(), remains == body);
        let bench = Bench::new();
        let partial = bench.home.path().join("downloads/partial");
        fs::create_dir_all(&partial).unwrap();
        fs::write(partial.join(Digest::sha256(&body).hex()), &remains).unwrap();
        assert!(content(bench.file(&known(&server.url("/a"), &body))) == body, "{}", remains.len());
    }
}

/// A server that cuts, and then goes on with something else, is asked for the whole once more and not for ever.
#[test]
fn pieces_that_do_not_fit() {
    let body = long(5000);
    let served = body.clone();
    let evil = move |asked: &Asked| match asked.header("range") {
        None => Reply::file(asked, None, &served).ends(End::Cut(2000)),
        Some(_) => Reply::new("206 Partial", &["Content-Range: bytes 2000-4999/5000"], &[0; 3000]),
    };
    let server = Server::start(evil);
    fails(Bench::new().file(&known(&server.url("/a"), &body)), "E-FETCH-DIGEST", Exit::Mismatch);
    assert_eq!(server.asked().len(), 4);
    // Parts that nobody asked for.
    for range in ["bytes 1999-4999/5000", "bytes 2000-4999/6000", "bytes 5-3/7", "lines 1-2/3"] {
        let (served, header) = (body.clone(), format!("Content-Range: {range}"));
        let server = Server::start(move |asked| match asked.before {
            0 => Reply::file(asked, None, &served).ends(End::Cut(2000)),
            1 => Reply::new("206 Partial", &[&header], &[0; 3000]),
            _ => Reply::ok(&served),
        });
        assert!(content(Bench::new().file(&known(&server.url("/a"), &body))) == body, "{range}");
        assert_eq!(server.asked().len(), 3, "{range}");
    }
}

#[test]
fn bodies_without_an_end() {
    let chunk = b"5\r\nhello\r\n";
    let endless = |headers: &'static [&'static str], body: &'static [u8]| {
        Server::start(move |_| Reply::new("200 OK", headers, body).ends(End::Endless))
    };
    let chunked = endless(&["Transfer-Encoding: chunked"], chunk);
    let small = |url: &str| Wanted { most: 100_000, ..unknown(url) };
    fails(Bench::new().file(&small(&chunked.url("/a"))), "E-FETCH-LARGE", Exit::Mismatch);
    fails(Bench::new().file(&known(&chunked.url("/a"), b"hello, world")), "E-FETCH-DIGEST", Exit::Mismatch);
    let unframed = endless(&["unframed"], b"hello");
    fails(Bench::new().file(&known(&unframed.url("/a"), b"hello, world")), "E-FETCH-DIGEST", Exit::Mismatch);
    // It would be cut anywhere, and nobody could tell.
    fails(Bench::new().file(&small(&unframed.url("/a"))), "E-FETCH-LENGTH", Exit::Undecided);
    let huge = Server::start(|_| Reply::new("200 OK", &["Content-Length: 100001"], b"").ends(End::Silent(0)));
    fails(Bench::new().file(&small(&huge.url("/a"))), "E-FETCH-LARGE", Exit::Mismatch);
    let wrong = Server::start(|_| Reply::new("200 OK", &["Content-Length: 8"], b"").ends(End::Silent(0)));
    fails(Bench::new().file(&known(&wrong.url("/a"), b"content")), "E-FETCH-DIGEST", Exit::Mismatch);
}

#[test]
fn a_length_that_is_never_reached() {
    let server = Server::start(|_| Reply::new("200 OK", &["Content-Length: 100"], b"content"));
    let said = fails(Bench::new().file(&unknown(&server.url("/a"))), "E-FETCH", Exit::Undecided);
    assert!(
        said.contains("(5 attempts)\nthe connection was cut after") && said.contains("of 100 bytes"),
        "{said}"
    );
    // Chunks that end before the last one.
    let server =
        Server::start(|_| Reply::new("200 OK", &["Transfer-Encoding: chunked"], b"5\r\nhello\r\n5\r\nwo"));
    fails(Bench::new().file(&unknown(&server.url("/a"))), "E-FETCH", Exit::Undecided);
    // Without any frame only the digest tells.
    let server = Server::start(|_| Reply::new("200 OK", &["unframed"], b"content"));
    assert_eq!(content(Bench::new().file(&known(&server.url("/a"), b"content"))), b"content");
    fails(Bench::new().file(&unknown(&server.url("/a"))), "E-FETCH-LENGTH", Exit::Undecided);
}

#[test]
fn silence_and_dripping() {
    let server = Server::start(|_| Reply::ok(b"content").ends(End::Silent(3)));
    let mut bench = Bench::new();
    bench.settings.patience.attempts = 2;
    let said = fails(bench.file(&known(&server.url("/a"), b"content")), "E-FETCH", Exit::Undecided);
    assert!(said.contains("the server was silent for 0 seconds"), "{said}");
    assert_eq!(ranges(&server)[1].0.as_deref(), Some("bytes=3-"));

    // Each byte takes a second.
    let server = Server::start(|_| Reply::ok(&long(10_000)).ends(End::Drip));
    let mut bench = Bench::new();
    bench.machine.step = Duration::from_secs(1);
    bench.settings.patience.attempts = 1;
    let said = fails(bench.file(&unknown(&server.url("/a"))), "E-FETCH", Exit::Undecided);
    assert!(said.contains("the server sent less than 30720 bytes in 30 seconds"), "{said}");
}

/// What is too large leaves nothing in the cache that the next run would go on with, or that would fill the disk.
#[test]
fn what_is_too_large_is_not_kept() {
    let endless = Server::start(|_| {
        Reply::new("200 OK", &["Transfer-Encoding: chunked"], b"5\r\nhello\r\n").ends(End::Endless)
    });
    let bench = Bench::new();
    let wanted = Wanted { size: None, most: 100_000, ..known(&endless.url("/a"), b"hello, world") };
    fails(bench.file(&wanted), "E-FETCH-LARGE", Exit::Mismatch);
    assert_eq!(bench.partial(), Vec::<Vec<u8>>::new());
    let (said, asked) = (Wanted { size: Some(1 << 60), ..wanted.clone() }, endless.asked().len());
    fails(bench.file(&said), "E-FETCH-LARGE", Exit::Mismatch);
    assert_eq!(endless.asked().len(), asked);
    let wanted = Wanted { size: Some(100_000), ..wanted };
    fails(bench.file(&wanted), "E-FETCH-DIGEST", Exit::Mismatch);
    assert_eq!(bench.partial(), Vec::<Vec<u8>>::new());
}

/// A page that comes fast enough not to be slow, and too slowly to be waited for.
#[test]
fn pages_have_their_time() {
    let page = |bench: &Bench, server: &Server| {
        let error = bench.fetcher().document(&url(&server.url("/simple/a/")), "*/*", 1 << 20).unwrap_err();
        let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        format!("{} {}: {}", error.code(), causes.join(": "), error.help().unwrap_or_default())
    };
    let slow = Server::start(|_| Reply::ok(&long(100_000)).ends(End::Drip));
    let mut bench = Bench::new();
    bench.machine.step = Duration::from_millis(100);
    bench.settings.patience = Patience { least: 1, page: Duration::from_secs(60), ..bench.settings.patience };
    let said = page(&bench, &slow);
    assert!(
        said.starts_with("E-FETCH the server took more than 60 seconds for a page: try again later"),
        "{said}"
    );
    assert_eq!(slow.asked().len(), 1);
    // One that answers nothing is not asked again and again for longer than that.
    let silent = Server::start(|_| Reply::ok(b"content").ends(End::Silent(3)));
    bench.machine.step = Duration::from_secs(10);
    let said = page(&bench, &silent);
    assert!(said.starts_with("E-FETCH the server was silent"), "{said}");
    assert!(silent.asked().len() < 5, "{}", silent.asked().len());
    let unframed = Server::start(|_| Reply::new("200 OK", &["unframed"], b"content"));
    let said = page(&Bench::new(), &unframed);
    assert!(said.starts_with("E-FETCH-LENGTH") && said.ends_with("tell whoever runs this one"), "{said}");
}
