//! Pairs of layers: the same, recompressed, or different, and then in what.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Options;
use super::entries::{Indexed, Opened, Sorted, Stop};
use super::error::DiffError;
use super::merge::Merge;
use super::report::{Blob, Counts, Difference, Field, LayerOutcome, LayerPair, LayerPlace, Part, Sink};
use super::stream::{LayerSource, first_difference};
use crate::engine::reader::Watch;
use crate::limits;

/// Two layers to compare, or one that has no counterpart.
pub(super) struct Job<'a> {
    pub(super) image: String,
    pub(super) place: LayerPlace,
    pub(super) left: Option<LayerSource<'a>>,
    pub(super) right: Option<LayerSource<'a>>,
}

/// What one job gives.
type Done = Result<(LayerPair, Sink), DiffError>;

/// Pairs that are compared before what they found is put together, for each thread.
const ROUND: usize = 8;

/// Compares all pairs, on all threads; what is found comes in the order of the jobs.
pub(super) fn compare(
    jobs: &[Job<'_>],
    options: Options<'_>,
    watch: &dyn Watch,
    sink: &mut Sink,
) -> Result<Vec<LayerPair>, DiffError> {
    watch.total(jobs.iter().map(Job::bytes).sum());
    let mut pairs = Vec::with_capacity(jobs.len());
    for round in jobs.chunks(options.threads.get().saturating_mul(ROUND)) {
        for (pair, part) in run(round, options, watch, sink)? {
            sink.append(part);
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn run(
    jobs: &[Job<'_>],
    options: Options<'_>,
    watch: &dyn Watch,
    sink: &Sink,
) -> Result<Vec<(LayerPair, Sink)>, DiffError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Done)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || {
        let mut index;
        while let Some(job) = {
            index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index)
        } {
            let result = job.run(options, watch, sink.part());
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.get().min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

impl Job<'_> {
    /// Bytes that are to be read.
    fn bytes(&self) -> u64 {
        match (&self.left, &self.right) {
            (Some(left), Some(right)) if left.descriptor.digest != right.descriptor.digest => {
                left.descriptor.size.saturating_add(right.descriptor.size)
            }
            _ => 0,
        }
    }

    fn run(&self, options: Options<'_>, watch: &dyn Watch, sink: Sink) -> Done {
        let mut compared = Compared { job: self, sink };
        let outcome = match (&self.left, &self.right) {
            (Some(left), Some(right)) => compared.both(left, right, options.scratch, watch)?,
            (left, right) => {
                let words = |layer: &LayerSource<'_>| blob_words(layer);
                let (l, r) = (left.as_ref().map(words), right.as_ref().map(words));
                compared.add(Field::Presence, l, r, None);
                if left.is_some() { LayerOutcome::OnlyLeft } else { LayerOutcome::OnlyRight }
            }
        };
        let blob = |layer: &LayerSource<'_>| Blob {
            digest: layer.descriptor.digest.clone(),
            media_type: layer.descriptor.media_type.clone(),
            size: layer.descriptor.size,
            diff_id: layer.diff_id.clone(),
        };
        let pair = LayerPair {
            image: self.image.clone(),
            place: self.place.clone(),
            left: self.left.as_ref().map(blob),
            right: self.right.as_ref().map(blob),
            outcome,
        };
        Ok((pair, compared.sink))
    }
}

struct Compared<'a> {
    job: &'a Job<'a>,
    sink: Sink,
}

impl Compared<'_> {
    fn both(
        &mut self,
        left: &LayerSource<'_>,
        right: &LayerSource<'_>,
        scratch: Option<&Path>,
        watch: &dyn Watch,
    ) -> Result<LayerOutcome, DiffError> {
        if left.descriptor.digest == right.descriptor.digest {
            return Ok(LayerOutcome::Same);
        }
        let known = left.compression().is_some() && right.compression().is_some();
        if !(left.is_here() && right.is_here()) {
            let [left, right] = [left, right].map(|layer| match layer.is_here() {
                true => Some(blob_words(layer)),
                false => Some(format!("{} (not here)", blob_words(layer))),
            });
            self.add(Field::Content, left, right, None);
            return Ok(LayerOutcome::Opaque);
        }
        if known && left.diff_id != right.diff_id {
            let counts = self.paths(left, right, scratch, watch)?;
            if counts != Counts::default() {
                return Ok(LayerOutcome::Different(counts));
            }
        }
        let found = first_difference(left, right, watch)?;
        let (l, r) = (Some(blob_words(left)), Some(blob_words(right)));
        match (found, known) {
            (Some(offset), true) => {
                // Entries, order and contents are the same: headers in another form, padding, what follows the end.
                if self.sink.total() == 0 {
                    self.add(Field::Form, l, r, Some(offset));
                }
                Ok(LayerOutcome::Different(Counts::default()))
            }
            (Some(offset), false) => {
                self.add(Field::Content, l, r, Some(offset));
                Ok(LayerOutcome::Opaque)
            }
            (None, _) => {
                self.add(Field::Compression, l, r, None);
                Ok(LayerOutcome::Recompressed)
            }
        }
    }

    /// Compares the tars: side by side where both are in order, else by an index of each.
    fn paths(
        &mut self,
        left: &LayerSource<'_>,
        right: &LayerSource<'_>,
        scratch: Option<&Path>,
        watch: &dyn Watch,
    ) -> Result<Counts, DiffError> {
        let open = |layer, index| match index {
            true => Indexed::read(layer, scratch, limits::INDEXED_BYTES, watch).map(Opened::Indexed),
            false => Sorted::open(layer, watch).map(|sorted| Opened::Sorted(Box::new(sorted))),
        };
        // What is not in order is found out on the way; then all begins anew, with an index.
        let (mut index_left, mut index_right) = (false, false);
        loop {
            let (mut l, mut r) = (open(left, index_left)?, open(right, index_right)?);
            let mut merge = Merge::new(&self.job.image, &self.job.place, self.sink.part());
            match merge.run(&mut l, &mut r) {
                Ok(()) => {}
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Disorder) => {
                    index_left |= l.needs_index();
                    index_right |= r.needs_index();
                    continue;
                }
            }
            l.prove()?;
            r.prove()?;
            let counts = merge.counts;
            if let Some(form) = merge.form.take().filter(|_| counts == Counts::default()) {
                merge.sink.add(form);
            }
            self.sink.append(merge.sink);
            return Ok(counts);
        }
    }

    fn add(&mut self, field: Field, left: Option<String>, right: Option<String>, offset: Option<u64>) {
        let part = Part::Layer(self.job.place.clone());
        let image = Some(self.job.image.clone());
        self.sink.add(Difference { image, part, field, left, right, offset, below: 0 });
    }
}

/// A blob in one line.
fn blob_words(layer: &LayerSource<'_>) -> String {
    let kind = match layer.compression() {
        Some(compression) => compression.name().to_owned(),
        None => super::value::one(&layer.descriptor.media_type),
    };
    format!("{kind}, {} bytes, {}", layer.descriptor.size, layer.descriptor.digest)
}
