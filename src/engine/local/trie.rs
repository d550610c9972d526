//! Token sequences as a radix trie: what they share is there once.
//!
//! Sequences come sorted, which is what makes building cheap: two neighbours tell what
//! all between them share. Nodes stand in pre-order, so a node's subtree is the
//! contiguous range up to its `subtree_end`, and a parent always comes before its
//! children. The cost of the work that follows is the number of distinct tokens, not
//! of sequences.

use std::ops::Range;

/// Nodes in pre-order.
#[derive(Debug)]
pub(crate) struct Trie {
    pub nodes: Vec<Node>,
    /// For each sequence, the node at whose end it ends; ascending.
    pub last_node: Vec<usize>,
}

/// A run of tokens without a branch and without the end of a sequence inside.
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
    /// Builds the trie of non-empty sequences in ascending order.
    pub(crate) fn new(sequences: &[&[u32]]) -> Self {
        debug_assert!(sequences.is_sorted(), "only neighbours are compared");
        let mut trie = Self {
            nodes: Vec::new(),
            last_node: vec![0; sequences.len()],
        };
        // Groups of sequences that agree on `depth` tokens, hanging under `parent`.
        // The stack is worked from the top, so children come out in order.
        let mut stack: Vec<Group> = Vec::new();
        push_groups(sequences, 0..sequences.len(), 0, None, &mut stack);
        while let Some((group, depth, parent)) = stack.pop() {
            let (first, last) = (group.start, group.end - 1);
            // Sorted, so what the first and the last share, all share.
            let further = common_prefix(&sequences[first][depth..], &sequences[last][depth..]);
            let shared = depth + further;
            let node = trie.nodes.len();
            trie.nodes.push(Node {
                parent,
                sequence: first,
                span: depth..shared,
                subtree_end: 0,
            });
            let ends = group
                .clone()
                .take_while(|it| sequences[*it].len() == shared)
                .count();
            trie.last_node[first..first + ends].fill(node);
            push_groups(
                sequences,
                first + ends..group.end,
                shared,
                Some(node),
                &mut stack,
            );
        }
        trie.close_subtrees();
        trie
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
    pub(super) fn n_rows(&self) -> usize {
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

/// Sequences that agree up to a depth, that depth, and the node they hang under.
type Group = (Range<usize>, usize, Option<usize>);

/// Splits `range` by the token at `depth` and stacks the groups, last one first.
fn push_groups(
    sequences: &[&[u32]],
    range: Range<usize>,
    depth: usize,
    parent: Option<usize>,
    stack: &mut Vec<Group>,
) {
    let from = stack.len();
    let mut rest = range;
    while !rest.is_empty() {
        let token = sequences[rest.start][depth];
        let n = sequences[rest.clone()].partition_point(|it| it[depth] == token);
        stack.push((rest.start..rest.start + n, depth, parent));
        rest.start += n;
    }
    stack[from..].reverse();
}

/// Tokens that two sequences begin with alike.
pub(super) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
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
        let sequences: [&[u32]; 4] = [&[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 5], &[9]];
        let trie = Trie::new(&sequences);
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
        ) {
            let mut views: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            views.sort_unstable();
            let trie = Trie::new(&views);
            prop_assert!(trie.last_node.is_sorted(), "in the order of the sequences");
            for (i, sequence) in views.iter().enumerate() {
                prop_assert_eq!(&spelled(&trie, &views, trie.last_node[i]), sequence);
            }
            let mut prefixes: Vec<&[u32]> =
                sequences.iter().flat_map(|it| (1..=it.len()).map(|n| &it[..n])).collect();
            prefixes.sort_unstable();
            prefixes.dedup();
            prop_assert_eq!(trie.n_rows(), prefixes.len(), "one row per distinct prefix");
            for (i, node) in trie.nodes.iter().enumerate() {
                prop_assert!(!node.span.is_empty());
                prop_assert!(node.parent.is_none_or(|parent| parent < i));
            }
        }
    }
}
