//! `dmoci diff`

use std::num::NonZeroUsize;
use std::sync::Mutex;

use clap::Args as ClapArgs;

use super::differences::{Names, TOLD, documents, lines, summary};
use super::network::RegistryArgs;
use super::report::Progress;
use super::{Report, docker, watcher};
use crate::diagnostic::{Exit, Failure};
use crate::engine::diff::Watch;
use crate::oci::platform::Platform;
use crate::ops::diff::{Request, diff};
use crate::ops::remote::Remote;
use crate::store::Subject;

/// Say in what two images differ, down to the first byte
///
/// A and B are oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG or a path, each with
/// @sha256:DIGEST if wanted. Told are values of index, manifests and configurations, layers, paths and their fields; layers of the same content that are
/// compressed in another way are told apart from different content. Tags and names are not compared; nor are manifests, when one image
/// has none of its own (an older archive of Docker, or a daemon's image). Exit codes: 0 the
/// digests are equal, 1 they are not or an image is damaged, 2 wrong usage, 6 could not be decided.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// One image
    #[arg(value_name = "A")]
    left: Subject,
    /// The other image
    #[arg(value_name = "B")]
    right: Subject,
    /// Compare only what both have for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Print a line for each document and layer that differs, and nothing of what is in it
    #[arg(long, conflicts_with = "json")]
    summary: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let subjects = format!("{} and {}", args.left, args.right);
    let request = Request {
        left: docker::located(args.left)?,
        right: docker::located(args.right)?,
        platform: args.platform,
        limit: if args.json || args.summary { TOLD.1 } else { TOLD.0 },
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let (network, watch) = (args.registry.network(), watcher::Watcher::new(report));
    let remote = Remote { network: &network, watch: &watch };
    let found = diff(&request, &remote, &Watcher { report, progress: Mutex::new(None) })?;
    if args.json {
        report.json(&found.to_value());
        return Ok(found.verdict.exit());
    }
    let names = Names { left: "left", right: "right" };
    let told = if args.summary { documents(&found, names) } else { lines(&found, names) };
    told.iter().chain(&summary(&found, names)).for_each(|line| report.data(line));
    if args.summary && found.count() > 0 {
        report.data(super::count(found.count() as usize, "difference", "differences"));
    }
    for (side, _) in [names.left, names.right].iter().zip(found.manifests).filter(|(_, has)| !has) {
        report.data(format!("{side} has no manifest of its own: configurations and layers were compared"));
    }
    report.data(format!("{}: {subjects}", found.verdict.words()));
    Ok(found.verdict.exit())
}

/// Draws a bar over the bytes of layers that are read.
struct Watcher<'a> {
    report: &'a Report,
    progress: Mutex<Option<Progress>>,
}

impl Watch for Watcher<'_> {
    fn total(&self, bytes: u64) {
        if let Ok(mut progress) = self.progress.lock() {
            *progress = Some(self.report.progress("Comparing", bytes));
        }
    }

    fn read(&self, bytes: u64) {
        if let Ok(progress) = self.progress.lock()
            && let Some(progress) = progress.as_ref()
        {
            progress.inc(bytes);
        }
    }
}
