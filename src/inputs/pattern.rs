//! Which paths of a source are taken: the `include` and `exclude` of the spec, and nothing of the host.

use dmoci_layers::SafePath;

use super::InputError;
use crate::cache::KeyWriter;

/// Compiled `include` and `exclude` lists.
///
/// A pattern without a slash matches a name at any depth; one with a slash (a leading one counts) matches
/// the path from the top of the source. `*` and `?` do not match a slash, `**` does, `[a-z]` and `{a,b}` work;
/// a trailing slash matches directories only. What is excluded is excluded with all below it; what is
/// included is included with all below it, and `exclude` wins.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

/// One pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    glob: String,
    anchored: bool,
    directory: bool,
}

impl Patterns {
    /// Compiles the two lists; an empty `include` takes everything.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Patterns, InputError> {
        let compile = |list: &[String]| list.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>();
        Ok(Patterns { include: compile(include)?, exclude: compile(exclude)? })
    }

    /// Writes what decides which paths are taken into a key.
    pub fn decide(&self, key: &mut KeyWriter) {
        for list in [&self.include, &self.exclude] {
            key.number(list.len() as u64);
            for Pattern { glob, anchored, directory } in list {
                key.bytes(glob.as_bytes());
                key.number(u64::from(*anchored) << 1 | u64::from(*directory));
            }
        }
    }

    /// True when this path is left out with all below it.
    pub fn excludes(&self, path: &[u8], directory: bool) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(path, directory))
    }

    /// True when this path is taken, with all below it. Says nothing about `exclude`.
    pub fn includes(&self, path: &[u8], directory: bool) -> bool {
        self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(path, directory))
    }

    /// True when a path is taken, judged with all directories above it.
    pub fn takes(&self, path: &[u8], directory: bool) -> bool {
        let mut included = false;
        let ends = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(i, _)| i);
        for (end, directory) in ends.map(|end| (end, true)).chain([(path.len(), directory)]) {
            if self.excludes(&path[..end], directory) {
                return false;
            }
            included |= self.includes(&path[..end], directory);
        }
        included
    }
}

impl Pattern {
    /// A pattern of absolute paths: it begins with a slash.
    pub fn absolute(text: &str) -> Result<Pattern, InputError> {
        match text.starts_with('/') {
            true => Pattern::new(text),
            false => Err(InputError::Pattern(text.to_owned(), "it is not absolute".to_owned())),
        }
    }

    /// The longest path that all matching paths are, or lie below.
    pub fn beginning(&self) -> SafePath {
        let special = |part: &&str| part.contains(['*', '?', '[', ']', '{', '}', '\\', '!']);
        let plain: Vec<&str> = self.glob.split('/').take_while(|part| !special(part)).collect();
        // Braces may hold slashes: what stands before the first special character is safe in any case.
        SafePath::parse(plain.join("/").as_bytes()).unwrap_or_else(|_| SafePath::root())
    }

    fn new(text: &str) -> Result<Pattern, InputError> {
        let bad = |why: &str| InputError::Pattern(text.to_owned(), why.to_owned());
        let directory = text.ends_with('/');
        let body = text.strip_suffix('/').unwrap_or(text);
        let anchored = body.contains('/');
        let body = body.strip_prefix("./").unwrap_or(body).trim_start_matches('/');
        if body.is_empty() {
            return Err(bad("it names nothing"));
        }
        if body.split('/').any(|part| part == ".." || part == ".") {
            return Err(bad("it holds a `.` or `..` component"));
        }
        fast_glob::validate(body).map_err(|error| bad(&format!("{error:?}")))?;
        Ok(Pattern { glob: body.to_owned(), anchored, directory })
    }

    /// True when a path from the top matches.
    pub fn matches(&self, path: &[u8], directory: bool) -> bool {
        if self.directory && !directory {
            return false;
        }
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        fast_glob::glob_match(&self.glob, if self.anchored { path } else { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let owned = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        Patterns::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn names_paths_and_directories() {
        let p = patterns(&[], &["*.md", "docs/*.txt", "build/", "/top", "a/**/z"]);
        let out = |path: &str, dir| !p.takes(path.as_bytes(), dir);
        assert!(out("README.md", false) && out("x/y/README.md", false));
        assert!(out("docs/a.txt", false) && !out("docs/x/a.txt", false) && !out("x/docs/a.txt", false));
        assert!(out("x/build", true) && out("x/build/deep/file", false) && !out("x/build", false));
        assert!(out("top", false) && !out("x/top", false));
        assert!(out("a/b/c/z", false) && out("a/z", false) && !out("b/z", false));
    }

    #[test]
    fn include_takes_what_is_below_and_exclude_wins() {
        let p = patterns(&["*.py", "data"], &["test_*"]);
        let takes = |path: &str, dir| p.takes(path.as_bytes(), dir);
        assert!(takes("a/b.py", false) && !takes("a", true) && takes("data/x/y", false));
        assert!(!takes("a/test_b.py", false) && !takes("data/test_x/y", false));
    }

    #[test]
    fn bytes_that_are_not_utf8() {
        assert!(!patterns(&[], &["*.md"]).takes(b"\xff.md", false));
        assert!(patterns(&[], &["*.md"]).takes(b"\xff.txt", false));
    }

    #[test]
    fn malformed() {
        for bad in ["", "/", "../x", "a/./b", "[a", "{a"] {
            assert!(Patterns::new(&[bad.to_owned()], &[]).is_err(), "{bad}");
        }
    }
}
