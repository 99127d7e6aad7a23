//! `docker build` and `docker save`, with a daemon of its own.

use std::fs;
use std::path::PathBuf;

use super::daemon::Daemon;
use super::{Contender, Situation, script};
use crate::Result;
use crate::corpus::{Tree, succeed};
use crate::launcher::Sample;

/// The classic builder, which finds out itself what has changed; `save` writes an archive without compression.
pub(crate) struct Docker(Daemon);

const NAME: &str = "registry.example/bench:1";

impl Docker {
    /// In a directory of its own.
    pub(crate) fn new(place: PathBuf) -> Result<Docker> {
        Ok(Docker(Daemon::new(&place)?))
    }
}

impl Contender for Docker {
    fn name(&self) -> String {
        format!("docker build + save ({})", self.0.driver())
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        let image = self.0.place().join("image.tar");
        let no_cache = match situation {
            Situation::Cold => {
                succeed(self.0.client().args(["image", "prune", "--all", "--force"]))?;
                let _ = fs::remove_file(&image);
                "--no-cache "
            }
            _ => "",
        };
        let (docker, image) = (self.0.shell(), image.display());
        let text = format!(
            "{docker} build --quiet {no_cache}--tag {NAME} .\n\
             {docker} save --output {image} {NAME}\n"
        );
        self.0.measure(&mut script(&text, tree))
    }

    fn size(&self) -> Result<Option<u64>> {
        Ok(Some(fs::metadata(self.0.place().join("image.tar"))?.len()))
    }
}
