//! Promises of comparing two runs that several files keep together.

use super::sketch::own_slot;
use super::*;
use crate::metric::Value;
use crate::score::Status;
use crate::stats::Method;

const OPTIONS: RunsOptions = RunsOptions {
    across_models: false,
    common_rows: false,
};

fn of<'a>(it: &'a RunComparison, metric: &str, variant: &str) -> &'a PairedComparison {
    let found = it.comparisons.iter();
    let mut found = found.filter(|it| it.metric == metric && it.cells.candidate == variant);
    found.next().unwrap()
}

/// The definition: every metric's gain is the plain difference of the two values.
#[test]
fn a_gain_is_the_difference_of_the_values_with_the_sign_of_the_metric() {
    let (one, other) = (
        sketch::run("b", 60, [0.1, 0.0]),
        sketch::run("a", 60, [0.0, 0.0]),
    );
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    // Two variants; five metrics of likelihoods, six of texts and five of choices.
    assert_eq!(compared.comparisons.len(), 2 * 16);
    for it in &compared.comparisons {
        let metric = one.metric(&it.metric).unwrap();
        let value = |evidence: &Evidence| {
            let variant = evidence.variant(&it.cells.candidate).unwrap();
            evidence.sample(0, variant, metric).unwrap().sample.value()
        };
        let sign = if it.direction == crate::stats::Direction::HigherIsBetter {
            1.0
        } else {
            -1.0
        };
        let expected = sign * (value(&one) - value(&other));
        // A proportion's gain is counted in pairs, which rounds once less.
        let gain = it.gain().unwrap();
        assert!((gain - expected).abs() < 1e-12, "{}: {gain}", it.metric);
        assert_eq!(it.candidate_value, Some(value(&one)));
        assert_eq!(it.refusal, None);
        assert_eq!(it.is_confirmatory, it.metric == "loglikelihood_per_byte");
        assert_eq!(it.margin.is_some(), it.is_confirmatory);
    }
    let described: Vec<&str> = compared
        .described
        .iter()
        .map(|it| it.metric.as_str())
        .collect();
    let expected = ["perplexity", "ece", "acc_majority", "acc_no_context"];
    assert_eq!(described, expected.map(|it| [it; 2]).concat());
    assert_eq!(
        compared.described[0].instead,
        Some("loglikelihood_per_token")
    );
    assert_eq!(compared.described[2].instead, Some("brier"));
    // `few` was not touched, `bare` is 0.1 nats per byte likelier everywhere.
    let bare = of(&compared, "loglikelihood_per_byte", "bare");
    assert!((bare.gain().unwrap() - 0.1).abs() < 1e-12);
    assert_eq!(bare.verdict, Verdict::Improved);
    let gains = bare.spread_of_gains.unwrap();
    assert!((gains.median - 0.1).abs() < 1e-12);
    assert_eq!((gains.share_improved, gains.share_worsened), (1.0, 0.0));
}

/// A Brier score is the better the lower, so that a value that fell is a gain.
#[test]
fn gains_of_single_examples_have_a_median_and_shares() {
    // Against 1.0 everywhere: gains 0.5, 0, -0.5, 1 and, with a fifth example, 0.25.
    let table = [
        (&[0.5, 1.0, 1.5, 0.0][..], 0.25, 2.0 / 4.0, 1.0 / 4.0),
        (&[0.5, 1.0, 1.5, 0.0, 0.75][..], 0.25, 3.0 / 5.0, 1.0 / 5.0),
        (&[0.5, 1.0, 0.0][..], 0.5, 2.0 / 3.0, 0.0),
    ];
    for (values, median, share_improved, share_worsened) in table {
        let mut one = sketch::run("b", values.len(), [0.0, 0.0]);
        let mut other = sketch::run("a", values.len(), [0.0, 0.0]);
        let slot = own_slot(&one, "brier");
        one.cells[0].edit_each(|i, it| it.values[slot] = Some(Value::Number(values[i])));
        other.cells[0].edit_each(|_, it| it.values[slot] = Some(Value::Number(1.0)));
        let compared = runs(&one, &other, &OPTIONS).unwrap();
        let expected = Gains {
            median,
            share_improved,
            share_worsened,
        };
        assert_eq!(
            of(&compared, "brier", "bare").spread_of_gains,
            Some(expected)
        );
        // Of a yes or no the flips say more.
        assert_eq!(of(&compared, "acc", "bare").spread_of_gains, None);
    }
}

/// Equal requests need no interval: whatever n is, nothing has changed.
#[test]
fn equal_requests_are_identical_for_any_n() {
    for n_examples in [1, 3, 40] {
        let one = sketch::run("b", n_examples, [0.0, 0.0]);
        let other = sketch::run("a", n_examples, [0.0, 0.0]);
        let compared = runs(&one, &other, &OPTIONS).unwrap();
        for it in &compared.comparisons {
            assert_eq!(it.gain(), Some(0.0), "{}", it.metric);
            assert_eq!(it.method(), "identical");
            assert_eq!(it.verdict, Verdict::Unchanged);
            assert_eq!(it.n_units(), n_examples);
        }
        assert!(flips(&one, &other, &compared.comparisons[0].cells, None).is_empty());
    }
}

/// Values that happen to be equal are an observation, which a small n leaves open.
#[test]
fn equal_values_of_different_requests_are_no_identity() {
    let one = sketch::run("b", 40, [0.0, 0.0]);
    let mut other = one.clone();
    for cell in &mut other.cells {
        cell.edit_each(|_, case| case.likelihood_digest = None);
    }
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    let per_byte = of(&compared, "loglikelihood_per_byte", "bare");
    let method = per_byte.difference.as_ref().unwrap().method();
    assert_eq!((per_byte.gain(), method), (Some(0.0), Method::Jackknife));
    assert_eq!(
        per_byte.verdict,
        Verdict::Unchanged,
        "inside the margin of 0.3"
    );
    assert_eq!(
        of(&compared, "acc", "bare").verdict,
        Verdict::Inconclusive,
        "no margin"
    );
    // Only the likelihoods were asked for anew.
    assert_eq!(of(&compared, "exact_match", "bare").method(), "identical");
}

/// A file may be wrong: equal requests with other values are not called identical.
#[test]
fn identity_is_not_taken_on_trust() {
    let one = sketch::run("b", 40, [0.0, 0.0]);
    let mut other = one.clone();
    let slot = own_slot(&other, "exact_match");
    other.cells[0].edit_each(|_, case| case.values[slot] = Some(Value::Outcome(true)));
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    assert_eq!(of(&compared, "exact_match", "bare").method(), "tango");
    assert!(of(&compared, "exact_match", "bare").gain().unwrap() < 0.0);
}

#[test]
fn every_example_that_takes_no_part_is_listed_with_its_cause() {
    let mut one = sketch::run("b", 100, [0.0, 0.0]);
    let mut other = sketch::run("a", 100, [0.0, 0.0]);
    let edited = ShortDigest::of(["edited"]);
    one.examples.edit(0, |it| it.id = "new".to_owned());
    one.examples.edit(1, |it| it.row_digest = edited);
    one.examples.edit(2, |it| it.target_digest = Some(edited));
    one.examples
        .edit(3, |it| it.references_digest = Some(edited));
    let slot = own_slot(&one, "exact_match");
    one.cells[0].edit(4, |it| it.values[slot] = None);
    one.cells[0].edit(4, |it| it.status = Status::ContextOverflow);
    other.cells[0].edit(5, |it| it.values[slot] = None);
    other.cells[0].edit(5, |it| it.status = Status::EngineError);
    for side in [&mut one, &mut other] {
        side.cells[0].edit(6, |it| it.values[slot] = None);
        side.cells[0].edit(6, |it| it.status = Status::NonFinite);
    }
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    let causes = |list: &[Unpaired]| -> Vec<(String, Cause)> {
        list.iter()
            .map(|it| (it.example_id.clone(), it.cause))
            .collect()
    };
    let named = |list: &[(&str, Cause)]| -> Vec<(String, Cause)> {
        list.iter().map(|it| (it.0.to_owned(), it.1)).collect()
    };
    assert_eq!(compared.n_common_rows, 98);
    assert_eq!(
        causes(&compared.unpaired_rows),
        named(&[
            ("new", Cause::OnlyInCandidate),
            ("e0001", Cause::FieldsChanged),
            ("e0000", Cause::OnlyInReference),
        ])
    );
    let exact_match = of(&compared, "exact_match", "bare");
    assert_eq!(exact_match.n_pairs, 93);
    assert_eq!(
        causes(&exact_match.unpaired),
        named(&[
            ("e0002", Cause::TargetChanged),
            ("e0003", Cause::TargetChanged),
            ("e0004", Cause::UnscoredInCandidate(Status::ContextOverflow)),
            ("e0005", Cause::UnscoredInReference(Status::EngineError)),
            (
                "e0006",
                Cause::UnscoredInBoth {
                    candidate: Status::NonFinite,
                    reference: Status::NonFinite
                }
            ),
        ])
    );
    // A likelihood is that of the target alone, and a choice is judged whatever its wording.
    let per_byte = of(&compared, "loglikelihood_per_byte", "bare");
    assert_eq!(
        causes(&per_byte.unpaired),
        named(&[("e0002", Cause::TargetChanged)])
    );
    assert!(of(&compared, "acc", "bare").unpaired.is_empty());
}

#[test]
fn samples_carry_what_is_missing() {
    let mut one = sketch::run("b", 30, [0.0, 0.0]);
    let other = sketch::run("a", 30, [0.1, 0.0]);
    let slot = own_slot(&one, "exact_match");
    one.cells[0].edit(4, |it| it.values[slot] = None);
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    let cells = &of(&compared, "exact_match", "bare").cells;
    // Evidence that does not fit together, on whichever side, has no samples.
    for unsound in [&mut one.clone(), &mut other.clone()] {
        unsound.margin = Some(-1.0);
        assert!(samples(unsound, &other, cells, "exact_match").is_none());
        assert!(samples(&one, unsound, cells, "exact_match").is_none());
    }
    let got = samples(&one, &other, cells, "exact_match")
        .unwrap()
        .unwrap();
    assert_eq!((got.candidate.n_units(), got.units.len()), (29, 29));
    assert_eq!(
        (got.units[3].as_str(), got.units[4].as_str()),
        ("e0003", "e0005")
    );
    let planned = got.planned.unwrap();
    assert_eq!((planned.candidate.len(), planned.candidate[4]), (30, None));
    assert!(planned.reference[4].is_some() && !got.is_clustered && !got.is_identical);
    let of_corpus = samples(&one, &other, cells, "chrf").unwrap().unwrap();
    assert_eq!((of_corpus.planned, of_corpus.units.len()), (None, 30));
    let alone = one
        .sample(0, 0, one.metric("exact_match").unwrap())
        .unwrap();
    assert_eq!((alone.n_unscored, alone.sample.n_units()), (1, 29));
    assert_eq!(alone.planned.unwrap()[4], None);
    one.cells[0].edit(9, |it| it.values[slot] = None);
    let alone = one
        .sample(0, 0, one.metric("exact_match").unwrap())
        .unwrap();
    assert_eq!((alone.n_unscored, alone.sample.n_units()), (2, 28));
    assert!(samples(&one, &other, cells, "meteor").is_none());
}

#[test]
fn clusters_are_the_units_and_the_other_side_may_name_them() {
    let mut one = sketch::run("b", 40, [0.05, 0.0]);
    let other = sketch::run("a", 40, [0.0, 0.0]);
    one.examples
        .edit_each(|i, it| it.cluster = Some(format!("page {}", i % 12)));
    for (a, b) in [(&one, &other), (&other, &one)] {
        let compared = runs(a, b, &OPTIONS).unwrap();
        let it = of(&compared, "exact_match", "bare");
        assert_eq!(
            (it.n_units(), it.n_pairs, it.method()),
            (12, 40, "jackknife")
        );
        let got = samples(a, b, &it.cells, "exact_match").unwrap().unwrap();
        assert!(got.is_clustered);
        assert_eq!(got.units[11], "page 11");
    }
}

#[test]
fn another_model_or_dataset_needs_consent() {
    let one = sketch::run("b", 40, [0.0, 0.0]);
    let mut other = sketch::run("a", 40, [0.0, 0.0]);
    other.models[0].numerics = "local-f32-avx512".to_owned();
    other.models[0].digest = "m2".to_owned();
    let error = runs(&one, &other, &OPTIONS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model `smol` is not the one of run `a`: it differs in weights, numerics"
    );
    assert!(error.hint().unwrap().contains("--across-models"));
    let options = RunsOptions {
        across_models: true,
        ..OPTIONS
    };
    let compared = runs(&one, &other, &options).unwrap();
    assert_eq!(
        compared.models[0].differences,
        [ModelDifference::Weights, ModelDifference::Numerics]
    );

    let mut other = sketch::run("a", 40, [0.0, 0.0]);
    for i in 0..4 {
        let edited = ShortDigest::of(["edited"]);
        other.examples.edit(i, |it| it.row_digest = edited);
    }
    assert!(runs(&one, &other, &OPTIONS).is_ok(), "10 % is tolerated");
    other.examples.edit(4, |it| it.id = "new".to_owned());
    let error = runs(&one, &other, &OPTIONS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the runs differ in 6 rows (4 changed, 1 new, 1 missing), such as \
         `e0000`, `e0001`, `e0002`, `e0003`, `e0004`; the candidate has 40"
    );
    let options = RunsOptions {
        common_rows: true,
        ..OPTIONS
    };
    let compared = runs(&one, &other, &options).unwrap();
    assert_eq!(of(&compared, "acc", "few").n_pairs, 35);
}

/// A lone model pairs with a lone model, whatever the two are called.
#[test]
fn models_pair_by_name_or_as_the_only_ones() {
    let one = sketch::run("b", 20, [0.0, 0.0]);
    let mut renamed = sketch::run("a", 20, [0.0, 0.0]);
    renamed.models[0].name = "small".to_owned();
    let compared = runs(&one, &renamed, &OPTIONS).unwrap();
    assert_eq!(compared.comparisons[0].cells.reference_model, "small");
    let mut two = renamed.clone();
    two.models.push(two.models[0].clone());
    two.models[1].name = "large".to_owned();
    two.cells.extend(two.cells.clone());
    assert_eq!(
        runs(&one, &two, &OPTIONS).unwrap_err().to_string(),
        "the runs have no model in common: `smol` on one side, `small`, `large` on the other"
    );
    two.models[1].name = "smol".to_owned();
    let compared = runs(&one, &two, &OPTIONS).unwrap();
    assert_eq!(compared.missing_models, ["small"]);
    assert!(compared.new_models.is_empty());
    let compared = runs(&two, &one, &OPTIONS).unwrap();
    assert_eq!(compared.new_models, ["small"]);
    assert!(compared.missing_models.is_empty());
}

#[test]
fn variants_and_metrics_of_one_side_are_listed() {
    let mut one = sketch::run("b", 20, [0.0, 0.0]);
    let mut other = sketch::run("a", 20, [0.1, 0.0]);
    one.variants[1].name = "chat".to_owned();
    let exact_match = other.metric("exact_match").unwrap();
    other.metrics[exact_match]
        .metric
        .recipe
        .as_mut()
        .unwrap()
        .text = "exact_match extract=\"x\"".into();
    let f1 = other.metric("f1").unwrap();
    other.metrics[f1].metric.name = "mean_f1".to_owned();
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    assert_eq!(compared.new_variants, ["chat"]);
    assert_eq!(compared.missing_variants, ["few"]);
    assert_eq!(compared.edited_variants, ["bare"]);
    assert_eq!(compared.new_metrics, ["f1"]);
    assert_eq!(compared.missing_metrics, ["mean_f1"]);
    assert_eq!(compared.redefined_metrics.len(), 1);
    let it = &compared.redefined_metrics[0];
    assert!(
        it.candidate
            .starts_with("exact_match normalize=[trim], higher is better")
    );
    assert!(
        it.reference
            .starts_with("exact_match extract=\"x\", higher is better")
    );
    assert!(
        compared
            .comparisons
            .iter()
            .all(|it| it.metric != "exact_match")
    );
}

#[test]
fn what_cannot_be_compared_says_why() {
    let one = sketch::run("b", 20, [0.0, 0.0]);
    let mut other = one.clone();
    other.cells[0].edit_each(|_, case| {
        case.likelihood_digest = None;
        if let Some(likelihood) = &mut case.likelihood {
            likelihood.n_tokens += 1;
        }
    });
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    let per_token = of(&compared, "loglikelihood_per_token", "bare");
    assert_eq!(
        per_token.refusal.as_ref().unwrap().to_string(),
        "20 targets are scored as another number of tokens; compare by `loglikelihood_per_byte`"
    );
    assert_eq!(per_token.verdict, Verdict::Inconclusive);
    assert!(
        of(&compared, "loglikelihood_per_byte", "bare")
            .refusal
            .is_none()
    );

    let mut other = one.clone();
    other.examples.edit_each(|_, it| it.target_digest = None);
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    assert_eq!(
        of(&compared, "loglikelihood", "bare").refusal,
        Some(Refusal::NoPairs)
    );
    assert_eq!(of(&compared, "loglikelihood", "bare").unpaired.len(), 20);

    let mut other = one.clone();
    other.is_finished = false;
    assert_eq!(
        runs(&other, &one, &OPTIONS).unwrap_err().to_string(),
        "run `b` is not finished"
    );
    other.cells.pop();
    let error = runs(&one, &other, &OPTIONS).unwrap_err();
    assert!(matches!(error, CompareRunsError::Evidence { .. }));
    let error = variants_of(&one, "bare", "chat").unwrap_err();
    assert_eq!(
        error.to_string(),
        "run `b` has no variant `chat`; it has `bare`, `few`"
    );
}

/// Equal requests make a gain of 0 by construction, but only over all examples.
#[test]
fn variants_that_lack_an_answer_are_compared_by_what_they_have() {
    let mut evidence = sketch::run("a", 20, [0.0, 0.0]);
    let metric = evidence.metric("loglikelihood").unwrap();
    let methods = |evidence: &Evidence| {
        let units = [0, 1].map(|variant| evidence.units(0, variant, metric));
        let family = Family {
            control: Some(0),
            identical: &|_, _| true,
            ..sketch::family(evidence, metric, &units)
        };
        variants(&family).remove(0).method
    };
    assert_eq!(methods(&evidence), "identical");
    evidence.cells[1].edit(7, |it| it.likelihood = None);
    assert_eq!(methods(&evidence), "jackknife");
}

/// The best is looked for among the examples that all variants have.
#[test]
fn luck_is_told_from_the_examples_that_all_variants_share() {
    let mut evidence = sketch::run("a", 30, [0.0, 0.0]);
    evidence.cells[0].edit(3, |it| it.likelihood = None);
    evidence.cells[1].edit(8, |it| it.likelihood = None);
    let metric = evidence.metric("loglikelihood").unwrap();
    let units = [0, 1].map(|variant| evidence.units(0, variant, metric));
    let family = sketch::family(&evidence, metric, &units);
    let shared = [0, 1].map(|variant: usize| {
        let likelihood = |i: usize| evidence.cell(0, variant).get(i).likelihood();
        let rows = (0..30).filter(|it| ![3, 8].contains(it));
        let values: Vec<f64> = rows
            .map(|it| likelihood(it).unwrap().loglikelihood)
            .collect();
        Sample::mean(&values, None).unwrap()
    });
    let expected = stats::luck_of_best(&shared, stats::Direction::HigherIsBetter, 7);
    assert!(0.0 < *expected.as_ref().unwrap());
    assert_eq!(luck_of_best(&family, 7), expected);
}

/// The tables of a run and a comparison of two of its variants must not disagree.
#[test]
fn variants_of_one_run_compare_as_in_its_tables() {
    let evidence = sketch::run("a", 50, [0.1, 0.0]);
    let compared = variants_of(&evidence, "few", "bare").unwrap();
    for it in &compared.comparisons {
        let metric = evidence.metric(&it.metric).unwrap();
        let units = [0, 1].map(|variant| evidence.units(0, variant, metric));
        let family = Family {
            control: Some(0),
            margin: it.margin,
            identical: &|a, b| evidence.is_identical(0, metric, a, b),
            ..sketch::family(&evidence, metric, &units)
        };
        let table = &variants(&family)[0];
        assert_eq!(table.gain, it.gain(), "{}", it.metric);
        assert_eq!(table.interval, it.interval());
        assert_eq!(table.p_adjusted, it.p_adjusted);
        assert_eq!(table.verdict, Some(it.verdict));
        assert_eq!(table.method, it.method());
        assert_eq!(table.n_to_settle, it.n_to_settle);
    }
    assert!(compared.new_variants.is_empty() && compared.missing_variants.is_empty());
}

#[test]
fn p_values_are_adjusted_over_the_variants_of_a_metric() {
    let (one, other) = (
        sketch::run("b", 60, [0.1, 0.02]),
        sketch::run("a", 60, [0.0, 0.0]),
    );
    let compared = runs(&one, &other, &OPTIONS).unwrap();
    for pair in compared.comparisons.chunks_exact(2) {
        let p: Vec<f64> = pair.iter().filter_map(PairedComparison::p_value).collect();
        let adjusted: Vec<f64> = pair.iter().filter_map(|it| it.p_adjusted).collect();
        assert_eq!(adjusted, crate::stats::holm(&p), "{}", pair[0].metric);
    }
}
