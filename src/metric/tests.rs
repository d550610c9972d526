//! Scores to values and estimates, worked out by hand.

use std::path::Path;

use super::*;
use crate::experiment::{Overlay, parse};
use crate::plan::CaseKey;
use crate::score::{ChoiceScore, Status};
use crate::text_metric::{BleuTokenizer, CaseJudgement, TextMetric};

/// The metrics of a small experiment with these tables.
pub(super) fn specs(metrics: &str) -> Vec<MetricSpec> {
    let text = format!(
        "[experiment]\nname = 'x'\n[models.smol]\nsource = 'builtin:smol'\n[dataset]\n\
         path = 'd.jsonl'\ntarget = '{{{{ fr }}}}'\nchoices = ['a', 'b']\n[variants.bare]\n\
         template = '{{{{ en }}}}'\n[generation]\nmax_tokens = 1\n{metrics}\n"
    );
    let overlay = Overlay {
        profile: None,
        set: Vec::new(),
    };
    let (experiment, _) = parse(Path::new("x.toml"), text, &overlay)
        .unwrap_or_else(|problems| panic!("{metrics}: {problems:?}"));
    experiment.spec.metrics
}

fn names(uses: &str) -> Vec<(String, Kind)> {
    let declared = specs(&format!("[[metrics]]\nuse = {uses}"));
    let judge = |spec: &MetricSpec| {
        let bleu = TextMetric::Bleu {
            tokenize: BleuTokenizer::V13a,
        };
        TextJudge::new(Some(spec.name.clone()), bleu, None, None).unwrap()
    };
    let judges: Vec<TextJudge> = declared.iter().map(judge).collect();
    let facts = Facts {
        has_target: false,
        has_choices: false,
        n_fixed_choices: None,
        n_repeats: 1,
        judges: &judges,
        declared: &declared,
        references: ReferenceCount::of([1]),
    };
    let list = Metric::list(&facts);
    list.into_iter()
        .map(|it| (it.name.clone(), it.kind()))
        .collect()
}

/// It once gave the corpus's BLEU under that name.
#[test]
fn sentence_bleu_is_the_mean_of_its_cases_however_it_is_asked_for() {
    let named = |list: &[(&str, Kind)]| -> Vec<(String, Kind)> {
        list.iter().map(|it| (it.0.to_owned(), it.1)).collect()
    };
    let corpus = ("bleu", Kind::Corpus);
    let cases = ("sentence_bleu", Kind::Mean);
    assert_eq!(names("'bleu'"), named(&[corpus, cases]));
    assert_eq!(names("'sentence_bleu'"), named(&[cases]));
    assert_eq!(names("['bleu', 'sentence_bleu']"), named(&[corpus, cases]));
}

/// One repeat of an example with what was judged of its generation, by one metric.
fn score(example: usize, repeat: usize, judged: Option<(f64, &[f64])>) -> Score {
    Score {
        key: CaseKey {
            model: 0,
            variant: 0,
            example,
            repeat,
        },
        status: Status::Ok,
        message: None,
        prompt: String::new(),
        n_context_tokens: 1,
        likelihood: None,
        choices: Vec::new(),
        generation: None,
        judgements: vec![judged.map(|(value, statistics)| CaseJudgement {
            value,
            statistics: statistics.to_vec(),
            extraction_failed: false,
        })],
        tokens: Vec::new(),
    }
}

fn with_likelihood(example: usize, likelihood: Option<Likelihood>) -> Score {
    Score {
        likelihood,
        ..score(example, 0, None)
    }
}

/// The metrics of an experiment that has everything, with one declared metric.
fn listed(declared: &str, metric: TextMetric, n_repeats: usize) -> Vec<Metric> {
    let declared = specs(&format!("[[metrics]]\nuse = '{declared}'"));
    let judges = [TextJudge::new(None, metric, None, None).unwrap()];
    Metric::list(&Facts {
        has_target: true,
        has_choices: true,
        n_fixed_choices: Some(2),
        n_repeats,
        judges: &judges,
        declared: &declared,
        references: ReferenceCount::of([1]),
    })
}

fn named<'a>(metrics: &'a [Metric], name: &str) -> &'a Metric {
    let found = metrics.iter().find(|it| it.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// Repeats are averaged before anything is counted: the example is the unit.
#[test]
fn an_example_counts_once_however_often_it_is_repeated() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 3);
    let metric = named(&metrics, "exact_match");
    // Example 0: right twice in three. Example 1: never.
    let values = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]];
    let scores: Vec<Score> = (0..6)
        .map(|i| score(i / 3, i % 3, Some((values[i / 3][i % 3], &[]))))
        .collect();
    let units = metric.units(&scores.iter().collect::<Vec<_>>());
    assert_eq!(*units.examples, [0, 1]);
    let estimate = metric.measure(&units, None, 2).estimate.unwrap();
    // (2/3 + 0) / 2
    assert!((estimate.value - 1.0 / 3.0).abs() < 1e-12, "{estimate:?}");
    assert_eq!(estimate.n, 2);
}

/// A corpus metric pools what the repeats have counted.
#[test]
fn statistics_of_repeats_are_added_up() {
    let metrics = listed("chrf", TextMetric::Chrf, 2);
    let metric = named(&metrics, "chrf");
    let scores = [
        score(0, 0, Some((50.0, &[1.0, 2.0]))),
        score(0, 1, Some((70.0, &[4.0, 8.0]))),
    ];
    let repeats: Vec<&Score> = scores.iter().collect();
    assert_eq!(
        metric.value(&repeats),
        Some(Value::Statistics(vec![5.0, 10.0]))
    );
    // The mean of the cases' own values comes along.
    let metric = named(&metrics, "sentence_chrf");
    assert_eq!(metric.value(&repeats), Some(Value::Number(60.0)));
}

/// One repeat without an answer leaves the example without a value, never with a lower one.
#[test]
fn an_example_that_lacks_an_answer_has_no_value() {
    for (name, judged, text) in [
        ("exact_match", "exact_match", TextMetric::ExactMatch),
        ("chrf", "chrf", TextMetric::Chrf),
        ("sentence_chrf", "chrf", TextMetric::Chrf),
    ] {
        let metrics = listed(judged, text, 2);
        let metric = named(&metrics, name);
        let whole = [1.0, 0.0].map(|it| score(0, 0, Some((it, &[1.0]))));
        let missing = [score(1, 0, Some((1.0, &[1.0]))), score(1, 1, None)];
        let all: Vec<&Score> = whole.iter().chain(&missing).collect();
        let units = metric.units(&all);
        assert_eq!(*units.examples, [0], "{name}");
        assert_eq!(metric.measure(&units, None, 2).n_failed, 1, "{name}");
        // A value that is no number is none.
        let broken = score(0, 0, Some((f64::NAN, &[f64::NAN])));
        assert_eq!(metric.value(&[&broken]), None, "{name}");
    }
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    for name in [
        "loglikelihood",
        "greedy_match",
        "perplexity",
        "acc",
        "brier",
    ] {
        let metric = named(&metrics, name);
        let empty = with_likelihood(0, None);
        assert_eq!(*metric.units(&[&empty]).examples, [0usize; 0], "{name}");
    }
}

/// What each likelihood metric is, by hand.
#[test]
fn likelihood_metrics_divide_by_what_their_names_say() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    let likelihood = |loglikelihood, n_tokens, n_bytes, greedy_match| {
        Some(Likelihood {
            loglikelihood,
            n_tokens,
            n_bytes,
            greedy_match,
            boundary_merge: false,
        })
    };
    // Sums: -8 nats, 5 tokens, 16 bytes; one of two is a greedy match; one of three failed.
    let scores = [
        with_likelihood(0, likelihood(-6.0, 2, 10, true)),
        with_likelihood(1, None),
        with_likelihood(2, likelihood(-2.0, 3, 6, false)),
    ];
    let scores: Vec<&Score> = scores.iter().collect();
    for (name, want) in [
        ("loglikelihood", -4.0),
        ("loglikelihood_per_token", -8.0 / 5.0),
        ("loglikelihood_per_byte", -0.5),
        ("bits_per_byte", 0.5 / std::f64::consts::LN_2),
        ("perplexity", (8.0f64 / 5.0).exp()),
        ("greedy_match", 0.5),
    ] {
        let metric = named(&metrics, name);
        let got = metric.measure(&metric.units(&scores), None, 3);
        let estimate = got.estimate.unwrap();
        assert!(
            (estimate.value - want).abs() < 1e-12,
            "{name}: {estimate:?}"
        );
        assert_eq!((estimate.n, got.n_failed), (2, 1), "{name}");
    }
}

/// Which metrics there are, which way they improve, and what they are compared by.
#[test]
fn metrics_are_listed_with_direction_kind_and_unit() {
    let metrics = listed("ter", TextMetric::Ter, 1);
    let shown: Vec<String> = metrics
        .iter()
        .map(|it| {
            let direction = match it.direction {
                Direction::HigherIsBetter => "up",
                Direction::LowerIsBetter => "down",
            };
            let described = if it.is_descriptive { " described" } else { "" };
            let case = if it.is_per_case() { " per case" } else { "" };
            let unit = it.unit.as_str();
            format!(
                "{} {direction} {:?} [{unit}]{described}{case}",
                it.name,
                it.kind()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "loglikelihood up Mean [nats]",
            "loglikelihood_per_token up Ratio [nats/token]",
            "loglikelihood_per_byte up Ratio [nats/byte]",
            "bits_per_byte down Ratio [bits/byte]",
            "perplexity down Ratio [] described",
            "greedy_match up Proportion [%]",
            "acc up Proportion [%] per case",
            "acc_norm up Proportion [%] per case",
            "acc_bytes up Proportion [%] per case",
            "macro_f1 up Corpus [%]",
            "brier down Mean [] per case",
            "ece down Corpus [] described",
            "acc_majority up Corpus [%] described",
            "acc_no_context up Proportion [%] described",
            "ter down Corpus [points]",
            "sentence_ter down Mean [points] per case",
        ]
    );
}

/// What only describes has a value and no interval.
#[test]
fn descriptions_have_a_value_and_no_interval() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    let choice = |loglikelihood: f64, is_target| ChoiceScore {
        text: "x".to_owned(),
        is_target,
        loglikelihood,
        n_tokens: 1,
        prior: None,
        unconditional: Some(loglikelihood),
    };
    // 400 examples whose model says 3/4 for the first choice, which is right in 300 of them.
    let scores: Vec<Score> = (0..400)
        .map(|example| Score {
            choices: vec![
                choice(0.75f64.ln(), example % 4 != 0),
                choice(0.25f64.ln(), example % 4 == 0),
            ],
            ..score(example, 0, None)
        })
        .collect();
    let scores: Vec<&Score> = scores.iter().collect();
    for (name, want) in [
        ("ece", 0.0),
        ("acc_majority", 0.75),
        ("acc_no_context", 0.75),
    ] {
        let metric = named(&metrics, name);
        let got = metric.measure(&metric.units(&scores), None, 401);
        let estimate = got.estimate.unwrap();
        assert!(
            (estimate.value - want).abs() < 1e-12,
            "{name}: {estimate:?}"
        );
        assert_eq!((estimate.interval, estimate.stderr), (None, None), "{name}");
        assert_eq!((estimate.n, got.n_failed), (400, 1), "{name}");
    }
    let metric = named(&metrics, "ece");
    let few = metric.units(&scores[..299]);
    assert_eq!(metric.measure(&few, None, 299).estimate, None);
}

/// The unit stands behind a value, and in files.
#[test]
fn a_unit_is_read_by_the_name_it_is_written_with() {
    for (unit, name) in [
        (Unit::Percent, "%"),
        (Unit::Points, "points"),
        (Unit::Nats, "nats"),
        (Unit::NatsPerToken, "nats/token"),
        (Unit::NatsPerByte, "nats/byte"),
        (Unit::BitsPerByte, "bits/byte"),
        (Unit::Plain, ""),
    ] {
        assert_eq!(unit.as_str(), name);
        assert_eq!(Unit::from_name(name), Some(unit));
    }
    assert_eq!(Unit::from_name("bits"), None);
}

/// The metrics of an experiment with choices and these tables.
fn of_choices(n_fixed_choices: Option<usize>, declared: &[MetricSpec]) -> Vec<Metric> {
    Metric::list(&Facts {
        has_target: false,
        has_choices: true,
        n_fixed_choices,
        n_repeats: 1,
        judges: &[],
        declared,
        references: ReferenceCount::of([1]),
    })
}

/// Classes mean the same in every example only where all have the same choices, and a metric
/// without context has none only where no premise stands before the choices.
#[test]
fn a_metric_is_listed_only_where_it_means_something() {
    let has = |list: &[Metric], name: &str| list.iter().any(|it| it.name == name);
    let premise = specs("[[metrics]]\nuse = 'acc_pmi'\npremise = 'It is'");
    let table = [
        (Some(2), &premise[..0], true, true),
        (None, &premise[..0], false, true),
        (Some(2), &premise[..], true, false),
    ];
    for (n_fixed_choices, declared, has_classes, has_no_context) in table {
        let list = of_choices(n_fixed_choices, declared);
        for name in ["macro_f1", "acc_majority"] {
            assert_eq!(has(&list, name), has_classes, "{name}");
        }
        assert_eq!(has(&list, "acc_no_context"), has_no_context);
        assert!(has(&list, "acc") && has(&list, "brier"));
    }
}

#[test]
fn a_declared_metric_of_choices_keeps_how_it_was_declared() {
    let declared = specs("[[metrics]]\nuse = 'acc_pmi'\npremise = 'It is'");
    let list = of_choices(Some(2), &declared);
    let recipe = named(&list, "acc_pmi").recipe.as_ref().unwrap();
    assert_eq!(recipe.text, "acc_pmi premise=\"It is\"");
    assert_eq!(named(&list, "acc").recipe, None);
}

/// A metric with one end, or none, is not bounded.
#[test]
fn a_range_has_two_ends() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    let range = |name: &str| named(&metrics, name).range.map(|it| (it.low, it.high));
    for name in ["loglikelihood", "bits_per_byte", "perplexity"] {
        assert_eq!(range(name), None, "{name}");
    }
    for name in ["acc", "ece", "exact_match"] {
        assert_eq!(range(name), Some((0.0, 1.0)), "{name}");
    }
    assert_eq!(range("brier"), Some((0.0, 2.0)));
}

/// A sentence's BLEU counts the orders that the sentence has, so it is another BLEU.
#[test]
fn the_mean_over_sentences_has_a_signature_of_its_own() {
    let bleu = TextMetric::Bleu {
        tokenize: BleuTokenizer::V13a,
    };
    let metrics = listed("bleu", bleu, 1);
    let signature = |name: &str| named(&metrics, name).signature.clone().unwrap();
    assert!(signature("bleu").contains("|eff:no|"));
    let sentences = signature("bleu").replace("eff:no", "eff:yes");
    assert_eq!(signature("sentence_bleu"), sentences);
}

/// Probabilities 3/4 for the first choice, 1/4 for the second, which is the right one.
fn with_choices() -> Score {
    let choice = |probability: f64, is_target| ChoiceScore {
        text: "x".to_owned(),
        is_target,
        loglikelihood: probability.ln(),
        n_tokens: 1,
        prior: None,
        unconditional: Some(probability.ln()),
    };
    Score {
        choices: vec![choice(0.75, false), choice(0.25, true)],
        ..score(0, 0, Some((1.0, &[])))
    }
}

/// What has a column in the table of cases has a value there, and nothing else has.
#[test]
fn a_case_has_a_value_where_it_has_a_column() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    let score = with_choices();
    for metric in &metrics {
        let value = metric.case_value(&score);
        assert_eq!(value.is_some(), metric.is_per_case(), "{}", metric.name);
    }
    let value = |name: &str| named(&metrics, name).case_value(&score).unwrap();
    assert_eq!((value("acc"), value("exact_match")), (0.0, 1.0));
    assert!((value("brier") - 1.125).abs() < 1e-12, "(3/4)² twice");
}

/// Whether something holds stays a yes or no; a distance stays a number.
#[test]
fn an_example_contributes_what_its_metric_counts() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    let score = with_choices();
    let value = |name: &str| named(&metrics, name).value(&[&score]).unwrap();
    assert_eq!(value("acc"), Value::Outcome(false));
    assert_eq!(value("exact_match"), Value::Outcome(true));
    let Value::Number(brier) = value("brier") else {
        panic!("a distance is no yes or no");
    };
    assert!((brier - 1.125).abs() < 1e-12);
}

/// What only describes names what to compare by instead.
#[test]
fn a_description_names_the_metric_to_compare_by() {
    let metrics = listed("exact_match", TextMetric::ExactMatch, 1);
    for (name, instead) in [
        ("perplexity", Some("loglikelihood_per_token")),
        ("ece", Some("brier")),
        ("acc", None),
        ("exact_match", None),
    ] {
        assert_eq!(named(&metrics, name).instead(), instead, "{name}");
    }
}

/// Messages about a metric that was redefined show both lines.
#[test]
fn a_definition_is_everything_that_decides_a_value() {
    let metrics = listed("chrf", TextMetric::Chrf, 1);
    let definition = |name: &str| named(&metrics, name).definition();
    let signature = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0";
    for (name, expected) in [
        (
            "acc",
            "choices acc 2, higher is better, % from 0 to 1".to_owned(),
        ),
        (
            "bits_per_byte",
            "likelihood bits_per_byte, lower is better, bits/byte".to_owned(),
        ),
        (
            "chrf",
            format!(
                "chrf normalize=[] over the corpus, {signature}, higher is better, points from 0 \
                 to 100"
            ),
        ),
        (
            "sentence_chrf",
            format!("chrf normalize=[], {signature}, higher is better, points from 0 to 100"),
        ),
    ] {
        assert_eq!(definition(name), expected);
    }
}
