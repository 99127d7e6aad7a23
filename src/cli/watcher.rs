//! What `build`, `check` and `lock` say while they work.

use std::sync::Mutex;

use super::Report;
use super::report::Progress;
use crate::ops::plan::Watch;

/// Tells the report what is done.
pub(super) struct Watcher<'a> {
    report: &'a Report,
    progress: Mutex<Option<Progress>>,
    fetching: Mutex<Option<Progress>>,
}

impl<'a> Watcher<'a> {
    /// Tells this report.
    pub(super) fn new(report: &'a Report) -> Watcher<'a> {
        Watcher { report, progress: Mutex::new(None), fetching: Mutex::new(None) }
    }
}

impl Watch for Watcher<'_> {
    fn status(&self, verb: &str, message: &str) {
        self.report.status(verb, message);
    }

    fn detail(&self, verb: &str, message: &str) {
        self.report.detail(verb, message);
    }

    fn warning(&self, message: &str) {
        self.report.warning(message);
    }

    fn fetching(&self, bytes: u64) {
        if let Ok(mut fetching) = self.fetching.lock() {
            match fetching.as_ref() {
                Some(fetching) => fetching.inc_total(bytes),
                None => *fetching = Some(self.report.progress("Fetching", bytes)),
            }
        }
    }

    fn fetched(&self, bytes: u64) {
        if let Ok(fetching) = self.fetching.lock()
            && let Some(fetching) = fetching.as_ref()
        {
            fetching.inc(bytes);
        }
    }

    fn all_fetched(&self) {
        if let Ok(mut fetching) = self.fetching.lock() {
            *fetching = None;
        }
    }

    fn total(&self, bytes: u64) {
        if let Ok(mut progress) = self.progress.lock() {
            *progress = Some(self.report.progress("Writing", bytes));
        }
    }

    fn wrote(&self, bytes: u64) {
        if let Ok(progress) = self.progress.lock()
            && let Some(progress) = progress.as_ref()
        {
            progress.inc(bytes);
        }
    }
}
