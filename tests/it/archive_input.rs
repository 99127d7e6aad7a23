//! `archive` inputs: every form that is read, and every attack that is refused.

use std::fs;
use std::io::Write as _;

use crate::support::layers::listing;
use crate::support::{Project, Run, dmoci};

fn spec(more: &str) -> String {
    format!(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"a\"\n\
         archive = [{{ path = \"in\", to = \"/x\"{more} }}]\n"
    )
}

/// Tar members by name, kind, target, mode and content.
type Member<'a> = (&'a str, tar::EntryType, &'a str, u32, &'a [u8]);

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIR: tar::EntryType = tar::EntryType::Directory;
const SYM: tar::EntryType = tar::EntryType::Symlink;
const HARD: tar::EntryType = tar::EntryType::Link;

/// A tar whose names are written as given, `..` and all.
fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, target, mode, content) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn example() -> Vec<u8> {
    tar(&[
        ("./", DIR, "", 0o700, b""),
        ("./z", FILE, "", 0o4755, b"Z"),
        ("./top/", DIR, "", 0o750, b""),
        ("./top/soft", SYM, "../z", 0o777, b""),
        ("./top/b", HARD, "./z", 0o644, b""),
        ("./top/a", HARD, "top/b", 0o644, b""),
        ("top/.cache/", DIR, "", 0o755, b""),
        ("top/.cache/f", FILE, "", 0o600, b"F"),
    ])
}

const EXAMPLE: &str = "\
d 0755 0:0 x/
d 0750 0:0 x/top/
d 0755 0:0 x/top/.cache/
- 0600 0:0 x/top/.cache/f F
- 4755 0:0 x/top/a Z
h 4755 0:0 x/top/b x/top/a
l 0777 0:0 x/top/soft ../z
h 4755 0:0 x/z x/top/a";

#[track_caller]
fn built(archive: &[u8], more: &str) -> String {
    let project = Project::with_spec(&spec(more)).file("in", archive);
    project.dmoci(&["build"]).ok();
    listing(&project.path("dist"), "a")
}

#[track_caller]
fn refused(archive: &[u8], more: &str, code: &str, exit: i32, word: &str) -> Run {
    let project = Project::with_spec(&spec(more)).file("in", archive);
    let run = project.dmoci(&["build"]).exits(exit);
    for word in [format!("error[{code}]").as_str(), "dmoci.toml:6:", "in: ", word] {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    assert!(!project.path("dist").exists(), "something was written");
    run
}

/// Compresses with a program of the system, or says why not.
fn compressed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    use std::process::{Command, Stdio};
    let child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("DMOCI_REQUIRE_PEERS").is_none(), "{program} is missing");
        println!("skipped: {program} is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn every_compression() {
    assert_eq!(built(&example(), ""), EXAMPLE);
    for program in ["gzip", "xz", "zstd"] {
        if let Some(archive) = compressed(program, &example()) {
            assert_eq!(built(&archive, ""), EXAMPLE, "{program}");
        }
    }
}

#[test]
fn owners_strip_and_patterns() {
    assert!(built(&example(), ", owner = \"5:6\"").contains("d 0750 5:6 x/top/"));
    assert!(built(&example(), ", owner = \"archive\"").contains("d 0750 1000:1001 x/top/"));
    assert_eq!(
        built(&example(), ", strip-components = 1, exclude = [\"soft\"]"),
        "d 0755 0:0 x/\nd 0755 0:0 x/.cache/\n- 0600 0:0 x/.cache/f F\n- 4755 0:0 x/a Z\nh 4755 0:0 x/b x/a"
    );
    // A hard link whose first name is left out is the file.
    let only = built(&example(), ", include = [\"top/b\"]");
    assert_eq!(only, "d 0755 0:0 x/\nd 0755 0:0 x/top/\n- 4755 0:0 x/top/b Z");
}

#[test]
fn devices() {
    let archive = tar(&[
        ("null", tar::EntryType::Char, "", 0o666, b""),
        ("f", FILE, "", 0o644, b""),
        ("sda", tar::EntryType::Block, "", 0o660, b""),
    ]);
    refused(&archive, "", "E-ARCHIVE-DEVICE", 2, "/null is a device");
    assert_eq!(built(&archive, ", devices = \"skip\""), "d 0755 0:0 x/\n- 0644 0:0 x/f");
    let kept = built(&archive, ", devices = \"keep\"");
    assert!(kept.contains("c 0666 0:0 x/null") && kept.contains("b 0660 0:0 x/sda"), "{kept}");
    assert!(built(&archive, ", exclude = [\"null\", \"sda\"]").ends_with("x/f"));
}

#[test]
fn hostile_tars() {
    let file = |name: &'static str| tar(&[(name, FILE, "", 0o644, b"x")]);
    refused(&file("../up"), "", "E-ARCHIVE", 1, "`..`");
    refused(&file("a/../../up"), "", "E-ARCHIVE", 1, "`..`");
    refused(&file(".wh.gone"), "", "E-ARCHIVE", 1, ".wh.");
    let twice = tar(&[("f", FILE, "", 0o644, b"1"), ("f", FILE, "", 0o644, b"2")]);
    refused(&twice, "", "E-ARCHIVE", 1, "/x/f is in it twice");
    let through = tar(&[("l", SYM, "/etc", 0o777, b""), ("l/passwd", FILE, "", 0o644, b"")]);
    refused_below(&through);
    let link = tar(&[("h", HARD, "../../etc/passwd", 0o644, b"")]);
    refused(&link, "", "E-ARCHIVE", 1, "`..`");
    let link = tar(&[("h", HARD, "nothing", 0o644, b"")]);
    refused(&link, "", "E-ARCHIVE", 1, "/h is a hard link to /nothing");
    refused(&tar(&[("p", tar::EntryType::Fifo, "", 0o644, b"")]), "", "E-ARCHIVE", 1, "/p is a FIFO");
    let cut = example();
    refused(&cut[..cut.len() - 1600], "", "E-ARCHIVE", 1, "damaged");
    refused(b"just text", "", "E-ARCHIVE", 1, "expected tar");
    refused(b"", "", "E-ARCHIVE", 1, "expected tar");
    let mut flipped = example();
    flipped[3] ^= 1;
    refused(&flipped, "", "E-ARCHIVE", 1, "");
    let bomb = vec![0u8; 200 << 20];
    if let Some(bomb) = compressed("xz", &bomb) {
        refused(&bomb, "", "E-ARCHIVE", 1, "");
    }
}

/// A member behind a symbolic link of the same archive.
#[track_caller]
fn refused_below(archive: &[u8]) {
    let project = Project::with_spec(&spec("")).file("in", archive);
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("error[E-PATH-CONFLICT]") && run.stderr.contains("/x/l"), "{}", run.stderr);
    assert!(!project.path("dist").exists());
}

/// A stored zip: local headers, central directory, end. `lie` changes the bytes at the end.
fn zip(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, mode, content) in members {
        let offset = out.len() as u32;
        let crc = flate2::Crc::new();
        let mut crc = crc;
        crc.update(content);
        let mut common = Vec::new();
        for field in [20u16, 0, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc.sum(), content.len() as u32, content.len() as u32] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(*content);
        directory.extend(b"PK\x01\x02");
        directory.extend((3u16 << 8 | 20).to_le_bytes());
        directory.extend(&common);
        directory.extend([0u8; 6]);
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        out.extend((members.len() as u16).to_le_bytes());
    }
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}

/// The central directory may have the members in another order than that in which they stand.
#[test]
fn a_zip_whose_directory_has_another_order() {
    let archive = zip(&[("b", 0o100_644, b"B"), ("a", 0o100_600, b"A")]);
    let central = archive.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let second =
        central + archive[central + 4..].windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap() + 4;
    let end = archive.windows(4).position(|bytes| bytes == b"PK\x05\x06").unwrap();
    let turned =
        [&archive[..central], &archive[second..end], &archive[central..second], &archive[end..]].concat();
    assert_ne!(turned, archive);
    assert_eq!(built(&turned, ""), built(&archive, ""));
    assert_eq!(built(&turned, ""), "d 0755 0:0 x/\n- 0600 0:0 x/a A\n- 0644 0:0 x/b B");
    // A name that is too long is refused when it is read, whatever is wrong with members before it.
    let long = "x".repeat(300);
    let archive = zip(&[("../up", 0o100_644, b""), (&long, 0o100_644, b"")]);
    refused(&archive, "", "E-ARCHIVE", 1, "longer than 255 bytes");
}

#[test]
fn zips() {
    let archive = zip(&[
        ("top/", 0o40750, b""),
        ("top/run", 0o100_755, b"#!"),
        ("top/link", 0o120_777, b"run"),
        ("plain", 0, b"p"),
    ]);
    assert_eq!(
        built(&archive, ""),
        "d 0755 0:0 x/\n- 0644 0:0 x/plain p\nd 0750 0:0 x/top/\nl 0777 0:0 x/top/link run\n- 0755 0:0 x/top/run #!"
    );
}

#[test]
fn hostile_zips() {
    refused(&zip(&[("../up", 0o100_644, b"")]), "", "E-ARCHIVE", 1, "`..`");
    let twice = zip(&[("f", 0o100_644, b"1"), ("f", 0o100_644, b"2")]);
    refused(&twice, "", "E-ARCHIVE", 1, "twice");
    refused(&zip(&[("p", 0o010_644, b"")]), "", "E-ARCHIVE", 1, "neither file");
    let good = zip(&[("name", 0o100_644, b"content")]);
    refused(&[&good[..], b"more"].concat(), "", "E-ARCHIVE", 1, "");
    refused(&[&b"PK\x03\x04junk"[..], &good].concat(), "", "E-ARCHIVE", 1, "");
    // Every byte of the local header's name and of the content matters.
    let at = |needle: &[u8]| good.windows(needle.len()).position(|w| w == needle).unwrap();
    for (position, word) in [(at(b"name"), "another name"), (at(b"content"), "damaged")] {
        let mut bad = good.clone();
        bad[position] ^= 1;
        refused(&bad, "", "E-ARCHIVE", 1, word);
    }
    let mut encrypted = good.clone();
    let flags = good.windows(4).position(|w| w == b"PK\x01\x02").unwrap() + 8;
    encrypted[flags] |= 1;
    refused(&encrypted, "", "E-ARCHIVE", 1, "encrypted");
}

/// Links of links, to files that are not taken, and to the last of two files: the same when the record of an earlier build is
/// read, and when that is damaged.
#[test]
fn hard_links_from_the_cache() {
    let archive = tar(&[
        ("out/f", FILE, "", 0o600, b"old"),
        ("in/a", HARD, "out/f", 0o644, b""),
        ("out/f", FILE, "", 0o640, b"new"),
        ("in/d", HARD, "out/f", 0o644, b""),
        ("in/c", HARD, "in/d", 0o644, b""),
        ("in/b", HARD, "in/a", 0o644, b""),
    ]);
    let expected = "d 0755 0:0 x/\nd 0755 0:0 x/in/\n- 0600 0:0 x/in/a old\nh 0600 0:0 x/in/b x/in/a\n\
                    - 0640 0:0 x/in/c new\nh 0640 0:0 x/in/d x/in/c";
    let project = Project::with_spec(&spec(", exclude = [\"/out/**\"]")).file("in", &archive);
    project.settle();
    let cache = project.cache().join("dmoci/build-1");
    let records = cache.join("archive");
    for damage in [false, false, true] {
        fs::remove_dir_all(project.path("dist")).ok();
        for name in ["layer", "blobs"] {
            fs::remove_dir_all(cache.join(name)).ok();
        }
        for record in fs::read_dir(&records).into_iter().flatten().filter(|_| damage) {
            let record = record.unwrap().path();
            let mut bytes = fs::read(&record).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(&record, bytes).unwrap();
        }
        project.dmoci(&["build"]).ok();
        assert_eq!(listing(&project.path("dist"), "a"), expected);
        assert_eq!(fs::read_dir(&records).unwrap().count(), 1);
    }
}

#[test]
fn an_archive_above_a_base_follows_its_links() {
    let project = Project::with_spec(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"os\"\n\
         archive = [{ path = \"os.tar\", to = \"/\" }]\n[[layer]]\nname = \"a\"\n\
         archive = [{ path = \"in\", to = \"/\" }]\n",
    );
    let os = [
        ("usr/", DIR, "", 0o755, &b""[..]),
        ("usr/lib/", DIR, "", 0o711, b""),
        ("lib", SYM, "usr/lib", 0o777, b""),
    ];
    project.write("os.tar", tar(&os));
    project.write("in", tar(&[("lib/", DIR, "", 0o700, b""), ("lib/x", FILE, "", 0o644, b"1")]));
    project.dmoci(&["build"]).ok();
    assert_eq!(
        listing(&project.path("dist"), "a"),
        "d 0755 0:0 usr/\nd 0700 0:0 usr/lib/\n- 0644 0:0 usr/lib/x 1"
    );
    assert!(fs::metadata(project.path("dist/image/index.json")).unwrap().is_file());
}

/// A tar of empty files with these paths, of any length, compressed.
fn deep(paths: impl Iterator<Item = String>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for path in paths {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(&tar).unwrap();
    zip.finish().unwrap()
}

/// A build with no more than 128 MiB of data in memory, whatever is in files.
#[track_caller]
fn built_in_128_mib(project: &Project) -> Run {
    // The stacks of one thread for each processor count as well.
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let kib = (128 << 10) + threads * (4 << 10);
    let program = dmoci();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("ulimit -d {kib}; exec \"$0\" build --no-cache")]);
    shell.arg(program.get_program()).current_dir(project.root());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Run::of(&mut shell)
}

/// Directories that only the paths of members tell of take no memory: 150,000 of them, with paths of 108 MB.
#[test]
fn directories_that_are_not_in_it() {
    let name = "n".repeat(240);
    let paths = (0..30_000).map(|number| format!("{number}-{name}/{name}/{name}/{name}/{name}/f"));
    let project = Project::with_spec(&spec("")).file("in", deep(paths));
    built_in_128_mib(&project).ok();
    let log = fs::read_to_string(project.path("dist/build.log")).unwrap();
    assert!(log.contains("180001 entries"), "{log}");
}

/// 400 paths of 4 KB are 800,000 directories and gigabytes of layer.
#[test]
fn far_more_directories_than_members() {
    let paths = (0..400).map(|number| format!("{number}/{}f", "a/".repeat(2040)));
    let archive = deep(paths);
    assert!(archive.len() < 100_000);
    let run = refused(&archive, "", "E-ARCHIVE", 1, "too many directories");
    assert!(
        run.stderr.contains("help: leave members out with `exclude`, or pack it again"),
        "{}",
        run.stderr
    );
    let project = Project::with_spec(&spec("")).file("in", &archive);
    built_in_128_mib(&project).exits(1);
    // A few such paths are no matter.
    let paths = (0..3).map(|number| format!("{number}/{}f", "a/".repeat(2040)));
    assert_eq!(built(&deep(paths), "").lines().count(), 1 + 3 * 2042);
}
