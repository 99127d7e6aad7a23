//! Who asks: what a registry wants to know, where that is found, and the tokens that are had for it.

mod challenge;
mod files;
mod helper;
mod token;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use challenge::Challenge;
pub use files::Logins;
use files::{Found, Login};

use super::Secret;
use crate::diagnostic::{Diagnostic, Exit};
use crate::url::Url;

/// What may be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// It is read.
    Read,
    /// It is written too.
    Write,
    /// What is in it is deleted too.
    Delete,
}

/// What is done in a repository, as far as its registry has to allow it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// The registry, as credentials are looked up by it.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// What is done there.
    pub access: Access,
    /// Another repository there that is read: blobs are taken over from it.
    pub also: Option<String>,
}

impl Scope {
    /// As token services are asked for it.
    fn texts(&self) -> Vec<String> {
        let actions = match self.access {
            Access::Read => "pull",
            Access::Write => "pull,push",
            Access::Delete => "pull,push,delete",
        };
        let own = format!("repository:{}:{actions}", self.repository);
        let also = self.also.as_ref().map(|other| format!("repository:{other}:pull"));
        [own].into_iter().chain(also).collect()
    }
}

/// Why it cannot be told who asks.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file of credentials cannot be read.
    #[error("the credentials in {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An entry of such a file is none.
    #[error("the entry {key:?} in {} holds no user and password", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// A credential helper did not do its work.
    #[error("{program} gave no credentials for {server}: {why}")]
    Helper {
        /// The program.
        program: String,
        /// What it was asked for.
        server: String,
        /// Why not.
        why: String,
    },
    /// The registry sends for tokens to where nothing may be sent.
    #[error("{registry} sends for a token to {realm:?}, {why}")]
    Realm {
        /// The registry.
        registry: String,
        /// Where it sends.
        realm: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// The token service does not take the credentials.
    #[error("the token service {service} of {registry} answered {status} to {credentials}")]
    Refused {
        /// The token service.
        service: Box<Url>,
        /// The registry.
        registry: String,
        /// Its answer.
        status: u16,
        /// Where they are from.
        credentials: String,
    },
    /// The token service gave something else.
    #[error("the token service {service} of {registry} gave no token")]
    NoToken {
        /// The token service.
        service: Box<Url>,
        /// The registry.
        registry: String,
    },
}

impl Diagnostic for AuthError {
    fn code(&self) -> &'static str {
        match self {
            AuthError::Unreadable { .. } | AuthError::Entry { .. } => "E-REGISTRY-LOGIN",
            AuthError::Helper { .. } => "E-REGISTRY-HELPER",
            AuthError::Realm { .. } => "E-REGISTRY-REALM",
            AuthError::Refused { .. } | AuthError::NoToken { .. } => "E-REGISTRY-TOKEN",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            AuthError::Unreadable { .. } | AuthError::Entry { .. } => Exit::Usage,
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            AuthError::Unreadable { .. } | AuthError::Entry { .. } => {
                "log in anew with docker login, podman login or skopeo login, or name another file with \
                 REGISTRY_AUTH_FILE"
                    .into()
            }
            AuthError::Helper { program, .. } => {
                format!(
                    "install {program} or repair it, or name a file with the credentials with REGISTRY_AUTH_FILE"
                )
            }
            AuthError::Realm { .. } => "ask whoever runs the registry; nothing was sent there".into(),
            AuthError::Refused { registry, .. } => {
                format!(
                    "log in anew: docker login {registry}, podman login {registry} or skopeo login {registry}"
                )
            }
            AuthError::NoToken { .. } => return None,
        })
    }
}

/// What this process knows to tell, and to whom.
pub(super) struct Keys {
    logins: Logins,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What each origin asks for.
    challenges: BTreeMap<String, Challenge>,
    /// Credentials by registry and repository.
    found: BTreeMap<(String, String), Option<Found>>,
    /// Values of `Authorization` by origin and scope.
    headers: BTreeMap<(String, Scope), Secret>,
}

impl Keys {
    pub(super) fn new(logins: Logins) -> Keys {
        Keys { logins, state: Mutex::default() }
    }

    /// Notes what a server asks for; false when it asks for nothing that can be given.
    pub(super) fn learn(&self, url: &Url, challenge: Option<Challenge>) -> bool {
        let known = challenge.is_some();
        if let Some(challenge) = challenge {
            self.state().challenges.insert(origin(url), challenge);
        }
        known
    }

    /// Which credentials a registry is told, for people.
    pub(super) fn told(&self, scope: &Scope) -> String {
        match self.state().find(&self.logins, scope) {
            Ok(Some(found)) => format!("the credentials of {}", found.from),
            _ => format!("no credentials: there are none for {} in {}", scope.host, self.logins.places()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, logins: &Logins, scope: &Scope) -> Result<Option<Found>, AuthError> {
        let key = (scope.host.clone(), scope.repository.clone());
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        let found = logins.find(&scope.host, &scope.repository)?;
        self.found.insert(key, found.clone());
        Ok(found)
    }
}

/// Scheme, host and port.
fn origin(url: &Url) -> String {
    format!("{:?} {} {}", url.scheme(), url.host(), url.port())
}
