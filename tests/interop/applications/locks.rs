//! Who makes the lock file of an application.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::debian::{self, Suite};
use crate::support::{Place, command, run};

/// What is released later does not count.
const CUT: &str = "2026-10-01T00:00:00Z";

/// What makes a lock file, and of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// `uv lock`: `uv.lock`.
    Uv,
    /// `uv export`: `pylock.toml` for every platform.
    UvExport,
    /// `uv pip compile`: `pylock.toml` for one Python.
    UvPylock,
    /// `uv pip compile`: hashed requirements for every platform.
    UvRequirements,
    /// `pip lock`: `pylock.toml` for the Python that runs it.
    Pip,
    /// `pip-compile`: hashed requirements for the Python that runs it.
    PipTools,
}

impl Lock {
    /// The name of the lock file.
    pub(super) fn file(self) -> &'static str {
        match self {
            Lock::Uv => "uv.lock",
            Lock::UvExport | Lock::UvPylock | Lock::Pip => "pylock.toml",
            Lock::UvRequirements | Lock::PipTools => "requirements.txt",
        }
    }

    /// The lock file in this folder of what is required, for this version of Python or a later one.
    pub(super) fn write(self, folder: &Path, requirements: &[&str], version: &str, place: &Place) {
        fs::create_dir_all(folder).unwrap();
        let output = folder.join(self.file());
        // uv and pip lock with a Python that can be that one.
        let suite = if version == "3.11" { Suite::Bookworm } else { Suite::Trixie };
        let project = format!(
            "[project]\nname = \"site\"\nversion = \"1.0\"\nrequires-python = \">={version}\"\ndependencies = {requirements:?}\n"
        );
        let source = folder.join("pyproject.toml");
        fs::write(&source, project).unwrap();
        let compile = |arguments: &[&str]| {
            let mut uv = uv(&["pip", "compile", "--exclude-newer", CUT]);
            run(uv.args(arguments).args(["--emit-index-url", "--output-file"]).arg(&output).arg(&source));
        };
        match self {
            Lock::Uv | Lock::UvExport => {
                let python = debian::python(suite, &place.path("python"));
                let mut lock = uv(&["lock", "--exclude-newer", CUT, "--python"]);
                run(lock.arg(&python).arg("--project").arg(folder));
                if self == Lock::UvExport {
                    export(folder, "pylock.toml", &output);
                }
                fs::remove_dir_all(place.path("python")).unwrap();
            }
            Lock::UvPylock => compile(&["--format=pylock.toml", "--python-version", version]),
            Lock::UvRequirements => {
                compile(&["--generate-hashes", "--universal", "--python-version", version]);
            }
            Lock::Pip => {
                let options = ["lock", "--only-binary=:all:", "--uploaded-prior-to", CUT, "--output"];
                pip(suite, place, "pip", |pip| pip.args(options).arg(&output).args(requirements));
            }
            Lock::PipTools => {
                let input = folder.join("requirements.in");
                fs::write(&input, requirements.join("\n")).unwrap();
                let options = format!("--only-binary=:all: --uploaded-prior-to {CUT}");
                pip(suite, place, "piptools", |tools| {
                    tools.args(["compile", "--allow-unsafe", "--strip-extras", "--generate-hashes"]);
                    tools.args(["--no-emit-find-links", "--pip-args", &options, "--output-file"]);
                    tools.arg(&output).arg(&input)
                });
            }
        }
    }

    /// What `uv pip install` takes for it.
    pub(super) fn for_uv(self, folder: &Path, place: &Place) -> PathBuf {
        match self {
            Lock::Uv => {
                let list = place.path("list.txt");
                export(folder, "requirements.txt", &list);
                list
            }
            Lock::UvRequirements | Lock::PipTools => folder.join(self.file()),
            Lock::UvExport | Lock::UvPylock | Lock::Pip => {
                // uv holds this against the Python that it runs with, not against the one that it installs for.
                let lock = fs::read_to_string(folder.join(self.file())).unwrap();
                let kept = lock.lines().filter(|line| !line.starts_with("requires-python"));
                let list = place.path("pylock.list.toml");
                fs::write(&list, kept.collect::<Vec<_>>().join("\n")).unwrap();
                list
            }
        }
    }
}

/// uv, which says nothing of the Pythons that it finds on the machine.
fn uv(arguments: &[&str]) -> Command {
    let mut uv = command("uv");
    uv.arg("--quiet").args(arguments);
    uv
}

fn export(folder: &Path, format: &str, output: &Path) {
    let mut export = uv(&["export", "--frozen", "--no-emit-project", "--format", format, "--project"]);
    run(export.arg(folder).arg("--output-file").arg(output));
}

/// Runs a module of pip or pip-tools by the Python of a suite.
fn pip(suite: Suite, place: &Place, module: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) {
    let (python, tools) = (debian::python(suite, &place.path("python")), place.path("tools"));
    let mut install = uv(&["pip", "install", "--exclude-newer", CUT, "pip==26.2.1", "pip-tools==7.6.1"]);
    run(install.arg("--target").arg(&tools));
    let mut pip = command(python);
    // Wheels that lie about on the machine have no address that others could ask.
    pip.env_remove("PIP_FIND_LINKS").env("PYTHONPATH", tools).args(["-m", module]);
    run(arguments(&mut pip));
    fs::remove_dir_all(place.path("python")).unwrap();
}

/// The index that uv asks: a file that `pip-compile` makes does not say which it was.
pub(super) fn index() -> &'static str {
    static INDEX: OnceLock<String> = OnceLock::new();
    INDEX.get_or_init(|| {
        let place = Place::new();
        let (input, output) = (place.path("in.txt"), place.path("out.txt"));
        fs::write(&input, "").unwrap();
        run(uv(&["pip", "compile", "--emit-index-url", "--output-file"]).arg(&output).arg(&input));
        let text = fs::read_to_string(output).unwrap();
        text.lines().find_map(|line| line.strip_prefix("--index-url ")).unwrap().trim().to_owned()
    })
}
