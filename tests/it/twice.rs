//! `dmoci build --twice`: two builds under different circumstances, and what is said when they differ.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Project, Run, dmoci};

const SPEC: &str = r#"schema = 1
[image]
name = "registry.example/twice"
tags = ["${version}"]
platforms = ["linux/amd64", "linux/arm64"]
users = [{ name = "app", uid = 10001 }]

[vars]
on = "x"

[variant.t]
tags = ["t"]

[[layer]]
name = "first"
file = [{ path = "/etc/on", content = "${vars.on} ${platform.oci}\n" }]

[[layer]]
name = "app"
copy = [
  { from = ["src/"], to = "/opt/app", tracked = true },
  { from = ["text"], to = "/opt/text", substitute = { "@on@" = "${platform.debian}" } },
]
"#;

/// A project in a repository, with something of each kind.
fn project() -> Project {
    let project = Project::with_spec(SPEC)
        .file("pyproject.toml", "[project]\nversion = \"1.0\"\n")
        .file("src/deep/a.txt", "one\ntwo\n")
        .file("text", "on @on@\n")
        .file("src/b", "b")
        .file("src/c", "c")
        .file("src/untracked", "not in the image");
    symlink("b", project.path("src/link")).unwrap();
    project.git(&["init", "-q"]);
    project.git(&["add", "src/deep", "src/b", "src/c", "src/link", "dmoci.toml"]);
    project.git(&["commit", "-qm", "first"]);
    project
}

/// A git that tells how it is run and, once the first build is done, changes the project before it answers.
struct Meddler {
    bin: tempfile::TempDir,
}

impl Meddler {
    fn new(project: &Project, change: &str) -> Meddler {
        let bin = tempfile::tempdir().unwrap();
        let git = Run::of(Command::new("sh").args(["-c", "command -v git"])).ok().stdout;
        let script = format!(
            "#!/bin/sh\n\
             bin={bin}\n\
             real={real}\n\
             echo \"umask=$(umask) TZ=$TZ pwd=$(pwd) tmp=$TMPDIR $*\" >> $bin/log\n\
             if [ -d {project}/dist/.dmoci-tmp/preview ] && [ ! -e $bin/done ]; then\n\
             touch $bin/done\n\
             (cd {project} && {{ {change}; }}) || exit 9\n\
             fi\n\
             exec $real \"$@\"\n",
            bin = bin.path().display(),
            real = git.trim(),
            project = project.root().display(),
        );
        fs::write(bin.path().join("git"), script).unwrap();
        fs::set_permissions(bin.path().join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        Meddler { bin }
    }

    #[track_caller]
    fn build(&self, project: &Project, more: &[&str]) -> Run {
        let path = format!("{}:{}", self.bin.path().display(), std::env::var("PATH").unwrap());
        let mut command = dmoci();
        command.args(["build", "--twice", "--epoch", "1", "--revision", "r"]).args(more);
        command.current_dir(project.root()).env("XDG_CACHE_HOME", project.cache()).env("PATH", path);
        Run::of(&mut command)
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.bin.path().join("log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

/// Every file below a directory with its content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let bytes = fs::read(&path).unwrap();
                    found.insert(path, bytes);
                }
            }
        }
    }
    found
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
}

#[test]
fn the_same_twice() {
    let project = project();
    let once = project.dmoci(&["build", "-o", "once"]).ok();
    let twice = project.dmoci(&["build", "--twice"]).ok();
    assert_eq!(twice.stdout, once.stdout);
    let digest = once.stdout.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    has(&twice.stderr, &["Copying the inputs", &format!("Compared twice the same: {digest}")]);
    let relative = |name: &str| -> BTreeMap<PathBuf, Vec<u8>> {
        let root = project.path(name);
        let files = files(&root).into_iter();
        files.map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_owned(), bytes)).collect()
    };
    assert_eq!(relative("dist"), relative("once"));

    let json = project.dmoci(&["build", "--twice", "--json", "-o", "once"]).ok();
    let digests: Value =
        serde_json::from_slice(&fs::read(project.path("dist/digests.json")).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap(), digests);
    let one = project.dmoci(&["build", "--twice", "--platform", "linux/arm64", "--set", "on=here"]).ok();
    assert!(!one.stdout.contains("amd64"), "{}", one.stdout);
    let variant = project.dmoci(&["build", "--twice", "--variant", "t", "--platform", "linux/amd64"]).ok();
    has(&variant.stdout, &["registry.example/twice:t "]);
    assert_eq!(project.dmoci(&["build", "--twice", "--quiet"]).ok().stderr, "");
}

#[test]
fn the_circumstances_are_others() {
    let project = project();
    let meddler = Meddler::new(&project, "stat -c %a dist/.dmoci-tmp/twice > $bin/mode");
    meddler.build(&project, &[]).ok();
    assert_eq!(fs::read_to_string(meddler.bin.path().join("mode")).unwrap(), "700\n");
    let log = meddler.log();
    let field = |line: &str, name: &str| -> String {
        let word = line.split(' ').find(|word| word.starts_with(name)).unwrap();
        word[name.len()..].to_owned()
    };
    let (first, last) = (log.first().unwrap(), log.last().unwrap());
    for name in ["umask=", "TZ=", "pwd=", "tmp="] {
        assert_ne!(field(first, name), field(last, name), "{name}\n{}", log.join("\n"));
    }
    assert!(last.contains("dist/.dmoci-tmp/twice/tree/project/src"), "{last}");
    // Both asked what is tracked, of different directories.
    assert_ne!(field(first, "pwd="), field(last, "pwd="));
}

#[test]
fn neither_build_has_anything_to_do_with_the_cache() {
    let project = project();
    project.dmoci(&["build", "--twice"]).ok();
    assert_eq!(files(project.cache()), BTreeMap::new());
    project.dmoci(&["build"]).ok();
    let kept = files(project.cache());
    assert!(!kept.is_empty());
    project.dmoci(&["build", "--twice"]).ok();
    assert_eq!(files(project.cache()), kept);
}

#[test]
fn a_source_that_changes_between_the_builds() {
    let project = project();
    let add = "printf new > src/new && $real add src/new";
    let cases: [(&str, &[&str]); 7] = [
        (
            "printf 'one\\ntwO\\n' > src/deep/a.txt",
            &[
                "/opt/app/deep/a.txt\n  content, from byte 6: first \"o\\n\", second \"O\\n\"\n",
                "layer 2 'app' of linux/amd64: 0 added, 0 removed, 1 changed\n",
            ],
        ),
        (
            "printf 3 >> src/deep/a.txt",
            &[
                "/opt/app/deep/a.txt\n  size: first 8, second 9\n  content, from byte 8: first the end of the file, \
             second \"3\"\n",
            ],
        ),
        ("chmod +x src/b", &["/opt/app/b\n  mode: first 0644, second 0755\n"]),
        ("ln -sfn c src/link", &["/opt/app/link\n  target: first b, second c\n"]),
        ("rm src/b && ln -s c src/b", &["/opt/app/b\n  kind: first file, second symbolic link\n"]),
        (
            "$real rm -rq --cached src/deep",
            &["/opt/app/deep\n  only first: directory, with 1 path below it\n"],
        ),
        (add, &["/opt/app/new\n  only second: file\n"]),
    ];
    project.dmoci(&["build"]).ok();
    let before = files(&project.path("dist"));
    for (change, words) in cases {
        let run = Meddler::new(&project, change).build(&project, &[]).exits(5);
        has(&run.stdout, words);
        has(&run.stdout, &["layer 2 'app' of linux/amd64: ", "layer 2 'app' of linux/arm64: "]);
        has(
            &run.stderr,
            &[
                "error[E-TWICE]: the second build is not the same as the first: ",
                " --> dmoci.toml:19:8\n",
                "this layer differs",
                "help: a source that changed",
            ],
        );
        assert_eq!(files(&project.path("dist")), before, "{change}");
        // Nothing differs any more when nobody meddles.
        Meddler::new(&project, ":").build(&project, &["-o", "other"]).exits(0);
        project.git(&["reset", "-q", "--hard"]);
    }
}

#[test]
fn a_new_output_directory_is_not_left_behind() {
    let project = project();
    Meddler::new(&project, "printf x > src/b").build(&project, &[]).exits(5);
    assert!(!project.path("dist").exists());
}

#[test]
fn the_differences_as_json() {
    let project = project();
    let meddler = Meddler::new(&project, "printf B > src/b");
    let run = meddler.build(&project, &["--json", "--platform", "linux/amd64"]).exits(5);
    let value: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["error"]["code"], "E-TWICE");
    let difference = &value["diff"]["differences"][0];
    assert_eq!(difference["place"], "/linux~1amd64/layers/1/opt~1app~1b/content");
    assert_eq!((&difference["offset"], &difference["path"]), (&0.into(), &"/opt/app/b".into()));
    assert_eq!((&difference["left"], &difference["right"]), (&"\"b\"".into(), &"\"B\"".into()));
    assert_eq!(difference["layer"]["name"], "app");
    assert_eq!(value["diff"]["verdict"], "DIFFERENT CONTENT");
    assert_eq!(value["diff"]["more"], 0);
}

#[test]
fn what_is_in_the_documents() {
    let project = project();
    let change = "printf '[project]\\nversion = \"2.0\"\\n' > pyproject.toml";
    let run = Meddler::new(&project, change).build(&project, &[]).exits(5);
    has(
        &run.stdout,
        &[
            "manifest of linux/amd64\n  /annotations/org.opencontainers.image.version: first \"1.0\", second \"2.0\"\n",
        ],
    );
    assert!(!run.stdout.contains("layer"), "{}", run.stdout);
}

#[test]
fn the_second_build_fails() {
    let spec = format!("{SPEC}archive = [{{ path = \"a.tar\", to = \"/srv\" }}]\n");
    let tar = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let archive = project().file("dmoci.toml", &spec).file("a.tar", &tar);
    let run = Meddler::new(&archive, "printf damaged > a.tar").build(&archive, &[]).exits(5);
    has(&run.stderr, &["error[E-TWICE]: the second build failed where the first did not", "a.tar"]);
    assert_eq!(run.stdout, "");
    archive.write("a.tar", &tar);
    // What cannot be copied says nothing about the image.
    let gone = Meddler::new(&archive, "rm a.tar").build(&archive, &[]).exits(6);
    has(&gone.stderr, &["error[E-TWICE-RUN]: the inputs cannot be copied", "a.tar does not exist", "help:"]);
    assert!(!archive.path("dist").exists());
}

#[test]
fn with_bases() {
    let base = |rest: &str, from: &str| {
        format!(
            "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\nbase = \"{from}\"\n[[layer]]\nname = \"l\"\n{rest}\n"
        )
    };
    let file = r#"file = [{ path = "/f", content = "f" }]"#;
    let project = Project::with_spec(&base(file, "scratch"));
    project.dmoci(&["build", "-o", "below"]).ok();
    project.dmoci(&["export", "below/image", "-o", "oci-archive:below.tar"]).ok();
    project.dmoci(&["export", "below/image", "-o", "docker-archive:docker.tar"]).ok();
    fs::create_dir(project.path("inner")).unwrap();
    symlink("../below/image", project.path("inner/base")).unwrap();
    let link = r#"symlink = [{ path = "/g", target = "f" }]"#;
    for from in ["oci:below/image", "oci-archive:below.tar", "docker-archive:docker.tar", "oci:inner/base"] {
        project.write("dmoci.toml", base(link, from));
        let run = project.dmoci(&["build", "--twice"]).ok();
        has(&run.stderr, &["twice the same"]);
    }
}

#[test]
fn the_project_is_below_the_top_of_its_repository() {
    let outer =
        Project::new().file("part/dmoci.toml", SPEC.replace("${version}", "1")).file("part/src/a", "a");
    outer.write("part/text", "@on@");
    outer.write("part/src/later", "untracked");
    outer.git(&["init", "-q"]);
    outer.git(&["add", "part/src/a"]);
    let run = outer.dmoci(&["build", "--twice", "-C", "part"]).ok();
    has(&run.stderr, &["twice the same"]);
}

#[test]
fn a_submodule_that_is_a_source() {
    let other = Project::new().file("kept", "k").file("a/b", "b");
    other.git(&["init", "-q"]);
    other.git(&["add", "."]);
    other.git(&["commit", "-qm", "first"]);
    let spec = SPEC.replace("\"src/\"", "\"sub\"").replace("${version}", "1");
    let project = Project::with_spec(&spec);
    project.git(&["init", "-q"]);
    project.git(&["submodule", "--quiet", "add", other.root().to_str().unwrap(), "sub"]);
    project.write("sub/new", "not tracked");
    project.write("text", "@on@");
    let run = project.dmoci(&["build", "--twice"]).ok();
    has(&run.stderr, &["twice the same"]);
}
