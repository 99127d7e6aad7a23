//! Images in registries (OCI distribution-spec 1.1).
//!
//! ```text
//! open, upload, remove > referrers, mod > mirrors > error
//! ```
//!
//! A tag is resolved once; everything else is asked for by digest, and hashed here: what the registry says about digests
//! (`Docker-Content-Digest`) counts for nothing. Places that documents name for their content (`urls`) are never asked
//! (CVE-2020-15157).

mod error;
mod mirrors;
mod open;
mod referrers;
mod remove;
mod upload;

use dmoci_layers::{Algorithm, Digest, Hasher};
use serde_json::Value;

pub use error::{Refusal, RegistryError, Site};
use mirrors::Mirrors;
pub use open::{Which, awaiting, list, open, parallel, refers_to, stray};
pub use upload::{Content, Put};

use crate::diagnostic::Diagnostic as _;
use crate::fetch::{Access, Call, Cause, FetchError, Fetcher, Method, Payload, Reply, Scope, Wanted};
use crate::limits;
use crate::oci::media_type::{self, Kind};
use crate::oci::reference::{ImageName, Tag, is_evidence_tag};
use crate::oci::{Descriptor, json};
use crate::url::Url;

/// What manifests may be.
const ACCEPT: [&str; 4] =
    [media_type::INDEX, media_type::MANIFEST, media_type::DOCKER_INDEX, media_type::DOCKER_MANIFEST];

/// A repository of a registry that answers.
pub struct Repository<'a> {
    fetcher: &'a Fetcher<'a>,
    name: ImageName,
    /// `https://HOST/v2/`
    root: Url,
    scope: Scope,
    /// It may be spoken to without encryption.
    plain: bool,
    /// It is a mirror: what fails is not tried again, another one is asked.
    once: bool,
    mirrors: Mirrors,
}

/// A manifest or index, as it came, and what names it.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Document {
    /// One that is here: it is what it says itself.
    pub fn of(bytes: Vec<u8>) -> Result<Document, String> {
        let value = json::parse(&bytes).map_err(|error| error.to_string())?;
        let descriptor = Descriptor::of(media_type_of(&value, None)?, &bytes);
        Ok(Document { descriptor, bytes })
    }
}

/// How a manifest is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// By a tag: whatever it is now.
    Tag(&'a str),
    /// By its digest.
    Digest(&'a Digest),
}

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Named::Tag(tag) => f.write_str(tag),
            Named::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

impl<'a> Repository<'a> {
    /// The same, to read or to write.
    pub fn connect(
        fetcher: &'a Fetcher<'a>,
        name: &ImageName,
        write: bool,
    ) -> Result<Repository<'a>, RegistryError> {
        Repository::reach(fetcher, name, if write { Access::Write } else { Access::Read })
    }

    /// Finds out where the registry is, and how it is spoken to: with TLS, or without where that is this machine or was allowed.
    pub fn reach(
        fetcher: &'a Fetcher<'a>,
        name: &ImageName,
        access: Access,
    ) -> Result<Repository<'a>, RegistryError> {
        let place = fetcher.place(&format!("{}/{}", name.host(), path(name)));
        let place = place.map_err(RegistryError::Places)?;
        if let Some(file) = place.blocked {
            return Err(RegistryError::Blocked { name: name.clone(), file });
        }
        let at = match place.name == format!("{}/{}", name.host(), path(name)) {
            true => name.clone(),
            false => mirrors::parsed(&place.name)?,
        };
        let mirrors = match access {
            Access::Read => Mirrors::new(place.mirrors)?,
            _ => Mirrors::default(),
        };
        Repository::found(fetcher, &at, access, place.insecure, false, mirrors)
    }

    /// The same, when it is known where.
    fn found(
        fetcher: &'a Fetcher<'a>,
        name: &ImageName,
        access: Access,
        insecure: bool,
        once: bool,
        mirrors: Mirrors,
    ) -> Result<Repository<'a>, RegistryError> {
        let host = name.host().to_owned();
        let repository = path(name);
        let scope = Scope { host, repository, access, also: None };
        let address = |scheme: &str| {
            let text = format!("{scheme}://{}/v2/", server(name.host()));
            text.parse::<Url>().map_err(|error| RegistryError::NoRegistry {
                host: name.host().to_owned(),
                why: error.to_string(),
            })
        };
        let secure = address("https")?;
        let plain = fetcher.is_plain() || insecure;
        let schemes: &[&str] = match (fetcher.is_plain(), insecure || secure.is_loopback()) {
            (true, _) => &["http"],
            (false, true) => &["https", "http"],
            (false, false) => &["https"],
        };
        let spared = !mirrors.is_empty();
        let mut found = Repository { fetcher, name: name.clone(), root: secure, scope, plain, once, mirrors };
        for (i, scheme) in schemes.iter().enumerate() {
            found.root = address(scheme)?;
            let last = i + 1 == schemes.len();
            // What its mirrors have it need not be asked for, and there is only one way to it.
            if spared && schemes.len() == 1 {
                return Ok(found);
            }
            let call = Call {
                method: Method::Get,
                url: &found.root,
                headers: &[],
                payload: Payload::None,
                scope: None,
                plain,
                most: limits::REFUSAL_BYTES,
                again: last && !once && !spared,
            };
            let reply = match fetcher.call(&call) {
                Ok(reply) => reply,
                Err(error) if !last && error.is_no_tls() => continue,
                // What it says there is of no interest.
                Err(FetchError::Large { .. }) => return Ok(found),
                // Whoever needs it will be told.
                Err(_) if spared => return Ok(found),
                Err(source) => return Err(found.failed("reach the registry of", source)),
            };
            return match reply.status {
                200..=299 | 403 => Ok(found),
                401 => {
                    fetcher.learn(&reply);
                    Ok(found)
                }
                404 | 405 => Err(RegistryError::NoRegistry {
                    host: name.host().to_owned(),
                    why: format!("it answered {} where registries have their interface, /v2/", reply.status),
                }),
                _ => Err(found.refused(&reply, "reach the registry of")),
            };
        }
        Ok(found)
    }

    /// The name.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// A manifest or index of at most [`limits::JSON_BYTES`]. Its digest is computed here.
    pub fn manifest(&self, named: Named<'_>) -> Result<Document, RegistryError> {
        let action = format!("read the manifest {named} of");
        self.look_up(named, &action)?.map_err(|reply| RegistryError::Missing {
            site: self.site(&action),
            refusal: self.refusal(&reply),
            tags: match named {
                Named::Tag(_) => self.tags().map(readable).unwrap_or_default(),
                Named::Digest(_) => Vec::new(),
            },
        })
    }

    /// The same under a tag; nothing when there is none. `action` is for errors: "read … of".
    pub fn find(&self, tag: &str, action: &str) -> Result<Option<Document>, RegistryError> {
        Ok(self.look_up(Named::Tag(tag), action)?.ok())
    }

    /// The same; what the registry answered when it does not have it. Mirrors are asked first.
    fn look_up(&self, named: Named<'_>, action: &str) -> Result<Result<Document, Reply>, RegistryError> {
        for mirror in self.mirrors.of(self.fetcher, matches!(named, Named::Tag(_))) {
            match mirror.look_up(named, action) {
                Ok(Ok(document)) => return Ok(Ok(document)),
                Ok(Err(_)) => mirror.passed_over(&"it does not have it"),
                Err(error) => mirror.passed_over(&error::chain(&error)),
            }
        }
        self.own_look_up(named, action)
    }

    /// The same, of the registry itself.
    fn own_look_up(&self, named: Named<'_>, action: &str) -> Result<Result<Document, Reply>, RegistryError> {
        let accept = [("accept", ACCEPT.join(", "))];
        let reply = self.get(&format!("manifests/{named}"), &accept, limits::JSON_BYTES, action)?;
        match reply.status {
            200 => self.document(named, &reply, action).map(Ok),
            404 if self.is_own(&reply) => Ok(Err(reply)),
            _ => Err(self.refused(&reply, action)),
        }
    }

    /// All tags, in the order of the registry; what is no tag is left out.
    pub fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let action = "list the tags of";
        let mut tags = Vec::new();
        let mut next = Some(self.address("tags/list?n=1000", action)?);
        for _ in 0..limits::REGISTRY_PAGES {
            let Some(url) = next else { return Ok(tags) };
            let reply = self.call(Method::Get, &url, &[], limits::JSON_BYTES, action)?;
            if reply.status != 200 {
                return Err(self.refused(&reply, action));
            }
            let value = json::parse(&reply.bytes)
                .map_err(|error| self.unusable(action, error.code(), error.to_string()))?;
            let found = match value.get("tags") {
                Some(Value::Array(found)) => &found[..],
                Some(Value::Null) => &[],
                _ => return Err(self.unusable(action, "E-REGISTRY-LIST", "it is no list of tags".into())),
            };
            let found = found.iter().filter_map(Value::as_str).filter(|tag| tag.parse::<Tag>().is_ok());
            tags.extend(found.map(str::to_owned));
            if tags.len() > limits::REGISTRY_TAGS {
                break;
            }
            next = self.next_page(&reply, action)?;
        }
        let why = format!("there are more than {} of them", limits::REGISTRY_TAGS);
        Err(self.unusable(action, "E-REGISTRY-LIST", why))
    }

    /// How a blob is fetched into the cache: by digest and size, from a mirror first.
    pub fn wanted(&self, blob: &Descriptor) -> Result<Wanted, RegistryError> {
        let url = self.address(&format!("blobs/{}", blob.digest), "read a blob of")?;
        let mut wanted = Wanted::new(url, Some(blob.digest.clone()));
        wanted.size = Some(blob.size);
        wanted.plain = self.plain;
        wanted.scope = Some(self.scope.clone());
        wanted.once = self.once;
        for mirror in self.mirrors.of(self.fetcher, false) {
            wanted.mirrors.push(mirror.wanted(blob)?);
        }
        Ok(wanted)
    }

    /// A mirror did not do.
    fn passed_over(&self, why: &dyn std::fmt::Display) {
        self.fetcher.pass_over(&self.name.to_string(), why);
    }

    /// What became of fetching blobs, as an error of this repository.
    pub fn failed(&self, action: &str, source: FetchError) -> RegistryError {
        RegistryError::Fetch { site: self.site(action), source: Box::new(source) }
    }

    /// A document of this repository that came.
    fn document(&self, named: Named<'_>, reply: &Reply, action: &str) -> Result<Document, RegistryError> {
        let algorithm = match named {
            Named::Digest(digest) => digest.algorithm(),
            Named::Tag(_) => Algorithm::Sha256,
        };
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&reply.bytes);
        let found = hasher.finish();
        if let Named::Digest(expected) = named
            && *expected != found
        {
            let (expected, found) = (expected.clone(), Box::new(found));
            return Err(RegistryError::Digest { site: self.site(action), expected, found });
        }
        let value = json::parse(&reply.bytes)
            .map_err(|error| self.unusable(action, error.code(), error.to_string()))?;
        let header =
            reply.header("content-type").map(|text| text.split(';').next().unwrap_or_default().trim());
        let media_type =
            media_type_of(&value, header).map_err(|why| self.unusable(action, "E-OCI-MEDIATYPE", why))?;
        let descriptor = Descriptor::new(media_type, found, reply.bytes.len() as u64);
        Ok(Document { descriptor, bytes: reply.bytes.clone() })
    }

    /// The address that `Link` says the next page is at (distribution-spec, "Listing Tags"): on the same server only.
    fn next_page(&self, reply: &Reply, action: &str) -> Result<Option<Url>, RegistryError> {
        let Some(target) = reply.headers("link").find_map(next_link) else { return Ok(None) };
        match reply.url.join(target) {
            Ok(url) if url.same_origin(&self.root) => Ok(Some(url)),
            _ => Err(self.unusable(action, "E-REGISTRY-LIST", "the next page is on another server".into())),
        }
    }

    fn get(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        most: u64,
        action: &str,
    ) -> Result<Reply, RegistryError> {
        self.call(Method::Get, &self.address(path, action)?, headers, most, action)
    }

    fn call(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
        most: u64,
        action: &str,
    ) -> Result<Reply, RegistryError> {
        let (payload, plain, scope) = (Payload::None, self.plain, Some(&self.scope));
        let call = Call { method, url, headers, payload, scope, plain, most, again: !self.once };
        self.fetcher.call(&call).map_err(|source| self.failed(action, source))
    }

    /// True when the registry itself answered: only it can say that it does not have something.
    fn is_own(&self, reply: &Reply) -> bool {
        reply.url.same_origin(&self.root)
    }

    /// An address below the repository.
    fn address(&self, path: &str, action: &str) -> Result<Url, RegistryError> {
        let url = self.root.join(&format!("{}/{path}", self.scope.repository));
        url.map_err(|error| self.unusable(action, "E-REGISTRY", error.to_string()))
    }

    fn site(&self, action: &str) -> Box<Site> {
        let (registry, repository) = (self.name.host().to_owned(), self.name.path().to_owned());
        Box::new(Site { registry, repository, action: action.to_owned() })
    }

    fn refusal(&self, reply: &Reply) -> Box<Refusal> {
        Box::new(Refusal {
            registry: self.name.host().to_owned(),
            status: reply.status,
            said: error::spoken(&reply.bytes),
            credentials: self.fetcher.told(&self.scope),
        })
    }

    fn refused(&self, reply: &Reply, action: &str) -> RegistryError {
        let (site, refusal) = (self.site(action), self.refusal(reply));
        match reply.status {
            401 | 403 => RegistryError::Denied { site, refusal },
            404 if self.is_own(reply) => RegistryError::Missing { site, refusal, tags: Vec::new() },
            _ => RegistryError::Status { site, refusal },
        }
    }

    fn unusable(&self, action: &str, code: &'static str, why: String) -> RegistryError {
        RegistryError::Document { site: self.site(action), code, why }
    }
}

/// The tags that people give, sorted.
fn readable(mut tags: Vec<String>) -> Vec<String> {
    tags.retain(|tag| !is_evidence_tag(tag));
    tags.sort();
    tags
}

/// Docker's own registry answers under another name than its images have.
fn server(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        host => host,
    }
}

/// The repository; Docker's own registry has images without a user below `library`.
fn path(name: &ImageName) -> String {
    match name.path() {
        path if server(name.host()) == "registry-1.docker.io" && !path.contains('/') => {
            format!("library/{path}")
        }
        path => path.to_owned(),
    }
}

/// What a document is: what it says itself, or else its header. Where both say something they must agree (CVE-2021-41190).
fn media_type_of(value: &Value, header: Option<&str>) -> Result<String, String> {
    let is_manifest = |text: &&str| matches!(media_type::kind(text), Kind::Index | Kind::Manifest);
    let own = value.get("mediaType").and_then(Value::as_str);
    match (own, header.filter(is_manifest)) {
        (Some(own), _) if !is_manifest(&own) => {
            Err(format!("it says that it is {:?}, which is no manifest", short(own)))
        }
        (Some(own), Some(header)) if own != header => {
            Err(format!("it says that it is {own:?}, and the registry that it is {header:?}"))
        }
        (Some(own), _) => Ok(own.to_owned()),
        (None, Some(header)) => Ok(header.to_owned()),
        (None, None) if value.get("schemaVersion").and_then(Value::as_u64) == Some(1) => {
            Err("it is of Docker's manifest schema 1, which is not read: it names no configuration".into())
        }
        (None, None) if value.get("manifests").is_some() => Ok(media_type::INDEX.into()),
        (None, None) if value.get("config").is_some() => Ok(media_type::MANIFEST.into()),
        (None, None) => Err(format!("it is no manifest, but {:?}", short(header.unwrap_or("nothing known")))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The target of `<…>; rel="next"` (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        is_next.then_some(target)
    })
}

/// True when the cause of a failed fetch is that the server has no such thing.
fn is_absent(error: &FetchError) -> bool {
    matches!(error, FetchError::Failed { cause, .. } if matches!(**cause, Cause::Status { status: 404, .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_next_pages() {
        for (header, expected) in [
            (r#"</v2/a/tags/list?last=x&n=1>; rel="next""#, Some("/v2/a/tags/list?last=x&n=1")),
            ("</x>; rel=next", Some("/x")),
            (r#"</first>; rel="first", </n>; title="t"; REL="Next""#, Some("/n")),
            (r#"</x>; rel="prev""#, None),
            ("/x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expected, "{header}");
        }
    }

    #[test]
    fn what_a_document_is() {
        let of =
            |text: &str, header: Option<&str>| media_type_of(&json::parse(text.as_bytes()).unwrap(), header);
        let own = format!(r#"{{"mediaType":"{}"}}"#, media_type::MANIFEST);
        assert_eq!(of(&own, Some(media_type::MANIFEST)).unwrap(), media_type::MANIFEST);
        assert_eq!(of(&own, Some("application/json")).unwrap(), media_type::MANIFEST);
        assert!(of(&own, Some(media_type::INDEX)).is_err());
        assert_eq!(of("{}", Some(media_type::DOCKER_INDEX)).unwrap(), media_type::DOCKER_INDEX);
        assert_eq!(of(r#"{"manifests":[]}"#, None).unwrap(), media_type::INDEX);
        assert_eq!(of(r#"{"config":{}}"#, Some("text/plain")).unwrap(), media_type::MANIFEST);
        assert!(of(r#"{"schemaVersion":1}"#, None).unwrap_err().contains("schema 1"));
        assert!(of(r#"{"mediaType":"text/html"}"#, Some(media_type::INDEX)).is_err());
        assert!(of("{}", None).is_err());
    }

    #[test]
    fn names_of_servers() {
        for (name, host, repository) in [
            ("docker.io/debian", "registry-1.docker.io", "library/debian"),
            ("docker.io/a/b", "registry-1.docker.io", "a/b"),
            ("r.example:5000/a", "r.example:5000", "a"),
        ] {
            let name: ImageName = name.parse().unwrap();
            assert_eq!((server(name.host()), path(&name).as_str()), (host, repository));
        }
    }
}
