//! `adjust` of a layer: another mode or owner of what is below.

mod corners;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::layers::{digests, image_spec, listing};
use crate::support::{Project, Run};

const BELOW: &str = r#"[[layer]]
name = "below"
copy = [{ from = "app", to = "/opt/app", substitute = { "@" = "amd64" } }]
archive = [{ path = "a.tar", to = "/srv" }]
directory = [{ path = "/opt/app/var", mode = "0700" }]
"#;

fn above(adjust: &str) -> String {
    format!("[[layer]]\nname = \"above\"\n{adjust}\n")
}

fn spec(adjust: &str) -> String {
    image_spec(&format!("{BELOW}{}", above(adjust)))
}

/// A project with copied files, and an archive in which a file has several names.
fn project(adjust: &str) -> Project {
    let project = Project::with_spec(&spec(adjust));
    for (path, content) in [("app/run.sh", "run"), ("app/conf", "for @"), ("app/sub/deep", "deep")] {
        project.write(path, content);
    }
    symlink("run.sh", project.path("app/link")).unwrap();
    project.write("t/one", "linked");
    fs::hard_link(project.path("t/one"), project.path("t/two")).unwrap();
    fs::hard_link(project.path("t/one"), project.path("t/zwei")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--mode=0640", "-cf", "a.tar", "-C", "t", "one", "two", "zwei"]);
    Run::of(tar.current_dir(project.root())).ok();
    project.settle();
    project
}

#[track_caller]
fn lists(project: &Project, expected: &str) {
    project.dmoci(&["check"]).ok();
    project.dmoci(&["build"]).ok();
    assert_eq!(listing(&project.path("dist"), "above"), expected);
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
}

#[track_caller]
fn refused(project: &Project, code: &str, words: &[&str]) {
    let run = project.dmoci(&["check"]).exits(2);
    assert_eq!(project.dmoci(&["build"]).exits(2).stderr, run.stderr);
    for word in [&*format!("error[{code}]"), "help: "].iter().chain(words) {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
}

#[test]
fn mode_and_owner_of_files_and_directories() {
    let project = project(
        r#"adjust = [{ path = "/opt/app/run.sh", mode = "0755" }, { path = "/opt/app/var", owner = "5:6" }]"#,
    );
    lists(
        &project,
        "d 0755 0:0 opt/\nd 0755 0:0 opt/app/\n- 0755 0:0 opt/app/run.sh run\nd 0700 5:6 opt/app/var/",
    );
    // One after the other; what is not said stays, and what is so already is not given again.
    project.write(
        "dmoci.toml",
        spec(
            r#"adjust = [
    { path = "/opt/app", recursive = true, owner = "7", file-mode = "0600", dir-mode = "0711" },
    { path = ["/opt/app/sub/**", "/opt/app/conf"], mode = "0644" },
    { path = "/opt/app/sub", dir-mode = "0755", owner = "0" },
]"#,
        ),
    );
    lists(
        &project,
        "\
d 0755 0:0 opt/
d 0711 7:7 opt/app/
- 0644 7:7 opt/app/conf for amd64
l 0777 7:7 opt/app/link run.sh
- 0600 7:7 opt/app/run.sh run
d 0755 0:0 opt/app/sub/
- 0644 7:7 opt/app/sub/deep deep
d 0711 7:7 opt/app/var/",
    );
}

#[test]
fn names_of_one_file() {
    let project = project(r#"adjust = [{ path = "/srv/*", owner = "9" }]"#);
    lists(
        &project,
        "d 0755 0:0 srv/\n- 0640 9:9 srv/one linked\nh 0640 9:9 srv/two srv/one\nh 0640 9:9 srv/zwei srv/one",
    );
    // A name alone becomes a file of its own; the others keep what they are.
    project.write("dmoci.toml", spec(r#"adjust = [{ path = ["/srv/two", "/srv/zwei"], mode = "0600" }]"#));
    lists(&project, "d 0755 0:0 srv/\n- 0600 0:0 srv/two linked\nh 0600 0:0 srv/zwei srv/two");
    project.write(
        "dmoci.toml",
        spec(r#"adjust = [{ path = "/srv/two", mode = "0600" }, { path = "/srv/zwei", mode = "0644" }]"#),
    );
    lists(&project, "d 0755 0:0 srv/\n- 0600 0:0 srv/two linked\n- 0644 0:0 srv/zwei linked");
}

#[test]
fn of_the_topmost_layer_that_has_it() {
    let project = project("");
    project.write(
        "dmoci.toml",
        image_spec(&format!(
            "{BELOW}[[layer]]\nname = \"between\"\nfile = [{{ path = \"/opt/app/conf\", content = \"newer\" }}]\n\
             adjust = [{{ path = \"/opt/app/run.sh\", mode = \"0700\" }}]\n{}",
            above(r#"adjust = [{ path = ["/opt/app/conf", "/opt/app/run.sh"], owner = "3" }]"#)
        )),
    );
    lists(
        &project,
        "d 0755 0:0 opt/\nd 0755 0:0 opt/app/\n- 0644 3:3 opt/app/conf newer\n- 0700 3:3 opt/app/run.sh run",
    );
}

/// The image of `project` moved to where it is a base.
fn based(project: &Project, adjust: &str) {
    fs::create_dir_all(project.path("base")).unwrap();
    fs::rename(project.path("dist/image"), project.path("base/image")).unwrap();
    project.write("dmoci.toml", image_spec(&format!("base = \"oci:base/image\"\n{}", above(adjust))));
    project.settle();
}

#[test]
fn files_of_the_base() {
    let project = project(r#"adjust = [{ path = "/opt/app/run.sh", mode = "0755" }]"#);
    project.dmoci(&["build"]).ok();
    based(
        &project,
        r#"adjust = [{ path = ["/opt/app/{conf,run.sh,link}", "/srv/{two,zwei}", "/opt/app/var"], owner = "4" }]"#,
    );
    let expected = "\
d 0755 0:0 opt/
d 0755 0:0 opt/app/
- 0644 4:4 opt/app/conf for amd64
l 0777 4:4 opt/app/link run.sh
- 0755 4:4 opt/app/run.sh run
d 0700 4:4 opt/app/var/
d 0755 0:0 srv/
- 0640 4:4 srv/two linked
h 0640 4:4 srv/zwei srv/two";
    lists(&project, expected);
    // From the cache and without it, the same.
    let first = digests(&project.path("dist"));
    for arguments in [&["build"][..], &["build", "--no-cache"]] {
        project.dmoci(arguments).ok();
        assert_eq!(digests(&project.path("dist")), first, "{arguments:?}");
    }
    // Another adjustment of the same files is another layer.
    let text = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    project.write("dmoci.toml", text.replace("owner = \"4\"", "owner = \"8\""));
    lists(&project, &expected.replace("4:4", "8:8"));
}

#[test]
fn the_layers_own_entries_come_after() {
    let with = |rest: &str| {
        spec(&format!(
            "file = [{{ path = \"/opt/app/conf\", content = \"own\"{rest} }}]\nadjust = [{{ path = \"/opt/app/*\", owner = \"5\" }}]"
        ))
    };
    let project = project("");
    project.write("dmoci.toml", with(""));
    refused(&project, "E-PATH-CONFLICT", &["/opt/app/conf"]);
    project.write("dmoci.toml", with(", replace = true"));
    project.dmoci(&["build"]).ok();
    let listed = listing(&project.path("dist"), "above");
    assert!(
        listed.contains("- 0644 0:0 opt/app/conf own") && listed.contains("5:5 opt/app/run.sh"),
        "{listed}"
    );
    // What is removed is not there to be adjusted.
    project.write(
        "dmoci.toml",
        spec("remove = [\"/opt/app/conf\"]\nadjust = [{ path = \"/opt/app/conf\", owner = \"5\" }]"),
    );
    refused(&project, "E-ADJUST", &["\"/opt/app/conf\" matches nothing"]);
}

#[test]
fn nothing_to_adjust() {
    let project = project(r#"adjust = [{ path = "/opt/app/rnu.sh", mode = "0755" }]"#);
    refused(&project, "E-ADJUST", &["did you mean `/opt/app/run.sh`?", "dmoci.toml:11:"]);
    project.write("dmoci.toml", spec(r#"adjust = [{ path = "/opt/app/link", mode = "0755" }]"#));
    refused(
        &project,
        "E-ADJUST",
        &[
            "/opt/app/link is a symbolic link, which has no mode of its own",
            "help: say `owner`, or name what",
        ],
    );
    // All at once.
    project.write(
        "dmoci.toml",
        spec(r#"adjust = [{ path = ["/opt/app/rnu.sh", "/nothing"], mode = "0755" }, { path = "/opt/app/link", mode = "0755" }]"#),
    );
    refused(
        &project,
        "E-ADJUST",
        &[
            "3 paths of `adjust` in the layer \"above\" cannot be adjusted",
            "\"/opt/app/rnu.sh\" matches nothing",
            "\"/nothing\" matches nothing",
            "/opt/app/link is a symbolic link",
            "did you mean `/opt/app/run.sh`?",
            "help: ",
        ],
    );
    project.write("dmoci.toml", spec(r#"adjust = [{ path = "/opt/app/run.sh", dir-mode = "0755" }]"#));
    refused(&project, "E-ADJUST", &["/opt/app/run.sh is a file, of which this says no mode"]);
    project
        .write("dmoci.toml", spec(r#"adjust = [{ path = "/opt/app/run.sh", mode = "0644", owner = "0" }]"#));
    for command in ["check", "build"] {
        let run = project.dmoci(&[command]).ok();
        assert_eq!(run.stderr.matches("warning: ").count(), 1, "{}", run.stderr);
        assert!(
            run.stderr.contains("dmoci.toml:11: all that `adjust` of the layer \"above\" names"),
            "{}",
            run.stderr
        );
    }
}
