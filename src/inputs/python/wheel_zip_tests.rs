//! Zip archives written field by field, each test with one thing wrong.

use std::io::Write as _;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::*;

/// What both headers of a member say.
#[derive(Clone, Debug)]
pub(in crate::inputs::python) struct Header {
    pub(in crate::inputs::python) name: Vec<u8>,
    pub(in crate::inputs::python) flags: u16,
    method: u16,
    crc: u32,
    packed: u32,
    size: u32,
    extra: Vec<u8>,
}

/// A member with everything that is written of it.
#[derive(Clone, Debug)]
pub(in crate::inputs::python) struct Part {
    gap: Vec<u8>,
    local: Header,
    pub(in crate::inputs::python) data: Vec<u8>,
    descriptor: Vec<u8>,
    central: Header,
    made_by: u8,
    mode: u32,
    comment: Vec<u8>,
    /// Instead of where it is.
    offset: Option<u32>,
}

impl Part {
    pub(in crate::inputs::python) fn new(name: &str, content: &[u8], deflate: bool) -> Part {
        let data = match deflate {
            true => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(6));
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            false => content.to_vec(),
        };
        let mut crc = Crc::new();
        crc.update(content);
        let header = Header {
            name: name.as_bytes().to_vec(),
            flags: UTF8,
            method: if deflate { 8 } else { 0 },
            crc: crc.sum(),
            packed: data.len() as u32,
            size: content.len() as u32,
            extra: Vec::new(),
        };
        let mode = if name.ends_with('/') { 0o040_755 } else { 0o100_644 };
        Part {
            gap: Vec::new(),
            local: header.clone(),
            data,
            descriptor: Vec::new(),
            central: header,
            made_by: 3,
            mode,
            comment: Vec::new(),
            offset: None,
        }
    }

    pub(in crate::inputs::python) fn mode(mut self, mode: u32) -> Part {
        self.mode = mode;
        self
    }

    /// Changes both headers.
    fn both(mut self, change: impl Fn(&mut Header)) -> Part {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    /// Sizes behind the data, with the local ones zero.
    fn described(mut self, signature: bool, wide: bool) -> Part {
        self = self.both(|header| header.flags |= DESCRIPTOR);
        let Header { crc, packed, size, .. } = self.central;
        self.local = Header { crc: 0, packed: 0, size: 0, ..self.local };
        if signature {
            self.descriptor.extend(b"PK\x07\x08");
        }
        self.descriptor.extend(crc.to_le_bytes());
        for number in [packed, size] {
            match wide {
                true => self.descriptor.extend(u64::from(number).to_le_bytes()),
                false => self.descriptor.extend(number.to_le_bytes()),
            }
        }
        self
    }
}

/// The end records and what is around them.
#[derive(Clone, Debug, Default)]
struct End {
    /// Between the last member and the central directory.
    before: Vec<u8>,
    /// Between the central directory and the end record.
    between: Vec<u8>,
    zip64: bool,
    comment: Vec<u8>,
    behind: Vec<u8>,
    /// Added to the number of members that the end record gives.
    more: u16,
    disk: u16,
}

pub(in crate::inputs::python) fn zip(parts: &[Part]) -> Vec<u8> {
    with_end(parts, &End::default())
}

fn with_end(parts: &[Part], end: &End) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    let fixed = |out: &mut Vec<u8>, header: &Header| {
        out.extend(header.flags.to_le_bytes());
        out.extend(header.method.to_le_bytes());
        out.extend([0, 0, 0x21, 0]);
        for number in [header.crc, header.packed, header.size] {
            out.extend(number.to_le_bytes());
        }
        out.extend((header.name.len() as u16).to_le_bytes());
        out.extend((header.extra.len() as u16).to_le_bytes());
    };
    for part in parts {
        bytes.extend(&part.gap);
        let offset = part.offset.unwrap_or(bytes.len() as u32);
        bytes.extend(b"PK\x03\x04\x14\0");
        fixed(&mut bytes, &part.local);
        for piece in [&part.local.name, &part.local.extra, &part.data, &part.descriptor] {
            bytes.extend(piece);
        }
        directory.extend(b"PK\x01\x02\x14");
        directory.extend([part.made_by, 0x14, 0]);
        fixed(&mut directory, &part.central);
        directory.extend((part.comment.len() as u16).to_le_bytes());
        directory.extend([0; 4]);
        directory.extend((part.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        for piece in [&part.central.name, &part.central.extra, &part.comment] {
            directory.extend(piece);
        }
    }
    bytes.extend(&end.before);
    let start = bytes.len() as u64;
    let (count, size) = (parts.len() as u16 + end.more, directory.len() as u64);
    bytes.extend(directory);
    bytes.extend(&end.between);
    if end.zip64 {
        let at = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([45, 3, 45, 0]);
        bytes.extend([0; 8]);
        for number in [count.into(), count.into(), size, start] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(at.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
    }
    bytes.extend(b"PK\x05\x06");
    bytes.extend(end.disk.to_le_bytes());
    bytes.extend(end.disk.to_le_bytes());
    let sentinel = |number: u64| if end.zip64 { u32::MAX } else { number as u32 };
    let short = if end.zip64 { u16::MAX } else { count };
    bytes.extend(short.to_le_bytes());
    bytes.extend(short.to_le_bytes());
    bytes.extend(sentinel(size).to_le_bytes());
    bytes.extend(sentinel(start).to_le_bytes());
    bytes.extend((end.comment.len() as u16).to_le_bytes());
    bytes.extend(&end.comment);
    bytes.extend(&end.behind);
    bytes
}

pub(in crate::inputs::python) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn good() -> Vec<Part> {
    vec![
        Part::new("a/", b"", false),
        Part::new("a/one.py", b"print(1)\n", true),
        Part::new("a/zwei-Größe.txt", b"x", false),
        Part::new("run", b"#!python\n", false).mode(0o100_755),
    ]
}

#[track_caller]
fn refused(bytes: &[u8], why: &str) {
    match members(&file(bytes)) {
        Ok(members) => panic!("{members:?} instead of {why:?}"),
        Err(Fault::Read(error)) => panic!("{error} instead of {why:?}"),
        Err(Fault::Wrong { message, source }) => {
            let source = source.map(|source| source.to_string()).unwrap_or_default();
            assert!(format!("{message}: {source}").contains(why), "{message}: {source}, expected {why:?}");
        }
    }
}

#[track_caller]
fn refused_with(change: impl Fn(&mut Vec<Part>), why: &str) {
    let mut parts = good();
    change(&mut parts);
    refused(&zip(&parts), why);
}

#[test]
fn members_are_found() {
    let found = members(&file(&zip(&good()))).unwrap();
    let names: Vec<&str> = found.iter().map(|member| &*member.name).collect();
    assert_eq!(names, ["a", "a/one.py", "a/zwei-Größe.txt", "run"]);
    let kinds = [
        MemberKind::Directory,
        MemberKind::File { executable: false },
        MemberKind::File { executable: false },
        MemberKind::File { executable: true },
    ];
    assert!(found.iter().map(|member| member.kind).eq(kinds));
    assert_eq!((found[1].place.size, found[1].place.deflated), (9, true));
}

#[test]
fn every_form_that_real_writers_have() {
    for (signature, wide) in [(true, false), (false, false), (true, true), (false, true)] {
        let parts: Vec<Part> = good().into_iter().map(|part| part.described(signature, wide)).collect();
        assert_eq!(members(&file(&zip(&parts))).unwrap().len(), 4, "{signature} {wide}");
    }
    let zip64 = End { zip64: true, comment: b"made by hand".to_vec(), ..End::default() };
    assert_eq!(members(&file(&with_end(&good(), &zip64))).unwrap().len(), 4);
    // Python's zipfile, when it is told a size that may be large: ZIP64 sizes in the local header alone.
    let mut part = Part::new("a", b"x", false);
    part.local.extra = [&[1, 0, 16, 0][..], &1u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
    (part.local.packed, part.local.size) = (u32::MAX, u32::MAX);
    assert_eq!(members(&file(&zip(&[part]))).unwrap()[0].place.size, 1);
    // Written on Windows: no modes.
    let mut part = Part::new("a", b"x", false).mode(0);
    part.made_by = 0;
    assert_eq!(members(&file(&zip(&[part]))).unwrap()[0].kind, MemberKind::File { executable: false });
    // Written on Windows by Python's zipfile, which puts the modes there all the same; others put other things there.
    for (mode, executable) in [(0o100_755, true), (0o100_644, false), (0o755, false), (0o010_755, false)] {
        let mut part = Part::new("a", b"x", false).mode(mode);
        part.made_by = 0;
        assert_eq!(
            members(&file(&zip(&[part]))).unwrap()[0].kind,
            MemberKind::File { executable },
            "{mode:o}"
        );
    }
    let mut link = Part::new("a", b"x", false).mode(0o120_777);
    link.made_by = 0;
    refused(&zip(&[link]), "symbolic link");
}

/// ZIP64 sizes that nobody needs are those of the member.
#[test]
fn wide_sizes() {
    let wide = |numbers: &[u64]| {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        [&[1, 0, data.len() as u8, 0][..], &data].concat()
    };
    let (size, packed) = (u64::from(good()[1].central.size), u64::from(good()[1].central.packed));
    let why = "ZIP64 field that gives it other sizes";
    for numbers in [&[size, packed][..], &[size]] {
        let mut parts = good();
        parts[1].central.extra = wide(numbers);
        assert!(members(&file(&zip(&parts))).is_ok(), "{numbers:?}");
    }
    for numbers in [
        &[size + 1, packed][..],
        &[size, packed + 1],
        &[packed, size],
        &[0, 0],
        &[1 << 40],
        &[size, packed, 7],
    ] {
        refused_with(|parts| parts[1].central.extra = wide(numbers), why);
        refused_with(|parts| parts[1].local.extra = wide(numbers), why);
    }
    refused_with(|parts| parts[1].local.extra = wide(&[size]), why);
    let mut parts = good();
    parts[1] = parts[1].clone().described(true, true);
    parts[1].local.extra = wide(&[0, 0]);
    assert!(members(&file(&zip(&parts))).is_ok());
    parts[1].local.extra = wide(&[0, 1]);
    refused(&zip(&parts), why);
}

/// A few members in deep folders are no gigabytes of directories.
#[test]
fn folders_that_nothing_stands_for() {
    let mut size = Implied { own: 1 << 20, ..Implied::default() };
    size.implied = limits::IMPLIED_FREE_BYTES;
    assert!(size.check().is_ok());
    size.implied += 1;
    assert!(size.check().is_err());
    size.own = limits::IMPLIED_FREE_BYTES;
    assert!(size.check().is_ok());
    size.count = limits::WHEEL_MEMBERS + 1;
    assert!(size.check().is_err());
    // 99 folders of some 10 KiB each, so often that the free part is used up.
    let record = |number: usize| Record {
        member: Member {
            name: format!("{number}/{}x", format!("{}/", "d".repeat(200)).repeat(98)).into(),
            kind: MemberKind::File { executable: false },
            place: Place { start: 0, packed: 0, size: 0, crc: 0, deflated: false },
        },
        raw: Box::default(),
        flags: 0,
        method: CompressionMethod::STORE,
        header: 0,
        wayfinder: wayfinder(),
    };
    assert!(check_names(&(0..10).map(record).collect::<Vec<_>>()).is_ok());
    let error = check_names(&(0..100).map(record).collect::<Vec<_>>()).unwrap_err();
    assert!(matches!(error, Fault::Wrong { message, .. } if message.contains("too many directories")));
}

/// Of some member: what a test does not look at.
fn wayfinder() -> ZipArchiveEntryWayfinder {
    let bytes = zip(&good());
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file(&bytes), &mut buffer).unwrap();
    let mut entries = archive.entries(&mut buffer);
    entries.next_entry().unwrap().unwrap().wayfinder()
}

#[test]
fn names() {
    for (name, why) in [
        (&b"../a"[..], "`..` component"),
        (b"/a", "no clean path"),
        (b"a//b", "clean path"),
        (b"./a", "clean path"),
        (b"a/./b", "clean path"),
        (b"", "clean path"),
        (b"a\\b", "backslash"),
        (b"a\nb", "control"),
        (b"a\0b", "NUL"),
        (b"a/.wh.b", ".wh."),
        (b"\xffa", "UTF-8"),
        (&[b'a'; 256], "255 bytes"),
    ] {
        let why = why.strip_prefix("no ").unwrap_or(why);
        refused_with(|parts| parts[3] = parts[3].clone().both(|header| header.name = name.to_vec()), why);
    }
    // Without the flag these bytes are other letters for those who follow the specification.
    refused_with(|parts| parts[2] = parts[2].clone().both(|header| header.flags = 0), "not marked as UTF-8");
    refused_with(|parts| parts.push(Part::new("a/one.py", b"print(2)\n", true)), "is in it twice");
    refused_with(|parts| parts.push(Part::new("A/One.py", b"print(2)\n", true)), "differ only by case");
    refused_with(|parts| parts.push(Part::new("a", b"", false)), "is in it twice");
    refused_with(
        |parts| parts.push(Part::new("A/two.py", b"", false)),
        "\"a\" and \"A\" differ only by case",
    );
    refused_with(|parts| parts.push(Part::new(&"d/".repeat(101), b"", false)), "more than 100 parts");
    refused_with(|parts| parts.push(Part::new("run/x", b"", false)), "\"run\" is a file");
    refused_with(|parts| parts.push(Part::new("RUN/x", b"", false)), "is a file");
}

#[test]
fn kinds() {
    refused_with(|parts| parts[3].mode = 0o120_777, "symbolic link");
    refused_with(|parts| parts[3].mode = 0o010_644, "neither");
    refused_with(|parts| parts[3].mode = 0o040_755, "neither");
    refused_with(|parts| parts[0].mode = 0o100_755, "neither");
    refused_with(|parts| parts[0] = Part::new("a/", b"x", false), "directory with content");
}

#[test]
fn two_views() {
    refused_with(|parts| parts[1].local.name = b"a/two.py".to_vec(), "another name in its local header");
    refused_with(|parts| parts[1].local.method = 0, "another method");
    refused_with(|parts| parts[1].local.flags = 0, "another method or flags");
    refused_with(|parts| parts[1].local.crc ^= 1, "another size or checksum");
    refused_with(|parts| parts[1].local.size += 1, "another size or checksum");
    refused_with(|parts| parts[1].local.crc = 0, "another size or checksum");
    let changed = |at: usize| {
        let mut part = good()[1].clone().described(true, false);
        part.descriptor[at] ^= 1;
        part
    };
    for at in [0, 4, 8, 12] {
        refused_with(|parts| parts[1] = changed(at), "data descriptor that says something else");
    }
    refused_with(
        |parts| {
            parts[1] = parts[1].clone().described(true, false);
            parts[1].descriptor.clear();
        },
        "0 bytes of no member follow",
    );
    let extra = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        move |parts: &mut Vec<Part>| parts[1].central.extra = bytes.clone()
    };
    refused_with(extra(b"up\x05\0\x01abcd"), "second name");
    refused_with(extra(b"\x01\0\0\0\x01\0\0\0"), "sizes twice");
    refused_with(extra(b"\x01\0\x08\0abc"), "cut off");
}

#[test]
fn nothing_hidden() {
    refused_with(|parts| parts[0].gap = b"MZ".to_vec(), "");
    refused_with(|parts| parts[2].gap = b"xx".to_vec(), "2 bytes of no member follow");
    refused_with(|parts| parts[2].offset = Some(0), "");
    refused_with(|parts| parts[1].central.packed = 1000, "");
    let hidden = good()[1].clone();
    let mut bytes = zip(&[hidden]);
    bytes.truncate(bytes.len() - 22 - 46 - 8);
    refused(&with_end(&good(), &End { before: bytes, ..End::default() }), "of no member follow");
    refused(&with_end(&good(), &End { before: vec![0], ..End::default() }), "1 bytes of no member follow");
    refused(&with_end(&good(), &End { between: vec![0], ..End::default() }), "");
    refused(&with_end(&good(), &End { behind: vec![0], ..End::default() }), "1 bytes follow its end");
    refused(&with_end(&good(), &End { more: 1, ..End::default() }), "end record");
    refused(&with_end(&good(), &End { disk: 1, ..End::default() }), "several disks");
    refused(&with_end(&good(), &End { zip64: true, more: 1, ..End::default() }), "end record");
    // Two archives behind each other: from the back the second, from the front the first.
    refused(&[zip(&good()), zip(&good()[..1])].concat(), "");
    // An end record in the comment of another.
    let inner = zip(&[]);
    refused(&with_end(&good(), &End { comment: inner, ..End::default() }), "");
    // A last record whose comment is a ZIP64 locator for readers that look there.
    let mut parts = good();
    parts[3].comment = [&b"PK\x06\x07"[..], &[0; 16]].concat();
    refused(&zip(&parts), "end record");
    refused(b"", "no whole zip");
    refused(&zip(&[]), "");
}

#[test]
fn forms_that_not_everybody_reads() {
    for (flag, why) in [(1, "encrypted"), (1 << 6, "encrypted"), (1 << 13, "encrypted"), (1 << 5, "flags")] {
        refused_with(|parts| parts[1] = parts[1].clone().both(|header| header.flags |= flag), why);
    }
    for method in [9, 12, 14, 93, 99] {
        refused_with(
            |parts| parts[1] = parts[1].clone().both(|header| header.method = method),
            "another method than deflate",
        );
    }
    refused_with(|parts| parts[1] = parts[1].clone().both(|header| header.size = 1 << 20), "cannot have");
    refused_with(|parts| parts[2] = parts[2].clone().both(|header| header.size = 2), "cannot have");
}

/// A reader's own words for an end that comes too early are not those of a user.
#[test]
fn ends_that_come_too_early() {
    let bytes = zip(&good());
    let at = bytes.windows(4).position(|part| part == b"PK\x01\x02").unwrap();
    let mut told = 0;
    for at in at..bytes.len() {
        for value in [0, 0x7f, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let Err(Fault::Wrong { message, source: Some(source) }) = members(&file(&damaged)) else {
                continue;
            };
            let causes =
                std::iter::successors(Some(&*source as &dyn std::error::Error), |cause| cause.source());
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            let early = causes.iter().any(|cause| cause == "it ends too early");
            assert!(!early || causes.len() == 1, "{message}: {causes:?}");
            assert!(!causes.iter().any(|cause| cause.contains("fill whole buffer")), "{message}: {causes:?}");
            told += usize::from(early);
        }
    }
    assert!(told > 0);
}

/// Any damage of one byte is found, or changes nothing that is read: the times, the versions and attributes.
#[test]
fn flipped_bytes() {
    let mut parts = good();
    parts[1] = parts[1].clone().described(true, false);
    let bytes = with_end(&parts, &End { zip64: true, ..End::default() });
    let sound = members(&file(&bytes)).unwrap();
    let mut accepted = 0;
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= bit;
            let Ok(found) = members(&file(&damaged)) else { continue };
            let data =
                sound.iter().any(|m| (m.place.start..m.place.start + m.place.packed).contains(&(at as u64)));
            let executable = |mut member: Member| {
                member.kind = MemberKind::Directory;
                member
            };
            let equal = found.iter().cloned().map(executable).eq(sound.iter().cloned().map(executable));
            assert!(data || equal, "byte {at}");
            accepted += 1;
        }
    }
    assert!(accepted < bytes.len(), "{accepted} of {}", bytes.len() * 2);
}
