//! The build cache of several machines: what one made, others take, when a key that they trust has signed it.

use std::path::Path;

use dmoci::oci::json;
use dmoci_layers::Digest;

use crate::support::layers::digests;
use crate::support::registry::{Registry, error};
use crate::support::{Project, Run};

const SPEC: &str = "schema = 1\n[image]\nname = \"registry.example/app\"\ntags = [\"1\"]\nplatforms = [\"linux/amd64\"]\n\
    [[layer]]\nname = \"one\"\ncopy = [{ from = [\"one\"], to = \"/one\" }]\n\
    [[layer]]\nname = \"two\"\ncopy = [{ from = [\"two\"], to = \"/two\", substitute = { \"NAME\" = \"km\", \"NOBODY\" = \"x\" } }]\n";

/// The same project on another machine: other inodes, other times, another cache.
fn machine() -> Project {
    let project =
        Project::with_spec(SPEC).file("one/a", "a\n".repeat(5000)).file("two/b", "b NAME\n".repeat(900));
    project.settle();
    project
}

/// Two key pairs, `a` and `b`.
fn keys() -> Project {
    let keys = Project::new();
    for name in ["a", "b"] {
        run(&keys, &["key", "generate", "--output-prefix", name]).ok();
    }
    keys
}

fn run(project: &Project, arguments: &[&str]) -> Run {
    let mut command = crate::support::dmoci();
    command.args(arguments).current_dir(project.root()).env("XDG_CACHE_HOME", project.cache());
    Run::of(command.env("COSIGN_PASSWORD", ""))
}

fn build(project: &Project, place: &str, how: &str, key: &Path) -> Run {
    let (option, with) = match how {
        "to" => ("--cache-to", "--cache-sign-key"),
        _ => ("--cache-from", "--cache-verify-key"),
    };
    run(project, &["build", "-v", option, place, with, key.to_str().unwrap()])
}

fn image(project: &Project) -> String {
    digests(&project.path("dist"))["image"]["digest"].as_str().unwrap().to_owned()
}

fn place(registry: &Registry) -> String {
    format!("docker://{}/team/cache", registry.host())
}

#[test]
fn others_take_what_one_has_made() {
    let (keys, registry) = (keys(), Registry::start());
    let public = keys.path("a.pub");
    let first = machine();
    let given = build(&first, &place(&registry), "to", &keys.path("a.key")).ok().stderr;
    assert!(given.contains("2 of 2 layers"), "{given}");
    let second = machine();
    let (uploads, blobs) = (registry.asked("POST "), registry.asked("GET /v2/team/cache/blobs/"));
    let taken = build(&second, &place(&registry), "from", &keys.path("a.pub")).ok().stderr;
    assert_eq!(taken.matches("Taking a layer of").count(), 2, "{taken}");
    assert!(taken.contains("Taking 2 of 2 layers from docker://"), "{taken}");
    assert!(taken.contains("Unchanged linux/amd64: one, two") || taken.contains("one, two"), "{taken}");
    // What the one who made it was told is told here, too.
    assert!(taken.contains("\"NOBODY\""), "{taken}");
    assert_eq!((image(&first), registry.asked("GET /v2/team/cache/blobs/")), (image(&second), blobs + 2));
    second.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    // It is asked for anew, and whether the key is trusted then; the blob is here already.
    let again = build(&second, &place(&registry), "from", &keys.path("a.pub")).ok().stderr;
    assert_eq!(again.matches("Taking a layer of").count(), 2, "{again}");
    assert_eq!(registry.asked("GET /v2/team/cache/blobs/"), blobs + 2);
    let other = build(&second, &place(&registry), "from", &keys.path("b.pub")).ok().stderr;
    assert!(
        other.contains("Taking 0 of 2") && other.contains("signed by none of the trusted keys"),
        "{other}"
    );
    let given = build(&second, &place(&registry), "to", &keys.path("a.key")).ok().stderr;
    assert!(given.contains("0 of 2 layers") && registry.asked("POST ") == uploads, "{given}");

    // A changed file is another layer.
    second.write("one/a", "other\n");
    second.settle();
    let third = build(&second, &place(&registry), "from", &keys.path("a.pub")).ok().stderr;
    assert!(!third.contains("Taking a layer") && third.contains("Taking 0 of 1 layer from"), "{third}");
    // A mistyped name is noticed without -v.
    let (fourth, nowhere) = (machine(), place(&registry).replace("cache", "cahce"));
    let arguments = ["build", "--cache-from", &nowhere, "--cache-verify-key", public.to_str().unwrap()];
    let said = run(&fourth, &arguments).ok().stderr;
    assert!(said.contains(&format!("Taking 0 of 2 layers from {nowhere}")), "{said}");
    assert_ne!(image(&first), image(&second));
}

#[test]
fn only_what_a_trusted_key_has_signed_is_taken() {
    let (keys, registry) = (keys(), Registry::start());
    let first = machine();
    build(&first, &place(&registry), "to", &keys.path("a.key")).ok();
    let second = machine();
    let refused = build(&second, &place(&registry), "from", &keys.path("b.pub")).ok().stderr;
    assert!(
        refused.contains("warning:") && refused.contains("signed by none of the trusted keys"),
        "{refused}"
    );
    assert_eq!((image(&first), registry.asked("GET /v2/team/cache/blobs/")), (image(&second), 0));

    // Whoever can write there puts the layer of one key in the place of the other: it is signed, but about something else.
    {
        let mut content = registry.content.lock().unwrap();
        let tags: Vec<_> =
            content.manifests.keys().filter(|(_, name)| name.starts_with("layer-")).cloned().collect();
        let [one, two] = tags.as_slice() else { panic!("{tags:?}") };
        let (a, b) = (content.manifests[one].clone(), content.manifests[two].clone());
        content.manifests.insert(one.clone(), b);
        content.manifests.insert(two.clone(), a);
    }
    let third = machine();
    let refused = build(&third, &place(&registry), "from", &keys.path("a.pub")).ok().stderr;
    assert_eq!(
        refused
            .matches("of 2 layers is signed by none of the trusted keys, or is about something else")
            .count(),
        1,
        "{refused}"
    );
    assert_eq!(image(&first), image(&third));
}

#[test]
fn whatever_is_changed_there_the_image_is_right() {
    let keys = keys();
    let first = machine();
    let good = Registry::start();
    build(&first, &place(&good), "to", &keys.path("a.key")).ok();
    let manifests: Vec<_> = {
        let content = good.content.lock().unwrap();
        content
            .manifests
            .iter()
            .filter(|((_, name), _)| name.starts_with("layer-"))
            .map(|(_, m)| m.1.clone())
            .collect()
    };
    // Whatever is changed in what is signed: every 40th byte of the envelope.
    let manifest = String::from_utf8(manifests[0].clone()).unwrap();
    let start = manifest.find("dev.dmoci.cache.record").unwrap();
    for at in (start..manifest.len()).step_by(40) {
        let mut bytes = manifests[0].clone();
        bytes[at] ^= 1;
        let broken = Registry::start();
        copy(&good, &broken, |blob| blob.to_vec());
        for (_, there) in broken.content.lock().unwrap().manifests.values_mut() {
            if *there == manifests[0] {
                *there = bytes.clone();
            }
        }
        let project = machine();
        build(&project, &place(&broken), "from", &keys.path("a.pub")).ok();
        assert_eq!(image(&first), image(&project), "byte {at}");
    }
    // Other bytes under the digest of the blob.
    let broken = Registry::start();
    copy(&good, &broken, |blob| {
        let mut blob = blob.to_vec();
        if let Some(last) = blob.last_mut() {
            *last ^= 1;
        }
        blob
    });
    let project = machine();
    let said = build(&project, &place(&broken), "from", &keys.path("a.pub")).ok().stderr;
    assert!(said.contains("is not used"), "{said}");
    assert_eq!(image(&first), image(&project));
}

fn copy(from: &Registry, to: &Registry, change: impl Fn(&[u8]) -> Vec<u8>) {
    let from = from.content.lock().unwrap();
    let mut to = to.content.lock().unwrap();
    to.manifests = from.manifests.clone();
    to.blobs = from.blobs.iter().map(|(digest, blob)| (digest.clone(), change(blob))).collect();
}

#[test]
fn a_cache_that_fails_is_none() {
    let keys = keys();
    let plain = machine();
    plain.dmoci(&["build"]).ok();
    let refusing = Registry::with(|_, _| error("403 Forbidden", "DENIED"));
    for (how, key) in [("from", "a.pub"), ("to", "a.key")] {
        let project = machine();
        let said = build(&project, &place(&refusing), how, &keys.path(key)).ok().stderr;
        assert!(
            said.contains("warning: the build cache docker://") && said.contains("is not used"),
            "{said}"
        );
        assert_eq!(image(&plain), image(&project));
    }
}

#[test]
fn keys_are_asked_for_and_what_is_no_repository_is_refused() {
    let (keys, project) = (keys(), machine());
    let place = "docker://registry.example/team/cache";
    let from = run(&project, &["build", "--cache-from", place]).exits(2).stderr;
    assert!(from.contains("error[E-CACHE-KEY]") && from.contains("--cache-verify-key"), "{from}");
    let to = run(&project, &["build", "--cache-to", place]).exits(2).stderr;
    assert!(to.contains("error[E-CACHE-KEY]") && to.contains("--cache-sign-key"), "{to}");
    let key = keys.path("a.pub");
    for (place, why) in
        [("oci:x", "registry host"), ("docker://registry.example/a:1", "only the name is expected")]
    {
        let arguments = ["build", "--cache-from", place, "--cache-verify-key", key.to_str().unwrap()];
        let said = run(&project, &arguments).exits(2).stderr;
        assert!(said.contains(why), "{said}");
    }
    assert!(!project.path("dist").exists());
}

/// What was taken by one key does not go on under another, and does not stay when nobody trusts that key any more.
#[test]
fn what_was_taken_is_not_given_on() {
    let (keys, one, two) = (keys(), Registry::start(), Registry::start());
    build(&machine(), &place(&one), "to", &keys.path("a.key")).ok();
    let middle = machine();
    let (from, to, key) = (place(&one), place(&two), keys.path("b.key"));
    let trusted = keys.path("a.pub");
    let mut arguments =
        vec!["build", "-v", "--cache-from", &from, "--cache-verify-key", trusted.to_str().unwrap()];
    arguments.extend(["--cache-to", &to, "--cache-sign-key", key.to_str().unwrap()]);
    let said = run(&middle, &arguments).ok().stderr;
    assert!(said.contains("Taking") && said.contains("0 of 0 layers"), "{said}");
    assert!(!two.content.lock().unwrap().manifests.keys().any(|(_, name)| name.starts_with("layer-")));
    // Without the cache the layers are made here, and are this machine's own.
    let own = middle.dmoci(&["build", "-v"]).ok().stderr;
    assert!(!own.contains("Unchanged"), "{own}");
    let given = build(&middle, &to, "to", &key).ok().stderr;
    assert!(given.contains("2 of 2 layers"), "{given}");
}

/// One that answers, and then says nothing more, holds no build up.
#[test]
fn a_silent_cache_is_left_alone() {
    use crate::support::server::End;
    let (keys, good) = (keys(), Registry::start());
    build(&machine(), &place(&good), "to", &keys.path("a.key")).ok();
    let slow = Registry::with(|asked, reply| match asked.target.contains("/blobs/") {
        true => reply.ends(End::Silent(10)),
        false => reply,
    });
    copy(&good, &slow, |blob| blob.to_vec());
    let project = machine();
    let said = build(&project, &place(&slow), "from", &keys.path("a.pub")).ok().stderr;
    assert!(said.contains("is not used"), "{said}");
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
}

/// The second of two builds takes nothing, nor does the first.
#[test]
fn building_twice_takes_nothing() {
    let (keys, registry) = (keys(), Registry::start());
    build(&machine(), &place(&registry), "to", &keys.path("a.key")).ok();
    let (project, key) = (machine(), keys.path("a.pub"));
    let arguments = [
        "build",
        "-v",
        "--twice",
        "--cache-from",
        &place(&registry),
        "--cache-verify-key",
        key.to_str().unwrap(),
    ];
    let said = run(&project, &arguments).ok().stderr;
    assert!(!said.contains("Taking"), "{said}");
    assert_eq!(registry.asked("GET /v2/team/cache/blobs/"), 0);
}

/// What is under a tag is a manifest that any registry and any client takes.
#[test]
fn an_entry_is_an_oci_artifact() {
    let (keys, registry) = (keys(), Registry::start());
    build(&machine(), &place(&registry), "to", &keys.path("a.key")).ok();
    let content = registry.content.lock().unwrap();
    let entries: Vec<_> =
        content.manifests.iter().filter(|((_, name), _)| name.starts_with("layer-")).collect();
    assert_eq!(entries.len(), 2);
    for (_, (media_type, bytes)) in entries {
        let value = json::parse(bytes).unwrap();
        assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(value["artifactType"], "application/vnd.dmoci.cache.layer.v1+json");
        for blob in [&value["config"], &value["layers"][0]] {
            let digest = blob["digest"].as_str().unwrap();
            assert_eq!(Digest::sha256(&content.blobs[digest]).to_string(), digest);
        }
    }
}
