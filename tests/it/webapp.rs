//! The example `fixtures/webapp`: its wheels and lock file, byte by byte from the sources beside them, and what is built of it.
//! `DMOCI_BLESS=1 cargo test --test it webapp::` writes wheels and lock file.

use std::fs;
use std::path::{Path, PathBuf};

use dmoci_layers::Digest;

use crate::support::wheel::Wheel;
use crate::support::{Project, committed};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webapp")
}

/// The wheels of the three projects, dependencies first.
fn wheels() -> [Wheel; 3] {
    let source = |path: &str| fs::read(fixture().join("src").join(path)).unwrap();
    let project = |name: &str, version: &str, summary: &str, files: &[&str]| {
        let mut wheel = Wheel::new(name, version)
            .metadata(&format!("Summary: {summary}"))
            .metadata("License-Expression: 0BSD")
            .metadata("License-File: LICENSE")
            .metadata("Requires-Python: >=3.9")
            .info("licenses/LICENSE", source("LICENSE"));
        for path in files {
            wheel = wheel.file(path, source(&format!("{name}/{path}")));
        }
        wheel
    };
    let files = ["__init__.py", "__main__.py", "page.html", "pages.py", "server.py"]
        .map(|name| format!("almanac/{name}"));
    [
        project("moonphase", "1.0.1", "The age of the moon", &["moonphase.py"]),
        project(
            "tinyroute",
            "0.2.0",
            "Routes of a WSGI application",
            &["tinyroute/__init__.py", "tinyroute/router.py"],
        ),
        project(
            "almanac",
            "1.0.0",
            "A web application that knows the phases of the moon",
            &files.each_ref().map(String::as_str),
        )
        .metadata("Requires-Dist: moonphase>=1.0")
        .metadata("Requires-Dist: tinyroute>=0.2")
        .info("entry_points.txt", "[console_scripts]\nalmanac-serve = almanac.server:main\n")
        .data("scripts/almanac-check", source("almanac/scripts/almanac-check")),
    ]
}

/// The lock file of the dependencies, as PEP 751 has it.
fn lock(wheels: &[Wheel]) -> String {
    let mut text = "# Written by tests/it/webapp.rs.\nlock-version = \"1.0\"\ncreated-by = \"dmoci\"\n\
                    requires-python = \">=3.9\"\n"
        .to_owned();
    for wheel in wheels {
        let (file, bytes) = (wheel.file_name(), wheel.bytes());
        let (name, rest) = file.split_once('-').unwrap();
        let version = rest.split('-').next().unwrap();
        text += &format!(
            "\n[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\nwheels = [\n    {{ name = \"{file}\", \
             path = \"wheels/{file}\", size = {}, hashes = {{ sha256 = \"{}\" }} }},\n]\n",
            bytes.len(),
            Digest::sha256(&bytes).hex()
        );
    }
    text
}

#[test]
fn wheels_and_lock_file_are_those_of_the_sources() {
    let wheels = wheels();
    for wheel in &wheels {
        let path = fixture().join("wheels").join(wheel.file_name());
        if std::env::var_os("DMOCI_BLESS").is_some() {
            fs::write(&path, wheel.bytes()).unwrap();
        }
        assert!(fs::read(&path).unwrap() == wheel.bytes(), "{} is not what its sources make", path.display());
    }
    committed("fixtures/webapp/pylock.toml", &lock(&wheels[..2]));
    assert_eq!(fs::read_dir(fixture().join("wheels")).unwrap().count(), wheels.len());
}

/// The project in a directory of its own.
fn project() -> Project {
    let mut project = Project::new();
    for name in ["dmoci.toml", "pylock.toml"] {
        project = project.file(name, fs::read(fixture().join(name)).unwrap());
    }
    for wheel in wheels() {
        project = project.file(&format!("wheels/{}", wheel.file_name()), wheel.bytes());
    }
    project
}

/// What building the example prints outside any git repository.
const GOLDEN: &str = "\
image     registry.example/almanac:1.0.0  sha256:0941b66857dce9c08bd5eba9898371285579d47b8e863d29756cfdbfbb273ee4
manifest  linux/amd64                     sha256:c890ce559e4291c6fc5f0be4fb57028db0209c9dff0a7b51f22ca5cea7e061bd
config    linux/amd64                     sha256:6acfa9c3f59af0aac323a6c34091f7f9d71da5594830ff60030247f970045ba9
layer     linux/amd64:dependencies        sha256:dc5c0f2b1f37c090d8a5857626263865d1b043b94aeda29c37d6c70f8f0280e2
layer     linux/amd64:app                 sha256:c9d27cc7e8815d9c585a71f8350061827a4596c7eab7c066fde2b1c568b1bce8
layer     linux/amd64:users               sha256:c9fcd20f57823c008aee1c174ea8c238985d02311977b09ab67be6294a730e8a
manifest  linux/arm64                     sha256:f39a1557da154047089ed171460b81d3d1f27f51aa5555cce99269ebd3148f29
config    linux/arm64                     sha256:0ce5d4c309eac469602fde415b2cd39c9f487ac809061ee94794497d81469d01
layer     linux/arm64:dependencies        sha256:dc5c0f2b1f37c090d8a5857626263865d1b043b94aeda29c37d6c70f8f0280e2
layer     linux/arm64:app                 sha256:c9d27cc7e8815d9c585a71f8350061827a4596c7eab7c066fde2b1c568b1bce8
layer     linux/arm64:users               sha256:c9fcd20f57823c008aee1c174ea8c238985d02311977b09ab67be6294a730e8a
";

/// Rules 1 for Python: a change of any of these digests is a new number of the rules.
#[test]
fn golden_digests() {
    let found = project().dmoci(&["build"]).ok().stdout;
    assert_eq!(found, GOLDEN, "\n{found}");
}
