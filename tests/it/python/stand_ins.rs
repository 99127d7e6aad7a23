//! Wheels that stand in for what has none: nobody says what is in them, so `dmoci.lock` does.

use std::fs;

use super::{SAID, hash, installed, project, spec, wheel};
use crate::support::layers::image_spec;
use crate::support::wheel::Wheel;
use crate::support::{Project, Run};

fn sdist(name: &str) -> String {
    format!(
        "[[packages]]\nname = \"{name}\"\nversion = \"1.0\"\nsdist = {{ path = \"{name}-1.0.tar.gz\" }}\n"
    )
}

fn pylock(packages: &[String]) -> String {
    format!("lock-version = \"1.0\"\ncreated-by = \"test\"\n{}", packages.concat())
}

fn entry(lock: &str) -> String {
    spec(&format!("lock = \"{lock}\", wheels = \"wheels\", {SAID}"))
}

fn lock_of(project: &Project) -> String {
    fs::read_to_string(project.path("dmoci.lock")).unwrap_or_default()
}

#[track_caller]
fn fails(run: Run, exit: i32, words: &[&str]) {
    let run = run.exits(exit);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
}

#[test]
fn they_are_pinned_by_first_use() {
    let (a, own) = (wheel("a", "1.0"), wheel("own", "1.0"));
    let file = format!("wheels/{}", a.file_name());
    let directory = "[[packages]]\nname = \"own\"\nversion = \"1.0\"\ndirectory = { path = \".\" }\n";
    let text = pylock(&[sdist("a"), directory.into()]);
    let project = project(&entry("pylock.toml"), &[a.clone(), own]).file("pylock.toml", &text);
    fails(
        project.dmoci(&["build", "--locked"]),
        2,
        &["E-LOCK-MISSING", "dmoci.lock lacks a-1.0-py3-none-any.whl for linux/amd64", "pylock.toml:4"],
    );
    let check = project.dmoci(&["check"]).ok();
    assert!(check.stderr.contains("dmoci.lock lacks 1 entry") && lock_of(&project).is_empty());
    let run = project.dmoci(&["build"]).ok();
    let said =
        "warning: nothing but dmoci.lock says what a-1.0-py3-none-any.whl must be, which stands in for";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    // The project's own wheel changes with the project, and is not pinned.
    let lock = lock_of(&project);
    let entry = format!(
        "[[platform.\"linux/amd64\".wheel]]\nfile = \"{}\"\nsize = {}\nsha256 = \"{}\"\nauthenticated = \"first use\"\n",
        a.file_name(),
        a.bytes().len(),
        hash(&a)
    );
    assert!(lock.contains(&entry) && lock.matches("[[").count() == 1, "{lock}");
    for arguments in
        [&["build", "--locked", "--offline"][..], &["check", "--locked"], &["lock"], &["build", "--twice"]]
    {
        let run = project.dmoci(arguments).ok();
        assert!(
            !run.stderr.contains("warning") && lock_of(&project) == lock,
            "{arguments:?}: {}",
            run.stderr
        );
    }

    // Somebody has put another one there, or built it anew.
    let other = Wheel::new("a", "1.0").file("a.py", "other");
    project.write(&file, other.bytes());
    let pinned = format!(
        "dmoci.lock pins a-1.0-py3-none-any.whl to sha256:{}, and {file} is sha256:{}",
        hash(&a),
        hash(&other)
    );
    for arguments in [&["build"][..], &["build", "--locked"], &["check"], &["lock"]] {
        let words = ["E-LOCK-STALE", &pinned, "dmoci lock --update a", "pinned here", "pylock.toml:4"];
        fails(project.dmoci(arguments), 2, &words);
    }
    assert_eq!(installed(&project), ["a 1.0", "own 1.0", "requested a-1.0", "requested own-1.0"]);
    let run = project.dmoci(&["lock", "--update", "a"]).ok();
    assert!(run.stderr.contains("Updated wheel a-1.0-py3-none-any.whl: sha256:"), "{}", run.stderr);
    project.dmoci(&["build", "--locked"]).ok();
    assert!(installed(&project).contains(&"other".to_owned()));
    // An entry that is changed by hand, and one that is not needed any more.
    project.write("dmoci.lock", lock_of(&project).replace("size = ", "size = 1"));
    fails(project.dmoci(&["build"]), 1, &["E-LOCK-EDITED", "the entry of a-1.0-py3-none-any.whl"]);
    project.dmoci(&["lock", "--update", "a"]).ok();
    project.write("pylock.toml", pylock(&[directory.into()]));
    let run = project.dmoci(&["lock"]).ok();
    assert!(run.stderr.contains("Removed wheel a-1.0-py3-none-any.whl"), "{}", run.stderr);
    assert_eq!(lock_of(&project).matches("[[").count(), 0);
}

/// Once it is pinned, no index is asked whether there is something better.
#[test]
fn requirements_ask_no_index_twice() {
    let a = wheel("a", "1.0");
    let index = super::index(&[]);
    let text = format!("--index-url {}\na==1.0 --hash=sha256:{}\n", index.url("/simple"), "1".repeat(64));
    let project =
        project(&entry("requirements.txt"), std::slice::from_ref(&a)).file("requirements.txt", text);
    project.dmoci(&["lock"]).ok();
    let asked = index.asked().len();
    assert!(asked > 0 && lock_of(&project).contains(&hash(&a)));
    project.dmoci(&["build", "--locked", "--offline"]).ok();
    assert_eq!(
        (index.asked().len(), installed(&project)),
        (asked, vec!["a 1.0".into(), "requested a-1.0".into()])
    );
    project.write(&format!("wheels/{}", a.file_name()), Wheel::new("a", "1.0").file("a.py", "x").bytes());
    fails(project.dmoci(&["build", "--locked", "--offline"]), 2, &["E-LOCK-STALE", "dmoci lock --update a"]);
}

/// All that is missing is told at once, with the commands that make it.
#[test]
fn everything_that_has_no_wheel() {
    let windows = Wheel::new("w", "1.0").tag("cp312-cp312-win_amd64").file("w.py", "");
    let of_wheel = super::pylock(&[("w", "1.0", &[&windows])]);
    let of_wheel = of_wheel.split("[[packages]]").nth(1).unwrap();
    let text = pylock(&[sdist("a"), sdist("b"), format!("[[packages]]{of_wheel}")]);
    let project = project(&entry("pylock.toml"), &[windows]).file("pylock.toml", text);
    for command in ["check", "build", "lock"] {
        fails(
            project.dmoci(&[command]),
            2,
            &[
                "E-PYTHON-SOURCE",
                "3 projects have no wheel that can be installed for CPython 3.12.4 on x86_64 with glibc-2.36",
                "a 1.0 is there only as a source distribution",
                "b 1.0 is there only as a source distribution",
                "w 1.0 has no wheel for CPython 3.12.4",
                "looked for cp312-cp312",
                "of w 1.0 there are cp312-cp312-win_amd64",
                "  pip wheel --no-deps --no-binary a --wheel-dir wheels a==1.0\n",
                "  pip wheel --no-deps --no-binary b --wheel-dir wheels b==1.0\n",
            ],
        );
    }
    let many: Vec<String> = (0..30).map(|n| sdist(&format!("p{n:02}"))).collect();
    project.write("pylock.toml", pylock(&many));
    let run = project.dmoci(&["check"]).exits(2);
    assert!(
        run.stderr.contains("30 projects have no wheel") && run.stderr.contains("the first 20 are shown")
    );
    assert_eq!(run.stderr.matches("pip wheel").count(), 20, "{}", run.stderr);
}

/// Two entries that put one project into one environment.
#[test]
fn two_entries_of_one_environment() {
    let a = wheel("a", "1.0");
    let text = super::pylock(&[("a", "1.0", &[&a])]);
    let layers = |entry: &str| {
        let entry = format!("python = {{ lock = \"pylock.toml\", {entry} }}\n");
        spec(&format!("lock = \"pylock.toml\", {SAID}")) + "[[layer]]\nname = \"more\"\n" + &entry
    };
    let project = project(&layers("venv = \"/opt/v\""), &[a]).file("pylock.toml", text);
    fails(
        project.dmoci(&["check"]),
        2,
        &[
            "E-PYTHON-CONFLICT",
            "are both the project a",
            "dmoci.toml:6",
            "a-1.0-py3-none-any.whl is installed here",
            "\n9 | ",
        ],
    );
    project.write("dmoci.toml", layers(&SAID.replace("3.12.4", "3.12.5")));
    fails(
        project.dmoci(&["check"]),
        2,
        &["E-PYTHON-INTERPRETER", "dmoci.toml:6", "the earlier entry", "\n9 | "],
    );
}

/// What a lock file does not say is no other error in `check` than in `build`.
#[test]
fn lock_files_that_say_little() {
    let a = wheel("a", "1.0").metadata("Requires-Python: >=3.13");
    let text = super::pylock(&[("a", "1.0", &[&a])]);
    let project = project(&entry("pylock.toml"), std::slice::from_ref(&a)).file("pylock.toml", &text);
    for command in ["check", "build", "lock"] {
        fails(
            project.dmoci(&[command]),
            2,
            &["E-PYTHON-TARGET", "a-1.0-py3-none-any.whl asks for Python >=3.13"],
        );
    }
    let hashes = format!("hashes = {{ sha256 = \"{}\" }}\n", hash(&a));
    for none in ["", "hashes = {}\n", "hashes = { md5 = \"0\" }\n"] {
        project.write("pylock.toml", text.replace(&hashes, none));
        for command in ["check", "build", "lock"] {
            fails(
                project.dmoci(&[command]),
                2,
                &["E-PYTHON-HASH", "a-1.0-py3-none-any.whl has ", "pylock.toml:"],
            );
        }
    }
}

#[test]
fn nothing_to_lock() {
    let project = Project::with_spec(&image_spec(""));
    let run = project.dmoci(&["lock"]).ok();
    assert!(
        run.stderr.ends_with("    Unneeded dmoci.lock: nothing comes from elsewhere that it would pin\n"),
        "{}",
        run.stderr
    );
    assert!(!project.path("dmoci.lock").exists());
}
