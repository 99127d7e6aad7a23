//! Tags: what a wheel runs on, and what a target takes, best first (PEP 425, 600, 656, 384, 803).

use std::collections::HashMap;
use std::fmt;

use super::target::{Libc, PythonTarget};

/// How many tags one compressed set may stand for; real ones have about a dozen.
const EXPANDED: usize = 512;

/// A compressed tag set, such as `py2.py3-none-any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSet {
    pythons: Box<str>,
    abis: Box<str>,
    platforms: Box<str>,
}

impl TagSet {
    pub(super) fn new(pythons: &str, abis: &str, platforms: &str) -> Result<TagSet, &'static str> {
        let mut count: usize = 1;
        for part in [pythons, abis, platforms] {
            if part.split('.').any(str::is_empty) {
                return Err("a part of its tags is empty");
            }
            count = count.saturating_mul(part.split('.').count());
        }
        if count > EXPANDED {
            return Err("its tags stand for more than 512 combinations");
        }
        let low = |text: &str| text.to_ascii_lowercase().into();
        Ok(TagSet { pythons: low(pythons), abis: low(abis), platforms: low(platforms) })
    }

    /// The tags that it stands for: Python, ABI, platform.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.pythons.split('.').flat_map(move |python| {
            self.abis
                .split('.')
                .flat_map(move |abi| self.platforms.split('.').map(move |platform| (python, abi, platform)))
        })
    }
}

impl fmt::Display for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.pythons, self.abis, self.platforms)
    }
}

/// What a target takes, in the order of preference that the `packaging` library has.
#[derive(Clone, Debug)]
pub struct TargetTags {
    list: Vec<[Box<str>; 3]>,
    ranks: HashMap<String, usize>,
}

impl TargetTags {
    /// The tags of a target.
    pub fn of(target: &PythonTarget) -> TargetTags {
        let platforms = platforms(target);
        let (major, minor) = target.python();
        let cp = |minor: u64| format!("cp{major}{minor}");
        let mut tags = TargetTags { list: Vec::new(), ranks: HashMap::new() };
        let own = cp(minor);
        let stable = if target.threaded { "abi3t" } else { "abi3" };
        let abi = if target.threaded { format!("{own}t") } else { own.clone() };
        tags.add(&own, &abi, &platforms);
        tags.add(&own, stable, &platforms);
        tags.add(&own, "none", &platforms);
        for older in (2..minor).rev() {
            tags.add(&cp(older), stable, &platforms);
        }
        let mut pure = vec![format!("py{major}{minor}"), format!("py{major}")];
        pure.extend((0..minor).rev().map(|minor| format!("py{major}{minor}")));
        for python in &pure {
            tags.add(python, "none", &platforms);
        }
        let any = ["any".to_owned()];
        tags.add(&own, "none", &any);
        for python in &pure {
            tags.add(python, "none", &any);
        }
        tags
    }

    fn add(&mut self, python: &str, abi: &str, platforms: &[String]) {
        for platform in platforms {
            let rank = self.list.len();
            self.ranks.entry(format!("{python}-{abi}-{platform}")).or_insert(rank);
            self.list.push([python.into(), abi.into(), platform.as_str().into()]);
        }
    }

    /// How good a wheel is, less is better; nothing when it does not run there.
    pub fn rank(&self, set: &TagSet) -> Option<usize> {
        let mut key = String::new();
        set.iter()
            .filter_map(|(python, abi, platform)| {
                key.clear();
                key.extend([python, "-", abi, "-", platform]);
                self.ranks.get(&key).copied()
            })
            .min()
    }

    /// All of them, best first.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|tag| tag.join("-"))
    }

    /// What is looked for, in a few words.
    pub fn summary(&self) -> String {
        let mut abis: Vec<String> = Vec::new();
        let mut platforms: Vec<&str> = Vec::new();
        for [python, abi, platform] in self.list.iter().take_while(|[_, abi, _]| &**abi != "none") {
            let shown = format!("{python}-{abi}");
            if !abis.contains(&shown) {
                abis.push(shown);
            }
            if !platforms.contains(&&**platform) {
                platforms.push(platform);
            }
        }
        let range = |all: &[&str]| match all {
            [] => String::new(),
            [only] => (*only).to_owned(),
            [first, .., last] => format!("{first} … {last}"),
        };
        let many: Vec<&str> = platforms.iter().copied().filter(|p| !p.starts_with("linux_")).collect();
        let plain = platforms.iter().copied().find(|p| p.starts_with("linux_")).unwrap_or_default();
        let platforms = match many.is_empty() {
            true => plain.to_owned(),
            false => format!("{}, {plain}", range(&many)),
        };
        let python = self.list.first().map(|[python, ..]| python.replace("cp", "py")).unwrap_or_default();
        format!("{}, py3-none, {python}-none, each for {platforms}, or any", abis.join(", "))
    }
}

/// glibc versions that had names of their own.
const LEGACY: [((u32, u32), &str); 3] =
    [((2, 17), "manylinux2014"), ((2, 12), "manylinux2010"), ((2, 5), "manylinux1")];

/// Platform tags, best first.
fn platforms(target: &PythonTarget) -> Vec<String> {
    let machine = target.machine();
    // A 64-bit ARM processor in 32-bit mode runs what is for the one before it, too.
    let machines: &[&str] = if machine == "armv8l" { &["armv8l", "armv7l"] } else { &[machine] };
    let mut list: Vec<String> = machines.iter().map(|machine| format!("linux_{machine}")).collect();
    for machine in machines {
        match target.libc {
            None => {}
            Some(Libc::Musl { major, minor }) => {
                list.extend((0..=minor).rev().map(|minor| format!("musllinux_{major}_{minor}_{machine}")));
            }
            Some(Libc::Glibc { .. }) if !has_manylinux(machine) => {}
            Some(Libc::Glibc { major, minor }) => {
                // x86 had the tags before PEP 600 down to glibc 2.5, all others begin with 2.17.
                let oldest = if matches!(*machine, "x86_64" | "i686") { 5 } else { 17 };
                for minor in (oldest..=minor).rev() {
                    list.push(format!("manylinux_{major}_{minor}_{machine}"));
                    let legacy = LEGACY.iter().find(|(version, _)| *version == (major, minor));
                    list.extend(legacy.map(|(_, name)| format!("{name}_{machine}")));
                }
            }
        }
    }
    list
}

/// The machines that manylinux wheels exist for. ARMv6 has none: its float calls are not those of the others.
fn has_manylinux(machine: &str) -> bool {
    matches!(
        machine,
        "x86_64"
            | "i686"
            | "aarch64"
            | "armv7l"
            | "armv8l"
            | "ppc64"
            | "ppc64le"
            | "s390x"
            | "loongarch64"
            | "riscv64"
    )
}

#[cfg(test)]
mod tests {
    use dmoci_layers::Digest;

    use super::super::target::sample;
    use super::*;

    /// Every list of tags is that of the `packaging` library; `fixtures/python/reference.py` wrote the table.
    #[test]
    fn the_order_is_that_of_packaging() {
        let table = include_str!("../../../fixtures/python/tags.txt");
        let mut rows = 0;
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let row: Vec<&str> = line.split(' ').collect();
            let [version, kind, libc, platform, count, digest] = row[..] else { panic!("{line}") };
            let mut target = sample(version, libc, platform);
            target.threaded = kind == "threaded";
            let found: Vec<String> = TargetTags::of(&target).iter().collect();
            assert_eq!(found.len().to_string(), count, "{line}\n{found:#?}");
            let text = Digest::sha256(found.join("\n").as_bytes()).to_string();
            assert_eq!(&text[7..23], digest, "{line}\n{found:#?}");
            rows += 1;
        }
        assert!(rows > 500, "{rows}");
    }

    #[test]
    fn ranks() {
        let tags = TargetTags::of(&sample("3.12.4", "glibc-2.31", "linux/amd64"));
        let rank = |text: &str| {
            let parts: Vec<&str> = text.split('-').collect();
            tags.rank(&TagSet::new(parts[0], parts[1], parts[2]).unwrap())
        };
        let best_first = [
            "cp312-cp312-manylinux_2_28_x86_64",
            "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
            "cp312-abi3-manylinux2014_x86_64",
            "cp39-abi3-manylinux_2_28_x86_64",
            "py3-none-manylinux1_x86_64",
            "py2.py3-none-any",
        ];
        let ranks: Vec<usize> = best_first.iter().map(|set| rank(set).unwrap()).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        for other in [
            "cp312-cp312-manylinux_2_34_x86_64",
            "cp312-cp312-musllinux_1_2_x86_64",
            "cp312-cp312-manylinux2014_aarch64",
            "cp313-abi3-manylinux2014_x86_64",
            "cp312-cp312t-manylinux2014_x86_64",
            "cp312-cp312-win_amd64",
            "py2-none-any",
        ] {
            assert_eq!(rank(other), None, "{other}");
        }
        assert_eq!(
            tags.summary(),
            "cp312-cp312, cp312-abi3, py3-none, py312-none, each for manylinux_2_31_x86_64 … manylinux1_x86_64, \
             linux_x86_64, or any"
        );
        let musl = TargetTags::of(&sample("3.12.4", "musl-1.0", "linux/arm/v6"));
        assert!(
            musl.summary().ends_with("each for musllinux_1_0_armv6l, linux_armv6l, or any"),
            "{}",
            musl.summary()
        );
    }

    #[test]
    fn sets_are_bounded() {
        let many = vec!["a"; 70].join(".");
        assert!(TagSet::new(&many, &many, "any").unwrap_err().contains("512"));
        assert!(TagSet::new("py3", "", "any").is_err());
    }
}
