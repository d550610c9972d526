//! The local engine: a decoder on this machine's CPU.
//!
//! Requests of one call, scored or written on, form a trie over their tokens; what they
//! share is computed once. Memory is bounded whatever their number: the trie exists for
//! a window of [`Limits::window`] tokens at a time, keys and values for one path of it and
//! for [`Limits::n_slots`] sequences that are being written, activations for a wave of
//! [`Limits::wave_rows`] rows; beside them stand only the requests themselves and 16
//! bytes for each. What does not fit is refused before anything is computed. A score is a function of weights and token ids alone: the same bits for
//! any batch, order, number of threads and place in the trie. Weights are decoded
//! to f32, activations are never quantised.

mod architecture;
mod arithmetic;
mod attention;
mod cpu;
mod decoder;
mod describe;
mod families;
mod generate;
mod head;
mod kernel;
mod kv;
mod kv_panels;
mod likelihood;
mod limits;
mod load;
mod matrix;
mod memory;
mod needs;
mod pool;
mod reading;
mod sample;
mod schedule;
mod stops;
mod sweep;
mod tensors;
mod trie;
mod vector;
mod wave;
mod weights;
mod window;

pub use describe::{Memory, check};
pub use limits::Limits;
pub use load::LoadError;

use std::sync::Arc;

use super::{Capabilities, Engine, EngineError, Rows, Stop};
use crate::model::Model;
use crate::model::tokenizer::Tokenizer;
use crate::request::{Answerer, Digest, Failure, FinishReason, Outcome, Request, Response, Work};
use architecture::Architecture;
use arithmetic::Arithmetic;
use cpu::Cpu;
use decoder::Decoder;
use tensors::Tensors;
use window::Task;

/// Names the arithmetic of this engine; part of every stored answer's key.
///
/// Every sum is a chain of fused multiply-adds in an order that neither the instruction
/// set nor the number of threads changes, so the name has no instruction set in it. A few
/// numbers per row (rotary angles, what sums of blocks are joined by) come from the
/// platform's functions, hence its name; they may be others where an x86 has no fused
/// multiply-add, so that is named too.
fn numerics() -> String {
    #[cfg(target_arch = "x86_64")]
    let is_plain = !std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let is_plain = false;
    format!(
        "local-f32-chain-{}-{}{}",
        std::env::consts::ARCH,
        std::env::consts::OS,
        if is_plain { "-nofma" } else { "" }
    )
}

/// What, besides a request, the answers of `model` depend on; known without its weights.
pub fn answerer(model: &Model) -> Answerer {
    Answerer {
        model_digest: Digest(*model.digest.as_bytes()),
        numerics: numerics(),
    }
}

/// Where candle operations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorDevice {
    /// candle's loops on the processor.
    Cpu,
    /// The CUDA device of that number; refused unless built with the feature `cuda`.
    Cuda(usize),
}

/// A decoder in one of its arithmetics.
enum Form {
    Cpu(Decoder<Cpu>),
    Tensors(Decoder<Tensors>),
}

/// A model in memory.
pub struct LocalEngine {
    form: Form,
    tokenizer: Arc<Tokenizer>,
    eos: Vec<u32>,
    answerer: Answerer,
    /// Bytes that answering may take. Read once, since memory that one call gave back may
    /// not count as free at the next.
    memory_bytes: Option<u64>,
}

impl LocalEngine {
    /// Loads the weights of `model`.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the checkpoint is not one this engine computes exactly, does not
    /// fit in memory, or changed since `model` was opened.
    pub fn load(model: &Model) -> Result<Self, LoadError> {
        let decoder = load::load(model, |keep| Cpu { keep })?;
        Self::new(model, Form::Cpu(decoder), answerer(model))
    }

    /// Loads the weights of `model` as candle tensors on one of candle's devices.
    ///
    /// Answers differ from those of [`LocalEngine::load`] by rounding, and on the processor
    /// they come more slowly: this is what other devices run, and what the fast loops are
    /// held against.
    ///
    /// # Errors
    ///
    /// As for [`LocalEngine::load`], or if there is no such device.
    pub fn load_as_tensors(model: &Model, device: TensorDevice) -> Result<Self, LoadError> {
        let name = match device {
            TensorDevice::Cpu => "cpu",
            TensorDevice::Cuda(_) => "cuda",
        };
        let device = match device {
            TensorDevice::Cpu => candle_core::Device::Cpu,
            TensorDevice::Cuda(number) => candle_core::Device::new_cuda(number)?,
        };
        let decoder = load::load(model, |_| Tensors { device })?;
        let answerer = Answerer {
            numerics: format!("{}-tensors-{name}", numerics()),
            ..answerer(model)
        };
        Self::new(model, Form::Tensors(decoder), answerer)
    }

    fn new(model: &Model, form: Form, answerer: Answerer) -> Result<Self, LoadError> {
        // Looked at after the last byte was read.
        if let Some(path) = model.changed_file() {
            let message = "it changed after its digest was computed; run again";
            return Err(LoadError::file(path, message));
        }
        Ok(Self {
            form,
            tokenizer: Arc::clone(&model.tokenizer),
            eos: model.eos.clone(),
            answerer,
            memory_bytes: limits::usable_bytes(),
        })
    }

    /// Logits after every token of `tokens`, shape (T, V); for tests against references.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if a product fails.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, EngineError> {
        match &self.form {
            Form::Cpu(it) => logits(it, tokens),
            Form::Tensors(it) => logits(it, tokens),
        }
    }

    /// As [`Engine::run`], cut to size by `limits`; no answer depends on them.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the requests do not fit in memory, or a product fails.
    pub fn run_within(
        &self,
        limits: &Limits,
        requests: &[Request],
        stop: &Stop,
        deliver: &mut dyn FnMut(usize, Outcome),
    ) -> Result<Rows, EngineError> {
        let mut tasks = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            match self.at_once(request) {
                Some(outcome) => deliver(index, outcome),
                None => tasks.push(Task { index, request }),
            }
        }
        let ending = generate::Ending {
            tokenizer: &self.tokenizer,
            eos: &self.eos,
            n_context: self.architecture().n_context,
        };
        let limits = Limits {
            memory_bytes: limits.memory_bytes.or(self.memory_bytes),
            ..*limits
        };
        match &self.form {
            Form::Cpu(it) => schedule::run(it, ending, tasks, &limits, stop, deliver),
            Form::Tensors(it) => schedule::run(it, ending, tasks, &limits, stop, deliver),
        }
    }

    fn architecture(&self) -> &Architecture {
        match &self.form {
            Form::Cpu(it) => &it.architecture,
            Form::Tensors(it) => &it.architecture,
        }
    }

    /// The outcome of a request that takes no computing.
    fn at_once(&self, request: &Request) -> Option<Outcome> {
        if let Some(failure) = self.refuse(request) {
            return Some(Err(failure));
        }
        let is_empty = match &request.work {
            Work::Generation(params) => params.max_tokens == 0,
            Work::Loglikelihood { .. } => false,
        };
        is_empty.then(|| {
            Ok(Response::Generation {
                tokens: Vec::new(),
                text: String::new(),
                finish_reason: FinishReason::Length,
            })
        })
    }

    /// Why `request` cannot be run, if it cannot.
    fn refuse(&self, request: &Request) -> Option<Failure> {
        let a = self.architecture();
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
            n_context: self.architecture().n_context,
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
        self.run_within(&Limits::default(), requests, stop, deliver)
    }
}

/// Logits after every token, (T, V).
fn logits<A: Arithmetic>(
    decoder: &Decoder<A>,
    tokens: &[u32],
) -> Result<Vec<Vec<f32>>, EngineError> {
    let mut pool = pool::Pool::new(&decoder.architecture, u64::MAX);
    let block = pool.kept(tokens.len());
    let mut rows = Vec::new();
    for start in (0..tokens.len()).step_by(limits::WAVE_ROWS) {
        let end = tokens.len().min(start + limits::WAVE_ROWS);
        let n_rows = end - start;
        let wave = wave::Wave {
            tokens: tokens[start..end].to_vec(),
            segments: vec![wave::Segment {
                rows: 0..n_rows,
                start,
                past: Vec::new(),
                block: block.id,
            }],
        };
        let wanted: Vec<usize> = (0..n_rows).collect();
        let hidden = decoder.forward(&wave, &wanted, &mut pool.kv, &Stop::new())?;
        let hidden = hidden.unwrap_or_default();
        let read = head::for_logits(decoder, &hidden, n_rows, |_, it, _| it.to_vec());
        rows.extend(read?);
    }
    Ok(rows)
}
