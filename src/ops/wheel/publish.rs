//! From finished distributions to the output directory: all of them at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::Value;

use super::Made;
use super::error::WheelError;
use crate::diagnostic::Failure;
use crate::files;
use crate::oci::json::canonical;
use crate::ops::plan::Watch;
use crate::store::layout::write::{SCRATCH, lock};

/// The folder of distributions in an output directory; nothing else is in it.
const FOLDER: &str = "python";

/// The folder of what is known of builds.
const EVIDENCE: &str = "evidence";

/// Puts these in the place of what an earlier build made; gives their folder.
pub(super) fn publish(
    output: &Path,
    made: &[Made],
    evidence: &Value,
    watch: &dyn Watch,
) -> Result<PathBuf, Failure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| WheelError::Output { path, source }
    };
    let waiting =
        || watch.status("Blocking", &format!("waiting for another build into {}", output.display()));
    let held = lock(output, waiting).map_err(failed(output))?;
    let folder = output.join(FOLDER);
    let is_there = are_ours(&folder)?;
    let scratch = output.join(SCRATCH);
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&scratch)(error).into()),
        _ => {}
    }
    let new = scratch.join(FOLDER);
    fs::create_dir_all(&new).map_err(failed(&new))?;
    for (distribution, from) in made {
        let path = new.join(&distribution.name);
        let copied = fs::copy(from, &path).and_then(|_| fs::File::open(&path)?.sync_all());
        copied.map_err(failed(&path))?;
    }
    files::sync(&new).map_err(failed(&new))?;
    let about = output.join(EVIDENCE);
    fs::create_dir_all(&about).map_err(failed(&about))?;
    swap(&new, &folder, is_there).map_err(failed(&folder))?;
    files::sync(output).map_err(failed(output))?;
    files::replace(&scratch, &about, "python.json", &canonical(evidence)).map_err(failed(&about))?;
    fs::remove_dir_all(&scratch).map_err(failed(&scratch))?;
    drop(held);
    Ok(folder)
}

/// Gives a folder the place of another, which gets the place of that, or of nothing.
fn swap(new: &Path, folder: &Path, is_there: bool) -> io::Result<()> {
    let flags = if is_there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, new, CWD, folder, flags) {
        // File systems that cannot do this at once: nobody else is at work here, but a crash between leaves nothing there.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if is_there {
                fs::rename(folder, new.with_extension("old"))?;
            }
            fs::rename(new, folder)
        }
        other => Ok(other?),
    }
}

/// Whether the folder is there. What is no distribution in it is somebody's.
fn are_ours(folder: &Path) -> Result<bool, WheelError> {
    let failed = |source| WheelError::Output { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.ends_with(".whl") || name.ends_with(".tar.gz");
        if !ours || !entry.file_type().map_err(failed)?.is_file() {
            return Err(WheelError::Foreign { path: folder.to_owned(), name });
        }
    }
    Ok(true)
}
