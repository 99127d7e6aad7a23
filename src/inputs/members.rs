//! The members of an archive while it is read: noted in a nameless file, their hard links resolved when all are known.
//!
//! Memory grows only with the members that take part in hard links, by some bytes for each.

use std::path::Path;

use dmoci_layers::{Entry, EntryKind, SafePath};
use serde::{Deserialize, Serialize};

use super::InputError;
use super::archive::Options;
use super::records::{RecordWriter, Records};
use super::sorter::{Room, Sorter};
use super::stored::StoredMember;
use super::unpack::{Loose, caused, error};

/// Members as they are read, and what the options make of them.
pub(super) struct Members<'a> {
    pub(super) path: &'a Path,
    pub(super) options: &'a Options,
    scratch: &'a Path,
    room: Room,
    /// What was added, by the paths in the archive.
    log: RecordWriter,
    links: bool,
    /// No file may stand twice at one path, taken or not.
    unique: bool,
}

/// A member, beside its path in the archive.
#[derive(Serialize, Deserialize)]
enum Logged {
    /// One that is no hard link.
    Member {
        /// Whether it goes into the layer.
        taken: bool,
        member: StoredMember,
    },
    /// A hard link, and to what.
    Link { taken: bool, target: Vec<u8> },
}

/// Where hard links lead.
#[derive(Default)]
struct Links {
    /// The places of links in the log and those of their files, in order.
    files: Vec<(u64, u64)>,
    /// The places of files that have links, in order.
    linked: Vec<u64>,
}

impl<'a> Members<'a> {
    /// No members yet. What is noted goes to nameless files in `scratch`.
    pub(super) fn new(
        path: &'a Path,
        options: &'a Options,
        scratch: &'a Path,
        room: Room,
    ) -> Result<Members<'a>, InputError> {
        let log = RecordWriter::new(scratch)?;
        Ok(Members { path, options, scratch, room, log, links: false, unique: false })
    }

    /// Says that a file which stands twice at one path is an error, even when it is not taken.
    pub(super) fn require_unique(&mut self) {
        self.unique = true;
    }

    /// The path of a member as the archive has it, checked.
    pub(super) fn check(&self, raw: &[u8]) -> Result<SafePath, InputError> {
        let path = SafePath::parse(raw).map_err(|source| {
            caused(self.path, "a member leads out of the archive or has no usable name", source)
        })?;
        if path.components().any(|name| name.starts_with(b".wh.")) {
            return Err(error(
                self.path,
                format!("{path} has a name that begins with .wh., which marks deletions"),
            ));
        }
        Ok(path)
    }

    /// Whether a member goes into the layer.
    pub(super) fn takes(&self, path: &SafePath, directory: bool) -> bool {
        self.rest(path).is_some_and(|rest| self.options.patterns.takes(&rest, directory))
    }

    /// Adds a member that is no hard link.
    pub(super) fn add(&mut self, mut entry: Entry, offset: u64) -> Result<(), InputError> {
        if let Some((uid, gid)) = self.options.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        // The root of the archive says nothing about the directory it is unpacked to, unless that is the root.
        let about = !entry.path.is_root() || self.options.to.is_root();
        let taken = about && self.takes(&entry.path, entry.kind == EntryKind::Directory);
        if taken {
            self.place(&entry.path)?;
        }
        let member = Loose { entry, offset, inode: None };
        let logged = Logged::Member { taken, member: StoredMember::of(&member) };
        self.log(&member.entry.path, &logged)
    }

    /// Adds a hard link.
    pub(super) fn link(&mut self, path: &SafePath, target: &[u8]) -> Result<(), InputError> {
        let target = self.check(target)?.as_bytes().to_vec();
        let taken = self.takes(path, false);
        if taken {
            self.place(path)?;
        }
        self.links = true;
        self.log(path, &Logged::Link { taken, target })
    }

    /// What is taken, at its path in the layer, in the order of the archive. Hard links are files like their targets.
    pub(super) fn finish(mut self) -> Result<Records, InputError> {
        let log = self.log.so_far()?;
        let links = match self.links || self.unique {
            true => self.resolve(&log)?,
            false => Links::default(),
        };
        let mut out = RecordWriter::new(self.scratch)?;
        let mut reader = log.read();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        loop {
            let place = reader.place();
            if !reader.next(&mut key, &mut value)? {
                return out.so_far();
            }
            let (taken, mut member, inode) = match decoded(&log, &value)? {
                Logged::Member { taken, member } => (taken, member, links.has(place).then_some(place)),
                Logged::Link { taken: false, .. } => continue,
                Logged::Link { taken: true, .. } => {
                    let file = links.file(place);
                    match decoded(&log, &log.at(file)?.1)? {
                        Logged::Member { member, .. } => (true, member, Some(file)),
                        Logged::Link { .. } => return Err(log.damaged()),
                    }
                }
            };
            if taken {
                member.inode = inode;
                let path = self.place(&SafePath::parse(&key).map_err(|_| log.damaged())?)?;
                out.append(path.as_bytes(), &encoded(&log, &member)?)?;
            }
        }
    }

    /// The path below the directory that everything goes to; nothing for one that is too short.
    fn rest(&self, path: &SafePath) -> Option<Vec<u8>> {
        let strip = self.options.strip_components as usize;
        if strip > 0 && path.components().count() <= strip {
            return None;
        }
        Some(path.components().skip(strip).collect::<Vec<_>>().join(&b'/'))
    }

    /// The path in the layer.
    fn place(&self, path: &SafePath) -> Result<SafePath, InputError> {
        let joined = self.options.to.join(&self.rest(path).unwrap_or_default());
        joined.map_err(|source| caused(self.path, format!("{path} cannot be placed"), source))
    }

    fn log(&mut self, path: &SafePath, logged: &Logged) -> Result<(), InputError> {
        let value = postcard::to_stdvec(logged)
            .map_err(|source| caused(self.path, format!("{path} cannot be noted"), source))?;
        self.log.append(path.as_bytes(), &value).map(drop)
    }

    /// Finds the file of every link: the last that stands at its target's path before it.
    fn resolve(&self, log: &Records) -> Result<Links, InputError> {
        // Each link asks for its target, and then stands at its own path. Who is asked and who asks come together when
        // they are sorted by path, in the order of the archive.
        const ASKS: u8 = 0;
        const STANDS: u8 = 1;
        let mut sorter = Sorter::new(self.scratch, self.room)?;
        let mut reader = log.read();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        loop {
            let place = reader.place();
            if !reader.next(&mut key, &mut value)? {
                break;
            }
            let mark = |what: u8| [&place.to_le_bytes()[..], &[what]].concat();
            match decoded(log, &value)? {
                Logged::Link { target, .. } => {
                    sorter.add(&target, &mark(ASKS))?;
                    sorter.add(&key, &mark(STANDS))?;
                }
                Logged::Member { member, .. } if member.is_file() => sorter.add(&key, &mark(STANDS))?,
                Logged::Member { .. } => {}
            }
        }
        let mut sorted = sorter.finish()?;
        let mut links = Links::default();
        // The first in the archive that is wrong: where, and the message when it is no link without a file.
        let mut wrong: Option<(u64, Option<String>)> = None;
        let mut last: Option<(Vec<u8>, u64)> = None;
        while let Some((key, mark)) = sorted.next()? {
            let Some((place, &[what])) = mark.split_first_chunk().map(|(p, w)| (u64::from_le_bytes(*p), w))
            else {
                return Err(log.damaged());
            };
            let before = last.as_ref().filter(|(path, _)| path == key).map(|(_, place)| *place);
            let mut fail = |message| {
                if wrong.as_ref().is_none_or(|(first, _)| place < *first) {
                    wrong = Some((place, message));
                }
            };
            match (what, before) {
                (ASKS, Some(file)) => links.files.push((place, file)),
                (ASKS, None) => fail(None),
                (_, Some(_)) if self.unique => {
                    let path = SafePath::parse(key).map_err(|_| log.damaged())?;
                    fail(Some(format!("{path} is in it twice")));
                }
                _ => {}
            }
            if what == STANDS {
                last = Some((key.to_vec(), place));
            }
        }
        match wrong {
            None => Ok(links.follow()),
            Some((_, Some(message))) => Err(error(self.path, message)),
            Some((place, None)) => Err(self.lost(log, place)?),
        }
    }

    /// The error about a link to nothing.
    fn lost(&self, log: &Records, place: u64) -> Result<InputError, InputError> {
        let (path, value) = log.at(place)?;
        let (Logged::Link { target, .. }, Ok(path)) = (decoded(log, &value)?, SafePath::parse(&path)) else {
            return Ok(log.damaged());
        };
        let target = SafePath::parse(&target).map_err(|_| log.damaged())?;
        Ok(error(self.path, format!("{path} is a hard link to {target}, which is no file before it")))
    }
}

impl Links {
    /// Makes of links to links such to files.
    fn follow(mut self) -> Links {
        self.files.sort_unstable();
        for number in 0..self.files.len() {
            // What a link leads to stands before it, and was followed already.
            let (before, rest) = self.files.split_at_mut(number);
            if let Some((_, file)) = rest.first_mut()
                && let Ok(at) = before.binary_search_by_key(file, |(link, _)| *link)
            {
                *file = before[at].1;
            }
        }
        self.linked = self.files.iter().map(|(_, file)| *file).collect();
        self.linked.sort_unstable();
        self.linked.dedup();
        self
    }

    /// The place of the file that the link at this place leads to.
    fn file(&self, link: u64) -> u64 {
        self.files.binary_search_by_key(&link, |(link, _)| *link).map_or(link, |at| self.files[at].1)
    }

    /// Whether links lead to the file at this place.
    fn has(&self, file: u64) -> bool {
        self.linked.binary_search(&file).is_ok()
    }
}

/// A value as records hold it.
pub(super) fn encoded(records: &Records, value: &impl Serialize) -> Result<Vec<u8>, InputError> {
    postcard::to_stdvec(value).map_err(|_| records.damaged())
}

/// The value of a record.
pub(super) fn decoded<'de, T: Deserialize<'de>>(
    records: &Records,
    value: &'de [u8],
) -> Result<T, InputError> {
    postcard::from_bytes(value).map_err(|_| records.damaged())
}
