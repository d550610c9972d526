//! One metric of one variant, unit by unit, and the estimate it gives.
//!
//! Whatever its kind, a sample keeps a few statistics per unit that add up, and a formula from
//! their sums to the metric's value: a mean is a sum over a count, a ratio one sum over another,
//! a corpus metric any function of its sums. Merging units into clusters, leaving one out and
//! drawing some of them twice are then the same few additions for every metric.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::jackknife::Jackknife;
use super::proportion::{wilson_lower, wilson_upper};
use super::sum::sum;
use super::{CONFIDENCE, Interval, MIN_UNITS, StatsError};

/// How near, as a share of the range, a bounded value counts as lying on its end.
const ON_THE_END: f64 = 1e-9;

/// A metric's value with its standard error and 95 % interval, all in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value on all units.
    pub value: f64,
    /// The jackknife's standard error (for a mean the sample standard deviation over the root of
    /// n, for proportions too); absent with one unit.
    pub stderr: Option<f64>,
    /// The two-sided 95 % interval; absent where [`Sample::interval`] has none.
    pub interval: Option<Interval>,
    /// How many units the value rests on.
    pub n: usize,
}

/// The statistics of every unit, with the formula that makes them a value.
///
/// Building one checks it: a sample has units, finite statistics and a finite value.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Row-major, `width` statistics per unit.
    statistics: Vec<f64>,
    width: usize,
    formula: Formula,
    range: Option<Interval>,
    value: f64,
    jackknife: Option<Jackknife>,
}

/// A corpus metric's value from its summed statistics.
type CorpusMetric = Arc<dyn Fn(&[f64]) -> f64 + Send + Sync>;

/// From summed statistics to the metric's value.
#[derive(Clone)]
enum Formula {
    /// Successes over count, where every unit is one trial.
    Proportion,
    /// The first sum over the second.
    Ratio,
    /// Any function of the sums.
    Corpus(CorpusMetric),
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proportion => "Proportion",
            Self::Ratio => "Ratio",
            Self::Corpus(_) => "Corpus",
        })
    }
}

impl Formula {
    fn value(&self, sums: &[f64]) -> f64 {
        match self {
            Self::Proportion | Self::Ratio => sums[0] / sums[1],
            Self::Corpus(metric) => metric(sums),
        }
    }
}

impl Sample {
    /// A proportion: one success or failure per example, without repeats or clusters.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`] for an empty list.
    pub fn proportion(outcomes: &[bool]) -> Result<Self, StatsError> {
        let rows = outcomes
            .iter()
            .flat_map(|hit| [f64::from(u8::from(*hit)), 1.0]);
        Self::build(rows.collect(), 2, Formula::Proportion, Some(Interval::UNIT))
    }

    /// A mean of one value per unit; `range` are the metric's least and greatest value, if any.
    ///
    /// # Errors
    ///
    /// For an empty list, a value that is not finite, or one outside the range.
    pub fn mean(values: &[f64], range: Option<Interval>) -> Result<Self, StatsError> {
        if let Some(range) = range {
            let slack = ON_THE_END * range.span();
            let wide = Interval {
                low: range.low - slack,
                high: range.high + slack,
            };
            for (unit_index, &value) in values.iter().enumerate() {
                if value.is_finite() && !wide.contains(value) {
                    return Err(StatsError::OutOfRange {
                        unit_index,
                        value,
                        range,
                    });
                }
            }
        }
        let rows = values.iter().flat_map(|value| [*value, 1.0]).collect();
        Self::build(rows, 2, Formula::Ratio, range)
    }

    /// A ratio of sums; each unit brings its `[numerator, denominator]`, such as loglikelihood
    /// and bytes.
    ///
    /// # Errors
    ///
    /// For an empty list, a number that is not finite, or denominators that sum to 0.
    pub fn ratio(units: &[[f64; 2]], range: Option<Interval>) -> Result<Self, StatsError> {
        Self::build(units.as_flattened().to_vec(), 2, Formula::Ratio, range)
    }

    /// A corpus metric: `metric` maps the sums of all units' statistics to the value.
    ///
    /// `metric` may return NaN where it has no value; units without which it has none leave the
    /// sample without an interval.
    ///
    /// # Errors
    ///
    /// For an empty list, units with differing numbers of statistics, a statistic that is not
    /// finite, or a metric without a finite value on all units.
    pub fn corpus<R: AsRef<[f64]>>(
        units: &[R],
        range: Option<Interval>,
        metric: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, StatsError> {
        let expected = units.first().ok_or(StatsError::NoUnits)?.as_ref().len();
        let mut statistics = Vec::with_capacity(units.len() * expected);
        for (unit_index, unit) in units.iter().enumerate() {
            let got = unit.as_ref().len();
            if got != expected {
                return Err(StatsError::Ragged {
                    unit_index,
                    got,
                    expected,
                });
            }
            statistics.extend_from_slice(unit.as_ref());
        }
        Self::corpus_rows(&statistics, expected, range, metric)
    }

    /// As [`Sample::corpus`], of statistics in one list, `width` for each unit.
    ///
    /// # Errors
    ///
    /// As [`Sample::corpus`].
    pub fn corpus_rows(
        statistics: &[f64],
        width: usize,
        range: Option<Interval>,
        metric: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, StatsError> {
        let formula = Formula::Corpus(Arc::new(metric));
        Self::build(statistics.to_vec(), width, formula, range)
    }

    /// The same metric with clusters as units: statistics are summed over the units of a cluster,
    /// so the mean over examples stays what it is and only its uncertainty changes.
    ///
    /// `clusters` names the cluster of each unit; clusters come in order of first appearance. A
    /// proportion becomes a mean.
    ///
    /// # Errors
    ///
    /// [`StatsError::UnitsDiffer`] if there is not one cluster for each unit.
    pub fn clustered<K: Eq + Hash>(&self, clusters: &[K]) -> Result<Self, StatsError> {
        let expected = self.n_units();
        if clusters.len() != expected {
            return Err(StatsError::UnitsDiffer {
                expected,
                got: clusters.len(),
            });
        }
        let mut positions: HashMap<&K, usize> = HashMap::new();
        let mut merged: Vec<f64> = Vec::new();
        for (cluster, unit) in clusters.iter().zip(self.units()) {
            let next = positions.len();
            let position = *positions.entry(cluster).or_insert(next);
            if position == next {
                merged.extend_from_slice(unit);
            } else {
                let sums = &mut merged[position * self.width..][..self.width];
                for (total, own) in sums.iter_mut().zip(unit) {
                    *total += own;
                }
            }
        }
        let formula = match &self.formula {
            Formula::Proportion | Formula::Ratio => Formula::Ratio,
            Formula::Corpus(metric) => Formula::Corpus(Arc::clone(metric)),
        };
        Self::build(merged, self.width, formula, self.range)
    }

    fn build(
        statistics: Vec<f64>,
        width: usize,
        formula: Formula,
        range: Option<Interval>,
    ) -> Result<Self, StatsError> {
        if statistics.is_empty() {
            return Err(StatsError::NoUnits);
        }
        if let Some(at) = statistics.iter().position(|it| !it.is_finite()) {
            return Err(StatsError::NotFinite {
                unit_index: at / width,
                value: statistics[at],
            });
        }
        let n_units = statistics.len() / width;
        let column = |at: usize| sum(statistics.iter().skip(at).step_by(width).copied());
        let totals: Vec<f64> = (0..width).map(column).collect();
        let value = formula.value(&totals);
        if !value.is_finite() {
            return Err(StatsError::Undefined { n_units });
        }
        let jackknife = match &formula {
            Formula::Proportion | Formula::Ratio => {
                let (units, _) = statistics.as_chunks::<2>();
                Jackknife::of_ratio(units)
            }
            Formula::Corpus(metric) => {
                let units: Vec<&[f64]> = statistics.chunks_exact(width).collect();
                Jackknife::of_corpus(&units, |sums| metric(sums))
            }
        };
        Ok(Self {
            statistics,
            width,
            formula,
            range,
            value,
            jackknife,
        })
    }

    /// The metric's value on all units.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// How many units there are, 1 or more.
    pub fn n_units(&self) -> usize {
        self.statistics.len() / self.width
    }

    /// The least and greatest value the metric can have, where it is bounded.
    pub fn range(&self) -> Option<Interval> {
        self.range
    }

    /// The jackknife over the units; `None` with one unit, or if the metric has no value without
    /// one of them.
    pub fn jackknife(&self) -> Option<&Jackknife> {
        self.jackknife.as_ref()
    }

    /// Value, standard error, 95 % interval and number of units.
    pub fn estimate(&self) -> Estimate {
        Estimate {
            value: self.value,
            stderr: self.jackknife().map(|it| it.stderr()),
            interval: self.interval(CONFIDENCE),
            n: self.n_units(),
        }
    }

    /// The two-sided interval: both one-sided bounds at `(1 + confidence) / 2`.
    ///
    /// Wilson's for a proportion, and for a bounded metric that is at the same end of its range
    /// in every unit, with n = U. Else the jackknife's, clipped to the range; `None` with fewer
    /// than [`MIN_UNITS`] units or without a jackknife.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn interval(&self, confidence: f64) -> Option<Interval> {
        let one_sided = f64::midpoint(1.0, confidence);
        Some(Interval {
            low: self.lower(one_sided)?,
            high: self.upper(one_sided)?,
        })
    }

    /// The one-sided lower bound; see [`Sample::interval`].
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn lower(&self, confidence: f64) -> Option<f64> {
        if let Some((successes, range)) = self.successes() {
            let share = wilson_lower(successes, self.n_units() as u64, confidence);
            return Some(range.low + range.span() * share);
        }
        let bound = self.jackknife_for_bounds()?.lower(confidence);
        Some(
            self.range
                .map_or(bound, |range| bound.max(range.low.min(self.value))),
        )
    }

    /// The one-sided upper bound; see [`Sample::interval`].
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn upper(&self, confidence: f64) -> Option<f64> {
        if let Some((successes, range)) = self.successes() {
            let share = wilson_upper(successes, self.n_units() as u64, confidence);
            return Some(range.low + range.span() * share);
        }
        let bound = self.jackknife_for_bounds()?.upper(confidence);
        Some(
            self.range
                .map_or(bound, |range| bound.min(range.high.max(self.value))),
        )
    }

    /// The value on a resampling in which unit `u` is drawn `n_draws[u]` times; may be NaN where
    /// the metric has none.
    pub(super) fn resampled(&self, n_draws: &[u32]) -> f64 {
        let mut sums = vec![0.0; self.width];
        for (unit, n) in self.units().zip(n_draws) {
            for (total, own) in sums.iter_mut().zip(unit) {
                *total += f64::from(*n) * own;
            }
        }
        self.formula.value(&sums)
    }

    /// The range of a metric whose value is a mean of bounded values: a proportion, or a bounded
    /// mean of examples or clusters. A corpus metric has none, bounded or not.
    pub fn bounded_mean(&self) -> Option<Interval> {
        match self.formula {
            Formula::Proportion | Formula::Ratio => self.range,
            Formula::Corpus(_) => None,
        }
    }

    /// Whether every unit is one trial that succeeds or fails.
    pub fn is_proportion(&self) -> bool {
        matches!(self.formula, Formula::Proportion)
    }

    /// Success or failure of each unit; `None` unless the sample is a proportion.
    pub(super) fn outcomes(&self) -> Option<impl Iterator<Item = bool>> {
        self.is_proportion()
            .then(|| self.units().map(|unit| unit[0] == 1.0))
    }

    fn units(&self) -> impl Iterator<Item = &[f64]> {
        self.statistics.chunks_exact(self.width)
    }

    /// The count for Wilson's interval and the range it spans, where that interval applies.
    pub(super) fn successes(&self) -> Option<(u64, Interval)> {
        if let Some(outcomes) = self.outcomes() {
            return Some((outcomes.filter(|hit| *hit).count() as u64, Interval::UNIT));
        }
        let range = self.range?;
        let is_all_at = |end: f64| match &self.jackknife {
            Some(jackknife) => is_constant_at(jackknife, end, range.span()),
            // One unit has no jackknife, but it has a value.
            None => self.n_units() == 1 && (self.value - end).abs() <= ON_THE_END * range.span(),
        };
        if is_all_at(range.low) {
            Some((0, range))
        } else if is_all_at(range.high) {
            Some((self.n_units() as u64, range))
        } else {
            None
        }
    }

    pub(super) fn jackknife_for_bounds(&self) -> Option<&Jackknife> {
        self.jackknife().filter(|it| MIN_UNITS <= it.n_units())
    }
}

/// Whether the value and every pseudo-value are `end`, up to rounding.
pub(super) fn is_constant_at(jackknife: &Jackknife, end: f64, span: f64) -> bool {
    let is_near = |value: f64| (value - end).abs() <= ON_THE_END * span;
    is_near(jackknife.value()) && jackknife.pseudo_values().iter().all(|phi| is_near(*phi))
}

#[cfg(test)]
mod tests;
