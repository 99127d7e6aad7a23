//! `remove`: what of the layers below a layer takes away, as whiteouts.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::{Entry, EntryKind, SafePath, layer};

use super::error::{BuildError, BuildErrorKind};
use crate::diagnostic::Place;
use crate::inputs::base::{Node, Tree};
use crate::inputs::pattern::Pattern;
use crate::inputs::{Content, Item};
use crate::spec::nearest;
use crate::spec::target::{Named, Span};

/// What a layer has taken out of the tree below it.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Directories with all that was below them, and what is none; none lies in another.
    tops: BTreeMap<SafePath, Option<Box<Tree>>>,
    /// What the layer gives at, below and above these paths: whether it is a directory.
    given: BTreeMap<SafePath, bool>,
}

impl Removed {
    /// Takes out of the tree all that the patterns match. That one matches nothing is an error, which tells all such, unless it
    /// is not minded.
    pub(super) fn take(
        patterns: &[Named],
        tree: &mut Tree,
        (layer, lenient): (&str, bool),
        locate: &dyn Fn(&Span, &str) -> Place,
    ) -> Result<Removed, BuildError> {
        let mut paths = BTreeSet::new();
        let mut errors = Vec::new();
        for named in patterns {
            match find(tree, named, layer, "E-REMOVE") {
                Ok(found) => paths.extend(found),
                Err(error) if lenient && matches!(*error.kind, BuildErrorKind::Nothing { .. }) => {}
                Err(error) => errors.push(error.at(locate(&named.span, ""))),
            }
        }
        BuildError::all(errors, |number| {
            format!("{number} elements of `remove` match nothing below the layer {layer:?}")
        })?;
        let mut removed = Removed::default();
        for path in paths {
            let covered = removed.tops.last_key_value().is_some_and(|(top, _)| path.starts_with(top));
            if !covered {
                let directory = tree.is_directory(&path);
                let taken = tree.take(&path);
                removed.tops.insert(path, directory.then(|| Box::new(taken)));
            }
        }
        Ok(removed)
    }

    /// Notes an entry of the layer.
    pub(super) fn give(&mut self, entry: &Entry) {
        if self.tops.is_empty() {
            return;
        }
        let path = &entry.path;
        let within =
            self.tops.range(..=path.clone()).next_back().is_some_and(|(top, _)| path.starts_with(top));
        let around = || self.tops.range(path.clone()..).next().is_some_and(|(top, _)| top.starts_with(path));
        if within || around() {
            self.given.insert(path.clone(), entry.kind == EntryKind::Directory);
        }
    }

    /// The whiteouts, and the directories that hold them, in the order of a layer.
    ///
    /// What the layer gives anew needs none: it takes the place of whatever was there. A directory that is given anew has one
    /// for everything that was in it and is not given.
    pub(super) fn whiteouts(&self, tree: &Tree) -> Vec<Item> {
        let mut hidden = Vec::new();
        for (top, old) in &self.tops {
            let mut above = top.parent();
            let mut lost = false;
            while let Some(directory) = above {
                lost |= self.given.get(&directory) == Some(&false);
                above = directory.parent();
            }
            if !lost {
                self.hide(top, old.as_deref(), &mut hidden);
            }
        }
        let mut parents = BTreeSet::new();
        for path in &hidden {
            let mut above = path.parent();
            while let Some(directory) = above.filter(|directory| !directory.is_root()) {
                above = directory.parent();
                parents.insert(directory);
            }
        }
        let whiteout =
            |path| Entry { path, kind: EntryKind::Whiteout, mode: 0, uid: 0, gid: 0, xattrs: Vec::new() };
        let entries = parents.into_iter().map(|directory| tree.directory(&directory).entry(directory));
        let mut entries: Vec<Entry> = entries.chain(hidden.into_iter().map(whiteout)).collect();
        entries.sort_by(layer::order);
        entries.into_iter().map(|entry| Item { entry, content: Content::None }).collect()
    }

    fn hide(&self, path: &SafePath, old: Option<&Tree>, hidden: &mut Vec<SafePath>) {
        // Directories may be nested deeper than a stack is.
        let mut open = vec![path.clone()];
        while let Some(path) = open.pop() {
            match self.given.get(&path) {
                None => hidden.push(path),
                Some(true) => {
                    if let Some(old) = old.filter(|old| old.is_directory(&path)) {
                        open.extend(old.children(&path));
                    }
                }
                Some(false) => {}
            }
        }
    }
}

/// What of the tree below `layer` a pattern matches; never nothing.
pub(super) fn find(
    tree: &Tree,
    named: &Named,
    layer: &str,
    code: &'static str,
) -> Result<Vec<SafePath>, BuildError> {
    let pattern = Pattern::absolute(&named.pattern)?;
    let found = tree.find(&pattern);
    if !found.is_empty() {
        return Ok(found);
    }
    let (layer, hint) = (layer.to_owned(), hint(tree, &pattern));
    Err(BuildErrorKind::Nothing { code, layer, pattern: named.pattern.clone(), hint }.into())
}

/// What was meant, probably, by a pattern that matches nothing.
fn hint(tree: &Tree, pattern: &Pattern) -> Option<String> {
    let beginning = pattern.beginning();
    let mut at = SafePath::root();
    for name in beginning.components() {
        let next = at.join(name).ok()?;
        match tree.get(&next) {
            Some(Node::Symlink(_)) => {
                let real = tree.resolve(&beginning, true).ok()?;
                let there = tree.exists(&real).then(|| format!("; what lies behind it is {real}"));
                return Some(format!(
                    "{next} is a symbolic link, which is not followed{}",
                    there.unwrap_or_default()
                ));
            }
            _ if tree.exists(&next) => at = next,
            _ => {
                let names: Vec<String> = tree
                    .children(&at)
                    .iter()
                    .map(|child| String::from_utf8_lossy(child.name()).into_owned())
                    .collect();
                let meant = nearest(&String::from_utf8_lossy(name), names.iter().map(String::as_str))?;
                return Some(format!("did you mean `{}`?", at.join(meant.as_bytes()).ok()?));
            }
        }
    }
    // All of it is there: as something else than the directory that is wanted, or with nothing in it that matches.
    None
}
