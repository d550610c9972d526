//! Keys and values in memory: blocks that several owners share, every byte counted.
//!
//! The trie's path, sequences that are being written and the wave at hand name the
//! same blocks; a block goes when its last owner gives it back. [`Pool::fits`] is
//! asked before anything is allocated, and a sequence that begins to be written has
//! room reserved to its end, so memory never runs out late.

use std::rc::Rc;

use super::architecture::Architecture;
use super::kernel::PANEL;
use super::kv::{self, BlockId, KvStore, Shape};

/// Bytes of an f32.
pub(super) const F32_BYTES: u64 = 4;

/// A run of tokens whose keys and values are in memory.
#[derive(Debug)]
pub(crate) struct Block {
    pub id: BlockId,
    /// Tokens that it holds once it is full.
    pub n_tokens: usize,
    n_bytes: u64,
}

/// All live blocks.
#[derive(Debug)]
pub(crate) struct Pool<B> {
    pub kv: KvStore<B>,
    sizes: Sizes,
    limit_bytes: u64,
    held_bytes: u64,
    reserved_bytes: u64,
}

/// What blocks of a model take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    layer_bytes: u64,
    n_layer: u64,
}

impl Sizes {
    pub(crate) fn new(a: &Architecture) -> Self {
        Self {
            // Keys, and values whose panels are padded: G·D floats each, per layer.
            layer_bytes: F32_BYTES
                * (a.n_kv_head * (a.head_dim + a.head_dim.next_multiple_of(PANEL))) as u64,
            n_layer: a.n_layer as u64,
        }
    }

    /// Keys and values of one token in all layers.
    pub(crate) fn token_bytes(&self) -> u64 {
        self.n_layer * self.layer_bytes
    }

    /// A block of `n_tokens` that keeps every layer; its room is rounded up.
    pub(crate) fn kept_bytes(&self, n_tokens: usize) -> u64 {
        self.n_layer.saturating_mul(self.transient_bytes(n_tokens))
    }

    /// A block of `n_tokens` with one layer at a time.
    pub(crate) fn transient_bytes(&self, n_tokens: usize) -> u64 {
        // Lengths come from settings of the model, which may say anything.
        let room = n_tokens.checked_next_multiple_of(PANEL);
        self.layer_bytes
            .saturating_mul(room.unwrap_or(n_tokens) as u64)
    }
}

impl<B: kv::Block> Pool<B> {
    /// An empty pool that holds at most `limit_bytes`, as far as it is asked.
    pub(crate) fn new(a: &Architecture, limit_bytes: u64) -> Self {
        let shape = Shape {
            n_kv_head: a.n_kv_head,
            head_dim: a.head_dim,
        };
        Self {
            kv: KvStore::new(a.n_layer, shape),
            sizes: Sizes::new(a),
            limit_bytes,
            held_bytes: 0,
            reserved_bytes: 0,
        }
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Whether `more_bytes` can be held besides what is held and reserved.
    pub(crate) fn fits(&self, more_bytes: u64) -> bool {
        let taken = self.held_bytes.saturating_add(self.reserved_bytes);
        taken.saturating_add(more_bytes) <= self.limit_bytes
    }

    /// Sets room aside.
    pub(crate) fn reserve(&mut self, n_bytes: u64) {
        self.reserved_bytes = self.reserved_bytes.saturating_add(n_bytes);
        debug_assert!(self.fits(0), "more than {} bytes", self.limit_bytes);
    }

    /// Whether nothing is held or reserved.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        (self.held_bytes, self.reserved_bytes) == (0, 0)
    }

    /// Gives room back that was set aside, or is now taken.
    pub(crate) fn unreserve(&mut self, n_bytes: u64) {
        self.reserved_bytes = self.reserved_bytes.saturating_sub(n_bytes);
    }

    /// A block that keeps every layer, for tokens that later waves attend to.
    pub(crate) fn kept(&mut self, n_tokens: usize) -> Rc<Block> {
        let id = self.kv.kept(n_tokens);
        self.hold(id, n_tokens, self.sizes.kept_bytes(n_tokens))
    }

    /// A block for tokens that nothing outside their own wave attends to.
    pub(crate) fn transient(&mut self, n_tokens: usize) -> Rc<Block> {
        let id = self.kv.transient(n_tokens);
        self.hold(id, n_tokens, self.sizes.transient_bytes(n_tokens))
    }

    fn hold(&mut self, id: BlockId, n_tokens: usize, n_bytes: u64) -> Rc<Block> {
        self.held_bytes += n_bytes;
        debug_assert!(self.fits(0), "more than {} bytes", self.limit_bytes);
        Rc::new(Block {
            id,
            n_tokens,
            n_bytes,
        })
    }

    /// Gives up one share of a block; the last one frees it.
    pub(crate) fn release(&mut self, block: Rc<Block>) {
        if let Some(block) = Rc::into_inner(block) {
            self.held_bytes -= block.n_bytes;
            self.kv.remove(block.id);
        }
    }
}
