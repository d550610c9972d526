//! ROUGE-L: the longest common subsequence of words.
//!
//! Source: Lin 2004. Equal to `rougeL` of the Python package `rouge-score`
//! 0.1.2 without stemming. Its tokenizer is kept, limits included: words are runs of the
//! letters a to z and digits. An accented letter separates words, and a text in
//! another script has no words, so it scores 0 against anything, itself included.

/// The F-measure (beta 1) of the longest common subsequence of words; 0 if a text has no word.
pub(super) fn rouge_l(hypothesis: &str, reference: &str) -> f64 {
    let (hypothesis, reference) = (hypothesis.to_lowercase(), reference.to_lowercase());
    let (hypothesis, reference) = (words(&hypothesis), words(&reference));
    let n_common = longest_common_subsequence(&hypothesis, &reference);
    if n_common == 0 {
        return 0.0;
    }
    let precision = n_common as f64 / hypothesis.len() as f64;
    let recall = n_common as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

fn words(lowercase: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    lowercase
        .split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .collect()
}

/// The length of the longest sequence of words that occurs, in order, in both texts.
fn longest_common_subsequence(left: &[&str], right: &[&str]) -> usize {
    // row[j] is the answer for the words of `left` seen so far and the first j of `right`.
    let mut row = vec![0; right.len() + 1];
    for left_word in left {
        let mut diagonal = 0; // The previous row's value at j.
        for (j, right_word) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if left_word == right_word {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    /// rouge-score 0.1.2, `RougeScorer(["rougeL"], use_stemmer=False).score_multi`.
    #[test]
    fn rouge_l_equals_rouge_score() {
        goldens::hold("rouge_l", |case| {
            case.references
                .iter()
                .map(|it| rouge_l(&case.hypothesis, it))
                .fold(0.0, f64::max)
        });
    }

    /// `a c` is common in order: precision 2/3, recall 2/2, so 2 * (2/3) / (5/3) = 0.8.
    #[test]
    fn order_counts() {
        assert!((rouge_l("a b c", "a c") - 0.8).abs() < 1e-12);
        assert_eq!(rouge_l("c a", "a c"), 0.5);
    }
}
