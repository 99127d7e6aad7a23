//! The build cache: what did not change is not made again, and nothing that it holds is believed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::support::{Project, Run};

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/cached"
platforms = ["linux/amd64", "linux/arm64"]
users = [{ name = "app", uid = 10001 }]

[[layer]]
name = "big"
copy = [{ from = ["big/"], to = "/opt/big" }]

[[layer]]
name = "unpacked"
archive = [{ path = "pack.tar", to = "/srv" }]

[[layer]]
name = "small"
copy = [{ from = ["small/"], to = "/opt/small" }]
file = [{ path = "/etc/platform", content = "${platform.oci}\n" }]
"#;

fn project() -> Project {
    let project = Project::with_spec(SPEC);
    for i in 0..20 {
        project.write(&format!("big/{}/{i}", i % 3), format!("{i}\n").repeat(1000));
    }
    project.write("small/program", "one");
    pack(&project, "packed");
    project.settle();
    project
}

/// An archive with one file of this content.
fn pack(project: &Project, content: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("dir/packed").unwrap();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content.as_bytes()).unwrap();
    project.write("pack.tar", tar.into_inner().unwrap());
}

fn build(project: &Project, more: &[&str]) -> Run {
    project.dmoci(&[&["build", "-v"], more].concat()).ok()
}

/// The digests of a build that knows nothing, into another directory.
fn cold(project: &Project) -> String {
    let elsewhere = tempfile::tempdir().unwrap();
    let out = elsewhere.path().to_str().unwrap();
    project.dmoci(&["build", "--no-cache", "-o", out]).ok().stdout
}

/// The names of layers that were taken as they were, of one platform.
fn unchanged<'a>(run: &'a Run, platform: &str) -> Vec<&'a str> {
    let start = format!("Unchanged {platform}: ");
    let line = run.stderr.lines().find_map(|line| line.trim().strip_prefix(&start));
    line.map(|names| names.split(", ").collect()).unwrap_or_default()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn what_did_not_change_is_not_made_again() {
    let project = project();
    let first = build(&project, &[]);
    // Layers that are the same for both platforms are made once.
    assert_eq!(unchanged(&first, "linux/amd64"), [""; 0]);
    assert_eq!(unchanged(&first, "linux/arm64"), ["big", "unpacked", "users"]);
    let second = build(&project, &[]);
    for platform in ["linux/amd64", "linux/arm64"] {
        assert_eq!(unchanged(&second, platform), ["big", "unpacked", "small", "users"]);
    }
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(second.stdout, cold(&project));
    // One layer alone.
    project.write("small/program", "two");
    project.settle();
    let third = build(&project, &[]);
    assert_eq!(unchanged(&third, "linux/amd64"), ["big", "unpacked", "users"]);
    assert_eq!(third.stdout, cold(&project));
    pack(&project, "packet");
    project.settle();
    let fourth = build(&project, &[]);
    assert_eq!(unchanged(&fourth, "linux/amd64"), ["big", "small", "users"]);
    assert_eq!(fourth.stdout, cold(&project));
    // Back to what was: the files are new ones, so they are read; the blobs are what they were.
    project.write("small/program", "one");
    pack(&project, "packed");
    project.settle();
    assert_eq!(build(&project, &[]).stdout, first.stdout);
    build(&project, &[]);
    let none = build(&project, &["--no-cache"]);
    assert_eq!(unchanged(&none, "linux/amd64"), [""; 0]);
}

#[test]
fn blobs_come_from_the_cache_when_the_output_is_gone() {
    let project = project();
    let first = build(&project, &[]);
    fs::remove_dir_all(project.path("dist")).unwrap();
    let second = build(&project, &[]);
    assert_eq!(unchanged(&second, "linux/amd64"), ["big", "unpacked", "small", "users"]);
    assert_eq!(first.stdout, second.stdout);
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    let other = build(&project, &["-o", "other"]);
    assert_eq!(unchanged(&other, "linux/amd64"), ["big", "unpacked", "small", "users"]);
    project.dmoci(&["verify", "--integrity-only", "other/image"]).ok();
}

type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn damage_costs_time_and_no_byte() {
    let project = project();
    let expected = build(&project, &[]).stdout;
    build(&project, &[]);
    let damages: [Damage<'_>; 4] = [
        &|bytes| bytes.iter_mut().for_each(|b| *b ^= 1),
        &|bytes| bytes.truncate(bytes.len() / 2),
        &|bytes| bytes.clear(),
        // One bit in the middle; the size stays.
        &|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        let kinds = [project.cache().to_owned(), project.path("dist/image/blobs")];
        for folder in &kinds[..1 + number % 2] {
            let all = files(folder);
            assert!(all.len() > 5, "{all:?}");
            for path in all.iter().filter(|path| fs::metadata(path).unwrap().len() > 0) {
                let times = fs::metadata(path).unwrap().modified().unwrap();
                let mut bytes = fs::read(path).unwrap();
                damage(&mut bytes);
                let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
                file.write_all(&bytes).unwrap();
                // Whoever damages it may set the time back.
                file.set_modified(times).unwrap();
            }
        }
        assert_eq!(build(&project, &[]).stdout, expected, "damage {number}");
        project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
        assert_eq!(build(&project, &[]).stdout, expected, "after damage {number}");
    }
}

#[test]
fn a_cache_of_somebody_else_is_not_used() {
    let project = project();
    let expected = build(&project, &[]).stdout;
    let root = project.cache().join("dmoci");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    let run = build(&project, &[]);
    assert!(run.stderr.contains("warning"), "{}", run.stderr);
    assert!(run.stderr.contains("can be written by other users"), "{}", run.stderr);
    assert_eq!(unchanged(&run, "linux/amd64"), [""; 0]);
    assert_eq!(run.stdout, expected);
    // Readable by all and somebody else's, as what root made is for others.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    if std::os::unix::fs::chown(&root, Some(12345), None).is_ok() {
        let run = build(&project, &[]);
        assert!(run.stderr.contains("belongs to another user"), "{}", run.stderr);
        assert_eq!(run.stdout, expected);
    }
    // No directory at all is no error either.
    fs::remove_dir_all(&root).unwrap();
    fs::write(&root, "a file").unwrap();
    let run = build(&project, &[]);
    assert!(run.stderr.contains("cannot be used"), "{}", run.stderr);
    assert_eq!(run.stdout, expected);
}

#[test]
fn a_base_is_read_once_and_never_trusted_changed() {
    let base = project();
    build(&base, &[]);
    let project = Project::with_spec(
        r#"schema = 1
[image]
platforms = ["linux/amd64", "linux/arm64"]
base = "oci:base"
users = [{ name = "more", uid = 10002 }]
[[layer]]
name = "own"
file = [{ path = "/opt/big/own", content = "x" }]
"#,
    );
    let mut copy = std::process::Command::new("cp");
    assert!(
        copy.arg("-r").arg(base.path("dist/image")).arg(project.path("base")).status().unwrap().success()
    );
    project.settle();
    let first = build(&project, &[]);
    let second = build(&project, &[]);
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(second.stdout, cold(&project));
    assert_eq!(unchanged(&second, "linux/amd64"), ["own", "users"]);
    // A byte of a layer that nothing else reads any more.
    let index: serde_json::Value =
        serde_json::from_str(&project.dmoci(&["inspect", "base", "--json"]).stdout).unwrap();
    let text = index.to_string();
    let blobs = files(&project.path("base/blobs"));
    let largest = blobs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    assert!(text.contains(largest.file_name().unwrap().to_str().unwrap()));
    let good = fs::read(largest).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(largest, &bad).unwrap();
    let run = project.dmoci(&["build"]).exits(1);
    assert!(run.stderr.contains("E-BASE"), "{}", run.stderr);
    fs::write(largest, &good).unwrap();
    assert_eq!(build(&project, &[]).stdout, first.stdout);
}

/// A change of the project, as people and their tools make them.
#[derive(Clone, Debug)]
enum Edit {
    Write(u8, u8),
    /// Another content of the same size, and the time that the file had.
    Forge(u8, u8),
    Touch(u8),
    Mode(u8, bool),
    Remove(u8),
    Rename(u8, u8),
    Directory(u8),
    Link(u8, u8),
    Pack(u8),
    Build,
}

fn edit() -> impl Strategy<Value = Edit> {
    let (name, byte) = (|| 0..6u8, any::<u8>);
    prop_oneof![
        3 => (name(), byte()).prop_map(|(n, b)| Edit::Write(n, b)),
        3 => (name(), byte()).prop_map(|(n, b)| Edit::Forge(n, b)),
        1 => name().prop_map(Edit::Touch),
        1 => (name(), any::<bool>()).prop_map(|(n, x)| Edit::Mode(n, x)),
        1 => name().prop_map(Edit::Remove),
        1 => (name(), name()).prop_map(|(a, b)| Edit::Rename(a, b)),
        1 => name().prop_map(Edit::Directory),
        1 => (name(), name()).prop_map(|(a, b)| Edit::Link(a, b)),
        1 => byte().prop_map(Edit::Pack),
        3 => Just(Edit::Build),
    ]
}

/// Makes the change; what is not possible is not made.
fn apply(project: &Project, edit: &Edit) {
    // Three names in each of the two folders.
    let at = |n: u8| project.path(&format!("{}/n{}", ["big", "small"][usize::from(n % 2)], n / 2));
    match *edit {
        Edit::Write(n, byte) => drop(fs::write(at(n), vec![byte; usize::from(byte) + 1])),
        Edit::Forge(n, byte) => {
            let path = at(n);
            let Ok(metadata) = fs::symlink_metadata(&path) else { return };
            if metadata.is_file() {
                fs::write(&path, vec![byte; usize::try_from(metadata.size()).unwrap()]).unwrap();
                let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
                file.set_modified(metadata.modified().unwrap()).unwrap();
            }
        }
        Edit::Touch(n) => {
            if let Ok(file) = fs::File::open(at(n)) {
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        }
        Edit::Mode(n, executable) => {
            if fs::symlink_metadata(at(n)).is_ok_and(|m| m.is_file()) {
                let mode = if executable { 0o755 } else { 0o644 };
                fs::set_permissions(at(n), fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        Edit::Remove(n) => {
            let _ = fs::remove_file(at(n));
            let _ = fs::remove_dir_all(at(n));
        }
        Edit::Rename(a, b) => drop(fs::rename(at(a), at(b))),
        Edit::Directory(n) => drop(fs::create_dir(at(n))),
        Edit::Link(a, b) => drop(symlink(at(a).file_name().unwrap(), at(b))),
        Edit::Pack(byte) => pack(project, &"x".repeat(usize::from(byte))),
        Edit::Build => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was edited and however quickly: with what earlier builds left, with all of that damaged, and with
    /// nothing, the digests are the same.
    #[test]
    fn warm_cold_and_damaged_are_equal(edits in prop::collection::vec(edit(), 1..24)) {
        let project = Project::with_spec(SPEC)
            .file("big/keep", "b").file("small/keep", "s");
        pack(&project, "packed");
        for edit in edits.iter().chain([&Edit::Build]) {
            apply(&project, edit);
            if matches!(edit, Edit::Build) {
                // No waiting: times are often racy.
                let warm = project.dmoci(&["build"]).ok().stdout;
                prop_assert_eq!(&warm, &cold(&project));
            }
        }
        let expected = cold(&project);
        for path in files(project.cache()) {
            let mut bytes = fs::read(&path).unwrap();
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
                fs::write(&path, bytes).unwrap();
            }
        }
        prop_assert_eq!(project.dmoci(&["build"]).ok().stdout, expected.clone());
        prop_assert_eq!(project.dmoci(&["build"]).ok().stdout, expected);
        project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    }
}
