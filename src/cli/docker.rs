//! Where Docker listens, as its own client is told.

use std::path::PathBuf;

use crate::daemon::SOCKET;
use crate::diagnostic::{Exit, Failure};
use crate::store::{Subject, Transport};

/// The socket that DOCKER_HOST names, or the usual one.
pub(super) fn socket() -> Result<PathBuf, Failure> {
    let Some(host) = std::env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) else {
        return Ok(SOCKET.into());
    };
    match host.to_str().and_then(|host| host.strip_prefix("unix://")) {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        _ => Err(Failure {
            code: "E-DAEMON-HOST",
            exit: Exit::Usage,
            message: format!("DOCKER_HOST is {host:?} in the environment, and only unix:///PATH is spoken"),
            causes: Vec::new(),
            places: Vec::new(),
            help: Some("set DOCKER_HOST=unix:///PATH, or unset it for /var/run/docker.sock".into()),
        }),
    }
}

/// What the subject means on this machine: a daemon's image at the daemon that the environment names.
pub(super) fn located(subject: Subject) -> Result<Subject, Failure> {
    match subject.transport() {
        Transport::DockerDaemon => Ok(subject.at(socket()?)),
        _ => Ok(subject.settled()),
    }
}
