//! Bytes in, counted.

use std::io::{self, Read};

use super::TarError;

/// A reader that knows how far it is.
pub(super) struct Source<R> {
    pub(super) reader: R,
    pub(super) offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn some(&mut self, out: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.read(out) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Io { offset: self.offset, source }),
            }
        }
    }

    pub(super) fn exact(&mut self, out: &mut [u8], missing: &'static str) -> Result<(), TarError> {
        let mut done = 0;
        while done < out.len() {
            match self.some(&mut out[done..])? {
                0 => return Err(TarError::Truncated { offset: self.offset, missing }),
                n => done += n,
            }
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, mut n: u64, missing: &'static str) -> Result<(), TarError> {
        let mut buffer = vec![0; usize::try_from(n).unwrap_or(usize::MAX).min(64 << 10)];
        while n > 0 {
            let most = usize::try_from(n).unwrap_or(usize::MAX).min(buffer.len());
            match self.some(&mut buffer[..most])? {
                0 => return Err(TarError::Truncated { offset: self.offset, missing }),
                read => n -= read as u64,
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(out)?;
        self.offset += n as u64;
        Ok(n)
    }
}
