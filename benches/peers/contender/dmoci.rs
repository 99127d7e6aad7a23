//! The program that this repository makes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Contender, Situation, emptied, size_of};
use crate::Result;
use crate::corpus::Tree;
use crate::launcher::{Sample, measure};

/// A variable that hides the processor's SHA instructions, as OpenSSL and those that come from it read it: bit 29 of
/// the second word of their capabilities off.
const SHA_NI_MASK: (&str, &str) = ("OPENSSL_ia32cap", ":~0x20000000");

/// Bytes of the file that is hashed to see whether it does.
const PROBE: u64 = 512 << 20;

const PROBE_SPEC: &str = r#"schema = 1
[image]
platforms = ["linux/amd64"]
compression = "none"
[[layer]]
name = "zeros"
copy = [{ from = ["zeros"], to = "/zeros" }]
"#;

/// `dmoci build`, which finds out itself what has changed.
pub(crate) struct Dmoci {
    place: PathBuf,
    masked: bool,
    /// The spec, and what sets it apart.
    spec: (&'static str, &'static str),
    /// The layers of the last build.
    layers: Vec<String>,
}

impl Dmoci {
    /// In a directory of its own.
    pub(crate) fn new(place: PathBuf, masked: bool) -> Dmoci {
        Dmoci { place, masked, spec: ("dmoci.toml", ""), layers: Vec::new() }
    }

    /// By another spec of the project.
    pub(crate) fn by(self, spec: &'static str, apart: &'static str) -> Dmoci {
        Dmoci { spec: (spec, apart), ..self }
    }

    /// True when the variable takes the SHA instructions away from this program: hashing a large file, and little else,
    /// takes it clearly longer then.
    pub(crate) fn can_be_masked(place: &Path) -> Result<bool> {
        let probe = place.join("probe");
        fs::create_dir_all(&probe)?;
        // A hole, so that nothing is read from the disk.
        File::create(probe.join("zeros"))?.set_len(PROBE)?;
        fs::write(probe.join("dmoci.toml"), PROBE_SPEC)?;
        let mut cpu = [Duration::MAX; 2];
        for (masked, least) in [(false, 0), (true, 1)].repeat(3) {
            let mut build = command(place, masked);
            build.args(["build", "--no-cache", "--quiet"]).env("GIT_CEILING_DIRECTORIES", place);
            cpu[least] = cpu[least].min(measure(build.current_dir(&probe), place)?.cpu);
        }
        fs::remove_dir_all(&probe)?;
        Ok(cpu[1].as_secs_f64() > 1.25 * cpu[0].as_secs_f64())
    }
}

/// The program, with a cache of its own, and without the caller's settings.
fn command(place: &Path, masked: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmoci"));
    command.env("XDG_CACHE_HOME", place.join("cache"));
    command.env_remove("SOURCE_DATE_EPOCH").env_remove(SHA_NI_MASK.0);
    if masked {
        command.env(SHA_NI_MASK.0, SHA_NI_MASK.1);
    }
    command
}

impl Dmoci {
    /// Those of the layers that the last build made, the lowest first.
    fn digests(&self) -> Result<Vec<String>> {
        let text = fs::read(self.place.join("dist/digests.json"))?;
        let said: serde_json::Value = serde_json::from_slice(&text)?;
        let layers = said["platforms"][0]["layers"].as_array().ok_or("digests.json names no layers")?;
        let digest = |layer: &serde_json::Value| layer["digest"].as_str().map(str::to_owned);
        layers.iter().map(digest).collect::<Option<_>>().ok_or_else(|| "a layer without digest".into())
    }
}

impl Contender for Dmoci {
    fn name(&self) -> String {
        let masked = if self.masked { ", SHA-NI masked" } else { "" };
        format!("dmoci{masked}{}", self.spec.1)
    }

    fn build(&mut self, tree: &Tree, situation: Situation) -> Result<Sample> {
        if situation == Situation::Cold {
            emptied(self.place.clone())?;
        }
        let mut build = command(&self.place, self.masked);
        build.args(["build", "--quiet", "-f", self.spec.0, "-o"]).arg(self.place.join("dist"));
        // The trees lie in a build directory, which may lie in a repository that is not theirs.
        build.env("GIT_CEILING_DIRECTORIES", tree.project.parent().unwrap_or(&tree.project));
        let sample = measure(build.current_dir(&tree.project), &self.place)?;
        let before = std::mem::take(&mut self.layers);
        self.layers = self.digests()?;
        match situation == Situation::Changed {
            true => only_last_differs(&before, &self.layers).map(|()| sample),
            false => Ok(sample),
        }
    }

    fn size(&self) -> Result<Option<u64>> {
        size_of(&self.place.join("dist/image/blobs")).map(Some)
    }
}

/// What a change of the last layer may change: its digest, and no other.
fn only_last_differs(before: &[String], after: &[String]) -> Result<()> {
    let last = after.len().saturating_sub(1);
    let same = |number: usize| before[number] == after[number];
    match last > 0 && before.len() == after.len() && (0..last).all(same) && !same(last) {
        true => Ok(()),
        false => Err(format!("not the last layer alone has changed: {before:?}, {after:?}").into()),
    }
}
