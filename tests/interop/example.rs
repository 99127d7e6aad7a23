//! The example of the README's tour: both platforms of it, chosen by skopeo and run.

use std::path::Path;

use crate::support::{Place, command, dmoci, have, run};

#[test]
fn the_example_runs_on_both_platforms() {
    if !have(&["amd64", "skopeo", "umoci", "qemu-aarch64"]) {
        return;
    }
    let place = Place::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello");
    let dist = place.path("dist");
    run(dmoci().arg("build").arg("-C").arg(&fixture).arg("-o").arg(&dist));
    let archive = place.path("all.tar");
    run(dmoci()
        .arg("export")
        .arg(dist.join("image"))
        .arg("-o")
        .arg(format!("oci-archive:{}", archive.display())));
    for tag in ["1.0.0", "latest"] {
        for (platform, runner) in [("amd64", &[][..]), ("arm64", &["qemu-aarch64", "-L"])] {
            for source in [
                format!("oci:{}:{tag}", dist.join("image").display()),
                format!("oci-archive:{}:{tag}", archive.display()),
            ] {
                let place = Place::new();
                let one = format!("oci:{}:one", place.path("one").display());
                run(command("skopeo").args(["--override-arch", platform, "copy", &source, &one]));
                let bundle = place.path("bundle");
                let rootless = if rustix::process::getuid().is_root() { &[][..] } else { &["--rootless"] };
                run(command("umoci")
                    .arg("unpack")
                    .args(rootless)
                    .arg("--image")
                    .arg(format!("{}:one", place.path("one").display()))
                    .arg(&bundle));
                let root = bundle.join("rootfs");
                let output = if let [runner, option] = runner {
                    run(command(runner).arg(option).arg(&root).arg(root.join("usr/bin/hello")))
                } else if rustix::process::getuid().is_root() {
                    run(command("chroot").arg(&root).arg("/usr/local/bin/hello"))
                } else {
                    continue;
                };
                assert_eq!(
                    output,
                    format!("hello from linux/{platform}\nThis is hello 1.0.0.\n"),
                    "{source}"
                );
                assert!(root.join("usr/share/hello/verses/two.txt").is_file());
                assert!(!root.join("usr/share/hello/verses/three.draft").exists());
            }
        }
    }
}
