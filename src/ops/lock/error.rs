//! What keeps a spec and its lock file apart.

use std::path::PathBuf;

use dmoci_layers::Digest;

use crate::diagnostic::{Diagnostic, Exit, Place, few};
use crate::oci::platform::Platform;

/// Why spec and lock file do not go together.
#[derive(Debug, thiserror::Error)]
pub(in crate::ops) enum PinError {
    /// The lock file lacks something, and may not be added to.
    #[error("{} lacks {}", file.display(), lacking(inputs))]
    Missing {
        file: PathBuf,
        /// What, and for which platform; never none.
        inputs: Vec<(String, Platform)>,
        places: Vec<Place>,
    },
    /// A pin would have to change.
    #[error("{} pins {what} to {}, and {by} {}", file.display(), digests.0, digests.1)]
    Stale {
        file: PathBuf,
        what: String,
        /// Who says otherwise, and the verb.
        by: Box<str>,
        name: String,
        digests: Box<(Digest, Digest)>,
        places: Vec<Place>,
    },
    /// The pin of a base does not say that those have signed it who must.
    #[error("{} pins the base {name} without a signature that [trust.base] wants", file.display())]
    Unsigned { file: PathBuf, name: String },
    /// `--update` names nothing that is locked.
    #[error("there is nothing called {name:?} to update")]
    Name { name: String, known: Vec<String>, nearest: Option<String> },
    /// Another run wrote something else meanwhile.
    #[error("{} was changed by another run, which pins {what} to something else", file.display())]
    Race { file: PathBuf, what: String },
    /// There is nowhere to keep what is fetched.
    #[error("there is no directory for what is fetched")]
    NoCache,
}

impl Diagnostic for PinError {
    fn code(&self) -> &'static str {
        match self {
            PinError::Missing { .. } => "E-LOCK-MISSING",
            PinError::Stale { .. } => "E-LOCK-STALE",
            PinError::Unsigned { .. } => "E-LOCK-UNSIGNED",
            PinError::Name { .. } => "E-LOCK-NAME",
            PinError::Race { .. } => "E-LOCK-RACE",
            PinError::NoCache => "E-CACHE",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            PinError::Race { .. } => Exit::Undecided,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            PinError::Missing { .. } => "run `dmoci lock`, look at what it adds, and commit the file".into(),
            PinError::Stale { name, .. } => format!("when that is meant: dmoci lock --update {name}"),
            PinError::Unsigned { .. } => {
                "dmoci lock --update base looks for the signature, and pins what the tag names now".into()
            }
            PinError::Name { nearest: Some(name), .. } => format!("did you mean `{name}`?"),
            PinError::Name { known, .. } if known.is_empty() => {
                "the spec takes nothing from the network".into()
            }
            PinError::Name { known, .. } => {
                format!(
                    "name a layer, a Python project, an address or its last part, or `base`: {}",
                    known.join(", ")
                )
            }
            PinError::Race { .. } => "run it again".into(),
            PinError::NoCache => "set HOME or XDG_CACHE_HOME".into(),
        })
    }

    fn places(&self) -> Vec<Place> {
        match self {
            PinError::Missing { places, .. } | PinError::Stale { places, .. } => places.clone(),
            _ => Vec::new(),
        }
    }
}

fn lacking(inputs: &[(String, Platform)]) -> String {
    let with = |(name, platform): &(String, Platform)| format!("{name} for {platform}");
    match inputs {
        [only] => with(only),
        [(_, first), ..] if inputs.iter().all(|(_, platform)| platform == first) => {
            format!("{} inputs for {first}: {}", inputs.len(), few(inputs.iter().map(|(name, _)| name)))
        }
        inputs => format!("{} inputs: {}", inputs.len(), few(inputs.iter().map(with))),
    }
}
