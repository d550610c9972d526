//! What a gate demands, reduced to numbers.

use super::MIN_UNITS_FOR_THRESHOLD;
use crate::experiment::{self, Estimate, GateSpec, OnInconclusive};
use crate::stats::{self, Direction, Interval};

/// A gate's demand on one variant and model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// What must hold.
    pub limit: Limit,
    /// The one-sided confidence of the bounds, above one half and below 1.
    pub confidence: f64,
    /// What becomes of the command if the data cannot tell.
    pub on_inconclusive: OnInconclusive,
    /// How many unscored examples are tolerated.
    pub max_failed: usize,
}

/// The number that must be kept, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// The gain over the reference is at least minus this; 0 or more.
    MaxDrop(f64),
    /// The metric is at least `value`.
    Min {
        /// The least value.
        value: f64,
        /// What is held against it.
        estimate: Estimate,
    },
    /// The metric is at most `value`.
    Max {
        /// The greatest value.
        value: f64,
        /// What is held against it.
        estimate: Estimate,
    },
}

/// What stands in for missing values where a check must also pass with them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filling {
    /// The value of the candidate's missing examples: the worst for the rule.
    pub candidate: f64,
    /// The value of the reference's missing examples: the best.
    pub reference: f64,
}

impl Rule {
    /// The rule that a `[[gates]]` table states.
    pub fn of(spec: &GateSpec) -> Self {
        let estimate = spec.estimate;
        let limit = match &spec.rule {
            experiment::Rule::Compare { max_drop, .. } => Limit::MaxDrop(max_drop.value.get()),
            experiment::Rule::Min(it) => Limit::Min {
                value: it.value,
                estimate,
            },
            experiment::Rule::Max(it) => Limit::Max {
                value: it.value,
                estimate,
            },
        };
        Self {
            limit,
            confidence: spec.confidence.get(),
            on_inconclusive: spec.on_inconclusive,
            max_failed: spec.max_failed,
        }
    }

    /// The chance of a false failure that all checks of a command share: 1 minus the confidence.
    pub fn significance(&self) -> f64 {
        1.0 - self.confidence
    }

    /// The fewest units with which a check can pass; `None` if no number suffices.
    ///
    /// With `max_drop`, [`stats::floor_units`] for proportions and bounded means, whose range is
    /// `bounded_mean`, else 30. With `min` and `max` there is no drop whose rare form could go
    /// unseen: 1 for a proportion, whose interval is honest at any size, and for the value itself
    /// (`use = "point"`); 30 for the rest.
    pub fn floor(&self, bounded_mean: Option<Interval>, is_proportion: bool) -> Option<u64> {
        match self.limit {
            Limit::MaxDrop(max_drop) => stats::floor_units(self.confidence, max_drop, bounded_mean),
            Limit::Min { estimate, .. } | Limit::Max { estimate, .. } => {
                if is_proportion || estimate == Estimate::Point {
                    Some(1)
                } else {
                    Some(MIN_UNITS_FOR_THRESHOLD)
                }
            }
        }
    }

    /// What to put where values are missing, for a metric bounded to `range`.
    ///
    /// With `min` and `max` the worst value is the one farthest beyond the limit, whichever way
    /// the metric improves.
    pub fn filling(&self, direction: Direction, range: Interval) -> Filling {
        let (worst, best) = match direction {
            Direction::HigherIsBetter => (range.low, range.high),
            Direction::LowerIsBetter => (range.high, range.low),
        };
        let candidate = match self.limit {
            Limit::MaxDrop(_) => worst,
            Limit::Min { .. } => range.low,
            Limit::Max { .. } => range.high,
        };
        Filling {
            candidate,
            reference: best,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(limit: Limit) -> Rule {
        Rule {
            limit,
            confidence: 0.95,
            on_inconclusive: OnInconclusive::Fail,
            max_failed: 0,
        }
    }

    fn min(estimate: Estimate) -> Rule {
        rule(Limit::Min {
            value: 0.9,
            estimate,
        })
    }

    #[test]
    fn only_a_tolerated_drop_makes_a_floor_of_its_own() {
        let unit = Some(Interval::UNIT);
        // ln 0.05 / ln 0.95 = 58.4
        assert_eq!(rule(Limit::MaxDrop(0.05)).floor(unit, true), Some(59));
        assert_eq!(rule(Limit::MaxDrop(0.05)).floor(unit, false), Some(59));
        assert_eq!(rule(Limit::MaxDrop(0.05)).floor(None, false), Some(30));
        assert_eq!(rule(Limit::MaxDrop(0.0)).floor(unit, true), None);
        assert_eq!(rule(Limit::MaxDrop(0.0)).floor(None, false), Some(30));
        assert_eq!(min(Estimate::Bound).floor(unit, true), Some(1));
        assert_eq!(min(Estimate::Bound).floor(unit, false), Some(30));
        assert_eq!(min(Estimate::Point).floor(unit, false), Some(1));
    }

    #[test]
    fn missing_values_are_taken_against_the_candidate() {
        let points = Interval {
            low: 0.0,
            high: 100.0,
        };
        let of = |limit, direction| {
            let filling = rule(limit).filling(direction, points);
            (filling.candidate, filling.reference)
        };
        let (higher, lower) = (Direction::HigherIsBetter, Direction::LowerIsBetter);
        assert_eq!(of(Limit::MaxDrop(1.0), higher), (0.0, 100.0));
        assert_eq!(of(Limit::MaxDrop(1.0), lower), (100.0, 0.0));
        let (value, estimate) = (50.0, Estimate::Bound);
        assert_eq!(of(Limit::Min { value, estimate }, higher).0, 0.0);
        assert_eq!(of(Limit::Max { value, estimate }, lower).0, 100.0);
    }
}
