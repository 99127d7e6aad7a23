//! Content digests as of the OCI image specification 1.1, `descriptor.md`, "Digests".

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;
use std::sync::OnceLock;

use sha2::Digest as _;

/// A registered digest algorithm that this crate can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, the algorithm of every digest that this crate writes.
    Sha256,
    /// SHA-512, read and verified, never written.
    Sha512,
}

impl Algorithm {
    /// The registered identifier, `sha256` or `sha512`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Number of lower-case hexadecimal characters of a digest.
    pub fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A checked digest, `sha256:` or `sha512:` and lower-case hexadecimal characters of the right number.
///
/// Cannot be made without that check, so its parts are safe as names of files.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is not a digest that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:encoded` form at all.
    #[error("not a digest: {0:?} (expected algorithm:hex)")]
    Grammar(String),
    /// The grammar holds but the algorithm is not one that this crate can compute.
    #[error("digest algorithm {0:?} is not supported (expected sha256 or sha512)")]
    Algorithm(String),
    /// The encoded part has the wrong length or other characters than `0-9a-f`.
    #[error("not a {algorithm} digest: {hex:?} (expected {expected} characters of 0-9a-f)")]
    Hex {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Number of characters it needs.
        expected: usize,
        /// What was found, cut after 160 characters.
        hex: String,
    },
}

impl Digest {
    /// The SHA-256 digest of these bytes.
    pub fn sha256(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest of everything `reader` gives, and how many bytes that was.
    ///
    /// Reads to the end: bound the reader first when its bytes come from elsewhere.
    pub fn of_reader(algorithm: Algorithm, reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::new(algorithm);
        let size = io::copy(reader, &mut hasher)?;
        Ok((hasher.finish(), size))
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal characters, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first 12 hexadecimal characters, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let shown = || text.chars().take(160).collect::<String>();
        let (algorithm, hex) = text.split_once(':').ok_or_else(|| DigestError::Grammar(shown()))?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ if is_algorithm(algorithm) && is_encoded(hex) => {
                return Err(DigestError::Algorithm(algorithm.chars().take(64).collect()));
            }
            _ => return Err(DigestError::Grammar(shown())),
        };
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(lower_hex) {
            return Err(DigestError::Hex {
                algorithm: algorithm.name(),
                expected: algorithm.hex_len(),
                hex: hex.chars().take(160).collect(),
            });
        }
        Ok(Digest { algorithm, hex: hex.into() })
    }
}

/// `algorithm-component [algorithm-separator algorithm-component]*` of descriptor.md.
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// `encoded ::= [a-zA-Z0-9=_-]+` of descriptor.md.
fn is_encoded(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A computation of SHA-256 (FIPS 180-4): this crate's own, or a faster one that a program brings along.
///
/// Who computes it never shows in a digest.
pub trait Sha256: Send + Sync {
    /// Adds bytes.
    fn update(&mut self, bytes: &[u8]);
    /// The digest of all bytes added.
    fn finish(self: Box<Self>) -> [u8; 32];
}

/// Begins a computation that has seen no bytes.
pub type NewSha256 = fn() -> Box<dyn Sha256>;

static SHA256: OnceLock<NewSha256> = OnceLock::new();

/// Why a computation of SHA-256 was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Its digests are not those of SHA-256.
    #[error("what was given does not compute SHA-256")]
    Wrong,
    /// Another one was given earlier, and stays.
    #[error("another implementation of SHA-256 is in use already")]
    Taken,
}

/// Lets all SHA-256 digests of this process be computed by `new` from now on, once its answers to some known
/// questions are right. Given the same `new` again, nothing happens.
pub fn provide_sha256(new: NewSha256) -> Result<(), ProviderError> {
    if SHA256.get().is_some_and(|present| std::ptr::fn_addr_eq(*present, new)) {
        return Ok(());
    }
    // Lengths around the ends of blocks and of their padding, in parts and at once.
    let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
    for len in [0, 1, 55, 56, 63, 64, 65, 119, 128, 1000] {
        let mut given = new();
        bytes[..len].chunks(37).for_each(|part| given.update(part));
        if given.finish() != <[u8; 32]>::from(sha2::Sha256::digest(&bytes[..len])) {
            return Err(ProviderError::Wrong);
        }
    }
    SHA256.set(new).map_err(|_| ProviderError::Taken)
}

/// SHA-256 of the `sha2` crate.
struct OwnSha256(sha2::Sha256);

impl OwnSha256 {
    fn begin() -> Box<dyn Sha256> {
        Box::new(OwnSha256(sha2::Sha256::new()))
    }
}

impl Sha256 for OwnSha256 {
    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    fn finish(self: Box<Self>) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Computes a digest from bytes as they come.
pub struct Hasher(State);

enum State {
    Sha256(Box<dyn Sha256>),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hasher that has seen no bytes.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(SHA256.get().map_or_else(OwnSha256::begin, |new| new())),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    /// A SHA-256 hasher.
    pub fn sha256() -> Hasher {
        Hasher::new(Algorithm::Sha256)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => sha2::Digest::update(state.as_mut(), bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, to_hex(&state.finish())),
            State::Sha512(state) => (Algorithm::Sha512, to_hex(&state.finalize())),
        };
        Digest { algorithm, hex }
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_hex(bytes: &[u8]) -> Box<str> {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    hex.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256(b"").to_string(), format!("sha256:{empty}"));
        let (digest, size) = Digest::of_reader(Algorithm::Sha512, &mut &b"abc"[..]).unwrap();
        assert_eq!(size, 3);
        assert!(digest.to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn an_implementation_that_is_wrong_is_not_taken() {
        struct Wrong(OwnSha256);
        impl Sha256 for Wrong {
            fn update(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(self: Box<Self>) -> [u8; 32] {
                let mut digest = Box::new(self.0).finish();
                digest[31] ^= 1;
                digest
            }
        }
        let new = || -> Box<dyn Sha256> { Box::new(Wrong(OwnSha256(sha2::Sha256::new()))) };
        assert_eq!(provide_sha256(new), Err(ProviderError::Wrong));
        known_answers();
    }

    #[test]
    fn grammar() {
        let good = Digest::sha256(b"x").to_string();
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        assert!(matches!("blake3:00ff".parse::<Digest>(), Err(DigestError::Algorithm(_))));
        for bad in ["", "sha256", ":", "sha256:../../etc/passwd", "sha256/x:00", "Sha256:00", "a..b:00"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(good.to_uppercase().parse::<Digest>().is_err());
        assert!(good.replace(|c: char| c.is_ascii_lowercase(), "A").parse::<Digest>().is_err());
        assert!(format!("{good}0").parse::<Digest>().is_err());
    }
}
