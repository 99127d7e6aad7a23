//! The layer of users: the topmost `passwd` and `group` with lines added.

use dmoci_layers::{Entry, EntryKind, SafePath};

use super::error::{BuildError, BuildErrorKind};
use super::merge::{Origin, Rank, Source};
use super::plan::LayerPlan;
use crate::diagnostic::Place;
use crate::inputs::base::{KEPT, Node, Tree};
use crate::inputs::{Content, Item};
use crate::spec::target::{Span, User};

/// Name of the generated layer.
const NAME: &str = "users";

/// The layer that adds `users` to what `tree` has.
pub(super) fn plan(
    users: &[User],
    tree: &Tree,
    locate: &dyn Fn(&Span, &str) -> Place,
) -> Result<LayerPlan, BuildError> {
    let path = |bytes: &[u8]| SafePath::parse(bytes).map_err(|e| BuildErrorKind::Users(e.to_string()));
    let mut items = Vec::new();
    let [passwd, group] = KEPT;
    let etc = tree.resolve(&path(b"etc")?, true)?;
    if !etc.is_root() {
        let mut parents = vec![etc.clone()];
        while let Some(parent) = parents.last().and_then(SafePath::parent).filter(|p| !p.is_root()) {
            parents.push(parent);
        }
        items.extend(parents.into_iter().rev().map(|directory| Item {
            entry: tree.directory(&directory).entry(directory.clone()),
            content: Content::None,
        }));
    }
    // In the order of the layer.
    for file in [group, passwd] {
        let path = path(file)?;
        let mut text = existing(tree, &path)?;
        for user in users {
            let line = match file == passwd {
                true => {
                    format!("{}:x:{}:{}::{}:{}", user.name, user.uid, user.gid, user.home, user.shell)
                }
                false => format!("{}:x:{}:", user.name, user.gid),
            };
            add(&mut text, &line, &path, file == group).map_err(|error| error.at(locate(&user.span, "")))?;
        }
        let size = text.len() as u64;
        let kind = EntryKind::File { size };
        let path = tree.resolve(&path, false)?;
        let entry = Entry { path, kind, mode: 0o644, uid: 0, gid: 0, xattrs: Vec::new() };
        items.push(Item { entry, content: Content::Bytes(text.into_bytes().into()) });
    }
    let source = Source::List(items.into());
    let origin = Origin { input: Some(0), rank: Rank::Explicit, replace: false, source, apart: None };
    let places = users.first().map(|user| locate(&user.span, "")).into_iter().collect();
    Ok(LayerPlan { origins: vec![origin], places, ..LayerPlan::new(NAME) })
}

/// The text that lines are added to; empty when there is no such file.
fn existing(tree: &Tree, path: &SafePath) -> Result<String, BuildError> {
    let users = |why: String| BuildError::new(BuildErrorKind::Users(why));
    let resolved = tree.resolve(path, false)?;
    match tree.get(&resolved) {
        None => return Ok(String::new()),
        Some(Node::Other) if resolved == *path => {}
        Some(_) => return Err(users(format!("{path} is not a plain file in the layers below"))),
    }
    let Some(content) = tree.content(path)? else {
        return Err(users(format!("{path} is larger than 1 MiB, or no regular file")));
    };
    let text = String::from_utf8(content).map_err(|_| users(format!("{path} is not UTF-8")))?;
    match text.is_empty() || text.ends_with('\n') {
        true => Ok(text),
        false => Ok(text + "\n"),
    }
}

/// Adds a line, unless it is there. A line of the same name with another number is an error, and one of the
/// same number with another name too, unless `shared`: several users may have one group.
fn add(text: &mut String, line: &str, file: &SafePath, shared: bool) -> Result<(), BuildError> {
    let key = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default().to_owned();
        (name, fields.nth(1).unwrap_or_default().to_owned())
    };
    let (name, number) = key(line);
    for old in text.lines() {
        let (old_name, old_number) = key(old);
        if old_number == number && (old_name == name || shared) {
            return Ok(());
        }
        if old_name == name || old_number == number {
            let (found, expected) = (old.to_owned(), line.to_owned());
            return Err(BuildError::new(BuildErrorKind::User { file: file.to_string(), found, expected }));
        }
    }
    text.push_str(line);
    text.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_once() {
        let file = SafePath::parse(b"etc/passwd").unwrap();
        let mut text = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
        add(&mut text, "km:x:10001:10001::/opt/km:/bin/false", &file, false).unwrap();
        add(&mut text, "km:x:10001:10001::/elsewhere:/bin/false", &file, false).unwrap();
        assert_eq!(text.lines().count(), 2);
        add(&mut text, "second:x:10001:", &file, true).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(add(&mut text, "other:x:0:5::/:/bin/sh", &file, false).is_err());
        assert!(add(&mut text, "root:x:7:5::/:/bin/sh", &file, false).is_err());
    }
}
