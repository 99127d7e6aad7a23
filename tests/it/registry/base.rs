//! Bases in registries: pinned once, fetched once, and the same image as on the same base from a layout.

use std::fs;
use std::path::Path;

use dmoci::oci::{json, media_type};
use serde_json::{Value, json};

use crate::support::layers::{config, digests, manifest};
use crate::support::registry::Registry;
use crate::support::server::Reply;
use crate::support::{Project, Run};

const PLATFORMS: &str = "platforms = [\"linux/amd64\", \"linux/arm64\"]";

/// A project whose image others stand on.
pub(super) fn base(mark: &str) -> Project {
    let project = Project::with_spec(&format!(
        "schema = 1\n[image]\nname = \"registry.example/base\"\ntags = [\"1\"]\n{PLATFORMS}\n\
         env = {{ PATH = \"/usr/bin:/bin\", MARK = \"{mark}\" }}\n\
         [[layer]]\nname = \"root\"\n\
         directory = [{{ path = \"/usr/lib\", mode = \"0750\", owner = \"7:8\" }}, {{ path = \"/tmp\", mode = \"1777\" }}]\n\
         symlink = [{{ path = \"/lib\", target = \"usr/lib\" }}]\n\
         file = [{{ path = \"/etc/passwd\", content = \"root:x:0:0::/:/bin/sh\\n\" }},\n\
                 {{ path = \"/etc/group\", content = \"root:x:0:\\n\" }},\n\
                 {{ path = \"/etc/mark\", content = \"{mark} ${{platform.oci}}\\n\" }}]\n\
         [[layer]]\nname = \"more\"\nfile = [{{ path = \"/usr/bin/tool\", content = \"#!/bin/sh\\n\", mode = \"0755\" }}]\n"
    ));
    project.dmoci(&["build"]).ok();
    project
}

/// What stands on it: of a symbolic link, parents, users, what is changed and what is taken away.
pub(super) fn above(base: &str, more: &str) -> String {
    format!(
        "schema = 1\n[image]\n{PLATFORMS}\nbase = \"{base}\"\n{more}\n\
         users = [{{ name = \"km\", uid = 10001 }}]\n\
         env = {{ PATH = \"/opt/bin:${{base.PATH}}\" }}\nentrypoint = [\"tool\"]\n\
         [[layer]]\nname = \"app\"\nremove = [\"/tmp\"]\nadjust = [{{ path = \"/usr/bin/*\", mode = \"0700\" }}]\n\
         file = [{{ path = \"/lib/app/main\", content = \"main\\n\" }}]\n"
    )
}

const SAME_NAME: &str = "annotations = { \"org.opencontainers.image.base.name\" = \"the base\" }";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

fn pins(project: &Project) -> Vec<toml::Table> {
    let lock: toml::Table = fs::read_to_string(project.path("dmoci.lock")).unwrap().parse().unwrap();
    let of = |platform: &toml::Value| platform["base"].as_array().unwrap()[0].as_table().unwrap().clone();
    lock["platform"].as_table().unwrap().values().map(of).collect()
}

#[test]
fn it_gives_the_image_of_the_same_base_in_a_layout() {
    let base = base("one");
    let registry = Registry::start();
    let index = registry.load(&base.path("dist/image"), "acme/base", "1");
    let here = Project::with_spec(&above("oci:base:1", SAME_NAME));
    copy(&base.path("dist/image"), &here.path("base"));
    here.dmoci(&["build"]).ok();
    let there = Project::with_spec(&above(&format!("docker://{}/acme/base:1", registry.host()), SAME_NAME));
    let run = there.dmoci(&["build"]).ok();
    assert!(run.stderr.contains("Added base") && run.stderr.contains("first use"), "{}", run.stderr);
    assert!(run.stderr.contains("nothing but dmoci.lock says"), "{}", run.stderr);
    let image = |project: &Project| digests(&project.path("dist"))["image"].clone();
    assert_eq!(image(&here), image(&there));
    there.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    // Each blob was asked for once.
    let blobs = registry.asked("/blobs/sha256:");
    assert_eq!(
        (registry.asked("/manifests/1"), blobs),
        (1, 2 * 3 - 1),
        "one layer is that of both platforms"
    );
    let pins = pins(&there);
    assert_eq!(pins.len(), 2);
    for pin in &pins {
        assert_eq!(pin["index"].as_str(), Some(index.hex()));
        assert_eq!(pin["name"].as_str(), Some(&*format!("{}/acme/base:1", registry.host())));
    }
    // Without `dist`, without the build cache and without the network the same comes of what was fetched.
    fs::remove_dir_all(there.path("dist")).unwrap();
    let asked = registry.server.asked().len();
    there.dmoci(&["build", "--offline", "--locked", "--no-cache"]).ok();
    assert_eq!(image(&here), image(&there));
    there.dmoci(&["build", "--locked", "--twice"]).ok();
    assert_eq!(image(&here), image(&there));
    assert_eq!(registry.server.asked().len(), asked);
    // What is not said of the name is what the spec says.
    let named = Project::with_spec(&above(&format!("{}/acme/base@{index}", registry.host()), ""));
    named.dmoci(&["build"]).ok();
    let annotations = manifest(&named.path("dist"))["annotations"].clone();
    let name = format!("{}/acme/base@{index}", registry.host());
    assert_eq!(annotations["org.opencontainers.image.base.name"], name);
    assert_eq!(config(&named.path("dist")), config(&here.path("dist")));
    let lock = fs::read_to_string(named.path("dmoci.lock")).unwrap();
    assert!(lock.contains("authenticated = \"spec\""), "{lock}");
}

#[test]
fn a_tag_that_moved_is_not_followed() {
    let (one, two) = (base("one"), base("two"));
    let registry = Registry::start();
    registry.load(&one.path("dist/image"), "acme/base", "1");
    let host = registry.host();
    let spec = above(&format!("docker://{host}/acme/base:1"), "");
    let one_platform = spec.replace(", \"linux/arm64\"", "");
    let project = Project::with_spec(&one_platform);
    let missing = project.dmoci(&["build", "--locked"]).exits(2).stderr;
    let words = ["error[E-LOCK-MISSING]", "the base ", "linux/amd64", "dmoci.toml:4", "run `dmoci lock`"];
    assert!(words.iter().all(|word| missing.contains(word)), "{missing}");
    let checked = project.dmoci(&["check"]).ok().stderr;
    assert!(checked.contains("lacks 1 entry") && !project.path("dmoci.lock").exists(), "{checked}");
    project.dmoci(&["lock"]).ok();
    assert_eq!(registry.asked("/blobs/"), 1 + 2, "`check` looked into both layers, `lock` into none");
    let mark = |project: &Project| {
        project.dmoci(&["build", "--locked"]).ok();
        config(&project.path("dist"))["config"]["Env"].as_array().unwrap().contains(&"MARK=one".into())
    };
    assert!(mark(&project));
    // Another image has the tag now; a second platform still gets what the first one got.
    registry.load(&two.path("dist/image"), "acme/base", "1");
    assert!(mark(&project));
    project.write("dmoci.toml", &spec);
    project.dmoci(&["build", "--locked"]).exits(2);
    let before = pins(&project);
    project.dmoci(&["lock"]).ok();
    let both = pins(&project);
    assert_eq!((both.len(), &both[0]), (2, &before[0]));
    assert_eq!(both[0]["index"], both[1]["index"]);
    let asked = registry.server.asked().len();
    project.dmoci(&["lock"]).ok();
    assert_eq!(registry.server.asked().len(), asked, "nothing is asked that is pinned");
    assert!(mark(&project));
    for name in ["base", &format!("docker://{host}/acme/base:1"), &format!("{host}/acme/base")] {
        let updated = project.dmoci(&["lock", "--update", name]).ok().stderr;
        assert_eq!(updated.contains("Updated base"), name == "base", "{updated}");
    }
    assert!(!mark(&project));
    let unknown = project.dmoci(&["lock", "--update", "bass"]).exits(2).stderr;
    assert!(unknown.contains("did you mean `base`?"), "{unknown}");
    // What is pinned is gone from the registry, and from here.
    let pinned = format!("sha256:{}", pins(&project)[0]["sha256"].as_str().unwrap());
    registry.content.lock().unwrap().manifests.retain(|(_, name), _| *name != pinned);
    fs::remove_dir_all(project.cache()).unwrap();
    let gone = project.dmoci(&["build", "--locked"]).exits(6).stderr;
    assert!(gone.contains("E-REGISTRY-MISSING") && gone.contains("dmoci lock --update base"), "{gone}");
    let offline = project.dmoci(&["build", "--offline"]).exits(6).stderr;
    assert!(offline.contains("E-OFFLINE") && offline.contains(&pinned), "{offline}");
    // An edit is noticed.
    let lock = fs::read_to_string(project.path("dmoci.lock")).unwrap();
    project.write("dmoci.lock", lock.replacen("size = ", "size = 1", 1));
    assert!(project.dmoci(&["build"]).exits(1).stderr.contains("E-LOCK-EDITED"));
    let lacking = project.dmoci(&["lock", "--update", "base"]).exits(1).stderr;
    assert!(lacking.contains("the registry lacks the image for linux/amd64 that it lists"), "{lacking}");
    registry.load(&one.path("dist/image"), "acme/base", "1");
    project.dmoci(&["lock", "--update", "base"]).ok();
    // A base that is not there any more takes its pins along.
    project.write("dmoci.toml", spec.replace("base = ", "#").replace("${base.PATH}", "/bin"));
    let removed = project.dmoci(&["lock"]).ok().stderr;
    assert!(removed.contains("Removed base"), "{removed}");
}

/// As `docker push` has them: schema 2 under a manifest list, with what is no image beside.
#[test]
fn dockers_types() {
    let base = base("one");
    let registry = Registry::start();
    registry.load(&base.path("dist/image"), "acme/base", "oci");
    let list = {
        let mut content = registry.content.lock().unwrap();
        let manifests: Vec<Value> =
            content.manifests.values().filter_map(|(_, bytes)| json::parse(bytes).ok()).collect();
        let index = manifests.iter().find(|value| value.get("manifests").is_some()).unwrap();
        let mut listed = Vec::new();
        for entry in index["manifests"].as_array().unwrap() {
            let digest = entry["digest"].as_str().unwrap().to_owned();
            let bytes = content.manifests[&("acme/base".to_owned(), digest)].1.clone();
            let text = String::from_utf8(bytes).unwrap();
            let text = text
                .replace(media_type::MANIFEST, media_type::DOCKER_MANIFEST)
                .replace(media_type::CONFIG, media_type::DOCKER_CONFIG)
                .replace(media_type::LAYER_GZIP, media_type::DOCKER_LAYER_GZIP);
            let mut manifest = json::parse(text.as_bytes()).unwrap();
            manifest.as_object_mut().unwrap().remove("annotations");
            let digest = content.put("acme/base", &manifest);
            listed.push(json!({"mediaType": media_type::DOCKER_MANIFEST, "digest": digest.to_string(),
                               "size": json::canonical(&manifest).len(), "platform": entry["platform"]}));
        }
        listed.push(
            json!({"mediaType": media_type::DOCKER_MANIFEST, "digest": format!("sha256:{}", "0".repeat(64)),
                           "size": 2, "platform": {"os": "unknown", "architecture": "unknown"}}),
        );
        let list = content.put(
            "acme/base",
            &json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_INDEX, "manifests": listed}),
        );
        content.tag("acme/base", "docker", &list.to_string());
        list
    };
    let project = Project::with_spec(&above(&format!("{}/acme/base:docker", registry.host()), SAME_NAME));
    project.dmoci(&["build"]).ok();
    assert_eq!(pins(&project)[0]["index"].as_str(), Some(list.hex()));
    let manifest = manifest(&project.path("dist"));
    let types: Vec<_> =
        manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["mediaType"]).collect();
    assert!(types.len() == 4 && types.iter().all(|one| **one == media_type::LAYER_GZIP), "{types:?}");
    let other = Project::with_spec(&above(&format!("{}/acme/base:oci", registry.host()), SAME_NAME));
    other.dmoci(&["build"]).ok();
    // But for the digest of what they stand on they are the same.
    assert_eq!(config(&project.path("dist")), config(&other.path("dist")));
    let spec =
        above(&format!("{}/acme/base:docker", registry.host()), "").replace("linux/arm64", "linux/s390x");
    let none = Project::with_spec(&spec).dmoci(&["build"]).exits(1).stderr;
    let words =
        ["error[E-BASE]", "no image for linux/s390x", "it has: linux/amd64, linux/arm64", "dmoci.toml:4"];
    assert!(words.iter().all(|word| none.contains(word)), "{none}");
}

#[test]
fn what_is_wrong_with_it_is_said_and_nothing_is_written() {
    let base = base("one");
    let layer = {
        let digests = digests(&base.path("dist"));
        digests["platforms"][0]["layers"][0]["digest"].as_str().unwrap().to_owned()
    };
    let damaged = layer.clone();
    let registry = Registry::with(move |asked, reply| match asked.target.ends_with(&damaged) {
        true => Reply::file(asked, None, b"something else"),
        false => reply,
    });
    registry.load(&base.path("dist/image"), "acme/base", "1");
    let project = Project::with_spec(&above(&format!("{}/acme/base:1", registry.host()), ""));
    let wrong: Run = project.dmoci(&["build"]).exits(1);
    assert!(wrong.stderr.contains("error[E-FETCH-DIGEST]"), "{}", wrong.stderr);
    assert!(!project.path("dist").exists() && !project.path("dmoci.lock").exists());
    let missing = Project::with_spec(&above(&format!("{}/acme/base:2", registry.host()), ""));
    for command in ["build", "lock", "check"] {
        let error = missing.dmoci(&[command]).exits(6).stderr;
        let words = ["E-REGISTRY-MISSING", "there are the tags 1", "dmoci.toml:4"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
