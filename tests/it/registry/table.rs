//! A table: every kind of request that dmoci makes of registries × everything that may go wrong with it.
//!
//! In each cell a fault hits some requests of one kind. Whatever it is, what comes of it is right or an error, and never something else; no
//! other server is told who asks; what passes is not noticed; and once a fault has ended, the same command finishes.

mod fault;
mod scenario;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fault::{FAULTS, Fault, How};
use scenario::{Scenario, World};

use crate::support::registry::{Door, Registry};
use crate::support::server::{Asked, End, Server};

/// A kind of request, and what is done when it is made.
struct Kind {
    name: &'static str,
    scenario: Scenario,
    is: fn(&str, &str, bool) -> bool,
}

/// Methods and targets, and whether it is a range.
#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "ping", scenario: Scenario::Pull, is: |_, target, _| target == "/v2/" },
    Kind { name: "token", scenario: Scenario::Pull, is: |_, target, _| target.starts_with("/token") },
    Kind { name: "manifest of a tag", scenario: Scenario::Pull, is: |method, target, _| method == "GET" && target.ends_with("/manifests/1.0") },
    Kind { name: "manifest of a digest", scenario: Scenario::Pull, is: |method, target, _| method == "GET" && target.contains("/manifests/sha256:") },
    Kind { name: "blob", scenario: Scenario::Pull, is: |method, target, range| method == "GET" && target.contains("/blobs/sha256:") && !range },
    Kind { name: "rest of a blob", scenario: Scenario::PullOn, is: |method, target, range| method == "GET" && target.contains("/blobs/sha256:") && range },
    Kind { name: "referrers", scenario: Scenario::Pull, is: |_, target, _| target.contains("/referrers/") },
    Kind { name: "stand-in for referrers", scenario: Scenario::PullOld, is: |method, target, _| method == "GET" && target.contains("/manifests/sha256-") },
    Kind { name: "is a manifest there", scenario: Scenario::Push, is: |method, target, _| method == "HEAD" && target.contains("/manifests/") },
    Kind { name: "is a blob there", scenario: Scenario::Push, is: |method, target, _| method == "HEAD" && target.contains("/blobs/") },
    Kind { name: "what the tag names now", scenario: Scenario::Push, is: |method, target, _| method == "GET" && target.ends_with("/manifests/1.0") },
    Kind { name: "begin an upload", scenario: Scenario::Push, is: |method, target, _| method == "POST" && target.ends_with("/uploads/") },
    Kind { name: "a blob at once", scenario: Scenario::Push, is: |method, target, _| method == "PUT" && target.contains("/uploads/") },
    Kind { name: "write a manifest", scenario: Scenario::Push, is: |method, target, _| method == "PUT" && target.contains("/manifests/sha256:") },
    Kind { name: "move a tag", scenario: Scenario::Push, is: |method, target, _| method == "PUT" && target.ends_with("/manifests/1.0") },
    Kind { name: "read the stand-in", scenario: Scenario::PushOld, is: |method, target, _| method == "GET" && target.contains("/manifests/sha256-") },
    Kind { name: "write the stand-in", scenario: Scenario::PushOld, is: |method, target, _| method == "PUT" && target.contains("/manifests/sha256-") },
    Kind { name: "a piece", scenario: Scenario::PushLarge, is: |method, _, _| method == "PATCH" },
    Kind { name: "how far an upload is", scenario: Scenario::PushLarge, is: |method, target, _| method == "GET" && target.contains("/uploads/") },
    Kind { name: "end an upload", scenario: Scenario::PushLarge, is: |method, target, _| method == "PUT" && target.contains("/uploads/") },
    Kind { name: "take over a blob", scenario: Scenario::Mount, is: |method, target, _| method == "POST" && target.contains("mount=") },
    Kind { name: "tags", scenario: Scenario::Tags, is: |_, target, _| target.contains("/tags/list") },
    Kind { name: "delete", scenario: Scenario::Delete, is: |method, _, _| method == "DELETE" },
];

/// How often a fault hits.
#[derive(Default)]
struct Trigger {
    left: AtomicUsize,
    hits: AtomicUsize,
}

impl Trigger {
    fn take(&self) -> Option<usize> {
        let left = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).ok()?;
        Some(self.hits.fetch_add(1, Ordering::SeqCst))
    }

    fn set(&self, times: usize) {
        self.left.store(times, Ordering::SeqCst);
    }
}

/// A registry whose requests of this kind meet this fault, and the server that a redirect or a realm leads to.
fn faulty(kind: &'static Kind, fault: &'static Fault) -> (Registry, Arc<Trigger>, Option<Server>) {
    let trigger = Arc::new(Trigger::default());
    let is = move |asked: &Asked| (kind.is)(&asked.method, &asked.target, asked.header("range").is_some());
    let other: Arc<std::sync::OnceLock<String>> = Arc::default();
    let place = Arc::clone(&other);
    let [instead, after, short] = [(); 3].map(|()| Arc::clone(&trigger));
    // The rest of a blob is asked for when it was cut, and how far an upload is when an answer did not come.
    let cut = AtomicBool::new(false);
    let registry = Registry::between(
        move |asked| match (&fault.how, is(asked)) {
            (How::Instead(reply), true) => instead.take().map(|_| reply()),
            _ => None,
        },
        move |asked, reply| {
            let reply = match (&fault.how, is(asked)) {
                (How::After(change), true) => match after.take() {
                    Some(number) => return change(asked, reply, number),
                    None => reply,
                },
                (How::Elsewhere(change), true) => match (after.take(), place.get()) {
                    (Some(_), Some(place)) => return change(asked, place),
                    _ => reply,
                },
                _ => reply,
            };
            let interrupted = match kind.scenario {
                Scenario::PullOn => {
                    asked.method == "GET"
                        && asked.target.contains("/blobs/")
                        && asked.header("range").is_none()
                }
                Scenario::PushLarge => asked.method == "PATCH" && !cut.swap(true, Ordering::SeqCst),
                _ => false,
            };
            let half = reply.body().len() / 2;
            match (interrupted, kind.scenario) {
                (false, _) => reply,
                (true, Scenario::PullOn) => reply.ends(End::Cut(half)),
                (true, _) => reply.ends(End::CutHead(9)),
            }
        },
        move |asked| match (&fault.how, is(asked)) {
            (How::Short, true) => {
                let length: usize =
                    asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                short.take().map(|number| length * (7 + 5 * number % 11) / 20)
            }
            _ => None,
        },
    );
    let server = match fault.name {
        "redirect to where it is" => Some(registry.open_to_all()),
        "redirect to where it is not" | "realm in a private network" => {
            Some(Server::start(|_| crate::support::server::Reply::new("404 Not Found", &[], b"")))
        }
        _ => None,
    };
    if let Some(server) = &server {
        let _ = other.set(server.url(""));
    }
    (registry, trigger, server)
}

/// One cell: the fault hits twice, or every time, and then no more.
fn cell(kind: &'static Kind, fault: &'static Fault) {
    let proxied = fault.name == "realm in a private network";
    // That proxy cuts nothing, and there is no token where there is no token service.
    if proxied && matches!(kind.name, "token" | "rest of a blob" | "how far an upload is") {
        return;
    }
    for times in [2, usize::MAX] {
        if times == 2 && !fault.passes {
            continue;
        }
        // Where the machine is busy a run may meet more silence than the fault's. What is wrong is so each time.
        let done = (0..5).any(|_| once(kind, fault, times, proxied));
        assert!(done, "{}, {}, {times} times: see above", kind.name, fault.name);
    }
}

/// The cell with so many hits; false when no request was one, or a command failed that should not.
fn once(kind: &'static Kind, fault: &'static Fault, times: usize, proxied: bool) -> bool {
    let what = format!("{}, {}, {times} times", kind.name, fault.name);
    let (registry, trigger, other) = faulty(kind, fault);
    kind.scenario.prepare(&registry);
    registry.content.lock().unwrap().door = match proxied {
        true => Door::Basic("user:secret-word".into()),
        false => Door::Token(registry.server.url("/token")),
    };
    let world = World::new(&registry, proxied);
    trigger.set(times);
    let first = kind.scenario.run(&world);
    if trigger.hits.load(Ordering::SeqCst) == 0 {
        println!("{what}: no such request was made");
        return false;
    }
    // Who says that there is no such list says that there are no referrers; and no digest says what a list of tags is.
    let none = fault.name == "404" && kind.name.contains("stand-in");
    let none = none || (kind.name == "tags" && !fault.passes);
    match &first {
        Ok(()) if none => kind.scenario.unharmed(&world, &registry, &what),
        Ok(()) => kind.scenario.right(&world, &registry, &what),
        Err(failure) => {
            kind.scenario.unharmed(&world, &registry, &what);
            if times == 2 {
                println!("{what}: {failure:?}");
                return false;
            }
        }
    }
    trigger.set(0);
    if let Err(failure) = kind.scenario.run(&world) {
        let done = kind.scenario == Scenario::Delete && failure.code == "E-REGISTRY-MISSING";
        if !done {
            println!("{what}, after its end: {failure:?}");
            return false;
        }
    }
    kind.scenario.right(&world, &registry, &what);
    if let Some(other) = other {
        let asked = other.asked();
        assert!(!proxied || asked.is_empty(), "{what}: {asked:?}");
        assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{what}: {asked:?}");
    }
    true
}

fn row(scenarios: &[Scenario]) {
    let kinds: Vec<&'static Kind> = KINDS.iter().filter(|kind| scenarios.contains(&kind.scenario)).collect();
    assert!(!kinds.is_empty());
    for kind in kinds {
        for fault in FAULTS {
            cell(kind, fault);
        }
    }
}

#[test]
fn reading() {
    row(&[Scenario::Pull, Scenario::PullOn]);
}

#[test]
fn reading_from_an_old_registry_and_its_lists() {
    row(&[Scenario::PullOld, Scenario::Tags, Scenario::Delete]);
}

#[test]
fn writing() {
    row(&[Scenario::Push, Scenario::Mount]);
}

#[test]
fn writing_to_an_old_registry_and_in_pieces() {
    row(&[Scenario::PushOld, Scenario::PushLarge]);
}
