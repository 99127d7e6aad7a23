//! `dmoci.lock`: who writes it, when, and what is refused because of it.

mod around;

use std::fs;
use std::sync::{Arc, Mutex};

use dmoci_layers::Digest;

use crate::support::layers::{digests, listing};
use crate::support::server::{Asked, Reply, Server};
use crate::support::{Project, Run};

/// A server whose one file can be exchanged.
struct Mirror {
    server: Server,
    content: Arc<Mutex<Vec<u8>>>,
}

impl Mirror {
    fn new(content: &[u8]) -> Mirror {
        let content = Arc::new(Mutex::new(content.to_vec()));
        let served = content.clone();
        let server = Server::start(move |_| Reply::ok(&served.lock().unwrap()));
        Mirror { server, content }
    }

    fn now_gives(&self, content: &[u8]) {
        *self.content.lock().unwrap() = content.to_vec();
    }

    fn asked(&self) -> usize {
        self.server.asked().len()
    }
}

const TWO: &str = "platforms = [\"linux/amd64\", \"linux/arm64\"]";

/// A project that downloads one file for two platforms.
fn project(mirror: &Mirror, more: &str) -> Project {
    Project::with_spec(&spec(mirror, more))
}

fn spec(mirror: &Mirror, more: &str) -> String {
    let url = mirror.server.url("/model.bin");
    format!(
        "schema = 1\n[image]\n{TWO}\n[[layer]]\nname = \"model\"\n\
         download = [{{ url = \"{url}\", path = \"/m\"{more} }}]\n"
    )
}

fn sha256(content: &[u8]) -> String {
    Digest::sha256(content).hex().to_owned()
}

fn lock_of(project: &Project) -> Option<String> {
    fs::read_to_string(project.path("dmoci.lock")).ok()
}

#[track_caller]
fn refused(run: Run, exit: i32, words: &[&str]) -> Run {
    let run = run.exits(exit);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    run
}

/// Runs that must change neither the lock file nor the output.
#[track_caller]
fn untouched(project: &Project, arguments: &[&str], exit: i32, words: &[&str]) -> Run {
    let before = lock_of(project);
    let run = refused(project.dmoci(arguments), exit, words);
    assert_eq!(lock_of(project), before, "{arguments:?}");
    assert!(!project.path("dist").exists(), "{arguments:?} wrote something");
    let temporary = fs::read_dir(project.root())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".tmp"));
    assert!(!temporary);
    run
}

#[test]
fn the_first_use_is_said_and_then_held() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    let run = project.dmoci(&["build"]).ok();
    let url = mirror.server.url("/model.bin");
    let added = format!(
        "       Added download {url}: sha256:{} (first use) for linux/amd64, linux/arm64\n",
        sha256(b"model")
    );
    assert!(run.stderr.contains(&added), "{}", run.stderr);
    assert!(
        run.stderr.contains(&format!("warning: nothing but dmoci.lock says what {url} must give")),
        "{}",
        run.stderr
    );
    assert_eq!(mirror.asked(), 1, "once for both platforms");
    assert_eq!(listing(&project.path("dist"), "model"), "- 0644 0:0 m model");
    let lock = lock_of(&project).unwrap();
    let mut entry = lock.split("\n\n").nth(1).unwrap().lines();
    assert_eq!(entry.next(), Some("[[platform.\"linux/amd64\".download]]"));
    assert_eq!(entry.next(), Some(format!("url = \"{url}\"").as_str()));
    assert_eq!(entry.next(), Some("size = 5"));
    assert_eq!(entry.next(), Some(format!("sha256 = \"{}\"", sha256(b"model")).as_str()));
    assert_eq!(entry.next(), Some("authenticated = \"first use\""));

    // From now on the network is not needed, and says nothing any more.
    let first = digests(&project.path("dist"));
    for arguments in
        [&["build", "--locked", "--offline"][..], &["build"], &["check", "--locked", "--offline"]]
    {
        let run = project.dmoci(arguments).ok();
        assert!(!run.stderr.contains("Added") && !run.stderr.contains("warning"), "{}", run.stderr);
    }
    assert_eq!((mirror.asked(), lock_of(&project)), (1, Some(lock.clone())));
    assert_eq!(digests(&project.path("dist")), first);
    let run = project.dmoci(&["lock"]).ok();
    assert!(run.stderr.ends_with("   Unchanged dmoci.lock: 2 pins for 2 platforms\n"), "{}", run.stderr);
    assert_eq!((run.stdout.as_str(), mirror.asked()), ("", 1));
}

#[test]
fn what_changed_is_refused_until_it_is_asked_for() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    project.dmoci(&["lock"]).ok();
    let lock = lock_of(&project).unwrap();
    mirror.now_gives(b"other");
    fs::remove_dir_all(project.cache().join("dmoci")).unwrap();
    let (old, new) = (sha256(b"model"), sha256(b"other"));
    let (expected, found) = (format!("expected sha256:{old}"), format!("found sha256:{new}"));
    let words = [
        "error[E-FETCH-DIGEST]",
        &expected,
        &found,
        "dmoci.toml:6:",
        "dmoci.lock:",
        "pinned here (first use)",
        "dmoci lock --update model",
    ];
    for arguments in
        [&["build"][..], &["check"], &["build", "--locked"], &["build", "--platform", "linux/arm64"]]
    {
        untouched(&project, arguments, 1, &words);
    }
    // What is pinned is not asked for.
    project.dmoci(&["lock"]).ok();
    assert_eq!(lock_of(&project).as_ref(), Some(&lock));
    mirror.now_gives(b"longer than before");
    untouched(&project, &["build"], 1, &["E-FETCH-DIGEST", "expected 5 bytes, found 18"]);

    mirror.now_gives(b"other");
    let run = project.dmoci(&["lock", "--update", "model"]).ok();
    let updated = format!(
        "Updated download {}: sha256:{old} → sha256:{new} for linux/amd64, linux/arm64\n",
        mirror.server.url("/model.bin")
    );
    assert!(run.stderr.contains(&updated) && run.stderr.contains("warning: nothing but"), "{}", run.stderr);
    assert_eq!(lock_of(&project).unwrap().matches(&new).count(), 2);
    project.dmoci(&["build", "--locked", "--offline"]).ok();
    assert_eq!(listing(&project.path("dist"), "model"), "- 0644 0:0 m other");
}

/// What is in the spec, what is in the lock, what comes: how it ends, and the pin after it.
#[test]
fn table_of_builds() {
    let (good, bad) = (sha256(b"model"), sha256(b"other"));
    let said = |hex: &str| format!(", sha256 = \"{hex}\"");
    // (spec before, spec now, arguments, what comes now, exit, words, who says so in the end)
    type Row<'a> = (Option<String>, String, &'a [&'a str], &'a [u8], i32, &'a str, Option<&'a str>);
    let rows: &[Row<'_>] = &[
        (None, String::new(), &["build"], b"model", 0, "first use", Some("first use")),
        (None, said(&good), &["build"], b"model", 0, "(spec)", Some("spec")),
        (None, said(&bad), &["build"], b"model", 1, "E-FETCH-DIGEST", None),
        (None, said(&good), &["build", "--locked"], b"model", 2, "E-LOCK-MISSING", None),
        (None, said(&good), &["build", "--offline"], b"model", 6, "E-OFFLINE", None),
        (None, String::new(), &["check"], b"model", 0, "lacks 2 entries", None),
        (None, String::new(), &["check", "--locked"], b"model", 2, "E-LOCK-MISSING", None),
        (
            Some(String::new()),
            String::new(),
            &["build", "--locked"],
            b"model",
            0,
            "Finished",
            Some("first use"),
        ),
        (Some(String::new()), said(&good), &["build"], b"model", 0, "now by spec", Some("spec")),
        (
            Some(String::new()),
            said(&good),
            &["build", "--locked"],
            b"model",
            0,
            "Finished",
            Some("first use"),
        ),
        (Some(String::new()), said(&bad), &["build"], b"other", 2, "E-LOCK-STALE", Some("first use")),
        (Some(String::new()), said(&bad), &["lock"], b"other", 2, "E-LOCK-STALE", Some("first use")),
        (Some(String::new()), said(&bad), &["lock", "--update"], b"other", 0, "Updated", Some("spec")),
        (
            Some(String::new()),
            said(&bad),
            &["lock", "--update"],
            b"model",
            1,
            "E-FETCH-DIGEST",
            Some("first use"),
        ),
        (Some(said(&good)), String::new(), &["build"], b"model", 0, "Finished", Some("spec")),
        (
            Some(said(&good)),
            String::new(),
            &["lock", "--update"],
            b"model",
            0,
            "now by first use",
            Some("first use"),
        ),
        (Some(said(&good)), said(&bad), &["build"], b"model", 2, "lock --update model", Some("spec")),
        (
            Some(String::new()),
            String::new(),
            &["lock", "--update", "--offline"],
            b"model",
            6,
            "E-OFFLINE",
            Some("first use"),
        ),
    ];
    for (before, now, arguments, content, exit, word, authenticated) in rows {
        let mirror = Mirror::new(b"model");
        let project = project(&mirror, "");
        if let Some(before) = before {
            project.write("dmoci.toml", spec(&mirror, before));
            project.dmoci(&["lock"]).ok();
        }
        project.write("dmoci.toml", spec(&mirror, now));
        mirror.now_gives(content);
        let lock = lock_of(&project);
        let run = project.dmoci(arguments);
        assert!(run.exit == *exit && run.stderr.contains(word), "{arguments:?} {before:?} {now:?}\n{run:?}");
        if *exit != 0 {
            assert_eq!(lock_of(&project), lock, "{arguments:?}");
            assert!(!project.path("dist").exists());
        }
        let text = lock_of(&project).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix("authenticated = "));
        assert_eq!(found, authenticated.map(|name| format!("{name:?}")).as_deref(), "{arguments:?} {now:?}");
    }
}

#[test]
fn additions_and_removals() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    project.dmoci(&["build", "--platform", "linux/arm64"]).ok();
    let lock = lock_of(&project).unwrap();
    assert!(lock.contains("linux/arm64") && !lock.contains("linux/amd64"), "{lock}");
    // The other platform has the same address, so it gets the same file, whatever comes now.
    mirror.now_gives(b"other");
    let run = refused(
        project.dmoci(&["build", "--locked"]),
        2,
        &["E-LOCK-MISSING", "model.bin for linux/amd64", "dmoci lock"],
    );
    assert!(run.stderr.contains("dmoci.toml:6:"), "{}", run.stderr);
    project.dmoci(&["build", "--offline"]).ok();
    assert_eq!(lock_of(&project).unwrap().matches(&sha256(b"model")).count(), 2);

    let url = mirror.server.url("/model.bin");
    let other = mirror.server.url("/second.bin");
    project.write("dmoci.toml", spec(&mirror, "").replace("model.bin", "second.bin").replace("/m\"", "/n\""));
    let run = project.dmoci(&["build"]).ok();
    assert!(run.stderr.contains(&format!("Added download {other}")), "{}", run.stderr);
    assert!(lock_of(&project).unwrap().contains(&url), "a build takes nothing away");
    let run = project.dmoci(&["lock"]).ok();
    assert!(
        run.stderr.contains(&format!(
            "Removed download {url}: sha256:{} for linux/amd64, linux/arm64",
            sha256(b"model")
        )) && run.stderr.ends_with("      Locked dmoci.lock: 2 pins for 2 platforms\n"),
        "{}",
        run.stderr
    );
    assert!(!lock_of(&project).unwrap().contains(&url));
    // Nothing from elsewhere any more.
    project.write("dmoci.toml", format!("schema = 1\n[image]\n{TWO}\n"));
    project.dmoci(&["lock"]).ok();
    assert!(lock_of(&project).unwrap().ends_with("rules = 1\n"));
    // And where there never was anything there is no file.
    let project = Project::with_spec(&format!("schema = 1\n[image]\n{TWO}\n"));
    project.dmoci(&["lock"]).ok();
    project.dmoci(&["build", "--locked", "--offline"]).ok();
    assert_eq!(lock_of(&project), None);
}

#[test]
fn only_what_is_named_is_updated() {
    let served = Arc::new(Mutex::new(b"1".to_vec()));
    let content = served.clone();
    let server = Server::start(move |asked: &Asked| {
        Reply::ok(&[asked.target.as_bytes(), content.lock().unwrap().as_slice()].concat())
    });
    let [a, b, c] = ["/a.bin", "/b.bin?v=1", "/c.bin"].map(|path| server.url(path));
    let project = Project::with_spec(&format!(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"first\"\n\
         download = [{{ url = \"{a}\", path = \"/a\" }}, {{ url = \"{b}\", path = \"/b\" }}]\n\
         [[layer]]\nname = \"second\"\ndownload = [{{ url = \"{c}\", path = \"/c\" }}, {{ url = \"{a}\", path = \"/d\" }}]\n"
    ));
    project.dmoci(&["lock"]).ok();
    assert_eq!(server.asked().len(), 3);
    for (number, (names, updated)) in [
        (&["first"][..], &["a.bin", "b.bin"][..]),
        (&["c.bin"], &["c.bin"]),
        (&[b.as_str()], &["b.bin"]),
        (&["second"], &["a.bin", "c.bin"]),
        (&["a.bin", "c.bin"], &["a.bin", "c.bin"]),
        (&[], &["a.bin", "b.bin", "c.bin"]),
    ]
    .into_iter()
    .enumerate()
    {
        *served.lock().unwrap() = format!("{number}!").into_bytes();
        let run = project.dmoci(&[&["lock", "--update"], names].concat()).ok();
        let lines: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("     Updated ")).collect();
        assert_eq!(lines.len(), updated.len(), "{names:?}\n{}", run.stderr);
        for name in updated {
            assert!(lines.iter().any(|line| line.contains(name)), "{names:?}\n{}", run.stderr);
        }
    }
    let run =
        untouched(&project, &["lock", "--update", "frist"], 2, &["E-LOCK-NAME", "did you mean `first`?"]);
    assert!(run.stderr.contains("\"frist\""), "{}", run.stderr);
    untouched(&project, &["lock", "--update", "zzzzzz"], 2, &["a.bin, b.bin, c.bin, first, second"]);
}

#[test]
fn edits_by_hand() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    project.dmoci(&["lock"]).ok();
    let good = lock_of(&project).unwrap();
    let (old, new) = (sha256(b"model"), sha256(b"other"));
    for (from, to, exit, word) in [
        (old.as_str(), new.as_str(), 1, "E-LOCK-EDITED"),
        ("size = 5", "size = 6", 1, "E-LOCK-EDITED"),
        ("first use", "spec", 1, "E-LOCK-EDITED"),
        ("model.bin", "modem.bin", 1, "E-LOCK-EDITED"),
        ("size = 5\n", "", 2, "`size` is missing"),
        ("size = 5\n", "size = 5\ncolour = \"red\"\n", 2, "expected url, size"),
        ("schema = 1", "schema = 7", 2, "schema 7 is not known"),
        ("rules = 1", "rules = 99", 2, "E-LOCK-RULES"),
        ("size = 5\n", "=======\n", 2, "not TOML"),
    ] {
        project.write("dmoci.lock", good.replacen(from, to, 1));
        for arguments in [&["build"][..], &["lock"], &["check", "--offline"], &["build", "--locked"]] {
            // What nobody needs any more goes with the next `lock`, edited or not.
            if (from, arguments[0]) == ("model.bin", "lock") {
                continue;
            }
            untouched(&project, arguments, exit, &[word, "dmoci.lock:"]);
        }
    }
    project.write("dmoci.lock", good.replacen("size = 5", "size = 6", 1));
    let run = untouched(&project, &["build"], 1, &["expected ", "dmoci lock --update http://127.0.0.1:"]);
    let hint = run.stderr.split("dmoci lock --update ").nth(1).unwrap().trim();
    project.dmoci(&["lock", "--update", hint]).ok();
    assert_eq!(lock_of(&project), Some(good.clone()));
    // A reformatted file is as good, and is written in its one form with the next change.
    project.write("dmoci.lock", good.replace(" = ", "="));
    project.dmoci(&["build", "--locked"]).ok();
    // The lock file of another tool is not overwritten.
    let project = Project::new().file("uv.toml", spec(&mirror, "")).file("uv.lock", "version = 1\n");
    refused(project.dmoci(&["build", "-f", "uv.toml"]), 2, &["E-LOCK", "unknown key in the lock file"]);
    assert_eq!(fs::read_to_string(project.path("uv.lock")).unwrap(), "version = 1\n");
}

#[test]
fn archives_by_address() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_path("engine-1/bin/run").unwrap();
    header.set_mode(0o755);
    header.set_size(3);
    header.set_cksum();
    builder.append(&header, &b"run"[..]).unwrap();
    let archive = builder.into_inner().unwrap();
    let served = archive.clone();
    let server = Server::start(move |_| Reply::ok(&served));
    let url = server.url("/engine-${platform.uname}.tar");
    let project = Project::with_spec(&format!(
        "schema = 1\n[image]\n{TWO}\n[[layer]]\nname = \"engine\"\n\
         archive = [{{ url = \"{url}\", to = \"/opt\", strip-components = 1, owner = \"7:8\" }}]\n\
         download = [{{ url = \"{}\", path = \"/opt/engine.tar\", mode = \"0600\", owner = \"5\" }}]\n",
        server.url("/engine-x86_64.tar")
    ));
    let run = project.dmoci(&["build"]).ok();
    assert_eq!(
        listing(&project.path("dist"), "engine")
            .lines()
            .filter(|line| !line.contains(".tar"))
            .collect::<Vec<_>>(),
        ["d 0755 0:0 opt/", "d 0755 0:0 opt/bin/", "- 0755 7:8 opt/bin/run run"]
    );
    assert!(listing(&project.path("dist"), "engine").contains("- 0600 5:5 opt/engine.tar "));
    // One address is fetched once, whatever it is for.
    let mut asked: Vec<String> = server.asked().iter().map(|asked| asked.target.clone()).collect();
    asked.sort();
    assert_eq!(asked, ["/engine-aarch64.tar", "/engine-x86_64.tar"]);
    assert!(run.stderr.contains("Added archive") && run.stderr.contains("Added download"), "{}", run.stderr);
    // What is no archive is said to be none, at its place.
    let mirror = Mirror::new(b"no archive");
    let project = Project::with_spec(&format!(
        "schema = 1\n[image]\n{TWO}\n[[layer]]\nname = \"a\"\narchive = [{{ url = \"{}\", to = \"/\" }}]\n",
        mirror.server.url("/x?token=secret")
    ));
    let run =
        refused(project.dmoci(&["build"]), 1, &["E-ARCHIVE", "/x?…: it is no archive", "dmoci.toml:6:"]);
    assert!(!run.stderr.contains("token=secret: "), "{}", run.stderr);
}

#[test]
fn variants_are_locked_too() {
    let mirror = Mirror::new(b"model");
    let other = Mirror::new(b"other");
    let url = other.server.url("/tests.bin");
    let variant = |more: &str| {
        format!(
            "{}[variant.test]\n[[variant.test.layer]]\nname = \"t\"\n\
             download = [{{ url = \"{url}\", path = \"/t\"{more} }}]\n",
            spec(&mirror, "")
        )
    };
    let project = Project::with_spec(&variant(""));
    // A build pins what it needs, and takes nothing away.
    project.dmoci(&["build"]).ok();
    assert_eq!(other.asked(), 0);
    refused(project.dmoci(&["check", "--locked"]), 2, &["E-LOCK-MISSING", "/tests.bin for linux/amd64"]);
    let run = project.dmoci(&["lock"]).ok();
    assert!(run.stderr.ends_with("      Locked dmoci.lock: 4 pins for 2 platforms\n"), "{}", run.stderr);
    project.dmoci(&["build", "--locked", "--offline", "--variant", "test"]).ok();
    project.dmoci(&["check", "--locked", "--offline"]).ok();
    project.dmoci(&["lock"]).ok();
    assert_eq!((other.asked(), lock_of(&project).unwrap().matches(&url).count()), (1, 2));
    // Two variants agree on what an address gives.
    let sha = |content: &[u8]| format!(", sha256 = \"{}\"", sha256(content));
    let second = variant(&sha(b"other")).replace("variant.test", "variant.second");
    let both = variant(&sha(b"else"))
        + second
            .split_once("[variant")
            .map(|(_, rest)| rest)
            .map(|rest| format!("[variant{rest}"))
            .as_deref()
            .unwrap();
    project.write("dmoci.toml", both);
    let run = refused(project.dmoci(&["lock"]), 2, &["E-SPEC-DUPLICATE", "two different files"]);
    assert!(run.stderr.contains(&Digest::sha256(b"else").short()[..12]), "{}", run.stderr);
}
