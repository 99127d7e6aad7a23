//! Which layer of one image belongs to which of another.

use dmoci_layers::Digest;

/// Up to so many pairs of layers are weighed against each other; longer stacks are paired by name and number.
const WEIGHED: usize = 1 << 20;

/// Positions that belong together, from the bottom up; a layer without a counterpart stands alone. Layers of one content are paired, as many as possible without crossing; between them those of one name;
/// between these those of one place.
pub(super) fn align(
    left: (&[Digest], &[Option<String>]),
    right: (&[Digest], &[Option<String>]),
) -> Vec<(Option<usize>, Option<usize>)> {
    let same = |l: usize, r: usize| left.0[l] == right.0[r];
    let named = |l: usize, r: usize| matches!((left.1.get(l), right.1.get(r)), (Some(Some(l)), Some(Some(r))) if l == r);
    let whole = Range { left: (0, left.0.len()), right: (0, right.0.len()) };
    let mut pairs = Vec::new();
    for step in whole.steps(&same) {
        let inner = match step {
            Step::Pair(..) => vec![step],
            Step::Gap(gap) => gap.steps(&named),
        };
        for step in inner {
            match step {
                Step::Pair(l, r) => pairs.push((Some(l), Some(r))),
                Step::Gap(gap) => gap.by_place(&mut pairs),
            }
        }
    }
    pairs
}

/// What comes next in both stacks.
enum Step {
    /// Two layers that belong together.
    Pair(usize, usize),
    /// Layers that are still to be paired.
    Gap(Range),
}

/// A part of both stacks, ends excluded.
#[derive(Clone, Copy)]
struct Range {
    left: (usize, usize),
    right: (usize, usize),
}

impl Range {
    /// The longest common subsequence by `same`, and the parts between.
    fn steps(self, same: &dyn Fn(usize, usize) -> bool) -> Vec<Step> {
        let (l0, l1) = self.left;
        let (r0, r1) = self.right;
        let (n, m) = (l1 - l0, r1 - r0);
        let mut anchors = Vec::new();
        if n.saturating_mul(m) <= WEIGHED {
            // lengths[i][j]: of the longest common subsequence of what is left from i and j on.
            let mut lengths = vec![0u32; (n + 1) * (m + 1)];
            for i in (0..n).rev() {
                for j in (0..m).rev() {
                    lengths[i * (m + 1) + j] = match same(l0 + i, r0 + j) {
                        true => lengths[(i + 1) * (m + 1) + j + 1] + 1,
                        false => lengths[(i + 1) * (m + 1) + j].max(lengths[i * (m + 1) + j + 1]),
                    };
                }
            }
            let (mut i, mut j) = (0, 0);
            while i < n && j < m {
                if same(l0 + i, r0 + j) {
                    anchors.push((l0 + i, r0 + j));
                    (i, j) = (i + 1, j + 1);
                } else if lengths[(i + 1) * (m + 1) + j] >= lengths[i * (m + 1) + j + 1] {
                    i += 1;
                } else {
                    j += 1;
                }
            }
        } else {
            anchors.extend((0..n.min(m)).map(|i| (l0 + i, r0 + i)).filter(|&(l, r)| same(l, r)));
        }
        let mut steps = Vec::with_capacity(2 * anchors.len() + 1);
        let (mut l, mut r) = (l0, r0);
        for (al, ar) in anchors {
            steps.push(Step::Gap(Range { left: (l, al), right: (r, ar) }));
            steps.push(Step::Pair(al, ar));
            (l, r) = (al + 1, ar + 1);
        }
        steps.push(Step::Gap(Range { left: (l, l1), right: (r, r1) }));
        steps
    }

    /// Pairs what is left by place.
    fn by_place(self, pairs: &mut Vec<(Option<usize>, Option<usize>)>) {
        let (n, m) = (self.left.1 - self.left.0, self.right.1 - self.right.0);
        for i in 0..n.max(m) {
            let l = (i < n).then_some(self.left.0 + i);
            let r = (i < m).then_some(self.right.0 + i);
            pairs.push((l, r));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layers as `content:name` words.
    fn aligned(left: &str, right: &str) -> String {
        let side = |text: &str| -> (Vec<Digest>, Vec<Option<String>>) {
            let words = text.split_whitespace().map(|word| word.split_once(':').unwrap_or((word, "")));
            words
                .map(|(content, name)| {
                    (Digest::sha256(content.as_bytes()), (!name.is_empty()).then(|| name.to_owned()))
                })
                .unzip()
        };
        let (left, right) = (side(left), side(right));
        let pairs = align((&left.0, &left.1), (&right.0, &right.1));
        let show = |side: Option<usize>| side.map_or("-".to_owned(), |n| n.to_string());
        pairs.into_iter().map(|(l, r)| format!("{}{}", show(l), show(r))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_content_then_name_then_place() {
        assert_eq!(aligned("a b c", "a b c"), "00 11 22");
        assert_eq!(aligned("a b c", "a x c"), "00 11 22");
        assert_eq!(aligned("a b", "a n b"), "00 -1 12");
        assert_eq!(aligned("a n b", "a b"), "00 1- 21");
        assert_eq!(aligned("a:os b:app", "x:new a:os c:app"), "-0 01 12");
        assert_eq!(aligned("1:os 2:deps 3:app", "4:os 5:app"), "00 1- 21");
        assert_eq!(aligned("", "a b"), "-0 -1");
        assert_eq!(aligned("a b", ""), "0- 1-");
        assert_eq!(aligned("x y", "z"), "00 1-");
        // Crossing: one of them is told as moved.
        assert_eq!(aligned("a b", "b a"), "0- 10 -1");
    }

    #[test]
    fn hostile_numbers_of_layers_are_paired_by_place() {
        let many: Vec<Digest> = (0..3000u32).map(|i| Digest::sha256(&i.to_le_bytes())).collect();
        let mut other = many.clone();
        other[7] = Digest::sha256(b"other");
        let pairs = align((&many, &[]), (&other, &[]));
        assert_eq!(pairs.len(), 3000);
        assert!(pairs.iter().enumerate().all(|(i, pair)| *pair == (Some(i), Some(i))));
    }
}
