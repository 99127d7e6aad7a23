//! Two layers, path by path.

use std::cmp::Ordering;

use dmoci_layers::SafePath;
use dmoci_layers::untar::MemberKind;

use super::entries::{Entries, Found, Stop, order};
use super::fields;
use super::report::{Counts, Difference, Field, LayerPlace, Part, Sink};
use super::value::text;

/// How many bytes of each content are shown from the first that differs.
const SAMPLE: usize = 16;

/// Goes through two layers side by side.
pub(super) struct Merge<'a> {
    image: &'a str,
    place: &'a LayerPlace,
    pub(super) sink: Sink,
    pub(super) counts: Counts,
    /// The first path whose headers differ though they say the same: told when nothing else is.
    pub(super) form: Option<Difference>,
    /// The directory that is on one side only, with everything below it.
    alone: Option<Alone>,
    buffers: (Vec<u8>, Vec<u8>),
}

struct Alone {
    on_left: bool,
    path: SafePath,
    /// Its position among the differences, when it is told.
    position: Option<usize>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(image: &'a str, place: &'a LayerPlace, sink: Sink) -> Merge<'a> {
        let buffers = (vec![0; 64 << 10], vec![0; 64 << 10]);
        Merge { image, place, sink, counts: Counts::default(), form: None, alone: None, buffers }
    }

    /// Compares all entries.
    pub(super) fn run(&mut self, left: &mut dyn Entries, right: &mut dyn Entries) -> Result<(), Stop> {
        let (mut l, mut r) = (left.next()?, right.next()?);
        loop {
            let next = match (&l, &r) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(l), Some(r)) => order(&l.path, &r.path).then(l.number.cmp(&r.number)),
            };
            if let (Ordering::Equal, Some(own), Some(other)) = (next, &l, &r) {
                self.both(own, other, left, right)?;
            }
            if let (Ordering::Less, Some(own)) = (next, &l) {
                self.only(own, true);
            }
            if let (Ordering::Greater, Some(own)) = (next, &r) {
                self.only(own, false);
            }
            if next != Ordering::Greater {
                l = left.next()?;
            }
            if next != Ordering::Less {
                r = right.next()?;
            }
        }
        Ok(())
    }

    /// A path that is on one side only. What lies in a directory that is told already is counted there.
    fn only(&mut self, found: &Found, on_left: bool) {
        match on_left {
            true => self.counts.removed += 1,
            false => self.counts.added += 1,
        }
        if let Some(alone) = &self.alone
            && alone.on_left == on_left
            && found.path.starts_with(&alone.path)
        {
            if let Some(told) = alone.position.and_then(|position| self.sink.list.get_mut(position)) {
                told.below += 1;
            }
            return;
        }
        let what = Some(fields::kind(found).to_owned());
        let (left, right) = if on_left { (what, None) } else { (None, what) };
        let position = self.add(&found.path, Field::Presence, left, right, None);
        if found.kind == MemberKind::Directory && !found.path.is_root() {
            self.alone = Some(Alone { on_left, path: found.path.clone(), position });
        }
    }

    fn both(
        &mut self,
        l: &Found,
        r: &Found,
        left: &mut dyn Entries,
        right: &mut dyn Entries,
    ) -> Result<(), Stop> {
        let before = self.sink.total();
        for (field, left, right) in fields::compare(l, r) {
            self.add(&l.path, field, left, right, None);
        }
        let content = |found: &Found| matches!(found.kind, MemberKind::File | MemberKind::Other(_));
        if content(l)
            && content(r)
            && let Some((offset, left, right)) = self.content(left, right)?
        {
            self.add(&l.path, Field::Content, Some(left), Some(right), Some(offset));
        }
        if self.sink.total() > before {
            self.counts.changed += 1;
        } else if self.form.is_none()
            && !l.header.is_empty()
            && !r.header.is_empty()
            && let Some(same) = first_in_headers(&l.header, &r.header)
        {
            let shown = |header: &[u8]| {
                let rest = header.get(same..).unwrap_or_default();
                Some(format!("\"{}\"", text(&rest[..rest.len().min(SAMPLE)])))
            };
            let (left, right) = (shown(&l.header), shown(&r.header));
            self.form = Some(self.difference(&l.path, Field::Form, left, right, Some(same as u64)));
        }
        Ok(())
    }

    /// The first byte in which the contents of the current entries differ, and what stands there.
    fn content(
        &mut self,
        left: &mut dyn Entries,
        right: &mut dyn Entries,
    ) -> Result<Option<(u64, String, String)>, Stop> {
        let (a, b) = (&mut self.buffers.0, &mut self.buffers.1);
        let mut offset = 0;
        loop {
            let (n, m) = (fill(left, a)?, fill(right, b)?);
            let same = a[..n].iter().zip(&b[..m]).take_while(|(l, r)| l == r).count();
            if same < n.max(m) {
                let left = sample(left, &a[same.min(n)..n], n == a.len())?;
                let right = sample(right, &b[same.min(m)..m], m == b.len())?;
                return Ok(Some((offset + same as u64, left, right)));
            }
            if n < a.len() {
                return Ok(None);
            }
            offset += n as u64;
        }
    }

    fn add(
        &mut self,
        path: &SafePath,
        field: Field,
        left: Option<String>,
        right: Option<String>,
        offset: Option<u64>,
    ) -> Option<usize> {
        self.sink.add(self.difference(path, field, left, right, offset))
    }

    fn difference(
        &self,
        path: &SafePath,
        field: Field,
        left: Option<String>,
        right: Option<String>,
        offset: Option<u64>,
    ) -> Difference {
        let part = Part::Path(self.place.clone(), path.clone());
        let image = Some(self.image.to_owned());
        Difference { image, part, field, left, right, offset, below: 0 }
    }
}

/// The first byte in which headers differ; those of checksums, which follow from others, only when there is no other.
fn first_in_headers(left: &[u8], right: &[u8]) -> Option<usize> {
    let differ = |&at: &usize| left.get(at) != right.get(at);
    let checksum = |at: &usize| (148..156).contains(&(at % 512));
    let mut all = 0..left.len().max(right.len());
    all.clone().find(|at| differ(at) && !checksum(at)).or_else(|| all.find(differ))
}

/// Reads until the buffer is full or the content ends.
fn fill(entries: &mut dyn Entries, buffer: &mut [u8]) -> Result<usize, Stop> {
    let mut done = 0;
    while done < buffer.len() {
        match entries.read(&mut buffer[done..])? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// The bytes from the first that differs on, as text; more are read when `more` says that there may be some.
fn sample(entries: &mut dyn Entries, bytes: &[u8], more: bool) -> Result<String, Stop> {
    let mut sample = bytes[..bytes.len().min(SAMPLE)].to_vec();
    if more && sample.len() < SAMPLE {
        let mut rest = [0; SAMPLE];
        let n = fill(entries, &mut rest[sample.len()..])?;
        let start = sample.len();
        sample.extend_from_slice(&rest[start..start + n]);
    }
    Ok(if sample.is_empty() { "the end of the file".into() } else { format!("\"{}\"", text(&sample)) })
}
