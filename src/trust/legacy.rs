//! What cosign wrote before bundles: a signature beside a payload, with certificate, log entry and time-stamp as annotations.

use std::collections::BTreeMap;

use dmoci_layers::Digest;
use serde_json::{Value, json};
use sigstore_verify::types::Bundle;

use super::judge::{Artifact, Reason, Refusal, Signature, Signer, Trusted, about_another};
use super::pem;
use super::statement::{IN_TOTO, SIGN, Statement, short, to_sign};
use crate::base64;
use crate::oci::json as strict;
use crate::oci::media_type::DSSE_ENVELOPE as ENVELOPE;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOGGED: &str = "dev.sigstore.cosign/bundle";
const STAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// A layer of `sha256-….sig` or `sha256-….att`.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// The annotations of its descriptor.
    pub annotations: &'a BTreeMap<String, String>,
}

impl Layer<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// Which image a payload is about, and of what type it is.
struct Payload {
    digest: String,
    kind: String,
}

impl Payload {
    fn read(bytes: &[u8]) -> Result<Payload, Refusal> {
        let refuse = |why: String| {
            Refusal::new(Reason::Forged, "E-BUNDLE", format!("it is no payload of cosign: {why}"))
        };
        let value = strict::parse(bytes).map_err(|error| refuse(error.to_string()))?;
        let critical = &value["critical"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let digest = text(&critical["image"]["docker-manifest-digest"]);
        match (digest, text(&critical["type"])) {
            (Some(digest), Some(kind)) => Ok(Payload { digest, kind }),
            _ => Err(refuse("it names no image and type".into())),
        }
    }
}

/// What an envelope carries.
struct Envelope {
    payload: Vec<u8>,
    signature: String,
}

impl Envelope {
    fn read(bytes: &[u8]) -> Result<(Envelope, Statement), Refusal> {
        let refuse = |why: String| {
            Refusal::new(Reason::Forged, "E-BUNDLE", format!("it is no envelope with a statement: {why}"))
        };
        let value = strict::parse(bytes).map_err(|error| refuse(error.to_string()))?;
        if value["payloadType"].as_str() != Some(IN_TOTO) {
            return Err(refuse(format!("its payloadType is not {IN_TOTO}")));
        }
        let payload = value["payload"].as_str().and_then(base64::decode);
        let payload = payload.ok_or_else(|| refuse("its payload is not base64".into()))?;
        let signatures = value["signatures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let [signature] = signatures else {
            return Err(refuse(format!("it has {} signatures, and one is read", signatures.len())));
        };
        let signature = signature["sig"].as_str().unwrap_or_default().to_owned();
        let statement = Statement::read(&payload).map_err(refuse)?;
        Ok((Envelope { payload, signature }, statement))
    }
}

/// The image that a layer says it is about. Nothing of that is checked.
pub fn about(layer: Layer<'_>) -> Option<Digest> {
    match layer.media_type {
        ENVELOPE => Envelope::read(layer.content).ok()?.1.sha256(),
        _ => Payload::read(layer.content).ok()?.digest.parse().ok(),
    }
}

/// Who a layer says has signed it, and what it is. Nothing of that is checked.
pub fn claims(layer: Layer<'_>) -> Result<(String, Option<String>), Refusal> {
    let predicate = match layer.media_type {
        ENVELOPE => short(Envelope::read(layer.content)?.1.predicate_type()),
        _ => Payload::read(layer.content).map(|_| SIGN.to_owned())?,
    };
    let signer = match layer.text(CERTIFICATE) {
        Some(_) => bundle(layer)
            .map_or_else(|_| "a certificate that cannot be read".into(), |it| super::judge::claim(&it)),
        None => "a key that is not named".into(),
    };
    Ok((signer, Some(predicate)))
}

impl Trusted {
    /// Judges a layer of cosign's older layout.
    pub fn judge_legacy(&self, layer: Layer<'_>, digest: &Digest) -> Result<Signature, Refusal> {
        match layer.media_type {
            ENVELOPE => self.envelope(layer, digest),
            _ => self.simple(layer, digest),
        }
    }

    fn simple(&self, layer: Layer<'_>, digest: &Digest) -> Result<Signature, Refusal> {
        let payload = Payload::read(layer.content)?;
        self.wanted(Some(SIGN))?;
        if !["cosign container image signature", SIGN].contains(&payload.kind.as_str()) {
            let text = "the payload is of another type than cosign's signatures";
            return Err(Refusal::new(Reason::Forged, "E-BUNDLE", text).but(SIGN, short(&payload.kind)));
        }
        let mut signature = self.over(layer, layer.content, layer.text(SIGNATURE).unwrap_or_default())?;
        if payload.digest != digest.to_string() {
            return Err(about_another(digest, &short(&payload.digest)));
        }
        signature.predicate = Some(SIGN.into());
        Ok(signature)
    }

    fn envelope(&self, layer: Layer<'_>, digest: &Digest) -> Result<Signature, Refusal> {
        let (envelope, statement) = Envelope::read(layer.content)?;
        self.wanted(Some(statement.predicate_type()))?;
        let signed = to_sign(IN_TOTO, &envelope.payload);
        let mut signature = self.over(layer, &signed, &envelope.signature)?;
        if !statement.is_about(digest) {
            return Err(about_another(digest, &statement.subjects()));
        }
        signature.predicate = Some(short(statement.predicate_type()));
        Ok(signature)
    }

    /// The signature of these bytes.
    fn over(&self, layer: Layer<'_>, signed: &[u8], signature: &str) -> Result<Signature, Refusal> {
        let certified = layer.text(CERTIFICATE).is_some();
        match &self.signer {
            Signer::Key(key) if certified => {
                let text = "it is signed with a certificate, not with the key that was given";
                let found = claims(layer).map(|(signer, _)| signer).unwrap_or_default();
                Err(Refusal::new(Reason::Other, "E-SIGNER", text).but(key.to_string(), found))
            }
            Signer::Key(key) => {
                let bytes = base64::decode(signature).unwrap_or_default();
                if !key.verifies(signed, &bytes) {
                    // This layout does not say which key signed.
                    let text = "it is not signed with the key that was given, or was changed";
                    let expected = key.to_string();
                    return Err(Refusal::new(Reason::Other, "E-SIGNER", text).but(expected, "another key"));
                }
                let mut unchecked = Vec::new();
                if layer.text(LOGGED).is_some() || layer.text(STAMP).is_some() {
                    unchecked.push(
                        "its log entry and time-stamp: the key alone counts in cosign's older layout".into(),
                    );
                }
                Ok(Signature { signer: key.to_string(), predicate: None, times: Vec::new(), unchecked })
            }
            Signer::Identity(identity) if !certified => {
                let text = "it is signed with a key, not with a certificate";
                let refusal = Refusal::new(Reason::Other, "E-SIGNER", text);
                Err(refusal.but(identity.to_string(), "a key that is not named"))
            }
            Signer::Identity(identity) => {
                let bundle = bundle(layer)?;
                // A bundle's own signature is of the payload; of an envelope it covers the statement.
                match layer.media_type {
                    ENVELOPE => {
                        let statement = super::judge::statement(&bundle)?;
                        let about = statement.and_then(|it| it.sha256());
                        let about = about.ok_or_else(|| {
                            let text = "its statement names no digest by sha256";
                            Refusal::new(Reason::Forged, "E-BUNDLE", text)
                        })?;
                        self.by_identity(&bundle, identity, Artifact { digest: &about, open: None }, true)
                    }
                    _ => {
                        let digest = Digest::sha256(signed);
                        self.by_identity(&bundle, identity, Artifact { digest: &digest, open: None }, true)
                    }
                }
            }
        }
    }
}

/// The same as a bundle 0.1, so that one and the same code judges certificates, promises of logs, and time-stamps.
fn bundle(layer: Layer<'_>) -> Result<Bundle, Refusal> {
    let refuse = |why: &str| {
        Refusal::new(Reason::Forged, "E-BUNDLE", format!("its annotations cannot be used: {why}"))
    };
    let mut certificates = Vec::new();
    for name in [CERTIFICATE, CHAIN] {
        let text = layer.text(name).unwrap_or_default();
        for block in pem::read_all(text).map_err(refuse)? {
            certificates.push(json!({"rawBytes": base64::encode(&block.content)}));
        }
    }
    let mut material = json!({"x509CertificateChain": {"certificates": certificates}});
    if let Some(logged) = layer.text(LOGGED) {
        let value = strict::parse(logged.as_bytes()).map_err(|error| refuse(&error.to_string()))?;
        material["tlogEntries"] = json!([entry(&value).ok_or_else(|| refuse("the log entry is malformed"))?]);
    }
    if let Some(stamp) = layer.text(STAMP) {
        let value = strict::parse(stamp.as_bytes()).map_err(|error| refuse(&error.to_string()))?;
        material["timestampVerificationData"] =
            json!({"rfc3161Timestamps": [{"signedTimestamp": value["SignedRFC3161Timestamp"]}]});
    }
    let mut value = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": material,
    });
    match layer.media_type {
        ENVELOPE => {
            value["dsseEnvelope"] =
                strict::parse(layer.content).map_err(|error| refuse(&error.to_string()))?;
        }
        _ => {
            let digest = super::bundle::raw(&Digest::sha256(layer.content)).unwrap_or_default();
            value["messageSignature"] = json!({
                "messageDigest": {"algorithm": "SHA2_256", "digest": base64::encode(&digest)},
                "signature": layer.text(SIGNATURE).unwrap_or_default(),
            });
        }
    }
    super::judge::read(value.to_string().as_bytes())
}

/// A file's bundle as `cosign sign-blob --bundle` wrote it before 3.0: signature, certificate or key, and what the log promised.
pub(super) fn of_file(value: &Value) -> Result<Bundle, Refusal> {
    let refuse = |why: &str| {
        Refusal::new(Reason::Forged, "E-BUNDLE", format!("it is no bundle of cosign that can be read: {why}"))
    };
    let cert = value["cert"].as_str().unwrap_or_default();
    let pem = base64::decode(cert).and_then(|bytes| String::from_utf8(bytes).ok());
    let blocks = pem::read_all(&pem.ok_or_else(|| refuse("its cert is not base64"))?).map_err(refuse)?;
    let certificates: Vec<Value> = blocks
        .iter()
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| json!({"rawBytes": base64::encode(&block.content)}))
        .collect();
    let mut material = match certificates.is_empty() {
        true => json!({"publicKey": {"hint": ""}}),
        false => json!({"x509CertificateChain": {"certificates": certificates}}),
    };
    if let Some(logged) = value.get("rekorBundle").filter(|logged| !logged.is_null()) {
        material["tlogEntries"] = json!([entry(logged).ok_or_else(|| refuse("the log entry is malformed"))?]);
    }
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": material,
        "messageSignature": {"signature": value["base64Signature"]},
    });
    // So that it can be told what it is about; the log's entry is compared with the file in any case.
    if let Some(digest) = logged_digest(value) {
        let digest = base64::encode(&digest);
        bundle["messageSignature"]["messageDigest"] = json!({"algorithm": "SHA2_256", "digest": digest});
    }
    super::judge::read(bundle.to_string().as_bytes())
}

/// The SHA-256 of what a log's entry is about.
fn logged_digest(value: &Value) -> Option<[u8; 32]> {
    let body = base64::decode(value["rekorBundle"]["Payload"]["body"].as_str()?)?;
    let body = strict::parse(&body).ok()?;
    let hash = &body["spec"]["data"]["hash"];
    let hex = hash["value"].as_str().filter(|_| hash["algorithm"] == "sha256")?;
    super::bundle::raw(&format!("sha256:{hex}").parse().ok()?)
}

/// An entry of Rekor as bundles have it.
fn entry(logged: &Value) -> Option<Value> {
    let payload = &logged["Payload"];
    let body = payload["body"].as_str()?;
    let inner = strict::parse(&base64::decode(body)?).ok()?;
    let id = payload["logID"].as_str()?;
    let id: Option<Vec<u8>> =
        (0..id.len()).step_by(2).map(|i| u8::from_str_radix(id.get(i..i + 2)?, 16).ok()).collect();
    Some(json!({
        "logIndex": payload["logIndex"].as_u64()?.to_string(),
        "logId": {"keyId": base64::encode(&id?)},
        "kindVersion": {"kind": inner["kind"].as_str()?, "version": inner["apiVersion"].as_str()?},
        "integratedTime": payload["integratedTime"].as_u64()?.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": logged["SignedEntryTimestamp"].as_str()?},
        "canonicalizedBody": body,
    }))
}
