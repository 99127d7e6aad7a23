//! A wheel (binary distribution format, PEP 427), read and found to be what it says.
//!
//! Reading looks at the central directory, the local headers and the files of `.dist-info`; all other contents are checked
//! against RECORD when they are read.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::Digest;

use super::filename::WheelName;
use super::name::Name;
use super::record::{self, Sum};
use super::tag::TagSet;
use super::version::{VersionSpecifiers, specifiers, version};
use super::wheel_member::{Member, Opened};
use super::wheel_scripts::{self, Script};
use super::wheel_zip::{self, MemberKind, Place};
use crate::cache::{Cache, KeyWriter, Kind};
use crate::diagnostic::few;
use crate::diagnostic::shown::Short;
use crate::files::{self, Moment, Stamp};
use crate::inputs::files::Project;
use crate::inputs::{InputError, Site};
use crate::limits;

/// A wheel whose names, sizes and metadata are checked.
#[derive(Clone, Debug)]
pub struct Wheel {
    file: Arc<Opened>,
    /// What its file name says, which is what it says inside too.
    pub name: WheelName,
    /// What versions of Python it is for; nothing for all.
    pub requires_python: Option<VersionSpecifiers>,
    /// What it needs, as its METADATA has it (`Requires-Dist`).
    pub requires: Vec<String>,
    /// Its files go where those for every platform go, else where those for one platform go.
    pub(super) pure: bool,
    /// `NAME-VERSION` of its `.dist-info` and `.data`, as it spells them.
    pub(super) stem: String,
    /// Every file but RECORD and what signs it, by its path.
    pub(super) files: BTreeMap<String, WheelFile>,
    /// What is to be found in the folder of programs, by name.
    pub(super) scripts: Vec<Script>,
}

/// A file of a wheel.
#[derive(Clone, Debug)]
pub(super) struct WheelFile {
    pub(super) place: Place,
    /// Somebody may execute it.
    pub(super) executable: bool,
    pub(super) sum: Sum,
}

/// What is wrong with a wheel, without saying which.
#[derive(Debug)]
pub(super) enum Fault {
    /// It cannot be read.
    Read(io::Error),
    /// It is not what it says, or not what it must be.
    Wrong { message: String, source: Option<Box<dyn Error + Send + Sync>> },
}

/// What is wrong, without a further cause.
pub(super) fn fault(message: impl Into<String>) -> Fault {
    Fault::Wrong { message: message.into(), source: None }
}

impl Fault {
    /// What is wrong, and why.
    pub(super) fn caused(message: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Fault {
        Fault::Wrong { message: message.into(), source: Some(Box::new(source)) }
    }

    /// The error about this wheel.
    pub(super) fn of(self, wheel: &Path) -> InputError {
        let path = wheel.to_owned();
        match self {
            Fault::Read(source) => InputError::Io { path, source },
            Fault::Wrong { message, source } => InputError::Wheel { wheel: path, message, source },
        }
    }
}

/// Files of `.dist-info` that say how something was installed: the installer writes them, whatever the wheel has.
pub(super) const INSTALLED: [&str; 3] = ["INSTALLER", "REQUESTED", "direct_url.json"];

/// RECORD and its signatures, which stand in no RECORD. Signatures are of the wheel's own RECORD, not of the installed one.
pub(super) const RECORDS: [&str; 3] = ["RECORD", "RECORD.jws", "RECORD.p7s"];

/// Where wheels of the project are, for any number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Shelf<'a> {
    project: &'a Project,
    cache: Option<&'a Cache>,
    since: Moment,
}

impl<'a> Shelf<'a> {
    /// That of a site.
    pub fn of(site: &Site<'a>) -> Shelf<'a> {
        Shelf { project: site.project, cache: site.cache, since: site.since }
    }

    /// What earlier runs learnt, and since when files may have changed.
    pub(super) fn memory(&self) -> Option<(&'a Cache, Moment)> {
        Some((self.cache?, self.since))
    }

    /// Opens a wheel to read all of it.
    pub fn open(&self, path: &Path) -> Result<File, InputError> {
        self.project.open_wheel(path)
    }
}

impl Wheel {
    /// Reads a wheel of the project. Its digest is remembered from an earlier run when it did not change.
    pub fn of_project(shelf: Shelf<'_>, path: &Path) -> Result<Wheel, InputError> {
        let file = shelf.open(path)?;
        let io = |source| InputError::Io { path: path.to_owned(), source };
        let stamp = Stamp::of_file(&file).map_err(io)?;
        let mut key = KeyWriter::new(Kind::Archive, shelf.since);
        key.bytes(b"digest of a wheel");
        key.stamp(&stamp);
        let memory = key.finish().zip(shelf.cache);
        let known = memory.as_ref().and_then(|(key, cache)| cache.get::<String>(Kind::Archive, key));
        let digest = match known.and_then(|text| text.parse().ok()) {
            Some(digest) => digest,
            None => {
                let digest = files::digest(&file, |_| ()).map_err(io)?;
                if Stamp::of_file(&file).map_err(io)? != stamp {
                    return Err(InputError::Changed(path.to_owned()));
                }
                if let Some((key, cache)) = memory {
                    cache.put(Kind::Archive, &key, &digest.to_string());
                }
                digest
            }
        };
        Wheel::read(file, path.to_owned(), digest)
    }

    /// Reads a wheel. `path` is what messages call it, its last part the file name that the wheel must have; that the
    /// file has the digest is not checked here.
    pub fn read(file: File, path: PathBuf, digest: Digest) -> Result<Wheel, InputError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = WheelName::parse(name)
            .map_err(|why| fault(format!("its name is not that of a wheel: {why}")).of(&path))?;
        let opened = Arc::new(Opened { file, path, digest });
        read(Arc::clone(&opened), name).map_err(|fault| fault.of(&opened.path))
    }

    /// The program of its entry points that has this name.
    pub(super) fn script(&self, name: &str) -> Option<&Script> {
        let found = self.scripts.binary_search_by(|script| script.name.as_str().cmp(name));
        found.ok().map(|at| &self.scripts[at])
    }

    /// Digest of the file.
    pub fn digest(&self) -> &Digest {
        &self.file.digest
    }

    /// The file as the user named it.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Number of bytes of all its files.
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.sum.size).sum()
    }

    /// The content of one of its files.
    pub(super) fn member(&self, name: &str, file: &WheelFile) -> Member {
        Member::new(&self.file, name, file.place, Some(&file.sum))
    }
}

fn read(file: Arc<Opened>, name: WheelName) -> Result<Wheel, Fault> {
    let members = wheel_zip::members(&file.file)?;
    let stem = stem(&members, &name)?;
    let info = format!("{stem}.dist-info/");
    let record = members
        .iter()
        .find(|member| member.name.strip_prefix(&info) == Some("RECORD"))
        .ok_or_else(|| fault(format!("it has no {info}RECORD")))?;
    let record = Member::new(&file, &record.name, record.place, None);
    let record = text(record.read(limits::WHEEL_RECORD_BYTES)?, "RECORD")?;
    let files = recorded(&members, &record, &info)?;

    let part = |part: &str, most| match files.get(&format!("{info}{part}")) {
        None => Ok(None),
        Some(entry) => {
            let member = Member::new(&file, &format!("{info}{part}"), entry.place, Some(&entry.sum));
            text(member.read(most)?, part).map(Some)
        }
    };
    let needed = |part: &str| fault(format!("it has no {info}{part}"));
    let pure = check_wheel(&part("WHEEL", limits::WHEEL_INFO_BYTES)?.ok_or_else(|| needed("WHEEL"))?, &name)?;
    let metadata = part("METADATA", limits::WHEEL_METADATA_BYTES)?.ok_or_else(|| needed("METADATA"))?;
    let (requires_python, requires) = check_metadata(&metadata, &name)?;
    let entry_points = part("entry_points.txt", limits::WHEEL_INFO_BYTES)?;
    let scripts = wheel_scripts::parse(entry_points.as_deref().unwrap_or_default())
        .map_err(|why| fault(format!("its entry_points.txt {why}")))?;
    Ok(Wheel { file, name, requires_python, requires, pure, stem, files, scripts })
}

fn text(bytes: Vec<u8>, part: &str) -> Result<String, Fault> {
    String::from_utf8(bytes).map_err(|source| Fault::caused(format!("its {part} is not UTF-8"), source))
}

/// `NAME-VERSION` as the only `.dist-info` at the top spells it, which says the same as the file name.
fn stem(members: &[wheel_zip::Member], name: &WheelName) -> Result<String, Fault> {
    let top = |member: &wheel_zip::Member| match member.name.split_once('/') {
        Some((top, _)) => Some(top.to_owned()),
        None => (member.kind == MemberKind::Directory).then(|| member.name.to_string()),
    };
    let is_info = |top: &String| top.to_ascii_lowercase().ends_with(".dist-info");
    let mut found: Vec<String> = members.iter().filter_map(top).filter(is_info).collect();
    found.sort();
    found.dedup();
    let info = match &found[..] {
        [] => return Err(fault("it has no .dist-info directory")),
        [info] => info,
        several => {
            return Err(fault(format!("it has several .dist-info directories: {}", few(several.iter()))));
        }
    };
    let stem = info.strip_suffix(".dist-info").unwrap_or_default();
    let same = stem.split_once('-').is_some_and(|(other, number)| {
        Name::parse(other).as_ref() == Some(&name.name) && version(number).as_ref() == Some(&name.version)
    });
    match same {
        true => Ok(stem.to_owned()),
        false => Err(fault(format!("it holds {:?}, which is not what its file name says", Short(info)))),
    }
}

/// Joins members and RECORD, which must name the same files, each once and with its size.
fn recorded(
    members: &[wheel_zip::Member],
    record: &str,
    info: &str,
) -> Result<BTreeMap<String, WheelFile>, Fault> {
    let lines = record::parse(record, members.len())
        .map_err(|why| fault(format!("its RECORD is malformed: {why}")))?;
    let unrecorded = |path: &str| path.strip_prefix(info).is_some_and(|name| RECORDS.contains(&name));
    let mut sums: BTreeMap<String, Option<Sum>> = BTreeMap::new();
    for line in lines {
        if sums.contains_key(&line.path) {
            return Err(fault(format!("its RECORD names {:?} twice", Short(&line.path))));
        }
        sums.insert(line.path, line.content);
    }
    let mut files = BTreeMap::new();
    for member in members {
        let MemberKind::File { executable } = member.kind else { continue };
        let sum = sums.remove(&*member.name);
        if unrecorded(&member.name) {
            continue;
        }
        let Some(Some(sum)) = sum else {
            return Err(fault(format!("{:?} has no hash in its RECORD", Short(&member.name))));
        };
        if sum.size != member.place.size {
            let (found, expected) = (member.place.size, sum.size);
            let name = Short(&member.name);
            return Err(fault(format!("{name:?} has {found} bytes, but RECORD says {expected}")));
        }
        files.insert(member.name.to_string(), WheelFile { place: member.place, executable, sum });
    }
    match sums.keys().find(|path| !unrecorded(path)) {
        Some(path) => Err(fault(format!("its RECORD names {:?}, which is not in it", Short(path)))),
        None => Ok(files),
    }
}

/// Checks WHEEL against the file name; whether the files are for every platform.
pub(super) fn check_wheel(text: &str, name: &WheelName) -> Result<bool, Fault> {
    let wrong = |why: String| fault(format!("its WHEEL {why}"));
    let fields: Vec<(&str, &str)> = headers(text).collect();
    let only = |wanted: &str| one(&fields, wanted).map_err(wrong);
    let number = only("Wheel-Version")?;
    if number.split('.').next() != Some("1") {
        return Err(wrong(format!("is of version {}, and only 1 is known", Short(number))));
    }
    let pure = match only("Root-Is-Purelib")?.to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        other => {
            return Err(wrong(format!("says Root-Is-Purelib: {:?}, expected true or false", Short(other))));
        }
    };
    let mut tags: Vec<String> = Vec::new();
    for (_, tag) in fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case("Tag")) {
        let parts: Vec<&str> = tag.split('-').collect();
        let [python, abi, platform] = parts[..] else {
            return Err(wrong(format!("has the tag {:?}, which is none", Short(tag))));
        };
        // No file name has more.
        if tag.len() > 255 || tags.len() > limits::WHEEL_TAGS {
            return Err(wrong(format!("has too many tags: {:?}", Short(tag))));
        }
        let set = TagSet::new(python, abi, platform)
            .map_err(|why| wrong(format!("has the tag {:?}: {why}", Short(tag))))?;
        tags.extend(set.iter().map(|(python, abi, platform)| format!("{python}-{abi}-{platform}")));
    }
    let mut expected: Vec<String> =
        name.tags.iter().map(|(python, abi, platform)| format!("{python}-{abi}-{platform}")).collect();
    for list in [&mut tags, &mut expected] {
        list.sort();
        list.dedup();
    }
    match tags == expected {
        true => Ok(pure),
        false => Err(wrong(format!(
            "has the tags {}, but the file name says {}",
            few(tags.iter()),
            few(expected.iter())
        ))),
    }
}

/// Checks METADATA against the file name; the versions of Python and the projects that it asks for.
fn check_metadata(text: &str, name: &WheelName) -> Result<(Option<VersionSpecifiers>, Vec<String>), Fault> {
    let wrong = |why: String| fault(format!("its METADATA {why}"));
    let fields: Vec<(&str, &str)> = headers(text).collect();
    let found = one(&fields, "Name").map_err(wrong)?;
    if Name::parse(found).as_ref() != Some(&name.name) {
        return Err(wrong(format!("says the name {:?}, but the file name says {}", Short(found), name.name)));
    }
    let found = one(&fields, "Version").map_err(wrong)?;
    if version(found).as_ref() != Some(&name.version) {
        let found = Short(found);
        return Err(wrong(format!("says the version {found:?}, but the file name says {}", name.version)));
    }
    let is = |wanted: &'static str| move |(field, _): &&(&str, &str)| field.eq_ignore_ascii_case(wanted);
    let requires: Vec<String> =
        fields.iter().filter(is("Requires-Dist")).map(|(_, value)| (*value).to_owned()).collect();
    // They are held for all wheels of an environment together.
    let bytes = requires.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
    if bytes > limits::WHEEL_NEEDS_BYTES {
        return Err(wrong(format!("needs more than {} bytes can tell", limits::WHEEL_NEEDS_BYTES)));
    }
    if !fields.iter().any(|field| is("Requires-Python")(&field)) {
        return Ok((None, requires));
    }
    let python = one(&fields, "Requires-Python").map_err(wrong)?;
    let python = specifiers(python)
        .map_err(|why| wrong(format!("says Requires-Python: {:?}: {}", Short(python), Short(&why))))?;
    Ok((Some(python), requires))
}

/// The fields before the first empty line, without those that continue one.
fn headers(text: &str) -> impl Iterator<Item = (&str, &str)> {
    lines(text)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with([' ', '\t']))
        .filter_map(|line| line.split_once(':'))
        .map(|(field, value)| (field, value.trim()))
}

/// Lines as Python's reader of mail has them: a carriage return alone ends one too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text).filter(|text| !text.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.find(['\n', '\r']).unwrap_or(text.len());
        let (line, behind) = text.split_at(end);
        let behind = behind.strip_prefix("\r\n").or(behind.get(1..)).unwrap_or_default();
        rest = Some(behind).filter(|rest| !rest.is_empty());
        Some(line)
    })
}

/// Whether a name at the top of `site-packages` makes a distribution there, and of another project than this wheel's, or
/// beside its own `.dist-info`.
///
/// Python takes every folder or file with such a name for a distribution, and so for installed, whoever put it there.
pub(super) fn is_foreign(top: &str, stem: &str, project: &Name) -> bool {
    let lower = top.to_ascii_lowercase();
    if lower.ends_with(".dist-info") {
        return top.strip_suffix(".dist-info") != Some(stem);
    }
    let other = lower.strip_suffix(".egg-info");
    other.is_some_and(|other| {
        Name::parse(other.split('-').next().unwrap_or_default()).as_ref() != Some(project)
    })
}

/// The value of a field that must be there once.
fn one<'a>(fields: &[(&str, &'a str)], wanted: &str) -> Result<&'a str, String> {
    let mut all = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(wanted));
    match (all.next(), all.next()) {
        (Some((_, value)), None) => Ok(value),
        (None, _) => Err(format!("has no field {wanted}")),
        _ => Err(format!("has the field {wanted} twice")),
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
pub(super) mod tests;
