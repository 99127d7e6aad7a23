//! Whether what is installed together has what it says it needs (`Requires-Dist` of the core metadata).

use std::collections::{BTreeMap, BTreeSet};

use super::marker::Environment;
use super::name::Name;
use super::requirement::{Requirement, Source};
use super::target::PythonTarget;
use super::version::{self, Version};

/// What is in an environment: the versions of each project there, nothing for one that does not tell its version.
pub type Present = BTreeMap<Name, Vec<Option<Version>>>;

/// How often extras may lead to further extras.
const ROUNDS: usize = 64;

/// The longest requirement that is shown whole.
const SHOWN: usize = 100;

/// A need that nothing there meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Whose need it is.
    pub by: Name,
    /// The project that is needed.
    pub name: Name,
    /// What of it is needed, such as `idna>=3`; cut when it is long.
    pub need: String,
    /// The versions that are there; none when the project is not.
    pub found: Vec<Version>,
}

/// The needs that are not met, by who has them and then as METADATA has them.
///
/// `needs` is the `Requires-Dist` of each project. One for an extra counts when another requirement that counts, or `asked`,
/// asks for that extra. What is malformed, or depends on the kernel, is not judged.
pub fn unmet(
    target: &PythonTarget,
    needs: &BTreeMap<&Name, &[String]>,
    present: &Present,
    asked: &BTreeMap<Name, BTreeSet<Name>>,
) -> Vec<Unmet> {
    let parse = |text: &String| Requirement::parse(text).ok();
    let parsed: BTreeMap<&Name, Vec<Requirement>> =
        needs.iter().map(|(name, texts)| (*name, texts.iter().filter_map(parse).collect())).collect();
    let base = Environment::of(target);
    let extras = extras(&parsed, &base, asked);
    let mut unmet = Vec::new();
    for (by, requirements) in &parsed {
        let environment = with(&base, extras.get(by));
        let mut seen = BTreeSet::new();
        for requirement in requirements.iter().filter(|one| counts(one, &environment)) {
            let Some(found) = lacks(requirement, present) else { continue };
            let need = shown(requirement);
            if seen.insert(need.clone()) {
                unmet.push(Unmet { by: (*by).clone(), name: requirement.name.clone(), need, found });
            }
        }
    }
    unmet
}

/// The extras of each project that requirements ask for.
fn extras<'a>(
    parsed: &BTreeMap<&'a Name, Vec<Requirement>>,
    base: &Environment,
    asked: &BTreeMap<Name, BTreeSet<Name>>,
) -> BTreeMap<&'a Name, BTreeSet<Name>> {
    let first = |name: &&'a Name| Some((*name, asked.get(*name)?.clone()));
    let mut extras: BTreeMap<&Name, BTreeSet<Name>> = parsed.keys().filter_map(first).collect();
    let mut again: BTreeSet<&Name> = parsed.keys().copied().collect();
    for _ in 0..ROUNDS {
        let mut grown = BTreeSet::new();
        for by in std::mem::take(&mut again) {
            let environment = with(base, extras.get(by));
            let asking = parsed[by].iter().filter(|one| !one.extras.is_empty() && counts(one, &environment));
            for requirement in asking {
                let Some((name, _)) = parsed.get_key_value(&requirement.name) else { continue };
                let known = extras.entry(name).or_default();
                let before = known.len();
                known.extend(requirement.extras.iter().cloned());
                if known.len() > before {
                    grown.insert(*name);
                }
            }
        }
        if grown.is_empty() {
            break;
        }
        again = grown;
    }
    extras
}

fn with(base: &Environment, extras: Option<&BTreeSet<Name>>) -> Environment {
    let mut environment = base.clone();
    environment.extra = extras.cloned().unwrap_or_default();
    environment
}

fn counts(requirement: &Requirement, environment: &Environment) -> bool {
    requirement.marker.as_ref().is_none_or(|marker| marker.holds(environment).unwrap_or(false))
}

/// The versions that are there, when none of them will do.
fn lacks(requirement: &Requirement, present: &Present) -> Option<Vec<Version>> {
    let Some(versions) = present.get(&requirement.name) else { return Some(Vec::new()) };
    let Source::Index(wanted) = &requirement.source else { return None };
    let fits = |found: &Option<Version>| found.as_ref().is_none_or(|found| version::contains(wanted, found));
    match versions.iter().any(fits) {
        true => None,
        false => Some(versions.iter().flatten().cloned().collect()),
    }
}

fn shown(requirement: &Requirement) -> String {
    let mut text = requirement.name.to_string();
    if !requirement.extras.is_empty() {
        let extras: Vec<&str> = requirement.extras.iter().map(Name::as_str).collect();
        text += &format!("[{}]", extras.join(","));
    }
    if let Source::Index(specifiers) = &requirement.source {
        text += &specifiers.to_string().replace(", ", ",");
    }
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::debian;
    use super::*;

    fn run(needs: &[(&str, &[&str])], present: &str) -> Vec<String> {
        asking(needs, present, &[])
    }

    fn asking(needs: &[(&str, &[&str])], present: &str, asked: &[(&str, &str)]) -> Vec<String> {
        let name = |text: &str| Name::parse(text).unwrap();
        let asked = asked.iter().map(|(by, extra)| (name(by), BTreeSet::from([name(extra)]))).collect();
        let texts: Vec<(Name, Vec<String>)> = needs
            .iter()
            .map(|(by, needs)| (name(by), needs.iter().map(|need| (*need).to_owned()).collect()))
            .collect();
        let needs: BTreeMap<&Name, &[String]> =
            texts.iter().map(|(by, needs)| (by, needs.as_slice())).collect();
        let mut there = Present::new();
        for text in present.split(' ').filter(|text| !text.is_empty()) {
            let (project, number) = text.split_once('=').unwrap_or((text, ""));
            there.entry(name(project)).or_default().push(version::version(number));
        }
        let show = |one: Unmet| {
            let found: Vec<String> = one.found.iter().map(ToString::to_string).collect();
            format!("{} {} [{}]", one.by, one.need, found.join(" "))
        };
        unmet(&debian(), &needs, &there, &asked).into_iter().map(show).collect()
    }

    #[test]
    fn versions() {
        for (need, present, expected) in [
            ("b", "", Some("a b []")),
            ("B.x>=1", "b-x=1.0", None),
            ("b (>=1.0,<2)", "b=2.0", Some("a b>=1.0,<2 [2.0]")),
            ("b>=1", "b=2.0rc1", None),
            ("b>=3", "b=1.0 b=2.0", Some("a b>=3 [1.0 2.0]")),
            ("b>=3", "b=1.0 b=3.0", None),
            // One that does not tell its version is there.
            ("b>=3", "b", None),
            ("b @ https://h.example/b.zip", "b=1.0", None),
            ("b @ https://h.example/b.zip", "", Some("a b []")),
            ("b ; python_version < '3'", "", None),
            ("b ; sys_platform == 'linux'", "", Some("a b []")),
            // Neither of these can be judged.
            ("b ; platform_version == 'x'", "", None),
            ("b =*= 1", "", None),
        ] {
            assert_eq!(run(&[("a", &[need])], present), Vec::from_iter(expected), "{need} of {present:?}");
        }
        assert_eq!(run(&[("a", &["b", "b>=1", "b"])], ""), ["a b []", "a b>=1 []"]);
        let long = format!("b{}", ",!=1.2.3".repeat(50).replacen(',', "", 1));
        assert!(run(&[("a", &[&long])], "")[0].ends_with("… []"));
    }

    /// An extra counts when somebody asks for it, however long the way.
    #[test]
    fn extras_that_are_asked_for() {
        let b: (&str, &[&str]) = ("b", &["c ; extra == 'x'", "d ; extra == 'y'", "b[y] ; extra == 'All_of'"]);
        assert_eq!(run(&[("a", &["b"]), b], "b=1"), [""; 0]);
        assert_eq!(run(&[("a", &["b[x]"]), b], "b=1"), ["b c []"]);
        // A lock file asks too, of what is there.
        assert_eq!(asking(&[b], "b=1", &[("b", "x"), ("z", "x")]), ["b c []"]);
        assert_eq!(asking(&[b], "b=1", &[("b", "all-of")]), ["b d []"]);
        assert_eq!(run(&[("a", &["b[all-of]"]), b], "b=1"), ["b d []"]);
        assert_eq!(run(&[("a", &["b[x] ; os_name == 'nt'"]), b], "b=1"), [""; 0]);
        // A long chain ends.
        let chain: Vec<String> =
            (0..1000).map(|n| format!("b[e{}] ; extra == 'e{n}'", n + 1)).chain(["b[e0]".into()]).collect();
        let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
        assert_eq!(run(&[("b", &chain)], "b=1"), [""; 0]);
    }
}
