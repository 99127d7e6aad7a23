//! ELF files, as far as it takes to say in which sections two of them differ.

use std::collections::BTreeSet;

use crate::inputs::python::elf::{Form, range};

/// How many sections are told by name.
const TOLD: usize = 12;

/// The longest name that is told, and the longest that a compiler gives itself.
const NAME: usize = 64;

/// The most sections that are looked at; compilers' objects may have more, but what is loaded has not.
const SECTIONS: u64 = 4096;

/// A section that has no bytes in the file.
const NOBITS: u64 = 8;

/// The fields of the file header and of section headers, by their places in files of 32 and of 64 bits.
struct Fields {
    /// The size of an offset.
    word: u64,
    table: u64,
    /// The size of a section header; behind it are the number of them, and which of them has the names.
    size: u64,
    offset: u64,
    length: u64,
}

const NARROW: Fields = Fields { word: 4, table: 0x20, size: 0x2e, offset: 0x10, length: 0x14 };
const WIDE: Fields = Fields { word: 8, table: 0x28, size: 0x3a, offset: 0x18, length: 0x20 };

/// The sections of a file, in its order.
struct Sections<'a>(Vec<(String, &'a [u8])>);

/// In what two ELF files differ; nothing when they are none, or differ in no section.
pub(super) fn differences(left: &[u8], right: &[u8]) -> Option<String> {
    let (left, right) = (Sections::of(left)?, Sections::of(right)?);
    let mut differ = Vec::new();
    for (name, content) in &left.0 {
        match right.get(name) {
            Some(other) if other == *content => {}
            Some(_) => differ.push(name.clone()),
            None => differ.push(format!("{name} (is not in the rebuild)")),
        }
    }
    let more = right.0.iter().filter(|(name, _)| left.get(name).is_none());
    differ.extend(more.map(|(name, _)| format!("{name} (is only in the rebuild)")));
    if differ.is_empty() {
        return None;
    }
    let over = differ.len().saturating_sub(TOLD);
    differ.truncate(TOLD);
    if over > 0 {
        differ.push(format!("{over} more"));
    }
    let compilers = match (left.compiler(), right.compiler()) {
        (Some(left), Some(right)) if left != right => format!("; made by {left:?} and by {right:?}"),
        _ => String::new(),
    };
    Some(format!("in its sections {}{compilers}", differ.join(", ")))
}

impl<'a> Sections<'a> {
    fn of(file: &'a [u8]) -> Option<Sections<'a>> {
        let form = Form::of(file)?;
        let fields = if form.wide { WIDE } else { NARROW };
        let number = |at: u64, size: u64| form.number(file, at, size);
        let table = number(fields.table, fields.word)?;
        let [size, count, names] = [0, 2, 4].map(|at| number(fields.size + at, 2));
        let (size, count) = (size?, count?);
        if count > SECTIONS {
            return None;
        }
        let header = |index: u64| table.checked_add(index.checked_mul(size)?);
        let content = |header: u64| {
            let [start, length] =
                [fields.offset, fields.length].map(|at| number(header.checked_add(at)?, fields.word));
            file.get(range(start?, length?)?)
        };
        let names = content(header(names?)?)?;
        let mut sections = Vec::new();
        let mut left = file.len();
        // The first header is that of no section.
        for index in 1..count {
            let header = header(index)?;
            let name = usize::try_from(number(header, 4)?).ok()?;
            let name = names.get(name..)?.iter().take(NAME).take_while(|byte| **byte != 0);
            let name = String::from_utf8_lossy(&name.copied().collect::<Vec<u8>>()).into_owned();
            if number(header.checked_add(4)?, 4)? != NOBITS {
                let content = content(header)?;
                // Where sections lie over one another, it is made to cost time.
                left = left.checked_sub(content.len())?;
                sections.push((name, content));
            }
        }
        let different: BTreeSet<&String> = sections.iter().map(|(name, _)| name).collect();
        (different.len() == sections.len()).then_some(Sections(sections))
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, content)| *content)
    }

    /// What the compiler calls itself: the last of the texts of `.comment`, where linked start files come first.
    fn compiler(&self) -> Option<String> {
        let text = self.get(".comment")?.rsplit(|byte| *byte == 0).find(|text| !text.is_empty())?;
        Some(String::from_utf8_lossy(text.get(..NAME).unwrap_or(text)).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of nothing but these sections, of either size and order of bytes.
    fn elf(wide: bool, large_first: bool, sections: &[(&str, &[u8])]) -> Vec<u8> {
        let fields = if wide { WIDE } else { NARROW };
        let mut all = vec![("", &b""[..])];
        all.extend(sections);
        let names: Vec<u8> =
            all.iter().flat_map(|(name, _)| name.bytes().chain([0])).chain(*b".names\0").collect();
        all.push((".names", &names));
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 1 + u8::from(large_first)]);
        let set = |file: &mut Vec<u8>, at: usize, size: u64, value: usize| {
            let size = size as usize;
            let little = (value as u64).to_le_bytes();
            file[at..at + size].copy_from_slice(&little[..size]);
            if large_first {
                file[at..at + size].reverse();
            }
        };
        let size = if wide { 64 } else { 40 };
        let places: Vec<usize> = all
            .iter()
            .map(|(_, content)| {
                let at = file.len();
                file.extend_from_slice(content);
                at
            })
            .collect();
        let table = file.len();
        file.resize(table + size * all.len(), 0);
        let mut name = 0;
        for (number, (text, content)) in all.iter().enumerate() {
            let header = table + number * size;
            set(&mut file, header, 4, name);
            set(&mut file, header + 4, 4, 1);
            set(&mut file, header + fields.offset as usize, fields.word, places[number]);
            set(&mut file, header + fields.length as usize, fields.word, content.len());
            name += text.len() + 1;
        }
        set(&mut file, fields.table as usize, fields.word, table);
        for (at, value) in [size, all.len(), all.len() - 1].into_iter().enumerate() {
            set(&mut file, fields.size as usize + 2 * at, 2, value);
        }
        file
    }

    const ONE: &[(&str, &[u8])] =
        &[(".text", b"code"), (".data", b"same"), (".comment", b"crt\0GCC: 1\0"), (".old", b"")];
    const OTHER: &[(&str, &[u8])] =
        &[(".text", b"other"), (".new", b"x"), (".data", b"same"), (".comment", b"crt\0GCC: 2\0")];

    #[test]
    fn sections_by_name() {
        for (wide, large_first) in [(true, false), (true, true), (false, false), (false, true)] {
            let [one, other] = [ONE, OTHER].map(|sections| elf(wide, large_first, sections));
            assert_eq!(
                differences(&one, &other).unwrap(),
                "in its sections .text, .comment, .old (is not in the rebuild), .names, .new (is only in the rebuild); made by \
                 \"GCC: 1\" and by \"GCC: 2\""
            );
            assert_eq!(differences(&one, &one), None);
            assert_eq!(differences(&one, b"text"), None);
        }
    }

    #[test]
    fn many_sections() {
        let names: Vec<String> = (0..40).map(|number| format!(".s{number}")).collect();
        let sections = |content: &'static [u8]| {
            let all: Vec<(&str, &[u8])> = names.iter().map(|name| (&**name, content)).collect();
            elf(true, false, &all)
        };
        let told = differences(&sections(b"a"), &sections(b"b")).unwrap();
        assert!(told.ends_with(".s11, 28 more") && told.contains(".s0, "), "{told}");
    }

    #[test]
    fn this_very_program() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        if program.starts_with(b"\x7fELF") {
            let sections = Sections::of(&program).unwrap();
            assert!(sections.get(".text").is_some_and(|text| text.len() > 1000));
            assert!(sections.compiler().is_some());
        }
    }

    /// Whatever is damaged, it ends, and without panic.
    #[test]
    fn damaged_files() {
        let file = elf(true, false, ONE);
        // What stands behind the length in the last header does not matter here.
        for end in 0..file.len() - 64 + WIDE.length as usize + 8 {
            assert!(Sections::of(&file[..end]).is_none(), "{end}");
        }
        for at in 0..file.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let _ = differences(&damaged, &file);
            }
        }
    }
}
