//! `manifest.md`.

use dmoci::oci::manifest::Manifest;
use serde_json::{Value, json};

use super::Judged::{Bad, Good};
use super::{judge, with};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(media_type: &str) -> Value {
    json!({"mediaType": media_type, "size": 7023,
        "digest": "sha256:b5b2b2c507a0944348e0303114d8d93aaaa081732b86451d9bce1f432a537bc7"})
}

fn good() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip"),
            descriptor("application/vnd.oci.image.layer.v1.tar+zstd"),
            descriptor("application/vnd.oci.image.layer.v1.tar"),
        ],
        "subject": descriptor(MANIFEST),
        "annotations": {"com.example.key1": "value1"},
    })
}

fn artifact() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.example+type",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "data": "e30=",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
        "layers": [descriptor("application/vnd.example.data")],
    })
}

fn docker() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": descriptor("application/vnd.docker.container.image.v1+json"),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip")],
    })
}

#[test]
fn cases() {
    let base = good();
    let set = |path: &str, value: Value| with(&base, path, Some(value));
    let index = "application/vnd.oci.image.index.v1+json";
    judge(
        vec![
            ("Example Image Manifest", base.to_string(), Good),
            ("Guidelines for Artifact Usage: empty config, artifactType set", artifact().to_string(), Good),
            ("Docker's manifest, schema 2, is read alike", docker().to_string(), Good),
            (
                "schemaVersion: REQUIRED",
                with(&base, "/schemaVersion", None),
                Bad("E-OCI-MISSING", "/schemaVersion"),
            ),
            (
                "schemaVersion: MUST be 2",
                set("/schemaVersion", json!(1)),
                Bad("E-OCI-SCHEMAVERSION", "/schemaVersion"),
            ),
            (
                "schemaVersion: int",
                set("/schemaVersion", json!("2")),
                Bad("E-OCI-SCHEMAVERSION", "/schemaVersion"),
            ),
            ("mediaType: SHOULD be used, so absence is no error", with(&base, "/mediaType", None), Good),
            (
                "mediaType: when used, MUST be the manifest's",
                set("/mediaType", json!(index)),
                Bad("E-OCI-MEDIATYPE", "/mediaType"),
            ),
            (
                "mediaType: a document that is manifest and index at once (CVE-2021-41190)",
                set("/manifests", json!([])),
                Bad("E-OCI-AMBIGUOUS", "/manifests"),
            ),
            (
                "mediaType: a document that is also schema 1",
                set("/fsLayers", json!([])),
                Bad("E-OCI-AMBIGUOUS", "/fsLayers"),
            ),
            (
                "artifactType: MUST be set when config.mediaType is the empty value",
                with(&artifact(), "/artifactType", None),
                Bad("E-OCI-ARTIFACT-TYPE", "/artifactType"),
            ),
            (
                "artifactType: MUST comply with RFC 6838",
                with(&artifact(), "/artifactType", Some(json!("x"))),
                Bad("E-OCI-MEDIATYPE", "/artifactType"),
            ),
            ("config: REQUIRED", with(&base, "/config", None), Bad("E-OCI-MISSING", "/config")),
            ("config: a descriptor", set("/config", json!([])), Bad("E-OCI-TYPE", "/config")),
            (
                "config: not a layer",
                set("/config/mediaType", json!("application/vnd.oci.image.layer.v1.tar")),
                Bad("E-OCI-MEDIATYPE", "/config/mediaType"),
            ),
            (
                "config.mediaType: unknown types are of artifacts",
                set("/config/mediaType", json!("application/vnd.example.config+json")),
                Good,
            ),
            ("layers: REQUIRED", with(&base, "/layers", None), Bad("E-OCI-MISSING", "/layers")),
            ("layers: array", set("/layers", json!({})), Bad("E-OCI-TYPE", "/layers")),
            ("layers: array, not null", set("/layers", Value::Null), Bad("E-OCI-TYPE", "/layers")),
            ("layers: SHOULD hold one, so an empty array is no error", set("/layers", json!([])), Good),
            ("layers: each is a descriptor", set("/layers/1", json!("x")), Bad("E-OCI-TYPE", "/layers/1")),
            (
                "layers: a descriptor without size",
                with(&base, "/layers/0/size", None),
                Bad("E-OCI-MISSING", "/layers/0/size"),
            ),
            (
                "layers: a negative size",
                set("/layers/2/size", json!(-5)),
                Bad("E-OCI-SIZE", "/layers/2/size"),
            ),
            (
                "layers: a bad digest",
                set("/layers/2/digest", json!("sha256:xyz")),
                Bad("E-DIGEST-GRAMMAR", "/layers/2/digest"),
            ),
            (
                "layers.mediaType: unknown types MUST NOT be an error",
                set("/layers/0/mediaType", json!("application/vnd.in-toto+json")),
                Good,
            ),
            (
                "layers.mediaType: a manifest is no layer",
                set("/layers/0/mediaType", json!(MANIFEST)),
                Bad("E-OCI-MEDIATYPE", "/layers/0/mediaType"),
            ),
            ("subject: a descriptor", set("/subject", json!("x")), Bad("E-OCI-TYPE", "/subject")),
            (
                "subject: of a manifest",
                set("/subject/mediaType", json!("text/plain")),
                Bad("E-OCI-SUBJECT", "/subject/mediaType"),
            ),
            ("subject: OPTIONAL", with(&base, "/subject", None), Good),
            (
                "annotations: values MUST be strings",
                set("/annotations", json!({"a": null})),
                Bad("E-OCI-TYPE", "/annotations/a"),
            ),
            (
                "considerations.md, Extensibility: unknown properties are no error",
                set("/extra", json!(1)),
                Good,
            ),
            (
                "one name twice",
                base.to_string().replacen('{', r#"{"layers":[],"#, 1),
                Bad("E-JSON-DUPLICATE", ""),
            ),
            (
                "two names that differ by case",
                base.to_string().replacen('{', r#"{"Layers":[],"#, 1),
                Bad("E-JSON-CASE", ""),
            ),
            (
                "a known name in another case",
                with(&with_subject(&base), "/Subject", Some(json!({}))),
                Bad("E-JSON-CASE", "/Subject"),
            ),
            ("a manifest is an object", "[]".to_owned(), Bad("E-OCI-TYPE", "")),
        ],
        Manifest::read,
    );
}

/// The same without `subject`.
fn with_subject(base: &Value) -> Value {
    serde_json::from_str(&with(base, "/subject", None)).unwrap()
}

/// What an independent reader accepts is accepted here too.
#[test]
fn another_reader_agrees_on_the_good_ones() {
    for good in [good(), artifact()] {
        serde_json::from_value::<oci_spec::image::ImageManifest>(good).unwrap();
    }
}
