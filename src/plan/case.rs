//! One variant applied to one example on one model: the prompt and its requests.

use super::priors::Priors;
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
    /// What the model prefers without the example; empty without choices and on later repeats.
    pub priors: Priors,
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
    pub requests: Asked,
}

/// Requests whose logprobs together are those of one text; or why there are none.
pub type Asked = Result<Vec<Request>, Failure>;

impl Case {
    /// Every request of the case, in the order that [`crate::score`] expects the outcomes: its
    /// own, then those of its priors.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.own_requests().chain(self.prior_requests())
    }

    /// What is asked about this case alone: scored texts, then the generation.
    pub fn own_requests(&self) -> impl Iterator<Item = &Request> {
        let scored = self.scored.iter().map(|it| &it.requests);
        let scored = scored.filter_map(|it| it.as_ref().ok()).flatten();
        scored.chain(self.generation.iter().filter_map(|it| it.as_ref().ok()))
    }

    /// What is asked for its priors, which many cases share.
    pub fn prior_requests(&self) -> impl Iterator<Item = &Request> {
        let texts = self.priors.texts();
        texts.filter_map(|it| it.as_ref().ok()).flatten()
    }
}
