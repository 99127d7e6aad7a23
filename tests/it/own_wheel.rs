//! `[wheel]`: the project's own wheel, built before the image, and the one that is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dmoci_layers::Digest;
use serde_json::Value;

use crate::support::layers::{config, digests, layer, listing};
use crate::support::{Project, Run, dmoci};

pub(crate) const WHEEL: &str = "tide_table-1.4.0-py3-none-any.whl";
pub(crate) const SDIST: &str = "tide_table-1.4.0.tar.gz";
pub(crate) const SITE: &str = "opt/tide-table/lib/python3.13/site-packages/";

/// What a status line says when the backend is run.
pub(crate) const RUNS: &str = "Building the wheel with backend";

/// A copy of `fixtures/release`, outside of a work tree; nothing without Python.
pub(crate) fn project() -> Option<Project> {
    let python = std::process::Command::new("python3").args(["-c", "import venv"]).output();
    if !python.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("DMOCI_REQUIRE_PEERS").is_none(), "there is no python3");
        println!("skipped: there is no python3");
        return None;
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/release");
    let files = ["dmoci.toml", "pyproject.toml", "src/tide_table/__init__.py", "tools/backend.py"];
    let copy = |project: Project, name: &str| project.file(name, fs::read(fixture.join(name)).unwrap());
    Some(files.into_iter().fold(Project::new(), copy))
}

/// Makes it a work tree, with a commit and a tag.
pub(crate) fn commit(project: &Project) {
    project.write(".gitignore", "dist\nother\n");
    project.git(&["init", "-q", "."]);
    project.git(&["add", "-A"]);
    project.git(&["commit", "-qm", "one"]);
    project.git(&["tag", "v1.4.0"]);
}

/// With some text of a file replaced.
pub(crate) fn edit(project: &Project, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(project.path(file)).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    project.write(file, text.replace(from, to));
}

/// With these layers instead of its own.
pub(crate) fn layers(project: &Project, text: &str) {
    let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    let (head, _) = spec.split_once("[[layer]]").unwrap();
    project.write("dmoci.toml", format!("{head}{text}"));
}

pub(crate) const PYTHON: &str =
    "venv = \"/opt/tide-table\", interpreter = \"/usr/bin/python3\", python-version = \"3.13.5\"";

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files of a wheel, by their names.
pub(crate) fn members(wheel: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let archive = rawzip::ZipArchive::from_slice(wheel).unwrap();
    let mut members = BTreeMap::new();
    for entry in archive.entries() {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.file_path().as_ref().to_vec()).unwrap();
        let data = archive.get_entry(entry.wayfinder()).unwrap();
        let mut content = Vec::new();
        match entry.compression_method() {
            rawzip::CompressionMethod::STORE => content.extend(data.data()),
            _ => drop(std::io::Read::read_to_end(
                &mut flate2::read::DeflateDecoder::new(data.data()),
                &mut content,
            )),
        }
        members.insert(name, content);
    }
    members
}

#[test]
fn a_release_with_its_image() {
    let Some(project) = project() else { return };
    let first = project.dmoci(&["build"]).ok();
    assert!(first.stderr.contains(RUNS), "{}", first.stderr);
    let dist = project.path("dist");
    assert_eq!(names(&dist.join("python")), [WHEEL, SDIST]);

    // One line for each, and the same in digests.json.
    let listed = digests(&dist)["python"].clone();
    let expected = [("sdist", SDIST), ("wheel", WHEEL)];
    assert_eq!(listed.as_array().unwrap().len(), 2);
    for ((kind, name), entry) in expected.into_iter().zip(listed.as_array().unwrap()) {
        let bytes = fs::read(dist.join("python").join(name)).unwrap();
        let digest = Digest::sha256(&bytes).to_string();
        let found = (&entry["kind"], &entry["name"], &entry["digest"], &entry["size"]);
        assert_eq!(found, (&kind.into(), &name.into(), &Value::from(&*digest), &bytes.len().into()));
        let line = first.stdout.lines().find(|line| line.contains(name)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [kind, name, &digest]);
        let log = fs::read_to_string(dist.join("build.log")).unwrap();
        assert!(log.contains(&format!("  {kind} {name}: {} bytes, {digest}\n", bytes.len())), "{log}");
        let run = project.dmoci(&["verify", "--integrity-only", &format!("dist/python/{name}")]).ok();
        assert!(run.stdout.contains("canonical: yes"), "{}", run.stdout);
    }
    assert!(first.stdout.starts_with("image "), "{}", first.stdout);

    // The image has that very wheel.
    let wheel = fs::read(dist.join("python").join(WHEEL)).unwrap();
    let files = layer(&dist, "app");
    let file = |path: &str| {
        let found = files.iter().find(|file| file.path == format!("{SITE}{path}"));
        found.unwrap_or_else(|| panic!("no {path}")).content.clone()
    };
    let direct: Value = serde_json::from_str(&file("tide_table-1.4.0.dist-info/direct_url.json")).unwrap();
    assert_eq!(direct["url"], format!("file:///dist/python/{WHEEL}"));
    assert_eq!(direct["archive_info"]["hashes"]["sha256"], Digest::sha256(&wheel).hex());
    let members = members(&wheel);
    assert_eq!(members.len(), 5);
    for (name, content) in members.iter().filter(|(name, _)| !name.ends_with("/RECORD")) {
        assert_eq!(file(name).as_bytes(), content, "{name}");
    }
    let start = config(&dist)["config"]["Entrypoint"][0].as_str().unwrap().to_owned();
    let program = files.iter().find(|file| format!("/{}", file.path) == start).unwrap();
    assert!(program.mode == 0o755 && program.content.contains("from tide_table import main"), "{program:?}");

    let evidence: Value =
        serde_json::from_slice(&fs::read(dist.join("evidence/python.json")).unwrap()).unwrap();
    assert_eq!((&evidence["backend"], &evidence["source"]), (&"backend".into(), &"all".into()));
    assert_eq!(evidence["distributions"][1]["digest"], listed[1]["digest"]);

    // What `dmoci wheel` makes is the same.
    let alone = project.dmoci(&["wheel", "-o", "alone"]).ok();
    assert!(
        first.stdout.ends_with(&alone.stdout[alone.stdout.rfind("sha256").unwrap()..]),
        "{}",
        alone.stdout
    );
    let run = project.dmoci(&["build", "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap(), digests(&dist));
}

#[test]
fn the_backend_runs_only_when_something_changed() {
    let Some(project) = project() else { return };
    commit(&project);
    let build = |arguments: &[&str]| project.dmoci(&[&["build"], arguments].concat()).ok();
    let first = build(&[]);
    let again = build(&[]);
    assert!(first.stderr.contains(RUNS) && !again.stderr.contains(RUNS), "{}", again.stderr);
    assert_eq!(again.stdout, first.stdout);
    // Neither another output directory, nor other times of the same files, nor another directory make a difference.
    project
        .write("src/tide_table/__init__.py", fs::read(project.path("src/tide_table/__init__.py")).unwrap());
    let other = build(&["-o", "other"]);
    assert!(!other.stderr.contains(RUNS) && other.stdout == first.stdout, "{}", other.stderr);
    assert_eq!(names(&project.path("other/python")), [WHEEL, SDIST]);
    let check = project.dmoci(&["check"]).ok();
    assert!(!check.stderr.contains(RUNS), "{}", check.stderr);

    assert!(build(&["--no-cache"]).stderr.contains(RUNS));
    assert!(build(&["--epoch", "1700000000"]).stderr.contains(RUNS));
    edit(&project, "src/tide_table/__init__.py", "tide-table\",", "tide table\",");
    let changed = build(&[]);
    assert!(changed.stderr.contains(RUNS) && changed.stdout != first.stdout, "{}", changed.stderr);
    edit(&project, "src/tide_table/__init__.py", "tide table\",", "tide-table\",");
    let back = build(&[]);
    assert!(!back.stderr.contains(RUNS) && back.stdout == first.stdout, "{}", back.stderr);

    // What is kept is hashed: damage costs time, no wrong byte.
    let wheel = fs::read(project.path("dist/python").join(WHEEL)).unwrap();
    let kept = project.cache().join("dmoci/build-1/blobs").join(Digest::sha256(&wheel).hex());
    let mut damaged = fs::read(&kept).unwrap();
    damaged[40] ^= 1;
    fs::write(&kept, damaged).unwrap();
    assert_eq!(fs::read(project.path("dist/python").join(WHEEL)).unwrap(), wheel, "it is a file of its own");
    let repaired = build(&[]);
    assert!(repaired.stderr.contains(RUNS) && repaired.stdout == first.stdout, "{}", repaired.stderr);
}

#[test]
fn built_twice() {
    let Some(project) = project() else { return };
    let outside = project.dmoci(&["build", "--twice"]).ok();
    assert!(outside.stderr.contains("twice the same"), "{}", outside.stderr);
    // With commits and tags, what is staged and not committed, and what is not tracked.
    commit(&project);
    project.write("src/tide_table/staged.py", "staged = True\n");
    project.git(&["add", "src"]);
    project.write("src/tide_table/untracked.py", "");
    let run = project.dmoci(&["build", "--twice"]).ok();
    assert!(run.stderr.contains("twice the same"), "{}", run.stderr);
    let text = listing(&project.path("dist"), "app");
    assert!(text.contains("tide_table/staged.py") && !text.contains("untracked.py"), "{text}");

    let before = fs::read(project.path("dist/digests.json")).unwrap();
    let random =
        "    files.insert(0, (\"tide_table/_id.py\", os.urandom(8).hex().encode()))\n    record = \"\"";
    edit(&project, "tools/backend.py", "    record = \"\"", random);
    let run = project.dmoci(&["build", "--twice"]).exits(5);
    assert!(run.stderr.contains("error[E-TWICE]") && run.stderr.contains("backend"), "{}", run.stderr);
    let word = format!("python/{WHEEL}\n");
    assert!(run.stdout.contains(&word) && run.stdout.contains("/files/tide_table~1_id.py"), "{}", run.stdout);
    assert_eq!(fs::read(project.path("dist/digests.json")).unwrap(), before);
}

#[test]
fn nothing_is_published_when_anything_fails() {
    let Some(project) = project() else { return };
    let all = |project: &Project| {
        let names = ["digests.json", "build.log", "evidence/python.json", "image/index.json"];
        let mut files: Vec<_> =
            names.iter().map(|name| fs::read(project.path("dist").join(name)).ok()).collect();
        files.extend([WHEEL, SDIST].map(|name| fs::read(project.path("dist/python").join(name)).ok()));
        files
    };
    // The backend.
    let fails = "    raise SystemExit(\"no luck\")\n    record = \"\"";
    edit(&project, "tools/backend.py", "    record = \"\"", fails);
    let run = project.dmoci(&["build"]).exits(6);
    assert!(run.stderr.contains("E-WHEEL-BACKEND") && run.stderr.contains("no luck"), "{}", run.stderr);
    assert!(run.stderr.contains("--> dmoci.toml:22"), "{}", run.stderr);
    assert!(!project.path("dist").exists());
    edit(&project, "tools/backend.py", fails, "    record = \"\"");
    // The image, when nothing is there and when something is.
    let conflict = format!(
        "[[layer]]\nname = \"app\"\nwheel = {{ {PYTHON} }}\nfile = [{{ path = \"/opt/tide-table/pyvenv.cfg\", content = \"\" }}]\n"
    );
    let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    layers(&project, &conflict);
    project.dmoci(&["build"]).exits(2);
    assert!(!project.path("dist").exists());
    project.write("dmoci.toml", &spec);
    project.dmoci(&["build"]).ok();
    let before = all(&project);
    assert!(before.iter().all(Option::is_some));
    edit(&project, "src/tide_table/__init__.py", "tide-table\",", "tide table\",");
    layers(&project, &conflict);
    project.dmoci(&["build"]).exits(2);
    assert!(all(&project) == before);
    project.write("dmoci.toml", &spec);
    // Somebody's file among them.
    project.write("dist/python/notes.txt", "");
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("E-OUTPUT-FOREIGN") && run.stderr.contains("notes.txt"), "{}", run.stderr);
    fs::remove_file(project.path("dist/python/notes.txt")).unwrap();
    // An older version goes.
    edit(&project, "pyproject.toml", "1.4.0", "1.5.0");
    project.dmoci(&["build"]).ok();
    assert_eq!(
        names(&project.path("dist/python")),
        [WHEEL.replace("1.4.0", "1.5.0"), SDIST.replace("1.4.0", "1.5.0")]
    );
    assert!(!project.path("dist/.dmoci-tmp").exists());
}

/// Lock files of other tools name the project itself: that is this wheel, unless an entry of its own gives it.
#[test]
fn the_project_of_a_lock_file() {
    let Some(project) = project() else { return };
    let package = "[[package]]\nname = \"tide-table\"\nversion = \"1.4.0\"\nsource = { KIND = \".\" }\n";
    let uv = |kind: &str| format!("version = 1\nrevision = 3\n\n{}", package.replace("KIND", kind));
    let pylock = "lock-version = \"1.0\"\ncreated-by = \"hand\"\n[[packages]]\nname = \"tide-table\"\ndirectory.path = \".\"\n";
    project.write("pylock.toml", pylock);
    let entry =
        |lock: &str| format!("[[layer]]\nname = \"app\"\npython = {{ lock = \"{lock}\", {PYTHON} }}\n");
    // As a `wheel` entry has it.
    project.dmoci(&["build"]).ok();
    let expected = listing(&project.path("dist"), "app");
    for (lock, text) in
        [("uv.lock", Some(uv("editable"))), ("uv.lock", Some(uv("virtual"))), ("pylock.toml", None)]
    {
        text.into_iter().for_each(|text| project.write("uv.lock", text));
        layers(&project, &entry(lock));
        let run = project.dmoci(&["build"]).ok();
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
        assert_eq!(listing(&project.path("dist"), "app"), expected, "{lock}");
        project.dmoci(&["lock"]).ok();
    }
    // Lines of a requirements file that name its directory.
    for line in [".", "-e .", "./"] {
        project.write("requirements.txt", format!("{line}\n"));
        layers(&project, &entry("requirements.txt"));
        let run = project.dmoci(&["build"]).ok();
        assert!(!run.stderr.contains("warning"), "{line}: {}", run.stderr);
        assert_eq!(listing(&project.path("dist"), "app"), expected, "{line}");
        project.dmoci(&["lock"]).ok();
    }
    project.write("requirements.txt", "./tools\n");
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("E-PYTHON-SOURCE") && run.stderr.contains("`[wheel]`"), "{}", run.stderr);
    // A layer of its own.
    let own =
        format!("{}[[layer]]\nname = \"own\"\nwheel = {{ venv = \"/opt/tide-table\" }}\n", entry("uv.lock"));
    layers(&project, &own);
    let run = project.dmoci(&["build"]).ok();
    assert!(!run.stderr.contains("left out"), "{}", run.stderr);
    assert!(!listing(&project.path("dist"), "app").contains("tide_table"));
    assert!(listing(&project.path("dist"), "own").contains("tide_table/__init__.py"));
    // Another version than the locked one.
    layers(&project, &entry("uv.lock"));
    edit(&project, "uv.lock", "1.4.0", "1.3.0");
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("E-PYTHON-STALE"), "{}", run.stderr);
    layers(&project, &entry("pylock.toml"));
    edit(&project, "pylock.toml", "name = \"tide-table\"\n", "name = \"tide-table\"\nversion = \"1.3.0\"\n");
    let run = project.dmoci(&["build"]).exits(1);
    assert!(run.stderr.contains("E-PYTHON-LOCK]: tide-table 1.3.0 is locked"), "{}", run.stderr);
    assert!(run.stderr.contains("--> pylock.toml:4"), "{}", run.stderr);
}

#[test]
fn what_a_platform_wheel_is_for() {
    let Some(project) = project() else { return };
    edit(
        &project,
        "tools/backend.py",
        "Root-Is-Purelib: true\\nTag: py3-none-any",
        "Root-Is-Purelib: false\\nTag: cp313-cp313-linux_x86_64",
    );
    edit(&project, "tools/backend.py", "-py3-none-any.whl", "-cp313-cp313-linux_x86_64.whl");
    layers(&project, &format!("[[layer]]\nname = \"app\"\nwheel = {{ {PYTHON}, libc = \"glibc-2.41\" }}\n"));
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("E-PYTHON-WHEEL"), "{}", run.stderr);
    for word in ["cp313-cp313-linux_x86_64.whl does not run on", "aarch64", "--python", "--platform"] {
        assert!(run.stderr.contains(word), "no {word:?} in {}", run.stderr);
    }
    assert!(!project.path("dist").exists());
    let amd64 = ["build", "--platform", "linux/amd64"];
    let run = project.dmoci(&amd64).ok();
    assert!(run.stdout.contains("cp313-cp313-linux_x86_64.whl"), "{}", run.stdout);
    // What the machine has besides decides it, and no key tells that.
    let again = project.dmoci(&amd64).ok();
    assert!(again.stderr.contains(RUNS) && again.stdout == run.stdout, "{}", again.stderr);
}

#[test]
fn what_is_no_input() {
    let Some(project) = project() else { return };
    let entry =
        |path: &str| format!("[[layer]]\nname = \"app\"\nwheel = {{ path = \"{path}\", {PYTHON} }}\n");
    project.dmoci(&["wheel"]).ok();
    layers(&project, &entry(&format!("dist/python/{WHEEL}")));
    let run = project.dmoci(&["build"]).exits(2);
    assert!(
        run.stderr.contains("E-SOURCE-OUTPUT") && run.stderr.contains("wheel = { venv"),
        "{}",
        run.stderr
    );
    // Without [wheel] that folder is as good as any other.
    edit(&project, "dmoci.toml", "[wheel]\n", "");
    project.dmoci(&["build"]).ok();
    let text = listing(&project.path("dist"), "app");
    assert!(
        text.contains("tide_table/__init__.py") && text.contains(&format!("file:///dist/python/{WHEEL}")),
        "{text}"
    );
    assert_eq!(names(&project.path("dist/python")), [WHEEL, SDIST]);
    assert_eq!(digests(&project.path("dist"))["python"], Value::Array(Vec::new()));
    layers(&project, &format!("[[layer]]\nname = \"app\"\nwheel = {{ {PYTHON} }}\n"));
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("E-SPEC-MISSING") && run.stderr.contains("[wheel]"), "{}", run.stderr);
    project.write("dmoci.toml", "schema = 1\n[wheel]\n");
    let run = project.dmoci(&["check"]).exits(2);
    assert!(
        run.stderr.contains("`image` is missing") && run.stderr.contains("`dmoci wheel`"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_the_table_says() {
    let Some(project) = project() else { return };
    let table = "[wheel]\nsource = \"part\"\nsdist = false\nnormalize = false\ntimeout = \"2m\"\n";
    edit(&project, "dmoci.toml", "[wheel]\n", table);
    edit(&project, "dmoci.toml", "python = \"3.13.5\"", "python = \"3.13.5\"\nversion = \"7\"");
    let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    project.write("dmoci.toml", format!("{spec}\n[variant.more]\ntags = [\"more\"]\n"));
    for name in ["pyproject.toml", "src/tide_table/__init__.py", "tools/backend.py"] {
        project.write(&format!("part/{name}"), fs::read(project.path(name)).unwrap());
        fs::remove_file(project.path(name)).unwrap();
    }
    let run = project.dmoci(&["build"]).ok();
    assert_eq!(names(&project.path("dist/python")), [WHEEL]);
    let evidence: Value =
        serde_json::from_slice(&fs::read(project.path("dist/evidence/python.json")).unwrap()).unwrap();
    assert_eq!(evidence["normalized"], false);
    assert_eq!(evidence["distributions"][0]["digest"], evidence["distributions"][0]["backendDigest"]);
    // A variant has the same wheel, beside its own image.
    let variant = project.dmoci(&["build", "--variant", "more"]).ok();
    assert!(!variant.stderr.contains(RUNS), "{}", variant.stderr);
    assert_eq!(names(&project.path("dist/variant-more/python")), [WHEEL]);
    assert_eq!(run.stdout.lines().last(), variant.stdout.lines().last());
    project.dmoci(&["check"]).ok();
    edit(&project, "dmoci.toml", "source = \"part\"", "source = \"part/${platform.debian}\"");
    let run = project.dmoci(&["check"]).exits(2);
    assert!(run.stderr.contains("E-PLATFORM-NAMES"), "{}", run.stderr);
    let mut build = dmoci();
    build.args(["build", "--python", "no-such-python"]).current_dir(project.root());
    build.env("XDG_CACHE_HOME", project.cache());
    edit(&project, "dmoci.toml", "part/${platform.debian}", "part");
    let run = Run::of(&mut build).exits(6);
    assert!(run.stderr.contains("E-WHEEL-TOOLS") && run.stderr.contains("no-such-python"), "{}", run.stderr);
}
