//! Cases, rendered and tokenised: a batch at a time in parallel, handed out in table order.
//!
//! A case does not depend on what was made before it, whatever the number of threads.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;

use crate::dataset::{Fields, Row};
use crate::experiment::{Diagnostic, Diagnostics, FewshotSpec, Overflow, ShotOrder};
use crate::request::{Digest, Failure, GenerationParams, Request, Sampling, sampling_stream};
use crate::template::{self, Draw, Guard, Guarded};

use super::Plan;
use super::answers::AnswerTemplates;
use super::case::{Asked, Case, CaseKey, ScoredText};
use super::join::{self, JoinError, Joined, Joiner};
use super::priors::{self, CONTENT_FREE, Cache, Priors, Want, Wanted};
use super::prompt::{PlannedVariant, Rendering};

/// Cases that are made at once, whose memory is held until they are handed out.
const BATCH_CASES: usize = 1024;
/// Bytes of the rows and shots that those cases are made of; a case of more is made alone. With its
/// tokens, a case takes some ten times as much.
const BATCH_BYTES: usize = 4 << 20;
/// Neighbouring cases that are made one after the other, since they have much in common.
const RUN_CASES: usize = 32;

/// One model's view of a plan: renders and tokenises cases.
pub struct Caser<'a> {
    plan: &'a Plan,
    model: usize,
    guard: Guard,
    date: Option<String>,
    answers: AnswerTemplates<'a>,
    wanted: Wanted,
    cache: Cache,
    /// For each variant, the whole pool in the order in which shots are drawn from it,
    /// where that is the same for every example.
    orders: Vec<OnceLock<Vec<usize>>>,
    /// Those that nobody is using.
    joiners: Mutex<Vec<Joiner<'a>>>,
    /// Mean bytes of a row of the pool.
    shot_bytes: usize,
}

/// A prompt that fits, or the best that could be done.
struct Fitted {
    prompt: Guarded,
    scored: Vec<ScoredText>,
    generation: Option<Result<Request, Failure>>,
    n_context_tokens: usize,
    n_truncated_tokens: usize,
    is_overflow: bool,
}

impl Plan {
    /// The cases of one model, in table order.
    pub fn cases(&self, model: usize) -> impl Iterator<Item = Case> + '_ {
        self.cases_until(model, &|| false)
    }

    /// The cases of one model, in table order, until `is_stopped`, which is asked before each is
    /// made. What comes are then the first ones.
    pub fn cases_until<'a>(
        &'a self,
        model: usize,
        is_stopped: &'a (dyn Fn() -> bool + Sync),
    ) -> impl Iterator<Item = Case> + 'a {
        let caser = self.caser(model);
        let n_cases = self.variants.len() * self.examples.len() * self.n_repeats();
        let mut start = 0;
        let batches = std::iter::from_fn(move || {
            let end = caser.batch_end(start, n_cases);
            let batch = caser.batch(start..end, is_stopped);
            let is_over = batch.is_empty();
            // A batch that was stopped short is the last one.
            start = if batch.len() == end - start {
                end
            } else {
                n_cases
            };
            (!is_over).then_some(batch)
        });
        batches.flatten()
    }

    /// Renders and tokenises for one model.
    pub fn caser(&self, model: usize) -> Caser<'_> {
        // Compiled before without a problem.
        let answers =
            AnswerTemplates::compile(&self.experiment, &self.dataset, &mut Diagnostics::new());
        Caser {
            plan: self,
            model,
            guard: Guard::new(self.models[model].model.tokenizer.specials()),
            date: self
                .experiment
                .spec
                .experiment
                .date
                .map(|it| it.to_string()),
            answers,
            wanted: Wanted::new(&self.experiment, self.n_fixed_choices().is_some()),
            cache: Cache::default(),
            orders: vec![OnceLock::new(); self.variants.len()],
            joiners: Mutex::default(),
            shot_bytes: self.pool.as_ref().map_or(0, |pool| {
                let n_bytes: usize = pool.rows.iter().map(Row::n_bytes).sum();
                n_bytes / pool.rows.len().max(1)
            }),
        }
    }

    /// Problems of the first example on each model and variant.
    pub(super) fn first_problems(&self) -> Diagnostics {
        let mut problems = Diagnostics::new();
        for model in 0..self.models.len() {
            let caser = self.caser(model);
            for (index, variant) in self.variants.iter().enumerate() {
                let key = CaseKey {
                    model,
                    variant: index,
                    example: 0,
                    repeat: 0,
                };
                if let Err(message) = caser.try_prompt(key, variant) {
                    let name = &self.models[model].name;
                    problems.push(
                        Diagnostic::error(format!(
                            "variant `{}` on model `{name}`: {message}",
                            variant.name
                        ))
                        .at(&self.experiment.spec.variants[&variant.name].name.place, ""),
                    );
                }
            }
        }
        problems
    }
}

impl Caser<'_> {
    /// Where a batch ends that begins at `start`: after the last case that its bounds allow.
    fn batch_end(&self, start: usize, n_cases: usize) -> usize {
        let mut n_bytes = 0;
        let last = n_cases.min(start + BATCH_CASES);
        for place in start..last {
            n_bytes += self.source_bytes(self.key(place));
            if BATCH_BYTES < n_bytes {
                return place.max(start + 1);
            }
        }
        last
    }

    /// Bytes of the row and about those of the shots that a case is made of.
    fn source_bytes(&self, key: CaseKey) -> usize {
        let n_shots = self.plan.variants[key.variant].n_shots;
        self.plan.row(key.example).n_bytes() + n_shots * self.shot_bytes
    }

    /// Cases by their place among those of the model, in parallel; the first ones if it is stopped.
    fn batch(&self, places: Range<usize>, is_stopped: &(dyn Fn() -> bool + Sync)) -> Vec<Case> {
        let runs: Vec<Range<usize>> = places
            .clone()
            .step_by(RUN_CASES)
            .map(|start| start..places.end.min(start + RUN_CASES))
            .collect();
        let in_turn = |run: Range<usize>| {
            self.with_joiner(|joiner| {
                let n_cases = run.len();
                let cases = run
                    .take_while(|_| !is_stopped())
                    .map(|place| self.case_after(joiner, self.key(place)));
                let cases: Vec<Case> = cases.collect();
                (cases.len() == n_cases, cases)
            })
        };
        let made: Vec<(bool, Vec<Case>)> = runs.into_par_iter().map(in_turn).collect();
        let n_whole = made.iter().take_while(|it| it.0).count();
        // What was made behind a gap is no use.
        let first = made.into_iter().take(n_whole + 1);
        first.flat_map(|it| it.1).collect()
    }

    /// The case at a place in table order.
    fn key(&self, place: usize) -> CaseKey {
        let (n_examples, n_repeats) = (self.plan.examples.len(), self.plan.n_repeats());
        CaseKey {
            model: self.model,
            variant: place / n_repeats / n_examples,
            example: place / n_repeats % n_examples,
            repeat: place % n_repeats,
        }
    }

    /// Renders and tokenises one case.
    ///
    /// Trouble with the case becomes a failure inside it: it is then counted and shown.
    pub fn case(&self, key: CaseKey) -> Case {
        self.with_joiner(|joiner| self.case_after(joiner, key))
    }

    /// Lends a joiner, which remembers what it met in other hands.
    fn with_joiner<T>(&self, work: impl FnOnce(&mut Joiner<'_>) -> T) -> T {
        let free = || self.joiners.lock().expect("no holder panics");
        let lent = free().pop();
        let mut joiner = lent.unwrap_or_else(|| Joiner::new(&self.plan.models[self.model].model));
        let result = work(&mut joiner);
        free().push(joiner);
        result
    }

    /// A case that may have much in common with the one that `joiner` met before.
    fn case_after(&self, joiner: &mut Joiner<'_>, key: CaseKey) -> Case {
        let variant = &self.plan.variants[key.variant];
        let mut n_shots = variant.n_shots;
        let policy = self.plan.experiment.spec.scoring.overflow;
        let fields = self.plan.row(key.example).fields();
        loop {
            let fitted = match self.render(key, variant, &fields, n_shots) {
                Ok(prompt) => self.fit(joiner, (key, variant), prompt, policy),
                Err(message) => self.broken(key, &message),
            };
            if fitted.is_overflow && policy == Overflow::DropShots && 0 < n_shots {
                n_shots -= 1;
                continue;
            }
            return Case {
                priors: self.priors(key, &fitted.prompt.text),
                key,
                prompt: fitted.prompt.text,
                n_context_tokens: fitted.n_context_tokens,
                scored: fitted.scored,
                generation: fitted.generation,
                n_dropped_shots: variant.n_shots - n_shots,
                n_truncated_tokens: fitted.n_truncated_tokens,
            };
        }
    }

    fn try_prompt(&self, key: CaseKey, variant: &PlannedVariant) -> Result<(), String> {
        let fields = self.plan.row(key.example).fields();
        let prompt = self.render(key, variant, &fields, variant.n_shots)?;
        let model = &self.plan.models[self.model].model;
        match join::prompt_tokens(model, &prompt) {
            // Trouble with this text, which says nothing of others: its case will fail.
            Ok(_) | Err(JoinError::Tokenizer(_)) => Ok(()),
            Err(err) => Err(err.to_string()),
        }
    }

    /// The shots of a case, as indices into the pool.
    fn shots(&self, key: CaseKey, variant: &PlannedVariant, n_shots: usize) -> Vec<usize> {
        let Some(pool) = self.plan.pool.as_ref().filter(|_| 0 < n_shots) else {
            return Vec::new();
        };
        let spec = &self.plan.experiment.spec;
        let order = match spec.fewshot.as_ref() {
            None
            | Some(FewshotSpec {
                order: ShotOrder::Fixed,
                ..
            }) => template::ShotOrder::Fixed,
            Some(FewshotSpec {
                order: ShotOrder::PerExample,
                ..
            }) => template::ShotOrder::PerExample,
            Some(FewshotSpec {
                order: ShotOrder::First,
                ..
            }) => template::ShotOrder::First,
        };
        let draw = Draw {
            order,
            seed: spec.experiment.seed,
            variant: &variant.name,
            example_id: &self.plan.examples[key.example].id,
        };
        let own = &self.plan.row(key.example).digest;
        let is_own = |row: usize| pool.rows[row].digest == *own;
        if order == template::ShotOrder::PerExample {
            return template::draw(pool.rows.len(), n_shots, draw, is_own);
        }
        // Drawn once: a draw takes time in proportion to the pool.
        let whole = || template::draw(pool.rows.len(), pool.rows.len(), draw, |_| false);
        let order = self.orders[key.variant].get_or_init(whole);
        let allowed = order.iter().filter(|row| !is_own(**row));
        allowed.take(n_shots).copied().collect()
    }

    fn render(
        &self,
        key: CaseKey,
        variant: &PlannedVariant,
        fields: &Fields,
        n_shots: usize,
    ) -> Result<Guarded, String> {
        let rendering = Rendering {
            model: &self.plan.models[self.model].model,
            guard: &self.guard,
            pool: self.plan.pool.as_ref(),
            answers: &self.answers,
            date: self.date.as_deref(),
        };
        let shots = self.shots(key, variant, n_shots);
        rendering.prompt(variant, fields, &shots)
    }

    /// Tokenises a prompt with everything scored after it.
    fn fit(
        &self,
        joiner: &mut Joiner<'_>,
        (key, variant): (CaseKey, &PlannedVariant),
        prompt: Guarded,
        policy: Overflow,
    ) -> Fitted {
        let delimiter = delimiter(variant, &prompt.text);
        let mut fitted = Fitted {
            prompt,
            scored: Vec::new(),
            generation: None,
            n_context_tokens: 0,
            n_truncated_tokens: 0,
            is_overflow: false,
        };
        if key.repeat == 0 {
            for (choice_index, is_target, text) in self.texts(key) {
                let target = self.guard.remove(&self.guard.text(&text));
                let joined = joiner.join(&fitted.prompt, delimiter, &target);
                let scored = self.scored(&mut fitted, joined, policy);
                let (boundary_merge, requests) = scored;
                fitted.scored.push(ScoredText {
                    choice_index,
                    is_target,
                    text,
                    boundary_merge,
                    requests,
                });
            }
        }
        fitted.generation = self.generation(joiner, key, &mut fitted, policy);
        fitted
    }

    /// The texts to score: every choice, or the target.
    fn texts(&self, key: CaseKey) -> Vec<(Option<usize>, bool, String)> {
        let answer = &self.plan.answers[key.example];
        if answer.choices.is_empty() {
            return answer
                .references
                .first()
                .map(|it| (None, true, it.clone()))
                .into_iter()
                .collect();
        }
        let choices = answer.choices.iter().cloned().enumerate();
        choices
            .map(|(i, it)| (Some(i), answer.target_choice == Some(i), it))
            .collect()
    }

    /// The choices of a case without its example.
    fn priors(&self, key: CaseKey, prompt: &str) -> Priors {
        let wanted = self.wanted;
        let has_choices = !self.plan.answers[key.example].choices.is_empty();
        if key.repeat != 0 || !has_choices {
            return Priors::default();
        }
        let variant = &self.plan.variants[key.variant];
        let shots = self.shots(key, variant, variant.n_shots);
        let content_free = (wanted.content_free != Want::No).then(|| {
            let make = || self.content_free(key, variant);
            self.cache.content_free(key.variant, &shots, make)
        });
        Priors {
            content_free,
            unconditional: match wanted.unconditional {
                Want::No => Vec::new(),
                Want::Shown | Want::Needed => self.unconditional(key, variant, prompt),
            },
            needs_content_free: wanted.content_free == Want::Needed,
            needs_unconditional: wanted.unconditional == Want::Needed,
        }
    }

    /// Every choice after each content-free prompt.
    fn content_free(&self, key: CaseKey, variant: &PlannedVariant) -> Vec<Vec<Asked>> {
        let after = |text: &&str| {
            let fields = priors::content_free_fields(&self.plan.dataset, text);
            let fitted = match self.render(key, variant, &fields, variant.n_shots) {
                Ok(prompt) => self.with_joiner(|joiner| {
                    self.fit(joiner, (key, variant), prompt, Overflow::Error)
                }),
                Err(message) => self.broken(key, &message),
            };
            fitted.scored.into_iter().map(|it| it.requests).collect()
        };
        CONTENT_FREE.iter().map(after).collect()
    }

    /// Every choice after an empty context, or after the premise.
    fn unconditional(
        &self,
        key: CaseKey,
        variant: &PlannedVariant,
        prompt: &str,
    ) -> Vec<Arc<Asked>> {
        let lead = priors::lead(prompt, delimiter(variant, prompt));
        let premise = self.plan.premise.as_ref().map_or(Ok(String::new()), |it| {
            let fields = self.plan.row(key.example).fields();
            let rendered = it.1.render(&self.guard.fields(&fields));
            rendered.map_err(|err| err.to_string())
        });
        let make = |choice: &str| {
            let requests = match &premise {
                Ok(premise) => self.without_prompt(premise, &lead, choice),
                Err(message) => Err(message.clone()),
            };
            requests.map_err(|message| Failure::Engine { message })
        };
        let shown = premise.as_deref().unwrap_or_default();
        let choices = self.plan.answers[key.example].choices.iter();
        choices
            .map(|it| {
                let name = (shown, lead.as_str(), it.as_str());
                self.cache.unconditional(name, || make(it))
            })
            .collect()
    }

    fn without_prompt(
        &self,
        premise: &str,
        lead: &str,
        text: &str,
    ) -> Result<Vec<Request>, String> {
        let model = &self.plan.models[self.model].model;
        let premise = priors::stripped_premise(self.guard.remove(premise));
        let target = self.guard.remove(&self.guard.text(text));
        let joined = self.with_joiner(|joiner| joiner.join(&premise, lead, &target));
        let joined = joined.map_err(|err| err.to_string())?;
        let requests = joined.requests(model.n_context);
        requests.ok_or_else(|| "the premise does not fit the model's context".to_owned())
    }

    fn scored(
        &self,
        fitted: &mut Fitted,
        joined: Result<Joined, JoinError>,
        policy: Overflow,
    ) -> (bool, Result<Vec<Request>, Failure>) {
        let model = &self.plan.models[self.model].model;
        let joined = match joined {
            Ok(joined) => joined,
            Err(err) => {
                return (
                    false,
                    Err(Failure::Engine {
                        message: err.to_string(),
                    }),
                );
            }
        };
        fitted.n_context_tokens = joined.first_scored;
        let merge = joined.boundary_merge;
        if let Some(requests) = joined.requests(model.n_context) {
            return (merge, Ok(requests));
        }
        fitted.is_overflow = true;
        let overflow = Failure::ContextOverflow {
            needed: joined.tokens.len() - 1,
            n_context: model.n_context,
        };
        if policy != Overflow::TruncateLeft {
            return (merge, Err(overflow));
        }
        let before = joined.tokens.len();
        let truncated = joined.truncated_left(model.n_context, model.bos);
        let requests = truncated.and_then(|it| {
            fitted.n_truncated_tokens = fitted.n_truncated_tokens.max(before - it.tokens.len());
            fitted.n_context_tokens = it.first_scored;
            it.requests(model.n_context)
        });
        (merge, requests.ok_or(overflow))
    }

    fn generation(
        &self,
        joiner: &mut Joiner<'_>,
        key: CaseKey,
        fitted: &mut Fitted,
        policy: Overflow,
    ) -> Option<Result<Request, Failure>> {
        let spec = self.plan.experiment.spec.generation.as_ref()?;
        let model = &self.plan.models[self.model].model;
        let mut tokens = match joiner.prompt_tokens(&fitted.prompt) {
            Ok(tokens) => tokens,
            Err(err) => {
                return Some(Err(Failure::Engine {
                    message: err.to_string(),
                }));
            }
        };
        if fitted.n_context_tokens == 0 {
            fitted.n_context_tokens = tokens.len();
        }
        let max_tokens = spec.max_tokens.get() as usize;
        // The last token that is written is never fed.
        let needed = tokens.len() + max_tokens - 1;
        if model.n_context < needed {
            fitted.is_overflow = true;
            let excess = needed - model.n_context;
            let keep = usize::from(model.bos.is_some() && tokens.first().copied() == model.bos);
            if policy != Overflow::TruncateLeft || tokens.len() <= excess + keep {
                return Some(Err(Failure::ContextOverflow {
                    needed,
                    n_context: model.n_context,
                }));
            }
            tokens.drain(keep..keep + excess);
            fitted.n_truncated_tokens = fitted.n_truncated_tokens.max(excess);
        }
        let sampling = if spec.is_greedy() {
            Sampling::Greedy
        } else {
            let seed = self.plan.experiment.spec.experiment.seed;
            let example_id = &self.plan.examples[key.example].id;
            let digest = Digest(*model.digest.as_bytes());
            let variant = &self.plan.variants[key.variant].name;
            Sampling::Draw {
                temperature: spec.temperature.get() as f32,
                top_k: spec.top_k.map(|it| it.get() as usize),
                top_p: spec.top_p.map(|it| it.get() as f32),
                min_p: spec.min_p.map(|it| it.get() as f32),
                stream: sampling_stream(seed, digest, variant, example_id, key.repeat),
            }
        };
        let params = GenerationParams {
            max_tokens,
            stop: spec.stop.clone(),
            sampling,
            repetition_penalty: spec.repetition_penalty.map_or(1.0, |it| it.get() as f32),
        };
        Some(Ok(Request::generation(tokens, Arc::new(params))))
    }

    /// A case whose prompt could not be rendered.
    fn broken(&self, key: CaseKey, message: &str) -> Fitted {
        let failure = Failure::Engine {
            message: message.to_owned(),
        };
        let texts = if key.repeat == 0 {
            self.texts(key)
        } else {
            Vec::new()
        };
        let scored = texts
            .into_iter()
            .map(|(choice_index, is_target, text)| ScoredText {
                choice_index,
                is_target,
                text,
                boundary_merge: false,
                requests: Err(failure.clone()),
            });
        Fitted {
            prompt: Guarded {
                text: String::new(),
                plain: Vec::new(),
            },
            scored: scored.collect(),
            generation: self
                .plan
                .experiment
                .spec
                .generation
                .as_ref()
                .map(|_| Err(failure.clone())),
            n_context_tokens: 0,
            n_truncated_tokens: 0,
            is_overflow: false,
        }
    }
}

/// What stands between a prompt and a scored text.
fn delimiter<'v>(variant: &'v PlannedVariant, prompt: &str) -> &'v str {
    match &variant.delimiter {
        Some(it) if !variant.is_chat() => it.as_str(),
        _ => join::default_delimiter(prompt, variant.is_chat()),
    }
}
