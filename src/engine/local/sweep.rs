//! Runs a trie through the decoder, wave by wave.
//!
//! Whole nodes are packed without padding into waves of about [`WAVE_ROWS`] rows,
//! in pre-order. Keys and values of a node are kept only while part of its subtree
//! is still to come, so memory is bounded by the longest path plus one wave.

use std::ops::Range;

use super::decoder::{Decoder, Segment, Wave};
use super::kv::{BlockId, KvStore};
use super::trie::Trie;
use crate::engine::{EngineError, Stop};

/// Rows of a wave: enough that packing a weight is small beside multiplying by it.
pub(crate) const WAVE_ROWS: usize = 256;

/// What happens to keys and values once nothing in the trie needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// They are dropped.
    Nothing,
    /// They stay, for generations that go on from here.
    All,
}

/// One wanted row: its node and its offset in the node's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedRow {
    pub node: usize,
    pub offset: usize,
}

/// A trie to be computed.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a> {
    pub decoder: &'a Decoder,
    /// The sequences that the trie was made of.
    pub sequences: &'a [&'a [u32]],
    pub trie: &'a Trie,
    pub keep: Keep,
}

/// A wave with the hidden rows that are wanted of it.
#[derive(Default)]
struct Packed {
    wave: Wave,
    /// Rows of the wave ...
    wave_rows: Vec<usize>,
    /// ... and where in the trie they are.
    wanted: Vec<WantedRow>,
}

impl Sweep<'_> {
    /// Computes every node and hands over the hidden rows that are wanted.
    ///
    /// `wanted(node)` lists offsets into the node's span, ascending. After each wave
    /// `on_wave(rows, hidden)` gets them, `hidden` with shape (rows, E). Returns the
    /// block of every node if all are kept, an empty list if nothing is, and `None` if
    /// a stop was seen.
    pub(crate) fn run(
        &self,
        kv: &mut KvStore,
        stop: &Stop,
        wanted: impl Fn(usize) -> Vec<usize>,
        mut on_wave: impl FnMut(&[WantedRow], Vec<f32>) -> Result<(), EngineError>,
    ) -> Result<Option<Vec<BlockId>>, EngineError> {
        let nodes = &self.trie.nodes;
        let mut blocks: Vec<Option<BlockId>> = vec![None; nodes.len()];
        let mut live: Vec<usize> = Vec::new();
        let mut next = 0;
        while next < nodes.len() {
            let first = next;
            next = self.wave_end(first);
            for index in first..next {
                let outlives = self.keep == Keep::All || next < nodes[index].subtree_end;
                let capacity = nodes[index].span.len();
                let block = if outlives {
                    kv.kept(capacity)
                } else {
                    kv.transient(capacity)
                };
                blocks[index] = Some(block);
                live.push(index);
            }
            let packed = self.pack(first..next, &blocks, &wanted);
            let hidden = self
                .decoder
                .forward(&packed.wave, &packed.wave_rows, kv, stop)?;
            live.retain(|node| {
                let is_needed = self.keep == Keep::All || next < nodes[*node].subtree_end;
                if is_needed && hidden.is_some() {
                    return true;
                }
                if let Some(block) = blocks[*node].take() {
                    kv.remove(block);
                }
                false
            });
            let Some(hidden) = hidden else {
                return Ok(None);
            };
            on_wave(&packed.wanted, hidden)?;
        }
        Ok(Some(blocks.into_iter().flatten().collect()))
    }

    /// One past the last node of the wave that begins at `first`.
    fn wave_end(&self, first: usize) -> usize {
        let mut n_rows = 0;
        let nodes = self.trie.nodes[first..].iter().take_while(|it| {
            n_rows += it.span.len();
            n_rows <= WAVE_ROWS
        });
        // No node is longer than a wave, so the first always fits.
        first + nodes.count().max(1)
    }

    fn pack(
        &self,
        range: Range<usize>,
        blocks: &[Option<BlockId>],
        wanted: &impl Fn(usize) -> Vec<usize>,
    ) -> Packed {
        let mut packed = Packed::default();
        for index in range {
            let node = &self.trie.nodes[index];
            let from = packed.wave.tokens.len();
            let tokens = &self.sequences[node.sequence][node.span.clone()];
            packed.wave.tokens.extend_from_slice(tokens);
            let live = |node: usize| blocks[node].expect("a node and its ancestors are live");
            let mut past = self.trie.path(index);
            past.pop();
            packed.wave.segments.push(Segment {
                rows: from..packed.wave.tokens.len(),
                start: node.span.start,
                past: past
                    .iter()
                    .map(|it| (live(*it), self.trie.nodes[*it].span.len()))
                    .collect(),
                block: live(index),
            });
            for offset in wanted(index) {
                packed.wanted.push(WantedRow {
                    node: index,
                    offset,
                });
                packed.wave_rows.push(from + offset);
            }
        }
        packed
    }
}
