//! The wheels that Python lock files name, in `dmoci.lock`.

use std::fs;
use std::sync::{Arc, Mutex};

use dmoci_layers::Digest;

use super::{SAID, hash, index, installed, pylock, spec, wheel};
use crate::support::server::{Asked, Reply, Server};
use crate::support::wheel::Wheel;
use crate::support::{Project, Run};

fn lock_of(project: &Project) -> String {
    fs::read_to_string(project.path("dmoci.lock")).unwrap_or_default()
}

/// What is pinned, as `platform file`.
fn pinned(project: &Project) -> Vec<String> {
    let lock = lock_of(project);
    let entries = lock.split("[[platform.\"").skip(1).filter(|entry| entry.contains(".wheel]]"));
    let line = |entry: &str| {
        let file = entry.lines().find_map(|line| line.strip_prefix("file = ")).unwrap();
        format!("{} {}", entry.split('"').next().unwrap(), file.trim_matches('"'))
    };
    entries.map(line).collect()
}

/// Forgets all that was fetched.
fn forget(project: &Project) {
    fs::remove_dir_all(project.cache().join("dmoci")).unwrap();
}

#[track_caller]
fn fails(run: Run, exit: i32, words: &[&str]) {
    let run = run.exits(exit);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
}

/// Requirements for an index that gets another file once `more` is said.
struct Growing {
    server: Server,
    more: Arc<Mutex<bool>>,
}

const LOGIN: &str = "Basic dXNlcjpzZWNyZXQ=";

impl Growing {
    /// Two wheels of `a`, of which the second suits better and comes later. It wants a user and a password.
    fn new(first: &Wheel, second: &Wheel) -> Growing {
        let files = [first, second].map(|wheel| (wheel.file_name(), wheel.bytes()));
        let more = Arc::new(Mutex::new(false));
        let now = more.clone();
        let server = Server::start(move |asked: &Asked| {
            if asked.header("authorization") != Some(LOGIN) {
                return Reply::new("401 Unauthorized", &[], b"");
            }
            let count = if *now.lock().unwrap() { 2 } else { 1 };
            if let Some(name) = asked.target.strip_prefix("/f/") {
                let file = files[..count].iter().find(|(file, _)| file == name);
                return file.map_or_else(|| Reply::new("404 No", &[], b""), |(_, bytes)| Reply::ok(bytes));
            }
            let link = |(file, bytes): &(String, Vec<u8>)| {
                format!("<a href='/f/{file}#sha256={}'>{file}</a>", Digest::sha256(bytes).hex())
            };
            let page: String = files[..count].iter().map(link).collect();
            Reply::new("200 OK", &["Content-Type: text/html"], page.as_bytes())
        });
        Growing { server, more }
    }

    /// A project that needs `a`, for which index and login stand in the environment.
    fn project(&self, wheels: [&Wheel; 2], platforms: &str) -> Project {
        let hashes = wheels.map(|wheel| format!("--hash=sha256:{}", hash(wheel))).join(" ");
        let entry = format!("lock = \"requirements.txt\", {SAID}");
        Project::with_spec(&spec(&entry).replace("[\"linux/amd64\"]", platforms))
            .file("requirements.txt", format!("a==1.0 {hashes}\n"))
    }

    fn run(&self, project: &Project, arguments: &[&str]) -> Run {
        let index = self.server.url("/simple/").replacen("://", "://user:secret@", 1);
        let mut command = crate::support::dmoci();
        command.args(arguments).current_dir(project.root()).env("XDG_CACHE_HOME", project.cache());
        Run::of(command.env("PIP_INDEX_URL", index))
    }

    fn asked(&self, beginning: &str) -> usize {
        self.server.asked().iter().filter(|asked| asked.target.starts_with(beginning)).count()
    }
}

#[test]
fn an_index_is_asked_once() {
    let any = wheel("a", "1.0");
    let own = Wheel::new("a", "1.0").tag("cp312-cp312-manylinux_2_17_x86_64").file("a.py", "own");
    let index = Growing::new(&any, &own);
    let project = index.project([&any, &own], "[\"linux/amd64\", \"linux/arm64\"]");

    fails(
        index.run(&project, &["build", "--locked"]),
        2,
        &[
            "E-LOCK-MISSING",
            "dmoci.lock lacks a wheel of a 1.0 for linux/amd64",
            "requirements.txt:1",
            "dmoci.toml:",
        ],
    );
    assert_eq!(index.asked("/"), 0);
    let check = index.run(&project, &["check"]).ok();
    assert!(check.stderr.contains("dmoci.lock lacks 2 entries that a build will add"), "{}", check.stderr);
    assert!(!project.path("dmoci.lock").exists());
    let run = index.run(&project, &["build"]).ok();
    let added = format!(
        "       Added wheel {}: sha256:{} (lock file) for linux/amd64, linux/arm64\n",
        any.file_name(),
        hash(&any)
    );
    assert!(run.stderr.contains(&added) && !run.stderr.contains("warning"), "{}", run.stderr);
    assert_eq!(
        (index.asked("/simple/"), index.asked("/f/")),
        (2, 1),
        "once for both platforms, and once more to check"
    );
    let both = ["linux/amd64 a-1.0-py3-none-any.whl", "linux/arm64 a-1.0-py3-none-any.whl"];
    assert_eq!(pinned(&project), both);
    let lock = lock_of(&project);
    assert!(
        !lock.contains("secret")
            && lock.contains(&format!("url = \"{}\"", index.server.url("/f/a-1.0-py3-none-any.whl"))),
        "{lock}"
    );

    // From now on neither the index nor what it got meanwhile matters.
    *index.more.lock().unwrap() = true;
    for arguments in [
        &["build", "--no-cache"][..],
        &["build", "--no-cache", "--locked", "--offline"],
        &["build", "--twice"],
        &["check", "--locked", "--offline"],
        &["lock"],
    ] {
        let again = index.run(&project, arguments).ok();
        assert!(arguments[0] != "build" || again.stdout == run.stdout, "{arguments:?}: {}", again.stdout);
        assert_eq!(lock_of(&project), lock, "{arguments:?}");
    }
    assert_eq!((index.asked("/simple/"), index.asked("/f/")), (2, 1));
    // The file itself comes from where it is pinned to be, with the login of the index there.
    forget(&project);
    assert_eq!(index.run(&project, &["build", "--no-cache", "--locked"]).ok().stdout, run.stdout);
    fails(
        Run::of(
            crate::support::dmoci()
                .args(["build", "--no-cache"])
                .current_dir(project.root())
                .env("XDG_CACHE_HOME", project.path("other")),
        ),
        6,
        &["E-FETCH-STATUS"],
    );
    assert_eq!(index.asked("/simple/"), 2);

    for name in ["a", "A", "deps", "a-1.0-py3-none-any.whl", &index.server.url("/f/a-1.0-py3-none-any.whl")] {
        project.write("dmoci.lock", &lock);
        let run = index.run(&project, &["lock", "--update", name]).ok();
        assert_eq!(
            pinned(&project),
            ["linux/amd64 a-1.0-cp312-cp312-manylinux_2_17_x86_64.whl", both[1]],
            "{name}"
        );
        assert!(
            run.stderr.contains("Added wheel a-1.0-cp312") && run.stderr.contains("Removed wheel a-1.0-py3"),
            "{}",
            run.stderr
        );
    }
    index.run(&project, &["build"]).ok();
    let first = fs::read_to_string(project.path("dist/build.log")).unwrap();
    assert!(first.contains("linux/arm64"), "{first}");
    fails(
        index.run(&project, &["lock", "--update", "b"]),
        2,
        &["E-LOCK-NAME", "nothing called \"b\"", "deps"],
    );
}

/// What is pinned counts for whoever has the hash and can run it, whichever entry it was pinned for.
#[test]
fn a_pinned_wheel_serves_who_can_run_it() {
    let (any, own) =
        (wheel("a", "1.0"), Wheel::new("a", "1.0").tag("cp312-cp312-linux_x86_64").file("a.py", "own"));
    let index = Growing::new(&any, &own);
    let project = index.project([&any, &own], "[\"linux/amd64\"]");
    index.run(&project, &["build"]).ok();
    *index.more.lock().unwrap() = true;
    let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    project.write("dmoci.toml", spec.replace("3.12.4", "3.13.0"));
    index.run(&project, &["build", "--locked", "--offline"]).ok();
    assert_eq!(installed(&project), ["a 1.0", "requested a-1.0"]);
    // A hash that is locked no more does not count.
    let text = fs::read_to_string(project.path("requirements.txt")).unwrap();
    project.write("requirements.txt", text.replace(&format!("--hash=sha256:{}", hash(&any)), ""));
    project.write("dmoci.toml", &spec);
    fails(index.run(&project, &["build", "--locked"]), 2, &["E-LOCK-MISSING", "a wheel of a 1.0"]);
    index.run(&project, &["build"]).ok();
    assert_eq!(installed(&project), ["own", "requested a-1.0"]);
    assert_eq!(pinned(&project).len(), 2, "a build takes no pin away");
    index.run(&project, &["lock"]).ok();
    assert_eq!(pinned(&project), ["linux/amd64 a-1.0-cp312-cp312-linux_x86_64.whl"]);
}

/// Wheels that a lock file names by address.
fn by_address(server: &Server, wheels: &[&Wheel]) -> String {
    let list: Vec<(&str, &str, [&Wheel; 1])> =
        wheels.iter().map(|w| (w.name.as_str(), "1.0", [*w])).collect();
    let list: Vec<(&str, &str, &[&Wheel])> = list.iter().map(|(n, v, w)| (*n, *v, &w[..])).collect();
    wheels.iter().fold(pylock(&list), |text, wheel| {
        let file = wheel.file_name();
        text.replace(
            &format!("path = \"wheels/{file}\""),
            &format!("url = \"{}\"", server.url(&format!("/f/{file}"))),
        )
    })
}

#[test]
fn all_that_is_missing_is_named() {
    let (a, b) = (wheel("a", "1.0"), wheel("b", "1.0"));
    let server = index(&[a.clone(), b.clone()]);
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let project = Project::with_spec(&spec(&entry)).file("pylock.toml", by_address(&server, &[&a, &b]));
    let both = "a-1.0-py3-none-any.whl, b-1.0-py3-none-any.whl\n";
    let lacks = format!("dmoci.lock lacks 2 inputs for linux/amd64: {both}");
    fails(project.dmoci(&["build", "--locked"]), 2, &["E-LOCK-MISSING", &lacks]);
    let offline = format!("2 files are not in the cache, and the network is not used: {both}");
    fails(project.dmoci(&["build", "--offline"]), 6, &["E-OFFLINE", &offline]);
}

#[test]
fn a_lock_file_that_changes() {
    let (a, b) = (wheel("a", "1.0"), wheel("b", "1.0"));
    let server = index(&[a.clone(), b.clone()]);
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let project = Project::with_spec(&spec(&entry)).file("pylock.toml", by_address(&server, &[&a]));
    let first = project.dmoci(&["lock"]).ok();
    assert!(
        first.stderr.contains("Resolving linux/amd64") && first.stderr.ends_with("1 pin for 1 platform\n"),
        "{}",
        first.stderr
    );
    assert_eq!(pinned(&project), ["linux/amd64 a-1.0-py3-none-any.whl"]);
    // What is pinned is not fetched to be locked.
    forget(&project);
    project.dmoci(&["lock", "--offline"]).ok();
    // One that comes is added, by `build` too, and `--locked` is for what is complete.
    project.write("pylock.toml", by_address(&server, &[&a, &b]));
    fails(
        project.dmoci(&["build", "--locked"]),
        2,
        &["E-LOCK-MISSING", "lacks b-1.0-py3-none-any.whl for linux/amd64", "pylock.toml:"],
    );
    project.dmoci(&["build"]).ok();
    project.dmoci(&["build", "--locked", "--offline", "--twice"]).ok();
    project.write("pylock.toml", by_address(&server, &[&b]));
    project.dmoci(&["build", "--locked"]).ok();
    assert_eq!(pinned(&project).len(), 2);
    let run = project.dmoci(&["lock"]).ok();
    assert!(run.stderr.contains("Removed wheel a-1.0-py3-none-any.whl"), "{}", run.stderr);

    // The same address with another hash.
    let good = by_address(&server, &[&b]);
    let other = hash(&b).replace(|c: char| c.is_ascii_digit(), "0");
    project.write("pylock.toml", good.replace(&hash(&b), &other));
    for arguments in [&["build"][..], &["check"], &["lock"]] {
        let words = [
            "E-LOCK-STALE",
            "and pylock.toml says sha256:",
            "dmoci.lock:",
            "dmoci lock --update b",
            "pinned here",
        ];
        fails(project.dmoci(arguments), 2, &words);
    }
    fails(project.dmoci(&["lock", "--update", "b"]), 1, &["E-FETCH-DIGEST"]);
    project.write("pylock.toml", &good);
    // An edit by hand.
    let lock = lock_of(&project);
    project.write("dmoci.lock", lock.replace("size = ", "size = 1"));
    fails(project.dmoci(&["build"]), 1, &["E-LOCK-EDITED"]);
    fails(project.dmoci(&["lock"]), 1, &["E-LOCK-EDITED"]);
    project.dmoci(&["lock", "--update", "b"]).ok();
    assert_eq!(lock_of(&project), lock);
    // Without an entry that needs it, it goes.
    project.write("dmoci.lock", lock.replace("size = ", "size = 1"));
    project.write("dmoci.toml", crate::support::layers::image_spec(""));
    project.dmoci(&["lock"]).ok();
    assert!(pinned(&project).is_empty());
}

#[test]
fn only_sha512() {
    let a = wheel("a", "1.0");
    let server = index(std::slice::from_ref(&a));
    let sha512 = Digest::of_reader(dmoci_layers::Algorithm::Sha512, &mut a.bytes().as_slice()).unwrap().0;
    let text = by_address(&server, &[&a]);
    let text = text.replace(&format!("sha256 = \"{}\"", hash(&a)), &format!("sha512 = \"{}\"", sha512.hex()));
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let project = Project::with_spec(&spec(&entry)).file("pylock.toml", &text);
    project.dmoci(&["build"]).ok();
    let lock = lock_of(&project);
    assert!(lock.contains(&format!("sha256 = \"{}\"", hash(&a))) && lock.contains(sha512.hex()), "{lock}");
    project.dmoci(&["build", "--locked", "--offline", "--no-cache"]).ok();
    let other = sha512.hex().replace(|c: char| c.is_ascii_digit(), "0");
    project.write("pylock.toml", text.replace(sha512.hex(), &other));
    fails(project.dmoci(&["build"]), 2, &["E-LOCK-STALE", "sha512:"]);
    // Another hash of the same file is no other file.
    project.write("pylock.toml", by_address(&server, &[&a]));
    project.dmoci(&["build", "--locked"]).ok();
    assert_eq!(lock_of(&project), lock);
}

/// What says which Python there is may lie in what comes from the network, and variants have their own.
#[test]
fn what_decides_is_looked_into() {
    let tagged = |tag: &str| Wheel::new("a", "1.0").tag(tag).file("a.py", tag);
    let (new, old) = (tagged("cp312-cp312-linux_x86_64"), tagged("cp311-cp311-linux_x86_64"));
    let wheels = [new.clone(), old.clone()];
    let tar = |version: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, mode: u32, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(mode);
            tar.append_data(&mut header, path, bytes).unwrap();
        };
        let banner = "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n";
        add(&format!("usr/bin/python3.{}", &version[2..4]), 0o755, &super::elf(62, "/lib/ld.so", version));
        add("lib/ld.so", 0o755, &super::elf(62, "", ""));
        add("lib/libc.so.6", 0o755, &super::elf(62, "", banner));
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "usr/bin/python3", format!("python3.{}", &version[2..4])).unwrap();
        tar.into_inner().unwrap()
    };
    let files = [("/os-3.12.4.tar", tar("3.12.4")), ("/os-3.11.2.tar", tar("3.11.2"))];
    let wheel_files = wheels.clone().map(|wheel| (format!("/f/{}", wheel.file_name()), wheel.bytes()));
    let server = Server::start(move |asked: &Asked| {
        let wheels = wheel_files.iter().map(|(path, bytes)| (path.as_str(), bytes));
        let all = files.iter().map(|(path, bytes)| (*path, bytes)).chain(wheels);
        let found = all.into_iter().find(|(path, _)| *path == asked.target);
        found.map_or_else(|| Reply::new("404 No", &[], b""), |(_, bytes)| Reply::ok(bytes))
    });
    let url = server.url("");
    let text =
        pylock(&[("a", "1.0", &[&new, &old])]).replace("path = \"wheels/", &format!("url = \"{url}/f/"));
    let spec = format!(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[variant.same]\ntags = [\"x\"]\n\
         [[layer]]\nname = \"os\"\narchive = [{{ url = \"{url}/os-3.12.4.tar\", to = \"/\" }}]\n\
         [[layer]]\nname = \"deps\"\npython = {{ lock = \"pylock.toml\", venv = \"/opt/v\" }}\n\
         [[layer]]\nname = \"less\"\nremove = [\"/opt/v/lib/python*/site-packages/a.py\"]\n\
         copy = [{{ from = [\"not-there-yet\"], to = \"/x\" }}]\n\
         [[variant.old.layer]]\nname = \"old\"\nremove = [\"/opt/v/lib/python*/site-packages/a-1.0.dist-info\"]\n\
         archive = [{{ url = \"{url}/os-3.11.2.tar\", to = \"/opt/old\" }}]\n\
         [[variant.old.layer]]\nname = \"more\"\n\
         python = {{ lock = \"pylock.toml\", venv = \"/opt/w\", interpreter = \"/opt/old/usr/bin/python3.11\" }}\n"
    );
    let project = Project::with_spec(&spec).file("pylock.toml", text);
    fails(project.dmoci(&["lock"]), 2, &["not-there-yet"]);
    project.write("not-there-yet", "x");
    let run = project.dmoci(&["lock"]).ok();
    let both =
        ["linux/amd64 a-1.0-cp311-cp311-linux_x86_64.whl", "linux/amd64 a-1.0-cp312-cp312-linux_x86_64.whl"];
    assert_eq!(pinned(&project), both);
    assert_eq!(run.stderr.matches("Resolving").count(), 2, "{}", run.stderr);
    // They are looked into again when the lock file is complete, wheels are not.
    forget(&project);
    project.dmoci(&["lock"]).ok();
    let asked = server.asked();
    let count = |end: &str| asked.iter().filter(|asked| asked.target.ends_with(end)).count();
    assert_eq!((count("3.12.4.tar"), count("3.11.2.tar"), count(".whl")), (3, 3, 2));
    project.dmoci(&["build", "--locked"]).ok();
    project.dmoci(&["build", "--locked", "--variant", "old"]).ok();
    assert_eq!(pinned(&project), both);
}
