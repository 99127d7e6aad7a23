//! What one layer of a base image does to the tree below it.

use std::io::{self, Read};
use std::sync::Arc;

use dmoci_layers::SafePath;
use dmoci_layers::untar::{Member, MemberKind, TarLimits, TarReader};
use serde::{Deserialize, Serialize};

use super::{Directory, Node, Tree, keep};
use crate::inputs::stored::path;
use crate::inputs::telling::{self, Facts, Keep};
use crate::inputs::{Content, InputError};
use crate::limits;

/// The names of a layer's tar, ready to be put into a [`Tree`].
#[derive(Debug, Default)]
pub struct LayerTree {
    /// What it hides of the layers below; with `false` only what is in the directory.
    pub(super) hidden: Vec<(SafePath, bool)>,
    /// What it holds.
    pub(super) own: Tree,
}

impl LayerTree {
    /// Reads the tar of a layer to its end. Checks no digest.
    pub fn read(reader: impl Read) -> Result<LayerTree, InputError> {
        let failed = |message: String, source: Option<Box<dyn std::error::Error + Send + Sync>>| {
            InputError::Base { message, source }
        };
        let mut layer = LayerTree::default();
        let bounds = TarLimits { max_entries: limits::TAR_ENTRIES, ..TarLimits::default() };
        let mut tar = TarReader::new(reader, bounds);
        while let Some(mut member) =
            tar.next().map_err(|e| failed("a layer is damaged".into(), Some(Box::new(e))))?
        {
            let path = member.path().map_err(|e| {
                failed("a layer has a member without a usable name".into(), Some(Box::new(e)))
            })?;
            let name = path.name();
            let parent = path.parent().unwrap_or_else(SafePath::root);
            if name == b".wh..wh..opq" {
                layer.hidden.push((parent, false));
            } else if name.starts_with(b".wh..wh.") {
                // Bookkeeping of aufs, not part of the image.
            } else if let Some(hidden) = name.strip_prefix(b".wh.") {
                let hidden = parent
                    .join(hidden)
                    .map_err(|e| failed("a whiteout has no name".into(), Some(Box::new(e))))?;
                layer.hidden.push((hidden, true));
            } else {
                layer
                    .own
                    .put_member(path, &mut member)
                    .map_err(|e| failed("a layer cannot be read".into(), Some(Box::new(e))))?;
            }
        }
        Ok(layer)
    }

    /// The same as a record.
    pub fn stored(&self) -> StoredTree {
        let bytes = |path: &SafePath| path.as_bytes().to_vec();
        let content = |content: &Content| match content {
            Content::Bytes(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        };
        StoredTree {
            hidden: self.hidden.iter().map(|(path, whole)| (bytes(path), *whole)).collect(),
            nodes: self.own.nodes.iter().map(|(path, node)| (bytes(path), node.clone())).collect(),
            others: self
                .own
                .others
                .iter()
                .map(|(path, names)| (bytes(path), names.iter().map(|name| name.to_vec()).collect()))
                .collect(),
            contents: self.own.contents.iter().map(|(path, c)| (bytes(path), content(c))).collect(),
            facts: self.own.facts.iter().map(|(path, facts)| (bytes(path), facts.to_text())).collect(),
        }
    }
}

/// A [`LayerTree`] as a record of the cache holds it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredTree {
    hidden: Vec<(Vec<u8>, bool)>,
    nodes: Vec<(Vec<u8>, Node)>,
    others: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    facts: Vec<(Vec<u8>, String)>,
}

impl StoredTree {
    /// What was stored, when all its paths are such.
    pub fn tree(self) -> Option<LayerTree> {
        let mut layer = LayerTree::default();
        for (hidden, whole) in self.hidden {
            layer.hidden.push((path(&hidden)?, whole));
        }
        for (at, node) in self.nodes {
            let node = match node {
                Node::Directory(directory) => {
                    Node::Directory(layer.own.kind(Arc::unwrap_or_clone(directory)))
                }
                node => node,
            };
            layer.own.nodes.insert(path(&at)?, node);
        }
        for (at, names) in self.others {
            layer.own.others.insert(path(&at)?, names.into_iter().map(Vec::into_boxed_slice).collect());
        }
        for (at, content) in self.contents {
            layer.own.contents.insert(path(&at)?, Content::Bytes(content.into()));
        }
        for (at, facts) in self.facts {
            layer.own.facts.insert(path(&at)?, Facts::parse(&facts));
        }
        Some(layer)
    }
}

impl Tree {
    fn put_member(&mut self, path: SafePath, member: &mut Member<'_>) -> io::Result<()> {
        let node = match &member.kind {
            MemberKind::Directory => Node::Directory(self.kind(Directory {
                mode: member.mode & 0o7777,
                uid: member.uid,
                gid: member.gid,
                xattrs: member.xattrs.clone(),
            })),
            MemberKind::Symlink { target } => Node::Symlink(target.as_slice().into()),
            _ => Node::Other,
        };
        self.contents.remove(&path);
        self.facts.remove(&path);
        if let MemberKind::HardLink { target } = &member.kind {
            self.link(&path, target);
        }
        match keep(&path, member.size).filter(|_| member.kind == MemberKind::File) {
            None => {}
            Some(Keep::Scanned) => {
                let facts = telling::scan(member)?;
                self.facts.insert(path.clone(), facts);
            }
            Some(Keep::Whole) => {
                let mut content = Vec::new();
                member.read_to_end(&mut content)?;
                self.contents.insert(path.clone(), Content::Bytes(content.into()));
            }
        }
        self.set(path, node);
        Ok(())
    }

    /// What is known of a file of the same layer is known of a hard link to it.
    fn link(&mut self, path: &SafePath, target: &[u8]) {
        let Ok(target) = SafePath::parse(target) else { return };
        if keep(path, 0).is_none() {
            return;
        }
        if let Some(facts) = self.facts.get(&target).cloned() {
            self.facts.insert(path.clone(), facts);
        }
        if let Some(content) = self.contents.get(&target).cloned() {
            self.contents.insert(path.clone(), content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SafePath {
        SafePath::parse(text.as_bytes()).unwrap()
    }

    /// A tar of empty files, directories (names that end in `/`), links (`name->target`) and `etc/passwd`.
    fn tar(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_ustar();
            let (name, content) = match name.split_once("->") {
                Some((name, target)) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_link_name(target).unwrap();
                    (name, "")
                }
                None if name.ends_with('/') => {
                    header.set_entry_type(tar::EntryType::Directory);
                    (*name, "")
                }
                None if *name == "etc/passwd" => (*name, "root:x:0:0::/:\n"),
                None => (*name, ""),
            };
            header.set_path(name).unwrap();
            header.set_mode(0o700);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_record_does_to_a_tree_what_the_tar_does() {
        let below = ["a/", "a/x", "a/y", "b/", "b/c/", "b/c/z", "lib->usr/lib", "etc/", "etc/passwd"];
        let above =
            ["a/", "a/.wh.x", "b/.wh..wh..opq", "b/new", ".wh.lib", "lib/", "lib/f", "etc/.wh.passwd"];
        let mut trees = [Tree::default(), Tree::default()];
        for names in [&below[..], &above] {
            let read = || LayerTree::read(&tar(names)[..]).unwrap();
            trees[0].apply_layer(read());
            let stored = postcard::to_stdvec(&read().stored()).unwrap();
            let back: StoredTree = postcard::from_bytes(&stored).unwrap();
            assert_eq!(back, read().stored());
            trees[1].apply_layer(back.tree().unwrap());
        }
        for tree in &trees {
            assert_eq!(tree.get(&path("a/x")), None);
            assert_eq!(tree.get(&path("a/y")), Some(&Node::Other));
            assert_eq!(tree.get(&path("b/c")), None);
            assert_eq!(tree.get(&path("b/c/z")), None);
            assert_eq!(tree.get(&path("b/new")), Some(&Node::Other));
            assert!(matches!(tree.get(&path("lib")), Some(Node::Directory(_))));
            assert_eq!(tree.content(&path("etc/passwd")).unwrap(), None);
        }
        let mut again = Tree::default();
        again.apply_layer(LayerTree::read(&tar(&below)[..]).unwrap().stored().tree().unwrap());
        assert_eq!(again.content(&path("etc/passwd")).unwrap().unwrap(), b"root:x:0:0::/:\n");
    }

    #[test]
    fn a_record_with_a_path_that_leads_out_is_none() {
        let tree = |at: &[u8]| StoredTree {
            hidden: vec![(at.to_vec(), true)],
            nodes: vec![],
            others: vec![],
            contents: vec![],
            facts: vec![(at.to_vec(), "machine 62\n".into())],
        };
        assert!(tree(b"a/b").tree().is_some());
        assert!(tree(b"a/../b").tree().is_none());
        assert!(tree(b"/a").tree().is_none());
    }

    /// What an interpreter says of itself goes into the record, through a hard link, and away with the file.
    #[test]
    fn what_tells_of_a_python_is_kept() {
        let mut tar = tar::Builder::new(Vec::new());
        let elf = b"\x7fELF\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\x3e\0\0 3.12.4\0\x003.12.4\0";
        let mut header = tar::Header::new_ustar();
        header.set_path("usr/bin/python3.12").unwrap();
        header.set_size(elf.len() as u64);
        header.set_cksum();
        tar.append(&header, &elf[..]).unwrap();
        header.set_entry_type(tar::EntryType::Link);
        header.set_path("usr/bin/python3").unwrap();
        header.set_link_name("usr/bin/python3.12").unwrap();
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, &b""[..]).unwrap();
        let layer = LayerTree::read(&tar.into_inner().unwrap()[..]).unwrap();
        let stored = layer.stored();
        for layer in [layer, stored.tree().unwrap()] {
            let mut tree = Tree::default();
            tree.apply_layer(layer);
            for name in ["usr/bin/python3", "usr/bin/python3.12"] {
                let facts = tree.facts(&path(name)).unwrap().unwrap();
                assert_eq!((facts.machine, &facts.pythons[..]), (Some(62), &["3.12.4".to_owned()][..]));
            }
            assert_eq!(tree.telling().count(), 2);
            let hidden = LayerTree { hidden: vec![(path("usr/bin"), false)], own: Tree::default() };
            tree.apply_layer(hidden);
            assert_eq!(tree.telling().count(), 0);
            assert_eq!(tree.facts(&path("usr/bin/python3")).unwrap(), None);
        }
    }
}
