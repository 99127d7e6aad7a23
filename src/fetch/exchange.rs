//! One question and its answer: proxies, redirects, who asks.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::{self, HeaderMap, HeaderName, Method, header};
use ureq::{Body, SendBody};

use super::agents::Agents;
use super::auth::{Challenge, Keys, Logins, Scope};
use super::error::{Cause, FetchError, too_many_redirects};
use super::private::leads_inside;
use super::proxy::Proxies;
use super::retry::{self, Pace, Patience};
use super::{Secret, Surroundings};
use crate::base64;
use crate::limits;
use crate::url::{Scheme, Url};

/// A file, or a part of it, that is asked for.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) url: &'a Url,
    /// Plain HTTP to other machines is no risk: what comes is checked otherwise.
    pub(super) plain: bool,
    /// Who asks for what, when it is a registry that is asked.
    pub(super) scope: Option<&'a Scope>,
    /// The media types that are understood.
    pub(super) accept: &'a str,
    /// Only what comes behind so many bytes.
    pub(super) from: u64,
    /// …if it is still what this validator stands for.
    pub(super) validator: Option<&'a str>,
}

/// Any request.
pub(super) struct Message<'a, 'p> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) payload: &'a Payload<'p>,
    /// It may go over plain HTTP to other machines.
    pub(super) plain: bool,
    /// Who asks for what, when it is a registry that is asked.
    pub(super) scope: Option<&'a Scope>,
    /// Where the server sends is where it goes.
    pub(super) follow: bool,
}

/// What goes with a request.
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many bytes of a reader that is opened for each attempt.
    Stream {
        /// How many.
        size: u64,
        /// Opens it, at its beginning.
        open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>,
    },
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Who answered, when it is not who was asked.
    pub(super) elsewhere: Option<Url>,
    pub(super) body: Box<dyn Read>,
}

/// Why there is no answer, or no whole one.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) cause: Cause,
    /// Who is in trouble, when it is not who was asked.
    pub(super) elsewhere: Option<Url>,
    /// How long the server wants to be left alone.
    pub(super) asked: Option<Duration>,
}

impl From<Cause> for Trouble {
    fn from(cause: Cause) -> Trouble {
        Trouble { cause, elsewhere: None, asked: None }
    }
}

impl Answer {
    /// The text of a header, when it is there and text.
    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server wants to be left alone.
    pub(super) fn asked(&self) -> Option<Duration> {
        retry::asked(self.header(header::RETRY_AFTER)?, self.header(header::DATE))
    }

    /// The status, as trouble.
    pub(super) fn trouble(self) -> Trouble {
        let asked = self.asked();
        let cause = Cause::Status { status: self.status, asked: asked.map(|asked| asked.as_secs()) };
        Trouble { cause, elsewhere: self.elsewhere, asked }
    }

    /// How long the body is, when that is told.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH).and_then(|text| text.trim().parse().ok())
    }
}

/// All servers.
pub(super) struct Web {
    proxies: Proxies,
    patience: Patience,
    agents: Agents,
    keys: Keys,
}

impl Web {
    pub(super) fn new(proxies: Proxies, patience: Patience, ca_file: Option<PathBuf>, logins: Logins) -> Web {
        Web { proxies, patience, agents: Agents::new(ca_file), keys: Keys::new(logins) }
    }

    /// What is known to tell registries.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// True when a proxy is asked for this address.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        !matches!(self.proxies.of(url), Ok(None))
    }

    /// Asks for a file, and goes where the server sends. User and password of the address are sent to its own origin only.
    ///
    /// Inner errors are those of attempts; the outer are no fault of any server.
    pub(super) fn ask(
        &self,
        question: &Question<'_>,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<Answer, Trouble>, FetchError> {
        let mut headers = vec![(header::ACCEPT, question.accept.to_owned())];
        if question.from > 0 {
            headers.push((header::RANGE, format!("bytes={}-", question.from)));
            headers.extend(question.validator.map(|validator| (header::IF_RANGE, validator.to_owned())));
        }
        let message = Message {
            method: Method::GET,
            url: question.url,
            headers,
            payload: &Payload::None,
            plain: question.plain,
            scope: question.scope,
            follow: true,
        };
        Ok(match self.send(&message, surroundings)? {
            Ok(answer) if matches!(answer.status, 200 | 206) => Ok(answer),
            Ok(answer) => Err(answer.trouble()),
            Err(trouble) => Err(trouble),
        })
    }

    /// Sends a request. What a registry is told of who asks goes to its own origin only.
    ///
    /// Inner errors are those of attempts; the outer are no fault of any server.
    pub(super) fn send(
        &self,
        message: &Message<'_, '_>,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<Answer, Trouble>, FetchError> {
        let mut url = message.url.clone();
        let safe = |url: &Url| {
            url.scheme() == Scheme::Https
                || url.is_loopback()
                || (message.plain && url.credentials().is_none())
        };
        if !safe(&url) {
            return Err(FetchError::Plain { url: Box::new(url) });
        }
        let mut key = match message.scope {
            Some(scope) => match self.keys.header(&url, scope, None, self, surroundings)? {
                Ok(key) => key,
                Err(trouble) => return Ok(Err(trouble)),
            },
            None => None,
        };
        let mut renewed = false;
        for _ in 0..=limits::REDIRECTS {
            let home = url.same_origin(message.url);
            let elsewhere = (url != *message.url).then(|| url.clone());
            let trouble = |cause| Trouble { cause, elsewhere: elsewhere.clone(), asked: None };
            let response = match self.exchange(message, &url, key.as_ref().filter(|_| home), surroundings)? {
                Ok(response) => response,
                Err(cause) => return Ok(Err(trouble(cause))),
            };
            let (parts, body) = response.into_parts();
            let (status, headers) = (parts.status.as_u16(), parts.headers);
            if let (401, true, false, Some(scope)) = (status, home, renewed, message.scope) {
                renewed = true;
                self.keys.learn(&url, challenge(&headers));
                match self.keys.header(&url, scope, key.as_ref(), self, surroundings)? {
                    Ok(Some(other)) => {
                        key = Some(other);
                        continue;
                    }
                    Ok(None) => {}
                    Err(trouble) => return Ok(Err(trouble)),
                }
            }
            if !(message.follow && matches!(status, 301 | 302 | 303 | 307 | 308)) {
                let body = Box::new(body.into_with_config().reader());
                return Ok(Ok(Answer { status, headers, elsewhere, body }));
            }
            let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let Some(Ok(next)) = location.map(|location| url.join(location)) else {
                let what = "the server sends elsewhere, but not to an address";
                return Ok(Err(trouble(Cause::Redirect(what.into()))));
            };
            if !safe(&next) || (url.scheme(), next.scheme()) == (Scheme::Https, Scheme::Http) {
                let what = format!("the server sends to {next}, which is not encrypted");
                return Ok(Err(trouble(Cause::Redirect(what))));
            }
            if let Err(cause) = self.stays_outside(message, &url, &next) {
                return Ok(Err(trouble(cause)));
            }
            url = next;
        }
        Ok(Err(too_many_redirects().into()))
    }

    /// Nobody may send into a network that he is not in himself; of registries names are looked up too.
    fn stays_outside(&self, message: &Message<'_, '_>, from: &Url, to: &Url) -> Result<(), Cause> {
        if !from.may_lead_to(to) {
            let what = format!("the server sends to {to}, which is not for the network it is in");
            return Err(Cause::Redirect(what));
        }
        match message.scope.is_some() && leads_inside(from, to, self.is_proxied(to)) {
            true => Err(Cause::Redirect(format!(
                "the server sends to {to}, which is in a private network, and it is not"
            ))),
            false => Ok(()),
        }
    }

    /// Asks one server.
    fn exchange(
        &self,
        message: &Message<'_, '_>,
        url: &Url,
        key: Option<&Secret>,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<http::Response<Body>, Cause>, FetchError> {
        let proxy = self.proxies.of(url)?;
        let agent = self.agents.of(url.scheme(), proxy, &self.patience, surroundings)?;
        let mut request = http::Request::builder()
            .method(message.method.clone())
            .uri(url.bare())
            // What is hashed is what lies on the server.
            .header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in &message.headers {
            request = request.header(name, value);
        }
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, key.open());
        } else if let Some(credentials) = url.credentials() {
            let pair = format!("{}:{}", credentials.user, credentials.password);
            request =
                request.header(header::AUTHORIZATION, format!("Basic {}", base64::encode(pair.as_bytes())));
        }
        let built = |request: http::request::Builder, size: Option<u64>| match size {
            Some(size) => request.header(header::CONTENT_LENGTH, size).body(()),
            None => request.body(()),
        };
        let answer = if message.method == Method::PUT { self.patience.commit } else { self.patience.answer };
        let sent = match message.payload {
            Payload::None => match built(request, None) {
                Ok(request) => run(agent, request, answer),
                Err(_) => return Ok(Err(Cause::Request)),
            },
            Payload::Bytes(bytes) => match built(request, Some(bytes.len() as u64)) {
                Ok(request) => run(agent, request.map(|()| *bytes), answer),
                Err(_) => return Ok(Err(Cause::Request)),
            },
            Payload::Stream { size, open } => {
                let inner = match open() {
                    Ok(reader) => reader.take(*size),
                    Err(error) => return Ok(Err(Cause::Source(error))),
                };
                let mut reader = Sending {
                    inner,
                    pace: Pace::new(&self.patience, surroundings.now()),
                    sent: 0,
                    surroundings,
                    cause: None,
                };
                let sent = match built(request, Some(*size)) {
                    Ok(request) => run(agent, request.map(|()| SendBody::from_reader(&mut reader)), answer),
                    Err(_) => return Ok(Err(Cause::Request)),
                };
                // What this side gave up for is not the fault of the connection.
                match (sent, reader.cause.take()) {
                    (Err(_), Some(cause)) => return Ok(Err(cause)),
                    (sent, _) => sent,
                }
            }
        };
        Ok(sent.map_err(|error| match error {
            ureq::Error::Timeout(ureq::Timeout::RecvResponse) => Cause::Silence(answer.as_secs()),
            error => self.cause(error, url),
        }))
    }

    /// The whole body of an answer, of at most `most` bytes; nothing when there is more.
    pub(super) fn whole(
        &self,
        mut answer: Answer,
        url: &Url,
        most: u64,
        surroundings: &dyn Surroundings,
    ) -> Result<Option<Vec<u8>>, Cause> {
        let total = answer.length();
        if total.is_some_and(|total| total > most) {
            return Ok(None);
        }
        let mut pace = Pace::new(&self.patience, surroundings.now());
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let have = bytes.len() as u64;
            match answer.body.read(&mut buffer) {
                Ok(0) if total.is_some_and(|total| have < total) => {
                    return Err(Cause::Cut { have, of: total });
                }
                Ok(0) => return Ok(Some(bytes)),
                Ok(count) => {
                    bytes.extend_from_slice(&buffer[..count]);
                    if bytes.len() as u64 > most {
                        return Ok(None);
                    }
                    pace.came(count as u64, surroundings.now())?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let url = answer.elsewhere.as_ref().unwrap_or(url);
                    return Err(self.body_cause(error, have, total, url));
                }
            }
        }
    }

    /// What the library's error means. Its own words are not used where they could hold an address.
    fn cause(&self, error: ureq::Error, url: &Url) -> Cause {
        let proxy = self.proxies.of(url).ok().flatten();
        let peer = || match proxy {
            Some(proxy) => format!("{}:{} through the proxy {proxy}", url.host(), url.port()),
            None => format!("{}:{}", url.host(), url.port()),
        };
        match error {
            ureq::Error::Io(error) if tls_error(&error).is_some() => Cause::Tls(peer(), tls_error(&error)),
            ureq::Error::Io(error) if error.to_string().contains("lookup address") => {
                Cause::Name(Some(error))
            }
            ureq::Error::Io(error) => Cause::Connection(peer(), error),
            ureq::Error::Rustls(error) => Cause::Tls(peer(), Some(Box::new(error))),
            ureq::Error::Tls(_) | ureq::Error::TlsRequired => Cause::Tls(peer(), None),
            ureq::Error::HostNotFound => Cause::Name(None),
            ureq::Error::ConnectionFailed => {
                Cause::Connection(peer(), io::ErrorKind::ConnectionRefused.into())
            }
            ureq::Error::ConnectProxyFailed(reason) => {
                let name = proxy.map(ToString::to_string).unwrap_or_default();
                Cause::Proxy(name, reason.chars().take(200).collect())
            }
            ureq::Error::Timeout(timeout) => self.silence(timeout),
            ureq::Error::Protocol(error) => Cause::Protocol(error.to_string().chars().take(200).collect()),
            ureq::Error::LargeResponseHeader(..) => {
                Cause::Protocol("the head of its answer is too large".into())
            }
            _ => Cause::Request,
        }
    }

    /// What ended a body.
    pub(super) fn body_cause(&self, error: io::Error, have: u64, of: Option<u64>, url: &Url) -> Cause {
        match ureq::Error::from(error) {
            ureq::Error::Timeout(timeout) => self.silence(timeout),
            ureq::Error::Protocol(error) => Cause::Protocol(error.to_string().chars().take(200).collect()),
            // A connection that ends without TLS saying so is as good as cut.
            ureq::Error::Io(error)
                if tls_error(&error).is_some_and(|_| error.kind() != io::ErrorKind::UnexpectedEof) =>
            {
                Cause::Tls(url.host().to_owned(), tls_error(&error))
            }
            _ => Cause::Cut { have, of },
        }
    }

    fn silence(&self, timeout: ureq::Timeout) -> Cause {
        let time = match timeout {
            ureq::Timeout::RecvResponse => self.patience.answer,
            ureq::Timeout::PerRead => self.patience.silence,
            _ => self.patience.connect,
        };
        Cause::Silence(time.as_secs())
    }
}

/// Sends a request, and waits so long for the head of its answer.
fn run<S: ureq::AsSendBody>(
    agent: &ureq::Agent,
    request: http::Request<S>,
    answer: Duration,
) -> Result<http::Response<Body>, ureq::Error> {
    agent.run(agent.configure_request(request).timeout_recv_response(Some(answer)).build())
}

/// A body on its way: the server must take it at a certain pace.
struct Sending<'a, R> {
    inner: R,
    pace: Pace<'a>,
    /// What was given last, and has gone when more is asked for.
    sent: u64,
    surroundings: &'a dyn Surroundings,
    /// Why this side gave up.
    cause: Option<Cause>,
}

impl<R: Read> Read for Sending<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Err(cause) = self.pace.came(self.sent, self.surroundings.now()) {
            self.cause = Some(cause);
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self.inner.read(out) {
            Ok(count) => {
                self.sent = count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.cause = Some(Cause::Source(error));
                Err(kind.into())
            }
        }
    }
}

/// The error of TLS inside one of reading or writing.
fn tls_error(error: &io::Error) -> Option<Box<dyn std::error::Error + Send + Sync>> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(Box::new(inner.clone()))
}

/// What a server asks for when it says that it does not know who asks.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    Challenge::of(values.filter_map(|value| value.to_str().ok()))
}
