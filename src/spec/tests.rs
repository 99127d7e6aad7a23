//! The whole way from text to target. Messages are tested in `tests/it/spec.rs`, one file for each.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::target::*;
use super::*;

/// Every key that there is, none with its default.
const FULL: &str = include_str!("full.toml");

fn read(text: &str) -> Spec {
    parse(Path::new("dmoci.toml"), text).unwrap()
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn resolve(text: &str, overrides: &Overrides) -> Target {
    read(text).target(&platform("linux/amd64"), overrides).unwrap()
}

fn codes(error: SpecError) -> Vec<&'static str> {
    match error {
        SpecError::Problems(all) => all.problems.iter().map(|problem| problem.code).collect(),
        other => panic!("{other}"),
    }
}

fn with_layer(layer: &str) -> String {
    format!(
        "schema = 1\n[vars]\na = \"1\"\n[image]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         users = [{{ name = \"km\", uid = 10, gid = 20 }}]\n[[layer]]\nname = \"x\"\n{layer}\n"
    )
}

#[test]
fn the_full_example() {
    let spec = read(FULL);
    assert_eq!(
        spec.platforms(),
        [platform("linux/amd64"), platform("linux/arm64"), platform("linux/arm/v7")]
    );
    let target = spec.target(&platform("linux/arm64"), &Overrides::default()).unwrap();
    assert_eq!(target.name.as_ref().unwrap().to_string(), "registry.example/acme/km");
    assert_eq!(target.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["2.5.0", "latest"]);
    assert_eq!(target.version.as_deref(), Some("2.5.0"));
    let config = &target.config;
    assert_eq!(config.ports, ["53/udp", "8000/tcp"]);
    assert_eq!(config.volumes, ["/opt/km/var", "/srv"]);
    assert_eq!(config.workdir.as_deref(), Some("/opt/km"));
    let path = EnvValue(vec![Piece::Text("/opt/km/2.5.0/bin:".into()), Piece::Base("PATH".into())]);
    assert_eq!(
        config.env,
        [
            ("MACHINE".to_owned(), EnvValue(vec![Piece::Text("linux/arm64 arm64 aarch64".into())])),
            ("PATH".to_owned(), path),
            ("PRICE".to_owned(), EnvValue(vec![Piece::Text("5$".into())])),
        ]
    );
    let healthcheck = config.healthcheck.as_ref().unwrap();
    assert_eq!((healthcheck.interval, healthcheck.retries), (Some(Duration::from_secs(90)), Some(4)));
    assert_eq!(target.compression, Compression::Zstd);
    assert_eq!(target.users[0].gid, 10002);
    assert_eq!(target.users[1].home, "/nonexistent");
    let names: Vec<&str> = target.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["files", "os"]);
    let inputs = &target.layers[0].inputs;
    assert!(matches!(
        inputs[..],
        [Input::Copy(_), Input::Copy(_), Input::File(_), Input::Directory(_), Input::Symlink(_)]
    ));
    let Input::Copy(copy) = &inputs[0] else { panic!() };
    assert_eq!(copy.from[1].path.as_path(), Path::new("b.txt"));
    assert_eq!((copy.to.to_string().as_str(), copy.into), ("/opt/km/infra", true));
    assert_eq!((copy.owner, copy.file_mode), (Owner { uid: 10001, gid: 10002 }, Some(0o640)));
    assert_eq!(&FULL[inputs[2].span().clone()], "[[layer.file]]");
    let Input::Archive(archive) = &target.layers[1].inputs[0] else { panic!() };
    let ArchiveSource::Project(source) = &archive.source else { panic!() };
    assert_eq!(source.path.as_path(), Path::new("vendor/engine-aarch64.tar.gz"));
    assert_eq!((archive.devices, archive.strip_components), (Devices::Skip, 1));

    let other = spec.target(&platform("linux/arm/v7"), &Overrides::default()).unwrap();
    assert_eq!(other.layers.len(), 1, "the second layer is for two platforms only");
    assert_eq!(other.layers[0].inputs.len(), 4, "one file is for two platforms only");
}

/// No key may be read and then forgotten: taking any one line of the full example away changes something.
#[test]
fn every_key_matters() {
    let all = |text: &str| -> Result<String, String> {
        let spec = parse(Path::new("x"), text).map_err(|error| format!("{error}"))?;
        let mut shown = String::new();
        let variants: Vec<Spec> = spec.variants().map(|name| spec.with_variant(name).unwrap()).collect();
        for spec in [&spec].into_iter().chain(&variants) {
            for platform in spec.platforms() {
                let target =
                    spec.target(platform, &Overrides::default()).map_err(|error| format!("{error}"))?;
                shown.push_str(&format!("{target:?}\n"));
            }
        }
        // Where things stand is not what they mean.
        let mut parts = shown.split("span: ");
        let first = parts.next().unwrap_or_default().to_owned();
        Ok(parts.fold(first, |all, part| all + part.split_once([',', ' ']).map_or("", |(_, rest)| rest)))
    };
    let whole = all(FULL).unwrap();
    let mut keys = std::collections::BTreeSet::new();
    for (number, line) in FULL.lines().enumerate() {
        if line.starts_with(['#', '[']) || line.trim().is_empty() || line.starts_with([']', '}']) {
            continue;
        }
        keys.insert(line.trim_start().split(' ').next().unwrap_or_default());
        let without: String = FULL
            .lines()
            .enumerate()
            .filter(|(i, _)| *i != number)
            .map(|(_, line)| format!("{line}\n"))
            .collect();
        assert_ne!(all(&without), Ok(whole.clone()), "line {}: {line}", number + 1);
    }
    for table in keys::tables() {
        for name in table.names() {
            let header = FULL.contains(&format!("{name}]")) || FULL.contains(&format!("[{name}."));
            assert!(keys.contains(name) || header, "{name} of {} is not in full.toml", table.name);
        }
    }
}

#[test]
fn the_schema_has_the_keys_of_the_parser() {
    fn walk(schema: &serde_json::Value, table: &keys::Table) {
        let properties = schema["properties"].as_object().unwrap();
        let mut names: Vec<&str> = table.names().collect();
        names.sort();
        assert_eq!(properties.keys().map(String::as_str).collect::<Vec<_>>(), names, "{}", table.name);
        for key in table.all() {
            match key.kind {
                keys::Kind::Named(inner) => walk(&properties[key.name]["additionalProperties"], inner),
                keys::Kind::Table(inner) => walk(&properties[key.name], inner),
                keys::Kind::Tables(inner) => walk(&properties[key.name]["items"], inner),
                keys::Kind::Later => assert!(!properties.contains_key(key.name)),
                _ => {}
            }
            // What extends a table has that table's values for what is missing.
            if key.default.is_some() && table.extends.is_none() {
                assert!(properties[key.name].get("default").is_some(), "{}", key.name);
            }
        }
    }
    walk(&json_schema(), &keys::ROOT);
}

#[test]
fn the_reference_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dmoci-toml.md");
    let text = std::fs::read_to_string(path).unwrap();
    for table in keys::tables() {
        for name in table.names() {
            assert!(text.contains(&format!("`{name}`")), "{name} of {}", table.name);
        }
        for key in table.keys.iter().filter(|key| key.default.is_some()) {
            let default = key.default.unwrap_or_default();
            assert!(text.contains(&format!("`{default}`")), "default {default} of {}", key.name);
        }
    }
}

#[test]
fn variables() {
    let text = with_layer(
        "file = [{ path = \"/a\", content = \"${vars.a} ${version} $${vars.a} ${platform.debian}\" }]",
    );
    let content = |overrides: &Overrides| match &resolve(&text, overrides).layers[0].inputs[0] {
        Input::File(file) => file.content.clone(),
        other => panic!("{other:?}"),
    };
    let set = |pairs: &[(&str, &str)], version: Option<&str>| Overrides {
        vars: pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        version: version.map(str::to_owned),
    };
    assert_eq!(content(&set(&[], Some("3"))), "1 3 ${vars.a} amd64");
    assert_eq!(content(&set(&[("a", "${x}"), ("version", "4")], Some("3"))), "${x} 4 ${vars.a} amd64");

    let spec = read(&text);
    let amd64 = platform("linux/amd64");
    assert_eq!(codes(spec.target(&amd64, &Overrides::default()).unwrap_err()), ["E-SPEC-VERSION"]);
    assert!(matches!(
        spec.target(&amd64, &set(&[("b", "")], None)),
        Err(SpecError::Set { nearest: None, declared, .. }) if declared == ["a"]
    ));
}

#[test]
fn variables_of_variables() {
    let text = |vars: &str| {
        format!(
            "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\nlabels = {{ x = \"${{vars.a}}\" }}\n[vars]\n{vars}\n"
        )
    };
    let good = text("a = \"<${vars.b}|${version}>\"\nb = \"${platform.uname}\"\nversion = \"7\"");
    assert_eq!(resolve(&good, &Overrides::default()).config.labels["x"], "<x86_64|7>");
    for circle in
        ["a = \"${vars.a}\"", "a = \"${vars.b}\"\nb = \"${vars.a}\"", "a = \"x\"\nversion = \"${version}\""]
    {
        let error = parse(Path::new("x"), &text(circle)).unwrap_err();
        assert!(codes(error).iter().all(|code| *code == "E-SPEC-VAR"), "{circle}");
    }
    // Each is the one before it twice: 2^31 bytes in the end.
    let mut laughs = String::from("v0 = \"ha\"\na = \"${vars.v30}\"\n");
    for i in 1..=30 {
        laughs += &format!("v{i} = \"${{vars.v{}}}${{vars.v{}}}\"\n", i - 1, i - 1);
    }
    let spec = read(&text(&laughs));
    assert_eq!(
        codes(spec.target(&platform("linux/amd64"), &Overrides::default()).unwrap_err()),
        ["E-SPEC-VALUE"]
    );
}

#[test]
fn ways_through_variables() {
    let text = |length: usize| {
        let chain: String = (0..length).map(|i| format!("v{i} = \"${{vars.v{}}}\"\n", i + 1)).collect();
        format!(
            "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\nlabels = {{ x = \"${{vars.v0}}\" }}\n[vars]\n{chain}v{length} = \"x\"\n"
        )
    };
    assert_eq!(resolve(&text(31), &Overrides::default()).config.labels["x"], "x");
    for length in [32, 5000] {
        let error = parse(Path::new("x"), &text(length)).unwrap_err();
        assert!(codes(error).iter().all(|code| *code == "E-SPEC-VAR"), "{length}");
    }
}

/// A large file is read in time that grows with it, not with its square.
#[test]
fn large_files() {
    let head = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\n";
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let layers =
        many(20_000, &|i| format!("[[layer]]\nname = \"l{i}\"\ndirectory = [{{ path = \"/a\" }}]\n"));
    assert_eq!(resolve(&format!("{head}{layers}"), &Overrides::default()).layers.len(), 20_000);
    let tags = many(80_000, &|i| format!("\"t{i}\","));
    assert_eq!(resolve(&format!("{head}tags = [{tags}]\n"), &Overrides::default()).tags.len(), 80_000);
    let unknown = many(3_000, &|i| format!("k{i} = 1\n"));
    let error = parse(Path::new("x"), &format!("{head}{unknown}")).unwrap_err();
    assert_eq!(error.to_string(), "x has 3000 problems, of which the first 20 are shown");
    assert_eq!(crate::diagnostic::Diagnostic::places(&error).len(), 20);
}

#[test]
fn owners() {
    let owner = |owner: &str| {
        let text = with_layer(&format!("directory = [{{ path = \"/a\", owner = \"{owner}\" }}]"));
        match &parse(Path::new("x"), &text)?.target(&platform("linux/amd64"), &Overrides::default())?.layers
            [0]
        .inputs[0]
        {
            Input::Directory(directory) => Ok::<_, SpecError>((directory.owner.uid, directory.owner.gid)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(owner("1:2").unwrap(), (1, 2));
    assert_eq!(owner("5").unwrap(), (5, 5));
    assert_eq!(owner("km").unwrap(), (10, 20));
    assert_eq!(owner("0:km").unwrap(), (0, 20));
    assert_eq!(owner("km:0").unwrap(), (10, 0));
    for bad in ["", "root", "1:", ":1", "1:wheel", "-1", "4294967295", "1:2:3", "+1"] {
        assert_eq!(codes(owner(bad).unwrap_err()), ["E-SPEC-VALUE"], "{bad}");
    }
}

#[test]
fn checked_again_after_expansion() {
    let text = with_layer("directory = [{ path = \"/a\", mode = \"${vars.a}\" }]");
    let spec = read(&text);
    let mode = |value: &str| {
        let vars = [("a".to_owned(), value.to_owned())].into();
        spec.target(&platform("linux/amd64"), &Overrides { vars, version: None })
    };
    assert!(mode("0700").is_ok());
    assert_eq!(codes(mode("rwx").unwrap_err()), ["E-SPEC-VALUE"]);
}

#[test]
fn all_problems_at_once() {
    let error = parse(
        Path::new("x"),
        "schema = 1\n[image]\nplatforms = [\"linux/amd\"]\nports = [\"0\"]\nusr = 1\n[[layer]]\nname = \"a\"\ncopy = 1\n",
    )
    .unwrap_err();
    assert_eq!(codes(error), ["E-SPEC-PLATFORM", "E-SPEC-VALUE", "E-SPEC-KEY", "E-SPEC-TYPE"]);
}

#[test]
fn variants() {
    let text = r#"schema = 1
[image]
name = "localhost/a"
tags = ["1", "2"]
platforms = ["linux/amd64", "linux/arm64"]
entrypoint = ["/bin/a"]
ports = ["1/tcp"]
env = { A = "image", B = "image" }
users = [{ name = "one", uid = 1 }]
healthcheck = { test = ["NONE"], retries = 3 }
[[layer]]
name = "base"
directory = [{ path = "/a" }]
[variant.test]
tags = ["1-test"]
platforms = ["linux/arm64"]
entrypoint = ["/bin/test"]
ports = ["2/tcp"]
env = { B = "variant", C = "variant" }
users = [{ name = "two", uid = 2 }]
healthcheck = { test = ["CMD", "x"] }
[[variant.test.layer]]
name = "tests"
directory = [{ path = "/b", owner = "two:one" }]
[variant.bare]
name = "localhost/bare"
"#;
    let spec = read(text);
    assert_eq!((spec.variants().collect::<Vec<_>>(), spec.variant()), (vec!["bare", "test"], None));
    let test = spec.with_variant("test").unwrap();
    assert_eq!((test.platforms(), test.variant()), (&[platform("linux/arm64")][..], Some("test")));
    let target = test.target(&platform("linux/arm64"), &Overrides::default()).unwrap();
    assert_eq!(target.names(), ["localhost/a:1-test"]);
    assert_eq!(target.config.entrypoint.as_deref(), Some(&["/bin/test".to_owned()][..]));
    assert_eq!(target.config.ports, ["2/tcp"]);
    let env = target.config.env.iter().map(|(name, value)| (name.as_str(), value.expand(|_| None).unwrap()));
    assert_eq!(
        env.collect::<Vec<_>>(),
        [("A", "image".into()), ("B", "variant".into()), ("C", "variant".into())]
    );
    let layers: Vec<&str> = target.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(layers, ["base", "tests"]);
    let Input::Directory(directory) = &target.layers[1].inputs[0] else { panic!() };
    assert_eq!(directory.owner, Owner { uid: 2, gid: 1 });
    assert_eq!(target.users.len(), 2);
    assert_eq!(target.config.healthcheck.unwrap().retries, None);

    let bare = spec.with_variant("bare").unwrap();
    let target = bare.target(&platform("linux/amd64"), &Overrides::default()).unwrap();
    assert_eq!(target.names(), ["localhost/bare:1", "localhost/bare:2"]);
    assert_eq!(target.layers.len(), 1);
    // The image knows nothing of its variants.
    let image = spec.target(&platform("linux/amd64"), &Overrides::default()).unwrap();
    assert_eq!((image.layers.len(), image.users.len(), image.config.env.len()), (1, 1, 2));

    assert!(matches!(
        spec.with_variant("tset"),
        Err(SpecError::Variant { nearest: Some(meant), .. }) if meant == "test"
    ));
    // A name is the variant's own, as far as it can be told before expansion and after.
    let same = text.replace("\"1-test\"", "\"${version}\"");
    let same = read(&same).with_variant("test").unwrap();
    let target = |version: &str| {
        let vars = [("version".to_owned(), version.to_owned())].into();
        same.target(&platform("linux/arm64"), &Overrides { vars, version: None })
    };
    assert!(target("3").is_ok());
    assert_eq!(codes(target("2").unwrap_err()), ["E-SPEC-DUPLICATE"]);
}

#[test]
fn what_is_wrong_with_the_image_is_said_once() {
    let text = "schema = 1\n[image]\nplatforms = [\"linux/amd64\"]\nports = [\"0\"]\n[variant.a]\nports = [\"x\"]\n\
                [variant.b]\nworkdir = \"x\"\n[variant.\"c/d\"]\n";
    let error = parse(Path::new("x"), text).unwrap_err();
    assert_eq!(codes(error), ["E-SPEC-VALUE"; 4]);
    let many: String = (0..=limits::VARIANTS).map(|i| format!("[variant.v{i}]\n")).collect();
    let error =
        parse(Path::new("x"), &(text.replace('0', "1").split("[variant").next().unwrap().to_owned() + &many));
    assert_eq!(codes(error.unwrap_err()), ["E-SPEC-VALUE"]);
}

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dmoci.toml");
    assert!(matches!(load(&path), Err(SpecError::Read { .. })));
    std::fs::write(&path, b"schema = 1 # \xff").unwrap();
    assert!(matches!(load(&path), Err(SpecError::Encoding { at: 13, .. })));
    std::fs::write(&path, " ".repeat(limits::SPEC_BYTES as usize + 1)).unwrap();
    assert!(matches!(load(&path), Err(SpecError::Large { .. })));
    std::fs::write(&path, FULL).unwrap();
    assert_eq!(load(&path).unwrap().file(), path);
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = parse(Path::new("x"), &text);
    }

    /// Words that mean something, in any order, and lines of the full example cut and put together anew.
    #[test]
    fn never_panics_on_what_looks_right(
        parts in proptest::collection::vec(prop_oneof![
            (0..FULL.len(), 0..80usize).prop_map(|(at, length)| {
                let start = FULL.floor_char_boundary(at);
                FULL[start..FULL.ceil_char_boundary((start + length).min(FULL.len()))].to_owned()
            }),
            proptest::sample::select(vec![
                "schema = 1\n", "[image]\n", "[[layer]]\n", "name = ", "\"${vars.", "}\"", "${", "$", "[", "]", "{", "\n",
                "platforms = [\"linux/amd64\"]\n", "copy = [{", "\"\\u0000\"", "99999999999999999999", "= ", "\"ü\"",
            ]).prop_map(str::to_owned),
        ], 0..40)
    ) {
        let text = parts.concat();
        if let Ok(spec) = parse(Path::new("x"), &text) {
            for platform in spec.platforms() {
                let _ = spec.target(platform, &Overrides::default());
            }
        }
    }
}
