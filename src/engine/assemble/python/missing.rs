//! What the environments of a finished image lack: interpreters, projects, and what distributions need.

use std::collections::{BTreeMap, BTreeSet};

use dmoci_layers::SafePath;

use super::{Environment, Environments};
use crate::diagnostic::{Failure, Place, few};
use crate::inputs::base::{Node, Tree};
use crate::inputs::python::interpreter;
use crate::inputs::python::name::Name;
use crate::inputs::python::needs::{Present, Unmet, unmet};
use crate::inputs::python::version;
use crate::oci::platform::Platform;

/// How many needs of one environment are told one by one.
const TOLD: usize = 20;

/// How many versions or interpreters that are there are told of.
const VERSIONS: usize = 3;

/// A file that says where else Python looks, and which says nothing of the kind.
const SETUPTOOLS: &str = "distutils-precedence.pth";

impl Environments {
    /// What is to be said of what is missing, and where in the spec. `tree` is that of all layers, `variables` the environment
    /// variables that containers start with.
    pub(in super::super) fn missing(
        &self,
        tree: &Tree,
        variables: &[String],
        platform: &Platform,
    ) -> Result<Vec<(String, Place)>, Failure> {
        // What stands there comes before everything else, and may be anything.
        let elsewhere = variables.iter().any(|line| line.starts_with("PYTHONPATH="));
        let mut said = Vec::new();
        let libraries = tree.libraries();
        for (folder, environment) in &self.0 {
            said.extend(environment.interpreter(tree, platform)?);
            let Some(found) = environment.found(tree) else { continue };
            let left_out = environment.left_out.iter().filter(|(name, ..)| !found.present.contains_key(name));
            said.extend(environment.lacking(tree, &found, &libraries));
            said.extend(left_out.map(|(_, note, at)| (note.clone(), at.clone())));
            if !elsewhere {
                said.extend(environment.unmet(folder, &found));
            }
        }
        Ok(said)
    }
}

impl Environment {
    /// What is to be said of an interpreter that the image lacks though it has others. One without any is for a Python that
    /// comes from elsewhere.
    fn interpreter(&self, tree: &Tree, platform: &Platform) -> Result<Option<(String, Place)>, Failure> {
        let path = &self.python.interpreter;
        let real = tree.resolve(path, true);
        if real.is_ok_and(|real| matches!(tree.get(&real), Some(Node::Other))) {
            return Ok(None);
        }
        let others = interpreter::there(tree, platform)?;
        if others.is_empty() {
            return Ok(None);
        }
        let others: Vec<String> = others.iter().take(VERSIONS).map(ToString::to_string).collect();
        let message =
            format!("the interpreter {path} is not in the image, where there is {}", others.join(", "));
        Ok(Some((message, self.at.clone())))
    }

    /// What is to be said of libraries that wheels need and that are nowhere in the image. Of a Python that comes from elsewhere the
    /// libraries do, too.
    fn lacking(&self, tree: &Tree, found: &Found, there: &BTreeSet<&[u8]>) -> Vec<(String, Place)> {
        let real = tree.resolve(&self.python.interpreter, true);
        if !real.is_ok_and(|real| matches!(tree.get(&real), Some(Node::Other))) {
            return Vec::new();
        }
        let projects = self.projects.iter().filter(|(name, _)| found.present.contains_key(name));
        let lacking = projects.filter_map(|(_, project)| {
            let all: Vec<(&str, &str)> = project.linked.lacking(there).collect();
            let (_, file) = all.first()?;
            let names = few(all.iter().map(|(library, _)| library));
            let are = if all.len() == 1 { "is" } else { "are" };
            let message =
                format!("{} needs {names} (for {file}), which {are} nowhere in the image", project.wheel);
            Some((message, project.at.clone()))
        });
        lacking.take(TOLD).collect()
    }

    fn unmet(&self, folder: &SafePath, found: &Found) -> Vec<(String, Place)> {
        // What a later layer took away needs nothing.
        let needs: BTreeMap<&Name, &[String]> = self
            .projects
            .iter()
            .filter(|(name, _)| found.present.contains_key(name))
            .map(|(name, project)| (name, project.requires.as_slice()))
            .collect();
        let mut unmet = unmet(&self.python, &needs, &found.present, &self.extras);
        // Elsewhere there may be what is not here.
        unmet.retain(|one| !found.open || !one.found.is_empty());
        let place = if folder.is_root() { self.scheme.site() } else { folder };
        let more = unmet.len().saturating_sub(TOLD);
        let mut said: Vec<(String, Place)> = unmet
            .iter()
            .take(TOLD)
            .filter_map(|one| Some((told(one, place), self.projects.get(&one.by)?.at.clone())))
            .collect();
        if let (true, Some((_, at))) = (more > 0, said.last()) {
            said.push((format!("{more} more needs of what is in {place} are not met"), at.clone()));
        }
        said
    }

    /// The distributions in the folder for them; nothing when there is no such folder.
    fn found(&self, tree: &Tree) -> Option<Found> {
        let site = tree.resolve(self.scheme.site(), true).ok()?;
        let mut found = Found { present: Present::new(), open: self.open };
        for path in tree.children(&site) {
            let Ok(text) = std::str::from_utf8(path.name()) else { continue };
            // What a wheel gives of these leads nowhere else.
            found.open |= text.ends_with(".pth") && text != SETUPTOOLS && !self.files.contains_key(&path);
            let Some(stem) = text.strip_suffix(".dist-info").or_else(|| text.strip_suffix(".egg-info"))
            else {
                continue;
            };
            let mut parts = stem.split('-');
            let Some(name) = parts.next().and_then(Name::parse) else { continue };
            found.present.entry(name).or_default().push(parts.next().and_then(version::version));
        }
        Some(found)
    }
}

/// What is there of distributions.
struct Found {
    present: Present,
    /// There may be more in other folders that Python looks into.
    open: bool,
}

fn told(unmet: &Unmet, place: &SafePath) -> String {
    let Unmet { by, name, need, found } = unmet;
    let mut versions: Vec<String> = found.iter().take(VERSIONS).map(ToString::to_string).collect();
    if found.len() > VERSIONS {
        versions.push("…".into());
    }
    match versions.is_empty() {
        true => format!("{by} needs {need}, and there is no {name} in {place}"),
        false => format!("{by} needs {need}, and there is {name} {} in {place}", versions.join(", ")),
    }
}
