use super::*;
use proptest::prelude::*;
use std::io::Write as _;

const LIMITS: DecodeLimits = DecodeLimits { max_output: 64 << 20, max_ratio: 1100, ratio_free: 1 << 20 };

/// Gives `chunk` bytes at a time, so that every boundary is met.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.0.len().min(self.1).min(out.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn decode_with(
    bytes: &[u8],
    compression: Compression,
    limits: DecodeLimits,
    chunk: usize,
) -> Result<(Vec<u8>, Framing), DecodeError> {
    let mut decoder = Decoder::new(Drip(bytes, chunk), compression, limits).unwrap();
    let mut out = Vec::new();
    match decoder.read_to_end(&mut out) {
        Ok(_) => Ok((out, decoder.framing())),
        Err(error) => Err(DecodeError::of(&error).unwrap().clone()),
    }
}

fn decode(bytes: &[u8], compression: Compression) -> Result<(Vec<u8>, Framing), DecodeError> {
    let result = decode_with(bytes, compression, LIMITS, usize::MAX);
    if bytes.len() < 5000 {
        let drip = decode_with(bytes, compression, LIMITS, 1);
        // Where damage is noticed depends on what is at hand; whether, and what came out, does not.
        assert_eq!(drip.as_ref().ok(), result.as_ref().ok(), "one byte at a time differs");
    }
    result
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::GzBuilder::new().operating_system(255).write(Vec::new(), flate2::Compression::none());
    encoder.write_all(content).unwrap();
    let mut bytes = encoder.finish().unwrap();
    bytes[8] = 0;
    bytes
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, 3).unwrap()
}

#[test]
fn members_are_joined() {
    let two = [gzip(b"abc"), gzip(b"def")].concat();
    let (out, framing) = decode(&two, Compression::Gzip).unwrap();
    assert_eq!(
        (out.as_slice(), framing.members, framing.plain_headers, framing.uniform_blocks),
        (&b"abcdef"[..], 2, true, false)
    );
    let two = [zstd(b"abc"), zstd(b"def")].concat();
    let (out, framing) = decode(&two, Compression::Zstd).unwrap();
    assert_eq!((out.as_slice(), framing.members, framing.plain_headers), (&b"abcdef"[..], 2, true));
    assert_eq!(decode(b"", Compression::None).unwrap().0, b"");
}

#[test]
fn blocks_of_our_size_are_uniform() {
    let block = vec![7; Compression::Gzip.block_size() as usize];
    let framing = |parts: &[&[u8]]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| gzip(part)).collect();
        decode(&bytes, Compression::Gzip).unwrap().1.uniform_blocks
    };
    assert!(framing(&[&block, b"x"]) && framing(&[&block, &block]) && framing(&[b"x"]));
    assert!(
        !framing(&[b"x", &block]) && !framing(&[&block, b""]) && !framing(&[&[&block[..], b"x"].concat()])
    );
}

#[test]
fn every_cut_and_every_junk_is_found() {
    for (compression, bytes) in [(Compression::Gzip, gzip(b"hello")), (Compression::Zstd, zstd(b"hello"))] {
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], compression).is_err(), "{compression:?} cut at {end}");
        }
        for junk in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"junk after the end", b"\x1f"] {
            let error = decode(&[&bytes[..], junk].concat(), compression).unwrap_err();
            assert!(matches!(error, DecodeError::Trailing(..)), "{error:?}");
        }
    }
}

#[test]
fn every_flipped_byte_of_gzip_is_found_or_is_outside_the_content() {
    let bytes = gzip(b"hello, hello, hello");
    for i in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[i] ^= 1;
        match decode(&bad, Compression::Gzip) {
            Err(_) => {}
            // Time, extra flags and system do not touch the content, but the header is not ours any more.
            Ok((out, framing)) => assert!(
                out == b"hello, hello, hello" && !framing.plain_headers && (3..10).contains(&i),
                "{i}"
            ),
        }
    }
}

#[test]
fn header_fields_are_read() {
    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .comment("text")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"abc").unwrap();
    let (out, framing) = decode(&encoder.finish().unwrap(), Compression::Gzip).unwrap();
    assert_eq!((out.as_slice(), framing.plain_headers), (&b"abc"[..], false));
    let mut endless = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    endless.resize(1 << 20, b'x');
    assert!(matches!(decode(&endless, Compression::Gzip), Err(DecodeError::Corrupt(..))));
}

#[test]
fn bombs_end() {
    let zeros = vec![0; 8 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&zeros).unwrap();
    let limits = DecodeLimits { max_ratio: 100, ..LIMITS };
    let bomb = encoder.finish().unwrap();
    assert_eq!(
        decode_with(&bomb, Compression::Gzip, limits, usize::MAX).unwrap_err(),
        DecodeError::Ratio(100)
    );
    assert_eq!(
        decode_with(&zstd(&zeros), Compression::Zstd, limits, usize::MAX).unwrap_err(),
        DecodeError::Ratio(100)
    );
    let limits = DecodeLimits { max_output: 1 << 20, ..LIMITS };
    for (compression, bytes) in [(Compression::Gzip, &bomb), (Compression::None, &zeros)] {
        assert_eq!(
            decode_with(bytes, compression, limits, usize::MAX).unwrap_err(),
            DecodeError::Output(1 << 20)
        );
    }
}

#[test]
fn a_window_that_is_too_large_is_refused() {
    // Magic, descriptor without content size, window descriptor: exponent 18 gives 2^28 bytes.
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 0x01, 0x00, 0x00];
    let error = decode(&header, Compression::Zstd).unwrap_err();
    assert!(matches!(&error, DecodeError::Corrupt(_, _, why) if why.contains("memory")), "{error:?}");
}

#[test]
fn skippable_frames_are_allowed_but_not_ours() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let (out, framing) = decode(&[&zstd(b"abc")[..], &skippable].concat(), Compression::Zstd).unwrap();
    assert_eq!((out.as_slice(), framing.plain_headers), (&b"abc"[..], false));
}

proptest! {
    #[test]
    fn any_bytes_end(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), format in 0usize..3) {
        let compression = [Compression::Gzip, Compression::Zstd, Compression::None][format];
        let magic: &[u8] = [&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd], &[]][format];
        bytes.splice(0..0, magic.iter().copied());
        let _ = decode(&bytes, compression);
    }

    #[test]
    fn content_comes_back(content in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0usize..3000) {
        let (a, b) = content.split_at(cut.min(content.len()));
        for (compression, bytes) in [(Compression::Gzip, [gzip(a), gzip(b)].concat()), (Compression::Zstd, [zstd(a), zstd(b)].concat())] {
            prop_assert_eq!(&decode(&bytes, compression).unwrap().0, &content);
        }
    }
}
