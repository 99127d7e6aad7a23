//! JSON as this program reads and writes it.
//!
//! Reading is strict: bounded, no object with one name twice, none with two names that differ only by case
//! (Go's decoder folds case and serde's does not, so two readers would see two documents), one value and nothing
//! after it. Writing is canonical: compact, UTF-8, names sorted by their bytes, no line end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Exit};
use crate::limits;

/// Why bytes are not a JSON document that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than [`limits::JSON_BYTES`].
    #[error("the document is {found} bytes long; the limit is {limit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// What was found.
        found: u64,
    },
    /// Not JSON, more than one value, or a number out of range.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// Deeper than [`limits::JSON_DEPTH`].
    #[error("nested deeper than {limit} levels at {}", shown(pointer))]
    Depth {
        /// The limit.
        limit: usize,
        /// Where, as an RFC 6901 pointer.
        pointer: String,
    },
    /// One object has the same name twice; readers disagree on which counts.
    #[error("the name {key:?} occurs twice in one object, at {}", shown(pointer))]
    Duplicate {
        /// The object, as an RFC 6901 pointer.
        pointer: String,
        /// The name.
        key: String,
    },
    /// Two names of one object differ only by case; some readers take them for one.
    #[error("the names {key:?} and {other:?} in one object differ only by case, at {}", shown(pointer))]
    CaseFold {
        /// The object, as an RFC 6901 pointer.
        pointer: String,
        /// The later name.
        key: String,
        /// The earlier name.
        other: String,
    },
}

impl Diagnostic for JsonError {
    fn code(&self) -> &'static str {
        match self {
            JsonError::TooLarge { .. } => "E-JSON-SIZE",
            JsonError::Syntax(_) => "E-JSON-SYNTAX",
            JsonError::Depth { .. } => "E-JSON-DEPTH",
            JsonError::Duplicate { .. } => "E-JSON-DUPLICATE",
            JsonError::CaseFold { .. } => "E-JSON-CASE",
        }
    }

    fn exit(&self) -> Exit {
        Exit::Mismatch
    }
}

/// Reads one document of at most [`limits::JSON_BYTES`] bytes and [`limits::JSON_DEPTH`] levels.
///
/// Objects that the specification defines as maps of free names (annotations, labels, volumes, ports) may hold
/// names that differ by case; every other object may not.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    if bytes.len() as u64 > limits::JSON_BYTES {
        return Err(JsonError::TooLarge { limit: limits::JSON_BYTES, found: bytes.len() as u64 });
    }
    let refused = RefCell::new(None);
    let root = Strict { path: Path::Root, depth: 0, free: false, refused: &refused };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = root.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|e| refused.take().unwrap_or_else(|| JsonError::Syntax(e.to_string())))
}

/// The canonical bytes of a value: what dmoci writes for every document it authors.
///
/// Those documents hold no fractions; a fraction is written as serde_json writes it.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// True when `bytes` are the canonical form of the document they hold.
pub fn is_canonical(bytes: &[u8]) -> bool {
    parse(bytes).is_ok_and(|value| canonical(&value) == bytes)
}

/// The name as a case-folding reader compares it (Go's `encoding/json` folds as Unicode simple folding does).
pub fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// One step of an RFC 6901 pointer below `base`.
pub fn pointer(base: &str, name: &str) -> String {
    format!("{base}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "the top level" } else { pointer }
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // Sorted here, so that no feature of serde_json (`preserve_order`) can change a byte.
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_bytes());
            out.push(b'{');
            for (i, (name, item)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(&Value::String(name.clone()), out);
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

/// Where the reader stands; rendered only for an error.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Name(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Name(up, name) => {
                write!(f, "{up}{}", pointer("", &name.chars().take(120).collect::<String>()))
            }
            Path::Item(up, index) => write!(f, "{up}/{index}"),
        }
    }
}

/// Reads one value, refusing what [`JsonError`] lists.
struct Strict<'a> {
    path: Path<'a>,
    depth: usize,
    /// The value belongs to a name that the specification defines as a map of free names.
    free: bool,
    refused: &'a RefCell<Option<JsonError>>,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(&self, error: JsonError) -> E {
        let text = error.to_string();
        *self.refused.borrow_mut() = Some(error);
        E::custom(text)
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= limits::JSON_DEPTH {
            let pointer = self.path.to_string();
            return Err(self.refuse(JsonError::Depth { limit: limits::JSON_DEPTH, pointer }));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        loop {
            let path = Path::Item(&self.path, list.len());
            match items.next_element_seed(Strict { path, depth, free: false, refused: self.refused })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        let mut folded: HashMap<String, String> = HashMap::new();
        while let Some(key) = members.next_key::<String>()? {
            if map.contains_key(&key) {
                let pointer = self.path.to_string();
                return Err(self.refuse(JsonError::Duplicate { pointer, key }));
            }
            let fold = fold(&key);
            let free = matches!(fold.as_str(), "annotations" | "labels" | "volumes" | "exposedports");
            if !self.free
                && let Some(other) = folded.insert(fold, key.clone())
            {
                let pointer = self.path.to_string();
                return Err(self.refuse(JsonError::CaseFold { pointer, key, other }));
            }
            let path = Path::Name(&self.path, &key);
            let free = free && !self.free;
            let value = members.next_value_seed(Strict { path, depth, free, refused: self.refused })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duplicate_names_are_refused_with_their_place() {
        let error = parse(br#"{"a":[{"b/c":{"x":1,"x":2}}]}"#).unwrap_err();
        assert_eq!(error, JsonError::Duplicate { pointer: "/a/0/b~1c".into(), key: "x".into() });
        assert_eq!(error.code(), "E-JSON-DUPLICATE");
    }

    #[test]
    fn names_that_differ_by_case_are_refused_where_structs_stand() {
        for text in
            [r#"{"digest":1,"Digest":2}"#, r#"{"k":{"size":1,"\u017fize":2}}"#, r#"{"k":1,"\u212a":2}"#]
        {
            assert_eq!(parse(text.as_bytes()).unwrap_err().code(), "E-JSON-CASE", "{text}");
        }
        parse(br#"{"annotations":{"a":"1","A":"2"},"config":{"Labels":{"x":"","X":""}}}"#).unwrap();
        assert!(parse(br#"{"annotations":{"a":"1","a":"2"}}"#).is_err());
    }

    #[test]
    fn bounds() {
        let deep = |n: usize| [b"[".repeat(n), b"]".repeat(n)].concat();
        parse(&deep(limits::JSON_DEPTH)).unwrap();
        assert_eq!(parse(&deep(limits::JSON_DEPTH + 1)).unwrap_err().code(), "E-JSON-DEPTH");
        assert!(parse(&deep(1_000_000)).is_err());
        let large = vec![b' '; limits::JSON_BYTES as usize + 1];
        assert_eq!(parse(&large).unwrap_err().code(), "E-JSON-SIZE");
    }

    #[test]
    fn syntax() {
        for bad in [
            &b""[..],
            b"{",
            b"{}{}",
            b"{} x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":1e999}",
            b"\"\xff\"",
            b"[1,]",
            b"NaN",
        ] {
            assert_eq!(parse(bad).unwrap_err().code(), "E-JSON-SYNTAX", "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn canonical_form() {
        let value = serde_json::json!({"b": [1, -2, true, null, "é\n\u{1}"], "a": {"z": {}, "Y": []}});
        let text = r#"{"a":{"Y":[],"z":{}},"b":[1,-2,true,null,"é\n\u0001"]}"#;
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), text);
        assert!(is_canonical(text.as_bytes()));
        for other in ["{} ", "{ }", r#"{"b":1,"a":2}"#, r#"{"a":"\u0041"}"#, r#"{"a":1.0e0}"#, "{}\n"] {
            assert!(!is_canonical(other.as_bytes()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn canonical_bytes_are_canonical(text in "\\PC*", n in any::<i64>()) {
            // Keys that differ by case alone are refused.
            prop_assume!(text != "T");
            let value = serde_json::json!({"t": text, text.clone(): [n]});
            let bytes = canonical(&value);
            prop_assert!(is_canonical(&bytes), "{}", String::from_utf8_lossy(&bytes));
            prop_assert_eq!(canonical(&parse(&bytes).unwrap()), bytes);
        }
    }
}
