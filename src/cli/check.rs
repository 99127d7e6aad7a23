//! `dmoci check`.

use super::project::ProjectArgs;
use super::{Report, count};
use crate::diagnostic::{Exit, Failure};
use crate::{ops, spec};

/// Check dmoci.toml, for every platform at once.
///
/// Reads the file, resolves it for each of its platforms, and looks whether every file and directory that it
/// names is there. Nothing is built or written. Ends with 0 when all is well and with 2 when something must be
/// corrected.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let spec = spec::load(&args.project.spec())?;
    let checked = ops::check::check(&args.project.directory, &spec, args.project.set())?;
    for target in &checked.targets {
        let inputs = target.layers.iter().map(|layer| layer.inputs.len()).sum();
        let (layers, entries) =
            (count(target.layers.len(), "layer", "layers"), count(inputs, "entry", "entries"));
        report.detail("Resolved", format!("{}: {layers}, {entries}", target.platform));
    }
    let platforms = count(checked.targets.len(), "platform", "platforms");
    let sources = count(checked.sources, "source", "sources");
    report.status("Checked", format!("{}: {platforms}, {sources}", spec.file().display()));
    Ok(Exit::Done)
}
