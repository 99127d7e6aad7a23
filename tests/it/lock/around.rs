//! What is around: servers that want to know who asks, caches, proxies, other runs.

use std::fs;

use super::{Mirror, TWO, lock_of, project, refused, sha256, spec, untouched};
use crate::support::server::{Authority, End, Reply, Server};
use crate::support::{Project, Run, dmoci};

#[test]
fn passwords_stay_out_of_the_lock_file_and_of_messages() {
    let server = Server::start(|asked| match asked.header("authorization") {
        Some("Basic bWU6aHVzaA==") => Reply::ok(b"model"),
        _ => Reply::new("401 Unauthorized", &[], b""),
    });
    let spec = |user: &str| {
        format!(
            "schema = 1\n[vars]\nuser = \"\"\n[image]\n{TWO}\n[[layer]]\nname = \"a\"\n\
             download = [{{ url = \"http://{user}127.0.0.1:{}/m\", path = \"/m\" }}]\n",
            server.port()
        )
    };
    let project = Project::with_spec(&spec("${vars.user}"));
    refused(
        project.dmoci(&["build"]),
        6,
        &["E-FETCH-STATUS", "the server answered 401", "https://USER:PASSWORD@HOST/"],
    );
    let run = project.dmoci(&["build", "--set", "user=me:hush@"]).ok();
    let lock = lock_of(&project).unwrap();
    for text in [&run.stderr, &run.stdout, &lock] {
        assert!(!text.contains("hush"), "{text}");
    }
    // The pin is the same for everybody.
    project.dmoci(&["build", "--locked", "--offline"]).ok();
    fs::remove_dir_all(project.cache().join("dmoci")).unwrap();
    let run = refused(project.dmoci(&["build", "--set", "user=you:hush@"]), 6, &["401"]);
    assert!(!run.stderr.contains("hush"), "{}", run.stderr);
}

#[test]
fn what_is_missing_offline() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    project.dmoci(&["lock"]).ok();
    fs::remove_dir_all(project.cache().join("dmoci")).unwrap();
    let before = mirror.asked();
    untouched(
        &project,
        &["build", "--offline"],
        6,
        &["E-OFFLINE", "/model.bin is not in the cache", "dmoci.toml:6:"],
    );
    assert_eq!(mirror.asked(), before);

    project.dmoci(&["build"]).ok();
    let digest = dmoci_layers::Digest::sha256(b"model");
    let cached = project.cache().join("dmoci/downloads/sha256").join(digest.hex());
    fs::remove_file(&cached).unwrap();
    fs::write(&cached, b"m0del").unwrap();
    let damaged = ["E-OFFLINE", "/model.bin is damaged in the cache, and the network", "dmoci.toml:6:"];
    refused(project.dmoci(&["build", "--offline", "--no-cache"]), 6, &damaged);
}

#[test]
fn a_server_of_an_authority_of_ones_own() {
    let authority = Authority::new();
    let server = Server::start_tls(&authority, &["127.0.0.1"], |_| Reply::ok(b"model"));
    let project = Project::with_spec(&format!(
        "schema = 1\n[image]\n{TWO}\n[[layer]]\nname = \"a\"\ndownload = [{{ url = \"{}\", path = \"/m\" }}]\n",
        server.url("/m")
    ))
    .file("ca.pem", authority.pem());
    untouched(&project, &["build"], 6, &["E-FETCH-TLS", "--ca-file"]);
    untouched(&project, &["build", "--ca-file", "nothing.pem"], 2, &["E-FETCH-CA", "nothing.pem"]);
    project.dmoci(&["build", "--ca-file", "ca.pem"]).ok();
    // As every other program that reads this variable.
    let other = tempfile::tempdir().unwrap();
    let mut command = dmoci();
    command.args(["build"]).current_dir(project.root()).env("XDG_CACHE_HOME", other.path());
    Run::of(command.env("SSL_CERT_FILE", project.path("ca.pem"))).ok();
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn places_for_what_is_fetched() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    let home = tempfile::tempdir().unwrap();
    let run = |settings: &[(&str, &std::ffi::OsStr)]| {
        let mut command = dmoci();
        command.args(["build"]).current_dir(project.root());
        Run::of(command.envs(settings.iter().copied()))
    };
    refused(run(&[]), 2, &["E-CACHE", "set HOME or XDG_CACHE_HOME"]);
    refused(run(&[("XDG_CACHE_HOME", "relative".as_ref())]), 2, &["E-CACHE"]);
    run(&[("HOME", home.path().as_os_str())]).ok();
    assert!(home.path().join(".cache/dmoci/downloads/sha256").join(sha256(b"model")).is_file());
    // A proxy that cannot be used harms only what would go through it.
    run(&[("HOME", home.path().as_os_str()), ("all_proxy", "socks5://x:1".as_ref())]).ok();
    project.write("dmoci.toml", spec(&mirror, "").replace("http://127.0.0.1", "https://nobody.invalid"));
    let settings = [("HOME", home.path().as_os_str()), ("https_proxy", "socks5://u:hush@x:1".as_ref())];
    let said = refused(run(&settings), 2, &["E-FETCH-PROXY", "https_proxy", "SOCKS"]);
    assert!(!said.stderr.contains("hush"), "{}", said.stderr);
    fs::write(home.path().join("taken"), "").unwrap();
    refused(run(&[("XDG_CACHE_HOME", home.path().join("taken").as_os_str())]), 6, &["E-CACHE"]);
}

#[test]
fn runs_at_the_same_time_lose_nothing() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    std::thread::scope(|scope| {
        for platform in ["linux/amd64", "linux/arm64"] {
            for output in ["one", "two"] {
                let project = &project;
                scope.spawn(move || project.dmoci(&["build", "--platform", platform, "-o", output]).ok());
            }
        }
    });
    let lock = lock_of(&project).unwrap();
    assert_eq!(lock.matches(&sha256(b"model")).count(), 2, "{lock}");
    project.dmoci(&["build", "--locked", "--offline"]).ok();
}

#[test]
fn a_lock_file_that_cannot_be_written() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    fs::create_dir(project.path("dmoci.lock.tmp")).unwrap();
    let run = refused(project.dmoci(&["build"]), 6, &["error[E-LOCK-WRITE]: cannot write dmoci.lock"]);
    assert!(!run.stderr.contains("Added"), "{}", run.stderr);
    assert!(!project.path("dist").exists());
    fs::remove_dir(project.path("dmoci.lock.tmp")).unwrap();
    // What a killed run left is no obstacle.
    project.write("dmoci.lock.tmp", "half");
    project.dmoci(&["build"]).ok();
    assert!(!project.path("dmoci.lock.tmp").exists());
    fs::remove_file(project.path("dmoci.lock")).unwrap();
    fs::create_dir(project.path("dmoci.lock")).unwrap();
    refused(project.dmoci(&["lock"]), 6, &["E-LOCK-READ"]);
}

#[test]
fn building_twice_asks_the_network_once() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, "");
    let run = project.dmoci(&["build", "--twice"]).ok();
    assert!(run.stderr.contains("twice the same: sha256:"), "{}", run.stderr);
    assert_eq!(mirror.asked(), 1);
    project.dmoci(&["build", "--twice", "--locked", "--offline"]).ok();
}

#[test]
fn processes_share_one_download() {
    let mirror = Mirror::new(b"model");
    let project = project(&mirror, &format!(", sha256 = \"{}\"", sha256(b"model")));
    std::thread::scope(|scope| {
        for output in ["one", "two", "three"] {
            let project = &project;
            scope.spawn(move || project.dmoci(&["build", "-o", output]).ok());
        }
    });
    assert_eq!(mirror.asked(), 1);
}

#[test]
fn what_a_killed_run_fetched_is_not_fetched_again() {
    let content = vec![b'x'; 300_000];
    let served = content.clone();
    let server = Server::start(move |asked| match asked.before {
        0 => Reply::file(asked, None, &served).ends(End::Silent(200_000)),
        _ => Reply::file(asked, None, &served),
    });
    let project = Project::with_spec(&format!(
        "schema = 1\n[image]\n{TWO}\n[[layer]]\nname = \"a\"\n\
         download = [{{ url = \"{}\", sha256 = \"{}\", path = \"/m\" }}]\n",
        server.url("/m"),
        sha256(&content)
    ));
    let partial = project.cache().join("dmoci/downloads/partial").join(sha256(&content));
    let mut command = dmoci();
    command.args(["build"]).current_dir(project.root()).env("XDG_CACHE_HOME", project.cache());
    let mut killed = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    while fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 200_000 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(lock_of(&project), None);
    project.dmoci(&["build"]).ok();
    assert_eq!(server.asked().last().unwrap().header("range"), Some("bytes=200000-"));
    assert!(!partial.exists());
}
