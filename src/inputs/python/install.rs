//! Installing a wheel (binary distribution format, "Installing a wheel distribution"): its files become entries of a layer.
//! Nothing is executed and nothing is unpacked.
//!
//! What is written beside the wheel's own files: programs for its entry points, scripts with their interpreter, `INSTALLER`,
//! `REQUESTED` for what was asked for by name, `direct_url.json` (PEP 610) for what came from no index, and RECORD.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use dmoci_layers::{Entry, EntryKind, SafePath, layer};
use serde_json::json;

use super::launcher::{self, Head, PLACEHOLDER};
use super::record::{self, Line, Sum};
use super::venv::Scheme;
use super::wheel::{Fault, INSTALLED, RECORDS, Wheel, WheelFile, fault, is_foreign};
use crate::diagnostic::shown::Short;
use crate::inputs::{Content, InputError, Item};
use crate::limits;
use crate::oci::json;

/// How a wheel is installed.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Where its files go.
    pub scheme: &'a Scheme,
    /// Owner of everything.
    pub owner: (u64, u64),
    /// It was asked for, and is not only there because another one needs it.
    pub requested: bool,
    /// The URL that it came from when that is no index.
    pub url: Option<&'a str>,
}

/// What a wheel becomes.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The files, and the directories from the top of the installation down, in the order of a layer.
    pub items: Vec<Item>,
    /// A program that needs `/bin/sh`, because the path of its interpreter is long or holds spaces.
    pub shell: Option<SafePath>,
}

/// Installs a wheel. Reads the scripts that name an interpreter, and nothing else.
pub fn install(wheel: &Wheel, options: &Options<'_>) -> Result<Installed, InputError> {
    Installation::new(wheel, options).and_then(Installation::run).map_err(|fault| fault.of(wheel.path()))
}

/// A file that is there after the installation.
struct Placed {
    /// Name of the member it comes from, for messages.
    from: String,
    content: Content,
    sum: Sum,
    executable: bool,
}

struct Installation<'a> {
    wheel: &'a Wheel,
    options: &'a Options<'a>,
    /// The folder that holds `.dist-info`.
    site: &'a SafePath,
    /// What every program begins with.
    head: Head,
    files: BTreeMap<SafePath, Placed>,
    shell: Option<SafePath>,
}

impl<'a> Installation<'a> {
    fn new(wheel: &'a Wheel, options: &'a Options<'a>) -> Result<Installation<'a>, Fault> {
        let scheme = options.scheme;
        let site = if wheel.pure { &scheme.purelib } else { &scheme.platlib };
        let head = launcher::head(&scheme.interpreter, "").map_err(fault)?;
        Ok(Installation { wheel, options, site, head, files: BTreeMap::new(), shell: None })
    }

    fn run(mut self) -> Result<Installed, Fault> {
        for (name, file) in &self.wheel.files {
            self.member(name, file)?;
        }
        for script in &self.wheel.scripts {
            let path = self.join(&self.options.scheme.scripts, &script.name)?;
            if self.head.shell {
                self.shell.get_or_insert_with(|| path.clone());
            }
            let content = launcher::launcher(&self.head, script);
            self.put(path, "entry_points.txt", content, true)?;
        }
        let info = self.join(self.site, &format!("{}.dist-info", self.wheel.stem))?;
        self.put(self.join(&info, "INSTALLER")?, "INSTALLER", b"dmoci\n".to_vec(), false)?;
        if self.options.requested {
            self.put(self.join(&info, "REQUESTED")?, "REQUESTED", Vec::new(), false)?;
        }
        if let Some(url) = self.options.url {
            let hashes = json!({ self.wheel.digest().algorithm().name(): self.wheel.digest().hex() });
            let document = json!({ "archive_info": { "hashes": hashes }, "url": url });
            self.put(
                self.join(&info, "direct_url.json")?,
                "direct_url.json",
                json::canonical(&document),
                false,
            )?;
        }
        self.record(self.join(&info, "RECORD")?)?;
        Ok(self.finish())
    }

    /// Puts a file of the wheel to its place.
    fn member(&mut self, name: &str, file: &WheelFile) -> Result<(), Fault> {
        let scheme = self.options.scheme;
        let (top, rest) = name.split_once('/').unwrap_or((name, ""));
        let stem = &self.wheel.stem;
        if top.strip_prefix(stem.as_str()) == Some(".dist-info") && INSTALLED.contains(&rest) {
            return Ok(());
        }
        if top.strip_prefix(stem.as_str()) != Some(".data") {
            return self.keep(self.join(self.site, name)?, name, file, file.executable);
        }
        let (key, rest) = rest.split_once('/').unwrap_or_default();
        match key {
            "purelib" => self.keep(self.join(&scheme.purelib, rest)?, name, file, file.executable),
            "platlib" => self.keep(self.join(&scheme.platlib, rest)?, name, file, file.executable),
            "data" => self.keep(self.join(&scheme.data, rest)?, name, file, file.executable),
            "headers" => {
                let project = self.wheel.name.name.as_str();
                self.keep(
                    self.join(&self.join(&scheme.headers, project)?, rest)?,
                    name,
                    file,
                    file.executable,
                )
            }
            "scripts" => self.script(rest, name, file),
            _ => Err(fault(format!(
                "{:?} is in no folder that installers know (expected purelib, platlib, headers, scripts or data)",
                Short(name)
            ))),
        }
    }

    /// A file of `.data/scripts`, whose interpreter may be left to the installer.
    fn script(&mut self, rest: &str, name: &str, file: &WheelFile) -> Result<(), Fault> {
        // Old builders put a program there too for every entry point.
        if self.wheel.script(rest).is_some() {
            return Ok(());
        }
        let path = self.join(&self.options.scheme.scripts, rest)?;
        let member = self.wheel.member(name, file);
        if member.head(PLACEHOLDER.len())? != PLACEHOLDER {
            return self.keep(path, name, file, true);
        }
        let content = member.read(limits::WHEEL_SCRIPT_BYTES)?;
        let (head, content) = launcher::rewritten(&self.options.scheme.interpreter, &content)
            .map_err(|why| fault(format!("{:?}: {why}", Short(name))))?;
        if head.shell {
            self.shell.get_or_insert_with(|| path.clone());
        }
        self.put(path, name, content, true)
    }

    /// A file with the content that it has in the wheel.
    fn keep(&mut self, path: SafePath, name: &str, file: &WheelFile, executable: bool) -> Result<(), Fault> {
        let content = Content::Wheel(self.wheel.member(name, file));
        self.place(path, Placed { from: name.to_owned(), content, sum: file.sum.clone(), executable })
    }

    /// A file with a content of its own.
    fn put(&mut self, path: SafePath, from: &str, content: Vec<u8>, executable: bool) -> Result<(), Fault> {
        let sum = Sum::of(&content);
        self.place(
            path,
            Placed { from: from.to_owned(), content: Content::Bytes(content.into()), sum, executable },
        )
    }

    fn place(&mut self, path: SafePath, placed: Placed) -> Result<(), Fault> {
        self.check_metadata(&path, &placed.from)?;
        if self.options.scheme.is_reserved(&path) {
            return Err(fault(format!(
                "{:?} would take the place of {}, which is the interpreter's",
                Short(&placed.from),
                Short(&path.to_string())
            )));
        }
        match self.files.entry(path) {
            Slot::Vacant(slot) => {
                slot.insert(placed);
                Ok(())
            }
            Slot::Occupied(slot) => {
                let (first, path) = (&slot.get().from, slot.key());
                Err(fault(format!(
                    "{:?} and {:?} both go to {}",
                    Short(first),
                    Short(&placed.from),
                    Short(&path.to_string())
                )))
            }
        }
    }

    /// No wheel may bring what Python would take for another distribution, nor say itself how it was installed: not at the
    /// top, and not through `.data`.
    fn check_metadata(&self, path: &SafePath, from: &str) -> Result<(), Fault> {
        let mut below = path.components().skip(self.site.components().count());
        let (true, Some(top)) = (path.starts_with(self.site), below.next()) else { return Ok(()) };
        let top = String::from_utf8_lossy(top);
        if is_foreign(&top, &self.wheel.stem, &self.wheel.name.name) {
            let (from, top) = (Short(from), Short(&top));
            return Err(fault(format!(
                "{from:?} would be {top} in site-packages, which is another distribution"
            )));
        }
        let through_data = from.split('/').next().and_then(|top| top.strip_suffix(".data"));
        let own = top.strip_suffix(".dist-info") == Some(self.wheel.stem.as_str());
        let name = below.next().map(String::from_utf8_lossy).unwrap_or_default();
        let is_installers = INSTALLED.contains(&&*name) || RECORDS.contains(&&*name);
        match own && is_installers && through_data == Some(&self.wheel.stem) {
            true => Err(fault(format!(
                "{:?} would be {name} in .dist-info, which the installer writes",
                Short(from)
            ))),
            false => Ok(()),
        }
    }

    fn join(&self, folder: &SafePath, rest: &str) -> Result<SafePath, Fault> {
        folder
            .join(rest.as_bytes())
            .map_err(|source| Fault::caused(format!("{:?} cannot be placed", Short(rest)), source))
    }

    /// RECORD, with paths from the folder that holds `.dist-info`.
    fn record(&mut self, path: SafePath) -> Result<(), Fault> {
        let mut lines = vec![Line { path: relative(self.site, &path)?, content: None }];
        for (path, placed) in &self.files {
            lines.push(Line { path: relative(self.site, path)?, content: Some(placed.sum.clone()) });
        }
        self.put(path, "RECORD", record::write(lines).into_bytes(), false)
    }

    fn finish(self) -> Installed {
        let (uid, gid) = self.options.owner;
        let entry = |path, kind, mode| Entry { path, kind, mode, uid, gid, xattrs: Vec::new() };
        let top = &self.options.scheme.data;
        let mut items: Vec<Item> = Vec::with_capacity(self.files.len() * 5 / 4);
        let mut directories = BTreeMap::new();
        for (path, placed) in self.files {
            let mut parent = path.parent();
            while let Some(directory) = parent.filter(|p| p.starts_with(top) && !directories.contains_key(p))
            {
                parent = directory.parent();
                directories.insert(directory, ());
            }
            let mode = if placed.executable { 0o755 } else { 0o644 };
            let kind = EntryKind::File { size: placed.sum.size };
            items.push(Item { entry: entry(path, kind, mode), content: placed.content });
        }
        let directories = directories.into_keys().filter(|path| !path.is_root());
        items.extend(
            directories
                .map(|path| Item { entry: entry(path, EntryKind::Directory, 0o755), content: Content::None }),
        );
        items.sort_by(|a, b| layer::order(&a.entry, &b.entry));
        Installed { items, shell: self.shell }
    }
}

/// The way from a folder to a file.
fn relative(folder: &SafePath, path: &SafePath) -> Result<String, Fault> {
    let common = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(&b".."[..], folder.components().count() - common);
    let parts: Vec<&[u8]> = up.chain(path.components().skip(common)).collect();
    String::from_utf8(parts.join(&b'/'))
        .map_err(|source| Fault::caused(format!("{path} cannot stand in RECORD"), source))
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
