//! `dmoci delete`

use super::network::RegistryArgs;
use super::watcher::Watcher;
use super::{Report, count};
use crate::diagnostic::{Exit, Failure};
use crate::ops::delete::{self, Request};
use crate::ops::remote::Remote;
use crate::store::Subject;

/// Delete tags or images from registries
///
/// A tag goes alone, where the registry does that; the image stays under its digest. A digest is the manifest, with all tags that name it. All is looked up before anything
/// goes, and what went is printed; --dry-run prints it and deletes nothing. Blobs go when the registry collects its garbage.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…; tag or digest must be said
    #[arg(required = true, value_name = "SUBJECT", value_parser = named)]
    subjects: Vec<Subject>,
    /// Delete what refers to the manifest too, as it says itself: signatures, SBOMs, provenance
    #[arg(long)]
    referrers: bool,
    /// Say what would go, and delete nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let (network, watch) = (args.registry.network(), Watcher::new(report));
    let request = Request { subjects: args.subjects, referrers: args.referrers, dry_run: args.dry_run };
    let done = delete::delete(&request, &Remote { network: &network, watch: &watch })?;
    drop(watch);
    let rows: Vec<_> =
        done.gone.iter().map(|gone| (gone.kind, gone.name.clone(), gone.digest.to_string())).collect();
    report.rows(&rows);
    done.notes.iter().for_each(|note| report.warning(note));
    let what = |kind: &str| done.gone.iter().filter(|gone| gone.kind == kind).count();
    let manifests = what("manifest") + what("referrer") + what("list");
    let what = [count(what("tag"), "tag", "tags"), count(manifests, "manifest", "manifests")].join(" and ");
    match request.dry_run {
        true => report.status("Would", format!("delete {what}")),
        false => report.status("Deleted", what),
    }
    Ok(Exit::Done)
}

/// An image in a registry whose tag or digest is said: what goes is never a guess.
fn named(text: &str) -> Result<Subject, String> {
    let subject: Subject = text.parse::<Subject>().map_err(|error| error.to_string())?.settled();
    let last = text.rsplit('/').next().unwrap_or_default();
    match subject.name().is_none() || last.contains([':', '@']) {
        true => Ok(subject),
        false => {
            Err("it says neither tag nor digest: write docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…"
                .into())
        }
    }
}
