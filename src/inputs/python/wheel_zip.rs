//! The zip that a wheel is (APPNOTE.TXT 6.3.10), of the form in which everybody reads the same from it.
//!
//! Every byte of the file belongs to exactly one thing: members one behind the other from the first byte, each a local
//! header that says what the central directory says, its data and, where announced, its data descriptor; then the
//! central directory; then the end records. So there is nothing hidden, doubled, overlapping or left over, and a reader
//! from the front, one from the back and one that trusts only the directory see one archive.
//!
//! Refused beside that: encrypted members, methods other than stored and deflate, symbolic links, several disks, names
//! that are not UTF-8, not clean or not inside, and names that are one on a file system without case.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use dmoci_layers::SafePath;
use rawzip::extra_fields::{ExtraFieldId, ExtraFields};
use rawzip::{
    CompressionMethod, CreatorSystem, ErrorKind, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive,
    ZipArchiveEntryWayfinder, ZipFileHeaderRecord,
};

use super::wheel::{Fault, fault};
use crate::diagnostic::shown::Short;
use crate::limits;

/// A member, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path in the archive; of a directory without the slash at the end.
    pub(super) name: Box<str>,
    /// What it is.
    pub(super) kind: MemberKind,
    /// Where its data is.
    pub(super) place: Place,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    Directory,
    File {
        /// Somebody may execute it.
        executable: bool,
    },
}

/// Where the data of a member is, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset of the first byte.
    pub(super) start: u64,
    /// Number of bytes there.
    pub(super) packed: u64,
    /// Number of bytes of the content.
    pub(super) size: u64,
    /// CRC-32 of the content.
    pub(super) crc: u32,
    /// The data are a deflate stream; else they are the content itself.
    pub(super) deflated: bool,
}

/// A record of the central directory.
struct Record {
    member: Member,
    /// The name as it stands there.
    raw: Box<[u8]>,
    flags: u16,
    method: CompressionMethod,
    header: u64,
    wayfinder: ZipArchiveEntryWayfinder,
}

/// Bit 3 of the flags: sizes and CRC-32 follow the data.
const DESCRIPTOR: u16 = 1 << 3;
/// Bit 11: the name is UTF-8.
const UTF8: u16 = 1 << 11;
/// What deflate was told, sizes behind the data, UTF-8: of all flags those that change nothing for a reader.
const FLAGS: u16 = 0b110 | DESCRIPTOR | UTF8;

/// No deflate stream is smaller than its content by more than this factor.
const DEFLATE_RATIO: u64 = 1032;

/// All members, in the order of their places. Their data are not looked at.
pub(super) fn members(file: &File) -> Result<Vec<Member>, Fault> {
    let length = file.metadata().map_err(Fault::Read)?.len();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file.try_clone().map_err(Fault::Read)?, &mut buffer)
        .map_err(|source| broken("it is no whole zip archive", source))?;
    let (mut records, end) = directory(&archive, &mut buffer)?;
    check_end(&archive, file, records.len() as u64, end, length)?;
    records.sort_by_key(|record| record.header);
    check_names(&records)?;

    let mut local = vec![0; 128 << 10];
    let (mut at, mut total) = (0, 0u64);
    for number in 0..records.len() {
        let next = records.get(number + 1).map_or(archive.directory_offset(), |record| record.header);
        let record = &mut records[number];
        record.member.place.start = place(&archive, file, record, at..next, &mut local)?;
        total = total.saturating_add(record.member.place.size);
        at = next;
    }
    if records.is_empty() {
        return Err(fault("it holds nothing"));
    }
    if total > limits::LAYER_BYTES {
        return Err(fault(format!("it unpacks to {total} bytes, more than is allowed")));
    }
    Ok(records.into_iter().map(|record| record.member).collect())
}

/// What is wrong with an archive, its cause said once.
fn broken(message: impl Into<String>, source: rawzip::Error) -> Fault {
    match source.into_kind() {
        ErrorKind::Eof => Fault::caused(message, early()),
        ErrorKind::IO(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::caused(message, early())
        }
        ErrorKind::IO(source) => Fault::caused(message, source),
        kind => Fault::caused(message, rawzip::Error::from(kind)),
    }
}

fn early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early")
}

/// The records of the central directory, which follow each other without a gap, and where the last one ends.
fn directory(archive: &ZipArchive<FileReader>, buffer: &mut [u8]) -> Result<(Vec<Record>, u64), Fault> {
    let damaged = |source| broken("its central directory is damaged", source);
    let mut end = archive.directory_offset();
    let mut records = Vec::new();
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        if entry.central_directory_offset() != end {
            return Err(fault("its central directory has gaps"));
        }
        let variable = entry.file_path().len()
            + entry.extra_fields().remaining_bytes().len()
            + entry.comment().as_bytes().len();
        end += 46 + variable as u64;
        if records.len() >= limits::WHEEL_MEMBERS {
            return Err(fault(format!("it holds more than {} members", limits::WHEEL_MEMBERS)));
        }
        records.push(record(&entry)?);
    }
    Ok((records, end))
}

/// What one record says, as far as it can be judged alone.
fn record(entry: &ZipFileHeaderRecord<'_>) -> Result<Record, Fault> {
    let raw = entry.file_path().as_bytes();
    let shown = || String::from_utf8_lossy(&raw[..raw.len().min(512)]).into_owned();
    let flags = entry.flags().bits();
    if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() || entry.flags().is_masked() {
        return Err(fault(format!("{:?} is encrypted", shown())));
    }
    if flags & !FLAGS != 0 {
        return Err(fault(format!(
            "{:?} has flags that only some readers understand ({flags:#06x})",
            shown()
        )));
    }
    let method = entry.compression_method();
    if method != CompressionMethod::STORE && method != CompressionMethod::DEFLATE {
        return Err(fault(format!("{:?} is compressed by another method than deflate", shown())));
    }
    let (packed, size) = (entry.compressed_size_hint(), entry.uncompressed_size_hint());
    let header = entry.local_header_offset();
    let wide: [&[u64]; 5] = [&[size], &[size, packed], &[size, packed, header], &[header], &[size, header]];
    check_extra(entry.extra_fields(), &wide).map_err(|why| fault(format!("{:?} {why}", shown())))?;
    let (text, is_directory) = name(raw, flags)?;
    let deflated = method == CompressionMethod::DEFLATE;
    let possible = match deflated {
        // An empty stream has two bytes.
        true => packed >= 2 && size <= packed.saturating_mul(DEFLATE_RATIO),
        false => size == packed,
    };
    // Some writers say that directories are deflated.
    let nothing = is_directory && size == 0 && packed == 0;
    if !possible && !nothing {
        return Err(fault(format!("{:?} cannot have {size} bytes in {packed}", Short(text))));
    }
    if is_directory && size != 0 {
        return Err(fault(format!("{:?} is a directory with content", Short(text))));
    }
    let unix = match entry.version_made_by().creator_system() {
        CreatorSystem::UNIX | CreatorSystem::MACOS => entry.external_attributes() >> 16,
        _ => 0,
    };
    // Other systems have no such modes, and yet writers put them there: what says that it is a file is taken at its word, as pip
    // does.
    let high = entry.external_attributes() >> 16;
    let unix = match high & 0o170_000 {
        0o100_000 | 0o120_000 if !is_directory => high,
        _ => unix,
    };
    let kind = match (unix & 0o170_000, is_directory) {
        (0 | 0o040_000, true) => MemberKind::Directory,
        (0 | 0o100_000, false) => MemberKind::File { executable: unix & 0o111 != 0 },
        (0o120_000, _) => {
            return Err(fault(format!("{:?} is a symbolic link, which wheels cannot hold", Short(text))));
        }
        _ => return Err(fault(format!("{:?} is neither a file nor a directory", Short(text)))),
    };
    let place = Place { start: 0, packed, size, crc: entry.crc32(), deflated };
    Ok(Record {
        member: Member { name: text.into(), kind, place },
        raw: raw.into(),
        flags,
        method,
        header,
        wayfinder: entry.wayfinder(),
    })
}

/// The name of a member, and whether it is a directory: clean, inside, and the same for every reader.
fn name(raw: &[u8], flags: u16) -> Result<(&str, bool), Fault> {
    let shown = || String::from_utf8_lossy(&raw[..raw.len().min(512)]).into_owned();
    let text = match std::str::from_utf8(raw) {
        // Without the flag it would be code page 437, and some readers take it for UTF-8.
        Ok(text) if text.is_ascii() || flags & UTF8 != 0 => text,
        _ => return Err(fault(format!("the name {:?} is not marked as UTF-8, or is not", shown()))),
    };
    let (text, is_directory) = match text.strip_suffix('/') {
        Some(directory) => (directory, true),
        None => (text, false),
    };
    let path = SafePath::parse(text.as_bytes())
        .map_err(|source| Fault::caused(format!("the name {:?} cannot be used", Short(text)), source))?;
    if path.is_root() || path.as_bytes() != text.as_bytes() {
        return Err(fault(format!("the name {:?} is not a clean path inside the wheel", Short(text))));
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        return Err(fault(format!("the name {:?} holds a backslash or control characters", Short(text))));
    }
    if path.components().count() > limits::WHEEL_DEPTH {
        return Err(fault(format!("a name in it has more than {} parts", limits::WHEEL_DEPTH)));
    }
    if path.components().any(|part| part.starts_with(b".wh.")) {
        let text = Short(text);
        return Err(fault(format!("the name {text:?} begins with .wh., which marks deletions in a layer")));
    }
    Ok((text, is_directory))
}

/// Extra fields that end where they say, with nothing that gives the member another name or other sizes: those of ZIP64 must be
/// one of these lists, whether a reader needs them or not.
fn check_extra(mut fields: ExtraFields<'_>, wide: &[&[u64]]) -> Result<(), &'static str> {
    let mut zip64 = false;
    for (id, data) in fields.by_ref() {
        match id {
            ExtraFieldId::ZIP64 if zip64 => return Err("gives its sizes twice"),
            ExtraFieldId::ZIP64 => {
                zip64 = true;
                let numbers =
                    |list: &&[u64]| list.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
                // The number of the disk may follow.
                let same = |list: Vec<u8>| data == list || data == [&list[..], &[0; 4]].concat();
                if !data.is_empty() && !wide.iter().map(numbers).any(same) {
                    return Err("has a ZIP64 field that gives it other sizes");
                }
            }
            ExtraFieldId::INFO_ZIP_UNICODE_PATH => return Err("has a second name"),
            _ => {}
        }
    }
    match fields.remaining_bytes().is_empty() {
        true => Ok(()),
        false => Err("has extra fields that are cut off"),
    }
}

/// No name twice, none that is another's but for case, nothing below a file. Directories that only stand in the names of
/// what they hold count too, and are not many times what is really there.
fn check_names(records: &[Record]) -> Result<(), Fault> {
    let mut folded: HashMap<String, (&str, MemberKind)> = HashMap::with_capacity(records.len());
    let mut size = Implied::default();
    for Record { member: Member { name, kind, .. }, .. } in records {
        size.own += bytes(name);
        if let Some((other, _)) = folded.insert(name.to_lowercase(), (name, *kind)) {
            let (other, name) = (Short(other), Short(name));
            return Err(match other.0 == name.0 {
                true => fault(format!("{name:?} is in it twice")),
                false => fault(format!("{other:?} and {name:?} differ only by case")),
            });
        }
    }
    for Record { member: Member { name, .. }, .. } in records {
        for (at, _) in name.rmatch_indices('/') {
            let above = &name[..at];
            match folded.get(&above.to_lowercase()) {
                Some((other, MemberKind::File { .. })) => {
                    return Err(fault(format!(
                        "{:?} is a file, and {:?} is in it",
                        Short(other),
                        Short(name)
                    )));
                }
                Some((other, _)) if *other != above => {
                    let (other, above) = (Short(other), Short(above));
                    return Err(fault(format!("{other:?} and {above:?} differ only by case")));
                }
                // What lies above it was seen with it.
                Some(_) => break,
                None => {
                    size.implied += bytes(above);
                    size.count += 1;
                    size.check()?;
                    folded.insert(above.to_lowercase(), (above, MemberKind::Directory));
                }
            }
        }
    }
    Ok(())
}

/// Headers and paths of the members, and of the directories that they lie in and the archive does not hold.
#[derive(Default)]
struct Implied {
    own: u64,
    implied: u64,
    /// How many directories that are.
    count: usize,
}

/// What a path with its header takes in a layer.
fn bytes(path: &str) -> u64 {
    512 + path.len() as u64
}

impl Implied {
    /// A few bytes of a wheel must not become gigabytes of a layer.
    fn check(&self) -> Result<(), Fault> {
        let most = self.own.saturating_mul(limits::IMPLIED_RATIO).max(limits::IMPLIED_FREE_BYTES);
        match self.implied > most || self.count > limits::WHEEL_MEMBERS {
            true => Err(fault("it has too many directories that members lie in and it does not hold")),
            false => Ok(()),
        }
    }
}

/// Where the data of a member begin. Its local header, data and data descriptor must fill `room`.
fn place(
    archive: &ZipArchive<FileReader>,
    file: &File,
    record: &Record,
    room: Range<u64>,
    buffer: &mut [u8],
) -> Result<u64, Fault> {
    let Member { name, place, .. } = &record.member;
    let name = Short(name);
    if record.header != room.start {
        let what =
            if record.header < room.start { "overlaps another member" } else { "follows bytes of no member" };
        return Err(fault(format!("{name:?} {what}")));
    }
    let damaged = |source| broken(format!("{name:?} has a damaged local header"), source);
    let entry = archive.get_entry(record.wayfinder).map_err(damaged)?;
    let header = entry.local_header(buffer).map_err(damaged)?;
    let later = record.flags & DESCRIPTOR != 0;
    let wide: [&[u64]; 2] = [&[place.size, place.packed], &[0, 0]];
    check_extra(header.extra_fields(), &wide[..=usize::from(later)])
        .map_err(|why| fault(format!("{name:?} {why}")))?;
    let differs = |what| Err(fault(format!("{name:?} has another {what} in its local header")));
    if header.file_path().as_bytes() != &*record.raw {
        return differs("name");
    }
    if header.compression_method() != record.method || header.flags().bits() != record.flags {
        return differs("method or flags");
    }
    let said = |found: u64, expected: u64| found == expected || (later && found == 0);
    if !said(header.crc32().into(), place.crc.into())
        || !said(header.compressed_size_hint(), place.packed)
        || !said(header.uncompressed_size_hint(), place.size)
    {
        return differs("size or checksum");
    }
    let (start, end) = entry.compressed_data_range();
    let Some(behind) = room.end.checked_sub(end) else {
        return Err(fault(format!("{name:?} reaches into what follows it")));
    };
    match (later, behind) {
        (false, 0) => {}
        (true, 12 | 16 | 20 | 24) => check_descriptor(file, end, behind, place).map_err(|error| {
            Fault::caused(format!("{name:?} has a data descriptor that says something else"), error)
        })?,
        _ => return Err(fault(format!("{behind} bytes of no member follow {name:?}"))),
    }
    Ok(start)
}

/// A data descriptor of so many bytes: with or without signature, sizes of 4 or 8 bytes.
fn check_descriptor(file: &File, at: u64, length: u64, place: &Place) -> io::Result<()> {
    let mut bytes = [0u8; 24];
    let bytes = &mut bytes[..length as usize];
    file.read_exact_at(bytes, at)?;
    let mut expected = Vec::with_capacity(24);
    if matches!(length, 16 | 24) {
        expected.extend_from_slice(b"PK\x07\x08");
    }
    expected.extend_from_slice(&place.crc.to_le_bytes());
    for size in [place.packed, place.size] {
        match length {
            20 | 24 => expected.extend_from_slice(&size.to_le_bytes()),
            _ => expected.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes()),
        }
    }
    match *bytes == expected {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its numbers are not those of the central directory",
        )),
    }
}

/// The end records: they say what was found, and only the archive's comment follows them.
///
/// `end` is where the central directory ends.
fn check_end(
    archive: &ZipArchive<FileReader>,
    file: &File,
    count: u64,
    end: u64,
    length: u64,
) -> Result<(), Fault> {
    let at = archive.eocd_offset();
    if archive.end_offset() != length {
        return Err(fault(format!("{} bytes follow its end", length.saturating_sub(archive.end_offset()))));
    }
    let directory = archive.directory_offset();
    let numbers = [count, end - directory, directory];
    let mut record = [0u8; 22];
    file.read_exact_at(&mut record, at).map_err(Fault::Read)?;
    let short = |i: usize| u16::from_le_bytes([record[i], record[i + 1]]);
    let long = |i: usize| u32::from_le_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
    let wrong = || fault("its end record does not say what the central directory says");
    if short(4) != 0 || short(6) != 0 || short(8) != short(10) {
        return Err(fault("it is spread over several disks"));
    }
    let classic = [u64::from(short(10)), long(12).into(), long(16).into()];
    let full = [u64::from(u16::MAX), u32::MAX.into(), u32::MAX.into()];
    match at.checked_sub(end) {
        Some(0) => {
            let mut before = [0u8; 4];
            file.read_exact_at(&mut before, at.saturating_sub(20)).map_err(Fault::Read)?;
            // Some readers look for it there, whatever else those bytes are.
            if classic != numbers || before == *b"PK\x06\x07" {
                return Err(wrong());
            }
        }
        Some(76) => {
            let fits = |i: usize| classic[i] == numbers[i] || classic[i] == full[i];
            if !(0..3).all(fits) || !has_zip64(file, end, numbers).map_err(Fault::Read)? {
                return Err(wrong());
            }
        }
        _ => return Err(fault("there are bytes between its central directory and its end record")),
    }
    Ok(())
}

/// Whether the ZIP64 end record and its locator stand here and give these numbers.
fn has_zip64(file: &File, at: u64, [count, size, directory]: [u64; 3]) -> io::Result<bool> {
    let mut bytes = [0u8; 76];
    file.read_exact_at(&mut bytes, at)?;
    let mut expected = Vec::with_capacity(76);
    expected.extend_from_slice(b"PK\x06\x06");
    expected.extend_from_slice(&44u64.to_le_bytes());
    // The versions of the writer and of the needed reader mean nothing here.
    expected.extend_from_slice(&bytes[12..16]);
    expected.extend_from_slice(&[0; 8]);
    for number in [count, count, size, directory] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(b"PK\x06\x07");
    expected.extend_from_slice(&[0; 4]);
    expected.extend_from_slice(&at.to_le_bytes());
    expected.extend_from_slice(&1u32.to_le_bytes());
    Ok(bytes[..] == expected)
}

#[cfg(test)]
#[path = "wheel_zip_tests.rs"]
pub(super) mod tests;
