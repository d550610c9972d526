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
mod tests;
