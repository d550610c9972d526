//! A run as read back: plain rows, one struct per table.

use std::path::PathBuf;

use crate::score::Status;
use crate::stats::Verdict;

use super::Manifest;

/// A run with its tables, apart from single tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// Where it lies.
    pub folder: PathBuf,
    /// Everything that is not a table.
    pub manifest: Manifest,
    /// Names of the per-case metrics, in the order of [`StoredCase::metrics`].
    pub case_metrics: Vec<String>,
    /// One row per model, variant, example and repeat.
    pub cases: Vec<StoredCase>,
    /// One row per model, variant, example and choice.
    pub choices: Vec<StoredChoice>,
    /// One row per example.
    pub examples: Vec<StoredExample>,
    /// One row per model, variant and metric.
    pub metrics: Vec<StoredMetric>,
    /// One row per model, metric and pair of variants.
    pub comparisons: Vec<StoredComparison>,
}

/// A row of `cases`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCase {
    /// Name of the model.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// Id of the example.
    pub example_id: String,
    /// Which draw, from 0.
    pub repeat: usize,
    /// Whether it has all its answers.
    pub status: Status,
    /// The prompt as rendered.
    pub prompt: String,
    /// The labelled output; with choices, the right one.
    pub target: Option<String>,
    /// Tokens of the context.
    pub n_context_tokens: usize,
    /// Scored tokens.
    pub n_target_tokens: Option<usize>,
    /// UTF-8 bytes of the target.
    pub n_target_bytes: Option<usize>,
    /// Of the target, in nats; with choices, of the right one.
    pub loglikelihood: Option<f64>,
    /// Whether every scored token was the most likely one.
    pub greedy_match: Option<bool>,
    /// Whether a token straddled the border between prompt and target.
    pub boundary_merge: Option<bool>,
    /// The choice that `acc` predicts, from 0.
    pub predicted_choice: Option<usize>,
    /// The right choice, from 0.
    pub target_choice: Option<usize>,
    /// What the model wrote.
    pub generation: Option<String>,
    /// Why it ended: `eos`, `stop` or `length`.
    pub finish_reason: Option<String>,
    /// Tokens written.
    pub n_generated_tokens: Option<usize>,
    /// The case's own value of every per-case metric.
    pub metrics: Vec<Option<f64>>,
}

/// A row of `choices`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredChoice {
    /// Name of the model.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// Id of the example.
    pub example_id: String,
    /// Its place among the choices, from 0.
    pub choice_index: usize,
    /// Its text.
    pub choice: String,
    /// Whether it is the right one.
    pub is_target: bool,
    /// In nats; may be -inf.
    pub loglikelihood: f64,
    /// Scored tokens.
    pub n_tokens: usize,
    /// Unicode characters of the text.
    pub n_chars: usize,
    /// UTF-8 bytes of the text.
    pub n_bytes: usize,
    /// What the choice is worth without the example, where a metric asks for it.
    pub prior: Option<f64>,
}

/// A row of `examples`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredExample {
    /// Unique in its dataset.
    pub id: String,
    /// Digest of the fields, by which runs pair their examples.
    pub row_digest: String,
    /// The line it started on, from 1.
    pub source_line: usize,
    /// What it belongs to.
    pub cluster: Option<String>,
    /// The dataset's own columns as text.
    pub fields: Vec<(String, Option<String>)>,
}

/// A row of `metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMetric {
    /// Name of the model.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// Name of the metric.
    pub metric: String,
    /// `None` if no case has a value.
    pub value: Option<f64>,
    /// Standard error.
    pub stderr: Option<f64>,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Units that the value rests on.
    pub n: usize,
    /// Examples without a value.
    pub n_failed: usize,
    /// Which way it improves.
    pub higher_is_better: bool,
    /// sacrebleu's signature, where it is one of sacrebleu's.
    pub signature: Option<String>,
}

/// A row of `comparisons`: the gain of `variant_a` over `variant_b`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredComparison {
    /// Name of the model.
    pub model: String,
    /// Name of the metric.
    pub metric: String,
    /// The variant that is judged.
    pub variant_a: String,
    /// The variant it is held against.
    pub variant_b: String,
    /// Positive is better; `None` if it cannot be told.
    pub difference: Option<f64>,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Two-sided, before Holm.
    pub p_value: Option<f64>,
    /// After Holm.
    pub p_adjusted: Option<f64>,
    /// Units that both sides have.
    pub n_pairs: usize,
    /// Examples that only one side has.
    pub n_unpaired: usize,
    /// How it was judged, or why it could not be.
    pub method: String,
    /// What counts as unchanged.
    pub margin: Option<f64>,
    /// What it shows; `None` for an unfinished run.
    pub verdict: Option<Verdict>,
}

/// A row of `tokens`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredToken {
    /// Name of the model.
    pub model: String,
    /// Name of the variant.
    pub variant: String,
    /// Id of the example.
    pub example_id: String,
    /// The choice it belongs to, from 0; `None` without choices.
    pub choice_index: Option<usize>,
    /// Its place among the scored tokens, from 0.
    pub position: usize,
    /// Its id.
    pub token_id: usize,
    /// Its text.
    pub token: String,
    /// In nats; may be -inf.
    pub logprob: f64,
    /// Whether it was the most likely one.
    pub is_argmax: bool,
}
