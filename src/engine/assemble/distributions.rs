//! What `python` and `wheel` entries of a layer give.

use std::collections::BTreeSet;

use dmoci_layers::SafePath;

use super::error::{BuildError, BuildErrorKind};
use super::locked;
use super::merge::Apart;
use super::plan::{Context, LARGE, numbers};
use super::python::{self, Environments};
use crate::diagnostic::Place;
use crate::inputs::Item;
use crate::inputs::python::filename::WheelName;
use crate::inputs::python::wheel::{Shelf, Wheel};
use crate::inputs::python::{Location, Own};
use crate::spec::target;

/// What is worth saying, and where in the spec.
type Said = (String, Place);

/// The entries of a wheel, and what it is when it may be a layer of its own.
type Given = (Vec<Item>, Option<Apart>);

impl Context<'_> {
    /// What a lock file names, and what is worth saying about it.
    pub(super) fn python(
        &self,
        entry: &target::Python,
        environments: &mut Environments,
    ) -> Result<(Vec<Given>, Vec<Said>), BuildError> {
        let variable = |name: &str| self.variable(name);
        let at_lock = (self.locate)(&entry.lock.span, "");
        let place = python::Place {
            environment: &entry.environment,
            owner: numbers(&entry.owner),
            replace: entry.replace,
            platform: self.image.0,
            tree: self.tree,
            at: &at_lock,
            variable: &variable,
            shelf: Shelf::of(self.site),
        };
        let target = environments.python(place)?.clone();
        if self.tree.is_lacking() {
            // Nothing is asked for a Python that may be another one.
            return Err(BuildErrorKind::Base("too little is known of it".into()).into());
        }
        let asker = locked::Asker {
            python: entry,
            target: &target,
            platform: self.image.0,
            layer: self.layer,
            place: &at_lock,
            given: self.given.contains(&python::key(&entry.environment)),
        };
        let locked::Found { wheels, notes, extras, left_out } = locked::wheels(self.site, &asker)?;
        environments.asks(place, extras)?;
        for locked in &wheels {
            if let Location::Path(_) = locked.planned.location {
                locked::check_project(self.site, &locked.wheel, &target)?;
            }
        }
        if let Some((project, note)) = left_out {
            environments.left_out(place, project, note)?;
        }
        let asked = wheels.into_iter().map(|locked| python::Asked {
            own: locked.planned.location == Location::Own,
            requested: locked.planned.requested,
            url: locked
                .planned
                .direct
                .then(|| locked::direct_url(&locked.planned.location, locked.wheel.name.as_str())),
            wheel: locked.wheel,
            at: locked.planned.place,
        });
        let asked: Vec<python::Asked> = asked.collect();
        let apart = apart(&asked, entry.own_layers);
        let lists = environments.install(place, asked)?;
        // Before the wheels there may be what makes the environment.
        let mut apart = vec![None; lists.len() - apart.len()].into_iter().chain(apart);
        let lists = lists.into_iter().map(|items| (items, apart.next().flatten())).collect();
        Ok((lists, notes.into_iter().map(|note| (note, at_lock.clone())).collect()))
    }

    pub(super) fn wheel(
        &self,
        wheel: &target::Wheel,
        environments: &mut Environments,
    ) -> Result<Vec<Vec<Item>>, BuildError> {
        let asked = match (&wheel.source, self.site.own) {
            (Some(source), _) => {
                let path = source.path.as_path();
                let wheel = Wheel::of_project(Shelf::of(self.site), path)?;
                python::Asked {
                    wheel,
                    requested: true,
                    url: Some(python::file_url(path)),
                    at: None,
                    own: false,
                }
            }
            (None, Some(Own { wheel: Some(wheel), .. })) => {
                let url = locked::direct_url(&Location::Own, wheel.name.as_str());
                python::Asked { wheel: wheel.clone(), requested: true, url: Some(url), at: None, own: true }
            }
            // Only what is pinned plays a part, and this is not.
            (None, _) => return Ok(Vec::new()),
        };
        let place = python::Place {
            environment: &wheel.environment,
            owner: numbers(&wheel.owner),
            replace: wheel.replace,
            platform: self.image.0,
            tree: self.tree,
            at: &(self.locate)(wheel.source.as_ref().map_or(&wheel.span, |source| &source.span), ""),
            variable: &|name| self.variable(name),
            shelf: Shelf::of(self.site),
        };
        if wheel.source.is_some() {
            locked::check_project(self.site, &asked.wheel, environments.python(place)?)?;
        }
        environments.install(place, vec![asked])
    }

    /// An environment variable of the base.
    fn variable(&self, name: &str) -> Option<String> {
        self.image.1?.run.run.env.iter().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }
}

/// The environments that get the project's own wheel by a `wheel` entry of some layer.
pub(super) fn given(target: &target::Target, own: Option<&Own>) -> BTreeSet<SafePath> {
    let name = own.and_then(|own| own.wheel.as_ref()).map(|wheel| &wheel.name.name);
    let gives = |wheel: &target::Wheel| match &wheel.source {
        None => true,
        Some(source) => {
            let file = source.path.as_path().file_name().and_then(|file| file.to_str()).unwrap_or_default();
            WheelName::parse(file).is_ok_and(|file| Some(&file.name) == name)
        }
    };
    let inputs = target.layers.iter().flat_map(|layer| &layer.inputs);
    let wheels = inputs.filter_map(|input| match input {
        target::Input::Wheel(wheel) if gives(wheel) => Some(python::key(&wheel.environment)),
        _ => None,
    });
    wheels.collect()
}

/// Which of the wheels may be layers of their own: the largest, at most so many.
fn apart(wheels: &[python::Asked], most: usize) -> Vec<Option<Apart>> {
    let mut sizes: Vec<(u64, usize)> =
        wheels.iter().enumerate().map(|(number, asked)| (asked.wheel.size(), number)).collect();
    sizes.retain(|(size, _)| *size >= LARGE);
    // Of equal ones the first by name.
    sizes.sort_by_key(|(size, number)| (std::cmp::Reverse(*size), *number));
    let mut apart = vec![None; wheels.len()];
    for (weight, number) in sizes.into_iter().take(most) {
        let name = wheels[number].wheel.name.name.to_string();
        apart[number] = Some(Apart { name, weight });
    }
    apart
}
