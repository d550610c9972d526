//! Log-likelihoods of continuations: which rows predict them, and their values so far.
//!
//! The row at a branch serves the first token of every continuation behind it.

use std::ops::Range;

use super::reading::RowScan;
use super::trie::Trie;
use super::window::Task;
use crate::request::{Failure, Outcome, Response, Work};

/// One scored token: which row of a node predicts it, and where its value goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pick {
    /// Offset in the node's span.
    pub offset: usize,
    task: u32,
    nth: u32,
    /// The token.
    pub token: u32,
}

/// The likelihoods of a window.
pub(crate) struct Likelihoods<'t, 'a> {
    tasks: &'t [Task<'a>],
    /// By node, then offset, then task.
    picks: Vec<Pick>,
    /// Where a node's picks begin; one more at the end.
    first_of_node: Vec<usize>,
    partials: Vec<Partial>,
}

/// A task's values so far.
struct Partial {
    logprobs: Vec<f32>,
    is_argmax: Vec<bool>,
    n_missing: usize,
    is_finite: bool,
}

impl<'t, 'a> Likelihoods<'t, 'a> {
    /// The likelihoods among `tasks`, whose rows are those of `trie`.
    pub(crate) fn new(tasks: &'t [Task<'a>], trie: &Trie) -> Self {
        let mut first_of_node = vec![0; trie.nodes.len() + 1];
        for_picks(tasks, trie, |node, _| first_of_node[node + 1] += 1);
        for node in 0..trie.nodes.len() {
            first_of_node[node + 1] += first_of_node[node];
        }
        let mut picks = vec![Pick::default(); first_of_node[trie.nodes.len()]];
        let mut end_of_node = first_of_node.clone();
        for_picks(tasks, trie, |node, pick| {
            picks[end_of_node[node]] = pick;
            end_of_node[node] += 1;
        });
        for node in 0..trie.nodes.len() {
            let of_node = &mut picks[first_of_node[node]..first_of_node[node + 1]];
            of_node.sort_unstable_by_key(|it| (it.offset, it.task));
        }
        Self {
            tasks,
            picks,
            first_of_node,
            partials: tasks.iter().map(Partial::new).collect(),
        }
    }

    /// What is read from some rows of a node, by ascending offset.
    pub(crate) fn picks_of(&self, node: usize, offsets: &Range<usize>) -> &[Pick] {
        let picks = &self.picks[self.first_of_node[node]..self.first_of_node[node + 1]];
        let start = picks.partition_point(|it| it.offset < offsets.start);
        let end = picks.partition_point(|it| it.offset < offsets.end);
        &picks[start..end]
    }

    /// Takes what a row says of its picks, in their order; returns who is answered by it.
    pub(crate) fn take(
        &mut self,
        node: usize,
        offset: usize,
        scan: &RowScan,
    ) -> Vec<(Task<'a>, Outcome)> {
        let picks = self.picks_of(node, &(offset..offset + 1)).to_vec();
        let mut answered = Vec::new();
        for (pick, logit) in picks.into_iter().zip(&scan.picked) {
            let partial = &mut self.partials[pick.task as usize];
            let nth = pick.nth as usize;
            let logprob = f64::from(*logit) - scan.log_sum_exp;
            partial.logprobs[nth] = logprob.min(0.0) as f32;
            partial.is_argmax[nth] = scan.argmax == pick.token;
            partial.is_finite &= scan.log_sum_exp.is_finite() && !logit.is_nan();
            partial.n_missing -= 1;
            if partial.n_missing == 0 {
                answered.push((self.tasks[pick.task as usize], partial.take()));
            }
        }
        answered
    }
}

impl Partial {
    fn new(task: &Task<'_>) -> Self {
        let n = task.n_scored();
        Self {
            logprobs: vec![0.0; n],
            is_argmax: vec![false; n],
            n_missing: n,
            is_finite: true,
        }
    }

    fn take(&mut self) -> Outcome {
        if !self.is_finite {
            return Err(Failure::NonFinite);
        }
        Ok(Response::Loglikelihood {
            logprobs: std::mem::take(&mut self.logprobs),
            is_argmax: std::mem::take(&mut self.is_argmax),
        })
    }
}

/// Calls `each(node, pick)` for every scored token.
fn for_picks(tasks: &[Task<'_>], trie: &Trie, mut each: impl FnMut(usize, Pick)) {
    for (task, it) in (0u32..).zip(tasks) {
        let Work::Loglikelihood { first_scored } = it.request.work else {
            continue;
        };
        let tokens = &it.request.tokens;
        // The row of the token before predicts a token.
        let rows = first_scored - 1..tokens.len() - 1;
        let mut node = Some(trie.last_node[task as usize]);
        while let Some(index) = node {
            let span = &trie.nodes[index].span;
            for row in rows.start.max(span.start)..rows.end.min(span.end) {
                let pick = Pick {
                    offset: row - span.start,
                    task,
                    nth: (row - rows.start) as u32,
                    token: tokens[row + 1],
                };
                each(index, pick);
            }
            node = trie.nodes[index].parent.filter(|_| rows.start < span.start);
        }
    }
}
