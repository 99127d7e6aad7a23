//! The variables of the file, as far as they can be judged without values.

use std::collections::BTreeMap;

use super::super::error::Problem;
use super::super::template::{Open, Part, Text, cut};
use super::Resolver;

/// How many variables one may go through to the last: expansion is recursive.
const DEPTH: usize = 32;

/// How far a variable has been followed.
#[derive(Clone, Copy)]
enum Seen {
    /// What it uses is being followed.
    Open,
    /// It goes through so many variables.
    Depth(usize),
}

impl<'a> Resolver<'a> {
    /// Checks the names of variables, what they use, and that none leads back to itself.
    pub(super) fn check_vars(&mut self) {
        let Some(vars) = self.root.table("vars") else { return };
        let mut seen = BTreeMap::new();
        for (name, span, node) in &vars.entries {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
                let message = format!("{:?} cannot be the name of a variable", cut(name));
                let problem = Problem::new("E-SPEC-VALUE", span, message);
                self.problems.push(problem.expected("expected letters, digits, `_` or `-`"));
            }
            if let Some(text) = node.text() {
                self.expand(text);
                self.follow(name, &mut seen);
            }
        }
    }

    /// Follows a variable to the end, on a stack of its own.
    fn follow(&mut self, name: &'a str, seen: &mut BTreeMap<&'a str, Seen>) {
        let mut stack = vec![name];
        while let Some(&current) = stack.last() {
            let Some(text) = self.texts.get(current).copied() else {
                seen.insert(current, Seen::Depth(0));
                stack.pop();
                continue;
            };
            if let Some(Seen::Depth(_)) = seen.get(current) {
                stack.pop();
                continue;
            }
            let first = seen.insert(current, Seen::Open).is_none();
            let mut depth = 0;
            let mut next = Vec::new();
            for used in uses(text) {
                match seen.get(used) {
                    Some(Seen::Depth(below)) => depth = depth.max(below + 1),
                    Some(Seen::Open) if first => self.circle(used, current),
                    Some(Seen::Open) => {}
                    None => next.push(used),
                }
            }
            if !next.is_empty() {
                stack.append(&mut next);
                continue;
            }
            if depth == DEPTH {
                let message = format!("`vars.{current}` goes through more than {DEPTH} variables");
                self.problems.push(Problem::new("E-SPEC-VAR", &text.span, message));
            }
            seen.insert(current, Seen::Depth(depth));
            stack.pop();
        }
    }

    fn circle(&mut self, name: &str, by: &str) {
        let (Some(text), Some(back)) = (self.texts.get(name), self.texts.get(by)) else { return };
        let problem = Problem::new("E-SPEC-VAR", &text.span, format!("`vars.{name}` is defined by itself"));
        self.problems.push(match name == by {
            true => problem.expected("names itself"),
            false => problem.expected("leads back here").other(&back.span, "from here"),
        });
    }
}

/// The variables in a text.
fn uses(text: &Text) -> impl Iterator<Item = &str> {
    text.parts.iter().filter_map(|part| match part {
        Part::Open(Open::Var(name), _) => Some(name.as_str()),
        Part::Open(Open::Version, _) => Some("version"),
        _ => None,
    })
}
