//! The content of a wheel's member: inflated when it is read, and checked on the way.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use dmoci_layers::{Digest, Hasher};
use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::record::Sum;
use super::wheel::{Fault, fault};
use super::wheel_zip::Place;
use crate::cache::KeyWriter;
use crate::inputs::InputError;

/// A wheel that is open.
#[derive(Debug)]
pub(super) struct Opened {
    /// The file. Only read at places, so that any number of readers can have it.
    pub(super) file: File,
    /// The wheel as the user named it.
    pub(super) path: PathBuf,
    /// Digest of the whole file.
    pub(super) digest: Digest,
}

/// The content of a member, not read yet.
#[derive(Clone, Debug)]
pub struct Member {
    wheel: Arc<Opened>,
    name: Arc<str>,
    place: Place,
    /// What RECORD says; nothing of RECORD itself.
    sum: Option<Digest>,
}

impl Member {
    pub(super) fn new(wheel: &Arc<Opened>, name: &str, place: Place, sum: Option<&Sum>) -> Member {
        let sum = sum.map(|sum| sum.digest.clone());
        Member { wheel: Arc::clone(wheel), name: name.into(), place, sum }
    }

    /// Writes what decides the content, and the way it is compressed: the digest of the wheel and the name of the member.
    pub fn decide(&self, key: &mut KeyWriter) {
        key.bytes(self.wheel.digest.to_string().as_bytes());
        key.bytes(self.name.as_bytes());
    }

    /// The hash of the content by the wheel's RECORD.
    pub fn digest(&self) -> Option<&Digest> {
        self.sum.as_ref()
    }

    /// Number of bytes of the content.
    pub fn size(&self) -> u64 {
        self.place.size
    }

    /// Begins to read the content.
    pub fn open(&self) -> MemberReader {
        MemberReader {
            member: self.clone(),
            at: self.place.start,
            left: self.place.packed,
            input: vec![
                0;
                if self.place.deflated { INPUT.min(self.place.packed as usize).max(1) } else { 0 }
            ],
            ready: 0..0,
            inflate: self.place.deflated.then(|| Decompress::new(false)),
            ended: !self.place.deflated,
            crc: Crc::new(),
            hasher: self.sum.as_ref().map(|sum| Hasher::new(sum.algorithm())),
            size: 0,
            checked: false,
        }
    }

    /// Reads the whole content, which has at most so many bytes.
    pub(super) fn read(&self, most: u64) -> Result<Vec<u8>, Fault> {
        if self.place.size > most {
            return Err(fault(format!("{:?} has {} bytes, more than {most}", self.name, self.place.size)));
        }
        let mut content = Vec::with_capacity(usize::try_from(self.place.size).unwrap_or_default());
        self.open().take_all(&mut content)?;
        Ok(content)
    }

    /// The first bytes of the content, as many as there are up to that number. They are not checked yet.
    pub(super) fn head(&self, most: usize) -> Result<Vec<u8>, Fault> {
        let mut reader = self.open();
        let mut head = vec![0; most.min(usize::try_from(self.place.size).unwrap_or(usize::MAX))];
        let mut length = 0;
        while length < head.len() {
            match reader.fill(&mut head[length..])? {
                0 => break,
                count => length += count,
            }
        }
        head.truncate(length);
        Ok(head)
    }
}

/// So many compressed bytes are read at once.
const INPUT: usize = 64 << 10;

/// Reads the content of a member. The end is given only when all of it was as it must be: a deflate stream that ends with
/// its data, size and CRC-32 of the directory, and the hash of RECORD.
pub struct MemberReader {
    member: Member,
    /// What is read next from the file, and how much is left there.
    at: u64,
    left: u64,
    input: Vec<u8>,
    /// What of the input is not inflated yet.
    ready: std::ops::Range<usize>,
    inflate: Option<Decompress>,
    /// The deflate stream has ended.
    ended: bool,
    crc: Crc,
    hasher: Option<Hasher>,
    size: u64,
    checked: bool,
}

impl std::fmt::Debug for MemberReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberReader")
            .field("member", &self.member)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl MemberReader {
    fn take_all(&mut self, content: &mut Vec<u8>) -> Result<(), Fault> {
        let mut buffer = vec![0; INPUT];
        loop {
            match self.fill(&mut buffer)? {
                0 => return Ok(()),
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Reads some bytes; none at the end, when all is well.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if out.is_empty() {
            return Ok(0);
        }
        let count = match self.inflate {
            Some(_) => self.inflated(out)?,
            None => self.stored(out)?,
        };
        self.size += count as u64;
        if self.size > self.member.place.size {
            return Err(self.wrong(format!("holds more than {} bytes", self.member.place.size)));
        }
        if count > 0 {
            self.crc.update(&out[..count]);
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&out[..count]);
            }
        } else if !self.checked {
            self.check()?;
        }
        Ok(count)
    }

    fn stored(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let count = self.fetch(&mut out[..most])?;
        Ok(count)
    }

    fn inflated(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        loop {
            if self.ended {
                return Ok(0);
            }
            if self.ready.is_empty() {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.input.len());
                let mut input = std::mem::take(&mut self.input);
                let fetched = self.fetch(&mut input[..most]);
                self.input = input;
                self.ready = 0..fetched?;
            }
            let Some(inflate) = &mut self.inflate else { return Ok(0) };
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(&self.input[self.ready.clone()], out, FlushDecompress::None);
            let (read, written) = (inflate.total_in() - read, inflate.total_out() - written);
            self.ready.start += read as usize;
            match status {
                Ok(Status::StreamEnd) => {
                    self.ended = true;
                    return Ok(written as usize);
                }
                Ok(_) if written > 0 => return Ok(written as usize),
                Ok(_) if read > 0 => {}
                // Nothing more to read, and no end.
                Ok(_) => return Err(self.wrong("is cut off")),
                Err(_) => return Err(self.wrong("is no deflate stream")),
            }
        }
    }

    /// Reads compressed bytes, at most as many as there are.
    fn fetch(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if out.is_empty() {
            return Ok(0);
        }
        let count = loop {
            match self.member.wheel.file.read_at(out, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                count => break count.map_err(Fault::Read)?,
            }
        };
        if count == 0 {
            return Err(self.wrong("is cut off"));
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }

    /// At the end: whether everything was there, and right.
    fn check(&mut self) -> Result<(), Fault> {
        let expected = self.member.place;
        if self.left != 0 || !self.ready.is_empty() {
            return Err(self.wrong("has bytes behind the end of its deflate stream"));
        }
        if self.size != expected.size {
            return Err(self.wrong(format!("holds {} bytes, expected {}", self.size, expected.size)));
        }
        if self.crc.sum() != expected.crc {
            let found = self.crc.sum();
            return Err(self.wrong(format!("has the CRC-32 {found:08x}, expected {:08x}", expected.crc)));
        }
        if let (Some(hasher), Some(expected)) = (self.hasher.take(), &self.member.sum) {
            let found = hasher.finish();
            if found != *expected {
                return Err(self.wrong(format!("holds {found}, but RECORD says {expected}")));
            }
        }
        self.checked = true;
        Ok(())
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Fault {
        fault(format!("{:?} {what}", self.member.name))
    }
}

/// An error holds the [`InputError`] that it is.
impl Read for MemberReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill(out).map_err(|fault| {
            let error: InputError = fault.of(&self.member.wheel.path);
            io::Error::other(error)
        })
    }
}
