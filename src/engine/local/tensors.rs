//! The decoder's arithmetic in candle operations.
//!
//! Slower than [`super::cpu`] and with other roundings, but written in a few lines from
//! the definitions, on any of candle's devices, and differentiable: the oracle of the loops
//! on slices, what a GPU runs, and what training needs. Operations that candle's own models
//! take from candle-nn are spelled out: its fused norms, rotations and softmax have no
//! backward pass in 0.11 and cut the gradient in silence.

use candle_core::{D, DType, Device, Result, Tensor};

use super::LoadError;
use super::architecture::NormKind;
use super::arithmetic::{Angles, Arithmetic, Fallible, HeadNorms, Heads, Linear, Norm};
use super::head::{Pick, RowSummary};
use super::kv::{Block, BlockId, KvStore, Shape};
use super::matrix::{Keep, Matrix, Part};
use super::wave::{Group, Segment, Wave};
use crate::engine::EngineError;

/// Rows whose logits exist at the same time.
const LOGIT_ROWS: usize = 32;

/// The arithmetic of a candle device.
#[derive(Debug, Clone)]
pub(crate) struct Tensors {
    pub device: Device,
}

/// Activations, (T, width); nothing before the first operation.
#[derive(Debug, Default)]
pub(crate) struct TensorRows(Option<Tensor>);

/// Keys and values of the layers that are kept, (G, tokens, D) each; nothing before the
/// first token.
#[derive(Debug)]
pub(crate) struct TensorBlock(Vec<Option<(Tensor, Tensor)>>);

/// [`Angles`] on the device.
#[derive(Debug)]
pub(crate) struct TensorAngles {
    /// Cosines and sines, (T, 1, D / 2) each; absent where positions are not rotary.
    pair: Option<(Tensor, Tensor)>,
}

impl Block for TensorBlock {
    fn new(_: Shape, _: usize, n_layer: usize) -> Self {
        Self(vec![None; n_layer])
    }
}

impl TensorRows {
    fn get(&self) -> Result<&Tensor> {
        let missing = || candle_core::Error::Msg("rows are read before they are made".to_owned());
        self.0.as_ref().ok_or_else(missing)
    }

    fn set(&mut self, rows: Result<Tensor>) -> Fallible<()> {
        self.0 = Some(rows.map_err(told)?);
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(err: candle_core::Error) -> EngineError {
    EngineError {
        message: err.to_string(),
    }
}

impl Arithmetic for Tensors {
    type Rows = TensorRows;
    type Vector = Tensor;
    type Matrix = Tensor;
    type Block = TensorBlock;
    type Angles = TensorAngles;

    fn vector(&self, values: Vec<f32>) -> std::result::Result<Tensor, LoadError> {
        let n = values.len();
        Ok(Tensor::from_vec(values, n, &self.device)?)
    }

    fn matrix(&self, k: usize, parts: &[Part<'_>]) -> std::result::Result<Tensor, LoadError> {
        let (n, values) = Matrix::new(k, parts, Keep::Decoded)?.into_rows();
        Ok(Tensor::from_vec(values, (k, n), &self.device)?)
    }

    fn n_parts(&self, _: usize) -> usize {
        1
    }

    fn rows(&self, values: Vec<f32>, width: usize, _: usize) -> Fallible<TensorRows> {
        let shape = (values.len() / width, width);
        let rows = Tensor::from_vec(values, shape, &self.device);
        Ok(TensorRows(Some(rows.map_err(told)?)))
    }

    fn angles(&self, angles: Angles) -> Fallible<TensorAngles> {
        let on_device = |values: Vec<f32>| {
            let shape = (values.len() / angles.half, 1, angles.half);
            Tensor::from_vec(values, shape, &self.device).map_err(told)
        };
        let is_rotary = 0 < angles.half;
        let pair = is_rotary.then(|| Ok((on_device(angles.cosines)?, on_device(angles.sines)?)));
        Ok(TensorAngles {
            pair: pair.transpose()?,
        })
    }

    fn norm(&self, x: &TensorRows, norm: &Norm<Self>, y: &mut TensorRows) -> Fallible<()> {
        y.set(x.get().and_then(|x| normed(x, norm)))
    }

    fn linear(&self, x: &TensorRows, linear: &Linear<Self>, y: &mut TensorRows) -> Fallible<()> {
        y.set(x.get().and_then(|x| mapped(x, linear)))
    }

    fn add_linear(
        &self,
        x: &TensorRows,
        linear: &Linear<Self>,
        y: &mut TensorRows,
    ) -> Fallible<()> {
        let sum = x.get().and_then(|x| mapped(x, linear)?.add(y.get()?));
        y.set(sum)
    }

    fn gelu(&self, x: &mut TensorRows) -> Fallible<()> {
        let y = x.get().and_then(Tensor::gelu);
        x.set(y)
    }

    fn swiglu(
        &self,
        x: &TensorRows,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        y: &mut TensorRows,
    ) -> Fallible<()> {
        y.set(
            x.get()
                .and_then(|x| mapped(x, gate)?.silu()?.mul(&mapped(x, up)?)),
        )
    }

    fn position(
        &self,
        qkv: &mut TensorRows,
        heads: Heads,
        norms: Option<&HeadNorms<Self>>,
        angles: &TensorAngles,
    ) -> Fallible<()> {
        let placed = qkv.get().and_then(|it| placed(it, heads, norms, angles));
        qkv.set(placed)
    }

    fn remember(
        &self,
        qkv: &[&TensorRows],
        heads: Heads,
        wave: &Wave,
        layer: usize,
        kv: &mut KvStore<TensorBlock>,
    ) -> Fallible<()> {
        let [qkv] = qkv else {
            return Err(EngineError {
                message: "a wave of tensors has one part".to_owned(),
            });
        };
        for segment in &wave.segments {
            let new = qkv.get().and_then(|it| keys_and_values(it, heads, segment));
            let (keys, values) = new.map_err(told)?;
            let held = kv.held_mut(segment.block);
            let n_layer = held.block.0.len();
            let kept = &mut held.block.0[layer % n_layer];
            // What is there beyond the counted tokens belongs to another layer.
            let old = kept.take().filter(|_| 0 < held.len);
            let both = match old {
                None => Ok((keys, values)),
                Some((old_keys, old_values)) => {
                    let join =
                        |old: Tensor, new| Tensor::cat(&[old.narrow(1, 0, held.len)?, new], 1);
                    join(old_keys, keys).and_then(|it| Ok((it, join(old_values, values)?)))
                }
            };
            *kept = Some(both.map_err(told)?);
        }
        Ok(())
    }

    fn attend(
        &self,
        qkv: &TensorRows,
        heads: Heads,
        groups: &[Group<'_>],
        layer: usize,
        kv: &KvStore<TensorBlock>,
        y: &mut TensorRows,
    ) -> Fallible<()> {
        let mut rows = Vec::new();
        for (segment, range) in groups.iter().flat_map(|it| &it.pieces) {
            let n_own = kv.len(segment.block) + range.end - segment.rows.start;
            let blocks = segment.past.iter().copied().chain([(segment.block, n_own)]);
            let attended = qkv
                .get()
                .and_then(|it| it.narrow(0, range.start, range.len()))
                .and_then(|it| attended(&it, heads, &past(kv, layer, blocks)?));
            rows.push(attended.map_err(told)?);
        }
        y.set(Tensor::cat(&rows, 0))
    }

    fn gather(&self, parts: &[&TensorRows], rows: &[(usize, usize)]) -> Fallible<TensorRows> {
        let gathered = || {
            let all = parts
                .iter()
                .map(|it| it.get())
                .collect::<Result<Vec<_>>>()?;
            let first: Vec<usize> = all
                .iter()
                .scan(0, |end, it| {
                    let first = *end;
                    *end += it.dims()[0];
                    Some(first)
                })
                .collect();
            let index = rows.iter().map(|it| (first[it.0] + it.1) as u32);
            let index = Tensor::new(index.collect::<Vec<u32>>(), &self.device)?;
            Tensor::cat(&all, 0)?.index_select(&index, 0)
        };
        Ok(TensorRows(Some(gathered().map_err(told)?)))
    }

    fn scan(
        &self,
        hidden: &TensorRows,
        head: &Tensor,
        picks: &[Pick],
    ) -> Fallible<(Vec<RowSummary>, Vec<f32>)> {
        let hidden = hidden.get().map_err(told)?;
        let (n_rows, n_vocab) = (hidden.dims()[0], head.dims()[1]);
        let (mut summaries, mut picked) = (Vec::new(), vec![0.0; picks.len()]);
        for first in (0..n_rows).step_by(LOGIT_ROWS) {
            let n = LOGIT_ROWS.min(n_rows - first);
            let here = picks.iter().enumerate();
            let here: Vec<_> = here
                .filter(|(_, it)| (first..first + n).contains(&it.row))
                .collect();
            let at = |it: &Pick| ((it.row - first) * n_vocab) as u32 + it.token;
            let at: Vec<u32> = here.iter().map(|(_, it)| at(it)).collect();
            let tile = hidden.narrow(0, first, n).and_then(|it| it.matmul(head));
            let read = tile.and_then(|it| Ok((summed(&it)?, picked_of(&it, &at)?)));
            let (of_rows, logits) = read.map_err(told)?;
            summaries.extend(of_rows);
            for ((index, _), logit) in here.iter().zip(logits) {
                picked[*index] = logit;
            }
        }
        Ok((summaries, picked))
    }

    fn logits(&self, hidden: &TensorRows, head: &Tensor) -> Fallible<Vec<f32>> {
        let logits = hidden
            .get()
            .and_then(|it| it.matmul(head)?.flatten_all()?.to_vec1());
        logits.map_err(told)
    }
}

/// `x · weight + bias`: (T, k) to (T, n).
fn mapped(x: &Tensor, linear: &Linear<Tensors>) -> Result<Tensor> {
    let y = x.matmul(&linear.weight)?;
    match &linear.bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Norms over the last dimension.
fn normed(x: &Tensor, norm: &Norm<Tensors>) -> Result<Tensor> {
    let scaled = |x: &Tensor, eps: f32| {
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        let deviation = (variance + f64::from(eps))?.sqrt()?;
        x.broadcast_div(&deviation)?.broadcast_mul(&norm.weight)
    };
    let y = match norm.kind {
        NormKind::Rms(eps) => scaled(x, eps)?,
        NormKind::Layer(eps) => scaled(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?, eps)?,
    };
    match &norm.bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Queries and keys of `qkv` (T, (H + 2G)·D), normed and rotated.
fn placed(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<&HeadNorms<Tensors>>,
    angles: &TensorAngles,
) -> Result<Tensor> {
    let (n_rows, n_rotated) = (qkv.dims()[0], heads.n_head + heads.n_kv_head);
    let width = n_rotated * heads.head_dim;
    let mut x = qkv
        .narrow(1, 0, width)?
        .reshape((n_rows, n_rotated, heads.head_dim))?; // (T, H + G, D)
    if let Some(norms) = norms {
        let queries = normed(&x.narrow(1, 0, heads.n_head)?, &norms.query)?;
        let keys = normed(&x.narrow(1, heads.n_head, heads.n_kv_head)?, &norms.key)?;
        x = Tensor::cat(&[queries, keys], 1)?;
    }
    if let Some((cos, sin)) = &angles.pair {
        let half = heads.head_dim / 2;
        let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?); // (T, H + G, D / 2)
        let turned_low = (low.broadcast_mul(cos)? - high.broadcast_mul(sin)?)?;
        let turned_high = (high.broadcast_mul(cos)? + low.broadcast_mul(sin)?)?;
        x = Tensor::cat(&[turned_low, turned_high], 2)?;
    }
    let values = qkv.narrow(1, width, heads.kv_width())?;
    Tensor::cat(&[x.reshape((n_rows, width))?, values], 1)
}

/// Keys and values of a segment, (G, R, D) each.
fn keys_and_values(qkv: &Tensor, heads: Heads, segment: &Segment) -> Result<(Tensor, Tensor)> {
    let n_rows = segment.rows.len();
    let of = |first: usize| {
        qkv.narrow(0, segment.rows.start, n_rows)?
            .narrow(1, first, heads.kv_width())?
            .reshape((n_rows, heads.n_kv_head, heads.head_dim))?
            .transpose(0, 1)?
            .contiguous()
    };
    let first = heads.query_width();
    Ok((of(first)?, of(first + heads.kv_width())?))
}

/// What some blocks hold of one layer, (G, S, D) each.
fn past(
    kv: &KvStore<TensorBlock>,
    layer: usize,
    blocks: impl Iterator<Item = (BlockId, usize)>,
) -> Result<(Tensor, Tensor)> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for (id, len) in blocks {
        let layers = &kv.block(id).0;
        if let Some((k, v)) = &layers[layer % layers.len()] {
            keys.push(k.narrow(1, 0, len)?);
            values.push(v.narrow(1, 0, len)?);
        }
    }
    Ok((Tensor::cat(&keys, 1)?, Tensor::cat(&values, 1)?))
}

/// Attention of the last R of S positions, (R, H·D).
fn attended(qkv: &Tensor, heads: Heads, past: &(Tensor, Tensor)) -> Result<Tensor> {
    let (keys, values) = past; // (G, S, D)
    let (n_rows, n_keys) = (qkv.dims()[0], keys.dims()[1]);
    let (g, rep, d) = (heads.n_kv_head, heads.n_rep(), heads.head_dim);
    let queries = qkv
        .narrow(1, 0, heads.query_width())?
        .reshape((n_rows, g, rep, d))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((g, n_rows * rep, d))?; // (G, R·H/G, D)
    let scores = queries.matmul(&keys.t()?.contiguous()?)?; // (G, R·H/G, S)
    let scores = (scores * f64::from(heads.scale))?;
    let hidden = (0..n_rows * rep).flat_map(|query| {
        let n_visible = n_keys - n_rows + 1 + query / rep;
        (0..n_keys).map(move |key| {
            if key < n_visible {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
    });
    let mask = Tensor::from_vec(hidden.collect(), (n_rows * rep, n_keys), qkv.device())?;
    let scores = scores.broadcast_add(&mask)?;
    let weights = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    weights
        .matmul(values)? // (G, R·H/G, D)
        .reshape((g, n_rows, rep, d))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((n_rows, heads.query_width()))
}

/// Log-sum-exp and most likely token of every row of logits (T, V).
fn summed(logits: &Tensor) -> Result<Vec<RowSummary>> {
    let max = logits.max_keepdim(1)?; // (T, 1)
    let sum = logits.broadcast_sub(&max)?.exp()?.sum_keepdim(1)?;
    let max: Vec<f32> = max.flatten_all()?.to_vec1()?;
    let sum: Vec<f32> = sum.flatten_all()?.to_vec1()?;
    let argmax: Vec<u32> = logits.argmax(1)?.to_dtype(DType::U32)?.to_vec1()?;
    let rows = max.into_iter().zip(sum).zip(argmax);
    Ok(rows
        .map(|((max, sum), argmax)| RowSummary {
            log_sum_exp: f64::from(max) + f64::from(sum).ln(),
            argmax,
        })
        .collect())
}

/// Some logits, each by its place in the flattened matrix.
fn picked_of(logits: &Tensor, at: &[u32]) -> Result<Vec<f32>> {
    if at.is_empty() {
        return Ok(Vec::new());
    }
    let index = Tensor::new(at, logits.device())?;
    logits.flatten_all()?.index_select(&index, 0)?.to_vec1()
}
