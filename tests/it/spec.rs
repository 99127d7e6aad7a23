//! Messages about `dmoci.toml`: for each `spec-errors/NAME.toml` the text that `dmoci check` prints.
//! `DMOCI_BLESS=1 cargo test --test it spec` writes the texts anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Project, committed};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/spec-errors")
}

/// The names of the files with this ending, without it.
fn names(ending: &str) -> BTreeSet<String> {
    let paths = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_mistake_has_its_message() {
    let mistakes = names("toml");
    assert!(mistakes.len() > 60, "{}", mistakes.len());
    for name in &mistakes {
        let text = fs::read_to_string(directory().join(format!("{name}.toml"))).unwrap();
        let run = Project::with_spec(&text).dmoci(&["check"]);
        assert_eq!((run.exit, run.stdout.as_str()), (2, ""), "{name}: {run:?}");
        assert!(run.stderr.starts_with("error[E-"), "{name}: {run:?}");
        committed(&format!("tests/it/spec-errors/{name}.txt"), &run.stderr);
    }
    assert_eq!(names("txt"), mistakes);
}

#[test]
fn every_code_of_the_reference_is_shown() {
    let reference = include_str!("../../docs/dmoci-toml.md");
    let shown: String = names("txt")
        .iter()
        .map(|name| fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap())
        .collect();
    // The other table is about more than the file.
    let errors = reference.split_once("### In the spec\n").unwrap().1.split_once("\n### ").unwrap().0;
    let rows =
        errors.lines().filter_map(|line| line.strip_prefix("| E-")).filter_map(|row| row.split(" |").next());
    let codes: Vec<String> = rows
        .flat_map(|codes| codes.split(", "))
        .map(|code| format!("E-{}", code.trim_start_matches("E-")))
        .collect();
    assert!(codes.len() > 10);
    for code in &codes {
        assert!(shown.contains(&format!("error[{code}]")), "{code}");
    }
}
