//! Keys and values of computed tokens, in blocks that sequences share.
//!
//! A [`Block`] holds one run of consecutive tokens. A sequence's past is a list of
//! blocks in position order, so two sequences with a common beginning name the
//! same blocks. Inside a block both lie as [`super::kernel`] reads weights, in panels
//! of 32 columns: keys are columns of what queries are multiplied by, and the head's
//! dimensions are columns of what weights are.
//!
//! ```text
//! keys    (G, capacity / 32, D, 32)     capacity: a multiple of 32
//! values  (G, D / 32, capacity, 32)     D / 32 rounded up
//! ```
//!
//! What lies past `len` is 0, or of another layer; it enters no sum that is kept.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel::{Lanes, PANEL};
use super::matrix::element;

/// Names a block in a [`KvStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockId(usize);

/// All live blocks.
#[derive(Debug)]
pub(crate) struct KvStore {
    n_layer: usize,
    n_kv_head: usize,
    head_dim: usize,
    blocks: Vec<Option<Block>>,
    free: Vec<usize>,
}

/// Keys and values of one run of tokens.
#[derive(Debug)]
pub(crate) struct Block {
    /// Tokens whose keys and values are complete in every layer that is kept.
    pub len: usize,
    capacity: usize,
    layers: Vec<KvLayer>,
}

/// One layer of a block.
#[derive(Debug)]
pub(crate) struct KvLayer {
    keys: Vec<Lanes>,
    values: Vec<Lanes>,
    /// Positions there is room for.
    capacity: usize,
    head_dim: usize,
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

impl KvStore {
    pub(crate) fn new(n_layer: usize, n_kv_head: usize, head_dim: usize) -> Self {
        Self {
            n_layer,
            n_kv_head,
            head_dim,
            blocks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// A block that keeps every layer, for tokens that others will attend to.
    pub(crate) fn kept(&mut self, capacity: usize) -> BlockId {
        self.insert(capacity, self.n_layer)
    }

    /// A block whose one buffer is overwritten layer by layer.
    ///
    /// Enough for tokens that nothing outside their own wave attends to.
    pub(crate) fn transient(&mut self, capacity: usize) -> BlockId {
        self.insert(capacity, 1)
    }

    fn insert(&mut self, capacity: usize, n_layer: usize) -> BlockId {
        let capacity = capacity.next_multiple_of(PANEL);
        let (g, d) = (self.n_kv_head, self.head_dim);
        let n_keys = g * d * capacity * 2 / PANEL;
        let n_values = g * d.div_ceil(PANEL) * capacity * 2;
        let layer = || KvLayer {
            keys: vec![Lanes::ZERO; n_keys],
            values: vec![Lanes::ZERO; n_values],
            capacity,
            head_dim: d,
        };
        let block = Block {
            len: 0,
            capacity,
            layers: (0..n_layer).map(|_| layer()).collect(),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() - 1
        });
        self.blocks[index] = Some(block);
        BlockId(index)
    }

    /// Drops a block; its id must not be used again.
    pub(crate) fn remove(&mut self, id: BlockId) {
        self.blocks[id.0] = None;
        self.free.push(id.0);
    }

    /// Tokens in a block.
    pub(crate) fn len(&self, id: BlockId) -> usize {
        self.block(id).len
    }

    /// Counts `n` tokens, written in every layer, as part of the block.
    pub(crate) fn advance(&mut self, id: BlockId, n: usize) {
        let block = self.block_mut(id);
        block.len += n;
        debug_assert!(
            block.len <= block.capacity,
            "a block never outgrows its capacity"
        );
    }

    /// One layer of a block, for reading.
    pub(crate) fn layer(&self, id: BlockId, layer: usize) -> &KvLayer {
        let block = self.block(id);
        &block.layers[layer % block.layers.len()]
    }

    /// Stores keys and values behind the tokens that the blocks hold; no block twice.
    ///
    /// `row(i)` is the wave's row `i`, keys and values side by side, shape (2·G·D).
    pub(crate) fn write<'a>(
        &mut self,
        layer: usize,
        entries: &[Entry],
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) {
        let (n_kv_head, head_dim) = (self.n_kv_head, self.head_dim);
        let mut rows_of = vec![None; self.blocks.len()];
        for entry in entries {
            rows_of[entry.block.0] = Some(entry.rows.clone());
        }
        let mut tasks = Vec::with_capacity(entries.len() * n_kv_head);
        for (block, rows) in self.blocks.iter_mut().zip(rows_of) {
            let (Some(block), Some(rows)) = (block, rows) else {
                continue;
            };
            let (first, n_layer) = (block.len, block.layers.len());
            let heads = block.layers[layer % n_layer].heads().enumerate();
            tasks.extend(heads.map(|(g, room)| (g, room, rows.clone(), first)));
        }
        tasks
            .into_par_iter()
            .for_each(|(g, mut room, rows, first)| {
                for (i, row_index) in rows.enumerate() {
                    let (keys, values) = row(row_index).split_at(n_kv_head * head_dim);
                    let head = g * head_dim..(g + 1) * head_dim;
                    room.write(first + i, &keys[head.clone()], &values[head]);
                }
            });
    }

    fn block(&self, id: BlockId) -> &Block {
        self.blocks[id.0]
            .as_ref()
            .expect("a removed block is never named again")
    }

    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        self.blocks[id.0]
            .as_mut()
            .expect("a removed block is never named again")
    }
}
