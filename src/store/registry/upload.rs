//! Writing to a repository (distribution-spec 1.1, "Pushing"): blobs before the manifests that name them.

use std::io::{self, Read};

use dmoci_layers::Digest;

use super::open::{list, parallel};
use super::{Named, RegistryError, Repository};
use crate::cache::{Begun, Uploads};
use crate::fetch::{Call, Cause, FetchError, Method, Payload, Reply, Scope, Tries};
use crate::limits;
use crate::oci::Descriptor;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::Kind;
use crate::oci::reference::{ImageName, Tag, is_referrers_tag, referrers_tag};
use crate::oci::{json, media_type};
use crate::url::Url;

/// How many manifests of the image that has a tag now are looked at, for what is there.
const LOOKED_AT: usize = 16;

/// The bytes of a blob that is uploaded.
pub trait Content: Sync {
    /// Opens them from there on.
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + '_>>;
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was there.
    There,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

impl Repository<'_> {
    /// True when the repository has a blob of this digest and size.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        let action = format!("look for the blob {} in", blob.digest);
        let url = self.address(&format!("blobs/{}", blob.digest), &action)?;
        let reply = self.call(Method::Head, &url, &[], 0, &action)?;
        match reply.status {
            200 => {
                let size = reply.header("content-length").and_then(|size| size.trim().parse().ok());
                Ok(size.is_none_or(|size: u64| size == blob.size))
            }
            404 => Ok(false),
            _ => Err(self.refused(&reply, &action)),
        }
    }

    /// True when the repository has this manifest.
    pub fn has_manifest(&self, named: Named<'_>) -> Result<bool, RegistryError> {
        let action = format!("look for the manifest {named} in");
        let url = self.address(&format!("manifests/{named}"), &action)?;
        let accept = [("accept", super::ACCEPT.join(", "))];
        let reply = self.call(Method::Head, &url, &accept, 0, &action)?;
        match reply.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refused(&reply, &action)),
        }
    }

    /// This tag when it is there, or else another one whose image may have layers of the same.
    pub fn like(&self, tag: &str) -> String {
        let action = "list the tags of";
        let page = self.get("tags/list?n=100", &[], limits::JSON_BYTES, action).ok();
        let page = page.filter(|page| page.status == 200 && page.header("link").is_none());
        let value = page.and_then(|page| json::parse(&page.bytes).ok()).unwrap_or_default();
        let tags = value["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str());
        let tags: Vec<&str> =
            tags.filter(|tag| tag.parse::<Tag>().is_ok() && !is_referrers_tag(tag)).collect();
        let other = ["latest"].into_iter().find(|other| tags.contains(other)).or(tags.iter().copied().max());
        let other = other.filter(|_| !tags.contains(&tag));
        other.unwrap_or(tag).to_owned()
    }

    /// Configurations and layers of what a tag names now; none when that cannot be read. They need not be looked for.
    pub fn named_by(&self, tag: &str) -> Vec<Digest> {
        let action = format!("read the manifest {tag} of");
        let Ok(Ok(root)) = self.look_up(Named::Tag(tag), &action) else { return Vec::new() };
        let mut blobs = Vec::new();
        let mut manifests = vec![root];
        if manifests.iter().any(|root| root.descriptor.kind() == Kind::Index) {
            let value = json::parse(&manifests.remove(0).bytes).unwrap_or_default();
            let listed =
                Index::read(&value, &mut Vec::new()).map(|index| index.manifests).unwrap_or_default();
            let below = parallel(&listed[..listed.len().min(LOOKED_AT)], |one| {
                self.look_up(Named::Digest(&one.digest), &action)
            });
            manifests.extend(below.unwrap_or_default().into_iter().flatten());
        }
        for document in manifests.iter().filter(|document| document.descriptor.kind() == Kind::Manifest) {
            let value = json::parse(&document.bytes).unwrap_or_default();
            if let Some(manifest) = Manifest::read(&value, &mut Vec::new()) {
                blobs.push(manifest.config.digest);
                blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            }
        }
        blobs
    }

    /// Writes a manifest as it is. True when the registry says that it lists what the manifest refers to.
    pub fn put_manifest(
        &self,
        named: Named<'_>,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let action = format!("write the manifest {named} to");
        let url = self.address(&format!("manifests/{named}"), &action)?;
        let headers = [("content-type", media_type.to_owned())];
        let reply = self.send(Method::Put, &url, &headers, Payload::Bytes(bytes), true, &action)?;
        match reply.status {
            200..=202 => Ok(reply.header("oci-subject").is_some()),
            _ => Err(self.refused(&reply, &action)),
        }
    }

    /// An error when this may not be written to, or is not there: asked by beginning an upload, which is given up at once. Of any
    /// other answer the first blob will tell.
    pub fn may_write(&self) -> Result<(), RegistryError> {
        let action = "get leave to write to";
        let url = self.address("blobs/uploads/", action)?;
        let reply = self.send(Method::Post, &url, &[], Payload::Bytes(&[]), true, action)?;
        match reply.status {
            401 | 403 | 404 => return Err(self.refused(&reply, action)),
            202 => {
                if let Ok(location) = self.location(&reply, action) {
                    // A registry that does not do so forgets it sooner or later.
                    let _ = self.send(Method::Delete, &location, &[], Payload::None, false, action);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a blob over from another repository of the registry. A registry that does not do so is no error.
    pub fn mount(&self, blob: &Digest, from: &ImageName) -> Result<bool, RegistryError> {
        let action = format!("take over the blob {blob} into");
        let url =
            self.address(&format!("blobs/uploads/?mount={blob}&from={}", super::path(from)), &action)?;
        let scope = Scope { also: Some(super::path(from)), ..self.scope.clone() };
        let call = Call {
            method: Method::Post,
            url: &url,
            headers: &[],
            payload: Payload::Bytes(&[]),
            scope: Some(&scope),
            plain: self.plain,
            most: limits::REFUSAL_BYTES,
            again: true,
        };
        let reply = match self.fetcher.call(&call) {
            Ok(reply) => reply,
            // It may not let the other one be read.
            Err(FetchError::Auth(_)) => return Ok(false),
            Err(source) => return Err(self.failed(&action, source)),
        };
        if reply.status == 202
            && let Ok(location) = self.location(&reply, &action)
        {
            // An upload was begun instead, which nobody will go on with.
            let _ = self.send(Method::Delete, &location, &[], Payload::None, true, &action);
        }
        Ok(reply.status == 201)
    }

    /// Sends a blob that is not there: at once, or in pieces when it is large. What was begun by an earlier run goes on where
    /// it was; `told` hears of every byte that the registry has taken.
    pub fn upload(
        &self,
        blob: &Descriptor,
        content: &dyn Content,
        uploads: Option<&Uploads>,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let action = format!("write the blob {} to", blob.digest);
        let large = blob.size > self.fetcher.piece();
        let begun = uploads
            .filter(|_| large)
            .and_then(|uploads| uploads.take(self.name.host(), self.name.path(), &blob.digest));
        let mut upload = Upload { to: self, blob, content, action, begun, told, known: 0 };
        let sent = upload.run();
        if sent.is_ok()
            && let Some(begun) = upload.begun.take()
        {
            begun.forget();
        }
        sent
    }

    /// Adds something to the list that stands in for the interface of referrers, under its tag.
    pub fn list_referrer(&self, subject: &Digest, referrer: &Descriptor) -> Result<(), RegistryError> {
        let tag = referrers_tag(subject);
        let action = format!("list what refers to {subject} in");
        let mut manifests = match self.look_up(Named::Tag(&tag), &action)? {
            Ok(document) => {
                let value = json::parse(&document.bytes).unwrap_or_default();
                let index = Index::read(&value, &mut Vec::new());
                let index = index
                    .ok_or_else(|| self.unusable(&action, "E-REGISTRY-LIST", "it is no index".into()))?;
                index.manifests
            }
            Err(_) => Vec::new(),
        };
        if manifests.iter().any(|known| known.digest == referrer.digest) {
            return Ok(());
        }
        manifests.push(referrer.clone());
        let bytes = list(&manifests);
        self.put_manifest(Named::Tag(&tag), media_type::INDEX, &bytes).map(|_| ())
    }

    /// Where the registry says an upload goes on. Credentials go there only when it is the registry itself.
    fn location(&self, reply: &Reply, action: &str) -> Result<Url, RegistryError> {
        let unusable = |why: &str| self.unusable(action, "E-REGISTRY-UPLOAD", why.into());
        let location =
            reply.header("location").ok_or_else(|| unusable("it does not say where the upload goes on"))?;
        let url =
            reply.url.join(location).map_err(|_| unusable("it says no address where the upload goes on"))?;
        self.fetcher.may_go(&self.root, &url).map_err(|source| self.failed(action, source))?;
        Ok(url)
    }

    pub(super) fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
        payload: Payload<'_>,
        again: bool,
        action: &str,
    ) -> Result<Reply, RegistryError> {
        let scope = url.same_origin(&self.root).then_some(&self.scope);
        let (plain, most) = (self.plain, limits::REFUSAL_BYTES);
        let call = Call { method, url, headers, payload, scope, plain, most, again };
        self.fetcher.call(&call).map_err(|source| self.failed(action, source))
    }
}

/// A blob that is being sent.
struct Upload<'a, 'r> {
    to: &'a Repository<'r>,
    blob: &'a Descriptor,
    content: &'a dyn Content,
    action: String,
    begun: Option<Begun>,
    told: &'a (dyn Fn(u64) + Sync),
    /// How many bytes `told` heard of.
    known: u64,
}

/// How far an upload is.
struct Point {
    location: Url,
    offset: u64,
    /// The least that the registry wants in one piece but the last.
    least: u64,
}

impl Upload<'_, '_> {
    fn run(&mut self) -> Result<(), RegistryError> {
        let mut tries = Tries::default();
        let mut point = self.resumed();
        loop {
            let at = match point.take() {
                Some(at) => at,
                None => self.begin()?,
            };
            let (location, offset) = (at.location.clone(), at.offset);
            let (cause, asked) = match self.step(at) {
                Ok(Step::Done) => {
                    self.tell(self.blob.size);
                    return Ok(());
                }
                Ok(Step::Further(next)) => {
                    self.note(&next.location);
                    self.tell(next.offset);
                    point = Some(next);
                    continue;
                }
                Ok(Step::Status(reply)) if passes(reply.status) => {
                    (Cause::Status { status: reply.status, asked: None }, reply.asked())
                }
                Ok(Step::Status(reply)) => return Err(self.to.refused(&reply, &self.action)),
                Err(RegistryError::Fetch { source, site }) => match *source {
                    FetchError::Failed { cause, .. } if cause.passes() => (*cause, None),
                    other => return Err(RegistryError::Fetch { site, source: Box::new(other) }),
                },
                Err(error) => return Err(error),
            };
            let more = self.to.fetcher.once_more(&mut tries, &location, offset, &cause, asked);
            if !more.map_err(|source| self.to.failed(&self.action, source))? {
                let failed = FetchError::Failed {
                    url: Box::new(location),
                    at: None,
                    attempts: tries.count(),
                    cause: Box::new(cause),
                };
                return Err(self.to.failed(&self.action, failed));
            }
            // It may all have come but for the answer.
            if self.to.has_blob(self.blob)? {
                self.tell(self.blob.size);
                return Ok(());
            }
            point = self.asked(&location);
        }
    }

    /// Where an earlier run was, when the registry still knows.
    fn resumed(&mut self) -> Option<Point> {
        let place: Url = self.begun.as_mut()?.place()?.parse().ok()?;
        self.to.fetcher.may_go(&self.to.root, &place).ok()?;
        let point = self.asked(&place)?;
        self.tell(point.offset);
        Some(point)
    }

    /// How far the registry says that the upload is; nothing when it does not know of it, or may have nothing of it.
    fn asked(&self, location: &Url) -> Option<Point> {
        let reply = self.to.send(Method::Get, location, &[], Payload::None, true, &self.action).ok()?;
        if reply.status != 204 {
            return None;
        }
        let location = self.to.location(&reply, &self.action).unwrap_or_else(|_| location.clone());
        // Of one byte nobody can tell whether it is there.
        let offset = taken(&reply).filter(|offset| *offset > 0)?;
        (offset <= self.blob.size).then_some(Point { location, offset, least: 0 })
    }

    /// Begins anew.
    fn begin(&mut self) -> Result<Point, RegistryError> {
        let url = self.to.address("blobs/uploads/", &self.action)?;
        let reply = self.to.send(Method::Post, &url, &[], Payload::Bytes(&[]), true, &self.action)?;
        if reply.status != 202 {
            return Err(self.to.refused(&reply, &self.action));
        }
        let location = self.to.location(&reply, &self.action)?;
        self.note(&location);
        let least =
            reply.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Point { location, offset: 0, least })
    }

    /// One piece, or the end.
    fn step(&self, point: Point) -> Result<Step, RegistryError> {
        let Point { location, offset, least } = point;
        let left = self.blob.size - offset;
        let open = || self.content.open(offset);
        let binary = ("content-type", "application/octet-stream".to_owned());
        if left == 0 || (offset == 0 && left <= self.to.fetcher.piece().max(least)) {
            let end = with_digest(&location, &self.blob.digest);
            let end = end.ok_or_else(|| self.unusable("its address cannot be completed"))?;
            let payload =
                if left == 0 { Payload::Bytes(&[]) } else { Payload::Stream { size: left, open: &open } };
            let reply = self.to.send(Method::Put, &end, &[binary], payload, false, &self.action)?;
            return Ok(if matches!(reply.status, 200..=204) { Step::Done } else { Step::Status(reply) });
        }
        let size = left.min(self.to.fetcher.piece().max(least));
        let range = ("content-range", format!("{offset}-{}", offset + size - 1));
        let payload = Payload::Stream { size, open: &open };
        let reply = self.to.send(Method::Patch, &location, &[binary, range], payload, false, &self.action)?;
        if !matches!(reply.status, 202 | 204) {
            return Ok(Step::Status(reply));
        }
        let location = self.to.location(&reply, &self.action)?;
        let offset = taken(&reply).unwrap_or(offset + size);
        match offset <= self.blob.size {
            true => Ok(Step::Further(Point { location, offset, least })),
            false => Err(self.unusable("it says that it has more than was sent")),
        }
    }

    fn unusable(&self, why: &str) -> RegistryError {
        self.to.unusable(&self.action, "E-REGISTRY-UPLOAD", why.into())
    }

    fn note(&mut self, location: &Url) {
        if let Some(begun) = &mut self.begun {
            begun.note(&location.bare());
        }
    }

    fn tell(&mut self, offset: u64) {
        if offset > self.known {
            (self.told)(offset - self.known);
            self.known = offset;
        }
    }
}

enum Step {
    Done,
    Further(Point),
    Status(Reply),
}

/// True when an upload may go on, or begin anew, after such an answer: the registry may have lost it, or be at another place.
fn passes(status: u16) -> bool {
    matches!(status, 404 | 408 | 416 | 425 | 429 | 499 | 500..=599)
}

/// `Range: 0-LAST`: how many bytes the registry has. Nobody can tell one from none; that there is none costs one.
fn taken(reply: &Reply) -> Option<u64> {
    let range = reply.header("range")?.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let last: u64 = last.parse().ok()?;
    (first == "0").then_some(if last == 0 { 0 } else { last.saturating_add(1) })
}

fn with_digest(location: &Url, digest: &Digest) -> Option<Url> {
    let address = location.bare();
    let between = if address.contains('?') { '&' } else { '?' };
    format!("{address}{between}digest={digest}").parse().ok()
}
