//! What differs in layers.

use dmoci_layers::Compression;

use super::super::{Counts, Diff, Field, LayerOutcome, Verdict, entries, stream};
use super::made::{Maker, Member, compared, dir, file, lines, made, of, tar_of};
use crate::diagnostic::Diagnostic as _;

#[track_caller]
fn paths(left: &[Member], right: &[Member], expected: &[&str]) -> Diff {
    let diff = compared(&made(&tar_of(left)), &made(&tar_of(right)));
    let expected: Vec<String> = expected.iter().map(|line| format!("/linux~1amd64/layers/0{line}")).collect();
    assert_eq!(lines(&diff), expected);
    diff
}

#[test]
fn every_field_of_an_entry() {
    use tar::EntryType as Kind;
    let plain = || of("a/x", Kind::Regular, |m| m.content = b"hello".to_vec());
    let link = |target| of("a/x", Kind::Symlink, |m| m.target = Some(target));
    let hard = |target| of("a/x", Kind::Link, |m| m.target = Some(target));
    let device = |kind, minor| of("a/x", kind, |m| m.device = Some((1, minor)));
    let with = |change: &dyn Fn(&mut Member)| {
        let mut member = plain();
        change(&mut member);
        member
    };
    let cases: &[(Member, Member, &[&str])] = &[
        (plain(), with(&|m| m.mode = 0o4755), &["mode: 0644 | 4755"]),
        (plain(), with(&|m| m.owner.0 = 7), &["uid: 0 | 7"]),
        (plain(), with(&|m| m.owner.1 = 8), &["gid: 0 | 8"]),
        (plain(), with(&|m| m.names.0 = "root"), &["uname:  | root"]),
        (plain(), with(&|m| m.names.1 = "wheel"), &["gname:  | wheel"]),
        (plain(), with(&|m| m.mtime += 1), &["mtime: 1980-01-02T00:00:00Z | 1980-01-02T00:00:01Z"]),
        (
            plain(),
            with(&|m| m.pax = vec![("mtime", b"-1.5")]),
            &["mtime: 1980-01-02T00:00:00Z | -2.500000000 s"],
        ),
        (plain(), with(&|m| m.content = b"help!".to_vec()), &["content: \"lo\" | \"p!\" @3"]),
        (
            plain(),
            with(&|m| m.content = b"hello\n".to_vec()),
            &["size: 5 | 6", "content: the end of the file | \"\\n\" @5"],
        ),
        (plain(), with(&|m| m.pax = vec![("SCHILY.xattr.user.k", b"v\0")]), &["xattrs/user.k: - | v\\u{0}"]),
        (
            with(&|m| m.pax = vec![("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.user.k", b"v")]),
            with(&|m| m.pax = vec![("SCHILY.xattr.user.k", b"w")]),
            &["xattrs/user.a: 1 | -", "xattrs/user.k: v | w"],
        ),
        (
            plain(),
            of("a/x", Kind::Directory, |m| m.mode = 0o755),
            &["kind: file | directory", "mode: 0644 | 0755"],
        ),
        (link("one"), link("two"), &["target: one | two"]),
        (hard("a/one"), hard("a/two"), &["target: a/one | a/two"]),
        (link("one"), hard("one"), &["kind: symbolic link | hard link"]),
        (device(Kind::Char, 2), device(Kind::Char, 3), &["device: 1:2 | 1:3"]),
        (device(Kind::Char, 2), device(Kind::Block, 2), &["kind: character device | block device"]),
        (plain(), of("a/x", Kind::Fifo, |_| {}), &["kind: file | named pipe"]),
        (with(&|m| m.gnu = true), plain(), &["form: \"  \\u{0}"]),
    ];
    for (left, right, expected) in cases {
        let around = |member: &Member| {
            tar_of(&[dir("a"), file("a/b", b"same"), member.clone(), file("a/z", b"same too")])
        };
        let diff = compared(&made(&around(left)), &made(&around(right)));
        let expected: Vec<String> =
            expected.iter().map(|line| format!("/linux~1amd64/layers/0/a~1x/{line}")).collect();
        let mut found = lines(&diff);
        let form = diff.differences[0].field == Field::Form;
        if form {
            assert!(found[0].ends_with(" @262"), "{found:?}");
            found[0].truncate(expected[0].len());
        }
        assert_eq!(found, expected);
        assert_eq!(diff.verdict, Verdict::Different);
        let counts = Counts { added: 0, removed: 0, changed: u64::from(!form) };
        assert_eq!(diff.layers[0].outcome, LayerOutcome::Different(counts));
    }
}

#[test]
fn paths_that_come_and_go() {
    let left = [dir("a"), dir("a/old"), file("a/old/1", b""), file("a/old/2", b""), file("b", b"")];
    let right = [dir("a"), file("a/.wh.gone", b""), file("a/new", b""), file("b", b""), file("c", b"")];
    let diff = paths(
        &left,
        &right,
        &[
            "/a~1.wh.gone/presence: - | whiteout",
            "/a~1new/presence: - | file",
            "/a~1old/presence: directory | - +2",
            "/c/presence: - | file",
        ],
    );
    let counts = Counts { added: 3, removed: 3, changed: 0 };
    assert_eq!(diff.layers[0].outcome, LayerOutcome::Different(counts));
}

#[test]
fn the_first_byte_across_the_borders_of_buffers() {
    for (length, at) in [(200_000, 65_535), (200_000, 65_536), (200_000, 65_537), (65_536, 65_535)] {
        let left: Vec<u8> = vec![b'x'; length];
        let mut right = left.clone();
        right[at] = b'y';
        let diff = compared(&made(&tar_of(&[file("f", &left)])), &made(&tar_of(&[file("f", &right)])));
        let sample = |first: char| format!("\"{first}{}\"", "x".repeat((length - at - 1).min(15)));
        let found = &diff.differences[0];
        assert_eq!((found.offset, diff.count()), (Some(at as u64), 1));
        assert_eq!((found.left.clone(), found.right.clone()), (Some(sample('x')), Some(sample('y'))));
        let diff = compared(&made(&tar_of(&[file("f", &left)])), &made(&tar_of(&[file("f", &left[..at])])));
        assert_eq!(diff.differences[1].offset, Some(at as u64));
        assert_eq!(diff.differences[1].right.as_deref(), Some("the end of the file"));
    }
}

#[test]
fn recompressed_is_not_different() {
    let tar = tar_of(&[dir("a"), file("a/b", &[7; 100_000])]);
    let with = |compression| {
        let maker = Maker::new();
        let layer = maker.layer(&tar, compression);
        let root = maker.image(&[("app", layer)], |_, _| {});
        maker.done(root)
    };
    let all = [Compression::Gzip, Compression::Zstd, Compression::None].map(with);
    for (i, left) in all.iter().enumerate() {
        for (j, right) in all.iter().enumerate() {
            let diff = compared(left, right);
            if i == j {
                assert_eq!((diff.verdict, diff.count()), (Verdict::Same, 0));
                continue;
            }
            assert_eq!(diff.verdict, Verdict::Recompressed);
            assert_eq!(diff.layers[0].outcome, LayerOutcome::Recompressed);
            assert_eq!(diff.differences.len(), 1);
            assert_eq!(diff.differences[0].place(), "/linux~1amd64/layers/0/compression");
        }
    }
}

#[test]
fn another_order_is_found_and_does_not_hide_anything() {
    let sorted = [dir("a"), file("a/x", b"1"), file("a-b", b"2"), file("b", b"3")];
    let mut other = sorted.to_vec();
    other.swap(1, 2);
    // Byte order of whole names, as many tools have it.
    let order = |members: &[Member]| made(&tar_of(members));
    let diff = compared(&order(&sorted), &order(&other));
    assert_eq!(diff.differences.len(), 1);
    assert_eq!((&diff.differences[0].field, diff.differences[0].offset), (&Field::Form, Some(513)));
    assert_eq!(diff.differences[0].place(), "/linux~1amd64/layers/0/form");
    let mut changed = other.clone();
    changed[2].content = b"9".to_vec();
    changed[3].mode = 0o600;
    changed.push(file("c", b""));
    let expected = ["/a~1x/content: \"1\" | \"9\" @0", "/b/mode: 0644 | 0600", "/c/presence: - | file"];
    paths(&sorted, &changed, &expected);
    paths(&other, &changed, &expected);
}

#[test]
fn one_path_twice() {
    let once = [file("a", b"1"), file("b", b"")];
    let twice = [file("a", b"1"), file("b", b""), file("a", b"2")];
    paths(&once, &twice, &["/a/presence: - | file"]);
    let other = [file("a", b"1"), file("b", b""), file("a", b"3")];
    paths(&twice, &other, &["/a/content: \"2\" | \"3\" @0"]);
}

#[test]
fn what_stands_behind_the_last_entry() {
    let tar = tar_of(&[file("a", b"1")]);
    let mut padded = tar.clone();
    padded.extend([0; 1024]);
    let diff = compared(&made(&tar), &made(&padded));
    assert_eq!(diff.differences.len(), 1);
    assert_eq!(diff.differences[0].offset, Some(tar.len() as u64));
    assert_eq!(diff.differences[0].place(), "/linux~1amd64/layers/0/form");
    let mut dirty = tar.clone();
    dirty[512 + 7] = 1;
    assert_eq!(compared(&made(&tar), &made(&dirty)).differences[0].offset, Some(519));
}

#[test]
fn many_differences_are_counted() {
    let left: Vec<Member> = (0..150).map(|_| file("x", b"")).collect();
    let tar = |mode| {
        let members: Vec<Member> = left
            .iter()
            .enumerate()
            .map(|(i, member)| Member {
                path: Box::leak(format!("f{i:03}").into_boxed_str()),
                mode,
                ..member.clone()
            })
            .collect();
        tar_of(&members)
    };
    let diff = compared(&made(&tar(0o644)), &made(&tar(0o600)));
    assert_eq!((diff.differences.len(), diff.more, diff.count()), (100, 50, 150));
    assert_eq!(diff.to_value()["more"], 50);
}

#[test]
fn names_that_take_too_much_memory_are_refused() {
    let members = [file("b", b"1"), file("a", b"2")];
    let image = made(&tar_of(&members));
    let found = image.store.images(&image.root).unwrap().remove(0);
    let layer = stream::LayerSource {
        store: &image.store,
        descriptor: found.manifest.value().layers[0].clone(),
        diff_id: found.config.value().diff_ids[0].clone(),
        label: "it".into(),
    };
    let read = |limit| entries::Indexed::read(&layer, None, limit, &()).map(|_| ()).map_err(|e| e.code());
    assert_eq!((read(100), read(100_000)), (Err("E-TAR-LIMIT"), Ok(())));
}

mod order {
    use std::cmp::Ordering;

    use dmoci_layers::{Entry, EntryKind, SafePath};
    use proptest::prelude::*;

    use super::super::super::entries::order;

    /// A path as the tar has it, and the entry that dmoci writes so.
    fn entry() -> impl Strategy<Value = (SafePath, Entry)> {
        ("[ab/.-]{0,6}", 0..3).prop_filter_map("no path", |(text, kind)| {
            let path = SafePath::parse(text.as_bytes()).ok()?;
            let (kind, written) = match kind {
                0 => (EntryKind::Directory, path.clone()),
                1 => (EntryKind::Opaque, path.join(b".wh..wh..opq").ok()?),
                _ if path.is_root() => return None,
                _ => (EntryKind::Whiteout, path.parent()?.join(&[b".wh.", path.name()].concat()).ok()?),
            };
            Some((written, Entry { path, kind, mode: 0, uid: 0, gid: 0, xattrs: vec![] }))
        })
    }

    proptest! {
        #[test]
        fn is_that_of_the_writer((a, left) in entry(), (b, right) in entry()) {
            let writer = dmoci_layers::layer::order(&left, &right);
            if writer != Ordering::Equal {
                prop_assert_eq!(order(&a, &b), writer);
            }
            prop_assert_eq!(order(&a, &b) == Ordering::Equal, a == b);
        }
    }
}
