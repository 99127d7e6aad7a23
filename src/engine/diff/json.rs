//! JSON documents, value by value.

use serde_json::Value;

use super::report::{Difference, Field, Part, Sink};
use super::value;
use crate::oci::json::{self, pointer};

/// Is told a pointer, and the values there.
pub(super) type Tell<'t> = dyn FnMut(String, Option<&Value>, Option<&Value>) + 't;

/// Compares two documents by their bytes: what `skip` names is explained elsewhere.
pub(super) fn compare(
    part: &Part,
    image: Option<&str>,
    (left, right): (&[u8], &[u8]),
    skip: &dyn Fn(&str) -> bool,
    sink: &mut Sink,
) {
    if left == right {
        return;
    }
    if let (Ok(l), Ok(r)) = (json::parse(left), json::parse(right))
        && l != r
    {
        values(&l, &r, "", skip, &mut |at, l, r| {
            sink.add(json_difference(part.clone(), image, at, l, r));
        });
        return;
    }
    let offset = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    let here = |bytes: &[u8]| {
        let rest = bytes.get(offset..).unwrap_or_default();
        value::text(&rest[..rest.len().min(16)])
    };
    let (left, right) = (Some(here(left)), Some(here(right)));
    let image = image.map(str::to_owned);
    let offset = Some(offset as u64);
    sink.add(Difference { image, part: part.clone(), field: Field::Form, left, right, offset, below: 0 });
}

/// A difference of values in a document.
pub(super) fn json_difference(
    part: Part,
    image: Option<&str>,
    at: String,
    left: Option<&Value>,
    right: Option<&Value>,
) -> Difference {
    let (left, right) = match (left.map(Value::to_string), right.map(Value::to_string)) {
        (Some(left), Some(right)) => {
            let (left, right) = value::pair(&left, &right);
            (Some(left), Some(right))
        }
        (left, right) => (left.map(|text| value::one(&text)), right.map(|text| value::one(&text))),
    };
    let image = image.map(str::to_owned);
    Difference { image, part, field: Field::Value(at), left, right, offset: None, below: 0 }
}

/// Tells every value that differs, with its RFC 6901 pointer, names in byte order. Long pointers are cut: see
/// [`value::place`].
///
/// Items of lists that are the same from the start or from the end are left out, so that one more item is one
/// difference. What is only on the right of a list has the pointer that it has there.
pub(super) fn values(
    left: &Value,
    right: &Value,
    at: &str,
    skip: &dyn Fn(&str) -> bool,
    tell: &mut Tell<'_>,
) {
    if left == right || skip(at) {
        return;
    }
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let at = value::place(pointer(at, name));
                match (left.get(name), right.get(name)) {
                    (Some(left), Some(right)) => values(left, right, &at, skip, tell),
                    (left, right) if !skip(&at) => tell(at, left, right),
                    _ => {}
                }
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            let start = left.iter().zip(right).take_while(|(l, r)| l == r).count();
            let (left, right) = (&left[start..], &right[start..]);
            let end = left.iter().rev().zip(right.iter().rev()).take_while(|(l, r)| l == r).count();
            let (left, right) = (&left[..left.len() - end], &right[..right.len() - end]);
            for i in 0..left.len().max(right.len()) {
                let at = format!("{at}/{}", start + i);
                match (left.get(i), right.get(i)) {
                    (Some(left), Some(right)) => values(left, right, &at, skip, tell),
                    (left, right) if !skip(&at) => tell(at, left, right),
                    _ => {}
                }
            }
        }
        _ => tell(at.to_owned(), Some(left), Some(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(left: Value, right: Value) -> Vec<(String, String, String)> {
        let mut told = Vec::new();
        let show = |value: Option<&Value>| value.map_or("-".into(), Value::to_string);
        values(&left, &right, "", &|at| at == "/skip", &mut |at, l, r| told.push((at, show(l), show(r))));
        told
    }

    fn one(at: &str, left: &str, right: &str) -> Vec<(String, String, String)> {
        vec![(at.into(), left.into(), right.into())]
    }

    #[test]
    fn every_value_has_its_pointer() {
        assert_eq!(told(json!({"a/b": {"~": 1}}), json!({"a/b": {"~": 2}})), one("/a~1b/~0", "1", "2"));
        assert_eq!(told(json!({"a": 1}), json!({})), one("/a", "1", "-"));
        assert_eq!(told(json!({}), json!({"a": null})), one("/a", "-", "null"));
        assert_eq!(told(json!([1, 2, 3]), json!([1, 9, 2, 3])), one("/1", "-", "9"));
        assert_eq!(told(json!([1, 2, 3]), json!([1, 3])), one("/1", "2", "-"));
        assert_eq!(told(json!([1, 2, 3]), json!([1, 8, 3])), one("/1", "2", "8"));
        assert_eq!(told(json!({"a": "1"}), json!({"a": 1})), one("/a", "\"1\"", "1"));
        assert_eq!(told(json!({"skip": 1, "b": []}), json!({"skip": 2, "b": []})), []);
        assert_eq!(told(json!({"skip": 1}), json!({})), []);
    }

    /// A name of megabytes is not repeated for every value below it.
    #[test]
    fn pointers_are_bounded() {
        let below = |value: u32| (0..2000).map(|i| (format!("{i:04}"), json!(value))).collect::<Value>();
        let long = "k".repeat(1_000_000);
        let told = told(json!({ &long: below(1) }), json!({ &long: below(2) }));
        assert_eq!(told.len(), 2000);
        let ends = |at: &str, i| at.starts_with("/kkk") && at.ends_with(&format!("k/{i:04}"));
        assert!(told.iter().enumerate().all(|(i, (at, ..))| ends(at, i) && at.chars().count() <= 1001));
    }

    #[test]
    fn bytes_count_when_values_do_not() {
        let found = |left: &[u8], right: &[u8]| {
            let mut sink = Sink::new(9);
            compare(&Part::Config, None, (left, right), &|_| false, &mut sink);
            sink.list.pop().map(|found| (found.field, found.offset, found.left, found.right))
        };
        let form = Some((Field::Form, Some(4), Some(":1}".into()), Some(" :1}".into())));
        assert_eq!(found(b"{\"a\":1}", b"{\"a\" :1}"), form);
        assert_eq!(found(b"{}", b"{}"), None);
        // What is no JSON at all.
        let form = Some((Field::Form, Some(1), Some("b".into()), Some("\\xff".into())));
        assert_eq!(found(b"ab", b"a\xff"), form);
    }
}
