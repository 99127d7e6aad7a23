//! `dmoci.toml`: as written ([`Spec`]), and resolved for one platform ([`Target`]).
//!
//! Pure but for [`load`]: nothing here looks at the project's files, the environment or the clock.
//!
//! ```text
//! mod > resolve > values > suggest
//!     > tree    > keys, template > suggest          schema > keys
//! ```

mod error;
mod keys;
mod resolve;
mod schema;
mod suggest;
pub mod target;
mod template;
mod tree;
mod values;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{Problem, Problems, SpecError};
pub use schema::json_schema;
pub use suggest::nearest;
pub use target::{Span, Target};

use crate::diagnostic::Place;
use crate::limits;
use crate::oci::platform::Platform;

/// A `dmoci.toml` as written. Everything in it that depends on no platform, variable or version is checked.
#[derive(Clone, Debug)]
pub struct Spec {
    file: PathBuf,
    text: Arc<str>,
    root: tree::Fields,
    platforms: Vec<Platform>,
}

/// What the caller says beside the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Values of declared variables, and of `version`: `--set NAME=VALUE`.
    pub vars: BTreeMap<String, String>,
    /// The version when neither `vars` nor the file gives one.
    pub version: Option<String>,
}

/// Parses and checks a text; `file` is only what messages call it.
///
/// Everything that is wrong is reported at once, unless it is not TOML at all.
pub fn parse(file: &Path, text: &str) -> Result<Spec, SpecError> {
    let text: Arc<str> = text.into();
    let fail = |problems| Problems { file: file.to_owned(), text: text.clone(), problems };
    let (root, mut problems) = tree::read(&text).map_err(|problem| fail(vec![problem]))?;
    let (platforms, found) = resolve::check(&root);
    problems.extend(found);
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        return Err(fail(problems).into());
    }
    Ok(Spec { file: file.to_owned(), text: text.clone(), root, platforms })
}

/// Reads, parses and checks a file of at most [`limits::SPEC_BYTES`].
pub fn load(path: &Path) -> Result<Spec, SpecError> {
    let failed = |source| SpecError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::SPEC_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limits::SPEC_BYTES {
        return Err(SpecError::Large { path: path.to_owned(), limit: limits::SPEC_BYTES });
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| SpecError::Encoding { path: path.to_owned(), at: error.valid_up_to() })?;
    parse(path, text)
}

impl Spec {
    /// The file as the user named it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The whole text.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What the image is built for, each once, in the order written; never empty.
    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// What is to be built for `platform`.
    ///
    /// Fails when a variable is set that the file does not declare, when `${version}` is used and nobody
    /// says it, and when a value turns out wrong after expansion. That sources exist is not checked here.
    pub fn target(&self, platform: &Platform, overrides: &Overrides) -> Result<Target, SpecError> {
        let declared: Vec<String> = self.vars().map(str::to_owned).collect();
        for name in overrides.vars.keys().filter(|name| *name != "version") {
            if !declared.contains(name) {
                let names = declared.iter().map(String::as_str).chain(["version"]);
                return Err(SpecError::Set {
                    nearest: suggest::nearest(name, names).map(str::to_owned),
                    name: name.clone(),
                    path: self.file.clone(),
                    declared,
                });
            }
        }
        resolve::target(&self.root, &self.platforms, platform, overrides).map_err(|mut problems| {
            problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
            Problems { file: self.file.clone(), text: self.text.clone(), problems }.into()
        })
    }

    /// The names declared in `[vars]`.
    pub fn vars(&self) -> impl Iterator<Item = &str> {
        self.root
            .table("vars")
            .into_iter()
            .flat_map(|vars| vars.entries.iter().map(|(name, ..)| name.as_str()))
    }

    /// A place in this file, for messages.
    pub fn place(&self, span: &Span, label: impl Into<String>) -> Place {
        Place { file: self.file.clone(), text: self.text.clone(), span: span.clone(), label: label.into() }
    }
}

#[cfg(test)]
mod tests;
