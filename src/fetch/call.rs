//! Requests to registries whose answers are small: sent again when they fail and that is no harm.

use ureq::http::{self, HeaderMap, HeaderName, header};

use super::Fetcher;
use super::auth::Scope;
use super::error::{Cause, FetchError};
use super::exchange::{Message, Payload, Trouble, challenge};
use super::retry::Attempts;
use crate::url::Url;

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
pub struct Call<'a> {
    /// What is done.
    pub method: Method,
    /// Where.
    pub url: &'a Url,
    /// Names, in lower case, and values of headers.
    pub headers: &'a [(&'static str, String)],
    /// What goes with it.
    pub payload: Payload<'a>,
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

    /// The texts of all headers of this name.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }
}

impl Fetcher<'_> {
    /// Sends a request to a registry. An error of the server that may pass is one when it did not.
    pub fn call(&self, call: &Call<'_>) -> Result<Reply, FetchError> {
        if self.settings.offline {
            return Err(FetchError::Offline { urls: vec![call.url.clone()] });
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

    /// True when registries on other machines may be spoken to without encryption.
    pub fn is_plain(&self) -> bool {
        self.settings.plain_http
    }

    fn once(&self, call: &Call<'_>) -> Result<Result<Reply, Trouble>, FetchError> {
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
        let asked =
            reply.header("retry-after").and_then(|value| super::retry::asked(value, reply.header("date")));
        let cause = Cause::Status { status: reply.status, asked: asked.map(|asked| asked.as_secs()) };
        Trouble { cause, elsewhere: None, asked }
    }
}

fn message<'a, 'p>(call: &'a Call<'p>) -> Message<'a, 'p> {
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
