//! The project itself: what `pyproject.toml` says of it, what is locked, and what is installed.

use super::{SAID, hash, installed, project, refused, spec, wheel};
use crate::support::wheel::Wheel;

/// A `uv.lock` of a project that needs `a`.
fn lock(version: &str, a: &Wheel) -> String {
    format!(
        "version = 1\nrevision = 3\nrequires-python = \">=3.11\"\n[[package]]\nname = \"app\"\nversion = \"{version}\"\n\
         source = {{ editable = \".\" }}\ndependencies = [{{ name = \"a\" }}]\n\
         [package.metadata]\nrequires-dist = [{{ name = \"a\", specifier = \">=1\" }}]\n\
         [[package]]\nname = \"a\"\nversion = \"1.0\"\nsource = {{ registry = \"wheels\" }}\n\
         wheels = [{{ path = \"{}\", hash = \"sha256:{}\" }}]\n",
        a.file_name(),
        hash(a)
    )
}

fn pyproject(version: &str, rest: &str) -> String {
    format!("[project]\nname = \"App\"\nversion = \"{version}\"\n{rest}\n")
}

const NEEDS: &str = "dependencies = [\"a>=1\"]";

#[test]
fn a_lock_file_that_is_not_up_to_date() {
    let (a, app) = (wheel("a", "1.0"), wheel("app", "0.3.0").metadata("Requires-Dist: a (>=1)"));
    let locked = lock("0.3.0", &a);
    let entry = format!("lock = \"uv.lock\", wheels = \"wheels\", {SAID}");
    let project = project(&spec(&entry), &[a, app])
        .file("uv.lock", &locked)
        .file("pyproject.toml", pyproject("0.4.0", NEEDS));
    refused(
        &project,
        2,
        "E-PYTHON-STALE",
        &[
            "uv.lock is not up to date with pyproject.toml: the version of app is 0.4.0, and was 0.3.0",
            "pyproject.toml:3",
            "uv.lock:5",
            "run `uv lock`",
        ],
    );
    project.write("pyproject.toml", pyproject("0.3.0", "dependencies = [\"a>=1\", \"new\"]"));
    refused(&project, 2, "E-PYTHON-STALE", &["not up to date with pyproject.toml: new is new"]);
    project.dmoci(&["check"]).exits(2);
    project.dmoci(&["lock"]).exits(2);
    project.write("pyproject.toml", pyproject("0.3.0", NEEDS));
    project.dmoci(&["build"]).ok();
    assert_eq!(installed(&project), ["a 1.0", "app 0.3.0", "requested a-1.0", "requested app-0.3.0"]);
}

/// Another version of the project than the one that is meant is never taken, nor left out with a mere warning.
#[test]
fn a_wheel_of_another_version() {
    let built = |version| wheel("app", version).metadata("Requires-Dist: a>=1");
    let (a, old, new) = (wheel("a", "1.0"), built("0.3.0"), built("0.4.0"));
    let entry = format!("lock = \"uv.lock\", wheels = \"wheels\", {SAID}");
    let locked = lock("0.4.0", &a);
    let project = project(&spec(&entry), &[a, old.clone()])
        .file("uv.lock", &locked)
        .file("pyproject.toml", pyproject("0.4.0", NEEDS));
    refused(
        &project,
        2,
        "E-PYTHON-SOURCE",
        &[
            "app 0.4.0 is the directory . and no wheel",
            "wheels/app-0.3.0-py3-none-any.whl is app 0.3.0",
            "uv build --wheel --out-dir wheels .",
        ],
    );
    let own =
        format!("{}wheel = {{ path = \"dist/PATH\", {SAID} }}\n", spec("").split("python").next().unwrap());
    for wheel in [&old, &new] {
        project.write(&format!("own/{}", wheel.file_name()), wheel.bytes());
    }
    let own = own.replace("dist/", "own/");
    project.write("dmoci.toml", own.replace("PATH", &old.file_name()));
    refused(
        &project,
        2,
        "E-PYTHON-STALE",
        &[
            "own/app-0.3.0-py3-none-any.whl is app 0.3.0, and pyproject.toml says 0.4.0",
            "pyproject.toml:3",
            "dmoci.toml:",
        ],
    );
    project.write("dmoci.toml", own.replace("PATH", &new.file_name()));
    project.dmoci(&["build"]).ok();
    // Nothing is known of what has another name, or makes its version up.
    project.write("dmoci.toml", own.replace("PATH", &old.file_name()));
    for text in [
        pyproject("0.4.0", "").replace("App", "other"),
        "[project]\nname = \"app\"\ndynamic = [\"version\"]".into(),
        "[".into(),
    ] {
        project.write("pyproject.toml", text);
        project.dmoci(&["check"]).ok();
    }
}

/// A wheel of the project that was built before its dependencies changed, from a `wheel` entry and from `wheels`.
#[test]
fn a_wheel_that_needs_something_else() {
    let (a, old) = (wheel("a", "1.0"), wheel("app", "0.3.0"));
    let locked = lock("0.3.0", &a);
    let path = format!("wheels/{}", old.file_name());
    let project = project(&spec(&format!("lock = \"uv.lock\", wheels = \"wheels\", {SAID}")), &[a, old])
        .file("uv.lock", &locked)
        .file("pyproject.toml", pyproject("0.3.0", NEEDS));
    let told = format!("{path} was built before pyproject.toml was changed: a is new");
    let expected = [told.as_str(), "pyproject.toml:4", "build the wheel again"];
    refused(&project, 2, "E-PYTHON-STALE", &expected);
    let head = spec("");
    let head = head.split("python").next().unwrap();
    project.write("dmoci.toml", format!("{head}wheel = {{ path = \"{path}\", {SAID} }}\n"));
    refused(&project, 2, "E-PYTHON-STALE", &expected);
    project.write("pyproject.toml", pyproject("0.3.0", "dynamic = [\"dependencies\"]"));
    project.dmoci(&["build"]).ok();
}

/// Dependencies in one layer and the project in a layer of its own is how it should be.
#[test]
fn the_project_in_another_layer() {
    let (a, app) = (wheel("a", "1.0"), wheel("app", "0.4.0"));
    let first = spec(&format!("lock = \"uv.lock\", {SAID}"));
    let locked = lock("0.4.0", &a);
    let project = project(&first, &[a, app]).file("uv.lock", &locked);
    let note = "warning: dmoci.toml:6: app itself is left out";
    let run = project.dmoci(&["check"]).ok();
    assert!(run.stderr.contains(note), "{}", run.stderr);
    let own = |venv: &str| {
        format!(
            "{first}[[layer]]\nname = \"app\"\nwheel = {{ path = \"wheels/app-0.4.0-py3-none-any.whl\", {venv} }}\n"
        )
    };
    project.write("dmoci.toml", own("venv = \"/opt/v\""));
    let run = project.dmoci(&["build"]).ok();
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    // In another environment it is missing in this one.
    project.write("dmoci.toml", own(&SAID.replace("/opt/v", "/opt/w")));
    let run = project.dmoci(&["build"]).ok();
    assert!(run.stderr.contains(note), "{}", run.stderr);
}
