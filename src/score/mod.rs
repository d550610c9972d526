//! Turns responses into scores, one per case.
//!
//! A [`Score`] is a fact about a single case: how likely the target was, which
//! choice ranked first, what was generated and how it was judged. Averages live in
//! [`crate::metric`].
//!
//! Every function is pure, so stored responses can be scored again years later
//! without a model. Knows `plan`, `request` and `text_metric`, and of `experiment`
//! how metrics are declared; must not know `engine`.

mod judges;
mod priors;
#[cfg(test)]
mod tests;

use crate::plan::{Asked, Case, CaseKey, ScoredText};
use crate::request::{Failure, FinishReason, Outcome, Request, Response, Work};
use crate::text_metric::{CaseJudgement, TextJudge, TextMetricError};

pub use judges::{conditions, judges};
pub use priors::softmax;

/// Whether a case has its answers; says nothing about how good they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Everything asked was answered.
    Ok,
    /// The prompt does not fit the model.
    ContextOverflow,
    /// The model produced NaN or infinite logits.
    NonFinite,
    /// The target has probability 0, so its log-likelihood is no number to average.
    ZeroProbability,
    /// The engine failed on this case.
    EngineError,
    /// A server failed on this case.
    RemoteError,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::ContextOverflow,
        Self::NonFinite,
        Self::ZeroProbability,
        Self::EngineError,
        Self::RemoteError,
    ];

    /// The name used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ContextOverflow => "context_overflow",
            Self::NonFinite => "non_finite",
            Self::ZeroProbability => "zero_probability",
            Self::EngineError => "engine_error",
            Self::RemoteError => "remote_error",
        }
    }

    /// The status of that name in a table.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
}

impl From<&Failure> for Status {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::ContextOverflow { .. } => Self::ContextOverflow,
            Failure::NonFinite => Self::NonFinite,
            Failure::Engine { .. } => Self::EngineError,
        }
    }
}

/// What is known about one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Its place in the plan.
    pub key: CaseKey,
    /// Whether all answers are there.
    pub status: Status,
    /// What went wrong, for a person.
    pub message: Option<String>,
    /// The prompt as rendered.
    pub prompt: String,
    /// Tokens of the context.
    pub n_context_tokens: usize,
    /// The target's likelihood; with choices, that of the right choice. Only on repeat 0.
    pub likelihood: Option<Likelihood>,
    /// Every choice; empty without choices and on later repeats.
    pub choices: Vec<ChoiceScore>,
    /// The generation.
    pub generation: Option<Generation>,
    /// One entry per declared text metric; `None` where there is nothing to judge.
    pub judgements: Vec<Option<CaseJudgement>>,
    /// Scored tokens, where they were asked for.
    pub tokens: Vec<TokenScore>,
}

/// How likely a text was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Sum of the tokens' logprobs, in nats; finite and at most 0.
    pub loglikelihood: f64,
    /// Scored tokens.
    pub n_tokens: usize,
    /// UTF-8 bytes of the target's own text.
    pub n_bytes: usize,
    /// Whether every scored token was the most likely one.
    pub greedy_match: bool,
    /// Whether a token straddled the border between prompt and scored text.
    pub boundary_merge: bool,
}

/// How likely one choice was.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceScore {
    /// The choice's text.
    pub text: String,
    /// Whether it is the right one.
    pub is_target: bool,
    /// In nats; may be -inf.
    pub loglikelihood: f64,
    /// Scored tokens.
    pub n_tokens: usize,
    /// Its probability among the choices after content-free prompts; `None` where not asked for.
    pub prior: Option<f64>,
    /// Its loglikelihood after an empty context or the premise, in nats; may be -inf. `None` where
    /// not asked for.
    pub unconditional: Option<f64>,
}

impl ChoiceScore {
    /// Unicode characters of the choice's own text, by which `acc_norm` divides.
    pub fn n_chars(&self) -> usize {
        self.text.chars().count()
    }

    /// UTF-8 bytes of the choice's own text, by which `acc_bytes` divides.
    pub fn n_bytes(&self) -> usize {
        self.text.len()
    }
}

/// What was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The text, cut at a stop text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens written, the end token excluded.
    pub n_tokens: usize,
}

/// One scored token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The choice it belongs to, if any.
    pub choice_index: Option<usize>,
    /// Its place among the scored tokens, from 0.
    pub position: usize,
    /// Its id.
    pub token_id: u32,
    /// In nats.
    pub logprob: f32,
    /// Whether it was the most likely one.
    pub is_argmax: bool,
}

/// What a case is scored against.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Accepted outputs, the first one is the target.
    pub references: &'a [String],
    /// The declared text metrics.
    pub judges: &'a [TextJudge],
    /// For each of them the [`conditions`] of this example, which judge in its place where
    /// there are some; or why they cannot.
    pub conditions: &'a [Result<Vec<TextJudge>, TextMetricError>],
    /// Whether to keep every scored token.
    pub keep_tokens: bool,
}

/// The first thing that went wrong with a case.
#[derive(Default)]
struct Trouble(Option<(Status, String)>);

impl Trouble {
    fn report(&mut self, status: Status, message: String) {
        self.0.get_or_insert((status, message));
    }
}

/// Scores one case from the outcomes of [`Case::requests`], in that order.
pub fn score(case: Case, outcomes: Vec<Outcome>, key: &Key<'_>) -> Score {
    let mut outcomes = outcomes.into_iter();
    let mut trouble = Trouble::default();
    let mut read = read_scored(&case, &mut outcomes, &mut trouble);
    let generation = match read_generation(&case, &mut outcomes) {
        Ok(generation) => generation,
        Err(failure) => {
            trouble.report(Status::from(&failure), failure.to_string());
            None
        }
    };
    if let Err(failure) = priors::add(&mut read.choices, &case.priors, &mut outcomes) {
        trouble.report(Status::from(&failure), format!("prior: {failure}"));
    }
    let judgements = judgements(generation.as_ref(), key, &mut trouble);
    let (status, message) = trouble
        .0
        .map_or((Status::Ok, None), |it| (it.0, Some(it.1)));
    Score {
        key: case.key,
        status,
        message,
        likelihood: read.likelihood,
        choices: read.choices,
        judgements,
        generation,
        tokens: if key.keep_tokens {
            read.tokens
        } else {
            Vec::new()
        },
        prompt: case.prompt,
        n_context_tokens: case.n_context_tokens,
    }
}

/// What the scored texts of a case say.
#[derive(Default)]
struct ReadScored {
    likelihood: Option<Likelihood>,
    choices: Vec<ChoiceScore>,
    tokens: Vec<TokenScore>,
}

/// Reads the target, or all choices.
fn read_scored(
    case: &Case,
    outcomes: &mut impl Iterator<Item = Outcome>,
    trouble: &mut Trouble,
) -> ReadScored {
    let mut read = ReadScored::default();
    let mut is_complete = true;
    for scored in &case.scored {
        let text = match read_text(scored, outcomes) {
            Ok(text) => text,
            Err(failure) => {
                trouble.report(Status::from(&failure), failure.to_string());
                is_complete = false;
                continue;
            }
        };
        if scored.is_target && text.loglikelihood == f64::NEG_INFINITY {
            trouble.report(
                Status::ZeroProbability,
                "the model gives the target probability 0".to_owned(),
            );
            is_complete = false;
        } else if scored.is_target {
            read.likelihood = Some(text.likelihood(scored));
        }
        if let Some(choice_index) = scored.choice_index {
            debug_assert!(
                !is_complete || choice_index == read.choices.len(),
                "choices come in order"
            );
            read.choices.push(ChoiceScore {
                text: scored.text.clone(),
                is_target: scored.is_target,
                loglikelihood: text.loglikelihood,
                n_tokens: text.tokens.len(),
                prior: None,
                unconditional: None,
            });
        }
        read.tokens.extend(text.tokens);
    }
    if !is_complete {
        // A ranking without all its choices would be a guess.
        read.choices.clear();
        if case.scored.iter().any(|it| it.choice_index.is_some()) {
            read.likelihood = None;
        }
    }
    read
}

/// One entry per declared text metric.
fn judgements(
    generation: Option<&Generation>,
    key: &Key<'_>,
    trouble: &mut Trouble,
) -> Vec<Option<CaseJudgement>> {
    let mut judgements = Vec::with_capacity(key.judges.len());
    for (judge, conditions) in key.judges.iter().zip(key.conditions) {
        let judged = generation.map(|it| match conditions {
            Err(err) => Err(err.to_string()),
            Ok(none) if none.is_empty() => judge
                .judge(&it.text, key.references)
                .map_err(|err| err.to_string()),
            Ok(conditions) => {
                judges::judge_all(conditions, &it.text).map_err(|err| err.to_string())
            }
        });
        // A generation that cannot be judged is no answer: never wrong, never hidden.
        if let Some(Err(message)) = &judged {
            trouble.report(
                Status::EngineError,
                format!("`{}`: {message}", judge.name()),
            );
        }
        judgements.push(judged.and_then(Result::ok));
    }
    judgements
}

/// The generation, where the case asks for one.
fn read_generation(
    case: &Case,
    outcomes: &mut impl Iterator<Item = Outcome>,
) -> Result<Option<Generation>, Failure> {
    let outcome = match &case.generation {
        None => return Ok(None),
        Some(Err(failure)) => return Err(failure.clone()),
        Some(Ok(_)) => outcomes.next(),
    };
    match outcome {
        Some(Ok(Response::Generation {
            tokens,
            text,
            finish_reason,
        })) => Ok(Some(Generation {
            text,
            finish_reason,
            n_tokens: tokens.len(),
        })),
        Some(Err(failure)) => Err(failure),
        // A case without what it asked for would pass for one that has all its answers.
        Some(Ok(Response::Loglikelihood { .. })) | None => Err(Failure::Engine {
            message: "a generation was answered with something else".to_owned(),
        }),
    }
}

/// A text's tokens, put together from its requests.
struct ReadText {
    loglikelihood: f64,
    greedy_match: bool,
    tokens: Vec<TokenScore>,
}

impl ReadText {
    fn likelihood(&self, scored: &ScoredText) -> Likelihood {
        Likelihood {
            loglikelihood: self.loglikelihood,
            n_tokens: self.tokens.len(),
            n_bytes: scored.text.len(),
            greedy_match: self.greedy_match,
            boundary_merge: scored.boundary_merge,
        }
    }
}

/// Reads the outcomes of one scored text.
fn read_text(
    scored: &ScoredText,
    outcomes: &mut impl Iterator<Item = Outcome>,
) -> Result<ReadText, Failure> {
    read_asked(&scored.requests, scored.choice_index, outcomes)
}

/// Reads the outcomes of one text; takes all of them even after a failure.
fn read_asked(
    asked: &Asked,
    choice_index: Option<usize>,
    outcomes: &mut impl Iterator<Item = Outcome>,
) -> Result<ReadText, Failure> {
    let requests = asked.as_ref().map_err(Clone::clone)?;
    let mut read = ReadText {
        loglikelihood: 0.0,
        greedy_match: true,
        tokens: Vec::new(),
    };
    let mut failure = None;
    for request in requests {
        match outcomes.next() {
            Some(Ok(Response::Loglikelihood {
                logprobs,
                is_argmax,
            })) => {
                if let Err(err) = check(request, &logprobs, &is_argmax) {
                    failure.get_or_insert(err);
                    continue;
                }
                let first = request.tokens.len() - logprobs.len();
                for (i, (logprob, is_argmax)) in logprobs.into_iter().zip(is_argmax).enumerate() {
                    // Summed in f64 and in token order: in f32 the order of addition
                    // could move the digits that a gate compares.
                    read.loglikelihood += f64::from(logprob);
                    read.greedy_match &= is_argmax;
                    read.tokens.push(TokenScore {
                        choice_index,
                        position: read.tokens.len(),
                        token_id: request.tokens[first + i],
                        logprob,
                        is_argmax,
                    });
                }
            }
            Some(Err(err)) => {
                failure.get_or_insert(err);
            }
            _ => {
                failure.get_or_insert(Failure::Engine {
                    message: "a likelihood was answered with something else".to_owned(),
                });
            }
        }
    }
    failure.map_or(Ok(read), Err)
}

/// Whether an answer is one to the request: a logprob and a flag for every scored token, and
/// each of them the logarithm of a probability.
///
/// Engines promise both; what broke the promise would otherwise become a number like any other.
fn check(request: &Request, logprobs: &[f32], is_argmax: &[bool]) -> Result<(), Failure> {
    let n_scored = match request.work {
        Work::Loglikelihood { first_scored } => request.tokens.len() - first_scored,
        Work::Generation(_) => 0,
    };
    if logprobs.len() != n_scored || is_argmax.len() != n_scored {
        return Err(Failure::Engine {
            message: format!(
                "{n_scored} tokens were to be scored, and {} were",
                logprobs.len()
            ),
        });
    }
    if logprobs.iter().any(|it| it.is_nan()) {
        return Err(Failure::NonFinite);
    }
    match logprobs.iter().find(|it| 0.0 < **it) {
        Some(logprob) => Err(Failure::Engine {
            message: format!("{logprob} is no logarithm of a probability"),
        }),
        None => Ok(()),
    }
}
