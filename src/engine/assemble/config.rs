//! The configuration of an image (OCI image-spec 1.1, `config.md`): the base's, changed as the spec says.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::base::BaseImage;
use super::error::{BuildError, BuildErrorKind};
use super::image::{BuiltLayer, Facts};
use crate::spec::target::{ConfigSpec, Healthcheck, Target};

/// PATH where no base image says one: the usual six directories.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of `target` with these layers above the base's.
pub(super) fn config(
    target: &Target,
    base: Option<&BaseImage>,
    layers: &[BuiltLayer],
    facts: &Facts,
) -> Result<Value, BuildError> {
    let mut config = match base.map(|base| &base.config) {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    config.insert("created".into(), facts.created.as_str().into());
    config.insert("os".into(), target.platform.os().into());
    config.insert("architecture".into(), target.platform.architecture().into());
    match target.platform.variant() {
        Some(variant) => config.insert("variant".into(), variant.into()),
        None => config.remove("variant"),
    };
    let base_diffs = base.map(|base| base.run.diff_ids.as_slice()).unwrap_or_default();
    let diff_ids: Vec<String> =
        base_diffs.iter().chain(layers.iter().map(|layer| &layer.diff_id)).map(ToString::to_string).collect();
    config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    config.insert("history".into(), history(base, layers, facts).into());
    let mut run = match config.remove("config") {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    change(&mut run, &target.config, base)?;
    config.insert("config".into(), run.into());
    Ok(config.into())
}

/// The base's history, made complete where it says less than it has layers, and one step a layer.
fn history(base: Option<&BaseImage>, layers: &[BuiltLayer], facts: &Facts) -> Vec<Value> {
    let mut history = Vec::new();
    if let Some(base) = base {
        let told = base.run.history.iter().filter(|step| !step.empty_layer).count();
        if told == base.layers.len() {
            history.extend(base.config.get("history").and_then(Value::as_array).cloned().unwrap_or_default());
        } else {
            let steps = base.layers.iter().map(|_| json!({"comment": format!("from {}", base.name)}));
            history.extend(steps);
        }
    }
    history.extend(
        layers.iter().map(
            |layer| json!({"created": facts.created, "created_by": format!("dmoci layer {}", layer.name)}),
        ),
    );
    history
}

/// Changes `config.config` as the spec says.
fn change(
    run: &mut Map<String, Value>,
    spec: &ConfigSpec,
    base: Option<&BaseImage>,
) -> Result<(), BuildError> {
    let mut text = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            run.insert(name.into(), value.as_str().into());
        }
    };
    text("User", &spec.user);
    text("WorkingDir", &spec.workdir);
    text("StopSignal", &spec.stop_signal);
    for (name, value) in [("Entrypoint", &spec.entrypoint), ("Cmd", &spec.cmd)] {
        match value {
            Some(list) if list.is_empty() => run.remove(name),
            Some(list) => run.insert(name.into(), list.clone().into()),
            // A base's arguments belong to the base's program.
            None if name == "Cmd" && spec.entrypoint.is_some() => run.remove(name),
            None => None,
        };
    }
    run.insert("Env".into(), environment(spec, base)?.into());
    for (name, keys) in [("ExposedPorts", &spec.ports), ("Volumes", &spec.volumes)] {
        if name == "ExposedPorts"
            && let Some(Value::Object(ports)) = run.get_mut(name)
        {
            // A base may write a TCP port without its protocol.
            ports.retain(|port, _| !keys.contains(&format!("{port}/tcp")));
        }
        if !keys.is_empty() {
            extend(run, name, keys.iter().map(|key| (key.clone(), json!({}))));
        }
    }
    if !spec.labels.is_empty() {
        let labels = spec.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        extend(run, "Labels", labels);
    }
    if let Some(check) = &spec.healthcheck {
        run.insert("Healthcheck".into(), healthcheck(check));
    }
    Ok(())
}

/// Adds to the object of this name, which the base may not have.
fn extend(run: &mut Map<String, Value>, name: &str, items: impl Iterator<Item = (String, Value)>) {
    let mut map = match run.remove(name) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    map.extend(items);
    run.insert(name.into(), map.into());
}

/// The base's order kept, its values overridden in place, new names behind in their order.
pub(super) fn environment(spec: &ConfigSpec, base: Option<&BaseImage>) -> Result<Vec<String>, BuildError> {
    let mut env: Vec<(String, String)> = match base {
        Some(base) => base
            .run
            .run
            .env
            .iter()
            .map(|line| line.split_once('=').unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        None => vec![("PATH".to_owned(), PATH.to_owned())],
    };
    let below = env.clone();
    for (name, value) in &spec.env {
        let value = value
            .expand(|wanted| below.iter().rev().find(|(name, _)| name == wanted).map(|(_, v)| v.clone()))
            .map_err(|missing| BuildError::new(BuildErrorKind::BaseEnv(missing.to_owned())))?;
        match env.iter_mut().find(|(old, _)| old == name) {
            Some((_, old)) => *old = value,
            None => env.push((name.clone(), value)),
        }
    }
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Docker's extension of the configuration: durations are nanoseconds.
fn healthcheck(check: &Healthcheck) -> Value {
    let mut map = Map::new();
    map.insert("Test".into(), check.test.clone().into());
    let mut time = |name: &str, value: Option<Duration>| {
        if let Some(value) = value {
            map.insert(name.into(), u64::try_from(value.as_nanos()).unwrap_or(u64::MAX).into());
        }
    };
    time("Interval", check.interval);
    time("Timeout", check.timeout);
    time("StartPeriod", check.start_period);
    time("StartInterval", check.start_interval);
    if let Some(retries) = check.retries {
        map.insert("Retries".into(), retries.into());
    }
    map.into()
}
