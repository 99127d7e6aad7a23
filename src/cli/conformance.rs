//! `dmoci conformance`: the command-line protocol of the public test suite `sigstore-conformance`, as far as it verifies.

use std::path::PathBuf;

use clap::Subcommand;

use super::Report;
use crate::diagnostic::{Exit, Failure};
use crate::ops::{key, verify};
use crate::trust::{Identity, Root, Signer, Trusted, Wanted};

/// Speak the protocol of the test suite sigstore-conformance
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    VerifyBundle(VerifyBundle),
}

/// Verify one bundle; exit 0 when it is right
#[derive(Debug, clap::Args)]
struct VerifyBundle {
    /// Judge by Sigstore's staging service
    #[arg(long, conflicts_with = "trusted_root")]
    staging: bool,
    /// The bundle
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The subject of the certificate
    #[arg(long, value_name = "SUBJECT", requires = "certificate_oidc_issuer")]
    certificate_identity: Option<String>,
    /// Who vouched for it
    #[arg(long, value_name = "URL", requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// The public key, when the bundle is by one
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "certificate_identity",
        required_unless_present = "certificate_identity"
    )]
    key: Option<PathBuf>,
    /// The trusted root
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// A file, or sha256:DIGEST where there is no file of that name
    #[arg(value_name = "FILE_OR_DIGEST")]
    artifact: String,
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    let Command::VerifyBundle(args) = args.command;
    let signer = match &args.key {
        Some(key) => Signer::Key(key::public(key)?),
        None => Signer::Identity(Identity::exact(
            args.certificate_identity.as_deref().unwrap_or_default(),
            args.certificate_oidc_issuer.as_deref().unwrap_or_default(),
        )?),
    };
    let root = match &args.trusted_root {
        Some(path) => verify::trusted_root(path)?,
        None if args.staging => Root::staging()?,
        None => Root::embedded()?,
    };
    let trusted = Trusted { signer, wanted: Wanted::Anything, root: root.strict() };
    let signature = verify::conforms(&args.bundle, &args.artifact, &trusted)?;
    report.status("Verified", format!("{}: signed by {}", args.artifact, signature.signer));
    Ok(Exit::Done)
}
