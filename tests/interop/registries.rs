//! Debian's docker-registry, filled and read by skopeo and crane.

mod heavy;
mod manage;
mod together;

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use dmoci_layers::Digest;

use crate::support::{Guard, Place, command, dmoci, exits, have, path_of, run, service};

/// What it needs.
pub(crate) const PEERS: &[&str] = &["setpriv", "docker-registry", "skopeo", "crane"];

/// `user` with the password `secret-word`, by `htpasswd -B`.
const HTPASSWD: &str = "user:$2y$05$OHK7QlkeX/rkE8eMSeEdr.9ML38Nsb2XwNz/c8bawz3cn5YNgH6.S\n";

/// A registry of the test's own.
pub(crate) struct Registry {
    pub(crate) host: String,
    pub(crate) place: Place,
    // Stopped before its directory goes.
    _server: Guard,
}

impl Registry {
    /// Plain, and open to all.
    #[track_caller]
    pub(crate) fn start() -> Registry {
        Registry::with(Place::new(), "")
    }

    /// With TLS of an authority of its own (`ca.pem`), and a password.
    #[track_caller]
    fn closed() -> Registry {
        let place = Place::new();
        let authority = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        fs::write(place.path("ca.pem"), params.clone().self_signed(&authority).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, authority);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(place.path("cert.pem"), own.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(place.path("key.pem"), key.serialize_pem()).unwrap();
        fs::write(place.path("htpasswd"), HTPASSWD).unwrap();
        let path = |name: &str| place.path(name).display().to_string();
        let more = format!(
            "  tls: {{certificate: {}, key: {}}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            path("cert.pem"),
            path("key.pem"),
            path("htpasswd")
        );
        Registry::with(place, &more)
    }

    #[track_caller]
    fn with(place: Place, more: &str) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let storage = place.path("storage").display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: {host}\n{more}"
        );
        fs::write(place.path("config.yml"), config).unwrap();
        let mut server = service(path_of("docker-registry").unwrap());
        server.arg("serve").arg(place.path("config.yml"));
        let ready = || TcpStream::connect(&host).is_ok();
        let guard = Guard::start(&mut server, &place.path("log"), ready);
        Registry { host, place, _server: guard }
    }

    pub(crate) fn subject(&self, rest: &str) -> String {
        format!("docker://{}/{rest}", self.host)
    }

    /// dmoci with a cache of this registry's, and its credentials and authority where it has these.
    pub(crate) fn dmoci(&self, command: &str) -> Command {
        let mut dmoci = dmoci();
        dmoci.arg(command).env("XDG_CACHE_HOME", self.place.path("cache"));
        if self.place.path("ca.pem").exists() {
            let auth = dmoci::base64::encode(b"user:secret-word");
            let file = self.place.path("auth.json");
            fs::write(&file, format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.host)).unwrap();
            dmoci.env("REGISTRY_AUTH_FILE", file).arg("--ca-file").arg(self.place.path("ca.pem"));
        }
        dmoci
    }

    pub(crate) fn skopeo(&self, arguments: &[&str]) -> Command {
        let mut skopeo = command("skopeo");
        skopeo.arg("--insecure-policy").args(arguments);
        skopeo
    }
}

/// The example of the README's tour: two platforms.
pub(super) fn example(place: &Place) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello");
    run(dmoci().arg("build").arg("-C").arg(&fixture).arg("-o").arg(place.path("dist")));
    place.path("dist/image").display().to_string()
}

/// Names and content of all blobs of a layout.
fn blobs(layout: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_skopeo_pushed_is_pulled() {
    if !have(PEERS) {
        return;
    }
    let (registry, place) = (Registry::start(), Place::new());
    let image = example(&place);
    let subject = registry.subject("acme/hello:1.0.0");
    let source = format!("oci:{image}:1.0.0");
    run(&mut registry.skopeo(&["copy", "--all", "--dest-tls-verify=false", &source, &subject]));
    run(registry.dmoci("pull").arg(&subject).arg("-o").arg(place.path("got")));
    assert_eq!(blobs(&place.path("got")), blobs(Path::new(&image)));
    let raw = run(&mut registry.skopeo(&["inspect", "--tls-verify=false", "--raw", &subject]));
    let digest = Digest::sha256(raw.as_bytes());
    let pinned = registry.subject(&format!("acme/hello@{digest}"));
    run(registry.dmoci("verify").arg(&pinned));
    run(registry.dmoci("diff").arg(&pinned).arg(&image));
    let shown = run(registry.dmoci("inspect").arg(&subject).args(["--platform", "linux/arm64", "--files"]));
    assert!(shown.contains("/usr/bin/hello"), "{shown}");
    // skopeo reads the layout.
    run(registry
        .skopeo(&["copy", "--all", &format!("oci:{}:1.0.0", place.path("got").display()), "dir:x"])
        .current_dir(&place));
    let manifest = fs::read(place.path("x/manifest.json")).unwrap();
    assert_eq!(Digest::sha256(&manifest), digest);
    // And, as Docker's types, what it converts.
    let docker = registry.subject("acme/hello:docker");
    let single = format!("oci:{image}:1.0.0");
    run(&mut registry.skopeo(&["copy", "--format", "v2s2", "--dest-tls-verify=false", &single, &docker]));
    run(registry.dmoci("pull").arg(&docker).arg("-o").arg(place.path("docker")));
    run(registry.dmoci("verify").arg("--integrity-only").arg(place.path("docker")));
    let missing =
        exits(registry.dmoci("pull").arg(registry.subject("acme/hello:2")).arg("-o").arg("x"), 6).err;
    assert!(missing.contains("E-REGISTRY-MISSING") && missing.contains("1.0.0, docker"), "{missing}");
}

#[test]
fn a_password_and_a_certificate_of_its_own() {
    if !have(PEERS) {
        return;
    }
    let (registry, place) = (Registry::closed(), Place::new());
    let image = example(&place);
    let subject = registry.subject("hello:1.0.0");
    let login = ["--dest-creds", "user:secret-word", "--dest-tls-verify=false"];
    run(registry.skopeo(&["copy", "--all"]).args(login).arg(format!("oci:{image}:1.0.0")).arg(&subject));
    run(registry.dmoci("pull").arg(&subject).arg("-o").arg(place.path("got")));
    assert_eq!(blobs(&place.path("got")), blobs(Path::new(&image)));
    // Without the one or the other.
    let none = exits(registry.dmoci("inspect").arg(&subject).env("REGISTRY_AUTH_FILE", "/dev/null"), 6).err;
    assert!(none.contains("E-REGISTRY-DENIED") && none.contains("no credentials"), "{none}");
    let untrusted =
        exits(dmoci().arg("inspect").arg(&subject).env("XDG_CACHE_HOME", place.path("cache")), 6).err;
    assert!(untrusted.contains("E-FETCH-TLS") && untrusted.contains("--ca-file"), "{untrusted}");
    assert!(![none, untrusted].iter().any(|text| text.contains("secret-word")));
}

#[test]
fn what_is_pushed_is_read_by_skopeo_and_crane() {
    if !have(PEERS) {
        return;
    }
    for registry in [Registry::start(), Registry::closed()] {
        let place = Place::new();
        let image = example(&place);
        let (a, b) = (registry.subject("acme/hello:1.0.0"), registry.subject("acme/moved:2"));
        let pushed = run(registry.dmoci("push").arg(&image).arg(&a));
        let digest = pushed.split_whitespace().last().unwrap().to_owned();
        run(registry.dmoci("copy").arg(&a).arg(&b));
        for subject in [&a, &b] {
            let creds = ["--creds", "user:secret-word", "--tls-verify=false", "--raw"];
            let raw = run(registry.skopeo(&["inspect"]).args(creds).arg(subject));
            assert_eq!(Digest::sha256(raw.as_bytes()).to_string(), digest);
            let creds = ["--src-creds", "user:secret-word", "--src-tls-verify=false"];
            let copy = format!("oci:{}:x", place.path("copy").display());
            run(registry.skopeo(&["copy", "--all"]).args(creds).args([subject.as_str(), &copy]));
            assert!(blobs(&place.path("copy")).len() >= blobs(Path::new(&image)).len());
            // crane validates layers and configurations against the manifests.
            let config =
                format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQtd29yZA=="}}}}}}"#, registry.host);
            fs::write(place.path("config.json"), config).unwrap();
            let mut crane = command("crane");
            crane.env("DOCKER_CONFIG", place.as_ref()).args(["--insecure", "validate", "--remote"]);
            run(crane.arg(subject.trim_start_matches("docker://")));
        }
        // Again: nothing but the tag.
        let again = exits(registry.dmoci("push").arg(&image).arg(&a), 0).err;
        assert!(again.contains("0 manifests and 0 blobs"), "{again}");
    }
}

/// This registry forgets an upload that is cut in the middle of a piece, so no more is asked for than that the next run finishes
/// it; `tests/it/registry/push.rs` counts what is sent to one that does not.
#[test]
fn a_killed_push_is_finished_by_the_next() {
    if !have(PEERS) {
        return;
    }
    let (registry, place) = (Registry::start(), Place::new());
    let mut random = fs::File::open("/dev/urandom").unwrap().take(400 << 20);
    std::io::copy(&mut random, &mut fs::File::create(place.path("data")).unwrap()).unwrap();
    let spec = "schema = 1\n[image]\nname = \"registry.example/large\"\nplatforms = [\"linux/amd64\"]\n\
                [[layer]]\nname = \"data\"\ncopy = [{ from = [\"data\"], to = \"/data\" }]\n";
    fs::write(place.path("dmoci.toml"), spec).unwrap();
    run(dmoci().arg("build").arg("-C").arg(place.as_ref()));
    let subject = registry.subject("large:1");
    let storage = registry.place.path("storage");
    for kill in 1..=2u64 {
        let mut push = registry.dmoci("push").arg(place.path("dist/image")).arg(&subject).spawn().unwrap();
        // Until so much has come.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while uploaded(&storage) < kill * (130 << 20) && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        push.kill().unwrap();
        push.wait().unwrap();
    }
    let sent = exits(registry.dmoci("-v").arg("push").arg(place.path("dist/image")).arg(&subject), 0);
    assert!(sent.err.contains("Finished"), "{}", sent.err);
    run(registry.dmoci("verify").arg("--integrity-only").arg(&subject));
}

/// Bytes below a directory.
fn uploaded(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => uploaded(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
