//! `substitute` of a copy: strings in text files.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::Project;
use crate::support::layers::{digests, image_spec, layer, listing};

fn copy(entry: &str) -> String {
    image_spec(&format!("[[layer]]\nname = \"a\"\ncopy = [{{ {entry} }}]\n"))
}

#[test]
fn every_text_of_the_copy_and_nothing_else() {
    let project = Project::with_spec(&copy(
        r#"from = ["src", "one.txt"], to = "/x/", exclude = ["*.md"],
        substitute = { "@ARCH@" = "${platform.debian}", "@A" = "short", "${HOME}" = "/root", "gone " = "" }"#,
    ));
    project.write("src/conf", "arch=@ARCH@ @A@ARCH@ home=${HOME} gone gone\n");
    project.write("src/binary", b"@ARCH@\0@ARCH@");
    project.write("src/latin", b"\xff@ARCH@");
    project.write("src/@ARCH@", "");
    project.write("src/notes.md", "@ARCH@");
    project.write("one.txt", "@ARCH@");
    symlink("@ARCH@", project.path("src/link")).unwrap();
    let run = project.dmoci(&["build"]).ok();
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    let dist = project.path("dist");
    let blob = |path: &str| {
        let mut tar = crate::support::layers::tar_of(&dist, "a");
        let mut entries = tar.entries().unwrap().map(|entry| entry.unwrap());
        let mut entry = entries.find(|entry| entry.path_bytes() == path.as_bytes()).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        content
    };
    assert_eq!(blob("x/conf"), b"arch=amd64 shortamd64 home=/root gone\n");
    assert_eq!(blob("x/binary"), b"@ARCH@\0@ARCH@");
    assert_eq!(blob("x/latin"), b"\xffamd64");
    assert_eq!(blob("x/one.txt"), b"amd64");
    assert_eq!(blob("x/@ARCH@"), b"");
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
}

#[test]
fn large_texts_and_sizes() {
    let project = Project::with_spec(&copy(r#"from = "src", to = "/", substitute = { "x" = "yy" }"#));
    // Across every border of a reader, with strings at the very end, and nothing left of a string before NUL at the end.
    for (name, size) in [("a", 65_535), ("b", 65_536), ("c", 65_537), ("d", 1_000_001)] {
        project.write(&format!("src/{name}"), "x".repeat(size));
        project.write(&format!("src/{name}-binary"), "x".repeat(size) + "\0");
    }
    project.dmoci(&["build"]).ok();
    for entry in layer(&project.path("dist"), "a") {
        let source = fs::read_to_string(project.path("src").join(&entry.path)).unwrap();
        let expected = if entry.path.ends_with("-binary") { source } else { source.replace('x', "yy") };
        assert!(entry.content == expected, "{}: {}", entry.path, entry.content.len());
    }
}

#[test]
fn what_replaces_nothing_is_said_every_time() {
    let project = Project::with_spec(&copy(
        "from = [\"src\", \"more\"], to = \"/x/\", substitute = {\n  \"used\" = \"1\",\n  \"never\" = \"2\",\n  \"binary\" = \"3\"\n}",
    ))
    .file("src/f", "nothing here")
    .file("more/f2", "used")
    .file("more/bin", b"binary\0");
    project.settle();
    let warnings = |arguments: &[&str]| {
        let run = project.dmoci(arguments).ok();
        let warnings = run.stderr.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned);
        warnings.collect::<Vec<String>>()
    };
    let expected = [
        "warning: dmoci.toml:9: no text that this `copy` of the layer \"a\" takes holds \"binary\"",
        "warning: dmoci.toml:8: no text that this `copy` of the layer \"a\" takes holds \"never\"",
    ];
    // The second build makes nothing anew.
    for arguments in [&["build"][..], &["build"], &["check"], &["build", "--no-cache"]] {
        assert_eq!(warnings(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn the_table_decides_the_layer() {
    let spec = |value: &str| {
        copy(&format!("from = \"src\", to = \"/x\", substitute = {{ \"@\" = \"{value}\" }}"))
            .replace("[\"linux/amd64\"]", "[\"linux/amd64\", \"linux/arm64\"]")
    };
    let project = Project::with_spec(&spec("${platform.debian}")).file("src/f", "@");
    project.settle();
    let build = || {
        project.dmoci(&["build"]).ok();
        let digests = digests(&project.path("dist"));
        (0..2).map(|i| digests["platforms"][i]["layers"][0]["digest"].clone()).collect::<Vec<_>>()
    };
    let first = build();
    assert_ne!(first[0], first[1]);
    assert_eq!(build(), first);
    project.write("dmoci.toml", spec("other"));
    let other = build();
    assert!(other[0] == other[1] && other[0] != first[0]);
    project.write("dmoci.toml", spec("${platform.debian}"));
    assert_eq!(build(), first);
}

#[test]
fn held_against_others_as_it_becomes() {
    let both = |content: &str| {
        image_spec(&format!(
            "[[layer]]\nname = \"a\"\ncopy = [{{ from = \"src\", to = \"/x\", substitute = {{ \"@ARCH@\" = \"amd64\" }} }}]\n\
             file = [{{ path = \"/x/f\", content = \"{content}\" }}]\n"
        ))
    };
    let project = Project::with_spec(&both("is amd64")).file("src/f", "is @ARCH@");
    project.dmoci(&["build"]).ok();
    assert_eq!(listing(&project.path("dist"), "a"), "d 0755 0:0 x/\n- 0644 0:0 x/f is amd64");
    for other in ["is @ARCH@", "is arm64", "is amd64 "] {
        project.write("dmoci.toml", both(other));
        let run = project.dmoci(&["build"]).exits(2);
        assert!(run.stderr.contains("error[E-PATH-CONFLICT]"), "{}", run.stderr);
    }
}

#[test]
fn users_are_added_to_a_file_that_strings_were_substituted_in() {
    let project = Project::with_spec(&image_spec(
        "users = [{ name = \"km\", uid = 10 }]\n[[layer]]\nname = \"a\"\n\
         copy = [{ from = \"etc\", to = \"/etc\", substitute = { \"@SHELL@\" = \"/bin/sh\" } }]\n",
    ))
    .file("etc/passwd", "root:x:0:0::/root:@SHELL@\n");
    project.dmoci(&["build"]).ok();
    let users = listing(&project.path("dist"), "users");
    assert!(users.contains("root:x:0:0::/root:/bin/sh\\nkm:x:10:"), "{users}");
}
