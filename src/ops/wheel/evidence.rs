//! What is known of how distributions were built, for whoever wants to build them again.

use std::time::Duration;

use serde_json::{Value, json};

use super::environment::Environment;
use super::tools::{Installer, Python};
use super::{Made, Request};
use crate::lock::Pin;
use crate::sandbox::Isolation;

/// All of it.
pub(super) fn evidence(
    request: &Request,
    environment: &Environment<'_>,
    pins: &[Pin],
    epoch: u64,
    made: &[Made],
) -> Value {
    let Environment { cell, python, installer, system, source, .. } = environment;
    let requirements = pins.iter().map(|pin| {
        let file = pin.wheel.as_ref().map(|wheel| wheel.file.clone());
        json!({"file": file, "sha256": pin.digest.hex()})
    });
    let distributions = made.iter().map(|(made, _)| {
        json!({"kind": made.kind, "name": made.name, "digest": made.digest.to_string(), "size": made.size,
            "backendDigest": made.backend.to_string()})
    });
    json!({
        "schema": 1,
        "rules": dmoci_layers::RULES,
        "backend": system.backend,
        "requires": system.requires,
        "requirements": requirements.collect::<Vec<_>>(),
        "python": {"implementation": python.implementation, "version": python.version, "zlib": python.zlib,
            "builtBy": python.built_by},
        "compiler": compiler(python),
        "installer": installer.get().map(Installer::shown),
        "isolation": isolation(cell.isolation(), cell.sockets()),
        "source": source.taken.name(),
        "epoch": epoch,
        "normalized": !request.as_they_are,
        "distributions": distributions.collect::<Vec<_>>(),
    })
}

/// What kept the backend in, and whether it was kept from the sockets of the machine.
fn isolation(isolation: &Isolation, sockets: Result<(), &str>) -> Value {
    let sockets = match sockets {
        Ok(()) => json!({"kind": "refused"}),
        Err(why) => json!({"kind": "open", "reason": why}),
    };
    match isolation {
        Isolation::Namespaces => json!({"kind": "namespaces", "sockets": sockets}),
        Isolation::Nothing(why) => json!({"kind": "none", "reason": why, "sockets": sockets}),
    }
}

/// The first line of what the compiler that extensions are built with says of itself; nothing without one.
fn compiler(python: &Python) -> Option<String> {
    let program = python.cc.as_deref()?.split_whitespace().next()?;
    let mut command = std::process::Command::new(program);
    command.arg("--version").stdin(std::process::Stdio::null());
    let ended = crate::sandbox::bounded(command, Duration::from_secs(20)).ok()?;
    let success = ended.status.is_some_and(|status| status.success());
    success.then(|| ended.said.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kept_it_in() {
        let found = isolation(&Isolation::Namespaces, Err("the kernel is old"));
        let expected =
            json!({"kind": "namespaces", "sockets": {"kind": "open", "reason": "the kernel is old"}});
        assert_eq!(found, expected);
        let found = isolation(&Isolation::Nothing("no".into()), Ok(()));
        assert_eq!(found, json!({"kind": "none", "reason": "no", "sockets": {"kind": "refused"}}));
    }
}
