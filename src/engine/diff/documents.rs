//! From the roots to every index, manifest and configuration, and to the layers that are to be compared.
//!
//! Where a digest differs because what it names differs, only the latter is told.

use std::collections::{BTreeMap, HashMap, HashSet};

use dmoci_layers::Digest;
use serde_json::Value;

use super::align::align;
use super::error::DiffError;
use super::json::{compare, json_difference, values};
use super::layers::Job;
use super::report::{Difference, Field, LayerPlace, Part, Sink};
use super::stream::LayerSource;
use super::{Side, value};
use crate::limits;
use crate::oci::json;
use crate::oci::media_type::Kind;
use crate::oci::{Descriptor, Raw};
use crate::store::image::Image;

/// Compares the documents of two images and collects the layers that are to be compared.
pub(super) struct Documents<'a> {
    left: Side<'a>,
    right: Side<'a>,
    sink: Sink,
    jobs: Vec<Job<'a>>,
    /// Pairs of documents that were compared already.
    seen: HashSet<(Digest, Digest)>,
    /// Images of one platform in one index are numbered.
    images: BTreeMap<String, usize>,
    budget: usize,
}

/// What an index lists.
struct Listed<'d> {
    /// Platform or kind: what both sides have in common.
    key: String,
    descriptor: &'d Descriptor,
    /// All that the index says of it.
    value: &'d Value,
}

impl<'a> Documents<'a> {
    pub(super) fn new(left: Side<'a>, right: Side<'a>, limit: usize) -> Documents<'a> {
        Documents {
            left,
            right,
            sink: Sink::new(limit),
            jobs: Vec::new(),
            seen: HashSet::new(),
            images: BTreeMap::new(),
            budget: limits::DESCRIPTORS,
        }
    }

    /// Compares the two roots and all documents below them.
    pub(super) fn roots(&mut self) -> Result<(), DiffError> {
        let (left, right) = (self.left.root, self.right.root);
        if left.digest == right.digest {
            // The documents at least are what their digests say.
            self.left.store.images(left)?;
            self.right.store.images(right)?;
            return Ok(());
        }
        match (left.kind(), right.kind()) {
            (Kind::Index, Kind::Index) => self.index(left, right, 0),
            (Kind::Index, _) | (_, Kind::Index) => self.mixed(),
            _ => self.manifest(left, right),
        }
    }

    pub(super) fn finish(self) -> (Sink, Vec<Job<'a>>) {
        (self.sink, self.jobs)
    }

    /// An index on one side, a manifest on the other: images are paired by their platforms.
    fn mixed(&mut self) -> Result<(), DiffError> {
        let (left, right) = (self.left, self.right);
        let lefts = left.store.images(left.root)?;
        let rights = right.store.images(right.root)?;
        let what = |side: Side<'_>, images: &[Image]| match side.root.kind() {
            Kind::Index => Some(format!("an index of {} images", images.len())),
            _ => Some("one image".to_owned()),
        };
        let (l, r) = (what(left, &lefts), what(right, &rights));
        self.add(None, Part::Index, Field::Presence, l, r);
        let key = |image: &Image| image.platform().to_string();
        let (lefts, rights) = (numbered(&lefts, key), numbered(&rights, key));
        for (key, image) in &lefts {
            match rights.iter().find(|(other, _)| other == key) {
                Some((_, other)) => self.image(image, other),
                None => self.only(key, Some(&image.descriptor), None),
            }
        }
        for (key, image) in rights.iter().filter(|(key, _)| !lefts.iter().any(|(other, _)| other == key)) {
            self.only(key, None, Some(&image.descriptor));
        }
        Ok(())
    }

    fn index(&mut self, left: &Descriptor, right: &Descriptor, depth: usize) -> Result<(), DiffError> {
        if depth > limits::INDEX_DEPTH {
            return Err(self.too_much("nest too deep"));
        }
        if !self.seen.insert((left.digest.clone(), right.digest.clone())) {
            return Ok(());
        }
        let (lefts, l) = self.left.store.index(left)?;
        let (rights, r) = self.right.store.index(right)?;
        let before = self.sink.total();
        values(&l, &r, "", &|at| at == "/manifests", &mut |at, l, r| {
            self.sink.add(json_difference(Part::Index, None, at, l, r));
        });
        let budget = self.budget.checked_sub(lefts.manifests.len() + rights.manifests.len());
        self.budget = budget.ok_or_else(|| self.too_much("list too many descriptors"))?;
        let (lefts, rights) = (listed(&lefts.manifests, &l), listed(&rights.manifests, &r));
        self.order(&lefts, &rights);
        let at: HashMap<&str, &Listed<'_>> = rights.iter().map(|item| (item.key.as_str(), item)).collect();
        let there: HashSet<&str> = lefts.iter().map(|item| item.key.as_str()).collect();
        for (i, left) in lefts.iter().enumerate() {
            match at.get(left.key.as_str()) {
                Some(right) => self.listed(i, left, right, depth)?,
                None => self.only(&left.key, Some(left.descriptor), None),
            }
        }
        for right in rights.iter().filter(|item| !there.contains(item.key.as_str())) {
            self.only(&right.key, None, Some(right.descriptor));
        }
        if l == r && self.sink.total() == before && left.digest != right.digest {
            self.form(Part::Index, None, (left, right))?;
        }
        Ok(())
    }

    /// Two descriptors of indexes for the same thing, and what they lead to.
    fn listed(
        &mut self,
        number: usize,
        left: &Listed<'_>,
        right: &Listed<'_>,
        depth: usize,
    ) -> Result<(), DiffError> {
        let values_of = (left.value, right.value);
        let (left, right) = (left.descriptor, right.descriptor);
        let there = self.left.store.blob_size(&left.digest).is_some()
            && self.right.store.blob_size(&right.digest).is_some();
        let kinds = (left.kind(), right.kind());
        let followed =
            there && matches!(kinds, (Kind::Index, Kind::Index) | (Kind::Manifest, Kind::Manifest));
        let at = format!("/manifests/{number}");
        let explained = [format!("{at}/digest"), format!("{at}/size"), format!("{at}/data")];
        let skip = |at: &str| followed && explained.iter().any(|explained| at == explained);
        values(values_of.0, values_of.1, &at, &skip, &mut |at, l, r| {
            self.sink.add(json_difference(Part::Index, None, at, l, r));
        });
        match kinds {
            _ if !followed || left.digest == right.digest => Ok(()),
            (Kind::Index, _) => self.index(left, right, depth + 1),
            _ => self.manifest(left, right),
        }
    }

    /// The manifests of both sides do not stand in one order.
    fn order(&mut self, left: &[Listed<'_>], right: &[Listed<'_>]) {
        let keys = |own: &[Listed<'_>], other: &[Listed<'_>]| {
            let there: HashSet<&str> = other.iter().map(|item| item.key.as_str()).collect();
            let keys: Vec<&str> =
                own.iter().map(|item| item.key.as_str()).filter(|key| there.contains(key)).collect();
            keys.join(", ")
        };
        let (left, right) = (keys(left, right), keys(right, left));
        if left != right {
            let (left, right) = value::pair(&left, &right);
            self.add(None, Part::Index, Field::Value("/manifests".into()), Some(left), Some(right));
        }
    }

    fn manifest(&mut self, left: &Descriptor, right: &Descriptor) -> Result<(), DiffError> {
        if !self.seen.insert((left.digest.clone(), right.digest.clone())) {
            return Ok(());
        }
        let mut lefts = self.left.store.images(left)?;
        let mut rights = self.right.store.images(right)?;
        match (lefts.pop(), rights.pop()) {
            (Some(left), Some(right)) => self.image(&left, &right),
            _ => {
                // Artifacts: what they hold is told by its digest.
                let l = self.left.store.read_json_blob(&left.digest)?;
                let r = self.right.store.read_json_blob(&right.digest)?;
                let name = left.platform.as_ref().map(ToString::to_string);
                compare(&Part::Manifest, name.as_deref(), (&l, &r), &|_| false, &mut self.sink);
            }
        }
        Ok(())
    }

    fn image(&mut self, left: &Image, right: &Image) {
        if left.manifest.digest() == right.manifest.digest() {
            return;
        }
        let name = self.name(left.platform().to_string());
        let manifests = [left.has_manifest(self.left.store), right.has_manifest(self.right.store)];
        if manifests == [true, true] {
            let explained =
                |at: &str| matches!(at, "/config/digest" | "/config/size" | "/config/data" | "/layers");
            self.raw(Part::Manifest, &name, (&left.manifest, &right.manifest), &explained);
        } else {
            self.sink.without_manifest(manifests);
        }
        let explained = |at: &str| at == "/rootfs/diff_ids";
        self.raw(Part::Config, &name, (&left.config, &right.config), &explained);
        self.layers(&name, left, right, manifests == [true, true]);
    }

    fn raw<T>(
        &mut self,
        part: Part,
        name: &str,
        (left, right): (&Raw<T>, &Raw<T>),
        skip: &dyn Fn(&str) -> bool,
    ) {
        if left.digest() != right.digest() {
            compare(&part, Some(name), (left.bytes(), right.bytes()), skip, &mut self.sink);
        }
    }

    /// Pairs the layers; what can be told without reading them is told.
    fn layers(&mut self, name: &str, left: &Image, right: &Image, manifests: bool) {
        let (left_store, right_store) = (self.left.store, self.right.store);
        let lefts = sources(left_store, left, name);
        let rights = sources(right_store, right, name);
        let names = [left, right].map(|image| -> Vec<Option<String>> {
            image.config.value().layer_names().into_iter().map(|name| name.map(value::one)).collect()
        });
        let said = [left, right].map(|image| {
            let mut manifest = json::parse(image.manifest.bytes()).unwrap_or_default();
            manifest.get_mut("layers").map(Value::take).unwrap_or_default()
        });
        let keys = |sources: &[LayerSource<'_>]| -> Vec<Digest> {
            sources.iter().map(|source| source.diff_id.clone()).collect()
        };
        for (l, r) in align((&keys(&lefts), &names[0]), (&keys(&rights), &names[1])) {
            let (left, right) = (l.map(|l| &lefts[l]), r.map(|r| &rights[r]));
            let own = l.and_then(|l| names[0][l].clone()).or_else(|| r.and_then(|r| names[1][r].clone()));
            let place = LayerPlace { left: l.map(|l| l + 1), right: r.map(|r| r + 1), name: own };
            if let (Some(left), Some(right)) = (left, right) {
                let values = (&said[0][place.left.unwrap_or(1) - 1], &said[1][place.right.unwrap_or(1) - 1]);
                let values = manifests.then_some(values);
                self.descriptors(name, &place, (left, right), values);
            }
            let job = Job { image: name.to_owned(), place, left: left.cloned(), right: right.cloned() };
            self.jobs.push(job);
        }
    }

    /// What manifest and configuration say of two layers, but for what follows from their contents. Without `said` the
    /// manifests are not asked.
    fn descriptors(
        &mut self,
        name: &str,
        place: &LayerPlace,
        (left, right): (&LayerSource<'_>, &LayerSource<'_>),
        said: Option<(&Value, &Value)>,
    ) {
        let number = place.left.unwrap_or(1) - 1;
        let at = format!("/layers/{number}");
        let other = left.descriptor.digest != right.descriptor.digest;
        let explained = ["digest", "size", "data", "mediaType"].map(|explained| format!("{at}/{explained}"));
        let skip = |at: &str| other && explained.iter().any(|explained| at == explained);
        if let Some((l, r)) = said {
            values(l, r, &at, &skip, &mut |at, l, r| {
                self.sink.add(json_difference(Part::Manifest, Some(name), at, l, r));
            });
        }
        // One blob cannot have two contents: one of the configurations is wrong, or names them by another algorithm.
        if !other && left.diff_id != right.diff_id {
            let at = Field::Value(format!("/rootfs/diff_ids/{number}"));
            let [left, right] = [left, right].map(|side| Some(side.diff_id.to_string()));
            self.add(Some(name), Part::Config, at, left, right);
        }
    }

    /// What an index lists on one side only.
    fn only(&mut self, key: &str, left: Option<&Descriptor>, right: Option<&Descriptor>) {
        let words = |descriptor: &Descriptor| {
            format!("{}, {}", value::one(&descriptor.media_type), descriptor.digest)
        };
        self.add(Some(&value::one(key)), Part::Manifest, Field::Presence, left.map(words), right.map(words));
    }

    /// A difference of bytes in two documents that say the same.
    fn form(
        &mut self,
        part: Part,
        name: Option<&str>,
        (left, right): (&Descriptor, &Descriptor),
    ) -> Result<(), DiffError> {
        let left = self.left.store.read_json_blob(&left.digest)?;
        let right = self.right.store.read_json_blob(&right.digest)?;
        compare(&part, name, (&left, &right), &|_| false, &mut self.sink);
        Ok(())
    }

    fn add(
        &mut self,
        image: Option<&str>,
        part: Part,
        field: Field,
        left: Option<String>,
        right: Option<String>,
    ) {
        let image = image.map(str::to_owned);
        self.sink.add(Difference { image, part, field, left, right, offset: None, below: 0 });
    }

    /// The platform, with a number from the second image on that has it.
    fn name(&mut self, platform: String) -> String {
        let platform = value::one(&platform);
        let number = self.images.entry(platform.clone()).or_default();
        *number += 1;
        if *number == 1 { platform } else { format!("{platform} ({number})") }
    }

    fn too_much(&self, what: &'static str) -> DiffError {
        let place = |side: Side<'_>| side.store.place().to_owned();
        DiffError::Graph { left: place(self.left), right: place(self.right), what }
    }
}

fn sources<'a>(store: &'a crate::store::ImageStore, image: &Image, name: &str) -> Vec<LayerSource<'a>> {
    let layers = image.manifest.value().layers.iter().zip(&image.config.value().diff_ids);
    layers
        .enumerate()
        .map(|(i, (descriptor, diff_id))| LayerSource {
            store,
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            label: format!("layer {} of {name} in {}", i + 1, store.place().display()),
        })
        .collect()
}

/// What an index lists, by platform and, for what has none, by what it is.
fn listed<'d>(manifests: &'d [Descriptor], index: &'d Value) -> Vec<Listed<'d>> {
    let key = |descriptor: &Descriptor| match &descriptor.platform {
        Some(platform) => platform.to_string(),
        None => descriptor.artifact_type.clone().unwrap_or_else(|| descriptor.media_type.clone()),
    };
    let items = numbered(manifests, key).into_iter().enumerate();
    items.map(|(i, (key, descriptor))| Listed { key, descriptor, value: &index["manifests"][i] }).collect()
}

/// Items with their keys; of several with one key the second and all later ones get a number.
fn numbered<T>(items: &[T], key: impl Fn(&T) -> String) -> Vec<(String, &T)> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        let key = key(item);
        let number = numbers.entry(key.clone()).or_default();
        *number += 1;
        list.push((if *number == 1 { key } else { format!("{key} ({number})") }, item));
    }
    list
}
