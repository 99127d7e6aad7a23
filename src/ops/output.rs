//! The output directory of a build, together with the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dmoci_layers::Digest;
use tempfile::NamedTempFile;

use super::build::Destination;
use super::made::StoredLayer;
use super::plan::Watch;
use super::pull::link;
use super::shared::Others;
use crate::cache::{Cache, Kind};
use crate::engine::assemble::{Made, Output, Shared};
use crate::files::Moment;
use crate::store::layout::write::{LayoutWriter, OutputError};

/// Where a build writes: blobs that are there already, here or in the cache, stay or are taken over.
pub(super) struct Dist<'a> {
    writer: LayoutWriter,
    cache: Option<Cache>,
    watch: &'a dyn Watch,
    /// Where layers are had from other machines, or given to them.
    others: Option<Others<'a>>,
    /// Layers of this run, by what they were made of.
    made: Mutex<BTreeMap<Digest, Made>>,
    /// Blobs whose files the cache does not know yet.
    fresh: Mutex<BTreeSet<Digest>>,
    /// Where the image goes: what is there need not be here.
    destination: Option<&'a Destination<'a>>,
    /// Blobs that come to the destination from elsewhere, and need not be here.
    lent: Mutex<BTreeSet<Digest>>,
}

impl<'a> Dist<'a> {
    pub(super) fn new(
        writer: LayoutWriter,
        cache: Option<Cache>,
        watch: &'a dyn Watch,
        destination: Option<&'a Destination<'a>>,
    ) -> Dist<'a> {
        let (made, fresh, lent) = Default::default();
        Dist { writer, cache, watch, others: None, made, fresh, destination, lent }
    }

    /// The same, with these other machines.
    pub(super) fn with(self, others: Option<Others<'a>>) -> Dist<'a> {
        Dist { others, ..self }
    }

    /// These blobs need not be here.
    pub(super) fn lend<'d>(&self, digests: impl Iterator<Item = &'d Digest>) {
        locked(&self.lent).extend(digests.cloned());
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.writer.scratch()
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Has a folder that is complete go with the image.
    pub(super) fn folder(&self, staged: PathBuf, name: &'static str) {
        self.writer.folder(staged, name);
    }

    /// Has what is beside the image that was there go with it.
    pub(super) fn without(&self, name: PathBuf) {
        self.writer.without(name);
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
        let Dist { writer, cache, made, fresh, others, .. } = self;
        let layout = writer.image();
        let (made, fresh) = (inner(made), inner(fresh));
        let blobs: Vec<_> = fresh.into_iter().map(|digest| (digest.clone(), writer.blob(&digest))).collect();
        writer.finish(index, beside)?;
        if let Some(cache) = &cache {
            learn(cache, &made, &blobs);
        }
        if let Some(others) = &others {
            others.told();
            others.publish(|digest| layout.join("blobs").join(digest.algorithm().name()).join(digest.hex()));
        }
        Ok(layout)
    }

    /// Leaves the output directory as it was. What was made is not made again by the next build.
    pub(super) fn abandon(self) {
        let Dist { writer, cache, made, fresh, .. } = self;
        let (made, fresh) = (inner(made), inner(fresh));
        let blobs: Vec<_> =
            fresh.into_iter().map(|digest| (digest.clone(), writer.waiting(&digest))).collect();
        if let Some(cache) = &cache {
            learn(cache, &made, &blobs);
        }
        writer.abandon();
    }
}

/// Nothing panics while it holds one of the locks.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn inner<T>(lock: Mutex<T>) -> T {
    lock.into_inner().unwrap_or_else(PoisonError::into_inner)
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
    fn recall(&self, key: &Digest) -> Option<Made> {
        let made = self.cache.as_ref()?.get::<StoredLayer>(Kind::Layer, key)?.made()?;
        let (digest, size) = (&made.layer.digest, made.layer.size);
        let is_known = self.keep(digest, size)
            || self.destination.is_some_and(|destination| destination.has(digest, size));
        is_known.then_some(made)
    }

    fn remember(&self, key: &Digest, made: &Made) {
        locked(&self.made).insert(key.clone(), made.clone());
    }

    fn shared(&self) -> Option<&dyn Shared> {
        self.others.is_some().then_some(self)
    }

    fn keep(&self, digest: &Digest, size: u64) -> bool {
        if self.writer.has(digest) {
            return true;
        }
        let lent = || locked(&self.lent).contains(digest);
        let Some(cache) = &self.cache else { return lent() };
        if cache.is_blob(&self.writer.blob(digest), digest, size) {
            self.writer.keep(digest);
            return true;
        }
        // A failure to take it over is a miss; what it left behind is replaced.
        let taken = self.writer.adopt(digest, |path| cache.take_blob(digest, size, path)).unwrap_or(false);
        if taken {
            locked(&self.fresh).insert(digest.clone());
        }
        taken || lent()
    }

    fn put(&self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
        self.writer.put(bytes, digest)
    }

    fn begin(&self) -> io::Result<NamedTempFile> {
        self.writer.begin()
    }

    fn commit(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        self.writer.commit(file, digest)?;
        locked(&self.fresh).insert(digest.clone());
        Ok(())
    }

    fn wrote(&self, bytes: u64) {
        self.watch.wrote(bytes);
    }
}

impl Shared for Dist<'_> {
    fn key(&self, own: &Digest) -> Option<Digest> {
        self.cache.as_ref()?.get::<String>(Kind::Shared, own)?.parse().ok()
    }

    fn learn(&self, own: &Digest, key: &Digest) {
        if let Some(cache) = &self.cache {
            cache.put(Kind::Shared, own, &key.to_string());
        }
    }

    fn take(&self, key: &Digest) -> Option<Made> {
        let (made, blob) = self.others.as_ref()?.find(key)?;
        let digest = &made.layer.digest;
        if self.writer.has(digest) {
            return Some(made);
        }
        // A failure to take it over is a miss: the layer is made.
        let taken = self.writer.adopt(digest, |path| Ok(link(blob.file(), path))).unwrap_or(false);
        let copied = || {
            let mut file = self.writer.begin()?;
            io::copy(&mut blob.open().map_err(io::Error::other)?, &mut file)?;
            self.writer.commit(file, digest)
        };
        if !taken && copied().is_err() {
            return None;
        }
        locked(&self.fresh).insert(digest.clone());
        Some(made)
    }

    fn give(&self, key: Digest, made: &Made) {
        if let Some(others) = &self.others {
            others.give(key, made);
        }
    }

    fn gives(&self) -> bool {
        self.others.as_ref().is_some_and(Others::gives)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::num::NonZeroUsize;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use dmoci_layers::{Compression, Layer, Pool};

    use super::*;
    use crate::diagnostic::Failure;
    use crate::engine::assemble::{Facts, assemble, index};
    use crate::inputs::fetched::Fetched;
    use crate::inputs::python::requirements::Indexes;
    use crate::inputs::python::simple::Link;
    use crate::inputs::supply::{BaseDocuments, Page, Purpose, Supply, WheelNeed};
    use crate::oci::Descriptor;
    use crate::oci::platform::Platform;
    use crate::oci::reference::Reference;
    use crate::ops::plan::{Ground, plan};
    use crate::spec;
    use crate::url::Url;

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
            Dist::new(writer, Some(Cache::open(&dir.path().join("cache")).unwrap()), &Silent, None)
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
        let failing = dist("one");
        assert_eq!(failing.recall(&key), None);
        let mut blob = failing.begin().unwrap();
        blob.write_all(b"layer").unwrap();
        failing.commit(blob, &digest).unwrap();
        failing.remember(&key, &made);
        failing.abandon();
        assert!(!dir.path().join("one").exists());

        let next = dist("two");
        assert_eq!(next.recall(&key), Some(made.clone()));
        let image = next.finish(&crate::oci::index::author(&[]), &[("digests.json", b"{}")]).unwrap();
        let path = image.join("blobs/sha256").join(digest.hex());
        assert_eq!(std::fs::read(&path).unwrap(), b"layer");
        // Without its blob the record is worth nothing.
        std::fs::remove_dir_all(dir.path().join("cache/build-1/blobs")).unwrap();
        assert_eq!(dist("three").recall(&key), None);
        assert_eq!(dist("two").recall(&key), Some(made));
    }

    /// Nothing is needed from elsewhere.
    #[derive(Debug)]
    struct Nothing;

    impl Supply for Nothing {
        fn base(&self, _: &Reference, _: &Platform) -> Result<BaseDocuments, Failure> {
            unreachable!("no base is in a registry")
        }

        fn base_facts(&self, _: &Reference, _: &Platform) -> BTreeSet<String> {
            BTreeSet::new()
        }

        fn keep_base_facts(&self, _: &Reference, _: &Platform, _: BTreeSet<String>) {}

        fn base_layers(&self, _: &Reference, _: &[Descriptor]) -> Result<Vec<Arc<File>>, Failure> {
            Ok(Vec::new())
        }

        fn only_pins(&self) -> bool {
            false
        }

        fn pinned(&self, _: &Platform, _: &str) -> Vec<Link> {
            Vec::new()
        }

        fn wheels(&self, _: &[WheelNeed]) -> Result<Vec<Option<File>>, Failure> {
            Ok(Vec::new())
        }

        fn page(&self, _: &Url, _: &str, _: &Purpose) -> Result<Option<Page>, Failure> {
            Ok(None)
        }

        fn reads(&self, _: &Path) {}

        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn indexes(&self) -> Result<Indexes, Failure> {
            Ok(Indexes::default())
        }
    }

    /// Counts what is written.
    struct Counting<'a> {
        dist: Dist<'a>,
        begun: AtomicUsize,
        open: AtomicUsize,
        most: AtomicUsize,
        wrote: AtomicU64,
    }

    impl Output for Counting<'_> {
        fn recall(&self, key: &Digest) -> Option<Made> {
            self.dist.recall(key)
        }

        fn remember(&self, key: &Digest, made: &Made) {
            self.dist.remember(key, made);
        }

        fn keep(&self, digest: &Digest, size: u64) -> bool {
            self.dist.keep(digest, size)
        }

        fn put(&self, bytes: &[u8], digest: &Digest) -> io::Result<()> {
            self.dist.put(bytes, digest)
        }

        fn begin(&self) -> io::Result<NamedTempFile> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(1 + self.open.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            self.dist.begin()
        }

        fn commit(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
            self.open.fetch_sub(1, Ordering::SeqCst);
            self.dist.commit(file, digest)
        }

        fn wrote(&self, bytes: u64) {
            self.wrote.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    /// Writes the image of a spec into `to`, without a cache: its digest, how many blobs of layers were written, and how many
    /// at most at the same time.
    fn written(project: &Path, text: &str, to: &str, threads: usize) -> (Digest, usize, usize) {
        let spec = spec::parse(Path::new("dmoci.toml"), text).unwrap();
        let targets: Vec<_> = spec
            .platforms()
            .iter()
            .map(|platform| spec.target(platform, &spec::Overrides::default()).unwrap())
            .collect();
        let dist = Dist::new(LayoutWriter::open(&project.join(to), || ()).unwrap(), None, &Silent, None);
        let (scratch, output) = (dist.scratch(), project.join("dist"));
        let fetched = Fetched::default();
        let ground = Ground {
            project,
            output: &output,
            scratch: &scratch,
            cache: None,
            fetched: &fetched,
            supply: &Nothing,
            own: None,
        };
        let plans = plan(&spec, targets.clone(), &ground, &Silent).unwrap();
        let zero = AtomicUsize::default;
        let counting = Counting { dist, begun: zero(), open: zero(), most: zero(), wrote: AtomicU64::new(0) };
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap());
        let facts = Facts { created: "2024-01-01T00:00:00Z".into(), ..Facts::default() };
        let platforms = assemble(&plans, &facts, &pool, &counting).unwrap();
        let image = index(platforms, &targets, &facts, &counting).unwrap();
        let Counting { dist, begun, open, most, wrote } = counting;
        dist.finish(&crate::oci::index::author(std::slice::from_ref(&image.root)), &[]).unwrap();
        assert_eq!(open.into_inner(), 0);
        // What is there already counts as written: a bar that ends before or behind its end would be wrong.
        assert_eq!(wrote.into_inner(), plans.iter().map(|plan| plan.bytes).sum::<u64>());
        (image.root.digest, begun.into_inner(), most.into_inner())
    }

    #[test]
    fn what_platforms_have_in_common_is_written_once_whatever_the_threads() {
        let dir = tempfile::tempdir().unwrap();
        let image = |base: &str| {
            let platforms = "platforms = [\"linux/amd64\", \"linux/arm64\", \"linux/riscv64\"]";
            let mut text = format!("schema = 1\n[image]\n{platforms}\n{base}");
            for number in 0..8 {
                let content = if number % 4 == 0 { "${platform.oci}" } else { "x" };
                text += &format!("[[layer]]\nname = \"{number}\"\n");
                let entry = format!("path = \"/{number}{}\", content = \"{content}\"", base.len());
                text += &format!("file = [{{ {entry} }}]\n");
            }
            text
        };
        let mut digests = BTreeSet::new();
        for threads in [1, 2, 8] {
            // Six layers of all, and two of each.
            let (_, begun, most) = written(dir.path(), &image(""), "base", threads);
            assert!(begun == 6 + 2 * 3 && most <= threads, "{threads} threads: {begun}, {most} at once");
            // The same again, and all of the base.
            let text = image("base = \"oci:base/image\"\n");
            let (digest, begun, most) = written(dir.path(), &text, "dist", threads);
            assert!(
                begun == 2 * (6 + 2 * 3) && most <= threads,
                "{threads} threads: {begun}, {most} at once"
            );
            digests.insert(digest);
        }
        assert_eq!(digests.len(), 1);
    }
}
