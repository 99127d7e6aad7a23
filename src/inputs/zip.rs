//! Zip archives, as APPNOTE.TXT 6.3.10 has them, of the parts that everybody reads alike.
//!
//! Refused: encrypted members, methods other than stored and deflate, a local header with another name than
//! the central directory, overlapping members, bytes before the first member or behind the end.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use dmoci_layers::{Entry, EntryKind};
use rawzip::{
    CompressionMethod, CreatorSystem, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder,
};

use super::InputError;
use super::members::Members;
use super::spool::Spool;
use super::unpack::{caused, error};
use crate::limits;

/// A member of the central directory.
struct Record {
    name: Vec<u8>,
    mode: u32,
    is_dir: bool,
    method: CompressionMethod,
    wayfinder: ZipArchiveEntryWayfinder,
    size: u64,
    start: u64,
}

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
    if in_order(&archive, &mut buffer, path)? {
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            unpacking.take(record(&entry))?;
        }
    } else {
        let mut records = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            records.push(record(&entry));
        }
        records.sort_by_key(|record| record.start);
        for record in records {
            unpacking.take(record)?;
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
    fn take(&mut self, record: Record) -> Result<(), InputError> {
        let path = self.members.path;
        let damaged = |source| caused(path, "it is damaged", source);
        let member = self.archive.get_entry(record.wayfinder).map_err(damaged)?;
        let header = member.local_header(&mut self.local).map_err(damaged)?;
        let name = self.members.check(&record.name)?;
        if header.file_path().as_ref() != record.name.as_slice()
            || header.compression_method() != record.method
        {
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
        let most = (data_end - data).saturating_mul(limits::COMPRESSION_RATIO).max(limits::RATIO_FREE_BYTES);
        if record.size > most.min(limits::LAYER_BYTES) {
            return Err(error(path, format!("{name} unpacks to more than is allowed")));
        }
        let raw = BufReader::with_capacity(1 << 16, member.reader());
        let mut content: Box<dyn Read + '_> = match record.method {
            CompressionMethod::STORE => Box::new(member.verifying_reader(raw)),
            _ => Box::new(member.verifying_reader(flate2::bufread::DeflateDecoder::new(raw))),
        };
        let mut content = (&mut content).take(record.size + 1);
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
            if size != record.size {
                return Err(error(path, format!("{name} holds {size} bytes, expected {}", record.size)));
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

/// Checks the central directory, and says whether it has the members in the order of their places, as nearly all have.
fn in_order<R: rawzip::ReaderAt>(
    archive: &ZipArchive<R>,
    buffer: &mut [u8],
    path: &Path,
) -> Result<bool, InputError> {
    let damaged = |source| caused(path, "it is damaged", source);
    let (mut count, mut last, mut in_order) = (0, 0, true);
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        let shown = || String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() {
            return Err(error(path, format!("{:?} is encrypted", shown())));
        }
        let method = entry.compression_method();
        if method != CompressionMethod::STORE && method != CompressionMethod::DEFLATE {
            return Err(error(path, format!("{:?} is compressed by a method other than deflate", shown())));
        }
        if count >= limits::TAR_ENTRIES {
            return Err(error(path, "it holds too many members"));
        }
        count += 1;
        in_order &= last <= entry.local_header_offset();
        last = entry.local_header_offset();
    }
    if count != archive.entries_hint() {
        return Err(error(
            path,
            format!("it says it holds {} members, found {count}", archive.entries_hint()),
        ));
    }
    Ok(in_order)
}

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
        size: entry.uncompressed_size_hint(),
        start: entry.local_header_offset(),
        name: entry.file_path().as_ref().to_vec(),
    }
}
