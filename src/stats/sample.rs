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
mod tests {
    use super::*;
    use crate::stats::goldens::assert_near;
    use crate::stats::proportion::wilson;

    fn zero_to(high: f64) -> Interval {
        Interval { low: 0.0, high }
    }

    #[test]
    fn a_proportion_gets_wilsons_interval_at_any_size() {
        let sample = Sample::proportion(&[true, false, true, true]).unwrap();
        let got = sample.estimate();
        assert_eq!((got.value, got.n), (0.75, 4));
        assert_eq!(got.interval, Some(wilson(3, 4, 0.95)));
        // Values 1 0 1 1: sample variance 0.75 / 3 = 1/4, so sqrt(1/4 / 4) = 1/4.
        assert_near(got.stderr.unwrap(), 0.25, 1e-15, "stderr");
        let single = Sample::proportion(&[true]).unwrap().estimate();
        assert_eq!(
            (single.stderr, single.interval),
            (None, Some(wilson(1, 1, 0.95)))
        );
    }

    #[test]
    fn fewer_than_ten_units_get_no_interval() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let nine = Sample::mean(&values[..9], None).unwrap().estimate();
        assert!(nine.interval.is_none() && nine.stderr.is_some());
        assert!(
            Sample::mean(&values, None)
                .unwrap()
                .interval(0.95)
                .is_some()
        );
    }

    #[test]
    fn a_bounded_metric_at_its_end_everywhere_gets_wilsons_interval() {
        for (value, successes) in [(0.0, 0), (2.0, 4)] {
            let got = Sample::mean(&[value; 4], Some(zero_to(2.0)))
                .unwrap()
                .interval(0.95)
                .unwrap();
            let share = wilson(successes, 4, 0.95);
            assert_eq!(
                got,
                Interval {
                    low: 2.0 * share.low,
                    high: 2.0 * share.high
                }
            );
        }
        let units = vec![[3.0, 3.0]; 12];
        let perfect = Sample::corpus(&units, Some(zero_to(100.0)), |sums| {
            100.0 * sums[0] / sums[1]
        });
        let got = perfect.unwrap().interval(0.9).unwrap();
        assert_near(got.low, 100.0 * wilson(12, 12, 0.9).low, 1e-12, "low");
        assert_eq!(got.high, 100.0);
        // Without a range there is no end to be at.
        let flat = Sample::mean(&[0.0; 20], None).unwrap().interval(0.95);
        assert_eq!(
            flat,
            Some(Interval {
                low: 0.0,
                high: 0.0
            })
        );
    }

    #[test]
    fn bounded_intervals_stay_in_range() {
        let mut values = vec![1.0; 20];
        values[3] = 0.2;
        let sample = Sample::mean(&values, Some(zero_to(1.0))).unwrap();
        let free = Sample::mean(&values, None).unwrap().interval(0.95).unwrap();
        let clipped = sample.interval(0.95).unwrap();
        assert!(1.0 < free.high);
        assert_eq!((clipped.low, clipped.high), (free.low, 1.0));
    }

    #[test]
    fn every_row_twice_is_the_same_value_with_half_the_variance() {
        let values: Vec<f64> = (0..30).map(|k| f64::from(k * k % 17) / 7.0).collect();
        let twice: Vec<f64> = values.iter().chain(&values).copied().collect();
        let variance = |values: &[f64]| {
            let sample = Sample::mean(values, None).unwrap();
            let stderr = sample.jackknife().unwrap().stderr();
            (sample.value(), stderr * stderr)
        };
        let ((value, one), (same, two)) = (variance(&values), variance(&twice));
        assert_near(same, value, 1e-12, "value");
        // s^2 / n with divisor n - 1: sum / (29 * 30) becomes 2 * sum / (59 * 60).
        assert_near(two / one, 29.0 / 59.0, 1e-12, "variance");
    }

    #[test]
    fn clusters_keep_the_value_and_widen_the_interval() {
        // Eleven clusters of five equal outcomes: 55 examples carry the news of eleven.
        let outcomes: Vec<bool> = (0..55).map(|k| (k / 5) % 3 == 0).collect();
        let clusters: Vec<usize> = (0..55).map(|k| k / 5).collect();
        let alone = Sample::proportion(&outcomes).unwrap();
        let merged = alone.clustered(&clusters).unwrap();
        assert_eq!((merged.n_units(), merged.value()), (11, alone.value()));
        let (wide, narrow) = (
            merged.interval(0.95).unwrap(),
            alone.interval(0.95).unwrap(),
        );
        assert!(1.5 * narrow.span() < wide.span());
        // Equal clusters: the same as a mean of the eleven cluster means.
        let means: Vec<f64> = (0..11)
            .map(|k| if k % 3 == 0 { 1.0 } else { 0.0 })
            .collect();
        let direct = Sample::mean(&means, Some(zero_to(1.0)))
            .unwrap()
            .interval(0.95)
            .unwrap();
        assert_near(wide.low, direct.low, 1e-12, "low");
        assert_near(wide.high, direct.high, 1e-12, "high");
        assert_eq!(
            alone.clustered(&clusters[1..]).unwrap_err(),
            StatsError::UnitsDiffer {
                expected: 55,
                got: 54
            }
        );
    }

    #[test]
    fn clusters_may_be_scattered_and_named_by_text() {
        let sample = Sample::ratio(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], None).unwrap();
        let merged = sample.clustered(&["b", "a", "b"]).unwrap();
        assert_eq!(merged.statistics, [6.0, 8.0, 3.0, 4.0]);
        assert_eq!(merged.value(), 9.0 / 12.0);
    }

    #[test]
    fn bad_numbers_are_refused_with_their_place() {
        let message = |got: Result<Sample, StatsError>| got.unwrap_err().to_string();
        assert_eq!(
            message(Sample::proportion(&[])),
            "expected at least one unit, got none"
        );
        assert_eq!(
            message(Sample::mean(&[0.0, f64::NEG_INFINITY], None)),
            "the value of unit 1 is -inf, expected a finite number"
        );
        assert_eq!(
            message(Sample::mean(&[0.5, 1.5], Some(zero_to(1.0)))),
            "the value of unit 1 is 1.5, expected 0 to 1"
        );
        assert_eq!(
            message(Sample::ratio(&[[1.0, 0.0]], None)),
            "the metric has no value on these 1 units"
        );
        assert_eq!(
            message(Sample::corpus(&[vec![1.0], vec![]], None, |sums| sums[0])),
            "unit 1 has 0 statistics, expected 1"
        );
    }

    #[test]
    fn a_resampling_of_every_unit_once_changes_nothing() {
        let sample = Sample::ratio(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], None).unwrap();
        assert_eq!(sample.resampled(&[1, 1, 1]), sample.value());
        assert_eq!(sample.resampled(&[0, 3, 0]), 0.75);
    }
}
