//! Normalisation and F1 as in the evaluation script of SQuAD v1.1.
//!
//! Source: Rajpurkar et al. 2016, `evaluate-v1.1.py`. Written for English answers:
//! the articles it drops are `a`, `an` and `the`, the punctuation is ASCII's.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{ngram, python_text};

/// A maximal run of what Python's `\w` matches. Python leaves combining marks out, so
/// its `\b` cuts between a letter and its mark; the `\w` of the `regex` crate would not.
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]+").expect("the pattern is constant and valid"));

/// Lowercases, drops ASCII punctuation and English articles, and joins words by one space.
pub(super) fn normalize(text: &str) -> String {
    let mut text = text.to_lowercase();
    text.retain(|c| !c.is_ascii_punctuation());
    let text = WORD.replace_all(&text, |word: &Captures| match &word[0] {
        "a" | "an" | "the" => " ".to_owned(),
        other => other.to_owned(),
    });
    python_text::words(&text).collect::<Vec<_>>().join(" ")
}

/// The harmonic mean of precision and recall of the normalised words, as multisets.
///
/// Both texts are normalised here. 0 if they share no word, so also if both are
/// empty: that is version 1.1 of the script; version 2.0 counts two empty texts as 1.
pub(super) fn f1(hypothesis: &str, reference: &str) -> f64 {
    let (hypothesis, reference) = (normalize(hypothesis), normalize(reference));
    let hypothesis: Vec<&str> = python_text::words(&hypothesis).collect();
    let reference: Vec<&str> = python_text::words(&reference).collect();
    let n_shared = ngram::n_shared(
        &ngram::counts(&hypothesis, 1),
        &ngram::counts(&reference, 1),
    );
    if n_shared == 0 {
        return 0.0;
    }
    let precision = n_shared as f64 / hypothesis.len() as f64;
    let recall = n_shared as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    /// Derived by hand from the four steps of the script's `normalize_answer`.
    #[test]
    fn normalization_follows_the_script_step_by_step() {
        let table = [
            ("The  Eiffel Tower!", "eiffel tower"),
            // The hyphen goes first, so `the` is no longer a word of its own.
            ("the-end", "theend"),
            // U+2019 is no ASCII punctuation; it bounds the word `the`.
            ("the’s book", "’s book"),
            // A combining mark is no word character in Python, so the bare `a` is an article.
            ("a\u{301} b", "\u{301} b"),
            ("the a an", ""),
        ];
        for (text, expected) in table {
            assert_eq!(normalize(text), expected, "{text}");
        }
    }

    /// SQuAD v1.1 formula, as written out in `make_goldens.py`.
    #[test]
    fn f1_equals_the_squad_script() {
        goldens::hold("f1", |case| {
            case.references
                .iter()
                .map(|it| f1(&case.hypothesis, it))
                .fold(0.0, f64::max)
        });
    }

    /// SQuAD v1.1 formula: exact match is equality of the normalised texts.
    #[test]
    fn normalized_equality_equals_the_squad_script() {
        goldens::hold("squad_exact", |case| {
            let hypothesis = normalize(&case.hypothesis);
            f64::from(u8::from(
                case.references.iter().any(|it| normalize(it) == hypothesis),
            ))
        });
    }
}
