//! `descriptor.md`.

use dmoci::oci::Descriptor;
use serde_json::{Value, json};

use super::Judged::{Bad, Good};
use super::{judge, with};

fn good() -> Value {
    json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270",
        "size": 7682,
    })
}

#[test]
fn cases() {
    let base = good();
    let set = |path: &str, value: Value| with(&base, path, Some(value));
    let hex = "5b0bcabd1ed22e9fb1310cf6c2dec7cdef19f0ad69efa1f392e94a4333501270";
    let abc = json!({"mediaType": "text/plain", "size": 3, "data": "YWJj",
        "digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"});
    judge(
        vec![
            ("Examples: a descriptor with its three required properties", base.to_string(), Good),
            ("mediaType: REQUIRED", with(&base, "/mediaType", None), Bad("E-OCI-MISSING", "/mediaType")),
            ("mediaType: string", set("/mediaType", json!(1)), Bad("E-OCI-TYPE", "/mediaType")),
            (
                "mediaType: MUST comply with RFC 6838, section 4.2",
                set("/mediaType", json!("manifest")),
                Bad("E-OCI-MEDIATYPE", "/mediaType"),
            ),
            (
                "mediaType: an unknown type is no error",
                set("/mediaType", json!("application/vnd.example+json")),
                Good,
            ),
            ("digest: REQUIRED", with(&base, "/digest", None), Bad("E-OCI-MISSING", "/digest")),
            (
                "Digests: algorithm and encoded portion are separated by a colon",
                set("/digest", json!(hex)),
                Bad("E-DIGEST-GRAMMAR", "/digest"),
            ),
            (
                "SHA-256: the encoded portion MUST match [a-f0-9]{64}: too short",
                set("/digest", json!(format!("sha256:{}", &hex[1..]))),
                Bad("E-DIGEST-GRAMMAR", "/digest"),
            ),
            (
                "SHA-256: no upper case",
                set("/digest", json!(format!("sha256:{}", hex.to_uppercase()))),
                Bad("E-DIGEST-GRAMMAR", "/digest"),
            ),
            (
                "Digests: algorithm components hold no upper case",
                set("/digest", json!(format!("SHA256:{hex}"))),
                Bad("E-DIGEST-GRAMMAR", "/digest"),
            ),
            (
                "Digests: no path can stand in a digest (CVE-2024-3727)",
                set("/digest", json!("sha256:../../../etc/passwd")),
                Bad("E-DIGEST-GRAMMAR", "/digest"),
            ),
            ("SHA-512: 128 characters", set("/digest", json!(format!("sha512:{hex}{hex}"))), Good),
            (
                "SHA-512: not 64 characters",
                set("/digest", json!(format!("sha512:{hex}"))),
                Bad("E-DIGEST-GRAMMAR", "/digest"),
            ),
            (
                "Digests: an algorithm that cannot be computed leaves the content unverified",
                set("/digest", json!("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8")),
                Bad("E-DIGEST-ALGORITHM", "/digest"),
            ),
            ("size: REQUIRED", with(&base, "/size", None), Bad("E-OCI-MISSING", "/size")),
            ("size: int64", set("/size", json!("7682")), Bad("E-OCI-SIZE", "/size")),
            ("size: bytes are never negative", set("/size", json!(-1)), Bad("E-OCI-SIZE", "/size")),
            ("size: int64, no fraction", set("/size", json!(7682.5)), Bad("E-OCI-SIZE", "/size")),
            (
                "size: int64, out of range",
                set("/size", json!(9223372036854775808u64)),
                Bad("E-OCI-SIZE", "/size"),
            ),
            ("size: zero is a size", set("/size", json!(0)), Good),
            (
                "urls: array of strings that conform to RFC 3986",
                set("/urls", json!(["https://example.com/x", "HTTP://example.com"])),
                Good,
            ),
            (
                "urls: each MUST conform to RFC 3986",
                set("/urls", json!(["not a uri"])),
                Bad("E-OCI-URL", "/urls/0"),
            ),
            ("urls: array", set("/urls", json!("https://example.com")), Bad("E-OCI-TYPE", "/urls")),
            ("urls: strings", set("/urls", json!([1])), Bad("E-OCI-TYPE", "/urls/0")),
            ("annotations: string-string map", set("/annotations", json!({"a": "b", "A": ""})), Good),
            (
                "annotations: the value MUST be a string",
                set("/annotations", json!({"a": 1})),
                Bad("E-OCI-TYPE", "/annotations/a"),
            ),
            ("annotations: a map", set("/annotations", json!([])), Bad("E-OCI-TYPE", "/annotations")),
            ("data: base64 of the content", abc.to_string(), Good),
            (
                "data: MUST be identical to the referenced content",
                with(&abc, "/data", Some(json!("YWJk"))),
                Bad("E-OCI-DATA", "/data"),
            ),
            (
                "data: base64 of RFC 4648, section 4",
                with(&abc, "/data", Some(json!("YW-_"))),
                Bad("E-OCI-DATA", "/data"),
            ),
            (
                "data: its size is the descriptor's",
                with(&abc, "/size", Some(json!(4))),
                Bad("E-OCI-DATA", "/data"),
            ),
            (
                "artifactType: MUST comply with RFC 6838",
                set("/artifactType", json!("sbom/")),
                Bad("E-OCI-MEDIATYPE", "/artifactType"),
            ),
            ("artifactType: any type", set("/artifactType", json!("application/vnd.example.sbom")), Good),
            (
                "Extended Descriptor Field Additions: unknown properties are no error",
                set("/extra", json!({"x": 1})),
                Good,
            ),
            (
                "a name that only a case-folding reader knows",
                set("/Digest", json!("x")),
                Bad("E-JSON-CASE", ""),
            ),
        ],
        |value, problems| Descriptor::read(value, "", problems),
    );
}
