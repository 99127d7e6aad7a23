//! The image: its configuration and users.

use std::collections::BTreeMap;

use super::super::error::Problem;
use super::super::target::*;
use super::super::template::{Open, Part, Text, cut};
use super::super::tree::Fields;
use super::super::values;
use super::Resolver;

impl Resolver<'_> {
    pub(super) fn config(&mut self, image: &Fields) -> Option<ConfigSpec> {
        let entrypoint = self.arguments(image, "entrypoint");
        let cmd = self.arguments(image, "cmd");
        let first = |key: &str| {
            let node = image.get(key).and_then(|node| node.list().first());
            node.map_or(0..0, |node| node.span.clone())
        };
        let user = self.optional(image, "user", values::run_as);
        let workdir = self.optional(image, "workdir", values::config_path);
        let ports = self.each_once(image.list("ports"), "port", values::port);
        let volumes = self.each_once(image.list("volumes"), "volume", values::config_path);
        let stop_signal = self.optional(image, "stop-signal", values::signal);
        let env = self.env(image);
        let labels = self.labels(image, "labels");
        let healthcheck = self.healthcheck(image);
        let mut ports = ports?;
        let mut volumes = volumes?;
        ports.sort();
        volumes.sort();
        Some(ConfigSpec {
            entrypoint: entrypoint?,
            entrypoint_span: first("entrypoint"),
            cmd: cmd?,
            cmd_span: first("cmd"),
            user: user?,
            user_span: image.get("user").map_or(0..0, |node| node.span.clone()),
            workdir: workdir?,
            ports: ports.into_iter().map(|(number, protocol)| format!("{number}/{protocol}")).collect(),
            volumes,
            stop_signal: stop_signal?,
            env: env?,
            labels: labels?,
            healthcheck: healthcheck?,
        })
    }

    /// A list of arguments, of which the first names a program.
    pub(super) fn arguments(&mut self, fields: &Fields, key: &str) -> Option<Option<Vec<String>>> {
        let Some(node) = fields.get(key) else { return Some(None) };
        let list = self.each(node.list(), values::text)?;
        if let (Some(first), Some(node)) = (list.first(), node.list().first())
            && first.is_empty()
        {
            let problem = Problem::new(
                "E-SPEC-VALUE",
                &node.span,
                format!("`image.{key}` begins with an empty string"),
            );
            self.problems.push(problem.expected("expected a program"));
            return None;
        }
        Some(Some(list))
    }

    pub(super) fn env(&mut self, image: &Fields) -> Option<Vec<(String, EnvValue)>> {
        let mut all = BTreeMap::new();
        let mut complete = true;
        for (name, span, node) in image.table("env").map(|env| &env.entries[..]).unwrap_or_default() {
            complete &= self.good(span, values::env_name(name)).is_some();
            match node.text().and_then(|text| self.env_value(text)) {
                Some(value) => drop(all.insert(name.clone(), value)),
                None => complete = false,
            }
        }
        complete.then(|| all.into_iter().collect())
    }

    pub(super) fn env_value(&mut self, text: &Text) -> Option<EnvValue> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in &text.parts {
            let piece = match part {
                Part::Open(Open::Base(name), span) => {
                    // On scratch there is only the PATH that dmoci gives.
                    if self.scratch && name != "PATH" {
                        let message = format!("there is no base image that gives {} a value", cut(name));
                        self.problems.push(Problem::new("E-SPEC-VAR", span, message));
                        return None;
                    }
                    Piece::Base(name.clone())
                }
                part => {
                    let part = self.part(part)?;
                    Piece::Text(self.good(&text.span, values::text(&part))?)
                }
            };
            match (pieces.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(more)) => before.push_str(&more),
                (_, piece) => pieces.push(piece),
            }
        }
        Some(EnvValue(pieces))
    }

    pub(super) fn labels(&mut self, image: &Fields, key: &str) -> Option<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let mut complete = true;
        for (name, span, node) in image.table(key).map(|labels| &labels.entries[..]).unwrap_or_default() {
            complete &= self.good(span, values::label_name(name)).is_some();
            match self.checked(node, values::text) {
                Some(value) => drop(all.insert(name.clone(), value)),
                None => complete = false,
            }
        }
        complete.then_some(all)
    }

    pub(super) fn healthcheck(&mut self, image: &Fields) -> Option<Option<Healthcheck>> {
        let Some(fields) = image.table("healthcheck") else { return Some(None) };
        let test = fields.get("test").and_then(|node| {
            let test = self.each(node.list(), values::text)?;
            let good = match test.first().map(String::as_str) {
                Some("NONE") => test.len() == 1,
                Some("CMD") => test.len() > 1,
                Some("CMD-SHELL") => test.len() == 2,
                _ => false,
            };
            if !good {
                let problem = Problem::new(
                    "E-SPEC-VALUE",
                    &node.span,
                    "`image.healthcheck.test` is not a health check",
                );
                self.problems.push(
                    problem
                        .expected("expected [\"CMD\", PROGRAM, …], [\"CMD-SHELL\", COMMAND] or [\"NONE\"]"),
                );
            }
            good.then_some(test)
        });
        let interval = self.optional(fields, "interval", values::duration);
        let timeout = self.optional(fields, "timeout", values::duration);
        let start_period = self.optional(fields, "start-period", values::duration);
        let start_interval = self.optional(fields, "start-interval", values::duration);
        Some(Some(Healthcheck {
            test: test?,
            interval: interval?,
            timeout: timeout?,
            start_period: start_period?,
            start_interval: start_interval?,
            retries: fields.integer("retries").and_then(|number| u32::try_from(number).ok()),
        }))
    }

    pub(super) fn users(&mut self, image: &Fields) -> Option<Vec<User>> {
        let mut users: Vec<User> = Vec::new();
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        let mut complete = true;
        for fields in image.tables("users") {
            let name = self.required(fields, "name", values::user_name);
            let home = self.or(fields, "home", "/nonexistent".to_owned(), values::passwd_path);
            let shell = self.or(fields, "shell", "/sbin/nologin".to_owned(), values::passwd_path);
            let uid = fields.integer("uid").and_then(|id| u32::try_from(id).ok());
            let gid = fields.integer("gid").map_or(uid, |id| u32::try_from(id).ok());
            let (Some(name), Some(home), Some(shell), Some(uid), Some(gid)) = (name, home, shell, uid, gid)
            else {
                complete = false;
                continue;
            };
            let span = fields.span.clone();
            let keys = [format!("user {name}"), format!("uid {uid}"), format!("gid {gid}")];
            let before: Vec<_> = keys.into_iter().map(|key| seen.insert(key, span.clone())).collect();
            let twice = match &before[..] {
                [Some(other), ..] => Some((format!("the user `{name}` is declared twice"), other)),
                [_, Some(other), _] => Some((format!("two users have the number {uid}"), other)),
                [.., Some(other)] => Some((format!("two groups have the number {gid}"), other)),
                _ => None,
            };
            if let Some((message, other)) = twice {
                let problem = Problem::new("E-SPEC-DUPLICATE", &span, message).expected("again here");
                self.problems.push(problem.other(other, "first here"));
            }
            users.push(User { name, uid, gid, home, shell, span });
        }
        complete.then_some(users)
    }
}
