//! Runs a plan's cases through an engine, with the store in between.
//!
//! Cases are taken in windows bounded in bytes, so that a million of them need no more
//! memory than some ten thousand; what becomes of a case is its receiver's. Within a window equal requests collapse, stored answers are read, the
//! rest goes to the engine in one call, and every answer is stored as it comes. A
//! stop loses only what the engine had in flight.

use std::collections::HashMap;

use crate::engine::{Engine, EngineError, Rows, Stop};
use crate::plan::{Case, CaseKey};
use crate::request::{Failure, Outcome, Request, RequestKey, Work};
use crate::store::{Store, StoreError};

/// Bytes of cases, requests and answers that are in memory together.
///
/// Prompts are shared within a window, so it is large: some ten thousand short cases.
/// What the cases of two windows share is computed in each.
const WINDOW_BYTES: usize = 32 << 20;

/// Bytes of a request besides its tokens: its keys and who waits for it.
const REQUEST_BYTES: usize = 512;

/// Bytes of a case besides its texts and requests.
const CASE_BYTES: usize = 512;

/// Bytes of a token: its id, its logprob and flag, or its text.
const TOKEN_BYTES: usize = 9;

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
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests of all cases.
    pub n_requests: usize,
    /// Requests the engine answered.
    pub n_computed: usize,
    /// Requests answered by the store.
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
    /// Whether stored answers may be used; new ones are written either way.
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
    let mut cases = cases.peekable();
    while cases.peek().is_some() && !stop.is_raised() {
        let mut window = Vec::new();
        let mut n_bytes = 0;
        while n_bytes < WINDOW_BYTES {
            let Some(case) = cases.next() else { break };
            n_bytes = case_bytes(&case).saturating_add(n_bytes);
            window.push(case);
        }
        run_window(
            window,
            engine,
            storage,
            stop,
            &mut tally,
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

fn run_window(
    cases: Vec<Case>,
    engine: &dyn Engine,
    storage: &mut Storage<'_>,
    stop: &Stop,
    tally: &mut Tally,
    on_progress: &mut dyn FnMut(Progress),
    on_case: &mut dyn FnMut(Case, Vec<Outcome>),
) -> Result<(), RunError> {
    let mut window = Window::new(&cases, engine);
    tally.n_requests += window.n_requests;
    let mut told = |case: usize, from_store: bool| {
        on_progress(Progress::Answered {
            key: cases[case].key,
            from_store,
        });
    };
    if storage.may_read {
        for index in 0..window.requests.len() {
            if let Some(response) = storage.store.get(window.keys[index])? {
                tally.n_stored += 1;
                window.answer(index, Ok(response), |case| told(case, true));
            }
        }
    }
    let missing: Vec<usize> = (0..window.requests.len())
        .filter(|it| window.outcomes[*it].is_none())
        .collect();
    let asked: Vec<Request> = missing
        .iter()
        .map(|it| window.requests[*it].clone())
        .collect();
    let mut store_error = None;
    let engine_result = engine.run(&asked, stop, &mut |nth, outcome| {
        let index = missing[nth];
        tally.n_computed += 1;
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::engine::Capabilities;
    use crate::engine::fake::FakeEngine;
    use crate::plan::{Priors, ScoredText};
    use crate::request::Answerer;

    fn case(example: usize, tokens: &[u32]) -> Case {
        Case {
            key: CaseKey {
                model: 0,
                variant: 0,
                example,
                repeat: 0,
            },
            prompt: String::new(),
            n_context_tokens: 1,
            scored: vec![ScoredText {
                choice_index: None,
                is_target: true,
                text: "t".to_owned(),
                boundary_merge: false,
                requests: Ok(vec![Request::loglikelihood(tokens, 1)]),
            }],
            generation: None,
            priors: Priors::default(),
            n_dropped_shots: 0,
            n_truncated_tokens: 0,
        }
    }

    fn run_all(
        cases: &[Case],
        engine: &FakeEngine,
        store: &mut Store,
        may_read: bool,
    ) -> (Tally, Vec<Vec<Outcome>>) {
        let mut outcomes = Vec::new();
        let mut storage = Storage { store, may_read };
        let tally = run(
            cases.iter().cloned(),
            engine,
            &mut storage,
            &Stop::new(),
            &mut |_| {},
            &mut |_, it| outcomes.push(it),
        )
        .unwrap();
        (tally, outcomes)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("s.sqlite3")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_rerun_computes_nothing_and_answers_the_same() {
        let (_folder, mut store) = store();
        let engine = FakeEngine::new(7, 16);
        let cases = [case(0, &[1, 2, 3]), case(1, &[1, 4]), case(2, &[1, 2, 3])];
        let (first, a) = run_all(&cases, &engine, &mut store, true);
        assert_eq!(
            (first.n_requests, first.n_computed),
            (3, 2),
            "equal requests collapse"
        );
        let (second, b) = run_all(&cases, &engine, &mut store, true);
        assert_eq!((second.n_computed, second.n_stored), (0, 2));
        assert_eq!(a, b);
        let (fresh, c) = run_all(&cases, &engine, &mut store, false);
        assert_eq!((fresh.n_computed, fresh.n_stored), (2, 0));
        assert_eq!(a, c);
    }

    /// The engine counts only what is not stored, so its first answer need not be the first.
    #[test]
    fn answers_find_their_requests_whatever_is_stored_already() {
        let engine = FakeEngine::new(11, 16);
        let cases: Vec<Case> = (0..6).map(|it| case(it, &[1, it as u32, 3])).collect();
        let alone: Vec<Vec<Outcome>> = cases
            .iter()
            .flat_map(|it| run_all(std::slice::from_ref(it), &engine, &mut store().1, true).1)
            .collect();
        assert_ne!(alone[0], alone[1], "every case has an answer of its own");
        for stored in [&[0][..], &[1, 4], &[0, 2, 5]] {
            let (_folder, mut store) = store();
            let first: Vec<Case> = stored.iter().map(|it| cases[*it].clone()).collect();
            run_all(&first, &engine, &mut store, true);
            for _ in 0..2 {
                let (_, outcomes) = run_all(&cases, &engine, &mut store, true);
                assert_eq!(outcomes, alone, "{stored:?} were stored");
            }
        }
    }

    /// A case without a request takes memory too, so a plan in which every prompt is too
    /// long must not be held as a whole.
    #[test]
    fn a_window_ends_whatever_its_cases_ask() {
        let large = "p".repeat(1 << 20);
        let cases = (0..40).map(|example| {
            let mut case = case(example, &[1, 2, 3]);
            case.prompt.clone_from(&large);
            case.scored.clear();
            case
        });
        let (_folder, mut store) = store();
        let mut storage = Storage {
            store: &mut store,
            may_read: true,
        };
        let mut n_told = Vec::new();
        let made = RefCell::new(0);
        run(
            cases.inspect(|_| *made.borrow_mut() += 1),
            &FakeEngine::new(7, 16),
            &mut storage,
            &Stop::new(),
            &mut |_| {},
            &mut |_, _| n_told.push(*made.borrow()),
        )
        .unwrap();
        assert_eq!(n_told.len(), 40);
        // 32 MiB are 32 cases; the other 8 are made when those are done with.
        assert_eq!((n_told[0], n_told[31], n_told[32]), (32, 32, 40));
    }

    #[test]
    fn what_the_answers_took_is_added_up() {
        let (_folder, mut store) = store();
        let engine = FakeEngine::new(7, 16);
        let cases = [case(0, &[1, 2, 3]), case(1, &[1, 4]), case(2, &[1, 2, 3])];
        let (tally, _) = run_all(&cases, &engine, &mut store, true);
        // The last token is not fed; equal requests are put once.
        assert_eq!(tally.rows.n_computed, 2 + 1);
        let (again, _) = run_all(&cases, &engine, &mut store, true);
        assert_eq!(again.rows, Rows::default());
    }

    #[test]
    fn failures_are_reported_and_tried_again() {
        let (_folder, mut store) = store();
        let engine = FakeEngine::new(7, 2);
        let cases = [case(0, &[1, 2, 3, 4]), case(1, &[1, 4])];
        for _ in 0..2 {
            let (_, outcomes) = run_all(&cases, &engine, &mut store, true);
            assert!(
                outcomes[0][0].is_err() && outcomes[1][0].is_ok(),
                "{outcomes:?}"
            );
        }
        // Run one: two computed. Run two: the failure again, the answer from the store.
        assert_eq!(engine.n_computed(), 3);
    }

    /// An engine that passes over every request that begins with token 9.
    struct Forgetful(FakeEngine);

    impl Engine for Forgetful {
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities()
        }

        fn answerer(&self) -> &Answerer {
            self.0.answerer()
        }

        fn run(
            &self,
            requests: &[Request],
            stop: &Stop,
            deliver: &mut dyn FnMut(usize, Outcome),
        ) -> Result<Rows, EngineError> {
            self.0.run(requests, stop, &mut |index, outcome| {
                if requests[index].tokens[0] != 9 {
                    deliver(index, outcome);
                }
            })
        }
    }

    /// A case that is not reported is neither scored nor failed: the run would pass for whole.
    #[test]
    fn what_the_engine_passes_over_is_a_failure() {
        let (_folder, mut store) = store();
        let cases = [case(0, &[1, 2, 3]), case(1, &[9, 4]), case(2, &[1, 4])];
        let mut storage = Storage {
            store: &mut store,
            may_read: true,
        };
        let mut told = Vec::new();
        run(
            cases.into_iter(),
            &Forgetful(FakeEngine::new(11, 16)),
            &mut storage,
            &Stop::new(),
            &mut |_| {},
            &mut |case, outcomes| told.push((case.key.example, outcomes[0].is_ok())),
        )
        .unwrap();
        assert_eq!(told, [(0, true), (1, false), (2, true)]);
    }

    #[test]
    fn a_stop_keeps_what_was_answered() {
        let (_folder, mut store) = store();
        let engine = FakeEngine::new(7, 16);
        let cases: Vec<Case> = (0..5).map(|i| case(i, &[1, 2, i as u32])).collect();
        let stop = Stop::new();
        let mut n_done = 0;
        let mut storage = Storage {
            store: &mut store,
            may_read: true,
        };
        let tally = run(
            cases.iter().cloned(),
            &engine,
            &mut storage,
            &stop,
            &mut |_| {
                n_done += 1;
                if n_done == 2 {
                    stop.raise();
                }
            },
            &mut |_, _| {},
        )
        .unwrap();
        assert!(tally.is_stopped);
        assert_eq!(tally.n_computed, 2);
        let (resumed, outcomes) = run_all(&cases, &engine, &mut store, true);
        assert_eq!((resumed.n_computed, resumed.n_stored), (3, 2));
        assert_eq!(outcomes.len(), 5);
    }
}
