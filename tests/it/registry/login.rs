//! Who asks: files of credentials, helpers, tokens, and where none of it goes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::Bench;
use crate::support::Run;
use crate::support::registry::{Door, Registry};
use crate::support::server::{Reply, Server};
use crate::verify::Sample;

fn registry(door: impl FnOnce(&Registry) -> Door) -> Registry {
    let layout = Sample::small().layout();
    let registry = Registry::start();
    registry.load(layout.path(), "acme/app", "1.0");
    let door = door(&registry);
    registry.content.lock().unwrap().door = door;
    registry
}

fn with_token() -> Registry {
    registry(|registry| Door::Token(registry.server.url("/token")))
}

fn with_password() -> Registry {
    registry(|_| Door::Basic("user:secret-word".into()))
}

/// No secret in anything that was said.
#[track_caller]
fn silent(run: Run) -> Run {
    let pair = dmoci::base64::encode(b"user:secret-word");
    for secret in ["secret-word", "secret-identity", "t-repository", &pair] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{secret}: {}", run.stderr);
    }
    run
}

fn inspect(bench: &Bench, registry: &Registry, environment: &[(&str, &str)]) -> Run {
    let subject = format!("docker://{}/acme/app:1.0", registry.host());
    silent(bench.run_with(&["-v", "inspect", &subject], environment))
}

fn auths(host: &str, entry: serde_json::Value) -> String {
    json!({"auths": {host: entry}}).to_string()
}

#[test]
fn users_and_passwords_of_every_file() {
    let pair = dmoci::base64::encode(b"user:secret-word");
    for registry in [with_password(), with_token()] {
        let good = auths(&registry.host(), json!({"auth": pair}));
        let bad = auths(&registry.host(), json!({"auth": dmoci::base64::encode(b"user:wrong")}));
        for (file, environment) in [
            ("home/.docker/config.json", None),
            ("home/.config/containers/auth.json", None),
            ("config/containers/auth.json", Some(("XDG_CONFIG_HOME", "config"))),
            ("run/containers/auth.json", Some(("XDG_RUNTIME_DIR", "run"))),
            ("docker/config.json", Some(("DOCKER_CONFIG", "docker"))),
            ("auth.json", Some(("REGISTRY_AUTH_FILE", "auth.json"))),
        ] {
            let bench = Bench::new();
            fs::create_dir_all(bench.path(file).parent().unwrap()).unwrap();
            fs::write(bench.path(file), &good).unwrap();
            let value =
                environment.map(|(name, value)| (name, bench.path(value).to_str().unwrap().to_owned()));
            let environment: Vec<(&str, &str)> =
                value.iter().map(|(name, value)| (*name, value.as_str())).collect();
            inspect(&bench, &registry, &environment).ok();
            // What comes first counts.
            if file == "docker/config.json" {
                fs::create_dir_all(bench.path("home/.docker")).unwrap();
                fs::write(bench.path("home/.docker/config.json"), &bad).unwrap();
                inspect(&bench, &registry, &environment).ok();
                let run = inspect(&bench, &registry, &[]).exits(6);
                let place = bench.path("home/.docker/config.json").display().to_string();
                assert!(run.stderr.contains(&place), "{}", run.stderr);
            }
        }
    }
}

#[test]
fn nobody_in_particular_is_told_to_log_in() {
    for registry in [with_password(), with_token()] {
        let bench = Bench::new();
        let run = inspect(&bench, &registry, &[]).exits(6);
        for part in [
            "error[E-REGISTRY-DENIED]",
            "read the manifest 1.0 of",
            "401 (UNAUTHORIZED: said by the test)",
            "no credentials: there are none for 127.0.0.1:",
            ".docker/config.json",
            "docker login 127.0.0.1:",
        ] {
            assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
        }
        let none = bench.path("none.json");
        let run = inspect(&bench, &registry, &[("REGISTRY_AUTH_FILE", none.to_str().unwrap())]).exits(2);
        assert!(run.stderr.contains("error[E-REGISTRY-LOGIN]"), "{}", run.stderr);
    }
}

#[test]
fn identity_tokens() {
    let registry = with_token();
    let bench = Bench::new();
    fs::write(bench.path("a.json"), auths(&registry.host(), json!({"identitytoken": "secret-identity"})))
        .unwrap();
    let file = bench.path("a.json");
    inspect(&bench, &registry, &[("REGISTRY_AUTH_FILE", file.to_str().unwrap())]).ok();
    assert_eq!(registry.asked("POST /token"), 1);
    fs::write(&file, auths(&registry.host(), json!({"identitytoken": "other"}))).unwrap();
    let run = inspect(&bench, &registry, &[("REGISTRY_AUTH_FILE", file.to_str().unwrap())]).exits(6);
    assert!(
        run.stderr.contains("error[E-REGISTRY-TOKEN]") && run.stderr.contains("a.json"),
        "{}",
        run.stderr
    );
}

#[test]
fn helpers() {
    let registry = with_token();
    let bench = Bench::new();
    fs::create_dir_all(bench.path("bin")).unwrap();
    let helper = |name: &str, script: &str| {
        let path = bench.path("bin").join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let host = registry.host();
    helper(
        "good",
        &format!(
            "[ \"$1\" = get ] && [ \"$(cat)\" = {host} ] || exit 9\necho '{{\"Username\":\"user\",\"Secret\":\"secret-word\"}}'"
        ),
    );
    helper("identity", "echo '{\"Username\":\"<token>\",\"Secret\":\"secret-identity\"}'");
    helper("none", "echo 'credentials not found in native keychain'; exit 1");
    helper("bad", "echo secret-word; echo 'the vault is locked' >&2; exit 1");
    helper("noise", "head -c 100000 /dev/zero");
    helper("odd", "echo secret-word");
    let path = format!("{}:/usr/bin:/bin", bench.path("bin").display());
    let file = bench.path("auth.json");
    let run = |config: serde_json::Value| {
        fs::write(&file, config.to_string()).unwrap();
        let environment = [("PATH", path.as_str()), ("REGISTRY_AUTH_FILE", file.to_str().unwrap())];
        inspect(&bench, &registry, &environment)
    };
    run(json!({"credHelpers": {host.as_str(): "good"}})).ok();
    run(json!({"credsStore": "identity"})).ok();
    let pair = dmoci::base64::encode(b"user:secret-word");
    run(json!({"credsStore": "none", "auths": {host.as_str(): {"auth": pair}}})).ok();
    let denied = run(json!({"credsStore": "none"})).exits(6).stderr;
    assert!(denied.contains("E-REGISTRY-DENIED"), "{denied}");
    for (name, why) in [
        ("bad", "the vault is locked"),
        ("noise", "larger than 65536 bytes"),
        ("odd", "not that of a helper"),
        ("absent", "docker-credential-absent"),
    ] {
        let error = run(json!({"credHelpers": {host.as_str(): name}})).exits(6).stderr;
        assert!(error.contains("error[E-REGISTRY-HELPER]") && error.contains(why), "{name}: {error}");
    }
}

#[test]
fn credentials_go_to_their_origin_only() {
    let other = Server::start(|_| Reply::ok(b"elsewhere"));
    let target = other.url("/blob");
    let layout = Sample::small().layout();
    let registry = Registry::with(move |asked, reply| match asked.target.contains("/blobs/") {
        true => Reply::redirect(307, &target),
        false => reply,
    });
    registry.load(layout.path(), "acme/app", "1.0");
    registry.content.lock().unwrap().door = Door::Basic("user:secret-word".into());
    let bench = Bench::new();
    let file = bench.path("auth.json");
    let pair = dmoci::base64::encode(b"user:secret-word");
    fs::write(&file, auths(&registry.host(), json!({"auth": pair}))).unwrap();
    let run = inspect(&bench, &registry, &[("REGISTRY_AUTH_FILE", file.to_str().unwrap())]);
    // What came is not what the digest names.
    run.exits(1);
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.header("authorization").is_none()));
}

/// A registry elsewhere, behind the proxy that this server plays, sends for a token into this machine's own network, and to where
/// nothing is encrypted.
#[test]
fn realms_where_nothing_is_sent() {
    let inside = Server::start(|_| Reply::ok(br#"{"token":"x"}"#));
    for (realm, why) in [
        (inside.url("/token"), "in a private network"),
        ("https://169.254.169.254/token".to_owned(), "in a private network"),
        ("https://localhost/token".to_owned(), "in a private network"),
        ("http://auth.example/token".to_owned(), "not encrypted"),
        ("https://user:pw@auth.example/token".to_owned(), "a user and a password"),
        ("ftp://auth.example/".to_owned(), "no address"),
    ] {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"");
        let proxy = Server::start(move |_| Reply::new("401 Unauthorized", &[&challenge], b""));
        let bench = Bench::new();
        let file = bench.path("auth.json");
        let pair = dmoci::base64::encode(b"user:secret-word");
        fs::write(&file, auths("registry.example", json!({"auth": pair}))).unwrap();
        let address = format!("http://127.0.0.1:{}", proxy.port());
        let environment = [("REGISTRY_AUTH_FILE", file.to_str().unwrap()), ("http_proxy", address.as_str())];
        let run = bench.run_with(&["inspect", "--plain-http", "registry.example/a:1"], &environment);
        let run = silent(run).exits(6);
        assert!(
            run.stderr.contains("error[E-REGISTRY-REALM]") && run.stderr.contains(why),
            "{realm}: {}",
            run.stderr
        );
    }
    assert_eq!(inside.asked().len(), 0);
}
