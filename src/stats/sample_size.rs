//! How many units a gate needs, and what a dataset of a given size can show.
//!
//! Forecasts rest on the spread of single gains and on the tolerance asked for, never on the
//! difference that was observed.

use super::Interval;
use super::quantile::normal_quantile;

/// Units below which an unbounded metric cannot pass a gate.
const FLOOR_UNBOUNDED: u64 = 30;

/// The normal quantile of 80 % power, to the digits the contract names.
const Z_POWER: f64 = 0.842;

/// Standard errors that a two-sided 5 % test finds with 80 % power: 1.96 + 0.84.
const Z_DETECTABLE: f64 = 2.80;

/// The share of discordant pairs expected of a harmless edit, where nothing is stored.
const DISCORDANT_SHARE: f64 = 0.10;

/// The spread of gains to plan with where no pseudo-values are stored: the square root of a
/// discordant share of 0.10. A proportion's gain of 1, 0 or -1 with mean 0 has this spread.
pub fn default_spread() -> f64 {
    DISCORDANT_SHARE.sqrt()
}

/// The fewest units that may pass a gate with tolerance `max_drop` at one-sided `confidence`.
///
/// For a metric bounded to `range`: `ceil(ln(1 - confidence) / ln(1 - max_drop / span))`, so that
/// a drop of `max_drop` made of rare total failures would have been seen once. Others: 30.
/// `None` if no number suffices, which is a bounded metric with no tolerance; at least 1.
///
/// # Panics
///
/// If `confidence` is not strictly between 0 and 1.
pub fn floor_units(confidence: f64, max_drop: f64, range: Option<Interval>) -> Option<u64> {
    assert!(
        0.0 < confidence && confidence < 1.0,
        "confidence {confidence} is not in (0, 1)"
    );
    let Some(range) = range else {
        return Some(FLOOR_UNBOUNDED);
    };
    let share = max_drop / range.span();
    if share <= 0.0 {
        return None;
    }
    if 1.0 <= share {
        return Some(1);
    }
    Some(round_up((-confidence).ln_1p() / (-share).ln_1p()).max(1))
}

/// How many units a gate needs for a harmless edit to pass 4 times in 5.
///
/// `max(floor, ceil(((z + 0.842) s / max_drop)^2))` with z the normal quantile of the one-sided
/// `confidence` and s the `spread` of gains, in the same unit as `max_drop`. `None` if no number
/// suffices: no tolerance while gains vary.
///
/// # Panics
///
/// If `confidence` is not strictly between 0 and 1.
pub fn planned_units(confidence: f64, max_drop: f64, spread: f64, floor: u64) -> Option<u64> {
    let z = normal_quantile(confidence);
    if spread <= 0.0 {
        return Some(floor);
    }
    if max_drop <= 0.0 {
        return None;
    }
    Some(round_up(((z + Z_POWER) * spread / max_drop).powi(2)).max(floor))
}

/// The smallest difference that `n_units` can show: `2.80 s / sqrt(U)`, in the unit of `spread`.
///
/// A true difference of this size is found 4 times in 5 by a two-sided test at 5 %. Infinite
/// without units.
pub fn smallest_difference(spread: f64, n_units: usize) -> f64 {
    if n_units == 0 {
        return f64::INFINITY;
    }
    Z_DETECTABLE * spread / (n_units as f64).sqrt()
}

/// The next whole number, where one reached but for rounding counts as reached.
fn round_up(units: f64) -> u64 {
    (units * (1.0 - 1e-12)).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::goldens::assert_near;

    #[test]
    fn the_floor_would_have_shown_a_rare_failure_once() {
        let unit = Some(Interval::UNIT);
        // ln 0.05 / ln 0.95 = 58.4, ln 0.05 / ln 0.99 = 298.07, ln 0.01 / ln 0.98 = 227.9
        assert_eq!(floor_units(0.95, 0.05, unit), Some(59));
        assert_eq!(floor_units(0.95, 0.01, unit), Some(299));
        assert_eq!(floor_units(0.99, 0.02, unit), Some(228));
        // Points from 0 to 100: 5 points are a share of 0.05.
        assert_eq!(
            floor_units(
                0.95,
                5.0,
                Some(Interval {
                    low: 0.0,
                    high: 100.0
                })
            ),
            Some(59)
        );
        // (1/2)^2 = 1/4: exactly two, whatever the rounding.
        assert_eq!(floor_units(0.75, 0.5, unit), Some(2));
        assert_eq!(floor_units(0.95, 0.05, None), Some(30));
        assert_eq!(floor_units(0.95, 0.0, unit), None);
        assert_eq!(floor_units(0.95, 1.0, unit), Some(1));
    }

    #[test]
    fn the_plan_lets_a_harmless_edit_pass_four_times_in_five() {
        // (1.6448536 + 0.842)^2 * 0.10 / 0.05^2 = 6.184441 * 40 = 247.4
        assert_eq!(planned_units(0.95, 0.05, default_spread(), 59), Some(248));
        assert_eq!(planned_units(0.95, 0.05, 0.01, 59), Some(59));
        assert_eq!(planned_units(0.95, 0.0, 0.01, 30), None);
        assert_eq!(planned_units(0.95, 0.0, 0.0, 30), Some(30));
    }

    #[test]
    fn more_units_show_smaller_differences() {
        // 2.80 * sqrt(0.2 / 300) = 0.0723; 2.80 * 0.5 / 20 = 0.07
        assert_near(
            smallest_difference(0.2_f64.sqrt(), 300),
            0.072_295_7,
            1e-7,
            "300 units",
        );
        assert_near(smallest_difference(0.5, 400), 0.07, 1e-15, "400 units");
        assert_eq!(smallest_difference(0.5, 0), f64::INFINITY);
    }
}
