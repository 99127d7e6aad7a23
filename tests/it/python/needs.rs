//! Whether what is installed together has what it needs.

use super::{SAID, hash, project, pylock, spec, wheel};
use crate::support::Project;

/// What is warned of needs, by `check` and by `build`.
#[track_caller]
fn warned(project: &Project) -> Vec<String> {
    let told = |command: &str| -> Vec<String> {
        let stderr = project.dmoci(&[command]).ok().stderr;
        let warnings = stderr.lines().filter_map(|line| line.strip_prefix("warning: dmoci.toml:"));
        warnings.map(str::to_owned).collect()
    };
    let found = told("check");
    assert_eq!(found, told("build"));
    found
}

/// A lock file that overrides on purpose what its projects ask for is as good as another: nothing is an error.
#[test]
fn needs_that_nothing_meets() {
    let a = wheel("a", "1.0")
        .metadata("Requires-Dist: b>=2")
        .metadata("Requires-Dist: c")
        .metadata("Requires-Dist: d ; extra == 'x'")
        .metadata("Requires-Dist: e ; python_version < '3'");
    let b = wheel("b", "1.0").metadata("Requires-Dist: a");
    let own = wheel("own", "3.0").metadata("Requires-Dist: a[x]>=1");
    let locked = pylock(&[("a", "1.0", &[&a]), ("b", "1.0", &[&b])]);
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let (first, line) = (spec(&entry), spec(&entry).lines().count());
    let project = project(&first, &[a, b, own]).file("pylock.toml", locked);
    let b_is_old = format!("{line}: a needs b>=2, and there is b 1.0 in /opt/v");
    let no_c = format!("{line}: a needs c, and there is no c in /opt/v");
    assert_eq!(warned(&project), [&*b_is_old, &*no_c]);

    // What a later layer asks for counts, and what it brings.
    let layer = |rest: &str| format!("{first}[[layer]]\nname = \"own\"\n{rest}\n");
    let wheel = "wheel = { path = \"wheels/own-3.0-py3-none-any.whl\", venv = \"/opt/v\" }";
    project.write("dmoci.toml", layer(wheel));
    let no_d = format!("{line}: a needs d, and there is no d in /opt/v");
    assert_eq!(warned(&project), [&*b_is_old, &*no_c, &*no_d]);
    for name in ["b-2.1.dist-info", "c-0.0.dist-info", "D-1.0-py3.12.egg-info"] {
        project.write(&format!("site/{name}/METADATA"), "");
    }
    let copy = "copy = [{ from = \"site/\", to = \"/opt/v/lib/python3.12/site-packages/\" }]";
    project.write("dmoci.toml", layer(&format!("{wheel}\n{copy}")));
    assert_eq!(warned(&project), [""; 0]);
    // What was taken away again needs nothing.
    let remove = "remove = [\"/opt/v/lib/python3.12/site-packages/a-1.0.dist-info\"]";
    project.write("dmoci.toml", layer(remove));
    assert_eq!(warned(&project), [format!("{line}: b needs a, and there is no a in /opt/v")]);
}

/// Where Python looks into other folders too, nobody knows what is missing.
#[test]
fn environments_that_are_open() {
    let a = wheel("a", "1.0").metadata("Requires-Dist: b>=2").metadata("Requires-Dist: c");
    let b = wheel("b", "1.0");
    let locked = pylock(&[("a", "1.0", &[&a]), ("b", "1.0", &[&b])]);
    let good = spec(&format!("lock = \"pylock.toml\", {SAID}"));
    let project = project(&good, &[a, b]).file("pylock.toml", locked);
    assert_eq!(warned(&project).len(), 2);
    project.write("dmoci.toml", good.replace("[image]\n", "[image]\nenv = { PYTHONPATH = \"/opt/more\" }\n"));
    assert_eq!(warned(&project), [""; 0]);
    let only_old = |rest: &str| {
        project.write("dmoci.toml", good.replace("[[layer]]\n", rest));
        let found = warned(&project);
        assert!(found.len() == 1 && found[0].contains("a needs b>=2, and there is b 1.0"), "{found:?}");
    };
    let venv = "[[layer]]\nname = \"venv\"\nfile = [{ path = \"/opt/v/pyvenv.cfg\", content = \"home = /usr/bin\\n\
                include-system-site-packages = true\\nversion = 3.12.4\\n\" }]\n[[layer]]\n";
    only_old(venv);
    let pth = "[[layer]]\nname = \"more\"\n\
               file = [{ path = \"/opt/v/lib/python3.12/site-packages/more.pth\", content = \"/opt/more\\n\" }]\n[[layer]]\n";
    only_old(pth);
}

#[test]
fn many_needs() {
    let needy =
        (0..30).fold(wheel("a", "1.0"), |wheel, n| wheel.metadata(&format!("Requires-Dist: b{n:02}")));
    let text = pylock(&[("a", "1.0", &[&needy])]);
    let project =
        project(&spec(&format!("lock = \"pylock.toml\", {SAID}")), &[needy]).file("pylock.toml", text);
    let found = warned(&project);
    assert_eq!(found.len(), 21);
    assert!(found[20].ends_with(": 10 more needs of what is in /opt/v are not met"), "{found:?}");
}

/// A requirements file that names an extra asks for what that needs.
#[test]
fn an_extra_in_a_requirements_file() {
    let a = wheel("a", "1.0").metadata("Provides-Extra: x").metadata("Requires-Dist: d ; extra == 'x'");
    let (name, digest) = (a.file_name(), hash(&a));
    let project = project(&spec(&format!("lock = \"requirements.txt\", {SAID}")), &[a]);
    for (asked, warned) in [("a", false), ("a[x]", true)] {
        let text = format!("{asked} @ wheels/{name} --hash=sha256:{digest}\n");
        project.write("requirements.txt", text);
        let run = project.dmoci(&["build"]).ok();
        let said = run.stderr.contains("a needs d, and there is no d in /opt/v");
        assert_eq!(said, warned, "{asked}: {}", run.stderr);
    }
}
