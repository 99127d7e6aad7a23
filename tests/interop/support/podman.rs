//! podman and buildah with storage of the test's own.

use std::process::Command;

use super::{Place, command, drivers, run};

/// What podman needs.
pub(crate) const PEERS: &[&str] = &["root", "podman", "runc", "conmon"];

/// podman and buildah, away from the machine's own images.
pub(crate) struct Podman(Place, &'static str);

impl Podman {
    /// With nothing in its storage.
    pub(crate) fn new() -> Podman {
        Podman(Place::new(), "vfs")
    }

    /// One for each storage driver that works here.
    pub(crate) fn of_each_driver() -> impl Iterator<Item = Podman> {
        drivers("vfs", "overlay").into_iter().map(|driver| Podman(Place::new(), driver))
    }

    /// With the storage driver that needs least space.
    pub(crate) fn small() -> Podman {
        Podman::of_each_driver().last().unwrap()
    }

    /// The podman command. runc and cgroupfs, because the default runtime refuses machines with both cgroup hierarchies.
    pub(crate) fn podman(&self) -> Command {
        let mut podman = self.with_storage("podman");
        podman.arg("--tmpdir").arg(self.0.path("tmp"));
        podman.args(["--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=none"]);
        podman
    }

    /// The buildah command.
    pub(crate) fn buildah(&self) -> Command {
        self.with_storage("buildah")
    }

    fn with_storage(&self, program: &str) -> Command {
        let mut command = command(program);
        command.arg("--root").arg(self.0.path("root"));
        command.arg("--runroot").arg(self.0.path("run"));
        command.arg("--storage-driver").arg(self.1);
        command
    }

    /// Runs an image without network and gives what it prints. Limits low enough for a sandbox to grant.
    #[track_caller]
    pub(crate) fn run(&self, image: &str) -> String {
        let limits = ["--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000"];
        run(self.podman().args(["run", "--rm", "--network=none"]).args(limits).arg(image))
    }
}
