//! Tests of the runner, with engines that count, forget or panic.

use std::cell::{Cell, RefCell};

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
    engine: &dyn Engine,
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

/// Label priors, and rows that stand twice, may be asked for in several windows.
#[test]
fn equal_requests_of_later_windows_are_computed_once() {
    let large = "p".repeat(WINDOW_BYTES);
    let cases: Vec<Case> = (0..3)
        .map(|example| Case {
            prompt: large.clone(),
            ..case(example, &[1, 2, 3])
        })
        .collect();
    let (_folder, mut store) = store();
    // First nothing is stored; then old answers are there, but are not to be used.
    for may_read in [true, false] {
        let engine = FakeEngine::new(7, 16);
        let (tally, outcomes) = run_all(&cases, &engine, &mut store, may_read);
        assert_eq!(engine.n_computed(), 1);
        assert_eq!(
            (tally.n_requests, tally.n_computed, tally.n_stored),
            (3, 1, 0),
            "two are equal to another"
        );
        assert!(outcomes.iter().all(|it| *it == outcomes[0]));
    }
}

/// Whoever counts what is left must hear of texts that no request asks for.
#[test]
fn what_cannot_be_asked_for_is_told() {
    let refused = Err(Failure::ContextOverflow {
        needed: 9,
        n_context: 4,
    });
    let mut long = case(0, &[1, 2]);
    long.scored[0].requests = refused;
    let cases = [long, case(1, &[1, 4])];
    let (_folder, mut store) = store();
    let mut storage = Storage {
        store: &mut store,
        may_read: true,
    };
    let mut told = Vec::new();
    run(
        cases.iter().cloned(),
        &FakeEngine::new(7, 16),
        &mut storage,
        &Stop::new(),
        &mut |it| told.push(it),
        &mut |_, _| {},
    )
    .unwrap();
    let (refused, answered) = (cases[0].key, cases[1].key);
    let expected = [
        Progress::Refused { key: refused },
        Progress::Answered {
            key: answered,
            from_store: false,
        },
    ];
    assert_eq!(told, expected);
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

/// The fake engine, which is asked for one request after the other: `before` gets its place in the
/// call and the request, and says whether it is answered or passed over.
struct OneByOne<F> {
    fake: FakeEngine,
    before: F,
}

impl<F: Fn(usize, &Request) -> bool> Engine for OneByOne<F> {
    fn capabilities(&self) -> Capabilities {
        self.fake.capabilities()
    }

    fn answerer(&self) -> &Answerer {
        self.fake.answerer()
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
            if (self.before)(index, request) {
                let one = std::slice::from_ref(request);
                rows += self.fake.run(one, stop, &mut |_, it| deliver(index, it))?;
            }
        }
        Ok(rows)
    }
}

/// Panics when it meets a request with token 99, and from call number `broken_from` on always.
fn panicking(
    n_calls: &Cell<usize>,
    broken_from: usize,
) -> OneByOne<impl Fn(usize, &Request) -> bool + '_> {
    OneByOne {
        fake: FakeEngine::new(7, 16),
        before: move |nth, request: &Request| {
            n_calls.set(n_calls.get() + usize::from(nth == 0));
            let is_bad = broken_from <= n_calls.get() || request.tokens.contains(&99);
            assert!(!is_bad, "no room for token 99");
            true
        },
    }
}

#[test]
fn a_request_on_which_the_engine_panics_fails_alone() {
    let (_folder, mut store) = store();
    let mut cases: Vec<Case> = (0..9).map(|i| case(i, &[1, 2, i as u32])).collect();
    cases[4] = case(4, &[1, 99]);
    let n_calls = Cell::new(0);
    let engine = panicking(&n_calls, usize::MAX);
    let (tally, outcomes) = run_all(&cases, &engine, &mut store, true);
    let failure = Failure::Engine {
        message: "it panicked: no room for token 99".to_owned(),
    };
    for (example, outcome) in outcomes.iter().enumerate() {
        let is_answered = outcome[0].is_ok();
        assert_eq!(is_answered, example != 4, "{outcome:?}");
    }
    assert_eq!(outcomes[4], [Err(failure)]);
    assert_eq!(tally.n_computed, 9);
    // Nine, of which four are answered; then five as two and three, and the two, which
    // begin with the bad one, as one and one.
    assert_eq!(n_calls.get(), 1 + 2 + 2);
    // All other answers are stored, and the failure is tried again.
    let (again, _) = run_all(&cases, &panicking(&n_calls, usize::MAX), &mut store, true);
    assert_eq!((again.n_stored, again.n_computed), (8, 1));
    let (mended, outcomes) = run_all(&cases, &FakeEngine::new(7, 100), &mut store, true);
    assert_eq!((mended.n_stored, mended.n_computed), (8, 1));
    assert!(outcomes.iter().all(|it| it[0].is_ok()), "{outcomes:?}");
}

/// 200 requests would take 399 panics one by one.
#[test]
fn an_engine_that_always_panics_is_given_up() {
    let (_folder, mut store) = store();
    let cases: Vec<Case> = (0..200).map(|i| case(i, &[1, 2, i as u32])).collect();
    let n_calls = Cell::new(0);
    let engine = panicking(&n_calls, 1);
    let (tally, outcomes) = run_all(&cases, &engine, &mut store, true);
    assert_eq!((tally.n_requests, outcomes.len()), (200, 200));
    assert!(outcomes.iter().all(|it| it[0].is_err()), "{outcomes:?}");
    assert_eq!(n_calls.get(), MAX_PANICS);
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
    let forgetful = OneByOne {
        fake: FakeEngine::new(11, 16),
        before: |_, request: &Request| request.tokens[0] != 9,
    };
    let mut told = Vec::new();
    run(
        cases.into_iter(),
        &forgetful,
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

/// What cannot be stored would be computed again: the engine is not kept at it.
#[test]
fn answers_that_cannot_be_stored_stop_the_engine() {
    let (_folder, mut store) = store();
    store.refuse_rows();
    let engine = OneByOne {
        fake: FakeEngine::new(5000, 16),
        before: |_, _: &Request| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            true
        },
    };
    let cases = (0..4000).map(|i| case(i, &[1, 2, i as u32]));
    let mut storage = Storage {
        store: &mut store,
        may_read: false,
    };
    let (stop, mut n_answered) = (Stop::new(), 0);
    let mut on_progress = |_| n_answered += 1;
    let ended = run(
        cases,
        &engine,
        &mut storage,
        &stop,
        &mut on_progress,
        &mut |_, _| {},
    );
    assert!(matches!(ended, Err(RunError::Store(_))), "{ended:?}");
    assert!(0 < n_answered && n_answered < 4000, "{n_answered}");
}
