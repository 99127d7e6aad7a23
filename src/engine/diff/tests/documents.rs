//! What differs in documents.

use dmoci_layers::Compression;
use serde_json::{Value, json};

use super::super::{LayerOutcome, Verdict, document};
use super::made::{Made, Maker, compared, file, lines, made, tar_of};
use crate::oci::media_type;

/// Changes configuration and manifest.
type Change<'c> = &'c dyn Fn(&mut Value, &mut Value);

#[test]
fn documents_value_by_value() {
    let with = |change: &dyn Fn(&mut Value, &mut Value)| {
        let maker = Maker::new();
        let layer = maker.layer(&tar_of(&[file("a", b"1")]), Compression::Gzip);
        let root = maker.image(&[("app", layer)], |config, manifest| change(config, manifest));
        maker.done(root)
    };
    let plain = with(&|_, _| {});
    let cases: [(Change<'_>, &[&str]); 6] = [
        (
            &|_, manifest| manifest["annotations"]["a"] = "2".into(),
            &["/linux~1amd64/manifest/annotations/a: \"1\" | \"2\""],
        ),
        (
            &|config, _| config["config"]["Env"] = json!(["A=1", "N=0", "B=2"]),
            &["/linux~1amd64/config/config/Env/1: - | \"N=0\""],
        ),
        (
            &|config, _| config["created"] = "1980-01-02T00:00:00Z".into(),
            &["/linux~1amd64/config/created: - | \"1980-01-02T00:00:00Z\""],
        ),
        (
            &|config, _| config["history"][0]["created_by"] = "dmoci layer other".into(),
            &["/linux~1amd64/config/history/0/created_by: \"dmoci layer app\" | \"dmoci layer other\""],
        ),
        (
            &|_, manifest| manifest["layers"][0]["annotations"] = json!({"k": "v"}),
            &["/linux~1amd64/manifest/layers/0/annotations: - | {\"k\":\"v\"}"],
        ),
        (
            &|_, manifest| manifest["layers"][0]["unknown"] = 1.into(),
            &["/linux~1amd64/manifest/layers/0/unknown: - | 1"],
        ),
    ];
    for (change, expected) in cases {
        let diff = compared(&plain, &with(change));
        assert_eq!(lines(&diff), expected);
        assert_eq!(diff.verdict, Verdict::Different);
    }
}

#[test]
fn documents_that_say_the_same_in_other_bytes() {
    let maker = Maker::new();
    let layer = maker.layer(&tar_of(&[]), Compression::Gzip);
    let root = maker.image(&[("app", layer)], |_, _| {});
    let plain = maker.done(root);
    let maker = Maker::new();
    maker.layer(&tar_of(&[]), Compression::Gzip);
    let config = plain.store.images(&plain.root).unwrap()[0].config.bytes().to_vec();
    maker.put(media_type::CONFIG, &config);
    let bytes = plain.store.read_json_blob(&plain.root.digest).unwrap();
    let text = String::from_utf8(bytes).unwrap().replacen('{', "{ ", 1);
    let root = maker.put(media_type::MANIFEST, text.as_bytes());
    let diff = compared(&plain, &maker.done(root));
    assert_eq!(diff.differences.len(), 1);
    assert_eq!(diff.differences[0].place(), "/linux~1amd64/manifest/form");
    assert_eq!(diff.differences[0].offset, Some(1));
    // `index.json` and others that are no blobs.
    let found = document("index.json", br#"{"a":[1]}"#, br#"{"a":[2]}"#, 9);
    assert_eq!(found[0].place(), "/index.json/a/0");
    assert_eq!(document("index.json", b"{}", b"{} ", 9)[0].place(), "/index.json/form");
    assert_eq!(document("index.json", b"{}", b"{}", 9), []);
}

/// An index over platforms, each with one layer of this content.
fn several(platforms: &[(&str, &[u8])], change: impl FnOnce(&mut Vec<Value>)) -> Made {
    let maker = Maker::new();
    let mut manifests: Vec<Value> = platforms
        .iter()
        .map(|(architecture, content)| {
            let layer = maker.layer(&tar_of(&[file("f", content)]), Compression::Gzip);
            let image =
                maker.image(&[("app", layer)], |config, _| config["architecture"] = (*architecture).into());
            let mut value = image.to_value();
            value["platform"] = json!({"os": "linux", "architecture": architecture});
            value
        })
        .collect();
    change(&mut manifests);
    let root = maker.index(&manifests);
    maker.done(root)
}

#[test]
fn indexes_platform_by_platform() {
    let both: [(&str, &[u8]); 2] = [("amd64", b"1"), ("arm64", b"2")];
    let left = several(&both, |_| {});
    let found = |right: &Made| lines(&compared(&left, right));
    let one_changed = several(&[both[0], ("arm64", b"3")], |_| {});
    assert_eq!(found(&one_changed), ["/linux~1arm64/layers/0/f/content: \"2\" | \"3\" @0"]);
    let turned = several(&[both[1], both[0]], |_| {});
    assert_eq!(found(&turned), ["/index/manifests: linux/amd64, linux/arm64 | linux/arm64, linux/amd64"]);
    let annotated = several(&both, |manifests| manifests[1]["annotations"] = json!({"k": "v"}));
    assert_eq!(found(&annotated), ["/index/manifests/1/annotations: - | {\"k\":\"v\"}"]);
    let fewer = several(&both[..1], |_| {});
    let gone = found(&fewer);
    assert_eq!(gone.len(), 1);
    assert!(gone[0].starts_with("/linux~1arm64/manifest/presence: application/vnd.oci"), "{gone:?}");
    assert!(gone[0].ends_with(" | -"), "{gone:?}");
}

#[test]
fn an_index_and_an_image() {
    let left = several(&[("amd64", b"1"), ("arm64", b"2")], |_| {});
    let right = made(&tar_of(&[file("f", b"9")]));
    let found = lines(&compared(&left, &right));
    assert_eq!(found[0], "/index/presence: an index of 2 images | one image");
    assert!(found[1].starts_with("/linux~1arm64/manifest/presence: "), "{found:?}");
    assert_eq!(found[2], "/linux~1amd64/layers/0/f/content: \"1\" | \"9\" @0");
    assert_eq!(found.len(), 3);
}

#[test]
fn layers_that_come_and_go() {
    let with = |layers: &[(&'static str, &[u8])]| {
        let maker = Maker::new();
        let layers: Vec<_> = layers
            .iter()
            .map(|(name, content)| (*name, maker.layer(&tar_of(&[file("f", content)]), Compression::Gzip)))
            .collect();
        let root = maker.image(&layers, |config, _| config["history"] = json!([]));
        maker.done(root)
    };
    let diff = compared(&with(&[("a", b"1"), ("b", b"2")]), &with(&[("a", b"1"), ("n", b"x"), ("b", b"2")]));
    assert_eq!(diff.differences.len(), 1);
    assert_eq!(diff.differences[0].place(), "/linux~1amd64/layers/1/presence");
    let outcomes: Vec<_> = diff.layers.iter().map(|layer| layer.outcome).collect();
    assert_eq!(outcomes, [LayerOutcome::Same, LayerOutcome::OnlyRight, LayerOutcome::Same]);
}
