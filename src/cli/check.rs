//! `dmoci check`.

use std::collections::BTreeSet;

use super::backend::BackendArgs;
use super::build::epoch;
use super::network::{self, RegistryArgs};
use super::project::{ProjectArgs, VariantArgs};
use super::watcher::Watcher;
use super::{Report, count};
use crate::diagnostic::{Exit, Failure};
use crate::ops::check::{Request, check};
use crate::ops::plan::on;
use crate::spec;

/// Check dmoci.toml, for every platform at once.
///
/// Does everything of a build but writing, for the image and all of its variants: resolves the file for each platform,
/// looks whether every file and directory that it names is there, builds the wheel of [wheel], reads archives and the base image,
/// and finds conflicts between layers and inputs. Ends as `build` would, with 0 when all is well.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    #[command(flatten)]
    variant: VariantArgs,
    /// Refuse a dmoci.lock that lacks something
    #[arg(long)]
    locked: bool,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    network: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let spec = spec::load(&args.project.spec())?;
    let specs = match &args.variant.variant {
        Some(name) => vec![spec.with_variant(name)?],
        None => {
            let variants = spec.variants().map(|name| spec.with_variant(name));
            let mut specs = variants.collect::<Result<Vec<_>, _>>()?;
            specs.insert(0, spec);
            specs
        }
    };
    let request = Request {
        set: args.project.set(),
        project: args.project.directory,
        scratch: std::env::temp_dir(),
        epoch: epoch()?,
        backend: args.backend.backend()?,
        cache: network::cache_root(),
    };
    let network = args.network.of_project(args.locked);
    let watch = Watcher::new(report);
    let mut sources = BTreeSet::new();
    let mut platforms = 0;
    for (spec, checked) in specs.iter().zip(check(&request, &specs, &network, &watch)?) {
        for target in &checked.targets {
            let inputs = target.layers.iter().map(|layer| layer.inputs.len()).sum();
            let (layers, entries) =
                (count(target.layers.len(), "layer", "layers"), count(inputs, "entry", "entries"));
            report.detail("Resolved", format!("{}: {layers}, {entries}", on(spec, target)));
        }
        platforms = platforms.max(checked.targets.len());
        sources.extend(checked.sources);
    }
    drop(watch);
    let mut parts = vec![count(platforms, "platform", "platforms")];
    if args.variant.variant.is_none() && specs.len() > 1 {
        parts.push(count(specs.len() - 1, "variant", "variants"));
    }
    parts.push(count(sources.len(), "source", "sources"));
    let file = specs.first().map(|spec| spec.file().display().to_string()).unwrap_or_default();
    report.status("Checked", format!("{file}: {}", parts.join(", ")));
    Ok(Exit::Done)
}
