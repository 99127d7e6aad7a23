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
use super::archive::Members;
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
    let path = members.path.to_owned();
    let io = |source| InputError::Io { path: path.clone(), source };
    let damaged = |source| caused(&path, "it is damaged", source);
    let length = file.metadata().map_err(io)?.len();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
    if archive.end_offset() != length {
        return Err(error(
            &path,
            format!("{} bytes follow its end", length.saturating_sub(archive.end_offset())),
        ));
    }
    let records = directory(&archive, &mut buffer, &path)?;

    let mut spool = Spool::new(scratch)?;
    let mut end = 0;
    let mut local = vec![0; 128 << 10];
    for record in records {
        let member = archive.get_entry(record.wayfinder).map_err(damaged)?;
        let header = member.local_header(&mut local).map_err(damaged)?;
        let name = members.check(&record.name)?;
        if header.file_path().as_ref() != record.name.as_slice()
            || header.compression_method() != record.method
        {
            return Err(error(&path, format!("{name} has another name or method in its local header")));
        }
        if record.start < end {
            return Err(error(&path, format!("{name} overlaps another member")));
        }
        if end == 0 && record.start != 0 {
            return Err(error(&path, format!("{} bytes stand before its first member", record.start)));
        }
        let (data, data_end) = member.compressed_data_range();
        end = data_end;
        if members.has_file(&name) {
            return Err(error(&path, format!("{name} is in it twice")));
        }
        let most = (data_end - data).saturating_mul(limits::COMPRESSION_RATIO).max(limits::RATIO_FREE_BYTES);
        if record.size > most.min(limits::LAYER_BYTES) {
            return Err(error(&path, format!("{name} unpacks to more than is allowed")));
        }
        let raw = BufReader::with_capacity(1 << 16, member.reader());
        let mut content: Box<dyn Read + '_> = match record.method {
            CompressionMethod::STORE => Box::new(member.verifying_reader(raw)),
            _ => Box::new(member.verifying_reader(flate2::bufread::DeflateDecoder::new(raw))),
        };
        let mut content = (&mut content).take(record.size + 1);
        let unpack = |source: io::Error| caused(&path, format!("{name} is damaged"), source);

        let file_type = record.mode & 0o170_000;
        let (kind, offset) = if record.is_dir {
            (EntryKind::Directory, 0)
        } else if file_type == 0o120_000 {
            let mut target = Vec::new();
            (&mut content).take(4096).read_to_end(&mut target).map_err(unpack)?;
            (EntryKind::Symlink { target }, 0)
        } else if matches!(file_type, 0 | 0o100_000) {
            let (offset, size) = spool.append(&mut content).map_err(|error| error.into_input(unpack))?;
            if size != record.size {
                return Err(error(&path, format!("{name} holds {size} bytes, expected {}", record.size)));
            }
            (EntryKind::File { size }, offset)
        } else {
            return Err(error(&path, format!("{name} is neither file, directory nor symbolic link")));
        };
        // Archives of systems without modes: what a checkout would have.
        let mode = match record.mode & 0o7777 {
            0 if record.is_dir => 0o755,
            0 => 0o644,
            mode => mode,
        };
        members.add(Entry { path: name, kind, mode, uid: 0, gid: 0, xattrs: Vec::new() }, offset)?;
    }
    spool.finish()
}

/// The central directory, in the order of the members' places.
fn directory<R: rawzip::ReaderAt>(
    archive: &ZipArchive<R>,
    buffer: &mut [u8],
    path: &Path,
) -> Result<Vec<Record>, InputError> {
    let damaged = |source| caused(path, "it is damaged", source);
    let mut records = Vec::new();
    let mut entries = archive.entries(buffer);
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        let name = entry.file_path().as_ref().to_vec();
        let method = entry.compression_method();
        let shown = || String::from_utf8_lossy(&name).into_owned();
        if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() {
            return Err(error(path, format!("{:?} is encrypted", shown())));
        }
        if method != CompressionMethod::STORE && method != CompressionMethod::DEFLATE {
            return Err(error(path, format!("{:?} is compressed by a method other than deflate", shown())));
        }
        if records.len() as u64 >= limits::TAR_ENTRIES {
            return Err(error(path, "it holds too many members"));
        }
        records.push(Record {
            // Other systems' attributes say nothing of permissions.
            mode: match entry.version_made_by().creator_system() {
                CreatorSystem::UNIX | CreatorSystem::MACOS => entry.mode().value(),
                _ => 0,
            },
            is_dir: entry.is_dir(),
            method,
            wayfinder: entry.wayfinder(),
            size: entry.uncompressed_size_hint(),
            start: entry.local_header_offset(),
            name,
        });
    }
    if records.len() as u64 != archive.entries_hint() {
        let found = records.len();
        return Err(error(
            path,
            format!("it says it holds {} members, found {found}", archive.entries_hint()),
        ));
    }
    records.sort_by_key(|record| record.start);
    Ok(records)
}
