//! What was asked of a base's tree, as lines for a lock file, and a tree that knows these answers and no more.
//!
//! Each line is a path, what is known of it, and more: `/usr d 0755 0:0`. So a later build that asks nothing else needs no
//! layer of the base. Whatever the tree does not know it notes: then what was made with it does not count.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dmoci_layers::SafePath;

use super::{Directory, Node, Tree};
use crate::inputs::Content;
use crate::inputs::telling::Facts;
use crate::limits;

/// What is asked about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// What stands there.
    Node,
    /// Which symbolic links are at or below it.
    Links,
    /// Which directories are in it.
    Directories,
    /// What is in it.
    Children,
    /// All that is at or below it.
    Below,
    /// The content of a file, when it is kept.
    Content,
    /// What a file says of itself.
    Facts,
    /// All files that say anything of themselves; of the root.
    Telling,
}

impl Question {
    /// Those that a line answers whole, with its letter.
    const WHOLE: [(Question, &'static str); 7] = [
        (Question::Links, "links"),
        (Question::Directories, "directories"),
        (Question::Children, "names"),
        (Question::Below, "all"),
        (Question::Content, "nothing-kept"),
        (Question::Facts, "nothing-told"),
        (Question::Telling, "telling"),
    ];
}

/// Who hears what is asked of a tree.
#[derive(Clone, Debug, Default)]
pub(super) enum Witness {
    /// Nobody.
    #[default]
    Nobody,
    /// It is written down.
    Notes(Arc<Notes>),
    /// Who knows what the tree can tell.
    Sketch(Arc<Sketch>),
}

/// What was asked of a tree.
#[derive(Debug)]
pub struct Notes {
    /// The tree as it was, before anything was put into it.
    base: Tree,
    asked: Mutex<BTreeSet<(SafePath, Question)>>,
}

/// Which questions a tree can answer.
#[derive(Debug, Default)]
pub struct Sketch {
    answered: BTreeSet<(SafePath, Question)>,
    /// Paths that have nothing below.
    bare: BTreeSet<SafePath>,
    lacking: AtomicBool,
}

impl Tree {
    /// Notes from now on what is asked of it.
    pub fn noted(self) -> (Tree, Arc<Notes>) {
        let notes = Arc::new(Notes { base: self.clone(), asked: Mutex::default() });
        (Tree { witness: Witness::Notes(Arc::clone(&notes)), ..self }, notes)
    }

    /// A tree that knows what these lines say; nothing when one of them is none.
    pub fn known<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<(Tree, Arc<Sketch>)> {
        let (mut tree, mut sketch) = (Tree::default(), Sketch::default());
        for line in lines {
            sketch.read(line, &mut tree)?;
        }
        let sketch = Arc::new(sketch);
        tree.witness = Witness::Sketch(Arc::clone(&sketch));
        Some((tree, sketch))
    }

    /// True when something was asked that the tree does not know.
    pub fn is_lacking(&self) -> bool {
        matches!(&self.witness, Witness::Sketch(sketch) if sketch.is_lacking())
    }

    /// Has the witness hear a question; `found` when the tree has an answer of its own.
    pub(super) fn ask(&self, question: Question, path: &SafePath, found: bool) {
        match &self.witness {
            Witness::Notes(notes) => notes.note(question, path),
            Witness::Sketch(sketch) if !found && !sketch.answers(question, path) => {
                sketch.lacking.store(true, Ordering::Relaxed);
            }
            Witness::Nobody | Witness::Sketch(_) => {}
        }
    }
}

impl Notes {
    fn note(&self, question: Question, path: &SafePath) {
        let mut asked = self.asked();
        let is_bare =
            |path: &SafePath| asked.contains(&(path.clone(), Question::Node)) && !self.base.holds(path);
        // Below what is known to have nothing below there is nothing to know.
        if !asked.contains(&(path.clone(), question)) && !above(path).any(|path| is_bare(&path)) {
            asked.insert((path.clone(), question));
        }
    }

    /// The answers, in the order of their texts; nothing when they are too many, or cannot be told.
    pub fn lines(&self) -> Option<BTreeSet<String>> {
        let (base, asked) = (&self.base, self.asked());
        let mut lines = BTreeSet::new();
        let mut add = |line: Option<String>| {
            lines.insert(line?);
            (lines.len() <= limits::BASE_FACTS).then_some(())
        };
        for (path, question) in asked.iter() {
            if let Some((_, name)) = Question::WHOLE.iter().find(|(one, _)| one == question) {
                let is_there = match question {
                    Question::Content => base.contents.contains_key(path),
                    Question::Facts => base.facts.contains_key(path),
                    _ => false,
                };
                if !is_there {
                    add(Some(format!("{} {name}", coded(path.as_bytes(), true))))?;
                }
            }
            match question {
                Question::Node => add(base.line(path))?,
                Question::Links => base.links_below(path).try_for_each(|link| add(base.line(link)))?,
                Question::Directories => {
                    base.directories_in(path).try_for_each(|inner| add(base.line(inner)))?;
                }
                Question::Children => {
                    base.children(path).iter().try_for_each(|inner| add(base.line(inner)))?
                }
                Question::Below => {
                    add(base.line(path))?;
                    base.below(path).iter().try_for_each(|inner| add(base.line(inner)))?;
                }
                Question::Content => {
                    if let Some(content) = base.contents.get(path) {
                        let Content::Bytes(bytes) = content else { return None };
                        add(Some(format!(
                            "{} content {}",
                            coded(path.as_bytes(), true),
                            coded(bytes, false)
                        )))?;
                    }
                }
                Question::Facts => {
                    if let Some(facts) = base.facts.get(path) {
                        add(Some(told(path, facts)))?;
                    }
                }
                Question::Telling => {
                    base.facts.iter().try_for_each(|(path, facts)| add(Some(told(path, facts))))?
                }
            }
        }
        let size: usize = lines.iter().map(String::len).sum();
        (size <= limits::BASE_FACTS_BYTES).then_some(lines)
    }

    fn asked(&self) -> MutexGuard<'_, BTreeSet<(SafePath, Question)>> {
        // Nothing panics while it holds the lock.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tree {
    /// What stands at a path; nothing when that cannot be told: a directory that nobody described, or things below a file.
    fn line(&self, path: &SafePath) -> Option<String> {
        let (at, holds) = (coded(path.as_bytes(), true), self.holds(path));
        Some(match self.get(path) {
            None if path.is_root() => format!("{at} root"),
            None if holds => return None,
            None => format!("{at} -"),
            Some(Node::Directory(directory)) => {
                let Directory { mode, uid, gid, xattrs } = &**directory;
                let kind = if holds { "d" } else { "e" };
                let mut line = format!("{at} {kind} {mode:04o} {uid}:{gid}");
                for (name, value) in xattrs {
                    let _ =
                        write!(line, " {}={}", coded(name, false).replace('=', "%3D"), coded(value, false));
                }
                line
            }
            Some(_) if holds => return None,
            Some(Node::Symlink(target)) => format!("{at} l {}", coded(target, false)),
            Some(Node::Other) => format!("{at} f"),
        })
    }
}

fn told(path: &SafePath, facts: &Facts) -> String {
    format!("{} tells {}", coded(path.as_bytes(), true), coded(facts.to_text().as_bytes(), false))
}

impl Sketch {
    /// True when something was asked that is not known.
    pub fn is_lacking(&self) -> bool {
        self.lacking.load(Ordering::Relaxed)
    }

    fn answers(&self, question: Question, path: &SafePath) -> bool {
        let has = |path: &SafePath, question| self.answered.contains(&(path.clone(), question));
        if has(path, question) || above(path).any(|above| self.bare.contains(&above)) {
            return true;
        }
        match question {
            Question::Content => false,
            Question::Facts => has(&SafePath::root(), Question::Telling),
            Question::Telling => false,
            Question::Node => above(path).any(|above| has(&above, Question::Below)),
            Question::Links | Question::Directories | Question::Children | Question::Below => {
                self.bare.contains(path)
                    || std::iter::once(path.clone()).chain(above(path)).any(|one| has(&one, Question::Below))
            }
        }
    }

    fn read(&mut self, line: &str, tree: &mut Tree) -> Option<()> {
        let mut words = line.split(' ');
        let path = decoded(words.next()?.strip_prefix('/')?)?;
        let path = crate::inputs::stored::path(&path)?;
        let kind = words.next()?;
        if let Some((question, _)) = Question::WHOLE.iter().find(|(_, name)| *name == kind) {
            self.answered.insert((path, *question));
            return words.next().is_none().then_some(());
        }
        let question = match kind {
            "content" => {
                let content = Content::Bytes(decoded(words.next()?)?.into());
                tree.contents.insert(path.clone(), content);
                Question::Content
            }
            "tells" => {
                let text = String::from_utf8(decoded(words.next()?)?).ok()?;
                tree.facts.insert(path.clone(), Facts::parse(&text));
                Question::Facts
            }
            _ => {
                if !matches!(kind, "d" | "root") {
                    self.bare.insert(path.clone());
                }
                let node = match kind {
                    "-" | "root" => None,
                    "f" => Some(Node::Other),
                    "l" => Some(Node::Symlink(decoded(words.next()?)?.into())),
                    "d" | "e" => {
                        let mode =
                            u32::from_str_radix(words.next()?, 8).ok().filter(|mode| *mode <= 0o7777)?;
                        let (uid, gid) = words.next()?.split_once(':')?;
                        let mut xattrs = Vec::new();
                        for word in words.by_ref() {
                            let (name, value) = word.split_once('=')?;
                            xattrs.push((decoded(name)?, decoded(value)?));
                        }
                        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
                        Some(Node::Directory(tree.kind(Directory { mode, uid, gid, xattrs })))
                    }
                    _ => return None,
                };
                if let Some(node) = node {
                    tree.set(path.clone(), node);
                }
                Question::Node
            }
        };
        self.answered.insert((path, question));
        words.next().is_none().then_some(())
    }
}

/// The directories above a path, the nearest first.
fn above(path: &SafePath) -> impl Iterator<Item = SafePath> {
    std::iter::successors(path.parent(), SafePath::parent)
}

/// Bytes as one word: what is no visible ASCII, `%` too, as `%` and two digits. Paths begin with `/`.
fn coded(bytes: &[u8], path: bool) -> String {
    let mut text = String::from(if path { "/" } else { "" });
    for byte in bytes {
        match byte.is_ascii_graphic() && *byte != b'%' {
            true => text.push(char::from(*byte)),
            false => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

fn decoded(word: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        match first {
            b'%' => {
                let digits = std::str::from_utf8(more.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &more[2..];
            }
            byte => {
                bytes.push(*byte);
                rest = more;
            }
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use dmoci_layers::{Entry, EntryKind};
    use proptest::prelude::*;

    use super::*;
    use crate::inputs::Item;
    use crate::inputs::pattern::Pattern;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text.as_bytes()).unwrap()
    }

    fn tree(entries: &[(String, u8)]) -> Tree {
        let mut tree = Tree::default();
        for (name, kind) in entries {
            let content = Content::Bytes(name.as_bytes().into());
            let (kind, content) = match kind {
                0..=3 => (EntryKind::Directory, Content::None),
                4 => (EntryKind::Symlink { target: b"../a b%\xff".to_vec() }, Content::None),
                _ => (EntryKind::File { size: name.len() as u64 }, content),
            };
            let xattrs = vec![(b"user.a=b".to_vec(), b"\x00 1".to_vec())];
            let mode = if name.len() % 2 == 0 { 0o755 } else { 0o2750 };
            let entry = Entry { path: path(name), kind, mode, uid: 1, gid: 2, xattrs };
            tree.apply(&Item { entry, content });
        }
        tree
    }

    /// What a tree says to a question, as text.
    fn answer(tree: &Tree, (name, question): &(String, u8)) -> String {
        let at = path(name);
        let text = |all: Vec<SafePath>| format!("{all:?}");
        match question {
            0 => format!("{:?}", tree.get(&at)),
            1 => format!("{:?}", tree.directory(&at)),
            2 => format!("{} {}", tree.exists(&at), tree.is_directory(&at)),
            3 => text(tree.links_below(&at).cloned().collect()),
            4 => text(tree.directories_in(&at).cloned().collect()),
            5 => text(tree.children(&at)),
            6 => text(tree.below(&at)),
            7 => format!("{:?}", tree.resolve(&at, true)),
            8 => text(tree.find(&Pattern::absolute(&format!("/{name}/*")).unwrap())),
            _ => format!("{:?}", tree.content(&at).unwrap()),
        }
    }

    fn known(lines: &BTreeSet<String>) -> (Tree, Arc<Sketch>) {
        Tree::known(lines.iter().map(String::as_str)).unwrap()
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ab](/[ab]){0,3}",
            Just("etc/passwd".to_owned()),
            Just("etc".to_owned()),
            Just("etc/group/x".to_owned()),
            "[ab]/b c%\u{fc}"
        ]
    }

    proptest! {
        /// What was asked is known, and what the sketch claims to know is what the tree says.
        #[test]
        fn it_knows_what_was_asked_and_nothing_wrong(
            entries in prop::collection::vec((name(), 0..8u8), 0..12),
            asked in prop::collection::vec((name(), 0..10u8), 0..8),
            later in prop::collection::vec((name(), 0..10u8), 0..20),
        ) {
            let full = tree(&entries);
            let (noted, notes) = full.clone().noted();
            for question in &asked {
                prop_assert_eq!(answer(&noted, question), answer(&full, question));
            }
            let Some(lines) = notes.lines() else { return Ok(()) };
            let (again, sketch) = known(&lines);
            for question in &asked {
                prop_assert_eq!(answer(&again, question), answer(&full, question), "{:?}: {:#?}", question, lines);
                prop_assert!(!sketch.is_lacking(), "{:?}: {:#?}", question, lines);
            }
            for question in &later {
                let (sketched, sketch) = known(&lines);
                let said = answer(&sketched, question);
                if !sketch.is_lacking() {
                    prop_assert_eq!(said, answer(&full, question), "{:?}: {:#?}", question, lines);
                }
            }
        }

        #[test]
        fn any_line_is_read_or_refused(line in "[/a%. 0-9:=del-]{0,20}|.{0,20}") {
            let _ = Tree::known([line.as_str()]);
        }
    }

    #[test]
    fn the_lines() {
        let entries = [("usr", 0), ("usr/lib", 0), ("lib", 4), ("opt", 0), ("etc", 0), ("etc/passwd", 9)];
        let (noted, notes) = tree(&entries.map(|(name, kind)| (name.to_owned(), kind))).noted();
        for name in ["usr/lib", "lib", "opt", "opt/app/main", "srv", "srv/x/y", "etc/passwd"] {
            noted.get(&path(name));
        }
        noted.content(&path("etc/passwd")).unwrap();
        noted.content(&path("etc/group")).unwrap();
        let lines: Vec<String> = notes.lines().unwrap().into_iter().collect();
        let xattr = "user.a%3Db=%00%201";
        assert_eq!(
            lines,
            [
                "/etc/group nothing-kept".to_owned(),
                "/etc/passwd content etc/passwd".to_owned(),
                "/etc/passwd f".to_owned(),
                "/lib l ../a%20b%25%FF".to_owned(),
                format!("/opt e 2750 1:2 {xattr}"),
                "/srv -".to_owned(),
                format!("/usr/lib e 2750 1:2 {xattr}"),
            ]
        );
        for bad in [
            "",
            "usr d 0755 0:0",
            "/usr",
            "/usr d",
            "/usr d 8 0:0",
            "/../x -",
            "/usr - x",
            "/a/ -",
            "/x%4 -",
            "/x q",
        ] {
            assert!(Tree::known([bad]).is_none(), "{bad}");
        }
    }

    #[test]
    fn too_much_is_not_noted() {
        let entries: Vec<_> = (0..600).map(|number| (format!("d/{number}"), 9)).collect();
        let (noted, notes) = tree(&entries).noted();
        noted.get(&path("d"));
        assert!(notes.lines().is_none(), "a directory that nobody described");
        let entries = [vec![("d".to_owned(), 0)], entries].concat();
        let (noted, notes) = tree(&entries).noted();
        noted.get(&path("d"));
        assert_eq!(notes.lines().unwrap().len(), 1);
        noted.children(&path("d"));
        assert!(notes.lines().is_none());
    }
}
