//! One variant applied to one example on one model: the prompt and its requests.

use crate::request::{Failure, Request};

/// Where a case stands in the plan; indices into the plan's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaseKey {
    /// Index of the model.
    pub model: usize,
    /// Index of the variant.
    pub variant: usize,
    /// Index of the example.
    pub example: usize,
    /// Which draw; 0 unless generations are sampled several times.
    pub repeat: usize,
}

/// A case with everything that is asked about it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its place in the plan.
    pub key: CaseKey,
    /// The prompt as the model meets it, special tokens as text.
    pub prompt: String,
    /// Tokens of the prompt, those of a likelihood where it is scored.
    pub n_context_tokens: usize,
    /// The texts that are scored; the target, or every choice. Empty on later repeats.
    pub scored: Vec<ScoredText>,
    /// The generation, where the experiment asks for one.
    pub generation: Option<Result<Request, Failure>>,
    /// Shots that were dropped so that the prompt fits.
    pub n_dropped_shots: usize,
    /// Context tokens that were cut on the left so that the prompt fits.
    pub n_truncated_tokens: usize,
}

/// One text whose log-likelihood is asked for.
#[derive(Debug, Clone)]
pub struct ScoredText {
    /// Its index among the choices, if it is one.
    pub choice_index: Option<usize>,
    /// Whether it is the right answer.
    pub is_target: bool,
    /// The target's own text, without delimiter.
    pub text: String,
    /// Whether a token straddles the border between prompt and scored text.
    pub boundary_merge: bool,
    /// Requests whose logprobs together are those of the text; or why there are none.
    pub requests: Result<Vec<Request>, Failure>,
}

impl Case {
    /// Every request of the case, scored texts first, in the order that
    /// [`crate::score`] expects the outcomes.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        let scored = self
            .scored
            .iter()
            .filter_map(|it| it.requests.as_ref().ok())
            .flatten();
        scored.chain(self.generation.iter().filter_map(|it| it.as_ref().ok()))
    }
}
