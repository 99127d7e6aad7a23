//! Why distributions cannot be built.

use std::io;
use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Exit};
use crate::limits;

/// What went wrong, and whose fault it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum WheelError {
    /// The project does not say how it is built, or not in a way that is one.
    #[error("{}: {message}", file.display())]
    Project { file: PathBuf, message: String },
    /// The source is not what can be built from.
    #[error("{}: {message}", source_tree.display())]
    Source { source_tree: PathBuf, message: String },
    /// What is to be the source tree is none.
    #[error("{} is no directory", .0.display())]
    Directory(PathBuf),
    /// The backend lies in what is written.
    #[error("{} is the output directory, and the build backend is in it (`backend-path` has {path:?}): what is in there is no source", output.display())]
    Inside { output: PathBuf, path: String },
    /// A program that is needed is not there or cannot be run.
    #[error("{message}")]
    Tools {
        message: String,
        #[source]
        source: Option<io::Error>,
    },
    /// The build requirements cannot be found.
    #[error("the build requirements cannot be resolved by {tool}")]
    Resolve {
        tool: String,
        #[source]
        said: Said,
    },
    /// What is pinned is not what is required.
    #[error("what {} pins does not satisfy the build requirements {}", lock.display(), wanted.join(", "))]
    Unsatisfied {
        lock: PathBuf,
        wanted: Vec<String>,
        #[source]
        said: Said,
    },
    /// Something is pinned that cannot be fetched again.
    #[error("the build requirement {name} {why}")]
    Requirement { name: String, why: String },
    /// The lock file has no build requirements and may not be added to.
    #[error("{} lacks the build requirements {}", lock.display(), wanted.join(", "))]
    Unlocked { lock: PathBuf, wanted: Vec<String> },
    /// The backend failed.
    #[error("the build backend {backend} {what}")]
    Backend {
        backend: String,
        what: String,
        #[source]
        said: Said,
    },
    /// The scratch or output directory cannot be used.
    #[error("cannot write {}", path.display())]
    Output {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Something of somebody else is in the way.
    #[error("{} holds {name:?}, which is no distribution", path.display())]
    Foreign { path: PathBuf, name: String },
    /// What is to be built again is no distribution.
    #[error("{0} is no wheel and no source distribution")]
    Rebuild(String),
    /// A wheel that this machine or its Python cannot build.
    #[error("it is for {tags}, which {python} does not run: what that builds says nothing about it")]
    Elsewhere { tags: String, python: String },
    /// A time that no calendar here has.
    #[error("the time {0} is after the year 2107, which zip archives cannot hold")]
    Epoch(u64),
}

/// What a program said. Of what is longer than a message may be the end is shown, where the reason stands.
#[derive(Debug, thiserror::Error)]
#[error("{}", end(.0.trim()))]
pub(super) struct Said(pub(super) String);

/// The end of it, not longer than a message may be, and how much is before that.
fn end(said: &str) -> String {
    if said.is_empty() {
        return "it said nothing".to_owned();
    }
    // A hundred bytes for what is said of the beginning.
    let over = said.len().saturating_sub(limits::MESSAGE_BYTES - 100);
    let start = (over..=said.len()).find(|&at| said.is_char_boundary(at)).unwrap_or(said.len());
    match start {
        0 => said.to_owned(),
        _ => format!("({start} bytes before) …{}", &said[start..]),
    }
}

impl Diagnostic for WheelError {
    fn code(&self) -> &'static str {
        match self {
            WheelError::Project { .. } => "E-WHEEL-PROJECT",
            WheelError::Source { .. } | WheelError::Directory(_) => "E-WHEEL-SOURCE",
            WheelError::Inside { .. } => "E-SOURCE-OUTPUT",
            WheelError::Tools { .. } => "E-WHEEL-TOOLS",
            WheelError::Resolve { .. } | WheelError::Requirement { .. } => "E-WHEEL-REQUIRES",
            WheelError::Unsatisfied { .. } => "E-LOCK-STALE",
            WheelError::Unlocked { .. } => "E-LOCK-MISSING",
            WheelError::Backend { .. } => "E-WHEEL-BACKEND",
            WheelError::Output { .. } => "E-OUTPUT",
            WheelError::Foreign { .. } => "E-OUTPUT-FOREIGN",
            WheelError::Rebuild(_) | WheelError::Elsewhere { .. } => "E-REBUILD",
            WheelError::Epoch(_) => "E-EPOCH",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            WheelError::Project { .. }
            | WheelError::Source { .. }
            | WheelError::Directory(_)
            | WheelError::Inside { .. }
            | WheelError::Unsatisfied { .. }
            | WheelError::Unlocked { .. }
            | WheelError::Requirement { .. }
            | WheelError::Foreign { .. }
            | WheelError::Rebuild(_)
            | WheelError::Epoch(_) => Exit::Usage,
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            WheelError::Project { .. } => {
                "write [build-system] as the packaging specifications have it: requires, build-backend".into()
            }
            WheelError::Tools { .. } => {
                "install Python 3.9 or later with uv or pip, or name the interpreter with --python".into()
            }
            WheelError::Unsatisfied { .. } => "when that is meant, pin them anew: `dmoci wheel --update`, or `dmoci lock --update` for a dmoci.toml with [wheel]".into(),
            WheelError::Unlocked { .. } => {
                "run it without --locked and --offline, look at what it adds, and commit the file".into()
            }
            WheelError::Requirement { .. } => {
                "only wheels that an index serves by https can be pinned: look into the configuration of uv or pip".into()
            }
            WheelError::Elsewhere { .. } => {
                "name an interpreter that runs it with --python, or go to a machine of that kind".into()
            }
            WheelError::Directory(_) => "name the directory of the project; unpack a source distribution first".into(),
            WheelError::Inside { .. } => "write elsewhere with -o".into(),
            WheelError::Foreign { .. } => "move it away: uploaders take the whole folder".into(),
            WheelError::Resolve { .. } => {
                "correct `build-system.requires` in pyproject.toml, or the index that uv and pip use".into()
            }
            WheelError::Rebuild(_) => "--rebuild is for wheels and source distributions".into(),
            WheelError::Source { .. } | WheelError::Backend { .. } | WheelError::Output { .. } | WheelError::Epoch(_) => {
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_is_said() {
        assert_eq!(Said(" \n".into()).to_string(), "it said nothing");
        assert_eq!(Said("one\ntwo\n".into()).to_string(), "one\ntwo");
        let long = "é".repeat(limits::MESSAGE_BYTES) + "the reason\n";
        let shown = Said(long).to_string();
        assert!(shown.starts_with("(8302 bytes before) …é") && shown.ends_with("éthe reason"), "{shown}");
        assert!(shown.len() <= limits::MESSAGE_BYTES, "{}", shown.len());
    }
}
