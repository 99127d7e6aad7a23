//! cosign's encryption of key files: `go-securesystemslib/encrypted`, scrypt and NaCl's secretbox in JSON.

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};
use scrypt::Params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base64;
use crate::oci::json;

/// The largest exponent of scrypt's N that is computed: with r = 8 this takes 128 MiB and about a second. Larger ones are an attack.
const LARGEST: u32 = 17;
/// What cosign writes.
const COST: u32 = 32768;
const TAG: usize = 16;

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Cost,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Cost {
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Why nothing comes out.
pub(super) enum Closed {
    /// It is not such a file.
    Malformed(&'static str),
    /// It is, and the password is another.
    Password,
}

/// What was sealed with this password.
pub(super) fn open(content: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let malformed = Closed::Malformed;
    // Strict about names that occur twice; what it holds is read below.
    let value = json::parse(content).map_err(|_| malformed("its content is not JSON"))?;
    let sealed: Sealed =
        serde_json::from_value(value).map_err(|_| malformed("its content is not cosign's"))?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(malformed("it is encrypted by other means than scrypt and nacl/secretbox"));
    }
    let Cost { n, r, p } = sealed.kdf.params;
    let bounded = n.is_power_of_two() && (14..=LARGEST).contains(&n.trailing_zeros());
    if !bounded || r != 8 || p != 1 {
        return Err(malformed("its scrypt parameters are not N = 16384 to 131072, r = 8, p = 1"));
    }
    let decoded = |text: &str| base64::decode(text).ok_or(malformed("a text in it is not base64"));
    let (salt, nonce) = (decoded(&sealed.kdf.salt)?, decoded(&sealed.cipher.nonce)?);
    let ciphertext = decoded(&sealed.ciphertext)?;
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| malformed("its nonce has not 24 bytes"))?;
    let key = derive(password, &salt, n).ok_or(malformed("its scrypt parameters cannot be used"))?;
    unbox(&key, &nonce, &ciphertext).ok_or(Closed::Password)
}

/// The content of a key file.
pub(super) fn seal(plain: &[u8], password: &[u8], salt: &[u8; 32], nonce: &[u8; 24]) -> Option<Vec<u8>> {
    let key = derive(password, salt, COST)?;
    let sealed = Sealed {
        kdf: Kdf { name: "scrypt".into(), params: Cost { n: COST, r: 8, p: 1 }, salt: base64::encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".into(), nonce: base64::encode(nonce) },
        ciphertext: base64::encode(&boxed(&key, nonce, plain)),
    };
    serde_json::to_vec(&sealed).ok()
}

fn derive(password: &[u8], salt: &[u8], n: u32) -> Option<Zeroizing<[u8; 32]>> {
    let params = Params::new(u8::try_from(n.trailing_zeros()).ok()?, 8, 1).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(password, salt, &params, key.as_mut()).ok()?;
    Some(key)
}

/// `crypto_secretbox_xsalsa20poly1305`: the first 32 bytes of the stream are the key of the tag, which stands before the text.
fn boxed(key: &[u8; 32], nonce: &[u8; 24], plain: &[u8]) -> Vec<u8> {
    let (mut stream, tagger) = begin(key, nonce);
    let mut text = plain.to_vec();
    stream.apply_keystream(&mut text);
    [tagger.compute_unpadded(&text).as_slice(), &text].concat()
}

fn unbox(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (tag, text) = sealed.split_at_checked(TAG)?;
    let (mut stream, tagger) = begin(key, nonce);
    let found = tagger.compute_unpadded(text);
    aws_lc_rs::constant_time::verify_slices_are_equal(&found, tag).ok()?;
    let mut plain = Zeroizing::new(text.to_vec());
    stream.apply_keystream(&mut plain);
    Some(plain)
}

fn begin(key: &[u8; 32], nonce: &[u8; 24]) -> (XSalsa20, Poly1305) {
    let mut stream = XSalsa20::new(key.into(), nonce.into());
    let mut first = Zeroizing::new([0; 32]);
    stream.apply_keystream(first.as_mut());
    let tagger = Poly1305::new((&*first).into());
    (stream, tagger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// The example of "Cryptography in NaCl" (Bernstein 2009), section 10, which NaCl's `tests/secretbox.c` has too.
    #[test]
    fn secretbox_is_that_of_nacl() {
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let plain = hex(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705",
        );
        let sealed = hex(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
        );
        let (key, nonce) = (key.try_into().unwrap(), nonce.try_into().unwrap());
        assert_eq!(boxed(&key, &nonce, &plain), sealed);
        assert_eq!(unbox(&key, &nonce, &sealed).unwrap().as_slice(), plain);
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(unbox(&key, &nonce, &bad).is_none(), "{i}");
        }
        assert!(unbox(&key, &nonce, &sealed[..TAG - 1]).is_none());
    }
}
