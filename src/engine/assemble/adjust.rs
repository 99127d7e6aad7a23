//! `adjust`: things of the layers below, given again with another mode or owner.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dmoci_layers::{Entry, EntryKind, SafePath};

use super::base::BaseImage;
use super::error::{BuildError, BuildErrorKind};
use super::merge::{Merge, Origin, Source};
use super::plan::LayerPlan;
use super::remove::find;
use crate::diagnostic::Place;
use crate::inputs::base::{Node, Tree};
use crate::inputs::{Content, InputError, Item, Items, Site};
use crate::spec::target::{Adjust, Named, Owner, Span};

/// What lies below a layer.
pub(super) struct Below<'a> {
    pub(super) tree: &'a Tree,
    pub(super) base: Option<&'a BaseImage>,
    /// The image's own layers.
    pub(super) layers: &'a [LayerPlan],
}

/// A layer below, of which only some entries are taken, each as it is to be.
#[derive(Clone, Debug)]
pub struct Earlier {
    name: String,
    origins: Arc<[Origin]>,
    /// In the order of the layer.
    wanted: Arc<Vec<Entry>>,
}

impl Earlier {
    /// The entries, in the order of a layer.
    pub(super) fn items(&self) -> Result<Items<'_>, InputError> {
        let mut merge = Some(Merge::new(&self.name, &self.origins).map_err(|(_, error)| input(error))?);
        let mut wanted = self.wanted.iter().peekable();
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                match merge.as_mut()?.next() {
                    Ok(Some(merged)) => {
                        let entry = &merged.item.entry;
                        // Whiteouts have another order.
                        if matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) {
                            continue;
                        }
                        while wanted.next_if(|wanted| wanted.path < entry.path).is_some() {}
                        if let Some(entry) = wanted.next_if(|wanted| wanted.path == entry.path) {
                            return Some(Ok(Item { entry: entry.clone(), content: merged.item.content }));
                        }
                    }
                    Ok(None) => return None,
                    Err((_, error)) => {
                        merge = None;
                        return Some(Err(input(error)));
                    }
                }
            }
        })))
    }
}

/// The layer was planned before, so what is wrong with it now was changed since.
fn input(error: BuildError) -> InputError {
    match *error.kind {
        BuildErrorKind::Input(error) => error,
        other => InputError::Changed(other.to_string().into()),
    }
}

/// What is to become of a path.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    mode: Option<u32>,
    owner: Option<Owner>,
}

impl Change {
    fn apply(self, entry: &mut Entry) {
        if let Some(mode) = self.mode.filter(|_| !matches!(entry.kind, EntryKind::Symlink { .. })) {
            entry.mode = mode;
        }
        if let Some(Owner { uid, gid }) = self.owner {
            (entry.uid, entry.gid) = (uid.into(), gid.into());
        }
    }
}

/// The sources of what `adjusts` change; what is as they want it already is not given again.
pub(super) fn plan(
    adjusts: &[Adjust],
    below: &Below<'_>,
    layer: &str,
    site: &Site<'_>,
    locate: &dyn Fn(&Span, &str) -> Place,
) -> Result<Vec<Source>, BuildError> {
    let mut changes = changes(adjusts, below.tree, layer, locate)?;
    let mut items = Vec::new();
    changes.retain(|path, change| {
        if !below.tree.is_directory(path) {
            return true;
        }
        let old = below.tree.directory(path).entry(path.clone());
        let mut new = old.clone();
        change.apply(&mut new);
        if new != old {
            items.push(Item { entry: new, content: Content::None });
        }
        false
    });
    let mut sources = own(&mut changes, below.layers)?;
    if let Some(base) = below.base {
        items.extend(of_base(changes, base, site).map_err(|error| {
            match naming(adjusts, below.tree, &error) {
                Some(span) => error.at(locate(span, "")),
                None => error,
            }
        })?);
        items.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    }
    if !items.is_empty() {
        sources.push(Source::List(items.into()));
    }
    Ok(sources)
}

/// The path of the spec that led to something that cannot be given again.
fn naming<'a>(adjusts: &'a [Adjust], tree: &Tree, error: &BuildError) -> Option<&'a Span> {
    let BuildErrorKind::Input(InputError::Odd(odd)) = &*error.kind else { return None };
    let mut all = adjusts.iter().flat_map(|adjust| adjust.paths.iter().map(move |named| (adjust, named)));
    let leads = |&(adjust, named): &(&Adjust, &Named)| {
        let found = find(tree, named, "", "E-ADJUST").unwrap_or_default();
        found.iter().any(|path| path == odd || (adjust.recursive && odd.starts_with(path)))
    };
    // Another name of it was matched.
    let first = adjusts.iter().flat_map(|adjust| &adjust.paths).next();
    all.find(leads).map(|(_, named)| named).or(first).map(|named| &named.span)
}

/// What each path becomes when one entry after another is obeyed. All that cannot be is one error.
fn changes(
    adjusts: &[Adjust],
    tree: &Tree,
    layer: &str,
    locate: &dyn Fn(&Span, &str) -> Place,
) -> Result<BTreeMap<SafePath, Change>, BuildError> {
    let mut changes: BTreeMap<SafePath, Change> = BTreeMap::new();
    let mut errors = Vec::new();
    for adjust in adjusts {
        for named in &adjust.paths {
            let at = |error: BuildError| error.at(locate(&named.span, ""));
            let mut paths: BTreeSet<SafePath> = match find(tree, named, layer, "E-ADJUST") {
                Ok(found) => found.into_iter().collect(),
                Err(error) => {
                    errors.push(at(error));
                    continue;
                }
            };
            if adjust.recursive {
                let roots: Vec<SafePath> =
                    paths.iter().filter(|path| tree.is_directory(path)).cloned().collect();
                paths.extend(roots.iter().flat_map(|root| tree.below(root)));
            }
            let mut obeyed = false;
            let first = paths.first().cloned();
            for path in paths {
                let mode = match tree.get(&path) {
                    Some(Node::Symlink(_)) => None,
                    Some(Node::Other) => adjust.file_mode.or(adjust.mode),
                    Some(Node::Directory(_)) | None => adjust.dir_mode.or(adjust.mode),
                };
                if mode.is_none() && adjust.owner.is_none() {
                    continue;
                }
                obeyed = true;
                let change = changes.entry(path).or_default();
                change.mode = mode.or(change.mode);
                change.owner = adjust.owner.or(change.owner);
            }
            if !obeyed && let Some(path) = first {
                let (what, help) = match tree.get(&path) {
                    Some(Node::Symlink(_)) => (
                        "a symbolic link, which has no mode of its own",
                        "say `owner`, or name what the link leads to",
                    ),
                    Some(Node::Other) => {
                        ("a file, of which this says no mode", "say `mode`, `file-mode` or `owner`")
                    }
                    _ => ("a directory, of which this says no mode", "say `mode`, `dir-mode` or `owner`"),
                };
                errors.push(at(BuildErrorKind::Adjust { path, what, help }.into()));
            }
        }
    }
    BuildError::all(errors, |number| {
        format!("{number} paths of `adjust` in the layer {layer:?} cannot be adjusted")
    })?;
    Ok(changes)
}

/// What the image's own layers have last of the paths, which are taken out of `changes`.
fn own(changes: &mut BTreeMap<SafePath, Change>, layers: &[LayerPlan]) -> Result<Vec<Source>, BuildError> {
    let mut sources = Vec::new();
    for layer in layers.iter().rev() {
        if changes.is_empty() {
            break;
        }
        let at = |(origins, error): (Vec<usize>, BuildError)| {
            layer.places(&origins).into_iter().fold(error, BuildError::at)
        };
        let (mut wanted, mut names) = (Vec::new(), Names::default());
        let mut merge = Merge::new(&layer.name, &layer.origins).map_err(at)?;
        while let Some(merged) = merge.next().map_err(at)? {
            let mut entry = merged.item.entry;
            if matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) {
                continue;
            }
            let Some(change) = changes.remove(&entry.path) else { continue };
            let content = &merged.item.content;
            let file = match &entry.kind {
                EntryKind::HardLink { target } => Some(target.clone()),
                _ => content.may_have_names().then(|| entry.path.clone()),
            };
            if let (EntryKind::HardLink { .. }, Some(size)) = (&entry.kind, content.size()) {
                entry.kind = EntryKind::File { size };
            }
            wanted.extend(names.settle(entry, change, file));
        }
        if !wanted.is_empty() {
            let origins = layer.origins.clone().into();
            let earlier = Earlier { name: layer.name.clone(), origins, wanted: Arc::new(wanted) };
            sources.push(Source::Earlier(earlier));
        }
    }
    Ok(sources)
}

/// What the base has of the paths.
fn of_base(
    changes: BTreeMap<SafePath, Change>,
    base: &BaseImage,
    site: &Site<'_>,
) -> Result<Vec<Item>, BuildError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = base.members(changes.keys().cloned().collect(), site)?;
    let mut names = Names::default();
    let settled: Vec<Entry> = found
        .iter()
        .filter_map(|(path, member)| {
            names.settle(member.entry.clone(), *changes.get(path)?, Some(member.file.clone()))
        })
        .collect();
    let item = |entry: Entry| {
        let content = found.remove(&entry.path).map_or(Content::None, |member| member.content);
        Item { entry, content }
    };
    Ok(settled.into_iter().map(item).collect())
}

/// The first names of files, by what tells one file from another and by what the file becomes.
struct Names<F>(HashMap<(F, (u32, u64, u64)), SafePath>);

impl<F> Default for Names<F> {
    fn default() -> Names<F> {
        Names(HashMap::new())
    }
}

impl<F: Eq + std::hash::Hash> Names<F> {
    /// An entry as it is to be; nothing when it is so already. Of several names of one `file` that become the same, the
    /// first is the file and the others are links to it. What has one name needs no `file`.
    fn settle(&mut self, old: Entry, change: Change, file: Option<F>) -> Option<Entry> {
        let mut new = old.clone();
        change.apply(&mut new);
        if new == old {
            return None;
        }
        if let (EntryKind::File { .. }, Some(file)) = (&new.kind, file) {
            match self.0.entry((file, (new.mode, new.uid, new.gid))) {
                Occupied(first) => new.kind = EntryKind::HardLink { target: first.get().clone() },
                Vacant(free) => drop(free.insert(new.path.clone())),
            }
        }
        Some(new)
    }
}

/// A thing in a base.
#[derive(Clone, Debug)]
pub(super) struct BaseMember {
    /// As it is; never a hard link.
    pub(super) entry: Entry,
    /// Where its content is.
    pub(super) content: Content,
    /// Members with the same are one file with several names.
    pub(super) file: (usize, SafePath),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mode: u32) -> Entry {
        let path = SafePath::parse(path.as_bytes()).unwrap();
        Entry { path, kind: EntryKind::File { size: 3 }, mode, uid: 0, gid: 0, xattrs: Vec::new() }
    }

    #[test]
    fn names_of_one_file() {
        let to = |mode| Change { mode: Some(mode), owner: None };
        let wanted = vec![
            (file("a", 0o644), to(0o600), 1),
            (file("b", 0o644), to(0o755), 1),
            (file("c", 0o644), to(0o600), 1),
            (file("d", 0o600), to(0o600), 2),
            (file("e", 0o644), to(0o600), 2),
            // Known to have one name.
            (file("f", 0o644), to(0o600), 3),
            (file("g", 0o644), to(0o600), 3),
        ];
        let mut names = Names::default();
        let entries = wanted
            .into_iter()
            .filter_map(|(entry, change, file)| names.settle(entry, change, (file != 3).then_some(file)));
        let entries: Vec<Entry> = entries.collect();
        let shown: Vec<String> =
            entries.iter().map(|entry| format!("{} {:o} {:?}", entry.path, entry.mode, entry.kind)).collect();
        assert_eq!(
            shown,
            [
                "/a 600 File { size: 3 }",
                "/b 755 File { size: 3 }",
                "/c 600 HardLink { target: /a }",
                "/e 600 File { size: 3 }",
                "/f 600 File { size: 3 }",
                "/g 600 File { size: 3 }",
            ]
        );
    }
}
