//! From finished distributions to the output directory: all of them at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dmoci_layers::{Algorithm, Digest};

use super::companions::{self, is_companion};
use super::error::WheelError;
use super::{Made, Outcome};
use crate::diagnostic::Failure;
use crate::files;
use crate::oci::json::canonical;
use crate::ops::plan::Watch;
use crate::store::layout::write::{SCRATCH, lock};

/// The folder of distributions in an output directory; nothing else is in it, but what other tools say of them.
pub(in crate::ops) const FOLDER: &str = "python";

/// The folder of what is known of builds.
pub(in crate::ops) const EVIDENCE: &str = "evidence";

/// What is known of how distributions were built.
pub(in crate::ops) const EVIDENCE_FILE: &str = "python.json";

/// Puts these in the place of what an earlier build made; gives their folder.
pub(super) fn publish(output: &Path, made: &Outcome, watch: &dyn Watch) -> Result<PathBuf, Failure> {
    let waiting =
        || watch.status("Blocking", &format!("waiting for another build into {}", output.display()));
    let held = lock(output, waiting).map_err(failed(output))?;
    are_ours(output)?;
    let folder = output.join(FOLDER);
    let scratch = output.join(SCRATCH);
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&scratch)(error).into()),
        _ => {}
    }
    fs::create_dir_all(&scratch).map_err(failed(&scratch))?;
    let new = stage(output, &scratch, made)?;
    let about = output.join(EVIDENCE);
    fs::create_dir_all(&about).map_err(failed(&about))?;
    // It is about what was there, and comes back last.
    match fs::rename(about.join(EVIDENCE_FILE), scratch.join(EVIDENCE_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&about)(error).into()),
        _ => files::sync(&about).map_err(failed(&about))?,
    }
    for old in outdated(output, made) {
        let path = output.join(old);
        fs::remove_file(&path).map_err(failed(&path))?;
    }
    files::replace_folder(&new, &folder).map_err(failed(&folder))?;
    files::replace(&scratch, &about, EVIDENCE_FILE, &canonical(&made.evidence)).map_err(failed(&about))?;
    fs::remove_dir_all(&scratch).map_err(failed(&scratch))?;
    drop(held);
    Ok(folder)
}

/// Copies these, complete and on the disk, into a folder in the scratch directory of the output directory; gives the folder. What
/// accompanies those that are in the output directory already goes with them.
pub(in crate::ops) fn stage(output: &Path, scratch: &Path, made: &Outcome) -> Result<PathBuf, Failure> {
    let (old, new) = (output.join(FOLDER), scratch.join(FOLDER));
    fs::create_dir(&new).map_err(failed(&new))?;
    let copy = |from: &Path, name: &str| {
        let path = new.join(name);
        let copy = || {
            let mut file = fs::File::create_new(&path)?;
            io::copy(&mut files::open_regular(from)?, &mut file)?;
            file.sync_all()
        };
        copy().map_err(failed(&path))
    };
    for one in &made.distributions {
        let (distribution, from) = one;
        copy(from, &distribution.name)?;
        let companions =
            if has(&old, one) { companions::beside(&old, &distribution.name) } else { Vec::new() };
        for name in companions {
            copy(&old.join(&name), &name)?;
        }
    }
    files::sync(&new).map_err(failed(&new))?;
    Ok(new)
}

/// Whether an output directory has exactly these already.
pub(in crate::ops) fn is_there(output: &Path, made: &Outcome) -> bool {
    let folder = output.join(FOLDER);
    count(&folder) == made.distributions.len() && made.distributions.iter().all(|made| has(&folder, made))
}

/// How many files are in a folder of distributions, but for what accompanies these.
pub(in crate::ops) fn count(folder: &Path) -> usize {
    let counts = |entry: &fs::DirEntry| !is_companion(folder, &entry.file_name().to_string_lossy());
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().filter(counts).count())
}

/// Whether a folder has this distribution, with these bytes.
fn has(folder: &Path, (distribution, _): &Made) -> bool {
    let file = files::open_regular(&folder.join(&distribution.name));
    let found = file.and_then(|mut file| Digest::of_reader(Algorithm::Sha256, &mut file));
    found.is_ok_and(|found| found == (distribution.digest.clone(), distribution.size))
}

/// Signatures in the folder of evidence of whatever distribution; from the output directory.
pub(in crate::ops) fn all_outdated(output: &Path) -> Vec<PathBuf> {
    companions::outdated(output, |_| false)
}

/// Signatures in the folder of evidence of what is not there any more once these are; from the output directory.
pub(in crate::ops) fn outdated(output: &Path, made: &Outcome) -> Vec<PathBuf> {
    let folder = output.join(FOLDER);
    companions::outdated(output, |name| {
        made.distributions.iter().any(|one| one.0.name == name && has(&folder, one))
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> WheelError + use<> {
    let path = path.to_owned();
    move |source| WheelError::Output { path: path.clone(), source }
}

/// Whether a file is called as a distribution is.
pub(in crate::ops) fn is_distribution(name: &str) -> bool {
    name.ends_with(".whl") || name.ends_with(".tar.gz")
}

/// Refuses an output directory whose folder of distributions holds something else, which is somebody's.
pub(in crate::ops) fn are_ours(output: &Path) -> Result<(), Failure> {
    let folder = output.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed(&folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed(&folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = is_distribution(&name) || is_companion(&folder, &name);
        if !known || !entry.file_type().map_err(failed(&folder))?.is_file() {
            return Err(WheelError::Foreign { path: folder, name }.into());
        }
    }
    Ok(())
}
