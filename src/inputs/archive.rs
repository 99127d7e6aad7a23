//! The content of archives: tar (plain, gzip, xz, zstd) and zip, from a file of the project or from elsewhere.
//!
//! Archives are hostile until read: paths are checked, nothing is written under a member's name, and the
//! bounds of [`crate::limits`] hold.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::decompress::{DecodeLimits, Decoder, sniff};
use dmoci_layers::untar::{Member, MemberKind, TarLimits, TarReader};
use dmoci_layers::{Compression, Digest, Entry, EntryKind, SafePath};

use super::files::Project;
use super::members::{Members, decoded};
use super::pattern::Patterns;
use super::records::{RecordWriter, Records};
use super::sorter::{Room, Sorter};
use super::spool::{Identity, Spool, Spooled};
use super::stored::{self, StoredMember};
use super::unpack::{Loose, Order, caused, error, path_of, sort_key};
use super::{InputError, Site, zip};
use crate::cache::{Cache, Downloaded, KeyWriter, Kind};
use crate::files::Stamp;
use crate::limits;

/// What is done with character and block devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    /// They are an error.
    Error,
    /// They are left out.
    Skip,
    /// They are kept.
    Keep,
}

/// Which members are taken, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory that everything goes to.
    pub to: SafePath,
    /// So many leading components are cut off every path; shorter paths are left out.
    pub strip_components: u32,
    /// Which of the paths, after cutting, are taken.
    pub patterns: Patterns,
    /// Owner of everything; without it the archive's own numbers.
    pub owner: Option<(u64, u64)>,
    /// What is done with devices.
    pub devices: Devices,
}

/// An archive that has been read once. Its members lie in a nameless file.
#[derive(Debug)]
pub struct Archive {
    members: Records,
    /// Where their contents are.
    spool: Arc<Spooled>,
    /// The file, as the user wrote it.
    path: PathBuf,
    scratch: PathBuf,
}

/// Decompression bounds for archives and layers.
pub const DECODE: DecodeLimits = DecodeLimits {
    max_output: limits::LAYER_BYTES,
    max_ratio: limits::COMPRESSION_RATIO,
    ratio_free: limits::RATIO_FREE_BYTES,
};

impl Archive {
    /// Reads an archive. What is compressed, is unpacked into a nameless file in the scratch directory.
    ///
    /// An archive that an earlier run has read, and that did not change, is not read before a content is asked for.
    pub fn read(site: &Site<'_>, source: &ArchiveFile, options: &Options) -> Result<Archive, InputError> {
        let (file, identity) = source.open()?;
        let path = source.name();
        let mut key = KeyWriter::new(Kind::Archive, site.since);
        identity.decide(&mut key);
        options.decide(&mut key);
        let key = key.finish();
        let known = match key.as_ref().zip(site.cache) {
            Some((key, cache)) => recall(cache, key, site.scratch)?,
            None => None,
        };
        let (members, spool) = match known {
            Some(members) => (members, None),
            None => {
                let mut members = Members::new(path, options, site.scratch, Room::USUAL)?;
                let spool = unpack(file, &mut members, site.scratch)?;
                let members = members.finish()?;
                if identity != source.open()?.1 {
                    return Err(InputError::Changed(path.to_owned()));
                }
                if let Some((key, cache)) = key.as_ref().zip(site.cache) {
                    cache.put_from(Kind::Archive, key, members.size(), &mut members.bytes());
                }
                (members, Some(spool))
            }
        };
        let again = {
            let (source, options, scratch) = (source.clone(), options.clone(), site.scratch.to_owned());
            let identity = identity.clone();
            move || {
                let (file, now) = source.open()?;
                match now == identity {
                    true => {
                        let mut members = Members::new(source.name(), &options, &scratch, Room::USUAL)?;
                        unpack(file, &mut members, &scratch)
                    }
                    false => Err(InputError::Changed(source.name().to_owned())),
                }
            }
        };
        let decided = key.map(|key| key.hex().as_bytes().to_vec()).unwrap_or_default();
        let spool = Arc::new(Spooled::new(decided, Some(identity), spool, again));
        Ok(Archive { members, spool, path: path.to_owned(), scratch: site.scratch.to_owned() })
    }

    /// Its members, in the order in which they stand in it.
    pub fn members(&self) -> impl Iterator<Item = Result<Loose, InputError>> + '_ {
        loose(&self.members)
    }

    /// Visits the paths of its directories, in order.
    pub fn directories<E: From<InputError>>(
        &self,
        mut visit: impl FnMut(SafePath) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sorter = Sorter::new(&self.scratch, Room::USUAL)?;
        for member in self.members() {
            let entry = member?.entry;
            if entry.kind == EntryKind::Directory {
                sorter.add(&sort_key(&entry.path), &[])?;
            }
        }
        let mut sorted = sorter.finish()?;
        while let Some((key, _)) = sorted.next()? {
            visit(path_of(key).ok_or_else(|| self.members.damaged())?)?;
        }
        Ok(())
    }

    /// Takes its members, at the paths that they are to have, and brings them into order.
    pub fn order(&self) -> Result<Order<'_>, InputError> {
        Order::new(&self.path, &self.spool, &self.scratch, Room::USUAL)
    }
}

/// Where an archive is.
#[derive(Clone, Debug)]
pub enum ArchiveFile {
    /// In the project, at this path.
    Project(Project, PathBuf),
    /// Fetched; messages call it so.
    Fetched(Downloaded, PathBuf),
}

impl ArchiveFile {
    /// What messages call it.
    fn name(&self) -> &Path {
        match self {
            ArchiveFile::Project(_, path) | ArchiveFile::Fetched(_, path) => path,
        }
    }

    /// The file, and what it is.
    fn open(&self) -> Result<(File, Identity), InputError> {
        let io = |source| InputError::Io { path: self.name().to_owned(), source };
        match self {
            ArchiveFile::Project(project, path) => {
                let file = project.open_file(path)?;
                let stamp = Stamp::of_file(&file).map_err(io)?;
                Ok((file, Identity::Stamp(stamp)))
            }
            ArchiveFile::Fetched(downloaded, _) => {
                let file = downloaded.open().map_err(|error| io(io::Error::other(error)))?;
                Ok((file, Identity::Digest(downloaded.digest().clone())))
            }
        }
    }
}

impl Options {
    fn decide(&self, key: &mut KeyWriter) {
        let Options { to, strip_components, patterns, owner, devices } = self;
        key.bytes(to.as_bytes());
        key.number((*strip_components).into());
        patterns.decide(key);
        for number in owner.map_or([0, 0, 0], |(uid, gid)| [1, uid, gid]) {
            key.number(number);
        }
        key.number(match devices {
            Devices::Error => 0,
            Devices::Skip => 1,
            Devices::Keep => 2,
        });
    }
}

/// The members in these records, in their order.
fn loose(records: &Records) -> impl Iterator<Item = Result<Loose, InputError>> + '_ {
    let mut reader = records.read();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    std::iter::from_fn(move || {
        let read = reader.next(&mut key, &mut value).and_then(|more| match more {
            true => {
                let member: StoredMember = decoded(records, &value)?;
                let member = stored::path(&key).and_then(|path| member.member(path));
                Ok(Some(member.ok_or_else(|| records.damaged())?))
            }
            false => Ok(None),
        });
        read.transpose()
    })
}

/// The members that an earlier run found, when each of them can be understood.
fn recall(cache: &Cache, key: &Digest, scratch: &Path) -> Result<Option<Records>, InputError> {
    let mut members = RecordWriter::new(scratch)?;
    if cache.copy(Kind::Archive, key, &mut members).is_none() {
        return Ok(None);
    }
    let members = members.so_far()?;
    let sound = loose(&members).all(|member| member.is_ok());
    Ok(sound.then_some(members))
}

/// Reads an archive, contents into a nameless file in `scratch`.
fn unpack(mut file: File, members: &mut Members<'_>, scratch: &Path) -> Result<File, InputError> {
    let path = members.path;
    let io = |source| InputError::Io { path: path.to_owned(), source };
    let mut head = [0u8; 512];
    let length = read_up_to(&file, &mut head).map_err(io)?;
    let head = &head[..length];
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return zip::read(file, members, scratch);
    }
    // Contents are read again when the layer is written, so they must not change until then.
    let mut spool = Spool::new(scratch)?;
    file.rewind().map_err(io)?;
    let unpacked: Box<dyn Read> = match () {
        () if head.starts_with(b"\xfd7zXZ\0") => Box::new(xz(file, path)?),
        () => match sniff(head) {
            Compression::None if head.get(257..262) != Some(b"ustar") && !is_old_tar(head) => {
                let known = "expected tar, tar.gz, tar.xz, tar.zst or zip";
                return Err(error(path, format!("it is no archive of a known form ({known})")));
            }
            compression => Box::new(
                Decoder::new(BufReader::with_capacity(1 << 18, file), compression, DECODE)
                    .map_err(|source| caused(path, "it cannot be decompressed", source))?,
            ),
        },
    };
    read_tar(unpacked, members, &mut spool)?;
    spool.finish()
}

/// Fills `out` from the start of a file, as far as there is something.
fn read_up_to(file: &File, out: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < out.len() {
        match file.read_at(&mut out[length..], length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// A V7 tar has no magic: its first header's checksum must be right. An empty archive is zeros.
fn is_old_tar(head: &[u8]) -> bool {
    let Some(field) = head.get(148..156).filter(|_| head.len() == 512) else { return false };
    let text: String = field.iter().map(|&b| char::from(b)).collect();
    let expected = u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok();
    let sum: u64 = head.iter().map(|&b| u64::from(b)).sum::<u64>()
        - field.iter().map(|&b| u64::from(b)).sum::<u64>()
        + 8 * 32;
    expected == Some(sum) || head.iter().all(|&b| b == 0)
}

/// An xz stream, bounded in memory, ratio and output.
fn xz(file: File, path: &Path) -> Result<impl Read + use<>, InputError> {
    let size = file.metadata().map(|m| m.len()).unwrap_or(0);
    let most =
        size.saturating_mul(limits::COMPRESSION_RATIO).clamp(limits::RATIO_FREE_BYTES, limits::LAYER_BYTES);
    let stream =
        liblzma::stream::Stream::new_stream_decoder(limits::XZ_MEMORY, liblzma::stream::CONCATENATED)
            .map_err(|source| caused(path, "it cannot be decompressed", source))?;
    let reader = liblzma::bufread::XzDecoder::new_stream(BufReader::with_capacity(1 << 18, file), stream);
    Ok(Capped { reader, left: most })
}

/// Fails, instead of ending, after so many bytes.
struct Capped<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it unpacks to more than is allowed")
        })?;
        Ok(count)
    }
}

fn read_tar(reader: Box<dyn Read>, members: &mut Members<'_>, spool: &mut Spool) -> Result<(), InputError> {
    let archive = members.path.to_owned();
    let bounds = TarLimits { max_entries: limits::TAR_ENTRIES, ..TarLimits::default() };
    let mut tar = TarReader::new(BufReader::with_capacity(1 << 18, reader), bounds);
    while let Some(mut member) = tar.next().map_err(|e| caused(&archive, "it is damaged", e))? {
        if let Some((header, record)) = member.size_disagreement {
            let what = format!("a member has the size {header} and {record} at once");
            return Err(error(&archive, what));
        }
        let path = members.check(&member.raw_path)?;
        if let MemberKind::HardLink { target } = &member.kind {
            let target = target.clone();
            members.link(&path, &target)?;
            continue;
        }
        let Some(kind) = kind(&member, &path, members)? else { continue };
        let entry = Entry {
            path,
            kind,
            mode: member.mode & 0o7777,
            uid: member.uid,
            gid: member.gid,
            xattrs: allowed(&member.xattrs),
        };
        let offset = match entry.kind {
            EntryKind::File { .. } => {
                let damaged = |source| caused(&archive, "it cannot be unpacked", source);
                spool.append(&mut member).map_err(|error| error.into_input(damaged))?.0
            }
            _ => 0,
        };
        members.add(entry, offset)?;
    }
    Ok(())
}

/// What a member becomes; none for devices that are to be left out.
fn kind(
    member: &Member<'_>,
    path: &SafePath,
    members: &Members<'_>,
) -> Result<Option<EntryKind>, InputError> {
    let taken = members.takes(path, member.kind == MemberKind::Directory);
    let device = |kind| match members.options.devices {
        _ if !taken => Ok(None),
        Devices::Error => Err(InputError::Device { archive: members.path.to_owned(), path: path.clone() }),
        Devices::Skip => Ok(None),
        Devices::Keep => Ok(Some(kind)),
    };
    match &member.kind {
        MemberKind::File => Ok(Some(EntryKind::File { size: member.size })),
        MemberKind::Directory => Ok(Some(EntryKind::Directory)),
        MemberKind::Symlink { target } => Ok(Some(EntryKind::Symlink { target: target.clone() })),
        &MemberKind::CharDevice { major, minor } => device(EntryKind::CharDevice { major, minor }),
        &MemberKind::BlockDevice { major, minor } => device(EntryKind::BlockDevice { major, minor }),
        MemberKind::HardLink { .. } => Ok(None),
        _ if !taken => Ok(None),
        MemberKind::Fifo => {
            Err(error(members.path, format!("{path} is a FIFO; leave it out with `exclude`")))
        }
        MemberKind::Other(flag) => {
            let flag = char::from(*flag).escape_default().to_string();
            Err(error(
                members.path,
                format!("{path} is of the unknown kind {flag}; leave it out with `exclude`"),
            ))
        }
    }
}

/// Only attributes that mean the same on every machine.
fn allowed(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keep = |name: &[u8]| name == b"security.capability" || name.starts_with(b"user.");
    xattrs.iter().filter(|(name, _)| keep(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::members::encoded;
    use super::*;
    use crate::files::Moment;

    /// As a record of another build of the program may be: whole, and of another form.
    #[test]
    fn records_that_cannot_be_understood_are_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let key = KeyWriter::new(Kind::Archive, Moment::now(dir.path()).unwrap()).finish().unwrap();
        let entry = Entry {
            path: SafePath::parse(b"a").unwrap(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            xattrs: Vec::new(),
        };
        let member = StoredMember::of(&Loose { entry, offset: 0, inode: None });
        let mut good = RecordWriter::new(dir.path()).unwrap();
        let value = encoded(&good.so_far().unwrap(), &member).unwrap();
        good.append(b"a", &value).unwrap();
        let whole = good.size();
        let found = |records: Records| {
            cache.put_from(Kind::Archive, &key, records.size(), &mut records.bytes());
            recall(&cache, &key, dir.path()).unwrap()
        };
        assert_eq!(found(good.so_far().unwrap()).map(|members| members.size()), Some(whole));

        for (path, value) in [(&b"a"[..], &value[..1]), (b"b", &[0xff; 20]), (b"../b", &value)] {
            let mut bad = RecordWriter::new(dir.path()).unwrap();
            bad.append(b"a", &encoded(&good.so_far().unwrap(), &member).unwrap()).unwrap();
            bad.append(path, value).unwrap();
            assert!(found(bad.so_far().unwrap()).is_none(), "{path:?}");
        }
        let mut bad = RecordWriter::new(dir.path()).unwrap();
        bad.write_all(b"no record").unwrap();
        assert!(found(bad.so_far().unwrap()).is_none());
    }
}
