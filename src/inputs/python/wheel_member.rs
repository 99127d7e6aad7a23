//! The content of a wheel's member: inflated when it is read, and checked on the way.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use dmoci_layers::Digest;
use dmoci_layers::compress::SPLICE_MIN;
use dmoci_layers::inflate::{Check, Expected, Inflate, InflateError};

use super::record::Sum;
use super::wheel::{Fault, fault};
use super::wheel_zip::Place;
use crate::cache::KeyWriter;
use crate::diagnostic::shown::Short;
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

    /// The same, whose hash is not looked at: for whoever reads only a part.
    pub(super) fn unhashed(self) -> Member {
        Member { sum: None, ..self }
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

    /// What the content must be.
    pub fn expected(&self) -> Expected {
        Expected { size: self.place.size, crc: self.place.crc, digest: self.sum.clone() }
    }

    /// True when the content is a deflate stream that is worth a gzip member of its own.
    pub fn is_deflated(&self) -> bool {
        self.place.deflated && self.place.packed >= SPLICE_MIN
    }

    /// Reads the bytes in the wheel, as they are: for a deflated member its stream.
    pub fn packed(&self) -> Packed {
        Packed { wheel: Arc::clone(&self.wheel), at: self.place.start, left: self.place.packed }
    }

    /// Begins to read the content.
    pub fn open(&self) -> MemberReader {
        let expected = self.expected();
        let how = match self.place.deflated {
            true => How::Deflated {
                inflate: Box::new(Inflate::new(&expected)),
                input: vec![0; INPUT.min(self.place.packed.max(1) as usize)],
                next: 0,
                end: 0,
            },
            false => How::Stored(Check::new(&expected)),
        };
        MemberReader { member: self.clone(), packed: self.packed(), how, ended: false }
    }

    /// The error of this member.
    pub fn wrong(&self, error: &InflateError) -> InputError {
        self.fault(error).of(&self.wheel.path)
    }

    fn fault(&self, error: &InflateError) -> Fault {
        match error {
            InflateError::Digest { found, expected } => {
                fault(format!("{:?} holds {found}, but RECORD says {expected}", Short(&self.name)))
            }
            error => fault(format!("{:?} {error}", Short(&self.name))),
        }
    }

    /// Reads the whole content, which has at most so many bytes.
    pub(super) fn read(&self, most: u64) -> Result<Vec<u8>, Fault> {
        if self.place.size > most {
            let (name, size) = (Short(&self.name), self.place.size);
            return Err(fault(format!("{name:?} has {size} bytes, more than {most}")));
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

/// Reads a part of a wheel, to its end.
#[derive(Debug)]
pub struct Packed {
    wheel: Arc<Opened>,
    at: u64,
    left: u64,
}

impl Read for Packed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if most == 0 {
            return Ok(0);
        }
        // Less than the central directory says is for the reader of the content to find.
        let count = self.wheel.file.read_at(&mut out[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads the content of a member. The end is given only when all of it was as it must be: a deflate stream that ends with
/// its data, size and CRC-32 of the directory, and the hash of RECORD.
#[derive(Debug)]
pub struct MemberReader {
    member: Member,
    packed: Packed,
    how: How,
    ended: bool,
}

#[derive(Debug)]
enum How {
    Stored(Check),
    Deflated {
        inflate: Box<Inflate>,
        input: Vec<u8>,
        /// What of the input is not inflated yet.
        next: usize,
        end: usize,
    },
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
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, Fault> {
        if out.is_empty() || self.ended {
            return Ok(0);
        }
        let wrong = |error: InflateError| self.member.fault(&error);
        let count = match &mut self.how {
            How::Stored(check) => {
                let count = read(&mut self.packed, out)?;
                check.update(&out[..count]).map_err(wrong)?;
                if count == 0 {
                    check.finish().map_err(wrong)?;
                }
                count
            }
            How::Deflated { inflate, input, next, end } => loop {
                if next == end {
                    (*next, *end) = (0, read(&mut self.packed, input)?);
                }
                let (used, made) = inflate.step(&input[*next..*end], out).map_err(wrong)?;
                *next += used;
                if made > 0 {
                    break made;
                }
                if inflate.is_ended() && (next != end || self.packed.left > 0) {
                    return Err(wrong(InflateError::Behind));
                }
                if used == 0 {
                    inflate.finish().map_err(wrong)?;
                    break 0;
                }
            },
        };
        self.ended = count == 0;
        Ok(count)
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

fn read(packed: &mut Packed, out: &mut [u8]) -> Result<usize, Fault> {
    loop {
        match packed.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            count => return count.map_err(Fault::Read),
        }
    }
}
