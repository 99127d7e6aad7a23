//! `dmoci push`

use super::network::RegistryArgs;
use super::watcher::Watcher;
use super::{Report, count, docker};
use crate::diagnostic::{Exit, Failure};
use crate::oci::platform::Platform;
use crate::ops::lock::Network;
use crate::ops::push::{self, Pushed, Request};
use crate::ops::remote::Remote;
use crate::store::Subject;

/// Put an image into registries, whole
///
/// All platforms go, or one, with everything that refers to them, to every destination. Nothing is written again, so all digests stay. What a repository has is not
/// sent; a large blob whose upload was cut goes on where it was, also in the next run. Tags move last, when every destination has everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An image: oci:DIR[:TAG], oci-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG or a path
    #[arg(value_name = "SUBJECT")]
    subject: Subject,
    /// docker://HOST/NAME:TAG; several go one after another
    #[arg(required = true, value_name = "TO")]
    to: Vec<Subject>,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Say what would be sent, and write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    report.status("Pushing", &args.subject);
    let network = args.registry.network();
    let request = Request {
        subject: docker::located(args.subject)?,
        to: args.to.into_iter().map(Subject::settled).collect(),
        platform: args.platform,
        dry_run: args.dry_run,
    };
    send(&request, &network, report)
}

/// Pushes, and tells what came of it.
pub(super) fn send(request: &Request, network: &Network<'_>, report: &Report) -> Result<Exit, Failure> {
    let watch = Watcher::new(report);
    let done = push::push(request, &Remote { network, watch: &watch })?;
    drop(watch);
    report.rows(&lines(if request.dry_run { "would" } else { "image" }, &done));
    told(&done, request.dry_run, report);
    Ok(Exit::Done)
}

/// One line for each destination.
pub(super) fn rows(done: &[Pushed]) -> Vec<(&'static str, String, String)> {
    lines("image", done)
}

fn lines(word: &'static str, done: &[Pushed]) -> Vec<(&'static str, String, String)> {
    done.iter().map(|pushed| (word, pushed.to.to_string(), pushed.digest.to_string())).collect()
}

/// Tells what was sent, or would be.
pub(super) fn told(done: &[Pushed], dry_run: bool, report: &Report) {
    for pushed in done {
        let (verb, sent) = if dry_run { ("Would", "to send") } else { ("Finished", "sent") };
        let manifests = count(pushed.manifests, "manifest", "manifests");
        let blobs = count(pushed.sent, "blob", "blobs");
        let mounted = match pushed.mounted {
            0 => String::new(),
            mounted => format!(", {} taken over", count(mounted, "blob", "blobs")),
        };
        let to = &pushed.to;
        report
            .status(verb, format!("{to}: {manifests} and {blobs} of {} bytes {sent}{mounted}", pushed.bytes));
    }
}
