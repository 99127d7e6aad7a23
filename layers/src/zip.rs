//! Writing zip archives (APPNOTE.TXT 6.3.10) of which the same members make the same bytes.
//!
//! One list of members has exactly one form. Rules `1`:
//!
//! * members stand in the order in which they are given, each with a local header that says what the central directory
//!   says: no data descriptors, no comments, and no extra fields but where an offset needs more than 32 bits;
//! * the content is deflated by libdeflate at level 9, or stored where that is not larger;
//! * all members have one time, in UTC, and mode 0644 or 0755 with the type of a regular file;
//! * made by "Unix, version 2.0"; needed is version 1.0 for what is stored, 2.0 for what is deflated, 4.5 with ZIP64;
//! * bit 11 of the flags stands where a name is not ASCII, and no other flag;
//! * ZIP64 end records only where a number does not fit.

use std::io::{self, Write};

use crate::{MTIME, calendar};

const LEVEL: i32 = 9;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// The host system of the attributes: Unix.
const UNIX: u16 = 3 << 8;
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
const UTF8: u16 = 1 << 11;
const LONG: u64 = u32::MAX as u64;
const SHORT: u64 = u16::MAX as u64;

/// Why a member has no zip form.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// A name that is empty, or longer than 65,535 bytes.
    #[error("a name of {0} bytes cannot stand in a zip archive")]
    Name(usize),
    /// A content of 4 GiB or more.
    #[error("{name:?} has {size} bytes, more than a zip archive of this form can hold")]
    Size {
        /// The member.
        name: String,
        /// Its size.
        size: u64,
    },
    /// Writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A time as zip archives hold it: two seconds exact, from 1980 to 2107.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZipTime {
    date: u16,
    time: u16,
}

impl ZipTime {
    /// Seconds since 1970-01-01T00:00:00Z, in UTC, rounded down to two seconds. Times before 1980-01-02 become that day: zip
    /// holds local time, and a day later is safe west of UTC too. Times after 2107 become the last that can be held.
    pub fn of(seconds: u64) -> ZipTime {
        // 2107-12-31T23:59:58Z
        let seconds = seconds.clamp(MTIME, 4_354_819_198);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = calendar::date(days);
        // All of them fit: the year is 1980 to 2107.
        let date = ((year - 1980) << 9 | month << 5 | day) as u16;
        let time = (rest / 3600) << 11 | (rest / 60 % 60) << 5 | (rest % 60 / 2);
        ZipTime { date, time: time as u16 }
    }

    /// Seconds since 1970-01-01T00:00:00Z. Fields that are no date give some time.
    pub fn seconds(self) -> u64 {
        let (year, month, day) =
            (1980 + u64::from(self.date >> 9), self.date >> 5 & 15, u64::from(self.date & 31));
        let days = calendar::days(year, u64::from(month), day);
        let (hour, minute) = (u64::from(self.time >> 11), u64::from(self.time >> 5 & 63));
        days * 86_400 + hour * 3600 + minute * 60 + u64::from(self.time & 31) * 2
    }

    /// From the two fields of a header.
    pub fn from_fields(date: u16, time: u16) -> ZipTime {
        ZipTime { date, time }
    }
}

/// Writes members one behind the other.
pub struct ZipWriter<W> {
    out: W,
    time: ZipTime,
    compressor: libdeflater::Compressor,
    /// The compressed content, used again.
    packed: Vec<u8>,
    offset: u64,
    count: u64,
    directory: Vec<u8>,
}

impl<W: Write> ZipWriter<W> {
    /// An archive without members yet, all of whose members will have this time.
    pub fn new(out: W, time: ZipTime) -> io::Result<ZipWriter<W>> {
        let level = libdeflater::CompressionLvl::new(LEVEL)
            .map_err(|error| io::Error::other(format!("libdeflate level: {error:?}")))?;
        let compressor = libdeflater::Compressor::new(level);
        Ok(ZipWriter {
            out,
            time,
            compressor,
            packed: Vec::new(),
            offset: 0,
            count: 0,
            directory: Vec::new(),
        })
    }

    /// Adds a file. Names are not looked at: that none is there twice is for the caller to see to.
    pub fn add(&mut self, name: &str, executable: bool, content: &[u8]) -> Result<(), ZipError> {
        let length = u16::try_from(name.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or(ZipError::Name(name.len()))?;
        let size = u32::try_from(content.len()).ok().filter(|size| *size < u32::MAX);
        let size = size.ok_or_else(|| ZipError::Size { name: name.into(), size: content.len() as u64 })?;
        self.packed.resize(self.compressor.deflate_compress_bound(content.len()), 0);
        let packed = self.compressor.deflate_compress(content, &mut self.packed);
        let packed = packed.map_err(|error| io::Error::other(format!("libdeflate: {error}")))?;
        let (method, data) = match packed < content.len() {
            true => (DEFLATED, &self.packed[..packed]),
            false => (STORED, content),
        };
        let zip64 = self.offset >= LONG;
        let needed = match method {
            _ if zip64 => VERSION_ZIP64,
            STORED => 10,
            _ => VERSION,
        };
        // Smaller than the content, or the content.
        let (crc, packed) = (libdeflater::crc32(content), data.len() as u32);

        let mut fields = Vec::with_capacity(26);
        for field in [needed, if name.is_ascii() { 0 } else { UTF8 }, method, self.time.time, self.time.date]
        {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        for field in [crc, packed, size] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        fields.extend_from_slice(&length.to_le_bytes());

        let mut local = b"PK\x03\x04".to_vec();
        local.extend_from_slice(&fields);
        local.extend_from_slice(&0u16.to_le_bytes());
        local.extend_from_slice(name.as_bytes());
        self.out.write_all(&local)?;
        self.out.write_all(data)?;

        let record = &mut self.directory;
        record.extend_from_slice(b"PK\x01\x02");
        record.extend_from_slice(&(UNIX | VERSION).to_le_bytes());
        record.extend_from_slice(&fields);
        let extra = if zip64 { 12u16 } else { 0 };
        // No comment, the first disk, no internal attributes.
        for field in [extra, 0, 0, 0] {
            record.extend_from_slice(&field.to_le_bytes());
        }
        let mode: u32 = if executable { 0o100_755 } else { 0o100_644 };
        record.extend_from_slice(&(mode << 16).to_le_bytes());
        let offset = u32::try_from(self.offset).unwrap_or(u32::MAX);
        record.extend_from_slice(&offset.to_le_bytes());
        record.extend_from_slice(name.as_bytes());
        if zip64 {
            record.extend_from_slice(&[1, 0, 8, 0]);
            record.extend_from_slice(&self.offset.to_le_bytes());
        }
        self.offset += (local.len() + data.len()) as u64;
        self.count += 1;
        Ok(())
    }

    /// Writes the central directory and the end records.
    pub fn finish(mut self) -> io::Result<W> {
        let (count, size, start) = (self.count, self.directory.len() as u64, self.offset);
        self.out.write_all(&self.directory)?;
        let mut end = Vec::new();
        if count >= SHORT || size >= LONG || start >= LONG {
            let at = start + size;
            end.extend_from_slice(b"PK\x06\x06");
            end.extend_from_slice(&44u64.to_le_bytes());
            end.extend_from_slice(&(UNIX | VERSION_ZIP64).to_le_bytes());
            end.extend_from_slice(&VERSION_ZIP64.to_le_bytes());
            end.extend_from_slice(&[0; 8]);
            for number in [count, count, size, start] {
                end.extend_from_slice(&number.to_le_bytes());
            }
            end.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            end.extend_from_slice(&at.to_le_bytes());
            end.extend_from_slice(&1u32.to_le_bytes());
        }
        end.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        for _ in 0..2 {
            end.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
        }
        for number in [size, start] {
            end.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        }
        end.extend_from_slice(&[0; 2]);
        self.out.write_all(&end)?;
        Ok(self.out)
    }
}

impl<W> std::fmt::Debug for ZipWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZipWriter").field("offset", &self.offset).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn archive(members: &[(&str, bool, &[u8])], seconds: u64) -> Vec<u8> {
        let mut zip = ZipWriter::new(Vec::new(), ZipTime::of(seconds)).unwrap();
        for (name, executable, content) in members {
            zip.add(name, *executable, content).unwrap();
        }
        zip.finish().unwrap()
    }

    /// The bytes of rules 1. Do not touch them: a change is a new number.
    #[test]
    fn golden() {
        let text = b"one and one and one and one\n".repeat(40);
        let out =
            archive(&[("a/b.py", false, &text), ("bin/ü", true, b"x"), ("empty", false, b"")], 1_700_000_001);
        assert_eq!(
            Digest::sha256(&out).to_string(),
            "sha256:cde4e588ef279aefe82500190c8faca25efc1c3af96bcee3986ee5b7d240a8d6"
        );
    }

    #[test]
    fn times() {
        let fields = |seconds| {
            let ZipTime { date, time } = ZipTime::of(seconds);
            let date = (1980 + (date >> 9), date >> 5 & 15, date & 31);
            (date, (time >> 11, time >> 5 & 63, (time & 31) * 2))
        };
        for seconds in (MTIME..4_354_819_198).step_by(1_234_566).chain([951_782_400, 1_709_251_198]) {
            assert_eq!(ZipTime::of(seconds).seconds(), seconds & !1, "{seconds}");
        }
        assert_eq!(fields(0), ((1980, 1, 2), (0, 0, 0)));
        assert_eq!(fields(MTIME + 86_399), ((1980, 1, 2), (23, 59, 58)));
        assert_eq!(fields(951_782_400), ((2000, 2, 29), (0, 0, 0)));
        assert_eq!(fields(1_709_251_199), ((2024, 2, 29), (23, 59, 58)));
        assert_eq!(fields(1_700_000_001), ((2023, 11, 14), (22, 13, 20)));
        assert_eq!(fields(u64::MAX), ((2107, 12, 31), (23, 59, 58)));
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        let out = archive(&[("x", false, b"abc")], 0);
        assert_eq!(&out[8..10], &[0, 0]);
        assert!(out.windows(3).any(|window| window == b"abc"));
        assert!(matches!(
            ZipWriter::new(Vec::new(), ZipTime::of(0)).unwrap().add("", false, b""),
            Err(ZipError::Name(0))
        ));
    }

    #[test]
    fn many_members() {
        let names: Vec<String> = (0..65_535).map(|i| format!("{i}")).collect();
        let members: Vec<(&str, bool, &[u8])> =
            names.iter().map(|name| (name.as_str(), false, &b""[..])).collect();
        let out = archive(&members, 0);
        let end = &out[out.len() - 22..];
        assert_eq!(end[8..12], [0xff; 4]);
        assert_eq!(&out[out.len() - 98..out.len() - 94], b"PK\x06\x06");
        let few = archive(&members[1..], 0);
        assert_eq!(few[few.len() - 14..few.len() - 10], [0xfe, 0xff, 0xfe, 0xff]);
    }
}
