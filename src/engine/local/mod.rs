//! The local engine: a decoder on this machine's CPU.
//!
//! Requests of one call form a trie over their tokens; what they share is computed
//! once. A score is a function of weights and token ids alone: the same bits for
//! any batch, order, number of threads and place in the trie. Weights are decoded
//! to f32, activations are never quantised.

mod architecture;
mod attention;
mod decoder;
mod describe;
mod families;
mod generate;
mod head;
mod kernel;
mod kv;
mod likelihood;
mod load;
mod matrix;
mod ops;
mod sample;
mod sweep;
mod trie;
mod vector;
mod weights;

pub use describe::{Memory, check};
pub use load::LoadError;

use std::sync::Arc;

use super::{Capabilities, Engine, EngineError, Stop};
use crate::model::Model;
use crate::model::tokenizer::Tokenizer;
use crate::request::{Answerer, Digest, Failure, Outcome, Request, Work};
use decoder::Decoder;

/// Names the arithmetic of this engine; part of every stored answer's key.
///
/// Every sum is a chain of fused multiply-adds in an order that neither the instruction
/// set nor the number of threads changes, so the name has no instruction set in it. The
/// rotary angles come from the platform's sine, cosine and power, hence its name.
fn numerics() -> String {
    format!(
        "local-f32-chain-{}-{}",
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

/// What, besides a request, the answers of `model` depend on; known without its weights.
pub fn answerer(model: &Model) -> Answerer {
    Answerer {
        model_digest: Digest(*model.digest.as_bytes()),
        numerics: numerics(),
    }
}

/// A model in memory.
pub struct LocalEngine {
    decoder: Decoder,
    tokenizer: Arc<Tokenizer>,
    eos: Vec<u32>,
    answerer: Answerer,
}

impl LocalEngine {
    /// Loads the weights of `model`.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the checkpoint is not one this engine computes exactly, does not
    /// fit in memory, or changed since `model` was opened.
    pub fn load(model: &Model) -> Result<Self, LoadError> {
        let decoder = load::load(model)?;
        // Looked at after the last byte was read.
        if let Some(path) = model.changed_file() {
            let message = "it changed after its digest was computed; run again";
            return Err(LoadError::file(path, message));
        }
        Ok(Self {
            decoder,
            tokenizer: Arc::clone(&model.tokenizer),
            eos: model.eos.clone(),
            answerer: answerer(model),
        })
    }

    /// Logits after every token of `tokens`, shape (T, V); for tests against references.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if a product fails.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
        let a = &self.decoder.architecture;
        let mut kv = kv::KvStore::new(a.n_layer, a.n_kv_head, a.head_dim);
        let trie = trie::Trie::new(&[tokens], sweep::WAVE_ROWS);
        let mut rows = Vec::new();
        let all = |node: usize| (0..trie.nodes[node].span.len()).collect();
        let sweep = sweep::Sweep {
            decoder: &self.decoder,
            sequences: &[tokens],
            trie: &trie,
            keep: sweep::Keep::Nothing,
        };
        sweep.run(&mut kv, &Stop::new(), all, |_, hidden| {
            rows.extend(head::for_logits(&self.decoder, &hidden, |_, it, _| {
                it.to_vec()
            }));
            Ok(())
        })?;
        Ok(rows)
    }

    /// Why `request` cannot be run, if it cannot.
    fn refuse(&self, request: &Request) -> Option<Failure> {
        let a = &self.decoder.architecture;
        if a.n_context < request.n_positions() {
            let needed = request.n_positions();
            return Some(Failure::ContextOverflow {
                needed,
                n_context: a.n_context,
            });
        }
        let bad = |message: String| Some(Failure::Engine { message });
        if let Some(token) = request.tokens.iter().find(|it| a.n_vocab <= **it as usize) {
            return bad(format!(
                "token {token} is outside the vocabulary of {}",
                a.n_vocab
            ));
        }
        match request.work {
            Work::Loglikelihood { first_scored: 0 } => bad("nothing to condition on".to_owned()),
            Work::Loglikelihood { first_scored } if request.tokens.len() <= first_scored => {
                bad("no token to score".to_owned())
            }
            Work::Generation(_) if request.tokens.is_empty() => {
                bad("an empty prompt to continue".to_owned())
            }
            _ => None,
        }
    }
}

impl Engine for LocalEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            n_context: self.decoder.architecture.n_context,
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
    ) -> Result<(), EngineError> {
        let mut likelihoods = Vec::new();
        let mut generations = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            if let Some(failure) = self.refuse(request) {
                deliver(index, Err(failure));
                continue;
            }
            match &request.work {
                Work::Loglikelihood { first_scored } => likelihoods.push(likelihood::Task {
                    index,
                    tokens: &request.tokens,
                    first_scored: *first_scored,
                }),
                Work::Generation(params) => generations.push(generate::Task {
                    index,
                    tokens: &request.tokens,
                    params: Arc::clone(params),
                }),
            }
        }
        likelihood::run(&self.decoder, &likelihoods, stop, deliver)?;
        if stop.is_raised() {
            return Ok(());
        }
        let ending = generate::Ending {
            tokenizer: &self.tokenizer,
            eos: &self.eos,
        };
        generate::run(&self.decoder, &ending, &generations, stop, deliver)
    }
}
