//! The text metrics: what each measures, and on which scale.

use super::bleu::{self, Orders};
use super::chrf::{self, Variant};
use super::{
    BleuTokenizer, ContainsMode, Definition, Direction, Kind, Normalizer, Pattern, Range, Unit,
    contains, rouge, squad, ter,
};

/// A text metric with its parameters.
///
/// With several references, the best one counts, save for BLEU, which pools the
/// n-grams of all, chrF, which takes the statistics of the best, and TER, which takes
/// the fewest edits and the mean length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextMetric {
    /// 1 if the text equals a reference, character by character.
    ExactMatch,
    /// 1 if the text contains the values.
    Contains {
        /// What to look for; absent, the references.
        values: Option<Vec<String>>,
        /// How many of them must occur.
        mode: ContainsMode,
        /// Whether capital and small letters are the same.
        ignore_case: bool,
    },
    /// 1 if the pattern matches somewhere in the text.
    Regex {
        /// The pattern; `^` and `$` tie it to the ends.
        pattern: Pattern,
    },
    /// F1 over words as in SQuAD v1.1. It always compares texts normalised as by
    /// [`Normalizer::Squad`], listed or not: without that it would be another metric.
    F1,
    /// BLEU, as sacrebleu.
    Bleu {
        /// How texts are cut into words.
        tokenize: BleuTokenizer,
    },
    /// chrF (chrF2), as sacrebleu.
    Chrf,
    /// chrF++ (chrF2++), as sacrebleu with word order 2.
    ChrfPlusPlus,
    /// Translation edit rate, as sacrebleu; the lower the better.
    Ter,
    /// ROUGE-L's F-measure, as rouge-score without stemming. Words are runs of a to z
    /// and digits: texts in other scripts score 0.
    RougeL,
    /// 1 - Levenshtein distance / length of the longer text, in characters (Unicode
    /// scalar values); two empty texts are equal, 1.
    EditSimilarity,
    /// 1 if the text has at most so many characters.
    MaxLength {
        /// The largest length that passes, in characters (Unicode scalar values).
        max_chars: usize,
    },
    /// 1 if the whole text is one JSON value (RFC 8259); a bare number or string is one.
    IsJson,
}

impl TextMetric {
    /// The names of all text metrics, in the order of the variants.
    pub const ALL_NAMES: [&str; 12] = [
        "exact_match",
        "contains",
        "regex",
        "f1",
        "bleu",
        "chrf",
        "chrf++",
        "ter",
        "rouge_l",
        "edit_similarity",
        "max_length",
        "is_json",
    ];

    /// The name as written after `use`.
    pub fn name(&self) -> &'static str {
        match self {
            TextMetric::ExactMatch => "exact_match",
            TextMetric::Contains { .. } => "contains",
            TextMetric::Regex { .. } => "regex",
            TextMetric::F1 => "f1",
            TextMetric::Bleu { .. } => "bleu",
            TextMetric::Chrf => "chrf",
            TextMetric::ChrfPlusPlus => "chrf++",
            TextMetric::Ter => "ter",
            TextMetric::RougeL => "rouge_l",
            TextMetric::EditSimilarity => "edit_similarity",
            TextMetric::MaxLength { .. } => "max_length",
            TextMetric::IsJson => "is_json",
        }
    }

    /// How to read the metric's values.
    pub fn definition(&self) -> Definition {
        let kind = match self {
            TextMetric::ExactMatch
            | TextMetric::Contains { .. }
            | TextMetric::Regex { .. }
            | TextMetric::MaxLength { .. }
            | TextMetric::IsJson => Kind::Proportion,
            TextMetric::F1 | TextMetric::RougeL | TextMetric::EditSimilarity => Kind::Mean,
            TextMetric::Bleu { .. }
            | TextMetric::Chrf
            | TextMetric::ChrfPlusPlus
            | TextMetric::Ter => Kind::Corpus,
        };
        let (unit, max) = match kind {
            Kind::Corpus => (Unit::Points, 100.0),
            Kind::Proportion | Kind::Mean => (Unit::Percent, 1.0),
        };
        let (direction, range) = match self {
            TextMetric::Ter => (Direction::LowerIsBetter, None),
            _ => (Direction::HigherIsBetter, Some(Range { min: 0.0, max })),
        };
        Definition {
            name: self.name(),
            kind,
            direction,
            unit,
            range,
        }
    }

    /// Whether a case needs at least one reference to be judged.
    pub fn needs_references(&self) -> bool {
        !matches!(
            self,
            TextMetric::Regex { .. }
                | TextMetric::MaxLength { .. }
                | TextMetric::IsJson
                | TextMetric::Contains {
                    values: Some(_),
                    ..
                }
        )
    }

    /// How many statistics a case has; 0 unless the metric is defined on a corpus.
    pub fn n_statistics(&self) -> usize {
        match self {
            TextMetric::Bleu { .. } => bleu::N_STATISTICS,
            TextMetric::Chrf => Variant::Chrf.n_statistics(),
            TextMetric::ChrfPlusPlus => Variant::ChrfPlusPlus.n_statistics(),
            TextMetric::Ter => ter::N_STATISTICS,
            _ => 0,
        }
    }

    /// What is done to texts unless the experiment says otherwise: white space is
    /// trimmed, but sacrebleu's metrics see the text as it is.
    pub fn default_normalizers(&self) -> Vec<Normalizer> {
        match self.definition().kind {
            Kind::Corpus => vec![],
            Kind::Proportion | Kind::Mean => vec![Normalizer::Trim],
        }
    }

    /// A case's statistics; empty unless the metric is defined on a corpus.
    pub(super) fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        match self {
            TextMetric::Bleu { tokenize } => bleu::statistics(*tokenize, hypothesis, references),
            TextMetric::Chrf => chrf::statistics(Variant::Chrf, hypothesis, references),
            TextMetric::ChrfPlusPlus => {
                chrf::statistics(Variant::ChrfPlusPlus, hypothesis, references)
            }
            TextMetric::Ter => ter::statistics(hypothesis, references),
            _ => vec![],
        }
    }

    /// The metric over the cases whose statistics are summed; `None` unless there are
    /// [`TextMetric::n_statistics`] of them and the metric is defined on a corpus.
    pub(super) fn corpus(&self, summed: &[f64]) -> Option<f64> {
        if summed.len() != self.n_statistics() {
            return None;
        }
        match self {
            TextMetric::Bleu { .. } => Some(bleu::score(summed, Orders::All)),
            TextMetric::Chrf | TextMetric::ChrfPlusPlus => Some(chrf::score(summed)),
            TextMetric::Ter => Some(ter::score(summed)),
            _ => None,
        }
    }

    /// A case's value; `statistics` are those of the case.
    pub(super) fn value(&self, hypothesis: &str, references: &[String], statistics: &[f64]) -> f64 {
        let best = |judge: &dyn Fn(&str) -> f64| {
            references
                .iter()
                .map(|reference| judge(reference))
                .fold(0.0, f64::max)
        };
        match self {
            TextMetric::ExactMatch => best(&|reference| one_if(hypothesis == reference)),
            TextMetric::Contains {
                values,
                mode,
                ignore_case,
            } => {
                let values = values.as_deref().unwrap_or(references);
                one_if(if *ignore_case {
                    let values: Vec<String> = values.iter().map(|it| it.to_lowercase()).collect();
                    contains::holds(&hypothesis.to_lowercase(), &values, *mode)
                } else {
                    contains::holds(hypothesis, values, *mode)
                })
            }
            TextMetric::Regex { pattern } => one_if(pattern.is_match(hypothesis)),
            TextMetric::F1 => best(&|reference| squad::f1(hypothesis, reference)),
            TextMetric::Bleu { .. } => bleu::score(statistics, Orders::Effective),
            TextMetric::Chrf | TextMetric::ChrfPlusPlus => chrf::score(statistics),
            TextMetric::Ter => ter::score(statistics),
            TextMetric::RougeL => best(&|reference| rouge::rouge_l(hypothesis, reference)),
            TextMetric::EditSimilarity => {
                best(&|reference| strsim::normalized_levenshtein(hypothesis, reference))
            }
            TextMetric::MaxLength { max_chars } => one_if(hypothesis.chars().count() <= *max_chars),
            TextMetric::IsJson => {
                one_if(serde_json::from_str::<serde::de::IgnoredAny>(hypothesis).is_ok())
            }
        }
    }
}

fn one_if(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::*;

    /// One metric of each variant, in the order of [`TextMetric::ALL_NAMES`].
    fn one_of_each() -> Vec<TextMetric> {
        vec![
            TextMetric::ExactMatch,
            TextMetric::Contains {
                values: None,
                mode: ContainsMode::Any,
                ignore_case: false,
            },
            TextMetric::Regex {
                pattern: Pattern::new("x").unwrap(),
            },
            TextMetric::F1,
            TextMetric::Bleu {
                tokenize: BleuTokenizer::V13a,
            },
            TextMetric::Chrf,
            TextMetric::ChrfPlusPlus,
            TextMetric::Ter,
            TextMetric::RougeL,
            TextMetric::EditSimilarity,
            TextMetric::MaxLength { max_chars: 5 },
            TextMetric::IsJson,
        ]
    }

    #[test]
    fn all_names_are_listed_once_in_order() {
        let names: Vec<&str> = one_of_each().iter().map(TextMetric::name).collect();
        assert_eq!(names, TextMetric::ALL_NAMES);
    }

    /// The table of kinds in the design, and sacrebleu's scale of 100 points.
    #[test]
    fn a_definition_says_how_to_read_the_metric() {
        for metric in one_of_each() {
            let definition = metric.definition();
            let is_corpus = definition.kind == Kind::Corpus;
            assert_eq!(is_corpus, 0 < metric.n_statistics(), "{}", definition.name);
            assert_eq!(
                is_corpus,
                definition.unit == Unit::Points,
                "{}",
                definition.name
            );
            let is_ter = definition.name == "ter";
            assert_eq!(is_ter, definition.direction == Direction::LowerIsBetter);
            assert_eq!(is_ter, definition.range.is_none());
        }
        let kind = |metric: TextMetric| metric.definition().kind;
        assert_eq!(kind(TextMetric::ExactMatch), Kind::Proportion);
        assert_eq!(kind(TextMetric::F1), Kind::Mean);
    }

    /// rapidfuzz 3.14.6, `distance.Levenshtein.normalized_similarity`.
    #[test]
    fn edit_similarity_equals_rapidfuzz() {
        goldens::hold("edit_similarity", |case| {
            TextMetric::EditSimilarity.value(&case.hypothesis, &case.references, &[])
        });
    }

    /// RFC 8259 by hand: one value, nothing after it, no trailing comma, no `NaN`.
    #[test]
    fn json_is_what_rfc_8259_says() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let table = [
            (r#" {"a": [1, 2.5e3, "\u00e9", null]} "#, 1.0),
            ("42", 1.0),
            (deep.as_str(), 1.0),
            ("", 0.0),
            ("{} {}", 0.0),
            ("[1,]", 0.0),
            ("NaN", 0.0),
            ("{'a': 1}", 0.0),
            ("```json\n{}\n```", 0.0),
        ];
        for (text, expected) in table {
            assert_eq!(
                TextMetric::IsJson.value(text, &[], &[]),
                expected,
                "{text:.40}"
            );
        }
    }

    #[test]
    fn a_pattern_is_looked_for_anywhere() {
        let pattern = Pattern::new("[0-9]+ tons").unwrap();
        let metric = TextMetric::Regex { pattern };
        assert_eq!(metric.value("about 12 tons of it", &[], &[]), 1.0);
        assert_eq!(metric.value("about twelve tons", &[], &[]), 0.0);
    }

    /// "été" is 3 characters in 5 bytes.
    #[test]
    fn length_counts_characters() {
        let max = |max_chars| TextMetric::MaxLength { max_chars }.value("été", &[], &[]);
        assert_eq!((max(3), max(2)), (1.0, 0.0));
    }

    #[test]
    fn contains_looks_for_its_values_else_the_references() {
        let references = ["Rome".to_owned(), "Paris".to_owned()];
        let value = |values: Option<&[&str]>, ignore_case| {
            let values = values.map(|it| it.iter().map(ToString::to_string).collect());
            TextMetric::Contains {
                values,
                mode: ContainsMode::Any,
                ignore_case,
            }
            .value("It is Paris.", &references, &[])
        };
        assert_eq!(value(None, false), 1.0);
        assert_eq!(value(Some(&["Lyon"]), false), 0.0);
        assert_eq!(value(Some(&["paris"]), false), 0.0);
        assert_eq!(value(Some(&["paris"]), true), 1.0);
    }
}
