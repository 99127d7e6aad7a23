//! `tracked = true`: only what git tracks is copied.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::layers::{image_spec, listing};
use crate::support::{Project, Run, dmoci};

fn copy(entry: &str) -> String {
    image_spec(&format!("[[layer]]\nname = \"a\"\ncopy = [{{ {entry}, tracked = true }}]\n"))
}

/// A repository with files that are tracked, and others that are not.
fn project(entry: &str) -> Project {
    let project = Project::with_spec(&copy(entry));
    for path in ["src/a.py", "src/b-c", "src/b/deep/x", "src/b.c", "src/notes.md", ".hidden"] {
        project.write(path, path);
    }
    symlink("a.py", project.path("src/link")).unwrap();
    project.git(&["init", "-q"]);
    project.git(&["add", "."]);
    project.git(&["commit", "-qm", "first"]);
    for path in ["src/new", "src/b/new", "src/empty/.keep", "src/b/deep/__pycache__/x.pyc"] {
        project.write(path, "not tracked");
    }
    project
}

#[track_caller]
fn lists(project: &Project, expected: &str) {
    project.dmoci(&["check"]).ok();
    project.dmoci(&["build"]).ok();
    assert_eq!(listing(&project.path("dist"), "a"), expected);
}

#[track_caller]
fn refused(project: &Project, words: &[&str]) {
    for command in ["check", "build"] {
        let run = project.dmoci(&[command]).exits(2);
        for word in ["error[E-SOURCE-TRACKED]", "dmoci.toml:6:", "help:"].iter().chain(words) {
            assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
        }
    }
}

#[test]
fn only_what_git_tracks() {
    let project = project("from = \"src\", to = \"/x\", exclude = [\"*.md\"]");
    // Its content and mode are those of the work tree; what is only in the index is tracked.
    project.write("src/a.py", "changed");
    project.write("src/staged", "");
    project.git(&["add", "src/staged"]);
    lists(
        &project,
        "\
d 0755 0:0 x/
- 0644 0:0 x/a.py changed
d 0755 0:0 x/b/
d 0755 0:0 x/b/deep/
- 0644 0:0 x/b/deep/x src/b/deep/x
- 0644 0:0 x/b-c src/b-c
- 0644 0:0 x/b.c src/b.c
l 0777 0:0 x/link a.py
- 0644 0:0 x/staged",
    );
}

#[test]
fn the_whole_work_tree_and_parts_of_it() {
    let whole = project("from = \".\", to = \"/x\", include = [\"x\", \".hidden\"]");
    lists(
        &whole,
        "\
d 0755 0:0 x/
- 0644 0:0 x/.hidden .hidden
d 0755 0:0 x/src/
d 0755 0:0 x/src/b/
d 0755 0:0 x/src/b/deep/
- 0644 0:0 x/src/b/deep/x src/b/deep/x",
    );
    // The project may be a folder of the repository, and `from` a link to one.
    whole.write("src/dmoci.toml", copy("from = [\"to-b\", \"a.py\"], to = \"/x/\""));
    symlink("b", whole.path("src/to-b")).unwrap();
    whole.dmoci(&["build", "-C", "src"]).ok();
    let found = listing(&whole.path("src/dist"), "a");
    assert_eq!(
        found,
        "d 0755 0:0 x/\n- 0644 0:0 x/a.py src/a.py\nd 0755 0:0 x/deep/\n- 0644 0:0 x/deep/x src/b/deep/x"
    );
    // The caller's variables point git nowhere else.
    let mut build = dmoci();
    build.args(["build", "-C", "src"]).current_dir(whole.root()).env("GIT_DIR", "/nowhere");
    Run::of(build.env("GIT_INDEX_FILE", "/nowhere/index")).ok();
    assert_eq!(listing(&whole.path("src/dist"), "a"), found);
}

#[test]
fn what_is_not_tracked_at_all() {
    let project = project("from = \"src/new\", to = \"/x\"");
    refused(&project, &["src/new: git tracks nothing of it", "`git add`"]);
    project.write("dmoci.toml", copy("from = \"src/empty\", to = \"/x\""));
    refused(&project, &["src/empty: git tracks nothing of it"]);
    // A name is a name, even when it looks like a pattern.
    project.write("src/[ab].py", "");
    project.write("dmoci.toml", copy("from = \"src/[ab].py\", to = \"/x\""));
    refused(&project, &["src/[ab].py: git tracks nothing of it"]);
}

#[test]
fn outside_of_a_work_tree() {
    let project = Project::with_spec(&copy("from = \"src\", to = \"/x\"")).file("src/f", "");
    let outside = |arguments: &[&str]| {
        Run::of(dmoci().args(arguments).current_dir(project.root()).env("GIT_CEILING_DIRECTORIES", "/"))
    };
    let run = outside(&["build"]).exits(2);
    for word in ["E-SOURCE-TRACKED", "src: `tracked` asks git, but this is no work tree", "build in a clone"]
    {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    let mut without = dmoci();
    without.args(["build", "--epoch", "0", "--revision", "none"]).current_dir(project.root());
    let run = Run::of(without.env("PATH", "/nowhere")).exits(2);
    assert!(run.stderr.contains("asks git, which is not there to be run"), "{}", run.stderr);
}

#[test]
fn tracked_and_not_there() {
    let project = project("from = \"src\", to = \"/x\"");
    fs::remove_file(project.path("src/b/deep/x")).unwrap();
    refused(&project, &["src/b/deep/x: git tracks it, but it does not exist", "git restore"]);
    project.write("src/b/deep/X", "");
    refused(&project, &["src/b/deep/x: git tracks it, but here its name is \"X\""]);
    fs::remove_dir_all(project.path("src/b")).unwrap();
    refused(&project, &["src/b: git tracks it, but it does not exist"]);
    // What is left out need not be there.
    for rest in ["exclude = [\"b/\"]", "exclude = [\"/b\"]"] {
        project.write("dmoci.toml", copy(&format!("from = \"src\", to = \"/x\", {rest}")));
        project.dmoci(&["build"]).ok();
    }
    project.write("dmoci.toml", copy("from = \"src\", to = \"/x\""));
    project.write("src/b", "a file now");
    refused(&project, &["src/b: git tracks it as a directory, which it is not"]);
    fs::remove_file(project.path("src/a.py")).unwrap();
    fs::create_dir(project.path("src/a.py")).unwrap();
    refused(&project, &["src/a.py: git tracks it as a file, which it is not"]);
}

#[test]
fn a_conflict_lists_a_file_once() {
    let project = project("from = \"src/a.py\", to = \"/x\"");
    for (branch, content) in [("one", "1"), ("two", "2")] {
        project.git(&["checkout", "-q", "-b", branch, "HEAD"]);
        project.write("src/a.py", content);
        project.git(&["commit", "-qam", branch]);
        if branch == "one" {
            project.git(&["checkout", "-q", "HEAD~"]);
        }
    }
    let mut merge = std::process::Command::new("git");
    merge.args(["-c", "user.name=n", "-c", "user.email=e@registry.example", "merge", "-q", "one"]);
    assert_eq!(Run::of(merge.current_dir(project.root())).exit, 1);
    project.dmoci(&["build"]).ok();
    assert!(listing(&project.path("dist"), "a").contains("<<<<<<<"));
}

#[test]
fn submodules() {
    let inner = project("from = \".\", to = \"/x\"");
    let project = project("from = \"src\", to = \"/x\"");
    let url = inner.root().to_str().unwrap();
    project.git(&["submodule", "add", "-q", url, "src/sub"]);
    refused(&project, &["src/sub: it is a submodule", "exclude"]);
    project.write("dmoci.toml", copy("from = \"src\", to = \"/x\", exclude = [\"sub/\"]"));
    project.dmoci(&["build"]).ok();
    project.write("dmoci.toml", copy("from = \"src/sub\", to = \"/x\", include = [\"a.py\"]"));
    lists(&project, "d 0755 0:0 x/\nd 0755 0:0 x/src/\n- 0644 0:0 x/src/a.py src/a.py");
    project.git(&["submodule", "deinit", "-q", "-f", "src/sub"]);
    refused(&project, &["src/sub: it is a submodule that is not checked out", "git submodule update --init"]);
}
