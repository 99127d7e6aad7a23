//! What all commands share: usage errors, streams, exit codes.

use std::fs::OpenOptions;
use std::process::Stdio;

use crate::support::{Project, dmoci};

#[test]
fn wrong_usage_is_two() {
    let project = Project::new();
    for arguments in
        [&["nonsense"][..], &[], &["completions", "tcsh"], &["--quiet", "--verbose", "completions", "bash"]]
    {
        let run = project.dmoci(arguments);
        assert_eq!(
            (run.exit, run.stdout.as_str(), run.stderr.is_empty()),
            (2, "", false),
            "{arguments:?}: {run:?}"
        );
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let project = Project::new();
    let run = project.dmoci(&["--version"]);
    assert_eq!((run.exit, run.stdout), (0, format!("dmoci {}\n", env!("CARGO_PKG_VERSION"))));
    assert!(project.dmoci(&["--help"]).ok().stdout.contains("--color <WHEN>"));
}

#[test]
fn help_as_a_command() {
    let project = Project::new();
    let help = |arguments: &[&str]| project.dmoci(arguments).ok().stdout;
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(help(&["help", "check"]), help(&["check", "--help"]));
    assert!(help(&["help", "--help"]).contains("Usage: dmoci help "));
    assert!(project.dmoci(&["help", "chekc"]).exits(2).stderr.contains("check"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output =
        dmoci().args(["completions", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_full_standard_output_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = dmoci().args(["completions", "bash"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(
        stderr.starts_with("error[E-OUTPUT]: cannot write to standard output\n  caused by: "),
        "{stderr}"
    );
}

#[test]
fn completions_name_the_commands() {
    let project = Project::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(project.dmoci(&["completions", shell]).ok().stdout.contains("completions"), "{shell}");
    }
}

#[test]
fn colours_of_usage_errors() {
    let project = Project::new();
    let run = project.dmoci(&["--color=always", "nonsense"]).exits(2);
    assert!(run.stderr.contains("\x1b["), "{run:?}");
    assert!(!project.dmoci(&["--color=never", "nonsense"]).exits(2).stderr.contains('\x1b'));
    assert!(!project.dmoci(&["nonsense"]).exits(2).stderr.contains('\x1b'));
}
