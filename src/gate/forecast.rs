//! How many units a rule needs before a harmless edit passes it, told before anything runs.
//!
//! A forecast rests on the spread of single gains and on the tolerance, never on the difference
//! that was observed: whoever adds rows until a difference looks right is not testing any more.

use super::rule::{Limit, Rule};
use crate::stats::{self, Interval};

/// What is known of a metric and its dataset before a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// The metric's least and greatest value, where both exist.
    pub range: Option<Interval>,
    /// Whether the metric is a proportion or a mean of examples' values, as opposed to a ratio or
    /// a corpus metric.
    pub is_mean: bool,
    /// Whether every unit is one trial that succeeds or fails.
    pub is_proportion: bool,
    /// The standard deviation of the units' gains in an earlier run, from stored pseudo-values.
    pub spread: Option<f64>,
    /// Units of the dataset: examples, or clusters.
    pub n_units: usize,
}

/// What a rule needs, and what the dataset can show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Units with which a harmless edit passes 4 times in 5.
    pub need: Need,
    /// The fewest units that can pass at all; `None` if no number suffices.
    pub floor: Option<u64>,
    /// The spread that was reckoned with, in the metric's unit; `None` if nothing is known.
    pub spread: Option<f64>,
    /// Whether the spread was assumed, a discordant share of 0.10, and not stored.
    pub is_assumed: bool,
    /// The smallest true difference that the dataset shows 4 times in 5, in the metric's unit.
    pub smallest_difference: Option<f64>,
}

/// How many units a rule needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// This many.
    Units(u64),
    /// No number suffices: nothing is tolerated, so only equal requests can pass.
    Never,
    /// It cannot be told: the spread is unknown, or the rule has no tolerance to plan with (`min`,
    /// `max`).
    Unknown,
}

/// Forecasts one rule.
///
/// `max(floor, ceil(((z_confidence + 0.842) s / max_drop)^2))` units, s the stored spread, else
/// that of a discordant share of 0.10 over the metric's range; and `2.80 s / sqrt(U)`.
pub fn forecast(rule: &Rule, outlook: &Outlook) -> Forecast {
    let bounded_mean = outlook.range.filter(|_| outlook.is_mean);
    let floor = rule.floor(bounded_mean, outlook.is_proportion);
    let assumed = outlook
        .range
        .map(|range| stats::default_spread() * range.span());
    // Gains that did not vary at all say that too few were seen, not that none ever will.
    let stored = outlook.spread.filter(|it| 0.0 < *it);
    let spread = stored.or(assumed);
    let need = match (rule.limit, floor, spread) {
        (Limit::MaxDrop(_), None, _) => Need::Never,
        (Limit::MaxDrop(max_drop), Some(floor), Some(spread)) => {
            stats::planned_units(rule.confidence, max_drop, spread, floor)
                .map_or(Need::Never, Need::Units)
        }
        _ => Need::Unknown,
    };
    Forecast {
        need,
        floor,
        spread,
        is_assumed: stored.is_none(),
        smallest_difference: spread.map(|it| stats::smallest_difference(it, outlook.n_units)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Estimate, OnInconclusive};

    fn rule(limit: Limit) -> Rule {
        Rule {
            limit,
            confidence: 0.95,
            on_inconclusive: OnInconclusive::Fail,
            max_failed: 0,
        }
    }

    const ACC: Outlook = Outlook {
        range: Some(Interval::UNIT),
        is_mean: true,
        is_proportion: true,
        spread: None,
        n_units: 160,
    };

    #[test]
    fn accuracy_is_planned_with_a_tenth_of_the_answers_changing() {
        let got = forecast(&rule(Limit::MaxDrop(0.05)), &ACC);
        // (1.6448536 + 0.842)^2 * 0.10 / 0.05^2 = 247.4
        assert_eq!((got.need, got.floor), (Need::Units(248), Some(59)));
        assert!(got.is_assumed);
        // 2.80 * sqrt(0.1 / 160) = 0.07
        assert!((got.smallest_difference.unwrap() - 0.07).abs() < 1e-12);
    }

    #[test]
    fn a_stored_spread_takes_the_place_of_the_assumed_one() {
        let stored = Outlook {
            spread: Some(0.1),
            ..ACC
        };
        let got = forecast(&rule(Limit::MaxDrop(0.05)), &stored);
        // (2.4868536 * 0.1 / 0.05)^2 = 24.7, below the floor
        assert_eq!((got.need, got.is_assumed), (Need::Units(59), false));
        let constant = Outlook {
            spread: Some(0.0),
            ..ACC
        };
        let got = forecast(&rule(Limit::MaxDrop(0.05)), &constant);
        assert_eq!((got.need, got.is_assumed), (Need::Units(248), true));
    }

    #[test]
    fn points_are_a_hundred_times_as_wide_as_shares() {
        let bleu = Outlook {
            range: Some(Interval {
                low: 0.0,
                high: 100.0,
            }),
            is_mean: false,
            is_proportion: false,
            ..ACC
        };
        let got = forecast(&rule(Limit::MaxDrop(5.0)), &bleu);
        assert_eq!((got.need, got.floor), (Need::Units(248), Some(30)));
    }

    #[test]
    fn what_cannot_be_told_is_not_guessed() {
        let nats = Outlook {
            range: None,
            is_proportion: false,
            ..ACC
        };
        let got = forecast(&rule(Limit::MaxDrop(0.05)), &nats);
        assert_eq!((got.need, got.spread), (Need::Unknown, None));
        assert_eq!(got.floor, Some(30));
        let (value, estimate) = (0.9, Estimate::Bound);
        let got = forecast(&rule(Limit::Min { value, estimate }), &ACC);
        assert_eq!((got.need, got.floor), (Need::Unknown, Some(1)));
        let got = forecast(&rule(Limit::MaxDrop(0.0)), &ACC);
        assert_eq!((got.need, got.floor), (Need::Never, None));
    }
}
