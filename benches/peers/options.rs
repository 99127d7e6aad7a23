//! The arguments.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::machine::path_of;

/// Measure dmoci against other builders, in turn on the same trees, and write docs/benchmarks.md
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench peers --", disable_version_flag = true)]
pub(crate) struct Options {
    /// Rounds; medians are told. Large trees of `files` and `bytes`, and `python`, get fewer
    #[arg(long, default_value = "5", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// Only these parts; nothing is written then, only printed
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Section>,
    /// Only these contenders; nothing is written then, only printed
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    with: Vec<Peer>,
    /// Hide the processor's SHA instructions from dmoci in all parts; without it, that is one more contender
    #[arg(long)]
    pub(crate) without_sha_ni: bool,
    /// Tiny trees and one round: says only whether everything runs
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Where to work [default: the build directory]; the largest tree with what is made of it takes 40 GB
    #[arg(long, value_name = "DIR")]
    pub(crate) work: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// Nothing is kept of an earlier build
    Cold,
    /// One file changed in a small layer
    Changed,
    /// Nothing changed
    Unchanged,
    /// An application of Python with its dependencies, by their lock file: cold, and one file of its own changed
    Python,
    /// An image of 1 GB in 20 layers to a registry, and from it
    Registry,
    /// From 1,000 to 1,000,000 small files
    Files,
    /// One file from 1 MB to 10 GB
    Bytes,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Dmoci,
    Umoci,
    Buildah,
    Docker,
    Pipe,
    Uv,
    Skopeo,
    Crane,
}

impl Options {
    pub(crate) fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    /// True when all is measured, so that the document can be written.
    pub(crate) fn is_whole(&self) -> bool {
        self.only.is_empty() && self.with.is_empty() && !self.smoke && !self.without_sha_ni
    }

    /// dmoci is always among them, and first.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> + use<'_> {
        let wanted = |peer: &Peer| *peer == Peer::Dmoci || self.with.is_empty() || self.with.contains(peer);
        Peer::value_variants().iter().copied().filter(wanted)
    }

    /// The sizes of the trees that grow.
    pub(crate) fn growth(&self) -> Vec<(Section, Vec<u64>)> {
        let (files, bytes) = match self.smoke {
            true => (vec![100, 200], vec![1_000_000, 2_000_000]),
            false => (
                vec![1_000, 10_000, 100_000, 1_000_000],
                vec![1_000_000, 100_000_000, 1_000_000_000, 10_000_000_000],
            ),
        };
        let all = [(Section::Files, files), (Section::Bytes, bytes)];
        all.into_iter().filter(|(section, _)| self.wants(*section)).collect()
    }

    /// How often each is measured.
    pub(crate) fn rounds(&self) -> usize {
        if self.smoke { 1 } else { self.runs }
    }

    /// Fewer rounds where one takes minutes.
    pub(crate) fn runs_at(&self, section: Section, size: u64) -> usize {
        let most = match section {
            Section::Files if size >= 1_000_000 => 1,
            Section::Files if size >= 100_000 => 3,
            Section::Bytes if size >= 10_000_000_000 => 1,
            Section::Bytes if size >= 1_000_000_000 => 3,
            Section::Python => 3,
            _ => usize::MAX,
        };
        self.rounds().min(most)
    }
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Dmoci => "dmoci",
            Peer::Umoci => "umoci",
            Peer::Buildah => "buildah",
            Peer::Docker => "docker",
            Peer::Pipe => "pipe",
            Peer::Uv => "uv",
            Peer::Skopeo => "skopeo",
            Peer::Crane => "crane",
        }
    }

    /// The programs that it is made of, those that hash first.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Peer::Dmoci => &[],
            Peer::Umoci => &["umoci"],
            Peer::Buildah => &["buildah"],
            Peer::Docker => &["dockerd", "docker", "containerd", "setpriv"],
            Peer::Pipe => &["pigz", "tar"],
            Peer::Uv => &["uv", "python3", "pigz", "tar"],
            Peer::Skopeo => &["skopeo", "docker-registry", "setpriv"],
            Peer::Crane => &["crane", "docker-registry", "setpriv"],
        }
    }

    /// Whether it has a part in this.
    pub(crate) fn takes(self, section: Section) -> bool {
        match section {
            Section::Python => matches!(self, Peer::Dmoci | Peer::Docker | Peer::Uv),
            Section::Registry => matches!(self, Peer::Dmoci | Peer::Skopeo | Peer::Crane),
            _ => !matches!(self, Peer::Uv | Peer::Skopeo | Peer::Crane),
        }
    }

    /// What it lacks here.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let needs_root = matches!(self, Peer::Umoci | Peer::Buildah | Peer::Docker);
        let missing = self.programs().iter().copied().find(|program| path_of(program).is_none());
        missing.or((needs_root && !rustix::process::geteuid().is_root()).then_some("root"))
    }

    /// The largest tree of the growing ones that it takes a reasonable time for.
    pub(crate) fn limit(self, section: Section) -> u64 {
        match (self, section) {
            (Peer::Dmoci | Peer::Pipe | Peer::Uv | Peer::Skopeo | Peer::Crane, _) => u64::MAX,
            (Peer::Umoci, Section::Files) => 100_000,
            (Peer::Umoci, _) => 1_000_000_000,
            (_, Section::Files) => 10_000,
            _ => 100_000_000,
        }
    }
}
