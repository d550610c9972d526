//! Declared text metrics as judges of generations.

use crate::experiment::{self, MetricName, MetricOptions, MetricSpec};
use crate::plan::ContainsTexts;
use crate::text_metric::{
    BleuTokenizer, CaseJudgement, ContainsMode, Normalizer, Pattern, TextJudge, TextMetric,
    TextMetricError,
};

/// The judges of the declared text metrics, in the order of `metrics`; likelihood
/// metrics among them are passed over.
///
/// # Errors
///
/// [`TextMetricError`] if a declaration cannot be carried out, e.g. a pattern that
/// does not compile.
pub fn judges(metrics: &[MetricSpec]) -> Result<Vec<TextJudge>, TextMetricError> {
    metrics
        .iter()
        .filter_map(|it| text_metric(it).map(|metric| (it, metric)))
        .map(judge)
        .collect()
}

fn judge(
    (spec, metric): (&MetricSpec, Result<TextMetric, TextMetricError>),
) -> Result<TextJudge, TextMetricError> {
    let extract = spec
        .extract
        .as_ref()
        .map(|it| Pattern::new(&it.value))
        .transpose()?;
    let normalizers = spec.normalizers().iter().map(|it| match it {
        experiment::Normalizer::Nfc => Normalizer::Nfc,
        experiment::Normalizer::Trim => Normalizer::Trim,
        experiment::Normalizer::Lower => Normalizer::Lower,
        experiment::Normalizer::Squad => Normalizer::Squad,
    });
    TextJudge::new(
        Some(spec.name.clone()),
        metric?,
        extract,
        Some(normalizers.collect()),
    )
}

/// What a declaration computes on texts; `None` if it is a likelihood metric.
fn text_metric(spec: &MetricSpec) -> Option<Result<TextMetric, TextMetricError>> {
    let tokenize = match &spec.options {
        MetricOptions::Bleu { tokenize } => match tokenize {
            experiment::BleuTokenizer::V13a => BleuTokenizer::V13a,
            experiment::BleuTokenizer::Intl => BleuTokenizer::Intl,
            experiment::BleuTokenizer::Char => BleuTokenizer::Char,
            experiment::BleuTokenizer::Zh => BleuTokenizer::Zh,
            experiment::BleuTokenizer::None => BleuTokenizer::None,
        },
        _ => BleuTokenizer::V13a,
    };
    Some(Ok(match (spec.metric.value, &spec.options) {
        (MetricName::ExactMatch, _) => TextMetric::ExactMatch,
        (MetricName::Contains, options) => contains(options),
        (MetricName::Regex, MetricOptions::Regex { pattern }) => {
            return Some(Pattern::new(&pattern.value).map(|pattern| TextMetric::Regex { pattern }));
        }
        (MetricName::F1, _) => TextMetric::F1,
        (MetricName::Bleu | MetricName::SentenceBleu, _) => TextMetric::Bleu { tokenize },
        (MetricName::Chrf | MetricName::SentenceChrf, _) => TextMetric::Chrf,
        (MetricName::ChrfPlusPlus, _) => TextMetric::ChrfPlusPlus,
        (MetricName::Ter, _) => TextMetric::Ter,
        (MetricName::RougeL, _) => TextMetric::RougeL,
        (MetricName::EditSimilarity, _) => TextMetric::EditSimilarity,
        (MetricName::MaxLength, MetricOptions::MaxLength { value }) => {
            TextMetric::MaxLength { max_chars: *value }
        }
        (MetricName::IsJson, _) => TextMetric::IsJson,
        _ => return None,
    }))
}

/// `contains` without texts of its own, which looks for a reference.
fn contains(options: &MetricOptions) -> TextMetric {
    let ignore_case = matches!(
        options,
        MetricOptions::Contains {
            ignore_case: true,
            ..
        }
    );
    TextMetric::Contains {
        values: None,
        mode: ContainsMode::Any,
        ignore_case,
    }
}

/// The judges of a `contains` that names texts of its own: all of them must hold.
///
/// # Errors
///
/// [`TextMetricError`] if a text is empty.
pub fn conditions(
    spec: &MetricSpec,
    texts: ContainsTexts,
) -> Result<Vec<TextJudge>, TextMetricError> {
    let ignore_case = matches!(
        spec.options,
        MetricOptions::Contains {
            ignore_case: true,
            ..
        }
    );
    let lists = [
        (texts.all, ContainsMode::All),
        (texts.any, ContainsMode::Any),
        (texts.none, ContainsMode::None),
    ];
    let lists = lists.into_iter().filter(|it| !it.0.is_empty());
    lists
        .map(|(values, mode)| {
            judge((
                spec,
                Ok(TextMetric::Contains {
                    values: Some(values),
                    mode,
                    ignore_case,
                }),
            ))
        })
        .collect()
}

/// Whether all conditions hold.
pub(super) fn judge_all(
    conditions: &[TextJudge],
    text: &str,
) -> Result<CaseJudgement, TextMetricError> {
    let mut all = CaseJudgement {
        value: 1.0,
        statistics: Vec::new(),
        extraction_failed: false,
    };
    for condition in conditions {
        let judgement = condition.judge(text, &[])?;
        all.value = all.value.min(judgement.value);
        all.extraction_failed |= judgement.extraction_failed;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::experiment::{Overlay, parse};

    fn specs(metrics: &str) -> Vec<MetricSpec> {
        let text = format!(
            "[experiment]\nname = 'x'\n[models.smol]\nsource = 'builtin:smol'\n[dataset]\n\
             path = 'd.jsonl'\ntarget = '{{{{ fr }}}}'\nchoices = ['a', 'b']\n[variants.bare]\n\
             template = '{{{{ en }}}}'\n[generation]\nmax_tokens = 1\n[[metrics]]\n{metrics}\n"
        );
        let (experiment, _) = parse(Path::new("x.toml"), text, &Overlay::default())
            .unwrap_or_else(|problems| panic!("{metrics}: {problems:?}"));
        experiment.spec.metrics
    }

    fn declared(metrics: &str) -> TextJudge {
        let [judge] = judges(&specs(metrics)).unwrap().try_into().unwrap();
        judge
    }

    #[test]
    fn every_metric_of_texts_has_the_judge_of_its_name() {
        let bleu = |tokenize| TextMetric::Bleu { tokenize };
        let table = [
            ("use = 'exact_match'", TextMetric::ExactMatch),
            ("use = 'f1'", TextMetric::F1),
            ("use = 'bleu'", bleu(BleuTokenizer::V13a)),
            ("use = 'bleu'\ntokenize = '13a'", bleu(BleuTokenizer::V13a)),
            ("use = 'bleu'\ntokenize = 'intl'", bleu(BleuTokenizer::Intl)),
            ("use = 'bleu'\ntokenize = 'char'", bleu(BleuTokenizer::Char)),
            ("use = 'bleu'\ntokenize = 'zh'", bleu(BleuTokenizer::Zh)),
            ("use = 'bleu'\ntokenize = 'none'", bleu(BleuTokenizer::None)),
            ("use = 'sentence_bleu'", bleu(BleuTokenizer::V13a)),
            ("use = 'chrf'", TextMetric::Chrf),
            ("use = 'sentence_chrf'", TextMetric::Chrf),
            ("use = 'chrf++'", TextMetric::ChrfPlusPlus),
            ("use = 'ter'", TextMetric::Ter),
            ("use = 'rouge_l'", TextMetric::RougeL),
            ("use = 'edit_similarity'", TextMetric::EditSimilarity),
            ("use = 'is_json'", TextMetric::IsJson),
            (
                "use = 'max_length'\nvalue = 9",
                TextMetric::MaxLength { max_chars: 9 },
            ),
            (
                "use = 'regex'\npattern = 'a+'",
                TextMetric::Regex {
                    pattern: Pattern::new("a+").unwrap(),
                },
            ),
            (
                "use = 'contains'\nignore_case = true",
                TextMetric::Contains {
                    values: None,
                    mode: ContainsMode::Any,
                    ignore_case: true,
                },
            ),
            (
                "use = 'contains'",
                TextMetric::Contains {
                    values: None,
                    mode: ContainsMode::Any,
                    ignore_case: false,
                },
            ),
        ];
        for (metrics, expected) in table {
            assert_eq!(*declared(metrics).metric(), expected, "{metrics}");
        }
        assert_eq!(judges(&specs("use = 'acc_calibrated'")), Ok(Vec::new()));
    }

    #[test]
    fn extraction_and_normalisation_come_before_the_comparison() {
        let value = |metrics: &str, text: &str| {
            let judged = declared(metrics).judge(text, &["la maison".to_owned()]);
            judged.unwrap().value
        };
        let extract = "use = 'exact_match'\nextract = 'A: (.*)'";
        assert_eq!(value(extract, "so, A: la maison"), 1.0);
        assert_eq!(value(extract, "la maison"), 0.0);
        let text = "  La Maison ";
        for (normalize, expected) in [
            ("[]", 0.0),
            ("['trim']", 0.0),
            ("['lower']", 0.0),
            ("['trim', 'lower']", 1.0),
        ] {
            let metrics = format!("use = 'exact_match'\nnormalize = {normalize}");
            assert_eq!(value(&metrics, text), expected, "{normalize}");
        }
        let composed = "use = 'exact_match'\nnormalize = ['nfc']";
        let judged = declared(composed).judge("e\u{301}", &["\u{e9}".to_owned()]);
        assert_eq!(judged.unwrap().value, 1.0);
        // SQuAD's drops articles and punctuation.
        let squad = "use = 'exact_match'\nnormalize = ['squad']";
        let judged = declared(squad).judge("The house!", &["house".to_owned()]);
        assert_eq!(judged.unwrap().value, 1.0);
    }

    #[test]
    fn all_conditions_must_hold() {
        let spec = |rest: &str| specs(&format!("use = 'contains'\n{rest}")).remove(0);
        let texts = |all: &[&str], any: &[&str], none: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
            ContainsTexts {
                all: owned(all),
                any: owned(any),
                none: owned(none),
            }
        };
        let judge = |rest: &str, texts: ContainsTexts, text: &str| {
            let conditions = conditions(&spec(rest), texts).unwrap();
            judge_all(&conditions, text).unwrap()
        };
        let whole = || texts(&["a", "b"], &["x", "y"], &["z"]);
        for (text, expected) in [
            ("a b x", 1.0),
            ("a b y x", 1.0),
            ("a x", 0.0),
            ("a b", 0.0),
            ("a b x z", 0.0),
            ("A b x", 0.0),
        ] {
            let judged = judge("any = ['x']", whole(), text);
            assert_eq!(judged.value, expected, "{text}");
            assert!(!judged.extraction_failed, "{text}");
        }
        let judged = judge("any = ['x']\nignore_case = true", whole(), "A B X");
        assert_eq!(judged.value, 1.0);
        let judged = judge("any = ['x']\nextract = 'is (.*)'", whole(), "nothing");
        assert!(judged.extraction_failed);
        let none = conditions(&spec("any = ['x']"), texts(&[], &[], &[])).unwrap();
        assert!(none.is_empty());
        let empty = conditions(&spec("any = ['x']"), texts(&["  "], &[], &[]));
        assert!(empty.is_err(), "every text contains it");
    }
}
