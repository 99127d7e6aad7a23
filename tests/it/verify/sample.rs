//! Small images for tests, with every part open to change.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use dmoci::oci::index::author;
use dmoci::oci::{Descriptor, PlatformFields, json, media_type};
use dmoci_layers::{Compression, Digest, Entry, EntryKind, LayerWriter, Pool, SafePath};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The content of a layout, before it is written.
#[derive(Clone, Default)]
pub(crate) struct Sample {
    /// Blobs by digest; a test may put other bytes under a digest.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    /// `index.json`.
    pub(crate) index: Vec<u8>,
    /// `manifest.json`, for archives.
    pub(crate) docker: Option<Vec<u8>>,
}

/// One layer of a sample.
pub(crate) struct SampleLayer {
    pub(crate) descriptor: Descriptor,
    pub(crate) diff_id: Digest,
}

impl Sample {
    /// Two platforms below one index, two layers each, gzip and zstd: as dmoci writes it.
    pub(crate) fn two_platforms() -> Sample {
        let mut sample = Sample::default();
        let mut manifests = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let os = sample.layer(Compression::Gzip, &[("etc/hostname", architecture.as_bytes())]);
            let app = sample.layer(
                Compression::Zstd,
                &[("app/run", b"#!/bin/sh\n"), ("app/on", architecture.as_bytes())],
            );
            manifests.push(sample.image(architecture, &[("os", os), ("app", app)]));
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type::INDEX, "annotations": {"dev.dmoci.rules": "1"},
            "manifests": manifests.iter().map(Descriptor::to_value).collect::<Vec<_>>(),
        });
        let root = sample.put(media_type::INDEX, json::canonical(&index));
        sample.name(root);
        sample
    }

    /// One platform with one layer of these bytes.
    pub(crate) fn with_layer(bytes: Vec<u8>, compression: Compression, diff_id: Digest) -> Sample {
        let mut sample = Sample::default();
        let descriptor = sample.put(media_type::layer(compression), bytes);
        let root = sample.image("amd64", &[("app", SampleLayer { descriptor, diff_id })]);
        sample.name(root);
        sample
    }

    /// One platform, one gzip layer.
    pub(crate) fn small() -> Sample {
        let mut sample = Sample::default();
        let layer = sample.layer(Compression::Gzip, &[("app/run", b"hello")]);
        let root = sample.image("amd64", &[("app", layer)]);
        sample.name(root);
        sample
    }

    /// Makes this descriptor the content of `index.json`, under a name and tag.
    pub(crate) fn name(&mut self, root: Descriptor) {
        let root = root
            .annotate("org.opencontainers.image.ref.name", "1.0")
            .annotate("io.containerd.image.name", "example.org/app:1.0");
        self.index = author(&[root]);
    }

    /// Makes this value the content of `index.json`, without dmoci's mark.
    pub(crate) fn foreign_index(&mut self, manifests: &[Value]) {
        self.index = serde_json::to_vec_pretty(&json!({"schemaVersion": 2, "manifests": manifests})).unwrap();
    }

    /// The first descriptor of `index.json`.
    pub(crate) fn root(&self) -> Value {
        json::parse(&self.index).unwrap()["manifests"][0].clone()
    }

    /// True when `index.json` names this blob.
    pub(crate) fn index_names(&self, digest: &Digest) -> bool {
        String::from_utf8_lossy(&self.index).contains(digest.hex())
    }

    /// Adds a blob.
    pub(crate) fn put(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.blobs.insert(descriptor.digest.clone(), bytes);
        descriptor
    }

    /// Adds a layer of files as dmoci writes it.
    pub(crate) fn layer(&mut self, compression: Compression, files: &[(&str, &[u8])]) -> SampleLayer {
        let (layer, bytes) = encode(compression, files);
        let descriptor = self.put(media_type::layer(compression), bytes);
        SampleLayer { descriptor, diff_id: layer.diff_id }
    }

    /// Adds a configuration and a manifest.
    pub(crate) fn image(&mut self, architecture: &str, layers: &[(&str, SampleLayer)]) -> Descriptor {
        let created = "1980-01-02T00:00:00Z";
        let config = json!({
            "architecture": architecture, "os": "linux", "created": created,
            "config": {"Entrypoint": ["/app/run"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(_, l)| l.diff_id.to_string()).collect::<Vec<_>>()},
            "history": layers.iter().map(|(name, _)| json!({"created": created, "created_by": format!("dmoci layer {name}")})).collect::<Vec<_>>(),
        });
        let config = self.put(media_type::CONFIG, json::canonical(&config));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config.to_value(),
            "layers": layers.iter().map(|(_, layer)| layer.descriptor.to_value()).collect::<Vec<_>>(),
            "annotations": {"dev.dmoci.rules": "1", "org.opencontainers.image.version": "1.0"},
        });
        let mut manifest = self.put(media_type::MANIFEST, json::canonical(&manifest));
        manifest.platform = Some(PlatformFields {
            os: "linux".into(),
            architecture: architecture.into(),
            ..PlatformFields::default()
        });
        manifest
    }

    /// Writes the layout into a new directory.
    pub(crate) fn layout(&self) -> Layout {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.path().join("index.json"), &self.index).unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        for (digest, bytes) in &self.blobs {
            let algorithm = dir.path().join("blobs").join(digest.algorithm().name());
            fs::create_dir_all(&algorithm).unwrap();
            fs::write(algorithm.join(digest.hex()), bytes).unwrap();
        }
        Layout(dir)
    }

    /// The members of an archive of this layout, in dmoci's order.
    pub(crate) fn members(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut members = vec![
            ("oci-layout".to_owned(), Some(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())),
            ("index.json".to_owned(), Some(self.index.clone())),
        ];
        members.extend(self.docker.clone().map(|bytes| ("manifest.json".to_owned(), Some(bytes))));
        members.push(("blobs".into(), None));
        members.push(("blobs/sha256".into(), None));
        members.extend(
            self.blobs
                .iter()
                .map(|(digest, bytes)| (format!("blobs/sha256/{}", digest.hex()), Some(bytes.clone()))),
        );
        members
    }
}

/// A layout on disk.
pub(crate) struct Layout(TempDir);

impl Layout {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.0.path().join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }
}

/// A layer of files, with their parents, as dmoci writes it.
pub(crate) fn encode(compression: Compression, files: &[(&str, &[u8])]) -> (dmoci_layers::Layer, Vec<u8>) {
    let mut entries: BTreeMap<SafePath, Option<&[u8]>> = BTreeMap::new();
    for (path, content) in files {
        let path = SafePath::parse(path.as_bytes()).unwrap();
        let mut above = path.parent();
        while let Some(parent) = above.filter(|parent| !parent.is_root()) {
            entries.entry(parent.clone()).or_insert(None);
            above = parent.parent();
        }
        entries.insert(path, Some(content));
    }
    let mut writer = LayerWriter::new(Vec::new(), compression, &Pool::new(NonZeroUsize::MIN));
    for (path, content) in entries {
        let (kind, mode) = match content {
            None => (EntryKind::Directory, 0o755),
            Some(content) => (EntryKind::File { size: content.len() as u64 }, 0o644),
        };
        let entry = Entry { path, kind, mode, uid: 0, gid: 0, xattrs: Vec::new() };
        writer.add(&entry, &mut content.unwrap_or_default()).unwrap();
    }
    writer.finish().unwrap()
}

/// A tar of these members; `None` is a directory. Headers as dmoci writes them.
pub(crate) fn tar(members: &[(String, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in members {
        let path = SafePath::parse(name.as_bytes()).unwrap();
        let (kind, mode) = match content {
            None => (EntryKind::Directory, 0o755),
            Some(content) => (EntryKind::File { size: content.len() as u64 }, 0o644),
        };
        let entry = Entry { path, kind, mode, uid: 0, gid: 0, xattrs: Vec::new() };
        dmoci_layers::tar::write_header(&entry, &mut bytes).unwrap();
        bytes.extend_from_slice(content.as_deref().unwrap_or_default());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&dmoci_layers::tar::END);
    bytes
}
