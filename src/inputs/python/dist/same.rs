//! Reading a file from its beginning, wherever it stands, and comparing it with what would be written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

/// Takes what would be written, and compares.
pub(super) struct Same<'a> {
    file: &'a File,
    at: u64,
    same: bool,
    buffer: Vec<u8>,
}

impl<'a> Same<'a> {
    pub(super) fn new(file: &'a File) -> Same<'a> {
        Same { file, at: 0, same: true, buffer: vec![0; 64 << 10] }
    }

    /// Whether all was the same, to the end of the file.
    pub(super) fn finish(self) -> io::Result<bool> {
        Ok(self.same && self.file.metadata()?.len() == self.at)
    }
}

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &mut self.buffer[..bytes.len().min(64 << 10)];
        if self.same {
            match self.file.read_exact_at(part, self.at) {
                Ok(()) => self.same = *part == bytes[..part.len()],
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.same = false,
                Err(error) => return Err(error),
            }
        }
        self.at += part.len() as u64;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from the beginning.
pub(super) struct At {
    file: File,
    at: u64,
}

impl At {
    pub(super) fn beginning(file: File) -> At {
        At { file, at: 0 }
    }
}

impl Read for At {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(out, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
