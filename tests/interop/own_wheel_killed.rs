//! A build with `[wheel]` that is killed while it publishes: nothing that is there then is about something else than what is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dmoci_layers::Digest;
use serde_json::Value;

use crate::support::fault::{self, At};
use crate::support::{Place, dmoci, exits, have, run};

/// `fixtures/release` in two versions, each built once.
struct Bench(Place);

/// How often each system call that publishing consists of is the last.
const PLACES: usize = 14;

impl Bench {
    fn new() -> Bench {
        let bench = Bench(Place::new());
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/release");
        for name in ["dmoci.toml", "pyproject.toml", "src/tide_table/__init__.py", "tools/backend.py"] {
            let to = bench.0.path("project").join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(fixture.join(name), to).unwrap();
        }
        run(&mut bench.build("old"));
        let project = bench.0.path("project/pyproject.toml");
        let text = fs::read_to_string(&project).unwrap();
        fs::write(&project, text.replace("1.4.0", "1.5.0")).unwrap();
        run(&mut bench.build("new"));
        bench
    }

    fn dist(&self, name: &str) -> PathBuf {
        self.0.path(&format!("dist-{name}"))
    }

    fn build(&self, dist: &str) -> Command {
        let mut build = dmoci();
        build.arg("build").arg("-C").arg(self.0.path("project")).arg("-o").arg(self.dist(dist));
        // The wheel is taken from there: what is killed is publishing.
        build.env("XDG_CACHE_HOME", self.0.path("cache"));
        build
    }

    /// Whatever there is agrees with the image.
    #[track_caller]
    fn agrees(&self, at: At) -> &'static str {
        let work = self.dist("work");
        let read = |dist: &Path, name: &str| fs::read(dist.join(name)).ok();
        let index = read(&work, "image/index.json");
        let name =
            ["old", "new"].into_iter().find(|name| read(&self.dist(name), "image/index.json") == index);
        let name = name.unwrap_or_else(|| panic!("{at:?}: neither the old image nor the new one"));
        for file in ["digests.json", "build.log", "evidence/python.json"] {
            let found = read(&work, file);
            assert!(
                found.is_none() || found == read(&self.dist(name), file),
                "{at:?}: {file} is not the {name} one"
            );
        }
        let folder = work.join("python");
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let (found, expected) = (read(&folder, &file), read(&self.dist(name).join("python"), &file));
            assert!(found == expected, "{at:?}: {file} beside the {name} image");
        }
        // What is listed is there.
        if let Some(bytes) = read(&work, "digests.json") {
            let listed: Value = serde_json::from_slice(&bytes).unwrap();
            for entry in listed["python"].as_array().unwrap() {
                let file = read(&folder, entry["name"].as_str().unwrap());
                let digest = file.map(|bytes| Digest::sha256(&bytes).to_string());
                assert_eq!(entry["digest"].as_str(), digest.as_deref(), "{at:?}");
            }
        }
        name
    }
}

#[test]
fn nothing_contradicts_whenever_publishing_is_killed() {
    if !have(&[fault::PEERS, &["python3"]].concat()) {
        return;
    }
    let bench = Bench::new();
    let work = bench.dist("work");
    let prepare = || {
        let _ = fs::remove_dir_all(&work);
        run(Command::new("cp").arg("-r").arg(bench.dist("old")).arg(&work));
    };
    prepare();
    let calls = ["rename", "renameat", "renameat2", "fsync", "unlink", "unlinkat", "rmdir", "mkdir"];
    let places = fault::places(&mut bench.build("work"), bench.0.as_ref(), Some(&calls), PLACES);
    let (mut olds, mut news, mut unlisted) = (0, 0, 0);
    for at in places {
        prepare();
        let faulted = fault::with(&mut bench.build("work"), bench.0.as_ref(), at, "signal=KILL");
        match bench.agrees(at) {
            "old" => olds += usize::from(faulted.code.is_none()),
            _ => news += usize::from(faulted.code.is_none()),
        }
        unlisted += usize::from(!work.join("digests.json").exists());
        exits(&mut bench.build("work"), 0);
        assert_eq!(bench.agrees(at), "new");
        for file in ["digests.json", "evidence/python.json", "python/tide_table-1.5.0.tar.gz"] {
            assert!(work.join(file).exists(), "{at:?}: {file}");
        }
        assert!(!work.join(".dmoci-tmp").exists(), "{at:?}");
    }
    // Before and after the moment in which the image is the new one, and around it.
    assert!(olds > 2 && news > 2 && unlisted > 2, "{olds} {news} {unlisted}");
}
