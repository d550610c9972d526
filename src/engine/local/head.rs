//! The vocabulary head: hidden rows to logits, only where asked.
//!
//! Rows pass in tiles of [`HEAD_ROWS`], so at most that many rows of logits exist
//! at once. Log-softmax is exact-maximum-first in f32 with its sum in f64.

use rayon::prelude::*;

use super::decoder::Decoder;
use super::{ops, vector};
use crate::engine::EngineError;

/// Rows whose logits exist at the same time.
pub(super) const HEAD_ROWS: usize = 64;

/// What the head says about one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowSummary {
    /// `ln(sum(exp(logits)))`; not finite if some logit is NaN or +inf.
    pub log_sum_exp: f64,
    /// The most likely token; ties go to the lowest id.
    pub argmax: u32,
}

/// Calls `each(row, logits, summary)` for every row of `hidden` (rows, E), in parallel,
/// and returns the results in row order.
pub(crate) fn for_logits<R: Send>(
    decoder: &Decoder,
    hidden: &[f32],
    each: impl Fn(usize, &[f32], RowSummary) -> R + Sync,
) -> Result<Vec<R>, EngineError> {
    let (width, n_vocab) = (decoder.architecture.n_embd, decoder.architecture.n_vocab);
    let mut results = Vec::with_capacity(hidden.len() / width);
    for (tile, hidden) in hidden.chunks(HEAD_ROWS * width).enumerate() {
        let logits = ops::linear(hidden.to_vec(), &decoder.head)?;
        results.par_extend(
            logits
                .par_chunks_exact(n_vocab)
                .enumerate()
                .map(|(i, logits)| {
                    let summary = vector::fast(
                        #[inline(always)]
                        || RowSummary {
                            log_sum_exp: if logits.iter().all(|it| *it < f32::INFINITY) {
                                vector::log_sum_exp(logits)
                            } else {
                                f64::NAN
                            },
                            argmax: argmax(logits),
                        },
                    );
                    each(tile * HEAD_ROWS + i, logits, summary)
                }),
        );
    }
    Ok(results)
}

/// The index of the largest logit, the lowest one among equals.
#[inline(always)]
fn argmax(logits: &[f32]) -> u32 {
    let max = vector::max(logits);
    logits.iter().position(|it| *it == max).unwrap_or(0) as u32
}
