//! The one form of a lock file.

use std::fmt::Write as _;

use dmoci_layers::{Digest, RULES};
use serde_json::json;

use super::{Kind, Lock, Pin, SCHEMA};
use crate::oci::json::canonical;
use crate::oci::platform::Platform;

const HEAD: &str = "\
# Written by dmoci: what the image is made of besides the project, by digest. It belongs into version control.
# `dmoci lock --update` makes entries anew. What is changed by hand is noticed.
";

impl Lock {
    /// The text of the lock file: sorted by platform, kind and address, wheels by their names.
    pub fn text(&self) -> String {
        let mut out = format!("{HEAD}schema = {SCHEMA}\nrules = {RULES}\n");
        for (platform, pins) in &self.platforms {
            let file = |pin: &Pin| pin.wheel.as_ref().map(|wheel| wheel.file.clone());
            let mut sorted: Vec<_> = pins.iter().collect();
            sorted.sort_by_cached_key(|((kind, url), pin)| (*kind, file(pin), url.clone()));
            for ((kind, _), pin) in sorted {
                let _ = write!(out, "\n[[platform.{}.{}]]\n", quoted(&platform.to_string()), kind.name());
                if let Some(wheel) = &pin.wheel {
                    let _ = writeln!(out, "file = {}", quoted(&wheel.file));
                }
                if let Some(base) = &pin.base {
                    let _ = writeln!(out, "name = {}", quoted(&base.name.to_string()));
                    if let Some(index) = &base.index {
                        let _ = writeln!(out, "index = {}", quoted(index.hex()));
                    }
                    if let Some(signer) = &base.signed_by {
                        let _ = writeln!(out, "signed-by = {}", quoted(signer));
                    }
                }
                if let Some(url) = &pin.url {
                    let _ = writeln!(out, "url = {}", quoted(&url.bare()));
                }
                let hex = quoted(pin.digest.hex());
                let _ = writeln!(out, "size = {}\nsha256 = {hex}", pin.size);
                if let Some(sha512) = pin.wheel.as_ref().and_then(|wheel| wheel.sha512.as_ref()) {
                    let _ = writeln!(out, "sha512 = {}", quoted(sha512.hex()));
                }
                let fields = quoted(&fields(platform, *kind, pin));
                let _ =
                    writeln!(out, "authenticated = {}\nfields = {fields}", quoted(pin.authenticated.name()));
                if let Some(base) = pin.base.as_ref().filter(|base| !base.facts.is_empty()) {
                    let facts: String =
                        base.facts.iter().map(|fact| format!("    {},\n", quoted(fact))).collect();
                    let _ = write!(out, "facts = [\n{facts}]\n");
                }
            }
        }
        out
    }
}

/// The sha256 of everything that an entry says: of the canonical JSON of its fields, with `kind` and `platform`.
pub(super) fn fields(platform: &Platform, kind: Kind, pin: &Pin) -> String {
    let mut value = json!({
        "authenticated": pin.authenticated.name(),
        "kind": kind.name(),
        "platform": platform.to_string(),
        "sha256": pin.digest.hex(),
        "size": pin.size,
    });
    if let Some(url) = &pin.url {
        value["url"] = url.bare().into();
    }
    if let Some(base) = &pin.base {
        value["name"] = base.name.to_string().into();
        if let Some(index) = &base.index {
            value["index"] = index.hex().into();
        }
        if let Some(signer) = &base.signed_by {
            value["signed-by"] = signer.as_str().into();
        }
        if !base.facts.is_empty() {
            value["facts"] = base.facts.iter().map(String::as_str).collect::<Vec<_>>().into();
        }
    }
    if let Some(wheel) = &pin.wheel {
        value["file"] = wheel.file.as_str().into();
        if let Some(sha512) = &wheel.sha512 {
            value["sha512"] = sha512.hex().into();
        }
    }
    Digest::sha256(&canonical(&value)).hex().to_owned()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
