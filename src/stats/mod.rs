//! Estimates, intervals, paired tests: the numbers that say whether a difference is real.
//!
//! A [`Sample`] holds one metric of one variant, unit by unit, where a unit is an example or a
//! cluster of examples. It yields an [`Estimate`]; two samples over the same units yield a
//! [`Difference`]; a difference, its p-value after [`holm`] and a margin yield a [`Verdict`].
//!
//! | metric | interval | p-value of a difference |
//! |---|---|---|
//! | proportion, one variant | [`wilson`] | |
//! | proportion, difference | [`tango`] | [`mcnemar_mid_p`] |
//! | mean, ratio, corpus | [`Jackknife`]: the wider of t and Hall | the level at which the interval reaches 0 |
//!
//! [`Sample::p_below`] and [`Sample::p_above`] hold one variant against a fixed value instead.
//!
//! Everything here is a pure function of its arguments: the same bits in, the same bits out.
//! Only [`luck_of_best`] draws random numbers, and it takes the seed. The room names no other
//! room: what a metric is, which units pair up and what a gate demands is decided elsewhere.

mod best_of;
mod difference;
#[cfg(test)]
mod goldens;
mod holm;
mod jackknife;
mod proportion;
mod quantile;
mod sample;
mod sample_size;
mod sum;
mod threshold;
mod verdict;

pub use best_of::luck_of_best;
pub use difference::{Difference, Direction, Method};
pub use holm::holm;
pub use jackknife::{Jackknife, Moments};
pub use proportion::{
    mcnemar_mid_p, tango, tango_lower, tango_upper, wilson, wilson_lower, wilson_upper,
};
pub use quantile::{normal_quantile, normal_tail, student_t_quantile, student_t_tail};
pub use sample::{Estimate, Sample};
pub use sample_size::{default_spread, floor_units, planned_units, smallest_difference};
pub use verdict::{Verdict, decide};

/// Below this many units there is no interval but Wilson's and Tango's.
pub const MIN_UNITS: usize = 10;

/// The confidence of every interval that is shown.
pub const CONFIDENCE: f64 = 0.95;

/// The confidence of the interval that must lie inside the margin for `unchanged`.
pub const UNCHANGED_CONFIDENCE: f64 = 0.90;

/// A closed interval of the real line: of a bound for an estimate, or of a metric's values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end, never below `low`.
    pub high: f64,
}

impl Interval {
    /// From 0 to 1, the range of a proportion.
    pub const UNIT: Self = Self {
        low: 0.0,
        high: 1.0,
    };

    /// Whether `value` lies inside or on an end.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Whether all of it lies within `other`, ends included.
    pub fn is_within(self, other: Self) -> bool {
        other.low <= self.low && self.high <= other.high
    }

    /// `high - low`.
    pub fn span(self) -> f64 {
        self.high - self.low
    }
}

/// Why numbers could not become a [`Sample`], a [`Difference`] or a forecast.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// There was nothing to average.
    #[error("expected at least one unit, got none")]
    NoUnits,
    /// A unit's value is NaN or infinite.
    #[error("the value of unit {unit_index} is {value}, expected a finite number")]
    NotFinite {
        /// Position of the unit, counted from 0.
        unit_index: usize,
        /// The value found there.
        value: f64,
    },
    /// A unit's value lies outside the metric's range.
    #[error("the value of unit {unit_index} is {value}, expected {} to {}", .range.low, .range.high)]
    OutOfRange {
        /// Position of the unit, counted from 0.
        unit_index: usize,
        /// The value found there.
        value: f64,
        /// The range that the metric promises.
        range: Interval,
    },
    /// A unit has another number of statistics than the first one.
    #[error("unit {unit_index} has {got} statistics, expected {expected}")]
    Ragged {
        /// Position of the unit, counted from 0.
        unit_index: usize,
        /// How many statistics it has.
        got: usize,
        /// How many the first unit has.
        expected: usize,
    },
    /// The metric has no value on these units, such as a ratio whose denominators sum to 0.
    #[error("the metric has no value on these {n_units} units")]
    Undefined {
        /// How many units there are.
        n_units: usize,
    },
    /// Two lists that must run in parallel differ in length.
    #[error("expected {expected} units on both sides, got {got}")]
    UnitsDiffer {
        /// Units of the first list.
        expected: usize,
        /// Units of the other list.
        got: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::Interval;

    #[test]
    fn an_interval_holds_its_ends_and_what_lies_between() {
        let interval = |low: f64, high: f64| Interval { low, high };
        let margin = interval(-1.0, 2.0);
        for (value, is_inside) in [
            (-1.0, true),
            (0.0, true),
            (2.0, true),
            (-1.5, false),
            (2.5, false),
        ] {
            assert_eq!(margin.contains(value), is_inside, "{value}");
        }
        for (one, is_within) in [
            (margin, true),
            (interval(-0.5, 1.0), true),
            (interval(-1.5, 1.0), false),
            (interval(-0.5, 2.5), false),
            (interval(-1.5, 2.5), false),
        ] {
            assert_eq!(one.is_within(margin), is_within, "{one:?}");
        }
        assert_eq!(margin.span(), 3.0);
    }
}
