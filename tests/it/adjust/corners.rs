//! What `adjust` meets rarely: attributes, names across layers, kinds that a layer cannot hold, wheels.

use dmoci_layers::Digest;
use serde_json::json;

use crate::support::Project;
use crate::support::layers::{image_spec, listing, tar_of};
use crate::support::wheel::Wheel;

/// A tar with members of these kinds: path, type, content or link name.
fn tar(members: &[(&str, tar::EntryType, &str)], attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in members {
        if !attributes.is_empty() {
            let named: Vec<(String, &[u8])> =
                attributes.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value)).collect();
            builder.append_pax_extensions(named.iter().map(|(name, value)| (name.as_str(), *value))).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        let content = match kind {
            tar::EntryType::Regular => content.as_bytes(),
            tar::EntryType::Link => {
                header.set_link_name(content).unwrap();
                b""
            }
            _ => b"",
        };
        header.set_size(content.len() as u64);
        header.set_path(path).unwrap();
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An archive as of `docker save`, with these layers.
fn docker_archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|tar| Digest::sha256(tar).to_string()).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string();
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let list = json!([{ "Config": "config.json", "RepoTags": ["base:1"], "Layers": names }]).to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let all = [("config.json", config.as_bytes()), ("manifest.json", list.as_bytes())];
    let layers = names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice));
    for (name, bytes) in all.into_iter().chain(layers) {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn on_base(layers: &[Vec<u8>], layer: &str) -> Project {
    let spec = format!("base = \"docker-archive:base.tar\"\n[[layer]]\nname = \"above\"\n{layer}\n");
    let project = Project::with_spec(&image_spec(&spec));
    project.write("base.tar", docker_archive(layers));
    project
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Link;

/// The attributes of an entry of the layer, as its PAX header has them.
fn attributes(project: &Project, path: &str) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar_of(&project.path("dist"), "above");
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path_bytes() == path.as_bytes()).unwrap();
    let Some(extensions) = entry.pax_extensions().unwrap() else { return Vec::new() };
    extensions
        .map(Result::unwrap)
        .map(|extension| (extension.key().unwrap().to_owned(), extension.value_bytes().to_vec()))
        .collect()
}

#[test]
fn extended_attributes_stay() {
    let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let below = tar(
        &[("ping", FILE, "ping"), ("plain", FILE, "plain")],
        &[("security.capability", &capability), ("user.note", b"a=b")],
    );
    let project = on_base(&[below], r#"adjust = [{ path = ["/ping", "/plain"], mode = "0755" }]"#);
    project.dmoci(&["build"]).ok();
    for path in ["ping", "plain"] {
        let expected = [
            ("SCHILY.xattr.security.capability".to_owned(), capability.to_vec()),
            ("SCHILY.xattr.user.note".to_owned(), b"a=b".to_vec()),
        ];
        assert_eq!(attributes(&project, path), expected);
    }
}

/// A hard link to a file that only a lower layer gives is a file of its own with that content.
#[test]
fn names_across_layers_of_the_base() {
    let lower = tar(&[("one", FILE, "linked")], &[]);
    let upper = tar(&[("two", LINK, "one")], &[]);
    let project = on_base(&[lower, upper], r#"adjust = [{ path = ["/one", "/two"], owner = "5" }]"#);
    project.dmoci(&["build"]).ok();
    let listed = listing(&project.path("dist"), "above");
    assert!(
        listed.contains("- 0644 5:5 one linked")
            && (listed.contains("- 0644 5:5 two linked") || listed.contains("h 0644 5:5 two one")),
        "{listed}"
    );
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
}

#[test]
fn a_fifo_of_the_base() {
    let below = tar(&[("pipe", tar::EntryType::Fifo, ""), ("file", FILE, "x")], &[]);
    let project = on_base(std::slice::from_ref(&below), r#"adjust = [{ path = "/pipe", mode = "0600" }]"#);
    let run = project.dmoci(&["build"]).exits(2);
    for word in ["/pipe", "dmoci.toml:", "`adjust` has no `exclude`"] {
        assert!(run.stderr.contains(word), "{word:?} is not in\n{}", run.stderr);
    }
    assert!(!project.path("dist/image").exists());
    // It is in nobody's way otherwise.
    let project = on_base(&[below], r#"adjust = [{ path = "/file", mode = "0600" }]"#);
    project.dmoci(&["build"]).ok();
    assert_eq!(listing(&project.path("dist"), "above"), "- 0600 0:0 file x");
}

#[test]
fn files_of_a_wheel() {
    let wheel = Wheel::new("acme", "1.0").file("acme/__init__.py", "x = 1\n");
    let spec = |adjust: &str| {
        image_spec(&format!(
            r#"[[layer]]
name = "below"
wheel = [{{ path = "{}", venv = "/opt/acme", interpreter = "/usr/bin/python3", python-version = "3.13.5" }}]
[[layer]]
name = "above"
{adjust}
"#,
            wheel.file_name()
        ))
    };
    let project = Project::with_spec(&spec(
        r#"adjust = [{ path = "/opt/acme/lib/python3.13/site-packages/acme/__init__.py", mode = "0600" }]"#,
    ));
    project.write(&wheel.file_name(), wheel.bytes());
    project.dmoci(&["build"]).ok();
    let listed = listing(&project.path("dist"), "above");
    assert!(
        listed.ends_with("- 0600 0:0 opt/acme/lib/python3.13/site-packages/acme/__init__.py x = 1\\n"),
        "{listed}"
    );
    project.dmoci(&["verify", "--integrity-only", "dist/image"]).ok();
}
