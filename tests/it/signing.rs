//! Keys, signatures, and verdicts about them: files, layouts, archives, registries.

mod disguise;
mod images;
mod keyless;
mod tamper;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::registry::Bench;
use crate::support::Run;

/// A directory with key pairs in it; `key` made them, `other` is another one, both with the password `word`.
pub(super) struct Desk {
    pub(super) bench: Bench,
}

impl Desk {
    pub(super) fn new() -> Desk {
        let desk = Desk { bench: Bench::new() };
        for name in ["key", "other"] {
            desk.run(&["key", "generate", "--output-prefix", name]).ok();
        }
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.bench.path(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> Run {
        self.bench.run_with(arguments, &[("COSIGN_PASSWORD", "word")])
    }

    /// Verifies with `key.pub`.
    #[track_caller]
    pub(super) fn verify(&self, subject: &str) -> Run {
        self.run(&["verify", subject, "--key", "key.pub"])
    }
}

/// A file of `fixtures/`.
pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// What a report says at its end.
#[track_caller]
pub(super) fn verdict(run: &Run) -> &str {
    run.stdout.lines().last().unwrap().split(": ").next().unwrap()
}

#[test]
fn keys_are_made_once_and_opened_by_their_password() {
    let bench = Bench::new();
    fs::write(bench.path("word"), "a b\n").unwrap();
    let made = bench.run(&["key", "generate", "--password-file", "word"]).ok();
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("dmoci.key"), 0o600);
    let public = fs::read_to_string(bench.path("dmoci.pub")).unwrap();
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
    let private = fs::read_to_string(bench.path("dmoci.key")).unwrap();
    assert!(private.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"), "{private}");

    let again = bench.run(&["key", "generate", "--password-file", "word"]).exits(2);
    assert!(again.stderr.contains("error[E-KEY-EXISTS]"), "{}", again.stderr);
    fs::remove_file(bench.path("dmoci.key")).unwrap();
    let half = bench.run(&["key", "generate", "--password-file", "word"]).exits(2);
    assert!(half.stderr.contains("dmoci.pub is there already"), "{}", half.stderr);
    assert!(!bench.path("dmoci.key").exists());
    fs::write(bench.path("dmoci.key"), &private).unwrap();

    let show = ["key", "public", "--key", "dmoci.key"];
    assert_eq!(bench.run_with(&show, &[("COSIGN_PASSWORD", "a b")]).ok().stdout, public);
    let wrong = bench.run_with(&show, &[("COSIGN_PASSWORD", "secret-word")]).exits(2);
    assert!(wrong.stderr.contains("error[E-KEY-PASSWORD]"), "{}", wrong.stderr);
    for run in [&made, &again, &wrong] {
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(!all.contains("secret-word") && !all.contains("a b"), "{all}");
    }
    // An empty password is one, and is said to be so.
    let empty =
        bench.run_with(&["key", "generate", "--output-prefix", "open"], &[("COSIGN_PASSWORD", "")]).ok();
    assert!(empty.stderr.contains("warning: the password is empty"), "{}", empty.stderr);
}

#[test]
fn keys_of_cosign_are_keys() {
    let desk = Desk::new();
    let key = fixture("cosign/cosign.key");
    let show = ["key", "public", "--key", key.to_str().unwrap()];
    let shown = desk.bench.run_with(&show, &[("COSIGN_PASSWORD", "pw")]).ok().stdout;
    assert_eq!(shown, fs::read_to_string(fixture("cosign/cosign.pub")).unwrap());
    // A public key is no private one, and the other way round.
    let public = desk.run(&["key", "public", "--key", "key.pub"]).exits(2).stderr;
    assert!(public.contains("error[E-KEY]"), "{public}");
    desk.write("x", "x");
    let private = desk.run(&["verify", "x", "--key", "key.key"]).exits(2).stderr;
    assert!(private.contains("error[E-KEY]"), "{private}");
}

#[test]
fn a_file_is_signed_once() {
    let desk = Desk::new();
    desk.write("notes.txt", "hello\n");
    let none = desk.verify("notes.txt").exits(3);
    assert!(none.stdout.contains("warning[E-UNSIGNED]"), "{}", none.stdout);

    let keyless = desk.run(&["verify", "notes.txt"]).exits(1).stderr;
    assert!(keyless.contains("error[E-NO-IMAGE]") && keyless.contains("--key KEY.pub"), "{keyless}");
    let absent = desk.run(&["sign", "note.txt", "--key", "key.key"]).exits(6).stderr;
    assert!(absent.contains("name a file that is there"), "{absent}");

    desk.run(&["sign", "notes.txt", "--key", "key.key"]).ok();
    let bundle = fs::read(desk.path("notes.txt.sigstore.json")).unwrap();
    let again = desk.run(&["sign", "notes.txt", "--key", "key.key"]).ok();
    assert!(again.stderr.contains("Unchanged"), "{}", again.stderr);
    assert_eq!(fs::read(desk.path("notes.txt.sigstore.json")).unwrap(), bundle);
    let good = desk.verify("notes.txt").exits(0);
    assert_eq!(verdict(&good), "VERIFIED");

    let other = desk.run(&["verify", "notes.txt", "--key", "other.pub"]).exits(4);
    assert_eq!(verdict(&other), "REFUSED");
    assert!(other.stdout.contains("error[E-SIGNER]"), "{}", other.stdout);

    // Another key's is never replaced; this key's is, when the file has changed.
    let taken = desk.run(&["sign", "notes.txt", "--key", "other.key"]).exits(2).stderr;
    assert!(taken.contains("error[E-SIGN-EXISTS]"), "{taken}");
    desk.write("notes.txt", "hello!\n");
    let tampered = desk.verify("notes.txt").exits(1);
    assert_eq!(verdict(&tampered), "SIGNATURE NOT VALID");
    assert!(tampered.stdout.contains("error[E-SIGNATURE-SUBJECT]"), "{}", tampered.stdout);
    desk.run(&["sign", "notes.txt", "--key", "key.key"]).ok();
    desk.verify("notes.txt").exits(0);

    // A bundle elsewhere, and one that is none.
    desk.run(&["sign", "notes.txt", "--key", "other.key", "--bundle", "o.json"]).ok();
    desk.run(&["verify", "notes.txt", "--key", "other.pub", "--bundle", "o.json"]).exits(0);
    desk.write("o.json", "{}");
    let broken = desk.run(&["verify", "notes.txt", "--key", "other.pub", "--bundle", "o.json"]).exits(1);
    assert!(broken.stdout.contains("error[E-BUNDLE]"), "{}", broken.stdout);
    desk.run(&["verify", "notes.txt", "--key", "other.pub", "--bundle", "none.json"]).exits(6);
}

#[test]
fn lists_and_wheels() {
    let desk = Desk::new();
    let wheel = "demo_app-1.0-py3-none-any.whl";
    let bytes = crate::support::wheel::Wheel::new("demo-app", "1.0").bytes();
    desk.write(wheel, &bytes);
    desk.write("SHA256SUMS", format!("{}  {wheel}\n", dmoci_layers::Digest::sha256(&bytes).hex()));
    desk.run(&["sign", wheel, "SHA256SUMS", "--key", "key.key"]).ok();
    assert!(desk.path("SHA256SUMS.sig").exists() && !desk.path(&format!("{wheel}.sig")).exists());
    for subject in [wheel, "SHA256SUMS"] {
        assert_eq!(verdict(&desk.verify(subject).exits(0)), "VERIFIED");
    }
    // What is wrong with a wheel is wrong whoever signed it.
    desk.write(wheel, b"PK\x03\x04");
    desk.run(&["sign", wheel, "--key", "key.key"]).ok();
    let broken = desk.verify(wheel).exits(1);
    assert_eq!(verdict(&broken), "NOT SOUND");
    assert!(!broken.stdout.contains("authenticated by"), "{}", broken.stdout);
    // A digest that does not hold is not made up for by a signature.
    desk.write("x", "x");
    desk.run(&["sign", "x", "--key", "key.key"]).ok();
    let digest = dmoci_layers::Digest::sha256(b"y");
    assert_eq!(verdict(&desk.verify(&format!("x@{digest}")).exits(1)), "MISMATCH");
}

#[test]
fn a_signed_list_vouches_for_what_it_names() {
    let desk = Desk::new();
    desk.write("x", "x");
    desk.write("LIST", format!("{}  x\n", dmoci_layers::Digest::sha256(b"x").hex()));
    let by = |key: &str| desk.run(&["verify", "x", "--against", "LIST", "--key", key]);
    // Not signed: the file must be.
    assert_eq!(verdict(&by("key.pub").exits(3)), "SOUND, NOT AUTHENTICATED");
    desk.run(&["sign", "LIST", "--key", "key.key"]).ok();
    let good = by("key.pub").exits(0);
    assert!(good.stdout.contains("a list that is signed by the key sha256:"), "{}", good.stdout);
    assert_eq!(verdict(&by("other.pub").exits(4)), "REFUSED");
    // What it does not name, and what has another digest there.
    desk.write("y", "y");
    let other = desk.run(&["verify", "y", "--against", "LIST", "--key", "key.pub"]).exits(3);
    assert!(other.stdout.contains("E-UNCOVERED"), "{}", other.stdout);
    desk.write("x", "X");
    assert_eq!(verdict(&by("key.pub").exits(1)), "MISMATCH");
    desk.write("x", "x");
    desk.write("LIST", format!("{}  x\n\n", dmoci_layers::Digest::sha256(b"x").hex()));
    assert_eq!(verdict(&by("key.pub").exits(1)), "SIGNATURE NOT VALID");
}

#[test]
fn options_want_a_signer() {
    let desk = Desk::new();
    desk.write("x", "x");
    for options in [
        &["--type", "t"][..],
        &["--trusted-root", "x"],
        &["--certificate-oidc-issuer", "i"],
        &["--certificate-identity", "s"],
        &["--certificate-identity", "s", "--certificate-oidc-issuer", ""],
        &["--certificate-identity-regexp", "(", "--certificate-oidc-issuer", "i"],
        &["--key", "key.pub", "--certificate-oidc-issuer", "i"],
        &["--key", "key.pub", "--trusted-root", "x"],
    ] {
        desk.run(&[&["verify", "x"], options].concat()).exits(2);
    }
}
