//! A wheel as a whole: all that is wrong with it.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use dmoci_layers::Digest;

use super::{DistKind, Examined, Part, metadata, normal};
use crate::diagnostic::few;
use crate::diagnostic::shown::Short;
use crate::inputs::python::filename::WheelName;
use crate::inputs::python::name::Name;
use crate::inputs::python::record::{self, Line, Sum};
use crate::inputs::python::version::version;
use crate::inputs::python::wheel::{Fault, INSTALLED, RECORDS, check_wheel, is_foreign};
use crate::inputs::python::wheel_member::{self, Opened};
use crate::inputs::python::wheel_scripts;
use crate::inputs::python::wheel_zip::{self, Member, MemberKind};
use crate::limits;

const RECORD: &str = "E-RECORD";
const NAME: &str = "E-DIST-NAME";
const WHEEL: &str = "E-WHEEL";

/// The folders that `.data` may hold (binary distribution format, "The .data directory").
const DATA: [&str; 5] = ["purelib", "platlib", "headers", "scripts", "data"];

/// Looks at all of a wheel.
pub(super) fn examine(file: File, path: &Path, digest: Digest) -> Examined {
    let mut found = Examined::new(DistKind::Wheel);
    let shown = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = file_name(&shown, &mut found);
    let members = match wheel_zip::members(&file) {
        Ok(members) => members,
        Err(Fault::Read(error)) => {
            found.error(Part::Container, &shown, "E-IO", format!("it cannot be read: {error}"));
            return found;
        }
        Err(wrong) => {
            found.error(Part::Container, &shown, "E-ZIP", text(wrong));
            return found;
        }
    };
    let opened = Arc::new(Opened { file, path: path.to_owned(), digest });
    let Some(info) = info(&members, name.as_ref(), &shown, &mut found) else { return found };
    let look = Look { opened: &opened, members: &members, info: &info };
    look.contents(&look.record(&mut found), &mut found);
    if let Some(name) = &name {
        look.wheel(name, &mut found);
        look.foreign(name, &mut found);
    }
    look.metadata(name.as_ref(), &mut found);
    look.scripts(&mut found);
    look.data(&mut found);
    if !found.has_errors() {
        if let Some(name) = &name {
            found.project = Some((name.name.to_string(), name.version.to_string()));
            found.tags = Some(name.tags.to_string());
        }
        if let Err(error) = normal::form(&opened, path, &mut found) {
            found.reason(format!("its normal form cannot be made: {error}"));
        }
    }
    found
}

/// What the file name says, when it is one.
fn file_name(shown: &str, found: &mut Examined) -> Option<WheelName> {
    let name = match WheelName::parse(shown) {
        Ok(name) => name,
        Err(why) => {
            found.error(Part::Names, shown, NAME, format!("the file name is not that of a wheel: {why}"));
            return None;
        }
    };
    let mut parts = shown.split('-');
    let (project, number) = (name.name.as_str().replace('-', "_"), name.version.to_string());
    for (written, expected, what) in [(parts.next(), project, "name"), (parts.next(), number, "version")] {
        let written = written.unwrap_or_default();
        if written != expected {
            let message =
                format!("the {what} in the file name is not normalised: {written}, expected {expected}");
            found.warning(Part::Names, shown, NAME, message);
        }
    }
    Some(name)
}

/// The only `.dist-info` at the top, with a slash behind it.
fn info(members: &[Member], name: Option<&WheelName>, shown: &str, found: &mut Examined) -> Option<String> {
    let top = |member: &Member| member.name.split_once('/').map(|(top, _)| top.to_owned());
    let is_info = |top: &String| top.to_ascii_lowercase().ends_with(".dist-info");
    let mut tops: Vec<String> = members.iter().filter_map(top).filter(is_info).collect();
    tops.sort();
    tops.dedup();
    let [info] = &tops[..] else {
        let message = match tops.is_empty() {
            true => "there is no .dist-info directory".to_owned(),
            false => format!("there are several .dist-info directories: {}", few(tops.iter())),
        };
        found.error(Part::Container, shown, WHEEL, message);
        return None;
    };
    if let Some(name) = name {
        let stem = info.strip_suffix(".dist-info").unwrap_or_default();
        let same = stem.split_once('-').is_some_and(|(other, number)| {
            Name::parse(other).as_ref() == Some(&name.name) && version(number).as_ref() == Some(&name.version)
        });
        if !same {
            let message = format!("the file name says {}-{}, but this is inside", name.name, name.version);
            found.error(Part::Names, info, NAME, message);
        }
    }
    Some(format!("{info}/"))
}

fn text(wrong: Fault) -> String {
    match wrong {
        Fault::Read(error) => error.to_string(),
        Fault::Wrong { message, source: None } => message,
        Fault::Wrong { message, source: Some(source) } => format!("{message}: {source}"),
    }
}

/// A wheel that is looked at.
struct Look<'a> {
    opened: &'a Arc<Opened>,
    members: &'a [Member],
    /// The `.dist-info` directory, with its slash.
    info: &'a str,
}

impl Look<'_> {
    /// A file of `.dist-info`, of at most so many bytes.
    fn part(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Fault> {
        let path = format!("{}{name}", self.info);
        let Some(member) = self.members.iter().find(|member| *member.name == *path) else { return Ok(None) };
        wheel_member::Member::new(self.opened, &path, member.place, None).read(most).map(Some)
    }

    /// The same as text; what is wrong is told, also that it is not there when it must be.
    fn text(
        &self,
        (part, code): (Part, &'static str),
        name: &str,
        most: u64,
        found: &mut Examined,
    ) -> Option<String> {
        let place = format!("{}{name}", self.info);
        match self.part(name, most) {
            Ok(None) => None,
            Ok(Some(bytes)) => String::from_utf8(bytes)
                .inspect_err(|_| found.error(part, &place, code, "it is not UTF-8"))
                .ok(),
            // The pass over all contents tells of damage.
            Err(wrong @ Fault::Wrong { source: None, .. }) => {
                found.error(part, &place, code, text(wrong));
                None
            }
            Err(wrong) => {
                found.error(part, &place, "E-IO", text(wrong));
                None
            }
        }
    }

    fn is_unrecorded(&self, path: &str) -> bool {
        path.strip_prefix(self.info).is_some_and(|name| RECORDS.contains(&name))
    }

    fn files(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| matches!(member.kind, MemberKind::File { .. }))
    }

    /// What RECORD says of each file; whatever is wrong with it is told.
    fn record(&self, found: &mut Examined) -> BTreeMap<String, Sum> {
        let place = format!("{}RECORD", self.info);
        let mut sums = BTreeMap::new();
        if !self.members.iter().any(|member| *member.name == *place) {
            found.error(Part::Record, &place, RECORD, "it is not there");
            return sums;
        }
        let about = (Part::Record, RECORD);
        let Some(text) = self.text(about, "RECORD", limits::WHEEL_RECORD_BYTES, found) else { return sums };
        let lines = match record::parse(&text, self.members.len()) {
            Ok(lines) => lines,
            Err(why) => {
                found.error(Part::Record, &place, RECORD, format!("it is malformed: {why}"));
                return sums;
            }
        };
        let mut seen: BTreeMap<String, Option<Sum>> = BTreeMap::new();
        for Line { path, content } in lines {
            if seen.contains_key(&path) {
                found.error(Part::Record, &place, RECORD, format!("{:?} stands there twice", Short(&path)));
            }
            seen.insert(path, content);
        }
        for member in self.files() {
            let path = &*member.name;
            let line = seen.remove(path);
            if self.is_unrecorded(path) {
                continue;
            }
            match line {
                None => found.error(Part::Record, path, RECORD, "RECORD does not name it"),
                Some(None) => found.error(Part::Record, path, RECORD, "RECORD gives it no hash"),
                Some(Some(sum)) => {
                    if sum.size != member.place.size {
                        let problem =
                            crate::oci::Problem::error(RECORD, "", "it has another size than RECORD says");
                        let (expected, size) = (sum.size.to_string(), member.place.size.to_string());
                        found.add(Part::Record, path, problem.but(expected, size));
                    }
                    sums.insert(path.to_owned(), sum);
                }
            }
        }
        for path in seen.keys().filter(|path| !self.is_unrecorded(path)) {
            found.error(Part::Record, path, RECORD, "RECORD names it, and it is not there");
        }
        sums
    }

    /// Reads every content to its end.
    fn contents(&self, sums: &BTreeMap<String, Sum>, found: &mut Examined) {
        let mut buffer = vec![0; 256 << 10];
        for member in self.files() {
            let sum = sums.get(&*member.name);
            let content = wheel_member::Member::new(self.opened, &member.name, member.place, sum);
            found.files += 1;
            let mut reader = content.open();
            loop {
                match reader.fill(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => found.bytes += count as u64,
                    Err(Fault::Read(error)) => {
                        let message = format!("it cannot be read: {error}");
                        found.error(Part::Container, &member.name, "E-IO", message);
                        break;
                    }
                    Err(wrong) => {
                        let message = text(wrong);
                        let (part, code) = match message.contains("but RECORD says") {
                            true => (Part::Record, RECORD),
                            false => (Part::Container, "E-ZIP"),
                        };
                        found.error(part, &member.name, code, message);
                        break;
                    }
                }
            }
        }
    }

    fn wheel(&self, name: &WheelName, found: &mut Examined) {
        let place = format!("{}WHEEL", self.info);
        let about = (Part::Metadata, WHEEL);
        if !self.members.iter().any(|member| *member.name == *place) {
            return found.error(Part::Metadata, &place, WHEEL, "it is not there");
        }
        let Some(content) = self.text(about, "WHEEL", limits::WHEEL_INFO_BYTES, found) else { return };
        if let Err(wrong) = check_wheel(&content, name) {
            let message = text(wrong);
            let part = if message.contains("file name") { Part::Names } else { Part::Metadata };
            found.error(part, &place, WHEEL, message);
        }
    }

    fn metadata(&self, name: Option<&WheelName>, found: &mut Examined) {
        let place = format!("{}METADATA", self.info);
        let bytes = match self.part("METADATA", limits::WHEEL_METADATA_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return found.error(Part::Metadata, &place, "E-METADATA", "it is not there"),
            Err(wrong) => return found.error(Part::Metadata, &place, "E-METADATA", text(wrong)),
        };
        let said = metadata::read(&bytes);
        for problem in said.problems {
            found.add(Part::Metadata, &place, problem);
        }
        if let Some(name) = name {
            for (other, expected, what) in [
                (said.name.map(|name| name.to_string()), name.name.to_string(), "name"),
                (said.version.map(|version| version.to_string()), name.version.to_string(), "version"),
            ] {
                if let Some(other) = other.filter(|other| *other != expected) {
                    let message = format!("it says another {what} than the file name");
                    let problem = crate::oci::Problem::error(NAME, "", message);
                    found.add(Part::Names, &place, problem.but(expected, other));
                }
            }
        }
        if said.format.is_some_and(|format| format >= "2.4") {
            let names: HashSet<&str> = self.members.iter().map(|member| &*member.name).collect();
            for licence in said.licences {
                let path = format!("{}licenses/{licence}", self.info);
                if !names.contains(path.as_str()) {
                    let licence = Short(&licence);
                    let message = format!("METADATA names the licence file {licence:?}, which is not there");
                    found.error(Part::Metadata, &path, "E-METADATA", message);
                }
            }
        }
    }

    fn scripts(&self, found: &mut Examined) {
        let about = (Part::Metadata, WHEEL);
        let text = self.text(about, "entry_points.txt", limits::WHEEL_INFO_BYTES, found);
        if let Err(why) = wheel_scripts::parse(text.as_deref().unwrap_or_default()) {
            let place = format!("{}entry_points.txt", self.info);
            found.error(Part::Metadata, &place, WHEEL, format!("it {why}"));
        }
    }

    /// What is not the wheel's own distribution in `site-packages`.
    fn foreign(&self, name: &WheelName, found: &mut Examined) {
        let stem = self.info.strip_suffix(".dist-info/").unwrap_or_default();
        let data = ["purelib/", "platlib/"].map(|folder| format!("{stem}.data/{folder}"));
        for member in self.files() {
            let below = data.iter().find_map(|data| member.name.strip_prefix(data.as_str()));
            let top = below.unwrap_or(&member.name).split('/').next().unwrap_or_default();
            if is_foreign(top, stem, &name.name) {
                found.error(Part::Container, &member.name, WHEEL, "it is of another distribution");
            } else if let Some(own) = below.and_then(|below| below.strip_prefix(self.info))
                && (INSTALLED.contains(&own) || RECORDS.contains(&own))
            {
                found.error(Part::Container, &member.name, WHEEL, "only the installer writes it");
            }
        }
    }

    fn data(&self, found: &mut Examined) {
        let stem = self.info.strip_suffix(".dist-info/").unwrap_or_default();
        for member in self.files() {
            let Some((top, rest)) = member.name.split_once('/') else { continue };
            let Some(other) = top.strip_suffix(".data") else { continue };
            let folder = rest.split_once('/').map(|(folder, _)| folder);
            if other != stem {
                found.warning(Part::Container, &member.name, WHEEL, format!("it is not in {stem}.data"));
            } else if !folder.is_some_and(|folder| DATA.contains(&folder)) {
                found.error(
                    Part::Container,
                    &member.name,
                    WHEEL,
                    "no installer knows where in .data it belongs",
                );
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::wheel::tests::wheel;
    use super::super::super::wheel_zip::tests::file;
    use super::*;

    pub(in super::super) const FILE: &str = "demo_app-1.0-py3-none-any.whl";
    const METADATA: &str = "Metadata-Version: 2.1\nName: demo-app\nVersion: 1.0\n";
    const WHEEL_TEXT: &str =
        "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n";

    pub(in super::super) fn files() -> Vec<(&'static str, &'static [u8])> {
        vec![
            ("demo_app-1.0.dist-info/METADATA", METADATA.as_bytes()),
            ("demo/data.txt", b"a text that is long enough to be deflated, a text that is long enough\n"),
            ("demo_app-1.0.dist-info/WHEEL", WHEEL_TEXT.as_bytes()),
            ("demo/__init__.py", b"print('demo')\n"),
        ]
    }

    pub(in super::super) fn looked(name: &str, bytes: &[u8]) -> Examined {
        examine(file(bytes), Path::new(name), Digest::sha256(bytes))
    }

    fn told(name: &str, bytes: &[u8]) -> Vec<String> {
        let remarks = looked(name, bytes).remarks;
        remarks
            .into_iter()
            .map(|r| format!("{} {}: {}", r.problem.code, r.place, r.problem.message))
            .collect()
    }

    #[test]
    fn a_good_one() {
        let bytes = wheel(&files(), |text| text);
        let found = looked(FILE, &bytes);
        assert_eq!(told(FILE, &bytes), Vec::<String>::new());
        assert_eq!(found.project, Some(("demo-app".into(), "1.0".into())));
        assert_eq!((found.files, found.tags.as_deref()), (5, Some("py3-none-any")));
        assert!(!found.reasons.is_empty());
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut files = files();
        files[0].1 = b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\nVersion: 2.0\n";
        let bytes =
            wheel(&files, |text| text.replace("demo/data.txt", "demo/date.txt").replace(",14\n", ",15\n"));
        let found = told("Demo_App-1.0-cp39-none-any.whl", &bytes).join("\n");
        for expected in [
            "E-DIST-NAME Demo_App-1.0-cp39-none-any.whl: the name in the file name is not normalised: Demo_App, expected demo_app",
            "E-RECORD demo/data.txt: RECORD does not name it",
            "E-RECORD demo/date.txt: RECORD names it, and it is not there",
            "E-RECORD demo/__init__.py: it has another size than RECORD says",
            "E-METADATA demo_app-1.0.dist-info/METADATA: the field Version stands there 2 times",
            "E-DIST-NAME demo_app-1.0.dist-info/METADATA: it says another name than the file name",
            "E-WHEEL demo_app-1.0.dist-info/WHEEL: its WHEEL has the tags py3-none-any, but the file name says cp39-none-any",
        ] {
            assert!(found.contains(expected), "{expected}\nin\n{found}");
        }
    }

    #[test]
    fn no_other_distribution_is_in_it() {
        let about = |name: &'static str| {
            let mut files = files();
            files.push((name, b"x"));
            told(FILE, &wheel(&files, |text| text)).join("\n")
        };
        for (name, why) in [
            ("demo_app-1.0.data/purelib/other-1.dist-info/METADATA", "it is of another distribution"),
            ("demo_app-1.0.data/platlib/other.egg-info", "it is of another distribution"),
            ("other.egg-info/PKG-INFO", "it is of another distribution"),
            (
                "demo_app-1.0.data/purelib/demo_app-1.0.dist-info/direct_url.json",
                "only the installer writes it",
            ),
        ] {
            assert_eq!(about(name), format!("E-WHEEL {name}: {why}"));
        }
        assert_eq!(about("demo/_vendor/other-1.dist-info/METADATA"), "");
    }

    /// However much is wrong, not more is listed than anybody reads, and the verdict is the same.
    #[test]
    fn not_everything_is_listed() {
        let unknown: String = (0..3000).map(|n| format!("X-{n}: y\n")).collect();
        let mut files = files();
        let text = format!("{METADATA}{unknown}");
        files[0].1 = text.as_bytes();
        let found = looked(FILE, &wheel(&files, |text| text));
        assert!(found.remarks.len() <= limits::DIST_REMARKS + 1 && !found.has_errors());
        let text = format!("{METADATA}{unknown}no field\n");
        files[0].1 = text.as_bytes();
        assert!(looked(FILE, &wheel(&files, |text| text)).has_errors());
        let twice: String = (0..400).map(|n| format!("x{n},,\nx{n},,\n")).collect();
        let found = looked(FILE, &wheel(&files, |text| text + &twice));
        assert!(found.remarks.len() == limits::DIST_REMARKS + 1 && found.has_errors());
        assert_eq!(found.remarks[limits::DIST_REMARKS].problem.message, "there is more, which is not listed");
    }

    #[test]
    fn contents_are_those_of_record() {
        let bytes = wheel(&files(), |text| {
            let forged =
                record::write(vec![Line { path: "x".into(), content: Some(Sum::of(b"print('DEMO')\n")) }]);
            let real =
                record::write(vec![Line { path: "x".into(), content: Some(Sum::of(b"print('demo')\n")) }]);
            text.replace(&real[2..], &forged[2..])
        });
        let found = told(FILE, &bytes);
        assert!(found.len() == 1 && found[0].contains("but RECORD says"), "{found:?}");
        let mut damaged = wheel(&files(), |text| text);
        let at = damaged.windows(5).position(|part| part == b"'demo").unwrap();
        damaged[at + 1] = b'D';
        let found = told(FILE, &damaged);
        assert!(found.len() == 1 && found[0].starts_with("E-ZIP demo/__init__.py: "), "{found:?}");
    }
}
