use super::*;
use proptest::prelude::*;

/// A header block with the fields given and a right checksum.
fn block(name: &[u8], typeflag: u8, size: u64, change: impl FnOnce(&mut [u8; 512])) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000001");
    block[116..123].copy_from_slice(b"0000002");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000005");
    block[156] = typeflag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    let sum: u32 =
        block.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) }).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

fn plain(name: &str, typeflag: u8, content: &[u8]) -> Vec<u8> {
    padded(block(name.as_bytes(), typeflag, content.len() as u64, |_| ()), content)
}

fn padded(mut header: Vec<u8>, content: &[u8]) -> Vec<u8> {
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length += 1;
        }
        content += &format!("{length} {key}={value}\n");
    }
    plain("PaxHeader", b'x', content.as_bytes())
}

fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = parts.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

type Seen = (String, MemberKind, Vec<u8>);

fn read(bytes: &[u8]) -> Result<(Vec<Seen>, Trailer), TarError> {
    let mut reader = TarReader::new(bytes, TarLimits { max_entries: 1000, max_extension_bytes: 4096 });
    let mut seen = Vec::new();
    while let Some(mut member) = reader.next()? {
        let mut content = Vec::new();
        let offset = member.data_offset;
        member.read_to_end(&mut content).map_err(|source| TarError::Io { offset, source })?;
        assert_eq!(content.len() as u64, member.size);
        assert!(bytes[member.header_offset as usize..].starts_with(&member.header));
        assert_eq!(member.header_offset + member.header.len() as u64, member.data_offset);
        seen.push((member.raw_path.escape_ascii().to_string(), member.kind.clone(), content));
    }
    assert_eq!(reader.offset(), bytes.len() as u64);
    Ok((seen, reader.trailer()))
}

/// The one member of an archive of `parts`, and its content.
fn one<T>(parts: &[Vec<u8>], look: impl FnOnce(&Member<'_>) -> T) -> T {
    let bytes = archive(parts);
    let mut reader = TarReader::new(&bytes[..], TarLimits::default());
    let member = reader.next().unwrap().unwrap();
    look(&member)
}

fn refused(parts: &[Vec<u8>]) -> &'static str {
    match read(&archive(parts)).unwrap_err() {
        TarError::Io { .. } => "io",
        TarError::Truncated { .. } => "truncated",
        TarError::Trailing { .. } => "trailing",
        TarError::Checksum { .. } => "checksum",
        TarError::Malformed { .. } => "malformed",
        TarError::Ambiguous { .. } => "ambiguous",
        TarError::Sparse { .. } => "sparse",
        TarError::Entries(_) => "entries",
        TarError::Extension { .. } => "extension",
    }
}

#[test]
fn members_and_contents() {
    let link = block(b"l", b'2', 0, |b| b[157..160].copy_from_slice(b"a/b"));
    let device = block(b"d", b'3', 0, |b| {
        b[329..336].copy_from_slice(b"0000005");
        b[337..344].copy_from_slice(b"0000001");
    });
    let bytes = archive(&[plain("a/", b'5', b""), plain("a/b", b'0', b"content"), link, device]);
    let (seen, trailer) = read(&bytes).unwrap();
    let kinds: Vec<_> = seen.iter().map(|(name, kind, _)| (name.as_str(), kind.clone())).collect();
    let expected = [
        ("a/", MemberKind::Directory),
        ("a/b", MemberKind::File),
        ("l", MemberKind::Symlink { target: b"a/b".to_vec() }),
        ("d", MemberKind::CharDevice { major: 5, minor: 1 }),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(seen[1].2, b"content");
    assert_eq!(trailer, Trailer::default());
}

#[test]
fn what_the_tar_crate_writes_is_read() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = "directory/".repeat(30) + "file";
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o755);
    header.set_uid(1 << 30);
    builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "link", "x".repeat(200)).unwrap();
    let bytes = builder.into_inner().unwrap();
    let (seen, _) = read(&bytes).unwrap();
    assert_eq!((seen[0].0.as_str(), seen[0].2.as_slice()), (long.as_str(), &b"abc"[..]));
    assert_eq!(seen[1].1, MemberKind::Symlink { target: vec![b'x'; 200] });
    let mut reader = TarReader::new(&bytes[..], TarLimits::default());
    assert_eq!(reader.next().unwrap().unwrap().uid, 1 << 30);
}

#[test]
fn names_from_prefix_and_records() {
    let prefixed = block(b"name", b'0', 0, |b| b[345..351].copy_from_slice(b"prefix"));
    assert_eq!(one(&[prefixed], |m| m.raw_path.clone()), b"prefix/name");
    let gnu = block(b"name", b'0', 0, |b| {
        b[257..265].copy_from_slice(b"ustar  \0");
        b[345..351].copy_from_slice(b"000000");
    });
    assert_eq!(one(&[gnu], |m| m.raw_path.clone()), b"name");
    let records = pax(&[
        ("path", "p\u{e9}/q"),
        ("uid", "9999999999"),
        ("mtime", "-1.25"),
        ("SCHILY.xattr.user.a", "1=2\n"),
    ]);
    one(&[records, plain("short", b'0', b"")], |m| {
        assert_eq!(m.path().unwrap().as_bytes(), "p\u{e9}/q".as_bytes());
        assert_eq!((m.uid, m.gid, m.mtime, m.mtime_nanos), (9_999_999_999, 2, -2, 750_000_000));
        assert_eq!(m.xattrs, [(b"user.a".to_vec(), b"1=2\n".to_vec())]);
    });
    assert!(one(&[plain("../x", b'0', b"")], |m| m.path().is_err()));
}

#[test]
fn old_directories_end_in_a_slash() {
    let v7 = |flag| block(b"dir/", flag, 0, |b| b[257..265].fill(0));
    assert_eq!(one(&[v7(0)], |m| m.kind.clone()), MemberKind::Directory);
    assert_eq!(one(&[v7(b'0')], |m| m.kind.clone()), MemberKind::Directory);
    assert_eq!(refused(&[plain("dir/", b'0', b"")]), "ambiguous");
}

#[test]
fn base_256_numbers() {
    let big = block(b"x", b'6', 0, |b| {
        b[108..116].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0]);
        b[136..148].copy_from_slice(&[0xff; 12]);
    });
    one(&[big], |m| assert_eq!((m.uid, m.mtime), (1 << 32, -1)));
    let negative = block(b"x", b'6', 0, |b| b[124..136].copy_from_slice(&[0xff; 12]));
    assert_eq!(refused(&[negative]), "malformed");
    let huge = block(b"x", b'0', 0, |b| b[124..136].copy_from_slice(&[0xbf; 12]));
    assert_eq!(refused(&[huge]), "malformed");
}

#[test]
fn the_record_of_a_size_governs_and_the_difference_is_told() {
    let bytes = archive(&[
        pax(&[("size", "5")]),
        padded(block(b"x", b'0', 0, |_| ()), b"inner"),
        plain("y", b'0', b""),
    ]);
    let (seen, _) = read(&bytes).unwrap();
    assert_eq!((seen.len(), seen[0].2.as_slice()), (2, &b"inner"[..]));
    let mut reader = TarReader::new(&bytes[..], TarLimits::default());
    assert_eq!(reader.next().unwrap().unwrap().size_disagreement, Some((0, 5)));
    // A reader that applies the record to the long name finds another archive.
    assert_eq!(
        refused(&[pax(&[("size", "5")]), plain("", b'L', b"long"), plain("x", b'0', b"")]),
        "ambiguous"
    );
}

#[test]
fn what_readers_disagree_about_is_refused() {
    let file = || plain("x", b'0', b"");
    assert_eq!(refused(&[pax(&[("path", "a"), ("path", "b")]), file()]), "ambiguous");
    assert_eq!(refused(&[pax(&[("path", "a")]), pax(&[("path", "b")]), file()]), "ambiguous");
    assert_eq!(refused(&[plain("", b'L', b"a\0"), pax(&[("path", "b")]), file()]), "ambiguous");
    assert_eq!(refused(&[plain("", b'L', b"a\0"), plain("", b'L', b"b\0"), file()]), "ambiguous");
    assert_eq!(refused(&[plain("l", b'1', b"data")]), "ambiguous");
    assert_eq!(refused(&[plain("d/", b'5', b"data")]), "ambiguous");
    let global = padded(block(b"g", b'g', 10, |_| ()), b"10 path=a\n");
    assert_eq!(refused(&[global, file()]), "ambiguous");
}

#[test]
fn a_global_comment_is_passed_over() {
    let comment = padded(block(b"pax_global_header", b'g', 13, |_| ()), b"13 comment=x\n");
    let (seen, trailer) = read(&archive(&[comment, plain("x", b'0', b"")])).unwrap();
    assert_eq!((seen.len(), trailer.global_headers), (1, 1));
}

#[test]
fn malformed_records() {
    for bad in [
        "04 a=b\n",
        "6 a=b",
        "6 a=bX",
        "6 =ab\n",
        "6 abc\n",
        "99 a=b\n",
        "x a=b\n",
        "-6 a=b\n",
        "18446744073709551617 a=b\n",
        "9 path=\0\n",
    ] {
        let header = plain("p", b'x', bad.as_bytes());

        assert_eq!(refused(&[header, plain("x", b'0', b"")]), "malformed", "{bad:?}");
    }
    for (key, value) in
        [("size", "-1"), ("uid", "1.5"), ("mtime", "x"), ("mtime", "1.x"), ("size", "99999999999999999999")]
    {
        assert_eq!(refused(&[pax(&[(key, value)]), plain("x", b'0', b"")]), "malformed", "{key}={value}");
    }
    assert_eq!(refused(&[pax(&[("path", "a")])]), "malformed");
    assert_eq!(refused(&[plain("", b'L', b"a\0b"), plain("x", b'0', b"")]), "malformed");
}

#[test]
fn bounds() {
    assert_eq!(refused(&[plain("", b'L', &[b'a'; 5000]), plain("x", b'0', b"")]), "extension");
    assert_eq!(refused(&[block(b"", b'x', 1 << 32, |_| ())]), "extension");
    assert_eq!(refused(&vec![plain("x", b'0', b""); 1001]), "entries");
    assert_eq!(refused(&[plain("x", b'S', b"")]), "sparse");
    assert_eq!(refused(&[pax(&[("GNU.sparse.major", "1")]), plain("x", b'0', b"")]), "sparse");
}

#[test]
fn the_end_must_be_there_and_be_the_end() {
    let good = archive(&[plain("x", b'0', b"abc")]);
    for end in 0..good.len() {
        assert!(
            matches!(read(&good[..end]), Err(TarError::Truncated { .. } | TarError::Io { .. })),
            "cut at {end}"
        );
    }
    let more = [&good[..], &[0; 9216]].concat();
    assert_eq!(read(&more).unwrap().1.extra_zeros, 9216);
    assert!(matches!(read(&[&good[..], b"x"].concat()), Err(TarError::Trailing { .. })));
    assert!(matches!(read(&[&good[..], &good[..]].concat()), Err(TarError::Trailing { .. })));
    let mut lone = good.clone();
    lone[1536] = 1;
    assert!(matches!(read(&lone), Err(TarError::Trailing { .. })));
}

#[test]
fn dirty_padding_is_told() {
    let mut bytes = archive(&[plain("x", b'0', b"abc")]);
    bytes[600] = 1;
    assert_eq!(read(&bytes).unwrap().1.dirty_padding, 1);
}

#[test]
fn every_flipped_header_byte_is_found() {
    let good = archive(&[plain("x", b'0', b"abc")]);
    for i in (0..512).filter(|i| !(148..156).contains(i)) {
        let mut bad = good.clone();
        bad[i] ^= 0x20;
        assert!(read(&bad).is_err(), "{i}");
    }
}

/// What core writes comes back.
fn entry() -> impl Strategy<Value = (crate::Entry, Vec<u8>)> {
    use crate::EntryKind::*;
    let kind = prop_oneof![
        Just(Directory),
        Just(File { size: 0 }),
        proptest::collection::vec(1u8.., 1..150).prop_map(|target| Symlink { target }),
        (0u32..1000, 0u32..1000).prop_map(|(major, minor)| BlockDevice { major, minor }),
    ];
    let name = proptest::collection::vec(
        any::<u8>().prop_filter("a name", |b| !matches!(b, 0 | b'/' | b'.')),
        1..120,
    );
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join(&b'/'));
    let content = proptest::collection::vec(any::<u8>(), 0..1100);
    (path, kind, 0u32..0o10000, any::<u64>(), any::<u64>(), content, proptest::option::of("[a-z.]{1,40}"))
        .prop_map(|(path, kind, mode, uid, gid, content, xattr)| {
            let content = if matches!(kind, File { .. }) { content } else { Vec::new() };
            let kind = if matches!(kind, File { .. }) { File { size: content.len() as u64 } } else { kind };
            let xattrs = xattr.map(|name| (name.into_bytes(), b"v\0\n=".to_vec())).into_iter().collect();
            (crate::Entry { path: SafePath::parse(&path).unwrap(), kind, mode, uid, gid, xattrs }, content)
        })
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_header_ends(fields in proptest::collection::vec((0usize..512, any::<u8>()), 0..20), flag in any::<u8>(), content in "[0-9a-z =\n.]{0,100}") {
        let header = block(b"x", flag, content.len() as u64, |b| for (at, byte) in fields { b[at] = byte; });
        let _ = read(&archive(&[padded(header, content.as_bytes()), plain("y", b'0', b"")]));
    }

    #[test]
    fn what_is_encoded_is_read_back(entries in proptest::collection::vec(entry(), 0..5)) {
        let mut bytes = Vec::new();
        for (entry, content) in &entries {
            crate::tar::write_header(entry, &mut bytes).unwrap();
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend_from_slice(&crate::tar::END);
        let mut reader = TarReader::new(&bytes[..], TarLimits::default());
        for (entry, content) in &entries {
            let mut member = reader.next().unwrap().unwrap();
            prop_assert_eq!(&member.path().unwrap(), &entry.path);
            prop_assert_eq!((member.uid, member.gid), (entry.uid, entry.gid));
            prop_assert_eq!((member.mtime, &member.xattrs), (crate::MTIME as i64, &entry.xattrs));
            let mut read = Vec::new();
            member.read_to_end(&mut read).unwrap();
            prop_assert_eq!(&read, content);
        }
        prop_assert!(reader.next().unwrap().is_none());
    }
}
