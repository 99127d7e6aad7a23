//! The JSON Schema of `dmoci.toml`, for editors.

use serde_json::{Map, Value, json};

use super::keys::{self, Key, Kind, Table};

/// The JSON Schema (draft 2020-12) of `dmoci.toml`, made from the same table of keys as the parser.
///
/// It knows the keys, their types, defaults and choices; the finer grammar of strings is the parser's.
pub fn json_schema() -> Value {
    let mut schema = table(&keys::ROOT);
    if let Value::Object(fields) = &mut schema {
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("title".to_owned(), json!(keys::ROOT.name));
    }
    schema
}

fn table(table: &Table) -> Value {
    let known = || table.all().filter(|key| !matches!(key.kind, Kind::Later));
    let mut properties: Map<String, Value> =
        known().map(|key| (key.name.to_owned(), property(key))).collect();
    // Without such a key, the other table's value stands.
    for key in table.extends.into_iter().flat_map(|other| other.keys) {
        if let Some(Value::Object(property)) = properties.get_mut(key.name) {
            property.remove("default");
        }
    }
    let required: Vec<&str> = table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Text => json!({ "type": "string" }),
        // Either a choice or a string that becomes one.
        Kind::Choice(names) => {
            json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": "\\$\\{" }] })
        }
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Platforms => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "uniqueItems": true })
        }
        Kind::OneOrMoreTexts => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        Kind::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Table(inner) => table(inner),
        Kind::Tables(inner) => json!({ "type": "array", "items": table(inner) }),
        Kind::Named(inner) => json!({ "type": "object", "additionalProperties": table(inner) }),
        Kind::OneOrMoreTables(inner) => {
            json!({ "anyOf": [table(inner), { "type": "array", "items": table(inner) }] })
        }
        Kind::Later => json!(false),
    };
    schema["description"] = json!(key.doc);
    if let Some(default) = default(key) {
        schema["default"] = default;
    }
    schema
}

/// The default as JSON; it is written as TOML in the table of keys.
fn default(key: &Key) -> Option<Value> {
    let document: toml::Table = toml::from_str(&format!("x = {}", key.default?)).ok()?;
    serde_json::to_value(document.get("x")?).ok()
}
