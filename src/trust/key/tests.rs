use dmoci_layers::Digest;
use sigstore_verify::types::HashAlgorithm;

use super::*;

fn password(text: &str) -> Password {
    Password::new(text.as_bytes().to_vec())
}

#[test]
fn a_sealed_key_opens_with_its_password_only() {
    let key = SigningKey::generate().unwrap();
    let text = key.seal(&password("secret")).unwrap();
    assert!(text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    let again = SigningKey::open(&text, &password("secret"), "k").unwrap();
    assert_eq!(again.public(), key.public());
    let error = SigningKey::open(&text, &password("Secret"), "k").unwrap_err();
    assert!(matches!(error, KeyError::Password { .. }));
    let old = text.replace("SIGSTORE", "COSIGN");
    assert!(SigningKey::open(&old, &password("secret"), "k").is_ok());
    assert!(matches!(
        SigningKey::open(&key.public().to_pem(), &password(""), "k"),
        Err(KeyError::Private { .. })
    ));
    assert!(PublicKey::read(&text, "k").is_err());
}

/// RFC 6979, A.2.5: the key, and its signatures of "sample" and "test" with SHA-256.
#[test]
fn signatures_are_those_of_rfc_6979() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    let key = SigningKey(
        p256::ecdsa::SigningKey::from_slice(&hex(
            "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
        ))
        .unwrap(),
    );
    for (message, r, s) in [
        (
            "sample",
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
            "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        ),
        (
            "test",
            "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
            "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
        ),
    ] {
        let pair: [u8; 64] = [hex(r), hex(s)].concat().try_into().unwrap();
        let signature = key.sign(message.as_bytes());
        assert_eq!(signature, der::signature(&pair));
        let digest: [u8; 32] = hex(Digest::sha256(message.as_bytes()).hex()).try_into().unwrap();
        assert_eq!(key.sign_digest(&digest).unwrap(), signature);
        let public = PublicKey::read(&key.public().to_pem(), "k").unwrap();
        assert_eq!(public, key.public());
        assert!(public.verifies(message.as_bytes(), &signature));
        assert_eq!(public.hashes(None), Some(HashAlgorithm::Sha2256));
        assert!(public.verifies_hashed(HashAlgorithm::Sha2256, &digest, &signature));
        assert!(!public.verifies(b"other", &signature));
        for i in 0..signature.len() {
            let mut bad = signature.clone();
            bad[i] ^= 1;
            assert!(!public.verifies(message.as_bytes(), &bad), "{i}");
        }
    }
}

#[test]
fn hostile_key_files_are_refused_before_anything_is_computed() {
    let key = SigningKey::generate().unwrap();
    let block = pem::read(&key.seal(&password("")).unwrap()).ok().unwrap();
    let good = String::from_utf8(block.content).unwrap();
    for (from, to) in [
        ("32768", "1073741824"),
        ("32768", "32767"),
        ("32768", "2"),
        ("\"r\":8", "\"r\":1048576"),
        ("\"p\":1", "\"p\":4294967295"),
        ("scrypt", "none"),
        ("nacl/secretbox", "none"),
        ("\"nonce\":\"", "\"nonce\":\"AAAA"),
        ("\"kdf\"", "\"kdf\":{},\"kdf\""),
        ("\"N\":32768", "\"N\":-1"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        let text = pem::write(LABELS[0], bad.as_bytes());
        let error = SigningKey::open(&text, &password(""), "k").unwrap_err();
        assert!(matches!(error, KeyError::Private { .. }), "{to}: {error}");
    }
}

#[test]
fn keys_of_other_kinds_inside_are_refused() {
    let key = SigningKey::generate().unwrap();
    let good = key.pkcs8();
    assert_eq!(scalar(&good).unwrap().len(), 32);
    for i in 0..35 {
        let mut bad = good.to_vec();
        bad[i] ^= 0x40;
        assert!(scalar(&bad).is_none(), "{i}");
    }
    assert!(scalar(&good[..good.len() - 1]).is_none());
}

#[test]
fn nothing_secret_is_shown() {
    let key = SigningKey::generate().unwrap();
    let shown = format!("{key:?} {:?}", password("secret"));
    assert!(!shown.contains("secret") && shown.contains(&key.public().id().to_string()), "{shown}");
}
