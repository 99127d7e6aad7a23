//! Rust source as far as the house needs it: its modules, and the paths that each file uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One file of a crate.
pub(crate) struct SourceFile {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    /// The modules from the crate's root, none for the root itself.
    pub(crate) module: Vec<String>,
    /// The code without comments, strings and the tests at its end.
    pub(crate) code: String,
}

/// All files that `mod` declarations reach from these root files, in order.
pub(crate) fn reached(repository: &Path, roots: &[&str]) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut open: Vec<(PathBuf, Vec<String>)> =
        roots.iter().map(|root| (PathBuf::from(root), Vec::new())).collect();
    while let Some((path, module)) = open.pop() {
        let text = fs::read_to_string(repository.join(&path)).unwrap();
        let code = blank(&text);
        let folder = folder_of(&path, &module);
        for (name, given) in declared(&code, &text) {
            let mut inner = module.clone();
            inner.push(name.clone());
            let candidates = match given {
                Some(given) => vec![path.parent().unwrap().join(given)],
                None => vec![folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")],
            };
            let found = candidates.iter().find(|candidate| repository.join(candidate).is_file());
            let found = found.unwrap_or_else(|| panic!("{}: no file for mod {name}", path.display()));
            open.push((found.clone(), inner));
        }
        files.push(SourceFile { path, module, code: without_tests(&code).to_owned() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The number of lines that are neither blank nor comment, before the tests at the end.
pub(crate) fn lines_of_code(text: &str) -> usize {
    without_tests(&blank(text)).lines().filter(|line| !line.trim().is_empty()).count()
}

/// Every `.rs` file below a folder, relative to the repository.
pub(crate) fn files_below(repository: &Path, folder: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::from(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(repository.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path);
            }
        }
    }
    found
}

impl SourceFile {
    /// The paths inside the crate that the file names, from the crate's root, `super` and `self` resolved.
    pub(crate) fn paths(&self) -> BTreeSet<Vec<String>> {
        let mut paths = BTreeSet::new();
        let tokens = tokens(&self.code);
        for (i, token) in tokens.iter().enumerate() {
            let starts = matches!(*token, "crate" | "super") && tokens.get(i + 1) == Some(&"::");
            if starts && (i == 0 || tokens[i - 1] != "::") {
                let mut at = i;
                tree(&tokens, &mut at, &mut Vec::new(), &mut |path| {
                    paths.insert(self.resolve(path));
                });
            }
        }
        paths
    }

    fn resolve(&self, path: &[&str]) -> Vec<String> {
        let mut full = self.module.clone();
        for part in path {
            match *part {
                "crate" => full.clear(),
                "super" => {
                    full.pop();
                }
                "self" => {}
                name => full.push(name.to_owned()),
            }
        }
        full
    }
}

/// What the root of a crate offers under another name: `pub use digest::Digest` gives `Digest` → `digest`.
pub(crate) fn reexports(root: &SourceFile) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let tokens = tokens(&root.code);
    for (i, token) in tokens.iter().enumerate() {
        if *token == "use" {
            let mut at = i + 1;
            tree(&tokens, &mut at, &mut Vec::new(), &mut |path| {
                if let [module, .., name] = path {
                    names.insert((*name).to_owned(), (*module).to_owned());
                }
            });
        }
    }
    names
}

/// Reads one path or `use` tree from `at` on and gives every full path in it.
fn tree<'a>(
    tokens: &[&'a str],
    at: &mut usize,
    prefix: &mut Vec<&'a str>,
    found: &mut dyn FnMut(&[&'a str]),
) {
    let depth = prefix.len();
    loop {
        match tokens.get(*at) {
            Some(&"{") => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| *token != "}") {
                    tree(tokens, at, prefix, found);
                    while tokens.get(*at).is_some_and(|token| !matches!(*token, "," | "}")) {
                        *at += 1; // `as name`
                    }
                    if tokens.get(*at) == Some(&",") {
                        *at += 1;
                    }
                }
                *at += 1;
                break;
            }
            Some(name) => prefix.push(name),
            None => break,
        }
        *at += 1;
        if tokens.get(*at) != Some(&"::") {
            found(prefix);
            break;
        }
        *at += 1;
    }
    prefix.truncate(depth);
}

fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    tokens
}

/// The modules that a file declares without a body, each with the file of a `#[path]` attribute.
fn declared(code: &str, text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut given = None;
    for (line, original) in code.lines().zip(text.lines()) {
        if line.trim_start().starts_with("#[path") {
            given = original.split('"').nth(1).map(str::to_owned);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "mod").filter(|at| *at <= 1);
        if let Some(name) = at.and_then(|at| words.get(at + 1)).and_then(|word| word.strip_suffix(';')) {
            found.push((name.to_owned(), given.take()));
        }
    }
    found
}

/// The folder that holds the modules of a file.
fn folder_of(path: &Path, module: &[String]) -> PathBuf {
    let folder = path.parent().unwrap();
    let stem = path.file_stem().unwrap();
    if module.is_empty() || stem == "mod" { folder.to_owned() } else { folder.join(stem) }
}

fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod ").map_or(code, |at| &code[..at])
}

/// Replaces comments, strings and characters by blanks; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = literal(text, at);
        if length == 0 {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..at + length].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            at += length;
        }
    }
    String::from_utf8(out).unwrap()
}

/// The length of the comment, string or character that begins here, or 0.
fn literal(text: &str, at: usize) -> usize {
    if !text.is_char_boundary(at) {
        return 0;
    }
    let rest = &text[at..];
    let after_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let hashes = rest.trim_start_matches('b').strip_prefix('r').filter(|_| !after_word);
    if let Some(raw) = hashes {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if raw[marks..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(marks));
            let skipped = rest.len() - raw.len() + marks + 1;
            return rest[skipped..].find(&end).map_or(rest.len(), |found| skipped + found + end.len());
        }
    }
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        rest.find("*/").map_or(rest.len(), |end| end + 2)
    } else if rest.starts_with('"') {
        quoted(rest, '"')
    } else if rest.starts_with('\'') {
        let lifetime = !rest.starts_with("'\\") && rest.chars().nth(2) != Some('\'');
        if lifetime { 0 } else { quoted(rest, '\'') }
    } else {
        0
    }
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let code = r##"
        // use crate::comment::A;
        use crate::{a::{self, B as C}, d};
        use super::sibling::{E, f::*};
        fn g<'a>(h: &'a crate::inline::I) -> &'static str { "crate::string::J"; r#"crate::"raw::K"#; '"'; crate::last::l() }
        #[cfg(test)]
mod tests { use crate::tested::M; }
    "##;
    let file = SourceFile {
        path: "src/x/y.rs".into(),
        module: vec!["x".into(), "y".into()],
        code: without_tests(&blank(code)).to_owned(),
    };
    let found: Vec<String> = file.paths().iter().map(|path| path.join("::")).collect();
    let expected = ["a", "a::B", "d", "inline::I", "last::l", "x::sibling::E", "x::sibling::f::*"];
    assert_eq!(found, expected);
}
