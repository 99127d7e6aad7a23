//! Images in registries, for every command that takes one.

use std::time::Duration;

use super::lock::Network;
use super::plan::Watch;
use crate::cache::Downloads;
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::fetch::{Cause, Fetcher, Listener};
use crate::oci::reference::ImageName;
use crate::store::registry::{self, Repository, Which};
use crate::store::{ImageStore, Subject};
use crate::url::Url;

/// How registries are reached.
pub struct Remote<'a> {
    /// The network.
    pub network: &'a Network<'a>,
    /// Who is told how it goes.
    pub watch: &'a dyn Watch,
}

/// An image in a registry is looked up there each time.
#[derive(Debug, thiserror::Error)]
#[error("{0} is in a registry, and --offline uses no network")]
pub struct OfflineError(String);

impl Diagnostic for OfflineError {
    fn code(&self) -> &'static str {
        "E-OFFLINE"
    }

    fn exit(&self) -> Exit {
        Exit::Undecided
    }

    fn help(&self) -> Option<String> {
        Some("leave --offline out; or name a layout or archive that `dmoci pull` wrote before: that needs no network".into())
    }
}

impl Remote<'_> {
    /// Refuses what is in a registry when no network may be used.
    pub(super) fn online(&self, subject: &Subject) -> Result<(), OfflineError> {
        match self.network.settings.offline && subject.name().is_some() {
            true => Err(OfflineError(subject.to_string())),
            false => Ok(()),
        }
    }

    /// The same of a repository.
    pub(super) fn online_name(&self, name: &ImageName) -> Result<(), OfflineError> {
        match self.network.settings.offline {
            true => Err(OfflineError(format!("docker://{name}"))),
            false => Ok(()),
        }
    }

    /// Opens what a subject names, here or in a registry; of the latter only what is wanted is fetched.
    pub(super) fn open(&self, subject: &Subject, which: Which<'_>) -> Result<ImageStore, Failure> {
        let Some(name) = subject.name() else { return Ok(ImageStore::open(subject)?) };
        self.online(subject)?;
        let listener = Told(self.watch);
        let fetcher = self.fetcher(&listener)?;
        let repository = Repository::connect(&fetcher, name, false)?;
        let store = registry::open(&repository, subject.tag(), subject.digest(), which)?;
        self.watch.all_fetched();
        Ok(store)
    }

    /// The same as [`fetcher`](Remote::fetcher), for what is only of use when it comes quickly.
    pub(super) fn hasty<'l>(&'l self, listener: &'l Told<'l>) -> Result<Fetcher<'l>, Failure> {
        let downloads = Downloads::open(self.network.downloads()?)?;
        let mut settings = self.network.settings.clone();
        settings.patience = settings.patience.hasty();
        Ok(Fetcher::new(settings, downloads, self.network.surroundings, listener))
    }

    /// What fetches, and tells this listener.
    pub(super) fn fetcher<'l>(&'l self, listener: &'l Told<'l>) -> Result<Fetcher<'l>, Failure> {
        let downloads = Downloads::open(self.network.downloads()?)?;
        Ok(Fetcher::new(self.network.settings.clone(), downloads, self.network.surroundings, listener))
    }
}

/// Tells the one who watches the command.
pub(super) struct Told<'a>(pub(super) &'a dyn Watch);

impl Listener for Told<'_> {
    fn begin(&self, url: &Url) {
        self.0.detail("Fetching", &url.to_string());
    }

    fn expect(&self, bytes: u64) {
        self.0.fetching(bytes);
    }

    fn receive(&self, bytes: u64) {
        self.0.fetched(bytes);
    }

    fn retry(&self, url: &Url, cause: &Cause, wait: Duration) {
        self.0.status("Retrying", &format!("{url} in {:.1} s: {cause}", wait.as_secs_f64()));
    }

    fn passed_over(&self, what: &str, why: &dyn std::fmt::Display) {
        self.0.status("Passing", &format!("over the mirror {what}: {why}"));
    }

    fn left_out(&self, message: &str) {
        self.0.warning(message);
    }

    fn blocked(&self, url: &Url) {
        self.0.status("Blocking", &format!("waiting for another run that fetches {url}"));
    }
}
