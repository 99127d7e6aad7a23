//! Public keys, of every kind that signers of Sigstore have.

use std::fmt;

use dmoci_layers::Digest;
use sigstore_verify::crypto::{self, KeyAlgorithm, VerificationKey};
use sigstore_verify::types::{DerPublicKey, HashAlgorithm, SignatureBytes};

use super::{ALGORITHM, KeyError};
use crate::base64;
use crate::trust::{der, pem};

/// A key that verifies: `SubjectPublicKeyInfo` (RFC 5280, section 4.1) of an algorithm that is known.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
    algorithm: KeyAlgorithm,
}

impl PublicKey {
    /// Reads a file with one block `PUBLIC KEY`; `name` is for messages.
    pub fn read(text: &str, name: &str) -> Result<PublicKey, KeyError> {
        let refuse = |why: String| KeyError::Public { name: name.to_owned(), why };
        let block = pem::read(text).map_err(|why| refuse(why.to_owned()))?;
        if block.label != "PUBLIC KEY" {
            return Err(refuse(format!("its block is called {:?}", super::short(&block.label))));
        }
        PublicKey::of(block.content).ok_or_else(|| {
            refuse(
                "it is neither ECDSA on P-256, P-384 or P-521, nor Ed25519, nor RSA of 2048 bits and more"
                    .into(),
            )
        })
    }

    /// A key in DER.
    pub(in crate::trust) fn of(der: Vec<u8>) -> Option<PublicKey> {
        let key = DerPublicKey::new(der);
        VerificationKey::from_spki(&key).ok()?;
        let algorithm = KeyAlgorithm::from_spki(&key).ok()?;
        Some(PublicKey { der: key.as_bytes().to_vec(), algorithm })
    }

    /// The one with this point on P-256.
    pub(super) fn p256(point: &[u8]) -> PublicKey {
        let bits = der::value(0x03, &[&[0], point].concat());
        let der = der::value(der::SEQUENCE, &[ALGORITHM, &bits].concat());
        PublicKey { der, algorithm: KeyAlgorithm::EcdsaP256 }
    }

    /// The file for it.
    pub fn to_pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.der)
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What the key is called in reports: the digest of its DER.
    pub fn id(&self) -> Digest {
        Digest::sha256(&self.der)
    }

    /// By what bundles tell which key signed them: the same digest in base64, as cosign writes it.
    pub fn hint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der);
        base64::encode(digest.as_ref())
    }

    /// True when this is the key's signature of these bytes.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let scheme = self.algorithm.default_signing_scheme();
        let signature = SignatureBytes::from_bytes(signature);
        crypto::verify_signature(&DerPublicKey::new(self.der.clone()), bytes, &signature, scheme).is_ok()
    }

    /// The algorithm by which the key signs digests, when `said` is what a signature says of it. Nothing for keys that sign bytes.
    pub(in crate::trust) fn hashes(&self, said: Option<HashAlgorithm>) -> Option<HashAlgorithm> {
        let scheme = match said {
            Some(said) => self.algorithm.resolve_signing_scheme(said).ok()?,
            None => self.algorithm.default_signing_scheme(),
        };
        scheme.hash_algorithm()
    }

    /// True when this is the key's signature of bytes with this digest.
    pub(in crate::trust) fn verifies_hashed(
        &self,
        hash: HashAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> bool {
        let Ok(scheme) = self.algorithm.resolve_signing_scheme(hash) else { return false };
        let signature = SignatureBytes::from_bytes(signature);
        let key = DerPublicKey::new(self.der.clone());
        let same = scheme.hash_algorithm() == Some(hash);
        same && crypto::verify_signature_prehashed(&key, digest, &signature, scheme).is_ok()
    }
}

/// `the key sha256:…`.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {}", self.id())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}
