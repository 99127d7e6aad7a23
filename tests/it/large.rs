//! What takes minutes: run with `DMOCI_HEAVY=1`, as `.ci/full` does.

use std::fs::File;
use std::process::Command;

use crate::support::{Project, Run};

#[test]
fn a_file_over_8_gib() {
    if std::env::var_os("DMOCI_HEAVY").is_none() {
        println!("skipped: takes minutes; DMOCI_HEAVY=1 runs it");
        return;
    }
    let size = (8u64 << 30) + 1;
    let project = Project::with_spec(
        "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n[[layer]]\nname = \"a\"\n\
         copy = [{ from = [\"big\"], to = \"/big\" }]\n",
    );
    File::create(project.path("big")).unwrap().set_len(size).unwrap();
    project.dmoci(&["build"]).ok();
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
    let files = project.dmoci(&["inspect", "--files", "dist/image"]).ok().stdout;
    assert!(files.contains(&size.to_string()), "{files}");
    // What GNU tar reads of it.
    let blob = crate::support::layers::manifest(&project.path("dist"))["layers"][0]["digest"].clone();
    let path = project.path("dist/image/blobs/sha256").join(&blob.as_str().unwrap()[7..]);
    let listing = Run::of(Command::new("tar").arg("-tvzf").arg(path)).ok().stdout;
    assert!(listing.contains(&format!(" {size} ")) && listing.contains(" big"), "{listing}");
}
