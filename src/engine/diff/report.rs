//! What a comparison says.

use dmoci_layers::{Digest, SafePath};
use serde_json::{Value, json};

use crate::diagnostic::Exit;
use crate::oci::json::pointer;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The digests are equal.
    Same,
    /// The content of every layer is the same, and so is all else; only how layers are compressed is not.
    Recompressed,
    /// Something else differs.
    Different,
}

impl Verdict {
    /// The words for people, and the value in JSON.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Same => "THE SAME",
            Verdict::Recompressed => "SAME CONTENT, RECOMPRESSED",
            Verdict::Different => "DIFFERENT CONTENT",
        }
    }

    /// What a command that compares ends with.
    pub fn exit(self) -> Exit {
        match self {
            Verdict::Same => Exit::Done,
            Verdict::Recompressed | Verdict::Different => Exit::Mismatch,
        }
    }
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Digest of the left root.
    pub left: Digest,
    /// Digest of the right root.
    pub right: Digest,
    /// The answer.
    pub verdict: Verdict,
    /// The layers of images that differ, side by side, images in the order of the left index.
    pub layers: Vec<LayerPair>,
    /// The differences that are told, the outermost document first.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
    /// Whether the left image has a manifest that its maker wrote, and the right one; else manifests were not compared.
    pub manifests: [bool; 2],
}

/// One thing in which the images differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `os/architecture[/variant]` of the image it belongs to; nothing for what belongs to all.
    pub image: Option<String>,
    /// The document, layer or path.
    pub part: Part,
    /// What of it.
    pub field: Field,
    /// What is so on the left, cut when long; nothing when it is not there.
    pub left: Option<String>,
    /// What is so on the right.
    pub right: Option<String>,
    /// The first byte that differs, from 0, when bytes were compared.
    pub offset: Option<u64>,
    /// So many paths below this directory are on the same side only, and not told.
    pub below: u64,
}

/// What a difference is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The index over several platforms.
    Index,
    /// The manifest of one platform.
    Manifest,
    /// The configuration of one platform.
    Config,
    /// A layer.
    Layer(LayerPlace),
    /// A path in a layer.
    Path(LayerPlace, SafePath),
    /// A document beside the images.
    File(String),
}

/// Which layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPlace {
    /// Its number on the left, from 1; nothing when it is not there.
    pub left: Option<usize>,
    /// Its number on the right.
    pub right: Option<usize>,
    /// Its name, when the history gives one.
    pub name: Option<String>,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The value at this RFC 6901 pointer of a document.
    Value(String),
    /// The bytes, although all that they say is the same: JSON written in another way, tar headers in another form.
    Form,
    /// Whether it is there at all.
    Presence,
    /// How a layer is compressed; its content is the same.
    Compression,
    /// Bytes of content.
    Content,
    /// File, directory, link, …
    Kind,
    /// Permission bits.
    Mode,
    /// Numeric owner.
    Uid,
    /// Numeric group.
    Gid,
    /// Name of the owner.
    Uname,
    /// Name of the group.
    Gname,
    /// Number of bytes.
    Size,
    /// Modification time.
    Mtime,
    /// Target of a link.
    Target,
    /// Numbers of a device.
    Device,
    /// The extended attribute of this name.
    Xattr(String),
}

/// Two layers that belong together, or one that has no counterpart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPair {
    /// `os/architecture[/variant]` of the image.
    pub image: String,
    /// Which layer.
    pub place: LayerPlace,
    /// The blob on the left.
    pub left: Option<Blob>,
    /// The blob on the right.
    pub right: Option<Blob>,
    /// How they compare.
    pub outcome: LayerOutcome,
}

/// The blob of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size as compressed.
    pub size: u64,
    /// The digest of its content.
    pub diff_id: Digest,
}

/// How two layers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerOutcome {
    /// One digest.
    Same,
    /// Same content, recompressed.
    Recompressed,
    /// Different content.
    Different(Counts),
    /// There is none on the right.
    OnlyLeft,
    /// There is none on the left.
    OnlyRight,
    /// Content that is not here or is no layer was compared by digest or byte alone.
    Opaque,
}

/// Numbers of paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Only on the right.
    pub added: u64,
    /// Only on the left.
    pub removed: u64,
    /// On both sides, and not the same.
    pub changed: u64,
}

impl Field {
    /// The stable name in JSON.
    pub fn name(&self) -> &str {
        match self {
            Field::Value(_) => "value",
            Field::Form => "form",
            Field::Presence => "presence",
            Field::Compression => "compression",
            Field::Content => "content",
            Field::Kind => "kind",
            Field::Mode => "mode",
            Field::Uid => "uid",
            Field::Gid => "gid",
            Field::Uname => "uname",
            Field::Gname => "gname",
            Field::Size => "size",
            Field::Mtime => "mtime",
            Field::Target => "target",
            Field::Device => "device",
            Field::Xattr(_) => "xattr",
        }
    }
}

impl LayerPlace {
    /// The layer's number and name for people; the number is that on the left, where there is one.
    pub fn words(&self) -> String {
        let number = match (self.left, self.right) {
            (Some(left), Some(right)) if left != right => format!("{left} (right: {right})"),
            (Some(number), _) | (None, Some(number)) => number.to_string(),
            (None, None) => String::new(),
        };
        match &self.name {
            Some(name) => format!("layer {number} '{name}'"),
            None => format!("layer {number}"),
        }
    }
}

impl Difference {
    /// The place as one pointer, in the manner of RFC 6901: image, part, and what of it. Layers count from 0.
    ///
    /// `/linux~1amd64/config/config/Env/0`, `/linux~1amd64/layers/1/opt~1app~1run/mode`
    pub fn place(&self) -> String {
        let mut place = self.image.as_deref().map(|image| pointer("", image)).unwrap_or_default();
        let layer = |layer: &LayerPlace| {
            let number = layer.left.or(layer.right).unwrap_or(0);
            format!("/layers/{}", number.saturating_sub(1))
        };
        match &self.part {
            Part::Index => place += "/index",
            Part::Manifest => place += "/manifest",
            Part::Config => place += "/config",
            Part::Layer(which) => place += &layer(which),
            Part::Path(which, path) => {
                place += &layer(which);
                place = pointer(&place, &path.to_string()[1..]);
            }
            Part::File(name) => place = pointer(&place, name),
        }
        match &self.field {
            Field::Value(at) => place += at,
            Field::Xattr(name) => place = pointer(&(place + "/xattrs"), name),
            field => place = pointer(&place, field.name()),
        }
        place
    }

    /// One of `differences` in JSON.
    pub fn to_value(&self) -> Value {
        let (part, layer, path) = match &self.part {
            Part::Index => ("index", None, None),
            Part::Manifest => ("manifest", None, None),
            Part::Config => ("config", None, None),
            Part::Layer(layer) => ("layer", Some(layer), None),
            Part::Path(layer, path) => ("path", Some(layer), Some(path.to_string())),
            Part::File(name) => ("file", None, Some(name.clone())),
        };
        json!({
            "place": self.place(),
            "image": self.image,
            "part": part,
            "layer": layer.map(LayerPlace::to_value),
            "path": path,
            "field": self.field.name(),
            "left": self.left,
            "right": self.right,
            "offset": self.offset,
            "below": self.below,
        })
    }
}

impl LayerPlace {
    fn to_value(&self) -> Value {
        json!({"left": self.left, "right": self.right, "name": self.name})
    }
}

impl LayerPair {
    fn to_value(&self) -> Value {
        let blob = |blob: &Blob| {
            json!({"digest": blob.digest.to_string(), "mediaType": blob.media_type, "size": blob.size,
                "diffId": blob.diff_id.to_string()})
        };
        let (outcome, counts) = match self.outcome {
            LayerOutcome::Same => ("same", None),
            LayerOutcome::Recompressed => ("recompressed", None),
            LayerOutcome::Different(counts) => ("different", Some(counts)),
            LayerOutcome::OnlyLeft => ("only-left", None),
            LayerOutcome::OnlyRight => ("only-right", None),
            LayerOutcome::Opaque => ("opaque", None),
        };
        json!({
            "image": self.image,
            "layer": self.place.to_value(),
            "left": self.left.as_ref().map(blob),
            "right": self.right.as_ref().map(blob),
            "outcome": outcome,
            "paths": counts.map(|paths| {
                json!({"added": paths.added, "removed": paths.removed, "changed": paths.changed})
            }),
        })
    }
}

impl Diff {
    /// How many differences there are, told or not.
    pub fn count(&self) -> u64 {
        self.differences.len() as u64 + self.more
    }

    /// Adds what was found beside the images.
    pub fn add(&mut self, differences: Vec<Difference>) {
        if !differences.is_empty() {
            self.verdict = Verdict::Different;
        }
        self.differences.extend(differences);
    }

    /// Everything as JSON.
    pub fn to_value(&self) -> Value {
        json!({
            "schema": 1,
            "verdict": self.verdict.words(),
            "left": self.left.to_string(),
            "right": self.right.to_string(),
            "layers": self.layers.iter().map(LayerPair::to_value).collect::<Vec<_>>(),
            "differences": self.differences.iter().map(Difference::to_value).collect::<Vec<_>>(),
            "more": self.more,
            "manifests": {"left": self.manifests[0], "right": self.manifests[1]},
        })
    }
}

/// Collects differences: keeps the first ones and counts all.
pub(super) struct Sink {
    pub(super) list: Vec<Difference>,
    limit: usize,
    total: u64,
    verdict: Verdict,
    manifests: [bool; 2],
}

impl Sink {
    pub(super) fn new(limit: usize) -> Sink {
        Sink { list: Vec::new(), limit, total: 0, verdict: Verdict::Same, manifests: [true, true] }
    }

    /// A sink for a part of the same comparison.
    pub(super) fn part(&self) -> Sink {
        Sink::new(self.limit)
    }

    /// Manifests were not compared: which of the two images have one.
    pub(super) fn without_manifest(&mut self, [left, right]: [bool; 2]) {
        self.manifests = [self.manifests[0] && left, self.manifests[1] && right];
    }

    /// Differences so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Adds a difference; gives its position when it is kept.
    pub(super) fn add(&mut self, difference: Difference) -> Option<usize> {
        self.total += 1;
        let verdict = match difference.field {
            Field::Compression => Verdict::Recompressed,
            _ => Verdict::Different,
        };
        self.verdict = self.verdict.max(verdict);
        (self.list.len() < self.limit).then(|| {
            self.list.push(difference);
            self.list.len() - 1
        })
    }

    /// Adds what a part found.
    pub(super) fn append(&mut self, part: Sink) {
        self.total += part.total;
        self.verdict = self.verdict.max(part.verdict);
        let room = self.limit.saturating_sub(self.list.len());
        self.list.extend(part.list.into_iter().take(room));
    }

    pub(super) fn diff(mut self, left: Digest, right: Digest, layers: Vec<LayerPair>) -> Diff {
        // Whatever was not looked at, two digests are never called the same: one may be of another algorithm.
        if left != right && self.verdict == Verdict::Same && self.manifests == [true, true] {
            let (l, r) = (Some(left.to_string()), Some(right.to_string()));
            let field = Field::Form;
            self.add(Difference {
                image: None,
                part: Part::Index,
                field,
                left: l,
                right: r,
                offset: None,
                below: 0,
            });
        }
        let more = self.total - self.list.len() as u64;
        let (verdict, manifests) = (self.verdict, self.manifests);
        Diff { left, right, verdict, layers, differences: self.list, more, manifests }
    }
}
