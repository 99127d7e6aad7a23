//! Writing a tar archive into one gzip member: what every reader of source distributions understands.
//!
//! Entries have the form of `tar` with the caller's time instead of the constant one. The whole archive is
//! one gzip member with the header of layers (no name, no time), deflated by libdeflate at level 9: readers of source
//! distributions that stop behind the first of several members exist. So all of it is held in memory.

use std::io;

use crate::encode::GZIP_HEADER;
use crate::entry::{Entry, EntryKind};
use crate::tar::{self, TarError};

const LEVEL: i32 = 9;

/// Collects entries in the order in which they are given.
#[derive(Debug)]
pub struct TgzWriter {
    time: u64,
    tar: Vec<u8>,
}

/// Why an entry cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum TgzError {
    /// It has no tar form.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The content has not as many bytes as the entry says.
    #[error("{path} has {found} bytes, expected {expected}", path = .entry.path)]
    Size {
        /// The entry.
        entry: Box<Entry>,
        /// Bytes of the content.
        found: u64,
        /// Bytes by the entry.
        expected: u64,
    },
}

impl TgzWriter {
    /// An archive without entries yet, all of whose entries will have this time: seconds since 1970-01-01T00:00:00Z.
    pub fn new(time: u64) -> TgzWriter {
        TgzWriter { time, tar: Vec::new() }
    }

    /// Adds an entry; `content` is that of a file, and empty for everything else.
    pub fn add(&mut self, entry: &Entry, content: &[u8]) -> Result<(), TgzError> {
        let expected = match entry.kind {
            EntryKind::File { size } => size,
            _ => 0,
        };
        if expected != content.len() as u64 {
            let found = content.len() as u64;
            return Err(TgzError::Size { entry: Box::new(entry.clone()), found, expected });
        }
        tar::write_header_at(entry, self.time, &mut self.tar)?;
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len() + tar::padding(expected), 0);
        Ok(())
    }

    /// The whole archive, compressed.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.tar.extend_from_slice(&tar::END);
        let level = libdeflater::CompressionLvl::new(LEVEL)
            .map_err(|error| io::Error::other(format!("libdeflate level: {error:?}")))?;
        let mut compressor = libdeflater::Compressor::new(level);
        let mut out = GZIP_HEADER.to_vec();
        out.resize(GZIP_HEADER.len() + compressor.deflate_compress_bound(self.tar.len()), 0);
        let size = compressor
            .deflate_compress(&self.tar, &mut out[GZIP_HEADER.len()..])
            .map_err(|error| io::Error::other(format!("libdeflate: {error}")))?;
        out.truncate(GZIP_HEADER.len() + size);
        out.extend_from_slice(&libdeflater::crc32(&self.tar).to_le_bytes());
        // Modulo 2^32, as RFC 1952 has it.
        out.extend_from_slice(&(self.tar.len() as u32).to_le_bytes());
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, SafePath};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let path = SafePath::parse(path.as_bytes()).unwrap();
        Entry { path, kind, mode: 0o644, uid: 0, gid: 0, xattrs: Vec::new() }
    }

    /// The bytes of rules 1. Do not touch them: a change is a new number.
    #[test]
    fn golden() {
        let mut tgz = TgzWriter::new(1_700_000_001);
        tgz.add(&entry("a-1.0/PKG-INFO", EntryKind::File { size: 3 }), b"x y").unwrap();
        let long = format!("a-1.0/{}", "n".repeat(120));
        tgz.add(&entry(&long, EntryKind::File { size: 600 }), &[b'z'; 600]).unwrap();
        let out = tgz.finish().unwrap();
        assert_eq!(
            Digest::sha256(&out).to_string(),
            "sha256:4ae68a75532478373263a4758d8f498492ab1b8a17453a4e906920c255100be2"
        );
        let mut tar = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&out[..]), &mut tar).unwrap();
        let names: Vec<(String, u64)> = ::tar::Archive::new(&tar[..])
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().mtime().unwrap())
            })
            .collect();
        assert_eq!(names, [("a-1.0/PKG-INFO".to_owned(), 1_700_000_001), (long, 1_700_000_001)]);
    }

    #[test]
    fn contents_have_their_size() {
        let mut tgz = TgzWriter::new(0);
        let error = tgz.add(&entry("a", EntryKind::File { size: 2 }), b"x").unwrap_err();
        assert_eq!(error.to_string(), "/a has 1 bytes, expected 2");
    }
}
