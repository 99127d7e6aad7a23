//! Text from outside, made fit to be shown: without what is secret in addresses, and not more than anybody reads.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::limits;

/// A name or a value of outside in a message: of one that is longer than [`limits::SHOWN_BYTES`] only the beginning, and how
/// long it is.
///
/// `Display` is the text, `Debug` the text in quotes and with everything escaped that no terminal should obey.
pub struct Short<'a>(pub &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match beginning(self.0, limits::SHOWN_BYTES) {
            None => f.write_str(self.0),
            Some(text) => write!(f, "{text}… ({} bytes)", self.0.len()),
        }
    }
}

impl fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match beginning(self.0, limits::SHOWN_BYTES) {
            None => write!(f, "{:?}", self.0),
            Some(text) => write!(f, "{text:?}… ({} bytes)", self.0.len()),
        }
    }
}

/// A whole message, which may be longer than a name.
pub fn message(text: String) -> String {
    let text = match beginning(&text, limits::MESSAGE_BYTES) {
        None => text,
        Some(start) => format!("{start}… ({} bytes)", text.len()),
    };
    match masked(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => text,
    }
}

/// The beginning of what is longer than `most` bytes.
fn beginning(text: &str, most: usize) -> Option<&str> {
    let end = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    (text.len() > most).then(|| &text[..end])
}

/// What stands for something that is not shown.
pub const MASK: &str = "***";

/// The text with user and password of every address in it replaced: `https://***@host/`.
pub fn masked(text: &str) -> Cow<'_, str> {
    let hidden = user_infos(text);
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for range in &hidden {
        out.push_str(&text[at..range.start]);
        out.push_str(MASK);
        at = range.end;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// Where a byte of a text stands in that text when it is [`masked`]; `hidden` are its [`user_infos`].
pub fn moved(at: usize, hidden: &[Range<usize>]) -> usize {
    let mut to = at;
    for range in hidden.iter().take_while(|range| range.start < at) {
        match at < range.end {
            true => to -= at - range.start,
            false => to = to + MASK.len() - range.len(),
        }
    }
    to
}

/// Where user and password of addresses stand in a text, in order.
pub fn user_infos(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let start = from + at + "://".len();
        let is_end = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '`');
        let word = &text[start..];
        let word = &word[..word.find(is_end).unwrap_or(word.len())];
        let authority = &word[..word.find(['/', '?', '#']).unwrap_or(word.len())];
        // A password with `/`, `?` or `#` as it is looks like a port that is no number.
        let odd =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().any(|b| !b.is_ascii_digit()));
        let end =
            authority.rfind('@').or_else(|| word.rfind('@').filter(|_| odd && !authority.ends_with(']')));
        from = start;
        if let Some(end) = end {
            // Advice on how to write one is no secret.
            if &word[..end] != "USER:PASSWORD" {
                found.push(start..start + end);
            }
            from = start + end;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_hidden() {
        for (text, expected) in [
            ("no address", "no address"),
            ("https://h.example/a@b me@x", "https://h.example/a@b me@x"),
            ("git+https://h.example/x@v1", "git+https://h.example/x@v1"),
            ("-i https://me:s3cret@h.example/simple x", "-i https://***@h.example/simple x"),
            ("\"https://token@h/\" and ftp://u:p@i/", "\"https://***@h/\" and ftp://***@i/"),
            ("https://u:p@w@h/", "https://***@h/"),
            ("https://u:p/w?r#d@h/x", "https://***@h/x"),
            ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
            ("https://[::1]/a@b", "https://[::1]/a@b"),
            ("https://${USER}:${TOKEN}@h/", "https://***@h/"),
            ("write https://USER:PASSWORD@HOST/…", "write https://USER:PASSWORD@HOST/…"),
            ("https://a:b", "https://a:b"),
            ("://@", "://***@"),
            ("https://ü:ö@h", "https://***@h"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn places_move_along() {
        let text = "a https://u:secret@h b https://t@i c";
        let (hidden, shown) = (user_infos(text), masked(text));
        for word in ["a", "h b", "i c"] {
            let at = text.find(word).unwrap();
            assert!(shown[moved(at, &hidden)..].starts_with(word), "{word}");
        }
        let inside = moved(text.find("secret").unwrap(), &hidden);
        assert!(shown[inside..].starts_with("***@h"));
        assert_eq!(moved(text.len(), &hidden), shown.len());
    }

    #[test]
    fn not_more_than_anybody_reads() {
        assert_eq!(format!("{} {:?}", Short("a\n"), Short("a\n")), "a\n \"a\\n\"");
        let long = "ü".repeat(1 << 20);
        for shown in [Short(&long).to_string(), format!("{:?}", Short(&long))] {
            assert!(
                shown.len() < limits::SHOWN_BYTES + 40 && shown.ends_with("… (2097152 bytes)"),
                "{shown}"
            );
        }
        assert!(message(long).len() < limits::MESSAGE_BYTES + 40);
        assert_eq!(message("https://u:p@h".into()), "https://***@h");
    }
}
