//! Rule and observation to a finding, findings to checks.
//!
//! The first step looks at one observation alone: does the bound keep the limit, is anything in
//! the way of a pass, and how surprising would the numbers be if nothing were wrong? The second
//! corrects these p-values over all checks of a command (Holm) and settles each. With differing
//! confidences every corrected p-value is held against its own gate's; the chance that any check
//! fails without cause stays below the largest of the gates' `1 - confidence`.

use super::MIN_CLUSTERS;
use super::check::{Check, Comparison, Label, Quantity, Reason, Relation, State};
use super::forecast::{Forecast, Outlook, forecast};
use super::observation::{Observation, Pair, Seen};
use super::rule::{Limit, Rule};
use crate::experiment::Estimate;
use crate::stats::{Difference, Sample, holm};

/// One rule held against one observation, before the other checks of the command are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The check as it stands: settled, unless `failure` says that it may yet fail.
    check: Check,
    /// What would make it a failure.
    failure: Option<Failure>,
}

/// A check that has not passed and fails if its p-value survives Holm, or that has passed and
/// only counts among the tests.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Failure {
    /// One-sided, before Holm.
    p: f64,
    /// The value and the limit that it must lie beyond.
    comparison: Comparison,
    /// The test's threshold.
    tested: f64,
}

/// Holds `rule` against `observation`.
///
/// - `max_drop`: passes if the lower bound of the gain is at least `-max_drop`; may fail if the
///   gain is below it and shown to be below 0.
/// - `min` passes if the lower bound of the value is at least `min`, and may fail if the value is
///   shown to be below it; `max` is the mirror image. With `use = "point"` the value itself
///   decides.
///
/// A pass also needs [`Rule::floor`] units, no unit that holds over a quarter of the squared
/// deviation (where the bound is the jackknife's), and, for a bounded metric with missing
/// examples, the same bound with [`Rule::filling`] in their place. Equal requests pass whatever
/// their number; a variant that is gone fails. Fewer than [`MIN_CLUSTERS`] clusters allow no verdict
/// but one by value. An
/// observation of the other kind than the rule asks for cannot be compared.
pub fn judge(label: Label, rule: &Rule, observation: &Observation) -> Finding {
    let blank = Blank {
        label,
        rule,
        observation,
    };
    let n_unscored = observation.unscored.examples;
    if rule.max_failed < n_unscored {
        let reason = Reason::TooManyUnscored {
            n: n_unscored,
            max_failed: rule.max_failed,
        };
        return blank.settled(State::Unscored, reason, 0);
    }
    match (rule.limit, &observation.seen) {
        (Limit::MaxDrop(max_drop), Seen::Paired { pair, filled }) => {
            judge_gain(blank, max_drop, pair, filled.as_deref())
        }
        (Limit::MaxDrop(_), Seen::Identical { n }) => {
            blank.settled(State::Passed, Reason::Identical { n: *n }, *n)
        }
        (Limit::Min { value, estimate }, Seen::Alone { candidate, filled }) => {
            let side = Side::Min(value);
            judge_value(blank, side, estimate, candidate, filled.as_ref())
        }
        (Limit::Max { value, estimate }, Seen::Alone { candidate, filled }) => {
            let side = Side::Max(value);
            judge_value(blank, side, estimate, candidate, filled.as_ref())
        }
        (_, Seen::Gone) => blank.settled(State::Failed, Reason::Gone, 0),
        (_, Seen::NotComparable { why }) => blank.not_comparable(why.clone()),
        (Limit::MaxDrop(_), Seen::Alone { .. }) => {
            blank.not_comparable("there is no reference".to_owned())
        }
        (_, Seen::Paired { .. } | Seen::Identical { .. }) => {
            blank.not_comparable("`min` and `max` judge a single value".to_owned())
        }
    }
}

/// Settles the findings of one command; checks come in the order of the findings.
pub fn decide_all(findings: Vec<Finding>) -> Vec<Check> {
    let tests: Vec<f64> = findings
        .iter()
        .filter_map(|it| it.failure.map(|it| it.p))
        .collect();
    let mut adjusted = holm(&tests).into_iter();
    let n_checks = tests.len();
    let mut settle = |finding: Finding| {
        let Some(failure) = finding.failure else {
            return finding.check;
        };
        let p_adjusted = adjusted.next().expect("Holm gives one value for each");
        settled(finding.check, failure, p_adjusted, n_checks)
    };
    findings.into_iter().map(&mut settle).collect()
}

fn settled(mut check: Check, failure: Failure, p_adjusted: f64, n_checks: usize) -> Check {
    check.p_adjusted = Some(p_adjusted);
    if check.state == State::Passed || !failure.comparison.is_true() {
        return check;
    }
    let (comparison, tested) = (failure.comparison, failure.tested);
    let significance = check.rule.significance();
    if p_adjusted < significance {
        check.state = State::Failed;
        check.reasons = vec![Reason::Shown {
            comparison,
            tested,
            p_adjusted,
            significance,
            n_checks,
        }];
    } else {
        // That the bound lies beyond as well goes without saying.
        let reasons = check.reasons.into_iter();
        check.reasons = reasons
            .filter(|it| !matches!(it, Reason::TooWide(_)))
            .collect();
        check.reasons.push(Reason::NotShown {
            comparison,
            p_adjusted,
            significance,
            n_checks,
        });
    }
    check
}

/// A check of which nothing is known yet.
struct Blank<'a> {
    label: Label,
    rule: &'a Rule,
    observation: &'a Observation,
}

impl Blank<'_> {
    fn check(self, state: State, reasons: Vec<Reason>, n: usize) -> Check {
        Check {
            label: self.label,
            rule: *self.rule,
            state,
            reasons,
            value: None,
            lower: None,
            upper: None,
            p_adjusted: None,
            n,
            is_clustered: self.observation.is_clustered,
            floor: Some(1),
            n_planned: self.observation.n_planned,
            unscored: self.observation.unscored,
            forecast: None,
        }
    }

    fn settled(self, state: State, reason: Reason, n: usize) -> Finding {
        let is_identical = matches!(reason, Reason::Identical { .. });
        let mut check = self.check(state, vec![reason], n);
        if is_identical {
            (check.value, check.lower, check.upper) = (Some(0.0), Some(0.0), Some(0.0));
        }
        Finding {
            check,
            failure: None,
        }
    }

    fn not_comparable(self, why: String) -> Finding {
        self.settled(State::Inconclusive, Reason::NotComparable { why }, 0)
    }

    /// The name of a unit; its position where the observation has no name for it.
    fn unit(&self, unit_index: usize) -> String {
        let name = self.observation.units.get(unit_index);
        name.cloned().unwrap_or_else(|| format!("#{unit_index}"))
    }

    fn has_too_few_clusters(&self, n: usize) -> bool {
        self.observation.is_clustered && n < MIN_CLUSTERS
    }

    fn forecast(&self, sample: &Sample, spread: Option<f64>) -> Forecast {
        let outlook = Outlook {
            range: sample.range(),
            is_mean: sample.bounded_mean().is_some(),
            is_proportion: sample.is_proportion(),
            spread,
            n_units: sample.n_units(),
        };
        forecast(self.rule, &outlook)
    }

    /// What stands in the way of a pass before any bound is looked at.
    fn obstacles(
        &self,
        n: usize,
        floor: Option<u64>,
        dominant: Option<(usize, f64)>,
    ) -> Vec<Reason> {
        let mut reasons = Vec::new();
        match floor {
            None => reasons.push(Reason::NoTolerance),
            Some(floor) if (n as u64) < floor => reasons.push(Reason::TooFewUnits { n, floor }),
            Some(_) => {}
        }
        if let Some((unit_index, share)) = dominant {
            let unit = self.unit(unit_index);
            reasons.push(Reason::Dominated { unit, share });
        }
        reasons
    }

    /// What missing examples add to that: `filled` is the compared number once they are filled in,
    /// `None` if they cannot be.
    fn missing(&self, is_bounded: bool, filled: Option<f64>, demand: Comparison) -> Option<Reason> {
        let n = self.observation.unscored.examples;
        if n == 0 || !is_bounded {
            return None;
        }
        let Some(value) = filled else {
            return Some(Reason::CannotFill { n });
        };
        let comparison = Comparison { value, ..demand };
        if comparison.is_true() {
            return None;
        }
        let comparison = comparison.denied();
        Some(Reason::Missing { n, comparison })
    }
}

/// `max_drop` against the gain of a pair.
fn judge_gain(blank: Blank<'_>, max_drop: f64, pair: &Pair, filled: Option<&Pair>) -> Finding {
    let direction = blank.observation.direction;
    let gain_of = |it: &Pair| Difference::paired(&it.candidate, &it.reference, direction);
    let gain = match gain_of(pair) {
        Ok(it) => it,
        Err(why) => return blank.not_comparable(why.to_string()),
    };
    let (rule, n, sample) = (blank.rule, gain.n(), &pair.candidate);
    let floor = rule.floor(sample.bounded_mean(), sample.is_proportion());
    let (lower, upper) = (gain.lower(rule.confidence), gain.upper(rule.confidence));
    let forecast = blank.forecast(sample, gain.spread());
    let numbers = |check: Check| Check {
        value: Some(gain.value()),
        lower,
        upper,
        floor,
        forecast: Some(forecast),
        ..check
    };
    if let Some(reason) = no_verdict(&blank, n, lower) {
        let check = numbers(blank.check(State::Inconclusive, vec![reason], n));
        return Finding {
            check,
            failure: None,
        };
    }
    let bound = Comparison {
        quantity: Quantity::Lower(rule.confidence),
        value: lower.unwrap_or(f64::NEG_INFINITY),
        relation: Relation::AtLeast,
        limit: -max_drop,
    };
    let mut reasons = blank.obstacles(n, floor, gain.dominant_unit());
    if bound.is_true() {
        let filled = filled.and_then(|it| gain_of(it).ok()?.lower(rule.confidence));
        reasons.extend(blank.missing(sample.range().is_some(), filled, bound));
    } else {
        reasons.push(Reason::TooWide(bound.denied()));
    }
    let comparison = Comparison {
        quantity: Quantity::Gain,
        value: gain.value(),
        relation: Relation::Below,
        limit: -max_drop,
    };
    let failure = gain.p_regressed().map(|p| Failure {
        p,
        comparison,
        tested: 0.0,
    });
    let check = numbers(passed_or_not(blank, n, reasons, bound));
    Finding { check, failure }
}

/// Why there can be no verdict at all.
fn no_verdict(blank: &Blank<'_>, n: usize, bound: Option<f64>) -> Option<Reason> {
    if blank.has_too_few_clusters(n) {
        return Some(Reason::TooFewClusters { n });
    }
    bound.is_none().then_some(Reason::NoBound { n })
}

/// A check that has passed if nothing stands in the way.
fn passed_or_not(blank: Blank<'_>, n: usize, obstacles: Vec<Reason>, bound: Comparison) -> Check {
    if obstacles.is_empty() {
        blank.check(State::Passed, vec![Reason::Holds(bound)], n)
    } else {
        blank.check(State::Inconclusive, obstacles, n)
    }
}

/// Which side of a fixed value the metric must keep to.
#[derive(Clone, Copy)]
enum Side {
    Min(f64),
    Max(f64),
}

impl Side {
    /// The bound that must keep the limit, and the limit kept.
    fn demand(self, sample: &Sample, confidence: f64) -> (Option<f64>, Comparison) {
        let (bound, quantity, relation, limit) = match self {
            Self::Min(limit) => (
                sample.lower(confidence),
                Quantity::Lower(confidence),
                Relation::AtLeast,
                limit,
            ),
            Self::Max(limit) => (
                sample.upper(confidence),
                Quantity::Upper(confidence),
                Relation::AtMost,
                limit,
            ),
        };
        let value = bound.unwrap_or(f64::NAN);
        let comparison = Comparison {
            quantity,
            value,
            relation,
            limit,
        };
        (bound, comparison)
    }

    fn p_beyond(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Min(limit) => sample.p_below(limit),
            Self::Max(limit) => sample.p_above(limit),
        }
    }
}

/// `min` or `max` against a single value.
fn judge_value(
    blank: Blank<'_>,
    side: Side,
    estimate: Estimate,
    sample: &Sample,
    filled: Option<&Sample>,
) -> Finding {
    let (rule, n) = (blank.rule, sample.n_units());
    let (bound, demand) = side.demand(sample, rule.confidence);
    let kept = Comparison {
        quantity: Quantity::Value,
        value: sample.value(),
        ..demand
    };
    let floor = rule.floor(sample.bounded_mean(), sample.is_proportion());
    let (lower, upper) = (sample.lower(rule.confidence), sample.upper(rule.confidence));
    let spread = sample.jackknife().map(|it| it.spread());
    let forecast = blank.forecast(sample, spread);
    let numbers = |check: Check| Check {
        value: Some(sample.value()),
        lower,
        upper,
        floor,
        forecast: Some(forecast),
        ..check
    };
    let is_bounded = sample.range().is_some();
    if estimate == Estimate::Point {
        let check = if kept.is_true() {
            let filled = filled.map(Sample::value);
            let obstacle = blank.missing(is_bounded, filled, kept);
            passed_or_not(blank, n, obstacle.into_iter().collect(), kept)
        } else {
            blank.check(State::Failed, vec![Reason::Holds(kept.denied())], n)
        };
        return Finding {
            check: numbers(check),
            failure: None,
        };
    }
    if let Some(reason) = no_verdict(&blank, n, bound) {
        let check = numbers(blank.check(State::Inconclusive, vec![reason], n));
        return Finding {
            check,
            failure: None,
        };
    }
    let mut reasons = blank.obstacles(n, floor, sample.dominant_unit());
    if demand.is_true() {
        let filled = filled.and_then(|it| side.demand(it, rule.confidence).0);
        reasons.extend(blank.missing(is_bounded, filled, demand));
    } else {
        reasons.push(Reason::TooWide(demand.denied()));
    }
    let failure = side.p_beyond(sample).map(|p| Failure {
        p,
        comparison: kept.denied(),
        tested: kept.limit,
    });
    let check = numbers(passed_or_not(blank, n, reasons, demand));
    Finding { check, failure }
}
