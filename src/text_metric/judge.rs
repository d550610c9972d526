//! One declared metric: how the answer is cut out, normalised and judged.

use super::signature::{self, Preparation};
use super::{
    Definition, Kind, Normalizer, Pattern, ReferenceCount, TextMetric, TextMetricError, chrf,
};

/// A metric as declared under `[[metrics]]`, ready to judge cases.
///
/// A text passes three stages: `extract` cuts the answer out of a generation, the
/// normalisers are applied to the answer, to every reference and to the values of
/// `contains`, and the metric compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextJudge {
    name: String,
    metric: TextMetric,
    extract: Option<Pattern>,
    normalizers: Vec<Normalizer>,
}

/// What a metric says about one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseJudgement {
    /// The value in the metric's unit: a fraction of 1, or points. For a corpus metric
    /// that of the case alone, as sacrebleu's `sentence_bleu` and its siblings.
    pub value: f64,
    /// What is summed over cases for [`TextJudge::corpus`]; empty for other metrics.
    pub statistics: Vec<f64>,
    /// `extract` found nothing, and the empty text was judged in its place.
    pub extraction_failed: bool,
}

impl TextJudge {
    /// Declares a metric; what is `None` takes its default: the metric's own name, no
    /// extraction, and [`TextMetric::default_normalizers`].
    ///
    /// # Errors
    ///
    /// [`TextMetricError::NoValues`] and [`TextMetricError::EmptyValue`] if `contains`
    /// looks for nothing, also if a value is empty only once normalised.
    pub fn new(
        name: Option<String>,
        metric: TextMetric,
        extract: Option<Pattern>,
        normalizers: Option<Vec<Normalizer>>,
    ) -> Result<TextJudge, TextMetricError> {
        let normalizers = normalizers.unwrap_or_else(|| metric.default_normalizers());
        let metric = match metric {
            TextMetric::Contains {
                values: Some(values),
                mode,
                ignore_case,
            } => {
                let values = Some(normalized_values(&values, &normalizers)?);
                TextMetric::Contains {
                    values,
                    mode,
                    ignore_case,
                }
            }
            metric => metric,
        };
        let name = name.unwrap_or_else(|| metric.name().to_owned());
        Ok(TextJudge {
            name,
            metric,
            extract,
            normalizers,
        })
    }

    /// The name under which values are reported; the metric's own unless declared otherwise.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the cases' values: `sentence_` before [`TextJudge::name`] for a corpus
    /// metric, whose value is not the mean of its cases' values; else the name itself.
    pub fn case_name(&self) -> String {
        match self.metric.definition().kind {
            Kind::Corpus => format!("sentence_{}", self.name),
            Kind::Proportion | Kind::Mean => self.name.clone(),
        }
    }

    /// The metric, with the values of `contains` normalised.
    pub fn metric(&self) -> &TextMetric {
        &self.metric
    }

    /// How to read the metric's values.
    pub fn definition(&self) -> Definition {
        self.metric.definition()
    }

    /// Sacrebleu's signature; `None` for a metric that is not sacrebleu's.
    pub fn signature(&self, references: ReferenceCount) -> Option<String> {
        let preparation = Preparation {
            is_extracted: self.extract.is_some(),
            normalizers: &self.normalizers,
        };
        match &self.metric {
            TextMetric::Bleu { tokenize } => {
                Some(signature::bleu(*tokenize, references, preparation))
            }
            TextMetric::Chrf => Some(signature::chrf(
                chrf::Variant::Chrf,
                references,
                preparation,
            )),
            TextMetric::ChrfPlusPlus => Some(signature::chrf(
                chrf::Variant::ChrfPlusPlus,
                references,
                preparation,
            )),
            TextMetric::Ter => Some(signature::ter(references, preparation)),
            _ => None,
        }
    }

    /// Judges `hypothesis`, a generation as stored, against the references of its case.
    ///
    /// # Errors
    ///
    /// [`TextMetricError::NoReferences`] if the metric compares with references and
    /// there are none; see [`TextMetric::needs_references`].
    pub fn judge(
        &self,
        hypothesis: &str,
        references: &[String],
    ) -> Result<CaseJudgement, TextMetricError> {
        if self.metric.needs_references() && references.is_empty() {
            return Err(TextMetricError::NoReferences {
                metric: self.metric.name(),
            });
        }
        let extracted = match &self.extract {
            Some(pattern) => pattern.extract(hypothesis),
            None => Some(hypothesis),
        };
        let normalize = |text: &str| Normalizer::apply_all(&self.normalizers, text);
        let hypothesis = normalize(extracted.unwrap_or_default());
        let references: Vec<String> = references.iter().map(|it| normalize(it)).collect();
        let statistics = self.metric.statistics(&hypothesis, &references);
        let value = self.metric.value(&hypothesis, &references, &statistics);
        Ok(CaseJudgement {
            value,
            statistics,
            extraction_failed: extracted.is_none(),
        })
    }

    /// The metric over cases, from the sum of their [`CaseJudgement::statistics`].
    ///
    /// `None` for a metric that is not defined on a corpus, and for a sum of another
    /// length than [`TextMetric::n_statistics`]. The sum over no case, all zeros,
    /// scores 0.
    pub fn corpus(&self, summed: &[f64]) -> Option<f64> {
        self.metric.corpus(summed)
    }
}

fn normalized_values(
    values: &[String],
    normalizers: &[Normalizer],
) -> Result<Vec<String>, TextMetricError> {
    if values.is_empty() {
        return Err(TextMetricError::NoValues);
    }
    let normalized = values.iter().map(|value| {
        let normalized = Normalizer::apply_all(normalizers, value);
        if normalized.is_empty() {
            return Err(TextMetricError::EmptyValue {
                value: value.clone(),
            });
        }
        Ok(normalized)
    });
    normalized.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BleuTokenizer, ContainsMode, goldens};
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn judge_of(metric: TextMetric) -> TextJudge {
        TextJudge::new(None, metric, None, None).unwrap()
    }

    fn corpus_judges() -> Vec<TextJudge> {
        let tokenizers = BleuTokenizer::ALL_NAMES.map(|name| name.parse().unwrap());
        let bleu = tokenizers.map(|tokenize| TextMetric::Bleu { tokenize });
        let others = [TextMetric::Chrf, TextMetric::ChrfPlusPlus, TextMetric::Ter];
        bleu.into_iter().chain(others).map(judge_of).collect()
    }

    fn reference_judges() -> Vec<TextJudge> {
        let contains = TextMetric::Contains {
            values: None,
            mode: ContainsMode::Any,
            ignore_case: true,
        };
        let others = [
            TextMetric::ExactMatch,
            contains,
            TextMetric::F1,
            TextMetric::RougeL,
        ];
        let mut judges: Vec<TextJudge> = others.into_iter().map(judge_of).collect();
        judges.push(judge_of(TextMetric::EditSimilarity));
        judges.extend(corpus_judges());
        judges
    }

    #[test]
    fn the_answer_is_extracted_from_the_generation_and_not_from_the_references() {
        let extract = Some(Pattern::new(r"Answer: (\w+)").unwrap());
        let judge = TextJudge::new(None, TextMetric::ExactMatch, extract, None).unwrap();
        let found = judge
            .judge("So.\nAnswer: Paris.", &texts(&["Paris"]))
            .unwrap();
        assert_eq!((found.value, found.extraction_failed), (1.0, false));
        let missed = judge.judge("Paris", &texts(&["Paris"])).unwrap();
        assert_eq!((missed.value, missed.extraction_failed), (0.0, true));
    }

    #[test]
    fn both_sides_are_normalized() {
        let judge = judge_of(TextMetric::ExactMatch);
        assert_eq!(
            judge.judge(" Paris\n", &texts(&["Paris "])).unwrap().value,
            1.0
        );
        assert_eq!(judge.judge("paris", &texts(&["Paris"])).unwrap().value, 0.0);
        let normalizers = Some(vec![Normalizer::Squad]);
        let judge = TextJudge::new(None, TextMetric::ExactMatch, None, normalizers).unwrap();
        assert_eq!(
            judge
                .judge("paris.", &texts(&["Lyon", "The Paris"]))
                .unwrap()
                .value,
            1.0
        );
    }

    /// SQuAD v1.1 formula: exact match and F1, with the normaliser listed.
    #[test]
    fn exact_match_and_f1_with_squad_equal_the_squad_script() {
        for (metric, golden) in [
            (TextMetric::ExactMatch, "squad_exact"),
            (TextMetric::F1, "f1"),
        ] {
            let judge = TextJudge::new(None, metric, None, Some(vec![Normalizer::Squad])).unwrap();
            goldens::hold(golden, |case| {
                judge
                    .judge(&case.hypothesis, &case.references)
                    .unwrap()
                    .value
            });
        }
    }

    /// sacrebleu 2.6.0, `BLEU(lowercase=True)`.
    #[test]
    fn lowercased_bleu_equals_sacrebleu() {
        let metric = TextMetric::Bleu {
            tokenize: BleuTokenizer::V13a,
        };
        let judge = TextJudge::new(None, metric, None, Some(vec![Normalizer::Lower])).unwrap();
        goldens::hold_corpora(
            "bleu_lower/13a",
            |case| {
                judge
                    .judge(&case.hypothesis, &case.references)
                    .unwrap()
                    .statistics
            },
            |summed| judge.corpus(summed).unwrap(),
        );
    }

    #[test]
    fn values_that_look_for_nothing_are_refused() {
        let contains = |values: &[&str], normalizers| {
            let values = Some(texts(values));
            let mode = ContainsMode::All;
            let metric = TextMetric::Contains {
                values,
                mode,
                ignore_case: false,
            };
            TextJudge::new(None, metric, None, normalizers).map(|judge| judge.metric().clone())
        };
        assert_eq!(contains(&[], None), Err(TextMetricError::NoValues));
        let empty = |value: &str| TextMetricError::EmptyValue {
            value: value.to_owned(),
        };
        assert_eq!(contains(&["a", " "], None), Err(empty(" ")));
        assert_eq!(
            contains(&["The"], Some(vec![Normalizer::Squad])),
            Err(empty("The"))
        );
        assert!(contains(&["The"], None).is_ok());
    }

    #[test]
    fn a_case_without_references_is_an_error_and_not_a_zero() {
        for judge in reference_judges() {
            let metric = judge.metric().name();
            assert_eq!(
                judge.judge("x", &[]),
                Err(TextMetricError::NoReferences { metric })
            );
        }
        let judge = judge_of(TextMetric::MaxLength { max_chars: 1 });
        assert_eq!(judge.judge("x", &[]).unwrap().value, 1.0);
    }

    #[test]
    fn names_tell_a_corpus_value_from_a_case_value() {
        assert_eq!(judge_of(TextMetric::Chrf).case_name(), "sentence_chrf");
        assert_eq!(judge_of(TextMetric::F1).case_name(), "f1");
        let name = Some("short".to_owned());
        let metric = TextMetric::MaxLength { max_chars: 80 };
        assert_eq!(
            TextJudge::new(name, metric, None, None).unwrap().name(),
            "short"
        );
    }

    #[test]
    fn only_sacrebleus_metrics_carry_a_signature() {
        for judge in reference_judges() {
            let signature = judge.signature(ReferenceCount::of([1, 1]));
            assert_eq!(signature.is_some(), judge.definition().kind == Kind::Corpus);
        }
        let signature = judge_of(TextMetric::Chrf).signature(ReferenceCount::of([1, 2]));
        assert_eq!(
            signature.as_deref(),
            Some("nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0")
        );
    }

    /// Texts with what tokenizers treat specially: digits, marks, entities, white space, scripts.
    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-cA 0-2.,'&;é我“\u{1c}\n-]{0,20}",
            "((the|a|cat|mat|&amp;|3-4|été|我们)[ .]){0,30}",
            ".{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn values_stay_within_the_range(
            hypothesis in any_text(),
            references in prop::collection::vec(any_text(), 1..4),
        ) {
            for judge in reference_judges() {
                let judged = judge.judge(&hypothesis, &references).unwrap();
                let max = judge.definition().range.map_or(f64::INFINITY, |range| range.max);
                let name = judge.name();
                prop_assert!(0.0 <= judged.value && judged.value <= max, "{name} {judged:?}");
                prop_assert!(judged.value.is_finite(), "{name} {judged:?}");
                prop_assert_eq!(judged.statistics.len(), judge.metric().n_statistics());
            }
        }

        /// Written in words of the Latin alphabet that no metric drops.
        #[test]
        fn an_identical_text_scores_the_best_value(
            text in "[b-z]{2,5}( [b-z]{2,5}){3,9}",
            other in any_text(),
        ) {
            for judge in reference_judges() {
                let best = match judge.definition().range {
                    Some(range) => range.max,
                    None => 0.0, // TER: no edit.
                };
                // TER alone divides by the mean length of the references; no edits stay 0.
                let judged = judge.judge(&text, &[other.clone(), text.clone()]).unwrap();
                prop_assert!((judged.value - best).abs() < 1e-9, "{} {judged:?}", judge.name());
            }
        }

        /// chrF and TER score a case and a corpus of it alike; BLEU does from four words on.
        #[test]
        fn a_corpus_of_one_case_scores_as_the_case(
            hypothesis in any_text(),
            reference in any_text(),
        ) {
            for judge in corpus_judges() {
                let judged = judge.judge(&hypothesis, std::slice::from_ref(&reference)).unwrap();
                let corpus = judge.corpus(&judged.statistics).unwrap();
                let is_bleu = matches!(judge.metric(), TextMetric::Bleu { .. });
                let n_words = judged.statistics[0];
                let expected = if is_bleu && n_words < 4.0 { 0.0 } else { judged.value };
                prop_assert_eq!(corpus, expected, "{}", judge.name());
            }
        }

        /// Leaving a case out is a subtraction: for the corpus, doubling every case changes nothing.
        #[test]
        fn statistics_are_additive(
            cases in prop::collection::vec((any_text(), any_text()), 1..6),
        ) {
            for judge in corpus_judges() {
                let mut sum = vec![0.0; judge.metric().n_statistics()];
                let mut all_but_first = sum.clone();
                for (index, (hypothesis, reference)) in cases.iter().enumerate() {
                    let references = std::slice::from_ref(reference);
                    let judged = judge.judge(hypothesis, references).unwrap();
                    for (position, number) in judged.statistics.iter().enumerate() {
                        sum[position] += number;
                        if 0 < index {
                            all_but_first[position] += number;
                        }
                    }
                }
                let first = judge.judge(&cases[0].0, std::slice::from_ref(&cases[0].1)).unwrap();
                let left: Vec<f64> =
                    sum.iter().zip(&first.statistics).map(|(all, one)| all - one).collect();
                prop_assert_eq!(&left, &all_but_first);
                let twice: Vec<f64> = sum.iter().map(|number| 2.0 * number).collect();
                let (once, twice) = (judge.corpus(&sum).unwrap(), judge.corpus(&twice).unwrap());
                // BLEU's smoothing is a fixed pseudo-count, so there doubling moves the score.
                if !matches!(judge.metric(), TextMetric::Bleu { .. }) {
                    prop_assert!((once - twice).abs() < 1e-9, "{} {once} {twice}", judge.name());
                }
            }
        }
    }
}
