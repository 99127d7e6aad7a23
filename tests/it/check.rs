//! `dmoci check`. What it says about mistakes in the file: `spec.rs`.

use crate::support::Project;

const SPEC: &str = "schema = 1\n[vars]\ntag = \"1\"\n[image]\nname = \"localhost/x\"\ntags = [\"${vars.tag}\"]\n\
                    platforms = [\"linux/amd64\", \"linux/arm64\"]\n[[layer]]\nname = \"app\"\n\
                    copy = [{ from = \"app-${platform.debian}\", to = \"/app\" }]\n";

#[test]
fn a_good_project() {
    let project = Project::with_spec(SPEC).file("app-amd64", "").file("app-arm64", "");
    let run = project.dmoci(&["check"]).ok();
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        (
            "",
            "    Planning linux/amd64\n    Planning linux/arm64\n     Checked dmoci.toml: 2 platforms, 2 sources\n"
        )
    );
    assert_eq!(project.dmoci(&["check", "--quiet"]).ok().stderr, "");
    let run = project.dmoci(&["check", "--verbose"]).ok();
    assert!(run.stderr.contains("    Resolved linux/arm64: 1 layer, 1 entry\n"), "{run:?}");
}

#[test]
fn every_platform_is_looked_at() {
    let project = Project::with_spec(SPEC).file("app-amd64", "");
    let run = project.dmoci(&["check"]).exits(2);
    assert!(run.stderr.starts_with("error[E-SOURCE-MISSING]: app-arm64 does not exist\n"), "{run:?}");
}

#[test]
fn the_project_and_the_file_can_be_elsewhere() {
    let project = Project::new().file("a/other.toml", SPEC).file("a/app-amd64", "").file("a/app-arm64", "");
    let run = project.dmoci(&["check", "-C", "a", "-f", "other.toml"]).ok();
    assert_eq!(
        run.stderr,
        "    Planning linux/amd64\n    Planning linux/arm64\n     Checked a/other.toml: 2 platforms, 2 sources\n"
    );
    let run = project.dmoci(&["check"]).exits(2);
    assert!(run.stderr.starts_with("error[E-SPEC-READ]: cannot read dmoci.toml\n  caused by: "), "{run:?}");
    assert!(
        run.stderr.ends_with("help: name the project directory with -C DIR, or the file with -f FILE\n"),
        "{run:?}"
    );
}

#[test]
fn variables_on_the_command_line() {
    let project = Project::with_spec(SPEC).file("app-amd64", "").file("app-arm64", "");
    project.dmoci(&["check", "--set", "tag=2", "--set", "version=3"]).ok();
    let run = project.dmoci(&["check", "--set", "tag=a b"]).exits(2);
    assert!(run.stderr.starts_with("error[E-SPEC-VALUE]: \"a b\" is not a tag\n"), "{run:?}");
    let run = project.dmoci(&["check", "--set", "tga=2"]).exits(2);
    assert_eq!(
        run.stderr,
        "error[E-SPEC-SET]: `--set tga=…`: there is no such variable in [vars] of dmoci.toml\nhelp: did you mean `tag`?\n"
    );
    assert_eq!(project.dmoci(&["check", "--set", "tag"]).exit, 2);
}

#[test]
fn a_version_of_pyproject() {
    let project = Project::with_spec(&SPEC.replace("${vars.tag}", "${version}"))
        .file("app-amd64", "")
        .file("app-arm64", "");
    assert!(project.dmoci(&["check"]).exits(2).stderr.starts_with("error[E-SPEC-VERSION]: "));
    project.write("pyproject.toml", "[project]\nversion = \"1.0\"\n");
    project.dmoci(&["check"]).ok();
}

#[test]
fn files_that_are_no_text() {
    let project = Project::new().file("dmoci.toml", b"schema = 1\n# \xff\n");
    let run = project.dmoci(&["check"]).exits(2);
    assert_eq!(
        run.stderr,
        "error[E-SPEC-ENCODING]: dmoci.toml is not UTF-8 text: byte 13 does not belong there\n"
    );
    project.write("dmoci.toml", "#".repeat((1 << 20) + 1));
    let run = project.dmoci(&["check"]).exits(2);
    assert_eq!(run.stderr, "error[E-SPEC-LARGE]: dmoci.toml is larger than 1048576 bytes\n");
}

#[test]
fn colours_only_when_wanted() {
    let project = Project::with_spec("schema = 3\n");
    assert!(!project.dmoci(&["check"]).exits(2).stderr.contains('\x1b'));
    let run = project.dmoci(&["check", "--color", "always"]).exits(2);
    assert!(run.stderr.starts_with("\x1b[1m\x1b[91merror[E-SPEC-VALUE]\x1b[0m: "), "{run:?}");
}

#[test]
fn what_a_build_would_refuse_is_found() {
    let project = Project::with_spec(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"a\"\n\
         file = [{ path = \"/f\", content = \"1\" }, { path = \"/f\", content = \"2\" }]\n",
    );
    let run = project.dmoci(&["check"]).exits(2);
    assert!(
        run.stderr.contains("error[E-PATH-CONFLICT]") && run.stderr.contains("dmoci.toml:6:"),
        "{}",
        run.stderr
    );
    assert!(!project.path("dist").exists());
}
