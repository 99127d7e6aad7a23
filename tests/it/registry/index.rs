//! `index create`: what several machines built becomes what one would have.

use dmoci::oci::{json, media_type};
use dmoci_layers::Compression;
use serde_json::{Value, json as value};

use super::Bench;
use crate::support::registry::Registry;
use crate::verify::Sample;

/// An image for one processor.
fn single(architecture: &str) -> Sample {
    let mut sample = Sample::default();
    let layer = sample.layer(Compression::Gzip, &[("app/on", architecture.as_bytes())]);
    let root = sample.image(architecture, &[("app", layer)]);
    sample.name(root);
    sample
}

fn index_of(registry: &Registry, tag: &str) -> Value {
    let content = registry.content.lock().unwrap();
    json::parse(&content.manifests[&("app".into(), tag.into())].1).unwrap()
}

#[test]
fn the_index_is_the_one_of_a_build_for_all_platforms() {
    let bench = Bench::new();
    let spec = |platforms: &str| {
        format!(
            "schema = 1\n[image]\nname = \"registry.example/app\"\ntags = [\"1.0\"]\nplatforms = [{platforms}]\n\
             annotations = {{ \"example.key\" = \"v\" }}\n[[layer]]\nname = \"a\"\n\
             file = [{{ path = \"/on\", content = \"${{platform.oci}}\\n\" }}]\n"
        )
    };
    let mut digests = Vec::new();
    for (name, platforms) in [
        ("both", "\"linux/amd64\", \"linux/arm/v7\""),
        ("amd64", "\"linux/amd64\""),
        ("arm", "\"linux/arm/v7\""),
    ] {
        std::fs::create_dir_all(bench.path(name)).unwrap();
        std::fs::write(bench.path(name).join("dmoci.toml"), spec(platforms)).unwrap();
        let built = bench.run(&["build", "-C", name]).ok().stdout;
        digests.push(
            built
                .lines()
                .find(|line| line.starts_with("image"))
                .unwrap()
                .split_whitespace()
                .last()
                .unwrap()
                .to_owned(),
        );
    }
    let registry = Registry::start();
    for name in ["amd64", "arm"] {
        bench
            .run(&[
                "push",
                &format!("{name}/dist/image"),
                &format!("docker://{}/app:{name}", registry.host()),
            ])
            .ok();
    }
    let (a, b) = (format!("docker://{}/app:amd64", registry.host()), "arm/dist/image");
    let to = format!("docker://{}/app:1.0", registry.host());
    // Nothing yet.
    let before = registry.asked("PUT ");
    let dry = bench.run(&["index", "create", &a, b, "--to", &to, "--to", "oci:none:1.0", "--dry-run"]).ok();
    assert_eq!((registry.asked("PUT "), bench.path("none").exists()), (before, false));
    let made = bench
        .run(&["index", "create", &a, b, "--to", &to, "--to", "oci:got:1.0", "--to", "oci-archive:got.tar"])
        .ok();
    let last = |text: &str| text.lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
    assert_eq!(
        (last(&made.stdout), last(&dry.stdout)),
        (digests[0].clone(), digests[0].clone()),
        "{}",
        made.stdout
    );
    assert!(
        made.stdout.starts_with("manifest  linux/amd64") && made.stdout.contains("manifest  linux/arm/v7")
    );
    for subject in [&to, "got", "oci:got:1.0", "got.tar"] {
        bench.run(&["verify", "--integrity-only", subject]).ok();
        bench.run(&["diff", subject, "both/dist/image"]).ok();
    }
}

#[test]
fn manifests_of_others_stay_as_they_are() {
    let (registry, bench) = (Registry::start(), Bench::new());
    registry.load(single("arm64").layout().path(), "app", "arm64");
    // Docker's types, and an index with an attestation of buildx.
    let mut sample = single("amd64");
    let digest: dmoci_layers::Digest = sample.root()["digest"].as_str().unwrap().parse().unwrap();
    let docker = String::from_utf8(sample.blobs[&digest].clone())
        .unwrap()
        .replace(media_type::MANIFEST, media_type::DOCKER_MANIFEST)
        .replace(media_type::CONFIG, media_type::DOCKER_CONFIG)
        .replace(media_type::LAYER_GZIP, media_type::DOCKER_LAYER_GZIP);
    let docker = sample.put(media_type::DOCKER_MANIFEST, format!(" {docker}\n").into_bytes());
    let config = sample.put(
        media_type::CONFIG,
        br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#
            .to_vec(),
    );
    let attestation = sample.put(media_type::MANIFEST, json::canonical(&value!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config.to_value(), "layers": []})));
    let attested = value!({"mediaType": media_type::MANIFEST, "digest": attestation.digest.to_string(), "size": attestation.size,
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.digest": docker.digest.to_string(), "vnd.docker.reference.type": "attestation-manifest"}});
    let index = value!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [
        {"mediaType": media_type::DOCKER_MANIFEST, "digest": docker.digest.to_string(), "size": docker.size, "platform": {"os": "linux", "architecture": "amd64"}}, attested]});
    let root = sample.put(media_type::INDEX, json::canonical(&index));
    sample.name(root);
    let layout = sample.layout();
    let to = format!("docker://{}/app:all", registry.host());
    let arm = format!("docker://{}/app:arm64", registry.host());
    let local = layout.path().to_str().unwrap();
    bench
        .run(&[
            "index",
            "create",
            local,
            &arm,
            local,
            "--to",
            &to,
            "--annotation",
            "a=b",
            "--annotation",
            "org.opencontainers.image.version=",
        ])
        .ok();
    let made = index_of(&registry, "all");
    let listed = made["manifests"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0], &listed[1]), (3, &index["manifests"][0], &attested));
    assert_eq!(listed[2]["platform"], value!({"os": "linux", "architecture": "arm64"}));
    assert_eq!(made["annotations"], value!({"a": "b", "dev.dmoci.rules": "1"}));
    bench.run(&["verify", "--integrity-only", &to]).ok();
}

#[test]
fn two_images_for_one_platform_are_an_error() {
    let (registry, bench) = (Registry::start(), Bench::new());
    registry.load(single("arm64").layout().path(), "app", "a");
    let mut other = Sample::default();
    let layer = other.layer(Compression::Gzip, &[("app/on", b"other")]);
    let root = other.image("arm64", &[("app", layer)]);
    other.name(root);
    let layout = other.layout();
    let (a, b) = (format!("docker://{}/app:a", registry.host()), layout.path().to_str().unwrap());
    let to = format!("docker://{}/app:1.0", registry.host());
    let run = bench.run(&["index", "create", &a, b, "--to", &to]).exits(2);
    for part in ["error[E-INDEX-TWICE]", "linux/arm64", &a, b] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert_eq!(registry.asked("PUT "), 0);
    // An index that says of an image what it is not.
    let mut liar = single("amd64");
    let mut said = liar.root();
    said["platform"] = value!({"os": "linux", "architecture": "s390x"});
    said.as_object_mut().unwrap().remove("annotations");
    let root = liar.put(
        media_type::INDEX,
        json::canonical(&value!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [said]})),
    );
    liar.name(root);
    let layout = liar.layout();
    let run = bench.run(&["index", "create", layout.path().to_str().unwrap(), "--to", &to]).exits(1);
    assert!(
        run.stderr.contains("error[E-INDEX-PLATFORM]") && run.stderr.contains("linux/s390x"),
        "{}",
        run.stderr
    );
    for to in ["docker-archive:x.tar", "docker-daemon:x"] {
        let run = bench.run(&["index", "create", b, "--to", to]).exits(2);
        assert!(run.stderr.contains("error[E-INDEX-TO]"), "{}", run.stderr);
    }
}

#[test]
fn what_refers_to_the_images_comes_along() {
    for old in [false, true] {
        let (source, bench) = (super::lists::registry(old), Bench::new());
        let target = Registry::start();
        target.content.lock().unwrap().links = Some(Default::default());
        target.content.lock().unwrap().old = !old;
        let layout = single("arm64").layout();
        let from = format!("docker://{}/app:1.0", source.host());
        let to = format!("docker://{}/app:all", target.host());
        bench
            .run(&["index", "create", &from, layout.path().to_str().unwrap(), "--to", &to, "--to", "got"])
            .ok();
        bench.run(&["pull", &to, "-o", "pulled"]).ok();
        for (output, blobs) in [("got", bench.path("got/blobs")), ("pulled", bench.path("pulled/blobs"))] {
            let texts: Vec<_> = super::tree(&blobs).into_iter().map(|(_, bytes)| bytes).collect();
            for text in ["one", "two", "three", "deep"] {
                assert!(texts.iter().any(|bytes| bytes == text.as_bytes()), "old {old}, {output}: {text}");
            }
        }
    }
}

/// All that the configuration says counts: a descriptor of an index may not say something else, nor less.
#[test]
fn an_index_says_what_the_configuration_says() {
    let bench = Bench::new();
    let own = value!({"os": "linux", "architecture": "arm", "variant": "v6", "os.version": "1", "os.features": ["a", "b"]});
    let short = value!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    for (own, name, said, fits) in [
        (&own, "variant", value!("v6"), true),
        (&own, "variant", value!("v7"), false),
        (&own, "variant", Value::Null, false),
        (&own, "os.version", value!("2"), false),
        (&own, "os.version", Value::Null, false),
        (&own, "os.features", value!(["b", "a"]), true),
        (&own, "os.features", value!(["a"]), false),
        (&short, "variant", Value::Null, true),
        (&short, "variant", value!("v9"), false),
        (&short, "os.version", value!("2"), true),
    ] {
        let mut sample = Sample::default();
        let mut config = own.clone();
        config["rootfs"] = value!({"type": "layers", "diff_ids": []});
        let config = sample.put(media_type::CONFIG, json::canonical(&config));
        let manifest = value!({"schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config.to_value(), "layers": []});
        let manifest = sample.put(media_type::MANIFEST, json::canonical(&manifest));
        let mut listed = manifest.to_value();
        listed["platform"] = own.clone();
        match said.is_null() {
            true => {
                listed["platform"].as_object_mut().unwrap().remove(name);
            }
            false => listed["platform"][name] = said.clone(),
        }
        let index = value!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [listed]});
        let root = sample.put(media_type::INDEX, json::canonical(&index));
        sample.name(root);
        let layout = sample.layout();
        let run = ["index", "create", layout.path().to_str().unwrap(), "--to", "oci:none", "--dry-run"];
        let run = bench.run(&run);
        match fits {
            true => drop(run.ok()),
            false => assert!(run.exits(1).stderr.contains("error[E-INDEX-PLATFORM]"), "{name}: {said}"),
        }
    }
}
