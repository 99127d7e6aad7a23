//! The normal form of a wheel.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::Digest;
use dmoci_layers::zip::{ZipTime, ZipWriter};
use rawzip::{CreatorSystem, RECOMMENDED_BUFFER_SIZE, ZipArchive};

use super::Examined;
use super::same::Same;
use crate::inputs::InputError;
use crate::inputs::python::record::{self, Line, Sum};
use crate::inputs::python::wheel::{Fault, RECORDS, Wheel, fault};
use crate::inputs::python::wheel_member::Opened;
use crate::inputs::python::wheel_zip;
use crate::limits;

/// Writes the normal form of a wheel, which must be sound: `.dist-info` behind everything else and RECORD last, each part in the
/// order of the bytes of its names; one time; modes 0644 and 0755; a RECORD of its own with sha256, sorted by the bytes of
/// paths; see [`dmoci_layers::zip`] for the rest. Directories are left out.
///
/// The contents of all files but RECORD are what they were.
pub fn normalise<W: Write>(
    file: File,
    path: &Path,
    digest: Digest,
    time: ZipTime,
    out: W,
) -> Result<W, InputError> {
    let signature = match wheel_zip::members(&file) {
        Ok(members) => members
            .iter()
            .find(|member| {
                RECORDS[1..].iter().any(|name| member.name.ends_with(&format!(".dist-info/{name}")))
            })
            .map(|member| member.name.to_string()),
        Err(wrong) => return Err(wrong.of(path)),
    };
    if let Some(name) = signature {
        let message = format!(
            "{name:?} signs its RECORD, and would sign the new one no more; keep the bytes as they are"
        );
        return Err(fault(message).of(path));
    }
    let wheel = Wheel::read(file, path.to_owned(), digest)?;
    let write = |source| InputError::Scratch { path: PathBuf::from("the normal form of the wheel"), source };
    let zip_error = |error: dmoci_layers::zip::ZipError| match error {
        dmoci_layers::zip::ZipError::Io(source) => write(source),
        error => Fault::caused("it has no normal form", error).of(path),
    };
    let info = format!("{}.dist-info/", wheel.stem);
    let (last, first): (Vec<_>, Vec<_>) = wheel.files.iter().partition(|(name, _)| name.starts_with(&info));
    let mut zip = ZipWriter::new(out, time).map_err(write)?;
    let mut lines = Vec::with_capacity(wheel.files.len() + 1);
    for (name, file) in first.into_iter().chain(last) {
        let content = wheel.member(name, file).read(limits::WHEEL_MEMBER_BYTES);
        let content = content.map_err(|wrong| wrong.of(path))?;
        zip.add(name, file.executable, &content).map_err(zip_error)?;
        lines.push(Line { path: name.clone(), content: Some(Sum::of(&content)) });
    }
    let name = format!("{info}RECORD");
    lines.push(Line { path: name.clone(), content: None });
    zip.add(&name, false, record::write(lines).as_bytes()).map_err(zip_error)?;
    zip.finish().map_err(write)
}

/// Finds out whether a sound wheel has its normal form, and in what it differs.
pub(super) fn form(opened: &Arc<Opened>, path: &Path, found: &mut Examined) -> Result<(), InputError> {
    let io = |source| InputError::Io { path: path.to_owned(), source };
    let time = fields(&opened.file, found).map_err(io)?;
    let file = opened.file.try_clone().map_err(io)?;
    let same = normalise(file, path, opened.digest.clone(), time, Same::new(&opened.file))?;
    if !same.finish().map_err(io)? && found.reasons.is_empty() {
        found.reason("a content is compressed by another encoder, or RECORD is written otherwise");
    }
    Ok(())
}

/// What stands otherwise in the headers than in the normal form; the time of the first member.
fn fields(file: &File, found: &mut Examined) -> io::Result<ZipTime> {
    let damaged = |error: rawzip::Error| io::Error::other(error);
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file.try_clone()?, &mut buffer).map_err(damaged)?;
    let mut entries = archive.entries(&mut buffer);
    let mut time: Option<(u16, u16)> = None;
    let mut before: Option<(u8, Vec<u8>)> = None;
    while let Some(entry) = entries.next_entry().map_err(damaged)? {
        let name = entry.file_path().as_bytes().to_vec();
        if entry.is_dir() {
            found.reason("there are directories in it");
            continue;
        }
        let mut own = [0; 4];
        file.read_exact_at(&mut own, entry.central_directory_offset() + 12)?;
        let own = (u16::from_le_bytes([own[2], own[3]]), u16::from_le_bytes([own[0], own[1]]));
        if *time.get_or_insert(own) != own {
            found.reason("its members have several times");
        }
        let inside = name.iter().position(|&b| b == b'/').map_or(&name[..0], |end| &name[..end]);
        let part = match inside.ends_with(b".dist-info") {
            false => 0,
            true if name.ends_with(b"/RECORD") && name.len() == inside.len() + 7 => 2,
            true => 1,
        };
        let now = (part, name.clone());
        if before.as_ref().is_some_and(|before| *before > now) {
            found.reason(
                "its members are in another order: by the bytes of names, .dist-info and then RECORD last",
            );
        }
        before = Some(now);
        let mode = entry.external_attributes() >> 16;
        if entry.version_made_by().creator_system() != CreatorSystem::UNIX
            || !matches!(mode, 0o100_644 | 0o100_755)
        {
            found.reason("a member has another mode than a file with 0644 or 0755");
        }
        if !entry.extra_fields().remaining_bytes().is_empty() {
            found.reason("there are extra fields in it");
        }
        if !entry.comment().as_bytes().is_empty() {
            found.reason("there are comments in it");
        }
        let utf8 = if name.is_ascii() { 0 } else { 1 << 11 };
        if entry.flags().bits() != utf8 {
            found.reason("a member has other flags: sizes behind the data, say");
        }
    }
    if archive.end_offset() > archive.eocd_offset() + 22 {
        found.reason("there are comments in it");
    }
    let (date, time) = time.unwrap_or_default();
    Ok(ZipTime::from_fields(date, time))
}

#[cfg(test)]
mod tests {
    use super::super::super::wheel::tests::wheel;
    use super::super::super::wheel_zip::tests::file;
    use super::super::wheel::tests::{FILE, files, looked};
    use super::*;

    fn normal(bytes: &[u8], seconds: u64) -> Vec<u8> {
        let digest = Digest::sha256(bytes);
        normalise(file(bytes), Path::new(FILE), digest, ZipTime::of(seconds), Vec::new()).unwrap()
    }

    /// The bytes of rules 1. Do not touch them: a change is a new number.
    #[test]
    fn golden() {
        let bytes = normal(&wheel(&files(), |text| text), 1_700_000_001);
        assert_eq!(
            Digest::sha256(&bytes).to_string(),
            "sha256:68f97cd245cd2bd93b71c29357339069262adea753d855e15ed7bb3cab00bac5"
        );
    }

    #[test]
    fn one_form_whatever_came() {
        let sorted = {
            let mut files = files();
            files.sort();
            files
        };
        let bytes = normal(&wheel(&files(), |text| text), 1_700_000_000);
        assert_eq!(normal(&wheel(&sorted, |text| text.replace('\n', "\r\n")), 1_700_000_000), bytes);
        assert_eq!(normal(&bytes, 1_700_000_000), bytes);
        let found = looked(FILE, &bytes);
        assert_eq!((found.remarks.len(), found.reasons), (0, Vec::<String>::new()));
        let before = wheel_zip::members(&file(&bytes)).unwrap();
        let names: Vec<&str> = before.iter().map(|member| &*member.name).collect();
        let last = "demo_app-1.0.dist-info/";
        let expected = ["demo/__init__.py", "demo/data.txt"].map(str::to_owned).into_iter();
        let expected: Vec<String> =
            expected.chain(["METADATA", "WHEEL", "RECORD"].map(|name| format!("{last}{name}"))).collect();
        assert_eq!(names, expected);
        let other = normal(&bytes, 1_800_000_000);
        assert_ne!(other, bytes);
        assert_eq!(looked(FILE, &other).reasons, Vec::<String>::new());
    }

    #[test]
    fn signed_records_are_kept() {
        let mut files = files();
        files.push(("demo_app-1.0.dist-info/RECORD.jws", b"{}"));
        let bytes = wheel(&files, |text| text);
        let digest = Digest::sha256(&bytes);
        let error = normalise(file(&bytes), Path::new(FILE), digest, ZipTime::of(0), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("signs its RECORD"), "{error}");
    }

    proptest::proptest! {
        /// Whatever the members are called and hold, the form is stable and the contents stay.
        #[test]
        fn normalising_twice_changes_nothing(
            contents in proptest::collection::btree_map("[a-z]{1,4}(/[a-z]{1,4}){0,2}\\.py", proptest::collection::vec(0u8..4, 0..300), 0..8),
            seconds in 0u64..5_000_000_000,
        ) {
            let mut files: Vec<(&str, &[u8])> = files();
            files.extend(contents.iter().map(|(name, content)| (name.as_str(), &content[..])));
            let once = normal(&wheel(&files, |text| text), seconds);
            proptest::prop_assert_eq!(&normal(&once, seconds), &once);
            let found = looked(FILE, &once);
            proptest::prop_assert_eq!((found.remarks.len(), found.reasons), (0, vec![]));
            let opened = Wheel::read(file(&once), FILE.into(), Digest::sha256(&once)).unwrap();
            for (name, content) in &files {
                let read = opened.member(name, &opened.files[*name]).read(1 << 20).unwrap();
                proptest::prop_assert_eq!(&read[..], *content);
            }
        }
    }
}
