//! `dmoci.toml`: as written ([`Spec`]), and resolved for one platform ([`Target`]).
//!
//! Pure but for [`load`]: nothing here looks at the project's files, the environment or the clock.
//!
//! ```text
//! mod > resolve > values > suggest
//!     > variant > tree > keys, template > suggest          schema > keys
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
mod variant;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::{Problem, Problems, SpecError};
pub use schema::json_schema;
pub use suggest::nearest;
use target::OwnWheel;
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
    /// The name of the variant that this is, where that is written, and the file without it.
    variant: Option<(String, Span, Arc<Spec>)>,
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
    problems.extend(check_variants(&root, &platforms, &problems));
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        return Err(fail(problems).into());
    }
    Ok(Spec { file: file.to_owned(), text: text.clone(), root, platforms, variant: None })
}

/// What is wrong with the variants and not known of the image.
fn check_variants(root: &tree::Fields, platforms: &[Platform], known: &[Problem]) -> Vec<Problem> {
    let key = |problem: &Problem| (problem.span.start, problem.span.end, problem.message.clone());
    let mut seen: BTreeSet<_> = known.iter().map(key).collect();
    let mut problems = Vec::new();
    for (number, (name, span)) in variant::names(root).enumerate() {
        if number == limits::VARIANTS {
            let problem =
                Problem::new("E-SPEC-VALUE", span, format!("there are more than {number} variants"));
            problems.push(problem);
            break;
        }
        let Some(merged) = variant::merge(root, name) else { continue };
        let found = resolve::check_variant(&merged, name, span, platforms).1;
        problems.extend(found.into_iter().filter(|problem| seen.insert(key(problem))));
    }
    problems
}

/// Reads, parses and checks a file of at most [`limits::SPEC_BYTES`].
pub fn load(path: &Path) -> Result<Spec, SpecError> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<String, SpecError> {
    let failed = |source| SpecError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::SPEC_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limits::SPEC_BYTES {
        return Err(SpecError::Large { path: path.to_owned(), limit: limits::SPEC_BYTES });
    }
    String::from_utf8(bytes)
        .map_err(|error| SpecError::Encoding { path: path.to_owned(), at: error.utf8_error().valid_up_to() })
}

/// What `[wheel]` of a file says, whatever else is in it; nothing when there is no such file or table. It is for no platform.
pub fn own_wheel(path: &Path, overrides: &Overrides) -> Result<Option<OwnWheel>, SpecError> {
    let text = match read(path) {
        Err(SpecError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let text: Arc<str> = text.into();
    let fail = |problems| Problems { file: path.to_owned(), text: text.clone(), problems };
    let (root, mut problems) = tree::read(&text).map_err(|problem| fail(vec![problem]))?;
    if root.table("wheel").is_none() {
        return Ok(None);
    }
    // Without an image there is something to build all the same.
    problems.retain(|problem| problem.code != "E-SPEC-MISSING");
    match resolve::own_wheel(&root, overrides) {
        Ok(wheel) if problems.is_empty() => Ok(wheel),
        found => {
            problems.extend(found.err().unwrap_or_default());
            Err(fail(problems).into())
        }
    }
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

    /// The names of the variants, as written.
    pub fn variants(&self) -> impl Iterator<Item = &str> {
        variant::names(&self.root).map(|(name, _)| name)
    }

    /// The name of the variant that this is; nothing for the image itself.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_ref().map(|(name, ..)| name.as_str())
    }

    /// The image with the variant of this name on top.
    pub fn with_variant(&self, name: &str) -> Result<Spec, SpecError> {
        let span = variant::names(&self.root).find(|(other, _)| *other == name).map(|(_, span)| span.clone());
        let (Some(span), Some(root)) = (span, variant::merge(&self.root, name)) else {
            return Err(SpecError::Variant {
                nearest: suggest::nearest(name, self.variants()).map(str::to_owned),
                name: name.to_owned(),
                path: self.file.clone(),
                declared: self.variants().map(str::to_owned).collect(),
            });
        };
        let platforms = resolve::check_variant(&root, name, &span, &self.platforms).0;
        let (file, text) = (self.file.clone(), self.text.clone());
        let variant = Some((name.to_owned(), span, Arc::new(self.clone())));
        Ok(Spec { file, text, root, platforms, variant })
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
        let fail = |mut problems: Vec<Problem>| {
            problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
            SpecError::from(Problems { file: self.file.clone(), text: self.text.clone(), problems })
        };
        let target = resolve::target(&self.root, &self.platforms, platform, overrides).map_err(fail)?;
        if let Some((name, span, image)) = &self.variant
            // What is wrong with the image is no fault of the variant.
            && let Ok(image) = image.target(platform, overrides)
            && let Some(both) = target.names().into_iter().find(|name| image.names().contains(name))
        {
            let message = format!("the variant `{name}` would be called {both}, as the image is");
            let problem = Problem::new("E-SPEC-DUPLICATE", span, message);
            return Err(fail(vec![problem.expected("expected a `name` or `tags` of its own")]));
        }
        Ok(target)
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
