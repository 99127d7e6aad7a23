//! One `python` entry as several layers: which wheels stand alone, and that the image is the same.

use std::collections::BTreeMap;

use super::{SAID, project, pylock, spec, wheel};
use crate::support::layers::{Listed, digests, layer};
use crate::support::wheel::Wheel;
use crate::support::{Project, Run};

/// What a wheel has at least to be large.
const LARGE: usize = 4 << 20;

/// A wheel with `NAME.py` of so many bytes.
fn large(name: &str, version: &str, bytes: usize) -> Wheel {
    Wheel::new(name, version)
        .file(&format!("{name}.py"), format!("#{version}{}", " ".repeat(bytes)))
        .info("entry_points.txt", format!("[console_scripts]\n{name} = {name}:main\n"))
}

/// The names of the image's layers, from the bottom up.
fn names(project: &Project) -> Vec<String> {
    let digests = digests(&project.path("dist"));
    let layers = digests["platforms"][0]["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["name"].as_str().unwrap().to_owned()).collect()
}

/// The digests of the image's layers, by their names.
fn blobs(project: &Project) -> BTreeMap<String, String> {
    let digests = digests(&project.path("dist"));
    let layers = digests["platforms"][0]["layers"].as_array().unwrap();
    layers.iter().map(|layer| (layer["name"].to_string(), layer["digest"].to_string())).collect()
}

/// The paths in a layer that are no directories.
fn files(project: &Project, name: &str) -> Vec<String> {
    let listed = layer(&project.path("dist"), name);
    listed.into_iter().filter(|entry| entry.kind != 'd').map(|entry| entry.path).collect()
}

/// What a container sees (OCI image-spec, `layer.md`).
fn merged(project: &Project) -> BTreeMap<String, Listed> {
    let mut tree: BTreeMap<String, Listed> = BTreeMap::new();
    let below = |path: &str, top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    for name in names(project) {
        let entries = layer(&project.path("dist"), &name);
        let is_whiteout = |entry: &&Listed| entry.path.rsplit('/').next().unwrap().starts_with(".wh.");
        for gone in entries.iter().filter(is_whiteout).map(|entry| entry.path.replacen(".wh.", "", 1)) {
            tree.retain(|path, _| *path != gone && !below(path, &gone));
        }
        for mut entry in entries.into_iter().filter(|entry| !is_whiteout(&entry)) {
            entry.path = entry.path.trim_end_matches('/').to_owned();
            if entry.kind != 'd' {
                tree.retain(|path, _| !below(path, &entry.path));
            }
            tree.insert(entry.path.clone(), entry);
        }
    }
    tree
}

fn lock(wheels: &[Wheel]) -> String {
    let names: Vec<(String, String)> =
        wheels.iter().map(|wheel| (wheel.name.clone(), wheel.version.clone())).collect();
    let lists: Vec<[&Wheel; 1]> = wheels.iter().map(|wheel| [wheel]).collect();
    let all = names.iter().zip(&lists).map(|((name, version), list)| (&**name, &**version, &list[..]));
    pylock(&all.collect::<Vec<_>>())
}

fn of(wheels: &[Wheel], spec: &str) -> Project {
    project(spec, wheels).file("pylock.toml", lock(wheels))
}

/// The names of layers that were taken as they were.
fn unchanged(run: &Run) -> Vec<&str> {
    let line = run.stderr.lines().find_map(|line| line.trim().strip_prefix("Unchanged linux/amd64: "));
    line.map(|names| names.split(", ").collect()).unwrap_or_default()
}

#[test]
fn large_wheels_stand_alone() {
    let wheels = [
        large("alpha", "1.0", LARGE),
        large("beta", "2.0", LARGE + 1000),
        large("gamma", "3.0", LARGE - 1000),
        wheel("tiny", "1.0"),
    ];
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let project = of(&wheels, &spec(&entry));
    project.settle();
    project.dmoci(&["build"]).ok();
    // The heaviest at the bottom; what is small together, with what makes the environment.
    assert_eq!(names(&project), ["deps: beta", "deps: alpha", "deps"]);
    let site = "opt/v/lib/python3.12/site-packages";
    let info = |name: &str, files: &[&str]| -> Vec<String> {
        files.iter().map(|file| format!("{site}/{name}.dist-info/{file}")).collect()
    };
    let own = [
        vec!["opt/v/bin/alpha".to_owned()],
        info("alpha-1.0", &["INSTALLER", "METADATA", "RECORD", "REQUESTED", "WHEEL", "entry_points.txt"]),
        vec![format!("{site}/alpha.py")],
    ];
    assert_eq!(files(&project, "deps: alpha"), own.concat(), "the scripts of a wheel are with it");
    let rest = files(&project, "deps");
    for path in ["opt/v/pyvenv.cfg", "opt/v/bin/gamma", "opt/v/bin/python"] {
        assert!(rest.contains(&path.to_owned()), "{path} is not in {rest:?}");
    }
    let config = crate::support::layers::config(&project.path("dist"));
    let history: Vec<&str> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["created_by"].as_str().unwrap())
        .collect();
    assert_eq!(history, ["dmoci layer deps: beta", "dmoci layer deps: alpha", "dmoci layer deps"]);
    let log = std::fs::read_to_string(project.path("dist/build.log")).unwrap();
    assert!(log.contains("layer \"deps: beta\": "), "{log}");
    let run = project.dmoci(&["build", "--twice"]).ok();
    assert!(run.stdout.contains("linux/amd64:deps: alpha"), "{}", run.stdout);
    let first = blobs(&project);

    // A small one that changes leaves the others as they are, and so does a large one that goes.
    let mut changed = wheels.clone();
    changed[3] = wheel("tiny", "1.1");
    let update = |wheels: &[Wheel]| {
        for wheel in wheels {
            let path = format!("wheels/{}", wheel.file_name());
            if !project.path(&path).exists() {
                project.write(&path, wheel.bytes());
            }
        }
        project.write("pylock.toml", lock(wheels));
        project.settle();
        project.dmoci(&["build", "-v"]).ok()
    };
    assert_eq!(unchanged(&update(&changed)), ["deps: beta", "deps: alpha"]);
    let second = blobs(&project);
    let same = |name: &str, then: &BTreeMap<String, String>| then.get(name) == first.get(name);
    assert!(
        same("\"deps: beta\"", &second) && same("\"deps: alpha\"", &second) && !same("\"deps\"", &second)
    );
    let without = [changed[0].clone(), changed[2].clone(), changed[3].clone()];
    assert_eq!(unchanged(&update(&without)), ["deps: alpha", "deps"]);
    changed[1] = large("beta", "2.1", LARGE + 1000);
    assert_eq!(unchanged(&update(&changed)), ["deps: alpha", "deps"]);

    for (most, expected) in [(0, &["deps"][..]), (1, &["deps: beta", "deps"])] {
        project.write("dmoci.toml", spec(&format!("{entry}, own-layers = {most}")));
        project.dmoci(&["build"]).ok();
        assert_eq!(names(&project), expected);
    }
    project.write("dmoci.toml", spec(&format!("{entry}, own-layers = 101")));
    let run = project.dmoci(&["check"]);
    assert!(run.exit == 2 && run.stderr.contains("E-SPEC-VALUE"), "{}", run.stderr);
}

#[test]
fn something_is_left_for_the_layer_itself() {
    let only = [large("alpha", "1.0", LARGE)];
    let entry = "lock = \"pylock.toml\", venv = \"/opt/v\"";
    let made = "copy = [{ from = \"cfg/\", to = \"/opt/v\" }]\nsymlink = [{ path = \"/opt/v/bin/python\", target = \"/usr/bin/python3\" }]\n".to_string();
    let text = spec(&format!("{entry}, interpreter = \"/usr/bin/python3\", python-version = \"3.12.4\""))
        .replace("[[layer]]", &format!("[[layer]]\nname = \"made\"\n{made}[[layer]]"));
    let project = of(&only, &text).file("cfg/pyvenv.cfg", "home = /usr/bin\n");
    project.dmoci(&["build"]).ok();
    assert_eq!(names(&project), ["made", "deps"]);
}

/// Whatever else is in the layer, the parts together are what the one layer would be.
#[test]
fn the_image_is_the_same() {
    let init = |wheel: Wheel| wheel.file("shared/__init__.py", "");
    let (alpha, beta) = (init(large("alpha", "1.0", LARGE)), init(large("beta", "1.0", LARGE + 1000)));
    let wheels = [alpha, beta, wheel("tiny", "1.0")];
    let site = "/opt/v/lib/python3.12/site-packages";
    let python =
        |more: &str| format!("python = [{{ lock = \"pylock.toml\", {SAID}{more}, own-layers = N }}]\n");
    let deps = |before: &str, more: &str, after: &str| {
        format!("[[layer]]\nname = \"deps\"\n{before}{}{after}", python(more))
    };
    let old = format!("[[layer]]\nname = \"old\"\ncopy = [{{ from = \"old/\", to = \"{site}\" }}]\n");
    let mine = |path: &str, replace: bool| {
        format!("file = [{{ path = \"{path}\", content = \"mine\", replace = {replace} }}]\n")
    };
    let both: &[&str] = &["deps: beta", "deps: alpha", "deps"];
    let cases: &[(String, &[&str])] = &[
        (deps("", "", ""), both),
        // What is taken away is nothing that the layer gives, whichever part gives it.
        (format!("{old}{}", deps("remove = [\"/opt/v\"]\n", "", "")), both),
        (format!("{old}{}", deps(&format!("remove = [\"{site}/**\"]\n"), "", &mine("/x", false))), both),
        // Something stands in the place of a wheel's file, and a wheel's file in that of something; so does that which both
        // give.
        (deps("", "", &mine(&format!("{site}/alpha.py"), true)), both),
        (deps(&mine(&format!("{site}/alpha.py"), false), ", replace = true", ""), &["deps"]),
        (deps(&mine(&format!("{site}/shared"), false), ", replace = true", ""), &["deps"]),
        (deps("", "", &mine(&format!("{site}/shared"), true)), both),
        // Directories of another mode or owner.
        (
            deps(
                "",
                "",
                &format!("directory = [{{ path = \"{site}\", mode = \"0700\", owner = \"7:8\" }}]\n"),
            ),
            both,
        ),
        (deps("", ", owner = \"5:6\"", "directory = [{ path = \"/opt/v\", mode = \"0711\" }]\n"), both),
        (
            format!(
                "{old}{}",
                deps("", ", owner = \"5:6\"", "adjust = [{ path = \"/opt/v/lib\", mode = \"0700\" }]\n")
            ),
            both,
        ),
        // What stands on it.
        (
            format!(
                "{}[[layer]]\nname = \"on\"\nadjust = [{{ path = [\"{site}/alpha.py\", \"{site}/tiny.py\"], mode = \"0600\" }}]\n\
                 remove = [\"{site}/beta.py\"]\n",
                deps("", "", "")
            ),
            &["deps: beta", "deps: alpha", "deps", "on"],
        ),
        // Two environments in one layer.
        (
            format!(
                "[[layer]]\nname = \"deps\"\npython = [{{ lock = \"pylock.toml\", {SAID}, own-layers = N }}, {{ lock = \"pylock.toml\", {}, own-layers = N }}]\n",
                SAID.replace("/opt/v", "/opt/w")
            ),
            &["deps: beta", "deps: beta (2)", "deps: alpha", "deps: alpha (2)", "deps"],
        ),
    ];
    for (layers, expected) in cases {
        let text = crate::support::layers::image_spec(layers);
        let project = of(&wheels, &text.replace("own-layers = N", "own-layers = 0"))
            .file("old/beta.py/x", "dir")
            .file("old/z.py", "z");
        if !layers.contains("remove = [\"/opt/v") && layers.contains("old/") {
            std::fs::remove_dir_all(project.path("old/beta.py")).unwrap();
        }
        project.dmoci(&["build"]).ok();
        let whole = merged(&project);
        project.write("dmoci.toml", text.replace("own-layers = N", "own-layers = 16"));
        project.dmoci(&["build"]).ok();
        let found: Vec<String> = names(&project).into_iter().filter(|name| name != "old").collect();
        assert_eq!(found, *expected, "{layers}");
        let parts = merged(&project);
        let keys = |tree: &BTreeMap<String, Listed>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&parts), keys(&whole), "{layers}");
        for (path, entry) in &parts {
            assert!(*entry == whole[path], "{path} differs in\n{layers}");
        }
    }
}

#[test]
fn two_wheels_with_one_path() {
    let with = |name: &str, content: &str| large(name, "1.0", LARGE).file("both.py", content);
    let entry = format!("lock = \"pylock.toml\", {SAID}");
    let project = of(&[with("alpha", "a"), with("beta", "b")], &spec(&entry));
    let run = project.dmoci(&["build"]);
    assert!(run.exit == 2 && run.stderr.contains("E-PYTHON-CONFLICT"), "{}", run.stderr);
    for word in ["alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl", "both.py"] {
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
}
