//! The vocabulary head: hidden rows to what is asked of their logits.
//!
//! [`scan`] goes through the vocabulary in blocks of [`BLOCK_PANELS`] panels and keeps
//! of each only its maximum, its sum of exponentials and the picked logits, so that
//! rows x vocabulary never exists. [`for_logits`] makes whole rows of logits, a few at a
//! time, for samplers that read them. Both see the same logits, and both combine the
//! same blocks in the same order: the blocks are part of the definition of a
//! log-sum-exp here, f32 inside a block and f64 across blocks.

use rayon::prelude::*;

use super::arithmetic::{Arithmetic, Fallible};
use super::decoder::Decoder;
use super::kernel::{self, Mode, PANEL, Panels, Rows};
use super::matrix::Matrix;
use super::vector;

/// Rows whose logits exist at the same time in [`for_logits`].
pub(super) const HEAD_ROWS: usize = 32;

/// Rows that pass one block of the vocabulary together in [`scan`].
const SCAN_ROWS: usize = 96;

/// Panels of a block.
const BLOCK_PANELS: usize = 8;

/// Columns of a block.
pub(super) const BLOCK: usize = BLOCK_PANELS * PANEL;

/// What the head says about one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RowSummary {
    /// `ln(sum(exp(logits)))`; not finite if some logit is NaN or +inf, or none is above -inf.
    pub log_sum_exp: f64,
    /// The most likely token; ties go to the lowest id.
    pub argmax: u32,
}

/// A logit to be read: of which row, and of which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pick {
    pub row: usize,
    pub token: u32,
}

/// What a block adds to a row's summary.
#[derive(Debug, Clone, Copy)]
struct BlockSummary {
    max: f32,
    /// `sum(exp(logit - max))`
    sum: f32,
    argmax: u32,
}

/// The summary of every row of `hidden` (rows, E), and the logit of every pick.
pub(crate) fn scan(head: &Matrix, hidden: &[f32], picks: &[Pick]) -> (Vec<RowSummary>, Vec<f32>) {
    let (width, _) = head.shape();
    let mut order: Vec<usize> = (0..picks.len()).collect();
    order.sort_unstable_by_key(|i| (picks[*i].row / SCAN_ROWS, picks[*i].token, picks[*i].row));
    let mut order = order.as_slice();
    let mut summaries = Vec::with_capacity(hidden.len() / width);
    let mut logits = vec![0.0; picks.len()];
    for (tile, hidden) in hidden.chunks(SCAN_ROWS * width).enumerate() {
        let n = order.partition_point(|i| picks[*i].row / SCAN_ROWS <= tile);
        let (here, rest) = order.split_at(n);
        order = rest;
        let blocks = scan_tile(head, hidden, |block| {
            let tokens = block * BLOCK..(block + 1) * BLOCK;
            let from = here.partition_point(|i| (picks[*i].token as usize) < tokens.start);
            let to = here.partition_point(|i| (picks[*i].token as usize) < tokens.end);
            here[from..to].iter().map(move |i| {
                let pick = picks[*i];
                (
                    *i,
                    pick.row - tile * SCAN_ROWS,
                    pick.token as usize - tokens.start,
                )
            })
        });
        for (_, picked) in &blocks {
            for (i, logit) in picked {
                logits[*i] = *logit;
            }
        }
        for row in 0..hidden.len() / width {
            let of_row = blocks.iter().map(|(summaries, _)| summaries[row]);
            summaries.push(RowSummary::combine(of_row));
        }
    }
    (summaries, logits)
}

/// One block's summaries of a few rows, and the picks read from it with their logits.
type Block = (Vec<BlockSummary>, Vec<(usize, f32)>);

/// Every block of the vocabulary, in order.
fn scan_tile<P: Iterator<Item = (usize, usize, usize)>>(
    head: &Matrix,
    hidden: &[f32],
    picks_of: impl Fn(usize) -> P + Sync,
) -> Vec<Block> {
    let (width, n_vocab) = head.shape();
    let rows = Rows {
        values: hidden,
        stride: width,
        n: hidden.len() / width,
    };
    let block = |(logits, scratch): &mut (Vec<f32>, Vec<_>), block: usize| {
        let first = block * BLOCK;
        let n_columns = BLOCK.min(n_vocab - first);
        logits.resize(rows.n * BLOCK, 0.0);
        for i in 0..n_columns.div_ceil(PANEL) {
            let column = i * PANEL;
            let panel = head.panel(block * BLOCK_PANELS + i, scratch);
            let width = PANEL.min(n_columns - column);
            kernel::multiply(rows, panel, &mut logits[column..], BLOCK, width, Mode::Set);
        }
        let mut summaries = Vec::with_capacity(rows.n);
        vector::fast(
            #[inline(always)]
            || {
                // A plain loop: an iterator's own functions would not be compiled for the
                // wide instructions.
                for row in logits.chunks_exact(BLOCK) {
                    summaries.push(BlockSummary::new(&row[..n_columns], first));
                }
            },
        );
        let picked = picks_of(block)
            .map(|(i, row, column)| (i, logits[row * BLOCK + column]))
            .collect();
        (summaries, picked)
    };
    (0..n_vocab.div_ceil(BLOCK))
        .into_par_iter()
        .map_init(Default::default, block)
        .collect()
}

/// Calls `each(row, logits, summary)` for every row of `hidden` (rows, E), in parallel,
/// and returns the results in row order.
pub(crate) fn for_logits<A: Arithmetic, R: Send>(
    decoder: &Decoder<A>,
    hidden: &A::Rows,
    n_rows: usize,
    each: impl Fn(usize, &[f32], RowSummary) -> R + Sync,
) -> Fallible<Vec<R>> {
    let (ops, n_vocab) = (&decoder.arithmetic, decoder.architecture.n_vocab);
    let mut results = Vec::with_capacity(n_rows);
    for first in (0..n_rows).step_by(HEAD_ROWS) {
        let rows: Vec<(usize, usize)> = (first..n_rows.min(first + HEAD_ROWS))
            .map(|row| (0, row))
            .collect();
        let logits = ops.logits(&ops.gather(&[hidden], &rows)?, &decoder.head)?;
        let rows = logits.par_chunks_exact(n_vocab).enumerate();
        results.par_extend(rows.map(|(i, logits)| {
            let summary = vector::fast(
                #[inline(always)]
                || RowSummary::of(logits),
            );
            each(first + i, logits, summary)
        }));
    }
    Ok(results)
}

impl BlockSummary {
    /// Of neighbouring logits, the first of which is of token `first`.
    #[inline(always)]
    fn new(logits: &[f32], first: usize) -> Self {
        let (max, sum) = vector::exp_sum(logits);
        let at = vector::position(logits, max).unwrap_or(0);
        Self {
            max,
            sum,
            argmax: (first + at) as u32,
        }
    }
}

impl RowSummary {
    /// Of all logits of a row.
    #[inline(always)]
    fn of(logits: &[f32]) -> Self {
        let mut blocks = Vec::with_capacity(logits.len().div_ceil(BLOCK));
        for (i, block) in logits.chunks(BLOCK).enumerate() {
            blocks.push(BlockSummary::new(block, i * BLOCK));
        }
        Self::combine(blocks.iter().copied())
    }

    /// Of all blocks of a row, in order.
    fn combine(blocks: impl Iterator<Item = BlockSummary> + Clone) -> Self {
        let first = BlockSummary {
            max: f32::NEG_INFINITY,
            sum: 0.0,
            argmax: 0,
        };
        let best = blocks
            .clone()
            .fold(first, |best, it| if best.max < it.max { it } else { best });
        let total: f64 = blocks
            .filter(|it| it.sum != 0.0)
            .map(|it| f64::from(it.sum) * f64::from(it.max - best.max).exp())
            .sum();
        Self {
            log_sum_exp: f64::from(best.max) + total.ln(),
            argmax: best.argmax,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than two blocks, the last one cut short.
    fn logits() -> Vec<f32> {
        (0..2 * BLOCK + 37)
            .map(|i| ((i * 7919 + 13) % 1009) as f32 / 40.0 - 12.0)
            .collect()
    }

    #[test]
    fn a_log_sum_exp_is_that_of_f64() {
        let logits = logits();
        let want: f64 = logits
            .iter()
            .map(|it| f64::from(*it).exp())
            .sum::<f64>()
            .ln();
        let got = RowSummary::of(&logits);
        assert!((got.log_sum_exp - want).abs() < 1e-6, "{got:?} {want}");
    }

    #[test]
    fn the_lowest_of_equal_tokens_is_the_most_likely() {
        let mut logits = logits();
        for at in [500, 250, 400] {
            logits[at] = 50.0;
        }
        assert_eq!(RowSummary::of(&logits).argmax, 250);
    }

    #[test]
    fn what_is_no_number_is_told_and_impossible_tokens_are_not() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = logits();
            logits[300] = bad;
            assert!(!RowSummary::of(&logits).log_sum_exp.is_finite(), "{bad}");
        }
        let none = [f32::NEG_INFINITY; BLOCK + 3];
        assert!(!RowSummary::of(&none).log_sum_exp.is_finite());
        // A block without any possible token adds nothing.
        let mut logits = logits();
        let want: f64 = logits[BLOCK..].iter().map(|it| f64::from(*it).exp()).sum();
        logits[..BLOCK].fill(f32::NEG_INFINITY);
        let got = RowSummary::of(&logits).log_sum_exp;
        assert!((got - want.ln()).abs() < 1e-6, "{got}");
    }

    /// Logits that lose no bit when something is added to them that an f32 of this size can
    /// say: multiples of 2^-10, as long as all of it stays below 2^14.
    fn coarse() -> Vec<f32> {
        let coarse = logits()
            .into_iter()
            .map(|it| (it * 1024.0).round() / 1024.0);
        coarse.collect()
    }

    fn logprobs(logits: &[f32]) -> Vec<f64> {
        let log_sum_exp = RowSummary::of(logits).log_sum_exp;
        let logprobs = logits.iter().map(|it| f64::from(*it) - log_sum_exp);
        logprobs.collect()
    }

    /// Softmax knows differences alone. The sum of exponentials keeps its bits; what is left is
    /// the rounding of f64 near 1e4, 2e-12.
    #[test]
    fn a_constant_on_all_logits_changes_no_logprob() {
        let logits = coarse();
        let want = logprobs(&logits);
        for constant in [-1e4f32, -777.0, -88.0, -0.5, 0.25, 1.0, 88.0, 1000.0, 1e4] {
            let shifted: Vec<f32> = logits.iter().map(|it| it + constant).collect();
            let is_exact = shifted.iter().zip(&logits).all(|(a, b)| a - constant == *b);
            assert!(is_exact, "{constant}");
            let (got, plain) = (RowSummary::of(&shifted), RowSummary::of(&logits));
            assert_eq!(got.argmax, plain.argmax, "{constant}");
            for (got, want) in logprobs(&shifted).iter().zip(&want) {
                assert!((got - want).abs() < 1e-10, "{constant}: {got} {want}");
            }
        }
    }

    #[test]
    fn logits_of_any_size_do_not_overflow() {
        for size in [1e30f32, f32::MAX] {
            for sign in [1.0, -1.0] {
                // All alike: every token has the same share.
                let alike = [sign * size; 2 * BLOCK + 37];
                for logprob in logprobs(&alike) {
                    // ln(549) = 6.3 is nothing beside 1e30 even in f64.
                    assert_eq!(logprob, 0.0, "{size} {sign}");
                }
            }
            // One is certain, in the first block or in another; the others are impossible or
            // nearly so.
            for at in [3, BLOCK + 5, 2 * BLOCK + 36] {
                let mut logits = [-size; 2 * BLOCK + 37];
                logits[at] = size;
                let summary = RowSummary::of(&logits);
                assert_eq!(summary.argmax as usize, at);
                assert_eq!(summary.log_sum_exp, f64::from(size));
                let logprobs = logprobs(&logits);
                assert_eq!(logprobs[at], 0.0);
                assert_eq!(logprobs[at - 1], -2.0 * f64::from(size));
            }
        }
    }
}
