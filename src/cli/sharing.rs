//! The options of builds that share their layers with other machines.

use std::path::PathBuf;
use std::sync::Arc;

use super::password::PasswordArgs;
use crate::diagnostic::Failure;
use crate::oci::reference::{ImageName, NameError};
use crate::ops::key;
use crate::ops::shared::Sharing;

/// Where layers are had from and given to, and whose they are.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Shared cache options")]
pub(crate) struct SharingArgs {
    /// Take layers that other machines made, from this repository; can be repeated. Only what --cache-verify-key has signed is taken
    #[arg(long, value_name = "docker://HOST/NAME", value_parser = repository, conflicts_with = "no_cache")]
    cache_from: Vec<ImageName>,
    /// Give the layers of this build to other machines, in this repository; can be repeated. --cache-sign-key signs each
    #[arg(long, value_name = "docker://HOST/NAME", value_parser = repository)]
    cache_to: Vec<ImageName>,
    /// The public key of those whose layers are taken; can be repeated
    #[arg(long, value_name = "FILE")]
    cache_verify_key: Vec<PathBuf>,
    /// The private key that signs layers that are given; what it signed is taken, too
    #[arg(long, value_name = "FILE")]
    cache_sign_key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
}

impl SharingArgs {
    /// What these options say.
    pub(crate) fn sharing(self) -> Result<Sharing, Failure> {
        let signer = match &self.cache_sign_key {
            Some(path) => Some(Arc::new(key::open(path, &self.password.old(path)?)?)),
            None => None,
        };
        Ok(Sharing {
            from: self.cache_from,
            to: self.cache_to,
            trusted: self.cache_verify_key.iter().map(|path| key::public(path)).collect::<Result<_, _>>()?,
            signer,
        })
    }
}

/// A repository, with or without what subjects begin with.
fn repository(text: &str) -> Result<ImageName, NameError> {
    text.strip_prefix("docker://").unwrap_or(text).parse()
}
