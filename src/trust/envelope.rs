//! Envelopes around anything that is signed (DSSE 1.0), not only statements.

use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SigningKey};
use super::statement::to_sign;
use crate::base64;

/// The most signatures that are looked at.
const SIGNATURES: usize = 16;

/// A payload with its type and its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
}

impl Envelope {
    /// A payload, signed.
    pub fn sign(payload_type: &str, payload: Vec<u8>, key: &SigningKey) -> Envelope {
        let signatures = vec![key.sign(&to_sign(payload_type, &payload))];
        Envelope { payload, payload_type: payload_type.to_owned(), signatures }
    }

    /// Reads one; whoever gives the bytes bounds them. Nothing where it is none.
    pub fn read(bytes: &[u8]) -> Option<Envelope> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        if written.signatures.len() > SIGNATURES {
            return None;
        }
        let signatures =
            written.signatures.iter().map(|one| base64::decode(&one.sig)).collect::<Option<_>>()?;
        let payload = base64::decode(&written.payload)?;
        Some(Envelope { payload, payload_type: written.payload_type, signatures })
    }

    /// Its JSON.
    pub fn to_json(&self) -> String {
        let sig = |signature: &Vec<u8>| Signature { sig: base64::encode(signature) };
        let written = Written {
            payload: base64::encode(&self.payload),
            payload_type: self.payload_type.clone(),
            signatures: self.signatures.iter().map(sig).collect(),
        };
        // Texts always have a JSON form.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// The payload, when it is of this type and the key has signed it.
    pub fn verified(&self, payload_type: &str, key: &PublicKey) -> Option<&[u8]> {
        let signed = to_sign(&self.payload_type, &self.payload);
        let by_key = || self.signatures.iter().any(|signature| key.verifies(&signed, signature));
        (self.payload_type == payload_type && by_key()).then_some(self.payload.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_signed_counts() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let envelope = Envelope::sign("a/b", b"text".to_vec(), &key);
        let read = Envelope::read(envelope.to_json().as_bytes()).unwrap();
        assert_eq!(read, envelope);
        assert_eq!(read.verified("a/b", &key.public()), Some(&b"text"[..]));
        assert_eq!(read.verified("a/c", &key.public()), None);
        assert_eq!(read.verified("a/b", &other.public()), None);
        for change in [
            Envelope { payload: b"texT".to_vec(), ..read.clone() },
            Envelope { payload_type: "a/B".into(), ..read.clone() },
            Envelope { signatures: Vec::new(), ..read.clone() },
            Envelope { signatures: vec![b"x".to_vec()], ..read.clone() },
        ] {
            assert_eq!(change.verified(&change.payload_type, &key.public()), None);
        }
        let two = Envelope { signatures: vec![b"x".to_vec(), read.signatures[0].clone()], ..read };
        assert_eq!(two.verified("a/b", &key.public()), Some(&b"text"[..]));
    }

    #[test]
    fn what_is_no_envelope() {
        let many = format!(
            r#"{{"payload":"","payloadType":"a","signatures":[{}]}}"#,
            [r#"{"sig":""}"#; 17].join(",")
        );
        for bad in ["", "{}", "[]", r#"{"payload":"*","payloadType":"a","signatures":[]}"#, many.as_str()] {
            assert_eq!(Envelope::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
