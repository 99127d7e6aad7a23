//! Every leaf of a bundle changed: none verifies but where nothing is said to anybody.

use std::fs;

use dmoci::base64;
use dmoci::trust::{Artifact, Identity, PublicKey, Root, Signer, Trusted, Wanted};
use dmoci_layers::Digest;
use serde_json::Value;

use super::fixture;

/// All leaves of a document, as pointers.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| leaves(value, &format!("{at}/{name}"), found))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| leaves(value, &format!("{at}/{i}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

/// Other values for a leaf: another byte of what it encodes at three places, another text, nothing.
fn others(leaf: &Value) -> Vec<Value> {
    let Some(text) = leaf.as_str() else { return vec![Value::Null, 7.into()] };
    let mut others = vec![Value::Null, "".into()];
    match base64::decode(text).filter(|bytes| bytes.len() > 8) {
        Some(bytes) => {
            for at in [0, bytes.len() / 2, bytes.len() - 1] {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                others.push(base64::encode(&bytes).into());
            }
        }
        None => {
            let last = text.chars().next_back().unwrap_or('0');
            let other = if last == '1' { '2' } else { '1' };
            let at = text.len() - last.len_utf8().min(text.len());
            others.push(format!("{}{other}", &text[..at]).into());
        }
    }
    others
}

/// Pointers whose change does not matter to the verdict.
fn spoiled(bundle: &str, digest: &Digest, trusted: &Trusted) -> Vec<String> {
    let bytes = fs::read(fixture(bundle)).unwrap();
    let judge = |bytes: &[u8]| trusted.judge(bytes, Artifact { digest, open: None });
    judge(&bytes).unwrap();
    let whole: Value = serde_json::from_slice(&bytes).unwrap();
    let mut pointers = Vec::new();
    leaves(&whole, "", &mut pointers);
    assert!(pointers.len() >= 5, "{pointers:?}");
    let mut silent = Vec::new();
    for pointer in &pointers {
        for other in others(whole.pointer(pointer).unwrap()) {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            if judge(changed.to_string().as_bytes()).is_ok() && !silent.contains(pointer) {
                silent.push(pointer.clone());
            }
        }
    }
    silent
}

fn identity(subject: &str, issuer: &str, root: Root) -> Trusted {
    Trusted {
        signer: Signer::Identity(Identity::exact(subject, issuer).unwrap()),
        wanted: Wanted::Anything,
        root,
    }
}

fn digest(hex: &str) -> Digest {
    format!("sha256:{hex}").parse().unwrap()
}

#[test]
fn by_certificate_rekor_1() {
    let trusted =
        identity("w.vollprecht@gmail.com", "https://github.com/login/oauth", Root::embedded().unwrap());
    let digest = digest("e194b99df6639501325c5f44da79fe3a8efae6f239bd79443a19787e06fb1764");
    let silent = spoiled("sigstore/cosign-v3-blob.sigstore.json", &digest, &trusted);
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn by_certificate_rekor_2() {
    let trusted = identity("jku@goto.fi", "https://github.com/login/oauth", Root::staging().unwrap());
    let digest = digest("15f67246115921bb7c1de0e7e9e9275c8016dc254a0c009888944b7ed3644aaa");
    let silent = spoiled("sigstore/rekor-v2/staging-rekor-v2.txt.sigstore.json", &digest, &trusted);
    // What the log has signed says all of this too, and counts; a time-stamp brings a certificate along, and the root's counts.
    assert_eq!(
        silent,
        [
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
            "/verificationMaterial/tlogEntries/0/inclusionProof/logIndex",
            "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
            "/verificationMaterial/tlogEntries/0/inclusionProof/treeSize",
            "/verificationMaterial/tlogEntries/0/logId/keyId",
        ]
    );
}

#[test]
fn by_certificate_before_bundles() {
    let trusted =
        identity("daniel.bevenius@gmail.com", "https://github.com/login/oauth", Root::embedded().unwrap());
    let digest = digest("4bc453b53cb3d914b45f4b250294236adba2c0e09ff6f03793949e7e39fd4cc1");
    let silent = spoiled("sigstore/cosign-v1-blob.bundle", &digest, &trusted);
    // Text around a PEM block is no part of it: here the line end.
    assert_eq!(silent, ["/cert"]);
}

#[test]
fn by_key() {
    let pem = fs::read_to_string(fixture("cosign/cosign.pub")).unwrap();
    let trusted = |wanted| Trusted {
        signer: Signer::Key(PublicKey::read(&pem, "k").unwrap()),
        wanted,
        root: Root::embedded().unwrap(),
    };
    // What a bundle calls the key is nothing that counts.
    let hint = "/verificationMaterial/publicKey/hint";
    let blob = digest("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    let silent = spoiled("cosign/blob.txt.sigstore.json", &blob, &trusted(Wanted::Signature));
    assert_eq!(silent, [hint]);
    let image = digest("fe557676be9fea06a6a45bdb856d8df6833aa6702516f1267aeb884c6fff13a2");
    let silent = spoiled("cosign/signature.sigstore.json", &image, &trusted(Wanted::Signature));
    assert_eq!(silent, [hint]);
}
