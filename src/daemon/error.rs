//! Why a daemon gave nothing, or took nothing.

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Exit};

/// Why a daemon gave nothing, or took nothing.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens, or not to this user.
    #[error("no daemon can be reached at {}", socket.display())]
    Connect {
        /// Where it should listen.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or too little came for too long.
    #[error("the daemon at {} does not go on", socket.display())]
    Io {
        /// Where it listens.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What it says is not what it should.
    #[error("what listens at {} does not speak as Docker does: {why}", socket.display())]
    Malformed {
        /// Where it listens.
        socket: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It says no.
    #[error("the daemon refuses (status {status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It has no such image.
    #[error("the daemon has no image {name:?}")]
    NoImage {
        /// The name.
        name: String,
    },
    /// It sends more than an image can have.
    #[error("the daemon sends an image of more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// What it sends cannot be kept.
    #[error("what the daemon sends cannot be written to a temporary file")]
    Keep {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DaemonError {
    /// What failed while an answer was read: the connection, or what came.
    pub(super) fn read(socket: &Path, source: io::Error) -> DaemonError {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::InvalidData => DaemonError::Malformed { socket, why: source.to_string() },
            _ => DaemonError::Io { socket, source },
        }
    }
}

impl Diagnostic for DaemonError {
    fn code(&self) -> &'static str {
        match self {
            DaemonError::Connect { .. } => "E-DAEMON-CONNECT",
            DaemonError::Io { .. } => "E-DAEMON-IO",
            DaemonError::Malformed { .. } => "E-DAEMON-ANSWER",
            DaemonError::Refused { .. } => "E-DAEMON-REFUSED",
            DaemonError::NoImage { .. } => "E-SUBJECT-NOT-FOUND",
            DaemonError::TooLarge { .. } => "E-DAEMON-SIZE",
            DaemonError::Keep { .. } => "E-WRITE",
        }
    }

    fn exit(&self) -> Exit {
        Exit::Undecided
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            DaemonError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "this user may not use the socket: run as root, or as a member of the group that owns it (often docker)"
                    .into()
            }
            DaemonError::Connect { .. } | DaemonError::Malformed { .. } => {
                "start docker, or say where it listens: DOCKER_HOST=unix:///PATH".into()
            }
            DaemonError::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                "nothing, or next to nothing, came for too long; see whether `docker info` answers".into()
            }
            DaemonError::Io { .. } => "see the log of the daemon".into(),
            DaemonError::NoImage { .. } => "see what is there with: docker images".into(),
            DaemonError::Keep { .. } => "make room there, or name another directory with TMPDIR".into(),
            DaemonError::Refused { .. } | DaemonError::TooLarge { .. } => return None,
        })
    }
}
