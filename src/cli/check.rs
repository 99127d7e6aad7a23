//! `dmoci check`.

use super::project::ProjectArgs;
use super::watcher::Watcher;
use super::{Report, count};
use crate::diagnostic::{Exit, Failure};
use crate::{ops, spec};

/// Check dmoci.toml, for every platform at once.
///
/// Does everything of a build but writing: resolves the file for each of its platforms, looks whether every file
/// and directory that it names is there, reads archives and the base image, and finds conflicts between layers
/// and inputs. Ends as `build` would, with 0 when all is well.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let spec = spec::load(&args.project.spec())?;
    let scratch = std::env::temp_dir();
    let watch = Watcher::new(report);
    let checked = ops::check::check(&args.project.directory, &spec, args.project.set(), &scratch, &watch)?;
    drop(watch);
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
