//! Several stores as one, under an `index.json` that is made for the occasion.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use dmoci_layers::Digest;

use super::{Backing, Blob, Form, ImageStore};

impl ImageStore {
    /// All blobs of these stores, and these documents; the first that has a blob gives it. `place` is for people.
    pub fn joined(
        stores: &[Arc<ImageStore>],
        documents: Vec<(Digest, Vec<u8>)>,
        index: Vec<u8>,
        place: PathBuf,
    ) -> ImageStore {
        let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
        for store in stores {
            for digest in store.blobs() {
                let size = store.blob_size(digest).unwrap_or(0);
                blobs.entry(digest.clone()).or_insert_with(|| Blob::Of { store: Arc::clone(store), size });
            }
        }
        let documents = documents.into_iter().map(|(digest, bytes)| (digest, Blob::Memory(bytes.into())));
        blobs.extend(documents);
        ImageStore {
            form: Form::Layout,
            place,
            layout_file: None,
            index,
            docker_manifest: None,
            blobs,
            strays: Vec::new(),
            problems: Vec::new(),
            members: Vec::new(),
            backing: Backing::Fetched,
            whole_compressed: false,
            streamed: false,
        }
    }
}
