//! `dmoci man`.

use std::fs;

use crate::support::Project;

#[test]
fn a_page_for_every_command() {
    let project = Project::new();
    project.dmoci(&["man", "--out", "one/deep"]).ok();
    project.dmoci(&["man", "--out", "two"]).ok();
    let read = |dir: &str| {
        let mut pages: Vec<(String, String)> = fs::read_dir(project.path(dir))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        pages.sort();
        pages
    };
    let pages = read("one/deep");
    assert_eq!(pages, read("two"), "the same pages each time");
    let help = project.dmoci(&["--help"]).ok().stdout;
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let mut expected: Vec<String> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(|name| format!("dmoci-{name}.1"))
        .chain(["", "-index-create", "-key-generate", "-key-public"].map(|name| format!("dmoci{name}.1")))
        .collect();
    expected.sort();
    assert_eq!(pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
    let main = &pages.iter().find(|(name, _)| name == "dmoci.1").unwrap().1;
    assert_eq!(*main, project.dmoci(&["man"]).ok().stdout);
    assert!(main.contains("dmoci\\-check(1)") && !main.contains("dmoci\\-help(1)"), "{main}");
    let codes = help.split_once("Exit codes:\n").unwrap().1;
    assert_eq!(codes.lines().count(), 7, "{codes}");
    for (name, page) in &pages {
        let (_, section) = page.split_once(".SH \"EXIT STATUS\"\n").unwrap_or_else(|| panic!("{name}"));
        for (code, meaning) in codes.lines().map(|line| line.trim().split_once("  ").unwrap()) {
            assert!(section.contains(&format!(".TP\n{code}\n{meaning}\n")), "{name}: {section}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written() {
    let project = Project::new().file("taken", "");
    let run = project.dmoci(&["man", "--out", "taken"]).exits(6);
    assert!(run.stderr.starts_with("error[E-WRITE]: cannot write taken\n  caused by: "), "{run:?}");
}
