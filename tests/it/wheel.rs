//! `wheel` of a layer: what is installed, and what is refused.

use std::fs;

use crate::support::layers::{image_spec, layer, listing};
use crate::support::wheel::{Wheel, zip};
use crate::support::{Project, dmoci};

const PYTHON: &str = "interpreter = \"/usr/bin/python3\", python-version = \"3.13.5\"";

/// A spec with these entries of one layer.
fn spec(wheels: &[&str]) -> String {
    image_spec(&format!("[[layer]]\nname = \"app\"\nwheel = [{}]\n", wheels.join(", ")))
}

fn project(spec: &str, wheels: &[Wheel]) -> Project {
    let mut project = Project::with_spec(spec);
    for wheel in wheels {
        project = project.file(&wheel.file_name(), wheel.bytes());
    }
    project
}

fn demo() -> Wheel {
    Wheel::new("demo-app", "1.0")
        .file("demo/__init__.py", "print('demo')\n")
        .info("entry_points.txt", "[console_scripts]\ndemo = demo : main\n")
        .info("sboms/demo.cdx.json", "{}")
        .data("scripts/demo.sh", "#!/bin/sh\n")
}

fn entry(file: &str, rest: &str) -> String {
    format!("{{ path = \"{file}\", venv = \"/opt/v\"{rest} }}")
}

/// An entry that says which Python there is.
fn first(file: &str) -> String {
    entry(file, &format!(", {PYTHON}"))
}

#[test]
fn an_environment_with_a_wheel() {
    let project = project(&spec(&[&first("demo_app-1.0-py3-none-any.whl")]), &[demo()]);
    project.dmoci(&["build"]).ok();
    let text = listing(&project.path("dist"), "app");
    // Hashes, which the tests of the installation hold.
    let (hashes, rest): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.contains("/RECORD ") || line.contains("/direct_url.json "));
    assert_eq!(hashes.len(), 2);
    assert!(
        hashes[1].ends_with("\\\"url\\\":\\\"file:///demo_app-1.0-py3-none-any.whl\\\"}"),
        "{}",
        hashes[1]
    );
    assert_eq!(
        rest.join("\n"),
        r##"d 0755 0:0 opt/
d 0755 0:0 opt/v/
d 0755 0:0 opt/v/bin/
- 0755 0:0 opt/v/bin/demo #!/opt/v/bin/python\nimport sys\nfrom demo import main\n\nif __name__ == \"__main__\":\n    sys.exit(main())\n
- 0755 0:0 opt/v/bin/demo.sh #!/bin/sh\n
l 0777 0:0 opt/v/bin/python /usr/bin/python3
l 0777 0:0 opt/v/bin/python3 python
l 0777 0:0 opt/v/bin/python3.13 python
d 0755 0:0 opt/v/lib/
d 0755 0:0 opt/v/lib/python3.13/
d 0755 0:0 opt/v/lib/python3.13/site-packages/
d 0755 0:0 opt/v/lib/python3.13/site-packages/demo/
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo/__init__.py print(\'demo\')\n
d 0755 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/INSTALLER dmoci\n
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/METADATA Metadata-Version: 2.4\nName: demo-app\nVersion: 1.0\n
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/REQUESTED
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/WHEEL Wheel-Version: 1.0\nGenerator: dmoci fixtures\nRoot-Is-Purelib: true\nTag: py3-none-any\n
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/entry_points.txt [console_scripts]\ndemo = demo : main\n
d 0755 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/sboms/
- 0644 0:0 opt/v/lib/python3.13/site-packages/demo_app-1.0.dist-info/sboms/demo.cdx.json {}
l 0777 0:0 opt/v/lib64 lib
- 0644 0:0 opt/v/pyvenv.cfg home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13.5\n"##
    );
}

/// The first entry says which Python it is; the others, in later layers too, go into what it made.
#[test]
fn one_environment_in_several_layers() {
    let (demo, other) = (demo(), Wheel::new("other", "2.0").file("other.py", ""));
    let text = spec(&[&first(&demo.file_name())])
        + &format!(
            "[[layer]]\nname = \"more\"\nwheel = {}\n",
            entry(&other.file_name(), ", owner = \"5:6\"")
        );
    let project = project(&text, &[demo, other]);
    project.dmoci(&["check"]).ok();
    project.dmoci(&["build"]).ok();
    let text = listing(&project.path("dist"), "more");
    assert!(text.contains("- 0644 5:6 opt/v/lib/python3.13/site-packages/other.py"), "{text}");
    assert!(text.contains("d 0755 5:6 opt/v/lib/python3.13/site-packages/other-2.0.dist-info/"), "{text}");
    // What is there already keeps its owner, and is not made twice.
    assert!(text.contains("d 0755 0:0 opt/v/lib/python3.13/site-packages/\n"), "{text}");
    assert!(!text.contains("pyvenv.cfg") && !text.contains("bin/python"), "{text}");
}

#[test]
fn the_folders_of_an_interpreter() {
    let wheel = demo();
    let entry = |interpreter: &str| {
        spec(&[&format!(
            "{{ path = \"{}\", interpreter = \"{interpreter}\", python-version = \"3.12.1\" }}",
            wheel.file_name()
        )])
    };
    let project = project(&entry("/usr/local/bin/python3.12"), std::slice::from_ref(&wheel));
    project.dmoci(&["build"]).ok();
    let text = listing(&project.path("dist"), "app");
    assert!(text.contains("usr/local/bin/demo #!/usr/local/bin/python3.12\\n"), "{text}");
    assert!(text.contains("usr/local/lib/python3.12/site-packages/demo/__init__.py"), "{text}");
    assert!(!text.contains("pyvenv.cfg"), "{text}");
    for (interpreter, why) in [
        ("/usr/bin/python3.12", "/usr/bin/python3.12 belongs to the operating system"),
        ("/opt/python3.12", "is in no folder `bin`"),
    ] {
        project.write("dmoci.toml", entry(interpreter));
        let run = project.dmoci(&["build"]).exits(2);
        assert!(
            run.stderr.contains("error[E-PYTHON-INTERPRETER]") && run.stderr.contains(why),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains("venv"), "{}", run.stderr);
    }
}

#[track_caller]
fn refused(wheels: &[Wheel], entries: &[String], exit: i32, code: &str, why: &[&str]) {
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let project = project(&spec(&entries), wheels);
    for command in ["check", "build"] {
        let run = project.dmoci(&[command]).exits(exit);
        assert!(run.stderr.contains(&format!("error[{code}]")), "{}", run.stderr);
        for why in why {
            assert!(run.stderr.contains(why), "{why:?} in {}", run.stderr);
        }
    }
    assert!(!project.path("dist/image/index.json").exists());
}

#[test]
fn what_does_not_fit() {
    let name = demo().file_name();
    let wheel = |tag: &str| demo().tag(tag);
    let code = "E-PYTHON-WHEEL";
    let native = wheel("cp313-cp313-manylinux_2_28_x86_64");
    let libc = |libc: &str| entry(&native.file_name(), &format!(", {PYTHON}, libc = \"{libc}\""));
    let project = project(&spec(&[&libc("glibc-2.28")]), std::slice::from_ref(&native));
    project.dmoci(&["build"]).ok();
    assert!(listing(&project.path("dist"), "app").contains("site-packages/demo/__init__.py"));
    refused(
        std::slice::from_ref(&native),
        &[libc("glibc-2.27")],
        2,
        code,
        &["does not run on CPython 3.13.5 on x86_64 with glibc-2.27"],
    );
    refused(std::slice::from_ref(&native), &[libc("musl-1.2")], 2, code, &["looked for"]);
    refused(
        std::slice::from_ref(&native),
        &[first(&native.file_name())],
        2,
        code,
        &["say which C library there is"],
    );
    let arm = wheel("cp313-cp313-manylinux_2_28_aarch64");
    let arm_entry = entry(&arm.file_name(), &format!(", {PYTHON}, libc = \"glibc-2.41\""));
    refused(&[arm], &[arm_entry], 2, code, &["_aarch64.whl does not run on"]);
    let picky = demo().metadata("Requires-Python: >=3.14");
    refused(
        &[picky],
        &[first(&name)],
        2,
        "E-PYTHON-TARGET",
        &["asks for Python >=3.14, and there is CPython 3.13.5"],
    );
}

#[test]
fn what_contradicts_itself() {
    let name = demo().file_name();
    refused(
        &[demo()],
        &[entry(&name, "")],
        2,
        "E-PYTHON-INTERPRETER",
        &["there is no Python below this layer", "--> dmoci.toml:6"],
    );
    let other = Wheel::new("other", "1.0").file("demo/__init__.py", "print('other')\n");
    let code = "E-PYTHON-CONFLICT";
    refused(
        &[demo(), other.clone()],
        &[first(&name), entry(&other.file_name(), "")],
        2,
        code,
        &[
            "demo_app-1.0-py3-none-any.whl and other-1.0-py3-none-any.whl give /opt/v/lib/python3.13/site-packages/demo/__init__.py with different content",
        ],
    );
    let newer = Wheel::new("demo.app", "2.0");
    refused(
        &[demo(), newer.clone()],
        &[first(&name), entry(&newer.file_name(), "")],
        2,
        code,
        &["are both the project demo-app"],
    );
    let same = Wheel::new("same", "1.0").file("demo/__init__.py", "print('demo')\n");
    let project = project(&spec(&[&first(&name), &entry(&same.file_name(), "")]), &[demo(), same.clone()]);
    project.dmoci(&["build"]).ok();
    let replaced = entry(&other.file_name(), ", replace = true");
    project.write("dmoci.toml", spec(&[&first(&name), &replaced]));
    project.write(&other.file_name(), other.bytes());
    project.dmoci(&["build"]).ok();
    let listed = layer(&project.path("dist"), "app");
    let init = listed.iter().find(|entry| entry.path.ends_with("demo/__init__.py")).unwrap();
    assert_eq!(init.content, "print('other')\n");
    let differently =
        entry(&same.file_name(), ", interpreter = \"/usr/bin/python3\", python-version = \"3.12.1\"");
    refused(
        &[demo(), same.clone()],
        &[first(&name), differently],
        2,
        "E-PYTHON-INTERPRETER",
        &["an earlier entry says that this environment is for CPython 3.13.5"],
    );
}

#[test]
fn a_long_path_needs_a_shell() {
    let venv = format!("/opt/{}", "long/".repeat(24));
    let entry = format!("{{ path = \"{}\", venv = \"{venv}\", {PYTHON} }}", demo().file_name());
    refused(&[demo()], std::slice::from_ref(&entry), 2, "E-PYTHON-INTERPRETER", &["bin/demo needs /bin/sh"]);
    let below = "[[layer]]\nname = \"os\"\nsymlink = [{ path = \"/bin\", target = \"usr/bin\" }]\n\
                 file = [{ path = \"/usr/bin/sh\", content = \"\" }]\n";
    let text = image_spec(&format!("{below}[[layer]]\nname = \"app\"\nwheel = {entry}\n"));
    let project = project(&text, &[demo()]);
    project.dmoci(&["build"]).ok();
    let listed = layer(&project.path("dist"), "app");
    let demo = listed.iter().find(|entry| entry.path.ends_with("/bin/demo")).unwrap();
    let line = format!("#!/bin/sh\n'''exec' '{}bin/python' \"$0\" \"$@\"\n' '''\nimport sys\n", venv);
    assert!(demo.content.starts_with(&line), "{}", demo.content);
}

/// Damage of every byte of a wheel, in steps, ends with exit 1 and a code of its own, whenever it is found; or it changes
/// nothing that is installed.
#[test]
fn damaged_wheels() {
    let wheel = Wheel::new("demo-app", "1.0").file("demo.py", "print('demo')\n".repeat(20));
    let name = wheel.file_name();
    let project = project(&spec(&[&first(&name)]), std::slice::from_ref(&wheel));
    let sound = project.dmoci(&["build", "--no-cache"]).ok();
    let strip = |text: &str| {
        text.lines().filter(|line| !line.contains("direct_url")).map(str::to_owned).collect::<Vec<_>>()
    };
    let files =
        |project: &Project| strip(&listing(&project.path("dist"), "app").replace("RECORD", "direct_url"));
    let expected = files(&project);
    let bytes = wheel.bytes();
    let mut found = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        project.write(&name, damaged);
        let run = project.dmoci(&["build", "--no-cache"]);
        match run.exit {
            0 => assert!(files(&project) == expected, "byte {at}"),
            1 => {
                assert!(
                    run.stderr.contains(&format!("error[E-WHEEL]: {name}: ")),
                    "byte {at}: {}",
                    run.stderr
                );
                found += 1;
            }
            other => panic!("byte {at}: {other}: {}", run.stderr),
        }
    }
    assert!(found > bytes.len() / 14, "{found}");
    assert!(sound.stderr.contains("Finished"));
}

#[test]
fn hostile_wheels() {
    let name = demo().file_name();
    let bytes = zip(&[("../../etc/passwd".to_owned(), b"x".to_vec(), 0o644)]);
    let project = Project::with_spec(&spec(&[&first(&name)])).file(&name, bytes);
    let run = project.dmoci(&["build"]).exits(1);
    assert!(run.stderr.contains("error[E-WHEEL]"), "{}", run.stderr);
    assert!(
        run.stderr.contains("`..` component") && run.stderr.contains("--> dmoci.toml:6"),
        "{}",
        run.stderr
    );
    for (path, why) in [("demo/.wh.x", ".wh."), ("demo\\x", "backslash")] {
        refused(&[demo().file(path, "")], &[first(&name)], 1, "E-WHEEL", &[why]);
    }
    // What lies behind `lib64` is in `lib`, where another wheel may have it.
    for path in ["pyvenv.cfg", "lib64/python3.12/site-packages/other/__init__.py"] {
        let why = format!("would take the place of /opt/v/{path}");
        refused(&[demo().data(&format!("data/{path}"), "")], &[first(&name)], 1, "E-WHEEL", &[&why]);
    }
    // Where distributions are installed into the interpreter's own folders, these are its own.
    let entry = format!(
        "{{ path = \"{name}\", interpreter = \"/usr/local/bin/python3.12\", python-version = \"3.12.1\" }}"
    );
    for path in ["lib/libpython3.12.so.1.0", "lib/python3.12/os.py", "bin/python3.12"] {
        let why = format!("would take the place of /usr/local/{path}");
        let entries = std::slice::from_ref(&entry);
        refused(&[demo().data(&format!("data/{path}"), "")], entries, 1, "E-WHEEL", &[&why]);
    }
    let data =
        demo().data("data/lib/python3.12/site-packages/more.py", "").data("data/lib/pkgconfig/x.pc", "");
    self::project(&spec(&[&entry]), &[data]).dmoci(&["build"]).ok();
}

/// Nothing is executed: there is nothing to execute.
#[test]
fn no_program_is_needed() {
    let project = project(&spec(&[&first(&demo().file_name())]), &[demo()]);
    let mut build = dmoci();
    build.args(["build", "--revision=1", "--epoch=1"]).env("PATH", "").current_dir(project.root());
    crate::support::Run::of(&mut build).ok();
}

/// Builders of wheels write to `dist`, which is where a build writes too.
#[test]
fn wheels_in_the_output_directory() {
    let name = demo().file_name();
    let text = spec(&[&first(&format!("dist/{name}"))]);
    let project = Project::with_spec(&text).file(&format!("dist/{name}"), demo().bytes());
    let one = project.dmoci(&["build"]).ok().stdout;
    assert!(project.path(&format!("dist/{name}")).is_file());
    assert_eq!(project.dmoci(&["build"]).ok().stdout, one);
    // What a build wrote there is no input.
    fs::write(project.path(&format!("dist/image/{name}")), demo().bytes()).unwrap();
    project.write("dmoci.toml", spec(&[&first(&format!("dist/image/{name}"))]));
    let run = project.dmoci(&["check"]).exits(2);
    assert!(run.stderr.contains("error[E-SOURCE-OUTPUT]"), "{}", run.stderr);
}

#[test]
fn built_twice_from_the_output_directory() {
    let project = project(&spec(&[&first("dist/demo_app-1.0-py3-none-any.whl")]), &[]);
    project.write("dist/demo_app-1.0-py3-none-any.whl", demo().bytes());
    let run = project.dmoci(&["build", "--twice"]).ok();
    assert!(run.stderr.contains("twice the same"), "{}", run.stderr);
}
