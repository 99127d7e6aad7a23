//! Names and tags of images.

use std::fmt;
use std::str::FromStr;

use dmoci_layers::Digest;

/// The name of an image without tag and digest, `host[:port]/path`.
///
/// The host is always said: what has none depends on who reads it. The path is the `<name>` of the OCI
/// distribution-spec 1.1, "Pulling manifests". It cannot be made without these checks.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName {
    host: Box<str>,
    path: Box<str>,
}

/// Why a text is no name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The first part is no host: there is neither a dot nor a port in it, nor is it `localhost`.
    #[error("{0:?} names no registry host")]
    NoHost(String),
    /// There is a host, and nothing behind it.
    #[error("{0:?} is a registry alone, and the repository is missing")]
    NoPath(String),
    /// The host has characters that hosts cannot have, or a port out of range.
    #[error("{0:?} is not a host")]
    Host(String),
    /// The path breaks the grammar.
    #[error(
        "{0:?} is not the path of an image (expected lower-case letters and digits, separated by `/` or by \
         one of `.` `_` `__` `-`)"
    )]
    Path(String),
    /// The whole is longer than 255 characters.
    #[error("the name of the image is longer than 255 characters")]
    Long,
    /// A tag or digest follows the name.
    #[error("{0:?} has a tag or digest; only the name is expected")]
    Tagged(String),
}

impl NameError {
    /// The same where a registry is meant in any case: what looks like a host is one.
    pub fn in_registry(self) -> NameError {
        match self {
            NameError::NoHost(text)
                if !text.contains('/') && (text.contains(['.', ':']) || text == "localhost") =>
            {
                NameError::NoPath(text)
            }
            error => error,
        }
    }
}

impl ImageName {
    /// The registry, with its port if it is said.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What follows the host.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ImageName, NameError> {
        let shown = |text: &str| text.chars().take(128).collect::<String>();
        if text.len() > 255 {
            return Err(NameError::Long);
        }
        let Some((host, path)) = text.split_once('/') else {
            return Err(NameError::NoHost(shown(text)));
        };
        if host != "localhost" && !host.contains(['.', ':']) {
            return Err(NameError::NoHost(shown(text)));
        }
        if !is_host(host) {
            return Err(NameError::Host(shown(host)));
        }
        if path.contains(['@', ':']) {
            return Err(NameError::Tagged(shown(text)));
        }
        if !path.split('/').all(is_component) {
            return Err(NameError::Path(shown(path)));
        }
        Ok(ImageName { host: host.into(), path: path.into() })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl fmt::Debug for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` of the OCI distribution-spec 1.1, "Pulling manifests".
///
/// It cannot be made without that check.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// A text is no tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a tag (expected up to 128 letters, digits and `_` `.` `-`, not beginning with `.` or `-`)"
)]
pub struct TagError(String);

impl Tag {
    /// The text of the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Tag, TagError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        if head && text.len() <= 128 && text.bytes().all(good) {
            return Ok(Tag(text.into()));
        }
        Err(TagError(text.chars().take(160).collect()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An image in a registry, `HOST/NAME:TAG`, `HOST/NAME@DIGEST` or both; then the digest counts, and the tag says where it is from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    name: ImageName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

/// Why a text is no reference of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no name at its beginning.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No tag follows the name.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// No digest follows `@`.
    #[error("{0:?} is no digest")]
    Digest(String),
    /// Nothing says which of the images of that name is meant.
    #[error("{0:?} says neither a tag nor a digest")]
    Open(String),
}

impl Reference {
    /// The name.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// The tag.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest of the manifest or index.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let shown = |text: &str| text.chars().take(160).collect::<String>();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| ReferenceError::Digest(shown(digest)))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let name: ImageName = name.parse()?;
        let tag = tag.map(str::parse::<Tag>).transpose()?;
        match tag.is_none() && digest.is_none() {
            true => Err(ReferenceError::Open(shown(text))),
            false => Ok(Reference { name, tag, digest }),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The tag under which an index lists what refers to a digest, where nothing else does (OCI distribution-spec 1.1,
/// "Referrers Tag Schema"): `sha256-HEX`, of at most 64 digits.
pub fn referrers_tag(digest: &Digest) -> String {
    format!("{}-{:.64}", digest.algorithm().name(), digest.hex())
}

/// True for such a tag, of whatever digest.
pub fn is_referrers_tag(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").or_else(|| tag.strip_prefix("sha512-"));
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(digit))
}

/// What cosign put behind such a tag before it used referrers: for signatures, attestations and SBOMs.
pub const EVIDENCE_ENDINGS: [&str; 3] = [".sig", ".att", ".sbom"];

/// Such a tag without what cosign put behind it.
pub fn subject_tag(tag: &str) -> &str {
    EVIDENCE_ENDINGS.iter().find_map(|ending| tag.strip_suffix(ending)).unwrap_or(tag)
}

/// True for such a tag, and for those under which cosign kept signatures, attestations and SBOMs before it used these: with `.sig`,
/// `.att` or `.sbom` behind it.
pub fn is_evidence_tag(tag: &str) -> bool {
    is_referrers_tag(subject_tag(tag))
}

/// `domain-name[:port]`, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("", rest),
            _ => return false,
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => port.is_empty(),
    };
    let label_is_good = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port_is_good && (text.starts_with('[') || host.split('.').all(label_is_good))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = text.split(alphanumeric).filter(|part| !part.is_empty());
    let mut good = text.starts_with(alphanumeric) && text.ends_with(alphanumeric);
    for separator in separators {
        good &= matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for text in [
            "registry.example/acme/km",
            "localhost/km",
            "localhost:5000/a",
            "127.0.0.1:5000/a__b/c-d.e/f--g_h",
            "[::1]:5000/km",
            "host:1/x",
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), text);
        }
        let name: ImageName = "r.example:5000/acme/km".parse().unwrap();
        assert_eq!((name.host(), name.path()), ("r.example:5000", "acme/km"));
    }

    #[test]
    fn names_refused() {
        use NameError::*;
        for text in ["", "km", "acme/km", "km:1"] {
            assert!(matches!(text.parse::<ImageName>(), Err(NoHost(_))), "{text}");
        }
        for text in
            ["-a.example/x", "a..b/x", "a.b:0/x", "a.b:70000/x", "a.b:+1/x", "[::1/x", "a_b.c/x", "[x]:1/y"]
        {
            assert!(matches!(text.parse::<ImageName>(), Err(Host(_))), "{text}");
        }
        for text in ["a.b/", "a.b/X", "a.b/x//y", "a.b/.x", "a.b/x-", "a.b/x___y", "a.b/x._y", "a.b/ü"] {
            assert!(matches!(text.parse::<ImageName>(), Err(Path(_))), "{text}");
        }
        for text in ["a.b/x:1", "a.b/x@sha256:00"] {
            assert!(matches!(text.parse::<ImageName>(), Err(Tagged(_))), "{text}");
        }
        assert_eq!(format!("a.b/{}", "x".repeat(255)).parse::<ImageName>(), Err(Long));
    }

    #[test]
    fn references() {
        let digest = Digest::sha256(b"x");
        for (text, tag, pinned) in [
            ("a.example/b:1.0".to_owned(), Some("1.0"), false),
            ("localhost:5000/b:1".into(), Some("1"), false),
            (format!("a.example:5000/b/c@{digest}"), None, true),
            (format!("a.example/b:1@{digest}"), Some("1"), true),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.tag().map(Tag::as_str), tag);
            assert_eq!(reference.digest(), pinned.then_some(&digest));
        }
        for text in ["a.example/b", "localhost:5000/b"] {
            assert!(matches!(text.parse::<Reference>(), Err(ReferenceError::Open(_))), "{text}");
        }
        assert!(matches!("b:1".parse::<Reference>(), Err(ReferenceError::Name(_))));
        assert!(matches!("a.example/b:".parse::<Reference>(), Err(ReferenceError::Tag(_))));
        assert!(matches!("a.example/b@sha256:0".parse::<Reference>(), Err(ReferenceError::Digest(_))));
    }

    #[test]
    fn tags_of_referrers() {
        let digest = Digest::sha256(b"x");
        assert_eq!(referrers_tag(&digest), format!("sha256-{}", digest.hex()));
        assert!(is_referrers_tag(&referrers_tag(&digest)));
        let long: Digest = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
        assert!(is_referrers_tag(&referrers_tag(&long)) && referrers_tag(&long).parse::<Tag>().is_ok());
        for tag in ["latest", "sha256-12", &format!("{}.sig", referrers_tag(&digest))] {
            assert!(!is_referrers_tag(tag), "{tag}");
        }
        for (tag, is) in
            [("", true), (".sig", true), (".att", true), (".sbom", true), (".x", false), (".sig.sig", false)]
        {
            assert_eq!(is_evidence_tag(&format!("{}{tag}", referrers_tag(&digest))), is, "{tag}");
        }
    }

    #[test]
    fn tags() {
        for text in ["1.0", "_x", "latest", "A-b_c.d", &"x".repeat(128)] {
            assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
        }
        for text in ["", ".1", "-x", "a/b", "a b", "1.0+local", "ü", &"x".repeat(129)] {
            assert!(text.parse::<Tag>().is_err(), "{text}");
        }
    }
}
