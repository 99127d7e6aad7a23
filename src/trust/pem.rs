//! Textual encodings of RFC 7468: one block with a label.

use crate::base64;

/// What a block says that it is, and its content.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) content: Vec<u8>,
}

/// The only block of a text. Text around it is explanation (RFC 7468, section 2); a second block is one too many, since readers
/// would take different ones.
pub(super) fn read(text: &str) -> Result<Block, &'static str> {
    let mut blocks = read_all(text)?;
    match (blocks.pop(), blocks.is_empty()) {
        (Some(block), true) => Ok(block),
        (None, _) => Err("it has no line -----BEGIN …-----"),
        (Some(_), false) => Err("it has more than one block"),
    }
}

/// All blocks of a text.
pub(super) fn read_all(text: &str) -> Result<Vec<Block>, &'static str> {
    let mut lines = text.lines().map(str::trim_end);
    let begins = |line: &str| {
        line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")).map(str::to_owned)
    };
    let mut blocks = Vec::new();
    while let Some(label) = lines.by_ref().find_map(begins) {
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) => body.push_str(line),
                None => return Err("it does not end with -----END …-----"),
            }
        }
        let content = base64::decode(&body).ok_or("what stands between BEGIN and END is not base64")?;
        blocks.push(Block { label, content });
    }
    Ok(blocks)
}

/// A block in lines of 64 characters, as RFC 7468 wants it written.
pub(super) fn write(label: &str, content: &[u8]) -> String {
    let body = base64::encode(content);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        for length in [0, 1, 47, 48, 49, 200] {
            let content: Vec<u8> = (0..length).collect();
            let text = write("A B", &content);
            for text in [text.clone(), text.replace('\n', "\r\n"), format!("words\n{text}more\n")] {
                let block = read(&text).ok().unwrap();
                assert_eq!((block.label.as_str(), block.content), ("A B", content.clone()));
            }
            assert!(read(&format!("{text}{text}")).is_err());
            assert!(read(&text.replace("END A", "END C")).is_err());
        }
        for bad in ["", "-----BEGIN A-----\n", "-----BEGIN A-----\n*\n-----END A-----\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
