//! What tells one state of a file from another, without reading it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

/// A time as a file system gives it: seconds since 1970-01-01T00:00:00Z, and nanoseconds.
pub type Time = (i64, i64);

/// How far two file systems' clocks may be apart, in seconds; FAT alone counts in steps of two.
const SKEW: i64 = 3;

/// What a file system says of a file that changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The device. The kernel may number devices anew on each start: then files count as other ones.
    pub device: u64,
    /// The number of the file.
    pub inode: u64,
    /// Bytes.
    pub size: i64,
    /// When the content was written last; programs can set it.
    pub modified: Time,
    /// When content or metadata was changed last; only the kernel sets it.
    pub changed: Time,
}

impl Stamp {
    /// The stamp of what was looked at.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the types differ by architecture"
    )]
    pub fn of(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// The stamp of an open file.
    pub fn of_file(file: &File) -> io::Result<Stamp> {
        Ok(Stamp::of(&rustix::fs::fstat(file)?))
    }

    /// True when a change of the file at `moment` or later might leave the stamp as it is, because the file was last
    /// changed in the same step of its file system's clock ("racily clean", as git calls it).
    pub fn is_racy(&self, moment: &Moment) -> bool {
        let newest = self.modified.max(self.changed);
        match self.device == moment.device {
            true => newest >= moment.time,
            false => newest.0 + SKEW >= moment.time.0,
        }
    }
}

/// A moment on the clock of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    device: u64,
    time: Time,
}

impl Moment {
    /// The present moment on the clock of the file system that this directory lies on. Makes a nameless file there.
    pub fn now(directory: &Path) -> io::Result<Moment> {
        let stamp = Stamp::of_file(&tempfile::tempfile_in(directory)?)?;
        Ok(Moment { device: stamp.device, time: stamp.changed })
    }

    /// The time.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Waits until the clock has moved on behind all of these stamps, so that none is racy: some milliseconds.
    ///
    /// `None` when it does not within a tenth of a second: on file systems that count in seconds.
    pub fn after<'a>(
        directory: &Path,
        stamps: impl Iterator<Item = &'a Stamp> + Clone,
    ) -> io::Result<Option<Moment>> {
        for _ in 0..50 {
            let moment = Moment::now(directory)?;
            if !stamps.clone().any(|stamp| stamp.is_racy(&moment)) {
                return Ok(Some(moment));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn racy_until_the_clock_has_moved_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("f")).unwrap();
        file.write_all(b"one").unwrap();
        let stamp = Stamp::of_file(&file).unwrap();
        let then = Moment { device: stamp.device, time: stamp.changed };
        assert!(stamp.is_racy(&then));
        let later = Moment::after(dir.path(), [stamp].iter()).unwrap().unwrap();
        assert!(!stamp.is_racy(&later));
        // What is written now has another stamp.
        file.write_all(b"two").unwrap();
        assert_ne!(Stamp::of_file(&file).unwrap(), stamp);
        // Another file system's clock is trusted less.
        let elsewhere = Moment { device: stamp.device + 1, time: (stamp.changed.0 + SKEW, 0) };
        assert!(stamp.is_racy(&elsewhere));
        assert!(!stamp.is_racy(&Moment { time: (stamp.changed.0 + SKEW + 1, 0), ..elsewhere }));
        // Content can change while its time is set back; the other time tells.
        let back = Stamp { modified: (0, 0), ..stamp };
        assert!(back.is_racy(&then) && back != stamp);
        // Two file systems may have one inode, size and time each.
        assert_ne!(Stamp { device: stamp.device + 1, ..stamp }, stamp);
    }
}
