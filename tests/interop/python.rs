//! A real application by its lock file, made on the spot, on a real operating system: it runs, and everything is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::debian;
use crate::support::podman::{self, Podman};
use crate::support::wheel::Wheel;
use crate::support::{Place, command, have, run, said};
use crate::webapp::RECORDS;
use crate::wheels::{differences, tree};

const PEERS: &[&str] = &["amd64", "uv", "tar"];
const NAME: &str = "registry.example/site:1.0";

/// An application with native libraries among its wheels, and programs; pip is there to check it. This release needs what
/// setuptools 81 took away.
const PYPROJECT: &str = "[project]\nname = \"site\"\nversion = \"1.0\"\nrequires-python = \">=3.11\"\n\
                         dependencies = [\"datasette==0.65.1\", \"pip\", \"setuptools<81\"]\n";

fn spec(image: &str, entry: &str) -> String {
    format!(
        "schema = 1\n[image]\nname = \"registry.example/site\"\ntags = [\"1.0\"]\n{image}\
         [[layer]]\nname = \"dependencies\"\npython = {{ lock = \"uv.lock\", venv = \"/opt/site\"{entry} }}\n"
    )
}

/// dmoci with downloads that are kept between runs.
fn dmoci() -> Command {
    let mut dmoci = crate::support::dmoci();
    dmoci.env("XDG_CACHE_HOME", debian::cache());
    dmoci
}

/// `pyproject.toml` and `uv.lock` in this folder; what is released later does not count.
fn write_lock(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("pyproject.toml"), PYPROJECT).unwrap();
    let mut uv = command("uv");
    uv.args(["lock", "--exclude-newer", "2026-10-01T00:00:00Z", "--project"]);
    run(uv.arg(folder));
}

/// The layers of the image that the spec adds, unpacked.
fn unpacked(project: &Path, root: &Path) {
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

/// How many wheels are pinned.
fn pins(project: &Path) -> usize {
    fs::read_to_string(project.join("dmoci.lock")).unwrap().matches(".wheel]]").count()
}

/// The application on a Debian with Python, built once.
fn project() -> &'static Path {
    static PROJECT: OnceLock<PathBuf> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-app");
        let _ = fs::remove_dir_all(&project);
        write_lock(&project);
        debian::write_base_with_python(&project);
        let image = "platforms = [\"linux/amd64\"]\nbase = \"oci:base-project/dist/image:3\"\n";
        fs::write(project.join("dmoci.toml"), spec(image, "")).unwrap();
        run(dmoci().arg("lock").arg("-C").arg(&project));
        run(dmoci().args(["build", "--locked", "--offline", "--no-cache", "-C"]).arg(&project));
        project
    })
}

#[test]
fn a_locked_application_runs_on_debian() {
    if !have(PEERS) || !have(debian::PEERS) || !have(podman::PEERS) {
        return;
    }
    let (project, podman, place) = (project(), Podman::new(), Place::new());
    let archive = place.path("docker.tar");
    let output = format!("docker-archive:{}", archive.display());
    run(dmoci().arg("export").arg(project.join("dist/image")).arg("-o").arg(output));
    run(podman.podman().args(["load", "--input"]).arg(&archive));
    let limits = ["--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000"];
    let start = ["run", "--detach", "--network=none", "--name=site"];
    run(podman.podman().args(start).args(limits).args([NAME, "sleep", "600"]));
    let inside = |arguments: &[&str]| run(podman.podman().args(["exec", "site"]).args(arguments));
    let python = "/opt/site/bin/python";
    assert_eq!(inside(&["/opt/site/bin/datasette", "--version"]), "datasette, version 0.65.1\n");
    let versions = inside(&["/opt/site/bin/datasette", "--get", "/-/versions.json"]);
    let versions: serde_json::Value = serde_json::from_str(&versions).unwrap();
    assert_eq!(versions["datasette"]["version"], "0.65.1");
    assert_eq!(inside(&[python, "-m", "pip", "check"]), "No broken requirements found.\n");
    let said = inside(&[python, "-c", RECORDS]);
    assert_eq!(said, format!("{} distributions, 0 wrong\n", pins(project)));
    let native = "import markupsafe._speedups as m, yaml._yaml as y, sys; print(m.__file__[:10], y.__file__[:10], sys.prefix)";
    assert_eq!(inside(&[python, "-c", native]), "/opt/site/ /opt/site/ /opt/site\n");
    run(podman.podman().args(["rm", "--force", "--time=0", "site"]));
}

/// What uv installs for that Python is what the image has, file by file.
#[test]
fn a_locked_application_is_what_uv_installs() {
    if !have(PEERS) || !have(debian::PEERS) {
        return;
    }
    let (project, place) = (project(), Place::new());
    let (root, target, list) = (place.path("root"), place.path("target"), place.path("list.txt"));
    unpacked(project, &root);
    let mut export = command("uv");
    export.args(["export", "--frozen", "--no-emit-project", "--format=requirements.txt", "--project"]);
    run(export.arg(project).arg("--output-file").arg(&list));
    let mut uv = command("uv");
    uv.args([
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--python-version=3.11",
    ]);
    uv.args(["--python-platform=x86_64-manylinux_2_36", "--target"])
        .arg(&target)
        .arg("--requirement")
        .arg(&list);
    run(&mut uv);
    let site = root.join("opt/site/lib/python3.11/site-packages");
    let meant = |line: &String| {
        let (kind, path) = line.rsplit_once(": ").unwrap();
        match kind {
            "only there" => {
                path.starts_with("bin/") || path == ".lock" || path.ends_with(".dist-info/REQUESTED")
            }
            "content" => path.ends_with(".dist-info/INSTALLER"),
            _ => kind == "mode 644, 755" && path.ends_with(".dist-info/RECORD"),
        }
    };
    let other: Vec<String> = differences(&site, &target).into_iter().filter(|line| !meant(line)).collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
    // Installers make a program for pip that its wheel does not ask for.
    let programs = |folder: &Path| -> Vec<String> {
        tree(folder).into_keys().filter(|name| !name.starts_with("python") && name != "pip3.11").collect()
    };
    assert_eq!(programs(&root.join("opt/site/bin")), programs(&target.join("bin")));
}

/// For another processor, without that machine and without a base: every library in it is for that.
#[test]
fn a_locked_application_for_another_processor() {
    if !have(PEERS) {
        return;
    }
    let place = Place::new();
    let project = place.path("project");
    write_lock(&project);
    let python = ", interpreter = \"/usr/bin/python3\", python-version = \"3.11.2\", libc = \"glibc-2.36\"";
    fs::write(project.join("dmoci.toml"), spec("platforms = [\"linux/arm64\"]\n", python)).unwrap();
    run(dmoci().args(["build", "--twice", "-C"]).arg(&project));
    let root = place.path("root");
    unpacked(&project, &root);
    let files = tree(&root.join("opt/site/lib"));
    let libraries: Vec<_> =
        files.iter().filter(|(_, (_, content))| content.starts_with(b"\x7fELF")).collect();
    assert!(libraries.len() >= 2, "{}", libraries.len());
    for (path, (_, content)) in libraries {
        // EM_AARCH64
        assert_eq!(content[18..20], [183, 0], "{path}");
    }
}

/// The C library is told by what a real musl says of itself. There is no Python of musl here: a program that is loaded with it
/// stands for one.
#[test]
fn musl_is_found() {
    if !have(&["amd64", "apt-get", "dpkg-deb"]) {
        return;
    }
    let place = Place::new();
    let (project, package) = (place.path("project"), place.path("package"));
    fs::create_dir_all(project.join("wheels")).unwrap();
    fs::create_dir(&package).unwrap();
    // As root apt-get downloads as another user, who may write here.
    run(command("chmod").arg("a+rwx").arg(&package));
    run(command("apt-get").args(["download", "musl"]).current_dir(&package));
    let file = fs::read_dir(&package).unwrap().next().unwrap().unwrap().path();
    run(command("dpkg-deb").arg("--extract").arg(file).arg(project.join("os")));
    let mut python = vec![0; 120];
    python[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let loader = b"/lib/ld-musl-x86_64.so.1\0";
    (python[18], python[32], python[54], python[56], python[64], python[72]) = (62, 64, 56, 1, 3, 120);
    python[96] = u8::try_from(loader.len()).unwrap();
    python.extend(loader);
    python.extend(b"3.12.4\0");
    fs::write(project.join("os/usr/bin/python3.12"), python).unwrap();
    std::os::unix::fs::symlink("python3.12", project.join("os/usr/bin/python3")).unwrap();

    let write = |tag: &str| {
        let wheel = Wheel::new("a", "1.0").tag(tag).file("a.py", tag);
        fs::write(project.join("wheels").join(wheel.file_name()), wheel.bytes()).unwrap();
        let hash = dmoci_layers::Digest::sha256(&wheel.bytes());
        let lock = format!("./wheels/{} --hash=sha256:{}\n", wheel.file_name(), hash.hex());
        fs::write(project.join("requirements.txt"), lock).unwrap();
    };
    let spec = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"os\"\n\
                copy = [{ from = \"os/\", to = \"/\" }]\n[[layer]]\nname = \"dependencies\"\n\
                python = { lock = \"requirements.txt\", venv = \"/opt/v\" }\n";
    fs::write(project.join("dmoci.toml"), spec).unwrap();
    write("cp312-cp312-manylinux_2_17_x86_64");
    let said = said(dmoci().arg("build").arg("-C").arg(&project));
    assert_eq!(said.code, Some(2), "{said:?}");
    for word in
        ["E-PYTHON-WHEEL", "CPython 3.12.4 on x86_64 with musl-1.2", "musllinux_1_2_x86_64", "manylinux_2_17"]
    {
        assert!(said.err.contains(word), "no {word:?} in {}", said.err);
    }
    write("cp312-cp312-musllinux_1_2_x86_64");
    run(dmoci().arg("build").arg("-C").arg(&project));
    let site = "opt/v/lib/python3.12/site-packages";
    unpacked(&project, &place.path("root"));
    assert!(place.path("root").join(site).join("a.py").is_file());
}
