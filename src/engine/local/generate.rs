//! Generation: many sequences decoded as rows of one product.
//!
//! Prompts enter through the trie, so what they share is computed once per group.
//! Live sequences then advance together, one row each; finished ones make room for
//! the next group. What a sequence writes does not depend on its neighbours: a row
//! has the same bits in any company, and draws come from the sequence's own stream.

use std::collections::VecDeque;
use std::sync::Arc;

use super::decoder::{Decoder, Segment, Wave};
use super::head;
use super::kv::{BlockId, KvStore};
use super::sample::Chooser;
use super::sweep::{Keep, Sweep, WAVE_ROWS};
use super::trie::Trie;
use crate::engine::{EngineError, Stop};
use crate::model::tokenizer::Tokenizer;
use crate::request::{Failure, FinishReason, GenerationParams, Outcome, Response};

/// Sequences that advance together.
const SLOTS: usize = 32;

/// One generation request, with the index under which it is answered.
#[derive(Debug, Clone)]
pub(crate) struct Task<'a> {
    pub index: usize,
    pub tokens: &'a [u32],
    pub params: Arc<GenerationParams>,
}

/// What generation needs to know of the model besides its weights.
pub(crate) struct Ending<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Ids that end a text.
    pub eos: &'a [u32],
}

/// A sequence being written.
struct Slot<'a> {
    task: &'a Task<'a>,
    /// Blocks of the prompt, then the slot's own, with their lengths.
    past: Vec<(BlockId, usize)>,
    own: BlockId,
    chooser: Chooser,
    generated: Vec<u32>,
}

/// Answers `tasks`; returns early, with some unanswered, once a stop is seen.
pub(crate) fn run(
    decoder: &Decoder,
    ending: &Ending<'_>,
    tasks: &[Task<'_>],
    stop: &Stop,
    deliver: &mut dyn FnMut(usize, Outcome),
) -> Result<(), EngineError> {
    let mut order: Vec<&Task<'_>> = tasks.iter().collect();
    order.sort_by(|a, b| a.tokens.cmp(b.tokens).then(a.index.cmp(&b.index)));
    let mut queue: VecDeque<&Task<'_>> = order.into();
    let a = &decoder.architecture;
    let mut kv = KvStore::new(a.n_layer, a.n_kv_head, a.head_dim);
    let mut uses = Uses::default();
    let mut slots: Vec<Slot<'_>> = Vec::new();
    while !(queue.is_empty() && slots.is_empty()) {
        if slots.len() <= SLOTS / 2 && !queue.is_empty() {
            let n = queue.len().min(SLOTS - slots.len());
            let group: Vec<&Task<'_>> = queue.drain(..n).collect();
            let Some(entered) = enter(decoder, ending, &group, &mut kv, &mut uses, stop, deliver)?
            else {
                return Ok(());
            };
            slots.extend(entered);
        }
        if slots.is_empty() {
            continue;
        }
        let wave = step_wave(&slots);
        let rows: Vec<usize> = (0..slots.len()).collect();
        let Some(hidden) = decoder.forward(&wave, &rows, &mut kv, stop)? else {
            return Ok(());
        };
        slots = advance(decoder, ending, slots, &hidden, deliver, &mut kv, &mut uses)?;
    }
    Ok(())
}

/// Computes a group of prompts and draws the first token of each.
fn enter<'a>(
    decoder: &Decoder,
    ending: &Ending<'_>,
    group: &[&'a Task<'a>],
    kv: &mut KvStore,
    uses: &mut Uses,
    stop: &Stop,
    deliver: &mut dyn FnMut(usize, Outcome),
) -> Result<Option<Vec<Slot<'a>>>, EngineError> {
    let prompts: Vec<&[u32]> = group.iter().map(|it| it.tokens).collect();
    let trie = Trie::new(&prompts, WAVE_ROWS);
    let width = decoder.architecture.n_embd;
    let mut ends: Vec<Vec<f32>> = vec![Vec::new(); trie.nodes.len()];
    let wanted = |node: usize| {
        let is_end = trie.last_node.contains(&node);
        if is_end {
            vec![trie.nodes[node].span.len() - 1]
        } else {
            Vec::new()
        }
    };
    let sweep = Sweep {
        decoder,
        sequences: &prompts,
        trie: &trie,
        keep: Keep::All,
    };
    let blocks = sweep.run(kv, stop, wanted, |rows, hidden| {
        for (row, hidden) in rows.iter().zip(hidden.chunks_exact(width)) {
            ends[row.node] = hidden.to_vec();
        }
        Ok(())
    })?;
    let Some(blocks) = blocks else {
        return Ok(None);
    };
    let mut slots = Vec::new();
    let mut hidden = Vec::new();
    for (i, task) in group.iter().enumerate() {
        let path = trie.path(trie.last_node[i]);
        let past: Vec<(BlockId, usize)> = path
            .into_iter()
            .map(|it| (blocks[it], trie.nodes[it].span.len()))
            .collect();
        for (block, _) in &past {
            uses.add(*block);
        }
        hidden.extend_from_slice(&ends[trie.last_node[i]]);
        slots.push(Slot {
            task,
            past,
            own: kv.kept(task.params.max_tokens),
            chooser: Chooser::new(&task.params, task.tokens),
            generated: Vec::new(),
        });
    }
    advance(decoder, ending, slots, &hidden, deliver, kv, uses).map(Some)
}

/// The wave that feeds every slot's newest token.
fn step_wave(slots: &[Slot<'_>]) -> Wave {
    let newest = |it: &Slot<'_>| {
        *it.generated
            .last()
            .expect("a live slot has a token to feed")
    };
    Wave {
        tokens: slots.iter().map(newest).collect(),
        segments: slots
            .iter()
            .enumerate()
            .map(|(row, slot)| Segment {
                rows: row..row + 1,
                start: slot.task.tokens.len() + slot.generated.len() - 1,
                past: slot.past.clone(),
                block: slot.own,
            })
            .collect(),
    }
}

/// Chooses every slot's next token from its hidden row; answers and drops the finished.
fn advance<'a>(
    decoder: &Decoder,
    ending: &Ending<'_>,
    mut slots: Vec<Slot<'a>>,
    hidden: &[f32],
    deliver: &mut dyn FnMut(usize, Outcome),
    kv: &mut KvStore,
    uses: &mut Uses,
) -> Result<Vec<Slot<'a>>, EngineError> {
    let choosers: Vec<std::sync::Mutex<&mut Chooser>> = slots
        .iter_mut()
        .map(|it| std::sync::Mutex::new(&mut it.chooser))
        .collect();
    let chosen = head::for_logits(decoder, hidden, |row, logits, summary| {
        let mut chooser = choosers[row].lock().expect("a chooser does not panic");
        summary
            .log_sum_exp
            .is_finite()
            .then(|| chooser.choose(logits, summary.argmax))
    });
    drop(choosers);
    let n_context = decoder.architecture.n_context;
    let mut live = Vec::new();
    for (mut slot, token) in slots.into_iter().zip(chosen) {
        let outcome = match token {
            None => Some(Err(Failure::NonFinite)),
            Some(token) => slot.push(token, ending, n_context).map(Ok),
        };
        if let Some(outcome) = outcome {
            deliver(slot.task.index, outcome);
            slot.past
                .iter()
                .for_each(|(block, _)| uses.release(*block, kv));
            kv.remove(slot.own);
        } else {
            live.push(slot);
        }
    }
    Ok(live)
}

impl Slot<'_> {
    /// Takes the next token; returns the response if the generation is over.
    fn push(&mut self, token: u32, ending: &Ending<'_>, n_context: usize) -> Option<Response> {
        let params = &self.task.params;
        if ending.eos.contains(&token) {
            return Some(self.respond(ending, FinishReason::Eos));
        }
        self.generated.push(token);
        if !params.stop.is_empty() {
            let text = ending.tokenizer.decode(&self.generated, true);
            if first_stop(&text, &params.stop).is_some() {
                return Some(self.respond(ending, FinishReason::Stop));
            }
        }
        // The token just chosen would be fed at this position.
        let position = self.task.tokens.len() + self.generated.len() - 1;
        if self.generated.len() == params.max_tokens || position == n_context {
            return Some(self.respond(ending, FinishReason::Length));
        }
        None
    }

    fn respond(&self, ending: &Ending<'_>, finish_reason: FinishReason) -> Response {
        let mut text = ending.tokenizer.decode(&self.generated, true);
        if let Some(cut) = first_stop(&text, &self.task.params.stop) {
            text.truncate(cut);
        }
        Response::Generation {
            tokens: self.generated.clone(),
            text,
            finish_reason,
        }
    }
}

/// Where the earliest stop text begins.
fn first_stop(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|it| text.find(it.as_str())).min()
}

/// How many live sequences still need a prompt block.
#[derive(Debug, Default)]
struct Uses(Vec<(BlockId, usize)>);

impl Uses {
    fn add(&mut self, block: BlockId) {
        match self.0.iter_mut().find(|it| it.0 == block) {
            Some(it) => it.1 += 1,
            None => self.0.push((block, 1)),
        }
    }

    fn release(&mut self, block: BlockId, kv: &mut KvStore) {
        let at = self
            .0
            .iter()
            .position(|it| it.0 == block)
            .expect("a released block was in use");
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
            kv.remove(block);
        }
    }
}
