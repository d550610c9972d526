//! The difference of two lists of values over the same examples, or why there is none.

use crate::metric::{Metric, Units};
use crate::stats::{self, Difference, Sample, StatsError};

/// Why two sides cannot be compared by a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No example has a value on both sides.
    #[error("no example has a value on both sides")]
    NoPairs,
    /// The scored targets have other numbers of tokens, by which the metric divides.
    #[error("{n_examples} targets are scored as another number of tokens; compare by `{instead}`")]
    TokenCountsDiffer {
        /// Examples with another number.
        n_examples: usize,
        /// The metric to compare by.
        instead: &'static str,
    },
    /// The metric divides by something that differs.
    #[error("the metric divides by numbers that differ in {n_examples} examples")]
    DenominatorsDiffer {
        /// Examples with another number.
        n_examples: usize,
    },
    /// The metric has no value on these examples.
    #[error("the metric has no value on these examples: {reason}")]
    NoValue {
        /// What the statistics say.
        reason: String,
    },
}

impl Refusal {
    #[expect(clippy::needless_pass_by_value, reason = "maps an error")]
    fn no_value(error: StatsError) -> Self {
        Self::NoValue {
            reason: error.to_string(),
        }
    }

    /// The name in the column `method`.
    pub fn method(&self) -> &'static str {
        match self {
            Self::NoPairs | Self::NoValue { .. } => "no_pairs",
            Self::TokenCountsDiffer { .. } | Self::DenominatorsDiffer { .. } => "not_comparable",
        }
    }
}

/// Both sides' values over the examples they share, and their difference.
pub(super) struct Outcome {
    pub(super) candidate: f64,
    pub(super) reference: f64,
    pub(super) difference: Difference,
}

/// The samples of `a` and `b`, which lie over the same examples; `clusters` names those of every
/// index in [`Units::examples`].
pub(super) fn samples(
    metric: &Metric,
    (a, b): (&Units, &Units),
    clusters: Option<&[String]>,
) -> Result<(Sample, Sample), Refusal> {
    if a.examples.is_empty() {
        return Err(Refusal::NoPairs);
    }
    if let (Some(one), Some(other)) = (a.denominators(), b.denominators()) {
        let n_examples = one.iter().zip(&other).filter(|(a, b)| a != b).count();
        if 0 < n_examples {
            return Err(match metric.name.as_str() {
                "loglikelihood_per_token" => Refusal::TokenCountsDiffer {
                    n_examples,
                    instead: "loglikelihood_per_byte",
                },
                _ => Refusal::DenominatorsDiffer { n_examples },
            });
        }
    }
    let candidate = a.sample(metric, clusters).map_err(Refusal::no_value)?;
    let reference = b.sample(metric, clusters).map_err(Refusal::no_value)?;
    Ok((candidate, reference))
}

/// Compares `a` with `b` as [`samples()`] lines them up.
pub(super) fn outcome(
    metric: &Metric,
    units: (&Units, &Units),
    clusters: Option<&[String]>,
    is_identical: bool,
) -> Result<Outcome, Refusal> {
    let (candidate, reference) = samples(metric, units, clusters)?;
    let difference = if is_identical {
        Difference::identical(candidate.n_units())
    } else {
        Difference::paired(&candidate, &reference, metric.direction).map_err(Refusal::no_value)?
    };
    Ok(Outcome {
        candidate: candidate.value(),
        reference: reference.value(),
        difference,
    })
}

/// Units with which a two-sided 5 % test finds a difference of this size 4 times in 5.
///
/// `(2.80 s / d)²`, rounded up; it takes the observed difference for the true one,
/// so it is a guide to the size of a next dataset, not a promise.
pub(super) fn n_to_settle(difference: &Difference) -> Option<u64> {
    let spread = difference.spread()?;
    let ratio = 2.80 * spread / difference.value();
    let n = (ratio * ratio).ceil();
    (n < 1e9).then_some(n as u64)
}

/// The smallest difference that a dataset of this size and spread shows 4 times in 5, in the
/// metric's unit; `None` where the examples say nothing about the spread.
pub(super) fn smallest_difference(difference: &Difference) -> Option<f64> {
    let spread = difference.spread().filter(|it| 0.0 < *it)?;
    Some(stats::smallest_difference(spread, difference.n()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Family, ranking, sketch, variants};
    use crate::stats::Direction;

    /// Sixteen gains, half of them `mean - spread` and half `mean + spread`.
    fn gains(mean: f64, spread: f64) -> Difference {
        let side = |values: [f64; 2]| Sample::mean(&values.repeat(8), None).unwrap();
        let candidate = side([mean - spread, mean + spread]);
        Difference::paired(&candidate, &side([0.0; 2]), Direction::HigherIsBetter).unwrap()
    }

    /// 2.80 s / sqrt(16) is what sixteen examples show; (2.80 s / d)^2 of them would settle d.
    #[test]
    fn what_a_dataset_shows_and_what_would_settle_follow_from_the_spread() {
        let shown = smallest_difference(&gains(2.0, 1.0)).unwrap();
        assert!((shown - 0.7).abs() < 1e-12, "{shown}");
        assert_eq!(n_to_settle(&gains(2.0, 1.0)), Some(2), "1.96, rounded up");
        assert_eq!(n_to_settle(&gains(0.5, 1.0)), Some(32), "31.36, rounded up");
        // Gains that are all alike say nothing about the spread of others.
        assert_eq!(smallest_difference(&gains(2.0, 0.0)), None);
        // No dataset is that large, and none settles a difference of 0.
        assert_eq!(n_to_settle(&gains(1e-5, 1.0)), None, "7.84e10");
        assert_eq!(n_to_settle(&gains(0.0, 1.0)), None);
        assert_eq!(n_to_settle(&gains(0.0, 0.0)), None);
    }

    /// The names in the column `method`.
    #[test]
    fn a_refusal_says_whether_pairs_or_their_measure_are_missing() {
        let n_examples = 1;
        let reason = String::new();
        let instead = "loglikelihood_per_byte";
        for (refusal, method) in [
            (Refusal::NoPairs, "no_pairs"),
            (Refusal::NoValue { reason }, "no_pairs"),
            (
                Refusal::TokenCountsDiffer {
                    n_examples,
                    instead,
                },
                "not_comparable",
            ),
            (Refusal::DenominatorsDiffer { n_examples }, "not_comparable"),
        ] {
            assert_eq!(refusal.method(), method, "{refusal}");
        }
    }

    /// What the tables say of a pair: who has a partner, and how many would settle it.
    #[test]
    fn a_comparison_counts_its_pairs_and_what_has_no_partner() {
        let mut evidence = sketch::run("a", 50, [0.1, 0.0]);
        // Of the first six, 0 to 2 miss one side, 3 both, 4 and 5 the other.
        for (i, variant) in [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (4, 1), (5, 1)] {
            evidence.cells[variant].edit(i, |it| it.likelihood = None);
        }
        let metric = evidence.metric("loglikelihood").unwrap();
        let units = [0, 1].map(|variant| evidence.units(0, variant, metric));
        let family = Family {
            control: Some(0),
            ..sketch::family(&evidence, metric, &units)
        };
        let [compared] = variants(&family).try_into().unwrap();
        assert_eq!((compared.candidate, compared.reference), (1, 0));
        assert_eq!((compared.n_pairs, compared.n_unpaired), (44, 3 + 2));
        let loglikelihood = |variant: usize, i: usize| {
            let likelihood = evidence.cells[variant].get(i).likelihood();
            likelihood.map(|it| it.loglikelihood)
        };
        let gains = (0..50).filter_map(|i| Some(loglikelihood(1, i)? - loglikelihood(0, i)?));
        let gains: Vec<f64> = gains.collect();
        let mean = gains.iter().sum::<f64>() / 44.0;
        assert!((compared.gain.unwrap() - mean).abs() < 1e-12);
        // (2.80 s / d)^2 with the standard deviation of the gains.
        let variance = gains.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / 44.0;
        let n = (2.8 * 2.8 * variance / (mean * mean)).ceil();
        assert_eq!(compared.n_to_settle, Some(n as u64));
    }

    /// Without a control every pair is compared, the worse variant against the better one.
    #[test]
    fn without_a_control_the_better_variant_is_the_reference() {
        for (quality, order) in [([0.0, 0.2], [1, 0]), ([0.2, 0.0], [0, 1])] {
            let evidence = sketch::run("a", 50, quality);
            for name in ["loglikelihood", "bits_per_byte", "f1"] {
                let metric = evidence.metric(name).unwrap();
                let units = [0, 1].map(|variant| evidence.units(0, variant, metric));
                let family = sketch::family(&evidence, metric, &units);
                assert_eq!(ranking(&family), order, "{name}");
                let [compared] = variants(&family).try_into().unwrap();
                let pair = [compared.reference, compared.candidate];
                assert_eq!(pair, order, "{name}");
                assert!(compared.gain.unwrap() < 0.0, "{name}");
            }
        }
    }
}
