//! Single values: expansion and check.

use std::collections::BTreeMap;

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

    pub(super) fn each_once<T: Ord + Clone>(
        &mut self,
        list: &[Node],
        what: &str,
        check: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Vec<T>> {
        let mut values: Vec<Option<T>> = Vec::new();
        let mut seen: BTreeMap<T, &Span> = BTreeMap::new();
        for node in list {
            let value = self.checked(node, &check);
            if let Some(value) = &value
                && let Some(first) = seen.insert(value.clone(), &node.span)
            {
                let problem =
                    Problem::new("E-SPEC-DUPLICATE", &node.span, format!("the same {what} is named twice"));
                self.problems.push(problem.expected("again here").other(first, "first here"));
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
                self.problems.push(problem);
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
            let message = format!("there is no such name for {platform}");
            self.problems.push(Problem::new("E-SPEC-VAR", span, message));
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
        // `check_vars` has refused circles and long ways.
        let value = self.texts.get(name).copied().and_then(|text| self.expand(text));
        self.vars.insert(name.to_owned(), value.clone());
        value
    }

    /// The version, or nothing when nobody says it.
    pub(super) fn known_version(&mut self) -> Option<Option<String>> {
        let (_, overrides) = self.given?;
        if let Some(version) = overrides.vars.get("version") {
            return Some(Some(version.clone()));
        }
        if self.texts.contains_key("version") {
            return self.var("version").map(Some);
        }
        Some(overrides.version.clone())
    }

    pub(super) fn version(&mut self, span: &Span) -> Option<String> {
        let version = self.known_version()?;
        if version.is_none() {
            self.problems.push(
                Problem::new("E-SPEC-VERSION", span, "the version is not known")
                    .help("give --set version=VALUE, or write version = \"VALUE\" in [vars] or in [project] of pyproject.toml"),
            );
        }
        version
    }
}
