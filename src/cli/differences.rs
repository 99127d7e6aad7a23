//! The differences of two images, as people read them.

use crate::engine::diff::{Counts, Diff, Difference, Field, LayerOutcome, LayerPair, Part};

use super::count;

/// How the two images are called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) left: &'static str,
    pub(super) right: &'static str,
}

/// Differences that are told one by one to people, and in JSON.
pub(super) const TOLD: (usize, usize) = (50, 10_000);

/// Values up to so many characters stand in one line.
const SHORT: usize = 48;

/// Every difference with its place, and what is left out.
pub(super) fn lines(diff: &Diff, names: Names) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = None;
    for difference in &diff.differences {
        let place = place(difference);
        if last.as_ref() != Some(&place) {
            lines.push(place.clone());
            last = Some(place);
        }
        lines.extend(values(difference, names).iter().map(|line| format!("  {line}")));
    }
    if diff.more > 0 {
        lines.push(format!("and {} more", diff.more));
    }
    lines
}

/// How each layer fares that is not the same, a line each.
pub(super) fn summary(diff: &Diff, names: Names) -> Vec<String> {
    diff.layers.iter().filter_map(|pair| layer(pair, names)).collect()
}

/// Where a difference is, without the field.
fn place(difference: &Difference) -> String {
    let of = difference.image.as_ref().map(|image| format!(" of {image}")).unwrap_or_default();
    match &difference.part {
        Part::Index => format!("index{of}"),
        Part::Manifest => format!("manifest{of}"),
        Part::Config => format!("config{of}"),
        Part::Layer(layer) => format!("{}{of}", layer.words()),
        Part::Path(layer, path) => format!("{}{of}: {path}", layer.words()),
        Part::File(name) => name.clone(),
    }
}

/// The field with both its values.
fn values(difference: &Difference, names: Names) -> Vec<String> {
    let Names { left, right } = names;
    let what = match &difference.field {
        Field::Value(pointer) => pointer.clone(),
        Field::Xattr(name) => format!("xattr {name}"),
        Field::Compression => "same content, recompressed".into(),
        Field::Form => "says the same in another form".into(),
        field => field.name().to_owned(),
    };
    let what = match difference.offset {
        Some(offset) => format!("{what}, from byte {offset}"),
        None => what,
    };
    match (&difference.left, &difference.right) {
        (Some(l), Some(r)) if l.chars().count().max(r.chars().count()) <= SHORT => {
            vec![format!("{what}: {left} {l}, {right} {r}")]
        }
        (Some(l), Some(r)) => {
            let width = left.len().max(right.len());
            vec![what, format!("  {left:<width$} {l}"), format!("  {right:<width$} {r}")]
        }
        (l, r) => {
            let (side, value) = match (l, r) {
                (Some(value), _) => (left, value.as_str()),
                (None, value) => (right, value.as_deref().unwrap_or_default()),
            };
            let what = match difference.field {
                Field::Presence => String::new(),
                _ => format!("{what} "),
            };
            let below = match difference.below {
                0 => String::new(),
                below => format!(", with {} below it", count(below as usize, "path", "paths")),
            };
            vec![format!("{what}only {side}: {value}{below}")]
        }
    }
}

fn layer(pair: &LayerPair, names: Names) -> Option<String> {
    let outcome = match pair.outcome {
        LayerOutcome::Same => return None,
        LayerOutcome::Recompressed => "same content, recompressed".into(),
        LayerOutcome::Different(counts) if counts == Counts::default() => {
            "same entries in another form".into()
        }
        LayerOutcome::Different(counts) => {
            format!("{} added, {} removed, {} changed", counts.added, counts.removed, counts.changed)
        }
        LayerOutcome::OnlyLeft => format!("only {}", names.left),
        LayerOutcome::OnlyRight => format!("only {}", names.right),
        LayerOutcome::Opaque => "different".into(),
    };
    Some(format!("{} of {}: {outcome}", pair.place.words(), pair.image))
}
