//! ELF files, as far as it takes to tell what they need of a system that loads them (System V ABI, "Dynamic Linking"; Linux
//! Standard Base, "Symbol Versioning").
//!
//! Of a file only a few places are read, all of them bounded. One that is not as it must be tells nothing.

use std::ops::Range;

/// The most program headers, entries of the dynamic section, and versions of symbols that are looked at.
const HEADERS: u64 = 512;
const DYNAMIC: u64 = 4096;
const VERSIONS: usize = 4096;

/// The longest name of a library or a version; no loader takes longer ones of a file.
const NAME: u64 = 255;

/// What a library's versions of symbols may take: some libraries name thousands.
const VERSION_BYTES: u64 = 256 << 10;

/// How numbers stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Of 64 bits; else of 32.
    pub wide: bool,
    large_first: bool,
}

impl Form {
    /// Of a file that begins with these bytes; nothing when that is none.
    pub fn of(head: &[u8]) -> Option<Form> {
        let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] = head else { return None };
        Some(Form { wide: *class == 2, large_first: *order == 2 })
    }

    /// The number of so many bytes at a place.
    pub fn number(self, bytes: &[u8], at: u64, size: u64) -> Option<u64> {
        let bytes = bytes.get(range(at, size)?)?;
        let add = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(match self.large_first {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        })
    }
}

/// A range of a slice.
pub fn range(start: u64, length: u64) -> Option<Range<usize>> {
    Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(length)?).ok()?)
}

/// What a program or a library needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The libraries that it names (`DT_NEEDED`).
    pub libraries: Vec<String>,
    /// The latest version of the GNU C Library that it names.
    pub glibc: Option<(u32, u32)>,
}

impl Needs {
    /// Reads them. `collect` gives what stands at these places, in this order, each as far as the file goes; it is asked a few
    /// times. Nothing of what is no ELF file, is damaged, or is linked to nothing.
    pub fn read<E>(
        mut collect: impl FnMut(&[Range<u64>]) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Option<Needs>, E> {
        let mut one =
            |range: Range<u64>| collect(&[range]).map(|found| found.into_iter().next().unwrap_or_default());
        let head = one(0..64)?;
        let Some(header) = Header::of(&head) else { return Ok(None) };
        let Some(segments) = header.segments(&one(header.table.clone())?) else { return Ok(None) };
        let Some(dynamic) = segments.dynamic(header.form, &one(segments.dynamic.clone())?) else {
            return Ok(None);
        };
        let versions = match dynamic.versions.clone() {
            Some(at) => one(at)?,
            None => Vec::new(),
        };
        let versions = version_names(header.form, &versions, dynamic.version_count);
        let text = |offset: &u64| {
            let start = dynamic.texts.start.saturating_add(*offset).min(dynamic.texts.end);
            start..start.saturating_add(NAME + 1).min(dynamic.texts.end)
        };
        let places: Vec<Range<u64>> = dynamic.needed.iter().chain(&versions).map(text).collect();
        let texts = collect(&places)?;
        let texts: Vec<Option<String>> = texts.iter().map(|bytes| name(bytes)).collect();
        let (libraries, versions) = texts.split_at_checked(dynamic.needed.len()).unwrap_or_default();
        let glibc = versions.iter().flatten().filter_map(|version| glibc(version)).max();
        Ok(Some(Needs { libraries: libraries.iter().flatten().cloned().collect(), glibc }))
    }
}

/// What the file header says.
struct Header {
    form: Form,
    /// Where the program headers are, and the size of one.
    table: Range<u64>,
    size: u64,
}

impl Header {
    fn of(head: &[u8]) -> Option<Header> {
        let form = Form::of(head)?;
        let number = |at, size| form.number(head, at, size);
        let (start, size, count) = match form.wide {
            true => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
            false => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
        };
        let least = if form.wide { 56 } else { 32 };
        if count > HEADERS || size < least || size > 1024 {
            return None;
        }
        let table = start..start.checked_add(size * count)?;
        Some(Header { form, table, size })
    }

    fn segments(&self, table: &[u8]) -> Option<Segments> {
        let mut segments = Segments { loaded: Vec::new(), dynamic: 0..0 };
        for at in (0..table.len() as u64).step_by(usize::try_from(self.size).ok()?) {
            let number = |narrow: u64, wide: u64, size: (u64, u64)| match self.form.wide {
                true => self.form.number(table, at + wide, size.1),
                false => self.form.number(table, at + narrow, size.0),
            };
            let word = (4, 8);
            let kind = number(0, 0, (4, 4))?;
            let (offset, address, length) =
                (number(4, 8, word)?, number(8, 16, word)?, number(16, 32, word)?);
            match kind {
                // PT_LOAD.
                1 => segments.loaded.push((address, offset, length)),
                // PT_DYNAMIC.
                2 => segments.dynamic = offset..offset.checked_add(length.min(DYNAMIC * 16))?,
                _ => {}
            }
        }
        (!segments.dynamic.is_empty()).then_some(segments)
    }
}

/// What the program headers say.
struct Segments {
    /// Address, place in the file, and length.
    loaded: Vec<(u64, u64, u64)>,
    dynamic: Range<u64>,
}

/// What the dynamic section says.
struct Dynamic {
    /// Places of names of libraries, from the beginning of all texts.
    needed: Vec<u64>,
    texts: Range<u64>,
    versions: Option<Range<u64>>,
    version_count: u64,
}

impl Segments {
    /// Where in the file something is that has an address.
    fn place(&self, address: u64) -> Option<u64> {
        let (start, offset, _) = self
            .loaded
            .iter()
            .find(|(start, _, length)| address.checked_sub(*start).is_some_and(|at| at < *length))?;
        offset.checked_add(address - start)
    }

    fn dynamic(&self, form: Form, bytes: &[u8]) -> Option<Dynamic> {
        let word = if form.wide { 8 } else { 4 };
        let (mut needed, mut texts, mut length, mut versions, mut version_count) =
            (Vec::new(), None, None, None, 0);
        for at in (0..bytes.len() as u64).step_by(2 * word as usize) {
            let (Some(tag), Some(value)) =
                (form.number(bytes, at, word), form.number(bytes, at + word, word))
            else {
                break;
            };
            match tag {
                0 => break,
                1 => needed.push(value),
                5 => texts = Some(value),
                10 => length = Some(value),
                0x6fff_fffe => versions = Some(value),
                0x6fff_ffff => version_count = value,
                _ => {}
            }
        }
        let start = self.place(texts?)?;
        let versions = match versions {
            Some(address) => {
                let start = self.place(address)?;
                Some(start..start.checked_add(VERSION_BYTES)?)
            }
            None => None,
        };
        Some(Dynamic { needed, texts: start..start.checked_add(length?)?, versions, version_count })
    }
}

/// The places of the names of versions (`Elfxx_Verneed`, `Elfxx_Vernaux`: the same for both sizes).
fn version_names(form: Form, bytes: &[u8], count: u64) -> Vec<u64> {
    let mut names = Vec::new();
    let mut at = 0u64;
    for _ in 0..count {
        let number = |from: u64, offset: u64, size| form.number(bytes, from.checked_add(offset)?, size);
        let (Some(names_here), Some(first), Some(next)) =
            (number(at, 2, 2), number(at, 8, 4), number(at, 12, 4))
        else {
            break;
        };
        let mut name = at.saturating_add(first);
        for _ in 0..names_here {
            let (Some(text), Some(next)) = (number(name, 8, 4), number(name, 12, 4)) else { break };
            if names.len() == VERSIONS {
                return names;
            }
            names.push(text);
            if next == 0 {
                break;
            }
            name = name.saturating_add(next);
        }
        if next == 0 {
            break;
        }
        at = at.saturating_add(next);
    }
    names
}

/// A name that ends with a zero and can be shown.
fn name(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = &bytes[..end];
    let plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    plain.then(|| String::from_utf8_lossy(name).into_owned())
}

/// The version of the GNU C Library that a version of symbols stands for.
fn glibc(version: &str) -> Option<(u32, u32)> {
    let number = match version.strip_prefix("GLIBC_")? {
        // What packs relocations (`DT_RELR`) asks for the first loader that can unpack them.
        "ABI_DT_RELR" => return Some((2, 36)),
        number => number,
    };
    let mut parts =
        number.split('.').map(|part| (part.len() <= 4).then(|| part.parse::<u32>().ok()).flatten());
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::super::elf_sample::elf;
    use super::*;

    /// What stands at these places of bytes.
    fn collected(bytes: &[u8]) -> impl FnMut(&[Range<u64>]) -> Result<Vec<Vec<u8>>, ()> + '_ {
        |places| {
            let part = |place: &Range<u64>| {
                let end = (bytes.len() as u64).min(place.end);
                bytes[place.start.min(end) as usize..end as usize].to_vec()
            };
            Ok(places.iter().map(part).collect())
        }
    }

    fn needs(bytes: &[u8]) -> Option<Needs> {
        Needs::read(collected(bytes)).unwrap()
    }

    #[test]
    fn what_is_needed() {
        for (wide, large_first) in [(true, false), (true, true), (false, false), (false, true)] {
            let file = elf(
                (wide, large_first),
                &["libc.so.6", "libstdc++.so.6"],
                &["GLIBC_2.2.5", "GLIBC_2.38", "GLIBC_PRIVATE", "GLIBCXX_3.4.30"],
            );
            let found = needs(&file).unwrap();
            assert_eq!(found.libraries, ["libc.so.6", "libstdc++.so.6"]);
            assert_eq!(found.glibc, Some((2, 38)));
        }
        let file = elf((true, false), &["libc.so"], &[]);
        assert_eq!(needs(&file), Some(Needs { libraries: vec!["libc.so".into()], glibc: None }));
        assert_eq!(glibc("GLIBC_ABI_DT_RELR"), Some((2, 36)));
        assert_eq!((needs(b"#!/bin/sh\n"), needs(b"")), (None, None));
    }

    /// The system's own compiler and linker agree about what they link, where they are there.
    #[test]
    fn this_very_program() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = needs(&file).unwrap();
        assert!(found.libraries.iter().any(|library| library.starts_with("libc.")), "{found:?}");
    }

    #[test]
    fn damage_is_survived() {
        let good = elf((true, false), &["libc.so.6"], &["GLIBC_2.38"]);
        for end in 0..good.len() {
            needs(&good[..end]);
        }
        for at in 0..good.len() {
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                if let Some(found) = needs(&bytes) {
                    assert!(found.libraries.len() <= DYNAMIC as usize);
                }
            }
        }
    }
}
