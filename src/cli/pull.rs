//! `dmoci pull`

use std::num::NonZeroUsize;

use super::network::RegistryArgs;
use super::watcher::Watcher;
use super::{Report, count, docker};
use crate::diagnostic::{Exit, Failure};
use crate::oci::Descriptor;
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
/// image layout: it must be new, empty, or a layout that dmoci wrote, which is replaced, all tags of it. With oci:DIR:TAG the image comes to those that
/// are in the layout, in the place of what had that tag.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…; or any other image
    #[arg(value_name = "SUBJECT")]
    subject: Subject,
    /// A directory, oci:DIR:TAG, oci-archive:FILE, or with --platform docker-archive:FILE
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

const TAG: &str = "org.opencontainers.image.ref.name";

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
    let is_layout = matches!(output.transport(), Transport::Bare | Transport::Oci);
    let (images, what) = if is_layout {
        let done =
            pull::pull(&Request { subject: subject.clone(), output: output.clone(), platform }, &remote)?;
        (done.images, format!("{}, {} bytes", count(done.blobs, "blob", "blobs"), done.bytes))
    } else {
        let request = export::Request {
            subject: subject.clone(),
            output: output.clone(),
            platform,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let done = export::export(&request, &remote)?;
        (done.images, format!("{} bytes", done.size))
    };
    // Of several images each line says which it is.
    let whole = images.len() > 1 && subject.tag().is_none();
    let of = |image: &Descriptor| match image.annotations.get(TAG).filter(|_| whole) {
        Some(tag) => format!("{name}:{tag}"),
        None => name.clone(),
    };
    let rows: Vec<_> = images.iter().map(|image| ("image", of(image), image.digest.to_string())).collect();
    report.rows(&rows);
    report.status("Finished", format!("{output}: {what}"));
    Ok(Exit::Done)
}
