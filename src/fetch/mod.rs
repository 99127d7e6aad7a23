//! The one way to the network: HTTP with retries, resumption and bounds, into the cache.
//!
//! ```text
//! mod > transfer, call > exchange > agents > proxy, retry > error
//!                        exchange > auth (challenge, files, helper, token), private
//! ```
//!
//! The environment, the clock and chance are not read here: see [`Surroundings`]. Blocking; share a [`Fetcher`] between threads.

mod agents;
mod auth;
mod call;
mod error;
mod exchange;
mod private;
mod proxy;
mod registries;
mod retry;
mod secret;
mod transfer;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dmoci_layers::Digest;

pub use auth::{Access, AuthError, Logins, Scope};
pub use call::{Call, Method, Reply, Tries};
pub use error::{Cause, FetchError};
pub use exchange::Payload;
pub use proxy::{Proxies, ProxyError};
pub use registries::{Mirror, Place, Registries, RegistriesError};
pub use retry::Patience;
pub use secret::Secret;

use crate::cache::{Downloaded, Downloads};
use crate::limits;
use crate::url::Url;
use exchange::Web;
use transfer::{Sink, Transfer};

/// What only the layer above reads of the machine.
pub trait Surroundings: Sync {
    /// The time since a moment that stays the same.
    fn now(&self) -> Duration;
    /// Waits.
    fn wait(&self, time: Duration);
    /// Some number from 0 to 1: it spreads the attempts of many machines.
    fn chance(&self) -> f64;
    /// The certificates of the authorities that this machine trusts, as DER.
    fn roots(&self) -> Vec<Vec<u8>>;
}

/// Who is told how it goes, from several threads.
pub trait Listener: Sync {
    /// It is not in the cache, and will be asked for.
    fn begin(&self, url: &Url);
    /// So many bytes more are to come.
    fn expect(&self, bytes: u64);
    /// So many bytes more came.
    fn receive(&self, bytes: u64);
    /// An attempt failed; there will be another after this time.
    fn retry(&self, url: &Url, cause: &Cause, wait: Duration);
    /// Another process fetches the same; this one waits for it.
    fn blocked(&self, url: &Url);
    /// A mirror did not do: what it was asked for, and why. Others are asked.
    fn passed_over(&self, _what: &str, _why: &dyn std::fmt::Display) {}
    /// Something of what came was left out.
    fn left_out(&self, _message: &str) {}
}

/// How things are fetched.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Proxies.
    pub proxies: Proxies,
    /// Authorities to trust beside those of the machine, a file in PEM form.
    pub ca_file: Option<PathBuf>,
    /// Only what is in the cache is given.
    pub offline: bool,
    /// How long is waited, and how often it is tried.
    pub patience: Patience,
    /// Where credentials for registries are.
    pub logins: Logins,
    /// Registries on other machines are spoken to without encryption.
    pub plain_http: bool,
    /// Where it says which registries have mirrors.
    pub registries: Registries,
}

/// A file that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is.
    pub url: Url,
    /// Its digest, when it is known: without it, what comes first is believed.
    pub expected: Option<Digest>,
    /// Its size in bytes, when it is known.
    pub size: Option<u64>,
    /// The most bytes that it may have when its size is not known.
    pub most: u64,
    /// It may come over plain HTTP from other machines, because something else tells whether it is right. User and password
    /// are never sent that way.
    pub plain: bool,
    /// Who asks for what, when it is a registry that has it.
    pub scope: Option<Scope>,
    /// Mirrors that are asked first, each once.
    pub mirrors: Vec<Wanted>,
    /// It is tried once.
    pub once: bool,
}

impl Wanted {
    /// A file of any size up to [`limits::DOWNLOAD_BYTES`], over plain HTTP only when its digest is known.
    pub fn new(url: Url, expected: Option<Digest>) -> Wanted {
        let plain = expected.is_some();
        let most = limits::DOWNLOAD_BYTES;
        Wanted { url, expected, size: None, most, plain, scope: None, mirrors: Vec::new(), once: false }
    }
}

/// A small document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Who gave it, after all redirects: references in it are relative to this.
    pub url: Url,
    /// Its media type, as the server calls it.
    pub media_type: Option<String>,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Fetches into the cache.
pub struct Fetcher<'a> {
    settings: Settings,
    downloads: Downloads,
    surroundings: &'a dyn Surroundings,
    listener: &'a dyn Listener,
    web: Web,
    /// A download failed, so the others are given up.
    failed: AtomicBool,
}

impl<'a> Fetcher<'a> {
    /// A fetcher without connections yet.
    pub fn new(
        settings: Settings,
        downloads: Downloads,
        surroundings: &'a dyn Surroundings,
        listener: &'a dyn Listener,
    ) -> Fetcher<'a> {
        let (patience, ca_file) = (settings.patience.clone(), settings.ca_file.clone());
        let web = Web::new(settings.proxies.clone(), patience, ca_file, settings.logins.clone());
        Fetcher { settings, downloads, surroundings, listener, web, failed: AtomicBool::new(false) }
    }

    /// The file, from the cache when its digest is known and there, else from its address. What is given has the expected
    /// digest and size.
    pub fn file(&self, wanted: &Wanted) -> Result<Downloaded, FetchError> {
        if self.settings.offline {
            let given = self.offline(std::slice::from_ref(wanted))?.pop();
            return given.ok_or_else(|| FetchError::Offline { urls: vec![wanted.url.clone()], damaged: 0 });
        }
        if let Some(entry) = self.cached(wanted)? {
            return Ok(entry);
        }
        // Whoever writes a lock file may write any size.
        if wanted.size.is_some_and(|size| size > limits::DOWNLOAD_BYTES) {
            let (url, limit) = (Box::new(wanted.url.clone()), limits::DOWNLOAD_BYTES);
            return Err(FetchError::Large { url, limit });
        }
        for mirror in &wanted.mirrors {
            match self.from(mirror) {
                Err(error @ FetchError::GivenUp { .. }) => return Err(error),
                Err(error) => self.listener.passed_over(&mirror.url.to_string(), &error),
                Ok(entry) => return Ok(entry),
            }
        }
        self.from(wanted)
    }

    /// The file from its address, unless another process has fetched it meanwhile.
    fn from(&self, wanted: &Wanted) -> Result<Downloaded, FetchError> {
        let reserved = match &wanted.expected {
            None => self.downloads.reserve_unknown()?,
            Some(digest) => {
                let reserved = self.downloads.reserve(digest, || self.listener.blocked(&wanted.url))?;
                // Whoever held it may have been successful.
                if let Some(entry) = self.cached(wanted)? {
                    return Ok(entry);
                }
                reserved
            }
        };
        self.listener.begin(&wanted.url);
        let whole = Transfer::new(self, wanted, "*/*", Sink::File(reserved))?.run()?;
        match whole.sink {
            Sink::File(reserved) => Ok(self.downloads.keep(reserved, &whole.digest)?),
            Sink::Memory(_) => Err(FetchError::GivenUp { url: Box::new(wanted.url.clone()) }),
        }
    }

    /// All these files, at most [`limits::CONNECTIONS`] at a time, in the order given.
    ///
    /// When one fails the others are given up. Without network, the error names all that is missing.
    pub fn files(&self, wanted: &[Wanted]) -> Result<Vec<Downloaded>, FetchError> {
        if self.settings.offline {
            return self.offline(wanted);
        }
        let results: Mutex<Vec<Option<Result<Downloaded, FetchError>>>> =
            Mutex::new(wanted.iter().map(|_| None).collect());
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..limits::CONNECTIONS.min(wanted.len()) {
                scope.spawn(|| {
                    while let Some((number, wanted)) = self.next(wanted, &next) {
                        let result = self.file(wanted);
                        if result.is_err() {
                            self.failed.store(true, Ordering::Relaxed);
                        }
                        if let Ok(mut results) = results.lock() {
                            results[number] = Some(result);
                        }
                    }
                });
            }
        });
        self.failed.store(false, Ordering::Relaxed);
        let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut entries = Vec::with_capacity(wanted.len());
        let mut given_up = None;
        for (result, wanted) in results.into_iter().zip(wanted) {
            match result {
                Some(Ok(entry)) => entries.push(entry),
                Some(Err(error)) if !matches!(error, FetchError::GivenUp { .. }) => return Err(error),
                _ => given_up = Some(FetchError::GivenUp { url: Box::new(wanted.url.clone()) }),
            }
        }
        given_up.map_or(Ok(entries), Err)
    }

    /// A document of at most `most` bytes, past the cache.
    pub fn document(&self, url: &Url, accept: &str, most: u64) -> Result<Document, FetchError> {
        if self.settings.offline {
            return Err(FetchError::Offline { urls: vec![url.clone()], damaged: 0 });
        }
        let wanted = Wanted { most, ..Wanted::new(url.clone(), None) };
        let whole = Transfer::new(self, &wanted, accept, Sink::Memory(Vec::new()))?.run()?;
        let bytes = match whole.sink {
            Sink::Memory(bytes) => bytes,
            Sink::File(_) => Vec::new(),
        };
        Ok(Document { url: whole.url, media_type: whole.media_type, bytes })
    }

    fn next<'b>(&self, wanted: &'b [Wanted], next: &AtomicUsize) -> Option<(usize, &'b Wanted)> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        Some((number, wanted.get(number)?))
    }

    fn offline(&self, wanted: &[Wanted]) -> Result<Vec<Downloaded>, FetchError> {
        let mut entries = Vec::with_capacity(wanted.len());
        let (mut urls, mut damaged) = (Vec::new(), 0);
        for wanted in wanted {
            let there = wanted.expected.as_ref().is_some_and(|digest| self.downloads.has(digest));
            match self.cached(wanted)? {
                Some(entry) => entries.push(entry),
                None => {
                    urls.push(wanted.url.clone());
                    damaged += usize::from(there);
                }
            }
        }
        if urls.is_empty() { Ok(entries) } else { Err(FetchError::Offline { urls, damaged }) }
    }

    fn cached(&self, wanted: &Wanted) -> Result<Option<Downloaded>, FetchError> {
        let Some(digest) = &wanted.expected else { return Ok(None) };
        let Some(entry) = self.downloads.get(digest)? else { return Ok(None) };
        match wanted.size {
            Some(expected) if expected != entry.size() => Err(FetchError::Size {
                url: Box::new(wanted.url.clone()),
                expected,
                found: entry.size().to_string(),
            }),
            _ => Ok(Some(entry)),
        }
    }

    /// What is said of `HOST/NAME` where mirrors of registries are written down.
    pub fn place(&self, name: &str) -> Result<Place, RegistriesError> {
        self.settings.registries.place(name)
    }

    /// A mirror did not do.
    pub fn pass_over(&self, what: &str, why: &dyn std::fmt::Display) {
        self.listener.passed_over(what, why);
    }

    /// Something of what came was left out.
    pub fn leave_out(&self, message: &str) {
        self.listener.left_out(message);
    }

    fn patience(&self) -> &Patience {
        &self.settings.patience
    }

    /// Waits, unless all is given up meanwhile.
    fn pause(&self, url: &Url, time: Duration) -> Result<(), FetchError> {
        let mut left = time;
        while !left.is_zero() {
            self.check_given_up(url)?;
            let step = left.min(Duration::from_millis(500));
            self.surroundings.wait(step);
            left -= step;
        }
        self.check_given_up(url)
    }

    fn check_given_up(&self, url: &Url) -> Result<(), FetchError> {
        match self.failed.load(Ordering::Relaxed) {
            true => Err(FetchError::GivenUp { url: Box::new(url.clone()) }),
            false => Ok(()),
        }
    }
}
