//! The delete-one-unit jackknife: how much a value rests on each unit, and its bounds.
//!
//! With `theta` the value on all U units and `theta_(u)` the value without unit u, the
//! pseudo-values are `phi_u = U theta - (U - 1) theta_(u)`. For a plain mean they are the values
//! themselves. Their standard deviation s (divisor U) and skewness g feed two bounds, and the
//! wider one counts:
//!
//! - Student's: `theta -/+ t SE` with `SE = s / sqrt(U - 1)`, which is the jackknife's
//!   `SE^2 = (U - 1) / U sum (theta_(u) - mean)^2`; on paired differences this is the paired t.
//! - Hall's, which follows the skewness: `theta - s f(+t / sqrt U)` below and
//!   `theta - s f(-t / sqrt U)` above, `f(y) = (3 / g) (cbrt(1 + g (y - g / (6 U))) - 1)`
//!   (P. Hall, Journal of the Royal Statistical Society B 54 (1992) 221).
//!
//! Only numbers: the rule that fewer than ten units get no interval, the clipping of bounded
//! metrics and the degenerate cases belong to [`super::Sample`] and [`super::Difference`].

use std::ops::Deref;

use super::Interval;
use super::quantile::{student_t_quantile, student_t_tail};
use super::sum::sum;

/// Below this absolute skewness Hall's bounds are Student's, and only those are used.
const NO_SKEWNESS: f64 = 1e-9;

/// A unit that holds more than this share of the squared deviation dominates the sample.
const DOMINANT_SHARE: f64 = 0.25;

/// A value with one pseudo-value per unit, and what follows from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Jackknife {
    moments: Moments,
    pseudo_values: Vec<f64>,
}

/// What bounds and tests need of a jackknife, whatever its number of units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    value: f64,
    n_units: usize,
    spread: f64,
    skewness: f64,
    dominant_unit: Option<(usize, f64)>,
}

/// Bounds and tests are those of the moments.
impl Deref for Jackknife {
    type Target = Moments;

    fn deref(&self) -> &Moments {
        &self.moments
    }
}

impl Jackknife {
    /// From the value on all units and the value without each one in turn.
    ///
    /// `None` with fewer than two units, or if any of the values is not finite.
    pub fn new(value: f64, leave_one_out: &[f64]) -> Option<Self> {
        let n = leave_one_out.len() as f64;
        // U theta - (U - 1) theta_(u), arranged so that two large terms never cancel.
        let pseudo = leave_one_out
            .iter()
            .map(|without| value + (n - 1.0) * (value - without));
        Self::from_pseudo_values(value, pseudo.collect())
    }

    /// Of the mean of `values`, one per unit. `None` as for [`Jackknife::new`].
    pub fn of_mean(values: &[f64]) -> Option<Self> {
        let mean = sum(values.iter().copied()) / values.len() as f64;
        Self::from_pseudo_values(mean, values.to_vec())
    }

    /// Of a ratio of sums; each unit brings its `[numerator, denominator]`.
    ///
    /// `None` as for [`Jackknife::new`], so also where the denominators without one unit sum to 0.
    pub fn of_ratio(units: &[[f64; 2]]) -> Option<Self> {
        let below = sum(units.iter().map(|unit| unit[1]));
        if let Some(first) = units.first()
            && units.iter().all(|unit| unit[1] == first[1])
        {
            let values: Vec<f64> = units.iter().map(|[a, b]| a / b).collect();
            return Self::of_mean(&values);
        }
        let value = sum(units.iter().map(|unit| unit[0])) / below;
        // (A - a) / (B - b) - A / B = (b theta - a) / (B - b), free of cancellation.
        let rest = units.len() as f64 - 1.0;
        let pseudo = units
            .iter()
            .map(|[a, b]| value + rest * (a - b * value) / (below - b));
        Self::from_pseudo_values(value, pseudo.collect())
    }

    /// Of a metric of summed statistics: `metric` maps the sums over units to the value.
    ///
    /// Each unit brings the same number of statistics. One unit is left out by subtraction, so a
    /// pass costs as much as the data is long; it is exact where the statistics are whole numbers.
    /// `None` as for [`Jackknife::new`].
    ///
    /// # Panics
    ///
    /// If a unit has fewer statistics than the first one; [`super::Sample::corpus`] checks it.
    pub fn of_corpus<R: AsRef<[f64]>>(units: &[R], metric: impl Fn(&[f64]) -> f64) -> Option<Self> {
        let width = units.first()?.as_ref().len();
        let totals: Vec<f64> = (0..width)
            .map(|column| sum(units.iter().map(|unit| unit.as_ref()[column])))
            .collect();
        let mut rest = totals.clone();
        let left_out: Vec<f64> = units
            .iter()
            .map(|unit| {
                for ((rest, total), own) in rest.iter_mut().zip(&totals).zip(unit.as_ref()) {
                    *rest = total - own;
                }
                metric(&rest)
            })
            .collect();
        Self::new(metric(&totals), &left_out)
    }

    fn from_pseudo_values(value: f64, pseudo_values: Vec<f64>) -> Option<Self> {
        let is_finite = value.is_finite() && pseudo_values.iter().all(|phi| phi.is_finite());
        if pseudo_values.len() < 2 || !is_finite {
            return None;
        }
        let n = pseudo_values.len() as f64;
        // Equal values have no spread, whatever the rounding of their mean.
        let is_constant = pseudo_values.iter().all(|phi| *phi == pseudo_values[0]);
        let mean = sum(pseudo_values.iter().copied()) / n;
        let spread = (sum(pseudo_values.iter().map(|phi| (phi - mean).powi(2))) / n).sqrt();
        let (spread, skewness) = if is_constant || spread == 0.0 {
            (0.0, 0.0)
        } else {
            (
                spread,
                sum(pseudo_values
                    .iter()
                    .map(|phi| ((phi - mean) / spread).powi(3)))
                    / n,
            )
        };
        let moments = Moments {
            value,
            n_units: pseudo_values.len(),
            spread,
            skewness,
            dominant_unit: dominant_unit(&pseudo_values, mean, spread),
        };
        Some(Self {
            moments,
            pseudo_values,
        })
    }

    /// This value minus `other`'s, each unit leaving both sides at once.
    ///
    /// `None` if the two do not have the same number of units.
    pub fn minus(&self, other: &Self) -> Option<Self> {
        if self.n_units() != other.n_units() {
            return None;
        }
        let pairs = self.pseudo_values.iter().zip(&other.pseudo_values);
        let differences = pairs.map(|(one, other)| one - other).collect();
        Self::from_pseudo_values(self.value - other.value, differences)
    }

    /// One pseudo-value per unit, in the order given, in the metric's unit.
    pub fn pseudo_values(&self) -> &[f64] {
        &self.pseudo_values
    }

    /// What remains without the pseudo-values.
    pub fn moments(&self) -> Moments {
        self.moments
    }
}

impl Moments {
    /// The value on all units.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// How many units there are, 2 or more.
    pub fn n_units(&self) -> usize {
        self.n_units
    }

    /// The standard deviation of the pseudo-values with divisor U, in the metric's unit.
    pub fn spread(&self) -> f64 {
        self.spread
    }

    /// The skewness of the pseudo-values (third moment over s^3); 0 where they do not vary.
    pub fn skewness(&self) -> f64 {
        self.skewness
    }

    /// The standard error of the value, in the metric's unit.
    pub fn stderr(&self) -> f64 {
        self.spread / (self.n_units() as f64 - 1.0).sqrt()
    }

    /// The one-sided lower bound at `confidence`: the lower of Student's and Hall's.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn lower(&self, confidence: f64) -> f64 {
        let t = student_t_quantile(confidence, self.n_units() - 1);
        let student = self.value - t * self.stderr();
        self.hall(t).map_or(student, |hall| student.min(hall))
    }

    /// The one-sided upper bound at `confidence`: the higher of Student's and Hall's.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn upper(&self, confidence: f64) -> f64 {
        let t = student_t_quantile(confidence, self.n_units() - 1);
        let student = self.value + t * self.stderr();
        self.hall(-t).map_or(student, |hall| student.max(hall))
    }

    /// The two-sided interval: both one-sided bounds at `(1 + confidence) / 2`.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    pub fn interval(&self, confidence: f64) -> Interval {
        let one_sided = f64::midpoint(1.0, confidence);
        Interval {
            low: self.lower(one_sided),
            high: self.upper(one_sided),
        }
    }

    /// The two-sided p-value against 0: the level at which the interval just reaches 0.
    ///
    /// Both kinds of bound are solved for t in closed form, so nothing is searched and the
    /// p-value and the interval never disagree by more than rounding. Where Hall's shift holds 0
    /// inside the interval at every level, it is 1. Where no unit differs from another, it is 0,
    /// or 1 if the value is 0.
    pub fn p_value(&self) -> f64 {
        (2.0 * self.p_positive().min(self.p_negative())).min(1.0)
    }

    /// The one-sided p-value of "the value is above 0": the level at which the lower bound is 0.
    pub fn p_positive(&self) -> f64 {
        self.p_above(0.0)
    }

    /// The one-sided p-value of "the value is below 0": the level at which the upper bound is 0.
    pub fn p_negative(&self) -> f64 {
        self.p_below(0.0)
    }

    /// The one-sided p-value of "the value is above `threshold`": the level at which the lower
    /// bound is `threshold`.
    pub fn p_above(&self, threshold: f64) -> f64 {
        self.tail_where_bound_reaches(threshold, 1.0)
    }

    /// The one-sided p-value of "the value is below `threshold`": the level at which the upper
    /// bound is `threshold`.
    pub fn p_below(&self, threshold: f64) -> f64 {
        self.tail_where_bound_reaches(threshold, -1.0)
    }

    /// The unit that holds over a quarter of the squared deviation of the pseudo-values, as its
    /// index and its share; the first of the largest.
    pub fn dominant_unit(&self) -> Option<(usize, f64)> {
        self.dominant_unit
    }

    /// Hall's bound for a signed `t`; `None` without skewness.
    fn hall(&self, t: f64) -> Option<f64> {
        let (n, g) = (self.n_units() as f64, self.skewness);
        if g.abs() < NO_SKEWNESS {
            return None;
        }
        let y = t / n.sqrt();
        let f = 3.0 / g * ((1.0 + g * (y - g / (6.0 * n))).cbrt() - 1.0);
        Some(self.value - self.spread * f)
    }

    /// The tail beyond the smallest t for which the lower bound (`sign` 1) or the upper bound
    /// (`sign` -1) reaches `threshold`. The wider of two bounds reaches it when the first does.
    fn tail_where_bound_reaches(&self, threshold: f64, sign: f64) -> f64 {
        let (n, g) = (self.n_units() as f64, self.skewness);
        let distance = self.value - threshold;
        if self.spread == 0.0 {
            return if 0.0 < sign * distance { 0.0 } else { 1.0 };
        }
        let student = sign * distance / self.stderr();
        let t = if g.abs() < NO_SKEWNESS {
            student
        } else {
            // The inverse of f, Hall's cubic, at x = (theta - threshold) / s.
            let x = distance / self.spread;
            let cubic = x + g * x * x / 3.0 + g * g * x.powi(3) / 27.0 + g / (6.0 * n);
            student.min(sign * n.sqrt() * cubic)
        };
        student_t_tail(t, self.n_units() - 1)
    }
}

fn dominant_unit(pseudo_values: &[f64], mean: f64, spread: f64) -> Option<(usize, f64)> {
    if spread == 0.0 {
        return None;
    }
    let n = pseudo_values.len() as f64;
    let share = |phi: f64| ((phi - mean) / spread).powi(2) / n;
    let mut dominant = None;
    let mut largest = DOMINANT_SHARE;
    for (unit_index, phi) in pseudo_values.iter().enumerate() {
        if largest < share(*phi) {
            largest = share(*phi);
            dominant = Some((unit_index, largest));
        }
    }
    dominant
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};
    use serde_json::Value;

    use super::*;
    use crate::stats::goldens::{assert_near, goldens, number, numbers};

    fn corpus_f1(sums: &[f64]) -> f64 {
        2.0 * sums[0] / (2.0 * sums[0] + sums[1] + sums[2])
    }

    /// The jackknife of a golden sample, by the constructor for its kind.
    fn golden_sample(row: &Value) -> Jackknife {
        let units: Vec<Vec<f64>> = row["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .collect();
        match row["name"].as_str().unwrap() {
            "ratio" => {
                let pairs: Vec<[f64; 2]> = units.iter().map(|it| [it[0], it[1]]).collect();
                Jackknife::of_ratio(&pairs)
            }
            "corpus" => Jackknife::of_corpus(&units, corpus_f1),
            "corpus_difference" => {
                let side =
                    |at: usize| -> Vec<&[f64]> { units.iter().map(|it| &it[at..at + 3]).collect() };
                let of = |units: Vec<&[f64]>| Jackknife::of_corpus(&units, corpus_f1).unwrap();
                of(side(0)).minus(&of(side(3)))
            }
            _ => Jackknife::of_mean(&units.concat()),
        }
        .unwrap()
    }

    #[test]
    fn everything_agrees_with_samples_rebuilt_without_each_unit() {
        for row in goldens("jackknife") {
            let (got, name) = (golden_sample(&row), &row["name"]);
            let near = |value: f64, key: &str| {
                assert_near(value, number(&row, key), 1e-10, &format!("{key} of {name}"));
            };
            near(got.value(), "theta");
            near(got.stderr(), "stderr");
            near(got.spread(), "spread");
            near(got.skewness(), "skewness");
            near(got.lower(0.95), "low95");
            near(got.upper(0.95), "high95");
            near(got.p_value(), "p");
            let below = &row["below"];
            let p = got.p_below(number(below, "threshold"));
            assert_near(p, number(below, "p"), 1e-10, &format!("p below of {name}"));
            let above = &row["above"];
            let p = got.p_above(number(above, "threshold"));
            assert_near(p, number(above, "p"), 1e-10, &format!("p above of {name}"));
            let (interval, expected) = (got.interval(0.95), numbers(&row["interval95"]));
            assert_near(interval.low, expected[0], 1e-10, &format!("low of {name}"));
            assert_near(
                interval.high,
                expected[1],
                1e-10,
                &format!("high of {name}"),
            );
        }
    }

    #[test]
    fn small_p_values_keep_their_digits() {
        let rows = goldens("jackknife");
        let ratio = rows.iter().find(|row| row["name"] == "ratio").unwrap();
        assert_near(
            golden_sample(ratio).p_value() / number(ratio, "p"),
            1.0,
            1e-8,
            "ratio",
        );
    }

    #[test]
    fn without_skewness_it_is_the_paired_t_of_scipy() {
        let row = &goldens("paired_t")[0];
        let side = |key: &str| Jackknife::of_mean(&numbers(&row[key])).unwrap();
        let got = side("candidate").minus(&side("reference")).unwrap();
        assert_near(got.p_value(), number(row, "p"), 1e-12, "p");
        for expected in row["intervals"].as_array().unwrap() {
            let interval = got.interval(number(expected, "confidence"));
            assert_near(interval.low, number(expected, "low"), 1e-12, "low");
            assert_near(interval.high, number(expected, "high"), 1e-12, "high");
        }
    }

    /// Where skewness is mere rounding, Hall's bound would divide rounding by rounding.
    #[test]
    fn skewness_that_is_rounding_is_none() {
        for noise in [0.0, 1e-13, -3e-13, 1e-12] {
            let values = [
                -2.5,
                -2.0,
                -1.5,
                -1.0,
                -0.5,
                0.5,
                1.0,
                1.5,
                2.0,
                2.5 + noise,
            ];
            let jackknife = Jackknife::of_mean(&values).unwrap();
            assert!(jackknife.skewness().abs() < 1e-11, "{noise}");
            // Student's t with 9 degrees of freedom leaves 2.5 % beyond 2.262157163.
            let reach = 2.262_157_162_854 * jackknife.stderr();
            assert_near(jackknife.lower(0.975), -reach, 1e-9, "lower");
            assert_near(jackknife.upper(0.975), reach, 1e-9, "upper");
        }
    }

    #[test]
    fn a_skewed_sample_reaches_further_on_its_long_side() {
        // 96 times 0 and 4 times -1: the long tail is below, so Hall's lower bound is the wider.
        let failures: Vec<f64> = (0..100).map(|k| if k < 4 { -1.0 } else { 0.0 }).collect();
        let got = Jackknife::of_mean(&failures).unwrap();
        let interval = got.interval(0.95);
        let half = student_t_quantile(0.975, 99) * got.stderr();
        assert!(interval.low < got.value() - half - 0.01);
        assert_near(
            interval.high,
            got.value() + half,
            1e-14,
            "the short side is Student's",
        );
    }

    #[test]
    fn the_unit_that_carries_the_difference_is_named() {
        // One -1 among 100: mean -0.01, its squared deviation 0.9801 of 0.99 in all.
        let mut gains = vec![0.0; 100];
        gains[41] = -1.0;
        let (unit_index, share) = Jackknife::of_mean(&gains).unwrap().dominant_unit().unwrap();
        assert_eq!(unit_index, 41);
        assert_near(share, 0.99, 1e-12, "share");
        assert_eq!(
            Jackknife::of_mean(&[0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
                .unwrap()
                .dominant_unit(),
            None
        );
        assert_eq!(
            Jackknife::of_mean(&[0.1; 30]).unwrap().dominant_unit(),
            None
        );
    }

    #[test]
    fn constant_values_have_no_spread() {
        let got = Jackknife::of_mean(&[0.1; 30]).unwrap();
        assert_eq!((got.stderr(), got.skewness()), (0.0, 0.0));
        assert_eq!(
            got.interval(0.95),
            Interval {
                low: got.value(),
                high: got.value()
            }
        );
        assert_eq!(got.p_value(), 0.0);
        assert_eq!(Jackknife::of_mean(&[0.0; 30]).unwrap().p_value(), 1.0);
    }

    #[test]
    fn what_has_no_value_without_a_unit_is_refused() {
        assert_eq!(Jackknife::of_mean(&[1.0]), None);
        assert_eq!(Jackknife::of_mean(&[1.0, f64::NAN]), None);
        assert_eq!(Jackknife::of_ratio(&[[1.0, 2.0], [0.0, 0.0]]), None);
        let (two, three) = (
            Jackknife::of_mean(&[1.0, 2.0]),
            Jackknife::of_mean(&[1.0, 2.0, 3.0]),
        );
        assert_eq!(two.unwrap().minus(&three.unwrap()), None);
    }

    /// The promise of a 95 % interval, on means of 50 exponential values (skewness 2).
    #[test]
    fn ninety_five_percent_intervals_hold_the_truth_that_often() {
        let mut rng = ChaCha8Rng::seed_from_u64(50);
        let mut n_covered = 0;
        for _ in 0..2_000 {
            // -ln(1 - u), u uniform on [0, 1) from the top 53 bits: mean 1.
            let values: Vec<f64> = (0..50)
                .map(|_| -(-((rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)).ln_1p())
                .collect();
            let interval = Jackknife::of_mean(&values).unwrap().interval(0.95);
            n_covered += u32::from(interval.contains(1.0));
        }
        let coverage = f64::from(n_covered) / 2_000.0;
        assert!((0.93..=0.98).contains(&coverage), "coverage {coverage}");
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-3.0_f64..4.0, 10..60)
    }

    proptest! {
        #[test]
        fn the_interval_contains_the_value_and_grows(values in values(), confidence in 0.05_f64..0.98) {
            let got = Jackknife::of_mean(&values).unwrap();
            let interval = got.interval(confidence);
            prop_assert!(interval.contains(got.value()));
            prop_assert!(interval.is_within(got.interval(confidence + 0.01)));
        }

        #[test]
        fn p_is_the_level_at_which_the_interval_reaches_zero(values in values(), shift in -1.0_f64..1.0) {
            let values: Vec<f64> = values.iter().map(|it| it.powi(3) / 9.0 + shift).collect();
            let got = Jackknife::of_mean(&values).unwrap();
            let p = got.p_value();
            if 1e-9 < p && p < 0.999 {
                let interval = got.interval(1.0 - p);
                let end = if 0.0 < got.value() { interval.low } else { interval.high };
                prop_assert!(end.abs() < 1e-7 * got.spread(), "{p} {end}");
            }
            let excludes_zero = !got.interval(0.95).contains(0.0);
            if 1e-9 < (p - 0.05).abs() {
                prop_assert_eq!(p <= 0.05, excludes_zero);
            }
        }

        #[test]
        fn swapping_sides_negates(candidate in values(), seed in any::<u64>()) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let noise: Vec<f64> = candidate.iter().map(|it| it + f64::from(rng.next_u32() % 9)).collect();
            let (one, other) = (Jackknife::of_mean(&candidate).unwrap(), Jackknife::of_mean(&noise).unwrap());
            let (there, back) = (one.minus(&other).unwrap(), other.minus(&one).unwrap());
            prop_assert_eq!(there.value(), -back.value());
            prop_assert!((there.lower(0.95) + back.upper(0.95)).abs() < 1e-12 * (1.0 + there.value().abs()));
            prop_assert!((there.p_value() - back.p_value()).abs() < 1e-12);
        }

        #[test]
        fn the_order_of_units_does_not_matter(mut values in values()) {
            let one = Jackknife::of_mean(&values).unwrap();
            values.reverse();
            values.swap(0, 5);
            let other = Jackknife::of_mean(&values).unwrap();
            prop_assert!((one.value() - other.value()).abs() < 1e-14);
            prop_assert!((one.upper(0.9) - other.upper(0.9)).abs() < 1e-12);
        }

        #[test]
        fn three_roads_to_a_mean_agree(values in values()) {
            let mean = Jackknife::of_mean(&values).unwrap();
            let halves: Vec<[f64; 2]> = values.iter().map(|it| [*it, 1.0]).collect();
            let corpus = Jackknife::of_corpus(&halves, |sums| sums[0] / sums[1]).unwrap();
            let doubled: Vec<[f64; 2]> =
                values.iter().enumerate().map(|(k, it)| [it * (1 + k % 2) as f64, (1 + k % 2) as f64]).collect();
            let ratio = Jackknife::of_ratio(&doubled).unwrap();
            let brute = Jackknife::of_corpus(&doubled, |sums| sums[0] / sums[1]).unwrap();
            for confidence in [0.05, 0.9, 0.975] {
                prop_assert!((mean.lower(confidence) - corpus.lower(confidence)).abs() < 1e-10);
                prop_assert!((ratio.upper(confidence) - brute.upper(confidence)).abs() < 1e-10);
            }
        }
    }
}
