//! The project that is built under many circumstances.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// Writes a project with a bit of everything below `folder`: many files in many directories, links, modes, long and strange
/// names, an archive. The same content every time, in an order of its own.
pub(crate) fn write(folder: &Path) {
    for i in 0..300 {
        // Not ascending, so that a builder that trusts the file system's order shows it.
        let n = (i * 7919) % 300;
        let file = folder.join(format!("app/part-{}/file {n}.txt", n % 7));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("file {n}\n").repeat(n * 13 % 900)).unwrap();
        if n % 5 == 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    // Several blocks of compressed and of tar bytes.
    let noise = |n: u32| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes();
    fs::write(folder.join("app/noise"), (0..1_500_000).flat_map(noise).collect::<Vec<u8>>()).unwrap();
    fs::write(folder.join(format!("app/{}", "long".repeat(60))), "a long name").unwrap();
    fs::write(folder.join("app/Größe ☃"), "not ASCII").unwrap();
    fs::create_dir_all(folder.join("app/empty")).unwrap();
    fs::write(folder.join("app/UPPER"), "case").unwrap();
    symlink("part-1/file 1.txt", folder.join("app/link")).unwrap();
    symlink("/nowhere/at/all", folder.join("app/broken")).unwrap();
    fs::hard_link(folder.join("app/UPPER"), folder.join("app/hard")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=7", "--group=8", "--mtime=@1", "-cf", "app.tar", "app"]);
    run(tar.current_dir(folder));
    fs::write(folder.join("dmoci.toml"), SPEC).unwrap();
}

const SPEC: &str = r#"schema = 1

[vars]
version = "3.1"

[image]
name = "registry.example/circumstances"
tags = ["${version}"]
platforms = ["linux/amd64", "linux/arm64/v8"]
entrypoint = ["/opt/app/UPPER"]
env = { LANG = "C.UTF-8" }
labels = { "org.opencontainers.image.title" = "circumstances" }
users = [{ name = "app", uid = 10001, gid = 10001 }]

[[layer]]
name = "copied"
copy = [{ from = ["app/"], to = "/opt/app/", owner = "10001:10001" }]
file = [{ path = "/etc/platform", content = "${platform.oci} ${version}\n" }]

[[layer]]
name = "unpacked"
archive = [{ path = "app.tar", to = "/srv" }]
directory = [{ path = "/srv/app/empty/more", mode = "1777" }]
symlink = [{ path = "/srv/current", target = "app" }]
"#;

/// The digests of what a build wrote: every file below its image's folder, and the list of digests.
pub(crate) fn digests(dist: &Path) -> String {
    let mut find = Command::new("sh");
    find.arg("-c").arg("find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum");
    run(find.current_dir(dist))
}

/// A copy of a project, with modes and links, owned by whoever runs this.
pub(crate) fn copied(from: &Path, to: &Path) -> PathBuf {
    run(Command::new("cp").args(["-r", "--preserve=mode,links"]).arg(from).arg(to));
    to.to_owned()
}
