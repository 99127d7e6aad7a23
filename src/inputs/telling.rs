//! What few files of an image tell of it: which Python runs there, on which machine, with which C library.
//!
//! Interpreters and libraries are read once, while their layer is, and only what they say of themselves is
//! kept: a few lines. Nothing is ever run.

use std::io::{self, Read};

use dmoci_layers::SafePath;

use crate::limits;

/// How a file is kept whose content matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As it is.
    Whole,
    /// As what [`scan`] finds in it.
    Scanned,
}

/// Whether the content of a file matters, by its path and size.
pub fn keep(path: &SafePath, size: u64) -> Option<Keep> {
    let name = std::str::from_utf8(path.name()).ok()?;
    let parent = path.parent()?;
    let directory = std::str::from_utf8(parent.name()).ok()?;
    let whole = name == "pyvenv.cfg" || name == "patchlevel.h" && directory.starts_with("python3.");
    if whole {
        return (size <= limits::TELLING_BYTES).then_some(Keep::Whole);
    }
    let interpreter = python_minor(name).is_some() || matches!(name, "python" | "python3");
    let python = interpreter && directory == "bin" || name.starts_with("libpython3.") && name.contains(".so");
    let libc = matches!(name, "libc.so.6" | "libc.so")
        || name.starts_with("libc-2.") && name.ends_with(".so")
        || name.starts_with("ld-musl-") && name.ends_with(".so.1")
        || name.starts_with("libc.musl-");
    (size <= limits::SCANNED_BYTES && (python || libc)).then_some(Keep::Scanned)
}

/// Of `python3.12` and `python3.13t` the second number, and whether it is the build without lock.
pub fn python_minor(name: &str) -> Option<(u64, bool)> {
    let number = name.strip_prefix("python3.")?;
    let (number, threaded) = match number.strip_suffix('t') {
        Some(number) => (number, true),
        // Up to Python 3.7 an `m` told of another build option.
        None => (number.strip_suffix('m').unwrap_or(number), false),
    };
    let digits = !number.is_empty() && number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten().map(|minor| (minor, threaded))
}

/// What an ELF file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `e_machine` of the ELF header; nothing when it is no ELF file.
    pub machine: Option<u16>,
    /// The dynamic loader (`PT_INTERP`).
    pub loader: Option<String>,
    /// Texts that are a whole version of Python 3.
    pub pythons: Vec<String>,
    /// Whole versions of Python 3 at the end of longer texts: linkers share ends.
    pub endings: Vec<String>,
    /// The tag of its extension modules, such as `cpython-312-x86_64-linux-gnu`.
    pub soabi: Option<String>,
    /// The version of the GNU C Library that it is.
    pub glibc: Option<String>,
    /// The version of musl that it is.
    pub musl: Option<String>,
}

impl Facts {
    /// One line for each, as [`Facts::parse`] reads them.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| text.push_str(&format!("{key} {value}\n"));
        if let Some(machine) = self.machine {
            line("machine", &machine.to_string());
        }
        let single =
            [("loader", &self.loader), ("soabi", &self.soabi), ("glibc", &self.glibc), ("musl", &self.musl)];
        for (key, value) in single {
            if let Some(value) = value {
                line(key, value);
            }
        }
        self.pythons.iter().for_each(|version| line("python", version));
        self.endings.iter().for_each(|version| line("ending", version));
        text
    }

    /// Reads what [`Facts::to_text`] wrote; lines that are not known say nothing.
    pub fn parse(text: &str) -> Facts {
        let mut facts = Facts::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            let value = value.to_owned();
            match key {
                "machine" => facts.machine = value.parse().ok(),
                "loader" => facts.loader = Some(value),
                "soabi" => facts.soabi = Some(value),
                "glibc" => facts.glibc = Some(value),
                "musl" => facts.musl = Some(value),
                "python" => facts.pythons.push(value),
                "ending" => facts.endings.push(value),
                _ => {}
            }
        }
        facts
    }
}

/// How many bytes of a text are looked at, at its beginning and at its end.
const LOOKED: usize = 512;

/// How many different versions are kept; a file that holds more tells nothing.
const VERSIONS: usize = 8;

/// Reads a file to its end and keeps what it says of itself. The reader bounds how much there is.
pub fn scan(mut reader: impl Read) -> io::Result<Facts> {
    let mut scan = Scan::default();
    let mut buffer = vec![0; 64 << 10];
    // The first buffer holds the ELF header and, nearly always, all program headers.
    let first = fill(&mut reader, &mut buffer)?;
    scan.header(&buffer[..first]);
    scan.take(&buffer[..first]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => scan.take(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(scan.finish())
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[derive(Debug, Default)]
struct Scan {
    facts: Facts,
    at: u64,
    /// Where the name of the loader stands.
    loader: Option<(u64, u64)>,
    loader_name: Vec<u8>,
    /// The first bytes of the text that is being read.
    head: Vec<u8>,
    /// Its last bytes, when it is longer.
    tail: Vec<u8>,
    length: usize,
    is_musl: bool,
    /// Texts that could be the version of musl.
    numbers: Vec<String>,
}

impl Scan {
    /// The machine, and where the loader is named (System V ABI, "ELF Header", "Program Header").
    fn header(&mut self, bytes: &[u8]) {
        let [0x7f, b'E', b'L', b'F', class, order, ..] = bytes else { return };
        let wide = *class == 2;
        let big = *order == 2;
        let number = |at: usize, size: usize| -> Option<u64> {
            let field = bytes.get(at..at.checked_add(size)?)?;
            let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            Some(if big { field.iter().fold(0, fold) } else { field.iter().rev().fold(0, fold) })
        };
        self.facts.machine = number(18, 2).and_then(|machine| machine.try_into().ok());
        let fields = match wide {
            true => (number(32, 8), number(54, 2), number(56, 2)),
            false => (number(28, 4), number(42, 2), number(44, 2)),
        };
        let (Some(table), Some(size), Some(count)) = fields else { return };
        for index in 0..count {
            let Some(at) = index.checked_mul(size).and_then(|at| at.checked_add(table)) else { return };
            let Ok(at) = usize::try_from(at) else { return };
            let Some(kind) = number(at, 4) else { return };
            // PT_INTERP.
            if kind == 3 {
                let (offset, length) = match wide {
                    true => (number(at + 8, 8), number(at + 32, 8)),
                    false => (number(at + 4, 4), number(at + 16, 4)),
                };
                self.loader = offset.zip(length).filter(|(_, length)| *length <= 256);
                return;
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Some((offset, length)) = self.loader {
            let end = offset.saturating_add(length);
            let from = offset.clamp(self.at, self.at + bytes.len() as u64) - self.at;
            let to = end.clamp(self.at, self.at + bytes.len() as u64) - self.at;
            self.loader_name.extend(&bytes[from as usize..to as usize]);
        }
        self.at += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            self.grow(&rest[..end]);
            self.text();
            rest = &rest[end + 1..];
        }
        self.grow(rest);
    }

    /// More of the text that is being read.
    fn grow(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len());
        let room = LOOKED - self.head.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend(head);
        self.tail.extend(&rest[rest.len().saturating_sub(LOOKED)..]);
        if self.tail.len() > LOOKED {
            let over = self.tail.len() - LOOKED;
            self.tail.drain(..over);
        }
    }

    /// The text has an end.
    fn text(&mut self) {
        if self.length >= 5 {
            let whole = self.tail.is_empty();
            let end = if whole { &self.head } else { &self.tail };
            if let Some((version, exact)) = ending_version(end) {
                let list = match exact && whole {
                    true => &mut self.facts.pythons,
                    false => &mut self.facts.endings,
                };
                if !list.contains(&version) && list.len() <= VERSIONS {
                    list.push(version);
                }
            }
            let head = std::str::from_utf8(&self.head[..self.head.len().min(300)]).unwrap_or_default();
            if head.starts_with("musl libc (") {
                self.is_musl = true;
            } else if let Some(banner) = head.strip_prefix("GNU C Library ") {
                let version = banner.lines().next().and_then(|line| line.rsplit_once("version "));
                let version = version.map(|(_, version)| version.trim_end_matches('.'));
                self.facts.glibc = version.filter(|version| is_number(version)).map(str::to_owned);
            } else if whole && head.starts_with("1.") && is_number(head) && self.numbers.len() <= VERSIONS {
                self.numbers.push(head.to_owned());
            } else if whole && head.starts_with(".cpython-3") && head.ends_with(".so") && head.len() < 100 {
                self.facts.soabi = Some(head[1..head.len() - 3].to_owned());
            }
        }
        self.head.clear();
        self.tail.clear();
        self.length = 0;
    }

    fn finish(mut self) -> Facts {
        let name = self.loader_name.split(|byte| *byte == 0).next().unwrap_or_default();
        let plain = name.starts_with(b"/") && name.iter().all(u8::is_ascii_graphic);
        self.facts.loader = plain.then(|| String::from_utf8_lossy(name).into_owned());
        if let (true, [only]) = (self.is_musl, &self.numbers[..]) {
            self.facts.musl = Some(only.clone());
        }
        for list in [&mut self.facts.pythons, &mut self.facts.endings] {
            if list.len() > VERSIONS {
                list.clear();
            }
        }
        self.facts
    }
}

/// `2.36` or `1.2.3`.
fn is_number(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
    (2..=3).contains(&text.split('.').count()) && text.split('.').all(part)
}

/// The whole version of Python 3 that a text ends with, and whether there is nothing before it.
fn ending_version(text: &[u8]) -> Option<(String, bool)> {
    // Such as 3.12.4, 3.13.0rc2, 3.13.0a1+.
    let is_part =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'a' | b'b' | b'r' | b'c' | b'+');
    let length = text.iter().rev().take(24).take_while(|byte| is_part(byte)).count();
    let end = std::str::from_utf8(&text[text.len() - length..]).ok()?;
    let plain = end.strip_suffix('+').unwrap_or(end);
    let mut parts = plain.split('.');
    let (first, minor, micro) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    let count = micro.bytes().take_while(u8::is_ascii_digit).count();
    let (micro, level) = micro.split_at(count);
    let stage = ["rc", "a", "b"].iter().find_map(|name| level.strip_prefix(name));
    let good = first == "3" && digits(minor) && digits(micro) && parts.next().is_none();
    let good = good && (level.is_empty() || stage.is_some_and(digits));
    good.then(|| (end.to_owned(), length == text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn which_files() {
        for (name, expected) in [
            ("usr/bin/python3.11", Some(Keep::Scanned)),
            ("usr/local/bin/python3.13t", Some(Keep::Scanned)),
            ("opt/x/bin/python3", Some(Keep::Scanned)),
            ("usr/lib/python3.11", None),
            ("usr/bin/python3.11-config", None),
            ("usr/bin/python3.x", None),
            ("usr/bin/pydoc3.11", None),
            ("usr/local/lib/libpython3.12.so.1.0", Some(Keep::Scanned)),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", Some(Keep::Scanned)),
            ("lib/x86_64-linux-gnu/libc-2.31.so", Some(Keep::Scanned)),
            ("lib/ld-musl-aarch64.so.1", Some(Keep::Scanned)),
            ("usr/lib/libcap.so.2", None),
            ("opt/app/.venv/pyvenv.cfg", Some(Keep::Whole)),
            ("usr/include/python3.12/patchlevel.h", Some(Keep::Whole)),
            ("usr/include/perl/patchlevel.h", None),
            ("libc.so.6", Some(Keep::Scanned)),
        ] {
            assert_eq!(keep(&path(name), 10), expected, "{name}");
        }
        assert_eq!(keep(&path("a/pyvenv.cfg"), 1 << 30), None);
        assert_eq!(keep(&path("a/libc.so.6"), 1 << 40), None);
        assert_eq!(
            (python_minor("python3.13t"), python_minor("python3.6m")),
            (Some((13, true)), Some((6, false)))
        );
    }

    /// A 64-bit ELF file with one program header and these texts.
    fn elf(machine: u16, loader: &str, texts: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 3;
        let at = 64 + 56 + 70_000u64;
        bytes[72..80].copy_from_slice(&at.to_le_bytes());
        bytes[96] = loader.len() as u8 + 1;
        bytes.extend(vec![b'x'; 70_000]);
        for text in [&[loader], texts].concat() {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn what_is_found() {
        let banner = "GNU C Library (Debian GLIBC 2.36-9+deb12u4) stable release version 2.36.\nCopyright";
        let long = format!("{}/Python-3.12.4", "y".repeat(3000));
        let texts = [
            "3.12.4",
            "a3.12.5",
            "/opt/3.13.0rc2",
            &long,
            banner,
            ".cpython-312-x86_64-linux-gnu.so",
            "1.2.13",
            "13.12.1",
            "3.12",
            "3.1.2.3",
        ];
        let facts = scan(&elf(62, "/lib64/ld-linux-x86-64.so.2", &texts)[..]).unwrap();
        assert_eq!(
            facts,
            Facts {
                machine: Some(62),
                loader: Some("/lib64/ld-linux-x86-64.so.2".into()),
                pythons: vec!["3.12.4".into()],
                endings: vec!["3.13.0rc2".into(), "3.12.4".into()],
                soabi: Some("cpython-312-x86_64-linux-gnu".into()),
                glibc: Some("2.36".into()),
                musl: None,
            }
        );
        assert_eq!(Facts::parse(&facts.to_text()), facts);
        let musl = scan(&elf(183, "", &["1.2.5", "musl libc (aarch64)\nVersion %s\n"])[..]).unwrap();
        assert_eq!((musl.musl.as_deref(), musl.loader, musl.machine), (Some("1.2.5"), None, Some(183)));
        let two = scan(&elf(183, "", &["1.2.5", "1.1.4", "musl libc ("])[..]).unwrap();
        assert_eq!(two.musl, None);
        let many: Vec<String> = (0..20).map(|micro| format!("3.12.{micro}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(scan(&elf(62, "", &many)[..]).unwrap().pythons.is_empty());
        assert_eq!(scan(&b"#!/bin/sh\n"[..]).unwrap(), Facts::default());
    }

    #[test]
    fn damaged_headers_are_survived() {
        let good = elf(62, "/lib/ld.so", &["3.12.4"]);
        for end in 0..130 {
            scan(&good[..end]).unwrap();
        }
        for at in 4..130 {
            for byte in [0, 1, 2, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                scan(&bytes[..]).unwrap();
            }
        }
    }
}
