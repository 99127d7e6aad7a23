//! One pass over a blob: its digest and size and, when it is a layer, its compression, diff_id and entries.

use std::io::{self, BufReader, Read};

use dmoci_layers::decompress::{DecodeError, Decoder};
use dmoci_layers::untar::{TarError, TarReader};
use dmoci_layers::{Algorithm, Compression, Digest};

use super::Watch;
use super::cut::{Cut, Cuts};
use super::tree::Tree;
use crate::engine::reader::{Hashing, Watched, decode_limits, tar_limits};
use crate::oci::Problem;
use crate::store::{ImageStore, StoreError};

/// What a blob should be.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// A layer; its diff_id by this algorithm is wanted.
    Layer(Compression, Algorithm),
    /// Bytes.
    Opaque,
}

/// What one pass over a blob finds.
pub(super) struct BlobFacts {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) layer: Option<LayerFacts>,
}

/// What one pass over a layer finds.
pub(super) struct LayerFacts {
    /// The digest before compression, when it could be decompressed to its end.
    pub(super) diff_id: Option<Digest>,
    pub(super) problems: Vec<Problem>,
    pub(super) reasons: Vec<String>,
    /// How its compressed members are cut.
    pub(super) cut: Cut,
    pub(super) entries: u64,
}

/// Reads a blob once.
pub(super) fn read(
    store: &ImageStore,
    name: &Digest,
    content: Content,
    watch: &dyn Watch,
) -> Result<BlobFacts, StoreError> {
    let mut blob = Hashing::new(Watched(store.open_blob(name)?, watch), Some(name.algorithm()));
    let io = |source| StoreError::Io { path: store.place().to_owned(), source };
    let layer = match content {
        Content::Opaque => None,
        Content::Layer(compression, algorithm) => {
            let reused = compression == Compression::None && algorithm == name.algorithm();
            let layer = read_layer(&mut blob, compression, (!reused).then_some(algorithm)).map_err(io)?;
            Some((layer, reused))
        }
    };
    io::copy(&mut blob, &mut io::sink()).map_err(io)?;
    let size = blob.count;
    let digest = blob.finish().unwrap_or_else(|| name.clone());
    let layer = layer.map(|(mut layer, reused)| {
        if reused {
            layer.diff_id = Some(digest.clone());
        }
        layer
    });
    Ok(BlobFacts { digest, size, layer })
}

/// Reads a layer; the error is one of input, not of its content.
fn read_layer(
    blob: &mut Hashing<impl Read>,
    compression: Compression,
    algorithm: Option<Algorithm>,
) -> io::Result<LayerFacts> {
    let mut decoder = Decoder::new(blob, compression, decode_limits())?;
    let mut cuts = Cuts::new(decoder.members());
    let mut stream = Hashing::new(decoder, algorithm);
    let mut tree = Tree::new();
    {
        let mut tar = TarReader::new(BufReader::with_capacity(128 << 10, &mut stream), tar_limits());
        let trailer = loop {
            match tar.next() {
                Ok(Some(member)) => {
                    cuts.member(&member);
                    tree.member(&member);
                }
                Ok(None) => break Some(tar.trailer()),
                Err(error) => {
                    tree.problems.push(tar_problem(error)?);
                    break None;
                }
            }
        };
        tree.end(trailer);
    }
    let drained = io::copy(&mut stream, &mut io::sink());
    if let Err(error) = drained {
        match DecodeError::of(&error) {
            Some(error) => tree.problems.push(decode_problem(error)),
            None => return Err(error),
        }
    }
    let decoded = !tree.problems.iter().any(|problem| problem.code == "E-COMPRESSION");
    let framing = stream.inner.framing();
    let cut = Cut {
        compression,
        blocks: compression == Compression::None || (framing.plain_headers && framing.uniform_blocks),
        spliced: compression == Compression::Gzip && framing.plain_headers && cuts.finish(),
    };
    let diff_id = stream.finish().filter(|_| decoded);
    Ok(LayerFacts { diff_id, problems: tree.problems, reasons: tree.reasons, cut, entries: tree.entries })
}

/// The problem that an error of the tar reader is; an I/O error of the store is given back.
fn tar_problem(error: TarError) -> io::Result<Problem> {
    let code = match &error {
        TarError::Io { source, .. } => {
            if let Some(error) = DecodeError::of(source) {
                return Ok(decode_problem(error));
            }
            return Err(io::Error::new(source.kind(), error));
        }
        TarError::Truncated { .. } => "E-TAR-TRUNCATED",
        TarError::Trailing { .. } => "E-TAR-TRAILING",
        TarError::Checksum { .. } => "E-TAR-CHECKSUM",
        TarError::Malformed { .. } => "E-TAR-MALFORMED",
        TarError::Ambiguous { .. } => "E-TAR-AMBIGUOUS",
        TarError::Sparse { .. } => "E-TAR-SPARSE",
        TarError::Entries(_) | TarError::Extension { .. } => "E-TAR-LIMIT",
    };
    Ok(Problem::error(code, "", error.to_string()))
}

fn decode_problem(error: &DecodeError) -> Problem {
    Problem::error("E-COMPRESSION", "", error.to_string())
}
