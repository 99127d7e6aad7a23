//! `[trust.base]`: a base is pinned only when those have signed it who must, and the pin says who.

use std::fs;

use super::base::{above, base};
use crate::support::registry::Registry;
use crate::support::{Project, Run, dmoci};

fn run(project: &Project, arguments: &[&str]) -> Run {
    let mut command = dmoci();
    command.args(arguments).current_dir(project.root()).env("XDG_CACHE_HOME", project.cache());
    Run::of(command.env("COSIGN_PASSWORD", ""))
}

/// A base in a registry, and a directory with the key pairs `a` and `b`.
fn registry() -> (Registry, Project, String) {
    let (base, registry, keys) = (base("one"), Registry::start(), Project::new());
    registry.load(&base.path("dist/image"), "acme/base", "1");
    for name in ["a", "b"] {
        run(&keys, &["key", "generate", "--output-prefix", name]).ok();
    }
    let name = format!("docker://{}/acme/base:1", registry.host());
    (registry, keys, name)
}

fn project(keys: &Project, base: &str, trust: &str) -> Project {
    let project = Project::with_spec(&format!("{}[trust.base]\n{trust}\n", above(base, "")));
    for key in ["a.pub", "b.pub"] {
        project.write(key, fs::read(keys.path(key)).unwrap());
    }
    project
}

#[test]
fn a_signed_base_is_pinned_with_who_signed_it() {
    let (registry, keys, name) = registry();
    run(&keys, &["sign", &name, "--key", "a.key"]).ok();
    // Of several each alone is enough.
    let two =
        "key = \"a.pub\"\ncertificate-identity = \"x\"\ncertificate-oidc-issuer = \"https://ci.example\"";
    for trust in ["key = \"a.pub\"", two] {
        let project = project(&keys, &name, trust);
        let said = project.dmoci(&["lock"]).ok().stderr;
        assert!(said.contains("(signed by the key sha256:") && !said.contains("nothing but"), "{said}");
        let lock = fs::read_to_string(project.path("dmoci.lock")).unwrap();
        assert_eq!(lock.matches("authenticated = \"signature\"").count(), 2, "{lock}");
        assert_eq!(lock.matches("signed-by = \"the key sha256:").count(), 2, "{lock}");
        project.dmoci(&["build", "--locked"]).ok();
        // No signature is looked for again.
        let asked = registry.asked("referrers");
        project.dmoci(&["build", "--locked", "--offline"]).ok();
        project.dmoci(&["build", "--twice", "--offline"]).ok();
        assert_eq!(registry.asked("referrers"), asked);
    }
}

#[test]
fn a_base_that_nobody_or_somebody_else_signed_is_not_pinned() {
    let (_registry, keys, name) = registry();
    let project = project(&keys, &name, "key = \"a.pub\"");
    let unsigned = project.dmoci(&["lock"]).exits(3).stderr;
    assert!(unsigned.contains("error[E-BASE-UNSIGNED]") && unsigned.contains("dmoci.toml:"), "{unsigned}");
    assert!(unsigned.contains("there is no signature of"), "{unsigned}");
    run(&keys, &["sign", &name, "--key", "b.key"]).ok();
    let other = project.dmoci(&["build"]).exits(4).stderr;
    assert!(other.contains("error[E-BASE-UNSIGNED]") && other.contains("not signed with the key"), "{other}");
    assert!(!project.path("dmoci.lock").exists() && !project.path("dist").exists());
    // An attestation is no signature, and the other way round.
    let wanted = self::project(&keys, &name, "key = \"b.pub\"\ntype = \"https://example.org/reviewed/v1\"");
    let predicate = wanted.dmoci(&["lock"]).exits(3).stderr;
    assert!(
        predicate.contains("error[E-BASE-UNSIGNED]") && predicate.contains("another type"),
        "{predicate}"
    );
}

#[test]
fn a_pin_without_that_signature_is_not_believed() {
    let (_registry, keys, name) = registry();
    let project = project(&keys, &name, "key = \"a.pub\"");
    let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
    project.write("dmoci.toml", spec.split("[trust.base]").next().unwrap());
    project.dmoci(&["lock"]).ok();
    project.write("dmoci.toml", &spec);
    for command in [&["build"][..], &["check"], &["build", "--locked"], &["lock"]] {
        let said = project.dmoci(command).exits(2).stderr;
        assert!(
            said.contains("error[E-LOCK-UNSIGNED]") && said.contains("dmoci lock --update base"),
            "{said}"
        );
    }
    project.dmoci(&["lock", "--update", "base"]).exits(3);
    run(&keys, &["sign", &name, "--key", "a.key"]).ok();
    let id = |key: &str| {
        let out = run(&keys, &["key", "public", "--key", key]).ok().stdout;
        dmoci::trust::PublicKey::read(&out, key).unwrap().to_string()
    };
    let signed = project.dmoci(&["lock", "--update", "base"]).ok().stderr;
    assert!(signed.contains(&format!("now signed by {}", id("a.key"))), "{signed}");
    project.dmoci(&["build", "--locked"]).ok();

    // Another key is trusted from now on.
    let lock = fs::read_to_string(project.path("dmoci.lock")).unwrap();
    project.write("dmoci.toml", spec.replace("a.pub", "b.pub"));
    assert!(project.dmoci(&["build"]).exits(2).stderr.contains("error[E-LOCK-UNSIGNED]"));
    run(&keys, &["sign", &name, "--key", "b.key"]).ok();
    let moved = project.dmoci(&["lock", "--update", "base"]).ok().stderr;
    let said = format!("now signed by {}, before by {}", id("b.key"), id("a.key"));
    assert!(moved.contains(&said) && !moved.contains("Noted"), "{moved}");
    project.write("dmoci.toml", &spec);
    project.write("dmoci.lock", &lock);
    // Nor is what somebody wrote into the lock file.
    project.write("dmoci.toml", spec.replace("a.pub", "b.pub"));
    project.write("dmoci.lock", lock.replace(&id("a.key"), &id("b.key")));
    assert!(project.dmoci(&["build"]).exits(1).stderr.contains("error[E-LOCK-EDITED]"));
}

#[test]
fn what_the_table_cannot_mean() {
    let (_registry, keys, name) = registry();
    for (trust, why) in [
        ("", "does not say who must have signed"),
        ("certificate-identity = \"x\"", "an identity is nothing without the issuer"),
        ("key = \"a.pub\"\ncertificate-oidc-issuer = \"x\"", "an issuer is nothing without the identity"),
        ("key = \"none.pub\"", "none.pub"),
        ("key = \"dmoci.toml\"", "is no public key"),
        ("key = \"a.pub\"\ntrusted-root = \"a.pub\"", "a.pub"),
        ("keys = \"a.pub\"", "did you mean `key`"),
    ] {
        let said = self::project(&keys, &name, trust).dmoci(&["lock"]).exits(2).stderr;
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("base = \""), "it is about [trust.base]: {said}");
    }
    for command in [&["build"][..], &["check"], &["lock"]] {
        let project = self::project(&keys, &name, "key = \"none.pub\"");
        let said = project.dmoci(command).exits(2).stderr;
        assert!(said.contains("[trust.base]") && !said.contains("base = \""), "{said}");
    }
    let project = self::project(&keys, "oci:base:1", "key = \"a.pub\"");
    fs::create_dir(project.path("base")).unwrap();
    let layout = project.dmoci(&["build"]).exits(2).stderr;
    assert!(layout.contains("error[E-TRUST-BASE]") && layout.contains("dmoci.toml:"), "{layout}");
}

#[test]
fn who_says_to_have_signed_is_told_without_a_signer() {
    let denied = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&denied);
    let registry = Registry::between(
        move |asked| {
            let is_meant =
                asked.target.contains("/referrers/") && flag.load(std::sync::atomic::Ordering::Relaxed);
            is_meant.then(|| crate::support::registry::error("403 Forbidden", "DENIED"))
        },
        |_, reply| reply,
        |_| None,
    );
    let (base, keys) = (base("one"), Project::new());
    registry.load(&base.path("dist/image"), "acme/base", "1");
    run(&keys, &["key", "generate", "--output-prefix", "a"]).ok();
    let name = format!("docker://{}/acme/base:1", registry.host());
    run(&keys, &["sign", &name, "--key", "a.key"]).ok();
    let told = run(&keys, &["verify", &name]).exits(3).stdout;
    assert!(
        told.contains("signature said to be by the key") && told.contains("1 signature was found"),
        "{told}"
    );
    // Whoever may not see them can verify all the same, but not hold it against a key.
    denied.store(true, std::sync::atomic::Ordering::Relaxed);
    let told = run(&keys, &["verify", "--integrity-only", &name]).ok().stdout;
    assert!(told.contains("note[E-REGISTRY-DENIED]: signatures could not be looked for"), "{told}");
    run(&keys, &["verify", &name, "--key", "a.pub"]).exits(6);
}
