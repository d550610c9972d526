//! What comes out when two runs are held against each other, and why it may not.

use crate::metric::Unit;
use crate::stats::{self, Difference, Direction, Interval, Verdict};

use super::difference::Refusal;
use super::evidence::EvidenceError;
use super::pairing::Unpaired;

/// What may differ between two runs that are compared all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunsOptions {
    /// Compare answers of different models, tokenizers or arithmetic.
    pub across_models: bool,
    /// Compare on the common rows, however many are not.
    pub common_rows: bool,
}

/// Two runs held against each other, or two variants of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunComparison {
    /// Experiment and id of the run that is judged.
    pub candidate: RunName,
    /// Experiment and id of the run it is held against.
    pub reference: RunName,
    /// The models that are compared.
    pub models: Vec<ModelPair>,
    /// Models that only the candidate has.
    pub new_models: Vec<String>,
    /// Models that only the reference has.
    pub missing_models: Vec<String>,
    /// Variants that only the candidate has; empty for variants of one run.
    pub new_variants: Vec<String>,
    /// Variants that only the reference has; empty for variants of one run.
    pub missing_variants: Vec<String>,
    /// Variants on both sides whose templates differ.
    pub edited_variants: Vec<String>,
    /// Metrics that only the candidate has.
    pub new_metrics: Vec<String>,
    /// Metrics that only the reference has.
    pub missing_metrics: Vec<String>,
    /// Metrics on both sides that are computed differently, so that they are not compared.
    pub redefined_metrics: Vec<Redefined>,
    /// Examples that both sides have with equal fields.
    pub n_common_rows: usize,
    /// All other examples; those without a value stand with each comparison.
    pub unpaired_rows: Vec<Unpaired>,
    /// The metric that is confirmatory.
    pub primary: String,
    /// By model, metric and pair of variants, each in the candidate's order.
    pub comparisons: Vec<PairedComparison>,
    /// Metrics that only describe, in the same order.
    pub described: Vec<Described>,
}

/// A run by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunName {
    /// Its experiment.
    pub experiment: String,
    /// Its id.
    pub run: String,
}

/// A model on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPair {
    /// The candidate's name for it.
    pub candidate: String,
    /// The reference's.
    pub reference: String,
    /// In what the two differ; empty unless [`RunsOptions::across_models`] allowed it.
    pub differences: Vec<ModelDifference>,
}

/// In what two models differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelDifference {
    /// The weights, or what else belongs to the model.
    Weights,
    /// The tokenizer.
    Tokenizer,
    /// The arithmetic, such as another instruction set.
    Numerics,
    /// The version of the arithmetic.
    ScoringVersion,
}

impl ModelDifference {
    /// The words in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Tokenizer => "tokenizer",
            Self::Numerics => "numerics",
            Self::ScoringVersion => "scoring version",
        }
    }
}

/// A metric that is not computed as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redefined {
    /// Its name on both sides.
    pub metric: String,
    /// How the candidate computes it.
    pub candidate: String,
    /// How the reference computes it.
    pub reference: String,
}

/// A model and a variant on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellPair {
    /// The candidate's name for the model.
    pub candidate_model: String,
    /// The variant that is judged.
    pub candidate: String,
    /// The reference's name for the model.
    pub reference_model: String,
    /// The variant it is held against.
    pub reference: String,
}

/// One metric of one variant on one model against its reference, paired by example.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedComparison {
    /// What is compared.
    pub cells: CellPair,
    /// Name of the metric.
    pub metric: String,
    /// How its values are printed.
    pub unit: Unit,
    /// Which way it improves.
    pub direction: Direction,
    /// Its least and greatest value, where both exist.
    pub range: Option<Interval>,
    /// Whether it is the primary metric; all others are exploratory.
    pub is_confirmatory: bool,
    /// The candidate's value on the paired examples.
    pub candidate_value: Option<f64>,
    /// The reference's value on the paired examples.
    pub reference_value: Option<f64>,
    /// The gain, with which bounds and tests are made.
    pub difference: Option<Difference>,
    /// Why there is no difference.
    pub refusal: Option<Refusal>,
    /// After Holm over the variants of this model and metric.
    pub p_adjusted: Option<f64>,
    /// What counts as unchanged, for the primary metric.
    pub margin: Option<f64>,
    /// What it shows.
    pub verdict: Verdict,
    /// Examples with a value on both sides.
    pub n_pairs: usize,
    /// Common examples that take no part, with their cause.
    pub unpaired: Vec<Unpaired>,
    /// The smallest difference that this dataset would have shown 4 times in 5.
    pub smallest_difference: Option<f64>,
    /// Units that would settle a difference of this size 4 times in 5.
    pub n_to_settle: Option<u64>,
    /// How the gains of single examples lie, for means and ratios.
    pub spread_of_gains: Option<Gains>,
    /// The unit that holds over a quarter of the squared deviation.
    pub dominant: Option<Dominant>,
}

/// How the gains of single examples lie; only describes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gains {
    /// The median, in the metric's unit; positive is better.
    pub median: f64,
    /// The share of examples that improved.
    pub share_improved: f64,
    /// The share of examples that got worse.
    pub share_worsened: f64,
}

/// A unit on which a difference rests.
#[derive(Debug, Clone, PartialEq)]
pub struct Dominant {
    /// Id of the example, or name of the cluster.
    pub unit: String,
    /// Its share of the squared deviation of the pseudo-values.
    pub share: f64,
}

/// A descriptive metric on both sides, over the examples they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// What is described.
    pub cells: CellPair,
    /// Name of the metric.
    pub metric: String,
    /// The candidate's value.
    pub candidate_value: Option<f64>,
    /// The reference's.
    pub reference_value: Option<f64>,
    /// The metric to compare by instead.
    pub instead: Option<&'static str>,
}

impl PairedComparison {
    /// The gain of the candidate in the metric's unit; `None` if it cannot be told.
    pub fn gain(&self) -> Option<f64> {
        self.difference.as_ref().map(Difference::value)
    }

    /// Its 95 % interval.
    pub fn interval(&self) -> Option<Interval> {
        self.difference.as_ref()?.interval(stats::CONFIDENCE)
    }

    /// Two-sided, before Holm.
    pub fn p_value(&self) -> Option<f64> {
        self.difference.as_ref()?.p_value()
    }

    /// Units that the difference rests on: examples, or clusters.
    pub fn n_units(&self) -> usize {
        self.difference.as_ref().map_or(0, Difference::n)
    }

    /// How it was judged, or why it could not be.
    pub fn method(&self) -> &'static str {
        match (&self.difference, &self.refusal) {
            (Some(difference), _) => difference.method().name(),
            (None, Some(refusal)) => refusal.method(),
            (None, None) => "no_pairs",
        }
    }
}

/// Why two runs cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompareRunsError {
    /// A side's evidence is not whole.
    #[error("the evidence of run `{run}` does not fit together")]
    Evidence {
        /// The run.
        run: String,
        /// What is wrong.
        source: EvidenceError,
    },
    /// A side is not finished.
    #[error("run `{run}` is not finished")]
    Unfinished {
        /// The run.
        run: String,
    },
    /// The sides share none of something.
    #[error(
        "the runs have no {what} in common: `{}` on one side, `{}` on the other",
        .candidate.join("`, `"), .reference.join("`, `")
    )]
    NothingInCommon {
        /// `model`, `variant`, `metric` or `row`.
        what: &'static str,
        /// The candidate's, or the first few.
        candidate: Vec<String>,
        /// The reference's, or the first few.
        reference: Vec<String>,
    },
    /// A model is not the one it was.
    #[error(
        "model `{model}` is not the one of run `{run}`: it differs in {}", listed(.differences)
    )]
    OtherModel {
        /// The candidate's name for it.
        model: String,
        /// The reference run.
        run: String,
        /// In what.
        differences: Vec<ModelDifference>,
    },
    /// Too much of the dataset is not what it was.
    #[error(
        "the runs differ in {} rows ({n_changed} changed, {n_new} new, {n_missing} missing), such \
         as `{}`; the candidate has {n_rows}",
        .n_changed + .n_new + .n_missing, .examples.join("`, `")
    )]
    OtherRows {
        /// Rows of the candidate.
        n_rows: usize,
        /// Rows with other fields.
        n_changed: usize,
        /// Rows that only the candidate has.
        n_new: usize,
        /// Rows that only the reference has.
        n_missing: usize,
        /// Ids of the first few.
        examples: Vec<String>,
    },
    /// A name is none of the run's variants.
    #[error("run `{run}` has no variant `{variant}`; it has `{}`", .known.join("`, `"))]
    UnknownVariant {
        /// The run.
        run: String,
        /// The name.
        variant: String,
        /// The run's variants.
        known: Vec<String>,
    },
}

impl CompareRunsError {
    /// What to try, if there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Evidence { .. } => {
                Some("run the experiment again: answers are kept, so nothing is computed twice")
            }
            Self::Unfinished { .. } => Some("the same `harness run` resumes it"),
            Self::OtherModel { .. } => Some(
                "`--across-models` compares all the same and says so with the result; else run \
                 both with one model on one kind of machine",
            ),
            Self::OtherRows { .. } => Some(
                "run both on the same rows (`--limit`), compare on those that are equal (`--common-rows`), or \
                 save a new baseline",
            ),
            Self::NothingInCommon { .. } | Self::UnknownVariant { .. } => None,
        }
    }
}

fn listed(differences: &[ModelDifference]) -> String {
    let words: Vec<&str> = differences.iter().map(|it| it.as_str()).collect();
    words.join(", ")
}
