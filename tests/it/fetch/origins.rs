//! Who is asked, who is believed, and who is told what.

use std::fs;

use dmoci::diagnostic::{Diagnostic as _, Exit};
use dmoci::fetch::Proxies;

use super::{Bench, content, fails, known, unknown};
use crate::support::server::{Authority, End, Reply, Server};

#[test]
fn credentials_never_reach_another_origin() {
    let other = Server::start(|_| Reply::ok(b"content"));
    let there = other.url("/there");
    let server = Server::start(move |asked| match asked.target.as_str() {
        "/same" => Reply::redirect(302, "/here?x=1"),
        "/away" => Reply::redirect(307, &there),
        "/with-own" => Reply::redirect(301, &there.replace("http://", "http://evil:evil@")),
        _ => Reply::ok(b"content"),
    });
    let with = |path: &str| server.url(path).replace("http://", "http://user:pa%3Ass@");
    assert_eq!(content(Bench::new().file(&unknown(&with("/same")))), b"content");
    let basic = Some("Basic dXNlcjpwYTpzcw==".to_owned());
    let sent = |server: &Server| -> Vec<Option<String>> {
        server.asked().iter().map(|asked| asked.header("authorization").map(str::to_owned)).collect()
    };
    assert_eq!(sent(&server), [basic.clone(), basic.clone()]);
    for path in ["/away", "/with-own"] {
        assert_eq!(content(Bench::new().file(&unknown(&with(path)))), b"content");
    }
    assert_eq!(sent(&other), [None, None]);
    for asked in server.asked().iter().chain(&other.asked()) {
        assert!(!asked.target.contains('@') && asked.header("referer").is_none(), "{asked:?}");
    }
}

#[test]
fn redirects_end_somewhere() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/loop" => Reply::redirect(302, "/loop"),
        "/ftp" => Reply::redirect(302, "ftp://example.org/"),
        "/plain" => Reply::redirect(302, "http://example.org/"),
        "/nine" => Reply::redirect(302, "/8"),
        path => match path[1..].parse::<u32>() {
            Ok(0) => Reply::ok(b"content"),
            Ok(n) => Reply::redirect(303, &format!("../{}", n - 1)),
            Err(_) => Reply::new("404 Not Found", &[], b""),
        },
    });
    assert_eq!(content(Bench::new().file(&unknown(&server.url("/nine")))), b"content");
    for path in ["/loop", "/ftp", "/plain"] {
        fails(Bench::new().file(&unknown(&server.url(path))), "E-FETCH-REDIRECT", Exit::Undecided);
    }
    // Into a network that only the machine itself is in nobody is sent, whoever asks.
    let inside = Server::start(|asked| match asked.target.as_str() {
        "/data" => Reply::redirect(302, "https://169.254.169.254/latest/meta-data/"),
        _ => Reply::redirect(302, "https://[fe80::1]/"),
    });
    for path in ["/data", "/other"] {
        let said = fails(Bench::new().file(&unknown(&inside.url(path))), "E-FETCH-REDIRECT", Exit::Undecided);
        assert!(said.contains("which is not for the network it is in"), "{said}");
    }
    let loops = server.asked().iter().filter(|asked| asked.target == "/loop").count();
    assert_eq!(loops, dmoci::limits::REDIRECTS + 1);
}

#[test]
fn plain_http_only_where_it_does_no_harm() {
    let mut bench = Bench::new();
    let proxy = Server::start(|_| Reply::ok(b"content"));
    let address = format!("http://127.0.0.1:{}", proxy.port());
    bench.settings.proxies = Proxies::new(Some(&address), None, None, None);
    fails(bench.file(&unknown("http://example.test/a")), "E-FETCH-PLAIN", Exit::Usage);
    assert_eq!(content(bench.file(&known("http://example.test/a", b"content"))), b"content");
    let said =
        fails(bench.file(&known("http://u:secret@example.test/b", b"other")), "E-FETCH-PLAIN", Exit::Usage);
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn proxies() {
    let mut bench = Bench::new();
    let proxy = Server::start(|_| Reply::ok(b"content"));
    let address = format!("http://pro:xy%20secret@127.0.0.1:{}", proxy.port());
    bench.settings.proxies = Proxies::new(Some(&address), None, None, Some("direct.test"));
    assert_eq!(content(bench.file(&known("http://example.test/a", b"content"))), b"content");
    let asked = proxy.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("CONNECT", "example.test:80"));
    assert_eq!(asked[0].header("proxy-authorization"), Some("Basic cHJvOnh5IHNlY3JldA=="));
    assert_eq!((asked[1].target.as_str(), asked[1].header("proxy-authorization")), ("/a", None));

    bench.settings.patience.attempts = 1;
    let said = fails(bench.file(&known("http://refused.test/a", b"x")), "E-FETCH", Exit::Undecided);
    assert!(said.contains("the proxy 127.0.0.1:") && said.contains("403"), "{said}");
    assert!(!said.contains("secret") && !said.contains("pro:"), "{said}");
    let before = proxy.asked().len();
    fails(bench.file(&known("http://direct.test/a", b"x")), "E-FETCH", Exit::Undecided);
    assert_eq!(proxy.asked().len(), before);
}

#[test]
fn tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let plain = Server::start(|_| Reply::ok(b"content"));
    let down = plain.url("/a");
    let server = Server::start_tls(&authority, &["127.0.0.1"], move |asked| match asked.target.as_str() {
        "/down" => Reply::redirect(302, &down),
        "/cut" if asked.before == 0 => Reply::file(asked, None, b"content").ends(End::Cut(3)),
        _ => Reply::file(asked, None, b"content"),
    });
    let mut bench = Bench::new();
    let said = fails(bench.file(&known(&server.url("/a"), b"content")), "E-FETCH-TLS", Exit::Undecided);
    assert!(said.contains("no safe connection to 127.0.0.1:") && said.contains("--ca-file"), "{said}");
    assert!(bench.waits().is_empty() && server.asked().is_empty());

    let file = bench.home.path().join("ca.pem");
    bench.settings.ca_file = Some(file.clone());
    for bad in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(&file, bad).unwrap();
        fails(bench.file(&known(&server.url("/a"), b"content")), "E-FETCH-CA", Exit::Usage);
    }
    fs::write(&file, other.pem()).unwrap();
    fails(bench.file(&known(&server.url("/a"), b"content")), "E-FETCH-TLS", Exit::Undecided);
    fs::write(&file, other.pem() + &authority.pem()).unwrap();
    assert_eq!(content(bench.file(&known(&server.url("/a"), b"content"))), b"content");
    fs::remove_file(&file).unwrap();
    fails(bench.file(&known(&server.url("/b"), b"else")), "E-FETCH-CA", Exit::Usage);

    // The machine's own authorities.
    let mut bench = Bench::new();
    bench.machine.roots = vec![authority.der()];
    assert_eq!(content(bench.file(&known(&server.url("/cut"), b"content"))), b"content");
    assert_eq!(server.asked().last().unwrap().header("range"), Some("bytes=3-"));
    let said = fails(bench.file(&unknown(&server.url("/down"))), "E-FETCH-REDIRECT", Exit::Undecided);
    assert!(said.contains("which is not encrypted"), "{said}");
    assert!(plain.asked().is_empty());
    let elsewhere = Server::start_tls(&authority, &["example.test"], |_| Reply::ok(b"content"));
    fails(bench.file(&unknown(&elsewhere.url("/a"))), "E-FETCH-TLS", Exit::Undecided);
    // Plain HTTP where TLS is expected.
    let url = plain.url("/a").replace("http://", "https://");
    assert_eq!(bench.file(&unknown(&url)).unwrap_err().exit(), Exit::Undecided);
}

/// A server that answers in plain HTTP is no matter of certificates.
#[test]
fn no_tls_at_all() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/a", listener.local_addr().unwrap());
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 16384];
        let _ = std::io::Read::read(&mut stream, &mut hello).unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let said = fails(Bench::new().file(&unknown(&url)), "E-FETCH-TLS", Exit::Undecided);
    assert!(said.contains("the server does not speak TLS there") && !said.contains("--ca-file"), "{said}");
    answer.join().unwrap();
}
