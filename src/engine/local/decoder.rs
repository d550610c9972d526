//! The decoder: one code path for GPT-2, Llama, Mistral, Qwen2 and Qwen3.
//!
//! Takes a [`Wave`] of flat rows, each with its own token, position and visible
//! past, and returns hidden rows where asked. What differs between families is
//! data ([`Architecture`]); the code follows the papers in order (Radford et al.
//! 2019 for GPT-2, Touvron et al. 2023 for Llama, Yang et al. 2025 for Qwen3). Checked against Hugging Face
//! transformers in f32 (`tests/fixtures/models`).

use std::ops::Range;

use std::sync::{Mutex, MutexGuard};

use rayon::prelude::*;

use super::architecture::{Architecture, Mlp, NormKind, Positions};
use super::attention::{self, Heads, Span};
use super::kv::{BlockId, Entry, KvStore};
use super::ops::{self, Linear, Norm};
use super::vector;
use super::weights::Stored;
use crate::engine::{EngineError, Stop};

// T rows of a wave, H query heads, G key heads, D head size, E = residual width,
// F MLP width, V vocabulary.

/// A model's parameters.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub architecture: Architecture,
    /// (V, E), row per token, as stored: few of its rows are ever read.
    pub token_embedding: Stored<'static>,
    /// (positions, E); empty unless positions are learned.
    pub position_embedding: Vec<f32>,
    pub layers: Vec<Layer>,
    pub norm: Norm,
    /// (E, V)
    pub head: Linear,
    /// Room for the wave at hand.
    pub buffers: Mutex<Buffers>,
}

/// Rows of a wave at the stages of a layer, kept from wave to wave.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// (T, E), the residual stream.
    x: Vec<f32>,
    /// (T, E)
    normed: Vec<f32>,
    /// (T, (H + 2G)·D)
    qkv: Vec<f32>,
    /// (T, H·D)
    attended: Vec<f32>,
    /// (T, F), or (T, 2F) where gated.
    up: Vec<f32>,
    /// (T, F), where gated.
    gated: Vec<f32>,
}

/// One layer's parameters.
#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: Norm,
    /// (E, (H + 2G)·D): queries, keys, values side by side.
    pub qkv: Linear,
    /// (D) each; Qwen3 norms every head of the queries and keys.
    pub query_key_norm: Option<(Norm, Norm)>,
    /// (H·D, E)
    pub output: Linear,
    pub mlp_norm: Norm,
    /// (E, F), or (E, 2F) with gate and up side by side for `SwiGlu`.
    pub up: Linear,
    /// (F, E)
    pub down: Linear,
}

/// Rows to compute together.
#[derive(Debug, Default)]
pub(crate) struct Wave {
    /// One token per row.
    pub tokens: Vec<u32>,
    /// Runs of rows; together they cover all rows in order.
    pub segments: Vec<Segment>,
}

/// Consecutive tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its rows in the wave.
    pub rows: Range<usize>,
    /// Position of its first row.
    pub start: usize,
    /// Blocks of the past in position order, each with the tokens it holds once its
    /// own wave is done; they may belong to the wave at hand.
    pub past: Vec<(BlockId, usize)>,
    /// Where its own keys and values go, after the tokens already there.
    pub block: BlockId,
}

/// Rows of one attention task.
const ATTENTION_ROWS: usize = 16;

impl Decoder {
    /// Computes a wave and returns the normed hidden rows `wanted`, shape (wanted, E).
    ///
    /// Keys and values are written into the segments' blocks, which count the new
    /// tokens afterwards. Returns `None` if a stop was seen between two layers; the
    /// blocks of the wave are then incomplete and must be dropped.
    pub(crate) fn forward(
        &self,
        wave: &Wave,
        wanted: &[usize],
        kv: &mut KvStore,
        stop: &Stop,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        // Taken out, so that no lock is held while this thread may pick up other work.
        let mut buffers = std::mem::take(&mut *self.kept_buffers());
        // Entered once per wave: the many small tasks of a layer then never wait for a
        // worker to wake up.
        let hidden = rayon::scope(|_| self.forward_in(wave, wanted, kv, stop, &mut buffers));
        *self.kept_buffers() = buffers;
        hidden
    }

    fn kept_buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers
            .lock()
            .expect("taking and giving does not panic")
    }

    fn forward_in(
        &self,
        wave: &Wave,
        wanted: &[usize],
        kv: &mut KvStore,
        stop: &Stop,
        buffers: &mut Buffers,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let Buffers {
            x,
            normed,
            qkv,
            attended,
            up,
            gated,
        } = buffers;
        let width = self.architecture.n_embd;
        self.embed(wave, x)?; // (T, E)
        let rotation = Rotation::new(&self.architecture, wave);
        for (index, layer) in self.layers.iter().enumerate() {
            if stop.is_raised() {
                return Ok(None);
            }
            self.norm(x, &layer.attention_norm, normed); // (T, E)
            ops::linear(normed, &layer.qkv, qkv); // (T, (H + 2G)·D)
            self.position(qkv, layer, &rotation);
            self.remember(qkv, wave, index, kv);
            self.attend(qkv, wave, index, kv, attended); // (T, H·D)
            ops::add_linear(attended, &layer.output, x);
            self.norm(x, &layer.mlp_norm, normed);
            ops::linear(normed, &layer.up, up);
            let hidden = self.activate(up, gated); // (T, F)
            ops::add_linear(hidden, &layer.down, x);
        }
        for segment in &wave.segments {
            kv.advance(segment.block, segment.rows.len());
        }
        let rows: Vec<f32> = wanted
            .iter()
            .flat_map(|row| &x[row * width..(row + 1) * width])
            .copied()
            .collect();
        let mut hidden = Vec::new();
        self.norm(&rows, &self.norm, &mut hidden);
        Ok(Some(hidden))
    }

    fn embed(&self, wave: &Wave, x: &mut Vec<f32>) -> Result<(), EngineError> {
        let width = self.architecture.n_embd;
        x.clear();
        for token in &wave.tokens {
            let row = *token as usize;
            self.token_embedding
                .decode_rows(row..row + 1, x)
                .map_err(|err| EngineError {
                    message: err.to_string(),
                })?;
        }
        if self.architecture.positions == Positions::Learned {
            for segment in &wave.segments {
                for (i, row) in segment.rows.clone().enumerate() {
                    let at = (segment.start + i) * width;
                    let embedding = &self.position_embedding[at..at + width];
                    x[row * width..(row + 1) * width]
                        .iter_mut()
                        .zip(embedding)
                        .for_each(|(x, e)| *x += e);
                }
            }
        }
        Ok(())
    }

    /// Norms every row of `x` (T, E) into `y`.
    fn norm(&self, x: &[f32], norm: &Norm, y: &mut Vec<f32>) {
        let width = self.architecture.n_embd;
        y.resize(x.len(), 0.0);
        ops::for_rows(
            y,
            width,
            #[inline(always)]
            |row, y| {
                let x = &x[row * width..(row + 1) * width];
                match self.architecture.norm {
                    NormKind::Rms(eps) => vector::rms_norm(x, &norm.weight, eps, y),
                    NormKind::Layer(eps) => vector::layer_norm(x, &norm.weight, &norm.bias, eps, y),
                }
            },
        );
    }

    /// Norms (Qwen3) and rotates the queries and keys of every row in place.
    fn position(&self, qkv: &mut [f32], layer: &Layer, rotation: &Rotation) {
        let a = &self.architecture;
        let width = (a.n_head + 2 * a.n_kv_head) * a.head_dim;
        if layer.query_key_norm.is_none() && rotation.half == 0 {
            return;
        }
        ops::for_rows(
            qkv,
            width,
            #[inline(always)]
            |row, qkv| {
                let heads =
                    qkv[..(a.n_head + a.n_kv_head) * a.head_dim].chunks_exact_mut(a.head_dim);
                for (h, head) in heads.enumerate() {
                    if let (Some((q, k)), NormKind::Rms(eps)) = (&layer.query_key_norm, a.norm) {
                        let weight = if h < a.n_head { &q.weight } else { &k.weight };
                        let unnormed = head.to_vec();
                        vector::rms_norm(&unnormed, weight, eps, head);
                    }
                    rotation.apply(row, head);
                }
            },
        );
    }

    /// Writes the keys and values of every row into its segment's block.
    fn remember(&self, qkv: &[f32], wave: &Wave, layer: usize, kv: &mut KvStore) {
        let a = &self.architecture;
        let (q, g) = (a.n_head * a.head_dim, a.kv_width());
        let entries: Vec<Entry> = wave
            .segments
            .iter()
            .map(|it| Entry {
                block: it.block,
                rows: it.rows.clone(),
            })
            .collect();
        let width = q + 2 * g;
        kv.write(layer, &entries, |row| {
            &qkv[row * width + q..(row + 1) * width]
        });
    }

    /// Attends for every row of the wave; `out` becomes (T, H·D).
    fn attend(&self, qkv: &[f32], wave: &Wave, layer: usize, kv: &KvStore, out: &mut Vec<f32>) {
        let a = &self.architecture;
        let heads = Heads {
            n_head: a.n_head,
            n_kv_head: a.n_kv_head,
            head_dim: a.head_dim,
            scale: 1.0 / (a.head_dim as f32).sqrt(),
        };
        let width = a.n_head * a.head_dim;
        let qkv_width = (a.n_head + 2 * a.n_kv_head) * a.head_dim;
        out.resize(wave.tokens.len() * width, 0.0);
        let mut tasks = Vec::new();
        let mut rest = out.as_mut_slice();
        for segment in &wave.segments {
            for from in segment.rows.clone().step_by(ATTENTION_ROWS) {
                let to = segment.rows.end.min(from + ATTENTION_ROWS);
                let (mine, others) = rest.split_at_mut((to - from) * width);
                rest = others;
                tasks.push((segment, from..to, mine));
            }
        }
        let work = |room: &mut attention::Room, (segment, rows, out): Task<'_, '_>| {
            let past = segment.past.iter().map(|(id, len)| Span {
                layer: kv.layer(*id, layer),
                len: *len,
            });
            let own = Span {
                layer: kv.layer(segment.block, layer),
                len: kv.len(segment.block) + rows.end - segment.rows.start,
            };
            let spans: Vec<Span<'_>> = past.chain([own]).collect();
            let queries = &qkv[rows.start * qkv_width..rows.end * qkv_width];
            vector::fast(
                #[inline(always)]
                || attention::attend(heads, queries, &spans, room, out),
            );
        };
        tasks
            .into_par_iter()
            .for_each_init(attention::Room::default, work);
    }

    /// The MLP's nonlinearity: (T, F) from (T, F) in place or, gated, from (T, 2F).
    fn activate<'a>(&self, up: &'a mut [f32], gated: &'a mut Vec<f32>) -> &'a [f32] {
        let width = self.architecture.n_ff;
        match self.architecture.mlp {
            Mlp::Gelu => {
                ops::for_rows(
                    up,
                    width,
                    #[inline(always)]
                    |_, row| {
                        for x in row {
                            *x = vector::gelu(*x);
                        }
                    },
                );
                up
            }
            Mlp::SwiGlu => {
                gated.resize(up.len() / 2, 0.0);
                ops::for_rows(
                    gated,
                    width,
                    #[inline(always)]
                    |row, out| {
                        let (gate, up) = up[row * 2 * width..(row + 1) * 2 * width].split_at(width);
                        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                            *out = vector::silu(*gate) * up;
                        }
                    },
                );
                gated
            }
        }
    }
}

/// Some rows of a segment, with where their outputs go.
type Task<'a, 'out> = (&'a Segment, Range<usize>, &'out mut [f32]);

/// Cosines and sines of a wave's rotary angles.
struct Rotation {
    /// D / 2; 0 where positions are not rotary.
    half: usize,
    /// (T, D / 2) pairs of cosine and sine.
    angles: Vec<(f32, f32)>,
}

impl Rotation {
    fn new(architecture: &Architecture, wave: &Wave) -> Self {
        let Positions::Rope { frequencies } = &architecture.positions else {
            return Self {
                half: 0,
                angles: Vec::new(),
            };
        };
        let mut angles = Vec::with_capacity(wave.tokens.len() * frequencies.len());
        for segment in &wave.segments {
            for position in segment.start..segment.start + segment.rows.len() {
                // The angle is rounded to f32 first, as in Hugging Face's rotary embedding.
                angles.extend(frequencies.iter().map(|frequency| {
                    let angle = f64::from(position as f32 * frequency);
                    (angle.cos() as f32, angle.sin() as f32)
                }));
            }
        }
        Self {
            half: frequencies.len(),
            angles,
        }
    }

    /// Rotates one head of the wave's row `row`: element `i` pairs with `i + D/2`.
    #[inline(always)]
    fn apply(&self, row: usize, head: &mut [f32]) {
        if self.half == 0 {
            return;
        }
        let angles = &self.angles[row * self.half..(row + 1) * self.half];
        let (low, high) = head.split_at_mut(self.half);
        for ((x, y), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
            let (a, b) = (*x, *y);
            *x = a * cos - b * sin;
            *y = b * cos + a * sin;
        }
    }
}
