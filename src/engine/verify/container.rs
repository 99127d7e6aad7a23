//! What stands around an image: the layout file, the archive's own bytes, and Docker's second view.

use std::collections::BTreeMap;

use dmoci_layers::Digest;
use dmoci_layers::tar::END;

use super::authentic::Selection;
use super::graph::{Graph, ImageParts, text};
use super::report::{CheckId, Findings};
use crate::diagnostic::Diagnostic as _;
use crate::oci::Descriptor;
use crate::oci::index::{SelfDigest, self_digest};
use crate::oci::{Problem, json};
use crate::store::archive::write::{ArchivePlan, BlobSource, LAYOUT_FILE, docker_manifest};
use crate::store::archive::{ArchiveMember, DockerImage, docker_images};
use crate::store::{Form, ImageStore};

/// How many stray names are told.
const STRAYS: usize = 10;

/// What was wrong while opening, `oci-layout`, and files that do not belong there.
pub(super) fn surroundings(store: &ImageStore, graph: &Graph<'_>, findings: &mut Findings) {
    for (place, problem) in store.problems() {
        let place = place_of(place, store, graph);
        findings.add(CheckId::Container, &place, problem.clone());
    }
    if !matches!(store.form(), Form::LegacyArchive | Form::Registry) {
        layout_file(store, findings);
    }
    for name in store.strays().iter().take(STRAYS) {
        let problem = Problem::note("E-STRAY", "", "not a part of an image layout; not covered");
        findings.add(CheckId::Container, name, problem);
    }
    if let Some(more) = store.strays().len().checked_sub(STRAYS).filter(|more| *more > 0) {
        let problem =
            Problem::note("E-STRAY", "", format!("{more} more names are no part of an image layout"));
        findings.add(CheckId::Container, &store.place().display().to_string(), problem);
    }
    if store.is_whole_compressed() {
        findings.not_canonical("the whole archive is compressed");
    }
    match store.form() {
        Form::Layout => findings.detail(CheckId::Container, "OCI image layout"),
        Form::Archive => findings.detail(CheckId::Container, "archive with an OCI image layout"),
        Form::Registry => findings.detail(CheckId::Container, "repository of a registry"),
        Form::LegacyArchive => {
            findings.detail(CheckId::Container, "archive of docker save without OCI documents");
            findings.not_canonical("the archive has no OCI documents");
        }
    }
}

/// image-layout.md, "oci-layout file".
fn layout_file(store: &ImageStore, findings: &mut Findings) {
    let name = "oci-layout";
    let Some(bytes) = store.layout_file() else {
        let text = "the file oci-layout is missing";
        findings.add(CheckId::Container, name, Problem::error("E-LAYOUT-FILE", "", text));
        return;
    };
    if bytes != LAYOUT_FILE {
        findings.not_canonical("oci-layout is not the one that dmoci writes");
    }
    let problem = match json::parse(bytes) {
        Err(error) => Problem::error(error.code(), "", error.to_string()),
        Ok(value) => match value.get("imageLayoutVersion").and_then(|version| version.as_str()) {
            Some("1.0.0")
                if bytes == LAYOUT_FILE || self_digest(store.index_bytes()) == SelfDigest::Unmarked =>
            {
                return;
            }
            Some("1.0.0") => Problem::error("E-LAYOUT-FILE", "", "the file is not the one that dmoci writes")
                .but(
                    String::from_utf8_lossy(LAYOUT_FILE),
                    String::from_utf8_lossy(bytes).escape_debug().to_string(),
                ),
            found => {
                Problem::error("E-LAYOUT-FILE", "/imageLayoutVersion", "the version of the layout is unknown")
                    .but("1.0.0", found.unwrap_or("nothing"))
            }
        },
    };
    findings.add(CheckId::Container, name, problem);
}

/// The digest that `index.json` carries of itself.
pub(super) fn index_digest(store: &ImageStore, findings: &mut Findings) {
    let add = |findings: &mut Findings, problem| findings.add(CheckId::IndexDigest, "index.json", problem);
    if matches!(store.form(), Form::LegacyArchive | Form::Registry) {
        findings.skip(CheckId::IndexDigest, "there is no index.json");
        return;
    }
    match self_digest(store.index_bytes()) {
        SelfDigest::Right => {
            findings.detail(CheckId::IndexDigest, "names, tags and platforms in index.json are covered")
        }
        SelfDigest::Unmarked => {
            findings.skip(
                CheckId::IndexDigest,
                "index.json carries no digest of itself: its names and tags are not covered",
            );
            findings.not_canonical("index.json carries no digest of itself: another tool wrote it");
        }
        SelfDigest::Malformed => {
            let text = "index.json carries dmoci's mark but not one digest of itself where it should be: it is damaged, or another tool \
                        has changed it";
            add(findings, Problem::error("E-INDEX-DIGEST", "", text));
        }
        SelfDigest::Wrong { expected, found } => {
            let text = "the digest that index.json carries of itself is not that of its bytes: it is damaged, or another tool has changed it";
            add(findings, Problem::error("E-INDEX-DIGEST", "", text).but(expected.to_string(), found));
        }
    }
    if self_digest(store.index_bytes()) != SelfDigest::Unmarked && !json::is_canonical(store.index_bytes()) {
        let text = "index.json carries dmoci's mark but is not canonical JSON";
        add(findings, Problem::error("E-JSON-CANONICAL", "", text));
    }
}

/// `manifest.json` must name the same images as `index.json`, and none that the verdict is not about: Docker goes by it alone.
pub(super) fn views(store: &ImageStore, graph: &Graph<'_>, selection: &Selection, findings: &mut Findings) {
    let (name, check) = ("manifest.json", CheckId::Views);
    match (store.form(), store.docker_manifest()) {
        (Form::LegacyArchive, _) => return findings.skip(check, "manifest.json is the only view"),
        (Form::Layout | Form::Registry, _) | (_, None) => {
            return findings.skip(check, "there is no manifest.json");
        }
        (Form::Archive, Some(_)) => {}
    }
    let images = match docker_images(store.docker_manifest().unwrap_or_default()) {
        Ok(images) => images,
        Err(why) => {
            findings.add(check, name, Problem::error("E-DOCKER-MANIFEST", "", why));
            return;
        }
    };
    if images.is_empty() {
        let problem = Problem::error("E-VIEWS", "", "it names no image, index.json does");
        return findings.add(check, name, problem);
    }
    let marked = graph.marked && self_digest(store.index_bytes()) != SelfDigest::Unmarked;
    if marked && images.len() != 1 {
        let problem = Problem::error("E-VIEWS", "", "dmoci names exactly one image in it");
        findings.add(check, name, problem.but("1", images.len().to_string()));
    }
    let named = |tag: &str| -> Vec<&Descriptor> {
        let is =
            |root: &&Descriptor| root.annotations.get("io.containerd.image.name").is_some_and(|n| n == tag);
        graph.roots.iter().filter(is).collect()
    };
    for (i, image) in images.iter().enumerate() {
        let place = format!("{name} at /{i}");
        let digests: Option<Vec<Digest>> = image.layers.iter().map(|path| blob_path(path)).collect();
        let config = blob_path(&image.config);
        let asked = |parts: &ImageParts| selection.documents.contains(&parts.manifest);
        let same = graph.parts.iter().filter(|parts| Some(&parts.config) == config.as_ref());
        // Several manifests may have one configuration.
        let same = same.max_by_key(|parts| (digests.as_ref() == Some(&parts.layers), asked(parts)));
        let Some(parts) = same else {
            let text = "it names an image that index.json does not lead to";
            let problem = Problem::error("E-VIEWS", "", text)
                .but("a configuration of index.json", shown(&image.config));
            findings.add(check, &place, problem);
            continue;
        };
        if digests.as_ref() != Some(&parts.layers) {
            let problem =
                Problem::error("E-VIEWS", "", "it gives the image other layers than its manifest does");
            let problem = problem.but(list(&parts.layers), shown(&image.layers.join(", ")));
            findings.add(check, &place, problem);
        }
        // Where nothing was found that was asked for, that is an error already.
        if !selection.documents.is_empty() && !asked(parts) {
            let text = "it names an image that was not asked for, which Docker would load";
            let problem = Problem::error("E-VIEWS", "", text)
                .but("an image that was asked for", graph.label(&parts.manifest));
            findings.add(check, &place, problem);
        }
        let leads = |root: &Descriptor| {
            let below = graph.children.get(&root.digest);
            root.digest == parts.manifest || below.is_some_and(|below| below.contains(&parts.manifest))
        };
        for tag in &image.tags {
            let roots = named(tag);
            if !roots.is_empty() {
                if !roots.into_iter().any(leads) {
                    let text = "it gives a name to another image than index.json does";
                    findings.add(check, &place, Problem::error("E-VIEWS", "", text).but("", shown(tag)));
                }
                continue;
            }
            let text = "it gives the image a name that index.json does not";
            findings.add(check, &place, Problem::note("E-VIEWS-NAME", "", text).but("", shown(tag)));
        }
        if marked && images.len() == 1 {
            exact_manifest(store, image, graph, &parts.config, &parts.layers, findings);
        }
    }
}

/// An archive that dmoci wrote holds exactly the `manifest.json` that dmoci writes.
fn exact_manifest(
    store: &ImageStore,
    image: &DockerImage,
    graph: &Graph<'_>,
    config: &Digest,
    layers: &[Digest],
    findings: &mut Findings,
) {
    let tags: Vec<String> = graph
        .roots
        .iter()
        .filter_map(|root| root.annotations.get("io.containerd.image.name").cloned())
        .collect();
    let expected = docker_manifest(config, &tags, layers);
    if store.docker_manifest() != Some(&expected[..]) {
        let problem =
            Problem::error("E-VIEWS", "", "it is not the one that dmoci writes beside this index.json");
        let found = shown(&image.tags.join(", "));
        findings.add(CheckId::Views, "manifest.json", problem.but(tags.join(", "), found));
    }
}

/// An archive that dmoci wrote must be, byte for byte, the archive that dmoci writes.
pub(super) fn archive_bytes(store: &ImageStore, graph: &Graph<'_>, findings: &mut Findings) {
    let check = CheckId::ArchiveBytes;
    if matches!(store.form(), Form::Layout | Form::Registry) {
        return findings.skip(check, "not an archive");
    }
    if self_digest(store.index_bytes()) == SelfDigest::Unmarked || store.form() == Form::LegacyArchive {
        let why = "headers, order and padding of an archive by another tool are not covered";
        findings.not_canonical("another tool wrote the archive");
        return findings.skip(check, why);
    }
    let blobs: BTreeMap<Digest, BlobSource> = store
        .blobs()
        .map(|digest| (digest.clone(), BlobSource::Store(store.blob_size(digest).unwrap_or(0))))
        .collect();
    let plan = ArchivePlan::new(store.index_bytes(), store.docker_manifest(), &blobs);
    let mut at = 0;
    let mut members = store.members().iter();
    let mut last = "the beginning of the archive".to_owned();
    for planned in plan.members() {
        let wanted = place_of(&planned.name.to_string()[1..], store, graph);
        let Some(member) = members.next() else {
            let problem =
                Problem::error("E-ARCHIVE-BYTES", "", "the member is missing where dmoci writes it");
            return findings.add(check, &wanted, problem);
        };
        if member.name != planned.name {
            let problem = Problem::error("E-ARCHIVE-BYTES", "", "a member is not where dmoci writes it");
            let found = member.name.to_string()[1..].to_owned();
            return findings.add(
                check,
                &wanted,
                problem.but(planned.name.to_string()[1..].to_owned(), found),
            );
        }
        match header_matches(store, member, at, &planned.header) {
            Ok(true) => {}
            Ok(false) => {
                let text = format!("its header at byte {at} is not the one that dmoci writes");
                findings.add(check, &wanted, Problem::error("E-ARCHIVE-BYTES", "", text));
            }
            Err(error) => {
                return findings.add(check, &wanted, Problem::error(error.code(), "", text(&error)));
            }
        }
        if member.dirty_padding {
            let text = "the padding behind it is not zeros";
            findings.add(check, &wanted, Problem::error("E-ARCHIVE-BYTES", "", text));
        }
        at += planned.header.len() as u64 + planned.size.next_multiple_of(512);
        last = format!("behind {wanted}");
    }
    if let Some(extra) = members.next() {
        let name = extra.name.to_string()[1..].to_owned();
        let problem = Problem::error("E-ARCHIVE-BYTES", "", "a member that dmoci does not write");
        return findings.add(check, &name, problem);
    }
    match store.archive_bytes(at, END.len() + 1) {
        Ok(bytes) if bytes == END => {
            findings.detail(check, "every byte of headers, padding and end is as dmoci writes it");
        }
        Ok(_) => {
            let text = format!("the end of the archive at byte {at} is not two zero blocks and nothing more");
            findings.add(check, &last, Problem::error("E-ARCHIVE-BYTES", "", text));
        }
        Err(error) => findings.add(check, &last, Problem::error(error.code(), "", text(&error))),
    }
}

fn header_matches(
    store: &ImageStore,
    member: &ArchiveMember,
    at: u64,
    expected: &[u8],
) -> Result<bool, crate::store::StoreError> {
    let there = member.header_offset == at && member.data_offset == at + expected.len() as u64;
    Ok(there && store.archive_bytes(at, expected.len())? == expected)
}

/// The place in the image that a name or offset in the archive belongs to.
fn place_of(place: &str, store: &ImageStore, graph: &Graph<'_>) -> String {
    if let Some(digest) = blob_path(place) {
        return graph.label(&digest);
    }
    let offset = place.strip_prefix("header at byte ").and_then(|offset| offset.parse::<u64>().ok());
    let Some(offset) = offset else { return place.to_owned() };
    let member = store.members().iter().find(|member| member.header_offset == offset);
    match member {
        Some(member) => {
            let name = &member.name.to_string()[1..];
            let label = blob_path(name).map_or_else(|| name.to_owned(), |digest| graph.label(&digest));
            format!("{place} of {label}")
        }
        None => match store.members().iter().rev().find(|member| member.header_offset < offset) {
            Some(member) => {
                let name = &member.name.to_string()[1..];
                let label = blob_path(name).map_or_else(|| name.to_owned(), |digest| graph.label(&digest));
                format!("{place}, behind {label}")
            }
            None => place.to_owned(),
        },
    }
}

/// The digest that a path `blobs/ALGORITHM/HEX` stands for.
fn blob_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("./").unwrap_or(path).strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")
}

/// Text from a document: cut and without control characters.
fn shown(text: &str) -> String {
    super::tree::shown(&text.chars().take(400).collect::<String>())
}
