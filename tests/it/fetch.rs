//! Fetching, against a server that does everything wrong. Waiting is only written down, so nothing here takes its time.

mod origins;
mod resume;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dmoci::cache::{Downloaded, Downloads};
use dmoci::diagnostic::{Diagnostic as _, Exit};
use dmoci::fetch::{Cause, FetchError, Fetcher, Listener, Patience, Settings, Surroundings, Wanted};
use dmoci::url::Url;
use dmoci_layers::Digest;

use crate::support::server::{End, Reply, Server};

/// A machine whose clock goes a step further each time it is read, and that never waits.
#[derive(Default)]
struct Machine {
    clock: AtomicU64,
    step: Duration,
    waits: Mutex<Vec<u64>>,
    roots: Vec<Vec<u8>>,
    retries: Mutex<Vec<String>>,
    received: AtomicU64,
    expected: AtomicU64,
}

impl Surroundings for Machine {
    fn now(&self) -> Duration {
        let step = u64::try_from(self.step.as_nanos()).unwrap();
        Duration::from_nanos(self.clock.fetch_add(step, Ordering::SeqCst))
    }

    fn wait(&self, _: Duration) {}

    fn chance(&self) -> f64 {
        1.0
    }

    fn roots(&self) -> Vec<Vec<u8>> {
        self.roots.clone()
    }
}

impl Listener for Machine {
    fn begin(&self, _: &Url) {}

    fn expect(&self, bytes: u64) {
        self.expected.fetch_add(bytes, Ordering::SeqCst);
    }

    fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::SeqCst);
    }

    fn retry(&self, url: &Url, cause: &Cause, wait: Duration) {
        self.waits.lock().unwrap().push(u64::try_from(wait.as_millis()).unwrap());
        self.retries.lock().unwrap().push(format!("{url}: {cause}"));
    }

    fn blocked(&self, _: &Url) {}
}

/// A cache and a machine to fetch with.
struct Bench {
    home: tempfile::TempDir,
    machine: Machine,
    settings: Settings,
}

impl Bench {
    fn new() -> Bench {
        let patience = Patience { silence: Duration::from_millis(300), ..Patience::default() };
        Bench {
            home: tempfile::tempdir().unwrap(),
            machine: Machine::default(),
            settings: Settings { patience, ..Settings::default() },
        }
    }

    fn fetcher(&self) -> Fetcher<'_> {
        let downloads = Downloads::open(self.home.path()).unwrap();
        Fetcher::new(self.settings.clone(), downloads, &self.machine, &self.machine)
    }

    fn file(&self, wanted: &Wanted) -> Result<Downloaded, FetchError> {
        self.fetcher().file(wanted)
    }

    fn waits(&self) -> Vec<u64> {
        self.machine.waits.lock().unwrap().clone()
    }

    fn partial(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(self.home.path().join("downloads/partial")).unwrap();
        files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    }
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

/// Nobody knows what will come.
fn unknown(text: &str) -> Wanted {
    Wanted::new(url(text), None)
}

/// This must come.
fn known(text: &str, content: &[u8]) -> Wanted {
    Wanted { size: Some(content.len() as u64), ..Wanted::new(url(text), Some(Digest::sha256(content))) }
}

#[track_caller]
fn content(entry: Result<Downloaded, FetchError>) -> Vec<u8> {
    let mut file = entry.unwrap().open().unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn fails(result: Result<Downloaded, FetchError>, code: &str, exit: Exit) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.exit()), (code, exit), "{error:?}");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}\n{cause}\n{}", error.help().unwrap_or_default())
}

#[test]
fn what_is_there_is_not_fetched_again_unless_it_is_damaged() {
    let server = Server::start(|_| Reply::ok(b"content"));
    let bench = Bench::new();
    let wanted = known(&server.url("/a"), b"content");
    for _ in 0..2 {
        assert_eq!(content(bench.file(&wanted)), b"content");
    }
    assert_eq!(server.asked().len(), 1);
    assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
    assert_eq!(server.asked()[0].header("authorization"), None);
    let path = bench.home.path().join("downloads/sha256").join(Digest::sha256(b"content").hex());
    fs::remove_file(&path).unwrap();
    fs::write(&path, "c0ntent").unwrap();
    assert_eq!(content(bench.file(&wanted)), b"content");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(bench.partial().len(), 0);

    // Without a digest it is asked for each time, whatever is there.
    assert_eq!(content(bench.file(&unknown(&server.url("/a")))), b"content");
    assert_eq!(server.asked().len(), 3);
    let told = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    assert_eq!((told(&bench.machine.expected), told(&bench.machine.received)), (21, 21));
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_not() {
    // The first answer; requests and waits until there is a better one; the code when nobody asks for it.
    type Row = (&'static str, &'static [&'static str], usize, &'static [u64], Option<&'static str>);
    let table: &[Row] = &[
        ("500 Oops", &[], 2, &[500], None),
        ("503 Busy", &["Retry-After: 7"], 2, &[7000], None),
        ("429 Slow down", &["Retry-After: 0"], 2, &[500], None),
        (
            "503 Busy",
            &["Retry-After: Sun, 06 Nov 1994 08:50:37 GMT", "Date: Sun, 06 Nov 1994 08:49:37 GMT"],
            2,
            &[60_000],
            None,
        ),
        ("429 Come back tomorrow", &["Retry-After: 86400"], 1, &[], Some("E-FETCH-STATUS")),
        ("408 Timeout", &[], 2, &[500], None),
        ("425 Early", &[], 2, &[500], None),
        ("404 Not Found", &["Retry-After: 1"], 1, &[], Some("E-FETCH-STATUS")),
        ("401 Who", &[], 1, &[], Some("E-FETCH-STATUS")),
        ("204 Nothing", &[], 1, &[], Some("E-FETCH-STATUS")),
        ("304 The same", &[], 1, &[], Some("E-FETCH-STATUS")),
        ("302 Nowhere", &[], 1, &[], Some("E-FETCH-REDIRECT")),
    ];
    for &(status, headers, requests, waits, code) in table {
        let server = Server::start(move |asked| match asked.before {
            0 => Reply::new(status, headers, b""),
            _ => Reply::ok(b"good"),
        });
        let bench = Bench::new();
        let result = bench.file(&unknown(&server.url("/a")));
        match code {
            None => assert_eq!(content(result), b"good", "{status}"),
            Some(code) => {
                let said = fails(result, code, Exit::Undecided);
                assert!(said.contains("http://127.0.0.1:") && !said.contains("attempts"), "{said}");
            }
        }
        assert_eq!((server.asked().len(), bench.waits().as_slice()), (requests, waits), "{status}");
        assert_eq!(bench.partial().len(), 0);
    }
}

#[test]
fn it_is_given_up_in_the_end() {
    let server = Server::start(|_| Reply::new("502 Bad", &[], b""));
    let bench = Bench::new();
    let said =
        fails(bench.file(&known(&server.url("/a?key=secret"), b"x")), "E-FETCH-STATUS", Exit::Undecided);
    assert!(said.contains("/a?… (5 attempts)\nthe server answered 502\n"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(bench.waits(), [500, 1000, 2000, 4000]);
    assert!(bench.machine.retries.lock().unwrap()[0].ends_with("/a?…: the server answered 502"));
}

#[test]
fn nobody_there() {
    let port = Server::start(|_| Reply::ok(b"")).port();
    let bench = Bench::new();
    let said = fails(bench.file(&unknown(&format!("http://127.0.0.1:{port}/"))), "E-FETCH", Exit::Undecided);
    assert!(said.contains(&format!("(5 attempts)\nno connection to 127.0.0.1:{port}\n")), "{said}");
    let said = fails(
        bench.file(&Wanted { plain: true, ..unknown("http://nobody.invalid/") }),
        "E-FETCH",
        Exit::Undecided,
    );
    assert!(said.contains("the name of the host is not known"), "{said}");
}

#[test]
fn other_content_is_refused_and_not_kept() {
    for (body, code) in [
        (&b"CONTENT"[..], "E-FETCH-DIGEST"),
        (b"content, and more", "E-FETCH-DIGEST"),
        (b"c", "E-FETCH-DIGEST"),
    ] {
        let server = Server::start(move |_| Reply::ok(body));
        let bench = Bench::new();
        let said = fails(bench.file(&known(&server.url("/a"), b"content")), code, Exit::Mismatch);
        assert!(said.contains("expected") && said.contains("found"), "{said}");
        assert_eq!((server.asked().len(), bench.partial().len()), (1, 0));
        let kept = bench.home.path().join("downloads/sha256");
        assert!(!kept.exists() || fs::read_dir(kept).unwrap().count() == 0);
    }
}

#[test]
fn what_is_no_http() {
    for reply in
        ["", "SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 200\r\n", "HTTP/9.9 200 OK\r\n\r\n", "\r\n\r\n\r\n"]
    {
        let server = Server::start(move |_| Reply::raw(reply));
        let mut bench = Bench::new();
        bench.settings.patience.attempts = 2;
        fails(bench.file(&known(&server.url("/a"), b"content")), "E-FETCH", Exit::Undecided);
        assert_eq!(server.asked().len(), 2, "{reply:?}");
    }
    let head = format!("X-Filler: {}", "x".repeat(100_000));
    let server = Server::start(move |_| Reply::new("200 OK", &[&head], b"content"));
    let mut bench = Bench::new();
    bench.settings.patience.attempts = 1;
    fails(bench.file(&known(&server.url("/a"), b"content")), "E-FETCH", Exit::Undecided);
}

#[test]
fn many_at_once() {
    let begun = AtomicU64::new(0);
    let server = Server::start(move |asked| {
        // The first waits for another, at most for a while.
        begun.fetch_add(1, Ordering::SeqCst);
        for _ in 0..1000 {
            if begun.load(Ordering::SeqCst) > 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Reply::ok(asked.target.as_bytes())
    });
    let bench = Bench::new();
    let paths: Vec<String> = (0..40).map(|i| format!("/{i}")).collect();
    let wanted: Vec<Wanted> = paths.iter().map(|path| known(&server.url(path), path.as_bytes())).collect();
    let entries = bench.fetcher().files(&wanted).unwrap();
    for (entry, path) in entries.into_iter().zip(&paths) {
        assert_eq!(content(Ok(entry)), path.as_bytes());
    }
    assert!((2..=dmoci::limits::CONNECTIONS).contains(&server.most()), "{}", server.most());
    assert_eq!(bench.fetcher().files(&[]).unwrap().len(), 0);
}

#[test]
fn one_failure_ends_the_others() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/missing" => Reply::new("404 Not Found", &[], b""),
        _ => Reply::ok(b"content").ends(End::Endless),
    });
    let bench = Bench::new();
    let mut wanted = vec![Wanted { most: u64::MAX, ..unknown(&server.url("/endless")) }];
    let chunked = Server::start(|_| {
        Reply::new("200 OK", &["Transfer-Encoding: chunked"], b"5\r\nhello\r\n").ends(End::Endless)
    });
    wanted.push(unknown(&chunked.url("/endless")));
    wanted.push(unknown(&server.url("/missing")));
    let fetcher = bench.fetcher();
    let error = fetcher.files(&wanted).unwrap_err();
    assert_eq!(error.code(), "E-FETCH-STATUS");
    // And the next ones are fetched as if nothing had been.
    let good = Server::start(|_| Reply::ok(b"content"));
    assert_eq!(fetcher.files(&[unknown(&good.url("/a"))]).unwrap().len(), 1);
}

#[test]
fn several_want_the_same_and_one_fetches_it() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(30));
        Reply::ok(b"content")
    });
    let bench = Bench::new();
    let wanted = known(&server.url("/a"), b"content");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // Each like a process of its own.
            scope.spawn(|| assert_eq!(content(bench.file(&wanted)), b"content"));
        }
    });
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn without_network() {
    let server = Server::start(|_| Reply::ok(b"content"));
    let mut bench = Bench::new();
    let wanted = known(&server.url("/a"), b"content");
    bench.file(&wanted).unwrap();
    bench.settings.offline = true;
    assert_eq!(content(bench.file(&wanted)), b"content");
    let missing = known(&server.url("/b?token=secret"), b"other");
    fails(bench.file(&missing), "E-OFFLINE", Exit::Undecided);
    let fetcher = bench.fetcher();
    let error = fetcher.files(&[wanted, missing, unknown(&server.url("/c"))]).unwrap_err();
    let FetchError::Offline { urls, .. } = &error else { panic!("{error:?}") };
    assert_eq!(urls.iter().map(Url::file_name).collect::<Vec<_>>(), ["b", "c"]);
    assert!(!format!("{error} {error:?}").contains("secret"));
    assert!(fetcher.document(&url(&server.url("/d")), "*/*", 10).is_err());
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn documents() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/simple" => Reply::redirect(301, "/simple/"),
        _ if asked.before == 0 => Reply::new("500 Oops", &[], b""),
        _ => Reply::new("200 OK", &["Content-Type: text/html; charset=utf-8"], b"<a href=x>"),
    });
    let bench = Bench::new();
    let fetcher = bench.fetcher();
    let document = fetcher.document(&url(&server.url("/simple")), "text/html", 100).unwrap();
    assert_eq!(document.url.join("x").unwrap().bare(), server.url("/simple/x"));
    assert_eq!(document.media_type.as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(document.bytes, b"<a href=x>");
    assert_eq!(server.asked()[0].header("accept"), Some("text/html"));
    let error = fetcher.document(&url(&server.url("/simple")), "text/html", 9).unwrap_err();
    assert_eq!(error.code(), "E-FETCH-LARGE");
}
