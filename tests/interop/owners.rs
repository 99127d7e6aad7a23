//! Built by an ordinary user, from files that belong to that user: owners in the image are those of the spec.

use std::fs;

use crate::support::podman::{self, Podman};
use crate::support::{Place, command, debian, exits, have, path_of, run};

/// Runs a command as `nobody`.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    let mut command = command(path_of("setpriv").unwrap());
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

#[test]
fn an_unpacked_operating_system_copied_by_an_ordinary_user() {
    if !have(debian::PEERS) || !have(podman::PEERS) || !have(&["setpriv", "umoci"]) {
        return;
    }
    let place = Place::new();
    let project = place.path("project");
    fs::create_dir_all(project.join("os")).unwrap();
    debian::write_app(&project);
    fs::write(project.join("dmoci.toml"), debian::spec(r#"copy = [{ from = ["os/"], to = "/" }]"#)).unwrap();
    // `nobody` may not look into the cache: the tar comes through standard input.
    run(command("chown").args(["-R", "65534:65534"]).arg(&project));
    let tar = fs::File::open(debian::root_file_system()).unwrap();
    run(as_nobody("tar").args(["-x", "--exclude=./dev/*", "-C"]).arg(project.join("os")).stdin(tar));

    run(as_nobody(place.program()).arg("build").arg("-C").arg(&project));

    let image = project.join("dist/image");
    let bundle = place.path("bundle");
    run(command("umoci").args(["unpack", "--image"]).arg(format!("{}:1.0", image.display())).arg(&bundle));
    let strangers = run(command("find")
        .arg(bundle.join("rootfs"))
        .args(["(", "!", "-uid", "0", "-o", "!", "-gid"])
        .args(["0", ")", "-printf", "%P %U:%G %m\n"]));
    assert_eq!(strangers, "opt/app/var 10001:10001 750\n");

    let archive = place.path("image.tar");
    let output = format!("oci-archive:{}", archive.display());
    run(as_nobody(place.program())
        .current_dir(&project)
        .args(["export", "dist/image", "-o"])
        .arg(format!("oci-archive:{}", project.join("dist/oci.tar").display())));
    run(crate::support::dmoci().arg("export").arg(&image).arg("-o").arg(output));
    assert!(
        fs::read(&archive).unwrap() == fs::read(project.join("dist/oci.tar")).unwrap(),
        "the user who exports shows in the archive"
    );
    let podman = Podman::new();
    run(podman.podman().args(["load", "--input"]).arg(&archive));
    // `copy` takes no setuid bit.
    assert_eq!(podman.run(debian::NAME), debian::OUTPUT.replace("0:0 4755", "0:0 755"));
}

#[test]
fn a_file_that_an_ordinary_user_may_not_read() {
    if !have(&["root", "setpriv"]) {
        return;
    }
    let place = Place::new();
    let project = place.path("project");
    fs::create_dir_all(project.join("files")).unwrap();
    fs::write(project.join("files/open"), "open").unwrap();
    fs::write(project.join("files/secret"), "secret").unwrap();
    run(command("chmod").args(["0600"]).arg(project.join("files/secret")));
    let spec = "schema = 1\n[image]\nname = \"registry.example/secret\"\nplatforms = [\"linux/amd64\"]\n\n\
                [[layer]]\nname = \"files\"\ncopy = [{ from = [\"files/\"], to = \"/srv\" }]\n";
    fs::write(project.join("dmoci.toml"), spec).unwrap();
    let out = place.path("out");
    fs::create_dir(&out).unwrap();
    run(command("chown").arg("65534:65534").arg(&out));

    let mut build = as_nobody(place.program());
    build.arg("build").arg("-C").arg(&project).arg("-o").arg(out.join("dist"));
    let said = exits(&mut build, 6);
    for word in ["error[E-SOURCE-READ]", "files/secret", "Permission denied", "dmoci.toml:8", "help:"] {
        assert!(said.err.contains(word), "{word:?} is missing:\n{}", said.err);
    }
    let left = run(command("find").arg(&out).args(["-type", "f", "-path", "*sha256*"]));
    assert_eq!(left, "");

    // An output that this user may not write.
    let mut build = as_nobody(place.program());
    build.arg("build").arg("-C").arg(&project).arg("-o").arg(place.path("not-allowed"));
    run(command("chmod").args(["0644"]).arg(project.join("files/secret")));
    let said = exits(&mut build, 6);
    for word in ["not-allowed", "Permission denied"] {
        assert!(said.err.contains(word), "{word:?} is missing:\n{}", said.err);
    }
}
