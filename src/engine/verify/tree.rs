//! What the entries of a layer are: dangerous, worth knowing, and as dmoci would have written them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use dmoci_layers::layer::order;
use dmoci_layers::tar::write_header;
use dmoci_layers::untar::{Member, MemberKind, Trailer};
use dmoci_layers::{Entry, EntryKind, MTIME, SafePath};

use crate::oci::Problem;

/// How many entries are remembered to find names that occur twice in a layer that is not in our order.
const REMEMBERED: usize = 2_000_000;

/// How many symbolic links are remembered to find entries that stand behind one.
const LINKS: usize = 500_000;

/// How many names are told of each kind of thing worth knowing.
const EXAMPLES: usize = 5;

/// How many problems of one layer are told.
const PROBLEMS: usize = 50;

/// Looks at the entries of one layer in their order.
pub(super) struct Tree {
    pub(super) problems: Vec<Problem>,
    /// Why the layer is not as dmoci would have written it: the first reason of each kind.
    pub(super) reasons: Vec<String>,
    pub(super) entries: u64,
    last: Option<Entry>,
    /// The directories above the last entry, the highest first.
    parents: Vec<SafePath>,
    in_order: bool,
    symlinks: HashMap<SafePath, bool>,
    seen: HashSet<u128>,
    hashers: [RandomState; 2],
    tallies: Vec<Tally>,
    /// Kinds of reasons that were told.
    told: Vec<&'static str>,
}

/// Things worth knowing, counted.
struct Tally {
    code: &'static str,
    text: &'static str,
    count: u64,
    examples: Vec<String>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            problems: Vec::new(),
            reasons: Vec::new(),
            entries: 0,
            last: None,
            parents: Vec::new(),
            in_order: true,
            symlinks: HashMap::new(),
            seen: HashSet::new(),
            hashers: [RandomState::new(), RandomState::new()],
            tallies: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Looks at one entry.
    pub(super) fn member(&mut self, member: &Member<'_>) {
        self.entries += 1;
        let path = match member.path() {
            Ok(path) => path,
            Err(error) => {
                let text = format!("an entry's name is dangerous: {}", shown(&error.to_string()));
                self.problem(Problem::error("E-TAR-PATH", "", text));
                self.reason("names", "a name is not a path inside the root");
                return;
            }
        };
        if let Some((field, record)) = member.size_disagreement
            && record < 8 << 30
        {
            let text = format!("{path}: the header and its PAX record give different sizes (CVE-2025-62518)");
            self.problem(Problem::error("E-TAR-SIZE", "", text).but(field.to_string(), record.to_string()));
        }
        self.links(member, &path);
        self.whiteout(&path);
        self.worth_knowing(member, &path);
        let entry = entry(member, &path);
        self.twice(member, &path, entry.as_ref());
        self.canonical(member, &path, entry);
    }

    /// Looks at what stood between and behind the entries, and gives what is worth knowing as notes.
    pub(super) fn end(&mut self, trailer: Option<Trailer>) {
        if let Some(trailer) = trailer {
            if trailer.dirty_padding > 0 {
                self.tally(
                    "E-TAR-PADDING",
                    "padding that is not zeros",
                    &format!("{} times", trailer.dirty_padding),
                );
                self.reason("padding", "padding that is not zeros");
            }
            if trailer.extra_zeros > 0 {
                self.reason(
                    "end",
                    format!("{} bytes of zeros behind the end of the tar", trailer.extra_zeros),
                );
            }
            if trailer.global_headers > 0 {
                self.reason("global", "PAX global headers");
            }
        }
        if !self.in_order && self.seen.len() >= REMEMBERED {
            let text = "so many entries that names that occur twice were not looked for in all of them";
            self.problems.push(Problem::note("E-TAR-DUPLICATE", "", text));
        }
        for tally in std::mem::take(&mut self.tallies) {
            let more = if tally.count > tally.examples.len() as u64 { ", …" } else { "" };
            let text = format!("{}, {} in all: {}{more}", tally.text, tally.count, tally.examples.join(", "));
            self.problems.push(Problem::note(tally.code, "", text));
        }
    }

    fn problem(&mut self, problem: Problem) {
        // Of each severity its own number: many warnings never hide an error.
        let told = self.problems.iter().filter(|told| told.severity == problem.severity).count();
        if told < PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Links that lead out of the root, and entries that stand behind a link of the same layer.
    fn links(&mut self, member: &Member<'_>, path: &SafePath) {
        let mut above = if self.symlinks.is_empty() { None } else { path.parent() };
        while let Some(parent) = above.filter(|parent| !parent.is_root()) {
            if let Some(&escapes) = self.symlinks.get(&parent) {
                let text =
                    format!("{path}: the entry stands behind the symbolic link {parent} of the same layer");
                self.problem(match escapes {
                    true => Problem::error("E-TAR-THROUGH-LINK", "", text + ", which leads out of the layer"),
                    false => Problem::warning("E-TAR-THROUGH-LINK", "", text),
                });
            }
            above = parent.parent();
        }
        match &member.kind {
            MemberKind::Symlink { target } => {
                let outside = escapes(path, target);
                if outside {
                    self.tally(
                        "E-TAR-SYMLINK",
                        "symbolic links lead above the root, where engines stop them",
                        &path.to_string(),
                    );
                }
                if self.symlinks.len() < LINKS {
                    self.symlinks.insert(path.clone(), outside || target.starts_with(b"/"));
                }
            }
            MemberKind::HardLink { target } => {
                if let Err(error) = SafePath::parse(target) {
                    let text = format!(
                        "{path}: the hard link leads out of the layer: {}",
                        shown(&error.to_string())
                    );
                    self.problem(Problem::error("E-TAR-LINK", "", text));
                }
                // A directory that was a link is one no longer.
                self.symlinks.remove(path);
            }
            _ => {
                self.symlinks.remove(path);
            }
        }
    }

    fn whiteout(&mut self, path: &SafePath) {
        let Some(hidden) = path.name().strip_prefix(b".wh.") else { return };
        match hidden {
            b"" | b"." | b".." => {
                let text = format!("{path}: a whiteout of a directory itself or of the one above");
                self.problem(Problem::error("E-TAR-WHITEOUT", "", text));
            }
            b".wh..opq" => {}
            _ if hidden.starts_with(b".wh.") => {
                self.problem(Problem::warning(
                    "E-TAR-WHITEOUT",
                    "",
                    format!("{path}: a whiteout of an unknown kind"),
                ));
            }
            _ => {}
        }
    }

    fn worth_knowing(&mut self, member: &Member<'_>, path: &SafePath) {
        let name = path.to_string();
        if member.mode & 0o6000 != 0 && matches!(member.kind, MemberKind::File | MemberKind::HardLink { .. })
        {
            self.tally("E-TAR-SETUID", "setuid or setgid files", &name);
        }
        match member.kind {
            MemberKind::CharDevice { .. } | MemberKind::BlockDevice { .. } => {
                self.tally("E-TAR-DEVICE", "devices", &name);
            }
            MemberKind::Fifo => self.tally("E-TAR-FIFO", "named pipes", &name),
            MemberKind::Other(_) => self.tally("E-TAR-TYPE", "entries of an unknown type", &name),
            _ => {}
        }
        if member.xattrs.iter().any(|(key, _)| key.starts_with(b"security.")) {
            self.tally("E-TAR-SECURITY", "entries with security.* attributes", &name);
        }
        let odd = |b: &u8| b.is_ascii_control() || *b == b'\\';
        if path.as_bytes().iter().any(odd) || std::str::from_utf8(path.as_bytes()).is_err() {
            self.tally(
                "E-TAR-NAME",
                "names with control characters, backslashes or bytes that are not UTF-8",
                &name,
            );
        }
    }

    fn tally(&mut self, code: &'static str, text: &'static str, example: &str) {
        let position = self.tallies.iter().position(|tally| tally.code == code);
        let position = position.unwrap_or_else(|| {
            self.tallies.push(Tally { code, text, count: 0, examples: Vec::new() });
            self.tallies.len() - 1
        });
        let tally = &mut self.tallies[position];
        tally.count += 1;
        if tally.examples.len() < EXAMPLES {
            tally.examples.push(example.to_owned());
        }
    }

    /// One path twice (layer.md, "Representing Changes": no duplicate entries).
    fn twice(&mut self, member: &Member<'_>, path: &SafePath, entry: Option<&Entry>) {
        let ordered = match (&self.last, entry) {
            (Some(last), Some(entry)) => order(last, entry) == Ordering::Less,
            (None, Some(_)) => true,
            _ => false,
        };
        if self.in_order && !ordered {
            self.in_order = false;
            self.reason("order", format!("{path} is not in byte order"));
        }
        if self.seen.len() >= REMEMBERED {
            return;
        }
        let [a, b] = [&self.hashers[0], &self.hashers[1]].map(|hasher| u128::from(hasher.hash_one(path)));
        if !self.seen.insert(a << 64 | b) {
            let text = format!("{path} occurs twice in the layer");
            self.problem(match member.kind {
                MemberKind::Directory => Problem::warning("E-TAR-DUPLICATE", "", text),
                _ => Problem::error("E-TAR-DUPLICATE", "", text),
            });
        }
    }

    fn canonical(&mut self, member: &Member<'_>, path: &SafePath, entry: Option<Entry>) {
        let Some(entry) = entry else {
            self.reason("kind", format!("{path} is of a kind that dmoci does not write"));
            return;
        };
        let mut expected = Vec::new();
        if write_header(&entry, &mut expected).is_err() || expected != member.header {
            let what = if (member.mtime, member.mtime_nanos) != (MTIME as i64, 0) {
                "time"
            } else if !member.uname.is_empty() || !member.gname.is_empty() {
                "owner's name"
            } else {
                "form of its header"
            };
            self.reason("header", format!("{path}: the {what} is not the one that dmoci writes"));
        }
        let holder = match entry.kind {
            EntryKind::Opaque => Some(entry.path.clone()),
            _ => entry.path.parent(),
        };
        while self.parents.last().is_some_and(|top| !entry.path.starts_with(top)) {
            self.parents.pop();
        }
        if let Some(holder) = holder.filter(|holder| !holder.is_root())
            && self.parents.last() != Some(&holder)
        {
            self.reason("parents", format!("{path} comes without the directory that holds it"));
        }
        if entry.kind == EntryKind::Directory {
            self.parents.push(entry.path.clone());
        }
        self.last = Some(entry);
    }

    /// Notes the first reason of a kind.
    fn reason(&mut self, kind: &'static str, reason: impl Into<String>) {
        if !self.told.contains(&kind) {
            self.told.push(kind);
            self.reasons.push(reason.into());
        }
    }
}

/// True when a symbolic link names something above the root.
fn escapes(link: &SafePath, target: &[u8]) -> bool {
    let mut depth = match target.starts_with(b"/") {
        true => 0,
        false => link.components().count().saturating_sub(1),
    };
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// The entry that dmoci would have written this member from.
fn entry(member: &Member<'_>, path: &SafePath) -> Option<Entry> {
    let mut path = path.clone();
    let kind = match &member.kind {
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::File => match path.name().strip_prefix(b".wh.") {
            None => EntryKind::File { size: member.size },
            Some(b".wh..opq") => {
                path = path.parent()?;
                EntryKind::Opaque
            }
            Some(hidden) => {
                path = path.parent()?.join(hidden).ok().filter(|hidden| !hidden.is_root())?;
                EntryKind::Whiteout
            }
        },
        MemberKind::HardLink { target } => EntryKind::HardLink { target: SafePath::parse(target).ok()? },
        MemberKind::Symlink { target } => EntryKind::Symlink { target: target.clone() },
        MemberKind::CharDevice { major, minor } => EntryKind::CharDevice { major: *major, minor: *minor },
        MemberKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major: *major, minor: *minor },
        MemberKind::Fifo | MemberKind::Other(_) => return None,
    };
    let (mode, xattrs) = (member.mode & 0o7777, member.xattrs.clone());
    Some(Entry { path, kind, mode, uid: member.uid, gid: member.gid, xattrs })
}

/// Text that came from outside, without what a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}
