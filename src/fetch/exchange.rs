//! One question and its answer: connections, TLS, proxies, redirects.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::http::{HeaderMap, HeaderName, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::Surroundings;
use super::error::{Cause, FetchError, too_many_redirects};
use super::proxy::{Proxies, Proxy};
use super::retry::{self, Patience};
use crate::limits;
use crate::url::{Scheme, Url};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) url: &'a Url,
    /// Plain HTTP to other machines is no risk: what comes is checked otherwise.
    pub(super) plain: bool,
    /// The media types that are understood.
    pub(super) accept: &'a str,
    /// Only what comes behind so many bytes.
    pub(super) from: u64,
    /// …if it is still what this validator stands for.
    pub(super) validator: Option<&'a str>,
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    /// 200 or 206.
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
}

/// Connections of this process to all servers.
pub(super) struct Web {
    proxies: Proxies,
    patience: Patience,
    ca_file: Option<PathBuf>,
    /// Without a proxy, for http through one, for https through one.
    agents: [OnceLock<Agent>; 3],
    roots: OnceLock<Arc<Vec<Certificate<'static>>>>,
}

impl Web {
    pub(super) fn new(proxies: Proxies, patience: Patience, ca_file: Option<PathBuf>) -> Web {
        Web { proxies, patience, ca_file, agents: Default::default(), roots: OnceLock::new() }
    }

    /// Asks, and goes where the server sends. User and password of the address are sent to its own origin only.
    ///
    /// Inner errors are those of attempts; the outer are no fault of any server.
    pub(super) fn ask(
        &self,
        question: &Question<'_>,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<Answer, Trouble>, FetchError> {
        let mut url = question.url.clone();
        let safe = |url: &Url| {
            url.scheme() == Scheme::Https
                || url.is_loopback()
                || (question.plain && url.credentials().is_none())
        };
        if !safe(&url) {
            return Err(FetchError::Plain { url: Box::new(url) });
        }
        for _ in 0..=limits::REDIRECTS {
            let elsewhere = (url != *question.url).then(|| url.clone());
            let trouble = |cause| Trouble { cause, elsewhere: elsewhere.clone(), asked: None };
            let response = match self.exchange(question, &url, surroundings)? {
                Ok(response) => response,
                Err(cause) => return Ok(Err(trouble(cause))),
            };
            let (parts, body) = response.into_parts();
            let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
            match parts.status.as_u16() {
                status @ (200 | 206) => {
                    let body = Box::new(body.into_with_config().reader());
                    return Ok(Ok(Answer { status, headers: parts.headers, elsewhere, body }));
                }
                301 | 302 | 303 | 307 | 308 => {
                    let next = match text(header::LOCATION).map(|location| url.join(location)) {
                        Some(Ok(next)) => next,
                        _ => {
                            let what = "the server sends elsewhere, but not to an address";
                            return Ok(Err(trouble(Cause::Redirect(what.into()))));
                        }
                    };
                    if !safe(&next) || (url.scheme(), next.scheme()) == (Scheme::Https, Scheme::Http) {
                        let what = format!("the server sends to {next}, which is not encrypted");
                        return Ok(Err(trouble(Cause::Redirect(what))));
                    }
                    if !url.may_lead_to(&next) {
                        let what =
                            format!("the server sends to {next}, which is not for the network it is in");
                        return Ok(Err(trouble(Cause::Redirect(what))));
                    }
                    url = next;
                }
                status => {
                    let asked =
                        text(header::RETRY_AFTER).and_then(|value| retry::asked(value, text(header::DATE)));
                    let cause = Cause::Status { status, asked: asked.map(|asked| asked.as_secs()) };
                    return Ok(Err(Trouble { cause, elsewhere, asked }));
                }
            }
        }
        Ok(Err(too_many_redirects().into()))
    }

    /// Asks one server.
    fn exchange(
        &self,
        question: &Question<'_>,
        url: &Url,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<ureq::http::Response<Body>, Cause>, FetchError> {
        let proxy = self.proxies.of(url)?;
        let mut request = self
            .agent(url.scheme(), proxy, surroundings)?
            .get(url.bare())
            .header(header::ACCEPT, question.accept)
            // What is hashed is what lies on the server.
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(credentials) = url.credentials() {
            let pair = format!("{}:{}", credentials.user, credentials.password);
            request = request.header(header::AUTHORIZATION, format!("Basic {}", base64(pair.as_bytes())));
        }
        if question.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", question.from));
            if let Some(validator) = question.validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        Ok(request.call().map_err(|error| self.cause(error, url)))
    }

    fn agent(
        &self,
        scheme: Scheme,
        proxy: Option<&Proxy>,
        surroundings: &dyn Surroundings,
    ) -> Result<&Agent, FetchError> {
        let slot = match (proxy, scheme) {
            (None, _) => &self.agents[0],
            (Some(_), Scheme::Http) => &self.agents[1],
            (Some(_), Scheme::Https) => &self.agents[2],
        };
        if let Some(agent) = slot.get() {
            return Ok(agent);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(self.roots(surroundings)?))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // Without this line ureq would look into the environment.
            .proxy(proxy.map(|proxy| proxy.inner.clone()))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("dmoci/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(limits::HTTP_HEAD_BYTES)
            .timeout_resolve(Some(self.patience.connect))
            .timeout_connect(Some(self.patience.connect))
            .timeout_send_request(Some(self.patience.connect))
            .timeout_recv_response(Some(self.patience.answer))
            .timeout_per_read(Some(self.patience.silence))
            .build();
        Ok(slot.get_or_init(|| config.new_agent()))
    }

    /// The authorities that are trusted: the system's and those of the user's own file.
    fn roots(&self, surroundings: &dyn Surroundings) -> Result<Arc<Vec<Certificate<'static>>>, FetchError> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut roots: Vec<Certificate<'static>> =
            surroundings.roots().iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        if let Some(path) = &self.ca_file {
            let failed = |source| FetchError::CaFile { path: path.clone(), source };
            let mut pem = Vec::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(limits::CA_FILE_BYTES).read_to_end(&mut pem))
                .map_err(|error| failed(Some(error)))?;
            let own: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| failed(None))?;
            let usable = rustls::RootCertStore::empty().add_parsable_certificates(own.iter().cloned()).0;
            if usable == 0 {
                return Err(failed(None));
            }
            roots.extend(own.iter().map(|der| Certificate::from_der(der).to_owned()));
        }
        Ok(self.roots.get_or_init(|| Arc::new(roots)).clone())
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

/// The error of TLS inside one of reading or writing.
fn tls_error(error: &io::Error) -> Option<Box<dyn std::error::Error + Send + Sync>> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(Box::new(inner.clone()))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let index = (bits >> (18 - 6 * i) & 63) as usize;
            out.push(if i > chunk.len() { '=' } else { char::from(ALPHABET[index]) });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn known_answers_of_base64() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
