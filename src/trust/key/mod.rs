//! Keys: pairs on P-256 that sign, in cosign's encrypted files, and public keys that verify.

mod public;
mod sealed;

use std::fmt;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer as _;
use zeroize::Zeroizing;

pub use public::PublicKey;

use super::{der, pem};
use crate::diagnostic::{Diagnostic, Exit};

/// The largest key file that is read: 64 KiB.
pub const KEY_BYTES: u64 = 64 << 10;

/// What cosign writes, and what it wrote before 2.0.
const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// Why a key cannot be used. None says anything of the key itself.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is no private key that can be read here.
    #[error("{name} is no encrypted private key of Sigstore: {why}")]
    Private {
        /// The file as the user named it.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The file is no public key that can be read here.
    #[error("{name} is no public key: {why}")]
    Public {
        /// The file as the user named it.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The password does not open the file.
    #[error("the password does not open {name}")]
    Password {
        /// The file as the user named it.
        name: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers to make a key of")]
    Random,
}

impl Diagnostic for KeyError {
    fn code(&self) -> &'static str {
        match self {
            KeyError::Private { .. } | KeyError::Public { .. } => "E-KEY",
            KeyError::Password { .. } => "E-KEY-PASSWORD",
            KeyError::Random => "E-KEY-RANDOM",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            KeyError::Random => Exit::Undecided,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            KeyError::Private { .. } => {
                "make one with `dmoci key generate` or `cosign generate-key-pair`; `cosign import-key-pair` encrypts one that you have"
                    .into()
            }
            KeyError::Public { .. } => {
                "name a file with -----BEGIN PUBLIC KEY-----, as `dmoci key generate` and cosign write it beside the private one".into()
            }
            KeyError::Password { .. } => "give the password with which the key was made, in COSIGN_PASSWORD or --password-file".into(),
            KeyError::Random => return None,
        })
    }
}

/// What opens a key file. It is wiped from memory when it goes, and never shown.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// These bytes.
    pub fn new(bytes: Vec<u8>) -> Password {
        Password(Zeroizing::new(bytes))
    }

    /// True when nothing was given, which cosign allows.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Password) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A key pair that signs: ECDSA on P-256 with SHA-256.
///
/// The same key gives the same signature of the same bytes (RFC 6979): no random number decides it.
pub struct SigningKey(p256::ecdsa::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// A new one.
    pub fn generate() -> Result<SigningKey, KeyError> {
        let random = SystemRandom::new();
        let mut scalar = Zeroizing::new([0; 32]);
        // Of 2^32 texts one is no number below the order of the group.
        for _ in 0..8 {
            random.fill(scalar.as_mut()).map_err(|_| KeyError::Random)?;
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(scalar.as_ref()) {
                return Ok(SigningKey(key));
            }
        }
        Err(KeyError::Random)
    }

    /// Opens a key file; `name` is for messages.
    pub fn open(text: &str, password: &Password, name: &str) -> Result<SigningKey, KeyError> {
        let refuse = |why: &str| KeyError::Private { name: name.to_owned(), why: why.to_owned() };
        let block = pem::read(text).map_err(refuse)?;
        if !LABELS.contains(&block.label.as_str()) {
            return Err(refuse(&format!("its block is called {:?}", short(&block.label))));
        }
        let pkcs8 = sealed::open(&block.content, password.bytes()).map_err(|error| match error {
            sealed::Closed::Malformed(why) => refuse(why),
            sealed::Closed::Password => KeyError::Password { name: name.to_owned() },
        })?;
        let key = scalar(&pkcs8).and_then(|scalar| p256::ecdsa::SigningKey::from_slice(scalar).ok());
        key.map(SigningKey)
            .ok_or_else(|| refuse("the key inside is of another kind than ECDSA on P-256 (PKCS #8)"))
    }

    /// The file for it, as cosign writes it: scrypt (N 32768, r 8, p 1) and NaCl's secretbox around PKCS #8.
    pub fn seal(&self, password: &Password) -> Result<String, KeyError> {
        let random = SystemRandom::new();
        let (mut salt, mut nonce) = ([0; 32], [0; 24]);
        random.fill(&mut salt).and_then(|()| random.fill(&mut nonce)).map_err(|_| KeyError::Random)?;
        let content = sealed::seal(&self.pkcs8(), password.bytes(), &salt, &nonce).ok_or(KeyError::Random)?;
        Ok(pem::write(LABELS[0], &content))
    }

    /// The key that verifies what it signs.
    pub fn public(&self) -> PublicKey {
        PublicKey::p256(&self.point())
    }

    /// The signature of these bytes, in DER.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(bytes);
        der::signature(&signature.to_bytes().into())
    }

    /// The same of bytes whose SHA-256 this is.
    pub fn sign_digest(&self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        use p256::ecdsa::signature::hazmat::PrehashSigner as _;
        let signature: Signature = self.0.sign_prehash(digest).ok()?;
        Some(der::signature(&signature.to_bytes().into()))
    }

    /// The public point, uncompressed (SEC 1, section 2.3.3).
    fn point(&self) -> Vec<u8> {
        self.0.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    /// `PrivateKeyInfo` (RFC 5208) with `ECPrivateKey` (RFC 5915), byte for byte as Go writes it.
    fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let scalar = Zeroizing::new(self.0.to_bytes());
        let point = der::value(0x03, &[&[0], self.point().as_slice()].concat());
        let inner = Zeroizing::new(
            [
                &[der::INTEGER, 1, 1][..],
                &Zeroizing::new(der::value(der::OCTETS, &scalar)),
                &der::value(0xa1, &point),
            ]
            .concat(),
        );
        let inner = Zeroizing::new(der::value(der::SEQUENCE, &inner));
        let all = Zeroizing::new(
            [&[der::INTEGER, 1, 0][..], ALGORITHM, &Zeroizing::new(der::value(der::OCTETS, &inner))].concat(),
        );
        Zeroizing::new(der::value(der::SEQUENCE, &all))
    }
}

/// `AlgorithmIdentifier` of a key on P-256 (RFC 5480, section 2.1).
const ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];

/// The private number of a key on P-256.
fn scalar(pkcs8: &[u8]) -> Option<&[u8]> {
    let mut outer = der::Reader(pkcs8);
    let mut info = der::Reader(outer.take(der::SEQUENCE)?);
    let known = outer.0.is_empty() && matches!(info.take(der::INTEGER)?, [0 | 1]);
    let algorithm = info.take(der::SEQUENCE)?;
    if !known || algorithm != &ALGORITHM[2..] {
        return None;
    }
    let mut whole = der::Reader(info.take(der::OCTETS)?);
    let mut key = der::Reader(whole.take(der::SEQUENCE)?);
    whole.0.is_empty().then_some(())?;
    (key.take(der::INTEGER)? == [1]).then_some(())?;
    key.take(der::OCTETS).filter(|scalar| scalar.len() == 32)
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
