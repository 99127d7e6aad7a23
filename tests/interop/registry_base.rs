//! A base that skopeo pushed, an image that dmoci builds on it and pushes, and those who read it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dmoci_layers::Digest;
use serde_json::Value;

use crate::registries::{PEERS, Registry};
use crate::support::debian;
use crate::support::podman::{self, Podman};
use crate::support::{Place, command, dmoci, exits, have, run};

/// A program that says what is in a file.
fn base(place: &Place) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello");
    run(dmoci().arg("build").arg("-C").arg(fixture).arg("-o").arg(place.path("base")));
    format!("oci:{}:1.0.0", place.path("base/image").display())
}

fn spec(host: &str, repository: &str) -> String {
    format!(
        "schema = 1\n[image]\nname = \"{host}/acme/app\"\ntags = [\"1\", \"latest\"]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         base = \"docker://{host}/{repository}\"\n\
         [[layer]]\nname = \"app\"\nfile = [{{ path = \"/etc/hello/message\", content = \"This is above, ${{platform.oci}}.\\n\" }}]\n"
    )
}

#[test]
fn a_base_that_skopeo_pushed() {
    if !have(PEERS) || !have(podman::PEERS) {
        return;
    }
    let (registry, place) = (Registry::start(), Place::new());
    let source = base(&place);
    for (tag, format) in [("oci", "oci"), ("docker", "v2s2")] {
        let subject = registry.subject(&format!("acme/base:{tag}"));
        let copy = ["copy", "--all", "--format", format, "--dest-tls-verify=false", &source, &subject];
        run(&mut registry.skopeo(&copy));
        fs::write(place.path("dmoci.toml"), spec(&registry.host, &format!("acme/base:{tag}"))).unwrap();
        let output = place.path(&format!("dist-{tag}"));
        let mut build = registry.dmoci("build");
        build.arg("--push").arg("-C").arg(place.as_ref()).arg("-o").arg(&output);
        let pushed = exits(&mut build, 0);
        let digests: Value = serde_json::from_slice(&fs::read(output.join("digests.json")).unwrap()).unwrap();
        let digest = digests["image"]["digest"].as_str().unwrap();
        assert!(pushed.out.contains(digest), "{}", pushed.out);
        // The layers of the base were taken over: they are not here.
        let mut taken = BTreeSet::new();
        let platforms = digests["platforms"].as_array().unwrap();
        let layers = platforms.iter().flat_map(|platform| platform["layers"].as_array().unwrap());
        taken.extend(layers.filter(|layer| layer["base"] == true).map(|layer| layer["digest"].to_string()));
        assert!(
            tag == "docker" || pushed.err.contains(&format!("{} blobs taken over", taken.len())),
            "{}",
            pushed.err
        );
        for layer in digests["platforms"][0]["layers"].as_array().unwrap() {
            let path = layer["digest"].as_str().unwrap().replace(':', "/");
            assert_eq!(output.join("image/blobs").join(path).exists(), layer["base"] == false);
        }
        // skopeo and crane find it whole, with both tags.
        let subject = registry.subject("acme/app:latest");
        let raw = run(&mut registry.skopeo(&["inspect", "--tls-verify=false", "--raw", &subject]));
        assert_eq!(Digest::sha256(raw.as_bytes()).to_string(), digest);
        let copy = format!("oci:{}:1", place.path(&format!("copy-{tag}")).display());
        let tagged = registry.subject("acme/app:1");
        run(&mut registry.skopeo(&["copy", "--all", "--src-tls-verify=false", &tagged, &copy]));
        let mut crane = command("crane");
        run(crane.args(["--insecure", "validate", "--remote"]).arg(subject.trim_start_matches("docker://")));
        run(registry.dmoci("verify").arg(registry.subject(&format!("acme/app@{digest}"))));
        let (podman, name) = (Podman::new(), subject.trim_start_matches("docker://"));
        run(podman.podman().args(["pull", "--quiet", "--tls-verify=false", name]));
        let said = podman.run(name);
        assert!(said.contains("This is above, linux/"), "{said}");
        fs::remove_file(place.path("dmoci.lock")).unwrap();
    }
}

/// An application on a real Python: what `lock` notes of the base is little, and a build on a machine that knows nothing else
/// fetches none of its layers.
#[test]
fn an_application_on_a_debian_with_python() {
    if !have(PEERS) || !have(podman::PEERS) || !have(debian::PEERS) {
        return;
    }
    let (registry, place) = (Registry::start(), Place::new());
    debian::write_base_with_python(place.as_ref());
    let source = format!("oci:{}:3", place.path("base-project/dist/image").display());
    let subject = registry.subject("debian/python:3");
    run(&mut registry.skopeo(&["copy", "--all", "--dest-tls-verify=false", &source, &subject]));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webapp");
    run(command("cp").arg("-r").arg(fixture).arg(place.path("app")));
    let spec = fs::read_to_string(place.path("app/dmoci.toml")).unwrap();
    let spec = spec.replace("registry.example/almanac", &format!("{}/acme/almanac", registry.host));
    let spec =
        spec.replace(", \"linux/arm64\"", "").replace("base = \"scratch\"", &format!("base = \"{subject}\""));
    let spec =
        spec.replace(", interpreter = \"${vars.interpreter}\", python-version = \"${vars.python}\"", "");
    fs::write(place.path("app/dmoci.toml"), spec).unwrap();
    run(registry.dmoci("lock").arg("-C").arg(place.path("app")));
    let lock = fs::read_to_string(place.path("app/dmoci.lock")).unwrap();
    let facts = lock.lines().filter(|line| line.starts_with("    \"/")).count();
    assert!((5..80).contains(&facts), "{lock}");
    // Another machine.
    fs::remove_dir_all(registry.place.path("cache")).unwrap();
    let mut build = registry.dmoci("build");
    let pushed = exits(build.args(["--locked", "--push"]).arg("-C").arg(place.path("app")), 0);
    assert!(pushed.err.contains("1 blob taken over"), "{}", pushed.err);
    let digests: Value =
        serde_json::from_slice(&fs::read(place.path("app/dist/digests.json")).unwrap()).unwrap();
    let hex = |layer: &Value| layer["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let layers = digests["platforms"][0]["layers"].as_array().unwrap();
    let below: Vec<String> = layers.iter().filter(|layer| layer["base"] == true).map(hex).collect();
    for layer in &below {
        for place in
            [registry.place.path("cache/dmoci/downloads/sha256"), place.path("app/dist/image/blobs/sha256")]
        {
            assert!(!place.join(layer).exists(), "{layer} in {}", place.display());
        }
    }
    // From the layers the same is made.
    fs::remove_file(place.path("app/dmoci.lock")).unwrap();
    run(registry.dmoci("build").arg("-C").arg(place.path("app")).arg("-o").arg(place.path("whole")));
    assert_eq!(
        fs::read(place.path("whole/digests.json")).unwrap(),
        fs::read(place.path("app/dist/digests.json")).unwrap()
    );
    assert!(below.iter().all(|layer| place.path("whole/image/blobs/sha256").join(layer).exists()));
    let (podman, name) = (Podman::new(), format!("{}/acme/almanac:1.0.0", registry.host));
    run(podman.podman().args(["pull", "--quiet", "--tls-verify=false", &name]));
    let limits = ["--ulimit=nofile=1000:1000", "--ulimit=nproc=1000:1000", "--network=none"];
    let python =
        ["--entrypoint=/opt/almanac/bin/python", &name, "-c", "import almanac, sys; print(sys.prefix)"];
    let said = run(podman.podman().args(["run", "--rm"]).args(limits).args(python));
    assert_eq!(said.trim(), "/opt/almanac");
}
