//! `dmoci sign`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::build::epoch;
use super::network::RegistryArgs;
use super::password::PasswordArgs;
use super::watcher::Watcher;
use super::{Report, docker};
use crate::diagnostic::{Exit, Failure};
use crate::oci::timestamp;
use crate::ops::key;
use crate::ops::remote::Remote;
use crate::ops::sign::{self, Request};
use crate::store::Subject;

/// Sign images, wheels, source distributions and other files with a key
///
/// Nothing is built and nothing is asked of the network, but for images in a registry. The same key gives the same signature of the same
/// thing, so that a second run changes nothing.
///
/// A file X gets the Sigstore bundle X.sigstore.json beside it, as `cosign sign-blob` makes one, distributions in the python folder of an output directory in the evidence folder of that;
/// SHA256SUMS also gets SHA256SUMS.sig, which
/// `openssl dgst -sha256 -verify KEY.pub -signature SHA256SUMS.sig SHA256SUMS` checks. An image of a layout, an archive or a registry gets a manifest
/// that refers to it, as `cosign sign` makes one; of an index the index is signed, which covers all platforms.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or images: oci:DIR[:TAG], oci-archive:FILE, docker://HOST/NAME:TAG, a directory with a layout
    #[arg(required = true, value_name = "SUBJECT")]
    subjects: Vec<Subject>,
    /// The private key, as `dmoci key generate` or cosign wrote it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    password: PasswordArgs,
    /// Where the bundle of a file goes; it must be the only subject
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Write FILE.sig too, a raw signature in DER
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    registry: RegistryArgs,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    if args.bundle.is_some() && args.subjects.len() > 1 {
        return Err(Failure {
            code: "E-SIGN-BUNDLE",
            exit: Exit::Usage,
            message: "--bundle names one file, and there are several subjects".into(),
            causes: Vec::new(),
            places: Vec::new(),
            help: Some("sign them one by one, or leave the bundles beside the files".into()),
        });
    }
    let seconds = epoch()?.unwrap_or(dmoci_layers::MTIME);
    let created = timestamp::rfc3339(seconds).unwrap_or_default();
    let key = key::open(&args.key, &args.password.old(&args.key)?)?;
    let network = args.registry.network();
    report.status("Signing", format!("with {}", key.public()));
    for subject in args.subjects {
        let request = Request {
            subject: docker::located(subject)?,
            key: &key,
            bundle: args.bundle.clone(),
            raw: args.raw,
            created: created.clone(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        };
        let watch = Watcher::new(report);
        let signed = sign::sign(&request, &Remote { network: &network, watch: &watch })?;
        drop(watch);
        report.rows(&[("signed", signed.name.clone(), signed.digest.to_string())]);
        let verb = if signed.new { "Wrote" } else { "Unchanged" };
        report.status(verb, signed.holders.join(", "));
    }
    Ok(Exit::Done)
}
