//! A containerd of the test's own.

use std::path::PathBuf;
use std::process::Command;

use super::{Guard, Place, command, run, said, service};

/// What it needs.
pub(crate) const PEERS: &[&str] = &["root", "setpriv", "containerd", "ctr", "runc"];

/// A containerd in a directory of its own.
pub(crate) struct Containerd {
    socket: PathBuf,
    // Stopped before its directory goes.
    _daemon: Guard,
    _place: Place,
}

impl Containerd {
    /// Starts it.
    #[track_caller]
    pub(crate) fn start() -> Containerd {
        let place = Place::new();
        let socket = place.path("socket");
        let mut daemon = service("containerd");
        daemon.arg("--root").arg(place.path("root"));
        daemon.arg("--state").arg(place.path("state"));
        daemon.arg("--address").arg(&socket);
        daemon.args(["--config", "/dev/null"]);
        let ready = || said(client(&socket).arg("version")).code == Some(0);
        let guard = Guard::start(&mut daemon, &place.path("log"), ready);
        Containerd { socket: socket.clone(), _daemon: guard, _place: place }
    }

    /// The client.
    pub(crate) fn ctr(&self) -> Command {
        client(&self.socket)
    }

    /// Runs an image and gives what it prints. Unpacks into plain directories, as every file system can.
    #[track_caller]
    pub(crate) fn run(&self, image: &str, container: &str) -> String {
        run(self.ctr().args(["run", "--rm", "--snapshotter=native", image, container]))
    }
}

fn client(socket: &std::path::Path) -> Command {
    let mut client = command("ctr");
    client.arg("--address").arg(socket);
    client
}
