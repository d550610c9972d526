//! The reasons of a check in words, with numbers in the metric's own unit.
//!
//! Bound and limit stand side by side with as many decimals as it takes to tell them apart, and
//! in the unit of the tables: percentage points for gains of a fraction, percent for its values.

use crate::gate::{Check, Comparison, Limit, MIN_CLUSTERS, Quantity, Reason};
use crate::metric::Unit;

use super::number::{self, counted, fixed};

/// All reasons of a check, each half a sentence, the deciding one first.
pub fn reasons(check: &Check, unit: Unit) -> Vec<String> {
    let words = Words::of(check, unit);
    check.reasons.iter().map(|it| words.reason(it)).collect()
}

/// The deciding reason of a check.
pub(super) fn sentence(check: &Check, unit: Unit) -> String {
    let reason = check.reasons.first();
    reason.map_or_else(String::new, |it| Words::of(check, unit).reason(it))
}

/// What the words depend on, but for the reason.
struct Words {
    unit: Unit,
    /// The unit as written behind numbers.
    unit_name: &'static str,
    /// `example` or `cluster`.
    noun: &'static str,
}

impl Words {
    fn of(check: &Check, unit: Unit) -> Self {
        let unit_name = match check.rule.limit {
            Limit::MaxDrop(_) => number::difference_unit(unit),
            Limit::Min { .. } | Limit::Max { .. } => unit.as_str(),
        };
        Self {
            unit,
            unit_name,
            noun: if check.is_clustered {
                "cluster"
            } else {
                "example"
            },
        }
    }

    fn reason(&self, reason: &Reason) -> String {
        match reason {
            Reason::Identical { n: 1 } => "its one example sent equal requests".to_owned(),
            Reason::Identical { n } => format!("all {n} examples sent equal requests"),
            Reason::Holds(it) | Reason::TooWide(it) => self.comparison(*it),
            Reason::Shown {
                comparison,
                tested,
                p_adjusted,
                significance,
                n_checks,
            } => {
                let sign = comparison.relation.as_str();
                let (tested, _) = number::side_by_side(self.unit, *tested, *tested);
                format!(
                    "{}, and {sign} {tested} is shown at {} % ({})",
                    self.comparison(*comparison),
                    percent(*significance),
                    after_holm(*p_adjusted, *significance, *n_checks)
                )
            }
            Reason::NotShown {
                comparison,
                p_adjusted,
                significance,
                n_checks,
            } => format!(
                "{}, which may be luck at {} % ({})",
                self.comparison(*comparison),
                percent(*significance),
                after_holm(*p_adjusted, *significance, *n_checks)
            ),
            Reason::TooFewUnits { n, floor } => {
                format!("{} to pass, which takes {floor}", self.too_few(*n))
            }
            Reason::NoBound { n } => format!("{} for a bound", self.too_few(*n)),
            Reason::TooFewClusters { n } => {
                format!("{}, which takes {MIN_CLUSTERS}", self.too_few(*n))
            }
            Reason::NoTolerance => format!(
                "nothing is tolerated, which no number of {}s can show: only equal requests pass",
                self.noun
            ),
            Reason::Dominated { unit, share } => format!(
                "`{unit}` alone holds {} % of the squared deviation",
                fixed(100.0 * share, 0)
            ),
            Reason::Missing { n, comparison } => format!(
                "with {} counted against it: {}",
                counted(*n, "missing example"),
                self.comparison(*comparison)
            ),
            Reason::CannotFill { n } => format!(
                "{} cannot be counted against it",
                counted(*n, "missing example")
            ),
            Reason::Gone => "the variant is gone and not listed as `retired`".to_owned(),
            Reason::NotComparable { why } => format!("not comparable: {why}"),
            Reason::TooManyUnscored { n, max_failed } => format!(
                "{} {} no score, {max_failed} {} tolerated",
                counted(*n, "example"),
                if *n == 1 { "has" } else { "have" },
                if *max_failed == 1 { "is" } else { "are" }
            ),
        }
    }

    /// `gain -7.5 < -2.0 pp`.
    fn comparison(&self, it: Comparison) -> String {
        let quantity = match it.quantity {
            Quantity::Gain => "gain".to_owned(),
            Quantity::Value => "value".to_owned(),
            Quantity::Lower(at) => format!("{} % one-sided lower bound", percent(at)),
            Quantity::Upper(at) => format!("{} % one-sided upper bound", percent(at)),
        };
        let (value, limit) = number::side_by_side(self.unit, it.value, it.limit);
        let space = if self.unit_name.is_empty() { "" } else { " " };
        format!(
            "{quantity} {value} {} {limit}{space}{}",
            it.relation.as_str(),
            self.unit_name
        )
    }

    /// `10 examples are too few`.
    fn too_few(&self, n: usize) -> String {
        let are = if n == 1 { "is" } else { "are" };
        format!("{} {are} too few", counted(n, self.noun))
    }
}

/// `p = 0.0042 after Holm over 9 checks`; never rounded to the other side of the significance.
fn after_holm(p: f64, significance: f64, n_checks: usize) -> String {
    let p = if p < 0.0001 {
        "p < 0.0001".to_owned()
    } else {
        let mut decimals = 4;
        while decimals < 15 && fixed(p, decimals) == fixed(significance, decimals) {
            decimals += 1;
        }
        format!("p = {}", fixed(p, decimals))
    };
    format!("{p} after Holm over {}", counted(n_checks, "check"))
}

/// A share in percent with as many digits as it has, up to 2 behind the point.
fn percent(share: f64) -> String {
    let text = fixed(100.0 * share, 2);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Estimate;
    use crate::gate::{Relation, State};
    use crate::report::checked_fixture::check;

    fn lower(value: f64, limit: f64) -> Comparison {
        Comparison {
            quantity: Quantity::Lower(0.95),
            value,
            relation: Relation::AtLeast,
            limit,
        }
    }

    fn words(reason: Reason, unit: Unit) -> String {
        sentence(&check("few", State::Passed, vec![reason]), unit)
    }

    #[test]
    fn a_reason_reads_as_half_a_sentence() {
        let gain = Comparison {
            quantity: Quantity::Gain,
            value: -0.08,
            relation: Relation::Below,
            limit: -0.05,
        };
        let shown = Reason::Shown {
            comparison: gain,
            tested: 0.0,
            p_adjusted: 0.003_21,
            significance: 1.0 - 0.95,
            n_checks: 4,
        };
        let missing = |n| Reason::Missing {
            n,
            comparison: lower(-0.06, -0.05).denied(),
        };
        let unit = "q17".to_owned();
        let nats = Unit::NatsPerByte;
        let table = [
            (
                Reason::Holds(lower(-0.018, -0.02)),
                nats,
                "95 % one-sided lower bound -0.0180 >= -0.0200 nats/byte",
            ),
            (
                Reason::Holds(lower(-0.018, -0.02)),
                Unit::Percent,
                "95 % one-sided lower bound -1.8 >= -2.0 pp",
            ),
            (
                Reason::TooWide(lower(-0.031, -0.02).denied()),
                Unit::Plain,
                "95 % one-sided lower bound -0.031 < -0.020",
            ),
            (
                shown,
                Unit::Percent,
                "gain -8.0 < -5.0 pp, and < 0.0 is shown at 5 % (p = 0.0032 after Holm over 4 checks)",
            ),
            (
                Reason::Dominated { unit, share: 0.5 },
                nats,
                "`q17` alone holds 50 % of the squared deviation",
            ),
            (
                missing(2),
                Unit::Percent,
                "with 2 missing examples counted against it: 95 % one-sided lower bound -6.0 < -5.0 pp",
            ),
            (
                missing(1),
                Unit::Percent,
                "with 1 missing example counted against it: 95 % one-sided lower bound -6.0 < -5.0 pp",
            ),
            (
                Reason::TooFewUnits { n: 10, floor: 30 },
                nats,
                "10 examples are too few to pass, which takes 30",
            ),
            (
                Reason::Identical { n: 1 },
                nats,
                "its one example sent equal requests",
            ),
        ];
        for (reason, unit, expected) in table {
            assert_eq!(words(reason, unit), expected);
        }
    }

    /// A value is in percent where its drop is in percentage points.
    #[test]
    fn a_minimum_is_told_in_the_unit_of_values() {
        let mut check = check(
            "few",
            State::Passed,
            vec![Reason::Holds(lower(0.7785, 0.6))],
        );
        check.rule.limit = Limit::Min {
            value: 0.6,
            estimate: Estimate::Bound,
        };
        assert_eq!(
            sentence(&check, Unit::Percent),
            "95 % one-sided lower bound 77.8 >= 60.0 %"
        );
        check.is_clustered = true;
        check.reasons = vec![Reason::TooFewClusters { n: 9 }];
        assert_eq!(
            reasons(&check, Unit::Percent),
            ["9 clusters are too few, which takes 10"]
        );
    }

    #[test]
    fn rounding_never_hides_the_side_of_the_limit() {
        let wide = |value, limit, unit| words(Reason::TooWide(lower(value, limit).denied()), unit);
        assert_eq!(
            wide(-0.020_000_1, -0.02, Unit::NatsPerByte),
            "95 % one-sided lower bound -0.0200001 < -0.0200000 nats/byte"
        );
        // A limit is shown whole, and nothing has the sign of a zero.
        assert_eq!(
            wide(-0.031, -0.0025, Unit::Percent),
            "95 % one-sided lower bound -3.10 < -0.25 pp"
        );
        assert_eq!(
            words(Reason::Holds(lower(0.2, -0.0)), Unit::Plain),
            "95 % one-sided lower bound 0.200 >= 0.000"
        );
        for (p, said) in [
            (0.050_000_2, "p = 0.0500002 after"),
            (1.6e-19, "p < 0.0001 after"),
            (0.05, "p = 0.050"),
        ] {
            let said_of = after_holm(p, 0.05, 2);
            assert!(said_of.starts_with(said), "{said_of}");
        }
    }
}
