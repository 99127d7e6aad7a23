//! The little DER (ITU-T X.690) that keys and signatures on P-256 need.

/// Reads one value after another.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;

impl<'a> Reader<'a> {
    /// The content of the next value, when it has this tag and a length in its shortest form.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let [found, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match (*first, rest) {
            (short, rest) if short < 0x80 => (usize::from(short), rest),
            (0x81, [length, rest @ ..]) if *length >= 0x80 => (usize::from(*length), rest),
            (0x82, [high, low, rest @ ..]) if *high > 0 => {
                (usize::from(*high) << 8 | usize::from(*low), rest)
            }
            _ => return None,
        };
        if *found != tag || length > rest.len() {
            return None;
        }
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Some(content)
    }
}

/// A value with a tag; contents here are shorter than 64 KiB.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut out = vec![tag];
    match content.len() {
        0..0x80 => out.push(low),
        0x80..0x100 => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    out
}

/// An unsigned number of fixed width, in its shortest form.
fn number(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let mut content = Vec::new();
    if bytes[first] >= 0x80 {
        content.push(0);
    }
    content.extend_from_slice(&bytes[first..]);
    value(INTEGER, &content)
}

/// `ECDSA-Sig-Value` (RFC 3279, section 2.2.3) of r and s, 32 bytes each.
pub(super) fn signature(pair: &[u8; 64]) -> Vec<u8> {
    let (r, s) = pair.split_at(32);
    value(SEQUENCE, &[number(r), number(s)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for length in [0usize, 1, 127, 128, 255, 256, 1000] {
            let content = vec![7; length];
            let bytes = value(OCTETS, &content);
            assert_eq!(Reader(&bytes).take(OCTETS), Some(content.as_slice()));
            assert_eq!(Reader(&bytes).take(SEQUENCE), None);
            assert_eq!(Reader(&bytes[..bytes.len() - 1]).take(OCTETS), None);
        }
        for bad in [&[4, 0x81, 1, 0][..], &[4, 0x82, 0, 1, 0], &[4, 0x80], &[4, 0x83, 0, 0, 1, 0], &[4]] {
            assert_eq!(Reader(bad).take(OCTETS), None);
        }
    }

    #[test]
    fn numbers_are_short_and_not_negative() {
        assert_eq!(number(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(number(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(number(&[0, 0]), [2, 1, 0]);
    }
}
