//! Where the files of a distribution go: into a virtual environment (PEP 405), or to the interpreter's own.

use dmoci_layers::{Entry, EntryKind, SafePath};

use super::target::PythonTarget;
use crate::inputs::{Content, Item};

/// The folders of an installation (the `sysconfig` scheme), and the interpreter that its programs name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// Absolute path of the interpreter.
    pub(super) interpreter: String,
    pub(super) purelib: SafePath,
    pub(super) platlib: SafePath,
    pub(super) scripts: SafePath,
    pub(super) data: SafePath,
    /// The folder that holds one folder for each distribution's headers.
    pub(super) headers: SafePath,
    /// Paths that are the environment's own with all below them, and no distribution's.
    reserved: Vec<SafePath>,
    /// The folder of the standard library, where that is no other's than the environment's.
    library: Option<SafePath>,
}

impl Scheme {
    /// The folders of a virtual environment.
    pub fn venv(venv: &SafePath, python: &PythonTarget) -> Result<Scheme, String> {
        let folder = folder(python);
        let site = join(venv, &format!("lib/{folder}/site-packages"))?;
        let mut reserved = vec![join(venv, "pyvenv.cfg")?, join(venv, "lib64")?];
        for name in names(python) {
            reserved.push(join(venv, &format!("bin/{name}"))?);
        }
        Ok(Scheme {
            interpreter: absolute(&join(venv, "bin/python")?)?,
            purelib: site.clone(),
            platlib: site,
            scripts: join(venv, "bin")?,
            data: venv.clone(),
            headers: join(venv, &format!("include/site/{folder}"))?,
            reserved,
            library: None,
        })
    }

    /// The folders of an interpreter that is installed below a prefix of its own, as in `/usr/local`.
    pub fn prefix(prefix: &SafePath, python: &PythonTarget) -> Result<Scheme, String> {
        let folder = folder(python);
        let site = join(prefix, &format!("lib/{folder}/site-packages"))?;
        let mut reserved = vec![python.interpreter.clone()];
        for name in names(python) {
            reserved.push(join(prefix, &format!("bin/{name}"))?);
        }
        Ok(Scheme {
            interpreter: absolute(&python.interpreter)?,
            purelib: site.clone(),
            platlib: site,
            scripts: join(prefix, "bin")?,
            data: prefix.clone(),
            headers: join(prefix, &format!("include/{folder}"))?,
            reserved,
            library: Some(join(prefix, &format!("lib/{folder}"))?),
        })
    }

    /// Whether a path is the interpreter's, or the environment's own: its programs, its library `libpython`, the standard
    /// library, and whatever lies behind its links.
    pub(super) fn is_reserved(&self, path: &SafePath) -> bool {
        let in_library = |library: &SafePath| {
            let shared = library.parent() == path.parent() && path.name().starts_with(b"libpython");
            shared || path.starts_with(library) && !path.starts_with(&self.purelib)
        };
        self.reserved.iter().any(|reserved| path.starts_with(reserved))
            || self.library.as_ref().is_some_and(in_library)
    }

    /// The folder that holds the programs.
    pub fn scripts(&self) -> &SafePath {
        &self.scripts
    }

    /// The folder that holds the distributions.
    pub fn site(&self) -> &SafePath {
        &self.purelib
    }
}

fn join(folder: &SafePath, rest: &str) -> Result<SafePath, String> {
    folder.join(rest.as_bytes()).map_err(|error| error.to_string())
}

/// The path as programs and files of text name it.
fn absolute(path: &SafePath) -> Result<String, String> {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) if !text.contains(char::is_control) => Ok(format!("/{text}")),
        _ => Err(format!("{path} cannot stand in the first line of a program")),
    }
}

/// The names of the interpreter in a folder of programs.
fn names(python: &PythonTarget) -> [String; 3] {
    ["python".into(), "python3".into(), folder(python)]
}

/// The folder of the interpreter's library: `python3.13`, or `python3.13t` of the build without global interpreter lock.
fn folder(python: &PythonTarget) -> String {
    let (major, minor) = python.python();
    format!("python{major}.{minor}{}", if python.threaded { "t" } else { "" })
}

/// What makes a folder a virtual environment: `pyvenv.cfg`, links to the interpreter, and `lib64` where Python makes one.
pub fn skeleton(venv: &SafePath, python: &PythonTarget, owner: (u64, u64)) -> Result<Vec<Item>, String> {
    let home = absolute(&python.interpreter.parent().unwrap_or_else(SafePath::root))?;
    let text =
        format!("home = {home}\ninclude-system-site-packages = false\nversion = {}\n", python.full_version());
    let mut items = Vec::new();
    let mut put = |path: &str, kind, content| {
        let path = join(venv, path)?;
        let (uid, gid) = owner;
        let mode = match kind {
            EntryKind::File { .. } => 0o644,
            EntryKind::Symlink { .. } => 0o777,
            _ => 0o755,
        };
        items.push(Item { entry: Entry { path, kind, mode, uid, gid, xattrs: Vec::new() }, content });
        Ok::<(), String>(())
    };
    let link = |target: &str| EntryKind::Symlink { target: target.as_bytes().to_vec() };
    let python_itself = absolute(&python.interpreter)?;
    for (name, target) in names(python).iter().zip([python_itself.as_str(), "python", "python"]) {
        put(&format!("bin/{name}"), link(target), Content::None)?;
    }
    put(&format!("lib/{}/site-packages", folder(python)), EntryKind::Directory, Content::None)?;
    if has_lib64(python.machine()) {
        put("lib64", link("lib"), Content::None)?;
    }
    let size = text.len() as u64;
    put("pyvenv.cfg", EntryKind::File { size }, Content::Bytes(text.into_bytes().into()))?;
    Ok(items)
}

/// Whether Python makes `lib64` a link to `lib` there: where it has 64 bits.
fn has_lib64(machine: &str) -> bool {
    !machine.starts_with("arm")
        && !matches!(machine, "i386" | "i486" | "i586" | "i686" | "mips" | "mipsel" | "ppc")
}
