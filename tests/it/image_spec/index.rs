//! `image-index.md`.

use dmoci::oci::index::Index;
use serde_json::{Value, json};

use super::Judged::{Bad, Good};
use super::{judge, with};

fn good() -> Value {
    let manifest = |architecture: &str, os: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 7143,
            "digest": "sha256:e692418e4cbaf90ca69d05a66403747baa33ee08806650b51fab815ad7fc331f",
            "platform": {"architecture": architecture, "os": os}})
    };
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest("ppc64le", "linux"), manifest("amd64", "windows")],
        "annotations": {"com.example.key1": "value1"},
    })
}

#[test]
fn cases() {
    let base = good();
    let set = |path: &str, value: Value| with(&base, path, Some(value));
    judge(
        vec![
            ("Example Image Index", base.to_string(), Good),
            (
                "schemaVersion: REQUIRED",
                with(&base, "/schemaVersion", None),
                Bad("E-OCI-MISSING", "/schemaVersion"),
            ),
            (
                "schemaVersion: MUST be 2",
                set("/schemaVersion", json!(3)),
                Bad("E-OCI-SCHEMAVERSION", "/schemaVersion"),
            ),
            ("mediaType: SHOULD be used", with(&base, "/mediaType", None), Good),
            (
                "mediaType: when used, MUST be the index's",
                set("/mediaType", json!("application/vnd.oci.image.manifest.v1+json")),
                Bad("E-OCI-MEDIATYPE", "/mediaType"),
            ),
            (
                "mediaType: Docker's manifest list is read alike",
                set("/mediaType", json!("application/vnd.docker.distribution.manifest.list.v2+json")),
                Good,
            ),
            (
                "an index that is a manifest too (CVE-2021-41190): config",
                set("/config", json!({})),
                Bad("E-OCI-AMBIGUOUS", "/config"),
            ),
            (
                "an index that is a manifest too (CVE-2021-41190): layers",
                set("/layers", json!([])),
                Bad("E-OCI-AMBIGUOUS", "/layers"),
            ),
            (
                "artifactType: MUST comply with RFC 6838",
                set("/artifactType", json!("")),
                Bad("E-OCI-MEDIATYPE", "/artifactType"),
            ),
            ("manifests: REQUIRED", with(&base, "/manifests", None), Bad("E-OCI-MISSING", "/manifests")),
            ("manifests: MAY be empty", set("/manifests", json!([])), Good),
            ("manifests: array, not null", set("/manifests", Value::Null), Bad("E-OCI-TYPE", "/manifests")),
            (
                "manifests: each is a descriptor",
                set("/manifests/1", json!([])),
                Bad("E-OCI-TYPE", "/manifests/1"),
            ),
            (
                "manifests.mediaType: an index may stand in an index",
                set("/manifests/0/mediaType", json!("application/vnd.oci.image.index.v1+json")),
                Good,
            ),
            (
                "manifests.mediaType: a layer is no manifest",
                set("/manifests/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar")),
                Bad("E-OCI-MEDIATYPE", "/manifests/0/mediaType"),
            ),
            (
                "manifests.mediaType: unknown types are no error",
                set("/manifests/0/mediaType", json!("application/vnd.example+json")),
                Good,
            ),
            ("platform: OPTIONAL", with(&base, "/manifests/0/platform", None), Good),
            (
                "platform.architecture: REQUIRED",
                with(&base, "/manifests/0/platform/architecture", None),
                Bad("E-OCI-MISSING", "/manifests/0/platform/architecture"),
            ),
            (
                "platform.os: REQUIRED",
                with(&base, "/manifests/1/platform/os", None),
                Bad("E-OCI-MISSING", "/manifests/1/platform/os"),
            ),
            (
                "platform.os: string",
                set("/manifests/1/platform/os", json!(1)),
                Bad("E-OCI-TYPE", "/manifests/1/platform/os"),
            ),
            (
                "platform.variant, os.version, os.features: OPTIONAL",
                set(
                    "/manifests/1/platform",
                    json!({"architecture": "arm", "os": "windows", "variant": "v7", "os.version": "10.0", "os.features": ["win32k"]}),
                ),
                Good,
            ),
            (
                "platform.os.features: array of strings",
                set(
                    "/manifests/1/platform",
                    json!({"architecture": "arm", "os": "windows", "os.features": "win32k"}),
                ),
                Bad("E-OCI-TYPE", "/manifests/1/platform/os.features"),
            ),
            (
                "subject: a descriptor of a manifest",
                set(
                    "/subject",
                    json!({"mediaType": "text/plain", "size": 1, "digest": "sha256:e692418e4cbaf90ca69d05a66403747baa33ee08806650b51fab815ad7fc331f"}),
                ),
                Bad("E-OCI-SUBJECT", "/subject/mediaType"),
            ),
            (
                "annotations: values MUST be strings",
                set("/annotations", json!({"a": true})),
                Bad("E-OCI-TYPE", "/annotations/a"),
            ),
            ("considerations.md, Extensibility", set("/extra", json!([])), Good),
        ],
        Index::read,
    );
    serde_json::from_value::<oci_spec::image::ImageIndex>(base).unwrap();
}
