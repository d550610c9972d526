//! The decoder: one code path for GPT-2, Llama, Mistral, Qwen2 and Qwen3.
//!
//! Takes a [`Wave`] of flat rows, each with its own token, position and visible
//! past, and returns hidden rows where asked. What differs between families is
//! data ([`Architecture`]); the code follows the papers in order (Radford et al.
//! 2019 for GPT-2, Touvron et al. 2023 for Llama, Yang et al. 2025 for Qwen3). How an
//! operation is computed is [`Arithmetic`]'s. Checked against Hugging Face transformers
//! in f32 (`tests/fixtures/models`).
//!
//! A wave is cut into parts, neighbouring rows that one thread takes through a layer: what
//! it wrote is still in its cache when it reads it. Parts meet where keys and values
//! of a layer are written, because rows attend to rows of other parts.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use rayon::prelude::*;

use super::architecture::{Architecture, Positions};
use super::arithmetic::{Angles, Arithmetic, Fallible, HeadNorms, Heads, Linear, Norm};
use super::kv::KvStore;
use super::wave::{Group, Wave, groups};
use super::weights::Stored;
use crate::engine::{EngineError, Stop};

// T rows of a part of a wave, H query heads, G key heads, D head size, E = residual width,
// F MLP width, V vocabulary.

/// A model's parameters.
#[derive(Debug)]
pub(crate) struct Decoder<A: Arithmetic> {
    pub architecture: Architecture,
    pub arithmetic: A,
    /// (V, E), row per token, as stored: few of its rows are ever read.
    pub token_embedding: Stored<'static>,
    /// (positions, E); empty unless positions are learned.
    pub position_embedding: Vec<f32>,
    pub layers: Vec<Layer<A>>,
    pub norm: Norm<A>,
    /// (E, V)
    pub head: A::Matrix,
    /// Room for the parts of the wave at hand.
    pub buffers: Mutex<Vec<Buffers<A>>>,
}

/// One layer's parameters.
#[derive(Debug)]
pub(crate) struct Layer<A: Arithmetic> {
    pub attention_norm: Norm<A>,
    /// (E, (H + 2G)·D): queries, keys, values side by side.
    pub qkv: Linear<A>,
    /// Qwen3 norms every head of the queries and keys.
    pub head_norms: Option<HeadNorms<A>>,
    /// (H·D, E)
    pub output: Linear<A>,
    pub mlp_norm: Norm<A>,
    /// (E, F); present where the MLP is gated (`SwiGlu`).
    pub gate: Option<Linear<A>>,
    /// (E, F)
    pub up: Linear<A>,
    /// (F, E)
    pub down: Linear<A>,
}

/// Rows at the stages of a layer, kept from wave to wave.
#[derive(Debug)]
pub(crate) struct Buffers<A: Arithmetic> {
    /// (T, E), the residual stream.
    x: A::Rows,
    /// (T, E)
    normed: A::Rows,
    /// (T, (H + 2G)·D)
    qkv: A::Rows,
    /// (T, H·D)
    attended: A::Rows,
    /// (T, F)
    hidden: A::Rows,
}

impl<A: Arithmetic> Default for Buffers<A> {
    fn default() -> Self {
        Self {
            x: A::Rows::default(),
            normed: A::Rows::default(),
            qkv: A::Rows::default(),
            attended: A::Rows::default(),
            hidden: A::Rows::default(),
        }
    }
}

/// Neighbouring rows of a wave that go through a layer together.
struct Part<'a, A: Arithmetic> {
    rows: Range<usize>,
    groups: Vec<Group<'a>>,
    angles: A::Angles,
    at: &'a mut Buffers<A>,
}

impl<A: Arithmetic> Decoder<A> {
    /// Computes a wave and returns the normed hidden rows `wanted`, shape (wanted, E).
    ///
    /// Keys and values are written into the segments' blocks, which count the new
    /// tokens afterwards. Returns `None` if a stop was seen between two layers; the
    /// blocks of the wave are then incomplete and must be dropped.
    pub(crate) fn forward(
        &self,
        wave: &Wave,
        wanted: &[usize],
        kv: &mut KvStore<A::Block>,
        stop: &Stop,
    ) -> Fallible<Option<A::Rows>> {
        // Taken out, so that no lock is held while this thread may pick up other work.
        let mut buffers = std::mem::take(&mut *self.kept_buffers());
        // Entered once per wave: the tasks of a layer then never wait for a worker to wake up.
        let hidden = rayon::scope(|_| self.forward_in(wave, wanted, kv, stop, &mut buffers));
        *self.kept_buffers() = buffers;
        hidden
    }

    fn kept_buffers(&self) -> MutexGuard<'_, Vec<Buffers<A>>> {
        self.buffers
            .lock()
            .expect("taking and giving does not panic")
    }

    fn forward_in(
        &self,
        wave: &Wave,
        wanted: &[usize],
        kv: &mut KvStore<A::Block>,
        stop: &Stop,
        buffers: &mut Vec<Buffers<A>>,
    ) -> Fallible<Option<A::Rows>> {
        let (ops, heads) = (&self.arithmetic, self.heads());
        let mut parts = self.parts(wave, buffers)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if stop.is_raised() {
                return Ok(None);
            }
            each(&mut parts, |Part { at, angles, .. }| {
                ops.norm(&at.x, &layer.attention_norm, &mut at.normed)?; // (T, E)
                ops.linear(&at.normed, &layer.qkv, &mut at.qkv)?; // (T, (H + 2G)·D)
                ops.position(&mut at.qkv, heads, layer.head_norms.as_ref(), angles)
            })?;
            let qkv: Vec<&A::Rows> = parts.iter().map(|it| &it.at.qkv).collect();
            ops.remember(&qkv, heads, wave, index, kv)?;
            let kv = &*kv;
            each(&mut parts, |Part { at, groups, .. }| {
                ops.attend(&at.qkv, heads, groups, index, kv, &mut at.attended)?; // (T, H·D)
                ops.add_linear(&at.attended, &layer.output, &mut at.x)?; // (T, E)
                ops.norm(&at.x, &layer.mlp_norm, &mut at.normed)?;
                self.widen(layer, at)?; // (T, F)
                ops.add_linear(&at.hidden, &layer.down, &mut at.x)
            })?;
        }
        for segment in &wave.segments {
            kv.advance(segment.block, segment.rows.len());
        }
        let x: Vec<&A::Rows> = parts.iter().map(|it| &it.at.x).collect();
        let place = |row: &usize| {
            let part = parts.partition_point(|it| it.rows.end <= *row);
            (part, row - parts[part].rows.start)
        };
        let places: Vec<(usize, usize)> = wanted.iter().map(place).collect();
        let mut hidden = A::Rows::default();
        ops.norm(&ops.gather(&x, &places)?, &self.norm, &mut hidden)?;
        Ok(Some(hidden))
    }

    /// The MLP's hidden layer.
    fn widen(&self, layer: &Layer<A>, at: &mut Buffers<A>) -> Fallible<()> {
        let ops = &self.arithmetic;
        if let Some(gate) = &layer.gate {
            return ops.swiglu(&at.normed, gate, &layer.up, &mut at.hidden);
        }
        ops.linear(&at.normed, &layer.up, &mut at.hidden)?;
        ops.gelu(&mut at.hidden)
    }

    fn heads(&self) -> Heads {
        let a = &self.architecture;
        Heads {
            n_head: a.n_head,
            n_kv_head: a.n_kv_head,
            head_dim: a.head_dim,
            scale: 1.0 / (a.head_dim as f32).sqrt(),
        }
    }

    /// Cuts a wave into parts of nearly equal length and embeds their tokens.
    fn parts<'a>(
        &self,
        wave: &'a Wave,
        buffers: &'a mut Vec<Buffers<A>>,
    ) -> Fallible<Vec<Part<'a, A>>> {
        let n_rows = wave.tokens.len();
        let n_parts = self.arithmetic.n_parts(n_rows).clamp(1, n_rows.max(1));
        if buffers.len() < n_parts {
            buffers.resize_with(n_parts, Buffers::default);
        }
        let mut parts = Vec::with_capacity(n_parts);
        let positions: Vec<usize> = wave.positions().collect();
        for (index, at) in buffers.iter_mut().take(n_parts).enumerate() {
            let rows = index * n_rows / n_parts..(index + 1) * n_rows / n_parts;
            let positions = &positions[rows.clone()];
            let x = self.embed(&wave.tokens[rows.clone()], positions)?;
            at.x = self.arithmetic.rows(x, self.architecture.n_embd, n_parts)?;
            parts.push(Part {
                groups: groups(&wave.segments, &rows),
                angles: self.arithmetic.angles(self.angles(positions))?,
                rows,
                at,
            });
        }
        Ok(parts)
    }

    /// The embeddings of some tokens, (T, E).
    fn embed(&self, tokens: &[u32], positions: &[usize]) -> Fallible<Vec<f32>> {
        let width = self.architecture.n_embd;
        let mut x = Vec::with_capacity(tokens.len() * width);
        for token in tokens {
            let row = *token as usize;
            self.token_embedding
                .decode_rows(row..row + 1, &mut x)
                .map_err(|err| EngineError {
                    message: err.to_string(),
                })?;
        }
        if self.architecture.positions == Positions::Learned {
            for (x, position) in x.chunks_exact_mut(width).zip(positions) {
                let embedding = &self.position_embedding[position * width..][..width];
                x.iter_mut().zip(embedding).for_each(|(x, e)| *x += e);
            }
        }
        Ok(x)
    }

    /// The rotary angles of some rows.
    fn angles(&self, positions: &[usize]) -> Angles {
        let Positions::Rope { frequencies } = &self.architecture.positions else {
            return Angles::default();
        };
        let mut angles = Angles {
            half: frequencies.len(),
            ..Angles::default()
        };
        for position in positions {
            for frequency in frequencies {
                // The angle is rounded to f32 first, as in Hugging Face's rotary embedding.
                let angle = f64::from(*position as f32 * frequency);
                angles.cosines.push(angle.cos() as f32);
                angles.sines.push(angle.sin() as f32);
            }
        }
        angles
    }
}

/// Does `work` for every part, in parallel; returns the first part's error.
fn each<A: Arithmetic>(
    parts: &mut [Part<'_, A>],
    work: impl Fn(&mut Part<'_, A>) -> Fallible<()> + Sync,
) -> Fallible<()> {
    if let [part] = parts {
        return work(part);
    }
    let done: Vec<Fallible<()>> = parts.par_iter_mut().with_max_len(1).map(&work).collect();
    done.into_iter().collect()
}
