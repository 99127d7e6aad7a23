//! What decides the bytes of a layer, as a key under which they can be found again.

use dmoci_layers::{Digest, Entry, EntryKind};

use crate::cache::{KeyWriter, Kind};
use crate::inputs::substitute::Substitution;
use crate::inputs::{InputError, Item, Site};
use crate::spec::target::Compression;

/// Gathers the entries of a layer, in the order in which they are given.
///
/// Everything that a layer is made of is in its entries, the parents among them, and in the compression; so the metadata of
/// ancestors and the target are in the key as far as they matter.
pub(super) struct LayerKey(KeyWriter);

impl LayerKey {
    pub(super) fn new(site: &Site<'_>, compression: Compression) -> LayerKey {
        LayerKey::begin(KeyWriter::new(Kind::Layer, site.since), compression)
    }

    /// A key that other machines make too, from what there is to read.
    pub(super) fn of_contents(compression: Compression) -> LayerKey {
        LayerKey::begin(KeyWriter::of_contents(Kind::Layer), compression)
    }

    fn begin(mut key: KeyWriter, compression: Compression) -> LayerKey {
        key.number(match compression {
            Compression::Gzip => 0,
            Compression::Zstd => 1,
            Compression::None => 2,
        });
        LayerKey(key)
    }

    pub(super) fn add(&mut self, item: &Item) {
        self.entry(&item.entry);
        item.content.decide(&mut self.0);
    }

    /// Adds an entry whose content is read, where no digest of it is known.
    pub(super) fn add_read(&mut self, item: &Item) -> Result<(), InputError> {
        self.entry(&item.entry);
        item.content.decide_by_bytes(&mut self.0)
    }

    fn entry(&mut self, entry: &Entry) {
        let key = &mut self.0;
        key.bytes(entry.path.as_bytes());
        for number in [entry.mode.into(), entry.uid, entry.gid] {
            key.number(number);
        }
        let tag = |key: &mut KeyWriter, numbers: [u64; 3]| numbers.iter().for_each(|n| key.number(*n));
        match &entry.kind {
            EntryKind::Directory => tag(key, [0, 0, 0]),
            EntryKind::File { size } => tag(key, [1, *size, 0]),
            EntryKind::HardLink { target } => {
                tag(key, [2, 0, 0]);
                key.bytes(target.as_bytes());
            }
            EntryKind::Symlink { target } => {
                tag(key, [3, 0, 0]);
                key.bytes(target);
            }
            EntryKind::CharDevice { major, minor } => tag(key, [4, (*major).into(), (*minor).into()]),
            EntryKind::BlockDevice { major, minor } => tag(key, [5, (*major).into(), (*minor).into()]),
            EntryKind::Whiteout => tag(key, [6, 0, 0]),
            EntryKind::Opaque => tag(key, [7, 0, 0]),
        }
        key.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            key.bytes(name);
            key.bytes(value);
        }
    }

    /// Adds a substitution: what a layer is remembered with says which of its strings were nowhere.
    pub(super) fn substitution(&mut self, table: &Substitution) {
        table.decide(&mut self.0);
    }

    /// Whether deflate streams stand in the layer as they are.
    pub(super) fn spliced(&mut self, spliced: bool) {
        self.0.number(spliced.into());
    }

    /// The key; nothing when an input may change without a trace, so that it must be read again.
    pub(super) fn finish(self) -> Option<Digest> {
        self.0.finish()
    }
}
