//! Runs a plan's cases through an engine, with the store in between.
//!
//! Cases are taken in windows bounded in bytes, so that a million of them need no more
//! memory than some ten thousand; what becomes of a case is its receiver's. Within a window equal requests collapse, stored answers are read, the
//! rest goes to the engine in one call, and every answer is stored as it comes. Requests of later
//! windows that equal one of an earlier window are answered from the store, whether or not older
//! answers may be used. A stop loses only what the engine had in flight.
//!
//! A panic of the engine ends neither the run nor the call's other answers: what it left
//! is asked again in halves, until the request that panics is alone and fails. What ends
//! the process at once (no memory, an overflown stack, a signal) cannot be caught.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::{Engine, EngineError, Rows, Stop, panic_text};
use crate::plan::{Case, CaseKey};
use crate::request::{Failure, Outcome, Request, RequestKey, Work};
use crate::store::{Store, StoreError};

/// Bytes of cases, requests and answers that are in memory together.
///
/// Prompts are shared within a window, so it is large: some ten thousand short cases.
/// What the cases of two windows share, short of a whole request, is computed in each.
const WINDOW_BYTES: usize = 32 << 20;

/// Bytes of a request besides its tokens: its keys and who waits for it.
const REQUEST_BYTES: usize = 512;

/// Bytes of a case besides its texts and requests.
const CASE_BYTES: usize = 512;

/// Bytes of a token: its id, its logprob and flag, or its text.
const TOKEN_BYTES: usize = 9;

/// Panics of the engine in one window after which nothing more of it is asked: by then more
/// than single requests are at fault. One among 10,000 takes about 15.
const MAX_PANICS: usize = 64;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine cannot go on.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What happened, for whoever draws progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A request of this case is answered; one that several wait for is told for each.
    Answered {
        /// The case.
        key: CaseKey,
        /// Whether the answer was in the store.
        from_store: bool,
    },
    /// A text or generation of this case cannot be asked for, so no answer will come.
    Refused {
        /// The case.
        key: CaseKey,
    },
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests of all cases.
    pub n_requests: usize,
    /// Requests the engine answered.
    pub n_computed: usize,
    /// Requests answered by the store, not counting what this run put there.
    pub n_stored: usize,
    /// What the engine's answers took.
    pub rows: Rows,
    /// Whether a stop cut the run short.
    pub is_stopped: bool,
}

/// Where answers come from and go to, besides the engine.
pub struct Storage<'a> {
    /// The response store.
    pub store: &'a mut Store,
    /// Whether answers of earlier runs may be used; new ones are written either way.
    pub may_read: bool,
}

/// Answers every case, in order, through `on_case(case, outcomes)`.
///
/// `outcomes` are in the order of [`Case::requests`]. Cases whose requests were not
/// all answered before a stop are not reported.
///
/// # Errors
///
/// [`RunError`]; what was answered until then is stored.
pub fn run(
    cases: impl Iterator<Item = Case>,
    engine: &dyn Engine,
    storage: &mut Storage<'_>,
    stop: &Stop,
    on_progress: &mut dyn FnMut(Progress),
    on_case: &mut dyn FnMut(Case, Vec<Outcome>),
) -> Result<Tally, RunError> {
    let mut tally = Tally::default();
    let mut known = HashSet::new();
    let mut cases = cases.peekable();
    while cases.peek().is_some() && !stop.is_raised() {
        let mut window = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < WINDOW_BYTES && !stop.is_raised() {
            let Some(case) = cases.next() else { break };
            n_bytes = case_bytes(&case).saturating_add(n_bytes);
            window.push(case);
        }
        run_window(
            window,
            engine,
            storage,
            stop,
            (&mut tally, &mut known),
            on_progress,
            on_case,
        )?;
    }
    tally.is_stopped = stop.is_raised();
    Ok(tally)
}

/// About what a case takes in memory until it is answered; none takes nothing.
fn case_bytes(case: &Case) -> usize {
    let texts = case.scored.iter().map(|it| it.text.len());
    // Priors are shared, so they hardly count.
    let requests = case.own_requests().map(|it| {
        let n_written = match &it.work {
            Work::Loglikelihood { .. } => 0,
            // Most texts end long before; what is written takes memory only then.
            Work::Generation(params) => params.max_tokens.min(1024),
        };
        let n_tokens = it.tokens.len().saturating_add(n_written);
        n_tokens
            .saturating_mul(TOKEN_BYTES)
            .saturating_add(REQUEST_BYTES)
    });
    let parts = texts.chain(requests).chain([case.prompt.len()]);
    parts.fold(CASE_BYTES, usize::saturating_add)
}

/// The distinct requests of a window and who waits for them.
#[derive(Default)]
struct Window {
    requests: Vec<Request>,
    keys: Vec<RequestKey>,
    outcomes: Vec<Option<Outcome>>,
    /// For each case, the indices of its requests.
    of_case: Vec<Vec<usize>>,
    /// Requests of the cases, those that only priors ask for counted once.
    n_requests: usize,
    /// For each request, the cases that have it as their own; a case may stand here twice.
    waiting: Vec<Vec<usize>>,
}

impl Window {
    fn new(cases: &[Case], engine: &dyn Engine) -> Self {
        let mut window = Self::default();
        let mut index_of: HashMap<RequestKey, usize> = HashMap::new();
        for (case_index, case) in cases.iter().enumerate() {
            let mut index = |request: &Request| {
                let key = request.key(engine.answerer());
                *index_of.entry(key).or_insert_with(|| {
                    window.requests.push(request.clone());
                    window.keys.push(key);
                    window.waiting.push(Vec::new());
                    window.requests.len() - 1
                })
            };
            let mut indices: Vec<usize> = case.own_requests().map(&mut index).collect();
            let of_priors: Vec<usize> = case.prior_requests().map(&mut index).collect();
            for own in &indices {
                window.waiting[*own].push(case_index);
            }
            window.n_requests += indices.len();
            indices.extend(of_priors);
            window.of_case.push(indices);
        }
        // What priors alone ask for counts once, however many cases share it.
        window.n_requests += window.waiting.iter().filter(|it| it.is_empty()).count();
        window.outcomes = vec![None; window.requests.len()];
        window
    }

    /// Makes a failure of every request that the engine passed over.
    ///
    /// Engines answer everything unless they are stopped. A case that is not reported would
    /// be missing from the tables, and the run would pass for a whole one.
    fn give_up(&mut self) {
        for outcome in self.outcomes.iter_mut().filter(|it| it.is_none()) {
            *outcome = Some(Err(Failure::Engine {
                message: "the request was not answered".to_owned(),
            }));
        }
    }

    /// Takes an answer and calls `told` for everyone who waits for it.
    fn answer(&mut self, index: usize, outcome: Outcome, mut told: impl FnMut(usize)) {
        self.outcomes[index] = Some(outcome);
        for case in &self.waiting[index] {
            told(*case);
        }
    }
}

/// Texts and generations of a case that cannot be asked for.
fn n_refused(case: &Case) -> usize {
    let texts = case.scored.iter().filter(|it| it.requests.is_err()).count();
    texts + usize::from(matches!(case.generation, Some(Err(_))))
}

fn run_window(
    cases: Vec<Case>,
    engine: &dyn Engine,
    storage: &mut Storage<'_>,
    stop: &Stop,
    (tally, known): (&mut Tally, &mut HashSet<u64>),
    on_progress: &mut dyn FnMut(Progress),
    on_case: &mut dyn FnMut(Case, Vec<Outcome>),
) -> Result<(), RunError> {
    let mut window = Window::new(&cases, engine);
    tally.n_requests += window.n_requests;
    for case in &cases {
        (0..n_refused(case)).for_each(|_| on_progress(Progress::Refused { key: case.key }));
    }
    let mut told = |case: usize, from_store: bool| {
        on_progress(Progress::Answered {
            key: cases[case].key,
            from_store,
        });
    };
    for index in 0..window.requests.len() {
        // What this run put there is no answer of an earlier one. Of each key the head is
        // remembered; where another one has the same, an answer of an earlier run is used.
        let is_own = known.contains(&window.keys[index].head());
        if (storage.may_read || is_own)
            && let Some(response) = storage.store.get(window.keys[index])?
        {
            tally.n_stored += usize::from(!is_own);
            window.answer(index, Ok(response), |case| told(case, !is_own));
        }
    }
    let missing: Vec<usize> = (0..window.requests.len())
        .filter(|it| window.outcomes[*it].is_none())
        .collect();
    let missing: Vec<(usize, Request)> = missing
        .into_iter()
        .map(|it| (it, window.requests[it].clone()))
        .collect();
    let mut store_error = None;
    let engine_result = ask(engine, missing, stop, &mut |index, outcome| {
        tally.n_computed += 1;
        if outcome.is_ok() {
            known.insert(window.keys[index].head());
        }
        if let Ok(response) = &outcome
            && let Err(err) = storage.store.put(window.keys[index], response)
        {
            store_error.get_or_insert(err);
            stop.raise();
        }
        window.answer(index, outcome, |case| told(case, false));
    });
    let flushed = storage.store.flush();
    if let Some(err) = store_error {
        return Err(err.into());
    }
    tally.rows += engine_result?;
    flushed?;
    if !stop.is_raised() {
        window.give_up();
    }
    for (case, indices) in cases.into_iter().zip(&window.of_case) {
        let outcomes: Option<Vec<Outcome>> = indices
            .iter()
            .map(|it| window.outcomes[*it].clone())
            .collect();
        if let Some(outcomes) = outcomes {
            on_case(case, outcomes);
        }
    }
    Ok(())
}

/// Puts requests to the engine; outcomes come with the number beside their request.
///
/// After a panic the unanswered ones are asked again in two calls, and so on.
fn ask(
    engine: &dyn Engine,
    wanted: Vec<(usize, Request)>,
    stop: &Stop,
    deliver: &mut dyn FnMut(usize, Outcome),
) -> Result<Rows, EngineError> {
    let mut rows = Rows::default();
    let mut n_panics = 0;
    let mut calls = vec![wanted];
    while let Some(mut call) = calls.pop() {
        let requests: Vec<Request> = call.iter().map(|it| it.1.clone()).collect();
        let mut is_left = vec![true; call.len()];
        // Engines keep nothing from call to call that counts, and what is passed on counts as
        // answered only once it has arrived.
        let run = catch_unwind(AssertUnwindSafe(|| {
            engine.run(&requests, stop, &mut |nth, outcome| {
                deliver(call[nth].0, outcome);
                is_left[nth] = false;
            })
        }));
        let panic = match run {
            Ok(computed) => {
                rows += computed?;
                continue;
            }
            Err(panic) => panic,
        };
        if stop.is_raised() {
            break;
        }
        n_panics += 1;
        let mut left = is_left.into_iter();
        call.retain(|_| left.next() == Some(true));
        let mut message = format!("it panicked: {}", panic_text(&*panic));
        if n_panics == MAX_PANICS {
            message = format!("it was given up after {n_panics} panics; of the last: {message}");
            call.extend(std::mem::take(&mut calls).into_iter().flatten());
        } else if 1 < call.len() {
            let second = call.split_off(call.len() / 2);
            calls.extend([second, call]);
            continue;
        }
        for (index, _) in call {
            let message = message.clone();
            deliver(index, Err(Failure::Engine { message }));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
