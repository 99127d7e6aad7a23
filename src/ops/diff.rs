//! `dmoci diff`: from two subjects to what differs.

use std::num::NonZeroUsize;

use super::remote::Remote;
use crate::diagnostic::{Exit, Failure};
use crate::engine::diff::{self, Diff, Options, Side, Watch};
use crate::oci::Descriptor;
use crate::oci::platform::Platform;
use crate::store::registry::Which;
use crate::store::{ImageStore, StoreError, Subject};

/// What to compare.
#[derive(Clone, Debug)]
pub struct Request {
    /// One image.
    pub left: Subject,
    /// The other.
    pub right: Subject,
    /// The platform to compare; without it all that there are.
    pub platform: Option<Platform>,
    /// How many differences are told one by one.
    pub limit: usize,
    /// Threads that read layers.
    pub threads: NonZeroUsize,
}

/// Compares two images. Documents are checked against their digests, and layers that are read against theirs.
pub fn diff(request: &Request, remote: &Remote<'_>, watch: &dyn Watch) -> Result<Diff, Failure> {
    crate::sha256::provide();
    let platform = request.platform.as_ref();
    let (left, left_root) = open(&request.left, platform, remote)?;
    let (right, right_root) = open(&request.right, platform, remote)?;
    let options = Options { limit: request.limit, threads: request.threads, scratch: None };
    let left = Side { store: &left, root: &left_root };
    let right = Side { store: &right, root: &right_root };
    Ok(diff::diff(left, right, options, watch)?)
}

/// The one image that a subject names, or what it has for one platform.
fn open(
    subject: &Subject,
    platform: Option<&Platform>,
    remote: &Remote<'_>,
) -> Result<(ImageStore, Descriptor), Failure> {
    let store = remote.open(subject, Which { platform, layers: true, ..Which::default() });
    let store = store.map_err(|failure| match failure.code {
        // "1" says that two images were compared, or that one is damaged; here there is none.
        "E-NO-IMAGE" => Failure { exit: Exit::Usage, ..failure },
        _ => failure,
    })?;
    let store = store.usable()?;
    if platform.is_some() {
        let image = store.one_image(subject.tag(), subject.digest(), platform)?;
        return Ok((store, image.descriptor));
    }
    let mut roots = store.select(subject.tag(), subject.digest())?;
    match (roots.pop(), roots.len()) {
        (Some(root), 0) => Ok((store, root.descriptor)),
        _ => Err(StoreError::Selection {
            place: store.place().to_owned(),
            why: "several images fit".into(),
            help: "name a tag or a digest: oci:DIR:TAG, FILE@sha256:…".into(),
        }
        .into()),
    }
}
