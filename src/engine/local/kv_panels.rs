//! Keys and values as [`super::kernel`] reads weights: in panels of 32 columns.
//!
//! Keys are columns of what queries are multiplied by, and the head's dimensions are
//! columns of what weights are.
//!
//! ```text
//! keys    (G, capacity / 32, D, 32)     capacity: a multiple of 32
//! values  (G, D / 32, capacity, 32)     D / 32 rounded up
//! ```
//!
//! What lies past a block's tokens is 0, or of another layer; it enters no sum that is
//! kept.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{Lanes, PANEL};
use super::kv::{Block, BlockId, KvStore, Shape};
use super::matrix::element;

/// The layers of a block that are kept.
#[derive(Debug)]
pub(crate) struct KvPanels(Vec<KvLayer>);

/// One layer of a block.
#[derive(Debug)]
pub(crate) struct KvLayer {
    keys: Vec<Lanes>,
    values: Vec<Lanes>,
    /// Positions there is room for.
    capacity: usize,
    head_dim: usize,
}

impl Block for KvPanels {
    fn new(shape: Shape, capacity: usize, n_layer: usize) -> Self {
        let capacity = capacity.next_multiple_of(PANEL);
        let (g, d) = (shape.n_kv_head, shape.head_dim);
        let layer = || KvLayer {
            keys: vec![Lanes::ZERO; g * d * capacity * 2 / PANEL],
            values: vec![Lanes::ZERO; g * d.div_ceil(PANEL) * capacity * 2],
            capacity,
            head_dim: d,
        };
        Self((0..n_layer).map(|_| layer()).collect())
    }
}

impl KvPanels {
    /// One layer, for reading.
    pub(crate) fn layer(&self, layer: usize) -> &KvLayer {
        &self.0[layer % self.0.len()]
    }
}

impl KvLayer {
    /// Panel `index` of the keys of head `g`, shape (D, 32): positions `32·index ..`.
    pub(crate) fn keys(&self, g: usize, index: usize) -> &[Lanes] {
        let length = 2 * self.head_dim;
        let at = (g * self.capacity / PANEL + index) * length;
        &self.keys[at..at + length]
    }

    /// The values of some positions of head `g`, shape (positions, 32): dimensions
    /// `32·index ..`.
    pub(crate) fn values(&self, g: usize, index: usize, positions: Range<usize>) -> &[Lanes] {
        let first = (g * self.head_dim.div_ceil(PANEL) + index) * self.capacity;
        &self.values[2 * (first + positions.start)..2 * (first + positions.end)]
    }

    /// The heads, each with its keys and its values.
    fn heads(&mut self) -> impl Iterator<Item = HeadRoom<'_>> {
        let (capacity, head_dim) = (self.capacity, self.head_dim);
        let n_keys = 2 * capacity / PANEL * head_dim;
        let n_values = 2 * head_dim.div_ceil(PANEL) * capacity;
        let keys = self.keys.chunks_exact_mut(n_keys);
        let heads = keys.zip(self.values.chunks_exact_mut(n_values));
        heads.map(move |(keys, values)| HeadRoom {
            keys,
            values,
            capacity,
        })
    }
}

/// Where the keys and values of one head go.
struct HeadRoom<'a> {
    /// (capacity / 32, D, 32)
    keys: &'a mut [Lanes],
    /// (D / 32, capacity, 32)
    values: &'a mut [Lanes],
    capacity: usize,
}

impl HeadRoom<'_> {
    /// Stores the key and value of position `at`, shape (D) each.
    fn write(&mut self, at: usize, key: &[f32], value: &[f32]) {
        let first = at / PANEL * 2 * key.len();
        let panel = &mut self.keys[first..first + 2 * key.len()];
        for (d, x) in key.iter().enumerate() {
            *element(panel, d, at % PANEL) = *x;
        }
        for (index, part) in value.chunks(PANEL).enumerate() {
            let first = index * 2 * self.capacity;
            let panel = &mut self.values[first..first + 2 * self.capacity];
            for (i, x) in part.iter().enumerate() {
                *element(panel, at, i) = *x;
            }
        }
    }
}

/// Rows of a wave whose keys and values go into one block.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub block: BlockId,
    /// Rows of the wave.
    pub rows: Range<usize>,
}

/// Stores keys and values behind the tokens that the blocks hold; no block twice.
///
/// `row(i)` is the wave's row `i`, keys and values side by side, shape (2·G·D).
pub(crate) fn write<'a>(
    kv: &mut KvStore<KvPanels>,
    shape: Shape,
    layer: usize,
    mut entries: Vec<Entry>,
    row: impl Fn(usize) -> &'a [f32] + Sync,
) {
    entries.sort_unstable_by_key(|it| it.block);
    let mut entries = entries.into_iter().peekable();
    let mut tasks = Vec::new();
    for (id, held) in kv.all_mut() {
        let Some(entry) = entries.next_if(|it| it.block == id) else {
            continue;
        };
        let (first, n_layer) = (held.len, held.block.0.len());
        let heads = held.block.0[layer % n_layer].heads().enumerate();
        tasks.extend(heads.map(|(g, room)| (g, room, entry.rows.clone(), first)));
    }
    let d = shape.head_dim;
    let work = |(g, mut room, rows, first): (usize, HeadRoom<'_>, Range<usize>, usize)| {
        for (i, row_index) in rows.enumerate() {
            let (keys, values) = row(row_index).split_at(shape.n_kv_head * d);
            let head = g * d..(g + 1) * d;
            room.write(first + i, &keys[head.clone()], &values[head]);
        }
    };
    tasks.into_par_iter().for_each(work);
}
