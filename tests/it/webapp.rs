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
image     registry.example/almanac:1.0.0  sha256:d711305dbd0a11e2ec9510b05c7050b965764ee6906317cb25433cd7fc53d160
manifest  linux/amd64                     sha256:ed4fd4bea2f78677099ae50d276cf68773f0261140adde1ded79be44315051fb
config    linux/amd64                     sha256:1a3f87707f89ab453f80980d2807beca73e9214902e5b978f4363baa66e0629c
layer     linux/amd64:dependencies        sha256:71730e4f2e0f1da448d4d5dde75c8ed8a10346616a8e574a83d1a360ec1df592
layer     linux/amd64:app                 sha256:c9d27cc7e8815d9c585a71f8350061827a4596c7eab7c066fde2b1c568b1bce8
layer     linux/amd64:users               sha256:c9fcd20f57823c008aee1c174ea8c238985d02311977b09ab67be6294a730e8a
manifest  linux/arm64                     sha256:89a0723c22d78de7534b4a4136fe5169c4dc8417bf615f7869fa3fcf781f890c
config    linux/arm64                     sha256:fe60ad801a5bbfdb98c580b8b72cfced21b21b416f9085d8e56774b5e570a34e
layer     linux/arm64:dependencies        sha256:71730e4f2e0f1da448d4d5dde75c8ed8a10346616a8e574a83d1a360ec1df592
layer     linux/arm64:app                 sha256:c9d27cc7e8815d9c585a71f8350061827a4596c7eab7c066fde2b1c568b1bce8
layer     linux/arm64:users               sha256:c9fcd20f57823c008aee1c174ea8c238985d02311977b09ab67be6294a730e8a
";

/// Rules 1 for Python: a change of any of these digests is a new number of the rules.
#[test]
fn golden_digests() {
    let found = project().dmoci(&["build"]).ok().stdout;
    assert_eq!(found, GOLDEN, "\n{found}");
}
