//! Zip archives, as APPNOTE.TXT 6.3.10 has them, of the parts that everybody reads alike.
//!
//! Refused: encrypted members, methods other than stored and deflate, a local header with another name than
//! the central directory, overlapping members, bytes before the first member or behind the end.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use dmoci_layers::{Entry, EntryKind};
use rawzip::{
    CompressionMethod, CreatorSystem, RECOMMENDED_BUFFER_SIZE, ReaderAt as _, ZipArchive,
    ZipArchiveEntryWayfinder,
};

use super::InputError;
use super::members::Members;
use super::spool::Spool;
use super::unpack::{caused, error};
use crate::limits;

/// A member of the central directory, without its name: some tens of bytes.
struct Record {
    start: u64,
    /// Where its header in the central directory is.
    header: u64,
    wayfinder: ZipArchiveEntryWayfinder,
    mode: u32,
    method: CompressionMethod,
    name_length: u16,
    is_dir: bool,
}

/// Bytes of a header in the central directory before the name (APPNOTE.TXT, section 4.3.12).
const HEADER: u64 = 46;

/// Reads all members into a spool.
pub(super) fn read(file: File, members: &mut Members<'_>, scratch: &Path) -> Result<File, InputError> {
    let path = members.path;
    let io = |source| InputError::Io { path: path.to_owned(), source };
    let damaged = |source| caused(path, "it is damaged", source);
    let length = file.metadata().map_err(io)?.len();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
    if archive.end_offset() != length {
        return Err(error(
            path,
            format!("{} bytes follow its end", length.saturating_sub(archive.end_offset())),
        ));
    }
    members.require_unique();
    let mut unpacking = Unpacking {
        archive: &archive,
        members,
        spool: Spool::new(scratch)?,
        end: 0,
        local: vec![0; 128 << 10],
    };
    let (count, in_order) = unpacking.look(&mut buffer)?;
    if in_order {
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            unpacking.take(&record(&entry), entry.file_path().as_ref())?;
        }
    } else {
        let mut records = Vec::with_capacity(count);
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            records.push(record(&entry));
        }
        records.sort_unstable_by_key(|record| (record.start, record.header));
        let mut name = Vec::new();
        for record in records {
            name.resize(usize::from(record.name_length), 0);
            let read = archive.get_ref().read_exact_at(&mut name, record.header + HEADER);
            read.map_err(io)?;
            unpacking.take(&record, &name)?;
        }
    }
    unpacking.spool.finish()
}

/// Members on their way from a zip into a spool, in the order of their places.
struct Unpacking<'a, 'm, R> {
    archive: &'a ZipArchive<R>,
    members: &'a mut Members<'m>,
    spool: Spool,
    /// Where the last member ends.
    end: u64,
    local: Vec<u8>,
}

impl<R: rawzip::ReaderAt> Unpacking<'_, '_, R> {
    /// Checks the central directory. Says how many members it has, and whether they are in the order of their places, as
    /// nearly all have them.
    fn look(&self, buffer: &mut [u8]) -> Result<(usize, bool), InputError> {
        let (archive, path) = (self.archive, self.members.path);
        let damaged = |source| caused(path, "it is damaged", source);
        let (mut count, mut last, mut in_order) = (0, 0, true);
        let mut entries = archive.entries(buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            let name = entry.file_path();
            let shown = || String::from_utf8_lossy(name.as_ref()).into_owned();
            if name.as_ref().len() > SHORT_NAME {
                self.members.check(name.as_ref())?;
            }
            if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() {
                return Err(error(path, format!("{:?} is encrypted", shown())));
            }
            let method = entry.compression_method();
            if method != CompressionMethod::STORE && method != CompressionMethod::DEFLATE {
                return Err(error(
                    path,
                    format!("{:?} is compressed by a method other than deflate", shown()),
                ));
            }
            if count as u64 >= limits::TAR_ENTRIES {
                return Err(error(path, "it holds too many members"));
            }
            count += 1;
            in_order &= last <= entry.local_header_offset();
            last = entry.local_header_offset();
        }
        if count as u64 != archive.entries_hint() {
            return Err(error(
                path,
                format!("it says it holds {} members, found {count}", archive.entries_hint()),
            ));
        }
        Ok((count, in_order))
    }

    fn take(&mut self, record: &Record, raw_name: &[u8]) -> Result<(), InputError> {
        let path = self.members.path;
        let damaged = |source| caused(path, "it is damaged", source);
        let member = self.archive.get_entry(record.wayfinder).map_err(damaged)?;
        let header = member.local_header(&mut self.local).map_err(damaged)?;
        let name = self.members.check(raw_name)?;
        if header.file_path().as_ref() != raw_name || header.compression_method() != record.method {
            return Err(error(path, format!("{name} has another name or method in its local header")));
        }
        if record.start < self.end {
            return Err(error(path, format!("{name} overlaps another member")));
        }
        if self.end == 0 && record.start != 0 {
            return Err(error(path, format!("{} bytes stand before its first member", record.start)));
        }
        let (data, data_end) = member.compressed_data_range();
        self.end = data_end;
        let expected = record.wayfinder.uncompressed_size_hint();
        let most = (data_end - data).saturating_mul(limits::COMPRESSION_RATIO).max(limits::RATIO_FREE_BYTES);
        if expected > most.min(limits::LAYER_BYTES) {
            return Err(error(path, format!("{name} unpacks to more than is allowed")));
        }
        let raw = BufReader::with_capacity(1 << 16, member.reader());
        let mut content: Box<dyn Read + '_> = match record.method {
            CompressionMethod::STORE => Box::new(member.verifying_reader(raw)),
            _ => Box::new(member.verifying_reader(flate2::bufread::DeflateDecoder::new(raw))),
        };
        let mut content = (&mut content).take(expected + 1);
        let unpack = |source: io::Error| caused(path, format!("{name} is damaged"), source);

        let file_type = record.mode & 0o170_000;
        let (kind, offset) = if record.is_dir {
            (EntryKind::Directory, 0)
        } else if file_type == 0o120_000 {
            let mut target = Vec::new();
            (&mut content).take(4096).read_to_end(&mut target).map_err(unpack)?;
            (EntryKind::Symlink { target }, 0)
        } else if matches!(file_type, 0 | 0o100_000) {
            let (offset, size) = self.spool.append(&mut content).map_err(|error| error.into_input(unpack))?;
            if size != expected {
                return Err(error(path, format!("{name} holds {size} bytes, expected {expected}")));
            }
            (EntryKind::File { size }, offset)
        } else {
            return Err(error(path, format!("{name} is neither file, directory nor symbolic link")));
        };
        // Archives of systems without modes: what a checkout would have.
        let mode = match record.mode & 0o7777 {
            0 if record.is_dir => 0o755,
            0 => 0o644,
            mode => mode,
        };
        let entry = Entry { path: name, kind, mode, uid: 0, gid: 0, xattrs: Vec::new() };
        self.members.add(entry, offset)
    }
}

/// No part of a name that is not longer can be too long.
const SHORT_NAME: usize = 255;

fn record(entry: &rawzip::ZipFileHeaderRecord<'_>) -> Record {
    Record {
        // Other systems' attributes say nothing of permissions.
        mode: match entry.version_made_by().creator_system() {
            CreatorSystem::UNIX | CreatorSystem::MACOS => entry.mode().value(),
            _ => 0,
        },
        is_dir: entry.is_dir(),
        method: entry.compression_method(),
        wayfinder: entry.wayfinder(),
        start: entry.local_header_offset(),
        header: entry.central_directory_offset(),
        // The length is one of two bytes in the header.
        name_length: u16::try_from(entry.file_path().as_ref().len()).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So much is held of each member when the directory has them in another order, as `docs/design.md` says.
    #[test]
    fn some_tens_of_bytes_each() {
        assert!(size_of::<Record>() <= 64);
    }
}
