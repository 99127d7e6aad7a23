//! `dmoci build --push`: only what the registry lacks is made and sent, and tags come last.

use std::collections::BTreeSet;
use std::fs;

use dmoci::oci::json;

use super::base::{above, base};
use crate::support::layers::digests;
use crate::support::registry::Registry;
use crate::support::{Project, Run};

/// A registry that knows which repository has which blob.
fn strict() -> Registry {
    let registry = Registry::start();
    registry.content.lock().unwrap().links = Some(BTreeSet::new());
    registry
}

fn named(registry: &Registry, base: &str) -> String {
    let name = format!("name = \"{}/acme/app\"\ntags = [\"1.0\", \"latest\"]", registry.host());
    above(base, &name)
}

/// Digests of the layers, those of the base or the others, each once.
fn layers(project: &Project, base: bool) -> BTreeSet<String> {
    let digests = digests(&project.path("dist"));
    let layers =
        digests["platforms"].as_array().unwrap().iter().flat_map(|one| one["layers"].as_array().unwrap());
    let layers = layers.filter(|layer| layer["base"] == base);
    layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn is_here(project: &Project, digest: &str) -> bool {
    project.path("dist/image/blobs").join(digest.replace(':', "/")).exists()
}

fn pushed(run: &Run, registry: &Registry, digest: &str) {
    for tag in ["1.0", "latest"] {
        let line = format!("docker://{}/acme/app:{tag}", registry.host());
        assert!(run.stdout.lines().any(|one| one.contains(&line) && one.ends_with(digest)), "{}", run.stdout);
    }
}

#[test]
fn only_what_the_registry_lacks_is_made_and_sent() {
    let base = base("one");
    let registry = strict();
    registry.load(&base.path("dist/image"), "acme/base", "1");
    let spec = named(&registry, &format!("{}/acme/base:1", registry.host()));
    let project = Project::with_spec(&spec);
    project.dmoci(&["lock"]).ok();
    let whole = Project::with_spec(&spec).file("dmoci.lock", fs::read(project.path("dmoci.lock")).unwrap());
    whole.dmoci(&["build", "--locked"]).ok();
    project.settle();
    let before = registry.server.asked().len();
    let run = project.dmoci(&["build", "--locked", "--push"]).ok();
    let digest = digests(&project.path("dist"))["image"]["digest"].as_str().unwrap().to_owned();
    pushed(&run, &registry, &digest);
    for file in ["digests.json", "build.log"] {
        let read = |project: &Project| fs::read(project.path("dist").join(file)).unwrap();
        assert_eq!(read(&project), read(&whole), "{file}");
    }
    // Layers of the base are taken over; configurations and layers of the image's own are sent, each once.
    let (below, own) = (layers(&project, true), layers(&project, false));
    let asked: Vec<String> = registry.server.asked()[before..]
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.target))
        .collect();
    let count = |text: &str| asked.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        (count("mount=sha256:"), count("PUT /v2/acme/app/blobs/uploads/")),
        (below.len(), own.len() + 2)
    );
    assert!(below.iter().all(|layer| count(&format!("mount={layer}&from=acme/base")) == 1), "{asked:#?}");
    assert!(run.stderr.contains(&format!("{} blobs taken over", below.len())), "{}", run.stderr);
    let tags: Vec<&String> = asked.iter().rev().take(2).collect();
    assert!(tags.iter().all(|line| line.starts_with("PUT /v2/acme/app/manifests/")), "{asked:#?}");
    assert!(tags[0].ends_with("/latest") && tags[1].ends_with("/1.0"), "{asked:#?}");
    assert!(
        below.iter().all(|layer| !is_here(&project, layer))
            && own.iter().all(|layer| is_here(&project, layer))
    );
    // It is whole there.
    let there = format!("docker://{}/acme/app@{digest}", registry.host());
    project.dmoci(&["verify", &there]).ok();
    let here = whole.path("dist/image").display().to_string();
    project.dmoci(&["diff", &there, &here]).ok();

    // What is here alone cannot go elsewhere.
    let other = format!("docker://{}/other/app:1", registry.host());
    for arguments in
        [&["push", "dist/image", &other][..], &["export", "dist/image", "-o", "oci-archive:x.tar"]]
    {
        let sparse = project.dmoci(arguments).exits(1).stderr;
        assert!(
            sparse.contains("error[E-BLOB-MISSING]") && sparse.contains("a layout of `dmoci build --push`"),
            "{sparse}"
        );
    }
    let files = project.dmoci(&["inspect", "--files", "dist/image"]).exits(1).stderr;
    assert!(files.contains("a layout of `dmoci build --push`"), "{files}");
    let verified = project.dmoci(&["verify", "dist/image"]).exits(1).stdout;
    assert!(
        verified.contains("help: ") && verified.contains("a layout of `dmoci build --push`"),
        "{verified}"
    );
    let line = format!(
        "lacks {} of {} layers, which the registry has: linux/",
        below.len(),
        below.len() + own.len()
    );
    assert!(run.stderr.contains(&line), "{}", run.stderr);

    // Again, without `dist` and without the blobs of the cache: what they were is known, and the registry has them.
    fs::remove_dir_all(project.path("dist")).unwrap();
    fs::remove_dir_all(project.cache().join("dmoci/build-1/blobs")).unwrap();
    let before = registry.server.asked().len();
    let run = project.dmoci(&["-v", "build", "--locked", "--push"]).ok();
    pushed(&run, &registry, &digest);
    assert!(
        run.stderr.contains("Unchanged") && run.stderr.contains("0 manifests and 0 blobs"),
        "{}",
        run.stderr
    );
    let later = &registry.server.asked()[before..];
    let wrote = later.iter().filter(|asked| asked.method == "PUT" || asked.method == "PATCH").count();
    let got = later.iter().filter(|asked| asked.method == "GET" && asked.target.contains("/blobs/")).count();
    assert_eq!((wrote, got), (2, 0), "the two tags");
    assert!(below.iter().chain(&own).all(|layer| !is_here(&project, layer)));
    // A build that does not push makes and fetches what is not here.
    project.dmoci(&["build", "--locked"]).ok();
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    assert_eq!(digests(&project.path("dist")), digests(&whole.path("dist")));
    // Without the cache all is made, and nothing sent.
    let again = project.dmoci(&["build", "--locked", "--push", "--no-cache"]).ok().stderr;
    assert!(again.contains("0 manifests and 0 blobs"), "{again}");
}

#[test]
fn layers_of_a_base_elsewhere_go_straight_there() {
    let base = base("one");
    let (from, to) = (strict(), strict());
    from.load(&base.path("dist/image"), "acme/base", "1");
    let project = Project::with_spec(&named(&to, &format!("{}/acme/base:1", from.host())));
    project.dmoci(&["build", "--push"]).ok();
    let below = layers(&project, true);
    assert!(below.iter().all(|layer| from.asked(&format!("GET /v2/acme/base/blobs/{layer}")) == 1));
    assert!(below.iter().all(|layer| !is_here(&project, layer)));
    assert_eq!(to.asked("PUT /v2/acme/app/blobs/uploads/"), below.len() + layers(&project, false).len() + 2);
    assert_eq!(to.asked("mount="), 0);
    project.dmoci(&["verify", "--integrity-only", &format!("docker://{}/acme/app:latest", to.host())]).ok();
    // With another own layer nothing is asked of the base's registry: it may be gone.
    project.write(
        "dmoci.toml",
        named(&to, &format!("{}/acme/base:1", from.host())).replace("main\\n", "other\\n"),
    );
    let asked = from.server.asked().len();
    project.dmoci(&["build", "--locked", "--push"]).ok();
    assert!(from.server.asked()[asked..].iter().all(|asked| asked.target == "/v2/"));
    project.dmoci(&["verify", "--integrity-only", &format!("docker://{}/acme/app:latest", to.host())]).ok();
    // Where they are needed, it is said which registry has them.
    from.content.lock().unwrap().door = crate::support::registry::Door::Basic("somebody:else".into());
    let spec = named(&to, &format!("{}/acme/base:1", from.host())).replace("acme/app", "acme/third");
    project.write("dmoci.toml", spec);
    fs::remove_dir_all(project.cache().join("dmoci/downloads")).unwrap();
    let denied = project.dmoci(&["build", "--locked", "--push"]).exits(6).stderr;
    assert!(denied.contains("acme/base") && denied.contains(&from.host()), "{denied}");
    assert_eq!(to.asked("PUT /v2/acme/third/manifests/"), 0);
}

#[test]
fn it_goes_with_twice_and_json_and_without_a_base() {
    let base = base("one");
    let registry = strict();
    registry.load(&base.path("dist/image"), "acme/base", "1");
    let project = Project::with_spec(&named(&registry, &format!("{}/acme/base:1", registry.host())));
    let run = project.dmoci(&["build", "--twice", "--push", "--json"]).ok();
    let printed = json::parse(run.stdout.trim().as_bytes()).unwrap();
    assert_eq!(printed, digests(&project.path("dist")));
    assert!(run.stderr.contains("Compared") && run.stderr.contains("taken over"), "{}", run.stderr);
    assert!(!run.stderr.contains("Sparse"), "{}", run.stderr);
    // Whoever compares needs all of it.
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    let digest = printed["image"]["digest"].as_str().unwrap();
    project.dmoci(&["verify", &format!("docker://{}/acme/app@{digest}", registry.host())]).ok();

    let scratch = Project::with_spec(&format!(
        "schema = 1\n[image]\nname = \"{}/other/app\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         [[layer]]\nname = \"a\"\nfile = [{{ path = \"/a\", content = \"a\" }}]\n\
         [[layer]]\nname = \"b\"\nfile = [{{ path = \"/b\", content = \"b\" }}]\n",
        registry.host()
    ));
    let run = scratch.dmoci(&["build", "--push", "--platform", "linux/arm64"]).ok();
    assert!(run.stderr.contains("1 manifest and 3 blobs"), "{}", run.stderr);
    scratch
        .dmoci(&["verify", "--integrity-only", &format!("docker://{}/other/app:latest", registry.host())])
        .ok();
}

#[test]
fn what_hinders_it_is_said_before_anything_is_made() {
    let unnamed = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n";
    let project = Project::with_spec(unnamed);
    let error = project.dmoci(&["build", "--push"]).exits(2).stderr;
    assert!(
        error.contains("error[E-PUSH-NAME]") && error.contains("help: ") && error.contains("name = "),
        "{error}"
    );
    let error = project.dmoci(&["build", "--push", "--offline"]).exits(2).stderr;
    assert!(error.contains("--push") && error.contains("--offline"), "{error}");
    // A server that is no registry.
    let server = crate::support::server::Server::start(|_| {
        crate::support::server::Reply::new("404 Not Found", &[], b"")
    });
    let name = format!("{unnamed}name = \"127.0.0.1:{}/x\"\n", server.port());
    project.write("dmoci.toml", name);
    let error = project.dmoci(&["build", "--push"]).exits(6).stderr;
    assert!(error.contains("error[E-REGISTRY]"), "{error}");
    assert!(!project.path("dist").exists());
    // One that lets nobody in, and one that lets everybody read and nobody write.
    let shut = Registry::start();
    shut.content.lock().unwrap().door = crate::support::registry::Door::Basic("somebody:else".into());
    let reads = Registry::between(
        |asked| (asked.method == "POST").then(|| crate::support::registry::error("403 Forbidden", "DENIED")),
        |_, reply| reply,
        |_| None,
    );
    for registry in [&shut, &reads] {
        project.write("dmoci.toml", format!("{unnamed}name = \"{}/x\"\n", registry.host()));
        let run = project.dmoci(&["build", "--push"]).exits(6);
        assert!(run.stderr.contains("error[E-REGISTRY-DENIED]") && run.stdout.is_empty(), "{}", run.stderr);
        assert!(!project.path("dist").exists() && !run.stderr.contains("Writing"), "{}", run.stderr);
    }
}
