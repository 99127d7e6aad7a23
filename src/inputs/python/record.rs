//! RECORD: every file of a distribution with its hash and size (recording installed projects; binary distribution
//! format, "The .dist-info directory"). The form is CSV as RFC 4180 has it, with either kind of line end.

use dmoci_layers::{Algorithm, Digest};

use crate::diagnostic::shown::Short;

/// A line of RECORD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The file, as written.
    pub(super) path: String,
    /// Hash and size of its content; nothing for RECORD itself.
    pub(super) content: Option<Sum>,
}

/// Hash and size of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// The hash.
    pub(super) digest: Digest,
    /// Number of bytes.
    pub(super) size: u64,
}

impl Sum {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Sum {
        Sum { digest: Digest::sha256(bytes), size: bytes.len() as u64 }
    }
}

/// How many more lines than files a RECORD may have, so that what it says too much is told by name.
const MORE: usize = 1000;

/// Reads the RECORD of so many files; what is wrong with it otherwise.
pub(super) fn parse(text: &str, files: usize) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut rows = Rows { rest: text, number: 0 };
    while let Some(row) = rows.next() {
        if lines.len() == files + MORE {
            return Err(format!("has more than {} lines, and there are {files} files", lines.len()));
        }
        let fields = row.map_err(|why| format!("line {} {why}", rows.number))?;
        lines.push(line(fields).map_err(|why| format!("line {} {why}", rows.number))?);
    }
    Ok(lines)
}

/// Writes a RECORD with its lines in the order of the paths' bytes.
pub(super) fn write(mut lines: Vec<Line>) -> String {
    lines.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let mut text = String::new();
    for Line { path, content } in &lines {
        quote(&mut text, path);
        match content {
            None => text.push_str(",,"),
            Some(Sum { digest, size }) => {
                text.push_str(&format!(",{}={},{size}", digest.algorithm().name(), encode(digest.hex())));
            }
        }
        text.push('\n');
    }
    text
}

fn line(fields: Vec<String>) -> Result<Line, String> {
    let count = fields.len();
    let Ok([path, hash, size]) = <[String; 3]>::try_from(fields) else {
        return Err(format!("has {count} fields, expected 3"));
    };
    if path.is_empty() {
        return Err("names no file".into());
    }
    let content = match (hash.as_str(), size.as_str()) {
        ("", "") => None,
        ("", _) | (_, "") => return Err(format!("gives {:?} no hash or no size", Short(&path))),
        (hash, size) => {
            let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
            let size = size.parse().ok().filter(|_| digits);
            let size = size.ok_or_else(|| format!("gives {:?} a size that is no number", Short(&path)))?;
            let digest = digest(hash).map_err(|why| format!("gives {:?} {why}", Short(&path)))?;
            Some(Sum { digest, size })
        }
    };
    Ok(Line { path, content })
}

/// A hash as RECORD has it: `sha256=` and URL-safe base64 without padding.
fn digest(text: &str) -> Result<Digest, String> {
    let (name, value) = text.split_once('=').ok_or("a hash without the name of its kind")?;
    let algorithm = match name {
        "sha256" => Algorithm::Sha256,
        "sha512" => Algorithm::Sha512,
        "md5" | "sha1" | "sha224" => return Err(format!("a hash that is too weak ({name})")),
        _ => return Err("a hash of a kind that is not known (expected sha256 or sha512)".into()),
    };
    let hex = decode(value).filter(|hex| hex.len() == algorithm.hex_len());
    let hex = hex.ok_or_else(|| format!("a {name} hash that is none"))?;
    format!("{name}:{hex}").parse().map_err(|_| format!("a {name} hash that is none"))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The value of each letter; of other bytes one that none has.
const VALUES: [u8; 256] = {
    let mut values = [64; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// URL-safe base64 without padding, as hexadecimal digits. Only the one form of each value is read.
fn decode(text: &str) -> Option<String> {
    let mut hex = String::with_capacity(text.len() * 3 / 2);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let value = VALUES[usize::from(byte)];
        if value >= 64 {
            return None;
        }
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        count += 6;
        while count >= 4 {
            count -= 4;
            hex.push(char::from_digit(bits >> count & 0xf, 16)?);
        }
    }
    // Bits that belong to no byte are zeros, and make no digit of their own.
    let spare = text.len() * 6 % 8;
    if spare >= 6 || bits & ((1 << spare) - 1) != 0 {
        return None;
    }
    hex.truncate(text.len() * 6 / 8 * 2);
    Some(hex)
}

/// Hexadecimal digits as URL-safe base64 without padding.
fn encode(hex: &str) -> String {
    let (mut bits, mut count) = (0u32, 0);
    let mut text = String::with_capacity(hex.len() * 2 / 3 + 1);
    for digit in hex.chars().filter_map(|c| c.to_digit(16)) {
        bits = (bits << 4 | digit) & 0xfff;
        count += 4;
        if count >= 6 {
            count -= 6;
            text.push(char::from(ALPHABET[(bits >> count & 0x3f) as usize]));
        }
    }
    if count > 0 {
        text.push(char::from(ALPHABET[(bits << (6 - count) & 0x3f) as usize]));
    }
    text
}

/// A field as CSV has it, quoted where it must be.
fn quote(text: &mut String, field: &str) {
    if !field.contains([',', '"', '\n', '\r']) {
        text.push_str(field);
        return;
    }
    text.push('"');
    text.push_str(&field.replace('"', "\"\""));
    text.push('"');
}

/// The rows of a CSV text, without empty ones.
struct Rows<'a> {
    rest: &'a str,
    /// The line in which the row at hand begins.
    number: usize,
}

impl Rows<'_> {
    fn next(&mut self) -> Option<Result<Vec<String>, &'static str>> {
        loop {
            self.number += 1;
            if let Some(rest) = self.rest.strip_prefix("\r\n").or(self.rest.strip_prefix('\n')) {
                self.rest = rest;
            } else if self.rest.is_empty() {
                return None;
            } else {
                return Some(self.row());
            }
        }
    }

    fn row(&mut self) -> Result<Vec<String>, &'static str> {
        let mut fields = Vec::new();
        loop {
            let (field, rest) = match self.rest.strip_prefix('"') {
                Some(quoted) => quoted_field(quoted)?,
                None => {
                    let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
                    let (field, rest) = self.rest.split_at(end);
                    let field =
                        if rest.starts_with(',') { field } else { field.strip_suffix('\r').unwrap_or(field) };
                    if field.contains(['"', '\r']) {
                        return Err("has a quote or a line end inside a field");
                    }
                    (field.to_owned(), rest)
                }
            };
            fields.push(field);
            if fields.len() > 3 {
                return Err("has more than 3 fields");
            }
            if let Some(next) = rest.strip_prefix(',') {
                self.rest = next;
                continue;
            }
            self.rest = rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')).unwrap_or(rest);
            return match self.rest.len() == rest.len() && !rest.is_empty() {
                true => Err("goes on behind a quoted field"),
                false => Ok(fields),
            };
        }
    }
}

/// The rest of a field whose opening quote is gone, and what follows its closing one.
fn quoted_field(text: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, behind) = rest.split_once('"').ok_or("has a quote that is not closed")?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    #[test]
    fn lines() {
        let text = format!("a.py,{EMPTY},0\r\n\"b,\"\"c\"\".py\",{EMPTY},0\n\nx.dist-info/RECORD,,");
        let lines = parse(&text, 10).unwrap();
        let paths: Vec<&str> = lines.iter().map(|line| line.path.as_str()).collect();
        assert_eq!(paths, ["a.py", "b,\"c\".py", "x.dist-info/RECORD"]);
        assert_eq!(lines[0].content, Some(Sum::of(b"")));
        assert_eq!(lines[2].content, None);
        let written = format!("a.py,{EMPTY},0\n\"b,\"\"c\"\".py\",{EMPTY},0\nx.dist-info/RECORD,,\n");
        assert_eq!(write(lines), written);
        assert_eq!(parse("", 0), Ok(vec![]));
        assert_eq!(parse(&"a,,\n".repeat(MORE + 5), 5).map(|lines| lines.len()), Ok(MORE + 5));
        let many = parse(&"a,,\n".repeat(MORE + 6), 5).unwrap_err();
        assert!(many.contains("more than 1005 lines, and there are 5 files"), "{many}");
    }

    #[test]
    fn refused() {
        for (text, why) in [
            ("a.py", "line 1 has 1 fields, expected 3"),
            ("\na.py,,,", "line 2 has more than 3 fields"),
            (",,", "names no file"),
            ("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,", "no hash or no size"),
            ("a.py,,0", "no hash or no size"),
            ("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,+1", "a size that is no number"),
            ("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,99999999999999999999", "no number"),
            // A last digit with bits that belong to no byte, padding, the other alphabet, a byte too few.
            ("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFV,0", "a sha256 hash that is none"),
            ("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=,0", "a sha256 hash that is none"),
            ("a.py,sha256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU,0", "a sha256 hash that is none"),
            ("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuF,0", "a sha256 hash that is none"),
            ("a.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,0", "too weak"),
            ("a.py,47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0", "without the name of its kind"),
            ("a.py,blake2b=AA,0", "not known"),
            ("\"a.py,,", "a quote that is not closed"),
            ("\"a.py\"x,,", "goes on behind a quoted field"),
            ("a\"b.py,,", "inside a field"),
        ] {
            let found = parse(text, 10).unwrap_err();
            assert!(found.contains(why), "{text}: {found}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mut paths in prop::collection::btree_set("[a-z,\"\n\r ü/]{1,9}", 0..9), size: u64) {
            paths.remove("");
            let lines: Vec<Line> = paths.into_iter().map(|path| Line {
                content: Some(Sum { digest: Digest::sha256(path.as_bytes()), size }), path,
            }).collect();
            prop_assert_eq!(parse(&write(lines.clone()), lines.len()), Ok(lines));
        }

        #[test]
        fn any_text_is_judged(text in "[a,\"\n\r=]{0,20}") {
            let _ = parse(&text, 3);
        }

        #[test]
        fn base64_is_the_one_form(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            prop_assert_eq!(decode(&encode(&hex)), Some(hex));
        }
    }
}
