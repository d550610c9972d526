//! From a difference to what may be said of it.

use super::difference::{Difference, Method};
use super::{CONFIDENCE, Interval, UNCHANGED_CONFIDENCE};

/// The chance of a false alarm in a family of comparisons.
const SIGNIFICANCE: f64 = 0.05;

/// What a comparison shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better, and not by luck.
    Improved,
    /// Equal within the margin, or equal by construction.
    Unchanged,
    /// Worse, and not by luck.
    Regressed,
    /// The data does not say.
    Inconclusive,
}

impl Verdict {
    /// The name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::Unchanged => "unchanged",
            Self::Regressed => "regressed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Judges `difference`, with its p-value after Holm and the margin that counts as equal.
///
/// Improved or regressed if `p_adjusted` is at most 0.05 and the 95 % interval excludes 0; else
/// unchanged if the 90 % interval lies within `-margin` to `margin`, ends included; else
/// inconclusive. Without an interval nothing is concluded, and without a margin nothing is
/// unchanged but identical sides: those are equal by construction, which needs no margin.
pub fn decide(difference: &Difference, p_adjusted: Option<f64>, margin: Option<f64>) -> Verdict {
    if difference.method() == Method::Identical {
        return Verdict::Unchanged;
    }
    let (Some(wide), Some(narrow)) = (
        difference.interval(CONFIDENCE),
        difference.interval(UNCHANGED_CONFIDENCE),
    ) else {
        return Verdict::Inconclusive;
    };
    if p_adjusted.is_some_and(|p| p <= SIGNIFICANCE) {
        if 0.0 < wide.low {
            return Verdict::Improved;
        }
        if wide.high < 0.0 {
            return Verdict::Regressed;
        }
    }
    let is_equal = |margin: f64| {
        narrow.is_within(Interval {
            low: -margin,
            high: margin,
        })
    };
    if margin.is_some_and(is_equal) {
        Verdict::Unchanged
    } else {
        Verdict::Inconclusive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Direction, Sample};

    /// The gain of `gained` pairs won and `lost` pairs lost among `n`.
    fn proportion_gain(gained: usize, lost: usize, n: usize) -> Difference {
        let candidate: Vec<bool> = (0..n).map(|k| k < gained).collect();
        let reference: Vec<bool> = (0..n).map(|k| n - lost <= k).collect();
        let sample = |outcomes: &[bool]| Sample::proportion(outcomes).unwrap();
        Difference::paired(
            &sample(&candidate),
            &sample(&reference),
            Direction::HigherIsBetter,
        )
        .unwrap()
    }

    #[test]
    fn a_verdict_needs_its_evidence() {
        let (won, lost) = (proportion_gain(30, 2, 100), proportion_gain(2, 30, 100));
        let (quiet, split) = (proportion_gain(0, 0, 100), proportion_gain(9, 8, 100));
        // Tango's 90 % interval without a discordant pair is z^2 / (n + z^2) wide: 0.0263.
        let table = [
            ("won", &won, Some(0.001), None, Verdict::Improved),
            ("lost", &lost, Some(0.05), None, Verdict::Regressed),
            (
                "too many comparisons",
                &won,
                Some(0.051),
                None,
                Verdict::Inconclusive,
            ),
            (
                "too many, but within a margin",
                &won,
                Some(0.051),
                Some(0.5),
                Verdict::Unchanged,
            ),
            (
                "significant beats the margin",
                &won,
                Some(0.001),
                Some(0.5),
                Verdict::Improved,
            ),
            (
                "small p, but 0 inside",
                &split,
                Some(0.01),
                None,
                Verdict::Inconclusive,
            ),
            (
                "equal within the margin",
                &quiet,
                Some(1.0),
                Some(0.027),
                Verdict::Unchanged,
            ),
            (
                "margin too narrow",
                &quiet,
                Some(1.0),
                Some(0.026),
                Verdict::Inconclusive,
            ),
            ("no margin", &quiet, Some(1.0), None, Verdict::Inconclusive),
            ("no p-value", &won, None, None, Verdict::Inconclusive),
        ];
        for (name, difference, p_adjusted, margin, expected) in table {
            assert_eq!(decide(difference, p_adjusted, margin), expected, "{name}");
        }
    }

    /// An interval that ends at 0 does not exclude it, however small the p-value.
    #[test]
    fn an_interval_that_reaches_zero_shows_nothing() {
        let side = Sample::mean(&[1.0; 20], None).unwrap();
        let gain = Difference::paired(&side, &side, Direction::HigherIsBetter).unwrap();
        let zero = Interval {
            low: 0.0,
            high: 0.0,
        };
        assert_eq!(gain.interval(CONFIDENCE), Some(zero));
        assert_eq!(decide(&gain, Some(0.001), None), Verdict::Inconclusive);
    }

    /// The names stand in tables.
    #[test]
    fn verdicts_go_by_their_names() {
        let verdicts = [
            Verdict::Improved,
            Verdict::Unchanged,
            Verdict::Regressed,
            Verdict::Inconclusive,
        ];
        let names = ["improved", "unchanged", "regressed", "inconclusive"];
        assert_eq!(verdicts.map(Verdict::name), names);
    }

    #[test]
    fn a_run_compared_with_itself_is_unchanged() {
        assert_eq!(
            decide(&Difference::identical(3), Some(1.0), None),
            Verdict::Unchanged
        );
    }

    #[test]
    fn fewer_than_ten_clusters_allow_no_verdict() {
        let side = |value| Sample::mean(&[value; 9], Some(Interval::UNIT)).unwrap();
        let gain = Difference::paired(&side(1.0), &side(0.0), Direction::HigherIsBetter).unwrap();
        assert_eq!(
            decide(&gain, gain.p_value(), Some(1.0)),
            Verdict::Inconclusive
        );
    }
}
