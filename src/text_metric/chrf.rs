//! chrF and chrF++: shared character n-grams, and for chrF++ word n-grams too.
//!
//! Source: Popović 2015 and 2017. Numbers equal sacrebleu 2.6.0's defaults: F with
//! beta 2 of the precision and the recall averaged over the orders that both texts
//! have; characters of orders 1 to 6 without white space; for chrF++ also words of
//! orders 1 and 2.
//!
//! A case's statistics are `[n_ngrams, n_reference_ngrams, n_shared]` for each order,
//! characters first, against the one reference with the best score.

use std::collections::HashMap;
use std::hash::Hash;

use super::{ngram, python_text};

const MAX_CHARACTER_ORDER: usize = 6;

/// Recall weighs beta squared times as much as precision, with beta 2.
const BETA_SQUARED: f64 = 4.0;

/// chrF or chrF++.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// Characters only.
    Chrf,
    /// Characters, words and pairs of words.
    ChrfPlusPlus,
}

impl Variant {
    /// How many statistics a case has.
    pub(super) fn n_statistics(self) -> usize {
        3 * (MAX_CHARACTER_ORDER + self.max_word_order())
    }

    /// The largest order of word n-grams.
    pub(super) fn max_word_order(self) -> usize {
        match self {
            Variant::Chrf => 0,
            Variant::ChrfPlusPlus => 2,
        }
    }
}

/// The statistics of one case: of the first reference with the best score.
///
/// All zeros without a reference.
pub(super) fn statistics(variant: Variant, hypothesis: &str, references: &[String]) -> Vec<f64> {
    let hypothesis = Units::of(hypothesis);
    let mut best = vec![0.0; variant.n_statistics()];
    let mut best_score = -1.0;
    for reference in references {
        let statistics = hypothesis.compare(&Units::of(reference), variant);
        let score = score(&statistics);
        if best_score < score {
            (best, best_score) = (statistics, score);
        }
    }
    best
}

/// chrF or chrF++ in points, 0 to 100, from the sum of cases' statistics.
///
/// Orders that the text or the reference is too short for are left out; without any
/// order, as for an empty text, the score is 0.
pub(super) fn score(statistics: &[f64]) -> f64 {
    let (mut precision, mut recall, mut n_orders) = (0.0, 0.0, 0.0);
    for order in statistics.chunks_exact(3) {
        let (n_ngrams, n_reference_ngrams, n_shared) = (order[0], order[1], order[2]);
        if 0.0 < n_ngrams && 0.0 < n_reference_ngrams {
            precision += n_shared / n_ngrams;
            recall += n_shared / n_reference_ngrams;
            n_orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / n_orders, recall / n_orders);
    100.0 * (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
}

/// What a text is made of: its characters without white space, and its words.
struct Units<'t> {
    characters: Vec<char>,
    words: Vec<&'t str>,
}

impl<'t> Units<'t> {
    fn of(text: &'t str) -> Units<'t> {
        Units {
            characters: text
                .chars()
                .filter(|c| !python_text::is_space(*c))
                .collect(),
            words: python_text::words(text).flat_map(split_mark).collect(),
        }
    }

    fn compare(&self, reference: &Units, variant: Variant) -> Vec<f64> {
        let mut statistics = Vec::with_capacity(variant.n_statistics());
        for order in 1..=MAX_CHARACTER_ORDER {
            let of_text = ngram::counts(&self.characters, order);
            statistics.extend(order_statistics(
                &of_text,
                &ngram::counts(&reference.characters, order),
            ));
        }
        for order in 1..=variant.max_word_order() {
            let of_text = ngram::counts(&self.words, order);
            statistics.extend(order_statistics(
                &of_text,
                &ngram::counts(&reference.words, order),
            ));
        }
        statistics
    }
}

/// `[n_ngrams, n_reference_ngrams, n_shared]` of one order.
///
/// The text's n-grams count as none where the reference has none, so that a corpus
/// does not pay for references too short for an order.
fn order_statistics<T: Eq + Hash>(
    hypothesis: &HashMap<&[T], usize>,
    reference: &HashMap<&[T], usize>,
) -> [f64; 3] {
    let n_ngrams = if reference.is_empty() {
        0
    } else {
        hypothesis.values().sum::<usize>()
    };
    let n_reference_ngrams = reference.values().sum::<usize>();
    [
        n_ngrams as f64,
        n_reference_ngrams as f64,
        ngram::n_shared(hypothesis, reference) as f64,
    ]
}

/// `word` with one ASCII punctuation mark split off: the last character, else the first.
///
/// Only one: `(hi)` becomes `(hi` and `)`, as in sacrebleu (its issue 124).
fn split_mark(word: &str) -> impl Iterator<Item = &str> {
    let is_mark = |c: char| c.is_ascii_punctuation();
    // ASCII marks are one byte long. A word that is one mark stays whole.
    let (left, right) = if word.len() == 1 {
        (word, "")
    } else if word.ends_with(is_mark) {
        word.split_at(word.len() - 1)
    } else if word.starts_with(is_mark) {
        word.split_at(1)
    } else {
        (word, "")
    };
    [left, right].into_iter().filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    const VARIANTS: [(&str, Variant); 2] =
        [("chrf", Variant::Chrf), ("chrf++", Variant::ChrfPlusPlus)];

    /// sacrebleu 2.6.0, `CHRF().sentence_score` and `CHRF(word_order=2).sentence_score`.
    #[test]
    fn sentence_chrf_equals_sacrebleu() {
        for (name, variant) in VARIANTS {
            goldens::hold(name, |case| {
                score(&statistics(variant, &case.hypothesis, &case.references))
            });
        }
    }

    /// sacrebleu 2.6.0, `CHRF`: segment statistics, and `corpus_score` of many and one.
    #[test]
    fn corpus_chrf_equals_sacrebleu() {
        for (name, variant) in VARIANTS {
            goldens::hold_corpora(
                name,
                |case| statistics(variant, &case.hypothesis, &case.references),
                score,
            );
        }
    }

    /// By hand from the rule in [`split_mark`].
    #[test]
    fn one_mark_is_split_off_a_word() {
        let table: &[(&str, &[&str])] = &[
            ("(hi)", &["(hi", ")"]),
            ("(hi", &["(", "hi"]),
            ("!", &["!"]),
            ("?!", &["?", "!"]),
            ("é", &["é"]),
            ("«é»", &["«é»"]),
        ];
        for (word, expected) in table {
            assert_eq!(split_mark(word).collect::<Vec<_>>(), *expected, "{word}");
        }
    }
}
