//! Records in a file without a name: written one behind another, read again in that order or at their places.
//!
//! A record is a key and a value. Memory does not grow with their number.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::InputError;

/// Bytes that are gathered before they are written.
const WRITE: usize = 256 << 10;

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// Bytes of the lengths before a record.
const HEAD: usize = 8;

/// Appends records.
pub(super) struct RecordWriter {
    directory: Arc<Path>,
    out: BufWriter<Arc<File>>,
    size: u64,
}

impl RecordWriter {
    /// A nameless file on the file system of this directory.
    pub(super) fn new(directory: &Path) -> Result<RecordWriter, InputError> {
        let file = tempfile::tempfile_in(directory).map_err(failed(directory))?;
        Ok(RecordWriter {
            directory: directory.into(),
            out: BufWriter::with_capacity(WRITE, Arc::new(file)),
            size: 0,
        })
    }

    /// Appends a record, and gives its place.
    pub(super) fn append(&mut self, key: &[u8], value: &[u8]) -> Result<u64, InputError> {
        let place = self.size;
        let head = head(key, value).map_err(failed(&self.directory))?;
        for part in [&head, key, value] {
            self.out.write_all(part).map_err(failed(&self.directory))?;
            self.size += part.len() as u64;
        }
        Ok(place)
    }

    /// Where the next record will be.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The records, so far.
    pub(super) fn so_far(&mut self) -> Result<Records, InputError> {
        self.out.flush().map_err(failed(&self.directory))?;
        let (file, directory) = (Arc::clone(self.out.get_ref()), Arc::clone(&self.directory));
        Ok(Records { file, directory, size: self.size })
    }
}

/// Bytes as they are, which are records that were copied out of [`Records::bytes`].
impl Write for RecordWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Records that were written.
#[derive(Clone, Debug)]
pub(super) struct Records {
    file: Arc<File>,
    directory: Arc<Path>,
    size: u64,
}

impl Records {
    /// Reads all of them, in the order in which they were written.
    pub(super) fn read(&self) -> RecordReader {
        self.read_part(0..self.size)
    }

    /// Reads those in this part of the file.
    pub(super) fn read_part(&self, part: Range<u64>) -> RecordReader {
        let bytes = Bytes { file: Arc::clone(&self.file), next: part.start, end: part.end };
        RecordReader {
            directory: Arc::clone(&self.directory),
            next: part.start,
            end: part.end,
            bytes: BufReader::with_capacity(READ, bytes),
        }
    }

    /// The one at this place.
    pub(super) fn at(&self, place: u64) -> Result<(Vec<u8>, Vec<u8>), InputError> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let read = |out: &mut [u8], at| self.file.read_exact_at(out, at);
        let mut record = || {
            let mut head = [0; HEAD];
            read(&mut head, place)?;
            let left = self.size.saturating_sub(place + HEAD as u64);
            let (key_length, value_length) = lengths(&head, left)?;
            key.resize(key_length, 0);
            value.resize(value_length, 0);
            read(&mut key, place + HEAD as u64)?;
            read(&mut value, place + (HEAD + key_length) as u64)
        };
        record().map_err(failed(&self.directory))?;
        Ok((key, value))
    }

    /// How many bytes all of them take.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of all of them.
    pub(super) fn bytes(&self) -> impl Read + use<> {
        Bytes { file: Arc::clone(&self.file), next: 0, end: self.size }
    }

    /// An error about these records.
    pub(super) fn damaged(&self) -> InputError {
        failed(&self.directory)(io::ErrorKind::InvalidData.into())
    }
}

/// Reads records one after another.
pub(super) struct RecordReader {
    directory: Arc<Path>,
    next: u64,
    end: u64,
    bytes: BufReader<Bytes>,
}

impl RecordReader {
    /// Reads a record into these buffers; false, and nothing is read, when there is none left.
    pub(super) fn next(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, InputError> {
        if self.next >= self.end {
            return Ok(false);
        }
        let mut record = || {
            let mut head = [0; HEAD];
            self.bytes.read_exact(&mut head)?;
            let left = (self.end - self.next).saturating_sub(HEAD as u64);
            let (key_length, value_length) = lengths(&head, left)?;
            key.resize(key_length, 0);
            value.resize(value_length, 0);
            self.bytes.read_exact(key)?;
            self.bytes.read_exact(value)?;
            self.next += (HEAD + key_length + value_length) as u64;
            io::Result::Ok(true)
        };
        record().map_err(failed(&self.directory))
    }

    /// Where the next record is.
    pub(super) fn place(&self) -> u64 {
        self.next
    }
}

/// The bytes of a part of a file.
struct Bytes {
    file: Arc<File>,
    next: u64,
    end: u64,
}

impl Read for Bytes {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.next).unwrap_or(usize::MAX).min(out.len());
        let count = self.file.read_at(&mut out[..most], self.next)?;
        self.next += count as u64;
        Ok(count)
    }
}

/// The lengths that stand before a record.
pub(super) fn head(key: &[u8], value: &[u8]) -> io::Result<[u8; HEAD]> {
    let length =
        |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let number = u64::from(length(key)?) | u64::from(length(value)?) << 32;
    io::Result::Ok(number.to_le_bytes())
}

/// The same, read; they must be in what is left of the file.
fn lengths(head: &[u8; HEAD], left: u64) -> io::Result<(usize, usize)> {
    let number = u64::from_le_bytes(*head);
    let (key, value) = (number & u64::from(u32::MAX), number >> 32);
    let fit = |length| usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    match key + value <= left {
        true => Ok((fit(key)?, fit(value)?)),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn failed(directory: &Path) -> impl FnOnce(io::Error) -> InputError + use<'_> {
    move |source| InputError::Scratch { path: directory.to_owned(), source }
}
