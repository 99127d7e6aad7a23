//! From the text to the lock, with the place of everything that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use dmoci_layers::{Digest, RULES};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::write::fields;
use super::{Authenticated, BasePin, Edited, Kind, Lock, LockError, Pin, Pins, SCHEMA, WheelPin, Written};
use crate::diagnostic::Place;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::url::Url;

type Entry<'a> = Spanned<DeValue<'a>>;

pub(super) fn read(file: &Path, text: &str) -> Result<Written, LockError> {
    let mut reader = Reader {
        written: Written {
            file: file.to_owned(),
            text: text.into(),
            lock: Lock::default(),
            spans: BTreeMap::new(),
            edited: Vec::new(),
        },
    };
    if let Some(at) = conflict(text) {
        return Err(reader.wrong(at..at + 7, "the lock file holds both sides of a merge", "from here"));
    }
    let parsed = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        let first = error.message().lines().next().unwrap_or_default().to_owned();
        reader.wrong(span, format!("not TOML: {first}"), "")
    })?;
    reader.root(parsed.get_ref())?;
    Ok(reader.written)
}

/// Where git put two versions one below the other.
fn conflict(text: &str) -> Option<usize> {
    match text.starts_with("<<<<<<< ") {
        true => Some(0),
        false => text.find("\n<<<<<<< ").map(|at| at + 1),
    }
}

struct Reader {
    written: Written,
}

impl Reader {
    fn root(&mut self, root: &DeTable<'_>) -> Result<(), LockError> {
        self.keys(root, &(0..0), &["schema", "rules"], &["platform"])?;
        let schema = self.number(root, "schema")?;
        if schema.1 != SCHEMA {
            let message = format!("schema {} is not known to this version of dmoci", schema.1);
            return Err(self.wrong(schema.0, message, &format!("expected {SCHEMA}")));
        }
        let (span, found) = self.number(root, "rules")?;
        if found != i64::from(RULES) {
            let place = self.place(span, &format!("expected {RULES}"));
            return Err(LockError::Rules { found, known: RULES, place: Box::new(place) });
        }
        let Some(platforms) = root.get("platform") else { return Ok(()) };
        for (name, value) in self.table(platforms, "`platform`")? {
            let platform: Platform = name
                .get_ref()
                .parse()
                .ok()
                .filter(|platform: &Platform| platform.to_string() == **name.get_ref())
                .ok_or_else(|| {
                    self.wrong(name.span(), "this is no platform", "expected such as \"linux/amd64\"")
                })?;
            let kinds = self.table(value, "a platform")?;
            self.keys(kinds, &value.span(), &[], &Kind::ALL.map(Kind::name))?;
            let mut pins = Pins::new();
            for kind in Kind::ALL {
                let Some(entries) = kinds.get(kind.name()) else { continue };
                let DeValue::Array(list) = entries.get_ref() else {
                    return Err(self.wrong(entries.span(), "this is no array of tables", ""));
                };
                for entry in list {
                    self.entry(&platform, kind, entry, &mut pins)?;
                }
            }
            self.written.lock.platforms.insert(platform, pins);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        platform: &Platform,
        kind: Kind,
        entry: &Entry<'_>,
        pins: &mut Pins,
    ) -> Result<(), LockError> {
        let table = self.table(entry, "an entry")?;
        const REQUIRED: [&str; 6] = ["url", "size", "sha256", "authenticated", "fields", "file"];
        const BASE: [&str; 5] = ["name", "size", "sha256", "authenticated", "fields"];
        let (required, optional): (&[&str], &[&str]) = match kind {
            Kind::Base => (&BASE, &["index", "signed-by", "facts"]),
            // A wheel of the project has no address.
            Kind::Wheel => (&REQUIRED[1..], &["url", "sha512"]),
            Kind::Build => (&REQUIRED, &["sha512"]),
            Kind::Archive | Kind::Download => (&REQUIRED[..5], &[]),
        };
        self.keys(table, &entry.span(), required, optional)?;
        let base = if kind == Kind::Base { Some(self.base(table)?) } else { None };
        let (at, url) = match table.contains_key("url") {
            false if base.is_some() => (self.text(table, "name")?.0, None),
            false => (self.text(table, "file")?.0, None),
            true => {
                let (at, text) = self.text(table, "url")?;
                let url = text.parse().ok().filter(|url: &Url| url.bare() == text);
                let wrong = || self.wrong(at.clone(), "this is no address as dmoci writes it", "");
                (at.clone(), Some(url.ok_or_else(wrong)?))
            }
        };
        let (span, size) = self.number(table, "size")?;
        let size = u64::try_from(size).map_err(|_| self.wrong(span, "a size is not negative", ""))?;
        let digest = self.digest(table, "sha256", 64)?;
        let (span, name) = self.text(table, "authenticated")?;
        let authenticated =
            Authenticated::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
                let names = Authenticated::ALL.map(|known| format!("{:?}", known.name())).join(", ");
                self.wrong(span, "this is not known here", &format!("expected one of {names}"))
            })?;
        let (span, found) = self.text(table, "fields")?;
        let wheel = match kind {
            Kind::Wheel | Kind::Build => Some(self.wheel(table)?),
            Kind::Base | Kind::Archive | Kind::Download => None,
        };
        let pin = Pin { url, size, digest, authenticated, wheel, base };
        let key = (platform.clone(), kind, pin.key());
        let expected = fields(platform, kind, &pin);
        if expected != found {
            let found = found.chars().take(64).collect();
            self.written.edited.push(Edited { key: key.clone(), span, expected, found });
        }
        if pins.insert((kind, pin.key()), pin).is_some() {
            return Err(self.wrong(at, "this address has an entry already", "again here"));
        }
        self.written.spans.insert(key, at);
        Ok(())
    }

    fn wheel(&self, table: &DeTable<'_>) -> Result<WheelPin, LockError> {
        let (span, file) = self.text(table, "file")?;
        if !file.ends_with(".whl") || file.contains(|c: char| c == '/' || c.is_control()) {
            return Err(self.wrong(span, "this is no name of a wheel", ""));
        }
        let sha512 = table.contains_key("sha512").then(|| self.digest(table, "sha512", 128)).transpose()?;
        Ok(WheelPin { file: file.to_owned(), sha512 })
    }

    fn base(&self, table: &DeTable<'_>) -> Result<BasePin, LockError> {
        let (span, text) = self.text(table, "name")?;
        let name = text.parse().ok().filter(|name: &Reference| name.to_string() == text);
        let name = name.ok_or_else(|| self.wrong(span, "this is no name of an image", ""))?;
        let index =
            table.contains_key("index").then(|| self.hex(table, "index", "sha256", 64)).transpose()?;
        let mut facts = BTreeSet::new();
        if let Some(list) = table.get("facts") {
            let wrong = |span| self.wrong(span, "`facts` is no list of texts", "");
            for fact in list.get_ref().as_array().ok_or_else(|| wrong(list.span()))? {
                let text = fact.get_ref().as_str().ok_or_else(|| wrong(fact.span()))?;
                facts.insert(text.to_owned());
            }
        }
        let signed_by = match table.contains_key("signed-by") {
            true => Some(self.text(table, "signed-by")?.1.to_owned()),
            false => None,
        };
        Ok(BasePin { name, index, signed_by, facts })
    }

    fn digest(&self, table: &DeTable<'_>, name: &str, digits: usize) -> Result<Digest, LockError> {
        self.hex(table, name, name, digits)
    }

    fn hex(&self, table: &DeTable<'_>, key: &str, name: &str, digits: usize) -> Result<Digest, LockError> {
        let (span, hex) = self.text(table, key)?;
        format!("{name}:{hex}").parse().map_err(|_| {
            self.wrong(span, format!("this is no {name}"), &format!("expected {digits} characters of 0-9a-f"))
        })
    }

    /// Refuses unknown keys and missing ones.
    fn keys(
        &self,
        table: &DeTable<'_>,
        span: &Range<usize>,
        required: &[&str],
        optional: &[&str],
    ) -> Result<(), LockError> {
        let known = |name: &str| required.contains(&name) || optional.contains(&name);
        if let Some((key, _)) = table.iter().find(|(key, _)| !known(key.get_ref())) {
            let names = required.iter().chain(optional).copied().collect::<Vec<_>>().join(", ");
            return Err(self.wrong(key.span(), "unknown key in the lock file", &format!("expected {names}")));
        }
        match required.iter().find(|name| !table.contains_key(**name)) {
            Some(name) => Err(self.wrong(span.clone(), format!("`{name}` is missing in the lock file"), "")),
            None => Ok(()),
        }
    }

    fn table<'a, 'b>(&self, value: &'a Entry<'b>, what: &str) -> Result<&'a DeTable<'b>, LockError> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| self.wrong(value.span(), format!("{what} is no table"), "expected a table"))
    }

    fn text<'a>(&self, table: &'a DeTable<'_>, key: &str) -> Result<(Range<usize>, &'a str), LockError> {
        match table.get(key) {
            Some(value) => match value.get_ref() {
                DeValue::String(text) => Ok((value.span(), text)),
                _ => Err(self.wrong(value.span(), format!("`{key}` is no string"), "expected a string")),
            },
            None => Err(self.wrong(0..0, format!("`{key}` is missing in the lock file"), "")),
        }
    }

    fn number(&self, table: &DeTable<'_>, key: &str) -> Result<(Range<usize>, i64), LockError> {
        let Some(value) = table.get(key) else {
            return Err(self.wrong(0..0, format!("`{key}` is missing in the lock file"), ""));
        };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        match number {
            Some(number) => Ok((value.span(), number)),
            None => Err(self.wrong(
                value.span(),
                format!("`{key}` is no whole number"),
                "expected a whole number",
            )),
        }
    }

    fn wrong(&self, span: Range<usize>, message: impl Into<String>, label: &str) -> LockError {
        LockError::Malformed { message: message.into(), place: Box::new(self.place(span, label)) }
    }

    fn place(&self, span: Range<usize>, label: &str) -> Place {
        self.written.at(span, label)
    }
}
