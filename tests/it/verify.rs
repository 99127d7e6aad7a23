//! `verify` on layouts and archives, sound and damaged.

mod distributions;
mod flips;
mod hostile;
mod raw;
mod sample;
mod schema;
mod selection;
mod splice;
mod verdicts;

use std::num::NonZeroUsize;
use std::path::Path;

use dmoci::engine::verify::{Finding, Verdict, VerifyReport};
use dmoci::oci::Severity;
use dmoci::ops::verify::{Request, verify};
use dmoci::store::Subject;

pub(crate) use sample::{Sample, tar};

/// The report on a path.
#[track_caller]
pub(crate) fn report(path: &Path) -> VerifyReport {
    verify(&request(path))
        .unwrap_or_else(|failure| panic!("{}: {failure} {:?}", path.display(), failure.causes))
}

pub(crate) fn request(path: &Path) -> Request {
    Request {
        subject: Subject::bare(path),
        against: None,
        trusted: None,
        bundle: None,
        now: 0,
        expect_version: None,
        integrity_only: false,
        threads: NonZeroUsize::MIN,
    }
}

/// The codes of all errors, sorted, each once.
pub(crate) fn errors(report: &VerifyReport) -> Vec<&'static str> {
    let mut codes: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.code)
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Fails unless the image is sound.
#[track_caller]
pub(crate) fn assert_sound(report: &VerifyReport) {
    let errors: Vec<&Finding> =
        report.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(report.verdict, Verdict::NotAuthenticated);
}
