//! Signatures, both ways: cosign, OpenSSL, Sigstore's JavaScript client, a registry between them, and no network at all.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::registries::{Registry, example};
use crate::support::fault;
use crate::support::{Place, command, dmoci, exits, have, run};

/// A place with a pair of dmoci's and a pair of cosign's, both with the password `word`.
fn keys() -> Place {
    let place = Place::new();
    let path = |name: &str| place.path(name);
    run(signing(dmoci().arg("key").arg("generate").arg("--output-prefix").arg(path("ours"))));
    run(cosign(&["generate-key-pair", "--output-key-prefix"]).arg(path("theirs")));
    place
}

fn signing(command: &mut Command) -> &mut Command {
    command.env("COSIGN_PASSWORD", "word")
}

fn cosign(arguments: &[&str]) -> Command {
    let mut cosign = command("cosign");
    // It asks nobody for anything.
    cosign.args(arguments).env("COSIGN_PASSWORD", "word").env("COSIGN_YES", "true");
    cosign
}

/// Without any service.
const ALONE: &[&str] = &["--tlog-upload=false", "--use-signing-config=false"];
const PAIRS: [&str; 2] = ["ours", "theirs"];

#[test]
fn files_both_ways() {
    if !have(&["cosign", "openssl"]) {
        return;
    }
    let place = keys();
    let path = |name: &str| place.path(name);
    fs::write(path("SHA256SUMS"), "0000  x\n").unwrap();
    fs::write(path("other"), "other").unwrap();
    for pair in PAIRS {
        let (key, public) = (path(&format!("{pair}.key")), path(&format!("{pair}.pub")));
        // dmoci signs with either key; cosign, OpenSSL and dmoci verify.
        let _ = fs::remove_file(path("SHA256SUMS.sigstore.json"));
        run(signing(dmoci().arg("sign").arg(path("SHA256SUMS")).arg("--key").arg(&key)));
        let bundle = path("SHA256SUMS.sigstore.json");
        let theirs = |file: &str| {
            let mut cosign = cosign(&["verify-blob", "--insecure-ignore-tlog", "--key"]);
            cosign.arg(&public).arg("--bundle").arg(&bundle).arg(path(file));
            cosign
        };
        run(&mut theirs("SHA256SUMS"));
        exits(&mut theirs("other"), 1);
        let openssl = |file: &str| {
            let mut openssl = command("openssl");
            openssl.args(["dgst", "-sha256", "-verify"]).arg(&public);
            openssl.arg("-signature").arg(path("SHA256SUMS.sig")).arg(path(file));
            openssl
        };
        run(&mut openssl("SHA256SUMS"));
        exits(&mut openssl("other"), 1);
        run(dmoci().arg("verify").arg(path("SHA256SUMS")).arg("--key").arg(&public));
        // cosign signs with either key; dmoci verifies.
        let made = path(&format!("{pair}.json"));
        run(cosign(&["sign-blob", "--key"])
            .arg(&key)
            .args(ALONE)
            .arg("--bundle")
            .arg(&made)
            .arg(path("other")));
        let ours = |file: &str| {
            let mut dmoci = dmoci();
            dmoci.arg("verify").arg(path(file)).arg("--key").arg(&public).arg("--bundle").arg(&made);
            dmoci
        };
        run(&mut ours("other"));
        exits(&mut ours("SHA256SUMS"), 1);
    }
}

#[test]
fn images_both_ways() {
    if !have(&["cosign", "docker-registry", "setpriv"]) {
        return;
    }
    let (registry, place) = (Registry::start(), keys());
    let layout = example(&place);
    let path = |name: &str| place.path(name);
    let theirs = |pair: &str, name: &str| {
        let mut cosign = cosign(&["verify", "--insecure-ignore-tlog", "--key"]);
        let image = registry.subject(name).trim_start_matches("docker://").to_owned();
        cosign.arg(path(&format!("{pair}.pub"))).arg(image);
        cosign
    };
    let ours = |pair: &str, name: &str| {
        let mut dmoci = registry.dmoci("verify");
        dmoci.arg(registry.subject(name)).arg("--key").arg(path(&format!("{pair}.pub")));
        dmoci
    };
    let put = |name: &str| run(registry.dmoci("push").arg(&layout).arg(registry.subject(name)));

    // dmoci signs in the registry, and in a layout that is pushed then.
    put("there:1");
    let key = path("ours.key");
    run(signing(registry.dmoci("sign").arg(registry.subject("there:1")).arg("--key").arg(&key)));
    run(signing(dmoci().arg("sign").arg(&layout).arg("--key").arg(&key)));
    put("here:1");
    for name in ["there:1", "here:1"] {
        run(&mut theirs("ours", name));
        run(&mut ours("ours", name));
        exits(&mut theirs("theirs", name), 1);
        exits(&mut ours("theirs", name), 4);
    }
    // cosign signs, in both its layouts; its tags and dmoci's referrers stand side by side.
    for (name, legacy) in [("bundle:1", false), ("legacy:1", true)] {
        let bare = path(name.split(':').next().unwrap());
        run(dmoci().arg("build").arg("-C").arg(hello()).arg("-o").arg(&bare));
        run(registry.dmoci("push").arg(bare.join("image")).arg(registry.subject(name)));
        let image = registry.subject(name).trim_start_matches("docker://").to_owned();
        let mut sign = cosign(&["sign", "--key"]);
        sign.arg(path("theirs.key")).args(ALONE);
        if legacy {
            sign.arg("--new-bundle-format=false");
        }
        run(sign.arg(&image));
        run(&mut ours("theirs", name));
        exits(&mut ours("ours", name), 4);
        let sign = |command: &mut Command| run(signing(command.arg("--key").arg(&key)));
        sign(registry.dmoci("sign").arg(registry.subject(name)));
        for pair in PAIRS {
            run(&mut ours(pair, name));
        }
        // What there are bundles of, cosign looks into no older layout for.
        run(&mut theirs("ours", name));
    }
    // An attestation is no signature, though cosign takes it for one.
    fs::write(path("predicate.json"), "{}").unwrap();
    let bare = path("attested");
    run(dmoci().arg("build").arg("-C").arg(hello()).arg("-o").arg(&bare));
    run(registry.dmoci("push").arg(bare.join("image")).arg(registry.subject("attested:1")));
    let image = registry.subject("attested:1").trim_start_matches("docker://").to_owned();
    let mut attest = cosign(&["attest", "--type", "https://example.org/p/v1", "--key"]);
    attest.arg(path("theirs.key")).args(ALONE).arg("--predicate").arg(path("predicate.json")).arg(image);
    run(&mut attest);
    exits(&mut ours("theirs", "attested:1"), 3);
    run(ours("theirs", "attested:1").args(["--type", "https://example.org/p/v1"]));
}

fn hello() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello")
}

/// What `cosign save` wrote: older signatures by the kind of their descriptor, bundles among the blobs without anything that names them.
#[test]
fn layouts_of_cosign() {
    if !have(&["cosign", "docker-registry", "setpriv"]) {
        return;
    }
    let (registry, place) = (Registry::start(), keys());
    let layout = example(&place);
    let path = |name: &str| place.path(name);
    for (name, legacy) in [("bundle:1", false), ("legacy:1", true)] {
        run(registry.dmoci("push").arg(&layout).arg(registry.subject(name)));
        let image = registry.subject(name).trim_start_matches("docker://").to_owned();
        let mut sign = cosign(&["sign", "--key"]);
        sign.arg(path("theirs.key")).args(ALONE);
        if legacy {
            sign.arg("--new-bundle-format=false");
        }
        run(sign.arg(&image));
        let saved = path(name.split(':').next().unwrap());
        run(cosign(&["save", "--dir"]).arg(&saved).arg(&image));
        let by = |pair: &str| {
            let mut dmoci = dmoci();
            dmoci.arg("verify").arg(&saved).arg("--key").arg(path(&format!("{pair}.pub")));
            dmoci
        };
        run(&mut by("theirs"));
        exits(&mut by("ours"), 4);
    }
}

#[test]
fn the_javascript_client_agrees() {
    if !have(&["sigstore-js-verify", "node"]) {
        return;
    }
    let place = Place::new();
    let path = |name: &str| place.path(name);
    for pair in PAIRS {
        run(signing(dmoci().arg("key").arg("generate").arg("--output-prefix").arg(path(pair))));
    }
    let sign =
        |subject: &Path| run(signing(dmoci().arg("sign").arg(subject).arg("--key").arg(path("ours.key"))));
    fs::write(path("file"), "file").unwrap();
    fs::write(path("other"), "other").unwrap();
    sign(&path("file"));
    let layout = example(&place);
    sign(Path::new(&layout));
    let theirs = |pair: &str, bundle: &Path, artifact: Option<&str>| {
        let mut node = command("sigstore-js-verify");
        node.arg(bundle).arg(path(&format!("{pair}.pub"))).args(artifact.map(path));
        node
    };
    let bundle = path("file.sigstore.json");
    run(&mut theirs("ours", &bundle, Some("file")));
    exits(&mut theirs("ours", &bundle, Some("other")), 1);
    exits(&mut theirs("theirs", &bundle, Some("file")), 1);
    let blobs =
        fs::read_dir(Path::new(&layout).join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let is_bundle =
        |path: &std::path::PathBuf| fs::read(path).unwrap().windows(12).any(|part| part == b"dsseEnvelope");
    let bundles: Vec<_> = blobs.filter(is_bundle).collect();
    assert_eq!(bundles.len(), 1);
    run(&mut theirs("ours", &bundles[0], None));
    exits(&mut theirs("theirs", &bundles[0], None), 1);
}

/// Signing and verifying without any network there, and without one call that would need it.
#[test]
fn without_network() {
    if !have(&["root", "unshare", "strace"]) {
        return;
    }
    let place = Place::new();
    let path = |name: &str| place.path(name);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sigstore");
    for name in ["cosign-v3-blob.txt", "cosign-v3-blob.sigstore.json"] {
        fs::copy(fixture.join(name), path(name)).unwrap();
    }
    let layout = example(&place);
    let alone = |name: &str, arguments: &[&str]| {
        let mut dmoci = command("unshare");
        dmoci.args(["--net", "--"]).arg(env!("CARGO_BIN_EXE_dmoci")).args(arguments).current_dir(path(""));
        signing(&mut dmoci);
        let log = path(&format!("{name}.log"));
        run(&mut fault::strace(&dmoci, &log, &["trace=%network".to_owned()]));
        let calls = fs::read_to_string(&log).unwrap();
        let asked = calls.lines().filter(|line| line.contains("connect(") || line.contains("AF_INET"));
        assert_eq!(asked.collect::<Vec<_>>(), [""; 0]);
    };
    alone("key", &["key", "generate", "--output-prefix", "ours"]);
    alone("sign", &["sign", &layout, "--key", "ours.key"]);
    alone("by-key", &["verify", &layout, "--key", "ours.pub", "--offline"]);
    let identity = ["--certificate-identity", "w.vollprecht@gmail.com"];
    let issuer = ["--certificate-oidc-issuer", "https://github.com/login/oauth"];
    let bundle = ["--bundle", "cosign-v3-blob.sigstore.json", "--offline"];
    alone("by-identity", &[&["verify", "cosign-v3-blob.txt"][..], &identity, &issuer, &bundle].concat());
}
