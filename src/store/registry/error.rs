//! Why a registry gave or took nothing: which registry and repository, what was to be done, and who asked.

use std::path::PathBuf;

use dmoci_layers::Digest;

use crate::diagnostic::{Diagnostic, Exit};
use crate::fetch::{Cause, FetchError, RegistriesError};
use crate::oci::reference::{ImageName, NameError};

/// What was to be done, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The registry.
    pub registry: String,
    /// The repository.
    pub repository: String,
    /// Such as "read the manifest 1.0 of".
    pub action: String,
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} {}/{}", self.action, self.registry, self.repository)
    }
}

/// What the registry said, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{registry} answered {status}{}, asked with {credentials}", in_brackets(.said))]
pub struct Refusal {
    /// The registry.
    pub registry: String,
    /// The status.
    pub status: u16,
    /// Codes and messages of the distribution-spec's error document, shortened.
    pub said: String,
    /// Where the credentials that it was told are from.
    pub credentials: String,
}

/// Why a registry gave or took nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not let this be done.
    #[error("{site}: the registry does not allow it")]
    Denied {
        /// What and where.
        site: Box<Site>,
        /// What it said.
        #[source]
        refusal: Box<Refusal>,
    },
    /// The registry has no such thing.
    #[error("{site}: the registry does not have it")]
    Missing {
        /// What and where.
        site: Box<Site>,
        /// What it said.
        #[source]
        refusal: Box<Refusal>,
        /// Tags that are there, when a tag was asked for.
        tags: Vec<String>,
    },
    /// The registry answered with an error.
    #[error("{site}: the registry answered with an error")]
    Status {
        /// What and where.
        site: Box<Site>,
        /// What it said.
        #[source]
        refusal: Box<Refusal>,
    },
    /// The registry does not delete such things.
    #[error("{site}: the registry does not delete {}", if *.tag { "tags alone" } else { "manifests" })]
    NoDelete {
        /// What and where.
        site: Box<Site>,
        /// What it said.
        #[source]
        refusal: Box<Refusal>,
        /// It was a tag.
        tag: bool,
    },
    /// There was no answer, or what came cannot be used.
    #[error("{site}")]
    Fetch {
        /// What and where.
        site: Box<Site>,
        /// Why.
        #[source]
        source: Box<FetchError>,
    },
    /// What says where registries are cannot be used.
    #[error("it cannot be found out where the registry is")]
    Places(#[source] RegistriesError),
    /// It says that this is not to be used.
    #[error("{name} is blocked in {}", file.display())]
    Blocked {
        /// The image.
        name: ImageName,
        /// The file.
        file: PathBuf,
    },
    /// It makes a name that is none.
    #[error("registries.conf leads to {name:?}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        #[source]
        source: NameError,
    },
    /// It is no registry.
    #[error("{host} is no registry that dmoci can speak to: {why}")]
    NoRegistry {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// What came is not what its digest names.
    #[error("{site}: what came has another digest than asked for: expected {expected}, found {found}")]
    Digest {
        /// What and where.
        site: Box<Site>,
        /// What was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Box<Digest>,
    },
    /// What came cannot be used.
    #[error("{site}: {why}")]
    Document {
        /// What and where.
        site: Box<Site>,
        /// Stable code.
        code: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Diagnostic for RegistryError {
    fn code(&self) -> &'static str {
        match self {
            RegistryError::Denied { .. } => "E-REGISTRY-DENIED",
            RegistryError::Missing { .. } => "E-REGISTRY-MISSING",
            RegistryError::Status { .. } => "E-REGISTRY-STATUS",
            RegistryError::NoDelete { .. } => "E-REGISTRY-NO-DELETE",
            RegistryError::Fetch { source, .. } => source.code(),
            RegistryError::Places(_) | RegistryError::Name { .. } => "E-REGISTRIES-CONF",
            RegistryError::Blocked { .. } => "E-REGISTRY-BLOCKED",
            RegistryError::NoRegistry { .. } => "E-REGISTRY",
            RegistryError::Digest { .. } => "E-DIGEST",
            RegistryError::Document { code, .. } => code,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            RegistryError::Fetch { source, .. } => source.exit(),
            RegistryError::Digest { .. } | RegistryError::Document { .. } => Exit::Mismatch,
            RegistryError::Places(_) | RegistryError::Name { .. } | RegistryError::Blocked { .. } => {
                Exit::Usage
            }
            _ => Exit::Undecided,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            RegistryError::Denied { refusal, site } => Some(denied(refusal, site)),
            RegistryError::Missing { tags, .. } if !tags.is_empty() => {
                Some(format!("there are the tags {}", listed(tags)))
            }
            RegistryError::Missing { .. } => {
                Some("check the name; some registries say this also to who may not know of it".into())
            }
            RegistryError::Status { refusal, .. } if refusal.status == 429 => {
                Some("wait a while, or log in: this registry limits how often it is asked".into())
            }
            RegistryError::Status { refusal, .. } if refusal.status == 405 => {
                Some("it takes nothing of that kind: it may be a mirror, or only be read for now; name another registry, or ask whoever runs it".into())
            }
            RegistryError::Status { .. } => Some("try again later, or ask whoever runs the registry".into()),
            RegistryError::NoDelete { tag: true, site, .. } => Some(format!(
                "`dmoci delete docker://{}/{}@sha256:…` deletes the manifest with all tags that name it: add --dry-run to see \
                 which; or give the tag to another image with `dmoci copy`",
                site.registry, site.repository
            )),
            RegistryError::NoDelete { .. } => Some(
                "whoever runs the registry must allow it; for distribution (docker-registry) that is \
                 REGISTRY_STORAGE_DELETE_ENABLED=true"
                    .into(),
            ),
            RegistryError::Places(source) => source.help(),
            RegistryError::Name { .. } => Some("correct the location or the mirror there".into()),
            RegistryError::Blocked { .. } => {
                Some("take the image from elsewhere, or ask whoever wrote that file".into())
            }
            RegistryError::NoRegistry { .. } => Some("check the host and its port".into()),
            RegistryError::Digest { .. } => {
                Some("the registry, or somebody on the way, gives something else; nothing was written".into())
            }
            RegistryError::Fetch { source, .. } => unreachable(source),
            RegistryError::Document { .. } => None,
        }
    }
}

/// What helps when nothing came.
fn unreachable(source: &FetchError) -> Option<String> {
    let FetchError::Failed { cause, .. } = source else {
        return match source {
            FetchError::Plain { .. } => {
                Some("use a registry that speaks TLS, or allow it with --plain-http".into())
            }
            source => source.help(),
        };
    };
    Some(match &**cause {
        Cause::Tls(..) if source.is_no_tls() => {
            "the registry does not speak TLS there; --plain-http speaks to it without, if you trust the network".into()
        }
        // Go takes such certificates, and so do docker and skopeo.
        Cause::Tls(_, Some(error)) if error.to_string().contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority (CA:TRUE) as its own, which is not taken: give it one that is \
             none (openssl req -x509 … -addext basicConstraints=critical,CA:FALSE), and name that with --ca-file"
                .into()
        }
        Cause::Connection(..) => "check the host and its port, and that the registry runs".into(),
        Cause::Status { status: 401 | 403, .. } => {
            "it does not give what it names to whoever asks; log in to it, or ask whoever runs it".into()
        }
        Cause::Status { status: 404 | 410, .. } => {
            "its manifest names it, and it is not there: the image was not pushed whole, or parts of it were removed".into()
        }
        Cause::Redirect(_) => "ask whoever runs the registry; nothing was sent there".into(),
        Cause::Length { .. } => "ask whoever runs the registry; a proxy before it may be at fault".into(),
        _ => return source.help(),
    })
}

fn denied(refusal: &Refusal, site: &Site) -> String {
    let registry = &site.registry;
    let login = format!("docker login {registry}, podman login {registry} or skopeo login {registry}");
    match (refusal.status, refusal.credentials.starts_with("no ")) {
        (_, true) => format!("log in: {login}; or name a file of credentials with REGISTRY_AUTH_FILE"),
        (401, false) => format!("log in anew: {login}"),
        (_, false) => format!(
            "ask whoever runs it for the right to do that in {}, or log in as another user",
            site.repository
        ),
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// How many tags are told.
const TOLD: usize = 10;

fn listed(tags: &[String]) -> String {
    let more = tags.len().saturating_sub(TOLD);
    let mut told = tags[tags.len() - tags.len().min(TOLD)..].join(", ");
    if more > 0 {
        told += &format!(" and {more} more");
    }
    told
}

fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// What an error document of the distribution-spec says ("Error Codes"), shortened.
pub(super) fn spoken(bytes: &[u8]) -> String {
    const LONG: usize = 300;
    let Ok(value) = crate::oci::json::parse(bytes) else { return String::new() };
    let errors = value.get("errors").and_then(|errors| errors.as_array()).into_iter().flatten();
    let mut parts = Vec::new();
    for error in errors.take(4) {
        let text = |name: &str| error.get(name).and_then(|text| text.as_str()).unwrap_or_default();
        let part = [text("code"), text("message")].into_iter().filter(|text| !text.is_empty());
        parts.push(part.collect::<Vec<_>>().join(": "));
    }
    parts.join("; ").chars().take(LONG).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no","detail":{}}]}"#, "DENIED: no"),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, "A; b"),
            (r#"{"errors":{}}"#, ""),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(spoken(body.as_bytes()), expected, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(9000));
        assert_eq!(spoken(long.as_bytes()).len(), 300);
    }
}
