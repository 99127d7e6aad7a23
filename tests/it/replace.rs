//! `replace = true`: what takes the place of what, within a layer and below it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::layers::{image_spec, listing};
use crate::support::{Project, Run};

fn layer(entries: &str) -> String {
    image_spec(&format!("[[layer]]\nname = \"a\"\n{entries}\n"))
}

#[track_caller]
fn lists(project: &Project, name: &str, expected: &str) {
    project.dmoci(&["check"]).ok();
    project.dmoci(&["build"]).ok();
    assert_eq!(listing(&project.path("dist"), name), expected);
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
}

#[track_caller]
fn refused(project: &Project, code: &str, words: &[&str]) {
    for command in ["check", "build"] {
        let run = project.dmoci(&[command]).exits(2);
        for word in [&*format!("error[{code}]")].iter().chain(words) {
            assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
        }
    }
}

#[test]
fn only_the_later_may_say_it() {
    let both = |first: &str, second: &str| {
        layer(&format!(
            "file = [{{ path = \"/f\", content = \"1\"{first} }}, {{ path = \"/f\", content = \"2\", mode = \"0600\"{second} }}]"
        ))
    };
    let project = Project::with_spec(&both("", ", replace = true"));
    lists(&project, "a", "- 0600 0:0 f 2");
    for wrong in [both(", replace = true", ""), both("", ", replace = false"), both("", "")] {
        project.write("dmoci.toml", wrong);
        refused(&project, "E-PATH-CONFLICT", &["/f", "say `replace = true` in the later one"]);
    }
    // Later is what stands later in the file, whatever its kind.
    project.write(
        "dmoci.toml",
        layer(
            "symlink = [{ path = \"/f\", target = \"x\" }]\nfile = [{ path = \"/f\", content = \"\", replace = true }]",
        ),
    );
    lists(&project, "a", "- 0644 0:0 f");
    project.write(
        "dmoci.toml",
        layer(
            "file = [{ path = \"/f\", content = \"\" }]\nsymlink = [{ path = \"/f\", target = \"x\", replace = true }]",
        ),
    );
    lists(&project, "a", "l 0777 0:0 f x");
}

#[test]
fn one_of_three() {
    let three = |third: &str| {
        layer(&format!(
            "file = [{{ path = \"/f\", content = \"1\" }}, {{ path = \"/f\", content = \"2\" }}, {{ path = \"/f\", {third} }}]"
        ))
    };
    // What replaces both ends their quarrel; what is like one of them does not.
    let project = Project::with_spec(&three("content = \"3\", replace = true"));
    lists(&project, "a", "- 0644 0:0 f 3");
    project.write("dmoci.toml", three("content = \"1\""));
    refused(&project, "E-PATH-CONFLICT", &["/f"]);
    // Something after what replaces is held against that.
    project.write("dmoci.toml", three("content = \"3\", replace = true }, { path = \"/f\", content = \"1\""));
    refused(&project, "E-PATH-CONFLICT", &["/f"]);
}

#[test]
fn copies_over_copies() {
    let project = Project::with_spec(&layer(
        "copy = [{ from = \"a\", to = \"/x\", dir-mode = \"0700\" }, { from = \"b\", to = \"/x\", replace = true }]",
    ));
    for (path, content) in [
        ("a/both", "a"),
        ("a/dir/only-a", "a"),
        ("a/becomes-file/deep/lost", "a"),
        ("a/becomes-file-2", "a"),
        ("a/becomes-dir", "a"),
        ("b/both", "b"),
        ("b/dir/only-b", "b"),
        ("b/becomes-file", "b"),
        ("b/becomes-dir/x", "b"),
    ] {
        project.write(path, content);
    }
    symlink("dir", project.path("b/becomes-file-2")).unwrap();
    lists(
        &project,
        "a",
        "\
d 0755 0:0 x/
d 0755 0:0 x/becomes-dir/
- 0644 0:0 x/becomes-dir/x b
- 0644 0:0 x/becomes-file b
l 0777 0:0 x/becomes-file-2 dir
- 0644 0:0 x/both b
d 0755 0:0 x/dir/
- 0644 0:0 x/dir/only-a a
- 0644 0:0 x/dir/only-b b",
    );
    // What comes after what replaces, is not replaced by it.
    project.write(
        "dmoci.toml",
        layer(
            "copy = [{ from = \"b\", to = \"/x\", replace = true }, { from = \"a\", to = \"/x\", include = [\"deep\"] }]",
        ),
    );
    refused(&project, "E-PATH-CONFLICT", &["/x/becomes-file", "as different kinds of file"]);
}

#[test]
fn several_sources_of_one_copy() {
    let project =
        Project::with_spec(&layer("copy = [{ from = [\"a\", \"b\"], to = \"/x/\", replace = true }]"))
            .file("a/f", "1")
            .file("b/f", "2");
    lists(&project, "a", "d 0755 0:0 x/\n- 0644 0:0 x/f 2");
}

#[test]
fn a_directory_keeps_its_own_description() {
    let directory = |first: &str, second: &str| {
        layer(&format!(
            "directory = [{{ path = \"/d\", mode = \"{first}\" }}, {{ path = \"/d\", mode = \"{second}\", replace = true }}]\n\
             copy = [{{ from = \"a\", to = \"/\", replace = true }}]"
        ))
    };
    let project = Project::with_spec(&directory("0700", "0711")).file("a/d/f", "");
    lists(&project, "a", "d 0711 0:0 d/\n- 0644 0:0 d/f");
}

#[test]
fn hard_links_to_what_was_replaced() {
    let project = Project::with_spec(&layer(
        "archive = [{ path = \"a.tar\", to = \"/\" }]\n\
         copy = [{ from = \"new\", to = \"/a\", replace = true }, { from = \"new\", to = \"/d\", replace = true }]",
    ))
    .file("t/a", "old")
    .file("t/d/one", "in d")
    .file("new", "new");
    fs::hard_link(project.path("t/a"), project.path("t/b")).unwrap();
    fs::hard_link(project.path("t/a"), project.path("t/c")).unwrap();
    fs::hard_link(project.path("t/d/one"), project.path("t/e")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mode=0640", "-cf", "a.tar", "-C", "t", "a", "b", "c", "d", "e"]);
    Run::of(tar.current_dir(project.root())).ok();
    lists(
        &project,
        "a",
        "\
- 0644 0:0 a new
- 0640 0:0 b old
h 0640 0:0 c b
- 0644 0:0 d new
- 0640 0:0 e in d",
    );
}

#[test]
fn another_kind_below() {
    let below = "[[layer]]\nname = \"below\"\ndirectory = [{ path = \"/d/deep\" }]\n\
                 file = [{ path = \"/d/deep/f\", content = \"\" }, { path = \"/f\", content = \"\" }, { path = \"/g\", content = \"\" }]\n\
                 symlink = [{ path = \"/l\", target = \"d\" }]\n";
    let above = |replace: &str| {
        image_spec(&format!(
            "{below}[[layer]]\nname = \"above\"\nfile = [{{ path = \"/d\", content = \"file\"{replace} }}]\n\
             directory = [{{ path = \"/f\"{replace} }}]\nsymlink = [{{ path = \"/f/x\", target = \"y\" }}]\n\
             copy = [{{ from = \"one\", to = \"/g/\"{replace} }}]\n\
             [[layer]]\nname = \"top\"\nfile = [{{ path = \"/f/z\", content = \"\" }}]\n"
        ))
    };
    let project = Project::with_spec(&above(", replace = true")).file("one", "1");
    lists(
        &project,
        "above",
        "\
- 0644 0:0 d file
d 0755 0:0 f/
l 0777 0:0 f/x y
d 0755 0:0 g/
- 0644 0:0 g/one 1",
    );
    let files = project.dmoci(&["inspect", "--files", "dist/image"]).ok().stdout;
    assert!(!files.contains("/d/deep") && files.contains("/f/z"), "{files}");
    project.write("dmoci.toml", above(""));
    for command in ["check", "build"] {
        let run = project.dmoci(&[command]).exits(2);
        assert!(run.stderr.contains("error[E-PATH-") && run.stderr.contains("`replace = true`"), "{run:?}");
    }
    // A path through a file needs the directory to be given; a link is followed, as ever.
    let through = |entry: &str| image_spec(&format!("{below}[[layer]]\nname = \"above\"\n{entry}\n"));
    project.write("dmoci.toml", through("file = [{ path = \"/f/x\", content = \"\", replace = true }]"));
    refused(&project, "E-PATH-BELOW", &["/f", "give a `directory` that says `replace = true`"]);
    project.write("dmoci.toml", through("directory = [{ path = \"/l\", mode = \"0700\", replace = true }]"));
    lists(&project, "above", "d 0700 0:0 d/");
}

#[test]
fn an_archive_over_files_below() {
    let project = Project::with_spec(&image_spec(
        "[[layer]]\nname = \"below\"\nfile = [{ path = \"/d\", content = \"\" }]\n\
         [[layer]]\nname = \"above\"\narchive = [{ path = \"a.tar\", to = \"/\", replace = true }]\n",
    ))
    .file("t/d/e/f", "1");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mode=0755", "-cf", "a.tar", "-C", "t", "d"]);
    Run::of(tar.current_dir(project.root())).ok();
    lists(&project, "above", "d 0755 0:0 d/\nd 0755 0:0 d/e/\n- 0755 0:0 d/e/f 1");
}
