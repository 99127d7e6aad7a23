//! Content descriptors (OCI image-spec 1.1, `descriptor.md`).

use std::collections::BTreeMap;

use dmoci_layers::{Algorithm, Digest, DigestError, Hasher};
use serde_json::{Map, Value, json};

use super::media_type;
use super::platform::Platform;
use super::problem::{Problem, shown};
use super::read::Node;
use crate::base64;

/// What one document says about another piece of content: its type, digest and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Places the content may be fetched from. dmoci never does (CVE-2020-15157).
    pub urls: Vec<String>,
    /// Free texts.
    pub annotations: BTreeMap<String, String>,
    /// The content itself, decoded, when it is embedded.
    pub data: Option<Vec<u8>>,
    /// The platform, in the descriptors of an index.
    pub platform: Option<PlatformFields>,
    /// The type of an artifact.
    pub artifact_type: Option<String>,
}

/// `platform` of a descriptor in an index, exactly as the document says it (`image-index.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlatformFields {
    /// Operating system, a GOOS value.
    pub os: String,
    /// CPU architecture, a GOARCH value.
    pub architecture: String,
    /// Variant of the CPU, such as `v7`.
    pub variant: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Features of the operating system that the image needs.
    pub os_features: Vec<String>,
}

impl Descriptor {
    /// A descriptor with nothing optional.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// The same with an annotation.
    pub fn annotate(mut self, name: &str, value: impl Into<String>) -> Descriptor {
        self.annotations.insert(name.to_owned(), value.into());
        self
    }

    /// Reads the descriptor at `at` and checks it; `None` when type, digest or size cannot be used.
    ///
    /// Embedded `data` is checked against digest and size. The content itself is not looked at.
    pub fn read(value: &Value, at: &str, problems: &mut Vec<Problem>) -> Option<Descriptor> {
        let mut node = Node::new(value, at, problems)?;
        node.known(&[
            "mediaType",
            "digest",
            "size",
            "urls",
            "annotations",
            "data",
            "artifactType",
            "platform",
        ]);
        node.required("mediaType");
        let media_type = node.media_type("mediaType");
        let digest = read_digest(&mut node);
        let size = read_size(&mut node);
        let artifact_type = node.media_type("artifactType");
        let urls = read_urls(&mut node);
        let annotations = node.map("annotations");
        let platform = node.get("platform").and_then(|value| {
            let at = node.at("platform");
            PlatformFields::read(value, &at, node.problems)
        });
        let data = read_data(&mut node, digest.as_ref(), size);
        Some(Descriptor {
            media_type: media_type?,
            digest: digest?,
            size: size?,
            urls,
            annotations,
            data,
            platform,
            artifact_type,
        })
    }

    /// The JSON object, for documents that dmoci authors. Empty fields are left out.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("mediaType".into(), self.media_type.as_str().into());
        map.insert("digest".into(), self.digest.to_string().into());
        map.insert("size".into(), self.size.into());
        if !self.urls.is_empty() {
            map.insert("urls".into(), json!(self.urls));
        }
        if !self.annotations.is_empty() {
            map.insert("annotations".into(), json!(self.annotations));
        }
        if let Some(data) = &self.data {
            map.insert("data".into(), base64::encode(data).into());
        }
        if let Some(platform) = &self.platform {
            map.insert("platform".into(), platform.to_value());
        }
        if let Some(artifact_type) = &self.artifact_type {
            map.insert("artifactType".into(), artifact_type.as_str().into());
        }
        Value::Object(map)
    }

    /// What the media type says the content is.
    pub fn kind(&self) -> media_type::Kind {
        media_type::kind(&self.media_type)
    }
}

impl PlatformFields {
    /// Reads the object at `at` (`image-index.md`, "platform"): `os` and `architecture` are required.
    pub fn read(value: &Value, at: &str, problems: &mut Vec<Problem>) -> Option<PlatformFields> {
        let mut node = Node::new(value, at, problems)?;
        node.known(&["architecture", "os", "os.version", "os.features", "variant", "features"]);
        let architecture = node.required_string("architecture");
        let os = node.required_string("os");
        let variant = node.string("variant");
        let os_version = node.string("os.version");
        let os_features = node.strings("os.features");
        Some(PlatformFields { os: os?, architecture: architecture?, variant, os_version, os_features })
    }

    /// The JSON object. Empty fields are left out.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("os".into(), self.os.as_str().into());
        map.insert("architecture".into(), self.architecture.as_str().into());
        for (name, text) in [("variant", &self.variant), ("os.version", &self.os_version)] {
            if let Some(text) = text {
                map.insert(name.into(), text.as_str().into());
            }
        }
        if !self.os_features.is_empty() {
            map.insert("os.features".into(), json!(self.os_features));
        }
        Value::Object(map)
    }
}

impl From<&Platform> for PlatformFields {
    fn from(platform: &Platform) -> PlatformFields {
        PlatformFields {
            os: platform.os().to_owned(),
            architecture: platform.architecture().to_owned(),
            variant: platform.variant().map(str::to_owned),
            ..PlatformFields::default()
        }
    }
}

/// `os/architecture` or `os/architecture/variant`.
impl std::fmt::Display for PlatformFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

fn read_digest(node: &mut Node<'_, '_>) -> Option<Digest> {
    node.required("digest")?;
    let text = node.string("digest")?;
    let at = node.at("digest");
    parse_digest(&text, &at, node.problems)
}

/// A digest of a document, or the problem with it.
pub(crate) fn parse_digest(text: &str, at: &str, problems: &mut Vec<Problem>) -> Option<Digest> {
    let error = match text.parse::<Digest>() {
        Ok(digest) => return Some(digest),
        Err(error) => error,
    };
    let (code, expected) = match error {
        DigestError::Algorithm(_) => ("E-DIGEST-ALGORITHM", "sha256 or sha512"),
        _ => ("E-DIGEST-GRAMMAR", "algorithm:hex in lower case"),
    };
    problems.push(Problem::error(code, at, error.to_string()).but(expected, shown(&text.into())));
    None
}

fn read_size(node: &mut Node<'_, '_>) -> Option<u64> {
    let value = node.required("size")?;
    let size = value.as_u64().filter(|&size| i64::try_from(size).is_ok());
    if size.is_none() {
        let at = node.at("size");
        let problem = Problem::error("E-OCI-SIZE", &at, "the size is no number of bytes");
        node.problems.push(problem.but("an integer from 0 to 9223372036854775807", shown(value)));
    }
    size
}

fn read_urls(node: &mut Node<'_, '_>) -> Vec<String> {
    let urls = node.strings("urls");
    let at = node.at("urls");
    for (i, url) in urls.iter().enumerate() {
        let here = format!("{at}/{i}");
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let printable = url.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b));
        if !printable || scheme.as_deref().is_none_or(|s| !s.starts_with(|c: char| c.is_ascii_alphabetic())) {
            node.problems.push(
                Problem::error("E-OCI-URL", &here, "not a URI of RFC 3986")
                    .but("a URI", shown(&url.as_str().into())),
            );
        } else if !matches!(scheme.as_deref(), Some("http" | "https")) {
            node.problems.push(
                Problem::warning("E-OCI-URL", &here, "neither http nor https")
                    .but("http or https", shown(&url.as_str().into())),
            );
        }
    }
    urls
}

fn read_data(node: &mut Node<'_, '_>, digest: Option<&Digest>, size: Option<u64>) -> Option<Vec<u8>> {
    let text = node.string("data")?;
    let at = node.at("data");
    let Some(data) = base64::decode(&text) else {
        let problem =
            Problem::error("E-OCI-DATA", &at, "the embedded data is not base64 of RFC 4648, section 4");
        node.problems.push(problem);
        return None;
    };
    if let Some(size) = size
        && size != data.len() as u64
    {
        let problem =
            Problem::error("E-OCI-DATA", &at, "the embedded data has another size than the descriptor says");
        node.problems.push(problem.but(size.to_string(), data.len().to_string()));
    }
    if let Some(digest) = digest {
        let found = digest_of(digest.algorithm(), &data);
        if found != *digest {
            let problem = Problem::error(
                "E-OCI-DATA",
                &at,
                "the embedded data has another digest than the descriptor says",
            );
            node.problems.push(problem.but(digest.to_string(), found.to_string()));
        }
    }
    Some(data)
}

/// The digest of bytes by any algorithm.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(value: Value) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        Descriptor::read(&value, "", &mut problems);
        problems.into_iter().map(|p| (p.code, p.pointer)).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut descriptor = Descriptor::of(media_type::MANIFEST, b"{}").annotate("a", "b");
        descriptor.data = Some(b"{}".to_vec());
        descriptor.platform = Some(PlatformFields {
            os: "linux".into(),
            architecture: "arm".into(),
            variant: Some("v7".into()),
            ..Default::default()
        });
        let mut problems = Vec::new();
        assert_eq!(Descriptor::read(&descriptor.to_value(), "", &mut problems), Some(descriptor));
        assert_eq!(problems, []);
    }

    #[test]
    fn embedded_data_must_be_the_content() {
        let good = Descriptor::of("a/b", b"abc").to_value();
        let with = |data: &str| {
            let mut value = good.clone();
            value["data"] = data.into();
            problems(value)
        };
        assert_eq!(with("YWJj"), []);
        assert_eq!(with("YWJk"), [("E-OCI-DATA", "/data".into())]);
        assert_eq!(with("YWI="), [("E-OCI-DATA", "/data".into()), ("E-OCI-DATA", "/data".into())]);
        assert_eq!(with("YWJj\n"), [("E-OCI-DATA", "/data".into())]);
    }

    #[test]
    fn an_independent_reader_agrees() {
        let value = Descriptor::of(media_type::LAYER_GZIP, b"x").annotate("k", "v").to_value();
        let theirs: oci_spec::image::Descriptor = serde_json::from_value(value).unwrap();
        assert_eq!(theirs.size(), 1);
        assert_eq!(theirs.media_type(), &oci_spec::image::MediaType::ImageLayerGzip);
    }
}
