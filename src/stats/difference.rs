//! The paired difference of two samples, as a gain.
//!
//! A gain is candidate minus reference, negated where lower is better, so positive is always
//! better. Both samples run over the same units in the same order; pairing is the caller's.

use super::jackknife::{Jackknife, Moments};
use super::proportion::{mcnemar_mid_p, tango_lower, tango_upper};
use super::quantile::normal_tail;
use super::sample::{Sample, is_constant_at};
use super::{Interval, MIN_UNITS, StatsError};

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More is better, as for accuracy.
    HigherIsBetter,
    /// Less is better, as for bits per byte.
    LowerIsBetter,
}

/// How a difference was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Tango's score interval and McNemar's mid-p value.
    Tango,
    /// The delete-one-unit jackknife: the wider of Student's and Hall's bounds.
    Jackknife,
    /// Both sides sent equal requests, so the difference is 0 and not an estimate.
    Identical,
    /// No interval: fewer than ten units, or no value without one of them.
    TooFewUnits,
}

impl Method {
    /// The name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tango => "tango",
            Self::Jackknife => "jackknife",
            Self::Identical => "identical",
            Self::TooFewUnits => "too_few_units",
        }
    }
}

/// A gain with all that is needed to bound and to test it.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    value: f64,
    n: usize,
    evidence: Evidence,
}

#[derive(Debug, Clone, PartialEq)]
enum Evidence {
    /// Pairs that only the candidate (`gained`) or only the reference (`lost`) wins, each worth
    /// `scale` in the metric's unit.
    Counts {
        gained: u64,
        lost: u64,
        scale: f64,
    },
    /// Moments of the gain's pseudo-values; it cannot exceed `limit` in size, where the metric is
    /// bounded. A comparison keeps them for every metric and variant, so the pseudo-values
    /// themselves, one for each unit, are not kept.
    PseudoValues {
        moments: Moments,
        limit: Option<f64>,
    },
    Identical,
    Nothing,
}

impl Difference {
    /// The gain of `candidate` over `reference`, unit by unit.
    ///
    /// Two proportions are compared by Tango and McNemar, everything else by the jackknife. A
    /// bounded metric whose gain is 0 in every unit, or the whole range in every unit, has no
    /// spread to learn from; with ten units or more it is counted as that many equal, won or lost
    /// pairs, just as a single value at its end is counted by Wilson.
    ///
    /// # Errors
    ///
    /// [`StatsError::UnitsDiffer`] if the samples do not have the same number of units.
    pub fn paired(
        candidate: &Sample,
        reference: &Sample,
        direction: Direction,
    ) -> Result<Self, StatsError> {
        let (expected, got) = (reference.n_units(), candidate.n_units());
        if expected != got {
            return Err(StatsError::UnitsDiffer { expected, got });
        }
        let (better, worse) = match direction {
            Direction::HigherIsBetter => (candidate, reference),
            Direction::LowerIsBetter => (reference, candidate),
        };
        if let (Some(better), Some(worse)) = (better.outcomes(), worse.outcomes()) {
            let (mut gained, mut lost) = (0, 0);
            for (one, other) in better.zip(worse) {
                gained += u64::from(one && !other);
                lost += u64::from(other && !one);
            }
            let value = (gained as f64 - lost as f64) / got as f64;
            return Ok(Self {
                value,
                n: got,
                evidence: Evidence::Counts {
                    gained,
                    lost,
                    scale: 1.0,
                },
            });
        }
        let value = better.value() - worse.value();
        let limit = match (better.range(), worse.range()) {
            (Some(one), Some(other)) => Some((one.high - other.low).max(other.high - one.low)),
            _ => None,
        };
        let jackknife = match (better.jackknife(), worse.jackknife()) {
            (Some(better), Some(worse)) if MIN_UNITS <= got => better.minus(worse),
            _ => None,
        };
        let evidence = jackknife.map_or(Evidence::Nothing, |it| Evidence::of(&it, limit));
        Ok(Self {
            value,
            n: got,
            evidence,
        })
    }

    /// The difference over `n` pairs whose requests are all equal: exactly 0.
    pub fn identical(n: usize) -> Self {
        Self {
            value: 0.0,
            n,
            evidence: Evidence::Identical,
        }
    }

    /// The gain in the metric's unit; positive is better.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// How many paired units it rests on.
    pub fn n(&self) -> usize {
        self.n
    }

    /// How it was judged.
    pub fn method(&self) -> Method {
        match self.evidence {
            Evidence::Counts { .. } => Method::Tango,
            Evidence::PseudoValues { .. } => Method::Jackknife,
            Evidence::Identical => Method::Identical,
            Evidence::Nothing => Method::TooFewUnits,
        }
    }

    /// The two-sided interval, both one-sided bounds at `(1 + confidence) / 2`; `None` where the
    /// method is [`Method::TooFewUnits`].
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

    /// The one-sided lower bound of the gain, clipped to what a bounded metric can lose.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn lower(&self, confidence: f64) -> Option<f64> {
        match &self.evidence {
            Evidence::Counts {
                gained,
                lost,
                scale,
            } => Some(scale * tango_lower(*gained, *lost, self.n as u64, confidence)),
            Evidence::PseudoValues { moments, limit } => {
                let bound = moments.lower(confidence);
                Some(limit.map_or(bound, |limit| bound.max((-limit).min(self.value))))
            }
            Evidence::Identical => Some(0.0),
            Evidence::Nothing => None,
        }
    }

    /// The one-sided upper bound of the gain, clipped to what a bounded metric can gain.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn upper(&self, confidence: f64) -> Option<f64> {
        match &self.evidence {
            Evidence::Counts {
                gained,
                lost,
                scale,
            } => Some(scale * tango_upper(*gained, *lost, self.n as u64, confidence)),
            Evidence::PseudoValues { moments, limit } => {
                let bound = moments.upper(confidence);
                Some(limit.map_or(bound, |limit| bound.min(limit.max(self.value))))
            }
            Evidence::Identical => Some(0.0),
            Evidence::Nothing => None,
        }
    }

    /// The two-sided p-value of "there is no difference": McNemar's mid-p, or the level at which
    /// the jackknife's interval just reaches 0. 1 for identical sides, `None` with too few units.
    pub fn p_value(&self) -> Option<f64> {
        match &self.evidence {
            Evidence::Counts { gained, lost, .. } => Some(mcnemar_mid_p(*gained, *lost)),
            Evidence::PseudoValues { moments, .. } => Some(moments.p_value()),
            Evidence::Identical => Some(1.0),
            Evidence::Nothing => None,
        }
    }

    /// The one-sided p-value of a regression: the smallest level `a` at which
    /// `upper(1 - a)` is below 0. A gate that wants the upper bound below 0 after Holm's
    /// correction compares this, corrected, with 1 minus its confidence.
    ///
    /// For counts it inverts Tango's bound, not McNemar's mid-p: at 0 Tango's score is
    /// `(gained - lost) / sqrt(gained + lost)`.
    pub fn p_regressed(&self) -> Option<f64> {
        match &self.evidence {
            Evidence::Counts {
                gained: 0, lost: 0, ..
            }
            | Evidence::Identical => Some(1.0),
            Evidence::Counts { gained, lost, .. } => {
                let (gained, lost) = (*gained as f64, *lost as f64);
                Some(normal_tail((lost - gained) / (lost + gained).sqrt()))
            }
            Evidence::PseudoValues { moments, .. } => Some(moments.p_negative()),
            Evidence::Nothing => None,
        }
    }

    /// The standard deviation of the units' gains (divisor U), from which a later run can be
    /// planned; `None` where the units tell nothing.
    pub fn spread(&self) -> Option<f64> {
        match &self.evidence {
            Evidence::Counts {
                gained,
                lost,
                scale,
            } => {
                // Gains are 1, -1 and 0 times the scale.
                let n = self.n as f64;
                let (gained, lost) = (*gained as f64 / n, *lost as f64 / n);
                Some(scale * (gained + lost - (gained - lost).powi(2)).max(0.0).sqrt())
            }
            Evidence::PseudoValues { moments, .. } => Some(moments.spread()),
            Evidence::Identical | Evidence::Nothing => None,
        }
    }

    /// The unit that holds over a quarter of the squared deviation of the pseudo-values, with its
    /// share. Only a jackknife has one: Tango's interval allows for rare differences by itself.
    pub fn dominant_unit(&self) -> Option<(usize, f64)> {
        match &self.evidence {
            Evidence::PseudoValues { moments, .. } => moments.dominant_unit(),
            _ => None,
        }
    }
}

impl Evidence {
    fn of(jackknife: &Jackknife, limit: Option<f64>) -> Self {
        let n = jackknife.n_units() as u64;
        if let Some(scale) = limit {
            for (end, gained, lost) in [(0.0, 0, 0), (scale, n, 0), (-scale, 0, n)] {
                if is_constant_at(jackknife, end, scale) {
                    return Self::Counts {
                        gained,
                        lost,
                        scale,
                    };
                }
            }
        }
        Self::PseudoValues {
            moments: jackknife.moments(),
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::goldens::assert_near;
    use crate::stats::proportion::tango;

    const HIGHER: Direction = Direction::HigherIsBetter;
    const LOWER: Direction = Direction::LowerIsBetter;

    fn paired(candidate: &Sample, reference: &Sample) -> Difference {
        Difference::paired(candidate, reference, HIGHER).unwrap()
    }

    fn unit_mean(values: &[f64]) -> Sample {
        Sample::mean(values, Some(Interval::UNIT)).unwrap()
    }

    #[test]
    fn proportions_are_compared_by_their_discordant_pairs() {
        let candidate = Sample::proportion(&[true, true, true, false, true, false]).unwrap();
        let reference = Sample::proportion(&[true, false, false, false, true, true]).unwrap();
        // Only the candidate twice, only the reference once, six pairs.
        let gain = paired(&candidate, &reference);
        assert_eq!(
            (gain.value(), gain.n(), gain.method()),
            (1.0 / 6.0, 6, Method::Tango)
        );
        assert_eq!(gain.interval(0.95), Some(tango(2, 1, 6, 0.95)));
        assert_eq!(gain.p_value(), Some(0.625)); // 2 (1/8 + 3/16)
        // Gains 1 1 -1 0 0 0: mean square 1/2, mean 1/6.
        assert_near(
            gain.spread().unwrap(),
            (0.5_f64 - 1.0 / 36.0).sqrt(),
            1e-15,
            "spread",
        );
        assert_eq!(gain.dominant_unit(), None);
        let loss = Difference::paired(&candidate, &reference, LOWER).unwrap();
        assert_eq!(loss.interval(0.95), Some(tango(1, 2, 6, 0.95)));
    }

    #[test]
    fn a_regression_is_significant_where_the_upper_bound_is_below_zero() {
        let lost = |k: usize| Sample::proportion(&(0..60).map(|u| k <= u).collect::<Vec<_>>());
        for n_lost in 1..12 {
            let gain = paired(&lost(n_lost).unwrap(), &lost(0).unwrap());
            let p = gain.p_regressed().unwrap();
            assert!(
                gain.upper(1.0 - p * 0.999).unwrap() > -1e-9,
                "{n_lost} lost"
            );
            assert!(gain.upper(1.0 - p * 1.001).unwrap() < 0.0, "{n_lost} lost");
        }
        // Three gained and nine lost: 6 / sqrt(12) = sqrt(3) standard errors. Python's
        // math.erfc(sqrt(3 / 2)) / 2 is the tail beyond.
        let side = |range: std::ops::Range<usize>| {
            let outcomes: Vec<bool> = (0..60).map(|u| range.contains(&u)).collect();
            Sample::proportion(&outcomes).unwrap()
        };
        let mixed = paired(&side(0..3), &side(3..12));
        assert_near(
            mixed.p_regressed().unwrap(),
            0.041_632_258_331_775,
            1e-12,
            "mixed",
        );
        let none = paired(&lost(0).unwrap(), &lost(0).unwrap());
        assert_eq!((none.value(), none.p_regressed()), (0.0, Some(1.0)));
    }

    #[test]
    fn means_are_compared_pair_by_pair() {
        let reference: Vec<f64> = (0..20).map(|k| f64::from(k) * 10.0).collect();
        let candidate: Vec<f64> = reference
            .iter()
            .enumerate()
            .map(|(k, it)| it + (k % 3) as f64)
            .collect();
        let of = |values: &[f64]| Sample::mean(values, None).unwrap();
        let gain = paired(&of(&candidate), &of(&reference));
        let direct: Vec<f64> = (0..20).map(|k| f64::from(k % 3)).collect();
        let expected = Jackknife::of_mean(&direct).unwrap();
        assert_eq!(gain.method(), Method::Jackknife);
        assert_near(gain.value(), 0.95, 1e-12, "seven 0, seven 1, six 2");
        assert_near(
            gain.upper(0.95).unwrap(),
            expected.upper(0.95),
            1e-12,
            "upper",
        );
        assert_near(gain.p_value().unwrap(), expected.p_value(), 1e-12, "p");
    }

    #[test]
    fn a_bounded_metric_that_never_differs_is_not_certain() {
        let values: Vec<f64> = (0..40).map(|k| f64::from(k % 4) / 4.0).collect();
        let gain = paired(&unit_mean(&values), &unit_mean(&values));
        assert_eq!((gain.value(), gain.method()), (0.0, Method::Tango));
        assert_eq!(gain.interval(0.9), Some(tango(0, 0, 40, 0.9)));
        let scaled = |it: f64| {
            Sample::mean(
                &[it; 12],
                Some(Interval {
                    low: 0.0,
                    high: 100.0,
                }),
            )
            .unwrap()
        };
        let won = paired(&scaled(100.0), &scaled(0.0));
        assert_eq!(
            won.lower(0.95).unwrap(),
            100.0 * tango_lower(12, 0, 12, 0.95)
        );
        assert_eq!(won.upper(0.95), Some(100.0));
        let lost = paired(&scaled(0.0), &scaled(100.0));
        assert_eq!(
            (lost.method(), lost.lower(0.95)),
            (Method::Tango, Some(-100.0))
        );
        assert_eq!(lost.upper(0.95), won.lower(0.95).map(|it| -it));
    }

    /// From 1 to 5, nobody can gain more than 4.
    #[test]
    fn a_scale_that_does_not_begin_at_zero_is_clipped_by_its_width() {
        let range = Some(Interval {
            low: 1.0,
            high: 5.0,
        });
        let mut high = vec![5.0; 12];
        high[0] = 1.0;
        let of = |values: &[f64]| Sample::mean(values, range).unwrap();
        let gain = paired(&of(&high), &of(&[1.0; 12]));
        assert_eq!(gain.upper(0.999_999), Some(4.0));
        let loss = paired(&of(&[1.0; 12]), &of(&high));
        assert_eq!(loss.lower(0.999_999), Some(-4.0));
        // Won everywhere is the whole width, as often as there are units.
        let won = paired(&of(&[5.0; 12]), &of(&[1.0; 12]));
        assert_eq!((won.method(), won.upper(0.95)), (Method::Tango, Some(4.0)));
    }

    /// Gains and losses that cancel are no agreement.
    #[test]
    fn a_difference_of_zero_is_not_taken_for_none() {
        let (mut one, other) = (vec![0.75; 20], [0.5; 20]);
        one[10..].fill(0.25);
        let gain = paired(&unit_mean(&one), &unit_mean(&other));
        assert_eq!((gain.value(), gain.method()), (0.0, Method::Jackknife));
        assert_eq!(gain.spread(), Some(0.25));
    }

    #[test]
    fn bounded_gains_are_clipped() {
        let mut high = vec![1.0; 12];
        high[0] = 0.0;
        let gain = paired(&unit_mean(&high), &unit_mean(&[0.0; 12]));
        assert_eq!(gain.method(), Method::Jackknife);
        assert_eq!(gain.upper(0.999_999), Some(1.0));
        assert!(gain.lower(0.999_999).unwrap() >= -1.0);
        assert_eq!(gain.dominant_unit().map(|it| it.0), Some(0));
    }

    #[test]
    fn identical_sides_differ_by_nothing_at_all() {
        let same = Difference::identical(2);
        assert_eq!(
            (same.value(), same.n(), same.method().name()),
            (0.0, 2, "identical")
        );
        assert_eq!(
            same.interval(0.99),
            Some(Interval {
                low: 0.0,
                high: 0.0
            })
        );
        assert_eq!((same.p_value(), same.p_regressed()), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn fewer_than_ten_units_show_a_value_and_nothing_more() {
        let gain = paired(&unit_mean(&[1.0; 9]), &unit_mean(&[0.0; 9]));
        assert_eq!((gain.value(), gain.method()), (1.0, Method::TooFewUnits));
        assert_eq!(
            (gain.interval(0.95), gain.p_value(), gain.p_regressed()),
            (None, None, None)
        );
        let other = unit_mean(&[0.5; 8]);
        let expected = StatsError::UnitsDiffer {
            expected: 8,
            got: 9,
        };
        assert_eq!(
            Difference::paired(&unit_mean(&[1.0; 9]), &other, HIGHER),
            Err(expected)
        );
    }

    proptest! {
        #[test]
        fn a_gain_is_mirrored_by_swapping_sides_and_by_direction(
            pairs in prop::collection::vec((0.0_f64..1.0, 0.0_f64..1.0, 1_u8..9), 10..40),
        ) {
            let side = |pick: fn(&(f64, f64, u8)) -> f64| {
                let units: Vec<[f64; 2]> =
                    pairs.iter().map(|it| [pick(it) * f64::from(it.2), f64::from(it.2)]).collect();
                Sample::ratio(&units, Some(Interval::UNIT)).unwrap()
            };
            let (one, other) = (side(|it| it.0), side(|it| it.1));
            let there = paired(&one, &other);
            let back = Difference::paired(&one, &other, LOWER).unwrap();
            prop_assert_eq!(&back, &paired(&other, &one));
            prop_assert_eq!(there.value(), -back.value());
            let (wide, mirrored) = (there.interval(0.95).unwrap(), back.interval(0.95).unwrap());
            prop_assert!(wide.contains(there.value()));
            prop_assert!((wide.low + mirrored.high).abs() < 1e-12);
            prop_assert!((there.p_value().unwrap() - back.p_value().unwrap()).abs() < 1e-10);
            let p = there.p_value().unwrap();
            if 1e-9 < (p - 0.05).abs() {
                prop_assert_eq!(p < 0.05, !wide.contains(0.0));
            }
        }
    }
}
