//! A file of no kind that is known, such as `SHA256SUMS`: nothing is said of what is in it, but who signed it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::report::{CheckId, Findings};
use super::{Canonical, FileSummary, Options, Verdict, VerifyReport, Watch, distribution, signatures};
use crate::files;
use crate::oci::Problem;

/// Verifies a file that is open. An error means that it could not be read.
pub fn verify(file: &File, path: &Path, options: &Options, watch: &dyn Watch) -> io::Result<VerifyReport> {
    let size = file.metadata()?.len();
    watch.total(size);
    let digest = files::digest(file, |count| watch.read(count))?;
    let mut findings = Findings::default();
    let mut authenticated_by = distribution::held(path, &digest, options, &mut findings);
    if let Some(expected) = &options.expect_version {
        let problem = Problem::error("E-VERSION", "", "a file of no kind that is known says no version");
        findings.add(CheckId::Version, &options.subject, problem.but(expected.clone(), "nothing"));
    }
    let verdict = match findings.unsound() {
        Some(verdict) => verdict,
        None if !authenticated_by.is_empty() => Verdict::Verified,
        None => Verdict::NotAuthenticated,
    };
    if verdict != Verdict::Verified {
        authenticated_by.clear();
    }
    match options.trust {
        Some(_) => signatures::not_passed(&mut findings),
        None => findings.skip(CheckId::Signatures, "no key or identity was given"),
    }
    let checks = findings.checks(&CheckId::FILE);
    Ok(VerifyReport {
        subject: options.subject.clone(),
        verdict,
        authenticated_by,
        images: Vec::new(),
        distribution: None,
        file: Some(FileSummary { digest: digest.to_string(), size }),
        signatures: std::mem::take(&mut findings.signatures),
        rebuild: None,
        checks,
        findings: findings.sorted(),
        canonical: Canonical { reasons: vec!["it is no image, wheel or source distribution".into()] },
    })
}
