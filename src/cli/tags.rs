//! `dmoci tags`

use super::Report;
use super::network::RegistryArgs;
use super::watcher::Watcher;
use crate::diagnostic::{Exit, Failure};
use crate::oci::reference::{ImageName, NameError};
use crate::ops::remote::Remote;
use crate::ops::tags;

/// List the tags of a repository
///
/// One per line, sorted. Tags that stand in for lists of referrers are left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// docker://HOST/NAME
    #[arg(value_name = "REPOSITORY", value_parser = repository)]
    repository: ImageName,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let (network, watch) = (args.registry.network(), Watcher::new(report));
    let tags = tags::tags(&args.repository, &Remote { network: &network, watch: &watch })?;
    match args.json {
        true => report.json(&serde_json::json!({"repository": args.repository.to_string(), "tags": tags})),
        false => tags.iter().for_each(|tag| report.data(tag)),
    }
    Ok(Exit::Done)
}

fn repository(text: &str) -> Result<ImageName, String> {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    name.trim_end_matches('/')
        .parse()
        .map_err(|error: NameError| format!("{}; write docker://HOST/NAME", error.in_registry()))
}
