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
//! What lies past `len` is 0 or of tokens that were dropped; nobody reads it into a sum.

use std::ops::Range;

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

    /// `key` and `value` have shape (G, D).
    fn write(&mut self, at: usize, key: &[f32], value: &[f32]) {
        let (capacity, head_dim) = (self.capacity, self.head_dim);
        for (g, key) in key.chunks_exact(head_dim).enumerate() {
            let first = (g * capacity / PANEL + at / PANEL) * 2 * head_dim;
            let panel = &mut self.keys[first..first + 2 * head_dim];
            for (d, x) in key.iter().enumerate() {
                *element(panel, d, at % PANEL) = *x;
            }
        }
        for (g, value) in value.chunks_exact(head_dim).enumerate() {
            for (index, part) in value.chunks(PANEL).enumerate() {
                let first = (g * head_dim.div_ceil(PANEL) + index) * 2 * capacity;
                let panel = &mut self.values[first..first + 2 * capacity];
                for (i, x) in part.iter().enumerate() {
                    *element(panel, at, i) = *x;
                }
            }
        }
    }
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

    /// Stores the key and value of one token, `at` tokens into the block.
    ///
    /// `key` and `value` have shape (G, D).
    pub(crate) fn write(
        &mut self,
        id: BlockId,
        layer: usize,
        at: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let block = self.block_mut(id);
        let n_layer = block.layers.len();
        block.layers[layer % n_layer].write(at, key, value);
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
