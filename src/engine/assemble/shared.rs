//! Layers that several machines make: the keys under which they find those of each other.

use dmoci_layers::{Digest, Layer};

use super::error::BuildError;
use super::key::LayerKey;
use super::merge::Merge;
use super::plan::LayerPlan;
use crate::spec::target::{Compression, Target};

/// Layers that several machines make, by keys of what they hold.
pub trait Shared: Sync {
    /// The key of a layer for other machines, by its key here, when that is known.
    fn key(&self, own: &Digest) -> Option<Digest>;
    /// The key of a layer for other machines is this one.
    fn learn(&self, own: &Digest, key: &Digest);
    /// The layer, when another machine made it and its blob can be had: from now on in the output.
    fn take(&self, key: &Digest) -> Option<Made>;
    /// A layer of this build that other machines may have.
    fn give(&self, key: Digest, made: &Made);
    /// Whether any are given.
    fn gives(&self) -> bool;
}

/// A layer as it was made, and what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The layer.
    pub layer: Layer,
    /// Strings that were to be substituted and are nowhere, by the numbers of their table and in it.
    pub unused: Vec<(usize, usize)>,
}

/// Gives a layer that an earlier build made to other machines, where any are given.
pub(super) fn give(
    plan: &LayerPlan,
    target: &Target,
    made: &Made,
    shared: &dyn Shared,
) -> Result<(), BuildError> {
    if shared.gives()
        && let Some(key) = shared_key(plan, target, shared)?
    {
        shared.give(key, made);
    }
    Ok(())
}

/// The key of a layer for other machines.
pub(super) fn shared_key(
    plan: &LayerPlan,
    target: &Target,
    shared: &dyn Shared,
) -> Result<Option<Digest>, BuildError> {
    let Some(own) = &plan.key else { return Ok(None) };
    if let Some(known) = shared.key(own) {
        return Ok(Some(known));
    }
    let key = of_contents(plan, target.compression)?;
    if let Some(key) = &key {
        shared.learn(own, key);
    }
    Ok(key)
}

/// The key under which other machines find a layer that can be written. Contents of the project are read for it.
///
/// Nothing for a layer that has no key here: one of its inputs may change without a trace.
fn of_contents(plan: &LayerPlan, compression: Compression) -> Result<Option<Digest>, BuildError> {
    if plan.key.is_none() {
        return Ok(None);
    }
    let mut key = LayerKey::of_contents(compression);
    key.spliced(plan.spliced);
    let at = |origins: &[usize], mut error: BuildError| {
        error.places.extend(plan.places(origins));
        error
    };
    let mut merge = Merge::new(&plan.name, &plan.origins).map_err(|(origins, error)| at(&origins, error))?;
    while let Some(merged) = merge.next().map_err(|(origins, error)| at(&origins, error))? {
        let read = key.add_read(&merged.item);
        read.map_err(|error| at(&[merged.origin], error.into()))?;
    }
    for (table, _) in &plan.substitutions {
        key.substitution(table);
    }
    Ok(key.finish())
}
