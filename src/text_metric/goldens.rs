//! The golden values of `tests/fixtures/text_metric/goldens.json`, for this room's tests.
//!
//! `make_goldens.py` beside that file wrote them and pins the reference versions.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

/// How far a value may be from the reference's; sums in another order differ by rounding.
const TOLERANCE: f64 = 1e-6;

/// One text against its references, with what the reference implementations say.
pub(super) struct GoldenCase {
    pub(super) name: String,
    pub(super) hypothesis: String,
    pub(super) references: Vec<String>,
    scores: HashMap<String, f64>,
    corpus_of_one: HashMap<String, f64>,
    statistics: HashMap<String, Vec<f64>>,
}

/// Several cases, by name, scored together.
pub(super) struct GoldenCorpus {
    pub(super) name: String,
    pub(super) cases: Vec<String>,
    pub(super) signatures: HashMap<String, String>,
    scores: HashMap<String, f64>,
}

/// The whole file.
pub(super) struct Goldens {
    pub(super) cases: Vec<GoldenCase>,
    pub(super) corpora: Vec<GoldenCorpus>,
    index_by_name: HashMap<String, usize>,
}

impl Goldens {
    pub(super) fn case(&self, name: &str) -> &GoldenCase {
        &self.cases[self.index_by_name[name]]
    }
}

/// The golden values, parsed once.
pub(super) fn load() -> &'static Goldens {
    static GOLDENS: LazyLock<Goldens> = LazyLock::new(|| {
        let text = include_str!("../../tests/fixtures/text_metric/goldens.json");
        let file: Value = serde_json::from_str(text).unwrap();
        let cases: Vec<GoldenCase> = items(&file["cases"], golden_case);
        let names = cases.iter().enumerate();
        let index_by_name = names
            .map(|(index, case)| (case.name.clone(), index))
            .collect();
        Goldens {
            cases,
            corpora: items(&file["corpora"], golden_corpus),
            index_by_name,
        }
    });
    &GOLDENS
}

/// Asserts that `value` gives every case the score that the reference of `metric` gives it.
pub(super) fn hold(metric: &str, value: impl Fn(&GoldenCase) -> f64) {
    for case in &load().cases {
        assert_near(
            value(case),
            case.scores[metric],
            &format!("{metric} of {}", case.name),
        );
    }
}

/// Asserts that statistics, their corpus score and the score of their sums are the reference's.
pub(super) fn hold_corpora(
    metric: &str,
    statistics: impl Fn(&GoldenCase) -> Vec<f64>,
    score: impl Fn(&[f64]) -> f64,
) {
    let mut by_name = HashMap::new();
    for case in &load().cases {
        let context = format!("{metric} of {}", case.name);
        let ours = statistics(case);
        assert_eq!(ours, case.statistics[metric], "statistics for {context}");
        assert_near(
            score(&ours),
            case.corpus_of_one[metric],
            &format!("corpus {context}"),
        );
        by_name.insert(case.name.as_str(), ours);
    }
    for corpus in &load().corpora {
        let mut summed = by_name[corpus.cases[0].as_str()].clone();
        for name in &corpus.cases[1..] {
            let added = &by_name[name.as_str()];
            summed
                .iter_mut()
                .zip(added)
                .for_each(|(sum, number)| *sum += number);
        }
        let context = format!("{metric} of corpus {}", corpus.name);
        assert_near(score(&summed), corpus.scores[metric], &context);
    }
}

fn assert_near(value: f64, expected: f64, context: &str) {
    let is_near = (value - expected).abs() <= TOLERANCE;
    assert!(
        is_near,
        "{context}: got {value}, the reference says {expected}"
    );
}

fn golden_case(value: &Value) -> GoldenCase {
    GoldenCase {
        name: text(&value["name"]),
        hypothesis: text(&value["hypothesis"]),
        references: items(&value["references"], text),
        scores: table(&value["scores"], number),
        corpus_of_one: table(&value["corpus_of_one"], number),
        statistics: table(&value["statistics"], |it| items(it, number)),
    }
}

fn golden_corpus(value: &Value) -> GoldenCorpus {
    GoldenCorpus {
        name: text(&value["name"]),
        cases: items(&value["cases"], text),
        signatures: table(&value["signatures"], text),
        scores: table(&value["scores"], number),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn items<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(item).collect()
}

fn table<T>(value: &Value, item: impl Fn(&Value) -> T) -> HashMap<String, T> {
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, it)| (key.clone(), item(it)))
        .collect()
}
