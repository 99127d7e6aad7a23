//! A Docker daemon of the test's own, away from the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Guard, Place, command, drivers, path_of, run, said, service};

/// What it needs.
pub(crate) const PEERS: &[&str] = &["root", "setpriv", "dockerd", "containerd", "runc", "docker"];

/// A daemon without network, in a directory of its own.
pub(crate) struct Docker {
    socket: PathBuf,
    // Stopped before its directory goes.
    _daemon: Guard,
    _place: Place,
}

impl Docker {
    /// Starts it with the storage driver that works on every file system.
    #[track_caller]
    pub(crate) fn start() -> Docker {
        Docker::with_driver("vfs")
    }

    /// One for each storage driver that works here, one after another.
    pub(crate) fn of_each_driver() -> impl Iterator<Item = Docker> {
        drivers("vfs", "overlay2").into_iter().map(Docker::with_driver)
    }

    /// Starts it: no bridge and no packet filter, which sandboxes lack.
    #[track_caller]
    fn with_driver(driver: &str) -> Docker {
        let place = Place::new();
        let socket = place.path("socket");
        let mut daemon = service(path_of("dockerd").unwrap());
        daemon.arg("--data-root").arg(place.path("root"));
        daemon.arg("--exec-root").arg(place.path("exec"));
        daemon.arg("--pidfile").arg(place.path("pid"));
        daemon.arg("--host").arg(format!("unix://{}", socket.display()));
        daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver", driver]);
        // An empty address: it starts a containerd of its own instead of using the machine's.
        daemon.arg("--containerd=");
        daemon.arg("--config-file").arg(place.path("none.json"));
        std::fs::write(place.path("none.json"), "{}").unwrap();
        let ready = || said(client(&socket).arg("version")).code == Some(0);
        let guard = Guard::start(&mut daemon, &place.path("log"), ready);
        Docker { socket: socket.clone(), _daemon: guard, _place: place }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The client.
    pub(crate) fn docker(&self) -> Command {
        client(&self.socket)
    }

    /// Runs an image without network and gives what it prints.
    #[track_caller]
    pub(crate) fn run(&self, image: &str) -> String {
        run(self.docker().args(["run", "--rm", "--network=none", image]))
    }
}

fn client(socket: &Path) -> Command {
    let mut client = command(path_of("docker").unwrap());
    client.arg("--host").arg(format!("unix://{}", socket.display()));
    client
}
