//! Keys and values of computed tokens, in blocks that sequences share.
//!
//! A [`Block`] holds one run of consecutive tokens. A sequence's past is a list of
//! blocks in position order, so two sequences with a common beginning name the
//! same blocks. Inside a block, keys lie transposed per head, so that scores are
//! computed for neighbouring keys at once:
//!
//! ```text
//! keys    (G, D, capacity)     capacity: a multiple of KEY_TILE, zeros past `len`
//! values  (G, capacity, D)
//! ```

/// Keys are read in tiles of this many positions.
pub(crate) const KEY_TILE: usize = 16;

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
    /// (G, D, capacity)
    pub keys: Vec<f32>,
    /// (G, capacity, D)
    pub values: Vec<f32>,
    /// Positions there is room for.
    pub capacity: usize,
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
        let capacity = capacity.next_multiple_of(KEY_TILE);
        let n = self.n_kv_head * self.head_dim * capacity;
        let layer = || KvLayer {
            keys: vec![0.0; n],
            values: vec![0.0; n],
            capacity,
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
        let (n_kv_head, head_dim) = (self.n_kv_head, self.head_dim);
        let block = self.block_mut(id);
        let n_layer = block.layers.len();
        let layer = &mut block.layers[layer % n_layer];
        for (row, x) in key.iter().enumerate() {
            layer.keys[row * layer.capacity + at] = *x;
        }
        for g in 0..n_kv_head {
            let start = (g * layer.capacity + at) * head_dim;
            layer.values[start..start + head_dim]
                .copy_from_slice(&value[g * head_dim..(g + 1) * head_dim]);
        }
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
