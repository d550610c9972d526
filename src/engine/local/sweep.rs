//! Walks a trie in pre-order and packs its rows into waves, without padding.
//!
//! A wave takes whole nodes as long as there is room, and ends behind a whole subtree
//! where one ends near its end; a run that is longer than a wave is cut. Keys and
//! values of a node are kept only while part of its subtree, or a sequence that is
//! written from it, is still to come: between two waves the trie holds the blocks of
//! one path. A leaf whose rows are in one wave never stores any.

use std::ops::Range;
use std::rc::Rc;

use super::kv;
use super::pool::{Block, Pool};
use super::trie::Trie;
use super::wave::{Segment, Wave};
use super::window::Task;

/// A trie that is being computed.
pub(crate) struct Sweep<'t, 'a> {
    tasks: &'t [Task<'a>],
    fed: Vec<&'a [u32]>,
    pub trie: Trie,
    /// The generations among the tasks, in the order of the nodes where they begin ...
    ends: Vec<usize>,
    /// ... and for each node how many begin before it; one more at the end.
    n_ends_before: Vec<usize>,
    blocks: Vec<Option<Rc<Block>>>,
    /// Nodes that have a block.
    live: Vec<usize>,
    /// The first node that is not computed to its end, and how many rows of it are.
    next: usize,
    n_done: usize,
    /// What the wave at hand takes of the trie, from `next` on.
    cut: Cut,
}

/// A wave is nearly full when one part in so many of its rows is left.
const NEARLY_FULL: usize = 8;

/// Where a wave ends: behind whole nodes up to `end`, and `n_part` further rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cut {
    end: usize,
    n_part: usize,
}

/// Rows of a node that are in a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub node: usize,
    /// Which rows of the node's span.
    pub offsets: Range<usize>,
    /// The row of the wave at which they begin.
    pub first_row: usize,
}

/// What a wave may take of the trie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Rows.
    pub n_rows: usize,
    /// Generations that may begin; the last one may bring others from the same node.
    pub n_beginning: usize,
    /// Bytes that must stay free for the next sequence that waits to be written.
    pub spare_bytes: u64,
    /// Whether at least one row must be taken, because nothing else can go on.
    pub is_forced: bool,
}

impl<'t, 'a> Sweep<'t, 'a> {
    /// The trie of `tasks`, which are sorted by what they feed; nothing is computed yet.
    pub(crate) fn new(tasks: &'t [Task<'a>]) -> Self {
        let fed: Vec<&[u32]> = tasks.iter().map(Task::fed).collect();
        let trie = Trie::new(&fed);
        let ends: Vec<usize> = (0..tasks.len())
            .filter(|it| tasks[*it].is_generation())
            .collect();
        let mut n_ends_before = vec![0; trie.nodes.len() + 1];
        for task in &ends {
            n_ends_before[trie.last_node[*task] + 1] += 1;
        }
        for node in 0..trie.nodes.len() {
            n_ends_before[node + 1] += n_ends_before[node];
        }
        Self {
            tasks,
            fed,
            blocks: vec![None; trie.nodes.len()],
            trie,
            ends,
            n_ends_before,
            live: Vec::new(),
            next: 0,
            n_done: 0,
            cut: Cut::default(),
        }
    }

    /// Whether every row is computed.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.trie.nodes.len()
    }

    /// The generations that begin behind `node`.
    pub(crate) fn ends_of(&self, node: usize) -> impl Iterator<Item = Task<'a>> + '_ {
        self.ends_within(node..node + 1)
            .iter()
            .map(|it| self.tasks[*it])
    }

    /// The blocks of everything from a root to the end of `node`.
    pub(crate) fn past_of(&self, node: usize) -> Vec<Rc<Block>> {
        let path = self.trie.path(node);
        path.into_iter()
            .map(|it| Rc::clone(self.block(it)))
            .collect()
    }

    fn ends_within(&self, nodes: Range<usize>) -> &[usize] {
        &self.ends[self.n_ends_before[nodes.start]..self.n_ends_before[nodes.end]]
    }

    fn block(&self, node: usize) -> &Rc<Block> {
        self.blocks[node]
            .as_ref()
            .expect("nodes of the wave, their ancestors and ends that begin in it are live")
    }

    /// Adds rows to `wave` as far as there is room, and says which.
    ///
    /// After the wave is computed comes [`Sweep::advance`].
    pub(crate) fn pack<B: kv::Block>(
        &mut self,
        room: Room,
        spare_bytes_of: impl Fn(&Task<'a>) -> u64,
        pool: &mut Pool<B>,
        wave: &mut Wave,
    ) -> Vec<Part> {
        self.cut = self.fill(room, spare_bytes_of, pool);
        if room.is_forced && self.cut == self.nothing() {
            self.cut = self.one_node(room);
        }
        let mut parts = Vec::new();
        for node in self.next..self.cut.end {
            parts.push(self.append(node, self.trie.nodes[node].span.len(), pool, wave));
        }
        if 0 < self.cut.n_part {
            let done = self.n_done_of(self.cut.end);
            parts.push(self.append(self.cut.end, done + self.cut.n_part, pool, wave));
        }
        parts
    }

    fn nothing(&self) -> Cut {
        Cut {
            end: self.next,
            n_part: 0,
        }
    }

    fn n_done_of(&self, node: usize) -> usize {
        if node == self.next { self.n_done } else { 0 }
    }

    /// The next node, or as much of it as a wave takes.
    fn one_node(&self, room: Room) -> Cut {
        let left = self.trie.nodes[self.next].span.len() - self.n_done;
        if left <= room.n_rows {
            Cut {
                end: self.next + 1,
                n_part: 0,
            }
        } else {
            Cut {
                end: self.next,
                n_part: room.n_rows,
            }
        }
    }

    /// Where a wave ends that takes what there is room for.
    fn fill<B: kv::Block>(
        &self,
        room: Room,
        spare_bytes_of: impl Fn(&Task<'a>) -> u64,
        pool: &Pool<B>,
    ) -> Cut {
        if room.n_rows == 0 {
            return self.nothing();
        }
        let nodes = &self.trie.nodes;
        let (mut n_rows, mut n_bytes, mut n_beginning) = (0, 0, 0);
        let mut spare_bytes = room.spare_bytes;
        for (end, node) in nodes.iter().enumerate().skip(self.next) {
            let ends = self.ends_within(end..end + 1);
            if !ends.is_empty() && room.n_beginning <= n_beginning {
                return Cut { end, n_part: 0 };
            }
            n_beginning += ends.len();
            let spare = ends.iter().map(|it| spare_bytes_of(&self.tasks[*it])).max();
            spare_bytes = spare_bytes.max(spare.unwrap_or(0));
            let left = node.span.len() - self.n_done_of(end);
            let is_cut = room.n_rows - n_rows < left;
            n_bytes += self.bytes_of(end, is_cut, pool);
            if !pool.fits(spare_bytes.saturating_add(n_bytes)) {
                return Cut { end, n_part: 0 };
            }
            if is_cut {
                // Cutting a node means keeping it, so it is worth it for many rows only.
                return if n_rows < nearly(room.n_rows) {
                    let n_part = room.n_rows - n_rows;
                    Cut { end, n_part }
                } else {
                    self.behind_a_subtree(end, room.n_rows)
                };
            }
            n_rows += left;
        }
        Cut {
            end: nodes.len(),
            n_part: 0,
        }
    }

    /// Bytes that a node takes which enters the wave; what has a block takes no more.
    fn bytes_of<B: kv::Block>(&self, node: usize, is_cut: bool, pool: &Pool<B>) -> u64 {
        if self.blocks[node].is_some() {
            return 0;
        }
        let (sizes, span) = (pool.sizes(), &self.trie.nodes[node].span);
        let is_leaf = self.trie.nodes[node].subtree_end == node + 1;
        let is_end = !self.ends_within(node..node + 1).is_empty();
        if is_leaf && !is_end && !is_cut {
            sizes.transient_bytes(span.len())
        } else {
            sizes.kept_bytes(span.len())
        }
    }

    /// The cut in the last eighth of a full wave that leaves the fewest rows of the wave
    /// to be kept; the latest of equal ones.
    fn behind_a_subtree(&self, end: usize, n_rows: usize) -> Cut {
        let nodes = &self.trie.nodes;
        let kept = |cut: usize| -> usize {
            let above = std::iter::successors(nodes[cut].parent, |it| nodes[*it].parent);
            above
                .take_while(|it| self.next <= *it)
                .map(|it| nodes[it].span.len())
                .sum()
        };
        let mut best = (kept(end), end);
        let mut n_left = self.n_rows_before(end);
        for cut in (self.next + 1..end).rev() {
            n_left -= nodes[cut].span.len();
            if n_left < nearly(n_rows) {
                break;
            }
            if kept(cut) < best.0 {
                best = (kept(cut), cut);
            }
        }
        Cut {
            end: best.1,
            n_part: 0,
        }
    }

    /// Rows from where the sweep stands up to node `end`.
    fn n_rows_before(&self, end: usize) -> usize {
        let spans = self.trie.nodes[self.next..end].iter();
        spans.map(|it| it.span.len()).sum::<usize>() - self.n_done
    }

    /// Adds the rows of a node up to offset `to` to the wave.
    fn append<B: kv::Block>(
        &mut self,
        index: usize,
        to: usize,
        pool: &mut Pool<B>,
        wave: &mut Wave,
    ) -> Part {
        let from = self.n_done_of(index);
        if self.blocks[index].is_none() {
            self.blocks[index] = Some(self.allocate(index, to, pool));
            self.live.push(index);
        }
        let node = &self.trie.nodes[index];
        let first_row = wave.tokens.len();
        let positions = node.span.start + from..node.span.start + to;
        wave.tokens
            .extend_from_slice(&self.fed[node.sequence][positions.clone()]);
        let mut past = self.trie.path(index);
        past.pop();
        wave.segments.push(Segment {
            rows: first_row..wave.tokens.len(),
            start: positions.start,
            past: past
                .iter()
                .map(|it| (self.block(*it).id, self.block(*it).n_tokens))
                .collect(),
            block: self.block(index).id,
        });
        Part {
            node: index,
            offsets: from..to,
            first_row,
        }
    }

    fn allocate<B: kv::Block>(&self, index: usize, to: usize, pool: &mut Pool<B>) -> Rc<Block> {
        let node = &self.trie.nodes[index];
        let is_whole = to == node.span.len();
        let is_needed_later = self.cut.end < node.subtree_end
            || !self.ends_within(index..node.subtree_end).is_empty();
        if is_whole && !is_needed_later {
            pool.transient(node.span.len())
        } else {
            pool.kept(node.span.len())
        }
    }

    /// Goes past the wave that was packed and computed; gives blocks back that the trie
    /// no longer needs.
    pub(crate) fn advance<B: kv::Block>(&mut self, pool: &mut Pool<B>) {
        let Cut { end, n_part } = self.cut;
        self.n_done = self.n_done_of(end) + n_part;
        self.next = end;
        let (nodes, blocks) = (&self.trie.nodes, &mut self.blocks);
        self.live.retain(|node| {
            let is_needed = end < nodes[*node].subtree_end;
            if !is_needed && let Some(block) = blocks[*node].take() {
                pool.release(block);
            }
            is_needed
        });
    }
}

/// From how many rows on a wave with room for `n_rows` is nearly full.
fn nearly(n_rows: usize) -> usize {
    n_rows - n_rows / NEARLY_FULL
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::architecture::Architecture;
    use super::super::kv_panels::KvPanels;
    use super::super::window;
    use super::*;
    use crate::request::{GenerationParams, Request, Sampling};

    fn generation(tokens: &[u32]) -> Request {
        let params = GenerationParams {
            max_tokens: 4,
            stop: vec![],
            sampling: Sampling::Greedy,
            repetition_penalty: 1.0,
        };
        Request::generation(tokens, Arc::new(params))
    }

    /// The waves of some requests: of each the parts, and the rows that it holds. Nothing
    /// is computed, but blocks are filled as the decoder would.
    fn waves(requests: &[Request], n_rows: usize, limit_bytes: u64) -> Vec<(Vec<Part>, usize)> {
        let mut tasks: Vec<Task<'_>> = (0..).zip(requests).map(task).collect();
        window::sort(&mut tasks);
        let mut sweep = Sweep::new(&tasks);
        let mut pool: Pool<KvPanels> = Pool::new(&Architecture::small(), limit_bytes);
        let mut waves = Vec::new();
        while !sweep.is_done() {
            let mut wave = Wave::default();
            let room = Room {
                n_rows,
                n_beginning: usize::MAX,
                spare_bytes: 0,
                is_forced: true,
            };
            let parts = sweep.pack(room, |_| 0, &mut pool, &mut wave);
            for segment in &wave.segments {
                let past: usize = segment.past.iter().map(|it| it.1).sum();
                let len = pool.kv.len(segment.block);
                assert_eq!(
                    segment.start,
                    past + len,
                    "every position before it is there"
                );
                for (block, n_tokens) in &segment.past {
                    assert_eq!(pool.kv.len(*block), *n_tokens, "and computed");
                }
                pool.kv.advance(segment.block, segment.rows.len());
            }
            sweep.advance(&mut pool);
            waves.push((parts, wave.tokens.len()));
        }
        assert!(pool.is_empty(), "every block is given back");
        waves
    }

    fn task((index, request): (usize, &Request)) -> Task<'_> {
        Task { index, request }
    }

    #[test]
    fn a_wave_ends_behind_a_subtree() {
        // Two questions of 10 rows with 3 answers of 2 fed rows each: 16 rows a question.
        let request = |question: u32, answer: u32| {
            let mut tokens = vec![question; 10];
            tokens.extend([answer; 3]);
            Request::loglikelihood(tokens, 10)
        };
        let requests: Vec<Request> = (0..6).map(|it| request(it / 3, 10 + it % 3)).collect();
        let rows = |n_rows| -> Vec<usize> {
            waves(&requests, n_rows, u64::MAX)
                .iter()
                .map(|it| it.1)
                .collect()
        };
        assert_eq!(rows(16), [16, 16]);
        assert_eq!(rows(32), [32]);
        // One more question would fit in part; its first rows would have to be kept.
        assert_eq!(rows(18), [16, 16]);
        // Far from full: cut in the middle of the run.
        assert_eq!(rows(24), [24, 8]);
        assert_eq!(rows(6), [6, 6, 6, 6, 6, 2]);
    }

    proptest! {
        /// However small waves and memory are, each distinct row is computed once, after
        /// everything before it.
        #[test]
        fn every_row_is_computed_once(
            sequences in prop::collection::vec(
                (prop::collection::vec(0u32..3, 2..40), prop::bool::ANY), 1..25,
            ),
            n_rows in 1usize..50,
        ) {
            let requests: Vec<Request> = sequences
                .iter()
                .map(|(tokens, is_written)| if *is_written {
                    generation(tokens)
                } else {
                    Request::loglikelihood(&tokens[..], 1)
                })
                .collect();
            let tasks = (0..).zip(&requests).map(task);
            let mut fed: Vec<&[u32]> = tasks.map(|it| it.fed()).collect();
            fed.sort_unstable();
            let trie = Trie::new(&fed);
            let sizes = Pool::<KvPanels>::new(&Architecture::small(), 0).sizes();
            let of_path = |node: usize| -> u64 {
                let path = trie.path(node).into_iter();
                path.map(|it| sizes.kept_bytes(trie.nodes[it].span.len())).sum()
            };
            let least = (0..trie.nodes.len()).map(of_path).max().unwrap();
            for limit_bytes in [u64::MAX, least] {
                let mut done = vec![0; trie.nodes.len()];
                for (parts, n_wave_rows) in waves(&requests, n_rows, limit_bytes) {
                    prop_assert!(n_wave_rows <= n_rows);
                    prop_assert!(0 < n_wave_rows);
                    for part in parts {
                        prop_assert_eq!(part.offsets.start, done[part.node]);
                        done[part.node] = part.offsets.end;
                    }
                }
                let whole: Vec<usize> = trie.nodes.iter().map(|it| it.span.len()).collect();
                prop_assert_eq!(done, whole);
            }
        }
    }
}
