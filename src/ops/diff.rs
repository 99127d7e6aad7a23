//! `dmoci diff`: from two subjects to what differs.

use std::num::NonZeroUsize;

use crate::diagnostic::Failure;
use crate::engine::diff::{self, Diff, Options, Side, Watch};
use crate::store::image::Root;
use crate::store::{ImageStore, StoreError, Subject};

/// What to compare.
#[derive(Clone, Debug)]
pub struct Request {
    /// One image.
    pub left: Subject,
    /// The other.
    pub right: Subject,
    /// How many differences are told one by one.
    pub limit: usize,
    /// Threads that read layers.
    pub threads: NonZeroUsize,
}

/// Compares two images. Documents are checked against their digests, and layers that are read against theirs.
pub fn diff(request: &Request, watch: &dyn Watch) -> Result<Diff, Failure> {
    crate::sha256::provide();
    let (left, left_root) = open(&request.left)?;
    let (right, right_root) = open(&request.right)?;
    let options = Options { limit: request.limit, threads: request.threads, scratch: None };
    let left = Side { store: &left, root: &left_root.descriptor };
    let right = Side { store: &right, root: &right_root.descriptor };
    Ok(diff::diff(left, right, options, watch)?)
}

/// The one image that a subject names.
fn open(subject: &Subject) -> Result<(ImageStore, Root), StoreError> {
    let store = ImageStore::open_sound(subject)?;
    let mut roots = store.select(subject.tag(), subject.digest())?;
    match (roots.pop(), roots.len()) {
        (Some(root), 0) => Ok((store, root)),
        _ => Err(StoreError::Selection {
            place: store.place().to_owned(),
            why: "several images fit".into(),
            help: "name a tag or a digest: oci:DIR:TAG, FILE@sha256:…".into(),
        }),
    }
}
