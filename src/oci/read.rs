//! Reading the members of one JSON object, noting everything that is wrong with them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::json::{fold, pointer};
use super::media_type::is_well_formed;
use super::problem::{Problem, shown};

/// One JSON object at a place, and where problems go.
pub(crate) struct Node<'a, 'p> {
    map: &'a Map<String, Value>,
    pub(crate) at: String,
    pub(crate) problems: &'p mut Vec<Problem>,
}

impl<'a, 'p> Node<'a, 'p> {
    /// The object at `at`; a problem when it is none.
    pub(crate) fn new(value: &'a Value, at: &str, problems: &'p mut Vec<Problem>) -> Option<Node<'a, 'p>> {
        match value {
            Value::Object(map) => Some(Node { map, at: at.to_owned(), problems }),
            other => {
                problems.push(wrong_type(at, "an object", other));
                None
            }
        }
    }

    /// Refuses names that are one of `names` but for their case: Go's decoder reads them, others do not.
    pub(crate) fn known(&mut self, names: &[&str]) {
        for key in self.map.keys() {
            if names.contains(&key.as_str()) {
                continue;
            }
            let folded = fold(key);
            if let Some(name) = names.iter().find(|name| fold(name) == folded) {
                let at = self.at(key);
                let text = "the name differs from a specified one only by case, so readers disagree about it";
                self.problems.push(Problem::error("E-JSON-CASE", &at, text).but(*name, key.clone()));
            }
        }
    }

    /// The pointer to a member.
    pub(crate) fn at(&self, name: &str) -> String {
        pointer(&self.at, name)
    }

    /// The member, whatever it is.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// True when the member is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// The member; a problem when it is absent.
    pub(crate) fn required(&mut self, name: &str) -> Option<&'a Value> {
        let value = self.map.get(name);
        if value.is_none() {
            let at = self.at(name);
            let text = format!("the required property {name:?} is missing");
            self.problems.push(Problem::error("E-OCI-MISSING", &at, text));
        }
        value
    }

    /// An optional text.
    pub(crate) fn string(&mut self, name: &str) -> Option<String> {
        match self.map.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => {
                self.wrong(name, "a string", other);
                None
            }
        }
    }

    /// A text that must be there and not be empty.
    pub(crate) fn required_string(&mut self, name: &str) -> Option<String> {
        self.required(name)?;
        let text = self.string(name)?;
        if text.is_empty() {
            let at = self.at(name);
            self.problems.push(Problem::error(
                "E-OCI-MISSING",
                &at,
                format!("the required property {name:?} is empty"),
            ));
        }
        Some(text)
    }

    /// An optional media type of the form `type/subtype`.
    pub(crate) fn media_type(&mut self, name: &str) -> Option<String> {
        let text = self.string(name)?;
        if !is_well_formed(&text) {
            let at = self.at(name);
            let problem = Problem::error("E-OCI-MEDIATYPE", &at, "not a media type of RFC 6838, section 4.2");
            self.problems.push(problem.but("type/subtype", text.clone()));
        }
        Some(text)
    }

    /// An optional truth value.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.map.get(name)? {
            Value::Bool(value) => Some(*value),
            other => {
                self.wrong(name, "true or false", other);
                None
            }
        }
    }

    /// An optional array.
    pub(crate) fn array(&mut self, name: &str) -> Option<&'a Vec<Value>> {
        match self.map.get(name)? {
            Value::Array(items) => Some(items),
            other => {
                self.wrong(name, "an array", other);
                None
            }
        }
    }

    /// An optional array of texts; items of other types are problems and left out.
    pub(crate) fn strings(&mut self, name: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (i, item) in self.array(name).into_iter().flatten().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => {
                    let at = format!("{}/{i}", self.at(name));
                    self.problems.push(wrong_type(&at, "a string", other));
                }
            }
        }
        texts
    }

    /// An optional map of texts (annotations.md, "Rules"; config.md, "Labels").
    pub(crate) fn map(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let members = match self.map.get(name) {
            None => return map,
            Some(Value::Object(members)) => members,
            Some(other) => {
                self.wrong(name, "an object of strings", other);
                return map;
            }
        };
        for (key, value) in members {
            match value {
                Value::String(text) => {
                    map.insert(key.clone(), text.clone());
                }
                other => {
                    let at = pointer(&self.at(name), key);
                    self.problems.push(wrong_type(&at, "a string", other));
                }
            }
        }
        map
    }

    /// Notes a member of the wrong type.
    pub(crate) fn wrong(&mut self, name: &str, expected: &str, found: &Value) {
        let at = self.at(name);
        self.problems.push(wrong_type(&at, expected, found));
    }

    /// `schemaVersion`, which must be 2 (manifest.md and image-index.md, "schemaVersion").
    pub(crate) fn schema_version(&mut self) {
        if let Some(value) = self.required("schemaVersion")
            && value.as_u64() != Some(2)
        {
            let at = self.at("schemaVersion");
            let problem = Problem::error("E-OCI-SCHEMAVERSION", &at, "the schema version is not 2");
            self.problems.push(problem.but("2", shown(value)));
        }
    }
}

/// The problem of a value of the wrong type.
pub(crate) fn wrong_type(at: &str, expected: &str, found: &Value) -> Problem {
    Problem::error("E-OCI-TYPE", at, "the value has the wrong type").but(expected, shown(found))
}
