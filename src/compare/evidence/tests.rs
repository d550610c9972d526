//! Evidence that fits together, and what is refused.

use super::*;
use crate::compare::sketch;
use crate::metric::Kind;
use crate::stats::Interval;

/// Cells lie model by model, and within a model variant by variant.
#[test]
fn a_cell_is_found_by_model_and_variant() {
    let mut evidence = sketch::run("a", 1, [0.0, 0.0]);
    evidence.models.push(evidence.models[0].clone());
    evidence.models[1].name = "large".to_owned();
    evidence.cells.extend(evidence.cells.clone());
    for (index, cell) in evidence.cells.iter_mut().enumerate() {
        cell.edit(0, |it| {
            it.likelihood.as_mut().unwrap().n_tokens = 10 + index;
        });
    }
    let n_tokens = |model, variant| {
        let case = evidence.cell(model, variant).get(0);
        case.likelihood().unwrap().n_tokens
    };
    let found = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|it| n_tokens(it.0, it.1));
    assert_eq!(found, [10, 11, 12, 13]);
}

/// Two variants are identical as far as a metric reads what they asked.
#[test]
fn variants_are_identical_where_all_requests_are_equal() {
    let mut evidence = sketch::run("a", 5, [0.0, 0.0]);
    let first = evidence.cells[0].clone();
    evidence.cells[1].edit_each(|i, it| it.likelihood_digest = first.case(i).likelihood_digest);
    let is_identical = |evidence: &Evidence, metric: &str| {
        evidence.is_identical(0, evidence.metric(metric).unwrap(), 0, 1)
    };
    assert!(is_identical(&evidence, "loglikelihood"));
    assert!(is_identical(&evidence, "acc"));
    assert!(
        !is_identical(&evidence, "exact_match"),
        "another generation"
    );
    // A declared metric of choices also reads what they are worth without the example.
    let acc = evidence.metric("acc").unwrap();
    evidence.metrics[acc].metric.recipe = Some(crate::metric::Recipe::default());
    assert!(is_identical(&evidence, "acc"));
    evidence.cells[1].edit(4, |it| it.prior_digest = Some(ShortDigest::of(["another"])));
    assert!(!is_identical(&evidence, "acc"));
    evidence.metrics[acc].metric.recipe = None;
    assert!(is_identical(&evidence, "acc"));
    // What could not be asked is not known to be equal.
    for cell in &mut evidence.cells {
        cell.edit(2, |it| it.likelihood_digest = None);
    }
    assert!(!is_identical(&evidence, "acc"));
}

type Change = fn(&mut Evidence);

/// Every change of sound evidence is refused with its words.
fn assert_refused(table: &[(&str, Change)]) {
    let mut sound = sketch::run("a", 4, [0.0, 0.0]);
    sound.margin = Some(0.0);
    assert_eq!(sound.check(), Ok(()));
    for (expected, change) in table {
        let mut evidence = sound.clone();
        change(&mut evidence);
        assert_eq!(evidence.check().unwrap_err().to_string(), *expected);
    }
}

#[test]
fn evidence_that_does_not_fit_together_is_refused() {
    assert_refused(&[
        ("models: `smol` stands there twice", |it| {
            it.models.push(it.models[0].clone());
        }),
        ("examples: `e0001` stands there twice", |it| {
            it.examples.edit(0, |it| it.id = "e0001".to_owned());
        }),
        ("cells: expected 2, got 1", |it| {
            it.cells.pop();
        }),
        (
            "variant `few` on `smol`: expected 4 examples, got 3",
            |it| {
                it.cells[1] = it.cells[1].iter().take(3).map(CaseRef::to_owned).collect();
            },
        ),
        (
            "variant `bare` on `smol`, example `e0000`: expected 14 values, got 13",
            |it| {
                it.cells[0].edit(0, |it| drop(it.values.pop()));
            },
        ),
        (
            "variant `bare` on `smol`, example `e0002`: its value of `f1` is not finite",
            |it| it.cells[0].edit(2, |it| it.values[1] = Some(Value::Number(f64::NAN))),
        ),
        (
            "variant `bare` on `smol`, example `e0002`: its value of `f1` is of another kind",
            |it| it.cells[0].edit(2, |it| it.values[1] = Some(Value::Outcome(true))),
        ),
        (
            "variant `bare` on `smol`, example `e0002`: expected 10 statistics of `bleu`, got 1",
            |it| it.cells[0].edit(2, |it| it.values[2] = Some(Value::Statistics(vec![1.0]))),
        ),
        (
            "variant `bare` on `smol`, example `e0003`: its likelihood is no finite number over \
             at least one token",
            |it| {
                let minus_infinity = f64::NEG_INFINITY;
                it.cells[0].edit(3, |it| {
                    it.likelihood.as_mut().unwrap().loglikelihood = minus_infinity;
                });
            },
        ),
        (
            "variant `bare` on `smol`, example `e0003`: its likelihood is no finite number over \
             at least one token",
            |it| {
                it.cells[0].edit(3, |it| it.likelihood.as_mut().unwrap().n_tokens = 0);
            },
        ),
    ]);
}

#[test]
fn a_margin_or_range_that_is_none_is_refused() {
    fn interval(low: f64, high: f64) -> Interval {
        Interval { low, high }
    }
    assert_refused(&[
        ("margin: expected a finite number, 0 or more", |it| {
            it.margin = Some(-0.1);
        }),
        ("margin: expected a finite number, 0 or more", |it| {
            it.margin = Some(f64::INFINITY);
        }),
        ("metric `loglikelihood`: its range is no interval", |it| {
            it.metrics[0].metric.range = Some(interval(f64::NEG_INFINITY, 0.0));
        }),
        ("metric `loglikelihood`: its range is no interval", |it| {
            it.metrics[0].metric.range = Some(interval(0.0, f64::INFINITY));
        }),
        ("metric `loglikelihood`: its range is no interval", |it| {
            it.metrics[0].metric.range = Some(interval(1.0, 0.0));
        }),
    ]);
}

#[test]
fn a_short_digest_is_read_as_it_was_written() {
    let digest = ShortDigest::of(["a", "b"]);
    assert_eq!(digest.to_string().parse(), Ok(digest));
    assert_ne!(digest, ShortDigest::of(["ab"]));
    for text in [
        "",
        "0",
        &"0".repeat(31),
        &"0".repeat(34),
        &"A".repeat(32),
        &"g".repeat(32),
    ] {
        assert!(text.parse::<ShortDigest>().is_err(), "{text}");
    }
}

/// The sketch covers what it says it covers.
#[test]
fn the_sketch_has_every_kind_of_metric() {
    let metrics = sketch::metrics();
    for kind in [Kind::Proportion, Kind::Mean, Kind::Ratio, Kind::Corpus] {
        assert!(
            metrics.iter().any(|it| it.metric.kind() == kind),
            "{kind:?}"
        );
    }
}
