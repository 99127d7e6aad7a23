//! Whether an image holds what it starts, and the Python that its programs name.

use super::{SAID, elf, project, pylock, spec, wheel};
use crate::support::Project;
use crate::support::wheel::Wheel;

/// What is warned of, by `check` and by `build`.
#[track_caller]
fn warned(project: &Project, spec: &str) -> Vec<String> {
    project.write("dmoci.toml", spec);
    let told = |command: &str| -> Vec<String> {
        let stderr = project.dmoci(&[command]).ok().stderr;
        stderr
            .lines()
            .filter_map(|line| line.strip_prefix("warning: dmoci.toml:").map(str::to_owned))
            .collect()
    };
    let found = told("check");
    assert_eq!(found, told("build"));
    found
}

/// A project that installs `app` with the programs `serve` and `work` into `/opt/v`.
fn app() -> (Project, String) {
    let app = wheel("app", "1.0")
        .info("entry_points.txt", "[console_scripts]\nserve = app:main\nwork = app:main\n");
    let text = pylock(&[("app", "1.0", &[&app])]);
    let spec = spec(&format!("lock = \"pylock.toml\", {SAID}"));
    (project(&spec, &[app]).file("pylock.toml", text), spec)
}

#[test]
fn the_program_of_the_image() {
    let (project, good) = app();
    let starts = |config: &str| {
        let spec = good.replace("[image]\n", &format!("[image]\n{config}\n"));
        warned(&project, &spec)
    };
    let path = "env = { PATH = \"/opt/v/bin:/usr/bin\" }";
    for fine in [
        "entrypoint = [\"/opt/v/bin/serve\", \"--port\"]",
        "cmd = [\"/opt/v/bin/work\"]",
        "workdir = \"/opt/v\"\nentrypoint = [\"./bin/serve\"]",
        &format!("{path}\nentrypoint = [\"serve\"]\ncmd = [\"no\"]"),
        &format!("{path}\ncmd = [\"work\"]"),
        // It leads to the interpreter that the spec says is in no layer.
        "entrypoint = [\"/opt/v/bin/python\", \"-m\", \"app\"]",
        "entrypoint = [\"/proc/self/exe\"]",
        // Where a container starts is not known.
        "env = { PATH = \"bin:/usr/bin\" }\nentrypoint = [\"serve\"]",
        "entrypoint = []",
    ] {
        assert_eq!(starts(fine), [""; 0], "{fine}");
    }
    for (config, said) in [
        (
            "entrypoint = [\"/opt/v/bin/sreve\"]",
            "3: `entrypoint` starts /opt/v/bin/sreve, and the image has no such program; did you mean /opt/v/bin/serve?",
        ),
        (
            "cmd = [\"/usr/bin/work\"]",
            "3: `cmd` starts /usr/bin/work, and the image has no such program; there is /opt/v/bin/work",
        ),
        (
            "entrypoint = [\"/srv/start\"]",
            "3: `entrypoint` starts /srv/start, and the image has no such program; in /opt/v/bin there is serve, work",
        ),
        (
            "entrypoint = [\"serve\"]",
            "3: `entrypoint` starts serve, and the image has no such program in any folder of PATH; there is /opt/v/bin/serve",
        ),
        (
            &format!("entrypoint = [\"wrok\"]\n{path}"),
            "3: `entrypoint` starts wrok, and the image has no such program in any folder of PATH; did you mean work?",
        ),
        (
            "entrypoint = [\"/opt/v\"]",
            "3: `entrypoint` starts /opt/v, and the image has no such program; in /opt/v/bin there is serve, work",
        ),
    ] {
        assert_eq!(starts(config), [said], "{config}");
    }
}

/// What stands in the topmost layer counts, and what a base brings.
#[test]
fn programs_of_other_layers() {
    let spec = |image: &str, layers: &str| {
        format!("schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n{image}\n{layers}")
    };
    let layer = "[[layer]]\nname = \"os\"\nfile = [{ path = \"/usr/bin/dash\", content = \"x\", mode = \"0755\" }]\n\
                 symlink = [{ path = \"/bin\", target = \"usr/bin\" }, { path = \"/usr/bin/sh\", target = \"dash\" }]\n";
    let project = Project::new();
    let sh = "entrypoint = [\"/bin/sh\", \"-c\"]";
    assert_eq!(warned(&project, &spec(sh, layer)), [""; 0]);
    assert_eq!(warned(&project, &spec("cmd = [\"sh\"]", layer)), [""; 0]);
    let removed = format!("{layer}[[layer]]\nname = \"less\"\nremove = [\"/usr/bin/dash\"]\n");
    let gone = "4: `entrypoint` starts /bin/sh, and the image has no such program";
    assert_eq!(warned(&project, &spec(sh, &removed)), [gone]);
    // Nobody may execute it.
    let plain = layer.replace(", mode = \"0755\"", "");
    assert_eq!(warned(&project, &spec(sh, &plain)), [gone]);
    let plain = |name: &str| {
        let file = format!("file = [{{ path = \"/usr/bin/{name}\", content = \"x\" }}]");
        format!("[[layer]]\nname = \"os\"\n{file}\n")
    };
    let above = "[[layer]]\nname = \"above\"\ndirectory = [{ path = \"/a\" }]\n";
    let mode = "is not executable: its mode is 0644";
    for layers in [plain("run"), format!("{}{above}", plain("run"))] {
        let said = format!("4: `entrypoint` starts /usr/bin/run, which {mode}");
        assert_eq!(warned(&project, &spec("entrypoint = [\"/usr/bin/run\"]", &layers)), [said]);
        let said = format!("4: `cmd` starts run, and /usr/bin/run {mode}");
        assert_eq!(warned(&project, &spec("cmd = [\"run\"]", &layers)), [said]);
        let fine = format!(
            "{layers}[[layer]]\nname = \"set\"\nadjust = [{{ path = \"/usr/bin/run\", mode = \"0755\" }}]\n"
        );
        assert_eq!(warned(&project, &spec("cmd = [\"run\"]", &fine)), [""; 0]);
    }

    // As a base: its program is the base's own business, arguments are not programs.
    project.write("dmoci.toml", spec(sh, layer));
    project.dmoci(&["build", "-o", "base"]).ok();
    let on = |rest: &str| spec(&format!("base = \"oci:base/image\"\n{rest}"), "");
    for fine in ["", "cmd = [\"echo\"]", sh, "entrypoint = [\"dash\"]"] {
        assert_eq!(warned(&project, &on(fine)), [""; 0], "{fine}");
    }
    let near = "5: `entrypoint` starts dsh, and the image has no such program in any folder of PATH; did you mean dash?";
    assert_eq!(warned(&project, &on("entrypoint = [\"dsh\"]")), [near]);
}

#[test]
fn the_first_lines_of_scripts() {
    let project = Project::new();
    let spec = |content: &str, more: &str| {
        let file = |path: &str, content: &str| {
            format!("{{ path = \"{path}\", content = \"{content}\", mode = \"0755\" }}")
        };
        format!(
            "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\nentrypoint = [\"/start\"]\n\
             [[layer]]\nname = \"a\"\nfile = [{}, {}]\n{more}",
            file("/start", content),
            file("/bin/sh", "x")
        )
    };
    for fine in ["#!/bin/sh\\nexit\\n", "#! /bin/sh -e\\n", "x", "", "#!/bin/bash", "#!bash\\n"] {
        assert_eq!(warned(&project, &spec(fine, "")), [""; 0], "{fine}");
    }
    let said = "4: `entrypoint` starts /start, whose first line";
    let bash = format!("{said} names /bin/bash, and the image has no such program");
    assert_eq!(warned(&project, &spec("#!/bin/bash -e\\n", "")), std::slice::from_ref(&bash));
    let below = "[[layer]]\nname = \"b\"\ndirectory = [{ path = \"/d\" }]\n";
    assert_eq!(warned(&project, &spec("#!/bin/bash\\n", below)), [bash]);
    let cr = format!("{said} ends in CR LF, so that its interpreter is not found: end it in LF");
    assert_eq!(warned(&project, &spec("#!/bin/sh\\r\\nexit\\r\\n", "")), [cr]);
}

#[test]
fn the_user_of_the_image() {
    let project = Project::new();
    let head = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n";
    let file = |path: &str, content: &str| format!("{{ path = \"{path}\", content = \"{content}\" }}");
    let passwd = file("/etc/passwd", "root:x:0:0::/:/bin/sh\\nweb:x:5:5::/:/bin/sh\\n");
    let layer =
        format!("[[layer]]\nname = \"a\"\nfile = [{passwd}, {}]\n", file("/etc/group", "web:x:5:\\n"));
    let above = "[[layer]]\nname = \"b\"\ndirectory = [{ path = \"/d\" }]\n";
    for layers in [layer.clone(), format!("{layer}{above}")] {
        let with = |user: &str| warned(&project, &format!("{head}user = \"{user}\"\n{layers}"));
        for fine in ["web", "web:web", "5:web", "7:8", "root"] {
            assert_eq!(with(fine), [""; 0], "{fine}");
        }
        let said = "4: `user` is \"wbe\", and the image has no user wbe, as /etc/passwd has it";
        assert_eq!(with("wbe"), [said]);
        let said = "4: `user` is \"web:www\", and the image has no group www, as /etc/group has it";
        assert_eq!(with("web:www"), [said]);
    }
    let said = "4: `user` is \"web\", and the image has no user web, as /etc/passwd has it";
    let none = format!("{head}user = \"web\"\n");
    assert_eq!(warned(&project, &format!("{none}{above}")), [said]);
    let users = "[[image.users]]\nname = \"web\"\nuid = 10001\n";
    assert_eq!(warned(&project, &format!("{none}{users}{above}")), [""; 0]);

    // As a base.
    project.write("dmoci.toml", format!("{head}{layer}"));
    project.dmoci(&["build", "-o", "base"]).ok();
    let on = |user: &str| warned(&project, &format!("{head}user = \"{user}\"\nbase = \"oci:base/image\"\n"));
    assert_eq!(on("web"), [""; 0]);
    assert_eq!(on("www"), ["4: `user` is \"www\", and the image has no user www, as /etc/passwd has it"]);
}

/// An interpreter is said for an image that has none; one that has another hardly means it.
#[test]
fn an_interpreter_that_is_not_there() {
    let (project, good) = app();
    let banner = "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n";
    for (path, bytes) in [
        ("os/usr/bin/python3.12", elf(62, "/lib/ld.so", "3.12.4")),
        ("os/lib/ld.so", elf(62, "", "")),
        ("os/lib/libc.so.6", elf(62, "", banner)),
    ] {
        project.write(path, bytes);
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(project.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let os = "[[layer]]\nname = \"os\"\ncopy = [{ from = \"os/\", to = \"/\" }]\n";
    let wrong = good.replace("/usr/bin/python3\"", "/usr/local/bin/python3\"");
    assert_eq!(warned(&project, &wrong), [""; 0]);
    let below = wrong.replacen("[[layer]]", &format!("{os}[[layer]]"), 1);
    let said =
        "9: the interpreter /usr/local/bin/python3 is not in the image, where there is /usr/bin/python3.12";
    assert_eq!(warned(&project, &below), [said]);
    assert_eq!(warned(&project, &format!("{wrong}{os}")), [said.replacen('9', "6", 1)]);
    let link = "symlink = [{ path = \"/usr/local/bin/python3\", target = \"../../bin/python3.12\" }]\n";
    assert_eq!(warned(&project, &format!("{below}[[layer]]\nname = \"link\"\n{link}")), [""; 0]);
}

/// Which C library there will be is not guessed, and what follows from that is said.
#[test]
fn no_c_library() {
    let own = Wheel::new("a", "1.0").tag("cp312-cp312-manylinux_2_17_x86_64").file("a.py", "own");
    let any = wheel("a", "1.0");
    let entry = format!("lock = \"pylock.toml\", {}", SAID.replace(", libc = \"glibc-2.36\"", ""));
    let project = project(&spec(&entry), &[own.clone(), any.clone()])
        .file("pylock.toml", pylock(&[("a", "1.0", &[&own])]));
    super::refused(
        &project,
        2,
        "E-PYTHON-WHEEL",
        &[
            "a 1.0 has no wheel for CPython 3.12.4 on x86_64",
            "no C library is assumed: say which there will be, such as `libc = ",
        ],
    );
    project.write("pylock.toml", pylock(&[("a", "1.0", &[&own, &any])]));
    let said = "no `libc` is said, so wheels for one C library are passed over, of a; say such as `libc = \"glibc-2.36\"`";
    assert_eq!(warned(&project, &spec(&entry)), [format!("6: {said}")]);
    assert_eq!(warned(&project, &spec(&format!("lock = \"pylock.toml\", {SAID}"))), [""; 0]);
}
