//! Real applications by lock files made on the spot, on the Pythons of two Debians: they run, everything is there, and it is
//! what `uv pip install` puts there.

mod checks;
mod locks;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::debian::{self, Suite};
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, exits, have, heavy, run};
use crate::webapp::{RECORDS, other_programs};
use crate::wheels::{Tree, differences_of, tree};
use checks::Container;
use locks::Lock;

const PEERS: &[&str] = &["amd64", "uv", "tar", "strace"];
const NAME: &str = "registry.example/site:1.0";

/// This release needs what setuptools 81 took away; pip is there to check it.
const DATASETTE: &[&str] = &["datasette==0.65.1", "pip==26.2.1", "setuptools<81"];
const STREAMLIT: &[&str] = &["streamlit==1.64.0"];
const ANSIBLE_LINT: &[&str] = &["ansible-lint==26.9.0"];
const POETRY: &[&str] = &["poetry==2.5.1"];
const LITELLM: &[&str] = &["litellm[proxy]==1.103.1"];

/// A project that is one application.
struct Project<'a> {
    place: &'a Place,
    lock: Lock,
    suite: Suite,
}

impl Project<'_> {
    fn folder(&self) -> PathBuf {
        self.place.path("project")
    }

    /// dmoci with downloads that are kept between runs, and the index that uv asks.
    fn dmoci(&self, subcommand: &str) -> Command {
        let mut dmoci = crate::support::dmoci();
        dmoci.env("XDG_CACHE_HOME", debian::cache()).arg(subcommand).arg("-C").arg(self.folder());
        if self.lock == Lock::PipTools {
            dmoci.env("PIP_INDEX_URL", locks::index());
        }
        dmoci
    }

    fn write_spec(&self, image: &str, entry: &str) {
        let spec = format!(
            "schema = 1\n[image]\nname = \"registry.example/site\"\ntags = [\"1.0\"]\nenv = {{ LANG = \"C.UTF-8\" }}\n{image}\
             [[layer]]\nname = \"dependencies\"\npython = {{ lock = \"{}\", venv = \"/opt/site\"{entry} }}\n",
            self.lock.file()
        );
        fs::write(self.folder().join("dmoci.toml"), spec).unwrap();
    }

    /// `dist/image`, on the Debian.
    fn build(&self) {
        debian::write_base_with_python_of(self.suite, &self.folder());
        self.write_spec("platforms = [\"linux/amd64\"]\nbase = \"oci:base-project/dist/image:3\"\n", "");
        run(&mut self.dmoci("lock"));
        let mut build = self.dmoci("build");
        build.args(["--locked", "--offline", "--no-cache"]).env("PATH", "");
        // Neither Python nor anything else is run.
        assert_eq!(other_programs(&build, &self.place.path("strace.log")), [""; 0]);
        // What a real lock file has goes together.
        let log = fs::read_to_string(self.folder().join("dist/build.log")).unwrap();
        assert!(!log.contains(" needs "), "{log}");
    }

    /// The environment in the image, unpacked.
    fn environment(&self) -> PathBuf {
        let root = self.place.path("root");
        unpacked(&self.folder(), &root);
        root.join("opt/site")
    }

    /// How many wheels are pinned.
    fn pins(&self) -> usize {
        fs::read_to_string(self.folder().join("dmoci.lock")).unwrap().matches(".wheel]]").count()
    }

    /// The container that sleeps.
    fn start(&self, podman: Podman) -> Container {
        let archive = self.place.path("docker.tar");
        let output = format!("docker-archive:{}", archive.display());
        let image = self.folder().join("dist/image");
        run(crate::support::dmoci().arg("export").arg(image).arg("-o").arg(output));
        run(podman.podman().args(["load", "--input"]).arg(&archive));
        fs::remove_file(archive).unwrap();
        Container::start(podman, NAME)
    }
}

/// The layers of the image that the spec adds, unpacked.
pub(crate) fn unpacked(project: &Path, root: &Path) {
    fs::create_dir(root).unwrap();
    let digests: serde_json::Value =
        serde_json::from_slice(&fs::read(project.join("dist/digests.json")).unwrap()).unwrap();
    for layer in digests["platforms"][0]["layers"].as_array().unwrap() {
        if layer["name"].as_str().unwrap().starts_with("dependencies") {
            let hex = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let blob = project.join("dist/image/blobs/sha256").join(hex);
            run(command("tar").arg("-xzpf").arg(blob).arg("-C").arg(root));
        }
    }
}

/// Locks it, builds it, compares it with what uv installs, and runs it.
fn holds(requirements: &[&str], suite: Suite, lock: Lock, check: fn(&Container)) {
    let place = Place::new();
    let project = Project { place: &place, lock, suite };
    lock.write(&project.folder(), requirements, suite.python(), &place);
    project.build();
    is_what_uv_installs(&project);
    let container = project.start(Podman::small());
    let said = container.inside(&["/opt/site/bin/python", "-c", RECORDS]);
    assert_eq!(said, format!("{} distributions, 0 wrong\n", project.pins()));
    check(&container);
}

/// What uv installs for that Python is what the image has, file by file, but for what `docs/python.md` tells of.
fn is_what_uv_installs(project: &Project<'_>) {
    let (place, suite) = (project.place, project.suite);
    let target = place.path("target");
    let mut uv = command("uv");
    uv.args(["pip", "install", "--no-deps", "--only-binary=:all:"]);
    uv.arg(format!("--python-version={}", suite.python()));
    // uv knows no later C library than that of 2.40.
    let libc = if suite == Suite::Bookworm { "36" } else { "40" };
    uv.arg(format!("--python-platform=x86_64-manylinux_2_{libc}"));
    uv.arg("--target").arg(&target).arg("--requirement");
    run(uv.arg(project.lock.for_uv(&project.folder(), place)));
    let environment = project.environment();
    let site = environment.join(format!("lib/python{}/site-packages", suite.python()));
    // What is data of a wheel stands beside the packages there, and at the top of the environment here.
    let mut ours = tree(&environment);
    ours.retain(|path, _| !["lib/", "lib64", "bin/", "pyvenv.cfg"].iter().any(|part| path.starts_with(part)));
    ours.extend(tree(&site));
    let mut theirs = tree(&target);
    let programs = programs(&theirs);
    theirs.retain(|path, _| !path.starts_with("bin/"));
    let meant = |line: &String| {
        let (kind, path) = line.rsplit_once(": ").unwrap();
        match kind {
            "only there" => path == ".lock" || path.ends_with(".dist-info/REQUESTED"),
            "content" => path.ends_with(".dist-info/INSTALLER"),
            _ => kind == "mode 644, 755" && path.ends_with(".dist-info/RECORD"),
        }
    };
    let other: Vec<String> = differences_of(&ours, &theirs).into_iter().filter(|line| !meant(line)).collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
    let here: BTreeMap<_, _> = tree(&environment.join("bin"))
        .into_iter()
        .map(|(name, file)| (format!("bin/{name}"), file))
        .collect();
    assert_eq!(self::programs(&here), programs);
    fs::remove_dir_all(environment).unwrap();
    fs::remove_dir_all(target).unwrap();
}

/// The names and modes of the programs. Python belongs to the environment; installers make a program for pip that its wheel
/// does not ask for.
fn programs(tree: &Tree) -> Vec<(String, u32)> {
    tree.iter()
        .filter_map(|(path, (mode, _))| Some((path.strip_prefix("bin/")?.to_owned(), *mode)))
        .filter(|(name, _)| !name.starts_with("python") && !name.starts_with("pip3."))
        .collect()
}

/// Whether all is here to run an application.
#[track_caller]
fn ready() -> bool {
    have(PEERS) && have(debian::PEERS) && have(podman::PEERS)
}

#[test]
fn datasette_on_python_3_11() {
    if ready() {
        holds(DATASETTE, Suite::Bookworm, Lock::Uv, checks::datasette);
    }
}

#[test]
fn datasette_on_python_3_13() {
    if ready() {
        holds(DATASETTE, Suite::Trixie, Lock::Pip, checks::datasette);
    }
}

#[test]
fn streamlit_on_python_3_11() {
    if heavy() && ready() {
        holds(STREAMLIT, Suite::Bookworm, Lock::UvExport, checks::streamlit);
    }
}

#[test]
fn streamlit_on_python_3_13() {
    if heavy() && ready() {
        holds(STREAMLIT, Suite::Trixie, Lock::UvRequirements, checks::streamlit);
    }
}

#[test]
fn ansible_lint_on_python_3_11() {
    if heavy() && ready() {
        holds(ANSIBLE_LINT, Suite::Bookworm, Lock::Uv, checks::ansible_lint);
    }
}

#[test]
fn ansible_lint_on_python_3_13() {
    if heavy() && ready() {
        holds(ANSIBLE_LINT, Suite::Trixie, Lock::Pip, checks::ansible_lint);
    }
}

#[test]
fn poetry_on_python_3_11() {
    if heavy() && ready() {
        holds(POETRY, Suite::Bookworm, Lock::PipTools, checks::poetry);
    }
}

#[test]
fn poetry_on_python_3_13() {
    if heavy() && ready() {
        holds(POETRY, Suite::Trixie, Lock::UvExport, checks::poetry);
    }
}

#[test]
fn litellm_on_python_3_11() {
    if heavy() && ready() {
        holds(LITELLM, Suite::Bookworm, Lock::Uv, checks::litellm);
    }
}

#[test]
fn litellm_on_python_3_13() {
    if heavy() && ready() {
        holds(LITELLM, Suite::Trixie, Lock::UvPylock, checks::litellm);
    }
}

/// Who made the lock file does not matter: the same wheels become the same image.
#[test]
fn every_kind_of_lock_file_gives_the_same_image() {
    if !heavy() || !have(PEERS) || !have(debian::PEERS) {
        return;
    }
    let mut images = Vec::new();
    for lock in [Lock::UvExport, Lock::UvPylock, Lock::UvRequirements, Lock::Pip, Lock::PipTools] {
        let place = Place::new();
        let project = Project { place: &place, lock, suite: Suite::Trixie };
        lock.write(&project.folder(), DATASETTE, Suite::Trixie.python(), &place);
        project.build();
        let digests = fs::read(project.folder().join("dist/digests.json")).unwrap();
        let digests: serde_json::Value = serde_json::from_slice(&digests).unwrap();
        images.push((lock, digests["image"]["digest"].as_str().unwrap().to_owned()));
    }
    assert!(images.iter().all(|(_, digest)| *digest == images[0].1), "{images:#?}");
}

/// This release asks for Python 3.12: what is locked for that does not go onto 3.11.
#[test]
fn mitmproxy_is_refused_on_python_3_11() {
    if !heavy() || !have(PEERS) || !have(debian::PEERS) {
        return;
    }
    let python = "there is CPython 3.11.2 on x86_64 with glibc-2.36";
    for (lock, why, at) in [
        (Lock::Uv, "the lock file is for Python >=3.12, and the image has 3.11.2", "uv.lock:3"),
        (Lock::UvPylock, "the lock file is for Python >=3.12, and the image has 3.11.2", "pylock.toml:"),
        (Lock::UvRequirements, &format!("asks for Python >=3.12, and {python}"), "requirements.txt:"),
    ] {
        let place = Place::new();
        let project = Project { place: &place, lock, suite: Suite::Bookworm };
        // Locked for another Python than the image has.
        lock.write(&project.folder(), &["mitmproxy==12.2.3"], "3.12", &place);
        debian::write_base_with_python_of(project.suite, &project.folder());
        project.write_spec("platforms = [\"linux/amd64\"]\nbase = \"oci:base-project/dist/image:3\"\n", "");
        for subcommand in ["lock", "build"] {
            let said = exits(&mut project.dmoci(subcommand), 2);
            for word in ["error[E-PYTHON-TARGET]", why, at, "choose another base"] {
                assert!(said.err.contains(word), "no {word:?} in {}", said.err);
            }
        }
        assert!(!project.folder().join("dmoci.lock").exists() && !project.folder().join("dist").exists());
    }
}

/// For another processor, without that machine and without a base: every library in it is for that.
fn for_arm64(requirements: &[&str], libraries: usize) {
    let place = Place::new();
    let project = Project { place: &place, lock: Lock::Uv, suite: Suite::Bookworm };
    project.lock.write(&project.folder(), requirements, project.suite.python(), &place);
    let python = ", interpreter = \"/usr/bin/python3\", python-version = \"3.11.2\", libc = \"glibc-2.36\"";
    project.write_spec("platforms = [\"linux/arm64\"]\n", python);
    run(&mut project.dmoci("lock"));
    run(project.dmoci("build").args(["--twice", "--locked", "--offline"]));
    let said = run(crate::support::dmoci()
        .args(["verify", "--integrity-only"])
        .arg(project.folder().join("dist/image")));
    assert!(said.contains("SOUND"), "{said}");
    let files = tree(&project.environment());
    let found: Vec<_> = files.iter().filter(|(_, (_, content))| content.starts_with(b"\x7fELF")).collect();
    assert!(found.len() >= libraries, "{}", found.len());
    for (path, (_, content)) in found {
        // EM_AARCH64
        assert_eq!(content[18..20], [183, 0], "{path}");
    }
}

#[test]
fn datasette_for_another_processor() {
    if have(PEERS) {
        for_arm64(DATASETTE, 2);
    }
}

#[test]
fn litellm_for_another_processor() {
    if heavy() && have(PEERS) {
        for_arm64(LITELLM, 20);
    }
}
