//! Eight builds that push to one repository at once.

use std::collections::BTreeSet;
use std::fs;

use super::{PEERS, Registry};
use crate::support::{Place, command, have, run};

/// Each has a layer of its own and one that all have; they fight for two tags. Every image is whole, and so is what the tags name.
#[test]
fn eight_builds_push_to_one_repository() {
    if !have(PEERS) {
        return;
    }
    for registry in [Registry::start(), Registry::closed()] {
        let place = Place::new();
        let digests: Vec<String> = std::thread::scope(|scope| {
            let one = |number: usize| {
                let (project, registry) = (place.path(&format!("project-{number}")), &registry);
                move || {
                    fs::create_dir_all(&project).unwrap();
                    let spec = format!(
                        "schema = 1\n[image]\nname = \"{}/app\"\ntags = [\"own-{number}\", \"both-{}\"]\n\
                         platforms = [\"linux/amd64\", \"linux/arm64\"]\n\
                         [[layer]]\nname = \"all\"\nfile = [{{ path = \"/all\", content = \"{}\" }}]\n\
                         [[layer]]\nname = \"own\"\nfile = [{{ path = \"/own\", content = \"{number}\" }}]\n",
                        registry.host,
                        number % 2,
                        "shared ".repeat(10_000),
                    );
                    fs::write(project.join("dmoci.toml"), spec).unwrap();
                    let mut build = registry.dmoci("build");
                    // A machine each.
                    build.env("XDG_CACHE_HOME", project.join("cache")).current_dir(&project).arg("--push");
                    let said = run(&mut build);
                    let image = said.lines().find(|line| line.starts_with("image")).unwrap().to_owned();
                    image.split_whitespace().last().unwrap().to_owned()
                }
            };
            let all: Vec<_> = (0..8).map(|number| scope.spawn(one(number))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), 8);
        let tags = run(registry.dmoci("tags").arg(registry.subject("app")));
        assert_eq!(tags.lines().count(), 10, "{tags}");
        for tag in tags.lines() {
            let subject = registry.subject(&format!("app:{tag}"));
            run(registry.dmoci("verify").args(["--integrity-only", &subject]));
            let raw = run(registry
                .skopeo(&["inspect", "--raw", "--tls-verify=false", "--creds", "user:secret-word"])
                .arg(&subject));
            let digest = dmoci_layers::Digest::sha256(raw.as_bytes()).to_string();
            assert!(digests.contains(&digest), "{tag} names {digest}");
        }
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQtd29yZA=="}}}}}}"#, registry.host);
        fs::write(place.path("config.json"), config).unwrap();
        for digest in &digests {
            let mut crane = command("crane");
            crane.env("DOCKER_CONFIG", place.as_ref()).args(["--insecure", "validate", "--remote"]);
            run(crane.arg(format!("{}/app@{digest}", registry.host)));
        }
    }
}
