//! What was observed of one variant, ready to be held against a rule.

use crate::stats::{Direction, Interval, Sample, StatsError};

/// One metric of one variant on one model, with the reference where the rule has one.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The values.
    pub seen: Seen,
    /// Which way the metric improves.
    pub direction: Direction,
    /// Examples that were to be scored.
    pub n_planned: usize,
    /// Those without a score.
    pub unscored: Unscored,
    /// The name of every unit, an example's id or a cluster's, in the order of the samples.
    pub units: Vec<String>,
    /// Whether units are clusters of examples.
    pub is_clustered: bool,
}

/// The values that a rule is held against.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Candidate and reference sent equal requests for all of `n` examples.
    Identical {
        /// How many examples.
        n: usize,
    },
    /// Candidate and reference over the units that both have, for `max_drop`.
    Paired {
        /// The observed values.
        pair: Pair,
        /// The same with [`super::Rule::filling`] where a value is missing, over all planned
        /// units; `None` if nothing is missing or nothing can be filled in.
        filled: Option<Box<Pair>>,
    },
    /// The candidate alone, for `min` and `max`.
    Alone {
        /// The observed values.
        candidate: Sample,
        /// The same with missing values filled in, as for a pair.
        filled: Option<Sample>,
    },
    /// The baseline has the variant, the experiment does not, and the gate does not list it as
    /// `retired`.
    Gone,
    /// There is nothing to hold against the rule.
    NotComparable {
        /// Why, as half a sentence: "the targets differ".
        why: String,
    },
}

/// Two samples over the same units in the same order.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The variant that is judged.
    pub candidate: Sample,
    /// What it is held against.
    pub reference: Sample,
}

/// How many examples have no score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unscored {
    /// On the candidate's side.
    pub candidate: usize,
    /// On the reference's side.
    pub reference: usize,
    /// On either side; an example that both miss counts once. Held against `max_failed`.
    pub examples: usize,
}

/// A proportion or a mean over all planned examples, with `filling` where one has no value.
///
/// `values` are in plan order, 0 and 1 for a proportion. Both sides of a [`Pair`] built from all
/// planned examples run over the same units, whichever of them are missing.
///
/// # Errors
///
/// [`StatsError`] if there is no example, or a value lies outside `range`.
pub fn filled(
    values: &[Option<f64>],
    filling: f64,
    range: Interval,
    is_proportion: bool,
    clusters: Option<&[String]>,
) -> Result<Sample, StatsError> {
    let values: Vec<f64> = values.iter().map(|it| it.unwrap_or(filling)).collect();
    let sample = if is_proportion {
        let outcomes: Vec<bool> = values.iter().map(|it| *it == 1.0).collect();
        Sample::proportion(&outcomes)?
    } else {
        Sample::mean(&values, Some(range))?
    };
    clusters.map_or(Ok(sample.clone()), |it| sample.clustered(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_counts_as_the_filling() {
        let values = [Some(1.0), None, Some(0.0), Some(1.0)];
        let of = |filling, is_proportion, clusters| {
            filled(&values, filling, Interval::UNIT, is_proportion, clusters).unwrap()
        };
        let low = of(0.0, true, None);
        assert_eq!((low.value(), low.is_proportion()), (0.5, true));
        assert_eq!(of(1.0, false, None).value(), 0.75);
        let clusters = ["a", "a", "b", "b"].map(str::to_owned);
        let clustered = of(1.0, true, Some(&clusters));
        assert_eq!((clustered.value(), clustered.n_units()), (0.75, 2));
        assert!(!clustered.is_proportion());
    }
}
