//! Whether an image holds the program that it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use dmoci_layers::{EntryKind, SafePath};

use super::base::BaseImage;
use super::python::Environments;
use crate::inputs::Item;
use crate::inputs::base::{KEPT, Node, Tree};
use crate::spec::nearest;
use crate::spec::target::{ConfigSpec, Span, Target};

/// Where the kernel has its own files, which no layer holds.
const KERNEL: [&[u8]; 3] = [b"proc", b"dev", b"sys"];

/// How many characters of a program are shown.
const SHOWN: usize = 200;

/// How many bytes of a script are looked at: no kernel reads more.
const LINE: u64 = 256;

/// How many names are listed.
const LISTED: usize = 8;

/// A finished image.
pub(super) struct Finished<'a> {
    pub(super) target: &'a Target,
    pub(super) base: Option<&'a BaseImage>,
    /// All layers.
    pub(super) tree: &'a Tree,
    /// The environment variables that containers start with, `NAME=value`.
    pub(super) variables: &'a [String],
    pub(super) environments: &'a Environments,
    pub(super) starts: &'a Starts,
}

/// What is noted of the files of the image's own layers that are called as what it starts.
#[derive(Debug, Default)]
pub(super) struct Starts {
    names: BTreeSet<Vec<u8>>,
    /// The topmost of each path.
    seen: BTreeMap<SafePath, Item>,
}

impl Starts {
    /// Nothing yet, of the program of this configuration.
    pub(super) fn of(config: &ConfigSpec) -> Starts {
        let programs =
            [&config.entrypoint, &config.cmd].into_iter().flatten().filter_map(|list| list.first());
        let name = |program: &String| program.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
        Starts { names: programs.map(name).collect(), seen: BTreeMap::new() }
    }

    /// Whether this is a file of such a name; then it is noted.
    pub(super) fn note(&mut self, item: &Item) -> bool {
        if !self.names.contains(item.entry.path.name()) {
            return false;
        }
        let is_file = matches!(item.entry.kind, EntryKind::File { .. });
        match is_file {
            true => self.seen.insert(item.entry.path.clone(), item.clone()),
            false => self.seen.remove(&item.entry.path),
        };
        is_file
    }
}

/// The first line of a script, after `#!`.
fn first_line(item: &Item) -> Option<String> {
    let mut head = Vec::new();
    item.content.open().ok()?.take(LINE).read_to_end(&mut head).ok()?;
    let text = head.strip_prefix(b"#!")?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}

fn short(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    if shown == text { shown } else { shown + "…" }
}

impl Finished<'_> {
    /// What is to be said of the program that the spec names, when the image cannot start it, and where that is written.
    pub(super) fn program(&self) -> Option<(String, Span)> {
        let config = &self.target.config;
        let first = |list: &Option<Vec<String>>| list.as_ref().and_then(|list| list.first().cloned());
        let of_base = self.base.is_some_and(|base| !base.run.run.entrypoint.is_empty());
        let (key, program) = match (&config.entrypoint, first(&config.entrypoint), first(&config.cmd)) {
            (_, Some(program), _) => ("entrypoint", program),
            // What stands in `cmd` is the arguments of the base's program.
            (None, ..) if of_base => return None,
            (_, None, Some(program)) => ("cmd", program),
            _ => return None,
        };
        let span = if key == "entrypoint" { &config.entrypoint_span } else { &config.cmd_span };
        let places = self.places(&program)?;
        let said = match places.iter().find(|path| self.may_be(path)) {
            Some(there) => self.script(there)?,
            None => self.none(&program, &places),
        };
        Some((format!("`{key}` starts {}{said}", short(&program)), span.clone()))
    }

    /// Where a program is looked for; nothing when that is not known.
    fn places(&self, program: &str) -> Option<Vec<SafePath>> {
        if program.starts_with('/') {
            return Some(vec![path(program)?]);
        }
        if program.contains('/') {
            let base = self.base.and_then(|base| base.run.run.workdir.clone());
            let folder = self.target.config.workdir.clone().or(base).unwrap_or_default();
            return Some(vec![path(&format!("{folder}/{program}"))?]);
        }
        let paths = self.variables.iter().find_map(|line| line.strip_prefix("PATH="))?;
        // An empty one is the folder that a container starts in.
        let folder = |folder: &str| path(folder).filter(|_| folder.starts_with('/'));
        paths.split(':').map(|text| folder(text)?.join(program.as_bytes()).ok()).collect()
    }

    /// What is to be said of a program that is in none of these places.
    fn none(&self, program: &str, places: &[SafePath]) -> String {
        if let Some((path, mode)) = places.iter().find_map(|path| Some((path, self.plain(path)?))) {
            return match program.contains('/') {
                true => format!(", which is not executable: its mode is {mode:04o}"),
                false => format!(", and {path} is not executable: its mode is {mode:04o}"),
            };
        }
        let what = if program.contains('/') { "" } else { " in any folder of PATH" };
        let hint = self.hint(program, places).map(|hint| format!("; {hint}")).unwrap_or_default();
        format!(", and the image has no such program{what}{hint}")
    }

    /// What was meant, probably.
    fn hint(&self, program: &str, places: &[SafePath]) -> Option<String> {
        let name = places.first().map_or(program.as_bytes(), SafePath::name);
        let same = self.folders().into_iter().filter_map(|folder| folder.join(name).ok());
        if let Some(other) = same.into_iter().find(|other| !places.contains(other) && self.is_file(other)) {
            return Some(format!("there is {other}"));
        }
        let mut folders = places.iter().map(|path| path.parent().unwrap_or_else(SafePath::root));
        let names: BTreeSet<String> = folders.clone().flat_map(|folder| self.programs(&folder)).collect();
        let Some(near) = near(&String::from_utf8_lossy(name), &names) else { return self.listed() };
        match program.contains('/') {
            true => Some(format!("did you mean {}?", folders.next_back()?.join(near.as_bytes()).ok()?)),
            false => Some(format!("did you mean {near}?")),
        }
    }

    /// What is to be said of the first line of a script, when the image cannot start it.
    fn script(&self, path: &SafePath) -> Option<String> {
        let end = self.tree.resolve(path, true).ok()?;
        let line = first_line(self.starts.seen.get(&end)?)?;
        if line.ends_with("\r") {
            return Some(
                ", whose first line ends in CR LF, so that its interpreter is not found: end it in LF".into(),
            );
        }
        let interpreter = line.split_whitespace().next().filter(|name| name.starts_with('/'))?;
        match self.may_be(&self::path(interpreter)?) {
            true => None,
            false => Some(format!(
                ", whose first line names {}, and the image has no such program",
                short(interpreter)
            )),
        }
    }

    /// What is to be said of the user and group that the spec names, when the image does not have them.
    pub(super) fn user(&self) -> Option<(String, Span)> {
        let config = &self.target.config;
        let text = config.user.as_deref()?;
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let [passwd, group_file] = KEPT;
        let what = match self.lacks(user, passwd) {
            true => format!("user {user}, as /etc/passwd has it"),
            false => {
                let group = group.filter(|group| self.lacks(group, group_file))?;
                format!("group {group}, as /etc/group has it")
            }
        };
        Some((format!("`user` is {text:?}, and the image has no {what}"), config.user_span.clone()))
    }

    /// Whether a file of users or groups is known to lack this one. Numbers need no line, and of root every runtime knows.
    fn lacks(&self, name: &str, file: &[u8]) -> bool {
        if name == "root" || name.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        let Ok(Ok(end)) = SafePath::parse(file).map(|path| self.tree.resolve(&path, true)) else {
            return false;
        };
        match self.tree.content(&end) {
            Ok(Some(content)) => !content
                .split(|byte| *byte == b'\n')
                .any(|line| line.split(|byte| *byte == b':').next() == Some(name.as_bytes())),
            // What is there and was not kept may have it.
            Ok(None) => self.tree.get(&end).is_none(),
            Err(_) => false,
        }
    }

    /// Whether something is there that may be a program, or is not the image's to have.
    fn may_be(&self, path: &SafePath) -> bool {
        if path.components().next().is_some_and(|first| KERNEL.contains(&first)) || self.is_file(path) {
            return true;
        }
        // An interpreter that the spec says is in no layer, such as one that is mounted.
        let end = self.tree.resolve(path, true).unwrap_or_else(|_| path.clone());
        self.environments.interpreters().any(|interpreter| *interpreter == end)
    }

    fn is_file(&self, path: &SafePath) -> bool {
        let end = self.tree.resolve(path, true);
        end.is_ok_and(|end| matches!(self.tree.get(&end), Some(Node::Other)) && self.plain(&end).is_none())
    }

    /// The mode of a file that is known to be there and that nobody may execute.
    fn plain(&self, path: &SafePath) -> Option<u32> {
        let end = self.tree.resolve(path, true).ok()?;
        let mode = self.starts.seen.get(&end).filter(|_| self.tree.get(&end).is_some())?.entry.mode;
        (mode & 0o111 == 0).then_some(mode)
    }

    /// The folders of programs of the environments.
    fn folders(&self) -> Vec<SafePath> {
        self.environments.scripts().cloned().collect()
    }

    /// The names of what is in a folder.
    fn programs(&self, folder: &SafePath) -> BTreeSet<String> {
        let Ok(folder) = self.tree.resolve(folder, true) else { return BTreeSet::new() };
        let all = self.tree.children(&folder).into_iter().filter(|path| self.is_file(path));
        all.map(|path| String::from_utf8_lossy(path.name()).into_owned()).collect()
    }

    /// What the environments have.
    fn listed(&self) -> Option<String> {
        let folders = self.folders();
        let (folder, names) = folders.iter().find_map(|folder| {
            let mut names = self.programs(folder);
            names.retain(|name| !name.starts_with("python"));
            (!names.is_empty()).then_some((folder, names))
        })?;
        let more = if names.len() > LISTED { ", …" } else { "" };
        let names: Vec<String> = names.into_iter().take(LISTED).collect();
        Some(format!("in {folder} there is {}{more}", names.join(", ")))
    }
}

fn path(text: &str) -> Option<SafePath> {
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    SafePath::parse(parts.join("/").as_bytes()).ok()
}

fn near(name: &str, names: &BTreeSet<String>) -> Option<String> {
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}
