//! One layer as several: what is large and changes on its own is a layer of its own, so that a change of something else leaves
//! it as it is, in caches, in registries and on the machines that have the image.

use super::LayerPlan;
use super::walk::{Put, Way, walk};
use crate::engine::assemble::error::BuildError;
use crate::engine::assemble::key::LayerKey;
use crate::engine::assemble::merge::Origin;
use crate::inputs::Site;
use crate::inputs::base::Tree;
use crate::spec::target::Compression;

/// A wheel whose files have fewer bytes together has no layer of its own.
pub(in crate::engine::assemble) const LARGE: u64 = 4 << 20;

/// The most layers that an image has because of this. Docker's storage takes 127.
const LAYERS: usize = 100;

/// How many layers may be added to those below and those of the spec.
pub(super) fn room(below: usize, own: usize) -> usize {
    LAYERS.saturating_sub(below + own)
}

/// The layer in parts, from the bottom up: what is a layer of its own, the heaviest first, and the rest.
///
/// The parts together are what the one layer would be. What stands in the place of something that another input gives is with the
/// rest, above all others, and so is at least something.
pub(super) fn parts(
    mut plan: LayerPlan,
    tree: &mut Tree,
    way: &mut Way<'_>,
    site: &Site<'_>,
    room: &mut usize,
) -> Result<Vec<LayerPlan>, BuildError> {
    let mut apart = candidates(&plan.origins, *room);
    if apart.is_empty() {
        return Ok(vec![plan]);
    }
    // All of it together, for its conflicts and for what it takes away; nothing is put into the tree.
    let prevailed = together(&plan, tree, way, site)?;
    apart.retain(|number| !prevailed[*number]);
    *room -= apart.len();
    let mut parts: Vec<LayerPlan> = Vec::with_capacity(apart.len() + 1);
    for number in &apart {
        let origin = plan.origins[*number].clone();
        let Some(what) = &origin.apart else { continue };
        let called = format!("{}: {}", plan.name, what.name);
        let same = parts.iter().filter(|part| is_called(part, &called)).count();
        let name = if same == 0 { called } else { format!("{called} ({})", same + 1) };
        let places = plan.places.clone();
        parts.push(LayerPlan { origins: vec![origin], places, ..LayerPlan::new(&name) });
    }
    let mut number = 0;
    plan.origins.retain(|_| {
        number += 1;
        !apart.contains(&(number - 1))
    });
    parts.push(plan);
    Ok(parts)
}

fn is_called(part: &LayerPlan, name: &str) -> bool {
    part.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
}

/// The numbers of the origins that may be layers of their own, the heaviest first.
fn candidates(origins: &[Origin], room: usize) -> Vec<usize> {
    let weighed =
        |(number, origin): (usize, &Origin)| origin.apart.as_ref().map(|apart| (number, apart.clone()));
    let mut apart: Vec<_> = origins.iter().enumerate().filter_map(weighed).collect();
    apart.sort_by(|(_, a), (_, b)| b.weight.cmp(&a.weight).then_with(|| a.name.cmp(&b.name)));
    // Something is left for the layer itself.
    apart.truncate(room.min(origins.len().saturating_sub(1)));
    apart.into_iter().map(|(number, _)| number).collect()
}

/// Which origins give something in the place of something else. What the layer gives is noted in `way`.
fn together(
    plan: &LayerPlan,
    tree: &mut Tree,
    way: &mut Way<'_>,
    site: &Site<'_>,
) -> Result<Vec<bool>, BuildError> {
    let mut key = LayerKey::new(site, Compression::None);
    let mut given = vec![false; plan.places.len()];
    let put = std::mem::replace(&mut way.put, Put::Nothing);
    let walked = walk(plan, tree, way, &mut key, &mut given);
    way.put = put;
    Ok(walked?.prevailed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::assemble::merge::{Apart, Rank, Source};

    fn origins(weights: &[u64]) -> Vec<Origin> {
        let origin = |(number, weight): (usize, &u64)| {
            let apart = (*weight > 0).then(|| Apart { name: format!("w{number}"), weight: *weight });
            let source = Source::List(Vec::new().into());
            Origin { input: Some(0), rank: Rank::Destination, replace: false, source, apart }
        };
        weights.iter().enumerate().map(origin).collect()
    }

    #[test]
    fn the_heaviest_first_and_something_is_left() {
        assert_eq!(candidates(&origins(&[0, 5, 9, 0, 5]), 9), [2, 1, 4]);
        assert_eq!(candidates(&origins(&[0, 5, 9, 0, 5]), 2), [2, 1]);
        assert_eq!(candidates(&origins(&[5, 9]), 9), [1]);
        for (weights, room) in [(&[][..], 9), (&[7], 9), (&[0, 0], 9), (&[0, 9], 0)] {
            assert!(candidates(&origins(weights), room).is_empty(), "{weights:?}");
        }
    }

    #[test]
    fn images_have_a_bounded_number_of_layers() {
        assert_eq!((room(0, 1), room(90, 9), room(90, 10), room(200, 1)), (99, 1, 0, 0));
    }
}
