//! Bytes of blobs that are sent.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dmoci_layers::{Digest, Hasher};

use crate::oci::Descriptor;
use crate::store::registry::Content;
use crate::store::{ImageStore, StoreError};

/// A blob of a store. It is hashed on its way, and the end of one that is not what its digest names is never given.
pub(super) struct Stored<'a> {
    store: &'a ImageStore,
    blob: &'a Descriptor,
    state: Mutex<State>,
}

enum State {
    /// So many bytes from the beginning were hashed.
    Hashed(u64, Hasher),
    /// Somebody reads it, or nothing is known of it.
    Unknown,
    /// It is right.
    Right,
    /// It is another one: its digest.
    Wrong(Digest),
}

impl<'a> Stored<'a> {
    pub(super) fn new(store: &'a ImageStore, blob: &'a Descriptor) -> Stored<'a> {
        Stored { store, blob, state: Mutex::new(State::Unknown) }
    }

    /// An error when it turned out to be another one.
    pub(super) fn verdict(&self) -> Result<(), StoreError> {
        match &*self.state() {
            State::Wrong(found) => Err(StoreError::Digest {
                place: self.store.place().to_owned(),
                expected: self.blob.digest.clone(),
                found: Box::new(found.clone()),
            }),
            _ => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash of what stands before a place: of the last part that was read, or made anew.
    fn before(&self, from: u64) -> io::Result<Option<Hasher>> {
        let known = std::mem::replace(&mut *self.state(), State::Unknown);
        match known {
            State::Hashed(at, hasher) if at == from => return Ok(Some(hasher)),
            State::Right => {
                *self.state() = State::Right;
                return Ok(None);
            }
            _ => {}
        }
        let mut hasher = Hasher::new(self.blob.digest.algorithm());
        if from > 0 {
            let mut head = self.store.open_blob(&self.blob.digest).map_err(io::Error::other)?.take(from);
            let mut buffer = vec![0; 256 << 10];
            loop {
                match head.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => hasher.update(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Some(hasher))
    }
}

impl Content for Stored<'_> {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        let hasher = self.before(from)?;
        let inner = self.store.open_blob_at(&self.blob.digest, from).map_err(io::Error::other)?;
        Ok(Box::new(Hashing { inner, stored: self, at: from, hasher }))
    }
}

struct Hashing<'a, R> {
    inner: R,
    stored: &'a Stored<'a>,
    at: u64,
    /// Nothing when the blob is known to be right.
    hasher: Option<Hasher>,
}

impl<R: Read> Read for Hashing<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        let size = self.stored.blob.size;
        self.at += count as u64;
        let Some(mut hasher) = self.hasher.take() else { return Ok(count) };
        hasher.update(&out[..count]);
        if self.at < size && (count > 0 || out.is_empty()) {
            self.hasher = Some(hasher);
            return Ok(count);
        }
        let found = hasher.finish();
        let right = found == self.stored.blob.digest && self.at == size;
        *self.stored.state() = if right { State::Right } else { State::Wrong(found) };
        match right {
            true => Ok(count),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what its digest names")),
        }
    }
}

impl<R> Drop for Hashing<'_, R> {
    fn drop(&mut self) {
        if let Some(hasher) = self.hasher.take() {
            *self.stored.state() = State::Hashed(self.at, hasher);
        }
    }
}

/// A file of the download cache, which was hashed when it came.
pub(super) struct Held(pub(super) Arc<File>);

impl Content for Held {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(From(&self.0, from)))
    }
}

/// A file from there on.
struct From<'a>(&'a File, u64);

impl Read for From<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(out, self.1)?;
        self.1 += count as u64;
        Ok(count)
    }
}
