//! `dmoci lock`.

use super::backend::BackendArgs;
use super::network::RegistryArgs;
use super::project::ProjectArgs;
use super::watcher::Watcher;
use super::{Report, count};
use crate::diagnostic::{Exit, Failure};
use crate::ops::lock::{self, Request, Update};

/// Pin what the image takes from the network, in dmoci.lock
///
/// Adds what dmoci.toml asks for and dmoci.lock does not have, and takes away what is not needed any more. A pin that is there
/// changes only when --update names it. The pins are those of the image and all of its variants. Whatever has no sha256 in dmoci.toml is fetched and pinned to what came: look at
/// those, then commit the file. A base in a registry is pinned to what its tag names now, together with what the image asks of its layers. The wheels that a Python lock file names are found for the Python of each image, and indexes asked for them. When it
/// fails, dmoci.lock is as it was. With [wheel] in dmoci.toml also what the project's own build backend needs is pinned.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Pin anew: everything, or only the layers, addresses, file names or Python projects that are given; `base` for the base of the image
    #[arg(long, value_name = "NAME", num_args = 0..)]
    update: Option<Vec<String>>,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    network: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let request = Request {
        spec: args.project.spec(),
        set: args.project.set(),
        project: args.project.directory,
        scratch: std::env::temp_dir(),
        backend: args.backend.backend()?,
        update: match args.update {
            None => Update::Nothing,
            Some(names) if names.is_empty() => Update::All,
            Some(names) => Update::Names(names),
        },
    };
    let network = args.network.of_project(false);
    let watch = Watcher::new(report);
    let locked = lock::lock(&request, &network, &watch)?;
    drop(watch);
    let file = locked.file.display();
    let pins = count(locked.pins, "pin", "pins");
    let platforms = count(locked.platforms, "platform", "platforms");
    match locked.changes.is_empty() {
        true if !locked.was_there => {
            report.status("Unneeded", format!("{file}: nothing comes from elsewhere that it would pin"));
        }
        true => report.status("Unchanged", format!("{file}: {pins} for {platforms}")),
        false => report.status("Locked", format!("{file}: {pins} for {platforms}")),
    }
    Ok(Exit::Done)
}
