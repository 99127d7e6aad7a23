//! Mirrors that `registries.conf` names: asked first, for what is read, and believed in nothing that has a digest.

use std::fs;

use serde_json::json;

use super::{Bench, tree};
use crate::support::Run;
use crate::support::registry::{Door, Registry, error};
use crate::support::server::{Asked, Reply};
use crate::verify::Sample;

/// A bench whose file says this.
fn bench(conf: &str) -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("registries.conf"), conf).unwrap();
    bench
}

fn run(bench: &Bench, arguments: &[&str]) -> Run {
    let (conf, auth) = (bench.path("registries.conf"), bench.path("auth.json"));
    let auth = if auth.exists() { auth } else { "/dev/null".into() };
    let environment = [
        ("CONTAINERS_REGISTRIES_CONF", conf.to_str().unwrap()),
        ("REGISTRY_AUTH_FILE", auth.to_str().unwrap()),
    ];
    bench.run_with(arguments, &environment)
}

/// Of `HOST` its mirror `MIRROR/m`.
fn conf(registry: &Registry, mirror: &str, more: &str) -> String {
    let host = registry.host();
    format!("[[registry]]\nlocation = \"{host}\"\n[[registry.mirror]]\nlocation = \"{mirror}/m\"\n{more}\n")
}

/// A registry and its mirror, with the same image.
fn both(fault: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> (Registry, Registry) {
    let layout = Sample::two_platforms().layout();
    let (registry, mirror) = (Registry::start(), Registry::with(fault));
    registry.load(layout.path(), "app", "1.0");
    mirror.load(layout.path(), "m/app", "1.0");
    (registry, mirror)
}

fn got_it_all(bench: &Bench) {
    let layout = Sample::two_platforms().layout();
    assert_eq!(contents(&bench.path("got")), contents(layout.path()));
}

fn contents(layout: &std::path::Path) -> Vec<Vec<u8>> {
    tree(&layout.join("blobs")).into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_mirror_is_asked_first_and_told_its_own_credentials() {
    let (registry, mirror) = both(|_, reply| reply);
    let bench = bench(&conf(&registry, &mirror.host(), ""));
    registry.content.lock().unwrap().door = Door::Basic("user:of-the-registry".into());
    mirror.content.lock().unwrap().door = Door::Basic("user:of-the-mirror".into());
    let pair = |text: &str| dmoci::base64::encode(text.as_bytes());
    let auths = json!({"auths": {
        registry.host(): {"auth": pair("user:of-the-registry")}, mirror.host(): {"auth": pair("user:of-the-mirror")}}});
    fs::write(bench.path("auth.json"), auths.to_string()).unwrap();
    let subject = format!("docker://{}/app:1.0", registry.host());
    run(&bench, &["pull", &subject, "-o", "got"]).ok();
    got_it_all(&bench);
    // Of the registry only what refers to the image is asked, also under cosign's older tags.
    let others = registry.asked("/manifests/") - registry.asked("/manifests/sha256-");
    assert_eq!((others, registry.asked("/blobs/")), (0, 0));
    assert!(registry.asked("/referrers/") >= 3 && mirror.asked("/referrers/") >= 3, "it lists none");
    assert_eq!((mirror.asked("/manifests/1.0"), mirror.asked("/blobs/")), (1, 6));
    for (asked, other) in [(&registry, "user:of-the-mirror"), (&mirror, "user:of-the-registry")] {
        let told =
            |asked: &Asked| asked.header("authorization").is_some_and(|key| key.contains(&pair(other)));
        assert!(!asked.server.asked().iter().any(told));
    }
    // Nothing is written to it.
    let to = format!("docker://{}/app:2.0", registry.host());
    let before = mirror.server.asked().len();
    run(&bench, &["push", "got", &to]).ok();
    assert_eq!(mirror.server.asked().len(), before);
}

type Fault = fn(&Asked, Reply) -> Reply;

#[test]
fn a_mirror_that_does_not_do_is_passed_over() {
    let faults: [(&str, Fault); 5] = [
        ("does not have it", |_, _| error("404 Not Found", "UNKNOWN")),
        ("is broken", |_, _| error("500 Internal Server Error", "UNKNOWN")),
        ("denies it", |_, _| error("403 Forbidden", "DENIED")),
        ("gives other bytes", |asked, reply| match asked.target.contains("sha256:") {
            true => Reply::new("200 OK", &[], &vec![b'x'; reply.body().len()]),
            false => reply,
        }),
        ("has no blobs", |asked, reply| match asked.target.contains("/blobs/") {
            true => error("404 Not Found", "BLOB_UNKNOWN"),
            false => reply,
        }),
    ];
    for (what, fault) in faults {
        let (registry, mirror) = both(fault);
        let bench = bench(&conf(&registry, &mirror.host(), ""));
        let subject = format!("docker://{}/app:1.0", registry.host());
        let said = run(&bench, &["pull", &subject, "-o", "got"]).ok().stderr;
        got_it_all(&bench);
        assert!(said.contains("Passing over the mirror"), "{what}: {said}");
        assert!(!mirror.server.asked().is_empty() && registry.asked("/blobs/") == 6, "{what}");
    }
    // One that is not there at all.
    let (registry, mirror) = both(|_, reply| reply);
    let gone = mirror.host();
    drop(mirror);
    let bench = bench(&conf(&registry, &gone, ""));
    let said =
        run(&bench, &["pull", &format!("docker://{}/app:1.0", registry.host()), "-o", "got"]).ok().stderr;
    got_it_all(&bench);
    assert_eq!(said.matches("Passing over the mirror").count(), 1, "{said}");
}

#[test]
fn without_the_registry_its_mirror_will_do() {
    let (registry, mirror) = both(|_, reply| reply);
    let bench = bench(&conf(&registry, &mirror.host(), ""));
    let subject = format!("docker://{}/app:1.0", registry.host());
    drop(registry);
    let said = run(&bench, &["pull", &subject, "-o", "got"]).ok().stderr;
    got_it_all(&bench);
    assert!(said.contains("its mirrors list no referrers"), "{said}");
}

#[test]
fn who_is_asked_what_a_tag_is() {
    for (more, of_tag, of_blobs) in [
        ("pull-from-mirror = \"digest-only\"", "registry", "mirror"),
        ("pull-from-mirror = \"tag-only\"", "mirror", "registry"),
        ("pull-from-mirror = \"all\"", "mirror", "mirror"),
    ] {
        let (registry, mirror) = both(|_, reply| reply);
        let bench = bench(&conf(&registry, &mirror.host(), more));
        run(&bench, &["pull", &format!("docker://{}/app:1.0", registry.host()), "-o", "got"]).ok();
        got_it_all(&bench);
        let who = |text: &str| match (registry.asked(text), mirror.asked(text)) {
            (_, 0) => "registry",
            (0, _) => "mirror",
            _ => "both",
        };
        assert_eq!((who("/manifests/1.0"), who("/blobs/sha256:")), (of_tag, of_blobs), "{more}");
    }
}

#[test]
fn other_places_and_blocked_ones() {
    let (registry, other) = both(|_, reply| reply);
    let host = registry.host();
    let bench = bench(&format!(
        "[[registry]]\nprefix = \"r.example/x\"\nlocation = \"{}/m\"\n[[registry]]\nlocation = \"{host}\"\nblocked = true\n",
        other.host()
    ));
    run(&bench, &["pull", "docker://r.example/x/app:1.0", "-o", "got"]).ok();
    got_it_all(&bench);
    run(&bench, &["push", "got", "docker://r.example/x/app:2.0"]).ok();
    assert_eq!(other.asked("PUT /v2/m/app/manifests/2.0"), 1);
    for arguments in [["inspect", "SUBJECT"], ["tags", "SUBJECT"]] {
        let subject = match arguments[0] {
            "tags" => format!("docker://{host}/app"),
            _ => format!("docker://{host}/app:1.0"),
        };
        let refused = run(&bench, &[arguments[0], &subject]).exits(2).stderr;
        assert!(
            refused.contains("error[E-REGISTRY-BLOCKED]") && refused.contains("registries.conf"),
            "{refused}"
        );
    }
    assert_eq!(registry.server.asked().len(), 0);
    fs::write(bench.path("registries.conf"), "[[registry]]\nlocation = 1\n").unwrap();
    let damaged = run(&bench, &["inspect", "docker://r.example/x/app:1.0"]).exits(2).stderr;
    assert!(damaged.contains("error[E-REGISTRIES-CONF]") && damaged.contains("registries.conf"), "{damaged}");
}
