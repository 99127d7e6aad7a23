//! The trusted root: the authorities, logs and time-stamp services that certificates are judged by.

use std::fmt;

use sigstore_verify::Verifier;
use sigstore_verify::trust_root::{
    SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT, TrustedRoot,
};
use sigstore_verify::types::Bundle;

use crate::diagnostic::{Diagnostic, Exit};
use crate::oci::json;

/// A trusted root that the operator holds. One that comes with what is verified never becomes one.
pub struct Root {
    pub(super) verifier: Verifier,
    root: TrustedRoot,
    name: String,
    says: Says,
}

/// What a root has to say about signatures of keys, which are right without one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// What is of logs that it lists.
    Known,
    /// Whatever a bundle brings.
    Brought,
    /// That there is a log entry.
    All,
}

/// Why a trusted root cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{name} is no trusted root of Sigstore: {why}")]
pub struct RootError {
    /// The file as the user named it.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

impl Diagnostic for RootError {
    fn code(&self) -> &'static str {
        "E-TRUSTED-ROOT"
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("name a trusted_root.json, as `cosign trusted-root create` writes it or Sigstore's TUF repository has it".into())
    }
}

impl Root {
    /// Reads a trusted root that the operator named.
    pub fn read(bytes: &[u8], name: &str) -> Result<Root, RootError> {
        let refuse = |why: String| RootError { name: name.to_owned(), why };
        json::parse(bytes).map_err(|error| refuse(error.to_string()))?;
        let text = std::str::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
        Root::of(text, name, Says::Brought)
    }

    /// That of Sigstore's public service, as it was when `sigstore-verify` was released.
    pub fn embedded() -> Result<Root, RootError> {
        Root::of(
            SIGSTORE_PRODUCTION_TRUSTED_ROOT,
            "the public Sigstore service's, which dmoci carries",
            Says::Known,
        )
    }

    /// That of Sigstore's staging service, for the public test suite.
    pub fn staging() -> Result<Root, RootError> {
        Root::of(SIGSTORE_STAGING_TRUSTED_ROOT, "Sigstore's staging service's", Says::Known)
    }

    /// The same, but signatures of keys need a log entry too.
    pub fn strict(self) -> Root {
        Root { says: Says::All, ..self }
    }

    fn of(text: &str, name: &str, says: Says) -> Result<Root, RootError> {
        let refuse = |why: String| RootError { name: name.to_owned(), why };
        let root = TrustedRoot::from_json(text).map_err(|error| refuse(error.to_string()))?;
        let verifier = Verifier::new(&root).map_err(|error| refuse(error.to_string()))?;
        Ok(Root { verifier, root, name: name.to_owned(), says })
    }

    /// True when the operator named it, so that all that a bundle brings must be by what it lists.
    pub(super) fn is_given(&self) -> bool {
        self.says != Says::Known
    }

    /// True when a log entry must be there.
    pub(super) fn is_all(&self) -> bool {
        self.says == Says::All
    }

    /// True when all log entries of a bundle are of logs that it lists.
    pub(super) fn knows_logs(&self, bundle: &Bundle) -> bool {
        let known = |id: &[u8]| self.root.tlogs.iter().any(|log| log.log_id.key_id.as_bytes() == id);
        bundle.verification_material.tlog_entries.iter().all(|entry| known(entry.log_id.key_id.as_bytes()))
    }

    /// When its newest part began to be valid, in seconds since 1970: how old it is at most, since a root says no date of itself.
    pub fn newest(&self) -> Option<i64> {
        let keys = self.root.tlogs.iter().map(|log| log.public_key.valid_for);
        let ct = self.root.ctlogs.iter().map(|log| log.public_key.valid_for);
        let authorities = self.root.certificate_authorities.iter().map(|one| one.valid_for);
        let stamps = self.root.timestamp_authorities.iter().map(|one| one.valid_for);
        let all = keys.chain(ct).chain(authorities).chain(stamps);
        all.flatten().map(|range| range.start.as_second()).max()
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({})", self.name)
    }
}
