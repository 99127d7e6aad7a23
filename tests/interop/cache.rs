//! The build cache, on file systems whose clocks are coarse, and as the kernel sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fault::{self, strace};
use crate::support::project::{self, digests};
use crate::support::{Place, command, dmoci, have, run};

/// A file system that counts time in whole seconds: ext4 with inodes of 128 bytes. Unmounted when dropped.
struct Seconds(PathBuf);

impl Seconds {
    fn mount(place: &Place) -> Seconds {
        let (image, at) = (place.path("seconds.img"), place.path("seconds"));
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        run(command("mkfs.ext4").args(["-q", "-I", "128", "-F"]).arg(&image));
        fs::create_dir(&at).unwrap();
        run(command("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        Seconds(at)
    }
}

impl Drop for Seconds {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

const SPEC: &str = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n\
    [[layer]]\nname = \"files\"\ncopy = [{ from = \"files/\", to = \"/srv\" }]\n\
    [[layer]]\nname = \"packed\"\narchive = [{ path = \"pack.tar\", to = \"/opt\" }]\n";

/// Whether a file was written again within the second in which it was read cannot be seen from its times: then it is read
/// again, however often.
#[test]
fn changes_within_one_step_of_the_clock() {
    if !have(&["root", "mount", "mkfs.ext4", "tar"]) {
        return;
    }
    let place = Place::new();
    let seconds = Seconds::mount(&place);
    let cache = place.path("cache");
    let project = seconds.0.join("project");
    fs::create_dir_all(project.join("files")).unwrap();
    fs::write(project.join("dmoci.toml"), SPEC).unwrap();
    let build = |out: &str, more: &[&str]| {
        let dist = seconds.0.join(out);
        let mut build = dmoci();
        build.arg("build").args(more).arg("-C").arg(&project).arg("-o").arg(&dist);
        run(build.env("XDG_CACHE_HOME", &cache));
        digests(&dist)
    };
    let mut same_second = 0;
    for number in 0..40 {
        // The same size, inode and, mostly, second.
        let times = || {
            let metadata = fs::metadata(project.join("files/a")).ok()?;
            Some((std::os::unix::fs::MetadataExt::mtime(&metadata), metadata.len()))
        };
        let before = times();
        fs::write(project.join("files/a"), format!("{number:04}")).unwrap();
        run(command("tar").args(["-cf", "pack.tar", "files/a"]).current_dir(&project));
        same_second += usize::from(times() == before);
        assert_eq!(build("dist", &[]), build("cold", &["--no-cache"]), "edit {number}");
    }
    assert!(same_second > 5, "only {same_second} edits fell into the second of the one before");
}

/// What the kernel is asked for: no byte of an input or of a layer is read when nothing has changed.
#[test]
fn nothing_is_read_when_nothing_changed() {
    if !have(fault::PEERS) {
        return;
    }
    let place = Place::new();
    let project = place.path("project");
    fs::create_dir(&project).unwrap();
    project::write(&project);
    let dist = place.path("dist");
    let mut build = dmoci();
    build.arg("build").arg("-C").arg(&project).arg("-o").arg(&dist);
    build.env("XDG_CACHE_HOME", place.path("cache"));
    run(&mut build);
    let large = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.len() > 8192);
    let read = |build: &mut Command| -> Vec<PathBuf> {
        let log = place.path("log");
        let calls = "trace=read,readv,pread64,preadv,preadv2,mmap,sendfile,splice,copy_file_range";
        run(&mut strace(build, &log, &[calls.to_owned()]));
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        // `PID call(FD</path>, …`
        let paths = text.lines().filter_map(|line| Some(line.split_once('<')?.1.split_once('>')?.0));
        let inside = |path: &PathBuf| {
            path.starts_with(project.join("app"))
                || path.starts_with(project.join("app.tar"))
                || path.starts_with(place.as_ref())
                    && path.to_string_lossy().contains("/blobs/")
                    && large(path)
        };
        paths.map(PathBuf::from).filter(inside).collect()
    };
    let found = read(&mut build);
    assert!(found.is_empty(), "{found:?}");
    // That the same look finds what is read.
    assert!(read(build.arg("--no-cache")).len() > 300);
}
