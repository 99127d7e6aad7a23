//! What the libraries in wheels need of the image: its C library, by what they are linked to where tags name none, and others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{SAID, elf, project, refused, spec};
use crate::own_wheel::{edit, layers};
use crate::support::Project;
use crate::support::elf::elf as linked;
use crate::support::layers::image_spec;
use crate::support::wheel::Wheel;

const WIDE: (bool, bool) = (true, false);

/// A wheel with a library that needs these.
fn native(tag: &str, libraries: &[&str], versions: &[&str]) -> Wheel {
    Wheel::new("a", "1.0")
        .tag(tag)
        .file("a/__init__.py", "")
        .file("a/fast.cpython-312-x86_64-linux-gnu.so", linked(WIDE, libraries, versions))
}

/// A project whose image is made of this wheel.
fn of(wheel: &Wheel, libc: &str) -> Project {
    let said = SAID.replace(", libc = \"glibc-2.36\"", libc);
    let entry = format!(
        "[[layer]]\nname = \"deps\"\nwheel = {{ path = \"wheels/{}\", {said} }}\n",
        wheel.file_name()
    );
    project(&image_spec(&entry), std::slice::from_ref(wheel))
}

#[test]
fn a_wheel_whose_tags_name_no_c_library() {
    let plain = "cp312-cp312-linux_x86_64";
    let new = native(plain, &["libc.so.6"], &["GLIBC_2.2.5", "GLIBC_2.38"]);
    let musl = native(plain, &["libc.musl-x86_64.so.1"], &[]);
    let (debian, later, alpine) =
        (", libc = \"glibc-2.36\"", ", libc = \"glibc-2.38\"", ", libc = \"musl-1.2\"");
    let file = "a/fast.cpython-312-x86_64-linux-gnu.so";
    for (wheel, libc, why) in [
        (&new, debian, format!("with glibc-2.36: {file} needs glibc 2.38")),
        (&new, alpine, format!("with musl-1.2: {file} needs libc.so.6")),
        (&musl, debian, format!("with glibc-2.36: {file} needs libc.musl-x86_64.so.1")),
        (&new, "", format!("on x86_64: {file} needs glibc 2.38")),
    ] {
        let help = if libc.is_empty() { "say which C library there is" } else { "auditwheel" };
        let words = [why.as_str(), "--> dmoci.toml", "help:", help];
        refused(
            &of(wheel, libc),
            2,
            "error[E-PYTHON-WHEEL]: a-1.0-cp312-cp312-linux_x86_64.whl does not run",
            &words,
        );
    }
    for (wheel, libc) in [(&new, later), (&musl, alpine), (&native(plain, &[], &[]), "")] {
        let project = of(wheel, libc);
        let run = project.dmoci(&["build"]).ok();
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
        // What was learnt is known the next time, and is not what was judged.
        if !libc.is_empty() {
            let spec = fs::read_to_string(project.path("dmoci.toml")).unwrap();
            project.write("dmoci.toml", spec.replace(libc, debian));
            project.dmoci(&["build"]).exits(2);
        }
    }
    // A tag that names one is believed, and of a wheel for every platform not all is used.
    for tag in ["cp312-cp312-manylinux_2_17_x86_64", "py3-none-any"] {
        of(&native(tag, &["libc.so.6"], &["GLIBC_2.38"]), debian).dmoci(&["build"]).ok();
    }
    // A program counts as a library does; what is no ELF file needs nothing.
    let script = Wheel::new("a", "1.0").tag(plain);
    let program = script.clone().data("scripts/tool", linked(WIDE, &["libc.so.6"], &["GLIBC_2.38"]));
    let words = ["a-1.0.data/scripts/tool needs glibc 2.38"];
    refused(&of(&program, debian), 2, "E-PYTHON-WHEEL", &words);
    of(&script.data("scripts/tool", "#!/bin/sh\n").file("a.so", "INPUT(libc.so.6)"), debian)
        .dmoci(&["build"])
        .ok();
}

#[test]
fn the_projects_own_wheel() {
    let Some(project) = crate::own_wheel::project() else { return };
    edit(
        &project,
        "tools/backend.py",
        "Root-Is-Purelib: true\\nTag: py3-none-any",
        "Root-Is-Purelib: false\\nTag: cp313-cp313-linux_x86_64",
    );
    edit(&project, "tools/backend.py", "-py3-none-any.whl", "-cp313-cp313-linux_x86_64.whl");
    project.write("src/tide_table/fast.so", linked(WIDE, &["libc.so.6"], &["GLIBC_2.39"]));
    let python = crate::own_wheel::PYTHON;
    for (libc, exit) in [("glibc-2.38", 2), ("musl-1.2", 2), ("glibc-2.39", 0)] {
        layers(&project, &format!("[[layer]]\nname = \"app\"\nwheel = {{ {python}, libc = \"{libc}\" }}\n"));
        let run = project.dmoci(&["build", "--platform", "linux/amd64"]).exits(exit);
        let words = ["E-PYTHON-WHEEL", "tide_table/fast.so needs ", "auditwheel", "--python"];
        assert!(exit == 0 || words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    }
}

#[test]
fn libraries_that_are_nowhere() {
    let banner = "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n";
    let all = ["libc.so.6", "libm.so.6", "libstdc++.so.6", "libz.so.1", "libown-1a2b.so.3", "libcuda.so.1"];
    let wheel = native("cp312-cp312-manylinux_2_17_x86_64", &all, &["GLIBC_2.17"]);
    let wheel = wheel.file("a.libs/libown-1a2b.so.3", linked(WIDE, &["libc.so.6"], &[]));
    let os = "[[layer]]\nname = \"os\"\ncopy = [{ from = \"os/\", to = \"/\" }]\n";
    let entry = format!(
        "[[layer]]\nname = \"deps\"\nwheel = {{ path = \"wheels/{}\", venv = \"/opt/v\" }}\n",
        wheel.file_name()
    );
    let project = project(&image_spec(&format!("{os}{entry}")), &[wheel]);
    for (path, bytes) in [
        ("os/usr/bin/python3.12", elf(62, "/lib/ld.so", "3.12.4")),
        ("os/lib/ld.so", elf(62, "", "")),
        ("os/lib/libc.so.6", elf(62, "", banner)),
    ] {
        project.write(path, bytes);
        fs::set_permissions(project.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let warned = |project: &Project| {
        let run = project.dmoci(&["build"]).ok();
        let lines = run.stderr.lines().filter_map(|line| line.strip_prefix("warning: ")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    let said = |what: &str| {
        let wheel = "a-1.0-cp312-cp312-manylinux_2_17_x86_64.whl";
        format!("dmoci.toml:9: {wheel} needs {what} (for a/fast.cpython-312-x86_64-linux-gnu.so), which")
    };
    assert_eq!(warned(&project), [said("libstdc++.so.6, libz.so.1") + " are nowhere in the image"]);
    project.write("os/usr/lib/libz.so.1.2.13", "");
    std::os::unix::fs::symlink("libz.so.1.2.13", project.path("os/usr/lib/libz.so.1")).unwrap();
    assert_eq!(warned(&project), [said("libstdc++.so.6") + " is nowhere in the image"]);
    // From whatever layer, the topmost too.
    project.write("late/libstdc++.so.6", "");
    let late = "[[layer]]\nname = \"late\"\ncopy = [{ from = \"late/\", to = \"/usr/lib\" }]\n";
    project.write("dmoci.toml", image_spec(&format!("{os}{entry}{late}")));
    assert_eq!(warned(&project), [""; 0]);
    // A Python that is in no layer has its libraries elsewhere.
    let elsewhere = spec("lock = \"x\"").replace("python = { lock = \"x\" }", "");
    let entry = entry.replace("venv = \"/opt/v\"", SAID);
    project.write("dmoci.toml", elsewhere.split("[[layer]]").next().unwrap().to_owned() + &entry);
    assert_eq!(warned(&project), [""; 0]);
}
