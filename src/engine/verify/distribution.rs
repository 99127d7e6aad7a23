//! Wheels and source distributions: whether one is what it says, in all its parts, and what the operator holds about it.

use std::fs::File;
use std::io;
use std::path::Path;

use dmoci_layers::Digest;

use super::report::{CheckId, Findings};
use super::{Canonical, DistributionSummary, Options, Verdict, VerifyReport, Watch, signatures};
use crate::files;
use crate::inputs::python::dist::{DistKind, Part, examine};
use crate::oci::Problem;

/// Verifies a distribution that is open. An error means that it could not be read.
pub fn verify(
    kind: DistKind,
    file: File,
    path: &Path,
    options: &Options,
    watch: &dyn Watch,
) -> io::Result<VerifyReport> {
    watch.total(file.metadata()?.len());
    let digest = files::digest(&file, |count| watch.read(count))?;
    let found = examine(kind, file, path, digest.clone());
    let mut findings = Findings::default();
    for remark in found.remarks {
        let check = match remark.part {
            Part::Container => CheckId::Container,
            Part::Record => CheckId::Record,
            Part::Metadata => CheckId::Metadata,
            Part::Names => CheckId::Names,
        };
        findings.add(check, &remark.place, remark.problem);
    }
    found.reasons.iter().for_each(|reason| findings.not_canonical(reason));
    findings.detail(CheckId::Container, format!("{} files, {} bytes", found.files, found.bytes));
    if kind == DistKind::Sdist {
        findings.skip(CheckId::Record, "source distributions have none");
    }
    let (name, version) = found.project.unzip();
    match (&options.expect_version, &version) {
        (None, _) => findings.skip(CheckId::Version, "no version was asked for"),
        (Some(expected), Some(version)) if expected == version => {}
        (Some(expected), version) => {
            let problem = Problem::error("E-VERSION", "", "it is not the version that was asked for");
            let version = version.clone().unwrap_or_else(|| "nothing".into());
            findings.add(CheckId::Version, &options.subject, problem.but(expected.clone(), version));
        }
    }
    let mut authenticated_by = held(path, &digest, options, &mut findings);
    let asked = options.held();
    let verdict = match findings.unsound() {
        Some(verdict) => verdict,
        None if !authenticated_by.is_empty() => Verdict::Verified,
        None if options.integrity_only && !asked => Verdict::Sound,
        None => Verdict::NotAuthenticated,
    };
    if verdict != Verdict::Verified {
        authenticated_by.clear();
    }
    match options.trust {
        Some(_) => signatures::not_passed(&mut findings),
        None => findings.skip(CheckId::Signatures, "no key or identity was given"),
    }
    let checks = findings.checks(&CheckId::DISTRIBUTION);
    let canonical = match verdict {
        Verdict::NotSound => Canonical { reasons: vec!["it is damaged or malformed".into()] },
        Verdict::Undecided => Canonical { reasons: vec!["not all of it could be read".into()] },
        _ => findings.canonical.clone(),
    };
    Ok(VerifyReport {
        subject: options.subject.clone(),
        verdict,
        authenticated_by,
        images: Vec::new(),
        distribution: Some(DistributionSummary {
            kind: kind.name(),
            name,
            version,
            tags: found.tags,
            digest: digest.to_string(),
            files: found.files,
        }),
        file: None,
        signatures: std::mem::take(&mut findings.signatures),
        rebuild: None,
        checks,
        findings: findings.sorted(),
        canonical,
    })
}

/// What the operator holds that names the file.
pub(super) fn held(path: &Path, digest: &Digest, options: &Options, findings: &mut Findings) -> Vec<String> {
    const CHECK: CheckId = CheckId::Authenticity;
    let mut by = Vec::new();
    if let Some(expected) = &options.digest {
        match expected == digest {
            true => by.push(format!("the digest {digest} that was given")),
            false => {
                let problem = Problem::error("E-SELECT", "", "the file has another digest");
                findings.add(CHECK, &options.subject, problem.but(expected.to_string(), digest.to_string()));
            }
        }
    }
    let signer = signatures::of_list(options, findings);
    let mut vouched = false;
    if let Some(against) = &options.against {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some(expected) = against.contradicts(file.as_deref(), digest) {
            let problem = Problem::error("E-AGAINST", "", "the file has another digest than the list says");
            findings.add(CHECK, &options.subject, problem.but(expected.to_string(), digest.to_string()));
            by.clear();
        } else if against.entries.iter().any(|(listed, _)| listed == digest) {
            let name = &against.name;
            by.push(format!("the digest {digest} in {name}, {}", signatures::believed(signer.as_ref())));
            vouched = signer.is_some();
        } else {
            let problem = Problem::warning("E-UNCOVERED", "", format!("{} does not cover it", against.name));
            findings.add(CHECK, &options.subject, problem);
            by.clear();
        }
    }
    if let Some(trust) = options.trust.as_ref().filter(|_| !vouched) {
        match signatures::of_file(path, digest, trust, findings) {
            Some(signed) => by.push(signed),
            None => by.clear(),
        }
    }
    match (by.is_empty(), options.held()) {
        (false, _) => findings.detail(CHECK, by.join("; ")),
        (true, true) => findings.skip(CHECK, "what was given does not cover it"),
        (true, false) if options.integrity_only => findings.skip(CHECK, "only integrity was asked for"),
        (true, false) => findings
            .skip(CHECK, "no digest, list, key or identity was given: anyone could have made this file"),
    }
    by
}
