//! Real outputs of `verify --json` against `docs/verify.schema.json`, and the codes against `docs/verify.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dmoci::engine::verify::CheckId;
use dmoci_layers::Digest;
use serde_json::Value;

use super::Sample;
use super::sample::tar;
use crate::support::wheel::Wheel;
use crate::support::{Run, dmoci};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// Checks the parts of JSON Schema that the schema uses; an unknown keyword fails.
fn check(schema: &Value, value: &Value, root: &Value, at: &str) -> Result<(), String> {
    let fail = |why: String| Err(format!("{at}: {why}: {value}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let rule = root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap();
                check(rule, value, root, at)?;
            }
            "anyOf" => {
                let tried: Vec<_> =
                    rule.as_array().unwrap().iter().map(|rule| check(rule, value, root, at)).collect();
                if tried.iter().all(Result::is_err) {
                    return fail(format!("{tried:?}"));
                }
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "null" => value.is_null(),
                    other => panic!("{other}"),
                };
                if !(rule.is_string() && is(rule)
                    || rule.as_array().is_some_and(|kinds| kinds.iter().any(is)))
                {
                    return fail(format!("not {rule}"));
                }
            }
            "const" if rule != value => return fail(format!("not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => return fail(format!("none of {rule}")),
            "const" | "enum" => {}
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        return fail(format!("no {name}"));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                let known = schema["properties"].as_object().unwrap();
                if let Some(name) =
                    value.as_object().and_then(|map| map.keys().find(|name| !known.contains_key(*name)))
                {
                    return fail(format!("unknown {name}"));
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        check(rule, member, root, &format!("{at}/{name}"))?;
                    }
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, root, &format!("{at}/{i}"))?;
                }
            }
            "pattern" => {
                let text = value.as_str().unwrap_or_default();
                let right = match rule.as_str().unwrap() {
                    "^E(-[A-Z0-9]+)+$" => text.strip_prefix("E-").is_some_and(|rest| {
                        rest.split('-').all(|word| {
                            !word.is_empty()
                                && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                        })
                    }),
                    "^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$" => text.parse::<Digest>().is_ok(),
                    other => panic!("{other}"),
                };
                if !right {
                    return fail(format!("not {rule}"));
                }
            }
            other => panic!("the checker does not know {other}"),
        }
    }
    Ok(())
}

fn output(subjects: &[&Path]) -> (i32, Value) {
    let run = Run::of(dmoci().arg("verify").arg("--json").args(subjects));
    (run.exit, serde_json::from_str(&run.stdout).unwrap())
}

#[test]
fn outputs_fit_the_schema() {
    let schema: Value = serde_json::from_str(&document("verify.schema.json")).unwrap();
    let sample = Sample::two_platforms();
    let good = sample.layout();
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("image.tar");
    fs::write(&archive, tar(&sample.members())).unwrap();
    let bad = sample.layout();
    fs::write(bad.blob(sample.blobs.keys().next().unwrap()), b"x").unwrap();
    let none = dir.path().join("none");
    let wheel = dir.path().join("demo_app-1.0-py3-none-any.whl");
    fs::write(&wheel, Wheel::new("demo-app", "1.0").bytes()).unwrap();
    let cut = dir.path().join("demo_app-1.0.tar.gz");
    fs::write(&cut, b"\x1f\x8b\x08").unwrap();
    for (subjects, exit) in [
        (vec![good.path()], 3),
        (vec![archive.as_path()], 3),
        (vec![good.path(), bad.path()], 1),
        (vec![none.as_path(), good.path()], 3),
        (vec![none.as_path()], 6),
        (vec![wheel.as_path()], 3),
        (vec![cut.as_path(), wheel.as_path()], 1),
    ] {
        let (code, value) = output(&subjects);
        check(&schema, &value, &schema, "").unwrap();
        assert_eq!((code, value["exit"].as_i64()), (exit, Some(exit.into())), "{value:#}");
        assert_eq!(value["reports"].as_array().unwrap().len(), subjects.len());
    }
}

#[test]
fn the_checker_can_fail() {
    let schema: Value = serde_json::from_str(&document("verify.schema.json")).unwrap();
    let (_, good) = output(&[Sample::small().layout().path()]);
    let spoiled = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        check(&schema, &bad, &schema, "").unwrap_err();
    };
    spoiled("/schema", 2.into());
    spoiled("/reports/0/verdict", "MAYBE".into());
    spoiled("/reports/0/checks/0/check", "other".into());
    spoiled("/reports/0/images/0/manifest", "sha256:00".into());
    spoiled("/reports/0/canonical", Value::Null);
}

#[test]
fn the_schema_names_every_check() {
    let schema: Value = serde_json::from_str(&document("verify.schema.json")).unwrap();
    let names: BTreeSet<_> = CheckId::IMAGE
        .iter()
        .chain(&CheckId::DISTRIBUTION)
        .chain(&CheckId::FILE)
        .map(|id| id.name())
        .collect();
    let listed = schema["$defs"]["checkName"]["enum"].as_array().unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(listed, names);
}

#[test]
fn every_code_is_documented() {
    let text = document("verify.md");
    let of_registries = document("registries.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut missing = Vec::new();
    let mut seen = 0;
    for folder in ["engine/verify", "oci", "store", "inputs/python/dist"] {
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let code = fs::read_to_string(&path).unwrap();
                for part in code.split("\"E-").skip(1) {
                    let code = format!("E-{}", part.split('"').next().unwrap());
                    let of_writer = path.ends_with("store/layout/write.rs");
                    if code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
                        && !of_writer
                    {
                        seen += 1;
                        let told = text.contains(&format!("`{code}`"))
                            || (path.to_string_lossy().contains("store/registry/")
                                && of_registries.contains(&format!("| {code} |")));
                        if !told && !missing.contains(&code) {
                            missing.push(code);
                        }
                    }
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} codes found");
    assert!(missing.is_empty(), "not in docs/verify.md: {missing:?}");
}
