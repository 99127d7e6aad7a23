//! What can be wrong with a lock file.

use std::io;
use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Exit, Place};

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in it is not as it should be.
    #[error("{message}")]
    Malformed {
        /// What.
        message: String,
        /// Where.
        place: Box<Place>,
    },
    /// It was made for other rules than this dmoci has.
    #[error("the lock file was made for rules {found}, and this version of dmoci has rules {known}")]
    Rules {
        /// The rules of the file.
        found: i64,
        /// Those of this program.
        known: u32,
        /// Where.
        place: Box<Place>,
    },
    /// An entry was edited by hand.
    #[error("the entry of {url} is not as dmoci wrote it: its fields do not have the sha256 {found}")]
    Edited {
        /// The address in the entry.
        url: String,
        /// What the entry says is the digest of its fields.
        found: String,
        /// Where, and what the digest is.
        place: Box<Place>,
    },
}

impl Diagnostic for LockError {
    fn code(&self) -> &'static str {
        match self {
            LockError::Read { .. } => "E-LOCK-READ",
            LockError::Write { .. } => "E-LOCK-WRITE",
            LockError::Malformed { .. } => "E-LOCK",
            LockError::Rules { .. } => "E-LOCK-RULES",
            LockError::Edited { .. } => "E-LOCK-EDITED",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            LockError::Read { .. } | LockError::Write { .. } => Exit::Undecided,
            LockError::Malformed { .. } | LockError::Rules { .. } => Exit::Usage,
            LockError::Edited { .. } => Exit::Mismatch,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            LockError::Read { .. } | LockError::Write { .. } => None,
            LockError::Malformed { .. } => {
                Some("take it back from version control, or remove it and run `dmoci lock`".into())
            }
            LockError::Rules { .. } => {
                Some("use the version of dmoci that made it, or remove it and run `dmoci lock`".into())
            }
            LockError::Edited { url, .. } => {
                Some(format!("take it back from version control, or make it anew: dmoci lock --update {url}"))
            }
        }
    }

    fn places(&self) -> Vec<Place> {
        match self {
            LockError::Malformed { place, .. }
            | LockError::Rules { place, .. }
            | LockError::Edited { place, .. } => vec![(**place).clone()],
            LockError::Read { .. } | LockError::Write { .. } => Vec::new(),
        }
    }
}
