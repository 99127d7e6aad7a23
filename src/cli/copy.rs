//! `dmoci copy`

use super::network::RegistryArgs;
use super::{Report, docker, pull, push};
use crate::diagnostic::{Exit, Failure};
use crate::oci::platform::Platform;
use crate::ops::push::Request;
use crate::store::{Subject, Transport};

/// Copy an image from anywhere to anywhere, whole
///
/// To a registry it is as `push`, to a directory or archive as `pull`: all platforms or one, everything that refers to them, all digests as they are. Between two
/// repositories of one registry blobs are taken over where the registry does that, and are not fetched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An image: docker://HOST/NAME:TAG, oci:DIR[:TAG], oci-archive:FILE, docker-daemon:NAME:TAG or a path
    #[arg(value_name = "FROM")]
    from: Subject,
    /// docker://HOST/NAME:TAG, a directory, oci:DIR:TAG, oci-archive:FILE, or with --platform docker-archive:FILE
    #[arg(value_name = "TO")]
    to: Subject,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    report.status("Copying", format!("{} to {}", args.from, args.to));
    let network = args.registry.network();
    let (subject, to) = (docker::located(args.from)?, args.to.settled());
    match to.transport() {
        Transport::Registry => {
            let request = Request { subject, to: vec![to], platform: args.platform, dry_run: false };
            push::send(&request, &network, report)
        }
        _ => pull::fetch(subject, to, args.platform, &network, report),
    }
}
