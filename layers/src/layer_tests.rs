use std::io::Read;
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

fn path(path: &[u8]) -> SafePath {
    SafePath::parse(path).unwrap()
}

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    Entry { path: path(name), kind, mode, uid: 0, gid: 0, xattrs: Vec::new() }
}

fn file(name: &[u8], content: &[u8]) -> (Entry, Vec<u8>) {
    (entry(name, EntryKind::File { size: content.len() as u64 }), content.to_vec())
}

fn other(name: &[u8], kind: EntryKind) -> (Entry, Vec<u8>) {
    (entry(name, kind), Vec::new())
}

/// Gives at most `chunk` bytes a read.
struct Chunked<'a>(&'a [u8], usize);

impl Read for Chunked<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(out.len());
        self.0.read(&mut out[..most])
    }
}

fn write(
    entries: &[(Entry, Vec<u8>)],
    compression: Compression,
    threads: usize,
    chunk: usize,
) -> Result<(Layer, Vec<u8>), LayerError> {
    let mut writer =
        LayerWriter::new(Vec::new(), compression, &Pool::new(NonZeroUsize::new(threads).unwrap()));
    for (entry, content) in entries {
        writer.add(entry, &mut Chunked(content, chunk))?;
    }
    writer.finish()
}

/// Everything that a layer can hold, once.
fn everything() -> Vec<(Entry, Vec<u8>)> {
    let mut entries = vec![
        other(b"", EntryKind::Directory),
        other(b"gone", EntryKind::Whiteout),
        other(b"dev", EntryKind::Directory),
        other(b"dev/null", EntryKind::CharDevice { major: 1, minor: 3 }),
        other(b"dev/sda", EntryKind::BlockDevice { major: 8, minor: 0 }),
        other(b"etc", EntryKind::Directory),
        other(b"etc", EntryKind::Opaque),
        other(b"etc/old", EntryKind::Whiteout),
        file(b"etc/a", b"text\n"),
        file(b"etc/a-b", &[7; 1000]),
        other(b"etc/link", EntryKind::HardLink { target: path(b"etc/a") }),
        other(b"etc/soft", EntryKind::Symlink { target: b"../etc/\xffnowhere".to_vec() }),
        other(&[b'l'; 150], EntryKind::Symlink { target: vec![b't'; 300] }),
        file("n\u{e9}".as_bytes(), b""),
        file(b"\xff\xfe", b"not UTF-8"),
    ];
    entries[9].0.mode = 0o4755;
    entries[9].0.uid = 10001;
    entries[9].0.gid = 1 << 33;
    entries[9].0.xattrs =
        vec![(b"user.z".to_vec(), b"\0".to_vec()), (b"security.capability".to_vec(), vec![1; 20])];
    entries
}

#[test]
fn golden() {
    let layer = |compression| write(&everything(), compression, 2, 4096).unwrap().0;
    let gzip = layer(Compression::Gzip);
    assert_eq!(
        gzip.diff_id.to_string(),
        "sha256:dd8daf05544b3731728ce8ee78f1dbbdde75776752aaef88baaf61e96e5aa792"
    );
    assert_eq!(
        gzip.digest.to_string(),
        "sha256:33c704d5ded471031cc704cc08b8f9a9f4ab562385ed77478781861b62c54e87"
    );
    assert_eq!(
        layer(Compression::Zstd).digest.to_string(),
        "sha256:115f11b35f965cab3135c9a1ec0db043c40455792f9cb19262321ce93a6dcee9"
    );
    let plain = layer(Compression::None);
    assert_eq!(plain.digest, plain.diff_id);
    assert_eq!(plain.size, plain.tar_size);
}

#[test]
fn empty() {
    let (layer, bytes) = write(&[], Compression::None, 1, 1).unwrap();
    assert_eq!((layer.entries, layer.tar_size, bytes), (0, 1024, vec![0; 1024]));
    // The well-known empty layer of docker.
    assert_eq!(layer.diff_id.hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
}

#[test]
fn refused() {
    let refused = |entries: &[(Entry, Vec<u8>)]| write(entries, Compression::None, 1, 4096).unwrap_err();
    let dir = |name| other(name, EntryKind::Directory);
    assert!(matches!(refused(&[file(b"b", b""), file(b"a", b"")]), LayerError::Order { .. }));
    assert!(matches!(refused(&[file(b"a", b""), dir(b"a")]), LayerError::Twice(_)));
    assert!(matches!(refused(&[file(b"a/b", b"")]), LayerError::NoParent(_)));
    assert!(matches!(refused(&[dir(b"a"), file(b"b/c", b"")]), LayerError::NoParent(_)));
    assert!(matches!(refused(&[file(b"a", b""), file(b"a/b", b"")]), LayerError::NoParent(_)));
    assert!(matches!(refused(&[other(b"a", EntryKind::Opaque)]), LayerError::NoParent(_)));
    assert!(matches!(
        refused(&[other(b"a", EntryKind::Whiteout), file(b"a/b", b"")]),
        LayerError::NoParent(_)
    ));
    assert!(matches!(refused(&[file(b".wh.a", b"")]), LayerError::WhiteoutName(_)));
    let forward = other(b"a", EntryKind::HardLink { target: path(b"b") });
    assert!(matches!(refused(&[forward]), LayerError::Order { .. }));
    let mut short = file(b"a", b"12345");
    short.1.pop();
    assert!(matches!(refused(&[short]), LayerError::Size { expected: 5, found: 4, .. }));
    let mut long = file(b"a", b"12345");
    long.1.push(0);
    assert!(matches!(refused(&[long]), LayerError::Size { expected: 5, found: 6, .. }));
}

/// What the `tar` crate, which shares no code with the writer, reads back.
///
/// It ends a PAX record at the first newline instead of counting, so what is given to it here holds none in
/// values; `untar` is tested with these.
fn decode(tar: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut archive = ::tar::Archive::new(tar);
    let mut decoded = Vec::new();
    for item in archive.entries().unwrap() {
        let mut item = item.unwrap();
        let raw = item.path_bytes().into_owned();
        let link = || item.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let header = item.header();
        assert_eq!(header.mtime().unwrap(), crate::MTIME);
        let device = || (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
        let mut name = path(&raw);
        let mut kind = match header.entry_type() {
            ::tar::EntryType::Directory => EntryKind::Directory,
            ::tar::EntryType::Regular => EntryKind::File { size: item.size() },
            ::tar::EntryType::Link => EntryKind::HardLink { target: path(&link()) },
            ::tar::EntryType::Symlink => EntryKind::Symlink { target: link() },
            ::tar::EntryType::Char => EntryKind::CharDevice { major: device().0, minor: device().1 },
            ::tar::EntryType::Block => EntryKind::BlockDevice { major: device().0, minor: device().1 },
            other => panic!("{other:?}"),
        };
        if name.name() == b".wh..wh..opq" {
            (name, kind) = (name.parent().unwrap(), EntryKind::Opaque);
        } else if let Some(hidden) = name.name().strip_prefix(b".wh.") {
            (name, kind) = (name.parent().unwrap().join(hidden).unwrap(), EntryKind::Whiteout);
        }
        let mode = header.mode().unwrap();
        let (mut uid, mut gid) = (header.uid().unwrap(), header.gid().unwrap());
        let mut xattrs = Vec::new();
        for record in item.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let number = || record.value().unwrap().parse().unwrap();
            match record.key().unwrap() {
                "uid" => uid = number(),
                "gid" => gid = number(),
                key => xattrs.extend(
                    key.strip_prefix("SCHILY.xattr.").map(|key| (key.into(), record.value_bytes().to_vec())),
                ),
            }
        }
        let mut content = Vec::new();
        item.read_to_end(&mut content).unwrap();
        decoded.push((Entry { path: name, kind, mode, uid, gid, xattrs }, content));
    }
    decoded
}

/// What is lost on purpose: a symbolic link has one mode, what is hidden has neither mode nor owner.
fn as_written((mut entry, content): (Entry, Vec<u8>)) -> (Entry, Vec<u8>) {
    match entry.kind {
        EntryKind::Symlink { .. } => entry.mode = 0o777,
        EntryKind::Whiteout | EntryKind::Opaque => {
            (entry.mode, entry.uid, entry.gid) = (0, 0, 0);
            entry.xattrs.clear();
        }
        _ => {}
    }
    entry.xattrs.sort();
    (entry, content)
}

#[test]
fn read_back() {
    let (_, tar) = write(&everything(), Compression::None, 1, 4096).unwrap();
    assert_eq!(decode(&tar), everything().into_iter().map(as_written).collect::<Vec<_>>());
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let short = prop::collection::vec(prop_oneof![1u8..=9, 11u8..=46, 48u8..=255], 1..6);
    let long = (97u8..123, 90usize..250).prop_map(|(b, n)| vec![b; n]);
    prop_oneof![9 => short, 1 => long]
        .prop_filter("a name", |n| n != b"." && n != b".." && !n.starts_with(b".wh."))
}

fn kinds() -> impl Strategy<Value = (EntryKind, Vec<u8>)> {
    let files = prop::collection::vec(any::<u8>(), 0..2000)
        .prop_map(|content| (EntryKind::File { size: content.len() as u64 }, content));
    let target = prop::collection::vec(prop_oneof![1u8..=9, 11u8..=255], 1..200);
    prop_oneof![
        4 => Just((EntryKind::Directory, vec![])),
        4 => files,
        1 => target.prop_map(|target| (EntryKind::Symlink { target }, vec![])),
        1 => (0u32..2_097_152, 0u32..2_097_152).prop_map(|(major, minor)| (EntryKind::CharDevice { major, minor }, vec![])),
        1 => Just((EntryKind::Whiteout, vec![])),
    ]
}

prop_compose! {
    fn entries()(
        kind in kinds(),
        depth in prop::collection::vec(names(), 1..5),
        mode in 0u32..0o10000,
        uid in prop_oneof![0u64..3_000_000, any::<u64>()],
        gid in 0u64..3_000_000,
        xattrs in prop::collection::btree_map("[a-z]{1,9}\\.[a-z]{1,40}", prop::collection::vec(prop_oneof![0u8..=9, 11u8..=255], 0..50), 0..3),
    ) -> (Entry, Vec<u8>) {
        let xattrs = xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
        (Entry { path: path(&depth.join(&b'/')), kind: kind.0, mode, uid, gid, xattrs }, kind.1)
    }
}

/// A set of entries that a layer can hold, in the layer's order: parents there, no path twice.
fn complete(given: Vec<(Entry, Vec<u8>)>) -> Vec<(Entry, Vec<u8>)> {
    let mut set: Vec<(Entry, Vec<u8>)> = Vec::new();
    let mut add = |item: (Entry, Vec<u8>)| {
        if !set.iter().any(|(e, _)| order(e, &item.0).is_eq()) {
            set.push(item);
        }
    };
    for (entry, _) in &given {
        let mut parent = entry.path.parent();
        while let Some(above) = parent.filter(|p| !p.is_root()) {
            add(other(above.as_bytes(), EntryKind::Directory));
            parent = above.parent();
        }
    }
    given.into_iter().for_each(&mut add);
    set.sort_by(|a, b| order(&a.0, &b.0));
    set
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn one_digest_however_it_was_written(
        given in prop::collection::vec(entries(), 0..20),
        (threads, chunk) in (1usize..5, 1usize..5000),
    ) {
        let entries = complete(given.clone());
        let expected = write(&entries, Compression::Gzip, 1, usize::MAX).unwrap();
        let mut turned = given;
        turned.reverse();
        // Of two entries at one path the first given stays, so only their set must be equal.
        let again = complete(turned);
        if again.iter().all(|item| entries.contains(item)) {
            prop_assert_eq!(&write(&again, Compression::Gzip, threads, chunk).unwrap(), &expected);
        }
        prop_assert_eq!(&write(&entries, Compression::Gzip, threads, chunk).unwrap(), &expected);
    }

    #[test]
    fn decoded_is_what_was_encoded(given in prop::collection::vec(entries(), 0..20)) {
        let entries = complete(given);
        let (layer, tar) = write(&entries, Compression::None, 2, 1000).unwrap();
        prop_assert_eq!(layer.entries, entries.len() as u64);
        prop_assert_eq!(decode(&tar), entries.into_iter().map(as_written).collect::<Vec<_>>());
    }

    #[test]
    fn order_is_a_total_order(a in entries(), b in entries(), c in entries()) {
        prop_assert_eq!(order(&a.0, &b.0), order(&b.0, &a.0).reverse());
        if order(&a.0, &b.0).is_le() && order(&b.0, &c.0).is_le() {
            prop_assert!(order(&a.0, &c.0).is_le());
        }
        if !matches!(a.0.kind, EntryKind::Whiteout) && !matches!(b.0.kind, EntryKind::Whiteout) {
            prop_assert_eq!(order(&a.0, &b.0), a.0.path.cmp(&b.0.path));
        }
    }
}
