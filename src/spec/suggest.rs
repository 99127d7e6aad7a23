//! The nearest of several names.

/// The candidate that a writer of `word` most likely meant, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) = candidates.into_iter().map(|name| (distance(word, name), name)).min()?;
    let length = word.chars().count().max(best.chars().count());
    (distance <= length.div_ceil(4).min(3) && distance < length).then_some(best)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = [vec![0; b.len() + 1], vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        rows[2][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            rows[2][j] = replaced.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                rows[2][j] = rows[2][j].min(rows[0][j - 2] + 1);
            }
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("nmae", "name", 1), ("ab", "ab", 0)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn only_near_names() {
        let names = ["name", "tags", "base", "cmd", "entrypoint", "stop-signal"];
        assert_eq!(nearest("nmae", names), Some("name"));
        assert_eq!(nearest("entry_point", names), Some("entrypoint"));
        assert_eq!(nearest("stop_signal", names), Some("stop-signal"));
        assert_eq!(nearest("zzz", names), None);
        assert_eq!(nearest("x", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
