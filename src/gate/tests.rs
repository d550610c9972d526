//! The sentences of the gate's contract, one test each.

use super::*;
use crate::experiment::{Estimate, OnInconclusive};
use crate::stats::{Direction, Interval, Sample};

fn rule(limit: Limit) -> Rule {
    Rule {
        limit,
        confidence: 0.95,
        on_inconclusive: OnInconclusive::Fail,
        max_failed: 0,
    }
}

fn max_drop(tolerance: f64) -> Rule {
    rule(Limit::MaxDrop(tolerance))
}

fn min(value: f64) -> Rule {
    let estimate = Estimate::Bound;
    rule(Limit::Min { value, estimate })
}

fn max(value: f64) -> Rule {
    let estimate = Estimate::Bound;
    rule(Limit::Max { value, estimate })
}

fn seen(seen: Seen, n: usize) -> Observation {
    Observation {
        seen,
        direction: Direction::HigherIsBetter,
        n_planned: n,
        unscored: Unscored::default(),
        units: (0..n).map(|k| format!("q{k}")).collect(),
        is_clustered: false,
    }
}

fn paired(candidate: Sample, reference: Sample) -> Observation {
    let n = candidate.n_units();
    let pair = Pair {
        candidate,
        reference,
    };
    seen(Seen::Paired { pair, filled: None }, n)
}

fn alone(candidate: Sample) -> Observation {
    let n = candidate.n_units();
    let filled = None;
    seen(Seen::Alone { candidate, filled }, n)
}

/// Accuracy over `n` pairs of which only the candidate has `gained`, only the reference `lost`.
fn accuracy(gained: usize, lost: usize, n: usize) -> Observation {
    let side = |range: std::ops::Range<usize>| {
        let outcomes: Vec<bool> = (0..n).map(|k| range.contains(&k)).collect();
        Sample::proportion(&outcomes).unwrap()
    };
    paired(side(0..gained), side(n - lost..n))
}

/// An unbounded mean whose gains are `values`, over a reference of zeros.
fn nats(values: &[f64]) -> Observation {
    let of = |values: &[f64]| Sample::mean(values, None).unwrap();
    paired(of(values), of(&vec![0.0; values.len()]))
}

/// F1 where the reference is always right and the candidate loses `losses`.
fn f1(losses: &[f64], n: usize) -> Observation {
    let values: Vec<f64> = (0..n)
        .map(|k| 1.0 - losses.get(k).unwrap_or(&0.0))
        .collect();
    let of = |values: &[f64]| Sample::mean(values, Some(Interval::UNIT)).unwrap();
    paired(of(&values), of(&vec![1.0; n]))
}

fn hits(successes: usize, n: usize) -> Observation {
    let outcomes: Vec<bool> = (0..n).map(|k| k < successes).collect();
    alone(Sample::proportion(&outcomes).unwrap())
}

fn label() -> Label {
    Label {
        gate_index: 0,
        metric: "acc".to_owned(),
        model: "smol".to_owned(),
        variant: "few".to_owned(),
        reference: Some("baseline".to_owned()),
    }
}

fn find(rule: &Rule, observation: &Observation) -> Finding {
    judge(label(), rule, observation)
}

/// The check where it is the only one of its command.
fn check(rule: &Rule, observation: &Observation) -> Check {
    decide_all(vec![find(rule, observation)]).remove(0)
}

#[test]
fn it_passes_where_the_lower_bound_keeps_the_limit() {
    let got = check(&max_drop(0.05), &accuracy(5, 4, 300));
    assert_eq!(got.state, State::Passed);
    let bound = Comparison {
        quantity: Quantity::Lower(0.95),
        value: got.lower.unwrap(),
        relation: Relation::AtLeast,
        limit: -0.05,
    };
    assert_eq!(got.reasons, [Reason::Holds(bound)]);
    // A loss that is no luck passes as well, as long as it is shown to be tolerable.
    let got = check(&max_drop(0.05), &accuracy(0, 6, 1_000));
    assert_eq!(got.state, State::Passed);
    assert!(got.upper.unwrap() < 0.0);
}

#[test]
fn it_does_not_pass_below_the_floor_however_good_it_looks() {
    // The floor of 0.05 is 59; without any difference Tango's bound is z^2 / (58 + z^2) = 0.0446.
    let got = check(&max_drop(0.05), &accuracy(0, 0, 58));
    assert_eq!(got.state, State::Inconclusive);
    assert_eq!(got.reasons, [Reason::TooFewUnits { n: 58, floor: 59 }]);
    assert_eq!(
        check(&max_drop(0.05), &accuracy(0, 0, 59)).state,
        State::Passed
    );
    // Others: 30.
    let gains: Vec<f64> = (0..29).map(|k| 1.0 + f64::from(k % 5)).collect();
    let got = check(&max_drop(0.05), &nats(&gains));
    assert_eq!(got.reasons, [Reason::TooFewUnits { n: 29, floor: 30 }]);
}

#[test]
fn it_fails_beyond_the_limit_where_that_is_no_luck() {
    // 20 lost, 2 gained of 100: z = 18 / sqrt(22) = 3.84.
    let got = check(&max_drop(0.05), &accuracy(2, 20, 100));
    assert_eq!(got.state, State::Failed);
    let [
        Reason::Shown {
            comparison, tested, ..
        },
    ] = got.reasons[..]
    else {
        panic!("{:?}", got.reasons)
    };
    assert_eq!((comparison.quantity, tested), (Quantity::Gain, 0.0));
    assert!((comparison.value + 0.18).abs() < 1e-12, "{comparison:?}");
    assert_eq!(
        (comparison.relation, comparison.limit),
        (Relation::Below, -0.05)
    );
    // Below the floor too: the floor is for passing.
    let got = check(&max_drop(0.01), &accuracy(2, 20, 100));
    assert_eq!((got.floor, got.state), (Some(299), State::Failed));
}

#[test]
fn holm_counts_every_check_of_the_command() {
    // 8 lost, 1 gained: z = 7/3, p = 0.0098, so alone it fails and among ten it may be luck.
    let worse = find(&max_drop(0.05), &accuracy(1, 8, 100));
    let fine = find(&max_drop(0.05), &accuracy(0, 0, 100));
    assert_eq!(decide_all(vec![worse.clone()])[0].state, State::Failed);
    let mut ten = vec![fine; 9];
    ten.insert(4, worse.clone());
    let got = decide_all(ten);
    assert_eq!(got[4].state, State::Inconclusive);
    let [
        Reason::NotShown {
            p_adjusted,
            n_checks,
            ..
        },
    ] = &got[4].reasons[..]
    else {
        panic!("{:?}", got[4].reasons)
    };
    assert!((p_adjusted - 0.098).abs() < 0.001, "{p_adjusted}");
    assert_eq!(*n_checks, 10);
    // Equal requests are no test, and neither is a check without a verdict.
    let identical = find(&max_drop(0.05), &seen(Seen::Identical { n: 3 }, 3));
    let mut eleven = vec![identical; 10];
    eleven.push(worse);
    assert_eq!(decide_all(eleven)[10].state, State::Failed);
}

#[test]
fn every_check_is_held_to_its_own_confidence() {
    let strict = Rule {
        confidence: 0.995,
        ..max_drop(0.05)
    };
    let observation = accuracy(1, 8, 100);
    assert_eq!(check(&max_drop(0.05), &observation).state, State::Failed);
    assert_eq!(check(&strict, &observation).state, State::Inconclusive);
}

#[test]
fn too_wide_a_bound_is_neither() {
    let got = check(&max_drop(0.05), &accuracy(6, 6, 60));
    assert_eq!(got.state, State::Inconclusive);
    let [Reason::TooWide(it)] = &got.reasons[..] else {
        panic!("{:?}", got.reasons)
    };
    assert_eq!(
        (it.relation, it.limit, it.is_true()),
        (Relation::Below, -0.05, true)
    );
    // Forecast: s = sqrt(12 / 60), so (2.4868536 / 0.05)^2 * 0.2 = 494.8.
    assert_eq!(got.forecast.unwrap().need, Need::Units(495));
}

#[test]
fn one_example_must_not_carry_a_pass_and_is_named() {
    // Nothing differs: counted like pairs, so 300 are enough.
    assert_eq!(check(&max_drop(0.05), &f1(&[], 300)).state, State::Passed);
    let got = check(&max_drop(0.05), &f1(&[0.5], 300));
    assert_eq!(got.state, State::Inconclusive);
    let [Reason::Dominated { unit, share }] = &got.reasons[..] else {
        panic!("{:?}", got.reasons)
    };
    // One deviation of 0.5 among 300 holds 1 - 1/300 of the squares.
    assert_eq!(unit, "q0");
    assert!((share - 299.0 / 300.0).abs() < 1e-9, "{share}");
    // Four equal ones hold a quarter each, less what the mean takes: not over it.
    let got = check(&max_drop(0.05), &f1(&[0.5; 4], 300));
    assert_eq!(got.state, State::Passed);
    // A proportion is bounded by Tango, where no deviation is squared.
    assert_eq!(
        check(&max_drop(0.05), &accuracy(0, 1, 300)).state,
        State::Passed
    );
}

#[test]
fn a_dominated_check_may_still_fail() {
    let mut gains: Vec<f64> = (0..40).map(|k| -1.0 - 0.01 * f64::from(k % 3)).collect();
    gains[3] = -3.0;
    let got = check(&max_drop(0.05), &nats(&gains));
    assert_eq!(got.state, State::Failed);
}

#[test]
fn fewer_than_ten_clusters_allow_no_verdict() {
    let mut observation = accuracy(0, 60, 300);
    let Seen::Paired { pair, .. } = &mut observation.seen else {
        panic!("a pair")
    };
    let clusters: Vec<usize> = (0..300).map(|k| k % 9).collect();
    pair.candidate = pair.candidate.clustered(&clusters).unwrap();
    pair.reference = pair.reference.clustered(&clusters).unwrap();
    observation.is_clustered = true;
    let got = check(&max_drop(0.05), &observation);
    assert_eq!(got.reasons, [Reason::TooFewClusters { n: 9 }]);
    assert_eq!((got.state, got.p_adjusted), (State::Inconclusive, None));
}

/// Ten clusters are enough: 30 of 300 lost, three in each, is beyond a twentieth.
#[test]
fn ten_clusters_allow_a_verdict() {
    let mut observation = accuracy(0, 30, 300);
    let Seen::Paired { pair, .. } = &mut observation.seen else {
        panic!("a pair")
    };
    let clusters: Vec<usize> = (0..300).map(|k| k % 10).collect();
    pair.candidate = pair.candidate.clustered(&clusters).unwrap();
    pair.reference = pair.reference.clustered(&clusters).unwrap();
    observation.is_clustered = true;
    let got = check(&max_drop(0.05), &observation);
    assert_eq!((got.state, got.n), (State::Failed, 10));
}

#[test]
fn equal_requests_pass_whatever_their_number() {
    let got = check(&max_drop(0.0), &seen(Seen::Identical { n: 1 }, 1));
    assert_eq!((got.state, got.value), (State::Passed, Some(0.0)));
    assert_eq!(got.reasons, [Reason::Identical { n: 1 }]);
}

#[test]
fn too_many_unscored_leave_no_verdict() {
    let mut observation = accuracy(0, 60, 300);
    observation.unscored.examples = 3;
    let tolerant = |max_failed| Rule {
        max_failed,
        ..max_drop(0.05)
    };
    let got = check(&tolerant(2), &observation);
    assert_eq!(got.state, State::Unscored);
    assert_eq!(
        got.reasons,
        [Reason::TooManyUnscored {
            n: 3,
            max_failed: 2
        }]
    );
    assert_eq!(check(&tolerant(3), &observation).state, State::Failed);
    let mut identical = seen(Seen::Identical { n: 5 }, 6);
    identical.unscored.examples = 1;
    assert_eq!(check(&tolerant(0), &identical).state, State::Unscored);
}

/// Accuracy where nothing differs but `n_missing` examples that the candidate did not answer.
fn with_missing(n: usize, n_missing: usize) -> Observation {
    let mut observation = accuracy(0, 0, n);
    let unit = Interval::UNIT;
    let of = |missing: Option<f64>, filling: f64| {
        let mut values = vec![Some(1.0); n];
        values.extend(vec![missing; n_missing]);
        filled(&values, filling, unit, true, None).unwrap()
    };
    let filling = max_drop(0.05).filling(observation.direction, unit);
    if let Seen::Paired { filled, .. } = &mut observation.seen {
        *filled = Some(Box::new(Pair {
            candidate: of(None, filling.candidate),
            reference: of(Some(1.0), filling.reference),
        }));
    }
    observation.unscored = Unscored {
        candidate: n_missing,
        reference: 0,
        examples: n_missing,
    };
    observation
}

#[test]
fn missing_examples_of_a_bounded_metric_count_against_a_pass() {
    let tolerant = Rule {
        max_failed: 20,
        ..max_drop(0.05)
    };
    assert_eq!(check(&tolerant, &with_missing(200, 3)).state, State::Passed);
    let got = check(&tolerant, &with_missing(200, 12));
    assert_eq!(got.state, State::Inconclusive);
    assert!(
        matches!(got.reasons[..], [Reason::Missing { n: 12, .. }]),
        "{:?}",
        got.reasons
    );
    // Without values to fill in, no pass; an unbounded metric has no worst value to fill in.
    let mut unknown = with_missing(200, 3);
    if let Seen::Paired { filled, .. } = &mut unknown.seen {
        *filled = None;
    }
    assert_eq!(
        check(&tolerant, &unknown).reasons,
        [Reason::CannotFill { n: 3 }]
    );
    let gains: Vec<f64> = (0..40).map(|k| 1.0 + f64::from(k % 5)).collect();
    let mut unbounded = nats(&gains);
    unbounded.unscored.examples = 3;
    assert_eq!(check(&tolerant, &unbounded).state, State::Passed);
}

#[test]
fn no_number_of_units_shows_that_a_bounded_metric_loses_nothing() {
    let got = check(&max_drop(0.0), &accuracy(40, 0, 300));
    assert_eq!(
        (got.state, got.floor, &got.reasons[..]),
        (State::Inconclusive, None, &[Reason::NoTolerance][..])
    );
    // An unbounded one passes where it is shown to be no worse.
    let gains: Vec<f64> = (0..40).map(|k| 1.0 + f64::from(k % 5)).collect();
    assert_eq!(check(&max_drop(0.0), &nats(&gains)).state, State::Passed);
}

#[test]
fn a_minimum_is_held_against_the_bound_of_the_value() {
    // One-sided 95 % bounds of statsmodels 0.15.0 (`wilson`, alpha 0.1): 95 of 100 from 0.9008,
    // 93 from 0.8757, 87 up to 0.9157.
    let table = [
        (95, State::Passed, Some(0.9008)),
        (87, State::Inconclusive, None),
        (93, State::Inconclusive, Some(0.8757)),
        (70, State::Failed, None),
    ];
    for (successes, state, lower) in table {
        let got = check(&min(0.9), &hits(successes, 100));
        assert_eq!(got.state, state, "{successes}: {:?}", got.reasons);
        let value = f64::from(u32::try_from(successes).unwrap()) / 100.0;
        match (&got.reasons[0], lower) {
            (Reason::Holds(it) | Reason::TooWide(it), Some(lower)) => {
                assert_eq!(it.quantity, Quantity::Lower(0.95));
                assert!((it.value - lower).abs() < 5e-5, "{it:?}");
            }
            (Reason::NotShown { comparison, .. } | Reason::Shown { comparison, .. }, None) => {
                assert_eq!((comparison.value, comparison.limit), (value, 0.9));
            }
            (other, _) => panic!("{successes}: {other:?}"),
        }
    }
}

/// What such a rule needs stands with its check, as it does for a drop.
#[test]
fn a_minimum_shows_its_floor_and_what_the_dataset_can_show() {
    for estimate in [Estimate::Bound, Estimate::Point] {
        let values: Vec<f64> = (0..50).map(|k| 1.0 + f64::from(k % 2)).collect();
        let observation = alone(Sample::mean(&values, None).unwrap());
        let value = 1.0;
        let got = check(&rule(Limit::Min { value, estimate }), &observation);
        let is_point = estimate == Estimate::Point;
        assert_eq!(got.floor, Some(if is_point { 1 } else { 30 }));
        let forecast = got.forecast.unwrap();
        assert_eq!((forecast.floor, forecast.need), (got.floor, Need::Unknown));
        // Half 1 and half 2 have the spread 1/2: 2.80 / 2 / sqrt(50) = 0.198.
        let shown = forecast.smallest_difference.unwrap();
        assert!((shown - 1.4 / 50_f64.sqrt()).abs() < 1e-12, "{shown}");
    }
}

#[test]
fn a_maximum_is_the_mirror_image_of_a_minimum() {
    let values: Vec<f64> = (0..50).map(|k| 1.0 + 0.02 * f64::from(k % 10)).collect();
    for (limit, state) in [
        (1.2, State::Passed),
        (1.0, State::Failed),
        (1.09, State::Inconclusive),
    ] {
        // Bits per byte: the value is judged as it is, though lower is better.
        let mut above = alone(Sample::mean(&values, None).unwrap());
        above.direction = Direction::LowerIsBetter;
        let negated: Vec<f64> = values.iter().map(|it| -it).collect();
        let below = alone(Sample::mean(&negated, None).unwrap());
        let (above, below) = (check(&max(limit), &above), check(&min(-limit), &below));
        assert_eq!((above.state, below.state), (state, state), "{limit}");
        assert_eq!(above.p_adjusted, below.p_adjusted);
        assert_eq!(above.upper, below.lower.map(|it| -it));
    }
}

#[test]
fn a_point_is_held_against_the_limit_whatever_its_uncertainty() {
    let estimate = Estimate::Point;
    let point = |value| rule(Limit::Min { value, estimate });
    let got = check(&point(0.9), &hits(9, 10));
    let value = |limit, relation| Comparison {
        quantity: Quantity::Value,
        value: 0.9,
        relation,
        limit,
    };
    assert_eq!(got.state, State::Passed);
    assert_eq!(got.reasons, [Reason::Holds(value(0.9, Relation::AtLeast))]);
    let got = check(&point(0.91), &hits(9, 10));
    assert_eq!(got.state, State::Failed);
    assert_eq!(got.reasons, [Reason::Holds(value(0.91, Relation::Below))]);
    assert_eq!(got.p_adjusted, None);
}

#[test]
fn a_mean_of_nine_has_no_bound() {
    let got = check(
        &max_drop(5.0),
        &nats(&[0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1, 0.2, 0.4]),
    );
    assert_eq!(got.reasons, [Reason::NoBound { n: 9 }]);
}

#[test]
fn what_cannot_be_compared_says_why() {
    let why = "the targets differ".to_owned();
    let got = check(&max_drop(0.05), &seen(Seen::NotComparable { why }, 5));
    let because = |why: &str| {
        [Reason::NotComparable {
            why: why.to_owned(),
        }]
    };
    assert_eq!(got.reasons, because("the targets differ"));
    assert_eq!(got.state, State::Inconclusive);
    let got = check(&max_drop(0.05), &hits(9, 10));
    assert_eq!(got.reasons, because("there is no reference"));
    let pair = accuracy(0, 0, 20);
    assert_eq!(check(&min(0.1), &pair).state, State::Inconclusive);
}

#[test]
fn a_variant_that_is_gone_fails() {
    let got = check(&max_drop(0.05), &seen(Seen::Gone, 0));
    assert_eq!(got.state, State::Failed);
    assert_eq!(got.reasons, [Reason::Gone]);
}

#[test]
fn a_gain_counts_in_the_metrics_own_direction() {
    let bits = |values: Vec<f64>| Sample::mean(&values, None).unwrap();
    let (low, high) = (
        (0..40).map(|k| 1.0 + 0.01 * f64::from(k % 7)).collect(),
        (0..40).map(|k| 2.0 + 0.01 * f64::from(k % 5)).collect(),
    );
    let mut observation = paired(bits(high), bits(low));
    assert_eq!(check(&max_drop(0.1), &observation).state, State::Passed);
    observation.direction = Direction::LowerIsBetter;
    let got = check(&max_drop(0.1), &observation);
    assert_eq!(got.state, State::Failed);
    assert!(got.value.unwrap() < -0.9);
}

#[test]
fn the_worst_check_decides_the_command() {
    let warn = |on_inconclusive| {
        let rule = Rule {
            on_inconclusive,
            ..max_drop(0.05)
        };
        check(&rule, &accuracy(6, 6, 60))
    };
    let passed = check(&max_drop(0.05), &accuracy(0, 0, 300));
    let failed = check(&max_drop(0.05), &accuracy(2, 20, 100));
    let mut observation = accuracy(0, 0, 300);
    observation.unscored.examples = 1;
    let unscored = check(&max_drop(0.05), &observation);
    assert_eq!(outcome(&[]), Outcome::Passed);
    let warned = warn(OnInconclusive::Warn);
    assert!(warned.is_warning() && !warn(OnInconclusive::Pass).is_warning());
    let mut all = vec![passed, warned, warn(OnInconclusive::Pass)];
    assert_eq!(outcome(&all), Outcome::Passed);
    all.push(warn(OnInconclusive::Fail));
    assert_eq!(outcome(&all), Outcome::Inconclusive);
    all.push(failed);
    assert_eq!(outcome(&all), Outcome::Failed);
    all.push(unscored);
    assert_eq!(outcome(&all), Outcome::Incomplete);
}
