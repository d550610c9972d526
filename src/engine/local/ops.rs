//! The decoder's operations on rows: the one place that names a tensor.
//!
//! Rows are a contiguous f32 matrix (T, width). Products with a weight go through
//! candle; everything else is a loop over rows from [`super::vector`]. On the CPU,
//! candle's f32 product gives a row the same bits for any number of rows from
//! [`MIN_ROWS`] up, measured; fewer rows are padded with zeros, so a row never
//! depends on its company.

use candle_core::{DType, Device, Storage, Tensor};
use rayon::prelude::*;

use super::vector;
use crate::engine::EngineError;

/// Products are never run with fewer rows: candle's kernels for one row, and for
/// few rows of a narrow weight, add in another order.
pub(crate) const MIN_ROWS: usize = 8;

/// Rows that one task handles in element-wise work.
const ROWS_PER_TASK: usize = 16;

/// A linear map `x · weight + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// (k, n), contiguous unless it is a view of the embedding.
    pub weight: Tensor,
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

impl From<candle_core::Error> for EngineError {
    fn from(err: candle_core::Error) -> Self {
        Self {
            message: err.to_string(),
        }
    }
}

/// `x · weight + bias` for rows `x` (T, k); returns (T, n), T unchanged.
pub(crate) fn linear(mut x: Vec<f32>, linear: &Linear) -> Result<Vec<f32>, EngineError> {
    let (k, n) = linear.weight.dims2()?;
    let n_rows = x.len() / k;
    x.resize(n_rows.max(min_rows(n)) * k, 0.0);
    let n_padded = x.len() / k;
    let y = Tensor::from_vec(x, (n_padded, k), &Device::Cpu)?.matmul(&linear.weight)?;
    let mut y = to_vec(&y)?;
    y.truncate(n_rows * n);
    if let Some(bias) = &linear.bias {
        for_rows(
            &mut y,
            n,
            #[inline(always)]
            |_, row| {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            },
        );
    }
    Ok(y)
}

/// The number of rows from which a product with `n` columns keeps its bits.
///
/// The gemm crate switches to dot products when rows · columns <= 256.
fn min_rows(n: usize) -> usize {
    MIN_ROWS.max(256 / n + 1)
}

/// Rows of a contiguous f32 table (n, width) by index, shape (indices, width).
pub(crate) fn gather_rows(table: &Tensor, indices: &[u32]) -> Result<Vec<f32>, EngineError> {
    let (_, width) = table.dims2()?;
    let (storage, layout) = table.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else {
        let indices = Tensor::new(indices, table.device())?;
        return Ok(table.index_select(&indices, 0)?.flatten_all()?.to_vec1()?);
    };
    let values = &cpu.as_slice::<f32>()?[layout.start_offset()..];
    let mut rows = Vec::with_capacity(indices.len() * width);
    for index in indices {
        let at = *index as usize * width;
        rows.extend_from_slice(&values[at..at + width]);
    }
    Ok(rows)
}

/// The data of a contiguous f32 tensor.
fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, EngineError> {
    debug_assert_eq!(tensor.dtype(), DType::F32);
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(cpu.as_slice::<f32>()?[layout.start_offset()..]
            [..layout.shape().elem_count()]
            .to_vec()),
        _ => Ok(tensor.flatten_all()?.to_vec1()?),
    }
}

/// Calls `work(first_row, row)` for every row of `x` (T, width), in parallel.
pub(crate) fn for_rows(x: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    x.par_chunks_mut(ROWS_PER_TASK * width)
        .enumerate()
        .for_each(|(task, rows)| {
            vector::fast(
                #[inline(always)]
                || {
                    for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                        work(task * ROWS_PER_TASK + i, row);
                    }
                },
            );
        });
}
