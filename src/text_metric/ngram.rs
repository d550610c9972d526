//! Counts of n-grams, over words or characters alike.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each run of `order` consecutive items occurs; empty if there are fewer items.
///
/// `order` is at least 1.
pub(super) fn counts<T: Eq + Hash>(items: &[T], order: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for ngram in items.windows(order) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}

/// How many n-grams two counts share: the size of their multiset intersection.
pub(super) fn n_shared<T: Eq + Hash>(
    left: &HashMap<&[T], usize>,
    right: &HashMap<&[T], usize>,
) -> usize {
    left.iter()
        .map(|(ngram, count)| right.get(ngram).map_or(0, |other| *count.min(other)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "abab" has the bigrams ab, ba, ab; "abb" has ab, bb; they share one ab.
    #[test]
    fn shared_ngrams_count_once_per_occurrence_on_both_sides() {
        let left = counts(b"abab", 2);
        let right = counts(b"abb", 2);
        assert_eq!(left[b"ab".as_slice()], 2);
        assert_eq!(n_shared(&left, &right), 1);
        assert!(counts(b"ab", 3).is_empty());
    }
}
