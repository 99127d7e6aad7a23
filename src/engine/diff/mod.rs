//! Where two images differ: index → manifest → configuration → layer → path → field.
//!
//! ```text
//! documents > json, align    layers > merge > fields, entries > stream    > report, value
//! ```
//!
//! Two documents of one digest are the same and are not looked into; neither are two layers of one digest: whether a
//! blob is what its digest says is for `verify` to tell. What is read here is hashed on the way, and bytes that are
//! not those of their digest are an error, never a difference. Layers are read side by side as streams; only one whose
//! entries are not in byte order is indexed first. The order of differences depends on nothing but the two images.

mod align;
mod documents;
mod entries;
mod error;
mod fields;
mod json;
mod layers;
mod merge;
mod report;
mod stream;
#[cfg(test)]
mod tests;
mod value;

use std::num::NonZeroUsize;
use std::path::Path;

pub use super::reader::Watch;
pub use error::DiffError;
pub use report::{Blob, Counts, Diff, Difference, Field, LayerOutcome, LayerPair, LayerPlace, Part, Verdict};

use crate::oci::Descriptor;
use crate::store::ImageStore;
use documents::Documents;
use report::Sink;

/// One of the two images.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Where it lies.
    pub store: &'a ImageStore,
    /// A manifest or an index of it.
    pub root: &'a Descriptor,
}

/// How to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// How many differences are told one by one; the rest are counted.
    pub limit: usize,
    /// Threads that read layers.
    pub threads: NonZeroUsize,
    /// Where a layer that is not in order is kept while it is compared; nothing for the system's own place.
    pub scratch: Option<&'a Path>,
}

/// Compares two images.
///
/// Tags and names are not compared: they are not part of an image. See [`document`] for `index.json`.
pub fn diff(
    left: Side<'_>,
    right: Side<'_>,
    options: Options<'_>,
    watch: &dyn Watch,
) -> Result<Diff, DiffError> {
    let mut documents = Documents::new(left, right, options.limit);
    documents.roots()?;
    let (mut sink, jobs) = documents.finish();
    let layers = layers::compare(&jobs, options, watch, &mut sink)?;
    Ok(sink.diff(left.root.digest.clone(), right.root.digest.clone(), layers))
}

/// Compares two JSON documents that are no blobs of an image, such as `index.json`: value by value, and when these are
/// all the same, byte by byte.
pub fn document(name: &str, left: &[u8], right: &[u8], limit: usize) -> Vec<Difference> {
    let mut sink = Sink::new(limit);
    json::compare(&Part::File(name.to_owned()), None, (left, right), &|_| false, &mut sink);
    sink.list
}
