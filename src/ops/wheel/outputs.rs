//! What builds have written into a source tree: no part of the source, wherever an earlier run put it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::companions::{accompanied, is_companion};
use super::publish::{EVIDENCE, EVIDENCE_FILE, FOLDER, is_distribution};
use crate::files;
use crate::limits;
use crate::oci::index::{SelfDigest, self_digest};
use crate::oci::json;
use crate::ops::build::{DIGESTS, LOG, is_ours};
use crate::store::layout::write::{IGNORE, IGNORE_ALL, IMAGE, SCRATCH};

/// Folders that are no source anyway, and are not looked into.
const PASSED: [&str; 2] = [".git", "__pycache__"];

/// The paths, from the tree, of what dmoci has written into its folders. A folder in which nothing else is counts as a whole.
///
/// What cannot be read is passed over here: whoever copies the tree meets it, and says so.
pub(super) fn written(tree: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    look(tree, Path::new(""), &mut found);
    found.into_iter().map(|path| path.into_os_string().as_encoded_bytes().to_vec()).collect()
}

/// Adds what is written in a folder; true when that is all that is in it.
fn look(tree: &Path, below: &Path, found: &mut Vec<PathBuf>) -> bool {
    let folder = tree.join(below);
    let Ok(entries) = fs::read_dir(&folder) else { return false };
    let entries: Vec<_> = entries.flatten().collect();
    let names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
    let output = is_output(&folder, |name| names.iter().any(|other| other == name));
    let before = found.len();
    let (mut rest, mut ignores) = (0, false);
    for entry in &entries {
        let name = entry.file_name();
        let path = below.join(&name);
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if output && is_written(&folder, &name) {
            found.push(path);
        } else if output && name == IGNORE && files::holds(&folder.join(&name), IGNORE_ALL) {
            ignores = true;
        } else if !is_folder || PASSED.iter().any(|passed| name == *passed) || !look(tree, &path, found) {
            rest += 1;
        }
    }
    let whole = rest == 0 && found.len() > before;
    if whole && !below.as_os_str().is_empty() {
        found.truncate(before);
        found.push(below.to_owned());
    } else if ignores && !below.as_os_str().is_empty() {
        // Only an output directory that had nothing else in it got one.
        found.push(below.join(IGNORE));
    }
    whole
}

/// Whether a folder has been the output directory of a build.
fn is_output(folder: &Path, has: impl Fn(&str) -> bool) -> bool {
    has(SCRATCH)
        || has(IMAGE) && is_image(&folder.join(IMAGE))
        || has(EVIDENCE) && has(FOLDER) && is_evidence(&folder.join(EVIDENCE).join(EVIDENCE_FILE))
}

/// Whether something in an output directory is what dmoci writes under this name.
fn is_written(output: &Path, name: &OsStr) -> bool {
    let path = output.join(name);
    match name.to_str().unwrap_or_default() {
        SCRATCH => true,
        IMAGE => is_image(&path) || has_only(&path, |name| name == "blobs"),
        FOLDER => has_only(&path, |name| is_distribution(name) || is_companion(&path, name)),
        EVIDENCE => {
            let known = |name: &str| name == EVIDENCE_FILE || accompanied(name).is_some_and(is_distribution);
            has_only(&path, known) && is_evidence(&path.join(EVIDENCE_FILE))
        }
        DIGESTS | LOG => is_ours(&head(&path, 4096)),
        _ => false,
    }
}

fn has_only(folder: &Path, known: impl Fn(&str) -> bool) -> bool {
    let known = |entry: fs::DirEntry| entry.file_name().to_str().is_some_and(&known);
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().all(known))
}

/// An image layout that dmoci wrote marks itself.
fn is_image(layout: &Path) -> bool {
    self_digest(&head(&layout.join("index.json"), limits::JSON_BYTES)) != SelfDigest::Unmarked
}

/// What is known of how distributions were built.
fn is_evidence(path: &Path) -> bool {
    let Ok(value) = json::parse(&head(path, limits::JSON_BYTES)) else { return false };
    ["backend", "distributions", "isolation", "rules"].iter().all(|name| value.get(name).is_some())
}

/// The beginning of a regular file; nothing of what is none.
fn head(path: &Path, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = files::open_regular(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tree: &Path) -> Vec<String> {
        let mut found: Vec<_> =
            written(tree).into_iter().map(|path| String::from_utf8(path).unwrap()).collect();
        found.sort();
        found
    }

    #[test]
    fn what_was_written_is_told_from_what_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let index = crate::oci::index::author(&[]);
        for output in ["old", "mixed", "far/away/variant-x"] {
            put(&format!("{output}/image/index.json"), &index);
            put(&format!("{output}/image/blobs/sha256/00"), b"");
            put(&format!("{output}/digests.json"), b"{\"created\":\"1980\"}");
            put(&format!("{output}/.gitignore"), b"*\n");
        }
        put("mixed/notes.txt", b"");
        let evidence = br#"{"backend":"b","distributions":[],"isolation":{},"rules":1}"#;
        put("wheels/evidence/python.json", evidence);
        put("wheels/python/a-1.tar.gz", b"");
        put("wheels/python/a-1.tar.gz.publish.attestation", b"");
        put("wheels/evidence/a-1.tar.gz.sigstore.json", b"");
        // Of the same names, and none of ours.
        put("src/image/index.json", b"{}");
        put("src/python/a.whl", b"");
        put("src/evidence/python.json", b"{}");
        put("src/digests.json", b"{\"created\":\"1980\"}");
        put("image/logo.png", b"");
        let expected = ["far", "mixed/.gitignore", "mixed/digests.json", "mixed/image", "old", "wheels"]
            .map(str::to_owned);
        assert_eq!(found(dir.path()), expected);
        // The tree is an output directory itself.
        let expected = [".dmoci-tmp", "digests.json", "image"].map(str::to_owned);
        put("mixed/.dmoci-tmp/blob", b"");
        assert_eq!(found(&dir.path().join("mixed")), expected);
    }
}
