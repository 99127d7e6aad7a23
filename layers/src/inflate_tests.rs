use std::io::Read as _;

use proptest::prelude::*;

use super::*;

/// Bits of a deflate stream that is written by hand.
#[derive(Clone, Default)]
struct Bits(Vec<bool>);

impl Bits {
    /// A number, the lowest bit first.
    fn number(mut self, value: u32, count: u32) -> Bits {
        self.0.extend((0..count).map(|bit| value >> bit & 1 == 1));
        self
    }

    /// A code of Huffman's, the highest bit first.
    fn code(mut self, value: u32, count: u32) -> Bits {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum();
        self.0.chunks(8).map(byte).collect()
    }
}

/// A last block with codes of its own of these lengths, in `raw` form: each number up to 12 is a length, 16 to 18 are
/// repetitions with their extra bits.
fn dynamic(literals: u32, distances: u32, raw: &[(u32, u32)]) -> Bits {
    let header = Bits::default().number(1, 1).number(2, 2);
    let mut bits = header.number(literals - 257, 5).number(distances - 1, 5).number(19 - 4, 4);
    // 0 to 12 and 16 to 18 have codes of four bits each.
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] {
        bits = bits.number(if (13..16).contains(&symbol) { 0 } else { 4 }, 3);
    }
    for &(symbol, extra) in raw {
        let (code, width) = match symbol {
            16 => (13, 2),
            17 => (14, 3),
            18 => (15, 7),
            length => (length, 0),
        };
        bits = bits.code(code, 4).number(extra, width);
    }
    bits
}

/// So many lengths that are 0.
fn zeros(mut count: u32) -> Vec<(u32, u32)> {
    let mut raw = Vec::new();
    while count > 0 {
        let now = if count < 11 { 1 } else { count.min(138) };
        raw.push(if now == 1 { (0, 0) } else { (18, now - 11) });
        count -= now;
    }
    raw
}

/// Lengths of codes: of literals and lengths, these; the others are 0.
fn lengths(count: u32, codes: &[(u32, u32)], distances: &[u32]) -> Vec<(u32, u32)> {
    let (mut raw, mut next) = (Vec::new(), 0);
    for &(symbol, length) in codes {
        raw.extend(zeros(symbol - next));
        raw.push((length, 0));
        next = symbol + 1;
    }
    raw.extend(zeros(count - next));
    raw.extend(distances.iter().map(|length| (*length, 0)));
    raw
}

/// A last block with the fixed codes.
fn fixed() -> Bits {
    Bits::default().number(1, 1).number(1, 2)
}

fn expected(content: &[u8]) -> Expected {
    let mut crc = Crc::new();
    crc.update(content);
    Expected { size: content.len() as u64, crc: crc.sum(), digest: Some(Digest::sha256(content)) }
}

/// All of a stream, in input and output of these sizes.
fn inflate(packed: &[u8], expected: &Expected, pieces: (usize, usize)) -> Result<Vec<u8>, InflateError> {
    let mut inflate = Inflate::new(expected);
    let (mut content, mut out) = (Vec::new(), vec![0; pieces.1]);
    for mut input in packed.chunks(pieces.0) {
        loop {
            let (used, made) = inflate.step(input, &mut out)?;
            content.extend_from_slice(&out[..made]);
            input = &input[used..];
            if inflate.is_ended() && !input.is_empty() {
                return Err(InflateError::Behind);
            }
            if made < out.len() {
                break;
            }
        }
    }
    inflate.finish()?;
    Ok(content)
}

#[track_caller]
fn refused(bits: &Bits, why: &str) {
    // Some space behind, so that it is not the end that is missed.
    let bytes = [bits.bytes(), vec![0; 64]].concat();
    for pieces in [(1 << 16, 1 << 16), (1, 1 << 16), (1 << 16, 1)] {
        let anything = Expected { size: 1 << 20, crc: 0, digest: None };
        assert_eq!(inflate(&bytes, &anything, pieces), Err(InflateError::Malformed), "{why}: {pieces:?}");
    }
}

#[track_caller]
fn taken(bits: &Bits, content: &[u8]) {
    for pieces in [(1 << 16, 1 << 16), (1, 1 << 16), (1 << 16, 1)] {
        assert_eq!(inflate(&bits.bytes(), &expected(content), pieces), Ok(content.to_vec()), "{pieces:?}");
    }
}

const A: u32 = b'a' as u32;

#[test]
fn what_zlib_takes() {
    taken(&fixed().code(0, 7), b"");
    taken(&fixed().code(0x30 + A, 8).code(0, 7), b"a");
    // Two blocks that are stored, the first empty.
    let stored = Bits::default().number(0, 8).number(0xffff_0000, 32).number(1, 8).number(0xfffe_0001, 32);
    taken(&stored.number(A, 8), b"a");
    // No distances at all, and one of which half of the code is not used.
    let end = |bits: Bits| bits.code(0, 1).code(0, 1).code(1, 1);
    taken(&end(dynamic(257, 1, &lengths(257, &[(A, 1), (256, 1)], &[0]))), b"aa");
    taken(&end(dynamic(257, 1, &lengths(257, &[(A, 1), (256, 1)], &[1]))), b"aa");
    // Nothing but the end has a code.
    taken(&dynamic(257, 1, &lengths(257, &[(256, 1)], &[0])).code(0, 1), b"");
    // The longest distance, the largest number of codes.
    taken(&dynamic(286, 30, &lengths(286, &[(256, 1)], &[0; 30])).code(0, 1), b"");
}

#[test]
fn what_zlib_refuses() {
    let raw = |codes: &[(u32, u32)], distances: &[u32]| {
        dynamic(257, distances.len() as u32, &lengths(257, codes, distances))
    };
    refused(&Bits::default().number(1, 1).number(3, 2), "a block of the third kind");
    refused(&Bits::default().number(1, 8).number(0x1234_0001, 32), "a length without its complement");
    for count in [287, 288] {
        refused(&dynamic(count, 1, &lengths(count, &[(256, 1)], &[0])), "too many codes");
    }
    for count in [31, 32] {
        let distances = vec![0; count as usize];
        refused(&dynamic(257, count, &lengths(257, &[(256, 1)], &distances)), "too many distances");
    }
    refused(&dynamic(257, 1, &[(16, 0)]), "a repetition of nothing");
    let mut long = zeros(256);
    long.extend([(1, 0), (18, 127)]);
    refused(&dynamic(257, 1, &long), "a repetition beyond the last code");
    refused(&raw(&[(A, 1), (A + 1, 1)], &[0]), "no end of the block");
    refused(&raw(&[(A, 1), (A + 1, 1), (256, 1)], &[0]), "too many codes of one bit");
    refused(&raw(&[(A, 2), (256, 1)], &[0]), "codes that are missing");
    refused(&raw(&[(256, 2)], &[0]), "one code of two bits");
    refused(&raw(&[(A, 1), (256, 1)], &[1, 1, 1]), "too many distances of one bit");
    refused(&raw(&[(A, 1), (256, 1)], &[2, 2]), "distances that are missing");
    refused(&raw(&[(256, 1)], &[0]).code(1, 1), "the other half of the only code");
    refused(&fixed().code(0xc6, 8), "the code 286");
    refused(&fixed().code(0xc7, 8), "the code 287");
    for distance in [30, 31] {
        refused(&fixed().code(0x30 + A, 8).code(1, 7).code(distance, 5), "a distance that there is none");
    }
    refused(&fixed().code(1, 7).code(0, 5), "a distance to before the beginning");
    refused(&fixed().code(0x30 + A, 8).code(1, 7).code(1, 5), "a distance to one before the beginning");
}

/// Of code lengths the code must be complete too.
#[test]
fn code_lengths() {
    for (lengths, why) in [
        (&[1, 1, 1, 0][..], "too many codes"),
        (&[0, 0, 0, 1], "one code alone"),
        (&[2, 2, 2, 0], "a code is missing"),
        (&[0, 0, 0, 0], "none"),
    ] {
        let mut bits = Bits::default().number(1, 1).number(2, 2).number(0, 5).number(0, 5).number(0, 4);
        for length in lengths {
            bits = bits.number(*length, 3);
        }
        refused(&bits.number(u32::MAX, 32), why);
    }
}

#[test]
fn the_end_of_both() {
    let content = b"to be, or not to be, that is";
    let mut packed = Vec::new();
    flate2::read::DeflateEncoder::new(&content[..], flate2::Compression::best())
        .read_to_end(&mut packed)
        .unwrap();
    let good = expected(content);
    for pieces in [(1, 1), (1, 100), (100, 1), (100, content.len()), (7, 3)] {
        assert_eq!(inflate(&packed, &good, pieces), Ok(content.to_vec()));
        for end in 0..packed.len() {
            assert_eq!(inflate(&packed[..end], &good, pieces), Err(InflateError::CutOff), "{end}");
        }
        let longer = [&packed[..], b"\0"].concat();
        let found = inflate(&longer, &good, pieces);
        // Of input in single bytes the last one is seen only by who looks whether any is left.
        assert!(found == Err(InflateError::Behind) || pieces.0 == 1, "{found:?}");
    }
}

proptest! {
    /// What any encoder makes is taken; with one bit changed it is another content, which is seen, or the same.
    #[test]
    fn one_bit(content in prop::collection::vec(0u8..8, 0..2000), level in 0u32..10, bit: usize, size in 1usize..3000) {
        let mut packed = Vec::new();
        flate2::read::DeflateEncoder::new(&content[..], flate2::Compression::new(level))
            .read_to_end(&mut packed)
            .unwrap();
        let good = expected(&content);
        prop_assert_eq!(inflate(&packed, &good, (size, size)), Ok(content.clone()));
        let bit = bit % (packed.len() * 8);
        packed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = inflate(&packed, &good, (size, size)) {
            prop_assert_eq!(found, content);
        }
    }
}
