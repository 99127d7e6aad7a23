//! Files without a name that hold what was unpacked, gone when they are closed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dmoci_layers::Digest;

use super::InputError;
use crate::cache::KeyWriter;
use crate::files::Stamp;

/// Appends contents to a nameless file.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    out: BufWriter<File>,
    size: u64,
}

/// Why a content could not be appended.
#[derive(Debug)]
pub enum SpoolError {
    /// The reader failed.
    Read(io::Error),
    /// The nameless file could not be written: no fault of what is read.
    Write(InputError),
}

impl SpoolError {
    /// The error of the input; `read` makes one of the reader's.
    pub fn into_input(self, read: impl FnOnce(io::Error) -> InputError) -> InputError {
        match self {
            SpoolError::Read(source) => read(source),
            SpoolError::Write(error) => error,
        }
    }
}

impl Spool {
    /// A nameless file on the file system of this directory.
    pub fn new(directory: &Path) -> Result<Spool, InputError> {
        let file = tempfile::tempfile_in(directory)
            .map_err(|source| InputError::Scratch { path: directory.to_owned(), source })?;
        let out = BufWriter::with_capacity(1 << 20, file);
        Ok(Spool { directory: directory.to_owned(), out, size: 0 })
    }

    /// Appends everything that `reader` gives; the offset and number of these bytes.
    pub fn append(&mut self, reader: &mut dyn io::Read) -> Result<(u64, u64), SpoolError> {
        let offset = self.size;
        let mut reader = BufReader::with_capacity(1 << 16, reader);
        loop {
            let bytes = match reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes.map_err(SpoolError::Read)?,
            };
            if bytes.is_empty() {
                return Ok((offset, self.size - offset));
            }
            let (length, written) = (bytes.len(), self.out.write_all(bytes));
            written.map_err(|source| SpoolError::Write(self.failed(source)))?;
            reader.consume(length);
            self.size += length as u64;
        }
    }

    /// The file, complete.
    pub fn finish(mut self) -> Result<File, InputError> {
        self.out.flush().map_err(|source| self.failed(source))?;
        let directory = self.directory;
        self.out
            .into_inner()
            .map_err(|error| InputError::Scratch { path: directory, source: error.into_error() })
    }

    fn failed(&self, source: io::Error) -> InputError {
        InputError::Scratch { path: self.directory.clone(), source }
    }
}

/// What tells an archive from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A file of the project, in this state.
    Stamp(Stamp),
    /// A file of this digest.
    Digest(Digest),
}

impl Identity {
    /// Writes it into a key.
    pub fn decide(&self, key: &mut KeyWriter) {
        match self {
            Identity::Stamp(stamp) => {
                key.number(0);
                key.stamp(stamp);
            }
            Identity::Digest(digest) => {
                key.number(1);
                key.bytes(digest.to_string().as_bytes());
            }
        }
    }
}

/// What an archive or a layer holds, unpacked: now, or when it is needed.
pub struct Spooled {
    /// What decides it.
    key: Vec<u8>,
    /// The archive; nothing when `key` says it all.
    archive: Option<Identity>,
    /// Unpacks the archive again, when it is still as it was.
    fill: Box<Fill>,
    file: Mutex<Option<Arc<File>>>,
}

type Fill = dyn Fn() -> Result<File, InputError> + Send + Sync;

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spooled").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl Spooled {
    /// A spool of this archive. `key` is what decides its content beside that; `fill` unpacks it, which is
    /// done when `file` is not there yet and a content is asked for.
    pub fn new(
        key: Vec<u8>,
        archive: Option<Identity>,
        file: Option<File>,
        fill: impl Fn() -> Result<File, InputError> + Send + Sync + 'static,
    ) -> Spooled {
        Spooled { key, archive, fill: Box::new(fill), file: Mutex::new(file.map(Arc::new)) }
    }

    /// The contents.
    pub fn file(&self) -> Result<Arc<File>, InputError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*file {
            return Ok(Arc::clone(file));
        }
        let filled = Arc::new((self.fill)()?);
        *file = Some(Arc::clone(&filled));
        Ok(filled)
    }

    /// Whether only the state of a file of this machine says what they are.
    pub fn is_local(&self) -> bool {
        matches!(self.archive, Some(Identity::Stamp(_)))
    }

    /// Writes what decides the contents into a key.
    pub fn decide(&self, key: &mut KeyWriter) {
        if let Some(archive) = &self.archive {
            archive.decide(key);
        }
        key.bytes(&self.key);
    }
}
