//! An engine with closed-form answers, for tests of everything around an engine.
//!
//! The "model" is a bigram table over a small vocabulary: the logit of token `t`
//! after token `s` is `((5 s + 3 t) mod 11) / 4`, whatever came before. Expected
//! values can therefore be worked out by hand, and an off-by-one shows at once.
//! Never reachable from the command line: it is no model anyone should ship with.

use std::cell::Cell;

use super::{Capabilities, Engine, EngineError, Rows, Stop};
use crate::request::{
    Answerer, Digest, Failure, FinishReason, Outcome, Request, Response, Sampling, Work,
};

/// The bigram engine; token ids are bytes, the last id ends a text.
#[derive(Debug)]
pub struct FakeEngine {
    n_vocab: u32,
    n_context: usize,
    answerer: Answerer,
    n_computed: Cell<usize>,
    /// For each residue of the token before: the log of the sum that makes probabilities of
    /// logits, and the likeliest token.
    rows: [(f64, u32); PERIOD as usize],
}

/// Tokens whose ids differ by this have equal logits before and after them.
const PERIOD: u32 = 11;

impl FakeEngine {
    /// An engine over `n_vocab` tokens, the last of which is the end token.
    pub fn new(n_vocab: u32, n_context: usize) -> Self {
        let digest = *blake3::hash(&n_vocab.to_le_bytes()).as_bytes();
        let row = |previous: usize| {
            let previous = previous as u32;
            let total: f64 = (0..n_vocab).map(|it| Self::logit(previous, it).exp()).sum();
            let likeliest = (0..n_vocab)
                .rev()
                .max_by(|a, b| Self::logit(previous, *a).total_cmp(&Self::logit(previous, *b)));
            (total.ln(), likeliest.unwrap_or(0))
        };
        Self {
            rows: std::array::from_fn(row),
            n_vocab,
            n_context,
            answerer: Answerer {
                model_digest: Digest(digest),
                numerics: "fake".to_owned(),
            },
            n_computed: Cell::new(0),
        }
    }

    /// How many requests were answered so far, for tests of what a rerun computes.
    pub fn n_computed(&self) -> usize {
        self.n_computed.get()
    }

    /// The natural-log probability of `token` right after `previous`.
    pub fn logprob(&self, previous: u32, token: u32) -> f32 {
        let (total, _) = self.rows[(previous % PERIOD) as usize];
        (Self::logit(previous, token) - total) as f32
    }

    /// The most likely token after `previous`; ties go to the lowest id.
    pub fn most_likely(&self, previous: u32) -> u32 {
        self.rows[(previous % PERIOD) as usize].1
    }

    fn logit(previous: u32, token: u32) -> f64 {
        f64::from((5 * previous + 3 * token) % PERIOD) / 4.0
    }

    fn answer(&self, request: &Request) -> Outcome {
        if self.n_context < request.n_positions() {
            return Err(Failure::ContextOverflow {
                needed: request.n_positions(),
                n_context: self.n_context,
            });
        }
        match &request.work {
            Work::Loglikelihood { first_scored } => {
                let pairs = request.tokens[first_scored - 1..].windows(2);
                Ok(Response::Loglikelihood {
                    logprobs: pairs.clone().map(|it| self.logprob(it[0], it[1])).collect(),
                    is_argmax: pairs.map(|it| self.most_likely(it[0]) == it[1]).collect(),
                })
            }
            Work::Generation(params) => {
                let mut tokens = Vec::new();
                let mut previous = request.tokens.last().copied().unwrap_or(0);
                let offset = match &params.sampling {
                    Sampling::Greedy => 0,
                    Sampling::Draw { stream, .. } => u32::from(stream[0]),
                };
                let mut finish_reason = FinishReason::Length;
                while tokens.len() < params.max_tokens {
                    previous = (self.most_likely(previous) + offset) % self.n_vocab;
                    if previous + 1 == self.n_vocab {
                        finish_reason = FinishReason::Eos;
                        break;
                    }
                    tokens.push(previous);
                }
                let bytes: Vec<u8> = tokens.iter().map(|id| (id % 256) as u8).collect();
                let mut text = String::from_utf8_lossy(&bytes).into_owned();
                let cut = params
                    .stop
                    .iter()
                    .filter_map(|stop| text.find(stop.as_str()))
                    .min();
                if let Some(cut) = cut {
                    text.truncate(cut);
                    finish_reason = FinishReason::Stop;
                }
                Ok(Response::Generation {
                    tokens,
                    text,
                    finish_reason,
                })
            }
        }
    }
}

impl Engine for FakeEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_context: self.n_context,
            loglikelihood: true,
            generation: true,
        }
    }

    fn answerer(&self) -> &Answerer {
        &self.answerer
    }

    fn run(
        &self,
        requests: &[Request],
        stop: &Stop,
        deliver: &mut dyn FnMut(usize, Outcome),
    ) -> Result<Rows, EngineError> {
        let mut rows = Rows::default();
        for (index, request) in requests.iter().enumerate() {
            if stop.is_raised() {
                break;
            }
            self.n_computed.set(self.n_computed.get() + 1);
            let outcome = self.answer(request);
            rows.n_computed += n_rows(request, &outcome);
            deliver(index, outcome);
        }
        Ok(rows)
    }
}

/// Rows of a request that shares none: the last token is predicted, but not fed.
fn n_rows(request: &Request, outcome: &Outcome) -> usize {
    let n_written = match outcome {
        Ok(Response::Loglikelihood { .. }) => 0,
        Ok(Response::Generation {
            tokens,
            finish_reason,
            ..
        }) if *finish_reason == FinishReason::Eos => tokens.len(),
        Ok(Response::Generation { tokens, .. }) => tokens.len().saturating_sub(1),
        Err(_) => return 0,
    };
    request.n_positions() + n_written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_a_distribution() {
        let engine = FakeEngine::new(7, 16);
        for previous in 0..7 {
            let total: f64 = (0..7)
                .map(|it| f64::from(engine.logprob(previous, it)).exp())
                .sum();
            assert!((total - 1.0).abs() < 1e-6, "after {previous}: {total}");
        }
    }

    /// Token `t` is read from the row of token `t - 1`; a shift by one is the classic bug.
    #[test]
    fn a_continuation_is_conditioned_on_the_token_before() {
        let engine = FakeEngine::new(7, 16);
        let mut got = None;
        engine
            .run(
                &[Request::loglikelihood([4, 2, 6], 1)],
                &Stop::new(),
                &mut |_, it| got = Some(it),
            )
            .unwrap();
        let Some(Ok(Response::Loglikelihood { logprobs, .. })) = got else {
            panic!("{got:?}")
        };
        assert_eq!(logprobs, [engine.logprob(4, 2), engine.logprob(2, 6)]);
    }
}
