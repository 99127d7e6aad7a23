//! A small registry on the loopback: the distribution-spec with its referrers, tokens, and whatever fault a test wants. It stands in for zot,
//! which is not built where these tests run; `tests/interop/registries` has Debian's docker-registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use dmoci::oci::json;
use dmoci_layers::Digest;
use serde_json::{Value, json};

use super::server::{Asked, Reply, Server};

/// How a registry lets people in.
#[derive(Clone, Debug, Default)]
pub(crate) enum Door {
    /// All of them.
    #[default]
    Open,
    /// With user and password, as `Basic` sends them.
    Basic(String),
    /// With a token of this realm.
    Token(String),
}

/// What a registry does not delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// It deletes whatever it is told to.
    #[default]
    Nothing,
    /// Tags go with their manifests only.
    Tags,
    /// It deletes nothing.
    All,
}

/// What it holds.
#[derive(Default)]
pub(crate) struct Content {
    /// Manifests by repository and tag or digest: type and bytes.
    pub(crate) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// Blobs by digest.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// It has no interface for referrers.
    pub(crate) old: bool,
    /// How many entries a page of a list has.
    pub(crate) page: usize,
    pub(crate) door: Door,
    /// Which repositories have which blobs, where that matters.
    pub(crate) links: Option<BTreeSet<(String, String)>>,
    /// It takes nothing over from other repositories.
    pub(crate) no_mount: bool,
    /// Uploads by their number: what came so far.
    uploads: BTreeMap<usize, Vec<u8>>,
    /// Bytes of blobs that came.
    pub(crate) taken: u64,
    /// A host before the addresses of uploads.
    pub(crate) elsewhere: String,
    /// It deletes no tags alone, or nothing at all.
    pub(crate) keeps: Keeps,
}

/// A running registry.
pub(crate) struct Registry {
    pub(crate) server: Server,
    pub(crate) content: Arc<Mutex<Content>>,
}

impl Registry {
    /// One that does as it should.
    pub(crate) fn start() -> Registry {
        Registry::with(|_, reply| reply)
    }

    /// One whose answers are changed by a test.
    pub(crate) fn with(fault: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Registry {
        Registry::between(|_| None, fault, |_| None)
    }

    /// The same; some requests do not come to it, and of some only the beginning.
    pub(crate) fn between(
        before: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
        fault: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static,
        short: impl Fn(&Asked) -> Option<usize> + Send + Sync + 'static,
    ) -> Registry {
        let content = Arc::new(Mutex::new(Content { page: 1000, ..Content::default() }));
        let shared = Arc::clone(&content);
        let handler = move |asked: &Asked| {
            if let Some(reply) = before(asked) {
                return reply;
            }
            let reply = shared.lock().unwrap().reply(asked);
            let reply = if asked.method == "HEAD" { reply.bodiless() } else { reply };
            fault(asked, reply)
        };
        Registry { server: Server::start_short(handler, short), content }
    }

    /// Another server that gives the same to everybody.
    pub(crate) fn open_to_all(&self) -> Server {
        let shared = Arc::clone(&self.content);
        Server::start(move |asked| {
            let reply = shared.lock().unwrap().answer(asked);
            if asked.method == "HEAD" { reply.bodiless() } else { reply }
        })
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// All requests so far whose line holds this text.
    pub(crate) fn asked(&self, text: &str) -> usize {
        let line = |asked: &Asked| format!("{} {}", asked.method, asked.target);
        self.server.asked().iter().filter(|asked| line(asked).contains(text)).count()
    }

    /// Takes over all of a layout: its first root under this tag. The digest of that.
    pub(crate) fn load(&self, layout: &Path, repository: &str, tag: &str) -> Digest {
        let mut content = self.content.lock().unwrap();
        for entry in std::fs::read_dir(layout.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap();
            let digest = format!("sha256:{}", entry.file_name().to_str().unwrap());
            let bytes = std::fs::read(entry.path()).unwrap();
            let media_type =
                json::parse(&bytes).ok().and_then(|value| Some(value.get("mediaType")?.as_str()?.to_owned()));
            if let Some(media_type) = media_type {
                content.manifests.insert((repository.into(), digest.clone()), (media_type, bytes.clone()));
            }
            content.link(repository, &digest);
            content.blobs.insert(digest, bytes);
        }
        let index = json::parse(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        content.tag(repository, tag, &digest);
        digest.parse().unwrap()
    }
}

impl Content {
    /// Gives a manifest that is there a tag.
    pub(crate) fn tag(&mut self, repository: &str, tag: &str, digest: &str) {
        let manifest = self.manifests[&(repository.to_owned(), digest.to_owned())].clone();
        self.manifests.insert((repository.into(), tag.into()), manifest);
    }

    /// Adds a manifest. Its digest.
    pub(crate) fn put(&mut self, repository: &str, value: &Value) -> Digest {
        let bytes = json::canonical(value);
        let digest = Digest::sha256(&bytes);
        let media_type = value["mediaType"].as_str().unwrap().to_owned();
        self.manifests.insert((repository.into(), digest.to_string()), (media_type, bytes));
        digest
    }

    fn reply(&mut self, asked: &Asked) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let (method, rest) = (asked.method.as_str(), path.strip_prefix("/v2/").unwrap_or_default());
        if let Some(refusal) = self.refusal(asked, path).filter(|_| path != "/token") {
            return refusal;
        }
        if let Some((repository, upload)) = rest.split_once("/blobs/uploads/") {
            return self.upload(asked, repository, upload, query);
        }
        match rest.rsplit_once("/manifests/") {
            Some((repository, reference)) if method == "PUT" => self.take(asked, repository, reference),
            Some((repository, reference)) if method == "DELETE" => self.drop(repository, reference),
            _ => self.answer(asked),
        }
    }

    /// A tag alone, or a manifest with all its tags.
    fn drop(&mut self, repository: &str, reference: &str) -> Reply {
        let tag = !reference.contains(':');
        if self.keeps == Keeps::All || (self.keeps == Keeps::Tags && tag) {
            return error("405 Method Not Allowed", "UNSUPPORTED");
        }
        let name = (repository.to_owned(), reference.to_owned());
        let Some((_, bytes)) = self.manifests.remove(&name) else {
            return error("404 Not Found", "MANIFEST_UNKNOWN");
        };
        if !tag {
            self.manifests.retain(|(own, _), (_, other)| own != repository || *other != bytes);
        }
        Reply::new("202 Accepted", &[], b"")
    }

    fn has(&self, repository: &str, digest: &str) -> bool {
        let link = (repository.to_owned(), digest.to_owned());
        self.blobs.contains_key(digest) && self.links.as_ref().is_none_or(|links| links.contains(&link))
    }

    fn link(&mut self, repository: &str, digest: &str) {
        if let Some(links) = &mut self.links {
            links.insert((repository.to_owned(), digest.to_owned()));
        }
    }

    fn upload(&mut self, asked: &Asked, repository: &str, upload: &str, query: &str) -> Reply {
        let field =
            |name: &str| query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let place = |number: usize, len: usize, elsewhere: &str| {
            let location =
                format!("Location: {elsewhere}/v2/{repository}/blobs/uploads/{number}?state=s{len}");
            (location, format!("Range: 0-{}", len.saturating_sub(1)))
        };
        if asked.method == "POST" {
            if let (Some(digest), Some(from), false) = (field("mount"), field("from"), self.no_mount)
                && self.has(from, digest)
            {
                self.link(repository, digest);
                return Reply::new("201 Created", &[], b"");
            }
            let number = self.uploads.len();
            self.uploads.insert(number, Vec::new());
            let (location, range) = place(number, 0, &self.elsewhere);
            return Reply::new("202 Accepted", &[&location, &range], b"");
        }
        let number = upload.parse().unwrap_or(usize::MAX);
        let elsewhere = self.elsewhere.clone();
        let Some(have) = self.uploads.get_mut(&number) else {
            return error("404 Not Found", "BLOB_UPLOAD_UNKNOWN");
        };
        let begin = asked.header("content-range").and_then(|range| range.split('-').next()?.parse().ok());
        if begin.is_some_and(|begin: usize| begin != have.len()) {
            let (location, range) = place(number, have.len(), &elsewhere);
            return Reply::new("416 Range Not Satisfiable", &[&location, &range], b"");
        }
        self.taken += asked.body.len() as u64;
        have.extend_from_slice(&asked.body);
        let (location, range) = place(number, have.len(), &elsewhere);
        match asked.method.as_str() {
            "PATCH" => Reply::new("202 Accepted", &[&location, &range], b""),
            "GET" => Reply::new("204 No Content", &[&location, &range], b""),
            "DELETE" => Reply::new("204 No Content", &[], b""),
            "PUT" => {
                let found = Digest::sha256(have).to_string();
                if field("digest") != Some(&found) {
                    return error("400 Bad Request", "DIGEST_INVALID");
                }
                let bytes = std::mem::take(have);
                self.blobs.insert(found.clone(), bytes);
                self.link(repository, &found);
                Reply::new("201 Created", &[], b"")
            }
            _ => error("405 Method Not Allowed", "UNSUPPORTED"),
        }
    }

    /// A manifest, when all that it names is there.
    fn take(&mut self, asked: &Asked, repository: &str, reference: &str) -> Reply {
        let length = asked.header("content-length").and_then(|length| length.parse().ok());
        let Ok(value) = json::parse(&asked.body) else { return error("400 Bad Request", "MANIFEST_INVALID") };
        if length.is_some_and(|length: usize| length != asked.body.len()) {
            return error("400 Bad Request", "MANIFEST_INVALID");
        }
        let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        let blobs = list("layers").into_iter().chain(value.get("config").cloned());
        let blobs_there =
            blobs.into_iter().all(|blob| self.has(repository, blob["digest"].as_str().unwrap()));
        let manifest = |one: &Value| (repository.to_owned(), one["digest"].as_str().unwrap().to_owned());
        let index_of_referrers = reference.starts_with("sha256-");
        let manifests_there = list("manifests").iter().all(|one| self.manifests.contains_key(&manifest(one)));
        if !blobs_there || !(manifests_there || index_of_referrers) {
            return error("400 Bad Request", "MANIFEST_BLOB_UNKNOWN");
        }
        let digest = Digest::sha256(&asked.body).to_string();
        if reference.contains(':') && reference != digest {
            return error("400 Bad Request", "DIGEST_INVALID");
        }
        let media_type = asked.header("content-type").unwrap().to_owned();
        for name in [reference, &digest] {
            let manifest = (media_type.clone(), asked.body.clone());
            self.manifests.insert((repository.into(), name.to_owned()), manifest);
        }
        match value["subject"]["digest"].as_str() {
            Some(subject) if !self.old => {
                Reply::new("201 Created", &[&format!("OCI-Subject: {subject}")], b"")
            }
            _ => Reply::new("201 Created", &[], b""),
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        if path == "/token" {
            return self.token(asked, query);
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return error("404 Not Found", "UNKNOWN") };
        let mut parts = rest.rsplitn(3, '/');
        let (last, kind, repository) = (parts.next(), parts.next(), parts.next());
        match (repository, kind, last) {
            (_, _, Some("")) => Reply::new("200 OK", &[], b"{}"),
            (Some(repository), Some("manifests"), Some(reference)) => {
                match self.manifests.get(&(repository.to_owned(), reference.to_owned())) {
                    Some((media_type, bytes)) => {
                        Reply::new("200 OK", &[&format!("Content-Type: {media_type}")], bytes)
                    }
                    None => error("404 Not Found", "MANIFEST_UNKNOWN"),
                }
            }
            (Some(repository), Some("blobs"), Some(digest)) => match self.blobs.get(digest) {
                Some(bytes) if self.has(repository, digest) => Reply::file(asked, None, bytes),
                _ => error("404 Not Found", "BLOB_UNKNOWN"),
            },
            (Some(repository), Some("tags"), Some("list")) => {
                let known = |(own, tag): &(String, String)| {
                    (own == repository && !tag.contains(':')).then(|| Value::from(tag.as_str()))
                };
                self.paged(
                    path,
                    query,
                    self.manifests.keys().filter_map(known).collect(),
                    |tags| json!({"tags": tags}),
                )
            }
            (Some(repository), Some("referrers"), Some(subject)) if !self.old => {
                let list = |found| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": found});
                self.paged(path, query, self.referrers(repository, subject), list)
            }
            _ => error("404 Not Found", "UNKNOWN"),
        }
    }

    fn referrers(&self, repository: &str, subject: &str) -> Vec<Value> {
        let mut found = Vec::new();
        for ((own, reference), (media_type, bytes)) in &self.manifests {
            let value = json::parse(bytes).unwrap_or_default();
            if own == repository && reference.contains(':') && value["subject"]["digest"] == subject {
                let artifact_type = value["artifactType"].clone();
                found.push(json!({"mediaType": media_type, "digest": reference, "size": bytes.len(), "artifactType": artifact_type}));
            }
        }
        found
    }

    /// One page of a list, and the way to the next.
    fn paged(&self, path: &str, query: &str, all: Vec<Value>, list: impl Fn(Vec<Value>) -> Value) -> Reply {
        let from =
            query.split('&').find_map(|part| part.strip_prefix("from=")?.parse::<usize>().ok()).unwrap_or(0);
        let page: Vec<Value> = all.iter().skip(from).take(self.page).cloned().collect();
        let body = json::canonical(&list(page));
        let reply = Reply::new("200 OK", &[&format!("Content-Type: {INDEX}")], &body);
        match from + self.page < all.len() {
            true => reply.also(&format!("Link: <{path}?from={}>; rel=\"next\"", from + self.page)),
            false => reply,
        }
    }

    fn refusal(&self, asked: &Asked, path: &str) -> Option<Reply> {
        let key = asked.header("authorization").unwrap_or_default();
        let challenge = match &self.door {
            Door::Open => return None,
            Door::Basic(pair) if key == format!("Basic {}", dmoci::base64::encode(pair.as_bytes())) => {
                return None;
            }
            Door::Basic(_) => "Basic realm=\"test\"".to_owned(),
            Door::Token(realm) => {
                let token = key.strip_prefix("Bearer ").unwrap_or_default();
                let rest = path.strip_prefix("/v2/").unwrap_or_default();
                let uploads = rest.split_once("/blobs/uploads").map(|(repository, _)| repository);
                let repository = uploads.or_else(|| rest.rsplitn(3, '/').nth(2));
                if repository.is_some_and(|name| token.starts_with(&format!("t-repository:{name}:pull"))) {
                    return None;
                }
                format!("Bearer realm=\"{realm}\",service=\"test service\"")
            }
        };
        Some(error("401 Unauthorized", "UNAUTHORIZED").also(&format!("WWW-Authenticate: {challenge}")))
    }

    /// `user:secret-word`, or the identity `secret-identity`, get a token for what they ask.
    fn token(&self, asked: &Asked, query: &str) -> Reply {
        let form = String::from_utf8_lossy(&asked.body).into_owned();
        let pair = dmoci::base64::encode(b"user:secret-word");
        let known = asked.header("authorization") == Some(&format!("Basic {pair}"))
            || (asked.method == "POST"
                && form.contains("refresh_token=secret-identity")
                && form.contains("grant_type=refresh_token"));
        let fields = if asked.method == "POST" { &form } else { query };
        let scope = fields.split('&').find_map(|field| field.strip_prefix("scope="));
        let scope = scope.unwrap_or_default().replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        match known && fields.contains("service=test%20service") {
            true => Reply::ok(json!({"token": format!("t-{scope}")}).to_string().as_bytes()),
            false => error("401 Unauthorized", "UNAUTHORIZED"),
        }
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An error document.
pub(crate) fn error(status: &str, code: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": "said by the test"}]}).to_string();
    Reply::new(status, &["Content-Type: application/json"], body.as_bytes())
}
