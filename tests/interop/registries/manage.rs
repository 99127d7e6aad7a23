//! Indexes that are joined in a real registry, its tags, and what it deletes.

use dmoci_layers::Digest;

use super::{PEERS, Registry, example};
use crate::support::{Place, command, exits, have, run};

/// One platform from a layout, the other from the registry: skopeo and crane find the index of the build.
#[test]
fn an_index_of_two_platforms_is_that_of_the_build() {
    if !have(PEERS) {
        return;
    }
    let (registry, place) = (Registry::start(), Place::new());
    let image = example(&place);
    let arm = registry.subject("hello:arm64");
    let pushed = run(registry.dmoci("push").args([&image, &arm]).args(["--platform", "linux/arm64"]));
    assert!(pushed.contains("sha256:"), "{pushed}");
    let amd = place.path("amd64").display().to_string();
    run(registry.dmoci("copy").args([&image, &amd]).args(["--platform", "linux/amd64"]));
    let to = registry.subject("hello:1.0.0");
    let made = run(registry.dmoci("index").args(["create", &amd, &arm, "--to", &to]));
    let digest = made.split_whitespace().last().unwrap().to_owned();
    let raw = run(&mut registry.skopeo(&["inspect", "--tls-verify=false", "--raw", &to]));
    assert_eq!(Digest::sha256(raw.as_bytes()).to_string(), digest);
    let built = run(registry.dmoci("push").args([&image, &registry.subject("hello:built")]));
    assert_eq!(built.split_whitespace().last(), Some(digest.as_str()));
    let copy = format!("oci:{}:x", place.path("copy").display());
    run(&mut registry.skopeo(&["copy", "--all", "--src-tls-verify=false", &to, &copy]));
    let mut crane = command("crane");
    crane.args(["--insecure", "validate", "--remote", to.trim_start_matches("docker://")]);
    run(&mut crane);
    // And what crane joins has the same manifests.
    let host = registry.host.as_str();
    let mut crane = command("crane");
    crane.args(["--insecure", "index", "append", "-t", &format!("{host}/hello:crane")]);
    run(crane.args(["-m", &format!("{host}/hello:arm64")]));
    run(registry.dmoci("index").args(["create", &registry.subject("hello:crane"), &amd, "--to", &to]));
    run(registry.dmoci("verify").args(["--integrity-only", &to]));
}

/// distribution 2.8 deletes manifests, and tags only with them.
#[test]
fn what_is_deleted_is_gone_for_everybody() {
    if !have(PEERS) {
        return;
    }
    for registry in [Registry::start(), Registry::closed()] {
        let place = Place::new();
        let image = example(&place);
        let (a, b) = (registry.subject("hello:1"), registry.subject("hello:2"));
        let pushed = run(registry.dmoci("push").args([&image, &a, &b]));
        let digest = pushed.split_whitespace().last().unwrap().to_owned();
        assert_eq!(run(registry.dmoci("tags").arg(registry.subject("hello"))), "1\n2\n");
        let tag = exits(registry.dmoci("delete").arg(&a), 6).err;
        assert!(tag.contains("E-REGISTRY-NO-DELETE") && tag.contains("tags alone"), "{tag}");
        assert_eq!(run(registry.dmoci("tags").arg(registry.subject("hello"))), "1\n2\n");
        let named = registry.subject(&format!("hello@{digest}"));
        let dry = run(registry.dmoci("delete").args(["--dry-run", &named]));
        let gone = run(registry.dmoci("delete").arg(&named));
        assert_eq!((gone.lines().count(), &gone), (3, &dry));
        let login = ["--creds", "user:secret-word", "--tls-verify=false"];
        exits(registry.skopeo(&["inspect"]).args(login).arg(&a), 1);
        exits(registry.dmoci("inspect").arg(&named), 6);
        // What it was made of is still there: it comes back without a blob.
        let again = exits(registry.dmoci("push").args([&image, &a]), 0).err;
        assert!(again.contains("1 manifest and 0 blobs"), "{again}");
    }
}
