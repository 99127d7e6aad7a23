//! Single values: expansion and check.

use super::super::error::Problem;
use super::super::target::Span;
use super::super::template::{Open, Part, Text, cut};
use super::super::tree::{Fields, Node};
use super::super::values::Bad;
use super::Resolver;
use crate::limits;

/// Single values.
impl Resolver<'_> {
    pub(super) fn required<T>(
        &mut self,
        fields: &Fields,
        key: &str,
        check: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<T> {
        self.checked(fields.get(key)?, check)
    }

    pub(super) fn optional<T>(
        &mut self,
        fields: &Fields,
        key: &str,
        check: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Option<T>> {
        match fields.get(key) {
            Some(node) => self.checked(node, check).map(Some),
            None => Some(None),
        }
    }

    pub(super) fn or<T>(
        &mut self,
        fields: &Fields,
        key: &str,
        default: T,
        check: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<T> {
        self.optional(fields, key, check).map(|value| value.unwrap_or(default))
    }

    pub(super) fn each<T>(
        &mut self,
        list: &[Node],
        check: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Vec<T>> {
        let values: Vec<_> = list.iter().map(|node| self.checked(node, &check)).collect();
        values.into_iter().collect()
    }

    pub(super) fn each_once<T: PartialEq>(
        &mut self,
        list: &[Node],
        what: &str,
        check: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Vec<T>> {
        let mut values: Vec<Option<T>> = Vec::new();
        for node in list {
            let value = self.checked(node, &check);
            let first = values.iter().position(|other| other.is_some() && *other == value);
            if let Some(first) = first.and_then(|at| list.get(at)) {
                let problem =
                    Problem::new("E-SPEC-DUPLICATE", &node.span, format!("the same {what} is named twice"));
                self.problems.push(problem.expected("again here").other(&first.span, "first here"));
            }
            values.push(value);
        }
        values.into_iter().collect()
    }

    pub(super) fn checked<T>(&mut self, node: &Node, check: impl Fn(&str) -> Result<T, Bad>) -> Option<T> {
        let text = node.text()?;
        let expanded = self.expand(text)?;
        let result = check(&expanded);
        self.good(&node.span, result)
    }

    pub(super) fn good<T>(&mut self, span: &Span, result: Result<T, Bad>) -> Option<T> {
        result
            .map_err(|bad| {
                let mut problem = Problem::new(bad.code, span, bad.message).expected(bad.expected);
                problem.help = bad.help;
                self.problems.push(problem);
            })
            .ok()
    }
}

/// Expansion.
impl Resolver<'_> {
    pub(super) fn expand(&mut self, text: &Text) -> Option<String> {
        let mut value = Some(String::new());
        for part in &text.parts {
            let part = self.part(part);
            value = value.zip(part).map(|(value, part)| value + &part);
        }
        let length = value.as_ref().map_or(0, String::len) as u64;
        if length > self.budget {
            let problem =
                Problem::new("E-SPEC-VALUE", &text.span, "the values grow too large when they are expanded");
            self.problems.push(
                problem.expected(format!("all of them may have {} bytes", limits::SPEC_EXPANDED_BYTES)),
            );
            return None;
        }
        self.budget -= length;
        value
    }

    pub(super) fn part(&mut self, part: &Part) -> Option<String> {
        let (open, span) = match part {
            Part::Literal(text) => return Some(text.clone()),
            Part::Open(Open::Base(name), span) => {
                let name = cut(name);
                let problem = Problem::new(
                    "E-SPEC-VAR",
                    span,
                    format!("`${{base.{name}}}` is only known in image.env"),
                );
                self.problems.push(problem.expected("not known here"));
                return None;
            }
            Part::Open(open, span) => (open, span),
        };
        let (platform, _) = self.given?;
        let machine = match open {
            Open::Var(name) => return self.var(name),
            Open::Version => return self.version(span),
            Open::PlatformOci => return Some(platform.to_string()),
            Open::PlatformDebian => platform.debian(),
            Open::PlatformUname => platform.uname(),
            Open::Base(_) => None,
        };
        if machine.is_none() {
            let problem = Problem::new("E-SPEC-VAR", span, format!("there is no such name for {platform}"));
            self.problems.push(problem.expected("not known for every platform"));
        }
        machine.map(str::to_owned)
    }

    pub(super) fn var(&mut self, name: &str) -> Option<String> {
        if let Some((_, overrides)) = self.given
            && let Some(value) = overrides.vars.get(name)
        {
            return Some(value.clone());
        }
        if let Some(value) = self.vars.get(name) {
            return value.clone();
        }
        // `check_vars` has refused circles.
        if self.open.iter().any(|open| open == name) {
            return None;
        }
        self.open.push(name.to_owned());
        let root = self.root;
        let value = root.table("vars").and_then(|vars| vars.text(name)).and_then(|text| self.expand(text));
        self.open.pop();
        self.vars.insert(name.to_owned(), value.clone());
        value
    }

    /// The version, or nothing when nobody says it.
    pub(super) fn known_version(&mut self) -> Option<Option<String>> {
        let (_, overrides) = self.given?;
        if let Some(version) = overrides.vars.get("version") {
            return Some(Some(version.clone()));
        }
        if self.root.table("vars").is_some_and(|vars| vars.get("version").is_some()) {
            return self.var("version").map(Some);
        }
        Some(overrides.version.clone())
    }

    pub(super) fn version(&mut self, span: &Span) -> Option<String> {
        let version = self.known_version()?;
        if version.is_none() {
            self.problems.push(
                Problem::new("E-SPEC-VERSION", span, "the version is not known")
                    .expected("needs the version")
                    .help("give --set version=VALUE, or write version = \"VALUE\" in [vars] or in [project] of pyproject.toml"),
            );
        }
        version
    }

    /// The names of variables, what they use, and that none uses itself.
    pub(super) fn check_vars(&mut self) {
        let root = self.root;
        let Some(vars) = root.table("vars") else { return };
        for (name, span, node) in &vars.entries {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
                let problem = Problem::new(
                    "E-SPEC-VALUE",
                    span,
                    format!("{:?} cannot be the name of a variable", cut(name)),
                );
                self.problems.push(problem.expected("expected letters, digits, `_` or `-`"));
            }
            if let Some(text) = node.text() {
                self.expand(text);
            }
            if uses_itself(vars, name) {
                let problem =
                    Problem::new("E-SPEC-VAR", &node.span, format!("`vars.{name}` is defined by itself"));
                self.problems.push(problem.expected("leads back here"));
            }
        }
    }
}

fn uses_itself(vars: &Fields, name: &str) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    let mut next: Vec<&str> = vec![name];
    while let Some(current) = next.pop() {
        for part in vars.text(current).map(|text| &text.parts[..]).unwrap_or_default() {
            let used = match part {
                Part::Open(Open::Var(used), _) => used.as_str(),
                Part::Open(Open::Version, _) => "version",
                _ => continue,
            };
            if used == name {
                return true;
            }
            if !seen.contains(&used) {
                seen.push(used);
                next.push(used);
            }
        }
    }
    false
}
