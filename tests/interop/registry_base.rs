//! A base that skopeo pushed, an image that dmoci builds on it and pushes, and those who read it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dmoci_layers::Digest;
use serde_json::Value;

use crate::registries::{PEERS, Registry};
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
