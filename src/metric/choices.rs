//! What choices' log-likelihoods say: the predicted one, and how sure the model was.

use crate::experiment::MetricName;
use crate::score::ChoiceScore;

/// The index of the largest value; ties go to the lowest index.
fn argmax(values: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.enumerate() {
        if best.is_none_or(|it| it.1 < value) {
            best = Some((index, value));
        }
    }
    best.map(|it| it.0)
}

/// The choice that `acc` predicts: the most likely one, the lowest index among equals.
pub fn predicted_choice(choices: &[ChoiceScore]) -> Option<usize> {
    argmax(choices.iter().map(|it| it.loglikelihood))
}

/// Whether several choices share the largest log-likelihood.
pub fn is_tie(choices: &[ChoiceScore]) -> bool {
    predicted_choice(choices).is_some_and(|best| {
        let best = choices[best].loglikelihood;
        1 < choices.iter().filter(|it| it.loglikelihood == best).count()
    })
}

pub(super) fn choice_value(name: MetricName, choices: &[ChoiceScore]) -> Option<f64> {
    let target = choices.iter().position(|it| it.is_target)?;
    let accuracy = |predicted: Option<usize>| predicted.map(|it| f64::from(u8::from(it == target)));
    match name {
        MetricName::Acc => accuracy(predicted_choice(choices)),
        MetricName::AccNorm => accuracy(argmax(
            choices
                .iter()
                .map(|it| it.loglikelihood / it.n_chars() as f64),
        )),
        MetricName::AccBytes => accuracy(argmax(
            choices
                .iter()
                .map(|it| it.loglikelihood / it.n_bytes() as f64),
        )),
        MetricName::Brier => {
            let probabilities = probabilities(choices);
            let squares = probabilities.iter().enumerate().map(|(i, p)| {
                let right = f64::from(u8::from(i == target));
                (p - right) * (p - right)
            });
            Some(squares.sum())
        }
        _ => None,
    }
}

/// Softmax of the log-likelihoods over the choices.
fn probabilities(choices: &[ChoiceScore]) -> Vec<f64> {
    let max = choices
        .iter()
        .map(|it| it.loglikelihood)
        .fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = choices
        .iter()
        .map(|it| (it.loglikelihood - max).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|it| it / total).collect()
}

/// For macro F1: for each class hits, predictions and targets. For the calibration
/// error: the predicted choice's probability and whether it was right.
pub(super) fn choice_statistics(
    name: MetricName,
    n_choices: usize,
    choices: &[ChoiceScore],
) -> Option<Vec<f64>> {
    let target = choices.iter().position(|it| it.is_target)?;
    let predicted = predicted_choice(choices)?;
    if name == MetricName::Ece {
        let is_right = f64::from(u8::from(predicted == target));
        return Some(vec![probabilities(choices)[predicted], is_right]);
    }
    let mut counts = vec![0.0; 3 * n_choices];
    counts[3 * predicted + 1] = 1.0;
    counts[3 * target + 2] = 1.0;
    if predicted == target {
        counts[3 * target] = 1.0;
    }
    Some(counts)
}

/// Mean F1 over the classes that occur as a target or a prediction.
pub(super) fn macro_f1(sums: &[f64]) -> f64 {
    let (mut total, mut n) = (0.0, 0u32);
    for class in sums.chunks_exact(3) {
        let (hits, n_seen) = (class[0], class[1] + class[2]);
        if 0.0 < n_seen {
            total += 2.0 * hits / n_seen;
            n += 1;
        }
    }
    if n == 0 {
        f64::NAN
    } else {
        total / f64::from(n)
    }
}

/// Expected calibration error over ten bins of equal counts; not under 300 examples.
///
/// `predictions` are the predicted choice's probability and 1 where it was right.
pub(super) fn calibration_error(predictions: &[Vec<f64>]) -> Option<f64> {
    const BINS: usize = 10;
    const MIN_EXAMPLES: usize = 300;
    if predictions.len() < MIN_EXAMPLES {
        return None;
    }
    let mut sorted: Vec<(f64, f64)> = predictions.iter().map(|it| (it[0], it[1])).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = sorted.len();
    let gap = |bin: usize| -> f64 {
        let members = &sorted[bin * n / BINS..(bin + 1) * n / BINS];
        let difference: f64 = members
            .iter()
            .map(|(confidence, right)| confidence - right)
            .sum();
        difference.abs() / n as f64
    };
    Some((0..BINS).map(gap).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(loglikelihood: f64, text: &str, is_target: bool) -> ChoiceScore {
        ChoiceScore {
            text: text.to_owned(),
            is_target,
            loglikelihood,
            n_tokens: 1,
        }
    }

    #[test]
    fn accuracies_divide_by_nothing_characters_or_bytes() {
        // "éé" has 2 characters and 4 bytes.
        let choices = [choice(-3.0, "abc", true), choice(-2.5, "éé", false)];
        assert_eq!(choice_value(MetricName::Acc, &choices), Some(0.0)); // -3 < -2.5
        assert_eq!(choice_value(MetricName::AccNorm, &choices), Some(1.0)); // -1 > -1.25
        assert_eq!(choice_value(MetricName::AccBytes, &choices), Some(0.0)); // -1 < -0.625
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        let choices = [choice(-1.0, "a", false), choice(-1.0, "b", true)];
        assert_eq!(predicted_choice(&choices), Some(0));
        assert!(is_tie(&choices));
        let choices = [
            choice(f64::NEG_INFINITY, "a", false),
            choice(-1.0, "b", true),
        ];
        assert_eq!(predicted_choice(&choices), Some(1));
        assert!(!is_tie(&choices));
    }

    #[test]
    fn brier_is_the_squared_distance_from_the_truth() {
        // p = 3/4 and 1/4: (1/4)² + (1/4)² = 1/8 where the first is right, 9/8 where not.
        let logs = [0.75f64.ln(), 0.25f64.ln()];
        let right = [choice(logs[0], "a", true), choice(logs[1], "b", false)];
        let wrong = [choice(logs[0], "a", false), choice(logs[1], "b", true)];
        assert!((choice_value(MetricName::Brier, &right).unwrap() - 0.125).abs() < 1e-12);
        assert!((choice_value(MetricName::Brier, &wrong).unwrap() - 1.125).abs() < 1e-12);
    }

    #[test]
    fn macro_f1_averages_over_the_classes_that_occur() {
        // Class 0: 2 hits of 3 predicted and 2 targets, F1 4/5. Class 1: 1 of 1 and 2, 2/3.
        // Class 2 never occurs. Mean 11/15.
        let sums = [2.0, 3.0, 2.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0];
        assert!((macro_f1(&sums) - 11.0 / 15.0).abs() < 1e-12);
    }
}
