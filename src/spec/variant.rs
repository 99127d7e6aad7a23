//! `[variant.NAME]`: the image with something else on top.

use super::target::Span;
use super::tree::Fields;

/// The names of the variants, and where they are written.
pub(super) fn names(root: &Fields) -> impl Iterator<Item = (&str, &Span)> {
    let variants = root.table("variant").map(|variants| &variants.entries[..]).unwrap_or_default();
    variants.iter().map(|(name, span, _)| (name.as_str(), span))
}

/// The file as if `[image]` were the variant of this name; nothing when there is none.
///
/// What is one value, or a list of strings, takes the place of the image's. Tables of strings are put together, a name of
/// the variant's before the same of the image's; users and layers follow those of the image.
pub(super) fn merge(root: &Fields, name: &str) -> Option<Fields> {
    let variant = root.table("variant")?.table(name)?;
    let mut merged = Fields { span: root.span.clone(), broken: root.broken, entries: Vec::new() };
    merged.entries.extend(root.entries.iter().filter(|(key, ..)| key != "variant").cloned());
    let mut image = root.table("image").cloned().unwrap_or_default();
    for (key, span, node) in &variant.entries {
        match key.as_str() {
            "layer" => merged.add(key, span, node.clone()),
            "env" | "labels" | "annotations" | "users" => image.add(key, span, node.clone()),
            _ => image.put(key, span, node.clone()),
        }
    }
    if let Some((_, _, node)) = merged.entries.iter_mut().find(|(key, ..)| key == "image") {
        node.value = super::tree::Value::Fields(image);
    }
    Some(merged)
}
