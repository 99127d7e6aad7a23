//! Base64 of RFC 4648, section 4, strict: one text for one content.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of these bytes, padded.
pub fn encode(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for group in data.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            match i <= group.len() {
                true => text.push(char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

/// The bytes of a text: padding is required, and the bits that it leaves over are zero.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut data = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for i in 0..4 {
            let value = match group.get(i) {
                Some(digit) => ALPHABET.iter().position(|a| a == digit)? as u32,
                None => 0,
            };
            bits = bits << 6 | value;
        }
        let [_, a, b, c] = bits.to_be_bytes();
        let kept = group.len().checked_sub(1).filter(|&kept| kept > 0)?;
        if [a, b, c][kept..].iter().any(|&rest| rest != 0) {
            return None;
        }
        data.extend_from_slice(&[a, b, c][..kept]);
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4648, section 10.
    #[test]
    fn known_answers() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(text.as_bytes()), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(text.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn there_and_back(data in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&encode(&data)), Some(data));
        }

        #[test]
        fn one_text_for_one_content(text in "[A-Da-d+/=]{0,12}") {
            if let Some(data) = decode(&text) {
                prop_assert_eq!(encode(&data), text);
            }
        }
    }
}
