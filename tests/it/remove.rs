//! `remove` of a layer: whiteouts of what is below.

use std::fs;

use crate::support::layers::{image_spec, listing};
use crate::support::{Project, Run};

const BELOW: &str = r#"[[layer]]
name = "below"
directory = [{ path = "/var/cache/apt", mode = "0711", owner = "1:2" }, { path = "/empty" }, { path = "/opt/app", mode = "0700" }]
file = [
    { path = "/var/cache/apt/list", content = "" },
    { path = "/var/cache/one", content = "" },
    { path = "/var/cache/.hidden", content = "" },
    { path = "/etc/motd", content = "hello" },
    { path = "/etc/passwd", content = "root:x:0:0::/root:/bin/sh\n" },
    { path = "/opt/app/old", content = "" },
    { path = "/opt/app/kept/inside", content = "old" },
    { path = "/opt/app/kept/gone", content = "" },
    { path = "/opt/app/both", content = "old" },
    { path = "/opt/app/was-directory/x", content = "" },
    { path = "/opt/app/was-file", content = "" },
    { path = "/usr/lib/x", content = "" },
]
symlink = [{ path = "/lib", target = "usr/lib" }]
"#;

fn spec(remove: &str, rest: &str) -> String {
    image_spec(&format!("{BELOW}[[layer]]\nname = \"above\"\nremove = {remove}\n{rest}\n"))
}

#[track_caller]
fn lists(project: &Project, expected: &str) -> String {
    project.dmoci(&["check"]).ok();
    project.dmoci(&["build"]).ok();
    assert_eq!(listing(&project.path("dist"), "above"), expected);
    let run = project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    assert!(!run.stdout.contains("WHITEOUT"), "{}", run.stdout);
    project.dmoci(&["inspect", "--files", "dist/image"]).ok().stdout
}

#[track_caller]
fn refused(project: &Project, words: &[&str]) -> Run {
    let run = project.dmoci(&["check"]).exits(2);
    assert_eq!(project.dmoci(&["build"]).exits(2).stderr, run.stderr);
    for word in ["error[E-REMOVE]", "help: "].iter().chain(words) {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    run
}

#[test]
fn paths_and_patterns() {
    let project = Project::with_spec(&spec(r#"["/var/cache/**", "/etc/motd", "/empty/"]"#, ""));
    let files = lists(
        &project,
        "\
- 0000 0:0 .wh.empty
d 0755 0:0 etc/
- 0000 0:0 etc/.wh.motd
d 0755 0:0 var/
d 0755 0:0 var/cache/
- 0000 0:0 var/cache/.wh..hidden
- 0000 0:0 var/cache/.wh.apt
- 0000 0:0 var/cache/.wh.one",
    );
    for gone in ["/empty", "motd", "apt", "/var/cache/one"] {
        assert!(!files.contains(gone), "{gone}\n{files}");
    }
    assert!(files.contains("/var/cache") && files.contains("/etc/passwd"), "{files}");
    // A directory is one whiteout, whatever else names what is in it.
    project.write("dmoci.toml", spec(r#"["/var/cache/apt/*", "/var", "/var/cache", "/va[r]/**"]"#, ""));
    lists(&project, "- 0000 0:0 .wh.var");
    project.write("dmoci.toml", spec(r#"["/opt/app/{old,both}", "/**/passwd"]"#, ""));
    lists(
        &project,
        "\
d 0755 0:0 etc/
- 0000 0:0 etc/.wh.passwd
d 0755 0:0 opt/
d 0700 0:0 opt/app/
- 0000 0:0 opt/app/.wh.both
- 0000 0:0 opt/app/.wh.old",
    );
}

#[test]
fn what_the_layer_gives_anew() {
    let project = Project::with_spec(&spec(
        r#"["/opt/app"]"#,
        "copy = [{ from = \"app\", to = \"/opt/app\" }]\n\
         directory = [{ path = \"/opt/app/was-file\" }]\nfile = [{ path = \"/opt/app/was-directory\", content = \"\" }]",
    ))
    .file("app/both", "new")
    .file("app/kept/inside", "new");
    // What is given needs no whiteout; the metadata of what was removed does not come back.
    let files = lists(
        &project,
        "\
d 0755 0:0 opt/
d 0755 0:0 opt/app/
- 0000 0:0 opt/app/.wh.old
- 0644 0:0 opt/app/both new
d 0755 0:0 opt/app/kept/
- 0000 0:0 opt/app/kept/.wh.gone
- 0644 0:0 opt/app/kept/inside new
- 0644 0:0 opt/app/was-directory
d 0755 0:0 opt/app/was-file/",
    );
    assert!(!files.contains("/opt/app/old") && !files.contains("was-directory/x"), "{files}");
}

#[test]
fn a_file_in_the_place_of_all_around_it() {
    let project = Project::with_spec(&spec(
        r#"["/opt/app/old", "/var/cache/one"]"#,
        "file = [{ path = \"/opt\", content = \"\", replace = true }]",
    ));
    lists(&project, "- 0644 0:0 opt\nd 0755 0:0 var/\nd 0755 0:0 var/cache/\n- 0000 0:0 var/cache/.wh.one");
}

#[test]
fn a_link_is_removed_not_followed() {
    let project = Project::with_spec(&spec(r#"["/lib"]"#, "file = [{ path = \"/lib/y\", content = \"\" }]"));
    let files = lists(&project, "d 0755 0:0 lib/\n- 0644 0:0 lib/y");
    assert!(files.contains("/usr/lib/x") && files.contains("/lib/y"), "{files}");
    project.write("dmoci.toml", spec(r#"["/lib/x"]"#, ""));
    refused(&project, &["/lib is a symbolic link, which is not followed; what lies behind it is /usr/lib/x"]);
}

#[test]
fn layers_above_see_it() {
    let top = "[[layer]]\nname = \"top\"\nfile = [{ path = \"/opt/app/new\", content = \"\" }]\n";
    let project =
        Project::with_spec(&spec(r#"["/opt/app", "/etc/passwd", "/lib"]"#, top)).file("base/.keep", "");
    lists(
        &project,
        "- 0000 0:0 .wh.lib\nd 0755 0:0 etc/\n- 0000 0:0 etc/.wh.passwd\nd 0755 0:0 opt/\n- 0000 0:0 opt/.wh.app",
    );
    assert_eq!(
        listing(&project.path("dist"), "top"),
        "d 0755 0:0 opt/\nd 0755 0:0 opt/app/\n- 0644 0:0 opt/app/new"
    );
    // So do images that stand on it.
    fs::rename(project.path("dist/image"), project.path("base/image")).unwrap();
    let above = |layer: &str| {
        image_spec(&format!(
            "base = \"oci:base/image\"\nusers = [{{ name = \"km\", uid = 10 }}]\n[[layer]]\nname = \"above\"\n{layer}\n"
        ))
    };
    project.write("dmoci.toml", above("remove = [\"/opt/app/new\", \"/usr\"]"));
    lists(&project, "- 0000 0:0 .wh.usr\nd 0755 0:0 opt/\nd 0755 0:0 opt/app/\n- 0000 0:0 opt/app/.wh.new");
    assert!(!listing(&project.path("dist"), "users").contains("root:"));
    project.write("dmoci.toml", above("remove = [\"/opt/app/old\"]"));
    refused(&project, &["\"/opt/app/old\" matches nothing below the layer \"above\""]);
}

#[test]
fn nothing_to_remove() {
    let project = Project::with_spec(&spec(r#"["/etc/motd", "/etc/mtod"]"#, ""));
    refused(&project, &["dmoci.toml:24:24", "\"/etc/mtod\"", "did you mean `/etc/motd`?"]);
    for (pattern, word) in [
        ("/ect/*.conf", "did you mean `/etc`?"),
        ("/etc/*.conf", "`dmoci inspect --files`"),
        ("/etc/motd/", "`dmoci inspect --files`"),
        ("/lib/", "which is not followed; what lies behind it is /usr/lib"),
    ] {
        project.write("dmoci.toml", spec(&format!("[{pattern:?}]"), ""));
        refused(&project, &[word]);
    }
    // What the layer itself gives is not below it.
    project.write("dmoci.toml", spec(r#"["/own"]"#, "file = [{ path = \"/own\", content = \"\" }]"));
    refused(&project, &["\"/own\""]);
}

#[test]
fn all_that_matches_nothing() {
    let project = Project::with_spec(&spec(
        r#"[
    "/etc/modt",
    "/etc/motd",
    "/nothing/**",
    "/lib/x",
    "/opt/app/odl",
]"#,
        "",
    ));
    let run = refused(
        &project,
        &[
            "4 elements of `remove` match nothing below the layer \"above\"",
            "\"/etc/modt\" matches nothing",
            "\"/nothing/**\" matches nothing",
            "\"/lib/x\" matches nothing",
            "\"/opt/app/odl\" matches nothing",
            "did you mean `/etc/motd`?",
            "/lib is a symbolic link",
        ],
    );
    assert!(!run.stderr.contains("\"/etc/motd\" matches nothing"), "{}", run.stderr);
}

/// What one platform has and another has not.
#[test]
fn the_platform_that_lacks_it_is_named() {
    let below = "[[layer]]\nname = \"below\"\n\
        file = [{ path = \"/a\", content = \"\" }, { path = \"/b\", content = \"\", platforms = [\"linux/arm64\"] }]\n";
    let spec = |entry: &str| {
        format!(
            "schema = 1\n[image]\nplatforms = [\"linux/arm64\", \"linux/amd64\"]\n{below}[[layer]]\nname = \"above\"\n{entry}\n"
        )
    };
    let project = Project::with_spec(&spec("remove = [\"/b\"]"));
    refused(&project, &["\"/b\" matches nothing below the layer \"above\", for linux/amd64\n"]);
    project.write("dmoci.toml", spec("adjust = [{ path = \"/b\", mode = \"0600\" }]"));
    let run = project.dmoci(&["check"]).exits(2);
    assert!(
        run.stderr.contains("error[E-ADJUST]") && run.stderr.contains(", for linux/amd64\n"),
        "{}",
        run.stderr
    );
    // A variant is named too.
    project.write(
        "dmoci.toml",
        spec("file = [{ path = \"/c\", content = \"\" }]")
            .replace("\"linux/arm64\", \"linux/amd64\"", "\"linux/arm64\"")
            + "[variant.test]\ntags = [\"t\"]\n[[variant.test.layer]]\nname = \"top\"\nremove = [\"/d\"]\n",
    );
    let run = project.dmoci(&["check"]).exits(2);
    assert!(run.stderr.contains(", for linux/arm64 (variant test)\n"), "{}", run.stderr);
}
