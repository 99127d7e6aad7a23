//! A source distribution as a whole (source distribution format, PEP 517, 625, 643, 721): all that is wrong with it, and
//! its normal form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use dmoci_layers::decompress::{DecodeError, DecodeLimits, Decoder};
use dmoci_layers::tgz::TgzWriter;
use dmoci_layers::untar::{Member, MemberKind, TarError, TarLimits, TarReader};
use dmoci_layers::{Compression, Entry, EntryKind, SafePath};

use super::same::At;
use super::{DistKind, Examined, Part, metadata};
use crate::inputs::InputError;
use crate::inputs::python::name::Name;
use crate::inputs::python::version::{Version, version};
use crate::limits;
use crate::oci::Problem;

const CODE: &str = "E-SDIST";
const NAME: &str = "E-DIST-NAME";

/// What the file name of a source distribution says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdistName {
    /// The project.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// `NAME-VERSION` as it is spelt: the directory that everything is in.
    pub stem: String,
}

impl SdistName {
    /// Reads a file name; why it is none otherwise.
    pub fn parse(text: &str) -> Result<SdistName, &'static str> {
        let stem = text.strip_suffix(".tar.gz").ok_or("it does not end with .tar.gz")?;
        let (name, number) = stem.rsplit_once('-').ok_or("expected NAME-VERSION.tar.gz")?;
        let name = Name::parse(name).ok_or("it does not begin with a name")?;
        let version = version(number).ok_or("what follows the name is no version")?;
        Ok(SdistName { name, version, stem: stem.to_owned() })
    }

    /// The file name that PEP 625 wants.
    pub fn normal(&self) -> String {
        format!("{}-{}.tar.gz", self.name.as_str().replace('-', "_"), self.version)
    }
}

/// A source distribution, whole in memory: entries at clean paths in one directory, and nothing that leads out of it.
#[derive(Clone, Debug, Default)]
pub struct Sdist {
    /// Everything by its path; hard links are files with the content of what they are links of.
    pub files: BTreeMap<SafePath, SdistFile>,
}

/// An entry of a source distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdistFile {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Its owner may execute it.
        executable: bool,
        /// Its content.
        content: Vec<u8>,
    },
    /// A symbolic link, which stays inside.
    Symlink(Vec<u8>),
}

impl Sdist {
    /// Reads a source distribution; the first thing that is wrong with it is the error.
    pub fn read(file: File, path: &Path) -> Result<Sdist, InputError> {
        Ok(Sdist::with_time(file, path)?.0)
    }

    /// The same, with the time of the first entry.
    pub(super) fn with_time(file: File, path: &Path) -> Result<(Sdist, u64), InputError> {
        let mut found = Examined::new(DistKind::Sdist);
        let read = entries(file, &shown(path), None, &mut found);
        let wrong = |remark: &&super::Remark| remark.problem.severity == crate::oci::Severity::Error;
        match found.remarks.iter().find(wrong) {
            None => Ok(read),
            Some(remark) => {
                let message = format!("{}: {}", remark.place, remark.problem.message);
                Err(InputError::Archive { archive: path.to_owned(), message, source: None })
            }
        }
    }

    /// The normal form: entries in component-wise order with one time, owner 0:0 without names, modes 0755 and 0644; in one gzip member without
    /// name and time; see [`dmoci_layers::tgz`].
    pub fn normal(&self, path: &Path, time: u64) -> Result<Vec<u8>, InputError> {
        let failed = |source| InputError::Archive {
            archive: path.to_owned(),
            message: "it has no normal form".into(),
            source: Some(source),
        };
        let mut tgz = TgzWriter::new(time);
        for (path, file) in &self.files {
            let (kind, mode, content) = match file {
                SdistFile::Directory => (EntryKind::Directory, 0o755, &[][..]),
                SdistFile::Symlink(target) => (EntryKind::Symlink { target: target.clone() }, 0o777, &[][..]),
                SdistFile::File { executable, content } => {
                    let kind = EntryKind::File { size: content.len() as u64 };
                    (kind, if *executable { 0o755 } else { 0o644 }, &content[..])
                }
            };
            let entry = Entry { path: path.clone(), kind, mode, uid: 0, gid: 0, xattrs: Vec::new() };
            tgz.add(&entry, content).map_err(|error| failed(error.into()))?;
        }
        tgz.finish().map_err(|error| failed(error.into()))
    }
}

fn shown(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Looks at all of a source distribution.
pub(super) fn examine(file: File, path: &Path) -> Examined {
    let mut found = Examined::new(DistKind::Sdist);
    let shown = shown(path);
    let name = match SdistName::parse(&shown) {
        Ok(name) => {
            if name.normal() != shown {
                let message = format!("the file name is not normalised, expected {}", name.normal());
                found.warning(Part::Names, &shown, NAME, message);
            }
            Some(name)
        }
        Err(why) => {
            let message = format!("the file name is not that of a source distribution: {why}");
            found.error(Part::Names, &shown, NAME, message);
            None
        }
    };
    let copy = file.try_clone();
    let (sdist, time) = entries(file, &shown, name.as_ref(), &mut found);
    let tops: BTreeSet<&[u8]> = sdist.files.keys().filter_map(|path| path.components().next()).collect();
    let top = match name.as_ref() {
        Some(name) => Some(name.stem.clone().into_bytes()),
        None => tops.first().map(|top| top.to_vec()),
    };
    if let Some(top) = top.filter(|_| !sdist.files.is_empty()) {
        inside(&sdist, &top, name.as_ref(), &mut found);
    }
    if found.has_errors() {
        return found;
    }
    found.project = name.map(|name| (name.name.to_string(), name.version.to_string()));
    match copy.map_err(|error| error.to_string()).and_then(|copy| {
        let normal = sdist.normal(path, time).map_err(|error| error.to_string())?;
        is_same(&copy, &normal).map_err(|error| error.to_string())
    }) {
        Ok(true) => {}
        Ok(false) if found.reasons.is_empty() => {
            found.reason("it is compressed by another encoder, or headers are written otherwise");
        }
        Ok(false) => {}
        Err(why) => found.reason(format!("its normal form cannot be made: {why}")),
    }
    found
}

fn is_same(file: &File, bytes: &[u8]) -> io::Result<bool> {
    use std::io::Write as _;
    let mut same = super::same::Same::new(file);
    same.write_all(bytes)?;
    same.finish()
}

/// What stands in the directory of everything: metadata and what builds need.
fn inside(sdist: &Sdist, top: &[u8], name: Option<&SdistName>, found: &mut Examined) {
    let top = String::from_utf8_lossy(top).into_owned();
    let file = |name: &str| {
        let path = SafePath::parse(format!("{top}/{name}").as_bytes()).ok()?;
        match sdist.files.get(&path)? {
            SdistFile::File { content, .. } => Some(content),
            _ => None,
        }
    };
    if file("pyproject.toml").is_none() {
        found.warning(Part::Metadata, &format!("{top}/pyproject.toml"), CODE, "it is not there");
    }
    let place = format!("{top}/PKG-INFO");
    let Some(content) = file("PKG-INFO") else {
        return found.error(Part::Metadata, &place, "E-METADATA", "it is not there");
    };
    let said = metadata::read(content);
    for problem in said.problems {
        found.add(Part::Metadata, &place, problem);
    }
    if said.format.is_some_and(|format| format < "2.2") {
        let message = "its version is below 2.2, so nothing in it is known to hold for wheels";
        found.add(Part::Metadata, &place, Problem::note("E-METADATA", "", message));
    }
    if said.format.is_some_and(|format| format >= "2.4") {
        for licence in said.licences.iter().filter(|licence| file(licence).is_none()) {
            let message = format!("PKG-INFO names the licence file {licence:?}, which is not there");
            found.error(Part::Metadata, &format!("{top}/{licence}"), "E-METADATA", message);
        }
    }
    let Some(name) = name else { return };
    for (other, expected, what) in [
        (said.name.map(|name| name.to_string()), name.name.to_string(), "name"),
        (said.version.map(|version| version.to_string()), name.version.to_string(), "version"),
    ] {
        if let Some(other) = other.filter(|other| *other != expected) {
            let problem = Problem::error(NAME, "", format!("it says another {what} than the file name"));
            found.add(Part::Names, &place, problem.but(expected, other));
        }
    }
}

/// Reads all entries, and the time of the first.
fn entries(file: File, shown: &str, name: Option<&SdistName>, found: &mut Examined) -> (Sdist, u64) {
    let limits = DecodeLimits {
        max_output: limits::SDIST_BYTES,
        max_ratio: limits::COMPRESSION_RATIO,
        ratio_free: limits::RATIO_FREE_BYTES,
    };
    let mut reading = Reading { sdist: Sdist::default(), time: None, last: None, top: None, found };
    reading.top = name.map(|name| name.stem.clone().into_bytes());
    let mut decoder = match Decoder::new(
        BufReader::with_capacity(128 << 10, At::beginning(file)),
        Compression::Gzip,
        limits,
    ) {
        Ok(decoder) => decoder,
        Err(error) => {
            reading.broken(shown, &error);
            return (reading.sdist, 0);
        }
    };
    {
        let bounds = TarLimits {
            max_entries: limits::SDIST_ENTRIES,
            max_extension_bytes: limits::ARCHIVE_EXTENSION_BYTES,
        };
        let mut tar = TarReader::new(BufReader::with_capacity(64 << 10, &mut decoder), bounds);
        loop {
            match tar.next() {
                Ok(Some(member)) => {
                    if let Err(error) = reading.member(member) {
                        reading.broken(shown, &error);
                        break;
                    }
                }
                Ok(None) => break,
                Err(TarError::Io { source, .. }) => {
                    reading.broken(shown, &source);
                    break;
                }
                Err(error) => {
                    reading.found.error(Part::Container, shown, CODE, error.to_string());
                    break;
                }
            }
        }
        let trailer = tar.trailer();
        if trailer.global_headers > 0 {
            reading.found.reason("there are global headers in it");
        }
        if trailer.dirty_padding > 0 {
            reading.found.warning(Part::Container, shown, CODE, "there is padding that is not zeros");
        }
        if trailer.extra_zeros > 0 {
            reading.found.reason("there are zeros behind its end");
        }
    }
    if !reading.found.has_errors()
        && let Err(error) = io::copy(&mut decoder, &mut io::sink())
    {
        reading.broken(shown, &error);
    }
    let framing = decoder.framing();
    if framing.members > 1 {
        reading.found.reason("it is several gzip members");
    }
    if !framing.plain_headers {
        reading.found.reason("the gzip header holds a name, a time or a kind of system");
    }
    if reading.sdist.files.is_empty() && !reading.found.has_errors() {
        reading.found.error(Part::Container, shown, CODE, "there is nothing in it");
    }
    let time = reading.time.unwrap_or_default();
    (reading.sdist, time)
}

/// What was read so far.
struct Reading<'a> {
    sdist: Sdist,
    time: Option<u64>,
    last: Option<SafePath>,
    /// The directory that everything must be in.
    top: Option<Vec<u8>>,
    found: &'a mut Examined,
}

impl Reading<'_> {
    /// The archive cannot be read further.
    fn broken(&mut self, shown: &str, error: &io::Error) {
        match DecodeError::of(error) {
            Some(error) => self.found.error(Part::Container, shown, CODE, error.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.found.error(Part::Container, shown, CODE, error.to_string());
            }
            None => {
                self.found.error(Part::Container, shown, "E-IO", format!("it cannot be read: {error}"));
            }
        }
    }

    fn member(&mut self, mut member: Member<'_>) -> io::Result<()> {
        let written = String::from_utf8_lossy(&member.raw_path).into_owned();
        let mut wrong = |message: String| self.found.error(Part::Container, &written, CODE, message);
        let path = match member.path() {
            Ok(path) => path,
            Err(error) => {
                wrong(format!("its name is dangerous: {error}"));
                return Ok(());
            }
        };
        if member.raw_path.starts_with(b"/") || member.raw_path.contains(&b'\\') {
            wrong("its name is absolute or holds a backslash".into());
            return Ok(());
        }
        if path.as_bytes().iter().any(u8::is_ascii_control) || std::str::from_utf8(path.as_bytes()).is_err() {
            wrong("its name holds control characters or is not UTF-8".into());
            return Ok(());
        }
        if let Some((field, record)) = member.size_disagreement {
            wrong(format!("its header says {field} bytes and its PAX record {record}: readers differ"));
        }
        let Some(top) = path.components().next() else { return Ok(()) };
        if *self.top.get_or_insert_with(|| top.to_vec()) != top {
            let expected = String::from_utf8_lossy(self.top.as_deref().unwrap_or_default()).into_owned();
            let problem = Problem::error(CODE, "", "it is not in the directory of everything");
            let problem = problem.but(format!("{expected}/"), written.clone());
            self.found.add(Part::Container, &written, problem);
        }
        self.form(&member, &path);
        let link = path.parent().into_iter().flat_map(|parent| above(&parent));
        let mut through = link
            .filter(|up| self.sdist.files.get(up).is_some_and(|file| !matches!(file, SdistFile::Directory)));
        if let Some(up) = through.next() {
            let message = format!("it is in {up}, which is a file or a symbolic link");
            self.found.error(Part::Container, &written, CODE, message);
            return Ok(());
        }
        let Some(file) = self.kind(&mut member, &path, &written)? else { return Ok(()) };
        let is_directory = file == SdistFile::Directory;
        match self.sdist.files.insert(path, file) {
            Some(SdistFile::Directory) if is_directory => {}
            Some(_) => self.found.error(Part::Container, &written, CODE, "it is there twice"),
            None => {}
        }
        Ok(())
    }

    /// What a member is; nothing when it may not be there.
    fn kind(
        &mut self,
        member: &mut Member<'_>,
        path: &SafePath,
        written: &str,
    ) -> io::Result<Option<SdistFile>> {
        let mut wrong = |message: String| self.found.error(Part::Container, written, CODE, message);
        Ok(Some(match member.kind.clone() {
            MemberKind::Directory => SdistFile::Directory,
            MemberKind::File => {
                let mut content = Vec::new();
                member.read_to_end(&mut content)?;
                self.found.files += 1;
                self.found.bytes += content.len() as u64;
                SdistFile::File { executable: member.mode & 0o111 != 0, content }
            }
            MemberKind::Symlink { target } => {
                if !stays(path, &target) {
                    wrong(format!(
                        "it is a symbolic link that leads out: {}",
                        String::from_utf8_lossy(&target)
                    ));
                    return Ok(None);
                }
                SdistFile::Symlink(target)
            }
            MemberKind::HardLink { target } => {
                let other = SafePath::parse(&target).ok().and_then(|target| self.sdist.files.get(&target));
                match other {
                    Some(file @ SdistFile::File { .. }) => {
                        let file = file.clone();
                        self.found.files += 1;
                        self.found.reason("there are hard links in it");
                        file
                    }
                    _ => {
                        wrong("it is a hard link of no file before it".into());
                        return Ok(None);
                    }
                }
            }
            MemberKind::CharDevice { .. } | MemberKind::BlockDevice { .. } | MemberKind::Fifo => {
                wrong("it is a device or a pipe".into());
                return Ok(None);
            }
            MemberKind::Other(kind) => {
                wrong(format!("it is of an unknown kind ({:?})", char::from(kind)));
                return Ok(None);
            }
        }))
    }

    /// What stands otherwise than in the normal form.
    fn form(&mut self, member: &Member<'_>, path: &SafePath) {
        let found = &mut *self.found;
        let time = u64::try_from(member.mtime).unwrap_or_default();
        if *self.time.get_or_insert(time) != time {
            found.reason("its entries have several times");
        }
        if member.mtime_nanos != 0 {
            found.reason("times have fractions of seconds");
        }
        if (member.uid, member.gid) != (0, 0) || !member.uname.is_empty() || !member.gname.is_empty() {
            found.reason("entries have an owner: expected 0:0 and no names");
        }
        let mode = match (&member.kind, member.mode & 0o111 != 0) {
            (MemberKind::Symlink { .. }, _) => 0o777,
            (MemberKind::Directory, _) | (_, true) => 0o755,
            (_, false) => 0o644,
        };
        if member.mode != mode {
            found.reason("an entry has another mode than 0644 or 0755");
        }
        if !member.xattrs.is_empty() {
            found.reason("there are extended attributes in it");
        }
        if self.last.as_ref().is_some_and(|last| last >= path) {
            found.reason("its entries are in another order");
        }
        self.last = Some(path.clone());
    }
}

/// The path and all above it.
fn above(path: &SafePath) -> Vec<SafePath> {
    std::iter::successors(Some(path.clone()), SafePath::parent).filter(|path| !path.is_root()).collect()
}

/// Whether a symbolic link leads to something inside the top directory.
fn stays(path: &SafePath, target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") {
        return false;
    }
    // Directories above it, without the top one.
    let mut depth = path.components().count().saturating_sub(2);
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    path.components().count() > 1
}

#[cfg(test)]
#[path = "sdist_tests.rs"]
mod tests;
