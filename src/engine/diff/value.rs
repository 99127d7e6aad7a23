//! Values as they are told: whole when short, else the part where they differ.

/// How many characters of a value are told.
const SHOWN: usize = 200;

/// How many of them stand before the first that differs.
const BEFORE: usize = 40;

/// Bytes as text, so that no two look the same: control characters, bytes that are not UTF-8 and the backslash itself
/// are escaped.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// Both values, cut around the first character in which they differ.
pub(super) fn pair(left: &str, right: &str) -> (String, String) {
    if left.chars().nth(SHOWN).is_none() && right.chars().nth(SHOWN).is_none() {
        return (left.to_owned(), right.to_owned());
    }
    let same = left.chars().zip(right.chars()).take_while(|(l, r)| l == r).count();
    let start = same.saturating_sub(BEFORE);
    (window(left, start), window(right, start))
}

/// One value, cut at its end.
pub(super) fn one(value: &str) -> String {
    window(value, 0)
}

/// How many characters of a pointer are kept.
const POINTER: usize = 1000;

/// A pointer, without its middle when it is long: names in documents can be megabytes, and stand in every pointer below.
pub(super) fn place(pointer: String) -> String {
    if pointer.chars().nth(POINTER).is_none() {
        return pointer;
    }
    let half = POINTER / 2;
    let end = pointer.char_indices().rev().nth(half - 1).map_or(0, |(at, _)| at);
    pointer.chars().take(half).chain(['…']).chain(pointer[end..].chars()).collect()
}

fn window(text: &str, start: usize) -> String {
    let mut rest = text.chars().skip(start);
    let mut shown = String::from(if start > 0 { "…" } else { "" });
    shown.extend(rest.by_ref().take(SHOWN));
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_pointers_lose_their_middle() {
        let short = format!("/{}", "ü".repeat(POINTER - 1));
        assert_eq!(place(short.clone()), short);
        let (first, last) = ("/ü".repeat(POINTER / 4), "ä/".repeat(POINTER / 4));
        assert_eq!(place(format!("{first}x{last}")), format!("{first}…{last}"));
    }

    #[test]
    fn long_values_show_where_they_differ() {
        assert_eq!(pair("a", "b"), ("a".into(), "b".into()));
        let (left, right) = pair(&format!("{}L{}", "x".repeat(5000), "z".repeat(9000)), &"x".repeat(5000));
        assert_eq!(left, format!("…{}L{}…", "x".repeat(BEFORE), "z".repeat(SHOWN - BEFORE - 1)));
        assert_eq!(right, format!("…{}", "x".repeat(BEFORE)));
        assert_eq!(one(&"ü".repeat(300)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn no_two_texts_look_the_same() {
        assert_eq!(text(b"a\n\\n\xff\xc3\xbc"), "a\\n\\\\n\\xffü");
    }
}
