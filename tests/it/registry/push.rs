//! Images into registries: everything before its tag, once, and on through every fault.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dmoci::oci::media_type;
use dmoci_layers::{Compression, Digest, Hasher};
use serde_json::json;

use super::lists::about;
use super::{Bench, tree};
use crate::support::registry::{Door, Registry, error};
use crate::support::server::{Asked, Reply, Server};
use crate::verify::Sample;

fn blobs(layout: &Path) -> Vec<Vec<u8>> {
    tree(&layout.join("blobs")).into_iter().map(|(_, bytes)| bytes).collect()
}

/// All that a registry was asked to change.
fn writes(registry: &Registry) -> usize {
    ["POST ", "PUT ", "PATCH ", "DELETE "].iter().map(|method| registry.asked(method)).sum()
}

fn strict(fault: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Registry {
    let registry = Registry::with(fault);
    registry.content.lock().unwrap().links = Some(Default::default());
    registry
}

#[test]
fn an_image_goes_as_it_is_and_only_once() {
    let layout = Sample::two_platforms().layout();
    let (registry, bench) = (strict(|_, reply| reply), Bench::new());
    let (from, to) = (layout.path().to_str().unwrap(), format!("docker://{}/acme/app:1.0", registry.host()));
    // Nothing yet.
    let dry = bench.run(&["push", "--dry-run", from, &to]).ok();
    assert!(dry.stderr.contains("3 manifests and 6 blobs"), "{}", dry.stderr);
    assert_eq!(writes(&registry), 0);

    let run = bench.run(&["push", from, &to]).ok();
    let digest = Sample::two_platforms().root()["digest"].as_str().unwrap().to_owned();
    assert_eq!(run.stdout, format!("image  {to}  {digest}\n").replacen("image", "image   ", 1));
    bench.run(&["pull", &to, "-o", "got"]).ok();
    assert_eq!(blobs(&bench.path("got")), blobs(layout.path()));

    // What is there is not sent: a question, an answer and the tag.
    let before = (registry.server.asked().len(), writes(&registry));
    let to = format!("docker://{}/acme/app:1.1", registry.host());
    bench.run(&["push", from, &to]).ok();
    let asked = registry.server.asked().len() - before.0;
    // The first try for TLS is a connection, not a request.
    assert!(asked <= 3, "{asked} requests");
    assert_eq!(writes(&registry) - before.1, 1);
}

/// Two platforms with twenty layers each: another configuration, under the same tag, under a new one, and beside `latest`.
#[test]
fn layers_that_are_there_cost_few_requests() {
    let image = |user: &str| {
        let mut sample = Sample::default();
        let mut manifests = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let layers: Vec<_> = (0..20)
                .map(|number| {
                    let text = format!("{architecture} {number}");
                    ("layer", sample.layer(Compression::Gzip, &[("file", text.as_bytes())]))
                })
                .collect();
            let mut manifest = sample.image(architecture, &layers);
            if user != "one" {
                let value = dmoci::oci::json::parse(&sample.blobs[&manifest.digest]).unwrap();
                let config: Digest = value["config"]["digest"].as_str().unwrap().parse().unwrap();
                let mut config = dmoci::oci::json::parse(&sample.blobs[&config]).unwrap();
                config["config"]["User"] = user.into();
                let config = sample.put(media_type::CONFIG, dmoci::oci::json::canonical(&config));
                let mut value = value;
                value["config"] = config.to_value();
                let platform = manifest.platform.take();
                manifest = sample.put(media_type::MANIFEST, dmoci::oci::json::canonical(&value));
                manifest.platform = platform;
            }
            manifests.push(manifest.to_value());
        }
        let index = json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests});
        let root = sample.put(media_type::INDEX, dmoci::oci::json::canonical(&index));
        sample.name(root);
        sample.layout()
    };
    let (registry, bench) = (strict(|_, reply| reply), Bench::new());
    let push = |user: &str, tag: &str| {
        let (layout, before) = (image(user), registry.server.asked().len());
        let to = format!("docker://{}/app:{tag}", registry.host());
        let run = bench.run(&["push", layout.path().to_str().unwrap(), &to]).ok();
        (registry.server.asked().len() - before, run.stderr)
    };
    push("one", "1.0");
    for (user, tag) in [("two", "1.0"), ("three", "1.1"), ("four", "0.9"), ("five", "latest"), ("six", "2.0")]
    {
        let (asked, said) = push(user, tag);
        assert!(said.contains("3 manifests and 2 blobs"), "{tag}: {said}");
        assert!(asked < 2 * 10, "{tag}: {asked} requests");
    }
    // All of it, under another tag.
    assert!(push("six", "3.0").0 <= 3);
}

#[test]
fn one_platform_and_by_digest() {
    let layout = Sample::two_platforms().layout();
    let (registry, bench) = (strict(|_, reply| reply), Bench::new());
    let from = layout.path().to_str().unwrap();
    let to = format!("docker://{}/app:arm", registry.host());
    let pushed = bench.run(&["push", from, &to, "--platform", "linux/arm64"]).ok().stdout;
    let digest = pushed.split_whitespace().last().unwrap();
    let named = format!("docker://{}/other@{digest}", registry.host());
    bench.run(&["push", from, &named, "--platform", "linux/arm64"]).ok();
    assert_eq!(registry.asked("PUT /v2/other/manifests/"), 1, "no tag");
    let wrong = bench.run(&["push", from, &named]).exits(2).stderr;
    assert!(wrong.contains("error[E-PUSH-TO]"), "{wrong}");
    let local = bench.run(&["push", from, "oci:x"]).exits(2).stderr;
    assert!(local.contains("error[E-PUSH-TO]"), "{local}");
}

#[test]
fn between_repositories_of_one_registry_blobs_are_taken_over() {
    for refused in [false, true] {
        let layout = Sample::two_platforms().layout();
        let (registry, bench) = (strict(|_, reply| reply), Bench::new());
        registry.load(layout.path(), "a", "1");
        {
            let mut content = registry.content.lock().unwrap();
            content.no_mount = refused;
            content.door = Door::Token(registry.server.url("/token"));
        }
        let file = bench.path("auth.json");
        let pair = dmoci::base64::encode(b"user:secret-word");
        fs::write(&file, json!({"auths": {registry.host(): {"auth": pair}}}).to_string()).unwrap();
        let environment = [("REGISTRY_AUTH_FILE", file.to_str().unwrap())];
        let (a, b) =
            (format!("docker://{}/a:1", registry.host()), format!("docker://{}/b:2", registry.host()));
        bench.run_with(&["copy", &a, &b], &environment).ok();
        // Configurations are read to know the image; layers are not.
        let (read, sent) =
            (registry.asked("GET /v2/a/blobs/sha256:"), registry.asked("PUT /v2/b/blobs/uploads/"));
        assert_eq!((read, sent), if refused { (6, 6) } else { (2, 0) }, "refused: {refused}");
        bench.run_with(&["diff", &a, &b], &environment).ok();
    }
}

#[test]
fn what_refers_to_an_image_goes_with_it() {
    for old in [false, true] {
        let source = super::lists::registry(false);
        let (target, bench) = (strict(|_, reply| reply), Bench::new());
        target.content.lock().unwrap().old = old;
        let from = format!("docker://{}/app:1.0", source.host());
        let to = format!("docker://{}/moved:1.0", target.host());
        bench.run(&["copy", &from, &to]).ok();
        let lists = target.asked("PUT /v2/moved/manifests/sha256-");
        assert_eq!(lists, if old { 4 } else { 0 });
        for (subject, output) in [(&from, "a"), (&to, "b")] {
            bench.run(&["pull", subject, "-o", output]).ok();
        }
        let texts = blobs(&bench.path("b"));
        for text in ["one", "two", "three", "deep"] {
            assert!(texts.iter().any(|bytes| bytes == text.as_bytes()), "old {old}: {text}");
        }
        // Again: all is there, and listed once.
        bench.run(&["copy", "b", &to]).ok();
        assert_eq!(target.asked("PUT /v2/moved/manifests/sha256-"), lists);
    }
}

/// A list says of something that it refers to the image, and it refers to another one at the destination.
#[test]
fn what_refers_to_another_image_does_not_come_along() {
    let other = Sample::two_platforms();
    let victim = other.root();
    let mut hostile = Sample::small();
    let root = hostile.root();
    hostile.put("text/plain", b"hostile".to_vec());
    hostile.put("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let subject =
        json!({"mediaType": victim["mediaType"], "digest": victim["digest"], "size": victim["size"]});
    let stray = hostile.put(media_type::MANIFEST, dmoci::oci::json::canonical(&about(&subject, "hostile")));
    let subject = json!({"mediaType": root["mediaType"], "digest": root["digest"], "size": root["size"]});
    let right = hostile.put(media_type::MANIFEST, dmoci::oci::json::canonical(&about(&subject, "hostile")));
    let list = dmoci::store::registry::list(&[stray.clone(), right.clone()]);
    let list = hostile.put(media_type::INDEX, list);
    let tag = root["digest"].as_str().unwrap().replace(':', "-");
    let named = list.clone().annotate("org.opencontainers.image.ref.name", tag.as_str());
    hostile.foreign_index(&[root, named.to_value()]);
    let layout = hostile.layout();
    let source = Registry::start();
    source.load(layout.path(), "hs", "x");
    let mut content = source.content.lock().unwrap();
    content.old = true;
    content.tag("hs", &tag, &list.digest.to_string());
    drop(content);
    let from = format!("docker://{}/hs:x", source.host());
    let warned = |stderr: &str| {
        let told = stderr.contains("warning") && stderr.contains("it is left out");
        assert!(told && stderr.contains(&stray.digest.to_string()), "{stderr}");
    };
    let bench = Bench::new();
    for old in [false, true] {
        for (from, command) in [(&*from, "copy"), (layout.path().to_str().unwrap(), "push")] {
            let registry = Registry::start();
            registry.content.lock().unwrap().old = old;
            registry.load(other.layout().path(), "dst", "release");
            let run = bench.run(&[command, from, &format!("docker://{}/dst:x", registry.host())]).ok();
            warned(&run.stderr);
            let content = registry.content.lock().unwrap();
            let has = |name: String| content.manifests.contains_key(&("dst".into(), name));
            let lists = victim["digest"].as_str().unwrap().replace(':', "-");
            assert!(has(right.digest.to_string()), "{command}, old {old}");
            assert!(!has(stray.digest.to_string()) && !has(lists), "{command}, old {old}");
        }
    }
    for (i, from) in [&*from, layout.path().to_str().unwrap()].into_iter().enumerate() {
        let to = format!("got{i}");
        warned(&bench.run(&["pull", from, "-o", &to]).ok().stderr);
        let blob = |digest: &Digest| bench.path(&to).join("blobs/sha256").join(digest.hex()).exists();
        assert_eq!((blob(&right.digest), blob(&stray.digest)), (true, false), "{from}");
        bench.run(&["verify", "--integrity-only", &to]).ok();
    }
}

#[test]
fn tags_move_when_every_destination_has_everything() {
    let layout = Sample::small().layout();
    let bench = Bench::new();
    let good = strict(|_, reply| reply);
    let bad = strict(|asked, reply| match asked.method == "PUT" && asked.target.contains("/manifests/") {
        true => error("403 Forbidden", "DENIED"),
        false => reply,
    });
    let to = |registry: &Registry| format!("docker://{}/app:1.0", registry.host());
    let from = layout.path().to_str().unwrap();
    let run = bench.run(&["push", from, &to(&good), &to(&bad)]).exits(6);
    for part in ["error[E-REGISTRY-DENIED]", "write the manifest sha256:", &bad.host(), "403 (DENIED"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert_eq!(good.asked("PUT /v2/app/manifests/1.0"), 0);
    assert_eq!(good.asked("PUT /v2/app/manifests/sha256:"), 1);
}

/// 150 MiB that no compression makes smaller, as one layer.
fn large() -> Sample {
    let mut bytes = vec![0u8; 150 << 20];
    let mut state = 1u64;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        chunk.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes()[..chunk.len()]);
    }
    let mut hasher = Hasher::sha256();
    hasher.update(&bytes);
    Sample::with_layer(bytes, Compression::None, hasher.finish())
}

#[test]
fn a_large_blob_goes_on_where_it_was() {
    let sample = large();
    let layout = sample.layout();
    let size: u64 = 150 << 20;
    // The second piece never comes through, in the first run.
    let broken = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&broken);
    let registry = strict(move |asked, reply| {
        let second = asked.method == "PATCH" && asked.target.ends_with(&format!("state=s{}", 64 << 20));
        match second && switch.load(Ordering::SeqCst) == 1 {
            true => error("400 Bad Request", "BLOB_UPLOAD_INVALID"),
            false => reply,
        }
    });
    let bench = Bench::new();
    let to = format!("docker://{}/app:1.0", registry.host());
    let from = layout.path().to_str().unwrap();
    bench.run(&["push", from, &to]).exits(6);
    broken.store(0, Ordering::SeqCst);
    bench.run(&["push", from, &to]).ok();
    assert!(registry.asked("POST ") <= 2, "one upload of each blob");
    let content = registry.content.lock().unwrap();
    assert!(content.taken <= size * 11 / 10, "{} bytes sent", content.taken);
    let digest = sample.blobs.iter().find(|(_, bytes)| bytes.len() as u64 == size).unwrap().0;
    assert_eq!(Digest::sha256(&content.blobs[&digest.to_string()]), *digest);
}

#[test]
fn uploads_elsewhere_are_told_nothing() {
    let other = Server::start(|_| Reply::new("201 Created", &[], b""));
    let layout = Sample::small().layout();
    let registry = strict(|_, reply| reply);
    {
        let mut content = registry.content.lock().unwrap();
        content.door = Door::Basic("user:secret-word".into());
        content.elsewhere = other.url("");
    }
    let bench = Bench::new();
    let file = bench.path("auth.json");
    let pair = dmoci::base64::encode(b"user:secret-word");
    fs::write(&file, json!({"auths": {registry.host(): {"auth": pair}}}).to_string()).unwrap();
    let to = format!("docker://{}/app:1.0", registry.host());
    let environment = [("REGISTRY_AUTH_FILE", file.to_str().unwrap())];
    // The blobs went elsewhere, so the registry refuses the manifest.
    bench.run_with(&["push", layout.path().to_str().unwrap(), &to], &environment).exits(6);
    let asked = other.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn eight_at_once() {
    let registry = strict(|_, reply| reply);
    let to = format!("docker://{}/app", registry.host());
    let samples: Vec<Sample> = (0..8)
        .map(|number: u8| {
            let mut sample = Sample::default();
            let own = sample.layer(Compression::Gzip, &[("own", &[number])]);
            let shared = sample.layer(Compression::Gzip, &[("shared", b"x")]);
            let root = sample.image("amd64", &[("own", own), ("shared", shared)]);
            sample.name(root);
            sample
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, sample) in samples.iter().enumerate() {
            let to = &to;
            scope.spawn(move || {
                let (layout, bench) = (sample.layout(), Bench::new());
                let tag = format!("{to}:t{}", number % 2);
                bench.run(&["push", layout.path().to_str().unwrap(), &tag]).ok();
            });
        }
    });
    let bench = Bench::new();
    for tag in ["t0", "t1"] {
        bench.run(&["verify", "--integrity-only", &format!("{to}:{tag}")]).ok();
    }
    for sample in samples {
        let digest = sample.root()["digest"].as_str().unwrap().to_owned();
        bench.run(&["verify", &format!("{to}@{digest}")]).ok();
    }
}

/// A blob is hashed on its way: the end of one that is damaged never goes.
#[test]
fn a_damaged_blob_does_not_arrive() {
    for sample in [Sample::small(), large()] {
        let layout = sample.layout();
        let largest = sample.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
        let mut bytes = largest.1.clone();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(layout.blob(largest.0), &bytes).unwrap();
        let (registry, bench) = (strict(|_, reply| reply), Bench::new());
        let to = format!("docker://{}/app:1.0", registry.host());
        let run = bench.run(&["push", layout.path().to_str().unwrap(), &to]).exits(1);
        assert!(
            run.stderr.contains("error[E-DIGEST]") && run.stderr.contains(largest.0.hex()),
            "{}",
            run.stderr
        );
        let content = registry.content.lock().unwrap();
        assert!(content.manifests.is_empty());
        let wrong = Digest::sha256(&bytes).to_string();
        assert!(!content.blobs.contains_key(&wrong) && !content.blobs.contains_key(&largest.0.to_string()));
    }
}
