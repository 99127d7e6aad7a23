//! Whether a signature is by the one who is trusted, and about what is in hand.

use std::io::{self, Read};

use dmoci_layers::Digest;
use sigstore_verify::crypto::ArtifactHasher;
use sigstore_verify::types::bundle::VerificationMaterialContent as Material;
use sigstore_verify::types::{
    Artifact as Hashed, ArtifactDigest, Bundle, HashAlgorithm, Sha256Hash, SignatureContent,
};
use sigstore_verify::{
    CertificateError, Error, Policy, PublicKeyVerificationPolicy, TimestampError, TransparencyLogError,
    VerificationPolicy, VerificationResult,
};

use super::bundle::raw;
use super::identity::Identity;
use super::key::PublicKey;
use super::legacy;
use super::root::Root;
use super::statement::{IN_TOTO, SIGN, Statement, short, to_sign};
use crate::base64;
use crate::oci::json;

/// The largest file that is held in memory for a key that signs bytes, not digests: 256 MiB.
const WHOLE_BYTES: u64 = 256 << 20;

/// Who must have signed.
#[derive(Debug)]
pub enum Signer {
    /// Whoever has the private part of this key.
    Key(PublicKey),
    /// Whoever had a certificate that names this identity.
    Identity(Identity),
}

/// What the operator trusts.
#[derive(Debug)]
pub struct Trusted {
    /// Who must have signed.
    pub signer: Signer,
    /// What the statement must be.
    pub wanted: Wanted,
    /// What certificates, logs and time-stamps are judged by.
    pub root: Root,
}

/// What a signature must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That something is signed, and nothing more: an attestation is not taken for that.
    Signature,
    /// A statement whose predicate is of this type.
    Predicate(String),
    /// Whatever it says; only for tests of the checks themselves.
    Anything,
}

/// Opens a file anew.
pub type Opener<'a> = &'a (dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a);

/// What must have been signed.
#[derive(Clone, Copy)]
pub struct Artifact<'a> {
    /// Its digest, which was computed here.
    pub digest: &'a Digest,
    /// Its content, for signatures that need more than that; images have none.
    pub open: Option<Opener<'a>>,
}

/// A signature that is right in all respects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// By whom, in words.
    pub signer: String,
    /// What the statement is; nothing for a signature of a file's bytes.
    pub predicate: Option<String>,
    /// Times that logs and time-stamp services vouch for.
    pub times: Vec<String>,
    /// What was not checked, and why.
    pub unchecked: Vec<String>,
}

/// What is wrong with a signature, as far as it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It could not be checked.
    Unknown,
    /// What was asked for is not there.
    Absent,
    /// It is by somebody else, or under authorities that are not trusted.
    Other,
    /// It is damaged or forged, or about something else.
    Forged,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What that means.
    pub reason: Reason,
    /// Stable code.
    pub code: &'static str,
    /// One sentence without full stop.
    pub message: String,
    /// What was expected; may be empty.
    pub expected: String,
    /// What was found; may be empty.
    pub found: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, code: &'static str, message: impl Into<String>) -> Refusal {
        let (message, expected, found) = (message.into(), String::new(), String::new());
        Refusal { reason, code, message, expected, found }
    }

    pub(super) fn but(mut self, expected: impl Into<String>, found: impl Into<String>) -> Refusal {
        (self.expected, self.found) = (expected.into(), found.into());
        self
    }
}

impl Trusted {
    /// Judges a bundle. Nothing that it brings is believed before it is checked.
    pub fn judge(&self, bundle: &[u8], artifact: Artifact<'_>) -> Result<Signature, Refusal> {
        let (bundle, promised) = opened(bundle)?;
        let statement = statement(&bundle)?;
        let predicate = statement.as_ref().map(|statement| short(statement.predicate_type()));
        self.wanted(predicate.as_deref())?;
        let mut signature = match &self.signer {
            Signer::Key(key) => self.by_key(&bundle, key, artifact)?,
            Signer::Identity(identity) => self.by_identity(&bundle, identity, artifact, promised)?,
        };
        // The library has looked too; this is the check that the verdict rests on.
        if let Some(statement) = statement
            && !statement.is_about(artifact.digest)
            && !about_sha512(&statement, artifact)?
        {
            return Err(about_another(artifact.digest, &statement.subjects()));
        }
        signature.predicate = predicate;
        Ok(signature)
    }

    /// Refuses what says something else than was asked for.
    pub(super) fn wanted(&self, predicate: Option<&str>) -> Result<(), Refusal> {
        let fits = match (&self.wanted, predicate) {
            (Wanted::Predicate(wanted), found) => found == Some(wanted),
            (Wanted::Signature, None | Some(SIGN)) | (Wanted::Anything, _) => true,
            (Wanted::Signature, Some(_)) => false,
        };
        if fits {
            return Ok(());
        }
        let found = predicate.unwrap_or("a signature of the file's bytes, without a statement");
        let expected = match &self.wanted {
            Wanted::Predicate(wanted) => wanted,
            _ => SIGN,
        };
        let text = "the statement is of another type than was asked for (--type)";
        Err(Refusal::new(Reason::Absent, "E-PREDICATE", text).but(expected, found))
    }

    fn by_key(&self, bundle: &Bundle, key: &PublicKey, artifact: Artifact<'_>) -> Result<Signature, Refusal> {
        let Material::PublicKey(named) = &bundle.verification_material.content else {
            let text = "it is signed with a certificate, not with the key that was given";
            return Err(Refusal::new(Reason::Other, "E-SIGNER", text).but(key.to_string(), claim(bundle)));
        };
        if !signed_by(key, &bundle.content, artifact)? {
            let text = "it is not signed with the key that was given";
            let other = !named.hint.is_empty() && named.hint != key.hint();
            return Err(match other {
                true => Refusal::new(Reason::Other, "E-SIGNER", text).but(key.to_string(), claim(bundle)),
                false => Refusal::new(
                    Reason::Forged,
                    "E-SIGNATURE",
                    "the signature is not the key's: it or what it signs was changed",
                ),
            });
        }
        let mut signature =
            Signature { signer: key.to_string(), predicate: None, times: Vec::new(), unchecked: Vec::new() };
        let material = &bundle.verification_material;
        let stamps = !material.timestamp_verification_data.rfc3161_timestamps.is_empty();
        let logged = !material.tlog_entries.is_empty();
        let policy =
            PublicKeyVerificationPolicy::new(sigstore_verify::types::DerPublicKey::new(key.der().to_vec()));
        if self.root.is_all()
            || self.root.is_given() && (stamps || logged)
            || logged && !stamps && self.root.knows_logs(bundle)
        {
            let result = self.verified(bundle, &policy, artifact)?;
            signature.times = times(&result);
            return Ok(signature);
        }
        if stamps {
            signature.unchecked.push("its time-stamp: no --trusted-root names the service".into());
        }
        if logged {
            // Of whatever log it is: it must be about this very signature (CVE-2022-36056).
            let mut bare = bundle.clone();
            bare.verification_material.timestamp_verification_data.rfc3161_timestamps.clear();
            self.verified(&bare, &policy.skip_tlog_unsafe(), artifact)?;
            signature.unchecked.push(
                "that it is in the log: the trusted root does not know it, or --trusted-root is missing"
                    .into(),
            );
        }
        Ok(signature)
    }

    /// `promised`: the log's promise is all there is, as in cosign's older layout, and the time that it promises counts.
    pub(super) fn by_identity(
        &self,
        bundle: &Bundle,
        identity: &Identity,
        artifact: Artifact<'_>,
        promised: bool,
    ) -> Result<Signature, Refusal> {
        if matches!(bundle.verification_material.content, Material::PublicKey(_)) {
            let text = "it is signed with a key, not with a certificate";
            return Err(
                Refusal::new(Reason::Other, "E-SIGNER", text).but(identity.to_string(), claim(bundle))
            );
        }
        let policy = VerificationPolicy::any_identity();
        let policy = if promised { policy.skip_tlog_unsafe() } else { policy };
        let result = self.verified(bundle, &policy, artifact)?;
        let complete = result.certificate_verified()
            && result.sct_verified()
            && (promised || result.tlog_verified())
            && !result.verified_timestamps().is_empty();
        if !complete {
            let text = "its certificate, log entry and time were not all verified";
            return Err(Refusal::new(Reason::Unknown, "E-BUNDLE-UNSUPPORTED", text));
        }
        let subject = result.identity().map(|name| name.as_str()).unwrap_or_default();
        let issuer = result.issuer().unwrap_or_default();
        let found = format!("{} (by {})", short(subject), short(issuer));
        if !identity.matches(subject, issuer) {
            let text = "it is signed by somebody else than was asked for";
            return Err(Refusal::new(Reason::Other, "E-SIGNER", text).but(identity.to_string(), found));
        }
        Ok(Signature { signer: found, predicate: None, times: times(&result), unchecked: Vec::new() })
    }

    fn verified(
        &self,
        bundle: &Bundle,
        policy: &dyn Policy,
        artifact: Artifact<'_>,
    ) -> Result<VerificationResult, Refusal> {
        let verifier = &self.root.verifier;
        let by_digest =
            hashed(artifact.digest).map(|hashed| verifier.verify(Hashed::Digest(hashed), bundle, policy));
        let result = match (by_digest, artifact.open) {
            // Signed by another digest than the one that is at hand, or as a whole.
            (Ok(Err(Error::UnsupportedArtifact(_))), Some(open)) => {
                verifier.verify_reader(open().map_err(unread)?, bundle, policy)
            }
            (result, _) => result?,
        };
        result.map_err(|error| match error {
            // Who has another log has other authorities too.
            Error::TransparencyLog(_) if !self.root.knows_logs(bundle) => Refusal::new(
                Reason::Other,
                "E-SIGNATURE-LOG",
                "it is in a log that the trusted root does not list",
            ),
            error => refusal(error, artifact.digest),
        })
    }
}

/// Reads a bundle of any kind; true when it is of the kind that has a log's promise and no proof.
fn opened(bytes: &[u8]) -> Result<(Bundle, bool), Refusal> {
    match json::parse(bytes) {
        Ok(value) if value.get("base64Signature").is_some() => Ok((legacy::of_file(&value)?, true)),
        _ => Ok((read(bytes)?, false)),
    }
}

/// Reads a bundle of at most 4 MiB, in which no name stands twice.
pub(super) fn read(bytes: &[u8]) -> Result<Bundle, Refusal> {
    let refuse = |why: String| {
        Refusal::new(
            Reason::Forged,
            "E-BUNDLE",
            format!("it is no bundle of Sigstore that can be read: {why}"),
        )
    };
    json::parse(bytes).map_err(|error| refuse(error.to_string()))?;
    let text = std::str::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
    Bundle::from_json(text).map_err(|error| refuse(error.to_string()))
}

/// The statement that a bundle's envelope carries.
pub(super) fn statement(bundle: &Bundle) -> Result<Option<Statement>, Refusal> {
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else { return Ok(None) };
    let refuse = |why: String| Refusal::new(Reason::Forged, "E-BUNDLE", why);
    if envelope.payload_type != IN_TOTO {
        let text = "what it signs is no statement of in-toto".to_owned();
        return Err(refuse(text).but(IN_TOTO, short(&envelope.payload_type)));
    }
    let statement = Statement::read(envelope.payload.as_bytes());
    statement.map(Some).map_err(|why| refuse(format!("what it signs is no statement of in-toto: {why}")))
}

/// Who a bundle says has signed it. Nothing of that is checked.
pub(super) fn claim(bundle: &Bundle) -> String {
    match &bundle.verification_material.content {
        Material::PublicKey(named) if named.hint.is_empty() => "a key that is not named".into(),
        Material::PublicKey(named) => match base64::decode(&named.hint).filter(|bytes| bytes.len() == 32) {
            Some(bytes) => {
                format!("the key sha256:{}", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
            }
            None => format!("a key that is called {:?}", short(&named.hint)),
        },
        _ => {
            let info = bundle.signing_certificate().and_then(|certificate| {
                sigstore_verify::crypto::x509::parse_certificate_info(certificate).ok()
            });
            let subject =
                info.as_ref().and_then(|info| info.identity.as_ref()).map(|name| short(name.as_str()));
            let issuer = info.as_ref().and_then(|info| info.issuer.as_deref()).map(short);
            match (subject, issuer) {
                (Some(subject), Some(issuer)) => format!("{subject} (by {issuer})"),
                _ => "a certificate that cannot be read".into(),
            }
        }
    }
}

/// Who says that they signed what, of a bundle that nobody checked.
pub fn claims(bundle: &[u8]) -> Result<(String, Option<String>), Refusal> {
    let (bundle, _) = opened(bundle)?;
    let predicate = statement(&bundle)?.map(|statement| short(statement.predicate_type()));
    Ok((claim(&bundle), predicate))
}

/// True when this is the key's signature; an error when it is about something else.
fn signed_by(key: &PublicKey, content: &SignatureContent, artifact: Artifact<'_>) -> Result<bool, Refusal> {
    match content {
        SignatureContent::DsseEnvelope(envelope) => {
            let text = to_sign(&envelope.payload_type, envelope.payload.as_bytes());
            Ok(key.verifies(&text, envelope.signature.sig.as_bytes()))
        }
        SignatureContent::MessageSignature(message) => {
            let said = message.message_digest.as_ref();
            if let Some(said) = said {
                let found = digest_of(artifact, said.algorithm)?;
                if found != said.digest.as_bytes() {
                    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
                    let name = said.algorithm.as_rekor_str();
                    return Err(about_another_hex(
                        &format!("{name}:{}", hex(&found)),
                        &format!("{name}:{}", hex(said.digest.as_bytes())),
                    ));
                }
            }
            let signature = message.signature.as_bytes();
            let algorithm = said.map(|said| said.algorithm);
            match key.hashes(algorithm) {
                Some(algorithm) => {
                    Ok(key.verifies_hashed(algorithm, &digest_of(artifact, algorithm)?, signature))
                }
                None => Ok(key.verifies(&whole(artifact)?, signature)),
            }
        }
        _ => Err(Refusal::new(
            Reason::Unknown,
            "E-BUNDLE-UNSUPPORTED",
            "what it holds is no known kind of signature",
        )),
    }
}

/// Some statements name files by sha512 alone.
fn about_sha512(statement: &Statement, artifact: Artifact<'_>) -> Result<bool, Refusal> {
    if artifact.open.is_none() || !statement.names("sha512") {
        return Ok(false);
    }
    let hex: String =
        digest_of(artifact, HashAlgorithm::Sha2512)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha512:{hex}").parse().is_ok_and(|digest| statement.is_about(&digest)))
}

/// A digest of the artifact: the one that is there, or another one of its content.
fn digest_of(artifact: Artifact<'_>, algorithm: HashAlgorithm) -> Result<Vec<u8>, Refusal> {
    if let (HashAlgorithm::Sha2256, Some(bytes)) = (algorithm, raw(artifact.digest)) {
        return Ok(bytes.to_vec());
    }
    let unsupported = || {
        let text = "it is signed by a digest of another algorithm than is at hand";
        Refusal::new(Reason::Unknown, "E-BUNDLE-UNSUPPORTED", text)
    };
    let mut content = artifact.open.ok_or_else(unsupported)?().map_err(unread)?;
    let mut hasher = ArtifactHasher::new(algorithm).map_err(|_| unsupported())?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().as_bytes().to_vec()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unread(error)),
        }
    }
}

/// The artifact's content.
fn whole(artifact: Artifact<'_>) -> Result<Vec<u8>, Refusal> {
    let unsupported = |text: &str| Refusal::new(Reason::Unknown, "E-BUNDLE-UNSUPPORTED", text);
    let open = artifact
        .open
        .ok_or_else(|| unsupported("keys of this kind sign bytes, and only a digest is at hand"))?;
    let mut bytes = Vec::new();
    open().and_then(|content| content.take(WHOLE_BYTES + 1).read_to_end(&mut bytes)).map_err(unread)?;
    match bytes.len() as u64 > WHOLE_BYTES {
        true => Err(unsupported("keys of this kind sign bytes, and the file has more than 256 MiB")),
        false => Ok(bytes),
    }
}

fn hashed(digest: &Digest) -> Result<ArtifactDigest, Refusal> {
    let sha256 = Sha256Hash::from_hex(digest.hex()).ok().map(ArtifactDigest::sha256);
    sha256.ok_or_else(|| {
        let text = "only digests by sha256 can be verified by a certificate or a log entry";
        Refusal::new(Reason::Unknown, "E-BUNDLE-UNSUPPORTED", text)
    })
}

fn times(result: &VerificationResult) -> Vec<String> {
    let mut times: Vec<String> = result.verified_timestamps().iter().map(ToString::to_string).collect();
    times.sort();
    times.dedup();
    times
}

pub(super) fn about_another(digest: &Digest, found: &str) -> Refusal {
    about_another_hex(&digest.to_string(), found)
}

fn about_another_hex(digest: &str, found: &str) -> Refusal {
    let text = "the signature is about something else";
    Refusal::new(Reason::Forged, "E-SIGNATURE-SUBJECT", text).but(digest, found)
}

fn unread(error: io::Error) -> Refusal {
    Refusal::new(Reason::Unknown, "E-IO", format!("what is signed cannot be read: {error}"))
}

/// What the library says, as this program's own words for it.
fn refusal(error: Error, digest: &Digest) -> Refusal {
    use Reason::{Absent, Forged, Other, Unknown};
    let text = short(&error.to_string());
    let (reason, code) = match error {
        Error::SignatureInvalid(_) => (Forged, "E-SIGNATURE"),
        Error::ArtifactMismatch(_) => return about_another(digest, "").explained(&text),
        Error::Certificate(CertificateError::Malformed(_)) => (Forged, "E-SIGNATURE-CERTIFICATE"),
        Error::Certificate(_) => (Other, "E-SIGNATURE-CERTIFICATE"),
        Error::TransparencyLog(TransparencyLogError::UnknownLog { .. }) => (Other, "E-SIGNATURE-LOG"),
        Error::TransparencyLog(_) => (Forged, "E-SIGNATURE-LOG"),
        Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => (Absent, "E-SIGNATURE-TIME"),
        Error::Timestamp(_) => (Other, "E-SIGNATURE-TIME"),
        Error::UnsupportedBundle(_) | Error::UnsupportedArtifact(_) => (Unknown, "E-BUNDLE-UNSUPPORTED"),
        Error::ArtifactRead(_) => (Unknown, "E-IO"),
        _ => (Forged, "E-BUNDLE"),
    };
    Refusal::new(reason, code, text)
}

impl Refusal {
    fn explained(mut self, why: &str) -> Refusal {
        self.message = format!("{}: {why}", self.message);
        self
    }
}
