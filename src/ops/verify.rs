//! `dmoci verify`: from a subject to a verdict.

use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmoci_layers::Digest;

use super::remote::Remote;
use super::wheel::companions::{accompanied, place};
use crate::diagnostic::{Diagnostic, Exit, Failure};
use crate::engine::verify::{self, Against, Held, Options, VerifyReport, Watch};
use crate::files;
use crate::inputs::python::dist::{self, DistKind};
use crate::limits;
use crate::store::registry::Which;
use crate::store::{ImageStore, StoreError, Subject, Transport};
use crate::trust::{Artifact, Reason, Root, Signature, Trusted};

/// What to verify, and against what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub subject: Subject,
    /// A `SHA256SUMS` file that the operator holds.
    pub against: Option<PathBuf>,
    /// Who must have signed it.
    pub trusted: Option<Arc<Trusted>>,
    /// The bundle, when it does not lie beside the file or refer to the image.
    pub bundle: Option<PathBuf>,
    /// The present, in seconds since 1970.
    pub now: i64,
    /// The version that the image must say it is.
    pub expect_version: Option<String>,
    /// Ask for soundness only.
    pub integrity_only: bool,
    /// Threads that read blobs.
    pub threads: NonZeroUsize,
}

/// Why a list of digests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AgainstError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than a list of digests would be.
    #[error("{} is larger than {limit} bytes", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A line is no digest and name.
    #[error("line {line} of {} is not a digest and a name", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl Diagnostic for AgainstError {
    fn code(&self) -> &'static str {
        match self {
            AgainstError::Io { .. } => "E-IO",
            _ => "E-AGAINST-FORMAT",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            AgainstError::Io { .. } => Exit::Undecided,
            _ => Exit::Usage,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            AgainstError::Line { .. } => {
                Some("lines are as sha256sum writes them: 64 hexadecimal digits, two spaces, a name".into())
            }
            _ => None,
        }
    }
}

/// Verifies one subject that is here. An error means that nothing could be looked at; what is wrong with an image is in the
/// report.
pub fn verify(request: &Request) -> Result<VerifyReport, Failure> {
    verify_watched(request, None, &())
}

/// The same, also of an image in a registry, telling how far it is.
pub fn verify_watched(
    request: &Request,
    remote: Option<&Remote<'_>>,
    watch: &dyn Watch,
) -> Result<VerifyReport, Failure> {
    crate::sha256::provide();
    let mut against = request.against.as_deref().map(read_list).transpose()?;
    if let (Some(path), Some(against), Some(_)) = (&request.against, &mut against, &request.trusted) {
        let beside = super::sign::beside(path, ".sigstore.json");
        if beside.exists() {
            against.bundle = Some((beside.display().to_string(), read_bundle(&beside)?));
        }
    }
    let options = options(request, against)?;
    let path = request.subject.path();
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    if let Some((kind, file)) = distribution(&request.subject)? {
        return Ok(verify::verify_distribution(kind, file, path, &options, watch).map_err(io)?);
    }
    let signed = request.trusted.is_some();
    // Without a signer it is told whose signatures are said to be there.
    let which =
        Which { layers: true, referrers: signed, signatures: signed, claims: !signed, ..Which::default() };
    let opened = match remote {
        Some(remote) => remote.open(&request.subject, which),
        None => ImageStore::open(&request.subject).map_err(Failure::from),
    };
    let store = match opened {
        Ok(store) => store,
        // What is no archive can still be signed as a whole: then its bytes are what the signature says.
        Err(_) if signed && request.subject.transport() == Transport::Bare && path.is_file() => {
            let file = File::open(path).map_err(io)?;
            return Ok(verify::verify_file(&file, path, &options, watch).map_err(io)?);
        }
        Err(mut failure) => {
            if failure.code == "E-NO-IMAGE"
                && request.subject.transport() == Transport::Bare
                && path.is_file()
            {
                failure.help = Some(SIGNED.to_owned());
            }
            return Err(failure);
        }
    };
    if let Some(tag) = request.subject.tag()
        && store.roots().is_ok_and(|roots| !roots.is_empty())
    {
        store.select(Some(tag), None)?;
    }
    Ok(verify::verify(&store, &options, watch))
}

/// What a file can be that holds no image.
const SIGNED: &str = "any other file is verified by its signature: say who must have signed it, with --key KEY.pub or \
                      --certificate-identity and --certificate-oidc-issuer; else name an image, a wheel or a source distribution";

/// Whether a subject is but the signature or attestation of another one: a file of its name with an ending behind it, beside it or where
/// `dmoci sign` puts it.
pub fn is_companion(subject: &Subject, all: &[Subject]) -> bool {
    let path = subject.path();
    let Some(of) = path.file_name().and_then(|name| accompanied(name.to_str()?)) else { return false };
    let beside = path.with_file_name(of);
    let is_it = |other: &Subject| {
        other.transport() == Transport::Bare
            && other.path().file_name().is_some_and(|name| name == of)
            && (other.path() == beside || place(other.path(), "").is_some_and(|place| place == beside))
    };
    subject.transport() == Transport::Bare
        && subject.digest().is_none()
        && path.is_file()
        && all.iter().any(is_it)
}

fn options(request: &Request, against: Option<Against>) -> Result<Options, Failure> {
    let trust = match &request.trusted {
        Some(trusted) => {
            Some(Held { trusted: Arc::clone(trusted), bundle: bundle(request)?, now: request.now })
        }
        None => None,
    };
    Ok(Options {
        trust,
        subject: request.subject.to_string(),
        tag: request.subject.tag().map(str::to_owned),
        digest: request.subject.digest().cloned(),
        against,
        expect_version: request.expect_version.clone(),
        integrity_only: request.integrity_only,
        threads: request.threads,
    })
}

/// The bundle that was named, or the one that lies beside a file.
fn bundle(request: &Request) -> Result<Option<(String, Vec<u8>)>, BundleError> {
    let subject = &request.subject;
    let path = match &request.bundle {
        Some(path) => path.clone(),
        None if subject.name().is_some() || subject.image().is_some() => return Ok(None),
        None => {
            let path = super::sign::holder(subject.path(), ".sigstore.json");
            // A layout's lies in it.
            match subject.path().is_file() && path.exists() {
                true => path,
                false => return Ok(None),
            }
        }
    };
    Ok(Some((path.display().to_string(), read_bundle(&path)?)))
}

pub(super) fn read_bundle(path: &Path) -> Result<Vec<u8>, BundleError> {
    let failed = |source| BundleError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    files::open_named(path)
        .map_err(failed)?
        .take(limits::JSON_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 > limits::JSON_BYTES {
        true => Err(BundleError::Size { path: path.to_owned(), limit: limits::JSON_BYTES }),
        false => Ok(bytes),
    }
}

/// Judges one bundle, as the public test suite asks for it: of a file, or of what has a digest.
pub fn conforms(bundle: &Path, artifact: &str, trusted: &Trusted) -> Result<Signature, Failure> {
    let bundle = read_bundle(bundle)?;
    let path = Path::new(artifact);
    let digest = artifact.strip_prefix("sha256:").filter(|_| !path.exists());
    let digest: Option<Digest> = digest.and_then(|_| artifact.parse().ok());
    let judged = match digest {
        Some(digest) => trusted.judge(&bundle, Artifact { digest: &digest, open: None }),
        None => {
            let io = |source| StoreError::Io { path: path.to_owned(), source };
            let digest = files::digest(&File::open(path).map_err(io)?, |_| {}).map_err(io)?;
            let open = || -> io::Result<Box<dyn io::Read>> { Ok(Box::new(File::open(path)?)) };
            trusted.judge(&bundle, Artifact { digest: &digest, open: Some(&open) })
        }
    };
    judged.map_err(|refusal| Failure {
        code: refusal.code,
        exit: match refusal.reason {
            Reason::Forged => Exit::Mismatch,
            Reason::Other => Exit::Refused,
            Reason::Absent => Exit::Missing,
            Reason::Unknown => Exit::Undecided,
        },
        message: refusal.message,
        causes: Vec::new(),
        places: Vec::new(),
        help: None,
    })
}

/// Reads a trusted root that the operator named.
pub fn trusted_root(path: &Path) -> Result<Root, Failure> {
    Ok(Root::read(&read_bundle(path)?, &path.display().to_string())?)
}

/// Why a file with a bundle or trusted root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than a bundle would be.
    #[error("{} is larger than {limit} bytes", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

impl Diagnostic for BundleError {
    fn code(&self) -> &'static str {
        match self {
            BundleError::Io { .. } => "E-IO",
            BundleError::Size { .. } => "E-BUNDLE",
        }
    }

    fn exit(&self) -> Exit {
        match self {
            BundleError::Io { .. } => Exit::Undecided,
            BundleError::Size { .. } => Exit::Mismatch,
        }
    }
}

/// Whether the subject is there and no wheel or source distribution: an image, which nothing builds again.
pub fn is_image(subject: &Subject) -> bool {
    subject.transport() != Transport::Bare
        || subject.path().exists() && matches!(distribution(subject), Ok(None))
}

/// The wheel or source distribution that a path alone leads to.
fn distribution(subject: &Subject) -> Result<Option<(DistKind, File)>, StoreError> {
    let path = subject.path();
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if subject.transport() != Transport::Bare || !is_file {
        return Ok(None);
    }
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    Ok(dist::recognise(&file, path).map_err(io)?.map(|kind| (kind, file)))
}

/// Reads a list as `sha256sum` writes it.
fn read_list(path: &Path) -> Result<Against, AgainstError> {
    let io = |source| AgainstError::Io { path: path.to_owned(), source };
    let mut text = Vec::new();
    files::open_named(path).map_err(io)?.take(limits::JSON_BYTES + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limits::JSON_BYTES {
        return Err(AgainstError::Size { path: path.to_owned(), limit: limits::JSON_BYTES });
    }
    let digest = Digest::sha256(&text);
    let text = String::from_utf8_lossy(&text);
    let mut entries = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let entry =
            parse_line(line).ok_or_else(|| AgainstError::Line { path: path.to_owned(), line: i + 1 })?;
        entries.push(entry);
    }
    Ok(Against { name: path.display().to_string(), entries, digest, bundle: None })
}

/// `HEX  NAME` or `HEX *NAME`; a leading backslash says that the name is escaped.
fn parse_line(line: &str) -> Option<(Digest, String)> {
    let (hex, name) = line.strip_prefix('\\').unwrap_or(line).split_once(' ')?;
    let name = name.strip_prefix([' ', '*'])?;
    let digest = format!("sha256:{}", hex.to_ascii_lowercase()).parse().ok()?;
    (!name.is_empty()).then(|| (digest, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_sha256sum() {
        let digest = Digest::sha256(b"x");
        for line in [format!("{}  a/b c", digest.hex()), format!("{} *a/b c", digest.hex().to_uppercase())] {
            assert_eq!(parse_line(&line), Some((digest.clone(), "a/b c".into())));
        }
        for bad in ["", "x  y", &format!("{} y", digest.hex()), &format!("{}  ", digest.hex())] {
            assert_eq!(parse_line(bad), None, "{bad}");
        }
    }
}
