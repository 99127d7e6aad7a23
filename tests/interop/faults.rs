//! Killed, out of space, or not alone: what is in the output is the old image or the new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fault::{self, At};
use crate::support::project::digests;
use crate::support::{Place, command, dmoci, exits, have, run, said};

/// A small project in two versions, each built once without any fault.
struct Bench {
    place: Place,
    old: String,
    new: String,
}

impl Bench {
    fn new() -> Bench {
        let place = Place::new();
        let bench = Bench { place, old: String::new(), new: String::new() };
        bench.write("old");
        run(&mut bench.build("old"));
        bench.write("new");
        run(&mut bench.build("new"));
        let [old, new] = ["old", "new"].map(|name| digests(&bench.dist(name)));
        assert_ne!(old, new);
        Bench { old, new, ..bench }
    }

    /// Makes the project one of the two versions; a layer stays, another one changes.
    fn write(&self, version: &str) {
        let project = self.place.path("project");
        fs::create_dir_all(project.join("files")).unwrap();
        fs::write(project.join("files/same"), "the same in both\n".repeat(5000)).unwrap();
        let noise = |n: u32| n.wrapping_mul(2_654_435_761 + version.len() as u32).to_le_bytes();
        fs::write(project.join("changes"), (0..100_000).flat_map(noise).collect::<Vec<u8>>()).unwrap();
        let spec = format!(
            r#"schema = 1
[image]
name = "registry.example/faulty"
tags = ["1"]
platforms = ["linux/amd64", "linux/arm64"]
[[layer]]
name = "same"
copy = [{{ from = ["files/"], to = "/srv/" }}]
[[layer]]
name = "changes"
copy = [{{ from = ["changes"], to = "/etc/changes" }}]
file = [{{ path = "/etc/version", content = "{version}" }}]
"#
        );
        fs::write(project.join("dmoci.toml"), spec).unwrap();
    }

    fn dist(&self, name: &str) -> PathBuf {
        self.place.path(&format!("dist-{name}"))
    }

    fn build(&self, dist: &str) -> Command {
        let mut build = dmoci();
        build.arg("build").arg("-C").arg(self.place.path("project")).arg("-o").arg(self.dist(dist));
        if dist == "work" {
            build.env("XDG_CACHE_HOME", self.place.path("cache"));
        }
        build
    }

    /// Puts the old image where the next build writes, or nothing. The cache is empty: a run with a fault makes everything, and
    /// the next one finds what it left there.
    fn prepare(&self, with_old: bool) -> PathBuf {
        let dist = self.dist("work");
        let _ = fs::remove_dir_all(&dist);
        let _ = fs::remove_dir_all(self.place.path("cache"));
        if with_old {
            run(command("cp").arg("-r").arg(self.dist("old")).arg(&dist));
        }
        dist
    }

    /// The image must be the old one or the new one, whole; or not be there yet when there was none.
    #[track_caller]
    fn old_or_new(&self, dist: &Path, with_old: bool, at: At) {
        let index = dist.join("image/index.json");
        if !with_old && !index.exists() {
            return;
        }
        let found = fs::read(&index).unwrap_or_else(|error| panic!("{at:?}: no index: {error}"));
        let of = |name: &str| fs::read(self.dist(name).join("image/index.json")).unwrap();
        assert!(found == of("new") || with_old && found == of("old"), "{at:?}: neither old nor new");
        let verified = said(dmoci().args(["verify", "--integrity-only"]).arg(dist.join("image")));
        assert_eq!(verified.code, Some(0), "{at:?}: {}\n{}", verified.out, verified.err);
        whole_blobs(dist, at);
    }

    /// The next build without a fault gives the new image and leaves nothing else.
    #[track_caller]
    fn recovers(&self, dist: &Path, at: At) {
        let said = exits(&mut self.build("work"), 0);
        assert_eq!(digests(dist), self.new, "{at:?}: the next build leaves something behind\n{}", said.err);
        let everything = run(command("find").arg(dist.parent().unwrap()).args([
            "-name",
            ".dmoci-tmp*",
            "-o",
            "-name",
            "*.part",
        ]));
        assert_eq!(everything, "", "{at:?}");
    }
}

/// What has the name of a blob is that blob.
#[track_caller]
fn whole_blobs(dist: &Path, at: At) {
    let Ok(blobs) = fs::read_dir(dist.join("image/blobs/sha256")) else { return };
    for blob in blobs {
        let blob = blob.unwrap();
        let name = blob.file_name().into_string().unwrap();
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let found = dmoci_layers::Digest::sha256(&fs::read(blob.path()).unwrap());
            assert_eq!(found.hex(), name, "{at:?}: half a blob under its name");
        }
    }
}

fn killed_everywhere(with_old: bool) {
    if !have(fault::PEERS) {
        return;
    }
    let bench = Bench::new();
    bench.prepare(with_old);
    let places = fault::places(&mut bench.build("work"), bench.place.as_ref(), None, 12);
    let (mut killed, mut olds) = (0, 0);
    for at in places {
        let dist = bench.prepare(with_old);
        let faulted = fault::with(&mut bench.build("work"), bench.place.as_ref(), at, "signal=KILL");
        killed += usize::from(faulted.code.is_none());
        bench.old_or_new(&dist, with_old, at);
        olds += usize::from(
            with_old && digests(&dist.join("image")) == digests(&bench.dist("old").join("image")),
        );
        bench.recovers(&dist, at);
    }
    assert!(killed > 20, "only {killed} runs were killed");
    assert!(!with_old || olds > 0, "no run was killed before its commit");
}

#[test]
fn killed_with_an_old_image_there() {
    killed_everywhere(true);
}

#[test]
fn killed_with_nothing_there() {
    killed_everywhere(false);
}

#[test]
fn no_space_at_the_nth_write() {
    if !have(fault::PEERS) {
        return;
    }
    let bench = Bench::new();
    bench.prepare(true);
    let calls = [
        "write",
        "writev",
        "pwrite64",
        "copy_file_range",
        "ftruncate",
        "fsync",
        "fdatasync",
        "mkdir",
        "openat",
    ];
    let mut places = fault::places(&mut bench.build("work"), bench.place.as_ref(), Some(&calls), 15);
    // Opening fails for want of space only when it makes a file; the loader's and the linker's reads are no such case.
    places.retain(|at| at.call != "openat");
    let (mut failed, mut cached) = (0, 0);
    for at in places {
        let dist = bench.prepare(true);
        let faulted = fault::with(&mut bench.build("work"), bench.place.as_ref(), at, "error=ENOSPC");
        bench.old_or_new(&dist, true, at);
        let cache = bench.place.path("cache");
        let all =
            |known: &dyn Fn(&PathBuf) -> bool| !faulted.files.is_empty() && faulted.files.iter().all(known);
        if all(&|file| file.starts_with(&cache)) {
            cached += 1;
            assert_eq!(faulted.code, Some(0), "{at:?} {:?}: {}", faulted.files, faulted.err);
        } else if all(&|file| file.starts_with(&cache) || file.starts_with(&dist)) {
            failed += 1;
            assert_eq!(faulted.code, Some(6), "{at:?} {:?}: {}", faulted.files, faulted.err);
            says_no_space(&faulted.err, &dist);
        }
        bench.recovers(&dist, at);
    }
    assert!(failed > 10, "only {failed} faults hit the output");
    assert!(cached > 0, "no fault hit the cache, which must not matter");
}

/// The message must say what happened, where, and what to do.
#[track_caller]
fn says_no_space(err: &str, dist: &Path) {
    assert!(err.lines().any(|line| line.starts_with("error[E-")), "{err}");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(err.contains(dist.to_str().unwrap()), "no path in: {err}");
    assert!(err.contains("help:"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

/// A small file system of its own; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Small {
        fs::create_dir(&at).unwrap();
        run(command("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&at));
        Small(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_file_system() {
    if !have(&["root", "mount"]) {
        return;
    }
    let bench = Bench::new();
    for size in ["8k", "64k", "200k", "400k"] {
        let small = Small::mount(bench.place.path(&format!("small-{size}")), size);
        let dist = small.0.join("dist");
        let mut build = dmoci();
        build.arg("build").arg("-C").arg(bench.place.path("project")).arg("-o").arg(&dist);
        let said = exits(&mut build, 6);
        says_no_space(&said.err, &dist);
        assert!(!dist.join("image/index.json").exists(), "{size}");
        whole_blobs(&dist, At { call: size_name(size), when: 0 });
        run(command("mount").args(["-o", "remount,size=16m"]).arg(&small.0));
        run(&mut build);
        assert_eq!(digests(&dist), bench.new, "{size}: something is left behind");
    }
}

#[test]
fn a_file_system_too_small_to_unpack_an_archive() {
    if !have(&["root", "mount", "xz"]) {
        return;
    }
    let place = Place::new();
    let project = place.path("project");
    fs::create_dir_all(&project).unwrap();
    let noise = |n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes();
    fs::write(project.join("noise"), (0..500_000).flat_map(noise).collect::<Vec<u8>>()).unwrap();
    run(command("tar").args(["-cJf", "noise.tar.xz", "noise"]).current_dir(&project));
    let spec = "schema = 1\n[image]\nname = \"registry.example/noise\"\nplatforms = [\"linux/amd64\"]\n\
                [[layer]]\nname = \"noise\"\narchive = [{ path = \"noise.tar.xz\", to = \"/srv\" }]\n";
    fs::write(project.join("dmoci.toml"), spec).unwrap();
    let small = Small::mount(place.path("small"), "500k");
    let dist = small.0.join("dist");
    let said = exits(dmoci().arg("build").arg("-C").arg(&project).arg("-o").arg(&dist), 6);
    says_no_space(&said.err, &dist);
    assert!(!dist.join("image/index.json").exists());
}

fn size_name(size: &str) -> &'static str {
    ["8k", "64k", "200k", "400k"].into_iter().find(|name| *name == size).unwrap_or("another size")
}

#[test]
fn many_builds_into_one_output() {
    let bench = Bench::new();
    let dist = bench.prepare(false);
    for round in 0..5 {
        let builds: Vec<_> = (0..4)
            .map(|_| {
                let mut build = bench.build("work");
                build.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                build.spawn().unwrap()
            })
            .collect();
        for build in builds {
            let output = build.wait_with_output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "round {round}: {err}");
        }
        assert_eq!(digests(&dist), bench.new, "round {round}");
    }
}

#[test]
fn two_projects_into_one_output() {
    let bench = Bench::new();
    let other = bench.place.path("other");
    run(command("cp").arg("-r").arg(bench.place.path("project")).arg(&other));
    bench.write("old");
    let dist = bench.prepare(false);
    for round in 0..8 {
        let [mut one, mut two] = [bench.place.path("project"), other.clone()].map(|project| {
            let mut build = dmoci();
            build.arg("build").arg("-C").arg(project).arg("-o").arg(&dist);
            build.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            build.spawn().unwrap()
        });
        assert_eq!(
            (one.wait().unwrap().code(), two.wait().unwrap().code()),
            (Some(0), Some(0)),
            "round {round}"
        );
        let found = digests(&dist);
        assert!(found == bench.old || found == bench.new, "round {round}: a mixture\n{found}");
    }
}
