//! Whether an image holds the program that it starts.

use std::collections::BTreeSet;

use dmoci_layers::SafePath;

use super::base::BaseImage;
use super::python::Environments;
use crate::inputs::base::{Node, Tree};
use crate::spec::nearest;
use crate::spec::target::{Span, Target};

/// Where the kernel has its own files, which no layer holds.
const KERNEL: [&[u8]; 3] = [b"proc", b"dev", b"sys"];

/// How many characters of a program are shown.
const SHOWN: usize = 200;

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
}

impl Finished<'_> {
    /// What is to be said of the program that the spec names, when the image does not hold it, and where that is written.
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
        let (what, hint) = match program.contains('/') {
            true => (String::new(), self.by_path(&program)?),
            false => (" in any folder of PATH".to_owned(), self.by_name(&program)?),
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let shown: String = program.chars().take(SHOWN).collect();
        let shown = if shown == program { shown } else { shown + "…" };
        Some((format!("`{key}` starts {shown}, and the image has no such program{what}{hint}"), span.clone()))
    }

    /// Nothing when it is there, or may be: else what was meant, probably.
    fn by_path(&self, program: &str) -> Option<Option<String>> {
        let absolute = match program.starts_with('/') {
            true => program.to_owned(),
            false => {
                let base = self.base.and_then(|base| base.run.run.workdir.clone());
                let folder = self.target.config.workdir.clone().or(base).unwrap_or_default();
                format!("{folder}/{program}")
            }
        };
        let path = path(&absolute)?;
        if self.may_be(&path) {
            return None;
        }
        let same = self.folders().into_iter().filter_map(|folder| folder.join(path.name()).ok());
        if let Some(other) = same.into_iter().find(|other| *other != path && self.is_file(other)) {
            return Some(Some(format!("there is {other}")));
        }
        let folder = path.parent().unwrap_or_else(SafePath::root);
        let names = self.programs(&folder);
        if let Some(near) = near(&String::from_utf8_lossy(path.name()), &names) {
            let other = folder.join(near.as_bytes()).ok()?;
            return Some(Some(format!("did you mean {other}?")));
        }
        Some(self.listed())
    }

    fn by_name(&self, program: &str) -> Option<Option<String>> {
        let paths = self.variables.iter().find_map(|line| line.strip_prefix("PATH="))?;
        let mut names = BTreeSet::new();
        for folder in paths.split(':') {
            // An empty one is the folder that a container starts in.
            let folder = path(folder).filter(|_| folder.starts_with('/'))?;
            let found = folder.join(program.as_bytes()).ok()?;
            if self.may_be(&found) {
                return None;
            }
            names.extend(self.programs(&folder));
        }
        let same = self.folders().into_iter().filter_map(|folder| folder.join(program.as_bytes()).ok());
        if let Some(other) = same.into_iter().find(|other| self.is_file(other)) {
            return Some(Some(format!("there is {other}")));
        }
        Some(near(program, &names).map(|name| format!("did you mean {name}?")).or_else(|| self.listed()))
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
        end.is_ok_and(|end| matches!(self.tree.get(&end), Some(Node::Other)))
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
