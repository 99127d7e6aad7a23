//! Files without a name that hold what was unpacked, gone when they are closed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::InputError;

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
