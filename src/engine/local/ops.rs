//! The decoder's operations on rows of f32, (T, width) and contiguous.
//!
//! A product with a weight is [`super::kernel`]'s; everything else is a loop over rows
//! from [`super::vector`]. Outputs are buffers of the caller, used again from layer to
//! layer: clearing fresh pages was measured at a seventh of the time.

use rayon::prelude::*;

use super::kernel::{self, Mode, Panels};
use super::matrix::Matrix;
use super::vector;

/// Rows that one task handles in element-wise work.
const ROWS_PER_TASK: usize = 16;

/// A linear map `x · weight + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// (k, n)
    pub weight: Matrix,
    /// (n)
    pub bias: Option<Vec<f32>>,
}

/// A norm layer's parameters.
#[derive(Debug)]
pub(crate) struct Norm {
    /// (E)
    pub weight: Vec<f32>,
    /// (E); empty for an RMS norm.
    pub bias: Vec<f32>,
}

/// `y = x · weight + bias` for rows `x` (T, k); `y` becomes (T, n).
pub(crate) fn linear(x: &[f32], linear: &Linear, y: &mut Vec<f32>) {
    let (k, n) = linear.weight.shape();
    y.resize(x.len() / k * n, 0.0);
    kernel::product(x, &linear.weight, linear.bias.as_deref(), y, Mode::Set);
}

/// `y += x · weight + bias` for rows `x` (T, k) and `y` (T, n).
pub(crate) fn add_linear(x: &[f32], linear: &Linear, y: &mut [f32]) {
    kernel::product(x, &linear.weight, linear.bias.as_deref(), y, Mode::Add);
}

/// Calls `work(row, values)` for every row of `x` (T, width), in parallel.
pub(crate) fn for_rows(x: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let serial = |task: usize, rows: &mut [f32]| {
        vector::fast(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    work(task * ROWS_PER_TASK + i, row);
                }
            },
        );
    };
    if x.len() <= ROWS_PER_TASK * width {
        serial(0, x);
        return;
    }
    x.par_chunks_mut(ROWS_PER_TASK * width)
        .enumerate()
        .for_each(|(task, rows)| serial(task, rows));
}
