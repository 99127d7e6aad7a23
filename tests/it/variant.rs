//! `[variant.NAME]` and `build --variant`.

use std::fs;

use crate::support::Project;
use crate::support::layers::{config, digests, listing, manifest};

const SPEC: &str = r#"schema = 1
[image]
name = "localhost/km"
tags = ["1"]
platforms = ["linux/amd64", "linux/arm64"]
entrypoint = ["/bin/serve"]
env = { LANG = "C", MODE = "serve" }
users = [{ name = "km", uid = 10 }]
[[layer]]
name = "app"
copy = [{ from = ".", to = "/app", exclude = ["dist/", "elsewhere/"] }]
[variant.test]
tags = ["1-test"]
platforms = ["linux/amd64"]
entrypoint = ["/bin/test"]
env = { MODE = "test" }
[[variant.test.layer]]
name = "tests"
file = [{ path = "/tests", content = "${platform.debian}", owner = "km" }]
[variant.broken]
tags = ["1-broken"]
[[variant.broken.layer]]
name = "nothing"
copy = [{ from = "nowhere", to = "/x" }]
"#;

fn good() -> String {
    SPEC.split("[variant.broken]").next().unwrap().to_owned()
}

#[test]
fn an_image_of_its_own_beside_the_image() {
    let project = Project::with_spec(&good());
    project.dmoci(&["build"]).ok();
    let image = fs::read(project.path("dist/image/index.json")).unwrap();
    let run = project.dmoci(&["build", "--variant", "test"]).ok();
    assert!(run.stdout.starts_with("image     localhost/km:1-test "), "{}", run.stdout);
    assert!(run.stderr.contains("Writing linux/amd64 (variant test): 3 layers\n"), "{}", run.stderr);
    assert_eq!(fs::read(project.path("dist/image/index.json")).unwrap(), image);
    let (dist, variant) = (project.path("dist"), project.path("dist/variant-test"));
    assert_eq!(
        (&digests(&dist)["variant"], &digests(&variant)["variant"]),
        (&serde_json::Value::Null, &serde_json::json!("test"))
    );
    let layer = |dist, number: usize| manifest(dist)["layers"][number]["digest"].clone();
    assert_eq!(layer(&dist, 0), layer(&variant, 0), "the layers below are shared");
    assert_eq!(listing(&variant, "tests"), "- 0644 10:10 tests amd64");
    assert_eq!(listing(&variant, "users"), listing(&dist, "users"));
    let run = &config(&variant)["config"];
    assert_eq!(run["Entrypoint"], serde_json::json!(["/bin/test"]));
    let env: Vec<&str> = run["Env"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(env[1..], ["LANG=C", "MODE=test"]);
    // Built again, with the variant's output there: the same.
    project.dmoci(&["build"]).ok();
    assert_eq!(fs::read(project.path("dist/image/index.json")).unwrap(), image);
    project.dmoci(&["build", "--variant", "test", "-o", "elsewhere", "--set", "version=1"]).ok();
    assert_eq!(listing(&project.path("elsewhere"), "tests"), "- 0644 10:10 tests amd64");
}

#[test]
fn no_output_is_an_input_of_a_variant() {
    let project = Project::with_spec(&good().replace(", exclude = [\"dist/\", \"elsewhere/\"]", ""));
    let run = project.dmoci(&["build", "--variant", "test"]).exits(2);
    assert!(run.stderr.contains("error[E-SOURCE-OUTPUT]: ./dist is in the output"), "{}", run.stderr);
    assert!(!project.path("dist").exists(), "something was left");
}

#[test]
fn check_looks_at_all_of_them() {
    // These programs are nowhere, which would be a warning.
    let without = |spec: String, name: &str| spec.replace(&format!("entrypoint = [\"/bin/{name}\"]\n"), "");
    let project = Project::with_spec(&without(without(good(), "serve"), "test"));
    let run = project.dmoci(&["check"]).ok();
    assert_eq!(
        run.stderr,
        "    Planning linux/amd64\n    Planning linux/arm64\n    Planning linux/amd64 (variant test)\n     \
         Checked dmoci.toml: 2 platforms, 1 variant, 1 source\n"
    );
    project.write("dmoci.toml", SPEC);
    for arguments in [&["check"][..], &["check", "--variant", "broken"], &["build", "--variant", "broken"]] {
        let run = project.dmoci(arguments).exits(2);
        assert!(run.stderr.contains("error[E-SOURCE-MISSING]: nowhere does not exist"), "{run:?}");
    }
    assert!(!project.path("dist").exists(), "something was left");
    // The image and the other variant have no part in it.
    project.dmoci(&["build"]).ok();
    let run = project.dmoci(&["check", "--variant", "test"]).ok();
    assert!(run.stderr.ends_with("Checked dmoci.toml: 1 platform, 1 source\n"), "{}", run.stderr);
}

#[test]
fn names_and_platforms_that_it_does_not_have() {
    let project = Project::with_spec(&good());
    for command in ["build", "check"] {
        let run = project.dmoci(&[command, "--variant", "tset"]).exits(2);
        assert_eq!(
            run.stderr,
            "error[E-VARIANT]: there is no variant \"tset\" in dmoci.toml\nhelp: did you mean `test`?\n"
        );
    }
    let run = project.dmoci(&["build", "--variant", "other"]).exits(2);
    assert!(run.stderr.ends_with("help: its variants are `test`\n"), "{}", run.stderr);
    let run = project.dmoci(&["build", "--variant", "test", "--platform", "linux/arm64"]).exits(2);
    let said = "error[E-PLATFORM]: the variant \"test\" does not build for linux/arm64\n";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    project.write("dmoci.toml", good().replace("tags = [\"1-test\"]\n", ""));
    for command in ["build", "check"] {
        let run = project.dmoci(&[command, "--variant", "test"]).exits(2);
        assert!(
            run.stderr.contains("error[E-SPEC-DUPLICATE]: the variant `test` would be called localhost/km:1"),
            "{}",
            run.stderr
        );
    }
}
