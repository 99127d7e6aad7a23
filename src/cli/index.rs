//! `dmoci index`

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::network::RegistryArgs;
use super::push::told;
use super::watcher::Watcher;
use super::{Report, docker};
use crate::diagnostic::{Exit, Failure};
use crate::ops::index::{self, Request};
use crate::ops::remote::Remote;
use crate::store::Subject;

/// Join images of single platforms
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
}

/// Join images into one index, whole
///
/// What several machines built for a platform each becomes one image for all of them. Manifests stay as they are, and all that refers to them comes along. The index has
/// the annotations that all of the images have alike; it is the one that `dmoci build` makes of all platforms at once. An index among the images is taken apart. Two images for one
/// platform are an error. Tags move last, when every destination has everything.
#[derive(Debug, clap::Args)]
struct Create {
    /// Images: docker://HOST/NAME:TAG, oci:DIR[:TAG], oci-archive:FILE or a path
    #[arg(required = true, value_name = "SUBJECT")]
    subjects: Vec<Subject>,
    /// docker://HOST/NAME:TAG, oci:DIR[:TAG] or oci-archive:FILE[:TAG]; one destination each time, and as often as there are any
    #[arg(long, required = true, value_name = "TO")]
    to: Vec<Subject>,
    /// An annotation of the index; an empty value leaves one out that the images have alike
    #[arg(long, value_name = "NAME=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,
    /// Say what would be written, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let Command::Create(args) = args.command;
    let network = args.registry.network();
    let request = Request {
        subjects: args.subjects.into_iter().map(docker::located).collect::<Result<_, _>>()?,
        to: args.to.into_iter().map(Subject::settled).collect(),
        annotations: BTreeMap::from_iter(args.annotation),
        dry_run: args.dry_run,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    report.status("Joining", super::count(request.subjects.len(), "image", "images"));
    let watch = Watcher::new(report);
    let created = index::create(&request, &Remote { network: &network, watch: &watch })?;
    drop(watch);
    let name = |platform: &Option<crate::oci::PlatformFields>| match platform {
        Some(platform) => platform.to_string(),
        None => "-".to_owned(),
    };
    let mut rows: Vec<_> = (created.manifests.iter())
        .map(|one| ("manifest", name(&one.platform), one.digest.to_string()))
        .collect();
    let written = created.written.iter().map(|(to, _)| to).chain(created.pushed.iter().map(|one| &one.to));
    let word = if request.dry_run { "would" } else { "index" };
    rows.extend(written.map(|to| (word, to.to_string(), created.index.digest.to_string())));
    report.rows(&rows);
    for (to, bytes) in &created.written {
        match request.dry_run {
            true => report.status("Would", format!("write {to}")),
            false => report.status("Finished", format!("{to}: {bytes} bytes")),
        }
    }
    told(&created.pushed, request.dry_run, report);
    Ok(Exit::Done)
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
