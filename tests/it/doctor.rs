//! `dmoci doctor`.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Project, Run, dmoci};

#[test]
fn facts_for_programs() {
    let project = Project::new();
    let run = project.dmoci(&["doctor", "--json"]).ok();
    let facts: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(facts["dmoci"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(facts["dmoci"]["rules"], dmoci_layers::RULES);
    assert_eq!((&facts["output"]["path"], &facts["output"]["writable"]), (&"dist".into(), &true.into()));
    assert!(facts["cores"].as_u64().unwrap() >= 1);
    assert!(facts["fixes"].is_array());
    assert_eq!(std::fs::read_dir(project.root()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn what_is_missing_and_how_to_get_it() {
    let project = Project::new()
        .file("bin/podman", "#!/bin/sh\necho podman version 9.9; echo more\n")
        .file("bin/umoci", "#!/bin/sh\necho no such library >&2; exit 127\n")
        .file("bin/buildah", "");
    for (name, mode) in [("podman", 0o755), ("umoci", 0o755), ("buildah", 0o644)] {
        let path = project.path(&format!("bin/{name}"));
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let run =
        Run::of(dmoci().arg("doctor").current_dir(project.root()).env("PATH", project.path("bin"))).ok();
    assert!(run.stdout.contains("          podman  podman version 9.9\n"), "{run:?}");
    assert!(run.stdout.contains("             git  not found\n                  → install git"), "{run:?}");
    assert!(
        run.stdout.contains("          skopeo  not found\n                  → to copy images"),
        "{run:?}"
    );
    let broken =
        "           umoci  found, but `umoci --version` fails with exit status: 127: no such library\n";
    assert!(run.stdout.contains(broken), "{run:?}");
    assert!(
        run.stdout.contains("         buildah  found, but `buildah --version` cannot be run: "),
        "{run:?}"
    );
    let missing = run.stdout.matches("  not found\n                  → ").count();
    assert_eq!((missing, run.stdout.matches("not found").count()), (5, 5), "{run:?}");
}

#[test]
fn a_place_that_cannot_be_written() {
    let run = Project::new().dmoci(&["doctor", "--output", "/proc/dist"]).exits(6);
    assert!(run.stdout.contains("output  /proc/dist cannot be written: "), "{run:?}");
    assert!(run.stdout.contains("or choose another with -o\n"), "{run:?}");
}
