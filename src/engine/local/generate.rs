//! Generations: sequences that are written one token per step.
//!
//! A [`Slot`] holds the blocks of its prompt, shared with whoever shares the prompt,
//! and small blocks of its own that are allocated as it grows. What a sequence writes
//! does not depend on its neighbours: a row has the same bits in any company, and draws
//! come from the sequence's own stream.

use std::rc::Rc;

use super::kv;
use super::pool::{Block, Pool, Sizes};
use super::reading::Turn;
use super::sample::Chooser;
use super::stops::{StopWatch, first_stop};
use super::wave::{Segment, Wave};
use super::window::Task;
use crate::model::tokenizer::Tokenizer;
use crate::request::{Failure, FinishReason, GenerationParams, Outcome, Response, Work};

/// Tokens of a block of a slot's own.
const OWN_TOKENS: usize = 64;

/// What generation needs to know of the model besides its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Ids that end a text.
    pub eos: &'a [u32],
    /// Positions of the model.
    pub n_context: usize,
}

impl Ending<'_> {
    /// Whether `token` is a special one that a stop text names.
    fn is_stop(&self, token: u32, stop: &[String]) -> bool {
        self.tokenizer.is_special(token) && stop.contains(&self.tokenizer.token_text(token))
    }
}

/// A sequence being written.
pub(crate) struct Slot<'a> {
    task: Task<'a>,
    params: &'a GenerationParams,
    /// Blocks of the prompt, then the slot's own that are full.
    past: Vec<Rc<Block>>,
    /// The one that is being filled.
    own: Option<Rc<Block>>,
    /// Generated tokens that went through the model.
    n_fed: usize,
    reserved_bytes: u64,
    chooser: Chooser,
    watch: StopWatch,
    generated: Vec<u32>,
}

/// The most generated tokens that go through the model: the last one need not.
fn most_fed(params: &GenerationParams, n_prompt: usize, n_context: usize) -> usize {
    let most = params.max_tokens.saturating_sub(1);
    most.min(n_context.saturating_sub(n_prompt))
}

/// Keys and values of what a task writes at most; 0 for a likelihood.
pub(crate) fn own_bytes(task: &Task<'_>, sizes: Sizes, n_context: usize) -> u64 {
    let Work::Generation(params) = &task.request.work else {
        return 0;
    };
    let n_fed = most_fed(params, task.fed().len(), n_context);
    let n_full = (n_fed / OWN_TOKENS) as u64;
    n_full
        .saturating_mul(sizes.kept_bytes(OWN_TOKENS))
        .saturating_add(sizes.kept_bytes(n_fed % OWN_TOKENS))
}

impl<'a> Slot<'a> {
    /// A sequence whose prompt is computed and lies in `past`.
    pub(crate) fn new(task: Task<'a>, params: &'a GenerationParams, past: Vec<Rc<Block>>) -> Self {
        Self {
            task,
            params,
            past,
            own: None,
            n_fed: 0,
            reserved_bytes: 0,
            chooser: Chooser::new(params, task.fed()),
            watch: StopWatch::default(),
            generated: Vec::new(),
        }
    }

    /// Index of the request.
    pub(crate) fn index(&self) -> usize {
        self.task.index
    }

    /// Rows that the request takes if nothing is shared, as far as it has come.
    pub(crate) fn n_rows(&self) -> usize {
        self.task.fed().len() + self.n_fed
    }

    /// Bytes that the sequence may take from its first step to its end.
    pub(crate) fn own_bytes(&self, ending: &Ending<'_>, sizes: Sizes) -> u64 {
        own_bytes(&self.task, sizes, ending.n_context)
    }

    fn most_fed(&self, ending: &Ending<'_>) -> usize {
        most_fed(self.params, self.task.fed().len(), ending.n_context)
    }

    /// Sets room aside for all that is to come.
    pub(crate) fn reserve<B: kv::Block>(&mut self, ending: &Ending<'_>, pool: &mut Pool<B>) {
        self.reserved_bytes = self.own_bytes(ending, pool.sizes());
        pool.reserve(self.reserved_bytes);
    }

    /// Adds the newest token to a wave; returns its row.
    pub(crate) fn feed<B: kv::Block>(
        &mut self,
        ending: &Ending<'_>,
        pool: &mut Pool<B>,
        wave: &mut Wave,
    ) -> usize {
        if self.n_fed.is_multiple_of(OWN_TOKENS) {
            self.past.extend(self.own.take());
            let n_tokens = OWN_TOKENS.min(self.most_fed(ending) - self.n_fed);
            let n_bytes = pool.sizes().kept_bytes(n_tokens);
            pool.unreserve(n_bytes);
            self.reserved_bytes -= n_bytes;
            self.own = Some(pool.kept(n_tokens));
        }
        let own = self.own.as_ref().expect("made for the first token");
        let row = wave.tokens.len();
        let newest = self.generated.last();
        wave.tokens
            .push(*newest.expect("a live slot has a token to feed"));
        wave.segments.push(Segment {
            rows: row..row + 1,
            start: self.n_rows(),
            past: self.past.iter().map(|it| (it.id, it.n_tokens)).collect(),
            block: own.id,
        });
        self.n_fed += 1;
        row
    }

    /// Draws what the next choice needs of chance.
    pub(crate) fn draw(&mut self) {
        self.chooser.draw();
    }

    /// How the next token is chosen.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(&self.chooser)
    }

    /// Takes the next token, `None` if the logits were not finite; returns the outcome if
    /// the generation is over.
    pub(crate) fn push(&mut self, token: Option<u32>, ending: &Ending<'_>) -> Option<Outcome> {
        let Some(token) = token else {
            return Some(Err(Failure::NonFinite));
        };
        if ending.eos.contains(&token) {
            return Some(Ok(self.respond(ending, FinishReason::Eos)));
        }
        // A special token adds no text, so it is told by its name.
        if ending.is_stop(token, &self.params.stop) {
            return Some(Ok(self.respond(ending, FinishReason::Stop)));
        }
        self.chooser.remember(token);
        self.generated.push(token);
        if self.watch.push(ending.tokenizer, token, &self.params.stop) {
            return Some(Ok(self.respond(ending, FinishReason::Stop)));
        }
        // The token just chosen would be fed next.
        let is_last = self.n_fed == self.most_fed(ending);
        is_last.then(|| Ok(self.respond(ending, FinishReason::Length)))
    }

    fn respond(&self, ending: &Ending<'_>, finish_reason: FinishReason) -> Response {
        let mut text = ending.tokenizer.decode(&self.generated, true);
        if let Some(cut) = first_stop(&text, &self.params.stop) {
            text.truncate(cut);
        }
        Response::Generation {
            tokens: self.generated.clone(),
            text,
            finish_reason,
        }
    }

    /// Gives everything back.
    pub(crate) fn release<B: kv::Block>(self, pool: &mut Pool<B>) {
        pool.unreserve(self.reserved_bytes);
        for block in self.past.into_iter().chain(self.own) {
            pool.release(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Sampling;

    #[test]
    fn the_last_token_is_not_fed() {
        let params = |max_tokens| GenerationParams {
            max_tokens,
            stop: vec![],
            sampling: Sampling::Greedy,
            repetition_penalty: 1.0,
        };
        assert_eq!(most_fed(&params(5), 10, 100), 4);
        // Positions 10 and 11 are left; what row 11 predicts is the third token.
        assert_eq!(most_fed(&params(5), 10, 12), 2);
        assert_eq!(most_fed(&params(5), 12, 12), 0);
        assert_eq!(most_fed(&params(0), 3, 12), 0);
    }
}
