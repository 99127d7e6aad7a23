//! What of a tree a pattern names, and parts that are taken out of it.

use std::collections::BTreeSet;

use dmoci_layers::SafePath;

use super::{Node, Question, Tree};
use crate::inputs::pattern::Pattern;

/// Whether a file is called as a shared library is.
pub fn is_library(name: &[u8]) -> bool {
    name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
}

impl Tree {
    /// True when something stands at this path, be it a directory that nobody described.
    pub fn exists(&self, path: &SafePath) -> bool {
        self.get(path).is_some() || self.holds(path)
    }

    /// True when a directory stands at this path, be it one that nobody described.
    pub fn is_directory(&self, path: &SafePath) -> bool {
        match self.get(path) {
            Some(node) => matches!(node, Node::Directory(_)),
            None => self.holds(path),
        }
    }

    /// The names of all files and links that are called as shared libraries are.
    pub fn libraries(&self) -> BTreeSet<&[u8]> {
        let links = self.nodes.iter().filter(|(_, node)| matches!(node, Node::Symlink(_)));
        let links = links.map(|(path, _)| path.name());
        let others = self.others.values().flatten().map(|name| &**name);
        links.chain(others).filter(|name| is_library(name)).collect()
    }

    /// All that an absolute pattern matches, sorted. No symbolic link is followed.
    pub fn find(&self, pattern: &Pattern) -> Vec<SafePath> {
        self.select(&pattern.beginning(), |path, directory| pattern.matches(path.as_bytes(), directory))
    }

    /// All that is in a directory and below it, sorted.
    pub fn below(&self, directory: &SafePath) -> Vec<SafePath> {
        self.select(directory, |path, _| path != directory)
    }

    /// What of all at and below a path is chosen by path and whether it is a directory, sorted.
    fn select(&self, start: &SafePath, choose: impl Fn(&SafePath, bool) -> bool) -> Vec<SafePath> {
        self.ask(Question::Below, start, false);
        let mut found = BTreeSet::new();
        let mut see = |path: &SafePath, directory: bool| {
            if choose(path, directory) {
                found.insert(path.clone());
            }
        };
        if self.exists(start) && !start.is_root() {
            see(start, self.is_directory(start));
        }
        let mut last = start.clone();
        // Directories that are there only because of what is in them.
        let mut above = |path: &SafePath, see: &mut dyn FnMut(&SafePath, bool)| {
            let mut parent = path.parent();
            while let Some(directory) =
                parent.filter(|directory| directory.starts_with(start) && directory != start)
            {
                if last.starts_with(&directory) {
                    break;
                }
                if self.get(&directory).is_none() {
                    see(&directory, true);
                }
                parent = directory.parent();
            }
            last = path.clone();
        };
        let inside = |path: &SafePath| path.starts_with(start);
        for (path, node) in self.nodes.range(start.clone()..).take_while(|(path, _)| inside(path)) {
            see(path, matches!(node, Node::Directory(_)));
            above(path, &mut see);
        }
        let others = self.others.range(start.clone()..).take_while(|(path, _)| inside(path));
        for (directory, name) in others.flat_map(|(path, names)| names.iter().map(move |name| (path, name))) {
            // The name was part of a path.
            if let Ok(path) = directory.join(name) {
                see(&path, false);
                above(&path, &mut see);
            }
        }
        found.into_iter().collect()
    }

    /// What is directly in a directory, sorted.
    pub fn children(&self, directory: &SafePath) -> Vec<SafePath> {
        self.ask(Question::Children, directory, false);
        let depth = directory.components().count();
        let child = |path: &SafePath| {
            let name = path.components().nth(depth)?;
            directory.join(name).ok()
        };
        let inside = |path: &SafePath| path.starts_with(directory);
        let nodes =
            self.nodes.range(directory.clone()..).map(|(path, _)| path).take_while(|path| inside(path));
        let mut children: BTreeSet<SafePath> = nodes.filter_map(child).collect();
        for (path, names) in self.others.range(directory.clone()..).take_while(|(path, _)| inside(path)) {
            match path == directory {
                true => children.extend(names.iter().filter_map(|name| directory.join(name).ok())),
                false if names.is_empty() => {}
                false => children.extend(child(path)),
            }
        }
        children.into_iter().collect()
    }

    /// Takes out what stands at a path with all below it: the tree of that alone.
    pub fn take(&mut self, path: &SafePath) -> Tree {
        self.ask(Question::Below, path, false);
        let mut taken = Tree::default();
        if self.has_other(path) {
            taken.set(path.clone(), Node::Other);
        }
        let inside = |inner: &SafePath| inner.starts_with(path);
        let nodes = self.nodes.range(path.clone()..).take_while(|(inner, _)| inside(inner));
        taken.nodes = nodes.map(|(inner, node)| (inner.clone(), node.clone())).collect();
        for inner in self.others.range(path.clone()..).map(|(inner, _)| inner.clone()).take_while(inside) {
            taken.others.insert(inner, Default::default());
        }
        for (inner, names) in &mut taken.others {
            if let Some(own) = self.others.get_mut(inner).filter(|_| inside(inner)) {
                *names = std::mem::take(own);
            }
        }
        self.remove(path, true);
        taken
    }

    /// True when something stands below this path.
    pub(super) fn holds(&self, path: &SafePath) -> bool {
        let node = self.nodes.range(path.clone()..).find(|(inner, _)| *inner != path);
        let mut others = self.others.range(path.clone()..).take_while(|(inner, _)| inner.starts_with(path));
        node.is_some_and(|(inner, _)| inner.starts_with(path)) || others.any(|(_, names)| !names.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::base::LayerTree;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text.as_bytes()).unwrap()
    }

    /// `dir/` is a directory, `link->x` a link, anything else a file.
    fn tree(names: &[&str]) -> Tree {
        let mut tree = LayerTree::default().own;
        for name in names {
            match name.split_once("->") {
                Some((name, target)) => tree.set(path(name), Node::Symlink(target.as_bytes().into())),
                None if name.ends_with('/') => tree.set(path(name), Node::Directory(Default::default())),
                None => tree.set(path(name), Node::Other),
            }
        }
        tree
    }

    fn found(tree: &Tree, pattern: &str) -> String {
        let found = tree.find(&Pattern::absolute(pattern).unwrap());
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn patterns_over_a_tree() {
        // `c` and `c/d` are described by nobody.
        let tree = tree(&["a/", "a/b/", "a/b/x", "a/y", "a-z", "c/d/e", "l->a", "a/b/.h"]);
        assert_eq!(found(&tree, "/a"), "/a");
        assert_eq!(found(&tree, "/a/**"), "/a/b /a/b/.h /a/b/x /a/y");
        assert_eq!(found(&tree, "/a/*/"), "/a/b");
        assert_eq!(found(&tree, "/a/b/"), "/a/b");
        assert_eq!(found(&tree, "/a/y/"), "");
        assert_eq!(found(&tree, "/**/x"), "/a/b/x");
        assert_eq!(found(&tree, "/*"), "/a /a-z /c /l");
        assert_eq!(found(&tree, "/c/*"), "/c/d");
        assert_eq!(found(&tree, "/c/d/e"), "/c/d/e");
        assert_eq!(found(&tree, "/c/**"), "/c/d /c/d/e");
        assert_eq!(
            (found(&tree, "/l/y"), found(&tree, "/l/**"), found(&tree, "/nope")),
            ("".into(), "".into(), "".into())
        );
        assert_eq!(found(&tree, "/{a,c}/*"), "/a/b /a/y /c/d");
        assert_eq!(found(&tree, "/\\a/y"), "/a/y");
        let children = |directory: &str| {
            tree.children(&path(directory)).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            (children(""), children("a"), children("c")),
            ("/a /a-z /c /l".into(), "/a/b /a/y".into(), "/c/d".into())
        );
    }

    #[test]
    fn taking_out() {
        let mut tree = tree(&["a/", "a/b/", "a/b/x", "a/y", "c/d/e", "l->a"]);
        let taken = tree.take(&path("a/b"));
        assert!(taken.is_directory(&path("a/b")) && taken.get(&path("a/b/x")) == Some(&Node::Other));
        assert!(!tree.exists(&path("a/b")) && !tree.exists(&path("a/b/x")) && tree.exists(&path("a/y")));
        let taken = tree.take(&path("c"));
        assert_eq!(taken.children(&path("c")), [path("c/d")]);
        assert!(!tree.exists(&path("c")) && tree.exists(&path("l")));
        let taken = tree.take(&path("a/y"));
        assert!(taken.exists(&path("a/y")) && !tree.exists(&path("a/y")) && tree.exists(&path("a")));
    }
}
