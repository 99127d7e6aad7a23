//! Sigstore bundles 0.3 of key signatures, as cosign 3 writes them; nothing in them changes from one run to the next.

use dmoci_layers::Digest;
use serde::Serialize;

use super::key::SigningKey;
use super::statement::{IN_TOTO, Statement, to_sign};
use crate::base64;

/// The media type of a bundle, and of the artifact in a registry that holds one.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: &'static str,
    verification_material: Material,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_signature: Option<MessageSignature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dsse_envelope: Option<Envelope>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Hint,
}

#[derive(Serialize)]
struct Hint {
    hint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: MessageDigest,
    signature: String,
}

#[derive(Serialize)]
struct MessageDigest {
    algorithm: &'static str,
    digest: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: &'static str,
    signatures: [Signature; 1],
}

#[derive(Serialize)]
struct Signature {
    sig: String,
}

/// The bundle of a key's signature of a file whose SHA-256 this is.
pub fn of_file(key: &SigningKey, digest: &Digest) -> Option<Vec<u8>> {
    let bytes = raw(digest)?;
    let message = MessageSignature {
        message_digest: MessageDigest { algorithm: "SHA2_256", digest: base64::encode(&bytes) },
        signature: base64::encode(&key.sign_digest(&bytes)?),
    };
    written(key, Some(message), None)
}

/// The bundle of a key's signature of a statement.
pub fn of_statement(key: &SigningKey, statement: &Statement) -> Option<Vec<u8>> {
    let payload = statement.to_bytes();
    let envelope = Envelope {
        payload: base64::encode(&payload),
        payload_type: IN_TOTO,
        signatures: [Signature { sig: base64::encode(&key.sign(&to_sign(IN_TOTO, &payload))) }],
    };
    written(key, None, Some(envelope))
}

fn written(
    key: &SigningKey,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
) -> Option<Vec<u8>> {
    let verification_material = Material { public_key: Hint { hint: key.public().hint() } };
    serde_json::to_vec(&Bundle {
        media_type: BUNDLE,
        verification_material,
        message_signature,
        dsse_envelope,
    })
    .ok()
}

/// The 32 bytes of a SHA-256.
pub fn raw(digest: &Digest) -> Option<[u8; 32]> {
    let hex = digest.hex();
    if digest.algorithm() != dmoci_layers::Algorithm::Sha256 {
        return None;
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}
