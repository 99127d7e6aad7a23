//! Sorts any number of records in bounded memory: runs that fit are sorted and written, and merged when they are read.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::path::Path;

use super::InputError;
use super::records::{RecordReader, RecordWriter, Records};

/// How much is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of the records of one run, with a few more for each.
    pub(super) run: usize,
    /// How many runs become one: so many are read at the same time, for each power of this that there are runs.
    pub(super) runs: usize,
}

impl Room {
    /// Runs of 8 MiB: some 80,000 paths. 48 of them become one of 384 MiB, and so on.
    pub(super) const USUAL: Room = Room { run: 8 << 20, runs: 48 };
}

/// Key and value.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Takes records in any order. Those with equal keys stay in the order in which they came.
pub(super) struct Sorter {
    room: Room,
    /// Keys and values of the present run, one behind another.
    bytes: Vec<u8>,
    /// Where they begin, and how long key and value are.
    index: Vec<(u32, u32, u32)>,
    out: RecordWriter,
    /// Runs that are written; those of each level are of about that power of [`Room::runs`].
    levels: Vec<Vec<Range<u64>>>,
}

impl Sorter {
    /// Runs go to a nameless file on the file system of this directory.
    pub(super) fn new(directory: &Path, room: Room) -> Result<Sorter, InputError> {
        let out = RecordWriter::new(directory)?;
        Ok(Sorter { room, bytes: Vec::new(), index: Vec::new(), out, levels: Vec::new() })
    }

    /// Adds a record.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), InputError> {
        let each = size_of::<(u32, u32, u32)>();
        let held = self.bytes.len() + self.index.len() * each;
        if !self.index.is_empty() && held + key.len() + value.len() + each > self.room.run {
            self.write_run()?;
        }
        let lengths = (u32::try_from(key.len()), u32::try_from(value.len()));
        let (Ok(start), (Ok(key_length), Ok(value_length))) = (u32::try_from(self.bytes.len()), lengths)
        else {
            return Err(self.out.so_far()?.damaged());
        };
        self.index.push((start, key_length, value_length));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// All records, in order.
    pub(super) fn finish(mut self) -> Result<Sorted, InputError> {
        self.write_run()?;
        // What was written first comes first among equals, and that is what has been merged most.
        let runs: Vec<Range<u64>> = self.levels.iter().rev().flatten().cloned().collect();
        Sorted::new(&self.out.so_far()?, &runs)
    }

    fn write_run(&mut self) -> Result<(), InputError> {
        if self.index.is_empty() {
            return Ok(());
        }
        let (bytes, mut index) = (&self.bytes, std::mem::take(&mut self.index));
        let key = |&(start, key, _): &(u32, u32, u32)| &bytes[start as usize..][..key as usize];
        index.sort_by(|a, b| key(a).cmp(key(b)));
        let start = self.out.size();
        for record in &index {
            let value = &bytes[(record.0 + record.1) as usize..][..record.2 as usize];
            self.out.append(key(record), value)?;
        }
        index.clear();
        self.index = index;
        self.bytes.clear();
        self.push(0, start..self.out.size())
    }

    /// Adds a run to a level. A full one becomes one run of the next.
    fn push(&mut self, level: usize, run: Range<u64>) -> Result<(), InputError> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
        if self.levels[level].len() < self.room.runs.max(2) {
            return Ok(());
        }
        let runs = std::mem::take(&mut self.levels[level]);
        let mut sorted = Sorted::new(&self.out.so_far()?, &runs)?;
        let start = self.out.size();
        while let Some((key, value)) = sorted.next()? {
            self.out.append(key, value)?;
        }
        self.push(level + 1, start..self.out.size())
    }
}

/// Records in the order of their keys.
pub(super) struct Sorted {
    runs: Vec<RecordReader>,
    heads: BinaryHeap<Head>,
    /// Whether the first of the heads was given.
    given: bool,
}

/// The next record of a run.
struct Head {
    key: Vec<u8>,
    value: Vec<u8>,
    run: usize,
}

impl Sorted {
    fn new(records: &Records, runs: &[Range<u64>]) -> Result<Sorted, InputError> {
        let mut sorted = Sorted { runs: Vec::new(), heads: BinaryHeap::new(), given: false };
        for (run, part) in runs.iter().enumerate() {
            let mut reader = records.read_part(part.clone());
            let (mut key, mut value) = (Vec::new(), Vec::new());
            if reader.next(&mut key, &mut value)? {
                sorted.heads.push(Head { key, value, run });
            }
            sorted.runs.push(reader);
        }
        Ok(sorted)
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, InputError> {
        if self.given
            && let Some(mut first) = self.heads.peek_mut()
        {
            let Head { key, value, run } = &mut *first;
            if !self.runs[*run].next(key, value)? {
                PeekMut::pop(first);
            }
        }
        self.given = true;
        Ok(self.heads.peek().map(|head| (&head.key[..], &head.value[..])))
    }
}

impl Ord for Head {
    /// Reversed, since a heap gives its greatest; of equal keys the earlier run comes first.
    fn cmp(&self, other: &Head) -> Ordering {
        other.key.cmp(&self.key).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any number of runs and levels gives what a stable sort in memory gives.
        #[test]
        fn sorts_stably(
            keys in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..4), 0..400),
            run in 1usize..300,
            runs in 2usize..5,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(directory.path(), Room { run, runs }).unwrap();
            let mut expected: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for (number, key) in keys.into_iter().enumerate() {
                let value = number.to_string().into_bytes();
                sorter.add(&key, &value).unwrap();
                expected.push((key, value));
            }
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            let mut sorted = sorter.finish().unwrap();
            for (key, value) in &expected {
                prop_assert_eq!(sorted.next().unwrap(), Some((&key[..], &value[..])));
            }
            prop_assert_eq!(sorted.next().unwrap(), None);
            prop_assert_eq!(sorted.next().unwrap(), None);
        }
    }

    /// Memory is that of one run, whatever is added.
    #[test]
    fn holds_one_run() {
        let directory = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(directory.path(), Room { run: 1000, runs: 3 }).unwrap();
        for number in 0..10_000u32 {
            sorter.add(&number.reverse_bits().to_be_bytes(), b"value").unwrap();
            assert!(sorter.bytes.capacity() < 2048 && sorter.index.capacity() < 128);
        }
        assert!(sorter.levels.len() > 3 && sorter.levels.iter().all(|runs| runs.len() < 3));
        let mut sorted = sorter.finish().unwrap();
        let mut count = 0;
        let mut last = Vec::new();
        while let Some((key, _)) = sorted.next().unwrap() {
            assert!(count == 0 || *key > *last);
            last = key.to_vec();
            count += 1;
        }
        assert_eq!(count, 10_000);
    }
}
