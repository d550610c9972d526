//! Log-likelihoods of continuations, through the trie.
//!
//! Row `t` of a sequence predicts token `t + 1`, so the last token is never fed:
//!
//! ```text
//! token          0 1 2 3 | 4 5 6     first_scored = 4
//! fed            0 1 2 3   4 5
//! predicted by         3   4 5       rows 3, 4, 5
//! ```
//!
//! The row at a branch serves the first token of every continuation behind it.

use super::decoder::Decoder;
use super::head;
use super::kv::KvStore;
use super::sweep::{Keep, Sweep, WAVE_ROWS};
use super::trie::Trie;
use crate::engine::{EngineError, Stop};
use crate::request::{Failure, Outcome, Response};

/// One likelihood request, with the index under which it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub index: usize,
    pub tokens: &'a [u32],
    pub first_scored: usize,
}

/// One scored token: which row of a node predicts it, and where its value goes.
#[derive(Debug, Clone, Copy)]
struct Pick {
    offset: usize,
    task: usize,
    nth: usize,
    token: u32,
}

/// A task's values so far.
struct Partial {
    logprobs: Vec<f32>,
    is_argmax: Vec<bool>,
    n_missing: usize,
    is_finite: bool,
}

/// Answers `tasks`; returns early, with some unanswered, once a stop is seen.
pub(crate) fn run(
    decoder: &Decoder,
    tasks: &[Task<'_>],
    stop: &Stop,
    deliver: &mut dyn FnMut(usize, Outcome),
) -> Result<(), EngineError> {
    if tasks.is_empty() {
        return Ok(());
    }
    let fed: Vec<&[u32]> = tasks
        .iter()
        .map(|it| &it.tokens[..it.tokens.len() - 1])
        .collect();
    let trie = Trie::new(&fed, WAVE_ROWS);
    let picks = picks_by_node(tasks, &trie);
    let mut partials: Vec<Partial> = tasks.iter().map(Partial::new).collect();
    let a = &decoder.architecture;
    let mut kv = KvStore::new(a.n_layer, a.n_kv_head, a.head_dim);
    let wanted = |node: usize| {
        let mut offsets: Vec<usize> = picks[node].iter().map(|it| it.offset).collect();
        offsets.dedup();
        offsets
    };
    let sweep = Sweep {
        decoder,
        sequences: &fed,
        trie: &trie,
        keep: Keep::Nothing,
    };
    sweep.run(&mut kv, stop, wanted, |rows, hidden| {
        let mut here = Vec::new();
        let mut asked = Vec::new();
        for (row, wanted) in rows.iter().enumerate() {
            let of_node = &picks[wanted.node];
            let start = of_node.partition_point(|it| it.offset < wanted.offset);
            let of_row = of_node[start..]
                .iter()
                .take_while(|it| it.offset == wanted.offset);
            for pick in of_row {
                here.push(*pick);
                asked.push(head::Pick {
                    row,
                    token: pick.token,
                });
            }
        }
        let (summaries, logits) = head::scan(decoder, &hidden, &asked);
        let picked = here
            .iter()
            .zip(&asked)
            .zip(logits)
            .map(|((pick, asked), logit)| {
                let summary = summaries[asked.row];
                let logit = f64::from(logit);
                let logprob = (logit - summary.log_sum_exp).min(0.0) as f32;
                let is_finite = summary.log_sum_exp.is_finite() && !logit.is_nan();
                (*pick, logprob, summary.argmax == pick.token, is_finite)
            });
        for (pick, logprob, is_argmax, is_finite) in picked {
            let partial = &mut partials[pick.task];
            partial.logprobs[pick.nth] = logprob;
            partial.is_argmax[pick.nth] = is_argmax;
            partial.is_finite &= is_finite;
            partial.n_missing -= 1;
            if partial.n_missing == 0 {
                deliver(tasks[pick.task].index, partial.take());
            }
        }
        Ok(())
    })?;
    Ok(())
}

impl Partial {
    fn new(task: &Task<'_>) -> Self {
        let n = task.tokens.len() - task.first_scored;
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

/// For every node, what is read from its rows, by ascending offset.
fn picks_by_node(tasks: &[Task<'_>], trie: &Trie) -> Vec<Vec<Pick>> {
    let mut picks: Vec<Vec<Pick>> = vec![Vec::new(); trie.nodes.len()];
    for (task, it) in tasks.iter().enumerate() {
        let rows = it.first_scored - 1..it.tokens.len() - 1;
        let mut node = Some(trie.last_node[task]);
        while let Some(index) = node {
            let span = &trie.nodes[index].span;
            for row in rows.start.max(span.start)..rows.end.min(span.end) {
                picks[index].push(Pick {
                    offset: row - span.start,
                    task,
                    nth: row - rows.start,
                    token: it.tokens[row + 1],
                });
            }
            node = trie.nodes[index].parent.filter(|_| rows.start < span.start);
        }
    }
    for picks in &mut picks {
        picks.sort_by_key(|it| (it.offset, it.task));
    }
    picks
}
