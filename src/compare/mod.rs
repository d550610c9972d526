//! Pairs two variants, or two runs, by example and says whether one is better.
//!
//! Everything follows one contract: the difference is a gain, pairing is by
//! example within a model, p-values are adjusted by Holm within a family, and only
//! examples that both sides scored take part; the rest is counted.
//!
//! [`Evidence`] is what a comparison needs of a run, as plain data. [`variants`] ranks and
//! compares the variants of a run by index, for its tables; [`runs()`] holds two runs against
//! each other and [`variants_of`] two variants of one, with everything that takes no part
//! listed; [`flips()`] names the examples that changed.

mod cases;
mod columns;
mod difference;
mod evidence;
mod examples;
mod flips;
mod pairing;
mod run_comparison;
mod runs;
mod samples;
#[cfg(test)]
pub(crate) mod sketch;
#[cfg(test)]
mod tests;

use crate::metric::{Metric, Units};
use crate::stats::{self, Difference, Interval, Sample, StatsError, Verdict};

pub use cases::{CaseRef, Cases};
pub use difference::Refusal;
pub use evidence::{
    CaseEvidence, Evidence, EvidenceError, ExampleEvidence, MetricEvidence, ModelEvidence,
    NotADigest, ShortDigest, VariantEvidence,
};
pub use examples::{ExampleRef, Examples};
pub use flips::{Flip, FlipKind, flips};
pub use pairing::{Cause, Unpaired};
pub use run_comparison::{
    CellPair, CompareRunsError, Described, Dominant, Gains, ModelDifference, ModelPair,
    PairedComparison, Redefined, RunComparison, RunName, RunsOptions,
};
pub use runs::{MAX_ROW_CHANGES, runs, variants_of};
pub use samples::{LoneSample, PairedSamples, PlannedValues, samples};

/// One metric of two variants on one model, paired by example.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Index of the model.
    pub model: usize,
    /// Index of the metric.
    pub metric: usize,
    /// Index of the variant that is judged.
    pub candidate: usize,
    /// Index of the variant it is held against.
    pub reference: usize,
    /// The gain of the candidate in the metric's unit; `None` if it cannot be told.
    pub gain: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<Interval>,
    /// Two-sided, before Holm.
    pub p_value: Option<f64>,
    /// After Holm over the family.
    pub p_adjusted: Option<f64>,
    /// Examples, or clusters, that both sides scored.
    pub n_pairs: usize,
    /// Examples that only one side scored.
    pub n_unpaired: usize,
    /// How it was judged, or why it could not be.
    pub method: String,
    /// What counts as unchanged, for the primary metric.
    pub margin: Option<f64>,
    /// What it shows; `None` for an unfinished run.
    pub verdict: Option<Verdict>,
    /// Examples that would settle a difference of this size 4 times in 5.
    pub n_to_settle: Option<u64>,
}

/// The variants of one model that are compared, and how.
#[derive(Clone, Copy)]
pub struct Family<'a> {
    /// Index of the model.
    pub model: usize,
    /// Index of the metric.
    pub metric_index: usize,
    /// The metric.
    pub metric: &'a Metric,
    /// The values of every variant, in plan order.
    pub units: &'a [Units],
    /// The variant all others are held against; without one, all pairs are compared.
    pub control: Option<usize>,
    /// Each example's cluster.
    pub clusters: Option<&'a [String]>,
    /// What counts as unchanged.
    pub margin: Option<f64>,
    /// Whether pairs of variants sent equal requests for every example.
    pub identical: &'a dyn Fn(usize, usize) -> bool,
}

/// Compares the variants of a family; p-values are adjusted over all its pairs.
///
/// With a control, each other variant is judged against it. Without one, every pair
/// is compared and the variant with the better value is the candidate's reference:
/// `reference` is the one with the higher rank, so that gains read as distances from
/// the better variant.
pub fn variants(family: &Family<'_>) -> Vec<Comparison> {
    let ranked = ranking(family);
    let pairs: Vec<(usize, usize)> = match family.control {
        Some(control) => (0..family.units.len())
            .filter(|it| *it != control)
            .map(|it| (it, control))
            .collect(),
        None => (0..ranked.len())
            .flat_map(|i| (i + 1..ranked.len()).map(move |j| (i, j)))
            .map(|(better, worse)| (ranked[worse], ranked[better]))
            .collect(),
    };
    let paired: Vec<(Comparison, Option<Difference>)> =
        pairs.into_iter().map(|(a, b)| pair(family, a, b)).collect();
    let tested: Vec<usize> = (0..paired.len())
        .filter(|i| paired[*i].0.p_value.is_some())
        .collect();
    let p_values: Vec<f64> = tested.iter().filter_map(|i| paired[*i].0.p_value).collect();
    let adjusted = stats::holm(&p_values);
    let mut comparisons = Vec::new();
    for (i, (mut comparison, difference)) in paired.into_iter().enumerate() {
        comparison.p_adjusted = tested.iter().position(|it| *it == i).map(|it| adjusted[it]);
        comparison.verdict = Some(match &difference {
            Some(it) => stats::decide(it, comparison.p_adjusted, family.margin),
            None => Verdict::Inconclusive,
        });
        comparisons.push(comparison);
    }
    comparisons
}

/// Variants from best to worst; those without a value last, equals in plan order.
pub fn ranking(family: &Family<'_>) -> Vec<usize> {
    let sign = match family.metric.direction {
        stats::Direction::HigherIsBetter => 1.0,
        stats::Direction::LowerIsBetter => -1.0,
    };
    let value = |variant: usize| {
        let sample = family.units[variant]
            .sample(family.metric, family.clusters)
            .ok();
        sample.map_or(f64::NEG_INFINITY, |it| sign * it.value())
    };
    let values: Vec<f64> = (0..family.units.len()).map(value).collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

/// How much of the best variant's lead is luck, in the metric's unit.
///
/// # Errors
///
/// [`StatsError`] if the variants share no example with a value.
pub fn luck_of_best(family: &Family<'_>, seed: u64) -> Result<f64, StatsError> {
    let shared = |example: usize| family.units.iter().all(|it| has(it, example));
    let samples = family
        .units
        .iter()
        .map(|it| it.restricted(shared).sample(family.metric, family.clusters))
        .collect::<Result<Vec<Sample>, _>>()?;
    stats::luck_of_best(&samples, family.metric.direction, seed)
}

fn has(units: &Units, example: usize) -> bool {
    units.examples.binary_search(&example).is_ok()
}

fn pair(
    family: &Family<'_>,
    candidate: usize,
    reference: usize,
) -> (Comparison, Option<Difference>) {
    let (a, b) = (&family.units[candidate], &family.units[reference]);
    let n_unpaired = a.examples.len() + b.examples.len();
    let (a, b) = (a.restricted(|it| has(b, it)), b.restricted(|it| has(a, it)));
    let n_pairs = a.examples.len();
    let n_unpaired = n_unpaired - 2 * n_pairs;
    let mut comparison = Comparison {
        model: family.model,
        metric: family.metric_index,
        candidate,
        reference,
        gain: None,
        interval: None,
        p_value: None,
        p_adjusted: None,
        n_pairs,
        n_unpaired,
        method: String::new(),
        margin: family.margin,
        verdict: None,
        n_to_settle: None,
    };
    let is_identical = (family.identical)(candidate, reference) && n_unpaired == 0;
    let outcome = difference::outcome(family.metric, (&a, &b), family.clusters, is_identical);
    let difference = match outcome {
        Ok(outcome) => outcome.difference,
        Err(refusal) => {
            refusal.method().clone_into(&mut comparison.method);
            return (comparison, None);
        }
    };
    comparison.gain = Some(difference.value());
    comparison.interval = difference.interval(stats::CONFIDENCE);
    comparison.p_value = difference.p_value();
    comparison.n_pairs = difference.n();
    difference
        .method()
        .name()
        .clone_into(&mut comparison.method);
    comparison.n_to_settle = difference::n_to_settle(&difference);
    (comparison, Some(difference))
}
