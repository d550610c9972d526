//! What a rule is held against: samples over the same units, and what is missing from them.

use crate::metric::{Kind, Metric, Value};
use crate::stats::{Sample, StatsError};

use super::difference::Refusal;
use super::evidence::Evidence;
use super::pairing::{self, Paired, Planned, Rows, Sides, Unpaired};
use super::run_comparison::CellPair;

/// One metric of a candidate and its reference over the units that both have.
#[derive(Debug, Clone)]
pub struct PairedSamples {
    /// The variant that is judged.
    pub candidate: Sample,
    /// What it is held against.
    pub reference: Sample,
    /// Every pair was asked the same, so that the difference is 0 and no estimate.
    pub is_identical: bool,
    /// The name of every unit, an example's id or a cluster's, in the order of the samples.
    pub units: Vec<String>,
    /// Common examples that take no part, with their cause.
    pub unpaired: Vec<Unpaired>,
    /// Each planned example's number on either side, for a proportion or a mean; `None` for
    /// other metrics.
    pub planned: Option<PlannedValues>,
    /// Whether units are clusters of examples.
    pub is_clustered: bool,
}

/// Numbers of all examples that were to be scored on both sides, missing ones included.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedValues {
    /// The candidate's; 0 and 1 for a proportion.
    pub candidate: Vec<Option<f64>>,
    /// The reference's.
    pub reference: Vec<Option<f64>>,
    /// Each example's cluster, where there are clusters.
    pub clusters: Option<Vec<String>>,
}

/// One metric of one variant alone.
#[derive(Debug, Clone)]
pub struct LoneSample {
    /// The values, clustered where there are clusters.
    pub sample: Sample,
    /// The name of every unit, in the order of the sample.
    pub units: Vec<String>,
    /// Examples without a value.
    pub n_unscored: usize,
    /// Each planned example's number, for a proportion or a mean; `None` for other metrics.
    pub planned: Option<Vec<Option<f64>>>,
    /// Each planned example's cluster, where there are clusters.
    pub clusters: Option<Vec<String>>,
}

/// The samples of one metric of a pair of cells, as [`super::runs()`] compares them.
///
/// `None` if a name is not there, the evidence does not fit together, or the two sides compute
/// the metric differently; [`super::runs()`] says which.
///
/// # Errors
///
/// [`Refusal`] if the two cannot be compared by the metric.
pub fn samples(
    candidate: &Evidence,
    reference: &Evidence,
    cells: &CellPair,
    metric: &str,
) -> Option<Result<PairedSamples, Refusal>> {
    let sides = Sides {
        candidate,
        reference,
    };
    if candidate.check().is_err() || reference.check().is_err() {
        return None;
    }
    let places = cells.places(sides)?;
    let metrics = (candidate.metric(metric)?, reference.metric(metric)?);
    let metric = &candidate.metrics[metrics.0].metric;
    if reference.metrics[metrics.1].metric.definition() != metric.definition() {
        return None;
    }
    let rows = Rows::of(sides);
    let planned = has_numbers(metric).then(|| Planned::of(sides, &rows, places, metrics));
    let paired = Paired::of(sides, &rows, places, metrics);
    Some(of_pair(sides, metric, paired, planned))
}

fn of_pair(
    sides: Sides<'_>,
    metric: &Metric,
    paired: Paired,
    planned: Option<Planned>,
) -> Result<PairedSamples, Refusal> {
    let clusters = pairing::clusters(sides, &paired.examples);
    let (one, other) = (paired.candidate, paired.reference);
    let (candidate, reference) =
        super::difference::samples(metric, (&one, &other), clusters.as_deref())?;
    Ok(PairedSamples {
        candidate,
        reference,
        is_identical: paired.is_identical,
        units: pairing::unit_names(sides, &paired.examples, clusters.as_deref()),
        unpaired: paired.unpaired,
        planned: planned.map(|it| PlannedValues {
            clusters: pairing::clusters(sides, &it.examples),
            candidate: it.candidate,
            reference: it.reference,
        }),
        is_clustered: clusters.is_some(),
    })
}

/// Whether a single example has a number of its own that the metric averages.
fn has_numbers(metric: &Metric) -> bool {
    matches!(metric.kind(), Kind::Proportion | Kind::Mean)
}

impl Evidence {
    /// One metric of one variant on one model, by index.
    ///
    /// # Errors
    ///
    /// [`StatsError`] if no example has a value, or the metric has none on them.
    ///
    /// # Panics
    ///
    /// If there is no such cell or metric; see [`Evidence::cell`].
    pub fn sample(
        &self,
        model: usize,
        variant: usize,
        metric: usize,
    ) -> Result<LoneSample, StatsError> {
        let units = self.units(model, variant, metric);
        let definition = &self.metrics[metric].metric;
        let clusters = self.clusters();
        let sample = units.sample(definition, clusters.as_deref())?;
        let cell = self.cell(model, variant);
        let number = |case| self.value(metric, case).as_ref().and_then(Value::number);
        let sides = Sides {
            candidate: self,
            reference: self,
        };
        let of_units = pairing::clusters(sides, &units.examples);
        Ok(LoneSample {
            sample,
            units: pairing::unit_names(sides, &units.examples, of_units.as_deref()),
            n_unscored: cell.len() - units.examples.len(),
            planned: has_numbers(definition).then(|| cell.iter().map(number).collect()),
            clusters,
        })
    }
}
