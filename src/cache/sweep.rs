//! What the cache takes, and what of it goes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::{Cache, Kind};
use crate::files::Time;
use crate::limits;

/// How names of unfinished files begin.
pub(super) const UNFINISHED: &str = ".part-";

/// Seconds after which an unfinished file was left behind by a run that was killed: a day.
const ABANDONED: i64 = 24 * 3600;

/// What a cache takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of layers that it holds.
    pub blobs: u64,
    /// Number of records.
    pub records: u64,
    /// Bytes of all files. A blob that an output directory has too is counted, though it takes no room of its own.
    pub bytes: u64,
}

struct Member {
    path: PathBuf,
    used: i64,
    size: u64,
    blob: bool,
}

impl Cache {
    /// What the cache takes.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for member in self.members() {
            usage.bytes = usage.bytes.saturating_add(member.size);
            match member.blob {
                true => usage.blobs += 1,
                false => usage.records += 1,
            }
        }
        usage
    }

    /// Removes what was not used for [`limits::CACHE_AGE`] before `now`, and then what was not used longest until the
    /// rest fits [`limits::CACHE_BYTES`].
    pub fn sweep(&self, now: Time) {
        self.sweep_to(now, limits::CACHE_AGE, limits::CACHE_BYTES);
    }

    pub(super) fn sweep_to(&self, now: Time, age: i64, bytes: u64) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            if unfinished && entry.metadata().is_ok_and(|metadata| now.0 - metadata.ctime() > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let mut members = self.members();
        members.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
        let mut kept = 0u64;
        for member in members {
            if now.0 - member.used > age || kept.saturating_add(member.size) > bytes {
                // Another run may be quicker.
                let _ = fs::remove_file(member.path);
            } else {
                kept += member.size;
            }
        }
    }

    fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for name in Kind::ALL.iter().map(|kind| kind.name()).chain(["blobs"]) {
            for entry in fs::read_dir(self.directory.join(name)).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                // What has another name is not of this program.
                let named = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()));
                if !metadata.is_file() || !named {
                    continue;
                }
                let blob = name == "blobs";
                // A blob's own times are part of its stamp; what is known of it was touched when it was used.
                let seen = self.directory.join(Kind::Seen.name()).join(entry.file_name());
                let used = match fs::symlink_metadata(seen) {
                    Ok(seen) if blob => seen.mtime(),
                    _ if blob => metadata.ctime(),
                    _ => metadata.mtime(),
                };
                members.push(Member { path: entry.path(), used, size: metadata.len(), blob });
            }
        }
        members
    }
}
