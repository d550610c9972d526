//! Proportions: Wilson's interval for one, Tango's and McNemar's test for a paired difference.
//!
//! Counts come in, so no unit is named. A one-sided bound at confidence `c` is the end of the
//! two-sided interval at `2c - 1`. Confidences lie strictly between 0 and 1.
//!
//! Sources: E. B. Wilson, JASA 22 (1927) 209; T. Tango, Statistics in Medicine 17 (1998) 891;
//! M. W. Fagerland, S. Lydersen, P. Laake, BMC Medical Research Methodology 13 (2013) 91 (mid-p).

use super::Interval;
use super::quantile::normal_quantile;

/// Wilson's two-sided score interval for a proportion of `successes` in `n`.
///
/// Without trials it is all of `[0, 1]`.
///
/// # Panics
///
/// If `successes` exceeds `n`, or `confidence` is not strictly between 0 and 1.
pub fn wilson(successes: u64, n: u64, confidence: f64) -> Interval {
    let one_sided = f64::midpoint(1.0, confidence);
    Interval {
        low: wilson_lower(successes, n, one_sided),
        high: wilson_upper(successes, n, one_sided),
    }
}

/// Wilson's one-sided lower bound; exactly 0 without successes.
///
/// # Panics
///
/// As [`wilson`].
pub fn wilson_lower(successes: u64, n: u64, confidence: f64) -> f64 {
    assert!(successes <= n, "{successes} successes in {n}");
    wilson_end(successes, n, -normal_quantile(confidence))
}

/// Wilson's one-sided upper bound; exactly 1 without failures.
///
/// # Panics
///
/// As [`wilson`].
pub fn wilson_upper(successes: u64, n: u64, confidence: f64) -> f64 {
    assert!(successes <= n, "{successes} successes in {n}");
    wilson_end(successes, n, normal_quantile(confidence))
}

/// The proportion that lies `z` of its own standard errors above the observed one.
fn wilson_end(successes: u64, n: u64, z: f64) -> f64 {
    let sign = z.signum();
    if n == 0 {
        return if sign < 0.0 { 0.0 } else { 1.0 };
    }
    // Set, not computed, so that rounding cannot move them.
    if successes == 0 && sign < 0.0 {
        return 0.0;
    }
    if successes == n && 0.0 < sign {
        return 1.0;
    }
    let (share, n) = (successes as f64 / n as f64, n as f64);
    let square = z * z / n;
    let half = (share * (1.0 - share) * square + square * square / 4.0).sqrt();
    ((share + square / 2.0 + sign * half) / (1.0 + square)).clamp(0.0, 1.0)
}

/// Tango's two-sided score interval for the difference of paired proportions `(b - c) / n`.
///
/// `b` counts the pairs in which only the candidate is right, `c` those in which only the
/// reference is, `n` all pairs. Without pairs it is all of `[-1, 1]`.
///
/// # Panics
///
/// If `b + c` exceeds `n`, or `confidence` is not strictly between 0 and 1.
pub fn tango(b: u64, c: u64, n: u64, confidence: f64) -> Interval {
    let one_sided = f64::midpoint(1.0, confidence);
    Interval {
        low: tango_lower(b, c, n, one_sided),
        high: tango_upper(b, c, n, one_sided),
    }
}

/// Tango's one-sided lower bound, the mirror image of the upper one with the sides swapped.
///
/// # Panics
///
/// As [`tango`].
pub fn tango_lower(b: u64, c: u64, n: u64, confidence: f64) -> f64 {
    -tango_upper(c, b, n, confidence)
}

/// Tango's one-sided upper bound.
///
/// # Panics
///
/// As [`tango`].
pub fn tango_upper(b: u64, c: u64, n: u64, confidence: f64) -> f64 {
    assert!(b <= n && c <= n - b, "{b} + {c} discordant among {n} pairs");
    let z = normal_quantile(confidence);
    if z < 0.0 {
        return tango_lower(b, c, n, 1.0 - confidence);
    }
    if b == n {
        return 1.0;
    }
    let (gain, n_pairs) = (b as f64 - c as f64, n as f64);
    let estimate = gain / n_pairs;
    // Beyond the bound, the distance exceeds z standard errors; it falls once, so halve.
    let is_beyond = |delta: f64| {
        let distance = gain - n_pairs * delta;
        z * z * tango_variance(b as f64, c as f64, n_pairs, delta) < distance * distance
    };
    let (mut inside, mut outside) = (estimate, 1.0);
    loop {
        let middle = f64::midpoint(inside, outside);
        if middle <= inside || outside <= middle {
            return middle;
        }
        if is_beyond(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
}

/// The variance of `b - c` if the true difference is `delta`, at the likeliest discordance.
///
/// Tango's equation for the constrained probability q of "only the reference is right":
/// `2n q^2 - (b + c - (2n - b + c) delta) q - c delta (1 - delta) = 0`.
fn tango_variance(b: f64, c: f64, n: f64, delta: f64) -> f64 {
    // For delta >= 0 nothing cancels in the root; a negative one is the same with sides swapped.
    if delta < 0.0 {
        return tango_variance(c, b, n, -delta);
    }
    let quadratic = 2.0 * n;
    let linear = (2.0 * n - b + c) * delta - b - c;
    let constant = c * delta * (1.0 - delta);
    let root = (linear * linear + 4.0 * quadratic * constant).sqrt();
    let q = if linear <= 0.0 {
        (root - linear) / (2.0 * quadratic)
    } else {
        2.0 * constant / (root + linear)
    };
    n * (2.0 * q + delta * (1.0 - delta))
}

/// McNemar's two-sided mid-p value: how surprising a split of the discordant pairs into `b` and
/// `c` is if both sides are equally good. 1 without discordant pairs.
///
/// Twice the smaller binomial tail with half the observed split's own probability. The binomial
/// weights are built from the middle outwards by their ratios, so no factorial is needed and
/// the relative error stays near 1e-16 times the number of pairs.
pub fn mcnemar_mid_p(b: u64, c: u64) -> f64 {
    let (n, fewer) = (b + c, b.min(c));
    let middle = n / 2;
    let (mut total, mut tail) = (0.0, 0.0);
    let mut weight = 1.0;
    for k in (0..=middle).rev() {
        // Every split but an even one has a mirror image.
        total += if 2 * k == n { weight } else { 2.0 * weight };
        if k < fewer {
            tail += 2.0 * weight;
        } else if k == fewer {
            tail += weight;
        }
        weight *= k as f64 / (n - k + 1) as f64;
        if weight == 0.0 {
            break;
        }
    }
    (tail / total).min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::goldens::{assert_near, count, goldens, number};

    #[test]
    fn wilson_agrees_with_statsmodels() {
        for row in goldens("wilson") {
            let got = wilson(
                count(&row, "successes"),
                count(&row, "n"),
                number(&row, "confidence"),
            );
            assert_near(got.low, number(&row, "low"), 1e-12, &row.to_string());
            assert_near(got.high, number(&row, "high"), 1e-12, &row.to_string());
        }
    }

    #[test]
    fn tango_agrees_with_the_roots_of_its_score() {
        for row in goldens("tango") {
            let (b, c, n) = (count(&row, "b"), count(&row, "c"), count(&row, "n"));
            let got = tango(b, c, n, number(&row, "confidence"));
            assert_near(got.low, number(&row, "low"), 1e-10, &row.to_string());
            assert_near(got.high, number(&row, "high"), 1e-10, &row.to_string());
        }
    }

    /// Airway responsiveness of 21 children, 1 and 7 discordant: -0.517 to -0.026 is the interval
    /// in M. W. Fagerland et al., Statistics in Medicine 33 (2014) 2850; their mid-p is 0.039.
    #[test]
    fn a_published_example_is_reproduced() {
        let got = tango(1, 7, 21, 0.95);
        assert_near(got.low, -0.517, 5e-4, "low");
        assert_near(got.high, -0.026, 5e-4, "high");
        // 2 (1 + 8 / 2) / 256
        assert_near(mcnemar_mid_p(1, 7), 10.0 / 256.0, 1e-15, "mid-p");
    }

    #[test]
    fn mid_p_agrees_with_exact_fractions() {
        for row in goldens("mcnemar") {
            let (got, p) = (
                mcnemar_mid_p(count(&row, "b"), count(&row, "c")),
                number(&row, "p"),
            );
            assert_near(got / p, 1.0, 1e-13, &row.to_string());
        }
    }

    #[test]
    fn extreme_counts_give_exact_ends() {
        assert_eq!(wilson(0, 7, 0.95).low, 0.0);
        assert_eq!(wilson(7, 7, 0.95).high, 1.0);
        assert_eq!(wilson(0, 0, 0.95), Interval::UNIT);
        assert_eq!(tango(4, 0, 4, 0.95).high, 1.0);
        assert_eq!(tango(0, 4, 4, 0.95).low, -1.0);
        assert_eq!(
            tango(0, 0, 0, 0.95),
            Interval {
                low: -1.0,
                high: 1.0
            }
        );
        assert_eq!(mcnemar_mid_p(0, 0), 1.0);
        // 600,000 pairs against none: 2^-600000 is below the smallest f64.
        assert_eq!(mcnemar_mid_p(600_000, 0), 0.0);
    }

    /// Set, not computed: rounding must not make a perfect score look imperfect.
    #[test]
    fn wilsons_bounds_reach_the_ends_exactly() {
        for n in 1..=500 {
            for confidence in [0.6, 0.9, 0.95, 0.975, 0.99] {
                assert_eq!(wilson_lower(0, n, confidence), 0.0, "{n}");
                assert_eq!(wilson_upper(n, n, confidence), 1.0, "{n}");
            }
        }
    }

    /// A coin's confidence: the bound on either side is the estimate.
    #[test]
    fn tangos_bounds_meet_at_the_estimate() {
        assert_near(tango_upper(3, 1, 10, 0.5), 0.2, 1e-15, "upper");
        assert_near(tango_lower(3, 1, 10, 0.5), 0.2, 1e-15, "lower");
    }

    /// Without a discordant pair Tango's bounds are Wilson's for no failure: z^2 / (n + z^2).
    #[test]
    fn agreement_everywhere_still_leaves_room_for_a_rare_difference() {
        let got = tango(0, 0, 40, 0.95);
        assert_near(got.high, wilson(0, 40, 0.95).high, 1e-14, "high");
        assert_eq!(got.low, -got.high);
    }

    proptest! {
        #[test]
        fn intervals_contain_the_estimate_and_grow_with_confidence(
            b in 0_u64..60, c in 0_u64..60, rest in 0_u64..200, confidence in 0.01_f64..0.99,
        ) {
            let n = b + c + rest;
            prop_assume!(0 < n);
            let one = wilson(b, n, confidence);
            prop_assert!(one.contains(b as f64 / n as f64));
            prop_assert!(one.is_within(wilson(b, n, confidence + 0.005)));
            let difference = tango(b, c, n, confidence);
            prop_assert!(difference.contains((b as f64 - c as f64) / n as f64));
            prop_assert!(difference.is_within(tango(b, c, n, confidence + 0.005)));
            prop_assert!(-1.0 <= difference.low && difference.high <= 1.0);
        }

        #[test]
        fn swapping_sides_mirrors_the_answer(b in 0_u64..99, c in 0_u64..99, rest in 0_u64..99) {
            let (one, other) = (tango(b, c, b + c + rest, 0.95), tango(c, b, b + c + rest, 0.95));
            prop_assert_eq!((one.low, one.high), (-other.high, -other.low));
            prop_assert_eq!(mcnemar_mid_p(b, c), mcnemar_mid_p(c, b));
        }

        #[test]
        fn bounds_below_even_confidence_cross_over(b in 0_u64..40, rest in 1_u64..40) {
            let n = b + rest;
            let (low, high) = (wilson_lower(b, n, 0.3), wilson_upper(b, n, 0.7));
            prop_assert!((low - high).abs() < 1e-12);
            prop_assert!((tango_lower(b, 0, n, 0.3) - tango_upper(b, 0, n, 0.7)).abs() < 1e-12);
        }
    }
}
