//! Judges one text against others: exact match, F1, BLEU, chrF and their kin.
//!
//! A [`TextMetric`] says what is measured, a [`TextJudge`] is one declared metric:
//! how the answer is cut out of a generation, how texts are normalised, and the
//! metric itself. [`TextJudge::judge`] gives one case its value. Four metrics are
//! defined on a corpus and not as a mean of cases: BLEU, chrF, chrF++ and TER.
//! Their cases also carry *statistics*, numbers that are added over cases and from
//! which [`TextJudge::corpus`] computes the metric; leaving a case out is a
//! subtraction.
//!
//! Numbers equal those of the reference implementations, held by golden values in
//! `tests/fixtures/text_metric`: sacrebleu for the four corpus metrics, rouge-score
//! for ROUGE-L, the SQuAD v1.1 script for F1, rapidfuzz for edit similarity. All of
//! them were written for other purposes, and their traps are kept: ROUGE-L sees
//! only the letters a to z and digits, and SQuAD's F1 of two empty texts is 0.
//!
//! Pure functions on strings. Knows no model, no case and no file.

mod bleu;
mod bleu_tokenizer;
mod chrf;
mod contains;
mod definition;
mod error;
#[cfg(test)]
mod goldens;
mod judge;
mod metric;
mod ngram;
mod normalizer;
mod pattern;
mod python_text;
mod rouge;
mod signature;
mod squad;
mod ter;

pub use bleu_tokenizer::BleuTokenizer;
pub use contains::ContainsMode;
pub use definition::{Definition, Direction, Kind, Range, Unit};
pub use error::TextMetricError;
pub use judge::{CaseJudgement, TextJudge};
pub use metric::TextMetric;
pub use normalizer::Normalizer;
pub use pattern::Pattern;
pub use signature::{ReferenceCount, SACREBLEU_VERSION};
