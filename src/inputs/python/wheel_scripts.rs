//! The programs that `entry_points.txt` asks for (entry points specification), read as `importlib.metadata` reads them.

use std::collections::BTreeMap;

use crate::diagnostic::shown::Short;

/// A program that calls a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The name of its file.
    pub(super) name: String,
    /// What is imported, dotted.
    pub(super) module: String,
    /// What of it is called, dotted.
    pub(super) object: String,
}

/// The groups whose entries become programs. On Linux both kinds are the same.
const GROUPS: [&str; 2] = ["console_scripts", "gui_scripts"];

/// The programs, by name; what is wrong otherwise.
pub(super) fn parse(text: &str) -> Result<Vec<Script>, String> {
    let mut scripts: BTreeMap<String, Script> = BTreeMap::new();
    let mut wanted = false;
    if let Some(line) =
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).find(|l| l.contains(is_break))
    {
        return Err(format!("has the line {:?}, which is several lines for Python", Short(line)));
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(group) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            wanted = GROUPS.contains(&group.trim());
            continue;
        }
        if !wanted {
            continue;
        }
        let (name, reference) = line
            .split_once('=')
            .ok_or_else(|| format!("has the line {:?}, expected NAME = MODULE:OBJECT", Short(line)))?;
        let script = script(name.trim(), reference)?;
        if let Some(other) = scripts.insert(script.name.clone(), script.clone())
            && other != script
        {
            return Err(format!("asks for two programs with the name {:?}", Short(&script.name)));
        }
    }
    Ok(scripts.into_values().collect())
}

/// What `str.splitlines` of Python takes for the end of a line and other readers do not, a line feed apart.
fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `module:object`, with spaces anywhere between and extras in brackets behind.
fn script(name: &str, reference: &str) -> Result<Script, String> {
    if name.is_empty() || name.len() > 255 || matches!(name, "." | "..") || name.starts_with(".wh.") {
        return Err(format!("asks for a program with the name {:?}", Short(name)));
    }
    if name.contains(['/', '\\', '=']) || name.chars().any(char::is_control) {
        let name = Short(name);
        return Err(format!("asks for a program with the name {name:?}, which is no name of a file"));
    }
    let wrong = || {
        let reference = Short(reference.trim());
        format!("has {reference:?} for the program {name:?}, expected MODULE:OBJECT")
    };
    let target = match reference.split_once('[') {
        None => reference,
        Some((target, extras)) if extras.trim_end().ends_with(']') => target,
        Some(_) => return Err(wrong()),
    };
    let (module, object) = target.split_once(':').ok_or_else(wrong)?;
    let (module, object) = (module.trim(), object.trim());
    match is_dotted(module) && is_dotted(object) {
        true => Ok(Script { name: name.into(), module: module.into(), object: object.into() }),
        false => Err(wrong()),
    }
}

/// Names of Python with dots between.
fn is_dotted(text: &str) -> bool {
    text.split('.').all(|name| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && chars.all(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |script: Script| format!("{}={}:{}", script.name, script.module, script.object);
        parse(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn programs() {
        let text = "# made by hand\n[console_scripts]\nb = pkg.mod:main\n  a=pkg : Class.run [x, y]\n\n[other]\nc = d\ne\n\
                    [ gui_scripts ]\nwin = pkg._win:Größe\nmy tool.2 = m:f[z]\n";
        let expected = ["a=pkg:Class.run", "b=pkg.mod:main", "my tool.2=m:f", "win=pkg._win:Größe"];
        assert_eq!(shown(text), expected);
        assert_eq!(shown(""), Vec::<String>::new());
        assert_eq!(shown("[console_scripts]\na = b:c\n[gui_scripts]\na = b:c\n"), ["a=b:c"]);
    }

    #[test]
    fn refused() {
        for line in [
            "a = b",
            "a = b:",
            "a = :c",
            "a = b:c d",
            "a = b:c; import os",
            "a = b-c:d",
            "a = 1b:c",
            "a = b..c:d",
            "a = b:c[x",
            "a/b = c:d",
            "../a = b:c",
            ".. = b:c",
            "= b:c",
            "a",
            "a\u{7} = b:c",
            ".wh.a = b:c",
        ] {
            assert!(parse(&format!("[console_scripts]\n{line}\n")).is_err(), "{line}");
        }
        for text in ["# c\rx = a:b", "x = a:b\r", "# c\u{2028}x = a:b", "\u{c}", "a\r\r\n"] {
            let error = parse(&format!("[console_scripts]\r\n{text}\r\n")).unwrap_err();
            assert!(error.contains("several lines for Python"), "{text:?}: {error}");
        }
        let long = parse(&format!("[console_scripts]\n{}", "x".repeat(1 << 20))).unwrap_err();
        assert!(long.len() < 1000, "{} bytes", long.len());
        assert!(parse("[console_scripts]\na = b:c\na = b:d\n").unwrap_err().contains("two programs"));
    }
}
