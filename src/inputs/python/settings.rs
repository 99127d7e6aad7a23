//! Indexes that pip and uv are set up with on a machine: environment variables and configuration files.
//!
//! Nothing is read here: variables and files are handed in.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{Kind, PythonError};
use super::plan::Location;
use super::pylock::url;
use super::requirements::Indexes;

/// Reads a variable of the environment.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a file; nothing when there is none.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// What uv and pip would use in a project. The first place that names an index decides which is the main one, in this order:
/// variables of uv, of pip; `pyproject.toml` and `uv.toml` of the project; the user's and the machine's files of
/// uv, and of pip.
pub fn indexes(project: &Path, variable: Variable<'_>, read: ReadFile<'_>) -> Result<Indexes, PythonError> {
    let mut found = Found::default();
    found.variables(variable)?;
    found.uv_file(&project.join("pyproject.toml"), true, read)?;
    found.uv_file(&project.join("uv.toml"), false, read)?;
    let home = variable("HOME").map(PathBuf::from);
    let config =
        variable("XDG_CONFIG_HOME").map(PathBuf::from).or(home.as_ref().map(|home| home.join(".config")));
    let uv = variable("UV_CONFIG_FILE").map(PathBuf::from);
    let uv_files = [
        uv.clone(),
        config.as_ref().map(|config| config.join("uv/uv.toml")).filter(|_| uv.is_none()),
        Some(PathBuf::from("/etc/uv/uv.toml")).filter(|_| uv.is_none()),
    ];
    for path in uv_files.into_iter().flatten() {
        found.uv_file(&path, false, read)?;
    }
    let environment = variable("VIRTUAL_ENV").map(|venv| PathBuf::from(venv).join("pip.conf"));
    let pip_files = [
        variable("PIP_CONFIG_FILE").filter(|path| path != "/dev/null").map(PathBuf::from),
        environment,
        config.as_ref().map(|config| config.join("pip/pip.conf")),
        home.as_ref().map(|home| home.join(".pip/pip.conf")),
        Some(PathBuf::from("/etc/xdg/pip/pip.conf")),
        Some(PathBuf::from("/etc/pip.conf")),
    ];
    if variable("PIP_CONFIG_FILE").as_deref() != Some("/dev/null") {
        for path in pip_files.into_iter().flatten() {
            found.pip_file(&path, read)?;
        }
    }
    Ok(found.indexes)
}

#[derive(Debug, Default)]
struct Found {
    indexes: Indexes,
}

impl Found {
    fn variables(&mut self, variable: Variable<'_>) -> Result<(), PythonError> {
        for name in ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"] {
            if let Some(value) = variable(name) {
                self.main(named(&value), name)?;
            }
        }
        for name in ["UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"] {
            for value in variable(name).unwrap_or_default().split_whitespace() {
                self.extra(named(value), name)?;
            }
        }
        for name in ["UV_FIND_LINKS", "PIP_FIND_LINKS"] {
            for value in variable(name).unwrap_or_default().split([' ', ',', '\n']).filter(|v| !v.is_empty())
            {
                self.links(value, name)?;
            }
        }
        Ok(())
    }

    fn main(&mut self, value: &str, place: &str) -> Result<(), PythonError> {
        let url = url(value.trim()).map_err(|why| wrong(place, &why))?;
        self.indexes.main.get_or_insert(url);
        Ok(())
    }

    fn extra(&mut self, value: &str, place: &str) -> Result<(), PythonError> {
        let url = url(value.trim()).map_err(|why| wrong(place, &why))?;
        if !self.indexes.extra.contains(&url) {
            self.indexes.extra.push(url);
        }
        Ok(())
    }

    fn links(&mut self, value: &str, place: &str) -> Result<(), PythonError> {
        // Folders of the machine are no input of a project.
        if value.contains("://") && !value.starts_with("file:") {
            let url = url(value.trim()).map_err(|why| wrong(place, &why))?;
            self.indexes.find_links.push(Location::Url(url));
        }
        Ok(())
    }

    /// `uv.toml`, or `[tool.uv]` of a `pyproject.toml`. One that is malformed is the business of uv.
    fn uv_file(&mut self, path: &Path, project: bool, read: ReadFile<'_>) -> Result<(), PythonError> {
        let Some(text) = read(path) else { return Ok(()) };
        let Ok(parsed) = DeTable::parse(&text) else { return Ok(()) };
        let mut table = Some(parsed.get_ref());
        if project {
            for key in ["tool", "uv"] {
                table = table.and_then(|table| table.get(key)).and_then(|value| value.get_ref().as_table());
            }
        }
        let Some(table) = table else { return Ok(()) };
        let place = path.display().to_string();
        let string = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        let flag = |table: &DeTable<'_>, key: &str| {
            matches!(table.get(key).map(|value| value.get_ref()), Some(DeValue::Boolean(true)))
        };
        let pip = table.get("pip").and_then(|value| value.get_ref().as_table());
        for table in std::iter::once(table).chain(pip) {
            let indexes = table.get("index").and_then(|value| value.get_ref().as_array());
            for index in indexes.into_iter().flatten().filter_map(|index| index.get_ref().as_table()) {
                let Some(value) = index.get("url").and_then(|value| string(value.get_ref())) else {
                    continue;
                };
                // An explicit one serves only those projects that name it.
                match (flag(index, "default"), flag(index, "explicit")) {
                    (_, true) => {}
                    (true, _) => self.main(&value, &place)?,
                    _ => self.extra(&value, &place)?,
                }
            }
            if let Some(value) = table.get("index-url").and_then(|value| string(value.get_ref())) {
                self.main(&value, &place)?;
            }
            let list = |key: &str| table.get(key).and_then(|value| value.get_ref().as_array());
            for value in list("extra-index-url").into_iter().flatten().filter_map(|v| string(v.get_ref())) {
                self.extra(&value, &place)?;
            }
            for value in list("find-links").into_iter().flatten().filter_map(|v| string(v.get_ref())) {
                self.links(&value, &place)?;
            }
        }
        Ok(())
    }

    /// An INI file of pip: `[global]` and `[install]`.
    fn pip_file(&mut self, path: &Path, read: ReadFile<'_>) -> Result<(), PythonError> {
        let Some(text) = read(path) else { return Ok(()) };
        let place = path.display().to_string();
        for (key, value) in ini(&text, &["global", "install"]) {
            match key.as_str() {
                "index-url" => self.main(&value, &place)?,
                "extra-index-url" => {
                    for value in value.split_whitespace() {
                        self.extra(value, &place)?;
                    }
                }
                "find-links" => {
                    for value in value.split_whitespace() {
                        self.links(value, &place)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn wrong(place: &str, why: &str) -> PythonError {
    PythonError::new(Kind::IndexMissing, format!("an index of {place} has no usable URL: {why}"))
}

/// `NAME=URL`, as uv takes it, is `URL`.
fn named(value: &str) -> &str {
    match value.split_once('=') {
        Some((name, url)) if !name.contains([':', '/']) => url,
        _ => value,
    }
}

/// Keys and values of sections; lines that begin with white space go on.
fn ini(text: &str, sections: &[&str]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    let mut open = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with([' ', '\t']) && open {
            if let Some((_, value)) = all.last_mut().filter(|_| inside) {
                value.push('\n');
                value.push_str(trimmed);
            }
            continue;
        }
        open = false;
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = sections.contains(&name.trim());
        } else if let Some((key, value)) = trimmed.split_once(['=', ':']) {
            open = true;
            if inside {
                // pip takes both spellings of its options.
                all.push((key.trim().to_lowercase().replace('_', "-"), value.trim().to_owned()));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Vec<String>, PythonError> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let read = |path: &Path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        };
        let found = indexes(Path::new("/project"), &variable, &read)?;
        let main = found.main.iter().map(|url| format!("main {}", url.host()));
        let extra = found.extra.iter().map(|url| format!("extra {}", url.host()));
        let links = found.find_links.iter().map(|location| format!("links {location}"));
        Ok(main.chain(extra).chain(links).collect())
    }

    #[test]
    fn variables_come_first() {
        let pip = ("PIP_INDEX_URL", "https://pip.example/simple");
        let uv = ("UV_DEFAULT_INDEX", "corp=https://me:secret@uv.example/simple");
        assert_eq!(run(&[pip], &[]).unwrap(), ["main pip.example"]);
        assert_eq!(run(&[pip, uv], &[]).unwrap(), ["main uv.example"]);
        let extra = ("UV_INDEX", "a=https://a.example/ https://b.example/?x=1");
        let again = ("PIP_EXTRA_INDEX_URL", "https://a.example/");
        assert_eq!(run(&[extra, again], &[]).unwrap(), ["extra a.example", "extra b.example"]);
        let links = ("PIP_FIND_LINKS", "/tmp/x https://l.example/x");
        assert_eq!(run(&[links], &[]).unwrap(), ["links https://l.example/x"]);
        let error = run(&[("PIP_INDEX_URL", "ftp://x")], &[]).unwrap_err().to_string();
        assert!(error.starts_with("an index of PIP_INDEX_URL has no usable URL"), "{error}");
    }

    #[test]
    fn files() {
        let home = ("HOME", "/home/me");
        let project = "[tool.uv]\nextra-index-url = [\"https://e.example\"]\n[[tool.uv.index]]\nurl = \"https://p.example\"\n\
                       default = true\n[[tool.uv.index]]\nurl = \"https://t.example\"\nexplicit = true\n[[tool.uv.index]]\nurl = \"https://q.example\"\n";
        let pip = "[list]\nindex-url = https://no.example\n[global]\n# why\nindex_url: https://pip.example/simple\nextra-index-url =\n  https://x.example\n  https://y.example\ntimeout = 3\n";
        let files = [
            ("/project/pyproject.toml", project),
            ("/home/me/.config/pip/pip.conf", pip),
            (
                "/etc/uv/uv.toml",
                "index-url = \"https://etc.example\"\n[pip]\nfind-links = [\"https://f.example/\", \"/x\"]",
            ),
        ];
        assert_eq!(
            run(&[home], &files).unwrap(),
            [
                "main p.example",
                "extra q.example",
                "extra e.example",
                "extra x.example",
                "extra y.example",
                "links https://f.example/"
            ]
        );
        assert_eq!(run(&[home], &files[1..]).unwrap()[0], "main etc.example");
        assert_eq!(run(&[home], &files[1..2]).unwrap()[0], "main pip.example");
        assert_eq!(
            run(&[home, ("PIP_CONFIG_FILE", "/dev/null")], &files[1..2]).unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(
            run(&[("XDG_CONFIG_HOME", "/c"), home], &[("/c/pip/pip.conf", pip)]).unwrap()[0],
            "main pip.example"
        );
        assert_eq!(run(&[home], &[("/project/uv.toml", "not = toml =")]).unwrap(), Vec::<String>::new());
        assert_eq!(
            run(&[("UV_CONFIG_FILE", "/u"), home], &[("/u", "index-url = \"https://u.example\""), files[2]])
                .unwrap(),
            ["main u.example"]
        );
    }
}
