//! Runs a trie through the decoder, wave by wave.
//!
//! Whole nodes are packed without padding into waves of about [`WAVE_ROWS`] rows,
//! in pre-order. Keys and values of a node are kept only while part of its subtree
//! is still to come, so memory is bounded by the longest path plus one wave.

use super::decoder::{Decoder, Segment, Wave};
use super::kv::{BlockId, KvStore};
use super::trie::Trie;
use crate::engine::{EngineError, Stop};

/// Rows of a wave; a matrix product is close to its best rate from here on.
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

/// Computes every node of `trie` and hands over the hidden rows that are wanted.
///
/// `wanted(node)` lists offsets into the node's span, ascending. After each wave
/// `on_wave(rows, hidden)` gets them, `hidden` with shape (rows, E). Returns the
/// block of every node if all are kept, an empty list if nothing is, and `None` if
/// a stop was seen.
pub(crate) fn sweep(
    decoder: &Decoder,
    sequences: &[&[u32]],
    trie: &Trie,
    keep: Keep,
    kv: &mut KvStore,
    stop: &Stop,
    wanted: impl Fn(usize) -> Vec<usize>,
    mut on_wave: impl FnMut(&[WantedRow], Vec<f32>) -> Result<(), EngineError>,
) -> Result<Option<Vec<BlockId>>, EngineError> {
    let mut blocks: Vec<Option<BlockId>> = vec![None; trie.nodes.len()];
    let mut live: Vec<usize> = Vec::new();
    let mut next = 0;
    while next < trie.nodes.len() {
        let first = next;
        let mut n_rows = 0;
        while next < trie.nodes.len() {
            let len = trie.nodes[next].span.len();
            if 0 < n_rows && WAVE_ROWS < n_rows + len {
                break;
            }
            n_rows += len;
            next += 1;
        }
        let mut wave = Wave::default();
        let mut rows = Vec::new();
        let mut wave_rows = Vec::new();
        for index in first..next {
            let node = &trie.nodes[index];
            let outlives = keep == Keep::All || next < node.subtree_end;
            let block = if outlives {
                kv.kept(node.span.len())
            } else {
                kv.transient(node.span.len())
            };
            blocks[index] = Some(block);
            live.push(index);
            let from = wave.tokens.len();
            wave.tokens
                .extend_from_slice(&sequences[node.sequence][node.span.clone()]);
            let mut past = trie.path(index);
            past.pop();
            let past = past.into_iter().map(|it| {
                (
                    blocks[it].expect("ancestors are live"),
                    trie.nodes[it].span.len(),
                )
            });
            wave.segments.push(Segment {
                rows: from..wave.tokens.len(),
                start: node.span.start,
                past: past.collect(),
                block,
            });
            for offset in wanted(index) {
                rows.push(WantedRow {
                    node: index,
                    offset,
                });
                wave_rows.push(from + offset);
            }
        }
        let hidden = decoder.forward(&wave, &wave_rows, kv, stop)?;
        if keep == Keep::Nothing {
            live.retain(|node| {
                let needed = next < trie.nodes[*node].subtree_end && hidden.is_some();
                if let (false, Some(block)) = (needed, blocks[*node].take_if(|_| !needed)) {
                    kv.remove(block);
                }
                needed
            });
        }
        let Some(hidden) = hidden else {
            live.drain(..)
                .filter_map(|node| blocks[node].take())
                .for_each(|it| kv.remove(it));
            return Ok(None);
        };
        on_wave(&rows, hidden)?;
    }
    Ok(Some(blocks.into_iter().flatten().collect()))
}
