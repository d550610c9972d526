//! Where a metric's values come from, and what kind of number they make.

use std::fmt;
use std::str::FromStr;

use crate::experiment::{MetricName, Requires};
use crate::text_metric::{TextJudge, TextMetric};

/// What kind of number a metric is over many examples; it decides interval and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The share of examples for which something holds.
    Proportion,
    /// The mean of the examples' own numbers.
    Mean,
    /// One sum over another.
    Ratio,
    /// A function of the examples' summed statistics.
    Corpus,
}

/// Where a metric's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The likelihood of the target.
    Likelihood(MetricName),
    /// The likelihoods of all choices.
    Choices {
        /// Which of the metrics of choices.
        name: MetricName,
        /// Choices of every example, where they are the same; else 0.
        n_choices: usize,
    },
    /// What the declared text metric at `index` says of a case ...
    Judgement {
        /// Its place among the declared text metrics.
        index: usize,
        /// Whether it is one yes or no per example.
        is_proportion: bool,
    },
    /// ... or its statistics, summed over the corpus.
    Corpus {
        /// Its place among the declared text metrics.
        index: usize,
        /// How sums become a value.
        corpus: CorpusMetric,
    },
}

/// The text metrics that are defined on a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorpusMetric {
    /// BLEU.
    Bleu,
    /// chrF.
    Chrf,
    /// chrF++.
    ChrfPlusPlus,
    /// TER.
    Ter,
}

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no source of a metric's values")]
pub struct UnknownSource {
    /// The text.
    pub text: String,
}

impl Source {
    /// The kind of number that comes out.
    pub fn kind(self) -> Kind {
        match self {
            Self::Likelihood(MetricName::Loglikelihood)
            | Self::Choices {
                name: MetricName::Brier,
                ..
            }
            | Self::Judgement {
                is_proportion: false,
                ..
            } => Kind::Mean,
            Self::Choices {
                name: MetricName::MacroF1 | MetricName::Ece | MetricName::AccMajority,
                ..
            }
            | Self::Corpus { .. } => Kind::Corpus,
            Self::Likelihood(MetricName::GreedyMatch)
            | Self::Choices { .. }
            | Self::Judgement { .. } => Kind::Proportion,
            Self::Likelihood(_) => Kind::Ratio,
        }
    }

    /// How many statistics an example has; 0 unless the metric is defined on a corpus.
    pub fn n_statistics(self) -> usize {
        match self {
            Self::Choices {
                name: MetricName::MacroF1,
                n_choices,
            } => 3 * n_choices,
            Self::Choices {
                name: MetricName::AccMajority,
                n_choices,
            } => n_choices,
            Self::Choices {
                name: MetricName::Ece,
                ..
            } => 2,
            Self::Corpus { corpus, .. } => corpus.text_metric().n_statistics(),
            _ => 0,
        }
    }

    /// The same source wherever the metric stands in its file, and however often a case is
    /// repeated: what must be equal for two values to mean the same.
    pub(super) fn essence(self) -> Self {
        match self {
            Self::Judgement { .. } => Self::Judgement {
                index: 0,
                is_proportion: false,
            },
            Self::Corpus { corpus, .. } => Self::Corpus { index: 0, corpus },
            other => other,
        }
    }
}

impl CorpusMetric {
    const ALL: [Self; 4] = [Self::Bleu, Self::Chrf, Self::ChrfPlusPlus, Self::Ter];

    /// That of a declared metric, if it is defined on a corpus.
    pub fn of(metric: &TextMetric) -> Option<Self> {
        match metric {
            TextMetric::Bleu { .. } => Some(Self::Bleu),
            TextMetric::Chrf => Some(Self::Chrf),
            TextMetric::ChrfPlusPlus => Some(Self::ChrfPlusPlus),
            TextMetric::Ter => Some(Self::Ter),
            _ => None,
        }
    }

    /// A judge that knows how sums become a value. How texts are cut into words decides only
    /// which statistics a case has.
    pub(super) fn judge(self) -> TextJudge {
        TextJudge::new(None, self.text_metric(), None, None)
            .expect("only texts to look for can be refused")
    }

    fn text_metric(self) -> TextMetric {
        match self {
            Self::Bleu => TextMetric::Bleu {
                tokenize: crate::text_metric::BleuTokenizer::V13a,
            },
            Self::Chrf => TextMetric::Chrf,
            Self::ChrfPlusPlus => TextMetric::ChrfPlusPlus,
            Self::Ter => TextMetric::Ter,
        }
    }
}

/// As it stands in files: `likelihood acc`, `choices macro_f1 3`, `judgement 0 proportion`,
/// `judgement 0 mean`, `statistics 1 chrf++`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Likelihood(name) => write!(f, "likelihood {name}"),
            Self::Choices { name, n_choices } => write!(f, "choices {name} {n_choices}"),
            Self::Judgement {
                index,
                is_proportion,
            } => {
                let kind = if *is_proportion { "proportion" } else { "mean" };
                write!(f, "judgement {index} {kind}")
            }
            Self::Corpus { index, corpus } => {
                write!(f, "statistics {index} {}", corpus.text_metric().name())
            }
        }
    }
}

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split(' ').collect();
        parsed(&words).ok_or_else(|| UnknownSource {
            text: text.to_owned(),
        })
    }
}

fn parsed(words: &[&str]) -> Option<Source> {
    let metric = |name: &str, needed: Requires| {
        let name: MetricName = name.parse().ok()?;
        (name.requires() == needed).then_some(name)
    };
    match *words {
        ["likelihood", name] => metric(name, Requires::Target).map(Source::Likelihood),
        ["choices", name, n_choices] => Some(Source::Choices {
            name: metric(name, Requires::Choices)?,
            n_choices: n_choices.parse().ok()?,
        }),
        ["judgement", index, kind] => Some(Source::Judgement {
            index: index.parse().ok()?,
            is_proportion: match kind {
                "proportion" => true,
                "mean" => false,
                _ => return None,
            },
        }),
        ["statistics", index, name] => Some(Source::Corpus {
            index: index.parse().ok()?,
            corpus: CorpusMetric::ALL
                .into_iter()
                .find(|it| it.text_metric().name() == name)?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_written() {
        let likelihood = MetricName::ALL
            .into_iter()
            .filter(|it| it.requires() == Requires::Target)
            .map(Source::Likelihood);
        let others = [
            Source::Choices {
                name: MetricName::MacroF1,
                n_choices: 3,
            },
            Source::Judgement {
                index: 2,
                is_proportion: true,
            },
            Source::Judgement {
                index: 0,
                is_proportion: false,
            },
        ];
        let corpus = CorpusMetric::ALL.map(|corpus| Source::Corpus { index: 1, corpus });
        for source in likelihood.chain(others).chain(corpus) {
            assert_eq!(source.to_string().parse(), Ok(source), "{source}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "likelihood",
            "likelihood acc",
            "likelihood exact_match",
            "choices exact_match 2",
            "choices acc -1",
            "judgement 0",
            "judgement 0 median",
            "statistics 0 rouge_l",
            "likelihood loglikelihood ",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }

    /// As many as the judges of the same metrics give.
    #[test]
    fn statistics_are_as_many_as_the_judge_gives() {
        for corpus in CorpusMetric::ALL {
            let judged = corpus.judge().judge("a b", &["a c".to_owned()]).unwrap();
            let source = Source::Corpus { index: 0, corpus };
            assert_eq!(judged.statistics.len(), source.n_statistics(), "{source}");
            assert_eq!(CorpusMetric::of(corpus.judge().metric()), Some(corpus));
        }
        assert_eq!(CorpusMetric::of(&TextMetric::RougeL), None);
        // Hits, predictions and targets of each class; targets alone; confidence and truth.
        for (name, n_statistics) in [
            (MetricName::MacroF1, 12),
            (MetricName::AccMajority, 4),
            (MetricName::Ece, 2),
            (MetricName::Acc, 0),
        ] {
            let n_choices = 4;
            let source = Source::Choices { name, n_choices };
            assert_eq!(source.n_statistics(), n_statistics, "{source}");
        }
    }
}
