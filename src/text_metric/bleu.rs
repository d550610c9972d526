//! BLEU: shared word n-grams of orders 1 to 4, with a penalty for brevity.
//!
//! Source: Papineni et al. 2002, with the "exp" smoothing of NIST (Chen and Cherry
//! 2014, method 3). Numbers equal sacrebleu 2.6.0's defaults.
//!
//! A case's statistics are `[n_words, n_reference_words, correct 1..4, total 1..4]`:
//! the length of the text, the length of the reference nearest to it, and for each
//! order how many of the text's n-grams some reference has, and how many there are.

use std::collections::HashMap;

use super::{BleuTokenizer, ngram, python_text};

const MAX_ORDER: usize = 4;

/// How many statistics a case has.
pub(super) const N_STATISTICS: usize = 2 + 2 * MAX_ORDER;

/// Which n-gram orders a score averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orders {
    /// All four, so a text of fewer than four words scores 0: a corpus.
    All,
    /// Those the text is long enough for: a single sentence, as `sentence_bleu`.
    Effective,
}

/// The statistics of one case; `references` is not empty.
pub(super) fn statistics(
    tokenizer: BleuTokenizer,
    hypothesis: &str,
    references: &[String],
) -> Vec<f64> {
    let hypothesis = tokenizer.tokenize(hypothesis);
    let hypothesis: Vec<&str> = python_text::words(&hypothesis).collect();
    let references: Vec<String> = references.iter().map(|it| tokenizer.tokenize(it)).collect();
    let references: Vec<Vec<&str>> = references
        .iter()
        .map(|it| python_text::words(it).collect())
        .collect();

    // The nearest length counts; of two equally near, the shorter.
    let n_reference_words = references
        .iter()
        .map(Vec::len)
        .min_by_key(|length| (hypothesis.len().abs_diff(*length), *length))
        .unwrap_or(0);
    let mut statistics = vec![hypothesis.len() as f64, n_reference_words as f64];
    let (mut correct, mut total) = (Vec::new(), Vec::new());
    for order in 1..=MAX_ORDER {
        let ngrams = ngram::counts(&hypothesis, order);
        let allowed = most_in_one_reference(&references, order);
        correct.push(ngram::n_shared(&ngrams, &allowed) as f64);
        total.push(ngrams.values().sum::<usize>() as f64);
    }
    statistics.append(&mut correct);
    statistics.append(&mut total);
    statistics
}

/// For each n-gram, its largest count in any one reference.
fn most_in_one_reference<'a>(
    references: &'a [Vec<&'a str>],
    order: usize,
) -> HashMap<&'a [&'a str], usize> {
    let mut most = HashMap::new();
    for reference in references {
        for (ngram, count) in ngram::counts(reference, order) {
            let entry = most.entry(ngram).or_insert(0);
            *entry = count.max(*entry);
        }
    }
    most
}

/// BLEU in points, 0 to 100, from the sum of cases' statistics ([`N_STATISTICS`] numbers).
///
/// 0 if no n-gram of any order is shared.
pub(super) fn score(statistics: &[f64], orders: Orders) -> f64 {
    let (n_words, n_reference_words) = (statistics[0], statistics[1]);
    let (correct, total) = statistics[2..].split_at(MAX_ORDER);
    if correct.iter().all(|count| *count == 0.0) {
        return 0.0;
    }
    let mut log_precisions = Vec::new();
    let mut smoothing = 1.0;
    for (correct, total) in correct.iter().zip(total) {
        if *total == 0.0 {
            break;
        }
        // The k-th order without a match counts as 1 / 2^k matches.
        if *correct == 0.0 {
            smoothing *= 2.0;
        }
        let n_matches = if *correct == 0.0 {
            1.0 / smoothing
        } else {
            *correct
        };
        log_precisions.push((n_matches / total).ln());
    }
    if orders == Orders::All && log_precisions.len() < MAX_ORDER {
        return 0.0; // The missing precisions are 0, and so is their geometric mean.
    }
    // Some n-gram is shared, so there are words and there is a precision.
    let brevity_penalty = (1.0 - n_reference_words / n_words).min(0.0).exp();
    let mean = log_precisions.iter().sum::<f64>() / log_precisions.len() as f64;
    (100.0 * brevity_penalty * mean.exp()).min(100.0)
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    fn goldens_of(tokenizer: BleuTokenizer) -> String {
        format!("bleu/{}", tokenizer.name())
    }

    fn tokenizers() -> impl Iterator<Item = BleuTokenizer> {
        BleuTokenizer::ALL_NAMES
            .into_iter()
            .map(|name| name.parse().unwrap())
    }

    /// sacrebleu 2.6.0, `BLEU(tokenize=..., effective_order=True).sentence_score`.
    #[test]
    fn sentence_bleu_equals_sacrebleu() {
        for tokenizer in tokenizers() {
            goldens::hold(&goldens_of(tokenizer), |case| {
                let statistics = statistics(tokenizer, &case.hypothesis, &case.references);
                score(&statistics, Orders::Effective)
            });
        }
    }

    /// sacrebleu 2.6.0, `BLEU(tokenize=...)`: segment statistics, and `corpus_score` of many and one.
    #[test]
    fn corpus_bleu_equals_sacrebleu() {
        for tokenizer in tokenizers() {
            goldens::hold_corpora(
                &goldens_of(tokenizer),
                |case| statistics(tokenizer, &case.hypothesis, &case.references),
                |summed| score(summed, Orders::All),
            );
        }
    }

    /// By hand: "a b" against "a b c d" has 2 of 2 words and 1 of 1 bigrams, orders 3 and 4
    /// do not exist; brevity penalty exp(1 - 4/2) = exp(-1).
    #[test]
    fn a_short_text_has_a_sentence_score_but_no_corpus_score() {
        let statistics = statistics(BleuTokenizer::None, "a b", &["a b c d".to_owned()]);
        assert_eq!(
            statistics,
            [2.0, 4.0, 2.0, 1.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0]
        );
        let expected = 100.0 * (-1.0_f64).exp();
        assert!((score(&statistics, Orders::Effective) - expected).abs() < 1e-12);
        assert_eq!(score(&statistics, Orders::All), 0.0);
    }
}
