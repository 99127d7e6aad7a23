//! What is done while requests fail, and what must have come of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dmoci::diagnostic::Failure;
use dmoci::fetch::{Logins, Patience, Proxies, Settings, Surroundings};
use dmoci::oci::json;
use dmoci::ops::lock::Network;
use dmoci::ops::plan::Watch;
use dmoci::ops::remote::Remote;
use dmoci::ops::{delete, pull, push, tags};
use dmoci::store::Subject;
use dmoci_layers::{Compression, Digest};
use serde_json::Value;
use tempfile::TempDir;

use super::super::{lists, tree};
use crate::support::registry::Registry;
use crate::verify::Sample;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// An image of two platforms, from a registry that lists referrers.
    Pull,
    /// The same; every blob is cut once.
    PullOn,
    /// An image with referrers, from a registry that does not list them.
    PullOld,
    /// An image with referrers, in the place of another one.
    Push,
    /// The same, to a registry that does not list them.
    PushOld,
    /// A layer in four pieces.
    PushLarge,
    /// From one repository to another.
    Mount,
    /// A list of several pages.
    Tags,
    /// A manifest with two tags.
    Delete,
}

/// A machine that does not wait, and its clock.
struct Machine;

impl Surroundings for Machine {
    fn now(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    fn wait(&self, _: Duration) {}

    fn chance(&self) -> f64 {
        0.5
    }

    fn roots(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// Nobody looks.
struct Nobody;

impl Watch for Nobody {
    fn status(&self, _: &str, _: &str) {}
    fn detail(&self, _: &str, _: &str) {}
    fn warning(&self, _: &str) {}
    fn total(&self, _: u64) {}
    fn wrote(&self, _: u64) {}
}

/// A machine with a cache, credentials and a place for what is pulled.
pub(super) struct World {
    dir: TempDir,
    host: String,
    settings: Settings,
}

impl World {
    /// For a registry on the loopback, or one elsewhere that the same server is the proxy for.
    pub(super) fn new(registry: &Registry, proxied: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let host = if proxied { "registry.example".to_owned() } else { registry.host() };
        let pair = dmoci::base64::encode(b"user:secret-word");
        let auths = format!(r#"{{"auths":{{"{host}":{{"auth":"{pair}"}}}}}}"#);
        fs::write(dir.path().join("auth.json"), auths).unwrap();
        let proxy = proxied.then(|| registry.server.url(""));
        let milliseconds = Duration::from_millis;
        let settings = Settings {
            proxies: Proxies::new(proxy.as_deref(), None, None, None),
            plain_http: proxied,
            logins: Logins { files: vec![dir.path().join("auth.json")], named: true },
            patience: Patience {
                answer: milliseconds(250),
                commit: milliseconds(250),
                silence: milliseconds(250),
                window: milliseconds(100),
                least: 8 << 10,
                piece: 64 << 10,
                attempts: 4,
                ..Patience::default()
            },
            ..Settings::default()
        };
        World { dir, host, settings }
    }

    fn with<T>(&self, command: impl FnOnce(&Remote<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let network = Network {
            settings: self.settings.clone(),
            cache: Some(self.path("cache")),
            surroundings: &Machine,
            locked: false,
            variable: |_| None,
        };
        command(&Remote { network: &network, watch: &Nobody })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn subject(&self, rest: &str) -> Subject {
        format!("docker://{}/{rest}", self.host).parse().unwrap()
    }
}

/// An image with what refers to it, in a layout: made once.
static REFERRED: LazyLock<TempDir> = LazyLock::new(|| {
    let registry = lists::registry(false);
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(&registry, false);
    let request = pull::Request {
        subject: world.subject("app:1.0"),
        output: Subject::bare(dir.path().join("image")),
        platform: None,
    };
    world.with(|remote| pull::pull(&request, remote)).unwrap();
    dir
});

/// A layer of 200 KiB that is sent as it is.
static LARGE: LazyLock<Sample> = LazyLock::new(|| {
    let bytes: Vec<u8> = (0..200u32 << 10).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let digest = Digest::sha256(&bytes);
    Sample::with_layer(bytes, Compression::None, digest)
});

impl Scenario {
    pub(super) fn prepare(self, registry: &Registry) {
        let load = |sample: &Sample, name: &str| registry.load(sample.layout().path(), name, "1.0");
        match self {
            Scenario::Pull | Scenario::PullOn => {
                load(&Sample::two_platforms(), "app");
            }
            Scenario::PullOld => {
                let full = lists::registry(true);
                let from = full.content.lock().unwrap();
                let mut to = registry.content.lock().unwrap();
                (to.manifests, to.blobs, to.old) = (from.manifests.clone(), from.blobs.clone(), true);
            }
            Scenario::Push | Scenario::PushOld | Scenario::PushLarge => {
                registry.content.lock().unwrap().links = Some(BTreeSet::new());
                load(&Sample::two_platforms(), "app");
                registry.content.lock().unwrap().old = self == Scenario::PushOld;
            }
            Scenario::Mount => {
                registry.content.lock().unwrap().links = Some(BTreeSet::new());
                load(&Sample::two_platforms(), "from");
            }
            Scenario::Tags | Scenario::Delete => {
                let digest = load(&Sample::two_platforms(), "app").to_string();
                let mut content = registry.content.lock().unwrap();
                content.tag("app", "2.0", &digest);
                content.page = 1;
            }
        }
    }

    pub(super) fn run(self, world: &World) -> Result<(), Failure> {
        let send = |subject: Subject, to: &str| {
            let request =
                push::Request { subject, to: vec![world.subject(to)], platform: None, dry_run: false };
            world.with(|remote| push::push(&request, remote)).map(|_| ())
        };
        match self {
            Scenario::Pull | Scenario::PullOn | Scenario::PullOld => {
                let request = pull::Request {
                    subject: world.subject("app:1.0"),
                    output: Subject::bare(world.path("got")),
                    platform: None,
                };
                world.with(|remote| pull::pull(&request, remote)).map(|_| ())
            }
            Scenario::Push | Scenario::PushOld => {
                send(Subject::bare(REFERRED.path().join("image")), "app:1.0")
            }
            Scenario::PushLarge => send(Subject::bare(LARGE.layout().path()), "app:1.0"),
            Scenario::Mount => send(world.subject("from:1.0"), "app:1.0"),
            Scenario::Tags => {
                let name = world.subject("app:x").name().unwrap().clone();
                let found = world.with(|remote| tags::tags(&name, remote))?;
                fs::write(world.path("tags"), found.join("\n")).unwrap();
                Ok(())
            }
            Scenario::Delete => {
                let digest = Sample::two_platforms().root()["digest"].as_str().unwrap().to_owned();
                let request = delete::Request {
                    subjects: vec![world.subject(&format!("app@{digest}"))],
                    referrers: false,
                    dry_run: false,
                };
                world.with(|remote| delete::delete(&request, remote)).map(|_| ())
            }
        }
    }

    /// All is there as it should be.
    pub(super) fn right(self, world: &World, registry: &Registry, what: &str) {
        match self {
            Scenario::Pull | Scenario::PullOn => {
                let got = world.path("got");
                let layout = Sample::two_platforms().layout();
                assert_eq!(contents(&got), contents(layout.path()), "{what}");
                assert_eq!(
                    index(&got)["manifests"][0]["digest"],
                    Sample::two_platforms().root()["digest"],
                    "{what}"
                );
            }
            Scenario::PullOld => {
                assert_eq!(contents(&world.path("got")), contents(&REFERRED.path().join("image")), "{what}");
            }
            Scenario::Tags => {
                assert_eq!(fs::read_to_string(world.path("tags")).unwrap(), "1.0\n2.0", "{what}");
            }
            Scenario::Delete => {
                let content = registry.content.lock().unwrap();
                let index = |(_, name): &&(String, String)| !name.starts_with("sha256:");
                assert_eq!(content.manifests.keys().find(index), None, "{what}");
            }
            Scenario::Mount => {
                let root = sound(registry, what).into_iter().find(|(name, _)| name == "1.0");
                let digest = Sample::two_platforms().root()["digest"].as_str().unwrap().to_owned();
                assert_eq!(root.unwrap().1, digest, "{what}");
            }
            Scenario::Push | Scenario::PushOld | Scenario::PushLarge => {
                let tags = sound(registry, what);
                let image = match self {
                    Scenario::PushLarge => LARGE.root()["digest"].as_str().unwrap().to_owned(),
                    _ => index(&REFERRED.path().join("image"))["manifests"][0]["digest"]
                        .as_str()
                        .unwrap()
                        .to_owned(),
                };
                assert!(tags.contains(&("1.0".to_owned(), image)), "{what}: {tags:?}");
                if self != Scenario::PushLarge {
                    let content = registry.content.lock().unwrap();
                    for text in ["one", "two", "three", "deep"] {
                        assert!(content.blobs.values().any(|blob| blob == text.as_bytes()), "{what}: {text}");
                    }
                    let lists: usize = tags
                        .iter()
                        .filter(|(tag, _)| tag.starts_with("sha256-"))
                        .map(|(tag, _)| {
                            let list = &content.manifests[&("app".to_owned(), tag.clone())].1;
                            json::parse(list).unwrap()["manifests"].as_array().unwrap().len()
                        })
                        .sum();
                    // One that lists them itself may not have been heard to say so.
                    assert!(lists == 4 || (lists == 0 && self == Scenario::Push), "{what}: {lists} listed");
                }
            }
        }
    }

    /// It failed, or was told that there is nothing, and nothing wrong came of it.
    pub(super) fn unharmed(self, world: &World, registry: &Registry, what: &str) {
        match self {
            Scenario::Pull | Scenario::PullOn => assert!(!world.path("got").exists(), "{what}"),
            Scenario::PullOld => {
                let all = contents(&REFERRED.path().join("image"));
                assert!(contents(&world.path("got")).is_subset(&all), "{what}");
            }
            Scenario::Tags => {}
            _ => {
                sound(registry, what);
            }
        }
    }
}

/// The digests of all blobs of a layout that are no indexes: each list of referrers has its own form.
fn contents(layout: &std::path::Path) -> BTreeSet<String> {
    if !layout.exists() {
        return BTreeSet::new();
    }
    let blobs = tree(&layout.join("blobs")).into_iter().map(|(_, bytes)| bytes);
    let list = |bytes: &Vec<u8>| json::parse(bytes).is_ok_and(|value| value.get("manifests").is_some());
    blobs.filter(|bytes| !list(bytes)).map(|bytes| Digest::sha256(&bytes).to_string()).collect()
}

fn index(layout: &std::path::Path) -> Value {
    json::parse(&fs::read(layout.join("index.json")).unwrap()).unwrap()
}

/// Every tag with its digest; all that it leads to must be there, and be what its digest says.
fn sound(registry: &Registry, what: &str) -> Vec<(String, String)> {
    let content = registry.content.lock().unwrap();
    for (digest, bytes) in &content.blobs {
        assert_eq!(&Digest::sha256(bytes).to_string(), digest, "{what}");
    }
    let mut tags = Vec::new();
    for ((repository, name), (_, bytes)) in &content.manifests {
        let digest = Digest::sha256(bytes).to_string();
        match name.contains(':') {
            true => assert_eq!(*name, digest, "{what}"),
            false => tags.push((name.clone(), digest)),
        }
        let value = json::parse(bytes).unwrap();
        let named = |field: &str| value[field].as_array().cloned().unwrap_or_default();
        let has = |one: &Value| {
            content.manifests.contains_key(&(repository.clone(), one["digest"].as_str().unwrap().to_owned()))
        };
        assert!(named("manifests").iter().all(has), "{what}: {name} of {repository} lists what is not there");
        let blobs = named("layers").into_iter().chain(value.get("config").cloned());
        for blob in blobs {
            assert!(
                content.blobs.contains_key(blob["digest"].as_str().unwrap()),
                "{what}: {name} of {repository}"
            );
        }
    }
    tags
}
