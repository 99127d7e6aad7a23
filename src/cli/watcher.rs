//! What `build`, `check` and `lock` say while they work.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::Report;
use super::report::Progress;
use crate::ops::plan::Watch;

/// Tells the report what is done.
pub(super) struct Watcher<'a> {
    report: &'a Report,
    progress: Mutex<Option<Progress>>,
    fetching: Mutex<Option<Progress>>,
    /// Warnings that were told: several platforms may give the same.
    told: Mutex<BTreeSet<String>>,
}

impl<'a> Watcher<'a> {
    /// Tells this report.
    pub(super) fn new(report: &'a Report) -> Watcher<'a> {
        Watcher { report, progress: Mutex::default(), fetching: Mutex::default(), told: Mutex::default() }
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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(message.to_owned()) {
            self.report.warning(message);
        }
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
