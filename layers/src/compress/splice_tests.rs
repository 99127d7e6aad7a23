use std::num::NonZeroUsize;

use flate2::Crc;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::pool::Pool;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap())
}

/// Bytes that compress a little, different for each seed.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x3f
    };
    (0..len).map(|_| next()).collect()
}

fn deflated(content: &[u8]) -> (Vec<u8>, Expected) {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(6).unwrap());
    let mut packed = vec![0; compressor.deflate_compress_bound(content.len())];
    let size = compressor.deflate_compress(content, &mut packed).unwrap();
    packed.truncate(size);
    let mut crc = Crc::new();
    crc.update(content);
    let digest = Some(Digest::sha256(content));
    (packed, Expected { size: content.len() as u64, crc: crc.sum(), digest })
}

/// Gives its bytes in pieces of odd sizes.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 * 7 % 100_003 + 1;
        let most = self.1.min(out.len());
        self.0.read(&mut out[..most])
    }
}

/// Plain pieces and spliced ones by turns.
fn contents() -> Vec<Vec<u8>> {
    let block = GZIP_BLOCK;
    let sizes =
        [512, 5_000, 512, block, 0, block + 1, 2 * block + 7, 3 * block - 1, 100, 1, 512, 900_000, 700, 0];
    sizes.iter().enumerate().map(|(i, size)| noise(i as u32 + 1, *size)).collect()
}

fn write(compression: Compression, threads: usize) -> (super::super::Written, Vec<u8>) {
    let mut out = Compressor::new(Vec::new(), compression, &pool(threads));
    for (i, content) in contents().iter().enumerate() {
        match i % 2 {
            0 => out.write_all(content).unwrap(),
            _ => {
                let (packed, expected) = deflated(content);
                out.splice(&mut Pieces(&packed, i), &expected).unwrap();
            }
        }
    }
    out.finish().unwrap()
}

#[test]
fn streams_stand_in_members_of_their_own() {
    let whole = contents().concat();
    let (written, bytes) = write(Compression::Gzip, 1);
    assert_eq!((written.content, written.content_size), (Digest::sha256(&whole), whole.len() as u64));
    assert_eq!((written.digest, written.size), (Digest::sha256(&bytes), bytes.len() as u64));
    let mut rest = &bytes[..];
    for (i, content) in contents().iter().enumerate() {
        if i % 2 == 1 {
            let (packed, expected) = deflated(content);
            let member = [
                &GZIP_HEADER[..],
                &packed,
                &expected.crc.to_le_bytes(),
                &(content.len() as u32).to_le_bytes(),
            ]
            .concat();
            rest = rest.strip_prefix(&member[..]).unwrap_or_else(|| panic!("{i}"));
            continue;
        }
        // In blocks that begin behind the last stream.
        for block in content.chunks(GZIP_BLOCK) {
            let mut member = flate2::bufread::GzDecoder::new(rest);
            let mut found = Vec::new();
            member.read_to_end(&mut found).unwrap();
            assert!(found == block, "{i}");
            rest = member.into_inner();
        }
    }
    assert!(rest.is_empty());
    let mut found = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut found).unwrap();
    assert!(found == whole);
}

#[test]
fn threads_do_not_show() {
    let expected = write(Compression::Gzip, 1);
    for threads in [2, 3, 8] {
        assert!(write(Compression::Gzip, threads) == expected, "{threads}");
    }
}

/// zstd and plain layers hold what they would without.
#[test]
fn others_are_compressed_anew() {
    for compression in [Compression::Zstd, Compression::None] {
        let mut plain = Compressor::new(Vec::new(), compression, &pool(2));
        plain.write_all(&contents().concat()).unwrap();
        assert!(plain.finish().unwrap() == write(compression, 2));
    }
}

#[test]
fn what_is_wrong_is_no_part_of_anything() {
    let content = noise(9, 200_000);
    let (packed, good) = deflated(&content);
    let one_less = Expected { size: good.size - 1, ..good.clone() };
    let one_more = Expected { size: good.size + 1, ..good.clone() };
    let other_crc = Expected { crc: good.crc ^ 1, ..good.clone() };
    let other_digest = Expected { digest: Some(Digest::sha256(b"")), ..good.clone() };
    let cut = &packed[..packed.len() - 1];
    let longer = [&packed[..], b"x"].concat();
    let empty: &[u8] = &[];
    for (packed, expected, why) in [
        (&packed[..], &one_less, "holds more than 199999 bytes"),
        (&packed, &one_more, "holds 200000 bytes, expected 200001"),
        (&packed, &other_crc, "has the CRC-32"),
        (&packed, &other_digest, "expected sha256:e3b0c442"),
        (cut, &good, "is cut off"),
        (empty, &good, "is cut off"),
        (&longer, &good, "has bytes behind the end"),
        (b"\xff\xff\xff", &good, "is no deflate stream"),
        // 287 codes of lengths, which libdeflate takes and zlib does not.
        (&[0xf5, 0, 0, 0, 0, 0, 0, 0], &good, "is no deflate stream"),
    ] {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut out = Compressor::new(Vec::new(), compression, &pool(2));
            out.write_all(&noise(1, 2_000_000)).unwrap();
            let error = match out.splice(&mut &packed[..], expected) {
                Err(SpliceError::Stream(error)) => error.to_string(),
                other => panic!("{other:?} instead of {why:?}"),
            };
            assert!(error.contains(why), "{error}, expected {why:?}");
            assert!(out.write_all(&[0; 3_000_000]).is_err() || out.finish().is_err(), "{why}");
        }
    }
    let mut out = Compressor::new(Vec::new(), Compression::Gzip, &pool(2));
    assert!(matches!(out.splice(&mut Broken, &good), Err(SpliceError::Read(_))));
    assert!(out.finish().is_err());
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
}

/// Every flipped bit of a stream is found, or changes nothing of the content: the bits that fill the last byte.
#[test]
fn flipped_bits() {
    let content = noise(3, 700);
    let (packed, expected) = deflated(&content);
    let mut unseen = 0;
    for at in 0..packed.len() * 8 {
        let mut damaged = packed.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        let mut out = Compressor::new(Vec::new(), Compression::Gzip, &pool(1));
        if out.splice(&mut &damaged[..], &expected).is_ok() {
            assert_eq!(at / 8, packed.len() - 1);
            unseen += 1;
        }
    }
    assert!(unseen < 8, "{unseen}");
}

/// A change of how streams are put in is a change of the rules.
#[test]
fn golden() {
    let expected = "sha256:815859db9b6461d050607918a2cedcdb82b19410fcd819d599527fcaf6f5d3e0";
    assert_eq!(write(Compression::Gzip, 2).0.digest.to_string(), expected);
}

fn sizes() -> impl Strategy<Value = usize> {
    let block = GZIP_BLOCK;
    prop_oneof![
        0..2000usize,
        4000..9000usize,
        block - 2..block + 3,
        2 * block - 2..2 * block + 3,
        0..3 * block
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is put in, by any encoder: another reader gets the content, and its digest is that without streams.
    #[test]
    fn any_pieces(
        pieces in prop::collection::vec((sizes(), prop::option::of(0u32..10)), 0..9),
        threads in 1usize..5,
        step in 1usize..200_000,
    ) {
        let mut out = Compressor::new(Vec::new(), Compression::Gzip, &pool(threads));
        let mut whole = Vec::new();
        for (i, (size, level)) in pieces.iter().enumerate() {
            let content = noise(i as u32 + 7, *size);
            match level {
                None => out.write_all(&content).unwrap(),
                Some(level) => {
                    let mut encoder =
                        flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(*level));
                    encoder.write_all(&content).unwrap();
                    let packed = encoder.finish().unwrap();
                    out.splice(&mut Pieces(&packed, step), &deflated(&content).1).unwrap();
                }
            }
            whole.extend(content);
        }
        let (written, bytes) = out.finish().unwrap();
        prop_assert_eq!((&written.digest, written.size), (&Digest::sha256(&bytes), bytes.len() as u64));
        prop_assert_eq!((&written.content, written.content_size), (&Digest::sha256(&whole), whole.len() as u64));
        let mut found = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut found).unwrap();
        prop_assert!(found == whole);
    }
}
