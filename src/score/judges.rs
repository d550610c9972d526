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
