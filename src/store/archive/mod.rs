//! Image archives: a tar of an OCI layout, with or without Docker's `manifest.json`, or an older `docker save`.
//!
//! One pass finds every member; contents are read in place later. Where a header is damaged, reading goes on at the
//! next sound one, so that the damage can be named; such an archive is never usable, only examinable.

mod legacy;
pub mod write;

pub use legacy::DockerImage;

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use dmoci_layers::decompress::{DecodeLimits, Decoder, sniff};
use dmoci_layers::untar::{MemberKind, TarError, TarLimits, TarReader, guess};
use dmoci_layers::{Compression, Digest, SafePath};
use rustix::fs::OFlags;

use super::error::NO_ARCHIVE;
use super::{Backing, Blob, Form, ImageStore, StoreError, blob_name};
use crate::limits;
use crate::oci::Problem;

/// One member of an archive.
#[derive(Clone, Debug)]
pub struct ArchiveMember {
    /// Its name, without `./`.
    pub name: SafePath,
    /// What it is.
    pub kind: MemberKind,
    /// Where its first header block begins.
    pub header_offset: u64,
    /// Where its content begins.
    pub data_offset: u64,
    /// Bytes of content.
    pub size: u64,
    /// The padding behind the content is not all zeros.
    pub dirty_padding: bool,
}

/// What one pass over an archive finds.
#[derive(Default)]
struct Listing {
    members: Vec<ArchiveMember>,
    /// Position in `members` by name; of two with one name, the first.
    names: HashMap<SafePath, usize>,
    problems: Vec<(String, Problem)>,
    /// The first error of the tar format.
    error: Option<TarError>,
}

/// Opens an archive.
pub(super) fn open(path: &Path) -> Result<ImageStore, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    // Without waiting for the other end of a pipe.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(StoreError::Irregular { path: path.to_owned() });
    }
    read(file, path)
}

/// Reads an archive that is a regular file; `path` is what it is called.
pub(super) fn read(file: File, path: &Path) -> Result<ImageStore, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let mut first = [0; 512];
    let n = file.read_at(&mut first, 0).map_err(io)?;
    let first = &first[..n];
    let unknown = |what| Err(StoreError::UnknownForm { path: path.to_owned(), what });
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return unknown("compressed with xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => return unknown("compressed with bzip2"),
        _ => {}
    }
    let compression = sniff(first);
    let file = match compression {
        Compression::None => file,
        _ => spool(file, compression, path)?,
    };
    let mut block = [0; 512];
    let n = file.read_at(&mut block, 0).map_err(io)?;
    let like_tar = like_tar(&block[..n]);
    let listing = Listing::read(&file, path)?;
    let mut store = ImageStore {
        form: Form::Archive,
        place: path.to_owned(),
        layout_file: None,
        index: Vec::new(),
        docker_manifest: None,
        blobs: BTreeMap::new(),
        strays: Vec::new(),
        problems: Vec::new(),
        members: Vec::new(),
        backing: Backing::Archive(Arc::new(file)),
        whole_compressed: compression != Compression::None,
        streamed: false,
    };
    let outcome = store.fill(&listing);
    store.problems.extend(listing.problems);
    store.members = listing.members;
    match (outcome, listing.error) {
        (Err(StoreError::NoImage { path, .. }), Some(_)) if store.members.is_empty() && !like_tar => {
            Err(StoreError::NoImage { path, why: NO_ARCHIVE.into(), inside: None })
        }
        // What could not be found is not there because the archive is damaged.
        (Err(StoreError::NoImage { path, .. }), Some(source)) => Err(StoreError::Archive { path, source }),
        (outcome, _) => outcome.map(|()| store),
    }
}

/// Whether the first block, or what there is of it, could have been that of an archive: a text is none, and neither is a
/// whole block without the magic of a header.
fn like_tar(first: &[u8]) -> bool {
    match first.get(257..262) {
        Some(magic) if first.len() == 512 => magic == b"ustar",
        _ => first.contains(&0) || !first.contains(&b'\n'),
    }
}

/// The content of a compressed archive in a temporary file without a name.
fn spool(file: File, compression: Compression, path: &Path) -> Result<File, StoreError> {
    let limits = DecodeLimits {
        max_output: limits::BLOB_BYTES,
        max_ratio: limits::COMPRESSION_RATIO,
        ratio_free: limits::RATIO_FREE_BYTES,
    };
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let mut spool = tempfile::tempfile().map_err(io)?;
    let mut decoder = Decoder::new(file, compression, limits).map_err(io)?;
    if let Err(source) = io::copy(&mut decoder, &mut spool) {
        return Err(match dmoci_layers::decompress::DecodeError::of(&source) {
            Some(_) => {
                StoreError::Archive { path: path.to_owned(), source: TarError::Io { offset: 0, source } }
            }
            None => io(source),
        });
    }
    Ok(spool)
}

impl Listing {
    fn read(file: &File, path: &Path) -> Result<Listing, StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let length = file.metadata().map_err(io)?.len();
        let mut listing = Listing::default();
        let mut base = 0;
        loop {
            let Err((offset, error)) = listing.members_from(file, base, length).map_err(io)? else {
                return Ok(listing);
            };
            if let TarError::Io { source, .. } = error {
                return Err(io(source));
            }
            listing.note(offset, &error);
            let resume = match error {
                TarError::Checksum { .. } | TarError::Malformed { .. } => {
                    salvage(file, offset, length).map_err(io)?
                }
                _ => None,
            };
            listing.error.get_or_insert(error);
            let Some((member, next)) = resume else { return Ok(listing) };
            if let Some(member) = member {
                listing.names.entry(member.name.clone()).or_insert(listing.members.len());
                listing.members.push(member);
            }
            base = next;
        }
    }

    /// Reads members from `base` to the end of the archive, or to what cannot be read: where, and why.
    #[allow(clippy::type_complexity, reason = "one caller")]
    fn members_from(
        &mut self,
        file: &File,
        base: u64,
        length: u64,
    ) -> io::Result<Result<(), (u64, TarError)>> {
        let mut buffered = BufReader::with_capacity(8 << 10, file);
        buffered.seek(SeekFrom::Start(base))?;
        let limits = TarLimits {
            max_entries: limits::ARCHIVE_ENTRIES.saturating_sub(self.members.len() as u64),
            max_extension_bytes: limits::ARCHIVE_EXTENSION_BYTES,
        };
        let mut reader = TarReader::new(buffered, limits);
        let mut dirty = 0;
        loop {
            let before = reader.offset();
            let (found, end) = match reader.next() {
                Err(error) => {
                    let behind = reader.trailer().dirty_padding > dirty;
                    self.mark_padding(behind);
                    let header = base + before.next_multiple_of(512).max(self.end().saturating_sub(base));
                    return Ok(Err((header, shift(error, base))));
                }
                Ok(None) => (None, true),
                Ok(Some(member)) => (Some(describe(&member, base)), false),
            };
            let now = reader.trailer().dirty_padding;
            self.mark_padding(now > dirty);
            dirty = now;
            if end {
                return Ok(Ok(()));
            }
            if let Some(found) = found {
                let end = found.as_ref().ok().map(|member| member.data_offset.checked_add(member.size));
                self.add(found);
                if end.is_some_and(|end| end.is_none_or(|end| end > length)) {
                    let missing = "the content of a member";
                    return Ok(Err((length, TarError::Truncated { offset: length, missing })));
                }
            }
            if let Err(error) = reader.seek_content() {
                return Ok(Err((base + reader.offset(), shift(error, base))));
            }
        }
    }

    /// Where the last member's padding ends.
    fn end(&self) -> u64 {
        let end = |member: &ArchiveMember| {
            member.size.checked_next_multiple_of(512)?.checked_add(member.data_offset)
        };
        self.members.last().and_then(end).unwrap_or(0)
    }

    fn mark_padding(&mut self, dirty: bool) {
        if let Some(last) = self.members.last_mut().filter(|_| dirty) {
            last.dirty_padding = true;
        }
    }

    fn add(&mut self, found: Result<ArchiveMember, Refused>) {
        let member = match found {
            Ok(member) => member,
            Err((offset, code, why)) => {
                let problem = Problem::error(code, "", format!("a member is refused: {why}"));
                self.problems.push((format!("header at byte {offset}"), problem));
                return;
            }
        };
        match self.names.get(&member.name) {
            Some(&first)
                if member.kind == MemberKind::Directory && self.members[first].kind == member.kind => {}
            Some(_) => {
                let text = "two members of one name: some readers take the first, some the last";
                self.problems.push((shown(&member.name), Problem::error("E-ARCHIVE-DUPLICATE", "", text)));
            }
            None => {
                self.names.insert(member.name.clone(), self.members.len());
            }
        }
        self.members.push(member);
    }

    /// Notes an error of the tar format, at the member it concerns.
    fn note(&mut self, offset: u64, error: &TarError) {
        let code = match error {
            TarError::Truncated { .. } => "E-ARCHIVE-TRUNCATED",
            TarError::Trailing { .. } => "E-ARCHIVE-TRAILING",
            TarError::Checksum { .. } => "E-ARCHIVE-CHECKSUM",
            TarError::Ambiguous { .. } => "E-ARCHIVE-AMBIGUOUS",
            _ => "E-ARCHIVE",
        };
        let place = match error {
            TarError::Truncated { .. } | TarError::Trailing { .. } => "end of the archive".to_owned(),
            _ => format!("header at byte {offset}"),
        };
        self.problems.push((place, Problem::error(code, "", error.to_string())));
    }

    fn file(&self, name: &str) -> Option<&ArchiveMember> {
        let name = SafePath::parse(name.as_bytes()).ok()?;
        self.resolve(&name, 0)
    }

    /// The regular file behind a name, links within the archive followed.
    fn resolve(&self, name: &SafePath, depth: usize) -> Option<&ArchiveMember> {
        let member = self.members.get(*self.names.get(name)?)?;
        let target = match &member.kind {
            MemberKind::File => return Some(member),
            MemberKind::HardLink { target } => SafePath::parse(target).ok()?,
            MemberKind::Symlink { target } => link_target(name, target)?,
            _ => return None,
        };
        if depth < 8 { self.resolve(&target, depth + 1) } else { None }
    }
}

/// The path within the archive that a relative link names; nothing when it leads out of it.
fn link_target(link: &SafePath, target: &[u8]) -> Option<SafePath> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut at = link.parent()?;
    for part in target.split(|&b| b == b'/') {
        at = match part {
            b"" | b"." => at,
            b".." => at.parent()?,
            _ => at.join(part).ok()?,
        };
    }
    Some(at)
}

/// Where a member that is refused stands, with a code and why.
type Refused = (u64, &'static str, String);

fn describe(member: &dmoci_layers::untar::Member<'_>, base: u64) -> Result<ArchiveMember, Refused> {
    let name =
        member.path().map_err(|error| (base + member.header_offset, "E-ARCHIVE-NAME", error.to_string()))?;
    // Only a size that the header cannot hold belongs into a record.
    if let Some((field, record)) = member.size_disagreement
        && record < 8 << 30
    {
        let why = format!(
            "it has the size {field} and in its PAX record {record}: readers disagree (CVE-2025-62518)"
        );
        return Err((base + member.header_offset, "E-ARCHIVE-SIZE", why));
    }
    Ok(ArchiveMember {
        name,
        kind: member.kind.clone(),
        header_offset: base + member.header_offset,
        data_offset: base + member.data_offset,
        size: member.size,
        dirty_padding: false,
    })
}

/// The same error with offsets from the start of the file.
fn shift(mut error: TarError, base: u64) -> TarError {
    match &mut error {
        TarError::Io { offset, .. }
        | TarError::Truncated { offset, .. }
        | TarError::Trailing { offset }
        | TarError::Checksum { offset, .. }
        | TarError::Malformed { offset, .. }
        | TarError::Ambiguous { offset, .. }
        | TarError::Sparse { offset }
        | TarError::Extension { offset, .. } => *offset += base,
        TarError::Entries(_) => {}
    }
    error
}

/// The files that an image archive has at its top.
const FIXED: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];

/// What a damaged header seems to describe, and where the next sound header stands.
fn salvage(file: &File, at: u64, length: u64) -> io::Result<Option<(Option<ArchiveMember>, u64)>> {
    let block = |offset: u64| -> io::Result<Option<[u8; 512]>> {
        let mut block = [0; 512];
        match offset.checked_add(512).is_some_and(|end| end <= length) {
            true => file.read_exact_at(&mut block, offset).map(|()| Some(block)),
            false => Ok(None),
        }
    };
    let Some(damaged) = block(at)?.map(|bytes| guess(&bytes)) else { return Ok(None) };
    let data = at + 512;
    let by_size = damaged.size.filter(|&size| size <= length).map(|size| data + size.next_multiple_of(512));
    let mut next = None;
    let mut scan = data;
    while next.is_none() {
        let Some(bytes) = block(scan)? else { break };
        let found = guess(&bytes);
        let name = SafePath::parse(&found.raw_path);
        // Inside a plain layer there are headers too; those of the archive name its own files.
        if found.sound && name.is_ok_and(|name| is_own_name(&name)) {
            next = Some(scan);
        }
        scan += 512;
    }
    // Behind the last member comes the end.
    if let (None, Some(offset)) = (next, by_size)
        && block(offset)? == Some([0; 512])
    {
        next = Some(offset);
    }
    let Some(next) = next else { return Ok(None) };
    let name = closest(&damaged.name_field).or_else(|| SafePath::parse(&damaged.raw_path).ok());
    let size = damaged.size.filter(|_| by_size == Some(next)).unwrap_or(next - data);
    let member = name.map(|name| ArchiveMember {
        name,
        kind: MemberKind::File,
        header_offset: at,
        data_offset: data,
        size,
        dirty_padding: false,
    });
    Ok(Some((member, next)))
}

fn is_own_name(name: &SafePath) -> bool {
    name.as_bytes().starts_with(b"blobs") || FIXED.iter().any(|fixed| fixed.as_bytes() == name.as_bytes())
}

/// One of the fixed names when the field holds it but for one byte at most.
fn closest(field: &[u8; 100]) -> Option<SafePath> {
    let near = |fixed: &&&str| {
        let padded = fixed.bytes().chain(std::iter::repeat(0));
        padded.zip(field).filter(|(a, b)| a != *b).count() <= 1
    };
    FIXED.iter().find(near).and_then(|fixed| SafePath::parse(fixed.as_bytes()).ok())
}

impl ImageStore {
    /// Finds documents and blobs among the members.
    fn fill(&mut self, listing: &Listing) -> Result<(), StoreError> {
        let docker = match listing.file("manifest.json") {
            Some(member) => Some(self.member_bytes(member, "manifest.json", limits::JSON_BYTES)?),
            None => None,
        };
        let Some(index) = listing.file("index.json") else {
            let why = "it has neither an index.json nor a manifest.json".to_owned();
            let docker =
                docker.ok_or_else(|| StoreError::NoImage { path: self.place.clone(), why, inside: None })?;
            return legacy::fill(self, listing, docker);
        };
        self.index = self.member_bytes(index, "index.json", limits::JSON_BYTES)?;
        self.docker_manifest = docker;
        if let Some(member) = listing.file("oci-layout") {
            self.layout_file = Some(self.member_bytes(member, "oci-layout", limits::LAYOUT_FILE_BYTES)?);
        }
        for member in &listing.members {
            self.sort_in(member);
        }
        Ok(())
    }

    fn sort_in(&mut self, member: &ArchiveMember) {
        let parts: Vec<_> = member.name.components().collect();
        let digest = match parts.as_slice() {
            [b"blobs", algorithm, name] => blob_name(algorithm, name),
            [b"blobs"] | [b"blobs", _] if member.kind == MemberKind::Directory => return,
            [b"oci-layout" | b"index.json" | b"manifest.json"] if member.kind == MemberKind::File => return,
            [] => return,
            _ => None,
        };
        match (digest, &member.kind) {
            (Some(digest), MemberKind::File) => {
                // Of two members with one name the first; that there are two is a problem already.
                let blob = Blob::Range { offset: member.data_offset, size: member.size };
                self.blobs.entry(digest).or_insert(blob);
            }
            (Some(_), _) => {
                let text = "a blob that is a link or another thing than a file: it is not followed";
                self.problems.push((shown(&member.name), Problem::error("E-LAYOUT-IRREGULAR", "", text)));
            }
            (None, _) => self.strays.push(shown(&member.name)),
        }
    }

    /// The whole content of a member that should be small.
    fn member_bytes(&self, member: &ArchiveMember, name: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        if member.size > limit {
            let why = format!("its {name} is larger than {limit} bytes");
            return Err(StoreError::NoImage { path: self.place.clone(), why, inside: None });
        }
        // At most 4 MiB.
        self.archive_bytes(member.data_offset, member.size as usize)
    }

    /// The digest and size of a member's content, and its first bytes.
    fn member_digest(&self, member: &ArchiveMember) -> Result<(Digest, Vec<u8>), StoreError> {
        let Backing::Archive(file) = &self.backing else {
            return Err(StoreError::Irregular { path: self.place.clone() });
        };
        let source =
            super::Source::Range { file: Arc::clone(file), at: member.data_offset, left: member.size };
        let mut reader = BufReader::with_capacity(1 << 20, super::BlobReader(source));
        let io = |source| StoreError::Io { path: self.place.clone(), source };
        let mut first = Vec::new();
        reader.by_ref().take(6).read_to_end(&mut first).map_err(io)?;
        let mut whole = (&first[..]).chain(reader);
        let (digest, _) = Digest::of_reader(dmoci_layers::Algorithm::Sha256, &mut whole).map_err(io)?;
        Ok((digest, first))
    }
}

/// The images that Docker's `manifest.json` lists, or why it cannot be read.
pub fn docker_images(bytes: &[u8]) -> Result<Vec<DockerImage>, String> {
    legacy::parse(bytes)
}

/// A name without the leading slash of a printed path.
fn shown(name: &SafePath) -> String {
    name.to_string()[1..].to_owned()
}
