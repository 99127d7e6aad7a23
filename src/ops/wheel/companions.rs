//! What accompanies distributions: signatures and attestations, which are about the bytes of one of them.
//!
//! Those that dmoci makes lie in the folder of evidence, because uploaders take every file beside a distribution for one more; those of
//! other tools may lie beside it.

use std::fs;
use std::path::{Path, PathBuf};

use super::publish::{EVIDENCE, EVIDENCE_FILE, FOLDER, is_distribution};

/// The file that a signature or attestation is about, by the names that signers and uploaders give these.
pub(in crate::ops) fn accompanied(name: &str) -> Option<&str> {
    let signed = [".sigstore.json", ".sig", ".asc"].iter().find_map(|ending| name.strip_suffix(ending));
    // NAME.publish.attestation
    let attested = || Some(name.strip_suffix(".attestation")?.rsplit_once('.')?.0);
    signed.or_else(attested).filter(|name| !name.is_empty())
}

/// Whether a file in the folder of distributions accompanies one that is there.
pub(in crate::ops) fn is_companion(folder: &Path, name: &str) -> bool {
    accompanied(name).is_some_and(|of| is_distribution(of) && folder.join(of).is_file())
}

/// The names of what accompanies this distribution in its folder.
pub(super) fn beside(folder: &Path, distribution: &str) -> Vec<String> {
    names(folder).filter(|name| accompanied(name) == Some(distribution)).collect()
}

/// What lies in the folder of evidence and is about a distribution that does not stay as it is; from the output directory.
pub(super) fn outdated(output: &Path, stays: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let folder = output.join(EVIDENCE);
    let about = |name: &String| accompanied(name).is_some_and(|of| is_distribution(of) && !stays(of));
    names(&folder).filter(about).map(|name| Path::new(EVIDENCE).join(name)).collect()
}

/// Where the signature of a file in the folder of distributions of an output directory lies; nothing for other files.
pub(in crate::ops) fn place(file: &Path, ending: &str) -> Option<PathBuf> {
    let name = file.file_name()?.to_str()?;
    // Of `x.whl` alone the folder has no name.
    let folder = file.canonicalize().ok()?.parent()?.to_owned();
    if !is_distribution(name) || folder.file_name()? != FOLDER {
        return None;
    }
    let shown = match file.parent()? {
        parent if parent.file_name().is_some_and(|name| name == FOLDER) => match parent.parent()? {
            above if above.as_os_str().is_empty() => PathBuf::from(EVIDENCE),
            above => above.join(EVIDENCE),
        },
        _ => folder.parent()?.join(EVIDENCE),
    };
    shown.join(EVIDENCE_FILE).is_file().then(|| shown.join(format!("{name}{ending}")))
}

fn names(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_companions() {
        for (name, of) in [
            ("a.whl.sigstore.json", Some("a.whl")),
            ("a.tar.gz.sig", Some("a.tar.gz")),
            ("a.tar.gz.publish.attestation", Some("a.tar.gz")),
            ("a.whl.asc", Some("a.whl")),
            ("a.whl", None),
            (".sigstore.json", None),
            ("attestation", None),
        ] {
            assert_eq!(accompanied(name), of, "{name}");
        }
    }
}
