//! Files without a name that hold what was unpacked, gone when they are closed.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

/// Appends contents to a nameless file.
#[derive(Debug)]
pub struct Spool {
    out: BufWriter<File>,
    size: u64,
}

impl Spool {
    /// A nameless file on the file system of this directory.
    pub fn new(directory: &Path) -> io::Result<Spool> {
        Ok(Spool { out: BufWriter::with_capacity(1 << 20, tempfile::tempfile_in(directory)?), size: 0 })
    }

    /// Appends everything that `reader` gives; the offset and number of these bytes.
    pub fn append(&mut self, reader: &mut dyn io::Read) -> io::Result<(u64, u64)> {
        let offset = self.size;
        let size = io::copy(reader, &mut self.out)?;
        self.size += size;
        Ok((offset, size))
    }

    /// The file, complete.
    pub fn finish(mut self) -> io::Result<File> {
        self.out.flush()?;
        self.out.into_inner().map_err(io::IntoInnerError::into_error)
    }
}
