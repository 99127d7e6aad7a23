//! `dmoci pull`

use std::num::NonZeroUsize;

use super::network::RegistryArgs;
use super::watcher::Watcher;
use super::{Report, count, docker};
use crate::diagnostic::{Exit, Failure};
use crate::oci::platform::Platform;
use crate::ops::export;
use crate::ops::lock::Network;
use crate::ops::pull::{self, Request};
use crate::ops::remote::Remote;
use crate::store::{Subject, Transport};

/// Fetch an image from a registry, whole
///
/// All platforms come, or one, with everything that refers to them: signatures, SBOMs, provenance. Nothing is written again, so all digests
/// stay. Every blob is hashed; what was fetched before is not fetched again, and what was cut goes on where it was. A directory becomes an OCI
/// image layout: it must be new, empty, or a layout that dmoci wrote, which is replaced.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…; or any other image
    #[arg(value_name = "SUBJECT")]
    subject: Subject,
    /// A directory, or oci-archive:FILE
    #[arg(short, long, value_name = "DIR|ARCHIVE")]
    output: Subject,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    report.status("Pulling", &args.subject);
    let network = args.registry.network();
    fetch(docker::located(args.subject)?, args.output, args.platform, &network, report)
}

/// Writes an image to where it is not in a registry.
pub(super) fn fetch(
    subject: Subject,
    output: Subject,
    platform: Option<Platform>,
    network: &Network<'_>,
    report: &Report,
) -> Result<Exit, Failure> {
    let watch = Watcher::new(report);
    let remote = Remote { network, watch: &watch };
    let name = subject.to_string();
    let is_layout = matches!(output.transport(), Transport::Bare | Transport::Oci)
        && (output.tag(), output.digest()) == (None, None);
    let (images, what) = if is_layout {
        let output = output.path().to_owned();
        let done = pull::pull(&Request { subject, output, platform }, &remote)?;
        (done.images, format!("{}, {} bytes", count(done.blobs, "blob", "blobs"), done.bytes))
    } else {
        let request = export::Request {
            subject,
            output: output.clone(),
            platform,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let done = export::export(&request, &remote)?;
        (done.images, format!("{} bytes", done.size))
    };
    let rows: Vec<_> = images.iter().map(|image| ("image", name.clone(), image.digest.to_string())).collect();
    report.rows(&rows);
    report.status("Finished", format!("{output}: {what}"));
    Ok(Exit::Done)
}
