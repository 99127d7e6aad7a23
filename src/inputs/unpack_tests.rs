use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::inputs::archive::{Devices, Options};
use crate::inputs::members::Members;
use crate::inputs::pattern::Patterns;

/// A member as an archive has it.
#[derive(Clone, Debug)]
enum Given {
    File(&'static str),
    Directory(&'static str),
    Symlink(&'static str),
    Link(&'static str, &'static str),
}

/// Few paths, so that they meet; those that begin with `x` are not taken.
const PATHS: [&str; 9] = ["a", "a/b", "a-b", "a/b/c", "b", "b/f", "x", "x/f", "z"];

fn given() -> impl Strategy<Value = Given> {
    let path = || proptest::sample::select(&PATHS[..]);
    prop_oneof![
        3 => path().prop_map(Given::File),
        3 => path().prop_map(Given::Directory),
        1 => path().prop_map(Given::Symlink),
        3 => (path(), path()).prop_map(|(path, target)| Given::Link(path, target)),
    ]
}

/// Many archives that are sound, beside those that are not: a path is given once, unless it is a directory, and links
/// lead to files before them.
fn sound(all: Vec<Given>) -> Vec<Given> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut kept = Vec::new();
    for member in all {
        let (path, kind) = match &member {
            Given::File(path) => (*path, "file"),
            Given::Directory(path) => (*path, "directory"),
            Given::Symlink(path) => (*path, "link"),
            Given::Link(path, target) if kinds.get(target) == Some(&"file") => (*path, "file"),
            Given::Link(..) => continue,
        };
        let before = kinds.get(path);
        if before.is_none() || (before == Some(&"directory") && kind == "directory") {
            kinds.insert(path, kind);
            kept.push(member);
        }
    }
    kept
}

/// One line for each entry: path, kind, mode, and the offset of its content.
type Lines = Result<Vec<String>, String>;

fn options() -> Options {
    Options {
        to: SafePath::parse(b"to").unwrap(),
        strip_components: 0,
        patterns: Patterns::new(&[], &["/x".parse().unwrap(), "/x/**".parse().unwrap()]).unwrap(),
        owner: None,
        devices: Devices::Error,
    }
}

fn path(text: &str) -> SafePath {
    SafePath::parse(text.as_bytes()).unwrap()
}

/// What the rules say, with everything in memory. Each member's mode and offset is its number.
fn model(all: &[Given]) -> Lines {
    let taken = |path: &str| path != "x" && !path.starts_with("x/");
    let mut files: BTreeMap<&str, usize> = BTreeMap::new();
    let mut members: Vec<(SafePath, char, usize)> = Vec::new();
    for (number, member) in all.iter().enumerate() {
        let (at, kind, file) = match member {
            Given::File(at) => (*at, 'f', number),
            Given::Directory(at) => (*at, 'd', number),
            Given::Symlink(at) => (*at, 'l', number),
            Given::Link(at, target) => match files.get(target) {
                Some(&file) => (*at, 'f', file),
                None => return Err(format!("/{at} is a hard link to /{target}, which is no file before it")),
            },
        };
        if kind == 'f' {
            files.insert(at, file);
        }
        if taken(at) {
            members.push((path("to").join(at.as_bytes()).unwrap(), kind, file));
        }
    }
    members.sort_by(|a, b| a.0.cmp(&b.0));
    let mut lines: Vec<(SafePath, char, String)> = Vec::new();
    let mut first: BTreeMap<usize, SafePath> = BTreeMap::new();
    for (at, kind, number) in members {
        if let Some((last, was, _)) = lines.last()
            && *last == at
        {
            if (*was, kind) != ('d', 'd') {
                return Err(format!("{at} is in it twice"));
            }
            lines.pop();
        }
        let line = match (kind, first.get(&number)) {
            ('f', Some(target)) => format!("h {at} {target} {number} {number}"),
            ('f', None) => format!("f {at} {number} {number}"),
            _ => format!("{kind} {at} {number}"),
        };
        if kind == 'f' {
            first.entry(number).or_insert_with(|| at.clone());
        }
        lines.push((at, kind, line));
    }
    Ok(lines.into_iter().map(|(_, _, line)| line).collect())
}

/// The same through nameless files.
fn through_files(all: &[Given], room: Room) -> Lines {
    let directory = tempfile::tempdir().unwrap();
    let options = options();
    let message = |error: InputError| match error {
        InputError::Archive { message, .. } => message,
        other => panic!("{other}"),
    };
    let archive = Path::new("in");
    let mut members = Members::new(archive, &options, directory.path(), room).unwrap();
    for (number, member) in all.iter().enumerate() {
        let entry = |at: &str, kind| {
            let mode = u32::try_from(number).unwrap();
            Entry { path: path(at), kind, mode, uid: 0, gid: 0, xattrs: Vec::new() }
        };
        let kind = match member {
            Given::File(_) => EntryKind::File { size: 1 },
            Given::Directory(_) => EntryKind::Directory,
            Given::Symlink(_) => EntryKind::Symlink { target: b"t".to_vec() },
            Given::Link(at, target) => {
                members.link(&path(at), target.as_bytes()).unwrap();
                continue;
            }
        };
        let (Given::File(at) | Given::Directory(at) | Given::Symlink(at) | Given::Link(at, _)) = member;
        members.add(entry(at, kind), number as u64).unwrap();
    }
    let records = members.finish().map_err(message)?;
    let spool = Arc::new(Spooled::new(Vec::new(), None, None, || Err(error(Path::new("in"), "nothing"))));
    let mut order = Order::new(archive, &spool, directory.path(), room).unwrap();
    let mut reader = records.read();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    while reader.next(&mut key, &mut value).unwrap() {
        let member: StoredMember = decoded(&records, &value).unwrap();
        order.add(&member.member(stored::path(&key).unwrap()).unwrap()).unwrap();
    }
    let settled = order.settle().map_err(message)?;
    let line = |item: Item| {
        let Entry { path, kind, mode, .. } = item.entry;
        let offset = match item.content {
            Content::Spool { offset, size: 1, .. } => offset,
            _ => 0,
        };
        match kind {
            EntryKind::File { size: 1 } => format!("f {path} {mode} {offset}"),
            EntryKind::HardLink { target } => format!("h {path} {target} {mode} {offset}"),
            EntryKind::Directory => format!("d {path} {mode}"),
            _ => format!("l {path} {mode}"),
        }
    };
    let read = || settled.items().map(|item| line(item.unwrap())).collect::<Vec<_>>();
    assert_eq!(read(), read(), "the second time is as the first");
    Ok(read())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Order, duplicates, links to links and to files that are not taken: as the rules say, whatever is held at once.
    #[test]
    fn files_say_what_the_rules_say(
        all in proptest::collection::vec(given(), 0..24),
        run in 1usize..400,
        runs in 2usize..4,
        whole in any::<bool>(),
    ) {
        let all = if whole { sound(all) } else { all };
        let expected = model(&all);
        prop_assert!(!whole || expected.is_ok());
        prop_assert_eq!(through_files(&all, Room { run, runs }), expected.clone());
        prop_assert_eq!(through_files(&all, Room::USUAL), expected);
    }
}

/// Several thousand members, in runs of a few: the same as in one.
#[test]
fn many_runs_are_one_order() {
    let names: Vec<&'static str> = (0..3000u32)
        .map(|number| format!("d{}/f{}", number.wrapping_mul(2_654_435_761) % 97, number))
        .map(|name| &*name.leak())
        .collect();
    let mut all: Vec<Given> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        all.push(match number % 5 {
            4 => Given::Link(name, names[number / 2 / 5 * 5]),
            _ => Given::File(name),
        });
    }
    let expected = model(&all);
    assert_eq!(expected.as_ref().unwrap().len(), 3000);
    assert_eq!(through_files(&all, Room { run: 4000, runs: 3 }), expected);
    assert_eq!(through_files(&all, Room::USUAL), expected);
}
