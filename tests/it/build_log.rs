//! `build.log`: what a build did, in the output directory.

use std::fs;

use crate::support::layers::digests;
use crate::support::{Project, Run, dmoci};

const SPEC: &str = r#"schema = 1
[image]
name = "localhost/logged"
tags = ["1", "2"]
platforms = ["linux/amd64", "linux/arm64"]
[[layer]]
name = "app"
copy = [{ from = "app", to = "/app", substitute = { "@ARCH@" = "${platform.debian}", "gone" = "x" } }]
[[layer]]
name = "none"
copy = [{ from = "app", to = "/app", include = ["*.py"] }]
file = [{ path = "/f", content = "" }]
[variant.test]
tags = ["test"]
"#;

const ARGUMENTS: [&str; 5] = ["build", "--epoch", "1700000000", "--revision", "a\nb"];

fn project() -> Project {
    let project = Project::with_spec(SPEC).file("app/f", "for @ARCH@");
    project.settle();
    project
}

#[test]
fn the_steps_and_what_each_gave() {
    let project = project();
    let run = project.dmoci(&ARGUMENTS).ok();
    // What both platforms warn of is told once.
    assert_eq!(run.stderr.matches("warning: ").count(), 2, "{}", run.stderr);
    let log = fs::read_to_string(project.path("dist/build.log")).unwrap();
    let digests = digests(&project.path("dist"));
    let of = |platform: usize| {
        let platform = &digests["platforms"][platform];
        let blob = |what: &str| {
            format!("{} bytes, {}", platform[what]["size"], platform[what]["digest"].as_str().unwrap())
        };
        let layer = |number: usize, name: &str, entries: &str| {
            let layer = &platform["layers"][number];
            let (size, digest) = (&layer["size"], layer["digest"].as_str().unwrap());
            format!("  layer {name:?}: {entries} bytes of tar, {size} bytes, {digest}\n")
        };
        format!(
            "writing {}\n{}  warning: dmoci.toml:8: no text that this `copy` of the layer \"app\" takes holds \"gone\"\n\
             {}  config: {}\n  manifest: {}\n",
            platform["platform"].as_str().unwrap(),
            layer(0, "app", "2 entries, 2560"),
            layer(1, "none", "1 entry, 1536"),
            blob("config"),
            blob("manifest"),
        )
    };
    let none = "  warning: dmoci.toml:11: this `copy` of the layer \"none\" gives no file at all\n";
    assert_eq!(
        log,
        format!(
            "dmoci {}, rules 1\nspec dmoci.toml\ncreated 2023-11-14T22:13:20Z\nrevision a\\nb\n\
             planning linux/amd64\n{none}planning linux/arm64\n{none}{}{}image {}\n  \
             named localhost/logged:1\n  named localhost/logged:2\n",
            env!("CARGO_PKG_VERSION"),
            of(0),
            of(1),
            digests["image"]["digest"].as_str().unwrap(),
        )
    );
}

#[test]
fn the_same_wherever_and_however_it_is_built() {
    let project = project();
    project.dmoci(&ARGUMENTS).ok();
    let log = fs::read(project.path("dist/build.log")).unwrap();
    // From the cache, without it, into another directory, and from elsewhere.
    for more in [&[][..], &["--no-cache"], &["-o", "out"]] {
        project.dmoci(&[&ARGUMENTS, more].concat()).ok();
        let directory = if more.contains(&"-o") { "out" } else { "dist" };
        assert_eq!(fs::read(project.path(directory).join("build.log")).unwrap(), log, "{more:?}");
    }
    let outside = tempfile::tempdir().unwrap();
    let mut build = dmoci();
    build.args(ARGUMENTS).arg("-C").arg(project.root()).arg("-o").arg(outside.path().join("x"));
    Run::of(build.current_dir(outside.path())).ok();
    assert_eq!(fs::read(outside.path().join("x/build.log")).unwrap(), log);
    project.dmoci(&[&ARGUMENTS[..], &["--variant", "test"]].concat()).ok();
    let variant = fs::read_to_string(project.path("dist/variant-test/build.log")).unwrap();
    assert!(variant.contains("spec dmoci.toml\nvariant test\n"), "{variant}");
}

#[test]
fn a_failed_build_leaves_that_of_the_image_that_is_there() {
    let project = project();
    project.dmoci(&ARGUMENTS).ok();
    let log = fs::read(project.path("dist/build.log")).unwrap();
    project.write("app/.wh.x", "");
    project.dmoci(&ARGUMENTS).exits(2);
    assert_eq!(fs::read(project.path("dist/build.log")).unwrap(), log);
}
