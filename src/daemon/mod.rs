//! Docker's Engine API over the daemon's unix socket: whether it is there, images out of it, and images into it.
//!
//! ```text
//! mod > http > watch, error
//! ```
//!
//! Podman's service answers the same. Paths without a version: each daemon takes them as its own.

mod error;
mod http;
mod watch;

use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;
use serde_json::Value;

pub use error::DaemonError;

use crate::limits;
use http::{Effort, Patience, Request};

/// Where Docker listens unless told otherwise.
pub const SOCKET: &str = "/var/run/docker.sock";

/// A daemon. Nothing is asked before a method is called.
#[derive(Clone, Debug)]
pub struct Daemon {
    socket: PathBuf,
    patience: Patience,
}

impl Daemon {
    /// The one that listens at this socket.
    pub fn at(socket: &Path) -> Daemon {
        let patience = Patience { answer: limits::DAEMON_ANSWER, silence: limits::DAEMON_SILENCE };
        Daemon { socket: socket.to_owned(), patience }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks whether it is there and answers.
    pub fn ping(&self) -> Result<(), DaemonError> {
        let answer = self.get("/_ping", Effort::Small)?;
        self.good(answer).map(|_| ())
    }

    /// Writes the archive of an image as `docker save` makes it. `name` is a name with tag or digest, or an image ID.
    pub fn save(&self, name: &str, out: &mut dyn Write) -> Result<u64, DaemonError> {
        let answer = self.get(&format!("/images/get?names={}", encoded(name)), Effort::Packs)?;
        let no_image = || DaemonError::NoImage { name: name.to_owned() };
        let mut answer = match self.good(answer) {
            Err(DaemonError::Refused { status: 404, .. }) => return Err(no_image()),
            // Some say so otherwise when it is asked for by its ID.
            Err(error @ DaemonError::Refused { .. }) => {
                return Err(if let Ok(None) = self.image_id(name) { no_image() } else { error });
            }
            answer => answer?,
        };
        let mut buffer = vec![0; 256 << 10];
        let mut bytes = 0;
        loop {
            let n = answer.read(&mut buffer).map_err(|source| self.io(source))?;
            if n == 0 {
                return Ok(bytes);
            }
            bytes += n as u64;
            if bytes > limits::DAEMON_ARCHIVE_BYTES {
                return Err(DaemonError::TooLarge { limit: limits::DAEMON_ARCHIVE_BYTES });
            }
            out.write_all(&buffer[..n]).map_err(|source| DaemonError::Keep { source })?;
        }
    }

    /// Gives it an archive of exactly `size` bytes, which `write` writes. What `write` itself fails with comes back as it
    /// is, and then the daemon has not got the whole and takes nothing.
    ///
    /// What the daemon says is no more than a claim: see [`Daemon::image_id`].
    pub fn load<E: From<DaemonError>>(
        &self,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let request = Request::post("/images/load?quiet=1", "application/x-tar", size);
        let answer = request.send(&self.socket, self.patience, write)?;
        let mut answer = self.good(answer)?;
        let said = answer.text().map_err(|source| self.io(source))?;
        match refusal(&said) {
            None => Ok(()),
            Some(message) => {
                Err(DaemonError::Refused { status: answer.status(), message: short(&message) }.into())
            }
        }
    }

    /// The ID of the image that it has under this name, or nothing when it has none.
    ///
    /// The digest of the configuration where images are stored as Docker always did; with containerd's store, that of the
    /// manifest or index.
    pub fn image_id(&self, name: &str) -> Result<Option<Digest>, DaemonError> {
        let path = format!("/images/{}/json", encoded(name));
        let answer = match self.get(&path, Effort::Small).and_then(|answer| self.good(answer)) {
            Err(DaemonError::Refused { status: 404, .. }) => return Ok(None),
            answer => answer,
        };
        let text = answer?.text().map_err(|source| self.io(source))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = value.get("Id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let unknown = || self.malformed("the description of an image has no Id that is a digest");
        id.map(Some).ok_or_else(unknown)
    }

    fn get(&self, target: &str, effort: Effort) -> Result<http::Answer, DaemonError> {
        Request::get(target, effort).send(&self.socket, self.patience, |_| Ok::<(), DaemonError>(()))
    }

    /// The answer when it is a good one, else what it says.
    fn good(&self, mut answer: http::Answer) -> Result<http::Answer, DaemonError> {
        let status = answer.status();
        if answer.is_good() {
            return Ok(answer);
        }
        let said = answer.text().map_err(|source| self.io(source))?;
        let value: Option<Value> = serde_json::from_str(&said).ok();
        let message = value.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
        Err(DaemonError::Refused { status, message: short(message.unwrap_or(&said)) })
    }

    fn io(&self, source: std::io::Error) -> DaemonError {
        DaemonError::read(&self.socket, source)
    }

    fn malformed(&self, why: &str) -> DaemonError {
        DaemonError::Malformed { socket: self.socket.clone(), why: why.to_owned() }
    }
}

/// The error that stands in what a load answers: objects one after another, of which one may be an error, although the
/// status is 200.
fn refusal(said: &str) -> Option<String> {
    let objects = serde_json::Deserializer::from_str(said).into_iter::<Value>();
    let message = |object: Value| {
        let detail = object.get("errorDetail").and_then(|detail| detail.get("message"));
        Some(detail.or_else(|| object.get("error"))?.as_str()?.to_owned())
    };
    objects.map_while(Result::ok).find_map(message)
}

/// What a daemon says, cut when it is long.
fn short(said: &str) -> String {
    let said = said.trim();
    match said.char_indices().nth(limits::DAEMON_MESSAGE) {
        None => said.to_owned(),
        Some((end, _)) => format!("{}… (cut after {} characters)", &said[..end], limits::DAEMON_MESSAGE),
    }
}

/// A name as it stands in a path or query (RFC 3986): everything but what names are mostly made of is written out.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(one).collect()
}

#[cfg(test)]
mod tests;
