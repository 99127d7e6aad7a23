//! How a program finds its interpreter, and the programs that only call a function.

use super::wheel_scripts::Script;

/// The beginning of a script whose interpreter is the installer's business (binary distribution format, "Recommended
/// installer features").
pub(super) const PLACEHOLDER: &[u8] = b"#!python";

/// The longest line that names an interpreter which every Linux reads whole: 127 bytes before version 5.1.
const LONGEST: usize = 127;

/// The first line or lines of a program, and whether they need a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) text: String,
    /// A path that is too long or holds spaces goes through `/bin/sh`.
    pub(super) shell: bool,
}

/// The head of a program that this interpreter runs, with one more argument where the script asks for it.
///
/// For Python the lines of the shell form are a string that nobody uses.
pub(super) fn head(interpreter: &str, argument: &str) -> Result<Head, String> {
    let line = match argument {
        "" => format!("#!{interpreter}\n"),
        argument => format!("#!{interpreter} {argument}\n"),
    };
    if line.len() <= LONGEST && !interpreter.contains(' ') {
        return Ok(Head { text: line, shell: false });
    }
    // What would end the quotes of the shell or of Python, or mean something in either.
    let bad = |c: char| matches!(c, '\'' | '\\') || c.is_control();
    if let Some(text) = [interpreter, argument].into_iter().find(|text| text.contains(bad)) {
        return Err(format!("{text:?} cannot stand in the first line of a program"));
    }
    let argument = if argument.is_empty() { String::new() } else { format!(" '{argument}'") };
    let text = format!("#!/bin/sh\n'''exec' '{interpreter}'{argument} \"$0\" \"$@\"\n' '''\n");
    Ok(Head { text, shell: true })
}

/// A program that calls a function.
pub(super) fn launcher(head: &Head, script: &Script) -> Vec<u8> {
    let Script { module, object, .. } = script;
    let imported = object.split('.').next().unwrap_or(object);
    let head = &head.text;
    format!(
        "{head}import sys\nfrom {module} import {imported}\n\nif __name__ == \"__main__\":\n    sys.exit({object}())\n"
    )
    .into_bytes()
}

/// A script with its placeholder replaced; `content` begins with [`PLACEHOLDER`].
pub(super) fn rewritten(interpreter: &str, content: &[u8]) -> Result<(Head, Vec<u8>), String> {
    let end = content.iter().position(|&b| b == b'\n').unwrap_or(content.len());
    let (line, rest) = (&content[..end], content.get(end + 1..).unwrap_or_default());
    let line = std::str::from_utf8(line).map_err(|_| "its first line is not UTF-8".to_owned())?;
    let argument = line.split_once([' ', '\t']).map_or("", |(_, argument)| argument.trim());
    let head = head(interpreter, argument)?;
    Ok((head.clone(), [head.text.as_bytes(), rest].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: &str = "/opt/app/.venv/bin/python";

    fn script(module: &str, object: &str) -> Script {
        Script { name: "x".into(), module: module.into(), object: object.into() }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn calls() {
        let head = head(PYTHON, "").unwrap();
        assert_eq!(
            text(launcher(&head, &script("a.b", "C.run"))),
            "#!/opt/app/.venv/bin/python\nimport sys\nfrom a.b import C\n\nif __name__ == \"__main__\":\n    sys.exit(C.run())\n"
        );
    }

    #[test]
    fn long_and_spaced_paths_go_through_the_shell() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert!(!head(&path(124), "").unwrap().shell && head(&path(125), "").unwrap().shell);
        assert!(!head(&path(121), "-I").unwrap().shell && head(&path(122), "-I").unwrap().shell);
        let spaced = head("/opt/my app/bin/python", "-I").unwrap();
        assert_eq!(spaced.text, "#!/bin/sh\n'''exec' '/opt/my app/bin/python' '-I' \"$0\" \"$@\"\n' '''\n");
        assert!(spaced.shell);
        for bad in ["/opt/it's mine/python", "/opt/a b\\/python", "/opt/a \n/python"] {
            assert!(head(bad, "").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn placeholders() {
        for (before, after) in [
            ("#!python\nx\n", "#!/opt/app/.venv/bin/python\nx\n"),
            ("#!pythonw\r\nx\r\n", "#!/opt/app/.venv/bin/python\nx\r\n"),
            ("#!python3 -E \nx", "#!/opt/app/.venv/bin/python -E\nx"),
            ("#!python", "#!/opt/app/.venv/bin/python\n"),
        ] {
            assert_eq!(text(rewritten(PYTHON, before.as_bytes()).unwrap().1), after);
        }
    }
}
