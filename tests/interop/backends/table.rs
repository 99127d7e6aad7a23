//! Backends × circumstances: the wheel and the source distribution are the same in every cell, and everybody takes them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::samples::{self, Sample};
use super::{PEERS, commit, dmoci, git};
use crate::support::disorder::Disorder;
use crate::support::{Place, command, debian, have, path_of, run, said};

macro_rules! table {
    ($($test:ident: $sample:ident,)*) => {
        $(#[test]
        fn $test() {
            everywhere(&samples::$sample);
        })*
    };
}

table! {
    setuptools: SETUPTOOLS,
    setuptools_with_c: EXTENSIONS,
    hatchling: HATCHLING,
    flit_core: FLIT,
    poetry_core: POETRY,
    pdm_backend: PDM,
    uv_build: UV,
    maturin: MATURIN,
    meson_python: MESON,
}

/// A project that is built, and what came of it.
struct Bench {
    place: Place,
    sample: &'static Sample,
    expected: String,
}

fn everywhere(sample: &'static Sample) {
    if !have(&[PEERS, &["uv", "twine", "check-wheel-contents"], sample.peers].concat()) {
        return;
    }
    let place = Place::new();
    let folder = place.path("project");
    sample.write(&folder);
    commit(&folder);
    run(&mut dmoci(&folder));
    // The lock file is in the source now, and of some in the source distribution.
    run(git(&folder).args(["add", "dmoci.lock"]));
    run(git(&folder).args(["commit", "--quiet", "-m", "lock"]));
    let expected = run(&mut dmoci(&folder));
    assert_eq!(expected.lines().count(), 2, "{expected}");
    let bench = Bench { place, sample, expected };
    bench.same("repeat", &mut dmoci(&folder));
    bench.circumstances();
    bench.orders();
    bench.ordinary_user();
    bench.accepted();
}

impl Bench {
    #[track_caller]
    fn same(&self, what: &str, command: &mut Command) {
        let ended = said(command);
        assert_eq!(ended.code, Some(0), "{} {what}: {}", self.sample.name, ended.err);
        assert_eq!(ended.out, self.expected, "{} {what}", self.sample.name);
    }

    fn clone(&self, name: &str) -> PathBuf {
        let clone = self.place.path(name);
        let mut sh = command("sh");
        sh.args(["-c", "umask 077; git clone --quiet \"$0\" \"$1\""]);
        run(sh.arg(self.place.path("project")).arg(&clone));
        clone
    }

    /// Each by itself, on top of those of the clone.
    fn circumstances(&self) {
        let clone = self.clone("clone");
        let offline = || {
            let mut dmoci = dmoci(&clone);
            dmoci.args(["--locked", "--offline"]);
            dmoci
        };
        self.same("clone under umask 077", &mut offline());
        for (what, command) in [
            ("time zone", offline().env("TZ", "Asia/Tokyo")),
            ("hash seed", offline().env("PYTHONHASHSEED", "77")),
            ("locale", offline().env("LC_ALL", "C").env("LANG", "de_DE.UTF-8")),
            ("directory", offline().current_dir("/")),
            ("flags", offline().env("CFLAGS", "-O0").env("PIP_NO_BINARY", ":all:").env("RUSTFLAGS", "-g")),
        ] {
            self.same(what, command);
        }
        fs::set_permissions(clone.join("README.md"), fs::Permissions::from_mode(0o640)).unwrap();
        run(command("find").arg(&clone).args([
            "-exec",
            "touch",
            "-h",
            "-d",
            "2001-02-03 04:05:06.789",
            "{}",
            "+",
        ]));
        self.same("modes and times", &mut offline());
        let mut umask = command("sh");
        umask.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(offline().get_program());
        umask.args(offline().get_args().map(ToOwned::to_owned).collect::<Vec<_>>());
        umask.envs(
            offline().get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))),
        );
        self.same("umask", &mut umask);
        if have(&["root"]) {
            run(command("chown").args(["-R", "-h", "1234:5678"]).arg(&clone));
            // git refuses trees of other users, unless it is told.
            let config = self.place.path("gitconfig");
            fs::write(&config, format!("[safe]\n\tdirectory = {}\n", clone.display())).unwrap();
            self.same("owner", offline().env("GIT_CONFIG_GLOBAL", config));
        }
    }

    /// The source and all that backends see lies on a file system that gives names in another order each time.
    fn orders(&self) {
        if !have(&["root", "disorderfs", "fusermount3"]) || !Path::new("/dev/fuse").exists() {
            return;
        }
        let temporary = self.place.path("plain");
        fs::create_dir(&temporary).unwrap();
        let options = ["--shuffle-dirents=yes", "--reverse-dirents=no"];
        let source = Disorder::mount(&options, &self.clone("ordered"), self.place.path("shuffled"));
        let temporary = Disorder::mount(&options, &temporary, self.place.path("temporary"));
        let mut dmoci = dmoci(source.path());
        dmoci.args(["--locked", "--offline"]).env("TMPDIR", temporary.path());
        self.same("file order", &mut dmoci);
    }

    /// Somebody else, who has no uv and the system's Python.
    fn ordinary_user(&self) {
        let python = Path::new("/usr/bin/python3");
        if !self.sample.is_pure() || !have(&["root", "setpriv"]) || !python.exists() {
            return;
        }
        let clone = self.clone("theirs");
        let [home, cache, temporary] = ["home", "cache", "their-tmp"].map(|name| self.place.path(name));
        [&home, &cache, &temporary].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let downloads = cache.join("dmoci/downloads/sha256");
        fs::create_dir_all(&downloads).unwrap();
        for (_, digest, file) in self.requirements() {
            fs::copy(file, downloads.join(digest)).unwrap();
        }
        for path in [&clone, &home, &cache, &temporary] {
            run(command("chown").args(["-R", "65534:65534"]).arg(path));
        }
        let mut user = command("setpriv");
        user.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(self.place.program());
        user.args(["wheel", "--locked", "--offline", "--python"]).arg(python).arg("-C").arg(&clone);
        user.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home);
        user.env("XDG_CACHE_HOME", &cache).env("TMPDIR", &temporary);
        self.same("another user, with pip and the system's Python", &mut user);
        let evidence = fs::read_to_string(clone.join("dist/evidence/python.json")).unwrap();
        assert!(evidence.contains("\"installer\":\"pip "), "{evidence}");
    }

    /// The pinned build requirements: file name, digest, and where they are.
    fn requirements(&self) -> Vec<(String, String, PathBuf)> {
        let lock: toml::Table =
            fs::read_to_string(self.place.path("project/dmoci.lock")).unwrap().parse().unwrap();
        let platforms = lock["platform"].as_table().unwrap();
        let builds = platforms.values().filter_map(|platform| platform.get("build")?.as_array());
        let text = |pin: &toml::Value, key: &str| pin[key].as_str().unwrap().to_owned();
        let downloads = debian::cache().join("dmoci/downloads/sha256");
        builds
            .flatten()
            .map(|pin| {
                let digest = text(pin, "sha256");
                let file = downloads.join(&digest);
                (text(pin, "file"), digest, file)
            })
            .collect()
    }

    /// What others say of them.
    fn accepted(&self) {
        let folder = self.place.path("project/dist/python");
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        run(command(path_of("twine").unwrap()).args(["check", "--strict"]).args(&files));
        let wheels = files.iter().filter(|path| path.extension().is_some_and(|end| end == "whl"));
        run(command(path_of("check-wheel-contents").unwrap()).args(wheels));
        let links = self.place.path("links");
        fs::create_dir(&links).unwrap();
        for (name, _, file) in self.requirements() {
            fs::copy(file, links.join(name)).unwrap();
        }
        for (number, file) in files.iter().enumerate() {
            let mut pip = command("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-cache-dir"]);
            let mut uv = command("uv");
            uv.args(["pip", "install", "--quiet", "--no-deps", "--no-index", "--no-cache"]);
            for (name, mut tool) in [("pip", pip), ("uv", uv)] {
                let target = self.place.path(&format!("{name}-{number}"));
                tool.arg("--find-links").arg(&links).arg("--target").arg(&target).arg(file);
                let ended = said(tool.env_remove("PIP_FIND_LINKS"));
                assert_eq!(
                    ended.code,
                    Some(0),
                    "{} {name} {}: {}",
                    self.sample.name,
                    file.display(),
                    ended.err
                );
                let mut python = command("python3");
                python.args(["-c", "import demo"]).env("PYTHONPATH", &target);
                assert_eq!(run(&mut python), "demo\n", "{} {name}", self.sample.name);
            }
        }
    }
}
