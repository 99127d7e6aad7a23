//! `dmoci export`

use std::num::NonZeroUsize;

use clap::Args as ClapArgs;

use super::network::RegistryArgs;
use super::watcher::Watcher;
use super::{Report, docker};
use crate::diagnostic::{Exit, Failure};
use crate::oci::platform::Platform;
use crate::ops::export::{self, Request};
use crate::ops::remote::Remote;
use crate::store::Subject;

/// Write an image into one archive file, the same bytes every time
///
/// oci-archive:FILE holds all platforms, for podman, ctr, skopeo and dmoci. docker-archive:FILE holds one platform and
/// loads with `docker load` too; zstd layers are stored plain in it. The file is verified before it gets its name.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// An image: oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG or a path
    #[arg(value_name = "SUBJECT")]
    subject: Subject,
    /// oci-archive:FILE or docker-archive:FILE
    #[arg(short, long, value_name = "ARCHIVE")]
    output: Subject,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    report.status("Exporting", &args.subject);
    let request = Request {
        subject: docker::located(args.subject)?,
        output: args.output,
        platform: args.platform,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let (network, watch) = (args.registry.network(), Watcher::new(report));
    let done = export::export(&request, &Remote { network: &network, watch: &watch })?;
    let mut images = done.images.clone();
    images.dedup_by(|a, b| a.digest == b.digest);
    let names = if done.names.is_empty() { vec!["(unnamed)".to_owned()] } else { done.names.clone() };
    let mut rows = Vec::new();
    for image in images {
        rows.extend(names.iter().map(|name| ("image", name.clone(), image.digest.to_string())));
    }
    if let Some(id) = &done.image_id {
        rows.extend(names.iter().map(|name| ("image-id", name.clone(), id.to_string())));
    }
    rows.push(("archive", done.path.display().to_string(), done.digest.to_string()));
    report.rows(&rows);
    report.status("Finished", format!("{}, {} bytes, verified", done.path.display(), done.size));
    Ok(Exit::Done)
}
