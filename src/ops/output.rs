//! The output directory of a build, together with the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use dmoci_layers::{Compression, Digest, Layer};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::plan::Watch;
use crate::cache::{Cache, Kind};
use crate::engine::assemble::{Made, Output};
use crate::files::Moment;
use crate::store::layout::write::{LayoutWriter, OutputError};

/// Where a build writes: blobs that are there already, here or in the cache, stay or are taken over.
pub(super) struct Dist<'a> {
    writer: LayoutWriter,
    cache: Option<Cache>,
    watch: &'a dyn Watch,
    /// Layers of this run, by what they were made of.
    made: BTreeMap<Digest, Made>,
    /// Blobs whose files the cache does not know yet.
    fresh: BTreeSet<Digest>,
}

impl<'a> Dist<'a> {
    pub(super) fn new(writer: LayoutWriter, cache: Option<Cache>, watch: &'a dyn Watch) -> Dist<'a> {
        Dist { writer, cache, watch, made: BTreeMap::new(), fresh: BTreeSet::new() }
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.writer.scratch()
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// A layout of the image before it is that of the output directory.
    pub(super) fn preview(&self, index: &[u8]) -> Result<PathBuf, OutputError> {
        self.writer.preview(index)
    }

    /// Makes the image the one of the output directory; gives the path of its layout.
    pub(super) fn finish(
        self,
        index: &[u8],
        beside: &[(&'static str, &[u8])],
    ) -> Result<PathBuf, OutputError> {
        let Dist { writer, cache, made, fresh, .. } = self;
        let layout = writer.image();
        let blobs: Vec<_> = fresh.into_iter().map(|digest| (digest.clone(), writer.blob(&digest))).collect();
        writer.finish(index, beside)?;
        if let Some(cache) = &cache {
            learn(cache, &made, &blobs);
        }
        Ok(layout)
    }

    /// Leaves the output directory as it was. What was made is not made again by the next build.
    pub(super) fn abandon(self) {
        let Dist { writer, cache, made, fresh, .. } = self;
        let blobs: Vec<_> =
            fresh.into_iter().map(|digest| (digest.clone(), writer.waiting(&digest))).collect();
        if let Some(cache) = &cache {
            learn(cache, &made, &blobs);
        }
        writer.abandon();
    }
}

/// Tells the cache what this run made. That it cannot keep it is no error: the next run makes it again.
fn learn(cache: &Cache, made: &BTreeMap<Digest, Made>, blobs: &[(Digest, PathBuf)]) {
    if blobs.is_empty() && made.is_empty() {
        return;
    }
    if cache.keep_blobs(blobs).is_err() {
        return;
    }
    for (key, made) in made {
        cache.put(Kind::Layer, key, &StoredLayer::of(made));
    }
    if let Ok(now) = Moment::now(cache.directory()) {
        cache.sweep(now.time());
    }
}

impl Output for Dist<'_> {
    fn recall(&mut self, key: &Digest) -> Option<Made> {
        if let Some(made) = self.made.get(key) {
            return Some(made.clone());
        }
        let made = self.cache.as_ref()?.get::<StoredLayer>(Kind::Layer, key)?.made()?;
        self.keep(&made.layer.digest, made.layer.size).then_some(made)
    }

    fn remember(&mut self, key: &Digest, made: &Made) {
        self.made.insert(key.clone(), made.clone());
    }

    fn keep(&mut self, digest: &Digest, size: u64) -> bool {
        if self.writer.has(digest) {
            return true;
        }
        let Some(cache) = &self.cache else { return false };
        if cache.is_blob(&self.writer.blob(digest), digest, size) {
            self.writer.keep(digest);
            return true;
        }
        // A failure to take it over is a miss; what it left behind is replaced.
        let taken = self.writer.adopt(digest, |path| cache.take_blob(digest, size, path)).unwrap_or(false);
        if taken {
            self.fresh.insert(digest.clone());
        }
        taken
    }

    fn put(&mut self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
        self.writer.put(bytes, digest)
    }

    fn begin(&mut self) -> io::Result<NamedTempFile> {
        self.writer.begin()
    }

    fn commit(&mut self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        self.writer.commit(file, digest)?;
        self.fresh.insert(digest.clone());
        Ok(())
    }

    fn wrote(&mut self, bytes: u64) {
        self.watch.wrote(bytes);
    }
}

/// A layer as a record of the cache holds it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredLayer {
    digest: String,
    size: u64,
    diff_id: String,
    tar_size: u64,
    entries: u64,
    compression: u8,
    unused: Vec<(usize, usize)>,
}

impl StoredLayer {
    fn of(made: &Made) -> StoredLayer {
        let Made { layer, unused } = made;
        StoredLayer {
            unused: unused.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.to_string(),
            tar_size: layer.tar_size,
            entries: layer.entries,
            compression: match layer.compression {
                Compression::None => 0,
                Compression::Gzip => 1,
                Compression::Zstd => 2,
            },
        }
    }

    fn made(self) -> Option<Made> {
        let layer = Layer {
            digest: self.digest.parse().ok()?,
            size: self.size,
            diff_id: self.diff_id.parse().ok()?,
            tar_size: self.tar_size,
            entries: self.entries,
            compression: match self.compression {
                0 => Compression::None,
                1 => Compression::Gzip,
                2 => Compression::Zstd,
                _ => return None,
            },
        };
        Some(Made { layer, unused: self.unused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    struct Silent;

    impl Watch for Silent {
        fn status(&self, _: &str, _: &str) {}
        fn detail(&self, _: &str, _: &str) {}
        fn warning(&self, _: &str) {}
        fn total(&self, _: u64) {}
        fn wrote(&self, _: u64) {}
    }

    #[test]
    fn what_a_failed_build_made_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let dist = |name: &str| {
            let writer = LayoutWriter::open(&dir.path().join(name), || ()).unwrap();
            Dist::new(writer, Some(Cache::open(&dir.path().join("cache")).unwrap()), &Silent)
        };
        let (key, digest) = (Digest::sha256(b"key"), Digest::sha256(b"layer"));
        let layer = Layer {
            digest: digest.clone(),
            size: 5,
            diff_id: digest.clone(),
            tar_size: 5,
            entries: 1,
            compression: Compression::None,
        };
        let made = Made { layer, unused: vec![(0, 2)] };
        let mut failing = dist("one");
        assert_eq!(failing.recall(&key), None);
        let mut blob = failing.begin().unwrap();
        blob.write_all(b"layer").unwrap();
        failing.commit(blob, &digest).unwrap();
        failing.remember(&key, &made);
        failing.abandon();
        assert!(!dir.path().join("one").exists());

        let mut next = dist("two");
        assert_eq!(next.recall(&key), Some(made.clone()));
        let image = next.finish(&crate::oci::index::author(&[]), &[("digests.json", b"{}")]).unwrap();
        let path = image.join("blobs/sha256").join(digest.hex());
        assert_eq!(std::fs::read(&path).unwrap(), b"layer");
        // Without its blob the record is worth nothing.
        std::fs::remove_dir_all(dir.path().join("cache/build-1/blobs")).unwrap();
        assert_eq!(dist("three").recall(&key), None);
        assert_eq!(dist("two").recall(&key), Some(made));
    }
}
