//! What choices' log-likelihoods say: the predicted one, and how sure the model was.

use crate::experiment::MetricName;
use crate::score::{ChoiceScore, softmax};

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
        MetricName::AccCalibrated => accuracy(beyond(choices, |it| it.prior.map(f64::ln))),
        MetricName::AccPmi => accuracy(beyond(choices, |it| it.unconditional)),
        MetricName::AccNoContext => accuracy(unprompted(choices)),
        MetricName::Brier => {
            let probabilities = softmax(&loglikelihoods(choices));
            let squares = probabilities.iter().enumerate().map(|(i, p)| {
                let right = f64::from(u8::from(i == target));
                (p - right) * (p - right)
            });
            Some(squares.sum())
        }
        _ => None,
    }
}

fn loglikelihoods(choices: &[ChoiceScore]) -> Vec<f64> {
    choices.iter().map(|it| it.loglikelihood).collect()
}

/// The choice that is likeliest beyond what `prior` says of it in nats; `None` without a prior.
///
/// A choice that is impossible and was expected to be is never the predicted one.
fn beyond(choices: &[ChoiceScore], prior: impl Fn(&ChoiceScore) -> Option<f64>) -> Option<usize> {
    let gains: Option<Vec<f64>> = choices
        .iter()
        .map(|it| {
            let gain = it.loglikelihood - prior(it)?;
            Some(if gain.is_nan() {
                f64::NEG_INFINITY
            } else {
                gain
            })
        })
        .collect();
    argmax(gains?.into_iter())
}

/// The choice that is likeliest without a prompt.
fn unprompted(choices: &[ChoiceScore]) -> Option<usize> {
    let logs: Option<Vec<f64>> = choices.iter().map(|it| it.unconditional).collect();
    argmax(logs?.into_iter())
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
        return Some(vec![softmax(&loglikelihoods(choices))[predicted], is_right]);
    }
    if name == MetricName::AccMajority {
        let mut targets = vec![0.0; n_choices];
        targets[target] = 1.0;
        return Some(targets);
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
pub(super) fn calibration_error<R: AsRef<[f64]>>(predictions: &[R]) -> Option<f64> {
    const BINS: usize = 10;
    const MIN_EXAMPLES: usize = 300;
    if predictions.len() < MIN_EXAMPLES {
        return None;
    }
    let mut sorted: Vec<(f64, f64)> = predictions
        .iter()
        .map(|it| (it.as_ref()[0], it.as_ref()[1]))
        .collect();
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

/// The share of the commonest target; `targets` has a 1 at the right choice of each example.
pub(super) fn majority_share<R: AsRef<[f64]>>(targets: &[R]) -> Option<f64> {
    let n_choices = targets.first()?.as_ref().len();
    let counts = (0..n_choices).map(|i| targets.iter().map(|it| it.as_ref()[i]).sum::<f64>());
    Some(counts.fold(0.0, f64::max) / targets.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choice(loglikelihood: f64, text: &str, is_target: bool) -> ChoiceScore {
        ChoiceScore {
            text: text.to_owned(),
            is_target,
            loglikelihood,
            n_tokens: 1,
            prior: None,
            unconditional: None,
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

    /// -2.9 / 3 = -0.97 is likelier per character than -4.1 / 4 = -1.03.
    #[test]
    fn a_longer_choice_is_not_predicted_for_its_remainder() {
        let choices = [choice(-2.9, "abc", true), choice(-4.1, "abcd", false)];
        for name in [MetricName::AccNorm, MetricName::AccBytes] {
            assert_eq!(choice_value(name, &choices), Some(1.0), "{name}");
        }
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

    fn with_priors(
        loglikelihood: f64,
        prior: f64,
        unconditional: f64,
        is_target: bool,
    ) -> ChoiceScore {
        ChoiceScore {
            prior: Some(prior),
            unconditional: Some(unconditional),
            ..choice(loglikelihood, "a", is_target)
        }
    }

    #[test]
    fn corrected_accuracies_take_away_what_was_expected() {
        // Probability 0.6 against 0.4, but 0.9 and 0.1 were expected: 2/3 against 4.
        let choices = [
            with_priors(0.6f64.ln(), 0.9, -1.0, false),
            with_priors(0.4f64.ln(), 0.1, -1.2, true),
        ];
        assert_eq!(choice_value(MetricName::Acc, &choices), Some(0.0));
        assert_eq!(choice_value(MetricName::AccCalibrated, &choices), Some(1.0));
        // ln 0.6 + 1 = 0.49 against ln 0.4 + 1.2 = 0.28.
        assert_eq!(choice_value(MetricName::AccPmi, &choices), Some(0.0));
        // Without a prompt -1 beats -1.2.
        assert_eq!(choice_value(MetricName::AccNoContext, &choices), Some(0.0));
        let none = [choice(-1.0, "a", true), choice(-2.0, "b", false)];
        for name in [
            MetricName::AccCalibrated,
            MetricName::AccPmi,
            MetricName::AccNoContext,
        ] {
            assert_eq!(choice_value(name, &none), None, "{name}");
        }
    }

    #[test]
    fn what_is_impossible_and_was_expected_to_be_is_not_predicted() {
        let inf = f64::NEG_INFINITY;
        let choices = [
            with_priors(inf, 0.0, inf, false),
            with_priors(-9.0, 1.0, -1.0, true),
        ];
        assert_eq!(choice_value(MetricName::AccCalibrated, &choices), Some(1.0));
        assert_eq!(choice_value(MetricName::AccPmi, &choices), Some(1.0));
    }

    #[test]
    fn the_majority_is_the_commonest_target() {
        // Targets 0, 1, 1: two of three.
        let targets = [vec![1.0, 0.0], vec![0.0, 1.0], vec![0.0, 1.0]];
        assert!((majority_share(&targets).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(majority_share::<Vec<f64>>(&[]), None);
    }

    /// Ten bins of 31 or 30 predictions, by ascending confidence, whatever order they come in.
    #[test]
    fn a_calibration_error_is_the_mean_gap_of_its_bins() {
        let n = 307;
        let confidence = |i: usize| 0.5 + i as f64 / 700.0;
        let is_right = |i: usize| f64::from(u8::from(!i.is_multiple_of(3) || i < 40));
        let mut predictions: Vec<Vec<f64>> =
            (0..n).map(|i| vec![confidence(i), is_right(i)]).collect();
        let ends = [0, 30, 61, 92, 122, 153, 184, 214, 245, 276, 307];
        let gaps = ends.windows(2).map(|bin| {
            let gap: f64 = (bin[0]..bin[1]).map(|i| confidence(i) - is_right(i)).sum();
            gap.abs()
        });
        let want = gaps.sum::<f64>() / n as f64;
        predictions.reverse();
        let got = calibration_error(&predictions).unwrap();
        assert!((got - want).abs() < 1e-12, "{got} {want}");
        assert_eq!(calibration_error(&predictions[..299]), None);
        assert!(calibration_error(&predictions[..300]).is_some());
    }

    /// Hits, predictions and targets of each class.
    #[test]
    fn a_prediction_counts_for_its_class_and_a_hit_for_both() {
        let counts = |target: usize| {
            let choices = [-2.0, -1.0].iter().enumerate();
            let choices = choices.map(|(i, it)| choice(*it, "a", i == target));
            let choices: Vec<ChoiceScore> = choices.collect();
            choice_statistics(MetricName::MacroF1, 2, &choices).unwrap()
        };
        assert_eq!(counts(1), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(counts(0), [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn macro_f1_averages_over_the_classes_that_occur() {
        // Class 0: 2 hits of 3 predicted and 2 targets, F1 4/5. Class 1: 1 of 1 and 2, 2/3.
        // Class 2 never occurs. Mean 11/15.
        let sums = [2.0, 3.0, 2.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0];
        assert!((macro_f1(&sums) - 11.0 / 15.0).abs() < 1e-12);
    }

    /// The metrics of choices that a single example has.
    const PER_EXAMPLE: [MetricName; 7] = [
        MetricName::Acc,
        MetricName::AccNorm,
        MetricName::AccBytes,
        MetricName::AccCalibrated,
        MetricName::AccPmi,
        MetricName::AccNoContext,
        MetricName::Brier,
    ];

    /// Two to six choices with different scores, lengths and priors, one of them right; and an
    /// order for them.
    fn choices_and_order() -> impl Strategy<Value = (Vec<ChoiceScore>, Vec<usize>)> {
        // Which of equals is predicted is a matter of order, and tested above. The exponential
        // of a fraction is no fraction, so that none are equal, by character or byte either.
        let number = |step: u32| -(f64::from(step) / 1009.0).exp();
        let steps = prop::collection::btree_set(1u32..10_007, 2..7);
        let steps = steps.prop_map(|it| it.into_iter().collect::<Vec<_>>());
        let choices = steps.prop_shuffle().prop_flat_map(|steps| {
            let n = steps.len();
            let text = prop::sample::select(vec!["a", "éé", "yes", "a longer choice", "日本"]);
            (
                Just(steps),
                prop::collection::vec((text, 1u32..1000), n),
                0..n,
            )
        });
        let choices = choices.prop_map(move |(steps, details, target)| {
            let each = steps.into_iter().zip(details).enumerate();
            each.map(|(i, (step, (text, prior)))| ChoiceScore {
                text: format!("{text} {i}"),
                is_target: i == target,
                loglikelihood: number(step),
                n_tokens: 1,
                prior: Some(f64::from(prior) / 1013.0),
                // 10,007 is prime, so this is another order of different steps.
                unconditional: Some(number(step * 7919 % 10_007)),
            })
            .collect::<Vec<_>>()
        });
        choices.prop_flat_map(|choices| {
            let order: Vec<usize> = (0..choices.len()).collect();
            (Just(choices), Just(order).prop_shuffle())
        })
    }

    fn in_order(choices: &[ChoiceScore], order: &[usize]) -> Vec<ChoiceScore> {
        order.iter().map(|it| choices[*it].clone()).collect()
    }

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    proptest! {
        /// The order of the choices in the file is nobody's merit.
        #[test]
        fn another_order_of_the_choices_changes_no_metric(
            (choices, order) in choices_and_order(),
        ) {
            let permuted = in_order(&choices, &order);
            let predicted = predicted_choice(&permuted).map(|it| order[it]);
            prop_assert_eq!(predicted, predicted_choice(&choices));
            prop_assert_eq!(is_tie(&permuted), is_tie(&choices));
            let shares = softmax(&loglikelihoods(&choices));
            for (share, from) in softmax(&loglikelihoods(&permuted)).iter().zip(&order) {
                prop_assert!(is_near(*share, shares[*from]), "{share} {}", shares[*from]);
            }
            for name in PER_EXAMPLE {
                let (got, want) = (choice_value(name, &permuted), choice_value(name, &choices));
                let (got, want) = (got.unwrap(), want.unwrap());
                // Sums over the choices are added in another order.
                prop_assert!(is_near(got, want), "{}: {} {}", name, got, want);
            }
        }

        /// Over several examples, each class keeps its counts wherever it stands.
        #[test]
        fn another_order_of_the_classes_changes_no_f1(
            outcomes in prop::collection::vec((0usize..4, 0usize..4), 1..40),
            order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let sums = |order: &[usize]| {
                let mut sums = vec![0.0; 12];
                let mut right = vec![0.0; 4];
                for (target, predicted) in &outcomes {
                    let choices: Vec<ChoiceScore> = (0..4)
                        .map(|it| choice(-f64::from(u8::from(it != *predicted)), "a", it == *target))
                        .collect();
                    let choices = in_order(&choices, order);
                    let add = |name, to: &mut [f64]| {
                        let statistics = choice_statistics(name, 4, &choices).unwrap();
                        to.iter_mut().zip(statistics).for_each(|(sum, it)| *sum += it);
                    };
                    add(MetricName::MacroF1, &mut sums);
                    add(MetricName::AccMajority, &mut right);
                }
                (sums, right)
            };
            let (plain, right) = sums(&[0, 1, 2, 3]);
            let (permuted, right_permuted) = sums(&order);
            for (place, from) in order.iter().enumerate() {
                prop_assert_eq!(&permuted[3 * place..][..3], &plain[3 * from..][..3]);
                prop_assert_eq!(right_permuted[place], right[*from]);
            }
            prop_assert!(is_near(macro_f1(&permuted), macro_f1(&plain)));
        }
    }
}
