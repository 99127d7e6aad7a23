//! Whether the members of a gzip layer are cut as dmoci cuts them when deflate streams of wheels stand among them.

use std::ops::Range;

use dmoci_layers::Compression;
use dmoci_layers::compress::{GZIP_BLOCK, SPLICE_MIN};
use dmoci_layers::decompress::Members;
use dmoci_layers::untar::{Member, MemberKind};

use crate::oci::index::{RULES_ANNOTATION, SPLICE};

/// How the members of a layer are cut, of the two ways in which dmoci does it. A layer can fit both, or none.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) compression: Compression,
    /// In blocks of one size.
    pub(super) blocks: bool,
    /// With deflate streams of files among the blocks.
    pub(super) spliced: bool,
}

/// What the descriptors of a layer say of its cut: one layer may have several.
#[derive(Clone, Copy, Default)]
pub(super) struct Said {
    /// One says that streams stand in it.
    pub(super) spliced: bool,
    /// One does not.
    pub(super) nothing: bool,
}

impl Cut {
    /// Why the layer is not as dmoci would have written it.
    pub(super) fn reason(self, said: Said) -> Option<String> {
        let name = self.compression.name();
        match (said.spliced && !self.spliced, said.nothing && !self.blocks) {
            (false, false) => None,
            (_, true) if self.spliced => Some(format!(
                "deflate streams stand in it, and no {RULES_ANNOTATION} of \"{SPLICE}\" says so"
            )),
            (true, _) if self.blocks => {
                Some(format!("{RULES_ANNOTATION} says \"{SPLICE}\", and no deflate stream stands in it"))
            }
            _ => Some(format!("the {name} members are not cut and headed as dmoci does")),
        }
    }
}

/// Compares members and files, while both are read.
///
/// A member is either the stream of exactly one file's content, of at least 4,096 bytes, or one of the blocks of 1 MiB,
/// counted from behind the last such stream, of which only the last before another is shorter.
pub(super) struct Cuts {
    members: Members,
    /// The content of the file that was read last.
    file: Range<u64>,
    /// The member before was a block that is not full.
    short: bool,
    fits: bool,
    /// A member is a stream.
    any: bool,
}

impl Cuts {
    pub(super) fn new(members: Members) -> Cuts {
        Cuts { members, file: 0..0, short: false, fits: true, any: false }
    }

    /// Another member of the tar begins.
    pub(super) fn member(&mut self, member: &Member<'_>) {
        self.until(member.header_offset);
        self.file = match member.kind {
            MemberKind::File => member.data_offset..member.data_offset.saturating_add(member.size),
            _ => 0..0,
        };
    }

    /// The end: whether all members are cut as they would be here, and streams are among them.
    pub(super) fn finish(mut self) -> bool {
        self.until(u64::MAX);
        self.fits && self.any && self.members.are_complete()
    }

    fn until(&mut self, place: u64) {
        while let Some(member) = self.members.next_until(place) {
            let content = member.content;
            if content == self.file && !content.is_empty() && member.packed >= SPLICE_MIN {
                (self.short, self.any) = (false, true);
                continue;
            }
            let length = content.end - content.start;
            let block = GZIP_BLOCK as u64;
            self.fits &= !self.short && (1..=block).contains(&length);
            self.short = length < block;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use dmoci_layers::decompress::{DecodeLimits, Decoder};
    use dmoci_layers::untar::{TarLimits, TarReader};
    use dmoci_layers::{Compression, Entry, EntryKind, SafePath, tar};

    use super::*;

    const LIMITS: DecodeLimits = DecodeLimits { max_output: 1 << 30, max_ratio: 2000, ratio_free: 1 << 30 };

    /// A tar of files of these sizes, which cannot be compressed, and where their contents are.
    fn archive(sizes: &[u64]) -> (Vec<u8>, Vec<Range<usize>>) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for (i, &size) in sizes.iter().enumerate() {
            let path = SafePath::parse(format!("f{i:02}").as_bytes()).unwrap();
            let kind = EntryKind::File { size };
            let entry = Entry { path, kind, mode: 0o644, uid: 0, gid: 0, xattrs: vec![] };
            tar::write_header(&entry, &mut bytes).unwrap();
            places.push(bytes.len()..bytes.len() + size as usize);
            bytes.extend((0..size).map(|_| noise()));
            bytes.extend(&tar::END[..tar::padding(size)]);
        }
        bytes.extend(tar::END);
        (bytes, places)
    }

    /// Cut at these places.
    fn cut(bytes: &[u8], places: &[usize]) -> bool {
        let mut out = Vec::new();
        let mut start = 0;
        for &end in places.iter().chain([&bytes.len()]) {
            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            member.write_all(&bytes[start..end]).unwrap();
            out.extend(member.finish().unwrap());
            start = end;
        }
        let mut decoder = Decoder::new(&out[..], Compression::Gzip, LIMITS).unwrap();
        let mut cut = Cuts::new(decoder.members());
        let mut tar = TarReader::new(std::io::BufReader::new(&mut decoder), TarLimits::default());
        while let Some(member) = tar.next().unwrap() {
            cut.member(&member);
        }
        drop(tar);
        decoder.read_to_end(&mut Vec::new()).unwrap();
        cut.finish()
    }

    #[test]
    fn members_of_files_and_blocks() {
        let block = GZIP_BLOCK;
        let (bytes, files) = archive(&[5_000, 10, 3 << 20, 700]);
        let [a, _, c, d] = &files[..] else { panic!() };
        assert!(cut(&bytes, &[a.start, a.end, c.start, c.end]));
        assert!(cut(&bytes, &[c.start, c.end]));
        // Blocks begin behind a content.
        assert!(cut(&bytes, &[a.start, a.end, a.end + block, a.end + 2 * block, a.end + 3 * block]));
        for wrong in [
            // No stream at all; one that is too short for it.
            vec![block, 2 * block, 3 * block],
            vec![a.start, a.end, d.start, d.end],
            vec![c.start, c.end, d.start, d.end],
            vec![a.start, a.end - 1],
            vec![a.start + 1, a.end],
            vec![a.start, a.end, a.end + 1],
            vec![a.start, a.start, a.end],
            vec![a.start, a.end, a.end, c.start, c.end],
            vec![a.start, a.end, c.start, c.start + block, c.end],
            vec![1000, 2000],
        ] {
            assert!(!cut(&bytes, &wrong), "{wrong:?}");
        }
    }
}
