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
    (n.is_finite() && n < 1e9).then_some(n as u64)
}

/// The smallest difference that a dataset of this size and spread shows 4 times in 5, in the
/// metric's unit; `None` where the examples say nothing about the spread.
pub(super) fn smallest_difference(difference: &Difference) -> Option<f64> {
    let spread = difference.spread().filter(|it| 0.0 < *it)?;
    Some(stats::smallest_difference(spread, difference.n()))
}
