//! The content of a layer, read once and proven on the way.

use std::io::{self, BufReader, Read};

use dmoci_layers::decompress::{DecodeError, Decoder};
use dmoci_layers::untar::{TarError, TarReader};
use dmoci_layers::{Compression, Digest};

use super::error::DiffError;
use crate::engine::reader::{Hashing, Watch, Watched, decode_limits, tar_limits};
use crate::oci::Descriptor;
use crate::oci::media_type::Kind;
use crate::store::{BlobReader, ImageStore, StoreError};

/// A layer of one of the images.
#[derive(Clone)]
pub(super) struct LayerSource<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    /// Which layer of which image, for people.
    pub(super) label: String,
}

/// The content before compression. Nothing is proven before [`LayerSource::prove`].
pub(super) type Plain<'a> = Hashing<Decoder<Hashing<Watched<'a, BlobReader>>>>;

/// The same, as a tar.
pub(super) type Tar<'a> = TarReader<BufReader<Plain<'a>>>;

impl<'a> LayerSource<'a> {
    /// How it is compressed; nothing when it is no layer of a known type.
    pub(super) fn compression(&self) -> Option<Compression> {
        match self.descriptor.kind() {
            Kind::Layer(compression) => Some(compression),
            _ => None,
        }
    }

    /// True when the blob is in the store.
    pub(super) fn is_here(&self) -> bool {
        self.store.blob_size(&self.descriptor.digest).is_some()
    }

    /// Opens the content.
    pub(super) fn plain(&self, watch: &'a dyn Watch) -> Result<Plain<'a>, DiffError> {
        let digest = &self.descriptor.digest;
        let blob = Hashing::new(Watched(self.store.open_blob(digest)?, watch), Some(digest.algorithm()));
        let known = self.compression();
        let decoder = Decoder::new(blob, known.unwrap_or(Compression::None), decode_limits());
        let decoder = decoder.map_err(|error| self.failed(0, error))?;
        // What is no layer has a diff_id of which nothing is known.
        Ok(Hashing::new(decoder, known.map(|_| self.diff_id.algorithm())))
    }

    /// Opens the content as a tar.
    pub(super) fn tar(&self, watch: &'a dyn Watch) -> Result<Tar<'a>, DiffError> {
        Ok(TarReader::new(BufReader::with_capacity(128 << 10, self.plain(watch)?), tar_limits()))
    }

    /// Reads to the end, and says whether all that was read is what the digests name.
    pub(super) fn prove(&self, mut plain: Plain<'_>) -> Result<(), DiffError> {
        let rest = io::copy(&mut plain, &mut io::sink());
        rest.map_err(|error| self.failed(plain.count, error))?;
        let (decoder, content) = plain.into_parts();
        let mut blob = decoder.into_inner();
        io::copy(&mut blob, &mut io::sink()).map_err(|error| self.failed(0, error))?;
        let (layer, expected) = (self.label.clone(), self.descriptor.digest.clone());
        if let Some(found) = blob.finish().filter(|found| *found != expected) {
            return Err(DiffError::Digest { layer, expected, found: Box::new(found) });
        }
        let expected = self.diff_id.clone();
        match content.filter(|found| *found != expected) {
            Some(found) => Err(DiffError::DiffId { layer, expected, found: Box::new(found) }),
            None => Ok(()),
        }
    }

    /// An error of reading the content: damage, or of the store.
    pub(super) fn failed(&self, offset: u64, source: io::Error) -> DiffError {
        match DecodeError::of(&source) {
            Some(_) => {
                DiffError::Layer { layer: self.label.clone(), source: TarError::Io { offset, source } }
            }
            None => StoreError::Io { path: self.store.place().to_owned(), source }.into(),
        }
    }

    /// An error of reading the tar: damage, or of the store.
    pub(super) fn broken(&self, error: TarError) -> DiffError {
        match error {
            TarError::Io { offset, source } => self.failed(offset, source),
            source => DiffError::Layer { layer: self.label.clone(), source },
        }
    }
}

/// The first byte in which two contents differ, both proven; nothing when they are the same.
pub(super) fn first_difference(
    left: &LayerSource<'_>,
    right: &LayerSource<'_>,
    watch: &dyn Watch,
) -> Result<Option<u64>, DiffError> {
    let (mut l, mut r) = (left.plain(watch)?, right.plain(watch)?);
    let (mut a, mut b) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    let mut offset = 0;
    let found = loop {
        let n = fill(&mut l, &mut a).map_err(|error| left.failed(offset, error))?;
        let m = fill(&mut r, &mut b).map_err(|error| right.failed(offset, error))?;
        let same = a[..n].iter().zip(&b[..m]).take_while(|(l, r)| l == r).count();
        match (same < n.max(m), n < a.len()) {
            (true, _) => break Some(offset + same as u64),
            (false, true) => break None,
            (false, false) => offset += n as u64,
        }
    };
    left.prove(l)?;
    right.prove(r)?;
    Ok(found)
}

/// Reads until the buffer is full or the reader ends.
pub(super) fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match reader.read(&mut buffer[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
