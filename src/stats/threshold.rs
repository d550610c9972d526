//! One variant held against a fixed value: is its metric below it, or above it?
//!
//! The p-values here invert the one-sided bounds of [`Sample::lower`] and [`Sample::upper`], so a
//! p-value is below `a` exactly where the bound at confidence `1 - a` lies beyond the threshold.
//! They are what Holm's correction needs where many such questions are asked at once.

use super::quantile::normal_tail;
use super::sample::Sample;

impl Sample {
    /// The one-sided p-value of "the metric is below `threshold`": the smallest level `a` at which
    /// `upper(1 - a)` is below it.
    ///
    /// The score test where the bound is Wilson's, whose variance is that of the threshold; else
    /// the jackknife's. `None` where there is no bound.
    pub fn p_below(&self, threshold: f64) -> Option<f64> {
        self.p_beyond(threshold, -1.0)
    }

    /// The one-sided p-value of "the metric is above `threshold`", the mirror image of
    /// [`Sample::p_below`].
    pub fn p_above(&self, threshold: f64) -> Option<f64> {
        self.p_beyond(threshold, 1.0)
    }

    /// The unit that holds over a quarter of the squared deviation of the pseudo-values, with its
    /// share. `None` where Wilson's interval applies, which allows for rare values by itself.
    pub fn dominant_unit(&self) -> Option<(usize, f64)> {
        if self.successes().is_some() {
            return None;
        }
        self.jackknife()?.dominant_unit()
    }

    fn p_beyond(&self, threshold: f64, sign: f64) -> Option<f64> {
        // A threshold that no value can pass: bounds are clipped to the range.
        if let Some(range) = self.range() {
            if threshold < range.low {
                return Some(if 0.0 < sign { 0.0 } else { 1.0 });
            }
            if range.high < threshold {
                return Some(if 0.0 < sign { 1.0 } else { 0.0 });
            }
        }
        let Some((successes, range)) = self.successes() else {
            let jackknife = self.jackknife_for_bounds()?;
            return Some(if 0.0 < sign {
                jackknife.p_above(threshold)
            } else {
                jackknife.p_below(threshold)
            });
        };
        let n = self.n_units() as f64;
        let expected = (threshold - range.low) / range.span();
        let distance = sign * (successes as f64 / n - expected);
        if distance == 0.0 {
            // At an end of the range the variance is 0 as well, and nothing lies beyond.
            let is_end = expected == 0.0 || expected == 1.0;
            return Some(if is_end { 1.0 } else { 0.5 });
        }
        Some(normal_tail(
            distance / (expected * (1.0 - expected) / n).sqrt(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::Interval;
    use crate::stats::goldens::{assert_near, count, goldens, number};

    fn hits(successes: u64, n: u64) -> Sample {
        let outcomes: Vec<bool> = (0..n).map(|k| k < successes).collect();
        Sample::proportion(&outcomes).unwrap()
    }

    #[test]
    fn a_proportion_agrees_with_the_score_test_of_statsmodels() {
        for row in goldens("proportion_tails") {
            let sample = hits(count(&row, "successes"), count(&row, "n"));
            let threshold = number(&row, "threshold");
            let (below, above) = (sample.p_below(threshold), sample.p_above(threshold));
            assert_near(below.unwrap(), number(&row, "below"), 1e-12, "below");
            assert_near(above.unwrap(), number(&row, "above"), 1e-12, "above");
        }
    }

    #[test]
    fn nothing_lies_beyond_the_ends_of_a_range() {
        assert_eq!(hits(0, 20).p_below(0.0), Some(1.0));
        assert_eq!(hits(20, 20).p_above(1.0), Some(1.0));
        assert_eq!(hits(0, 20).p_above(0.0), Some(1.0));
        assert_eq!(hits(20, 20).p_below(1.0), Some(1.0));
        // A single miss proves that the share is not 1, and anything is below 1.5.
        assert_eq!(hits(19, 20).p_below(1.0), Some(0.0));
        assert_eq!(hits(20, 20).p_below(1.5), Some(0.0));
        assert_eq!(hits(20, 20).p_above(1.5), Some(1.0));
        assert_eq!(hits(0, 20).p_above(-0.5), Some(0.0));
    }

    /// From 1 to 5, everything at 5: 4 lies three quarters up.
    #[test]
    fn a_threshold_on_another_scale_is_one_on_shares() {
        let range = Interval {
            low: 1.0,
            high: 5.0,
        };
        let scaled = Sample::mean(&[5.0; 20], Some(range)).unwrap();
        let shares = hits(20, 20);
        assert_eq!(scaled.p_above(4.0), shares.p_above(0.75));
        assert_eq!(scaled.p_below(4.0), shares.p_below(0.75));
        assert!(scaled.p_above(4.0).unwrap() < 0.01);
    }

    #[test]
    fn a_mean_of_few_units_has_no_p_value() {
        let few = Sample::mean(&[0.1, 0.2, 0.3], None).unwrap();
        assert_eq!((few.p_below(1.0), few.p_above(0.0)), (None, None));
    }

    #[test]
    fn a_single_low_value_dominates_a_mean_but_not_a_count() {
        let mut values = vec![0.9; 40];
        values[7] = 0.1;
        let mean = Sample::mean(&values, Some(Interval::UNIT)).unwrap();
        assert_eq!(mean.dominant_unit().unwrap().0, 7);
        assert_eq!(hits(39, 40).dominant_unit(), None);
        let constant = Sample::mean(&[1.0; 40], Some(Interval::UNIT)).unwrap();
        assert_eq!(constant.dominant_unit(), None);
    }

    proptest! {
        /// Holm compares p-values where the contract speaks of bounds: they must never disagree.
        #[test]
        fn a_p_value_is_the_level_at_which_the_bound_reaches_the_threshold(
            values in prop::collection::vec(0.0_f64..1.0, 12..40),
            threshold in 0.05_f64..0.95,
            level in 0.01_f64..0.49,
        ) {
            let bounded = Sample::mean(&values, Some(Interval::UNIT)).unwrap();
            let count = hits(values.iter().filter(|it| **it < 0.5).count() as u64, values.len() as u64);
            for sample in [bounded, count] {
                let p = sample.p_below(threshold).unwrap();
                if 1e-9 < (p - level).abs() {
                    prop_assert_eq!(p < level, sample.upper(1.0 - level).unwrap() < threshold);
                }
                let p = sample.p_above(threshold).unwrap();
                if 1e-9 < (p - level).abs() {
                    prop_assert_eq!(p < level, threshold < sample.lower(1.0 - level).unwrap());
                }
            }
        }
    }
}
