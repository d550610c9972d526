//! Token sequences as a radix trie: what they share is there once.
//!
//! Nodes stand in pre-order, so a node's subtree is the contiguous range up to
//! its `subtree_end`, and a parent always comes before its children. The cost of
//! the work that follows is the number of distinct tokens, not of sequences.

use std::ops::Range;

/// Nodes in pre-order.
#[derive(Debug)]
pub(crate) struct Trie {
    pub nodes: Vec<Node>,
    /// For each sequence, the node at whose end it ends.
    pub last_node: Vec<usize>,
}

/// A run of tokens without a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The node before, or none at the root of a tree.
    pub parent: Option<usize>,
    /// A sequence that contains this run ...
    pub sequence: usize,
    /// ... and where in it the run lies: positions, from 0.
    pub span: Range<usize>,
    /// One past the last node of the subtree.
    pub subtree_end: usize,
}

impl Trie {
    /// Builds the trie of non-empty sequences; runs are cut at `max_span` tokens.
    pub(crate) fn new(sequences: &[&[u32]], max_span: usize) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by(|a, b| sequences[*a].cmp(sequences[*b]));
        let mut trie = Self {
            nodes: Vec::new(),
            last_node: vec![0; sequences.len()],
        };
        // Groups of sequences that agree on `depth` tokens, hanging under `parent`.
        // The stack is worked from the top, so children come out in order.
        let mut stack: Vec<(Range<usize>, usize, Option<usize>)> = Vec::new();
        trie.push_groups(sequences, &order, 0..order.len(), 0, None, &mut stack);
        while let Some((group, depth, parent)) = stack.pop() {
            let (first, last) = (order[group.start], order[group.end - 1]);
            // Sorted, so what the first and the last share, all share.
            let shared = common_prefix(sequences[first], sequences[last]);
            let mut parent = parent;
            for from in (depth..shared).step_by(max_span) {
                let span = from..shared.min(from + max_span);
                let node = Node {
                    parent,
                    sequence: first,
                    span,
                    subtree_end: 0,
                };
                trie.nodes.push(node);
                parent = Some(trie.nodes.len() - 1);
            }
            let node = parent.expect("a group shares at least one token");
            let ends = group
                .clone()
                .take_while(|i| sequences[order[*i]].len() == shared)
                .count();
            for i in &order[group.start..group.start + ends] {
                trie.last_node[*i] = node;
            }
            let rest = group.start + ends..group.end;
            trie.push_groups(sequences, &order, rest, shared, parent, &mut stack);
        }
        trie.close_subtrees();
        trie
    }

    /// Splits `range` by the token at `depth` and stacks the groups, last one first.
    #[expect(
        clippy::unused_self,
        reason = "belongs to the construction, reads like a step of it"
    )]
    fn push_groups(
        &self,
        sequences: &[&[u32]],
        order: &[usize],
        range: Range<usize>,
        depth: usize,
        parent: Option<usize>,
        stack: &mut Vec<(Range<usize>, usize, Option<usize>)>,
    ) {
        let from = stack.len();
        let mut start = range.start;
        while start < range.end {
            let token = sequences[order[start]][depth];
            let n = order[start..range.end]
                .iter()
                .take_while(|i| sequences[**i][depth] == token)
                .count();
            stack.push((start..start + n, depth, parent));
            start += n;
        }
        stack[from..].reverse();
    }

    fn close_subtrees(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            let end = self.nodes[index].subtree_end.max(index + 1);
            self.nodes[index].subtree_end = end;
            if let Some(parent) = self.nodes[index].parent {
                let parent = &mut self.nodes[parent];
                parent.subtree_end = parent.subtree_end.max(end);
            }
        }
    }

    /// Number of distinct rows.
    #[cfg(test)]
    fn n_rows(&self) -> usize {
        self.nodes.iter().map(|it| it.span.len()).sum()
    }

    /// The nodes from a root to `node`, both included.
    pub(crate) fn path(&self, node: usize) -> Vec<usize> {
        let mut path: Vec<usize> =
            std::iter::successors(Some(node), |it| self.nodes[*it].parent).collect();
        path.reverse();
        path
    }
}

fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spelled(trie: &Trie, sequences: &[&[u32]], node: usize) -> Vec<u32> {
        let path = trie.path(node);
        path.iter()
            .flat_map(|it| {
                let node = &trie.nodes[*it];
                sequences[node.sequence][node.span.clone()].to_vec()
            })
            .collect()
    }

    #[test]
    fn shared_tokens_are_there_once() {
        let sequences: [&[u32]; 4] = [&[1, 2, 3, 4], &[1, 2, 5], &[1, 2, 3], &[9]];
        let trie = Trie::new(&sequences, 100);
        let spans: Vec<_> = trie
            .nodes
            .iter()
            .map(|it| (it.parent, it.span.clone()))
            .collect();
        // 1 2 | 3 | 4, 1 2 | 5, 9: rows 2 + 1 + 1 + 1 + 1
        let want = vec![
            (None, 0..2),
            (Some(0), 2..3),
            (Some(1), 3..4),
            (Some(0), 2..3),
            (None, 0..1),
        ];
        assert_eq!(spans, want);
        assert_eq!(trie.n_rows(), 6);
        let ends: Vec<usize> = trie.nodes.iter().map(|it| it.subtree_end).collect();
        assert_eq!(ends, [4, 3, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn every_sequence_is_spelled_by_its_path(
            sequences in prop::collection::vec(prop::collection::vec(0u32..3, 1..12), 1..20),
            max_span in 1usize..5,
        ) {
            let views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let trie = Trie::new(&views, max_span);
            for (i, sequence) in sequences.iter().enumerate() {
                prop_assert_eq!(&spelled(&trie, &views, trie.last_node[i]), sequence);
            }
            let mut prefixes: Vec<&[u32]> =
                sequences.iter().flat_map(|it| (1..=it.len()).map(|n| &it[..n])).collect();
            prefixes.sort_unstable();
            prefixes.dedup();
            prop_assert_eq!(trie.n_rows(), prefixes.len(), "one row per distinct prefix");
            for (i, node) in trie.nodes.iter().enumerate() {
                prop_assert!(node.span.len() <= max_span);
                prop_assert!(node.parent.is_none_or(|parent| parent < i));
            }
        }
    }
}
