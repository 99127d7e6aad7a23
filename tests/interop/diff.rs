//! `dmoci diff` on images that other tools made of ours.

use std::fs;

use crate::support::{Place, command, dmoci, exits, have, run};

/// A built image of one platform in `dist/image`, under the tag 1.
fn built(place: &Place) {
    let spec = "schema = 1\n[image]\nname = \"registry.example/x\"\ntags = [\"1\"]\nplatforms = [\"linux/amd64\"]\n\
        [[layer]]\nname = \"l\"\nfile = [{ path = \"/etc/a\", content = \"a\" }, { path = \"/etc-b\", content = \"b\" }]\n";
    fs::write(place.path("dmoci.toml"), spec).unwrap();
    run(dmoci().arg("build").current_dir(place));
}

#[test]
fn skopeo_recompresses() {
    if !have(&["skopeo"]) {
        return;
    }
    let place = Place::new();
    built(&place);
    let mut copy = command("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy", "--dest-compress-format", "zstd"]);
    run(copy.args(["oci:dist/image:1", "oci:other:1"]).current_dir(&place));
    let said = exits(dmoci().args(["diff", "dist/image", "oci:other:1"]).current_dir(&place), 1);
    assert!(said.out.contains("layer 1 'l' of linux/amd64: same content, recompressed\n"), "{}", said.out);
    assert!(said.out.ends_with("SAME CONTENT, RECOMPRESSED: dist/image and oci:other:1\n"), "{}", said.out);
    // Copied as it is, it is the same, in whatever form of store.
    let mut copy = command("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy", "oci:dist/image:1", "oci-archive:same.tar:1"]);
    run(copy.current_dir(&place));
    let same = run(dmoci().args(["diff", "dist/image", "same.tar"]).current_dir(&place));
    assert_eq!(same, "THE SAME: dist/image and same.tar\n");
}

#[test]
fn umoci_inserts() {
    if !have(&["root", "skopeo", "umoci"]) {
        return;
    }
    let place = Place::new();
    built(&place);
    let mut copy = command("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy", "oci:dist/image:1", "oci:other:1"]);
    run(copy.current_dir(&place));
    fs::write(place.path("new"), "new").unwrap();
    run(command("umoci").args(["insert", "--image", "other:1", "new", "/opt/new"]).current_dir(&place));
    let said = exits(dmoci().args(["diff", "dist/image", "oci:other:1"]).current_dir(&place), 1);
    assert!(said.out.contains("layer 2 of linux/amd64: only right\n"), "{}", said.out);
    assert!(said.out.contains("config of linux/amd64\n") && said.out.contains("/history/1"), "{}", said.out);
    assert!(!said.out.contains("layer 1"), "{}", said.out);
}
