//! The seam between the decoder and what computes it.
//!
//! [`super::decoder`] says what is computed, in the paper's order; an [`Arithmetic`] says
//! how. There are two: [`super::cpu`], loops on slices whose bits are the engine's
//! promise, and [`super::tensors`], candle operations on any of candle's devices. The
//! second is the oracle of the first, and where another device begins.

use std::fmt::Debug;

use super::LoadError;
use super::architecture::NormKind;
use super::head::{Pick, RowSummary};
use super::kv::{Block, KvStore};
use super::matrix::Part;
use super::wave::{Group, Wave};
use crate::engine::EngineError;

// T rows of a part of a wave, H query heads, G key heads, D head size, E = residual width,
// F MLP width, V vocabulary.

/// What an operation returns: a device may fail.
pub(crate) type Fallible<T> = Result<T, EngineError>;

/// A linear map `x · weight + bias`.
#[derive(Debug)]
pub(crate) struct Linear<A: Arithmetic> {
    /// (k, n)
    pub weight: A::Matrix,
    /// (n)
    pub bias: Option<A::Vector>,
}

/// A norm layer's parameters.
#[derive(Debug)]
pub(crate) struct Norm<A: Arithmetic> {
    pub kind: NormKind,
    /// (E), or (D) for the norm of a head.
    pub weight: A::Vector,
    /// (E); absent for an RMS norm.
    pub bias: Option<A::Vector>,
}

/// Norms of single heads of the queries and keys, (D) each.
#[derive(Debug)]
pub(crate) struct HeadNorms<A: Arithmetic> {
    pub query: Norm<A>,
    pub key: Norm<A>,
}

/// Shape of the heads, and the scale of the scores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Query heads, H.
    pub n_head: usize,
    /// Key heads, G.
    pub n_kv_head: usize,
    /// Width of a head, D.
    pub head_dim: usize,
    /// Multiplies every score; 1/sqrt(D).
    pub scale: f32,
}

impl Heads {
    /// Query heads that share a key head.
    pub(crate) fn n_rep(&self) -> usize {
        self.n_head / self.n_kv_head
    }

    /// Floats of a row's queries, H·D.
    pub(crate) fn query_width(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Floats of a row's keys, or of its values, G·D.
    pub(crate) fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Floats of a row's queries, keys and values.
    pub(crate) fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }
}

/// Cosines and sines of the rotary angles of some rows.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    /// D / 2; 0 where positions are not rotary.
    pub half: usize,
    /// (T, D / 2)
    pub cosines: Vec<f32>,
    /// (T, D / 2)
    pub sines: Vec<f32>,
}

/// How a decoder is computed.
///
/// Operations write into buffers of the caller, which are used again from layer to layer
/// and change their shape as needed. What an operation computes for a row depends on no
/// other row but those that the row attends to.
pub(crate) trait Arithmetic: Sized + Debug + Send + Sync {
    /// Activations, (T, width).
    type Rows: Debug + Default + Send + Sync;
    /// Parameters in one dimension.
    type Vector: Debug + Send + Sync;
    /// A weight (k, n).
    type Matrix: Debug + Send + Sync;
    /// Keys and values of a run of tokens.
    type Block: Block + Send + Sync;
    /// [`Angles`] where the operations want them.
    type Angles: Debug + Send + Sync;

    /// Takes parameters over.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector, LoadError>;

    /// Puts stored tensors of `k` inputs side by side; every value is decoded once here.
    fn matrix(&self, k: usize, parts: &[Part<'_>]) -> Result<Self::Matrix, LoadError>;

    /// Into how many parts a wave is cut that are computed at the same time, at least 1.
    fn n_parts(&self, n_rows: usize) -> usize;

    /// Takes rows over, one of `n_parts` parts of a wave: (T, width).
    fn rows(&self, values: Vec<f32>, width: usize, n_parts: usize) -> Fallible<Self::Rows>;

    /// Takes angles over.
    fn angles(&self, angles: Angles) -> Fallible<Self::Angles>;

    /// `y = norm(x)`, row by row; `y` becomes (T, E).
    fn norm(&self, x: &Self::Rows, norm: &Norm<Self>, y: &mut Self::Rows) -> Fallible<()>;

    /// `y = x · weight + bias`: `x` (T, k), `y` becomes (T, n).
    fn linear(&self, x: &Self::Rows, linear: &Linear<Self>, y: &mut Self::Rows) -> Fallible<()>;

    /// `y += x · weight + bias`: `x` (T, k), `y` (T, n).
    fn add_linear(&self, x: &Self::Rows, linear: &Linear<Self>, y: &mut Self::Rows)
    -> Fallible<()>;

    /// The tanh form of gelu, element by element.
    fn gelu(&self, x: &mut Self::Rows) -> Fallible<()>;

    /// `y = silu(gate(x)) · up(x)`: `x` (T, E), `y` becomes (T, F).
    fn swiglu(
        &self,
        x: &Self::Rows,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        y: &mut Self::Rows,
    ) -> Fallible<()>;

    /// Norms the heads of queries and keys, where there are norms, and rotates them:
    /// `qkv` (T, (H + 2G)·D).
    fn position(
        &self,
        qkv: &mut Self::Rows,
        heads: Heads,
        norms: Option<&HeadNorms<Self>>,
        angles: &Self::Angles,
    ) -> Fallible<()>;

    /// Writes keys and values of all rows of a wave behind what the segments' blocks hold.
    /// The parts' `qkv` (T, (H + 2G)·D) together are the wave's rows in order.
    fn remember(
        &self,
        qkv: &[&Self::Rows],
        heads: Heads,
        wave: &Wave,
        layer: usize,
        kv: &mut KvStore<Self::Block>,
    ) -> Fallible<()>;

    /// Causal attention for the rows of `groups`, which are those of `qkv` (T, (H + 2G)·D)
    /// in order; `y` becomes (T, H·D).
    fn attend(
        &self,
        qkv: &Self::Rows,
        heads: Heads,
        groups: &[Group<'_>],
        layer: usize,
        kv: &KvStore<Self::Block>,
        y: &mut Self::Rows,
    ) -> Fallible<()>;

    /// Some rows, each given by its part and its row there, in one part of its own.
    fn gather(&self, parts: &[&Self::Rows], rows: &[(usize, usize)]) -> Fallible<Self::Rows>;

    /// The summary of every row's logits, and the logit of every pick: `hidden` (T, E),
    /// `head` (E, V).
    fn scan(
        &self,
        hidden: &Self::Rows,
        head: &Self::Matrix,
        picks: &[Pick],
    ) -> Fallible<(Vec<RowSummary>, Vec<f32>)>;

    /// All logits, (T, V): `hidden` (T, E), `head` (E, V).
    fn logits(&self, hidden: &Self::Rows, head: &Self::Matrix) -> Fallible<Vec<f32>>;
}
