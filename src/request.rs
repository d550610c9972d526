//! The narrow waist: what is asked of a model and what it answers, as plain data.
//!
//! A [`Request`] is tokens and what to do with them; it knows no example, no
//! choice and no label. A [`Response`] keeps every per-token value, so nothing
//! later needs the model again. Equal requests to the same model have equal
//! [`RequestKey`]s, which is what the store and the collapsing of duplicates rest on.

use std::fmt;
use std::sync::Arc;

/// Version of the arithmetic behind a score; part of every key.
///
/// Raised whenever a change may move a bit of a logprob or a token of a
/// generation, so that answers of an older engine are never mixed with new ones.
pub const SCORING_VERSION: u32 = 2;

/// One unit of model work.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The whole token sequence: context first; for a likelihood also the continuation.
    pub tokens: Arc<[u32]>,
    /// What to compute.
    pub work: Work,
}

/// What to compute from the tokens of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Logprobs of `tokens[first_scored..]`, each conditioned on all tokens before it.
    ///
    /// `first_scored` is at least 1 and less than the number of tokens.
    Loglikelihood {
        /// Index of the first token that is scored.
        first_scored: usize,
    },
    /// Text that continues the tokens.
    Generation(Arc<GenerationParams>),
}

/// How a generation is drawn and where it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationParams {
    /// Upper bound on generated tokens, the end token included.
    pub max_tokens: usize,
    /// Texts that end the generation; the earliest one cuts it and is removed.
    pub stop: Vec<String>,
    /// Greedy, or how to draw.
    pub sampling: Sampling,
    /// Divides positive and multiplies negative logits of every token already in
    /// the prompt or the output (Hugging Face's `repetition_penalty`); 1 = off.
    pub repetition_penalty: f32,
}

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// The most likely token; ties go to the lowest id.
    Greedy,
    /// A draw, after temperature, `top_k`, `top_p` and `min_p` in Hugging Face's order.
    Draw {
        /// Divides the logits; greater than 0.
        temperature: f32,
        /// Keeps the k most likely tokens (ties kept).
        top_k: Option<usize>,
        /// Keeps the smallest set of tokens whose probability reaches this.
        top_p: Option<f32>,
        /// Keeps tokens at least this fraction as likely as the best.
        min_p: Option<f32>,
        /// Seeds this generation's own random stream; differs for every case and repeat.
        stream: [u8; 32],
    },
}

/// What a model answered to one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// Answer to [`Work::Loglikelihood`]; both vectors have one entry per scored token.
    Loglikelihood {
        /// Natural-log probability of each scored token; at most 0, possibly -inf.
        logprobs: Vec<f32>,
        /// Whether the token was the most likely one at its position (ties: lowest id).
        is_argmax: Vec<bool>,
    },
    /// Answer to [`Work::Generation`].
    Generation {
        /// Generated tokens, the end token excluded; may run past the stop text.
        tokens: Vec<u32>,
        /// Decoded text, cut before the earliest stop text; otherwise raw.
        text: String,
        /// Why it ended.
        finish_reason: FinishReason,
    },
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model wrote its end-of-text token.
    Eos,
    /// A stop text appeared.
    Stop,
    /// `max_tokens` were written, or the context was full.
    Length,
}

impl FinishReason {
    /// The name used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }

    /// The reason of that name in a table.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Eos, Self::Stop, Self::Length]
            .into_iter()
            .find(|it| it.as_str() == name)
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The tokens do not fit the model's context.
    #[error("{needed} tokens do not fit the model's context of {n_context}")]
    ContextOverflow {
        /// Positions the request needs.
        needed: usize,
        /// Positions the model has.
        n_context: usize,
    },
    /// The model produced NaN or infinite logits.
    #[error("the model produced logits that are not finite")]
    NonFinite,
    /// The engine failed on this request.
    #[error("the engine failed: {message}")]
    Engine {
        /// What the engine reported.
        message: String,
    },
}

/// The answer to one request, or why there is none.
pub type Outcome = Result<Response, Failure>;

/// A blake3 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Its first eight bytes, little-endian: of a million digests, no two have the same but with a
    /// chance of one in thirty million.
    pub fn head(self) -> u64 {
        let (bytes, _) = self.0.split_first_chunk().expect("a digest has 32 bytes");
        u64::from_le_bytes(*bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Identifies a request to a given model; equal keys have equal answers.
pub type RequestKey = Digest;

/// What answers depend on besides the request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answerer {
    /// Digest of weights, tokenizer and adapter.
    pub model_digest: Digest,
    /// Names the arithmetic that computed the answer, e.g. `local-f32-fma`.
    pub numerics: String,
}

impl Request {
    /// A request for the logprobs of `tokens[first_scored..]`.
    pub fn loglikelihood(tokens: impl Into<Arc<[u32]>>, first_scored: usize) -> Self {
        Self {
            tokens: tokens.into(),
            work: Work::Loglikelihood { first_scored },
        }
    }

    /// A request for text that continues `tokens`.
    pub fn generation(tokens: impl Into<Arc<[u32]>>, params: Arc<GenerationParams>) -> Self {
        Self {
            tokens: tokens.into(),
            work: Work::Generation(params),
        }
    }

    /// How many positions of context the request occupies at least.
    ///
    /// The last token of a likelihood is predicted but never fed, so it takes no
    /// position; a generation needs room for one new token.
    pub fn n_positions(&self) -> usize {
        match self.work {
            Work::Loglikelihood { .. } => self.tokens.len().saturating_sub(1),
            Work::Generation(_) => self.tokens.len(),
        }
    }

    /// The content address of this request when put to `answerer`.
    ///
    /// Every field is length-prefixed, so no two different requests share an encoding.
    pub fn key(&self, answerer: &Answerer) -> RequestKey {
        let mut hash = blake3::Hasher::new();
        hash.update(&SCORING_VERSION.to_le_bytes());
        hash.update(&answerer.model_digest.0);
        update_text(&mut hash, &answerer.numerics);
        hash.update(&(self.tokens.len() as u64).to_le_bytes());
        for token in self.tokens.iter() {
            hash.update(&token.to_le_bytes());
        }
        match &self.work {
            Work::Loglikelihood { first_scored } => {
                hash.update(b"l")
                    .update(&(*first_scored as u64).to_le_bytes());
            }
            Work::Generation(params) => {
                hash.update(b"g");
                params.update(&mut hash);
            }
        }
        Digest(*hash.finalize().as_bytes())
    }
}

impl GenerationParams {
    fn update(&self, hash: &mut blake3::Hasher) {
        hash.update(&(self.max_tokens as u64).to_le_bytes());
        hash.update(&(self.stop.len() as u64).to_le_bytes());
        for stop in &self.stop {
            update_text(hash, stop);
        }
        hash.update(&self.repetition_penalty.to_le_bytes());
        match &self.sampling {
            Sampling::Greedy => {
                hash.update(b"greedy");
            }
            Sampling::Draw {
                temperature,
                top_k,
                top_p,
                min_p,
                stream,
            } => {
                hash.update(b"draw").update(&temperature.to_le_bytes());
                // An absent setting has its own byte: top_p = 1 and no top_p are told apart.
                for setting in [
                    top_k.map(|k| k as f64),
                    top_p.map(f64::from),
                    min_p.map(f64::from),
                ] {
                    hash.update(&[u8::from(setting.is_some())]);
                    hash.update(&setting.unwrap_or_default().to_le_bytes());
                }
                hash.update(stream);
            }
        }
    }
}

/// Seeds the random stream of one sampled generation.
///
/// A function of the experiment's seed and the case alone, so a draw depends
/// neither on the order of work nor on which other cases exist.
pub fn sampling_stream(
    seed: u64,
    model_digest: Digest,
    variant: &str,
    example_id: &str,
    repeat: usize,
) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes()).update(&model_digest.0);
    update_text(&mut hash, variant);
    update_text(&mut hash, example_id);
    hash.update(&(repeat as u64).to_le_bytes());
    *hash.finalize().as_bytes()
}

fn update_text(hash: &mut blake3::Hasher, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes())
        .update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answerer() -> Answerer {
        Answerer {
            model_digest: Digest([7; 32]),
            numerics: "test".to_owned(),
        }
    }

    fn params() -> GenerationParams {
        GenerationParams {
            max_tokens: 8,
            stop: vec!["\n".to_owned()],
            sampling: Sampling::Draw {
                temperature: 0.5,
                top_k: None,
                top_p: Some(0.9),
                min_p: None,
                stream: [1; 32],
            },
            repetition_penalty: 1.0,
        }
    }

    /// A key that ignored one of these would serve one request's answer as another's.
    #[test]
    fn every_part_of_a_request_is_in_its_key() {
        let generation = |change: &dyn Fn(&mut GenerationParams)| {
            let mut params = params();
            change(&mut params);
            Request::generation([1, 2, 3], Arc::new(params)).key(&answerer())
        };
        let draw = |temperature, top_k, top_p, min_p, stream| {
            generation(&|it| {
                it.sampling = Sampling::Draw {
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    stream,
                };
            })
        };
        let other_model = Answerer {
            model_digest: Digest([8; 32]),
            ..answerer()
        };
        let other_numerics = Answerer {
            numerics: "other".to_owned(),
            ..answerer()
        };
        let plain = Request::loglikelihood([1, 2, 3], 1);
        let keys = [
            plain.key(&answerer()),
            plain.key(&other_model),
            plain.key(&other_numerics),
            Request::loglikelihood([1, 2, 3], 2).key(&answerer()),
            Request::loglikelihood([1, 2, 4], 1).key(&answerer()),
            Request::loglikelihood([1, 2], 1).key(&answerer()),
            generation(&|_| {}),
            generation(&|it| it.max_tokens = 9),
            generation(&|it| it.stop = vec![]),
            generation(&|it| it.stop = vec!["\n".to_owned(), String::new()]),
            generation(&|it| it.repetition_penalty = 1.1),
            generation(&|it| it.sampling = Sampling::Greedy),
            draw(0.6, None, Some(0.9), None, [1; 32]),
            draw(0.5, Some(1), Some(0.9), None, [1; 32]),
            draw(0.5, None, None, Some(0.9), [1; 32]),
            draw(0.5, None, None, None, [1; 32]),
            draw(0.5, None, Some(0.9), None, [2; 32]),
        ];
        for (i, a) in keys.iter().enumerate() {
            for (j, b) in keys.iter().enumerate() {
                assert_eq!(a == b, i == j, "keys {i} and {j}");
            }
        }
    }

    #[test]
    fn a_stream_belongs_to_one_case_and_repeat() {
        let digest = Digest([7; 32]);
        let base = sampling_stream(1, digest, "v", "e", 0);
        assert_eq!(base, sampling_stream(1, digest, "v", "e", 0));
        for other in [
            sampling_stream(2, digest, "v", "e", 0),
            sampling_stream(1, Digest([8; 32]), "v", "e", 0),
            sampling_stream(1, digest, "ve", "", 0),
            sampling_stream(1, digest, "w", "e", 0),
            sampling_stream(1, digest, "v", "f", 0),
            sampling_stream(1, digest, "v", "e", 1),
        ] {
            assert_ne!(base, other);
        }
    }
}
