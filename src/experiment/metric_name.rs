//! The metrics that harness knows: their names, what each needs, direction and range.
//!
//! How a metric is computed is no business of this room; that it exists, what the file must
//! contain for it and which numbers a gate may hold it against are.

use std::fmt;
use std::str::FromStr;

/// A metric by its name in files, tables and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricName {
    /// Mean loglikelihood of the target, in nats.
    Loglikelihood,
    /// Sum of loglikelihoods over the sum of scored tokens, in nats per token.
    LoglikelihoodPerToken,
    /// Sum of loglikelihoods over the sum of the targets' UTF-8 bytes, in nats per byte.
    LoglikelihoodPerByte,
    /// Minus the loglikelihood per byte, in bits.
    BitsPerByte,
    /// exp of minus the loglikelihood per token.
    Perplexity,
    /// Share of targets that greedy decoding would write.
    GreedyMatch,
    /// Share of examples whose target has the largest loglikelihood of the choices.
    Acc,
    /// `acc` by loglikelihood per character.
    AccNorm,
    /// `acc` by loglikelihood per UTF-8 byte.
    AccBytes,
    /// Mean over the choices of the F1 of predicting each.
    MacroF1,
    /// Mean squared distance of the choices' probabilities from the truth, from 0 to 2.
    Brier,
    /// Expected calibration error over 10 bins of equal counts.
    Ece,
    /// Share of the commonest target: what a constant answer scores.
    AccMajority,
    /// `acc` of the choices' loglikelihoods without any prompt.
    AccNoContext,
    /// `acc` by loglikelihood minus that of the choice after an empty context or a premise.
    AccPmi,
    /// `acc` after contextual calibration.
    AccCalibrated,
    /// Share of generations that equal a target.
    ExactMatch,
    /// Share of generations that contain the target or given texts.
    Contains,
    /// Share of generations that match a pattern.
    Regex,
    /// Token F1 as in SQuAD.
    F1,
    /// Corpus BLEU, from 0 to 100.
    Bleu,
    /// Corpus chrF, from 0 to 100.
    Chrf,
    /// Corpus chrF++, from 0 to 100.
    ChrfPlusPlus,
    /// Corpus TER, in percent; may exceed 100.
    Ter,
    /// Mean of each generation's own BLEU.
    SentenceBleu,
    /// Mean of each generation's own chrF.
    SentenceChrf,
    /// ROUGE-L F-measure.
    RougeL,
    /// 1 minus the edit distance over the longer length.
    EditSimilarity,
    /// Share of generations within a length.
    MaxLength,
    /// Share of generations that are JSON.
    IsJson,
}

/// What the experiment file must have for a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requires {
    /// `[dataset].target`.
    Target,
    /// `[dataset].choices`, and with it the target.
    Choices,
    /// `[generation]`.
    Generation,
    /// `[generation]` and `[dataset].target`.
    GenerationAndTarget,
}

impl MetricName {
    /// Every metric, in the order in which messages list them.
    pub const ALL: [Self; 30] = [
        Self::Loglikelihood,
        Self::LoglikelihoodPerToken,
        Self::LoglikelihoodPerByte,
        Self::BitsPerByte,
        Self::Perplexity,
        Self::GreedyMatch,
        Self::Acc,
        Self::AccNorm,
        Self::AccBytes,
        Self::MacroF1,
        Self::Brier,
        Self::Ece,
        Self::AccMajority,
        Self::AccNoContext,
        Self::AccPmi,
        Self::AccCalibrated,
        Self::ExactMatch,
        Self::Contains,
        Self::Regex,
        Self::F1,
        Self::Bleu,
        Self::Chrf,
        Self::ChrfPlusPlus,
        Self::Ter,
        Self::SentenceBleu,
        Self::SentenceChrf,
        Self::RougeL,
        Self::EditSimilarity,
        Self::MaxLength,
        Self::IsJson,
    ];

    /// The name as written in files and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loglikelihood => "loglikelihood",
            Self::LoglikelihoodPerToken => "loglikelihood_per_token",
            Self::LoglikelihoodPerByte => "loglikelihood_per_byte",
            Self::BitsPerByte => "bits_per_byte",
            Self::Perplexity => "perplexity",
            Self::GreedyMatch => "greedy_match",
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::MacroF1 => "macro_f1",
            Self::Brier => "brier",
            Self::Ece => "ece",
            Self::AccMajority => "acc_majority",
            Self::AccNoContext => "acc_no_context",
            Self::AccPmi => "acc_pmi",
            Self::AccCalibrated => "acc_calibrated",
            Self::ExactMatch => "exact_match",
            Self::Contains => "contains",
            Self::Regex => "regex",
            Self::F1 => "f1",
            Self::Bleu => "bleu",
            Self::Chrf => "chrf",
            Self::ChrfPlusPlus => "chrf++",
            Self::Ter => "ter",
            Self::SentenceBleu => "sentence_bleu",
            Self::SentenceChrf => "sentence_chrf",
            Self::RougeL => "rouge_l",
            Self::EditSimilarity => "edit_similarity",
            Self::MaxLength => "max_length",
            Self::IsJson => "is_json",
        }
    }

    /// What the file must have for it. `contains` needs a target only if it names no text;
    /// see [`super::MetricSpec::requires`].
    pub const fn requires(self) -> Requires {
        match self {
            Self::Loglikelihood
            | Self::LoglikelihoodPerToken
            | Self::LoglikelihoodPerByte
            | Self::BitsPerByte
            | Self::Perplexity
            | Self::GreedyMatch => Requires::Target,
            Self::Acc
            | Self::AccNorm
            | Self::AccBytes
            | Self::MacroF1
            | Self::Brier
            | Self::Ece
            | Self::AccMajority
            | Self::AccNoContext
            | Self::AccPmi
            | Self::AccCalibrated => Requires::Choices,
            Self::Regex | Self::MaxLength | Self::IsJson => Requires::Generation,
            Self::ExactMatch
            | Self::Contains
            | Self::F1
            | Self::Bleu
            | Self::Chrf
            | Self::ChrfPlusPlus
            | Self::Ter
            | Self::SentenceBleu
            | Self::SentenceChrf
            | Self::RougeL
            | Self::EditSimilarity => Requires::GenerationAndTarget,
        }
    }

    /// Whether it is computed wherever the file has what it needs; the others must stand in
    /// `[[metrics]]`.
    pub const fn is_automatic(self) -> bool {
        match self.requires() {
            Requires::Target => true,
            Requires::Choices => !matches!(self, Self::AccPmi | Self::AccCalibrated),
            Requires::Generation | Requires::GenerationAndTarget => false,
        }
    }

    /// Whether it judges the text of a generation.
    pub const fn is_of_generation(self) -> bool {
        matches!(
            self.requires(),
            Requires::Generation | Requires::GenerationAndTarget
        )
    }

    /// Whether it is one of those whose numbers equal sacrebleu's.
    pub const fn is_sacrebleu(self) -> bool {
        matches!(
            self,
            Self::Bleu
                | Self::Chrf
                | Self::ChrfPlusPlus
                | Self::Ter
                | Self::SentenceBleu
                | Self::SentenceChrf
        )
    }

    /// Whether it only describes a run: it has no interval, and ranks and gates nothing.
    pub const fn is_descriptive(self) -> bool {
        matches!(
            self,
            Self::Ece | Self::Perplexity | Self::AccMajority | Self::AccNoContext
        )
    }

    /// For a descriptive metric, the one to rank or gate by.
    pub const fn instead(self) -> Option<Self> {
        match self {
            Self::Perplexity => Some(Self::LoglikelihoodPerToken),
            Self::Ece => Some(Self::Brier),
            Self::AccMajority | Self::AccNoContext => Some(Self::Acc),
            _ => None,
        }
    }

    /// Whether a larger value is better.
    pub const fn is_higher_better(self) -> bool {
        !matches!(
            self,
            Self::BitsPerByte | Self::Perplexity | Self::Brier | Self::Ece | Self::Ter
        )
    }

    /// The least and the largest value it can take; infinite where there is none.
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::Loglikelihood | Self::LoglikelihoodPerToken | Self::LoglikelihoodPerByte => {
                (f64::NEG_INFINITY, 0.0)
            }
            Self::BitsPerByte | Self::Ter => (0.0, f64::INFINITY),
            Self::Perplexity => (1.0, f64::INFINITY),
            Self::Brier => (0.0, 2.0),
            Self::Bleu
            | Self::Chrf
            | Self::ChrfPlusPlus
            | Self::SentenceBleu
            | Self::SentenceChrf => (0.0, 100.0),
            _ => (0.0, 1.0),
        }
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a word is not a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no metric `{got}`")]
pub struct UnknownMetric {
    /// What was written.
    pub got: String,
}

impl FromStr for MetricName {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let found = Self::ALL.into_iter().find(|metric| metric.as_str() == text);
        found.ok_or_else(|| UnknownMetric {
            got: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_parses_from_its_own_name() {
        for metric in MetricName::ALL {
            assert_eq!(metric.as_str().parse(), Ok(metric));
        }
        assert_eq!(
            "Acc".parse::<MetricName>().unwrap_err().to_string(),
            "there is no metric `Acc`"
        );
    }

    /// The list of design: only these are computed without being asked for.
    #[test]
    fn text_metrics_and_corrected_accuracies_are_declared() {
        let automatic: Vec<&str> = MetricName::ALL
            .into_iter()
            .filter(|it| it.is_automatic())
            .map(MetricName::as_str)
            .collect();
        let expected = [
            "loglikelihood",
            "loglikelihood_per_token",
            "loglikelihood_per_byte",
            "bits_per_byte",
            "perplexity",
            "greedy_match",
            "acc",
            "acc_norm",
            "acc_bytes",
            "macro_f1",
            "brier",
            "ece",
            "acc_majority",
            "acc_no_context",
        ];
        assert_eq!(automatic, expected);
    }

    #[test]
    fn a_descriptive_metric_names_one_to_use_instead() {
        for metric in MetricName::ALL {
            assert_eq!(
                metric.is_descriptive(),
                metric.instead().is_some(),
                "{metric}"
            );
            assert!(
                metric.instead().is_none_or(|it| !it.is_descriptive()),
                "{metric}"
            );
        }
    }
}
