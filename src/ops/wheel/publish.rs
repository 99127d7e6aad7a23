//! From finished distributions to the output directory: all of them at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dmoci_layers::{Algorithm, Digest};

use super::error::WheelError;
use super::{Made, Outcome};
use crate::diagnostic::Failure;
use crate::files;
use crate::oci::json::canonical;
use crate::ops::plan::Watch;
use crate::store::layout::write::{SCRATCH, lock};

/// The folder of distributions in an output directory; nothing else is in it.
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
    let new = stage(&scratch, made)?;
    let about = output.join(EVIDENCE);
    fs::create_dir_all(&about).map_err(failed(&about))?;
    // It is about what was there, and comes back last.
    match fs::rename(about.join(EVIDENCE_FILE), scratch.join(EVIDENCE_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&about)(error).into()),
        _ => files::sync(&about).map_err(failed(&about))?,
    }
    files::replace_folder(&new, &folder).map_err(failed(&folder))?;
    files::replace(&scratch, &about, EVIDENCE_FILE, &canonical(&made.evidence)).map_err(failed(&about))?;
    fs::remove_dir_all(&scratch).map_err(failed(&scratch))?;
    drop(held);
    Ok(folder)
}

/// Copies these, complete and on the disk, into a folder in the scratch directory of the output directory; gives the folder.
pub(in crate::ops) fn stage(scratch: &Path, made: &Outcome) -> Result<PathBuf, Failure> {
    let new = scratch.join(FOLDER);
    fs::create_dir(&new).map_err(failed(&new))?;
    for (distribution, from) in &made.distributions {
        let path = new.join(&distribution.name);
        let copy = || {
            let mut file = fs::File::create_new(&path)?;
            io::copy(&mut fs::File::open(from)?, &mut file)?;
            file.sync_all()
        };
        copy().map_err(failed(&path))?;
    }
    files::sync(&new).map_err(failed(&new))?;
    Ok(new)
}

/// Whether an output directory has exactly these already.
pub(in crate::ops) fn is_there(output: &Path, made: &Outcome) -> bool {
    let folder = output.join(FOLDER);
    let count = fs::read_dir(&folder).map_or(0, |entries| entries.count());
    let same = |(distribution, _): &Made| {
        let file = files::open_regular(&folder.join(&distribution.name));
        let found = file.and_then(|mut file| Digest::of_reader(Algorithm::Sha256, &mut file));
        found.is_ok_and(|found| found == (distribution.digest.clone(), distribution.size))
    };
    count == made.distributions.len() && made.distributions.iter().all(same)
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
        if !is_distribution(&name) || !entry.file_type().map_err(failed(&folder))?.is_file() {
            return Err(WheelError::Foreign { path: folder, name }.into());
        }
    }
    Ok(())
}
