//! One project, many circumstances, the same bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::disorder::Disorder;
use crate::support::project::{copied, digests, write};
use crate::support::{Place, command, debian, have, path_of, run, said};

/// A project and what a plain build of it gives.
struct Bench {
    place: Place,
    program: PathBuf,
    expected: String,
}

impl Bench {
    fn new() -> Bench {
        let place = Place::new();
        let program = place.program();
        let project = place.path("project");
        fs::create_dir(&project).unwrap();
        write(&project);
        let mut bench = Bench { place, program, expected: String::new() };
        bench.expected = bench.built(&mut command(&bench.program), &project, "plain");
        assert!(bench.expected.lines().count() > 8, "{}", bench.expected);
        bench
    }

    fn project(&self) -> PathBuf {
        self.place.path("project")
    }

    /// Builds the project at `from` and gives the digests of what came out.
    fn built(&self, command: &mut Command, from: &Path, name: &str) -> String {
        let out = self.place.path(&format!("out-{name}"));
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
        let dist = out.join("dist");
        run(command.args(["build", "--no-cache"]).arg("-C").arg(from).arg("-o").arg(&dist));
        digests(&dist)
    }

    #[track_caller]
    fn same(&self, command: &mut Command, from: &Path, name: &str) {
        assert_eq!(self.built(command, from, name), self.expected, "{name} shows in the bytes");
    }

    /// The program, started by another one.
    fn by(&self, words: &[&str]) -> Command {
        let mut by = command(path_of(words[0]).unwrap());
        by.args(&words[1..]).arg(&self.program);
        by
    }
}

#[test]
fn environment_and_umask() {
    let bench = Bench::new();
    let project = bench.project();
    for (name, variable, value) in [
        ("tz", "TZ", "Asia/Kathmandu"),
        ("lang", "LANG", "tr_TR.UTF-8"),
        ("lc-all", "LC_ALL", "C"),
        ("home", "HOME", "/nonexistent"),
        ("tmpdir", "TMPDIR", bench.place.as_ref().to_str().unwrap()),
        ("user", "USER", "somebody"),
        ("columns", "COLUMNS", "20"),
    ] {
        bench.same(command(&bench.program).env(variable, value), &project, name);
    }
    bench.same(command(&bench.program).env_clear(), &project, "no-environment");
    for mask in ["000", "027", "077"] {
        let script = format!("umask {mask}; exec \"$0\" \"$@\"");
        bench.same(&mut bench.by(&["sh", "-c", &script]), &project, &format!("umask-{mask}"));
    }
}

#[test]
fn directory_and_copy() {
    let bench = Bench::new();
    let inside = bench.place.path("inside");
    copied(&bench.project(), &inside);
    run(command(&bench.program).arg("build").current_dir(&inside));
    assert_eq!(digests(&inside.join("dist")), bench.expected, "the working directory shows");
    // What is already there does not matter, and neither do times.
    run(command("find").arg(inside.join("app")).args([
        "-exec",
        "touch",
        "-h",
        "-d",
        "1999-12-31 23:59:59",
        "{}",
        "+",
    ]));
    run(command(&bench.program).arg("build").current_dir(&inside));
    assert_eq!(digests(&inside.join("dist")), bench.expected, "times or an old output show");
    let deep = bench.place.path("a/very/deep and odd/'place'/ü");
    fs::create_dir_all(deep.parent().unwrap()).unwrap();
    copied(&bench.project(), &deep);
    bench.same(&mut command(&bench.program), &deep, "deep");
    let relative = Path::new("../project");
    bench.same(command(&bench.program).current_dir(bench.place.path("inside")), relative, "relative");
}

#[test]
fn modes_of_a_checkout() {
    let bench = Bench::new();
    for (name, modes) in [("private", "go-rwx"), ("shared", "g+w"), ("sticky", "+t,g+s")] {
        let project = bench.place.path(name);
        copied(&bench.project(), &project);
        run(command("chmod").arg("-R").arg(modes).arg(&project));
        bench.same(&mut command(&bench.program), &project, name);
    }
}

#[test]
fn cores() {
    if !have(&["taskset"]) {
        return;
    }
    let bench = Bench::new();
    bench.same(&mut bench.by(&["taskset", "--cpu-list", "0"]), &bench.project(), "one-core");
    bench.same(&mut bench.by(&["taskset", "--cpu-list", "0-1"]), &bench.project(), "two-cores");
}

/// As before Linux 5.6, and as in sandboxes that refuse what they do not know.
#[test]
fn without_openat2() {
    if !have(&["strace"]) {
        return;
    }
    let bench = Bench::new();
    for error in ["ENOSYS", "EPERM"] {
        let inject = format!("inject=openat2:error={error}");
        let quiet = ["strace", "-f", "--quiet=all", "-o", "/dev/null", "-e", "trace=openat2", "-e"];
        let strace = [&quiet[..], &[inject.as_str(), "--"]].concat();
        bench.same(&mut bench.by(&strace), &bench.project(), &format!("openat2-{error}"));
    }
}

#[test]
fn user_and_host_name() {
    if !have(&["root", "setpriv", "unshare"]) {
        return;
    }
    let bench = Bench::new();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    bench.same(&mut bench.by(&nobody), &bench.project(), "nobody");
    let owned = bench.place.path("owned");
    copied(&bench.project(), &owned);
    run(command("chown").args(["-R", "-h", "65534:12"]).arg(&owned));
    bench.same(&mut bench.by(&nobody), &owned, "nobody-owns");
    bench.same(&mut command(&bench.program), &owned, "root-reads");
    let host = ["unshare", "--uts", "sh", "-c", "hostname elsewhere; exec \"$0\" \"$@\""];
    bench.same(&mut bench.by(&host), &bench.project(), "host-name");
}

#[test]
fn clock() {
    if !have(&["faketime"]) {
        return;
    }
    let bench = Bench::new();
    for (name, time) in
        [("past", "1999-12-31 23:59:59"), ("future", "2037-06-01 12:00:00"), ("fast", "+1y x100")]
    {
        let mut words = vec!["faketime"];
        if name == "fast" {
            words.push("-f");
        }
        words.push(time);
        // The preloaded clock is there at all.
        if name == "past" {
            assert!(run(command("faketime").args([time, "date", "+%Y"])).starts_with("1999"));
        }
        bench.same(&mut bench.by(&words), &bench.project(), name);
    }
}

/// The names of a folder as the file system gives them.
fn order(folder: &Path) -> String {
    run(command("ls").arg("-U").arg(folder.join("app/part-3")))
}

#[test]
fn order_of_the_file_system() {
    if !have(&["root", "disorderfs", "fusermount3"]) {
        return;
    }
    let bench = Bench::new();
    let sorted = ["--sort-dirents=yes", "--reverse-dirents=no"];
    let orders = [
        ("sorted", &sorted[..]),
        ("reversed", &["--sort-dirents=yes", "--reverse-dirents=yes"]),
        ("shuffled", &["--shuffle-dirents=yes", "--reverse-dirents=no"]),
    ];
    let mut seen = Vec::new();
    for (name, options) in orders {
        let disorder = Disorder::mount(options, &bench.project(), bench.place.path(name));
        seen.push(order(disorder.path()));
        bench.same(&mut command(&bench.program), disorder.path(), &format!("on-{name}"));
        bench.same(&mut command(&bench.program), disorder.path(), &format!("on-{name}-again"));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "disorderfs changed no order");
}

#[test]
fn twice_as_an_ordinary_user() {
    if !have(&["root", "setpriv"]) {
        return;
    }
    let bench = Bench::new();
    let out = bench.place.path("out-twice");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let mut build = bench.by(&nobody);
    run(build.args(["build", "--twice", "-C"]).arg(bench.project()).arg("-o").arg(out.join("dist")));
    assert_eq!(digests(&out.join("dist")), bench.expected);
}

#[test]
fn twice_on_a_shuffled_file_system() {
    if !have(&["root", "disorderfs", "fusermount3"]) {
        return;
    }
    let bench = Bench::new();
    // Both builds, and the copy between them, read their names in an order of their own.
    let options = ["--shuffle-dirents=yes", "--reverse-dirents=no"];
    let disorder = Disorder::mount(&options, &bench.project(), bench.place.path("disorder"));
    run(command(&bench.program).args(["build", "--twice", "-C"]).arg(disorder.path()));
    assert_eq!(digests(&disorder.path().join("dist")), bench.expected);
}

#[test]
fn debian_twice() {
    if !have(debian::PEERS) || !have(&["skopeo"]) {
        return;
    }
    let project = debian::project();
    let place = Place::new();
    let dist = place.path("dist");
    run(command(place.program()).args(["build", "--twice", "-C"]).arg(project).arg("-o").arg(&dist));
    let digest = |image: &Path| {
        let image = format!("oci:{}", image.display());
        run(command("skopeo").args(["inspect", "--format", "{{.Digest}}", &image]))
    };
    assert_eq!(digest(&dist.join("image")), digest(&project.join("dist/image")));
}

#[test]
fn two_clones() {
    if !have(&["git", "diffoscope"]) {
        return;
    }
    let bench = Bench::new();
    let origin = bench.place.path("origin");
    copied(&bench.project(), &origin);
    let git = |arguments: &[&str]| {
        let mut git = command("git");
        git.args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").args(arguments);
        git
    };
    run(git(&["init", "--quiet", "--initial-branch=main"]).current_dir(&origin));
    run(git(&["add", "--all"]).current_dir(&origin));
    let date = "2024-05-06T07:08:09+05:30";
    let commit = ["commit", "--quiet", "--message", "first"];
    run(git(&commit).env("GIT_COMMITTER_DATE", date).env("GIT_AUTHOR_DATE", date).current_dir(&origin));

    let mut results = Vec::new();
    for (mask, remote) in [("077", "one"), ("002", "two")] {
        let clone = bench.place.path(&format!("clone-{mask}"));
        let script = format!(
            "umask {mask}; git clone --quiet origin clone-{mask} && exec \"$0\" build -C clone-{mask}"
        );
        run(command("sh").arg("-c").arg(script).arg(&bench.program).current_dir(&bench.place));
        run(git(&["remote", "rename", "origin", remote]).current_dir(&clone));
        run(git(&["config", "user.name", remote]).current_dir(&clone));
        run(command(&bench.program).arg("build").arg("-C").arg(&clone));
        results.push(digests(&clone.join("dist")));
    }
    assert_eq!(results[0], results[1]);
    let [one, two] = ["077", "002"].map(|mask| bench.place.path(&format!("clone-{mask}/dist/image")));
    run(command("diffoscope").arg("--exclude-directory-metadata=yes").args([&one, &two]));

    // What git knows is in the image, in UTC; nothing else of the clone is.
    let digests = fs::read_to_string(bench.place.path("clone-077/dist/digests.json")).unwrap();
    let digests: serde_json::Value = serde_json::from_str(&digests).unwrap();
    assert_eq!(digests["created"], "2024-05-06T01:38:09Z");
    let head = run(git(&["rev-parse", "HEAD"]).current_dir(&origin));
    assert_eq!(digests["revision"], head.trim());
    let strangers = said(command("grep").args(["-rlE", "clone-077|example.org|-dirty"]).arg(one));
    assert_eq!((strangers.code, strangers.out.as_str()), (Some(1), ""));
}
