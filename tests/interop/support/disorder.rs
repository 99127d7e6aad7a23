//! A file system that gives names in another order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{command, run};

/// A directory seen through disorderfs; unmounted when dropped.
pub(crate) struct Disorder(PathBuf);

impl Disorder {
    /// Makes it seen at a path that is not there yet.
    pub(crate) fn mount(options: &[&str], from: &Path, at: PathBuf) -> Disorder {
        fs::create_dir(&at).unwrap();
        run(command("disorderfs").args(options).arg(from).arg(&at));
        Disorder(at)
    }

    /// Where it is seen.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disorder {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
