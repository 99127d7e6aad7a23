//! How images are named on the command line, as in `containers-transports(5)`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dmoci_layers::Digest;

use crate::daemon::SOCKET;
use crate::diagnostic::{Diagnostic, Exit};
use crate::oci::reference::{ImageName, NameError, Tag, TagError};

/// What a subject says about where the image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `oci:DIR`, an OCI image layout.
    Oci,
    /// `oci-archive:FILE`.
    OciArchive,
    /// `docker-archive:FILE`.
    DockerArchive,
    /// `docker-daemon:NAME`, an image that a Docker daemon has.
    DockerDaemon,
    /// `docker://HOST/NAME:TAG`, an image in a registry.
    Registry,
    /// A path alone, recognised by its content.
    Bare,
}

/// An image, or all images, of a layout or archive: `oci:DIR[:tag][@digest]` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    transport: Transport,
    path: PathBuf,
    image: Option<String>,
    name: Option<ImageName>,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// There is no path.
    #[error("the subject {0:?} names no path")]
    Empty(String),
    /// What follows `docker-daemon:` is no name of an image.
    #[error("{0:?} is not the name or ID of an image of a daemon")]
    Image(String),
    /// What follows `docker://` is no name of an image.
    #[error("the subject {subject:?} names no image in a registry: {why}")]
    Name {
        /// The subject.
        subject: String,
        /// What is wrong.
        why: NameError,
    },
    /// What follows the name of an image is no tag.
    #[error("the subject {subject:?} names no tag: {why}")]
    Tag {
        /// The subject.
        subject: String,
        /// What is wrong.
        why: TagError,
    },
    /// What follows `@` is no digest.
    #[error("the subject {subject:?} ends in a digest that is none: {why}")]
    Digest {
        /// The subject.
        subject: String,
        /// What is wrong.
        why: String,
    },
    /// A transport that this version cannot read.
    #[error("subjects of the form {form} are not supported by this version")]
    Unsupported {
        /// The form.
        form: String,
    },
}

impl Diagnostic for SubjectError {
    fn code(&self) -> &'static str {
        match self {
            SubjectError::Unsupported { .. } => "E-SUBJECT-UNSUPPORTED",
            _ => "E-SUBJECT",
        }
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            SubjectError::Image(_) => {
                "write docker-daemon:NAME:TAG, or docker-daemon:sha256:… with the whole image ID".into()
            }
            SubjectError::Name { .. } | SubjectError::Tag { .. } => {
                "write docker://HOST/NAME:TAG or docker://HOST/NAME@sha256:…, the host always: docker.io/library/debian:13, \
                 say"
                    .into()
            }
            _ => "write oci:DIR[:tag], oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG, docker://HOST/NAME:TAG \
                  or a path, each with @sha256:… if wanted"
                .into(),
        })
    }
}

/// Transports of `containers-transports(5)` that are not read.
const UNSUPPORTED: &[&str] = &["containers-storage", "dir", "ostree", "sif", "tarball"];

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Subject, SubjectError> {
        let (rest, digest) = split_digest(text)?;
        let (transport, rest) = match rest.split_once(':') {
            Some(("oci", rest)) => (Transport::Oci, rest),
            Some(("oci-archive", rest)) => (Transport::OciArchive, rest),
            Some(("docker-archive", rest)) => (Transport::DockerArchive, rest),
            Some(("docker-daemon", rest)) => {
                let image = daemon_image(rest, digest.as_ref())?;
                return Ok(Subject {
                    transport: Transport::DockerDaemon,
                    path: SOCKET.into(),
                    image: Some(image),
                    name: None,
                    tag: None,
                    digest,
                });
            }
            Some(("docker", rest)) => {
                let rest = rest.strip_prefix("//").unwrap_or(rest);
                return in_registry(rest, text, digest);
            }
            Some((other, _)) if UNSUPPORTED.contains(&other) => {
                return Err(SubjectError::Unsupported { form: format!("{other}:") });
            }
            _ => (Transport::Bare, rest),
        };
        let (path, tag) = match transport {
            Transport::Bare => (rest, None),
            _ => match rest.split_once(':') {
                Some((path, tag)) => (path, Some(tag).filter(|tag| !tag.is_empty())),
                None => (rest, None),
            },
        };
        if path.is_empty() {
            return Err(SubjectError::Empty(text.to_owned()));
        }
        let tag = tag.map(str::to_owned);
        Ok(Subject { transport, path: path.into(), image: None, name: None, tag, digest })
    }
}

impl Subject {
    /// What a path alone says.
    pub fn bare(path: impl Into<PathBuf>) -> Subject {
        let (transport, path) = (Transport::Bare, path.into());
        Subject { transport, path, image: None, name: None, tag: None, digest: None }
    }

    /// What a text without a transport means on this machine: a file or directory when there is one of that name; else
    /// `HOST/NAME:TAG` and `HOST/NAME@DIGEST` are images in a registry.
    pub fn settled(self) -> Subject {
        if self.transport != Transport::Bare || std::fs::symlink_metadata(&self.path).is_ok() {
            return self;
        }
        let Some(text) = self.path.to_str() else { return self };
        let tagged = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
        match in_registry(text, text, self.digest.clone()) {
            Ok(subject) if tagged || self.digest.is_some() => subject,
            _ => self,
        }
    }

    /// Where the image is.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The directory or file; for a daemon, its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same image at another path: for paths that are meant relative to a project.
    pub fn at(mut self, path: impl Into<PathBuf>) -> Subject {
        self.path = path.into();
        self
    }

    /// What a daemon is asked for: a name with tag or digest, or an image ID.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// The name of an image in a registry.
    pub fn name(&self) -> Option<&ImageName> {
        self.name.as_ref()
    }

    /// The tag or, for Docker archives, the full name.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index that is meant.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.transport, &self.image) {
            // A digest alone stands in what is asked for.
            (_, Some(image)) if image.contains('@') => return write!(f, "docker-daemon:{image}"),
            (_, Some(image)) => write!(f, "docker-daemon:{image}")?,
            (Transport::Registry, _) => write!(f, "docker://{}", self.path.display())?,
            (Transport::Oci, _) => write!(f, "oci:{}", self.path.display())?,
            (Transport::OciArchive, _) => write!(f, "oci-archive:{}", self.path.display())?,
            (Transport::DockerArchive, _) => write!(f, "docker-archive:{}", self.path.display())?,
            _ => write!(f, "{}", self.path.display())?,
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// An image in a registry. Without tag and digest it is `latest`, as containers-transports(5) has it.
fn in_registry(text: &str, subject: &str, digest: Option<Digest>) -> Result<Subject, SubjectError> {
    let subject = || subject.chars().take(300).collect();
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    };
    let name: ImageName = name
        .parse()
        .map_err(|why: NameError| SubjectError::Name { subject: subject(), why: why.in_registry() })?;
    let tag = tag.map(str::parse::<Tag>).transpose();
    let tag = tag.map_err(|why| SubjectError::Tag { subject: subject(), why })?.map(|tag| tag.to_string());
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
    let path = name.to_string().into();
    Ok(Subject { transport: Transport::Registry, path, image: None, name: Some(name), tag, digest })
}

/// What a daemon is asked for: an image ID as it is; a name without tag is `latest`, unless there is a digest.
fn daemon_image(text: &str, digest: Option<&Digest>) -> Result<String, SubjectError> {
    let none = || SubjectError::Image(text.chars().take(160).collect());
    if text.starts_with("sha256:") && digest.is_none() {
        return text.parse::<Digest>().map(|id| id.to_string()).map_err(|_| none());
    }
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    let good = tag.is_none_or(|tag| tag.parse::<Tag>().is_ok())
        && !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(plain);
    match (good, tag, digest) {
        (false, ..) => Err(none()),
        (true, Some(_), _) => Ok(text.to_owned()),
        (true, None, Some(digest)) => Ok(format!("{name}@{digest}")),
        (true, None, None) => Ok(format!("{name}:latest")),
    }
}

/// The text before `@algorithm:hex`, and that digest. An `@` that no known algorithm follows belongs to the path.
fn split_digest(text: &str) -> Result<(&str, Option<Digest>), SubjectError> {
    let Some((rest, digest)) = text.rsplit_once('@') else { return Ok((text, None)) };
    if !digest.starts_with("sha256:") && !digest.starts_with("sha512:") {
        return Ok((text, None));
    }
    match digest.parse() {
        Ok(digest) => Ok((rest.strip_suffix(':').unwrap_or(rest), Some(digest))),
        Err(error) => Err(SubjectError::Digest { subject: text.to_owned(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let digest = Digest::sha256(b"x");
        for (text, transport, path, tag, digest) in [
            ("oci:a/b".to_owned(), Transport::Oci, "a/b", None, None),
            ("oci:a:1.0".into(), Transport::Oci, "a", Some("1.0"), None),
            (format!("oci:a@{digest}"), Transport::Oci, "a", None, Some(digest.clone())),
            (format!("oci:a:@{digest}"), Transport::Oci, "a", None, Some(digest.clone())),
            (format!("oci:a:t@{digest}"), Transport::Oci, "a", Some("t"), Some(digest.clone())),
            ("oci-archive:a.tar".into(), Transport::OciArchive, "a.tar", None, None),
            ("docker-archive:a.tar:h/n:t".into(), Transport::DockerArchive, "a.tar", Some("h/n:t"), None),
            ("./dist:x/image".into(), Transport::Bare, "./dist:x/image", None, None),
            ("a@b".into(), Transport::Bare, "a@b", None, None),
            (format!("a@{digest}"), Transport::Bare, "a", None, Some(digest.clone())),
        ] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!((subject.transport, subject.path.to_str().unwrap()), (transport, path), "{text}");
            assert_eq!((subject.tag(), subject.digest()), (tag, digest.as_ref()), "{text}");
            assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
        }
    }

    #[test]
    fn images_of_daemons() {
        let digest = Digest::sha256(b"x");
        for (text, image, digest) in [
            ("docker-daemon:hello".to_owned(), "hello:latest".to_owned(), None),
            ("docker-daemon:host:5000/a/b".into(), "host:5000/a/b:latest".into(), None),
            ("docker-daemon:host:5000/a/b:1.0".into(), "host:5000/a/b:1.0".into(), None),
            (format!("docker-daemon:{digest}"), digest.to_string(), None),
            (format!("docker-daemon:a@{digest}"), format!("a@{digest}"), Some(digest.clone())),
            (format!("docker-daemon:a:1@{digest}"), "a:1".into(), Some(digest.clone())),
        ] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.transport(), Transport::DockerDaemon);
            assert_eq!(
                (subject.image(), subject.digest()),
                (Some(image.as_str()), digest.as_ref()),
                "{text}"
            );
            assert_eq!((subject.tag(), subject.path()), (None, Path::new(SOCKET)));
            assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
        }
        for text in ["", ":1", "a b", "a:b c", "sha256:12", "a?b=c", "a:", "ü"] {
            let text = format!("docker-daemon:{text}");
            assert!(matches!(text.parse::<Subject>(), Err(SubjectError::Image(_))), "{text}");
        }
    }

    #[test]
    fn images_in_registries() {
        let digest = Digest::sha256(b"x");
        for (text, name, tag, digest) in [
            ("docker://a.example/b/c:1.0".to_owned(), "a.example/b/c", Some("1.0"), None),
            ("docker://a.example:5000/b".into(), "a.example:5000/b", Some("latest"), None),
            ("docker:localhost/b:x".into(), "localhost/b", Some("x"), None),
            ("docker://[::1]:5000/b:x".into(), "[::1]:5000/b", Some("x"), None),
            (format!("docker://a.example/b@{digest}"), "a.example/b", None, Some(digest.clone())),
            (format!("docker://a.example/b:1@{digest}"), "a.example/b", Some("1"), Some(digest.clone())),
        ] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.transport(), Transport::Registry);
            assert_eq!(subject.name().unwrap().to_string(), name, "{text}");
            assert_eq!((subject.tag(), subject.digest()), (tag, digest.as_ref()), "{text}");
            assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
            assert_eq!(subject.clone().settled(), subject);
        }
    }

    #[test]
    fn texts_without_a_transport() {
        let digest = Digest::sha256(b"x");
        for (text, registry) in [
            ("a.example/b:1".to_owned(), true),
            ("localhost:5000/b:1".into(), true),
            (format!("a.example/b@{digest}"), true),
            ("a.example/b".into(), false),
            ("localhost:5000/b".into(), false),
            ("a/b:1".into(), false),
            ("./a.example/b:1".into(), false),
            ("b:1".into(), false),
        ] {
            let subject = text.parse::<Subject>().unwrap().settled();
            assert_eq!(subject.transport() == Transport::Registry, registry, "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.example/b:1");
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(Subject::bare(&path).settled(), Subject::bare(&path));
    }

    #[test]
    fn refused() {
        for text in ["containers-storage:name", "dir:x"] {
            assert_eq!(text.parse::<Subject>().unwrap_err().code(), "E-SUBJECT-UNSUPPORTED", "{text}");
        }
        for text in [
            "",
            "oci:",
            "oci::tag",
            "a@sha256:00",
            "docker-archive:",
            "docker://",
            "docker://debian",
            "docker://a.example/X",
            "docker://a.example/x:.y",
            "docker://a.example/x@sha256:00",
        ] {
            assert_eq!(text.parse::<Subject>().unwrap_err().code(), "E-SUBJECT", "{text}");
        }
    }
}
