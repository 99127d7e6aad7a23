//! A server on the loopback whose answers a test writes, faults included; with TLS of an authority made for the test.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The method.
    pub(crate) method: String,
    /// What stands behind the method: a path, or `host:port` of CONNECT.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    /// What came with it, when its length was told.
    pub(crate) body: Vec<u8>,
    /// How many requests for this target there were before.
    pub(crate) before: usize,
}

impl Asked {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    head: String,
    body: Vec<u8>,
    end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// The connection is closed after so many bytes of the head.
    CutHead(usize),
    /// After so many bytes of the body nothing comes any more.
    Silent(usize),
    /// The body comes byte by byte.
    Drip,
    /// Head and body come byte by byte.
    Trickle,
    /// The body comes again and again.
    Endless,
}

impl Reply {
    /// A status line, header lines and a body; its length is told unless a header says how long it is.
    pub(crate) fn new(status: &str, headers: &[&str], body: &[u8]) -> Reply {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        let framed = |line: &&str| {
            let line = line.to_lowercase();
            line.starts_with("content-length:")
                || line.starts_with("transfer-encoding:")
                || line == "unframed"
        };
        let mut lines: Vec<String> =
            headers.iter().filter(|line| **line != "unframed").map(|line| line.to_string()).collect();
        if !headers.iter().any(framed) {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        for line in lines {
            head.push_str(&line);
            head.push_str("\r\n");
        }
        Reply { head: head + "\r\n", body: body.to_vec(), end: End::Whole }
    }

    /// A whole file.
    pub(crate) fn ok(body: &[u8]) -> Reply {
        Reply::new("200 OK", &[], body)
    }

    /// A file, or what of it is asked for, with an entity tag that counts.
    pub(crate) fn file(asked: &Asked, tag: Option<&str>, body: &[u8]) -> Reply {
        let tag_line = tag.map(|tag| format!("ETag: {tag}"));
        let mut headers: Vec<&str> = tag_line.iter().map(String::as_str).collect();
        let fits = asked.header("if-range").is_none_or(|wanted| Some(wanted) == tag);
        let from = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        match from.and_then(|from| from.parse::<usize>().ok()).filter(|_| fits) {
            Some(from) if from >= body.len() => Reply::new("416 Range Not Satisfiable", &[], b""),
            Some(from) => {
                let range = format!("Content-Range: bytes {from}-{}/{}", body.len() - 1, body.len());
                headers.push(&range);
                Reply::new("206 Partial Content", &headers, &body[from..])
            }
            None => Reply::new("200 OK", &headers, body),
        }
    }

    /// To another address.
    pub(crate) fn redirect(status: u16, to: &str) -> Reply {
        Reply::new(&format!("{status} Elsewhere"), &[&format!("Location: {to}")], b"")
    }

    /// Bytes that are no HTTP.
    pub(crate) fn raw(bytes: &str) -> Reply {
        Reply { head: bytes.to_owned(), body: Vec::new(), end: End::Whole }
    }

    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// How many bytes stand before the body.
    pub(crate) fn head(&self) -> usize {
        self.head.len()
    }

    /// The body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same answer, with another header line.
    pub(crate) fn also(mut self, line: &str) -> Reply {
        let end = self.head.len() - 2;
        self.head.insert_str(end, &format!("{line}\r\n"));
        self
    }

    /// The head and the beginning of the body, as if that were all of it.
    pub(crate) fn bodiless(mut self) -> Reply {
        self.body.clear();
        self
    }

    /// The same answer, ending otherwise.
    pub(crate) fn ends(mut self, end: End) -> Reply {
        self.end = end;
        self
    }
}

/// A running server; it stops when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

/// Where a request is cut.
type Short = dyn Fn(&Asked) -> Option<usize> + Send + Sync;

struct Shared {
    asked: Mutex<Vec<Asked>>,
    stopped: AtomicBool,
    /// Connections now, and the most at once.
    open: AtomicUsize,
    most: AtomicUsize,
    handler: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
    /// How much is taken of the body that follows such a head, before the connection is closed without an answer.
    short: Box<Short>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Server {
    /// Speaks plain HTTP.
    pub(crate) fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        Server::run(None, Box::new(handler), Box::new(|_| None))
    }

    /// The same; some requests are cut in the middle.
    pub(crate) fn start_short(
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        short: impl Fn(&Asked) -> Option<usize> + Send + Sync + 'static,
    ) -> Server {
        Server::run(None, Box::new(handler), Box::new(short))
    }

    /// Speaks HTTPS, with a certificate of this authority for these names.
    pub(crate) fn start_tls(
        authority: &Authority,
        names: &[&str],
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::run(Some(authority.server(names)), Box::new(handler), Box::new(|_| None))
    }

    fn run(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
        short: Box<Short>,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            asked: Mutex::default(),
            stopped: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            handler,
            short,
            tls: tls.clone(),
        });
        let accepting = {
            let shared = shared.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if shared.stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
                        shared.most.fetch_max(open, Ordering::SeqCst);
                        // A client that goes away early is what some tests are about.
                        let _ = stream.and_then(|stream| serve(stream, &shared));
                        shared.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            })
        };
        Server { address, tls: tls.is_some(), shared, accepting: Some(accepting) }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port())
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many connections there were at once.
    pub(crate) fn most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // So that it comes back from waiting for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let raw = stream.try_clone()?;
    match &shared.tls {
        None => converse(stream, &raw, shared),
        Some(config) => {
            let connection = rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            converse(rustls::StreamOwned::new(connection, stream), &raw, shared)
        }
    }
}

fn converse(mut stream: impl Read + Write, raw: &TcpStream, shared: &Shared) -> io::Result<()> {
    let Some((mut asked, short)) = read(&mut stream, &shared.short)? else { return Ok(()) };
    {
        let mut all = shared.asked.lock().unwrap();
        asked.before = all.iter().filter(|other| other.target == asked.target).count();
        let Asked { method, target, headers, before, .. } = &asked;
        let (method, target, headers) = (method.clone(), target.clone(), headers.clone());
        all.push(Asked { method, target, headers, body: Vec::new(), before: *before });
    }
    if asked.method == "CONNECT" {
        return tunnel(stream, &asked, shared);
    }
    let reply = (shared.handler)(&asked);
    if short {
        return raw.shutdown(Shutdown::Both);
    }
    let drip = |stream: &mut dyn Write, bytes: &[u8]| {
        for byte in bytes {
            stream.write_all(&[*byte])?;
            stream.flush()?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok::<(), io::Error>(())
    };
    match reply.end {
        End::CutHead(at) => {
            stream.write_all(&reply.head.as_bytes()[..at])?;
            stream.flush()?;
            return raw.shutdown(Shutdown::Both);
        }
        End::Trickle => drip(&mut stream, reply.head.as_bytes())?,
        _ => stream.write_all(reply.head.as_bytes())?,
    }
    match reply.end {
        End::CutHead(_) => {}
        End::Whole => stream.write_all(&reply.body)?,
        End::Cut(at) => {
            stream.write_all(&reply.body[..at])?;
            stream.flush()?;
            return raw.shutdown(Shutdown::Both);
        }
        End::Silent(at) => {
            stream.write_all(&reply.body[..at])?;
            stream.flush()?;
            while !shared.stopped.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        End::Drip | End::Trickle => drip(&mut stream, &reply.body)?,
        End::Endless => loop {
            stream.write_all(&reply.body)?;
        },
    }
    stream.flush()?;
    raw.shutdown(Shutdown::Write)
}

/// Plays the proxy and, behind it, whatever host was asked for.
fn tunnel(mut stream: impl Read + Write, connect: &Asked, shared: &Shared) -> io::Result<()> {
    if connect.target.starts_with("refused.") {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    stream.flush()?;
    let Some((asked, _)) = read(&mut stream, &|_| None)? else { return Ok(()) };
    shared.asked.lock().unwrap().push(asked.clone());
    let reply = (shared.handler)(&asked);
    stream.write_all(reply.head.as_bytes())?;
    stream.write_all(&reply.body)?;
    stream.flush()
}

/// A request, and whether no more of it is taken; nothing when none comes.
fn read(
    stream: &mut impl Read,
    short: &dyn Fn(&Asked) -> Option<usize>,
) -> io::Result<Option<(Asked, bool)>> {
    // Byte by byte: what follows the head belongs to whoever reads next.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first().map(String::as_str).unwrap_or_default().split(' ');
    let mut word = || first.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut asked = Asked { method, target, headers, body: Vec::new(), before: 0 };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let most = short(&asked);
    let length = most.map_or(length, |most| most.min(length));
    asked.body = vec![0; length];
    let Asked { body, .. } = &mut asked;
    // One that goes away in the middle leaves what came of it.
    let mut have = 0;
    while have < length {
        match reader.read(&mut body[have..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => have += count,
        }
    }
    body.truncate(have);
    Ok(Some((asked, most.is_some())))
}

/// A certificate authority that lives as long as the test.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "dmoci test authority");
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Its certificate, in PEM form.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Its certificate, as DER.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    fn server(&self, names: &[&str]) -> Arc<rustls::ServerConfig> {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate =
            rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate)], key)
            .unwrap();
        Arc::new(config)
    }
}
