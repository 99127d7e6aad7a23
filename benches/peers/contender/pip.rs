//! `docker build` with `pip install` on a Debian that has Python and pip, and `docker save` of what it made.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use super::daemon::Daemon;
use super::{Contender, Situation, script};
use crate::Result;
use crate::corpus::{Tree, root_file_system, succeed};
use crate::launcher::Sample;

const DEBIAN: &str = "registry.example/debian-python:1";
/// The same with the wheels.
const BASE: &str = "registry.example/debian-wheels:1";
const NAME: &str = "registry.example/bench:1";

/// The wheels are in the base already, as if the network took no time: they are neither sent nor copied.
const BASE_FILE: &str = "COPY wheels /wheels/\nCOPY requirements.txt /wheels/\n";

/// No cache and no byte code, which nobody else here makes.
const FILE: &str = "\
RUN python3 -m pip install --quiet --no-index --find-links=/wheels --no-deps --require-hashes --no-compile --no-cache-dir \
    --disable-pip-version-check --root-user-action=ignore --target=/opt/app/site --requirement=/wheels/requirements.txt
COPY . /opt/app/src/
";

/// The classic builder.
pub(crate) struct Pip(Rc<Daemon>);

/// `docker save` of that, which writes an archive without compression.
pub(crate) struct Save(Rc<Daemon>);

impl Pip {
    /// In a directory of its own, with the base.
    pub(crate) fn new(place: PathBuf, tree: &Tree) -> Result<(Pip, Save)> {
        let debian = root_file_system()?;
        let daemon = Rc::new(Daemon::new(&place)?);
        succeed(daemon.client().arg("import").arg(debian).arg(DEBIAN))?;
        let file = place.join("Base");
        fs::write(&file, format!("FROM {DEBIAN}\n{BASE_FILE}"))?;
        let mut base = daemon.client();
        base.args(["build", "--quiet", "--tag", BASE, "--file"]).arg(file).arg(&tree.project);
        succeed(&mut base)?;
        fs::write(place.join("Dockerfile"), format!("FROM {BASE}\n{FILE}"))?;
        Ok((Pip(Rc::clone(&daemon)), Save(daemon)))
    }
}

impl Contender for Pip {
    fn name(&self) -> String {
        format!("docker build with pip ({})", self.0.driver())
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        let no_cache = match situation {
            Situation::Cold => {
                let _ = succeed(self.0.client().args(["image", "rm", "--force", NAME]));
                succeed(self.0.client().args(["image", "prune", "--force"]))?;
                "--no-cache "
            }
            _ => "",
        };
        let (docker, file) = (self.0.shell(), self.0.place().join("Dockerfile"));
        let file = file.display();
        let text =
            format!("{docker} build --quiet --network none {no_cache}--file {file} --tag {NAME} app\n");
        self.0.measure(&mut script(&text, tree))
    }

    /// It stays in the daemon's storage.
    fn size(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

impl Save {
    fn archive(&self) -> PathBuf {
        self.0.place().join("image.tar")
    }
}

impl Contender for Save {
    fn name(&self) -> String {
        "docker save of it, in addition".to_owned()
    }

    fn build(&mut self, tree: &Tree, _: Situation) -> Result<Sample> {
        let _ = fs::remove_file(self.archive());
        let text = format!("{} save --output {} {NAME}\n", self.0.shell(), self.archive().display());
        self.0.measure(&mut script(&text, tree))
    }

    fn size(&self) -> Result<Option<u64>> {
        Ok(Some(fs::metadata(self.archive())?.len()))
    }
}
