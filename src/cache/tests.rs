use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(&dir.path().join("dmoci")).unwrap();
    (dir, cache)
}

fn now() -> Moment {
    Moment::now(std::path::Path::new("/tmp")).unwrap()
}

fn key(text: &str) -> Digest {
    let mut key = KeyWriter::new(Kind::Layer, now());
    key.bytes(text.as_bytes());
    key.finish().unwrap()
}

#[test]
fn records_come_back_as_they_went() {
    let (_dir, cache) = cache();
    let value = (7u64, "seven".to_owned());
    cache.put(Kind::Layer, &key("a"), &value);
    assert_eq!(cache.get(Kind::Layer, &key("a")), Some(value));
    assert_eq!(cache.get::<(u64, String)>(Kind::Layer, &key("b")), None);
    assert_eq!(cache.get::<(u64, String)>(Kind::Tree, &key("a")), None);
}

#[test]
fn records_are_copied_as_they_were_kept() {
    let (_dir, cache) = cache();
    let payload: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    cache.put_from(Kind::Archive, &key("a"), payload.len() as u64, &mut &payload[..]);
    let mut copy = Vec::new();
    assert_eq!(cache.copy(Kind::Archive, &key("a"), &mut copy), Some(()));
    assert!(copy == payload);
    let path = cache.path(Kind::Archive, &key("a"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[200_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(cache.copy(Kind::Archive, &key("a"), &mut io::sink()), None);
    cache.put_from(Kind::Archive, &key("b"), limits::CACHE_RECORD_BYTES, &mut &payload[..]);
    assert_eq!(cache.copy(Kind::Archive, &key("b"), &mut io::sink()), None);
}

#[test]
fn directories_in_the_way_are_replaced() {
    let (_dir, cache) = cache();
    let path = cache.path(Kind::Layer, &key("a"));
    fs::create_dir_all(path.join("deep/er")).unwrap();
    assert_eq!((cache.usage().records, cache.usage().blobs), (0, 0));
    cache.put(Kind::Layer, &key("a"), &7u64);
    assert_eq!(cache.get(Kind::Layer, &key("a")), Some(7u64));

    let blob = cache.directory().join("a blob");
    fs::write(&blob, "blob").unwrap();
    let digest = Digest::sha256(b"blob");
    fs::create_dir_all(cache.directory().join("blobs").join(digest.hex()).join("deep")).unwrap();
    cache.keep_blobs(&[(digest.clone(), blob)]).unwrap();
    let taken = cache.directory().join("taken");
    assert!(cache.take_blob(&digest, 4, &taken).unwrap());
    assert_eq!(fs::read(&taken).unwrap(), b"blob");
}

#[test]
fn blobs_that_cannot_be_kept_are_no_error() {
    let (_dir, cache) = cache();
    let files = ["one", "two"].map(|text| {
        let path = cache.directory().join(text);
        fs::write(&path, text).unwrap();
        (Digest::sha256(text.as_bytes()), path)
    });
    // Nowhere to keep them: no error, or what was learnt of the layers would not be kept either.
    fs::remove_dir_all(cache.directory().join("blobs")).unwrap();
    cache.keep_blobs(&files).unwrap();
    fs::create_dir(cache.directory().join("blobs")).unwrap();
    cache.keep_blobs(&files).unwrap();
    assert!(cache.take_blob(&files[1].0, 3, &cache.directory().join("taken")).unwrap());
}

#[test]
fn every_damaged_byte_makes_a_record_a_miss() {
    let (_dir, cache) = cache();
    let path = cache.path(Kind::Layer, &key("a"));
    cache.put(Kind::Layer, &key("a"), &(7u64, "seven".to_owned()));
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        assert_eq!(cache.get::<(u64, String)>(Kind::Layer, &key("a")), None, "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert_eq!(cache.get::<(u64, String)>(Kind::Layer, &key("a")), None, "cut at {at}");
    }
    fs::write(&path, &good).unwrap();
    assert!(cache.get::<(u64, String)>(Kind::Layer, &key("a")).is_some());
    // A sound record under the name of another, or behind a link, is none.
    fs::rename(&path, cache.path(Kind::Layer, &key("b"))).unwrap();
    assert_eq!(cache.get::<(u64, String)>(Kind::Layer, &key("b")), None);
    std::os::unix::fs::symlink(cache.path(Kind::Layer, &key("b")), &path).unwrap();
    assert_eq!(cache.get::<(u64, String)>(Kind::Layer, &key("a")), None);
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("dmoci");
    Cache::open(&root).unwrap();
    assert!(
        fs::read(root.join("CACHEDIR.TAG"))
            .unwrap()
            .starts_with(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    );
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Cache::open(&root), Err(CacheError::Foreign(_))));
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let of = |parts: &[&str]| {
        let mut key = KeyWriter::new(Kind::Layer, now());
        parts.iter().for_each(|part| key.bytes(part.as_bytes()));
        key.finish()
    };
    assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    let long = "x".repeat(3 * BUFFER);
    assert_ne!(of(&[&long, "y"]), of(&[&long, "z"]));
    assert_ne!(KeyWriter::new(Kind::Layer, now()).finish(), KeyWriter::new(Kind::Tree, now()).finish());
}

#[test]
fn a_key_over_a_racy_file_is_none() {
    let (dir, _cache) = cache();
    let before = Moment::now(dir.path()).unwrap();
    let file = fs::File::create(dir.path().join("f")).unwrap();
    let stamp = Stamp::of_file(&file).unwrap();
    let of = |since| {
        let mut key = KeyWriter::new(Kind::Layer, since);
        key.stamp(&stamp);
        key.finish()
    };
    assert_eq!(of(before), None);
    let after = Moment::after(dir.path(), [stamp].iter()).unwrap().unwrap();
    assert!(of(after).is_some());
}

#[test]
fn a_blob_is_used_only_while_it_is_the_one_that_was_hashed() {
    let (dir, cache) = cache();
    let made = dir.path().join("made");
    fs::write(&made, "layer").unwrap();
    let digest = Digest::sha256(b"layer");
    let elsewhere = dir.path().join("elsewhere");
    assert!(!cache.take_blob(&digest, 5, &elsewhere).unwrap());
    cache.keep_blobs(&[(digest.clone(), made.clone())]).unwrap();
    assert!(cache.was_seen(&Stamp::of_file(&open_regular(&made).unwrap()).unwrap(), &digest));
    assert!(cache.take_blob(&digest, 5, &elsewhere).unwrap());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"layer");
    // It has one more name now, so its stamp is another: it is hashed, and found right.
    assert!(cache.is_blob(&made, &digest, 5));
    assert!(!cache.is_blob(&made, &digest, 6));
    fs::write(&made, "mayer").unwrap();
    assert!(!cache.is_blob(&made, &digest, 5));
    let again = dir.path().join("again");
    assert!(!cache.take_blob(&digest, 5, &again).unwrap(), "all names are one file, which was damaged");
    assert!(!again.exists());
}

#[test]
fn what_is_old_or_too_much_goes() {
    let (dir, cache) = cache();
    let made = dir.path().join("made");
    fs::write(&made, [0; 1000]).unwrap();
    let digest = Digest::sha256(&[0; 1000]);
    cache.keep_blobs(&[(digest.clone(), made)]).unwrap();
    cache.put(Kind::Layer, &key("a"), &1u8);
    let all = cache.usage();
    assert_eq!((all.blobs, all.records), (1, 2));
    assert!(all.bytes > 1000);
    let now = Moment::now(dir.path()).unwrap().time();
    cache.sweep_to(now, 60, 1 << 20);
    assert_eq!(cache.usage(), all);
    cache.sweep_to(now, 60, 999);
    assert_eq!(cache.usage().blobs, 0);
    assert_eq!(cache.usage().records, 2);
    cache.sweep_to((now.0 + 61, 0), 60, 1 << 20);
    assert_eq!(cache.usage(), Usage::default());
}
