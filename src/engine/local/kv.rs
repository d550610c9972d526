//! Keys and values of computed tokens, in blocks that sequences share.
//!
//! A block holds one run of consecutive tokens. A sequence's past is a list of
//! blocks in position order, so two sequences with a common beginning name the
//! same blocks. What a block is made of belongs to the arithmetic.

use std::fmt::Debug;

use super::arithmetic::Heads;

/// Names a block in a [`KvStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockId(usize);

/// Room for the keys and values of a run of tokens.
pub(crate) trait Block: Debug {
    /// Room for `capacity` tokens in `n_layer` layers at a time.
    fn new(shape: Shape, capacity: usize, n_layer: usize) -> Self;
}

/// The shape of one token's keys, and of its values, in one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Key heads, G.
    pub n_kv_head: usize,
    /// Width of a head, D.
    pub head_dim: usize,
}

impl From<Heads> for Shape {
    fn from(heads: Heads) -> Self {
        Self {
            n_kv_head: heads.n_kv_head,
            head_dim: heads.head_dim,
        }
    }
}

/// All live blocks.
#[derive(Debug)]
pub(crate) struct KvStore<B> {
    n_layer: usize,
    shape: Shape,
    blocks: Vec<Option<Held<B>>>,
    free: Vec<usize>,
}

/// A block with its tokens.
#[derive(Debug)]
pub(crate) struct Held<B> {
    /// Tokens whose keys and values are complete in every layer that is kept.
    pub len: usize,
    capacity: usize,
    pub block: B,
}

impl<B: Block> KvStore<B> {
    pub(crate) fn new(n_layer: usize, shape: Shape) -> Self {
        Self {
            n_layer,
            shape,
            blocks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// A block that keeps every layer, for tokens that others will attend to.
    pub(crate) fn kept(&mut self, capacity: usize) -> BlockId {
        self.insert(capacity, self.n_layer)
    }

    /// A block whose one layer is overwritten by the next.
    ///
    /// Enough for tokens that nothing outside their own wave attends to.
    pub(crate) fn transient(&mut self, capacity: usize) -> BlockId {
        self.insert(capacity, 1)
    }

    fn insert(&mut self, capacity: usize, n_layer: usize) -> BlockId {
        let held = Held {
            len: 0,
            capacity,
            block: B::new(self.shape, capacity, n_layer),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            self.blocks.len() - 1
        });
        self.blocks[index] = Some(held);
        BlockId(index)
    }

    /// Drops a block; its id must not be used again.
    pub(crate) fn remove(&mut self, id: BlockId) {
        self.blocks[id.0] = None;
        self.free.push(id.0);
    }

    /// Tokens in a block.
    pub(crate) fn len(&self, id: BlockId) -> usize {
        self.held(id).len
    }

    /// What a block is made of.
    pub(crate) fn block(&self, id: BlockId) -> &B {
        &self.held(id).block
    }

    /// A block, to be written.
    pub(crate) fn held_mut(&mut self, id: BlockId) -> &mut Held<B> {
        self.blocks[id.0]
            .as_mut()
            .expect("a removed block is never named again")
    }

    /// All blocks, to be written.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = (BlockId, &mut Held<B>)> {
        let blocks = self.blocks.iter_mut().enumerate();
        blocks.filter_map(|(index, it)| it.as_mut().map(|it| (BlockId(index), it)))
    }

    /// Counts `n` tokens, written in every layer, as part of the block.
    pub(crate) fn advance(&mut self, id: BlockId, n: usize) {
        let held = self.held_mut(id);
        held.len += n;
        debug_assert!(
            held.len <= held.capacity,
            "a block never outgrows its capacity"
        );
    }

    fn held(&self, id: BlockId) -> &Held<B> {
        self.blocks[id.0]
            .as_ref()
            .expect("a removed block is never named again")
    }
}
