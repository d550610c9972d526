//! The decoder's arithmetic on slices, whose bits are the engine's promise.
//!
//! A product with a weight is [`super::kernel`]'s, attention [`super::attention`]'s, the
//! vocabulary [`super::head`]'s; everything else is a loop over rows from
//! [`super::vector`]. Where every thread has enough rows, each takes its own through a
//! layer: what it reads is then in its own cache, and weights are read by all threads
//! at about the same time. Fewer rows are computed by all threads together.

use rayon::prelude::*;

use super::LoadError;
use super::architecture::NormKind;
use super::arithmetic::{Angles, Arithmetic, Fallible, HeadNorms, Heads, Linear, Norm};
use super::attention::{self, Piece, Span};
use super::head::{self, Pick, RowSummary};
use super::kernel::{self, Affine, Mode, Panels as _, Spread};
use super::kv::{BlockId, KvStore};
use super::kv_panels::{self, Entry, KvPanels};
use super::matrix::{Keep, Matrix, Part};
use super::vector;
use super::wave::{Group, Wave};

/// Rows that a thread must have to read all weights for them alone.
const LEAST_ROWS: usize = 32;

/// The arithmetic on this machine's processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// In which form weights are kept.
    pub keep: Keep,
}

/// Activations, row by row.
#[derive(Debug, Default)]
pub(crate) struct CpuRows {
    values: Vec<f32>,
    width: usize,
    /// Whether no other thread has rows to compute meanwhile.
    is_alone: bool,
}

impl CpuRows {
    fn n(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    fn spread(&self) -> Spread {
        if self.is_alone {
            Spread::Threads
        } else {
            Spread::Here
        }
    }

    /// As many rows as `x` has, of another width; what they hold is to be overwritten.
    fn shape_like(&mut self, x: &Self, width: usize) -> &mut [f32] {
        self.values.resize(x.n() * width, 0.0);
        self.width = width;
        self.is_alone = x.is_alone;
        &mut self.values
    }
}

impl Arithmetic for Cpu {
    type Rows = CpuRows;
    type Vector = Vec<f32>;
    type Matrix = Matrix;
    type Block = KvPanels;
    type Angles = Angles;

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>, LoadError> {
        Ok(values)
    }

    fn matrix(&self, k: usize, parts: &[Part<'_>]) -> Result<Matrix, LoadError> {
        Matrix::new(k, parts, self.keep)
    }

    fn n_parts(&self, n_rows: usize) -> usize {
        let n_threads = rayon::current_num_threads();
        // Panels that are decoded when they are read are decoded once, for all rows.
        if self.keep == Keep::Stored || n_rows < n_threads * LEAST_ROWS {
            1
        } else {
            n_threads
        }
    }

    fn rows(&self, values: Vec<f32>, width: usize, n_parts: usize) -> Fallible<CpuRows> {
        Ok(CpuRows {
            values,
            width,
            is_alone: n_parts == 1,
        })
    }

    fn angles(&self, angles: Angles) -> Fallible<Angles> {
        Ok(angles)
    }

    fn norm(&self, x: &CpuRows, norm: &Norm<Self>, y: &mut CpuRows) -> Fallible<()> {
        let width = x.width;
        let y = y.shape_like(x, width);
        for_rows(
            y,
            width,
            #[inline(always)]
            |row, y| norm_row(norm, &x.values[row * width..(row + 1) * width], y),
        );
        Ok(())
    }

    fn linear(&self, x: &CpuRows, linear: &Linear<Self>, y: &mut CpuRows) -> Fallible<()> {
        let y = y.shape_like(x, linear.weight.shape().1);
        kernel::product(x.spread(), &x.values, &affine(linear), y, Mode::Set);
        Ok(())
    }

    fn add_linear(&self, x: &CpuRows, linear: &Linear<Self>, y: &mut CpuRows) -> Fallible<()> {
        let y = &mut y.values;
        kernel::product(x.spread(), &x.values, &affine(linear), y, Mode::Add);
        Ok(())
    }

    fn gelu(&self, x: &mut CpuRows) -> Fallible<()> {
        for_rows(
            &mut x.values,
            x.width,
            #[inline(always)]
            |_, row| {
                for x in row {
                    *x = vector::gelu(*x);
                }
            },
        );
        Ok(())
    }

    fn swiglu(
        &self,
        x: &CpuRows,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        y: &mut CpuRows,
    ) -> Fallible<()> {
        let y = y.shape_like(x, up.weight.shape().1);
        let (gate, up) = (affine(gate), affine(up));
        kernel::gated_product(x.spread(), &x.values, &gate, &up, y, |gate, up| {
            vector::fast(
                #[inline(always)]
                || {
                    for (gate, up) in gate.iter_mut().zip(up) {
                        *gate = vector::silu(*gate) * up;
                    }
                },
            );
        });
        Ok(())
    }

    fn position(
        &self,
        qkv: &mut CpuRows,
        heads: Heads,
        norms: Option<&HeadNorms<Self>>,
        angles: &Angles,
    ) -> Fallible<()> {
        if norms.is_none() && angles.half == 0 {
            return Ok(());
        }
        let d = heads.head_dim;
        let mut unnormed = vec![0.0; d];
        for_rows(
            &mut qkv.values,
            qkv.width,
            #[inline(always)]
            |row, qkv| {
                let rotated = &mut qkv[..heads.query_width() + heads.kv_width()];
                for (h, head) in rotated.chunks_exact_mut(d).enumerate() {
                    if let Some(norms) = norms {
                        unnormed.copy_from_slice(head);
                        let is_query = h < heads.n_head;
                        let norm = if is_query { &norms.query } else { &norms.key };
                        norm_row(norm, &unnormed, head);
                    }
                    rotate(angles, row, head);
                }
            },
        );
        Ok(())
    }

    fn remember(
        &self,
        qkv: &[&CpuRows],
        heads: Heads,
        wave: &Wave,
        layer: usize,
        kv: &mut KvStore<KvPanels>,
    ) -> Fallible<()> {
        let entries = wave.segments.iter().map(|it| Entry {
            block: it.block,
            rows: it.rows.clone(),
        });
        let rows: Vec<&[f32]> = qkv
            .iter()
            .flat_map(|it| it.values.chunks_exact(it.width))
            .map(|it| &it[heads.query_width()..])
            .collect();
        kv_panels::write(kv, heads.into(), layer, entries.collect(), |row| rows[row]);
        Ok(())
    }

    fn attend(
        &self,
        qkv: &CpuRows,
        heads: Heads,
        groups: &[Group<'_>],
        layer: usize,
        kv: &KvStore<KvPanels>,
        y: &mut CpuRows,
    ) -> Fallible<()> {
        let width = heads.query_width();
        let mut rest = y.shape_like(qkv, width);
        let mut queries = qkv.values.as_slice();
        let mut tasks = Vec::with_capacity(groups.len());
        for group in groups {
            let n_rows = group.rows().len();
            let (mine, others) = rest.split_at_mut(n_rows * width);
            let (qkv, others_qkv) = queries.split_at(n_rows * qkv.width);
            (rest, queries) = (others, others_qkv);
            tasks.push((group, qkv, mine));
        }
        let work = |room: &mut attention::Room, (group, qkv, out): Task<'_, '_>| {
            let (common, pieces) = visible(group, layer, kv);
            vector::fast(
                #[inline(always)]
                || attention::attend(heads, qkv, &common, &pieces, room, out),
            );
        };
        if qkv.is_alone {
            tasks
                .into_par_iter()
                .for_each_init(attention::Room::default, work);
        } else {
            let mut room = attention::Room::default();
            for task in tasks {
                work(&mut room, task);
            }
        }
        Ok(())
    }

    fn gather(&self, parts: &[&CpuRows], rows: &[(usize, usize)]) -> Fallible<CpuRows> {
        let width = parts.first().map_or(0, |it| it.width);
        let values = rows
            .iter()
            .flat_map(|(part, row)| &parts[*part].values[row * width..(row + 1) * width])
            .copied()
            .collect();
        self.rows(values, width, 1)
    }

    fn scan(
        &self,
        hidden: &CpuRows,
        head: &Matrix,
        picks: &[Pick],
    ) -> Fallible<(Vec<RowSummary>, Vec<f32>)> {
        Ok(head::scan(head, &hidden.values, picks))
    }

    fn logits(&self, hidden: &CpuRows, head: &Matrix) -> Fallible<Vec<f32>> {
        let mut logits = vec![0.0; hidden.n() * head.shape().1];
        let head = Affine {
            weight: head,
            bias: None,
        };
        let (x, y) = (&hidden.values, &mut logits);
        kernel::product(Spread::Threads, x, &head, y, Mode::Set);
        Ok(logits)
    }
}

/// A group with its rows of queries, and where its outputs go.
type Task<'a, 'out> = (&'a Group<'a>, &'a [f32], &'out mut [f32]);

fn affine(linear: &Linear<Cpu>) -> Affine<'_, Matrix> {
    Affine {
        weight: &linear.weight,
        bias: linear.bias.as_deref(),
    }
}

/// What the rows of a group see in one layer: together, and piece by piece.
fn visible<'a>(
    group: &Group<'_>,
    layer: usize,
    kv: &'a KvStore<KvPanels>,
) -> (Vec<Span<'a>>, Vec<Piece<'a>>) {
    let span = |id: BlockId, len: usize| Span {
        layer: kv.block(id).layer(layer),
        len,
    };
    let pieces = group.pieces.iter().map(|(segment, rows)| {
        let rest = group.rest(segment).iter().map(|it| span(it.0, it.1));
        let n_own = kv.len(segment.block) + rows.end - segment.rows.start;
        Piece {
            n_rows: rows.len(),
            spans: rest.chain([span(segment.block, n_own)]).collect(),
        }
    });
    let common = group.common().iter().map(|it| span(it.0, it.1));
    (common.collect(), pieces.collect())
}

/// Calls `work(row, values)` for every row of `x` (T, width), on the widest vectors.
fn for_rows(x: &mut [f32], width: usize, mut work: impl FnMut(usize, &mut [f32])) {
    vector::fast(
        #[inline(always)]
        || {
            for (row, values) in x.chunks_exact_mut(width).enumerate() {
                work(row, values);
            }
        },
    );
}

#[inline(always)]
fn norm_row(norm: &Norm<Cpu>, x: &[f32], y: &mut [f32]) {
    match norm.kind {
        NormKind::Rms(eps) => vector::rms_norm(x, &norm.weight, eps, y),
        NormKind::Layer(eps) => {
            let bias = norm.bias.as_deref().unwrap_or_default();
            vector::layer_norm(x, &norm.weight, bias, eps, y);
        }
    }
}

/// Rotates one head of row `row`: element `i` pairs with `i + D/2`.
#[inline(always)]
fn rotate(angles: &Angles, row: usize, head: &mut [f32]) {
    let half = angles.half;
    if half == 0 {
        return;
    }
    let at = row * half..(row + 1) * half;
    let (low, high) = head.split_at_mut(half);
    let angles = angles.cosines[at.clone()].iter().zip(&angles.sines[at]);
    for ((x, y), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
        let (a, b) = (*x, *y);
        *x = a * cos - b * sin;
        *y = b * cos + a * sin;
    }
}
