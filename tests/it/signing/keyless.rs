//! Signatures by certificates: bundles that others made, judged as the public test suite judges them.
//!
//! `fixtures/README.md` says where each is from.

use std::fs;

use super::{Desk, fixture, verdict};

const GITHUB: &str = "https://github.com/login/oauth";
const ACTIONS: &str = "https://token.actions.githubusercontent.com";
const BEACON: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";

/// What a case is judged by.
enum Root {
    Public,
    Staging,
    File(&'static str),
}

struct Case {
    bundle: &'static str,
    identity: &'static str,
    issuer: &'static str,
    root: Root,
    /// A file of the fixtures, or a digest.
    artifact: &'static str,
    /// The code of the refusal; empty when it is right.
    refused: &'static str,
}

const fn case(
    bundle: &'static str,
    (identity, issuer): (&'static str, &'static str),
    root: Root,
    artifact: &'static str,
    refused: &'static str,
) -> Case {
    Case { bundle, identity, issuer, root, artifact, refused }
}

/// "a.txt" of the public suite.
const A: &str = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";

const CASES: &[Case] = &[
    case(
        "bundle_v3_github.whl.sigstore",
        ("https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2", ACTIONS),
        Root::Public,
        "sha256:c4e92e9ecc828bef2aa7dba1de8ac983511f7532a0df11c770d39099a25cf201",
        "",
    ),
    case(
        "conda-attestation.sigstore.json",
        (
            "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main",
            ACTIONS,
        ),
        Root::Public,
        "signed-package-2.1.0-hb0f4dca_0.conda",
        "",
    ),
    case(
        "conda-attestation-rekor2.sigstore.json",
        ("jku@goto.fi", GITHUB),
        Root::Staging,
        "signed-package-2.1.0-hb0f4dca_0.conda",
        "",
    ),
    case(
        "cosign-v3-blob.sigstore.json",
        ("w.vollprecht@gmail.com", GITHUB),
        Root::Public,
        "cosign-v3-blob.txt",
        "",
    ),
    case(
        "rekor-v2/staging-rekor-v2.txt.sigstore.json",
        ("jku@goto.fi", GITHUB),
        Root::Staging,
        "rekor-v2/staging-rekor-v2.txt",
        "",
    ),
    case("rekor-v2/a.dsse.staging-rekor-v2.txt.sigstore.json", (BEACON, ACTIONS), Root::Staging, A, ""),
    case(
        "second-intermediate/staging_bundle.sigstore.json",
        (
            "https://github.com/sigstore/root-signing-staging/.github/workflows/custom-test.yml@refs/heads/main",
            ACTIONS,
        ),
        Root::File("second-intermediate/staging_trusted_root.json"),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "",
    ),
    case(
        "timestamps/valid_bundle.json",
        (BEACON, ACTIONS),
        Root::File("timestamps/valid_trusted_root.json"),
        A,
        "",
    ),
    case("managed-key/bundle.sigstore.json", ("", ""), Root::Public, "managed-key/artifact.txt", ""),
    case(
        "cosign-v1-blob.bundle",
        ("daniel.bevenius@gmail.com", GITHUB),
        Root::Public,
        "sha256:4bc453b53cb3d914b45f4b250294236adba2c0e09ff6f03793949e7e39fd4cc1",
        "",
    ),
    // Right, but for other authorities.
    case("timestamps/valid_bundle.json", (BEACON, ACTIONS), Root::Public, A, "E-SIGNATURE-TIME"),
    case(
        "managed-key/bundle.sigstore.json",
        ("", ""),
        Root::Staging,
        "managed-key/artifact.txt",
        "E-SIGNATURE-LOG",
    ),
    case(
        "managed-key/bundle.sigstore.json",
        (BEACON, ACTIONS),
        Root::Public,
        "managed-key/artifact.txt",
        "E-SIGNER",
    ),
    // Wrong, each in its own way.
    case(
        "bundle_cve_2022_36056.txt.sigstore",
        ("william@yossarian.net", GITHUB),
        Root::Staging,
        "sha256:c87b5b213ab08b32970c106d0c7e4423e67f5449c2fd2d1e9b4ea6cc43b6ee7c",
        "E-SIGNATURE-LOG",
    ),
    case(
        "bundle_invalid_version.txt.sigstore",
        ("william@yossarian.net", GITHUB),
        Root::Staging,
        "sha256:7a1f2b23ec9add163c6d0bbb454af45e1483b9bec7b72aea1b4fdf0e2f5644f0",
        "E-BUNDLE",
    ),
    case(
        "bundle_no_cert_v1.txt.sigstore",
        ("william@yossarian.net", GITHUB),
        Root::Staging,
        "sha256:1bc37d4fed3fd960bdf9d095f87283ba8ad1ab4481f38a34e8004f0c56ffe78d",
        "E-BUNDLE",
    ),
    case(
        "bundle_no_checkpoint.txt.sigstore",
        ("william@yossarian.net", GITHUB),
        Root::Staging,
        "sha256:802dd60ff88333802f2585e73043bd21c341285e1992fe5b31755e1cadeae30e",
        "E-BUNDLE",
    ),
    case(
        "bundle_no_log_entry.txt.sigstore",
        ("alex.cameron@trailofbits.com", "https://accounts.google.com"),
        Root::Public,
        "sha256:9b469fc9761e8b933073b62725fbc98b549c3314199ded71cc8b286ef2c6fb9b",
        "E-BUNDLE",
    ),
    case(
        "bundle_v3_no_signed_time.txt.sigstore.json",
        ("william@yossarian.net", GITHUB),
        Root::Staging,
        "sha256:ca6de99a11d3d38056d838c7dc9a23a11a0c81bcace0d11eaa301a2ffb482c42",
        "E-SIGNATURE-TIME",
    ),
    case("dsse-2sigs.sigstore.json", ("brian@dehamer.com", GITHUB), Root::Public, A, "E-BUNDLE"),
    case(
        "invalid-ct-key/bundle.sigstore.json",
        (BEACON, ACTIONS),
        Root::File("invalid-ct-key/trusted_root.json"),
        A,
        "E-SIGNATURE-CERTIFICATE",
    ),
    // A name of a kind that is not read is nobody's.
    case(
        "othername.sigstore.json",
        ("foo!oidc.local", "http://oidc.local:8080"),
        Root::File("scaffolding.json"),
        "sha256:bc103b4a84971ef6459b294a2b98568a2bfb72cded09d4acd1e16366a401f95b",
        "E-SIGNER",
    ),
];

fn path(name: &str) -> String {
    fixture("sigstore").join(name).display().to_string()
}

/// The arguments of the public suite's protocol.
fn arguments(case: &Case, identity: &str, issuer: &str, artifact: &str) -> Vec<String> {
    let mut arguments =
        vec!["conformance".to_owned(), "verify-bundle".into(), "--bundle".into(), path(case.bundle)];
    match identity {
        "" => arguments.extend(["--key".into(), path("managed-key/key.pub")]),
        _ => arguments.extend([
            "--certificate-identity".into(),
            identity.to_owned(),
            "--certificate-oidc-issuer".into(),
            issuer.to_owned(),
        ]),
    }
    match case.root {
        Root::Public => {}
        Root::Staging => arguments.push("--staging".into()),
        Root::File(name) => arguments.extend(["--trusted-root".into(), path(name)]),
    }
    arguments.push(artifact.to_owned());
    arguments
}

fn artifact(case: &Case) -> String {
    if case.artifact.starts_with("sha256:") { case.artifact.to_owned() } else { path(case.artifact) }
}

#[test]
fn cases_of_the_public_suite_and_of_other_clients() {
    let desk = Desk::new();
    let run = |arguments: Vec<String>| desk.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for case in CASES {
        let found = run(arguments(case, case.identity, case.issuer, &artifact(case)));
        let code = format!("error[{}]", case.refused);
        match case.refused {
            "" => assert_eq!(found.exit, 0, "{}: {}", case.bundle, found.stderr),
            _ => {
                assert!(found.exit != 0 && found.stderr.contains(&code), "{}: {}", case.bundle, found.stderr)
            }
        }
        if !case.refused.is_empty() {
            continue;
        }
        // The same about something else, and by somebody else.
        let other = run(arguments(case, case.identity, case.issuer, &format!("sha256:{}", "0".repeat(64))));
        assert!(other.stderr.contains("E-SIGNATURE-SUBJECT"), "{}: {}", case.bundle, other.stderr);
        if case.identity.is_empty() {
            continue;
        }
        for (identity, issuer) in
            [("somebody@example.org", case.issuer), (case.identity, "https://issuer.example")]
        {
            let other = run(arguments(case, identity, issuer, &artifact(case))).exits(4);
            assert!(other.stderr.contains("E-SIGNER"), "{}: {}", case.bundle, other.stderr);
        }
    }
}

#[test]
fn a_key_of_the_suite_needs_its_log_entry() {
    let desk = Desk::new();
    let (bundle, key) = (fixture("cosign/blob.txt.sigstore.json"), fixture("cosign/cosign.pub"));
    let blob = fixture("cosign/blob.txt");
    let [bundle, key, blob] = [&bundle, &key, &blob].map(|path| path.to_str().unwrap());
    let run = desk.run(&["conformance", "verify-bundle", "--bundle", bundle, "--key", key, blob]).exits(1);
    assert!(run.stderr.contains("inclusion proof"), "{}", run.stderr);
    let help = desk.run(&["--help"]).ok().stdout;
    assert!(!help.contains("conformance"), "{help}");
}

#[test]
fn verdicts_by_identity() {
    let desk = Desk::new();
    fs::copy(path("cosign-v3-blob.txt"), desk.path("blob")).unwrap();
    fs::copy(path("cosign-v3-blob.sigstore.json"), desk.path("blob.sigstore.json")).unwrap();
    let by = |option: &str, identity: &str, issuer: &str, more: &[&str]| {
        desk.run(&[&["verify", "blob", option, identity, "--certificate-oidc-issuer", issuer], more].concat())
    };
    let good = by("--certificate-identity", "w.vollprecht@gmail.com", GITHUB, &[]).exits(0);
    assert_eq!(verdict(&good), "VERIFIED");
    for said in ["trusted root: the public Sigstore service's", "days ago", "  at 20"] {
        assert!(good.stdout.contains(said), "{said}: {}", good.stdout);
    }
    by("--certificate-identity-regexp", ".*@gmail\\.com", GITHUB, &[]).exits(0);
    for (option, identity, issuer) in [
        ("--certificate-identity-regexp", "vollprecht@gmail\\.com", GITHUB),
        ("--certificate-identity-regexp", "w\\.vollprecht", GITHUB),
        ("--certificate-identity", "W.Vollprecht@gmail.com", GITHUB),
        ("--certificate-identity", "w.vollprecht@gmail.com", "https://github.com"),
    ] {
        assert_eq!(verdict(&by(option, identity, issuer, &[]).exits(4)), "REFUSED", "{identity} {issuer}");
    }
    // A root that is not the operator's is no anchor, and neither is one that lies beside what is verified.
    fs::copy(path("timestamps/valid_trusted_root.json"), desk.path("trusted_root.json")).unwrap();
    let exact = |more: &[&str]| by("--certificate-identity", "w.vollprecht@gmail.com", GITHUB, more);
    assert_eq!(verdict(&exact(&["--trusted-root", "trusted_root.json"]).exits(4)), "REFUSED");
    fs::copy(path("timestamps/valid_bundle.json"), desk.path("blob.sigstore.json")).unwrap();
    assert_eq!(verdict(&by("--certificate-identity", BEACON, ACTIONS, &[]).exits(4)), "REFUSED");
    // Another type, a key where a certificate was asked for, a certificate where a key was.
    fs::copy(path("cosign-v3-blob.sigstore.json"), desk.path("blob.sigstore.json")).unwrap();
    assert_eq!(
        verdict(&exact(&["--type", "https://slsa.dev/provenance/v1"]).exits(3)),
        "SOUND, NOT AUTHENTICATED"
    );
    assert_eq!(verdict(&desk.verify("blob").exits(4)), "REFUSED");
    desk.run(&["sign", "blob", "--key", "key.key", "--bundle", "k.json"]).ok();
    assert_eq!(verdict(&exact(&["--bundle", "k.json"]).exits(4)), "REFUSED");
    fs::write(desk.path("blob"), "other").unwrap();
    assert_eq!(verdict(&exact(&[]).exits(1)), "SIGNATURE NOT VALID");
}

#[test]
fn roots_that_are_none() {
    let desk = Desk::new();
    desk.write("x", "x");
    for content in [
        "",
        "{}",
        "[]",
        r#"{"mediaType":"x"}"#,
        &fs::read_to_string(path("cosign-v3-blob.sigstore.json")).unwrap(),
    ] {
        desk.write("root.json", content);
        let arguments = ["verify", "x", "--key", "key.pub", "--trusted-root", "root.json"];
        let run = desk.run(&arguments);
        // An empty root lists nothing, which is no error of its form.
        assert!(
            run.exit == 2 && run.stderr.contains("E-TRUSTED-ROOT") || run.exit == 3,
            "{content:.40}: {}",
            run.stderr
        );
    }
}
