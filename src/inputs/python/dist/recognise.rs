//! Telling distributions from images by what the beginning of a file says.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use dmoci_layers::decompress::{DecodeLimits, Decoder};
use dmoci_layers::untar::{TarLimits, TarReader};
use dmoci_layers::{Compression, SafePath};

use super::DistKind;
use super::same::At;
use crate::limits;

/// What stands at the top of an image archive.
const IMAGE: [&[u8]; 5] = [b"oci-layout", b"index.json", b"manifest.json", b"repositories", b"blobs"];

/// The kind of distribution that a file is: any zip archive is taken for a wheel, and a `.tar.gz` that does not begin as an
/// archive of an image for a source distribution.
pub fn recognise(file: &File, path: &Path) -> io::Result<Option<DistKind>> {
    let mut head = [0; 4];
    let count = file.read_at(&mut head, 0)?;
    let by_name = DistKind::of(path);
    Ok(match (&head[..count], by_name) {
        (b"PK\x03\x04" | b"PK\x05\x06", _) | (_, Some(DistKind::Wheel)) => Some(DistKind::Wheel),
        ([0x1f, 0x8b, ..], Some(DistKind::Sdist)) => {
            (!is_image(file.try_clone()?)).then_some(DistKind::Sdist)
        }
        _ => None,
    })
}

/// Whether the first member is one of an archive of an image. What cannot be read is none.
fn is_image(file: File) -> bool {
    let bounds = DecodeLimits {
        max_output: limits::SDIST_BYTES,
        max_ratio: limits::COMPRESSION_RATIO,
        ratio_free: limits::RATIO_FREE_BYTES,
    };
    let Ok(decoder) = Decoder::new(At::beginning(file), Compression::Gzip, bounds) else { return false };
    let bounds = TarLimits { max_entries: 16, max_extension_bytes: limits::ARCHIVE_EXTENSION_BYTES };
    let mut tar = TarReader::new(decoder, bounds);
    let Ok(Some(member)) = tar.next() else { return false };
    let path = member.path().unwrap_or_else(|_| SafePath::root());
    let top = path.components().next().unwrap_or_default();
    // The archives of an older `docker save` begin with an ID.
    let is_id = top.len() >= 64 && top[..64].iter().all(u8::is_ascii_hexdigit);
    is_id || IMAGE.contains(&top)
}
