//! `dmoci key`

use std::path::PathBuf;

use clap::Subcommand;

use super::Report;
use super::password::PasswordArgs;
use crate::diagnostic::{Exit, Failure};
use crate::ops::key;

/// Make a key pair that signs, or show the public part of one
///
/// Key files are cosign's: `cosign sign --key` takes dmoci's and `dmoci sign --key` cosign's.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key pair: ECDSA on P-256, the private key encrypted with a password
    ///
    /// Writes PREFIX.key, which its owner alone may read, and PREFIX.pub. Files that are there are never overwritten. The password may be
    /// empty: then whoever has the file has the key.
    Generate {
        /// What both files are called, up to the ending
        #[arg(long, value_name = "PREFIX", default_value = "dmoci")]
        output_prefix: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Print the public key that belongs to a private one
    Public {
        /// The private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

pub(crate) fn run(args: Args, report: &mut Report) -> Result<Exit, Failure> {
    match args.command {
        Command::Generate { output_prefix, password } => {
            let password = password.new_one()?;
            if password.is_empty() {
                report.warning("the password is empty: whoever has the private key's file can sign with it");
            }
            let made = key::generate(&output_prefix, &password)?;
            report.rows(&[
                ("private", made.private.display().to_string(), String::new()),
                ("public", made.public.display().to_string(), made.key.id().to_string()),
            ]);
        }
        Command::Public { key, password } => {
            let key = key::open(&key, &password.old(&key)?)?;
            report.raw(key.public().to_pem().as_bytes());
        }
    }
    Ok(Exit::Done)
}
