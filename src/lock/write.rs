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
    /// The text of the lock file: sorted by platform, kind and address.
    pub fn text(&self) -> String {
        let mut out = format!("{HEAD}schema = {SCHEMA}\nrules = {RULES}\n");
        for (platform, pins) in &self.platforms {
            for ((kind, _), pin) in pins {
                let _ = write!(
                    out,
                    "\n[[platform.{}.{}]]\nurl = {}\nsize = {}\nsha256 = {}\nauthenticated = {}\nfields = {}\n",
                    quoted(&platform.to_string()),
                    kind.name(),
                    quoted(&pin.url.bare()),
                    pin.size,
                    quoted(pin.digest.hex()),
                    quoted(pin.authenticated.name()),
                    quoted(&fields(platform, *kind, pin)),
                );
            }
        }
        out
    }
}

/// The sha256 of everything that an entry says: of the canonical JSON of its fields, with `kind` and `platform`.
pub(super) fn fields(platform: &Platform, kind: Kind, pin: &Pin) -> String {
    let value = json!({
        "authenticated": pin.authenticated.name(),
        "kind": kind.name(),
        "platform": platform.to_string(),
        "sha256": pin.digest.hex(),
        "size": pin.size,
        "url": pin.url.bare(),
    });
    Digest::sha256(&canonical(&value)).hex().to_owned()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
