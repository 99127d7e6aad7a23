//! in-toto Statement v1, and the envelope that carries it (DSSE 1.0).

use std::collections::BTreeMap;

use dmoci_layers::Digest;
use serde::{Deserialize, Serialize};

/// `_type` of a statement.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What older statements say that they are: cosign's attestations do.
const OLD_STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
/// `payloadType` of an envelope with a statement in it.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The predicate of what `cosign sign` and `dmoci sign` make for an image: it says nothing but that it is signed.
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// A statement, in the order in which its parts are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Resource>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    predicate: serde_json::Value,
}

/// What a statement is about (in-toto `ResourceDescriptor`), as far as this program uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resource {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl Statement {
    /// That an image is signed, as cosign says it: by its digest, without a name.
    pub fn signed(digest: &Digest) -> Statement {
        Statement::new(digest, SIGN, serde_json::Value::Object(serde_json::Map::new()))
    }

    /// A predicate about what has this digest.
    pub fn new(digest: &Digest, predicate_type: &str, predicate: serde_json::Value) -> Statement {
        let digest = BTreeMap::from([(digest.algorithm().name().to_owned(), digest.hex().to_owned())]);
        Statement {
            kind: STATEMENT.into(),
            subject: vec![Resource { name: String::new(), digest }],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// Reads the payload of an envelope.
    pub fn read(payload: &[u8]) -> Result<Statement, String> {
        let statement: Statement = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        match statement.kind.as_str() {
            STATEMENT | OLD_STATEMENT => Ok(statement),
            other => Err(format!("its _type is {:?}", short(other))),
        }
    }

    /// Its bytes: compact, with its parts in their order.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and maps with texts for names always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What kind of predicate it holds.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// True when one of its subjects has this digest.
    pub fn is_about(&self, digest: &Digest) -> bool {
        let name = digest.algorithm().name();
        self.subject.iter().any(|one| one.digest.get(name).is_some_and(|hex| hex == digest.hex()))
    }

    /// True when a subject has a digest by this algorithm.
    pub(super) fn names(&self, algorithm: &str) -> bool {
        self.subject.iter().any(|one| one.digest.contains_key(algorithm))
    }

    /// The first of its subjects' digests by sha256.
    pub(super) fn sha256(&self) -> Option<Digest> {
        let hex = self.subject.iter().find_map(|one| one.digest.get("sha256"))?;
        format!("sha256:{hex}").parse().ok()
    }

    /// The digests of its subjects, for people.
    pub fn subjects(&self) -> String {
        let digests = self.subject.iter().flat_map(|one| &one.digest);
        let words: Vec<String> =
            digests.map(|(name, hex)| format!("{}:{}", short(name), short(hex))).collect();
        crate::diagnostic::few(words.iter())
    }
}

/// The text that DSSE has signed instead of a payload: its "pre-authentication encoding".
pub fn to_sign(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_image() {
        let digest = Digest::sha256(b"x");
        let statement = Statement::signed(&digest);
        let bytes = statement.to_bytes();
        let expected = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}"#,
            digest.hex()
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(Statement::read(&bytes).unwrap(), statement);
        assert!(statement.is_about(&digest) && !statement.is_about(&Digest::sha256(b"y")));
        assert!(!statement.is_about(&format!("sha512:{}", "0".repeat(128)).parse().unwrap()));
    }

    /// The example of the specification, "DSSE protocol", and an empty payload.
    #[test]
    fn what_is_signed() {
        assert_eq!(
            to_sign("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(to_sign("a", b""), b"DSSEv1 1 a 0 ");
    }

    #[test]
    fn what_is_no_statement() {
        for bad in [
            "{}",
            "[]",
            r#"{"_type":"https://in-toto.io/Statement/v2","subject":[],"predicateType":"x"}"#,
            r#"{"_type":"https://in-toto.io/Statement/v1","subject":[]}"#,
            r#"{"_type":"https://in-toto.io/Statement/v1","_type":"x","subject":[],"predicateType":"x"}"#,
            r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":1}}],"predicateType":"x"}"#,
        ] {
            assert!(Statement::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
