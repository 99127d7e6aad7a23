//! `build.log`: the steps of a build, what each gave, and its warnings, as plain text.
//!
//! It says nothing of the machine, the clock, the cache or the threads: builds that give the same image from the same
//! spec give the same log.

use std::fmt::Write as _;
use std::path::Path;

use dmoci_layers::RULES;

use super::own::OwnBuilt;
use crate::diagnostic::Place;
use crate::engine::assemble::{BuiltImage, BuiltLayer, BuiltPlatform, Facts};
use crate::oci::Descriptor;
use crate::spec::Spec;

/// A log that grows line by line.
pub(super) struct Log {
    text: String,
    /// The spec, from the project directory.
    file: String,
}

impl Log {
    /// The log of a build that has begun.
    pub(super) fn new(spec: &Spec, project: &Path, facts: &Facts) -> Log {
        let mut log = Log { text: String::new(), file: name(spec.file(), project) };
        log.line(format!("dmoci {}, rules {RULES}", env!("CARGO_PKG_VERSION")));
        log.line(format!("spec {}", log.file));
        if let Some(variant) = spec.variant() {
            log.line(format!("variant {variant}"));
        }
        log.line(format!("created {}", facts.created));
        if let Some(revision) = &facts.revision {
            log.line(format!("revision {revision}"));
        }
        log
    }

    /// A step begins; what follows is about it.
    pub(super) fn step(&mut self, verb: &str, what: &str) {
        self.line(format!("{verb} {what}"));
    }

    /// What is not wrong but hardly meant.
    pub(super) fn warnings(&mut self, warnings: &[(String, Place)]) {
        for (message, place) in warnings {
            self.line(format!("  warning: {}:{}: {message}", self.file, place.line()));
        }
    }

    /// What was built of the project itself.
    pub(super) fn own(&mut self, own: &OwnBuilt) {
        self.line("building [wheel]".to_owned());
        for made in own.distributions() {
            self.line(format!("  {} {}: {} bytes, {}", made.kind, made.name, made.size, made.digest));
        }
        own.warnings().iter().for_each(|message| self.line(format!("  warning: {message}")));
    }

    /// What was written for a platform.
    pub(super) fn platform(&mut self, platform: &BuiltPlatform) {
        for layer in &platform.layers {
            self.layer(layer);
            self.warnings(&layer.warnings);
        }
        self.blob("config", &platform.config);
        self.blob("manifest", &platform.manifest);
    }

    /// The end of the log, and all of it.
    pub(super) fn finish(mut self, image: &BuiltImage, names: &[String]) -> Vec<u8> {
        self.line(format!("image {}", image.root.digest));
        names.iter().for_each(|name| self.line(format!("  named {name}")));
        self.text.into_bytes()
    }

    fn layer(&mut self, layer: &BuiltLayer) {
        let Descriptor { digest, size, .. } = &layer.descriptor;
        let entries = match (layer.entries, layer.tar_size) {
            (Some(1), Some(tar)) => format!("1 entry, {tar} bytes of tar, "),
            (Some(entries), Some(tar)) => format!("{entries} entries, {tar} bytes of tar, "),
            _ => String::new(),
        };
        let what = if layer.base { "layer of the base" } else { "layer" };
        self.line(format!("  {what} {:?}: {entries}{size} bytes, {digest}", layer.name));
    }

    fn blob(&mut self, what: &str, descriptor: &Descriptor) {
        self.line(format!("  {what}: {} bytes, {}", descriptor.size, descriptor.digest));
    }

    /// One line, whatever is in it.
    fn line(&mut self, line: String) {
        for c in line.chars() {
            match c.is_control() {
                true => drop(write!(self.text, "{}", c.escape_default())),
                false => self.text.push(c),
            }
        }
        self.text.push('\n');
    }
}

/// A file as it is called from the project directory; elsewhere only its own name says nothing of the machine.
fn name(file: &Path, project: &Path) -> String {
    let inside = file.strip_prefix(project).ok().or_else(|| file.is_relative().then_some(file));
    let outside = || file.file_name().map(Path::new).unwrap_or(file);
    inside.unwrap_or_else(outside).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_the_machine() {
        for (file, project, expected) in [
            ("dmoci.toml", ".", "dmoci.toml"),
            ("./other.toml", ".", "other.toml"),
            ("/home/somebody/p/a/b.toml", "/home/somebody/p", "a/b.toml"),
            ("p/dmoci.toml", "p", "dmoci.toml"),
            ("/elsewhere/x.toml", "p", "x.toml"),
        ] {
            assert_eq!(name(Path::new(file), Path::new(project)), expected, "{file}");
        }
    }
}
