//! What of a base's layers stands in the lock file: later builds look into none of them, and make the same.

use std::collections::BTreeSet;
use std::fs;

use super::base::{above, base};
use crate::python::{elf, project, pylock, wheel};
use crate::support::Project;
use crate::support::layers::digests;
use crate::support::registry::Registry;

fn facts(project: &Project) -> Vec<BTreeSet<String>> {
    let lock: toml::Table = fs::read_to_string(project.path("dmoci.lock")).unwrap().parse().unwrap();
    let texts = |platform: &toml::Value| -> BTreeSet<String> {
        let facts = platform["base"][0].get("facts").and_then(|facts| facts.as_array().cloned());
        facts.unwrap_or_default().iter().map(|fact| fact.as_str().unwrap().to_owned()).collect()
    };
    lock["platform"].as_table().unwrap().values().map(texts).collect()
}

/// Forgets everything but the project itself.
fn forget(project: &Project) {
    for path in [project.path("dist"), project.cache().join("dmoci")] {
        let _ = fs::remove_dir_all(path);
    }
}

/// How many layers of the base were asked for.
fn layers(registry: &Registry, base: &Project) -> usize {
    let digests = digests(&base.path("dist"));
    let platforms = digests["platforms"].as_array().unwrap();
    let layers = platforms.iter().flat_map(|platform| platform["layers"].as_array().unwrap());
    let names: BTreeSet<&str> = layers.map(|layer| layer["digest"].as_str().unwrap()).collect();
    names.iter().map(|layer| registry.asked(&format!("GET /v2/acme/base/blobs/{layer}"))).sum()
}

/// Specs that ask for many things, and the image is the same with the answers of the lock file as with the layers.
#[test]
fn who_asks_the_same_needs_no_layer_and_makes_the_same() {
    let base = base("one");
    let registry = Registry::start();
    registry.load(&base.path("dist/image"), "acme/base", "1");
    let name = format!("{}/acme/base:1", registry.host());
    let push = format!("name = \"{}/acme/app\"", registry.host());
    let plain = format!(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\nbase = \"{name}\"\n{push}\n\
         entrypoint = [\"tool\"]\nuser = \"root\"\n\
         [[layer]]\nname = \"app\"\ncopy = [{{ from = [\"tree/\"], to = \"/\" }}]\n\
         directory = [{{ path = \"/lib/new\" }}]\nsymlink = [{{ path = \"/usr/bin/link\", target = \"tool\" }}]\n\
         [[layer]]\nname = \"more\"\nremove = [\"/etc/mark\", \"/usr/lib/new\"]\n\
         adjust = [{{ path = \"/usr/lib\", mode = \"0700\" }}]\n\
         file = [{{ path = \"/usr/lib/app/file\", content = \"x\" }}, {{ path = \"/etc/mark/x\", content = \"y\", replace = true }}]\n"
    );
    let users = above(&name, &push).replace("adjust = [{ path = \"/usr/bin/*\", mode = \"0700\" }]\n", "");
    let kept = above(&name, &push);
    for (spec, fetched) in [(plain, 0), (users, 0), (kept, 1)] {
        let [project, whole] = [(); 2].map(|()| Project::with_spec(&spec));
        for file in ["lib/deep/er/a", "opt/app/b", "usr/bin/c"] {
            for project in [&project, &whole] {
                project.write(&format!("tree/{file}"), file);
            }
        }
        // Made from the layers, which notes the same as `lock` does.
        let said = whole.dmoci(&["build"]).ok().stderr;
        let made = digests(&whole.path("dist"));
        project.dmoci(&["lock"]).ok();
        let known = facts(&project);
        assert!(known.iter().all(|facts| !facts.is_empty() && facts.len() < 40), "{said}\n{known:#?}");
        assert_eq!(facts(&whole), known);
        forget(&project);
        let before = layers(&registry, &base);
        let run = project.dmoci(&["build", "--locked", "--push"]).ok();
        // Only of files that are given again the content is wanted, of one layer.
        assert_eq!(layers(&registry, &base) - before, fetched, "{spec}\n{}", run.stderr);
        assert_eq!(digests(&project.path("dist")), made, "{spec}");
        // Nothing is noted that is known.
        for command in ["build", "lock", "check"] {
            let again = project.dmoci(&[command]).ok().stderr;
            assert!(!["Noted", "lacks"].iter().any(|word| again.contains(word)), "{again}");
            assert_eq!(facts(&project), known);
        }
    }
}

/// Which Python there is, with which C library, is known without the layers too.
#[test]
fn the_python_of_a_base() {
    let base = Project::with_spec(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"os\"\n\
         copy = [{ from = [\"os/\"], to = \"/\" }]\nsymlink = [{ path = \"/usr/bin/python3\", target = \"python3.11\" }]\n",
    );
    base.write("os/usr/bin/python3.11", elf(62, "/lib/ld.so", "3.11.2"));
    base.write("os/lib/ld.so", elf(62, "", ""));
    base.write(
        "os/lib/libc.so.6",
        elf(62, "", "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"),
    );
    base.dmoci(&["build"]).ok();
    let registry = Registry::start();
    registry.load(&base.path("dist/image"), "acme/base", "1");
    let (fits, other) = (
        wheel("a", "1.0").tag("cp311-cp311-manylinux_2_17_x86_64"),
        wheel("a", "1.0").tag("cp312-cp312-any"),
    );
    let spec = format!(
        "schema = 1\n[image]\nname = \"{0}/acme/app\"\nplatforms = [\"linux/amd64\"]\nbase = \"{0}/acme/base:1\"\n\
         entrypoint = [\"python3\"]\n\
         [[layer]]\nname = \"deps\"\npython = {{ lock = \"pylock.toml\", venv = \"/opt/v\" }}\n",
        registry.host()
    );
    let text = pylock(&[("a", "1.0", &[&fits, &other])]);
    let app = project(&spec, &[fits, other]).file("pylock.toml", text);
    app.dmoci(&["lock"]).ok();
    assert_eq!(layers(&registry, &base), 1, "to find the Python");
    let known = facts(&app);
    let words = ["/usr/bin/python3 l python3.11", "/ telling", "/opt -"];
    assert!(words.iter().all(|word| known[0].contains(*word)), "{known:#?}");
    assert!(known[0].iter().any(|fact| fact.contains("tells machine%2062")), "{known:#?}");
    forget(&app);
    let run = app.dmoci(&["build", "--locked", "--push"]).ok();
    assert_eq!((layers(&registry, &base), facts(&app)), (1, known), "{}", run.stderr);
    let made = digests(&app.path("dist"));
    // From the layers the same is made.
    fs::remove_file(app.path("dmoci.lock")).unwrap();
    forget(&app);
    app.dmoci(&["build"]).ok();
    assert_eq!((layers(&registry, &base), digests(&app.path("dist"))), (2, made));
    // Another environment, in a place that nobody has asked about.
    app.write("dmoci.toml", spec.replace("/opt/v", "/usr/v"));
    forget(&app);
    app.dmoci(&["build"]).ok();
    assert_eq!(layers(&registry, &base), 3);
    assert!(facts(&app)[0].contains("/usr/v -"), "{:#?}", facts(&app));
}

#[test]
fn who_asks_more_looks_into_the_layers_and_notes_it() {
    let base = base("one");
    let registry = Registry::start();
    registry.load(&base.path("dist/image"), "acme/base", "1");
    let name = format!("{}/acme/base:1", registry.host());
    let spec = |file: &str| {
        format!(
            "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\nbase = \"{name}\"\n\
             [[layer]]\nname = \"app\"\nfile = [{{ path = \"{file}\", content = \"x\" }}]\n\
             [variant.test]\nname = \"registry.example/test\"\n\
             [[variant.test.layer]]\nname = \"test\"\nfile = [{{ path = \"/tmp/test\", content = \"x\" }}]\n"
        )
    };
    let project = Project::with_spec(&spec("/opt/app/file"));
    let both: BTreeSet<String> = ["/opt -".to_owned(), "/tmp e 1777 0:0".to_owned()].into();
    project.dmoci(&["lock"]).ok();
    assert_eq!((layers(&registry, &base), facts(&project)), (2, vec![both.clone()]), "the variant's too");
    project.dmoci(&["build"]).ok();
    project.dmoci(&["build", "--variant", "test"]).ok();
    project.dmoci(&["lock"]).ok();
    assert_eq!((layers(&registry, &base), facts(&project)), (2, vec![both.clone()]));
    // Another file: its place is not known yet. With `--locked` nothing is noted.
    project.write("dmoci.toml", spec("/usr/lib/app"));
    forget(&project);
    for command in [&["check"][..], &["build", "--locked"]] {
        project.dmoci(command).ok();
        assert_eq!((layers(&registry, &base), facts(&project)), (4, vec![both.clone()]));
    }
    let noted = project.dmoci(&["build"]).ok().stderr;
    assert!(noted.contains("Noted base") && !noted.contains("nothing but dmoci.lock"), "{noted}");
    assert!(facts(&project)[0].is_superset(&both), "another variant may ask for it");
    assert!(facts(&project)[0].contains("/usr/lib e 0750 7:8"), "{:?}", facts(&project));
    // What `lock` cannot plan a build notes.
    project.write(
        "dmoci.toml",
        spec("/a").replace(
            "file = [{ path = \"/a\", content = \"x\" }]",
            "copy = [{ from = [\"later\"], to = \"/etc/later\" }]",
        ),
    );
    let warned = project.dmoci(&["lock"]).ok().stderr;
    assert!(warned.contains("not all is noted") && warned.contains("E-SOURCE-MISSING"), "{warned}");
    project.write("later", "x");
    project.dmoci(&["build"]).ok();
    assert!(facts(&project)[0].contains("/etc/later -"), "{:?}", facts(&project));
    // Facts are part of what an entry says.
    let lock = fs::read_to_string(project.path("dmoci.lock")).unwrap();
    project.write("dmoci.lock", lock.replace("/tmp e 1777", "/tmp e 0777"));
    let edited = project.dmoci(&["build"]).exits(1).stderr;
    assert!(edited.contains("E-LOCK-EDITED"), "{edited}");
    // What cannot be read is not believed, and not in the way.
    let facts_of = |text: &str| {
        let digest = |text: &str| dmoci_layers::Digest::sha256(text.as_bytes()).hex().to_owned();
        let pin: toml::Table = text.parse().unwrap();
        let pin = &pin["platform"]["linux/amd64"]["base"][0];
        let text = |key: &str| pin[key].as_str().unwrap();
        digest(&format!(
            "{{\"authenticated\":\"first use\",\"facts\":[\"/x zzz\"],\"index\":\"{}\",\"kind\":\"base\",\"name\":\"{}\",\
             \"platform\":\"linux/amd64\",\"sha256\":\"{}\",\"size\":{}}}",
            text("index"),
            text("name"),
            text("sha256"),
            pin["size"]
        ))
    };
    let (head, _) = lock.split_once("facts = [").unwrap();
    let (kept, fields) = head.split_once("fields = ").unwrap();
    let strange = format!("{kept}fields = \"{}\"\nfacts = [\n    \"/x zzz\",\n]\n", facts_of(&lock));
    assert_ne!(fields.trim().trim_matches('"'), facts_of(&lock));
    project.write("dmoci.lock", strange);
    project.dmoci(&["build", "--locked"]).ok();
}
