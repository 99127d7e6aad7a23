//! Requests to registries whose answers are small: sent again when they fail and that is no harm.

use std::time::Duration;

use ureq::http::{self, HeaderMap, HeaderName, header};

use super::auth::Scope;
use super::error::{Cause, FetchError};
use super::exchange::{Message, Payload, Trouble, challenge};
use super::private::leads_inside;
use super::retry::Attempts;
use super::{Fetcher, retry};
use crate::url::{Scheme, Url};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// It is read.
    Get,
    /// Whether it is there.
    Head,
    /// Something new.
    Post,
    /// Something more.
    Patch,
    /// All of it.
    Put,
    /// It goes.
    Delete,
}

/// A request.
pub struct Call<'a, 'p> {
    /// What is done.
    pub method: Method,
    /// Where.
    pub url: &'a Url,
    /// Names, in lower case, and values of headers.
    pub headers: &'a [(&'static str, String)],
    /// What goes with it.
    pub payload: Payload<'p>,
    /// Who does it and in which repository; without it nobody is told who asks.
    pub scope: Option<&'a Scope>,
    /// It may go over plain HTTP to other machines.
    pub plain: bool,
    /// The largest answer.
    pub most: u64,
    /// It may be sent once more when its answer does not come.
    pub again: bool,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Who gave it, after all redirects.
    pub url: Url,
    /// The body; empty when the server sends more of it than was wanted and the status is none of success.
    pub bytes: Vec<u8>,
    headers: HeaderMap,
}

impl Reply {
    /// The text of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server wants to be left alone.
    pub fn asked(&self) -> Option<Duration> {
        retry::asked(self.header("retry-after")?, self.header("date"))
    }

    /// The texts of all headers of this name.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }
}

/// Counts the attempts at something that takes several requests.
#[derive(Debug, Default)]
pub struct Tries(Attempts);

impl Tries {
    /// How many there were.
    pub fn count(&self) -> u32 {
        self.0.count()
    }
}

impl Fetcher<'_> {
    /// An attempt ended with this, so many bytes being there: waits, and says whether there is another attempt.
    pub fn once_more(
        &self,
        tries: &mut Tries,
        url: &Url,
        there: u64,
        cause: &Cause,
        asked: Option<Duration>,
    ) -> Result<bool, FetchError> {
        match tries.0.next(self.patience(), there, asked, self.surroundings.chance()) {
            Some(wait) => {
                self.listener.retry(url, cause, wait);
                self.pause(url, wait)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Whether a registry may send from the one address to the other: not to where nothing is encrypted while it is itself, nor
    /// into a private network that it is not in.
    pub fn may_go(&self, from: &Url, to: &Url) -> Result<(), FetchError> {
        let what = if (from.scheme(), to.scheme()) == (Scheme::Https, Scheme::Http) {
            "which is not encrypted"
        } else if leads_inside(from, to, self.web.is_proxied(to)) {
            "which is in a private network, and it is not"
        } else {
            return Ok(());
        };
        let cause = Box::new(Cause::Redirect(format!("the server sends to {to}, {what}")));
        Err(FetchError::Failed { url: Box::new(from.clone()), at: None, attempts: 1, cause })
    }

    /// Sends a request to a registry. An error of the server that may pass is one when it did not.
    pub fn call(&self, call: &Call<'_, '_>) -> Result<Reply, FetchError> {
        if self.settings.offline {
            return Err(FetchError::Offline { urls: vec![call.url.clone()], damaged: 0 });
        }
        let mut attempts = Attempts::default();
        loop {
            let (trouble, reply) = match self.once(call)? {
                Ok(reply) if !Cause::of_status(reply.status).passes() => return Ok(reply),
                Ok(reply) => (Trouble::of(&reply), Some(reply)),
                Err(trouble) => (trouble, None),
            };
            let wait = attempts.next(self.patience(), 0, trouble.asked, self.surroundings.chance());
            match wait.filter(|_| call.again && trouble.cause.passes()) {
                Some(wait) => {
                    self.listener.retry(call.url, &trouble.cause, wait);
                    self.pause(call.url, wait)?;
                }
                None => {
                    return reply.map_or_else(
                        || {
                            Err(FetchError::Failed {
                                url: Box::new(call.url.clone()),
                                at: trouble.elsewhere.map(Box::new),
                                attempts: attempts.count(),
                                cause: Box::new(trouble.cause),
                            })
                        },
                        Ok,
                    );
                }
            }
        }
    }

    /// Notes what a registry asks for, by its answer; false when that is nothing that can be given.
    pub fn learn(&self, reply: &Reply) -> bool {
        self.web.keys().learn(&reply.url, challenge(&reply.headers))
    }

    /// Which credentials a registry is told, for people; never they themselves.
    pub fn told(&self, scope: &Scope) -> String {
        self.web.keys().told(scope)
    }

    /// How much of an upload goes at once.
    pub fn piece(&self) -> u64 {
        self.settings.patience.piece
    }

    /// True when registries on other machines may be spoken to without encryption.
    pub fn is_plain(&self) -> bool {
        self.settings.plain_http
    }

    fn once(&self, call: &Call<'_, '_>) -> Result<Result<Reply, Trouble>, FetchError> {
        let (message, web) = (message(call), &self.web);
        let answer = match web.send(&message, self.surroundings)? {
            Ok(answer) => answer,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let (status, headers, elsewhere) = (answer.status, answer.headers.clone(), answer.elsewhere.clone());
        let is_framed = answer.length().is_some() || headers.contains_key(header::TRANSFER_ENCODING);
        if call.method == Method::Get && status == 200 && !is_framed {
            return Ok(Err(Trouble { elsewhere, ..Cause::Length { page: true }.into() }));
        }
        let url = elsewhere.clone().unwrap_or_else(|| call.url.clone());
        let bytes = match call.method {
            Method::Head => Some(Vec::new()),
            _ => match web.whole(answer, &url, call.most, self.surroundings) {
                Ok(bytes) => bytes,
                Err(cause) => return Ok(Err(Trouble { elsewhere, ..cause.into() })),
            },
        };
        match bytes {
            Some(bytes) => Ok(Ok(Reply { status, url, bytes, headers })),
            None if !(200..300).contains(&status) => {
                Ok(Ok(Reply { status, url, bytes: Vec::new(), headers }))
            }
            None => Err(FetchError::Large { url: Box::new(call.url.clone()), limit: call.most }),
        }
    }
}

impl Trouble {
    fn of(reply: &Reply) -> Trouble {
        let asked = reply.asked();
        let cause = Cause::Status { status: reply.status, asked: asked.map(|asked| asked.as_secs()) };
        Trouble { cause, elsewhere: None, asked }
    }
}

fn message<'a, 'p>(call: &'a Call<'a, 'p>) -> Message<'a, 'p> {
    let method = match call.method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Patch => http::Method::PATCH,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
    };
    let headers = call.headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone()));
    Message {
        method,
        url: call.url,
        headers: headers.collect(),
        payload: &call.payload,
        plain: call.plain,
        scope: call.scope,
        follow: matches!(call.method, Method::Get | Method::Head),
    }
}
