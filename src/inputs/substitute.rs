//! Strings in copied text files, and what is put in their places.
//!
//! A file that holds a NUL byte is no text and stays as it is. In any other, wherever the longest of the strings that stand at a
//! place begins, from the first byte to the last, its value is put; what has been put is not looked at again.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cache::KeyWriter;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// A table of strings and their values.
#[derive(Debug)]
pub struct Substitution {
    /// As given; no string is empty.
    pairs: Vec<Pair>,
    /// The numbers of the pairs whose strings begin with a byte, the longest first.
    starts: Vec<Vec<usize>>,
    longest: usize,
    /// Which strings were found in any text so far.
    found: Vec<AtomicBool>,
}

/// A string, and its value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// What a substitution makes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It stays as it is.
    Same,
    /// It becomes so long.
    Text(u64),
}

impl Substitution {
    /// A table of strings, none of them empty, and their values.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Substitution {
        let pairs =
            pairs.into_iter().map(|(string, value)| (string.as_bytes().into(), value.as_bytes().into()));
        let pairs: Vec<Pair> = pairs.collect();
        let mut starts = vec![Vec::new(); 256];
        for (number, (string, _)) in pairs.iter().enumerate() {
            if let Some(first) = string.first() {
                starts[usize::from(*first)].push(number);
            }
        }
        for numbers in &mut starts {
            numbers.sort_by_key(|number| std::cmp::Reverse(pairs[*number].0.len()));
        }
        let longest = pairs.iter().map(|(string, _)| string.len()).max().unwrap_or(0);
        let found = pairs.iter().map(|_| AtomicBool::new(false)).collect();
        Substitution { pairs, starts, longest, found }
    }

    /// The numbers of the strings that no text held so far.
    pub fn unused(&self) -> Vec<usize> {
        (0..self.found.len()).filter(|number| !self.found[*number].load(Ordering::Relaxed)).collect()
    }

    /// Writes the table into a key.
    pub fn decide(&self, key: &mut KeyWriter) {
        key.number(self.pairs.len() as u64);
        for (string, value) in &self.pairs {
            key.bytes(string);
            key.bytes(value);
        }
    }

    /// Looks through a file, to its end unless it is no text or becomes longer than `most`.
    pub(super) fn look(&self, reader: impl Read, most: u64) -> io::Result<Outcome> {
        let mut replaced = Replaced::new(self, reader);
        let mut out = vec![0; CHUNK];
        let mut size = 0;
        loop {
            let count = replaced.read(&mut out)?;
            if replaced.binary {
                return Ok(Outcome::Same);
            }
            size += count as u64;
            if count == 0 || size > most {
                break;
            }
        }
        for number in replaced.found.iter().enumerate().filter(|(_, found)| **found).map(|(number, _)| number)
        {
            self.found[number].store(true, Ordering::Relaxed);
        }
        Ok(match replaced.found.contains(&true) {
            true => Outcome::Text(size),
            false => Outcome::Same,
        })
    }

    /// The number of the longest string that `bytes` begin with.
    fn at(&self, bytes: &[u8]) -> Option<usize> {
        let numbers = &self.starts[usize::from(*bytes.first()?)];
        numbers.iter().copied().find(|number| bytes.starts_with(&self.pairs[*number].0))
    }
}

/// Reads a file with its strings substituted, whatever is in it.
#[derive(Debug)]
pub struct Replaced<T, R> {
    table: T,
    reader: R,
    buffer: Vec<u8>,
    /// What of the buffer was given.
    given: usize,
    /// The reader has nothing more.
    ended: bool,
    /// A value that is being given, and how much of it was.
    value: Option<(usize, usize)>,
    /// Which strings were found.
    found: Vec<bool>,
    /// There was a NUL byte.
    binary: bool,
}

impl<T: std::ops::Deref<Target = Substitution>, R: Read> Replaced<T, R> {
    pub(super) fn new(table: T, reader: R) -> Replaced<T, R> {
        let found = vec![false; table.pairs.len()];
        Replaced {
            table,
            reader,
            buffer: Vec::new(),
            given: 0,
            ended: false,
            value: None,
            found,
            binary: false,
        }
    }

    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    /// Sees to it that whatever begins at the next byte is in the buffer as a whole.
    fn fill(&mut self) -> io::Result<()> {
        while !self.ended && self.buffer.len() - self.given < self.table.longest.max(1) {
            self.buffer.drain(..self.given);
            self.given = 0;
            let old = self.buffer.len();
            self.buffer.resize(old + CHUNK, 0);
            let count = loop {
                match self.reader.read(&mut self.buffer[old..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.buffer.truncate(old + *count.as_ref().unwrap_or(&0));
            self.ended = count? == 0;
            self.binary |= self.buffer[old..].contains(&0);
        }
        Ok(())
    }
}

impl<T: std::ops::Deref<Target = Substitution>, R: Read> Read for Replaced<T, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((number, from)) = self.value {
                let rest = &self.table.pairs[number].1[from..];
                let count = rest.len().min(out.len());
                out[..count].copy_from_slice(&rest[..count]);
                self.value = (count < rest.len()).then_some((number, from + count));
                if count > 0 || out.is_empty() {
                    return Ok(count);
                }
                continue;
            }
            self.fill()?;
            let bytes = &self.buffer[self.given..];
            // Further on a string may reach beyond the buffer.
            let sure = match self.ended {
                true => bytes.len(),
                false => bytes.len() + 1 - self.table.longest.max(1),
            };
            let most = sure.min(out.len());
            let plain = (0..most).find(|at| self.table.at(&bytes[*at..]).is_some()).unwrap_or(most);
            if plain > 0 || most == 0 {
                out[..plain].copy_from_slice(&bytes[..plain]);
                self.given += plain;
                return Ok(plain);
            }
            if let Some(number) = self.table.at(bytes) {
                self.given += self.table.pairs[number].0.len();
                self.found[number] = true;
                self.value = Some((number, 0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives so many bytes at once.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(out.len());
            self.0.read(&mut out[..most])
        }
    }

    fn replaced(pairs: &[(&str, &str)], text: &[u8], drip: usize) -> Vec<u8> {
        let table = Substitution::new(pairs.iter().copied());
        let mut out = Vec::new();
        Replaced::new(&table, Drip(text, drip)).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn the_longest_at_the_first_place_and_only_once() {
        let pairs = [("amd64", "arm64"), ("arm64", "amd64"), ("linux-amd64", "L"), ("x", ""), ("é", "e")];
        for (text, expected) in [
            ("amd64 arm64", "arm64 amd64"),
            ("linux-amd64 linux-amd6 linux-arm64", "L linu-amd6 linu-amd64"),
            ("xxaxmd64x", "amd64"),
            ("", ""),
            ("amd6", "amd6"),
            ("aamd64amd644", "aarm64arm644"),
            ("café", "cafe"),
        ] {
            for drip in [1, 2, 3, 100] {
                let found = replaced(&pairs, text.as_bytes(), drip);
                assert_eq!(String::from_utf8(found).unwrap(), expected, "{text} {drip}");
            }
        }
        // Bytes that are no UTF-8 are bytes.
        assert_eq!(replaced(&[("a", "b")], b"\xffa\xfe", 1), b"\xffb\xfe");
    }

    #[test]
    fn what_becomes_of_a_file() {
        let table = Substitution::new([("old", "newer"), ("never", "")]);
        let look = |text: &[u8], most| table.look(Drip(text, 7), most).unwrap();
        assert_eq!(look(b"none of them", 100), Outcome::Same);
        let mut late = b"old ".repeat(50_000);
        late.push(0);
        assert_eq!(look(&late, 1 << 20), Outcome::Same);
        assert_eq!(table.unused(), [0, 1], "what is no text counts as nothing");
        assert_eq!(look(b"an old text", 100), Outcome::Text(13));
        assert_eq!(table.unused(), [1]);
        assert!(matches!(look(&b"old".repeat(50_000), 100), Outcome::Text(size) if size > 100));
    }

    proptest! {
        /// Against the plainest way to do it.
        #[test]
        fn as_by_hand(
            text in "[ab]{0,60}",
            pairs in proptest::collection::btree_map("[ab]{1,4}", "[abc]{0,3}", 0..4),
            drip in 1..9usize,
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let mut expected = String::new();
            let mut rest = text.as_str();
            while let Some(next) = rest.chars().next() {
                match pairs.iter().filter(|(old, _)| rest.starts_with(old)).max_by_key(|(old, _)| old.len()) {
                    Some((old, new)) => {
                        expected.push_str(new);
                        rest = &rest[old.len()..];
                    }
                    None => {
                        expected.push(next);
                        rest = &rest[1..];
                    }
                }
            }
            prop_assert_eq!(String::from_utf8(replaced(&pairs, text.as_bytes(), drip)).unwrap(), expected);
        }
    }
}
