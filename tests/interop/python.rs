//! What is found out about the Python of an image.

use std::fs;
use std::process::Command;

use crate::applications::unpacked;
use crate::support::debian;
use crate::support::wheel::Wheel;
use crate::support::{Place, command, have, run, said};

/// dmoci with downloads that are kept between runs.
fn dmoci() -> Command {
    let mut dmoci = crate::support::dmoci();
    dmoci.env("XDG_CACHE_HOME", debian::cache());
    dmoci
}

/// The C library is told by what a real musl says of itself. There is no Python of musl here: a program that is loaded with it
/// stands for one.
#[test]
fn musl_is_found() {
    if !have(&["amd64", "apt-get", "dpkg-deb"]) {
        return;
    }
    let place = Place::new();
    let (project, package) = (place.path("project"), place.path("package"));
    fs::create_dir_all(project.join("wheels")).unwrap();
    fs::create_dir(&package).unwrap();
    // As root apt-get downloads as another user, who may write here.
    run(command("chmod").arg("a+rwx").arg(&package));
    run(command("apt-get").args(["download", "musl"]).current_dir(&package));
    let file = fs::read_dir(&package).unwrap().next().unwrap().unwrap().path();
    run(command("dpkg-deb").arg("--extract").arg(file).arg(project.join("os")));
    let mut python = vec![0; 120];
    python[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let loader = b"/lib/ld-musl-x86_64.so.1\0";
    (python[18], python[32], python[54], python[56], python[64], python[72]) = (62, 64, 56, 1, 3, 120);
    python[96] = u8::try_from(loader.len()).unwrap();
    python.extend(loader);
    python.extend(b"3.12.4\0");
    fs::write(project.join("os/usr/bin/python3.12"), python).unwrap();
    std::os::unix::fs::symlink("python3.12", project.join("os/usr/bin/python3")).unwrap();

    let write = |tag: &str| {
        let wheel = Wheel::new("a", "1.0").tag(tag).file("a.py", tag);
        fs::write(project.join("wheels").join(wheel.file_name()), wheel.bytes()).unwrap();
        let hash = dmoci_layers::Digest::sha256(&wheel.bytes());
        let lock = format!("./wheels/{} --hash=sha256:{}\n", wheel.file_name(), hash.hex());
        fs::write(project.join("requirements.txt"), lock).unwrap();
    };
    let spec = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"os\"\n\
                copy = [{ from = \"os/\", to = \"/\" }]\n[[layer]]\nname = \"dependencies\"\n\
                python = { lock = \"requirements.txt\", venv = \"/opt/v\" }\n";
    fs::write(project.join("dmoci.toml"), spec).unwrap();
    write("cp312-cp312-manylinux_2_17_x86_64");
    let said = said(dmoci().arg("build").arg("-C").arg(&project));
    assert_eq!(said.code, Some(2), "{said:?}");
    for word in
        ["E-PYTHON-WHEEL", "CPython 3.12.4 on x86_64 with musl-1.2", "musllinux_1_2_x86_64", "manylinux_2_17"]
    {
        assert!(said.err.contains(word), "no {word:?} in {}", said.err);
    }
    write("cp312-cp312-musllinux_1_2_x86_64");
    run(dmoci().arg("build").arg("-C").arg(&project));
    let site = "opt/v/lib/python3.12/site-packages";
    unpacked(&project, &place.path("root"));
    assert!(place.path("root").join(site).join("a.py").is_file());
}
