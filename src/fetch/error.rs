//! Why something could not be fetched.

use std::io;
use std::path::PathBuf;

use dmoci_layers::Digest;

use super::auth::AuthError;
use super::proxy::ProxyError;
use crate::cache::CacheError;
use crate::diagnostic::{Diagnostic, Exit, few};
use crate::limits;
use crate::url::Url;

/// Why something could not be fetched. Addresses are shown without what is secret in them.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody gave it, however often it was tried.
    #[error("cannot fetch {url}{}", after(*attempts, at.as_deref()))]
    Failed {
        /// What was asked for.
        url: Box<Url>,
        /// Where that led to, when it led elsewhere.
        at: Option<Box<Url>>,
        /// How often it was tried.
        attempts: u32,
        /// How the last attempt ended.
        #[source]
        cause: Box<Cause>,
    },
    /// The network is not to be used, and these are not in the cache.
    #[error("{}", missing(urls, *damaged))]
    Offline {
        /// What is missing; at least one.
        urls: Vec<Url>,
        /// How many of them were there, damaged.
        damaged: usize,
    },
    /// The address is not encrypted, and nothing else tells whether the content is right.
    #[error("{url} is not encrypted, so anybody on the way could change what it gives")]
    Plain {
        /// The address.
        url: Box<Url>,
    },
    /// What came has another digest than expected.
    #[error("{url} gives something else than expected: expected {expected}, found {found}")]
    Digest {
        /// The address.
        url: Box<Url>,
        /// What should have come.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// What would come has another size than expected.
    #[error("{url} gives something else than expected: expected {expected} bytes, found {found}")]
    Size {
        /// The address.
        url: Box<Url>,
        /// What should come.
        expected: u64,
        /// What would come: a number, or "more".
        found: String,
    },
    /// It is larger than anything that is fetched.
    #[error("{url} gives more than {limit} bytes")]
    Large {
        /// The address.
        url: Box<Url>,
        /// What may come.
        limit: u64,
    },
    /// Another download failed, so this one was given up.
    #[error("{url} was given up because another download failed")]
    GivenUp {
        /// The address.
        url: Box<Url>,
    },
    /// The file of `--ca-file` cannot be used.
    #[error("{} holds no certificates that can be used", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Option<io::Error>,
    },
    /// The proxy that it would go through cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It cannot be told who asks.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// How one attempt ended.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The host has no address.
    #[error("the name of the host is not known")]
    Name(#[source] Option<io::Error>),
    /// No connection, or none any more.
    #[error("no connection to {0}")]
    Connection(String, #[source] io::Error),
    /// The proxy gave no connection.
    #[error("the proxy {0} gave no connection: {1}")]
    Proxy(String, String),
    /// The connection cannot be encrypted, or the server not be authenticated.
    #[error("no safe connection to {0}")]
    Tls(String, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// Nothing came for too long.
    #[error("the server was silent for {0} seconds")]
    Silence(u64),
    /// The body came too slowly.
    #[error("the server sent less than {0} bytes in {1} seconds")]
    Slow(u64, u64),
    /// The body ended early.
    #[error("the connection was cut after {} bytes", parts(*have, *of))]
    Cut {
        /// What is there.
        have: u64,
        /// What there should be.
        of: Option<u64>,
    },
    /// The server's status is none that gives something.
    #[error("the server answered {status}{}", asked.map(|s| format!(" and asks to come back in {s} seconds")).unwrap_or_default())]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`, in seconds.
        asked: Option<u64>,
    },
    /// What came is not HTTP, or not an answer to what was asked.
    #[error("the server does not speak HTTP as it should: {0}")]
    Protocol(String),
    /// The server sent elsewhere, where dmoci does not go.
    #[error("{0}")]
    Redirect(String),
    /// A page did not come to its end in time.
    #[error("the server took more than {0} seconds for a page")]
    Late(u64),
    /// Nothing tells where the body ends.
    #[error("the server does not say how long it is, so a part could be taken for the whole")]
    Length {
        /// It is a page, of which nobody knows a digest.
        page: bool,
    },
    /// The request cannot be made.
    #[error("the request cannot be made")]
    Request,
    /// What is to be sent cannot be read.
    #[error("what is to be sent cannot be read")]
    Source(#[source] io::Error),
}

impl Cause {
    /// That of an answer.
    pub(super) fn of_status(status: u16) -> Cause {
        Cause::Status { status, asked: None }
    }

    /// True when it may be gone the next time.
    pub fn passes(&self) -> bool {
        match self {
            Cause::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Cause::Proxy(_, reason) => !reason.contains("407"),
            Cause::Tls(..) | Cause::Redirect(_) | Cause::Late(_) | Cause::Length { .. } => false,
            Cause::Request | Cause::Source(_) => false,
            _ => true,
        }
    }
}

impl FetchError {
    /// True when what answered does not speak TLS: not when its certificate is not trusted, nor when nothing answers.
    pub fn is_no_tls(&self) -> bool {
        let FetchError::Failed { cause, .. } = self else { return false };
        match &**cause {
            Cause::Tls(_, Some(error)) => is_plain(&**error),
            Cause::Connection(_, error) => error.kind() != io::ErrorKind::ConnectionRefused,
            Cause::Cut { .. } | Cause::Protocol(_) => true,
            _ => false,
        }
    }

    /// The addresses that it is about.
    pub fn urls(&self) -> &[Url] {
        match self {
            FetchError::Offline { urls, .. } => urls,
            FetchError::Failed { url, .. }
            | FetchError::Plain { url }
            | FetchError::Digest { url, .. }
            | FetchError::Size { url, .. }
            | FetchError::Large { url, .. }
            | FetchError::GivenUp { url } => std::slice::from_ref(url),
            FetchError::CaFile { .. } | FetchError::Proxy(_) | FetchError::Cache(_) | FetchError::Auth(_) => {
                &[]
            }
        }
    }
}

impl Diagnostic for FetchError {
    fn code(&self) -> &'static str {
        match self {
            FetchError::Failed { cause, .. } => match &**cause {
                Cause::Status { .. } => "E-FETCH-STATUS",
                Cause::Tls(..) => "E-FETCH-TLS",
                Cause::Redirect(_) => "E-FETCH-REDIRECT",
                Cause::Length { .. } => "E-FETCH-LENGTH",
                _ => "E-FETCH",
            },
            FetchError::GivenUp { .. } => "E-FETCH",
            FetchError::Offline { .. } => "E-OFFLINE",
            FetchError::Plain { .. } => "E-FETCH-PLAIN",
            FetchError::Digest { .. } | FetchError::Size { .. } => "E-FETCH-DIGEST",
            FetchError::Large { .. } => "E-FETCH-LARGE",
            FetchError::CaFile { .. } => "E-FETCH-CA",
            FetchError::Proxy(error) => error.code(),
            FetchError::Cache(error) => error.code(),
            FetchError::Auth(error) => error.code(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            FetchError::Digest { .. } | FetchError::Size { .. } | FetchError::Large { .. } => Exit::Mismatch,
            FetchError::Plain { .. } | FetchError::CaFile { .. } => Exit::Usage,
            FetchError::Proxy(error) => error.exit(),
            FetchError::Cache(error) => error.exit(),
            FetchError::Auth(error) => error.exit(),
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            FetchError::Failed { cause, .. } => return help(cause).map(str::to_owned),
            FetchError::Offline { .. } => "run it once without --offline".into(),
            FetchError::Plain { .. } => {
                "use https, or say with sha256 what must come; user and password are never sent unencrypted"
                    .into()
            }
            FetchError::Digest { .. } | FetchError::Size { .. } => {
                "look why it changed before you trust it; nothing was written".into()
            }
            FetchError::CaFile { .. } => "name a file of certificates in PEM form".into(),
            FetchError::Proxy(error) => return error.help(),
            FetchError::Cache(error) => return error.help(),
            FetchError::Auth(error) => return error.help(),
            FetchError::Large { .. } | FetchError::GivenUp { .. } => return None,
        })
    }
}

fn help(cause: &Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Status { status: 401 | 403, .. } => {
            "the server wants to know who asks: write https://USER:PASSWORD@HOST/…, with the password from `--set`"
        }
        Cause::Status { status: 404 | 410, .. } => "check the address, and what its placeholders became",
        Cause::Status { status: 429, .. } => "wait a while; this server limits how often it is asked",
        Cause::Late(_) => "try again later, or name another index",
        Cause::Status { .. } | Cause::Cut { .. } | Cause::Slow(..) | Cause::Silence(_) => {
            "try again later; what was fetched so far is kept where its digest is known"
        }
        Cause::Name(_) => "check the spelling of the host, and that this machine can look names up",
        Cause::Proxy(..) => "check http_proxy, https_proxy and no_proxy in the environment",
        Cause::Tls(_, Some(error)) if is_plain(&**error) => {
            "the server does not speak TLS there: name the port where it does, or write http:// and say with sha256 what \
             must come"
        }
        Cause::Tls(..) => {
            "when the server's certificate is of an authority of your own, name it with --ca-file; when this machine has no \
             certificates at all, install ca-certificates"
        }
        Cause::Redirect(_) => "write the address that it leads to, if that is what you mean",
        Cause::Length { page: true } => {
            "the server must send Content-Length, or the page in chunks; name another index, or tell whoever runs this one"
        }
        Cause::Length { page: false } => {
            "write sha256 beside the address, then a part cannot be taken for the whole"
        }
        Cause::Connection(..) => {
            "check that this machine reaches the network; --offline uses only what was fetched before"
        }
        Cause::Protocol(_) | Cause::Request | Cause::Source(_) => return None,
    })
}

/// What came is no record of TLS at all: most likely plain HTTP.
fn is_plain(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    use rustls::{Error, InvalidMessage};
    let error = error.downcast_ref::<Error>();
    matches!(error, Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn after(attempts: u32, at: Option<&Url>) -> String {
    let at = at.map(|url| format!(", which leads to {url}")).unwrap_or_default();
    match attempts {
        0 | 1 => at,
        attempts => format!("{at} ({attempts} attempts)"),
    }
}

fn parts(have: u64, of: Option<u64>) -> String {
    of.map_or_else(|| have.to_string(), |of| format!("{have} of {of}"))
}

fn missing(urls: &[Url], damaged: usize) -> String {
    let without = match damaged {
        0 => "not in the cache, and the network is not used".to_owned(),
        _ if urls.len() == 1 => "damaged in the cache, and the network is not used".to_owned(),
        damaged => format!("not in the cache, {damaged} of them damaged there, and the network is not used"),
    };
    match urls {
        [url] => format!("{url} is {without}"),
        urls => {
            let names = few(urls.iter().map(Url::file_name));
            format!("{} files are {without}: {names}", urls.len())
        }
    }
}

/// The addresses that [`limits::REDIRECTS`] does not let pass.
pub(super) fn too_many_redirects() -> Cause {
    Cause::Redirect(format!("the server sends elsewhere more than {} times", limits::REDIRECTS))
}
