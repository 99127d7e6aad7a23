//! The commit that an image names: of which tree, and what makes it dirty.

use std::fs;

use crate::support::layers::{digests, image_spec};
use crate::support::{Project, Run, dmoci};

const ONE_FILE: &str = "[[layer]]\nname = \"a\"\nfile = [{ path = \"/etc/one\", content = \"1\" }]\n";

fn copy_spec(entry: &str) -> String {
    image_spec(&format!("[[layer]]\nname = \"a\"\ncopy = [{entry}]\n"))
}

/// Makes the project a work tree whose first commit has these paths.
fn committed(project: &Project, paths: &[&str]) {
    project.git(&["init", "-q"]);
    project.git(&[&["add"], paths].concat());
    project.git(&["commit", "-qm", "first"]);
}

fn is_dirty(project: &Project, output: &str) -> bool {
    digests(&project.path(output))["revision"].as_str().unwrap().ends_with("-dirty")
}

#[test]
fn git_sees_no_output_and_no_image_sees_git() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["."], to = "/x", exclude = ["dist/"] }"#));
    committed(&project, &["dmoci.toml"]);
    let run = project.dmoci(&["build"]).exits(2);
    assert!(run.stderr.contains("error[E-SOURCE-GIT]") && run.stderr.contains(".git is git's own data"));
    project.write("dmoci.toml", copy_spec(r#"{ from = ["."], to = "/x", exclude = ["dist/", ".git"] }"#));
    project.git(&["commit", "-qam", "second"]);
    project.dmoci(&["build"]).ok();
    let first = digests(&project.path("dist"));
    assert!(!first["revision"].as_str().unwrap().ends_with("-dirty"), "{first}");
    project.dmoci(&["build", "-o", "dist/second"]).ok();
    assert_eq!(digests(&project.path("dist/second")), first, "the first output made the tree dirty");
    project.write("dmoci.toml", copy_spec(r#"{ from = ["."], to = "/y", exclude = ["dist/", ".git"] }"#));
    project.dmoci(&["build"]).ok();
    assert!(digests(&project.path("dist"))["revision"].as_str().unwrap().ends_with("-dirty"));
}

/// `--output` is relative to the current directory, wherever the project is.
#[test]
fn outputs_in_and_out_of_the_work_tree() {
    let project = Project::new().file("p/dmoci.toml", image_spec(ONE_FILE)).file("p/app/f", "1");
    committed(&project, &["p"]);
    let run = |directory: &str, arguments: &[&str]| {
        fs::create_dir_all(project.path(directory)).unwrap();
        Run::of(dmoci().arg("build").args(arguments).current_dir(project.path(directory))).ok()
    };
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("out");
    run("p", &["-o", outside.to_str().unwrap()]);
    run("p/app", &["-C", "..", "-o", "../../beside"]);
    assert!(!is_dirty(&project, "beside"));
    run("p", &["-o", "../beside"]);
    assert!(!is_dirty(&project, "beside"));
    // The path of the output is not that of a folder of the same name in the project.
    project.write("p/app/f", "2");
    run("", &["-C", "p", "-o", "app"]);
    assert!(project.path("app/image").exists() && is_dirty(&project, "app"));
}

#[test]
fn the_project_as_output() {
    let project = Project::with_spec(&image_spec(ONE_FILE));
    committed(&project, &["dmoci.toml"]);
    project.dmoci(&["build", "-o", "."]).ok();
    let first = digests(project.root());
    assert!(!is_dirty(&project, "."));
    project.dmoci(&["build", "-o", "."]).ok();
    assert_eq!(digests(project.root()), first);
    // Other files stay in sight of git, and count.
    project.write("new.txt", "new");
    assert!(project.git(&["status", "--porcelain"]).stdout.contains("?? new.txt"));
    project.dmoci(&["build", "-o", "."]).ok();
    assert!(is_dirty(&project, "."));
}

#[test]
fn only_directories_of_builds_are_hidden_from_git() {
    let project = Project::with_spec(&image_spec(ONE_FILE)).file("reports/one.txt", "1");
    committed(&project, &["dmoci.toml", "reports"]);
    fs::create_dir(project.path("empty")).unwrap();
    for (output, hidden) in [("reports", false), ("dist", true), ("empty", true)] {
        project.dmoci(&["build", "-o", output]).ok();
        assert_eq!(project.path(output).join(".gitignore").exists(), hidden, "{output}");
        assert!(!is_dirty(&project, output), "{output}");
        project.git(&["clean", "-qfdx", "reports"]);
    }
}

/// Without git, or with a broken repository, the image would silently be another one.
#[test]
fn a_work_tree_that_git_cannot_be_asked_about() {
    let project = Project::with_spec(&image_spec(ONE_FILE)).file("sub/dmoci.toml", image_spec(ONE_FILE));
    committed(&project, &["dmoci.toml", "sub"]);
    let without = |directory: &str, more: &[&str]| {
        let mut build = dmoci();
        build.args(["build", "--no-cache"]).args(more);
        Run::of(build.current_dir(project.path(directory)).env("PATH", "/nonexistent"))
    };
    for directory in ["", "sub"] {
        let run = without(directory, &[]).exits(6);
        assert!(run.stderr.contains("error[E-GIT]") && run.stderr.contains("install git"), "{}", run.stderr);
        assert!(!project.path(directory).join("dist/image").exists());
        without(directory, &["--revision=none", "--epoch=0"]).ok();
    }
    // Where no work tree is, git is not missed.
    let alone = Project::with_spec(&image_spec(ONE_FILE));
    Run::of(dmoci().arg("build").current_dir(alone.root()).env("PATH", "/nonexistent")).ok();
    fs::write(project.path(".git/HEAD"), "nothing\n").unwrap();
    let run = project.dmoci(&["build"]).exits(6);
    assert!(run.stderr.contains("error[E-GIT]") && run.stderr.contains("--revision"), "{}", run.stderr);
    // A distribution has no revision.
    project.write("pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = \"b\"\n");
    let run = project.dmoci(&["wheel"]).exits(6);
    assert!(run.stderr.contains("error[E-GIT]") && run.stderr.contains("--all-files"), "{}", run.stderr);
    assert!(!run.stderr.contains("--revision"), "{}", run.stderr);
}

/// Programs that a repository names for git are not run: not to check a signature, not to fetch what is missing.
#[test]
fn a_repository_runs_nothing() {
    let project = Project::with_spec(&copy_spec(r#"{ from = ["vendor"], to = "/v", tracked = true }"#));
    let ran = project.path("ran");
    let script = format!("#!/bin/sh\ntouch {}\nexit 1\n", ran.display());
    let evil = project.path("evil.sh");
    project.write("evil.sh", script);
    fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    project.write("vendor/file", "1");
    // A folder of the project that looks like a repository, and would fetch.
    for folder in ["vendor/objects", "vendor/refs"] {
        fs::create_dir_all(project.path(folder)).unwrap();
    }
    project.write("vendor/HEAD", "ref: refs/heads/main\n");
    project.write(
        "vendor/config",
        format!(
            "[core]\n\tbare = false\n\tworktree = .\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = origin\n\
             [remote \"origin\"]\n\turl = ext::{}\n\tpromisor = true\n[protocol \"ext\"]\n\tallow = always\n",
            evil.display()
        ),
    );
    committed(&project, &["dmoci.toml", "vendor"]);
    // A commit with a signature, and a program to check it.
    let head = project.git(&["cat-file", "commit", "HEAD"]).stdout;
    let signed = head.replacen(
        "\n\n",
        "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n",
        1,
    );
    project.write("signed", signed);
    let commit = project.git(&["hash-object", "-t", "commit", "-w", "signed"]).stdout;
    project.git(&["reset", "-q", "--hard", commit.trim()]);
    project.git(&["config", "log.showSignature", "true"]);
    project.git(&["config", "gpg.program", evil.to_str().unwrap()]);
    project.dmoci(&["build"]);
    project.dmoci(&["check"]);
    assert!(!ran.exists());
}

/// A work tree of another user: git does not look at it, and says how it would.
#[test]
fn a_work_tree_of_another_user() {
    let project = Project::new().file("p/sub/dmoci.toml", image_spec(ONE_FILE));
    committed(&project, &["p"]);
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root can give files away");
    }
    for path in ["", ".git", "p", "p/sub"] {
        std::os::unix::fs::chown(project.path(path), Some(1000), Some(1000)).unwrap();
    }
    let run = project.dmoci(&["build", "-C", "p/sub"]).exits(6);
    assert!(run.stderr.contains("error[E-GIT]") && run.stderr.contains("safe.directory"), "{}", run.stderr);
    project.dmoci(&["build", "-C", "p/sub", "--revision=none", "--epoch=0"]).ok();
}
