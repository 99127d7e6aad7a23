//! Blobs, and the files that were found to be one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;
use rustix::fs::ioctl_ficlone;

use super::sweep::UNFINISHED;
use super::{Cache, Kind, clear};
use crate::files::{Moment, Stamp, open_regular};

/// How many files are remembered for one digest: copies in output directories and bases.
const PLACES: usize = 16;

impl Cache {
    /// True when the file has this digest and size.
    ///
    /// It is not read when it is one that was hashed before and did not change since; else it is, and remembered.
    pub fn is_blob(&self, path: &Path, digest: &Digest, size: u64) -> bool {
        self.judge(path, digest, size).unwrap_or(false)
    }

    fn judge(&self, path: &Path, digest: &Digest, size: u64) -> io::Result<bool> {
        let mut file = open_regular(path)?;
        let before = Stamp::of_file(&file)?;
        if u64::try_from(before.size) != Ok(size) {
            return Ok(false);
        }
        if self.was_seen(&before, digest) {
            return Ok(true);
        }
        let moment = Moment::now(&self.directory)?;
        let (found, _) = Digest::of_reader(digest.algorithm(), &mut file)?;
        if found != *digest || Stamp::of_file(&file)? != before {
            return Ok(false);
        }
        if !before.is_racy(&moment) {
            self.saw(digest, &[before]);
        }
        Ok(true)
    }

    /// True when a file in this state was found to have this digest.
    pub fn was_seen(&self, stamp: &Stamp, digest: &Digest) -> bool {
        let known: Option<Vec<Stamp>> = self.get(Kind::Seen, digest);
        known.is_some_and(|known| known.iter().any(|known| known == stamp))
    }

    fn saw(&self, digest: &Digest, stamps: &[Stamp]) {
        let mut all = stamps.to_vec();
        let known: Vec<Stamp> = self.get(Kind::Seen, digest).unwrap_or_default();
        all.extend(known.into_iter().filter(|known| !stamps.iter().any(|stamp| stamp.inode == known.inode)));
        all.truncate(PLACES);
        self.put(Kind::Seen, digest, &all);
    }

    /// Gives the blob another name: as the same file where that can be, else as a copy that is on the disk.
    ///
    /// False when the cache does not have it.
    pub fn take_blob(&self, digest: &Digest, size: u64, to: &Path) -> io::Result<bool> {
        let from = self.blob(digest);
        if !self.is_blob(&from, digest, size) {
            return Ok(false);
        }
        match duplicate(&from, to) {
            // Removed by another run in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !from.exists() => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Keeps blobs that this run has made or taken: `files` are complete, synced and nobody's to change. Remembers their state.
    pub fn keep_blobs(&self, files: &[(Digest, PathBuf)]) -> io::Result<()> {
        let mut seen: Vec<(&Digest, Vec<Stamp>)> = Vec::new();
        for (digest, path) in files {
            let kept = self.blob(digest);
            if self.keep(path, &kept).is_err() {
                // A full disk, say. The next run makes it again.
                let _ = fs::remove_file(&kept);
            }
            let stamp = |path: &Path| open_regular(path).and_then(|file| Stamp::of_file(&file));
            let mut stamps = vec![stamp(path)?];
            stamps.extend(stamp(&kept).ok().filter(|stamp| stamp.inode != stamps[0].inode));
            seen.push((digest, stamps));
        }
        let Some((_, first)) = files.first() else { return Ok(()) };
        let directory = first.parent().unwrap_or(Path::new("."));
        // Whoever changes these files after this moment leaves another stamp.
        if Moment::after(directory, seen.iter().flat_map(|(_, stamps)| stamps))?.is_some() {
            for (digest, stamps) in seen {
                self.saw(digest, &stamps);
            }
        }
        Ok(())
    }

    fn keep(&self, from: &Path, kept: &Path) -> io::Result<()> {
        let name = tempfile::Builder::new().prefix(UNFINISHED).make_in(&self.directory, |path| {
            match duplicate(from, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
                other => Ok(other),
            }
        })?;
        let (result, name) = name.into_parts();
        result?;
        if fs::rename(&name, kept).is_err() {
            clear(kept)?;
            fs::rename(&name, kept)?;
        }
        // Of two names of one file a rename leaves both; the temporary one goes with `name`.
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.hex())
    }
}

/// Gives a file a second name, or a copy one where it cannot have two.
fn duplicate(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => return Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
            return Err(error);
        }
        // Another file system, one without links, or too many of them.
        Err(_) => {}
    }
    let mut source = open_regular(from)?;
    let mut copy = fs::File::options().write(true).create_new(true).open(to)?;
    let copied = match ioctl_ficlone(&copy, &source) {
        Ok(()) => Ok(()),
        Err(_) => io::copy(&mut source, &mut copy).map(drop),
    };
    copied.and_then(|()| copy.sync_all()).inspect_err(|_| {
        let _ = fs::remove_file(to);
    })
}
