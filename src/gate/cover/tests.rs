//! What gates cover, on evidence made by [`sketch::run`].

use std::path::Path;

use super::*;
use crate::compare::sketch;
use crate::experiment::{Overlay, parse};
use crate::gate::{Check, Reason, State, decide_all};
use crate::metric::{Source, Value};
use crate::score::Status;

/// The gates of a file with the variants and metrics of [`sketch::run`].
fn gates(tables: &str) -> Vec<GateSpec> {
    let text = format!(
        "[experiment]\nname = 'translate'\n[models.smol]\nsource = 'builtin:smol'\n\
         [dataset]\npath = 'd.jsonl'\ntarget = '{{{{ y }}}}'\nchoices = ['a', 'b']\n\
         [generation]\nmax_tokens = 4\n[[metrics]]\nuse = ['exact_match', 'f1', 'chrf']\n\
         [variants.bare]\ntemplate = 'B'\n[variants.few]\ntemplate = 'F'\n{tables}"
    );
    let overlay = Overlay {
        profile: None,
        set: Vec::new(),
    };
    let (experiment, _) = parse(Path::new("x.toml"), text, &overlay)
        .unwrap_or_else(|problems| panic!("{tables}: {problems:?}"));
    experiment.spec.gates
}

const PER_BYTE: &str =
    "[[gates]]\nmetric = 'loglikelihood_per_byte'\ncompare = 'baseline'\nmax_drop = 0.05\n";

fn main(evidence: &Evidence) -> Base<'_> {
    Base::Evidence {
        evidence,
        name: "baseline main",
    }
}

fn checks(covered: Covered) -> Vec<Check> {
    decide_all(covered.findings)
}

/// Variant, reference and state of every check.
fn said(checks: &[Check]) -> Vec<(&str, Option<&str>, State)> {
    checks
        .iter()
        .map(|it| {
            (
                it.label.variant.as_str(),
                it.label.reference.as_deref(),
                it.state,
            )
        })
        .collect()
}

/// Gains are a constant 0.1 or -0.1 nats per byte, so their bounds are that number.
#[test]
fn every_variant_is_held_against_its_own_in_the_baseline() {
    let base = sketch::run("a", 60, [0.0, 0.0]);
    let edited = sketch::run("b", 60, [-0.1, 0.1]);
    let covered = cover(&gates(PER_BYTE), &edited, main(&base), true);
    let got = checks(covered);
    let against = Some("baseline main");
    assert_eq!(
        said(&got),
        [
            ("bare", against, State::Failed),
            ("few", against, State::Passed)
        ]
    );
    assert!((got[0].value.unwrap() + 0.1).abs() < 1e-9);
    assert_eq!((got[0].n, got[0].is_clustered), (60, false));
}

#[test]
fn equal_requests_pass_however_few_they_are() {
    let base = sketch::run("a", 3, [0.0, 0.0]);
    let again = sketch::run("b", 3, [0.0, 0.0]);
    let got = checks(cover(&gates(PER_BYTE), &again, main(&base), true));
    assert!(got.iter().all(|it| it.state == State::Passed));
    assert_eq!(got[0].reasons, [Reason::Identical { n: 3 }]);
}

#[test]
fn a_gate_against_a_variant_leaves_that_one_out() {
    let gates = gates(
        "[[gates]]\nmetric = 'loglikelihood_per_byte'\ncompare = 'variant:bare'\nmax_drop = 0.3\n",
    );
    let run = sketch::run("a", 60, [0.0, 0.5]);
    let covered = cover(&gates, &run, Base::None, true);
    assert!(covered.without_baseline.is_empty() && covered.unselected.is_empty());
    let got = checks(covered);
    assert_eq!(said(&got), [("few", Some("bare"), State::Passed)]);
}

/// `harness run --variant few` has nothing to hold `few` against.
#[test]
fn a_gate_whose_reference_or_variants_were_not_selected_is_listed() {
    let gates = gates(
        "[[gates]]\nmetric = 'loglikelihood_per_byte'\ncompare = 'variant:bare'\nmax_drop = 0.3\n\
         [[gates]]\nmetric = 'acc'\nvariant = 'bare'\nmin = 0.1\n",
    );
    let mut run = sketch::run("a", 60, [0.0, 0.0]);
    run.variants.remove(0);
    run.cells.remove(0);
    let covered = cover(&gates, &run, Base::None, false);
    assert_eq!(covered.unselected, [0, 1]);
    assert!(covered.findings.is_empty());
}

#[test]
fn a_value_alone_is_held_against_min_and_max() {
    let gates = gates(
        "[[gates]]\nmetric = 'acc'\nvariant = 'bare'\nmin = 0.9\n\
         [[gates]]\nmetric = 'brier'\nvariant = 'few'\nmax = 1.9\n",
    );
    // No level is above one half, so no answer is right; a perfect one has a Brier of 0.
    let run = sketch::run("a", 60, [-1.0, 1.0]);
    let got = checks(cover(&gates, &run, Base::None, true));
    assert_eq!(
        said(&got),
        [("bare", None, State::Failed), ("few", None, State::Passed)]
    );
    assert_eq!((got[0].value, got[1].value), (Some(0.0), Some(0.0)));
}

#[test]
fn a_new_variant_is_listed_and_one_that_is_gone_fails() {
    let base = sketch::run("a", 40, [0.0, 0.0]);
    let mut run = sketch::run("b", 40, [0.0, 0.0]);
    run.variants[1].name = "chat".to_owned();
    let covered = cover(&gates(PER_BYTE), &run, main(&base), true);
    assert_eq!(covered.new_variants, ["chat"]);
    let got = checks(covered);
    let against = Some("baseline main");
    assert_eq!(
        said(&got),
        [
            ("few", against, State::Failed),
            ("bare", against, State::Passed)
        ]
    );
    assert_eq!(got[0].reasons, [Reason::Gone]);
    // Nothing is gone of what was not selected to run.
    let part = cover(&gates(PER_BYTE), &run, main(&base), false);
    assert_eq!(said(&checks(part)), [("bare", against, State::Passed)]);
}

#[test]
fn a_variant_may_be_retired() {
    let mut base = sketch::run("a", 40, [0.0, 0.0]);
    base.variants[1].name = "old".to_owned();
    let run = sketch::run("b", 40, [0.0, 0.0]);
    let retired = format!("{PER_BYTE}retired = ['old']\n");
    let covered = cover(&gates(&retired), &run, main(&base), true);
    assert_eq!(covered.new_variants, ["few"]);
    let got = checks(covered);
    assert_eq!(said(&got), [("bare", Some("baseline main"), State::Passed)]);
}

#[test]
fn without_a_baseline_only_gates_against_one_wait() {
    let gates = gates(&format!(
        "{PER_BYTE}[[gates]]\nmetric = 'acc'\nvariant = 'bare'\nmin = 0.01\n"
    ));
    let run = sketch::run("a", 60, [1.0, 0.0]);
    let covered = cover(&gates, &run, Base::None, true);
    assert_eq!(covered.without_baseline, [0]);
    assert_eq!(said(&checks(covered)), [("bare", None, State::Passed)]);
}

#[test]
fn a_base_that_cannot_be_compared_with_leaves_every_check_open() {
    let run = sketch::run("a", 40, [0.0, 0.0]);
    let base = Base::Refused {
        name: "baseline main",
        why: "another model",
    };
    let got = checks(cover(&gates(PER_BYTE), &run, base, true));
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|it| it.state == State::Inconclusive));
    let why = "another model".to_owned();
    assert_eq!(got[0].reasons, [Reason::NotComparable { why }]);
}

/// One missing answer of 300 costs a bounded metric at most 2/300 (the candidate's is wrong,
/// the reference's right); what has no bounds is judged on the rest.
#[test]
fn missing_scores_count_against_the_candidate_as_far_as_they_are_tolerated() {
    let base = sketch::run("a", 300, [0.0, 0.0]);
    let mut run = sketch::run("b", 300, [0.0, 0.0]);
    let acc = run.metric("acc").unwrap();
    let own: Vec<_> = run.metrics.iter().map(|it| &it.metric).collect();
    let slot = own
        .iter()
        .filter(|it| !matches!(it.source, crate::metric::Source::Likelihood(_)))
        .position(|it| it.name == run.metrics[acc].metric.name)
        .unwrap();
    run.cells[0].edit_each(|index, case| {
        if index < 6 {
            case.values[slot] = None;
            case.status = Status::ContextOverflow;
        }
    });
    let state = |rule: &str| {
        let gate =
            format!("[[gates]]\nmetric = 'acc'\nvariant = 'bare'\ncompare = 'baseline'\n{rule}\n");
        let got = checks(cover(&gates(&gate), &run, main(&base), true)).remove(0);
        assert_eq!(got.unscored.examples, 6);
        (got.state, got.reasons[0].clone())
    };
    let (one, why) = state("max_drop = 0.1");
    assert_eq!(one, State::Unscored);
    let (n, max_failed) = (6, 0);
    assert_eq!(why, Reason::TooManyUnscored { n, max_failed });
    // Those of six that the reference had right are lost: at most 2 %, its bound far below 10 %.
    assert_eq!(state("max_drop = 0.1\nmax_failed = 6").0, State::Passed);
    // Without them nothing changed: the floor of 0.0105 is 284 units and Tango's bound
    // 1.645^2 / (294 + 1.645^2) = 0.0091. With them it cannot be kept.
    let (open, why) = state("max_drop = 0.0105\nmax_failed = 6");
    assert_eq!(open, State::Inconclusive);
    assert!(matches!(why, Reason::Missing { n: 6, .. }), "{why:?}");
}

#[test]
fn a_lone_model_is_judged_whatever_it_is_called_and_a_new_one_is_listed() {
    let base = sketch::run("a", 40, [0.0, 0.0]);
    let mut renamed = sketch::run("b", 40, [0.0, 0.0]);
    renamed.models[0].name = "small".to_owned();
    let got = checks(cover(&gates(PER_BYTE), &renamed, main(&base), true));
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].label.model, "small");
    let mut two = sketch::run("c", 40, [0.0, 0.0]);
    two.models.push(renamed.models[0].clone());
    two.cells.extend(two.cells.clone());
    let covered = cover(&gates(PER_BYTE), &two, main(&base), true);
    assert_eq!(covered.new_models, ["small"]);
    assert!(covered.new_variants.is_empty());
    assert_eq!(covered.findings.len(), 2);
}

/// A base that cannot be compared with says nothing of what the candidate itself lacks.
#[test]
fn what_is_unscored_counts_where_nothing_can_be_compared() {
    let mut run = sketch::run("b", 40, [0.0, 0.0]);
    for index in 0..6 {
        run.cells[0].edit(index, |it| {
            it.likelihood = None;
            it.status = Status::ContextOverflow;
        });
    }
    let base = Base::Refused {
        name: "baseline main",
        why: "other rows",
    };
    let got = checks(cover(&gates(PER_BYTE), &run, base, true));
    let of = |variant: &str| {
        let found = got.iter().find(|it| it.label.variant == variant).unwrap();
        (found.state, found.unscored.examples)
    };
    assert_eq!(of("bare"), (State::Unscored, 6));
    assert_eq!(of("few"), (State::Inconclusive, 0));
}

/// A hundred values, six of them missing and filled in as wrong: `min` still has 94 to judge by,
/// and what is asked must hold with the six as well.
#[test]
fn missing_scores_are_filled_in_for_a_value_alone() {
    let mut run = sketch::run("b", 100, [0.0, 0.0]);
    let acc = run.metric("acc").unwrap();
    let own = run.metrics[..acc].iter();
    let is_own = |it: &Source| !matches!(it, Source::Likelihood(_));
    let slot = own.filter(|it| is_own(&it.metric.source)).count();
    run.cells[0].edit_each(|index, case| {
        let is_missing = index < 6;
        case.values[slot] = (!is_missing).then_some(Value::Outcome(true));
        if is_missing {
            case.status = Status::ContextOverflow;
        }
    });
    let check = |min: f64| {
        let gate =
            format!("[[gates]]\nmetric = 'acc'\nvariant = 'bare'\nmin = {min}\nmax_failed = 6\n");
        checks(cover(&gates(&gate), &run, Base::None, true)).remove(0)
    };
    // Wilson's one-sided 95 % bounds: 94 of 94 is above 0.972, 94 of 100 above 0.889.
    let got = check(0.88);
    assert_eq!((got.state, got.n), (State::Passed, 94));
    let got = check(0.92);
    assert_eq!(got.state, State::Inconclusive);
    let [Reason::Missing { n: 6, comparison }] = &got.reasons[..] else {
        panic!("{:?}", got.reasons)
    };
    assert!((comparison.value - 0.889).abs() < 1e-3, "{comparison:?}");
}
