//! Image indexes (OCI image-spec 1.1, `image-index.md`; Docker's manifest lists alike).

use std::collections::BTreeMap;

use dmoci_layers::Digest;
use serde_json::Value;

use super::descriptor::Descriptor;
use super::json;
use super::manifest::{read_descriptors, read_media_type, read_subject};
use super::media_type::{self, Kind};
use super::problem::Problem;
use super::read::Node;

/// An index: `index.json` of a layout, or a blob that joins the manifests of several platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The index's own statement of its type.
    pub media_type: Option<String>,
    /// Type of the artifact, when it is one.
    pub artifact_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    pub subject: Option<Descriptor>,
    /// Free texts.
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Reads and checks an index. `None` when its list cannot be used.
    pub fn read(value: &Value, problems: &mut Vec<Problem>) -> Option<Index> {
        let mut node = Node::new(value, "", problems)?;
        node.known(&[
            "schemaVersion",
            "mediaType",
            "artifactType",
            "manifests",
            "subject",
            "annotations",
            "config",
            "layers",
        ]);
        node.schema_version();
        let media_type = read_media_type(&mut node, Kind::Index, media_type::INDEX);
        for name in ["config", "layers", "fsLayers"] {
            if node.has(name) {
                let at = node.at(name);
                let text = "an index that is another kind of document too: readers disagree about what it is (CVE-2021-41190)";
                node.problems.push(Problem::error("E-OCI-AMBIGUOUS", &at, text).but("manifests only", name));
            }
        }
        let artifact_type = node.media_type("artifactType");
        node.required("manifests");
        let manifests = read_descriptors(&mut node, "manifests");
        let subject = read_subject(&mut node);
        let annotations = node.map("annotations");
        for (i, descriptor) in manifests.iter().flatten().enumerate() {
            if matches!(descriptor.kind(), Kind::Config | Kind::Layer(_)) {
                let at = format!("/manifests/{i}/mediaType");
                let problem = Problem::error("E-OCI-MEDIATYPE", &at, "not the type of a manifest");
                node.problems.push(problem.but(media_type::MANIFEST, descriptor.media_type.clone()));
            }
        }
        Some(Index { media_type, artifact_type, manifests: manifests?, subject, annotations })
    }
}

/// The annotation with the number of the rules, on everything that dmoci authors.
pub const RULES_ANNOTATION: &str = "dev.dmoci.rules";

/// What [`RULES_ANNOTATION`] says of a layer in which deflate streams of wheels stand as they are.
pub const SPLICE: &str = "1+splice";

/// The annotation of `index.json` with the digest of its own bytes.
pub const SELF_DIGEST: &str = "dev.dmoci.index.digest";

/// The bytes of the `index.json` that dmoci writes for these descriptors.
///
/// The annotation [`SELF_DIGEST`] holds the SHA-256 of exactly these bytes with the 64 hexadecimal digits of that
/// annotation replaced by 64 zeros, so that names and tags are covered, and `sed` and `sha256sum` can check it.
pub fn author(manifests: &[Descriptor]) -> Vec<u8> {
    let zeros = format!("sha256:{}", "0".repeat(64));
    let value = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::INDEX,
        "manifests": manifests.iter().map(Descriptor::to_value).collect::<Vec<_>>(),
        "annotations": { RULES_ANNOTATION: dmoci_layers::RULES.to_string(), SELF_DIGEST: zeros },
    });
    let mut bytes = json::canonical(&value);
    let digest = Digest::sha256(&bytes);
    if let Some(at) = digits(&bytes) {
        bytes[at..at + 64].copy_from_slice(digest.hex().as_bytes());
    }
    bytes
}

/// What an `index.json` says of its own digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelfDigest {
    /// Nothing in it says that dmoci wrote it.
    Unmarked,
    /// The digest is there and right.
    Right,
    /// dmoci's mark is there, but not exactly one digest where it must be.
    Malformed,
    /// The digest is another one.
    Wrong {
        /// What the bytes have.
        expected: Digest,
        /// What the annotation says.
        found: String,
    },
}

/// Checks the digest that `index.json` carries of itself. Bytes that hold dmoci's prefix anywhere must carry it.
pub fn self_digest(bytes: &[u8]) -> SelfDigest {
    if !contains(bytes, b"dev.dmoci.") {
        return SelfDigest::Unmarked;
    }
    let top = json::parse(bytes)
        .ok()
        .and_then(|value| value.get("annotations")?.get(SELF_DIGEST)?.as_str().map(str::to_owned));
    let (Some(found), Some(at)) = (top, digits(bytes)) else { return SelfDigest::Malformed };
    if bytes.get(at - 7..at + 64) != Some(found.as_bytes()) {
        return SelfDigest::Malformed;
    }
    let mut zeroed = bytes.to_vec();
    zeroed[at..at + 64].fill(b'0');
    let expected = Digest::sha256(&zeroed);
    if expected.to_string() == found { SelfDigest::Right } else { SelfDigest::Wrong { expected, found } }
}

/// Where the 64 digits of the annotation stand in canonical bytes; nothing when it is there twice or not at all.
fn digits(bytes: &[u8]) -> Option<usize> {
    let key = format!("\"{SELF_DIGEST}\":\"sha256:");
    let mut places = bytes.windows(key.len()).enumerate().filter(|(_, window)| *window == key.as_bytes());
    let (at, _) = places.next()?;
    let start = at + key.len();
    let whole = bytes.get(start..start + 65).is_some_and(|rest| rest.ends_with(b"\""));
    (whole && places.next().is_none()).then_some(start)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_of_our_index_is_found() {
        let image =
            Descriptor::of(media_type::MANIFEST, b"{}").annotate("org.opencontainers.image.ref.name", "1.0");
        let bytes = author(&[image]);
        assert!(json::is_canonical(&bytes));
        assert_eq!(self_digest(&bytes), SelfDigest::Right);
        for i in 0..bytes.len() {
            for flip in [1, 0x20, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[i] ^= flip;
                let verdict = self_digest(&bad);
                assert!(
                    !matches!(verdict, SelfDigest::Right | SelfDigest::Unmarked),
                    "{i} {flip}: {verdict:?}"
                );
            }
        }
        assert_eq!(self_digest(br#"{"schemaVersion":2,"manifests":[]}"#), SelfDigest::Unmarked);
    }
}
