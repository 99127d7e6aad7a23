//! The entries of a layer together: their conflicts, the parents that they need, the key that they make.

use std::collections::BTreeSet;

use dmoci_layers::{Entry, EntryKind, SafePath};

use super::LayerPlan;
use crate::engine::assemble::error::{BuildError, BuildErrorKind};
use crate::engine::assemble::key::LayerKey;
use crate::engine::assemble::merge::{Merge, Origin, Rank, Source};
use crate::engine::assemble::programs::Starts;
use crate::engine::assemble::remove::Removed;
use crate::inputs::base::{Directory, KEPT, Node, Tree, is_library};
use crate::inputs::{Content, Item, Site};
use crate::spec::target::{Compression, Target};

/// How a layer stands on the tree below it.
pub(super) struct Way<'a> {
    /// Files of the tree that directories of the layer may take the place of.
    pub(super) over: BTreeSet<SafePath>,
    /// What of the layer is put into the tree.
    pub(super) put: Put,
    /// What the layer has taken out of the tree.
    pub(super) removed: Removed,
    /// What is noted of files that the image may start.
    pub(super) starts: &'a mut Starts,
}

/// What of a layer is put into the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// All: other layers stand on it.
    All,
    /// What is looked for in a finished image: directories, links, programs, libraries, users, and what tells of Python's distributions.
    /// So that a topmost layer of a million other files costs nothing.
    Telling,
    /// Nothing: it is only looked at.
    Nothing,
}

impl Put {
    fn takes(self, entry: &Entry) -> bool {
        match (self, &entry.kind) {
            (Put::All, _) | (Put::Telling, EntryKind::Directory | EntryKind::Symlink { .. }) => true,
            (Put::Telling, _) => {
                let name = entry.path.name();
                let kept = KEPT.contains(&entry.path.as_bytes());
                let known = name.ends_with(b".pth") || name.ends_with(b".egg-info") || is_library(name);
                entry.mode & 0o111 != 0 || kept || known
            }
            (Put::Nothing, _) => false,
        }
    }
}

/// Adds the parents that the entries need, the whiteouts, and what is known of all entries together.
pub(super) fn complete(
    plan: &mut LayerPlan,
    tree: &mut Tree,
    way: &mut Way<'_>,
    site: &Site<'_>,
    target: &Target,
    given: &mut [bool],
) -> Result<(), BuildError> {
    let mut key = LayerKey::new(site, target.compression);
    let Walked { parents, bytes, deflated, .. } = walk(plan, tree, way, &mut key, given)?;
    plan.spliced = deflated && target.splice && target.compression == Compression::Gzip;
    key.spliced(plan.spliced);
    let whiteouts = way.removed.whiteouts(tree);
    whiteouts.iter().for_each(|item| key.add(item));
    for items in [parents, whiteouts] {
        let source = Source::List(items.into());
        plan.origins.push(Origin { input: None, rank: Rank::Parent, replace: false, source, apart: None });
    }
    for (table, _) in &plan.substitutions {
        key.substitution(table);
    }
    plan.key = key.finish();
    plan.bytes = bytes;
    Ok(())
}

/// What is known of the entries of a layer together.
pub(super) struct Walked {
    /// The directories that entries need and no input gives, without those that are 0755 0:0.
    parents: Vec<Item>,
    /// Bytes of all contents.
    bytes: u64,
    /// A content is there as a deflate stream.
    deflated: bool,
    /// Which origins gave something in the place of something else that another gave.
    pub(super) prevailed: Vec<bool>,
}

/// Goes once through the merged entries: every conflict is found here, before anything is written.
///
/// The layer is put into the tree as `way` says. Everything is written into the key, and every input that gives
/// something is marked in `given`.
pub(super) fn walk(
    plan: &LayerPlan,
    tree: &mut Tree,
    way: &mut Way<'_>,
    key: &mut LayerKey,
    given: &mut [bool],
) -> Result<Walked, BuildError> {
    let (mut bytes, mut deflated) = (0, false);
    let at = |origins: &[usize], mut error: BuildError| {
        for place in plan.places(origins) {
            if !error.places.contains(&place) {
                error = error.at(place);
            }
        }
        error
    };
    let mut parents = Vec::new();
    // The chain of entries above the current one, outermost first.
    let mut above: Vec<(SafePath, bool, usize)> = Vec::new();
    let mut merge =
        Merge::ahead(&plan.name, &plan.origins).map_err(|(origins, error)| at(&origins, error))?;
    while let Some(merged) = merge.next().map_err(|(origins, error)| at(&origins, error))? {
        let entry = &merged.item.entry;
        if let EntryKind::File { size } = entry.kind {
            bytes += size;
            deflated |= merged.item.content.deflated().is_some();
        }
        while above.last().is_some_and(|(path, ..)| !entry.path.starts_with(path)) {
            above.pop();
        }
        if let Some((path, false, origin)) = above.last() {
            let layer = plan.name.clone();
            let kind = BuildErrorKind::Conflict {
                layer,
                path: path.clone(),
                what: "one as a directory, the other as something else",
            };
            return Err(at(&[merged.origin, *origin], BuildError::new(kind)));
        }
        let known = above.last().map_or_else(SafePath::root, |(path, ..)| path.clone());
        for parent in entry.path.parents_after(&known) {
            let directory = tree.directory(&parent);
            let plain = directory == Directory::default();
            let item = Item { entry: directory.entry(parent.clone()), content: Content::None };
            if !way.over.contains(&parent) {
                check_kind(&plan.name, &item.entry, tree).map_err(|error| at(&[merged.origin], error))?;
            }
            if way.put.takes(&item.entry) {
                tree.apply(&item);
            }
            key.add(&item);
            way.removed.give(&item.entry);
            if !plain {
                parents.push(item);
            }
            above.push((parent, true, merged.origin));
        }
        if !plan.origins[merged.origin].replace {
            check_kind(&plan.name, entry, tree).map_err(|error| at(&[merged.origin], error))?;
        }
        above.push((entry.path.clone(), entry.kind == EntryKind::Directory, merged.origin));
        key.add(&merged.item);
        way.removed.give(entry);
        let noted = way.starts.note(&merged.item) && way.put != Put::Nothing;
        if noted || way.put.takes(&merged.item.entry) {
            tree.apply(&merged.item);
        }
    }
    for (origin, _) in plan.origins.iter().zip(merge.given()).filter(|(_, gave)| **gave) {
        if let Some(given) = origin.input.and_then(|input| given.get_mut(input)) {
            *given = true;
        }
    }
    Ok(Walked { parents, bytes, deflated, prevailed: merge.prevailed().to_vec() })
}

/// Nothing may take the place of something of another kind below: it would be lost without a word.
fn check_kind(layer: &str, entry: &Entry, tree: &Tree) -> Result<(), BuildError> {
    let directory = entry.kind == EntryKind::Directory;
    let (below, above) = match tree.get(&entry.path) {
        Some(Node::Directory(_)) if !directory => ("a directory", "something else"),
        Some(Node::Symlink(_)) if directory => ("a symbolic link", "a directory"),
        Some(Node::Other) if directory => ("a file", "a directory"),
        _ => return Ok(()),
    };
    let kind = BuildErrorKind::Kind { layer: layer.to_owned(), path: entry.path.clone(), below, above };
    Err(BuildError::new(kind))
}
