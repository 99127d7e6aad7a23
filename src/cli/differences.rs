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

/// A pointer or path has at most so many; what is left out of its middle is `…`.
const PLACE: usize = 240;

/// Layers that are told in a line each.
const LAYERS: usize = 200;

/// Every difference with its place, and what is left out.
pub(super) fn lines(diff: &Diff, names: Names) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = None;
    for difference in &diff.differences {
        // Two places may look the same when they are cut.
        let at = (&difference.image, &difference.part);
        if last != Some(at) {
            lines.push(place(difference));
            last = Some(at);
        }
        lines.extend(values(difference, names).iter().map(|line| format!("  {line}")));
    }
    if diff.more > 0 {
        lines.push(format!("and {}", count(diff.more as usize, "more difference", "more differences")));
    }
    lines
}

/// Which documents differ, a line each.
pub(super) fn documents(diff: &Diff, names: Names) -> Vec<String> {
    let document = |part: &Part| matches!(part, Part::Index | Part::Manifest | Part::Config);
    let mut places: Vec<(String, Vec<&Difference>)> = Vec::new();
    for difference in diff.differences.iter().filter(|difference| document(&difference.part)) {
        let place = place(difference);
        match places.iter_mut().find(|(other, _)| *other == place) {
            Some((_, all)) => all.push(difference),
            None => places.push((place, vec![difference])),
        }
    }
    let line = |(place, all): (String, Vec<&Difference>)| match all[..] {
        [Difference { field: Field::Presence, left: Some(_), right: None, .. }] => {
            format!("{place}: only {}", names.left)
        }
        [Difference { field: Field::Presence, left: None, .. }] => format!("{place}: only {}", names.right),
        _ => format!("{place}: {}", count(all.len(), "difference", "differences")),
    };
    places.into_iter().map(line).collect()
}

/// How each layer fares that is not the same, a line each, and how many more there are.
pub(super) fn summary(diff: &Diff, names: Names) -> Vec<String> {
    let mut told = diff.layers.iter().filter_map(|pair| layer(pair, names));
    let mut lines: Vec<String> = told.by_ref().take(LAYERS).collect();
    match told.count() {
        0 => {}
        more => lines.push(format!("and {}", count(more, "more layer", "more layers"))),
    }
    lines
}

/// The text, without its middle when it is long.
fn middle(text: &str) -> String {
    let count = text.chars().count();
    if count <= PLACE {
        return text.to_owned();
    }
    let half = PLACE / 2;
    let (first, last) = (text.chars().take(half), text.chars().skip(count - half));
    first.chain(['…']).chain(last).collect()
}

/// Where a difference is, without the field.
fn place(difference: &Difference) -> String {
    let of = difference.image.as_ref().map(|image| format!(" of {image}")).unwrap_or_default();
    match &difference.part {
        Part::Index => format!("index{of}"),
        Part::Manifest => format!("manifest{of}"),
        Part::Config => format!("config{of}"),
        Part::Layer(layer) => format!("{}{of}", layer.words()),
        Part::Path(layer, path) => format!("{}{of}: {}", layer.words(), middle(&path.to_string())),
        Part::File(name) => middle(name),
    }
}

/// The field with both its values.
fn values(difference: &Difference, names: Names) -> Vec<String> {
    let Names { left, right } = names;
    let what = match &difference.field {
        Field::Value(pointer) => middle(pointer),
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

#[cfg(test)]
mod tests {
    use dmoci_layers::{Digest, SafePath};

    use super::*;
    use crate::engine::diff::{LayerPlace, Verdict};

    const NAMES: Names = Names { left: "left", right: "right" };

    fn diff(differences: Vec<Difference>, layers: Vec<LayerPair>) -> Diff {
        let digest = Digest::sha256(b"x");
        let (left, right) = (digest.clone(), digest);
        Diff {
            left,
            right,
            verdict: Verdict::Different,
            layers,
            differences,
            more: 3,
            manifests: [true, true],
        }
    }

    fn place(number: usize) -> LayerPlace {
        LayerPlace { left: Some(number), right: Some(number), name: None }
    }

    fn difference(part: Part, field: Field) -> Difference {
        let (left, right) = (Some("1".to_owned()), Some("2".to_owned()));
        Difference { image: None, part, field, left, right, offset: None, below: 0 }
    }

    #[test]
    fn long_places_lose_their_middle() {
        // Apart only in what is not shown.
        let path = |word: &str| {
            let path = format!("{}{word}{}", "a/".repeat(500), "z/".repeat(500));
            Part::Path(place(1), SafePath::parse(path.as_bytes()).unwrap())
        };
        let pointer = Field::Value(format!("/{}", "k".repeat(3_000_000)));
        let told = vec![
            difference(path("one"), Field::Mode),
            difference(path("two"), Field::Mode),
            difference(Part::Config, pointer),
        ];
        let shown = lines(&diff(told, Vec::new()), NAMES);
        assert_eq!(shown.len(), 7, "{shown:?}");
        assert!(shown.iter().all(|line| line.chars().count() < 300), "{shown:?}");
        assert!(shown[0].starts_with("layer 1: /a/a/") && shown[0].ends_with("/z/z"), "{shown:?}");
        assert!(shown[0] == shown[2] && shown[0].contains('…'), "{shown:?}");
        assert_eq!(shown[6], "and 3 more differences");
        assert_eq!((middle("short"), middle(&"x".repeat(PLACE))), ("short".into(), "x".repeat(PLACE)));
    }

    #[test]
    fn so_many_layers() {
        let pair = |number| LayerPair {
            image: "linux/amd64".into(),
            place: place(number),
            left: None,
            right: None,
            outcome: if number % 2 == 0 { LayerOutcome::Same } else { LayerOutcome::Recompressed },
        };
        let shown = summary(&diff(Vec::new(), (1..=3000).map(pair).collect()), NAMES);
        assert_eq!(shown.len(), LAYERS + 1);
        assert_eq!(shown[LAYERS - 1], "layer 399 of linux/amd64: same content, recompressed");
        assert_eq!(shown[LAYERS], "and 1300 more layers");
    }
}
