//! Image configurations (OCI image-spec 1.1, `config.md`).

use std::collections::BTreeMap;

use dmoci_layers::Digest;
use serde_json::Value;

use super::descriptor::{PlatformFields, parse_digest};
use super::json::pointer;
use super::problem::{Problem, shown};
use super::read::Node;

/// An image configuration, as far as this program uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The platform that the image says it is for.
    pub platform: PlatformFields,
    /// When the image was made, as written.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Digests of the layers before compression, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// One item per step of the build.
    pub history: Vec<History>,
    /// How a container is started.
    pub run: Run,
}

/// `config.config`: how a container is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// User and group, by name or number.
    pub user: Option<String>,
    /// Ports, such as `8000/tcp`.
    pub ports: Vec<String>,
    /// `NAME=value`, in the order given.
    pub env: Vec<String>,
    /// The arguments that come first.
    pub entrypoint: Vec<String>,
    /// The arguments that come after them.
    pub cmd: Vec<String>,
    /// Directories that get a volume.
    pub volumes: Vec<String>,
    /// Directory the program starts in.
    pub workdir: Option<String>,
    /// Free texts.
    pub labels: BTreeMap<String, String>,
    /// Signal that stops the container.
    pub stop_signal: Option<String>,
}

/// One item of `history`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When, as written.
    pub created: Option<String>,
    /// The command.
    pub created_by: Option<String>,
    /// Free text.
    pub comment: Option<String>,
    /// The step made no layer.
    pub empty_layer: bool,
}

impl Config {
    /// Reads and checks a configuration. `None` when it says no platform or no usable diff_ids.
    pub fn read(value: &Value, problems: &mut Vec<Problem>) -> Option<Config> {
        let mut node = Node::new(value, "", problems)?;
        node.known(&[
            "created",
            "author",
            "architecture",
            "os",
            "os.version",
            "os.features",
            "variant",
            "config",
            "rootfs",
            "history",
        ]);
        let architecture = node.required_string("architecture");
        let os = node.required_string("os");
        let variant = nullable(&node, "variant").then(|| node.string("variant")).flatten();
        let os_version = nullable(&node, "os.version").then(|| node.string("os.version")).flatten();
        let os_features =
            if nullable(&node, "os.features") { node.strings("os.features") } else { Vec::new() };
        let created = read_time(&mut node, "created");
        let author = node.string("author");
        let diff_ids = node.required("rootfs").and_then(|rootfs| read_rootfs(rootfs, node.problems));
        let history = read_history(&mut node);
        let run = match node.get("config") {
            None | Some(Value::Null) => Run::default(),
            Some(value) => Run::read(value, node.problems).unwrap_or_default(),
        };
        let layers = history.iter().filter(|item| !item.empty_layer).count();
        if let Some(diff_ids) = &diff_ids
            && !history.is_empty()
            && layers != diff_ids.len()
        {
            let text = "the history makes another number of layers than rootfs.diff_ids lists";
            let problem = Problem::warning("E-OCI-HISTORY", "/history", text);
            node.problems.push(problem.but(diff_ids.len().to_string(), layers.to_string()));
        }
        let platform =
            PlatformFields { os: os?, architecture: architecture?, variant, os_version, os_features };
        Some(Config { platform, created, author, diff_ids: diff_ids?, history, run })
    }

    /// The names that dmoci writes into the history, as they stand there: one for each layer, where there is one.
    pub fn layer_names(&self) -> Vec<Option<&str>> {
        let made = self.history.iter().filter(|step| !step.empty_layer);
        let mut names: Vec<_> =
            made.map(|step| step.created_by.as_deref()?.strip_prefix("dmoci layer ")).collect();
        names.resize(self.diff_ids.len(), None);
        names
    }
}

impl Run {
    /// Reads `config.config`. `null` stands for "not given" everywhere, as Docker writes it.
    fn read(value: &Value, problems: &mut Vec<Problem>) -> Option<Run> {
        let mut node = Node::new(value, "/config", problems)?;
        node.known(&[
            "User",
            "ExposedPorts",
            "Env",
            "Entrypoint",
            "Cmd",
            "Volumes",
            "WorkingDir",
            "Labels",
            "StopSignal",
            "ArgsEscaped",
            "Memory",
            "MemorySwap",
            "CpuShares",
            "Healthcheck",
            "OnBuild",
            "Shell",
        ]);
        let text = |node: &mut Node<'_, '_>, name: &str| node.has(name).then(|| node.string(name)).flatten();
        let texts = |node: &mut Node<'_, '_>, name: &str| {
            if node.has(name) { node.strings(name) } else { Vec::new() }
        };
        let run = Run {
            user: text(&mut node, "User"),
            ports: read_set(&mut node, "ExposedPorts"),
            env: texts(&mut node, "Env"),
            entrypoint: texts(&mut node, "Entrypoint"),
            cmd: texts(&mut node, "Cmd"),
            volumes: read_set(&mut node, "Volumes"),
            workdir: text(&mut node, "WorkingDir"),
            labels: if node.has("Labels") { node.map("Labels") } else { BTreeMap::new() },
            stop_signal: text(&mut node, "StopSignal"),
        };
        run.check(node.problems);
        Some(run)
    }

    fn check(&self, problems: &mut Vec<Problem>) {
        for (i, item) in self.env.iter().enumerate() {
            if item.split_once('=').is_none_or(|(name, _)| name.is_empty()) || item.contains('\0') {
                let at = format!("/config/Env/{i}");
                let problem = Problem::error("E-OCI-ENV", &at, "not of the form NAME=value");
                problems.push(problem.but("NAME=value", shown(&item.as_str().into())));
            }
        }
        for port in &self.ports {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let number =
                number.parse::<u16>().is_ok_and(|n| n > 0) && number.bytes().all(|b| b.is_ascii_digit());
            if !number || !matches!(protocol, "tcp" | "udp" | "sctp") {
                let at = pointer("/config/ExposedPorts", port);
                let problem = Problem::error("E-OCI-PORT", &at, "not a port");
                problems.push(problem.but("port, port/tcp or port/udp", shown(&port.as_str().into())));
            }
        }
    }
}

fn nullable(node: &Node<'_, '_>, name: &str) -> bool {
    node.has(name)
}

/// A set, written as an object of empty objects.
fn read_set(node: &mut Node<'_, '_>, name: &str) -> Vec<String> {
    match node.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(members)) => {
            for (key, value) in members {
                if !value.as_object().is_some_and(|inner| inner.is_empty()) {
                    let at = pointer(&node.at(name), key);
                    let problem = Problem::warning(
                        "E-OCI-TYPE",
                        &at,
                        "not the empty object that the specification asks for",
                    );
                    node.problems.push(problem.but("{}", shown(value)));
                }
            }
            members.keys().cloned().collect()
        }
        Some(other) => {
            node.wrong(name, "an object of empty objects", other);
            Vec::new()
        }
    }
}

fn read_rootfs(value: &Value, problems: &mut Vec<Problem>) -> Option<Vec<Digest>> {
    let mut node = Node::new(value, "/rootfs", problems)?;
    node.known(&["type", "diff_ids"]);
    if let Some(kind) = node.required("type")
        && kind.as_str() != Some("layers")
    {
        let problem =
            Problem::error("E-OCI-ROOTFS", "/rootfs/type", "the type of the root file system is unknown");
        node.problems.push(problem.but("layers", shown(kind)));
    }
    node.required("diff_ids")?;
    let items = node.array("diff_ids")?;
    let mut diff_ids = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let at = format!("/rootfs/diff_ids/{i}");
        diff_ids.push(match item.as_str() {
            Some(text) => parse_digest(text, &at, node.problems),
            None => {
                node.problems.push(super::read::wrong_type(&at, "a digest", item));
                None
            }
        });
    }
    diff_ids.into_iter().collect()
}

fn read_history(node: &mut Node<'_, '_>) -> Vec<History> {
    let mut history = Vec::new();
    if !node.has("history") {
        return history;
    }
    for (i, item) in node.array("history").into_iter().flatten().enumerate() {
        let at = format!("/history/{i}");
        let Some(mut step) = Node::new(item, &at, node.problems) else { continue };
        step.known(&["created", "author", "created_by", "comment", "empty_layer"]);
        step.string("author");
        history.push(History {
            created: read_time(&mut step, "created"),
            created_by: step.string("created_by"),
            comment: step.string("comment"),
            empty_layer: step.boolean("empty_layer").unwrap_or(false),
        });
    }
    history
}

fn read_time(node: &mut Node<'_, '_>, name: &str) -> Option<String> {
    if !node.has(name) {
        return None;
    }
    let text = node.string(name)?;
    if !is_rfc3339(&text) {
        let at = node.at(name);
        let problem = Problem::error("E-OCI-TIME", &at, "not a time of RFC 3339, section 5.6");
        node.problems.push(problem.but("2006-01-02T15:04:05Z", shown(&text.as_str().into())));
    }
    Some(text)
}

/// `date-time` of RFC 3339, section 5.6, with ranges of every field.
fn is_rfc3339(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| {
        text.get(range).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse::<u32>().ok())
    };
    let at = |i: usize| text.as_bytes().get(i).copied().unwrap_or(0);
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let (Some(hour), Some(minute), Some(second)) = (number(11..13), number(14..16), number(17..19)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    let separators =
        at(4) == b'-' && at(7) == b'-' && matches!(at(10), b'T' | b't') && at(13) == b':' && at(16) == b':';
    if !separators || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return false;
    }
    let mut zone = text.get(19..).unwrap_or_default();
    if let Some(fraction) = zone.strip_prefix('.') {
        zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if zone.len() == fraction.len() {
            return false;
        }
    }
    match zone.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => {
            let two = |x: &u8, y: &u8| {
                (x.is_ascii_digit() && y.is_ascii_digit()).then(|| (x - b'0') * 10 + (y - b'0'))
            };
            two(a, b).is_some_and(|h| h < 24) && two(c, d).is_some_and(|m| m < 60)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for good in [
            "2015-10-31T22:22:56.015925234Z",
            "1980-01-02T00:00:00Z",
            "2024-02-29T23:59:60+05:30",
            "2000-01-01t00:00:00z",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "2015-10-31",
            "2023-02-29T00:00:00Z",
            "2015-13-01T00:00:00Z",
            "2015-10-31 22:22:56Z",
            "2015-10-31T22:22:56",
            "2015-10-31T22:22:56.Z",
            "2015-10-31T22:22:56+0530",
            "2015-10-31T22:22:5é",
            "+015-10-31T22:22:56Z",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    #[test]
    fn nulls_of_docker_are_nothing() {
        let value = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Cmd": null, "Env": null, "Labels": null, "Volumes": null, "OnBuild": null, "Entrypoint": null}});
        let mut problems = Vec::new();
        assert_eq!(Config::read(&value, &mut problems).unwrap().run, Run::default());
        assert_eq!(problems, []);
    }
}
